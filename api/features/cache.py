"""Identical images: the answer to one is the answer to all, and twins that arrive together run once.

The key is what an answer depends on: image, model, weights served now, ``top_k``; the priority, so that nobody waits in
a lower lane than asked for; and the caller's API key, whose requests are nobody else's to look at. Whoever comes first
claims it for a request id; everybody submits under that, and the queue accepts it once and replays it to the others. So
there is no lock, and nobody to wait for who may be dead. An answer is shared, a request is not: only its first caller
is given its id while it can be canceled; the others wait for its end, or get a request of their own. Off unless
``CACHE_TTL`` is set. Calls with an identity of their own or a deadline are left alone.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from flask import current_app

from api.features.store import Store
from api.services import app_settings, service
from tasks.inspect.monitor import Monitor
from tasks.lanes import ANY
from tasks.producer.gateway import uuid7
from tasks.protocol.requests import State

if TYPE_CHECKING:
    from common.settings import Settings
    from tasks.producer.gateway import Submission
    from tasks.protocol.requests import Request

#: Seconds for which the list of served weights is good enough.
FRESH = 1.0


def applies(settings: Settings, submission: Submission, cache_control: str) -> bool:
    """Whether this call may share an answer; ``Cache-Control: no-cache`` asks for one of its own."""
    own = submission.request_id or submission.deadline is not None or submission.callback_url
    return bool(settings.cache_ttl) and not own and "no-cache" not in cache_control


def key(submission: Submission, weights: str, caller: str) -> str:
    """What the answer depends on and whose it is, as 64 hexadecimal digits."""
    said = [submission.model_type, weights, submission.top_k, submission.priority, caller]
    return hashlib.sha256(json.dumps(said).encode() + b"\0" + submission.image).hexdigest()


def shared(submission: Submission, caller: str) -> Submission:
    """The submission under the id that everybody with the same key uses, and with the key as its fingerprint."""
    digest = key(submission, Served.of().weights(submission.model_type), caller)
    settings = app_settings()
    owner = service(Store).claim(digest, str(uuid7()), min(settings.cache_ttl, settings.result_ttl))
    return replace(submission, request_id=owner, fingerprint=digest)


def settle(submission: Submission, record: Request | None) -> None:
    """Forget an id under which no answer was found; one that may still come is waited for."""
    if record is not None and record.state.terminal and record.state is not State.SUCCEEDED:
        service(Store).release(str(submission.fingerprint), str(submission.request_id))


class Served:
    """Which weights the live workers have, read at most once a second by each process."""

    def __init__(self) -> None:
        self._read_at = float("-inf")
        self._found: list[tuple[str, str]] = []

    @classmethod
    def of(cls) -> Served:
        """The one of the current app."""
        found: Served = current_app.extensions.setdefault("inferlane-served", cls())
        return found

    def weights(self, model: str) -> str:
        """The weights of the workers of ``model``, as one string."""
        if time.monotonic() - self._read_at > FRESH:
            workers = service(Monitor).workers()
            self._found = sorted({(str(worker["model"]), str(worker["weights"])) for worker in workers})
            self._read_at = time.monotonic()
        return ",".join(f"{name}={weights}" for name, weights in self._found if model in (ANY, name))
