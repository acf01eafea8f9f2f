from __future__ import annotations

import io
import threading
from pathlib import Path
from uuid import uuid4

import pytest

from inferlane import Client, Retries
from inferlane.errors import (
    AlreadyFinished,
    Canceled,
    Expired,
    Failed,
    IdempotencyConflict,
    ImageUnreadable,
    InvalidImage,
    NotFound,
    Refused,
    Timeout,
    UnknownModel,
    Unreachable,
)
from tests.integration.client.conftest import image
from tests.support.waiting import wait_until


def runs(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.parametrize("kind", ["path", "text path", "bytes", "file"])
def test_predict_takes_a_path_bytes_or_an_open_file(client: Client, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "photo.gif"
    path.write_bytes(image())
    source = {"path": path, "text path": str(path), "bytes": image(), "file": io.BytesIO(image())}[kind]
    result = client.predict(source, "toy")  # type: ignore[arg-type]
    assert result.best.label.startswith("GIF89a")
    assert (result.model, result.attempts) == ("toy", 1)
    assert result.processing_time is not None


def test_a_text_file_object_and_a_missing_file_are_unreadable(client: Client, tmp_path: Path) -> None:
    with pytest.raises(ImageUnreadable, match="rb"):
        client.predict(io.StringIO("x"))  # type: ignore[arg-type]
    with pytest.raises(ImageUnreadable, match="nowhere"):
        client.predict(tmp_path / "nowhere.jpg")


def test_submit_returns_a_job_that_can_be_followed_from_its_id(client: Client) -> None:
    job = client.submit(image("sleep 0.3"), "toy", priority="high")
    snapshot = job.status()
    assert not snapshot.ended
    assert snapshot.priority == "high"
    assert client.job(job.id).result().model == "toy"
    assert job.status().state == "succeeded"


def test_predict_waits_longer_than_the_api_does(client: Client) -> None:
    """MAX_WAIT is 2 s here, so the answer comes after a 202 and at least one look."""
    assert client.predict(image("sleep 3"), "toy").timings["infer"] >= 3


def test_a_timeout_keeps_the_handle_and_the_request(client: Client, tmp_path: Path) -> None:
    with pytest.raises(Timeout) as caught:
        client.predict(image(f"sleep 1.5;ran {tmp_path / 'runs'}"), "toy", timeout=0.5)
    assert caught.value.request_id is not None
    assert client.job(caught.value.request_id).result().model == "toy"
    assert runs(tmp_path / "runs") == 1


def test_the_same_request_id_runs_once(client: Client, tmp_path: Path) -> None:
    order = image(f"ran {tmp_path / 'runs'}")
    same = uuid4().hex
    first, second = (client.predict(order, "toy", request_id=same) for _ in range(2))
    assert first.request_id == second.request_id == same
    assert runs(tmp_path / "runs") == 1
    with pytest.raises(IdempotencyConflict):
        client.predict(image("other"), "toy", request_id=same)


def test_cancel_while_queued_or_running_and_after_the_end(client: Client) -> None:
    job = client.submit(image("sleep 1"), "toy")
    assert job.cancel().state in {"canceled", "running"}
    with pytest.raises(Canceled) as caught:
        job.result()
    assert caught.value.request_id == job.id
    done = client.submit(image(), "toy")
    done.result()
    with pytest.raises(AlreadyFinished):
        done.cancel()


def test_errors_have_the_type_of_what_went_wrong(client: Client) -> None:
    with pytest.raises(InvalidImage):
        client.predict(b"this is text", "toy")
    with pytest.raises(InvalidImage):
        client.predict(image(" bad "), "toy")
    with pytest.raises(UnknownModel, match="toy"):
        client.predict(image(), "no-such-model")
    with pytest.raises(NotFound) as caught:
        client.job("never-seen").status()
    assert caught.value.request_id == "never-seen"


def test_a_deadline_that_passes_is_expired_or_refused_at_once(client: Client) -> None:
    blockers = [client.submit(image("sleep 2"), "toy")]
    wait_until(lambda: client.workers()[0]["in_flight"] == 1)
    blockers.append(client.submit(image(), "toy"))
    wait_until(
        lambda: client.workers()[0]["in_flight"] == 2
    )  # with batches of one, it takes no third until it has slept
    with pytest.raises((Expired, Refused)):  # which, depends on what the API has measured so far
        client.predict(image(), "toy", deadline=0.2)
    for job in blockers:
        job.result()


def test_a_model_that_fails_every_time_is_failed(client: Client) -> None:
    with pytest.raises(Failed) as caught:
        client.predict(image("error"), "toy", timeout=60)
    assert caught.value.request_id is not None


def test_nothing_at_the_address_is_unreachable_soon(free_port: int) -> None:
    with Client(f"http://127.0.0.1:{free_port}", retries=Retries(patience=0.3)) as nobody, pytest.raises(Unreachable):
        nobody.health()


def test_as_completed_yields_each_image_once_and_the_bad_as_errors(client: Client, tmp_path: Path) -> None:
    sources = [image(f"sleep 0.0{n}") for n in range(10)] + [b"no image", tmp_path / "missing.png"]
    outcomes = {outcome.index: outcome for outcome in client.as_completed(sources, model="toy", concurrency=4)}
    assert sorted(outcomes) == list(range(12))
    assert all(outcomes[n].unwrap().model == "toy" for n in range(10))
    assert isinstance(outcomes[10].error, InvalidImage)
    assert isinstance(outcomes[11].error, ImageUnreadable)


def test_no_more_images_are_taken_than_are_under_way(client: Client) -> None:
    taken = 0

    def source() -> object:
        nonlocal taken
        for _ in range(12):
            taken += 1
            yield image()

    for seen, _ in enumerate(client.as_completed(source(), model="toy", concurrency=3), start=1):  # type: ignore[arg-type]
        assert taken <= seen + 3
    assert taken == 12


def test_a_batch_reports_every_item_in_the_order_sent(client: Client) -> None:
    batch = client.submit_batch([image("sleep 0.1"), b"no image", image()], "toy", priority="low")
    outcomes = batch.results()
    assert [outcome.index for outcome in outcomes] == [0, 1, 2]
    assert outcomes[0].unwrap().model == outcomes[2].unwrap().model == "toy"
    assert isinstance(outcomes[1].error, InvalidImage)
    assert client.batch(batch.id).status().counts["succeeded"] == 2


def test_a_batch_can_be_canceled(client: Client) -> None:
    batch = client.submit_batch([image("sleep 0.5") for _ in range(6)], "toy")
    batch.cancel()
    assert {type(outcome.error) for outcome in batch.results()} >= {Canceled}


def test_a_client_is_shared_by_threads(client: Client) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(client.predict(image(), "toy").model)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["toy"] * 8


def test_the_system_is_described(client: Client) -> None:
    assert client.health()["status"] in {"healthy", "degraded"}
    assert [worker["model"] for worker in client.workers()] == ["toy"]
    assert "toy" in {model["name"] for model in client.models()}
    wait_until(lambda: client.queues()["size"] == 0)
    assert client.metrics()["total_requests"] >= 0
