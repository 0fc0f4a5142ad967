"""Field 62 of a sign-on response: working keys as cryptograms under the TMK, each with its check value. Pure.

    bytes  PIN key   MAC key                    track key  seen with 60.3
    -----  --------  -------------------------  ---------  ---------------------------------
    24     8 + 4     8 + 4                      -          001, single DES
    40     16 + 4    8, then 8 zero bytes, + 4  -          003, double DES, single MAC key
    40     16 + 4    16 + 4                     -          003, double DES
    60     16 + 4    as above                   16 + 4     004, with track key; 006, all SM4

The 8 zero bytes are literal, not the encryption of something: such a MAC key is a single DES key, and so is its check
value. The switch opens the MAC key only and passes the field on to the PIN pad as it came.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hmac import compare_digest
from typing import Final

from switch.errors import SecurityError
from switch.ports import KeyUsage
from switch.security.engine import Family
from switch.security.primitives import KCV_SIZE, BlockCipher

_ZEROS: Final = bytes(8)
_SIZES: Final = {24: (8, 8), 40: (16, 16), 60: (16, 16, 16)}
_KCV_SIZE_MIN: Final = 3  # shorter ones are guessed too easily to prove anything


@dataclass(frozen=True, slots=True)
class WorkingKey:
    """A key under the TMK, as transmitted."""

    cryptogram: bytes = field(repr=False)  # 8 or 16 bytes; 8 + 8 zero bytes for a single-length MAC key
    kcv: bytes  # 4 bytes


@dataclass(frozen=True, slots=True)
class WorkingKeys:
    pin: WorkingKey
    mac: WorkingKey
    track: WorkingKey | None = None


def parse(data: bytes) -> WorkingKeys:
    """Take field 62 apart. Nothing is decrypted, so nothing is proven yet.

    Raises:
        SecurityError: ``key``: no known layout has this length.
    """
    sizes = _SIZES.get(len(data))
    if sizes is None:
        allowed = ", ".join(map(str, _SIZES))
        raise SecurityError("key", f"field 62: working keys of {len(data)} bytes; allowed are {allowed}")
    keys = []
    offset = 0
    for size in sizes:
        end = offset + size
        keys.append(WorkingKey(data[offset:end], data[end : end + KCV_SIZE]))
        offset = end + KCV_SIZE
    assert offset == len(data)
    return WorkingKeys(*keys)


def build(keys: WorkingKeys) -> bytes:
    """Field 62, for simulators. A MAC key of 8 bytes beside a PIN key of 16 gets its 8 zero bytes.

    Raises:
        ValueError: The sizes make none of the layouts.
    """
    single = len(keys.pin.cryptogram) == 8
    data = b""
    for key in (keys.pin, keys.mac, keys.track):
        if key is None:
            continue
        cryptogram = key.cryptogram
        if key is keys.mac and len(cryptogram) == 8 and not single:
            cryptogram += _ZEROS
        if len(cryptogram) != (8 if single else 16) or len(key.kcv) != KCV_SIZE:
            raise ValueError("working keys: cryptograms of one size, 8 or 16 bytes, each with 4 bytes of check value")
        data += cryptogram + key.kcv
    if len(data) not in _SIZES:
        raise ValueError(f"working keys of {len(data)} bytes; allowed are {', '.join(map(str, _SIZES))}")
    return data


def encrypt_key(clear: bytes, tmk: BlockCipher) -> WorkingKey:
    """A clear working key under the TMK with its check value: what a simulated host sends."""
    return WorkingKey(tmk.encrypt(clear), BlockCipher(tmk.family, clear).check_value())


def decrypt_key(cryptogram: bytes, kcv: bytes, tmk: BlockCipher, usage: KeyUsage) -> BlockCipher:
    """Open a working key and prove it by its check value. It is of the TMK's family.

    Args:
        cryptogram: 8 or 16 bytes; for a MAC key also 8 and 8 literal zero bytes.
        kcv: 3 bytes up to one block.

    Raises:
        SecurityError: ``key``: a size is wrong. ``kcv``: the check value differs: another TMK, or damage on the way.
    """
    checked = check_sizes(cryptogram, kcv, tmk.family, usage)
    key = BlockCipher(tmk.family, tmk.decrypt(checked))
    if not compare_digest(key.check_value(len(kcv)), kcv):
        raise wrong_check_value(usage)
    return key


def check_sizes(cryptogram: bytes, kcv: bytes, family: Family, usage: KeyUsage) -> bytes:
    """The cryptogram without the literal zeros of a single-length MAC key. Raises as ``decrypt_key``."""
    block_size = 8 if family is Family.DES else 16
    if usage is KeyUsage.MAC and len(cryptogram) == 16 and cryptogram[8:] == _ZEROS and block_size == 8:
        cryptogram = cryptogram[:8]
    if len(cryptogram) not in (8, 16) or len(cryptogram) % block_size:
        raise SecurityError("key", f"{usage} key: cryptogram of {len(cryptogram)} bytes under a {family} key")
    if not _KCV_SIZE_MIN <= len(kcv) <= block_size:
        raise SecurityError("kcv", f"{usage} key: check value of {len(kcv)} bytes; expected 3 to {block_size}")
    return cryptogram


def wrong_check_value(usage: KeyUsage) -> SecurityError:
    return SecurityError("kcv", f"{usage} key: the check value differs; wrong terminal master key, or sign on again")
