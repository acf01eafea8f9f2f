"""All parts, in the order in which they run."""

from __future__ import annotations

from bench.parts import end_to_end, growth, overhead, overload, workers

PARTS = (end_to_end.PART, overhead.PART, growth.PART, workers.PART, overload.PART)
