"""What the continuous three-way check reads and writes."""

from __future__ import annotations

from typing import Any

from switch import limits
from switch.machines.threeway import Comparison
from switch.store.lookups import Lookups


class PostgresThreeWay(Lookups):
    """``runtime.threeway.ThreeWayStore`` on PostgreSQL, over the projected payments."""

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
