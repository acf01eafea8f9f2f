"""The way to the API: HTTP with short timeouts, and every way it can fail as one of two errors.

::

    UpstreamError
    ├── Unreachable   no answer: refused, reset, or too late      api_down | api_slow
    └── Refused       an answer that is an error                  redis_down | login | api_error
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Seconds: the API itself gives up on Redis within one, so whoever takes longer is in trouble.
TIMEOUT = 3.0


class UpstreamError(Exception):
    """The API did not do what it was asked; ``state`` is what the page shows then."""

    state = "api_error"
    status = 502


class Unreachable(UpstreamError):
    """No answer came."""

    state = "api_down"
    status = 503


class TooSlow(Unreachable):
    """No answer came in time."""

    state = "api_slow"
    status = 504


class Refused(UpstreamError):
    """The API answered with an error; ``problem`` is its problem document."""

    def __init__(self, problem: Mapping[str, Any]) -> None:
        super().__init__(str(problem.get("detail") or problem.get("title") or "no reason given"))
        self.problem = dict(problem)
        self.status = int(problem.get("status", 502))
        self.state = _state(self.status, str(problem.get("code", "")))


def _state(status: int, code: str) -> str:
    if status in {401, 403}:
        return "login"
    return "redis_down" if code == "broker_unavailable" else "api_error"


@dataclass(frozen=True, slots=True)
class Answer:
    """A success."""

    status: int
    body: Any
    content: bytes = b""
    media_type: str = ""


class Upstream:
    """The API at ``base_url``. One per process; threads may share it."""

    def __init__(self, base_url: str, *, transport: httpx.BaseTransport | None = None) -> None:
        self.base_url = base_url
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=32)
        self._client = httpx.Client(
            base_url=base_url, timeout=TIMEOUT, limits=limits, transport=transport, trust_env=False
        )

    def call(
        self,
        method: str,
        path: str,
        *,
        key: str = "",
        timeout: float = TIMEOUT,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Answer:
        """Ask the API.

        Args:
            method: HTTP method.
            path: path and query below the API's root.
            key: API key to present; empty presents none.
            timeout: seconds.
            headers: further request headers.
            more: what :meth:`httpx.Client.request` takes: ``json``, ``content``, ``params``.

        Raises:
            Unreachable, TooSlow: no answer.
            Refused: an answer of 400 or more.
        """
        sent = {**(headers or {}), **({"Authorization": f"Bearer {key}"} if key else {})}
        try:
            response = self._client.request(method, path, headers=sent, timeout=timeout, **more)
        except httpx.TimeoutException as error:
            raise TooSlow(f"no answer from {self.base_url} within {timeout:g} s") from error
        except httpx.TransportError as error:
            raise Unreachable(f"{self.base_url} does not answer: {error}") from error
        body = _body(response)
        if response.status_code >= 400:
            raise Refused({"status": response.status_code, **(body if isinstance(body, dict) else {})})
        media_type = response.headers.get("Content-Type", "")
        return Answer(response.status_code, body, response.content if body is None else b"", media_type)


def _body(response: httpx.Response) -> Any:
    if "json" not in response.headers.get("Content-Type", ""):
        return None
    try:
        return response.json()
    except ValueError:
        return None
