from __future__ import annotations

import pytest

from dashboard.actions import UnknownAction, call_of


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
        ({"verb": "cancel", "id": "x"}, ("POST", "/inference/x/cancel", None)),
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
    assert call_of({"verb": "cancel", "id": "../admin?x#y"})[1] == "/inference/..%2Fadmin%3Fx%23y/cancel"
