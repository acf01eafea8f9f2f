"""What an operator can order from the page: verbs, each of which is one call of the API. Anything else is refused.

The API decides whether it may be done, and writes down that it was.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dashboard.upstream import Answer, Upstream


class UnknownAction(ValueError):
    """There is no such verb, or what it needs is missing."""


Call = tuple[str, str, dict[str, Any] | None]


def part(value: Any, name: str = "name") -> str:
    """``value`` as one part of a path, which it cannot leave.

    Raises:
        UnknownAction: it is no text, or none that names anything.
    """
    if not isinstance(value, str) or value in {"", ".", ".."} or len(value) > 300:
        raise UnknownAction(f"this action needs a {name}")
    return quote(value, safe="@")


def _part(order: Mapping[str, Any], name: str) -> str:
    return part(order.get(name), name)


def _lane(verb: str) -> Callable[[Mapping[str, Any]], Call]:
    return lambda order: ("POST", f"/admin/lanes/{_part(order, 'lane')}/{verb}", None)


def _worker(verb: str) -> Callable[[Mapping[str, Any]], Call]:
    return lambda order: ("POST", f"/admin/workers/{_part(order, 'worker')}/{verb}", None)


def _chaos(order: Mapping[str, Any]) -> Call:
    body: dict[str, Any] = {"mode": _part(order, "mode")}
    body |= {name: _number(order[name], name) for name in ("seconds", "rate") if order.get(name) is not None}
    return "POST", f"/admin/workers/{_part(order, 'worker')}/chaos", body


def _number(value: Any, name: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise UnknownAction(f"{name} must be a number")
    return number


def _purge(order: Mapping[str, Any]) -> Call:
    return "POST", f"/admin/lanes/{_part(order, 'lane')}/purge", {"confirm": order.get("typed")}


ACTIONS: Mapping[str, Callable[[Mapping[str, Any]], Call]] = {
    "pause": _lane("pause"),
    "resume": _lane("resume"),
    "purge": _purge,
    "drain": _worker("drain"),
    "restart": _worker("restart"),
    "undrain": _worker("resume"),
    "chaos": _chaos,
    "cancel": lambda order: ("POST", f"/inference/{_part(order, 'id')}/cancel", None),
    "requeue": lambda order: ("POST", f"/dead_letters/{_part(order, 'id')}/requeue", None),
    "delete": lambda order: ("DELETE", f"/dead_letters/{_part(order, 'id')}", None),
}


def call_of(order: Mapping[str, Any]) -> Call:
    """Method, path and JSON body for an order of the page.

    Raises:
        UnknownAction: no such verb, or it lacks a member.
    """
    verb = order.get("verb")
    if not isinstance(verb, str) or verb not in ACTIONS:
        raise UnknownAction("there is no such action")
    return ACTIONS[verb](order)


def perform(upstream: Upstream, order: Mapping[str, Any], key: str) -> Answer:
    """Do it.

    Raises:
        UnknownAction, dashboard.upstream.UpstreamError
    """
    method, path, body = call_of(order)
    return upstream.call(method, path, key=key, json=body) if body else upstream.call(method, path, key=key)
