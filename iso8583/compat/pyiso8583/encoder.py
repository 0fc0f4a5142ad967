"""``encode`` as pyiso8583 has it. Where behaviour differs on purpose is said in the package's docstring."""

from __future__ import annotations

from binascii import a2b_hex
from collections.abc import Mapping, MutableMapping
from typing import Any

__all__ = ["EncodeError", "encode"]

DecodedDict = MutableMapping[str, str]
EncodedDict = dict[str, dict[str, bytes]]
SpecDict = Mapping[str, Mapping[str, Any]]

_NUMBER_OF = {str(number): number for number in range(1, 193)}
_KEY_OF = ("", *_NUMBER_OF)
_TOO_LONG = "Failed to encode field length, field length does not fit into configured field size"


class EncodeError(ValueError):
    """The values do not follow the spec.

    Attributes:
        msg: What is wrong, without the place.
        doc_dec: The dict given to ``encode``. **In clear.**
        doc_enc: What was encoded until then. **In clear.**
        field: Key of the field: ``"h"``, ``"t"``, ``"p"``, ``"1"`` … ``"192"``.

    The text says ``msg`` and ``field``, and keys of the dict that cannot be fields. It never holds a value.
    """

    def __init__(self, msg: str, doc_dec: DecodedDict, doc_enc: EncodedDict, field: str) -> None:
        super().__init__(f"{msg}: field {field}")
        self.msg = msg
        self.doc_dec = doc_dec
        self.doc_enc = doc_enc
        self.field = field

    def __reduce__(self) -> tuple[type[EncodeError], tuple[Any, ...]]:
        return self.__class__, (self.msg, self.doc_dec, self.doc_enc, self.field)


class _FaultError(Exception):
    """A value that cannot be encoded: caught in ``encode``, which knows the rest of what an EncodeError says."""

    def __init__(self, msg: str, field: str) -> None:
        super().__init__(msg)
        self.msg = msg
        self.field = field


def encode(doc_dec: DecodedDict, spec: SpecDict) -> tuple[bytearray, EncodedDict]:
    """Build a message.

    Args:
        doc_dec: ``"t"`` is needed, ``"h"`` if the spec has a header; fields by number, ``"2"`` to ``"192"``, as text;
            binary data as hex. **It is changed:** ``"p"`` and ``"1"`` become the bitmaps that were sent, or ``"1"``
            goes if none was; ``"65"`` goes always.
        spec: See ``specs``. Read anew in every call, so it may be changed between calls.

    Returns:
        The message, and its encoded fields by key as ``decode`` gives them.

    Raises:
        EncodeError: A value does not follow the spec, is missing, or has a key that is no field.
        TypeError: ``doc_dec`` is not a dict.

    >>> from iso8583.compat.pyiso8583.specs import default_ascii
    >>> values = {"t": "0810", "39": "00"}
    >>> encode(values, default_ascii)
    (bytearray(b'0810000000000200000000'), {'t': {'len': b'', 'data': b'0810'}, \
'p': {'len': b'', 'data': b'0000000002000000'}, '39': {'len': b'', 'data': b'00'}})
    >>> values
    {'t': '0810', '39': '00', 'p': '0000000002000000'}
    """
    if not isinstance(doc_dec, dict):
        raise TypeError(f"Decoded ISO8583 data must be dict, not {doc_dec.__class__.__name__}")
    doc_enc: EncodedDict = {}
    try:
        return _encode_message(doc_dec, doc_enc, spec), doc_enc
    except _FaultError as caught:
        fault = caught
    # Outside of the except clause: a chain of contexts would carry the value in a UnicodeEncodeError.
    raise EncodeError(fault.msg, doc_dec, doc_enc, fault.field)


def _encode_message(doc_dec: DecodedDict, doc_enc: EncodedDict, spec: SpecDict) -> bytearray:
    doc_dec.pop("1", None)
    doc_dec.pop("65", None)
    message = bytearray()
    if spec["h"]["max_len"] > 0:
        if "h" not in doc_dec:
            raise _FaultError("Field data is required according to specifications", "h")
        message += _encode_field(doc_dec["h"], "h", spec["h"], doc_enc)
    if "t" not in doc_dec:
        raise _FaultError("Field data is required", "t")
    message += _encode_type(doc_dec["t"], spec["t"], doc_enc)

    numbers = _numbers(doc_dec)
    bits = 0
    for number in numbers:
        bits |= 1 << (192 - number)
    if bits & 0xFFFF_FFFF_FFFF_FFFF:
        bits |= 1 << (192 - 65)
    if bits & 0xFFFF_FFFF_FFFF_FFFF << 64:
        bits |= 1 << (192 - 1)
    bitmaps = bits.to_bytes(24, "big")
    message += _encode_bitmap(bitmaps[:8], "p", spec["p"], doc_dec, doc_enc)
    if bitmaps[0] & 0x80:
        bitmap_spec = _field_spec(spec, "1")
        message += _encode_bitmap(bitmaps[8:16], "1", bitmap_spec, doc_dec, doc_enc)
        if bitmaps[8] & 0x80:
            message += _encode_bitmap(bitmaps[16:], "1", bitmap_spec, doc_dec, doc_enc)

    for number in numbers:
        key = _KEY_OF[number]
        message += _encode_field(doc_dec[key], key, _field_spec(spec, key), doc_enc)
    return message


def _field_spec(spec: SpecDict, key: str) -> Mapping[str, Any]:
    try:
        return spec[key]
    except KeyError:
        raise _FaultError("Field is not defined in specification", key) from None


def _numbers(doc_dec: DecodedDict) -> list[int]:
    """The numbers of the fields, in their order in the message."""
    numbers = [_NUMBER_OF[key] for key in doc_dec if key in _NUMBER_OF]
    strangers = [key for key in doc_dec if key not in _NUMBER_OF]
    if strangers != ["t"]:
        _check_strangers(strangers)
    numbers.sort()
    return numbers


def _check_strangers(keys: list[Any]) -> None:
    """Names are the caller's own business; what looks like a field number and is none would be lost."""
    invalid = [key for key in keys if not isinstance(key, str)]
    if invalid:
        raise _FaultError(f"Dictionary contains invalid fields {invalid}", "p")
    numeric = [key for key in keys if key.isnumeric()]
    outside = sorted({number for key in numeric if key.isdecimal() and (number := int(key)) not in range(1, 193)})
    if outside:
        raise _FaultError(f"Dictionary contains fields outside of 1-192 range {outside}", "p")
    if numeric:
        raise _FaultError(f"Dictionary contains invalid fields {numeric}", "p")


def _encode_type(value: str, field_spec: Mapping[str, Any], doc_enc: EncodedDict) -> bytes:
    doc_enc["t"] = encoded = {"len": b"", "data": b""}
    data_enc = field_spec["data_enc"]
    if data_enc == "b":
        raw, size = _encode_hex(value, "t", field_spec, "bytes"), 2
    else:
        raw, size = _encode_text(value, "t", data_enc), 4
    encoded["data"] = raw
    if len(raw) != size:
        raise _FaultError(f"Field data is {len(raw)} bytes, expecting {size}", "t")
    return raw


def _encode_bitmap(
    bitmap: bytes, key: str, field_spec: Mapping[str, Any], doc_dec: DecodedDict, doc_enc: EncodedDict
) -> bytes:
    """Encode eight bytes of bitmap. A second one for the same key goes behind the first."""
    text = bitmap.hex().upper()
    if key in doc_enc:
        doc_dec[key] += text
    else:
        doc_dec[key] = text
        doc_enc[key] = {"len": b"", "data": b""}
    data_enc = field_spec["data_enc"]
    raw = bitmap if data_enc == "b" else _encode_text(text, key, data_enc)
    doc_enc[key]["data"] += raw
    return raw


def _encode_field(value: str, key: str, field_spec: Mapping[str, Any], doc_enc: EncodedDict) -> bytes:
    doc_enc[key] = encoded = {"len": b"", "data": b""}
    data_enc = field_spec["data_enc"]
    len_type = field_spec["len_type"]
    len_count = field_spec.get("len_count", "bytes")
    if data_enc == "b":
        raw = _encode_hex(value, key, field_spec, len_count)
        count = len(value) if len_count == "nibbles" else len(raw)
    else:
        raw = _encode_text(value, key, data_enc)
        count = len(raw) * 2 if len_count == "nibbles" else len(raw)
    encoded["data"] = raw

    max_len = field_spec["max_len"]
    if len_type == 0:
        if count != max_len:
            raise _FaultError(f"Field data is {count} {len_count}, expecting {max_len}", key)
        return raw
    if count > max_len:
        raise _FaultError(f"Field data is {count} {len_count}, larger than maximum {max_len}", key)
    encoded["len"] = prefix = _encode_length(count, len_type, field_spec["len_enc"], key)
    # What does not fit stays in doc_enc, where pyiso8583 leaves it.
    if len(prefix) > len_type:
        raise _FaultError(_TOO_LONG, key)
    return prefix + raw


def _encode_length(count: int, len_type: int, len_enc: str, key: str) -> bytes:
    if len_enc == "b":
        try:
            return count.to_bytes(len_type, "big")
        except OverflowError:
            raise _FaultError(_TOO_LONG, key) from None
    if len_enc == "bcd":
        digits = f"{count:0{len_type * 2}d}"
        if len(digits) > len_type * 2:
            raise _FaultError(_TOO_LONG, key)
        return a2b_hex(digits)
    try:
        return f"{count:0{len_type}d}".encode(len_enc)
    except LookupError:
        raise _FaultError("Failed to encode field length, unknown encoding specified", key) from None
    except Exception as error:  # a codec may raise what it likes; there is only the length to tell
        raise _FaultError(f"Failed to encode field length, {error}", key) from None


def _encode_text(value: str, key: str, data_enc: str) -> bytes:
    try:
        return value.encode(data_enc)
    except LookupError:
        raise _FaultError("Failed to encode field, unknown encoding specified", key) from None
    except Exception:  # also a value that is no text
        raise _FaultError("Failed to encode field, invalid data", key) from None


def _encode_hex(value: str, key: str, field_spec: Mapping[str, Any], len_count: str) -> bytes:
    text = value
    try:
        if len_count == "nibbles" and len(value) & 1:
            left_pad = field_spec.get("left_pad", "")[:1]
            right_pad = field_spec.get("right_pad", "")[:1]
            text = left_pad + value if left_pad else value + right_pad
        return a2b_hex(text)
    except Exception:
        odd = isinstance(text, str | bytes | bytearray) and len(text) % 2 == 1
    if odd and len_count == "nibbles":
        raise _FaultError("Failed to encode field, odd-length nibble data, specify pad", key)
    if odd:
        raise _FaultError("Failed to encode field, odd-length hex data", key)
    raise _FaultError("Failed to encode field, non-hex data", key)
