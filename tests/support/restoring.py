"""Give a system that several tests share back as it was: what a test ordered, whole or half, is undone.

So a test that failed half way can run again, and no other test fails because of it.
"""

from __future__ import annotations

from typing import Any

import httpx

from tests.support.waiting import wait_until


def restore(api: httpx.Client, key: str) -> None:
    """End every fault, resume every worker and lane, cancel the backlog, and wait until nothing runs.

    Args:
        api: a client with the API's address as its base.
        key: the administrator's.
    """
    now = _snapshot(api)
    for worker in now["workers"]:
        _restore_worker(api, key, worker)
    for lane in now["lanes"]:
        _restore_lane(api, key, lane)
    wait_until(lambda: _at_rest(_snapshot(api)), 60, interval=0.1, what="the shared system is as it was")


def _snapshot(api: httpx.Client) -> dict[str, Any]:
    body: dict[str, Any] = api.get("/ops/snapshot", params={"fresh": 1}).raise_for_status().json()
    return body


def _restore_worker(api: httpx.Client, key: str, worker: dict[str, Any]) -> None:
    if worker["chaos"] != "off":
        _order(api, key, f"/admin/workers/{worker['id']}/chaos", mode="off")
    if worker["state"] == "draining":
        _order(api, key, f"/admin/workers/{worker['id']}/resume")


def _restore_lane(api: httpx.Client, key: str, lane: dict[str, Any]) -> None:
    name = lane["lane"]
    if lane["depth"]:
        _order(api, key, f"/admin/lanes/{name}/purge", confirm=name)
    if lane["paused"]:
        _order(api, key, f"/admin/lanes/{name}/resume")


def _order(api: httpx.Client, key: str, path: str, **body: str) -> None:
    api.post(path, json=body or None, headers={"Authorization": f"Bearer {key}"}).raise_for_status()


def _at_rest(now: dict[str, Any]) -> bool:
    rested = all(worker["chaos"] == "off" and worker["state"] != "draining" for worker in now["workers"])
    return rested and not now["paused"] and not any(now["ledger"].get(name) for name in ("queued", "running"))
