"""What the benchmark's callers read from a socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPException

import pytest

from bench.caller import Caller

#: Starts a server that gives these answers, one list for each connection in turn; what it was sent is kept in order.
Serve = Callable[[Sequence[Sequence[bytes]]], tuple[Caller, list[bytes]]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    ends: list[Callable[[], None]] = []

    def start(connections: Sequence[Sequence[bytes]]) -> tuple[Caller, list[bytes]]:
        listener = socket.create_server(("127.0.0.1", 0))
        heard: list[bytes] = []
        thread = threading.Thread(target=_answer, args=(listener, connections, heard))
        thread.start()
        caller = Caller(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=10)
        ends.extend((caller.close, thread.join, listener.close))
        return caller, heard

    yield start
    for end in ends:
        end()


def _answer(listener: socket.socket, connections: Sequence[Sequence[bytes]], heard: list[bytes]) -> None:
    for answers in connections:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as sent:
            for answer in answers:
                heard.append(_request(sent))
                connection.sendall(answer)


def _request(sent: socket.SocketIO) -> bytes:
    head = b""
    while (line := sent.readline()) not in (b"\r\n", b""):
        head += line
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    return head + b"\r\n" + (sent.read(length) or b"")


SHORT = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def test_one_connection_carries_several_answers(serve: Serve) -> None:
    chunks = b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nT: v\r\n\r\n"
    chunked = b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    bare = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n"
    caller, heard = serve([[chunked, bare, SHORT]])
    assert caller.ask("POST", "/a?b=c", b"photo", {"Content-Type": "image/jpeg"}) == (202, b"abc0123456789")
    assert caller.ask("GET", "/d") == (304, b"")
    assert caller.ask("GET", "/e") == (200, b"ok")
    assert heard[0].startswith(b"POST /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:")
    assert heard[0].endswith(b"\r\nContent-Type: image/jpeg\r\n\r\nphoto")


@pytest.mark.parametrize(
    "last",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: Close\r\n\r\nok", id="announced"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\nok", id="ends with the connection"),
        pytest.param(SHORT, id="closed while idle"),
    ],
)
def test_a_closed_connection_is_replaced(serve: Serve, last: bytes) -> None:
    caller, _ = serve([[last], [SHORT]])
    assert caller.ask("GET", "/a") == (200, b"ok")
    assert caller.ask("GET", "/b") == (200, b"ok")


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", id="body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Le", id="header"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok", id="chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", id="last chunk"),
        pytest.param(b"SSH-2.0-x\r\n", id="another protocol"),
    ],
)
def test_an_answer_that_is_not_whole_is_an_error(serve: Serve, answer: bytes) -> None:
    caller, _ = serve([[answer]])
    with pytest.raises((HTTPException, ValueError)):
        caller.ask("GET", "/")
