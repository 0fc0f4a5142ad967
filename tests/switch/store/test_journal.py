"""The journal's port: the same promises from PostgreSQL and from memory."""

from __future__ import annotations

import asyncio

from switch.model.payment import State
from switch.ports import Append, Claim, ClaimKind, Stray

from .conftest import Run, Store
from .support import DAY, append, asked, entry, found, outcome

KIOSK = Claim(ClaimKind.KIOSK, "10000001|1123|000001")
BILL = Claim(ClaimKind.BILL, "0123456789|202610")
OPEN = Claim(ClaimKind.OPEN, "1", b"sealed card data")


def test_a_committed_entry_is_found_by_its_claim(store: Store, run: Run) -> None:
    async def main() -> None:
        async with store.journal() as journal:
            assert journal.accepting and journal.pending == 0
            item = entry(1, claims=(KIOSK, BILL, OPEN), attempt=b"\x00\x01", ledger=b'[["a",1,0],["b",0,1]]')
            assert await outcome(journal, item) is Append.COMMITTED
            stored = await found(journal, KIOSK)
            assert (stored.payment_id, stored.opened_on, stored.ver) == (1, DAY, 1)
            assert stored.state is State.CARD_PENDING
            assert stored.body == {"ver": 1, "v1": "电"}
            assert stored.sealed == b"sealed card data"
            assert stored.link == item.link
            assert await found(journal, Claim(ClaimKind.KIOSK, "somebody else")) is None

    run(main())


def test_later_bodies_go_over_earlier_ones(store: Store, run: Run) -> None:
    async def main() -> None:
        async with store.journal() as journal:
            await outcome(journal, entry(1, 1, claims=(KIOSK,), body=b'{"a":1,"b":[1],"c":{"x":1}}'))
            await outcome(journal, entry(1, 2, body=b'{"b":[2],"c":{"y":2}}', state=State.BILL_PENDING))
            stored = await found(journal, KIOSK)
            assert stored.body == {"a": 1, "b": [2], "c": {"y": 2}}
            assert (stored.ver, stored.state) == (2, State.BILL_PENDING)
            (row,) = await store.rows()
            assert (row.payment, row.amount, row.events) == (stored, 12_345, 2)

    run(main())


def test_a_foreign_row_of_the_same_ver_wins(store: Store, run: Run) -> None:
    async def main() -> None:
        async with store.journal() as journal:
            await store.foreign(entry(1, body=b'{"theirs":1}'))
            assert await outcome(journal, entry(1, claims=(KIOSK,))) is Append.LOST
            assert await store.claims() == {}
            (row,) = await store.rows()
            assert row.payment.body == {"theirs": 1}

    run(main())


def test_a_taken_claim_is_named_and_nothing_is_written(store: Store, run: Run) -> None:
    async def main() -> None:
        async with store.journal() as journal:
            await outcome(journal, entry(1, claims=(BILL,)))
            refused = await append(journal, entry(2, claims=(KIOSK, BILL, Claim(ClaimKind.OPEN, "2"))))
            assert refused.result is Append.CLAIMED
            assert refused.claim == BILL
            assert await found(journal, KIOSK) is None
            assert [row.payment.payment_id for row in await store.rows()] == [1]

    run(main())


def test_a_released_claim_can_be_taken_again_and_only_the_owner_releases(store: Store, run: Run) -> None:
    async def main() -> None:
        async with store.journal() as journal:
            await outcome(journal, entry(1, claims=(BILL, OPEN)))
            await outcome(journal, entry(2, releases=(BILL,)))  # not its own
            assert await outcome(journal, entry(3, claims=(BILL,))) is Append.CLAIMED
            await outcome(journal, entry(1, 2, state=State.DECLINED, releases=(BILL, OPEN)))
            assert await outcome(journal, entry(3, claims=(BILL,))) is Append.COMMITTED
            assert await store.claims() == {("bill", BILL.key): (3, None)}

    run(main())


def test_what_one_gives_back_its_neighbour_takes_in_the_same_batch(store: Store, run: Run) -> None:
    async def main() -> None:
        async with store.journal() as journal:
            await outcome(journal, entry(1, claims=(BILL,)))
            gives = append(journal, entry(1, 2, releases=(BILL,)))
            takes = append(journal, entry(2, claims=(BILL,)))
            # A loser in the same batch, so that the neighbours go through sorting out too.
            loses = append(journal, entry(1, 2, row="other"))
            assert [(await future).result for future in (gives, takes, loses)] == [
                Append.COMMITTED,
                Append.COMMITTED,
                Append.LOST,
            ]

    run(main())


def test_an_entry_may_claim_again_what_it_releases(store: Store, run: Run) -> None:
    async def main() -> None:
        async with store.journal() as journal:
            await outcome(journal, entry(1, claims=(BILL,)))
            await outcome(journal, entry(2, claims=(KIOSK,)))
            refused = await append(journal, entry(1, 2, releases=(BILL,), claims=(BILL, KIOSK)))
            assert (refused.result, refused.claim) == (Append.CLAIMED, KIOSK)
            assert await outcome(journal, entry(1, 2, releases=(BILL,), claims=(BILL,))) is Append.COMMITTED

    run(main())


def test_rivals_in_one_batch_the_first_wins(store: Store, run: Run) -> None:
    async def main() -> None:
        async with store.journal() as journal:
            futures = [append(journal, entry(number, claims=(BILL,))) for number in range(1, 21)]
            futures += [append(journal, entry(100, row=str(number))) for number in range(20)]
            outcomes = [(await future).result for future in futures]
            assert outcomes == [Append.COMMITTED, *[Append.CLAIMED] * 19, Append.COMMITTED, *[Append.LOST] * 19]

    run(main())


def test_the_same_claim_twice_in_one_entry_is_its_own_rival(store: Store, run: Run) -> None:
    async def main() -> None:
        async with store.journal() as journal:
            refused = await append(journal, entry(1, claims=(BILL, KIOSK, BILL)))
            assert (refused.result, refused.claim) == (Append.CLAIMED, BILL)

    run(main())


def test_losers_do_not_fail_their_neighbours(store: Store, run: Run) -> None:
    async def main() -> None:
        async with store.journal() as journal:
            for number in (7, 99, 256):
                await store.foreign(entry(number))
            await outcome(journal, entry(1000, claims=(BILL,)))
            futures = []
            for number in range(1, 401):
                claims = (BILL,) if number in (1, 50, 400) else (Claim(ClaimKind.STAN, str(number)),)
                futures.append(append(journal, entry(number, claims=claims)))
            for number, future in enumerate(futures, 1):
                expected = Append.COMMITTED
                if number in (7, 99, 256):
                    expected = Append.LOST
                elif number in (1, 50, 400):
                    expected = Append.CLAIMED
                assert (await future).result is expected, number
            assert len(await store.rows()) == 3 + 1 + 394

    run(main())


def test_a_callback_that_raises_takes_nobody_along(store: Store, run: Run) -> None:
    def explode(_: object) -> None:
        raise RuntimeError("a fault of ours")

    async def main() -> None:
        async with store.journal() as journal:
            before = append(journal, entry(1, claims=(KIOSK,)))
            journal.append(entry(2), explode)
            after = append(journal, entry(3))
            journal.find(KIOSK, explode)
            assert (await before).result is Append.COMMITTED
            assert (await after).result is Append.COMMITTED
            assert await found(journal, KIOSK) is not None
            assert store.seen.names().count("journal.callback_failed") == 2

    run(main())


def test_a_callback_may_append_the_next_entry(store: Store, run: Run) -> None:
    async def main() -> None:
        async with store.journal() as journal:
            finished = asyncio.Event()
            vers = []

            def done(ver: int) -> None:
                vers.append(ver)
                if ver == 50:
                    finished.set()
                else:
                    journal.append(entry(1, ver + 1), lambda _: done(ver + 1))

            journal.append(entry(1, 1), lambda _: done(1))
            await finished.wait()
            assert vers == list(range(1, 51))

    run(main())


def test_open_payments_come_in_pages_with_their_sealed_data(store: Store, run: Run) -> None:
    async def main() -> None:
        async with store.journal() as journal:
            for number in (5, 3, 9, 4, 7):
                opened = Claim(ClaimKind.OPEN, str(number), b"s%d" % number)
                await outcome(journal, entry(number, claims=(opened,)))
                await outcome(journal, entry(number, 2, state=State.BILL_PENDING))
            await outcome(journal, entry(4, 3, releases=(Claim(ClaimKind.OPEN, "4"),), state=State.COMPLETED))
        async with store.journal() as heir:  # the first has resigned
            first = await heir.take_over(2)
            second = await heir.take_over(2)
            assert [stored.payment_id for stored in first + second] == [3, 5, 7, 9]
            assert [stored.sealed for stored in first + second] == [b"s3", b"s5", b"s7", b"s9"]
            assert all(stored.ver == 2 and stored.body == {"ver": 2, "v1": "电", "v2": "电"} for stored in first)
            assert await heir.take_over(2) == []

    run(main())


def test_strays_are_recorded_whatever_is_in_them(store: Store, run: Run) -> None:
    async def main() -> None:
        async with store.journal() as journal:
            journal.note(Stray("unionpay", "late", "k", "plain 电", 1))
            journal.note(Stray("unionpay", "foreign", "k", "nul \x00 and \ud800", 1))
            for _ in range(200):
                if len(await store.strays()) == 2:
                    break
                await asyncio.sleep(0.02)
            first, second = await store.strays()
            assert first == "plain 电"
            assert second.startswith("nul ")

    run(main())


def test_find_sees_what_was_just_committed(store: Store, run: Run) -> None:
    async def main() -> None:
        async with store.journal() as journal:
            for number in range(1, 101):
                claim = Claim(ClaimKind.KIOSK, str(number))
                await outcome(journal, entry(number, claims=(claim,)))
                assert (await found(journal, claim)).payment_id == number
            answers = await asyncio.gather(
                *(asked(journal.find, Claim(ClaimKind.KIOSK, str(number))) for number in range(90, 210))
            )
            assert [answer and answer.payment_id for answer in answers] == [*range(90, 101), *[None] * 109]

    run(main())
