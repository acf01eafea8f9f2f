from __future__ import annotations

from typing import Any

import pytest

from inferlane import operations
from inferlane.answers import Snapshot, item_outcome
from inferlane.errors import Canceled, Failed, InvalidImage, Refused, UnexpectedAnswer

ITEM: dict[str, Any] = {
    "index": 1,
    "custom_id": "b",
    "request_id": "batch.1",
    "status": "succeeded",
    "model": "m",
    "weights": "w",
    "worker_id": "x",
    "predictions": [{"class": "tabby", "index": 281, "confidence": 0.9}],
    "error": None,
    "processing_time": 0.1,
}
REQUEST = ITEM | {"state": "succeeded", "model_type": "any", "priority": "low", "queue_position": None, "attempts": 2}


def test_a_batch_item_points_at_what_was_sent() -> None:
    ended = item_outcome(ITEM, ["first", "second"])
    assert ended is not None
    assert (ended.source, ended.unwrap().best.label) == ("second", "tabby")
    unknown = item_outcome(ITEM)
    assert unknown is not None
    assert unknown.source == "b"


@pytest.mark.parametrize("status", ["queued", "running"])
def test_a_batch_item_that_has_not_ended_is_no_outcome(status: str) -> None:
    assert item_outcome(ITEM | {"status": status}) is None


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        ("rejected", "lane_full", Refused),
        ("rejected", "unsupported_image", InvalidImage),
        ("failed", "inference_failed", Failed),
        ("canceled", "canceled", Canceled),
        ("purged", None, Failed),
    ],
)
def test_a_batch_item_that_went_wrong_has_a_typed_error(status: str, code: str | None, kind: type[Exception]) -> None:
    failure = {"code": code, "message": "because", "retryable": code == "lane_full"} if code else None
    ended = item_outcome(ITEM | {"status": status, "error": failure})
    assert ended is not None
    assert type(ended.error) is kind
    assert ended.error.retryable == (code == "lane_full")
    with pytest.raises(kind):
        ended.unwrap()


def test_a_snapshot_knows_whether_it_is_the_end() -> None:
    assert Snapshot.of(REQUEST).ended
    assert Snapshot.of(REQUEST).result().attempts == 2
    assert not Snapshot.of(REQUEST | {"state": "running"}).ended


def test_a_document_that_is_no_request_is_unexpected() -> None:
    with pytest.raises(UnexpectedAnswer):
        operations.REQUEST.read({"hello": "world"})
