"""Block ciphers of the card network, made ready once per key: DES, triple DES and SM4 from OpenSSL.

A ``BlockCipher`` keeps OpenSSL's prepared key schedule, because preparing one (2 µs) costs more than the MAC of a
whole message. OpenSSL's contexts are not for use by several threads at once: everything here belongs to the loop's
thread.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import SM4

from switch.errors import SecurityError

KCV_SIZE: Final = 4


class Family(StrEnum):
    """Which cipher a key is for: a DES key of 8 bytes is single DES, one of 16 bytes is triple DES (K1 K2 K1)."""

    DES = "des"
    SM4 = "sm4"


KEY_SIZES: Final = {Family.DES: (8, 16), Family.SM4: (16,)}


class BlockCipher:
    """One key, ready for use. It shows neither the key nor anything computed from it.

    Args:
        key: 8 or 16 bytes for DES, 16 for SM4. Parity bits are ignored, as the terminals ignore them.

    Raises:
        SecurityError: ``key``: the size does not fit the family.
    """

    __slots__ = ("_algorithm", "_decrypt", "_encrypt", "block_size", "family", "key_size")

    def __init__(self, family: Family, key: bytes) -> None:
        if len(key) not in KEY_SIZES[family]:
            allowed = " or ".join(map(str, KEY_SIZES[family]))
            raise SecurityError("key", f"a {family} key has {allowed} bytes, not {len(key)}")
        self.family = family
        self.key_size = len(key)
        self.block_size = 16 if family is Family.SM4 else 8
        self._algorithm: SM4 | TripleDES
        if family is Family.SM4:
            self._algorithm = SM4(key)
        else:
            # Single DES is triple DES with one key three times: E(D(E(x))) = E(x).
            self._algorithm = TripleDES(key * 3 if len(key) == 8 else key + key[:8])
        # ECB keeps nothing from block to block, so one context serves for the life of the key, provided that it is
        # only ever given whole blocks: the rest of a broken one would wait inside and spoil the next call.
        self._encrypt = Cipher(self._algorithm, modes.ECB()).encryptor().update  # noqa: S305 - the network's mode
        self._decrypt = Cipher(self._algorithm, modes.ECB()).decryptor().update  # noqa: S305

    def encrypt(self, data: bytes) -> bytes:
        """ECB over whole blocks."""
        self._check_blocks(data)
        return self._encrypt(data)

    def decrypt(self, data: bytes) -> bytes:
        """ECB over whole blocks."""
        self._check_blocks(data)
        return self._decrypt(data)

    @property
    def encrypt_block(self) -> Callable[[bytes], bytes]:
        """Unchecked encryption for the path of a message. The caller promises exactly whole blocks."""
        return self._encrypt

    def cbc_mac(self, data: bytes) -> bytes:
        """The last block of a CBC encryption with zero IV."""
        self._check_blocks(data)
        cbc = Cipher(self._algorithm, modes.CBC(bytes(self.block_size))).encryptor()
        return cbc.update(data)[-self.block_size :]

    def halves(self) -> tuple[BlockCipher, BlockCipher]:
        """The two single DES keys of a double-length key."""
        assert self.family is Family.DES and self.key_size == 16
        key = bytes(self._algorithm.key)
        return BlockCipher(Family.DES, key[:8]), BlockCipher(Family.DES, key[8:16])

    def check_value(self, size: int = KCV_SIZE) -> bytes:
        """First bytes of the encryption of one block of zeros."""
        return self._encrypt(bytes(self.block_size))[:size]

    def _check_blocks(self, data: bytes) -> None:
        if not data or len(data) % self.block_size:
            raise SecurityError("key", f"data is {len(data)} bytes, not whole blocks of {self.block_size}")

    def __repr__(self) -> str:
        return f"<BlockCipher {self.family} {self.key_size * 8} bits>"

    def __reduce__(self) -> str:
        raise SecurityError("refused", "a key is not copied or pickled")


def des(key: bytes) -> BlockCipher:
    """8 bytes: single DES; 16 bytes: triple DES, K1 K2 K1."""
    return BlockCipher(Family.DES, key)


def sm4(key: bytes) -> BlockCipher:
    return BlockCipher(Family.SM4, key)
