"""Slow-moving numbers of the whole database, for metrics."""

from __future__ import annotations

from switch import limits
from switch.ports import StoreVitals
from switch.store.lookups import Lookups


class PostgresVitals(Lookups):
    async def read(self) -> StoreVitals:
        """Raises UnavailableError."""
        (row,) = await self._fetch("vitals", int(limits.SIGN_ON_LIFE_S))
        return StoreVitals(**row)
