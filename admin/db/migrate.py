"""Bring the schema ``admin`` up to date: numbered SQL files, each in one transaction, each applied once.

What was applied is kept with its digest: a file that changed afterwards is an error, because two databases would
then differ under the same number.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from admin.db.pool import Connection, connect
from admin.db.queries import statements
from admin.errors import StartError

FOLDER = Path(__file__).with_name("migrations")
_LOCK = 0x6772_6964_0002  # "grid" 2: the switch has 1
_QUERY = statements(__file__)


async def migrate(dsn: str) -> list[str]:
    """Apply what is missing, in order; return the names. Two at once: the second waits and finds nothing to do."""
    connection = await connect(dsn, "migrate", role="")
    try:
        await connection.fetchval(_QUERY["migration_lock"], _LOCK)
        await connection.execute(_QUERY["migration_prepare"])
        await connection.execute(_QUERY["migration_prepare_table"])
        missing = await _missing(connection)
        for name in missing:
            text = (FOLDER / name).read_text(encoding="utf-8")
            async with connection.transaction():
                await connection.execute(text)
                await connection.execute(_QUERY["migration_add"], name, _digest(name))
        await connection.execute(_QUERY["migration_grant"])
        return missing
    finally:
        await connection.close()


async def pending(connection: Connection) -> list[str]:
    """Names that ``migrate`` would apply; changes nothing."""
    if not await connection.fetchval(_QUERY["migration_table"]):
        return _files()
    return await _missing(connection)


async def _missing(connection: Connection) -> list[str]:
    applied = {row["name"]: row["sha256"] for row in await connection.fetch(_QUERY["migration_list"])}
    if unknown := sorted(set(applied) - set(_files())):
        raise StartError(f"the database is newer than this program: it has {', '.join(unknown)} [migration_newer]")
    for name in _files():
        if name in applied and applied[name] != _digest(name):
            raise StartError(
                f"{name} was changed after it was applied: restore it and write a new file [migration_changed]"
            )
    return [name for name in _files() if name not in applied]


def _files() -> list[str]:
    return sorted(path.name for path in FOLDER.glob("[0-9]*.sql"))


def _digest(name: str) -> str:
    return hashlib.sha256((FOLDER / name).read_bytes()).hexdigest()
