"""jPOS packagers. The vectors are worked out by hand from the interpreters, prefixers and padders of each class."""

from __future__ import annotations

from pathlib import Path

import pytest

from iso8583 import _reference, specfile
from iso8583.convert import jpos
from iso8583.errors import SpecError
from iso8583.spec import MessageSpec

HEAD = """<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<!DOCTYPE isopackager PUBLIC "-//jPOS/jPOS Generic Packager DTD 1.0//EN"
        "http://jpos.org/dtd/generic-packager-1.0.dtd">
"""
START = """
<isofield id="0" length="4" name="MTI" class="org.jpos.iso.IFB_NUMERIC"/>
<isofield id="1" length="16" name="BIT MAP" class="org.jpos.iso.IFB_BITMAP"/>
"""
FIELD_3 = "02002000000000000000"  # 0200, and the bitmap that announces field 3


def packager(body: str, attributes: str = "") -> MessageSpec:
    definition = jpos.read(f"{HEAD}<isopackager {attributes}>{START}{body}</isopackager>", "cfg/mine.xml")
    assert specfile.loads(specfile.dumps(definition)) == definition
    return definition


def isofield(number: int, class_: str, length: int, pad: str = "", name: str = "some data") -> str:
    more = f' pad="{pad}"' if pad else ""
    return f'<isofield id="{number}" length="{length}" name="{name}"{more} class="org.jpos.iso.{class_}"/>'


def errors_of(body: str, attributes: str = "") -> str:
    with pytest.raises(SpecError) as caught:
        packager(body, attributes)
    assert str(caught.value).startswith("cfg/mine.xml: ")
    return str(caught.value)


# (class, length, pad, value, what it is on the wire)
VECTORS = [
    ("IFA_NUMERIC", 6, "", "123", b"000123"),
    ("IFA_AMOUNT2003", 6, "", "123", b"000123"),
    ("IF_CHAR", 5, "", "AB", b"AB   "),
    ("IFA_AMOUNT", 9, "", "D00001234", b"D00001234"),
    ("IFA_LLNUM", 19, "", "1234", b"041234"),
    ("IFA_LLLNUM", 19, "", "1234", b"0041234"),
    ("IFA_LCHAR", 9, "", "ABC", b"3ABC"),
    ("IFA_LLCHAR", 25, "", "ABC", b"03ABC"),
    ("IFA_LLLCHAR", 999, "", "ABC", b"003ABC"),
    ("IFA_LLLLCHAR", 9999, "", "ABC", b"0003ABC"),
    ("IFA_LLLLLCHAR", 99999, "", "ABC", b"00003ABC"),
    ("IFA_LLLLLLCHAR", 999999, "", "ABC", b"000003ABC"),
    ("IFA_BINARY", 2, "", b"\x12\xab", b"12AB"),
    ("IFA_LBINARY", 9, "", b"\x12\xab", b"2\x12\xab"),
    ("IFA_LLBINARY", 99, "", b"\x12\xab", b"02\x12\xab"),
    ("IFA_LLLBINARY", 999, "", b"\x12\xab", b"002\x12\xab"),
    ("IFA_LLLLLLBINARY", 999999, "", b"\x12\xab", b"000002\x12\xab"),
    ("IFA_LLABINARY", 99, "", b"\x12\xab", b"0212AB"),  # the length counts bytes, not their characters
    ("IFA_LLLABINARY", 999, "", b"\x12\xab", b"00212AB"),
    ("IFB_NUMERIC", 6, "true", "123", b"\x00\x01\x23"),
    ("IFB_NUMERIC", 3, "true", "123", b"\x01\x23"),
    ("IFB_NUMERIC", 3, "false", "123", b"\x12\x30"),
    ("IFB_NUMERIC", 3, "", "123", b"\x12\x30"),
    ("IFB_AMOUNT2003", 3, "false", "123", b"\x12\x30"),
    ("IFB_FNUMERIC", 3, "false", "123", b"\x12\x3f"),
    ("IFB_FNUMERIC", 3, "true", "123", b"\x01\x23"),
    ("IFB_AMOUNT", 9, "true", "C12345678", b"C\x12\x34\x56\x78"),
    ("IFB_AMOUNT", 8, "true", "C1234567", b"C\x01\x23\x45\x67"),
    ("IFB_AMOUNT", 8, "false", "C1234567", b"C\x12\x34\x56\x70"),
    ("IFB_LLNUM", 19, "false", "123", b"\x03\x12\x30"),  # the length counts digits
    ("IFB_LLNUM", 19, "true", "123", b"\x03\x01\x23"),
    ("IFB_LLLNUM", 104, "false", "123", b"\x00\x03\x12\x30"),
    ("IFB_FLLNUM", 19, "false", "123", b"\x03\x12\x3f"),
    ("IFB_FLLLNUM", 19, "false", "123", b"\x00\x03\x12\x3f"),
    ("IFB_LLHNUM", 19, "false", "1234567890123456", b"\x10\x12\x34\x56\x78\x90\x12\x34\x56"),  # 16 is 0x10
    ("IFB_LLLHNUM", 300, "true", "123", b"\x00\x03\x01\x23"),
    ("IFB_LLCHAR", 25, "", "ABC", b"\x03ABC"),
    ("IFB_LLLCHAR", 999, "", "ABC", b"\x00\x03ABC"),
    ("IFB_LLLLCHAR", 9999, "", "ABC", b"\x00\x03ABC"),
    ("IFB_LLLLLLCHAR", 9999, "", "ABC", b"\x00\x00\x03ABC"),
    ("IFB_LLHCHAR", 255, "", "A" * 16, b"\x10" + b"A" * 16),
    ("IFB_LLLHCHAR", 999, "", "A" * 16, b"\x00\x10" + b"A" * 16),
    ("IFB_LLHECHAR", 255, "", "A1", b"\x02\xc1\xf1"),
    ("IFB_LLLHECHAR", 255, "", "A1", b"\x00\x02\xc1\xf1"),
    ("IFB_BINARY", 2, "", b"\x12\xab", b"\x12\xab"),
    ("IFB_LLBINARY", 99, "", b"\x12\xab", b"\x02\x12\xab"),
    ("IFB_LLLBINARY", 999, "", b"\x12\xab", b"\x00\x02\x12\xab"),
    ("IFB_LLLLBINARY", 9999, "", b"\x12\xab", b"\x00\x02\x12\xab"),
    ("IFB_LLHBINARY", 255, "", b"\xab" * 16, b"\x10" + b"\xab" * 16),
    ("IFB_LLLHBINARY", 999, "", b"\xab" * 16, b"\x00\x10" + b"\xab" * 16),
    ("IFB_LLHEX", 49, "", b"\x12\xab", b"\x04\x12\xab"),  # the length counts nibbles
    ("IFB_LLLHEX", 99, "", b"\x12\xab", b"\x00\x04\x12\xab"),
    ("IFE_NUMERIC", 4, "", "12", b"\xf0\xf0\xf1\xf2"),
    ("IFE_CHAR", 3, "", "A1", b"\xc1\xf1\x40"),
    ("IF_ECHAR", 3, "", "A[", b"\xc1\xad\x40"),  # [ is AD in IBM 1047, BA in 037, 4A in 500
    ("IFE_AMOUNT", 4, "", "C123", b"\xc3\xf1\xf2\xf3"),
    ("IFE_LLNUM", 19, "", "12", b"\xf0\xf2\xf1\xf2"),
    ("IFE_LLLNUM", 19, "", "12", b"\xf0\xf0\xf2\xf1\xf2"),
    ("IFE_LLCHAR", 19, "", "A1", b"\xf0\xf2\xc1\xf1"),
    ("IFE_LLLCHAR", 19, "", "A1", b"\xf0\xf0\xf2\xc1\xf1"),
    ("IFE_LLLLCHAR", 19, "", "A1", b"\xf0\xf0\xf0\xf2\xc1\xf1"),
    ("IFE_BINARY", 2, "", b"\x12\xab", b"\xf1\xf2\xc1\xc2"),
    ("IFE_LLBINARY", 9, "", b"\x12\xab", b"\xf0\xf2\x12\xab"),
    ("IFE_LLLBINARY", 9, "", b"\x12\xab", b"\xf0\xf0\xf2\x12\xab"),
    ("IFEA_LLCHAR", 9, "", "A1", b"\xf0\xf2A1"),
    ("IFAE_LLCHAR", 9, "", "A1", b"02\xc1\xf1"),
]


@pytest.mark.parametrize(("class_", "length", "pad", "value", "wire"), VECTORS)
def test_a_class_means_the_bytes_that_jpos_writes(
    class_: str, length: int, pad: str, value: str | bytes, wire: bytes
) -> None:
    definition = packager(isofield(3, class_, length, pad))
    data = _reference.encode(definition, {0: "0200", 3: value})
    assert data.hex() == FIELD_3 + wire.hex()
    decoded = _reference.decode(definition, data)[3]
    assert decoded[-len(value) :] == value or decoded[: len(value)] == value  # but for the fill


@pytest.mark.parametrize(("class_", "length", "pad", "value", "wire"), VECTORS)
def test_what_is_written_is_read_as_the_same_bytes(
    class_: str, length: int, pad: str, value: str | bytes, wire: bytes
) -> None:
    definition = packager(isofield(3, class_, length, pad))
    text = jpos.write(definition)
    again = jpos.read(text, "cfg/mine.xml")
    assert again.fields == definition.fields
    assert jpos.write(again) == text
    assert _reference.encode(again, {0: "0200", 3: value}).hex() == FIELD_3 + wire.hex()


def test_track_fields_are_tracks_whatever_their_class_is_called() -> None:
    definition = packager(
        isofield(35, "IFB_LLNUM", 37, "false") + isofield(36, "IFB_LLLNUM", 104) + isofield(37, "IFA_LLNUM", 12)
    )
    assert [field.content for field in definition.fields] == ["z", "z", "n"]
    data = _reference.encode(definition, {0: "0200", 35: "6222987654321097=2512"})
    assert data.hex().endswith("21" + "6222987654321097d25120")


def test_names_come_from_descriptions_and_stay_unique() -> None:
    body = (
        isofield(2, "IFA_LLNUM", 19, name="PAN - PRIMARY ACCOUNT NUMBER")
        + isofield(55, "IFA_LLLCHAR", 999, name="RESERVED ISO")
        + isofield(56, "IFA_LLLCHAR", 999, name="RESERVED ISO")
        + isofield(57, "IFA_LLLCHAR", 999, name="")
        + isofield(58, "IFA_LLLCHAR", 999, name="MTI")
    )
    definition = packager(body)
    names = ["pan_primary_account_number", "reserved_iso", "reserved_iso_2", "field_57", "mti_2"]
    assert [field.name for field in definition.fields] == names
    assert definition.by_number[2].source == 'jPOS mine.xml: "PAN - PRIMARY ACCOUNT NUMBER"'
    assert 'name="PAN - PRIMARY ACCOUNT NUMBER"' in jpos.write(definition)
    assert 'id="56" length="999" name="RESERVED ISO"' in jpos.write(definition)


def test_sensitive_fields_are_marked_because_jpos_does_not() -> None:
    numbers = {
        2: "pan",
        14: "expiry",
        35: "track",
        36: "track",
        45: "track",
        48: "private",
        54: "balance",
        55: "private",
    }
    body = "".join(isofield(number, "IFA_LLLCHAR", 100, name=f"f{number}") for number in numbers)
    keys = (
        isofield(52, "IFB_BINARY", 8)
        + isofield(64, "IFB_BINARY", 8, name="x")
        + isofield(96, "IFB_BINARY", 8, name="y")
    )
    definition = packager(
        body + keys + isofield(128, "IFB_BINARY", 8, name="z") + isofield(4, "IFA_NUMERIC", 12, name="amount")
    )
    found = {field.number: field.sensitive for field in definition.fields}
    assert found == {**numbers, 52: "pin", 64: "mac", 96: "key", 128: "mac", 4: None}


@pytest.mark.parametrize(
    ("mti", "bitmap", "length", "expected"),
    [
        ("IFA_NUMERIC", "IFA_BITMAP", 8, ("ascii", "hex", 64)),
        ("IFB_NUMERIC", "IFB_BITMAP", 16, ("bcd", "binary", 128)),
        ("IFE_NUMERIC", "IFE_BITMAP", 24, ("ebcdic", "hex_ebcdic", 192)),
    ],
)
def test_message_type_and_bitmaps(mti: str, bitmap: str, length: int, expected: tuple[str, str, int]) -> None:
    definition = jpos.read(
        f"<isopackager>{isofield(0, mti, 4)}{isofield(1, bitmap, length)}{isofield(3, 'IF_CHAR', 6)}</isopackager>"
    )
    assert (definition.mti_encoding, definition.bitmap, definition.field_max) == expected
    again = jpos.read(jpos.write(definition))
    assert (again.mti_encoding, again.bitmap, again.field_max) == expected


# ---- nested packagers ----


def holder(number: int, class_: str, length: int, packager_: str, inner: str, more: str = "") -> str:
    return (
        f'<isofieldpackager id="{number}" length="{length}" name="parts" class="org.jpos.iso.{class_}"'
        f' packager="{packager_}" {more}>{inner}</isofieldpackager>'
    )


SUB = "org.jpos.iso.packager.GenericSubFieldPackager"


def test_positions_in_a_field_of_fixed_length() -> None:
    inner = (
        isofield(0, "IF_NOP", 0) + isofield(1, "IFE_CHAR", 3, name="name") + isofield(2, "IFE_CHAR", 2, name="country")
    )
    definition = packager(holder(43, "IFB_BINARY", 5, SUB, inner, 'emitBitmap="false" maxValidField="2"'))
    field = definition.by_number[43]
    assert (field.content, field.encoding, field.length_max, field.length_prefix) == ("ans", "cp1047", 5, None)
    assert field.layout is not None and field.layout.kind == "positions"
    assert [(sub.key, sub.name, sub.length_max, sub.optional) for sub in field.layout.subs] == [
        ("1", "name", 3, False),
        ("2", "country", 2, False),
    ]
    assert jpos.read(jpos.write(definition), "mine.xml").by_number[43] == field


def test_positions_in_a_field_of_variable_length_may_end_early() -> None:
    inner = isofield(1, "IFB_NUMERIC", 3, "true") + isofield(5, "IFB_LLNUM", 6, name="id")
    definition = packager(holder(48, "IFB_LLLBINARY", 99, SUB, inner, 'emitBitmap="false"'))
    field = definition.by_number[48]
    assert (field.content, field.encoding, field.length_prefix) == ("b", "binary", "bcd3")
    assert field.layout is not None
    assert [(sub.key, sub.optional, sub.length_prefix) for sub in field.layout.subs] == [
        ("1", True, None),
        ("2", True, "bcd2"),
    ]
    assert field.layout.subs[1].source == 'jPOS mine.xml 48.5: "id"'  # it was not called 2 there


def test_more_positions_than_a_fixed_length_has_room_for_may_end_early() -> None:
    inner = isofield(1, "IF_CHAR", 3) + isofield(2, "IF_CHAR", 2) + isofield(3, "IF_CHAR", 4)
    field = packager(holder(43, "IFB_BINARY", 5, SUB, inner, 'emitBitmap="false"')).by_number[43]
    assert field.layout is not None and [sub.optional for sub in field.layout.subs] == [True, True, True]


def test_positions_start_behind_a_bitmap_that_is_not_emitted() -> None:
    inner = isofield(1, "IFB_BITMAP", 8) + isofield(2, "IF_CHAR", 2, name="first")
    field = packager(holder(48, "IFA_LLLCHAR", 9, SUB, inner, 'emitBitmap="false"')).by_number[48]
    assert field.layout is not None and [sub.name for sub in field.layout.subs] == ["first"]


def test_positions_in_packed_digits() -> None:
    inner = isofield(1, "IFA_NUMERIC", 2, name="entry mode") + isofield(2, "IFA_NUMERIC", 1, name="pin")
    definition = packager(holder(22, "IFB_NUMERIC", 3, SUB, inner, 'pad="true" emitBitmap="false"'))
    field = definition.by_number[22]
    assert (field.content, field.encoding, field.length_unit, field.length_max) == ("n", "bcd_right", "digits", 3)
    assert field.layout is not None and [sub.encoding for sub in field.layout.subs] == ["ascii", "ascii"]
    assert jpos.read(jpos.write(definition), "mine.xml").by_number[22] == field


def test_ascii_classes_inside_an_ebcdic_class_are_ebcdic_on_the_wire() -> None:
    inner = isofield(1, "IFA_NUMERIC", 2) + isofield(2, "IFA_LLCHAR", 9, name="text")
    field = packager(holder(48, "IFE_LLLCHAR", 50, SUB, inner, 'emitBitmap="false"')).by_number[48]
    assert field.layout is not None and (field.encoding, field.content) == ("cp1047", "ans")
    assert [(sub.encoding, sub.length_prefix) for sub in field.layout.subs] == [("cp1047", None), ("cp1047", "ebcdic2")]


def test_a_bitmap_in_front_of_sub_fields() -> None:
    inner = (
        isofield(0, "IF_CHAR", 0)
        + isofield(1, "IFB_BITMAP", 8)
        + isofield(2, "IFA_LLCHAR", 32)
        + isofield(10, "IFA_NUMERIC", 3, name="cvv2")
    )
    body = holder(127, "IFA_LLLLLLBINARY", 999999, SUB, inner)
    field = packager(body).by_number[127]
    assert (field.length_max, field.length_prefix) == (65535, "ascii6")  # no message is longer
    layout = field.layout
    assert layout is not None and (layout.kind, layout.bitmap, layout.bitmap_size) == ("bitmap", "binary", 8)
    assert [sub.key for sub in layout.subs] == ["2", "10"]
    definition = packager(body)
    again = jpos.read(jpos.write(definition), "mine.xml").by_number[127]
    assert again.layout is not None and [sub.key for sub in again.layout.subs] == ["2", "10"]


def test_tags_with_lengths() -> None:
    inner = isofield(1, "IFMC_LLLCHAR", 50, name="one") + isofield(42, "IFMC_LLLCHAR", 60, name="answer")
    body = holder(48, "IFA_LLLCHAR", 999, SUB, inner, 'emitBitmap="false"')
    field = packager(body).by_number[48]
    layout = field.layout
    assert layout is not None and (field.content, field.encoding) == ("ans", "ascii")
    assert (layout.kind, layout.tag_size, layout.value_prefix, layout.unknown) == ("tlv", 2, "ascii3", "keep")
    assert [(sub.key, sub.length_max) for sub in layout.subs] == [("01", 50), ("42", 60)]
    assert jpos.read(jpos.write(packager(body)), "mine.xml").by_number[48].layout == layout


def test_tags_of_a_tag_mapper_must_be_known() -> None:
    inner = isofield(1, "IFA_TTLLCHAR", 50) + isofield(42, "IFA_TTLLBINARY", 60)
    mapper = 'tagMapper="org.jpos.iso.packager.TTDecimalTagMapper"'
    body = holder(48, "IFA_LLLCHAR", 999, "org.jpos.iso.packager.GenericTaggedFieldsPackager", inner, mapper)
    field = packager(body).by_number[48]
    assert field.layout is not None and field.layout.unknown == "refuse"
    assert [(sub.key, sub.content) for sub in field.layout.subs] == [("01", "ans"), ("42", "b")]
    assert (field.content, field.encoding) == ("b", "binary")
    assert jpos.read(jpos.write(packager(body)), "mine.xml").by_number[48].layout == field.layout
    assert "48.tagMapper" in errors_of(body.replace("TTDecimal", "Mine"))


def test_ber_tlv() -> None:
    body = holder(55, "IFB_LLLBINARY", 255, "org.jpos.tlv.packager.bertlv.BERTLVBinaryPackager", "")
    field = packager(body).by_number[55]
    assert field.tlv and field.sensitive == "icc"
    assert jpos.read(jpos.write(packager(body)), "mine.xml").by_number[55] == field


# ---- refusals ----


@pytest.mark.parametrize(
    ("body", "attributes", "told"),
    [
        (isofield(3, "IFEB_LLNUM", 19), "", "3.class: IFEB_LLNUM: the last nibble decides"),
        (isofield(3, "IFA_LLBNUM", 19), "", "3.class: IFA_LLBNUM: its length is rounded up"),
        (
            '<isofield id="3" length="1" name="x" class="com.example.Mine"/>',
            "",
            "3.class: com.example.Mine: not a class",
        ),
        (isofield(3, "IF_CHAR", 0), "", "3.length: expected a whole number above 0"),
        (isofield(3, "IFMC_LLCHAR", 9), "", "3.class: IFMC_LLCHAR: is for sub-fields"),
        (isofield(3, "IF_CHAR", 5).replace("/>", ' params="x"/>'), "", "3.params: changes what the class does"),
        (isofield(3, "IF_CHAR", 5).replace("/>", ' wrong="x"/>'), "", "3.wrong: unknown attribute"),
        (isofield(3, "IF_CHAR", 5, "yes"), "", "3.pad: expected true or false"),
        (isofield(3, "IF_CHAR", 5) * 2, "", "3: defined twice"),
        (isofield(3, "IF_CHAR", 5), 'headerLength="9"', "isopackager.headerLength: our specs start at the MTI"),
        (isofield(3, "IF_CHAR", 5), 'thirdBitmapField="65"', "isopackager.thirdBitmapField"),
        (isofield(3, "IF_CHAR", 5), 'emitBitmap="false"', "isopackager.emitBitmap"),
        (isofield(99, "IF_CHAR", 5), 'maxValidField="64"', "isopackager.maxValidField: below the highest field"),
        (isofield(65, "IFB_BITMAP", 8), "", "65.class: our third bitmap stands in front"),
        (isofield(130, "IF_CHAR", 8), "", "130.id: above what a bitmap of 128 bits announces"),
        ("<validator/>", "", "<validator>: expected isofield or isofieldpackager"),
        (
            holder(48, "IFA_LLLCHAR", 9, "com.example.Mine", ""),
            "",
            "48.packager: Mine: expected GenericSubFieldPackager",
        ),
        (holder(48, "IFA_LLLCHAR", 9, "org.jpos.iso.packager.DatasetPackager", ""), "", "48.packager: DatasetPackager"),
        (
            holder(48, "IFB_BINARY", 9, SUB, isofield(1, "IF_CHAR", 5), 'emitBitmap="false"'),
            "",
            "48.length: the sub-fields take 5 of 9",
        ),
        (
            holder(48, "IFA_LLLCHAR", 9, SUB, isofield(1, "IF_CHAR", 5)),
            "",
            "48.bitmapField: IF_CHAR: expected IFB_BITMAP or IFA_BITMAP",
        ),
        (
            holder(48, "IFA_LLLCHAR", 9, SUB, isofield(1, "IFB_BITMAP", 16)),
            "",
            "48.bitmapField: a bitmap of more than 8 bytes",
        ),
        (
            holder(
                48,
                "IFA_LLLCHAR",
                9,
                SUB,
                isofield(1, "IF_CHAR", 1) + isofield(2, "IFMC_LLCHAR", 9),
                'emitBitmap="false"',
            ),
            "",
            "48.2: tags behind sub-fields that have a place",
        ),
        (
            holder(48, "IFE_LLLCHAR", 9, SUB, isofield(1, "IFB_BINARY", 1), 'emitBitmap="false"'),
            "",
            "48.class: it turns all that is inside into EBCDIC",
        ),
        (
            holder(48, "IFA_LLLCHAR", 9, SUB, isofield(1, "IF_CHAR", 5), 'emitBitmap="false" headerLength="1"'),
            "",
            "48.headerLength: a header in front of sub-fields",
        ),
        (
            holder(22, "IFB_NUMERIC", 4, SUB, isofield(1, "IFB_NUMERIC", 8), 'emitBitmap="false"'),
            "",
            "22.class: packed digits hold nothing but",
        ),
    ],
)
def test_what_cannot_be_expressed_is_refused_by_name(body: str, attributes: str, told: str) -> None:
    assert told in errors_of(body, attributes)


def test_all_problems_are_told_at_once() -> None:
    body = isofield(3, "IFEB_LLNUM", 19) + isofield(4, "IFB_HEX", 5) + isofield(5, "IF_CHAR", 5)
    told = errors_of(body, 'headerLength="5"')
    assert "3 things cannot be expressed" in told
    assert all(place in told for place in ("isopackager.headerLength", "3.class", "4.class"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("<isopackager>", "not XML: no element found"),
        ("<other/>", "other: expected <isopackager>"),
        ("<isopackager>text</isopackager>", "text between the elements"),
        ('<!DOCTYPE isopackager [<!ENTITY a "x">]><isopackager/>', "entities are not expanded"),
        ('<!DOCTYPE isopackager [<!ENTITY a SYSTEM "file:///etc/passwd">]><isopackager/>', "entities are not expanded"),
        (
            '<!DOCTYPE isopackager [<!ENTITY % a SYSTEM "file:///etc/passwd">]><isopackager/>',
            "entities are not expanded",
        ),
        (HEAD + '<isopackager><isofield id="2" name="&secret;"/></isopackager>', "entity &secret; is not one of XML's"),
        ('<?xml version="1.0" encoding="x-unknown"?><isopackager/>', "not XML"),
        ("<isopackager>" + "<isofieldpackager>" * 5000, "more than 8 levels"),
    ],
)
def test_hostile_xml_is_refused(text: str, told: str) -> None:
    for form in (text, text.encode()):
        if isinstance(form, str) and "x-unknown" in form:
            continue  # text has its encoding behind it already
        with pytest.raises(SpecError) as caught:
            jpos.read(form)
        assert told in str(caught.value)


def test_bytes_are_read_in_the_encoding_that_they_say() -> None:
    body = isofield(43, "IF_CHAR", 40, name="ZONA DE PEAJE Ñ")
    text = f'<?xml version="1.0" encoding="ISO-8859-1"?><isopackager>{START}{body}</isopackager>'
    assert jpos.read(text.encode("latin-1")).by_number[43].name == "zona_de_peaje_n"


def test_what_jpos_has_no_class_for_is_refused() -> None:
    lines = Path(__file__).with_name("refused.toml").read_text(encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        jpos.write(specfile.loads(lines))
    for place in (
        "field.2: ",
        "field.3: ",
        "field.4.pad_side",
        "field.5.length_unit",
        "field.6.pad_nibble",
        "field.9.usage",
    ):
        assert place in str(caught.value)
