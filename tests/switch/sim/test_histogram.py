"""The histogram against sorted lists."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from switch.sim.histogram import LONGEST_S, Histogram

SHARES = (0.001, 0.5, 0.9, 0.99, 0.999, 1.0)


def filled(durations: list[float]) -> Histogram:
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    return histogram


def exact(ordered: list[float], share: float) -> float:
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


@given(st.lists(st.floats(0.0, 4_000.0), min_size=1, max_size=50))
def test_percentiles_are_those_of_the_sorted_list(durations: list[float]) -> None:
    histogram, ordered = filled(durations), sorted(durations)
    for share in SHARES:
        true, said = exact(ordered, share), histogram.at(share)
        assert min(true, LONGEST_S) <= said + 1e-9, "never too short"
        assert said <= true * 1.001 + 0.000001, "one part in 1,000, or a microsecond"
    assert histogram.at(1.0) <= histogram.longest == ordered[-1]
    assert histogram.count == len(durations)


def test_a_hundred_thousand_durations_of_all_sizes() -> None:
    dice = random.Random(7)
    durations = [dice.lognormvariate(-6, 2) for _ in range(100_000)]
    histogram, ordered = filled(durations), sorted(durations)
    for share in SHARES:
        assert exact(ordered, share) <= histogram.at(share) <= exact(ordered, share) * 1.001 + 0.000001
    assert abs(histogram.mean - sum(durations) / len(durations)) < 1e-9


@given(st.lists(st.floats(0.0, 10.0), max_size=30), st.lists(st.floats(0.0, 10.0), max_size=30))
def test_merged_is_as_if_all_had_been_added_to_one(one: list[float], other: list[float]) -> None:
    merged, whole = filled(one), filled(one + other)
    merged.merge(filled(other))
    assert [merged.at(share) for share in SHARES] == [whole.at(share) for share in SHARES]
    assert (merged.count, merged.longest) == (whole.count, whole.longest)


def test_nothing_is_zero_and_a_clock_that_stepped_back_is_no_error() -> None:
    assert Histogram().at(0.99) == Histogram().mean == 0.0
    assert filled([-0.5]).at(1.0) == 0.0
    plain = filled([0.001, 0.002, 0.004]).to_dict()
    assert plain == {
        "count": 3,
        "mean_ms": 2.333,
        "p50_ms": 2.001,
        "p90_ms": 4.0,
        "p99_ms": 4.0,
        "p999_ms": 4.0,
        "max_ms": 4.0,
    }
