"""Books off the path: payments as they are now, ledger entries, and a seal a day over every event.

What has been projected is a position in the order (committed_by, opened_on, payment_id, ver). ``committed_by`` is the
transaction that wrote an event. Transactions end in another order than they begin, so a cursor that follows them may
miss what comes late; this one stops before the oldest transaction that is still open (the snapshot's xmin), and below
that nothing can come any more.

Whatever is done with a batch, and the new position, are one transaction: done once, or not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from switch import limits
from switch.errors import SwitchError
from switch.machines import days
from switch.model.chain import event_link
from switch.ports import Clock, Observer
from switch.store.pool import Connection, connect, connected
from switch.store.queries import QUERY

_LOCK = (0x6772_0003, 1)  # "gr" 3: the projector
_START = (0, 0, 0, 0)
_NO_DIGEST = bytes(32)

Position = tuple[int, int, int, int]


class Projector:
    """A task of a worker. Several workers may have one each; they take turns."""

    def __init__(self, dsn: str, *, clock: Clock, observer: Observer) -> None:
        self._dsn = dsn
        self._clock = clock
        self._observer = observer
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._work(), name="projector")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _work(self) -> None:
        connection: Connection | None = None
        try:
            while True:
                count = 0
                try:
                    if connection is None or connection.is_closed():
                        connection = await connect(self._dsn, "projector")
                    count = await project(connection)
                    if not count:
                        await seal(connection, days.day_number(days.local(self._clock.wall_us())))
                except Exception as error:  # whatever it is, the next look may go well
                    self._observer.event("projector.failed", error=repr(error))
                    if connection is not None:
                        connection.terminate()
                if count < limits.PROJECTION_BATCH_MAX:
                    await asyncio.sleep(limits.PROJECTION_EVERY_S)
        finally:
            if connection is not None:
                connection.terminate()


# ---------------------------------------------------------------------------------------------------- projecting
async def project(connection: Connection, most: int = limits.PROJECTION_BATCH_MAX) -> int:
    """One batch into the books. Returns how many events it held; 0 when there is none, or another one projects."""
    async with connection.transaction(isolation="repeatable_read"):
        if not await connection.fetchval(QUERY["projector_lock"], *_LOCK):
            return 0
        await connection.execute(QUERY["projection_plan"])
        at = await connection.fetchrow(QUERY["projection_get"])
        folded = await connection.fetchrow(QUERY["projection_fold"], *_position(at), most)
        if folded["fault"]:
            # Nothing of the batch is committed, and none goes past it: the books never say what is not so.
            raise SwitchError("ledger_unbalanced", folded["fault"])
    count: int = folded["events"]
    return count


async def rebuild(dsn: str) -> int:
    """Make the books again from nothing. Returns the number of events in them."""
    async with connected(dsn, "projector") as connection:
        async with connection.transaction():
            # Waits for a batch that is under way.
            await connection.execute("SELECT pg_advisory_xact_lock($1, $2)", *_LOCK)
            await connection.execute(QUERY["projection_forget"])
        while await project(connection):
            pass
        count: int = (await connection.fetchrow(QUERY["projection_get"]))["events"]
    return count


# ---------------------------------------------------------------------------------------------------- seals
async def seal(connection: Connection, today: int, *, now: bool = False) -> bool:
    """Once a day: tie everything projected since the last seal to it. ``now``: also if today has one already."""
    async with connection.transaction(isolation="repeatable_read"):
        if not await connection.fetchval(QUERY["projector_lock"], *_LOCK):
            return False
        last = await connection.fetchrow(QUERY["seal_last"])
        if last is not None and last["day"] >= today and not now:
            return False
        at = _position(await connection.fetchrow(QUERY["projection_get"]))
        since = _START if last is None else _position(last)
        if at == since:
            return False
        digest, count = await _digest(connection, since, at, _NO_DIGEST if last is None else last["digest"])
        number = 1 if last is None else last["number"] + 1
        await connection.execute(QUERY["seal_add"], number, today, *at, count, digest)
    return True


async def _digest(connection: Connection, since: Position, until: Position, before: bytes) -> tuple[bytes, int]:
    """Over the last seal's digest and the link of every event between two positions."""
    hashed, count = hashlib.sha256(before), 0
    async for row in connection.cursor(QUERY["chain_range"], *since, *until, prefetch=limits.PROJECTION_BATCH_MAX):
        hashed.update(row["link"])
        count += 1
    return hashed.digest(), count


@dataclass(frozen=True, slots=True)
class ChainReport:
    payments: int
    events: int
    seals: int
    sealed: int  # events under seals
    broken: tuple[str, ...]  # what was found wrong, the first place of each chain


async def verify_chain(dsn: str) -> ChainReport:
    """Prove that nothing was changed, removed or added: every payment's chain, and every seal. Reads everything."""
    broken: list[str] = []
    payments = events = sealed = 0
    async with (
        connected(dsn, "verify") as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        async for number, rows in _by_payment(connection):
            payments += 1
            events += len(rows)
            fault = _fault(number, rows)
            if fault:
                broken.append(fault)
        before, since = _NO_DIGEST, _START
        seals = await connection.fetch(QUERY["seal_all"])
        for place, one in enumerate(seals, 1):
            until = _position(one)
            digest, count = await _digest(connection, since, until, before)
            sealed += count
            if one["number"] != place:
                broken.append(f"seal {place} is missing")
            elif count != one["events"]:
                broken.append(f"seal {place} of {one['day']}: {one['events']} events were sealed, {count} are there")
            elif digest != one["digest"]:
                broken.append(f"seal {place} of {one['day']}: an event under it was replaced")
            before, since = one["digest"], until
    return ChainReport(payments, events, len(seals), sealed, tuple(broken))


async def _by_payment(connection: Connection) -> AsyncIterator[tuple[int, list[Any]]]:
    rows: list[Any] = []
    async for row in connection.cursor(QUERY["chain_every"], prefetch=limits.PROJECTION_BATCH_MAX):
        if rows and (row["opened_on"], row["payment_id"]) != (rows[0]["opened_on"], rows[0]["payment_id"]):
            yield rows[0]["payment_id"], rows
            rows = []
        rows.append(row)
    if rows:
        yield rows[0]["payment_id"], rows


def _fault(number: int, rows: list[Any]) -> str:
    link = b""
    for ver, row in enumerate(rows, 1):
        if row["ver"] != ver:
            return f"payment {number}: event {ver} is missing"
        ledger = None if row["ledger"] is None else row["ledger"].encode()
        link = event_link(link, number, ver, row["state"], row["row"], row["body"].encode(), ledger)
        if link != row["link"]:
            return f"payment {number}: event {ver} is not what was written"
    return ""


def _position(row: Any) -> Position:
    return row["committed_by"], row["opened_on"], row["payment_id"], row["ver"]


# ---------------------------------------------------------------------------------------------------- books
@dataclass(frozen=True, slots=True)
class Books:
    accounts: tuple[tuple[str, int, int, int], ...]  # name, debit, credit, balance; fen
    suspense_due: int  # what customer_suspense must hold: approved, not final, not posted
    events: int  # in the books

    @property
    def total(self) -> int:
        return sum(balance for _, _, _, balance in self.accounts)


async def read_books(dsn: str) -> Books:
    """The books, brought up to date first."""
    async with connected(dsn, "books") as connection:
        while await project(connection):
            pass
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            rows = await connection.fetch(QUERY["books_ledger"])
            due = await connection.fetchval(QUERY["books_suspense"])
            events = (await connection.fetchrow(QUERY["projection_get"]))["events"]
    return Books(tuple(tuple(row) for row in rows), due, events)
