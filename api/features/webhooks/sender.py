"""The thread that takes webhooks in each API process, and the threads that send them.

At least once, under a constant id; once where nothing fails, because a replayed request sends no second webhook. A 2xx
ends the calls, and so does 410, with which a receiver declines. Everything else, redirects included, is retried after
:data:`PAUSES`, which end before a record expires.
"""

import http.client
import json
import logging
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from api.features.batches import Batches, batch_resource
from api.features.webhooks import targets, transport
from api.features.webhooks.outbox import BATCH, SWEEP, Outbox, batch_entry
from api.features.webhooks.receivers import MOST, Receivers
from api.services import service
from api.views.resources import now, request_resource
from common.settings import Settings
from tasks.errors import BrokerUnavailable, PurgedRequest, UnknownRequest
from tasks.producer.gateway import Gateway
from tasks.protocol.requests import Request

log = logging.getLogger(__name__)

PAUSES = (5, 30, 120, 600, 1800)  # seconds after the first, second, ... failure
GONE = 410


class _NotYet(Exception):
    """The request or batch has not ended; the bell will ring."""


@dataclass(frozen=True, slots=True)
class _Webhook:
    """One webhook: URL, constant id, body, and the end it reports."""

    url: str
    id: str
    about: dict[str, Any]
    end: str

    @property
    def receiver(self) -> str:
        """The receiver: host and port."""
        return urlsplit(self.url).netloc.lower()


class Sender:
    """Sends due webhooks until :meth:`close`."""

    def __init__(self, settings: Settings, gateway: Gateway, batches: Batches, outbox: Outbox) -> None:
        self._key = transport.signer(settings.webhook_secret)
        self._exempt = settings.webhook_hosts
        self._gateway, self._batches, self._outbox = gateway, batches, outbox
        self._receivers = Receivers()
        self._free = threading.BoundedSemaphore(MOST)
        self._stop = threading.Event()

    def start(self) -> None:
        """Start the thread that takes due webhooks."""
        threading.Thread(target=self._run, name="webhooks", daemon=True).start()

    def close(self) -> None:
        """Stop taking; calls in flight may be repeated."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._outbox.listen()
                while self._send_next():
                    pass
            except Exception as error:  # this thread must survive: it sends all webhooks of this process
                log.warning("webhooks wait: %s", error, exc_info=not isinstance(error, BrokerUnavailable))
                self._stop.wait(1.0)

    def _send_next(self) -> bool:
        """Hand the first due entry to a thread; False if there is none."""
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
        except BrokerUnavailable as error:
            log.warning("the webhook of %s waits: %s", entry, error)  # until it is no longer taken
        except Exception as error:
            log.exception("webhook of %s", entry)
            with suppress(BrokerUnavailable):
                self._again(entry, None, repr(error))
        finally:
            self._free.release()

    def deliver(self, entry: str) -> None:
        """Send the webhook of an ended request or batch, unless its receiver was notified already."""
        batch_id = entry.removeprefix(BATCH)
        try:
            webhook = self._about_request(entry) if batch_id == entry else self._about_batch(batch_id)
        except _NotYet:
            return
        if webhook is None or self._outbox.told(entry) == webhook.end:
            self._outbox.done(entry)
        elif wait := self._receivers.enter(webhook.receiver):
            self._outbox.later(entry, wait)
        elif failure := self._call(entry, webhook):
            self._again(entry, webhook, failure)
        else:
            self._outbox.done(entry, webhook.end)

    def _about_request(self, request_id: str) -> _Webhook | None:
        """The webhook of a request; None if it has no receiver."""
        try:
            record = self._gateway.get(request_id)
            if record.callback_url is None:  # the id belongs to another call, without a webhook
                return None
            if not record.state.terminal:
                self._watch(request_id, [record])
                record = self._gateway.get(request_id)
        except (UnknownRequest, PurgedRequest):
            return None
        about = {"type": f"inference.{record.state}", "timestamp": now(), "data": request_resource(record)}
        return _Webhook(str(record.callback_url), f"msg_{record.id}", about, f"{record.completed_at}")

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
        # A batch replayed under its key may have more accepted items, and then ends anew.
        return _Webhook(batch.callback_url, f"msg_batch_{batch_id}", about, f"{len(ids)} accepted")

    def _watch(self, entry: str, records: Sequence[Request]) -> None:
        """Ring the bell at the end of the last open request; return only if all have ended.

        The entry is deferred first: if the bell rings before this returns, the entry must become due.
        """
        self._outbox.later(entry, SWEEP)
        for record in reversed(records):
            state = None if record.state.terminal else self._gateway.records.watch(record.id, self._outbox.bell)
            if state is not None and not state.terminal:
                raise _NotYet

    def _call(self, entry: str, webhook: _Webhook) -> str | None:
        """Make the call; a transient error, or None when there is nothing more to do."""
        began = time.monotonic()
        try:
            body = json.dumps(webhook.about, separators=(",", ":"), allow_nan=False)
            target = targets.check(webhook.url, self._exempt)
            headers = transport.signature(self._key, webhook.id, int(time.time()), body)
            status = transport.send(target, body.encode(), headers)
        except targets.TargetRefused as error:
            log.warning("webhook of %s refused: %s", entry, error)
            self._gateway.records.remark(entry, "webhook", refused=str(error))
            return None
        except (OSError, http.client.HTTPException) as error:
            return repr(error)
        finally:
            self._receivers.leave(webhook.receiver, time.monotonic() - began)
        if not (200 <= status < 300 or status == GONE):
            return f"status {status}"
        self._gateway.records.remark(entry, "webhook", status=status)
        return None

    def _again(self, entry: str, webhook: _Webhook | None, why: str) -> None:
        failures = self._outbox.failed(entry)
        if failures > len(PAUSES):
            log.error("webhook of %s given up after %d calls: %s", entry, failures, why)
            self._gateway.records.remark(entry, "webhook", given_up=why)
            self._outbox.done(entry, webhook.end if webhook else None)
            return
        log.info("webhook of %s failed: %s", entry, why)
        self._outbox.later(entry, PAUSES[failures - 1])


def running_sender(settings: Settings) -> Sender:
    """A running sender; needs an app context."""
    sender = Sender(settings, service(Gateway), service(Batches), service(Outbox))
    sender.start()
    return sender
