"""The compiled codec: what it refuses, and with which words."""

from typing import Any

import pytest

import iso8583
from iso8583 import specfile

LONG_FIELDS = "".join(f'[field.{number}]\nlength_max = 60000\nlength_prefix = "ascii5"\n' for number in (120, 121))

DECODE_ERRORS = [
    ("02", "mti at byte 0", "the message ends inside the MTI [truncated]"),
    ("0200 70", "bitmap at byte 2", "the message ends inside the bitmap [truncated]"),
    ("0200 4000000000000000 16 6222", "field 2 at byte 10", "the message ends inside the field [truncated]"),
    ("0200 0000000000000001", "field 64 at byte 10", "the message ends inside the field [truncated]"),
    (
        "0200 4000000000000000 20 62220000000000000017",
        "field 2 at byte 10",
        "length prefix above the maximum of 19 [length]",
    ),
    ("0200 4000000000000000 04 6222", "field 2 at byte 10", "length prefix below the minimum of 8 [length]"),
    ("0200 4000000000000000 1A 6222", "field 2 at byte 10", "length prefix is not made of BCD digits [prefix]"),
    (
        "0200 1000000000000000 00000000125C",
        "field 4 at byte 10",
        "expected digits, got a nibble above 9 at byte 15 [content]",
    ),
    (
        "0200 0000000002000000 00FF",
        "field 39 at byte 10",
        "expected letters, digits or spaces, got a control character at byte 10 [content]",
    ),
    (
        "0200 0000000000000002 0003 43D620",
        "field 63 at byte 10",
        "expected GBK text, got something else at byte 13 [text]",
    ),
    (
        "0200 0000000000000200 0003 9F2609",
        "field 55 at byte 10",
        "expected BER-TLV objects, got something else at byte 12 [tlv]",
    ),
    (
        "0200 0800000000000000",
        "field 5 at byte 2",
        "bit 5 of the bitmap is set, but spec unionpay_pos does not define the field [undefined]",
    ),
    (
        "0200 8000000000000000",
        "bitmap at byte 2",
        "bit 1 is set, but spec unionpay_pos has 64 fields and no secondary bitmap [bitmap]",
    ),
    ("02A0 0000000000000000", "mti at byte 0", "expected four digits [mti]"),
    ("0200 0000000000000000 00", "message at byte 10", "1 byte is left after the last field [trailing]"),
    ("0200 0000000000000000 0000", "message at byte 10", "2 bytes are left after the last field [trailing]"),
]


@pytest.mark.parametrize(("data", "place", "detail"), DECODE_ERRORS, ids=lambda value: value[:40])
def test_bad_bytes_are_refused_with_what_where_and_code(spec: iso8583.Spec, data: str, place: str, detail: str) -> None:
    with pytest.raises(iso8583.DecodeError) as caught:
        spec.decode(bytes.fromhex(data))
    # A likely cause may stand between the two: see test_hints.py.
    assert str(caught.value).startswith(f"{place}: {detail.partition(' [')[0]}")
    assert f"{place}: {caught.value.detail} [{caught.value.code}]" == f"{place}: {detail}"
    assert caught.value.expected and caught.value.got


def test_a_hex_bitmap_must_be_hexadecimal() -> None:
    with pytest.raises(iso8583.DecodeError) as caught:
        iso8583.load("iso8583_1987_ascii").decode(b"0800" + b"002000000000000G")
    assert caught.value.detail == "expected hexadecimal characters, got a letter at byte 19"
    assert (caught.value.code, caught.value.path, caught.value.offset) == ("bitmap", "bitmap", 4)


def test_an_oversized_message_is_refused_as_such(spec: iso8583.Spec) -> None:
    with pytest.raises(iso8583.DecodeError) as caught:
        spec.decode(bytes(70000))
    assert str(caught.value) == "message at byte 0: larger than 65535 bytes [size]"


ENCODE_ERRORS: list[tuple[dict[Any, Any], str]] = [
    ({11: "000001"}, "mti: give the MTI as field 0 [missing]"),
    ({0: "020"}, "mti: expected four digits [mti]"),
    ({0: "02X0"}, "mti: expected four digits [mti]"),
    ({0: 200}, "mti: expected str, got int [type]"),
    ({0: "0200", 4: "1250"}, "field 4: expected 12 digits, got 4 [length]"),
    ({0: "0200", 4: 10**12}, "field 4: expected 12 digits, got 13 [length]"),
    ({0: "0200", 4: -1}, "field 4: expected digits, got a negative number [content]"),
    ({0: "0200", 4: 12.5}, "field 4: expected str, got float [type]"),
    ({0: "0200", 4: True}, "field 4: expected str, got bool [type]"),
    ({0: "0200", 4: "00000000125x"}, "field 4: expected digits, found something else at position 11 [content]"),
    ({0: "0200", 4: "００００００００１２５０"}, "field 4: expected digits [content]"),
    ({0: "0200", 32: 1234567}, "field 32: expected str; an int has no leading zeros and the length varies [type]"),
    ({0: "0200", 41: 10000001}, "field 41: expected str; only numeric fields take an int [type]"),
    ({0: "0200", 41: "1"}, "field 41: expected 8 bytes, got 1 [length]"),
    ({0: "0200", 41: b"10000001"}, "field 41: expected str, got bytes [type]"),
    ({0: "0200", 2: "1" * 20}, "field 2: expected 8 to 19 digits, got 20 [length]"),
    ({0: "0200", 52: "0102030405060708"}, "field 52: expected bytes, got str [type]"),
    ({0: "0200", 52: b"1"}, "field 52: expected 8 bytes, got 1 [length]"),
    ({0: "0200", 55: b"\x9f"}, "field 55: expected BER-TLV objects, got something else at position 0 [tlv]"),
    (
        {0: "0200", 55: b"\x82\x81\x01\x00"},
        "field 55: expected the shortest form of each length, got a longer one at position 0 [canonical]",
    ),
    (
        {0: "0200", 55: b"\x82\x00\x95\x00\x82\x00"},
        "field 55: expected each tag once, got a second one at position 4 [duplicate]",
    ),
    ({0: "0200", 55: "9F"}, "field 55: expected bytes, or a tree of sub-fields, got str [type]"),
    (
        {0: "0200", 55: {"9F": b""}},
        "field 55.9F: expected a tag of this layout, or a name in the spec, got neither [tlv]",
    ),
    ({0: "0200", 55: {"9F26": "00"}}, "field 55.9F26: expected bytes, got str [type]"),
    ({0: "0200", 63: "🙂"}, "field 63: expected GBK text, got something else at position 0 [text]"),
    ({0: "0200", 63: "\ud800"}, "field 63: a character is not in GBK [text]"),
    ({0: "0200", 63: "\n"}, "field 63: expected GBK text, got something else at position 0 [text]"),
    ({0: "0200", 5: "1"}, "field 5: not defined in spec unionpay_pos [undefined]"),
    ({0: "0200", 1: "1"}, "field 1: not defined in spec unionpay_pos [undefined]"),
    ({0: "0200", "amonut": 1}, "amonut: not defined in spec unionpay_pos; did you mean amount? [undefined]"),
    ({0: "0200", 4: 1, "amount": 1}, "field 4: given twice, by number and by name [duplicate]"),
]


@pytest.mark.parametrize(("values", "text"), ENCODE_ERRORS, ids=lambda value: str(value)[:60])
def test_bad_values_are_refused_with_what_where_and_code(spec: iso8583.Spec, values: dict[Any, Any], text: str) -> None:
    before = dict(values)
    with pytest.raises(iso8583.EncodeError) as caught:
        spec.encode(values)
    assert str(caught.value) == text
    assert text.endswith(f"[{caught.value.code}]")
    assert values == before


def test_a_header_is_as_long_as_the_link_says() -> None:
    spec = iso8583.load("unionpay_pos", header="tpdu+pos6")
    assert spec.encode({0: "0800"}, header=bytes(11)).startswith(bytes(11) + b"\x08\x00")
    for header, text in [
        (None, "header: expected 11 bytes in front of the MTI, got 0 [header]"),
        (bytes(5), "header: expected 11 bytes in front of the MTI, got 5 [header]"),
        ("6000", "header: expected bytes, got str [type]"),
    ]:
        with pytest.raises(iso8583.EncodeError) as caught:
            spec.encode({0: "0800"}, header=header)  # type: ignore[arg-type]
        assert str(caught.value) == text


def test_a_message_above_the_limit_cannot_be_built() -> None:
    spec = iso8583.load("iso8583_1987_ascii")
    big: dict[int, Any] = {0: "0200"} | dict.fromkeys([*range(56, 64), *range(105, 128)], "x" * 999)
    assert len(spec.encode(big)) > 30000
    with pytest.raises(iso8583.EncodeError) as caught:
        spec.encode(big | {62: "x" * 70000})
    assert str(caught.value) == "field 62: expected 0 to 999 bytes, got more than 65535 [length]"
    long = iso8583.Spec(specfile.loads(f'name = "long"\nextends = "iso8583_1987_ascii"\n{LONG_FIELDS}'))
    assert len(long.encode({0: "0200", 120: "x" * 60000})) > 60000
    with pytest.raises(iso8583.EncodeError) as caught:
        long.encode({0: "0200", 120: "x" * 60000, 121: "x" * 60000})
    assert str(caught.value) == "message: larger than 65535 bytes [size]"


VARIANT = """
[mti.0210]
remove = [38]
[reply]
0200 = [11, 38]
"""


def test_another_type_of_message_may_not_lose_a_field() -> None:
    """A patch that changes the MTI names what the new type does not have; it is left out only when told so."""
    spec = iso8583.Spec(specfile.loads(f'name = "two"\nextends = "iso8583_1987_ascii"\n{VARIANT}'))
    message = spec.decode(spec.encode({0: "0200", 11: 7, 38: "ABC123"}))
    with pytest.raises(iso8583.EncodeError) as caught:
        message.patched({0: "0210"})
    assert str(caught.value) == "field 38: messages 0210 of spec two do not have it [undefined]"
    for key in (38, "38"):
        assert spec.decode(message.patched({0: "0210", key: None})).to_dict() == {0: "0210", 11: "000007"}
    with pytest.raises(iso8583.EncodeError, match=r"^field 38: messages 0210 of spec two do not have it"):
        message.patched({0: "0210", 38: "ABC123"})
    with pytest.raises(iso8583.EncodeError, match=r"^field 38: messages 0210 of spec two do not have it"):
        spec.encode({0: "0210", 38: None})
    assert spec.decode(message.reply({})).to_dict() == {0: "0210", 11: "000007"}


def test_a_number_that_is_too_long_is_refused_however_long(spec: iso8583.Spec) -> None:
    for number, got in ((10**12, "13"), (10**14, "15"), (2**64, "20"), (10**6000, "many more")):
        with pytest.raises(iso8583.EncodeError) as caught:
            spec.encode({0: "0200", 4: number})
        assert str(caught.value) == f"field 4: expected 12 digits, got {got} [length]"
    assert spec.decode(spec.encode({0: "0200", 4: 10**12 - 1}))[4] == "9" * 12
    with pytest.raises(iso8583.EncodeError, match="negative"):
        spec.encode({0: "0200", 4: -1})
    long = iso8583.load("iso8583_1987_ascii")
    with pytest.raises(iso8583.EncodeError, match="negative"):
        long.encode({0: "0420", 90: -1})  # 42 digits: room for any number of 64 bits
    with pytest.raises(iso8583.EncodeError, match="expected str"):
        spec.encode({0: "0200", 4: True})


def test_numbers_get_their_zeros_and_names_work_too(spec: iso8583.Spec) -> None:
    data = spec.encode({"mti": "0200", "amount": 1250, 11: 7, 22: 21, 25: 0})
    assert spec.decode(data).to_dict() == {0: "0200", 4: "000000001250", 11: "000007", 22: "021", 25: "00"}


def test_every_numeric_field_takes_an_int_in_one_message() -> None:
    """Together they have more digits than fit beside a message on the stack."""
    spec = iso8583.load("iso8583_1987_ascii")
    numeric = {number: field for number, field in spec.fields.items() if field.content == "n" and field.fixed}
    assert sum(field.length_max for field in numeric.values()) > 256
    values = {number: number % 10**field.length_max for number, field in numeric.items()}
    decoded = spec.decode(spec.encode({0: "0200"} | values)).to_dict()
    assert decoded == {0: "0200"} | {
        number: str(value).zfill(numeric[number].length_max) for number, value in sorted(values.items())
    }


def test_none_leaves_a_field_out(spec: iso8583.Spec) -> None:
    assert spec.encode({0: "0200", 38: None}) == spec.encode({0: "0200"})


def test_encoding_does_not_change_what_it_is_given(spec: iso8583.Spec, purchase_values: dict[int, Any]) -> None:
    before = dict(purchase_values)
    spec.encode(purchase_values)
    assert purchase_values == before


def test_equals_and_d_are_the_same_separator(spec: iso8583.Spec) -> None:
    with_d = spec.encode({0: "0200", 35: "6222000000000017D3012"})
    assert with_d == spec.encode({0: "0200", 35: "6222000000000017=3012"})
    assert spec.decode(with_d)[35] == "6222000000000017=3012"


def test_an_encrypted_track_keeps_its_letters(spec: iso8583.Spec) -> None:
    secret = "6222000=0A1B2C3E4F5A6B7C"
    data = spec.encode({0: "0200", 35: secret, 53: "2610000000000000"})
    assert spec.decode(data)["track2"] == secret
    assert spec.decode(spec.decode(data).patched({11: "000001"}))["track2"] == secret


@pytest.mark.parametrize(
    "track", ["6222000=0A1B2C3E4F5A6B7C", "", "6222000000000017", "6222=3012=1", "=3012", "1" * 20 + "="]
)
def test_what_is_no_track_and_not_said_to_be_encrypted_is_refused(spec: iso8583.Spec, track: str) -> None:
    with pytest.raises(iso8583.EncodeError) as encoding:
        spec.encode({0: "0200", 35: track, 53: "2600000000000000"})
    assert (encoding.value.code, encoding.value.field) == ("track", "35")
    encrypted = spec.encode({0: "0200", 35: track, 53: "2610000000000000"})
    with pytest.raises(iso8583.DecodeError) as decoding:
        spec.decode(encrypted.replace(bytes.fromhex("2610000000000000"), bytes.fromhex("2600000000000000")))
    assert (decoding.value.code, decoding.value.field, decoding.value.offset) == ("track", "35", 10)


def test_specs_do_not_share_state(purchase: bytes) -> None:
    pos, kiosk = iso8583.load("unionpay_pos"), iso8583.load("kiosk")
    digits = pos.encode({0: "0500", 48: "0000"})
    objects = kiosk.encode({0: "0200", 48: {"C1": b"x"}})
    assert pos.decode(digits)[48] == "0000"
    assert kiosk.decode(objects)[48] == b"\xc1\x01x"
    with pytest.raises(iso8583.DecodeError):
        kiosk.decode(digits)
    assert pos.decode(purchase)[4] == kiosk.decode(purchase)[4]


def test_empty_variable_fields_are_present_and_empty(spec: iso8583.Spec) -> None:
    values = {0: "0200", 32: "", 36: "", 44: "", 48: "", 55: b"", 62: b""}
    data = spec.encode(values)
    assert spec.decode(data).to_dict() == values


def test_a_number_field_that_counts_bytes_needs_whole_bytes(tmp_path: Any) -> None:
    path = tmp_path / "bytes.toml"
    path.write_text(
        'name = "bytes"\nextends = "unionpay_pos"\n'
        '[field.32]\nlength_max = 6\nlength_prefix = "bcd2"\nlength_unit = "bytes"\n',
        encoding="utf-8",
    )
    spec = iso8583.load(path)
    data = spec.encode({0: "0200", 32: "01234567"})
    assert data[10:] == bytes.fromhex("0401234567")
    assert spec.decode(data)[32] == "01234567"
    with pytest.raises(iso8583.EncodeError) as caught:
        spec.encode({0: "0200", 32: "123"})
    assert str(caught.value) == "field 32: expected 0 to 6 bytes of two digits each, got 3 digits [length]"


def test_a_strict_pad_must_be_what_the_spec_says(tmp_path: Any) -> None:
    path = tmp_path / "strict.toml"
    path.write_text('name = "strict"\nextends = "unionpay_pos"\n[field.22]\npad_strict = true\n', encoding="utf-8")
    with pytest.raises(iso8583.DecodeError) as caught:
        iso8583.load(path).decode(bytes.fromhex("0200 0000040000000000 021F"))
    assert str(caught.value) == "field 22 at byte 10: expected pad nibble 0, got another at byte 11 [pad]"


@pytest.mark.parametrize("header", ["none", "tpdu+pos6"])
def test_a_lenient_reader_keeps_the_mti_in_front_of_a_broken_bitmap(header: str) -> None:
    front = bytes.fromhex("6000030000603100123456") if header != "none" else b""
    for name, start in (("unionpay_pos", b"\x02\x00"), ("iso8583_1987_ascii", b"0200")):
        spec = iso8583.load(name, header=header)
        message = spec.decode(front + start + b"\x12", strict=False)
        assert [finding.path for finding in message.findings] == ["bitmap"]
        assert message.to_dict() == {0: "0200"}
        assert message.span(0) == (len(front), len(start))
        assert message.raw(0) == start
        assert "0200" in repr(message)
