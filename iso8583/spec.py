"""Specs as plain data: what every field of one wire format looks like.

A spec is checked when it is made, so that everything above may trust it. Nothing here reads files
(``specfile``) or bytes (``_native``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeAlias

from iso8583.errors import SpecError
from iso8583.masking import KINDS

CONTENTS: Final = {
    "n": "digits",
    "a": "letters or spaces",
    "an": "letters, digits or spaces",
    "ans": "printable ASCII characters",
    "z": "track characters (0-9, A-F, =)",
    "xn": "C or D followed by digits",
    "b": "bytes",
}

#: encoding -> contents that it can carry
ENCODINGS: Final = {
    "bcd_left": {"n", "z"},  # two digits a byte, an odd count padded on the right
    "bcd_right": {"n"},  # the same, padded on the left
    "ascii": {"n", "a", "an", "ans", "z", "xn"},
    "gbk": {"ans"},
    "binary": {"b"},
}

#: length_prefix -> (digits, form)
PREFIXES: Final = {
    "bcd2": (2, "bcd"),
    "bcd3": (3, "bcd"),
    "bcd4": (4, "bcd"),
    "ascii2": (2, "ascii"),
    "ascii3": (3, "ascii"),
    "ascii4": (4, "ascii"),
}

LENGTH_MAX: Final = 9999  # four digits of length prefix

# What callers hand to encode(), in one place because the compiled module cannot hold types.
Buffer: TypeAlias = bytes | bytearray | memoryview
Key: TypeAlias = int | str
TlvInput: TypeAlias = "Mapping[str, Buffer | TlvInput] | Sequence[tuple[str, Buffer | TlvInput]]"
# Field number or name to str, bytes, int, TLV objects or None. Not spelled out: checkers infer dict[int, object] for a
# literal of mixed values and would refuse what encode() takes; encode() itself checks every value.
Values: TypeAlias = Mapping[Any, object]


@dataclass(frozen=True, slots=True)
class HeaderLayout:
    """What stands in front of the MTI on one link.

    Attributes:
        name: As written in configuration, e.g. ``"tpdu+pos6"``.
        size: Bytes.
        has_tpdu: The first 5 bytes are a TPDU: 60, destination (2 bytes), origin (2 bytes).

    Source: UnionPay POS; links with all, one or none of the parts are in use, so it is a setting of the link.
    """

    name: str
    size: int
    has_tpdu: bool

    def turned(self, header: bytes) -> bytes:
        """The header of a response: a host that answers swaps the two TPDU addresses and echoes the rest."""
        assert len(header) == self.size
        if not self.has_tpdu:
            return header
        return header[0:1] + header[3:5] + header[1:3] + header[5:]


HEADERS: Final = {
    layout.name: layout
    for layout in (
        HeaderLayout("none", 0, has_tpdu=False),
        HeaderLayout("tpdu", 5, has_tpdu=True),
        HeaderLayout("pos6", 6, has_tpdu=False),
        HeaderLayout("tpdu+pos6", 11, has_tpdu=True),
    )
}


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One field.

    Attributes:
        number: 2 to 128.
        name: How code calls it, e.g. ``"pan"``; unique in the spec.
        content: A key of ``CONTENTS``.
        encoding: A key of ``ENCODINGS``.
        length_min: In ``length_unit``; equals ``length_max`` for a field of fixed length.
        length_max: In ``length_unit``.
        length_prefix: A key of ``PREFIXES``, or None for a field of fixed length.
        length_unit: What the prefix counts: ``"digits"`` or ``"bytes"``. The packed value of 5 digits takes 3 bytes.
        label: Chinese name, as the documents of the networks print it.
        sensitive: A key of ``masking.KINDS``, or None.
        codes: Name of a code table that explains the values, or None.
        tlv: The bytes are BER-TLV objects; checked on decoding and encoding.
        pad_strict: The pad nibble of an odd count must be 0. Off by default: senders pad with 0 and with F.
        source: Where the facts come from.
    """

    number: int
    name: str
    content: str
    encoding: str
    length_min: int
    length_max: int
    length_prefix: str | None = None
    length_unit: str = "bytes"
    label: str = ""
    sensitive: str | None = None
    codes: str | None = None
    tlv: bool = False
    pad_strict: bool = False
    source: str = ""

    def __post_init__(self) -> None:
        def fail(key: str, detail: str) -> SpecError:
            return SpecError(f"field.{self.number}", key, detail)

        if not 2 <= self.number <= 128:
            raise fail("", "field numbers are 2 to 128; 0 is the MTI and 1 the bitmap")
        if not (self.name.isidentifier() and self.name.islower() and self.name.isascii()) or self.name == "mti":
            raise fail("name", "expected lower-case letters, digits and _, and not 'mti'")
        if self.content not in CONTENTS:
            raise fail("content", f"expected one of {', '.join(CONTENTS)}")
        if self.encoding not in ENCODINGS:
            raise fail("encoding", f"expected one of {', '.join(ENCODINGS)}")
        if self.content not in ENCODINGS[self.encoding]:
            raise fail("encoding", f"{self.encoding} cannot carry content {self.content}")
        if self.length_unit not in ("digits", "bytes"):
            raise fail("length_unit", "expected digits or bytes")
        if self.length_unit == "digits" and not self.packed:
            raise fail("length_unit", "only bcd encodings count digits; expected bytes")
        if not 0 <= self.length_min <= self.length_max or not 1 <= self.length_max <= LENGTH_MAX:
            raise fail("length_max", f"expected 0 <= length_min <= length_max, 1 <= length_max <= {LENGTH_MAX}")
        if self.length_prefix is None:
            if self.length_min != self.length_max:
                raise fail("length_prefix", "missing; a field without one has a fixed `length`")
        elif self.length_prefix not in PREFIXES:
            raise fail("length_prefix", f"expected one of {', '.join(PREFIXES)}")
        elif self.length_max >= 10 ** PREFIXES[self.length_prefix][0]:
            raise fail("length_max", f"does not fit the prefix {self.length_prefix}")
        if self.sensitive is not None and self.sensitive not in KINDS:
            raise fail("sensitive", f"expected one of {', '.join(KINDS)}")
        if self.tlv and self.encoding != "binary":
            raise fail("tlv", "only binary fields hold TLV objects")
        if self.sensitive == "icc" and not self.tlv:
            raise fail("sensitive", "icc needs tlv = true")

    @property
    def packed(self) -> bool:
        """Two digits share a byte."""
        return self.encoding.startswith("bcd")

    @property
    def fixed(self) -> bool:
        return self.length_prefix is None

    @property
    def type(self) -> type[str] | type[bytes]:
        """Type of the decoded value: ``bytes`` for binary fields, ``str`` for all others."""
        return bytes if self.encoding == "binary" else str

    @property
    def unit(self) -> str:
        """What the length of a value is counted in, for people."""
        return "digits" if self.length_unit == "digits" else "bytes"

    def expected(self) -> str:
        """For error messages: ``"12 digits"``, ``"0 to 19 digits"``."""
        length = str(self.length_max) if self.fixed else f"{self.length_min} to {self.length_max}"
        return f"{length} {self.unit}"


@dataclass(frozen=True)
class MessageSpec:
    """One wire format.

    Attributes:
        name: e.g. ``"unionpay_pos"``.
        mti: ``"bcd"`` (2 bytes) or ``"ascii"`` (4 bytes).
        bitmap: ``"binary"`` (8 bytes) or ``"hex"`` (16 characters).
        field_max: 64, or 128 with a secondary bitmap.
        fields: Ascending by number.
        reply: (request MTI, fields that its response repeats), ascending.
        source: The document behind it.
    """

    name: str
    mti: str
    bitmap: str
    field_max: int
    fields: tuple[FieldSpec, ...]
    reply: tuple[tuple[str, tuple[int, ...]], ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        if self.mti not in ("bcd", "ascii"):
            raise SpecError(self.name, "mti", "expected bcd or ascii")
        if self.bitmap not in ("binary", "hex"):
            raise SpecError(self.name, "bitmap", "expected binary or hex")
        if self.field_max not in (64, 128):
            raise SpecError(self.name, "field_max", "expected 64 or 128")
        numbers = [field.number for field in self.fields]
        if numbers != sorted(set(numbers)):
            raise SpecError(self.name, "field", "expected every number once, ascending")
        names: dict[str, int] = {}
        for field in self.fields:
            if field.number > self.field_max:
                raise SpecError(self.name, f"field.{field.number}", f"above field_max {self.field_max}")
            if field.name in names:
                raise SpecError(
                    self.name, f"field.{field.number}.name", f"{field.name} is field {names[field.name]} already"
                )
            names[field.name] = field.number
        for request, echoed in self.reply:
            for number in echoed:
                if number not in self.by_number:
                    raise SpecError(self.name, f"reply.{request}", f"field {number} is not defined")

    @cached_property
    def by_number(self) -> Mapping[int, FieldSpec]:
        return {field.number: field for field in self.fields}
