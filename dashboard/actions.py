"""An operator's orders from the page: each verb is one call of the API, which decides and logs it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from string import Formatter
from typing import Any
from urllib.parse import quote

import httpx

from dashboard.api_client import ApiClient, ApiError

#: Verb -> method and path; the names in braces are members of the order.
ACTIONS: Mapping[str, tuple[str, str]] = {
    "pause": ("POST", "/admin/lanes/{lane}/pause"),
    "resume": ("POST", "/admin/lanes/{lane}/resume"),
    "purge": ("POST", "/admin/lanes/{lane}/purge"),
    "drain": ("POST", "/admin/workers/{worker}/drain"),
    "undrain": ("POST", "/admin/workers/{worker}/resume"),
    "restart": ("POST", "/admin/workers/{worker}/restart"),
    "chaos": ("POST", "/admin/workers/{worker}/chaos"),
    "scale": ("POST", "/admin/models/{model}/scale"),
    "cancel": ("POST", "/inference/{id}/cancel"),
    "requeue": ("POST", "/dead_letters/{id}/requeue"),
    "delete": ("DELETE", "/dead_letters/{id}"),
}
#: Seconds: a purge takes longer than a read, and new workers longer still to start.
TIMEOUT = 30.0
#: Most requests of one order.
MOST_AT_ONCE = 500
#: The status with which the API refuses one of them -> why.
PASSED_OVER: Mapping[int, str] = {404: "gone", 409: "ended before", 410: "without an image"}


class UnknownAction(ValueError):
    """The verb does not exist, or a member that it needs is missing."""


def path_segment(value: Any, name: str = "name") -> str:
    """``value``, quoted so that it cannot leave its segment of a path; UnknownAction if it names nothing."""
    if not isinstance(value, str) or value in {"", ".", ".."} or len(value) > 300:
        raise UnknownAction(f"this action needs a {name}")
    return quote(value, safe="@")


def call_of(order: Mapping[str, Any]) -> tuple[str, str, dict[str, Any] | None]:
    """Method, path and JSON body for an order of the page; UnknownAction if it has no such verb or lacks a member."""
    verb = order.get("verb")
    if not isinstance(verb, str) or verb not in ACTIONS:
        raise UnknownAction("there is no such action")
    method, template = ACTIONS[verb]
    names = [name for _, name, _, _ in Formatter().parse(template) if name]
    # Ids of the page are those of its rows, owner/id, or what a person typed.
    key = order.get("id")
    owner, _, public = key.rpartition("/") if isinstance(key, str) else ("", "", key)
    given = {**order, "id": public}
    path = template.format(**{name: path_segment(given.get(name), name) for name in names})
    return method, f"{path}?owner={quote(owner)}" if owner else path, _body(verb, order)


def _body(verb: str, order: Mapping[str, Any]) -> dict[str, Any] | None:
    if verb == "purge":
        return {"confirm": order.get("typed")}
    if verb == "scale":
        return {"workers": int(_number(order.get("workers"), "workers"))}
    if verb == "chaos":
        numbers = {name: _number(order[name], name) for name in ("seconds", "rate") if order.get(name) is not None}
        return {"mode": path_segment(order.get("mode"), "mode"), **numbers}
    return None


def _number(value: Any, name: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise UnknownAction(f"{name} must be a number")
    return number


def perform(api: ApiClient, order: Mapping[str, Any]) -> httpx.Response:
    """Send the call of an order; raises UnknownAction or ApiError."""
    method, path, body = call_of(order)
    return api.call(method, path, timeout=TIMEOUT, **({"json": body} if body else {}))


def perform_for_each(api: ApiClient, order: Mapping[str, Any]) -> dict[str, Any]:
    """Send the call of an order for each of its ``ids``; counts what was done and, by reason, what the API refused.

    Raises:
        UnknownAction: there are too many ids, or none.
        ApiError: the API refuses all of it.
    """
    ids = order.get("ids")
    if not isinstance(ids, list) or not 0 < len(ids) <= MOST_AT_ONCE:
        raise UnknownAction(f"ids must be a list of 1 to {MOST_AT_ONCE} requests")
    orders = [{**order, "id": each} for each in ids]
    for each in orders:
        call_of(each)
    refused = Counter(why for each in orders if (why := _refusal(api, each)))
    return {"done": len(ids) - refused.total(), "refused": refused}


def _refusal(api: ApiClient, order: Mapping[str, Any]) -> str:
    """Why the API did not do it; empty when it did."""
    try:
        perform(api, order)
    except ApiError as error:
        if error.status not in PASSED_OVER:
            raise
        return PASSED_OVER[error.status]
    return ""
