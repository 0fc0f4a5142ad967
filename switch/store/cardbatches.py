"""Settlements with the card network on PostgreSQL."""

from __future__ import annotations

from switch import limits
from switch.model.batch import BatchDetail
from switch.ports import BegunBatch, DueBatch
from switch.store.lookups import Lookups


class PostgresCardBatches(Lookups):
    """``ports.CardBatches`` on PostgreSQL. One caller at a time: the worker's own loop of settlements."""

    async def due(self, day: int, since_s: float, spread_s: float, limit: int) -> list[DueBatch]:
        again_s, tries_max = limits.SETTLE_AGAIN_S, limits.SETTLE_TRIES_MAX
        return [
            DueBatch(*row) for row in await self._fetch("settle_due", day, since_s, spread_s, again_s, tries_max, limit)
        ]

    async def begin(self, batch: DueBatch, day: int) -> BegunBatch | None:
        key = batch.terminal_id, batch.batch_number
        rows = await self._fetch("settle_begin", *key, day, limits.SETTLE_AGAIN_S)
        return BegunBatch(*rows[0]) if rows else None

    async def details(self, batch: DueBatch) -> list[BatchDetail]:
        rows = await self._fetch("settle_details", batch.terminal_id, batch.batch_number)
        return [BatchDetail(*row) for row in rows]

    async def uploaded(self, batch: DueBatch) -> None:
        await self._fetch("settle_uploaded", batch.terminal_id, batch.batch_number)
