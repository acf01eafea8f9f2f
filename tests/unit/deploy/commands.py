"""Every command line of the Dockerfile, the compose file, the manifests and the editor."""

from __future__ import annotations

import json

from tests.unit.deploy.files import defaults, dockerfile, own_services, pods, vscode


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
