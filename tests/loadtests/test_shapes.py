"""The numbers of each shape: bounded in time and height, and of the form that its name promises."""

from __future__ import annotations

import pytest

from loadtests import shapes, testdata

SECONDS, KIOSKS = 100.0, 200


def at(shape: str, elapsed_s: float) -> int | None:
    return shapes.kiosks_at(shape, elapsed_s, seconds=SECONDS, kiosks=KIOSKS)


def course(shape: str) -> list[int]:
    numbers = [at(shape, tenth / 10) for tenth in range(1_000)]
    assert None not in numbers, "it ends before its time"
    return [number for number in numbers if number is not None]


@pytest.mark.parametrize("shape", shapes.SHAPES)
def test_a_shape_is_never_higher_and_never_longer_than_the_run_says(shape: str) -> None:
    numbers = course(shape)
    assert min(numbers) >= 1 and max(numbers) <= KIOSKS
    assert at(shape, SECONDS) is None and at(shape, SECONDS + 1) is None


@pytest.mark.parametrize("shape", shapes.SHAPES)
def test_a_row_of_points_goes_from_the_start_to_the_end(shape: str) -> None:
    points = shapes.SHAPES[shape]
    assert points[0][0] == 0.0 and points[-1][0] == 1.0
    assert [when for when, _ in points] == sorted(when for when, _ in points)
    assert all(0.0 <= share <= 1.0 for _, share in points)


def test_steady_is_all_of_them_all_the_time() -> None:
    assert set(course("steady")) == {KIOSKS}


def test_a_ramp_only_rises_from_a_tenth_to_all() -> None:
    numbers = course("ramp")
    assert numbers[0] == 20 and numbers == sorted(numbers)
    assert at("ramp", 40) == 110 and at("ramp", 80) == at("ramp", 99.9) == KIOSKS


def test_a_spike_jumps_up_and_down_again() -> None:
    assert [at("spike", when) for when in (0, 39.9, 40, 59.9, 60, 99.9)] == [40, 40, 200, 200, 40, 40]


def test_a_soak_holds_three_fifths_for_nine_tenths_of_the_time() -> None:
    numbers = course("soak")
    assert numbers.count(120) >= 900 and max(numbers) == 120
    assert numbers[0] == 1 and numbers[-1] <= 2


def test_a_day_sleeps_at_night_and_is_busiest_in_the_morning() -> None:
    hour = SECONDS / 24
    assert at("day", 9 * hour + 0.001) == KIOSKS == max(course("day"))
    assert all((at("day", night * hour) or 0) <= KIOSKS // 50 for night in (0, 1, 2, 3, 4))
    assert (at("day", 16 * hour) or 0) > (at("day", 13 * hour) or 0) > (at("day", 21 * hour) or 0)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"shape": "wave"}, "steady, ramp, spike, soak, day"),
        ({"seconds": 0}, "seconds 0"),
        ({"seconds": shapes.SECONDS_MAX + 1}, "seconds 604801"),
        ({"kiosks": 0}, "kiosks 0"),
        ({"kiosks": shapes.KIOSKS_MAX + 1}, "kiosks 20001"),
    ],
)
def test_a_run_without_bounds_is_refused(changed: dict[str, object], word: str) -> None:
    asked: dict[str, object] = {"shape": "ramp", "seconds": 10, "kiosks": 10} | changed
    with pytest.raises(ValueError, match=word):
        shapes.kiosks_at(str(asked.pop("shape")), 0.0, **asked)  # type: ignore[arg-type]


def test_there_are_terminals_for_the_most_kiosks() -> None:
    assert shapes.KIOSKS_MAX <= testdata.TERMINALS_MAX
    assert shapes.starts_per_s(1) == 10.0 and shapes.starts_per_s(500) * 5 == 500
