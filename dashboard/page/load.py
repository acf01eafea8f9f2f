"""The load test: a bounded burst, watched live."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import html

from common.settings import Settings
from dashboard.loadtest import MOST_CONCURRENT, MOST_REQUESTS
from dashboard.page.parts import act, aria, card, choice, line_up, note, subheading, whole_number


def panel(settings: Settings) -> Any:
    """The tab."""
    chart = dmc.BarChart(
        id="load-chart", h=220, data=[], dataKey="bar", series=[{"name": "requests", "color": "indigo.5"}],
        barProps={"isAnimationActive": False}, withBarValueLabel=True,
    )  # fmt: skip
    progress = dmc.Progress(id="load-progress", value=0, mt="xs", **aria(label="Answered, percent"))
    return card(
        "Load test",
        note("Sends the sample photo in different bytes each time. A user waits for the answer before sending again."),
        _form(settings),
        html.Div(id="load-text", className="said", **aria(live="polite")),
        dmc.Box([progress, subheading("Latency distribution", mt="md"), chart], id="load-run", display="none"),
        html.Div(id="load-results"),
    )


def _form(settings: Settings) -> Any:
    models = ["any", *settings.models]
    return line_up(
        whole_number("load-requests", f"Requests (up to {MOST_REQUESTS})", 100, MOST_REQUESTS, w=190),
        whole_number("load-concurrency", f"Concurrency (up to {MOST_CONCURRENT})", 8, MOST_CONCURRENT, w=180),
        dmc.MultiSelect(id="load-models", label="Models, in turn", data=models, value=["any"], w=260),
        choice("load-priority", "Priority", ["high", "normal", "low"], "normal", w=110),
        dmc.Button("Start", id="load-start", disabled=settings.dashboard_read_only),
        act("Stop", "stop-load", id="load-stop", color="red", variant="light", disabled=True),
        dmc.Text(id="load-said", size="sm"),
        mt="sm",
        className="filters",
    )
