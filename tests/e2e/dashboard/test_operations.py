"""What an operator does when things go wrong, or to see that they may."""

from __future__ import annotations

import json
import re
import time
from itertools import pairwise

import pytest
import redis
from playwright.sync_api import Browser, Page, expect

from tests.e2e.dashboard.conftest import ADMIN_KEY, MODEL, System, log_in, opened, tab
from tests.e2e.dashboard.photos import state, submit
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.slow]

#: Gives the grid new values twenty times a second, as a busy system does once.
CHANGE_ROWS = """() => {
  let turn = 0;
  setInterval(() => {
    turn += 1;
    const rows = inferlane.state.data.view.requests.map((row) => ({ ...row, attempts: turn }));
    inferlane.set("grid", { rowData: rows });
  }, 50);
}"""

#: What reaches beyond its card or the window, and what scrolls sideways.
SIDEWAYS = """() => {
  const right = (each) => each.getBoundingClientRect().right;
  const scrolls = (each) => each.scrollWidth > each.clientWidth + 1
    && /auto|scroll/.test(getComputedStyle(each).overflowX);
  return [...document.body.querySelectorAll("*")]
    .filter((each) => each.checkVisibility() && !each.closest("[class*=Notification]")
      && (right(each) > right(each.closest(".mantine-Paper-root") || document.body) + 1 || scrolls(each)))
    .map((each) => `${each.tagName} ${each.id} ${each.className}`);
}"""
TABS = ("Overview", "Requests", "Dead letters", "Models", "Load test", "Faults", "Activity")


def choose(page: Page, field: str, option: str | re.Pattern[str]) -> None:
    """Choose an option of a select, by the visible text."""
    page.locator(f"#{field}").click()
    page.get_by_role("option", name=option).first.click()


@pytest.mark.chaos
def test_a_killed_workers_requests_finish_elsewhere_and_the_verdict_says_so(page: Page, system: System) -> None:
    victim = system.stack.start_worker(MODEL, name="victim")
    log_in(page)
    page.get_by_role("button", name=f"Inject a fault into {victim.node}").click()
    expect(page.locator("#victim")).to_have_value(re.compile("^victim"))
    page.get_by_role("button", name="Start drill").click()
    verdict = page.locator("#drill-verdict")
    expect(verdict).to_contain_text("0 lost", timeout=120_000)
    found = re.search(r"(\d+) redelivered", verdict.inner_text())
    assert found is not None
    assert int(found[1]) >= 1
    expect(page.locator("#drill")).to_contain_text("its lease has run out")
    wait_until(lambda: not victim.alive, what="the victim is dead")
    tab(page, "Overview")
    gone = page.locator(f"[data-gone-row='{victim.node}']")
    expect(gone).to_contain_text(re.compile(r"lost .* was lost with \d+ requests?; other workers took over"))
    counters = system.api.client.get("/ops/snapshot?fresh=1").json()["counters"]
    assert counters["redelivered"] >= 1


@pytest.mark.chaos
def test_the_photo_arrives_though_the_worker_that_has_it_is_killed(refused_page: Page, system: System) -> None:
    page = refused_page
    page.get_by_role("button", name="Kill the worker that has it").click()
    page.get_by_label("API key").fill(ADMIN_KEY)
    page.locator("#login-submit").click()
    here = page.locator("#journey [data-at=here]")
    expect(here).to_have_attribute("data-station", "Worker")
    victim = here.locator("strong").inner_text()
    expect(page.locator("#journey .dead")).to_contain_text(victim)
    expect(here).to_have_attribute("data-station", "Answer", timeout=60_000)
    expect(page.locator("#step-text")).to_contain_text("Succeeded after")
    workers = page.locator("#journey [data-station=Worker] strong").all_inner_texts()
    assert workers[0] == victim
    assert len(workers) == 2
    assert workers[1] != victim
    expect(page.locator("#outcome")).to_contain_text(workers[1])
    assert not next(one for one in system.workers.values() if one.node == victim).alive


def test_a_dead_letter_is_requeued_and_then_answered(page: Page, system: System) -> None:
    log_in(page)
    workers = [worker["id"] for worker in system.api.client.get("/workers/status").json()["workers"]]
    order_fault(system, workers, "error")
    given_up = submit(system)
    wait_until(lambda: state(system, given_up) == "failed", 30, what="the request is given up")
    order_fault(system, workers, "off")
    tab(page, "Dead letters")
    row = page.locator(f"[data-letter-row='{given_up}']")
    expect(page.locator("[data-letter-group='inference_failed']")).to_contain_text(given_up)
    row.get_by_role("button", name=given_up).first.click()
    photo = page.locator("#request-detail .thumbnail")
    expect(photo).to_be_visible()
    wait_until(lambda: photo.evaluate("image => image.naturalWidth") == 451, 10, what="the photo is shown")
    page.keyboard.press("Escape")
    row.get_by_role("button", name="Requeue").click()
    wait_until(lambda: state(system, given_up) == "succeeded", 30, what="the second life succeeds")
    expect(row).to_have_count(0)


def order_fault(system: System, workers: list[str], mode: str) -> None:
    """Through the API, and wait until the workers say that they obey."""
    for worker in workers:
        answer = system.api.client.post(f"/admin/workers/{worker}/chaos", json={"mode": mode}, headers=system.admin)
        assert answer.status_code == 200, answer.text

    def obeyed() -> bool:
        rows = system.api.client.get("/workers/status").json()["workers"]
        return {row["chaos"] for row in rows} == {mode}

    wait_until(obeyed, 15, what=f"chaos {mode} in every worker")


def test_a_load_test_runs_live_and_its_numbers_add_up(page: Page, system: System) -> None:
    before = system.api.client.get("/ops/snapshot?fresh=1").json()["ledger"].get("succeeded", 0)
    tab(page, "Load test")
    page.locator("#load-requests").fill("24")
    page.locator("#load-concurrency").fill("4")
    page.locator("#load-start").click()
    expect(page.locator("#load-text")).to_contain_text("Done: 24 of 24 answered", timeout=120_000)
    expect(page.locator("#load-text")).to_contain_text("no errors")
    expect(page.locator("#load-results")).to_contain_text("newest")
    expect(page.locator("#load-said")).to_be_empty()
    after = system.api.client.get("/ops/snapshot?fresh=1").json()["ledger"]["succeeded"]
    assert after - before == 24


def test_requests_are_listed_filtered_and_canceled_from_their_drawer(page: Page, system: System) -> None:
    log_in(page)
    page.get_by_role("button", name=f"Pause lane low.{MODEL}", exact=True).click()
    expect(page.locator(f"[data-lane-cell='low.{MODEL}']")).to_contain_text("paused")
    waiting = submit(system, priority="low")
    tab(page, "Requests")
    expect(page.locator(f"#grid [row-id='anonymous/{waiting}']").first).to_contain_text("queued")
    choose(page, "filter-state", re.compile("queued"))
    expect(page.locator("#grid .ag-center-cols-container .ag-row")).to_have_count(1)
    page.locator(f"#grid [row-id='anonymous/{waiting}'] [col-id='shown']").click()
    page.get_by_role("button", name="Cancel request").click()
    expect(page.locator("#request-detail")).to_contain_text("canceled")
    assert state(system, waiting) == "canceled"


def test_what_the_filter_lists_is_canceled_at_once_and_counted(page: Page, system: System) -> None:
    log_in(page)
    lane = f"low.{MODEL}"
    assert system.api.client.post(f"/admin/lanes/{lane}/pause", headers=system.admin).status_code == 200
    others = submit(system)
    waiting = [submit(system, priority="low") for _ in range(3)]
    wait_until(lambda: state(system, others) == "succeeded", 30, what="an answer")
    tab(page, "Requests")
    choose(page, "filter-state", re.compile("queued"))
    page.get_by_role("button", name="Cancel all 3").click()
    page.get_by_role("button", name="Cancel 3 requests").click()
    expect(page.get_by_text("3 of 3 requests")).to_be_visible()
    assert {state(system, each) for each in waiting} == {"canceled"}
    assert state(system, others) == "succeeded"


def test_selected_rows_are_canceled_or_requeued_as_their_state_allows(page: Page, system: System) -> None:
    log_in(page)
    lane = f"low.{MODEL}"
    workers = [worker["id"] for worker in system.api.client.get("/workers/status").json()["workers"]]
    order_fault(system, workers, "error")
    dead = submit(system)
    wait_until(lambda: state(system, dead) == "failed", 30, what="the request is given up")
    order_fault(system, workers, "off")
    assert system.api.client.post(f"/admin/lanes/{lane}/pause", headers=system.admin).status_code == 200
    waiting = [submit(system, priority="low") for _ in range(3)]
    tab(page, "Requests")
    for each in (dead, *waiting[:2]):
        page.locator(f"#grid [row-id='anonymous/{each}'] .ag-selection-checkbox").click()
    expect(page.get_by_role("button", name="Requeue selected 1")).to_be_enabled()
    page.get_by_role("button", name="Cancel selected 2").click()
    assert system.api.client.post(f"/inference/{waiting[0]}/cancel").status_code == 200
    page.get_by_role("button", name="Cancel 2 requests").click()
    expect(page.get_by_text("2 of 2 requests")).to_be_visible()
    assert [state(system, each) for each in (dead, *waiting)] == ["failed", "canceled", "canceled", "queued"]
    page.get_by_role("button", name="Requeue selected 1").click()
    letters = system.api.client.delete(f"/dead_letters/{dead}", headers=system.admin)
    assert letters.status_code == 204
    page.get_by_role("button", name="Requeue 1 request").click()
    expect(page.get_by_text("0 of 1 request; 1 not: gone")).to_be_visible()


def test_a_row_opens_its_drawer_each_time_however_fast_the_rows_change(page: Page, system: System) -> None:
    ids = [submit(system) for _ in range(2)]
    tab(page, "Requests")
    page.evaluate(CHANGE_ROWS)
    drawer = page.get_by_role("dialog")
    for one in (*ids, ids[1], ids[0]):
        page.locator(f"#grid [row-id='anonymous/{one}'] [col-id='shown']").click()
        expect(drawer).to_contain_text(f"Request {one}")
        expect(page.locator("#request-detail")).to_contain_text("succeeded")
        drawer.get_by_role("button").first.click()
        expect(drawer).to_have_count(0)
    page.locator(f"#grid [row-id='anonymous/{ids[0]}'] [col-id='model']").focus()
    page.keyboard.press("Enter")
    expect(drawer).to_contain_text(f"Request {ids[0]}")


def test_a_purge_asks_for_the_lanes_name_and_cancels_what_waits(page: Page, system: System) -> None:
    lane = f"low.{MODEL}"
    log_in(page)
    assert system.api.client.post(f"/admin/lanes/{lane}/pause", headers=system.admin).status_code == 200
    waiting = [submit(system, priority="low") for _ in range(3)]
    row = page.locator(f"[data-lane-cell='{lane}']")
    expect(row.locator(".depth")).to_have_text("3")
    row.get_by_role("button", name="Purge").click()
    page.get_by_label(f"Type {lane} to confirm").fill("low")
    page.get_by_role("button", name="Purge").last.click()
    expect(page.get_by_role("dialog")).to_contain_text(f"This is not {lane}")
    assert {state(system, each) for each in waiting} == {"queued"}
    page.get_by_label(f"Type {lane} to confirm").fill(lane)
    page.get_by_role("button", name="Purge").last.click()
    expect(row.locator(".depth")).to_have_text("0")
    assert {state(system, each) for each in waiting} == {"canceled"}


def test_left_and_lost_are_told_apart_and_marked_in_the_charts(page: Page, system: System) -> None:
    polite = system.stack.start_worker(MODEL, name="polite")
    unlucky = system.stack.start_worker(MODEL, name="unlucky")
    expect(page.locator(f"[data-worker-row='{unlucky.node}']")).to_have_count(1)
    polite.stop()
    unlucky.kill()
    expect(page.locator(f"[data-gone-row='{polite.node}']")).to_contain_text("left")
    expect(page.locator(f"[data-gone-row='{unlucky.node}']")).to_contain_text("lost")
    expect(page.locator("#marks")).to_contain_text("✕")
    expect(page.locator("#throughput-chart .recharts-reference-line").first).to_be_visible()


@pytest.mark.parametrize("width", [1280, 390])
def test_marks_of_many_events_do_not_collide(browser: Browser, system: System, width: int) -> None:
    prefix, now = system.stack.settings().key_prefix, time.time()
    with redis.Redis.from_url(system.stack.redis_url) as database:
        for ago in range(15, 0, -1):
            for event in ("joined", "left", "lost")[: 1 + ago % 3]:
                line = {"at": now - 60 * ago, "event": event, "worker": f"w{ago}@h/boot", "model": MODEL}
                database.lpush(f"{prefix}worker_events", json.dumps(line))
    with opened(browser, system.url, width=width) as page:
        labels = page.locator("#throughput-chart .recharts-reference-line text")
        labels.first.wait_for()
        boxes = sorted((each.bounding_box() or {} for each in labels.all()), key=lambda box: box["x"])
        assert len(boxes) > 2
        for left, right in pairwise(boxes):
            assert left["x"] + left["width"] <= right["x"], "two labels overlap"
        page.locator("#marks summary").click()
        expect(page.locator("#marks li")).to_have_count(12)


def test_requests_are_searched_by_worker_and_by_a_part_of_an_id(page: Page, system: System) -> None:
    ids = [submit(system) for _ in range(4)]
    wait_until(lambda: {state(system, each) for each in ids} == {"succeeded"}, 30, what="answers")
    worker = system.api.client.get(f"/inference/{ids[0]}").json()["worker_id"]
    listed = system.api.client.get("/inference", params={"worker": worker, "limit": 500}).json()["requests"]
    tab(page, "Requests")
    page.locator("#filter-worker").click()
    page.get_by_role("option", name=worker).click()
    expect(page.locator("#listing-text")).to_contain_text(
        re.compile(f"^{len(listed)} newest requests?, and there are no more")
    )
    page.locator("#find-id").fill(ids[0][4:])
    expect(page.locator("#listing-text")).to_contain_text("1 newest request, and there are no more")
    expect(page.locator(f"#grid [row-id='anonymous/{ids[0]}']").first).to_be_visible()


def test_a_request_is_found_by_its_id(page: Page, system: System) -> None:
    one = submit(system)
    wait_until(lambda: state(system, one) == "succeeded", 30, what="an answer")
    tab(page, "Requests")
    page.locator("#find-id").fill(one)
    page.keyboard.press("Enter")
    expect(page.locator("#request-detail")).to_contain_text("succeeded")


def test_a_link_opens_the_page_as_it_was_with_its_filters_and_its_request(page: Page, system: System) -> None:
    one = submit(system)
    wait_until(lambda: state(system, one) == "succeeded", 30, what="an answer")
    tab(page, "Requests")
    choose(page, "filter-state", re.compile("succeeded"))
    page.locator(f"#grid [row-id='anonymous/{one}'] [col-id='shown']").click()
    expect(page).to_have_url(re.compile(f"#tab=requests&state=succeeded&request={one}"))
    page.reload()
    expect(page.get_by_role("dialog")).to_contain_text(f"Request {one}")
    expect(page.locator("#filter-state")).to_have_value(re.compile("succeeded"))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy id").click()
    assert page.evaluate("navigator.clipboard.readText()") == one
    page.keyboard.press("Escape")
    expect(page).to_have_url(re.compile("#tab=requests&state=succeeded$"))


def test_on_a_phone_nothing_scrolls_sideways(browser: Browser, system: System) -> None:
    workers = [worker.node for worker in system.workers.values()]
    order_fault(system, workers, "error")
    dead = submit(system)
    wait_until(lambda: state(system, dead) == "failed", 30, what="the request is given up")
    order_fault(system, workers, "off")
    lane = f"low.{MODEL}"
    assert system.api.client.post(f"/admin/lanes/{lane}/pause", headers=system.admin).status_code == 200
    waiting = submit(system, priority="low")
    with opened(browser, system.url, width=390, height=844) as page:
        log_in(page)
        page.get_by_role("button", name="Classify").click()
        expect(page.locator("#step-text")).to_contain_text("Succeeded after")
        expect(page.locator(f"[data-lane-cell='{lane}']").get_by_role("button", name="Purge")).to_be_visible()
        for name in TABS:
            tab(page, name)
            if name == "Load test":
                page.locator("#load-requests").fill("2")
                page.locator("#load-start").click()
                expect(page.locator("#load-text")).to_contain_text("Done: 2 of 2", timeout=120_000)
            assert page.evaluate(SIDEWAYS) == [], name
        tab(page, "Requests")
        page.locator(f"#grid [row-id='anonymous/{waiting}'] [col-id='shown']").click()
        expect(page.locator("#request-detail")).to_contain_text("Accepted")
        page.wait_for_timeout(500)  # the drawer slides in
        assert page.evaluate(SIDEWAYS) == []
