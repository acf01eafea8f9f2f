"""Photos to show, what they show, and the bars that answers are drawn with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from inferlane.console import plain
from scripts.programs import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from inferlane import Prediction, Result

FOLDER = ROOT / "docs" / "images"
CAT = FOLDER / "cat.png"
ROCKET = FOLDER / "rocket.jpg"
#: Each photo and the ImageNet classes that are right for it.
PHOTOS = {
    CAT: range(281, 286),  # tabby, tiger, Persian, Siamese, Egyptian
    FOLDER / "coffee.jpg": range(967, 970),  # espresso, cup, eggnog
    ROCKET: (657, 744, 812),  # missile, projectile, space shuttle
}
WIDTH = 30


def right(photo: Path, result: Result) -> bool:
    """Whether a real model gave this answer and it is what the photo shows."""
    return result.weights != "random" and result.best.index in PHOTOS[photo]


def bars(predictions: Iterable[Prediction]) -> Table:
    """The classes with a bar as long as their probability."""
    table = Table.grid(padding=(0, 1))
    for guess in predictions:
        bar = "█" * max(1, round(WIDTH * guess.confidence))
        table.add_row(Text(f"{guess.confidence:6.1%}"), Text(f"{bar:<{WIDTH}}", style="green"), plain(guess.label))
    return table
