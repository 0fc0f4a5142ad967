"""Connections to PostgreSQL that may be trusted with money.

There is no pool: the journal's writer, its reader and the terminals hold one connection each. What they share is
how to connect, what to check, and how to tell an outage from a refusal.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

import asyncpg

from switch import limits
from switch.errors import StartError, UnavailableError
from switch.store.queries import QUERY

Connection = Any  # asyncpg.Connection: the library has no types

VERSION_MIN = 150_000
SESSION = {
    # A role's or a database's default must not end our COMMIT in the middle: what a time-out cancels is unknown.
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "jit": "off",
    "timezone": "UTC",
    "search_path": "switch, pg_temp",
}
# For sessions that only ever go by key. Statistics of a table that was empty a minute ago say "read it all"; the plan
# made then cost 28 µs a row instead of 2 until the next ANALYZE (measured with 240,000 claims).
BY_KEY = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
}

# Classes of SQLSTATE after which the same statement may go through later: the server, not the row, is the reason.
_OUTAGE_CLASSES = frozenset({"08", "25", "40", "53", "55", "57", "58", "XX", "F0"})
# The conversation itself broke; after these nothing on the connection can be trusted.
BROKEN = (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError)


async def connect(dsn: str, name: str, settings: Mapping[str, str] = MappingProxyType({})) -> Connection:
    """A checked connection; ``name`` is what ``pg_stat_activity`` shows.

    Raises:
        UnavailableError: No answer now; trying again may help.
        StartError: The server answers but must not be used, or refuses us for good.
    """
    try:
        connection = await asyncpg.connect(
            dsn,
            timeout=limits.CONNECT_TIMEOUT_S,
            command_timeout=None,  # never: it would cancel a COMMIT
            max_cached_statement_lifetime=0,
            server_settings={**SESSION, **settings, "application_name": f"gridswitch {name}"},
        )
    except (
        asyncpg.InvalidAuthorizationSpecificationError,
        asyncpg.InvalidCatalogNameError,
        asyncpg.InvalidPasswordError,
        asyncpg.ClientConfigurationError,
    ) as error:
        raise StartError("database_refused", f"database.dsn: PostgreSQL refuses us: {error}") from error
    except (asyncpg.PostgresError, *BROKEN) as error:
        raise UnavailableError("database", f"PostgreSQL cannot be reached: {error or type(error).__name__}") from error
    try:
        await _check(connection)
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _check(connection: Connection) -> None:
    try:
        # A server that accepts and then hangs must not hold up its caller; nothing is being committed here.
        async with asyncio.timeout(limits.CONNECT_TIMEOUT_S):
            row = await connection.fetchrow(QUERY["server_check"])
    except (asyncpg.PostgresError, *BROKEN) as error:
        raise UnavailableError("database", f"PostgreSQL does not answer: {error or type(error).__name__}") from error
    if row["version"] < VERSION_MIN:
        raise StartError("database_version", f"database.dsn: PostgreSQL {VERSION_MIN // 10_000} or newer is needed")
    if row["in_recovery"]:
        # A standby may be the primary in a moment; until then it may neither be written nor asked.
        raise UnavailableError("database", "PostgreSQL is a standby: the primary is needed")
    if row["fsync"] != "on":
        raise StartError("database_unsafe", "database.dsn: fsync is off there: a power cut would lose payments")
    if row["synchronous_commit"] in ("off", "local"):
        raise StartError(
            "database_unsafe",
            f"database.dsn: synchronous_commit is {row['synchronous_commit']} there: a commit would not be durable",
        )


def is_outage(error: BaseException, connection: Connection) -> bool:
    """True: the connection or the server is the reason, and the statement may or may not have happened."""
    if connection.is_closed() or isinstance(error, BROKEN):
        return True
    return isinstance(error, asyncpg.PostgresError) and (error.sqlstate or "XX")[:2] in _OUTAGE_CLASSES


@asynccontextmanager
async def connected(dsn: str, name: str) -> AsyncIterator[Connection]:
    """A connection for one job, with every outage as ``UnavailableError``."""
    connection = await connect(dsn, name)
    try:
        yield connection
    except (asyncpg.PostgresError, *BROKEN) as error:
        if not is_outage(error, connection):
            raise
        raise UnavailableError("database", f"PostgreSQL was lost: {error or type(error).__name__}") from error
    finally:
        await close(connection)


async def close(connection: Connection) -> None:
    """Say goodbye if the server listens, else drop the line."""
    try:
        await connection.close(timeout=1.0)
    except (asyncpg.PostgresError, *BROKEN):
        connection.terminate()
