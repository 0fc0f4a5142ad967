"""Likely causes: a sender that does otherwise than the spec says, and what the error makes of it."""

import base64
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import iso8583
from iso8583 import hints, specfile
from iso8583.errors import DecodeError
from iso8583.message import Spec
from iso8583.spec import FieldSpec

PAN = "6222987654321097"
HEADER = bytes.fromhex("6000030000603100123456")
ASCII_VALUES: dict[int, Any] = {
    0: "0200", 2: PAN, 3: "000000", 4: 1250, 7: "1123101500", 11: "000007", 12: "101500", 13: "1123", 22: "021",
    25: "00", 32: "12345678", 35: f"{PAN}=3012201", 37: "123456789012", 41: "10000001", 42: "898100000000001",
    48: "hello", 49: "156", 52: bytes(range(8)), 102: "123456789",
}  # fmt: skip


def error_of(spec: Spec, data: bytes) -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        spec.decode(data)
    return caught.value


def hint_of(spec: Spec, data: bytes) -> str:
    return error_of(spec, data).hint


def sender(spec: Spec, change: Callable[[FieldSpec], FieldSpec]) -> Spec:
    """What somebody sends who has read the document otherwise."""
    fields = tuple(change(field) for field in spec.definition.fields)
    return Spec(replace(spec.definition, fields=fields, variants=()))


def plain(field: FieldSpec, **changes: Any) -> FieldSpec:
    return replace(field, layout=None, usages=(), sensitive=None, encrypted_when=None, **changes)


# ---- what stands around the message --------------------------------------------------------------


@pytest.mark.parametrize(
    ("front", "hint"),
    [
        (HEADER[:5], 'a TPDU seems to stand in front: read with header "tpdu"'),
        (HEADER, 'a TPDU and a 6-byte POS header seem to stand in front: read with header "tpdu+pos6"'),
        (HEADER[5:], 'a 6-byte POS header seems to stand in front: read with header "pos6"'),
        (b"LRI" + bytes(30), "33 bytes seem to stand in front of the MTI, not 0"),
    ],
)
def test_a_header_in_front_is_named(spec: Spec, purchase: bytes, front: bytes, hint: str) -> None:
    assert hint_of(spec, front + purchase) == hint


def test_a_cups_header_in_front_is_named(spec: Spec, purchase: bytes) -> None:
    front = b"\x2e\x01%04d" % (46 + len(purchase)) + b"00010000   49000000   " + bytes(18)
    assert (
        hint_of(spec, front + purchase) == 'a CUPS header (46 bytes) seems to stand in front: read with header "cups"'
    )


@pytest.mark.parametrize("kind", ["len2", "ascii4", "bcd2", "len4"])
def test_a_length_in_front_is_named(spec: Spec, purchase: bytes, kind: str) -> None:
    words = {"len2": "a 2-byte length", "ascii4": "a length of 4 ASCII digits", "bcd2": "a length of 4 BCD digits",
             "len4": "a 4-byte length"}[kind]  # fmt: skip
    assert hint_of(spec, iso8583.frame(purchase, kind)) == f"{words} seems to stand in front: cut frames with Framer"
    both = hint_of(spec, iso8583.frame(HEADER[:5] + purchase, kind))
    assert both == f'{words} and a TPDU seem to stand in front: cut frames with Framer, then read with header "tpdu"'


def test_a_frame_of_a_serial_line_is_named(spec: Spec, purchase: bytes) -> None:
    assert "serial line (STX, ETX, LRC)" in hint_of(spec, iso8583.frame(purchase, "serial"))


@pytest.mark.parametrize("header", ["tpdu", "tpdu+pos6", "cups"])
def test_a_missing_header_is_named(spec: Spec, purchase: bytes, header: str) -> None:
    hint = hint_of(spec.with_header(header), purchase)
    assert hint == f'nothing seems to stand in front of the MTI: read with header "none", not "{header}"'


def test_half_a_header_is_named(spec: Spec, purchase: bytes) -> None:
    hint = hint_of(spec.with_header("tpdu+pos6"), HEADER[:5] + purchase)
    assert hint == 'a TPDU seems to stand in front: read with header "tpdu"'


@pytest.mark.parametrize(
    ("words", "encode"),
    [
        ("hexadecimal", lambda data: data.hex().encode()),
        ("hexadecimal", lambda data: data.hex(" ", 16).upper().encode() + b"\n"),
        ("base64", base64.b64encode),
        ("base64", base64.encodebytes),
    ],
)
def test_text_that_stands_for_the_message_is_named(
    spec: Spec, purchase: bytes, words: str, encode: Callable[[bytes], bytes]
) -> None:
    assert hint_of(spec, encode(HEADER + purchase)) == f"the message is {words} text: turn it into bytes first"


def test_glued_messages_and_other_rests_are_named(spec: Spec, purchase: bytes) -> None:
    follows = "another message seems to follow: cut the stream with Framer"
    assert hint_of(spec, purchase + purchase) == follows
    assert hint_of(spec, purchase + iso8583.frame(purchase)) == follows
    assert hint_of(spec, purchase + purchase[:60]) == follows
    assert "a line end only" in hint_of(spec, purchase + b"\r\n")
    assert "zero bytes only" in hint_of(spec, purchase + bytes(40))
    assert hint_of(spec, purchase + b"\x7f\x01\xfe") == ""


def test_a_cut_message_is_named(spec: Spec, purchase: bytes) -> None:
    for cut in (60, 110, len(purchase) - 3):
        assert hint_of(spec, purchase[:cut]) == "the message seems to be cut off: is the end still in the stream?"
    # Half a length is no length of another form.
    sign_on = spec.encode({0: "0800", 11: "000001", 41: "10000001", 60: "00000001003"})
    half = sign_on[: spec.decode(sign_on).span(60)[0] + 1]
    assert hint_of(spec, half) == "the message seems to be cut off: is the end still in the stream?"
    # Nothing in the bytes tells that: no hint, but the usual causes.
    error = error_of(spec, purchase[:12])
    assert error.hint == ""
    assert hints.causes(spec, purchase[:12], error)[0].startswith("the message is cut off: ")


def test_the_total_of_a_header_tells_cut_and_glued(spec: Spec, purchase: bytes) -> None:
    cups = spec.with_header("cups")
    whole = cups.encode({0: "0800", 11: "000001", 41: "10000001", 42: "898100000000001", 60: "00000001003"},
                        header=b"\x2e\x01000000010000   49000000   " + bytes(18))  # fmt: skip
    assert hint_of(cups, whole[:-7]).startswith("the message seems to be cut off: 7 of the bytes")
    assert hint_of(cups, whole + whole) == "another message seems to follow: cut the stream with Framer"
    assert hint_of(cups, whole + b"12345") == "5 bytes follow that the header does not announce"


def test_nothing_is_named_as_such(spec: Spec) -> None:
    assert hint_of(spec, b"") == "there are no bytes"
    assert hint_of(spec, bytes(50)) == "there is nothing but zero bytes"


# ---- MTI and bitmap ------------------------------------------------------------------------------


def test_the_form_of_the_mti_is_told(spec: Spec, purchase: bytes) -> None:
    assert hint_of(spec, b"0200" + purchase[2:]) == "the MTI is ASCII, spec says BCD"
    assert hint_of(spec, b"\xf0\xf2\xf0\xf0" + purchase[2:]) == "the MTI is EBCDIC, spec says BCD"
    ascii_spec = iso8583.load("iso8583_1987_ascii")
    data = ascii_spec.encode(ASCII_VALUES)
    assert hint_of(ascii_spec, b"\x02\x00" + data[4:]) == "the MTI is BCD, spec says ASCII"


def test_the_form_of_the_bitmap_is_told(spec: Spec, purchase: bytes) -> None:
    in_hex = purchase[2:10].hex().encode()
    assert hint_of(spec, purchase[:2] + in_hex + purchase[10:]) == "looks like a hex bitmap, spec says binary"
    both = hint_of(spec, b"0200" + in_hex.upper() + purchase[10:])
    assert both == "the MTI is ASCII, spec says BCD; looks like a hex bitmap, spec says binary"
    ascii_spec = iso8583.load("iso8583_1987_ascii")
    data = ascii_spec.encode(ASCII_VALUES)
    in_binary = bytes.fromhex(data[4:36].decode())
    assert hint_of(ascii_spec, data[:4] + in_binary + data[36:]) == "looks like a binary bitmap, spec says hex"
    # Also when the rest is wrong too: sixteen hexadecimal characters are no accident.
    assert "hex bitmap" in hint_of(spec, purchase[:2] + in_hex + b"\xff\xff\xff\xff")


def test_a_secondary_bitmap_is_told(spec: Spec, purchase: bytes) -> None:
    data = purchase[:2] + bytes([purchase[2] | 0x80]) + purchase[3:10] + bytes(7) + b"\1" + purchase[10:] + bytes(8)
    assert hint_of(spec, data) == "a secondary bitmap seems to follow: use a spec of 128 fields"


def test_a_bit_that_lies_is_told(spec: Spec, purchase: bytes) -> None:
    extra = purchase[:2] + bytes([purchase[2] | 0x08]) + purchase[3:]
    assert hint_of(spec, extra) == "the bit of field 5 is set, but the field does not seem to be there"
    extra = purchase[:3] + bytes([purchase[3] | 0x10]) + purchase[4:]
    assert hint_of(spec, extra) == "the bit of field 12 is set, but the field does not seem to be there"
    missing = purchase[:9] + bytes([purchase[9] & 0xFE]) + purchase[10:]
    assert hint_of(spec, missing) == "field 64 seems to be there, but its bit is not set"


def test_a_message_of_another_bundled_spec_is_told(spec: Spec, purchase: bytes) -> None:
    ascii_spec = iso8583.load("iso8583_1987_ascii")
    assert hint_of(spec, ascii_spec.encode(ASCII_VALUES)) == "it would be a sound message of spec iso8583_1987_ascii"
    assert "unionpay_pos" in hint_of(ascii_spec, purchase)


# ---- fields --------------------------------------------------------------------------------------

_ASCII_PREFIX = {"bcd2": "ascii2", "bcd3": "ascii3"}
_BINARY_PREFIX = {"bcd2": "binary1", "bcd3": "binary2"}


def _prefixed(names: dict[str, str], *numbers: int) -> Callable[[FieldSpec], FieldSpec]:
    def change(field: FieldSpec) -> FieldSpec:
        if field.length_prefix is None or (numbers and field.number not in numbers):
            return field
        return replace(field, length_prefix=names[field.length_prefix])

    return change


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (_prefixed(_ASCII_PREFIX, 2), "length is ASCII, spec says BCD"),
        (_prefixed(_ASCII_PREFIX, 35), "length of field 35 is ASCII, spec says BCD"),
        (_prefixed(_ASCII_PREFIX, 2, 35), "lengths of fields 2 and 35 are ASCII, spec says BCD"),
        (_prefixed(_ASCII_PREFIX, 36, 55, 60), "lengths of fields 36, 55 and 60 are ASCII, spec says BCD"),
        (_prefixed(_ASCII_PREFIX), "lengths are ASCII, spec says BCD"),
        (_prefixed(_BINARY_PREFIX, 55), "length is binary, spec says BCD"),
        (_prefixed({"bcd2": "bcd3"}, 2), "length takes 2 bytes, spec says 1"),
        (_prefixed({"bcd3": "bcd2"}, 60), "length takes 1 byte, spec says 2"),
    ],
)
def test_the_form_of_a_length_is_told(
    spec: Spec, purchase_values: dict[int, Any], change: Callable[[FieldSpec], FieldSpec], hint: str
) -> None:
    assert hint_of(spec, sender(spec, change).encode(purchase_values)) == hint


def test_binary_lengths_are_told(spec: Spec, purchase_values: dict[int, Any]) -> None:
    hint = hint_of(spec, sender(spec, _prefixed(_BINARY_PREFIX)).encode(purchase_values))
    # 3 is written alike in both: such fields are not in the list.
    assert hint.startswith("lengths of fields 2, 35, 36 and ") and hint.endswith("are binary, spec says BCD")


def test_bcd_and_short_lengths_are_told_where_ascii_is_expected() -> None:
    spec = iso8583.load("iso8583_1987_ascii")
    bcd = sender(spec, _prefixed({"ascii2": "bcd2", "ascii3": "bcd3"}))
    assert hint_of(spec, bcd.encode(ASCII_VALUES)) == "lengths are BCD, spec says ASCII"
    short = sender(
        spec, lambda field: replace(field, length_prefix="ascii2", length_max=99) if field.number == 48 else field
    )
    assert hint_of(spec, short.encode(ASCII_VALUES)).endswith(" has 2 digits, spec says 3")


@pytest.mark.parametrize("numbers", [{2}, {2, 35, 36, 60}])
def test_a_length_that_counts_bytes_instead_of_digits_is_told(
    spec: Spec, purchase_values: dict[int, Any], numbers: set[int]
) -> None:
    def change(field: FieldSpec) -> FieldSpec:
        if field.number not in numbers:
            return field
        return plain(field, length_unit="bytes", length_min=0, length_max=(field.length_max + 1) // 2)

    for number in numbers:
        if len(purchase_values[number]) % 2:
            purchase_values[number] += "0"
    hint = hint_of(spec, sender(spec, change).encode(purchase_values))
    assert hint.endswith("counts bytes, spec says digits" if len(numbers) == 1 else "count bytes, spec says digits")


def test_a_length_that_counts_digits_instead_of_bytes_is_told(spec: Spec, purchase_values: dict[int, Any]) -> None:
    def in_bytes(field: FieldSpec) -> FieldSpec:
        return plain(field, length_unit="bytes", length_min=0) if field.number == 60 else field

    reader = sender(spec, in_bytes)
    assert hint_of(reader, spec.encode(purchase_values)) == "length counts digits, spec says bytes"


def test_a_length_that_counts_characters_or_itself_is_told(spec: Spec) -> None:
    values = {0: "0210", 11: "000001", 39: "00", 44: "中国银行", 41: "10000001", 42: "898100000000001"}
    data = spec.encode(values)
    at = spec.decode(data).span(44)[0]
    assert data[at] == 8
    counted = data[:at] + b"\x04" + data[at + 1 :]
    assert hint_of(spec, counted) == "length of field 44 counts characters, spec says bytes"
    itself = data[:at] + b"\x09" + data[at + 1 :]
    assert "counts its own bytes too" in hint_of(spec, itself)


@pytest.mark.parametrize(
    ("number", "changes", "hint"),
    [
        (4, {"encoding": "ascii", "length_unit": "bytes"}, "value of field 4 is ASCII digits, spec says BCD"),
        (52, {"encoding": "hex"}, "value of field 52 is hexadecimal characters, spec says binary"),
        (41, {"encoding": "cp037"}, "value is EBCDIC, spec says ASCII"),
        (55, {"encoding": "hex"}, "value is hexadecimal characters, spec says binary"),
    ],
)
def test_the_encoding_of_a_value_is_told(
    spec: Spec, purchase_values: dict[int, Any], number: int, changes: dict[str, Any], hint: str
) -> None:
    def change(field: FieldSpec) -> FieldSpec:
        return plain(field, **changes) if field.number == number else field

    data = sender(spec, change).encode(purchase_values)
    assert hint_of(spec, data) == hint
    # One story is told once, not in every form that it can be put in.
    assert len(hints.causes(spec, data, error_of(spec, data))) == 1


def test_a_packed_value_where_ascii_is_expected_is_told() -> None:
    spec = iso8583.load("iso8583_1987_ascii")

    def change(field: FieldSpec) -> FieldSpec:
        return plain(field, encoding="bcd_left", length_unit="digits") if field.number == 4 else field

    assert hint_of(spec, sender(spec, change).encode(ASCII_VALUES)) == "value is BCD, spec says ASCII"


def test_a_sender_who_does_everything_in_ascii_is_told(spec: Spec, purchase_values: dict[int, Any]) -> None:
    def change(field: FieldSpec) -> FieldSpec:
        prefix = None if field.length_prefix is None else _ASCII_PREFIX[field.length_prefix]
        if field.packed:
            return plain(field, encoding="ascii", length_unit="bytes", length_prefix=prefix)
        return replace(field, length_prefix=prefix)

    assert hint_of(spec, sender(spec, change).encode(purchase_values)) == "fields are ASCII throughout, spec says BCD"


def test_a_pad_on_the_other_side_is_told(spec: Spec, purchase: bytes) -> None:
    data = purchase.replace(bytes.fromhex("0210000100"), bytes.fromhex("F021000100"))
    assert data != purchase
    assert hint_of(spec, data) == "value is padded on the left, spec says right"


def test_a_field_that_is_longer_than_the_spec_allows_is_told(spec: Spec, purchase_values: dict[int, Any]) -> None:
    def longer(field: FieldSpec) -> FieldSpec:
        return replace(field, length_max=999) if field.number == 55 else field

    purchase_values[55] = bytes.fromhex("9F10820320") + bytes(800)
    hint = hint_of(spec, sender(spec, longer).encode(purchase_values))
    assert hint == "the field is longer than the spec allows, and all behind it fits: is length_max too small?"


# ---- manners -------------------------------------------------------------------------------------


def test_causes_are_ranked_and_say_what_speaks_for_them(spec: Spec, purchase: bytes) -> None:
    data = HEADER[:5] + purchase
    assert hints.causes(spec, data, error_of(spec, data)) == [
        'a TPDU seems to stand in front: read with header "tpdu" (read so, the whole message is sound)'
    ]
    # Two faults: the story explains the first, and only says how much better it gets.
    at = purchase.index(b"10000001")
    data = HEADER[:5] + purchase[:at] + b"\0" + purchase[at + 1 :]
    first, *_ = hints.causes(spec, data, error_of(spec, data))
    assert first.startswith("a TPDU seems to stand in front") and first.endswith("more fields are sound)")


def test_no_hint_is_made_up(spec: Spec, purchase: bytes) -> None:
    at = purchase.index(b"10000001")
    error = error_of(spec, purchase[:at] + b"\0" + purchase[at + 1 :])
    assert (error.code, error.hint) == ("content", "")
    assert hint_of(spec, bytes(range(7, 200))) == ""
    assert hint_of(spec, bytes.fromhex("0200 0800000000000000")) == ""


def test_an_error_shows_its_hint_and_computes_it_once(spec: Spec, purchase: bytes) -> None:
    error = error_of(spec, HEADER[:5] + purchase)
    assert str(error).endswith('; a TPDU seems to stand in front: read with header "tpdu" [undefined]')
    assert error.hint is error.hint


def test_later_findings_have_no_hint_of_the_first(spec: Spec, purchase: bytes) -> None:
    at = purchase.index(b"10000001")
    data = bytearray(HEADER[:5] + purchase)
    data[5 + at] = 0
    findings = spec.with_header("tpdu").decode(data[:-1], strict=False).findings
    assert [finding.code for finding in findings] == ["content", "truncated"]
    assert findings[1].hint == ""


def test_a_hint_that_fails_does_not_hide_the_error(spec: Spec, purchase: bytes) -> None:
    class Broken:
        definition = spec.definition
        header = spec.header

        def decode(self, data: bytes) -> Any:
            raise ZeroDivisionError

    error = error_of(spec, purchase[:-1])
    assert hints.likely_cause(Broken(), purchase[:-1], error) == ""


def test_any_damage_is_explained_within_bounds_and_without_data(spec: Spec, purchase: bytes) -> None:
    ascii_spec = iso8583.load("iso8583_1987_ascii")
    readers = [spec, ascii_spec, spec.with_header("tpdu+pos6"), spec.with_header("cups"), iso8583.load("kiosk")]
    bases = [purchase, HEADER + purchase, ascii_spec.encode(ASCII_VALUES), purchase.hex().encode()]
    dice = random.Random(8583)
    seen = 0
    for _ in range(3000):
        data = bytearray(dice.choice(bases))
        for _ in range(dice.choice([1, 1, 2, 5])):
            at = dice.randrange(len(data))
            what = dice.randrange(4)
            if what == 0:
                data[at] = dice.randrange(256)
            elif what == 1:
                del data[at : at + dice.randrange(1, 6)]
            elif what == 2:
                data[at:at] = dice.randbytes(dice.randrange(1, 6))
            else:
                data = data[: at + 1]
            data = data or bytearray(1)
        reader = dice.choice(readers)
        counting = Counting(reader.definition, reader.header.name)
        try:
            reader.decode(data)
        except DecodeError as error:
            seen += 1
            texts = hints.causes(counting, bytes(data), error)
            assert counting.calls <= hints.TRIALS_MAX + 4
            assert PAN[6:12] not in " ".join(texts)
            # Fields that were read without complaint are blamed only if everything is sound then.
            assert not [text for text in texts if " of field " in text and "more fields" in text]
    assert seen > 2000


def test_the_number_of_trials_is_bounded(spec: Spec, purchase: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    at = purchase.index(b"10000001")
    data = purchase[:at] + b"\0" + purchase[at + 1 :]
    error = error_of(spec, data)
    counting = Counting(spec.definition)
    hints.causes(counting, data, error)
    assert counting.calls > 20
    monkeypatch.setattr(hints, "TRIALS_MAX", 10)
    counting = Counting(spec.definition)
    hints.causes(counting, data, error)
    assert counting.calls == 10


class Counting(Spec):
    """A spec that counts how often it is asked."""

    calls = 0

    def decode(self, data: Any, *, strict: bool = True) -> Any:
        self.calls += 1
        return super().decode(data, strict=strict)


def test_the_largest_messages_are_bounded_too() -> None:
    definition = specfile.loads(
        'name = "big"\nmti_encoding = "ascii"\nbitmap = "binary"\nfield_max = 64\n'
        '[field.2]\nname = "a"\ncontent = "n"\nencoding = "ascii"\nlength_max = 65000\nlength_prefix = "binary2"\n'
        '[field.3]\nname = "b"\ncontent = "n"\nencoding = "ascii"\nlength_max = 65000\nlength_prefix = "binary2"\n'
    )
    spec = Spec(definition)
    data = (
        b"0200" + bytes.fromhex("6000000000000000") + (60000).to_bytes(2, "big") + b"1" * 60000 + b"\x00\x05" + b"123x5"
    )
    error = error_of(spec, data)
    counting = Counting(definition)
    hints.causes(counting, data, error)
    assert counting.calls <= hints.TRIALS_MAX + 4
    assert hint_of(spec, bytes(70000)) == ""


def test_unmask_shows_the_bytes_around_the_place(spec: Spec, purchase: bytes) -> None:
    data = purchase[:10] + b"\x20" + purchase[11:]
    error = error_of(spec, data)
    assert PAN[:6] not in str(error)
    first, second = error.unmask().splitlines()[1:3]
    assert first == f">    0  {data[:8].hex(' ').upper()}  {data[8:16].hex(' ').upper()}"
    assert second.index("^^") == first.index(" 20 ") + 1
    assert hints.bytes_around(b"", DecodeError("truncated", "mti", 0)).splitlines()[0] == ">    0"
    assert hints.bytes_around(bytes(16), DecodeError("truncated", "2", 16)).splitlines()[1] == ">   16"
