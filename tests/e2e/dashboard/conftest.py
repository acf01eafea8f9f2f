"""The dashboard in a real Chromium, in front of a real API, real workers with real weights, and a Redis to break."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.redis_server import RedisServer
from tests.support.restoring import restore
from tests.support.stack import ApiProcess, Stack, WorkerProcess
from tests.support.waiting import wait_until

MODEL = "efficientnet_lite0"
# The machine may be busy with other tests: patience costs nothing when all is well.
expect.set_options(timeout=20_000)
ADMIN_KEY = "an-admin-key-for-the-tests-of-the-dashboard"
SETTINGS: dict[str, Any] = {
    "MODELS": MODEL,
    "ADMIN_KEY": ADMIN_KEY,
    "CHAOS_ENABLED": 1,
    "MAX_RETRIES": 0,
    "WORKERS_ON_HOST": 2,
}
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run", "--disable-dev-shm-usage",
]  # fmt: skip


def chromium() -> str:
    """The Chromium of this machine; skips the test where there is none, fails where CI should have installed it."""
    found = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if found is None and not os.environ.get("CI"):
        pytest.skip("no chromium, google-chrome or chromium-browser on the PATH")
    assert found is not None, "CI is set and there is no Chromium to drive"
    return found


@dataclass
class System:
    """One Inferlane with a dashboard in front."""

    stack: Stack
    redis: RedisServer
    api: ApiProcess
    dashboard: Process
    url: str
    workers: dict[str, WorkerProcess]
    model: str = MODEL

    @property
    def admin(self) -> dict[str, str]:
        """What an administrator's call carries."""
        return {"Authorization": f"Bearer {ADMIN_KEY}"}

    @property
    def intact(self) -> bool:
        """Whether nothing of it was killed."""
        return self.redis.process.alive and self.api.alive and self.dashboard.alive

    def restore(self) -> None:
        """Its own workers and no others, none of them told anything, no request under way."""
        self.stack.stop_workers(but=self.workers.values())
        for name, worker in self.workers.items():
            if not worker.alive:
                self.workers[name] = self.stack.start_worker(MODEL, name=name)
        wait_until(self._own_workers_only, 30, what="the others' leases have ended")
        wait_until(lambda: not self._busy(), 120, what="no load test and no drill runs")
        restore(self.api.client, ADMIN_KEY)

    def _own_workers_only(self) -> bool:
        found = self.api.client.get("/ops/snapshot?fresh=1").json()
        return {row["id"] for row in found["workers"]} == {worker.node for worker in self.workers.values()}

    def _busy(self) -> bool:
        """Whether the dashboard still sends requests, started by a test that did not wait for their end."""
        runs = httpx.get(f"{self.url}/ui/snapshot").json()["runs"]
        return any(run["state"] == "running" for run in runs["load"]) or bool((runs["drill"] or {}).get("running"))


@contextmanager
def running(folder: Path, *workers: str, **environ: Any) -> Iterator[System]:
    """Start Redis, the API, the dashboard, and workers of these names."""
    with ExitStack() as opened:
        redis = RedisServer(folder / "redis")
        opened.callback(redis.stop)
        stack = opened.enter_context(Stack(redis.url, folder / "run", **(SETTINGS | environ)))
        api = stack.start_api()
        started = {name: stack.start_worker(MODEL, name=name) for name in workers}
        dashboard, url = start_dashboard(stack, api)
        opened.callback(dashboard.stop)
        yield System(stack, redis, api, dashboard, url, started)


def start_dashboard(stack: Stack, api: ApiProcess) -> tuple[Process, str]:
    """The dashboard, as the Procfile starts it, and its address."""
    port = free_port()
    command = [sys.executable, "-m", "dashboard"]
    environ = stack.environ(DASHBOARD_PORT=port, API_URL=api.url)
    process = Process(command, name="dashboard", folder=stack.folder, environ=environ)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        process.check_alive()
        try:
            return httpx.get(f"{url}/ui/snapshot").status_code == 200
        except httpx.TransportError:
            return False

    wait_until(answers, timeout=30, what="the dashboard answers")
    return process, url


@pytest.fixture(scope="module")
def shared_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A whole system with two workers, for the tests of one module; they take ``system``."""
    chromium()
    with running(tmp_path_factory.mktemp("dashboard"), "lite-1", "lite-2") as started:
        yield started


@pytest.fixture
def system(shared_system: System) -> System:
    """The module's system, without what the test before, or a failed attempt of this one, left behind."""
    shared_system.restore()
    return shared_system


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium for the tests of one module: longer, and Playwright's running event loop would meet asyncio tests."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        yield started
        started.close()


@dataclass
class Watch:
    """What a page did that no page of ours may do."""

    home: str
    refusals: bool = False
    problems: list[str] = field(default_factory=list)

    def over(self, page: Page) -> None:
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.problems.append(f"script: {error}"))
        page.on("request", lambda request: self._request(request.url))

    def _said(self, message: ConsoleMessage) -> None:
        # The browser itself notes every answer of 400 and more; a test that provokes one expects that note.
        expected = ("responded with a status of 4", "net::ERR_")
        provoked = self.refusals and any(each in message.text for each in expected)
        if message.type == "error" and not provoked:
            self.problems.append(f"console: {message.text}")

    def _request(self, url: str) -> None:
        if not url.startswith((self.home, "data:", "blob:")):
            self.problems.append(f"request to another host: {url}")


@contextmanager
def opened(
    browser: Browser, url: str, width: int = 1280, height: int = 900, *, refusals: bool = False
) -> Iterator[Page]:
    """A new page on the dashboard; afterwards it must have been clean: no errors, no other hosts.

    With ``refusals``, answers of 400 to 499 and connections refused are no errors.
    """
    context: BrowserContext = browser.new_context(viewport={"width": width, "height": height}, color_scheme="light")
    page = context.new_page()
    page.set_default_timeout(30_000)
    watch = Watch(url, refusals)
    watch.over(page)
    page.goto(url)
    page.locator("#verdict .sentence").wait_for()
    yield page
    context.close()
    assert watch.problems == []


@pytest.fixture
def page(browser: Browser, system: System) -> Iterator[Page]:
    with opened(browser, system.url) as shown:
        yield shown


@pytest.fixture
def refused_page(browser: Browser, system: System) -> Iterator[Page]:
    """A page for a test that does what the API refuses."""
    with opened(browser, system.url, refusals=True) as shown:
        yield shown


def tab(page: Page, name: str) -> None:
    """Open a tab."""
    page.get_by_role("tab", name=name).click()


def log_in(page: Page, key: str = ADMIN_KEY) -> None:
    """Give the administrator's key."""
    page.locator("#login-button").click()
    page.get_by_label("API key").fill(key)
    page.locator("#login-submit").click()
    page.get_by_role("button", name="Log out").wait_for()
