"""UnionPay POS messages both ways, field by field as the facts say. Test PANs only; written by hand."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

import iso8583
from iso8583 import tlv
from switch.dialects.codes import CardCodes, kiosk_codes
from switch.dialects.unionpay import NO_MAC, UnionPayDialect, mab, with_mac
from switch.errors import BadRequestError
from switch.limits import SHORT
from switch.machines.payment import HostProfile, Payment
from switch.machines.payment_table import Input
from switch.model.batch import BatchDetail
from switch.model.payment import Card, KeptCard, Posting
from switch.model.secret import ChipData, Pan, PinBlock, Track

TPDU, HEADER = bytes.fromhex("6000030000"), bytes.fromhex("602200000000")
DIALECT = UnionPayDialect(TPDU, HEADER)
SPEC = iso8583.load("unionpay_pos", header="tpdu+pos6")
PAN = "6222000000000017"
TRACK2 = f"{PAN}=30121010000000000"
CHIP = tlv.encode(
    [
        ("9F26", bytes(8)),
        ("9F10", bytes.fromhex("07010103A00000010A01")),
        ("9F36", b"\x00\x2a"),
        ("95", bytes.fromhex("0080048000")),
        ("5A", bytes.fromhex(PAN)),
        ("9C", b"\x00"),
        ("9F1E", b"KIOSK001"),
        ("DF31", bytes(5)),
    ]
)
CARD = Card(
    Pan(PAN),
    "3012",
    "001",
    "051",
    "06",
    Track(TRACK2),
    PinBlock(b"\x01" * 8),
    "2600000000000000",
    ChipData(CHIP),
)


def payment() -> Payment:
    return Payment(
        payment_id=77,
        opened_on=20261123,
        terminal_id="GS000001",
        merchant_id="898110049000001",
        kiosk_date="1123",
        kiosk_serial="000009",
        digest="d",
        account="0500000017",
        amount=12345,
        batch_number="000002",
        stan="000345",
        settlement_day=20261123,
        marketing_day="20261123",
        postings=[Posting("R1", "202601", 12000, 345, 12345, "7701")],
        card_token="t",
        card_masked=CARD.masked,
        entry_mode="051",
        original_60="22000002000",
        times=SHORT,
        profile=HostProfile(),
        started_at=0.0,
        rrn="112233445566",
        authorization_code="A1B2C3",
    )


def test_a_purchase_carries_the_card_once_and_our_own_trace_number() -> None:
    frame, _ = DIALECT.purchase(payment(), CARD)
    assert frame[:11] == TPDU + HEADER
    fields = SPEC.decode(frame).to_dict()
    assert (fields[0], fields[3], fields[4], fields[11]) == ("0200", "000000", "000000012345", "000345")
    assert (fields[2], fields[22], fields[23], fields[26], fields[35]) == (PAN, "051", "001", "06", TRACK2)
    assert SPEC.decode(frame).raw(55) == CHIP
    assert (fields[52], fields[60], fields[64]) == (b"\x01" * 8, "22000002000", NO_MAC)


def test_a_reversal_repeats_the_original_without_track_or_pin() -> None:
    frame, _ = DIALECT.reversal(payment(), DIALECT.kept(CARD), "98")
    fields = SPEC.decode(frame).to_dict()
    assert (fields[0], fields[39], fields[11], fields[60]) == ("0400", "98", "000345", "22000002000")
    assert (fields[2], fields[14], fields[23]) == (PAN, "3012", "001")
    assert (fields[37], fields[38]) == ("112233445566", "A1B2C3")
    assert not {26, 35, 36, 52, 53} & set(fields)


def test_a_reversal_of_a_chip_card_carries_the_five_tags_that_it_needs_and_no_other() -> None:
    frame, safe = DIALECT.reversal(payment(), DIALECT.kept(CARD), "98")
    found = tlv.decode(SPEC.decode(frame).raw(55))
    assert [tag for tag, _ in found] == ["9F10", "9F36", "95", "9F1E", "DF31"]
    assert dict(found) == {tag: value for tag, value in tlv.decode(CHIP) if tag in dict(found)}
    assert 55 not in SPEC.decode(safe)


@pytest.mark.parametrize("chip", [None, b"", b"\x9f", b"\x9c\x01\x00", bytes.fromhex("5A0862220000")])
def test_without_such_tags_a_reversal_has_no_chip_data(chip: bytes | None) -> None:
    card = replace(CARD, icc_data=None if chip is None else ChipData(chip))
    frame, _ = DIALECT.reversal(payment(), DIALECT.kept(card), "98")
    assert 55 not in SPEC.decode(frame)


@pytest.mark.parametrize("card", [CARD, replace(CARD, expiry=None, sequence_number=None, icc_data=None)])
def test_what_is_kept_comes_back_from_its_bytes(card: Card) -> None:
    kept = DIALECT.kept(card)
    assert KeptCard.from_bytes(kept.to_bytes()) == kept
    assert TRACK2.encode() not in kept.to_bytes() and b"5a08" not in kept.to_bytes()


def test_a_card_sealed_by_the_version_before_is_still_read() -> None:
    kept = KeptCard.from_bytes(b'{"pan":"6222000000000017","expiry":"3012"}')
    assert kept == KeptCard(Pan(PAN), "3012", None, None)


def test_the_journals_copies_hold_no_card_data() -> None:
    for _, safe in (DIALECT.purchase(payment(), CARD), DIALECT.reversal(payment(), DIALECT.kept(CARD), "98")):
        assert not {2, 14, 35, 52, 53, 55, 64} & set(SPEC.decode(safe).to_dict())
        assert PAN.encode() not in safe and bytes.fromhex(PAN) not in safe


def test_the_mac_covers_the_message_type_up_to_field_63() -> None:
    frame, _ = DIALECT.purchase(payment(), CARD)
    assert mab(frame) == SPEC.decode(frame).mab()
    signed = with_mac(frame, b"8456B1CD")
    assert signed[:-8] == frame[:-8] and SPEC.decode(signed)[64] == b"8456B1CD"


def answer(**changed: Any) -> bytes:
    fields: dict[int, Any] = {
        0: "0210",
        3: "000000",
        4: 12345,
        11: "000345",
        12: "101112",
        13: "1123",
        15: "1124",
        25: "00",
        37: "112233445566",
        39: "00",
        41: "GS000001",
        42: "898110049000001",
        49: "156",
        60: "22000002000",
        64: b"ABCDEF01",
    }
    fields |= {int(name[1:]): value for name, value in changed.items()}
    return SPEC.encode({number: value for number, value in fields.items() if value is not None}, header=TPDU + HEADER)


def test_an_answer_is_matched_by_terminal_batch_and_trace_number() -> None:
    found = DIALECT.read(answer())
    assert found.key == "purchase|GS000001|000002|000345"
    assert (found.response_code, found.amount, found.rrn, found.settlement_date) == (
        "00",
        12345,
        "112233445566",
        "1124",
    )
    assert found.mac == b"ABCDEF01" and found.mab == mab(answer())


@pytest.mark.parametrize("tags", ["91", "71", "72", "8A", "9F36"])
def test_the_issuers_words_to_the_chip_are_taken_whole_and_in_part(tags: str) -> None:
    data = tlv.encode([(tags, bytes(8))])
    found = DIALECT.read(answer(f55=data)).icc_data
    assert found is not None and found.reveal() == data


def test_an_answer_whose_chip_data_is_broken_is_no_answer() -> None:
    """As with any other broken field: it is taken for silence, and what it may have said is found out."""
    data = tlv.encode([("91", bytes(8))])
    broken = answer(f55=data).replace(data, b"\x9f" + bytes(8) + b"\x9f")
    with pytest.raises(BadRequestError, match="field 55"):
        DIALECT.read(broken)


@pytest.mark.parametrize("data", [b"", tlv.encode([("72", bytes(510))]), None])
def test_nothing_or_too_much_for_a_chip_is_left_out(data: bytes | None) -> None:
    assert DIALECT.read(answer(f55=data)).icc_data is None


@pytest.mark.parametrize(("digit", "wish"), [(0, ""), (3, "3"), (4, "4"), (9, "9"), (0xA, ""), (0xC, "c"), (0xF, "")])
def test_what_the_acquirer_wants_stands_in_the_header(digit: int, wish: str) -> None:
    frame = bytearray(answer())
    frame[7] = frame[7] & 0xF0 | digit
    assert DIALECT.read(bytes(frame)).wants == wish


def test_an_answer_without_mac_or_code_says_so() -> None:
    found = DIALECT.read(answer(f64=None, f39=None, f4=None))
    assert found.mac is None and found.response_code == "" and found.amount == -1


def test_what_is_not_in_an_answer_is_empty() -> None:
    found = DIALECT.read(answer(f11=None, f15=None, f37=None, f60=None, f64=None))
    assert (found.stan, found.settlement_date, found.rrn, found.batch_number) == ("", "", "", "")
    assert (found.authorization_code, found.working_keys, found.mab) == ("", b"", b"")
    assert DIALECT.read(answer(f38="A1B2C3")).authorization_code == "A1B2C3"


def test_working_keys_come_with_a_sign_on_only() -> None:
    keys = bytes(range(40))
    signed_on = answer(f0="0810", f3=None, f4=None, f25=None, f49=None, f60="00000000003", f62=keys, f64=None)
    assert DIALECT.read(signed_on).working_keys == keys
    assert DIALECT.read(answer(f0="0810", f60="00000000003")).working_keys == b""
    assert DIALECT.read(answer(f62=keys)).working_keys == b""


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (answer(f0="0200"), "^MTI 0200 is not a response of this dialect "),
        (answer(f41=None), r"^field 41 \(terminal\) is missing "),
        (answer()[:-3], "^field 64 at byte"),
    ],
)
def test_what_is_no_answer_is_refused_with_the_place(data: bytes, said: str) -> None:
    with pytest.raises(BadRequestError, match=said):
        DIALECT.read(data)


@pytest.mark.parametrize(
    "data", [b"", b"\x00" * 20, answer()[:-3], answer() + b"0", answer(f0="0200"), answer(f41=None)]
)
def test_what_is_no_answer_of_ours_is_refused_without_card_data(data: bytes) -> None:
    with pytest.raises(BadRequestError) as caught:
        DIALECT.read(data)
    assert caught.value.code == "unreadable"


# ------------------------------------------------------------------------------------------------ codes
@pytest.mark.parametrize(
    ("code", "given"),
    [
        ("00", Input.CARD_APPROVED),
        ("11", Input.CARD_APPROVED),
        ("10", Input.CARD_PARTIAL),
        ("51", Input.CARD_DECLINED),
        ("A0", Input.CARD_DECLINED),
        ("68", Input.CARD_AMBIGUOUS),
        ("94", Input.CARD_AMBIGUOUS),
        ("98", Input.CARD_AMBIGUOUS),
        ("ZZ", Input.CARD_AMBIGUOUS),
        ("", Input.CARD_AMBIGUOUS),
    ],
)
def test_what_a_code_proves_about_a_purchase(code: str, given: Input) -> None:
    """Saga §5 and C4: a code that is not listed proves nothing."""
    assert CardCodes().purchase(code) is given


@pytest.mark.parametrize(
    ("code", "given"),
    [
        ("00", Input.REVERSAL_DONE),
        *((code, Input.REVERSAL_NOT_FOUND) for code in ("25", "12", "22", "01")),
        *((code, Input.REVERSAL_UNCLEAR) for code in ("94", "96", "40", "A0", "", "ZZ")),
    ],
)
def test_what_a_code_proves_about_a_reversal(code: str, given: Input) -> None:
    assert CardCodes().reversal(code) is given


def test_every_answer_of_the_machine_has_a_code_for_the_kiosk() -> None:
    import switch.machines.payment as machine

    # Members of enumerations are texts as well, and no answers.
    words = {value for name, value in vars(machine).items() if name.isupper() and type(value) is str}
    words -= {machine.U_RECEIVABLE, machine.SUSPENSE_ACCOUNT, machine.M_PAYABLE}
    assert words <= set(kiosk_codes())


def test_a_settlement_carries_its_totals_and_its_batch() -> None:
    frame = DIALECT.settlement("GS000001", "898440149000001", "000007", "000042", count=12, amount=345_678)
    message = SPEC.decode(frame)
    assert (message.mti, message[11], message[60], 64 in message) == ("0500", "000042", "00000007201", False)
    assert message[48] == "000000345678" + "012" + "0" * 16 + "0" * 31
    assert (
        SPEC.decode(DIALECT.settlement("GS000001", "898440149000001", "000007", "000042", count=1_234, amount=1))[48][
            12:15
        ]
        == "999"
    ), "more than the field has digits for"


@pytest.mark.parametrize(
    ("digits", "said"),
    [
        ("0" * 30 + "1" + "0" * 31, "1"),
        ("0" * 30 + "2" + "0" * 31, "2"),
        ("0" * 30 + "1" + "0" * 30 + "2", "2"),
        ("0" * 30 + "3" + "0" * 30 + "1", "3"),
        ("0" * 30 + "1", "1"),
        ("0" * 62, ""),
        ("0" * 30 + "4" + "0" * 31, ""),
        ("1" * 30, ""),
    ],
)
def test_what_a_host_says_of_totals(digits: str, said: str) -> None:
    """The worse half counts, and what is no such word ends no batch."""
    fields: dict[int, Any] = {0: "0510", 11: "000042", 41: "GS000001", 42: "898440149000001", 60: "00000007201"}
    answer = DIALECT.read(SPEC.encode(fields | {48: digits}, header=TPDU + HEADER))
    assert (answer.kind, answer.key, answer.settled) == ("settlement", "settlement|GS000001|000007|000042", said)


def test_details_of_an_upload_name_no_card() -> None:
    details = [BatchDetail("000001", 100), BatchDetail("000002", 250)]
    message = SPEC.decode(DIALECT.upload("GS000001", "898440149000001", "000007", "000043", details))
    assert message[48] == "02" + "00000001" + "0" * 20 + "000000000100" + "00000002" + "0" * 20 + "000000000250"
    end = SPEC.decode(DIALECT.upload_end("GS000001", "898440149000001", "000007", "000044", 2))
    assert (end.mti, end[48], end[60]) == ("0320", "0002", "00000007202")
