"""How long work waits in this worker, and whether that is too long to take more.

Work waits in two places: on the loop, behind what came with it, and for its turn in a commit. Neither can be bounded by
a count, because what a piece of work costs differs from machine to machine; the wait is what people feel, so it is what
is measured. Looked at are the shortest waits of a moment: one pause (a collection, a slow commit) is no overload, a
queue that never empties is.

When there is too much, bill inquiries are turned away (``dispatcher``): a customer who has not begun loses nothing,
and who has begun is served.
"""

from __future__ import annotations

import asyncio
from collections import deque

from switch import limits
from switch.ports import Clock, Journal, Observer


class Pressure:
    every_s = limits.PRESSURE_EVERY_S  # a simulated loop needs looks less often

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, observer: Observer, journal: Journal) -> None:
        self._loop = loop
        self._clock = clock
        self._observer = observer
        self._journal = journal
        self._recent: deque[float] = deque([0.0], maxlen=limits.PRESSURE_LOOKS)
        self._due_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.overloaded = False

    def start(self) -> None:
        self._due_at = self._clock.now() + self.every_s
        self._timer = self._loop.call_later(self.every_s, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        now = self._clock.now()
        delay_s = max(now - self._due_at, self._journal.queue_s)
        self._recent.append(delay_s)
        self._observer.observe("switch_queue_delay_seconds", delay_s)
        self._judge(min(self._recent))
        self._due_at = now + self.every_s
        self._timer = self._loop.call_later(self.every_s, self._look)

    def _judge(self, delay_s: float) -> None:
        overloaded = delay_s > limits.ADMISSION_DELAY_S
        if overloaded is not self.overloaded:
            self.overloaded = overloaded
            self._observer.gauge("switch_overload_state", overloaded)
            name = "overload.began" if overloaded else "overload.over"
            self._observer.event(name, level="warning", delay_s=round(delay_s, 3))
