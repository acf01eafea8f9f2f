"""The comparison with peers: who is compared with whom, and what the report says."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import pytest

from bench.journal import Journal
from bench.peers import catalog, environment
from bench.peers.__main__ import Contender, best
from bench.peers.report import compared, judge, render, rows
from bench.peers.system import check
from tests.support.locks import requirements

QUICK = catalog.QUICK_START


def record(system: str, configuration: str, share: float, number: int = 0) -> dict[str, Any]:
    process = {"process": "python", "rss_mib": 100.0, "pss_mib": 80.0}
    return {
        "system": system, "configuration": configuration, "round": number, "share": share, "rate": 100 * share,
        "p50_ms": 1.0, "p99_ms": 2.0, "core_ms": {system: 9.0}, "limit_core_ms": [7.0, 7.5],
        "memory": {system: [process, process]},
    }  # fmt: skip


RECORDS = [
    record("inferlane", "as shipped", 0.9),
    record("litserve", "a", 0.95),
    record("litserve", "b", 0.6),
    record("litserve", QUICK, 0.45),
    record("ray", "a", 0.5),
    record("inferlane", "as shipped", 0.92, 1),
    record("litserve", "a", 0.7, 1),
    record("litserve", QUICK, 0.47, 1),
    record("ray", "a", 0.4, 1),
    {"system": "rq", "configuration": "a", "round": 0, "error": "RuntimeError: it ended"},
]


def report() -> dict[str, Any]:
    machine = {"cores": 2, "cpu": "x", "memory_gib": 4, "kernel": "6", "load_before": 0.1, "python": "3.11"}
    return {
        "model": "mobilenet", "weights": "random", "concurrency": 16, "at": "2026-01-01T00:00Z", "commit": "abc",
        "machine": machine, "versions": {"celery": "5.7.0"}, "photo_bytes": 112_525, "command": "python -m bench.peers",
        "peers": {"litserve": {"version": "0.2"}, "ray": {"version": "2"}, "rq": {"version": "2"}}, "records": RECORDS,
    }  # fmt: skip


def test_each_peer_is_shown_at_its_best_over_all_rounds_and_failures_are_no_measurements() -> None:
    shown = [(row.system, row.configuration, row.share.median) for row in compared(rows(RECORDS))]
    assert shown == [
        ("inferlane", "as shipped", pytest.approx(0.91)),
        ("litserve", "a", pytest.approx(0.825)),
        ("ray", "a", pytest.approx(0.45)),
        ("litserve", QUICK, pytest.approx(0.46)),
    ]


def test_the_targets_are_ratios_to_equal_runtime_and_to_the_quick_start() -> None:
    found = {verdict.target: verdict for verdict in judge(report())}
    assert [verdict.bound for verdict in found.values()] == [1.05, 1.05, 1.05, 1.05, 1.9]
    assert found["mobilenet: of LitServe's rate, equal runtime"].measured == pytest.approx(0.91 / 0.825)
    assert found["mobilenet: LitServe's core-ms, of ours"].measured == pytest.approx(1.0)
    assert found["mobilenet: of LitServe's quick start"].reached


def test_fast_is_compared_with_litserve_where_it_could_be_measured() -> None:
    told = report() | {"records": [*RECORDS, record("inferlane-fast", "one worker", 1.5)]}
    found = {verdict.target: verdict for verdict in judge(told)}
    assert found["mobilenet: PRECISION=fast, of LitServe's rate"].measured == pytest.approx(1.5 / 0.825)
    assert "| Inferlane, PRECISION=fast: one worker | 1.50 (1.50-1.50) |" in render(told)


def test_the_report_names_who_could_not_be_measured_and_that_weights_were_random() -> None:
    text = render(report())
    assert "* rq, a: RuntimeError: it ended" in text
    assert "good for speed only" in text
    assert "| Ray Serve: a | 0.45 (0.40-0.50) |" in text


def test_later_rounds_measure_the_best_of_each_and_the_quick_start(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    for one in RECORDS[:5]:
        journal.measure(lambda one=one: one, system=one["system"], configuration=one["configuration"], round=0)
    all_of_them = [
        Contender(one["system"], catalog.Configuration(one["configuration"]), None)
        for one in RECORDS
        if one["round"] == 0
    ]
    chosen = [(c.system, c.configuration.name) for c in best(journal, all_of_them)]
    assert chosen == [("inferlane", "as shipped"), ("litserve", "a"), ("litserve", QUICK), ("ray", "a")]


@pytest.mark.parametrize("peer", catalog.PEERS, ids=lambda peer: peer.name)
def test_every_peer_has_requirements_with_exact_versions_and_a_quick_start(peer: catalog.Peer) -> None:
    lines = (environment.REQUIREMENTS / f"{peer.name}.txt").read_text().splitlines()
    assert lines[0] == "-r common.txt"
    assert all(re.fullmatch(r"[a-z_-]+(\[[a-z]+\])?==[0-9.]+", line) for line in lines[1:])
    assert any(re.match(rf"{peer.package}(\[|==)", line) for line in lines)
    assert [c.name for c in peer.select(1, quick_start=True)][1:] == [QUICK]
    assert all(not c.quick_start for c in peer.select(9, quick_start=False))


@pytest.mark.parametrize("peer", catalog.PEERS, ids=lambda peer: peer.name)
def test_every_word_to_fill_in_is_known_in_every_configuration(peer: catalog.Peer) -> None:
    wanted = set(re.findall(r"{(\w+)}", " ".join(word for command in peer.commands for word in command)))
    for configuration in peer.configurations:
        given = {name.removeprefix("BENCH_").lower() for name in configuration.environ} | {"port"}
        assert wanted <= given


def test_peers_share_the_versions_of_the_runtime_with_inferlane() -> None:
    ours = {line.split()[0] for line in requirements("torch")}
    lines = (environment.REQUIREMENTS / "common.txt").read_text().splitlines()
    assert {line.split()[0] for line in lines if line[0].isalpha()} <= ours


def test_an_unknown_peer_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="no peer 'triton'; there are litserve"):
        catalog.peer("triton")


def test_an_answer_with_another_class_is_none() -> None:
    good = {"predictions": [{"class": "cat"}] * 5}
    check(good, "cat")
    check([good], "cat")
    check(good, None)
    for answer, expected in ((good, "dog"), ({"predictions": []}, None), ({"detail": "no"}, None)):
        with pytest.raises(RuntimeError, match="not the answer"):
            check(answer, expected)


def test_options_parse() -> None:
    from bench.peers.__main__ import _parser

    options = _parser().parse_args(["--peers", "litserve", "--minutes", "1"])
    assert isinstance(options, argparse.Namespace)
    assert (options.peers, options.minutes, options.concurrency) == (["litserve"], 1.0, 16)
