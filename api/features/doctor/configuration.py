"""Checks of this API's settings: timeouts, lane weights, access."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from api.features.doctor.installation import Check, Checks, Installation, Look, judged

#: A full pass may take this many times its average before it counts as hung.
SLACK = 10


def durations(setup: Installation) -> Checks:
    """A dead worker's requests run again while their callers still wait, and only hung work is ended.

    Leases replace a visibility timeout, so nothing has to exceed the longest task; the lease must be the shortest.
    """
    settings = setup.settings
    noticed = settings.lease_ttl + settings.lease_renew
    wrong = []
    if noticed >= settings.max_wait:
        wrong.append(f"a dead worker is noticed after {noticed:g} s, callers wait MAX_WAIT {settings.max_wait:g} s")
    if settings.lease_ttl >= settings.hard_timeout:
        wrong.append(f"LEASE_TTL {settings.lease_ttl:g} s is not less than HARD_TIMEOUT {settings.hard_timeout:g} s")
    wrong += _impatience(setup)
    fine = f"LEASE_TTL {settings.lease_ttl:g} s, MAX_WAIT {settings.max_wait:g}, HARD_TIMEOUT {settings.hard_timeout:g}"
    yield judged("timeouts", wrong, fine=fine, remedy="LEASE_TTL well below MAX_WAIT, HARD_TIMEOUT above both")


def _impatience(setup: Installation) -> list[str]:
    limit = setup.settings.hard_timeout
    return [
        f"HARD_TIMEOUT {limit:g} s ends {worker['id']} when a batch of {worker['max_batch']} takes {SLACK} times"
        " the usual"
        for worker in setup.workers
        if SLACK * worker["max_batch"] * float(worker.get("service_seconds") or 0) > limit
    ]


def order(setup: Installation) -> Checks:
    """High goes before normal, normal before low."""
    settings = setup.settings
    if settings.lane_order == "strict":
        yield Check("priorities", True, "strict: low waits for as long as anything else is there")
        return
    shares = ":".join(map(str, settings.lane_weights))
    backwards = list(settings.lane_weights) != sorted(settings.lane_weights, reverse=True)
    wrong = [f"LANE_WEIGHTS {shares} serve a lower priority more often than a higher one"] if backwards else []
    fine = f"weighted: high, normal and low share the turns {shares} while all have work"
    yield judged("priorities", wrong, fine=fine, remedy="give LANE_WEIGHTS in the order high,normal,low, descending")


def access(setup: Installation) -> Checks:
    """Other hosts need a key."""
    if setup.asks_for_keys:
        yield Check("access", True, "user routes ask for a key")
        return
    settings = setup.settings
    public = [
        f"{what} {host}"
        for what, host in (
            ("API_HOST", settings.api_host),
            ("API_URL", urlsplit(settings.api_url).hostname or ""),
            ("called through a proxy as", setup.proxied_from),
        )
        if host and not _loopback(host)
    ]
    wrong = [f"no key is asked for, and others reach it: {', '.join(public)}"] if public else []
    fine = f"no key is asked for; {settings.api_host} is reached from its own host only"
    yield judged(
        "access", wrong, fine=fine, remedy="python -m api.http.api_keys NAME, put the entry into API_KEYS, AUTH=on"
    )


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


LOOKS: Sequence[Look] = (durations, order, access)
