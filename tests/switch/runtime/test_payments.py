"""Payments end to end: real sockets, real PostgreSQL, hosts that misbehave on request. One story a test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from switch.config import UnionpayProfile
from switch.model.payment import State

Play = Callable[..., None]


# ------------------------------------------------------------------------------------------------ the happy path
def test_three_months_are_one_charge_and_three_postings(play: Play) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        payment = await world.pay(kiosk, months=3)
        assert (payment.final, payment.stable) == ("00", "completed")
        proof = await world.settle()
        assert proof.holds and proof.months == {3: 1}
        assert proof.fen == proof.charged_fen == proof.posted_fen == payment.amount
        assert [row for row, _ in await world.events()] == ["1", "2", "8n", "8n", "8"]

    play(story)


def test_chosen_months_only_are_paid(play: Play) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        bills = await world.bills(kiosk, 3, partial=True)
        await kiosk.pay(bills, (bills.rows[0][0],), world_card(1))
        left = await kiosk.inquire(bills.account)
        assert left.bills.rows == bills.rows[1:]
        assert (await world.settle()).holds

    play(story)


def test_every_frame_has_its_attempt_in_the_journal_before_it_leaves(play: Play, short_dir: Path) -> None:
    """Invariant I5, by the hosts' own clocks: their fact is never older than our event."""

    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        await world.pay(kiosk, months=2)
        await world.settle()
        events = await world.rows("SELECT * FROM switch.payment_event ORDER BY ver")
        assert [event["attempt"] is not None for event in events] == [True, True, True, False]
        for event in events:
            attempt = event["attempt"] or b""
            assert b"6222" not in attempt and bytes.fromhex("6222") not in attempt, "no card number in the journal"

    play(story)


# ------------------------------------------------------------------------------------------------ the card
def test_a_declined_card_charges_nothing_and_shows_the_issuers_code(play: Play) -> None:
    async def story(world: Any) -> None:
        payment = await world.pay(await world.kiosk())
        assert (payment.final, payment.stable) == ("51", "declined")
        proof = await world.settle()
        assert proof.holds and proof.count(State.DECLINED) == 1

    play(story, '[[unionpay.script]]\ndo = "decline:51"')


def test_a_silent_card_host_that_charged_is_reversed(play: Play) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        payment = await world.pay(kiosk)
        assert payment.final == "" and payment.words == 1, "unknown is told, not guessed"
        proof = await world.settle()
        assert proof.holds and proof.count(State.REVERSED) == 1 and proof.charged_fen == 0
        await kiosk.ask_result(payment)
        assert payment.final == "R2"

    play(story, '[[unionpay.script]]\ndo = "silence:done"')


def test_a_silent_card_host_that_never_charged_is_believed_only_after_the_quiet_period(play: Play) -> None:
    async def story(world: Any) -> None:
        await world.pay(await world.kiosk())
        proof = await world.settle()
        assert proof.holds and proof.count(State.REVERSED) == 1
        rows = [row for row, _ in await world.events()]
        assert rows[:2] == ["1", "6"] and rows[-1] == "16" and rows.count("17i") >= 2

    play(story, '[[unionpay.script]]\ndo = "silence:lost"')


def test_not_found_of_a_host_whose_word_is_no_proof_ends_unproven(play: Play) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        payment = await world.pay(kiosk)
        proof = await world.settle()
        assert proof.count(State.UNPROVEN) == 1 and not proof.differences
        await kiosk.ask_result(payment)
        assert payment.final == "U2"

    play(story, '[[unionpay.script]]\ndo = "silence:lost"', profile=UnionpayProfile())


def test_a_purchase_that_is_charged_after_its_reversal_found_nothing_is_still_undone(play: Play) -> None:
    """The reversal overtook the purchase: 25 first, the charge afterwards, the next reversal finds it."""

    async def story(world: Any) -> None:
        await world.pay(await world.kiosk())
        proof = await world.settle()
        assert proof.holds and proof.count(State.REVERSED) == 1 and proof.charged_fen == 0
        assert "6l" in [row for row, _ in await world.events()], "the late approval is remembered"

    play(story, '[[unionpay.script]]\ndo = "late_act:2.3"')


def test_an_approval_with_a_wrong_mac_is_not_believed_but_undone(play: Play) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        await world.pay(kiosk)
        proof = await world.settle()
        assert proof.holds and proof.count(State.REVERSED) == 1
        assert [row for row, _ in await world.events()][1] == "5"
        assert world.metric('switch_mac_failures_total{peer="unionpay"}') == 1
        assert await kiosk.inquire("0") is not None
        assert await kiosk.sign_on() == "00", "the terminal signs on again"
        assert (await world.pay(kiosk)).final == "00"

    play(story, '[[unionpay.script]]\ndo = "bad_mac"')


def test_a_duplicate_answer_changes_nothing_and_is_counted(play: Play) -> None:
    async def story(world: Any) -> None:
        assert (await world.pay(await world.kiosk())).final == "00"
        proof = await world.settle()
        assert proof.holds
        assert world.metric('switch_duplicates_total{source="host"}') == 1

    play(story, '[[unionpay.script]]\ndo = "duplicate"')


def test_a_lost_card_link_reverses_what_may_have_left(play: Play) -> None:
    async def story(world: Any) -> None:
        payment = await world.pay(await world.kiosk())
        assert payment.first_word_s < 1.5, "told when the link is lost, not when the time is over"
        proof = await world.settle()
        assert proof.holds and proof.count(State.REVERSED) == 1

    play(story, '[[unionpay.script]]\ndo = "drop:done"')


# ------------------------------------------------------------------------------------------------ the bill
def test_a_refused_bill_is_cancelled_and_the_card_reversed(play: Play) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        payment = await world.pay(kiosk)
        proof = await world.settle()
        assert proof.holds and proof.count(State.REVERSED) == 1
        assert [row for row, _ in await world.events()] == ["1", "2", "9", "13", "15"]
        await kiosk.ask_result(payment)
        assert payment.final == "R2"

    play(story, '[[marketing.script]]\ndo = "refuse:29"')


def test_when_the_third_month_is_refused_the_posted_two_are_undone(play: Play) -> None:
    async def story(world: Any) -> None:
        await world.pay(await world.kiosk(), months=3)
        proof = await world.settle()
        assert proof.holds and proof.posted_fen == 0 and proof.charged_fen == 0
        assert [row for row, _ in await world.events()] == ["1", "2", "8n", "8n", "9", "13n", "13n", "13", "15"]

    play(story, '[[marketing.script]]\nwhen = { month = 3 }\ndo = "refuse:29"')


def test_silence_after_posting_is_asked_and_found(play: Play) -> None:
    async def story(world: Any) -> None:
        assert (await world.pay(await world.kiosk(), months=1)).final == "00"
        proof = await world.settle()
        assert proof.holds and proof.count(State.COMPLETED) == 1
        assert [row for row, _ in await world.events()] == ["1", "2", "10i", "8"]

    play(story, '[[marketing.script]]\ndo = "silence:done"')


def test_silence_before_posting_posts_again_with_the_same_serial(play: Play) -> None:
    async def story(world: Any) -> None:
        assert (await world.pay(await world.kiosk(), months=1)).final == "00"
        assert (await world.settle()).holds
        assert [row for row, _ in await world.events()] == ["1", "2", "10i", "10r", "8"]

    play(story, '[[marketing.script]]\ndo = "silence:lost"')


def test_a_marketing_system_that_stays_silent_leaves_the_kiosk_with_being_booked(play: Play) -> None:
    """Rows 11 and 12f: told "paid, being booked", never reversed by silence, completed when it speaks again."""

    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        payment = await world.pay(kiosk, months=1)
        assert payment.final == "" and payment.words == 1
        assert (await kiosk.ask_result(payment)).code in ("B1", "00")
        proof = await world.settle()
        assert proof.holds and proof.count(State.COMPLETED) == 1
        await kiosk.ask_result(payment)
        assert payment.final == "00"

    play(
        story,
        '[[marketing.script]]\ndo = "silence:lost"\ntimes = 3\n'
        '[[marketing.script]]\nwhen = { message = "status" }\ndo = "silence:lost"\ntimes = 2',
    )


# ------------------------------------------------------------------------------------------------ the kiosk
def test_a_kiosk_that_repeats_its_request_gets_the_same_answer_and_one_charge(play: Play) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        payment = await world.pay(kiosk, repeat=True)
        assert payment.final == "00"
        await asyncio.sleep(0.1)
        assert kiosk.counts.get("contradiction", 0) == 0
        proof = await world.settle()
        assert proof.holds and proof.payments == 1
        assert world.metric('switch_duplicates_total{source="kiosk"}') == 1

    play(story)


def test_a_repeat_after_a_restart_is_answered_from_the_journal(play: Play) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        payment = await world.pay(kiosk)
        await world.settle()
        await world.worker.stop()
        await world.start_worker()
        again = await world.kiosk()
        await again.ask_result(payment)
        assert payment.words == 2 and payment.final == "00"
        assert (await world.settle()).payments == 1

    play(story)


def test_a_kiosk_that_hangs_up_finds_its_payment_done_when_it_is_back(play: Play) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        payment = await world.pay(kiosk, hang_up_after_s=0.003)
        await world.settle()
        await kiosk.connect()
        await kiosk.ask_result(payment)
        assert payment.final == "00"
        assert (await world.settle()).holds

    play(story, "[unionpay]\ndelay_ms = [50, 60]")


def test_two_kiosks_cannot_pay_one_bill_at_once(play: Play) -> None:
    async def story(world: Any) -> None:
        first, second = await world.kiosk(1), await world.kiosk(2)
        bills = await world.bills(first, 1)
        same = (await second.inquire(bills.account)).bills
        names = (bills.rows[0][0],)
        one, two = await asyncio.gather(first.pay(bills, names, world_card(1)), second.pay(same, names, world_card(2)))
        assert sorted((one.final, two.final)) == ["00", "E5"]
        proof = await world.settle()
        assert proof.holds and proof.payments == 1

    play(story, "[unionpay]\ndelay_ms = [50, 60]")


# ------------------------------------------------------------------------------------------------ takeover and drain
def test_payments_of_a_worker_that_is_gone_are_driven_to_an_end_by_the_next(play: Play) -> None:
    """Stopped without a drain in the middle of the card leg: reversed, never charged again. (kill -9: see e2e.)"""

    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        payment = await world.pay(kiosk, hang_up_after_s=0.1)
        await world.worker.stop()
        await world.start_worker()
        proof = await world.settle()
        assert proof.holds and proof.count(State.REVERSED) == 1
        rows = [row for row, _ in await world.events()]
        assert rows[:3] == ["1", "6", "17v"], "the link's end was seen, and the next worker took over"
        again = await world.kiosk()
        await again.ask_result(payment)
        assert payment.final == "R2"

    play(story, '[[unionpay.script]]\ndo = "late:1.5"')


def test_drain_refuses_new_payments_and_finishes_those_that_run(play: Play) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        bills = await world.bills(kiosk, 1)
        other = await world.bills(kiosk, 1)
        running = asyncio.create_task(kiosk.pay(bills, (bills.rows[0][0],), world_card(1)))
        await asyncio.sleep(0.05)
        draining = asyncio.create_task(world.worker.drain(asyncio.Event()))
        await asyncio.sleep(0)
        refused = await kiosk.pay(other, (other.rows[0][0],), world_card(1))
        assert (await running).final == "00"
        assert refused.final == "N2"
        assert await draining == 0

    play(story, "[unionpay]\ndelay_ms = [90, 95]")


def world_card(number: int) -> Any:
    from switch.sim.kiosk_client import CardChoice

    return CardChoice(number)
