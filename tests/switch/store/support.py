"""What the tests of the store share."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from switch.model.payment import State
from switch.ports import Append, Appended, Claim, Journal, JournalEntry
from switch.store.journal import PostgresJournal

DAY = 20261123


class RealClock:
    def now(self) -> float:
        return time.monotonic()

    def wall_us(self) -> int:
        return time.time_ns() // 1000


class Recorder:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.values: dict[str, list[float]] = {}
        self.gauges: dict[str, float] = {}
        self.events: list[tuple[str, dict[str, Any]]] = []

    def count(self, name: str, labels: Sequence[str] = (), by: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + by

    def observe(self, name: str, value: float, labels: Sequence[str] = ()) -> None:
        self.values.setdefault(name, []).append(value)

    def gauge(self, name: str, value: float, labels: Sequence[str] = ()) -> None:
        self.gauges[name] = value

    def event(self, name: str, **facts: Any) -> None:
        self.events.append((name, facts))

    def names(self) -> list[str]:
        return [name for name, _ in self.events]


class Flaky(PostgresJournal):
    """Loses the line at every commit the dice choose: before it, in the middle, or after it."""

    def __init__(self, dsn: str, seed: int, *, observer: Recorder) -> None:
        super().__init__(dsn, clock=RealClock(), observer=observer)
        self.lost = 0
        self._dice = random.Random(seed)

    async def _write(self, writer: Any, group: Any) -> None:
        fate = self._dice.random()
        if fate < 0.1:
            self._cut(writer)
        await super()._write(writer, group)
        if fate > 0.8:
            self._cut(writer)

    def _cut(self, writer: Any) -> None:
        self.lost += 1
        writer.terminate()
        raise asyncpg.ConnectionDoesNotExistError("the line is lost")


def entry(payment_id: int, ver: int = 1, **changes: Any) -> JournalEntry:
    values: dict[str, Any] = {
        "opened_on": DAY,
        "payment_id": payment_id,
        "ver": ver,
        "state": State.CARD_PENDING,
        "row": "1",
        "wall_us": 1_700_000_000_000_000 + ver,
        "amount": 12_345,
        "body": b'{"ver":%d,"v%d":"\xe7\x94\xb5"}' % (ver, ver),
        "link": payment_id.to_bytes(8, "big") * 4,
    }
    return JournalEntry(**(values | changes))


def append(journal: Journal, item: JournalEntry) -> asyncio.Future[Appended]:
    """The port by callback, as something to await."""
    future: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()

    def done(appended: Appended) -> None:
        assert not future.done(), "done was called twice"
        future.set_result(appended)

    journal.append(item, done)
    return future


async def outcome(journal: Journal, item: JournalEntry) -> Append:
    return (await append(journal, item)).result


@asynccontextmanager
async def opened(journal: PostgresJournal) -> AsyncIterator[PostgresJournal]:
    """Started, and stopped whatever happens: uvloop waits for ever for a connection that a failed test left open."""
    await journal.start()
    try:
        yield journal
    finally:
        await journal.stop()


async def until(true: Callable[[], bool], every_s: float = 0.01) -> None:
    """Wait for something that has no event of its own; the test's time-out is the bound."""
    while not true():  # noqa: ASYNC110
        await asyncio.sleep(every_s)


def asked(call: Callable[..., None], *arguments: Any, **named: Any) -> asyncio.Future[Any]:
    """Any method of a port that ends in ``done``."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    call(*arguments, **named, done=future.set_result)
    return future


def found(journal: Journal, claim: Claim) -> asyncio.Future[Any]:
    return asked(journal.find, claim)
