"""When to retry: pure arithmetic, without sleeping."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How long and how often to try again.

    A refusal with ``Retry-After`` is retried for as long as the call's timeout allows. An outage is retried for
    ``patience`` seconds only, since usually the address is wrong.

    Attributes:
        first: seconds before the first retry, about.
        most: the longest pause without a Retry-After, in seconds.
        patience: seconds of uninterrupted outage until the call fails.
        attempts: how often a call is sent at most; None for no limit.
    """

    first: float = 0.2
    most: float = 5.0
    patience: float = 10.0
    attempts: int | None = None

    def pause(self, attempt: int, retry_after: float | None = None) -> float:
        """Seconds to wait after failure number ``attempt``, counted from 0.

        Random, so that clients that failed together do not come back together; never shorter than ``retry_after``.
        """
        if retry_after is not None:
            return retry_after * random.uniform(1.0, 1.25)  # noqa: S311 - no secret
        longest = min(self.most, self.first * 2.0 ** min(attempt, 30))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311


def retry_after(text: str | None, now: datetime | None = None) -> float | None:
    """Seconds from a ``Retry-After`` header, which holds seconds or an HTTP date; None when it holds neither."""
    if not text:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        then = parsedate_to_datetime(text)
    except ValueError:
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return max(0.0, (then - (now or datetime.now(UTC))).total_seconds())


@dataclass(frozen=True, slots=True)
class CallLimits:
    """How long a call may go on: until ``until`` (``time.monotonic`` seconds), retrying as ``retries`` says."""

    until: float
    retries: Retries

    @classmethod
    def within(cls, seconds: float, retries: Retries) -> CallLimits:
        """Limits that end ``seconds`` from now."""
        return cls(time.monotonic() + seconds, retries)

    def left(self) -> float:
        """Seconds that are left; 0 when there are none."""
        return max(0.0, self.until - time.monotonic())


#: Send once: for calls that must not be repeated, and for measuring.
ONCE = Retries(attempts=1)
