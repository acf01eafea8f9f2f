"""How long a benchmark may take: rounds are repeated while another one fits."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator


class Budget:
    """So many seconds from now on."""

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._seconds = seconds

    @property
    def left(self) -> float:
        """Seconds left; negative when it was exceeded."""
        return self._seconds - (self._clock() - self._began)

    def rounds(self, most: int) -> Iterator[int]:
        """0, 1, 2 ... at most ``most`` of them; after the first, only while one as long as the longest fits."""
        longest = 0.0
        for number in range(most):
            if number and longest > self.left:
                say(f"{self.left:.0f} s left, a round takes {longest:.0f} s: {number} rounds it is")
                return
            began = self._clock()
            yield number
            longest = max(longest, self._clock() - began)


def say(text: str) -> None:
    """Progress, on standard error with the time of day."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()
