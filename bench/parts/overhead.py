"""The cost of the queue: a model that does nothing, core-ms per request by process, beside bare Flask and bare Celery.

Bare Flask is a route that reads the photo, under the API's own server. Bare Celery is stock: its own Redis transport
and result backend, defaults, a task that returns at once, a producer that waits for each result. It has no HTTP, no
image, no record and no promise, so it is a floor to look at, not a rival.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench.budget import say
from bench.caller import Caller
from bench.facts import PHOTO
from bench.inferlane import Inferlane
from bench.markdown import table
from bench.parts.part import BenchPart, PartContext, Report
from bench.runs import Cpu, closed_loop
from bench.targets import TargetResult, at_most
from bench.trees import Tree, cpu_seconds, wait_for
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer

CALLERS = 16
PHOTO_WAY, SMALL_WAY, FLASK_WAY = "photo of 112 KB", "photo of 8 KB", "bare Flask, photo of 112 KB"
POOLS = {"bare Celery, threads": ("threads", "16"), "bare Celery, prefork": ("prefork", "2")}


def measure(context: PartContext) -> dict[str, Any]:
    """Rounds of a large photo, of the same to bare Flask, of a small one, and of bare Celery in two pools."""
    large, small = PHOTO.read_bytes(), thumbnail()
    with (
        Inferlane(context.folder, api_processes=context.options.api_processes, MODELS="photo") as system,
        _flask(context, system) as (flask, flask_cpu),
        _celery(context.folder) as start,
    ):
        system.add_worker("tests.toy:photo", TOY_SECONDS=0)
        system.add_api()
        ways: Mapping[str, tuple[Caller, bytes, Cpu]] = {
            PHOTO_WAY: (system.caller, large, system.cpu), FLASK_WAY: (flask, large, flask_cpu),
            SMALL_WAY: (system.caller, small, system.cpu),
        }  # fmt: skip
        for number in context.budget.rounds(context.options.rounds):
            for way, (caller, photo, cpu) in ways.items():
                once = partial(_ask, caller, photo)
                _keep(context, number, way, partial(closed_loop, once, CALLERS, context.seconds, cpu))
            for way, pool in POOLS.items():
                _keep(context, number, way, partial(start, pool, context.seconds))
    return {"photo_small_bytes": len(small)}


def _keep(context: PartContext, number: int, way: str, run: Callable[[], Any]) -> None:
    record = context.journal.measure(lambda: run().to_json(), way=way, round=number)
    cost = ", ".join(f"{name} {value:.2f}" for name, value in record["core_ms"].items())
    say(f"round {number + 1} {way}: {record['rate']:.0f}/s, core-ms {cost}")


def _ask(caller: Caller, photo: bytes) -> int:
    answer = caller.json("POST", "/inference?model_type=photo", photo, {"Content-Type": "image/jpeg"})
    if answer["status"] != "success":
        raise RuntimeError(f"not the answer: {answer}")
    return 1


@contextmanager
def _flask(context: PartContext, system: Inferlane) -> Iterator[tuple[Caller, Cpu]]:
    """Bare Flask in as many processes as the API."""
    port = free_port()
    environ = system.stack.environ(API_PORT=port, API_PROCESSES=context.options.api_processes or "")
    tree = Tree([sys.executable, "-m", "bench.bare_flask"], environ, context.folder / "flask.log")
    caller = Caller(f"http://127.0.0.1:{port}")

    def answers() -> bool:
        with suppress(OSError):
            return caller.ask("GET", "/livez")[0] == 200
        return False

    try:
        wait_for(answers, 30, "bare Flask", [tree])
        yield caller, lambda: {"api": cpu_seconds([tree.pid])}
    finally:
        caller.close()
        tree.stop()


@contextmanager
def _celery(folder: Path) -> Iterator[Callable[..., Any]]:
    """A private Redis; each call runs a worker of a pool and measures it."""
    redis = RedisServer(folder / "celery-redis")
    environ = {**os.environ, "BENCH_REDIS": redis.url}
    os.environ["BENCH_REDIS"] = redis.url

    def run(pool: tuple[str, str], seconds: float) -> Any:
        from bench.bare_celery import nothing

        name, concurrency = pool
        command = [sys.executable, "-m", "celery", "-A", "bench.bare_celery", "worker", "--pool", name,
                   "--concurrency", concurrency, "--loglevel", "WARNING"]  # fmt: skip
        worker = Tree(command, environ, folder / f"celery-{name}.log")

        def once() -> int:
            nothing.delay().get(timeout=60)
            return 1

        try:
            once()
            cpu = partial(_parts, worker.pid, redis.process.pid)
            return closed_loop(once, CALLERS, seconds, cpu)
        finally:
            worker.stop()

    try:
        yield run
    finally:
        redis.stop()


def _parts(worker: int, redis: int) -> dict[str, float]:
    return {"worker": cpu_seconds([worker]), "redis": cpu_seconds([redis])}


def small_photo() -> bytes:
    """A valid JPEG of about a kilobyte."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(buffer, "JPEG", quality=60)
    return buffer.getvalue()


def thumbnail() -> bytes:
    """The photo in 8 KB."""
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(PHOTO) as photo:
        photo.thumbnail((320, 320))
        photo.save(buffer, "JPEG", quality=75)
    return buffer.getvalue()


def judge(report: Report) -> list[TargetResult]:
    """Each part's share, and the API's beside bare Flask."""
    cost, flask, small = (_median(report, way) for way in (PHOTO_WAY, FLASK_WAY, SMALL_WAY))
    found = []
    if cost:
        found.append(at_most("no-op model: worker, per request", 1.2, cost["worker"], "core-ms"))
        found.append(at_most("no-op model: API, per photo", 1.0, cost["api"], "core-ms"))
    if cost and flask:
        found.append(at_most("no-op model: API, of bare Flask", 3.0, cost["api"] / flask["api"], "x"))
    if small:
        found.append(at_most("no-op model: Redis, per photo of 8 KB", 0.5, small["redis"], "core-ms"))
    return found


def render(report: Report) -> list[str]:
    """Core-ms per request by process."""
    rows = []
    for way in (PHOTO_WAY, FLASK_WAY, SMALL_WAY, *POOLS):
        cost, records = _median(report, way), _records(report, way)
        if not cost:
            continue
        costs = {"api": median(r["caller_core_ms"] for r in records)} | cost
        cells = (f"{costs[name]:.2f}" if name in costs else "" for name in ("api", "redis", "worker"))
        rows.append([way, *cells, f"{median(r['rate'] for r in records):.0f}", len(records)])
    intro = (
        "Core-ms per request of a model that does nothing, 16 callers; medians. Bare Flask reads the photo under the "
        "same server. For bare Celery the API column is the producer's own work, which for Inferlane is the API's with "
        "HTTP and the photo's upload in it."
    )
    return [
        intro, "",
        *table(["what", "API", "Redis", "worker", "requests/s", "rounds"], rows),
    ]  # fmt: skip


def _records(report: Report, way: str) -> list[dict[str, Any]]:
    return [record for record in report["records"] if record["way"] == way]


def _median(report: Report, way: str) -> dict[str, float]:
    records = _records(report, way)
    names = records[0]["core_ms"] if records else {}
    return {name: float(median(r["core_ms"][name] for r in records)) for name in names}


PART = BenchPart(
    name="overhead",
    title="What the queue costs",
    share=0.14,
    per_model=False,
    measure=measure,
    judge=judge,
    render=render,
)
