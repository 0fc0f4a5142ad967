"""Clear PIN blocks: ISO 9564 formats 0 and 4, and the 16-byte form for SM4. Pure, but for the random fill of format 4.

    format  key   block                                                            seen with
    ------  ----  ---------------------------------------------------------------  --------------------------
    iso0    DES   0 L PIN F…, XOR with 12 digits of the PAN: 8 bytes               field 53 = 2…, field 52
    iso4    AES   E(E(4 L PIN A… random) XOR PAN field): 16 bytes                  ISO 9564-1:2017
    sm4     SM4   as iso0 over 16 bytes, the PAN's digits at the end               field 53 second digit 4
    iso0z   SM4   the 8 bytes of iso0, then 8 zero bytes                           some banks

``encrypt`` and ``decrypt`` do it whole, with a key; the functions under them give the clear block of one format. In key
mode ``dual_tmk`` the switch relays PIN blocks unread: these are for ``translate``, and for simulated pads and hosts.
"""

from __future__ import annotations

import os
from typing import Final

from switch.errors import SecurityError
from switch.security.engine import Family
from switch.security.primitives import BlockCipher

FORMATS: Final = {"iso0": Family.DES, "iso4": Family.AES, "sm4": Family.SM4, "iso0z": Family.SM4}


def encrypt(pin_format: str, key: BlockCipher, pin: str, pan: str) -> bytes:
    """The encrypted PIN block: 8 bytes for iso0, else 16.

    Raises:
        SecurityError: ``pin``: no such format. ``key``: the key is of another family than the format's.
        ValueError: As ``encode_format0``.
    """
    check_key(pin_format, key.family, key.key_size)
    if pin_format == "iso0":
        return key.encrypt(encode_format0(pin, pan))
    if pin_format == "sm4":
        return key.encrypt(encode_sm4(pin, pan))
    if pin_format == "iso0z":
        return key.encrypt(encode_format0(pin, pan) + bytes(8))
    field = bytes.fromhex(f"4{len(_digits(pin)):X}{pin}".ljust(16, "A")) + os.urandom(8)
    return key.encrypt(_xor(key.encrypt(field), _pan_field_4(pan)))


def decrypt(pin_format: str, key: BlockCipher, block: bytes, pan: str) -> str:
    """The PIN. Only a module's inside may call it; what it gives never leaves that.

    Raises:
        SecurityError: ``pin``: no such format, or no PIN block for this card and key. ``key``: another family.
        ValueError: The PAN is not 13 to 19 digits.
    """
    check_key(pin_format, key.family, key.key_size)
    if len(block) != key.block_size:
        raise SecurityError("pin", f"PIN block of {len(block)} bytes; expected {key.block_size}")
    if pin_format == "iso4":
        clear = key.decrypt(_xor(key.decrypt(block), _pan_field_4(pan)))
        return _read_field(clear[:8].hex().upper(), "4", "A")
    clear = key.decrypt(block)
    if pin_format == "iso0z":
        if clear[8:] != bytes(8):
            raise _no_pin_block()
        return decode_format0(clear[:8], pan)
    return decode_format0(clear, pan) if pin_format == "iso0" else decode_sm4(clear, pan)


def check_key(pin_format: str, family: Family, key_size: int) -> None:
    """Raises SecurityError ``pin``: no such format. ``key``: such a key makes no such blocks."""
    wanted = FORMATS.get(pin_format)
    if wanted is None:
        raise SecurityError("pin", f"PIN block format {pin_format!r}: one of {', '.join(FORMATS)}")
    if family is not wanted or (family is not Family.DES and key_size < 16):
        raise SecurityError("key", f"PIN block {pin_format} needs a {wanted} key, not {family} of {key_size} bytes")


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
    pin_field = int(f"0{len(_digits(pin)):X}{pin}".ljust(size * 2, "F"), 16)
    return (pin_field ^ _pan_field(pan)).to_bytes(size, "big")


def _decode(block: bytes, pan: str, size: int) -> str:
    pan_field = _pan_field(pan)
    if len(block) != size:
        raise SecurityError("pin", f"PIN block of {len(block)} bytes; expected {size}")
    return _read_field(f"{int.from_bytes(block, 'big') ^ pan_field:0{size * 2}X}", "0", "F")


def _read_field(field: str, control: str, fill: str) -> str:
    length = int(field[1], 16)
    pin, rest = field[2 : 2 + length], field[2 + length :]
    if field[0] != control or not 4 <= length <= 12 or not pin.isdigit() or rest.strip(fill):
        raise _no_pin_block()
    return pin


def _no_pin_block() -> SecurityError:
    return SecurityError("pin", "not a PIN block for this card: wrong key or wrong card")


def _digits(pin: str) -> str:
    if not (4 <= len(pin) <= 12 and pin.isascii() and pin.isdigit()):
        raise ValueError("pin: expected 4 to 12 digits")
    return pin


def _checked_pan(pan: str) -> str:
    if not (13 <= len(pan) <= 19 and pan.isascii() and pan.isdigit()):
        raise ValueError("pan: expected 13 to 19 digits")
    return pan


def _pan_field(pan: str) -> int:
    return int(_checked_pan(pan)[-13:-1], 16)


def _pan_field_4(pan: str) -> bytes:
    """Length above 12, the whole PAN, zeros: 16 bytes."""
    return bytes.fromhex(f"{len(_checked_pan(pan)) - 12}{pan}".ljust(32, "0"))


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))
