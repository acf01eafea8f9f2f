"""``RATE_LIMIT``: calls per caller, counted in Redis for all API processes."""

from __future__ import annotations

from pathlib import Path

from flask import g, request

from api.http.api_keys import ApiKey
from api.http.correlation import add_headers
from api.http.problems import HttpProblem, wrong_value
from api.services import app_settings, service
from common.settings import Settings
from tasks.protocol.connections import prompt, translated


class Budgets:
    """Budgets of callers, by the generic cell rate algorithm."""

    def __init__(self, settings: Settings) -> None:
        self._redis = prompt(settings.redis_url)
        self._prefix = f"{settings.key_prefix}api:budget:"
        self._spend = self._redis.register_script((Path(__file__).parent / "spend.lua").read_text())

    def spend(self, who: str, calls: int, seconds: float, cost: int = 1) -> tuple[int, float]:
        """Take ``cost`` calls from the budget of ``who``: ``calls`` in any ``seconds``. All of them or none.

        Returns the calls that are left and the seconds until the budget is full again; or, when these are refused, -1
        and the seconds until as many are allowed. Raises BrokerUnavailable when Redis does not answer.
        """
        with translated():
            left, after = self._spend(keys=[self._prefix + who], args=[calls, seconds, cost])
        return int(left), float(after)


def spend_call(caller: ApiKey | None) -> None:
    """Take one call from the caller's budget, if there is a limit."""
    limit = app_settings().rate_limit
    if limit is None:
        return
    g.spender = f"key:{caller.name}" if caller else f"address:{request.remote_addr}"
    _spend(1, *limit)


def spend_items(count: int) -> None:
    """Charge a call with ``count`` images as ``count`` calls; one is charged already.

    Raises:
        HttpProblem: ``rate_limited``, nothing more is taken; or ``invalid_parameters`` if it exceeds the limit itself.
    """
    limit = app_settings().rate_limit
    if limit is None or count < 2:
        return
    calls, seconds = limit
    if count > calls:
        detail = f"must have at most {calls} items: RATE_LIMIT allows {calls} in {seconds:g} s"
        raise wrong_value("requests", detail, "Too many items.")
    _spend(count - 1, calls, seconds)


def _spend(cost: int, calls: int, seconds: float) -> None:
    left, after = service(Budgets).spend(g.spender, calls, seconds, cost)
    if left >= 0 or cost == 1:  # some may be left when too few are
        budget = f'"default";r={max(left, 0)};t={after:.0f}'
        add_headers({"RateLimit": budget, "RateLimit-Policy": f'"default";q={calls};w={seconds:.0f}'})
    if left < 0:
        detail = f"{g.spender.partition(':')[0]} limit: {calls} calls in {seconds:g} s."
        raise HttpProblem("rate_limited", detail, retry_after=after).standing(after if cost == 1 else 0.0)
