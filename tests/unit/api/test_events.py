"""Server-sent events as they go over the wire, whatever they are about."""

from __future__ import annotations

import pytest
from flask import Flask

from api.http import sse
from tasks.errors import BrokerUnavailable


def streamed(app: Flask, look: sse.Look, last: str = "", longest: float = 5.0) -> str:
    with app.test_request_context(headers={"Last-Event-ID": last} if last else {}):
        return sse.stream(look, longest).get_data(as_text=True)


def test_a_silent_stream_pings(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a proxy would take it for dead."""
    monkeypatch.setattr(sse, "PING", 0.0)
    answers = iter([([], False), ([], False), ([sse.StreamEvent(1, "end", {})], True)])
    text = streamed(app, lambda _seen, _wait: next(answers))
    assert text.index(": ping") < text.index("event: end")


def test_a_stream_ends_in_time_and_tells_when_to_come_back(app: Flask) -> None:
    text = streamed(app, lambda _seen, _wait: ([], False), longest=0.0)
    assert text == f"retry: {sse.RECONNECT}\n\n"


def test_it_goes_on_behind_the_last_event_of_the_reader(app: Flask) -> None:
    seen: list[int] = []
    streamed(app, lambda since, _wait: (seen.append(since) or [], True), last="7")
    assert seen == [7]


def test_an_outage_in_between_ends_the_stream_without_an_end(app: Flask) -> None:
    answers = iter([([sse.StreamEvent(1, "started", {})], False)])

    def look(_seen: int, _wait: float) -> tuple[list[sse.StreamEvent], bool]:
        try:
            return next(answers)
        except StopIteration:
            raise BrokerUnavailable("Redis does not answer") from None

    text = streamed(app, look)
    assert "event: started" in text
    assert "event: end" not in text
