"""Fetch a published weights file into torch's cache directory, within a deadline, without torch and torchvision."""

import hashlib
import http.client
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, cast
from urllib.parse import urlsplit
from urllib.request import urlopen

#: The address of torchvision's weights; a test compares it with torchvision.
PUBLISHED = "https://download.pytorch.org/models/"
CONNECT_TIMEOUT = 5.0
_one_at_a_time = threading.Lock()
_unreachable: dict[str, str] = {}


class DownloadFailed(Exception):
    """The file could not be fetched; the message says why."""


def hub_directory() -> Path:
    """Where ``torch.hub`` keeps weights, by the same variables it reads."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or str(Path(cache) / "torch")
    return Path(home).expanduser() / "hub" / "checkpoints"


def fetch(address: str, target: Path, timeout: float) -> None:
    """Download ``address`` to ``target``, with a progress line on standard error. All or nothing.

    The file name ends in the first digits of its SHA-256, as all that torchvision publishes; they are checked.
    A process runs one download at a time, and does not retry a host that it could not reach.

    Raises:
        DownloadFailed: unreachable, refused, slower than ``timeout`` seconds, or damaged.
    """
    with _one_at_a_time:
        deadline = time.monotonic() + timeout
        response = _connect(address, min(CONNECT_TIMEOUT, timeout))
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with response, tempfile.TemporaryDirectory(dir=target.parent) as folder:
                part = Path(folder) / target.name
                with part.open("wb") as out:
                    digest = _copy(response, out, target.name, deadline)
                expected = target.stem.rpartition("-")[2]
                if not digest.startswith(expected):
                    found = digest[: len(expected)]
                    raise DownloadFailed(f"{target.name} arrived damaged: its SHA-256 begins with {found}")
                part.replace(target)
        except (OSError, http.client.HTTPException) as error:
            raise DownloadFailed(f"{target.name} could not be downloaded: {error}") from error


def _connect(address: str, timeout: float) -> http.client.HTTPResponse:
    host = urlsplit(address).hostname or ""
    if host not in _unreachable:
        try:  # PUBLISHED is https
            return cast("http.client.HTTPResponse", urlopen(address, timeout=timeout))  # noqa: S310 # nosec B310
        except (OSError, http.client.HTTPException) as error:
            _unreachable[host] = f"{host} cannot be reached ({getattr(error, 'reason', None) or error})"
    raise DownloadFailed(_unreachable[host])


def _copy(response: http.client.HTTPResponse, out: IO[bytes], name: str, deadline: float) -> str:
    """Copy the body; returns its SHA-256 in hex."""
    digest = hashlib.sha256()
    total = int(response.headers.get("Content-Length") or 0)
    done = 0
    while chunk := response.read1(1 << 18):
        if time.monotonic() > deadline:
            raise DownloadFailed(f"{name} did not arrive in time (WEIGHTS_TIMEOUT); {done} of {total} bytes came")
        out.write(chunk)
        digest.update(chunk)
        done += len(chunk)
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{name} {done / 1e6:6.1f} of {total / 1e6:.1f} MB" + "\n" * (done == total))
            sys.stderr.flush()
    if done < total:
        raise DownloadFailed(f"{name} arrived incomplete: {done} of {total} bytes")
    return digest.hexdigest()
