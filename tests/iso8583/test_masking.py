"""Nobody sees card data who did not ask for it."""

import json
import traceback
from typing import Any

import pytest

import iso8583
from iso8583 import masking
from iso8583.cli import main

PAN = "6222987654321097"


def assert_nothing_leaks(text: str) -> None:
    # The PAN itself, its middle, and the other secrets of the fixture in text and in hexadecimal.
    for secret in (
        PAN,
        PAN[6:12],
        "3012201",
        "98765432",
        "0102030405060708",
        "41424344",
        "ABCDEF01" + "\n",
        f"key {PAN}",
    ):
        assert secret not in text, secret


def test_repr_shows_first_six_and_last_four(spec: iso8583.Spec, purchase: bytes) -> None:
    text = repr(spec.decode(purchase))
    assert "2=622298******1097" in text
    assert "4=000000001250" in text
    assert "9F26=12345678ABCDEF01 5A=<hidden, 8 bytes> 57=<hidden, 18 bytes>" in text
    for number in (14, 35, 36, 52, 62, 64):
        assert f"{number}='<hidden" in text
    assert_nothing_leaks(text.replace("12345678ABCDEF01", ""))
    assert str(spec.decode(purchase)) == text


def test_repr_is_bounded(spec: iso8583.Spec) -> None:
    message = spec.decode(spec.encode({0: "0200", 55: {"9F10": bytes(200)}}))
    assert len(repr(message)) < 150


def test_exceptions_never_hold_data(spec: iso8583.Spec, purchase: bytes, purchase_values: dict[int, Any]) -> None:
    errors: list[Exception] = []
    for size in range(len(purchase)):
        with pytest.raises(iso8583.DecodeError) as caught:
            spec.decode(purchase[:size])
        errors.append(caught.value)
    for at in range(len(purchase)):
        damaged = bytearray(purchase)
        damaged[at] = 0xFF
        try:
            spec.decode(damaged)
        except iso8583.DecodeError as error:
            errors.append(error)
    for number in purchase_values:
        for wrong in (PAN * 5, PAN + "中", PAN + "🙂", PAN + "\ud800", PAN.encode(), [PAN], {PAN: 1}, float(PAN)):
            try:
                spec.encode({**purchase_values, number: wrong})
            except iso8583.EncodeError as error:
                errors.append(error)
    for key in (PAN, int(PAN)):
        with pytest.raises(iso8583.EncodeError) as misplaced:
            spec.encode({0: "0200", key: "1"})
        assert misplaced.value.field == "?"
        errors.append(misplaced.value)
    assert len(errors) > 400
    for fault in errors:
        shown = "".join(traceback.format_exception_only(fault)) + repr(fault) + repr(vars(fault)) + repr(fault.args)
        shown += repr(fault.__cause__) + repr(fault.__context__) + repr(vars(fault.__context__ or fault))
        assert_nothing_leaks(shown)


def test_the_command_masks_until_told_otherwise(purchase: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ([], ["--json"]):
        assert main(["decode", "--spec", "unionpay_pos", *option, purchase.hex()]) == 0
        captured = capsys.readouterr()
        assert_nothing_leaks((captured.out + captured.err).replace("12345678ABCDEF01", ""))
        assert "622298******1097" in captured.out
    assert main(["decode", "--spec", "unionpay_pos", "--unmask", purchase.hex()]) == 0
    assert PAN in capsys.readouterr().out
    assert main(["decode", "--spec", "unionpay_pos", purchase.hex()[:-2]]) == 2
    assert_nothing_leaks(capsys.readouterr().err)
    assert main(["encode", "--spec", "unionpay_pos", json.dumps({"0": "0200", "4": PAN})]) == 2
    assert_nothing_leaks(capsys.readouterr().err)


def test_every_bundled_spec_hides_what_must_be_hidden() -> None:
    expected = {
        "pan": "pan",
        "track2": "track",
        "track3": "track",
        "pin_block": "pin",
        "mac": "mac",
        "expiry": "expiry",
    }
    for name in ("unionpay_pos", "kiosk", "iso8583_1987_ascii"):
        spec = iso8583.load(name)
        for field, kind in expected.items():
            assert spec.field(field).sensitive == kind, (name, field)
        assert spec.field("icc_data").sensitive == "icc"


def test_a_message_masks_sub_field_by_sub_field() -> None:
    spec = iso8583.load("unionpay_pos")
    # A field whose kind is "key" holds in some messages what everybody may see.
    keys = spec.decode(spec.encode({0: "0810", 60: "00000001003", 62: b"K" * 24}))
    assert keys.masked(62) == "<hidden, 24 bytes>"
    status = spec.decode(spec.encode({0: "0830", 60: "00000001372", 62: b"1" + bytes.fromhex("9F2201A5")}))
    assert status.masked(62) == "319F2201A5"
    # A field that nobody marked may hold a PAN.
    batch = spec.decode(spec.encode({0: "0320", 48: f"01000000010000{PAN}000000001250", 60: "00000001201"}))
    assert batch.masked(48).startswith("<hidden, ") and "48='<hidden, " in repr(batch)
    # A tag that nobody knows may be anything, and a template that holds one of them.
    icc = bytes.fromhex(f"9F36020001DF7E08{PAN}710A9F180400000001860101")
    message = spec.decode(spec.encode({0: "0210", 39: "00", 55: icc}))
    assert message.masked(55) == "9F36=0001 DF7E=<hidden, 8 bytes> 71=9F180400000001860101"
    assert message.masked("icc_data") == message.masked(55)
    with pytest.raises(KeyError):
        message.masked(2)


def test_what_cannot_be_read_is_hidden_as_a_whole(spec: iso8583.Spec) -> None:
    # Sound as a field, but the template holds less than it says: its neighbours may not be what they seem either.
    message = spec.decode(spec.encode({0: "0210", 39: "00", 55: bytes.fromhex("9F3602000171039F1804")}))
    assert message.sound
    with pytest.raises(iso8583.DecodeError):
        message.to_dict(nested=True)
    assert message.masked(55) == f"<hidden, {len(message[55])} bytes>"


def test_the_kiosk_field_48_shows_tags_only() -> None:
    spec = iso8583.load("kiosk")
    message = spec.decode(spec.encode({0: "0200", 48: {"C1": b"customer1"}}))
    assert message.masked(48) == "C1=<hidden, 9 bytes>"


@pytest.mark.parametrize(
    ("pan", "shown"),
    [
        (PAN, "622298******1097"),
        ("6222020000000000018", "622202*********0018"),
        ("6222000000001", "622200***0001"),
        ("622200000000", "*" * 12),
        ("", ""),
    ],
)
def test_a_pan_shows_at_most_ten_digits(pan: str, shown: str) -> None:
    assert masking.mask_pan(pan) == shown
    assert iso8583.mask_pan(pan) == shown


def test_values_without_a_kind_are_shown_and_others_are_not() -> None:
    assert masking.mask_text(None, "abc") == "abc"
    assert masking.mask_text("track", "abc") == "<hidden, 3 characters>"
    assert masking.mask_bytes(None, b"\x01") == "01"
    assert masking.mask_text("public", "abc") == "abc"
    assert masking.mask_bytes("pin", b"\x01") == "<hidden, 1 byte>"
