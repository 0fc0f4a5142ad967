"""How values look: money, time, spans, masked numbers. Stored UTC and fen, shown Asia/Shanghai and ¥."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

ZONE: Final = ZoneInfo("Asia/Shanghai")
NOTHING: Final = "—"


def money(fen: int | None) -> str:
    """
    >>> money(-1234567), money(5), money(None)
    ('-¥12,345.67', '¥0.05', '—')
    """
    if fen is None:
        return NOTHING
    whole, rest = divmod(abs(fen), 100)
    return f"{'-' if fen < 0 else ''}¥{whole:,}.{rest:02d}"


def local(at: datetime) -> datetime:
    return at.astimezone(ZONE)


def when(at: datetime | None, *, seconds: bool = True) -> str:
    """
    >>> when(datetime(2026, 11, 1, 16, 0, 5, tzinfo=UTC))
    '2026-11-02 00:00:05'
    """
    if at is None:
        return NOTHING
    return local(at).strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")


def clock(at: datetime | None) -> str:
    return NOTHING if at is None else local(at).strftime("%H:%M:%S")


def midnight(text: str, *, ends: bool = False) -> datetime:
    """The first instant of a local day, or with ``ends`` of the one after it.

    Raises:
        ValueError: No date, or of a year that no record of ours can have.

    >>> midnight("2026-11-02").astimezone(UTC).isoformat()
    '2026-11-01T16:00:00+00:00'
    """
    value = date.fromisoformat(text)
    if not 2000 <= value.year < 2100:
        raise ValueError(text)
    return datetime.combine(value, datetime.min.time(), ZONE) + timedelta(days=ends)


def iso(at: datetime | None) -> str:
    return "" if at is None else at.astimezone(UTC).isoformat(timespec="seconds")


def day(value: date | None) -> str:
    return NOTHING if value is None else value.isoformat()


def today() -> date:
    return datetime.now(ZONE).date()


def share(part: int, whole: int) -> str:
    """
    >>> share(971, 1000), share(0, 0)
    ('97.1%', '—')
    """
    return NOTHING if whole == 0 else f"{(1000 * part + whole // 2) // whole / 10:.1f}%"


def percent(millionths: int | None, digits: int = 2) -> str:
    """Rounded down: what is not all is never shown as 100 %. ``digits`` 1 to 4.

    >>> percent(999_999), percent(970_500, 1), percent(None)
    ('99.99%', '97.0%', '—')
    """
    if millionths is None:
        return NOTHING
    whole, rest = divmod(millionths, 10_000)
    return f"{whole}.{f'{rest:04d}'[:digits]}%"


def millionths(part: int, whole: int) -> int | None:
    """Rounded down; None: there is no whole.

    >>> millionths(2, 3), millionths(0, 0)
    (666666, None)
    """
    return part * 1_000_000 // whole if whole else None


def span_parts(seconds: int) -> tuple[str, int]:
    """(unit, count) of the largest unit that is at least one: for the catalogue.

    >>> span_parts(59), span_parts(3600), span_parts(200000)
    (('s', 59), ('h', 1), ('d', 2))
    """
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return unit, seconds // size
    return "s", max(0, seconds)


def since(at: datetime | None, now: datetime | None = None) -> int | None:
    """Whole seconds from then to now."""
    if at is None:
        return None
    return max(0, int(((now or datetime.now(UTC)) - at) / timedelta(seconds=1)))


def mask(number: str, head: int = 4, tail: int = 4) -> str:
    """
    >>> mask("4401234567890"), mask("12345")
    ('4401*****7890', '*****')
    """
    if len(number) <= head + tail:
        return "*" * len(number)
    return number[:head] + "*" * (len(number) - head - tail) + number[-tail:]
