"""What the deployment's files say, read as data."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
K8S = ROOT / "deploy" / "k8s"


@cache
def compose() -> dict[str, Any]:
    """docker-compose.yml, with its YAML anchors and merges resolved."""
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def services() -> dict[str, dict[str, Any]]:
    return compose()["services"]


def own_services() -> dict[str, dict[str, Any]]:
    """Those that run an image of this project."""
    return {name: service for name, service in services().items() if service["image"].startswith("inferlane")}


@cache
def manifests() -> tuple[dict[str, Any], ...]:
    """Every object in deploy/k8s."""
    files = [file for file in sorted(K8S.glob("*.yaml")) if file.name != "kustomization.yaml"]
    return tuple(document for file in files for document in yaml.safe_load_all(file.read_text()))


def of_kind(*kinds: str) -> list[dict[str, Any]]:
    return [item for item in manifests() if item["kind"] in kinds]


def pods() -> dict[str, dict[str, Any]]:
    """Name of the workload -> its pod template."""
    return {item["metadata"]["name"]: item["spec"]["template"] for item in of_kind("Deployment", "StatefulSet")}


def vscode(name: str) -> dict[str, Any]:
    return json.loads((ROOT / ".vscode" / name).read_text())


def defaults(text: str) -> str:
    """``text`` as Compose reads it when no variable is set: ``${NAME:-default}`` is the default, ``$$`` is ``$``."""
    return re.sub(r"\$\{\w+(?::-([^}]*)|:\?[^}]*)?\}", lambda found: found[1] or "", text).replace("$$", "$")


@dataclass
class Stage:
    """One ``FROM ... AS name`` of the Dockerfile."""

    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, keyword: str) -> list[str]:
        return [rest for word, rest in self.instructions if word == keyword]

    @property
    def copies(self) -> list[tuple[str | None, list[str]]]:
        """``(stage copied from or None, sources)`` of every COPY."""
        found = []
        for rest in self.all("COPY"):
            words = shlex.split(rest)
            origin = words.pop(0).removeprefix("--from=") if words[0].startswith("--from=") else None
            found.append((origin, words[:-1]))
        return found


@cache
def dockerfile() -> dict[str, Stage]:
    """The stages by name, in order."""
    text = re.sub(r"\\\n\s*", "", "\n".join(_code_lines()))
    stages: dict[str, Stage] = {}
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages[name] = Stage(name, base)
        elif stages:
            stages[next(reversed(stages))].instructions.append((word, rest.strip()))
    return stages


def _code_lines() -> Iterator[str]:
    for line in (ROOT / "deploy" / "Dockerfile").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            yield line


def ancestry(name: str) -> list[Stage]:
    """A stage and the stages it is built from."""
    stage = dockerfile().get(name)
    return [] if stage is None else [stage, *ancestry(stage.base)]


def image_sources(name: str) -> list[str]:
    """What the image ``name`` has of this repository."""
    return [
        source for stage in ancestry(name) for origin, sources in stage.copies if origin is None for source in sources
    ]


def image_tree(name: str, folder: Path) -> Path:
    """A copy in ``folder`` of the files that the working directory of the image ``name`` has."""
    for stage in reversed(ancestry(name)):
        for words in (shlex.split(rest) for rest in stage.all("COPY")):
            *sources, target = words
            if not words[0].startswith("--from=") and not target.startswith("/"):
                for source in sources:
                    _copy(source, folder / target)
    return folder


def _copy(source: str, target: Path) -> None:
    """As COPY does into a folder: a folder's content, or a file."""
    path = ROOT / source
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    for file in files:
        if not left_out(file.relative_to(ROOT).as_posix()):
            to = target / (file.relative_to(path) if path.is_dir() else file.name)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, to)


def left_out(path: str) -> bool:
    """Whether Dockerfile.dockerignore leaves ``path`` out: the last pattern that matches it or a parent decides."""
    ignored = False
    for line in (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines():
        pattern = line.strip().removeprefix("!").rstrip("/")
        if pattern and not line.startswith("#") and _matches(path, pattern):
            ignored = not line.startswith("!")
    return ignored


def _matches(path: str, pattern: str) -> bool:
    parts = path.rstrip("/").split("/")
    if pattern.startswith("**/"):
        return any(fnmatch(part, pattern[3:]) for part in parts)
    depth = pattern.count("/") + 1
    return len(parts) >= depth and fnmatch("/".join(parts[:depth]), pattern)
