"""PRECISION=fast: OpenVINO on the real weights of EfficientNet-Lite0, and the gate that decides."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from common.settings import Settings
from worker_models import precision
from worker_models.__main__ import prepare
from worker_models.errors import InferenceFailed
from worker_models.graphs import obtain_graph
from worker_models.limits import Limits
from worker_models.model import load_card
from worker_models.openvino_runtime import OpenVinoRuntime, precisions
from worker_models.precision import Trial, best, fast_runtime, find_trials, kept_trials, views
from worker_models.registry import describe
from worker_models.runtimes import EXACT, OnnxRuntime, Pixels
from worker_models.weights import first_usable

CARD = describe("efficientnet_lite0")
HALF = [kind for kind in precisions() if kind != EXACT]
needs_half = pytest.mark.skipif(not HALF, reason="this CPU multiplies neither bfloat16 nor float16")


@pytest.fixture(scope="module")
def graph(shared_settings: Settings) -> Path:
    return first_usable(CARD, shared_settings, lambda weights: obtain_graph(weights, shared_settings))


@pytest.fixture(scope="module")
def pixels(shared_settings: Settings) -> Pixels:
    return views(CARD.transform, Limits.of_worker(shared_settings))


@pytest.fixture(scope="module")
def trials(graph: Path, shared_settings: Settings) -> dict[str, Trial]:
    return {trial.precision: trial for trial in find_trials(graph, CARD.transform, shared_settings)}


def test_the_photographs_are_different_and_the_model_knows_them(graph: Path, pixels, shared_settings: Settings):
    assert len(np.unique(pixels.reshape(len(pixels), -1), axis=0)) == len(pixels) >= 40
    exact = OnnxRuntime(graph, shared_settings)
    tops = [int(exact.run(pixel[np.newaxis]).argmax()) for pixel in pixels]
    assert len(set(tops)) >= 4, "photographs of one class would prove little"


def test_openvino_in_float32_gives_the_exact_answers(trials: dict[str, Trial]):
    assert trials[EXACT].changed == trials[EXACT].wrong == 0
    assert trials[EXACT].difference < 1e-4


@needs_half
def test_fast_takes_half_the_numbers_and_keeps_the_answers(trials: dict[str, Trial]):
    chosen = best(list(trials.values()))
    assert chosen is not None
    assert chosen.precision in HALF
    assert 1e-4 < chosen.difference < 0.15, "other numbers must have been used, and must hardly matter"


@needs_half
@pytest.mark.parametrize("threads", ["1", "2", "3"])
def test_passes_side_by_side_answer_as_one_alone_does(graph: Path, pixels, settings_with, threads: str):
    runtime = OpenVinoRuntime(graph, HALF[0], settings_with(intra_op_threads=threads))
    alone = np.concatenate([runtime.narrow(pixel[np.newaxis]) for pixel in pixels[:6]])
    orders = [np.arange(start, start + size) % 6 for start in range(20) for size in (1, 2)]
    with ThreadPoolExecutor(runtime.passes) as pool:
        for order, found in zip(orders, pool.map(lambda order: runtime.run(pixels[order]), orders), strict=True):
            np.testing.assert_allclose(found, alone[order], atol=0.02)
    runtime.close()


def test_an_error_of_openvino_becomes_ours_and_the_next_pass_works(graph: Path, pixels, settings_with):
    runtime = OpenVinoRuntime(graph, EXACT, settings_with(intra_op_threads="1"))
    with pytest.raises(InferenceFailed, match=r"^openvino: "):
        runtime.run(np.zeros((1, 2, 2, 3), np.uint8))
    assert runtime.run(pixels[:1]).shape == (1, 1000)


def compared(answers: list[list[float]], speed: float = 2.0) -> Trial:
    expected = np.array([[0.60, 0.40], [0.51, 0.49]], np.float32)
    return precision._compare("bfloat16", expected, np.array(answers, np.float32), speed)


def test_the_gate_refuses_another_class_only_where_the_answer_was_clear():
    assert compared([[0.60, 0.40], [0.49, 0.51]]).passed, "a tie may turn"
    assert not compared([[0.40, 0.60], [0.51, 0.49]]).passed
    assert not compared([[0.60, 0.40], [0.51, 0.49]], speed=1.05).passed, "no gain is worth no risk"
    slow, quick = compared([[0.60, 0.40], [0.51, 0.49]], 1.5), compared([[0.60, 0.40], [0.51, 0.49]], 1.9)
    assert best([slow, quick]) is quick
    assert best([]) is None


def test_trials_are_kept_for_this_cpu_and_these_versions(graph: Path, trials, shared_settings: Settings):
    file = graph.with_suffix(".fast.json")
    before = file.stat().st_mtime_ns
    assert find_trials(graph, CARD.transform, shared_settings) == list(trials.values())
    assert file.stat().st_mtime_ns == before
    kept = json.loads(file.read_text())
    for other in (kept | {"for": kept["for"] | {"cpu": "another"}}, []):
        file.write_text(json.dumps(other))
        assert kept_trials(graph) is None
    file.write_text(json.dumps(kept))


def test_without_openvino_fast_answers_exactly_and_says_so(graph: Path, shared_settings, monkeypatch, caplog):
    monkeypatch.setattr(precision, "_openvino", lambda: None)
    with caplog.at_level(logging.WARNING):
        assert fast_runtime(graph, CARD.transform, shared_settings) is None
    assert "scripts/setup.sh fast" in caplog.text


def test_prepare_says_what_fast_brings(shared_settings: Settings, trials):
    (told,) = map(str, prepare([CARD.name], shared_settings))
    assert "PRECISION=fast: " in told
    assert "times as fast as exact" in told


@needs_half
def test_answers_of_other_numbers_are_another_version_of_the_model(shared_settings: Settings, settings_with, trials):
    exact = load_card(CARD, shared_settings)
    cache = {"model_cache_dir": shared_settings.model_cache_dir, "runtime": "onnxruntime"}
    fast = load_card(CARD, settings_with(precision="fast", **cache))
    assert (exact.runtime, exact.precision) == ("onnxruntime", EXACT)
    assert (fast.runtime, fast.precision) == ("openvino", HALF[0])
    assert fast.version == f"{exact.version}-{HALF[0]}"
    assert exact.fast == fast.fast != ""
