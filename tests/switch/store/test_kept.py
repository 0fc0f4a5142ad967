"""Card numbers kept for refunds: written with the final event, gone with the window; and which hours they need."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from switch import limits
from switch.machines.days import day_after
from switch.model.payment import State
from switch.ports import Append, Claim, ClaimKind, JournalEntry
from switch.store.journal import PostgresJournal
from switch.store.kept import PostgresKeptCards, PostgresSealedHours

from .conftest import PostgresStore, Run, Store
from .support import DAY, RealClock, append, entry

DAY_AFTER = 20270201


def sealed(hour: int, size: int = 60) -> bytes:
    """As the vault writes it."""
    return b"\x01" + hour.to_bytes(4, "big") + bytes(size)


def begun(payment_id: int, pan: bytes | None, whole: bytes = b"whole", keep_until: int = DAY_AFTER) -> JournalEntry:
    return entry(payment_id, claims=(Claim(ClaimKind.OPEN, str(payment_id), whole, pan),), keep_until=keep_until)


def final(payment_id: int, state: State, keep_until: int, ver: int = 2) -> JournalEntry:
    opened = Claim(ClaimKind.OPEN, str(payment_id))
    return entry(payment_id, ver, state=state, releases=(opened,), keep_until=keep_until)


def test_a_completed_payment_leaves_its_card_number_and_any_other_nothing(store: Store, run: Run) -> None:
    async def main() -> None:
        async with store.journal() as journal:
            for number in (1, 2, 3):
                assert (await append(journal, begun(number, sealed(number)))).result is Append.COMMITTED
            assert await store.kept() == {}
            # All in one commit: one that keeps must not keep another's.
            futures = [
                append(journal, final(1, State.COMPLETED, DAY_AFTER)),
                append(journal, final(2, State.DECLINED, 0)),
                append(journal, entry(3, 2, state=State.SUSPENSE)),
            ]
            assert {(await future).result for future in futures} == {Append.COMMITTED}
            assert await store.kept() == {(DAY, 1): (sealed(1), DAY_AFTER)}
            assert set(await store.claims()) == {("open", "3")}
            # What a person decides about a payment months later, by whatever worker.
            assert (await append(journal, final(3, State.COMPLETED, DAY_AFTER + 1, 3))).result is Append.COMMITTED
            assert (await store.kept())[DAY, 3] == (sealed(3), DAY_AFTER + 1)

    run(main())


def test_a_loser_keeps_nothing(store: Store, run: Run) -> None:
    """Another worker wrote this ver: the card stays with the claim, which is theirs."""

    async def main() -> None:
        async with store.journal() as journal:
            await append(journal, begun(1, sealed(1)))
            await store.foreign(entry(1, 2, state=State.BILL_PENDING))
            assert (await append(journal, final(1, State.COMPLETED, DAY_AFTER))).result is Append.LOST
            assert await store.kept() == {} and ("open", "1") in await store.claims()

    run(main())


def test_a_payment_begun_by_the_version_before_completes_and_keeps_nothing(store: Store, run: Run) -> None:
    async def main() -> None:
        async with store.journal() as journal:
            await append(journal, begun(1, None))
            assert (await append(journal, final(1, State.COMPLETED, DAY_AFTER))).result is Append.COMMITTED
            assert await store.kept() == {} and await store.claims() == {}

    run(main())


@pytest.mark.parametrize("copy_from", [0, 9])
def test_a_payment_that_completes_on_its_first_day_writes_its_card_number_once(
    postgres: PostgresStore, run: Run, monkeypatch: pytest.MonkeyPatch, copy_from: int
) -> None:
    monkeypatch.setattr(PostgresJournal, "copy_from", copy_from)

    async def versions() -> list[Any]:
        rows = await postgres.fetch("SELECT payment_id, xmin FROM switch.claim ORDER BY payment_id")
        return [(row["payment_id"], row["xmin"]) for row in rows]

    async def main() -> None:
        async with postgres.journal() as journal:
            for number in (1, 2, 3, 4):
                await append(journal, begun(number, sealed(number), keep_until=0 if number == 4 else DAY_AFTER))
            before = await versions()
            for number, keep_until in ((1, DAY_AFTER), (2, DAY_AFTER + 1), (3, 0), (4, 0)):
                await append(journal, final(number, State.COMPLETED, keep_until))
            after = await versions()
            assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, False, False]
            assert await postgres.kept() == {(DAY, 1): (sealed(1), DAY_AFTER), (DAY, 2): (sealed(2), DAY_AFTER + 1)}

    run(main())


class Later(RealClock):
    """A clock of a day to come."""

    def __init__(self, days: int) -> None:
        self._ahead_us = days * 86_400_000_000

    def wall_us(self) -> int:
        return super().wall_us() + self._ahead_us


def test_rows_whose_window_has_ended_are_purged_and_no_others(postgres: PostgresStore, run: Run) -> None:
    today = RealClock().wall_us()
    ends = {1: day_after(today, 0), 2: day_after(today, 1), 3: day_after(today, limits.REFUND_DAYS)}

    async def main() -> None:
        async with postgres.journal() as journal:
            for number, keep_until in ends.items():
                await append(journal, begun(number, sealed(number), keep_until=keep_until))
                await append(journal, final(number, State.COMPLETED, keep_until))
            # A person is still to decide about this one: its window has not begun.
            await append(journal, begun(4, sealed(4), keep_until=ends[1]))
        connection = await asyncpg.connect(postgres.dsn)
        try:
            for days, left in ((0, {1, 2, 3}), (1, {2, 3}), (2, {3}), (limits.REFUND_DAYS + 1, set())):
                journal = PostgresJournal(postgres.dsn, clock=Later(days), observer=postgres.seen)
                await journal._purge(connection)
                assert {number for _, number in await postgres.kept()} == left
                sealed_rows = await postgres.fetch("SELECT payment_id FROM switch.claim WHERE sealed_pan IS NOT NULL")
                assert {row["payment_id"] for row in sealed_rows} == {*left, 4}
        finally:
            await connection.close()

    run(main())


def test_the_hours_that_rows_need_are_those_of_open_payments_and_of_kept_cards(
    postgres: PostgresStore, run: Run
) -> None:
    async def main() -> None:
        store = PostgresSealedHours(postgres.dsn, "test")
        assert (await store.read())[0] == set()
        async with postgres.journal() as journal:
            await append(journal, begun(1, sealed(400_001), sealed(400_000)))
            for number in range(10, 20):
                await append(journal, begun(number, sealed(300_000 + number // 4), sealed(300_000)))
            assert (await store.read())[0] == {400_000, 400_001, 300_000, 300_002, 300_003, 300_004}
            for number in range(10, 20):
                await append(journal, final(number, State.COMPLETED, DAY_AFTER))
            needed, now_s = await store.read()
            assert needed == {400_000, 400_001, 300_002, 300_003, 300_004}
            assert abs(now_s - RealClock().wall_us() / 1e6) < 60
            await append(journal, final(1, State.DECLINED, 0))
            assert (await store.read())[0] == {300_002, 300_003, 300_004}
        await store.stop()

    run(main())


def test_a_kept_card_is_found_by_its_payment(postgres: PostgresStore, run: Run) -> None:
    async def main() -> None:
        cards = PostgresKeptCards(postgres.dsn, "test")
        async with postgres.journal() as journal:
            await append(journal, begun(1, sealed(7)))
            await append(journal, final(1, State.COMPLETED, DAY_AFTER))
            await append(journal, begun(3, sealed(8)))
        assert await cards.sealed(DAY, 1) == sealed(7)
        assert await cards.sealed(DAY, 2) is None and await cards.sealed(DAY + 1, 1) is None
        assert await cards.sealed(DAY, 3) is None, "it is open: nobody refunds it"
        await cards.stop()

    run(main())
