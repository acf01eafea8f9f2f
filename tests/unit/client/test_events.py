"""Streams of events that break in ways a real API cannot be made to break in, for both clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferlane import AsyncClient, Client, Event, Retries
from inferlane.errors import ClientError, NotFound, Timeout, Unavailable, UnexpectedAnswer
from inferlane.events import Parser
from tests.unit.client.test_client import Script, problem

QUICK = Retries(first=0.001, most=0.002, patience=5)
BROKEN = httpx.ReadError("reset")
Answers = Callable[[httpx.Request], httpx.Response]


class Chunks(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that comes in pieces and may break; ``closed`` once the reader has let go of it."""

    def __init__(self, *pieces: str | Exception) -> None:
        self.pieces = pieces
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece.encode()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


def stream(*pieces: str | Exception) -> httpx.Response:
    return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=Chunks("retry: 1\n\n", *pieces))


class Counted:
    """Gives every call the same answer."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        self.answer = answer
        self.calls = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        return self.answer(request)


def event(place: int, name: str = "started") -> str:
    return f"id: {place}\nevent: {name}\ndata: {json.dumps({'at': place})}\n\n"


END = event(9, "end")


def listen(script: Answers, **more: Any) -> Sequence[Event]:
    with Client("http://api", transport=httpx.MockTransport(script), **{"retries": QUICK} | more) as client:
        return list(client.job("j").events())


def listen_async(script: Answers, **more: Any) -> Sequence[Event]:
    async def play() -> Sequence[Event]:
        transport = httpx.MockTransport(script)
        async with AsyncClient("http://api", transport=transport, **{"retries": QUICK} | more) as client:
            return [found async for found in client.job("j").events()]

    return asyncio.run(play())


@pytest.fixture(params=[listen, listen_async], ids=["sync", "async"])
def hear(request: pytest.FixtureRequest) -> Callable[..., Sequence[Event]]:
    found: Callable[..., Sequence[Event]] = request.param
    return found


Hear = Callable[..., Sequence[Event]]


def test_events_come_in_order_up_to_the_end(hear: Hear) -> None:
    script = Script(stream(event(1, "accepted"), ": ping\n\n", event(2), END, event(10)))
    assert [(found.id, found.name) for found in hear(script)] == [("1", "accepted"), ("2", "started"), ("9", "end")]
    assert (script.seen[0].url.path, script.seen[0].headers["Accept"][:17]) == (
        "/inference/j/events",
        "text/event-stream",
    )
    assert "Last-Event-ID" not in script.seen[0].headers


@pytest.mark.parametrize("gap", [[BROKEN], [], [event(3)[:-7], BROKEN], [event(3)[:-1]]])
def test_a_stream_that_breaks_is_taken_up_where_it_was(hear: Hear, gap: list[str | Exception]) -> None:
    script = Script(stream(event(1), event(2), *gap), BROKEN, stream(event(3), END))
    assert [found.id for found in hear(script)] == ["1", "2", "3", "9"]
    assert [request.headers.get("Last-Event-ID") for request in script.seen] == [None, "2", "2"]


def test_204_means_that_all_has_been_told(hear: Hear) -> None:
    assert [found.id for found in hear(Script(stream(event(1)), httpx.Response(204)))] == ["1"]


def test_an_api_that_restarts_is_waited_for(hear: Hear) -> None:
    away = problem(503, "broker_unavailable", **{"Retry-After": "0"})
    assert [found.name for found in hear(Script(httpx.ConnectError("refused"), away, stream(END)))] == ["end"]


def test_an_api_that_follows_enough_callers_says_so_at_once(hear: Hear) -> None:
    script = Script(problem(503, "too_many_waiters", **{"Retry-After": "0"}))
    with pytest.raises(Unavailable) as caught:
        hear(script)
    assert (caught.value.code, len(script.seen)) == ("too_many_waiters", 1)


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: httpx.Response(200, text="<html>"),
        lambda _: httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=Chunks()),
        lambda _: stream("data: no json\n\n"),
    ],
    ids=["a page", "silence", "no JSON"],
)
def test_what_sends_no_events_is_unexpected(hear: Hear, answer: Callable[[httpx.Request], httpx.Response]) -> None:
    script = Counted(answer)
    with pytest.raises(UnexpectedAnswer):
        hear(script)
    assert script.calls <= 3


def test_errors_name_the_request(hear: Hear) -> None:
    with pytest.raises(NotFound) as unknown:
        hear(Script(problem(404, "unknown_request")))
    with pytest.raises(Timeout) as late:
        hear(Script(*[stream(event(1)) for _ in range(500)]), timeout=0.05)
    for caught in (unknown, late):
        error: ClientError = caught.value
        assert error.request_id == "j"


def test_a_reader_that_stops_closes_the_connection() -> None:
    body = Chunks(event(1), event(2), END)
    answer = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=body)
    with Client("http://api", transport=httpx.MockTransport(Script(answer)), retries=QUICK) as client:
        heard = client.batch("b").events()
        assert next(heard).id == "1"
        assert not body.closed
        heard.close()
        assert body.closed


# -- the format

TOLD = [("7", "started", {"a": "x\u2028y"}), ("8", "message", [1, 2]), ("9", "end", None)]
TEXT = ': hello\nid: 7\nevent:started\ndata: {"a":\ndata: "x\u2028y"}\nodd\nodd: field\n\nid: 8\ndata: [1, 2]\n\n\n'
TEXT += 'event: nothing\n\nid: 9\nevent: end\ndata: null\nid: ignored\0\n\nevent: torn\ndata: {"a"'


@given(st.sampled_from(["\n", "\r\n", "\r"]), st.lists(st.integers(1, 200), max_size=12))
def test_events_are_the_same_however_the_bytes_are_cut(line_end: str, cuts: list[int]) -> None:
    data, parser, found = TEXT.replace("\n", line_end).encode(), Parser(), []
    places = [0, *sorted({cut for cut in cuts if cut < len(data)}), len(data)]
    for start, end in pairwise(places):
        found += list(parser.feed(data[start:end]))
    assert [(event.id, event.name, event.data) for event in found] == TOLD
    assert parser.last == "9"


def test_the_api_says_when_to_come_back_and_what_was_torn_is_dropped() -> None:
    parser = Parser()
    assert list(parser.feed(b"retry: 1500\nretry: soon\n\nid: 3\ndata: 1")) == []
    assert (parser.retry, parser.last) == (1.5, "")
    assert parser.begin("/x").options["headers"].get("Last-Event-ID") is None
    assert [(event.id, event.data) for event in parser.feed(b"\ndata: 2\n\n")] == [("", 2)]
