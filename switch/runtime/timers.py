# cython: annotation_typing=False, binding=False
"""All deadlines of a worker on one timer of the loop: a wheel whose spokes are ticks of ``limits.TIMER_TICK_S``.

A payment sets and cancels several deadlines and nearly never meets one. So setting and cancelling are what must be
cheap: each costs one look into a dict, however many there are, and a cancelled one is gone at once. Nothing is called
before its time; it may be called up to a tick after it.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from math import ceil

from switch.limits import TIMER_TICK_S
from switch.ports import Clock, Observer


def _nothing() -> None: ...


class Timer:
    __slots__ = ("_spoke", "callback")

    def __init__(self, callback: Callable[[], None], spoke: dict[Timer, None]) -> None:
        self.callback = callback
        self._spoke = spoke

    def cancel(self) -> None:
        """Again, or after it was called: nothing."""
        self._spoke.pop(self, None)
        self.callback = _nothing  # what it would have called may hold this timer


class Timers:
    """Callbacks at monotonic times. One that raises is logged and does not take the others along."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, observer: Observer) -> None:
        self._loop = loop
        self._clock = clock
        self._observer = observer
        self._spokes: dict[int, dict[Timer, None]] = {}  # by tick; in each the order in which they were set
        self._ticks: list[int] = []  # of the spokes, as a heap
        self._handle: asyncio.TimerHandle | None = None
        self._armed_for: float = float("inf")  # a tick

    def __len__(self) -> int:
        """How many are set."""
        return sum(map(len, self._spokes.values()))

    def at(self, when: float, callback: Callable[[], None]) -> Timer:
        tick = ceil(when / TIMER_TICK_S)
        if tick * TIMER_TICK_S < when:
            tick += 1  # the quotient was rounded down: called a breath too early, it would be set again, for ever
        spoke = self._spokes.get(tick)
        if spoke is None:
            spoke = self._spokes[tick] = {}
            heapq.heappush(self._ticks, tick)
            if tick < self._armed_for:
                self._arm(tick)
        timer = Timer(callback, spoke)
        spoke[timer] = None
        return timer

    def after(self, seconds: float, callback: Callable[[], None]) -> Timer:
        return self.at(self._clock.now() + seconds, callback)

    def stop(self) -> None:
        self._spokes.clear()
        self._ticks.clear()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self, tick: int) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._armed_for = tick
        self._handle = self._loop.call_later(max(0.0, tick * TIMER_TICK_S - self._clock.now()), self._fire)

    def _fire(self) -> None:
        self._handle = None
        self._armed_for = float("inf")
        now = self._clock.now()
        while self._ticks and self._ticks[0] * TIMER_TICK_S <= now:
            spoke = self._spokes.pop(heapq.heappop(self._ticks))
            # One by one: what is called may cancel others of this spoke.
            while spoke:
                timer = next(iter(spoke))
                del spoke[timer]
                callback, timer.callback = timer.callback, _nothing
                try:
                    callback()
                except Exception as error:
                    self._observer.event("timer.failed", error=repr(error), kind=type(error).__name__)
        if self._ticks:
            self._arm(self._ticks[0])
