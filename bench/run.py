"""``make benchmark``: Inferlane against its own in-process limit, interleaved in one run, medians with spread.

Every round measures the limit and then each way of asking, so that a machine that slows down slows both. The limit's
process is idle while the system runs and the other way round.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

from bench.end_to_end import Callers
from bench.limit import Limit, Run
from tests.support.redis_server import RedisServer
from tests.support.stack import Stack

ROOT = Path(__file__).resolve().parents[1]
PHOTO = ROOT / "docs" / "images" / "rocket.jpg"


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mobilenet")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--photos", type=int, default=400, help="photos of one measurement")
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs, cost, memory = measure(Path(folder), options.model, options.rounds, options.photos)
    report = {
        "command": " ".join(["python -m bench.run", *sys.argv[1:]]),
        "at": time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime()),
        "machine": {"cpu": _cpu_name(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": _versions(),
        "model": options.model,
        "photo_bytes": PHOTO.stat().st_size,
        "runs": {
            name: [vars(run) | {"rate": run.rate, "latencies": None} for run in many] for name, many in runs.items()
        },
        "noop_core_ms": cost,
        "memory_mib": memory,
    }
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / f"{options.model}.json").write_text(json.dumps(report, indent=1) + "\n")
    text = render(report, runs)
    (options.results / f"{options.model}.md").write_text(text)
    sys.stdout.write(text)
    return 0


def measure(
    folder: Path, model: str, rounds: int, photos: int
) -> tuple[dict[str, list[Run]], dict[str, float], dict[str, float]]:
    """All runs by name, core-ms per no-op request by process, and resident MiB by process."""
    photo = PHOTO.read_bytes()
    runs: dict[str, list[Run]] = defaultdict(list)
    server = RedisServer(folder / "redis")
    try:
        with Stack(server.url, folder / "run", ALLOW_RANDOM_WEIGHTS=1, MODELS=f"{model},photo") as stack:
            worker, api = stack.start_worker(model), stack.start_api()
            pids = {"worker": worker.pid, "api": api.pid, "redis": server.process.pid}
            callers = Callers(api.url, pids)
            limit = Limit(model, stack.settings())
            for _ in range(rounds):
                for concurrency in (1, 16):
                    number = photos if concurrency > 1 else photos // 4
                    runs[f"limit c={concurrency}"].append(limit.run(photo, number, concurrency))
                    runs[f"single c={concurrency}"].append(callers.single(photo, model, number, concurrency))
                runs["single c=4"].append(callers.single(photo, model, photos, 4))
                runs["single c=64"].append(callers.single(photo, model, photos, 64))
                runs["submit and poll c=16"].append(callers.submit_and_poll(photo, model, photos, 16))
                runs["batch of 32"].append(callers.batch(photo, model, photos, 32))
            limit.close()
            memory = {name: _rss(pid) for name, pid in pids.items()}
            worker.stop()
            noop = stack.start_worker("tests.toy:photo")
            cost = _noop_cost(Callers(api.url, {**pids, "worker": noop.pid}), photo, photos)
    finally:
        server.stop()
    return runs, cost, memory


def _noop_cost(callers: Callers, photo: bytes, photos: int) -> dict[str, float]:
    callers.single(photo, "photo", photos // 2, 16)
    before = callers.cpu()
    run = callers.single(photo, "photo", 3 * photos, 16)
    after = callers.cpu()
    return {name: round(1000 * (after[name] - before[name]) / run.answered, 2) for name in after}


def render(report: dict, runs: dict[str, list[Run]]) -> str:
    """The report for people."""
    ceiling = median(run.rate for run in runs["limit c=16"])
    head = (
        f"{report['at']}, {report['machine']['cores']} cores ({report['machine']['cpu']}), photos of "
        f"{report['photo_bytes'] // 1000} KB, `{report['command']}`. Medians of {len(runs['limit c=16'])} interleaved "
        "rounds; the callers share the cores with the system."
    )
    table = [
        "| what | photos/s | spread | of the limit | core-ms per photo | p50 ms | p99 ms |",
        "|---|---|---|---|---|---|---|",
    ]
    lines = [f"# Benchmark: {report['model']}", "", head, "", *table]
    for name, many in runs.items():
        rates = sorted(run.rate for run in many)
        latencies = sorted(1000 * x for run in many for x in run.latencies)
        core_ms = median(1000 * run.cpu_seconds / run.answered for run in many)
        lines.append(
            f"| {name} | {median(rates):.1f} | {rates[0]:.1f}-{rates[-1]:.1f} | {median(rates) / ceiling:.2f} | "
            f"{core_ms:.1f} | {median(latencies):.1f} | {latencies[int(0.99 * (len(latencies) - 1))]:.1f} |"
        )
    cost = ", ".join(f"{name} {value}" for name, value in report["noop_core_ms"].items())
    memory = ", ".join(f"{name} {value:.0f}" for name, value in report["memory_mib"].items())
    return "\n".join(
        [*lines, "", f"Core-ms per request of a model that does nothing: {cost}.", f"Memory, MiB: {memory}.", ""]
    )


def _rss(pid: int) -> float:
    import psutil

    process = psutil.Process(pid)
    return max(p.memory_info().rss for p in (process, *process.children(recursive=True))) / 2**20


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("celery", "kombu", "redis", "flask", "gunicorn", "onnxruntime", "numpy")}


def _cpu_name() -> str:
    found = subprocess.run(["grep", "-m1", "model name", "/proc/cpuinfo"], capture_output=True, text=True, check=False)
    return found.stdout.partition(":")[2].strip() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
