"""The rhythm detector: its arithmetic by hand, and whole fleets by dice."""

from __future__ import annotations

import random
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin.monitor.rhythm import (
    ALPHA_MAX,
    CELLS,
    FALSE_ALARMS_A_MONTH,
    HOLIDAY,
    KINDS,
    MONTH_DAYS,
    SHRINKAGE,
    Counted,
    Hours,
    Rhythm,
    alpha_for,
    at_risk_fen,
    cell,
    chance,
    expected,
    expected_beyond,
    fit,
    judge,
    kind_of,
    noticed_within,
    pace,
    shape,
)

MONDAY = date(2026, 11, 2)
NOON = datetime(2026, 11, 2, 12)  # noqa: DTZ001 - local time, as everywhere here


def flat(rate: float) -> Rhythm:
    return Rhythm([rate] * CELLS, rate * 24, alpha_for(rate * 24))


def counted(cells: dict[tuple[int, int], int], days: int = 8) -> Counted:
    sessions = [0] * CELLS
    for (kind, hour), number in cells.items():
        sessions[cell(kind, hour)] = number
    return Counted(sessions, [days] * 7 + [0])


# ---------------------------------------------------------------------------------------------------- by hand
def test_a_rate_is_what_was_counted_drawn_towards_the_city() -> None:
    """8 Mondays with 80 sessions at nine; the city has half of a day's sessions there, each Monday."""
    one = counted({(0, 9): 80, (1, 9): 32})
    city = [0.0] * CELLS
    city[cell(0, 9)] = 0.5
    fitted = fit(one, city)
    assert fitted.daily == 112 / 56 == 2.0
    assert fitted.rates[cell(0, 9)] == (80 + 4 * 2.0 * 0.5) / (8 + 4) == 7.0
    assert fitted.rates[cell(1, 9)] == 32 / 12
    assert fitted.rates[cell(HOLIDAY, 9)] == 0.0, "no holiday was counted, and the city has no session on one"


def test_an_unknown_kiosk_looks_like_its_city() -> None:
    busy = counted({(kind, hour): 8 * hour for kind in range(7) for hour in (9, 10)})
    city = shape([busy, counted({})])
    assert city[cell(0, 9)] == pytest.approx(9 / 19) and city[cell(6, 10)] == pytest.approx(10 / 19)
    assert city[cell(HOLIDAY, 9)] == pytest.approx(9 / 19), "a holiday is taken for a Sunday until there was one"
    silent = fit(counted({}), city)
    assert silent.daily == 0.0 and set(silent.rates) == {0.0}
    young = fit(Counted(counted({(0, 9): 5, (0, 10): 5}, days=0).sessions, [1] + [0] * 7), city)
    assert young.daily == 10.0 and young.rates[cell(3, 9)] == pytest.approx(10 * 9 / 19), (
        "only the city knows Thursdays"
    )


def test_a_city_without_any_session_expects_none_at_any_hour_more_than_at_another() -> None:
    assert shape([counted({})]) == [1 / 24] * CELLS == shape([])


def test_days_that_count_as_others() -> None:
    special = {date(2026, 10, 1): HOLIDAY, date(2026, 10, 10): 4}
    assert kind_of(date(2026, 10, 1), special) == HOLIDAY
    assert kind_of(date(2026, 10, 10), special) == 4, "a Saturday that is worked"
    assert kind_of(MONDAY, special) == 0


@pytest.mark.parametrize(
    ("daily", "alpha"),
    [
        (1.0, FALSE_ALARMS_A_MONTH / MONTH_DAYS),  # one look a day
        (7.9, FALSE_ALARMS_A_MONTH / MONTH_DAYS),
        (8.0, ALPHA_MAX),  # 270 gaps would allow 0.00111
        (59.0, FALSE_ALARMS_A_MONTH / (60 * MONTH_DAYS)),
    ],
)
def test_alpha_spends_the_false_alarms_of_a_month(daily: float, alpha: float) -> None:
    assert alpha_for(daily) == pytest.approx(alpha)


def test_silence_counts_within_opening_hours_only() -> None:
    hours = Hours(9 * 60, 17 * 60 + 30)
    rhythm = flat(2.0)
    since, until = datetime(2026, 11, 2, 17), datetime(2026, 11, 3, 9, 45)  # noqa: DTZ001
    assert expected(rhythm, hours, since, until, {}) == pytest.approx(1.0 + 1.5)
    assert expected(rhythm, hours, since, until, {}, pace=2.0) == pytest.approx(1.0 + 3.0), "today's pace is of today"
    assert expected(rhythm, hours, since, datetime(2026, 11, 3, 8), {}) == pytest.approx(1.0)  # noqa: DTZ001
    assert expected(rhythm, Hours(), NOON, NOON + timedelta(days=2), {}) == pytest.approx(96.0)


def test_an_alarm_is_a_silence_rarer_than_alpha_and_longer_than_a_quarter_of_an_hour() -> None:
    rhythm = Rhythm([60.0] * CELLS, 1440.0, 1e-3)  # one a minute: Λ of 9.34 after nine minutes and a half
    assert not judge(rhythm, Hours(), NOON, NOON + timedelta(minutes=15), {}).alarm
    assert judge(rhythm, Hours(), NOON, NOON + timedelta(minutes=16), {}).alarm
    slow = Rhythm([4.0] * CELLS, 96.0, 1e-3)
    assert not judge(slow, Hours(), NOON, NOON + timedelta(minutes=140), {}).alarm  # Λ 9.333
    assert judge(slow, Hours(), NOON, NOON + timedelta(minutes=141), {}).alarm  # Λ 9.4
    assert noticed_within(slow, Hours(), NOON, {}) == timedelta(minutes=141)


def test_a_slow_city_makes_patient() -> None:
    slow = Rhythm([4.0] * CELLS, 96.0, 1e-3)
    half = pace(100, 250.0)
    assert half == 0.5
    assert not judge(slow, Hours(), NOON, NOON + timedelta(minutes=270), {}, half).alarm
    assert judge(slow, Hours(), NOON, NOON + timedelta(minutes=285), {}, half).alarm
    assert pace(0, 0.0) == 1.0, "before anybody has come, today is a day as usual"


def test_a_kiosk_that_few_use_is_judged_when_a_day_is_over() -> None:
    """Six a day between nine and five: the chance of none is below 0.01 once 5.6 were expected."""
    rhythm = Rhythm([0.75] * CELLS, 6.0, alpha_for(6.0))
    hours = Hours(9 * 60, 17 * 60)
    last = datetime(2026, 11, 2, 9)  # noqa: DTZ001
    assert not judge(rhythm, hours, last, datetime(2026, 11, 2, 16, 59), {}).alarm  # noqa: DTZ001
    closed = judge(rhythm, hours, last, datetime(2026, 11, 2, 17), {})  # noqa: DTZ001
    assert closed.alarm and closed.expected == pytest.approx(6.0)
    assert not judge(rhythm, hours, last + timedelta(hours=1), datetime(2026, 11, 3, 16), {}).alarm, (  # noqa: DTZ001
        "of today nothing is held against it: yesterday had 5.25"
    )


def test_money_at_risk_is_whole_fen() -> None:
    assert at_risk_fen(2_500_000, 8_000_00, 100) == 200_00
    assert at_risk_fen(1, 99, 1) == 0
    assert at_risk_fen(5_000_000, 0, 0) == 0


# ---------------------------------------------------------------------------------------------------- by dice
@given(st.floats(0, 1e4), st.floats(1e-9, 0.5))
def test_the_threshold_is_where_the_chance_is_alpha(missing: float, alpha: float) -> None:
    assert (chance(missing) < alpha) == (missing > expected_beyond(alpha)) or chance(missing) == pytest.approx(alpha)


@given(
    st.lists(st.floats(0, 50), min_size=CELLS, max_size=CELLS),
    st.integers(0, 1440),
    st.integers(0, 1440),
    st.lists(st.integers(0, 20_000), min_size=3, max_size=3).map(sorted),
)
def test_what_is_expected_adds_up(rates: list[float], opens: int, closes: int, minutes: list[int]) -> None:
    rhythm, hours = Rhythm(rates, 1.0, 1e-3), Hours(opens, closes)
    first, middle, last = (NOON + timedelta(minutes=each) for each in minutes)
    whole = expected(rhythm, hours, first, last, {})
    parts = expected(rhythm, hours, first, middle, {}) + expected(rhythm, hours, middle, last, {})
    assert whole == pytest.approx(parts) and whole >= 0
    assert whole <= max(rates) * (minutes[2] - minutes[0]) / 60 + 1e-9


@given(st.lists(st.integers(0, 400), min_size=CELLS, max_size=CELLS), st.integers(1, 8))
def test_a_rate_lies_between_the_kiosk_and_its_city(sessions: list[int], days: int) -> None:
    one = Counted(sessions, [days] * KINDS)
    city = shape([one, counted({(0, 9): 80, (5, 20): 3})])
    fitted = fit(one, city)
    for at in range(CELLS):
        own, prior = sessions[at] / days, fitted.daily * city[at]
        assert min(own, prior) - 1e-9 <= fitted.rates[at] <= max(own, prior) + 1e-9
    assert SHRINKAGE > 0


# ---------------------------------------------------------------------------------------------------- fleets
DAY = [0, 0, 0, 0, 0, 0, 0, 0, 3, 6, 8, 8, 5, 4, 6, 7, 6, 5, 4, 3, 2, 0, 0, 0]
WEEK = [1.1, 1.0, 1.0, 1.0, 1.1, 0.9, 0.7]
OPEN = Hours(8 * 60, 21 * 60)
TRAINED, TESTED = 56, 28  # days
FIRST = MONDAY - timedelta(days=TRAINED)


def draw_day(dice: random.Random, daily: float, day: date) -> list[datetime]:
    """Sessions of a Poisson process with this kiosk's hours, in order."""
    midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001
    found: list[datetime] = []
    for hour, share in enumerate(DAY):
        rate = daily * WEEK[day.weekday()] * share / sum(DAY)
        at = dice.expovariate(rate) if rate else 1.0
        while at < 1.0:
            found.append(midnight + timedelta(hours=hour + at))
            at += dice.expovariate(rate)
    return found


def count(days: dict[date, list[datetime]]) -> Counted:
    sessions, seen = [0] * CELLS, [0] * KINDS
    for day, came in days.items():
        seen[day.weekday()] += 1
        for each in came:
            sessions[cell(day.weekday(), each.hour)] += 1
    return Counted(sessions, seen)


def fleet(dice: random.Random, kiosks: int, bursts: bool) -> list[tuple[Rhythm, list[datetime]]]:
    """Each kiosk's rhythm after eight weeks, and its sessions of the four weeks after them.

    With bursts each kiosk has good and bad days of its own, as much as DISPERSION allows for.
    """
    trained, tested = [], []
    for _ in range(kiosks):
        daily = min(200.0, dice.lognormvariate(4.0, 0.8))
        week: dict[date, list[datetime]] = {}
        for number in range(TRAINED + TESTED):
            day = FIRST + timedelta(days=number)
            mood = dice.gammavariate(12.0, 1 / 12.0) if bursts else 1.0
            week[day] = draw_day(dice, daily * mood, day)
        trained.append(count({day: came for day, came in week.items() if day < MONDAY}))
        tested.append([each for day, came in week.items() if day >= MONDAY for each in came])
    city = shape(trained)
    return [(fit(one, city), came) for one, came in zip(trained, tested, strict=True)]


def false_alarms(rhythm: Rhythm, came: list[datetime]) -> int:
    """A gap is an alarm once, at its end at the latest; a kiosk judged by day is looked at when it closes."""
    start = datetime(MONDAY.year, MONDAY.month, MONDAY.day)  # noqa: DTZ001
    end = start + timedelta(days=TESTED)
    found = 0
    for last, following in zip([start, *came], [*came, end], strict=True):
        if rhythm.by_day:
            looks = (start + timedelta(days=day, hours=21) for day in range(TESTED))
            found += any(judge(rhythm, OPEN, last, look, {}).alarm for look in looks if last < look < following)
        else:
            found += judge(rhythm, OPEN, last, following, {}).alarm
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bursts", [False, True])
def test_kiosks_in_order_hardly_ever_alarm(seed: int, bursts: bool) -> None:
    kiosks = fleet(random.Random(seed), 40, bursts)
    found = sum(false_alarms(rhythm, came) for rhythm, came in kiosks)
    months = len(kiosks) * TESTED / MONTH_DAYS
    assert found <= FALSE_ALARMS_A_MONTH * months, f"{found} false alarms in {months:.0f} kiosk months"


@pytest.mark.parametrize("seed", range(20))
def test_a_busy_kiosk_that_falls_silent_is_found_in_time(seed: int) -> None:
    """More than a hundred a day: from ten in the morning on there is an alarm within two hours."""
    dice = random.Random(seed)
    daily = dice.uniform(100, 200)
    week = {
        FIRST + timedelta(days=number): draw_day(dice, daily, FIRST + timedelta(days=number)) for number in range(57)
    }
    trained = count({day: came for day, came in week.items() if day < MONDAY})
    rhythm = fit(trained, shape([trained]))
    ten = datetime(MONDAY.year, MONDAY.month, MONDAY.day, 10)  # noqa: DTZ001
    last = max(each for each in week[MONDAY] if each < ten)
    found = next(
        minute for minute in range(1, 660) if judge(rhythm, OPEN, last, ten + timedelta(minutes=minute), {}).alarm
    )
    assert timedelta(minutes=found) <= noticed_within(rhythm, OPEN, ten, {}) <= timedelta(hours=2)
