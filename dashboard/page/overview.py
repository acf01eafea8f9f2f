"""The first tab: try it, rates and latencies, workers and lanes."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import dcc, html

from common.settings import Settings
from dashboard.page.parts import act, aria, card, choice, heading, note, subheading
from dashboard.view import WINDOWS

#: Line colours that stay apart for colour-blind eyes, on dark and on light.
BLUE, ORANGE, TEAL = "indigo.5", "orange.6", "teal.6"
#: Line chart -> title, the function that says its numbers, lines.
CHARTS = {
    "throughput": ("Requests", "inferlaneRate", (("in", TEAL), ("answered", BLUE))),
    "latency": ("Latency", "inferlaneDuration", (("p50", TEAL), ("p95", BLUE), ("p99", ORANGE))),
    "split": ("Waiting and inference, p95", "inferlaneDuration", (("queue", ORANGE), ("infer", BLUE))),
}


def panel(settings: Settings) -> Any:
    """The tab."""
    columns = ((_try_it(settings), 5, 4), (_numbers(), 7, 8))
    grid = [dmc.GridCol(column, span={"base": 12, "md": md, "lg": lg}) for column, md, lg in columns]
    workers = card("Workers", html.Div(id="workers", className="loading"))
    owners = card("Owners", html.Div(id="owners"), id="owners-card", display="none")
    return dmc.Stack([dmc.Grid(grid), workers, _lanes(), owners])


def _try_it(settings: Settings) -> Any:
    return card("Try it", _photo(), *_choices(settings), *_journey(), h="100%", className="try-it")


def _photo() -> Any:
    """Drop, pick, paste, or take the sample."""
    upload = dcc.Upload(
        id="photo",
        accept="image/*",
        className="drop",
        className_active="drop drop-active",
        children=[
            html.Img(id="preview", src="assets/cat.jpg", alt="The photo that will be sent"),
            html.Div(["Drop or paste a photo here, or ", html.Strong("pick one"), "."], className="note"),
        ],
    )
    sample = act("Use the sample", "use-cat", size="compact-xs", variant="subtle")
    name = dmc.Group([dmc.Text(id="photo-name", size="sm"), sample], justify="space-between")
    return html.Div([upload, name], className="photo")


def _choices(settings: Settings) -> list[Any]:
    """Which model, how urgent, go."""
    models = [{"value": "any", "label": "any model"}, *[{"value": name, "label": name} for name in settings.models]]
    fields = [
        choice("model", "Model", models, "any", flex=1),
        choice("priority", "Priority", ["high", "normal", "low"], "normal", w=110),
    ]
    buttons = [
        dmc.Button(
            "Classify", id="classify", fullWidth=True, mt="sm", size="md", disabled=settings.dashboard_read_only
        ),
        act("Kill the worker that has it", "kill", id="kill", variant="default", mt="xs", display="none"),
    ]
    return [dmc.Group(fields, mt="xs"), *buttons]


def _journey() -> list[Any]:
    """The photo's way through lane and workers, and the answer."""
    return [
        html.Div(id="journey"),
        html.Div(id="step-text", className="said", **aria(live="polite")),
        html.Div(id="result"),
        act("The same with curl or in Python", "snippets", size="compact-sm", variant="subtle", mt="xs"),
    ]


def _numbers() -> Any:
    """Rate, errors, duration."""
    windows = [
        {"value": str(minutes), "label": f"{minutes} min" if minutes < 60 else f"{minutes // 60} h"}
        for minutes in WINDOWS
    ]
    window = dmc.SegmentedControl(id="window", data=windows, value=str(min(WINDOWS)), size="xs")
    head = dmc.Group([heading("Rate, errors, duration"), window], justify="space-between")
    charts = [_figure(name, title, _line_chart(name, told, lines)) for name, (title, told, lines) in CHARTS.items()]
    charts.append(_figure("outcomes", "How requests ended", dmc.Center(_pie(), h=180)))
    grid = dmc.SimpleGrid(charts, cols={"base": 1, "sm": 2})
    children = [_live(), head, html.Div(id="tiles", className="loading"), html.Div(id="marks"), grid]
    return dmc.Paper(children, withBorder=True, p="md", radius="md", h="100%", className="numbers")


def _live() -> Any:
    """The last minute, second by second."""
    charts = [
        _figure(f"live-{name}", title, html.Div(id=f"live-{name}-chart", className="live"))
        for name, title in (("rate", "Last minute: requests"), ("latency", "Last minute: mean latency"))
    ]
    return dmc.SimpleGrid(charts, cols={"base": 1, "sm": 2}, mb="sm")


def _figure(name: str, title: str, chart: Any) -> Any:
    """A chart and the sentence that describes it."""
    return html.Figure(
        [subheading(title), chart, html.Figcaption(id=f"{name}-text", className="note")], className="figure"
    )


def _line_chart(name: str, told: str, lines: tuple[tuple[str, str], ...]) -> Any:
    return dmc.LineChart(
        id=f"{name}-chart", h=180, data=[], dataKey="minute", valueFormatter={"function": told},
        series=[{"name": line, "color": color} for line, color in lines],
        withLegend=True, legendProps={"height": 28}, curveType="linear", strokeWidth=2, connectNulls=False,
        dotProps={"r": 2, "strokeWidth": 1}, lineProps={"isAnimationActive": False},
        xAxisProps={"minTickGap": 30}, yAxisProps={"width": 86},
    )  # fmt: skip


def _pie() -> Any:
    return dmc.DonutChart(
        id="outcomes-chart", data=[], size=140, thickness=24, chartLabel="", withTooltip=True,
        tooltipDataSource="segment", pieProps={"isAnimationActive": False},
    )  # fmt: skip


def _lanes() -> Any:
    head = dmc.Group(
        [
            note("A paused lane accepts requests; workers take none from it until it is resumed."),
            dmc.Switch(id="all-lanes", label="Show lanes of models without workers", size="xs"),
        ],
        justify="space-between",
        mb="xs",
    )
    return card("Lanes", head, html.Div(id="lanes", className="loading"))
