"""Deletes images outside Redis whose requests have ended, and those without a request.

It has its own thread: a network folder or a remote store may take seconds, and the lease must not wait for it.
"""

from __future__ import annotations

import logging
import threading
import time

from common.settings import Settings
from tasks.protocol import connections
from tasks.protocol.keys import Keys
from tasks.protocol.payloads import Payloads

log = logging.getLogger(__name__)

#: Seconds between deletions by one worker (a deleted image need not reach the disk), and between sweeps by any.
INTERVAL = 0.25
SWEEP_INTERVAL = 300
#: Seconds between two warnings about a store that cannot be tidied.
QUIET = 60.0


def tidy(settings: Settings) -> None:
    """Start the thread, where images are outside Redis; it ends with the process."""
    payloads = Payloads(client := connections.prompt(settings.redis_url), settings)
    if payloads.outside:
        turn = Keys(settings.key_prefix).payload_turn
        threading.Thread(target=_run, args=(payloads, client, turn), name="tidier", daemon=True).start()


def _run(payloads: Payloads, client: connections.Client, turn: str) -> None:
    warned = -QUIET
    while True:
        time.sleep(INTERVAL)
        try:
            payloads.delete_due()
            if client.set(turn, "1", nx=True, ex=SWEEP_INTERVAL) and (swept := payloads.sweep()):
                log.warning("%d stored image(s) had no request and were deleted", swept)
        except Exception as error:  # noqa: BLE001 - of Redis or any filesystem: it is tried again
            if time.monotonic() - warned > QUIET:
                warned = time.monotonic()
                log.warning("images of ended requests are not deleted yet: %s: %s", type(error).__name__, error)
