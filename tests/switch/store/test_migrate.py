"""Migrations and named queries."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import asyncpg
import pytest

from switch.errors import StartError, UnavailableError
from switch.store.migrate import FOLDER, migrate, pending
from switch.store.pool import BY_KEY, connect
from switch.store.queries import QUERY, load

from .conftest import PostgresStore


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
    from switch.model.payment import State

    from .support import append, entry

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


@pytest.mark.parametrize(
    "name", ["bills_release", "payments_end", "event_writers", "claim_holders", "payment_by_claim", "payment_take_over"]
)
def test_the_path_goes_by_key_whatever_the_statistics_say(database: str, name: str) -> None:
    """In the first minute the tables are nearly empty, and reading them whole looks cheap; that plan would stay."""

    async def main() -> None:
        connection = await connect(database, "plans", BY_KEY)
        try:
            await connection.execute(
                "SELECT switch.ensure_partition(20261123);"
                "INSERT INTO switch.claim (payment_id, opened_on, kiosk_key, stan_key) VALUES (1, 20261123, 'k', 's');"
                "INSERT INTO switch.open_payment (payment_id, opened_on, owner, bill_key) VALUES (1, 20261123, 1, 'b');"
                "INSERT INTO switch.worker (name, ended_by, ended_at) VALUES ('switch', 1, now());"
                "INSERT INTO switch.payment_event "
                "VALUES (20261123, 1, 1, 'CARD_PENDING', '1', 0, 0, '{}', '', NULL, NULL, 1, 1);"
                "ANALYZE switch.claim, switch.open_payment, switch.payment_event, switch.worker"
            )
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
