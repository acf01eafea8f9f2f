from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest

from worker_models import download
from worker_models.download import PUBLISHED, DownloadFailed, fetch, hub_directory
from worker_models.registry import REGISTRY, ModelCard

BODY = b"weights" * 100_000
NAME = f"net-{hashlib.sha256(BODY).hexdigest()[:8]}.pth"
FOLDER = "/models"


class Files(BaseHTTPRequestHandler):
    """Serves BODY; the path says how badly."""

    def do_GET(self) -> None:
        self.server.requests += 1
        if self.path.startswith("/missing"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self._body()

    def _body(self) -> None:
        if self.path.startswith("/short"):
            self.wfile.write(BODY[:1000])
        elif self.path.startswith("/slow"):
            for at in range(0, len(BODY), 1000):
                self.wfile.write(BODY[at : at + 1000])
                if self.server.stopping.wait(0.05):
                    return
        else:
            self.wfile.write(BODY)

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    server.requests, server.stopping = 0, threading.Event()
    server.handle_error = lambda *_: None
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
    thread.start()
    yield server
    server.stopping.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def at(server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    monkeypatch.setattr(download, "_unreachable", {})
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return lambda path: f"http://127.0.0.1:{server.server_port}/{path}"


def test_a_file_arrives_whole_and_its_checksum_is_checked(at, tmp_path: Path):
    fetch(at(NAME), tmp_path / "hub" / NAME, 10)
    assert (tmp_path / "hub" / NAME).read_bytes() == BODY


@pytest.mark.parametrize(
    ("path", "name", "reason"),
    [
        ("missing", NAME, "Not Found"),
        ("short", NAME, "incomplete: 1000 of 700000"),
        ("whole", "net-00000000.pth", "damaged"),
    ],
)
def test_a_file_that_does_not_arrive_well_leaves_nothing_behind(at, tmp_path: Path, path: str, name: str, reason: str):
    with pytest.raises(DownloadFailed, match=reason):
        fetch(at(path), tmp_path / name, 10)
    assert list(tmp_path.iterdir()) == []


def test_a_slow_server_is_given_up_at_the_deadline(at, tmp_path: Path):
    started = time.monotonic()
    with pytest.raises(DownloadFailed, match="did not arrive in time"):
        fetch(at("slow"), tmp_path / NAME, 0.3)
    assert time.monotonic() - started < 5
    assert list(tmp_path.iterdir()) == []


def test_a_host_that_does_not_answer_is_tried_once(server, at, tmp_path: Path):
    for _ in range(3):
        with pytest.raises(DownloadFailed, match=r"127\.0\.0\.1 cannot be reached"):
            fetch(at("missing"), tmp_path / NAME, 10)
    assert server.requests == 1


@pytest.mark.parametrize("card", [card for card in REGISTRY.values() if card.hub], ids=lambda card: card.name)
def test_the_address_of_a_file_is_the_one_in_torchvisions_source(card: ModelCard):
    spec = find_spec("torchvision")
    source = "".join(path.read_text() for path in (Path(spec.origin).parent / "models").glob("*.py"))
    assert f'"{PUBLISHED}{card.hub.file}"' in source


def test_the_hub_directory_follows_torchs_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert hub_directory() == tmp_path / "torch" / "hub" / "checkpoints"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "elsewhere"))
    assert hub_directory() == tmp_path / "elsewhere" / "hub" / "checkpoints"


def test_the_hub_directory_is_the_one_torch_uses(monkeypatch: pytest.MonkeyPatch):
    import torch

    monkeypatch.delenv("TORCH_HOME", raising=False)
    assert hub_directory() == Path(torch.hub.get_dir()) / "checkpoints"
