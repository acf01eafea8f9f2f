"""Sources of images: a path, bytes, an open file, or a folder of photos."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

from inferlane.errors import ImageUnreadable

#: Anything that can be classified. A ``str`` is a path.
Source: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO"

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".webp", ".bmp"})


@dataclass(frozen=True, slots=True)
class Upload:
    """An image in memory: its bytes as they are sent, and its name, empty when it has none."""

    data: bytes
    name: str = ""


def read(source: Source) -> Upload:
    """The bytes of ``source``; an open file is read from where it stands to its end.

    Raises:
        ImageUnreadable: no such file, no permission, or a file opened as text.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return Upload(bytes(source))
    if isinstance(source, str | os.PathLike):
        try:
            return Upload(Path(source).read_bytes(), os.fsdecode(source))
        except OSError as error:
            raise ImageUnreadable(f"{os.fsdecode(source)}: {error.strerror or error}") from error
    data: object = source.read()
    if not isinstance(data, bytes):
        raise ImageUnreadable("the file is open as text; open it with mode 'rb'")
    return Upload(data, str(getattr(source, "name", "")))


def unreadable(path: Path) -> ImageUnreadable | None:
    """Why the file cannot be read; None when it can."""
    try:
        path.open("rb").close()
    except OSError as error:
        return ImageUnreadable(f"{path}: {error.strerror or error}")
    return None


def photos(folder: Path) -> Iterator[Path]:
    """Every file below ``folder`` whose suffix is that of an image, by name; hidden files and folders are left out.

    A folder that cannot be read is yielded itself, so that it fails alone.
    """
    try:
        found = sorted(folder.iterdir())
    except PermissionError:
        found = []
        yield folder
    for path in found:
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from photos(path)
        elif path.suffix.lower() in SUFFIXES:
            yield path


def expand(paths: Iterable[Path]) -> Iterator[Path]:
    """``paths`` with every folder replaced by the photos in it; a file named by itself is taken whatever its suffix."""
    for path in paths:
        if path.is_dir():
            yield from photos(path)
        else:
            yield path
