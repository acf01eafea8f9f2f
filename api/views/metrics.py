"""The monitor's numbers in the text formats of Prometheus and OpenMetrics.

Every value is read from Redis at scrape time, so all API processes agree and a restart loses nothing. Names carry base
units; no label has an unbounded set of values.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from tasks.inspect.monitor import BOUNDS, Monitor
from tasks.lanes import Lane
from tasks.protocol.usage import OUTCOMES

ENDS = ("accepted", "succeeded", "failed", "canceled", "expired")
OPEN = ("queued", "running")
OWN = ("model", "state")
BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64)
Row = Mapping[str, Any]
Buckets = Sequence[tuple[str, float]]
Gauges = Sequence[tuple[str, str, Callable[[Row], float]]]  # name, help, value
#: Label -> key of the row.
LANE, WORKER = {"priority": "priority", "model": "model"}, {"worker": "id", "model": "model"}
LANE_GAUGES: Gauges = (
    ("depth", "Requests waiting in a lane.", lambda lane: lane["depth"]),
    ("oldest_seconds", "Age of the oldest waiting request.", lambda lane: lane["oldest_age"] or 0),
    ("paused", "1 while the lane is paused.", lambda lane: int(lane["paused"])),
)
WORKER_GAUGES: Gauges = (
    ("up", "1 for every worker with a lease.", lambda _: 1),
    ("in_flight", "Requests that a worker has.", lambda worker: worker["in_flight"]),
    ("concurrency", "Requests a worker may take.", lambda worker: worker["concurrency"]),
    ("resident_memory_bytes", "Memory of a worker.", lambda worker: worker["rss_bytes"]),
    ("service_seconds", "What one request costs the inference threads.", lambda worker: worker["service_seconds"]),
    ("draining", "1 while it takes nothing more.", lambda worker: int(worker["state"] == "draining")),
    ("heartbeat_timestamp_seconds", "When it last proved that it lives.", lambda worker: worker["last_heartbeat"]),
)
WORKER_INFO: Gauges = (("info", "1 for every worker, with what it is.", lambda _: 1),)
INFO = WORKER | {name: name for name in ("version", "runtime", "precision", "device", "weights")}


def render(monitor: Monitor, accept: str, owner: str | None = None) -> tuple[bytes, str]:
    """The exposition in the format that ``accept`` prefers, and its Content-Type; requests of one owner, or of all."""
    registry = CollectorRegistry()
    registry.register(_Reading(monitor, owner))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Reading(Collector):
    """One scrape."""

    def __init__(self, monitor: Monitor, owner: str | None) -> None:
        self._monitor, self._owner = monitor, owner

    def describe(self) -> list[Metric]:
        """Nothing, so that registering does not read Redis."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every metric family."""
        monitor, workers = self._monitor, self._monitor.workers()
        yield from _gauges("lane", LANE_GAUGES, monitor.lanes(workers), LANE)
        yield from _gauges("worker", WORKER_GAUGES, workers, WORKER)
        yield _cpu(workers)
        yield from _gauges("worker", WORKER_INFO, workers, INFO)
        yield from _own(monitor, self._owner) if self._owner else self._all()

    def _all(self) -> Iterator[Metric]:
        monitor = self._monitor
        yield from _ledger(monitor.ledger())
        for name, value in sorted(monitor.counters().items()):
            yield CounterMetricFamily(f"inferlane_{name}", f"How often: {name.replace('_', ' ')}.", value=value)
        yield _histogram(
            "inferlane_stage_seconds", "Time spent per stage of a request.",
            {(*Lane.parse(name), stage): (cumulative(counts), counts.get("sum", 0.0))
             for (name, stage), counts in monitor.histograms().items()},
            "stage",
        )  # fmt: skip
        yield _histogram(
            "inferlane_batch_size_requests",
            "Answered requests by the size of the forward pass they shared: a pass of n counts n times.",
            {(*Lane.parse(name),): (batch_buckets(sizes), sum(size * number for size, number in sizes.items()))
             for name, sizes in monitor.batch_sizes().items()},
        )  # fmt: skip
        yield GaugeMetricFamily("inferlane_dead_letters", "Dead letters on the list.", monitor.dead_letter_count())


def _own(monitor: Monitor, owner: str) -> Iterator[Metric]:
    """One owner's requests since midnight (UTC), by the model that answered, and those that wait."""
    rows, (whole,) = monitor.usage(owner, 1), monitor.owners(owner)
    ended = CounterMetricFamily("inferlane_requests", "Your requests of today, by how they ended.", labels=OWN)
    for row, state in product(rows, OUTCOMES):
        ended.add_metric([row["model"], state], row[state])
    yield ended
    for name, text in (("refused", "requests refused"), ("compute_seconds", "seconds of computing")):
        yield CounterMetricFamily(f"inferlane_{name}", f"Your {text} of today.", value=whole["today"][name])
    queued = GaugeMetricFamily("inferlane_requests_open", "Your requests that wait.", labels=OWN)
    queued.add_metric(["any", "queued"], whole["queued"])
    yield queued


def _ledger(ledger: Mapping[str, Mapping[str, int]]) -> Iterator[Metric]:
    labels = ["priority", "model", "state"]
    ended = CounterMetricFamily("inferlane_requests", "Requests accepted, and how they ended.", labels=labels)
    held = GaugeMetricFamily("inferlane_requests_open", "Requests that have not ended.", labels=labels)
    for family, states in ((ended, ENDS), (held, OPEN)):
        for name, numbers in ledger.items():
            for state in states:
                family.add_metric([*Lane.parse(name), state], numbers.get(state, 0))
        yield family


def _cpu(workers: Sequence[Row]) -> Metric:
    family = CounterMetricFamily("inferlane_worker_cpu_seconds", "Processor time of a worker.", labels=[*WORKER])
    for worker in workers:
        family.add_metric([worker["id"], worker["model"]], worker["cpu_seconds"], created=worker.get("started_at"))
    return family


def _histogram(name: str, text: str, rows: Mapping[tuple[str, ...], tuple[Buckets, float]], *more: str) -> Metric:
    """The family of these labels' buckets and sums."""
    family = HistogramMetricFamily(name, text, labels=["priority", "model", *more])
    for labels, (buckets, total) in sorted(rows.items()):
        family.add_metric([*labels], buckets, sum_value=total)
    return family


def _gauges(prefix: str, gauges: Gauges, rows: Sequence[Row], labels: Mapping[str, str]) -> Iterator[Metric]:
    for name, text, value in gauges:
        family = GaugeMetricFamily(f"inferlane_{prefix}_{name}", text, labels=[*labels])
        for row in rows:
            family.add_metric([str(row.get(key) or "") for key in labels.values()], value(row))
        yield family


def cumulative(counts: Mapping[str, float]) -> Buckets:
    """Prometheus buckets ``(upper bound in seconds, observations up to it)`` from the monitor's counts per bucket."""
    total, buckets = 0.0, []
    for number, bound in enumerate([*map(str, BOUNDS), "+Inf"]):
        total += counts.get(str(number), 0.0)
        buckets.append((bound, total))
    return buckets


def batch_buckets(sizes: Mapping[int, int]) -> Buckets:
    """Prometheus buckets ``(upper bound, requests in passes of up to that size)``."""
    bounds = [(str(bound), sum(number for size, number in sizes.items() if size <= bound)) for bound in BATCH_BOUNDS]
    return [*bounds, ("+Inf", sum(sizes.values()))]
