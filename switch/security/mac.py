"""MAC algorithms of the card network, by name. Pure: keys come in, bytes come out.

    name          key            over the padded message                                       field by default
    ------------  -------------  -----------------------------------------------------------  ----------------
    unionpay_ecb  DES 8 or 16    XOR of all blocks, as 16 hex characters H1 H2; E(E(H1) ^ H2)  hex8
    sm4_ecb       SM4 16         the same with blocks of 16 bytes and 32 hex characters        hex8
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

from binascii import hexlify
from collections.abc import Callable
from dataclasses import dataclass
from hmac import compare_digest
from typing import Final

from switch import limits
from switch.errors import SecurityError
from switch.security.primitives import BlockCipher, Family


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
    rule = _RULES[name]
    if key.family is not rule.family or key.key_size not in rule.key_sizes:
        sizes = " or ".join(map(str, rule.key_sizes))
        raise SecurityError(
            "key", f"{name} needs a {rule.family} key of {sizes} bytes, not {key.family} of {key.key_size}"
        )
    full = rule.prepare(key)
    if output == "hex8":
        return Mac(lambda data: hexlify(full(data)[:4]).upper(), True)
    else:
        return Mac(lambda data: full(data)[:8], False)


def make_mac(algorithm: str, key: bytes, data: bytes) -> bytes:
    """One MAC with a clear key: for simulators and tests."""
    return prepare(algorithm, BlockCipher(_RULES[split_name(algorithm)[0]].family, key)).make(data)


def verify_mac(algorithm: str, key: bytes, data: bytes, mac: bytes) -> bool:
    """One verification with a clear key: for simulators and tests."""
    return prepare(algorithm, BlockCipher(_RULES[split_name(algorithm)[0]].family, key)).verify(data, mac)


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


def _check_size(data: bytes) -> None:
    if not 0 < len(data) <= limits.FRAME_SIZE_MAX:
        raise SecurityError("mac", f"{len(data)} bytes to authenticate; 1 to {limits.FRAME_SIZE_MAX} are possible")


def _padded(data: bytes) -> bytes:
    _check_size(data)
    return data + bytes(-len(data) % 8)


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


_STEPS_8: Final = _folding_steps(64)
_STEPS_16: Final = _folding_steps(128)


def _fold_8(data: bytes) -> int:
    """XOR of all 8-byte blocks, the last one filled with zeros."""
    size = len(data)
    if not 0 < size <= limits.FRAME_SIZE_MAX:
        _check_size(data)
    folded = int.from_bytes(data, "big")
    if size & 7:
        folded <<= (-size & 7) << 3
    for shift, mask in _STEPS_8[((size - 1) >> 3).bit_length()]:
        folded = (folded >> shift) ^ (folded & mask)
    return folded


def _fold_16(data: bytes) -> int:
    """XOR of all 16-byte blocks, the last one filled with zeros."""
    size = len(data)
    if not 0 < size <= limits.FRAME_SIZE_MAX:
        _check_size(data)
    folded = int.from_bytes(data, "big") << ((-size & 15) << 3)
    for shift, mask in _STEPS_16[((size - 1) >> 4).bit_length()]:
        folded = (folded >> shift) ^ (folded & mask)
    return folded


def _unionpay_ecb(key: BlockCipher) -> Callable[[bytes], bytes]:
    encrypt = key.encrypt_block
    number = int.from_bytes

    def make(data: bytes) -> bytes:
        text = b"%016X" % _fold_8(data)
        chained = number(encrypt(text[:8]), "big") ^ number(text[8:], "big")
        return encrypt(chained.to_bytes(8, "big"))

    return make


def _sm4_ecb(key: BlockCipher) -> Callable[[bytes], bytes]:
    encrypt = key.encrypt_block
    number = int.from_bytes

    def make(data: bytes) -> bytes:
        text = b"%032X" % _fold_16(data)
        chained = number(encrypt(text[:16]), "big") ^ number(text[16:], "big")
        return encrypt(chained.to_bytes(16, "big"))

    return make


def _cbc(key: BlockCipher) -> Callable[[bytes], bytes]:
    return lambda data: key.cbc_mac(_padded(data))


def _x9_19(key: BlockCipher) -> Callable[[bytes], bytes]:
    left, right = key.halves()
    return lambda data: left.encrypt(right.decrypt(left.cbc_mac(_padded(data))))


def _x9_19_pad80(key: BlockCipher) -> Callable[[bytes], bytes]:
    left, right = key.halves()

    def make(data: bytes) -> bytes:
        _check_size(data)
        padded = data + b"\x80" + bytes(-(len(data) + 1) % 8)
        return left.encrypt(right.decrypt(left.cbc_mac(padded)))

    return make


def _xor_tdes(key: BlockCipher) -> Callable[[bytes], bytes]:
    return lambda data: key.encrypt_block(_fold_8(data).to_bytes(8, "big"))


OUTPUTS: Final = ("hex8", "raw8")
_RULES: Final = {
    "unionpay_ecb": _Algorithm(Family.DES, (8, 16), "hex8", _unionpay_ecb),
    "sm4_ecb": _Algorithm(Family.SM4, (16,), "hex8", _sm4_ecb),
    "x9_9": _Algorithm(Family.DES, (8,), "raw8", _cbc),
    "x9_19": _Algorithm(Family.DES, (16,), "raw8", _x9_19),
    "x9_19_pad80": _Algorithm(Family.DES, (16,), "raw8", _x9_19_pad80),
    "tdes_cbc": _Algorithm(Family.DES, (16,), "raw8", _cbc),
    "xor_tdes": _Algorithm(Family.DES, (16,), "raw8", _xor_tdes),
}
ALGORITHMS: Final = tuple(_RULES)
