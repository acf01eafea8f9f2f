"""The RSGI application around a WSGI one: the event loop reads bodies, within bounds of time, number and memory.

A thread that reads a body waits for its sender, so as many slow senders as threads would block a process. Here a
request gets a thread once its body is complete. Probes have dedicated threads.
"""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus
from itertools import chain
from typing import Any

#: Bodies up to this size are read at once and bounded by number only; larger ones piece by piece, and by their bytes.
SMALL = 256 * 1024
#: Seconds for a small body to arrive.
SMALL_TIMEOUT = 30.0
#: A larger body must bring so many bytes, or its end, in each period of so many seconds.
WINDOW, LEAST = 10.0, 64 * 1024
#: Bodies that are read at a time.
READERS = 512
#: Seconds that a large body waits for memory, and in which the rest of a refused body is read.
MEMORY_TIMEOUT = DISCARD_TIMEOUT = 5.0
#: Seconds for the client to take each piece of a streamed answer.
WRITE_TIMEOUT = 30.0
#: Answered on the loop itself: it waits for nothing.
LIVENESS = "/livez"
#: Answered from dedicated threads.
PROBES = frozenset({"/readyz", "/health"})

Environ = dict[str, Any]
#: Whether a large body should be read: it has a valid key, and its route exists.
Admits = Callable[[Environ], Awaitable[bool]]


class BodyRefused(Exception):
    """The answer to a request whose body is refused; :meth:`problem` makes one."""

    def __init__(self, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        super().__init__(status)
        self.status, self.headers, self.body = status, headers, body

    @classmethod
    def problem(cls, status: int, code: str, detail: str) -> BodyRefused:
        """A problem document, after which the connection is closed."""
        known = HTTPStatus(status)
        document = {
            "type": f"/problems/{code}", "title": known.phrase, "status": status, "detail": detail, "code": code,
            "retryable": known in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.SERVICE_UNAVAILABLE},
        }  # fmt: skip
        headers = [("content-type", "application/problem+json"), ("connection", "close")]
        if known == HTTPStatus.SERVICE_UNAVAILABLE:
            headers.append(("retry-after", "1"))
        return cls(status, headers, json.dumps(document).encode())


#: Called before a body is read: the refusal, if the request line and the headers suffice for one.
Refuses = Callable[[Environ], Awaitable[BodyRefused | None]]


async def _refuses_none(_environ: Environ) -> None:
    return None


async def _admits_all(_environ: Environ) -> bool:
    return True


class Front:
    """An RSGI application around a WSGI one.

    Args:
        application: WSGI, called from threads.
        threads: how many.
        most: bytes of the largest body; a larger one is left to the application, which refuses it.
        memory: bytes that large bodies may hold together, until they are answered.
        admits: asked before a large body is read, or one whose sender waits for ``100 Continue``.
        refuses: asked before any body is read.
        containers: lists and objects that a large JSON body may have.
        pages: paths whose GET is CPU-bound; two are answered at a time, so that they leave the interpreter to others.
    """

    def __init__(
        self, application: Callable[..., Iterable[bytes]], *, threads: int, most: int, memory: int,
        admits: Admits = _admits_all, refuses: Refuses = _refuses_none, containers: int = 100_000,
        pages: frozenset[str] = frozenset(),
    ) -> None:  # fmt: skip
        self._application, self._refuses = application, refuses
        self._most, self._memory, self._admits, self._containers = most, memory, admits, containers
        self._threads = ThreadPoolExecutor(threads, "request")
        self._probe_threads = ThreadPoolExecutor(2, "probe")
        self._page_threads = ThreadPoolExecutor(2, "page")
        self._pages = pages
        self._readers = self._held = 0

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        """Answer one request."""
        environ = environ_of(scope)
        held = 0
        try:
            body, held = await self._body(environ, proto)
            environ["wsgi.input"] = io.BytesIO(body or b"")
            call = WsgiCall(self._application, environ, proto, asyncio.get_running_loop(), closes=body is None)
            await self._run(call, environ)
            call.answer()
        except BodyRefused as refusal:
            proto.response_bytes(refusal.status, refusal.headers, refusal.body)
            body = None
        finally:
            self._held -= held
        if body is None:
            await self._discard(environ, proto)

    async def _run(self, call: WsgiCall, environ: Environ) -> None:
        path = environ["PATH_INFO"]
        if path == LIVENESS:
            call()
            return
        is_page = path in self._pages and environ["REQUEST_METHOD"] == "GET"
        pool = self._probe_threads if path in PROBES else self._page_threads if is_page else self._threads
        await asyncio.get_running_loop().run_in_executor(pool, call)

    async def _body(self, environ: Environ, proto: Any) -> tuple[bytes | None, int]:
        """The body, None when the application will refuse it, and how many bytes it holds of the memory for large ones.

        Raises:
            BodyRefused: the call is refused, there are too many bodies, it is too slow, or there is no memory for it.
        """
        length = environ.get("CONTENT_LENGTH")
        size = int(length) if length is not None and length.isdigit() else None
        if size == 0 or (length is None and "HTTP_TRANSFER_ENCODING" not in environ):
            return b"", 0
        if size is not None and size > self._most:
            return None, 0
        if refusal := await self._refuses(environ):
            raise refusal
        if self._readers >= READERS:
            raise BodyRefused.problem(
                503, "too_many_bodies", f"{READERS} other bodies are being read; come back in a second."
            )
        self._readers += 1
        try:
            if size is not None and size <= SMALL and "HTTP_EXPECT" not in environ:
                async with asyncio.timeout(SMALL_TIMEOUT):
                    return bytes(await proto()), 0
            if not await self._admits(environ):
                return None, 0
            is_json = "json" in environ.get("CONTENT_TYPE", "")
            body = await self._large(proto, self._containers if is_json else sys.maxsize)
            return body, len(body)
        except TimeoutError:
            raise BodyRefused.problem(408, "body_timeout", "The body came too slowly.") from None
        finally:
            self._readers -= 1

    async def _discard(self, environ: Environ, proto: Any) -> None:
        """Read the rest of a refused body, once it has been answered.

        Unread data resets the connection, and the answer can be lost with it. A sender that has waited for ``100
        Continue`` has sent nothing.
        """
        if "HTTP_EXPECT" in environ:
            return
        left = self._most
        with suppress(Exception):  # the sender may be gone, or slow
            async with asyncio.timeout(DISCARD_TIMEOUT):
                if int(environ.get("CONTENT_LENGTH", SMALL + 1)) <= SMALL:
                    await proto()
                    return
                async for piece in proto:
                    left -= len(piece)
                    if left < 0:
                        return

    async def _large(self, proto: Any, containers: int) -> bytes:
        """A large body, whose bytes count as held until it is answered."""
        body, brackets, got = bytearray(), 0, 0
        try:
            async with asyncio.timeout(WINDOW) as window:
                async for piece in proto:
                    brackets += piece.count(b"[") + piece.count(b"{")
                    self._check(len(body) + len(piece), brackets, containers)
                    waited = await self._reserve(len(piece))
                    body += piece
                    got += len(piece)
                    if waited or got >= LEAST:
                        window.reschedule(asyncio.get_running_loop().time() + WINDOW)
                        got = 0
            return bytes(body)
        except BaseException:
            self._held -= len(body)
            raise

    def _check(self, size: int, brackets: int, containers: int) -> None:
        if size > self._most:
            raise BodyRefused.problem(413, "body_too_large", f"The body has more than {self._most} bytes.")
        if brackets > containers:
            raise BodyRefused.problem(400, "invalid_json", f"The JSON has more than {containers} lists and objects.")

    async def _reserve(self, size: int) -> bool:
        """Wait for memory for another piece; whether it had to wait."""
        deadline = asyncio.get_running_loop().time() + MEMORY_TIMEOUT
        waited = False
        while self._held + size > self._memory:
            if asyncio.get_running_loop().time() > deadline:
                raise BodyRefused.problem(503, "too_many_bodies", "Other bodies hold all the memory for bodies.")
            await asyncio.sleep(0.05)
            waited = True
        self._held += size
        return waited


class WsgiCall:
    """One call of the WSGI application, from a thread.

    An answer in one piece is kept for :meth:`answer`, which the loop calls. One in several is streamed from the thread,
    which waits until the client has taken each piece.
    """

    def __init__(
        self, application: Callable[..., Iterable[bytes]], environ: Environ, proto: Any,
        loop: asyncio.AbstractEventLoop, *, closes: bool,
    ) -> None:  # fmt: skip
        self._application, self._environ, self._proto, self._loop = application, environ, proto, loop
        self._closing = [("connection", "close")] if closes else []
        self._status = 500
        self._headers: list[tuple[str, str]] = []
        self._body: bytes | None = b""

    def __call__(self) -> None:
        """Run the application."""
        found = self._application(self._environ, self._start)
        try:
            if isinstance(found, list):
                self._body = b"".join(found)
                return
            pieces = iter(found)
            first, second = next(pieces, b""), next(pieces, None)
            if second is None:
                self._body = first
                return
            self._body = None
            self._stream(chain((first, second), pieces))
        finally:
            if hasattr(found, "close"):
                found.close()

    def _start(self, status: str, headers: list[tuple[str, str]], _error: Any = None) -> None:
        self._status = int(status.split(" ", 1)[0])
        self._headers = [(name.lower(), value) for name, value in headers] + self._closing

    def answer(self) -> None:
        """Send the answer, unless it has been streamed."""
        if self._body is None:
            return
        if self._environ["REQUEST_METHOD"] == "HEAD" or not self._body:
            self._proto.response_empty(self._status, self._headers)
        else:
            self._proto.response_bytes(self._status, self._headers, self._body)

    def _stream(self, pieces: Iterable[bytes]) -> None:
        transport = self._proto.response_stream(self._status, self._headers)

        async def send(piece: bytes) -> None:
            await transport.send_bytes(piece)

        for piece in pieces:
            asyncio.run_coroutine_threadsafe(send(piece), self._loop).result(WRITE_TIMEOUT)


_BASE: Mapping[str, Any] = {
    "SCRIPT_NAME": "", "SERVER_SOFTWARE": "Granian", "wsgi.errors": sys.stderr, "wsgi.input_terminated": True,
    "wsgi.multiprocess": False, "wsgi.multithread": True, "wsgi.run_once": False, "wsgi.version": (1, 0),
}  # fmt: skip


def environ_of(scope: Any) -> Environ:
    """The WSGI environment of a request, without its body (PEP 3333)."""
    host, _, port = scope.server.rpartition(":")
    environ: Environ = {
        **_BASE, "REQUEST_METHOD": scope.method, "PATH_INFO": scope.path.encode().decode("latin-1"),
        "QUERY_STRING": scope.query_string, "SERVER_NAME": host, "SERVER_PORT": port,
        "REMOTE_ADDR": scope.client.rpartition(":")[0].strip("[]"), "SERVER_PROTOCOL": f"HTTP/{scope.http_version}",
        "wsgi.url_scheme": scope.scheme,
    }  # fmt: skip
    for name, value in scope.headers.items():
        key = f"HTTP_{name.upper().replace('-', '_')}"
        environ[key] = f"{environ[key]}{'; ' if name == 'cookie' else ','}{value}" if key in environ else value
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if f"HTTP_{name}" in environ:
            environ[name] = environ.pop(f"HTTP_{name}")
    return environ
