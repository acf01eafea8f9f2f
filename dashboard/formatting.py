"""Numbers as people read them; a dash stands for a missing value."""

from __future__ import annotations

from datetime import datetime

NOTHING = "\u2013"


def duration(seconds: float | None) -> str:
    """``0.045`` -> ``45 ms``, ``1.234`` -> ``1.2 s``, ``10.2`` -> ``10 s``, ``75`` -> ``1 min 15 s``."""
    if seconds is None:
        return NOTHING
    if 0 < seconds < 0.9995:
        return f"{seconds * 1000:.{1 if seconds < 0.0095 else 0}f} ms"
    if seconds < 59.5:
        return f"{seconds:.1f} s" if 0 < seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def milliseconds(seconds: float | None) -> float | None:
    """For charts and tables that have the unit elsewhere."""
    return None if seconds is None else round(seconds * 1000, 1)


def size(count: float | None) -> str:
    """Bytes in binary units: ``150_000_000`` -> ``143 MiB``."""
    if count is None:
        return NOTHING
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def rate(per_second: float | None) -> str:
    """Events a second, or a minute when they are few: ``2.4/s``, ``34 a minute``."""
    if not per_second:
        return NOTHING if per_second is None else "none"
    if per_second >= 0.95:
        return f"{per_second:.{0 if per_second >= 9.95 else 1}f}/s".replace(".0/", "/")
    a_minute = round(per_second * 60)
    return f"{a_minute} a minute" if a_minute else "< 1 a minute"


def percent(share: float | None) -> str:
    """A share of one: ``0.0123`` -> ``1.2 %``."""
    return NOTHING if share is None else f"{share * 100:.1f}".removesuffix(".0") + " %"


def count(number: float, thing: str) -> str:
    """``1 worker``, ``3 workers``, ``10,000 requests``."""
    return f"{number:,.0f} {thing}" + ("" if number == 1 else "s")


def epoch(timestamp: str | None) -> float | None:
    """Epoch seconds of an RFC 3339 timestamp."""
    return datetime.fromisoformat(timestamp).timestamp() if timestamp else None
