"""``make benchmark-peers``: Inferlane and other ways to serve, in turn, each against the limit just before and after.

Round one measures several configurations of every peer; the later rounds only the best of each and the quick starts, so
a peer is shown at its best (choosing the best of one noisy round favours the peers, if anyone). A system runs alone: it
is started, warmed, measured and ended before the next one starts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

from bench import facts
from bench.budget import Budget, say
from bench.journal import Journal, Record
from bench.limit import Limit
from bench.peers import catalog, environment
from bench.peers.ours import OurSystem, Running
from bench.peers.report import FAST, OURS, write
from bench.peers.system import RunningPeer, check
from bench.runs import MeasuredRun, closed_loop
from bench.statistics import spread
from bench.trees import end_on_sigterm
from common.settings import Settings, load_settings

OURS_AS = ((OURS, "as shipped", 1, "exact"), (FAST, "one worker", 1, "fast"), (OURS, "2 workers", 2, "exact"))
"""Inferlane's configurations: system, name, workers, PRECISION."""
LAST = 25.0
"""Seconds that must be left to begin with another system."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One configuration of one system, and how to start it."""

    system: str
    configuration: catalog.Configuration
    start: Any

    @property
    def key(self) -> dict[str, str]:
        """How its records are found."""
        return {"system": self.system, "configuration": self.configuration.name}


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    options = _parser().parse_args(arguments)
    environments = _environments(options.peers)
    if options.install_only:
        return 0
    budget = Budget(60 * options.minutes)  # making environments is not part of it
    settings = _settings()
    path = facts.JOURNALS / f"peers-{options.model}.jsonl"
    journal = Journal(path, resume=options.resume, stamp=f"{facts.commit()} {options.model} {options.seconds}")
    with tempfile.TemporaryDirectory(prefix="b") as folder:
        contenders = list(_contenders(options, environments, settings, Path(folder)))
        limit = Limit(options.model, settings)
        try:
            _measure(options, budget, journal, contenders, limit)
        finally:
            limit.close()
    report = facts.facts("bench.peers") | {
        "model": limit.name,
        "weights": limit.weights,
        "concurrency": options.concurrency,
        "peers": {
            name: {"version": environment.version(path, catalog.peer(name).package)}
            for name, path in environments.items()
        },
        "records": list(journal),
    }
    write(report, options.results)
    return 0


def _measure(
    options: argparse.Namespace, budget: Budget, journal: Journal, contenders: list[Contender], limit: Limit
) -> None:
    photo = facts.PHOTO.read_bytes()
    for number in budget.rounds(options.rounds):
        for contender in contenders if number == 0 else best(journal, contenders):
            known = journal.find(round=number, **contender.key)
            if known is None and len(journal) and budget.left < LAST:
                say(f"the time is up before {contender.system}, {contender.configuration.name}; --resume goes on")
                return
            bound = Bound(limit, photo, options)

            def measurement(contender: Contender = contender, bound: Bound = bound) -> Record:
                return _attempt(contender, bound)

            record = journal.measure(measurement, round=number, **contender.key)
            say(f"round {number + 1} {contender.system}, {contender.configuration.name}: {_line(record)}")


@dataclass(frozen=True, slots=True)
class Bound:
    """The limit, and the load for it and for every peer."""

    limit: Limit
    photo: bytes
    options: argparse.Namespace

    def run(self) -> MeasuredRun:
        """The limit now."""
        return self.limit.run(self.photo, self.options.concurrency, 0.4 * self.options.seconds)


def _attempt(contender: Contender, bound: Bound) -> Record:
    """One measurement between two of the limit, or why there is none."""
    try:
        with contender.start() as running:
            running.wait_until_ready(bound.photo)
            return _between(contender, running, bound)
    except (RuntimeError, AssertionError, ValueError, OSError, HTTPException) as error:
        return {"error": f"{type(error).__name__}: {error}"[-1500:]}


def _between(contender: Contender, running: Running, bound: Bound) -> Record:
    """The system is started and idle while the limit runs."""
    options, expected = bound.options, bound.limit.classify(bound.photo)
    path, body, headers = running.request(bound.photo)

    def once() -> int:
        # Another recipe, another rounding: its likeliest class may differ.
        answer = running.caller.json("POST", path, body, headers)
        check(answer, None if contender.configuration.quick_start else expected)
        return 1

    closed_loop(once, options.concurrency, options.warm, running.cpu, warm=0)
    before = bound.run()
    run = closed_loop(once, options.concurrency, options.seconds, running.cpu, warm=0.5)
    limit = [before, bound.run()]
    return {
        **run.to_json(),
        "limit": [round(one.rate, 2) for one in limit],
        "limit_core_ms": [one.to_json()["core_ms"]["limit"] for one in limit],
        "share": round(run.rate / (sum(one.rate for one in limit) / 2), 4),
        "memory": running.memory(),
    }


def best(journal: Journal, contenders: list[Contender]) -> list[Contender]:
    """Of each system the configuration with the best share in round one, and its quick start."""
    chosen = []
    for system in dict.fromkeys(contender.system for contender in contenders):
        own = [c for c in contenders if c.system == system]
        shares = {
            c.configuration.name: record["share"]
            for c in own
            if (record := journal.find(round=0, **c.key)) is not None and "share" in record
        }
        tuned = [name for name in shares if name != catalog.QUICK_START]
        names = {max(tuned, key=lambda name: shares[name])} if tuned else set()
        chosen += [c for c in own if c.configuration.name in names | {catalog.QUICK_START} & shares.keys()]
    return chosen


def _contenders(
    options: argparse.Namespace, environments: dict[str, Path], settings: Settings, folder: Path
) -> Iterator[Contender]:
    for system, name, workers, precision in OURS_AS[: 1 + options.configurations]:
        start = partial(OurSystem, options.model, settings, folder, options.api_processes, workers, precision)
        yield Contender(system, catalog.Configuration(name), start)
    chosen = [
        (place, name, configuration)
        for name in environments
        for place, configuration in enumerate(
            catalog.peer(name).select(options.configurations, quick_start=options.quick_start)
        )
    ]
    # Everybody's first configuration before anybody's second: should the time run out, all have been seen.
    for _, name, configuration in sorted(chosen, key=lambda one: one[0]):
        peer, binaries = catalog.peer(name), environments[name]
        yield Contender(name, configuration, _starter(peer, configuration, binaries, options, settings, folder))


def _starter(
    peer: catalog.Peer, configuration: catalog.Configuration, binaries: Path, options: argparse.Namespace,
    settings: Settings, folder: Path,
) -> Any:  # fmt: skip
    def start() -> AbstractContextManager[RunningPeer]:
        return RunningPeer(peer, configuration, binaries, options.model, settings, folder)

    return start


def _environments(names: list[str]) -> dict[str, Path]:
    """The environment of each peer that can be installed; the others are named and left out."""
    found = {}
    for name in names:
        try:
            found[name] = environment.prepare(name)
        except environment.EnvironmentFailed as error:
            say(f"left out, its environment could not be made: {error}")
    return found


def _settings() -> Settings:
    import os

    return load_settings({**os.environ, "ALLOW_RANDOM_WEIGHTS": "1", "WEIGHTS_TIMEOUT": "1"})


def _line(record: Record) -> str:
    if "error" in record:
        return "FAILED " + " ".join(record["error"].split())[-300:]
    return f"{record['rate']:.1f}/s, {record['share']:.2f} of the limit ({spread(record['limit']).median:.1f}/s)"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--model", default="mobilenet")
    parser.add_argument("--peers", nargs="+", default=[p.name for p in catalog.PEERS], metavar="NAME")
    parser.add_argument("--minutes", type=float, default=12, help="without making environments")
    parser.add_argument("--rounds", type=int, default=4, help="at most")
    parser.add_argument("--configurations", type=int, default=2, help="of each peer, beside its quick start; 9 are all")
    parser.add_argument("--seconds", type=float, default=4, help="of one measurement")
    parser.add_argument("--warm", type=float, default=1.5, help="seconds of load before a measurement")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--no-quick-start", dest="quick_start", action="store_false")
    parser.add_argument("--api-processes", type=int, help="of Inferlane; default as shipped")
    parser.add_argument("--install-only", action="store_true", help="make the environments and stop")
    parser.add_argument("--resume", action="store_true", help="keep what was measured with these options")
    parser.add_argument("--results", type=Path, default=facts.RESULTS)
    return parser


if __name__ == "__main__":
    end_on_sigterm()
    sys.exit(main())
