"""Charts of results, as small SVG files that look the same on every run with the same numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

OURS, OTHERS, FAINT = "#0b7285", "#adb5bd", "#495057"
Bar = tuple[str, float, float, float]
"""Label, median, least, greatest."""


def bars(
    target: Path, title: str, axis: str, rows: Sequence[Bar], *, highlight: str, line: float | None = None
) -> None:
    """Horizontal bars with their spread, the first row on top; ``highlight`` is the label to stress."""
    figure, axes = _figure(8, 0.9 + 0.34 * len(rows))
    labels = [row[0] for row in rows]
    values = [row[1] for row in rows]
    spread = [[value - row[2] for value, row in zip(values, rows, strict=True)],
              [row[3] - value for value, row in zip(values, rows, strict=True)]]  # fmt: skip
    colours = [OURS if label.startswith(highlight) else OTHERS for label in labels]
    axes.barh(range(len(rows)), values, color=colours, xerr=spread, error_kw={"ecolor": FAINT, "lw": 1})
    axes.set_yticks(range(len(rows)), labels)
    axes.invert_yaxis()
    if line is not None:
        axes.axvline(line, color=FAINT, lw=1, ls="--")
    axes.set_xlabel(axis)
    _save(figure, axes, target, title)


def curves(
    target: Path, title: str, axes_names: tuple[str, str], series: Mapping[str, Sequence[tuple[float, float]]],
    *, logarithmic: bool = False, ideal: Sequence[tuple[float, float]] = (),
) -> None:  # fmt: skip
    """Lines with a mark at each point; ``ideal`` is drawn dashed."""
    figure, axes = _figure(6.4, 3.4)
    for name, points in series.items():
        axes.plot(*zip(*points, strict=True), marker="o", ms=4, lw=1.5, label=name)
    if ideal:
        axes.plot(*zip(*ideal, strict=True), color=FAINT, lw=1, ls="--", label="ideal")
    if logarithmic:
        axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel(axes_names[0])
    axes.set_ylabel(axes_names[1])
    axes.legend(frameon=False, fontsize=8)
    _save(figure, axes, target, title)


def _figure(width: float, height: float) -> tuple[Any, Any]:
    import matplotlib as mpl

    mpl.use("Agg")
    # Without a date and with a fixed salt for ids, equal numbers make equal files.
    mpl.rcParams.update({"svg.hashsalt": "inferlane", "font.size": 9, "svg.fonttype": "none"})
    from matplotlib import pyplot as plt

    return plt.subplots(figsize=(width, height), layout="constrained")


def _save(figure: Any, axes: Any, target: Path, title: str) -> None:
    from matplotlib import pyplot as plt

    axes.set_title(title, fontsize=10, loc="left")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(target, format="svg", metadata={"Date": None})
    plt.close(figure)
