"""Every heading of docs/troubleshooting.md that quotes something is provoked, and reads as the page says."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import redis

from tests.support.ports import free_port
from tests.support.processes import ROOT
from tests.support.redis_server import RedisServer
from tests.support.stack import ApiProcess, Stack, WorkerProcess
from tests.support.waiting import wait_until
from tests.toy import GIF

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
HEADINGS = "\n".join(re.findall(r"^### (.*)$", PAGE, re.MULTILINE))
PHOTO = (ROOT / "docs" / "images" / "coffee.jpg").read_bytes()
ADMIN = {"X-API-Key": "open-sesame"}


def command(stack: Stack, *arguments: str, **environ: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, env=stack.environ(**environ), capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    return done.stdout + done.stderr


def worker(model: str) -> list[str]:
    return ["celery", "-A", "tasks", "worker", "--model", model, "-n", "x@%h", "-P", "threads"]


def test_taken_port(module_stack: Stack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        without = ["--without", "worker", "--without", "dashboard", "--without", "flower"]
        said = command(module_stack, "scripts", "start", *without, API_PORT=port)
    assert said.strip().replace(str(port), "8000") in HEADINGS


@pytest.mark.parametrize(
    ("heading", "arguments", "environ"),
    [
        ("no weights for resnet18", worker("resnet18"), {"WEIGHTS_TIMEOUT": 1, "TORCH_HOME": "{folder}"}),
        ("no model is called 'nonsense'", worker("nonsense"), {}),
        (
            "the API would be open to everybody",
            ["api"],
            {"API_HOST": "0.0.0.0", "API_PORT": free_port()},  # noqa: S104 - it must refuse
        ),
        ("LEASE_RENEW: must be at most half of LEASE_TTL", ["scripts", "status"], {"LEASE_TTL": 0.2}),
        ("Inferlane is not running.", ["scripts", "status"], {}),
        ("nothing answers at", ["inferlane", "status", "--url", f"http://127.0.0.1:{free_port()}"], {}),
    ],
)
def test_what_commands_say(
    module_stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heading: str, arguments: list[str],
    environ: dict[str, object],
) -> None:  # fmt: skip
    # No proxy may be in the way of finding no weights.
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    filled = {key: str(value).format(folder=tmp_path) for key, value in environ.items()}
    assert heading in command(module_stack, *arguments, **filled)
    assert heading in HEADINGS


@pytest.fixture(scope="module")
def toy(module_stack: Stack) -> WorkerProcess:
    return module_stack.start_worker("tests.toy:toy", name="toy-1")


@pytest.fixture(scope="module")
def api(module_stack: Stack, toy: WorkerProcess) -> ApiProcess:
    return module_stack.start_api(MODELS="toy,resnet18", MAX_QUEUE=1, MAX_WAIT=1)


@pytest.fixture(scope="module")
def kept_api(module_stack: Stack) -> ApiProcess:
    return module_stack.start_api(MODELS="toy", ADMIN_KEY=ADMIN["X-API-Key"])


def post(api: ApiProcess, body: bytes = PHOTO, **parameters: str) -> httpx.Response:
    return api.client.post("/inference", content=body, params=parameters, headers={"Content-Type": "image/jpeg"})


Provoke = Callable[[ApiProcess, ApiProcess, WorkerProcess], httpx.Response]
CASES: dict[str, Provoke] = {
    "no worker serves resnet18": lambda api, _kept, _toy: api.client.get("/health"),
    "unknown_model": lambda api, _kept, _toy: post(api, model_type="clairvoyant"),
    "lane_full": lambda api, _kept, _toy: [post(api, model_type="resnet18") for _ in range(2)][-1],
    "unsupported_image": lambda api, _kept, _toy: post(api, b"Meow.", model_type="toy"),
    "expired": lambda _api, kept, _toy: post(kept, GIF + b"sleep 1", model_type="toy", deadline="0.001"),
    "Administrative routes are closed: no ADMIN_KEY is set.": (
        lambda api, _kept, _toy: api.client.post("/admin/lanes/high.toy/pause")
    ),
    "Fault injection needs CHAOS_ENABLED=1.": (
        lambda _api, kept, toy: kept.client.post(
            f"/admin/workers/{toy.node}/chaos", json={"mode": "crash"}, headers=ADMIN
        )
    ),
}


@pytest.mark.parametrize("heading", CASES)
def test_what_the_api_answers(api: ApiProcess, kept_api: ApiProcess, toy: WorkerProcess, heading: str) -> None:
    assert heading in CASES[heading](api, kept_api, toy).text
    assert heading in HEADINGS


def test_what_health_says(stack: Stack, own_redis: RedisServer) -> None:
    """The judge's own tests provoke each finding; these are those that have a heading."""
    api = stack.start_api(MODELS="toy")
    assert "no workers online" in api.client.get("/health").text
    stack.start_worker("tests.toy:toy")
    for _ in range(5):
        post(api, GIF + b"error", model_type="toy")
    wait_until(lambda: "failed all 5 requests" in api.client.get("/health").text, what="the failures are counted")
    with redis.Redis.from_url(own_redis.url) as server:
        server.config_set("maxmemory", 1_000_000)
    assert "Redis is full" in api.client.get("/health").text
    assert {"`no workers online`", "`failed all 5 requests`", "`Redis is full`"} <= set(HEADINGS.splitlines())


def test_without_redis(stack: Stack) -> None:
    api = stack.start_api(MODELS="toy", REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert post(api, model_type="toy").json()["code"] == "broker_unavailable"
    assert "broker_unavailable" in HEADINGS


def test_a_torn_photo(stack: Stack) -> None:
    stack.start_worker("efficientnet_lite0", timeout=180)
    api = stack.start_api(MODELS="efficientnet_lite0")
    assert post(api, PHOTO[:20_000]).json()["code"] == "truncated_image"
    assert "truncated_image" in HEADINGS
