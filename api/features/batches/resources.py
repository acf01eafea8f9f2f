"""The JSON of a batch and its items, counted from the records of its members that still exist."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from api.features.batches.store import Batch, Member
from api.views.resources import latency_ms, retries, seed_status, timestamp
from tasks.protocol.owners import owner_of, public_id
from tasks.protocol.requests import Request, State

Records = Mapping[str, Request]


def batch_resource(batch_id: str, batch: Batch, records: Records) -> dict[str, Any]:
    """The batch resource, given the records of its members that still exist."""
    counts = Counter(_word(member, records) for member in batch.members)
    path = f"/batch_inference/{public_id(batch_id)}"
    return {
        "batch_id": public_id(batch_id),
        "owner": owner_of(batch_id),
        "status": "running" if counts["queued"] + counts["running"] else "completed",
        "counts": {"total": len(batch.members)}
        | {name: counts[name] for name in (*map(str, State), "rejected", "purged")},
        "created_at": timestamp(batch.created_at),
        "urls": {"self": path, **{name: f"{path}/{name}" for name in ("results", "cancel", "events")}},
    }


def _word(member: Member, records: Records) -> str:
    if member.request_id is None:
        return "rejected"
    record = records.get(member.request_id)
    return str(record.state) if record else "purged"


def item_resource(member: Member, records: Records, *, seed: bool = False) -> dict[str, Any]:
    """One item with its answer or its error; ``seed`` for the statuses of the synchronous answer."""
    record = records.get(member.request_id or "")
    status = _word(member, records)
    if seed:
        status = seed_status(record.state) if record else "failed"
    found: dict[str, Any] = {
        "index": member.index,
        "custom_id": member.custom_id,
        "request_id": member.request_id and public_id(member.request_id),
        "status": status,
        "error": member.error,
        "predictions": [],
    }
    names = ("model_type", "model", "weights", "worker_id")
    if record is None:
        return found | dict.fromkeys((*names, "processing_time", "latency_ms", "timestamp")) | {"retries": 0}
    found |= {name: getattr(record, name) for name in names}
    return found | {
        "error": record.error or _end(record),
        "predictions": record.predictions or [],
        "processing_time": record.timings.get("total"),
        "latency_ms": latency_ms(record),
        "retries": retries(record),
        "timestamp": timestamp(record.completed_at or record.created_at),
    }


def _end(record: Request) -> dict[str, Any] | None:
    """The error of a request that ended without a failure of the model."""
    if record.state not in {State.CANCELED, State.EXPIRED}:
        return None
    return {"code": str(record.state), "message": f"The request was {record.state}.", "retryable": False}
