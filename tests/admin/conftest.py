"""Fixtures of the admin service: a database with both schemas, and nothing in them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from admin.db.migrate import migrate
from admin.db.pool import Database


@pytest.fixture
def admin_dsn(database: str) -> str:
    """DSN of a database where switch and admin are migrated, for this test alone."""
    asyncio.run(_migrated(database))
    return database


async def _migrated(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("DROP SCHEMA IF EXISTS admin CASCADE")
    finally:
        await connection.close()
    await migrate(dsn)


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[Database]:
    """The pool that pages and loops use."""
    database = Database(dsn)
    await database.start()
    try:
        yield database
    finally:
        await database.stop()
