"""Days of the two hosts: cut-over, year's end, and how long it still is."""

from __future__ import annotations

from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from switch.machines.days import CHINA, day_number, local, seconds_to_cut_over, settlement_day

CUT_OVER = 23 * 60


def us(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=CHINA).timestamp() * 1_000_000)  # type: ignore[misc, arg-type]


def test_the_day_changes_at_the_cut_over_not_at_midnight() -> None:
    assert settlement_day(us(2026, 12, 31, 22, 59, 59), CUT_OVER) == 20261231
    assert settlement_day(us(2026, 12, 31, 23, 0, 0), CUT_OVER) == 20270101
    assert settlement_day(us(2027, 1, 1, 0, 0, 1), CUT_OVER) == 20270101


def test_local_time_is_chinas() -> None:
    assert day_number(local(us(2026, 3, 1, 0, 0, 0))) == 20260301
    assert local(0).hour == 8


@given(st.integers(0, 4_000_000_000_000_000), st.integers(0, 1439))
def test_the_day_changes_exactly_when_the_time_is_up(wall_us: int, minute: int) -> None:
    seconds = seconds_to_cut_over(wall_us, minute)
    assert 0 < seconds <= 86_400
    day = settlement_day(wall_us, minute)
    assert settlement_day(wall_us + round(seconds * 1_000_000) - 1, minute) == day
    assert settlement_day(wall_us + round(seconds * 1_000_000), minute) > day
