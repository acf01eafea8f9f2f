"""The Python client and command line of Inferlane: speaks HTTP, needs httpx and rich, imports nothing of the server.

Read :mod:`inferlane.errors` for what can go wrong, :class:`Client` for what can be asked. Inside, ``flow`` lets one
logic serve both clients, ``exchange`` makes one call succeed, ``operations`` and ``batches`` build the calls, and
``cli`` is the command line on top. It never talks to Redis and never reads the server's settings.
"""

from inferlane.answers import Outcome, Prediction, Result, Snapshot
from inferlane.asynchronous import AsyncClient
from inferlane.batches import BatchSnapshot
from inferlane.errors import ClientError
from inferlane.events import Event
from inferlane.jobs import AsyncBatch, AsyncJob, Batch, Job
from inferlane.retries import Retries
from inferlane.synchronous import Client

__all__ = [
    "AsyncBatch",
    "AsyncClient",
    "AsyncJob",
    "Batch",
    "BatchSnapshot",
    "Client",
    "ClientError",
    "Event",
    "Job",
    "Outcome",
    "Prediction",
    "Result",
    "Retries",
    "Snapshot",
]
