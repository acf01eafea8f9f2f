"""Redis behind TLS and a password: everything works with both, and says in one line what is wrong without."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from scripts import broker
from tasks.inspect.monitor import Monitor
from tasks.producer.gateway import Gateway, Submission
from tasks.protocol.requests import State
from tests.support import certificates
from tests.support.oracle import all_ended, check_answered_once, check_books
from tests.support.ports import free_port
from tests.support.processes import ROOT, Process
from tests.support.redis_server import RedisServer, redis_executable
from tests.support.stack import Stack
from tests.support.waiting import wait_until

PASSWORD = "sesame-open-up"  # noqa: S105 - of a server that lives for a few seconds


def why_not() -> str:
    """A server that knows TLS ends because it has no certificate, any other because it does not."""
    command = [redis_executable(), "--port", "0", "--tls-port", str(free_port())]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout
    return certificates.why_not() or ("" if "configure TLS" in said else "this server is built without TLS")


pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")


class Guarded:
    """A redis-server that speaks TLS only and asks for a password; ``url`` gets in."""

    def __init__(self, folder: Path) -> None:
        self.right = certificates.authority(folder / "right")
        self.wrong = certificates.authority(folder / "wrong")
        self.options = tls_options(self.right, "server")
        self.server = RedisServer(
            folder / "redis",
            options=["--port", "0", "--tls-port", "{port}", "--requirepass", PASSWORD, *self.options],
            client=f"rediss://:{PASSWORD}@127.0.0.1:{{port}}/0?ssl_cert_reqs=required&ssl_ca_certs={self.right.certificate}",
        )
        self.url = self.server.url


def tls_options(authority: certificates.Authority, name: str) -> list[str]:
    signed, key = authority.issue(name)
    return [
        "--tls-cert-file", str(signed), "--tls-key-file", str(key), "--tls-ca-cert-file", str(authority.certificate),
        "--tls-auth-clients", "no",
    ]  # fmt: skip


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    started = Guarded(tmp_path / "tls")
    yield started
    started.server.stop()


@pytest.fixture
def tls_stack(guarded: Guarded, tmp_path: Path) -> Iterator[Stack]:
    with Stack(guarded.url, tmp_path / "run", MODELS="toy") as stack:
        yield stack


def logs_of(stack: Stack) -> str:
    return "\n".join(file.read_text() for file in sorted(stack.folder.glob("*.log")))


@pytest.mark.slow
def test_the_whole_way_works_over_tls(guarded: Guarded, tls_stack: Stack) -> None:
    """Accept, take, wait, commit, reply; a worker's death; a restart of Redis: all over TLS, with the password."""
    victim = tls_stack.start_worker("tests.toy:toy", name="victim")
    monitor = Monitor(tls_stack.settings())
    with closing(Gateway(tls_stack.settings())) as gateway:
        first = gateway.submit(Submission(image=b"ok", model_type="toy"))
        assert gateway.wait(first.id, 10).state is State.SUCCEEDED
        ids = [gateway.submit(Submission(image=b"sleep 0.2", model_type="toy")).id for _ in range(20)]
        wait_until(lambda: monitor.ledger()["normal.toy"]["running"] > 0)
        other = tls_stack.start_worker("tests.toy:toy", name="other")
        victim.kill()
        all_ended(gateway, ids, 20)
        guarded.server.stop()
        guarded.server.start()
        last = wait_until(lambda: _sent(gateway), 10, what="Redis takes requests again")
        requests = all_ended(gateway, [first.id, *ids, last], 20)
        assert {request.state for request in requests} == {State.SUCCEEDED}
        check_answered_once(requests)
        check_books(monitor, requests)
    api = tls_stack.start_api()
    assert api.client.get("/readyz").json()["status"] == "ready"
    assert other.alive
    assert PASSWORD not in logs_of(tls_stack)


def _sent(gateway: Gateway) -> str | None:
    from tasks.errors import BrokerUnavailable

    try:
        return gateway.submit(Submission(image=b"ok", model_type="toy")).id
    except BrokerUnavailable:
        return None


def wrong_password(guarded: Guarded) -> str:
    return guarded.url.replace(PASSWORD, "wrong-" + PASSWORD)


def no_password(guarded: Guarded) -> str:
    return guarded.url.replace(f":{PASSWORD}@", "")


def wrong_authority(guarded: Guarded) -> str:
    return guarded.url.replace(str(guarded.right.certificate), str(guarded.wrong.certificate))


def missing_file(guarded: Guarded) -> str:
    return guarded.url.replace(str(guarded.right.certificate), "/nonexistent/ca.pem")


def no_tls(guarded: Guarded) -> str:
    return guarded.url.replace("rediss://", "redis://").partition("?")[0]


WAYS = pytest.mark.parametrize(
    ("way", "says"),
    [
        (wrong_password, "REDIS_URL has no password, or not the right one"),
        (no_password, "REDIS_URL has no password, or not the right one"),
        (wrong_authority, "certificate verify failed"),
        (missing_file, "ssl_ca_certs|No such file"),
        (no_tls, "Connection closed|reset|TLS"),
    ],
)


@WAYS
def test_readyz_says_why_redis_is_out_of_reach(
    guarded: Guarded, tmp_path: Path, way: Callable[..., str], says: str
) -> None:
    with Stack(way(guarded), tmp_path / "run") as stack:
        api = stack.start_api()
        answer = api.client.get("/readyz")
        (check,) = answer.json()["checks"]
        assert (answer.status_code, check["name"]) == (503, "broker")
        assert re.search(says, check["detail"]), check["detail"]
        assert "\n" not in check["detail"]
        posted = api.client.post("/inference", content=b"\xff\xd8\xff", headers={"Content-Type": "image/jpeg"})
        assert posted.status_code in (400, 422, 503)
        assert PASSWORD not in answer.text + posted.text + logs_of(stack)


@WAYS
def test_a_worker_that_cannot_get_in_says_why(
    guarded: Guarded, tmp_path: Path, way: Callable[..., str], says: str
) -> None:
    with Stack(way(guarded), tmp_path / "run") as stack:
        worker = stack.start_worker("tests.toy:toy", ready=False)
        wait_until(lambda: re.search(says, worker.log()) or not worker.alive, 30, what="the worker says something")
        if not worker.alive:
            assert worker.wait(1) != 0
        assert re.search(says, worker.log()), worker.log()
        assert "Traceback" not in worker.log()
        assert PASSWORD not in worker.log()
        alive = subprocess.run(
            [sys.executable, "-m", "scripts.alive"], cwd=ROOT, env=stack.environ(), capture_output=True, text=True,
            timeout=30, check=False,
        )  # fmt: skip
        assert alive.returncode == 1, alive.stderr
        (line,) = alive.stdout.splitlines()
        assert re.search(says, line)
        assert PASSWORD not in line


def test_the_commands_of_the_guide_make_a_redis_that_the_guides_address_reaches(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "deploying.md").read_text()
    (block,) = re.findall(r"```sh\n(openssl.*?)```", guide, re.DOTALL)
    port = free_port()
    block = block.replace("redis-server deploy/redis.conf", f"exec {redis_executable()} {ROOT}/deploy/redis.conf")
    block = block.replace("--tls-port 6380", f"--tls-port {port} --bind 127.0.0.1")
    server = Process(["sh", "-ec", f"cd {tmp_path}\n{block}"], name="redis", folder=tmp_path, environ=os.environ)
    try:
        url = f"rediss://:password@127.0.0.1:{port}/0?ssl_cert_reqs=required&ssl_ca_certs={tmp_path}/ca.pem"
        wait_until(lambda: server.check_alive() or broker.answers(url), 30, what="redis-server answers")
        assert not broker.answers(url.replace(":password@", ":other@"))
    finally:
        server.stop()
