"""Track encryption of UnionPay POS terminals: eight bytes of the packed track under the track key. Pure.

The track travels packed, two digits a byte, ``=`` as D, an odd last digit filled with a pad nibble. Its last byte
stays, the eight bytes in front of that are encrypted in place; so the card number and the sizes can still be read.
Source: UnionPay POS message specification, words of field 35 and 36 (facts checked against its printed example).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from switch.errors import SecurityError
from switch.security.primitives import BlockCipher

_COVERED: Final = slice(-9, -1)


def encrypt_packed(packed: bytes, key: BlockCipher) -> bytes:
    """The field's bytes with the covered eight encrypted; as long as before.

    Raises:
        SecurityError: ``key``: the track is shorter than nine bytes, or the key is not triple DES.
    """
    return replace_covered(packed, _checked(key).encrypt)


def decrypt_packed(packed: bytes, key: BlockCipher) -> bytes:
    """The inverse. Errors as ``encrypt_packed``."""
    return replace_covered(packed, _checked(key).decrypt)


def replace_covered(packed: bytes, cipher: Callable[[bytes], bytes]) -> bytes:
    """``cipher`` takes and gives the covered eight bytes."""
    if len(packed) < 9:
        raise SecurityError("key", f"a packed track of {len(packed)} bytes; 9 or more can be encrypted")
    return packed[:-9] + cipher(packed[_COVERED]) + packed[-1:]


def _checked(key: BlockCipher) -> BlockCipher:
    if key.block_size != 8 or key.key_size != 16:
        raise SecurityError("key", f"a track is encrypted with triple DES, not {key.family} of {key.key_size} bytes")
    return key
