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
from typing import TYPE_CHECKING, Any

from api.resources import now, request_resource
from api.webhooks import sending, signing, targets
from tasks.errors import PurgedRequest, Unavailable, UnknownRequest

if TYPE_CHECKING:
    from api.webhooks.outbox import Outbox
    from settings import Settings
    from tasks.requests import Request
    from tasks.submit import Gateway

log = logging.getLogger(__name__)

THREADS = 2
PAUSES = (5, 30, 120, 600, 1800)  # seconds after the first, second, ... failure
GONE = 410


class Courier:
    """Sends what is due in the outbox until it is told to stop."""

    def __init__(self, settings: Settings, gateway: Gateway, outbox: Outbox) -> None:
        self._key = signing.secret_bytes(settings.webhook_secret)
        self._exempt = settings.webhook_hosts
        self._gateway, self._outbox = gateway, outbox
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
                while (request_id := self._outbox.take()) and not self._stop.is_set():
                    self.deliver(request_id)
            except Unavailable as error:
                log.warning("webhooks wait: %s", error)
                self._stop.wait(1.0)

    def deliver(self, request_id: str) -> None:
        """Send the webhook of one request if it has ended."""
        try:
            record = self._gateway.get(request_id)
        except (UnknownRequest, PurgedRequest):
            self._outbox.done(request_id)
            return
        if record.callback_url is None:  # the id belongs to another call, which wanted none
            self._outbox.done(request_id)
            return
        if not record.state.terminal:
            self._gateway.records.watch(request_id, self._outbox.bell)
            self._outbox.expect(request_id)
            return
        outcome = self._call(record)
        if outcome is None:
            self._outbox.done(request_id)
        else:
            self._again(request_id, outcome)

    def _call(self, record: Request) -> str | None:
        """Make the call; what went wrong in a way that may pass, None when there is nothing more to do."""
        body = json.dumps(payload(record), separators=(",", ":")).encode()
        try:
            target = targets.check(str(record.callback_url), self._exempt)
            status = sending.send(target, body, signing.headers(self._key, f"msg_{record.id}", int(time.time()), body))
        except targets.TargetRefused as error:
            log.warning("webhook of %s refused: %s", record.id, error)
            return None
        except (OSError, http.client.HTTPException) as error:
            return repr(error)
        return None if 200 <= status < 300 or status == GONE else f"status {status}"

    def _again(self, request_id: str, why: str) -> None:
        failures = self._outbox.failed(request_id)
        if failures > len(PAUSES):
            log.error("webhook of %s given up after %d calls: %s", request_id, failures, why)
            self._outbox.done(request_id)
            return
        log.info("webhook of %s failed: %s", request_id, why)
        self._outbox.later(request_id, PAUSES[failures - 1])


def payload(record: Request) -> dict[str, Any]:
    """What a webhook says: the kind of end, and the request resource."""
    return {"type": f"inference.{record.state}", "timestamp": now(), "data": request_resource(record)}
