"""The five messages that every library is timed with, and how they look on the wire.

    0200  purchase with a chip         18 fields, field 55 holds 24 tags in 154 bytes
    0210  its response                 15 fields
    0800  sign-on                       3 fields
    0400  reversal with a MAC          19 fields
    0110  authorization response       22 fields, 128-bit bitmap, MAC in field 128

Values are chosen so that every library can be given its chance: variable digit strings have an even length and no
leading zero (padding is a matter of taste), texts have no blanks at their end. ``Form.wire`` is a slow encoder of its
own: no library is measured against itself.

Imports nothing but the standard library: it is also loaded where another package is called ``iso8583``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

Fields: TypeAlias = dict[int, str | bytes]

#: number -> (kind, length or maximum, digits of the length prefix; 0 is fixed)
LAYOUT: Final[Mapping[int, tuple[str, int, int]]] = {
    2: ("digits", 19, 2),
    3: ("digits", 6, 0),
    4: ("digits", 12, 0),
    7: ("digits", 10, 0),
    11: ("digits", 6, 0),
    12: ("digits", 6, 0),
    13: ("digits", 4, 0),
    14: ("digits", 4, 0),
    15: ("digits", 4, 0),
    18: ("digits", 4, 0),
    22: ("digits", 3, 0),
    23: ("digits", 3, 0),
    25: ("digits", 2, 0),
    32: ("digits", 11, 2),
    35: ("track", 37, 2),
    37: ("text", 12, 0),
    38: ("text", 6, 0),
    39: ("text", 2, 0),
    41: ("text", 8, 0),
    42: ("text", 15, 0),
    49: ("text", 3, 0),
    52: ("bytes", 8, 0),
    54: ("text", 120, 3),
    55: ("bytes", 999, 3),
    64: ("bytes", 8, 0),
    100: ("digits", 11, 2),
    103: ("text", 28, 2),
    128: ("bytes", 8, 0),
}

# What a contactless purchase sends, 24 tags. Made up; the cryptogram is no cryptogram.
TAGS: Final[Mapping[str, bytes]] = {
    tag: bytes.fromhex(value)
    for tag, value in (
        ("9F26", "1122334455667788"),
        ("9F27", "80"),
        ("9F10", "07010103A0A000010A010000000000DEADBEEF"),
        ("9F37", "5A17C3E9"),
        ("9F36", "012C"),
        ("95", "0000048000"),
        ("9A", "261123"),
        ("9C", "00"),
        ("9F02", "000000012345"),
        ("5F2A", "0156"),
        ("82", "7C00"),
        ("9F1A", "0156"),
        ("9F03", "000000000000"),
        ("9F33", "E0F0C8"),
        ("9F34", "3F0000"),
        ("9F35", "22"),
        ("9F39", "07"),
        ("84", "A000000333010101"),
        ("9F09", "0020"),
        ("9F41", "00000123"),
        ("5F34", "01"),
        ("9B", "E800"),
        ("9F53", "52"),
        ("8A", "3030"),
    )
}
ICC: Final = b"".join(bytes.fromhex(tag) + bytes([len(value)]) + value for tag, value in TAGS.items())
assert len(TAGS) == 24 and len(ICC) == 154

PAN: Final = "6222021234567894"  # BIN 622200 to 622299 is for tests; the check digit fits
MERCHANT: Final = "898110049000001"

MESSAGES: Final[Mapping[str, Fields]] = {
    "0200": {
        0: "0200",
        2: PAN,
        3: "000000",
        4: "000000012345",
        7: "1123094512",
        11: "000123",
        12: "094512",
        13: "1123",
        14: "3012",
        22: "071",
        23: "001",
        25: "00",
        32: "48021000",
        35: f"{PAN}=3012201000000012345",
        41: "GS000001",
        42: MERCHANT,
        49: "156",
        52: bytes.fromhex("A1B2C3D4E5F60718"),
        55: ICC,
    },
    "0210": {
        0: "0210",
        2: PAN,
        3: "000000",
        4: "000000012345",
        7: "1123094512",
        11: "000123",
        12: "094513",
        13: "1123",
        15: "1123",
        32: "48021000",
        37: "112309451234",
        38: "A1B2C3",
        39: "00",
        41: "GS000001",
        42: MERCHANT,
        49: "156",
    },
    "0800": {0: "0800", 11: "000124", 41: "GS000001", 42: MERCHANT},
    "0400": {
        0: "0400",
        2: PAN,
        3: "000000",
        4: "000000012345",
        7: "1123094612",
        11: "000125",
        12: "094612",
        13: "1123",
        14: "3012",
        22: "071",
        23: "001",
        25: "00",
        32: "48021000",
        37: "112309451234",
        38: "A1B2C3",
        39: "98",
        41: "GS000001",
        42: MERCHANT,
        49: "156",
        64: bytes.fromhex("8456B1CD5A5A0102"),
    },
    "0110": {
        0: "0110",
        2: PAN,
        3: "310000",
        4: "000000000000",
        7: "1123094712",
        11: "000126",
        12: "094713",
        13: "1123",
        15: "1123",
        18: "4900",
        22: "071",
        25: "00",
        32: "48021000",
        37: "112309471234",
        38: "D4E5F6",
        39: "00",
        41: "GS000001",
        42: MERCHANT,
        49: "156",
        54: "1002156C0000001234561001156C000000100000",
        100: "48029000",
        103: "6222029876543214",
        128: bytes.fromhex("0F1E2D3C4B5A6978"),
    },
}
assert [len(fields) - 1 for fields in MESSAGES.values()] == [18, 15, 3, 19, 22]

READ: Final = (11, 41, 42)  # "decode and read three"
PATCH: Final[Fields] = {11: "777777", 41: "GS009999"}  # "patch two"


@dataclass(frozen=True)
class Form:
    """One way to put the messages on the wire. ``spec`` is the bundled spec of this library that speaks it.

    ``bitmap`` and ``lengths`` have variants because some libraries know only one: their numbers stand in the table with
    a note. Fixed digit strings of odd length are padded on the left in BCD, field 49 is text in both forms.
    """

    name: str
    spec: str
    packed: bool  # digits, track 2 and the MTI are BCD
    bitmap: str  # "HEX", "hex" (lower case) or "binary"
    lengths: str  # "ascii", "bcd" or "binary"

    def wire(self, fields: Fields) -> bytes:
        """The message as bytes."""
        bits = sum(1 << (128 - number) for number in fields if number)
        if bits & ((1 << 64) - 1):
            bits |= 1 << 127
        bitmap = bits.to_bytes(16, "big")[: 16 if bits >> 127 else 8]
        parts = [self._value("digits", str(fields[0])), self._bitmap(bitmap)]
        for number, value in sorted(fields.items()):
            if number:
                kind, length, prefix = LAYOUT[number]
                assert len(value) <= length and (prefix or len(value) == length), number
                parts += [self._prefix(prefix, len(value)), self._value(kind, value)]
        return b"".join(parts)

    def _bitmap(self, bitmap: bytes) -> bytes:
        if self.bitmap == "binary":
            return bitmap
        return (bitmap.hex().upper() if self.bitmap == "HEX" else bitmap.hex()).encode()

    def _prefix(self, digits: int, length: int) -> bytes:
        if digits == 0:
            return b""
        if self.lengths == "ascii":
            return f"{length:0{digits}}".encode()
        size = (digits + 1) // 2
        return bytes.fromhex(f"{length:0{2 * size}}") if self.lengths == "bcd" else length.to_bytes(size, "big")

    def _value(self, kind: str, value: str | bytes) -> bytes:
        if isinstance(value, bytes):
            return value
        if self.packed and kind in {"digits", "track"}:
            return bytes.fromhex("0" * (len(value) % 2) + value.replace("=", "D"))
        return value.encode()


FORMS: Final[Mapping[str, Form]] = {
    "ascii": Form("ascii", "iso8583_1987_ascii", packed=False, bitmap="HEX", lengths="ascii"),
    "bcd": Form("bcd", "iso8583_1987_bcd", packed=True, bitmap="binary", lengths="bcd"),
}
