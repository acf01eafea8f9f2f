"""The cost of a long queue: submitting, taking and looking at it with 100 to 100,000 requests queued.

Two systems run side by side: one always holds 100 requests, the other grows. At each length the same calls are timed on
both, in turn, so that a machine that slows down slows both, and a ratio is of two things measured together.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench import charts
from bench.budget import say
from bench.inferlane import Inferlane
from bench.journal import Record
from bench.markdown import table
from bench.parts.overhead import small_photo
from bench.parts.part import BenchPart, PartContext, Report
from bench.targets import TargetResult, at_most, number
from tasks.lanes import lanes_of
from tasks.producer.gateway import Gateway, Submission
from tasks.protocol import connections, scripts
from tasks.protocol.keys import Keys
from tasks.worker.channel import take_call
from tasks.worker.ownership import Ownership

MODEL = "photo"
REFERENCE = 100
LENGTHS = (100, 1_000, 10_000, 100_000)
ROUTES = ("/health", "/queue/status", "/workers/status", "/metrics", "/metrics/prometheus")


def measure(context: PartContext) -> dict[str, Any]:
    """Grow one system to each length and time it beside the other."""
    photo = small_photo()
    own: dict[str, Any] = {
        "MODELS": MODEL,
        "MAX_QUEUE": 10_000_000,
        "PAYLOAD_STORE": f"file://{context.folder.resolve()}/payloads",
    }
    with Inferlane(context.folder, **own) as small, Inferlane(context.folder, **own) as large:
        pair = {"reference": Queue(small, photo), "grown": Queue(large, photo)}
        pair["reference"].fill(REFERENCE)
        for length in LENGTHS:
            if length > context.options.queued:
                continue
            if pair["grown"].seconds_to(length) > context.budget.left:
                say(f"{context.budget.left:.0f} s left: not {length} queued")
                break
            context.journal.measure(partial(_at, length, pair, context.options.calls), length=length)
        for queue in pair.values():
            queue.close()
    return {"image_bytes": len(photo), "model": MODEL}


def _at(length: int, pair: dict[str, Queue], calls: int) -> Record:
    grown = pair["grown"]
    began = time.monotonic()
    grown.fill(length)
    say(f"{length} queued after {time.monotonic() - began:.0f} s")
    found: Record = {"bytes_each": round(grown.bytes_each, 1)}
    for what in ("submit", "take", *ROUTES):
        times = _alternate(what, pair, calls if what in ("submit", "take") else max(5, calls // 5))
        found[what] = {name: _milliseconds(values) for name, values in times.items()}
        ratio = found[what]["grown"]["median"] / found[what]["reference"]["median"]
        found[what]["ratio"] = round(ratio, 3)
        say(f"{length} queued, {what}: {found[what]['grown']['median']:.3f} ms, {ratio:.2f} of with {REFERENCE}")
    return found


def _alternate(what: str, pair: dict[str, Queue], calls: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in pair}
    for queue in pair.values():
        queue.time(what)  # the first call opens connections and fills caches
    while len(times["grown"]) < calls:
        for name, queue in pair.items():
            times[name].append(queue.time(what))
    return times


def _milliseconds(values: list[float]) -> dict[str, float]:
    ordered = sorted(1000 * value for value in values)
    return {
        "median": round(median(ordered), 4),
        "p90": round(ordered[int(0.9 * (len(ordered) - 1))], 4),
        "count": len(ordered),
    }


class Queue:
    """One system without a worker: requests can be put in, taken out by the real script, and looked at."""

    def __init__(self, system: Inferlane, photo: bytes) -> None:
        settings = system.settings()
        self._api = system.add_api()
        self._client = connections.prompt(settings.redis_url)
        self._keys = Keys(settings.key_prefix)
        self._gateway = Gateway(settings)
        self._submission = Submission(image=photo, model_type=MODEL)
        self._caller = system.caller
        self._owner = Ownership(f"bench@{socket.gethostname()}")
        self._lanes = lanes_of(MODEL)
        self._seconds_each = 0.0
        self.bytes_each = 0.0
        """Redis memory per request of the last :meth:`fill`; its image is in a file."""

    def fill(self, length: int) -> None:
        """Submit, one request a message, until ``length`` are queued."""
        missing, before, began = length - self._length(), self._used(), time.monotonic()
        for _ in range(missing):
            self._gateway.submit(self._submission)
        self._seconds_each = (time.monotonic() - began) / max(1, missing)
        self.bytes_each = (self._used() - before) / max(1, missing)

    def seconds_to(self, length: int) -> float:
        """How long it may take to grow to ``length``, by how long it took the last time."""
        return self._seconds_each * (length - self._length())

    def time(self, what: str) -> float:
        """Seconds of one call; the length of the queue stays what it was."""
        if what == "submit":
            return self._submit()
        return self._take() if what == "take" else _timed(lambda: self._look(what))

    def close(self) -> None:
        """Close the connections."""
        self._gateway.close()
        self._client.close()

    def _submit(self) -> float:
        seconds = _timed(lambda: self._gateway.submit(self._submission))
        self._client.ltrim(self._keys.lane(f"normal.{MODEL}"), 1, -1)
        return seconds

    def _take(self) -> float:
        """A registered taker, all lanes of the model; then the message goes back to where it was."""
        client, keys, boot, tag = self._client, self._keys, self._owner.boot, "1"
        client.hset(keys.workers, boot, "{}")
        call = take_call(keys, self._owner, self._lanes, [tag], [self._lanes], 1)
        began = time.perf_counter()
        where, message = scripts.run(client, "take", *call)
        seconds = time.perf_counter() - began
        lane = self._lanes[where - 1]
        scripts.run(client, "give_back", keys.lane_and_bell(lane), [keys.prefix, boot, tag, message])
        client.hdel(keys.workers, boot)
        return seconds

    def _look(self, path: str) -> None:
        status, _ = self._caller.ask("GET", path)
        if status not in (200, 503):  # /health says 503 while no worker lives, after the same work
            raise RuntimeError(f"GET {path}: {status}")

    def _length(self) -> int:
        return int(self._client.llen(self._keys.lane(f"normal.{MODEL}")))

    def _used(self) -> int:
        return int(self._client.info("memory")["used_memory"])


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def judge(report: Report) -> list[TargetResult]:
    """Ratios at the longest queue, and what it takes of Redis."""
    records = sorted(report["records"], key=lambda record: record["length"])
    if not records:
        return []
    last = records[-1]
    length = f"{last['length']:,} queued"
    found = [
        at_most(f"{length}: submit, of with {REFERENCE}", 1.2, last["submit"]["ratio"], "x"),
        at_most(f"{length}: take, of with {REFERENCE}", 1.2, last["take"]["ratio"], "x"),
        at_most(f"{length}: Redis memory of a request, its image in a file", 2048, last["bytes_each"], "bytes"),
        at_most(f"{length}: Redis memory of all", 256, last["bytes_each"] * last["length"] / 1e6, "MB"),
    ]
    routes = {what: last[what]["ratio"] for what in last if what.startswith("/")}
    slowest = max(routes, key=lambda what: routes[what])
    return [
        *found,
        at_most(f"{length}: slowest status route ({slowest}), of with {REFERENCE}", 1.2, routes[slowest], "x"),
    ]


def render(report: Report) -> list[str]:
    """Milliseconds at each length, with the ratio to the other system at the same moment."""
    calls = [name for name in report["records"][0] if isinstance(report["records"][0][name], dict)]
    rows = [
        [name, *(f"{r[name]['grown']['median']:.2f} ({r[name]['ratio']:.2f})" for r in report["records"])]
        for name in calls
    ]
    each = [number(record["bytes_each"]) for record in report["records"]]
    intro = (
        f"Median milliseconds of a call, and in brackets the ratio to a second system that always holds {REFERENCE} "
        f"requests, timed in turn with this one. Images of {report['image_bytes']} bytes in files; one request a "
        "message; the routes through the API, submit and take on the Redis connection."
    )
    return [
        intro, "",
        *table(["queued", *(f"{record['length']:,}" for record in report["records"])],
               [*rows, ["Redis bytes each", *each]]),
    ]  # fmt: skip


def draw(report: Report, target: Path) -> None:
    """Ratios over the length."""
    series = {
        name: [(record["length"], record[name]["ratio"]) for record in report["records"]]
        for name in ("submit", "take", *(name for name in report["records"][0] if name.startswith("/")))
    }
    names = ("requests queued", f"time, as a ratio to {REFERENCE} queued")
    charts.curves(target, "What a long queue costs", names, series, logarithmic=True)


PART = BenchPart(
    name="growth",
    title="A long queue",
    share=0.2,
    per_model=False,
    measure=measure,
    judge=judge,
    render=render,
    draw=draw,
)
