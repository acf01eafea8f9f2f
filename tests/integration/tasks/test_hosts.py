"""Workers on another host: a network between them and Redis that is cut, slow or lossy. Real namespaces, real TCP."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tasks.inspect.monitor import Monitor
from tasks.producer.gateway import Gateway, Submission
from tasks.protocol.requests import Request, State
from tests.support import hosts
from tests.support.hosts import TwoHosts
from tests.support.oracle import all_ended, check_answered_once, check_books
from tests.support.processes import Process
from tests.support.redis_server import redis_executable
from tests.support.stack import Stack, WorkerProcess
from tests.support.waiting import wait_until

PASSWORD = "sesame"  # noqa: S105 - of a server that lives for a few seconds
REASON = hosts.why_not()

pytestmark = [
    pytest.mark.skipif(bool(REASON), reason=f"no network namespaces: {REASON}"),
    pytest.mark.slow,
]


class Site:
    """Redis on the host ``here``, workers on both hosts, and the test itself at Redis's Unix socket."""

    def __init__(self, network: TwoHosts, folder: Path) -> None:
        self.network = network
        socket = folder / "redis.sock"
        command = [
            redis_executable(), "--bind", "127.0.0.1", network.here.address, "--port", "6379", "--save", "",
            "--requirepass", PASSWORD, "--unixsocket", str(socket), "--dir", str(folder),
        ]  # fmt: skip
        self._redis = Process(network.here.inside(command), name="redis", folder=folder, environ=os.environ)
        unix = f"unix://:{PASSWORD}@{socket}"
        wait_until(lambda: socket.exists() and _answers(unix), what="redis-server answers")
        self._stack = Stack(unix, folder / "run", MODELS="toy")
        self.gateway = Gateway(self._stack.settings())
        self.monitor = Monitor(self._stack.settings())

    def worker(self, name: str, *, far: bool, ready: bool = True) -> WorkerProcess:
        host = self.network.there if far else self.network.here
        address = self.network.here.address if far else "127.0.0.1"
        url = f"redis://:{PASSWORD}@{address}:6379/0"
        return self._stack.start_worker("tests.toy:toy", name=name, host=host, ready=ready, REDIS_URL=url)

    def send(self, text: str = "ok") -> str:
        return self.gateway.submit(Submission(image=text.encode(), model_type="toy")).id

    def nodes(self) -> set[str]:
        return {row["id"] for row in self.monitor.workers()}

    def close(self) -> None:
        self.network.heal()
        self._stack.close()
        self.gateway.close()
        self._redis.stop()


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with TwoHosts() as network:
        started = Site(network, tmp_path_factory.mktemp("hosts"))
        yield started
        started.close()


def test_a_worker_on_another_host_serves_under_the_name_of_its_host(site: Site) -> None:
    far = site.worker("toy", far=True)
    near = site.worker("toy", far=False)
    assert (near.node, far.node) == ("toy@here", "toy@there")
    requests = all_ended(site.gateway, [site.send("sleep 0.05") for _ in range(40)], 20)
    assert {request.state for request in requests} == {State.SUCCEEDED}
    assert {request.worker_id for request in requests} == {near.node, far.node}
    check_books(site.monitor, requests)


def silence(network: TwoHosts) -> None:
    network.cut()


def card_down(network: TwoHosts) -> None:
    network.there.card("down")


def unplugged_at_redis(network: TwoHosts) -> None:
    network.here.card("down")


def mend(network: TwoHosts) -> None:
    network.heal()
    network.there.card("up")
    network.here.card("up")


@pytest.mark.parametrize("part", [silence, card_down, unplugged_at_redis])
def test_a_partition_while_a_request_runs_there(site: Site, part: Callable[[TwoHosts], None]) -> None:
    """It ends elsewhere within seconds; the worker comes back, its late answer is fenced, and it is useful again."""
    far, near = site.worker("far", far=True), site.worker("near", far=False)
    sent = one_runs_on(site, far)
    part(site.network)
    parted = time.time()
    request = site.gateway.wait(sent[-1], 30)
    assert (request.state, request.attempts, request.worker_id) == (State.SUCCEEDED, 2, near.node)
    (rescued,) = [event["at"] for event in request.timeline if event["event"] == "worker_died"]
    assert rescued - parted <= 3.0
    assert site.nodes() == {near.node}
    assert far.alive
    mend(site.network)
    mended = time.monotonic()
    wait_until(lambda: site.nodes() == {near.node, far.node}, 10, what="the worker rejoins")
    assert time.monotonic() - mended <= 5.0
    wait_until(lambda: site.monitor.counters()["fenced"] == 1, 15, what="the late answer is fenced")
    again = site.gateway.get(request.id)
    assert (again.completed_at, again.worker_id) == (request.completed_at, near.node)
    requests = [*all_ended(site.gateway, sent, 10), *all_served(site, far)]
    check_answered_once(requests)
    check_books(site.monitor, requests)


def one_runs_on(site: Site, worker: WorkerProcess) -> list[str]:
    """Requests of five seconds, sent until ``worker`` runs the last of them."""
    sent: list[str] = []

    def runs() -> bool:
        sent.append(site.send("sleep 5"))
        request = wait_until(lambda: _started(site.gateway.get(sent[-1])), 10, what="the request starts")
        return request.worker_id == worker.node

    wait_until(runs, 10, what=f"{worker.name} runs a request")
    return sent


def _started(request: Request) -> Request | None:
    return request if request.state is State.RUNNING else None


def all_served(site: Site, node: WorkerProcess) -> list[Request]:
    """More requests, until ``node`` has answered one of them; all of them, ended."""
    sent: list[str] = []

    def served() -> list[Request] | None:
        sent.extend(site.send("sleep 0.1") for _ in range(16))
        requests = all_ended(site.gateway, sent, 20)
        return requests if node.node in {request.worker_id for request in requests} else None

    return wait_until(served, 20, what=f"{node.name} answers again") or []


def test_a_worker_starts_before_its_network_does(site: Site) -> None:
    site.network.cut()
    far = site.worker("far", far=True, ready=False)
    near = site.worker("near", far=False)
    assert site.gateway.wait(site.send(), 10).worker_id == near.node
    site.network.heal()
    wait_until(lambda: far.node in site.nodes(), 60, what="the worker registers")
    check_answered_once(all_served(site, far))


@pytest.mark.parametrize(("delay", "loss"), [(0.04, 0.0), (0.005, 0.02), (0.02, 0.15)])
def test_a_slow_and_lossy_network_costs_time_only(site: Site, delay: float, loss: float) -> None:
    """80 ms there and back leave every lease alone; a lease may run out where many packets are lost, and no more."""
    far = site.worker("far", far=True)
    site.network.slow(delay=delay, loss=loss)
    requests = all_ended(site.gateway, [site.send("sleep 0.02") for _ in range(60)], 60)
    assert {(request.state, request.worker_id) for request in requests} == {(State.SUCCEEDED, far.node)}
    check_answered_once(requests)
    check_books(site.monitor, requests)
    if loss < 0.1:
        assert site.monitor.counters()["rescued"] == 0
        assert {request.attempts for request in requests} == {1}


def _answers(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False
