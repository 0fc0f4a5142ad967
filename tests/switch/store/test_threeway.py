"""What the three-way check and the proof read from PostgreSQL, and what is written of a comparison."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from switch import limits
from switch.machines.threeway import Comparison
from switch.store.projector import read_books
from switch.store.proof import load_ledger_totals, load_payment_rows
from switch.store.threeway import PostgresThreeWay

from .conftest import PostgresStore
from .support import DAY, RealClock, entry, outcome

BODY = {"terminal": "GS000001", "kiosk_date": "1124", "kiosk_serial": "000001", "account": "0500000017"}
HOUR_S = 3_600


async def _paid(postgres: PostgresStore, number: int, age_s: float, state: str = "COMPLETED", ver: int = 1) -> None:
    """A payment that began so long ago."""
    began = RealClock().wall_us() - round(age_s * 1e6)
    body = orjson.dumps(BODY | {"number": number})
    async with postgres.journal() as journal:
        await outcome(journal, entry(number, ver, state=state, wall_us=began, body=body))


@asynccontextmanager
async def _check(postgres: PostgresStore) -> Any:
    await read_books(postgres.dsn)
    store = PostgresThreeWay(postgres.dsn, "three-way")
    try:
        yield store
    finally:
        await store.stop()


async def _due(store: PostgresThreeWay) -> list[int]:
    return [row["payment_id"] for row in await store.due()]


def test_finished_payments_are_due_once_they_are_still_and_before_they_are_history(postgres: PostgresStore) -> None:
    async def main() -> None:
        await _paid(postgres, 1, limits.THREEWAY_AFTER_S - 60)
        await _paid(postgres, 2, limits.THREEWAY_AFTER_S + 60)
        await _paid(postgres, 3, limits.THREEWAY_UNTIL_S - 60, state="REVERSED")
        await _paid(postgres, 4, limits.THREEWAY_UNTIL_S + 60)
        await _paid(postgres, 5, HOUR_S, state="SUSPENSE")
        async with _check(postgres) as store:
            assert await _due(store) == [3, 2]
            (oldest, _) = await store.due()
            assert (oldest["opened_on"], oldest["ver"], oldest["state"], oldest["amount"]) == (
                DAY,
                1,
                "REVERSED",
                12_345,
            )
            assert orjson.loads(oldest["body"])["number"] == 3

    asyncio.run(main())


def test_one_look_is_bounded(postgres: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "THREEWAY_AT_ONCE", 2)

    async def main() -> None:
        for number in (1, 2, 3):
            await _paid(postgres, number, HOUR_S * number)
        async with _check(postgres) as store:
            assert await _due(store) == [3, 2]

    asyncio.run(main())


def test_what_was_compared_is_due_again_when_it_moved_or_differed_long_ago(postgres: PostgresStore) -> None:
    later = "UPDATE switch.threeway_check SET checked_at = checked_at - make_interval(secs => $1)"

    async def main() -> None:
        for number in (1, 2, 3):
            await _paid(postgres, number, HOUR_S * number)
        async with _check(postgres) as store:
            three, two, one = await store.due()
            await store.record(three, None, 100, Comparison("marketing_short", 12_245))
            await store.record(two, 12_345, 12_345, Comparison("match", 0))
            await store.record(one, None, 12_345, Comparison("card_unconfirmed", 0))
            rows = await postgres.fetch(
                "SELECT opened_on, payment_id, ver, class, amount, charged, booked, at_risk "
                "FROM switch.threeway_check ORDER BY payment_id"
            )
            assert [tuple(row) for row in rows] == [
                (DAY, 1, 1, "card_unconfirmed", 12_345, None, 12_345, 0),
                (DAY, 2, 1, "match", 12_345, 12_345, 12_345, 0),
                (DAY, 3, 1, "marketing_short", 12_345, None, 100, 12_245),
            ]
            assert await _due(store) == []
            await postgres.execute(later, limits.THREEWAY_AGAIN_S - 60)
            assert await _due(store) == []
            await postgres.execute(later, 120)
            assert await _due(store) == [3], "a difference, until it is gone"
            await store.record(three, None, 12_345, Comparison("card_unconfirmed", 0))
            assert await _due(store) == []
            await _paid(postgres, 2, 0, state="REFUNDED", ver=2)
            await read_books(postgres.dsn)
            assert await _due(store) == [2]

    asyncio.run(main())


def test_the_classes_are_summed_and_what_nobody_knows_is_counted(postgres: PostgresStore) -> None:
    async def main() -> None:
        async with _check(postgres) as store:
            assert await store.summary() == ({}, 0, 0.0)
        for number in (1, 2, 3):
            await _paid(postgres, number, HOUR_S * number)
        await _paid(postgres, 4, 500, state="SUSPENSE")
        await _paid(postgres, 5, 900, state="UNPROVEN")
        async with _check(postgres) as store:
            for row in await store.due():
                found = ("match", 0) if row["payment_id"] == 1 else ("card_short", 10 * row["payment_id"])
                await store.record(row, None, 0, Comparison(*found))
            classes, unknown, oldest_s = await store.summary()
            assert classes == {"match": (1, 0), "card_short": (2, 50)}
            assert unknown == 2 and 900 <= oldest_s < 960

    asyncio.run(main())


def test_the_ledger_of_every_event_is_summed_by_account(postgres: PostgresStore) -> None:
    async def main() -> None:
        assert await load_ledger_totals(postgres.dsn) == {}
        async with postgres.journal() as journal:
            await outcome(journal, entry(1, ledger=b'[["a",5,0],["b",0,5]]'))
            await outcome(journal, entry(1, 2, ledger=b'[["b",7,0],["a",0,7]]'))
            await outcome(journal, entry(2, ledger=b'[["a",1,0],["c",0,1]]'))
            await outcome(journal, entry(3, opened_on=DAY - 1, ledger=b'[["a",100,0],["b",0,100]]'))
        assert await load_ledger_totals(postgres.dsn) == {"a": 99, "b": -98, "c": -1}
        assert await load_ledger_totals(postgres.dsn, DAY) == {"a": -1, "b": 2, "c": -1}
        assert await load_ledger_totals(postgres.dsn, DAY + 1) == {}
        since = [row.payment.payment_id async for row in load_payment_rows(postgres.dsn, DAY)]
        assert since == [1, 2] and len(await postgres.rows()) == 3

    asyncio.run(main())


def test_events_are_folded_payment_by_payment(postgres: PostgresStore) -> None:
    async def main() -> None:
        async with postgres.journal() as journal:
            await outcome(journal, entry(1, amount=1))
            await outcome(journal, entry(1, 2, amount=2))
            await outcome(journal, entry(2, amount=3))
        rows = await postgres.rows()
        assert [(row.payment.payment_id, row.amount, row.events, row.payment.ver) for row in rows] == [
            (1, 2, 2, 2),
            (2, 3, 1, 1),
        ]
        assert [row.payment.opened_on for row in rows] == [DAY, DAY]

    asyncio.run(main())
