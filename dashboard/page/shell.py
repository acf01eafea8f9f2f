"""The frame of the page: header, status strip, tabs, and the dialogs that any part may open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dash_mantine_components as dmc
from dash import dcc, html

from dashboard.page import chaos, load, overview, requests
from dashboard.page.parts import act, aria, card, note

if TYPE_CHECKING:
    from common.settings import Settings

THEME: dict[str, Any] = {
    "primaryColor": "indigo",
    "fontFamily": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif",
    "fontFamilyMonospace": "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace",
    "respectReducedMotion": True,
}
TABS = (
    ("overview", "Overview"),
    ("requests", "Requests"),
    ("dead", "Dead letters"),
    ("models", "Models"),
    ("load", "Load test"),
    ("chaos", "Faults"),
    ("activity", "Activity"),
)


def layout(settings: Settings) -> Any:
    """The whole page."""
    return dmc.MantineProvider(
        theme=THEME,
        defaultColorScheme="auto",
        children=[
            *stores(settings),
            dmc.NotificationContainer(id="notifications", position="bottom-right"),
            dmc.AppShell(
                header={"height": 56},
                padding="md",
                children=[header(settings), dmc.AppShellMain([strip(), alerts(), tabs(settings)])],
            ),
            login_dialog(),
            confirm_dialog(),
            drawer(),
        ],
    )


def stores(settings: Settings) -> list[Any]:
    """What the scripts keep in the page, and its one clock."""
    config = {"api": settings.public_url}
    names = (
        "pasted",
        "chosen",
        *(f"sink-{name}" for name in ("tick", "choices", "submit", "fault")),
    )
    return [
        dcc.Interval(id="tick", interval=1000),
        dcc.Store(id="config", data=config),
        *[dcc.Store(id=name) for name in names],
    ]


def header(settings: Settings) -> Any:
    """Name, links, refresh rate, login, dark and light."""
    links = (
        ("API docs", f"{settings.public_url}/docs"),
        ("Metrics", f"{settings.public_url}/metrics/prometheus"),
        ("Flower", settings.flower_url),
        ("Grafana", settings.dashboard_grafana_url),
    )
    return dmc.AppShellHeader(
        className="header",
        children=[
            dmc.Title("Inferlane", order=1, className="brand"),
            html.Nav(
                [dmc.Anchor(text, href=address, target="_blank", size="sm") for text, address in links if address],
                className="links",
                **aria(label="Other pages"),
            ),
            *([dmc.Badge("read-only", color="gray", variant="light")] if settings.dashboard_read_only else []),
            dmc.Select(
                id="rate",
                data=[
                    {"value": "1", "label": "Every second"},
                    {"value": "5", "label": "Every 5 seconds"},
                    {"value": "paused", "label": "Paused"},
                ],
                value="1",
                allowDeselect=False,
                w=150,
                size="xs",
                attributes={"input": {"aria-label": "How often the page updates"}},
            ),
            act("Log in", "open-login", id="login-button", size="xs", variant="default"),
            act("Log out", "logout", id="logout-button", size="xs", variant="default"),
            dmc.ColorSchemeToggle(
                id="scheme",
                lightIcon=html.Span("☀"),
                darkIcon=html.Span("☾"),
                size="lg",
                **aria(label="Switch between dark and light"),
            ),
        ],
    )


def strip() -> Any:
    """Is it well, and since when do we know."""
    return dmc.Paper(
        id="strip",
        withBorder=True,
        p="sm",
        radius="md",
        mb="md",
        children=[
            html.Div(
                id="verdict",
                role="status",
                **aria(live="polite"),
            ),
            html.Div(id="chips"),
            html.Div(id="as-of", className="note"),
        ],
    )


def alerts() -> Any:
    """What needs attention, whatever tab is open."""
    return html.Div([html.Div(id="banner", role="alert"), html.Div(id="random-banner"), html.Div(id="paused-banner")])


def tabs(settings: Settings) -> Any:
    """The parts of the page. Only the open one is drawn: hidden charts would have no size."""
    panels = {
        "overview": overview.panel(settings),
        "requests": requests.panel(),
        "dead": card(
            "Dead letters", note("Requests that were given up on, kept for a person."), html.Div(id="dead-letters")
        ),
        "models": card("Models", html.Div(id="models")),
        "load": load.panel(settings),
        "chaos": chaos.panel(),
        "activity": card(
            "Activity",
            note("What operators ordered, newest first, and what has happened since the records began."),
            html.Div(id="counters", className="line"),
            html.Div(id="activity"),
        ),
    }
    heads = dmc.TabsList([dmc.TabsTab(text, value=name) for name, text in TABS], mb="md", className="tab-list")
    return dmc.Tabs(
        id="tabs",
        value="overview",
        children=[heads, *[dmc.TabsPanel(panels[name], value=name) for name, _ in TABS]],
    )


def login_dialog() -> Any:
    """Asks for an API key."""
    return dmc.Modal(
        id="login-modal",
        title="Log in",
        children=[
            note("An administrator's API key (ADMIN_KEY). It stays with the dashboard's server, not in this browser."),
            dmc.PasswordInput(id="login-key", label="API key", mt="sm", **{"data-autofocus": True}),
            dmc.Text(id="login-error", c="red", size="sm", mt="xs"),
            dmc.Button("Log in", id="login-submit", mt="md"),
        ],
    )


def confirm_dialog() -> Any:
    """Asks before what cannot be undone."""
    return dmc.Modal(
        id="confirm-modal",
        title="Are you sure?",
        children=[
            dmc.Text(id="confirm-text"),
            dmc.TextInput(id="confirm-typed", mt="sm", style={"display": "none"}),
            dmc.Group(
                [act("Yes, do it", "confirm", color="red"), act("No", "refuse", variant="default")],
                justify="flex-end",
                mt="md",
            ),
        ],
    )


def drawer() -> Any:
    """Everything about one request."""
    return dmc.Drawer(id="drawer", title="Request", position="right", size="lg")
