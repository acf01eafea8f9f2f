"""Usage of each owner, per UTC day and model, kept for 35 days.

The scripts write it in the step that ends or refuses a request, so its sums equal the ledger's. A day is a hash
``usage:OWNER:DAY`` with fields ``MODEL:WHAT``; days are counted from 1970 by Redis's clock.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

from tasks.protocol.connections import Client, translated
from tasks.protocol.keys import Keys

DAYS = 35
OUTCOMES = ("succeeded", "failed", "canceled", "expired")
#: Members of a row after owner, day and model. Each request has one image, which is counted as it ends.
AMOUNTS = ("requests", *OUTCOMES, "refused", "images", "bytes", "compute_seconds")

Row = dict[str, Any]

_EPOCH = date(1970, 1, 1)
_DAY = 86_400


def read(client: Client, keys: Keys, owners: Iterable[str], days: int = DAYS) -> list[Row]:
    """One row per owner, day and model with any usage, by owner and newest day first."""
    with translated():
        today = int(client.time()[0]) // _DAY
        wanted = [(owner, today - ago) for owner in owners for ago in range(days)]
        with client.pipeline(transaction=False) as pipe:
            for owner, day in wanted:
                pipe.hgetall(keys.usage(f"{owner}:{day}"))
            found = pipe.execute()
    return [row for (owner, day), amounts in zip(wanted, found, strict=True) for row in _rows(owner, day, amounts)]


def total(rows: Iterable[Row]) -> Row:
    """The :data:`AMOUNTS` of several rows together."""
    summed: Counter[str] = Counter()
    for row in rows:
        summed.update({name: row[name] for name in AMOUNTS})
    return {name: summed[name] for name in AMOUNTS}


def _rows(owner: str, day: int, amounts: dict[bytes, bytes]) -> list[Row]:
    models: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for name, amount in amounts.items():
        model, _, what = name.decode().rpartition(":")
        models[model][what] = int(amount)
    return [_row(owner, day, model, models[model]) for model in sorted(models)]


def _row(owner: str, day: int, model: str, told: dict[str, int]) -> Row:
    ended = {outcome: told[outcome] for outcome in OUTCOMES}
    return {
        "owner": owner,
        "day": (_EPOCH + timedelta(days=day)).isoformat(),
        "model": model,
        "requests": sum(ended.values()),
        **ended,
        "refused": told["refused"],
        "images": sum(ended.values()),
        "bytes": told["bytes"],
        "compute_seconds": round(told["computed"] / 1_000_000, 6),
    }


def refuse(client: Client, keys: Keys, owner: str, model: str, number: int = 1) -> None:
    """Count requests that were refused before any script saw them."""
    name = keys.usage(f"{owner}:{int(client.time()[0]) // _DAY}")
    client.hincrby(name, f"{model}:refused", number)
    client.expire(name, (DAYS + 1) * _DAY)
