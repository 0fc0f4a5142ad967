"""Script notices that the acquirer has not answered yet: ``ports.NoticeStore`` on PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from switch import limits
from switch.ports import ScriptNotice
from switch.store.lookups import Lookups


class PostgresNotices(Lookups):
    def __init__(self, dsn: str, name: str) -> None:
        super().__init__(dsn, name)
        self._turn = asyncio.Lock()  # kiosks, answers and looks come at any moment, and a connection does one thing

    async def _fetch(self, name: str, *values: Any) -> list[Any]:
        async with self._turn:
            return await super()._fetch(name, *values)

    async def add(self, notice: ScriptNotice, again_s: float) -> None:
        body = orjson.dumps(notice.body).decode()
        await self._fetch("notice_add", notice.opened_on, notice.payment_id, body, notice.sealed, again_s)

    async def due(self, again_s: float) -> list[ScriptNotice]:
        rows = await self._fetch("notice_due", again_s, limits.NOTICES_AT_ONCE)
        return [
            ScriptNotice(row["opened_on"], row["payment_id"], orjson.loads(row["body"]), row["sealed"], row["age_s"])
            for row in rows
        ]

    async def end(self, notice: ScriptNotice) -> None:
        await self._fetch("notice_end", notice.opened_on, notice.payment_id)
