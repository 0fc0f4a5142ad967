"""How many kiosks there are at which moment of a run. Numbers only: ``locustfile.py`` gives them to locust.

A shape is a row of points (share of the run's time, share of its kiosks) with straight lines between them; two points
at one time are a jump. So every shape is as long and as high as the run says, and never longer or higher.

    steady   all of them, all the time
    ramp     from a tenth to all in four fifths of the time, then on: where does it begin to hurt?
    spike    a fifth, suddenly all, suddenly a fifth again: does it come back?
    soak     three fifths, for a long time: does anything grow?
    day      a day of kiosks in a hall, from midnight to midnight, in the time that the run has
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

SECONDS_MAX: Final = 7 * 86_400  # a soak of a week; nobody looks after a longer one
KIOSKS_MAX: Final = 20_000  # as many as one switch takes

Point = tuple[float, float]

# Share of the busiest hour, hour by hour: people pay when they go to work, at noon, and when they come home.
_HOURS: Final = (2, 1, 1, 1, 1, 3, 10, 30, 70, 100, 95, 75, 60, 55, 70, 85, 90, 80, 60, 45, 30, 20, 10, 4)

SHAPES: Final[dict[str, tuple[Point, ...]]] = {
    "steady": ((0.0, 1.0), (1.0, 1.0)),
    "ramp": ((0.0, 0.1), (0.8, 1.0), (1.0, 1.0)),
    "spike": ((0.0, 0.2), (0.4, 0.2), (0.4, 1.0), (0.6, 1.0), (0.6, 0.2), (1.0, 0.2)),
    "soak": ((0.0, 0.0), (0.05, 0.6), (0.95, 0.6), (1.0, 0.0)),
    "day": tuple((hour / 24, percent / 100) for hour, percent in enumerate((*_HOURS, _HOURS[0]))),
}


def kiosks_at(shape: str, elapsed_s: float, *, seconds: float, kiosks: int) -> int | None:
    """Kiosks wanted so long after the start: at least one; None when the run is over.

    Args:
        seconds: Length of the run, up to SECONDS_MAX.
        kiosks: The most that there are at any moment, up to KIOSKS_MAX.

    Raises:
        ValueError: No such shape, or a run that is too long or too large.
    """
    if shape not in SHAPES:
        raise ValueError(f"shape {shape!r}: expected one of {', '.join(SHAPES)}")
    if not 0 < seconds <= SECONDS_MAX:
        raise ValueError(f"seconds {seconds:g}: expected more than 0, at most {SECONDS_MAX}")
    if not 1 <= kiosks <= KIOSKS_MAX:
        raise ValueError(f"kiosks {kiosks}: expected 1 to {KIOSKS_MAX}")
    if elapsed_s >= seconds:
        return None
    at = max(0.0, elapsed_s) / seconds
    for (begins_at, first), (ends_at, last) in pairwise(SHAPES[shape]):
        if begins_at <= at < ends_at:
            share = first + (last - first) * (at - begins_at) / (ends_at - begins_at)
            return max(1, round(kiosks * share))
    raise AssertionError(f"shape {shape} has a gap at {at}")


def starts_per_s(kiosks: int) -> float:
    """Kiosks that start or stop a second when their number changes: any change is done within five seconds."""
    return max(10.0, kiosks / 5)
