"""The frame of the page: header, status strip, tabs, and the dialogs that any part may open."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import dcc, html

from common.settings import Settings
from dashboard.page import faults, load, overview, requests
from dashboard.page.parts import act, aria, card, note

THEME: dict[str, Any] = {
    "primaryColor": "indigo",
    "fontFamily": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif",
    "fontFamilyMonospace": "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace",
    "respectReducedMotion": True,
}
#: Key -> what it does (70-keys.js).
KEYS = (
    ("1 \u2026 7", "open a tab"),
    ("/", "find a request"),
    ("p", "pause or resume updates"),
    ("l", "log in"),
    ("Esc", "close what is open"),
    ("?", "show this sheet"),
)
#: Where callbacks without an output write, and what the scripts keep in the page.
STORES = ("pasted", "chosen", "sink-pace", "sink-choices", "sink-submit", "sink-kill", "sink-fault", "sink-snippets")
RATES = [
    {"value": "1", "label": "Every second"},
    {"value": "5", "label": "Every 5 seconds"},
    {"value": "paused", "label": "Paused"},
]


def layout(settings: Settings) -> Any:
    """The whole page."""
    frame = dmc.AppShell(
        header={"height": {"base": 84, "sm": 56}},
        padding="md",
        children=[_header(settings), dmc.AppShellMain([_strip(), _alerts(), _tabs(settings)])],
    )
    return dmc.MantineProvider(
        theme=THEME,
        defaultColorScheme="auto",
        children=[
            dcc.Store(id="config", data={"api": settings.public_url, "largest": settings.max_image_bytes}),
            *[dcc.Store(id=name) for name in STORES],
            dmc.NotificationContainer(id="notifications", position="bottom-right"),
            frame,
            _login_dialog(),
            _confirm_dialog(),
            _keys_dialog(),
            dmc.Drawer(id="drawer", title="Request", position="right", size="lg"),
        ],
    )


def _header(settings: Settings) -> Any:
    rate_label = {"input": {"aria-label": "How often the page updates"}}
    return dmc.AppShellHeader(
        className="header",
        children=[
            dmc.Title("Inferlane", order=1, className="brand"),
            html.Nav(_links(settings), className="links", **aria(label="Other pages")),
            *([dmc.Badge("read-only", color="gray", variant="light")] if settings.dashboard_read_only else []),
            dmc.Select(
                id="rate", data=RATES, value="1", allowDeselect=False, w=150, size="xs", attributes=rate_label
            ),
            act("?", "open-keys", id="keys-button", size="xs", variant="default", **aria(label="Keyboard shortcuts")),
            act("Log in", "open-login", id="login-button", size="xs", variant="default"),
            act("Log out", "logout", id="logout-button", size="xs", variant="default"),
            dmc.ColorSchemeToggle(
                id="scheme", lightIcon=html.Span("☀"), darkIcon=html.Span("☾"), size="lg",
                **aria(label="Switch between dark and light"),
            ),
        ],
    )  # fmt: skip


def _links(settings: Settings) -> list[Any]:
    links = (
        ("API docs", f"{settings.public_url}/docs", "every call, to try"),
        ("Metrics", f"{settings.public_url}/metrics/prometheus", "for Prometheus"),
        ("Flower", settings.flower_url, "Celery's monitor; it lists tasks with FLOWER_EVENTS=1"),
        ("Grafana", settings.dashboard_grafana_url, "charts over days"),
    )
    return [
        html.Span(dmc.Anchor(text, href=address, target="_blank", size="sm"), title=title)
        for text, address, title in links
        if address
    ]


def _strip() -> Any:
    """The status of the whole system, and how old it is."""
    children = [
        html.Div(id="verdict", role="status", **aria(live="polite")),
        html.Div(id="chips"),
        html.Div(id="as-of", className="note"),
    ]
    return dmc.Paper(children, id="strip", withBorder=True, p="sm", radius="md", mb="md")


def _alerts() -> Any:
    """Warnings, on every tab."""
    return html.Div([html.Div(id="banner", role="alert"), html.Div(id="random-banner"), html.Div(id="paused-banner")])


def _tabs(settings: Settings) -> Any:
    """Only the open tab is drawn: hidden charts would have no size."""
    letters = card("Dead letters", note("Failed requests, kept for review.", mb="xs"), html.Div(id="dead-letters"))
    panels = {
        "overview": ("Overview", overview.panel(settings)),
        "requests": ("Requests", requests.panel()),
        "dead": ("Dead letters", letters),
        "models": ("Models", card("Models", html.Div(id="models"))),
        "load": ("Load test", load.panel(settings)),
        "chaos": ("Faults", faults.panel()),
        "activity": ("Activity", _activity()),
    }
    heads = [dmc.TabsTab(title, value=name) for name, (title, _) in panels.items()]
    bodies = [dmc.TabsPanel(panel, value=name) for name, (_, panel) in panels.items()]
    return dmc.Tabs([dmc.TabsList(heads, mb="md", className="tab-list"), *bodies], id="tabs", value="overview")


def _activity() -> Any:
    return card(
        "Activity",
        note("What operators ordered and what happened to workers, newest first."),
        html.Div(id="counters", className="note"),
        html.Div(id="activity"),
    )


def _login_dialog() -> Any:
    return dmc.Modal(
        id="login-modal",
        title="Log in",
        children=[
            note("A user's API key shows their own requests; orders need an administrator's (ADMIN_KEY)."),
            note("The key stays on the dashboard's server, not in this browser."),
            dmc.PasswordInput(id="login-key", label="API key", mt="sm", **{"data-autofocus": True}),
            dmc.Text(id="login-error", c="red", size="sm", mt="xs"),
            dmc.Button("Log in", id="login-submit", mt="md"),
        ],
    )


def _confirm_dialog() -> Any:
    """Asks before an order that cannot be undone."""
    buttons = [act("", "confirm", id="confirm-act", color="red"), act("Back", "refuse", variant="default")]
    return dmc.Modal(
        id="confirm-modal",
        title="",
        children=[
            dmc.Text(id="confirm-text"),
            dmc.TextInput(id="confirm-typed", mt="sm", style={"display": "none"}),
            dmc.Group(buttons, justify="flex-end", mt="md"),
        ],
    )


def _keys_dialog() -> Any:
    lines = [html.Div([dmc.Kbd(key), html.Span(text)], className="line") for key, text in KEYS]
    return dmc.Modal(id="keys-modal", title="Keyboard shortcuts", children=lines)
