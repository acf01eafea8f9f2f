"""The relay of a producer: publishes what its process has just left in the outbox, from one thread.

Nothing depends on it but speed: what it does not get done, because RabbitMQ is down or this process dies, a worker's
sweep does two seconds later.
"""

from __future__ import annotations

import json
import logging
import platform
import queue
import threading
import time
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from tasks import connections, scripts
from tasks.brokers.letters import Letter, entry_of
from tasks.brokers.link import FAULTS, Link

if TYPE_CHECKING:
    from collections.abc import Sequence

    from settings import Settings
    from tasks.connections import Client
    from tasks.keys import Keys

log = logging.getLogger(__name__)

#: Seconds between looks at an idle connection, and its heartbeat.
TICK = 1.0
HEARTBEAT = 10.0
#: Letters confirmed together.
MOST = 500
#: More than this wait for the thread: RabbitMQ is too slow or gone, and the sweep's turn comes anyway.
BACKLOG = 5000
#: Seconds for which a fault is shown after it was last seen.
TROUBLE = 5


class Relay:
    """A :class:`tasks.brokers.Carrier`. Its thread starts with the first letter: a forked server can build it early."""

    def __init__(self, settings: Settings, keys: Keys) -> None:
        self._keys = keys
        self._client = connections.prompt(settings.redis_url)
        self._link = Link(settings.amqp_url, heartbeat=HEARTBEAT)
        self._letters: queue.Queue[Letter | None] = queue.Queue(BACKLOG)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._quiet_until = 0.0

    def carry(self, lane: str, message: str) -> None:
        """Publish as soon as the thread gets to it."""
        self._start()
        letter = Letter(entry_of(json.loads(message)), lane, message)
        try:
            self._letters.put_nowait(letter)
        except queue.Full:
            log.debug("the relay is behind, the sweep will publish %s", letter.entry)

    def close(self) -> None:
        """Publish what is at hand and end the thread."""
        if self._thread is not None:
            try:
                self._letters.put(None, timeout=TICK)
            except queue.Full:
                return  # a thread that is stuck with a dead RabbitMQ ends with the process
            self._thread.join(timeout=2 * TICK)

    def _start(self) -> None:
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._live, name="relay", daemon=True)
                    self._thread.start()

    def _live(self) -> None:
        going = True
        while going:
            letters, going = self._gather()
            if time.monotonic() >= self._quiet_until:  # in an outage everything is left to the sweep
                self._deliver(letters)
        self._link.close()

    def _deliver(self, letters: Sequence[Letter]) -> None:
        try:
            if letters:
                deliver(self._link, self._client, self._keys, letters)
            else:
                self._link.breathe()
        except FAULTS as error:
            report(self._client, self._keys, "a producer", error)
            self._fall_silent()
        except RedisError as error:
            log.warning("published, but Redis did not hear of it: the sweep publishes again: %s", error)
        except Exception:
            log.exception("the relay failed on %d letter(s): the sweep publishes them", len(letters))
            self._fall_silent()

    def _fall_silent(self) -> None:
        self._link.drop()
        self._quiet_until = time.monotonic() + TICK

    def _gather(self) -> tuple[list[Letter], bool]:
        """What has come in within a tick, and whether to go on."""
        letters: list[Letter] = []
        try:
            letter = self._letters.get(timeout=TICK)
            while letter is not None and len(letters) < MOST:
                letters.append(letter)
                letter = self._letters.get_nowait()
        except queue.Empty:
            return letters, True
        if letter is not None:
            letters.append(letter)
        return letters, letter is not None


def deliver(link: Link, client: Client, keys: Keys, letters: Sequence[Letter]) -> int:
    """Publish letters and write down which RabbitMQ has taken; how many.

    Raises:
        FAULTS: the connection broke; whatever was published may be published again.
    """
    taken = link.publish(letters)
    if taken:
        arguments = [part for letter in taken for part in (letter.entry, letter.queue)]
        scripts.run(client, "carried", (), [keys.prefix, *arguments])
    return len(taken)


def report(client: Client, keys: Keys, who: str, error: Exception) -> None:
    """Leave word that RabbitMQ does not answer, for whoever asks how things are; logs the first of a row."""
    said = f"{who} on {platform.node()} gets no answer: {type(error).__name__}: {error}"[:200]
    try:
        known = client.set(keys.trouble, said, ex=TROUBLE, get=True)
    except RedisError as failure:
        log.debug("Redis could not be told: %s", failure)
        known = None
    if not known:
        log.warning("RabbitMQ: %s", said)
