"""The address of the API, and how calls to it are made: what both clients share."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Any

import httpx

from inferlane.exchange import CallLimits
from inferlane.retries import Retries

DEFAULT_URL = "http://127.0.0.1:8000"
AGENT = "inferlane-client"


def is_loopback(url: str) -> bool:
    """Whether ``url`` can only be reached from this host."""
    host = httpx.URL(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """The address of the API, and how calls to it are made.

    Attributes:
        timeout: seconds one call of a client may take in all, retries and waiting included.
        retries: when to try again within that.
    """

    url: str = DEFAULT_URL
    api_key: str | None = field(default=None, repr=False)
    timeout: float = 60.0
    retries: Retries = field(default_factory=Retries)

    def __post_init__(self) -> None:
        try:
            url = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise ValueError(f"{self.url!r} is no URL: {error}") from None
        if url.scheme not in {"http", "https"} or not url.host:
            raise ValueError(
                f"{self.url!r} is no URL of an API: it must begin with http:// or https:// and name a host"
            )

    def arguments(self) -> dict[str, Any]:
        """Arguments for ``httpx.Client`` and ``httpx.AsyncClient``."""
        headers = {"User-Agent": AGENT, "Accept": "application/json, */*;q=0.5"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        # No proxy leads to this host; over TLS the environment may name its certificates.
        trust_env = self.url.startswith("https:") or not is_loopback(self.url)
        return {"base_url": self.url, "headers": headers, "limits": limits, "trust_env": trust_env}

    def limits(self, timeout: float | None = None) -> CallLimits:
        """The limits of a call that begins now."""
        return CallLimits.within(self.timeout if timeout is None else timeout, self.retries)
