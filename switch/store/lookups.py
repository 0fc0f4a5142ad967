"""Queries off the path of payments, on one connection that is made when it is needed."""

from __future__ import annotations

from typing import Any

import asyncpg

from switch import limits
from switch.errors import UnavailableError
from switch.store.pool import BROKEN, Connection, close, connect
from switch.store.queries import QUERY


class Lookups:
    """Args: name: of the connection, as ``pg_stat_activity`` shows it."""

    def __init__(self, dsn: str, name: str) -> None:
        self._dsn = dsn
        self._name = name
        self._connection: Connection | None = None

    async def stop(self) -> None:
        if self._connection is not None:
            await close(self._connection)

    async def _fetch(self, name: str, *values: Any) -> list[Any]:
        """Raises UnavailableError when the database is away or too slow; the next call makes a new connection."""
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await connect(self._dsn, self._name)
            rows: list[Any] = await self._connection.fetch(QUERY[name], *values, timeout=limits.JOURNAL_ANSWER_S)
        except (asyncpg.PostgresError, *BROKEN) as error:
            if self._connection is not None:
                self._connection.terminate()
            raise UnavailableError("database", f"PostgreSQL was lost: {type(error).__name__}") from error
        return rows
