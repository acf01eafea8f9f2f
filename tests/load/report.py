"""A load test's report on disk: the JSON document, or the same as one HTML page that loads nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

HEIGHT, STEP = 160, 36

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Load test</title>
<style>body{{font:16px system-ui;max-width:52em;margin:2em auto;color:#222}}td,th{{padding:.2em 1em .2em 0;
text-align:left}}.bad{{color:#b00020}}.good{{color:#00692b}}rect{{fill:#2563eb}}text{{font-size:10px}}</style>
<h1>Load test</h1><p class="{tone}">{verdict}</p>{tables}<h2>Latency of the right answers</h2>{chart}
</html>
"""


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Write ``document`` to ``path``: a page when its name ends in .html, else JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    html = path.suffix.lower() in {".html", ".htm"}
    path.write_text(page(document) if html else json.dumps(document, indent=2) + "\n")


def page(document: Mapping[str, Any]) -> str:
    """``document`` as HTML."""
    reasons = document["reasons"]
    names = ("sent", "succeeded", "unsent", "error_rate", "elapsed", "per_second")
    parts = [_table("How it went", ((name, document[name]) for name in names))]
    parts += [_table(name.capitalize(), document[name].items()) for name in ("latency", "errors", "workers", "weights")]
    for kind, rows in document["groups"].items():
        cells = ((name, ", ".join(f"{key} {_text(value)}" for key, value in row.items())) for name, row in rows.items())
        parts.append(_table(f"By {kind}", cells))
    return PAGE.format(
        tone="bad" if reasons else "good",
        verdict=escape("; ".join(reasons) or "Within the limits."),
        tables="".join(parts),
        chart=chart(document["histogram"]),
    )


def chart(histogram: list[dict[str, float]]) -> str:
    """The histogram as SVG, a bar with its count and its upper bound in milliseconds."""
    most = max((bar["count"] for bar in histogram), default=1)
    bars = []
    for number, bar in enumerate(histogram):
        x, height = number * STEP, HEIGHT * bar["count"] / most
        bars.append(
            f'<rect x="{x}" y="{HEIGHT - height + 14:.1f}" width="{STEP - 4}" height="{height:.1f}"/>'
            f'<text x="{x}" y="{HEIGHT - height + 11:.1f}">{bar["count"]}</text>'
            f'<text x="{x}" y="{HEIGHT + 28}">{bar["to"] * 1000:.0f}</text>'
        )
    return f'<svg width="{STEP * len(histogram)}" height="{HEIGHT + 34}">{"".join(bars)}</svg>'


def _table(title: str, rows: Iterable[tuple[str, Any]]) -> str:
    lines = "".join(f"<tr><th>{escape(str(name))}</th><td>{escape(_text(value))}</td></tr>" for name, value in rows)
    return f"<h2>{escape(title)}</h2><table>{lines or '<tr><td>none</td></tr>'}</table>"


def _text(value: Any) -> str:
    return "none" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
