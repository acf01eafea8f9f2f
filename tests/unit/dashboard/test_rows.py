"""Rows of the tables that have their own rules."""

from __future__ import annotations

from dashboard import rows
from tests.unit.dashboard.samples import owner, snapshot


def test_owners_are_told_apart_only_where_one_has_a_name() -> None:
    assert rows.owners(snapshot()) == []
    idle = owner(rate_in=0.0, rate_out=0.0)
    ann = owner("ann", weight=2.0, queued=3, share=0.75, errors=0.0)
    assert [row["owner"] for row in rows.owners(snapshot(owners=[idle, ann]))] == ["ann"]
    assert [row["owner"] for row in rows.owners(snapshot(owners=[owner(), ann]))] == ["anonymous", "ann"]
    (row,) = rows.owners(snapshot(owners=[ann]))
    assert (row["rate"], row["queued"], row["share"], row["errors"], row["today"]) == (
        "30 a minute",
        3,
        "75 %",
        "0 %",
        0,
    )


def test_a_quota_says_what_is_left_of_it() -> None:
    found = {"limit": 10_000, "used": 10_500, "left": 0, "resets": "2027-02-01T00:00:00.000Z"}
    assert rows.quota(found) == {"used": 1.0, "text": "0 of 10,000 images left until 1 February (UTC)."}
    assert rows.quota(found | {"limit": 1, "used": 0, "left": 1}) == {
        "used": 0.0, "text": "1 of 1 image left until 1 February (UTC).",
    }  # fmt: skip
    assert rows.quota(None) is None
    told = rows.owners(snapshot(owners=[owner("ann", quota=found), owner("bob")]))
    assert [row["left"] for row in told] == ["0 of 10,000", ""]


def test_usage_is_summed_for_today_and_in_all() -> None:
    def used(day: str, number: int) -> dict[str, object]:
        counts = dict.fromkeys(rows.USAGE, 0) | {"succeeded": number}
        return {"day": day, "model": "m", **counts, "bytes": number * 1024, "compute_seconds": number / 2}

    lines = rows.usage([used("2027-01-15", 1), used("2027-01-14", 2000)], "2027-01-15")
    assert [line[:2] for line in lines] == [
        ["Today", "1"], ["35 days", "2,001"], ["2027-01-15 m", "1"], ["2027-01-14 m", "2,000"],
    ]  # fmt: skip
    assert lines[0][-2:] == ["1 KiB", "500 ms"]
