"""What the compose file promises: limits, no more rights than needed, and a Redis that only insiders reach."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import redis

from scripts.supervision import STOP_SECONDS
from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.redis_server import redis_executable
from tests.support.waiting import wait_until
from tests.unit.deploy.files import ROOT, compose, defaults, own_services, pods, services

PASSWORD = "sesame"  # noqa: S105 - of a server that lives for a second


@pytest.mark.parametrize(("name", "service"), services().items(), ids=services())
def test_containers_have_limits_come_back_and_may_do_little(name: str, service: dict[str, Any]) -> None:
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["restart"] == "unless-stopped"
    assert {"cpus", "mem_limit", "pids_limit", "stop_grace_period"} <= set(service)
    assert "healthcheck" in service or service["image"] == "inferlane-api"
    assert all(re.match(r"127\.0\.0\.1:|\$\{\w+:-127\.0\.0\.1:", port) for port in service.get("ports", []))


@pytest.mark.parametrize("name", own_services())
def test_nobody_is_killed_before_the_time_that_make_stop_gives(name: str) -> None:
    seconds = int(own_services()[name]["stop_grace_period"].removesuffix("s"))
    assert seconds >= STOP_SECONDS.get(name.partition("-")[0], 10)


def test_redis_is_reached_from_inside_only_and_forgets_nothing() -> None:
    server = services()["redis"]
    assert "ports" not in server
    assert server["networks"] == ["inside"]
    assert compose()["networks"]["inside"] == {"internal": True}
    configuration = (ROOT / "deploy" / "redis.conf").read_text()
    for line in ("appendonly yes", "appendfsync everysec", "maxmemory-policy noeviction"):
        assert f"\n{line}\n" in configuration


@pytest.mark.parametrize("where", ["compose", "kubernetes"])
def test_the_command_of_redis_gives_a_redis_that_asks_for_the_password(where: str, tmp_path: Path) -> None:
    script = (
        defaults(services()["redis"]["command"][2])
        if where == "compose"
        else pods()["inferlane-redis"]["spec"]["containers"][0]["command"][2]
    )
    port = free_port()
    script = script.replace("/etc/inferlane/redis.conf", f"{ROOT}/deploy/redis.conf --port {port} --bind 127.0.0.1")
    script = script.replace("--dir /data", f"--dir {tmp_path}").replace(
        "exec redis-server", f"exec {redis_executable()}"
    )
    server = Process(["sh", "-ec", script], name="redis", folder=tmp_path, environ={"REDIS_PASSWORD": PASSWORD})
    try:
        with (
            redis.Redis(port=port, password=PASSWORD, decode_responses=True) as known,
            redis.Redis(port=port) as unknown,
        ):
            wait_until(lambda: server.check_alive() or answers(known), timeout=10, what="redis-server answers")
            assert known.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
            with pytest.raises(redis.AuthenticationError):
                unknown.ping()
        assert PASSWORD.encode() not in Path(f"/proc/{server.pid}/cmdline").read_bytes()
    finally:
        server.kill()


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
