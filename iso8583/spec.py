"""Specs as plain data: what every field of one wire format looks like.

A spec is checked when it is made, so that everything above may trust it. Nothing here reads files (``specfile``) or
bytes (``_native``). The words are those of the TOML files, which ``iso8583/README.md`` describes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeAlias

from iso8583.errors import SpecError
from iso8583.masking import KINDS

CONTENTS: Final = {
    "n": "digits",
    "a": "letters or spaces",
    "an": "letters, digits or spaces",
    "ans": "printable characters",
    "z": "track characters (0-9, A-F, =)",
    "track2": "track 2: digits, one separator (= or D), digits",
    "xn": "C or D followed by digits",
    "b": "bytes",
}

_CHARACTERS: Final = frozenset({"n", "a", "an", "ans", "z", "track2", "xn"})
_PACKED: Final = frozenset({"n", "z", "track2", "xn"})

#: encoding -> contents that it can carry
ENCODINGS: Final[Mapping[str, frozenset[str]]] = {
    "bcd_left": _PACKED,  # two digits a byte, an odd count padded on the right: 021 = 02 10
    "bcd_right": _PACKED,  # the same, padded on the left: 021 = 00 21
    "ascii": _CHARACTERS,
    "cp037": _CHARACTERS,  # EBCDIC, as IBM hosts in North America send it
    "cp500": _CHARACTERS,  # EBCDIC, international
    "cp1047": _CHARACTERS,  # EBCDIC, open systems
    "latin1": frozenset({"ans"}),
    "gbk": frozenset({"ans"}),
    "gb18030": frozenset({"ans"}),
    "utf8": frozenset({"ans"}),
    "binary": frozenset({"b"}),
    "hex": frozenset({"b"}),  # two hexadecimal characters a byte
    "hex_ebcdic": frozenset({"b"}),  # the same in EBCDIC
}

#: length_prefix -> (digits or bytes of the prefix, form)
PREFIXES: Final[Mapping[str, tuple[int, str]]] = {
    **{f"bcd{digits}": (digits, "bcd") for digits in range(1, 7)},  # two digits a byte, an odd count padded on the left
    **{f"ascii{digits}": (digits, "ascii") for digits in range(1, 7)},
    **{f"ebcdic{digits}": (digits, "ebcdic") for digits in range(1, 7)},
    **{f"binary{size}": (size, "binary") for size in (1, 2)},  # big-endian
    **{f"hex{digits}": (digits, "hex") for digits in (2, 4)},  # hexadecimal ASCII characters
}

LENGTH_MAX: Final = 65535  # a message is not longer
FIELD_MAX: Final = 192  # three bitmaps
NESTING_MAX: Final = 8  # levels of sub-fields; deeper is an attack or a mistake

# What callers hand to encode(), in one place because the compiled module cannot hold types.
Buffer: TypeAlias = bytes | bytearray | memoryview
Key: TypeAlias = int | str
TlvInput: TypeAlias = "Mapping[str, Buffer | TlvInput] | Sequence[tuple[str, Buffer | TlvInput]]"
# Field number or name to str, bytes, int, a tree of sub-fields or None. Not spelled out: checkers infer
# dict[int, object] for a literal of mixed values and would refuse what encode() takes; encode() checks every value.
Values: TypeAlias = Mapping[Any, object]


@dataclass(frozen=True, slots=True)
class HeaderLayout:
    """What stands in front of the MTI on one link.

    Attributes:
        name: As written in configuration, e.g. ``"tpdu+pos6"``.
        size: Bytes.
        has_tpdu: The first 5 bytes are a TPDU: 60, destination (2 bytes), origin (2 bytes).
        total_at: Offset of four ASCII digits that count header and message, or None. Checked on decoding, filled in on
            encoding.
        swap: (offset of destination, offset of source, size of each), which a response exchanges; None without them.

    Source: UnionPay POS and CUPS; links with all, one or none of the parts are in use, so it is a setting of the link.
    """

    name: str
    size: int
    has_tpdu: bool = False
    total_at: int | None = None
    swap: tuple[int, int, int] | None = None

    def turned(self, header: bytes) -> bytes:
        """The header of a response: destination and source exchanged, the rest echoed."""
        assert len(header) == self.size
        if self.swap is None:
            return header
        to, origin, size = self.swap
        turned = bytearray(header)
        turned[to : to + size], turned[origin : origin + size] = (
            header[origin : origin + size],
            header[to : to + size],
        )
        return bytes(turned)


HEADERS: Final = {
    layout.name: layout
    for layout in (
        HeaderLayout("none", 0),
        HeaderLayout("tpdu", 5, has_tpdu=True, swap=(1, 3, 2)),
        HeaderLayout("pos6", 6),
        HeaderLayout("tpdu+pos6", 11, has_tpdu=True, swap=(1, 3, 2)),
        # length 1, version 1, total length 4, destination 11, source 11, reserved 3, batch 1, transaction 8, user 1,
        # reject code 5
        HeaderLayout("cups", 46, total_at=2, swap=(6, 17, 11)),
        HeaderLayout("cupd", 41, total_at=2, swap=(6, 17, 11)),  # the same without the reject code
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueSpec:
    """One value: of a field, or of a sub-field.

    Attributes:
        name: How code calls it, e.g. ``"pan"``; unique among its neighbours. A sub-field may have none (``""``).
        content: A key of ``CONTENTS``.
        encoding: A key of ``ENCODINGS``.
        length_min: In ``length_unit``; equals ``length_max`` for a value of fixed length.
        length_max: In ``length_unit``.
        length_prefix: A key of ``PREFIXES``, or None for a value of fixed length.
        length_unit: What lengths count. ``"digits"``: digits of a packed value, or the hexadecimal characters of a
            ``hex`` one; ``"bytes"``: bytes as transmitted, of a ``hex`` value the bytes that it stands for;
            ``"nibbles"``: twice the bytes of a binary value. The packed value of 5 digits takes 3 bytes.
        pad_side: ``"left"`` or ``"right"``: where ``encode`` fills up a value that is shorter than its fixed length;
            None: such a value is an error. Decoded values keep their fill: 000123 is not 123.
        pad_character: What it fills with: one ASCII character.
        pad_nibble: The nibble that fills up an odd count of packed digits: ``"0"`` or ``"F"``.
        pad_strict: A decoded pad nibble must be ``pad_nibble``. Off by default: peers pad with 0 and with F.
        encrypted_when: (field, position, character): the track is encrypted, and any nibbles do, when the character at
            this position (from 1) of that field is this one. For ``track2`` only.
        layout: What the value is made of, or None.
        usages: Alternatives to ``layout``, chosen by the message; the first whose condition holds counts.
        label: Chinese name, as the documents of the networks print it.
        sensitive: A key of ``masking.KINDS``, or None. Sub-fields inherit it; ``"public"`` there ends that.
        codes: Name of a code table that explains the values, or None.
        source: Where the facts come from.
    """

    name: str
    content: str
    encoding: str
    length_min: int
    length_max: int
    length_prefix: str | None = None
    length_unit: str = "bytes"
    pad_side: str | None = None
    pad_character: str = ""
    pad_nibble: str = "0"
    pad_strict: bool = False
    encrypted_when: tuple[int, int, str] | None = None
    layout: Layout | None = None
    usages: tuple[Usage, ...] = ()
    label: str = ""
    sensitive: str | None = None
    codes: str | None = None
    source: str = ""

    def __post_init__(self) -> None:
        def fail(key: str, detail: str) -> SpecError:
            return SpecError(self.place, key, detail)

        if not self._name_ok():
            raise fail("name", "expected lower-case letters, digits and _, and not 'mti'")
        if self.content not in CONTENTS:
            raise fail("content", f"expected one of {', '.join(CONTENTS)}")
        if self.encoding not in ENCODINGS:
            raise fail("encoding", f"expected one of {', '.join(ENCODINGS)}")
        if self.content not in ENCODINGS[self.encoding]:
            raise fail("encoding", f"{self.encoding} cannot carry content {self.content}")
        if self.length_unit not in ("digits", "bytes", "nibbles"):
            raise fail("length_unit", "expected digits, bytes or nibbles")
        if self.length_unit == "digits" and not (self.packed or self.encoding.startswith("hex")):
            raise fail("length_unit", "only bcd and hex encodings count digits; expected bytes")
        if self.length_unit == "nibbles" and self.encoding != "binary":
            raise fail("length_unit", "only binary values count nibbles")
        if not 0 <= self.length_min <= self.length_max or not 1 <= self.length_max <= LENGTH_MAX:
            raise fail("length_max", f"expected 0 <= length_min <= length_max, 1 <= length_max <= {LENGTH_MAX}")
        halves = self.length_unit == "nibbles" or (self.encoding.startswith("hex") and self.length_unit == "digits")
        if halves and self.fixed and self.length_max % 2:
            raise fail("length_max", "expected an even number: it counts half bytes")
        if self.length_prefix is not None:
            if self.length_prefix not in PREFIXES:
                raise fail("length_prefix", f"expected one of {', '.join(PREFIXES)}")
            if self.length_max > prefix_max(self.length_prefix):
                raise fail("length_max", f"does not fit the prefix {self.length_prefix}")
        elif self.length_min != self.length_max and not self._may_take_the_rest():
            raise fail("length_prefix", "missing; a value without one has a fixed `length`")
        if self.content == "xn" and self.packed and not (self.fixed and self.length_unit == "digits"):
            raise fail("length_unit", "a packed x+n value has a fixed length in digits, its sign counted as one")
        if self.pad_side not in (None, "left", "right"):
            raise fail("pad_side", "expected left or right")
        if self.pad_side is not None and not (
            self.fixed and self.type is str and len(self.pad_character) == 1 and self.pad_character.isascii()
        ):
            raise fail("pad_character", "expected one ASCII character, on a text field of fixed length")
        if self.pad_side is not None and self.content == "n" and not self.pad_character.isdigit():
            raise fail("pad_character", "expected a digit: the content is n")
        if self.pad_nibble not in ("0", "F"):
            raise fail("pad_nibble", "expected 0 or F")
        if self.encrypted_when is not None and self.content != "track2":
            raise fail("encrypted_when", "is for content track2")
        if self.sensitive is not None and self.sensitive not in KINDS:
            raise fail("sensitive", f"expected one of {', '.join(KINDS)}")
        layouts = [self.layout, *(usage.layout for usage in self.usages)]
        if any(layout is not None and layout.kind == "ber_tlv" for layout in layouts) and self.type is not bytes:
            raise fail("layout", "only binary fields hold BER-TLV objects")
        if self.packed and any(sub.encoding != "ascii" for layout in layouts if layout for sub in layout.subs):
            raise fail("layout", "sub-fields of a packed field lie in its digits: their encoding is ascii")
        if self.sensitive == "icc" and not self.tlv:
            raise fail("sensitive", 'icc needs layout = "ber_tlv"')

    @property
    def place(self) -> str:
        """Where it stands in its spec, for error messages."""
        return self.name

    def _name_ok(self) -> bool:
        return self.name.isidentifier() and self.name.islower() and self.name.isascii() and self.name != "mti"

    def _may_take_the_rest(self) -> bool:
        return False

    @property
    def packed(self) -> bool:
        """Two digits share a byte."""
        return self.encoding.startswith("bcd")

    @property
    def fixed(self) -> bool:
        return self.length_prefix is None and self.length_min == self.length_max

    @property
    def tlv(self) -> bool:
        """The whole value is BER-TLV objects, in every message."""
        return self.layout is not None and self.layout.kind == "ber_tlv"

    @property
    def type(self) -> type[str] | type[bytes]:
        """Type of the decoded value: ``bytes`` for binary values, ``str`` for all others."""
        return bytes if self.content == "b" else str

    @property
    def unit(self) -> str:
        """What the length of a value is counted in, for people."""
        return self.length_unit

    def expected(self) -> str:
        """For error messages: ``"12 digits"``, ``"0 to 19 digits"``."""
        length = (
            str(self.length_max) if self.length_min == self.length_max else f"{self.length_min} to {self.length_max}"
        )
        return f"{length} {self.unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SubSpec(ValueSpec):
    """One sub-field of a :class:`Layout`.

    Attributes:
        key: Its number ("1", "2", ... in wire order, or the bit of a bitmap), or its tag as it is written ("9F26").
        optional: The value may end in front of it. ``positions`` only; every sub-field behind it is optional too.
        repeat: The tag may come several times; the value is a list. Encoding also takes one value that is no list.
            TLV layouts only; elsewhere a second one is an error.
        times: How often it stands here, as a list: key of an earlier sub-field that holds the count, or ``"rest"`` for
            as often as the value has room. ``positions`` only.

    A sub-field of ``positions`` without prefix whose ``length_min`` is below its ``length_max`` takes what is left: it
    must be the last.
    """

    key: str
    optional: bool = False
    repeat: bool = False
    times: str | None = None

    @property
    def place(self) -> str:
        return f"sub.{self.key}"

    def _name_ok(self) -> bool:
        return self.name == "" or (self.name.isidentifier() and self.name.islower() and self.name.isascii())

    def _may_take_the_rest(self) -> bool:
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a value is made of sub-fields.

    Attributes:
        kind: ``"positions"``: one after the other, in the order of ``subs``. ``"ber_tlv"``: BER-TLV objects.
            ``"tlv"``: tags and lengths of a fixed number of characters, e.g. an2 + n3. ``"bitmap"``: a bitmap, then the
            sub-fields whose bit is set.
        subs: The sub-fields. A TLV layout may leave out what it does not know; their values are ``bytes``.
        unknown: What to do with a tag that ``subs`` does not have: ``"keep"`` or ``"refuse"``.
        tag_size: Bytes of a tag (``tlv``).
        tag_encoding: ``"ascii"``, ``"cp037"``, ``"cp500"``, ``"cp1047"`` or ``"binary"`` (the key is then hexadecimal).
        value_prefix: A key of ``PREFIXES`` in front of each value (``tlv``); None: every tag is known and its value has
            a fixed length. Prefixes count bytes.
        bitmap: ``"binary"`` or ``"hex"``.
        bitmap_size: Bytes that the bitmap stands for; bit 1 is the first sub-field.

    In a packed field (``bcd_left``, ``bcd_right``) sub-fields lie in its digits and their encoding is ``ascii``; in all
    others they lie in the bytes as transmitted (of a ``hex`` field, in the bytes it stands for).
    """

    kind: str
    subs: tuple[SubSpec, ...] = ()
    unknown: str = "keep"
    tag_size: int = 0
    tag_encoding: str = "ascii"
    value_prefix: str | None = None
    bitmap: str = "binary"
    bitmap_size: int = 8
    by_key: Mapping[str, SubSpec] = field(init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        def fail(key: str, detail: str) -> SpecError:
            return SpecError("", key, detail)

        if self.kind not in ("positions", "ber_tlv", "tlv", "bitmap"):
            raise fail("layout", "expected positions, ber_tlv, tlv or bitmap")
        if self.unknown not in ("keep", "refuse"):
            raise fail("unknown", "expected keep or refuse")
        object.__setattr__(self, "by_key", {sub.key: sub for sub in self.subs})
        if len(self.by_key) != len(self.subs):
            raise fail("sub", "expected every key once")
        names = [sub.name for sub in self.subs if sub.name]
        if len(names) != len(set(names)):
            raise fail("sub", "expected every name once")
        for sub in self.subs:
            self._check_sub(sub, fail)
        if self.kind == "tlv":
            if not 1 <= self.tag_size <= 8:
                raise fail("tag_size", "expected 1 to 8 bytes")
            if self.tag_encoding not in ("ascii", "cp037", "cp500", "cp1047", "binary"):
                raise fail("tag_encoding", "expected ascii, cp037, cp500, cp1047 or binary")
            if self.value_prefix is not None and self.value_prefix not in PREFIXES:
                raise fail("value_prefix", f"expected one of {', '.join(PREFIXES)}")
            if self.value_prefix is None and self.unknown != "refuse":
                raise fail("unknown", 'without value_prefix the length of an unknown tag is not known: say "refuse"')
        if self.kind == "bitmap" and not (self.bitmap in ("binary", "hex") and 1 <= self.bitmap_size <= 24):
            raise fail("bitmap", "expected binary or hex, and bitmap_size 1 to 24")

    def _check_sub(self, sub: SubSpec, fail: Any) -> None:
        at = f"sub.{sub.key}"
        tagged = self.kind in ("ber_tlv", "tlv")
        if sub.repeat and not tagged:
            raise fail(f"{at}.repeat", "is for tags; a sub-field of positions has `times`")
        if (sub.times is not None or sub.optional) and self.kind != "positions":
            raise fail(f"{at}.times", "is for positions, as optional is")
        if tagged and sub.length_prefix is not None:
            raise fail(f"{at}.length_prefix", "the length of a tagged value stands in front of it already")
        if self.kind == "bitmap" and not (sub.key.isdigit() and 1 <= int(sub.key) <= self.bitmap_size * 8):
            raise fail(at, f"expected a bit, 1 to {self.bitmap_size * 8}")
        if self.kind == "ber_tlv" and not (sub.key == _hexadecimal(sub.key) and _is_ber_tag(bytes.fromhex(sub.key))):
            raise fail(at, "expected a BER-TLV tag in upper-case hexadecimal")
        if self.kind == "tlv":
            if self.value_prefix is None and not sub.fixed:
                raise fail(f"{at}.length", "without value_prefix every value has a fixed length")
            size = len(sub.key)
            if self.tag_encoding == "binary":
                size = size // 2 if sub.key == _hexadecimal(sub.key) else 0
            if size != self.tag_size:
                raise fail(at, f"expected a tag of {self.tag_size} bytes")
        if self.kind == "positions":
            index = self.subs.index(sub)
            if sub.key != str(index + 1):
                raise fail(at, f"expected sub.{index + 1}: positions are numbered in wire order")
            last = index == len(self.subs) - 1
            if sub.length_prefix is None and not sub.fixed and not last:
                raise fail(f"{at}.length", "only the last sub-field may take what is left")
            if sub.times == "rest" and not last:
                raise fail(f"{at}.times", 'only the last sub-field may stand there as often as there is room ("rest")')
            if sub.times not in (None, "rest") and sub.times not in [other.key for other in self.subs[:index]]:
                raise fail(f"{at}.times", 'expected "rest" or the key of an earlier sub-field')
            if index and self.subs[index - 1].optional and not sub.optional:
                raise fail(f"{at}.optional", "expected true: the sub-field in front of it is optional")
        elif sub.length_prefix is None and not sub.fixed and not tagged:
            raise fail(f"{at}.length_prefix", "missing; a value without one has a fixed `length`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One meaning of a field that means different things in different messages.

    A condition that is empty is always true; all that are given must hold.

    Attributes:
        mti: Patterns such as ``"0810"`` or ``"08xx"`` (x: any digit).
        fields: (path, values): the value at this path of the message, e.g. ``"60.3"``, is one of these.
        starts: The value starts with one of these: text, or hexadecimal for a binary field.
        lengths: The value has one of these lengths, in bytes or characters of the decoded value.
        layout: What the value is made of then; None: of nothing that is known.
        sensitive: Replaces the field's, or None.
        label: What it is then, for people.
    """

    mti: tuple[str, ...] = ()
    fields: tuple[tuple[str, tuple[str, ...]], ...] = ()
    starts: tuple[str, ...] = ()
    lengths: tuple[int, ...] = ()
    layout: Layout | None = None
    sensitive: str | None = None
    label: str = ""

    def __post_init__(self) -> None:
        for pattern in self.mti:
            if not mti_pattern_ok(pattern):
                raise SpecError("", "when.mti", f"{pattern!r}: expected four digits, x for any digit")
        if self.sensitive is not None and self.sensitive not in KINDS:
            raise SpecError("", "sensitive", f"expected one of {', '.join(KINDS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSpec(ValueSpec):
    """One field of a message.

    Attributes:
        number: 2 to 192.
    """

    number: int

    def __post_init__(self) -> None:
        if not 2 <= self.number <= FIELD_MAX:
            raise SpecError(
                self.place, "", f"field numbers are 2 to {FIELD_MAX}; 0 is the MTI, 1 and 65 announce bitmaps"
            )
        ValueSpec.__post_init__(self)  # not super(): slots=True makes a new class, which super() would miss

    @property
    def place(self) -> str:
        return f"field.{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What is different in messages of some types.

    Attributes:
        mti: Pattern such as ``"0500"`` or ``"05xx"`` (x: any digit). The pattern with the fewest x wins.
        fields: Definitions that replace those of the spec, whole.
        removed: Numbers of fields that these messages do not have.
    """

    mti: str
    fields: tuple[FieldSpec, ...] = ()
    removed: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MessageSpec:
    """One wire format.

    Attributes:
        name: e.g. ``"unionpay_pos"``.
        mti_encoding: ``"bcd"`` (2 bytes), ``"ascii"`` or ``"ebcdic"`` (4 bytes).
        bitmap: ``"binary"`` (8 bytes), ``"hex"`` or ``"hex_ebcdic"`` (16 characters).
        field_max: 64; 128 with a secondary bitmap, announced by bit 1; 192 with a tertiary one as well, announced by
            bit 65, all bitmaps in front of the first field.
        fields: Ascending by number.
        variants: Overrides per message type, in the order of the file.
        reply: (request MTI, fields that its response repeats), ascending.
        source: The document behind it.
    """

    name: str
    mti_encoding: str
    bitmap: str
    field_max: int
    fields: tuple[FieldSpec, ...]
    variants: tuple[Variant, ...] = ()
    reply: tuple[tuple[str, tuple[int, ...]], ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        if self.mti_encoding not in ("bcd", "ascii", "ebcdic"):
            raise SpecError(self.name, "mti_encoding", "expected bcd, ascii or ebcdic")
        if self.bitmap not in ("binary", "hex", "hex_ebcdic"):
            raise SpecError(self.name, "bitmap", "expected binary, hex or hex_ebcdic")
        if self.field_max not in (64, 128, 192):
            raise SpecError(self.name, "field_max", "expected 64, 128 or 192")
        self._check_fields(self.fields, "")
        patterns = [variant.mti for variant in self.variants]
        if len(patterns) != len(set(patterns)):
            raise SpecError(self.name, "mti", "expected every pattern once")
        for variant in self.variants:
            if not mti_pattern_ok(variant.mti):
                raise SpecError(self.name, f"mti.{variant.mti}", "expected four digits, x for any digit")
            for number in variant.removed:
                if number not in self.by_number:
                    raise SpecError(self.name, f"mti.{variant.mti}.remove", f"field {number} is not defined")
            merged = {**self.by_number, **{entry.number: entry for entry in variant.fields}}
            self._check_fields(tuple(merged[number] for number in sorted(merged)), f"mti.{variant.mti}.")
        for request, echoed in self.reply:
            for number in echoed:
                if number not in self.by_number:
                    raise SpecError(self.name, f"reply.{request}", f"field {number} is not defined")

    def _check_fields(self, fields: tuple[FieldSpec, ...], prefix: str) -> None:
        numbers = [entry.number for entry in fields]
        if numbers != sorted(set(numbers)):
            raise SpecError(self.name, f"{prefix}field", "expected every number once, ascending")
        names: dict[str, int] = {}
        for entry in fields:
            place = f"{prefix}field.{entry.number}"
            if entry.number > self.field_max:
                raise SpecError(self.name, place, f"above field_max {self.field_max}")
            if entry.number == 65 and self.field_max == 192:
                raise SpecError(self.name, place, "bit 65 announces the tertiary bitmap")
            if entry.name in names:
                raise SpecError(self.name, f"{place}.name", f"{entry.name} is field {names[entry.name]} already")
            names[entry.name] = entry.number
            if entry.encrypted_when is not None and entry.encrypted_when[0] not in numbers:
                raise SpecError(self.name, f"{place}.encrypted_when", f"field {entry.encrypted_when[0]} is not defined")

    @cached_property
    def by_number(self) -> Mapping[int, FieldSpec]:
        return {entry.number: entry for entry in self.fields}

    def variant_for(self, mti: str) -> Variant | None:
        """The variant that messages of this type follow: of all patterns that match, the one with the fewest x."""
        matching = [variant for variant in self.variants if mti_matches(variant.mti, mti)]
        return min(matching, key=lambda variant: variant.mti.count("x"), default=None)

    def fields_of(self, variant: Variant | None) -> Mapping[int, FieldSpec]:
        """The definitions that messages of a variant follow, ascending by number."""
        if variant is None:
            return self.by_number
        merged = {**self.by_number, **{entry.number: entry for entry in variant.fields}}
        return {number: merged[number] for number in sorted(merged) if number not in variant.removed}


def mti_pattern_ok(pattern: str) -> bool:
    """Four digits, any of which may be x."""
    return len(pattern) == 4 and all(character in "0123456789x" for character in pattern)


def mti_matches(pattern: str, mti: str) -> bool:
    """
    >>> mti_matches("08xx", "0820"), mti_matches("05x0", "0511")
    (True, False)
    """
    return len(mti) == 4 and all(wanted in ("x", found) for wanted, found in zip(pattern, mti, strict=True))


def prefix_max(name: str) -> int:
    """The greatest length that a prefix can say.

    >>> prefix_max("bcd3"), prefix_max("binary1"), prefix_max("hex2")
    (999, 255, 255)
    """
    digits, form = PREFIXES[name]
    base = {"binary": 256, "hex": 16}.get(form, 10)
    return min(int(base**digits) - 1, LENGTH_MAX)


def _hexadecimal(text: str) -> str | None:
    """Whole bytes in upper-case hexadecimal, or None."""
    try:
        return bytes.fromhex(text).hex().upper()
    except ValueError:
        return None


def _is_ber_tag(tag: bytes) -> bool:
    if not tag or tag[0] == 0 or len(tag) > 4:
        return False
    if tag[0] & 0x1F != 0x1F:
        return len(tag) == 1
    return len(tag) > 1 and all(byte & 0x80 for byte in tag[1:-1]) and not tag[-1] & 0x80
