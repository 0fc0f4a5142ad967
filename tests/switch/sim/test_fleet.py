"""Kiosks and fleets against a switch of this directory that answers what the test wants."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from switch import limits
from switch.sim import customers
from switch.sim.fleet import FleetResult, read_book, run_fleet
from switch.sim.kiosk_client import Answer, Bills, CardChoice, Kiosk, Payment
from switch.sim.truth import read_facts
from switch.sim.wire import Turn

from .peers import FakeSwitch, run, scenario

QUICK = dataclasses.replace(
    limits.SHORT,
    card_s=0.1,
    kiosk_s=0.3,
    chip_s=0.05,
    quiet_s=0.2,
    drain_s=1.0,
    lease_ttl_s=0.1,
    lease_heartbeat_s=0.01,
    lease_margin_s=0.05,
)
CARD = CardChoice(4)


@asynccontextmanager
async def fake_switch(*words: str, later: str = "00") -> Any:
    switch = FakeSwitch(*words, later=later)
    await switch.start()
    try:
        yield switch
    finally:
        await switch.stop()


class Heard:
    def __init__(self) -> None:
        self.words: list[tuple[str, str, bool]] = []

    def __call__(self, _payment: Payment, answer: Answer, how: str, became_final: bool) -> None:
        self.words.append((answer.code, how, became_final))


@asynccontextmanager
async def kiosk_at(switch: FakeSwitch, heard: Heard | None = None) -> Any:
    kiosk = Kiosk(1, "127.0.0.1", switch.port, turn=Turn(), profile=QUICK, heard=heard)
    await kiosk.connect()
    try:
        yield kiosk
    finally:
        kiosk.close()


async def first_bills(kiosk: Kiosk) -> Bills:
    answer = await kiosk.inquire(customers.account(0))
    assert answer.code == "00" and answer.bills is not None
    return answer.bills


def receivables(bills: Bills) -> tuple[str, ...]:
    return tuple(receivable for receivable, _ in bills.rows)


def test_a_kiosk_signs_on_inquires_and_pays() -> None:
    async def story() -> None:
        heard = Heard()
        async with fake_switch() as switch, kiosk_at(switch, heard) as kiosk:
            assert (await kiosk.inquire(customers.account(0))).code == "77", "not signed on"
            assert await kiosk.sign_on() == "00"
            assert await kiosk.echo() == "00"
            bills = await first_bills(kiosk)
            customer = customers.customer(customers.account(0))
            assert customer is not None and (bills.name, bills.account) == (customer.name, customer.account)
            stored: list[Payment] = []
            payment = await kiosk.pay(bills, receivables(bills), CARD, before_sending=stored.append)
            assert payment.final == "00" and payment.stable == "completed" and stored == [payment]
            assert payment.amount == sum(bill.amount for bill in customer.bills)
            assert heard.words == [("00", "answer", True)] and not kiosk.unfinished
            assert payment.first_word_s > 0
            request = switch.seen[-1]
            assert {22, 26, 35, 48, 52, 53, 64} <= set(request) and request[60] == "72000001000"
            assert switch.payments == {(kiosk.terminal_id, payment.date, payment.serial): 1}

    run(story())


@pytest.mark.parametrize(
    ("entry", "present", "absent"), [("chip", {2, 14, 23, 35, 52, 55}, set()), ("keyed", {2, 14}, {35, 52, 53})]
)
def test_cards_are_read_in_three_ways(entry: str, present: set[int], absent: set[int]) -> None:
    async def story() -> None:
        async with fake_switch() as switch, kiosk_at(switch) as kiosk:
            await kiosk.sign_on()
            bills = await first_bills(kiosk)
            await kiosk.pay(bills, receivables(bills)[:1], CardChoice(4, entry))
            fields = set(switch.seen[-1])
            assert present <= fields and not absent & fields
            assert switch.seen[-1][22] == {"chip": "051", "keyed": "012"}[entry]

    run(story())


def test_silence_is_asked_for_until_there_is_a_final_word() -> None:
    async def story() -> None:
        heard = Heard()
        async with fake_switch("", later="U1") as switch, kiosk_at(switch, heard) as kiosk:
            await kiosk.sign_on()
            bills = await first_bills(kiosk)
            payment = await kiosk.pay(bills, receivables(bills), CARD)
            assert not payment.final and list(kiosk.unfinished.values()) == [payment]
            assert (await kiosk.ask_result(payment)).code == "U1" and not payment.final
            switch.later = "R2"
            assert (await kiosk.ask_result(payment)).code == "R2" and payment.final == "R2"
            assert heard.words == [("U1", "inquiry", False), ("R2", "inquiry", True)]
            switch.later = "00"
            await kiosk.ask_result(payment)
            assert kiosk.counts["contradiction"] == 1 and payment.final == "R2"

    run(story())


def test_a_repeat_is_answered_once_and_in_progress_is_no_answer() -> None:
    async def story() -> None:
        heard = Heard()
        async with fake_switch("", later="00") as switch, kiosk_at(switch, heard) as kiosk:
            await kiosk.sign_on()
            bills = await first_bills(kiosk)
            payment = await kiosk.pay(bills, receivables(bills), CARD, repeat=True)
            assert list(switch.payments.values()) == [2]
            assert heard.words == [("09", "answer", False)] and not payment.final
            await kiosk.ask_result(payment)
            assert payment.final == "00"

    run(story())


def test_an_answer_with_a_wrong_mac_never_came() -> None:
    async def story() -> None:
        async with fake_switch() as switch, kiosk_at(switch) as kiosk:
            await kiosk.sign_on()
            bills = await first_bills(kiosk)
            switch.wrong_macs = 1
            payment = await kiosk.pay(bills, receivables(bills), CARD)
            assert not payment.final and kiosk.counts["mac_error"] == 1
            await kiosk.ask_result(payment)
            assert payment.final == "00"

    run(story())


def test_an_answer_without_a_mac_says_nothing_about_money() -> None:
    async def story() -> None:
        async with fake_switch("N2!", "51!", later="R2") as switch, kiosk_at(switch) as kiosk:
            await kiosk.sign_on()
            switch.turned_away = 1
            assert (await kiosk.inquire(customers.account(0))).code == "N2"
            bills = await first_bills(kiosk)
            payment = await kiosk.pay(bills, receivables(bills), CARD)
            assert payment.words == 1 and not payment.final, "it may have been charged all the same"
            await kiosk.ask_result(payment)
            assert payment.final == "R2" and "mac_error" not in kiosk.counts
            payment = await kiosk.pay(bills, receivables(bills), CARD)
            assert payment.words == 0 and kiosk.counts["mac_error"] == 1

    run(story())


def test_a_lost_connection_is_opened_again_and_asked_about() -> None:
    async def story() -> None:
        async with fake_switch("cut") as switch, kiosk_at(switch) as kiosk:
            await kiosk.sign_on()
            bills = await first_bills(kiosk)
            payment = await kiosk.pay(bills, receivables(bills), CARD)
            assert not payment.final and not kiosk.is_connected
            assert await kiosk.connect_again(asyncio.get_running_loop().time() + 2)
            await kiosk.ask_result(payment)
            assert payment.final == "00"
            unknown = dataclasses.replace(payment, serial="999998", final="")
            await kiosk.ask_result(unknown)
            assert unknown.final == "25"

    run(story())


def test_a_fleet_pays_and_keeps_a_book(tmp_path: Path) -> None:
    seen: list[int] = []

    def progress(result: FleetResult) -> None:
        seen.append(result.payments)

    async def story() -> FleetResult:
        async with fake_switch("00", "51", "U1", "", "cut", later="R2") as switch:
            return await run_fleet(
                "127.0.0.1",
                switch.port,
                3,
                0.8,
                None,
                scenario("[fleet]\nthink_ms = [5, 10]\nchip_rate = 0.3\nkeyed_rate = 0.3\nrepeat_rate = 0.2\n"),
                tmp_path / "book",
                profile=QUICK,
                settle_s=5.0,
                progress=progress,
            )

    result = run(story())
    assert (result.declined, result.returned, result.unknown) == (1, 3, 0)
    assert result.completed >= 10 and result.payments == result.completed + 4
    assert result.in_doubt == 3 and result.events["connection_lost"] >= 1
    assert seen[-1] == result.payments
    plain = result.to_dict()
    assert plain["payments"] == result.payments and plain["codes"]["00"] >= 10 and plain["latency_ms_p99"] > 0

    book = read_book(tmp_path / "book")
    assert len(book) == result.payments
    assert sum(entry.fen for entry in book.values() if entry.final == "00") == result.fen_completed
    assert sorted(entry.final or "" for entry in book.values() if entry.final != "00") == ["51", "R2", "R2", "R2"]
    bills = [receivable for entry in book.values() for receivable in entry.receivables]
    assert len(bills) == len(set(bills)), "no bill is paid twice"
    facts = list(read_facts(tmp_path / "book"))
    first: dict[str, str] = {}
    for fact in facts:
        first.setdefault(fact["key"], fact["fact"])
    assert set(first.values()) == {"sent"}, "the key is stored before anything else happens"


def test_a_second_run_goes_on_with_the_serials_of_the_book(tmp_path: Path) -> None:
    async def story() -> None:
        async with fake_switch() as switch:
            for start in (0, 100):
                result = await run_fleet(
                    "127.0.0.1", switch.port, 1, 0.2, 50.0, None, tmp_path / "book", profile=QUICK, first_account=start
                )
                assert 1 <= result.payments <= 12, "the rate is kept"
            assert set(switch.payments.values()) == {1}, "no key came twice"

    run(story())


def test_a_payment_that_stays_unclear_is_counted_as_unknown(tmp_path: Path) -> None:
    async def story() -> FleetResult:
        async with fake_switch("U1", later="U1") as switch:
            return await run_fleet(
                "127.0.0.1", switch.port, 1, 0.1, 5.0, None, tmp_path / "book", profile=QUICK, settle_s=0.3
            )

    result = run(story())
    assert result.unknown == 1 and result.settle_seconds < 2
    assert [entry.final for entry in read_book(tmp_path / "book").values()].count(None) == 1


def test_a_fleet_without_a_switch_ends_in_time(tmp_path: Path) -> None:
    result = run(run_fleet("127.0.0.1", 9, 2, 0.3, profile=QUICK))
    assert result.payments == 0 and result.events["connect_failed"] >= 2
