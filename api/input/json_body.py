"""JSON bodies, limited by counting brackets and commas before parsing.

A parser makes an object for each: 32 MB of ``[[],[],...`` takes six seconds and a gigabyte. The counts take
milliseconds and no memory; they are upper bounds, because brackets and commas in strings count, too.
"""

from __future__ import annotations

import json
from typing import Any

from api.http.problems import HttpProblem

#: Lists and objects; a batch has one per item, a nested tensor one per row.
MAX_CONTAINERS = 100_000
#: Commas, one per number: four images of 512 x 512 x 3.
MAX_ELEMENTS = 3_200_000


def parse(raw: bytes, name: str = "The JSON") -> Any:
    """Parsed ``raw``; errors call it ``name``."""
    if (found := raw.count(b"[") + raw.count(b"{")) > MAX_CONTAINERS:
        raise HttpProblem("invalid_json", f"{name} has {found} lists and objects; {MAX_CONTAINERS} are allowed.")
    if (found := raw.count(b",")) > MAX_ELEMENTS:
        raise HttpProblem("invalid_json", f"{name} has {found} elements; {MAX_ELEMENTS} are allowed.")
    try:
        return json.loads(raw)
    except RecursionError:
        raise HttpProblem("invalid_json", f"{name} is nested too deeply.") from None
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError and integers beyond the digit limit
        raise HttpProblem("invalid_json", f"{name} cannot be read: {error}.") from None
