"""``decode`` as pyiso8583 has it. Where behaviour differs on purpose is said in the package's docstring."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

__all__ = ["DecodeError", "decode"]

DecodedDict = dict[str, str]
EncodedDict = dict[str, dict[str, bytes]]
SpecDict = Mapping[str, Mapping[str, Any]]

# Bitmaps are chosen by the peer: beyond this many the oldest plan is dropped.
_PLANS_MAX = 1024


class DecodeError(ValueError):
    """The bytes do not follow the spec.

    Attributes:
        msg: What is wrong, without the place.
        s: The bytes given to ``decode``. **In clear.**
        doc_dec: What was decoded until then; the failing field may be there, empty or in part. **In clear.**
        doc_enc: The same, encoded. **In clear.**
        pos: Bytes from the start of ``s``.
        field: Key of the field: ``"h"``, ``"t"``, ``"p"``, ``"1"`` … ``"192"``.

    The text says ``msg``, ``field`` and ``pos`` and never holds field data.
    """

    def __init__(
        self, msg: str, s: bytes | bytearray, doc_dec: DecodedDict, doc_enc: EncodedDict, pos: int, field: str
    ) -> None:
        super().__init__(f"{msg}: field {field} pos {pos}")
        self.msg = msg
        self.s = s
        self.doc_dec = doc_dec
        self.doc_enc = doc_enc
        self.pos = pos
        self.field = field

    def __reduce__(self) -> tuple[type[DecodeError], tuple[Any, ...]]:
        return self.__class__, (self.msg, self.s, self.doc_dec, self.doc_enc, self.pos, self.field)


class _FaultError(Exception):
    """A field that cannot be read: caught in ``decode``, which knows the rest of what a DecodeError says."""

    def __init__(self, msg: str, pos: int, field: str) -> None:
        super().__init__(msg)
        self.msg = msg
        self.pos = pos
        self.field = field


def decode(s: bytes | bytearray, spec: SpecDict) -> tuple[DecodedDict, EncodedDict]:
    """Read a message into two dicts.

    Args:
        s: One whole message: header if the spec has one, MTI, bitmaps, fields.
        spec: See ``specs``. Read anew in every call, so it may be changed between calls.

    Returns:
        The decoded and the encoded fields by key, in the order of the message: ``{"2": "622200…"}`` and
        ``{"2": {"len": b"16", "data": b"622200…"}}``. Binary data is upper-case hex in the first.

    Raises:
        DecodeError: The message does not follow the spec, or goes on behind its last field.
        TypeError: ``s`` is neither bytes nor bytearray.

    >>> from iso8583.compat.pyiso8583.specs import default
    >>> decode(b"0800" + bytes.fromhex("0020000000000000") + b"000123", default)[0]
    {'t': '0800', 'p': '0020000000000000', '11': '000123'}
    """
    if not isinstance(s, (bytes, bytearray)):
        raise TypeError(f"Encoded ISO8583 data must be bytes or bytearray, not {s.__class__.__name__}")
    doc_dec: DecodedDict = {}
    doc_enc: EncodedDict = {}
    try:
        _decode_message(bytes(s), spec, doc_dec, doc_enc)
    except _FaultError as caught:
        fault = caught
    else:
        return doc_dec, doc_enc
    # Outside of the except clause: a chain of contexts would carry the field's bytes in a UnicodeDecodeError.
    raise DecodeError(fault.msg, s, doc_dec, doc_enc, fault.pos, fault.field)


def _decode_message(data: bytes, spec: SpecDict, doc_dec: DecodedDict, doc_enc: EncodedDict) -> None:
    pos = 0
    if spec["h"]["max_len"] > 0:
        pos = _decode_field(data, pos, "h", spec["h"], doc_dec, doc_enc)
    pos = _decode_type(data, pos, spec["t"], doc_dec, doc_enc)

    key = "p"
    pos, keys = _decode_bitmap(data, pos, "p", spec["p"], doc_dec, doc_enc, 0)
    if keys and keys[0] == "1":
        key = "1"
        bitmap_spec = _field_spec(spec, key, pos)
        pos, more = _decode_bitmap(data, pos, "1", bitmap_spec, doc_dec, doc_enc, 64)
        keys = keys[1:] + more
        if more and more[0] == "65":
            # Bit 65 is no field: it says that field 1 goes on with the bits 129 to 192.
            pos, third = _decode_bitmap(data, pos, "1", bitmap_spec, doc_dec, doc_enc, 128)
            keys = keys[: -len(more)] + more[1:] + third

    for key in keys:
        pos = _decode_field(data, pos, key, _field_spec(spec, key, pos), doc_dec, doc_enc)
    if pos != len(data):
        raise _FaultError("Extra data after last field", pos, key)


def _field_spec(spec: SpecDict, key: str, pos: int) -> Mapping[str, Any]:
    try:
        return spec[key]
    except KeyError:
        raise _FaultError("Field is not defined in specification", pos, key) from None


def _decode_type(
    data: bytes, pos: int, field_spec: Mapping[str, Any], doc_dec: DecodedDict, doc_enc: EncodedDict
) -> int:
    data_enc = field_spec["data_enc"]
    size = 2 if data_enc == "b" else 4
    raw = data[pos : pos + size]
    doc_dec["t"] = ""
    doc_enc["t"] = {"len": b"", "data": raw}
    if len(raw) != size:
        raise _FaultError(f"Field data is {len(raw)} bytes, expecting {size}", pos, "t")
    doc_dec["t"] = raw.hex().upper() if data_enc == "b" else _decode_text(raw, data_enc, pos, "t")
    return pos + size


def _decode_bitmap(
    data: bytes,
    pos: int,
    key: str,
    field_spec: Mapping[str, Any],
    doc_dec: DecodedDict,
    doc_enc: EncodedDict,
    offset: int,
) -> tuple[int, tuple[str, ...]]:
    """Read eight bytes of bitmap; ``offset`` is 0, 64 or 128. The third goes behind the second, into field 1."""
    data_enc = field_spec["data_enc"]
    size = 8 if data_enc == "b" else 16
    raw = data[pos : pos + size]
    text_before = ""
    if offset == 128:
        text_before = doc_dec[key]
        doc_enc[key]["data"] += raw
    else:
        doc_dec[key] = ""
        doc_enc[key] = {"len": b"", "data": raw}
    if len(raw) != size:
        expected = size * 2 if offset == 128 else size
        raise _FaultError(f"Field data is {len(doc_enc[key]['data'])} bytes, expecting {expected}", pos, key)

    if data_enc == "b":
        doc_dec[key] = text_before + raw.hex().upper()
        return pos + size, _fields_of(raw, offset)
    text = _decode_text(raw, data_enc, pos, key)
    doc_dec[key] = text_before + text
    try:
        bitmap = bytes.fromhex(text)
    except ValueError:
        bitmap = b""
    # fromhex skips blanks: what is shorter than eight bytes would move every field.
    if len(bitmap) != 8:
        raise _FaultError("Failed to decode field, non-hex data", pos, key)
    return pos + size, _fields_of(bitmap, offset)


@lru_cache(maxsize=_PLANS_MAX)
def _fields_of(bitmap: bytes, offset: int) -> tuple[str, ...]:
    bits = int.from_bytes(bitmap, "big")
    return tuple(str(offset + bit) for bit in range(1, 65) if bits >> (64 - bit) & 1)


def _decode_field(
    data: bytes, pos: int, key: str, field_spec: Mapping[str, Any], doc_dec: DecodedDict, doc_enc: EncodedDict
) -> int:
    len_type: int = field_spec["len_type"]
    data_enc = field_spec["data_enc"]
    len_count = field_spec.get("len_count", "bytes")
    count: int

    doc_dec[key] = ""
    if len_type == 0:
        doc_enc[key] = encoded = {"len": b"", "data": b""}
        count = field_spec["max_len"]
    else:
        prefix = data[pos : pos + len_type]
        doc_enc[key] = encoded = {"len": prefix, "data": b""}
        count = _decode_length(prefix, pos, key, field_spec)
        if count > field_spec["max_len"]:
            raise _FaultError(
                f"Field data is {count} {len_count}, larger than maximum {field_spec['max_len']}", pos, key
            )
        pos += len_type
    # An empty field is empty in every encoding, also in one that does not exist.
    if count == 0:
        return pos

    size = (count + 1) // 2 if len_count == "nibbles" else count
    end = pos + size
    encoded["data"] = raw = data[pos:end]
    if len(raw) != size:
        found = len(raw) * 2 if len_count == "nibbles" else len(raw)
        raise _FaultError(f"Field data is {found} {len_count}, expecting {count}", pos, key)
    if data_enc == "b":
        doc_dec[key] = text = raw.hex().upper()
        if count & 1 and len_count == "nibbles":
            doc_dec[key] = _without_pad(text, field_spec, pos, key)
    else:
        doc_dec[key] = _decode_text(raw, data_enc, pos, key)
    return end


def _decode_length(prefix: bytes, pos: int, key: str, field_spec: Mapping[str, Any]) -> int:
    len_type: int = field_spec["len_type"]
    if len(prefix) != len_type:
        raise _FaultError(f"Field length is {len(prefix)} bytes wide, expecting {len_type}", pos, key)
    len_enc = field_spec["len_enc"]
    if len_enc == "b":
        return int.from_bytes(prefix, "big")
    if len_enc == "bcd":
        try:
            return int(prefix.hex())
        except ValueError:
            raise _FaultError("Failed to decode field length, invalid BCD data", pos, key) from None
    try:
        text = prefix.decode(len_enc)
    except LookupError:
        raise _FaultError("Failed to decode field length, unknown encoding specified", pos, key) from None
    except Exception:
        raise _FaultError("Failed to decode field length, invalid data", pos, key) from None
    try:
        count = int(text)
    except ValueError:
        count = -1
    if count < 0:
        raise _FaultError("Failed to decode field length, non-numeric data", pos, key)
    return count


def _decode_text(raw: bytes, data_enc: str, pos: int, key: str) -> str:
    try:
        return raw.decode(data_enc)
    except LookupError:
        raise _FaultError("Failed to decode field, unknown encoding specified", pos, key) from None
    except Exception:  # a codec may raise what it likes; a spec may name what is no text
        raise _FaultError("Failed to decode field, invalid data", pos, key) from None


def _without_pad(text: str, field_spec: Mapping[str, Any], pos: int, key: str) -> str:
    left_pad = field_spec.get("left_pad", "")[:1].upper()
    if left_pad and text[0] == left_pad:
        return text[1:]
    right_pad = field_spec.get("right_pad", "")[:1].upper()
    if right_pad and text[-1] == right_pad:
        return text[:-1]
    raise _FaultError(f"Field data is {len(text)} nibbles, expecting {len(text) - 1}", pos, key)
