"""The host names that a server without keys answers to."""

from __future__ import annotations

import pytest

from common.serving import answers_to, loopback

EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing listens there


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8000", "LOCALHOST.", "127.0.0.1:8000", "127.8.9.1", "[::1]:8000", "a.localhost", "known"],
)
def test_on_loopback_it_answers_to_loopback_names_and_those_it_was_given(host: str) -> None:
    assert answers_to(host, "127.0.0.1", {"Known"})


def test_a_call_without_the_header_is_no_browsers() -> None:
    assert answers_to(None, "127.0.0.1", ())
    assert answers_to("", "127.0.0.1", ()), "as the server hands it on"


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "evillocalhost",
     "10.0.0.7", ":8000", "[::1", "unknown"],
)  # fmt: skip
def test_on_loopback_it_answers_to_no_other(host: str) -> None:
    assert not answers_to(host, "127.0.0.1", {"known"})


def test_where_others_reach_it_it_answers_to_all_until_names_are_given() -> None:
    assert answers_to("anything", EVERYWHERE, ())
    assert not answers_to("evil.example", EVERYWHERE, {"known"})
    assert answers_to("known:80", EVERYWHERE, {"known"})
    assert answers_to("10.0.0.7:8000", EVERYWHERE, {"known"}), "a probe of a container calls its address"


@pytest.mark.parametrize(("host", "is_local"), [("::1", True), ("127.1.1.1", True), (EVERYWHERE, False), ("x", False)])
def test_loopback(host: str, is_local: bool) -> None:
    assert loopback(host) is is_local
