"""The client against a scripted switch: every code, and every answer that must not be believed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

import iso8583
from iso8583 import tlv
from switch.dialects.codes import kiosk_codes
from switch.errors import SecurityError
from switch.kiosk import (
    Bills,
    BlockingKioskClient,
    JournalError,
    KioskClient,
    KioskJournal,
    OpenPaymentError,
    Outcome,
    Pan,
    PaymentKey,
    PaymentResult,
    Refusal,
    SoftwareKeys,
    chip,
    keyed,
    swiped,
)
from switch.kiosk.escpos import EscPosPrinter
from switch.kiosk.journal import OpenPayment
from switch.kiosk.results import text_of
from switch.limits import KIOSK_SERIAL_SKIP, KIOSK_SHORT, KioskTimes
from switch.model.secret import ChipData, PinBlock, Track
from switch.security import mac, workingkeys
from switch.security.primitives import des
from switch.security.workingkeys import WorkingKey
from switch.sim import testkeys
from switch.sim.devices import PrinterSimulator

TERMINAL, MERCHANT = testkeys.test_terminal(1)
PAN = testkeys.test_pan(2)
CARD = keyed(Pan(PAN), testkeys.test_expiry(2))
ACCOUNT = "0300000009"
MONTHS = (("030000000920261001", 1000), ("030000000920261101", 2345))
TIMES = replace(
    KIOSK_SHORT, clarify_s=3.0, ask_first_s=0.02, ask_max_s=0.1, sign_on_pause_s=(0.02, 0.03), keys_wrong_s=0.05
)
WITHOUT_MAC = ("30", "58", "77", "97", "A0", "A1", "K1")


@dataclass
class Say:
    """One answer. ``about``: it names the payment asked for. ``fen``: another amount than the request's."""

    code: str
    stable: str = ""
    mac: str = "right"  # right, wrong, none
    text: str = ""
    about: PaymentKey | None = None
    fen: int | None = None
    more: dict[int | str, Any] = field(default_factory=dict)


class Switch:
    """What a test wants it to say: ``payments`` and ``results`` one after the other, the last one for ever.

    None in a list: silence. "hang up": it does.
    """

    def __init__(self) -> None:
        self.spec = iso8583.load("kiosk", header="tpdu+pos6")
        self.payments: list[Say | str | None] = [Say("00", "completed")]
        self.results: list[Say | str | None] = [Say("25", "not_found")]
        self.sign_ons: list[Say | str | None] = [Say("00")]
        self.echoes: list[Say | str | None] = [Say("00", mac="none")]
        self.asked: list[iso8583.Message] = []
        self.keys = self._working_keys(0)
        self.time = ("120000", "")  # fields 12 and 13; "" is the request's
        self.wrong_kcv = False
        self.port = 0

    def _working_keys(self, number: int) -> tuple[bytes, mac.Mac]:
        tmk = des(testkeys.test_tmk(TERMINAL))
        key = testkeys.with_odd_parity(bytes(range(16 * (number % 8), 16 * (number % 8) + 16)))
        keys = workingkeys.WorkingKeys(workingkeys.encrypt_key(key, tmk), workingkeys.encrypt_key(key, tmk))
        return workingkeys.build(keys), mac.prepare("unionpay_ecb", des(key))

    def count(self, mti: str, business: str = "") -> int:
        return sum(message.mti == mti and str(message[60]).startswith(business) for message in self.asked)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                frame = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                said = self.answer(frame)
                if said == "hang up":
                    return
                if isinstance(said, bytes):
                    writer.write(iso8583.frame(said))
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    def answer(self, frame: bytes) -> bytes | str | None:
        message = self.spec.decode(frame)
        self.asked.append(message)
        business = str(message[60])[:2]
        if 64 in message:
            assert self.keys[1].verify(frame[11:-8], frame[-8:]), "the kiosk's MAC is wrong"
        tags: list[tuple[str, bytes]] = []
        if message.mti == "0800":
            say = self._next(self.sign_ons)
            if isinstance(say, Say) and say.code == "00":
                self.keys = self._working_keys(self.count("0800"))
                data = bytearray(self.keys[0])
                if self.wrong_kcv:
                    data[-1] ^= 1
                say = replace(say, mac="none", more={60: "00000123003", 62: bytes(data)})
        elif message.mti == "0820":
            say = self._next(self.echoes)
        elif business == "71":
            say = Say("00", "found", fen=sum(amount for _, amount in MONTHS))
            tags = _bills()
        elif message.mti == "0400" or business == "75":
            say = self._next(self.results)
            if isinstance(say, Say) and say.about is None and say.stable not in ("not_found", "alone"):
                asked = dict(tlv.decode(message.raw(48)))
                tags = [("DF0C", asked["DF0C"]), ("DF0D", asked["DF0D"])]
                say = replace(say, fen=self._amount() if say.fen is None else say.fen)
        else:
            say = self._next(self.payments)
        if not isinstance(say, Say):
            return say
        if say.about is not None:
            tags = [("DF0C", say.about.serial.encode()), ("DF0D", say.about.date.encode())]
        tags = [*([("DF0A", say.stable.encode())] if say.stable else []), *tags, ("DF0F", b"77")]
        if say.text:
            tags.append(("DF07", say.text.encode("gbk")))
        fields: dict[int | str, Any] = {39: say.code, 12: self.time[0], 48: tlv.encode(tags), **say.more}
        if message.mti in ("0200", "0400"):
            fields[4] = f"{self._amount() if say.fen is None else say.fen:012d}"
        reply = {**_echoed(message), 13: self.time[1] or str(message.get(13, "1130")), **fields}
        if say.mac == "none":
            return self.spec.encode(reply, header=frame[:11])
        made = self.spec.encode({**reply, 64: bytes(8)}, header=frame[:11])
        right = self.keys[1].make(made[11:-8])
        return made[:-8] + (right if say.mac == "right" else bytes(reversed(right)))

    def _amount(self) -> int:
        """Of the last payment."""
        asked = [message for message in self.asked if message.mti == "0200" and str(message[60])[:2] == "72"]
        return int(asked[-1][4]) if asked else 0

    @staticmethod
    def _next(said: list[Say | str | None]) -> Say | str | None:
        return said.pop(0) if len(said) > 1 else said[0]


def _echoed(message: iso8583.Message) -> dict[int | str, Any]:
    mti = f"{message.mti[:2]}{int(message.mti[2]) + 1}{message.mti[3]}"
    return {0: mti, **{number: message[number] for number in (3, 11, 25, 41, 42, 49, 60) if number in message}}


def _bills() -> list[tuple[str, bytes]]:
    rows = [
        (
            "E1",
            tlv.encode(
                [
                    ("DF11", receivable.encode()),
                    ("DF12", receivable[10:16].encode()),
                    ("DF13", b"%d" % amount),
                    ("DF14", b"0"),
                    ("DF15", b"%d" % amount),
                    ("DF16", b"100"),
                    ("DF17", b"1"),
                ]
            ),
        )
        for receivable, amount in MONTHS
    ]
    head = [("DF01", ACCOUNT.encode()), ("DF02", b"Q1"), ("DF03", "张伟".encode("gbk")), ("DF05", b"3345")]
    return [*head, ("DF06", b"0"), ("DF08", b"0"), ("DF09", b"1"), *rows]


class NoDice:
    """Pauses as short as they may be."""

    def uniform(self, low: float, high: float) -> float:
        return min(low, 0.05)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[KioskJournal]:
    made = KioskJournal.create(tmp_path / "kiosk.journal", TERMINAL, first_serial=1)
    yield made
    made.close()


@asynccontextmanager
async def _switch(switch: Switch) -> AsyncIterator[Switch]:
    server = await asyncio.start_server(switch.serve, "127.0.0.1", 0)
    switch.port = server.sockets[0].getsockname()[1]
    try:
        yield switch
    finally:
        server.close()


def _options(journal: KioskJournal, times: KioskTimes = TIMES, **more: Any) -> dict[str, Any]:
    return {
        "terminal_id": TERMINAL,
        "merchant_id": MERCHANT,
        "journal": journal,
        "keys": SoftwareKeys(testkeys.test_tmk(TERMINAL)),
        "times": times,
        "dice": NoDice(),
        **more,
    }


Story = Callable[[Switch, KioskClient], Awaitable[None]]


@pytest.fixture
def play(journal: KioskJournal) -> Callable[..., None]:
    def run(story: Story, switch: Switch | None = None, **options: Any) -> None:
        async def whole() -> None:
            async with (
                _switch(switch or Switch()) as made,
                KioskClient("127.0.0.1", made.port, **_options(journal, **options)) as kiosk,
            ):
                await story(made, kiosk)

        asyncio.run(whole())

    return run


def test_of_two_final_words_in_one_moment_both_tell_the_first(play: Callable[..., None], journal: KioskJournal) -> None:
    """A refusal of the payment, and "not found" to its reversal: nothing is charged, and one word is told."""

    async def story(_switch: Switch, kiosk: KioskClient) -> None:
        key = PaymentKey(TERMINAL, "1130", journal.take_serial())
        opened = OpenPayment(key, ACCOUNT, 3345, (), "2026-11-30 08:00:00")
        journal.begin(opened)
        words = [
            PaymentResult(key, ACCOUNT, 3345, (), outcome, code, text_of(code))
            for outcome, code in ((Outcome.REFUSED, "card_unavailable"), (Outcome.NOT_CHARGED, "not_found"))
        ]
        told = await asyncio.gather(*(kiosk._record(opened, word, None) for word in words))
        assert told[0] == told[1] == journal.result(key) and told[0] in words

    play(story)


async def _bills_of(kiosk: KioskClient) -> Bills:
    bills = await kiosk.inquire(ACCOUNT)
    assert isinstance(bills, Bills), bills
    return bills


async def _pay(kiosk: KioskClient) -> PaymentResult:
    bills = await _bills_of(kiosk)
    return await kiosk.pay(bills, bills.months, CARD)


# ---- every code
FINAL = {
    "completed": Outcome.PAID,
    "declined": Outcome.DECLINED,
    "returned": Outcome.RETURNED,
    "unproven": Outcome.UNPROVEN,
    "suspense": Outcome.SUSPENSE,
    "not_charged": Outcome.NOT_CHARGED,
    "not_found": Outcome.NOT_CHARGED,
}
OPEN = {
    "result_unknown": Outcome.UNKNOWN,
    "being_booked": Outcome.BEING_BOOKED,
    "being_returned": Outcome.BEING_RETURNED,
}
# The chip's turn comes only with a card that was read by one: tests/switch/runtime/test_chip.py.
CODES = sorted(set(kiosk_codes()) - {"found", "signed_on", "in_progress", "chip_decides"})


@pytest.mark.parametrize("stable", CODES)
def test_every_code_to_a_payment(stable: str, play: Callable[..., None]) -> None:
    known = kiosk_codes()[stable]
    code = known.f39 or "51"
    without_mac = code in WITHOUT_MAC
    switch = Switch()
    switch.payments = [Say(code, stable, mac="none" if without_mac else "right")]
    switch.results = [Say("00", "completed")] if stable in OPEN else [Say("25", "not_found")]

    async def story(switch: Switch, kiosk: KioskClient) -> None:
        result = await _pay(kiosk)
        assert (result.code, result.response_code, result.amount) == (stable, code, 3345)
        assert result.text == ("余额不足。" if stable == "declined" else known.text)
        if stable in OPEN:
            assert result.outcome is OPEN[stable] and not result.final and kiosk.open_payments == (result,)
            final = await kiosk.wait_final(result.key, 5)
            assert final.outcome is Outcome.PAID
            return
        assert result.outcome is FINAL.get(stable, Outcome.REFUSED) and result.final and not kiosk.open_payments
        # What came without a MAC was proved by an inquiry; what came with one was believed at once.
        assert switch.count("0200", "75") == without_mac
        assert result.may_try_again == (known.charged == "no")
        switch.payments = [Say("00", "completed")]
        again = await _pay(kiosk)
        assert again.outcome is Outcome.PAID and again.key.serial > result.key.serial
        if stable == "key_conflict":
            assert int(again.key.serial) > int(result.key.serial) + KIOSK_SERIAL_SKIP
        signs_on = stable in (
            "sign_on_first",
            "mac_wrong",
            "terminal_stopped",
            "keys_wrong",
            "pin_wrong",
            "signed_on_elsewhere",
        )
        assert switch.count("0800") == 1 + signs_on

    play(story, switch)


def test_a_payment_still_running_is_waited_for(play: Callable[..., None]) -> None:
    switch = Switch()
    switch.payments = [None]
    switch.results = [Say("09", "in_progress"), Say("09", "in_progress"), Say("00", "completed")]

    async def story(switch: Switch, kiosk: KioskClient) -> None:
        result = await _pay(kiosk)
        assert result.outcome is Outcome.PAID and switch.count("0200", "75") == 3
        assert switch.count("0200", "72") == 1, "a payment is sent once"

    play(story, switch, times=replace(TIMES, answer_s=0.2))


# ---- what must not be believed
OTHER = PaymentKey(TERMINAL, "0101", "999999")
LIES: dict[str, Say | str | None] = {
    "paid, wrong MAC": Say("00", "completed", mac="wrong"),
    "paid, no MAC": Say("00", "completed", mac="none"),
    "declined, wrong MAC": Say("51", "declined", mac="wrong"),
    "another amount": Say("00", "completed", fen=1),
    "an unknown code": Say("Z9", "code_of_a_later_version"),
    "a success of something else": Say("00", "found"),
    "busy, wrong MAC": Say("N2", "busy", mac="wrong"),
    "nothing": None,
    "hanging up": "hang up",
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("truth", ["paid", "nothing"])
def test_an_answer_that_proves_nothing_is_asked_for(lie: str, truth: str, play: Callable[..., None]) -> None:
    switch = Switch()
    switch.payments = [LIES[lie]]
    switch.results = [Say("00", "completed") if truth == "paid" else Say("25", "not_found")]

    async def story(switch: Switch, kiosk: KioskClient) -> None:
        result = await _pay(kiosk)
        assert result.final and (result.outcome is Outcome.PAID) == (truth == "paid")
        if truth == "nothing":
            assert result.may_try_again and "成功" not in result.text
        assert switch.count("0200", "75") == 1

    play(story, switch, times=replace(TIMES, answer_s=0.3))


@pytest.mark.parametrize(
    "lie",
    [
        Say("00", "completed", about=OTHER),
        Say("25", "not_found", mac="none"),
        Say("25", "not_found", mac="wrong"),
        Say("00", "completed", mac="wrong"),
        Say("00", "completed", fen=1),
        Say("U1", "result_unknown", about=OTHER),
        Say("77", "sign_on_first", mac="none"),
        Say("97", "unknown_terminal", mac="none"),
        Say("N5", "too_fast", about=OTHER),
    ],
    ids=lambda say: f"{say.code}-{say.mac}-{'other' if say.about else say.fen}",
)
def test_an_answer_to_an_inquiry_that_proves_nothing_leaves_the_payment_open(
    lie: Say, play: Callable[..., None]
) -> None:
    switch = Switch()
    switch.payments = [Say("U1", "result_unknown")]
    switch.results = [lie]

    async def story(switch: Switch, kiosk: KioskClient) -> None:
        result = await _pay(kiosk)
        bills = await _bills_of(kiosk)
        while switch.count("0200", "75") < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert kiosk.open_payments == (result,)
        with pytest.raises(OpenPaymentError, match="bill_open"):
            await kiosk.pay(bills, bills.months[:1], CARD)
        switch.results = [Say("R2", "returned")]
        assert (await kiosk.wait_final(result.key, 5)).outcome is Outcome.RETURNED

    play(story, switch)


def test_without_any_word_the_customer_is_told_not_to_pay_again(play: Callable[..., None]) -> None:
    switch = Switch()
    switch.payments = switch.results = [None]

    async def story(switch: Switch, kiosk: KioskClient) -> None:
        result = await _pay(kiosk)
        assert (result.outcome, result.code) == (Outcome.UNKNOWN, "no_answer") and "请勿重复缴费" in result.text
        (standing,) = await kiosk.recover(timeout_s=0.0)
        assert standing.key == result.key and not standing.final

    play(story, switch, times=replace(TIMES, answer_s=0.1, inquiry_s=0.1, clarify_s=0.3))


# ---- keys and lines
def test_keys_that_differ_from_their_check_value_open_nothing(play: Callable[..., None]) -> None:
    switch = Switch()
    switch.wrong_kcv = True

    async def story(switch: Switch, kiosk: KioskClient) -> None:
        assert not kiosk.last_sign_on.ok and kiosk.last_sign_on.code == "check_value_differs"
        assert "工作密钥校验失败" in kiosk.last_sign_on.text
        refused = await kiosk.inquire(ACCOUNT)
        assert isinstance(refused, Refusal) and refused.code == "not_connected" and not switch.count("0200")
        switch.wrong_kcv = False
        assert (await kiosk.sign_on()).ok

    play(story, switch, times=replace(TIMES, ready_s=0.4))


@pytest.mark.parametrize(
    ("say", "code"),
    [
        (Say("97", "unknown_terminal", mac="none"), "unknown_terminal"),
        (Say("N2", "busy", mac="none"), "busy"),
        (Say("K1", "keys_wrong", mac="none"), "keys_wrong"),
        (Say("96", mac="none"), "internal"),
        (None, "no_answer"),
        ("hang up", "no_answer"),
    ],
)
def test_a_sign_on_that_fails_is_told_and_tried_again(say: Any, code: str, play: Callable[..., None]) -> None:
    switch = Switch()
    switch.sign_ons = [say]

    async def story(switch: Switch, kiosk: KioskClient) -> None:
        assert not kiosk.is_ready and kiosk.last_sign_on.code == code and kiosk.last_sign_on.text
        switch.sign_ons = [Say("00")]
        assert (await kiosk.connect()).ok

    play(story, switch, times=replace(TIMES, ready_s=0.5, inquiry_s=0.2))


def test_a_pin_pad_that_refuses_its_key_keeps_the_kiosk_from_trading(play: Callable[..., None]) -> None:
    class Pad:
        loaded: WorkingKey | None = None

        def load_pin_key(self, key: WorkingKey) -> None:
            if self.loaded is None:
                self.loaded = key
                raise SecurityError("kcv", "PIN key: the check value differs")

        def read_pin(self, pan: Pan, timeout_s: float) -> PinBlock:
            raise NotImplementedError

    pad = Pad()

    async def story(switch: Switch, kiosk: KioskClient) -> None:
        assert pad.loaded is not None
        assert (await kiosk.connect()).ok and switch.count("0800") == 2

    play(story, pin_pad=pad)


def test_keys_are_renewed_when_an_idle_line_is_told_to(play: Callable[..., None]) -> None:
    switch = Switch()
    switch.echoes = [Say("77", "sign_on_first", mac="none"), Say("00", mac="none")]

    async def story(switch: Switch, kiosk: KioskClient) -> None:
        while switch.count("0820") < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert switch.count("0800") == 2 and (await _pay(kiosk)).outcome is Outcome.PAID

    play(story, switch, times=replace(TIMES, echo_s=0.05))


def test_a_line_that_is_silent_is_given_up(play: Callable[..., None]) -> None:
    switch = Switch()
    switch.echoes = [None, Say("00", mac="none")]

    async def story(switch: Switch, kiosk: KioskClient) -> None:
        while switch.count("0800") < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert (await kiosk.echo()) and (await _pay(kiosk)).outcome is Outcome.PAID

    play(story, switch, times=replace(TIMES, echo_s=0.05, inquiry_s=0.1))


def test_an_echo_with_a_mac_is_answered_only_with_one(play: Callable[..., None]) -> None:
    switch = Switch()
    switch.echoes = [Say("00"), Say("00", mac="none"), Say("00", mac="wrong"), Say("N4", "card_unavailable")]

    async def story(switch: Switch, kiosk: KioskClient) -> None:
        assert [await kiosk.echo(with_mac=True) for _ in range(4)] == [True, False, False, False]

    play(story, switch)


def test_the_date_is_the_switchs_own(play: Callable[..., None]) -> None:
    switch = Switch()
    switch.time = ("115959", "0228")

    async def story(switch: Switch, kiosk: KioskClient) -> None:
        result = await _pay(kiosk)
        assert result.key.date == "0228" and switch.asked[-1][13] == "0228"

    play(story, switch)


def test_bills_without_a_right_mac_are_no_bills(play: Callable[..., None]) -> None:
    async def story(switch: Switch, kiosk: KioskClient) -> None:
        whole = switch.answer

        def lying(frame: bytes) -> bytes | str | None:
            said = whole(frame)
            return said[:-1] + b"X" if isinstance(said, bytes) and switch.asked[-1].mti == "0200" else said

        switch.answer = lying  # type: ignore[method-assign]
        refused = await kiosk.inquire(ACCOUNT)
        assert isinstance(refused, Refusal) and refused.code == "no_answer"

    play(story)


# ---- what a program does wrong
def test_months_that_are_not_of_these_bills_are_refused_before_anything_is_sent(play: Callable[..., None]) -> None:
    async def story(switch: Switch, kiosk: KioskClient) -> None:
        bills = await _bills_of(kiosk)
        first, second = bills.months
        for months in ((), (first, first), (structs.replace(first, amount=1),)):
            with pytest.raises(ValueError, match="months: "):
                await kiosk.pay(bills, months, CARD)
        whole = structs.replace(bills, partial_allowed=False)
        with pytest.raises(ValueError, match="must be paid whole"):
            await kiosk.pay(whole, (first,), CARD)
        assert whole.oldest(1) == (first, second) and bills.oldest(1) == (first,)
        with pytest.raises(ValueError, match="account: expected"):
            await kiosk.inquire("户号")
        with pytest.raises(KeyError, match="no open payment"):
            await kiosk.reverse(OTHER)
        assert switch.count("0200", "72") == 0

    play(story)


def test_a_disk_that_fails_stops_the_kiosk_before_a_payment_leaves(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(switch: Switch, kiosk: KioskClient) -> None:
        bills = await _bills_of(kiosk)

        def failing(_: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", failing)
            with pytest.raises(JournalError, match="No space left"):
                await kiosk.pay(bills, bills.months, CARD)
        with pytest.raises(JournalError, match="start again"):
            await kiosk.pay(bills, bills.months, CARD)
        assert switch.count("0200", "72") == 0

    play(story)


def test_a_disk_that_fails_after_the_answer_does_not_hide_it(
    play: Callable[..., None], journal: KioskJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(switch: Switch, kiosk: KioskClient) -> None:
        bills = await _bills_of(kiosk)
        sync = os.fsync

        def failing(descriptor: int) -> None:
            if switch.count("0200", "72"):
                raise OSError(5, "Input/output error")
            sync(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", failing)
            result = await kiosk.pay(bills, bills.months, CARD)
        assert result.outcome is Outcome.PAID
        with pytest.raises(JournalError, match="Input/output error"):
            await kiosk.inquire(ACCOUNT)
        journal.close()
        with contextlib.closing(KioskJournal.open(journal.path, TERMINAL)) as after:
            # Whether the disk has it nobody knows: then it is asked for, or told again.
            assert {each.key for each in after.open_payments} | {each.key for each in after.finished} == {result.key}

    play(story)


def test_a_wrong_terminal_or_file_is_told_at_once(journal: KioskJournal) -> None:
    options = _options(journal)
    with pytest.raises(ValueError, match="is the file of terminal GS000001, not of GS000002"):
        KioskClient("127.0.0.1", 1, **{**options, "terminal_id": "GS000002"})
    with pytest.raises(ValueError, match="merchant_id 15"):
        KioskClient("127.0.0.1", 1, **{**options, "merchant_id": "1"})


# ---- cards, and where they may not be
def test_each_way_to_read_a_card_has_its_fields(play: Callable[..., None], journal: KioskJournal) -> None:
    track, pin = Track(testkeys.test_track2(2)), PinBlock(bytes(8))
    cards = {
        "021": swiped(track, pin),
        "022": swiped(track, None),
        "051": chip(Pan(PAN), "3012", pin, ChipData(bytes.fromhex("9F2608" + "11" * 8)), track2=track),
        "012": CARD,
    }

    async def story(switch: Switch, kiosk: KioskClient) -> None:
        for mode, card in cards.items():
            bills = await _bills_of(kiosk)
            assert (await kiosk.pay(bills, bills.months, card)).outcome is Outcome.PAID
            asked = switch.asked[-1]
            assert asked[22] == mode and asked[2] == PAN and (52 in asked) == (26 in asked) == (53 in asked)
            assert (52 in asked) == mode.endswith("1") and (55 in asked) == mode.startswith("05")
        stored = journal.path.read_bytes()
        assert PAN.encode() not in stored and PAN[6:-4].encode() not in stored

    play(story)
    with pytest.raises(ValueError, match="no card number"):
        swiped(Track("1234"), None)


# ---- the blocking one
@contextmanager
def _in_a_thread(switch: Switch) -> Iterator[Switch]:
    loop, stop, started = asyncio.new_event_loop(), asyncio.Event(), threading.Event()

    async def serve() -> None:
        async with _switch(switch):
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    started.wait(10)
    try:
        yield switch
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def test_the_blocking_client_does_the_same(journal: KioskJournal) -> None:
    switch = Switch()
    switch.payments = [Say("U1", "result_unknown"), Say("00", "completed")]
    switch.results = [Say("R2", "returned")]
    told: list[PaymentResult] = []
    with _in_a_thread(switch):
        kiosk = BlockingKioskClient("127.0.0.1", switch.port, **_options(journal, on_result=told.append))
        with kiosk:
            assert kiosk.last_sign_on.ok and kiosk.is_ready and kiosk.echo() and kiosk.sign_on().ok
            bills = kiosk.inquire(ACCOUNT)
            assert isinstance(bills, Bills)
            unknown = kiosk.pay(bills, bills.oldest(1), CARD)
            assert unknown.outcome is Outcome.UNKNOWN and kiosk.open_payments == (unknown,)
            returned = kiosk.wait_final(unknown.key, 5)
            assert returned.outcome is Outcome.RETURNED and kiosk.result(unknown.key) == returned == told[-1]
            assert kiosk.reverse(unknown.key) == returned
            kiosk.acknowledge(returned)
            paid = kiosk.pay(bills, bills.oldest(1), CARD)
            assert paid.outcome is Outcome.PAID and kiosk.recover() == (paid,)
        kiosk.close()
        with pytest.raises(RuntimeError, match="is closed"):
            kiosk.inquire(ACCOUNT)


def test_the_example_of_the_readme_serves_a_customer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(import asyncio\n\nfrom switch.kiosk.*?)```", readme, re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    monkeypatch.chdir(tmp_path)
    KioskJournal.create("kiosk.journal", TERMINAL).close()
    shown: list[Any] = []

    async def customers() -> AsyncIterator[tuple[str, Callable[[Any], Any]]]:
        yield ACCOUNT, lambda keys: CARD

    async def story() -> None:
        async with _switch(Switch()) as switch:
            with PrinterSimulator() as printer:
                driver = EscPosPrinter(printer.port)
                await names["one_day"](
                    ("127.0.0.1", switch.port),
                    *(TERMINAL, MERCHANT, SoftwareKeys(testkeys.test_tmk(TERMINAL)), None),
                    *(customers(), driver, shown.append),
                )
                assert printer.cuts == 1

    asyncio.run(story())
    assert [result.outcome for result in shown] == [Outcome.PAID]
    journal = KioskJournal.open(tmp_path / "kiosk.journal", TERMINAL)
    assert not journal.finished and not journal.open_payments
    journal.close()
