"""Keeps the C library from holding on to memory."""

from __future__ import annotations

import ctypes

#: Allocations from this size on are mapped on their own, and unmapped when they are freed; bytes.
LARGE = 4 * 1024 * 1024
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def return_large_buffers(size: int = LARGE) -> bool:
    """Keep glibc from holding on to the buffers of decoded images; False where there is no such allocator.

    By itself it takes the first large buffer that is freed as a sign of many to come, serves the next ones (up to
    32 MB) from its arenas, of which a process with many threads has many, and what is scattered there stays: under
    thousands of damaged images a worker grew by some 80 MB, with a fixed threshold by none.
    """
    # A fixed threshold also fixes that the end of an arena is given back from 128 KB on: the next image would fetch it
    # again, page by page, which took as long as decoding a photograph.
    return _set(_M_TRIM_THRESHOLD, 2 * size) and _set(_M_MMAP_THRESHOLD, size)


def share_one_arena() -> bool:
    """Have threads that start from now on allocate from one arena; False where there is no such allocator.

    By itself glibc makes up to eight arenas a core, and each keeps what its threads needed at their busiest. Threads
    that run Python one at a time gain nothing from having one each.
    """
    return _set(_M_ARENA_MAX, 1)


def _set(parameter: int, value: int) -> bool:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(parameter, value) == 1
