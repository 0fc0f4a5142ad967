"""All deadlines of a worker on one timer of the loop: a heap of (when, callback)."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count

from switch.ports import Clock, Observer


class Timer:
    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Timers:
    """Callbacks at monotonic times. One that raises is logged and does not take the others along."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, observer: Observer) -> None:
        self._loop = loop
        self._clock = clock
        self._observer = observer
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._handle: asyncio.TimerHandle | None = None
        self._armed_for = float("inf")

    def at(self, when: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(callback)
        heapq.heappush(self._heap, (when, next(self._order), timer))
        if when < self._armed_for:
            self._arm(when)
        return timer

    def after(self, seconds: float, callback: Callable[[], None]) -> Timer:
        return self.at(self._clock.now() + seconds, callback)

    def stop(self) -> None:
        self._heap.clear()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self, when: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._armed_for = when
        self._handle = self._loop.call_later(max(0.0, when - self._clock.now()), self._fire)

    def _fire(self) -> None:
        self._handle = None
        self._armed_for = float("inf")
        now = self._clock.now()
        while self._heap and self._heap[0][0] <= now:
            timer = heapq.heappop(self._heap)[2]
            callback = timer.callback
            if callback is None:
                continue
            timer.callback = None
            try:
                callback()
            except Exception as error:
                self._observer.event("timer.failed", error=repr(error), kind=type(error).__name__)
        if self._heap:
            self._arm(self._heap[0][0])
