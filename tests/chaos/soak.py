"""Random faults under load, with the ledger as the judge: ``python -m tests.chaos.soak --kills 100 --requests 10000``.

Real redis-server, real workers of the toy model, a producer at a steady rate. Between faults the workers that died are
started again, as a supervisor would. At the end every accepted request must have ended exactly once and the books must
balance; a report with the raw numbers is written. Exits 1 when a promise was broken.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import redis

from tasks.errors import TaskError
from tasks.inspect.monitor import Monitor
from tasks.producer.gateway import Gateway, Submission
from tasks.protocol.requests import Request
from tests.support.oracle import all_ended, check_answered_once, check_books
from tests.support.redis_server import RedisServer
from tests.support.stack import Stack, WorkerProcess
from tests.support.waiting import wait_until

WORKERS = 4
FREEZE = 4.0
#: Seconds that a request takes: at 40 a second half of the workers are at work when they are killed.
TAKES = (0.0, 0.02, 0.12)


@dataclass
class Report:
    """Raw numbers of one run. Times are seconds."""

    seed: int
    accepted: int = 0
    refused: int = 0
    faults: dict[str, int] = field(default_factory=lambda: {"kill": 0, "freeze": 0, "drop": 0, "term": 0})
    lost: int = 0
    doubled: int = 0
    states: dict[str, int] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    recoveries: list[float] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    duration: float = 0.0

    def quantile(self, share: float) -> float:
        """A quantile of kill-to-started-elsewhere."""
        ordered = sorted(self.recoveries)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0

    def text(self) -> str:
        """The report for people."""
        rows = {
            "machine": f"{platform.machine()}, Python {platform.python_version()}, seed {self.seed}",
            "duration": f"{self.duration:.0f} s",
            "faults": ", ".join(f"{n} {name}" for name, n in self.faults.items()),
            "requests accepted": str(self.accepted),
            "refused (not accepted)": str(self.refused),
            "lost": str(self.lost),
            "doubled": str(self.doubled),
            "ended as": ", ".join(f"{n} {state}" for state, n in self.states.items()),
            "counters": ", ".join(f"{name} {n}" for name, n in self.counters.items()),
            "kill to started elsewhere": (
                f"{len(self.recoveries)} requests, p50 {self.quantile(0.5):.2f} s, p99 {self.quantile(0.99):.2f} s, "
                f"max {max(self.recoveries, default=0.0):.2f} s"
            ),
            "promises broken": "; ".join(self.broken) or "none",
        }
        lines = [f"| {name} | {value} |" for name, value in rows.items()]
        return "\n".join(["# Chaos soak", "", "| what | measured |", "|---|---|", *lines, ""])


class Soak:
    """One run: a producer thread, a fault at a time, the verdict."""

    def __init__(self, stack: Stack, server: RedisServer, seed: int) -> None:
        self.stack = stack
        self.server = server
        self.random = random.Random(seed)  # noqa: S311 - a dice, not a secret
        self.report = Report(seed)
        self.gateway = Gateway(stack.settings(MODELS="toy", MAX_QUEUE=1_000_000))
        self.monitor = Monitor(stack.settings())
        self.workers: list[WorkerProcess] = []
        self.accepted: list[str] = []
        self.killed_at: dict[str, float] = {}
        self._stop = threading.Event()
        self._started = 0

    def run(self, kills: int, requests: int, rate: float) -> Report:
        """Keep the load up until there have been ``kills`` kills and ``requests`` requests; then judge."""
        began = time.monotonic()
        self._fill_up()
        producer = threading.Thread(target=self._produce, args=(rate,))
        producer.start()
        try:
            while self.report.faults["kill"] < kills or len(self.accepted) < requests:
                if self.report.faults["kill"] < kills:
                    self._fault()
                self._fill_up()
                self._stop.wait(self.random.uniform(0.2, 1.0))
        finally:
            self._stop.set()
            producer.join()
        self._judge()
        self.report.duration = time.monotonic() - began
        self.gateway.close()
        return self.report

    def _produce(self, rate: float) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            due += self.random.expovariate(rate)
            time.sleep(max(0.0, due - time.monotonic()))
            text = f"sleep {self.random.choice(TAKES)};ok".encode()
            priority = self.random.choice(("high", "normal", "low"))
            model = self.random.choice(("toy", "toy", "any"))
            try:
                self.accepted.append(
                    self.gateway.submit(Submission(image=text, model_type=model, priority=priority)).id
                )
            except TaskError:
                self.report.refused += 1

    def _fill_up(self) -> None:
        """Do a supervisor's work: as many workers as there should be, without waiting for them."""
        self.workers = [worker for worker in self.workers if worker.alive]
        while len(self.workers) < WORKERS:
            self._started += 1
            name = f"w{self._started % (2 * WORKERS)}"  # names come back, as they do under a supervisor
            self.workers.append(self.stack.start_worker("tests.toy:toy", name=name, ready=False, arguments=["-c", "8"]))
        wait_until(lambda: len(self.monitor.workers()) >= 2, 60, what="two workers")

    def _fault(self) -> None:
        rows = {row["pid"]: row["boot"] for row in self.monitor.workers()}
        victims = [worker for worker in self.workers if worker.pid in rows]
        if len(victims) < 2:
            return
        victim = self.random.choice(victims)
        kind = self.random.choices(("kill", "freeze", "drop", "term"), weights=(80, 7, 8, 5))[0]
        self.report.faults[kind] += 1
        if kind == "kill":
            self.killed_at[rows[victim.pid]] = time.time()
            if self.random.random() < 0.5:
                victim.kill()
            else:
                os.kill(victim.pid, signal.SIGKILL)  # without its guardian
        elif kind == "freeze":
            victim.send(signal.SIGSTOP)
            threading.Timer(FREEZE, _wake, [victim]).start()
        elif kind == "term":
            victim.send(signal.SIGTERM)
        else:
            with redis.Redis.from_url(self.server.url) as client:
                client.client_kill_filter(_type="normal", skipme=True)

    def _judge(self) -> None:
        report = self.report
        report.accepted = len(self.accepted)
        try:
            requests = all_ended(self.gateway, self.accepted, 120)
        except TimeoutError:
            requests = self.gateway.records.get_many(self.accepted)
        report.lost = len(self.accepted) - sum(request.state.terminal for request in requests)
        for request in requests:
            report.states[request.state] = report.states.get(request.state, 0) + 1
            self._measure_recovery(request)
            report.doubled += sum(e["event"] in ("succeeded", "failed") for e in request.timeline) > 1
        report.counters = self.monitor.counters()
        for check in (lambda: check_answered_once(requests), lambda: check_books(self.monitor, requests)):
            try:
                check()
            except AssertionError as error:
                report.broken.append(str(error)[:300])
        if innocent := report.states.get("failed", 0):
            report.broken.append(f"{innocent} innocent requests failed")
        if report.lost or report.doubled:
            report.broken.append(f"{report.lost} lost, {report.doubled} doubled")

    def _measure_recovery(self, request: Request) -> None:
        killed_at = None
        for event in request.timeline:
            if event["event"] == "worker_died":
                killed_at = self.killed_at.get(event["worker"])
            elif event["event"] == "started" and killed_at is not None:
                self.report.recoveries.append(event["at"] - killed_at)
                killed_at = None


def _wake(worker: WorkerProcess) -> None:
    if worker.alive:
        worker.send(signal.SIGCONT)


def run(folder: Path, *, kills: int, requests: int, rate: float, seed: int) -> Report:
    """One soak on a private redis-server and workers, all ended afterwards."""
    server = RedisServer(folder / "redis")
    try:
        with Stack(server.url, folder / "run", MAX_BATCH=4) as stack:
            return Soak(stack, server, seed).run(kills, requests, rate)
    finally:
        server.stop()


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--report", type=Path, help="where to write the report, without suffix")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = run(Path(folder), kills=options.kills, requests=options.requests, rate=options.rate, seed=options.seed)
    sys.stdout.write(report.text())
    if options.report:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.with_suffix(".md").write_text(report.text())
        options.report.with_suffix(".json").write_text(json.dumps(asdict(report)) + "\n")
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
