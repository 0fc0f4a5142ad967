"""What a kiosk does besides bills: balance, the slip again, sign-off, another connection. The whole switch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from switch.ops.status import ask
from switch.sim import testkeys
from switch.sim.kiosk_client import CardChoice


def _fen_on(card: CardChoice) -> int:
    """As the simulated card host has it: it follows from the card's number."""
    return int(testkeys.test_pan(card.number)[-7:-1]) * 100


# ---------------------------------------------------------------------------------------------------- balance
@pytest.mark.parametrize("entry", ["track", "chip", "keyed"])
def test_a_balance_is_told_and_nothing_of_it_is_kept(play: Callable[..., None], entry: str) -> None:
    async def story(world: Any) -> None:
        kiosk, card = await world.kiosk(), CardChoice(7, entry=entry)
        answer = await kiosk.ask_balance(card)
        assert (answer.code, answer.stable, answer.balance) == ("00", "found", _fen_on(card))
        assert answer.is_proof, "it came with a MAC"
        assert world.unionpay.counts["balance"] == 1
        assert await world.events() == [] and await world.rows("SELECT * FROM switch.claim") == []

    play(story)


def test_a_wrong_pin_is_the_issuers_word(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        answer = await (await world.kiosk()).ask_balance(CardChoice(7, wrong_pin=True))
        assert (answer.code, answer.stable, answer.balance) == ("55", "declined", None)

    play(story)


@pytest.mark.parametrize("do", ["silence", "bad_mac", "ambiguous:68", "drop"])
def test_an_answer_that_proves_nothing_shows_no_number(play: Callable[..., None], do: str) -> None:
    """Of a balance nothing is at stake but the number itself: one under a wrong MAC may be anybody's."""

    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        answer = await kiosk.ask_balance(CardChoice(7))
        assert (answer.stable, answer.balance) == ("card_unavailable", None)
        if do != "drop":
            assert (await kiosk.ask_balance(CardChoice(7))).code == "00", "the next question is one of its own"
        assert (await world.settle()).holds

    play(story, f'[[unionpay.script]]\nwhen = {{ message = "balance" }}\ndo = "{do}"\ntimes = 1\n')


def test_a_late_balance_is_a_stray_and_no_sign_of_life(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        link, alive = world.worker.switch.card_link, list[bool]()
        echoes, heard = world.unionpay.counts["echo"], link._answered
        monkeypatch.setattr(link, "_answered", lambda: alive.append(heard() is None))
        assert (await kiosk.ask_balance(CardChoice(7))).stable == "card_unavailable"
        rows: list[Any] = []
        for _ in range(400):
            rows = rows or await world.rows("SELECT kind, detail FROM switch.stray")
            await asyncio.sleep(0.0 if rows else 0.05)
        assert [row["kind"] for row in rows] == ["late"] and "balance" in rows[0]["detail"]
        assert len(alive) <= world.unionpay.counts["echo"] - echoes, "taken for the answer to an echo test"

    play(story, '[[unionpay.script]]\nwhen = { message = "balance" }\ndo = "late:2.4"\ntimes = 1\n')


def test_while_something_has_to_be_taken_back_the_card_network_is_asked_nothing_else(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        payment = await world.pay(kiosk, 1)
        assert payment.final == "" and kiosk.unfinished
        assert (await kiosk.ask_balance(CardChoice(7))).stable == "card_unavailable"
        while kiosk.unfinished:
            await asyncio.sleep(0.2)
            await kiosk.ask_result(payment)
        assert (await kiosk.ask_balance(CardChoice(7))).code == "00"
        assert (await world.settle()).holds

    rules = (("purchase", "silence"), ("reversal", "silence"))
    play(
        story,
        "".join(
            f'[[unionpay.script]]\nwhen = {{ message = "{what}" }}\ndo = "{do}"\ntimes = 1\n' for what, do in rules
        ),
    )


def test_with_a_date_of_long_ago_nobody_is_asked(play: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        monkeypatch.setattr("switch.sim.kiosk_client._today", lambda: "0101")
        answer = await kiosk.ask_balance(CardChoice(7))
        assert answer.stable == "stale_date" and world.unionpay.counts["balance"] == 0

    play(story)


# ---------------------------------------------------------------------------------------------------- the slip again
def test_a_slip_is_printed_again_with_what_was_paid(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        bills = await world.bills(kiosk, 3)
        card = CardChoice(5)
        payment = await kiosk.pay(bills, tuple(row[0] for row in bills.rows), card)
        answer = await kiosk.ask_slip(payment)
        assert (answer.code, answer.stable, answer.amount) == ("00", "completed", payment.amount)
        slip = answer.slip
        assert slip is not None and slip.account == bills.account and len(slip.rows) == 3
        assert sum(amount for _, amount in slip.rows) == payment.amount
        pan = testkeys.test_pan(card.number)
        assert slip.card == f"{pan[:6]}{'*' * (len(pan) - 10)}{pan[-4:]}" and slip.paid_at[4:8] == payment.date
        result = await kiosk.ask_result(payment)
        assert result.slip is None and result.reference == answer.reference
        # Also after a restart, from the journal.
        await world.worker.stop()
        await world.start_worker()
        kiosk.port = world.worker.kiosk_port
        await kiosk.connect()
        assert await kiosk.sign_on() == "00"
        assert (await kiosk.ask_slip(payment)).slip == slip

    play(story)


def test_of_what_never_was_there_is_no_slip(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        payment = await world.pay(kiosk, 1)
        payment.serial = "999998"
        answer = await kiosk.ask_slip(payment)
        assert (answer.code, answer.slip) == ("25", None)

    play(story)


# ---------------------------------------------------------------------------------------------------- connections
def test_the_newest_connection_wins_and_the_old_one_drains(play: Callable[..., None], helpers: Any) -> None:
    async def story(world: Any) -> None:
        old = await world.kiosk(1)
        bills = await world.bills(old, 1)
        paying = asyncio.create_task(old.pay(bills, tuple(row[0] for row in bills.rows), CardChoice(1)))
        await asyncio.sleep(0.2)
        new = await world.kiosk(1)
        assert old.is_connected
        assert (await new.ask_balance(CardChoice(1))).code == "00", "its first right MAC makes it the terminal's own"
        old._mac = new._mac  # as one program with two sockets would
        payment = await paying
        assert payment.stable == "completed", "what was under way is answered on the old one"
        for answer in (await old.inquire(bills.account), await old.ask_balance(CardChoice(1))):
            assert (answer.code, answer.stable) == ("77", "signed_on_elsewhere")
        assert (await old.ask_result(payment)).stable == "completed", "results are told everywhere"
        assert world.metric("switch_lines_replaced_total") == 1
        # And closed, when nobody can wait for anything on it any more.
        await helpers.wait_until(lambda: not old.is_connected, 2 * helpers.times.kiosk_s)
        assert new.is_connected and (await new.ask_balance(CardChoice(1))).code == "00"

    play(story, "[unionpay]\ndelay_ms = [700.0, 800.0]\nlate_s = [0.2, 0.3]\n")


def test_who_only_knows_the_name_takes_nobodys_place(play: Callable[..., None]) -> None:
    """A sign-on has no MAC: a stranger may send one, and gets keys under a master key that he does not have."""

    async def story(world: Any) -> None:
        kiosk = await world.kiosk(1)
        assert (await kiosk.ask_balance(CardChoice(1))).code == "00"
        stranger = await world.kiosk(1)  # signed on; it never shows a right MAC
        stranger._mac = None
        assert (await stranger.inquire("0500000017")).code == "A0"
        assert await kiosk.sign_on() == "00"
        assert (await kiosk.ask_balance(CardChoice(1))).code == "00"
        assert kiosk.is_connected and world.metric("switch_lines_replaced_total") == 0

    play(story)


def test_a_replaced_connection_that_signs_on_is_the_newest_again(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        first, second = await world.kiosk(1), await world.kiosk(1)
        for turn, (one, other) in enumerate(((first, second), (second, first), (first, second))):
            assert await one.sign_on() == "00"
            assert (await one.ask_balance(CardChoice(1))).code == "00"
            assert world.metric("switch_lines_replaced_total") == turn
            other._mac = one._mac
            if turn:
                assert (await other.inquire("0500000017")).stable == "signed_on_elsewhere"

    play(story)


def test_after_a_sign_off_the_next_connection_replaces_nobody(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk(1)
        assert (await kiosk.ask_balance(CardChoice(1))).code == "00"
        assert await kiosk.sign_off() == "00"
        other = await world.kiosk(1)
        assert (await other.ask_balance(CardChoice(1))).code == "00"
        assert world.metric("switch_lines_replaced_total") == 0
        # From a connection that is not its own, a sign-off means nothing.
        assert await kiosk.sign_off() == "00"
        third = await world.kiosk(1)
        assert (await third.ask_balance(CardChoice(1))).code == "00"
        assert world.metric("switch_lines_replaced_total") == 1

    play(story)


# ---------------------------------------------------------------------------------------------------- closed doors
def test_an_inquiry_says_that_no_payment_can_begin(play: Callable[..., None], helpers: Any) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        bills = await world.bills(kiosk, 1)
        assert (await kiosk.inquire(bills.account)).closed == ""
        await world.unionpay.stop()
        await helpers.wait_until(lambda: not world.worker.switch.card_link.is_up)
        answer = await kiosk.inquire(bills.account)
        assert (answer.code, answer.stable, answer.closed) == ("00", "found", "card_unavailable")
        assert answer.bills is not None, "what is owed is told all the same"

    play(story)


def test_a_terminal_in_maintenance_hears_so_and_what_became_of_its_payment(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        payment = await world.pay(kiosk, 1)

        async def service(**order: Any) -> None:
            await asyncio.to_thread(ask, world.config, do="service", terminal=kiosk.terminal_id, **order)

        for reason, stable in (("maintenance: new printer", "maintenance"), ("stolen", "out_of_service")):
            await service(on=False, reason=reason)
            assert (await kiosk.inquire("0500000017")).stable == stable
            assert (await kiosk.ask_balance(CardChoice(1))).stable == stable
            assert (await kiosk.ask_result(payment)).stable == "completed"
            assert (await kiosk.ask_slip(payment)).slip is not None
        await service(on=True)
        assert (await kiosk.ask_balance(CardChoice(1))).code == "00"

    play(story)


# ---------------------------------------------------------------------------------------------------- prepayment
SCRIPT = '[[{}.script]]\nwhen = {{ message = "{}" }}\ndo = "{}"\ntimes = 1\n'


async def _clear_account(world: Any, kiosk: Any) -> str:
    """Of a customer who has just paid what he owed."""
    payment = await world.pay(kiosk)
    await _finish(kiosk, payment)
    assert payment.stable == "completed" and (await kiosk.inquire(payment.account)).code == "E2"
    return str(payment.account)


async def _finish(kiosk: Any, payment: Any) -> None:
    while kiosk.unfinished:
        await asyncio.sleep(0.2)
        if (await kiosk.ask_result(payment)).code in ("77", "A0"):
            await kiosk.sign_on()


def test_a_prepayment_is_charged_and_posted_to_the_account(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        account = await _clear_account(world, kiosk)
        payment = await kiosk.prepay(account, 5_000, CardChoice(1))
        assert (payment.final, payment.stable) == ("00", "completed")
        assert world.marketing.counts["prepay"] == 1
        proof = await world.settle()
        assert proof.holds and proof.payments == 2 and proof.fen == proof.posted_fen == proof.charged_fen
        slip = (await kiosk.ask_slip(payment)).slip
        assert slip.account == account and slip.rows == (("", 5_000),)

    play(story)


def test_arrears_come_first_unless_the_utility_takes_both(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        bills = await world.bills(kiosk, 2)
        payment = await kiosk.prepay(bills.account, 5_000, CardChoice(1))
        assert (payment.final, payment.stable) == ("E8", "arrears_first")
        assert world.unionpay.counts["purchase"] == 0, "said before the card"
        world.worker.switch.dispatcher._prepay_while_owing = True
        payment = await kiosk.prepay(bills.account, 5_000, CardChoice(1))
        assert payment.stable == "completed"
        answer = await kiosk.inquire(bills.account)
        assert answer.bills.rows == bills.rows, "what is owed is owed as before"
        assert (await world.settle()).holds

    play(story)


def test_nobody_pays_in_advance_for_an_account_that_is_none(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        payment = await kiosk.prepay("0599999999", 5_000, CardChoice(1))
        assert (payment.final, payment.stable) == ("E1", "unknown_account")
        payment = await kiosk.prepay(await _clear_account(world, kiosk), 1_000_001, CardChoice(1))
        assert (payment.final, payment.stable) == ("EA", "amount_limit")
        assert world.unionpay.counts["purchase"] == 1, "the one that cleared the account"

    play(story)


def test_a_double_tap_is_asked_about_and_a_wish_is_granted(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk, other = await world.kiosk(1), await world.kiosk(2)
        account = await _clear_account(world, kiosk)
        assert (await kiosk.prepay(account, 5_000, CardChoice(1))).stable == "completed"
        for again in (kiosk, other):
            payment = await again.prepay(account, 5_000, CardChoice(2))
            assert (payment.final, payment.stable) == ("E9", "confirm_again")
        assert (await kiosk.prepay(account, 5_001, CardChoice(1))).stable == "completed"
        assert (await other.prepay(account, 5_000, CardChoice(2), confirmed=True)).stable == "completed"
        proof = await world.settle()
        assert proof.holds and proof.payments == 4

    play(story)


def test_who_paid_nothing_is_not_asked_whether_he_means_it(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        account = await _clear_account(world, kiosk)
        assert (await kiosk.prepay(account, 5_000, CardChoice(1, wrong_pin=True))).stable == "declined"
        assert (await kiosk.prepay(account, 5_000, CardChoice(1))).stable == "completed"

    play(story)


def test_a_second_try_that_pays_nothing_does_not_make_the_first_forgotten(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        account = await _clear_account(world, kiosk)
        assert (await kiosk.prepay(account, 5_000, CardChoice(1))).stable == "completed"
        declined = await kiosk.prepay(account, 5_000, CardChoice(1, wrong_pin=True), confirmed=True)
        assert declined.stable == "declined"
        assert (await kiosk.prepay(account, 5_000, CardChoice(1))).stable == "confirm_again"

    play(story)


def test_of_two_taps_at_once_one_is_asked_about(play: Callable[..., None]) -> None:
    """The account is asked about for both of them before either is charged."""

    async def story(world: Any) -> None:
        kiosk, other = await world.kiosk(1), await world.kiosk(2)
        account = await _clear_account(world, kiosk)
        taps = [asyncio.create_task(each.prepay(account, 5_000, CardChoice(1))) for each in (kiosk, other)]
        assert sorted([(await tap).stable for tap in taps]) == ["completed", "confirm_again"]
        assert (await world.settle()).holds

    play(story, "[marketing]\ninquiry_ms = [300.0, 300.0]\n")


def test_of_two_at_once_for_one_account_the_second_is_refused(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk, other = await world.kiosk(1), await world.kiosk(2)
        account = await _clear_account(world, kiosk)
        first = asyncio.create_task(kiosk.prepay(account, 5_000, CardChoice(1)))
        await asyncio.sleep(0.4)
        second = await other.prepay(account, 7_000, CardChoice(2))
        assert (second.final, second.stable) == ("E5", "bill_locked")
        assert (await first).stable == "completed"
        assert (await other.prepay(account, 7_000, CardChoice(2))).stable == "completed"
        assert (await world.settle()).holds

    play(story, "[unionpay]\ndelay_ms = [600.0, 700.0]\nlate_s = [0.2, 0.3]\n")


def test_a_repeat_is_the_same_prepayment_and_another_sum_a_conflict(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        account = await _clear_account(world, kiosk)
        payment = await kiosk.prepay(account, 5_000, CardChoice(1), repeat=True)
        assert payment.stable == "completed"
        kiosk.skip_serials(-1)
        assert (await kiosk.prepay(account, 6_000, CardChoice(1))).stable == "key_conflict"
        proof = await world.settle()
        assert proof.holds and proof.payments == 2

    play(story)


@pytest.mark.parametrize(
    ("rules", "stable"),
    [
        (SCRIPT.format("marketing", "prepay", "silence:lost"), "completed"),  # asked for, and posted again
        (SCRIPT.format("marketing", "prepay", "silence:done"), "completed"),
        (SCRIPT.format("marketing", "prepay", "ambiguous:50"), "completed"),
        (SCRIPT.format("marketing", "prepay", "decline:29"), "returned"),
        (SCRIPT.format("unionpay", "purchase", "silence:done"), "returned"),
        (SCRIPT.format("unionpay", "purchase", "bad_mac"), "returned"),
    ],
)
def test_a_prepayment_that_goes_wrong_goes_the_way_of_every_payment(
    play: Callable[..., None], rules: str, stable: str
) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        account = (await world.bills(kiosk, 1)).account
        world.worker.switch.dispatcher._prepay_while_owing = True
        payment = await kiosk.prepay(account, 5_000, CardChoice(1))
        await _finish(kiosk, payment)
        assert payment.stable == stable
        proof = await world.settle()
        assert proof.holds and proof.fen == (5_000 if stable == "completed" else 0)

    play(story, rules)


def test_a_prepayment_can_be_taken_back_while_it_is_under_way(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        account = await _clear_account(world, kiosk)
        paying = asyncio.create_task(kiosk.prepay(account, 5_000, CardChoice(1)))
        await asyncio.sleep(0.3)
        (payment,) = kiosk.unfinished.values()
        await kiosk.take_back(payment)
        await paying
        await _finish(kiosk, payment)
        assert payment.stable == "returned"
        assert (await world.settle()).holds

    play(story, "[unionpay]\ndelay_ms = [700.0, 800.0]\nlate_s = [0.2, 0.3]\n")
