"""Which script function reads what and writes where. All callbacks run in the browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dash import ClientsideFunction, Input, Output, State

if TYPE_CHECKING:
    from dash import Dash

SNAPSHOT = Input("snapshot", "data")
CHARTS = ("throughput", "latency", "split")


def wire(app: Dash) -> None:
    """Join the parts of the page to the scripts in ``assets/``."""
    for name, outputs, inputs, initial in (*_feed(), *_overview(), *_tables(), *_try_it(), *_runs(), *_dialogs()):
        app.clientside_callback(  # type: ignore[no-untyped-call]
            ClientsideFunction("inferlane", name), outputs, inputs, prevent_initial_call=not initial
        )


Wires = list[tuple[str, Any, list[Any], bool]]


def _feed() -> Wires:
    tick = Input("tick", "n_intervals")
    return [
        ("poll", Output("snapshot", "data"), [tick, State("rate", "value"), State("snapshot", "data")], True),
        ("rateOf", Output("tick", "interval"), [Input("rate", "value")], True),
        (
            "clockwork",
            [Output("as-of", "children"), Output("as-of", "c")],
            [tick, SNAPSHOT, Input("rate", "value")],
            True,
        ),
        ("status", [Output(name, "children") for name in ("verdict", "chips", "banner")], [SNAPSHOT], True),
        ("paused", Output("paused-banner", "children"), [SNAPSHOT], True),
        ("random", Output("random-banner", "children"), [SNAPSHOT], True),
    ]


def _overview() -> Wires:
    drawn = [
        *[Output(f"{name}-chart", "data") for name in (*CHARTS, "outcomes")],
        Output("outcomes-chart", "chartLabel"),
        *[Output(f"{name}-text", "children") for name in (*CHARTS, "outcomes")],
    ]
    return [
        ("tiles", Output("tiles", "children"), [SNAPSHOT], True),
        ("charts", drawn, [SNAPSHOT, Input("window", "value")], True),
        ("lanes", Output("lanes", "children"), [SNAPSHOT, Input("all-lanes", "checked")], True),
        ("workers", Output("workers", "children"), [SNAPSHOT], True),
    ]


def _tables() -> Wires:
    filters = [Input("filter-state", "value"), Input("filter-model", "value")]
    return [
        ("models", Output("models", "children"), [SNAPSHOT], True),
        ("activity", Output("activity", "children"), [SNAPSHOT], True),
        ("counters", Output("counters", "children"), [SNAPSHOT], True),
        ("listing", [Output("grid", "rowData"), Output("listing-text", "children")], [SNAPSHOT, *filters], True),
        ("selected", Output("sink-select", "data"), [Input("grid", "selectedRows")], False),
        ("closed", Output("sink-drawer", "data"), [Input("drawer", "opened")], False),
        ("deadLetters", Output("dead-letters", "children"), [SNAPSHOT, Input("tabs", "value")], True),
    ]


def _try_it() -> Wires:
    chosen = [Input("photo", "contents"), Input("pasted", "data"), State("photo", "filename")]
    asked = [State("chosen", "data"), State("model", "value"), State("priority", "value")]
    shown = [Output("steps", "active"), Output("step-text", "children"), Output("result", "children")]
    code = [
        Output(f"{name}-{part}", prop)
        for name in ("curl", "python")
        for part, prop in (("code", "children"), ("copy", "value"))
    ]
    told = [Input("model", "value"), Input("priority", "value"), Input("chosen", "data"), State("config", "data")]
    return [
        ("choose", Output("chosen", "data"), chosen, True),
        ("preview", [Output("preview", "src"), Output("photo-name", "children")], [Input("chosen", "data")], False),
        ("submit", Output("tried", "data"), [Input("classify", "n_clicks"), *asked], False),
        ("steps", shown, [Input("tried", "data")], True),
        ("snippets", code, told, False),
        (
            "offer",
            [Output("model", "data"), Output("filter-model", "data"), Output("load-models", "data")],
            [SNAPSHOT],
            True,
        ),
    ]


def _runs() -> Wires:
    load = [State(f"load-{name}", "value") for name in ("requests", "concurrency", "models", "priority")]
    shown = [
        Output("load-text", "children"),
        Output("load-progress", "value"),
        Output("load-chart", "data"),
        Output("load-results", "children"),
        Output("load-stop", "disabled"),
    ]
    fault = [State("victim", "value"), State("fault-mode", "value"), State("fault-seconds", "value")]
    choice = [
        Output("victim", "data"),
        Output("chaos-note", "children"),
        Output("drill-start", "disabled"),
        Output("fault-start", "disabled"),
    ]
    return [
        ("startLoad", Output("load-said", "children"), [Input("load-start", "n_clicks"), *load], False),
        ("load", shown, [SNAPSHOT], True),
        ("victims", choice, [SNAPSHOT], True),
        ("startDrill", Output("drill-said", "children"),
         [Input("drill-start", "n_clicks"), State("victim", "value"), State("drill-requests", "value")], False),
        ("drill", Output("drill", "children"), [SNAPSHOT], True),
        ("fault", Output("sink-fault", "data"), [Input("fault-start", "n_clicks"), *fault], False),
    ]  # fmt: skip


def _dialogs() -> Wires:
    said = [Output("login-modal", "opened"), Output("login-key", "value"), Output("login-error", "children")]
    given = [Input("login-submit", "n_clicks"), Input("login-key", "n_submit"), State("login-key", "value")]
    return [
        ("login", said, given, False),
        ("loginButton", [Output("login-button", "style"), Output("logout-button", "style")], [SNAPSHOT], True),
    ]
