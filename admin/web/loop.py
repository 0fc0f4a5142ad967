"""Work that repeats by itself, in one process at a time: another takes over when it is no longer renewed."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

from admin.db.pool import Database
from admin.db.queries import statements
from admin.errors import AdminError
from admin.limits import LOOP_HOLD_S

_LOG = logging.getLogger("admin.loop")
Work = Callable[[], Awaitable[dict[str, Any] | None]]


class Loops:
    """Starts loops and ends them. Who holds what, when it ran and what went wrong stands in ``admin.loop``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._holder = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(3)}"
        self._tasks: list[asyncio.Task[None]] = []
        self.periods: dict[str, float] = {}  # of those started here, in seconds: how often each should have run

    def start(self, name: str, period_s: float, work: Work) -> None:
        """``work`` every ``period_s`` seconds; what it returns is told on the page of the loops."""
        assert period_s < LOOP_HOLD_S * 10_000
        self.periods[name] = period_s
        self._tasks.append(asyncio.create_task(self._run(name, period_s, work), name=f"loop {name}"))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, name: str, period_s: float, work: Work) -> None:
        query = statements(__file__)
        while True:
            started = time.monotonic()
            try:
                async with self._database.connection() as connection:
                    hold = LOOP_HOLD_S + 2 * period_s
                    held = await connection.fetchval(query["loop_take"], name, self._holder, hold)
                if held is not None:
                    await self._once(name, work, query)
            except AdminError as error:
                _LOG.warning("loop %s: %s", name, error)
            await asyncio.sleep(max(0.05, period_s - (time.monotonic() - started)))

    async def _once(self, name: str, work: Work, query: dict[str, str]) -> None:
        started, error, detail = time.monotonic(), "", None
        try:
            detail = await work()
        except Exception as failure:  # a loop that ends by itself would be noticed by nobody
            error = f"{type(failure).__name__}: {failure}"[:500]
            _LOG.exception("loop %s", name)
        took_ms = int(1000 * (time.monotonic() - started))
        async with self._database.connection() as connection:
            await connection.execute(query["loop_ran"], name, self._holder, took_ms, error, detail or {})
