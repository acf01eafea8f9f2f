"""The monitor's numbers in the text formats of Prometheus and OpenMetrics.

Nothing is counted in this process: every value is read from Redis at scrape time, so any number of API processes tell
the same and a restart loses nothing. Names carry base units; no label has an unbounded set of values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from tasks.lanes import Lane
from tasks.monitor import BOUNDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client.core import Metric

    from tasks.monitor import Monitor

ENDS = ("accepted", "succeeded", "failed", "canceled", "expired")
OPEN = ("queued", "running")


def render(monitor: Monitor, accept: str) -> tuple[bytes, str]:
    """The exposition in the format that ``accept`` prefers, and its Content-Type.

    Raises:
        Unavailable: Redis does not answer.
    """
    registry = CollectorRegistry()
    registry.register(_Reading(monitor))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Reading(Collector):
    """One scrape."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def describe(self) -> list[Metric]:
        """Nothing: registering must not read Redis."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every metric family."""
        yield from self._ledger()
        yield from self._counters()
        yield from self._lanes()
        yield from self._workers()
        yield from self._latencies()

    def _ledger(self) -> Iterator[Metric]:
        labels = ["priority", "model", "state"]
        ended = CounterMetricFamily("inferlane_requests", "Requests accepted, and how they ended.", labels=labels)
        held = GaugeMetricFamily("inferlane_requests_open", "Requests that have not ended.", labels=labels)
        for name, states in self._monitor.ledger().items():
            lane = Lane.parse(name)
            for state in ENDS:
                ended.add_metric([*lane, state], states.get(state, 0))
            for state in OPEN:
                held.add_metric([*lane, state], states.get(state, 0))
        yield from (ended, held)

    def _counters(self) -> Iterator[Metric]:
        for name, value in sorted(self._monitor.counters().items()):
            yield CounterMetricFamily(f"inferlane_{name}", f"How often: {name.replace('_', ' ')}.", value=value)

    def _lanes(self) -> Iterator[Metric]:
        labels = ["priority", "model"]
        depth = GaugeMetricFamily("inferlane_lane_depth", "Requests waiting in a lane.", labels=labels)
        oldest = GaugeMetricFamily("inferlane_lane_oldest_seconds", "Age of the oldest waiting request.", labels=labels)
        paused = GaugeMetricFamily("inferlane_lane_paused", "1 while the lane is paused.", labels=labels)
        for lane in self._monitor.lanes():
            where = [lane["priority"], lane["model"]]
            depth.add_metric(where, lane["depth"])
            oldest.add_metric(where, lane["oldest_age"] or 0)
            paused.add_metric(where, int(lane["paused"]))
        yield from (depth, oldest, paused)

    def _workers(self) -> Iterator[Metric]:
        labels = ["worker", "model"]
        up = GaugeMetricFamily("inferlane_worker_up", "1 for every worker with a lease.", labels=labels)
        held = GaugeMetricFamily("inferlane_worker_in_flight", "Requests that a worker has.", labels=labels)
        places = GaugeMetricFamily("inferlane_worker_concurrency", "Requests a worker may take.", labels=labels)
        memory = GaugeMetricFamily("inferlane_worker_resident_memory_bytes", "Memory of a worker.", labels=labels)
        for worker in self._monitor.workers():
            where = [worker["id"], worker["model"]]
            up.add_metric(where, 1)
            held.add_metric(where, worker["in_flight"])
            places.add_metric(where, worker["concurrency"])
            memory.add_metric(where, worker["rss_bytes"])
        yield from (up, held, places, memory)

    def _latencies(self) -> Iterator[Metric]:
        labels = ["priority", "model", "stage"]
        family = HistogramMetricFamily("inferlane_stage_seconds", "Time spent per stage of a request.", labels=labels)
        for (name, stage), counts in sorted(self._monitor.histograms().items()):
            family.add_metric([*Lane.parse(name), stage], cumulative(counts), sum_value=counts.get("sum", 0.0))
        yield family


def cumulative(counts: Mapping[str, float]) -> list[tuple[str, float]]:
    """Prometheus buckets ``(upper bound in seconds, observations up to it)`` from the monitor's counts per bucket."""
    total, buckets = 0.0, []
    for number, bound in enumerate([*map(str, BOUNDS), "+Inf"]):
        total += counts.get(str(number), 0.0)
        buckets.append((bound, total))
    return buckets
