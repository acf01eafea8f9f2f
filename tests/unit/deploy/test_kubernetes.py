"""What the manifests promise each other: names, labels, lanes, secrets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from common.settings import load_settings
from tasks.lanes import PRIORITIES, lane
from tasks.protocol.keys import Keys
from tests.unit.deploy.files import K8S, ROOT, manifests, of_kind, pods


def settings_map() -> dict[str, str]:
    (item,) = [item for item in of_kind("ConfigMap") if item["metadata"]["name"] == "inferlane-settings"]
    return item["data"]


def test_kubernetes_has_the_same_redis_configuration() -> None:
    (item,) = [item for item in of_kind("ConfigMap") if item["metadata"]["name"] == "inferlane-redis"]
    assert item["data"]["redis.conf"] == (ROOT / "deploy" / "redis.conf").read_text()


@pytest.mark.parametrize(("name", "pod"), pods().items(), ids=pods())
def test_pods_run_as_nobody_in_particular_and_get_no_service_links(name: str, pod: dict[str, Any]) -> None:
    """A Service called api would set API_PORT to an address, and the settings would refuse it."""
    spec, container = pod["spec"], pod["spec"]["containers"][0]
    assert spec["enableServiceLinks"] is False
    assert spec["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "memory" in container["resources"]["limits"]
    assert "livenessProbe" in container


@pytest.mark.parametrize("item", of_kind("Deployment", "StatefulSet"), ids=lambda item: item["metadata"]["name"])
def test_selectors_select_their_own_pods_and_ports_have_names_that_exist(item: dict[str, Any]) -> None:
    labels = item["spec"]["template"]["metadata"]["labels"]
    assert item["spec"]["selector"]["matchLabels"] == labels
    selected = [service for service in of_kind("Service") if service["spec"]["selector"] == labels]
    names = {port["name"] for port in item["spec"]["template"]["spec"]["containers"][0].get("ports", [])}
    assert {port["targetPort"] for service in selected for port in service["spec"]["ports"]} == names


def test_disruption_budgets_are_about_pods_that_exist() -> None:
    labels = [pod["metadata"]["labels"] for pod in pods().values()]
    assert all(item["spec"]["selector"]["matchLabels"] in labels for item in of_kind("PodDisruptionBudget"))


def test_workers_differ_in_the_name_of_their_model_only() -> None:
    def shape(file: Path) -> str:
        dashed = file.stem.removeprefix("worker-")
        return file.read_text().replace(dashed, "MODEL").replace(dashed.replace("-", "_"), "MODEL")

    assert len({shape(file) for file in K8S.glob("worker-*.yaml")}) == 1


@pytest.mark.parametrize("item", of_kind("ScaledObject"), ids=lambda item: item["metadata"]["name"])
def test_keda_counts_the_lanes_of_the_model_it_scales(item: dict[str, Any]) -> None:
    settings = load_settings({key: str(value) for key, value in settings_map().items()})
    keys, spec = Keys(settings.key_prefix), item["spec"]
    model = pods()[spec["scaleTargetRef"]["name"]]["metadata"]["labels"]["model"]
    counted = {trigger["name"]: trigger["metadata"]["listName"] for trigger in spec["triggers"]}
    assert counted == {priority: keys.lane(lane(priority, model)) for priority in PRIORITIES}
    assert set(re.findall(r"\w+", spec["advanced"]["scalingModifiers"]["formula"])) == set(PRIORITIES)
    # The class of trigger takes texts only, and finds the password under this name.
    assert all(isinstance(value, str) for trigger in spec["triggers"] for value in trigger["metadata"].values())
    known = {other["metadata"]["name"] for other in of_kind("TriggerAuthentication")}
    assert {trigger["authenticationRef"]["name"] for trigger in spec["triggers"]} <= known


def test_secrets_and_settings_that_pods_ask_for_exist() -> None:
    there = {(item["kind"], item["metadata"]["name"]) for item in manifests()}
    asked = set()
    for pod in pods().values():
        container = pod["spec"]["containers"][0]
        asked |= {("Secret", item["valueFrom"]["secretKeyRef"]["name"])
                  for item in container.get("env", []) if "valueFrom" in item}  # fmt: skip
        for source in container.get("envFrom", []):
            kind = "Secret" if "secretRef" in source else "ConfigMap"
            asked.add((kind, next(iter(source.values()))["name"]))
    assert asked
    assert asked <= there
    assert not [item for item in of_kind("Secret") if any(item["stringData"].values())]
