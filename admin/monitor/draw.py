"""Two pictures that no library has: a curve over the band of usual days, and what each witness said over time.

Coloured by the style sheet through classes; every picture has its numbers in a table beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from markupsafe import Markup

from admin.monitor.fleet import ZONE

Say = Callable[[str], str]
_WIDTH: Final = 960
_LEFT: Final = 48
_BOTTOM: Final = 22


def curve(
    title: str,
    now: Sequence[int | None],
    mean: Sequence[int],
    low: Sequence[int],
    high: Sequence[int],
    *,
    height: int = 220,
    width: int = _WIDTH,
    hundredths: bool = True,
) -> Markup:
    """A day: 96 quarters or 24 hours. ``now`` ends with None where the day is not over; the others are the usual.

    Args:
        hundredths: mean, low and high are in hundredths.
    """
    unit = 100 if hundredths else 1
    count = len(now)
    top = _round_up(max([1, *(each or 0 for each in now), *(each // unit for each in (*high, *mean))]))
    plot_h = height - _BOTTOM - 8

    def x(at: float) -> float:
        return _LEFT + (width - _LEFT - 8) * at / count

    def y(value: float) -> float:
        return 8 + plot_h * (1 - value / top)

    parts = [
        f'<line class="rule" x1="{_LEFT}" x2="{width - 8}" y1="{y(top * step / 4):.1f}" y2="{y(top * step / 4):.1f}"/>'
        f'<text class="scale" x="{_LEFT - 6}" y="{y(top * step / 4) + 4:.1f}">{top * step // 4}</text>'
        for step in range(5)
    ]
    parts += [
        f'<text class="hour" x="{x(count * hour / 24):.1f}" y="{height - 5}">{hour:02d}:00</text>'
        for hour in range(0, 24, 3)
    ]
    if high:
        there = [f"{x(at + 0.5):.1f},{y(value / unit):.1f}" for at, value in enumerate(high)]
        back = [f"{x(at + 0.5):.1f},{y(value / unit):.1f}" for at, value in enumerate(low)]
        parts.append(f'<polygon class="band" points="{" ".join([*there, *reversed(back)])}"/>')
    if mean:
        points = " ".join(f"{x(at + 0.5):.1f},{y(value / unit):.1f}" for at, value in enumerate(mean))
        parts.append(f'<polyline class="usual" points="{points}"/>')
    known = [(at, value) for at, value in enumerate(now) if value is not None]
    points = " ".join(f"{x(at + 0.5):.1f},{y(value):.1f}" for at, value in known)
    parts.append(f'<polyline class="now" points="{points}"/>')
    if known:
        at, value = known[-1]
        parts.append(f'<circle class="here" cx="{x(at + 0.5):.1f}" cy="{y(value):.1f}" r="4"/>')
    return _svg("curve", width, height, title, parts)


def _round_up(value: int) -> int:
    """The next number that four rules divide nicely."""
    step = 4
    while step * 10 <= value:
        step *= 10
    return -(-value // step) * step


@dataclass(frozen=True, slots=True)
class Span:
    """What a witness said from … to; ``tone``: good, warn, bad, mute."""

    start: datetime
    end: datetime
    tone: str
    says: str


def timeline(title: str, rows: Sequence[tuple[str, Sequence[Span]]], start: datetime, end: datetime) -> Markup:
    """One strip for each witness, from ``start`` to ``end``. Names and words are translated already."""
    strip, gap, left = 22, 8, 84
    height = len(rows) * (strip + gap) + _BOTTOM
    whole = (end - start).total_seconds()

    def x(at: datetime) -> float:
        share = min(1.0, max(0.0, (at - start).total_seconds() / whole))
        return left + (_WIDTH - left - 8) * share

    parts: list[str] = []
    for number, (name, spans) in enumerate(rows):
        top = number * (strip + gap)
        parts.append(Markup('<text class="row" x="0" y="{}">{}</text>').format(top + 16, name))
        parts.append(f'<rect class="none" x="{left}" y="{top}" width="{_WIDTH - left - 8}" height="{strip}" rx="3"/>')
        for span in spans:
            first, last = x(span.start), x(span.end)
            if last <= first:
                continue
            text = f"{_clock(max(span.start, start))} – {_clock(min(span.end, end))}  {span.says}"
            parts.append(
                Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>').format(
                    span.tone, f"{first:.1f}", top, f"{max(1.5, last - first):.1f}", strip, text
                )
            )
    hour = start.astimezone(ZONE).replace(minute=0, second=0, microsecond=0)
    while hour <= end:
        if hour >= start and hour.hour % 3 == 0:
            parts.append(f'<text class="hour" x="{x(hour):.1f}" y="{height - 5}">{hour:%H}:00</text>')
        hour += timedelta(hours=1)
    return _svg("strips", _WIDTH, height, title, parts)


def _clock(at: datetime) -> str:
    return at.astimezone(ZONE).strftime("%H:%M:%S")


def _svg(kind: str, width: int, height: int, title: str, parts: Sequence[str]) -> Markup:
    body = Markup("").join(part if isinstance(part, Markup) else Markup(part) for part in parts)  # noqa: S704 ours
    return Markup(
        '<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}" preserveAspectRatio="xMidYMid meet">{}</svg>'
    ).format(kind, width, height, title, body)
