from __future__ import annotations

from dashboard.comings import LINES, SHOWN, Comings
from tests.unit.dashboard.samples import worker


def test_who_is_there_at_the_first_look_has_not_just_come() -> None:
    comings = Comings()
    comings.look([worker()], 100.0)
    assert (comings.lines(), comings.departed()) == ([], [])


def test_a_worker_that_vanishes_with_work_in_hand_is_told_apart_from_one_that_was_drained() -> None:
    comings = Comings()
    comings.look([worker("a", in_flight=2, state="busy"), worker("b", state="draining"), worker("c")], 100.0)
    comings.look([], 101.0)
    said = {gone["id"]: gone["text"] for gone in comings.departed()}
    assert said == {"a": "is gone with 2 in flight: others finish that", "b": "left after draining", "c": "is gone"}
    assert len(comings.lines()) == 3


def test_one_that_comes_back_is_not_shown_as_gone() -> None:
    comings = Comings()
    for workers, now in (([worker("a")], 1.0), ([], 2.0), ([worker("a")], 3.0)):
        comings.look(workers, now)
    assert comings.departed() == []
    assert [line["what"] for line in comings.lines()] == ["worker a (resnet18) is there", "worker a is gone"]


def test_the_gone_are_forgotten_after_a_while_and_the_lines_are_bounded() -> None:
    comings = Comings()
    comings.look([worker("a")], 1.0)
    comings.look([], 2.0)
    comings.look([], 2.0 + SHOWN)
    assert comings.departed() == []
    for number in range(100):
        comings.look([worker(str(number))], 1000.0 + number)
    assert len(comings.lines()) == LINES
