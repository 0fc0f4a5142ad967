"""When silence is news: what each kiosk's week usually looks like, and how long nobody may come before we wonder. Pure.

Nightly, from eight weeks (``fit``)::

    rate[kind][hour] = (sessions counted + SHRINKAGE × prior) / (days counted + SHRINKAGE)
    prior[kind][hour] = the kiosk's sessions a day × the city's shape at [kind][hour]

``kind`` is the day of the week, 0 Monday … 6 Sunday, or 7: a holiday. A kiosk of which little is known looks like its
city; one that is known looks like itself. Days on which it was out are left out by whoever counts.

Online (``judge``): Λ is how many sessions were expected since the last one, today's pace of the city included.
Sessions come in bursts, so silence is judged as a gamma-mixed Poisson process judges it: the chance of none at all
while Λ were expected is ``(r / (r + Λ)) ** r``, with r = DISPERSION. An alarm is a chance below the kiosk's own α, and
that is chosen so that a kiosk in order alarms FALSE_ALARMS_A_MONTH times: a busy one has more gaps, a smaller α each.

A kiosk that few use cannot be judged by a gap within a day: it is looked at once a day, when its site closes.

Rates are floats and estimates. Money is fen: ``at_risk_fen`` takes Λ in millionths and stays with integers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from admin import limits

KINDS: Final = 8  # days of the week, and holidays
HOURS: Final = 24
CELLS: Final = KINDS * HOURS
HOLIDAY: Final = 7
MILLION: Final = 1_000_000

SHRINKAGE: Final = 4.0  # pseudo-days of the prior: half of the eight that a weekday has in the window
DISPERSION: Final = 12.0  # r: a coefficient of variation of 0.29 of a kiosk's own pace, beyond its city's
ALPHA_MAX: Final = 1e-3  # a gap that is less rare than this is no news, however seldom the kiosk is used
FALSE_ALARMS_A_MONTH: Final = 0.3
MONTH_DAYS: Final = 30
BY_DAY_BELOW: Final = 8.0  # sessions a day: Λ of a whole day would not reach the threshold
PACE_PRIOR: Final = 50.0  # sessions: until the city has seen so many, today is taken to be a day as usual


def cell(kind: int, hour: int) -> int:
    return kind * HOURS + hour


def kind_of(day: date, special: Mapping[date, int]) -> int:
    """``special``: holidays (7), and days that count as another one, such as a working Saturday."""
    return special.get(day, day.weekday())


@dataclass(frozen=True, slots=True)
class Counted:
    """What was counted of one kiosk in the window: sessions by cell, and how many days of each kind were counted."""

    sessions: Sequence[int]  # CELLS of them
    days: Sequence[int]  # KINDS of them

    def __post_init__(self) -> None:
        assert len(self.sessions) == CELLS and len(self.days) == KINDS

    @property
    def daily(self) -> float:
        days = sum(self.days)
        return sum(self.sessions) / days if days else 0.0


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Sessions an hour in each cell, and from where on silence is an alarm."""

    rates: Sequence[float]  # CELLS of them
    daily: float  # sessions a day
    alpha: float

    @property
    def by_day(self) -> bool:
        return self.daily < BY_DAY_BELOW

    @property
    def threshold(self) -> float:
        """Λ beyond which the chance of silence is below α."""
        return expected_beyond(self.alpha)


def chance(expected: float) -> float:
    """Of no session at all while so many were expected.

    >>> round(chance(9.34), 4)
    0.001
    """
    return float((DISPERSION / (DISPERSION + expected)) ** DISPERSION)


def expected_beyond(alpha: float) -> float:
    """The Λ at which ``chance`` is ``alpha``.

    >>> round(expected_beyond(1e-3), 2)
    9.34
    """
    return DISPERSION * (math.exp(-math.log(alpha) / DISPERSION) - 1.0)


def alpha_for(daily: float) -> float:
    """Of a kiosk with so many sessions a day: each ends a gap, each day begins one, and each gap may be a false alarm.

    >>> alpha_for(1.0), round(alpha_for(60.0), 6)
    (0.01, 0.000164)
    """
    looks = MONTH_DAYS * (1.0 if daily < BY_DAY_BELOW else daily + 1.0)
    alpha = FALSE_ALARMS_A_MONTH / looks
    return alpha if daily < BY_DAY_BELOW else min(ALPHA_MAX, alpha)


# ---------------------------------------------------------------------------------------------------- nightly
def shape(fleet: Iterable[Counted]) -> list[float]:
    """What share of an average day's sessions comes in each cell, all kiosks of a city together.

    A kind of which no day was counted is taken from its neighbours: holidays from Sundays, others from all days.
    """
    sessions, days = [0] * CELLS, [0] * KINDS
    for counted in fleet:
        sessions = [a + b for a, b in zip(sessions, counted.sessions, strict=True)]
        days = [a + b for a, b in zip(days, counted.days, strict=True)]
    total_days, total = sum(days), sum(sessions)
    if not total:
        return [1.0 / HOURS] * CELLS
    daily = total / total_days
    every = [sum(sessions[cell(kind, hour)] for kind in range(KINDS)) / total for hour in range(HOURS)]

    def share(kind: int) -> list[float]:
        if days[kind]:
            return [sessions[cell(kind, hour)] / days[kind] / daily for hour in range(HOURS)]
        return share(6) if kind == HOLIDAY and days[6] else every

    return [each for kind in range(KINDS) for each in share(kind)]


def fit(counted: Counted, city: Sequence[float]) -> Rhythm:
    """``city``: of ``shape``."""
    daily = counted.daily
    rates = [
        (counted.sessions[cell(kind, hour)] + SHRINKAGE * daily * city[cell(kind, hour)])
        / (counted.days[kind] + SHRINKAGE)
        for kind in range(KINDS)
        for hour in range(HOURS)
    ]
    return Rhythm(rates, daily, alpha_for(daily))


# ---------------------------------------------------------------------------------------------------- online
@dataclass(frozen=True, slots=True)
class Hours:
    """Opening hours in minutes of the local day; ``closes`` may be 1440."""

    opens: int = 0
    closes: int = 1440

    def is_open(self, at: datetime) -> bool:
        return self.opens <= at.hour * 60 + at.minute < self.closes


def expected(
    rhythm: Rhythm, hours: Hours, since: datetime, until: datetime, special: Mapping[date, int], pace: float = 1.0
) -> float:
    """Λ: sessions expected from ``since`` to ``until`` (local time, naive), within opening hours.

    ``pace`` is that of the day of ``until``; days before it count as usual. What lies more than
    ``limits.SILENCE_DAYS_MAX`` back is not counted: it is an alarm long before.
    """
    since = max(since, until - timedelta(days=limits.SILENCE_DAYS_MAX))
    total, day = 0.0, since.date()
    while day <= until.date():
        midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001 - local time of the sites
        start = max(hours.opens * 60.0, (since - midnight).total_seconds())
        end = min(hours.closes * 60.0, (until - midnight).total_seconds())
        base = cell(kind_of(day, special), 0)
        found = 0.0
        while start < end:
            hour = int(start // 3600)
            step = min(end, (hour + 1) * 3600.0)
            found += rhythm.rates[base + hour] * (step - start) / 3600.0
            start = step
        total += found * (pace if day == until.date() else 1.0)
        day += timedelta(days=1)
    return total


def pace(observed: int, foreseen: float) -> float:
    """How today compares with a usual day, from the other kiosks of the city: both numbers without this one's."""
    return (observed + PACE_PRIOR) / (foreseen + PACE_PRIOR)


@dataclass(frozen=True, slots=True)
class Silence:
    """``expected``: Λ. ``alarm``: it is rarer than this kiosk's α."""

    alarm: bool
    expected: float
    gap_s: float


def judge(
    rhythm: Rhythm,
    hours: Hours,
    last: datetime,
    now: datetime,
    special: Mapping[date, int],
    today: float = 1.0,
) -> Silence:
    """Whether it is news that nobody has come since ``last``. Local times, naive. ``today``: of ``pace``.

    A kiosk that is judged by day is judged by the days that are over: of today nothing is held against it.
    """
    gap_s = (now - last).total_seconds()
    until = now
    if rhythm.by_day and hours.is_open(now):
        until = datetime(now.year, now.month, now.day)  # noqa: DTZ001 - local time of the sites
    missing = expected(rhythm, hours, last, until, special, today) if until > last else 0.0
    alarm = gap_s > limits.SILENCE_MIN_S and chance(missing) < rhythm.alpha
    return Silence(alarm, missing, gap_s)


def noticed_within(rhythm: Rhythm, hours: Hours, start: datetime, special: Mapping[date, int]) -> timedelta:
    """How long after ``start`` silence that begins there would be an alarm, to a minute; for the kiosk's page."""
    low, high = 0, limits.SILENCE_DAYS_MAX * 1440
    while low < high:
        middle = (low + high) // 2
        if judge(rhythm, hours, start, start + timedelta(minutes=middle), special).alarm:
            high = middle
        else:
            low = middle + 1
    return timedelta(minutes=low)


# ---------------------------------------------------------------------------------------------------- money
def at_risk_fen(expected_millionths: int, fen: int, sessions: int) -> int:
    """What was not paid here: sessions that did not happen × what a session of this kiosk brings, rounded down.

    ``fen`` was paid in ``sessions`` sessions of the window.

    >>> at_risk_fen(2_500_000, 100_00 * 80, 100)  # 2.5 sessions, 80 of 100 paid 100 yuan
    20000
    """
    return expected_millionths * fen // (sessions * MILLION) if sessions else 0
