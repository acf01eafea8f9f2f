"""``make open-page``: a page stays open for a long time in front of a real, working system; does anything grow?

It starts with an hour of history, as much as the page asks for, so that nothing has a reason to grow. Prints a line a
minute: resident memory of the dashboard's processes, and the page's script heap after a collection.
Growth is judged after the first ``SETTLE`` of the time, when caches and pools have filled: what grows then, leaks.
Ends with 1 when the dashboard's processes grew by more than ``MOST_GROWTH``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import redis
from playwright.sync_api import sync_playwright

from tests.e2e.dashboard import conftest as system
from tests.e2e.dashboard.photos import submit
from tests.support import crowd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Page

#: The share of the time in which caches and pools fill.
SETTLE = 1 / 3
#: Bytes by which the dashboard's processes may be larger at the end than when they had settled: noise of the allocator.
MOST_GROWTH = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sample:
    """Sizes at one moment: minutes since the start, then bytes, and how many snapshots the page had asked for."""

    minutes: float
    dashboard: int
    heap: int
    snapshots: int

    def __str__(self) -> str:
        mib = 1024 * 1024
        return (
            f"{self.minutes:5.1f} min  dashboard {self.dashboard / mib:6.1f} MiB  page heap {self.heap / mib:5.1f} MiB"
            f"  {self.snapshots} snapshots"
        )


def watch(running: system.System, page: Page, minutes: float, every: float) -> Iterator[Sample]:
    """A sample every ``every`` seconds, with a photo each second or so in between."""
    counted: list[str] = []
    page.on("request", lambda request: counted.append("") if request.url.endswith("/ui/snapshot") else None)
    look = _heap_of(page)
    began = time.monotonic()
    due = began
    while (elapsed := time.monotonic() - began) <= minutes * 60 + 1:
        if time.monotonic() >= due:
            due += every
            yield Sample(round(elapsed / 60, 2), _resident(running.dashboard.pid), look(), len(counted))
        submit(running)
        page.wait_for_timeout(1000)


def _resident(pid: int) -> int:
    """Bytes of the server's first process and its worker together."""
    master = psutil.Process(pid)
    return sum(process.memory_info().rss for process in (master, *master.children(recursive=True)))


def _heap_of(page: Page) -> Callable[[], int]:
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")

    def look() -> int:
        session.send("HeapProfiler.collectGarbage")
        metrics: list[dict[str, Any]] = session.send("Performance.getMetrics")["metrics"]
        return int(next(each["value"] for each in metrics if each["name"] == "JSHeapUsedSize"))

    return look


def growth(samples: list[Sample]) -> int:
    """Bytes by which the dashboard grew after it had settled: the median of the last third less that of the second."""
    third = max(1, round(len(samples) * SETTLE))
    settled, last = samples[third : 2 * third], samples[-third:]
    return _median([one.dashboard for one in last]) - _median([one.dashboard for one in settled])


def _median(values: list[int]) -> int:
    return sorted(values)[len(values) // 2]


def run(minutes: float, every: float) -> list[Sample]:
    """Start everything, watch, end everything."""
    samples = []
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=system.chromium(), args=system.ARGUMENTS)
        with system.running(Path(folder), "lite-1") as running, system.opened(browser, running.url) as page:
            _remember_an_hour(running)
            for sample in watch(running, page, minutes, every):
                print(sample, flush=True)
                samples.append(sample)
        browser.close()
    return samples


def _remember_an_hour(running: system.System) -> None:
    prefix = running.stack.settings().key_prefix
    with redis.Redis.from_url(running.stack.redis_url) as database:
        crowd.keep_minutes(database, prefix, 60)
        crowd.keep_requests(database, prefix, 1000)


def main() -> int:
    """Run as the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--every", type=float, default=60.0, help="seconds between samples")
    parser.add_argument("--report", type=Path, help="where to write the samples as JSON")
    given = parser.parse_args()
    samples = run(given.minutes, given.every)
    grown = growth(samples)
    print(f"grown by {grown / 1024:.0f} KiB after settling (allowed: {MOST_GROWTH // 1024} KiB)")
    if given.report:
        given.report.parent.mkdir(parents=True, exist_ok=True)
        given.report.write_text(json.dumps({"samples": [asdict(one) for one in samples], "growth_bytes": grown}))
    return int(grown > MOST_GROWTH)


if __name__ == "__main__":
    sys.exit(main())
