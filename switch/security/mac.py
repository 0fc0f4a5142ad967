"""MAC algorithms of the card network, by name. Pure: keys come in, bytes come out.

    name          key            over the padded message                                       field by default
    ------------  -------------  -----------------------------------------------------------  ----------------
    unionpay_ecb  DES 8 or 16    XOR of all blocks, as 16 hex characters H1 H2; E(E(H1) ^ H2)  hex8
    sm4_ecb       SM4 16         the same with blocks of 16 bytes and 32 hex characters        hex8
    sm4_cbc       SM4 16         CBC-MAC                                                       raw8
    xor_sm4       SM4 16         E(XOR of all blocks)                                          raw8
    x9_9          DES 8          CBC-MAC, single DES                                           raw8
    x9_19         DES 16         CBC-MAC with the left half, the last block triple DES         raw8
    x9_19_pad80   DES 16         x9_19 with PBOC padding                                       raw8
    tdes_cbc      DES 16         CBC-MAC, triple DES in every step                             raw8
    xor_tdes      DES 16         E(XOR of all blocks)                                          raw8

Padding is with zero bytes to whole blocks, nothing when they are whole already; x9_19_pad80 always adds 80, then
zeros. What stands in field 64 follows a colon: ``hex8`` is the first 4 bytes as 8 upper-case hexadecimal characters
in ASCII, ``raw8`` the first 8 bytes as they are. So an acquirer with X9.19 in characters is ``"x9_19:hex8"``, and
``"unionpay_ecb"`` is short for ``"unionpay_ecb:hex8"``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hmac import compare_digest
from typing import Final

from switch.errors import SecurityError
from switch.security.engine import Family, check_size
from switch.security.primitives import BlockCipher


@dataclass(frozen=True, slots=True)
class _Algorithm:
    family: Family
    key_sizes: tuple[int, ...]
    output: str
    prepare: Callable[[BlockCipher], Callable[[bytes], bytes]]  # gives at least the first 8 bytes


class Mac:
    """One algorithm with one key, ready for many messages.

    ``make`` takes 1 to ``limits.FRAME_SIZE_MAX`` bytes and gives the 8 bytes of the MAC field.
    """

    __slots__ = ("is_hex", "make")

    def __init__(self, make: Callable[[bytes], bytes], is_hex: bool) -> None:
        self.make = make
        self.is_hex = is_hex

    def verify(self, data: bytes, mac: bytes) -> bool:
        """In constant time; hexadecimal characters may come in either case."""
        return compare_digest(self.make(data), mac.upper() if self.is_hex else mac)


def prepare(algorithm: str, key: BlockCipher) -> Mac:
    """Tie an algorithm to a key; do it once per key and keep the result.

    Raises:
        SecurityError: ``mac``: no such algorithm. ``key``: the key does not fit it.
    """
    name, output = split_name(algorithm)
    check_key(name, key.family, key.key_size)
    full = _RULES[name].prepare(key)
    if output == "hex8":
        return Mac(lambda data: full(data)[:4].hex().upper().encode(), True)
    else:
        return Mac(lambda data: full(data)[:8], False)


def make_mac(algorithm: str, key: bytes, data: bytes) -> bytes:
    """One MAC with a clear key: for simulators and tests."""
    return prepare(algorithm, BlockCipher(_RULES[split_name(algorithm)[0]].family, key)).make(data)


def verify_mac(algorithm: str, key: bytes, data: bytes, mac: bytes) -> bool:
    """One verification with a clear key: for simulators and tests."""
    return prepare(algorithm, BlockCipher(_RULES[split_name(algorithm)[0]].family, key)).verify(data, mac)


def check_key(name: str, family: Family, key_size: int) -> None:
    """Raises SecurityError ``key`` when such a key does not fit the algorithm."""
    rule = _RULES[name]
    if family is not rule.family or key_size not in rule.key_sizes:
        sizes = " or ".join(map(str, rule.key_sizes))
        raise SecurityError("key", f"{name} needs a {rule.family} key of {sizes} bytes, not {family} of {key_size}")


def split_name(algorithm: str) -> tuple[str, str]:
    """``"x9_19:hex8"`` to its two parts, with the default output filled in. Also the check for configuration files.

    Raises:
        SecurityError: ``mac``: unknown; the text lists what is known.
    """
    name, colon, output = algorithm.partition(":")
    if name not in _RULES or (colon and output not in OUTPUTS):
        raise SecurityError(
            "mac", f"MAC algorithm {algorithm!r}: one of {', '.join(_RULES)}, with :{' or :'.join(OUTPUTS)} or nothing"
        )
    return name, output or _RULES[name].output


def _padded(data: bytes, block_size: int = 8) -> bytes:
    check_size(len(data))
    return data + bytes(-len(data) % block_size)


def _cbc(key: BlockCipher) -> Callable[[bytes], bytes]:
    cbc_mac, block_size = key.engine.cbc_mac, key.block_size
    return lambda data: cbc_mac(_padded(data, block_size))


def _x9_19(key: BlockCipher) -> Callable[[bytes], bytes]:
    whole = _alg3(key)
    return lambda data: whole(_padded(data))


def _x9_19_pad80(key: BlockCipher) -> Callable[[bytes], bytes]:
    whole = _alg3(key)

    def make(data: bytes) -> bytes:
        check_size(len(data))
        return whole(data + b"\x80" + bytes(-(len(data) + 1) % 8))

    return make


def _alg3(key: BlockCipher) -> Callable[[bytes], bytes]:
    """ISO 9797-1 algorithm 3 over whole blocks."""
    left, right = (half.engine for half in key.halves())
    return lambda data: left.encrypt(right.decrypt(left.cbc_mac(data)))


OUTPUTS: Final = ("hex8", "raw8")
_RULES: Final = {
    "unionpay_ecb": _Algorithm(Family.DES, (8, 16), "hex8", lambda key: key.engine.fold_mac),
    "sm4_ecb": _Algorithm(Family.SM4, (16,), "hex8", lambda key: key.engine.fold_mac),
    "sm4_cbc": _Algorithm(Family.SM4, (16,), "raw8", _cbc),
    "xor_sm4": _Algorithm(Family.SM4, (16,), "raw8", lambda key: key.engine.xor_mac),
    "x9_9": _Algorithm(Family.DES, (8,), "raw8", _cbc),
    "x9_19": _Algorithm(Family.DES, (16,), "raw8", _x9_19),
    "x9_19_pad80": _Algorithm(Family.DES, (16,), "raw8", _x9_19_pad80),
    "tdes_cbc": _Algorithm(Family.DES, (16,), "raw8", _cbc),
    "xor_tdes": _Algorithm(Family.DES, (16,), "raw8", lambda key: key.engine.xor_mac),
}
ALGORITHMS: Final = tuple(_RULES)
