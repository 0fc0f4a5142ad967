"""A payment leaves nothing for the garbage collector, and the collector is kept off the path."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

from benchmarks.whole import Quiet, Whole
from switch import limits
from switch.runtime.garbage import Garbage


class Clock:
    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> float:
        return self.at

    def wall_us(self) -> int:
        return 0


def test_a_payment_makes_no_circles(tmp_path: Path) -> None:
    """Counted over inquiries, charges, postings and answers of whole payments, from bytes to bytes."""

    async def pay() -> int:
        whole = Whole(tmp_path, kiosks=5)
        await whole.start()
        for _ in range(3):
            whole.turn()
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                whole.turn()
            return gc.collect()
        finally:
            gc.enable()
            await whole.stop()

    assert asyncio.run(pay()) == 0


def test_only_what_is_new_is_looked_at_by_itself_and_all_when_it_is_quiet() -> None:
    async def watch() -> None:
        before, clock, observer, open_payments = gc.get_threshold(), Clock(), Quiet(), 3
        garbage = Garbage(clock, observer, lambda: open_payments)
        garbage.start()
        try:
            young, middle, old = gc.get_threshold()
            assert young == limits.GC_YOUNG_OBJECTS and middle == old > 1_000_000
            assert gc.get_freeze_count() > 10_000
            clock.at += limits.GC_QUIET_S
            assert not garbage.look(), "payments are open"
            open_payments = 0
            assert garbage.look()
            assert not garbage.look(), "just done"
            open_payments = 3
            clock.at += limits.GC_BUSY_S
            assert garbage.look()
            assert b"switch_gc_pause_seconds_count 2.0" in observer.text()
        finally:
            await garbage.stop()
        assert gc.get_threshold() == before and gc.get_freeze_count() == 0

    asyncio.run(watch())
