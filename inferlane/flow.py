"""One logic for both clients: a *flow* is a generator that yields steps and gets back what came of each.

The steps are below; :mod:`inferlane.transport` performs them with an ``httpx.Client`` or ``httpx.AsyncClient``. Flows
never sleep or send by themselves, so every retry rule can be tested without a network.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

import httpx

from inferlane.images import Source

T = TypeVar("T")
CONNECT_TIMEOUT = 5.0  # seconds; a running host answers a SYN at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Send an HTTP request; gives the ``httpx.Response``.

    Attributes:
        path: below the API's root.
        params: the query.
        content: a raw body.
        json: a body to send as JSON.
        files: a multipart body: ``(field, (name, bytes, media type))`` each.
        form: the text fields of that multipart body.
        wait: seconds that the API is asked to wait (``Prefer: wait``).
        timeout: seconds without a byte after which the call fails.
        stream: whether the answer stays open for :class:`Read`.
    """

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    json: Any = None
    files: Sequence[tuple[str, tuple[str, bytes, str]]] = ()
    form: Mapping[str, Any] = field(default_factory=dict)
    wait: float = 0.0
    timeout: float = 10.0
    stream: bool = False

    def arguments(self) -> dict[str, Any]:
        """The arguments for ``httpx.Client.build_request``."""
        given: dict[str, Any] = {"method": self.method, "url": self.path, "headers": dict(self.headers)}
        given["timeout"] = httpx.Timeout(self.timeout, connect=min(CONNECT_TIMEOUT, self.timeout), pool=None)
        if self.params:
            given["params"] = dict(self.params)
        if self.content is not None:
            given["content"] = self.content
        if self.json is not None:
            given["json"] = self.json
        if self.files:
            given |= {"files": list(self.files), "data": dict(self.form)}
        return given


@dataclass(frozen=True, slots=True)
class Pause:
    """Let this many seconds pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Load:
    """Read images into memory; gives a list of :class:`~inferlane.images.Upload`."""

    sources: Sequence[Source]


@dataclass(frozen=True, slots=True)
class Read:
    """Gives the next bytes of the last call's open answer, None at its end."""


@dataclass(frozen=True, slots=True)
class Item(Generic[T]):
    """Pass a value on to the caller; only a :data:`Stream` yields it."""

    value: T


Step: TypeAlias = Call | Pause | Load | Read
Flow: TypeAlias = Generator[Step, Any, T]
Stream: TypeAlias = Generator[Step | Item[T], Any, None]
