"""Every variable that containers, manifests and the editor set is one that somebody reads."""

from __future__ import annotations

import re

import pytest

from common.settings import load_settings, variables
from tests.unit.deploy.files import ROOT, defaults, dockerfile, of_kind, own_services, pods, vscode

#: Variables of others: who reads them.
FOREIGN = {
    "PATH": "the system", "HOME": "the system", "PYTHONDONTWRITEBYTECODE": "Python", "PYTHONUNBUFFERED": "Python",
    "TORCH_HOME": "torch", "NVIDIA_VISIBLE_DEVICES": "NVIDIA's container runtime",
    "NVIDIA_DRIVER_CAPABILITIES": "NVIDIA's container runtime", "REDIS_PASSWORD": "the redis-server's command",
}  # fmt: skip
GUIDE = (ROOT / "docs" / "deploying.md").read_text()


def environments() -> dict[str, dict[str, str]]:
    """Every set of variables that some file gives one of our processes."""
    found = {f"compose {name}": service["environment"] for name, service in own_services().items()}
    found |= {f"editor {item['name']}": item.get("env", {}) for item in vscode("launch.json")["configurations"]}
    found |= {f"image {stage.name}": dict(re.findall(r"(\w+)=(\S+)", " ".join(stage.all("ENV"))))
              for stage in dockerfile().values()}  # fmt: skip
    for name, pod in pods().items():
        given = pod["spec"]["containers"][0].get("env", [])
        found[f"k8s {name}"] = {item["name"]: item.get("value", "") for item in given}
    (settings,) = [item for item in of_kind("ConfigMap") if item["metadata"]["name"] == "inferlane-settings"]
    return found | {"k8s settings": settings["data"]}


@pytest.mark.parametrize(("where", "environ"), environments().items(), ids=environments())
def test_variables_exist_and_have_values_that_parse(where: str, environ: dict[str, str]) -> None:
    assert set(environ) <= {*variables(), *FOREIGN}
    load_settings({name: defaults(str(value)) for name, value in environ.items() if name in variables()})


def test_the_guide_names_what_the_compose_file_takes_from_outside() -> None:
    taken = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    assert {name for name in taken - set(variables()) if f"`{name}`" not in GUIDE} == set()
