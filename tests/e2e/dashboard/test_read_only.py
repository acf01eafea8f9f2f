"""A read-only dashboard, for administrators too."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.dashboard.conftest import chromium, log_in, opened, running, tab

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_it_offers_and_obeys_no_order(browser: Browser, tmp_path: Path) -> None:
    chromium()
    with running(tmp_path, DASHBOARD_READ_ONLY=1) as system, opened(browser, system.url) as page:
        log_in(page)
        expect(page.locator(".header")).to_contain_text("read-only", ignore_case=True)
        expect(page.locator("#classify")).to_be_disabled()
        assert page.locator("#lanes button").evaluate_all("all => all.every((one) => one.disabled)")
        tab(page, "Faults")
        expect(page.locator("#drill-start")).to_be_disabled()
        tab(page, "Load test")
        expect(page.locator("#load-start")).to_be_disabled()
        order = {"verb": "pause", "lane": "normal"}
        headers = {"X-Inferlane-Ui": "1"}
        cookies = {cookie["name"]: cookie["value"] for cookie in page.context.cookies()}
        answer = httpx.post(f"{system.url}/ui/actions", json=order, headers=headers, cookies=cookies)
        assert answer.status_code == 403
        assert not system.api.client.get("/ops/snapshot?fresh=1").json()["paused"]
