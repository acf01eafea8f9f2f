"""What `make start` and `make demo` print in the end: one line for models without weights, Flower's login."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.settings import load_settings
from scripts import flower, system
from scripts.supervision import OperationError, saying
from tests.support.waiting import wait_until

NONE = "no weights for {}: WEIGHTS_DIR (/w) has no {}.pth; torchvision:IMAGENET1K_V1: cannot be reached"
SETTINGS = load_settings({"MODELS": "mobilenet,resnet18,efficientnet_lite0", "WEIGHTS_DIR": "/w"})


def prepared(monkeypatch: pytest.MonkeyPatch, *ready: str) -> None:
    skipped = {name: NONE.format(name, name) for name in ("resnet18", "mobilenet")} | {"mine": "m:f failed: KeyError"}
    outcome = {"ready": dict.fromkeys(ready, "pypi:x"), "skipped": skipped}
    monkeypatch.setattr(system, "_prepare", lambda _names: outcome)


def test_models_without_weights_are_one_line_and_other_reasons_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared(monkeypatch, "efficientnet_lite0")
    assert system.ready_models(SETTINGS) == ("efficientnet_lite0",)
    assert capsys.readouterr().out.splitlines() == [
        "not served: mine: m:f failed: KeyError",
        "not served, no weights: mobilenet, resnet18 (WEIGHTS_DIR: /w); docs/models.md",
    ]


def test_where_no_model_is_ready_every_reason_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared(monkeypatch)
    with pytest.raises(OperationError, match="no model is ready"):
        system.ready_models(SETTINGS)
    assert f"not served: resnet18: {NONE.format('resnet18', 'resnet18')}" in capsys.readouterr().out


def test_a_step_that_takes_long_says_so_and_a_short_one_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    with saying("Waiting for nothing."):
        pass
    with saying("Waiting for worker-toy-1."):
        assert wait_until(lambda: capsys.readouterr().err, 10) == "Waiting for worker-toy-1.\n"


def test_a_generated_password_is_shown_and_a_chosen_one_is_not(tmp_path: Path) -> None:
    generated = flower.login(load_settings({"RUN_DIR": str(tmp_path)}))
    assert generated == f"login: operator, password {(tmp_path / flower.FILE).read_text().strip()}"
    assert flower.login(load_settings({"FLOWER_BASIC_AUTH": "me:secret"})) == "login: FLOWER_BASIC_AUTH"
