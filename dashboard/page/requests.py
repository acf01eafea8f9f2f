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


def _number(field: str, name: str, **more: Any) -> dict[str, Any]:
    return {
        "field": field,
        "headerName": name,
        "type": "rightAligned",
        "filter": "agNumberColumnFilter",
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
    return card("Requests", filters(), html.Div(id="listing-text", className="note", **aria(live="polite")), grid())


def filters() -> Any:
    """By state, by model, and one by its id."""
    states = [{"value": state, "label": f"{sign} {state}"} for state, sign in SIGNS.items()]
    return dmc.Group(
        [
            dmc.Select(id="filter-state", label="State", placeholder="all", data=states, clearable=True, w=150),
            dmc.Select(id="filter-model", label="Asked for model", placeholder="all", data=[], clearable=True, w=200),
            dmc.TextInput(id="find-id", label="Find by id", placeholder="request id, then Enter", w=320),
            act("Open", "find-request", variant="default"),
        ],
        align="flex-end",
        mb="sm",
    )


def grid() -> Any:
    """The grid; click a row, or move to it and press Space."""
    return html.Div(
        dag.AgGrid(
            id="grid",
            columnDefs=COLUMNS,
            rowData=[],
            getRowId="params.data.id",
            defaultColDef={"sortable": True, "resizable": True, "filter": True},
            dashGridOptions={
                "theme": {"function": GRID_THEME},
                "rowSelection": {"mode": "singleRow", "checkboxes": False, "enableClickSelection": True},
                "animateRows": False,
            },
            style={"height": "62vh", "minHeight": "300px"},
            className="",
        )
    )
