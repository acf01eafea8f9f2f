"""Dashboards and alerts ask for numbers that the API really tells."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import promql_parser
import pytest
import yaml

from api.views.metrics import render
from common.settings import load_settings
from tasks.inspect.monitor import Monitor
from tests.unit.deploy.files import ROOT, services

GRAFANA = ROOT / "deploy" / "grafana"
PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = json.loads((GRAFANA / "dashboards" / "inferlane.json").read_text())
SUFFIXES = {"counter": ("_total", "_created"), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
#: Prometheus makes this one itself, for every target.
OWN = {"up"}


def panels() -> list[str]:
    queries = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    variables = [item["query"]["query"] for item in DASHBOARD["templating"]["list"]]
    asked = [found[1] for query in variables if (found := re.fullmatch(r"label_values\((.+), \w+\)", query))]
    assert len(asked) == len(variables)
    # Grafana puts these in before Prometheus sees the query.
    return [query.replace("$__rate_interval", "1m").replace("$model", ".*") for query in [*queries, *asked]]


def alerts() -> list[str]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def names(query: str) -> Iterator[str]:
    """Every metric in a query, by walking its syntax tree."""
    text = promql_parser.parse(query).prettify()
    inside = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(by|on|without|ignoring)\s*\([^)]*\)', "", text)
    for word in re.findall(r"[a-z_][a-z0-9_]*(?!\s*\()\b", inside):
        if word.startswith("inferlane_") or word in OWN:
            yield word


@pytest.fixture
def exposed(empty_redis: str) -> set[str]:
    """Names of all series the API tells, read from a real scrape."""
    text, _ = render(Monitor(load_settings({"REDIS_URL": empty_redis})), "text/plain")
    families = re.findall(r"^# TYPE (\S+) (\w+)$", text.decode(), re.MULTILINE)
    return {name.removesuffix("_total") + suffix if kind == "counter" else name + suffix
            for name, kind in families for suffix in SUFFIXES[kind]}  # fmt: skip


@pytest.mark.parametrize("query", [*panels(), *alerts()])
def test_queries_parse_and_name_only_what_is_exposed(query: str, exposed: set[str]) -> None:
    asked = set(names(query))
    assert asked
    assert asked <= exposed | OWN


def test_panels_do_not_overlap() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, (panel["title"], taken.get((x, y)))
                taken[x, y] = panel["title"]
        assert place["x"] + place["w"] <= 24


def test_prometheus_scrapes_the_service_that_compose_runs() -> None:
    scrape = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"][0]
    host, _, port = scrape["static_configs"][0]["targets"][0].partition(":")
    assert services()[host]["environment"]["API_PORT"] == port
    assert scrape["metrics_path"] == "/metrics/prometheus"


def test_grafana_finds_its_source_and_its_dashboards() -> None:
    provisioning = GRAFANA / "provisioning"
    source = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"][0]
    used = {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]}
    assert used == {source["uid"]}
    path = yaml.safe_load((provisioning / "dashboards" / "inferlane.yml").read_text())["providers"][0]["options"][
        "path"
    ]
    mounts = dict(volume.split(":")[1::-1] for volume in services()["grafana"]["volumes"])
    assert list(Path(ROOT / mounts[path]).glob("*.json"))
