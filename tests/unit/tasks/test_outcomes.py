"""What a model may answer and raise, and what is stored of it."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.input import oip
from tasks.protocol.requests import LISTED
from tasks.worker.outcomes import MESSAGE, described, of_model, succeeded
from worker_models.batcher import BatchItem
from worker_models.errors import InferenceFailed, ModelError, TruncatedImage

MODEL = cast("Any", SimpleNamespace(name="m", weights="none", runtime="python"))
ITEM = BatchItem()
GOOD = {"class": "cat", "index": 1, "confidence": 0.5}


def stored(predictions: object) -> str:
    return succeeded(MODEL, cast("Any", predictions), 0.1, ITEM).result


@pytest.mark.parametrize(
    "wrong",
    [
        {"confidence": math.nan}, {"confidence": -math.inf}, {"confidence": 1e39}, {"confidence": "0.5"},
        {"index": 2**63}, {"index": 1.0}, {"class": 7}, {"class": "\ud800"}, {"more": math.nan}, {"more": object()},
    ],
    ids="-".join,
)  # fmt: skip
def test_a_prediction_that_not_every_form_of_an_answer_can_carry_is_the_models_error(wrong: dict[str, object]) -> None:
    with pytest.raises(InferenceFailed):
        stored([GOOD | wrong])


@pytest.mark.parametrize(
    "predictions",
    [None, 7, {"class": "cat"}, [["cat"]], [{"class": "cat"}], iter([GOOD])],
    ids=lambda wrong: type(wrong).__name__,
)
def test_what_is_no_list_of_predictions_is_the_models_error(predictions: object) -> None:
    with pytest.raises(InferenceFailed):
        stored(predictions)


@given(st.text(), st.integers(), st.floats())
def test_what_is_stored_is_json_and_fits_the_protocols_tensors(label: str, index: int, confidence: float) -> None:
    try:
        text = stored([{"class": label, "index": index, "confidence": confidence}])
    except InferenceFailed:
        return
    (prediction,) = json.loads(text, parse_constant=pytest.fail)["predictions"]
    for datatype, member in oip.OUTPUTS.values():
        assert oip._raw(prediction[member], datatype)


def test_predictions_that_a_list_leaves_out_are_stored_apart() -> None:
    many = [GOOD | {"index": index} for index in range(LISTED + 2)]
    outcome = succeeded(MODEL, many, 0.1, ITEM)
    assert json.loads(outcome.result)["predictions"] == many[:LISTED]
    assert json.loads(outcome.more) == many[LISTED:]
    assert not succeeded(MODEL, many[:LISTED], 0.1, ITEM).more


class MuteError(ModelError):
    def __str__(self) -> str:
        raise ValueError("no words")


def test_an_error_is_described_whatever_it_says_of_itself() -> None:
    assert described(MuteError()) == {"code": "model_error", "message": "MuteError", "retryable": True}
    assert described(TruncatedImage("x" * 5000)) == {
        "code": "truncated_image", "message": "x" * MESSAGE, "retryable": False,
    }  # fmt: skip
    assert described(OSError("disk"))["code"] == "internal_error"


@pytest.mark.parametrize(
    "raised", [SystemExit(2), KeyboardInterrupt(), GeneratorExit(), RecursionError("deep")], ids=repr
)
def test_whatever_a_model_raises_becomes_an_error_of_ours(raised: BaseException) -> None:
    def call() -> None:
        raise raised

    with pytest.raises(InferenceFailed, match=type(raised).__name__):
        of_model(call)
