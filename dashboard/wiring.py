"""Which script function reads what and writes where. All callbacks run in the browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dash import ClientsideFunction, Input, Output, State

if TYPE_CHECKING:
    from dash import Dash

Wire = tuple[str, Any, list[Any], bool]


def wire(app: Dash) -> None:
    """Join the parts of the page to the scripts in ``assets/``.

    What a snapshot changes is drawn by the scripts themselves and is not listed here.
    """
    for name, outputs, inputs, initial in (*_clock(), *_try_it(), *_runs(), *_login()):
        app.clientside_callback(  # type: ignore[no-untyped-call]
            ClientsideFunction("inferlane", name), outputs, inputs, prevent_initial_call=not initial
        )


def _clock() -> list[Wire]:
    choices = [("all-lanes", "checked"), ("window", "value"), ("tabs", "value")]
    asked = [(f"filter-{name}", "value") for name in ("state", "model", "worker", "time")]
    chosen = [Input(*choice) for choice in (*choices, *asked, ("find-id", "value"))]
    return [
        ("tick", Output("sink-tick", "data"), [Input("tick", "n_intervals"), Input("rate", "value")], True),
        ("pace", Output("tick", "interval"), [Input("rate", "value")], True),
        ("choices", Output("sink-choices", "data"), chosen, True),
    ]


def _try_it() -> list[Wire]:
    photo = [Input("photo", "contents"), Input("pasted", "data"), State("photo", "filename")]
    asked = [State("chosen", "data"), State("model", "value"), State("priority", "value")]
    code = [
        Output(f"{name}-{part}", prop)
        for name in ("curl", "python")
        for part, prop in (("code", "children"), ("copy", "value"))
    ]
    told = [Input("model", "value"), Input("priority", "value"), Input("chosen", "data"), State("config", "data")]
    return [
        ("choosePhoto", Output("chosen", "data"), photo, True),
        ("preview", [Output("preview", "src"), Output("photo-name", "children")], [Input("chosen", "data")], False),
        ("submit", Output("sink-submit", "data"), [Input("classify", "n_clicks"), *asked], False),
        ("snippets", code, told, False),
    ]


def _runs() -> list[Wire]:
    load = [State(f"load-{name}", "value") for name in ("requests", "concurrency", "models", "priority")]
    drill = [State("victim", "value"), State("drill-requests", "value")]
    fault = [State("victim", "value"), State("fault-mode", "value"), State("fault-seconds", "value")]
    return [
        ("startLoad", Output("load-said", "children"), [Input("load-start", "n_clicks"), *load], False),
        ("startDrill", Output("drill-said", "children"), [Input("drill-start", "n_clicks"), *drill], False),
        ("fault", Output("sink-fault", "data"), [Input("fault-start", "n_clicks"), *fault], False),
    ]


def _login() -> list[Wire]:
    said = [Output("login-modal", "opened"), Output("login-key", "value"), Output("login-error", "children")]
    given = [Input("login-submit", "n_clicks"), Input("login-key", "n_submit"), State("login-key", "value")]
    return [("login", said, given, False)]
