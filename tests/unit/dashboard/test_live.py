"""The live minute: differences between snapshots, whatever their distance."""

from __future__ import annotations

from typing import Any

from dashboard.live import LiveMinute
from tests.unit.dashboard.samples import minute, snapshot


def at(second: int, *rows: dict[str, Any]) -> dict[str, Any]:
    """A snapshot ``second`` seconds after 08:58."""
    return snapshot(as_of=f"2027-01-15T08:{58 + second // 60}:{second % 60:02}.000Z", history=list(rows))


def test_each_snapshot_adds_what_happened_since_the_one_before() -> None:
    live = LiveMinute()
    assert live.add(at(10, minute(58, accepted=5, succeeded=5, total=0.1)))["points"] == []
    found = live.add(at(11, minute(58, accepted=8, succeeded=7, failed=1, total=0.2)))
    [point] = found["points"]
    assert (point["span"], point["accepted"], point["answered"], point["failed"]) == (1.0, 3, 2, 1)
    assert point["latency"] == 450.0  # 7 at 0.2 s now, 5 at 0.1 s before: 0.9 s for two
    assert found["rate"] == "In the last 1.0 s: 3 requests, 2 answered, 1 failed. Peak: 2/s."


def test_a_new_minute_starts_from_zero() -> None:
    live = LiveMinute()
    live.add(at(59, minute(57, accepted=9), minute(58, accepted=5)))
    found = live.add(at(61, minute(58, accepted=6), minute(59, accepted=2)))
    assert [point["accepted"] for point in found["points"]] == [3]


def test_it_keeps_a_minute_and_no_more() -> None:
    live = LiveMinute()
    for second in range(100):
        found = live.add(at(second, *(minute(58 + n, accepted=max(0, second - 60 * n + 1)) for n in range(2))))
    assert len(found["points"]) == 60
    assert found["rate"].startswith("In the last minute: ")


def test_snapshots_in_quick_succession_share_a_point_and_a_long_pause_leaves_none() -> None:
    live = LiveMinute()
    first = at(0, minute(58))
    assert live.add(first)["points"] == live.add(first)["points"] == []
    assert live.add(at(90, minute(59, accepted=3)))["points"] == []


def test_at_rest_it_says_so() -> None:
    live = LiveMinute()
    live.add(at(0, minute(58)))
    found = live.add(at(10, minute(58)))
    assert (found["rate"], found["latency"]) == ("No requests in the last 10 s.", "Nothing ended in the last 10 s.")
