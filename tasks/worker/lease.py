"""The lease: a worker's proof of life, renewed from its own thread, so that no inference can delay it.

The same thread does this worker's share of the common chores: rescue, deadlines, due retries, lost messages. It also
ends its own process when a call of the model takes longer than HARD_TIMEOUT, or a stop waits for a Redis that is gone.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from redis.exceptions import RedisError

from common.settings import Settings
from tasks.errors import BrokerUnavailable
from tasks.producer.live_workers import read_workers
from tasks.protocol import connections, servers
from tasks.protocol.keys import Keys
from tasks.protocol.records import Records
from tasks.worker.exits import UNAVAILABLE, end_process
from tasks.worker.guardian import LEFT, SERVING, STOPPING, Pulse
from tasks.worker.pipeline import Pipeline
from tasks.worker.registration import Registration
from tasks.worker.rescue import GracePeriod, Rescuer
from tasks.worker.sweep import Sweep

log = logging.getLogger(__name__)

#: Seconds for which a worker that was told to stop waits for a Redis that does not answer.
STOP_GRACE = 5.0


class Lease:
    """Keeps one worker registered.

    ``describe`` returns its row in the register, ``obey`` is called with the operators' orders for it, ``pulse`` is
    shared with its guardian.
    """

    def __init__(
        self, settings: Settings, pipeline: Pipeline, *, describe: Callable[[], dict[str, Any]],
        obey: Callable[[dict[str, Any]], None], pulse: Pulse | None = None,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._pulse = pulse
        self._pipeline = pipeline
        self._owner = pipeline.owner
        self._describe = describe
        self._obey = obey
        client = connections.prompt(settings.redis_url)
        self._client = client
        self._registration = Registration(client, settings)
        self._rescuer = Rescuer(client, settings)
        self._records = Records(client, settings)
        self._sweep = Sweep(client, Keys(settings.key_prefix))
        self._grace: GracePeriod | None = None
        self._stop = threading.Event()
        self._stopping: float | None = None
        self._reached = time.monotonic()
        self._ticks = 0
        self._thread = threading.Thread(target=self._live, name="lease", daemon=True)

    def start(self) -> None:
        """Register, before anything is consumed; then keep the lease.

        Raises:
            UnsupportedServer: Redis answers, and cannot hold the queue.
        """
        servers.check(self._client)
        self._renew(register=True)
        self._beat(SERVING)
        self._thread.start()

    def stopping(self) -> None:
        """The worker is stopping; from now on it waits for Redis no longer than STOP_GRACE."""
        self._stopping = self._stopping or time.monotonic()
        self._beat(STOPPING)

    def stop(self) -> None:
        """Give the deliveries back and end the lease."""
        self._stop.set()
        self._thread.join(timeout=self._settings.lease_ttl)
        try:
            self._flush()
            self._registration.leave(self._owner)
            self._beat(LEFT)
        except RedisError as error:
            log.warning("this worker could not unregister; its lease will run out: %s", error)

    def _live(self) -> None:
        """Renew every second time; dead workers are looked for every time, to find them sooner."""
        try:
            while not self._stop.wait(self._settings.lease_renew / 2):
                self._beat()
                self._check_watchdog()
                self._tick(renew=self._ticks % 2 == 0)
                self._check_stop()
        except BaseException:
            # A worker that cannot prove it lives must not go on looking as if it did.
            log.critical("the lease thread failed: this worker exits", exc_info=True)
            end_process(UNAVAILABLE)

    def _beat(self, stage: int | None = None) -> None:
        if self._pulse is not None:
            self._pulse.beat(stage)

    def _tick(self, *, renew: bool) -> None:
        self._ticks += 1
        began = time.monotonic()
        try:
            if renew:
                self._renew(register=False)
            if self._ticks % 4 == 0:
                self._flush()
            self._pipeline.tick(self._idle() if self._pipeline.slow else frozenset())
            self._care()
            self._reached = time.monotonic()
        except (RedisError, BrokerUnavailable, OSError) as error:
            self._interrupted(str(error))
            return
        if time.monotonic() - began > self._settings.lease_ttl / 2:
            self._interrupted("Redis answered late")

    def _renew(self, *, register: bool) -> None:
        orders = self._registration.renew(self._owner.boot, json.dumps(self._describe()), register=register)
        if orders is None:
            log.warning("this worker was declared dead while it could not renew its lease; it registers again")
            self._renew(register=True)
            return
        self._obey(orders)

    def _flush(self) -> None:
        self._pipeline.records.statistics.flush(self._client, self._settings.key_prefix)

    def _idle(self) -> frozenset[str]:
        """Models with another worker that is idle."""
        workers = read_workers(self._client, Keys(self._settings.key_prefix))
        others = [worker for worker in workers if worker["boot"] != self._owner.boot]
        return frozenset(worker["model"] for worker in others if worker["state"] == "idle")

    def _care(self) -> None:
        """Report deliveries, and do the chores if it is this worker's turn."""
        self._registration.report(self._owner)
        if self._ticks % 6 == 0:
            self._registration.reconcile(self._owner)
        if self._grace is None:
            uptime = float(self._client.info("server")["uptime_in_seconds"])
            self._grace = GracePeriod(2 * self._settings.lease_ttl, uptime)
        lapsed = self._rescuer.lapsed(ask=self._ticks % 3 == 0)
        if lapsed is None:
            return
        for boot in lapsed if self._grace.over else ():
            self._rescuer.rescue(boot)
        self._records.expire()
        self._records.promote()
        self._sweep.run()

    def _interrupted(self, why: str) -> None:
        log.warning("lease not renewed in time: %s", why)
        if self._grace is not None:
            self._grace.restart()

    def _check_watchdog(self) -> None:
        since = self._pipeline.busy_since
        if since is None or time.monotonic() - since < self._settings.hard_timeout:
            return
        log.critical(
            "the model has worked for more than HARD_TIMEOUT (%.0f s): this worker exits, its requests are rescued",
            self._settings.hard_timeout,
        )
        end_process()

    def _check_stop(self) -> None:
        now = time.monotonic()
        if self._stopping is None or now - max(self._stopping, self._reached) < STOP_GRACE:
            return
        log.critical("told to stop while Redis does not answer: this worker exits, its requests are rescued")
        end_process(UNAVAILABLE)
