"""The stores of :mod:`tasks.protocol.payloads`: a folder, and any filesystem of fsspec.

Names are random: they cannot be guessed and hold no text of a caller. Each system has its own folder, so two systems
may share a store and neither sweeps the other's images.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from common.settings import SettingsError

log = logging.getLogger(__name__)

REFERENCE = re.compile(r"[0-9a-f]{16}(-[0-9a-f]{8})?/[0-9a-f]{32}-\d+")
#: Seconds for a write or a read of an asynchronous filesystem; s3fs may wait for a silent server for ever.
PATIENCE = 20.0
#: Bytes of a disk that images leave free: a Redis on the same disk needs room to write the end of requests.
RESERVE = 256 * 1024 * 1024


class NoFolder(Exception):
    """The folder of a reference is not in this store: it was written to another one."""


class Store(Protocol):
    """Where images are; ``sync`` says when they reach the disk, as ``appendfsync`` does for Redis.

    Any error of :meth:`put` means that nothing is stored.
    """

    sync: str

    def put(self, system: str, image: bytes) -> str:
        """Store an image; its reference."""

    def get(self, reference: str) -> bytes:
        """An image; raises FileNotFoundError, or NoFolder for a reference of another store."""

    def delete(self, references: Sequence[str]) -> None:
        """Delete images; missing ones are no error."""

    def older(self, system: str, seconds: float) -> Iterator[str]:
        """The images of a system that were stored more than so many seconds ago."""


def open_store(url: str) -> Store | None:
    """The store of a ``PAYLOAD_STORE``; None for Redis."""
    if url == "redis":
        return None
    parts = urlsplit(url)
    return FolderStore(Path(unquote(parts.path))) if parts.scheme == "file" else RemoteStore(url)


def named(url: str) -> str:
    """A ``PAYLOAD_STORE`` as others may see it, without a user or a password."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _name(image: bytes) -> str:
    return f"{os.urandom(16).hex()}-{len(image)}"


def _checked(reference: str) -> str:
    if not REFERENCE.fullmatch(reference):
        raise NoFolder(f"{reference!r} is not the reference of an image")
    return reference


class FolderStore:
    """A folder of this host, or one that all hosts mount; only its user can read it.

    Its subfolders ``SYSTEM-RANDOM`` are made by the first :meth:`put` alone, so a worker that mounts another folder
    than the API finds that the subfolder is missing.
    """

    def __init__(self, root: Path) -> None:
        self.sync = "everysec"
        self._root = root
        self._folders: dict[str, Path] = {}
        self._written: list[Path] = []
        self._lock = threading.Lock()
        self._syncing = False

    def put(self, system: str, image: bytes) -> str:
        """Store an image; with ``sync`` at ``always`` it is on the disk."""
        folder = self._folders.get(system) or self._make(system)
        path = folder / _name(image)
        try:
            self._check_room(folder, len(image))
            self._write(path, image)
        except FileNotFoundError:  # the folder was deleted since: the next call makes another
            self._folders.clear()
            raise
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return f"{folder.name}/{path.name}"

    def get(self, reference: str) -> bytes:
        """An image."""
        path = self._path(reference)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            if not path.parent.exists():
                raise NoFolder(f"there is no folder {path.parent.name}") from None
            raise

    def delete(self, references: Sequence[str]) -> None:
        """Delete images."""
        for reference in references:
            self._path(reference).unlink(missing_ok=True)

    def older(self, system: str, seconds: float) -> Iterator[str]:
        """By the time of the last change."""
        before = time.time() - seconds
        for folder in self._root.glob(f"{system}-*"):
            with os.scandir(folder) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):
                        reference = f"{folder.name}/{entry.name}"
                        if REFERENCE.fullmatch(reference) and entry.stat().st_mtime < before:
                            yield reference

    def _path(self, reference: str) -> Path:
        return self._root / _checked(reference)

    def _make(self, system: str) -> Path:
        """This system's folder, made if need be."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = min(self._root.glob(f"{system}-*"), default=self._root / f"{system}-{os.urandom(4).hex()}")
        found.mkdir(mode=0o700, exist_ok=True)
        _sync(self._root)
        self._folders[system] = found
        return found

    @staticmethod
    def _check_room(folder: Path, size: int) -> None:
        disk = os.statvfs(folder)
        reserve = min(RESERVE, disk.f_blocks * disk.f_frsize // 20)
        if disk.f_bavail * disk.f_frsize < size + reserve:
            raise OSError(errno.ENOSPC, "the rest of the disk is reserved for Redis")

    def _write(self, path: Path, image: bytes) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123 - a descriptor, for its rights
            left = memoryview(image)
            while left:
                left = left[file.write(left) :]
            if self.sync == "always":
                os.fsync(descriptor)
        if self.sync == "always":
            _sync(path.parent)
        elif self.sync != "no":
            self._sync_later(path)

    def _sync_later(self, path: Path) -> None:
        with self._lock:
            self._written.append(path)
            if self._syncing:
                return
            self._syncing = True
        threading.Thread(target=self._sync_every_second, name="payloads", daemon=True).start()

    def _sync_every_second(self) -> None:
        """Sync what was written half a second to a second ago; ends when nothing was.

        By then most images are deleted, which saves writing them.
        """
        due: list[Path] = []
        while True:
            time.sleep(0.5)
            with self._lock:
                written, self._written = self._written, []
                if not written and not due:
                    self._syncing = False
                    return
            try:
                for path in due:
                    _sync(path)
                for folder in {path.parent for path in due}:
                    _sync(folder)
            except OSError as error:
                log.error("images of the last second may not be on the disk: %s", error)  # noqa: TRY400 - says it all
            due = written


def _sync(path: Path) -> None:
    """Sync a file or folder to the disk; most images are deleted before their turn."""
    with suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class RemoteStore:
    """A filesystem of fsspec, such as ``s3://bucket/prefix``; its own client repeats calls and times out."""

    def __init__(self, url: str) -> None:
        self.sync = "everysec"  # such a store keeps what it has acknowledged
        try:
            from fsspec.core import url_to_fs

            self._files, root = url_to_fs(url)
        except ImportError as error:  # of fsspec or of the package for this kind of URL
            raise SettingsError(f"PAYLOAD_STORE: {url} needs a package that is not installed: {error}") from error
        except ValueError as error:
            raise SettingsError(f"PAYLOAD_STORE: {error}") from error
        self._root = str(root).rstrip("/")
        self._limit = {"timeout": PATIENCE} if self._files.async_impl else {}

    def put(self, system: str, image: bytes) -> str:
        """Store an image."""
        reference = f"{system}/{_name(image)}"
        path = self._path(reference)
        try:
            self._files.pipe_file(path, image, **self._limit)
        except FileNotFoundError:  # a filesystem that knows folders; a bucket that is missing is not made
            with suppress(FileExistsError):
                self._files.mkdir(path.rpartition("/")[0], create_parents=False)
            self._files.pipe_file(path, image, **self._limit)
        return reference

    def get(self, reference: str) -> bytes:
        """An image; with its size given, s3fs need not ask for it first."""
        path, size = self._path(reference), int(reference.rpartition("-")[2])
        return bytes(self._files.cat_file(path, start=0, end=size, **self._limit))

    def delete(self, references: Sequence[str]) -> None:
        """Delete images, in as few calls as the filesystem can; if that fails, the existing ones one by one."""
        paths = [self._path(reference) for reference in references]
        try:
            self._files.rm(paths)
        except FileNotFoundError:
            for path in paths:
                with suppress(FileNotFoundError):
                    self._files.rm_file(path)

    def older(self, system: str, seconds: float) -> Iterator[str]:
        """By the filesystem's own time of the last change."""
        before = time.time() - seconds
        folder = f"{self._root}/{system}"
        self._files.invalidate_cache()
        try:
            found: list[Any] = self._files.ls(folder, detail=False)
        except FileNotFoundError:
            return
        for path in found:
            reference = f"{system}/{str(path).rpartition('/')[2]}"
            with suppress(FileNotFoundError):
                if REFERENCE.fullmatch(reference) and self._files.modified(path).timestamp() < before:
                    yield reference

    def _path(self, reference: str) -> str:
        return f"{self._root}/{_checked(reference)}"
