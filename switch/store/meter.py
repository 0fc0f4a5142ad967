"""What the database did for a load: WAL, transactions, rows by table."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from switch.store.pool import connected
from switch.store.queries import QUERY


@dataclass(frozen=True, slots=True)
class DatabaseMeter:
    """Counters since the server was made. Those of a session that still runs may lag by ten seconds."""

    totals: dict[str, int]  # wal_bytes, wal_records, wal_fpi, xact_commit, tup_inserted, tup_updated, tup_deleted
    tables: dict[str, int]  # rows inserted, updated and deleted

    def since(self, before: DatabaseMeter) -> DatabaseMeter:
        return DatabaseMeter(_less(self.totals, before.totals), _less(self.tables, before.tables))


@asynccontextmanager
async def tables_locked(dsn: str, schema: str) -> AsyncIterator[int]:
    """Nobody reads or writes a table of this schema while this lasts, as during a migration that hangs.

    Gives how many tables are held. Raises UnavailableError when one of them is not to be had.
    """
    async with connected(dsn, "locks") as connection, connection.transaction():
        tables = await connection.fetch(QUERY["tables_of_schema"], schema)
        for row in tables:
            await connection.execute(row["lock"])
        yield len(tables)


async def read_meter(dsn: str) -> DatabaseMeter:
    async with connected(dsn, "meter") as connection:
        totals = await connection.fetchrow(QUERY["meter_totals"])
        tables = await connection.fetch(QUERY["meter_tables"])
    return DatabaseMeter(dict(totals), {row["name"]: row["rows"] for row in tables})


def _less(after: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    found: dict[str, Any] = {name: count - before.get(name, 0) for name, count in after.items()}
    return {name: count for name, count in found.items() if count}
