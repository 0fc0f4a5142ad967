"""Field and message definitions check themselves."""

from typing import Any

import pytest

import iso8583
from iso8583 import FieldSpec, MessageSpec, SpecError

GOOD: dict[str, Any] = {
    "number": 2,
    "name": "pan",
    "content": "n",
    "encoding": "bcd_left",
    "length_min": 0,
    "length_max": 19,
    "length_prefix": "bcd2",
    "length_unit": "digits",
}


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"number": 1}, ""),
        ({"number": 129}, ""),
        ({"name": "Pan"}, "name"),
        ({"name": "2pan"}, "name"),
        ({"name": "mti"}, "name"),
        ({"content": "x"}, "content"),
        ({"encoding": "ebcdic"}, "encoding"),
        ({"content": "an"}, "encoding"),
        ({"content": "z", "encoding": "bcd_right"}, "encoding"),
        ({"length_unit": "nibbles"}, "length_unit"),
        ({"encoding": "ascii"}, "length_unit"),
        ({"length_max": 0}, "length_max"),
        ({"length_min": 20}, "length_max"),
        ({"length_max": 100}, "length_max"),
        ({"length_prefix": None}, "length_prefix"),
        ({"length_prefix": "bcd9"}, "length_prefix"),
        ({"sensitive": "secret"}, "sensitive"),
        ({"sensitive": "icc"}, "sensitive"),
        ({"tlv": True}, "tlv"),
    ],
)
def test_a_field_that_contradicts_itself_is_refused(change: dict[str, Any], key: str) -> None:
    FieldSpec(**GOOD)
    with pytest.raises(SpecError) as caught:
        FieldSpec(**{**GOOD, **change})
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"mti": "ebcdic"}, "mti"),
        ({"bitmap": "text"}, "bitmap"),
        ({"field_max": 192}, "field_max"),
        ({"fields": (FieldSpec(**{**GOOD, "number": 70}),)}, "field.70"),
        ({"fields": (FieldSpec(**GOOD), FieldSpec(**GOOD))}, "field"),
        ({"fields": (FieldSpec(**GOOD), FieldSpec(**{**GOOD, "number": 3}))}, "field.3.name"),
        ({"reply": (("0200", (3,)),)}, "reply.0200"),
    ],
)
def test_a_message_that_contradicts_itself_is_refused(change: dict[str, Any], key: str) -> None:
    good: dict[str, Any] = {
        "name": "x", "mti": "bcd", "bitmap": "binary", "field_max": 64, "fields": (FieldSpec(**GOOD),),
    }  # fmt: skip
    assert hash(MessageSpec(**good)) == hash(MessageSpec(**good))
    with pytest.raises(SpecError) as caught:
        MessageSpec(**{**good, **change})
    assert caught.value.key == key


def test_fields_say_what_they_expect() -> None:
    spec = iso8583.load("unionpay_pos")
    assert spec.fields[2].expected() == "8 to 19 digits"
    assert spec.fields[4].expected() == "12 digits"
    assert spec.fields[41].expected() == "8 bytes"
    assert spec.fields[52].type is bytes and spec.fields[2].type is str
    assert spec.fields[4].fixed and not spec.fields[2].fixed
