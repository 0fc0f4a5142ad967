"""Migrations and named queries."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from switch.errors import StartError, UnavailableError
from switch.model.payment import State
from switch.ports import Append, Claim, ClaimKind
from switch.store.migrate import FOLDER, migrate, pending
from switch.store.pool import BY_KEY, connect
from switch.store.projector import read_books
from switch.store.queries import QUERY, load

from .conftest import PostgresStore
from .support import append, entry, found, outcome


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copy = tmp_path / "migrations"
    shutil.copytree(FOLDER, copy)
    (copy / "0900_pre_more.sql").write_text(
        "CREATE TABLE switch.more (id integer);\nINSERT INTO switch.more VALUES (1);"
    )
    return copy


def test_files_are_applied_in_order_and_once(empty_database: str, folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir())

    async def main() -> None:
        assert await pending(empty_database, folder) == names
        assert await migrate(empty_database, folder) == names
        assert await pending(empty_database, folder) == []
        assert await migrate(empty_database, folder) == []

    asyncio.run(main())


def test_many_at_once_apply_each_file_once(empty_database: str, folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir())

    async def main() -> None:
        applied = await asyncio.gather(*(migrate(empty_database, folder) for _ in range(8)))
        assert sorted(name for each in applied for name in each) == names

    asyncio.run(main())


def test_a_changed_file_is_an_error_that_names_it(empty_database: str, folder: Path) -> None:
    async def main() -> None:
        await migrate(empty_database, folder)
        with (folder / "0900_pre_more.sql").open("a") as file:
            file.write("-- harmless?\n")
        for call in (migrate, pending):
            with pytest.raises(StartError, match=r"0900_pre_more\.sql was changed") as caught:
                await call(empty_database, folder)
            assert caught.value.code == "migration_changed"

    asyncio.run(main())


def test_a_newer_database_and_a_late_number_are_errors(empty_database: str, folder: Path) -> None:
    async def main() -> None:
        await migrate(empty_database, folder)
        (folder / "0899_pre_zwischen.sql").write_text("SELECT 1;")
        with pytest.raises(StartError, match="renumber it"):
            await migrate(empty_database, folder)
        (folder / "0899_pre_zwischen.sql").unlink()
        (folder / "0900_pre_more.sql").unlink()
        with pytest.raises(StartError, match=r"newer than this program: it has 0900_pre_more\.sql"):
            await pending(empty_database, folder)

    asyncio.run(main())


def test_a_file_that_fails_leaves_nothing_behind(empty_database: str, folder: Path) -> None:
    async def main() -> None:
        (folder / "0901_pre_broken.sql").write_text("CREATE TABLE switch.half (id integer); SELECT 1 / 0;")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await migrate(empty_database, folder)
        assert await pending(empty_database, folder) == ["0901_pre_broken.sql"]
        store = PostgresStore(empty_database)
        rows = await store.fetch("SELECT to_regclass('switch.half') AS half, to_regclass('switch.more') AS more")
        assert (rows[0]["half"], rows[0]["more"] is None) == (None, False)

    asyncio.run(main())


def test_no_server_is_an_outage() -> None:
    with pytest.raises(UnavailableError):
        asyncio.run(migrate("postgresql://gridswitch@/gridswitch?host=/tmp/gs-no-such-folder"))


def test_every_query_is_valid_sql(database: str) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(database)
        try:
            for name, statement in QUERY.items():
                if name != "migration_prepare":  # several statements, which cannot be prepared
                    await connection.prepare(statement.replace("{table}", "payment_event"))  # of preload.py
        finally:
            await connection.close()

    asyncio.run(main())


def test_the_view_for_people_shows_the_latest_event(postgres: PostgresStore) -> None:
    async def main() -> None:
        async with postgres.journal() as journal:
            await append(journal, entry(1))
            await append(journal, entry(1, 2, state=State.COMPLETED))
            await append(journal, entry(2))
        rows = await postgres.fetch("SELECT payment_id, ver, state::text, changed_at FROM switch.payment_now")
        assert [(row["payment_id"], row["ver"], row["state"]) for row in rows] == [
            (1, 2, "COMPLETED"),
            (2, 1, "CARD_PENDING"),
        ]
        assert rows[0]["changed_at"].timestamp() == pytest.approx(1_700_000_000)

    asyncio.run(main())


def test_every_table_and_view_has_a_comment(postgres: PostgresStore) -> None:
    async def main() -> None:
        rows = await postgres.fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = 'switch'::regnamespace AND relkind IN ('r', 'p', 'v') "
            "AND NOT relispartition AND obj_description(oid, 'pg_class') IS NULL"
        )
        assert rows == []

    asyncio.run(main())


def test_a_query_file_must_be_well_formed() -> None:
    assert load("-- a --\n-- About it.\nSELECT 1;\n-- b --\nSELECT 2;") == {"a": "SELECT 1", "b": "SELECT 2"}
    with pytest.raises(ValueError, match="before the first name"):
        load("SELECT 1;\n-- a --\nSELECT 2;")
    with pytest.raises(ValueError, match="used twice"):
        load("-- a --\nSELECT 1;\n-- a --\nSELECT 2;")


async def _one_payment(connection: Any) -> None:
    await connection.execute(
        "SELECT switch.ensure_partition(20261123);"
        "INSERT INTO switch.claim (payment_id, opened_on, kiosk_key, stan_key, sealed_pan) "
        "VALUES (1, 20261123, 'k', 's', 'p');"
        "INSERT INTO switch.open_payment (payment_id, opened_on, owner, bill_key) VALUES (1, 20261123, 1, 'b');"
        "INSERT INTO switch.worker (name, ended_by, ended_at) VALUES ('switch', 1, now());"
        "INSERT INTO switch.payment_event "
        "VALUES (20261123, 1, 1, 'CARD_PENDING', '1', 0, 0, '{}', '', NULL, NULL, 1, 1);"
        "ANALYZE switch.claim, switch.open_payment, switch.payment_event, switch.worker"
    )


@pytest.mark.parametrize("what", [0, 2])
def test_what_is_given_back_is_found_by_key_whatever_the_statistics_say(database: str, what: int) -> None:
    """In a function, whose plans cannot be shown: how it reads is counted."""

    async def main() -> None:
        connection = await connect(database, "plans", BY_KEY)
        try:
            await _one_payment(connection)
            arguments: list[list[object]] = [[] for _ in range(17)]
            arguments[what : what + 2] = ([1], ["b"]) if what == 0 else ([1], [20270101])
            async with connection.transaction():
                await connection.fetch(QUERY["journal_claims"], *arguments)
                reads = await connection.fetchrow(
                    "SELECT sum(seq_scan) AS whole, sum(idx_scan) AS by_key, sum(n_tup_upd + n_tup_del) AS written "
                    "FROM pg_stat_xact_user_tables WHERE schemaname = 'switch'"
                )
            assert (reads["whole"], reads["by_key"] > 0, reads["written"]) == (0, True, 1 if what == 0 else 2)
        finally:
            await connection.close()

    asyncio.run(main())


@pytest.mark.parametrize("name", ["event_writers", "claim_holders", "payment_by_claim", "payment_take_over"])
def test_the_path_goes_by_key_whatever_the_statistics_say(database: str, name: str) -> None:
    """In the first minute the tables are nearly empty, and reading them whole looks cheap; that plan would stay."""

    async def main() -> None:
        connection = await connect(database, "plans", BY_KEY)
        try:
            await _one_payment(connection)
            prepared = await connection.prepare(QUERY[name])
            arguments: list[object] = [
                [1] if kind.name.startswith("int") else ["1"] for kind in prepared.get_parameters()
            ]
            if name == "payment_take_over":
                arguments = [2, 1]
            plan = str(await connection.fetch("EXPLAIN " + QUERY[name], *arguments))
            assert "Index" in plan
            assert "Seq Scan" not in plan
        finally:
            await connection.close()

    asyncio.run(main())


OLD_FORM = "0012_pre_write.sql"  # the last migration with claims by kind and ledger lines by row


def test_a_database_of_the_old_form_comes_over_with_all_it_holds(empty_database: str, tmp_path: Path) -> None:
    older = tmp_path / "older"
    older.mkdir()
    for path in FOLDER.glob("*.sql"):
        if path.name <= OLD_FORM:
            shutil.copy(path, older)

    def sealed(hour: int) -> bytes:
        return b"\x01" + hour.to_bytes(4, "big") + bytes(60)

    async def main() -> None:
        await migrate(empty_database, older)
        store = PostgresStore(empty_database)
        await store.execute("SELECT switch.ensure_partition(20261123)")
        await store.execute("INSERT INTO switch.worker (name, lease_s) VALUES ('switch', 60)")
        claims = [
            *(("kiosk", f"k{number}", number, None, None, None, None) for number in (1, 2, 3)),
            *(("stan", f"s{number}", number, None, None, None, None) for number in (1, 2, 3)),
            ("open", "2", 2, b"whole", sealed(7), 1, None),
            ("open", "3", 3, b"more", None, 1, None),
            ("bill", "b2", 2, None, None, None, None),
            ("bill", "b1", 2, None, None, None, None),
            ("kiosk", "nobody", 0, None, None, None, "not_found"),
        ]
        insert = (
            "INSERT INTO switch.claim (kind, key, payment_id, opened_on, sealed, sealed_pan, owner, closed) "
            "VALUES ($1, $2, $3, 20261123, $4, $5, $6, $7)"
        )
        for claim in claims:
            await store.execute(insert, *claim)
        # Of a payment whose keys are there, and of one whose keys have gone.
        for number in (1, 9):
            kept = "INSERT INTO switch.kept_card VALUES (20261123, $1, $2, 20270101)"
            await store.execute(kept, number, sealed(number))
        body = '{"terminal":"t","account":"a","kiosk_date":"1123","kiosk_serial":"1"}'
        ledger = '[["u_receivable",100,0],["customer_suspense",0,100]]'
        for number in (1, 2, 3):
            await store.execute(
                "INSERT INTO switch.payment_event "
                "VALUES (20261123, $1, 1, 'BILL_PENDING', '2', 0, 100, $2, '', NULL, $3, 1, 1)",
                *(number, body, ledger),
            )
        await store.execute(
            "INSERT INTO switch.ledger_entry VALUES (20261123, 1, 1, 0, 'u_receivable', 100, 0), "
            "(20261123, 1, 1, 1, 'customer_suspense', 0, 100)"
        )
        await store.execute(
            "UPDATE switch.projection SET (committed_by, opened_on, payment_id, ver, events) = "
            "(SELECT committed_by, opened_on, payment_id, ver, 1 FROM switch.payment_event WHERE payment_id = 1)"
        )
        with pytest.raises(StartError, match=r"0013_pre_claims\.sql: a worker is still running") as caught:
            await migrate(empty_database)
        assert caught.value.code == "migration_refused"
        assert (await pending(empty_database))[0] > OLD_FORM
        await store.execute("UPDATE switch.worker SET renewed_at = now() - interval '61 s'")  # killed a minute ago
        await migrate(empty_database)

        assert await store.claims() == {
            **{(kind, f"{kind[0]}{number}"): (number, None) for kind in ("kiosk", "stan") for number in (1, 2, 3)},
            ("kiosk", "nobody"): (0, None),
            ("open", "2"): (2, b"whole"),
            ("open", "3"): (3, b"more"),
            ("bill", "b1"): (2, None),
            ("bill", "b2"): (2, None),
        }
        day = 20261123
        assert await store.kept() == {(day, 1): (sealed(1), 20270101), (day, 9): (sealed(9), 20270101)}
        async with store.journal() as journal:
            opened, bills = Claim(ClaimKind.OPEN, "2"), [Claim(ClaimKind.BILL, bill) for bill in ("b1", "b2")]
            taken = await append(journal, entry(8, claims=(bills[1],), body=body.encode()))
            assert (taken.result, taken.claim) == (Append.CLAIMED, bills[1])
            assert (await found(journal, Claim(ClaimKind.KIOSK, "nobody"))).code == "not_found"
            ends = entry(2, 2, opened_on=day, state=State.COMPLETED, releases=(opened, *bills), keep_until=20270105)
            assert await outcome(journal, ends) is Append.COMMITTED
            assert (await store.kept())[day, 2] == (sealed(7), 20270105)
            assert await outcome(journal, entry(8, claims=(bills[1],), body=body.encode())) is Append.COMMITTED
            (stored,) = await journal.take_over(9)
            assert (stored.payment_id, stored.sealed) == (3, b"more"), "of the worker that was killed"
        books = await read_books(empty_database)
        assert (books.total, books.events) == (0, 5)
        assert {name: balance for name, _, _, balance in books.accounts} == {
            "u_receivable": 300,
            "customer_suspense": -300,
        }
        lines = await store.fetch("SELECT * FROM switch.ledger_entry WHERE payment_id = 1 ORDER BY line")
        assert [tuple(row) for row in lines] == [
            (day, 1, 1, 0, "u_receivable", 100, 0),
            (day, 1, 1, 1, "customer_suspense", 0, 100),
        ]

    asyncio.run(main())
