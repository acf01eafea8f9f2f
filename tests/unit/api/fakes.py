"""A queue in memory for the API's unit tests: the image's fate is chosen by the model the caller names.

``answers`` succeeds at once, ``fails`` fails, ``sleeps`` stays queued, ``full`` refuses, ``hopeless`` refuses the
deadline; any other name does not exist. It keeps the rules of ids and fingerprints that the real Gateway keeps.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from api.features.batches import StoredBatch
from common.settings import Settings
from tasks.errors import (
    BrokerUnavailable,
    DeadlineHopeless,
    HasEnded,
    IdReused,
    LaneFull,
    TaskError,
    TooManyWaiters,
    UnknownRequest,
    UnsupportedModel,
)
from tasks.inspect.redis_info import Vitals
from tasks.inspect.search import SearchFilter
from tasks.lanes import lane
from tasks.producer.gateway import Accepted, Submission
from tasks.protocol.owners import internal_id, owner_of, public_id
from tasks.protocol.requests import Request, State

MODELS = ("answers", "fails", "sleeps", "full", "hopeless")
PREDICTIONS = [
    {"class": "tabby", "index": 281, "confidence": 0.75},
    {"class": "lynx", "index": 287, "confidence": 0.25},
]


class FakeQueue:
    """Gateway, Monitor, Batches, Budgets and SharedAnswers in one, all over the same dictionaries."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.kept: dict[str, Request] = {}
        self.records = self
        self.submitted: list[Submission] = []
        self.batches: dict[str, StoredBatch] = {}
        self.places = 1000
        self.down = False
        self.no_writes = ""
        self.silent_rows: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = [worker_row("answers-1@host", "answers")]
        self.lane_rows: list[dict[str, Any]] = [lane_row("normal", depth=3), lane_row("high.answers", depth=1)]
        self.closed = False
        self.spent: list[str] = []
        self.searched: list[SearchFilter] = []
        self.images: dict[str, bytes] = {}
        self.remarks: list[tuple[str, str, dict[str, Any]]] = []
        self.claims: dict[str, str] = {}

    # -- the Gateway

    def submit(self, submission: Submission) -> Accepted:
        self.ping()
        known = self.kept.get(internal_id(submission.owner, submission.request_id or ""))
        if known is not None:
            if known.fingerprint != submission.fingerprint:
                raise IdReused("the id was used with another body")
            return Accepted(id=known.id, replayed=True, state=known.state)
        record = self._accept(submission)
        return Accepted(id=record.id, replayed=False, state=State.QUEUED)

    def submit_and_wait(self, submission: Submission, timeout: float) -> tuple[Accepted, Request | None]:
        accepted = self.submit(submission)
        return accepted, self.kept[accepted.id] if timeout > 0 and self.places else None

    def submit_many(self, items: Sequence[Submission]) -> list[Accepted | TaskError]:
        self.ping()
        return [self._outcome(item) for item in items]

    def submit_all_and_wait(self, items: Sequence[Submission], timeout: float) -> list[Request]:  # noqa: ARG002
        if not self.places:
            raise TooManyWaiters("all places taken")
        return [self.kept[self.submit(item).id] for item in items]

    def _outcome(self, item: Submission) -> Accepted | TaskError:
        try:
            return self.submit(item)
        except TaskError as error:
            return error

    def _accept(self, submission: Submission) -> Request:
        if submission.model_type == "full":
            raise LaneFull("normal.full holds 10000 requests").after(7.2)
        if submission.model_type == "hopeless":
            raise DeadlineHopeless("expected to wait 9 s").after(9.0)
        if submission.model_type not in (*MODELS, "any"):
            raise UnsupportedModel(f"no model {submission.model_type}")
        self.submitted.append(submission)
        record = self._record(submission)
        self.kept[record.id] = record
        return record

    def _record(self, submission: Submission) -> Request:
        now = time.time()
        public = submission.request_id or f"id-{len(self.kept)}"
        waiting = Request(
            id=internal_id(submission.owner, public), state=State.QUEUED, model_type=submission.model_type,
            priority=submission.priority, lane=lane(submission.priority, submission.model_type), top_k=submission.top_k,
            created_at=now, fingerprint=submission.fingerprint, batch_id=submission.batch_id,
            custom_id=submission.custom_id, traceparent=submission.traceparent,
            timeline=[{"at": now, "event": "accepted"}],
        )  # fmt: skip
        return waiting if submission.model_type == "sleeps" else ended(waiting)

    def get(self, request_id: str) -> Request:
        self.ping()
        if request_id not in self.kept:
            raise UnknownRequest(f"no request {request_id}")
        return self.kept[request_id]

    def image(self, request_id: str) -> bytes | None:
        return self.images.get(request_id)

    def remark(self, request_id: str, event: str, **members: Any) -> None:
        self.remarks.append((request_id, event, members))

    def get_many(self, ids: Sequence[str]) -> list[Request]:
        self.ping()
        return [self.kept[request_id] for request_id in ids if request_id in self.kept]

    briefs = get_many

    def wait(self, request_id: str, timeout: float) -> Request:  # noqa: ARG002 - the real one's
        if self.places == 0:
            raise TooManyWaiters("all places taken")
        return self.get(request_id)

    def wait_many(self, ids: Sequence[str], timeout: float) -> None:
        for request_id in ids:
            self.wait(request_id, timeout)

    def cancel(self, request_id: str) -> Request:
        record = self.get(request_id)
        if record.state.terminal and record.state is not State.CANCELED:
            raise HasEnded(f"request {request_id} has {record.state}")
        self.kept[request_id] = replace(record, state=State.CANCELED, completed_at=time.time())
        return self.kept[request_id]

    def close(self) -> None:
        self.closed = True

    def refusal(self) -> str:
        return self.no_writes

    def image_bytes(self) -> tuple[int, int]:
        return 0, 0

    # -- the Monitor

    def ping(self) -> None:
        if self.down:
            raise BrokerUnavailable("Redis does not answer: connection refused")

    def workers(self) -> list[dict[str, Any]]:
        self.ping()
        return self.rows

    def lanes(self, _workers: Sequence[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
        self.ping()
        return self.lane_rows

    def usage(self, _owner: str | None = None, _days: int = 35) -> list[dict[str, Any]]:
        return []

    def owners(self, owner: str | None = None) -> list[dict[str, Any]]:
        today = {"refused": 1, "compute_seconds": 0.5}
        return [{"owner": owner or "anonymous", "queued": 2, "rate_out": 0.0, "today": today, "quota": None}]

    def quota(self, _owner: str) -> None:
        return None

    def ledger(self) -> dict[str, dict[str, int]]:
        self.ping()
        states = {"accepted": 9, "succeeded": 4, "failed": 1, "canceled": 1, "expired": 0, "queued": 2, "running": 1}
        return {"normal": states, "high.answers": states}

    def counters(self) -> dict[str, int]:
        return {"retried": 2, "rescued": 1}

    def fleet_events(self) -> list[dict[str, Any]]:
        return []

    def batch_sizes(self) -> dict[str, dict[int, int]]:
        return {"normal": {1: 3, 4: 1}}

    def dead_letter_count(self, _owner: str | None = None) -> int:
        return 2

    def histograms(self) -> dict[tuple[str, str], dict[str, float]]:
        return {("normal", "total"): {"4": 3.0, "10": 1.0, "sum": 0.5}}

    def history(self, minutes: int, step: int = 1, _owner: str | None = None) -> list[dict[str, Any]]:
        self.ping()
        return [{"at": 60 * step * number} for number in range(minutes // step)]

    def silent(self) -> list[dict[str, Any]]:
        self.ping()
        return list(self.silent_rows)

    def ends(self, _minutes: int) -> dict[str, tuple[int, int]]:
        return {}

    def window(self, _seconds: float, _owner: str | None = None) -> dict[str, float]:
        return {"p50": 0.02, "p95": 0.1, "p99": 0.2, "mean": 0.03, "count": 4}

    def latencies(self) -> dict[str, Any]:
        return {"total": {"p50": 0.04, "p95": 0.2, "p99": 0.4, "count": 8}}

    def queue_position(self, _request: Request) -> int | None:
        return 4

    def eta(self, _request: Request) -> float | None:
        return 2.5

    def paused(self) -> dict[str, Any]:
        self.ping()
        return {row["lane"]: {"by": "ann", "at": 1.0} for row in self.lane_rows if row["paused"]}

    def vitals(self) -> Vitals:
        self.ping()
        return Vitals(
            server="Valkey 9.1.2", policy="noeviction", appendonly=True, fsync="everysec", limit=1_000_000,
            used=100_000, workers_ahead={row["id"]: 0.001 for row in self.rows},
        )  # fmt: skip

    def recent(
        self, wanted: SearchFilter, *, limit: int = 50, cursor: str | None = None
    ) -> tuple[list[Request], str | None]:
        self.ping()
        self.searched.append(wanted)
        found = [r for r in self.kept.values() if wanted.matches(r) and wanted.names(r.id)]
        start = int((cursor or "0").partition(".")[0])
        more = f"{start + limit}.000000:{found[start].id}" if start + limit < len(found) else None
        return found[start : start + limit], more

    # -- Budgets, SharedAnswers, Owners, Batches

    def with_id(self, _parameter: str, public: str) -> list[str]:
        return [owner_of(name) for name in (*self.kept, *self.batches) if public_id(name) == public]

    def spend(self, who: str, calls: int, seconds: float, cost: int = 1) -> tuple[int, float]:
        left = calls - self.spent.count(who) - cost
        if left >= 0:
            self.spent += [who] * cost
        return max(left, -1), seconds / 2

    def claim(self, key: str, request_id: str, _seconds: int) -> str:
        return self.claims.setdefault(key, request_id)

    def release(self, key: str, request_id: str) -> None:
        if self.claims.get(key) == request_id:
            del self.claims[key]

    def has_items(self, batch_id: str, fingerprint: str) -> bool:
        return self.claim(f"batch:{batch_id}", fingerprint, 60) == fingerprint

    def save(self, batch_id: str, batch: StoredBatch) -> None:
        self.batches[batch_id] = batch

    def batch(self, batch_id: str) -> StoredBatch | None:
        self.ping()
        return self.batches.get(batch_id)


class FakeControls:
    """Remembers the orders it was given."""

    def __init__(self, _settings: Settings) -> None:
        self.orders: list[tuple[Any, ...]] = []

    def pause(self, lane_name: str, who: str) -> None:
        self.orders.append(("pause", lane_name, who))

    def resume(self, lane_name: str) -> None:
        self.orders.append(("resume", lane_name))

    def purge(self, lane_name: str, who: str) -> int:
        self.orders.append(("purge", lane_name, who))
        return 3

    def restart(self, worker: str, boot: str) -> None:
        self.orders.append(("restart", worker, boot))

    def drain(self, worker: str) -> None:
        self.orders.append(("drain", worker))

    def undrain(self, worker: str) -> None:
        self.orders.append(("undrain", worker))

    def chaos(self, worker: str, mode: str, *, seconds: float = 1.0, rate: float = 1.0) -> None:
        self.orders.append(("chaos", worker, mode, seconds, rate))


class FakeDeadLetters:
    """Dead letters by id, over the queue's records."""

    def __init__(self, queue: FakeQueue) -> None:
        self.queue = queue
        self.letters: list[str] = []

    def list(self, limit: int = 100, owner: str | None = None) -> list[Request]:
        return [self.queue.kept[name] for name in self.letters if owner in (None, owner_of(name))][:limit]

    def get(self, request_id: str) -> Request:
        if request_id not in self.letters:
            raise UnknownRequest(f"{request_id} is not a dead letter")
        return self.queue.kept[request_id]

    def requeue(self, request_id: str) -> Request:
        record = self.get(request_id)
        self.delete(request_id)
        return replace(record, state=State.QUEUED, error=None, completed_at=None)

    def delete(self, request_id: str) -> None:
        self.get(request_id)
        self.letters.remove(request_id)


def ended(record: Request, state: State | None = None, error: dict[str, Any] | None = None) -> Request:
    """``record`` as it looks after its model has seen it, or after it ended in ``state``."""
    if state is None:
        state = State.FAILED if record.model_type == "fails" else State.SUCCEEDED
    if state is State.FAILED:
        error = error or {"code": "truncated_image", "message": "the JPEG ends early", "retryable": False}
    good = state is State.SUCCEEDED
    return replace(
        record, state=state, error=error, completed_at=record.created_at + 0.04, started_at=record.created_at + 0.01,
        model="answers" if good else None, weights="random" if good else None, attempts=1,
        predictions=PREDICTIONS[: record.top_k] if good else None, expires_at=record.created_at + 3600,
        timings={"queue": 0.01, "decode": 0.005, "infer": 0.02, "total": 0.04},
        timeline=[*record.timeline, {"at": record.created_at, "event": "started", "worker": "answers-1@host/1f"}],
    )  # fmt: skip


def worker_row(name: str, model: str, **changes: Any) -> dict[str, Any]:
    """A worker as the Monitor tells it."""
    row = {
        "id": name, "boot": f"{name}/1f", "model": model, "version": "1", "weights": "w", "runtime": "onnxruntime",
        "device": "cpu", "host": "host", "pid": 4, "concurrency": 16, "state": "idle", "in_flight": 0, "processed": 7,
        "max_batch": 16, "precision": "float32", "fast": "",
        "failed": 1, "service_seconds": 0.02, "rss_bytes": 150_000_000, "cpu_seconds": 3.5, "chaos": None,
        "last_heartbeat": 1_800_000_000.0, "intra_op_threads": 2, "cpu_count": 2, "cpu_mask": "3",
        "versions": {"celery": version("celery"), "kombu": version("kombu"), "redis": version("redis")},
        "configured": {"lease_ttl": 2.0, "hard_timeout": 120.0, "lane_order": "weighted", "lane_weights": [6, 3, 1],
                       "messages": "Redis"},
    }  # fmt: skip
    return row | changes


def lane_row(name: str, **changes: Any) -> dict[str, Any]:
    """A lane as the Monitor tells it."""
    priority, _, model = name.partition(".")
    row = {
        "lane": name, "priority": priority, "model": model or "any", "depth": 0, "running": 0, "oldest_age": None,
        "rate_in": 0.5, "rate_out": 0.25, "eta": 1.0, "paused": False,
    }  # fmt: skip
    return row | changes


class FakeAudit:
    """The audit log as a list, the newest entry last."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def write(self, entry: dict[str, Any], *, order: bool) -> None:
        self.entries.append(entry | {"order": order})

    def page(self, _limit: int, _cursor: str = "") -> tuple[list[dict[str, Any]], None]:
        return [], None

    def orders(self) -> list[dict[str, Any]]:
        return []
