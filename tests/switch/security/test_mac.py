"""MAC algorithms: published vectors without card data, and a second implementation straight from the texts.

The messages are synthetic: PANs begin with 6222 02 and belong to nobody, terminal and merchant numbers are invented.
"""

from __future__ import annotations

import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import SM4
from hypothesis import given
from hypothesis import strategies as st

from switch import config, limits
from switch.errors import SecurityError
from switch.security import mac
from switch.security.engine import Family
from switch.security.primitives import BlockCipher, des

pytestmark = pytest.mark.usefixtures("engine")

LEFT = bytes.fromhex("0123456789ABCDEF")
RIGHT = bytes.fromhex("FEDCBA9876543210")
DOUBLE = LEFT + RIGHT
KEY_OF = {
    "unionpay_ecb": DOUBLE,
    "sm4_ecb": DOUBLE,
    "sm4_cbc": DOUBLE,
    "xor_sm4": DOUBLE,
    "x9_9": LEFT,
    "x9_19": DOUBLE,
    "x9_19_pad80": DOUBLE,
    "tdes_cbc": DOUBLE,
    "xor_tdes": DOUBLE,
}

# A purchase as a kiosk would send it: MTI, bitmap, fields 2 3 4 11 14 22 23 25 26 35 41 42 49 52 53 60.
PURCHASE = bytes.fromhex(
    "0200"
    "702406C020C09811"
    "19 62220200000000000170"
    "000000 000000012345 000123 3012 0510 0001 00 06"
    "37 6222020000000000017D301220100000000000" + b"KIOSK001TESTMERCHANT001".hex() + b"156".hex() + "A1B2C3D4E5F60718"
    "2600000000000000"
    "0011 220000010000"
)


# ------------------------------------------------------------------------------ the second implementation
def xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def single(key: bytes, block: bytes, *, decrypt: bool = False) -> bytes:
    cipher = Cipher(TripleDES(key * 3), modes.ECB())
    return (cipher.decryptor() if decrypt else cipher.encryptor()).update(block)


def encrypt(key: bytes, block: bytes) -> bytes:
    if len(block) == 16:
        return Cipher(SM4(key), modes.ECB()).encryptor().update(block)
    if len(key) == 8:
        return single(key, block)
    return single(key[:8], single(key[8:], single(key[:8], block), decrypt=True))


def blocks(data: bytes, size: int = 8) -> list[bytes]:
    data += bytes(-len(data) % size)
    return [data[at : at + size] for at in range(0, len(data), size)]


def folded(data: bytes, size: int = 8) -> bytes:
    result = bytes(size)
    for block in blocks(data, size):
        result = xor(result, block)
    return result


def chained(key: bytes, data: bytes) -> bytes:
    value = bytes(8)
    for block in blocks(data):
        value = encrypt(key, xor(value, block))
    return value


def reference(algorithm: str, key: bytes, data: bytes) -> bytes:
    """At least 8 bytes of result, before it becomes characters."""
    if "sm4" in algorithm:
        return reference_sm4(algorithm, key, data)
    if algorithm == "unionpay_ecb":
        size = 8
        characters = folded(data, size).hex().upper().encode()
        first = encrypt(key, characters[:size])
        return encrypt(key, xor(first, characters[size:]))
    if algorithm in ("x9_9", "tdes_cbc"):
        return chained(key, data)
    if algorithm == "xor_tdes":
        return encrypt(key, folded(data))
    if algorithm == "x9_19_pad80":
        data += b"\x80"
    last = single(key[8:], chained(key[:8], data), decrypt=True)
    return single(key[:8], last)


def sm4(key: bytes, block: bytes) -> bytes:
    return Cipher(SM4(key), modes.ECB()).encryptor().update(block)


def reference_sm4(algorithm: str, key: bytes, data: bytes) -> bytes:
    if algorithm == "sm4_cbc":
        value = bytes(16)
        for block in blocks(data, 16):
            value = sm4(key, xor(value, block))
        return value
    result = folded(data, 16)
    if algorithm == "xor_sm4":
        return sm4(key, result)
    characters = result.hex().upper().encode()
    return sm4(key, xor(sm4(key, characters[:16]), characters[16:]))


# ------------------------------------------------------------------------------ vectors
@pytest.mark.parametrize(
    ("algorithm", "key", "message", "expected"),
    [
        # ISO/IEC 9797-1 annex: algorithm 1 with padding 1 is X9.9; algorithm 3 is X9.19.
        ("x9_9", LEFT, b"Now is the time for all ", "70A30640CC76DD8B"),
        ("x9_9", LEFT, b"Now is the time for it", "E45B3AD2B7CC0856"),
        ("x9_19", DOUBLE, b"Now is the time for all ", "A1C72E74EA3FA9B6"),
        ("x9_19", DOUBLE, b"Now is the time for it", "2E2B1428CC78254F"),
        ("x9_19_pad80", DOUBLE, b"Now is the time for all ", "E9086230CA3BE796"),
        ("x9_19_pad80", DOUBLE, b"Now is the time for it", "5A692CE64F404145"),
        # neapay.com, MAC calculator
        (
            "tdes_cbc",
            bytes.fromhex("01234567890123450123456789012345"),
            bytes.fromhex("01234567890123450123456789012345"),
            "04D62E1385AAF220",
        ),
    ],
)
def test_published_vectors(algorithm: str, key: bytes, message: bytes, expected: str) -> None:
    assert mac.make_mac(algorithm, key, message) == bytes.fromhex(expected)
    assert mac.make_mac(f"{algorithm}:hex8", key, message) == expected[:8].encode()


def test_unionpay_ecb_step_by_step() -> None:
    """R, E1, T and E2 written out, so that a wrong step shows as that step."""
    result = folded(PURCHASE)
    characters = result.hex().upper().encode()
    for key in (LEFT, DOUBLE):
        first = encrypt(key, characters[:8])
        second = encrypt(key, xor(first, characters[8:]))
        assert mac.make_mac("unionpay_ecb:raw8", key, PURCHASE) == second
        assert mac.make_mac("unionpay_ecb", key, PURCHASE) == second.hex().upper().encode()[:8]


@pytest.mark.parametrize(
    ("algorithm", "key", "expected"),
    [
        ("unionpay_ecb", LEFT, b"873C7384"),
        ("unionpay_ecb", DOUBLE, b"B157CA11"),
        ("sm4_ecb", DOUBLE, b"0C2872A5"),
    ],
)
def test_the_field_of_a_purchase_stays_what_it_is(algorithm: str, key: bytes, expected: bytes) -> None:
    """Our own vectors, computed by the second implementation and frozen."""
    assert reference(algorithm, key, PURCHASE)[:4].hex().upper().encode() == expected
    assert mac.make_mac(algorithm, key, PURCHASE) == expected


def test_a_double_length_key_with_equal_halves_is_single_des() -> None:
    assert mac.make_mac("unionpay_ecb", LEFT * 2, PURCHASE) == mac.make_mac("unionpay_ecb", LEFT, PURCHASE)


# ------------------------------------------------------------------------------ properties
@pytest.mark.parametrize("algorithm", mac.ALGORITHMS)
@given(data=st.binary(min_size=1, max_size=300), key=st.binary(min_size=16, max_size=16))
def test_equals_the_second_implementation(algorithm: str, data: bytes, key: bytes) -> None:
    key = key[: len(KEY_OF[algorithm])]
    expected = reference(algorithm, key, data)
    assert mac.make_mac(f"{algorithm}:raw8", key, data) == expected[:8]
    assert mac.make_mac(f"{algorithm}:hex8", key, data) == expected[:4].hex().upper().encode()


@given(data=st.binary(min_size=1, max_size=300), key=st.binary(min_size=8, max_size=8))
def test_unionpay_ecb_with_a_single_length_key(data: bytes, key: bytes) -> None:
    assert mac.make_mac("unionpay_ecb:raw8", key, data) == reference("unionpay_ecb", key, data)


@pytest.mark.parametrize("algorithm", mac.ALGORITHMS)
@pytest.mark.parametrize("size", [1, 7, 8, 9, 15, 16, 17, 63, 64, 65, 127, 128, 129, 4088, 4095, 4096])
def test_every_edge_of_the_folding(algorithm: str, size: int) -> None:
    data = bytes((at * 37 + 11) & 0xFF for at in range(size))
    expected = reference(algorithm, KEY_OF[algorithm], data)[:8]
    assert mac.make_mac(f"{algorithm}:raw8", KEY_OF[algorithm], data) == expected


@pytest.mark.parametrize("algorithm", [*mac.ALGORITHMS, "unionpay_ecb:raw8", "x9_19:hex8"])
@given(data=st.data())
def test_any_flipped_bit_fails(algorithm: str, data: st.DataObject) -> None:
    key = KEY_OF[algorithm.partition(":")[0]]
    message = data.draw(st.binary(min_size=1, max_size=120))
    field = mac.make_mac(algorithm, key, message)
    assert len(field) == 8
    assert mac.verify_mac(algorithm, key, message, field)

    bit = data.draw(st.integers(0, len(message) * 8 - 1))
    assert not mac.verify_mac(algorithm, key, flipped(message, bit), field)
    bit = data.draw(st.integers(0, 63))
    wrong = flipped(field, bit)
    only_case_differs = mac.prepare(algorithm, cipher(algorithm)).is_hex and wrong.upper() == field
    assert mac.verify_mac(algorithm, key, message, wrong) is only_case_differs


def test_characters_verify_in_either_case_and_raw_bytes_do_not() -> None:
    characters = mac.make_mac("unionpay_ecb", DOUBLE, PURCHASE)
    assert characters.lower() != characters
    assert mac.verify_mac("unionpay_ecb", DOUBLE, PURCHASE, characters.lower())

    for serial in range(1000):
        message = PURCHASE + serial.to_bytes(2, "big")
        raw = mac.make_mac("unionpay_ecb:raw8", DOUBLE, message)
        if raw.lower() != raw:
            assert not mac.verify_mac("unionpay_ecb:raw8", DOUBLE, message, raw.lower())
            break
    else:
        pytest.fail("no MAC with a letter in 1000")


@pytest.mark.parametrize("field", [b"", b"1234567", b"123456789", bytes(8), b"\xff" * 8])
def test_a_field_of_another_size_or_content_is_false_not_an_error(field: bytes) -> None:
    assert mac.verify_mac("unionpay_ecb", DOUBLE, PURCHASE, field) is False


def test_a_prepared_mac_keeps_nothing_between_messages() -> None:
    for algorithm in mac.ALGORITHMS:
        ready = mac.prepare(algorithm, cipher(algorithm))
        first = ready.make(PURCHASE)
        with pytest.raises(SecurityError):
            ready.make(b"")
        ready.make(PURCHASE[:-3])
        assert ready.make(PURCHASE) == first


# ------------------------------------------------------------------------------ refusals
@pytest.mark.parametrize("name", ["", "unionpay", "UNIONPAY_ECB", "x9_19:", "x9_19:hex", "x9_19:hex8:raw8", ":hex8"])
def test_an_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(SecurityError, match="one of unionpay_ecb, sm4_ecb, sm4_cbc") as caught:
        mac.split_name(name)
    assert caught.value.code == "mac"


def test_the_configuration_knows_every_name() -> None:
    assert mac.ALGORITHMS == config.MAC_ALGORITHMS


def test_the_default_output_is_what_most_acquirers_send() -> None:
    outputs = {name: mac.split_name(name)[1] for name in mac.ALGORITHMS}
    assert outputs == {
        "unionpay_ecb": "hex8",
        "sm4_ecb": "hex8",
        "sm4_cbc": "raw8",
        "xor_sm4": "raw8",
        "x9_9": "raw8",
        "x9_19": "raw8",
        "x9_19_pad80": "raw8",
        "tdes_cbc": "raw8",
        "xor_tdes": "raw8",
    }


@pytest.mark.parametrize("algorithm", mac.ALGORITHMS)
def test_a_key_that_does_not_fit_is_refused(algorithm: str) -> None:
    fitting = cipher(algorithm)
    others = [des(LEFT), des(DOUBLE), BlockCipher(Family.SM4, DOUBLE)]
    for other in others:
        same = (other.family, other.key_size) == (fitting.family, fitting.key_size)
        if same or (algorithm == "unionpay_ecb" and other.family is Family.DES):
            mac.prepare(algorithm, other)
        else:
            with pytest.raises(SecurityError) as caught:
                mac.prepare(algorithm, other)
            assert caught.value.code == "key"


@pytest.mark.parametrize("algorithm", mac.ALGORITHMS)
@pytest.mark.parametrize("size", [0, limits.FRAME_SIZE_MAX + 1])
def test_nothing_and_too_much_are_refused(algorithm: str, size: int) -> None:
    with pytest.raises(SecurityError, match=f"^{size} bytes to authenticate") as caught:
        mac.make_mac(algorithm, KEY_OF[algorithm], bytes(size))
    assert caught.value.code == "mac"


def cipher(algorithm: str) -> BlockCipher:
    name = algorithm.partition(":")[0]
    return BlockCipher(Family.SM4 if "sm4" in name else Family.DES, KEY_OF[name])


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
