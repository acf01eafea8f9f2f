"""Images made to exhaust a worker, at a real one with a real model: each ends as it should, in bounded memory."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tasks.producer.gateway import Accepted, Gateway, Submission
from tasks.protocol.requests import Request, State
from tests.support import bombs
from tests.support.stack import ApiProcess, Stack, WorkerProcess
from tests.support.waiting import wait_until

MODEL = "efficientnet_lite0"
GIB = 1024**3


@pytest.fixture(scope="module")
def worker(module_stack: Stack) -> WorkerProcess:
    return module_stack.start_worker(MODEL, MODELS=MODEL, timeout=180)


@pytest.fixture(scope="module")
def api(module_stack: Stack) -> ApiProcess:
    return module_stack.start_api(MODELS=MODEL)


@pytest.fixture
def gateway(module_stack: Stack) -> Iterator[Gateway]:
    """Submits past the API, without header checks."""
    gateway = Gateway(module_stack.settings(MODELS=MODEL))
    yield gateway
    gateway.close()


def ended(gateway: Gateway, request_id: str) -> Request:
    def look() -> Request | None:
        record = gateway.get(request_id)
        return record if record.state.terminal else None

    record = wait_until(look, 120, interval=0.05, what="the end of a request")
    assert record is not None
    return record


def peak(process: WorkerProcess) -> int:
    """Its peak memory in bytes."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def resident(process: WorkerProcess) -> int:
    return psutil.Process(process.pid).memory_info().rss


def test_images_do_not_stay_after_they_are_decoded(worker: WorkerProcess, gateway: Gateway) -> None:
    """Whole and torn ones of 10 MB, 36 of them: no worker has more than a few at a time, and none when it is done."""
    whole = bombs.encoded(Image.new("RGB", (1860, 1860)), "BMP")
    images = [whole, bombs.packed_bitmap(2000, 1900) + bytes(len(whole)), whole[:-1000]]
    before, most = resident(worker), 0
    submissions = [Submission(image=image, model_type=MODEL) for image in images]
    accepted = [item for _ in range(12) for item in gateway.submit_many(submissions)]
    for item in accepted:
        assert isinstance(item, Accepted)
        ended(gateway, item.id)
        most = max(most, resident(worker))
    assert most - before < 250e6
    assert resident(worker) - before < 90e6


@pytest.mark.slow
def test_a_worker_of_a_gibibyte_survives_all_of_them_at_once(worker: WorkerProcess, gateway: Gateway) -> None:
    good: dict[str, Callable[[], bytes]] = {**bombs.LARGE, **bombs.ODD_METADATA, **bombs.TURNED}
    files = {name: make() for name, make in good.items()} | {name: make() for name, (make, _) in bombs.REFUSED.items()}
    files["the largest file"] = bombs.encoded(Image.new("RGB", (1860, 1860)), "BMP")
    sent = [
        (name, gateway.submit(Submission(image=data, model_type=MODEL)).id)
        for _ in range(2)
        for name, data in files.items()
    ]
    for name, request_id in sent:
        record = ended(gateway, request_id)
        code = (record.error or {}).get("code")
        expected = (State.FAILED, bombs.REFUSED[name][1]) if name in bombs.REFUSED else (State.SUCCEEDED, None)
        assert (record.state, code) == expected, name
    worker.check_alive()
    assert peak(worker) < GIB * 0.85


@pytest.mark.parametrize("what", bombs.REFUSED)
@pytest.mark.parametrize("how", ["raw", "base64", "v2"])
def test_the_api_refuses_a_bomb_without_a_worker(api: ApiProcess, what: str, how: str) -> None:
    make, code = bombs.REFUSED[what]
    data = make()
    text = base64.b64encode(data).decode()
    began = time.monotonic()
    if how == "raw":
        answer = api.client.post("/inference", content=data, headers={"Content-Type": "image/png"})
    elif how == "base64":
        answer = api.client.post("/inference", json={"data": text})
    else:
        tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]}
        answer = api.client.post(f"/v2/models/{MODEL}/infer", json={"inputs": [tensor]})
    assert time.monotonic() - began < 2, "others may have the cores, but nothing is decoded"
    assert answer.status_code == 422
    if how == "v2":
        assert isinstance(answer.json()["error"], str)
    else:
        assert answer.json()["code"] == code
