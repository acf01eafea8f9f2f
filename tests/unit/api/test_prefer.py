"""The Prefer header decides between waiting and not waiting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http import prefer


@pytest.mark.parametrize(
    ("values", "wait", "applied"),
    [
        ([], 30, ""),
        (["respond-async"], 0, "respond-async"),
        (["wait=7"], 7, "wait=7"),
        (["wait=0"], 0, "wait=0"),
        (["wait=700"], 30, "wait=30"),
        (["respond-async, wait=5"], 5, "wait=5"),
        (["respond-async", "wait=5"], 5, "wait=5"),
        (['Wait="5"; foo=bar'], 5, "wait=5"),
        (["wait=5, wait=9"], 5, "wait=5"),
        (["wait=-1"], 30, ""),
        (["wait=1.5"], 30, ""),
        (["wait=\u0665"], 30, ""),
        (["handling=lenient"], 30, ""),
        (["wait=" + "9" * 5000], 30, "wait=30"),
    ],
)
def test_preference(values: list[str], wait: float, applied: str) -> None:
    assert prefer.parse(values, default=30, most=30) == prefer.Preference(wait, applied)


@given(st.lists(st.text()))
def test_no_header_makes_it_fail_or_wait_too_long(values: list[str]) -> None:
    assert 0 <= prefer.parse(values, default=3, most=10).wait <= 10
