"""Python's garbage collector, kept off the path of payments.

It looks for objects that hold each other in a circle. A payment makes none (``tests/switch/runtime/test_garbage.py``
counts them), and everything else goes when nobody holds it. But left to itself the collector walks over all that the
worker remembers again and again: with 20,000 payments in memory that was a third of all CPU time, in pauses of 50 ms.

So only what is new is looked at as it comes, in portions that take 2 ms. All of it is looked at when no payment is
open, or once in a long while in any case: what makes circles is rare (errors with their frames, ended connections).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable
from typing import Any, Final

from switch import limits
from switch.ports import Clock, Observer

_NEVER: Final = 1_000_000_000


class Garbage:
    """One in a process. Args: open_count: of payments, to find a quiet moment."""

    def __init__(self, clock: Clock, observer: Observer, open_count: Callable[[], int]) -> None:
        self._clock = clock
        self._observer = observer
        self._open_count = open_count
        self._before: tuple[int, int, int] | None = None
        self._began_at = 0.0
        self._all_at = 0.0  # when everything was looked at last
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._before = gc.get_threshold()
        gc.collect()
        gc.freeze()  # modules, tables, specs: they stay
        gc.set_threshold(limits.GC_YOUNG_OBJECTS, _NEVER, _NEVER)
        gc.callbacks.append(self._told)
        self._all_at = self._clock.now()
        self._task = asyncio.create_task(self._work(), name="garbage")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._before is not None:
            gc.callbacks.remove(self._told)
            gc.set_threshold(*self._before)
            gc.unfreeze()

    def look(self) -> bool:
        """Look at everything, if it is time to. True: it was."""
        since_s = self._clock.now() - self._all_at
        due_s = limits.GC_BUSY_S if self._open_count() else limits.GC_QUIET_S
        if since_s < due_s:
            return False
        gc.collect()
        self._all_at = self._clock.now()
        return True

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(limits.GC_LOOK_S)
            self.look()

    def _told(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._began_at = self._clock.now()
        else:
            self._observer.observe("switch_gc_pause_seconds", self._clock.now() - self._began_at)
