"""Swagger UI in a real Chromium: *Try it out* works the first time, without keys and with one, and with a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

from tests.e2e.dashboard.conftest import ARGUMENTS, MODEL, chromium
from tests.support.processes import ROOT
from tests.support.stack import ApiProcess, Stack

pytestmark = pytest.mark.slow

KEY = "the-administrators-key"
ANSWER = ".live-responses-table tbody .response-col_description"


@pytest.fixture(scope="module", params=["off", "on"])
def api(module_stack: Stack, request: pytest.FixtureRequest) -> ApiProcess:
    module_stack.start_worker(MODEL, timeout=180)
    return module_stack.start_api(MODELS=MODEL, AUTH=request.param, ADMIN_KEY=KEY if request.param == "on" else "")


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        yield browser.new_page()
        browser.close()


@pytest.fixture
def operation(api: ApiProcess, page: Page) -> Locator:
    """``POST /inference``, opened from the API's root by a person who has logged in where a key is asked for."""
    page.goto(api.url)
    expect(page.get_by_text("an accepted request ends exactly once")).to_be_visible()
    if api.client.get("/models").status_code == 401:
        page.get_by_role("button", name="Authorize").click()
        form = page.locator(".auth-container").first
        form.locator("input").fill(KEY)
        form.get_by_role("button", name="Apply credentials").click()
        form.get_by_role("button", name="Close").click()
    found = page.locator(".opblock-post").filter(has=page.locator('[data-path="/inference"]'))
    found.locator(".opblock-summary").click()
    found.get_by_role("button", name="Try it out").click()
    return found


def test_the_example_is_a_cat(operation: Locator) -> None:
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(ANSWER).first).to_contain_text("cat", timeout=30_000)


def test_a_file_of_ones_own(operation: Locator) -> None:
    operation.get_by_label("Request content type").select_option("multipart/form-data")
    operation.locator("input[type=file]").set_input_files(ROOT / "docs" / "images" / "coffee.jpg")
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(ANSWER).first).to_contain_text("espresso", timeout=30_000)
