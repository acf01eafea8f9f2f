"""The page in front of a large system: fifty workers and ten thousand requests, all of it shown as the API tells it."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from playwright.sync_api import Browser, CDPSession, Page, expect

from dashboard import formatting
from tests.e2e.dashboard.conftest import System, chromium, opened, running, tab
from tests.support import crowd
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.slow]
log = logging.getLogger(__name__)

WORKERS, REQUESTS = 50, 10_000
PREFIX = "inferlane:"
#: Seconds for which the page is watched, and seconds of its one thread that an update may cost.
WATCHED, COST = 15.0, 0.5
#: Counts tasks above 50 ms, and the frames.
OBSERVE = """() => {
  window.seen = { long: [], gaps: [], last: performance.now() };
  new PerformanceObserver((list) => list.getEntries().forEach((one) => seen.long.push(one.duration)))
    .observe({ type: "longtask" });
  const frame = (now) => { seen.gaps.push(now - seen.last); seen.last = now; requestAnimationFrame(frame); };
  requestAnimationFrame(frame);
}"""


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    chromium()
    models = ",".join(crowd.MODELS)
    with running(tmp_path_factory.mktemp("crowd"), MODELS=models) as started:
        with redis.Redis.from_url(started.stack.redis_url) as database:
            crowd.lease_workers(database, PREFIX, WORKERS)
            crowd.keep_requests(database, PREFIX, REQUESTS)
            crowd.keep_minutes(database, PREFIX, 24 * 60)
        yield started


@pytest.fixture
def page(browser: Browser, crowded: System) -> Iterator[Page]:
    with opened(browser, crowded.url) as shown:
        shown.locator("[data-worker-row]").nth(WORKERS - 1).wait_for()
        yield shown


@contextmanager
def heartbeats(system: System) -> Iterator[None]:
    """Every worker tells something new every half second."""
    over = threading.Event()

    def beat() -> None:
        with redis.Redis.from_url(system.stack.redis_url) as database:
            turn = 0
            while not over.wait(0.5):
                turn += 1
                crowd.lease_workers(database, PREFIX, WORKERS, turn=turn)

    thread = threading.Thread(target=beat)
    thread.start()
    yield
    over.set()
    thread.join()


def test_every_number_on_the_page_is_the_apis_of_that_moment(page: Page, crowded: System) -> None:
    as_of, body = same_minute(page, crowded)
    check_chips(page, body)
    check_tiles(page, body, as_of)
    check_lanes(page, body)
    check_workers(page, body)
    tab(page, "Models")
    for model in body["models"]:
        row = page.locator("#models tr", has_text=model["name"])
        expect(row.locator("td").nth(2)).to_have_text(str(model["live_workers"]))
    tab(page, "Activity")
    for name in ("succeeded", "failed", "canceled"):
        expect(page.locator("#counters")).to_contain_text(f"{body['ledger'][name]:,} {name}")
    tab(page, "Requests")
    expect(page.locator("#listing-text")).to_contain_text(f"{len(body['requests'])} newest requests")


def same_minute(page: Page, system: System) -> tuple[float, dict[str, Any]]:
    """Stop the page; when its numbers are from, and what the API tells in the same minute."""
    while True:
        choose_rate(page, "Paused")
        expect(page.locator("#as-of")).to_contain_text("updates are paused")
        as_of = float(page.evaluate("inferlane.state.data.view.as_of"))
        body = system.api.client.get("/ops/snapshot?fresh=1").json()
        if int(as_of // 60) == int(formatting.epoch(body["as_of"]) or 0) // 60:
            return as_of, body
        choose_rate(page, "Every second")
        page.wait_for_function(f"inferlane.state.data.view.as_of > {as_of}")


@pytest.mark.parametrize(("window", "minutes", "step"), [("6 h", 360, 5), ("24 h", 1440, 15)])
def test_the_charts_go_back_a_day(page: Page, crowded: System, window: str, minutes: int, step: int) -> None:
    page.locator("#window").get_by_text(window, exact=True).click()
    said = page.locator("#throughput-text")
    expect(said).to_contain_text(f"in the last {minutes // 60} hours")
    body = crowded.api.client.get("/ops/history", params={"minutes": minutes, "step": step}).json()
    whole = sum(row["accepted"] for row in body["history"][:-1])
    told = int(said.inner_text().split()[0].replace(",", ""))
    assert abs(told - whole) <= 120 * step, "one step may have begun in between"
    assert len(body["history"]) == minutes // step
    wait_until(lambda: points(page) == with_answers(crowded, minutes, step), what="a point for each step with answers")
    page.locator("#window").get_by_text("15 min", exact=True).click()
    expect(said).to_contain_text("in the last 15 minutes")


def points(page: Page) -> int:
    line = page.locator("#latency-chart .recharts-line path").first
    return len(re.findall("[ML]", line.get_attribute("d") or ""))


def with_answers(system: System, minutes: int, step: int) -> int:
    """Steps of the history in which requests ended; one that has begun since the history was written has none."""
    body = system.api.client.get("/ops/history", params={"minutes": minutes, "step": step}).json()
    return sum(row["total"]["count"] > 0 for row in body["history"])


def choose_rate(page: Page, name: str) -> None:
    page.locator("#rate").click()
    page.get_by_role("option", name=name, exact=True).click()


def check_chips(page: Page, body: dict[str, Any]) -> None:
    chips = page.locator("#chips")
    expect(chips).to_contain_text(f"Workers: {len(body['workers'])} workers")
    expect(chips).to_contain_text(f"Waiting: {body['ledger']['queued']} requests")
    expect(chips).to_contain_text(f"Dead letters: {body['dead_letters']}")


def check_tiles(page: Page, body: dict[str, Any], as_of: float) -> None:
    """Rates are those of the last 60 s; latencies are those of the newest minute with answers."""
    old = 1 - as_of % 60 / 60
    now, before = body["history"][-1], body["history"][-2]
    newest = next(row for row in reversed(body["history"]) if row["total"]["count"])
    bad = sum(row["failed"] + row["expired"] for row in body["history"][-5:])
    good = sum(row["succeeded"] for row in body["history"][-5:])
    shown = [
        rates(now["accepted"], before["accepted"], old),
        rates(*(row["succeeded"] + row["failed"] for row in (now, before)), old),
        formatting.percent(bad / (bad + good)),
        *(formatting.duration(newest[stage]["p95"]) for stage in ("total", "queue", "infer")),
    ]
    expect(page.locator(".tile-value")).to_have_text(shown)
    ledger = body["ledger"]
    expect(page.locator("#outcomes-text")).to_contain_text(f"{ledger['succeeded']:,} succeeded")
    expect(page.locator("#outcomes-text")).to_contain_text(f"{ledger['failed']:,} failed")


def rates(now: int, before: int, old: float) -> re.Pattern[str]:
    """What a tile may show: the lanes are read milliseconds before ``as_of`` is, and their rates rounded one by one."""
    texts = {formatting.rate((now + before * (old + slack / 60)) / 60) for slack in (-0.5, 0, 0.5)}
    return re.compile(f"^({'|'.join(map(re.escape, texts))})$")


def check_lanes(page: Page, body: dict[str, Any]) -> None:
    lanes = {lane["lane"]: lane for lane in body["lanes"]}
    expect(page.locator("[data-lane-cell]")).to_have_count(len(lanes))
    for name, lane in lanes.items():
        cell = page.locator(f"[data-lane-cell='{name}']")
        expect(cell.locator(".depth")).to_have_text(str(lane["depth"]))
        told = [f"{lane['running']} running"] if lane["running"] else []
        told += [f"oldest {formatting.duration(lane['oldest_age'])}"] if lane["depth"] else []
        told += [f"wait {formatting.duration(lane['eta'])}"] if lane["depth"] or lane["running"] else []
        for fact in told:
            expect(cell).to_contain_text(fact)


def check_workers(page: Page, body: dict[str, Any]) -> None:
    shown = {row[0]: row for row in page.locator("#workers tbody tr").evaluate_all(
        "rows => rows.map((row) => [...row.cells].map((cell) => cell.innerText))")}  # fmt: skip
    assert set(shown) == {worker["id"] for worker in body["workers"]}
    for worker in body["workers"]:
        cells = shown[worker["id"]]
        numbers = [str(worker[name]) for name in ("in_flight", "processed", "failed")]
        assert cells[4:7] == numbers
        assert cells[7:9] == [formatting.duration(worker["service_seconds"]), formatting.size(worker["rss_bytes"])]


def test_the_page_stays_smooth_while_fifty_workers_change_every_second(page: Page, crowded: System) -> None:
    """Judged by processor time, since others may have the cores."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/ui/snapshot" in request.url else None)
    with heartbeats(crowded):
        page.evaluate(OBSERVE)
        before = busy_seconds(session)
        page.wait_for_timeout(WATCHED * 1000)  # the time itself is what is tested
        seen, spent = page.evaluate("seen"), busy_seconds(session) - before
    gaps, cost = sorted(seen["gaps"]), spent / len(asked)
    log.info(
        "%d updates, %.0f ms of the page's thread each; %d frames, median gap %.0f ms, 95th percentile %.0f ms, longest"
        " task %.0f ms", len(asked), 1000 * cost, len(gaps), gaps[len(gaps) // 2], gaps[int(0.95 * len(gaps))],
        max(seen["long"], default=0),
    )  # fmt: skip
    assert len(asked) > WATCHED / 3  # it goes on asking
    assert cost < COST
    expect(page.locator("[data-worker-row]")).to_have_count(WORKERS)


def busy_seconds(session: CDPSession) -> float:
    """Processor time that the page's one thread has used."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return float(next(each["value"] for each in metrics if each["name"] == "ThreadTime"))
