"""Settlements of kiosks on PostgreSQL: one connection, one question after the other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from switch import limits
from switch.errors import SwitchError, UnavailableError
from switch.model.batch import BatchDetail, BatchDifference, BatchKey, BatchStanding
from switch.ports import Observer
from switch.store.lookups import Lookups

_Done = Callable[[BatchStanding | SwitchError], None]
_Job = Callable[[], Awaitable[BatchStanding]]


class PostgresBatches(Lookups):
    """``ports.KioskBatches`` on PostgreSQL. Use it from the loop's thread only."""

    def __init__(self, dsn: str, observer: Observer) -> None:
        super().__init__(dsn, "batches")
        self._observer = observer
        self._jobs: deque[tuple[_Job, _Done]] = deque()
        self._task: asyncio.Task[None] | None = None

    def ask(self, key: BatchKey, *, day: int, batch_number: str, count: int, amount: int, done: _Done) -> None:
        async def job() -> BatchStanding:
            return await self._standing("batch_ask", key, day, batch_number, count, amount)

        self._submit(job, done)

    def add(self, key: BatchKey, details: Sequence[BatchDetail], done: _Done) -> None:
        async def job() -> BatchStanding:
            serials, amounts = zip(*((detail.serial, detail.amount) for detail in details), strict=True)
            rows = await self._fetch("batch_details", *_key(key), serials, amounts)
            if not rows:
                return BatchStanding("not_found")
            state = rows[0]["state"]
            return BatchStanding("batch_stored" if state == "differs" else f"batch_{state}")

        self._submit(job, done)

    def compare(self, key: BatchKey, count: int, done: _Done) -> None:
        async def job() -> BatchStanding:
            return await self._standing("batch_compare", key, count)

        self._submit(job, done)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await super().stop()

    # ------------------------------------------------------------------------------------------------- inside
    async def _standing(self, query: str, key: BatchKey, *values: object) -> BatchStanding:
        (row,) = await self._fetch(query, *_key(key), *values)
        listed: tuple[BatchDifference, ...] = ()
        if row["differing"]:
            rows = await self._fetch("batch_differences", *_key(key), limits.BATCH_DIFFERENCES_TOLD_MAX)
            listed = tuple(BatchDifference(*each) for each in rows)
        return BatchStanding(row["code"], row["paid"] or 0, row["paid_fen"] or 0, row["differing"] or 0, listed)

    def _submit(self, job: _Job, done: _Done) -> None:
        if len(self._jobs) >= limits.BATCHES_WAITING_MAX:
            done(UnavailableError("busy", "too many settlements wait for the database"))
            return
        self._jobs.append((job, done))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work(), name="batches")

    async def _work(self) -> None:
        while self._jobs:
            job, done = self._jobs.popleft()
            answer: BatchStanding | SwitchError
            try:
                answer = await job()
            except SwitchError as error:
                self._observer.event("batches.unavailable", level="warning", error=error.detail)
                answer = error
            try:
                done(answer)
            except Exception as error:
                self._observer.event("batches.callback_failed", error=repr(error))


def _key(key: BatchKey) -> tuple[str, int, str]:
    return key.terminal_id, key.asked_on, key.serial
