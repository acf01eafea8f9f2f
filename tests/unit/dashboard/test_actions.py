from __future__ import annotations

import httpx
import pytest

from dashboard.actions import MOST_AT_ONCE, UnknownAction, call_of, perform_for_each
from dashboard.api_client import ApiClient, ApiError


@pytest.mark.parametrize(
    ("order", "call"),
    [
        ({"verb": "pause", "lane": "normal.resnet18"}, ("POST", "/admin/lanes/normal.resnet18/pause", None)),
        ({"verb": "resume", "lane": "low"}, ("POST", "/admin/lanes/low/resume", None)),
        ({"verb": "drain", "worker": "a@host"}, ("POST", "/admin/workers/a@host/drain", None)),
        ({"verb": "undrain", "worker": "a@host"}, ("POST", "/admin/workers/a@host/resume", None)),
        (
            {"verb": "chaos", "worker": "a@host", "mode": "slow", "seconds": 2},
            ("POST", "/admin/workers/a@host/chaos", {"mode": "slow", "seconds": 2.0}),
        ),
        ({"verb": "scale", "model": "m", "workers": "0"}, ("POST", "/admin/models/m/scale", {"workers": 0})),
        ({"verb": "cancel", "id": "x"}, ("POST", "/inference/x/cancel", None)),
        ({"verb": "cancel", "id": "ann/x"}, ("POST", "/inference/x/cancel?owner=ann", None)),
        ({"verb": "requeue", "id": "x"}, ("POST", "/dead_letters/x/requeue", None)),
        ({"verb": "delete", "id": "x"}, ("DELETE", "/dead_letters/x", None)),
    ],
)
def test_each_verb_is_one_call(order: dict[str, object], call: tuple[str, str, object]) -> None:
    assert call_of(order) == call


@pytest.mark.parametrize(
    "order", [{}, {"verb": "purge"}, {"verb": "pause"}, {"verb": "pause", "lane": 3}, {"verb": None}]
)
def test_what_is_not_a_verb_is_refused(order: dict[str, object]) -> None:
    with pytest.raises(UnknownAction):
        call_of(order)


@pytest.mark.parametrize("name", ["..", ".", ""])
def test_a_name_cannot_lead_out_of_its_path(name: str) -> None:
    with pytest.raises(UnknownAction):
        call_of({"verb": "cancel", "id": name})
    assert call_of({"verb": "pause", "lane": "../x?y#z"})[1] == "/admin/lanes/..%2Fx%3Fy%23z/pause"
    assert call_of({"verb": "cancel", "id": "../a/b?c"})[1] == "/inference/b%3Fc/cancel?owner=../a"


def api(calls: list[str], statuses: dict[str, int]) -> ApiClient:
    """An API that refuses the requests in ``statuses``."""

    def answer(call: httpx.Request) -> httpx.Response:
        calls.append(call.url.path)
        return httpx.Response(statuses.get(call.url.path.split("/")[2], 200), json={})

    return ApiClient("http://api", transport=httpx.MockTransport(answer))


def test_an_order_for_many_requests_counts_those_that_had_ended() -> None:
    calls: list[str] = []
    order = {"verb": "cancel", "ids": ["a", "b", "c", "d"]}
    assert perform_for_each(api(calls, {"b": 409, "c": 404}), order) == {
        "done": 2, "refused": {"ended before": 1, "gone": 1},
    }  # fmt: skip
    assert calls == [f"/inference/{each}/cancel" for each in "abcd"]


def test_an_order_for_many_requests_ends_where_the_api_refuses_all() -> None:
    calls: list[str] = []
    with pytest.raises(ApiError):
        perform_for_each(api(calls, {"a": 401}), {"verb": "requeue", "ids": ["a", "b"]})
    assert calls == ["/dead_letters/a/requeue"]


@pytest.mark.parametrize("ids", [[], "abc", ["x"] * (MOST_AT_ONCE + 1), ["x", ".."], ["x", 7]])
def test_a_list_that_cannot_be_carried_out_is_refused_whole(ids: object) -> None:
    calls: list[str] = []
    with pytest.raises(UnknownAction):
        perform_for_each(api(calls, {}), {"verb": "cancel", "ids": ids})
    assert calls == []
