"""How a worker process ends itself."""

from __future__ import annotations

import logging
import os

#: Exit status of a worker that gave up on itself (EX_TEMPFAIL): a supervisor starts it again.
HUNG = 75


def end_process() -> None:
    """End the process from a thread, whatever the others are doing."""
    logging.shutdown()
    os._exit(HUNG)
