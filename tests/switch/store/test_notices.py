"""Script notices: kept once, sent again later and later by whoever finds them due, gone with their answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from switch.errors import UnavailableError
from switch.ports import NoticeStore, ScriptNotice
from switch.store.kept import PostgresSealedHours
from switch.store.memory import MemoryDatabase, MemoryNotices
from switch.store.notices import PostgresNotices

from .conftest import PostgresStore, Run
from .support import DAY, RealClock

SEALED = b"\x01" + (400_002).to_bytes(4, "big") + bytes(60)
NOTICE = ScriptNotice(DAY, 1, {"terminal": "GS000001", "stan": "000007"}, SEALED)
AGAIN_S = 0.3


async def life(first: NoticeStore, second: NoticeStore) -> None:
    """Two workers on one database."""
    await first.add(NOTICE, AGAIN_S)
    await second.add(ScriptNotice(DAY, 1, {"terminal": "another"}, b"x"), 0.0)
    assert await second.due(AGAIN_S) == [], "it has just been sent"
    await asyncio.sleep(AGAIN_S + 0.05)
    found = [each for store in (first, second) for each in await store.due(AGAIN_S)]
    assert [(each.body, each.sealed) for each in found] == [(NOTICE.body, SEALED)], "one of them has it"
    await asyncio.sleep(AGAIN_S + 0.05)
    assert len(await second.due(AGAIN_S)) == 1
    await asyncio.sleep(AGAIN_S + 0.05)
    assert await first.due(AGAIN_S) == [], "each time it waits twice as long"
    await first.end(found[0])
    await first.end(found[0])
    await asyncio.sleep(AGAIN_S + 0.05)
    assert await second.due(AGAIN_S) == []


def test_a_notice_is_sent_later_and_later_until_it_is_answered(postgres: PostgresStore, run: Run) -> None:
    async def main() -> None:
        first, second = PostgresNotices(postgres.dsn, "one"), PostgresNotices(postgres.dsn, "two")
        await life(first, second)
        await first.stop()
        await second.stop()

    run(main())


def test_the_stand_in_does_the_same(run: Run) -> None:
    database: Any = MemoryDatabase()
    run(life(MemoryNotices(database, RealClock()), MemoryNotices(database, RealClock())))


def test_the_hour_of_a_notice_is_needed_until_it_is_answered(postgres: PostgresStore, run: Run) -> None:
    async def main() -> None:
        notices, hours = PostgresNotices(postgres.dsn, "one"), PostgresSealedHours(postgres.dsn, "two")
        await notices.add(NOTICE, 60.0)
        assert (await hours.read())[0] == {400_002}
        await notices.end(NOTICE)
        assert (await hours.read())[0] == set()
        await notices.stop()
        await hours.stop()

    run(main())


def test_without_a_database_nothing_is_kept(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(UnavailableError):
            await PostgresNotices("postgresql://nobody@127.0.0.1:1/none", "one").add(NOTICE, 1.0)

    run(main())


def test_many_at_once_take_turns(postgres: PostgresStore, run: Run) -> None:
    """A connection does one thing at a time; kiosks, answers and looks do not wait for each other to come."""

    async def main() -> None:
        store = PostgresNotices(postgres.dsn, "one")
        notices = [ScriptNotice(DAY, number, {}, SEALED) for number in range(20)]
        await asyncio.gather(*(store.add(each, 0.0) for each in notices), store.due(60.0))
        assert len(await postgres.fetch("SELECT * FROM switch.script_notice")) == 20
        await asyncio.gather(*(store.end(each) for each in notices), store.due(60.0))
        assert await postgres.fetch("SELECT * FROM switch.script_notice") == []
        await store.stop()

    run(main())
