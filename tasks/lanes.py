"""Lanes: which queue a request waits in, which lanes a worker consumes, and in which order.

A lane is one Redis list. ``high.resnet18`` is pinned to a model; ``high`` (model ``any``) is consumed by every worker.
A lane's name is its routing key. This module decides names and orders; it never touches Redis.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import count
from math import ceil
from typing import NamedTuple

from common.settings import get_settings

PRIORITIES = ("high", "normal", "low")
ANY = "any"
#: The turns that high may save up while it is empty.
SAVED = 60
#: The share of MAX_QUEUE up to which a priority may fill a model's lanes: low is refused first.
ROOM = {"high": 0.9, "normal": 0.8, "low": 0.5}
#: The share of MAX_QUEUE that each lane has to itself, however full the others are.
RESERVED = 0.05
#: How many times MAX_QUEUE_WAIT a request of a priority may be expected to wait.
PATIENCE = {"high": 1, "normal": 2, "low": 6}


def room(priority: str, max_queue: int) -> tuple[int, int]:
    """Numbers of queued requests, in the model's lanes and in this lane: a request is refused when both are reached."""
    return ceil(max_queue * ROOM[priority]), int(max_queue * RESERVED)


class Lane(NamedTuple):
    """A priority and a model (or ``any``)."""

    priority: str
    model: str

    @property
    def name(self) -> str:
        """The queue name and routing key."""
        return lane(self.priority, self.model)

    @classmethod
    def parse(cls, name: str) -> Lane:
        """The lane that has this queue name."""
        priority, _, model = name.partition(".")
        return cls(priority, model or ANY)


def lane(priority: str, model_type: str) -> str:
    """The queue name for a priority and a model, for example ``("high", "resnet18") -> "high.resnet18"``."""
    return priority if model_type == ANY else f"{priority}.{model_type}"


@lru_cache
def urgency(name: str) -> int:
    """The rank of a lane's priority: 0 for high, more is later."""
    priority = Lane.parse(name).priority
    return PRIORITIES.index(priority) if priority in PRIORITIES else len(PRIORITIES)


def lanes_of(model: str) -> list[str]:
    """The lanes that a worker of ``model`` consumes, most urgent first; its own lane before the shared one."""
    return [lane(priority, owner) for priority in PRIORITIES for owner in (model, ANY)]


def all_lanes(models: Iterable[str]) -> list[str]:
    """Every lane of these models and the shared ones."""
    return [lane(priority, model) for priority in PRIORITIES for model in (*models, ANY)]


class WeightedOrder:
    """Which lane to look at first: weighted fair between priorities, alternating within one.

    Stride scheduling (Waldspurger and Weihl, 1995): a priority's *pass* advances by ``1/weight`` with each request that
    is served, and the smallest pass goes first. With weights 6:3:1 and no lane empty, ten requests are six high, three
    normal and one low. An empty priority is moved up to the present: it saves up no turns, except that high saves up
    :data:`SAVED`, so it goes first while it uses less than its share.

    Implements kombu's cycle protocol (``update``, ``consume``, ``rotate``); rank comes from the lane's name, because
    ``add_consumer`` appends lanes in any order.
    """

    def __init__(self, weights: Sequence[int] = (6, 3, 1)) -> None:
        self._stride = {priority: 1.0 / weight for priority, weight in zip(PRIORITIES, weights, strict=True)}
        self._behind = {PRIORITIES[0]: SAVED * self._stride[PRIORITIES[0]]}
        self._pass = dict(self._stride)
        self._lanes: list[str] = []
        self._priority: dict[str, str] = {}

    def update(self, lanes: Iterable[str]) -> None:
        """Consume from these lanes from now on."""
        self._lanes = list(lanes)
        self._priority = {name: Lane.parse(name).priority for name in self._lanes}

    def consume(self, n: int | None = None) -> list[str]:
        """The first ``n`` lanes, by default all, in the order in which the next take should look at them."""
        of_priority = {priority: self._rank(priority) for priority in set(self._priority.values())}
        ranks = {name: of_priority[priority] for name, priority in self._priority.items()}
        return sorted(self._lanes, key=ranks.__getitem__)[:n]

    def plan(self, takes: int, n: int) -> list[list[str]]:
        """The orders of the next takes if no lane is empty; nothing is served."""
        now = self._pass, self._lanes
        self._pass, self._lanes = dict(self._pass), list(self._lanes)
        orders = [self.consume(n)]
        for _ in range(takes - 1):
            self.rotate(orders[-1][0])
            orders.append(self.consume(n))
        self._pass, self._lanes = now
        return orders

    def rotate(self, last_used: str, requests: int = 1) -> None:
        """``last_used`` was served with so many requests; every lane ahead of it was empty."""
        served = self._priority.get(last_used, "")
        if served not in self._pass:
            return
        present = self._pass[served]
        for priority, value in self._pass.items():
            self._pass[priority] = max(value, present - self._behind.get(priority, 0.0))
        self._pass[served] = present + requests * self._stride[served]
        if last_used in self._lanes:
            self._lanes.remove(last_used)
            self._lanes.append(last_used)

    def _rank(self, priority: str) -> tuple[float, int]:
        known = priority in self._pass
        return (round(self._pass[priority], 9), PRIORITIES.index(priority)) if known else (float("inf"), 0)


class StrictOrder(WeightedOrder):
    """High before normal before low, always; low may starve."""

    def _rank(self, priority: str) -> tuple[float, int]:
        return (0.0, urgency(priority))


ORDERS: dict[str, type[WeightedOrder]] = {"weighted": WeightedOrder, "strict": StrictOrder}


def configured_order() -> WeightedOrder:
    """The order that LANE_ORDER and LANE_WEIGHTS ask for; kombu calls it by name for every channel."""
    settings = get_settings()
    return ORDERS[settings.lane_order](settings.lane_weights)


#: Chooses the model whose lane gets an ``any`` request; ``models`` have live workers and are never empty.
Strategy = Callable[[Sequence[str]], str]


def least_loaded(_models: Sequence[str]) -> str:
    """The shared lane: the first idle worker takes it, which needs no guess about load."""
    return ANY


def round_robin() -> Strategy:
    """One live model after the other."""
    turns = count()
    return lambda models: models[next(turns) % len(models)]


#: A new strategy is one function and one line here.
STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "least_loaded": lambda: least_loaded,
    "random": lambda: random.choice,
    "round_robin": round_robin,
}
