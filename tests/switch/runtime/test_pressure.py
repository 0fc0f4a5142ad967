"""Too much work: bill inquiries are turned away, cheaply and with a right word; nothing that has begun is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import iso8583
from benchmarks.whole import Quiet, Whole
from switch import limits
from switch.runtime.pressure import Pressure
from switch.sim import customers


class Loop:
    """A clock and a loop whose timers come late by ``late_s``."""

    def __init__(self) -> None:
        self.time, self.late_s, self.queue_s = 50.0, 0.0, 0.0
        self._call: Callable[[], None] | None = None

    def now(self) -> float:
        return self.time

    def call_later(self, delay: float, call: Callable[[], None]) -> Loop:
        self._delay, self._call = delay, call
        return self

    def cancel(self) -> None:
        self._call = None

    def turn(self, times: int) -> None:
        for _ in range(times):
            assert self._call is not None
            self.time += self._delay + self.late_s
            self._call()


class Says(Quiet):
    def __init__(self) -> None:
        super().__init__(strict=True)
        self.said: list[str] = []

    def event(self, name: str, **facts: Any) -> None:
        self.said.append(name)


@pytest.fixture
def loop() -> Loop:
    return Loop()


def over(made: Pressure) -> bool:
    return made.overloaded


def pressure(loop: Loop, in_progress: int = 1_000) -> tuple[Pressure, Says]:
    says = Says()
    made = Pressure(loop, loop, says, loop)  # type: ignore[arg-type]
    made.in_progress = lambda: in_progress
    made.start()
    return made, says


def windows(loop: Loop, times: int) -> None:
    loop.turn(times * limits.PRESSURE_LOOKS)


@pytest.mark.parametrize("where", ["late_s", "queue_s"])
def test_a_wait_that_lasts_makes_the_room_small_until_it_is_short(loop: Loop, where: str) -> None:
    made, says = pressure(loop)
    windows(loop, 1)
    setattr(loop, where, 2 * limits.ADMISSION_DELAY_S)
    loop.turn(limits.PRESSURE_LOOKS - 1)
    assert not over(made), "one of the looks was short"
    loop.turn(1)
    assert over(made) and made.room == 850 and made.is_full
    windows(loop, 2)
    assert made.room == pytest.approx(1_000 * limits.ROOM_SHRINKS_TO**3, abs=2)
    windows(loop, 50)
    assert made.room == limits.ROOM_MIN, "some are always served"
    setattr(loop, where, 0.0)
    windows(loop, 3)
    assert limits.ROOM_MIN < made.room < 2 * limits.ROOM_MIN and over(made), "it grows slowly, while it is full"
    made.in_progress = lambda: made.room - 1
    windows(loop, 2)
    assert not over(made)
    assert says.said == ["overload.began", "overload.over"]


def test_the_room_is_measured_by_what_is_in_progress(loop: Loop) -> None:
    """What merely waits for a slow host costs nothing: the room begins at what there is, not at a number."""
    made, _ = pressure(loop, in_progress=40_000)
    loop.queue_s = 1.0
    windows(loop, 1)
    loop.turn(1)
    assert made.room == pytest.approx(34_000)
    made.in_progress = lambda: 2_000
    windows(loop, 1)
    assert made.room == 1_700, "and falls with it"


def test_one_long_pause_is_no_overload(loop: Loop) -> None:
    made, says = pressure(loop)
    windows(loop, 1)
    loop.late_s = 5.0
    loop.turn(1)
    loop.late_s = 0.0
    windows(loop, 2)
    assert not over(made) and says.said == []
    made.stop()


def test_inquiries_hear_that_it_is_busy_and_who_has_begun_is_served(tmp_path: Path) -> None:
    async def go() -> None:
        whole = Whole(tmp_path, kiosks=2)
        await whole.start()
        first, second = whole.ends
        spec = iso8583.load("kiosk", header="tpdu+pos6")
        try:
            whole.give(first, first.inquiry(whole.customer()))
            whole.hosts_answer()
            (quote,) = first.line.take(2)
            whole.switch.pressure.overloaded = True
            whole.give(second, second.inquiry(whole.customer()))
            whole.hosts_answer()
            (busy,) = second.line.take(2)
            answer = spec.decode(busy)
            assert (answer.mti, answer[39], answer[11], 64 in answer) == ("0210", "N2", f"{second.serial:06d}", False)
            read = [first.line.is_read, second.line.is_read]
            whole.soon.later()
            assert (read, second.line.is_read) == ([True, False], True), "its next try waits a while, and costs nothing"
            assert answer[41] == second.terminal_id and "系统繁忙" in answer.raw(48).decode("gbk", "ignore")
            # The customer who has seen his bill pays it.
            whole.give(first, first.payment(quote))
            for _ in range(3):
                whole.commit("")
                whole.hosts_answer()
            whole.commit("")
            (paid,) = first.line.take(2)
            first.check(paid)
            whole.switch.pressure.overloaded = False
            whole.give(second, second.inquiry(customers.account(9)))
            whole.hosts_answer()
            assert spec.decode(second.line.take(2)[0])[39] != "N2"
        finally:
            await whole.stop()

    asyncio.run(go())
