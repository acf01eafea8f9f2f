"""A real API, a real Redis and a toy worker whose image chooses its fate, for the client to talk to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from inferlane import Client
from tests.support.restoring import restore
from tests.support.stack import ApiProcess, Stack, WorkerProcess
from tests.toy import GIF

MODELS = "toy,resnet18"
ADMIN_KEY = "open-sesame"


def image(order: str = "ok") -> bytes:
    """A GIF header of one pixel with an order for the toy model behind it."""
    return GIF + order.encode()


@pytest.fixture(scope="module")
def toy_worker(module_stack: Stack) -> WorkerProcess:
    return module_stack.start_worker(
        "tests.toy:toy", name="toy-1", arguments=["-c", "8"], MODELS=MODELS, MAX_BATCH=1, CHAOS_ENABLED=1, MAX_RETRIES=1
    )


@pytest.fixture(scope="module")
def toy_api(module_stack: Stack, toy_worker: WorkerProcess) -> ApiProcess:
    return module_stack.start_api(MODELS=MODELS, MAX_WAIT=2, CHAOS_ENABLED=1, ADMIN_KEY=ADMIN_KEY)


@pytest.fixture
def restored(toy_api: ApiProcess) -> None:
    """For a test that gives orders: what the one before it, or a failed attempt of this one, left behind is undone."""
    restore(toy_api.client, ADMIN_KEY)


@pytest.fixture
def client(toy_api: ApiProcess) -> Iterator[Client]:
    with Client(toy_api.url, timeout=30) as made:
        yield made
