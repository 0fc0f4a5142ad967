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


def pressure(loop: Loop) -> tuple[Pressure, Says]:
    says = Says()
    made = Pressure(loop, loop, says, loop)  # type: ignore[arg-type]
    made.start()
    return made, says


@pytest.mark.parametrize("where", ["late_s", "queue_s"])
def test_a_wait_that_lasts_is_too_much_and_the_first_short_one_ends_it(loop: Loop, where: str) -> None:
    made, says = pressure(loop)
    loop.turn(limits.PRESSURE_LOOKS)
    setattr(loop, where, 2 * limits.ADMISSION_DELAY_S)
    loop.turn(limits.PRESSURE_LOOKS - 1)
    assert not over(made), "one of the looks was short"
    loop.turn(1)
    assert over(made)
    setattr(loop, where, 0.0)
    loop.turn(1)
    assert not over(made)
    assert says.said == ["overload.began", "overload.over"]


def test_one_long_pause_is_no_overload(loop: Loop) -> None:
    made, says = pressure(loop)
    loop.turn(limits.PRESSURE_LOOKS)
    loop.late_s = 5.0
    loop.turn(1)
    loop.late_s = 0.0
    loop.turn(2 * limits.PRESSURE_LOOKS)
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
