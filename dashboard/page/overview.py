"""The first tab: try it, the numbers that users feel, lanes and workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dash_mantine_components as dmc
from dash import dcc, html

from dashboard.page.parts import act, aria, card, figure, note
from dashboard.view import WINDOWS

if TYPE_CHECKING:
    from common.settings import Settings

PRIORITIES = ("high", "normal", "low")
#: Line colours that stay apart for colour-blind eyes, and on dark and light.
BLUE, ORANGE, RED, TEAL = "indigo.5", "orange.6", "red.7", "teal.6"


def panel(settings: Settings) -> Any:
    """The tab."""
    return dmc.Stack(
        [
            dmc.Grid(
                [
                    dmc.GridCol(try_it(settings), span={"base": 12, "md": 5, "lg": 4}),
                    dmc.GridCol(numbers(), span={"base": 12, "md": 7, "lg": 8}),
                ]
            ),
            workers(),
            lanes(),
        ]
    )


# -- try it


def try_it(settings: Settings) -> Any:
    """A photo in, an answer out, every step shown."""
    return card("Try it", photo(), choices(settings), steps(), snippets(), h="100%")


def photo() -> Any:
    """Drop, pick, paste, or take the cat."""
    return html.Div(
        [
            dcc.Upload(
                id="photo",
                accept="image/*",
                max_size=10 * 1024 * 1024,
                className="drop",
                className_active="drop drop-active",
                children=[
                    html.Img(id="preview", src="assets/cat.jpg", alt="The photo that will be sent"),
                    html.Div(["Drop or paste a photo here, or ", html.Strong("pick one"), "."], className="note"),
                ],
            ),
            dmc.Group(
                [
                    dmc.Text(id="photo-name", size="sm"),
                    act("Use the cat", "use-cat", size="compact-xs", variant="subtle"),
                ],
                justify="space-between",
            ),
        ]
    )


def choices(settings: Settings) -> Any:
    """Which model, how urgent, go."""
    models = [{"value": "any", "label": "any model"}, *[{"value": name, "label": name} for name in settings.models]]
    return html.Div(
        [
            dmc.Group(
                [
                    dmc.Select(id="model", label="Model", data=models, value="any", allowDeselect=False, flex=1),
                    dmc.Select(
                        id="priority", label="Priority", data=PRIORITIES, value="normal", allowDeselect=False, w=110
                    ),
                ],
                mt="xs",
            ),
            dmc.Button(
                "Classify", id="classify", fullWidth=True, mt="sm", size="md", disabled=settings.dashboard_read_only
            ),
        ]
    )


def steps() -> Any:
    """Queued, running, done; and what came out."""
    return html.Div(
        [
            dmc.Stepper(
                id="steps",
                active=-1,
                size="xs",
                mt="md",
                iconSize=24,
                allowNextStepsSelect=False,
                children=[dmc.StepperStep(label=text) for text in ("Queued", "Running", "Done")],
            ),
            html.Div(id="step-text", className="said", **aria(live="polite")),
            html.Div(id="result"),
        ]
    )


def snippets() -> Any:
    """The same from a shell and from Python."""
    return dmc.Accordion(
        mt="md",
        variant="contained",
        children=[
            dmc.AccordionItem(
                [
                    dmc.AccordionControl(text),
                    dmc.AccordionPanel(
                        [
                            html.Pre(id=f"{name}-code", className="command", tabIndex=0),
                            dmc.CopyButton(
                                "Copy", id=f"{name}-copy", value="", copiedChildren="Copied", size="compact-xs"
                            ),
                        ]
                    ),
                ],
                value=name,
            )
            for name, text in (("curl", "The same with curl"), ("python", "The same in Python"))
        ],
    )


# -- the numbers


def numbers() -> Any:
    """Rate, errors, duration."""
    window = dmc.SegmentedControl(
        id="window",
        data=[{"value": str(minutes), "label": label(minutes)} for minutes in WINDOWS],
        value=str(min(WINDOWS)),
        size="xs",
    )
    head = dmc.Group(
        [dmc.Title("Rate, errors, duration", order=2, className="card-title"), window], justify="space-between"
    )
    return dmc.Paper(
        [
            head,
            html.Div(id="tiles", className="loading"),
            html.Div(id="marks"),
            dmc.SimpleGrid(charts(), cols={"base": 1, "lg": 2}),
        ],
        withBorder=True,
        p="md",
        radius="md",
        h="100%",
    )


def label(minutes: int) -> str:
    """A window, in short."""
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h"


def charts() -> list[Any]:
    """Throughput, latency, where the time goes, and how requests ended."""
    return [
        figure(
            line("throughput", "Requests a second", "/s", (("in", TEAL), ("answered", BLUE), ("failed", RED))),
            "throughput",
        ),
        figure(line("latency", "Latency", " ms", (("p50", TEAL), ("p95", BLUE), ("p99", ORANGE))), "latency"),
        figure(line("split", "Waiting and inference, p95", " ms", (("queue", ORANGE), ("infer", BLUE))), "split"),
        figure(pie(), "outcomes"),
    ]


def line(name: str, title: str, unit: str, series: tuple[tuple[str, str], ...]) -> Any:
    """A line chart over minutes."""
    return html.Div(
        [
            dmc.Title(title, order=3, className="chart-title"),
            dmc.LineChart(
                id=f"{name}-chart",
                h=180,
                data=[],
                dataKey="minute",
                series=[{"name": each, "color": color} for each, color in series],
                unit=unit,
                withLegend=True,
                dotProps={"r": 2, "strokeWidth": 1},
                curveType="linear",
                strokeWidth=2,
                connectNulls=False,
                lineProps={"isAnimationActive": False},
                xAxisProps={"minTickGap": 30},
                yAxisProps={"width": 78},
                legendProps={"height": 28},
            ),
        ]
    )


def pie() -> Any:
    """How requests ended."""
    return html.Div(
        [
            dmc.Title("How requests ended", order=3, className="chart-title"),
            dmc.Center(
                dmc.DonutChart(
                    id="outcomes-chart", data=[], size=140, thickness=24, chartLabel="", withTooltip=True,
                    tooltipDataSource="segment", pieProps={"isAnimationActive": False},
                ),
                h=180,
            ),
        ]
    )  # fmt: skip


# -- lanes and workers


def lanes() -> Any:
    """Every lane, with Pause and Resume."""
    return card(
        "Lanes",
        dmc.Group(
            [
                note("A paused lane accepts; nothing is taken from it until it is resumed."),
                dmc.Switch(id="all-lanes", label="Show lanes of models without workers", size="xs"),
            ],
            justify="space-between",
            mb="xs",
        ),
        html.Div(id="lanes", className="loading"),
    )


def workers() -> Any:
    """Every live worker, with Drain and Chaos."""
    return card("Workers", html.Div(id="workers", className="loading"))
