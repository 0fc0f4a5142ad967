"""Old keys go, in time and never too early."""

from __future__ import annotations

from switch import limits
from switch.machines.days import day_after
from switch.ports import Append, Claim, ClaimKind
from switch.store.pool import connected

from .conftest import PostgresStore, Run
from .support import RealClock, entry, outcome


def keys(number: int) -> tuple[Claim, ...]:
    return (
        Claim(ClaimKind.KIOSK, f"10000001|1123|{number:06d}"),
        Claim(ClaimKind.STAN, f"10000001|000001|{number:06d}"),
        Claim(ClaimKind.BILL, f"0500000017|R{number}"),
        Claim(ClaimKind.OPEN, str(number)),
    )


def test_keys_of_finished_payments_go_when_nobody_can_ask_for_them(postgres: PostgresStore, run: Run) -> None:
    async def main() -> None:
        async with postgres.journal() as journal:
            for number in (1, 2, 3):
                assert await outcome(journal, entry(number, claims=keys(number))) is Append.COMMITTED
            for number in (1, 3):  # these two are final: their open claim and bill lock are given back
                await outcome(journal, entry(number, 2, releases=keys(number)[2:]))
            await postgres.execute(
                "UPDATE switch.claim SET made_at = now() - make_interval(days => $1) WHERE payment_id < 3",
                limits.CLAIM_KEPT_DAYS + 1,
            )
            async with connected(postgres.dsn, "test") as connection:
                assert await journal._purge(connection) == 1
                assert await journal._purge(connection) == 0
            left = {(kind, payment_id) for (kind, _), (payment_id, _) in (await postgres.claims()).items()}
            assert not {kind for kind, payment_id in left if payment_id == 1}
            assert {kind for kind, payment_id in left if payment_id == 2} == {"kiosk", "stan", "bill", "open"}, (
                "old, but open: a person may still be deciding"
            )
            assert {kind for kind, payment_id in left if payment_id == 3} == {"kiosk", "stan"}, "young"

    run(main())


def test_a_card_number_that_may_be_refunded_outlives_the_keys(postgres: PostgresStore, run: Run) -> None:
    """And the keys outlive the card number where its window is the shorter one."""

    async def main() -> None:
        async with postgres.journal() as journal:
            today = day_after(RealClock().wall_us(), 0)
            ends = {1: day_after(RealClock().wall_us(), 9), 2: day_after(RealClock().wall_us(), -1), 3: today}
            for number, keep_until in ends.items():
                kiosk, stan, bill, _ = keys(number)
                opened = Claim(ClaimKind.OPEN, str(number), b"sealed", b"\x01\0\0\0\1pan")
                await outcome(journal, entry(number, claims=(kiosk, stan, opened, bill), keep_until=keep_until))
                await outcome(journal, entry(number, 2, releases=(opened, bill), keep_until=keep_until))
            await postgres.execute(
                "UPDATE switch.claim SET made_at = now() - make_interval(days => $1) WHERE payment_id <> 2",
                limits.CLAIM_KEPT_DAYS + 1,
            )
            async with connected(postgres.dsn, "test") as connection:
                assert await journal._purge(connection) == 3
                assert {number for _, number in await postgres.kept()} == {1, 3}
                assert {number for number, _ in (await postgres.claims()).values()} == {2}
                await postgres.execute("UPDATE switch.claim SET keep_until = 20200101 WHERE payment_id = 1")
                assert await journal._purge(connection) == 1
            rows = await postgres.fetch("SELECT payment_id FROM switch.claim ORDER BY 1")
            assert [row["payment_id"] for row in rows] == [2, 3]

    run(main())
