"""Settings of glibc's allocator that keep it from holding on to memory."""

from __future__ import annotations

import ctypes

#: Bytes from which on an allocation is mapped on its own, and unmapped when it is freed.
LARGE = 4 * 1024 * 1024
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


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

    By default glibc makes up to eight arenas per core, and each keeps what its threads needed at their peak. Threads
    that run Python one at a time gain nothing from an arena each.
    """
    return _set(_M_ARENA_MAX, 1)


def _set(parameter: int, value: int) -> bool:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(parameter, value) == 1
