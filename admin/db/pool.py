"""Connections to PostgreSQL as a role that owns nothing, with bounds on every wait.

The switch shares the server: a page that reads too much is ended by the server itself, and no page waits for a lock.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from admin import limits
from admin.db.queries import statements
from admin.errors import StartError, UnavailableError
from switch import contract

Connection = Any  # asyncpg.Connection: the library has no types

VERSION_MIN: Final = 150_000
_QUERY = statements(__file__)
_OUTAGE_CLASSES: Final = frozenset({"08", "53", "55", "57", "58", "XX"})
_BROKEN: Final = (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError)


def _settings(name: str, role: str, statement_s: float) -> dict[str, str]:
    return {
        "application_name": f"gridswitch admin {name}",
        "search_path": "admin, pg_temp",
        "timezone": "UTC",
        "jit": "off",
        # Statements of lists have a parameter for each filter, most of them NULL: a plan for any values fits none.
        "plan_cache_mode": "force_custom_plan",
        "statement_timeout": str(int(statement_s * 1000)),
        "lock_timeout": str(int(limits.LOCK_S * 1000)),
        "idle_in_transaction_session_timeout": str(int(limits.IDLE_TRANSACTION_S * 1000)),
        **({"role": role} if role else {}),
    }


async def _prepare(connection: Connection) -> None:
    await connection.set_type_codec("jsonb", encoder=_dumps, decoder=json.loads, schema="pg_catalog")


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


async def connect(dsn: str, name: str, *, role: str = contract.ROLE, statement_s: float = 0) -> Connection:
    """One connection; ``role`` "" keeps the rights of the login. Raises StartError when the server refuses us."""
    try:
        connection = await asyncpg.connect(
            dsn, timeout=limits.CONNECT_S, server_settings=_settings(name, role, statement_s)
        )
    except (asyncpg.PostgresError, *_BROKEN) as error:
        raise StartError(
            f"database.dsn: PostgreSQL cannot be used: {error or type(error).__name__} [database]"
        ) from error
    row = await connection.fetchrow(_QUERY["server_check"])
    if row["version"] < VERSION_MIN:
        raise StartError(f"database.dsn: PostgreSQL {VERSION_MIN // 10_000} or newer is needed [database_version]")
    await _prepare(connection)
    return connection


class Database:
    """The pool of pages and loops.

    A page takes a connection for one request; none that is asked for twice can wait for itself, because waiting is
    bounded. What the server cannot answer now is ``UnavailableError``: pages say so and show what they knew.
    """

    def __init__(self, dsn: str, *, size: int = limits.POOL_SIZE) -> None:
        self.dsn = dsn
        self._size = size
        self._pool: Any = None

    async def start(self) -> None:
        """Raises StartError when the server refuses us."""
        try:
            self._pool = await asyncpg.create_pool(
                self.dsn,
                min_size=1,
                max_size=self._size,
                timeout=limits.CONNECT_S,
                command_timeout=limits.STATEMENT_S + limits.ANSWER_S,
                init=_prepare,
                server_settings=_settings("pages", contract.ROLE, limits.STATEMENT_S),
            )
        except (asyncpg.PostgresError, *_BROKEN) as error:
            raise StartError(
                f"database.dsn: PostgreSQL cannot be used: {error or type(error).__name__} [database]"
            ) from error

    async def stop(self) -> None:
        if self._pool is not None:
            try:
                async with asyncio.timeout(limits.ANSWER_S):
                    await self._pool.close()
            except TimeoutError:
                self._pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection for a while. Outages, time-outs and locks that do not come free are UnavailableError."""
        try:
            async with self._pool.acquire(timeout=limits.ACQUIRE_S) as connection:
                yield connection
        except asyncpg.PostgresError as error:
            if (error.sqlstate or "XX")[:2] not in _OUTAGE_CLASSES:
                raise
            raise _away(error) from error
        except _BROKEN as error:
            raise _away(error) from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        async with self.connection() as connection, connection.transaction():
            yield connection


def _away(error: BaseException) -> UnavailableError:
    return UnavailableError(
        "database", "数据库暂时没有响应", hint="请稍后重试；如果持续出现，请联系系统管理员", cause=type(error).__name__
    )
