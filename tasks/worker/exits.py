"""How a worker process ends itself."""

from __future__ import annotations

import logging
import os

#: Exit status of a worker that gave up on its model (EX_TEMPFAIL); its supervisor restarts it.
HUNG = 75
#: Exit status of a worker that gave up for a reason outside its model (EX_UNAVAILABLE): no request is blamed.
UNAVAILABLE = 69


def end_process(status: int = HUNG) -> None:
    """End the process from any thread."""
    logging.shutdown()
    os._exit(status)
