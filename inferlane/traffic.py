"""The load generator: many requests at a chosen rate or by a number of users, and their latencies and errors.

In an *open* load (:func:`arrivals`, :func:`bursts`) requests start at their times, whether or not earlier ones have
been answered, and latency counts from those times: a client that waits for slow answers before it sends more hides the
slowness ("coordinated omission"). In a *closed* load (:func:`users`) each user waits for an answer before asking again.
"""

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat

from inferlane.answers import Result
from inferlane.clients import AsyncClient
from inferlane.errors import ClientError
from inferlane.images import Upload
from inferlane.operations import Parameters


def arrivals(rate: float, duration: float, rng: random.Random) -> Iterator[float]:
    """Times in seconds from 0 of a Poisson process of ``rate`` per second, as of independent users."""
    at = rng.expovariate(rate)
    while at < duration:
        yield at
        at += rng.expovariate(rate)


def bursts(size: int, interval: float, total: int) -> Iterator[float]:
    """Times in seconds from 0 of ``total`` requests, ``size`` at once every ``interval`` seconds."""
    for number in range(total):
        yield number // size * interval


def users(total: int) -> Iterator[None]:
    """``total`` requests without a time: each starts when fewer than the limit are in flight."""
    return repeat(None, total)


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest of the ``ordered`` values that at least ``share`` (0 to 1) of them do not exceed."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True)
class Shot:
    """One request; ``judge`` returns the error code for a wrong answer, empty for a right one."""

    upload: Upload
    parameters: Parameters
    judge: Callable[[Result], str] = lambda _result: ""


@dataclass(frozen=True, slots=True)
class Ended:
    """How one request ended: ``latency`` in seconds from when it should have started, and an error code or nothing."""

    shot: Shot
    latency: float
    code: str = ""
    result: Result | None = None


@dataclass(slots=True)
class Account:
    """The outcome of a load.

    Attributes:
        latencies: seconds from when a request should have started to its right answer.
        errors: how many ended with which error code.
        unsent: how many were not sent, because ``in_flight`` were in flight already.
    """

    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    unsent: int = 0
    elapsed: float = 0.0

    def add(self, ended: Ended) -> None:
        """Count one request."""
        if ended.code:
            self.errors[ended.code] += 1
        else:
            self.latencies.append(ended.latency)

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
    client: AsyncClient, shots: Iterable[Shot], times: Iterable[float | None], *, in_flight: int,
    on_end: Callable[[Account, Ended | None], None] = lambda _account, _ended: None,
) -> Account:  # fmt: skip
    """Send ``shots`` at ``times`` (seconds from now, or None); returns when all have ended.

    Args:
        client: sends them.
        shots: one for each time; the load ends early when they do.
        times: when each should start; None as soon as fewer than ``in_flight`` are in flight.
        in_flight: the limit; above it, a request whose time has come is not sent.
        on_end: called after each request with the account so far; with None for one that was not sent.
    """
    account, running, began = Account(), set[asyncio.Task[None]](), time.monotonic()

    async def one(shot: Shot, at: float) -> None:
        try:
            result = await client.predict(shot.upload.data, **shot.parameters)
            code = shot.judge(result)
        except ClientError as error:
            code, result = error.code, None
        ended = Ended(shot, time.monotonic() - began - at, code, result)
        account.add(ended)
        on_end(account, ended)

    source = iter(shots)
    for at in times:
        if not await _turn(at, began, running, in_flight):
            account.unsent += 1
            on_end(account, None)
            continue
        if (shot := next(source, None)) is None:
            break
        task = asyncio.create_task(one(shot, time.monotonic() - began if at is None else at))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    account.elapsed = time.monotonic() - began
    return account


async def _turn(at: float | None, began: float, running: set[asyncio.Task[None]], in_flight: int) -> bool:
    """Wait until a request may start; whether it may at all."""
    if at is not None:
        await asyncio.sleep(max(0.0, began + at - time.monotonic()))
        return len(running) < in_flight
    while len(running) >= in_flight:
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    return True
