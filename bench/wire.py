"""HTTP/1.1 over one socket that stays open, at half of what ``http.client`` costs or less.

The callers of a benchmark run on the cores that they measure. ``http.client`` makes a message object of every answer's
headers; nobody here reads more of them than where the body ends.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from http.client import BadStatusLine, IncompleteRead

#: Statuses whose answers have no body, whatever the headers say.
BARE = frozenset({204, 304})


class Wire:
    """A connection to one server, for one thread."""

    def __init__(self, host: str, port: int, timeout: float) -> None:
        self._socket = socket.create_connection((host, port), timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answers = self._socket.makefile("rb")
        self._host = f"{host}:{port}"
        self.open = True

    def exchange(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Status and body of the answer to one request.

        Raises:
            ConnectionError: the server closed the connection before it answered.
            HTTPException, ValueError: what it sent is not HTTP, or ends early.
            OSError: also when it takes longer than the timeout.
        """
        lines = {"Host": self._host, "Content-Length": str(len(body)), **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._socket.sendall(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("ascii") + body)
        status, said = self._head()
        if said.get(b"connection", b"").lower() == b"close":
            self.open = False
        return status, b"" if status in BARE else self._body(said)

    def close(self) -> None:
        """Close the connection."""
        self.open = False
        self._answers.close()
        self._socket.close()

    def _head(self) -> tuple[int, dict[bytes, bytes]]:
        """The status and the headers, their names in small letters."""
        first = self._answers.readline()
        if not first:
            raise ConnectionResetError("the server closed the connection before it answered")
        version, _, rest = first.partition(b" ")
        if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
            raise BadStatusLine(repr(first[:100]))
        said = {}
        while (line := self._answers.readline()) != b"\r\n":
            name, colon, value = line.partition(b":")
            if not colon:
                raise BadStatusLine(f"not a header: {line[:100]!r}")
            said[name.lower()] = value.strip()
        return int(rest[:3]), said

    def _body(self, said: Mapping[bytes, bytes]) -> bytes:
        if b"transfer-encoding" in said:
            return self._chunks()
        if b"content-length" in said:
            return self._exactly(int(said[b"content-length"]))
        self.open = False  # it ends where the connection does
        return self._answers.read()

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self._answers.readline().partition(b";")[0], 16):
            parts.append(self._exactly(size))
            self._exactly(2)
        while self._answers.readline().strip():  # trailers
            pass
        return b"".join(parts)

    def _exactly(self, size: int) -> bytes:
        found = self._answers.read(size)
        if len(found) < size:
            raise IncompleteRead(found, size - len(found))
        return found
