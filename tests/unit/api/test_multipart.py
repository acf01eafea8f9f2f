"""Splitting multipart bodies: what goes in comes out, and what is malformed is refused."""

from __future__ import annotations

import io

import pytest
from flask import Flask, request
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder

from api.http.problems import HttpProblem
from api.input import multipart

BINARY = st.binary(max_size=200) | st.lists(st.sampled_from([b"\r\n", b"--", b"B0", b"x", b" "])).map(b"".join)


def joined(parts: list[tuple[str, bytes]], boundary: bytes = b"B0B0") -> bytes:
    lines = [
        b'--%s\r\nContent-Disposition: form-data; name="%s"; filename="f"\r\nContent-Type: image/png\r\n\r\n%s\r\n'
        % (boundary, name.encode(), data)
        for name, data in parts
    ]
    return b"".join(lines) + b"--" + boundary + b"--\r\n"


@given(st.lists(st.tuples(st.sampled_from(["image", "custom_id", "x"]), BINARY), min_size=1, max_size=5))
def test_parts_come_back_byte_for_byte(parts: list[tuple[str, bytes]]) -> None:
    if any(b"\r\n--B0B0" in b"\r\n" + data for _, data in parts):
        return  # a real sender would choose another boundary
    assert [(part.name, part.data) for part in multipart.split(joined(parts), b"B0B0")] == parts


@given(st.binary(max_size=300))
def test_any_bytes_end_in_parts_or_a_problem(tail: bytes) -> None:
    body = b"--B\r\n" + tail
    try:
        parts = list(multipart.split(body, b"B"))
    except HttpProblem:
        return  # anything else that is raised fails the test
    assert sum(len(part.data) for part in parts) < len(body)


def test_it_agrees_with_a_real_client_about_names_and_files() -> None:
    builder = EnvironBuilder(
        method="POST",
        data={"model_type": "resnet18", "größe": "ä", "left_empty": "", "image": (io.BytesIO(b"\r\n--"), "ü.jpg")},
    )
    with Flask("x").request_context(builder.get_environ()):
        form = multipart.read(request.get_data(), request.mimetype_params["boundary"])
    assert form.values() == {"model_type": "resnet18", "größe": "ä"}
    assert form.files == (multipart.Part("image", "ü.jpg", b"\r\n--"),)


def test_a_line_that_only_begins_like_the_boundary_is_data() -> None:
    parts = [("image", b"one\r\n--B0B0B0\r\ntwo")]
    assert [part.data for part in multipart.split(joined(parts), b"B0B0")] == [parts[0][1]]


def test_text_around_the_parts_is_ignored() -> None:
    body = b"hello\r\n" + joined([("image", b"data")]) + b"goodbye"
    assert [part.data for part in multipart.split(body, b"B0B0")] == [b"data"]


@pytest.mark.parametrize(
    "body",
    [
        b"nothing at all",
        joined([("image", b"data")])[:-8],
        b"--B0B0\r\nContent-Type: image/png\r\n\r\ndata\r\n--B0B0--",
        b"--B0B0\r\nno colon\r\n\r\ndata\r\n--B0B0--",
        b"--B0B0\r\n" + b"x" * 20_000 + b"\r\n\r\ndata\r\n--B0B0--",
        joined([("image", b"")] * 2001),
    ],
    ids=["no boundary", "cut off", "no disposition", "no header", "huge header", "too many"],
)
def test_malformed_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(HttpProblem) as caught:
        list(multipart.split(body, b"B0B0"))
    assert caught.value.code == "invalid_multipart"
