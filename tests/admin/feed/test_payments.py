"""The copy of the switch's payments: nothing missed, nothing twice, whatever order, portion or kill; places of then."""

from __future__ import annotations

import asyncio
import itertools
import random
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from admin import limits
from admin.auth.secrets import Secrets
from admin.cli import main
from admin.db.pool import Database
from admin.errors import StateError, UnavailableError
from admin.feed.payments import Feed
from switch.dialects.codes import CardCodes
from switch.machines.payment_table import ROWS
from switch.model.payment import State

from ..conftest import opened
from .stories import Event, fact, insert, payment_id, story, write

OWN = Secrets(bytes(range(32)))
_GOOD = (State.NEW, State.CARD_PENDING, State.CARD_CONFIRMING, State.BILL_PENDING)


async def _rows(dsn: str) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return [dict(row) for row in await connection.fetch("SELECT * FROM admin.payment_fact ORDER BY payment_id")]
    finally:
        await connection.close()


async def _execute(dsn: str, statement: str, *values: Any) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(statement, *values)
    finally:
        await connection.close()


async def _hash(dsn: str) -> Any:
    text = "string_agg(fact::text, chr(10) ORDER BY payment_id)"
    return await _execute(dsn, f"SELECT count(*), md5(coalesce({text}, '')) FROM admin.payment_fact AS fact")


async def _expected(dsn: str, events: list[Event]) -> list[dict[str, Any]]:
    faults = {row["row"]: row["source"] for row in await _execute(dsn, 'SELECT "row", source FROM admin.fault_row')}
    classes = {
        (row["source"], row["code"]): row["class"] for row in await _execute(dsn, "SELECT * FROM admin.response_class")
    }
    stories: dict[int, list[Event]] = {}
    for event in events:
        stories.setdefault(event.payment_id, []).append(event)
    return [fact(each, faults, classes) for _, each in sorted(stories.items())]


async def _events(feed: Feed) -> int:
    batch = await feed.once()
    assert batch is not None
    return batch.events


def _same(row: dict[str, Any], wanted: dict[str, Any]) -> None:
    row = row | {"settled_on": f"{row['settled_on']:%Y%m%d}"}
    assert {name: row[name] for name in wanted} == wanted


@pytest.mark.parametrize("seed", range(4))
def test_rows_made_in_any_portions_are_what_the_events_say_and_what_reading_anew_makes(
    admin_dsn: str, seed: int
) -> None:
    async def main() -> None:
        dice = random.Random(seed)
        waiting = [story(dice, number, good=0.5) for number in range(60)]
        events = [event for each in waiting for event in each]
        async with opened(admin_dsn) as database:
            feed = Feed(database, OWN)
            while any(waiting):
                # A few events of a few payments commit together, and the feed reads some of what is there.
                taken = dice.sample([each for each in waiting if each], k=min(5, sum(map(bool, waiting))))
                await write(admin_dsn, [each.pop(0) for each in taken])
                if dice.random() < 0.3:
                    await feed.once(dice.randint(1, 9))
            while (batch := await feed.once(dice.randint(1, 50))) and batch.events:
                pass
            rows = await _rows(admin_dsn)
            for row, wanted in zip(rows, await _expected(admin_dsn, events), strict=True):
                _same(row, wanted)
            mine = await _hash(admin_dsn)
            await _execute(admin_dsn, "UPDATE admin.feed_position SET cursor = ''")
            while (batch := await feed.once(dice.randint(1, 9))) and batch.events:
                assert await _hash(admin_dsn) == mine, "read twice, counted once"
            assert await feed.again() == 60 and await _rows(admin_dsn) == []
            while (batch := await feed.once()) and batch.events:
                pass
            assert await _hash(admin_dsn) == mine
            assert (await feed.lag()).read == len(events)

    asyncio.run(main())


def test_an_account_is_found_by_its_hash_and_stands_nowhere(admin_dsn: str) -> None:
    async def main() -> None:
        events = story(random.Random(1), 17)
        account = events[0].body["account"]
        await write(admin_dsn, events)
        async with opened(admin_dsn) as database:
            await Feed(database, OWN).once()
            (row,) = await _rows(admin_dsn)
            assert row["account_hash"] == OWN.account_hash(account) != Secrets(bytes(32)).account_hash(account)
            assert account not in str(row) and row["account_masked"] == f"****{account[-4:]}"

    asyncio.run(main())


def test_what_commits_late_is_neither_missed_nor_read_too_early(admin_dsn: str) -> None:
    """Two writers; the first to begin is the last to commit, and its payments are in nobody's way."""

    async def main() -> None:
        dice = random.Random(3)
        early, late = story(dice, 1), story(dice, 2)
        writers = [await asyncpg.connect(admin_dsn) for _ in range(2)]
        transactions = [writer.transaction() for writer in writers]
        for writer, transaction, events in zip(writers, transactions, (late, early), strict=True):
            await transaction.start()
            await insert(writer, events)
        async with opened(admin_dsn) as database:
            feed = Feed(database, OWN)
            await transactions[1].commit()
            assert await _events(feed) == 0, "the open transaction may still write before it"
            lag = await feed.lag()
            assert lag.events == len(early) and lag.oldest_s > 0
            await transactions[0].commit()
            assert await _events(feed) == len(early) + len(late)
            assert [row["payment_id"] for row in await _rows(admin_dsn)] == [early[0].payment_id, late[0].payment_id]
            lag = await feed.lag()
            assert (lag.events, lag.oldest_s) == (0, 0.0)
        for writer in writers:
            await writer.close()

    asyncio.run(main())


async def _blocked(dsn: str) -> int:
    """The server process of the feed, once it waits for a lock."""
    connection = await asyncpg.connect(dsn)
    try:
        while True:
            found = await connection.fetchval(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
                "AND application_name = 'gridswitch admin pages'"
            )
            if found:
                return int(found)
            await asyncio.sleep(0.01)
    finally:
        await connection.close()


def test_killed_in_the_middle_nothing_is_half_done_and_nobody_else_reads_meanwhile(admin_dsn: str) -> None:
    async def main() -> None:
        dice = random.Random(5)
        first, second = story(dice, 1), story(dice, 2)
        await write(admin_dsn, first)
        async with opened(admin_dsn) as database:
            feed = Feed(database, OWN)
            await feed.once()
            before = await _hash(admin_dsn), await _execute(admin_dsn, "SELECT * FROM admin.feed_position")
            await write(admin_dsn, second)
            blocker = await asyncpg.connect(admin_dsn)
            async with blocker.transaction():
                await blocker.execute("LOCK TABLE admin.payment_fact IN SHARE MODE")
                reading = asyncio.create_task(feed.once())
                pid = await _blocked(admin_dsn)
                assert await Feed(database, OWN).once() is None, "one reads at a time"
                await blocker.execute("SELECT pg_terminate_backend($1)", pid)
                with pytest.raises(UnavailableError):
                    await reading
            await blocker.close()
            assert before == (await _hash(admin_dsn), await _execute(admin_dsn, "SELECT * FROM admin.feed_position"))
            assert await _events(feed) == len(second)
            assert len(await _rows(admin_dsn)) == 2

    asyncio.run(main())


def test_while_the_database_is_away_nothing_is_written_and_the_loop_says_so(admin_dsn: str) -> None:
    async def main() -> None:
        database = Database(admin_dsn)
        await database.start()
        feed = Feed(database, OWN)
        await database.stop()
        with pytest.raises(UnavailableError):
            await feed.work()

    asyncio.run(main())


def test_a_missing_event_stops_the_feed_and_is_not_passed_over(admin_dsn: str) -> None:
    async def main() -> None:
        events = story(random.Random(2), 1, good=1.0)
        await write(admin_dsn, [events[0]])
        async with opened(admin_dsn) as database:
            feed = Feed(database, OWN)
            await feed.once()
            await write(admin_dsn, [events[2]])
            with pytest.raises(StateError) as gap:
                await feed.once()
            assert gap.value.code == "feed_gap"
            assert [row["ver"] for row in await _rows(admin_dsn)] == [1]
            assert (await feed.lag()).events == 1

    asyncio.run(main())


def test_the_loop_reads_all_that_waits_and_tells_its_lag(admin_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FEED_BATCH", 7)

    async def main() -> None:
        dice = random.Random(11)
        events = [event for number in range(20) for event in story(dice, number)]
        await write(admin_dsn, events)
        async with opened(admin_dsn) as database:
            feed = Feed(database, OWN)
            assert (await feed.lag()).seconds > 0, "before it has ever read, the oldest event tells"
            told = await feed.work()
            assert (told["lag_events"], told["events"]) == (0, len(events)) and told["lag_s"] < 60
            assert len(await _rows(admin_dsn)) == 20

    asyncio.run(main())


def test_the_command_tells_the_lag_and_forgets_the_copy(
    admin_dsn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "admin.toml"
    path.write_text(f'[database]\ndsn = "{admin_dsn}"\n')
    events = story(random.Random(4), 1)
    asyncio.run(write(admin_dsn, events))
    assert main(["feed", "--config", str(path)]) == 0
    assert f"0 events read, {len(events)} wait" in capsys.readouterr().out

    async def read() -> None:
        async with opened(admin_dsn) as database:
            await Feed(database, OWN).work()

    asyncio.run(read())
    assert main(["feed", "--config", str(path)]) == 0
    assert f"{len(events)} events read, 0 wait" in capsys.readouterr().out
    assert main(["feed", "--again", "--config", str(path)]) == 0
    assert "1 payments forgotten" in capsys.readouterr().out and asyncio.run(_rows(admin_dsn)) == []


# ---------------------------------------------------------------------------------------------------- places
async def _sites(dsn: str) -> None:
    await _execute(
        dsn,
        "WITH city AS (INSERT INTO admin.org (parent_id, kind, code, name, path) "
        "VALUES (1, 'city', 'ff', '试验', '/ff/') RETURNING id), "
        "sites AS (INSERT INTO admin.org (parent_id, kind, code, name, path) "
        "SELECT city.id, 'site', code, code, '/ff/' || code || '/' FROM city, unnest(ARRAY['a', 'b']) AS code) "
        "INSERT INTO admin.kiosk_model (vendor, name, units) VALUES ('v', 'm', ARRAY['idc'])",
    )


async def _kiosk(dsn: str, code: str, site: str, terminal: str | None) -> None:
    await _execute(
        dsn,
        "INSERT INTO admin.kiosk (code, serial_number, model_id, org_id, terminal_id) "
        "SELECT $1, 'SN' || $1, model.id, org.id, $3 FROM admin.org, admin.kiosk_model AS model WHERE org.code = $2",
        code,
        site,
        terminal,
    )


def test_a_payment_belongs_to_the_place_of_its_time_whatever_moves_later(admin_dsn: str) -> None:
    async def main() -> None:
        dice = random.Random(9)
        now_ms = int((await _execute(admin_dsn, "SELECT extract(epoch FROM now()) * 1000 AS ms"))[0]["ms"])
        number = 0

        async def pay(terminal: str, began_ms: int) -> int:
            nonlocal number
            number += 1
            events = story(dice, number, began_ms=began_ms, terminal=terminal)
            await write(admin_dsn, events)
            return payment_id(began_ms, number)

        async def paths() -> dict[int, tuple[str, str | None]]:
            rows = await _execute(
                admin_dsn,
                "SELECT payment_id, org_path, kiosk.code FROM admin.payment_fact "
                "LEFT JOIN admin.kiosk ON kiosk.id = kiosk_id",
            )
            return {row["payment_id"]: (row["org_path"], row["code"]) for row in rows}

        await _sites(admin_dsn)
        async with opened(admin_dsn) as database:
            feed = Feed(database, OWN)
            unknown = await pay("GS000001", now_ms - 86_400_000)
            await feed.work()
            assert await paths() == {unknown: ("/", None)}, "nobody has registered it: the whole network's alone"

            await _kiosk(admin_dsn, "KSK-1", "a", "GS000001")
            await feed.work()
            assert await paths() == {unknown: ("/ff/a/", "KSK-1")}, "what it did before, it did there"

            # Moved to b, then its terminal number went to another kiosk at a, then that one was taken down.
            await _execute(admin_dsn, "UPDATE admin.kiosk SET org_id = (SELECT id FROM admin.org WHERE code = 'b')")
            # A payment that had begun before the move and one after it, though both come later.
            before, after = await pay("GS000001", now_ms - 60_000), await pay("GS000001", now_ms + 600_000)
            await feed.work()
            assert await paths() == {
                unknown: ("/ff/a/", "KSK-1"),
                before: ("/ff/a/", "KSK-1"),
                after: ("/ff/b/", "KSK-1"),
            }
            await _execute(admin_dsn, "UPDATE admin.kiosk SET terminal_id = NULL")
            await _kiosk(admin_dsn, "KSK-2", "a", "GS000001")
            await feed.work()
            assert (await paths())[after] == ("/ff/a/", "KSK-2"), "it had been copied before the news came"
            await _execute(admin_dsn, "UPDATE admin.kiosk SET terminal_id = NULL WHERE code = 'KSK-2'")
            await feed.work()
            assert await paths() == {
                unknown: ("/ff/a/", "KSK-1"),
                before: ("/ff/a/", "KSK-1"),
                after: ("/", None),
            }
            mine = await _hash(admin_dsn)
            await feed.again()
            await feed.work()
            assert await _hash(admin_dsn) == mine
            places = await _execute(admin_dsn, "SELECT * FROM admin.kiosk_place ORDER BY valid_from")
            assert all(one["valid_to"] <= two["valid_from"] for one, two in itertools.pairwise(places))

    asyncio.run(main())


def test_a_site_that_changes_its_city_leaves_the_past_where_it_was(admin_dsn: str) -> None:
    async def main() -> None:
        await _sites(admin_dsn)
        await _kiosk(admin_dsn, "KSK-1", "a", "GS000001")
        now_ms = int((await _execute(admin_dsn, "SELECT extract(epoch FROM now()) * 1000 AS ms"))[0]["ms"])
        async with opened(admin_dsn) as database:
            feed = Feed(database, OWN)
            await write(admin_dsn, story(random.Random(1), 1, began_ms=now_ms - 1000, terminal="GS000001"))
            await feed.work()
            await _execute(admin_dsn, "UPDATE admin.org SET path = '/hh/a/' WHERE code = 'a'")
            await write(admin_dsn, story(random.Random(2), 2, began_ms=now_ms + 600_000, terminal="GS000001"))
            await feed.work()
            assert [row["org_path"] for row in await _rows(admin_dsn)] == ["/ff/a/", "/hh/a/"]

    asyncio.run(main())


def test_nobody_writes_a_place_or_a_class_by_hand(admin_dsn: str) -> None:
    async def main() -> None:
        async with opened(admin_dsn) as database, database.connection() as connection:
            for statement in (
                "INSERT INTO admin.kiosk_place (terminal_id, kiosk_id, org_id, org_path, valid_from) "
                "VALUES ('GS000001', 1, 1, '/', now())",
                "UPDATE admin.kiosk_place SET org_path = '/'",
                "DELETE FROM admin.kiosk_place",
                "UPDATE admin.response_class SET class = 'ok'",
            ):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)

    asyncio.run(main())


# ---------------------------------------------------------------------------------------------------- whose fault
def test_every_row_that_leads_off_the_good_way_says_whose_fault_it_is(admin_dsn: str) -> None:
    async def main() -> None:
        rows = await _execute(
            admin_dsn,
            'SELECT fault."row", fault.source, class.class FROM admin.fault_row AS fault '
            "LEFT JOIN admin.response_class AS class ON class.source = fault.source "
            "AND class.code = CASE fault.source WHEN 'row' THEN fault.\"row\" ELSE '*' END",
        )
        assert all(row["class"] for row in rows)
        off = {
            row.number
            for row in ROWS
            if row.durable and row.state in _GOOD and row.next not in _GOOD and row.next is not State.COMPLETED
        }
        assert {row["row"] for row in rows} == off
        codes = await _execute(admin_dsn, "SELECT code FROM admin.response_class WHERE source = 'card'")
        assert {row["code"] for row in codes} >= set(CardCodes().listed) - {"A1", "A3"}

    asyncio.run(main())
