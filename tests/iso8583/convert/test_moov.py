"""moov-io/iso8583 specs. The vectors are those of its own documentation and tests, or worked out from its encoders."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from iso8583 import _reference, specfile
from iso8583.convert import moov
from iso8583.errors import SpecError
from iso8583.spec import FieldSpec, MessageSpec

MTI = {"type": "String", "length": 4, "description": "Message Type Indicator", "enc": "ASCII", "prefix": "ASCII.Fixed"}
BITMAP = {"type": "Bitmap", "length": 8, "description": "Bitmap", "enc": "Binary", "prefix": "Binary.Fixed"}
FIELD_3 = b"0200" + bytes.fromhex("2000000000000000")


def spec_of(**fields: Any) -> dict[str, Any]:
    numbered = {name.removeprefix("f"): entry for name, entry in fields.items()}
    return {"name": "Mine", "fields": {"0": MTI, "1": BITMAP, **numbered}}


def read(**fields: Any) -> MessageSpec:
    definition = moov.read(json.dumps(spec_of(**fields)), "specs/mine.json")
    assert specfile.loads(specfile.dumps(definition)) == definition
    return definition


def entry(type_: str, enc: str, prefix: str, length: int = 0, **more: Any) -> dict[str, Any]:
    found = {"type": type_, "description": "Some Data", "enc": enc, "prefix": prefix, **more}
    return {**found, "length": length} if length else found


def composite(prefix: str, length: int, subfields: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "Composite", "length": length, "prefix": prefix, "subfields": subfields, **more}


def refused(**fields: Any) -> str:
    with pytest.raises(SpecError) as caught:
        read(**fields)
    assert str(caught.value).startswith("specs/mine.json: ")
    return str(caught.value)


ZEROS = {"type": "Left", "pad": "0"}

# (type, enc, prefix, length, padding, value, what it is on the wire)
VECTORS = [
    ("String", "ASCII", "ASCII.Fixed", 3, None, "A1c", b"A1c"),
    ("String", "ASCII", "ASCII.LL", 19, None, "1234", b"041234"),
    ("String", "ASCII", "ASCII.LLLL", 19, None, "1234", b"00041234"),
    ("String", "ASCII", "ASCII.Fixed", 6, {"type": "Right", "pad": " "}, "AB", b"AB    "),
    ("String", "ASCII", "ASCII.Fixed", 2, {"type": "None", "pad": ""}, "AB", b"AB"),
    ("String", "ASCII", "BCD.LLL", 99, None, "AB", b"\x00\x02AB"),
    ("String", "ASCII", "Binary.L", 255, None, "A" * 16, b"\x10" + b"A" * 16),
    ("String", "ASCII", "Binary.LL", 999, None, "AB", b"\x00\x02AB"),
    ("String", "ASCII", "Hex.L", 99, None, "A" * 24, b"18" + b"A" * 24),
    ("String", "ASCII", "Hex.LL", 999, None, "A" * 24, b"0018" + b"A" * 24),
    ("String", "EBCDIC", "EBCDIC.LL", 99, None, "A!", b"\xf0\xf2\xc1\x4f"),  # ! is 4F in moov's EBCDIC
    ("String", "EBCDIC1047", "EBCDIC1047.L", 9, None, "A!", b"\xf2\xc1\x5a"),
    ("String", "BCD", "BCD.LL", 19, None, "643", b"\x03\x06\x43"),  # the length counts digits
    ("String", "LBCD", "BCD.LL", 19, None, "643", b"\x03\x64\x30"),
    ("Numeric", "BCD", "Binary.L", 9, None, "123", b"\x03\x01\x23"),
    ("Numeric", "ASCII", "ASCII.Fixed", 6, ZEROS, "123", b"000123"),
    ("Numeric", "BCD", "BCD.Fixed", 6, ZEROS, "123", b"\x00\x01\x23"),
    ("Numeric", "EBCDIC", "EBCDIC.Fixed", 3, ZEROS, "12", b"\xf0\xf1\xf2"),
    ("Binary", "Binary", "Binary.Fixed", 2, None, b"\x12\xab", b"\x12\xab"),
    ("Binary", "HexToASCII", "ASCII.LL", 9, None, b"\x12\xab", b"0212AB"),  # the length counts bytes
    ("Hex", "Binary", "BCD.LL", 9, None, b"\x12\xab", b"\x02\x12\xab"),
    ("Hex", "HexToASCII", "Hex.Fixed", 2, None, b"\x12\xab", b"12AB"),
    ("String", "Hex", "Hex.Fixed", 2, None, b"\x12\xab", b"12AB"),  # as older documents call it
    ("String", "Binary", "Binary.L", 9, None, b"\x12\xab", b"\x02\x12\xab"),
    ("String", "ASCIIToHex", "Hex.Fixed", 2, None, b"\x12\xab", b"\x12\xab"),
    ("Track2", "ASCII", "ASCII.LL", 37, None, "6222987654321097=2512", b"216222987654321097=2512"),
    ("Track1", "ASCII", "ASCII.LL", 76, None, "B62229^A/B^2512", b"15B62229^A/B^2512"),
]


@pytest.mark.parametrize(("type_", "enc", "prefix", "length", "padding", "value", "wire"), VECTORS)
def test_a_field_means_the_bytes_that_moov_reads(
    type_: str, enc: str, prefix: str, length: int, padding: Any, value: str | bytes, wire: bytes
) -> None:
    more = {} if padding is None else {"padding": padding}
    definition = read(f3=entry(type_, enc, prefix, length, **more))
    data = _reference.encode(definition, {0: "0200", 3: value})
    assert data == FIELD_3 + wire
    assert _reference.encode(definition, _reference.decode(definition, data)) == data
    again = moov.read(moov.write(definition))
    assert _reference.encode(again, {0: "0200", 3: value}) == data


def test_an_old_document_with_double_lengths_is_known_by_its_names() -> None:
    definition = read(
        f2=entry("String", "ASCII", "ASCII.LL", 19, description="Primary Account Number"),
        f52=entry("String", "Hex", "Hex.Fixed", 8, description="PIN Data"),
        f55=entry("String", "ASCII", "ASCII.LLL", 999, description="ICC Data – EMV Having Multiple Tags"),
        f90=entry("String", "ASCII", "ASCII.Fixed", 42, description="Original Data Elements"),
    )
    names = [(field.name, field.sensitive, field.content) for field in definition.fields]
    assert names == [
        ("primary_account_number", "pan", "ans"),
        ("pin_data", "pin", "b"),
        ("icc_data_emv_having_multiple_tags", "private", "ans"),
        ("original_data_elements", None, "ans"),
    ]
    assert definition.by_number[2].source == 'moov mine.json: "Primary Account Number"'
    written = moov.write(definition)["fields"]
    assert written["55"]["description"] == "ICC Data – EMV Having Multiple Tags"
    assert (definition.name, definition.field_max) == ("mine", 128)


def test_keys_are_read_in_any_case_as_go_does() -> None:
    fields = spec_of(f3={name.upper(): value for name, value in entry("String", "ASCII", "ASCII.LL", 9).items()})
    assert moov.read(fields).by_number[3].length_prefix == "ascii2"


@pytest.mark.parametrize(
    ("enc", "bitmap", "expected"),
    [
        ("ASCII", "HexToASCII", ("ascii", "hex")),
        ("BCD", "Binary", ("bcd", "binary")),
        ("EBCDIC", "Binary", ("ebcdic", "binary")),
    ],
)
def test_message_type_and_bitmap(enc: str, bitmap: str, expected: tuple[str, str]) -> None:
    fields = spec_of(f3=entry("String", "ASCII", "ASCII.LL", 9))
    fields["fields"] |= {"0": {**MTI, "enc": enc}, "1": {**BITMAP, "enc": bitmap}}
    definition = moov.read(fields)
    assert (definition.mti_encoding, definition.bitmap) == expected
    assert moov.read(moov.write(definition)).mti_encoding == expected[0]


def test_a_bitmap_that_does_not_grow_announces_64_fields() -> None:
    fields = spec_of(f3=entry("String", "ASCII", "ASCII.LL", 9))
    fields["fields"]["1"] = {**BITMAP, "disableAutoExpand": True}
    definition = moov.read(fields)
    assert definition.field_max == 64
    assert moov.write(definition)["fields"]["1"]["disableAutoExpand"] is True
    assert read(f130=entry("String", "ASCII", "ASCII.LL", 9)).field_max == 192


# ---- composites ----


def layout_of(definition: MessageSpec, number: int) -> tuple[FieldSpec, Any]:
    field = definition.by_number[number]
    assert field.layout is not None
    again = moov.read(moov.write(definition), "specs/mine.json").by_number[number]
    assert again.layout is not None
    assert [(sub.key, sub.encoding, sub.length_max) for sub in again.layout.subs] == [
        (sub.key, sub.encoding, sub.length_max) for sub in field.layout.subs
    ]
    assert (again.layout.kind, again.layout.unknown, again.content) == (
        field.layout.kind,
        field.layout.unknown,
        field.content,
    )
    return field, field.layout


def test_positions_are_numbered_in_wire_order() -> None:
    subfields = {
        "10": entry("String", "ASCII", "ASCII.Fixed", 2, description="To Account"),
        "9": entry("String", "ASCII", "ASCII.Fixed", 2, description="From Account"),
        "1": entry("String", "ASCII", "ASCII.Fixed", 2, description="Transaction Type"),
    }
    definition = read(
        f3=composite("ASCII.Fixed", 6, subfields, tag={"sort": "StringsByInt"}, description="Processing Code")
    )
    field, layout = layout_of(definition, 3)
    assert (field.name, field.content, field.encoding, field.length_max) == ("processing_code", "ans", "ascii", 6)
    assert [(sub.key, sub.name, sub.optional) for sub in layout.subs] == [
        ("1", "transaction_type", False),
        ("2", "from_account", False),
        ("3", "to_account", False),
    ]
    assert layout.subs[2].source == 'moov mine.json 3.10: "To Account"'


def test_positions_in_a_value_of_variable_length_may_end_behind_the_first() -> None:
    subfields = {"1": entry("Numeric", "BCD", "BCD.Fixed", 4), "2": entry("Binary", "Binary", "Binary.L", 9)}
    field, layout = layout_of(read(f48=composite("ASCII.LLL", 99, subfields, tag={"sort": "StringsByInt"})), 48)
    assert (field.content, field.encoding) == ("b", "binary")
    assert [sub.optional for sub in layout.subs] == [False, True]


def test_a_binary_length_in_front_of_text_makes_the_whole_bytes() -> None:
    subfields = {"1": entry("String", "ASCII", "BCD.LL", 9)}
    field, _ = layout_of(read(f48=composite("ASCII.LLL", 99, subfields, tag={"sort": "StringsByInt"})), 48)
    assert (field.content, field.encoding) == ("b", "binary")


def test_long_numbers_are_written_as_text_because_a_go_int_cannot_hold_them() -> None:
    number = entry("Numeric", "ASCII", "ASCII.Fixed", 18, padding=ZEROS)
    written = moov.write(read(f3=number, f4={**number, "length": 19}))["fields"]
    assert (written["3"]["type"], written["4"]["type"]) == ("Numeric", "String")


def test_ber_tlv() -> None:
    subfields = {
        "9F02": entry("Hex", "Binary", "BerTLV", description="Amount, Authorised"),
        "9F1E": entry("String", "ASCII", "BerTLV", 8, description="Interface Device Serial Number"),
        "9A": entry("String", "ASCIIToHex", "BerTLV", description="Transaction Date"),
        "70": composite(
            "BerTLV", 0, {"5A": entry("Binary", "Binary", "BerTLV")}, tag={"enc": "BerTLVTag", "sort": "StringsByHex"}
        ),
    }
    tag = {"enc": "BerTLVTag", "sort": "StringsByHex", "skipUnknownTLVTags": True}
    field, layout = layout_of(read(f55=composite("ASCII.LLL", 255, subfields, tag=tag)), 55)
    assert field.tlv and field.sensitive == "icc" and layout.unknown == "keep"
    found = {sub.key: (sub.name, sub.content, sub.length_max) for sub in layout.subs}
    assert found == {
        "9F02": ("amount_authorised", "b", 65535),
        "9F1E": ("interface_device_serial_number", "ans", 8),
        "9A": ("transaction_date", "b", 65535),
        "70": ("", "b", 65535),
    }
    del tag["skipUnknownTLVTags"]
    assert layout_of(read(f55=composite("ASCII.LLL", 255, subfields, tag=tag)), 55)[1].unknown == "refuse"


def test_tags_of_fixed_size() -> None:
    value = entry("String", "ASCII", "ASCII.LL", 20)
    tag = {"length": 2, "enc": "ASCII", "sort": "StringsByInt", "padding": ZEROS}
    field, layout = layout_of(read(f48=composite("ASCII.LLL", 999, {"1": value, "12": value}, tag=tag)), 48)
    assert (field.content, field.encoding) == ("ans", "ascii")
    assert (layout.kind, layout.tag_size, layout.tag_encoding, layout.value_prefix) == ("tlv", 2, "ascii", "ascii2")
    assert [sub.key for sub in layout.subs] == ["01", "12"]
    assert layout.unknown == "refuse"
    skipping = {**tag, "skipUnknownTLVTags": True}  # without a prefix moov cannot skip
    assert layout_of(read(f48=composite("ASCII.LLL", 999, {"1": value}, tag=skipping)), 48)[1].unknown == "refuse"
    keeping = {**tag, "skipUnknownTLVTags": True, "prefUnknownTLV": "ASCII.LL"}
    assert layout_of(read(f48=composite("ASCII.LLL", 999, {"1": value}, tag=keeping)), 48)[1].unknown == "keep"


def test_data_sets_with_tags_of_one_byte_and_ber_tlv_inside() -> None:
    inside = composite(
        "Binary.LL",
        1535,
        {"81": entry("String", "EBCDIC", "BerTLV", 25)},
        tag={"enc": "BerTLVTag", "sort": "StringsByHex"},
    )
    tag = {
        "length": 1,
        "enc": "ASCIIToHex",
        "sort": "StringsByHex",
        "skipUnknownTLVTags": True,
        "prefUnknownTLV": "Binary.LL",
    }
    field, layout = layout_of(read(f125=composite("Binary.L", 255, {"56": inside}, tag=tag)), 125)
    assert (field.content, layout.tag_encoding, layout.value_prefix, layout.unknown) == (
        "b",
        "binary",
        "binary2",
        "keep",
    )
    assert layout.subs[0].tlv and layout.subs[0].layout.subs[0].encoding == "cp500"


def test_a_bitmap_in_front_of_subfields() -> None:
    cvv2 = entry("String", "ASCII", "ASCII.Fixed", 6, description="CVV2")
    bitmap = {"type": "Bitmap", "length": 8, "enc": "HexToASCII", "prefix": "Hex.Fixed", "disableautoexpand": True}
    definition = read(f126=composite("ASCII.LL", 255, {"10": cvv2}, bitmap=bitmap))
    field, layout = layout_of(definition, 126)
    assert (field.content, field.length_max) == ("ans", 99)  # LL cannot say more
    assert (layout.kind, layout.bitmap, layout.bitmap_size, layout.subs[0].key) == ("bitmap", "hex", 8, "10")
    value = "004000000000000011 456"
    data = _reference.encode(definition, {0: "0200", 126: value})
    assert data.endswith(b"22" + value.encode())


# ---- refusals ----

ONE = {"1": entry("String", "ASCII", "ASCII.Fixed", 2)}


@pytest.mark.parametrize(
    ("field", "told"),
    [
        (entry("String", "UTF8", "ASCII.LL", 9), "fields.3.enc: UTF8: expected one of ASCII"),
        (entry("Strange", "ASCII", "ASCII.LL", 9), "fields.3.type: Strange: expected one of String"),
        (entry("Bitmap", "Binary", "Binary.Fixed", 8), "fields.3.type: Bitmap"),
        (entry("String", "ASCII", "Hex.LLL", 9), "fields.3.prefix: Hex.LLL: our specs have no such length prefix"),
        (entry("String", "ASCII", "Binary.LLL", 9), "fields.3.prefix: Binary.LLL"),
        (entry("String", "ASCII", "Hex.Fixed", 9), "fields.3.prefix: Hex.Fixed with enc ASCII: moov cannot pack it"),
        (entry("String", "ASCIIToHex", "Binary.L", 9), "fields.3.enc: ASCIIToHex: moov unpacks other bytes"),
        (entry("Track2", "BCD", "BCD.LL", 37), "fields.3.enc: type Track2 with enc BCD"),
        (entry("Numeric", "HexToASCII", "ASCII.LL", 9), "fields.3.enc: type Numeric with enc HexToASCII"),
        (entry("Binary", "ASCII", "ASCII.LL", 9), "fields.3.enc: type Binary with enc ASCII"),
        (entry("String", "ASCII", "ASCII.LL"), "fields.3.length: missing"),
        (entry("String", "ASCII", "ASCII.LL", 9, padding=ZEROS), "fields.3.padding: moov fills every value up"),
        (
            entry("Numeric", "ASCII", "ASCII.Fixed", 9, padding={"type": "Left", "pad": " "}),
            "fields.3.padding: a number",
        ),
        (entry("Binary", "Binary", "Binary.Fixed", 9, padding=ZEROS), "fields.3.padding: our binary values"),
        (
            entry("String", "ASCII", "ASCII.Fixed", 9, padding={"type": "Middle", "pad": "0"}),
            "fields.3.padding: expected type",
        ),
        (
            entry("String", "ASCII", "ASCII.Fixed", 9, padding={"type": "Left", "pad": "00"}),
            "fields.3.padding: expected one",
        ),
        (entry("String", "ASCII", "ASCII.LL", 9, colour="red"), "fields.3.colour: unknown key"),
        (entry("String", "ASCII", "ASCII.LL", 9, tag={"sort": "StringsByInt"}), "fields.3.tag: is for type Composite"),
        (entry("String", "ASCII", "BerTLV", 9), "fields.3.prefix: BerTLV goes with tag.enc BerTLVTag"),
        (composite("ASCII.LL", 9, {}, tag={"sort": "StringsByInt"}), "fields.3.subfields: missing"),
        (composite("ASCII.LL", 9, ONE), "fields.3.tag: missing"),
        (composite("ASCII.LL", 9, ONE, tag={}), "fields.3.tag.sort: expected one of StringsByInt"),
        (
            composite("ASCII.LL", 9, {"one": ONE["1"]}, tag={"sort": "StringsByInt"}),
            "fields.3.subfields: the keys are not",
        ),
        (composite("ASCII.Fixed", 9, ONE, tag={"sort": "StringsByInt"}), "fields.3.length: the subfields take 2 bytes"),
        (
            composite("ASCII.LL", 9, ONE, tag={"sort": "StringsByInt"}, enc="ASCII"),
            "fields.3.enc: the parts of a Composite",
        ),
        (
            composite("ASCII.LL", 9, {"9F": entry("Binary", "Binary", "BerTLV")}, tag={"enc": "BerTLVTag"}),
            "fields.3.sub.9F: expected a BER-TLV tag",
        ),
        (
            composite("ASCII.LL", 9, {"9F02": entry("Numeric", "BCD", "BerTLV")}, tag={"enc": "BerTLVTag"}),
            "fields.3.subfields.9F02.enc: BCD makes the BER-TLV length count something else",
        ),
        (
            composite(
                "ASCII.LL",
                9,
                {"01": entry("String", "ASCII", "ASCII.LL", 5), "02": entry("String", "ASCII", "ASCII.L", 5)},
                tag={"enc": "ASCII", "length": 2},
            ),
            "fields.3.subfields: one layout has one length prefix, not ASCII.L, ASCII.LL",
        ),
        (
            composite("ASCII.LL", 9, ONE, bitmap={"type": "Bitmap", "length": 8, "enc": "Binary"}),
            "fields.3.bitmap.disableautoexpand: expected true",
        ),
    ],
)
def test_what_cannot_be_expressed_is_refused_by_name(field: dict[str, Any], told: str) -> None:
    assert told in refused(f3=field)


def test_the_whole_is_refused_by_name_too() -> None:
    fields = {
        "0": {**MTI, "enc": "HexToASCII"},
        "1": {**BITMAP, "enc": "BCD"},
        "65": entry("Binary", "Binary", "Binary.Fixed", 8),
        "193": entry("String", "ASCII", "ASCII.LL", 9),
    }
    with pytest.raises(SpecError) as caught:
        moov.read({"name": "Mine", "fields": fields, "version": 2}, "mine.json")
    for place in (
        "version: unknown key",
        "fields.0.enc",
        "fields.1: expected",
        "fields.65: moov takes",
        "fields.193: expected",
    ):
        assert place in str(caught.value)
    assert "5 things cannot be expressed" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not JSON"),
        ("[]", "fields: missing"),
        ('{"fields": 1}', "fields: missing"),
        ('{"fields": {"2": {"type": "String", "type": "Numeric"}}}', "a key is given twice: 'type'"),
        ("[" * 100_000, "not JSON"),
        ('{"fields": {"2": 5}}', "fields.2: expected an object"),
    ],
)
def test_bad_json(text: str, told: str) -> None:
    with pytest.raises(SpecError) as caught:
        moov.read(text, "mine.json")
    assert told in str(caught.value)


def test_nesting_is_bounded() -> None:
    field = entry("String", "ASCII", "ASCII.Fixed", 2)
    for _ in range(20):
        field = composite("ASCII.Fixed", 2, {"1": field}, tag={"sort": "StringsByInt"})
    assert "more than 8 levels of sub-fields" in refused(f48=field)


def test_what_moov_has_no_words_for_is_refused() -> None:
    definition = specfile.loads(Path(__file__).with_name("refused.toml").read_text(encoding="utf-8"))
    with pytest.raises(SpecError) as caught:
        moov.write(definition)
    told = str(caught.value)
    for place in (
        "field.2.encoding",
        "field.5.length_unit",
        "field.6.pad_nibble",
        "field.8.content",
        "field.9.usage",
        "mti.0800",
    ):
        assert f"{place}: " in told
    assert "field.3" not in told and "field.4" not in told and "field.7" not in told  # it has these


# ---- YAML ----


def test_yaml_is_the_same_document() -> None:
    text = """
name: Mine
fields:
    "0": {type: String, length: 4, enc: ASCII, prefix: ASCII.Fixed}
    "1": {type: Bitmap, enc: HexToASCII, prefix: Hex.Fixed, disableAutoExpand: false}
    "4":
        type: Numeric
        length: 12
        description: Amount, Transaction
        enc: ASCII
        prefix: ASCII.Fixed
        padding:
            type: Left
            pad: "0"
    55:
        type: Composite
        length: 255
        prefix: ASCII.LLL
        tag:
            enc: BerTLVTag
            sort: StringsByHex
            skipUnknownTLVTags: true
        subfields:
            9F1E: {type: String, enc: ASCII, prefix: BerTLV}
            9E02: {type: Binary, enc: Binary, prefix: BerTLV}
            010: {type: Binary, enc: Binary, prefix: BerTLV}
"""
    with pytest.raises(SpecError) as caught:
        moov.read_yaml(text, "mine.yaml")
    assert "sub.9E02" in str(caught.value) and "sub.010" in str(caught.value)  # text, though YAML sees numbers
    definition = moov.read_yaml(text.replace("9E02", "9F02").replace("010", "5A"), "mine.yaml")
    assert definition.by_number[4].pad_character == "0"
    assert definition.by_number[55].layout is not None and definition.by_number[55].layout.unknown == "keep"
    written = moov.write(definition)
    assert moov.write(moov.read_yaml(moov.yaml_of(written), "mine.yaml")) == written


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: &x [1]\nb: *x", "aliases are not allowed"),
        ("a: 1\na: 2", "line 2: a key that is given twice"),
        ("? [1]\n: 2", "line 1: a key that is given twice, or is not a text"),
        ("a: [", "not YAML"),
        ("[" * 20_000, "line 1: more than 32 levels"),
        ("!!python/object/apply:os.system [echo]", "fields: missing"),
        ("", "fields: missing"),
    ],
)
def test_hostile_yaml_is_refused(text: str, told: str) -> None:
    with pytest.raises(SpecError) as caught:
        moov.read_yaml(text, "mine.yaml")
    assert told in str(caught.value)


def test_without_pyyaml_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(SpecError) as caught:
        moov.read_yaml("name: x", "mine.yaml")
    assert str(caught.value) == "mine.yaml: YAML needs PyYAML: pip install gridswitch[yaml] [spec]"
    assert moov.yaml_of({"a": 1}) == '"a": 1\n'  # writing does not need it
