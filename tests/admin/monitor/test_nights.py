"""What nights do: rhythms from eight weeks, availability into the books, what days should look like; each once."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from admin.monitor.availability import SLOT_MS, Spent
from admin.monitor.fleet import ZONE
from admin.monitor.nights import Nights, availability, midnight
from admin.monitor.rhythm import CELLS, HOLIDAY, cell
from admin.monitor.watch import QUERY, Folder, slot_of
from tests.admin.conftest import opened
from tests.admin.monitor.conftest import Fleet

TODAY = date(2026, 11, 2)  # a Monday


async def telemetry(fleet: Fleet, kiosk: int, days: int, hours: dict[int, int], until: date = TODAY) -> None:
    """So many sessions in these local hours on each of so many days before ``until``."""
    await fleet.run(
        "INSERT INTO admin.telemetry_hour (kiosk_id, hour, sessions)"
        " SELECT $1, (($2::date - n)::timestamp + make_interval(hours => hour)) AT TIME ZONE 'Asia/Shanghai', sessions"
        "   FROM generate_series(1, $3::integer) AS n, unnest($4::integer[], $5::integer[]) AS cell (hour, sessions)",
        kiosk,
        until,
        days,
        list(hours),
        list(hours.values()),
    )


async def rhythm_of(fleet: Fleet, kiosk: int) -> Any:
    (row,) = await fleet.run("SELECT * FROM admin.rhythm WHERE kiosk_id = $1", kiosk)
    return row


def test_a_rhythm_is_fitted_from_eight_weeks_of_counters(fleet: Fleet) -> None:
    async def story() -> None:
        one, _idle = await fleet.build(2)
        await telemetry(fleet, one, 70, {9: 6, 15: 4})  # the last 56 count
        await fleet.pay(one, midnight(TODAY - timedelta(days=3)), fen=50_00, count=7)
        async with opened(fleet.dsn) as database:
            assert await Nights(database).fit(TODAY) == 1, "who was never used has no rhythm"
        row = await rhythm_of(fleet, one)
        assert row["daily"] == 10.0 and row["days"] == 56
        assert row["rates"][cell(0, 9)] == pytest.approx(6.0) and row["rates"][cell(6, 15)] == pytest.approx(4.0)
        assert row["rates"][cell(0, 10)] == 0.0 and len(row["rates"]) == CELLS
        assert (row["sessions"], row["fen"]) == (140, 350_00), "of two weeks"

    asyncio.run(story())


def test_holidays_and_days_of_outage_do_not_spoil_it(fleet: Fleet) -> None:
    async def story() -> None:
        (one,) = await fleet.build(1)
        await telemetry(fleet, one, 56, {9: 10})
        await fleet.run(
            "INSERT INTO admin.special_day VALUES ($1, 7, '国庆节'), ($2, 0, '调休')",
            date(2026, 10, 1),
            date(2026, 10, 10),
        )
        out = TODAY - timedelta(days=7)  # a Monday, too
        await fleet.run(
            "UPDATE admin.telemetry_hour SET sessions = 0 WHERE hour >= $1 AND hour < $2",
            midnight(out),
            midnight(out + timedelta(days=1)),
        )
        async with opened(fleet.dsn) as database:
            await Nights(database).fit(TODAY)
            spoilt = await rhythm_of(fleet, one)
            await fleet.run("INSERT INTO admin.kiosk_day VALUES ($1, $2, 36000, 30000)", one, out)
            await Nights(database).fit(TODAY)
        row = await rhythm_of(fleet, one)
        assert (spoilt["days"], row["days"]) == (56, 55)
        assert row["rates"][cell(0, 9)] == pytest.approx(10.0)
        assert spoilt["rates"][cell(0, 9)] < 9.5
        assert row["rates"][cell(HOLIDAY, 9)] == pytest.approx(10.0)

    asyncio.run(story())


def test_a_kiosk_without_an_agent_is_known_by_its_payments(fleet: Fleet) -> None:
    async def story() -> None:
        (one,) = await fleet.build(1)
        for day in range(1, 11):
            nine = midnight(TODAY - timedelta(days=day)) + timedelta(hours=9)
            await fleet.pay(one, nine, count=3)
        async with opened(fleet.dsn) as database:
            await Nights(database).fit(TODAY)
        row = await rhythm_of(fleet, one)
        assert row["daily"] == 3.0 and row["days"] == 10 and row["sessions"] == 30

    asyncio.run(story())


def test_days_that_are_over_are_put_into_the_books_once(fleet: Fleet) -> None:
    async def story() -> None:
        (one,) = await fleet.build(1)
        await fleet.run("UPDATE admin.org SET opens_at = '09:00', closes_at = '24:00' WHERE kind = 'site'")
        start, end = (slot_of(midnight(TODAY - timedelta(days=back))) for back in (2, 1))
        out = range(start + 100, start + 222)  # 61 minutes
        await fleet.run(
            "INSERT INTO admin.probe (service, slot, good) SELECT 'switch', slot, slot <> ALL ($3::bigint[])"
            "  FROM generate_series($1::bigint, $2::bigint - 1) AS slot",
            start,
            end,
            list(out),
        )
        await fleet.run(
            "INSERT INTO admin.approved_window (starts_at, ends_at, reason, made_at) VALUES ($1, $2, '更换交换机', $1)",
            datetime.fromtimestamp(out[0] * 30, UTC),
            datetime.fromtimestamp(out[0] * 30 + 600, UTC),
        )
        nine = midnight(TODAY - timedelta(days=2)) + timedelta(hours=9)
        await fleet.run(
            "INSERT INTO admin.diagnosis (kiosk_id, at, code, payable, signals) VALUES"
            " ($1, $2::timestamptz - interval '5 days', 'normal', true, '{}'),"
            " ($1, $2 + interval '1 hour', 'offline', false, '{}'),"
            " ($1, $2 + interval '4 hours', 'normal', true, '{}')",
            one,
            nine,
        )
        async with opened(fleet.dsn) as database:
            assert await Nights(database).fold(TODAY) == 2, "and yesterday, of which nothing is known"
            assert await Nights(database).fold(TODAY) == 0
        rows = await fleet.run("SELECT * FROM admin.availability_day ORDER BY day")
        assert [row["day"] for row in rows] == [TODAY - timedelta(days=2), TODAY - timedelta(days=1)]
        row, unknown = rows
        assert (unknown["measured_ms"], unknown["missed_ms"]) == (0, 86_400_000)
        assert row["down_ms"] == 61 * 60_000 and row["measured_ms"] == 86_400_000
        assert row["down_in_window_ms"] == row["window_ms"] == 600_000
        days = await fleet.run("SELECT open_s, payable_s FROM admin.kiosk_day ORDER BY day")
        assert [tuple(day) for day in days] == [(15 * 3600, 12 * 3600), (15 * 3600, 15 * 3600)]

    asyncio.run(story())


def test_payments_that_failed_are_an_outage_of_the_switch(fleet: Fleet) -> None:
    async def story() -> None:
        (one,) = await fleet.build(1)
        now = datetime.now(UTC)
        minute = datetime.fromtimestamp(int(now.timestamp()) // 60 * 60, UTC) - timedelta(minutes=10)
        await fleet.run("INSERT INTO admin.probe VALUES ('link x', $1, true)", slot_of(minute))
        await fleet.pay(one, minute, class_="channel", count=10)
        await fleet.pay(one, minute + timedelta(minutes=1), class_="customer", count=30)
        await fleet.pay(one, minute + timedelta(minutes=2), class_="channel", count=9)
        async with opened(fleet.dsn) as database:
            await Folder(database).run()
            async with database.connection() as connection:
                found = await availability(connection, minute, minute + timedelta(minutes=5))
        assert found["link x"] == Spent(measured_ms=SLOT_MS, missed_ms=9 * SLOT_MS)
        assert found["switch"] == Spent(measured_ms=60_000, down_ms=60_000, missed_ms=8 * SLOT_MS)

    asyncio.run(story())


def test_a_day_should_look_like_the_last_eight_of_its_kind(fleet: Fleet) -> None:
    async def story() -> None:
        await fleet.build(1)
        for week in range(1, 10):
            nine = midnight(TODAY - timedelta(weeks=week)) + timedelta(hours=9)
            begun = 100 if week == 9 else 10 * week  # the ninth is too long ago
            await fleet.run(
                "INSERT INTO admin.org_quarter SELECT id, $1, $2, $3, 0, $2::integer - $3::integer, 0, 0 FROM admin.org"
                " WHERE code = 's1'",
                nine,
                begun,
                begun * 9 // 10,
            )
        async with opened(fleet.dsn) as database, database.connection() as connection:
            await connection.execute(QUERY["usual_fold"], TODAY, midnight(TODAY - timedelta(days=400)))
            await connection.execute(QUERY["usual_fold"], TODAY, midnight(TODAY - timedelta(days=400)))
        (row,) = await fleet.run("SELECT * FROM admin.usual_day")
        assert row["days"] == 8 and row["mean"][36] == 4500 and sum(row["mean"]) == 4500
        assert row["low"][36] == 1700 and row["high"][36] == 7300
        assert (row["rate"], row["rate_low"], row["rate_high"]) == (900, 900, 900)

    asyncio.run(story())


def test_a_night_is_worked_once_and_old_rows_go(fleet: Fleet) -> None:
    async def story() -> None:
        (one,) = await fleet.build(1)
        today = datetime.now(ZONE).date()
        old = datetime.now(UTC) - timedelta(days=600)
        await telemetry(fleet, one, 56, {9: 10}, today)
        await fleet.run(
            "INSERT INTO admin.diagnosis (kiosk_id, at, code, signals)"
            " SELECT $1, $2::timestamptz + n * interval '1 day', 'normal', '{}'"
            "  FROM generate_series(0, 2) AS n",
            one,
            old,
        )
        await fleet.run("INSERT INTO admin.org_quarter SELECT 1, $1, 1, 1, 0, 0, 0, 1", old)
        async with opened(fleet.dsn) as database:
            nights = Nights(database)
            assert (await nights.run())["fitted"] == 1
            assert "fitted" not in await nights.run()
        assert await fleet.run("SELECT FROM admin.org_quarter") == []
        (last,) = await fleet.run("SELECT at FROM admin.diagnosis")
        assert last["at"] == old + timedelta(days=2), "what is still so stays"

    asyncio.run(story())
