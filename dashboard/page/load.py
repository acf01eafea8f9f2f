"""The load test: a bounded burst, watched live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dash_mantine_components as dmc
from dash import html

from dashboard.loadtest import MOST_CONCURRENT, MOST_REQUESTS
from dashboard.page.parts import act, aria, card, note

if TYPE_CHECKING:
    from common.settings import Settings


def panel(settings: Settings) -> Any:
    """The tab."""
    return card(
        "Load test",
        note("Sends the cat, each time in other bytes, from that many callers at once; each waits for its answer."),
        form(settings),
        html.Div(id="load-text", className="said", **aria(live="polite")),
        dmc.Progress(id="load-progress", value=0, mt="xs", **aria(label="Answered, percent")),
        dmc.Title("How long answers took", order=3, className="chart-title", mt="md"),
        dmc.BarChart(
            id="load-chart",
            h=220,
            data=[],
            dataKey="bar",
            series=[{"name": "requests", "color": "indigo.5"}],
            barProps={"isAnimationActive": False},
            withBarValueLabel=True,
        ),
        html.Div(id="load-results"),
    )


def form(settings: Settings) -> Any:
    """How much of what."""
    return dmc.Group(
        [
            dmc.NumberInput(
                id="load-requests", label=f"Requests (up to {MOST_REQUESTS})", value=100, min=1, max=MOST_REQUESTS,
                w=190, allowDecimal=False,
            ),
            dmc.NumberInput(
                id="load-concurrency", label=f"At once (up to {MOST_CONCURRENT})", value=8, min=1, max=MOST_CONCURRENT,
                w=160, allowDecimal=False,
            ),
            dmc.MultiSelect(
                id="load-models", label="Models, in turn", data=["any", *settings.models], value=["any"], w=260,
            ),
            dmc.Select(
                id="load-priority", label="Priority", data=["high", "normal", "low"], value="normal", w=110,
                allowDeselect=False,
            ),
            dmc.Button("Start", id="load-start", disabled=settings.dashboard_read_only),
            act("Stop", "stop-load", id="load-stop", color="red", variant="light", disabled=True),
            dmc.Text(id="load-said", size="sm"),
        ],
        align="flex-end",
        mt="sm",
    )  # fmt: skip
