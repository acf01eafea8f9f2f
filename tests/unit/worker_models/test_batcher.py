from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker_models.batcher import Batcher, BatchItem
from worker_models.errors import BatcherClosed, InferenceFailed, InvalidInput


@dataclass(slots=True, eq=False)
class Number(BatchItem):
    number: int


def batcher_of(infer: Callable[[Sequence[int]], Sequence[int]], *shape: int, **options: Any) -> Batcher[Number]:
    """A batcher whose ``infer`` gets the numbers."""
    return Batcher(lambda items: infer([item.number for item in items]), *shape, **options)


class Recorder:
    """Doubles numbers, refuses negative ones, and remembers each forward pass. Waits at the gate before each."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.passes: list[list[int]] = []

    def __call__(self, batch: Sequence[int]) -> list[int]:
        assert self.gate.wait(10)
        self.passes.append(list(batch))
        if min(batch) < 0:
            raise InvalidInput(f"{min(batch)} is negative")
        return [2 * item for item in batch]


@contextmanager
def serving(infer: Callable[[Sequence[int]], Sequence[int]], max_batch: int = 8, passes: int = 1) -> Iterator[Batcher]:
    batcher = batcher_of(infer, max_batch, passes)
    try:
        yield batcher
    finally:
        batcher.close(10)


def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def submit(batcher: Batcher, number: int, rank: int = 0) -> Future[Number]:
    """The future of an item, or of its error."""
    future: Future[Number] = Future()

    def then(item: Number) -> None:
        if item.error is None:
            future.set_result(item)
        else:
            future.set_exception(item.error)

    batcher.submit(Number(number), then, rank)
    return future


def run(batcher: Batcher, number: int) -> Number:
    return submit(batcher, number).result(10)


@contextmanager
def held(recorder: Recorder, **shape: int) -> Iterator[Batcher]:
    """A batcher whose inference thread is busy with the item 0 until the gate opens."""
    with serving(recorder, **shape) as batcher:
        recorder.gate.clear()
        submit(batcher, 0)
        until(lambda: batcher.busy_since is not None)
        try:
            yield batcher
        finally:
            recorder.gate.set()


def test_the_most_urgent_go_first_and_equals_in_the_order_they_came():
    with held(recorder := Recorder(), max_batch=2) as batcher:
        for rank, item in ((2, 7), (2, 8), (0, 1), (1, 4), (0, 2)):
            submit(batcher, item, rank)
    assert recorder.passes == [[0], [1, 2], [4, 7], [8]]


def test_an_idle_batcher_runs_one_item_at_once():
    with serving(recorder := Recorder()) as batcher:
        slot = run(batcher, 21)
    assert (slot.value, slot.size) == (42, 1)
    assert slot.seconds >= 0
    assert slot.began >= slot.since
    assert recorder.passes == [[21]]


def test_what_arrives_during_a_pass_is_the_next_pass_up_to_the_limit():
    recorder = Recorder()
    with held(recorder, max_batch=4) as batcher:
        futures = [submit(batcher, item) for item in range(1, 7)]
        recorder.gate.set()
        slots = [future.result(5) for future in futures]
    assert [slot.value for slot in slots] == [2, 4, 6, 8, 10, 12]
    assert [slot.size for slot in slots] == [4, 4, 4, 4, 2, 2]
    assert recorder.passes == [[0], [1, 2, 3, 4], [5, 6]]


def test_what_has_waited_too_long_can_be_withdrawn_in_its_order():
    with held(recorder := Recorder(), max_batch=2) as batcher:
        for item, rank in ((1, 1), (2, 0), (3, 1)):
            submit(batcher, item, rank)
        assert batcher.withdraw(60) == []
        assert (batcher.waiting, batcher.room) == (3, 0)
        assert [item.number for item in batcher.withdraw(-1)] == [2, 1, 3]
        assert batcher.waiting == 0
        recorder.gate.set()
        assert run(batcher, 4).value == 8
    assert recorder.passes == [[0], [4]]


def test_an_error_reaches_the_guilty_item_only():
    recorder = Recorder()
    with held(recorder) as batcher:
        futures = [submit(batcher, item) for item in (1, 2, -3, 4, 5)]
        recorder.gate.set()
        with pytest.raises(InvalidInput, match="-3 is negative"):
            futures[2].result(5)
        assert [futures[at].result(5).value for at in (0, 1, 3, 4)] == [2, 4, 8, 10]


def test_a_model_that_answers_too_few_results_fails_its_items():
    with serving(lambda batch: batch[1:]) as batcher, pytest.raises(InferenceFailed, match="0 results for 1 items"):
        run(batcher, 1)


def test_close_finishes_what_was_accepted_and_refuses_the_rest():
    recorder = Recorder()
    with held(recorder) as batcher:
        accepted = [submit(batcher, item) for item in (1, 2)]
        batcher.close(0)
        with pytest.raises(BatcherClosed):
            submit(batcher, 3)
        recorder.gate.set()
        assert [future.result(5).value for future in accepted] == [2, 4]
        until(lambda: not any(thread.is_alive() for thread in batcher._threads))


def test_busy_since_is_set_only_during_a_pass():
    recorder = Recorder()
    before = time.monotonic()
    with held(recorder) as batcher:
        assert batcher.busy_since is not None
        assert before <= batcher.busy_since <= time.monotonic()
        recorder.gate.set()
        until(lambda: batcher.busy_since is None)


@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt, GeneratorExit, BaseException])
def test_whatever_a_model_raises_reaches_the_guilty_item_only(raised: type[BaseException]):
    def picky(batch: Sequence[int]) -> Sequence[int]:
        if 3 in batch:
            raise raised("three")
        return batch

    with serving(picky) as batcher:
        futures = [submit(batcher, item) for item in (1, 2, 3, 4)]
        with pytest.raises(raised, match="three"):
            futures[2].result(5)
        assert [futures[at].result(5).value for at in (0, 1, 3)] == [1, 2, 4]


@pytest.mark.parametrize("values", [None, 7, iter([])], ids=["none", "number", "iterator"])
def test_an_answer_that_is_no_sequence_of_results_fails_its_item(values: object):
    with serving(lambda _: values) as batcher, pytest.raises((TypeError, InferenceFailed)):
        run(batcher, 1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_lost_inference_thread_is_reported():
    lost = threading.Event()

    def fails(_: object) -> None:
        raise RuntimeError("a fault of the caller")

    batcher = batcher_of(list, 1, lost=lost.set)
    batcher.submit(Number(1), fails)
    assert lost.wait(5)
    batcher._threads[0].join(5)


def test_closing_loses_no_thread():
    lost = threading.Event()
    batcher = batcher_of(list, 1, 2, lost=lost.set)
    assert run(batcher, 1).value == 1
    batcher.close(5)
    assert not lost.is_set()


@pytest.mark.parametrize("shape", [(0, 1), (1, 0)])
def test_a_shape_without_room_is_refused(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match="at least 1"):
        Batcher(list, *shape)


class Lanes:
    """Answers its numbers; each pass waits until it is let go, and what runs at a time is known."""

    def __init__(self) -> None:
        self.gates: dict[int, threading.Event] = {}
        self.running: list[list[int]] = []

    def __call__(self, batch: Sequence[int]) -> Sequence[int]:
        gate = self.gates[batch[0]] = threading.Event()
        self.running.append(list(batch))
        assert gate.wait(10)
        self.running.remove(list(batch))
        return batch

    def until_running(self, *batches: list[int]) -> None:
        until(lambda: sorted(self.running) == sorted(batches) and all(batch[0] in self.gates for batch in batches))

    def release(self, first: int) -> None:
        self.gates.pop(first).set()


@contextmanager
def lanes(**shape: int) -> Iterator[tuple[Lanes, Batcher]]:
    gates = Lanes()
    with serving(gates, passes=2, **shape) as batcher:
        try:
            yield gates, batcher
        finally:
            for gate in gates.gates.values():
                gate.set()


def test_passes_run_side_by_side_and_neither_waits_for_the_other():
    with lanes(max_batch=2) as (gates, batcher):
        first, second = submit(batcher, 1), submit(batcher, 2)
        gates.until_running([1], [2])
        rest = [submit(batcher, item) for item in (3, 4, 5)]
        gates.release(2)
        assert second.result(5).passes == 2
        gates.until_running([1], [3, 4])
        oldest = batcher.busy_since
        gates.release(3)
        gates.until_running([1], [5])
        assert batcher.busy_since == oldest, "the first pass is still the oldest"
        gates.release(1)
        assert first.result(5).value == 1
        until(lambda: batcher.busy_since != oldest)
        gates.release(5)
        assert [future.result(5).value for future in rest] == [3, 4, 5]


def test_what_comes_together_is_shared_among_the_threads_that_are_free():
    with lanes(max_batch=8) as (gates, batcher):
        with batcher._changed:  # keeps both threads from taking an item before all are there
            batcher._gather = 1.0
        futures = [submit(batcher, item) for item in (1, 2, 3, 4, 5)]
        with batcher._changed:
            batcher._gather = 0.0
            batcher._changed.notify_all()
        gates.until_running([1, 2, 3], [4, 5])
        gates.release(1)
        gates.release(4)
        assert [future.result(5).value for future in futures] == [1, 2, 3, 4, 5]


def test_close_waits_for_every_pass_and_ends_every_thread():
    with lanes(max_batch=1) as (gates, batcher):
        futures = [submit(batcher, item) for item in (1, 2, 3)]
        gates.until_running([1], [2])
        batcher.close(0)
        gates.release(1)
        gates.until_running([2], [3])
        gates.release(2)
        gates.release(3)
        assert [future.result(5).value for future in futures] == [1, 2, 3]
        until(lambda: not any(thread.is_alive() for thread in batcher._threads))


ITEMS = st.lists(st.integers(-20, 200), min_size=1, max_size=40)


@given(items=ITEMS, max_batch=st.integers(1, 9), passes=st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_every_item_gets_its_own_answer_exactly_once(items: list[int], max_batch: int, passes: int):
    recorder = Recorder()
    with serving(recorder, max_batch, passes) as batcher:
        futures = [submit(batcher, item) for item in items]
        for item, future in zip(items, futures, strict=True):
            if item < 0:
                with pytest.raises(InvalidInput, match=f"^{item} is negative"):
                    future.result(10)
                continue
            slot = future.result(10)
            assert slot.value == 2 * item
            assert 1 <= slot.size <= max_batch
    assert max(map(len, recorder.passes)) <= max_batch
    succeeded = sorted(item for batch in recorder.passes if min(batch) >= 0 for item in batch)
    assert succeeded == sorted(item for item in items if item >= 0)


def test_a_pass_waits_for_more_only_as_long_as_it_may() -> None:
    sizes: list[int] = []

    def infer(items: Sequence[int]) -> list[int]:
        sizes.append(len(items))
        return list(items)

    batcher = batcher_of(infer, 3, gather=60.0)
    futures = [submit(batcher, number) for number in range(3)]
    assert [future.result(5).value for future in futures] == [0, 1, 2]
    assert sizes == [3]
    late = submit(batcher, 3)
    batcher.close()
    assert late.result(5).value == 3
    short = batcher_of(infer, 3, gather=0.01)
    assert run(short, 4).value == 4
    short.close()
