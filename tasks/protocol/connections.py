"""Redis clients for the three ways this project talks to Redis, and the one translation of its errors.

* :func:`prompt`: for answering callers; gives up within a second, so that the API can answer 503 in time.
* :func:`patient`: for finishing accepted work; outlasts an outage, because every script is safe to repeat.
* :func:`blocking`: for blocking reads; its socket outlives the longest block.

:class:`PinnedClient` sends the few commands that every request needs over a prompt or patient client's connections.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from itertools import chain
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakSet

import redis
from hiredis import pack_command
from redis import exceptions
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from common.settings import get_settings
from tasks.errors import BrokerUnavailable, Full

#: A redis-py client whose replies are bytes; redis-py's own annotations leave every reply ``bytes | str``.
Client = Any

DEMOTED = (exceptions.ReadOnlyError, exceptions.MasterDownError)
#: Errors for which redis-py has no exception, from a server that takes no writes: it was demoted during a blocking
#: call, has too few replicas, its disk is full, or a script runs for too long.
NOT_NOW = re.compile(r"(UNBLOCKED|NOREPLICAS|MISCONF|BUSY)\b")
#: Refusals that an operator has to end: a missing permission, a cluster.
REFUSALS = (
    exceptions.NoPermissionError, exceptions.AskError, exceptions.ClusterCrossSlotError, exceptions.ClusterDownError
)  # fmt: skip

#: An outage or a failover, as a client sees it.
WORTH_WAITING = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)

SENTINEL_PORT = 26379
#: Seconds within which a prompt client has an answer or gives up.
PROMPT = 0.8
#: Attempts of a patient client, about two a second: longer than any outage.
PATIENCE = 1200
#: Bytes of an argument from which its copies cost more than packing its command in Python.
LARGE = 16_384


def prompt(url: str) -> Client:
    """A client that fails within a second; one immediate repeat covers connections that a restart has closed."""
    retry = Retry(NoBackoff(), 1, supported_errors=(exceptions.ConnectionError,))
    return _connect(url, socket_timeout=PROMPT, socket_connect_timeout=PROMPT, retry=retry)


def patient(url: str) -> Client:
    """A client that repeats a command until Redis is back; use it only for commands that may run twice."""
    retry = Retry(ExponentialBackoff(cap=0.5, base=0.02), PATIENCE, supported_errors=WORTH_WAITING)
    return _connect(url, socket_timeout=5.0, socket_connect_timeout=1.0, retry=retry)


def blocking(url: str, longest: float) -> Client:
    """A client for reads that block up to ``longest`` seconds; a connection silent for longer is given up."""
    retry = Retry(NoBackoff(), 0)
    return _connect(url, socket_timeout=longest + 2.0, socket_connect_timeout=1.0, retry=retry)


def _connect(url: str, **options: Any) -> Client:
    """A client for ``redis://``, ``rediss://``, ``unix://`` or ``sentinel://a:26379;sentinel://b:26379/0``."""
    client: Client
    if url.startswith("sentinel://"):
        parts = [urlsplit(part) for part in url.split(";")]
        client = Sentinel(  # type: ignore[no-untyped-call]
            [(part.hostname or "127.0.0.1", part.port or SENTINEL_PORT) for part in parts],
            sentinel_kwargs={"socket_timeout": PROMPT, "socket_connect_timeout": PROMPT},
            db=int(parts[-1].path.strip("/") or 0),
            username=parts[0].username,
            password=parts[0].password,
            **options,
        ).master_for(get_settings().sentinel_master)
    else:
        client = redis.Redis.from_url(url, **options)
    client.connection_pool.connection_class = leaving(client.connection_pool.connection_class)
    return client


class NotNow(exceptions.ConnectionError):
    """The server answers, but takes no writes now; the connection has been closed."""


def leaving(connection_class: type[Any]) -> type[Any]:
    """The connection class, except that it disconnects from a server which takes no writes.

    Such an answer raises :class:`NotNow`, a connection error. So whatever handles a lost connection handles a demoted
    primary, and the next connection leads to the new one, also behind a proxy.
    """

    class Leaving(connection_class):  # type: ignore[misc]
        def read_response(self, *args: Any, **options: Any) -> Any:
            try:
                return super().read_response(*args, **options)
            except exceptions.ResponseError as error:
                if not isinstance(error, DEMOTED) and not NOT_NOW.match(str(error)):
                    raise
                self.disconnect()
                raise NotNow(f"it takes no writes now: {error}") from error

    return Leaving


def why(error: Exception) -> str:
    """What is wrong with Redis, in one line without passwords."""
    message = " ".join(str(error).split())
    if isinstance(error, exceptions.AuthenticationError):  # redis-py's own words are about the protocol
        return "Redis refuses us: REDIS_URL has no password, or not the right one"
    if isinstance(error, exceptions.NoPermissionError):
        return f"Redis refuses us: the user in REDIS_URL lacks a permission: {message}"
    if isinstance(error, NotNow):
        return f"Redis cannot take this now: {message}"
    return f"Redis does not answer: {message}"


def send(connection: Any, *command: Any) -> None:
    """Send a command over a redis-py connection, packed by hiredis without redis-py's look at each argument."""
    connection.send_packed_command([pack_command(command)])


class PinnedClient:
    """Commands over one connection per thread that stays open, with the client's own retries. Thread-safe.

    redis-py takes a connection out of a pool for each command, checks it, and counts it in its metrics, which costs
    twice what the command itself does (docs/performance.md).
    """

    def __init__(self, client: Client) -> None:
        self._pool = client.connection_pool
        self._retry: Any = client.get_retry() or Retry(NoBackoff(), 0)
        self._thread = threading.local()
        self._open: WeakSet[Any] = WeakSet()

    def execute_command(self, *command: Any, **options: Any) -> Any:
        """The reply to one command; a server's error is raised."""
        return self._retry.call_with_retry(lambda: self._once(command, **options), self._lost)

    def block(self, seconds: float, *command: Any) -> Any:
        """The reply to a command that blocks for up to ``seconds``."""
        return self.execute_command(*command, timeout=seconds + 2.0)

    def pipeline(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """The replies to several commands in one round trip; an unknown script's error is in the place of its reply."""
        replies = self.replies(commands)
        for reply in replies:
            if isinstance(reply, Exception) and not isinstance(reply, exceptions.NoScriptError):
                raise reply
        return replies

    def replies(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """The replies to several commands in one round trip, with a server's error in the place of its reply."""
        return list(self._retry.call_with_retry(lambda: self._all(commands), self._lost)) if commands else []

    def close(self) -> None:
        """Close every thread's connection; the next command opens a new one."""
        for connection in list(self._open):
            connection.disconnect()

    def _once(self, command: Sequence[Any], **options: Any) -> Any:
        connection = self._connection()
        send(connection, *command)
        return connection.read_response(**options)

    def _all(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        connection = self._connection()
        connection.send_packed_command([b"".join(chain.from_iterable(map(_pieces, commands)))])
        return [_reply_or_error(connection) for _ in commands]

    def _connection(self) -> Any:
        held: _Held | None = getattr(self._thread, "held", None)
        if held is None:
            # Made as by the pool, but not in it: it would keep connections of ended threads, or count them as open.
            held = self._thread.held = _Held(self._pool.connection_class(**self._pool.connection_kwargs))
            self._open.add(held.connection)
        if not held.connection.is_connected:
            held.connection.connect()  # behind a Sentinel this asks where the master is
        return held.connection

    def _lost(self, _error: Exception) -> None:
        self._thread.held.connection.disconnect()


class _Held:
    """A connection that is closed with the thread that holds it, not when the collector gets to it."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def __del__(self) -> None:
        self.connection.disconnect()


def _pieces(command: Sequence[Any]) -> list[bytes]:
    """A command as it is sent. hiredis is faster, but copies a large argument three times."""
    if not any([isinstance(argument, bytes) and len(argument) > LARGE for argument in command]):  # noqa: C419 - one call
        return [pack_command(tuple(command))]
    pieces = [b"*%d\r\n" % len(command)]
    for argument in command:
        text = argument if isinstance(argument, bytes) else str(argument).encode()
        pieces += (b"$%d\r\n" % len(text), text, b"\r\n")
    return pieces


def _reply_or_error(connection: Any) -> Any:
    try:
        return connection.read_response()
    except exceptions.ResponseError as error:
        return error


class translated:  # noqa: N801 - it is used as a function; one with a generator costs twice as many calls
    """Turn redis-py's errors into :class:`tasks.errors.BrokerUnavailable`; a script's own error stays what it is."""

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, (exceptions.ConnectionError, exceptions.TimeoutError, *REFUSALS)):
            raise BrokerUnavailable(why(error)) from error
        if isinstance(error, exceptions.OutOfMemoryError):
            raise Full(f"Redis is full: {error}") from error
        if isinstance(error, exceptions.RedisError) and not isinstance(error, exceptions.ResponseError):
            raise BrokerUnavailable(f"Redis failed: {error}") from error


def read_hash(client: Client, key: str) -> dict[str, str]:
    """A whole hash as text; raises BrokerUnavailable when Redis does not answer."""
    with translated():
        return {name.decode(): value.decode() for name, value in client.hgetall(key).items()}
