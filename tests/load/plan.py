"""What a load test sends and when, and what a right answer is."""

from __future__ import annotations

import argparse
import itertools
import os
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from common.settings import get_settings
from inferlane import images, traffic
from inferlane.answers import Result
from inferlane.images import Upload
from inferlane.operations import Parameters
from inferlane.traffic import Shot

CAT = Path(__file__).resolve().parents[2] / "docs" / "images" / "cat.png"
CAT_CLASSES = frozenset(range(281, 286))  # ImageNet's domestic cats: tabby, tiger, Persian, Siamese, Egyptian


@dataclass(frozen=True)
class Photo:
    """A picture and the indices of the classes that are right for it."""

    upload: Upload
    classes: frozenset[int]

    def judge(self, result: Result) -> str:
        """An error code when ``result`` is no real model's opinion or not what the picture shows, else nothing."""
        if result.weights == "random":
            return "random_weights"
        return "" if result.predictions and result.best.index in self.classes else "wrong_answer"


def parser() -> argparse.ArgumentParser:
    """The command line of ``tests/load_test.py``."""
    made = argparse.ArgumentParser(
        prog="load_test.py", description="Send photos to a running Inferlane and judge the answers by their content.",
        epilog="exit codes: 0 within the limits, 1 not, 2 wrong usage, 3 the API cannot be reached",
    )  # fmt: skip
    _load(made.add_argument_group("load"))
    _content(made.add_argument_group("what is sent"))
    _limits(made.add_argument_group("limits and output"))
    return made


def _load(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-r", "--requests", type=_count, default=100, metavar="N", help="how many (%(default)s)")
    group.add_argument("-c", "--concurrent", type=_count, default=10, metavar="N",
                       help="users who each wait for an answer before they ask again (%(default)s)")  # fmt: skip
    group.add_argument("--rate", type=_positive, metavar="PER_SECOND",
                       help="instead: start at random moments of this mean rate, whatever is under way")  # fmt: skip
    group.add_argument("--burst", "--burst-mode", action="store_true", dest="burst_mode",
                       help="instead: start in bursts, whatever is under way")  # fmt: skip
    group.add_argument("--burst-size", type=_count, default=20, metavar="N", help="requests of a burst (%(default)s)")
    group.add_argument("--burst-interval", type=_positive, default=2.0, metavar="SECONDS",
                       help="from burst to burst (%(default)s)")  # fmt: skip
    group.add_argument("--in-flight", type=_count, default=1000, metavar="N",
                       help="at a rate or in bursts: under way at most; more are failures (%(default)s)")  # fmt: skip
    group.add_argument("--timeout", type=_positive, default=30.0, metavar="SECONDS",
                       help="how long each request may take (%(default)s)")  # fmt: skip
    group.add_argument("--seed", type=int, help="the same seed gives the same moments and the same mix")


def _content(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--url", default=os.environ.get("INFERLANE_URL") or get_settings().base_url, help="the API (%(default)s)"
    )
    group.add_argument("--models", type=_shares, default={"any": 1.0}, metavar="NAME[=SHARE],...",
                       help="the mix of models, e.g. resnet18=3,any=1 (any)")  # fmt: skip
    group.add_argument("--priorities", type=_shares, default={"normal": 1.0}, metavar="NAME[=SHARE],...",
                       help="the mix of priorities, e.g. high=1,normal=6,low=3 (normal)")  # fmt: skip
    group.add_argument("--photo", type=_photo, action="append", metavar="FILE=CLASS+CLASS",
                       help="a photo and the class indices that are right for it; may be repeated (a cat)")  # fmt: skip


def _limits(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--max-error-rate", type=float, default=0.0, metavar="SHARE",
                       help="largest share of requests, 0 to 1, without a right answer (%(default)s)")  # fmt: skip
    group.add_argument("--max-p95", type=_positive, metavar="SECONDS", help="largest 95th percentile of latency")
    group.add_argument("--report", type=Path, action="append", default=[], metavar="FILE",
                       help="write a report, .html or .json; may be repeated")  # fmt: skip
    group.add_argument("-v", "--verbose", action="store_true", help="a line for each request that ends badly")


def photos_of(arguments: argparse.Namespace) -> list[Photo]:
    """What is sent in turn."""
    return arguments.photo or [Photo(images.read(CAT), CAT_CLASSES)]


def shots(arguments: argparse.Namespace, rng: random.Random) -> Iterator[Shot]:
    """Requests without end: the photos in turn, models and priorities drawn by their shares."""
    for photo in itertools.cycle(photos_of(arguments)):
        parameters: Parameters = {"model": _draw(arguments.models, rng), "priority": _draw(arguments.priorities, rng)}
        yield Shot(photo.upload, parameters, photo.judge)


def times(arguments: argparse.Namespace, rng: random.Random) -> Iterable[float | None]:
    """When each request starts; None as soon as a user is free."""
    if arguments.burst_mode:
        return traffic.bursts(arguments.burst_size, arguments.burst_interval, arguments.requests)
    if arguments.rate:
        return itertools.islice(traffic.arrivals(arguments.rate, float("inf"), rng), arguments.requests)
    return traffic.users(arguments.requests)


def places(arguments: argparse.Namespace) -> int:
    """How many requests may be under way."""
    open_loop = arguments.burst_mode or arguments.rate
    return int(arguments.in_flight if open_loop else arguments.concurrent)


def _draw(shares: dict[str, float], rng: random.Random) -> str:
    return rng.choices(list(shares), list(shares.values()))[0]


def _shares(text: str) -> dict[str, float]:
    pairs = [part.partition("=") for part in text.split(",") if part]
    found = {name.strip(): float(share or 1) for name, _, share in pairs}
    if not found or min(found.values()) < 0 or not sum(found.values()):
        raise argparse.ArgumentTypeError(f"{text!r} is no mix: give NAME=SHARE,NAME=SHARE")
    return found


def _photo(text: str) -> Photo:
    name, _, classes = text.rpartition("=")
    try:
        return Photo(images.read(name), frozenset(map(int, classes.split("+"))))
    except (ValueError, images.ImageUnreadable) as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}; give FILE=CLASS+CLASS, e.g. cat.png=281+282") from None


def _limited(kind: Callable[[str], float], text: str) -> float:
    if not 0 < (value := kind(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return value


def _count(text: str) -> int:
    return int(_limited(int, text))


def _positive(text: str) -> float:
    return _limited(float, text)
