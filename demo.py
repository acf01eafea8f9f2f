"""Classify one photo through the running system and say what came back: what ``make demo`` ends with.

``python demo.py [PHOTO] [--model NAME]``; without a photo it takes the cat in docs/images and checks that the answer is
one. It talks to the API over HTTP like any client, and exits with 1 when the answer is not a real one.

``--quick`` shows everything in a minute or two and ``--menu`` lets you choose: health, photos, a batch, load
balancing, priorities, a worker that dies, a picture that kills, bad input, a small benchmark. Both start a system
when none runs, and end it again.
"""

from __future__ import annotations

import argparse
import mimetypes
import os
import sys
from pathlib import Path
from typing import Any

import httpx

from common.settings import get_settings
from scripts.tour.guide import menu, tour
from scripts.tour.scenes import SCENES

CAT = Path(__file__).resolve().parent / "docs" / "images" / "cat.png"
CAT_CLASSES = range(281, 286)  # ImageNet's domestic cats: tabby, tiger, Persian, Siamese, Egyptian


class DemoError(RuntimeError):
    """The system did not answer as it should; the message says what it did instead."""


def classify(url: str, photo: Path, model: str) -> dict[str, Any]:
    """The API's answer for ``photo``.

    Raises:
        DemoError: no answer, an error, or an answer that is not final.
    """
    headers = {"Content-Type": mimetypes.guess_type(photo)[0] or "application/octet-stream"}
    if key := os.environ.get("INFERLANE_API_KEY"):
        headers["X-API-Key"] = key
    try:
        answer = httpx.post(
            f"{url}/inference", params={"model_type": model}, content=photo.read_bytes(),
            headers=headers, timeout=60,
        )  # fmt: skip
    except httpx.TransportError as error:
        raise DemoError(f"nothing answers at {url} ({error}): `make start` first") from error
    if answer.status_code != 200:
        raise DemoError(f"{answer.status_code}: {answer.text}")
    body: dict[str, Any] = answer.json()
    return body


def check(answer: dict[str, Any], *, expect_cat: bool) -> None:
    """Raise :class:`DemoError` unless ``answer`` holds a real model's opinion, and a cat where one was shown."""
    if answer["weights"] == "random":
        raise DemoError("the answer comes from random weights (ALLOW_RANDOM_WEIGHTS=1): it means nothing")
    if expect_cat and answer["predictions"][0]["index"] not in CAT_CLASSES:
        raise DemoError(f"this is a cat, and the answer was {answer['predictions'][0]['class']!r}")


def show(answer: dict[str, Any], photo: Path) -> None:
    """Print the answer."""
    seconds = answer["processing_time"]
    print(f"\n{photo.name} is, says {answer['model']} (weights {answer['weights']}), in {seconds * 1000:.0f} ms:")
    for guess in answer["predictions"]:
        print(f"  {guess['confidence']:6.1%}  {guess['class']}")


def main() -> int:
    """Run the demonstration; the exit code says whether it worked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", nargs="?", type=Path, default=CAT)
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--url", default=get_settings().base_url)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--quick", action="store_true", help="show everything in a minute")
    which.add_argument("--menu", action="store_true", help="choose what to see")
    which.add_argument("--scene", action="append", choices=list(SCENES), help="show this; may be repeated")
    arguments = parser.parse_args()
    if arguments.menu:
        return menu(arguments.url, arguments.model)
    if arguments.quick or arguments.scene:
        return tour(arguments.url, arguments.scene or tuple(SCENES), arguments.model)
    return classify_once(arguments)


def classify_once(arguments: argparse.Namespace) -> int:
    """Classify one photo of the command line."""
    try:
        answer = classify(arguments.url, arguments.photo, arguments.model)
        check(answer, expect_cat=arguments.photo == CAT)
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    show(answer, arguments.photo)
    return 0


if __name__ == "__main__":
    sys.exit(main())
