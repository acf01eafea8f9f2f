"""The real API under its server, a real Redis and toy workers whose image chooses its fate."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.support.stack import ApiProcess, Stack, WorkerProcess
from tests.toy import GIF

TOY = "tests.toy:toy"
MODELS = "toy,resnet18"


def image(order: str = "ok") -> bytes:
    """A GIF header of one pixel, with an order for the toy model behind it."""
    return GIF + order.encode()


@pytest.fixture(scope="module")
def toy_worker(module_stack: Stack) -> WorkerProcess:
    return module_stack.start_worker(TOY, name="toy-1", arguments=["-c", "8"], MODELS=MODELS, MAX_BATCH=1)


@pytest.fixture(scope="module")
def toy_api(module_stack: Stack, toy_worker: WorkerProcess) -> ApiProcess:
    return module_stack.start_api(workers=2, MODELS=MODELS, MAX_WAIT=20)


@pytest.fixture
def http(toy_api: ApiProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=toy_api.url, timeout=40, limits=httpx.Limits(max_connections=200)) as client:
        yield client
