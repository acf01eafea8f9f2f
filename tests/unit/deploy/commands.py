"""Every command line of the Dockerfile, the compose file, the manifests and the editor."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from tests.unit.deploy.files import ancestry, defaults, dockerfile, own_services, pods, vscode


def in_the_dockerfile() -> dict[str, list[str]]:
    found = {}
    for stage in dockerfile().values():
        for command in stage.all("CMD"):
            found[f"image {stage.name}"] = json.loads(command)
        for check in stage.all("HEALTHCHECK"):
            found[f"image {stage.name} health"] = json.loads(check.partition("CMD ")[2])
    return found


def in_compose() -> dict[str, list[str]]:
    found = {}
    for name, service in own_services().items():
        if "command" in service:
            found[f"compose {name}"] = [defaults(word) for word in service["command"]]
        if "healthcheck" in service:
            assert service["healthcheck"]["test"][0] == "CMD"
            found[f"compose {name} health"] = service["healthcheck"]["test"][1:]
    return found


def in_kubernetes() -> dict[str, list[str]]:
    found = {}
    for name, pod in pods().items():
        container = pod["spec"]["containers"][0]
        if not container["image"].startswith("inferlane"):
            continue
        found[f"k8s {name}"] = container["command"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if "exec" in container.get(probe, {}):
                found[f"k8s {name} {probe}"] = container[probe]["exec"]["command"]
    return found


def in_the_editor() -> dict[str, list[str]]:
    launch = vscode("launch.json")
    chosen = {f"${{input:{item['id']}}}": item["default"] for item in launch["inputs"]} | {
        "${file}": "tests/unit/test_alive.py"
    }
    found = {}
    for item in launch["configurations"]:
        arguments = item.get("args", [])
        for placeholder, value in chosen.items():
            arguments = [word.replace(placeholder, value) for word in arguments]
        assert not any("${" in word for word in arguments)
        found[f"editor {item['name']}"] = ["python", "-m", item["module"], *arguments]
    return found


COMMANDS = {**in_the_dockerfile(), **in_compose(), **in_kubernetes(), **in_the_editor()}


def normal(command: list[str]) -> tuple[str, ...]:
    """``python -m celery`` and ``celery`` are the same command."""
    return tuple(command[2:] if command[:2] == ["python", "-m"] else command)


def distinct(program: str) -> list[tuple[str, ...]]:
    return sorted({normal(command) for command in COMMANDS.values() if normal(command)[0] == program})


@dataclass(frozen=True)
class Run:
    """A container that keeps running: the image and the environment it has, its command, and what tells its health."""

    image: str
    command: tuple[str, ...]
    environ: dict[str, str] = field(default_factory=dict)
    checks: tuple[tuple[str, ...], ...] = ()
    paths: tuple[str, ...] = ()


def containers() -> dict[str, Run]:
    """Every container of the compose file and the manifests that has an image of ours."""
    return {**_of_compose(), **_of_kubernetes()}


def _of_compose() -> dict[str, Run]:
    found = {}
    for name, service in own_services().items():
        image = service["image"].removeprefix("inferlane-")
        command = COMMANDS.get(f"compose {name}") or COMMANDS[f"image {_with(image, 'CMD')}"]
        check = COMMANDS.get(f"compose {name} health") or COMMANDS[f"image {_with(image, 'HEALTHCHECK')} health"]
        environ = {key: defaults(value) for key, value in service["environment"].items()}
        found[f"compose {name}"] = Run(image, tuple(command), environ, (tuple(check),))
    return found


def _with(image: str, keyword: str) -> str:
    """The stage that an image has the last ``keyword`` from."""
    return next(stage.name for stage in ancestry(image) if stage.all(keyword))


def _of_kubernetes() -> dict[str, Run]:
    found = {}
    for name, pod in pods().items():
        (container,) = pod["spec"]["containers"]
        if not container["image"].startswith("inferlane-"):
            continue
        probes = [probe for key, probe in container.items() if key.endswith("Probe")]
        found[f"k8s {name}"] = Run(
            container["image"].removeprefix("inferlane-"),
            tuple(container["command"]),
            {item["name"]: item["value"] for item in container.get("env", []) if "value" in item},
            tuple(tuple(probe["exec"]["command"]) for probe in probes if "exec" in probe),
            tuple(probe["httpGet"]["path"] for probe in probes if "httpGet" in probe),
        )
    return found
