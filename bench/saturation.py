"""The capacity of one Redis: ``python -m bench.saturation`` measures the CPU that requests and workers cost a real one.

It calls what the system calls (Gateway, Records, the lease's tick) and reads the server's own count of CPU time before
and after, so that a busy machine or a slow client changes the duration and not the result. Workers are simulated: their
leases are real, their models are not there. The tables go into docs/capacity.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import redis

from common.settings import Settings, load_settings
from tasks.lanes import lanes_of
from tasks.producer.gateway import Gateway, Submission
from tasks.producer.live_workers import read_workers
from tasks.protocol import connections, envelope, scripts
from tasks.protocol.keys import Keys
from tasks.protocol.records import Records
from tasks.protocol.requests import AttemptEnd, State
from tasks.protocol.statistics import Statistics
from tasks.worker.channel import take_call
from tasks.worker.lease import Lease
from tasks.worker.ownership import Ownership
from tasks.worker.rescue import GracePeriod
from tests.support.redis_server import RedisServer

ROOT = Path(__file__).resolve().parents[1]
GUIDE = ROOT / "docs" / "capacity.md"
#: The share of one core above which Redis answers late.
FULL = 0.8


def cpu(client: redis.Redis) -> float:
    """Seconds of CPU that the server has used."""
    info: dict[str, Any] = client.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def cost(client: redis.Redis, act: Callable[[], object]) -> float:
    """Microseconds of the server's CPU for ``act()``."""
    before = cpu(client)
    act()
    return (cpu(client) - before) * 1e6


def least(client: redis.Redis, act: Callable[[], object], rounds: int = 3) -> float:
    """The least of several rounds: whatever else the machine does can only add to it."""
    return min(cost(client, act) for _ in range(rounds))


class Shift:
    """One simulated worker that takes and answers requests, a step for all of them at a time."""

    def __init__(self, settings: Settings, image: bytes) -> None:
        self.keys = Keys(settings.key_prefix)
        self.client = connections.prompt(settings.redis_url)
        self.gateway = Gateway(settings)
        self.records = Records(self.client, settings)
        self.lease = idle_lease(settings, "worker-0", self.client)
        self._image = image
        self._held: list[tuple[str, str]] = []
        self._attempts: list[Any] = []

    def accept(self, number: int) -> None:
        """Submit so many requests, as the API does."""
        for _ in range(number):
            self.gateway.submit(Submission(image=self._image, model_type="mobilenet"))

    def take(self, number: int) -> None:
        """Take them one by one, as the transport does."""
        lanes = lanes_of("mobilenet")
        owner = self.lease._owner  # noqa: SLF001 - this is the worker
        self._held.clear()
        for _ in range(number):
            tag = owner.new_tag()
            lane, message = scripts.run(self.client, "take", *take_call(self.keys, owner, lanes, [tag], [lanes], 1))
            assert lane
            self._held.append((tag, envelope.requests_in(json.loads(message))[0]))

    def begin(self, _: int) -> None:
        """Begin the taken requests and get the images."""
        owner = self.lease._owner  # noqa: SLF001
        self._attempts.clear()
        for tag, request_id in self._held:
            self._attempts += self.records.begin([request_id], owner.boot, tag, "mobilenet").attempts
            owner.acknowledge(tag)

    def commit(self, number: int) -> None:
        """Answer all of it."""
        owner = self.lease._owner  # noqa: SLF001
        predictions = [{"class": "tabby cat", "index": 281, "confidence": 0.5}] * 5
        text = json.dumps({"predictions": predictions, "model": "mobilenet", "weights": "torchvision"})
        assert len(self._attempts) == number
        for attempt in self._attempts:
            outcome = AttemptEnd(state=State.SUCCEEDED, result=text, decode=0.005, infer=0.01, batch=1)
            self.records.commit(owner.boot, attempt, outcome)


def idle_lease(settings: Settings, name: str, client: Any) -> Lease:
    """The lease of a worker that is not there; all leases share one connection."""
    described = {
        "id": f"{name}@host", "model": "mobilenet", "version": "1", "weights": "torchvision", "runtime": "onnxruntime",
        "device": "cpu", "host": "host", "pid": 1, "concurrency": 16, "state": "idle", "in_flight": 0, "processed": 1,
        "failed": 0, "service_seconds": 0.01, "rss_bytes": 1 << 28, "cpu_seconds": 1.0, "chaos": None,
    }  # fmt: skip
    owner = Ownership(f"{name}@host")

    def describe() -> dict[str, Any]:
        return described | {"boot": owner.boot, "started_at": time.time(), "last_heartbeat": time.time()}

    pipeline: Any = SimpleNamespace(
        owner=owner, busy_since=None, slow=False, tick=lambda _: None, records=SimpleNamespace(statistics=Statistics())
    )
    lease = Lease(settings, pipeline, describe=describe, obey=lambda _: None)
    lease._client = lease._records.client = lease._registration.client = lease._rescuer.client = client  # noqa: SLF001
    lease._renew(register=True)  # noqa: SLF001
    return lease


def per_request(url: str, number: int, size: int) -> dict[str, float]:
    """Microseconds of Redis for each step of a request with an image of ``size`` bytes."""
    settings = load_settings({"REDIS_URL": url, "LEASE_TTL": "3600", "MAX_QUEUE": str(10 * number)})
    shift = Shift(settings, os.urandom(size))
    steps = {"accept": shift.accept, "take": shift.take, "begin": shift.begin, "commit": shift.commit}
    with closing(shift.gateway), redis.Redis.from_url(url) as client:
        rounds = [
            {step: cost(client, lambda act=act: act(number)) / number for step, act in steps.items()}  # type: ignore[misc]
            for _ in range(3)
        ]
    return {step: round(min(found[step] for found in rounds), 1) for step in steps}


def per_worker(url: str, numbers: Sequence[int]) -> dict[int, dict[str, float]]:
    """For each number of registered workers: microseconds of Redis a second for one of them, and for looking at all."""
    settings = load_settings({"REDIS_URL": url, "LEASE_TTL": "3600", "LEASE_RENEW": "0.5"})
    shared = connections.prompt(url)
    leases: list[Lease] = []
    found = {}
    with redis.Redis.from_url(url) as client:
        for number in numbers:
            leases += [idle_lease(settings, f"worker-{i}", shared) for i in range(len(leases), number)]
            some = leases[: max(1, min(number, 200))]
            found[number] = {
                "lease": round(_second_of_leases(client, some), 1),
                "idle": round(_second_of_waiting(client, settings, some), 1),
                "turn": round(_look_for_the_dead(client, shared, settings), 1),
                "picture": round(_picture(client, shared, settings), 1),
            }
    return found


def _second_of_leases(client: redis.Redis, leases: Sequence[Lease]) -> float:
    """One worker's ticks of one second, without the turn to look for the dead, which few of them get."""
    prefix, renew = leases[0]._settings.key_prefix, leases[0]._settings.lease_renew  # noqa: SLF001
    ticks = 6  # a renewal comes every second tick, a question for the turn at least every third

    def live() -> None:
        for number in range(ticks):
            for lease in leases:
                lease._tick(renew=number % 2 == 0)  # noqa: SLF001

    client.set(f"{prefix}rescue_turn", "1")
    for lease in leases:
        lease._grace = GracePeriod(0.0, reachable=1.0)  # noqa: SLF001
        lease._rescuer.lapsed(ask=True)  # noqa: SLF001 - learns how many they are
    found = least(client, live) / (ticks * len(leases)) * 2 / renew
    client.delete(f"{prefix}rescue_turn")
    return found


def _second_of_waiting(client: redis.Redis, settings: Settings, leases: Sequence[Lease]) -> float:
    """One second of an idle worker: an empty take, a BRPOP that times out."""
    keys, lanes = Keys(settings.key_prefix), lanes_of("mobilenet")
    bells = [keys.bell(name) for name in lanes]

    def wait() -> None:
        for lease in leases:
            owner, client = lease._owner, lease._client  # noqa: SLF001
            scripts.run(client, "take", *take_call(keys, owner, lanes, [owner.new_tag()], [lanes], 1))
            client.brpop(bells, 0.001)

    return least(client, wait) / len(leases)


def _look_for_the_dead(client: redis.Redis, shared: Any, settings: Settings) -> float:
    """The look at every lease that one worker takes for all, five times a second."""

    def look() -> None:
        for _ in range(20):
            client.delete(f"{settings.key_prefix}rescue_turn")
            scripts.run(shared, "lapsed", (), [settings.key_prefix, 60_000])

    return least(client, look) / 20


def _picture(client: redis.Redis, shared: Any, settings: Settings) -> float:
    """The snapshot of live workers that every API process takes twice a second."""
    return least(client, lambda: [read_workers(shared, Keys(settings.key_prefix)) for _ in range(10)]) / 10


def share(report: dict[str, Any], workers: int, rate: float, apis: int = 2) -> float:
    """The share of one core that Redis needs for so many workers, API processes and requests a second."""
    costs: dict[str, float] = report["workers"][str(workers)]
    request = _request(report)
    # A worker with work does not wait at the bell; counting all as idle is the worse case.
    standing = workers * (costs["lease"] + costs["idle"]) + 5 * costs["turn"] + 2 * apis * costs["picture"]
    return (standing + rate * request) / 1e6


def most(report: dict[str, Any], workers: int) -> float:
    """Requests a second that are left when so many workers prove their life."""
    standing = share(report, workers, 0)
    return max(0.0, (FULL - standing) * 1e6 / _request(report))


def _request(report: dict[str, Any]) -> float:
    """Microseconds of Redis for all steps of one request."""
    steps: dict[str, float] = report["request"]
    return sum(steps.values())


def render(report: dict[str, Any]) -> str:
    """The tables of docs/capacity.md."""
    request, size = report["request"], report["image_bytes"] // 1000
    lines = [f"Redis {report['redis']}, images of {size} KB, `appendfsync everysec`, {report['cpu']}, load average"]
    lines[0] += f" {report['load']} from other work (it makes caches cold and every figure larger):"
    lines.append("")
    lines += ["| step of a request | CPU of Redis |", "|---|---|"]
    lines += [f"| {step} | {micros:.0f} µs |" for step, micros in {**request, "all": sum(request.values())}.items()]
    heads = (
        "workers registered", "a worker, each second", "all leases, one look", "the API's picture, once",
        "Redis without a request", "requests a second up to 80 % of a core",
    )  # fmt: skip
    lines += ["", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for number, costs in report["workers"].items():
        cells = (
            number, f"{costs['lease'] + costs['idle']:.0f} µs", f"{costs['turn']:.0f} µs", f"{costs['picture']:.0f} µs",
            f"{share(report, int(number), 0):.0%} of a core", f"{most(report, int(number)):.0f}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write_guide(report: dict[str, Any]) -> None:
    """Put the tables between their marks in docs/capacity.md."""
    text = GUIDE.read_text()
    block = f"<!-- python -m bench.saturation -->\n{render(report)}\n<!-- end -->"
    GUIDE.write_text(
        re.sub(r"<!-- python -m bench\.saturation -->.*?<!-- end -->", lambda _: block, text, flags=re.DOTALL)
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.saturation", description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--image-bytes", type=int, default=100_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[10, 100, 1000, 5000])
    parser.add_argument("--print-only", action="store_true", help="write no file")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        try:
            with redis.Redis.from_url(server.url) as client:
                version = str(client.info("server")["redis_version"])
            report: dict[str, Any] = {
                "redis": version,
                "cpu": f"{os.cpu_count()} cores {platform.machine()}",
                "load": round(os.getloadavg()[0], 1),
                "image_bytes": options.image_bytes,
                "request": per_request(server.url, options.requests, options.image_bytes),
            }
            with redis.Redis.from_url(server.url) as client:
                client.flushall()
            found = per_worker(server.url, options.workers)
            report["workers"] = {str(number): costs for number, costs in found.items()}
        finally:
            server.stop()
    print(render(report))
    if not options.print_only:
        write_guide(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
