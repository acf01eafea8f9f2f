"""``watch``, ``list`` and what they are made of, against a real API, also one that restarts or holds enough callers."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from inferlane import Client, Event
from inferlane.commands.watch import look
from tests.integration.client.conftest import MODELS, image
from tests.integration.client.test_command_line import command_line, documents, folder_of, run
from tests.support.processes import Process
from tests.support.proxy import Proxy
from tests.support.stack import ApiProcess, Stack
from tests.support.waiting import wait_until


@pytest.fixture
def proxy(toy_api: ApiProcess) -> Iterator[Proxy]:
    with Proxy(int(toy_api.url.rpartition(":")[2])) as made:
        yield made


def test_a_request_is_followed_event_by_event(client: Client) -> None:
    events = list(client.submit(image("sleep 0.2"), "toy").events())
    assert [event.name for event in events] == ["accepted", "started", "succeeded", "end"]
    assert [int(event.id) for event in events] == [1, 2, 3, 4]
    assert events[-1].data["state"] == "succeeded"


def test_a_cut_connection_is_taken_up_where_it_was(client: Client, proxy: Proxy) -> None:
    """Longer than MAX_WAIT, so that the API ends a stream by itself as well."""
    job = client.submit(image("sleep 3"), "toy")
    with Client(f"http://127.0.0.1:{proxy.port}", timeout=30) as behind:
        heard: list[Event] = []
        for event in behind.job(job.id).events():
            heard.append(event)
            if event.name == "started":
                proxy.cut(stall=False)
                threading.Timer(0.7, proxy.heal).start()
    assert [event.id for event in heard] == ["1", "2", "3", "4"]


def test_a_batch_is_followed_count_by_count(client: Client) -> None:
    batch = client.submit_batch([image(f"sleep 0.{n}") for n in range(1, 5)], "toy")
    events = list(batch.events())
    ended = [int(event.id) for event in events]
    assert ended == sorted(set(ended))
    assert (events[-1].name, ended[-1], events[-1].data["counts"]["succeeded"]) == ("end", 4, 4)
    assert {event.name for event in events[:-1]} <= {"progress"}


def test_polling_finds_the_same_events_as_the_stream(client: Client) -> None:
    job = client.submit(image(), "toy")
    batch = client.submit_batch([image(), b"no image"], "toy")
    assert list(job.events()) == list(look(job))
    assert list(batch.events())[-1:] == list(look(batch))


def test_watch_tells_a_request_and_a_batch(toy_api: ApiProcess, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"a.gif": "sleep 0.3", "b.gif": "ok"})
    request_id = run(toy_api.url, "submit", folder / "a.gif", "-m", "toy").stdout.strip()
    told = run(toy_api.url, "watch", request_id, "--json")
    assert [document["event"] for document in documents(told.stdout)] == ["accepted", "started", "succeeded", "end"]
    batch_id = run(toy_api.url, "batch", folder, "-m", "toy", "--detach").stdout.strip()
    told = run(toy_api.url, "watch", batch_id)
    assert (told.returncode, "2 of 2 ended" in told.stdout) == (0, True)
    (folder / "c.gif").write_bytes(b"no image")
    batch_id = run(toy_api.url, "batch", folder, "-m", "toy", "--detach").stdout.strip()
    assert run(toy_api.url, "watch", batch_id).returncode == 1
    unknown = run(toy_api.url, "watch", "never-seen")
    assert (unknown.returncode, "unknown_request" in unknown.stderr) == (1, True)


def test_watch_goes_on_over_the_death_of_the_api(stack: Stack, tmp_path: Path) -> None:
    stack.start_worker("tests.toy:toy", name="toy-1", MODELS=MODELS)
    api = stack.start_api(MODELS=MODELS)
    same = psutil.Process(api.pid)
    command, environ = same.cmdline(), same.environ()
    with Client(api.url) as client:
        job = client.submit(image("sleep 4"), "toy")
        wait_until(lambda: job.status().state == "running")
    watch = Process(command_line(api.url, "watch", job.id, "--json"), name="watch", folder=tmp_path, environ=os.environ)
    try:
        wait_until(lambda: '"started"' in watch.log())
        api.kill()
        again = Process(command, name="api-again", folder=tmp_path, environ=environ)
        try:
            assert watch.wait(40) == 0, watch.log()
        finally:
            again.stop()
    finally:
        watch.stop()
    lines = [line for line in watch.log().splitlines() if line.startswith("{")]
    assert [document["id"] for document in documents("\n".join(lines))] == ["1", "2", "3", "4"]


def test_watch_looks_by_itself_where_no_events_can_be_had(stack: Stack, tmp_path: Path) -> None:
    """The only waiting place is taken by a caller who waits for a slow answer."""
    stack.start_worker("tests.toy:toy", name="toy-1", arguments=["-c", "2"], MODELS=MODELS, MAX_BATCH=1)
    api = stack.start_api(MODELS=MODELS, MAX_WAITERS=1, MAX_WAIT=60)
    seen = tmp_path / "seen"
    with Client(api.url, timeout=90) as client:
        slow = client.submit(image(f"until {seen}"), "toy")
        job = client.submit(image(), "toy")
        waiting = threading.Thread(target=lambda: slow.status(wait=60))
        waiting.start()
        watch = Process(
            command_line(api.url, "watch", job.id, "--json"), name="watch", folder=tmp_path, environ=os.environ
        )
        try:
            wait_until(lambda: "no events" in watch.log(), 40)
            seen.touch()
            assert watch.wait(40) == 0, watch.log()
        finally:
            watch.stop()
            seen.touch()
            waiting.join()
    lines = [line for line in watch.log().splitlines() if line.startswith("{")]
    assert [document["event"] for document in documents("\n".join(lines))][-2:] == ["succeeded", "end"]


def test_list_shows_what_was_asked_for(toy_api: ApiProcess, client: Client, tmp_path: Path) -> None:
    ids = [client.predict(image(), "toy").request_id for _ in range(3)]
    listed = documents(run(toy_api.url, "list", "-n", "3", "--json").stdout)
    assert [document["request_id"] for document in listed] == ids[::-1]
    shown = run(toy_api.url, "list", "--status", "succeeded", "-m", "toy", "--all").stdout
    assert all(request_id in shown for request_id in ids)
    assert [snapshot.request_id for snapshot in client.requests(page_size=1)][:3] == ids[::-1]
    assert "no such requests" in run(toy_api.url, "list", "-m", "resnet18").stdout
    assert run(toy_api.url, "list", "-s", "lost").returncode == 2
