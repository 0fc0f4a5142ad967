"""Block ciphers: published keys and check values, and that nothing broken stays inside."""

from __future__ import annotations

import copy
import pickle

import pytest

from switch.errors import SecurityError
from switch.security.engine import Family
from switch.security.primitives import BlockCipher, des, sm4

pytestmark = pytest.mark.usefixtures("engine")

DOUBLE = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")


def test_sm4_standard_example() -> None:
    """GB/T 32907, example 1."""
    assert sm4(DOUBLE).encrypt(DOUBLE).hex().upper() == "681EDF34D206965E86B3E94F536E4246"
    assert sm4(DOUBLE).decrypt(bytes.fromhex("681EDF34D206965E86B3E94F536E4246")) == DOUBLE


@pytest.mark.parametrize(
    ("key", "kcv"),
    [
        ("AB7C577CC7A18045", "CFF1592A"),  # single DES
        ("5BB5C72CD00B7338", "AB7153CA"),
        ("D931648F3DE313A4A22C15DCA4F4299E", "900ECCE3"),
        ("807A23AD32B36D457AE91FDF927570EA", "8D0A74B8"),
        ("6EFFEDA2A19DFEAE1143AA892372D5F3", "0A89AB77"),
        ("9CAA6FBFE5E5A51AE8C99FA2371ACAA9", "1EAF523B"),
        ("C9A0F37E18EA3FF71E3BDA58ACCEFCE0", "B445E3AA"),
        ("CE62D1F28DC50DFD98424413D67E4FA3", "74E7E744"),
        ("12345678901234567890123456789012", "60C15261"),
    ],
)
def test_published_check_values(key: str, kcv: str) -> None:
    assert des(bytes.fromhex(key)).check_value().hex().upper() == kcv


def test_published_sm4_check_value() -> None:
    key = bytes.fromhex("F351D490994603795C6EBEE8FAEBB481")
    assert sm4(key).check_value(8).hex().upper() == "861E83E31FAEBF10"
    assert sm4(key).check_value().hex().upper() == "861E83E3"


@pytest.mark.parametrize(("family", "size"), [(Family.DES, 8), (Family.DES, 16), (Family.SM4, 16)])
def test_only_the_sizes_of_the_family(family: Family, size: int) -> None:
    BlockCipher(family, bytes(range(size)))
    for other in {0, 7, 8, 9, 15, 16, 17, 24, 32} - {8, 16}:
        with pytest.raises(SecurityError, match=f"not {other}"):
            BlockCipher(family, bytes(other))
    with pytest.raises(SecurityError):
        sm4(bytes(8))


@pytest.mark.parametrize("cipher", [des(DOUBLE), sm4(DOUBLE)])
def test_a_broken_block_is_refused_and_leaves_nothing_behind(cipher: BlockCipher) -> None:
    block = bytes(cipher.block_size)
    expected = cipher.encrypt(block)
    for size in (0, 1, cipher.block_size - 1, cipher.block_size + 1):
        for operation in (cipher.encrypt, cipher.decrypt, cipher.cbc_mac):
            with pytest.raises(SecurityError, match=f"{size} bytes, not whole blocks"):
                operation(bytes(size))
    assert cipher.encrypt(block) == expected
    assert cipher.decrypt(expected) == block


def test_a_key_shows_nothing_and_does_not_travel() -> None:
    cipher = des(DOUBLE)
    assert repr(cipher) == "<BlockCipher des 128 bits>"
    with pytest.raises(SecurityError):
        pickle.dumps(cipher)
    with pytest.raises(SecurityError):
        copy.deepcopy(cipher)
