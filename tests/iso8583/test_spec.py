"""Definitions check themselves: every contradiction is refused, and the error names the key."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from iso8583.errors import SpecError
from iso8583.spec import (
    HEADERS,
    FieldSpec,
    HeaderLayout,
    Layout,
    MessageSpec,
    SubSpec,
    Usage,
    Variant,
    mti_matches,
    mti_pattern_ok,
    prefix_max,
)

PAN: dict[str, Any] = {
    "number": 2,
    "name": "pan",
    "content": "n",
    "encoding": "bcd_left",
    "length_min": 0,
    "length_max": 19,
    "length_prefix": "bcd2",
    "length_unit": "digits",
}
NUMBER: dict[str, Any] = {**PAN, "length_min": 6, "length_max": 6, "length_prefix": None}
TEXT: dict[str, Any] = {**PAN, "content": "ans", "encoding": "ascii", "length_unit": "bytes"}
BINARY: dict[str, Any] = {**TEXT, "content": "b", "encoding": "binary"}
TRACK: dict[str, Any] = {**PAN, "content": "track2"}
SIGNED: dict[str, Any] = {**NUMBER, "content": "xn", "length_min": 9, "length_max": 9}


def refused(make: Callable[..., Any], **keys: Any) -> str:
    """The key that the refusal names."""
    with pytest.raises(SpecError) as caught:
        make(**keys)
    assert caught.value.detail
    return caught.value.key


def digits(key: str = "1", length: int = 2, **more: Any) -> SubSpec:
    keys = {"content": "n", "encoding": "ascii", "length_min": length, "length_max": length, "name": ""}
    return SubSpec(key=key, **{**keys, **more})


def tag(key: str = "9F26", **more: Any) -> SubSpec:
    keys = {"content": "b", "encoding": "binary", "length_min": 0, "length_max": 99, "name": ""}
    return SubSpec(key=key, **{**keys, **more})


# ------------------------------------------------------------------------------------------------ values


@pytest.mark.parametrize("base", [PAN, NUMBER, TEXT, BINARY, TRACK, SIGNED], ids=lambda base: str(base["content"]))
def test_the_definitions_that_the_other_tests_spoil_are_good(base: dict[str, Any]) -> None:
    assert FieldSpec(**base) == FieldSpec(**base)
    assert hash(FieldSpec(**base)) == hash(FieldSpec(**base))


@pytest.mark.parametrize(
    ("base", "change", "key"),
    [
        (PAN, {"number": 1}, ""),
        (PAN, {"number": 193}, ""),
        (PAN, {"name": "Pan"}, "name"),
        (PAN, {"name": "2pan"}, "name"),
        (PAN, {"name": ""}, "name"),
        (PAN, {"name": "mti"}, "name"),
        (PAN, {"name": "卡号"}, "name"),
        (PAN, {"content": "x"}, "content"),
        (PAN, {"encoding": "ebcdic"}, "encoding"),
        (PAN, {"content": "an"}, "encoding"),
        (PAN, {"content": "b"}, "encoding"),
        (TEXT, {"encoding": "binary"}, "encoding"),
        (TEXT, {"content": "n", "encoding": "gbk"}, "encoding"),
        (PAN, {"length_unit": "characters"}, "length_unit"),
        (TEXT, {"length_unit": "digits"}, "length_unit"),
        (PAN, {"length_unit": "nibbles"}, "length_unit"),
        (BINARY, {"encoding": "hex", "length_unit": "nibbles"}, "length_unit"),
        (PAN, {"length_max": 0}, "length_max"),
        (PAN, {"length_min": 20}, "length_max"),
        (PAN, {"length_min": -1}, "length_max"),
        (TEXT, {"length_max": 65536, "length_prefix": "binary2"}, "length_max"),
        (PAN, {"length_prefix": "bcd9"}, "length_prefix"),
        (PAN, {"length_max": 100}, "length_max"),
        (TEXT, {"length_max": 256, "length_prefix": "binary1"}, "length_max"),
        (PAN, {"length_prefix": None}, "length_prefix"),
        (SIGNED, {"length_unit": "bytes"}, "length_unit"),
        (SIGNED, {"length_min": 0, "length_prefix": "bcd2"}, "length_unit"),
        (NUMBER, {"pad_side": "both"}, "pad_side"),
        (NUMBER, {"pad_side": "left"}, "pad_character"),
        (NUMBER, {"pad_side": "left", "pad_character": "00"}, "pad_character"),
        (NUMBER, {"pad_side": "left", "pad_character": "〇"}, "pad_character"),
        (PAN, {"pad_side": "left", "pad_character": "0"}, "pad_character"),
        (
            BINARY,
            {"length_min": 8, "length_max": 8, "length_prefix": None, "pad_side": "left", "pad_character": "0"},
            "pad_character",
        ),
        (PAN, {"pad_nibble": "f"}, "pad_nibble"),
        (PAN, {"encrypted_when": (53, 3, "1")}, "encrypted_when"),
        (PAN, {"sensitive": "secret"}, "sensitive"),
        (TEXT, {"layout": Layout(kind="ber_tlv")}, "layout"),
        (TEXT, {"usages": (Usage(layout=Layout(kind="ber_tlv")),)}, "layout"),
        (BINARY, {"sensitive": "icc"}, "sensitive"),
        (BINARY, {"sensitive": "icc", "usages": (Usage(layout=Layout(kind="ber_tlv")),)}, "sensitive"),
    ],
)
def test_a_field_that_contradicts_itself_is_refused(base: dict[str, Any], change: dict[str, Any], key: str) -> None:
    assert refused(FieldSpec, **{**base, **change}) == key


def test_an_error_names_the_field_and_what_was_expected() -> None:
    with pytest.raises(SpecError) as caught:
        FieldSpec(**{**PAN, "length_max": 100})
    assert str(caught.value) == "field.2: length_max: does not fit the prefix bcd2 [spec]"


def test_what_a_sub_field_may_do_and_a_field_may_not() -> None:
    assert digits(name="mti").name == "mti"
    assert digits(name="").name == ""
    assert digits(length_min=0, length_max=5).place == "sub.1"  # takes what is left
    assert refused(digits, name="Mti") == "name"


def test_fields_say_what_they_expect() -> None:
    assert FieldSpec(**PAN).expected() == "0 to 19 digits"
    assert FieldSpec(**NUMBER).expected() == "6 digits"
    assert FieldSpec(**TEXT).expected() == "0 to 19 bytes"
    assert FieldSpec(**PAN).type is str and FieldSpec(**BINARY).type is bytes
    assert FieldSpec(**NUMBER).fixed and not FieldSpec(**PAN).fixed
    assert FieldSpec(**PAN).packed and not FieldSpec(**TEXT).packed
    assert FieldSpec(**{**BINARY, "layout": Layout(kind="ber_tlv")}).tlv and not FieldSpec(**BINARY).tlv


# ------------------------------------------------------------------------------------------------ layouts


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"kind": "tree"}, "layout"),
        ({"kind": "positions", "unknown": "drop"}, "unknown"),
        ({"kind": "positions", "subs": (digits("1"), digits("1"))}, "sub"),
        ({"kind": "positions", "subs": (digits("1", name="batch"), digits("2", name="batch"))}, "sub"),
        ({"kind": "positions", "subs": (digits("1", repeat=True),)}, "sub.1.repeat"),
        ({"kind": "positions", "subs": (digits("2"),)}, "sub.2"),
        ({"kind": "positions", "subs": (digits("1"), digits("3"))}, "sub.3"),
        ({"kind": "positions", "subs": (digits("1", length_min=0), digits("2"))}, "sub.1.length"),
        ({"kind": "positions", "subs": (digits("1", times="rest"), digits("2"))}, "sub.1.times"),
        ({"kind": "positions", "subs": (digits("1", times="2"), digits("2"))}, "sub.1.times"),
        ({"kind": "positions", "subs": (digits("1"), digits("2", times="2"))}, "sub.2.times"),
        ({"kind": "positions", "subs": (digits("1", optional=True), digits("2"))}, "sub.2.optional"),
        ({"kind": "ber_tlv", "subs": (tag(times="rest"),)}, "sub.9F26.times"),
        ({"kind": "ber_tlv", "subs": (tag(optional=True),)}, "sub.9F26.times"),
        ({"kind": "ber_tlv", "subs": (tag(length_prefix="bcd2"),)}, "sub.9F26.length_prefix"),
        ({"kind": "tlv", "tag_size": 4, "value_prefix": "bcd2", "subs": (tag(length_prefix="bcd2"),)},
         "sub.9F26.length_prefix"),
        *(({"kind": "ber_tlv", "subs": (tag(key),)}, f"sub.{key}")
          for key in ("9f26", "9F", "9F2681", "9F81818101", "5A5A", "00", "XY", "")),
        ({"kind": "tlv"}, "tag_size"),
        ({"kind": "tlv", "tag_size": 9}, "tag_size"),
        ({"kind": "tlv", "tag_size": 2, "tag_encoding": "bcd"}, "tag_encoding"),
        ({"kind": "tlv", "tag_size": 2, "value_prefix": "bcd7"}, "value_prefix"),
        ({"kind": "tlv", "tag_size": 2}, "unknown"),
        ({"kind": "tlv", "tag_size": 2, "unknown": "refuse", "subs": (tag("A1"),)}, "sub.A1.length"),
        ({"kind": "tlv", "tag_size": 2, "value_prefix": "ascii3", "subs": (tag("A"),)}, "sub.A"),
        ({"kind": "tlv", "tag_size": 2, "tag_encoding": "binary", "value_prefix": "binary1", "subs": (tag("A1"),)},
         "sub.A1"),
        ({"kind": "bitmap", "bitmap": "hex_ebcdic"}, "bitmap"),
        ({"kind": "bitmap", "bitmap_size": 0}, "bitmap"),
        ({"kind": "bitmap", "bitmap_size": 25}, "bitmap"),
        ({"kind": "bitmap", "bitmap_size": 1, "subs": (digits("9"),)}, "sub.9"),
        ({"kind": "bitmap", "subs": (digits("0"),)}, "sub.0"),
        ({"kind": "bitmap", "subs": (digits("x"),)}, "sub.x"),
        ({"kind": "bitmap", "subs": (digits("1", length_min=0),)}, "sub.1.length_prefix"),
        ({"kind": "bitmap", "subs": (digits("1", optional=True),)}, "sub.1.times"),
        ({"kind": "bitmap", "subs": (digits("1", repeat=True),)}, "sub.1.repeat"),
    ],
)  # fmt: skip
def test_a_layout_that_contradicts_itself_is_refused(keys: dict[str, Any], key: str) -> None:
    assert refused(Layout, **keys) == key


def test_layouts_find_their_parts_by_key() -> None:
    layout = Layout(
        kind="positions",
        subs=(digits("1", name="count"), digits("2", times="1"), digits("3", length_min=0, optional=True)),
    )
    assert list(layout.by_key) == ["1", "2", "3"] and layout.by_key["1"].name == "count"
    assert layout == dataclasses.replace(layout) and hash(layout) == hash(dataclasses.replace(layout))
    assert Layout(kind="ber_tlv", subs=(tag("86", repeat=True), tag("9F26"), tag("DF8101"))).by_key["86"].repeat
    assert Layout(kind="tlv", tag_size=1, tag_encoding="binary", value_prefix="binary2", subs=(tag("71"),)).subs
    fixed = digits("A1", length=8)
    assert Layout(kind="tlv", tag_size=2, unknown="refuse", subs=(fixed,)).by_key == {"A1": fixed}


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"mti": ("08x",)}, "when.mti"),
        ({"mti": ("0800", "08X0")}, "when.mti"),
        ({"sensitive": "secret"}, "sensitive"),
    ],
)
def test_a_usage_that_contradicts_itself_is_refused(keys: dict[str, Any], key: str) -> None:
    assert refused(Usage, **keys) == key


# ------------------------------------------------------------------------------------------------ messages


def message(**change: Any) -> MessageSpec:
    keys: dict[str, Any] = {
        "name": "x", "mti_encoding": "bcd", "bitmap": "binary", "field_max": 64, "fields": (FieldSpec(**PAN),),
    }  # fmt: skip
    return MessageSpec(**{**keys, **change})


STAN = FieldSpec(**{**NUMBER, "number": 11, "name": "stan"})


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"mti_encoding": "hex"}, "mti_encoding"),
        ({"bitmap": "text"}, "bitmap"),
        ({"field_max": 63}, "field_max"),
        ({"field_max": 256}, "field_max"),
        ({"fields": (FieldSpec(**{**PAN, "number": 70}),)}, "field.70"),
        ({"fields": (FieldSpec(**{**PAN, "number": 129}),), "field_max": 128}, "field.129"),
        ({"fields": (FieldSpec(**{**PAN, "number": 65}),), "field_max": 192}, "field.65"),
        ({"fields": (FieldSpec(**PAN), FieldSpec(**PAN))}, "field"),
        ({"fields": (STAN, FieldSpec(**PAN))}, "field"),
        ({"fields": (FieldSpec(**PAN), FieldSpec(**{**PAN, "number": 3}))}, "field.3.name"),
        (
            {"fields": (FieldSpec(**{**TRACK, "number": 35, "encrypted_when": (53, 3, "1")}),)},
            "field.35.encrypted_when",
        ),
        ({"variants": (Variant(mti="0200"), Variant(mti="0200"))}, "mti"),
        ({"variants": (Variant(mti="02"),)}, "mti.02"),
        ({"variants": (Variant(mti="02x0", removed=(3,)),)}, "mti.02x0.remove"),
        ({"variants": (Variant(mti="0200", fields=(FieldSpec(**{**PAN, "number": 3}),)),)}, "mti.0200.field.3.name"),
        ({"variants": (Variant(mti="0200", fields=(dataclasses.replace(STAN, number=65),)),)}, "mti.0200.field.65"),
        ({"reply": (("0200", (3,)),)}, "reply.0200"),
    ],
)
def test_a_message_that_contradicts_itself_is_refused(change: dict[str, Any], key: str) -> None:
    assert hash(message()) == hash(message())
    assert refused(message, **change) == key


def test_the_variant_with_the_fewest_x_counts() -> None:
    short = dataclasses.replace(STAN, length_min=4, length_max=4)
    spec = message(
        fields=(FieldSpec(**PAN), STAN),
        variants=(Variant(mti="08xx", removed=(2,)), Variant(mti="0820", fields=(short,)), Variant(mti="x8x0")),
    )
    assert spec.variant_for("0200") is None
    assert spec.fields_of(None) == spec.by_number == {2: FieldSpec(**PAN), 11: STAN}
    exact, general = spec.variant_for("0820"), spec.variant_for("0811")
    assert exact is not None and exact.mti == "0820"
    assert general is not None and general.mti == "08xx"
    assert spec.fields_of(exact) == {2: FieldSpec(**PAN), 11: short}
    assert spec.fields_of(general) == {11: STAN}


def test_patterns_and_prefixes() -> None:
    assert [pattern for pattern in ("0800", "xxxx", "080", "08000", "08y0", "08X0", "") if mti_pattern_ok(pattern)] == [
        "0800",
        "xxxx",
    ]
    assert not mti_matches("08xx", "080") and not mti_matches("08xx", "") and mti_matches("xxxx", "0800")
    largest = {"bcd1": 9, "ascii4": 9999, "ebcdic2": 99, "binary1": 255, "binary2": 65535, "hex2": 255, "hex4": 65535}
    assert {name: prefix_max(name) for name in largest} == largest
    assert prefix_max("bcd6") == 65535  # no message is longer


def test_headers_of_responses() -> None:
    sizes = {name: layout.size for name, layout in HEADERS.items()}
    assert sizes == {"none": 0, "tpdu": 5, "pos6": 6, "tpdu+pos6": 11, "cups": 46, "cupd": 41}
    assert HEADERS["tpdu+pos6"].turned(bytes.fromhex("6000030001603100000000")).hex() == "6000010003603100000000"
    assert HEADERS["pos6"].turned(b"123456") == b"123456"
    cups = b"\x2e\x020068" + b"11111111   " + b"00010000   " + bytes(4) + b"00000000" + b"\0" + b"00000"
    turned = b"\x2e\x020068" + b"00010000   " + b"11111111   " + bytes(4) + b"00000000" + b"\0" + b"00000"
    assert HEADERS["cups"].turned(cups) == turned
    assert HeaderLayout("two", 2, swap=(0, 1, 1)).turned(b"ab") == b"ba"
