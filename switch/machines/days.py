"""Days of the two hosts, from wall-clock microseconds; pure. China has one time zone and no summer time: UTC+8."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

CHINA = timezone(timedelta(hours=8), "UTC+8")
_DAY_S = 86_400


def local(wall_us: int) -> datetime:
    return datetime.fromtimestamp(wall_us / 1_000_000, UTC).astimezone(CHINA)


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
    moment = local(wall_us)
    if moment.hour * 60 + moment.minute >= cut_over_minute:
        moment += timedelta(days=1)
    return day_number(moment)


def seconds_to_cut_over(wall_us: int, cut_over_minute: int) -> float:
    """Seconds from ``wall_us`` to the next cut-over: 0 < result <= one day."""
    moment = local(wall_us)
    of_day = moment.hour * 3600 + moment.minute * 60 + moment.second + moment.microsecond / 1e6
    return (cut_over_minute * 60 - of_day) % _DAY_S or float(_DAY_S)
