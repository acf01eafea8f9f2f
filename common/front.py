"""Front of a WSGI application: reads bodies on an event loop, within limits.

If threads read bodies, a slow sender per thread silences a process. Here a body costs no thread until it is complete:
the loop reads it, within limits of time, number and memory, and ends slow ones. Probes have dedicated threads.
"""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

#: Bodies up to this size are read at once and limited by number; larger ones piece by piece and by their bytes.
SMALL = 256 * 1024
#: Seconds for a small body to arrive.
SMALL_TIME = 30.0
#: A larger body must bring so many bytes, or its end, in each period of so many seconds.
WINDOW, LEAST = 10.0, 64 * 1024
#: Bodies that are read at a time.
READERS = 512
#: Seconds that a large body waits for memory before it is refused.
PATIENCE = 5.0
#: Seconds for the reader of a stream to take each piece.
WRITE_TIME = 30.0
#: Answered on the loop, without waiting for a thread.
LIVENESS = "/livez"
#: Answered by dedicated threads.
PROBES = frozenset({"/readyz", "/health"})

RETRYABLE = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.SERVICE_UNAVAILABLE})

Environ = dict[str, Any]
#: Whether to read a caller's large body: the caller is known and the route exists. The application refuses the rest.
Admits = Callable[[Environ], bool]


class Refused(Exception):
    """A refused body, with the status, code and detail of the answer."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail


class Front:
    """An RSGI application around a WSGI one.

    Args:
        application: WSGI, called from threads.
        threads: how many.
        most: bytes of the largest body; the application refuses larger ones.
        memory: bytes of all large bodies together, including those being answered.
        admits: asked before a large body is read.
        containers: lists and objects of a large body of JSON, refused while it is read.
        pages: paths whose GET is CPU-bound; two are answered at a time, so that they leave the interpreter to others.
    """

    def __init__(
        self, application: Callable[..., Iterable[bytes]], *, threads: int, most: int, memory: int,
        admits: Admits = lambda _environ: True, containers: int = 100_000,
        pages: frozenset[str] = frozenset(),
    ) -> None:  # fmt: skip
        self._application = application
        self._most, self._memory, self._admits, self._containers = most, memory, admits, containers
        self._threads = ThreadPoolExecutor(threads, "request")
        self._probes = ThreadPoolExecutor(2, "probe")
        self._pages = ThreadPoolExecutor(2, "page")
        self._page_paths = pages
        self._readers = 0
        self._held = 0

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        """Answer one request."""
        environ = environ_of(scope)
        held = 0
        try:
            body, held = await self._body(environ, proto)
        except Refused as refusal:
            _refuse(proto, refusal)
            return
        try:
            environ["wsgi.input"] = io.BytesIO(body or b"")
            call = Call(self._application, environ, proto, asyncio.get_running_loop(), closes=body is None)
            await self._run(call, environ)
            call.answer()
        finally:
            self._held -= held

    async def _run(self, call: Call, environ: Environ) -> None:
        path = environ["PATH_INFO"]
        if path == LIVENESS:
            call()
            return
        page = path in self._page_paths and environ["REQUEST_METHOD"] == "GET"
        pool = self._probes if path in PROBES else self._pages if page else self._threads
        await asyncio.get_running_loop().run_in_executor(pool, call)

    async def _body(self, environ: Environ, proto: Any) -> tuple[bytes | None, int]:
        """The body and its share of the memory of large bodies; None if the application will refuse the call.

        Raises:
            Refused: too many, too slow, or no memory.
        """
        length = environ.get("CONTENT_LENGTH")
        if length is None and "HTTP_TRANSFER_ENCODING" not in environ:
            return b"", 0
        size = int(length) if length is not None and length.isdigit() else None
        if size == 0:
            return b"", 0
        if size is not None and size > self._most:
            return None, 0
        if self._readers >= READERS:
            raise Refused(503, "too_many_bodies", f"{READERS} other bodies are being read; come back in a second.")
        self._readers += 1
        try:
            if size is not None and size <= SMALL:
                return await _small(proto), 0
            if not self._admits(environ):
                return None, 0
            counts = "json" in environ.get("CONTENT_TYPE", "")
            return await self._large(proto, self._containers if counts else sys.maxsize)
        finally:
            self._readers -= 1

    async def _large(self, proto: Any, containers: int) -> tuple[bytes, int]:
        body, loop = bytearray(), asyncio.get_running_loop()
        brackets = got = 0
        try:
            async with asyncio.timeout(WINDOW) as window:
                async for piece in proto:
                    self._check_size(len(body) + len(piece))
                    brackets += piece.count(b"[") + piece.count(b"{")
                    if brackets > containers:
                        raise Refused(400, "invalid_json", f"The JSON has more than {containers} lists and objects.")  # noqa: TRY301
                    waited = await self._reserve(len(piece))
                    body += piece
                    got += len(piece)
                    if waited or got >= LEAST:
                        window.reschedule(loop.time() + WINDOW)
                        got = 0
            return bytes(body), len(body)
        except BaseException as error:
            self._held -= len(body)
            if isinstance(error, TimeoutError):
                raise _slow() from None
            raise

    def _check_size(self, size: int) -> None:
        if size > self._most:
            raise Refused(413, "body_too_large", f"The body has more than {self._most} bytes.")

    async def _reserve(self, size: int) -> bool:
        """Wait for memory for another piece; whether it had to wait."""
        ends = asyncio.get_running_loop().time() + PATIENCE
        waited = False
        while self._held + size > self._memory:
            if asyncio.get_running_loop().time() > ends:
                raise Refused(503, "too_many_bodies", "Other bodies hold all the memory there is for them.")
            await asyncio.sleep(0.05)
            waited = True
        self._held += size
        return waited


async def _small(proto: Any) -> bytes:
    try:
        async with asyncio.timeout(SMALL_TIME):
            return bytes(await proto())
    except TimeoutError:
        raise _slow() from None


def _slow() -> Refused:
    return Refused(408, "body_timeout", "The body came too slowly.")


def _refuse(proto: Any, refusal: Refused) -> None:
    status = HTTPStatus(refusal.status)
    document = {
        "type": f"/problems/{refusal.code}", "title": status.phrase, "status": refusal.status, "detail": refusal.detail,
        "code": refusal.code, "retryable": refusal.status in RETRYABLE,
    }  # fmt: skip
    headers = [("content-type", "application/problem+json"), ("connection", "close")]
    headers += [("retry-after", "1")] if refusal.status == HTTPStatus.SERVICE_UNAVAILABLE else []
    proto.response_bytes(refusal.status, headers, json.dumps(document).encode())


class Call:
    """One call of the WSGI application in a thread; the loop sends the answer.

    An answer in one piece is kept for :meth:`answer`. The thread streams one in several pieces and waits until the
    server has taken each.
    """

    def __init__(
        self, application: Callable[..., Iterable[bytes]], environ: Environ, proto: Any,
        loop: asyncio.AbstractEventLoop, *, closes: bool,
    ) -> None:  # fmt: skip
        self._application, self._environ, self._proto, self._loop = application, environ, proto, loop
        self._closes = closes
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
            self._stream(first, second, pieces)
        finally:
            close = getattr(found, "close", None)
            if close is not None:
                close()

    def _start(self, status: str, headers: list[tuple[str, str]], _error: Any = None) -> None:
        self._status = int(status.split(" ", 1)[0])
        self._headers = [(name.lower(), value) for name, value in headers]
        if self._closes:
            self._headers.append(("connection", "close"))

    def answer(self) -> None:
        """Send the answer, unless it has been streamed."""
        if self._body is None:
            return
        if self._environ["REQUEST_METHOD"] == "HEAD" or not self._body:
            self._proto.response_empty(self._status, self._headers)
        else:
            self._proto.response_bytes(self._status, self._headers, self._body)

    def _stream(self, first: bytes, second: bytes, pieces: Any) -> None:
        transport = self._proto.response_stream(self._status, self._headers)
        for piece in (first, second):
            self._send(transport, piece)
        for piece in pieces:
            self._send(transport, piece)

    def _send(self, transport: Any, piece: bytes) -> None:
        asyncio.run_coroutine_threadsafe(_sent(transport, piece), self._loop).result(WRITE_TIME)


async def _sent(transport: Any, piece: bytes) -> None:
    await transport.send_bytes(piece)


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
