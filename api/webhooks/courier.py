"""The threads that send webhooks, a few in each API process. At least once: the id of a repeated call stays the same.

A call counts as made when the answer is a 2xx, or 410, by which a receiver says that it wants no more. Everything else,
redirects included, is tried again after the pauses of :data:`PAUSES`, which end before a record expires.
"""

from __future__ import annotations

import http.client
import json
import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from api.batch_resource import batch_resource
from api.resources import now, request_resource
from api.webhooks import sending, signing, targets
from api.webhooks.outbox import BATCH, batch_entry
from tasks.errors import PurgedRequest, Unavailable, UnknownRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from api.store import Store
    from api.webhooks.outbox import Outbox
    from settings import Settings
    from tasks.requests import Request
    from tasks.submit import Gateway

log = logging.getLogger(__name__)

THREADS = 2
PAUSES = (5, 30, 120, 600, 1800)  # seconds after the first, second, ... failure
GONE = 410


class _NotYet(Exception):
    """What the webhook is about has not ended; the bell will ring."""


@dataclass(frozen=True, slots=True)
class _Letter:
    """One webhook: where it goes, its id, which stays the same when it is repeated, and what it says."""

    url: str
    id: str
    about: dict[str, Any]


class Courier:
    """Sends what is due in the outbox until it is told to stop."""

    def __init__(self, settings: Settings, gateway: Gateway, store: Store, outbox: Outbox) -> None:
        self._key = signing.secret_bytes(settings.webhook_secret)
        self._exempt = settings.webhook_hosts
        self._gateway, self._store, self._outbox = gateway, store, outbox
        self._stop = threading.Event()

    def start(self) -> None:
        """Start the threads."""
        for number in range(THREADS):
            threading.Thread(target=self._run, name=f"courier-{number}", daemon=True).start()

    def stop(self) -> None:
        """Take nothing more; what is being sent may come twice."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._outbox.listen()
                while (entry := self._outbox.take()) and not self._stop.is_set():
                    self.deliver(entry)
            except Unavailable as error:
                log.warning("webhooks wait: %s", error)
                self._stop.wait(1.0)

    def deliver(self, entry: str) -> None:
        """Send the webhook of one entry if what it is about has ended."""
        batch_id = entry.removeprefix(BATCH)
        try:
            letter = self._about_request(entry) if batch_id == entry else self._about_batch(batch_id)
        except _NotYet:
            return
        outcome = self._call(entry, letter) if letter else None
        if outcome is None:
            self._outbox.done(entry)
        else:
            self._again(entry, outcome)

    def _about_request(self, request_id: str) -> _Letter | None:
        """What to send about a request; None when there is nobody to tell."""
        try:
            record = self._gateway.get(request_id)
            if record.callback_url is None:  # the id belongs to another call, which wanted none
                return None
            if not record.state.terminal:
                self._watch(request_id, [record])
                record = self._gateway.get(request_id)
        except (UnknownRequest, PurgedRequest):
            return None
        return _Letter(str(record.callback_url), f"msg_{record.id}", payload(record))

    def _about_batch(self, batch_id: str) -> _Letter | None:
        batch = self._store.batch(batch_id)
        if batch is None or batch.callback_url is None:
            return None
        ids = [member.request_id for member in batch.members if member.request_id]
        records = self._gateway.records.get_many(ids)
        if not all(record.state.terminal for record in records):
            self._watch(batch_entry(batch_id), records)
            records = self._gateway.records.get_many(ids)
        body = batch_resource(batch_id, batch, {record.id: record for record in records})
        about = {"type": "batch.completed", "timestamp": now(), "data": body}
        return _Letter(batch.callback_url, f"msg_batch_{batch_id}", about)

    def _watch(self, entry: str, records: Sequence[Request]) -> None:
        """Let the bell ring at the end of the last of these that has not ended; return only if all have by now.

        The entry is put off first: the bell may ring before this returns, and then it must be due at once.
        """
        self._outbox.expect(entry)
        for record in reversed(records):
            state = None if record.state.terminal else self._gateway.records.watch(record.id, self._outbox.bell)
            if state is not None and not state.terminal:
                raise _NotYet

    def _tell(self, entry: str, **what: object) -> None:
        """Write into the timeline of the request, if it is about one, how its webhook went."""
        self._gateway.records.remark(entry, "webhook", **what)

    def _call(self, entry: str, letter: _Letter) -> str | None:
        """Make the call; what went wrong in a way that may pass, None when there is nothing more to do."""
        body = json.dumps(letter.about, separators=(",", ":")).encode()
        try:
            target = targets.check(letter.url, self._exempt)
            status = sending.send(target, body, signing.headers(self._key, letter.id, int(time.time()), body))
        except targets.TargetRefused as error:
            log.warning("webhook of %s refused: %s", entry, error)
            self._tell(entry, refused=str(error))
            return None
        except (OSError, http.client.HTTPException) as error:
            return repr(error)
        if not (200 <= status < 300 or status == GONE):
            return f"status {status}"
        self._tell(entry, status=status)
        return None

    def _again(self, entry: str, why: str) -> None:
        failures = self._outbox.failed(entry)
        if failures > len(PAUSES):
            log.error("webhook of %s given up after %d calls: %s", entry, failures, why)
            self._tell(entry, given_up=why)
            self._outbox.done(entry)
            return
        log.info("webhook of %s failed: %s", entry, why)
        self._outbox.later(entry, PAUSES[failures - 1])


def payload(record: Request) -> dict[str, Any]:
    """What a webhook says: the kind of end, and the request resource."""
    return {"type": f"inference.{record.state}", "timestamp": now(), "data": request_resource(record)}
