"""Clear PIN blocks: ISO 9564 format 0, and its 16-byte form for SM4. Pure.

For the simulators' PIN pads and hosts. The switch itself relays PIN blocks unread: each was encrypted in the PIN pad
under a key that only the pad and the acquirer hold.
"""

from __future__ import annotations

from switch.errors import SecurityError


def encode_format0(pin: str, pan: str) -> bytes:
    """Build the clear ISO 9564 format 0 PIN block.

    Args:
        pin: 4 to 12 digits.
        pan: 13 to 19 digits, check digit included. The 12 digits left of the check digit enter the block, so a PIN
            encrypted for one card is useless with another.

    Returns:
        8 bytes. Clear text: encrypt it before it leaves this process, and never log it.

    Raises:
        ValueError: A length is out of range or a character is not a digit. The text names the argument, never its
            value.

    Source: ISO 9564-1, PIN block format 0.

    >>> encode_format0("1234", "43219876543210987").hex()
    '0412ac89abcdef67'
    """
    return _encode(pin, pan, 8)


def decode_format0(block: bytes, pan: str) -> str:
    """The PIN in a clear format 0 block of 8 bytes.

    Raises:
        SecurityError: ``pin``: not a PIN block for this PAN; most often the wrong key or the wrong card.
        ValueError: The PAN is not 13 to 19 digits.
    """
    return _decode(block, pan, 8)


def encode_sm4(pin: str, pan: str) -> bytes:
    """The clear 16-byte block for SM4: length, PIN and F to 16 bytes, with the PAN's 12 digits XORed at the end.

    Arguments and errors as ``encode_format0``. Some acquirers want the 8-byte block followed by zeros instead: that is
    ``encode_format0(pin, pan) + bytes(8)``.
    """
    return _encode(pin, pan, 16)


def decode_sm4(block: bytes, pan: str) -> str:
    """The PIN in a clear 16-byte block; errors as ``decode_format0``."""
    return _decode(block, pan, 16)


def _encode(pin: str, pan: str, size: int) -> bytes:
    if not (4 <= len(pin) <= 12 and pin.isascii() and pin.isdigit()):
        raise ValueError("pin: expected 4 to 12 digits")
    pin_field = int(f"0{len(pin):X}{pin}".ljust(size * 2, "F"), 16)
    return (pin_field ^ _pan_field(pan)).to_bytes(size, "big")


def _decode(block: bytes, pan: str, size: int) -> str:
    pan_field = _pan_field(pan)
    if len(block) != size:
        raise SecurityError("pin", f"PIN block of {len(block)} bytes; expected {size}")
    field = f"{int.from_bytes(block, 'big') ^ pan_field:0{size * 2}X}"
    length = int(field[1], 16)
    pin, fill = field[2 : 2 + length], field[2 + length :]
    if field[0] != "0" or not 4 <= length <= 12 or not pin.isdigit() or fill.strip("F"):
        raise SecurityError("pin", "not a PIN block for this card: wrong key or wrong card")
    return pin


def _pan_field(pan: str) -> int:
    if not (13 <= len(pan) <= 19 and pan.isascii() and pan.isdigit()):
        raise ValueError("pan: expected 13 to 19 digits")
    return int(pan[-13:-1], 16)
