"""The load's kiosk against a scripted switch on a real socket: it keeps the rules on which money depends."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import iso8583
from iso8583 import tlv
from loadtests import testdata, wire
from loadtests.keys import DesKey, WorkingKeys
from loadtests.wire import Book, Kiosk
from switch.security import primitives, workingkeys

ANSWER_S = 0.4
KEY = bytes.fromhex("1C2C4C5D6E7F80913B3D3E4045464953")
HEADER = bytes.fromhex("6000000003603100000000")
SPEC = iso8583.load("kiosk", header="tpdu+pos6")
BILLS = wire.Bills("0300000009", "Q1", (("R1", 1_000), ("R2", 234)))
CARD = testdata.card(1)

Script = Callable[["ScriptedSwitch", iso8583.Message], None]


def field_62(master: bytes) -> bytes:
    tmk = primitives.des(master)
    return workingkeys.build(
        workingkeys.WorkingKeys(workingkeys.encrypt_key(KEY, tmk), workingkeys.encrypt_key(KEY, tmk))
    )


@dataclass
class ScriptedSwitch:
    """Signs on whoever asks; what it does with an 0200 the script of the test says."""

    book: Path
    script: Script = lambda switch, message: switch.answer(message, "00", "completed")
    seen: list[iso8583.Message] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)
    noted: list[str] = field(default_factory=list)  # the book, as it was when a payment arrived

    def __post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.keys = WorkingKeys(field_62(testdata.terminal(1).master_key), DesKey(testdata.terminal(1).master_key))
        self.line: socket.socket | None = None
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                self.line, _ = self.listener.accept()
            except OSError:
                return
            framer = iso8583.Framer()
            with self.line, contextlib.suppress(OSError):
                while data := self.line.recv(4096):
                    for frame in framer.feed(data):
                        self._obey(frame)

    def _obey(self, frame: bytes) -> None:
        message = SPEC.decode(frame)
        self.seen.append(message)
        self.frames.append(frame)
        if message.mti == "0800":
            keys = field_62(testdata.terminal(1).master_key)
            self.send(message.reply({12: "101010", 13: "0101", 39: "00", 60: "00000007003", 62: keys}))
        elif message.mti == "0820":
            self.send(message.reply({12: "101010", 13: "0101", 39: "77"}))
        else:
            self.noted.append(self.book.read_text())
            self.script(self, message)

    def send(self, frame: bytes) -> None:
        assert self.line is not None
        self.line.sendall(iso8583.frame(frame))

    def answer(self, message: iso8583.Message, code: str, stable: str = "", *, mac: str = "right", **tags: str) -> None:
        objects = [("DF0A", stable), ("DF0F", "77"), *((name, value) for name, value in tags.items())]
        private = tlv.encode([(tag, value.encode()) for tag, value in objects if value])
        values: dict[int | str, Any] = {39: code, 48: private}
        if mac == "none":
            self.send(message.reply(values))
            return
        frame = message.reply({**values, 64: bytes(8)})[:-8]
        right = self.keys.mac(frame[len(HEADER) :])
        self.send(frame + (right if mac == "right" else b"00000000"))


@pytest.fixture
def switch(tmp_path: Path) -> Iterator[ScriptedSwitch]:
    scripted = ScriptedSwitch(tmp_path / "book.jsonl")
    yield scripted
    scripted.listener.close()
    if scripted.line is not None:
        scripted.line.close()


@pytest.fixture
def kiosk(switch: ScriptedSwitch) -> Iterator[Kiosk]:
    made = Kiosk(testdata.terminal(1), switch.listener.getsockname(), Book(switch.book), answer_s=ANSWER_S)
    made.connect()
    assert made.sign_on().code == "00"
    yield made
    made.close()
    made._book.close()


def facts(switch: ScriptedSwitch) -> list[tuple[str, str]]:
    lines = [json.loads(line) for line in switch.book.read_text().splitlines()]
    return [(line["fact"], line.get("code", "")) for line in lines]


def test_a_payment_is_in_the_book_before_it_leaves(switch: ScriptedSwitch, kiosk: Kiosk) -> None:
    payment, answer = kiosk.pay(BILLS, CARD)
    assert (answer.code, answer.stable, answer.reference) == ("00", "completed", "77")
    (noted,) = switch.noted
    assert json.loads(noted) == {
        "fact": "sent",
        "key": payment.key,
        "fen": 1_234,
        "account": "0300000009",
        "receivables": ["R1", "R2"],
    }
    assert facts(switch) == [("sent", ""), ("told", "00"), ("final", "00")]
    assert not kiosk.unfinished


def test_a_payment_has_the_fields_and_the_mac_of_the_interface(switch: ScriptedSwitch, kiosk: Kiosk) -> None:
    kiosk.pay(BILLS, CARD)
    message, frame = switch.seen[-1], switch.frames[-1]
    assert switch.keys.is_right(frame[len(HEADER) : -8], frame[-8:])
    assert (message[4], message[22], message[41], message[60][:8]) == ("000000001234", "021", "GS000001", "72000007")
    objects = tlv.decode(message[48])
    assert [(tag, value.decode()) for tag, value in objects] == [
        *(("DF01", "0300000009"), ("DF02", "Q1"), ("DF11", "R1"), ("DF11", "R2"))
    ]


def test_an_echo_test_that_is_told_to_sign_on_forgets_its_keys(switch: ScriptedSwitch, kiosk: Kiosk) -> None:
    told = [(kiosk.echo().code, kiosk.is_signed_on), (kiosk.sign_on().code, kiosk.is_signed_on)]
    assert told == [("77", False), ("00", True)]


def test_after_silence_it_asks_for_the_result_and_never_pays_again(switch: ScriptedSwitch, kiosk: Kiosk) -> None:
    switch.script = lambda _switch, _message: None
    payment, answer = kiosk.pay(BILLS, CARD)
    assert answer.code == wire.SILENT and answer.seconds >= ANSWER_S and list(kiosk.unfinished) == [payment.key]
    switch.script = lambda own, message: own.answer(
        message, "09", "in_progress", DF0C=payment.serial, DF0D=payment.date
    )
    assert kiosk.ask_result(payment).code == "09" and kiosk.unfinished
    switch.script = lambda own, message: own.answer(message, "00", "completed", DF0C=payment.serial, DF0D=payment.date)
    assert kiosk.ask_result(payment).code == "00" and not kiosk.unfinished
    asked = [message for message in switch.seen if message.mti == "0200"]
    assert [message[60][:2] for message in asked] == ["72", "75", "75"]
    assert tlv.to_dict(asked[2][48]) == {"DF0C": payment.serial.encode(), "DF0D": payment.date.encode()}
    assert facts(switch) == [("sent", ""), ("told", "09"), ("told", "00"), ("final", "00")]


def test_an_inquiry_that_is_refused_says_nothing_about_the_payment(switch: ScriptedSwitch, kiosk: Kiosk) -> None:
    switch.script = lambda own, message: own.answer(message, "U1", "result_unknown")
    payment, _ = kiosk.pay(BILLS, CARD)
    switch.script = lambda own, message: own.answer(message, "N5", "too_fast")
    assert kiosk.ask_result(payment).code == "N5" and kiosk.unfinished
    switch.script = lambda own, message: own.answer(message, "25", "not_found")
    assert kiosk.ask_result(payment).code == "25" and payment.final == "25"


@pytest.mark.parametrize("mac", ["wrong", "none"])
def test_an_answer_without_a_right_mac_is_as_if_it_had_never_come(
    switch: ScriptedSwitch, kiosk: Kiosk, mac: str
) -> None:
    switch.script = lambda own, message: own.answer(message, "00", "completed", mac=mac)
    payment, answer = kiosk.pay(BILLS, CARD)
    assert answer.code == wire.SILENT and not payment.final
    assert facts(switch) == [("sent", "")]


@pytest.mark.parametrize("code", ["A0", "77", "N2"])
def test_a_refusal_without_mac_leaves_the_payment_unfinished(switch: ScriptedSwitch, kiosk: Kiosk, code: str) -> None:
    switch.script = lambda own, message: own.answer(message, code, "word", mac="none")
    payment, answer = kiosk.pay(BILLS, CARD)
    assert answer.code == code and not payment.final and kiosk.unfinished
    assert kiosk.is_signed_on == (code == "N2")


def test_a_late_answer_is_noted_while_something_else_is_waited_for(switch: ScriptedSwitch, kiosk: Kiosk) -> None:
    held: list[iso8583.Message] = []
    switch.script = lambda _switch, message: held.append(message)
    payment, answer = kiosk.pay(BILLS, CARD)
    assert answer.code == wire.SILENT

    def late_first(own: ScriptedSwitch, message: iso8583.Message) -> None:
        own.answer(held[0], "00", "completed")
        own.answer(message, "E2", "no_arrears")

    switch.script = late_first
    assert kiosk.inquire("0300000009").code == "E2"
    assert payment.final == "00" and not kiosk.unfinished


def test_a_repeat_is_the_same_bytes_and_one_payment(switch: ScriptedSwitch, kiosk: Kiosk) -> None:
    payment, _ = kiosk.pay(BILLS, CARD)
    assert kiosk.repeat(payment).code == "00"
    assert switch.frames[-1] == switch.frames[-2]
    assert kiosk._book.counts["sent"] == 1 and kiosk._book.counts["finals"] == {"00": 1}
    assert facts(switch) == [("sent", ""), ("told", "00"), ("final", "00"), ("told", "00")]


def test_a_repeat_that_is_told_another_final_word_is_a_contradiction(switch: ScriptedSwitch, kiosk: Kiosk) -> None:
    payment, _ = kiosk.pay(BILLS, CARD)
    switch.script = lambda own, message: own.answer(message, "R2", "returned")
    kiosk.repeat(payment)
    assert kiosk._book.contradictions == 1 and payment.final == "00"


def test_an_issuers_code_counts_as_declined(switch: ScriptedSwitch, kiosk: Kiosk) -> None:
    switch.script = lambda own, message: own.answer(message, "51", "declined")
    kiosk.pay(BILLS, CARD)
    assert kiosk._book.counts["finals"] == {"declined": 1} and kiosk._book.counts["fen_paid"] == 0


def test_a_line_that_is_cut_is_no_answer_and_can_be_dialled_again(switch: ScriptedSwitch, kiosk: Kiosk) -> None:
    def cut(own: ScriptedSwitch, _message: iso8583.Message) -> None:
        assert own.line is not None
        own.line.shutdown(socket.SHUT_RDWR)

    switch.script = cut
    payment, answer = kiosk.pay(BILLS, CARD)
    assert answer.code == wire.CUT and not kiosk.is_connected and kiosk.unfinished
    assert kiosk.ask_result(payment).code == wire.CUT, "without a line there is no answer, and no exception"
    switch.script = lambda own, message: own.answer(message, "00", "completed", DF0C=payment.serial, DF0D=payment.date)
    kiosk.connect()
    assert kiosk.ask_result(payment).code == "00"


def test_what_follows_the_awaited_frame_in_one_portion_is_not_lost(switch: ScriptedSwitch, kiosk: Kiosk) -> None:
    first: list[iso8583.Message] = []

    def together(own: ScriptedSwitch, message: iso8583.Message) -> None:
        first.append(message)
        if len(first) == 2:
            own.answer(message, "E2", "no_arrears")
            own.answer(first[0], "00", "completed")  # the payment's, behind the inquiry's

    switch.script = together
    payment, _ = kiosk.pay(BILLS, CARD)
    assert kiosk.inquire("0300000009").code == "E2"
    switch.script = lambda own, message: own.answer(message, "E2", "no_arrears")
    assert kiosk.inquire("0300000009").code == "E2"
    assert payment.final == "00"


def test_serials_go_on_and_come_round(switch: ScriptedSwitch, kiosk: Kiosk) -> None:
    kiosk._serial = 999_998
    serials = [kiosk._next_serial() for _ in range(3)]
    assert serials == ["999999", "000001", "000002"]
