"""``make screenshots``: pictures of the dashboard in front of a real, small system, for docs/screenshots.

It starts that system itself, sends it real photos for a while so that the charts have something to show, and ends it.
Nothing is painted: an empty system is empty and a stopped API is stopped.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from api.http import api_keys
from tests.e2e.dashboard import conftest as system
from tests.e2e.dashboard.photos import submit

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "screenshots"
#: Seconds of traffic before the first picture.
TRAFFIC = 150.0
DESKTOP, PHONE = (1280, 900), (390, 844)


def take(page: Page, name: str, *, whole: bool = False, part: str = "") -> None:
    """Write a picture of ``page``, or of the part that this selects, with few enough colours to be small."""
    page.wait_for_timeout(1500)  # for fonts and transitions to settle
    shot = page.locator(part).screenshot() if part else page.screenshot(full_page=whole)
    picture = Image.open(BytesIO(shot)).convert("RGB")
    FOLDER.mkdir(parents=True, exist_ok=True)
    file = FOLDER / f"{name}.png"
    picture.quantize(128, dither=Image.Dither.NONE).save(file, optimize=True)
    print(f"{file.name}: {file.stat().st_size // 1024} KiB")


@contextmanager
def shown(browser: Browser, url: str, size: tuple[int, int] = DESKTOP, scheme: str = "light") -> Iterator[Page]:
    """The dashboard, as soon as it has its first numbers."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if scheme == "dark" else "light"
    )
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(url)
    page.locator("#verdict .sentence").wait_for()
    yield page
    context.close()


def traffic(running: system.System, seconds: float) -> None:
    """Photos in waves, one in ten of them no photo at all."""
    ends, sent = time.monotonic() + seconds, 0
    while time.monotonic() < ends:
        sent += 1
        submit(running, priority=("high", "normal", "normal", "low")[sent % 4])
        if sent % 10 == 0:
            running.api.client.post("/inference", content=b"GIF89a no picture", headers={"Content-Type": "image/gif"})
        time.sleep(0.3 + 0.8 * (sent // 20 % 3))


def busy(browser: Browser, folder: Path) -> None:
    """A system at work: overview, tabs, dark, narrow, degraded, down."""
    with system.running(folder, "lite-1", "lite-2") as running:
        with shown(browser, running.url) as page:
            traffic(running, TRAFFIC)  # while a page polls: the last minute is drawn from what it has seen
            page.get_by_role("button", name="Classify").click()
            expect(page.locator("#step-text")).to_contain_text("Succeeded")
            take(page, "desktop", whole=True)
            requests(page)
            load_test(page)
            drill(page, running)
        for name, size, scheme in (("narrow", PHONE, "light"), ("dark", DESKTOP, "dark")):
            with shown(browser, running.url, size, scheme) as page:
                page.get_by_role("button", name="Classify").click()
                expect(page.locator("#step-text")).to_contain_text("Succeeded")
                take(page, name, whole=name == "narrow")
        troubles(browser, running)


def requests(page: Page) -> None:
    """The grid and the drawer."""
    system.tab(page, "Requests")
    page.locator("#grid .ag-row [col-id='shown']").first.click()
    page.locator("#request-detail").wait_for()
    take(page, "request")
    page.keyboard.press("Escape")


def load_test(page: Page) -> None:
    """A load test at its end."""
    system.tab(page, "Load test")
    page.locator("#load-start").click()
    expect(page.locator("#load-text")).to_contain_text("Done: 100 of 100", timeout=120_000)
    take(page, "load-test")


def drill(page: Page, running: system.System) -> None:
    """A worker killed, its work finished elsewhere."""
    system.tab(page, "Overview")
    victim = running.stack.start_worker(running.model, name="victim")
    system.log_in(page)
    page.get_by_role("button", name=f"Inject a fault into {victim.node}").click()
    page.get_by_role("button", name="Start drill").click()
    expect(page.locator("#drill-verdict")).to_contain_text("lost", timeout=120_000)
    page.wait_for_timeout(5000)  # until the notes at the edge have gone
    take(page, "recovery-drill")


def troubles(browser: Browser, running: system.System) -> None:
    """A paused lane with work in it, then no API at all."""
    with shown(browser, running.url) as page:
        lane = f"normal.{running.model}"
        running.api.client.post(f"/admin/lanes/{lane}/pause", headers=running.admin).raise_for_status()
        for _ in range(5):
            submit(running)
        expect(page.locator(f"[data-lane-cell='{lane}'] .depth")).to_have_text("5")
        take(page, "degraded", whole=True)
        running.api.kill()
        expect(page.locator("#down-banner")).to_contain_text("API down")
        page.wait_for_timeout(6000)  # until the numbers are old enough to be called old
        take(page, "down")


def owners(browser: Browser, folder: Path) -> None:
    """Two users at work, one of them with three times as many photos."""
    keys = {name: api_keys.make(name, "user") for name in ("ann", "bob")}
    entries = ",".join(entry for _, entry in keys.values())
    with system.running(folder, "lite-1", API_KEYS=entries) as running, shown(browser, running.url) as page:
        system.log_in(page)
        for turn in range(120):
            running.api.client.headers["Authorization"] = f"Bearer {keys['bob' if turn % 4 else 'ann'][0]}"
            submit(running)
        page.wait_for_timeout(4000)  # until every owner's minute is written and shown
        take(page, "owners", part="#owners-card")


def idle(browser: Browser, folder: Path) -> None:
    """A system without workers and requests."""
    with system.running(folder) as running, shown(browser, running.url) as page:
        take(page, "empty", whole=True)


def main() -> int:
    """Take all pictures."""
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=system.chromium(), args=system.ARGUMENTS)
        idle(browser, Path(folder) / "idle")
        busy(browser, Path(folder) / "busy")
        owners(browser, Path(folder) / "owners")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
