"""The wire format in plain, slow Python: what the compiled codec is tested against.

Nothing but tests imports this. It is written to be compared with ``spec.py`` line by line, shares no code with the
compiled one, and stops at the first fault.

    message   MTI | bitmap, up to three | fields, ascending | nothing else
    field     length prefix, if its length varies | value
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from string import ascii_letters, digits, hexdigits
from typing import Final, TypeAlias

from iso8583.errors import DecodeError, EncodeError
from iso8583.spec import CONTENTS, LENGTH_MAX, PREFIXES, FieldSpec, Layout, MessageSpec, ValueSpec

Value: TypeAlias = str | bytes
_Fault: TypeAlias = Callable[[str, str], DecodeError]

MTI_DIGITS: Final = 4
BER_TAG_MAX: Final = 4  # bytes

_PRINTABLE: Final = "".join(map(chr, range(0x20, 0x7F)))
_LATIN1: Final = _PRINTABLE + "".join(map(chr, range(0xA0, 0x100)))
_TRACK: Final = digits + ":;<=>?ABCDEF"

#: content -> its characters. A space is a letter, because fixed text fields are filled up with spaces.
_ALLOWED: Final = {
    "n": digits,
    "a": ascii_letters + " ",
    "an": ascii_letters + digits + " ",
    "ans": _PRINTABLE,
    "z": _TRACK,
    "track2": _TRACK,
}

_IDENTITY: Final = bytes(range(256)).decode("latin1")
_CP037: Final = bytes(range(256)).decode("cp037")


def _cp1047() -> str:
    """Python does not have it: it is cp037 with three pairs of characters exchanged."""
    exchanged = str.maketrans("^¬[Ý]¨", "¬^Ý[¨]")
    return _CP037.translate(exchanged)


#: encoding -> the character of each of the 256 bytes
_PAGES: Final = {
    "ascii": _IDENTITY,  # bytes above 7E are characters that no content allows
    "latin1": _IDENTITY,
    "hex": _IDENTITY,
    "cp037": _CP037,
    "cp500": bytes(range(256)).decode("cp500"),
    "cp1047": _cp1047(),
    "hex_ebcdic": _CP037,  # letters and digits are the same in all EBCDIC pages
    "ebcdic": _CP037,
}

#: encoding -> Python's codec. GBK is the part of GB 18030 that takes at most two bytes a character; Python's own "gbk"
#: has no characters for some of the pairs that are in use.
_MULTIBYTE: Final = {"gbk": "gb18030", "gb18030": "gb18030", "utf8": "utf-8"}


# ---- messages ------------------------------------------------------------------------------------


def decode(definition: MessageSpec, data: bytes, start: int = 0) -> dict[int, Value]:
    """One whole message.

    Args:
        definition: The wire format.
        data: Header, MTI, bitmaps, fields.
        start: Bytes of the header.

    Returns:
        Values by field number, ascending; 0 is the MTI.

    Raises:
        DecodeError: The first fault: of the MTI, of a bitmap, a bit that is not defined, of a field in wire order, a
            track 2 that is none, bytes that are left.
    """
    if len(data) > LENGTH_MAX:
        raise DecodeError("size", "message", 0, f"larger than {LENGTH_MAX} bytes")
    if len(data) < start:
        raise DecodeError("truncated", "header", 0, expected=f"{start} bytes", got=f"{len(data)} bytes")
    mti, offset = _read_mti(definition, data, start)
    fields = definition.fields_of(definition.variant_for(mti))
    numbers, offset = _read_bitmaps(definition, fields, data, offset)

    values: dict[int, Value] = {0: mti}
    offsets = {}
    for number in numbers:
        offsets[number] = offset
        values[number], offset = _read(fields[number], data, offset, len(data), str(number), 0)
    for number in numbers:
        # Only now: the field that says whether a track is encrypted comes behind the track.
        if not _track_is_sound(fields[number], values[number], values):
            raise DecodeError("track", str(number), offsets[number], expected=CONTENTS["track2"], got="something else")
    if offset != len(data):
        raise DecodeError("trailing", "message", offset, f"{len(data) - offset} bytes are left after the last field")
    return values


def encode(definition: MessageSpec, values: Mapping[int, object]) -> bytes:
    """MTI, bitmaps and fields. ``values`` as :func:`decode` returns them; None leaves a field out.

    Raises:
        EncodeError: The first fault: of the MTI; in the order given, a field that the spec does not define, a value of
            the wrong type or with characters that its encoding does not have; a field in wire order; a message that is
            too large.
    """
    mti = values.get(0)
    if mti is None:
        raise EncodeError("missing", "mti", "give the MTI as field 0")
    if not isinstance(mti, str):
        raise EncodeError("type", "mti", expected="str", got=type(mti).__name__)
    if len(mti) != MTI_DIGITS or not _all_in(mti, digits):
        raise EncodeError("mti", "mti", expected="four digits", got=f"{len(mti)} characters")
    fields = definition.fields_of(definition.variant_for(mti))
    given = {}
    for number, value in values.items():
        if number == 0 or value is None:
            continue
        if number not in fields:
            raise EncodeError("undefined", str(number), f"messages {mti} of spec {definition.name} do not have it")
        given[number] = _canonical(fields[number], value, str(number))
    canonical = {number: given[number] for number in sorted(given)}

    parts = [bytes.fromhex(mti) if definition.mti_encoding == "bcd" else _write_page(definition.mti_encoding, mti)]
    parts.append(_write_bitmaps(definition, set(canonical)))
    for number, value in canonical.items():
        parts.append(_write(fields[number], value, str(number)))
        if not _track_is_sound(fields[number], value, canonical):
            raise EncodeError("track", str(number), expected=CONTENTS["track2"], got="something else")
    data = b"".join(parts)
    if len(data) > LENGTH_MAX:
        raise EncodeError("size", "message", f"larger than {LENGTH_MAX} bytes")
    return data


def _read_mti(definition: MessageSpec, data: bytes, start: int) -> tuple[str, int]:
    size = 2 if definition.mti_encoding == "bcd" else MTI_DIGITS
    raw = data[start : start + size]
    if len(raw) < size:
        raise DecodeError("truncated", "mti", start, expected=f"{size} bytes", got=f"{len(raw)} bytes")
    mti = raw.hex() if definition.mti_encoding == "bcd" else _read_page(definition.mti_encoding, raw)
    if not _all_in(mti, digits):
        raise DecodeError("mti", "mti", start, expected="four digits", got="something else")
    return mti, start + size


def _read_bitmaps(
    definition: MessageSpec, fields: Mapping[int, FieldSpec], data: bytes, start: int
) -> tuple[list[int], int]:
    """Numbers of the present fields, and the offset of the first field."""
    size = 8 if definition.bitmap == "binary" else 16
    bits = ""
    offset = start
    while True:
        raw = data[offset : offset + size]
        if len(raw) < size:
            raise DecodeError("truncated", "bitmap", offset, expected=f"{size} bytes", got=f"{len(raw)} bytes")
        if definition.bitmap != "binary":
            characters = _read_page(definition.bitmap, raw)
            if not _all_in(characters, hexdigits):
                raise DecodeError("bitmap", "bitmap", offset, expected="hexadecimal characters", got="others")
            raw = bytes.fromhex(characters)
        bits += "".join(f"{byte:08b}" for byte in raw)
        if len(bits) == 64 and bits[0] == "1" and definition.field_max == 64:
            raise DecodeError("bitmap", "bitmap", offset, f"bit 1 is set, but spec {definition.name} has 64 fields")
        offset += size
        if len(bits) == definition.field_max or bits[len(bits) - 64] == "0":
            break

    announcing = {1, 65} if definition.field_max == 192 else {1}
    numbers = [number for number, bit in enumerate(bits, 1) if bit == "1" and number not in announcing]
    for number in numbers:
        if number not in fields:
            # Now, not when its turn comes: by then its neighbours would be blamed for the loss of step.
            at = start + (number - 1) * size // 64
            raise DecodeError("undefined", str(number), at, f"spec {definition.name} does not define the field")
    return numbers, offset


def _write_bitmaps(definition: MessageSpec, numbers: set[int]) -> bytes:
    if any(number > 128 for number in numbers):
        numbers = numbers | {65}
    if any(number > 64 for number in numbers):
        numbers = numbers | {1}
    count = 1 if 1 not in numbers else 2 if definition.field_max < 192 or 65 not in numbers else 3
    bits = "".join("1" if number in numbers else "0" for number in range(1, count * 64 + 1))
    raw = int(bits, 2).to_bytes(count * 8, "big")
    return raw if definition.bitmap == "binary" else _write_page(definition.bitmap, raw.hex().upper())


def _track_is_sound(spec: ValueSpec, track: Value, values: Mapping[int, Value]) -> bool:
    """1 to 19 digits (the longest PAN), a separator, digits; or whatever nibbles can say, if another field says that
    the track is encrypted."""
    if spec.content != "track2":
        return True
    if spec.encrypted_when is not None:
        number, position, character = spec.encrypted_when
        teller = values.get(number, "")
        if isinstance(teller, bytes):
            teller = teller.decode("latin1")
        if teller[position - 1 : position] == character:
            return True
    assert isinstance(track, str)
    pan, separator, rest = track.replace("D", "=").partition("=")
    return separator != "" and 1 <= len(pan) <= 19 and _all_in(pan + rest, digits)


# ---- values --------------------------------------------------------------------------------------


def read_value(
    spec: ValueSpec, data: bytes, offset: int, end: int, path: str, base: int = 0
) -> tuple[str | bytes, int]:
    """One value with its length prefix, from ``data[offset:end]``.

    Args:
        spec: A sub-field without prefix whose length is not fixed takes all bytes up to ``end``.
        data: What the value lies in.
        offset: Of its first byte, prefix included.
        end: Of the first byte that is not its own.
        path: For errors.
        base: Bytes from the start of the message to ``data``, for errors.

    Returns:
        (value, offset of the first byte behind it).

    Raises:
        DecodeError: Of the length before the value: prefix, length, truncated; then content, text, pad, tlv,
            canonical, duplicate, track.
    """
    value, following = _read(spec, data, offset, end, path, base)
    if not _track_is_sound(spec, value, {}):
        raise DecodeError("track", path, base + offset, expected=CONTENTS["track2"], got="something else")
    return value, following


def write_value(spec: ValueSpec, value: object, path: str) -> bytes:
    """One value with its length prefix.

    Args:
        spec: As in :func:`read_value`.
        value: ``str`` or ``bytes``; ``int`` for a numeric value of fixed length.
        path: For errors.

    Raises:
        EncodeError: type, text, length, content, tlv, canonical, duplicate, track.
    """
    canonical = _canonical(spec, value, path)
    data = _write(spec, canonical, path)
    if not _track_is_sound(spec, canonical, {}):
        raise EncodeError("track", path, expected=CONTENTS["track2"], got="something else")
    return data


class ValueCodec:
    """The two functions with the face of the compiled class of this name."""

    def __init__(self, spec: ValueSpec) -> None:
        self.spec: Final = spec

    def read(self, data: bytes, offset: int, end: int, path: str, base: int) -> tuple[str | bytes, int]:
        return read_value(self.spec, data, offset, end, path, base)

    def write(self, value: object, path: str) -> bytes:
        return write_value(self.spec, value, path)


def _read(spec: ValueSpec, data: bytes, offset: int, end: int, path: str, base: int) -> tuple[Value, int]:
    def fault(code: str, expected: str, got: str = "something else") -> DecodeError:
        return DecodeError(code, path, base + offset, expected=expected, got=got)

    at = offset
    if spec.length_prefix is not None:
        at += _prefix_size(spec.length_prefix)
        if at > end:
            raise fault("truncated", "a length prefix", f"{end - offset} bytes")
        number = _read_prefix(spec.length_prefix, data[offset:at])
        if number is None:
            raise fault("prefix", f"a length prefix {spec.length_prefix}")
        length = number
    elif spec.fixed:
        length = spec.length_max
    else:
        length = _length_of_rest(spec, end - offset)
    # The bounds before the bytes at hand: a peer must not make us wait for what we would refuse.
    if not spec.length_min <= length <= spec.length_max:
        raise fault("length", spec.expected(), str(length))
    size = _size_of(spec, length)
    if size is None:
        raise fault("length", "whole bytes", f"{length} {spec.length_unit}")
    raw = data[at : min(at + size, end)]
    if len(raw) < size:
        raise fault("truncated", f"{size} bytes", f"{len(raw)} bytes")

    value: Value
    if spec.packed:
        value = _unpacked(spec, raw, length, fault)
    elif spec.encoding == "binary":
        value = raw
    elif spec.encoding in ("hex", "hex_ebcdic"):
        characters = _read_page(spec.encoding, raw)
        if not _all_in(characters, hexdigits):
            raise fault("content", "hexadecimal characters")
        value = bytes.fromhex(characters)
    elif spec.encoding in _MULTIBYTE:
        text = _read_multibyte(spec.encoding, raw)
        if text is None:
            raise fault("text", f"{spec.encoding} text")
        value = text
    else:
        value = _read_page(spec.encoding, raw)
        if not _content_is_sound(spec, value):
            raise fault("content", CONTENTS[spec.content])
    if isinstance(value, bytes) and spec.layout is not None and spec.tlv and spec.encoding == "binary":
        code = _ber_fault(spec.layout, value)
        if code is not None:
            raise fault(code, "BER-TLV objects")
    return value, at + size


def _canonical(spec: ValueSpec, value: object, path: str) -> Value:
    """What the value would be decoded to: bytes, or text filled up to its fixed length."""
    if spec.type is bytes:
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise EncodeError("type", path, expected="bytes", got=type(value).__name__)
        return bytes(value)
    length = spec.length_max * 2 if spec.packed and spec.length_unit == "bytes" else spec.length_max
    if isinstance(value, int) and not isinstance(value, bool):
        if spec.content != "n" or not spec.fixed:
            # The int 1234567 may have been the text 01234567.
            raise EncodeError("type", path, expected="str", got="int, which only numbers of fixed length can be")
        if value < 0:
            raise EncodeError("content", path, expected="digits", got="a negative number")
        if len(str(value)) > length:
            raise EncodeError("length", path, expected=spec.expected(), got=str(len(str(value))))
        return str(value).zfill(length)
    if not isinstance(value, str):
        raise EncodeError("type", path, expected="str", got=type(value).__name__)
    # What the encoding does not have comes before everything else: it has no length there.
    if spec.packed or spec.encoding == "ascii":
        if not value.isascii():
            raise EncodeError("content", path, expected=CONTENTS[spec.content], got="something else")
        size = len(value)
    elif spec.encoding in _MULTIBYTE:
        # Replaced and not refused: an exception of the codec would hold the text.
        encoded = value.encode(_MULTIBYTE[spec.encoding], "replace")
        if encoded.decode(_MULTIBYTE[spec.encoding]) != value:
            raise EncodeError("text", path, expected=f"characters of {spec.encoding}", got="another")
        size = len(encoded)
    else:
        if not _all_in(value, _PAGES[spec.encoding]):
            raise EncodeError("text", path, expected=f"characters of {spec.encoding}", got="another")
        size = len(value)
    if spec.pad_side is None:
        return value
    filling = spec.pad_character * (length - size)
    return filling + value if spec.pad_side == "left" else value + filling


def _write(spec: ValueSpec, value: Value, path: str) -> bytes:
    def fault(code: str, expected: str, got: str = "something else") -> EncodeError:
        return EncodeError(code, path, expected=expected, got=got)

    raw = b""
    if isinstance(value, bytes):
        raw = value if spec.encoding == "binary" else _write_page(spec.encoding, value.hex().upper())
        length = len(value) if spec.length_unit == "bytes" else len(value) * 2
    elif spec.packed:
        length = len(value)  # of its digits; packed below, once they are known to be digits
        if spec.length_unit == "bytes":
            if length % 2 == 1:
                raise fault("length", "an even count of digits", str(length))
            length //= 2
    else:
        multibyte = _MULTIBYTE.get(spec.encoding)
        raw = value.encode(multibyte) if multibyte else _write_page(spec.encoding, value)
        length = len(raw)
    if not spec.length_min <= length <= spec.length_max:
        raise fault("length", spec.expected(), str(length))

    if isinstance(value, bytes):
        layout = spec.layout if spec.tlv and spec.encoding == "binary" else None
        code = None if layout is None else _ber_fault(layout, value)
        if code is not None:
            raise fault(code, "BER-TLV objects")
    elif spec.encoding in _MULTIBYTE:
        if _read_multibyte(spec.encoding, raw) is None:
            raise fault("text", f"{spec.encoding} text without control characters")
    elif not _content_is_sound(spec, value):
        raise fault("content", CONTENTS[spec.content])
    elif spec.packed:
        raw = _packed(spec, value)
    prefix = b"" if spec.length_prefix is None else _write_prefix(spec.length_prefix, length)
    return prefix + raw


# ---- lengths -------------------------------------------------------------------------------------


def _prefix_size(name: str) -> int:
    count, form = PREFIXES[name]
    return (count + 1) // 2 if form == "bcd" else count


def _read_prefix(name: str, raw: bytes) -> int | None:
    """None if it is not made of the right digits."""
    count, form = PREFIXES[name]
    if form == "binary":
        return int.from_bytes(raw, "big")
    if form == "bcd":
        text = raw.hex()
        if count % 2 == 1:
            pad, text = text[0], text[1:]
            if pad != "0":
                return None
    else:
        text = _read_page("ebcdic" if form == "ebcdic" else "ascii", raw)
    if form == "hex":
        return int(text, 16) if _all_in(text, hexdigits) else None
    return int(text) if _all_in(text, digits) else None


def _write_prefix(name: str, length: int) -> bytes:
    count, form = PREFIXES[name]
    if form == "binary":
        return length.to_bytes(count, "big")
    if form == "bcd":
        return bytes.fromhex(f"{length:0{count + count % 2}d}")
    if form == "hex":
        return f"{length:0{count}X}".encode("ascii")
    return _write_page("ebcdic" if form == "ebcdic" else "ascii", f"{length:0{count}d}")


def _size_of(spec: ValueSpec, length: int) -> int | None:
    """Bytes on the wire; None if the value would end inside a byte."""
    if spec.packed:
        if spec.content == "xn":
            return 1 + length // 2  # the sign takes a byte, two digits take one
        return length if spec.length_unit == "bytes" else (length + 1) // 2
    if spec.encoding in ("hex", "hex_ebcdic"):
        if spec.length_unit == "bytes":
            return length * 2
        return length if length % 2 == 0 else None
    if spec.length_unit == "nibbles":
        return length // 2 if length % 2 == 0 else None
    return length


def _length_of_rest(spec: ValueSpec, size: int) -> int:
    """The length of a value that takes ``size`` bytes because that is what is left."""
    if spec.length_unit == "nibbles" or (spec.packed and spec.length_unit == "digits"):
        return size * 2
    if spec.encoding in ("hex", "hex_ebcdic") and spec.length_unit == "bytes":
        return size // 2
    return size


# ---- packed digits -------------------------------------------------------------------------------


def _unpacked(spec: ValueSpec, raw: bytes, length: int, fault: _Fault) -> str:
    sign = ""
    if spec.content == "xn":
        sign, raw, length = chr(raw[0]), raw[1:], length - 1
        if sign not in ("C", "D"):
            raise fault("content", CONTENTS["xn"])
    elif spec.length_unit == "bytes":
        length *= 2
    nibbles = raw.hex().upper()
    pad = ""
    if length % 2 == 1 and spec.encoding == "bcd_left":
        nibbles, pad = nibbles[:-1], nibbles[-1]
    elif length % 2 == 1:
        pad, nibbles = nibbles[0], nibbles[1:]
    if spec.content in ("z", "track2"):
        nibbles = nibbles.replace("D", "=")
    elif not _all_in(nibbles, digits):
        raise fault("content", CONTENTS[spec.content])
    # Only if the spec insists: peers pad with 0 and with F.
    if spec.pad_strict and pad not in ("", spec.pad_nibble):
        raise fault("pad", f"pad nibble {spec.pad_nibble}")
    return sign + nibbles


def _packed(spec: ValueSpec, text: str) -> bytes:
    sign = b""
    if spec.content == "xn":
        sign, text = text[:1].encode("ascii"), text[1:]
    nibbles = text.replace("=", "D")
    if len(nibbles) % 2 == 1:
        nibbles = nibbles + spec.pad_nibble if spec.encoding == "bcd_left" else spec.pad_nibble + nibbles
    return sign + bytes.fromhex(nibbles)


# ---- characters ----------------------------------------------------------------------------------


def _all_in(text: str, characters: str) -> bool:
    return all(character in characters for character in text)


def _content_is_sound(spec: ValueSpec, text: str) -> bool:
    if spec.content == "xn":
        return text[:1] in ("", "C", "D") and _all_in(text[1:], digits)
    if spec.packed and spec.content != "n":
        return _all_in(text, digits + "ABCDEF=")  # what a nibble can say
    if spec.content == "ans" and spec.encoding != "ascii":
        return _all_in(text, _LATIN1)
    return _all_in(text, _ALLOWED[spec.content])


def _read_page(encoding: str, raw: bytes) -> str:
    return "".join(_PAGES[encoding][byte] for byte in raw)


def _write_page(encoding: str, text: str) -> bytes:
    return bytes(_PAGES[encoding].index(character) for character in text)


def _read_multibyte(encoding: str, raw: bytes) -> str | None:
    """None if it is not text in the encoding, or holds control characters."""
    try:
        text = raw.decode(_MULTIBYTE[encoding])
    except UnicodeDecodeError:
        return None
    if encoding == "gbk" and any(len(character.encode("gb18030")) > 2 for character in text):
        return None
    controls = [*range(0x20), 0x7F, *(range(0x80, 0xA0) if encoding == "utf8" else ())]
    return None if any(ord(character) in controls for character in text) else text


# ---- BER-TLV -------------------------------------------------------------------------------------


def _ber_fault(layout: Layout, data: bytes) -> str | None:
    """The code of what is wrong with the objects of one level, or None.

    An object is a tag of 1 to 4 bytes, a length in its shortest form (one byte up to 7F, 81 and one byte, 82 and two
    bytes) and a value. Bytes 00 between objects are padding: EMV Book 3, annex B.
    """
    seen = set()
    at = 0
    while at < len(data):
        if data[at] == 0:
            at += 1
            continue
        tag = data[at : at + 1]
        if tag[0] & 0x1F == 0x1F:
            while len(tag) == 1 or tag[-1] & 0x80:
                tag = data[at : at + len(tag) + 1]
                if len(tag) > BER_TAG_MAX or at + len(tag) == len(data):
                    return "tlv"
        at += len(tag)
        first, at = data[at : at + 1], at + 1
        if first in (b"\x81", b"\x82"):
            more = first[0] - 0x80
            if at + more > len(data):
                return "tlv"
            size, at = int.from_bytes(data[at : at + more], "big"), at + more
            if size < (0x80 if more == 1 else 0x100):
                return "canonical"
        elif first == b"" or first[0] >= 0x80:
            return "tlv"
        else:
            size = first[0]
        at += size
        if at > len(data):
            return "tlv"
        sub = layout.by_key.get(tag.hex().upper())
        if tag in seen and not (sub is not None and sub.repeat):
            return "duplicate"
        seen.add(tag)
    return None
