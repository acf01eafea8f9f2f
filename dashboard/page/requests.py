"""The grid of recent requests. A row opens the drawer with its timeline."""

from __future__ import annotations

from typing import Any

import dash_ag_grid as dag
import dash_mantine_components as dmc
from dash import html

from dashboard.page.parts import act, aria, card
from dashboard.rows import SIGNS

#: The grid takes its colours from the page's, so that it follows dark and light.
GRID_THEME = (
    "themeQuartz.withParams({backgroundColor: 'var(--mantine-color-body)',"
    " foregroundColor: 'var(--mantine-color-text)',"
    " borderColor: 'var(--mantine-color-default-border)', headerBackgroundColor: 'var(--mantine-color-default-hover)',"
    " oddRowBackgroundColor: 'var(--mantine-color-body)', browserColorScheme: 'inherit', fontFamily: 'inherit',"
    " accentColor: 'var(--mantine-primary-color-filled)'})"
)


#: How long ago, in minutes.
TIMES = [
    {"value": str(minutes), "label": f"in the last {text}"}
    for minutes, text in ((5, "5 min"), (15, "15 min"), (60, "hour"), (360, "6 hours"), (1440, "day"))
]


def _number(field: str, name: str, **more: Any) -> dict[str, Any]:
    return {
        "field": field,
        "headerName": name,
        "type": "rightAligned",
        "width": 110,
        **more,
    }


COLUMNS: list[dict[str, Any]] = [
    {
        "field": "at",
        "headerName": "Accepted",
        "valueFormatter": {"function": "inferlaneClock(params.value)"},
        "width": 110,
    },
    {"field": "shown", "headerName": "State", "width": 140},
    {"field": "answer", "headerName": "Answer or error", "flex": 1, "minWidth": 180},
    {"field": "model", "headerName": "Model", "width": 170},
    {"field": "priority", "headerName": "Priority", "width": 100},
    {"field": "worker", "headerName": "Worker", "width": 170},
    _number("attempts", "Attempts", width=100),
    _number("queue", "Waited, ms"),
    _number("infer", "Infer, ms"),
    _number("total", "Total, ms"),
    {"field": "id", "headerName": "Id", "width": 320},
]


def panel() -> Any:
    """The tab."""
    told = html.Div(id="listing-text", className="note", **aria(live="polite"))
    older = act("Older requests", "older-requests", id="older", variant="default", size="xs", mt="sm")
    return card("Requests", filters(), told, grid(), older)


def filters() -> Any:
    """By state, by model, and one by its id."""
    states = [{"value": state, "label": f"{sign} {state}"} for state, sign in SIGNS.items()]
    return dmc.Group(
        [
            dmc.Select(id="filter-state", label="State", placeholder="all", data=states, clearable=True, w=140),
            dmc.Select(id="filter-model", label="Asked for model", placeholder="all", data=[], clearable=True, w=180),
            dmc.Select(
                id="filter-worker", label="Started by worker", placeholder="all", data=[], clearable=True, w=230,
                searchable=True,
            ),
            dmc.Select(id="filter-time", label="Accepted", placeholder="any time", data=TIMES, clearable=True, w=150),
            dmc.TextInput(
                id="find-id", label="Id begins with", placeholder="then Enter to open it", w=290, debounce=400,
            ),
            act("Open", "find-request", variant="default"),
        ],
        align="flex-end",
        mb="sm",
    )  # fmt: skip


def grid() -> Any:
    """The grid; click a row, or move to it and press Space or Enter."""
    return html.Div(
        dag.AgGrid(
            id="grid",
            columnDefs=COLUMNS,
            rowData=[],
            getRowId="params.data.id",
            defaultColDef={"sortable": True, "resizable": True, "filter": False},
            dashGridOptions={
                "theme": {"function": GRID_THEME},
                "rowSelection": {"mode": "singleRow", "checkboxes": False, "enableClickSelection": True},
                "animateRows": False,
            },
            # Not its selection: rows that change in the moment of the click take that back, and the row selected
            # already could not be opened again.
            eventListeners={"cellClicked": ["inferlaneOpen(params)"], "cellKeyDown": ["inferlaneKey(params)"]},
            style={"height": "62vh", "minHeight": "300px"},
            className="",
        )
    )
