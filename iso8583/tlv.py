"""BER-TLV objects as ordered lists: EMV data in field 55 and private fields of the same shape.

Order and repeated tags are kept; unknown tags are like any other. Nesting is up to the caller: a constructed
object (``E1``, ``70``) is a value that can be decoded again.

Source: ISO/IEC 8825-1 as used in EMV Book 3, annex B: tags up to 4 bytes, lengths up to 65535, bytes 00 between
objects are padding.
"""

from __future__ import annotations

from iso8583._native import tlv_decode, tlv_encode, tlv_to_dict
from iso8583.spec import Buffer, TlvInput


def decode(data: Buffer, *, path: str = "tlv", offset: int = 0) -> list[tuple[str, bytes]]:
    """Split bytes into objects of one level.

    Args:
        data: At most 65535 bytes.
        path: Where the bytes come from, for errors, e.g. ``"55"``.
        offset: Bytes from the start of the message to ``data``, for errors.

    Returns:
        (tag in upper-case hexadecimal, value), in wire order.

    Raises:
        DecodeError: An object is malformed or leaves the data [tlv]; a length in a longer form than it needs
            [canonical]; too many bytes [size].

    >>> decode(bytes.fromhex("9F3602002A8202FF00"))
    [('9F36', b'\\x00*'), ('82', b'\\xff\\x00')]
    """
    return tlv_decode(data, path, offset)


def to_dict(data: Buffer, *, path: str = "tlv", offset: int = 0) -> dict[str, bytes]:
    """Bytes as a dict of tags to values, one level: the fastest way to all of field 55.

    Args and errors as :func:`decode`, and:

    Raises:
        DecodeError: A tag stands there twice [duplicate].

    >>> to_dict(bytes.fromhex("9F3602002A8202FF00"))["9F36"]
    b'\\x00*'
    """
    return tlv_to_dict(data, path, offset)


def encode(items: TlvInput, *, path: str = "tlv") -> bytes:
    """Join objects, each with the shortest form of its length.

    Args:
        items: Tag to value, as a mapping or as pairs. A value may itself be a mapping or a list: at most 8 levels.
        path: Where the objects go, for errors.

    Raises:
        EncodeError: Not a tag [tlv], not bytes [type], a value above 65535 bytes [length]; names the path.

    >>> encode({"9F36": bytes.fromhex("002A"), "E1": {"C1": b"x"}}).hex()
    '9f3602002ae103c10178'
    """
    return tlv_encode(items, path)


def first(items: list[tuple[str, bytes]], tag: str) -> bytes | None:
    """Value of the first object with this tag, or None."""
    wanted = tag.upper()
    return next((value for name, value in items if name == wanted), None)


def every(items: list[tuple[str, bytes]], tag: str) -> list[bytes]:
    """Values of all objects with this tag, in order."""
    wanted = tag.upper()
    return [value for name, value in items if name == wanted]
