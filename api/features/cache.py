"""Answer cache: identical images share one answer, and concurrent ones run once.

The key covers what an answer depends on (image, model, weights served now, ``top_k``), the priority, so that no call
waits in a lower lane than requested, and the caller's API key, so that callers do not see each other's requests. The
first call claims the key for its request id; all calls submit under that id, and the queue accepts it once and replays
it to the others. So there is no lock with a holder that may die. An answer is shared, a request is not: only the first
caller gets its id while it can be canceled; the others wait for its end, or get separate requests. Off unless
``CACHE_TTL`` is set. Calls with an id, a key or a deadline bypass the cache.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path

from api.services import app_settings, service
from common.settings import Settings
from tasks.inspect.monitor import Monitor
from tasks.lanes import ANY
from tasks.producer.gateway import Submission, uuid7
from tasks.protocol.connections import prompt, translated
from tasks.protocol.requests import Request, State

#: Seconds for which the list of served weights is cached.
FRESH = 1.0


def applies(settings: Settings, submission: Submission, cache_control: str) -> bool:
    """Whether this call may share an answer; ``Cache-Control: no-cache`` forbids it."""
    own = submission.request_id or submission.deadline is not None or submission.callback_url
    return bool(settings.cache_ttl) and not own and "no-cache" not in cache_control


def key(submission: Submission, weights: str, caller: str) -> str:
    """The cache key: 64 hexadecimal digits."""
    said = [submission.model_type, weights, submission.top_k, submission.priority, caller]
    return hashlib.sha256(json.dumps(said).encode() + b"\0" + submission.image).hexdigest()


class SharedAnswers:
    """The request that owns a key. Raises :class:`tasks.errors.BrokerUnavailable` when Redis does not answer."""

    def __init__(self, settings: Settings) -> None:
        self._redis = prompt(settings.redis_url)
        self._prefix = f"{settings.key_prefix}api:cache:"
        self._release = self._redis.register_script((Path(__file__).parent / "release.lua").read_text())

    def claim(self, key: str, request_id: str, seconds: int) -> str:
        """The owner of ``key``: the given request, or the one that claimed it in the last ``seconds``."""
        with translated():
            known = self._redis.set(self._prefix + key, request_id, nx=True, get=True, ex=seconds)
        return request_id if known is None else known.decode()

    def release(self, key: str, request_id: str) -> None:
        """Free ``key`` if ``request_id`` still owns it."""
        with translated():
            self._release(keys=[self._prefix + key], args=[request_id])


class ServedWeights:
    """The live workers' weights and precision, read at most once in ``FRESH`` seconds by each process."""

    def __init__(self, _settings: Settings) -> None:
        self._read_at = float("-inf")
        self._found: list[tuple[str, str]] = []

    def of(self, model: str) -> str:
        """The weights of the workers of ``model``, as one string."""
        if time.monotonic() - self._read_at > FRESH:
            workers = service(Monitor).workers()
            self._found = sorted(
                {(str(worker["model"]), f"{worker['weights']} {worker.get('precision')}") for worker in workers}
            )
            self._read_at = time.monotonic()
        return ",".join(f"{name}={weights}" for name, weights in self._found if model in (ANY, name))


def shared(submission: Submission, caller: str) -> Submission:
    """The submission under the id shared by all calls with this key, which is its fingerprint."""
    digest = key(submission, service(ServedWeights).of(submission.model_type), caller)
    settings = app_settings()
    owner = service(SharedAnswers).claim(digest, str(uuid7()), min(settings.cache_ttl, settings.result_ttl))
    return replace(submission, request_id=owner, fingerprint=digest)


def release_unanswered(submission: Submission, record: Request | None) -> None:
    """Release the key of a request that ended without an answer."""
    if record is not None and record.state.terminal and record.state is not State.SUCCEEDED:
        service(SharedAnswers).release(str(submission.fingerprint), str(submission.request_id))
