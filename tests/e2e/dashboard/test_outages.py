"""The page tells the truth when there is nothing, and when something is missing."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.dashboard.conftest import System, chromium, opened, running, tab

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], System]]:
    """Gives a system without workers and without requests: the same, until a test has killed a part of it."""
    chromium()
    systems: list[System] = []
    with ExitStack() as opened:

        def latest() -> System:
            if not systems or not systems[-1].intact:
                systems.append(opened.enter_context(running(tmp_path_factory.mktemp("idle"))))
            return systems[-1]

        yield latest


@pytest.fixture
def idle(intact: Callable[[], System]) -> System:
    """A system without workers and without requests, all of it alive."""
    return intact()


@pytest.fixture
def page(browser: Browser, idle: System) -> Iterator[Page]:
    with opened(browser, idle.url) as shown:
        yield shown


def test_without_workers_and_requests_it_says_what_to_do(page: Page) -> None:
    expect(page.locator("#verdict")).to_contain_text("no workers online")
    expect(page.locator("#workers")).to_contain_text("No workers online")
    expect(page.locator("#workers")).to_contain_text("make start")
    expect(page.locator("#throughput-text")).to_contain_text("No requests in the last 15 minutes")
    expect(page.locator("#outcomes-text")).to_contain_text("No request has ended yet")
    tab(page, "Requests")
    expect(page.locator("#listing-text")).to_contain_text("No requests yet")
    tab(page, "Dead letters")
    expect(page.locator("#dead-letters")).to_contain_text("No dead letters")


def test_on_a_phone_nothing_is_wider_than_the_screen(browser: Browser, idle: System) -> None:
    with opened(browser, idle.url, width=390, height=844) as page:
        for name in ("Overview", "Requests", "Models", "Load test", "Faults", "Activity"):
            tab(page, name)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, name


def test_while_redis_is_down_it_says_so_and_recovers_by_itself(page: Page, idle: System) -> None:
    idle.redis.kill()
    banner = page.locator("#down-banner")
    expect(banner).to_contain_text("Redis down")
    expect(page.locator("#chips")).to_contain_text("Redis: down")
    expect(page.locator("#chips")).to_contain_text("Workers: unknown")
    idle.redis.start()
    expect(banner).to_have_count(0)
    expect(page.locator("#chips")).to_contain_text("Redis: up")


def test_while_the_api_hangs_the_last_numbers_stay_and_say_how_old_they_are(page: Page, idle: System) -> None:
    signal_group(idle, signal.SIGSTOP)
    try:
        expect(page.locator("#down-banner")).to_contain_text("API slow")
        expect(page.locator("#as-of")).to_contain_text("s old")
        expect(page.locator("#lanes")).to_contain_text("normal")
    finally:
        signal_group(idle, signal.SIGCONT)
    expect(page.locator("#down-banner")).to_have_count(0)


def test_when_the_api_is_gone_the_banner_says_so_and_orders_are_off(page: Page, idle: System) -> None:
    expect(page.locator("#lanes button").first).to_be_enabled()
    idle.api.kill()
    expect(page.locator("#down-banner")).to_contain_text("API down")
    expect(page.locator("#chips")).to_contain_text("API: down")
    expect(page.locator("#lanes button").first).to_be_disabled()


def test_when_the_dashboard_itself_is_gone_an_open_page_still_says_so(browser: Browser, tmp_path: Path) -> None:
    with running(tmp_path) as alone, opened(browser, alone.url, refusals=True) as page:
        alone.dashboard.kill()
        expect(page.locator("#down-banner")).to_contain_text("Dashboard down")


def signal_group(system: System, number: int) -> None:
    """To the server's first process and its workers alike."""
    import psutil

    master = psutil.Process(system.api.pid)
    for process in (*master.children(recursive=True), master):
        process.send_signal(number)
