"""The grid of recent requests. A row opens the drawer with its timeline."""

from __future__ import annotations

from typing import Any

import dash_ag_grid as dag
import dash_mantine_components as dmc
from dash import html

from dashboard.page.parts import act, aria, card, line_up
from dashboard.rows import SIGNS

#: The grid takes its colours from the page, so that it follows dark and light.
GRID_THEME = (
    "themeQuartz.withParams({backgroundColor: 'var(--mantine-color-body)',"
    " foregroundColor: 'var(--mantine-color-text)',"
    " borderColor: 'var(--mantine-color-default-border)', headerBackgroundColor: 'var(--mantine-color-default-hover)',"
    " oddRowBackgroundColor: 'var(--mantine-color-body)', browserColorScheme: 'inherit', fontFamily: 'inherit',"
    " fontSize: 13, spacing: 6, cellHorizontalPadding: 8,"
    " accentColor: 'var(--mantine-primary-color-filled)'})"
)
ORDER = {"size": "xs", "variant": "light", "disabled": True}
NUMBER = {"type": "rightAligned"}
FLEXIBLE = {"flex": 1, "minWidth": 90}
CLOCK = {"valueFormatter": {"function": "inferlaneClock(params.value)"}}
TIME = {**NUMBER, "valueFormatter": {"function": "inferlaneDuration(params.value)"}}
#: Field, title, width and further properties of each column.
COLUMNS: tuple[tuple[str, str, int, dict[str, Any]], ...] = (
    ("at", "Accepted", 80, CLOCK),
    ("shown", "State", 105, {}),
    ("owner", "Owner", 80, {"hide": True}),
    ("answer", "Answer or error", 120, FLEXIBLE),
    ("model", "Model", 120, {}),
    ("priority", "Priority", 75, {}),
    ("worker", "Worker", 100, {}),
    ("attempts", "Attempts", 80, NUMBER),
    ("queue", "Waited", 70, TIME),
    ("total", "Total", 70, TIME),
    ("id", "Id", 280, {"cellStyle": {"fontFamily": "var(--mantine-font-family-monospace)", "fontSize": 12}}),
)
TIMES = [
    {"value": str(minutes), "label": f"in the last {text}"}
    for minutes, text in ((5, "5 min"), (15, "15 min"), (60, "hour"), (360, "6 hours"), (1440, "day"))
]


def panel() -> Any:
    """The tab."""
    text = html.Div(id="listing-text", className="note", **aria(live="polite"))
    orders = dmc.Group(
        [
            act("Requeue", "order-listed", id="requeue-listed", **{"data-verb": "requeue"}, **ORDER),
            act("Cancel all", "order-listed", id="cancel-listed", color="red", **{"data-verb": "cancel"}, **ORDER),
        ],
        gap="xs",
    )
    head = dmc.Group([text, orders], justify="space-between", mb="xs")
    older = act("Load older requests", "older-requests", id="older", variant="default", size="xs", mt="sm")
    return card("Requests", _filters(), head, html.Div(_grid()), older)


def _filters() -> Any:
    states = [{"value": state, "label": f"{sign} {state}"} for state, sign in SIGNS.items()]
    return line_up(
        _filter("state", "State", states, w=140),
        _filter("model", "Requested model", w=180),
        _filter("worker", "Worker", w=230, searchable=True),
        _filter("time", "Accepted", TIMES, "any time", w=150),
        dmc.TextInput(
            id="find-id", label="Id or custom_id contains", placeholder="Enter opens a whole id", w=190, debounce=400
        ),
        act("Open", "find-request", variant="default"),
        dmc.TextInput(id="filter-owner", label="Owner", w=130, debounce=400, display="none"),
        mb="sm",
        className="filters",
    )


def _filter(name: str, label: str, options: Any = (), placeholder: str = "all", **props: Any) -> Any:
    return dmc.Select(
        id=f"filter-{name}", label=label, placeholder=placeholder, data=list(options), clearable=True, **props
    )


def _grid() -> Any:
    """Click a row to open it, or move to it and press Enter; its box and Space select it."""
    columns = [{"field": field, "headerName": title, "width": width, **more} for field, title, width, more in COLUMNS]
    return dag.AgGrid(
        id="grid",
        columnDefs=columns,
        rowData=[],
        getRowId="params.data.key",
        defaultColDef={"sortable": True, "resizable": True, "filter": False},
        dashGridOptions={
            "theme": {"function": GRID_THEME},
            "rowSelection": {"mode": "multiRow"},
            "selectionColumnDef": {"width": 34},
            "animateRows": False,
            "suppressNoRowsOverlay": True,  # the text above the grid says so
        },
        # Not its selection: rows that change during the click undo that, and a selected row could not be opened again.
        eventListeners={
            "cellClicked": ["inferlaneOpen(params)"],
            "cellKeyDown": ["inferlaneKey(params)"],
            "selectionChanged": ["inferlaneSelected(params)"],
        },
        style={"height": "62vh"},
        className="",
    )
