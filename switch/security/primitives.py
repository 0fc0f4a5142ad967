"""Block ciphers of the card network, made ready once per key: DES, triple DES and SM4 from OpenSSL.

A ``BlockCipher`` keeps OpenSSL's prepared key schedule, because preparing one (2 µs) costs more than the MAC of a
whole message. It belongs to one thread, as ``engine`` says; ``PROVIDER`` names the engine that computes here.
"""

from __future__ import annotations

from typing import Final

from switch.errors import SecurityError
from switch.security.engine import Engine, Family, MakeEngine, Portable

ENGINES: Final[dict[str, MakeEngine]] = {"cryptography": Portable}
try:
    from switch.security._libcrypto import VERSION as _VERSION
    from switch.security._libcrypto import Libcrypto
except ImportError:
    PROVIDER, PROVIDER_VERSION = "cryptography", ""
else:
    ENGINES["libcrypto"] = Libcrypto
    PROVIDER, PROVIDER_VERSION = "libcrypto", _VERSION

KCV_SIZE: Final = 4
KEY_SIZES: Final = {Family.DES: (8, 16), Family.SM4: (16,), Family.AES: (16, 24, 32)}


class BlockCipher:
    """One key, ready for use. It shows neither the key nor anything computed from it.

    Args:
        key: 8 or 16 bytes for DES, 16 for SM4, 16, 24 or 32 for AES. Parity bits are ignored, as terminals do.
        provider: Another engine than ``PROVIDER``, for comparisons.

    Raises:
        SecurityError: ``key``: the size does not fit the family.
    """

    __slots__ = ("_key", "_provider", "block_size", "engine", "family", "key_size")

    def __init__(self, family: Family, key: bytes, provider: str = "") -> None:
        if len(key) not in KEY_SIZES[family]:
            allowed = " or ".join(map(str, KEY_SIZES[family]))
            raise SecurityError("key", f"a {family} key has {allowed} bytes, not {len(key)}")
        self.family = family
        self.key_size = len(key)
        self._key = key
        self._provider = provider
        make = Portable if family is Family.AES else ENGINES[provider or PROVIDER]
        self.engine: Engine = make(family, key)
        self.block_size = self.engine.block_size

    def encrypt(self, data: bytes) -> bytes:
        """ECB over whole blocks."""
        self._check_blocks(data)
        return self.engine.encrypt(data)

    def decrypt(self, data: bytes) -> bytes:
        """ECB over whole blocks."""
        self._check_blocks(data)
        return self.engine.decrypt(data)

    def cbc_mac(self, data: bytes) -> bytes:
        """The last block of a CBC encryption with zero IV."""
        self._check_blocks(data)
        return self.engine.cbc_mac(data)

    def halves(self) -> tuple[BlockCipher, BlockCipher]:
        """The two single DES keys of a double-length key."""
        assert self.family is Family.DES and self.key_size == 16
        left, right = self._key[:8], self._key[8:]
        return BlockCipher(Family.DES, left, self._provider), BlockCipher(Family.DES, right, self._provider)

    def check_value(self, size: int = KCV_SIZE) -> bytes:
        """First bytes of the encryption of one block of zeros."""
        return self.engine.encrypt(bytes(self.block_size))[:size]

    def wrap(self, other: BlockCipher) -> bytes:
        """Another key's bytes encrypted under this one: a cryptogram for a PIN pad. 8 or 16 bytes."""
        return self.encrypt(other._key)

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
