from __future__ import annotations

import io
from pathlib import Path

import pytest

from inferlane.errors import ImageUnreadable
from inferlane.images import expand, photos, read


def test_a_path_bytes_and_an_open_file_give_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"pixels")
    with path.open("rb") as file:
        sources = [path, str(path), b"pixels", bytearray(b"pixels"), memoryview(b"pixels"), file]
        assert {read(source).data for source in sources} == {b"pixels"}
    assert read(path).name == str(path)
    assert read(b"pixels").name == ""


def test_an_open_file_is_read_from_where_it_stands() -> None:
    file = io.BytesIO(b"headpixels")
    file.seek(4)
    assert read(file).data == b"pixels"


def test_what_cannot_be_read_says_which_file(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.jpg", tmp_path):
        with pytest.raises(ImageUnreadable, match=path.name):
            read(path)


def test_a_folder_is_walked_by_name_and_only_for_images(tmp_path: Path) -> None:
    for name in ("b.JPG", "a/z.png", "a/.hidden.png", ".git/x.png", "notes.txt", "c.webp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    names = [path.relative_to(tmp_path).as_posix() for path in photos(tmp_path)]
    assert names == ["a/z.png", "b.JPG", "c.webp"]
    odd = tmp_path / "notes.txt"
    assert list(expand([odd, tmp_path / "a"])) == [odd, tmp_path / "a" / "z.png"]
