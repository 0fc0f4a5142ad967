"""The compiled codec against the same spec in plain slow Python, over specs that nobody would write.

Every spec here is drawn: any content in any encoding it can have, any prefix, any unit. Whatever one of the two says
about a message, bytes, values or an error with its place, the other must say as well.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

import iso8583
from iso8583 import _reference
from iso8583.spec import CONTENTS, ENCODINGS, PREFIXES, FieldSpec, Layout, MessageSpec, SubSpec, Variant, prefix_max

SEEDS = range(300)
LETTERS = "ABCXYZabcxyz "
ALPHABETS = {
    "n": "0123456789",
    "a": LETTERS,
    "an": LETTERS + "0189",
    "ans": LETTERS + "0189!~^[]",
    "z": "0123456789ABCEF=",
    "xn": "0123456789",
}
WIDE = {
    "gbk": "电力缴费一龥",
    "gb18030": "电力缴费😀㐀",
    "utf8": "电é😀",
    "latin1": "éÿ£",
    "cp037": "éÿ£",
    "cp500": "é£",
    "cp1047": "é£",
}
TAGS = ["82", "95", "9F26", "5F2A", "DF31", "E1", "BF0C", "1F8101"]


def draw_field(dice: random.Random, number: int) -> FieldSpec:
    """Some field that makes sense. Draws again until the spec language agrees."""
    while True:
        encoding = dice.choice(sorted(ENCODINGS))
        content = dice.choice(sorted(ENCODINGS[encoding]))
        variable = dice.random() < 0.5
        prefix = dice.choice(sorted(PREFIXES)) if variable else None
        longest = dice.choice([1, 2, 3, 7, 8, 9, 12, 16, 37])
        if prefix is not None:
            longest = min(longest, prefix_max(prefix))
        keys: dict[str, Any] = {
            "number": number,
            "name": f"field_{number}",
            "content": content,
            "encoding": encoding,
            "length_min": dice.choice([0, min(2, longest)]) if variable else longest,
            "length_max": longest,
            "length_prefix": prefix,
            "length_unit": dice.choice(["digits", "bytes", "nibbles"]),
            "pad_strict": dice.random() < 0.5,
            "pad_nibble": dice.choice("0F"),
        }
        if content == "b" and encoding == "binary" and dice.random() < 0.3:
            repeated = SubSpec(
                key="E1", name="", content="b", encoding="binary", length_min=0, length_max=65535, repeat=True
            )
            keys["layout"] = Layout(kind="ber_tlv", subs=(repeated,))
        if content == "track2" and number != 3 and dice.random() < 0.5:
            keys["encrypted_when"] = (3, 2, "1")
        try:
            field = FieldSpec(**keys)
            iso8583.Spec(
                MessageSpec(name="x", mti_encoding="bcd", bitmap="binary", field_max=192, fields=(SECRET, field))
            )
        except iso8583.SpecError:
            continue
        return field


SECRET = FieldSpec(
    number=3, name="security", content="n", encoding="bcd_left", length_min=4, length_max=4, length_unit="digits"
)


def draw_spec(dice: random.Random) -> iso8583.Spec:
    top = dice.choice([64, 128, 192])
    numbers = sorted(dice.sample([number for number in range(4, top + 1) if number != 65], 14))
    fields = (SECRET, *(draw_field(dice, number) for number in numbers))
    other = dice.choice(numbers)
    variants = (Variant(mti="05xx", fields=(draw_field(dice, other),)), Variant(mti="08x0", removed=(other,)))
    return iso8583.Spec(
        MessageSpec(
            name="drawn",
            mti_encoding=dice.choice(["bcd", "ascii", "ebcdic"]),
            bitmap=dice.choice(["binary", "hex", "hex_ebcdic"]),
            field_max=top,
            fields=fields,
            variants=variants if dice.random() < 0.5 else (),
        )
    )


def draw_value(dice: random.Random, field: FieldSpec) -> Any:
    if field.tlv:
        tags = dice.sample(TAGS, dice.randint(0, 4)) + [dice.choice(["E1", "E1", "E1", "82"])] * dice.randint(0, 2)
        return iso8583.tlv.encode([(tag, dice.randbytes(dice.randint(0, 3))) for tag in tags])
    length = dice.randint(field.length_min, field.length_max)
    if field.content == "b":
        halves = field.length_unit == "nibbles" or (field.encoding.startswith("hex") and field.length_unit == "digits")
        return dice.randbytes(length // 2 if halves else length)
    if field.packed and field.length_unit == "bytes":
        length *= 2
    if field.content == "track2":
        front = dice.randint(1, 19)
        digits = "".join(dice.choices("0123456789", k=max(length, 2)))
        return digits[:front] + dice.choice("=D") + digits[front + 1 : length]
    if field.content == "xn":
        return dice.choice("CD") + "".join(dice.choices("0123456789", k=max(length - 1, 0)))
    text = "".join(dice.choices(ALPHABETS[field.content], k=length))
    if field.content == "ans" and field.encoding in WIDE and dice.random() < 0.5:
        text = dice.choice(WIDE[field.encoding]) + text[: max(length - 4, 0)]
    return text


def draw_values(dice: random.Random, spec: iso8583.Spec) -> dict[int, Any]:
    values: dict[int, Any] = {0: dice.choice(["0200", "0210", "0500", "0800"])}
    fields = spec.definition.fields_of(spec.definition.variant_for(values[0]))
    for number in sorted(dice.sample(sorted(fields), dice.randint(0, min(10, len(fields))))):
        values[number] = draw_value(dice, fields[number])
    return values


def outcome(action: Any, *arguments: Any) -> Any:
    try:
        return action(*arguments)
    except iso8583.DecodeError as error:
        return "decode", error.code, error.path, error.offset
    except iso8583.EncodeError as error:
        return "encode", error.code, error.path


def damaged(dice: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.randint(1, 2)):
        what = dice.random()
        if what < 0.7 and changed:
            # Rarely in MTI and bitmaps, where nearly every change gives the same few errors.
            start = 0 if dice.random() < 0.1 else min(20, len(changed) - 1)
            changed[dice.randrange(start, len(changed))] = dice.choice([dice.randrange(256), 0, 0x0F, 0xFF, 0x20, 0x3D])
        elif what < 0.85:
            del changed[dice.randrange(len(changed) + 1) :]
        else:
            changed += dice.randbytes(dice.randint(1, 3))
    return bytes(changed)


@pytest.mark.parametrize("seed", SEEDS)
def test_both_codecs_say_the_same(seed: int) -> None:
    dice = random.Random(seed)
    spec = draw_spec(dice)
    for _ in range(30):
        values = draw_values(dice, spec)
        encoded = outcome(spec.encode, values)
        assert encoded == outcome(_reference.encode, spec.definition, values), values
        if not isinstance(encoded, bytes):
            continue
        for data in (encoded, *(damaged(dice, encoded) for _ in range(6))):
            native = outcome(lambda data: spec.decode(data).to_dict(), data)
            assert native == outcome(_reference.decode, spec.definition, data), data.hex()
            check_lenient(spec, data, native)


def check_lenient(spec: iso8583.Spec, data: bytes, strict: Any) -> None:
    """A lenient reader finds nothing in what a strict one takes, and the same fault first among its own."""
    message = spec.decode(data, strict=False)
    findings = message.findings
    if isinstance(strict, dict):
        assert all("." in error.path for error in findings)
        assert message.to_dict() == strict
        assert bytes(message) == data and message.patched({}) == data
        assert outcome(spec.decode, outcome(spec.encode, strict)) == message
    else:
        found = {(error.code, error.path, error.offset) for error in message.findings}
        assert strict[1:] in found
        assert message.to_dict() is not None and repr(message)


def test_every_content_and_encoding_is_drawn() -> None:
    """The dice reach everything that the spec language has, or the test above proves less than it says."""
    seen: set[tuple[str, str]] = set()
    prefixes: set[str | None] = set()
    for seed in SEEDS:
        dice = random.Random(seed)
        for field in draw_spec(dice).definition.fields:
            seen.add((field.content, field.encoding))
            prefixes.add(field.length_prefix)
    assert seen == {(content, encoding) for encoding, contents in ENCODINGS.items() for content in contents}
    assert {content for content, _ in seen} == set(CONTENTS)
    assert prefixes == {None, *PREFIXES}


def changed_spec() -> iso8583.Spec:
    """The 1987 ASCII spec with what it lacks: letters and digits of variable length, a track that may be encrypted."""
    definition = iso8583.load("iso8583_1987_ascii").definition
    changes: dict[int, dict[str, Any]] = {44: {"content": "an"}, 35: {"encrypted_when": (53, 1, "1")}}
    fields = tuple(replace(field, **changes.get(field.number, {})) for field in definition.fields)
    return iso8583.Spec(replace(definition, fields=fields))


def same_lengths(prefix: bytes) -> list[bytes]:
    """What would be read as the same length if characters behind the digits were digits, too."""
    digits = [byte - 48 for byte in prefix]
    found = []
    for at in range(1, len(digits)):
        for borrowed in range(1, digits[at - 1] + 1):
            moved = [*digits]
            moved[at - 1] -= borrowed
            moved[at] += 10 * borrowed
            found.append(bytes(48 + digit for digit in moved))
    return found


@pytest.mark.parametrize("name", ["iso8583_1987_ascii", "iso8583_1987_bcd", "changed"])
def test_both_say_the_same_of_every_byte_in_a_length_and_behind_it(name: str) -> None:
    """Drawn damage seldom meets the one byte that a short way through the decoder does not look at."""
    spec = changed_spec() if name == "changed" else iso8583.load(name)
    values: dict[int, Any] = {0: "0200", 2: "6222021234567894", 35: "6222021234567894=301220100", 36: "12=34"}
    values |= {44: "AB 12", 48: "FREE OF CHARGE", 53: "1000000000000000", 54: "BALANCE", 55: {"9F26": b"ABCDEFGH"}}
    values |= {62: "X" * 123, 100: "12345678"}
    data = spec.encode(values)
    message = spec.decode(data)
    variable = [number for number in values if number not in (0, 53)]
    starts = {number: message.span(number)[0] for number in variable}
    start, size = message.span(35)
    places = {at + more for at in starts.values() for more in range(5)} | set(range(start, start + size))
    damage = [data[:at] + bytes([byte]) + data[at + 1 :] for at in sorted(places) for byte in range(256)]
    if name != "iso8583_1987_bcd":
        for at in starts.values():
            for width in (2, 3):
                damage += [data[:at] + other + data[at + width :] for other in same_lengths(data[at : at + width])
                           if data[at : at + width].isdigit()]  # fmt: skip
    for changed in damage:
        native = outcome(lambda data: spec.decode(data).to_dict(), changed)
        assert native == outcome(_reference.decode, spec.definition, changed), changed.hex()
