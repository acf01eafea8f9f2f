"""Faults on purpose: a drill that proves nothing is lost, and single faults."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import html

from dashboard.drill import MOST_REQUESTS
from dashboard.page.parts import aria, card, choice, line_up, note, subheading, whole_number

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
    worker = dmc.Select(
        id="victim", label="Worker", placeholder="choose one", data=[], w=340, maw="100%", clearable=True
    )
    columns = ((_drill(), 7), (_single_fault(), 5))
    grid = dmc.Grid([dmc.GridCol(column, span={"base": 12, "md": span}) for column, span in columns], mt="md")
    return card("Faults", html.Div(id="chaos-note"), worker, grid)


def _drill() -> list[Any]:
    return [
        subheading("Recovery drill"),
        note("Sends requests to the worker, kills it while it holds some, and follows each of them to its end."),
        line_up(
            whole_number("drill-requests", "Requests", 8, MOST_REQUESTS, w=120),
            dmc.Button("Start drill", id="drill-start"),
            dmc.Text(id="drill-said", size="sm"),
            my="sm",
        ),
        html.Div(id="drill", **aria(live="polite")),
    ]


def _single_fault() -> list[Any]:
    modes = [{"value": mode, "label": text} for mode, text in MODES]
    return [
        subheading("Single fault"),
        choice("fault-mode", "Fault", modes, "slow"),
        dmc.NumberInput(id="fault-seconds", label="Seconds (slow, freeze)", value=2, min=0.1, max=60, mt="xs"),
        dmc.Button("Inject fault", id="fault-start", variant="default", mt="sm"),
    ]
