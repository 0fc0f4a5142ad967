"""The kiosk's dialect against hand-made messages: KIOSK_INTERFACE.md in both directions. Test PANs only."""

from __future__ import annotations

from typing import Any

import pytest

import iso8583
from iso8583 import tlv
from switch.dialects.codes import CardCodes, kiosk_codes
from switch.dialects.kiosk import PRIVATE_MAX, FormatError, KioskDialect, LocalTime, ReplyTo
from switch.errors import BadRequestError
from switch.limits import E_BILL_METERS_MAX, E_BILL_STEPS_MAX
from switch.model.ebill import EBill, Meter, Step
from switch.model.payment import Quote, Receivable
from switch.model.request import BillInquiry, EBillInquiry, EchoTest, PaymentRequest, ResultInquiry, SignOn

HEADER = bytes.fromhex("6000031234603100000000")
SPEC = iso8583.load("kiosk", header="tpdu+pos6")
DIALECT = KioskDialect(CardCodes())
NOW = LocalTime("101112", "1123")
PAN = "6222000000000017"

COMMON: dict[int, Any] = {
    0: "0200",
    3: "000000",
    11: "000007",
    13: "1123",
    25: "00",
    41: "GS000001",
    42: "898110049000001",
    49: "156",
    60: "71000001000",
    64: b"01234567",
}
PAYMENT: dict[int, Any] = COMMON | {
    4: 12345,
    22: "021",
    26: "06",
    35: f"{PAN}=30121010000000000",
    52: bytes(8),
    53: "2600000000000000",
    60: "72000001000",
    48: tlv.encode([("DF01", b"0500000017"), ("DF02", b"q1"), ("DF11", b"R1"), ("DF11", b"R2")]),
}


def frame(fields: dict[int, Any]) -> bytes:
    return SPEC.encode({number: value for number, value in fields.items() if value is not None}, header=HEADER)


def test_a_sign_on_an_echo_and_an_inquiry_are_read() -> None:
    base = {11: "000001", 41: "GS000001", 42: "898110049000001"}
    assert isinstance(DIALECT.read(frame(base | {0: "0800", 60: "00000000003", 63: "001"})), SignOn)
    assert isinstance(DIALECT.read(frame(base | {0: "0820", 60: "00000001301"})), EchoTest)
    inquiry = DIALECT.read(frame(COMMON | {48: tlv.encode([("DF01", b"0500000017")])}))
    assert isinstance(inquiry, BillInquiry) and inquiry.account == "0500000017"
    assert inquiry.kiosk_key == "GS000001|1123|000007"


def test_a_payment_is_read_with_its_card_and_the_months_it_names() -> None:
    request = DIALECT.read(frame(PAYMENT))
    assert isinstance(request, PaymentRequest)
    assert (request.amount, request.quote, request.receivables) == (12345, "q1", ("R1", "R2"))
    assert (request.card.pan.reveal(), request.card.expiry) == (PAN, "3012"), "taken from the track of a swipe"
    assert request.mac == b"01234567"
    assert request.mab == frame(PAYMENT)[11:-8]


def test_no_request_shows_its_card_when_it_is_printed() -> None:
    request = DIALECT.read(frame(PAYMENT))
    assert isinstance(request, PaymentRequest)
    shown = repr(request.card)
    assert PAN not in shown and "622200******0017" in shown
    assert "30121010000000000" not in shown


def test_a_result_inquiry_names_the_key_it_asks_for() -> None:
    asked = [("DF0C", b"000005"), ("DF0D", b"1122")]
    request = DIALECT.read(frame(COMMON | {60: "75000001000", 48: tlv.encode(asked)}))
    assert isinstance(request, ResultInquiry) and request.asked_key == "GS000001|1122|000005"


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({4: None}, "field 4"),
        ({22: None}, "field 22"),
        ({35: None}, "field 2"),
        ({48: tlv.encode([("DF01", b"0500000017")])}, "DF02"),
        ({48: tlv.encode([("DF01", b"1"), ("DF02", b"q"), ("DF11", b"R"), ("DF11", b"R")])}, "twice"),
        ({48: tlv.encode([("DF01", b"1"), ("DF02", b"q")] + [("DF11", b"%02d" % n) for n in range(25)])}, "more than"),
        ({64: None}, "field 64"),
        ({13: None}, "field 13"),
    ],
)
def test_what_is_wrong_with_a_payment_is_named(changed: dict[int, Any], named: str) -> None:
    with pytest.raises(FormatError, match=named) as caught:
        DIALECT.read(frame(PAYMENT | changed))
    assert PAN not in str(caught.value)


def test_bytes_that_are_no_message_of_ours_are_unreadable() -> None:
    for data in (b"", b"\x00", HEADER, HEADER + b"\x02\x10" + bytes(8), frame(PAYMENT)[:-1], frame(PAYMENT) + b"\x00"):
        with pytest.raises(BadRequestError) as caught:
            DIALECT.read(data)
        assert caught.value.code == "unreadable" and PAN not in str(caught.value)


def test_an_answer_swaps_the_tpdu_and_echoes_what_the_kiosk_matches_by() -> None:
    request = DIALECT.read(frame(COMMON | {48: tlv.encode([("DF01", b"1")])}))
    assert isinstance(request.reply, ReplyTo)
    answer = SPEC.decode(DIALECT.refusal(request.reply, "no_arrears", NOW))
    assert answer.header == bytes.fromhex("6012340003603100000000")
    assert (answer.mti, answer[11], answer[13], answer[12], answer[39]) == ("0210", "000007", "1123", "101112", "E2")
    tags = dict(tlv.decode(answer[48]))
    assert tags["DF0A"] == b"no_arrears" and tags["DF07"].decode("gbk") == kiosk_codes()["no_arrears"].text


def test_an_answer_without_a_mac_has_no_field_64() -> None:
    request = DIALECT.read(frame(COMMON | {48: tlv.encode([("DF01", b"1")])}))
    assert isinstance(request.reply, ReplyTo)
    assert 64 not in SPEC.decode(DIALECT.refusal(request.reply, "mac_wrong", NOW, mac=False))


def quote(months: int, name: str = "张三") -> Quote:
    rows = tuple(
        Receivable(f"R{n:023d}", f"2026{n % 12 + 1:02d}", 10**9, 10**8, 10**9 + 10**8, 99999, 3) for n in range(months)
    )
    return Quote("q1", "0500000017", name, "北京市" * 40, rows, "20261123", 0.0)


def test_a_quote_carries_its_months_and_their_sum() -> None:
    request = DIALECT.read(frame(COMMON | {48: tlv.encode([("DF01", b"1")])}))
    assert isinstance(request.reply, ReplyTo)
    answer = SPEC.decode(DIALECT.quote(request.reply, quote(3), NOW))
    tags = tlv.decode(answer[48])
    months = [dict(tlv.decode(value)) for tag, value in tags if tag == "E1"]
    assert [month["DF11"] for month in months] == [f"R{n:023d}".encode() for n in range(3)]
    assert int(answer[4]) == int(dict(tags)["DF05"]) == 3 * (10**9 + 10**8)
    assert dict(tags)["DF08"] == b"0"


def test_months_that_do_not_fit_are_announced_not_cut_in_half() -> None:
    request = DIALECT.read(frame(COMMON | {48: tlv.encode([("DF01", b"1")])}))
    assert isinstance(request.reply, ReplyTo)
    answer = SPEC.decode(DIALECT.quote(request.reply, quote(24), NOW))
    tags = tlv.decode(answer[48])
    assert len(answer.raw(48)) <= PRIVATE_MAX
    assert dict(tags)["DF08"] == b"1" and 0 < sum(tag == "E1" for tag, _ in tags) < 24


def test_a_name_outside_gbk_does_not_break_the_answer() -> None:
    request = DIALECT.read(frame(COMMON | {48: tlv.encode([("DF01", b"1")])}))
    assert isinstance(request.reply, ReplyTo)
    answer = SPEC.decode(DIALECT.quote(request.reply, quote(1, "𠮷田" + "张" * 60), NOW))
    name = dict(tlv.decode(answer[48]))["DF03"]
    assert len(name) <= 64 and name.decode("gbk").startswith("?田")


def test_the_fullest_month_of_an_e_bill_fits_and_what_does_not_is_asked_for_again() -> None:
    asked = frame(COMMON | {60: "74000001000", 48: tlv.encode([("DF01", b"9" * 20), ("DF12", b"202612")])})
    request = DIALECT.read(asked)
    assert isinstance(request, EBillInquiry) and (request.newest, request.months) == ("202612", 6)
    reply = request.reply
    assert isinstance(reply, ReplyTo)
    most = 10**12 - 1
    meters = tuple(Meter("M" * 20, "1" * 15, "2" * 15, most) for _ in range(E_BILL_METERS_MAX))
    steps = tuple(Step(99, most, "1" * 15, most) for _ in range(E_BILL_STEPS_MAX))
    months = [
        EBill(period, "20261225", most, most, most, most, most, "20261225101010", meters, steps, cut=True)
        for period in ("202612", "202611")
    ]
    answer = SPEC.decode(DIALECT.e_bills(reply, "9" * 20, months, "202610", NOW))
    assert len(answer.raw(48)) <= PRIVATE_MAX
    tags = tlv.decode(answer.raw(48))
    (month,) = tlv.every(tags, "E2")
    assert ("DF12", b"202612") in tlv.decode(month) and ("DF08", b"1") in tlv.decode(month)
    assert ("DF08", b"1") in tags and ("DF24", b"202611") in tags, "the second one is the first of the next page"
    last = SPEC.decode(DIALECT.e_bills(reply, "9" * 20, months[:1], "", NOW))
    assert ("DF08", b"0") in tlv.decode(last.raw(48))
