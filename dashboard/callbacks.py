"""Dash's callbacks, all of which run in the browser: which function of the scripts reads what and writes where.

What a snapshot changes is drawn by the scripts themselves and is not listed here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State

CHOICES = (
    "all-lanes.checked window.value tabs.value filter-state.value filter-model.value filter-worker.value"
    " filter-time.value filter-owner.value find-id.value drawer.opened"
)
#: Function -> outputs, inputs and states as ``id.property``.
AT_START: dict[str, tuple[str, str, str]] = {
    "pace": ("sink-pace.data", "rate.value", ""),
    "choices": ("sink-choices.data", CHOICES, ""),
    "choosePhoto": ("chosen.data", "photo.contents pasted.data", "photo.filename config.data"),
}
ON_CHANGE: dict[str, tuple[str, str, str]] = {
    "preview": ("preview.src photo-name.children", "chosen.data", ""),
    "submit": ("sink-submit.data", "classify.n_clicks", "chosen.data model.value priority.value"),
    "killHolder": ("sink-kill.data", "kill.n_clicks", "chosen.data model.value priority.value"),
    "snippets": ("sink-snippets.data", "model.value priority.value chosen.data", "config.data"),
    "startLoad": (
        "load-said.children",
        "load-start.n_clicks",
        "load-requests.value load-concurrency.value load-models.value load-priority.value",
    ),
    "startDrill": ("drill-said.children", "drill-start.n_clicks", "victim.value drill-requests.value"),
    "fault": ("sink-fault.data", "fault-start.n_clicks", "victim.value fault-mode.value fault-seconds.value"),
    "login": (
        "login-modal.opened login-key.value login-error.children",
        "login-submit.n_clicks login-key.n_submit",
        "login-key.value",
    ),
}


def _each(kind: Callable[[str, str], Any], names: str) -> Iterator[Any]:
    for name in names.split():
        component, _, prop = name.partition(".")
        yield kind(component, prop)


def register(app: Dash) -> None:
    """Add the callbacks to the page."""
    for function, (outputs, inputs, states) in {**AT_START, **ON_CHANGE}.items():
        wanted = list(_each(Output, outputs))
        given = [*_each(Input, inputs), *_each(State, states)]
        app.clientside_callback(  # type: ignore[no-untyped-call]
            ClientsideFunction("inferlane", function),
            wanted if len(wanted) > 1 else wanted[0],
            given,
            prevent_initial_call=function in ON_CHANGE,
        )
