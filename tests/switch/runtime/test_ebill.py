"""E-bills through the whole switch: what months were made of, page by page, from both kinds of marketing systems."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from switch import limits
from switch.config import LimitsConfig
from switch.machines import days
from switch.runtime.clock import SystemClock
from switch.sim import customers
from switch.sim.kiosk_client import CardChoice, EBill

ACCOUNT = customers.account(0)


def _this_month() -> str:
    return f"{days.local(SystemClock().wall_us()):%Y%m}"


def _used(world: Any, account: str = ACCOUNT) -> dict[str, customers.Used]:
    """The simulated utility's own book."""
    return customers.used(account, world.scenario.seed, world.marketing.date, world.scenario.marketing.months_owed)


def _as_told(used: customers.Used, paid: int) -> EBill:
    principal = sum(step.fen for step in used.steps)
    penalty = used.bill.penalty if used.bill else 0
    return EBill(
        used.period,
        used.energy_kwh,
        principal + penalty,
        paid,
        ((str(used.reading_before), str(used.reading)),),
        tuple((step.energy_kwh, step.price, step.fen) for step in used.steps),
    )


def test_every_month_of_two_years_is_told_page_by_page(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        newest, found, pages = _this_month(), list[EBill](), 0
        while newest:
            answer = await kiosk.ask_e_bill(ACCOUNT, newest)
            assert (answer.code, answer.stable) == ("00", "found") and answer.is_proof
            assert 0 < len(answer.e_bills) <= limits.E_BILL_PAGE_MAX
            assert answer.message is not None and len(answer.message.raw(48)) <= 999
            found += answer.e_bills
            newest, pages = answer.older, pages + 1
        used = _used(world)
        months = [days.months_before(_this_month(), back) for back in range(1, limits.E_BILL_BACK_MAX + 1)]
        assert [bill.period for bill in found] == months, "this month has no bill yet; none is left out or told twice"
        for bill in found:
            truth = used[bill.period]
            assert bill == _as_told(truth, 0 if truth.bill else bill.amount)
        assert any(used[month].bill for month in months) and pages >= 4
        assert await world.events() == [] and await world.rows("SELECT * FROM switch.claim") == []

    play(story)


def test_what_is_paid_is_told_as_paid(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        payment = await world.pay(kiosk, 1)
        assert payment.final == "00"
        period = days.months_before(_this_month(), 1)
        answer = await kiosk.ask_e_bill(payment.account, period, 1)
        (bill,) = answer.e_bills
        assert (bill.period, bill.amount, bill.paid) == (period, payment.amount, payment.amount)
        assert answer.older == days.months_before(period, 1)

    play(story)


def test_records_of_fixed_width_tell_months_that_are_paid(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        bills = await world.bills(kiosk, 2)
        used = _used(world, bills.account)
        months = sorted(used)[-4:]
        answer = await kiosk.ask_e_bill(bills.account, months[-1], 4)
        assert [bill.period for bill in answer.e_bills] == [months[1], months[0]], "two are owed"
        for bill in answer.e_bills:
            assert bill == _as_told(used[bill.period], bill.amount), "readings and every step, from several rows"
        payment = await kiosk.pay(bills, tuple(row[0] for row in bills.rows), CardChoice(1))
        assert payment.final == "00"
        answer = await kiosk.ask_e_bill(bills.account, months[-1], 1)
        (bill,) = answer.e_bills
        truth = used[months[-1]]
        assert (bill.amount, bill.paid) == (bills.rows[-1][1], bills.rows[-1][1])
        assert bill.meters == ((str(truth.reading_before), str(truth.reading)),)
        assert sum(step[2] for step in bill.steps) == truth.bill.principal if truth.bill else False

    play(story, speaks="ydlw")


def test_what_there_is_no_e_bill_of(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk, this = await world.kiosk(), _this_month()
        for account, newest, code in (
            ("0399999990", this, "unknown_account"),
            (ACCOUNT, days.months_before(this, -1), "no_bill"),
            (ACCOUNT, days.months_before(this, limits.E_BILL_BACK_MAX + 1), "no_bill"),
        ):
            answer = await kiosk.ask_e_bill(account, newest)
            assert (answer.stable, answer.e_bills) == (code, ()) and answer.is_proof
        assert (await kiosk.ask_e_bill(ACCOUNT, this, 1)).stable == "no_bill", "nobody has read this month's meter yet"
        for newest, months in (("202613", 1), ("2026", 1), (this, 7), (this, 0)):
            answer = await kiosk.ask_e_bill(ACCOUNT, newest, months)
            assert (answer.stable, answer.code) == ("format", "30")
        assert world.marketing.counts["e_bill"] == 2

    play(story)


@pytest.mark.parametrize("do", ["silence", "ambiguous:50", "drop"])
def test_a_page_ends_where_the_marketing_system_fails_and_goes_on_from_there(
    play: Callable[..., None], do: str
) -> None:
    async def story(world: Any) -> None:
        kiosk, last = await world.kiosk(), days.months_before(_this_month(), 1)
        answer = await kiosk.ask_e_bill(ACCOUNT, last)
        assert answer.stable == "bill_unavailable", "not a single month was told"

    play(story, f'[[marketing.script]]\nwhen = {{ message = "e_bill" }}\ndo = "{do}"\ntimes = 1\n')

    async def later(world: Any) -> None:
        kiosk, last = await world.kiosk(), days.months_before(_this_month(), 1)
        answer = await kiosk.ask_e_bill(ACCOUNT, last)
        assert [bill.period for bill in answer.e_bills] == [last, days.months_before(last, 1)]
        assert answer.older == days.months_before(last, 2), "where the next page begins"

    play(later, f'[[marketing.script]]\nwhen = {{ message = "e_bill", nth = 3 }}\ndo = "{do}"\ntimes = 1\n')


def test_questions_are_bounded_as_bill_inquiries_are(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        this = _this_month()
        codes = [(await kiosk.ask_e_bill(ACCOUNT, this, 1)).stable for _ in range(limits.INQUIRIES_BURST + 1)]
        assert codes == ["no_bill"] * limits.INQUIRIES_BURST + ["too_fast"]

    play(story, limits=LimitsConfig())


def test_with_more_work_than_can_be_done_they_are_turned_away_first(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        world.worker.switch.dispatcher._pressure = SimpleNamespace(overloaded=True, is_full=True)
        answer = await kiosk.ask_e_bill(ACCOUNT, _this_month())
        assert answer.stable == "busy" and world.marketing.counts["e_bill"] == 0

    play(story)
