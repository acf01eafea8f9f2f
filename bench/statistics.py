"""Medians with their spread, and percentiles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of some measurements, and the least and the greatest of them."""

    median: float
    least: float
    greatest: float
    count: int

    def text(self, digits: int = 1) -> str:
        """``median (least-greatest)``."""
        return f"{self.median:.{digits}f} ({self.least:.{digits}f}-{self.greatest:.{digits}f})"


def spread(values: Iterable[float]) -> Spread:
    """The spread of at least one value.

    Raises:
        ValueError: there is none.
    """
    ordered = sorted(values)
    if not ordered:
        raise ValueError("nothing was measured")
    return Spread(median(ordered), ordered[0], ordered[-1], len(ordered))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` (0..1) of the values do not exceed: nearest rank, never invented.

    Raises:
        ValueError: there is no value, or ``share`` is not in 0..1.
    """
    if not values or not 0 <= share <= 1:
        raise ValueError(f"percentile {share} of {len(values)} values")
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * round(share * 10_000) // 10_000))
    return ordered[rank - 1]
