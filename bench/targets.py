"""The project's targets, and whether a measurement reaches them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TargetResult:
    """One target, what was measured, and by how much it was missed."""

    target: str
    bound: float
    measured: float
    at_least: bool
    unit: str = ""

    @property
    def reached(self) -> bool:
        """Whether the measurement is on the right side of the bound."""
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound

    @property
    def result(self) -> str:
        """``reached``, or by how much it was missed."""
        if self.reached:
            return "reached"
        return f"missed by {number(abs(self.measured - self.bound))}{self._space}{self.unit}"

    @property
    def row(self) -> list[str]:
        """The cells of a table: target, bound, measured, result."""
        sign = "≥" if self.at_least else "≤"
        return [
            self.target,
            f"{sign} {number(self.bound)}{self._space}{self.unit}",
            f"{number(self.measured)}{self._space}{self.unit}",
            self.result,
        ]

    def to_json(self) -> dict[str, Any]:
        """For the results file."""
        return {
            "target": self.target, "bound": self.bound, "at_least": self.at_least, "measured": self.measured,
            "unit": self.unit, "result": self.result,
        }  # fmt: skip

    @property
    def _space(self) -> str:
        return " " if self.unit else ""


def at_least(target: str, bound: float, measured: float, unit: str = "") -> TargetResult:
    """A target that is reached from ``bound`` upwards."""
    return TargetResult(target, bound, measured, at_least=True, unit=unit)


def at_most(target: str, bound: float, measured: float, unit: str = "") -> TargetResult:
    """A target that is reached up to ``bound``."""
    return TargetResult(target, bound, measured, at_least=False, unit=unit)


def number(value: float) -> str:
    """Three significant digits, more before the point if there are."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
