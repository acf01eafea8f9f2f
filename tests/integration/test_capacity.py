"""The capacity simulation against the real system with a sleeping model: the same arrivals, nearly the same waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import saturation
from bench.queueing import QueuePlan, QueueRun, Simulation, percentile
from bench.trial import run
from tests.support.redis_server import RedisServer

#: What docs/capacity.md states.
RELATIVE, SECONDS = 0.25, 0.06


def marks(done: QueueRun) -> list[float]:
    totals = [call.total for call in done.calls]
    return [percentile(totals, share) for share in (0.5, 0.95)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "plan",
    [
        QueuePlan(rate=7, service=0.2, workers=2, pickup=0.01, requests=100),
        QueuePlan(rate=14, service=0.04, base=0.2, workers=1, pickup=0.01, requests=200),
    ],
    ids=["two-workers", "batches"],
)
def test_the_simulation_agrees_with_the_real_system(plan: QueuePlan, tmp_path: Path) -> None:
    measured = run(plan, tmp_path)
    simulated = Simulation(plan, [(call.arrived, call.priority) for call in measured.calls]).run()
    assert marks(measured) == pytest.approx(marks(simulated), rel=RELATIVE, abs=SECONDS)
    assert measured.mean_batch == pytest.approx(simulated.mean_batch, rel=0.3)


def test_what_redis_is_asked_for_costs_something_and_the_table_can_be_drawn(own_redis: RedisServer) -> None:
    request = saturation.per_request(own_redis.url, 50, 10_000)
    workers = saturation.per_worker(own_redis.url, [2, 20])
    assert min(request.values()) > 0
    report = {"redis": "7", "cpu": "-", "load": 0, "image_bytes": 10_000, "request": request,
              "workers": {str(number): costs for number, costs in workers.items()}}  # fmt: skip
    assert saturation.share(report, 20, 100) > saturation.share(report, 20, 0) > saturation.share(report, 2, 0) > 0
    assert "| 20 |" in saturation.render(report)
