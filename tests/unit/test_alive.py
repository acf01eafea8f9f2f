"""The health check of a worker looks at its lease."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from common.settings import Settings, load_settings
from scripts import alive
from tasks.protocol.statistics import Statistics
from tasks.worker.lease import Lease
from tasks.worker.ownership import Ownership
from tests.support.ports import free_port


@pytest.fixture
def settings(empty_redis: str) -> Settings:
    return load_settings({"REDIS_URL": empty_redis})


@pytest.fixture
def lease(settings: Settings) -> Iterator[Lease]:
    """The real lease of a worker of resnet18 on this host."""
    node = f"resnet18@{socket.gethostname()}"
    owner = Ownership(node)

    def describe() -> dict[str, Any]:
        return {
            "id": node, "boot": owner.boot, "model": "resnet18", "host": socket.gethostname(),
            "last_heartbeat": time.time(),
        }  # fmt: skip

    pipeline = cast("Any", SimpleNamespace(owner=owner, busy_since=None, slow=False, tick=lambda _idle: None,
                                           records=SimpleNamespace(statistics=Statistics())))  # fmt: skip
    held = Lease(settings, pipeline, describe=describe, obey=lambda _orders: None)
    held.start()
    yield held
    held.stop()


def test_a_worker_with_a_lease_is_alive(lease: Lease, settings: Settings) -> None:
    status, line = alive.look(settings)
    assert status == alive.ALIVE
    assert "lease renewed" in line


def test_a_worker_that_said_goodbye_is_dead(lease: Lease, settings: Settings) -> None:
    lease.stop()
    assert alive.look(settings)[0] == alive.DEAD


def test_a_worker_on_another_host_does_not_count(
    lease: Lease, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    assert alive.look(settings)[0] == alive.DEAD


@pytest.mark.parametrize(("arguments", "status"), [([], alive.DEAD), (["--patient"], alive.ALIVE)])
def test_without_redis_only_the_patient_check_passes(
    arguments: list[str], status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = load_settings({"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"})
    monkeypatch.setattr(alive, "get_settings", lambda: nowhere)
    assert alive.main(arguments) == status
    assert "Redis does not answer" in capsys.readouterr().out
