"""What a beat changes, decided without a database: is it news, how far did the counters go, is this kiosk there twice?

Order is (boot, seq). A boot's place is the order in which it first spoke to us; no clock is asked.

    the beat's boot       its seq          verdict
    --------------------  ---------------  -----------------------------------------------------------------
    not heard of          any              news: the kiosk started again
    the latest            higher           news
    the latest            not higher       repeated: sent twice; from another address: two with one memory
    an earlier one        higher           returned: it speaks although a later boot spoke. From another
                                           address, or not for the first time: two machines with one key
    an earlier one        not higher       repeated: it was long on its way
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from admin import limits
from admin.deviceapi.messages import COUNTERS

NEWS: Final = "news"
REPEATED: Final = "repeated"
RETURNED: Final = "returned"

_EARLIEST: Final = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
_LATEST: Final = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True)
class Known:
    """What was known before: of the kiosk, and of the beat's own boot (``ordinal`` None: it never beat)."""

    latest: int  # ordinal of the latest boot; 0: none yet
    latest_address: str
    counters: Mapping[str, int]
    ordinal: int | None
    last_seq: int
    address: str
    returned: int


@dataclass(frozen=True)
class Verdict:
    """``grown``: what each counter adds. ``events``: type, severity and detail of what we noticed ourselves."""

    kind: str
    ordinal: int
    suspicious: str = ""
    grown: dict[str, int] = field(default_factory=dict)
    events: tuple[tuple[str, str, dict[str, str | int]], ...] = ()


def judge(known: Known, seq: int, address: str, counters: Mapping[str, int]) -> Verdict:
    if known.ordinal is None:
        return _news(known, known.latest + 1, counters)
    if known.ordinal == known.latest:
        if seq > known.last_seq:
            return _news(known, known.ordinal, counters)
        return Verdict(REPEATED, known.ordinal, "one_memory" if address != known.address else "")
    if seq <= known.last_seq:
        return Verdict(REPEATED, known.ordinal)
    both = address != known.latest_address or known.returned > 0
    return Verdict(RETURNED, known.ordinal, "two_boots" if both else "")


def _news(known: Known, ordinal: int, counters: Mapping[str, int]) -> Verdict:
    grown: dict[str, int] = {}
    shrunk: dict[str, str | int] = {}
    jumped: dict[str, str | int] = {}
    for name in COUNTERS:
        if name not in counters or name not in known.counters:
            continue  # the first time it is a level, not a growth: it may be years old
        step = counters[name] - known.counters[name]
        if step < 0:
            # It was installed anew and counts from zero: what it shows has all happened since.
            shrunk[name] = known.counters[name]
            step = counters[name]
        if step > limits.COUNTER_STEP_MAX:
            jumped[name] = step
            step = 0
        if step:
            grown[name] = step
    events = []
    if shrunk:
        events.append(("counters_reset", "warning", shrunk))
    if jumped:
        events.append(("counters_jumped", "warning", jumped))
    return Verdict(NEWS, ordinal, grown=grown, events=tuple(events))


def sane(instant: datetime.datetime) -> datetime.datetime:
    """A kiosk's clock within a century of ours: it may show anything, and is kept to show that it did."""
    try:
        when = instant.astimezone(datetime.UTC)
    except OverflowError:
        when = _EARLIEST if instant.year < 2000 else _LATEST
    return min(max(when, _EARLIEST), _LATEST)


def skew_ms(theirs: datetime.datetime, ours: datetime.datetime) -> int:
    """How far their clock is ahead."""
    difference = sane(theirs) - ours
    ms = difference // datetime.timedelta(milliseconds=1)
    return min(max(ms, -limits.SKEW_MAX_MS), limits.SKEW_MAX_MS)
