"""Records: every change of a request's state is one Lua script, atomic and fenced by the attempt number.

This module runs the scripts and reads records; it decides nothing about queues, retries or batches.

::

    queued --begin--> running --commit--> succeeded | failed
      ^ |                | |
      | |                | +--cancel--> canceled
      | +--cancel/expire-|------------> canceled | expired
      +--retry, rescue---+
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, cast
from uuid import UUID

from common.settings import Settings
from tasks.errors import BrokerUnavailable, HasEnded, PurgedRequest, TaskError, UnknownRequest
from tasks.protocol import scripts
from tasks.protocol.connections import Client, PinnedClient, translated
from tasks.protocol.keys import Keys
from tasks.protocol.owners import public_id
from tasks.protocol.payloads import PayloadLost, Payloads, PayloadUnreadable
from tasks.protocol.requests import BRIEF, Attempt, AttemptEnd, Request, Started, State, brief, parse, texts
from tasks.protocol.statistics import Statistics

#: Most attempts of a request, whatever the reason, so that nothing loops.
MOST_ATTEMPTS = 25


class Records:
    """Reads and moves request records through one Redis client. Every method raises BrokerUnavailable without Redis."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self.client = client
        self.pinned = PinnedClient(client)
        self.keys = Keys(settings.key_prefix)
        self.payloads = Payloads(client, settings)
        self.statistics = Statistics()
        self._prefix = settings.key_prefix
        self._ttls = ttls(settings)
        self._shortest_ttl = min(settings.result_ttl, settings.failure_ttl)

    def get(self, request_id: str) -> Request:
        """The request as it is now; one still queued after its deadline expires here.

        Raises:
            UnknownRequest: no record has this id.
            PurgedRequest: its record has expired.
        """
        request = self._get(request_id)
        if request.state is State.QUEUED and request.deadline is not None and request.deadline < time.time():
            self.expire()
            return self._get(request_id)
        return request

    def _get(self, request_id: str) -> Request:
        found = self.get_many([request_id])
        if not found:
            raise self._missing(request_id)
        return found[0]

    def _missing(self, request_id: str) -> TaskError:
        """The error for an id without a record; the time in a UUIDv7, or a mark, shows that it was used."""
        try:
            parsed = UUID(public_id(request_id).partition(".")[0])  # an item's id is its batch's, a dot and a number
        except ValueError:
            parsed = UUID(int=0)
        if parsed.version == 7:
            purged = time.time() - (parsed.int >> 80) / 1000 >= self._shortest_ttl
        else:
            with translated():
                purged = bool(self.client.exists(self.keys.gone(request_id)))
        if purged:
            return PurgedRequest(f"the record of request {public_id(request_id)} has expired")
        return UnknownRequest(f"no request {public_id(request_id)}")

    def get_many(self, ids: Sequence[str]) -> list[Request]:
        """The records that exist among ``ids``, in order, in one round trip."""
        return self._read(ids, lambda key: ("HGETALL", key), texts)

    def briefs(self, ids: Sequence[str]) -> list[Request]:
        """As :meth:`get_many`, with at most the first LISTED predictions of each."""
        return self._read(ids, lambda key: ("HMGET", key, *BRIEF), brief)

    def _read(
        self, ids: Sequence[str], command: Callable[[str], Sequence[str]], fields: Callable[[Any], dict[str, str]]
    ) -> list[Request]:
        with translated():
            replies = self.pinned.pipeline([command(self.keys.request(request_id)) for request_id in ids])
        found = zip(ids, map(fields, replies), strict=True)
        return [parse(request_id, record) for request_id, record in found if record]

    def image(self, request_id: str) -> bytes | None:
        """The image of a request that may still run; None when it is deleted.

        Raises:
            BrokerUnavailable: Redis does not answer, or the image is outside Redis and cannot be read here.
        """
        with translated():
            payload = self.client.hget(self.keys.request(request_id), "payload")
            if payload is None:
                return cast("bytes | None", self.client.get(self.keys.image(request_id)))
        try:
            return self.payloads.get(payload.decode())
        except PayloadLost:
            return None
        except PayloadUnreadable as error:
            raise BrokerUnavailable(str(error)) from error

    def cancel(self, request_id: str) -> Request:
        """End a queued or running request; canceling twice is fine.

        Raises:
            UnknownRequest, PurgedRequest: there is no record.
            HasEnded: it has succeeded, failed or expired.
        """
        found = self._run("cancel", [request_id, self._ttls])
        if found is None:
            raise self._missing(request_id)
        state = State(found.decode())
        if state.terminal and state is not State.CANCELED:
            raise HasEnded(f"request {public_id(request_id)} has {state}")
        return self._get(request_id)

    def watch(self, request_id: str, reply: str) -> State | None:
        """Have ``reply``, a reply list, notified when the request ends, with the record if its name ends in ``+``.

        Returns the state now, None when unknown; a request that has ended notifies nobody.
        """
        found = self._run("watch", [request_id, reply])
        return State(found.decode()) if found else None

    def watch_many(self, ids: Sequence[str], reply: str) -> set[str]:
        """As :meth:`watch` for several, in one round trip; the ids that have not ended."""
        states = self._run_all("watch", [(request_id, reply) for request_id in ids])
        return {name for name, state in zip(ids, states, strict=True) if state and not State(state.decode()).terminal}

    def read_replies(self, reply: str, seconds: float, *, most: int = 1) -> dict[str, Request | None]:
        """Wait up to ``seconds`` for notifications on a reply list: ids that have ended, with the record if sent."""
        with translated():
            first = self.pinned.block(seconds, "BLPOP", reply, f"{max(seconds, 0.001):.3f}")
            if first is None:
                return {}
            more = self.pinned.execute_command("LPOP", reply, most - 1) or () if most > 1 else ()
        return dict(map(_notification, (first[1], *more)))

    def remark(self, request_id: str, event: str, **members: Any) -> None:
        """Add an event to the timeline of a request, if its record exists."""
        extra = "".join(f",{json.dumps(name)}:{json.dumps(value)}" for name, value in members.items())
        self._run("remark", [request_id, event, extra])

    def expire(self) -> int:
        """End queued requests whose deadline has passed; how many."""
        return int(self._run("expire", [self._ttls]))

    def promote(self) -> int:
        """Move retries that are due into their lanes; how many."""
        return int(self._run("promote", []))

    # -- for the holder of a delivery

    def begin(self, ids: Iterable[str], boot: str, tag: str, model: str, *, alone: bool = False) -> Started:
        """Start those of ``ids`` that this delivery may run; the others have ended, run elsewhere or must run alone.

        ``boot`` and ``model`` are the holder's; a shared lane's latencies count under that model. ``alone``: nothing
        else runs in the holder until they have ended.
        """
        return self.begin_all([(list(ids), tag)], boot, model, alone=alone)[0]

    def begin_all(
        self, held: Sequence[tuple[Sequence[str], str]], boot: str, model: str, *, alone: bool = False
    ) -> list[Started]:
        """As :meth:`begin` for several deliveries, each with its ids and its tag, in one round trip."""
        wanted = [(request_id, tag) for ids, tag in held for request_id in ids]
        calls = [(boot, tag, name, self._ttls, MOST_ATTEMPTS, model, int(alone)) for name, tag in wanted]
        with translated():
            answers, images = scripts.run_and_get(
                self.pinned, "begin", [((), (self._prefix, *call)) for call in calls],
                [self.keys.image(name) for name, _ in wanted],
            )  # fmt: skip
        started = {tag: Started() for _, tag in held}
        for (name, tag), answer, image in zip(wanted, answers, images, strict=True):
            if answer[0] > 0:
                number, spec, created, begun, payload, counted = answer
                self.statistics.add(counted)
                attempt = Attempt(
                    id=name, model=model, number=number, spec=json.loads(spec), image=image,
                    payload=payload.decode(), created_at=float(created), started_at=float(begun),
                )  # fmt: skip
                started[tag].attempts.append(attempt)
            elif answer[1] == b"alone":
                started[tag].suspects.append(name)
        return list(started.values())

    def commit(self, boot: str, attempt: Attempt, outcome: AttemptEnd) -> bool:
        """Store how the attempt ended; False when a later attempt or another end owns the request (fenced)."""
        return self.commit_all(boot, [(attempt, outcome)])[0]

    def commit_all(self, boot: str, ends: Sequence[tuple[Attempt, AttemptEnd]]) -> list[bool]:
        """As :meth:`commit` for several, in one round trip; each is atomic by itself."""
        calls = [
            (boot, attempt.id, attempt.number, str(outcome.state), outcome.result, self._ttls, f"{outcome.decode:.6f}",
             f"{outcome.infer:.6f}", int(outcome.dead_letter), outcome.batch, attempt.model, outcome.more)
            for attempt, outcome in ends
        ]  # fmt: skip
        answers = self._run_all("commit", calls)
        self.statistics.add(b"\n".join(answer for answer in answers if isinstance(answer, bytes)))
        return [answer != 0 for answer in answers]

    def give_back(self, boot: str, tag: str, lane: str, message: str, ids: Sequence[str]) -> bool:
        """Return requests of a delivery that have not run to the head of their lane, in ``message``; False for none."""
        return bool(self._run("give_back", [boot, tag, message, 1, *ids], self.keys.lane_and_bell(lane)))

    def retry(
        self, boot: str, tag: str, lane: str, message: str, delay: float,
        failures: Sequence[tuple[Attempt, Mapping[str, Any]]], unpaid: float = 0.0,
    ) -> int:  # fmt: skip
        """End a delivery; its failed requests are queued again in ``message``, due in ``delay`` seconds; how many.

        ``unpaid`` is the service seconds that their owner has still to pay for it.
        """
        requests = [(attempt.id, attempt.number, json.dumps(error)) for attempt, error in failures]
        ends = [f"{delay:.3f}", f"{lane}\n{message}", f"{unpaid:.6f}"]
        return int(self._run("retry", [boot, tag, *ends, *chain(*requests)]))

    def _run(self, name: str, args: Sequence[Any], keys: Sequence[str] = ()) -> Any:
        with translated():
            return scripts.run(self.pinned, name, keys, [self._prefix, *args])

    def _run_all(self, name: str, calls: Sequence[Sequence[Any]]) -> list[Any]:
        with translated():
            return scripts.run_and_get(self.pinned, name, [((), (self._prefix, *call)) for call in calls], ())[0]


def ttls(settings: Settings) -> str:
    """How long finished records stay, as an argument of the scripts: ``RESULT_TTL/FAILURE_TTL``."""
    return f"{settings.result_ttl:g}/{settings.failure_ttl:g}"


def _notification(text: bytes) -> tuple[str, Request | None]:
    name, _, record = text.partition(b"\n")
    request_id = name.decode()
    return request_id, parse(request_id, texts(json.loads(record))) if record else None
