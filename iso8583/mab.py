"""Which bytes of a message its MAC covers. No cryptography here.

Source: UnionPay POS: MTI to the last byte before field 64, as transmitted, with length prefixes and pad nibbles;
without frame length, TPDU and message header.
"""

from __future__ import annotations

from typing import Final

from iso8583._native import Message
from iso8583.message import Spec


def mab(message: Message | bytes, spec: Spec | None = None) -> bytes:
    """The MAC input of a message.

    Args:
        message: A decoded message, or the bytes of one **without header**.
        spec: How to read the bytes; not needed for a decoded message.

    Returns:
        MTI, bitmap (its bit 64 set) and every field in front of the MAC. To send a message: encode it with
        ``64: bytes(8)``, compute the MAC over this, and replace the last 8 bytes. Field 64 is always last.

    Raises:
        DecodeError: The bytes are no such message, or it carries no MAC [missing].
        TypeError: Bytes without a spec.
    """
    if isinstance(message, Message):
        return message.mab()
    if spec is None:
        raise TypeError("mab of bytes needs a spec")
    return spec.with_header("none").decode(message).mab()


def cups_mab(message: Message, *, lengths: bool = True) -> bytes:
    """The MAC input between institutions (field 128 of CUPS): chosen fields as words of one line.

    Args:
        message: A decoded message of ``unionpay_cups`` or a spec derived from it.
        lengths: Put the two-digit length in front of fields 2, 32, 33, 102 and 103. Implementations differ: ask the
            network's test.

    Returns:
        MTI, 2, 3, 4, 7, 11, 18, 25, 28, 32, 33, 38, 39, 41, 42, the first 20 characters of 90, 102, 103, as far as they
        are there, with one space between them; upper case; runs of spaces become one; other characters than A to Z, 0
        to 9, space, comma and point are left out.

    Source: facts about CUPS MACs from two public implementations, which differ in ``lengths``.

    >>> import iso8583
    >>> spec = iso8583.load("unionpay_cups")
    >>> data = spec.encode({0: "0800", 7: "0714101500", 11: "000123", 33: "00012900", 39: "00", 70: "101"})
    >>> iso8583.cups_mab(spec.decode(data))
    b'0800 0714101500 000123 0800012900 00'
    """
    words = []
    for number in _CUPS_FIELDS:
        if number in message:
            value = message.raw(number).decode("ascii", "ignore")
            if number == 90:
                value = value[:20]
            if lengths and number in _CUPS_VARIABLE:
                value = f"{len(value):02d}{value}"
            words.append(value)
    kept = "".join(each for each in " ".join(words).upper() if each in _CUPS_ALPHABET)
    return " ".join(kept.split()).encode("ascii")


_CUPS_FIELDS: Final = (0, 2, 3, 4, 7, 11, 18, 25, 28, 32, 33, 38, 39, 41, 42, 90, 102, 103)
_CUPS_VARIABLE: Final = frozenset({2, 32, 33, 102, 103})
_CUPS_ALPHABET: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ,.")
