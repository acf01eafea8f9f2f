"""Faults on purpose: a drill that proves nothing is lost, and single faults."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import html

from dashboard.drill import MOST_REQUESTS
from dashboard.page.parts import aria, card, note

#: The faults of a worker, in words.
MODES = (
    ("crash", "crash: SIGKILL"),
    ("exit", "exit: end inside the next forward pass"),
    ("hang", "hang: the next forward pass never returns"),
    ("slow", "slow: every forward pass takes longer"),
    ("error", "error: every forward pass fails"),
    ("drop", "drop: Redis closes its connections"),
    ("freeze", "freeze: SIGSTOP for some seconds"),
    ("off", "off: back to normal"),
)


def panel() -> Any:
    """The tab."""
    return card("Faults", html.Div(id="chaos-note"), victim(), dmc.Grid([drill(), single()], mt="md"))


def victim() -> Any:
    """Which worker."""
    return dmc.Select(id="victim", label="Worker", placeholder="choose one", data=[], w=340, clearable=True)


def drill() -> Any:
    """Kill a worker with work in hand and follow the work."""
    return dmc.GridCol(
        [
            dmc.Title("Recovery drill", order=3, className="chart-title"),
            note("Gives the worker requests, kills it while it works on them, and follows every one to its end."),
            dmc.Group(
                [
                    dmc.NumberInput(
                        id="drill-requests",
                        label="Requests",
                        value=8,
                        min=1,
                        max=MOST_REQUESTS,
                        w=120,
                        allowDecimal=False,
                    ),
                    dmc.Button("Kill it and watch", id="drill-start", color="red"),
                    dmc.Text(id="drill-said", size="sm"),
                ],
                align="flex-end",
                my="sm",
            ),
            html.Div(id="drill", **aria(live="polite")),
        ],
        span={"base": 12, "md": 7},
    )


def single() -> Any:
    """One fault, for whoever wants to watch it alone."""
    return dmc.GridCol(
        [
            dmc.Title("One fault", order=3, className="chart-title"),
            dmc.Select(
                id="fault-mode",
                label="Fault",
                data=[{"value": mode, "label": text} for mode, text in MODES],
                value="slow",
                allowDeselect=False,
            ),
            dmc.NumberInput(id="fault-seconds", label="Seconds (slow, freeze)", value=2, min=0.1, max=60, mt="xs"),
            dmc.Button("Cause it", id="fault-start", color="red", variant="light", mt="sm"),
        ],
        span={"base": 12, "md": 5},
    )
