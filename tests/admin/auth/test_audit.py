"""The audit log's chain: known values, and that every way to forge it shows."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import asyncpg
import pytest

from admin.auth.audit import GENESIS, anchor, audit, canonical, link, verify
from admin.db.pool import connect


def test_the_chain_is_what_the_documents_say() -> None:
    """Computed here a second time, from the formula alone."""
    record = canonical({"b": 1, "a": "户号", "c": None})
    assert record == '{"a":"户号","b":1,"c":null}'
    inner = hashlib.sha256(record.encode()).digest()
    expected = hashlib.sha256(b"AUDIT1\0" + GENESIS + b"\0\0\0\0\0\0\0\1" + inner).digest()
    assert link(GENESIS, 1, record) == expected
    assert GENESIS.hex().startswith("a175bfd6") and GENESIS.hex().endswith("88dcae")


async def _filled(dsn: str, rows: int) -> None:
    connection = await connect(dsn, "test")
    try:
        for n in range(rows):
            async with connection.transaction():
                await audit(
                    connection, "u:wang", "test.act", "thing", n, reason="因为", n=n, names=["甲", "乙"], none=None
                )
    finally:
        await connection.close()


async def _verified(dsn: str) -> Any:
    connection = await connect(dsn, "test")
    try:
        return await verify(connection)
    finally:
        await connection.close()


async def _as_intruder(dsn: str, *statements: str) -> None:
    """The owner of the database, who can take even the triggers away."""
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "admin"})
    try:
        await connection.execute(
            "ALTER TABLE audit_log DISABLE TRIGGER ALL; ALTER TABLE audit_anchor DISABLE TRIGGER ALL"
        )
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def test_what_was_written_fits(admin_dsn: str) -> None:
    asyncio.run(_filled(admin_dsn, 20))
    found = asyncio.run(_verified(admin_dsn))
    assert (found.rows, found.wrong) == (20, None)


@pytest.mark.parametrize(
    ("forgery", "row"),
    [
        ("UPDATE audit_log SET actor = 'u:li' WHERE seq = 7", 7),
        ("UPDATE audit_log SET detail = jsonb_set(detail, '{n}', '99') WHERE seq = 7", 7),
        ("UPDATE audit_log SET at = at + interval '1 microsecond' WHERE seq = 7", 7),
        ("UPDATE audit_log SET record = replace(record, 'wang', 'yang'), actor = 'u:yang' WHERE seq = 7", 7),
        ("DELETE FROM audit_log WHERE seq = 7", 7),
        ("DELETE FROM audit_log WHERE seq = 7; UPDATE audit_log SET seq = seq - 1 WHERE seq > 7", 7),
        ("DELETE FROM audit_log WHERE seq = 1", 1),
    ],
)
def test_every_forgery_names_its_row(admin_dsn: str, forgery: str, row: int) -> None:
    asyncio.run(_filled(admin_dsn, 12))
    asyncio.run(_as_intruder(admin_dsn, forgery))
    found = asyncio.run(_verified(admin_dsn))
    assert found.wrong == row


async def _anchored(dsn: str) -> None:
    connection = await connect(dsn, "test")
    try:
        async with connection.transaction():
            assert await anchor(connection, "paper") is not None
            assert await anchor(connection, "paper") is None  # one a day
    finally:
        await connection.close()


def test_a_log_cut_off_behind_an_anchor_or_made_anew_shows(admin_dsn: str) -> None:
    asyncio.run(_filled(admin_dsn, 5))
    asyncio.run(_anchored(admin_dsn))
    asyncio.run(_as_intruder(admin_dsn, "DELETE FROM audit_log WHERE seq > 3"))
    assert asyncio.run(_verified(admin_dsn)).wrong == 5

    asyncio.run(_as_intruder(admin_dsn, "DELETE FROM audit_log"))
    asyncio.run(_filled(admin_dsn, 6))  # a whole chain, right in itself
    assert asyncio.run(_verified(admin_dsn)).wrong == 5


def test_the_service_itself_cannot_change_what_it_wrote(admin_dsn: str) -> None:
    async def tries() -> None:
        await _filled(admin_dsn, 2)
        connection = await connect(admin_dsn, "test")
        try:
            for statement in ("UPDATE audit_log SET actor = ''", "DELETE FROM audit_log", "TRUNCATE audit_log"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(tries())


def test_writers_at_the_same_time_make_one_chain(admin_dsn: str) -> None:
    async def storm() -> None:
        await asyncio.gather(*(_filled(admin_dsn, 10) for _ in range(5)))

    asyncio.run(storm())
    found = asyncio.run(_verified(admin_dsn))
    assert (found.rows, found.wrong) == (50, None)
