"""Bring the schema up to date: numbered SQL files, each in one transaction, each applied once.

What was applied is recorded with its digest: a file that changed afterwards is an error, because two databases
would then differ under the same number. Write a new file instead.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import asyncpg

from switch.errors import StartError
from switch.store.pool import Connection, connected
from switch.store.queries import QUERY

FOLDER = Path(__file__).with_name("migrations")
_LOCK = 0x6772_6964_0001  # "grid" 1: advisory lock of the migrations


async def migrate(dsn: str, folder: Path = FOLDER) -> list[str]:
    """Apply what is missing, in order; return the names. Two at once: the second waits and finds nothing to do."""
    async with connected(dsn, "migrate") as connection:
        await connection.fetchval(QUERY["migration_lock"], _LOCK)
        try:
            await connection.execute(QUERY["migration_prepare"])
            missing = await _missing(connection, folder)
            for name in missing:
                text = (folder / name).read_text(encoding="utf-8")
                try:
                    async with connection.transaction():
                        await connection.execute(text)
                        await connection.execute(QUERY["migration_add"], name, _digest(folder / name))
                except asyncpg.RaiseError as error:  # the file itself says why not now
                    raise StartError("migration_refused", f"{name}: {error}") from error
            return missing
        finally:
            if not connection.is_closed():
                await connection.fetchval(QUERY["migration_unlock"], _LOCK)


async def pending(dsn: str, folder: Path = FOLDER) -> list[str]:
    """Names that ``migrate`` would apply; changes nothing."""
    async with connected(dsn, "migrate") as connection:
        if not await connection.fetchval(QUERY["migration_table"]):
            return _files(folder)
        return await _missing(connection, folder)


async def _missing(connection: Connection, folder: Path) -> list[str]:
    applied = {row["name"]: row["sha256"] for row in await connection.fetch(QUERY["migration_list"])}
    files = _files(folder)
    unknown = sorted(set(applied) - set(files))
    if unknown:
        raise StartError("migration_newer", f"the database is newer than this program: it has {', '.join(unknown)}")
    for name in files:
        if name in applied and applied[name] != _digest(folder / name):
            raise StartError(
                "migration_changed", f"{name} was changed after it was applied: restore it and write a new file"
            )
    missing = [name for name in files if name not in applied]
    if missing and applied and missing[0] < max(applied):
        raise StartError("migration_order", f"{missing[0]} comes before {max(applied)}, which is applied: renumber it")
    return missing


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("[0-9]*.sql"))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
