"""What a PIN pad does with keys: opens working keys under its master key, MACs messages, encrypts a PIN. DES only."""

from __future__ import annotations

import hmac
import struct
from functools import reduce
from operator import xor
from typing import Final

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

MAC_SIZE: Final = 8  # characters of field 64
_KCV_SIZE: Final = 4
_LAYOUTS: Final = {24: 8, 40: 16, 60: 16}  # bytes of field 62: bytes of each key in it


class WorkingKeyError(Exception):
    """Working keys that do not fit their check values, or a layout that this kiosk does not know."""


class DesKey:
    """A DES key of 8 or 16 bytes, ready for whole blocks."""

    def __init__(self, key: bytes) -> None:
        # OpenSSL's triple DES wants 24 bytes; K K K is single DES, K1 K2 K1 has double length.
        whole = key * 3 if len(key) == 8 else key + key[:8]
        cipher = Cipher(TripleDES(whole), modes.ECB())  # noqa: S305 - as the card network's protocol has it
        # ECB knows no blocks before: one context serves for the life of the key.
        self.encrypt = cipher.encryptor().update
        self.decrypt = cipher.decryptor().update


class WorkingKeys:
    """The keys of one sign-on.

    Args:
        field: Field 62 of its response: PIN key, check value, MAC key, check value; a track key is left alone.

    Raises:
        WorkingKeyError: Do not trade; sign on again.
    """

    def __init__(self, field: bytes, master: DesKey) -> None:
        size = _LAYOUTS.get(len(field))
        if size is None:
            raise WorkingKeyError(f"working keys of {len(field)} bytes")
        end = size + _KCV_SIZE
        self._pin = _open(field[:end], master)
        self._mac = _open(field[end : 2 * end], master)

    def mac(self, covered: bytes) -> bytes:
        """UnionPay's ECB MAC: all blocks XORed, in characters H1 H2; E(E(H1) xor H2), half of it in characters."""
        padded = covered + bytes(-len(covered) % 8)
        folded = reduce(xor, struct.unpack(f">{len(padded) // 8}Q", padded))
        characters = f"{folded:016X}".encode("ascii")
        first = self._mac.encrypt(characters[:8])
        return self._mac.encrypt(_xor(first, characters[8:]))[:4].hex().upper().encode("ascii")

    def is_right(self, covered: bytes, mac: bytes) -> bool:
        return hmac.compare_digest(self.mac(covered), mac)

    def pin_block(self, pin: str, pan: str) -> bytes:
        """ISO 9564 format 0, encrypted."""
        clear = _xor(bytes.fromhex(f"0{len(pin):X}{pin}".ljust(16, "F")), bytes.fromhex(f"0000{pan[-13:-1]}"))
        return self._pin.encrypt(clear)


def _open(part: bytes, master: DesKey) -> DesKey:
    cryptogram, check_value = part[:-_KCV_SIZE], part[-_KCV_SIZE:]
    if len(cryptogram) == 16 and not any(cryptogram[8:]):
        cryptogram = cryptogram[:8]  # a MAC key of single length is filled up with zeros
    key = DesKey(master.decrypt(cryptogram))
    if not hmac.compare_digest(key.encrypt(bytes(8))[:_KCV_SIZE], check_value):
        raise WorkingKeyError("a working key does not fit its check value")
    return key


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))
