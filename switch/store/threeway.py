"""What the continuous three-way check reads and writes."""

from __future__ import annotations

from typing import Any

import asyncpg

from switch import limits
from switch.errors import UnavailableError
from switch.machines.threeway import Comparison
from switch.store.pool import BROKEN, Connection, close, connect
from switch.store.queries import QUERY


class PostgresThreeWay:
    """``runtime.threeway.ThreeWayStore`` on PostgreSQL, over the projected payments."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: Connection | None = None

    async def due(self) -> list[Any]:
        return await self._fetch(
            "threeway_due",
            limits.THREEWAY_AFTER_S,
            limits.THREEWAY_UNTIL_S,
            limits.THREEWAY_AGAIN_S,
            limits.THREEWAY_AT_ONCE,
        )

    async def record(self, row: Any, charged: int | None, booked: int, found: Comparison) -> None:
        key = (row["opened_on"], row["payment_id"], row["ver"])
        await self._fetch("threeway_set", *key, found.kind, row["amount"], charged, booked, found.at_risk)

    async def summary(self) -> tuple[dict[str, tuple[int, int]], int, float]:
        classes = {row["class"]: (row["payments"], row["at_risk"]) for row in await self._fetch("threeway_summary")}
        (unknown,) = await self._fetch("threeway_unknown")
        return classes, unknown["payments"], unknown["oldest_s"]

    async def stop(self) -> None:
        if self._connection is not None:
            await close(self._connection)

    async def _fetch(self, name: str, *values: Any) -> list[Any]:
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await connect(self._dsn, "three-way")
            rows: list[Any] = await self._connection.fetch(QUERY[name], *values, timeout=limits.JOURNAL_ANSWER_S)
        except (asyncpg.PostgresError, *BROKEN) as error:
            if self._connection is not None:
                self._connection.terminate()
            raise UnavailableError("database", f"PostgreSQL was lost: {type(error).__name__}") from error
        return rows
