"""The way to the API: HTTP with short timeouts; every failure is an :class:`ApiError`."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

import httpx

#: Seconds. The API gives up on Redis within one.
TIMEOUT = 3.0


class ApiError(Exception):
    """The API refused, failed or did not answer.

    Attributes:
        state: for the page: api_down, api_slow, redis_down, login or api_error.
        status: the HTTP status of the page's answer.
        code: the code of the API's problem document.
    """

    def __init__(self, detail: str, state: str = "api_error", status: int = 502, code: str | None = None) -> None:
        super().__init__(detail)
        self.state, self.status, self.code = state, status, code


class ApiClient:
    """The API at ``base_url``, called without a key. Threads may share it."""

    def __init__(self, base_url: str, *, transport: httpx.BaseTransport | None = None) -> None:
        self.base_url = base_url
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=32)
        self._http = httpx.Client(
            base_url=base_url, timeout=TIMEOUT, limits=limits, transport=transport, trust_env=False
        )
        self.key = ""

    def with_key(self, key: str) -> ApiClient:
        """The same API, called with this key; an empty key is none."""
        bound = copy(self)
        bound.key = key
        return bound

    def call(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> httpx.Response:
        """A successful response; ``options`` are those of :meth:`httpx.Client.request`.

        Raises:
            ApiError: no response in time, or one of 400 or more.
        """
        authorization = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        try:
            response = self._http.request(method, path, headers={**(headers or {}), **authorization}, **options)
        except httpx.TimeoutException as error:
            raise ApiError(
                f"no answer from {self.base_url} within {options.get('timeout', TIMEOUT):g} s", "api_slow", 504
            ) from error
        except httpx.TransportError as error:
            raise ApiError(f"{self.base_url} does not answer: {error}", "api_down", 503) from error
        if response.status_code >= 400:
            raise _refusal(response)
        return response

    def get(self, path: str, **params: Any) -> Any:
        """The JSON document at ``path``; raises ApiError as :meth:`call` does."""
        response = self.call("GET", path, params=params)
        try:
            return response.json()
        except ValueError as error:
            raise ApiError(f"{self.base_url}{path} answered with something other than JSON") from error


def _refusal(response: httpx.Response) -> ApiError:
    try:
        document = response.json()
    except ValueError:
        document = None
    problem = document if isinstance(document, dict) else {}
    detail = problem.get("detail") or problem.get("title") or "no reason given"
    code = problem.get("code")
    if response.status_code in {401, 403}:
        state = "login"
    else:
        state = "redis_down" if code == "broker_unavailable" else "api_error"
    return ApiError(str(detail), state, response.status_code, code)
