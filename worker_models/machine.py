"""How many cores and how much memory this process may use, and how its C library keeps freed memory.

A container's limits are those of its control group (version 1 or 2) and of every visible group above it.
"""

import ctypes
import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from common.settings import Settings

_PROC = Path("/proc/self")
#: Bytes from which on an allocation is mapped on its own, and unmapped when it is freed.
LARGE = 4 * 1024 * 1024
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def usable_cores(proc: Path = _PROC) -> int:
    """Cores this process may run on: its CPU affinity, or its control groups' quota if that is less; at least one."""
    found = _limits("cpu", proc, "cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us")
    quotas = [math.ceil(numbers[0] / numbers[1]) for numbers in found if len(numbers) == 2]
    return max(1, min([len(os.sched_getaffinity(0)), *quotas]))


def memory_bytes(proc: Path = _PROC) -> int:
    """Memory this process may use: the machine's, or its control groups' limit if that is less."""
    limits = [numbers[0] for numbers in _limits("memory", proc, "memory.max", "memory.limit_in_bytes") if numbers]
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *limits])


def memory_kills(proc: Path = _PROC) -> int:
    """How many processes the kernel killed for memory, in this control group or the nearest above that counts them."""
    for folder, unified in _groups("memory", proc):
        lines = _lines(folder / ("memory.events" if unified else "memory.oom_control"))
        counts = dict(words for line in lines if len(words := line.split()) == 2)
        if counts.get("oom_kill", "").isdigit():
            return int(counts["oom_kill"])
    return 0


def intra_op_threads(settings: Settings) -> int:
    """Threads for one forward pass: as set, or this worker's share of the cores.

    More threads than cores, over all workers of a host, make every one of them slower.
    """
    return settings.intra_op_threads or max(1, usable_cores() // settings.workers_on_host)


def _limits(controller: str, proc: Path, unified_file: str, *files: str) -> Iterator[list[int]]:
    """The positive numbers that each group has in these files, of version 2 or 1; ``max`` and -1 mean no limit."""
    for folder, unified in _groups(controller, proc):
        lines = [line for name in ([unified_file] if unified else files) for line in _lines(folder / name)]
        yield [int(word) for word in " ".join(lines).split() if word.isdigit() and int(word)]


def _groups(controller: str, proc: Path) -> Iterator[tuple[Path, bool]]:
    """Folders of the control groups that may limit this process, those above included, and if they are of version 2."""
    memberships = _memberships(proc)
    for root, mount, unified, controllers in _mounts(proc):
        name = "" if unified else controller
        if name not in memberships or (not unified and controller not in controllers):
            continue
        folder = mount / _below(memberships[name], root)
        yield from ((each, unified) for each in (folder, *folder.parents) if each.is_relative_to(mount))


def _memberships(proc: Path) -> dict[str, str]:
    """The path of this process's group by controller; version 2 has the name ""."""
    found: dict[str, str] = {}
    for line in _lines(proc / "cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        found |= dict.fromkeys(controllers.split(","), path)
    return found


def _mounts(proc: Path) -> Iterator[tuple[str, Path, bool, list[str]]]:
    """Each mounted hierarchy: its top group, its folder, whether it is of version 2, and its controllers."""
    for line in _lines(proc / "mountinfo"):
        mounted, _, system = line.partition(" - ")
        kind, *_, options = system.split(" ") if system else [""]
        if kind in {"cgroup", "cgroup2"}:
            root, folder = mounted.split(" ")[3:5]
            yield root, Path(folder), kind == "cgroup2", options.split(",")


def _below(path: str, root: str) -> PurePosixPath:
    """``path`` relative to ``root``; a path outside of it, as a container may see its own, is the top itself."""
    try:
        below = PurePosixPath(path).relative_to(root)
    except ValueError:
        return PurePosixPath()
    return PurePosixPath() if ".." in below.parts else below


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def return_large_buffers(size: int = LARGE) -> bool:
    """Keep glibc from holding on to the buffers of decoded images; False for another C library.

    By default its threshold for mapping a buffer on its own rises to 32 MB with the first buffers freed; below it,
    buffers come from the arenas of many threads, and fragments stay there: under thousands of damaged images a worker
    grew by some 80 MB, with a fixed threshold by none.
    """
    # A fixed mapping threshold also fixes the trim threshold at 128 KB: each image would fetch the trimmed memory
    # again, page by page, which took as long as decoding a photograph.
    return _set(_M_TRIM_THRESHOLD, 2 * size) and _set(_M_MMAP_THRESHOLD, size)


def share_one_arena() -> bool:
    """Have threads that start from now on share one arena; False for another C library.

    By default glibc makes up to eight arenas per core, and each keeps the peak memory of its threads. Threads that run
    Python one at a time gain nothing from them.
    """
    return _set(_M_ARENA_MAX, 1)


def _set(parameter: int, value: int) -> bool:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(parameter, value) == 1
