"""Every file has the form that its reader asks for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from tests.unit.deploy.files import K8S, ROOT, manifests, vscode

TOOLS = Path(sys.executable).parent


def run(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_compose_file_fits_the_compose_specification() -> None:
    run(TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")


def test_the_dockerfile_has_nothing_to_complain_about() -> None:
    run(TOOLS / "hadolint", "deploy/Dockerfile")


@pytest.mark.parametrize(
    "manifest",
    [item for item in manifests() if not item["apiVersion"].startswith("keda.sh")],
    ids=lambda item: f"{item['kind']}-{item['metadata']['name']}",
)
def test_manifests_fit_the_schemas_of_kubernetes(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_a_misspelt_field_would_be_noticed() -> None:
    manifest = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"portz": []}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_the_kustomization_lists_every_manifest_but_the_example_of_secrets() -> None:
    import yaml

    listed = yaml.safe_load((K8S / "kustomization.yaml").read_text())["resources"]
    there = {file.name for file in K8S.glob("*.yaml")} - {"kustomization.yaml", "secret.example.yaml", "secret.yaml"}
    assert set(listed) == there


def test_git_keeps_the_editor_settings() -> None:
    names = ["launch.json", "tasks.json", "extensions.json"]
    done = subprocess.run(
        ["git", "check-ignore", *(f".vscode/{name}" for name in names)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == ""
    assert all(vscode(name) for name in names)
