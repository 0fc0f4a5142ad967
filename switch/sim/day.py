"""The business day of a simulated host: its own, with a cut-over that comes when the drill wants it."""

from __future__ import annotations

import asyncio
import datetime
import functools
import time
from typing import Final

CUT_OVER_DEFAULT_S: Final = 12 * 3_600.0  # far from every ordinary run
_CHINA: Final = datetime.timezone(datetime.timedelta(hours=8))


def wall_s() -> float:
    """Unix seconds: of the running loop if it has a time of day of its own (a simulated one), else the system's."""
    loop = asyncio._get_running_loop()
    of_loop = getattr(loop, "wall_s", None)
    return time.time() if of_loop is None else float(of_loop())


def stopwatch_s() -> float:
    """For measuring: finer than a loop's own clock, but on a simulated loop that clock, for there is no other."""
    loop = asyncio._get_running_loop()
    return loop.time() if loop is not None and hasattr(loop, "wall_s") else time.perf_counter()


def china_now() -> datetime.datetime:
    return datetime.datetime.fromtimestamp(wall_s(), _CHINA)


def time_and_date() -> tuple[str, str]:
    """Local time and date as messages have them: HHMMSS and MMDD."""
    return _of_second(int(wall_s()))


@functools.lru_cache(maxsize=16)
def _of_second(second: int) -> tuple[str, str]:
    now = datetime.datetime.fromtimestamp(second, _CHINA)
    return f"{now:%H%M%S}", f"{now:%m%d}"


class BusinessDay:
    """The date on which things count, moving to the next one at each cut-over.

    Args:
        first: Date at the start of the host's ledger.
        cut_over_at: Unix seconds of the first cut-over; the following ones come every 24 hours after it.
    """

    def __init__(self, first: datetime.date, cut_over_at: float) -> None:
        self._first = first
        self._cut_over_at = cut_over_at
        self._next_at = 0.0
        self._date = first
        self._advance(wall_s())

    def date(self) -> datetime.date:
        now = wall_s()
        if now >= self._next_at:
            self._advance(now)
        return self._date

    def facts(self) -> dict[str, object]:
        """What a ledger keeps of it, and ``from_facts`` reads."""
        return {"first_day": self._first.isoformat(), "cut_over_at": self._cut_over_at}

    @classmethod
    def from_facts(cls, facts: dict[str, object]) -> BusinessDay:
        return cls(datetime.date.fromisoformat(str(facts["first_day"])), float(str(facts["cut_over_at"])))

    @classmethod
    def starting_now(cls, cut_over_in_s: float) -> BusinessDay:
        return cls(china_now().date(), wall_s() + cut_over_in_s)

    def moved(self, cut_over_in_s: float) -> BusinessDay:
        """The same day with its next cut-over so many seconds from now."""
        return BusinessDay(self.date(), wall_s() + cut_over_in_s)

    def _advance(self, now: float) -> None:
        passed = 0 if now < self._cut_over_at else int((now - self._cut_over_at) // 86_400) + 1
        self._date = self._first + datetime.timedelta(days=passed)
        self._next_at = self._cut_over_at + passed * 86_400
