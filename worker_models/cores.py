"""How many CPU cores this process may really use."""

from __future__ import annotations

import math
import os
from pathlib import Path

from settings import Settings

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores(quota: Path = _QUOTA) -> int:
    """Cores this process may run on: its CPU affinity, or its control group's quota if that is less; at least one."""
    return max(1, min(len(os.sched_getaffinity(0)), _quota_cores(quota)))


def _quota_cores(path: Path) -> int:
    try:
        allowed, period = path.read_text(encoding="ascii").split()
        return math.ceil(int(allowed) / int(period))
    except (OSError, ValueError):
        return os.cpu_count() or 1


def intra_op_threads(settings: Settings) -> int:
    """Threads for one forward pass: as set, or this worker's share of the cores.

    More threads than cores, over all workers of a host, make every one of them slower.
    """
    return settings.intra_op_threads or max(1, usable_cores() // settings.workers_on_host)
