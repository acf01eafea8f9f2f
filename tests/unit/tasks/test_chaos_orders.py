"""Orders to show a fault are carried out once, and by nobody but the worker they were given to."""

from __future__ import annotations

from common.settings import load_settings
from tasks.worker.chaos import Chaos

SLOW = {"id": 1, "mode": "slow", "seconds": 2.0, "rate": 1.0}


def test_an_order_given_while_it_runs_is_carried_out() -> None:
    chaos = Chaos(load_settings({}))
    chaos.order(None)
    chaos.order(SLOW)
    assert chaos.mode == "slow"


def test_an_order_left_for_its_predecessor_is_not_carried_out() -> None:
    """A worker told to crash would otherwise crash again at every restart."""
    chaos = Chaos(load_settings({}))
    chaos.order(SLOW)
    chaos.order(SLOW)
    assert chaos.mode == "off"
    chaos.order({**SLOW, "id": 2})
    assert chaos.mode == "slow"


def test_an_order_is_carried_out_once() -> None:
    chaos = Chaos(load_settings({}))
    chaos.order(None)
    chaos.order(SLOW)
    chaos.set("off")
    chaos.order(SLOW)
    assert chaos.mode == "off"
