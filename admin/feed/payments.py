"""The switch's payments, copied into admin's own rows: one each, folded by the database from the switch's feed.

The position in the feed moves in the transaction that writes the rows, so each event counts once, whenever the process
is killed. What is written is a function of the events and of where terminals stood: reading everything anew gives the
same rows.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from admin import limits
from admin.auth.secrets import Secrets
from admin.db.pool import Connection, Database
from admin.db.queries import statements
from admin.errors import StateError

_QUERY = statements(__file__)
_LOG = logging.getLogger("admin.feed")


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction has read."""

    events: int
    payments: int


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the rows are behind the switch.

    Attributes:
        events: That wait; FEED_LAG_EVENTS means: or more.
        oldest_s: Age of the oldest event that waits; 0 when none does.
        silent_s: Since the feed was looked at last; it is a loop's period when all is well.
        read: Events since the beginning.
    """

    events: int
    oldest_s: float
    silent_s: float
    read: int

    @property
    def seconds(self) -> float:
        """The number to watch: nobody reads, or what is read does not come to an end."""
        return max(self.oldest_s, self.silent_s)


async def lag(connection: Connection) -> Lag:
    row = await connection.fetchrow(_QUERY["feed_lag"], limits.FEED_LAG_EVENTS)
    now = datetime.now(UTC)
    oldest_s = 0.0 if row["oldest_us"] is None else max(0.0, now.timestamp() - row["oldest_us"] / 1_000_000)
    never = row["read_at"].year < 1970
    silent_s = oldest_s if never else max(0.0, (now - row["read_at"]).total_seconds())
    return Lag(row["events"], oldest_s, silent_s, row["read"])


class Feed:
    """Reads the feed; one process at a time has the position, others find nothing to do.

    Args:
        own: Keys the hash by which accounts are found.
    """

    def __init__(self, database: Database, own: Secrets) -> None:
        self._database = database
        self._inner, self._outer = own.account_pads

    async def work(self) -> dict[str, Any]:
        """A loop's turn: read until nothing waits or FEED_WORK_S is over; what it tells is for the loops' page."""
        ends_at = time.monotonic() + limits.FEED_WORK_S
        payments = 0
        while True:
            started_at = time.monotonic()
            batch = await self.once()
            if batch is None:
                break
            payments += batch.payments
            if batch.events < limits.FEED_BATCH or time.monotonic() > ends_at:
                break
            await asyncio.sleep(limits.FEED_REST * (time.monotonic() - started_at))
        await self.stamp()
        lag = await self.lag()
        return {"payments": payments, "lag_s": round(lag.seconds, 1), "lag_events": lag.events, "events": lag.read}

    async def once(self, most: int = limits.FEED_BATCH) -> Batch | None:
        """One batch in one transaction; None: another process is reading.

        Raises:
            UnavailableError: The database is away; nothing is written.
            StateError: Events are missing before those that come; nothing is written, and nothing goes past them.
        """
        async with self._database.transaction() as connection:
            await connection.execute(_QUERY["feed_plan"])
            position = await connection.fetchrow(_QUERY["feed_take"])
            if position is None:
                return None
            row = await connection.fetchrow(_QUERY["feed_fold"], position["cursor"], most, self._inner, self._outer)
            if row["missing"]:
                raise StateError(
                    "feed_gap",
                    "交易流水不连续：{missing} 笔交易缺少前面的事件",
                    hint="请用 gridswitch admin feed --again 重新读取全部流水",
                    missing=row["missing"],
                )
        return Batch(row["events"], row["payments"])

    async def stamp(self) -> int:
        """Give payments of terminals that were registered or moved the places of their time; returns how many."""
        async with self._database.transaction() as connection:
            news: dict[str, list[int]] = {}
            for row in await connection.fetch(_QUERY["place_news"], limits.FEED_STAMP_PLACES):
                news.setdefault(row["terminal_id"], []).append(row["id"])
            for terminal, numbers in news.items():
                await connection.execute(_QUERY["place_stamp"], terminal, numbers)
        return sum(map(len, news.values()))

    async def lag(self) -> Lag:
        async with self._database.connection() as connection:
            return await lag(connection)

    async def again(self) -> int:
        """Forget every row and the position, so that the next reading begins anew. Returns the number of rows.

        Killed in between, it has lost nothing: rows that are still there are what reading anew would make of them.
        """
        forgotten = 0
        async with self._database.connection() as connection:
            await connection.execute(_QUERY["feed_forget"])
        while True:
            async with self._database.connection() as connection:
                count: int = await connection.fetchval(_QUERY["facts_forget"], limits.FEED_FORGET)
            forgotten += count
            if count < limits.FEED_FORGET:
                return forgotten
