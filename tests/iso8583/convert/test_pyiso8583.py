"""pyiso8583's dicts. What they mean is checked against the drop-in, which passes pyiso8583's own tests."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from iso8583 import _reference, convert, specfile
from iso8583.compat import pyiso8583 as theirs
from iso8583.convert import pyiso8583
from iso8583.errors import SpecError
from iso8583.spec import FieldSpec, MessageSpec


def entry(data_enc: str, len_enc: str, len_type: int, max_len: int, **more: Any) -> dict[str, Any]:
    return {
        "data_enc": data_enc,
        "len_enc": len_enc,
        "len_type": len_type,
        "max_len": max_len,
        "desc": "Some Data",
        **more,
    }


PLAIN = {
    "h": entry("ascii", "ascii", 0, 0),
    "t": entry("ascii", "ascii", 0, 4),
    "p": entry("b", "ascii", 0, 8),
    "1": entry("b", "ascii", 0, 8),
}
NIBBLES = {"len_count": "nibbles"}
PACKED: dict[str, dict[str, Any]] = {
    **theirs.specs.default,
    "t": entry("b", "ascii", 0, 2),
    "2": entry("b", "bcd", 1, 19, **NIBBLES, left_pad="0"),
    "3": entry("b", "ascii", 0, 3),
    "4": entry("b", "ascii", 0, 6, len_count="bytes"),
    "22": entry("b", "ascii", 0, 3, **NIBBLES, right_pad="F"),
    "32": entry("b", "b", 1, 11, **NIBBLES, right_pad="0"),
    "35": entry("b", "bcd", 1, 37, **NIBBLES, right_pad="f"),
    "36": entry("b", "bcd", 2, 104, **NIBBLES, left_pad="0"),
    "44": entry("b", "ascii", 2, 25, **NIBBLES, left_pad="0"),
    "48": entry("cp500", "bcd", 2, 999),
    "55": entry("b", "b", 2, 999),
    "60": entry("latin-1", "cp037", 3, 999),
    "61": entry("b", "ascii", 3, 998, **NIBBLES),
    "62": entry("gb18030", "ascii", 3, 998),
    "63": entry("utf-8", "ascii", 3, 998),
}
EBCDIC = {
    **PLAIN,
    "t": entry("cp500", "ascii", 0, 4),
    "p": entry("cp037", "ascii", 0, 16),
    "1": entry("cp037", "ascii", 0, 16),
}
EBCDIC |= {"4": entry("cp500", "ascii", 0, 12), "70": entry("cp037", "cp500", 2, 50)}


def value_for(field: FieldSpec, dice: random.Random) -> str:
    """A value as pyiso8583 has it: packed and binary ones in hexadecimal."""
    length = field.length_max if field.fixed else dice.randint(3, min(field.length_max, 40))
    if field.content == "b":
        count = length // 2 if field.length_unit == "nibbles" else length
        return dice.randbytes(count).hex().upper()
    if field.packed and field.length_unit == "bytes":
        length *= 2
    if field.content == "z":
        digits = "".join(dice.choices("0123456789", k=length))
        return f"{digits[: length // 2]}{'D' if field.packed else '='}{digits[length // 2 + 1 :]}"
    sign, characters = "", "ABC abc09-/"
    if field.content in ("n", "xn"):
        characters = "0123456789"
    if field.content == "xn":
        sign, length = "C", length - 1
    return sign + "".join(dice.choices(characters, k=length))


@pytest.mark.parametrize(
    "spec",
    [theirs.specs.default, theirs.specs.default_ascii, PACKED, EBCDIC],
    ids=["default", "ascii", "packed", "ebcdic"],
)
@pytest.mark.parametrize("seed", range(10))
def test_what_pyiso8583_encodes_is_decoded_here_and_back(spec: Any, seed: int) -> None:
    dice = random.Random(seed)
    definition = pyiso8583.read(spec)
    chosen = [field for field in definition.fields if dice.random() < 0.5]
    document = {"t": "0200", **{str(field.number): value_for(field, dice) for field in chosen}}
    raw, _ = theirs.encode(dict(document), spec)
    decoded = _reference.decode(definition, bytes(raw))
    for field in chosen:
        expected: object = document[str(field.number)]
        if field.content == "b":
            expected = bytes.fromhex(str(expected))
        elif field.packed:
            expected = str(expected).replace("D", "=")
        assert decoded[field.number] == expected, field.number
    assert _reference.encode(definition, decoded) == raw
    again, _ = theirs.encode(dict(document), pyiso8583.write(definition))
    assert again == raw


def test_numbers_are_known_by_the_standard() -> None:
    definition = pyiso8583.read(theirs.specs.default)
    contents = {number: definition.by_number[number].content for number in (2, 4, 28, 35, 36, 37, 48, 52)}
    assert contents == {2: "n", 4: "n", 28: "xn", 35: "z", 36: "z", 37: "ans", 48: "ans", 52: "b"}
    changed = {**theirs.specs.default, "4": entry("ascii", "ascii", 0, 15)}
    assert pyiso8583.read(changed).by_number[4].content == "ans"  # not the standard's field 4
    assert 65 not in definition.by_number and definition.field_max == 128


def test_sensitive_fields_are_marked_because_pyiso8583_does_not() -> None:
    definition = pyiso8583.read(theirs.specs.default)
    marks = {number: definition.by_number[number].sensitive for number in (2, 3, 14, 35, 45, 52, 55, 64, 128)}
    assert marks == {
        2: "pan",
        3: None,
        14: "expiry",
        35: "track",
        45: "track",
        52: "pin",
        55: "private",
        64: "mac",
        128: "mac",
    }


def test_pads_must_be_there_as_with_pyiso8583() -> None:
    definition = pyiso8583.read(PACKED)
    pan = definition.by_number[2]
    assert (pan.content, pan.encoding, pan.length_max, pan.pad_strict) == ("n", "bcd_right", 19, True)
    assert (definition.by_number[22].encoding, definition.by_number[22].pad_nibble) == ("bcd_left", "F")
    assert definition.by_number[36].length_prefix == "bcd3"
    assert definition.by_number[61].length_unit == "nibbles"
    assert (definition.by_number[44].content, definition.by_number[44].length_unit) == ("z", "digits")


@pytest.mark.parametrize(
    ("number", "field", "told"),
    [
        ("3", entry("cp1140", "ascii", 0, 6), "3.data_enc: 'cp1140': our specs have b, ascii"),
        ("3", entry("nonsense", "ascii", 0, 6), "3.data_enc: 'nonsense'"),
        ("3", entry("ascii", "koi8-r", 2, 6), "3.len_enc: 'koi8-r'"),
        ("3", entry("ascii", "b", 3, 6), "3.len_type: 3 bytes: our specs have no such length prefix"),
        ("3", entry("ascii", "ascii", 2, 6, **NIBBLES), "3.len_count: nibbles of text"),
        ("3", entry("ascii", "ascii", 2, 6, len_count="bits"), "3.len_count: expected bytes or nibbles"),
        ("3", entry("ascii", "ascii", 2, 0), "3.max_len: expected a whole number above 0"),
        ("3", entry("b", "ascii", 0, 3, **NIBBLES, left_pad="A"), "3.left_pad: our pad nibbles are 0 and F"),
        ("63", entry("b", "ascii", 0, 3, **NIBBLES), "63.max_len: an odd number of nibbles needs"),
        ("3", {**entry("ascii", "ascii", 0, 3), "colour": 1}, "3.colour: unknown key"),
        ("h", entry("ascii", "ascii", 0, 10), "h.max_len: our specs start at the MTI"),
        ("1", entry("ascii", "ascii", 0, 16), "1.data_enc: our bitmaps are all written in the same way"),
        ("200", entry("ascii", "ascii", 0, 16), "200: expected h, t, p, 1 or a field number"),
        ("t", "x", "t: missing"),
        ("3", "x", "3: expected a dict"),
    ],
)
def test_what_cannot_be_expressed_is_refused_by_name(number: str, field: Any, told: str) -> None:
    with pytest.raises(SpecError) as caught:
        convert.from_pyiso8583({**PLAIN, number: field}, "mine")
    assert told in str(caught.value)
    assert str(caught.value).startswith("mine: ")


def test_fields_above_64_need_the_second_bitmap() -> None:
    without = {key: value for key, value in PLAIN.items() if key != "1"}
    assert pyiso8583.read({**without, "3": entry("ascii", "ascii", 0, 6)}).field_max == 64
    with pytest.raises(SpecError, match="1: missing; field 70 needs the second bitmap"):
        pyiso8583.read({**without, "70": entry("ascii", "ascii", 0, 6)})


def test_text_is_json_or_a_python_literal() -> None:
    spec = {**PLAIN, "3": entry("ascii", "ascii", 0, 6)}
    expected = pyiso8583.read(spec, "mine")
    assert pyiso8583.read(pyiso8583.text_of(spec), "mine") == expected
    assert pyiso8583.read(f"default = {spec!r}\n", "mine") == expected


@pytest.mark.parametrize(
    "text", ["", "[]", "open('x')", "{" * 5000, "{'t': {'a': 1, 'a': 2}}", "{'t': __import__('os')}"]
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        pyiso8583.read(text, "mine")


def flat(text: str) -> MessageSpec:
    return specfile.loads('name = "x"\nmti_encoding = "ascii"\nbitmap = "binary"\nfield_max = 128\n' + text)


@pytest.mark.parametrize(
    ("keys", "written"),
    [
        ('content="b"\nencoding="hex"\nlength=8', ("ascii", "ascii", 0, 16)),  # hexadecimal text there
        ('content="n"\nencoding="bcd_left"\nlength_unit="digits"\nlength=5', ("b", "ascii", 0, 5)),
        ('content="n"\nencoding="cp1047"\nlength=5', ("cp500", "ascii", 0, 5)),
        ('content="ans"\nencoding="gbk"\nlength_max=50\nlength_prefix="binary1"', ("gb18030", "b", 1, 50)),
        ('content="ans"\nencoding="ascii"\nlength_max=50\nlength_prefix="bcd3"', ("ascii", "bcd", 2, 50)),
        ('content="ans"\nencoding="ascii"\nlength_max=50\nlength_prefix="ebcdic2"', ("ascii", "cp500", 2, 50)),
    ],
)
def test_fields_are_written_as_the_same_bytes(keys: str, written: tuple[str, str, int, int]) -> None:
    found = pyiso8583.write(flat(f'[field.110]\nname="x"\n{keys}'))["110"]
    assert (found["data_enc"], found["len_enc"], found["len_type"], found["max_len"]) == written


def test_what_pyiso8583_has_no_words_for_is_refused() -> None:
    definition = specfile.loads(Path(__file__).with_name("refused.toml").read_text(encoding="utf-8"))
    with pytest.raises(SpecError) as caught:
        pyiso8583.write(definition)
    told = str(caught.value)
    for place in ("field.7.length_prefix", "field.8.content", "field.9.usage", "mti.0800"):
        assert f"{place}: " in told
    with pytest.raises(SpecError, match=r"field\.55\.layout: pyiso8583 has no sub-fields"):
        pyiso8583.write(specfile.load_bundled("iso8583_1987_ascii"))
