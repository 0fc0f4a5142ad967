"""The client library against the whole switch: bills are paid, refusals are told, what is unclear is followed up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from msgspec import structs

from switch.kiosk import (
    Balance,
    BatchDifference,
    Bills,
    EBills,
    KioskClient,
    KioskJournal,
    OpenPaymentError,
    Outcome,
    Pan,
    PaymentResult,
    Refusal,
    Slip,
    SlipAgain,
    SoftwareKeys,
    Track,
    keyed,
    swiped,
)
from switch.limits import KIOSK_SHORT
from switch.ops.proof import prove
from switch.sim import customers, testkeys

FLEET, VISITS = 8, 12
CARD = keyed(Pan(testkeys.test_pan(1)), testkeys.test_expiry(1))


@asynccontextmanager
async def library(world: Any, number: int = 1, **options: Any) -> AsyncIterator[KioskClient]:
    """A kiosk of the library; with the same number its journal is that of the life before."""
    terminal, merchant = testkeys.test_terminal(number)
    journal = KioskJournal.open(world.folder / f"kiosk-{number}", terminal, create=True)
    try:
        async with KioskClient(
            "127.0.0.1",
            options.pop("port", world.worker.kiosk_port),
            terminal_id=terminal,
            merchant_id=merchant,
            journal=journal,
            keys=options.pop("keys", None) or SoftwareKeys(testkeys.test_tmk(terminal)),
            times=KIOSK_SHORT,
            **options,
        ) as kiosk:
            yield kiosk
    finally:
        journal.close()


async def bills_of(world: Any, kiosk: KioskClient, months: int | None = None) -> Bills:
    while True:
        account = customers.account(world.next_account)
        world.next_account += 1
        bills = await kiosk.inquire(account)
        if isinstance(bills, Bills) and months in (None, len(bills.months)):
            return bills


def test_a_bill_is_paid_with_a_swiped_card_and_its_pin(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        terminal, _ = testkeys.test_terminal(1)
        keys = SoftwareKeys(testkeys.test_tmk(terminal))
        async with library(world, keys=keys) as kiosk:
            assert kiosk.last_sign_on.ok and kiosk.is_ready and await kiosk.echo(with_mac=True)
            bills = await bills_of(world, kiosk, 3)
            known = customers.customer(bills.account)
            assert known is not None
            assert [month.principal for month in bills.months] == [bill.principal for bill in known.bills]
            assert (bills.name, bills.address) == (known.name, known.address)
            assert bills.total == sum(month.amount for month in bills.months)
            track = Track(testkeys.test_track2(2))
            card = swiped(track, keys.pin_block("123456", Pan(testkeys.test_pan(2))))
            result = await kiosk.pay(bills, bills.oldest(), card)
            assert result.outcome is Outcome.PAID and result.final and result.prints_slip
            assert (result.code, result.response_code, result.text) == ("completed", "00", "缴费成功，已销账。")
            assert (result.account, result.amount) == (bills.account, bills.total)
            assert result.reference and result.rrn and result.authorization_code
            assert kiosk.open_payments == () and kiosk.result(result.key) == result
            kiosk.acknowledge(result)
            again = await kiosk.inquire(bills.account)
            assert isinstance(again, Refusal) and again.code == "no_arrears" and again.text == "该户号当前无欠费。"
        proof = await world.settle()
        assert proof.holds and proof.fen == result.amount

    play(story)


def test_a_declined_card_is_told_with_the_banks_reason(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        async with library(world) as kiosk:
            bills = await bills_of(world, kiosk, 1)
            result = await kiosk.pay(bills, bills.months, CARD)
            assert (result.outcome, result.response_code, result.text) == (Outcome.DECLINED, "51", "余额不足。")
            assert result.may_try_again and result.final
            paid = await kiosk.pay(bills, bills.months, CARD)
            assert paid.outcome is Outcome.PAID and paid.key.serial != result.key.serial
        assert (await world.settle()).holds

    play(story, '[[unionpay.script]]\nwhen = { message = "purchase" }\ndo = "decline:51"')


def test_a_silent_card_network_is_unknown_first_and_returned_later(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        told: list[PaymentResult] = []
        async with library(world, on_result=told.append) as kiosk:
            bills = await bills_of(world, kiosk, 1)
            result = await kiosk.pay(bills, bills.months, CARD)
            assert (result.outcome, result.final, result.response_code) == (Outcome.UNKNOWN, False, "U1")
            assert kiosk.open_payments == (result,)
            final = await kiosk.wait_final(result.key, 15)
            assert final.outcome is Outcome.RETURNED and final.final
            assert told[-1] == final and not len(kiosk.open_payments)
        assert (await world.settle()).holds

    play(story, '[[unionpay.script]]\nwhen = { message = "purchase" }\ndo = "silence"')


@pytest.mark.parametrize(
    ("code", "stable", "f39", "act"),
    [
        ("28", "disconnected", "EC", "申请复电"),
        ("09", "go_to_hall", "ED", "营业厅"),
        ("100", "account_locked", "EE", "95598"),
        ("18", "bill_locked", "E5", "稍后"),
    ],
)
def test_an_answer_that_needs_an_act_says_which(
    code: str, stable: str, f39: str, act: str, play: Callable[..., None]
) -> None:
    async def story(world: Any) -> None:
        async with library(world) as kiosk:
            refused = await kiosk.inquire(customers.account(0))
            assert isinstance(refused, Refusal) and (refused.code, refused.response_code) == (stable, f39)
            assert act in refused.text

    play(story, f'[[marketing.script]]\nwhen = {{ message = "inquiry" }}\ndo = "refuse:{code}"')


def test_what_is_wrong_with_an_account_or_a_bill_is_told(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        async with library(world) as kiosk, library(world, 2) as other:
            refused = await kiosk.inquire("0399999990")
            assert isinstance(refused, Refusal) and (refused.code, refused.response_code) == ("unknown_account", "E1")
            bills = await bills_of(world, kiosk, 1)
            first, second = await asyncio.gather(
                kiosk.pay(bills, bills.months, CARD), other.pay(bills, bills.months, CARD)
            )
            assert {first.outcome, second.outcome} == {Outcome.PAID, Outcome.REFUSED}
            # With the old quote of a bill that is paid: the marketing system refuses it, and the money goes back.
            late = await kiosk.pay(bills, bills.months, CARD)
            assert late.outcome is not Outcome.PAID and late.text
            assert (await kiosk.wait_final(late.key, 15)).may_try_again
        assert (await world.settle()).holds

    play(story)


class Forgetful(SoftwareKeys):
    """Makes one wrong MAC, as with the key of yesterday."""

    wrong = False

    def make_mac(self, data: bytes) -> bytes:
        made = super().make_mac(data)
        if self.wrong:
            self.wrong = False
            return b"00000000" if made != b"00000000" else b"11111111"
        return made


def test_a_payment_under_a_stale_key_is_proved_uncharged_and_goes_through_the_second_time(
    play: Callable[..., None],
) -> None:
    async def story(world: Any) -> None:
        terminal, _ = testkeys.test_terminal(1)
        keys = Forgetful(testkeys.test_tmk(terminal))
        async with library(world, keys=keys) as kiosk:
            bills = await bills_of(world, kiosk, 1)
            keys.wrong = True
            result = await kiosk.pay(bills, bills.months, CARD)
            assert result.outcome is Outcome.REFUSED and result.may_try_again
            assert (result.response_code, result.code, result.text) == ("A0", "mac_wrong", "校验失败，请重新签到。")
            again = await kiosk.pay(bills, bills.months, CARD)
            assert again.outcome is Outcome.PAID and again.key.serial != result.key.serial
        proof = await world.settle()
        assert proof.holds and proof.payments == 1

    play(story)


def test_a_switch_that_goes_away_in_the_middle_of_a_payment_is_asked_when_it_is_back(
    play: Callable[..., None], helpers: Any
) -> None:
    async def story(world: Any) -> None:
        port = world.worker.kiosk_port
        world.config = structs.replace(world.config, listen=structs.replace(world.config.listen, port=port))
        async with library(world) as kiosk:
            bills = await bills_of(world, kiosk, 1)
            paying = asyncio.create_task(kiosk.pay(bills, bills.months, CARD))
            await helpers.wait_until(lambda: bool(kiosk.open_payments))
            await world.worker.stop()
            assert not paying.done()
            await world.start_worker()
            result = await paying
            final = await kiosk.wait_final(result.key, 15)
            assert final.final
        assert (await world.settle()).holds

    play(story, "[unionpay]\ndelay_ms = [700.0, 800.0]\nlate_s = [0.2, 0.3]\n")


def test_a_customer_who_leaves_gets_the_money_back(play: Callable[..., None], helpers: Any) -> None:
    async def story(world: Any) -> None:
        async with library(world) as kiosk:
            bills = await bills_of(world, kiosk, 1)
            paying = asyncio.create_task(kiosk.pay(bills, bills.months, CARD))
            await helpers.wait_until(lambda: bool(kiosk.open_payments))
            await asyncio.sleep(0.1)
            (open_one,) = kiosk.open_payments
            with pytest.raises(OpenPaymentError, match="bill_open"):
                await kiosk.pay(bills, bills.months, CARD)
            standing = await kiosk.reverse(open_one.key)
            assert standing.outcome is Outcome.UNKNOWN and standing.key == open_one.key
            await paying
            final = await kiosk.wait_final(open_one.key, 15)
            assert final.outcome is Outcome.RETURNED
        proof = await world.settle()
        assert proof.holds and proof.charged_fen == 0

    play(story, "[unionpay]\ndelay_ms = [700.0, 800.0]\nlate_s = [0.2, 0.3]\n")


def test_what_was_open_when_the_program_ended_is_told_by_the_next_one(play: Callable[..., None], helpers: Any) -> None:
    async def story(world: Any) -> None:
        async with library(world) as kiosk:
            bills = await bills_of(world, kiosk, 1)
            paying = asyncio.create_task(kiosk.pay(bills, bills.months, CARD))
            await helpers.wait_until(lambda: bool(kiosk.open_payments))
            await asyncio.sleep(0.1)
            paying.cancel()
            await asyncio.gather(paying, return_exceptions=True)
        async with library(world) as kiosk:
            (result,) = await kiosk.recover()
            assert result.outcome is Outcome.PAID and result.account == bills.account
        async with library(world) as kiosk:
            assert await kiosk.recover() == (result,), "nobody has acknowledged it yet"
            kiosk.acknowledge(result)
        async with library(world) as kiosk:
            assert await kiosk.recover() == ()
        assert (await world.settle()).holds

    play(story, "[unionpay]\ndelay_ms = [300.0, 400.0]\nlate_s = [0.2, 0.3]\n")


def test_a_payment_of_a_life_before_is_taken_back_when_the_customer_has_left(
    play: Callable[..., None], helpers: Any
) -> None:
    async def story(world: Any) -> None:
        async with library(world) as kiosk:
            bills = await bills_of(world, kiosk, 1)
            paying = asyncio.create_task(kiosk.pay(bills, bills.months, CARD))
            await helpers.wait_until(lambda: bool(kiosk.open_payments))
            await asyncio.sleep(0.1)
            paying.cancel()
            await asyncio.gather(paying, return_exceptions=True)
        async with library(world) as kiosk:
            await kiosk.recover(customer_left=True)
            (result,) = await kiosk.recover(timeout_s=15)
            assert result.outcome is Outcome.RETURNED
        proof = await world.settle()
        assert proof.holds and proof.charged_fen == 0

    # Long enough for the next life to sign on and take it back.
    play(story, '[[unionpay.script]]\nwhen = { message = "purchase" }\ndo = "late:1.5"')


def test_without_a_switch_nothing_is_begun_and_the_customer_is_told(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        async with library(world) as kiosk:
            bills = await bills_of(world, kiosk, 1)
        async with library(world, port=1) as kiosk:
            refused = await kiosk.inquire(bills.account)
            assert isinstance(refused, Refusal) and refused.code == "not_connected" and "未扣款" in refused.text
            result = await kiosk.pay(bills, bills.months, CARD)
            assert (result.outcome, result.code) == (Outcome.REFUSED, "not_connected")
            assert kiosk.open_payments == () and not kiosk.is_ready

    play(story)


def test_balance_and_the_slip_again(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        async with library(world) as kiosk:
            balance = await kiosk.balance(CARD)
            assert balance == Balance((int(testkeys.test_pan(1)[-7:-1]) * 100,))
            bills = await bills_of(world, kiosk, 2)
            assert not bills.blocked and bills.blocked_text == ""
            paid = await kiosk.pay(bills, bills.months, CARD)
            kiosk.acknowledge(paid)
            again = await kiosk.slip_again(paid.key)
            assert isinstance(again, SlipAgain) and again.result == paid
            assert [month.amount for month in again.months] == [month.amount for month in bills.months]
            lines = "\n".join(Slip.again(again).lines(32))
            masked = f"{testkeys.test_pan(1)[:6]}*********{testkeys.test_pan(1)[-4:]}"
            assert "重打印" in lines and masked in lines and bills.months[1].period in lines
            none = await kiosk.slip_again(structs.replace(paid.key, serial="999998"))
            assert isinstance(none, Refusal) and none.code == "not_found"
            await kiosk.sign_off()
            assert not kiosk.is_ready
            assert (await kiosk.connect()).ok and (await kiosk.balance(CARD)) == balance
        assert (await world.settle()).holds

    play(story)


def test_a_prepayment_is_paid_and_the_same_again_only_when_the_customer_means_it(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        async with library(world) as kiosk:
            bills = await bills_of(world, kiosk, 1)
            owing = await kiosk.prepay(bills.account, 5000, CARD)
            assert (owing.outcome, owing.code) == (Outcome.REFUSED, "arrears_first") and owing.may_try_again
            assert (await kiosk.pay(bills, bills.months, CARD)).outcome is Outcome.PAID
            first = await kiosk.prepay(bills.account, 5000, CARD)
            assert (first.outcome, first.amount, first.receivables) == (Outcome.PAID, 5000, ())
            assert Slip.of(first, "").title == "电费预存凭条"
            asked = await kiosk.prepay(bills.account, 5000, CARD)
            assert (asked.outcome, asked.code) == (Outcome.REFUSED, "confirm_again")
            assert (await kiosk.prepay(bills.account, 5000, CARD, confirmed=True)).outcome is Outcome.PAID
            for amount in (0, -1, 10**12):
                with pytest.raises(ValueError, match="amount: expected"):
                    await kiosk.prepay(bills.account, amount, CARD)
        proof = await world.settle()
        assert proof.holds and proof.fen == bills.total + 10_000

    play(story)


def test_an_inquiry_says_that_no_card_should_be_taken(play: Callable[..., None], helpers: Any) -> None:
    async def story(world: Any) -> None:
        async with library(world) as kiosk:
            account = (await bills_of(world, kiosk, 1)).account
            await world.unionpay.stop()
            await helpers.wait_until(lambda: not world.worker.switch.card_link.is_up)
            bills = await kiosk.inquire(account)
            assert isinstance(bills, Bills) and bills.blocked == "card_unavailable"
            assert bills.blocked_text == "银联网络暂不可用，未扣款，请稍后再试。"
            result = await kiosk.pay(bills, bills.months, CARD)
            assert result.outcome is Outcome.REFUSED and result.may_try_again

    play(story)


class Line:
    """Between kiosk and switch: forwards, and once told to, cuts the line after so many bytes of answers."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.left: int | None = None  # bytes of answers until the cut; None: no cut
        self.was_cut = False

    def cut_after(self, size: int) -> None:
        self.left, self.was_cut = size, False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._to)

        async def up() -> None:
            while data := await reader.read(65_536):
                there_writer.write(data)

        async def down() -> None:
            while data := await there_reader.read(65_536):
                if self.left is not None:
                    data, self.left = data[: self.left], self.left - len(data)
                    writer.write(data)
                    if self.left < 0:
                        self.left, self.was_cut = None, True
                        return
                else:
                    writer.write(data)

        _, pending = await asyncio.wait(
            [asyncio.create_task(up()), asyncio.create_task(down())], return_when=asyncio.FIRST_COMPLETED
        )
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for each in (writer, there_writer):
            each.close()


class NoDice(random.Random):
    """Pauses as short as they may be."""

    def uniform(self, a: float, b: float) -> float:
        return min(a, 0.01)


def test_a_line_that_is_cut_at_any_byte_of_the_answer_hides_nothing(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        line = Line(world.worker.kiosk_port)
        server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
        cuts = 0
        async with library(world, port=server.sockets[0].getsockname()[1], dice=NoDice()) as kiosk:
            while True:
                bills = await bills_of(world, kiosk)
                line.cut_after(cuts)
                result = await kiosk.pay(bills, bills.months, CARD)
                assert result.outcome is Outcome.PAID, (cuts, result)
                kiosk.acknowledge(result)
                if not line.was_cut:
                    break  # the answer came whole
                cuts += 1
            assert kiosk.open_payments == ()
        server.close()
        proof = await world.settle()
        assert proof.holds and proof.payments == cuts + 1 and cuts > 150

    play(story)


STORM = """
[unionpay]
delay_ms = [1, 30]
silence_rate = 0.1
decline_rate = 0.1
ambiguous_rate = 0.05
bad_mac_rate = 0.05
[marketing]
delay_ms = [1, 30]
silence_rate = 0.1
refuse_rate = 0.1
"""


def test_a_fleet_in_a_storm_whose_lines_are_cut_hears_every_final_word(play: Callable[..., None]) -> None:
    """Hosts that misbehave, lines that are cut in the middle, customers who leave: four books that agree."""

    async def story(world: Any) -> None:
        line = Line(world.worker.kiosk_port)
        server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
        book = world.folder / "book.jsonl"
        facts: list[dict[str, Any]] = []
        finals: dict[str, PaymentResult] = {}

        def hear(result: PaymentResult) -> None:
            key, code = str(result.key), result.response_code or result.code
            facts.append({"fact": "told", "key": key, "code": code, "reference": result.reference})
            if result.final:
                assert finals.setdefault(key, result).outcome is result.outcome, "a final word has changed"
                facts.append({"fact": "final", "key": key, "code": code, "stable": result.code})

        async def visits(number: int) -> None:
            dice = random.Random(number)
            port = server.sockets[0].getsockname()[1]
            async with library(world, number, port=port, dice=NoDice(), on_result=hear) as kiosk:
                for customer in range(VISITS):
                    bills = await kiosk.inquire(customers.account(number * VISITS + customer))
                    if not isinstance(bills, Bills):
                        continue
                    card = keyed(Pan(testkeys.test_pan(number)), testkeys.test_expiry(number))
                    paying = asyncio.create_task(kiosk.pay(bills, bills.oldest(dice.randint(1, 2)), card))
                    if dice.random() < 0.3:
                        line.cut_after(dice.randint(0, 400))
                    if dice.random() < 0.2:
                        await asyncio.sleep(dice.uniform(0, 0.1))
                        for each in kiosk.open_payments:
                            if each.account == bills.account:
                                hear(await kiosk.reverse(each.key))
                    result = await paying
                    hear(result)
                    sent = {"fact": "sent", "key": str(result.key), "fen": result.amount}
                    facts.insert(0, {**sent, "account": result.account, "receivables": result.receivables})
                for each in kiosk.open_payments:
                    hear(await kiosk.wait_final(each.key, 25))
                assert not kiosk.open_payments

        try:
            await asyncio.gather(*(visits(number) for number in range(1, FLEET + 1)))
        finally:
            server.close()  # left open after a failure it would hold the loop for ever
        assert (await world.settle()).holds
        book.write_bytes(b"\n".join(orjson.dumps({"at": 0, **fact}) for fact in facts) + b"\n")
        proof = await prove(world.dsn, world.folder / "unionpay.jsonl", world.folder / "marketing.jsonl", book)
        assert proof.holds, proof.differences
        outcomes = {result.outcome for result in finals.values()}
        assert {Outcome.PAID, Outcome.DECLINED, Outcome.RETURNED} <= outcomes and len(finals) > FLEET * VISITS // 2

    play(story, STORM, kiosks=FLEET)


def test_e_bills_are_turned_page_by_page(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        async with library(world) as kiosk:
            page = await kiosk.e_bill(customers.account(0))
            assert isinstance(page, EBills)
            months = list(page.months)
            while page.older:
                page = await kiosk.e_bill(page.account, page.older)
                assert isinstance(page, EBills)
                months += page.months
            assert len(months) == 24 and [month.period for month in months] == sorted(
                {month.period for month in months}, reverse=True
            )
            for month in months:
                assert month.principal + month.penalty == month.amount and not month.cut
                assert sum(step.amount for step in month.steps) == month.principal
                assert sum(meter.energy_kwh for meter in month.meters) == month.energy_kwh
            refused = await kiosk.e_bill("0399999990")
            assert isinstance(refused, Refusal) and (refused.code, refused.response_code) == ("unknown_account", "E1")
            nothing = await kiosk.e_bill(customers.account(0), "200001")
            assert isinstance(nothing, Refusal) and nothing.text == "所查月份无电费账单，或超出可查范围。"
            for wrong in ({"newest": "2026"}, {"newest": "202613"}, {"months": 0}, {"months": 7}):
                with pytest.raises(ValueError, match=r"newest|months"):
                    await kiosk.e_bill(customers.account(0), **wrong)

    play(story)


def test_a_day_is_settled_from_the_kiosks_own_journal(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        async with library(world) as kiosk:
            assert not len(kiosk.unsettled_days) and (await kiosk.settle()).agrees
            for _ in range(2):
                bills = await bills_of(world, kiosk, 1)
                assert (await kiosk.pay(bills, bills.months, CARD)).outcome is Outcome.PAID
            assert len(kiosk.unsettled_days) == 1
            result = await kiosk.settle()
            assert result.agrees and result.done and result.text == "结算成功，账目一致。"
            assert (result.count, result.amount) == (result.switch_count, result.switch_amount) and result.count == 2
            assert not len(kiosk.unsettled_days)
            bills = await bills_of(world, kiosk, 1)
            await kiosk.pay(bills, bills.months, CARD)
            assert kiosk.unsettled_days == (result.day,), "more was paid since"
            old = await kiosk.settle("0101" if result.day > "0301" else "0701")
            assert (old.code, old.done) == ("stale_date", False)
        async with library(world) as kiosk:
            assert (await kiosk.settle()).count == 3, "after a restart too"
            with pytest.raises(ValueError, match="MMDD"):
                await kiosk.settle("1")

    play(story)


def test_what_the_kiosk_lost_is_reported_when_it_settles(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        async with library(world) as kiosk:
            for _ in range(2):
                bills = await bills_of(world, kiosk, 1)
                paid = await kiosk.pay(bills, bills.months, CARD)
            journal = kiosk._journal
            (day,) = journal.unsettled_days
            rest = {day: (journal._state.paid[day][0], (777_777, 500))}
            journal._save(structs.replace(journal._state, paid=rest))
            result = await kiosk.settle()
            assert (result.code, result.done, result.agrees) == ("batch_reported", True, False)
            assert result.differences == 2 and set(result.listed) == {
                BatchDifference(paid.key.serial, "journal_only", 0, paid.amount),
                BatchDifference("777777", "kiosk_only", 500, 0),
            }
            assert kiosk.unsettled_days == (), "people know of it now"
        assert (await world.settle()).holds

    play(story)


def test_no_day_is_settled_while_a_payment_is_under_way(play: Callable[..., None], helpers: Any) -> None:
    async def story(world: Any) -> None:
        async with library(world) as kiosk:
            bills = await bills_of(world, kiosk, 1)
            paying = asyncio.create_task(kiosk.pay(bills, bills.months, CARD))
            await helpers.wait_until(lambda: bool(kiosk.open_payments))
            result = await kiosk.settle()
            assert (result.code, result.text) == ("open_payments", "有交易尚未完成，请稍后再结算。") and not result.done
            assert (await paying).outcome is Outcome.PAID
            assert (await kiosk.settle()).agrees

    play(story, "[unionpay]\ndelay_ms = [300.0, 400.0]\nlate_s = [0.2, 0.3]\n")
