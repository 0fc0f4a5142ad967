"""What computes: one key, ready, behind five calls. Two engines with the same results, chosen when this is imported.

    name          made from                                          MAC of 200 bytes, ``unionpay_ecb``
    ------------  -------------------------------------------------  ----------------------------------
    libcrypto     Cython over the system's libcrypto, if it was       about 1 µs
                  built (``_libcrypto.pyx``); DES and SM4
    cryptography  the package of that name; OpenSSL comes with it     about 3 µs

An engine checks nothing but the size of what it folds: ``primitives.BlockCipher`` does, and is what others use.
OpenSSL's contexts are not for use by several threads at once: everything here belongs to one thread.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final, Protocol

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES, SM4

from switch import limits
from switch.errors import SecurityError


class Family(StrEnum):
    """Which cipher a key is for: a DES key of 8 bytes is single DES, one of 16 bytes is triple DES (K1 K2 K1)."""

    DES = "des"
    SM4 = "sm4"
    AES = "aes"  # only for PIN blocks of ISO 9564 format 4


class Engine(Protocol):
    block_size: int

    def encrypt(self, data: bytes, /) -> bytes:
        """ECB over whole blocks."""
        ...

    def decrypt(self, data: bytes, /) -> bytes:
        """ECB over whole blocks."""
        ...

    def cbc_mac(self, data: bytes, /) -> bytes:
        """The last block of a CBC encryption of whole blocks with zero IV."""
        ...

    def fold_mac(self, data: bytes, /) -> bytes:
        """The XOR of all blocks as hexadecimal characters H1 H2: E(E(H1) ^ H2). One block.

        Raises:
            SecurityError: ``mac``: not 1 to FRAME_SIZE_MAX bytes.
        """
        ...

    def xor_mac(self, data: bytes, /) -> bytes:
        """E(the XOR of all blocks). One block; errors as ``fold_mac``."""
        ...


def check_size(size: int) -> None:
    """Raises SecurityError ``mac`` for nothing, and for more than a frame can hold."""
    if not 0 < size <= limits.FRAME_SIZE_MAX:
        raise SecurityError("mac", f"{size} bytes to authenticate; 1 to {limits.FRAME_SIZE_MAX} are possible")


def fold(data: bytes, block_size: int = 8) -> int:
    """The XOR of all blocks as a number, the last one filled with zeros. Raises as ``check_size``."""
    size = len(data)
    check_size(size)
    folded = int.from_bytes(data, "big") << ((-size % block_size) << 3)
    for shift, mask in _STEPS[block_size][((size - 1) // block_size).bit_length()]:
        folded = (folded >> shift) ^ (folded & mask)
    return folded


class Portable:
    """An engine on the package ``cryptography``, with its prepared contexts kept."""

    __slots__ = ("_algorithm", "block_size", "decrypt", "encrypt")

    def __init__(self, family: Family, key: bytes) -> None:
        self.block_size = 8 if family is Family.DES else 16
        self._algorithm: TripleDES | SM4 | AES
        if family is Family.DES:
            # Single DES is triple DES with one key three times: E(D(E(x))) = E(x).
            self._algorithm = TripleDES(key * 3 if len(key) == 8 else key + key[:8])
        else:
            self._algorithm = SM4(key) if family is Family.SM4 else AES(key)
        # ECB keeps nothing from block to block, so one context serves for the life of the key, provided that it is
        # only ever given whole blocks: the rest of a broken one would wait inside and spoil the next call.
        self.encrypt: Callable[[bytes], bytes] = Cipher(self._algorithm, modes.ECB()).encryptor().update  # noqa: S305
        self.decrypt: Callable[[bytes], bytes] = Cipher(self._algorithm, modes.ECB()).decryptor().update  # noqa: S305

    def cbc_mac(self, data: bytes) -> bytes:
        cbc = Cipher(self._algorithm, modes.CBC(bytes(self.block_size))).encryptor()
        return cbc.update(data)[-self.block_size :]

    def fold_mac(self, data: bytes) -> bytes:
        size = self.block_size
        text = b"%0*X" % (2 * size, fold(data, self.block_size))
        chained = int.from_bytes(self.encrypt(text[:size]), "big") ^ int.from_bytes(text[size:], "big")
        return self.encrypt(chained.to_bytes(size, "big"))

    def xor_mac(self, data: bytes) -> bytes:
        return self.encrypt(fold(data, self.block_size).to_bytes(self.block_size, "big"))


def _folding_steps(block_bits: int) -> tuple[tuple[tuple[int, int], ...], ...]:
    """For the index n: how to XOR up to 2**n blocks, seen as one large integer, into one in n steps.

    Each step lays the upper part of the number over its lower part, so 25 blocks need 5 XORs of long integers instead
    of 200 of bytes.
    """
    block_count_max = -(-limits.FRAME_SIZE_MAX * 8 // block_bits)
    steps: list[tuple[tuple[int, int], ...]] = [()]
    while 1 << (len(steps) - 1) < block_count_max:
        shift = block_bits << (len(steps) - 1)
        steps.append(((shift, (1 << shift) - 1), *steps[-1]))
    return tuple(steps)


_STEPS: Final = {8: _folding_steps(64), 16: _folding_steps(128)}

MakeEngine = Callable[[Family, bytes], Engine]
