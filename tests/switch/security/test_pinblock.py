"""PIN blocks: published examples with PANs that count up, and the way back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch.errors import SecurityError
from switch.security import pinblock
from switch.security.engine import Family
from switch.security.primitives import BlockCipher, des, sm4

pytestmark = pytest.mark.usefixtures("engine")

PINS = st.text("0123456789", min_size=4, max_size=12)
PANS = st.text("0123456789", min_size=13, max_size=19)


@pytest.mark.parametrize(
    ("pin", "pan", "block"),
    [
        ("123456", "123456789012345678", "061253DFFEDCBA98"),
        ("123456", "1234567890123456", "0612713176FEDCBA"),
        ("1234", "43219876543210987", "0412AC89ABCDEF67"),  # ISO 9564-1
    ],
)
def test_published_blocks(pin: str, pan: str, block: str) -> None:
    assert pinblock.encode_format0(pin, pan) == bytes.fromhex(block)
    assert pinblock.decode_format0(bytes.fromhex(block), pan) == pin


def test_a_block_under_a_pin_key() -> None:
    block = pinblock.encode_format0("123456", "6222021234567890123")
    assert block.hex().upper() == "06122662A9876FED"
    key = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
    assert des(key).encrypt(block).hex().upper() == "2A084C604973D4AE"
    assert des(key[:8]).encrypt(block).hex().upper() == "26D8302117AD6FFE"


def test_sm4_block_by_hand() -> None:
    """06, the PIN, F to 16 bytes; the PAN's 12 digits left of the check digit at the end."""
    pin_field = bytes.fromhex("06123456FFFFFFFFFFFFFFFFFFFFFFFF")
    pan_field = bytes(10) + bytes.fromhex("123456789012")
    expected = bytes(a ^ b for a, b in zip(pin_field, pan_field, strict=True))
    assert pinblock.encode_sm4("123456", "6222021234567890123") == expected


@given(PINS, PANS)
def test_there_and_back(pin: str, pan: str) -> None:
    assert pinblock.decode_format0(pinblock.encode_format0(pin, pan), pan) == pin
    assert pinblock.decode_sm4(pinblock.encode_sm4(pin, pan), pan) == pin
    assert len(pinblock.encode_sm4(pin, pan)) == 16


@given(st.binary(min_size=16, max_size=16), PANS)
def test_any_block_is_a_pin_or_a_pin_error(block: bytes, pan: str) -> None:
    for decode, encode, size in (
        (pinblock.decode_format0, pinblock.encode_format0, 8),
        (pinblock.decode_sm4, pinblock.encode_sm4, 16),
    ):
        try:
            pin = decode(block[:size], pan)
        except SecurityError as error:
            assert error.code == "pin"
        else:
            assert encode(pin, pan) == block[:size]


def test_format_4_as_another_implementation_makes_it() -> None:
    """Made with psec 1.3 for a test card; eight bytes of the block are random, so only reading it can be compared."""
    key = BlockCipher(Family.AES, bytes.fromhex("0123456789ABCDEFFEDCBA9876543210"))
    block = bytes.fromhex("706E216B8CB6E78833C633B79B065FEB")
    assert pinblock.decrypt("iso4", key, block, "6222021234567890128") == "123456"
    with pytest.raises(SecurityError, match="wrong key or wrong card"):
        pinblock.decrypt("iso4", key, block, "6222020000000000017")
    made = {pinblock.encrypt("iso4", key, "123456", "6222021234567890128") for _ in range(5)}
    assert len(made) == 5, "the fill is random"
    assert {pinblock.decrypt("iso4", key, each, "6222021234567890128") for each in made} == {"123456"}


def test_the_wrong_key_is_a_pin_error() -> None:
    pan = "6222021234567890123"
    right, wrong = bytes(range(16)), bytes(range(1, 17))
    cases = [
        (des(wrong).decrypt(des(right).encrypt(pinblock.encode_format0("123456", pan))), pinblock.decode_format0),
        (sm4(wrong).decrypt(sm4(right).encrypt(pinblock.encode_sm4("123456", pan))), pinblock.decode_sm4),
    ]
    for block, decode in cases:
        with pytest.raises(SecurityError, match="wrong key or wrong card"):
            decode(block, pan)


@pytest.mark.parametrize("pin", ["", "123", "1234567890123", "12a4", "12 4", "١٢٣٤"])
def test_a_bad_pin_is_named_and_not_shown(pin: str) -> None:
    with pytest.raises(ValueError, match=r"^pin: expected 4 to 12 digits$"):
        pinblock.encode_format0(pin, "6222021234567890123")


@pytest.mark.parametrize("pan", ["", "123456789012", "12345678901234567890", "622202123456789012x"])
def test_a_bad_pan_is_named_and_not_shown(pan: str) -> None:
    for call in (
        lambda: pinblock.encode_sm4("123456", pan),
        lambda: pinblock.decode_format0(bytes(8), pan),
    ):
        with pytest.raises(ValueError, match=r"^pan: expected 13 to 19 digits$"):
            call()


def test_a_block_of_another_size() -> None:
    with pytest.raises(SecurityError, match="PIN block of 16 bytes; expected 8"):
        pinblock.decode_format0(bytes(16), "6222021234567890123")
