"""The network between one worker and its Redis, cut and healed as a whole."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tests.support.proxy import Proxy
from tests.support.stack import Stack


class BrokenNetwork:
    """A proxy in front of a stack's Redis; ``environ`` points a worker at it."""

    def __init__(self, stack: Stack) -> None:
        self._open = ExitStack()
        self._proxies: list[Proxy] = []
        self.environ = {"REDIS_URL": self._through(stack.redis_url)}

    def _through(self, url: str) -> str:
        """The same address by way of a proxy."""
        parts = urlsplit(url)
        proxy = self._open.enter_context(Proxy(int(parts.port or 0)))
        self._proxies.append(proxy)
        return url.replace(f":{parts.port}", f":{proxy.port}")

    def cut(self, *, stall: bool) -> None:
        """Let nothing through until :meth:`heal`."""
        for proxy in self._proxies:
            proxy.cut(stall=stall)

    def heal(self) -> None:
        """Let everything through again."""
        for proxy in self._proxies:
            proxy.heal()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
