"""A kiosk takes a payment back (saga C13): in time, too late, and before it has begun."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from switch.sim.kiosk_client import CardChoice

SLOW_CARD = "[unionpay]\ndelay_ms = [700.0, 800.0]\nlate_s = [0.2, 0.3]\n"
SLOW_BILL = "[marketing]\ndelay_ms = [700.0, 800.0]\nlate_s = [0.2, 0.3]\n"


async def _pay_and_regret(world: Any, after_s: float) -> tuple[Any, Any]:
    kiosk = await world.kiosk()
    bills = await world.bills(kiosk, 1)
    paying = asyncio.create_task(kiosk.pay(bills, tuple(row[0] for row in bills.rows), CardChoice(1)))
    await asyncio.sleep(after_s)
    (payment,) = kiosk.unfinished.values()
    answer = await kiosk.take_back(payment)
    await paying
    while kiosk.unfinished:
        await kiosk.ask_result(payment)
        await asyncio.sleep(0.2)
    return payment, answer


def test_while_the_card_is_asked_it_is_taken_back(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        payment, answer = await _pay_and_regret(world, 0.2)
        assert answer.stable == "result_unknown" and payment.stable == "returned"
        assert ("6k", "REVERSAL_PENDING") in await world.events()
        assert (await world.settle()).holds

    play(story, SLOW_CARD)


def test_while_the_bill_is_posted_it_is_fenced_and_taken_back(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk_waits = 0.3
        payment, answer = await _pay_and_regret(world, kiosk_waits)
        rows = [row for row, _ in await world.events()]
        assert "12k" in rows, rows
        assert answer.stable == "being_returned"
        # The posting may win the race against its fence: then it is paid, and the kiosk hears so.
        assert payment.stable in ("returned", "completed")
        assert (await world.settle()).holds

    play(story, SLOW_BILL)


def test_what_is_paid_stays_paid(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        payment = await world.pay(kiosk, 1)
        answer = await kiosk.take_back(payment)
        assert (answer.code, answer.stable) == ("00", "completed")
        assert (await world.settle()).holds

    play(story)


def test_what_has_not_begun_never_will(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        bills = await world.bills(kiosk, 1)
        kiosk.hang_up()  # the request is lost with its line
        payment = await kiosk.pay(bills, tuple(row[0] for row in bills.rows), CardChoice(1))
        await kiosk.connect()
        answer = await kiosk.take_back(payment)
        assert answer.code == "25" and payment.final == "25"
        assert await world.events() == []
        (row,) = await world.rows("SELECT closed FROM switch.claim")
        assert row["closed"] == "not_found"

    play(story)
