"""Durations in buckets that grow with them: any number of them in 200 KB, each known to one part in 1,000.

The idea is HdrHistogram's. Up to 2 ms there is a bucket for every microsecond; from there on each doubling has 1,024
buckets of equal width.
"""

from __future__ import annotations

from array import array
from typing import Any, Final

_BITS: Final = 10
_SHARP: Final = 1 << (_BITS + 1)  # below it every microsecond has its own bucket
LONGEST_S: Final = 3_600.0  # longer ones count as this long: no peer waits for an hour
_LONGEST_US: Final = int(LONGEST_S * 1_000_000)


class Histogram:
    """Durations in seconds.

    >>> histogram = Histogram()
    >>> for ms in range(1, 1001):
    ...     histogram.add(ms / 1000)
    >>> histogram.count, round(histogram.at(0.5), 3), round(histogram.at(0.99), 2), histogram.longest
    (1000, 0.5, 0.99, 1.0)
    """

    __slots__ = ("_counts", "count", "longest", "total")

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * (_bucket(_LONGEST_US) + 1)))
        self.count = 0
        self.longest = 0.0
        self.total = 0.0  # seconds

    def add(self, seconds: float) -> None:
        us = int(seconds * 1_000_000)
        if us < 0:
            us = 0  # two clocks of one machine may differ by a tick
        elif us > _LONGEST_US:
            us = _LONGEST_US
        self._counts[_bucket(us)] += 1
        self.count += 1
        self.total += seconds
        self.longest = max(self.longest, seconds)

    def merge(self, other: Histogram) -> None:
        for index, count in enumerate(other._counts):
            if count:
                self._counts[index] += count
        self.count += other.count
        self.total += other.total
        self.longest = max(self.longest, other.longest)

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else 0.0

    def at(self, share: float) -> float:
        """The duration that ``share`` of all did not exceed, in seconds: never too short, 0 when there is none."""
        wanted = max(1, -(-share * self.count // 1))  # rounded up
        seen = 0
        for index, count in enumerate(self._counts):
            seen += count
            if seen >= wanted and count:
                return min(_upper_us(index) / 1_000_000, self.longest)
        return 0.0

    def to_dict(self) -> dict[str, Any]:
        """Count and percentiles, milliseconds."""
        shares = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999))
        return (
            {"count": self.count, "mean_ms": round(1000 * self.mean, 3)}
            | {f"{name}_ms": round(1000 * self.at(share), 3) for name, share in shares}
            | {"max_ms": round(1000 * self.longest, 3)}
        )


def _bucket(us: int) -> int:
    if us < _SHARP:
        return us
    shift = us.bit_length() - _BITS - 1
    return (shift << _BITS) + (us >> shift)


def _upper_us(index: int) -> int:
    """The longest duration of a bucket."""
    if index < _SHARP:
        return index + 1
    shift = (index >> _BITS) - 1
    return ((index - (shift << _BITS)) + 1) << shift
