"""The capacity simulation is right where theory knows the answer, and the guide shows what it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from statistics import fmean

import pytest

from bench import capacity
from bench.queueing import QueuePlan, Simulation, erlang_c, percentile

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "capacity.md").read_text()


@pytest.mark.parametrize(("rate", "workers"), [(5.0, 1), (8.0, 1), (15.0, 2), (34.0, 4)])
def test_one_request_at_a_time_with_random_service_waits_as_erlang_says(rate: float, workers: int) -> None:
    plan = QueuePlan(rate=rate, service=0.1, workers=workers, concurrency=1, max_batch=1, scatter="exponential",
                requests=30_000)  # fmt: skip
    waited = fmean(call.wait for call in Simulation(plan).run().after_warmup())
    assert waited == pytest.approx(erlang_c(rate, 0.1, workers), rel=0.1)


def test_constant_service_waits_half_as_long_as_random_service() -> None:
    """Pollaczek and Khinchine: an M/D/1 queue waits half as long as an M/M/1 queue."""
    plan = QueuePlan(rate=8, service=0.1, workers=1, concurrency=1, max_batch=1, requests=30_000)
    waited = fmean(call.wait for call in Simulation(plan).run().after_warmup())
    assert waited == pytest.approx(erlang_c(8, 0.1, 1) / 2, rel=0.1)


def answered_first(order: str) -> dict[str, float]:
    """The shares of the priorities among the first answers, with far more work of each than one worker can do."""
    plan = QueuePlan(
        rate=1000, service=1.0, workers=1, concurrency=1, max_batch=1, mix=(1, 1, 1), order=order, requests=3000
    )
    done = sorted(Simulation(plan).run().calls, key=lambda call: call.ended)[100:600]
    return {name: sum(call.priority == name for call in done) / len(done) for name in ("high", "normal", "low")}


def test_priorities_get_their_turns_in_the_real_order() -> None:
    assert answered_first("weighted") == pytest.approx({"high": 0.6, "normal": 0.3, "low": 0.1}, abs=0.02)
    assert answered_first("strict")["high"] == 1.0


def test_batches_grow_with_the_load_and_carry_it() -> None:
    """25 images a second one by one, 80 in batches of 16: what is too much for single passes is not too much."""
    plan = QueuePlan(rate=60, service=0.01, base=0.03, workers=1)
    loaded, idle = Simulation(plan).run(), Simulation(QueuePlan(rate=1, service=0.01, base=0.03, workers=1)).run()
    assert idle.mean_batch == pytest.approx(1.0, abs=0.05)
    assert 3 < loaded.mean_batch < 16
    assert percentile([call.total for call in loaded.after_warmup()], 0.95) < 0.5


def test_what_arrives_ends_and_nobody_holds_more_than_its_concurrency() -> None:
    plan = QueuePlan(rate=500, service=0.01, workers=2, concurrency=3, max_batch=2, mix=(1, 2, 1), requests=2000)
    simulation = Simulation(plan)
    simulation.run()
    assert len(simulation.calls) == 2000
    assert all(call.arrived <= call.started < call.ended for call in simulation.calls)
    assert sum(simulation.passes) == 2000
    assert max(simulation.passes) <= 2
    assert all(worker.held == 0 for worker in simulation._workers)


@pytest.mark.parametrize(
    ("command", "shown"), re.findall(r"\$ python -m bench\.capacity (.*)\n((?:[^$`\n].*\n)+)", GUIDE)
)
def test_the_guide_shows_what_the_command_prints(command: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command)
    if "--real" in words:  # measured: another run gives other figures
        capacity.parser().parse_args(words)
        assert "measured:" in shown
        return
    capacity.main(words)
    assert capsys.readouterr().out.splitlines() == shown.splitlines()


def test_too_few_workers_are_said_to_be_too_few(capsys: pytest.CaptureFixture[str]) -> None:
    assert capacity.main(shlex.split("--rate 100 --service 0.03 --workers 2-3 --target 1")) == 1
    assert capsys.readouterr().out.count("too few") == 2
