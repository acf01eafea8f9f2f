"""Redis clients for the three ways this project talks to Redis, and the one translation of its errors.

* :func:`prompt`: for answering people; gives up within a second, so the API can say 503 in time.
* :func:`patient`: for finishing accepted work; waits an outage out, because every script is safe to repeat.
* :func:`blocking`: for blocking reads; its socket outlives the longest block.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from tasks.errors import Unavailable

#: A redis-py client whose replies are bytes; redis-py's own annotations leave every reply ``bytes | str``.
Client = Any

#: Conditions of the server that end without anybody changing the call.
PASSING = (OutOfMemoryError, ReadOnlyError)
PASSING_CODES = re.compile(r"(^|-)(OOM|LOADING|BUSY|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|MISCONF)\b")

#: Seconds within which a prompt client has an answer or gives up.
PROMPT = 0.8
#: A patient client asks about twice a second for this many times: longer than any outage a supervisor would sit out.
PATIENCE = 1200


def prompt(url: str) -> Client:
    """A client that fails within a second; one immediate repeat covers connections that a restart has closed."""
    retry = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
    return redis.Redis.from_url(url, socket_timeout=PROMPT, socket_connect_timeout=PROMPT, retry=retry)


def patient(url: str) -> Client:
    """A client that repeats a command until Redis is back; use it only for commands that may run twice."""
    retry = Retry(ExponentialBackoff(cap=0.5, base=0.02), PATIENCE)
    return redis.Redis.from_url(url, socket_timeout=5.0, socket_connect_timeout=1.0, retry=retry)


def blocking(url: str, longest: float) -> Client:
    """A client for reads that block up to ``longest`` seconds; a connection silent for longer is given up."""
    retry = Retry(NoBackoff(), 0)
    return redis.Redis.from_url(url, socket_timeout=longest + 2.0, socket_connect_timeout=1.0, retry=retry)


@contextmanager
def translated() -> Iterator[None]:
    """Turn redis-py's errors into :class:`tasks.errors.Unavailable`; a script's own error stays what it is."""
    try:
        yield
    except (RedisConnectionError, RedisTimeoutError) as error:
        raise Unavailable(f"Redis does not answer: {error}") from error
    except PASSING as error:
        raise Unavailable(f"Redis cannot take this now: {error}") from error
    except ResponseError as error:
        if not PASSING_CODES.search(str(error)):
            raise
        raise Unavailable(f"Redis cannot take this now: {error}") from error
    except RedisError as error:
        raise Unavailable(f"Redis failed: {error}") from error
