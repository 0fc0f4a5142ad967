"""Which bytes of a message its MAC covers. No cryptography here.

Source: UnionPay POS: MTI to the last byte before field 64, as transmitted, with length prefixes and pad nibbles;
without frame length, TPDU and message header.
"""

from __future__ import annotations

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
