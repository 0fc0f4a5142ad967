"""How a report is made: one at a time of each operator, on a connection of its own, in one snapshot that only reads.

A report declares what it is asked for and who may see it; ``make`` gives its tables and charts. The page, the CSV of a
table and the workbook of all come from these alike.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final

import asyncpg
from markupsafe import Markup

from admin import limits
from admin.auth.permissions import Access, Permission
from admin.db.pool import Connection, Database, connect
from admin.db.queries import statements
from admin.errors import NotFoundError, StartError, TooManyError, UnavailableError
from admin.reports.asked import Asked, Panel, read
from admin.web.export import Sheet
from admin.web.show import today
from admin.web.table import Column

QUERY: Final = statements(__file__)
_LOCK: Final = 0x6772_6964  # "grid"; its second number is the slot
NOTHING: Final = "这个范围内没有缴费"
_OUTAGES: Final = (asyncpg.LockNotAvailableError, asyncpg.OperatorInterventionError, asyncpg.InsufficientResourcesError)
Say = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Tile:
    """A number above the tables; ``text`` as it is shown."""

    title: str
    text: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Made:
    """Attributes:
    tables: With those that only files have: ``hidden`` names them.
    narrow: Of a table with more columns than a page has room for, those that it shows.
    empty: What a page says when there is nothing.
    charts: By the name of the table that has its numbers.
    heat: A table that is itself the picture: rows of (text, [(value, shade 0 to 5), …]).
    """

    tables: tuple[Sheet, ...]
    tiles: tuple[Tile, ...] = ()
    charts: Mapping[str, Markup] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()
    heat: Sequence[tuple[str, Sequence[tuple[str, int]]]] = ()
    narrow: Mapping[str, tuple[Column, ...]] = field(default_factory=dict)
    empty: str = NOTHING


@dataclass(frozen=True, slots=True)
class Source:
    """What a report is made from.

    Attributes:
        picked: $1 … $6 of the statements over payments.
        say: For texts that go into cells and charts.
        most: Rows to read: a page shows few, a file has all.
    """

    connection: Connection
    access: Access
    asked: Asked
    picked: tuple[Any, ...]
    say: Say
    english: bool
    most: int = limits.REPORT_ROWS_MAX

    async def fetch(self, name: str, *values: Any) -> list[Any]:
        rows: list[Any] = await self.connection.fetch(QUERY[name], *self.picked, *values)
        return rows


@dataclass(frozen=True, slots=True)
class Report:
    """Attributes:
    name: Of its page, its file and its row in the audit log.
    calendar: Its days are those of the calendar, not the card network's.
    definitions: Printed under it, each a text of the catalogue.
    """

    name: str
    title: str
    about: str
    permission: Permission
    panel: Panel
    definitions: tuple[str, ...]
    make: Callable[[Source], Awaitable[Made]]
    calendar: bool = False


@dataclass(frozen=True, slots=True)
class AsOf:
    """Up to when the payments are here.

    Attributes:
        at: None: nothing was read yet.
        events: Of the switch that were read: the position.
        late_s: How long ago the feed was looked at, when that is too long.
    """

    at: datetime | None
    events: int
    late_s: int | None


@dataclass(frozen=True, slots=True)
class Done:
    asked: Asked
    as_of: AsOf
    made: Made
    orgs: tuple[Mapping[str, Any], ...]


async def run(
    report: Report,
    database: Database,
    access: Access,
    query: Mapping[str, str],
    say: Say,
    *,
    english: bool,
    most: int = limits.REPORT_ROWS_MAX,
) -> Done:
    """Raises BadInputError, NotFoundError, TooManyError, UnavailableError."""
    scope = access.paths(report.permission)
    async with _turn(database, access) as connection:
        days = await connection.fetchrow(QUERY["latest"])
        latest: date = days["local_on" if report.calendar else "settled_on"] or today()
        asked = read(query, report.panel, latest)
        narrowed = await connection.fetchrow(QUERY["narrowed"], scope, asked.org or None, asked.kiosk or None)
        if asked.org and narrowed["path"] is None:
            raise NotFoundError("not_found", "没有这个对象，或不在您的范围内")
        picked = (scope, asked.first, asked.last, narrowed["path"], narrowed["kiosk_id"], asked.business or None)
        row = await connection.fetchrow(QUERY["as_of"])
        orgs = await connection.fetch(QUERY["orgs"], scope, limits.ORGS_MAX)
        made = await report.make(Source(connection, access, asked, picked, say, english, most))
    return Done(asked, _as_of(row), made, tuple(orgs))


def _as_of(row: Any) -> AsOf:
    late_s = None
    if row["read_at"] is not None:
        behind = (datetime.now(UTC) - row["at"]).total_seconds() if row["at"] else limits.REPORT_STALE_S
        late_s = int(behind) if behind > limits.REPORT_STALE_S else None
    return AsOf(row["at"], row["events"], late_s)


@asynccontextmanager
async def _turn(database: Database, access: Access) -> AsyncIterator[Connection]:
    """A connection for one report, when nobody who shares its slot has one.

    Its statements may take longer than a page's, so it is not one of the pool's; its slot comes from the operator,
    which bounds each of them and all together, in whatever process they are.
    """
    try:
        connection = await connect(database.dsn, "report", statement_s=limits.REPORT_STATEMENT_S)
        try:
            await _wait(connection, access.operator_id % limits.REPORTS_AT_ONCE)
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                await connection.fetchrow(QUERY["report_bounds"], f"{limits.REPORT_MEMORY_MB}MB", f"{limits.LOCK_S}s")
                yield connection
        finally:
            await _close(connection)
    except asyncpg.QueryCanceledError as error:
        raise UnavailableError("report_time", "报表在规定时间内没有完成", hint="请缩小日期或组织范围") from error
    except (StartError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError, *_OUTAGES) as error:
        raise UnavailableError(
            "database",
            "数据库暂时没有响应",
            hint="请稍后重试；如果持续出现，请联系系统管理员",
            cause=type(error).__name__,
        ) from error


async def _wait(connection: Connection, slot: int) -> None:
    try:
        await connection.fetchval(QUERY["report_wait"], _LOCK, slot, f"{limits.REPORT_WAIT_S}s")
    except asyncpg.LockNotAvailableError as error:
        raise TooManyError(
            "report_busy", "另一张报表正在生成", hint="请等它完成后再试", retry_s=int(limits.REPORT_WAIT_S) + 1
        ) from error


async def _close(connection: Connection) -> None:
    """The lock goes with the connection."""
    try:
        await connection.close(timeout=limits.ANSWER_S)
    except (TimeoutError, asyncpg.InterfaceError, OSError):
        connection.terminate()
