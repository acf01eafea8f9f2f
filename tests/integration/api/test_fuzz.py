"""Thousands of broken bodies against the real API and a real model: no 5xx, no dead worker, bounded memory."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
import skimage.data
from PIL import Image

from tests.support.stack import Stack
from tests.unit.api import samples

MODEL = "efficientnet_lite0"
#: FUZZ_BODIES=10000 for a long run.
BODIES = int(os.environ.get("FUZZ_BODIES", "1500"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))

Body = tuple[bytes, str]


def originals() -> list[bytes]:
    """A small photo in every format and some of its variants."""
    photo = Image.fromarray(skimage.data.chelsea()).resize((96, 64))
    variants = [
        ("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("WEBP", {"lossless": True}),
        ("GIF", {}), ("BMP", {}),
    ]  # fmt: skip
    return [_saved(photo, kind, **options) for kind, options in variants]


def _saved(photo: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    photo.save(out, kind, **options)
    return out.getvalue()


def mutated(dice: random.Random, data: bytes) -> bytes:
    """Some bytes changed, mostly in the header."""
    found = bytearray(data)
    for _ in range(dice.choice((1, 2, 8, 64))):
        found[dice.randrange(dice.choice((32, len(found))))] = dice.choice((0, 0xFF, dice.randrange(256)))
    return bytes(found)


def truncated(dice: random.Random, data: bytes) -> bytes:
    return data[: dice.randrange(len(data))]


def polyglot(dice: random.Random, data: bytes) -> bytes:
    return data[: dice.randrange(64)] + dice.choice(originals_once()) + data


def bomb(dice: random.Random, _data: bytes) -> bytes:
    """A header that promises up to 2^31 pixels a side."""
    make = dice.choice(
        [samples.png, samples.jpeg, samples.gif, samples.bmp, samples.webp_extended, samples.webp_lossless]
    )
    most = {samples.png: 2**31 - 1, samples.bmp: 2**31 - 1, samples.webp_extended: 2**24, samples.webp_lossless: 2**14}
    side = dice.randrange(1, most.get(make, 65_535))
    return make(side, dice.randrange(1, most.get(make, 65_535)))


def spliced(dice: random.Random, data: bytes) -> bytes:
    """A run of bytes copied over another place."""
    start, size = dice.randrange(len(data)), dice.randrange(1, 200)
    place = dice.randrange(len(data))
    return data[:place] + data[start : start + size] + data[place + size :]


_ORIGINALS: list[bytes] = []


def originals_once() -> list[bytes]:
    if not _ORIGINALS:
        _ORIGINALS.extend(originals())
    return _ORIGINALS


def raw(_dice: random.Random, data: bytes) -> Body:
    return data, "application/octet-stream"


def as_json(dice: random.Random, data: bytes) -> Body:
    """JSON around the image, sometimes broken itself."""
    text = json.dumps({"data": base64.b64encode(data).decode(), "top_k": 1}).encode()
    broken = [text, text, text[: dice.randrange(len(text))], text.replace(b"A", b"\xff", 1), b"[" * 5000 + text]
    broken.append(b'{"data":' * dice.randrange(1, 3000) + text)
    return dice.choice(broken), "application/json"


def as_form(dice: random.Random, data: bytes) -> Body:
    head = b'--B\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
    whole = head + data + b"\r\n--B--\r\n"
    return dice.choice(
        [whole, whole, whole[: dice.randrange(len(whole))], mutated(dice, whole)]
    ), "multipart/form-data; boundary=B"


def as_tensor(dice: random.Random, data: bytes) -> Body:
    items = struct.pack("<I", dice.choice((len(data), dice.randrange(2**32)))) + data
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(items)}}
    return json.dumps({"inputs": [tensor]}).encode() + items, "application/octet-stream"


def bodies(count: int) -> Iterator[tuple[str, Body]]:
    """``(path, body)``, the same for the same seed."""
    dice = random.Random(SEED)  # noqa: S311 - repeatable
    damage: list[Callable[[random.Random, bytes], bytes]] = [mutated, mutated, truncated, polyglot, bomb, spliced]
    wrap = [("/inference", raw), ("/inference", raw), ("/inference", as_json), ("/inference", as_form),
            (f"/v2/models/{MODEL}/infer", as_tensor)]  # fmt: skip
    for _ in range(count):
        path, make = dice.choice(wrap)
        yield path, make(dice, dice.choice(damage)(dice, dice.choice(originals_once())))


@pytest.mark.slow
@pytest.mark.timeout(300 + BODIES // 5)
def test_broken_bodies_break_nothing(stack: Stack) -> None:
    worker = stack.start_worker(MODEL, name="lite0-1", MODELS=MODEL, timeout=180)
    api = stack.start_api(MODELS=MODEL)
    (child,) = psutil.Process(api.pid).children()
    limits = httpx.Limits(max_connections=8)
    with httpx.Client(base_url=api.url, timeout=60, limits=limits) as http, ThreadPoolExecutor(8) as pool:
        http.post("/inference", content=originals_once()[0], headers={"Content-Type": "image/jpeg"})
        before = (child.memory_info().rss, psutil.Process(worker.pid).memory_info().rss)
        answers = list(pool.map(lambda item: _send(http, *item), bodies(BODIES)))
    statuses = Counter(answer.status_code for answer in answers)
    assert not [answer.text for answer in answers if answer.status_code >= 500], statuses
    assert all("problem+json" in answer.headers["Content-Type"] for answer in answers if answer.status_code >= 400)
    assert {200, 400, 422} <= set(statuses), statuses
    worker.check_alive()
    assert len(api.client.get("/workers/status").json()["workers"]) == 1
    after = (child.memory_info().rss, psutil.Process(worker.pid).memory_info().rss)
    assert after[0] - before[0] < 60e6
    assert after[1] - before[1] < 120e6
    summary = f"{len(answers)} bodies: {dict(statuses)}; RSS of API and worker before {before}, after {after}"
    print(summary)  # noqa: T201 - shown with -s


def _send(http: httpx.Client, path: str, body: Body) -> httpx.Response:
    content, media_type = body
    headers = {"Content-Type": media_type}
    if path.startswith("/v2"):
        headers["Inference-Header-Content-Length"] = str(content.index(b"}]}") + 3)
    return http.post(path, content=content, headers=headers)
