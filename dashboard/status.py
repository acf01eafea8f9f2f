"""The sentence at the top of the page: how the system is doing, and if not well, why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dashboard.formatting import count, duration

#: Findings that the sentence names; the others are counted.
NAMED = 3
#: Minutes of history that count as now.
RECENT = 5

#: Without a snapshot: state -> level, word, sentence.
OUTAGES: Mapping[str, tuple[str, str, str]] = {
    "api_down": ("bad", "API down", "The API does not answer. The numbers below are the last ones received."),
    "api_slow": ("warn", "API slow", "The API did not answer in time. The numbers below are the last ones received."),
    "redis_down": ("bad", "Redis down", "The API cannot reach Redis. Workers and lanes are unknown until it is back."),
    "login": ("warn", "Login needed", "The API requires a key. Log in to see its data."),
    "api_error": ("bad", "API error", "The API answered with an error."),
}


def verdict(snapshot: Mapping[str, Any]) -> dict[str, str]:
    """The API's findings as a level (ok, warn, bad), a word and a sentence."""
    findings: Sequence[Mapping[str, str]] = snapshot["findings"]
    if not findings:
        level, sentence = "ok", f"{count(len(snapshot['workers']), 'worker')}, {_pace(snapshot['history'])}"
    else:
        level = "bad" if any(finding["severity"] == "problem" for finding in findings) else "warn"
        sentence = _joined(findings)
    return {"level": level, "word": snapshot["status"].capitalize(), "sentence": sentence}


def outage(state: str, detail: str = "") -> dict[str, str]:
    """The same without a snapshot; ``detail`` is the error's message."""
    level, word, sentence = OUTAGES[state]
    quoted = f" ({detail})" if detail and state == "api_error" else ""
    return {"level": level, "word": word, "sentence": sentence + quoted}


def recent_latency(history: Sequence[Mapping[str, Any]], stage: str = "total") -> Mapping[str, float] | None:
    """Mean and percentiles, in seconds, of the newest of the last minutes in which a request ended."""
    return next((row[stage] for row in reversed(history[-RECENT:]) if row[stage]["count"]), None)


def _pace(history: Sequence[Mapping[str, Any]]) -> str:
    latency = recent_latency(history)
    return f"p95 {duration(latency['p95'])}" if latency else f"no requests in the last {RECENT} minutes"


def _joined(findings: Sequence[Mapping[str, str]]) -> str:
    if len(findings) == 1:
        return f"{findings[0]['detail']} \u2013 {findings[0]['remedy']}"
    more = len(findings) - NAMED
    named = "; ".join(finding["detail"] for finding in findings[:NAMED])
    return named + (f"; and {more} more" if more > 0 else "")
