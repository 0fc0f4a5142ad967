"""Random histories must leave equal rows in memory and in PostgreSQL; where they differ, the simulation lies."""

from __future__ import annotations

import asyncio
import random

import pytest
import uvloop

from switch.model.payment import State
from switch.ports import Appended, Claim, ClaimKind, JournalEntry
from switch.store.journal import PostgresJournal
from switch.store.memory import MemoryDatabase, MemoryJournal

from .conftest import MemoryStore, PostgresStore
from .support import DAY, Flaky, RealClock, Recorder, append, entry, found, opened

SEEDS = 20
HISTORIES = 250  # for each seed: 5,000 in all, on a sound line and on one that is cut at random commits
STATES = [state for state in State if state is not State.NEW]


def draw(dice: random.Random, base: int) -> list[list[JournalEntry]]:
    """Groups of entries that are appended together; few payments and few keys, so that they collide."""
    groups = []
    for _ in range(dice.randint(1, 6)):
        group: list[JournalEntry] = []
        for _ in range(dice.choice([1, 1, 2, 5])):
            payment_id, ver = base + dice.randint(1, 3), dice.randint(1, 3)
            claims = _claims(dice, base, (ClaimKind.KIOSK, ClaimKind.STAN, ClaimKind.BILL))
            opened = Claim(ClaimKind.OPEN, str(payment_id), dice.choice([None, b"", bytes(3)]), _pan(payment_id))
            if ver == 1 and dice.random() < 0.7:
                claims = (*claims, opened) if dice.random() < 0.5 else (opened, *claims)
            releases = _claims(dice, base, (ClaimKind.BILL,))
            if dice.random() < 0.4:
                # Whatever bills it holds, and those that it does not hold.
                releases = (opened, *(Claim(ClaimKind.BILL, f"{base}|{number}") for number in (1, 2, 3)))
            until = 0 if payment_id % 3 == 0 else 20270100 + payment_id % 3
            item = entry(
                payment_id,
                ver,
                opened_on=DAY + payment_id % 2,
                state=dice.choice(STATES),
                row=str(dice.randint(1, 25)),
                amount=dice.randint(0, 10**9),
                body=b'{"k%d":%d}' % (dice.randint(1, 3), dice.randint(1, 99)),
                attempt=dice.choice([None, b"", dice.randbytes(20)]),
                ledger=dice.choice([None, b'[["a",1,0],["b",0,1]]']),
                claims=claims,
                releases=releases,
                # The same for all that give OPEN back: in one commit the database may take either's.
                keep_until=until if releases else dice.choice([0, 20270101, until]),
            )
            # Who takes before the neighbour after it gives back may win or lose when both are in one commit.
            given = {(claim.kind, claim.key) for claim in item.releases}
            if not any((claim.kind, claim.key) in given for other in group for claim in other.claims):
                group.append(item)
        groups.append(group)
    return groups


def _claims(dice: random.Random, base: int, kinds: tuple[ClaimKind, ...]) -> tuple[Claim, ...]:
    chosen = [dice.choice(kinds) for _ in range(dice.choice([0, 1, 1, 2, 3]))]
    return tuple(Claim(kind, f"{base}|{dice.randint(1, 3)}") for kind in chosen)


def _pan(payment_id: int) -> bytes | None:
    return [None, b"", bytes(3), payment_id.to_bytes(40, "big")][payment_id % 4]


@pytest.mark.parametrize("line", ["sound", "flaky"])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_memory_and_postgres_end_alike(
    postgres: PostgresStore, seed: int, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of a commit of few entries and of one by COPY; with some seeds a batch is now the one and now the other.
    monkeypatch.setattr(PostgresJournal, "copy_from", (0, 3, 1_000)[seed % 3])
    dice = random.Random(seed)  # to replay one: pytest "…::test_memory_and_postgres_end_alike[7-sound]"
    histories = [draw(dice, index * 10) for index in range(HISTORIES)]
    memory = MemoryStore()

    async def play(journal: object, history: list[list[JournalEntry]]) -> list[Appended]:
        outcomes: list[Appended] = []
        for group in history:
            futures = [append(journal, item) for item in group]  # type: ignore[arg-type]
            outcomes += [await future for future in futures]
        return outcomes

    async def main() -> None:
        expected_journal = MemoryJournal(memory.database, clock=RealClock(), observer=Recorder())
        await expected_journal.start()
        plain = PostgresJournal(postgres.dsn, clock=RealClock(), observer=postgres.seen)
        async with opened(plain if line == "sound" else Flaky(postgres.dsn, seed, observer=postgres.seen)) as journal:
            # All at once: their batches mix, and a loser of one must not disturb another.
            outcomes = await asyncio.gather(*(play(journal, history) for history in histories))
            for history, seen in zip(histories, outcomes, strict=True):
                assert seen == await play(expected_journal, history), history
            assert await postgres.rows() == await memory.rows()
            assert await postgres.claims() == await memory.claims()
            assert await postgres.kept() == await memory.kept()
            for kind, key in list(memory.database.claims)[:20]:
                claim = Claim(kind, key)
                assert await found(journal, claim) == await found(expected_journal, claim)
            assert not {"journal.callback_failed", "journal.entry_refused"} & set(postgres.seen.names())

    uvloop.run(main())


def test_memory_faults_end_as_the_port_promises() -> None:
    """A journal in memory with faults at random commits writes exactly what one without them writes."""
    from switch.store.memory import Fault

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for seed in range(50):
            dice = random.Random(seed)
            database, plain = MemoryDatabase(), MemoryDatabase()
            fates = [None, None, Fault(True), Fault(False), Fault(True, 0.002), Fault(False, 0.002)]
            faulty = MemoryJournal(
                database,
                clock=RealClock(),
                observer=Recorder(),
                call_later=loop.call_later,
                latency=lambda: 0.0002,
                fault=lambda number, dice=dice, fates=fates: dice.choice(fates),  # type: ignore[misc]
            )
            sound = MemoryJournal(plain, clock=RealClock(), observer=Recorder())
            await faulty.start()
            await sound.start()
            for group in draw(random.Random(seed), 0):
                outcomes = [await future for future in [append(faulty, item) for item in group]]
                assert outcomes == [await future for future in [append(sound, item) for item in group]]
            assert database.claims == plain.claims and database.kept == plain.kept
            assert list(database.payment_rows()) == list(plain.payment_rows())

    asyncio.run(main())


def test_a_crash_in_memory_tells_nobody_and_keeps_the_rows() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        database = MemoryDatabase()
        journal = MemoryJournal(
            database, clock=RealClock(), observer=Recorder(), call_later=loop.call_later, latency=lambda: 0.02
        )
        await journal.start()
        future = append(journal, entry(1))
        while not database.events:  # noqa: ASYNC110
            await asyncio.sleep(0)
        journal.crash()  # durable, but the answer was not given yet
        await asyncio.sleep(0.05)
        assert not future.done()
        successor = MemoryJournal(database, clock=RealClock(), observer=Recorder())
        await successor.start()
        assert successor.epoch == 2
        assert [row.payment.payment_id for row in database.payment_rows()] == [1]

    asyncio.run(main())


def test_step_commits_what_waits_and_no_more() -> None:
    async def main() -> None:
        journal = MemoryJournal(MemoryDatabase(), clock=RealClock(), observer=Recorder(), manual=True)
        await journal.start()
        first = append(journal, entry(1))
        again: list[Appended] = []
        journal.append(entry(2), lambda _: journal.append(entry(2, 2), again.append))
        assert (journal.pending, first.done()) == (2, False)
        assert journal.step() == 2
        assert first.done()
        assert (journal.pending, again) == (1, [])
        assert journal.step() == 1
        assert len(again) == 1

    asyncio.run(main())
