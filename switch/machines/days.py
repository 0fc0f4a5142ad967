"""Days of the two hosts, from wall-clock microseconds; pure. China has one time zone and no summer time: UTC+8."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

CHINA = timezone(timedelta(hours=8), "UTC+8")
DAY_US = 86_400_000_000
_OFFSET_US = 8 * 3_600_000_000
_BEGIN = datetime(1970, 1, 1, tzinfo=UTC).astimezone(CHINA)


def local(wall_us: int) -> datetime:
    """Exact: a float of seconds would round, and the last microsecond of a day belongs to that day."""
    return _BEGIN + timedelta(microseconds=wall_us)


@lru_cache(maxsize=16)  # today, and now and then tomorrow; each payment asks several times
def _day(number: int) -> tuple[int, int]:
    """A local day, counted from 1970, and the one after it, YYYYMMDD."""
    moment = _BEGIN.replace(hour=0) + timedelta(days=number)
    return day_number(moment), day_number(moment + timedelta(days=1))


def today(wall_us: int) -> int:
    """YYYYMMDD"""
    return _day((wall_us + _OFFSET_US) // DAY_US)[0]


def dates_around(wall_us: int) -> frozenset[str]:
    """Yesterday, today and tomorrow as MMDD.

    >>> sorted(dates_around(1_767_193_200_000_000))
    ['0101', '1230', '1231']
    """
    moment = local(wall_us)
    return frozenset((moment + timedelta(days=off)).strftime("%m%d") for off in (-1, 0, 1))


def day_number(moment: datetime) -> int:
    """YYYYMMDD"""
    return moment.year * 10_000 + moment.month * 100 + moment.day


def settlement_day(wall_us: int, cut_over_minute: int) -> int:
    """The card network's day, YYYYMMDD: from the cut-over on it is already tomorrow.

    Args:
        cut_over_minute: minutes after local midnight, e.g. 1380 for 23:00.

    >>> settlement_day(1_767_193_199_000_000, 1380), settlement_day(1_767_193_200_000_000, 1380)
    (20251231, 20260101)
    """
    number, of_day_us = divmod(wall_us + _OFFSET_US, DAY_US)
    return _day(number)[of_day_us >= cut_over_minute * 60_000_000]


def seconds_to_cut_over(wall_us: int, cut_over_minute: int) -> float:
    """Seconds from ``wall_us`` to the next cut-over: 0 < result <= one day."""
    of_day_us = (wall_us + _OFFSET_US) % DAY_US
    return ((cut_over_minute * 60_000_000 - of_day_us) % DAY_US or DAY_US) / 1_000_000


def close_at(now: float, wall_us: int, close_minute: int | None) -> float:
    """Monotonic time at which a day closes next; infinite if it never does (None)."""
    return float("inf") if close_minute is None else now + seconds_to_cut_over(wall_us, close_minute)


def day_after(wall_us: int, days: int) -> int:
    """The local day, YYYYMMDD, ``days`` days after this one.

    >>> day_after(1_767_193_199_000_000, 30)
    20260130
    """
    return _day((wall_us + _OFFSET_US) // DAY_US + days)[0]


def months_before(period: str, count: int) -> str:
    """The month ``count`` months before ``period``, both YYYYMM.

    >>> months_before("202602", 1), months_before("202602", 14)
    ('202601', '202412')
    """
    year, month = divmod(int(period[:4]) * 12 + int(period[4:]) - 1 - count, 12)
    return f"{year:04d}{month + 1:02d}"


def dated(mmdd: str, wall_us: int) -> int:
    """The day, YYYYMMDD, that a date without a year means: the one nearest to today. 0: there is none.

    >>> dated("1231", 1_767_193_200_000_000), dated("0101", 1_767_193_200_000_000), dated("0230", 0)
    (20251231, 20260101, 0)
    """
    today = local(wall_us)
    found = []
    for year in (today.year - 1, today.year, today.year + 1):
        try:
            found.append(today.replace(year=year, month=int(mmdd[:2]), day=int(mmdd[2:])))
        except ValueError:
            continue  # 29 February, or no date at all
    return day_number(min(found, key=lambda moment: abs(moment - today))) if found else 0
