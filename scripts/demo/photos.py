"""The photos of the demonstration, their right classes, and how an answer is printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from inferlane.console import plain, seconds
from scripts.programs import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from inferlane import Result

FOLDER = ROOT / "docs" / "images"
CAT = FOLDER / "cat.png"
COFFEE = FOLDER / "coffee.jpg"
ROCKET = FOLDER / "rocket.jpg"
#: The ImageNet classes that are right for each photo.
PHOTOS = {
    CAT: range(281, 286),  # tabby, tiger, Persian, Siamese, Egyptian
    COFFEE: range(967, 970),  # espresso, cup, eggnog
    ROCKET: (657, 744, 812),  # missile, projectile, space shuttle
}
WIDTH = 30


def problem(photo: Path, result: Result) -> str:
    """Why ``result`` is not a real model's right answer for ``photo``; empty when it is."""
    if result.weights == "random":
        return "the answer comes from random weights (ALLOW_RANDOM_WEIGHTS=1) and means nothing"
    right = photo not in PHOTOS or result.best.index in PHOTOS[photo]
    return "" if right else f"{photo.name} is not {result.best.label!r}"


def show(console: Console, photo: Path, result: Result) -> None:
    """Print the classes, each with a bar as long as its probability."""
    took = seconds(result.processing_time)
    line = plain(f"{photo.name}: {result.model}, weights {result.weights}, {took}")
    console.print(line, markup=False, soft_wrap=True)
    table = Table.grid(padding=(0, 1))
    for guess in result.predictions:
        bar = "█" * max(1, round(WIDTH * guess.confidence))
        table.add_row(Text(f"{guess.confidence:6.1%}"), Text(f"{bar:<{WIDTH}}", style="green"), plain(guess.label))
    console.print(table)
