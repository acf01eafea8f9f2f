"""Load: many requests at a chosen rate, and an honest account of what came back.

The load is *open*: requests start when their time has come, whether or not earlier ones have been answered, and the
time of each is counted from when it should have started. A client that waits for slow answers before it sends more
hides exactly the slowness it was to measure ("coordinated omission").
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from client.asynchronous import AsyncClient
from client.errors import ClientError
from client.images import Upload
from client.operations import Wishes


def arrivals(rate: float, duration: float, rng: random.Random) -> Iterator[float]:
    """Times in seconds from 0 at which requests start: a Poisson process of ``rate`` per second.

    Independent users arrive like that: the gaps are exponentially distributed, so there are bursts.
    """
    at = rng.expovariate(rate)
    while at < duration:
        yield at
        at += rng.expovariate(rate)


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest of the ``ordered`` values that at least ``share`` (0 to 1) of them do not exceed."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(slots=True)
class Account:
    """What came of the requests.

    Attributes:
        latencies: seconds from when a request should have started to its answer, of those that were answered.
        errors: how many ended with which error code.
        unsent: how many were not sent, because ``in_flight`` were under way already: the load was less than asked for.
    """

    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    unsent: int = 0
    elapsed: float = 0.0

    @property
    def sent(self) -> int:
        """Requests that were sent and have ended."""
        return len(self.latencies) + self.errors.total()

    def document(self) -> dict[str, object]:
        """The account for a program; latencies in seconds, nearest-rank percentiles."""
        ordered = sorted(self.latencies)
        shares = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}
        return {
            "sent": self.sent,
            "succeeded": len(ordered),
            "errors": dict(self.errors),
            "unsent": self.unsent,
            "elapsed": round(self.elapsed, 3),
            "per_second": round(len(ordered) / self.elapsed, 3) if self.elapsed else None,
            "latency": {name: percentile(ordered, share) for name, share in shares.items()},
        }


async def drive(
    client: AsyncClient, uploads: Sequence[Upload], times: Iterator[float], wishes: Wishes, *,
    in_flight: int, on_end: Callable[[Account], None] = lambda _: None,
) -> Account:  # fmt: skip
    """Send one of ``uploads`` after the other at ``times`` (seconds from now); returns when all have ended."""
    account, running, began = Account(), set[asyncio.Task[None]](), time.monotonic()

    async def one(upload: Upload, at: float) -> None:
        try:
            await client.predict(upload.data, **wishes)
        except ClientError as error:
            account.errors[error.code] += 1
        else:
            account.latencies.append(time.monotonic() - began - at)
        on_end(account)

    for number, at in enumerate(times):
        await asyncio.sleep(max(0.0, began + at - time.monotonic()))
        if len(running) >= in_flight:
            account.unsent += 1
            continue
        task = asyncio.create_task(one(uploads[number % len(uploads)], at))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    account.elapsed = time.monotonic() - began
    return account
