"""The Python client and command line of Inferlane: speaks HTTP, needs httpx and rich, imports nothing of the server.

Read :mod:`client.errors` for what can go wrong, :class:`Client` for what can be asked. Inside, ``flow`` lets one logic
serve both clients, ``exchange`` makes one call succeed, ``operations`` and ``batches`` say what is called, and ``cli``
is the command line on top. It never talks to Redis and never reads the server's settings.
"""

from client.answers import Outcome, Prediction, Result, Snapshot
from client.asynchronous import AsyncClient
from client.batches import BatchSnapshot
from client.errors import ClientError
from client.events import Event
from client.jobs import AsyncBatch, AsyncJob, Batch, Job
from client.retries import Retries
from client.synchronous import Client

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
