"""The dashboard where each key has its own requests: a user sees theirs, an administrator everybody's by owner."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from api.http import api_keys
from tests.e2e.dashboard.conftest import ADMIN_KEY, MODEL, System, chromium, log_in, opened, running, tab
from tests.e2e.dashboard.photos import cat
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.slow]

#: Requests that each has had answered, and the id that both have chosen for one of them.
ANSWERED = {"ann": 2, "bob": 5}
SHARED_ID = "the-same-id"
QUOTA = 5000


@dataclass(frozen=True)
class Tenants:
    """A system with two users, each with a key, and a client of each."""

    system: System
    keys: dict[str, str]
    clients: dict[str, httpx.Client]

    def send(self, owner: str, **options: str) -> str:
        """The id of a request of this owner, accepted."""
        wanted = {"model_type": MODEL, **options}
        headers = {"Prefer": "respond-async", "Content-Type": "image/jpeg"}
        answer = self.clients[owner].post("/inference", params=wanted, headers=headers, content=cat())
        assert answer.status_code == 202, answer.text
        return str(answer.json()["request_id"])

    def listed(self, owner: str, **query: str) -> list[dict[str, Any]]:
        """This owner's requests, as the API lists them."""
        found: list[dict[str, Any]] = (
            self.clients[owner].get("/inference", params={"limit": "500"} | query).json()["requests"]
        )
        return found

    def snapshot(self, owner: str) -> dict[str, Any]:
        """What the API tells this owner."""
        body: dict[str, Any] = self.clients[owner].get("/ops/snapshot?fresh=1").json()
        return body


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    chromium()
    made = {name: api_keys.make(name) for name in ANSWERED}
    entries = ",".join(entry for _, entry in made.values())
    with running(tmp_path_factory.mktemp("tenants"), "lite-1", API_KEYS=entries, MONTHLY_QUOTA=QUOTA) as system:
        keys = {name: key for name, (key, _) in made.items()} | {"admin": ADMIN_KEY}
        clients = {
            name: httpx.Client(base_url=system.api.url, headers={"Authorization": f"Bearer {key}"}, timeout=40)
            for name, key in keys.items()
        }
        found = Tenants(system, keys, clients)
        for name, number in ANSWERED.items():
            for place in range(number):
                found.send(name, **({} if place else {"request_id": SHARED_ID}))
        for name, number in ANSWERED.items():
            wait_until(lambda name=name, number=number: _written(found, name) == number, 60, what=f"answers of {name}")  # type: ignore[misc]
        yield found
        for client in clients.values():
            client.close()


def _written(tenants: Tenants, owner: str) -> int:
    return sum(row["succeeded"] for row in tenants.snapshot(owner)["history"])


@pytest.fixture
def page(browser: Browser, tenants: Tenants) -> Iterator[Page]:
    with opened(browser, tenants.system.url, refusals=True) as shown:
        yield shown


def rows(page: Page) -> Any:
    return page.locator("#grid .ag-center-cols-container .ag-row")


@pytest.mark.parametrize("owner", sorted(ANSWERED))
def test_a_user_sees_their_own_work_and_nobody_elses(page: Page, tenants: Tenants, owner: str) -> None:
    (other,) = ANSWERED.keys() - {owner}
    everything = tenants.listed(owner)
    number = sum(row["state"] == "succeeded" for row in everything)
    log_in(page, tenants.keys[owner])
    expect(page.locator("#outcomes-text")).to_contain_text(f"{number} succeeded")
    expect(page.locator("#throughput-text")).to_contain_text(f"{len(everything)} requests in the last 15 minutes")
    expect(page.locator("[data-owner-row]")).to_have_count(1)
    expect(page.locator(f"[data-owner-row='{owner}'] td").nth(6)).to_have_text(str(len(everything)))
    tab(page, "Requests")
    expect(rows(page)).to_have_count(len(everything))
    expect(page.locator("#filter-owner")).to_be_hidden()
    foreign = tenants.listed(other, status="succeeded")[0]["request_id"]
    page.locator("#find-id").fill(foreign[9:])
    expect(page.locator("#listing-text")).to_contain_text("No requests match")
    page.keyboard.press("Enter")
    page.locator("#find-id").fill(foreign)
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("Not available")
    page.keyboard.press("Escape")
    tab(page, "Activity")
    expect(page.locator("#counters")).to_contain_text(f"{number} succeeded")
    assert other not in page.locator("body").inner_text()


def test_live_numbers_are_those_of_the_user(page: Page, browser: Browser, tenants: Tenants) -> None:
    log_in(page, tenants.keys["ann"])
    expect(page.locator("#live-rate-text")).to_contain_text("No requests in the last")
    with opened(browser, tenants.system.url, refusals=True) as others:
        log_in(others, tenants.keys["admin"])
        expect(others.locator("#live-rate-text")).to_contain_text("No requests in the last")
        tenants.send("bob")
        expect(others.locator("#live-rate-text")).to_contain_text("1 answered")
        expect(page.locator("#live-rate-text")).to_contain_text("No requests in the last")


@pytest.mark.parametrize("who", ["ann", "admin"])
def test_try_it_shows_the_answer_to_who_has_logged_in(page: Page, tenants: Tenants, who: str) -> None:
    log_in(page, tenants.keys[who])
    page.get_by_role("button", name="Classify").click()
    expect(page.locator("#step-text")).to_contain_text("Succeeded after")
    page.get_by_role("button", name="Timeline of this request").click()
    expect(page.locator("#request-detail")).to_contain_text("Succeeded")


def test_the_same_id_of_two_owners_is_two_rows_and_each_opens_its_own(page: Page, tenants: Tenants) -> None:
    log_in(page)
    tab(page, "Requests")
    for owner, key in (("ann", f"ann/{SHARED_ID}"), ("bob", f"bob/{SHARED_ID}")):
        page.locator(f"#grid [row-id='{key}'] [col-id='owner']").click()
        trace = tenants.clients[owner].get(f"/inference/{SHARED_ID}").json()["trace_id"]
        expect(page.locator("#request-detail")).to_contain_text(trace)
        expect(page).to_have_url(re.compile(f"request={owner}%2F{SHARED_ID}"))
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)


def test_an_order_is_for_the_request_of_that_owner(page: Page, tenants: Tenants) -> None:
    lane = f"low.{MODEL}"
    assert tenants.clients["admin"].post(f"/admin/lanes/{lane}/pause").status_code == 200
    same = f"waits-{uuid4()}"
    for owner in ANSWERED:
        tenants.send(owner, request_id=same, priority="low")
    log_in(page)
    tab(page, "Requests")
    page.locator(f"#grid [row-id='bob/{same}'] .ag-selection-checkbox").click()
    page.get_by_role("button", name="Cancel selected 1").click()
    page.get_by_role("button", name="Cancel 1 request").click()
    expect(page.get_by_text("1 of 1 request")).to_be_visible()
    states = {owner: tenants.clients[owner].get(f"/inference/{same}").json()["state"] for owner in ANSWERED}
    assert states == {"ann": "queued", "bob": "canceled"}
    assert tenants.clients["ann"].post(f"/inference/{same}/cancel").status_code == 200
    assert tenants.clients["admin"].post(f"/admin/lanes/{lane}/resume").status_code == 200


def test_an_administrator_sees_each_owners_part_and_usage(page: Page, tenants: Tenants) -> None:
    log_in(page)
    told = {row["owner"]: row for row in tenants.snapshot("admin")["owners"]}
    for owner in ANSWERED:
        cells = page.locator(f"[data-owner-row='{owner}'] td")
        expect(cells.nth(6)).to_have_text(str(told[owner]["today"]["requests"]))
        expect(cells.nth(7)).to_have_text(f"{told[owner]['quota']['left']:,} of 5,000")
    page.get_by_role("button", name="Usage of ann").click()
    expect(page.locator("#drawer-details")).to_contain_text(
        f"{told['ann']['quota']['left']:,} of 5,000 images left until 1 "
    )
    usage = tenants.clients["ann"].get("/usage").json()["usage"]
    line = page.locator("#drawer-details tr").filter(has_text="35 days").locator("td")
    expect(line.first).to_have_text(str(sum(row["succeeded"] for row in usage)))
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Requests of ann").click()
    expect(page).to_have_url(re.compile("tab=requests&owner=ann"))
    expect(rows(page)).to_have_count(len(tenants.listed("ann")))
