"""Several workers on one database: leases, takeovers, and what a worker that comes back can no longer do."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
from contextlib import AsyncExitStack
from typing import Any

import pytest

from switch.errors import UnavailableError
from switch.limits import SHORT
from switch.model.payment import State
from switch.ports import Append, Claim, ClaimKind, Closed, JournalEntry, Terminal
from switch.store.journal import PostgresJournal
from switch.store.memory import MemoryJournal
from switch.store.queries import QUERY

from .conftest import MemoryStore, PostgresStore, Run, Store
from .support import append, asked, entry, outcome, until

# A lease short enough to wait for; nothing is asserted about how long anything takes.
QUICK = dataclasses.replace(SHORT, lease_ttl_s=0.6, lease_heartbeat_s=0.05, lease_margin_s=0.2)
Journal = PostgresJournal | MemoryJournal


def opening(number: int) -> JournalEntry:
    return entry(number, claims=(Claim(ClaimKind.OPEN, str(number), b"card %d" % number),))


def closing(number: int, ver: int) -> JournalEntry:
    return entry(number, ver, state=State.COMPLETED, releases=(Claim(ClaimKind.OPEN, str(number)),))


async def taken(journal: Journal, limit: int = 10) -> list[int]:
    return [stored.payment_id for stored in await journal.take_over(limit)]


async def enter(stack: AsyncExitStack, store: Store, **options: Any) -> Journal:
    if isinstance(store, MemoryStore):
        return await stack.enter_async_context(store.journal(**options))
    return await stack.enter_async_context(store.journal(**options))


async def silence(journal: Journal) -> None:
    """As a process that is paused: its lease is renewed no more. Its connections stay open."""
    if isinstance(journal, MemoryJournal):
        setattr(journal, "_renew", lambda: None)  # noqa: B010 - a method, for mypy
        return
    lease = journal._tasks[-1]
    lease.remove_done_callback(journal._ended)
    lease.cancel()
    await asyncio.wait([lease])


def wake(journal: Journal) -> None:
    """The process goes on."""
    if isinstance(journal, MemoryJournal):
        del journal.__dict__["_renew"]
        journal._renew()
    else:
        journal._tasks[-1] = asyncio.create_task(journal._renew_forever())


async def heirs(journal: Journal, numbers: list[int]) -> None:
    got: list[int] = []
    while len(got) < len(numbers):
        got += await taken(journal)
        await asyncio.sleep(0.02)
    assert sorted(got) == numbers


def test_payments_of_living_workers_are_left_alone(store: Store, run: Run) -> None:
    async def main() -> None:
        async with store.journal(times=QUICK) as first, store.journal(times=QUICK) as second:
            assert first.epoch != second.epoch
            assert await outcome(first, opening(1)) is Append.COMMITTED
            for _ in range(30):
                assert await taken(second) == []
                await asyncio.sleep(0.05)
            assert first.may_send and second.may_send

    run(main())


def test_a_paused_worker_is_ended_and_writes_nothing_more(store: Store, run: Run) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            first = await enter(stack, store, times=QUICK)
            second = await enter(stack, store, times=QUICK)
            lost = asyncio.Event()
            first.on_lost = lost.set
            assert await outcome(first, opening(1)) is Append.COMMITTED
            await silence(first)
            await until(lambda: not first.may_send)
            assert not first.accepting
            await heirs(second, [1])
            unanswered = append(first, closing(1, 2))
            wake(first)
            await asyncio.wait_for(lost.wait(), 10)
            assert not first.may_send and not first.accepting
            assert await outcome(second, closing(1, 2)) is Append.COMMITTED
            assert not unanswered.done(), "how it ended is for the heir to say"
            assert [row.events for row in await store.rows()] == [2]
            assert await taken(first) == [] if isinstance(first, PostgresJournal) else True

    run(main())


def test_a_worker_that_resigns_is_inherited_at_once(store: Store, run: Run) -> None:
    async def main() -> None:
        async with store.journal() as heir:  # a lease of the standard profile: nobody waits for it here
            async with store.journal() as former:
                assert await outcome(former, opening(7)) is Append.COMMITTED
                assert await outcome(former, opening(8)) is Append.COMMITTED
                assert await outcome(former, closing(7, 2)) is Append.COMMITTED
            (stored,) = await heir.take_over(10)
            assert (stored.payment_id, stored.ver, stored.sealed) == (8, 1, b"card 8")
            assert await outcome(heir, entry(8, 2)) is Append.COMMITTED
            assert await taken(heir) == []

    run(main())


def test_who_holds_the_lock_of_a_dead_process_need_not_wait(store: Store, run: Run) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            former = await enter(stack, store, proof="boot:1:2")
            other = await enter(stack, store, proof="boot:1:3")
            assert await outcome(former, opening(1)) is Append.COMMITTED
            assert await outcome(other, opening(2)) is Append.COMMITTED
            await silence(former)  # killed: its lease would last for 15 s yet
            heir = await enter(stack, store, proof="boot:1:2")
            assert await taken(heir) == [1]

    run(main())


def test_three_heirs_share_and_nobody_gets_one_twice(store: Store, run: Run) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            async with store.journal() as former:
                for number in range(1, 41):
                    await outcome(former, opening(number))
            three = [await enter(stack, store) for _ in range(3)]

            async def take_all(journal: Journal) -> list[int]:
                got: list[int] = []
                while page := await taken(journal, 3):
                    got += page
                return got

            shares = await asyncio.gather(*(take_all(journal) for journal in three))
            rest = await take_all(three[0])  # what one had locked while another one looked
            assert sorted(number for share in [*shares, rest] for number in share) == list(range(1, 41))

    run(main())


def test_a_closed_key_stays_closed(store: Store, run: Run) -> None:
    async def main() -> None:
        key = Claim(ClaimKind.KIOSK, "T1|1124|000001")
        other = Claim(ClaimKind.KIOSK, "T1|1124|000002")
        async with store.journal() as one, store.journal() as two:
            assert await asked(one.find, key) is None
            closed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            one.find(key, closed.set_result, close="busy")
            assert await closed == Closed("busy")
            again: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            two.find(key, again.set_result, close="not_found")
            assert await again == Closed("busy"), "the first word counts"
            assert await outcome(two, entry(1, claims=(key,))) is Append.CLAIMED
            assert await outcome(two, entry(2, claims=(other,))) is Append.COMMITTED
            held: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            one.find(other, held.set_result, close="busy")
            assert (await held).payment_id == 2

    run(main())


def test_an_heir_of_an_heir_and_a_restart_of_the_database(postgres: PostgresStore, run: Run) -> None:
    """Every session ends in the middle; whoever is in office goes on with the same epoch."""

    async def main() -> None:
        async with postgres.journal(times=QUICK) as first, postgres.journal(times=QUICK) as second:
            assert await outcome(first, opening(1)) is Append.COMMITTED
            await postgres.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            assert await outcome(first, entry(1, 2)) is Append.COMMITTED
            await silence(first)
            got: list[int] = []
            while not got:
                with contextlib.suppress(UnavailableError):
                    got = await taken(second)
                await asyncio.sleep(0.02)
            assert got == [1]
            await silence(second)
            async with postgres.journal(times=QUICK) as third:
                await heirs(third, [1])
                assert await outcome(third, closing(1, 3)) is Append.COMMITTED
        owners = await postgres.fetch("SELECT ended_by FROM switch.worker ORDER BY epoch")
        assert [row["ended_by"] for row in owners] == [2, 3, 3]

    run(main())


def test_a_commit_under_way_is_over_before_its_payment_is_taken(postgres: PostgresStore, run: Run) -> None:
    """The paused worker's COPY waits inside the server: its session must be gone before its payments are read."""
    import asyncpg

    async def main() -> None:
        async with postgres.journal(times=QUICK) as first, postgres.journal(times=QUICK) as second:
            assert await outcome(first, opening(1)) is Append.COMMITTED
            rival = await asyncpg.connect(postgres.dsn)
            blocked = rival.transaction()
            await blocked.start()
            await rival.execute(
                "INSERT INTO switch.payment_event VALUES "
                "(20261123, 1, 2, 'CARD_PENDING', '1', 0, 0, '{}', '', NULL, NULL, 999, 1)"
            )
            append(first, entry(1, 2))  # waits for the rival
            await silence(first)
            await until(lambda: not first.may_send)
            (stored,) = await _until_taken(second)
            assert stored.ver == 1
            await blocked.rollback()  # from here on the COPY would have gone through
            assert await outcome(second, closing(1, 2)) is Append.COMMITTED
            await rival.close()
            wake(first)
            await until(lambda: first._lost)

    run(main())


async def _until_taken(journal: PostgresJournal) -> list[Any]:
    while True:
        if page := await journal.take_over(10):
            return page
        await asyncio.sleep(0.02)


def test_numbers_are_given_once_whoever_asks(store: Store, run: Run, terminal: Terminal) -> None:
    async def main() -> None:
        async with store.terminals() as one, store.terminals() as two:
            await one.add(terminal)
            got: list[int] = []
            for _ in range(20):
                blocks = await asyncio.gather(
                    *(asked(each.reserve_stans, terminal.terminal_id, 200) for each in (one, two))
                )
                got += [number for first in blocks for number in range(first, first + 200)]
            assert len(set(got)) == len(got) == 8000

    run(main())


@pytest.mark.parametrize("seed", range(6))
def test_histories_of_two_writers_end_alike(postgres: PostgresStore, seed: int) -> None:
    """Appends, takeovers, pauses, resignations, in one order through both stores: equal outcomes and equal rows."""
    memory = MemoryStore()

    async def main() -> None:
        mine = await _play_two(postgres, random.Random(seed))
        assert mine == await _play_two(memory, random.Random(seed))
        assert await postgres.rows() == await memory.rows()
        assert await postgres.claims() == await memory.claims()

    asyncio.run(main())


async def _play_two(store: PostgresStore | MemoryStore, dice: random.Random) -> list[Any]:
    """What everybody was answered."""
    told: list[Any] = []
    async with AsyncExitStack() as stack:
        workers: list[Journal] = [await enter(stack, store), await enter(stack, store)]
        vers: dict[int, int] = {}
        for _ in range(60):
            worker = dice.choice(workers)
            act = dice.random()
            number = dice.randint(1, 8)
            if act < 0.65:
                # Also of payments that are the other one's, and of vers that exist: both stores must say the same.
                ver = vers.get(number, 0) + dice.choice((1, 1, 1, 0)) or 1
                make = (
                    opening(number) if ver == 1 else closing(number, ver) if dice.random() < 0.3 else entry(number, ver)
                )
                result = (await append(worker, make)).result
                told.append(result)
                if result is Append.COMMITTED:
                    vers[number] = ver
            elif act < 0.8:
                told.append(await taken(worker, dice.randint(1, 4)))
            elif act < 0.9:
                key = Claim(ClaimKind.KIOSK, f"k{dice.randint(1, 4)}")
                answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
                worker.find(key, answer.set_result, close=dice.choice(("busy", "")))
                told.append(await answer)
            else:
                # One of them leaves, and another comes.
                index = workers.index(worker)
                await worker.stop()
                workers[index] = await enter(stack, store)
    return told


def test_workers_that_start_together_make_each_partition_once(postgres: PostgresStore) -> None:
    import asyncpg

    async def main() -> None:
        sessions = [await asyncpg.connect(postgres.dsn) for _ in range(6)]
        for day in range(20270101, 20270113):
            made = await asyncio.gather(
                *(session.fetchval("SELECT switch.ensure_partition($1)", day) for session in sessions)
            )
            assert sum(made) == 1, day
        for session in sessions:
            await session.close()

    asyncio.run(main())


def test_who_was_ended_cannot_renew_its_lease(postgres: PostgresStore, run: Run) -> None:
    """Its writing session would tell it too, but later: until then it must not believe that it may send."""

    async def main() -> None:
        async with postgres.journal(times=QUICK) as first, postgres.journal(times=QUICK) as second:
            assert await outcome(first, opening(1)) is Append.COMMITTED
            await silence(first)
            await heirs(second, [1])
            row = "SELECT renewed_at FROM switch.worker WHERE epoch = 1"
            before = await postgres.fetch(row)
            assert await postgres.fetch(QUERY["worker_renew"], first.epoch) == []
            assert await postgres.fetch(row) == before
            assert await postgres.fetch(QUERY["worker_renew"], second.epoch) != []

    run(main())


def test_who_was_ended_and_does_not_know_it_yet_inherits_nothing(postgres: PostgresStore, run: Run) -> None:
    """Its own payments are those of an ended worker: taken for an inheritance, every page would be the first one."""

    async def main() -> None:
        async with postgres.journal() as first, postgres.journal() as second:
            assert await outcome(first, opening(1)) is Append.COMMITTED
            await postgres.execute(
                "UPDATE switch.worker SET ended_at = now(), ended_by = $2 WHERE epoch = $1", first.epoch, second.epoch
            )
            assert await postgres.fetch(QUERY["payment_take_over"], first.epoch, 10) == []
            (row,) = await postgres.fetch(QUERY["payment_take_over"], second.epoch, 10)
            assert row["payment_id"] == 1

    run(main())


def test_whatever_the_driver_raises_the_lease_is_renewed_again(
    postgres: PostgresStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that went down in the middle of an answer confused the driver; the task died of it, for good."""
    import asyncpg

    from switch.store import journal as module
    from switch.store.pool import connect as real

    troubles: list[Exception] = [
        asyncpg.InternalClientError("cannot switch to state 12"),
        KeyError("state"),
        OSError(5),
    ]

    async def connect(dsn: str, name: str, *settings: Any) -> Any:
        if name.endswith(" lease") and troubles:
            raise troubles.pop()
        return await real(dsn, name, *settings)

    monkeypatch.setattr(module, "connect", connect)

    async def main() -> None:
        async with postgres.journal(times=QUICK) as journal:
            await until(lambda: not troubles)
            renewed = journal.lease_ends_at
            await until(lambda: journal.lease_ends_at > renewed)
            assert await outcome(journal, opening(1)) is Append.COMMITTED

    run(main())
