"""The thread that takes webhooks in each API process, and the threads that send them.

At least once: the id of a repeated call stays the same. Once where nothing fails: a replay of a request whose end has
been told tells nobody again. A call counts as made when the answer is a 2xx, or 410, by which a receiver says that it
wants no more. Everything else, redirects included, is tried again after the pauses of :data:`PAUSES`, which end before
a record expires.
"""

from __future__ import annotations

import http.client
import json
import logging
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from api.features.batches.resources import batch_resource
from api.features.batches.store import Batches
from api.features.webhooks import signing, targets, transport
from api.features.webhooks.outbox import BATCH, SWEEP, Outbox, batch_entry
from api.features.webhooks.receivers import MOST, Receivers
from api.services import service
from api.views.resources import now, request_resource
from tasks.errors import PurgedRequest, Unavailable, UnknownRequest
from tasks.producer.gateway import Gateway

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.settings import Settings
    from tasks.protocol.requests import Request

log = logging.getLogger(__name__)

PAUSES = (5, 30, 120, 600, 1800)  # seconds after the first, second, ... failure
GONE = 410


class _NotYet(Exception):
    """What the webhook is about has not ended; the bell will ring."""


@dataclass(frozen=True, slots=True)
class _Webhook:
    """One webhook: where it goes, its id, which stays the same when it is repeated, what it says, and of which end."""

    url: str
    id: str
    about: dict[str, Any]
    end: str

    @property
    def receiver(self) -> str:
        """Whom it keeps busy: host and port."""
        return urlsplit(self.url).netloc.lower()


class Sender:
    """Sends what is due in the outbox until :meth:`close`."""

    def __init__(self, settings: Settings, gateway: Gateway, batches: Batches, outbox: Outbox) -> None:
        self._key = signing.signer(settings.webhook_secret)
        self._exempt = settings.webhook_hosts
        self._gateway, self._batches, self._outbox = gateway, batches, outbox
        self._receivers = Receivers()
        self._free = threading.BoundedSemaphore(MOST)
        self._stop = threading.Event()

    def start(self) -> None:
        """Start the thread that takes them."""
        threading.Thread(target=self._run, name="webhooks", daemon=True).start()

    def close(self) -> None:
        """Take nothing more; what is being sent may come twice."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._outbox.listen()
                while self._send_next():
                    pass
            except Unavailable as error:
                log.warning("webhooks wait: %s", error)
                self._stop.wait(1.0)
            except Exception:  # without this thread no webhook of this process is sent any more
                log.exception("webhooks wait")
                self._stop.wait(1.0)

    def _send_next(self) -> bool:
        """Give the entry that is due first to a thread; False when none is."""
        self._free.acquire()
        started = False
        try:
            if not self._stop.is_set() and (entry := self._outbox.take()):
                threading.Thread(target=self._send, args=(entry,), name=f"webhook-{entry}", daemon=True).start()
                started = True
        finally:
            if not started:
                self._free.release()
        return started

    def _send(self, entry: str) -> None:
        try:
            self.deliver(entry)
        except Unavailable as error:
            log.warning("the webhook of %s waits: %s", entry, error)  # until it is no longer taken
        except Exception as error:
            log.exception("webhook of %s", entry)
            with suppress(Unavailable):
                self._again(entry, None, repr(error))
        finally:
            self._free.release()

    def deliver(self, entry: str) -> None:
        """Send the webhook of one entry if what it is about has ended and its receiver has not been told."""
        batch_id = entry.removeprefix(BATCH)
        try:
            webhook = self._about_request(entry) if batch_id == entry else self._about_batch(batch_id)
        except _NotYet:
            return
        if webhook is None or self._outbox.told(entry) == webhook.end:
            self._outbox.done(entry)
        elif wait := self._receivers.enter(webhook.receiver):
            self._outbox.later(entry, wait)
        else:
            self._conclude(entry, webhook, self._timed(entry, webhook))

    def _timed(self, entry: str, webhook: _Webhook) -> str | None:
        began = time.monotonic()
        try:
            return self._call(entry, webhook)
        finally:
            self._receivers.leave(webhook.receiver, time.monotonic() - began)

    def _conclude(self, entry: str, webhook: _Webhook, outcome: str | None) -> None:
        if outcome is None:
            self._outbox.done(entry, webhook.end)
        else:
            self._again(entry, webhook, outcome)

    def _about_request(self, request_id: str) -> _Webhook | None:
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
        return _Webhook(str(record.callback_url), f"msg_{record.id}", payload(record), f"{record.completed_at}")

    def _about_batch(self, batch_id: str) -> _Webhook | None:
        batch = self._batches.batch(batch_id)
        if batch is None or batch.callback_url is None:
            return None
        ids = batch.request_ids
        records = self._gateway.records.briefs(ids)
        if not all(record.state.terminal for record in records):
            self._watch(batch_entry(batch_id), records)
            records = self._gateway.records.briefs(ids)
        body = batch_resource(batch_id, batch, {record.id: record for record in records})
        about = {"type": "batch.completed", "timestamp": now(), "data": body}
        # Sent again under its key, a batch may have items accepted that were refused at first: that is another end.
        return _Webhook(batch.callback_url, f"msg_batch_{batch_id}", about, f"{len(ids)} accepted")

    def _watch(self, entry: str, records: Sequence[Request]) -> None:
        """Let the bell ring at the end of the last of these that has not ended; return only if all have by now.

        The entry is put off first: the bell may ring before this returns, and then it must be due at once.
        """
        self._outbox.later(entry, SWEEP)
        for record in reversed(records):
            state = None if record.state.terminal else self._gateway.records.watch(record.id, self._outbox.bell)
            if state is not None and not state.terminal:
                raise _NotYet

    def _tell(self, entry: str, **what: object) -> None:
        """Write into the timeline of the request, if it is about one, how its webhook went."""
        self._gateway.records.remark(entry, "webhook", **what)

    def _call(self, entry: str, webhook: _Webhook) -> str | None:
        """Make the call; what went wrong in a way that may pass, None when there is nothing more to do."""
        body = json.dumps(webhook.about, separators=(",", ":"), allow_nan=False)
        try:
            target = targets.check(webhook.url, self._exempt)
            headers = signing.headers(self._key, webhook.id, int(time.time()), body)
            status = transport.send(target, body.encode(), headers)
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

    def _again(self, entry: str, webhook: _Webhook | None, why: str) -> None:
        failures = self._outbox.failed(entry)
        if failures > len(PAUSES):
            log.error("webhook of %s given up after %d calls: %s", entry, failures, why)
            self._tell(entry, given_up=why)
            self._outbox.done(entry, webhook.end if webhook else None)
            return
        log.info("webhook of %s failed: %s", entry, why)
        self._outbox.later(entry, PAUSES[failures - 1])


def running_sender(settings: Settings) -> Sender:
    """A sender whose threads run; needs the context of an app."""
    sender = Sender(settings, service(Gateway), service(Batches), service(Outbox))
    sender.start()
    return sender


def payload(record: Request) -> dict[str, Any]:
    """What a webhook says: the kind of end, and the request resource."""
    return {"type": f"inference.{record.state}", "timestamp": now(), "data": request_resource(record)}
