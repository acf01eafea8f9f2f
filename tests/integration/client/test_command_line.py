"""The command line as users run it: a process, its exit code and what it prints."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from inferlane import Client
from tests.integration.client.conftest import ADMIN_KEY, MODELS, image
from tests.support.processes import ROOT, Process
from tests.support.stack import ApiProcess, Stack
from tests.support.waiting import wait_until


def command_line(url: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", "inferlane", *map(str, arguments), "--url", url]


def run(url: str, *arguments: object, stdin: bytes = b"", timeout: float = 60) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command_line(url, *arguments), cwd=ROOT, input=stdin, capture_output=True, timeout=timeout, check=False
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def documents(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def folder_of(path: Path, orders: dict[str, str]) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, order in orders.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(image(order))
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return folder_of(tmp_path, {"photo.gif": "ok"}) / "photo.gif"


def test_classify_one_photo(toy_api: ApiProcess, photo: Path) -> None:
    done = run(toy_api.url, "classify", photo, "-m", "toy")
    assert (done.returncode, "100.00%" in done.stdout, "none weights" in done.stdout) == (0, True, True)
    done = run(toy_api.url, "classify", photo, "-m", "toy", "--json")
    assert documents(done.stdout)[0]["model"] == "toy"


def test_classify_standard_input(toy_api: ApiProcess) -> None:
    done = run(toy_api.url, "classify", "-", "--json", stdin=image())
    assert done.returncode == 0
    assert documents(done.stdout)[0]["state"] == "succeeded"


def test_a_request_from_submit_to_get(toy_api: ApiProcess, photo: Path) -> None:
    done = run(toy_api.url, "submit", photo, "-m", "toy", "-p", "high")
    request_id = done.stdout.strip()
    watched = run(toy_api.url, "watch", request_id)
    assert (watched.returncode, "succeeded" in watched.stdout) == (0, True)
    got = run(toy_api.url, "get", request_id, "--json")
    assert documents(got.stdout)[0]["priority"] == "high"
    assert "accepted" in run(toy_api.url, "get", request_id).stdout
    assert run(toy_api.url, "cancel", request_id).returncode == 1


def test_what_scripts_read_is_not_broken_into_lines(toy_api: ApiProcess, tmp_path: Path) -> None:
    path = folder_of(tmp_path / ("long" * 30), {"photo.gif": "ok", "second.gif": "ok"})
    request_id = "i" * 128
    assert run(toy_api.url, "submit", path / "photo.gif", "--request-id", request_id).stdout == f"{request_id}\n"
    lines = run(toy_api.url, "classify", path).stdout.splitlines()
    assert {line.partition("  ")[0] for line in lines} == {str(path / name) for name in ("photo.gif", "second.gif")}


def test_names_cannot_steer_the_terminal(toy_api: ApiProcess, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"a\x1b[31m[bold].gif": "ok", "b.gif": "ok"})
    done = run(toy_api.url, "classify", folder)
    assert "a\ufffd[31m[bold].gif" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.usefixtures("restored")
def test_cancel(toy_api: ApiProcess, photo: Path) -> None:
    with Client(toy_api.url, ADMIN_KEY) as boss:
        boss.predict(image(), "toy", priority="low")  # makes the lane known
        boss.document("/admin/lanes/low.toy/pause", method="POST")  # so that it waits, however busy this machine is
        request_id = run(toy_api.url, "submit", photo, "-m", "toy", "-p", "low").stdout.strip()
        canceled = run(toy_api.url, "cancel", request_id)
        boss.document("/admin/lanes/low.toy/resume", method="POST")
    assert canceled.returncode == 0, canceled.stderr
    assert run(toy_api.url, "watch", request_id).returncode == 1


def test_the_system(toy_api: ApiProcess) -> None:
    assert "broker" in run(toy_api.url, "status").stdout
    assert documents(run(toy_api.url, "status", "--json").stdout)[0]["health"]["broker"] == "up"
    assert "toy-1" in run(toy_api.url, "workers", "--json").stdout
    assert "toy" in run(toy_api.url, "workers").stdout
    assert "waiting" in run(toy_api.url, "queues").stdout
    assert documents(run(toy_api.url, "queues", "--json").stdout)[0]["max_size"] > 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["classify"], 2),
        (["no-such-command"], 2),
        (["classify", "no-such-file.jpg"], 2),
        (["classify", "-", "-o", "x.csv"], 2),
        (["classify", "tests/unit", "-o", "x.csv"], 2),
        (["submit", "README.md", "-k", "0"], 2),
        (["get", "never-seen"], 1),
        (["classify", "pyproject.toml"], 1),
        (["classify", "-", "-m", "no-such-model"], 1),
    ],
)
def test_wrong_use_is_2_and_a_failure_is_1(toy_api: ApiProcess, arguments: list[str], code: int) -> None:
    done = run(toy_api.url, *arguments, stdin=image())
    assert done.returncode == code, done.stderr
    assert done.stderr
    assert not (ROOT / "x.csv").exists()


def test_nobody_there_is_3(free_port: int) -> None:
    done = run(f"http://127.0.0.1:{free_port}", "status", "--patience", "0.2", "--json")
    assert done.returncode == 3
    assert documents(done.stdout)[0]["error"]["code"] == "unreachable"
    assert run("no-url", "status").returncode == 2


def test_not_in_time_is_4_and_the_request_goes_on(toy_api: ApiProcess, tmp_path: Path) -> None:
    folder_of(tmp_path, {"slow.gif": "sleep 1.5"})
    done = run(toy_api.url, "classify", tmp_path / "slow.gif", "-m", "toy", "--timeout", "0.4", "--json")
    assert done.returncode == 4
    request_id = documents(done.stdout)[0]["error"]["request_id"]
    assert run(toy_api.url, "watch", request_id, "--timeout", "0.1").returncode in {0, 4}
    assert run(toy_api.url, "watch", request_id).returncode == 0


def test_a_batch(toy_api: ApiProcess, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", {f"{n}.gif": "ok" for n in range(5)})
    done = run(toy_api.url, "batch", folder, "-m", "toy", "--items", "2", "--json")
    rows = documents(done.stdout)
    assert done.returncode == 0
    assert [Path(row["path"]).name for row in rows] == [f"{n}.gif" for n in range(5)]
    (folder / "bad.gif").write_bytes(b"no image")
    detached = run(toy_api.url, "batch", folder, "--detach").stdout.split()
    assert len(detached) == 1
    wait_until(lambda: '"completed"' in run(toy_api.url, "batch", "--status", detached[0], "--json").stdout)
    assert run(toy_api.url, "batch", "--results", detached[0]).returncode == 1
    assert run(toy_api.url, "batch", "--cancel", detached[0]).returncode == 0


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_folder_is_written_as_it_ends_and_taken_up_again(toy_api: ApiProcess, tmp_path: Path, form: str) -> None:
    folder = folder_of(tmp_path / "photos", {f"{n}.gif": "ok" for n in range(6)} | {"sub/x.gif": "ok"})
    (folder / "notes.txt").write_text("not a photo")
    (folder / "broken.png").write_bytes(b"no image")
    output = tmp_path / f"out.{form}"
    done = run(toy_api.url, "classify", folder, "-m", "toy", "-o", output)
    assert done.returncode == 1, done.stderr
    rows = read_rows(output)
    assert len(rows) == 8
    assert {row["path"] for row in rows if row["status"] == "failed"} == {str(folder / "broken.png")}
    (folder / "new.gif").write_bytes(image())
    again = run(toy_api.url, "classify", folder, "-m", "toy", "-o", output)
    assert again.returncode == 1, again.stderr  # broken.png still has no answer
    assert "8 were done before, 1 of them failed" in again.stderr
    assert read_rows(output)[:8] == rows
    assert len(read_rows(output)) == 9


def test_a_file_that_cannot_be_read_fails_alone(toy_api: ApiProcess, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", {"a.gif": "ok", "c.gif": "ok"})
    (folder / "b.gif").symlink_to(folder / "nowhere")
    for command in (("classify",), ("batch",), ("load", "-d", "0.5")):
        done = run(toy_api.url, command[0], folder, "-m", "toy", "--json", *command[1:])
        if command[0] == "load":
            assert (done.returncode, "left out" in done.stderr) == (0, True), done.stderr
            continue
        states = {Path(row["path"]).name: row["error_code"] or "ok" for row in documents(done.stdout)}
        assert states == {"a.gif": "ok", "b.gif": "image_unreadable", "c.gif": "ok"}
        assert done.returncode == 1
    assert run(toy_api.url, "batch", folder / "b.gif").returncode == 2


def test_a_finished_folder_with_failures_keeps_its_exit_code(toy_api: ApiProcess, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", {"a.gif": "ok"})
    (folder / "b.gif").write_bytes(b"no image")
    sweep = ("classify", folder, "-m", "toy", "-o", tmp_path / "out.csv")
    assert [run(toy_api.url, *sweep).returncode for _ in range(2)] == [1, 1]


def test_it_does_not_wait_in_silence(toy_api: ApiProcess, free_port: int, tmp_path: Path) -> None:
    folder_of(tmp_path, {"slow.gif": "sleep 3", "next.gif": "ok"})
    done = run(toy_api.url, "classify", tmp_path / "slow.gif", "-m", "toy", "--json")
    assert (done.returncode, done.stderr) == (0, f"waiting for {toy_api.url}, 300 s at most (--timeout)\n")
    nobody = f"http://127.0.0.1:{free_port}"
    done = run(nobody, "classify", tmp_path / "slow.gif", timeout=10)
    assert done.returncode == 3
    first = done.stderr.splitlines()[0]
    assert first.startswith(f"nothing answers at {nobody}: ")
    assert "trying again for 3 s" in first
    assert "INFERLANE_URL" in first


def test_status_shows_the_last_minutes(toy_api: ApiProcess, photo: Path) -> None:
    assert run(toy_api.url, "classify", photo, "-m", "toy").returncode == 0
    minutes = documents(run(toy_api.url, "status", "--json").stdout)[0]["minutes"]
    assert len(minutes) == 5
    assert sum(minute["succeeded"] for minute in minutes) >= 1
    assert "the last 5 minutes" in run(toy_api.url, "status").stdout
    assert {model["name"] for model in documents(run(toy_api.url, "models", "--json").stdout)[0]["models"]} == {
        "toy", "resnet18",
    }  # fmt: skip


def test_a_folder_survives_the_death_of_the_api(stack: Stack, tmp_path: Path) -> None:
    """SIGKILL in the middle, the same port answers again later: every photo is classified, each once."""
    ran = tmp_path / "ran"
    stack.start_worker("tests.toy:toy", name="toy-1", arguments=["-c", "4"], MODELS=MODELS, MAX_BATCH=1)
    api = stack.start_api(MODELS=MODELS)
    same = psutil.Process(api.pid)
    command, environ = same.cmdline(), same.environ()
    folder = folder_of(tmp_path / "photos", {f"{n:03}.gif": f"sleep 0.02;ran {ran}" for n in range(120)})
    output = tmp_path / "out.jsonl"
    arguments = command_line(api.url, "classify", folder, "-m", "toy", "-o", output, "-j", "8")
    with contextlib.ExitStack() as processes:
        sweep = Process(arguments, name="sweep", folder=tmp_path, environ=os.environ)
        processes.callback(sweep.stop)
        wait_until(lambda: len(read_rows(output)) > 20, timeout=30)
        api.kill()
        assert not answers(api.url)
        processes.callback(Process(command, name="api-again", folder=tmp_path, environ=environ).stop)
        assert sweep.wait(60) == 0, sweep.log()
    rows = read_rows(output)
    assert sorted(Path(row["path"]).name for row in rows) == [f"{n:03}.gif" for n in range(120)]
    assert {row["status"] for row in rows} == {"succeeded"}
    assert len(ran.read_text().splitlines()) == 120


@pytest.mark.parametrize(("end", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_an_interrupted_folder_goes_on_where_it_was(
    toy_api: ApiProcess, tmp_path: Path, form: str, end: signal.Signals, code: int
) -> None:
    folder = folder_of(tmp_path / "photos", {f"{n:02}.gif": "sleep 0.1" for n in range(30)})
    output = tmp_path / f"out.{form}"
    arguments = command_line(toy_api.url, "classify", folder, "-m", "toy", "-o", output, "-j", "2")
    first = Process(arguments, name="sweep", folder=tmp_path, environ=os.environ)
    wait_until(lambda: len(read_rows(output)) >= 3, timeout=30)
    first.send(end)
    try:
        assert first.wait(10) == code, first.log()
    finally:
        first.stop()
    assert ("the same command goes on" in first.log()) == (end is signal.SIGINT), first.log()
    had = len(read_rows(output))
    assert had < 30
    with output.open("a") as file:  # a power cut leaves half a line
        file.write('{"path": "' if form == "jsonl" else "/photos/29.gif,succ")
    second = run(toy_api.url, *arguments[3:-2])
    assert second.returncode == 0, second.stderr
    assert f"{had} were done before" in second.stderr
    assert len({row["path"] for row in read_rows(output)}) == len(read_rows(output)) == 30


def test_an_api_that_stays_away_ends_the_sweep_with_3(free_port: int, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", {"a.gif": "ok", "b.gif": "ok"})
    done = run(f"http://127.0.0.1:{free_port}", "classify", folder, "-o", tmp_path / "o.csv", "--patience", "0.2")
    assert done.returncode == 3
    assert "2 are left" in done.stderr
    assert read_rows(tmp_path / "o.csv") == []


def read_rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    return documents(path.read_text())


def answers(url: str) -> bool:
    from inferlane import Retries
    from inferlane.errors import ClientError

    try:
        with Client(url, timeout=1, retries=Retries(patience=0)) as client:
            return bool(client.document("/livez"))
    except ClientError:
        return False
