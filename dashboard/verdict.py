"""The sentence at the top of the page: is it well, and if not, why. Pure functions over the API's snapshot."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dashboard.text import count, duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: How many findings the sentence itself names; the rest is counted.
NAMED = 3
#: Minutes of history that "now" means.
RECENT = 5

#: What the page says when there is no snapshot: state -> (word, sentence).
TROUBLES: Mapping[str, tuple[str, str]] = {
    "api_down": ("API down", "The API does not answer. What is below is the last that was known."),
    "api_slow": ("API slow", "The API did not answer in time. What is below is the last that was known."),
    "redis_down": (
        "Redis down",
        "The API answers, but Redis does not. Workers and lanes are unknown until it is back.",
    ),
    "login": ("Login needed", "The API wants a key. Log in to see anything."),
    "api_error": ("API error", "The API answered with an error."),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Attributes: ``level`` is ok, warn or bad; ``word`` and ``sentence`` are what a person reads."""

    level: str
    word: str
    sentence: str

    def document(self) -> dict[str, str]:
        """As JSON."""
        return asdict(self)


def verdict(snapshot: Mapping[str, Any]) -> Verdict:
    """The API's findings in one sentence; nothing is judged here."""
    findings, word = snapshot["findings"], snapshot["status"].capitalize()
    if not findings:
        return Verdict("ok", word, f"{count(len(snapshot['workers']), 'worker')}, {_pace(snapshot['history'])}")
    level = "bad" if any(finding["severity"] == "problem" for finding in findings) else "warn"
    return Verdict(level, word, _joined(findings))


def trouble(state: str, detail: str = "") -> Verdict:
    """The verdict when there is no snapshot; ``detail`` is what the API or the network said."""
    word, sentence = TROUBLES[state]
    said = f" ({detail})" if detail and state == "api_error" else ""
    return Verdict("warn" if state in {"login", "api_slow"} else "bad", word, sentence + said)


def recent_latency(history: Sequence[Mapping[str, Any]], stage: str = "total") -> Mapping[str, float] | None:
    """The newest minute of the last few in which something ended: its p50, p95, p99 in seconds."""
    for row in reversed(history[-RECENT:]):
        if row[stage]["count"]:
            found: Mapping[str, float] = row[stage]
            return found
    return None


def _pace(history: Sequence[Mapping[str, Any]]) -> str:
    latency = recent_latency(history)
    return f"p95 {duration(latency['p95'])}" if latency else f"no requests in the last {RECENT} minutes"


def _joined(findings: Sequence[Mapping[str, str]]) -> str:
    if len(findings) == 1:
        return f"{findings[0]['detail']}: {findings[0]['remedy']}"
    more = len(findings) - NAMED
    said = "; ".join(finding["detail"] for finding in findings[:NAMED])
    return said + (f"; and {more} more" if more > 0 else "")
