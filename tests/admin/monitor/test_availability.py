"""Availability: the outage of the requirement, windows, the budget to the millisecond, and what was not measured."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin import limits
from admin.monitor.availability import (
    SLOT_MS,
    Payable,
    Spent,
    budget_ms,
    down_slots,
    outages,
    payable,
    refused_slots,
    spent,
)

DAY = 2880  # slots
START = 1_790_000_000 // 30  # some slot


def probed(outage: tuple[float, float], *, slots: int = DAY, phase: float = 0.0) -> dict[int, bool]:
    """Probes of a day, ``phase`` seconds into their slots, of a service that is out from … to (seconds)."""
    return {START + slot: not outage[0] <= slot * 30 + phase < outage[1] for slot in range(slots)}


@pytest.mark.parametrize("seed", range(200))
def test_an_outage_of_61_minutes_is_61_minutes_give_or_take_30_s(seed: int) -> None:
    dice = random.Random(seed)
    begins = dice.uniform(100, 80_000)
    probes = probed((begins, begins + 61 * 60), phase=dice.uniform(0, 30))
    found = spent((START, START + DAY), probes, {})
    assert abs(found.down_ms - 61 * 60_000) <= 30_000
    assert found.measured_ms == 86_400_000 and found.missed_ms == 0
    (only,) = outages(down_slots(probes))
    assert (only[1] - only[0]) * SLOT_MS == found.down_ms


def test_the_budget_is_exact() -> None:
    assert budget_ms(2026) == 525_600 * 60 and budget_ms(2028) == 527_040 * 60
    year = Spent(measured_ms=365 * 86_400_000, down_ms=budget_ms(2026))
    assert year.raw == 999_000, "who spends it all has kept the promise exactly"
    worse = year + Spent(down_ms=1)
    assert worse.raw == 998_999, "and a millisecond more is below it"


def test_one_lost_answer_is_no_outage_and_two_are() -> None:
    assert down_slots({1: True, 2: False, 3: True, 4: False, 5: False, 6: True}) == {4, 5}
    assert down_slots({1: False, 3: False}) == set(), "what lies between them was not measured"
    whole = spent((2, 3), {1: False, 2: False, 3: True}, {})
    assert whole == Spent(30_000, 30_000), "a neighbour before the span confirms it"


def test_payments_that_fail_are_an_outage_that_no_probe_sees() -> None:
    minutes = {START // 2: (4, 10), START // 2 + 1: (5, 10), START // 2 + 2: (0, 9)}
    assert START % 2 == 0
    assert refused_slots(minutes) == {START, START + 1}
    found = spent((START, START + 6), {START + 4: True, START + 5: True}, minutes)
    assert found == Spent(measured_ms=120_000, down_ms=60_000, missed_ms=60_000)


def test_an_approved_window_is_no_fault_and_no_merit() -> None:
    probes = probed((3000, 3000 + 3600))
    window = (START + 100, START + 160)  # half an hour of it
    found = spent((START, START + DAY), probes, {}, [window, window])
    assert found.down_ms == 3_600_000 and found.contract_down_ms == 1_800_000
    assert found.raw == (86_400 - 3600) * 1_000_000 // 86_400
    assert found.contract == (86_400 - 1800 - 1800) * 1_000_000 // (86_400 - 1800)
    idle = spent((START, START + DAY), probed((0, 0)), {}, [window])
    assert idle.raw == idle.contract == 1_000_000 and idle.window_ms == 1_800_000


def test_nothing_measured_is_no_number() -> None:
    nothing = spent((START, START + DAY), {}, {})
    assert nothing.raw is None and nothing.contract is None and nothing.missed_ms == 86_400_000
    assert Payable().share is None


def test_a_kiosk_is_available_while_one_can_pay_there_and_its_site_is_open() -> None:
    changes = [(0, None), (1000, True), (2000, False), (2600, True), (9000, None)]
    assert payable(changes, 1500, 3600) == Payable(open_s=2100, payable_s=1500)
    assert payable(changes, 0, 20_000) == Payable(open_s=8000, payable_s=7400)
    assert payable([], 0, 100) == Payable()
    assert payable([(50, True)], 0, 100) == Payable(50, 50)


@given(st.dictionaries(st.integers(0, 200), st.booleans()), st.integers(0, 200), st.integers(0, 200), st.data())
def test_a_span_is_the_sum_of_its_parts(probes: dict[int, bool], low: int, high: int, data: st.DataObject) -> None:
    low, high = min(low, high), max(low, high)
    cut = data.draw(st.integers(low, high))
    minutes = data.draw(st.dictionaries(st.integers(0, 99), st.tuples(st.integers(0, 9), st.integers(9, 20))))
    windows = data.draw(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), max_size=3))
    whole = spent((low, high), probes, minutes, windows)
    assert whole == spent((low, cut), probes, minutes, windows) + spent((cut, high), probes, minutes, windows)
    assert whole.down_ms <= whole.measured_ms and whole.measured_ms + whole.missed_ms == (high - low) * SLOT_MS
    assert 0 <= whole.down_in_window_ms <= min(whole.down_ms, whole.window_ms)
    assert limits.PROBE_S * 1000 == SLOT_MS
