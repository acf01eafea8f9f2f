"""Small pieces that several parts of the page use."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import html


def card(title: str, *children: Any, **props: Any) -> Any:
    """A titled box."""
    return dmc.Paper(
        [dmc.Title(title, order=2, className="card-title"), *children], withBorder=True, p="md", radius="md", **props
    )


def note(text: str, **props: Any) -> Any:
    """A sentence in small print."""
    return dmc.Text(text, size="sm", c="dimmed", **props)


def aria(**names: str) -> dict[str, Any]:
    """``aria-`` attributes: ``aria(live="polite")``."""
    return {f"aria-{name}": value for name, value in names.items()}


def act(text: str, name: str, **props: Any) -> Any:
    """A button that the scripts know by ``name``."""
    return dmc.Button(text, **{"data-act": name}, **props)


def figure(chart: Any, name: str) -> Any:
    """A chart with the sentence that says the same, filled in as ``<name>-text``."""
    return html.Figure([chart, html.Figcaption(id=f"{name}-text", className="note")], className="figure")
