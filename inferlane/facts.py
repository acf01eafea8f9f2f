"""What an installation says about itself over HTTP, gathered once for the checks of ``doctor``."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from inferlane.clients import Client
from inferlane.errors import ClientError
from inferlane.exchange import exchange
from inferlane.flow import Call

INSIDE = "inside"
PATHS: Mapping[str, str] = {
    "readiness": "/readyz",
    "health": "/health",
    "workers": "/workers/status",
    "dead_letters": "/dead_letters",
    INSIDE: "/admin/doctor",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the API said.

    Attributes:
        round_trip: seconds that ``/livez`` took.
        ahead: seconds by which the API's clock is ahead of ours, exact to about one; None when it did not tell.
        documents: what could be had, by the names of :data:`PATHS`.
        errors: why the rest could not.
    """

    url: str
    has_key: bool = False
    round_trip: float = 0.0
    ahead: float | None = None
    documents: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    errors: Mapping[str, ClientError] = field(default_factory=dict)

    @property
    def local(self) -> bool:
        """Whether the API is on a loopback address."""
        host = httpx.URL(self.url).host
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


def gather(client: Client) -> Facts:
    """Ask for everything.

    Raises:
        ClientError: not even ``/livez`` is answered.
    """
    began = time.monotonic()
    alive = client.transport.run(exchange(lambda: Call(method="GET", path="/livez"), client.transport.limits()))
    took = time.monotonic() - began
    ahead = _ahead(alive, datetime.now(UTC))
    documents: dict[str, Mapping[str, Any]] = {}
    errors: dict[str, ClientError] = {}
    for name, path in PATHS.items():
        try:
            documents[name] = client.document(path, accept={503} if name in {"readiness", "health"} else ())
        except ClientError as error:
            errors[name] = error
    address = client.address
    return Facts(
        url=address.url, has_key=bool(address.api_key), round_trip=took, ahead=ahead, documents=documents, errors=errors
    )


def _ahead(answer: httpx.Response, now: datetime) -> float | None:
    try:
        date = parsedate_to_datetime(answer.headers["Date"])
    except (KeyError, ValueError):
        return None
    return (date - now).total_seconds()
