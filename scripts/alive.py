"""The health check of worker containers: ``python -m scripts.alive`` looks for the lease of this host's worker.

A worker renews its lease in Redis from a dedicated thread, so one that is busy with a long forward pass is alive and
one that hangs as a whole is not. This loads no model runtime and no Celery.
"""

import argparse
import socket
import sys
import time
from collections.abc import Sequence

from common.settings import Settings, get_settings
from tasks.errors import BrokerUnavailable
from tasks.inspect.monitor import Monitor

ALIVE, DEAD = 0, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one line; 0 when a worker of this host holds a lease, 1 when none does, 2 for a wrong setting."""
    parser = argparse.ArgumentParser(prog="python -m scripts.alive", description=__doc__)
    parser.add_argument(
        "--patient",
        action="store_true",
        help="0 also while Redis does not answer: for probes that kill, because workers outlast an outage",
    )
    options = parser.parse_args(arguments)
    try:
        status, line = look(get_settings())
    except BrokerUnavailable as error:
        status, line = ALIVE if options.patient else DEAD, str(error)
    print(line)
    return status


def look(settings: Settings) -> tuple[int, str]:
    """Exit status and one line about the leases of this host's workers; BrokerUnavailable if Redis does not answer."""
    host = socket.gethostname()
    rows = [row for row in Monitor(settings).workers() if row["host"] == host]
    if not rows:
        return DEAD, f"no worker on {host} holds a lease"
    now = time.time()
    return ALIVE, ", ".join(f"{row['id']}: lease renewed {now - row['last_heartbeat']:.1f} s ago" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
