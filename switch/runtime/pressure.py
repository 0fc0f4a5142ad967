"""How long work waits in this worker, and how much may be in progress so that it does not wait for too long.

Work waits in two places: on the loop, behind what came with it, and for its turn in a commit. Neither can be bounded by
a count known beforehand, because what a piece of work costs differs from machine to machine; the wait is what people
feel, so it is what is measured. Looked at are the shortest waits of a moment: one pause (a collection, a slow commit)
is no overload, a queue that never empties is.

While there is too much, bill inquiries are turned away as long as more than ``room`` is in progress (``dispatcher``): a
customer who has not begun loses nothing, and who has begun is served. The room shrinks by a share while work waits too
long and grows by a step while it does not, as TCP finds its window: so the worker stays busy, and no burst is let in
that would wait for seconds. It never shrinks to nothing: a machine that is slow for another reason still serves some.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from switch import limits
from switch.ports import Clock, Journal, Observer


class Pressure:
    every_s = limits.PRESSURE_EVERY_S  # a simulated loop needs looks less often
    in_progress: Callable[[], int]  # inquiries and payments of this worker now

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, observer: Observer, journal: Journal) -> None:
        self._loop = loop
        self._clock = clock
        self._observer = observer
        self._journal = journal
        self._recent: deque[float] = deque([0.0], maxlen=limits.PRESSURE_LOOKS)
        self._looks = 0  # since the room was last changed
        self._busiest = 0  # most that was in progress since then
        self._due_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.overloaded = False
        self.room = 0  # while overloaded: new work is turned away when so much is in progress

    def start(self) -> None:
        self._due_at = self._clock.now() + self.every_s
        self._timer = self._loop.call_later(self.every_s, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def is_full(self) -> bool:
        """Asked before new work is taken while ``overloaded``."""
        return self.in_progress() >= self.room

    def _look(self) -> None:
        now = self._clock.now()
        delay_s = max(now - self._due_at, self._journal.queue_s)
        self._recent.append(delay_s)
        self._observer.observe("switch_queue_delay_seconds", delay_s)
        self._judge(min(self._recent))
        self._due_at = now + self.every_s
        self._timer = self._loop.call_later(self.every_s, self._look)

    def _judge(self, delay_s: float) -> None:
        waits = delay_s > limits.ADMISSION_DELAY_S
        if not self.overloaded:
            if waits:
                self._change(True, delay_s)
                self._shrink()
            return
        self._looks += 1
        self._busiest = max(self._busiest, self.in_progress())
        if self._looks < limits.PRESSURE_LOOKS:
            return
        if waits:
            self._shrink()
        elif self._busiest < self.room:
            self._change(False, delay_s)  # nobody was turned away
        else:
            self.room += max(1, round(self.room * limits.ROOM_GROWS_BY))
        self._looks = self._busiest = 0

    def _shrink(self) -> None:
        room = self.room or self.in_progress()
        self.room = max(limits.ROOM_MIN, round(min(room, self.in_progress()) * limits.ROOM_SHRINKS_TO))

    def _change(self, overloaded: bool, delay_s: float) -> None:
        self.overloaded = overloaded
        self.room = self._looks = self._busiest = 0
        self._observer.gauge("switch_overload_state", overloaded)
        name = "overload.began" if overloaded else "overload.over"
        self._observer.event(name, level="warning", delay_s=round(delay_s, 3))
