"""Fixtures every test may use; the things they return are in :mod:`tests.support`."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import settings as hypothesis_settings

from tests.support.ports import free_port as any_free_port
from tests.support.redis_server import RedisServer
from tests.support.stack import ApiProcess, Stack, WorkerProcess

# A shell that starts the tests in the background has them ignore SIGINT, and every process they start as well.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no reason to fail: what an example may cost is bounded by the test's own timeout. CI tries the same
# examples every time, so that it judges the change; everybody else's runs look for new ones.
hypothesis_settings.register_profile("inferlane", deadline=None, derandomize="CI" in os.environ)
hypothesis_settings.load_profile("inferlane")

#: Folders and files in the order in which ``make test`` hands them out: those that take minutes, then those that start
#: processes, and the quick ones at the end, so that every process of the tests is busy until it.
ORDER = (
    "integration/api/test_contract.py", "test_resilience", "e2e", "integration/tasks", "chaos", "integration",
    "load_test", "unit/worker_models", "",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long files first."""
    items.sort(key=lambda item: _turn(item.path.relative_to(Path(__file__).parent).as_posix()))


def _turn(path: str) -> int:
    return next(turn for turn, beginning in enumerate(ORDER) if path.startswith(beginning))


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The redis-server most tests share. A test that stops it or counts in it takes ``own_redis``."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_url(redis_server: RedisServer) -> str:
    """Where the shared redis-server answers."""
    return redis_server.url


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A redis-server for this test alone: empty, and free to be killed or restarted."""
    server = RedisServer(tmp_path / "redis")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def module_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A redis-server for this module alone."""
    server = RedisServer(tmp_path_factory.mktemp("module-redis"))
    yield server
    server.stop()


@pytest.fixture
def empty_redis(redis_url: str) -> str:
    """The shared redis-server, emptied before the test; for tests that start no process."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    return redis_url


@pytest.fixture
def free_port() -> int:
    """A port nobody listens on."""
    return any_free_port()


@pytest.fixture
def payload_store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The PAYLOAD_STORE of the test's stack: Redis, or where :data:`tests.support.stack.EACH_STORE` says."""
    kind = getattr(request, "param", "redis")
    if kind == "local":  # by way of fsspec: its folder is not made
        (tmp_path / "payloads").mkdir()
    return kind if kind == "redis" else f"{kind}://{tmp_path / 'payloads'}"


@pytest.fixture
def stack(own_redis: RedisServer, tmp_path: Path, payload_store: str) -> Iterator[Stack]:
    """An empty stack for this test: ``stack.start_worker("resnet18")``, ``stack.start_api()``."""
    with Stack(own_redis.url, tmp_path / "run", PAYLOAD_STORE=payload_store) as started:
        yield started


@pytest.fixture(scope="module")
def module_stack(module_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An empty stack that lives as long as the module's tests."""
    with Stack(module_redis.url, tmp_path_factory.mktemp("run")) as started:
        yield started


@pytest.fixture
def worker(stack: Stack) -> Callable[..., WorkerProcess]:
    """Start a real worker of this test's stack: ``worker("resnet18", name="resnet18-1", LEASE_TTL=1)``."""
    return stack.start_worker


@pytest.fixture
def api(stack: Stack) -> ApiProcess:
    """The real API of this test's stack, under its server; ``api.client.get("/health")``."""
    return stack.start_api()
