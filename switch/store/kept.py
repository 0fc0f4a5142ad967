"""Sealed card data in the database: which keys it needs, and the card numbers kept for refunds."""

from __future__ import annotations

from switch.store.lookups import Lookups


class PostgresSealedHours(Lookups):
    """``runtime.shredder.SealedHours``."""

    async def read(self) -> tuple[set[int], float]:
        (row,) = await self._fetch("sealed_hours")
        return set(row["hours"]), row["now_s"]


class PostgresKeptCards(Lookups):
    async def sealed(self, opened_on: int, payment_id: int) -> bytes | None:
        """The card number of a completed payment, sealed under ``payment id | "pan"``.

        None: none was kept, or its refund window has ended. Raises UnavailableError.
        """
        rows = await self._fetch("kept_get", opened_on, payment_id)
        return rows[0]["sealed"] if rows else None
