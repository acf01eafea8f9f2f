"""After a run with every kind of event, Prometheus' counters equal the ledger and the timelines.

Histograms may lack what a killed worker had not flushed: the last second before its end.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tasks.inspect.monitor import Monitor
from tasks.producer.gateway import Gateway, Submission
from tasks.protocol.requests import Request, State
from tests.support.oracle import all_ended, check_answered_once, check_books
from tests.support.stack import ApiProcess, Stack, WorkerProcess
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

TOY = "tests.toy:toy"
SETTINGS = {"MODELS": "toy", "MAX_DELIVERIES": 2, "MAX_RETRIES": 2, "RETRY_BACKOFF": 1, "RETRY_JITTER": 0}
Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


class Crew:
    """Two workers that are started again when they die, as a supervisor would."""

    def __init__(self, stack: Stack) -> None:
        self._stack, self._number = stack, 0
        self.workers = [self._start(), self._start()]
        self.deaths = 0

    def _start(self) -> WorkerProcess:
        self._number += 1
        return self._stack.start_worker(TOY, name=f"toy-{self._number}", ready=False, **SETTINGS)

    def look(self) -> None:
        """Replace the dead."""
        dead = [worker for worker in self.workers if not worker.alive]
        self.deaths += len(dead)
        self.workers = [worker for worker in self.workers if worker.alive] + [self._start() for _ in dead]

    def kill(self, node: str) -> None:
        """SIGKILL."""
        victim = next(worker for worker in self.workers if worker.node == node)
        os.kill(victim.pid, signal.SIGKILL)
        victim.wait(10)


@pytest.fixture
def gateway(stack: Stack) -> Iterator[Gateway]:
    made = Gateway(stack.settings(**SETTINGS))
    yield made
    made.close()


def test_counters_equal_the_ledger_after_a_mixed_run_with_kills(stack: Stack, gateway: Gateway, tmp_path: Path) -> None:
    monitor, crew = Monitor(stack.settings(**SETTINGS)), Crew(stack)
    wait_until(lambda: len(monitor.workers()) == 2, 60, what="both workers")
    ids = [send(gateway, "ok", deadline=0.001) for _ in range(3)]  # nobody is that fast
    unwanted = [send(gateway, f"until {tmp_path / 'canceled'}") for _ in range(40)]  # more than both have places for
    for request_id in unwanted:
        gateway.records.cancel(request_id)
    (tmp_path / "canceled").touch()
    ids += [*unwanted, *(send(gateway, text) for text in orders(tmp_path))]
    for late in ["sleep 1.5"] * 3:
        ids.append(kill_one_that_runs(gateway, crew, send(gateway, late)))
        crew.look()
    finish(gateway, crew, ids)
    ids += [send(gateway, "ok") for _ in range(3)]  # for workers that live to flush their statistics
    requests = finish(gateway, crew, ids)
    check_books(monitor, requests)
    check_answered_once(requests)
    api = stack.start_api(workers=2, **SETTINGS)
    wait_until(lambda: flushed(api), 30, what="the workers flush their statistics")
    check_samples(scrape(api), monitor, requests)
    assert monitor.counters()["workers_lost"] >= 3
    again = stack.start_api(**SETTINGS)  # nothing is counted in the processes, so another one tells the same
    assert steady(scrape(again)) == steady(scrape(api))


def orders(folder: Path) -> Iterator[str]:
    """The orders of the requests."""
    yield from ["ok"] * 20
    yield from ["bad"] * 3
    yield from [f"flaky {folder / 'once'} 1", f"flaky {folder / 'twice'} 2", "error", "exit"]


def send(gateway: Gateway, text: str, deadline: float | None = None) -> str:
    wanted = Submission(image=text.encode(), model_type="toy", priority="normal", deadline=deadline)
    return gateway.submit(wanted).id


def kill_one_that_runs(gateway: Gateway, crew: Crew, request_id: str) -> str:
    """Kill the worker that has this request in hand."""

    def taken() -> bool:
        crew.look()
        return gateway.get(request_id).state in (State.RUNNING, State.SUCCEEDED)

    wait_until(taken, 90, what="somebody takes it")
    request = gateway.get(request_id)
    if request.state is State.RUNNING and request.workers[-1] in {worker.node for worker in crew.workers}:
        crew.kill(request.workers[-1])
    return request_id


def finish(gateway: Gateway, crew: Crew, ids: Sequence[str]) -> list[Request]:
    """Look after the workers until every request has ended."""
    ends = time.monotonic() + 240
    while any(not request.state.terminal for request in gateway.records.get_many(list(ids))):
        assert time.monotonic() < ends, "not all requests end"
        crew.look()
        time.sleep(0.2)
    return all_ended(gateway, ids, 1)


def scrape(api: ApiProcess) -> Samples:
    answer = api.client.get("/metrics/prometheus")
    assert answer.status_code == 200
    families = text_string_to_metric_families(answer.text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def flushed(api: ApiProcess) -> bool:
    """Whether the last answers are counted and nothing more is."""
    before = steady(scrape(api))
    time.sleep(1.5)
    counted = {dict(labels).get("stage") for name, labels in before if name == "inferlane_stage_seconds_count"}
    return counted >= {"queue", "infer"} and before == steady(scrape(api))


def steady(samples: Samples) -> Samples:
    """Without what goes on while nothing happens: the workers' own figures."""
    return {key: value for key, value in samples.items() if not key[0].startswith("inferlane_worker_")}


def check_samples(samples: Samples, monitor: Monitor, requests: Sequence[Request]) -> None:
    told = {
        (dict(labels)["priority"], dict(labels)["state"]): value
        for (name, labels), value in samples.items() if name == "inferlane_requests_total"
    }  # fmt: skip
    row = monitor.ledger()["normal.toy"]
    ended = Counter(str(request.state) for request in requests)
    for state in ("succeeded", "failed", "canceled", "expired"):
        assert told["normal", state] == row[state] == ended[state] > 0, state
    assert told["normal", "accepted"] == row["accepted"] == len(requests)
    events = Counter(event["event"] for request in requests for event in request.timeline)
    names = {"retried": "retry", "rescued": "rescued", "dead_lettered": "dead_lettered"}
    for counter, event in names.items():
        assert samples[f"inferlane_{counter}_total", frozenset()] == events[event] > 0, counter
    check_histograms(samples, requests, ended)


def check_histograms(samples: Samples, requests: Sequence[Request], ended: Mapping[str, int]) -> None:
    lane = {("priority", "normal"), ("model", "toy")}

    def counted(stage: str) -> float:
        return samples["inferlane_stage_seconds_count", frozenset({*lane, ("stage", stage)})]

    assert ended["canceled"] + ended["expired"] < counted("total") <= len(requests)
    assert 0 < counted("infer") == counted("decode") <= ended["succeeded"]
    assert 0 < counted("queue") <= sum(bool(request.workers) for request in requests)
    assert samples["inferlane_batch_size_requests_count", frozenset(lane)] == counted("infer")
    assert samples["inferlane_dead_letters", frozenset()] == samples["inferlane_dead_lettered_total", frozenset()]
