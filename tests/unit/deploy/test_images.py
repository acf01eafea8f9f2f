"""What the images have: the files their processes need, the packages they import, and no root."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.locks import requirements
from tests.unit.deploy.files import ROOT, ancestry, dockerfile, image_sources, left_out, own_services

OWN_IMAGES = ["api", "worker", "worker-cuda"]


@pytest.mark.parametrize("image", OWN_IMAGES)
def test_what_the_dockerfile_copies_is_there_and_reaches_the_build(image: str) -> None:
    sources = image_sources(image)
    assert sources
    assert [source for source in sources if not (ROOT / source).exists() or left_out(source)] == []


def test_what_is_private_or_large_stays_out_of_the_build() -> None:
    for path in [".env", ".git", ".venv/bin/python", "tests/conftest.py", "api/__pycache__/app.pyc", ".run/logs"]:
        assert left_out(path), path


def test_stages_copy_only_from_stages_above_them() -> None:
    above: list[str] = []
    for name, stage in dockerfile().items():
        assert {origin for origin, _ in stage.copies if origin} <= set(above)
        above.append(name)
    builds = [service["build"] for service in own_services().values() if "build" in service]
    assert {build["target"] for build in builds} <= set(above)
    assert {(build["context"], build["dockerfile"]) for build in builds} == {(".", "deploy/Dockerfile")}


@pytest.mark.parametrize("image", OWN_IMAGES)
def test_images_run_as_nobody_in_particular(image: str) -> None:
    users = [user for stage in ancestry(image) for user in stage.all("USER")]
    assert users == ["10001:10001"]


def needed(group: str) -> set[str]:
    """The distributions that installing this dependency group brings, by their metadata."""
    todo = [Requirement(text).name for text in requirements(group)]
    found: set[str] = set()
    while todo:
        name = canonicalize_name(todo.pop())
        if name in found:
            continue
        try:
            wanted = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:
            continue
        found.add(name)
        todo += [item.name for item in wanted if item.marker is None or item.marker.evaluate({"extra": ""})]
    return found


FENCED = """
import importlib, sys
forbidden = set(sys.argv[1].split(","))
class Fence:
    def find_spec(self, name, path=None, target=None):
        if name in forbidden:
            raise ModuleNotFoundError(f"{name} is not in this image", name=name)
sys.meta_path.insert(0, Fence())
sys.path.insert(0, ".")
for name in sys.argv[2:]:
    importlib.import_module(name)
if "tasks.celery" in sys.argv:
    from tasks.celery import app
    app.loader.import_default_modules()
"""


@pytest.mark.parametrize(
    ("image", "group", "modules"),
    [
        (
            "api",
            "api",
            [
                "api.app",
                "api.http.api_keys",
                "dashboard.app",
                "inferlane",
                "granian",
                "api.__main__",
                "dashboard.__main__",
            ],
        ),
        (
            "worker",
            "worker",
            ["worker_models.runtimes", "scripts.alive", "scripts.flower", "flower", "tasks.celery"],
        ),
        ("worker-cuda", "torch", ["worker_models.torch_runtime", "worker_models.graphs", "tasks.celery"]),
        ("models", "worker", ["worker_models.__main__", "worker_models.graphs"]),
    ],
)
def test_an_image_has_all_that_its_processes_import(image: str, group: str, modules: list[str], tmp_path: Path) -> None:
    """With nothing of the repository but what is copied, and no package but what its dependency group brings."""
    for source in image_sources(image):
        (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / source.rstrip("/")).symlink_to(ROOT / source)
    there = needed(group)
    forbidden = [
        module for module, owners in packages_distributions().items()
        if not {canonicalize_name(owner) for owner in owners} & {*there, "setuptools"}
    ]  # fmt: skip
    assert ("torch" in forbidden) == (group != "torch")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FENCED, ",".join(forbidden), *modules],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
