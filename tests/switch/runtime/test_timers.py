"""The wheel: never early, at most a tick late, in order, and nothing stays behind of what was cancelled."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from switch.limits import TIMER_TICK_S
from switch.runtime.timers import Timer, Timers


class Handle:
    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self.when, self.call, self.cancelled = when, call, False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """A clock that is moved by hand, and a loop that calls what is due then."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.handles: list[Handle] = []
        self.events: list[str] = []

    def now(self) -> float:
        return self.time

    def wall_us(self) -> int:
        return 0

    def call_later(self, delay: float, call: Callable[[], None]) -> Handle:
        handle = Handle(self.time + delay, call)
        self.handles.append(handle)
        return handle

    def event(self, name: str, **facts: Any) -> None:
        self.events.append(name)

    def run_until(self, until: float) -> None:
        while True:
            due = [each for each in self.handles if not each.cancelled and each.when <= until]
            if not due:
                self.time = until
                return
            first = min(due, key=lambda each: each.when)
            self.handles.remove(first)
            self.time = max(self.time, first.when)
            first.call()


def wheel() -> tuple[Timers, Loop]:
    loop = Loop()
    return Timers(loop, loop, loop), loop  # type: ignore[arg-type]


def test_never_early_and_at_most_a_tick_late() -> None:
    timers, loop = wheel()
    dice = random.Random(7)
    late: list[float] = []

    def called(when: float) -> None:
        late.append(loop.time - when)

    for _ in range(2_000):
        when = loop.time + dice.choice((0.0, 0.001, 0.5, 60.0)) * dice.random()
        timers.at(when, lambda when=when: called(when))  # type: ignore[misc]
    loop.run_until(loop.time + 100)
    assert len(late) == 2_000 and len(timers) == 0
    assert min(late) >= 0.0 and max(late) <= TIMER_TICK_S + 1e-9


def test_what_is_cancelled_is_not_called_and_not_kept() -> None:
    timers, loop = wheel()
    called: list[int] = []
    set_ones = [timers.after(5.0, lambda n=n: called.append(n)) for n in range(1_000)]  # type: ignore[misc]
    for timer in set_ones[::2]:
        timer.cancel()
        timer.cancel()
    assert len(timers) == 500
    loop.run_until(loop.time + 10)
    assert called == list(range(1, 1_000, 2))
    set_ones[1].cancel()


def test_one_that_is_called_may_cancel_and_set_others_of_its_tick() -> None:
    timers, loop = wheel()
    called: list[str] = []
    second: list[Timer] = []

    def first() -> None:
        called.append("first")
        second[0].cancel()
        timers.after(0.0, lambda: called.append("third"))

    timers.after(1.0, first)
    second.append(timers.after(1.0, lambda: called.append("second")))
    loop.run_until(loop.time + 2)
    assert called == ["first", "third"]


def test_one_that_fails_is_said_and_does_not_take_the_others_along() -> None:
    timers, loop = wheel()
    called: list[int] = []
    timers.after(1.0, lambda: 1 // 0)  # type: ignore[arg-type]
    timers.after(1.0, lambda: called.append(1))
    loop.run_until(loop.time + 2)
    assert called == [1] and loop.events == ["timer.failed"]


def test_an_earlier_one_moves_the_loops_timer_forward() -> None:
    timers, loop = wheel()
    called: list[str] = []
    timers.after(9.0, lambda: called.append("late"))
    timers.after(1.0, lambda: called.append("early"))
    loop.run_until(loop.time + 2)
    assert called == ["early"]
    loop.run_until(loop.time + 10)
    assert called == ["early", "late"]


def test_on_a_real_loop() -> None:
    async def go() -> float:
        loop = asyncio.get_running_loop()

        class Clock:
            now = staticmethod(loop.time)

            def wall_us(self) -> int:
                return 0

        timers = Timers(loop, Clock(), Loop())  # type: ignore[arg-type]
        done = loop.create_future()
        began = loop.time()
        timers.after(0.05, lambda: done.set_result(loop.time()))
        ended: float = await asyncio.wait_for(done, 5)
        timers.stop()
        return ended - began

    assert asyncio.run(go()) >= 0.05 - 1e-6


def test_a_time_whose_tick_is_rounded_down_is_not_met_early() -> None:
    """A breath before its time a payment has nothing to do and sets the same timer again: one step without an end."""
    when = 3.9000000000000004  # 390 ticks of 0.01 s are a breath less
    assert when > 390 * TIMER_TICK_S and when / TIMER_TICK_S == 390.0
    timers, loop = wheel()
    loop.time = 0.0
    called: list[float] = []
    timers.at(when, lambda: called.append(loop.time))
    loop.run_until(390 * TIMER_TICK_S)
    assert called == []
    loop.run_until(4.0)
    assert len(called) == 1 and when <= called[0] <= when + TIMER_TICK_S
