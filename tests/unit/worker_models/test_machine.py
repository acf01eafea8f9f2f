"""Cores and memory as a container sees them, from control groups of both versions made up in a folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker_models import machine
from worker_models.machine import intra_op_threads, memory_bytes, memory_kills, usable_cores

GIB = 1024**3
CORES, INSTALLED = 64, 256 * GIB


@pytest.fixture(autouse=True)
def large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": INSTALLED // 4096}
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(CORES)))
    monkeypatch.setattr(machine.os, "sysconf", pages.__getitem__)


def mount(folder: Path, kind: str, *, root: str = "/", options: str = "rw") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    return f"31 25 0:30 {root} {folder} rw,nosuid shared:9 - {kind} {kind} {options}\n"


def proc(tmp_path: Path, mounts: str, groups: str) -> Path:
    """A folder like /proc/self, with what a process says of its control groups."""
    folder = tmp_path / "proc"
    folder.mkdir()
    (folder / "mountinfo").write_text("23 1 0:21 / / rw - ext4 /dev/vda rw\n" + mounts)
    (folder / "cgroup").write_text(groups)
    return folder


def put(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def test_without_limits_all_of_the_machine_may_be_used(tmp_path: Path):
    assert (usable_cores(tmp_path), memory_bytes(tmp_path)) == (CORES, INSTALLED)


@pytest.mark.parametrize(
    ("cpu", "memory", "expected"),
    [
        ("150000 100000", "1073741824", (2, GIB)),
        ("50000 100000", "max", (1, INSTALLED)),
        ("max 100000", str(INSTALLED * 2), (CORES, INSTALLED)),
        ("nonsense", "", (CORES, INSTALLED)),
    ],
)
def test_a_group_of_version_2_limits_cores_and_memory(tmp_path: Path, cpu: str, memory: str, expected):
    top = tmp_path / "cgroup"
    inside = proc(tmp_path, mount(top, "cgroup2"), "0::/\n")
    put(top, cpu__max=cpu, memory__max=memory)
    assert (usable_cores(inside), memory_bytes(inside)) == expected


@pytest.mark.parametrize(
    ("quota", "memory", "expected"),
    [("150000", "1073741824", (2, GIB)), ("-1", "9223372036854771712", (CORES, INSTALLED))],
)
def test_groups_of_version_1_limit_cores_and_memory(tmp_path: Path, quota: str, memory: str, expected):
    """A container with version 1: the mounts begin at its own groups."""
    cpu, ram = tmp_path / "cgroup" / "cpu,cpuacct", tmp_path / "cgroup" / "memory"
    inside = proc(
        tmp_path,
        mount(cpu, "cgroup", root="/docker/abc", options="rw,cpu,cpuacct")
        + mount(ram, "cgroup", root="/docker/abc", options="rw,memory"),
        "4:memory:/docker/abc\n3:cpuacct,cpu:/docker/abc\n1:name=systemd:/docker/abc\n0::/\n",
    )
    put(cpu, cpu__cfs_quota_us=quota, cpu__cfs_period_us="100000")
    put(ram, memory__limit_in_bytes=memory)
    assert (usable_cores(inside), memory_bytes(inside)) == expected


def test_the_tightest_of_the_groups_above_counts(tmp_path: Path):
    top = tmp_path / "cgroup"
    inside = proc(tmp_path, mount(top, "cgroup2"), "0::/system.slice/inferlane.service/worker\n")
    put(top / "system.slice", cpu__max="300000 100000", memory__max=str(8 * GIB))
    put(top / "system.slice" / "inferlane.service", cpu__max="800000 100000", memory__max=str(2 * GIB))
    put(top / "system.slice" / "inferlane.service" / "worker", cpu__max="max 100000", memory__max="max")
    put(top.parent, cpu__max="100000 100000", memory__max="1")
    assert (usable_cores(inside), memory_bytes(inside)) == (3, 2 * GIB)


def test_both_versions_may_be_mounted_at_once(tmp_path: Path):
    top = tmp_path / "cgroup"
    inside = proc(
        tmp_path,
        mount(top / "unified", "cgroup2") + mount(top / "memory", "cgroup", options="rw,memory"),
        "4:memory:/job\n0::/\n",
    )
    put(top / "memory" / "job", memory__limit_in_bytes=str(3 * GIB))
    assert memory_bytes(inside) == 3 * GIB


@pytest.mark.parametrize("path", ["/../elsewhere", "/other/group"])
def test_a_group_outside_what_is_mounted_is_its_top(tmp_path: Path, path: str):
    top = tmp_path / "cgroup"
    inside = proc(tmp_path, mount(top, "cgroup2", root="/pod"), f"0::{path}\n")
    put(top, cpu__max="200000 100000", memory__max=str(GIB))
    assert (usable_cores(inside), memory_bytes(inside)) == (2, GIB)


def test_this_machine_has_cores_and_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))
    assert memory_bytes() > 64 * 1024**2


@pytest.mark.parametrize(
    ("variables", "threads"),
    [({}, 8), ({"workers_on_host": "3"}, 2), ({"workers_on_host": "50"}, 1), ({"intra_op_threads": "5"}, 5)],
)
def test_a_worker_takes_its_share_of_the_cores(settings_with, monkeypatch, variables, threads: int):
    monkeypatch.setattr(machine, "usable_cores", lambda: 8)
    assert intra_op_threads(settings_with(**variables)) == threads


def test_kills_for_memory_are_counted_by_the_process_s_own_group(tmp_path: Path):
    one, two = tmp_path / "memory", tmp_path / "unified"
    mounts = mount(two, "cgroup2") + mount(one, "cgroup", options="rw,memory")
    inside = proc(tmp_path, mounts, "4:memory:/a/b\n0::/\n")
    assert memory_kills(inside) == 0
    put(one / "a", memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 9")
    put(one / "a" / "b", memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 3")
    assert memory_kills(inside) == 3
    put(two, memory__events="low 0\nhigh 0\nmax 7\noom 1\noom_kill 2\noom_group_kill 0")
    assert memory_kills(inside) == 2
