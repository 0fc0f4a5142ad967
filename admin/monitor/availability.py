"""Availability: how much of the time the service stood, raw and as the contract counts it. Pure, in whole milliseconds.

Each service is probed once in a slot of ``limits.PROBE_S``. A slot is down

- when its probe failed and a probe beside it did too: one lost answer is no outage, and an outage that begins between
  two probes is counted to within a slot at each end;
- when of the payments of its minute less than half went well, at least ``limits.PROBE_PAYMENTS_MIN`` of them, not
  counting those that the customer or his bank refused.

A slot without a probe (this service was stopped) is not measured: neither up nor down, and told as such.

    raw        = 1 - down / measured
    contract   = 1 - (down outside of approved windows) / (measured - approved windows)
    budget     = a thousandth of the year: 525.6 min, in a leap year 527.04
"""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from admin import limits

PROMISED_PER_MILLE: Final = 999  # R48: 99.9 % of a year
SLOT_MS: Final = int(limits.PROBE_S * 1000)
SLOTS_A_MINUTE: Final = int(60 / limits.PROBE_S)
PER_MILLION: Final = 1_000_000

Slot = int  # number of a slot since the epoch: epoch seconds // PROBE_S
Span = tuple[Slot, Slot]  # from, to (not included)


@dataclass(frozen=True, slots=True)
class Spent:
    """Of a time, or of several added up; in milliseconds."""

    measured_ms: int = 0
    down_ms: int = 0
    window_ms: int = 0  # measured within approved windows
    down_in_window_ms: int = 0
    missed_ms: int = 0  # not measured

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.measured_ms + other.measured_ms,
            self.down_ms + other.down_ms,
            self.window_ms + other.window_ms,
            self.down_in_window_ms + other.down_in_window_ms,
            self.missed_ms + other.missed_ms,
        )

    @property
    def raw(self) -> int | None:
        """Millionths, rounded down; None: nothing was measured."""
        return _millionths(self.measured_ms - self.down_ms, self.measured_ms)

    @property
    def contract(self) -> int | None:
        """Millionths, rounded down; None: nothing was measured outside of windows."""
        counted_ms = self.measured_ms - self.window_ms
        return _millionths(counted_ms - self.contract_down_ms, counted_ms)

    @property
    def contract_down_ms(self) -> int:
        return self.down_ms - self.down_in_window_ms


def _millionths(part: int, whole: int) -> int | None:
    """Rounded down: 99.9999 % is never shown for less."""
    return part * PER_MILLION // whole if whole else None


def budget_ms(year: int) -> int:
    """How long the service may be down in a year.

    >>> budget_ms(2026), budget_ms(2028)  # 525.6 and 527.04 minutes
    (31536000, 31622400)
    """
    days = 366 if calendar.isleap(year) else 365
    return days * 86_400_000 * (1000 - PROMISED_PER_MILLE) // 1000


def down_slots(probes: Mapping[Slot, bool]) -> set[Slot]:
    """Slots whose probe failed (False) together with the one before or after."""
    failed = {slot for slot, good in probes.items() if not good}
    return {slot for slot in failed if slot - 1 in failed or slot + 1 in failed}


def refused_slots(minutes: Mapping[int, tuple[int, int]]) -> set[Slot]:
    """Slots of the minutes in which payments did not go through: minute (epoch seconds // 60) -> (good, all)."""
    bad = (minute for minute, (good, all_) in minutes.items() if all_ >= limits.PROBE_PAYMENTS_MIN and 2 * good < all_)
    return {minute * SLOTS_A_MINUTE + number for minute in bad for number in range(SLOTS_A_MINUTE)}


def spent(
    span: Span,
    probes: Mapping[Slot, bool],
    minutes: Mapping[int, tuple[int, int]],
    windows: Sequence[Span] = (),
) -> Spent:
    """What a span of slots shows. A failed probe is judged with its neighbours, so give those on both sides, too.

    A minute in which payments failed is measured even where no probe ran: the journal is a witness of its own.
    """
    start, end = span
    refused = refused_slots(minutes)
    down = {slot for slot in down_slots(probes) | refused if start <= slot < end}
    measured = {slot for slot in probes if start <= slot < end} | down
    excused = {slot for opens, closes in windows for slot in range(max(opens, start), min(closes, end))}
    return Spent(
        measured_ms=len(measured) * SLOT_MS,
        down_ms=len(down) * SLOT_MS,
        window_ms=len(measured & excused) * SLOT_MS,
        down_in_window_ms=len(down & excused) * SLOT_MS,
        missed_ms=(end - start - len(measured)) * SLOT_MS,
    )


def outages(down: Iterable[Slot]) -> list[Span]:
    """Slots that are down, as spans, oldest first.

    >>> outages({7, 3, 4, 5})
    [(3, 6), (7, 8)]
    """
    found: list[Span] = []
    for slot in sorted(down):
        if found and found[-1][1] == slot:
            found[-1] = (found[-1][0], slot + 1)
        else:
            found.append((slot, slot + 1))
    return found


@dataclass(frozen=True, slots=True)
class Payable:
    """Of one kiosk and day: how long its site was open, and how long one could pay there; in seconds."""

    open_s: int = 0
    payable_s: int = 0

    def __add__(self, other: Payable) -> Payable:
        return Payable(self.open_s + other.open_s, self.payable_s + other.payable_s)

    @property
    def share(self) -> int | None:
        """Millionths, rounded down."""
        return _millionths(self.payable_s, self.open_s)


def payable(changes: Sequence[tuple[int, bool | None]], opens: int, closes: int) -> Payable:
    """``changes``: when (epoch seconds, in order), and what was so from then on: True, False, None where the kiosk was
    not in service or nothing was known of it, which is nobody's availability. ``opens``, ``closes``: epoch seconds.

    >>> payable([(0, True), (600, False), (1200, None)], 300, 1500)
    Payable(open_s=900, payable_s=300)
    """
    open_s = payable_s = 0
    for (at, can), (until, _) in pairwise([*changes, (closes, None)]):
        within = max(0, min(until, closes) - max(at, opens))
        open_s += within if can is not None else 0
        payable_s += within if can else 0
    return Payable(open_s, payable_s)
