"""What must be true of the system whatever was done to it: every accepted request ends once, and the books balance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tasks.inspect.monitor import Monitor
from tasks.producer.gateway import Gateway
from tasks.protocol.requests import Request
from tests.support.waiting import wait_until

OPEN = ("queued", "running")
ENDED = ("succeeded", "failed", "canceled", "expired")


def all_ended(gateway: Gateway, ids: Sequence[str], timeout: float) -> list[Request]:
    """The requests, once every one of them has ended; each is read once more than needed, never trusted."""

    def ended() -> list[Request] | None:
        requests = gateway.records.get_many(list(ids))
        return requests if len(requests) == len(ids) and all(r.state.terminal for r in requests) else None

    return wait_until(ended, timeout, interval=0.1, what=f"{len(ids)} requests end") or []


def check_books(monitor: Monitor, requests: Sequence[Request]) -> None:
    """The ledger balances per lane and agrees, state by state, with the records."""
    ledger = monitor.ledger()
    for lane, row in ledger.items():
        assert row["accepted"] == sum(row[state] for state in (*ENDED, *OPEN)), (lane, row)
        assert all(count >= 0 for count in row.values()), (lane, row)
    counted = Counter((request.lane, str(request.state)) for request in requests)
    booked = {(lane, state): row[state] for lane, row in ledger.items() for state in ENDED if row[state]}
    assert booked == dict(counted)
    assert sum(row[state] for row in ledger.values() for state in OPEN) == 0


def check_answered_once(requests: Sequence[Request]) -> None:
    """Exactly one terminal event in each request's timeline, and it is the last."""
    for request in requests:
        names = [event["event"] for event in request.timeline]
        terminal = [name for name in names if name in (*ENDED, "dead_lettered")]
        assert len(terminal) == 1, (request.id, names)
        assert names[-1] == terminal[0], (request.id, names)
