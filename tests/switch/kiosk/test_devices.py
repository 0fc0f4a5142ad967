"""The reference drivers against simulated peripherals on ptys, over pyserial: work, noise, and what is out of order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec import structs

from switch.errors import SecurityError
from switch.kiosk import (
    Bills,
    DeviceError,
    EBill,
    EBills,
    Meter,
    Month,
    Outcome,
    Pan,
    PaymentKey,
    PaymentResult,
    Slip,
    Step,
    yuan,
)
from switch.kiosk.devices import CardReader, PinPad, ReceiptPrinter, columns
from switch.kiosk.escpos import EscPosPrinter
from switch.kiosk.sankyo import SankyoReader
from switch.kiosk.serialline import crc16_xmodem, xor
from switch.kiosk.zt59x import Zt59xPinPad
from switch.security import pinblock, workingkeys
from switch.security.primitives import des
from switch.sim import testkeys
from switch.sim.devices import CardReaderSimulator, PinPadSimulator, PrinterSimulator

KEY = PaymentKey("GS000001", "1129", "000042")
MONTH = Month("030000000920261001", "202610", 12000, 345, 12345, 180, 1)
BILLS = Bills("0300000009", "Q1", "张伟", "广州市越秀区中山路1号", 12345, 0, (MONTH,), True, False)
RESULT = PaymentResult(
    KEY, BILLS.account, 12345, (MONTH.receivable,), Outcome.PAID, "completed", "缴费成功，已销账。", "00", "7532957732"
)
TMK = testkeys.test_tmk("GS000001")
CLEAR = testkeys.with_odd_parity(bytes(range(16)))


# ---- the slip
def test_a_slip_says_what_was_paid_and_never_a_card_number() -> None:
    slip = Slip.of(RESULT, "2026-11-29 10:00:00", BILLS)
    lines = slip.lines(32)
    text = "\n".join(lines)
    assert all(columns(line) <= 32 for line in lines)
    for part in ("电费缴费凭条", "户名：张伟", "电费年月：202610", "¥123.45", "7532957732", "缴费成功，已销账。"):
        assert part in text
    case = structs.replace(RESULT, outcome=Outcome.SUSPENSE, case_number="C-7")
    assert "电费缴费受理凭条" in Slip.of(case, "").title and ("差错单号", "C-7") in Slip.of(case, "").rows
    assert yuan(100) == "¥1.00"


def test_an_e_bill_on_paper_says_what_a_month_was_made_of_and_that_it_proves_no_payment() -> None:
    meter = Meter("M1", "69454", "69801", 347)
    steps = (Step(1, 1260, "0.5889", 115311), Step(2, 87, "0.6389", 5559))
    owed = EBill("202610", "20261025", 347, 20870, 209, 21079, 1000, "20261101101500", (meter,), steps, True)
    paid = structs.replace(owed, period="202609", penalty=0, amount=20870, paid=20870, cut=False)
    slip = Slip.of_e_bills(EBills("0300000009", (owed, paid), ""), "2026-11-30 10:00:00")
    lines = slip.lines(32)
    assert all(columns(line) <= 32 for line in lines) and not slip.qr
    newest, older = "\n".join(lines).split("电费年月：202609")
    for part in (
        "电费年月：202610",
        "上月示数：69454",
        "本月示数：69801",
        "用电：347 kWh",
        "阶梯 1：1260x0.5889=¥1,153.11\n",
    ):
        assert part in newest
    assert "违约金：¥2.09" in newest and "未缴：¥200.79" in newest and "未列出" in newest
    assert "违约金" not in older and "已缴：¥208.70" in older and "未列出" not in older and "不作缴费凭证" in older


# ---- printer
@pytest.fixture
def printer() -> Iterator[PrinterSimulator]:
    with PrinterSimulator() as made:
        yield made


def test_a_slip_is_printed_in_chinese_with_its_qr_code_and_cut(printer: PrinterSimulator) -> None:
    driver: ReceiptPrinter = EscPosPrinter(printer.port)
    status = driver.status()
    assert status.can_print and not status.paper_low
    slip = Slip.of(RESULT, "2026-11-29 10:00:00", BILLS)
    driver.print_slip(slip)
    assert printer.lines[0] == "电费缴费凭条" and printer.lines[1:-1] == slip.lines(32)[1:]
    assert printer.qr_codes == ["7532957732"] and printer.cuts == 1 and not printer.unknown


def test_a_name_from_outside_is_text_and_no_command(printer: PrinterSimulator) -> None:
    slip = Slip("凭条", (("户名", "张\x1b@\x1dV\x00\n伟𠮷"),), "好")
    EscPosPrinter(printer.port).print_slip(slip)
    assert "户名：张?@?V??伟𠮷" in printer.lines and printer.cuts == 1


def test_paper_that_ends_in_the_middle_is_told(printer: PrinterSimulator) -> None:
    driver = EscPosPrinter(printer.port)
    printer.paper_lines = 4
    assert driver.status().paper_low
    with pytest.raises(DeviceError, match=r"put a roll in, print the slip again \[printer_paper_out\]") as caught:
        driver.print_slip(Slip.of(RESULT, "", BILLS))
    assert caught.value.text == "凭条纸已用完，请联系管理人员。" and printer.cuts == 0
    assert not driver.status().can_print


def test_a_printer_that_is_open_or_silent_is_told(printer: PrinterSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = EscPosPrinter(printer.port)
    printer.cover_open = True
    with pytest.raises(DeviceError, match="printer_offline"):
        driver.print_slip(Slip.of(RESULT, ""))
    printer.cover_open = False
    printer.noise = b"\xff"
    assert driver.status().online
    monkeypatch.setattr("switch.kiosk.escpos.DEVICE_MOVE_S", 0.1)
    printer.silent = 10
    with pytest.raises(DeviceError, match=r"no answer to the question for status 4; look at its cable .*\[no_answer\]"):
        driver.status()


def test_a_port_that_is_not_there_or_taken_is_told(printer: PrinterSimulator) -> None:
    with pytest.raises(DeviceError, match=r"cannot be opened.*\[port\]"):
        EscPosPrinter("/dev/ttyNONE")
    first = EscPosPrinter(printer.port)
    with pytest.raises(DeviceError, match=r"\[port\]"):
        EscPosPrinter(printer.port)
    first.close()
    EscPosPrinter(printer.port).close()


# ---- card reader
@pytest.fixture
def reader() -> Iterator[CardReaderSimulator]:
    with CardReaderSimulator() as made:
        yield made


def test_a_card_is_let_in_read_and_given_back(reader: CardReaderSimulator) -> None:
    driver: CardReader = SankyoReader(reader.port, parity="N")
    assert not driver.wait_for_card(0.2) and not reader.accepts
    reader.insert(testkeys.test_track2(1))
    assert driver.wait_for_card(2) and not reader.accepts
    track = driver.read_track2()
    assert track.reveal() == testkeys.test_track2(1) and str(track) == "<Track>"
    driver.eject()
    assert reader.track2 is None and reader.commands[0] == b"00"
    with pytest.raises(DeviceError, match="card_missing"):
        driver.read_track2()
    reader.insert(testkeys.test_track2(2))
    assert driver.wait_for_card(2)
    driver.capture()
    assert reader.captured == 1


@pytest.mark.parametrize("fault", ["refuse", "spoil", "silent", "noise"])
def test_noise_on_the_readers_line_costs_a_repetition(fault: str, reader: CardReaderSimulator) -> None:
    driver = SankyoReader(reader.port, parity="N")
    reader.insert(testkeys.test_track2(1))
    assert driver.wait_for_card(2)
    setattr(reader, fault, b"\x00\x55" if fault == "noise" else 1)
    assert driver.read_track2().reveal() == testkeys.test_track2(1)


@pytest.mark.parametrize(("error", "code"), [("10", "card_jam"), ("24", "card_unreadable"), ("65", "card_refused")])
def test_what_the_reader_refuses_is_told(error: str, code: str, reader: CardReaderSimulator) -> None:
    driver = SankyoReader(reader.port, parity="N")
    reader.error = error
    with pytest.raises(DeviceError, match=f"refused with error {error}") as caught:
        driver.read_track2()
    assert caught.value.code == code and caught.value.text


# ---- PIN pad
@pytest.fixture
def pad() -> Iterator[PinPadSimulator]:
    with PinPadSimulator(TMK) as made:
        yield made


PAN = Pan(testkeys.test_pan(2))


def test_the_pin_key_is_loaded_and_the_block_is_what_the_switch_expects(pad: PinPadSimulator) -> None:
    driver: PinPad = Zt59xPinPad(pad.port)
    driver.load_pin_key(workingkeys.encrypt_key(CLEAR, des(TMK)))
    block = driver.read_pin(PAN, 5)
    assert pinblock.decrypt("iso0", des(CLEAR), block.reveal(), PAN.reveal()) == "123456"
    pad.typing = b"99\x08123456\r"
    block = driver.read_pin(PAN, 5)
    assert pinblock.decrypt("iso0", des(CLEAR), block.reveal(), PAN.reveal()) == "123456"


def test_a_key_whose_check_value_differs_is_refused(pad: PinPadSimulator) -> None:
    driver = Zt59xPinPad(pad.port)
    key = workingkeys.encrypt_key(CLEAR, des(TMK))
    wrong = workingkeys.WorkingKey(key.cryptogram, bytes((key.kcv[0] ^ 1,)) + key.kcv[1:])
    with pytest.raises(SecurityError, match="the check value differs"):
        driver.load_pin_key(wrong)


def test_a_customer_who_cancels_or_goes_away_is_told(pad: PinPadSimulator) -> None:
    driver = Zt59xPinPad(pad.port)
    driver.load_pin_key(workingkeys.encrypt_key(CLEAR, des(TMK)))
    pad.typing = b"12\x1b"
    with pytest.raises(DeviceError, match="pin_cancelled"):
        driver.read_pin(PAN, 5)
    pad.typing = b"12"
    with pytest.raises(DeviceError, match="no PIN within 1 s") as caught:
        driver.read_pin(PAN, 1)
    assert caught.value.text == "密码输入超时，请重新操作。"


@pytest.mark.parametrize("fault", ["spoil", "silent", "noise"])
def test_noise_on_the_pads_line_costs_a_repetition(fault: str, pad: PinPadSimulator) -> None:
    driver = Zt59xPinPad(pad.port)
    setattr(pad, fault, b"**" if fault == "noise" else 1)
    driver.load_pin_key(workingkeys.encrypt_key(CLEAR, des(TMK)))


def test_a_pad_without_keys_says_so(pad: PinPadSimulator) -> None:
    driver = Zt59xPinPad(pad.port)
    with pytest.raises(DeviceError, match=r"command 6: no such key \[pin_keys\]"):
        driver.read_pin(PAN, 1)
    pad.error = 0xE2
    with pytest.raises(DeviceError, match="no terminal master key"):
        driver.load_pin_key(workingkeys.encrypt_key(CLEAR, des(TMK)))


# ---- checks
def test_checks_are_those_of_the_protocols() -> None:
    assert crc16_xmodem(b"123456789") == 0x31C3
    assert xor(b"0013\x03") == 0x30 ^ 0x30 ^ 0x31 ^ 0x33 ^ 0x03
