"""The C library's memory settings take effect."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from tests.support.processes import ROOT

#: Buffers of 5 to 30 MB in many threads, with small ones that stay in between, as decoding leaves them behind.
CODE = """
import random, sys, psutil
from concurrent.futures import ThreadPoolExecutor
from worker_models.machine import return_large_buffers
if sys.argv[1] == "fixed":
    assert return_large_buffers()
kept, process = [], psutil.Process()
def work(seed):
    dice = random.Random(seed)
    for _ in range(10):
        large = bytearray(dice.randrange(5, 30) * 1_000_000)
        kept.append(bytearray(dice.randrange(1_000, 60_000)))
        del large
before = process.memory_info().rss
with ThreadPoolExecutor(8) as pool:
    list(pool.map(work, range(24)))
print(process.memory_info().rss - before - sum(map(len, kept)))
"""


def growth(how: str) -> int:
    """Bytes that stay with a process beyond what it keeps on purpose; without the call 300 MB and more."""
    done = subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, text=True, check=True, timeout=120)
    return int(done.stdout)


ARENAS = """
import ctypes, sys, threading
from worker_models.machine import share_one_arena
if sys.argv[1] == "one":
    assert share_one_arena()
threads = threading.Barrier(8)
def work():
    kept = [bytearray(10_000) for _ in range(100)]
    threads.wait()
running = [threading.Thread(target=work) for _ in range(8)]
[thread.start() for thread in running]
[thread.join() for thread in running]
ctypes.CDLL(None).malloc_stats()
"""


def arenas(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", ARENAS, how], capture_output=True, text=True, check=True, timeout=60)
    return done.stderr.count("Arena ")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is meant")
def test_threads_share_one_arena_when_told_to() -> None:
    assert arenas("one") == 1 < arenas("as it comes")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is meant")
def test_large_buffers_leave_nothing_behind() -> None:
    assert growth("fixed") < 15e6


FAULTS = """
import resource
from tests.support.bombs import encoded, photo
from worker_models.limits import Limits
from worker_models.machine import return_large_buffers
from worker_models.preprocess import decode
from worker_models.registry import Transform
assert return_large_buffers()
data, limits = encoded(photo(640, 427), "JPEG"), Limits(10**7, 10**7)
def faults(images):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(images):
        decode(data, Transform(), limits)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(50)
print(faults(100) / 100)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is meant")
def test_the_memory_of_one_photo_serves_the_next() -> None:
    """Given back and fetched again, page by page, it took as long as decoding: 150 page faults a photo and more."""
    command = [sys.executable, "-c", FAULTS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=ROOT)
    assert float(done.stdout) < 50
