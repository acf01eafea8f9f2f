"""A server that is too old, and a cluster, are refused with one line by all who would use them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.support.ports import free_port
from tests.support.processes import ROOT
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer
from tests.support.stack import ApiProcess, Stack

ADMIN = "correct-horse-battery-staple-0123456789"
HEADINGS = re.findall(r"^### `(.*)`$", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)


class Unsupported(NamedTuple):
    """A server that must be refused, and with which words."""

    url: str
    says: str


def as_old(data: bytes) -> bytes:
    """The bytes of a server, as one that is Redis 6.2; their number stays, the protocol counts them."""
    data = re.sub(rb"redis_version:([\d.]+)", lambda found: b"redis_version:" + b"6.2.14"[: len(found[1])], data)
    return data.replace(b"valkey_version:", b"vulcan_version:")


@pytest.fixture(scope="module", params=["old", "cluster"])
def unsupported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Unsupported]:
    options = ["--cluster-enabled", "yes", "--cluster-port", str(free_port())] if request.param == "cluster" else []
    server = RedisServer(tmp_path_factory.mktemp("unsupported"), options=options)
    with Proxy(server.port) as proxy:
        if request.param == "old":
            proxy.translate = as_old
            yield Unsupported(proxy.url, "is too old")
        else:
            yield Unsupported(server.url, "runs as a cluster")
    server.stop()


@pytest.fixture(scope="module")
def stack(unsupported: Unsupported, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(unsupported.url, tmp_path_factory.mktemp("run"), MODELS="toy", ADMIN_KEY=ADMIN) as started:
        yield started


@pytest.fixture(scope="module")
def api(stack: Stack) -> ApiProcess:
    return stack.start_api()


def test_the_words_are_those_of_the_guide(unsupported: Unsupported) -> None:
    assert any(unsupported.says in heading for heading in HEADINGS)


def test_start_ends_with_one_line(unsupported: Unsupported, stack: Stack) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts", "start", "--without", "worker"], cwd=ROOT, env=stack.environ(),
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "REDIS_URL" in line]
    assert unsupported.says in line
    assert ": run " in line


def test_a_worker_ends_with_one_line(unsupported: Unsupported, stack: Stack) -> None:
    worker = stack.start_worker("tests.toy:toy", ready=False)
    assert worker.wait(60) == 1
    assert unsupported.says in worker.log(1)


def test_the_api_is_not_ready_and_says_why(unsupported: Unsupported, api: ApiProcess) -> None:
    ready, health = api.client.get("/readyz"), api.client.get("/health")
    assert (ready.status_code, health.status_code) == (503, 503)
    (check,) = [check for check in ready.json()["checks"] if check["name"] == "broker"]
    assert unsupported.says in check["detail"]
    assert health.json()["status"] == "unhealthy"
    assert any(unsupported.says in reason for reason in health.json()["reasons"])


def test_the_doctor_says_why(unsupported: Unsupported, api: ApiProcess) -> None:
    answer = api.client.get("/admin/doctor", headers={"X-API-Key": ADMIN})
    assert answer.status_code == 200, answer.text
    (check,) = [check for check in answer.json()["checks"] if check["name"] == "redis"]
    assert check["ok"] is False
    assert unsupported.says in check["detail"]


def test_no_call_is_an_internal_error(api: ApiProcess) -> None:
    for path in ("/inference", "/usage", "/admin/keys"):
        assert api.client.get(path, headers={"X-API-Key": ADMIN}).status_code in {200, 503}, path
