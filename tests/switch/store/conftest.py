"""The same journal and terminals twice: on PostgreSQL and in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from switch.ports import JournalEntry, Terminal
from switch.store.fold import PaymentRow
from switch.store.journal import PostgresJournal
from switch.store.memory import MemoryDatabase, MemoryJournal, MemoryTerminals
from switch.store.proof import load_payment_rows
from switch.store.terminals import PostgresTerminals

from .support import RealClock, Recorder

Kept = dict[tuple[int, int], tuple[bytes, int]]
Claims = dict[tuple[str, str], tuple[int, bytes | None]]


class PostgresStore:
    """What a test needs beyond the ports."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.seen = Recorder()

    @asynccontextmanager
    async def journal(self, **options: Any) -> AsyncIterator[PostgresJournal]:
        journal = PostgresJournal(self.dsn, clock=RealClock(), observer=self.seen, **options)
        await journal.start()
        try:
            yield journal
        finally:
            await journal.stop()

    @asynccontextmanager
    async def terminals(self) -> AsyncIterator[PostgresTerminals]:
        terminals = PostgresTerminals(self.dsn, clock=RealClock(), observer=self.seen)
        await terminals.start()
        try:
            yield terminals
        finally:
            await terminals.stop()

    async def foreign(self, entry: JournalEntry) -> None:
        """A row of another writer."""
        await self.execute(
            "INSERT INTO switch.payment_event VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 999, 1)",
            entry.opened_on,
            entry.payment_id,
            entry.ver,
            entry.state,
            entry.row,
            entry.wall_us,
            entry.amount,
            entry.body.decode(),
            entry.link,
            entry.attempt,
            None if entry.ledger is None else entry.ledger.decode(),
        )

    async def rows(self) -> list[PaymentRow]:
        return [row async for row in load_payment_rows(self.dsn)]

    async def claims(self) -> Claims:
        rows = await self.fetch(
            "SELECT 'kiosk' AS kind, kiosk_key AS key, payment_id, NULL::bytea AS sealed FROM switch.claim "
            "UNION ALL SELECT 'stan', stan_key, payment_id, NULL FROM switch.claim "
            "UNION ALL SELECT 'bill', bill_key, payment_id, NULL FROM switch.open_payment "
            "UNION ALL SELECT 'open', payment_id::text, payment_id, sealed FROM switch.open_payment "
            "WHERE owner IS NOT NULL"
        )
        return {(row["kind"], row["key"]): (row["payment_id"], row["sealed"]) for row in rows if row["key"] is not None}

    async def kept(self) -> Kept:
        rows = await self.fetch(
            "SELECT opened_on, payment_id, sealed_pan, keep_until FROM switch.claim WHERE sealed_pan IS NOT NULL "
            "AND payment_id NOT IN (SELECT payment_id FROM switch.open_payment WHERE owner IS NOT NULL)"
        )
        return {(row["opened_on"], row["payment_id"]): (row["sealed_pan"], row["keep_until"]) for row in rows}

    async def strays(self) -> list[str]:
        return [row["detail"] for row in await self.fetch("SELECT detail FROM switch.stray ORDER BY id")]

    async def fetch(self, statement: str, *arguments: Any) -> list[Any]:
        connection = await asyncpg.connect(self.dsn)
        try:
            rows: list[Any] = await connection.fetch(statement, *arguments)
            return rows
        finally:
            await connection.close()

    async def execute(self, statement: str, *arguments: Any) -> None:
        await self.fetch(statement, *arguments)


class MemoryStore:
    def __init__(self) -> None:
        self.database = MemoryDatabase()
        self.seen = Recorder()

    @asynccontextmanager
    async def journal(self, **options: Any) -> AsyncIterator[MemoryJournal]:
        call_later = asyncio.get_running_loop().call_later
        journal = MemoryJournal(self.database, clock=RealClock(), observer=self.seen, call_later=call_later, **options)
        await journal.start()
        try:
            yield journal
        finally:
            await journal.stop()

    @asynccontextmanager
    async def terminals(self) -> AsyncIterator[MemoryTerminals]:
        terminals = MemoryTerminals(self.database)
        await terminals.start()
        yield terminals
        await terminals.stop()

    async def foreign(self, entry: JournalEntry) -> None:
        self.database.apply(entry, (999, 1))

    async def rows(self) -> list[PaymentRow]:
        return list(self.database.payment_rows())

    async def claims(self) -> Claims:
        return {(kind.value, key): (held.payment_id, held.sealed) for (kind, key), held in self.database.claims.items()}

    async def kept(self) -> Kept:
        return dict(self.database.kept)

    async def strays(self) -> list[str]:
        return [stray.detail for stray in self.database.strays]


Store = PostgresStore | MemoryStore


@pytest.fixture(params=["postgres", "memory"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "memory":
        return MemoryStore()
    return PostgresStore(request.getfixturevalue("database"))


@pytest.fixture
def postgres(database: str) -> PostgresStore:
    return PostgresStore(database)


Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a test's coroutine on either loop."""
    if request.param == "asyncio":
        return asyncio.run
    import uvloop

    def on_uvloop(main: Coroutine[Any, Any, None]) -> None:
        uvloop.run(main)

    return on_uvloop


@pytest.fixture
def terminal() -> Terminal:
    return Terminal("10000001", "898100000000001", "dual_tmk", True, b"wrapped", b"\x01\x02\x03")
