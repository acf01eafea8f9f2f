"""A worker with PRECISION=fast: its answers, its row and the metrics say what computed them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stack import Stack
from worker_models.openvino_runtime import precisions
from worker_models.runtimes import EXACT

MODEL = "efficientnet_lite0"
HALF = next(iter(kind for kind in precisions() if kind != EXACT), None)
ADMIN = {"Authorization": "Bearer boss"}
CAT = Path(__file__).parents[2] / "docs" / "images" / "cat.png"


@pytest.fixture
def stack(redis_url: str, tmp_path: Path) -> Iterator[Stack]:
    with Stack(
        redis_url, tmp_path, MODELS=MODEL, MODEL_CACHE_DIR=tmp_path / "models", RUNTIME="onnxruntime"
    ) as started:
        yield started


@pytest.mark.slow
@pytest.mark.skipif(HALF is None, reason="this CPU multiplies neither bfloat16 nor float16")
def test_a_fast_worker_beside_an_exact_one(stack: Stack) -> None:
    api = stack.start_api(ADMIN_KEY="boss")
    wanted = {"fast": ("openvino", HALF), "exact": ("onnxruntime", EXACT)}
    photo = {"content": CAT.read_bytes(), "headers": {"Content-Type": "image/png"}}
    answers = {}
    for kind, computed in wanted.items():
        worker = stack.start_worker(MODEL, name=kind, timeout=120, PRECISION=kind)
        answer = api.client.post("/inference", params={"model_type": MODEL}, **photo).json()
        assert (answer["runtime"], answer["precision"]) == computed
        answers[kind] = answer["predictions"][0]
        (row,) = api.client.get("/workers/status").json()["workers"]
        assert (row["runtime"], row["precision"]) == computed
        assert "times as fast as exact" in row["fast"]
        labels = f'precision="{computed[1]}"'
        assert labels in api.client.get("/metrics/prometheus").text
        checks = {
            check["name"]: check["detail"] for check in api.client.get("/admin/doctor", headers=ADMIN).json()["checks"]
        }
        assert " ".join(computed) in checks[f"precision: {MODEL}"]
        stack.stop_workers()
        assert worker.returncode == 0
    assert answers["fast"]["class"] == answers["exact"]["class"] == "tiger cat"
    assert answers["fast"]["confidence"] != answers["exact"]["confidence"]
    assert abs(answers["fast"]["confidence"] - answers["exact"]["confidence"]) < 0.05
