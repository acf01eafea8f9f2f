"""The lease: a worker's proof of life, renewed from its own thread, so that no inference can delay it.

The same thread does what every worker owes the others and nobody owns alone: rescuing the dead, ending requests whose
deadline has passed, giving back deliveries that got lost on the way. It also watches its own process: a forward pass
longer than HARD_TIMEOUT ends it, and the rescue and poison rules do the rest.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from tasks import connections, scripts
from tasks.deliveries import Deliveries, Watchfulness, uptime
from tasks.errors import Unavailable
from tasks.requests import Records

if TYPE_CHECKING:
    from settings import Settings
    from tasks.ownership import Ownership

log = logging.getLogger(__name__)

#: Exit status of a worker that gave up on itself (EX_TEMPFAIL): a supervisor starts it again.
HUNG = 75


class Lease:
    """Keeps one worker registered: ``describe`` says what others may know of it, ``obey`` gets its orders."""

    def __init__(
        self,
        settings: Settings,
        owner: Ownership,
        *,
        describe: Callable[[], dict[str, Any]],
        obey: Callable[[dict[str, Any]], None],
        busy_since: Callable[[], float | None],
    ) -> None:
        self._settings = settings
        self._owner = owner
        self._describe = describe
        self._obey = obey
        self._busy_since = busy_since
        client = connections.prompt(settings.redis_url)
        self._client = client
        self._deliveries = Deliveries(client, settings)
        self._records = Records(client, settings)
        self._watch: Watchfulness | None = None
        self._stop = threading.Event()
        self._ticks = 0
        self._thread = threading.Thread(target=self._live, name="lease", daemon=True)

    def start(self) -> None:
        """Register, before anything is consumed; then keep the lease."""
        self._renew(register=True)
        self._thread.start()

    def stop(self) -> None:
        """Give back what is left and say goodbye, so that nobody has to wait for the lease to run out."""
        self._stop.set()
        self._thread.join(timeout=self._settings.lease_ttl)
        try:
            self._deliveries.give_back_all(self._owner)
            self._deliveries.forget(self._owner.boot)
        except RedisError as error:
            log.warning("could not say goodbye, the others will notice: %s", error)

    def _live(self) -> None:
        """Renew every second time: looking after the others twice as often finds the dead sooner."""
        try:
            while not self._stop.wait(self._settings.lease_renew / 2):
                self._check_watchdog()
                self._tick(renew=self._ticks % 2 == 0)
        except Exception:
            # A worker that cannot prove it lives must not go on looking as if it did.
            log.critical("the lease thread failed: this worker exits", exc_info=True)
            end_process()

    def _tick(self, *, renew: bool) -> None:
        self._ticks += 1
        began = time.monotonic()
        try:
            if renew:
                self._renew(register=False)
            self._care()
        except (RedisError, Unavailable, OSError) as error:
            self._interrupted(str(error))
            return
        if time.monotonic() - began > self._settings.lease_ttl / 2:
            self._interrupted("Redis answered late")

    def _renew(self, *, register: bool) -> None:
        settings = self._settings
        description = json.dumps(self._describe())
        args = [settings.key_prefix, self._owner.boot, int(settings.lease_ttl * 1000), description, int(register)]
        alive, *orders = scripts.run(self._client, "renew", (), args)
        if not alive:
            log.warning("this worker was declared dead while it could not renew its lease; it registers again")
            self._renew(register=True)
            return
        self._obey({name.decode(): json.loads(value) for name, value in zip(orders[::2], orders[1::2], strict=True)})

    def _care(self) -> None:
        """What every worker does for all."""
        self._deliveries.report(self._owner)
        if self._ticks % 6 == 0:
            self._deliveries.reconcile(self._owner)
        if self._watch is None:
            grace = 2 * self._settings.lease_ttl
            self._watch = Watchfulness(grace, uptime(self._client.info("server")))
        if self._watch.settled:
            self._look_around()

    def _look_around(self) -> None:
        """Rescue the dead and end what is too late, if it is this worker's turn."""
        lapsed = self._deliveries.lapsed(ask=self._ticks % 3 == 0)
        if lapsed is None:
            return
        for boot in lapsed:
            self._deliveries.rescue(boot)
        self._records.expire()

    def _interrupted(self, why: str) -> None:
        log.warning("lease not renewed in time: %s", why)
        if self._watch is not None:
            self._watch.interrupted()

    def _check_watchdog(self) -> None:
        since = self._busy_since()
        if since is None or time.monotonic() - since < self._settings.hard_timeout:
            return
        log.critical(
            "a forward pass has run for more than HARD_TIMEOUT (%.0f s): this worker exits, its requests are rescued",
            self._settings.hard_timeout,
        )
        end_process()


def end_process() -> None:
    """End the process from a thread, whatever the others are doing."""
    logging.shutdown()
    os._exit(HUNG)
