"""A Redis, toy workers and a gateway for tests of the queue itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tasks.inspect.monitor import Monitor
from tasks.producer.gateway import Gateway, Submission
from tests.support.stack import Stack, WorkerProcess

TOY = "tests.toy:toy"


@pytest.fixture
def gateway(stack: Stack) -> Iterator[Gateway]:
    gateway = Gateway(stack.settings(MODELS="toy,mobilenet,resnet18"))
    yield gateway
    gateway.close()


@pytest.fixture
def monitor(stack: Stack) -> Monitor:
    return Monitor(stack.settings())


@pytest.fixture
def toy(stack: Stack) -> Callable[..., WorkerProcess]:
    """Start a worker of the toy model: ``toy("toy-1", LEASE_TTL=1)``."""

    def start(name: str, *arguments: str, **environ: object) -> WorkerProcess:
        return stack.start_worker(TOY, name=name, arguments=arguments, **environ)

    return start


@pytest.fixture
def send(gateway: Gateway) -> Callable[..., str]:
    """Submit one toy request and return its id: ``send("sleep 1", priority="high")``."""

    def submit(text: str = "ok", **fields: object) -> str:
        return gateway.submit(Submission(image=text.encode(), **{"model_type": "toy", **fields})).id  # type: ignore[arg-type]

    return submit
