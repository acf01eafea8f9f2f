"""The Python client and command line of Inferlane: speaks HTTP, needs httpx and rich, imports nothing of the server.

Start at :class:`Client` and :mod:`inferlane.errors`. ``connection`` is the only difference between the blocking
and the awaited client, ``exchange`` sends one call with its retries, ``operations``, ``events``, ``jobs`` and
``clients`` have each operation once, and ``cli`` is the command line.
"""

from inferlane.answers import BatchSnapshot, Outcome, Prediction, Result, Snapshot
from inferlane.clients import AsyncClient, Client
from inferlane.errors import ClientError
from inferlane.events import Event
from inferlane.jobs import AsyncBatch, AsyncJob, Batch, Job
from inferlane.retries import Retries

__version__ = "0.1.0"

__all__ = [
    "AsyncBatch", "AsyncClient", "AsyncJob", "Batch", "BatchSnapshot", "Client", "ClientError", "Event", "Job",
    "Outcome", "Prediction", "Result", "Retries", "Snapshot",
]  # fmt: skip
