"""The real clock and the real dice behind their ports."""

from __future__ import annotations

import random
import time


class SystemClock:
    # Themselves, and no methods around them: a payment asks thirty times.
    now = staticmethod(time.monotonic)

    def wall_us(self) -> int:
        return time.time_ns() // 1_000


class SystemDice:
    """Jitter only: nothing secret comes from here."""

    def __init__(self) -> None:
        self._random = random.Random()  # noqa: S311 - spreads reconnects and retries, guards nothing

    def uniform(self) -> float:
        return self._random.random()
