"""Small pieces that several parts of the page use."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc


def card(title: str, *children: Any, **props: Any) -> Any:
    """A titled box."""
    return dmc.Paper([heading(title), *children], withBorder=True, p="md", radius="md", **props)


def heading(text: str) -> Any:
    """The title of a card."""
    return dmc.Title(text, order=2, className="card-title")


def subheading(text: str, **props: Any) -> Any:
    """The title of a part of a card."""
    return dmc.Title(text, order=3, className="chart-title", **props)


def note(text: str, **props: Any) -> Any:
    """A sentence in small print."""
    return dmc.Text(text, size="sm", c="dimmed", **props)


def aria(**names: str) -> dict[str, Any]:
    """``aria-`` attributes: ``aria(live="polite")``."""
    return {f"aria-{name}": value for name, value in names.items()}


def act(text: str, name: str, **props: Any) -> Any:
    """A button that the scripts know by ``name``."""
    return dmc.Button(text, **{"data-act": name}, **props)


def line_up(*children: Any, **props: Any) -> Any:
    """Fields and buttons of a form, side by side."""
    return dmc.Group(list(children), align="flex-end", **props)


def choice(name: str, label: str, options: Any, value: str, **props: Any) -> Any:
    """A select that always has a value."""
    return dmc.Select(id=name, label=label, data=options, value=value, allowDeselect=False, **props)


def whole_number(name: str, label: str, value: int, most: int, **props: Any) -> Any:
    """A field for a number from 1 to ``most``."""
    return dmc.NumberInput(id=name, label=label, value=value, min=1, max=most, allowDecimal=False, **props)
