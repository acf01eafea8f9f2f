"""The Procfile becomes the list of programs of a host, and that list a supervisord configuration."""

from __future__ import annotations

import shlex
from configparser import RawConfigParser
from pathlib import Path

from common.settings import SOCKET_PATH_LIMIT
from scripts.supervision import Program, _socket, configuration, programs, worker_name


def section(program: Program, folder: Path = Path("/run/x")) -> dict[str, str]:
    parser = RawConfigParser()
    parser.read_string(configuration([program], folder))
    return dict(parser[f"program:{program.name}"])


def test_each_model_gets_its_workers_and_each_worker_knows_how_many_share_the_host() -> None:
    workers = [program for program in programs({"resnet18": 2, "mobilenet": 1}) if program.kind == "worker"]
    assert [program.name for program in workers] == ["worker-resnet18-1", "worker-resnet18-2", "worker-mobilenet-1"]
    assert [program.environ["MODEL"] for program in workers] == ["resnet18", "resnet18", "mobilenet"]
    assert [program.environ["REPLICA"] for program in workers] == ["1", "2", "1"]
    assert {program.environ["WORKERS_ON_HOST"] for program in workers} == {"3"}


def test_the_broker_the_api_the_dashboard_and_flower_run_once_each() -> None:
    names = [program.name for program in programs({"resnet18": 1})]
    assert names == ["broker", "worker-resnet18-1", "api", "dashboard", "flower"]


def test_lines_can_be_left_out() -> None:
    assert [program.name for program in programs({}, without=["dashboard", "flower", "worker"])] == ["broker", "api"]


def test_a_model_of_ones_own_has_a_program_name_without_dots_and_colons() -> None:
    assert worker_name("package.module:factory", 1) == "worker-package-module-factory-1"


def test_a_program_is_started_again_forever_and_ended_with_its_children() -> None:
    found = section(Program("api", "api", "serve"))
    assert (found["autorestart"], found["killasgroup"]) == ("true", "true")
    assert int(found["startretries"]) > 100_000


def test_an_api_gets_longer_to_stop_than_its_longest_wait() -> None:
    assert int(section(Program("api", "api", "serve"))["stopwaitsecs"]) > 30 + 10


def test_quotes_and_percent_signs_of_a_command_reach_the_shell_as_written() -> None:
    command = "serve --name 'x@%h' \"$PORT\""
    written = section(Program("a", "a", command, {"X": "50%"}))
    shell = shlex.split(written["command"] % {})  # as supervisord expands and splits it
    assert shell == ["/bin/sh", "-c", f"exec {command}"]
    assert written["environment"] % {} == 'X="50%"'


def test_the_control_socket_has_a_path_the_kernel_accepts_however_deep_the_run_directory_is() -> None:
    assert _socket(Path("/run/x")) == Path("/run/x/supervisor.sock")
    deep = Path("/" + "/".join(["folder"] * 40))
    assert len(str(_socket(deep))) < SOCKET_PATH_LIMIT
    assert _socket(deep) != _socket(deep / "other")
