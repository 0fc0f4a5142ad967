"""Field 62 of the sign-on response: the layouts, and keys published with their TMK and check values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch.errors import SecurityError
from switch.ports import KeyUsage
from switch.security import workingkeys
from switch.security.primitives import des, sm4
from switch.security.workingkeys import WorkingKey, WorkingKeys

pytestmark = pytest.mark.usefixtures("engine")

TMK = bytes.fromhex("258FB0AB70D025CDB99DF2C4D302D646")
FIELD_62 = bytes.fromhex("46F161A743497B32EAC760DF5EA57DF5900ECCE3977731A7EA402DDF0000000000000000CFF1592A")


@pytest.mark.parametrize(
    ("tmk", "data", "pin_key", "mac_key"),
    [
        (TMK, FIELD_62, "D931648F3DE313A4A22C15DCA4F4299E", "AB7C577CC7A18045"),
        (
            bytes.fromhex("CA5D92598DCA48CE8A4C76361A9269E9"),
            bytes.fromhex("6701EAD6A9AD51E51AA406E2C27FCFA98D0A74B8B651F9E9BACE9AE10000000000000000AB7153CA"),
            "807A23AD32B36D457AE91FDF927570EA",
            "5BB5C72CD00B7338",
        ),
    ],
)
def test_published_field_with_a_single_length_mac_key(tmk: bytes, data: bytes, pin_key: str, mac_key: str) -> None:
    keys = workingkeys.parse(data)
    assert keys.track is None
    pin = workingkeys.decrypt_key(keys.pin.cryptogram, keys.pin.kcv, des(tmk), KeyUsage.PIN)
    mac = workingkeys.decrypt_key(keys.mac.cryptogram, keys.mac.kcv, des(tmk), KeyUsage.MAC)
    probe = bytes(range(8))
    assert pin.key_size == 16 and pin.encrypt(probe) == des(bytes.fromhex(pin_key)).encrypt(probe)
    assert mac.key_size == 8 and mac.encrypt(probe) == des(bytes.fromhex(mac_key)).encrypt(probe)
    assert workingkeys.build(keys) == data


@pytest.mark.parametrize(
    ("tmk", "cryptogram", "clear", "kcv"),
    [
        (
            "CE62D1F28DC50DFD98424413D67E4FA3",
            "2D25290B4C47B6EBD247D9C8D8499399",
            "6EFFEDA2A19DFEAE1143AA892372D5F3",
            "0A89AB77",
        ),
        (
            "CE62D1F28DC50DFD98424413D67E4FA3",
            "D6DDA3BED199AB7454D34EFADC5B6704",
            "9CAA6FBFE5E5A51AE8C99FA2371ACAA9",
            "1EAF523B",
        ),
        (
            "CE62D1F28DC50DFD98424413D67E4FA3",
            "535C26152FE4F52D26B64CE60C3A2EFE",
            "C9A0F37E18EA3FF71E3BDA58ACCEFCE0",
            "B445E3AA",
        ),
        (
            "31313131313131313232323232323232",
            "FBC94E8506FECB63E31BDB62146A1D89",
            "12345678901234567890123456789012",
            "60C15261",
        ),
    ],
)
def test_published_keys_under_a_tmk(tmk: str, cryptogram: str, clear: str, kcv: str) -> None:
    master = des(bytes.fromhex(tmk))
    issued = workingkeys.encrypt_key(bytes.fromhex(clear), master)
    assert (issued.cryptogram.hex().upper(), issued.kcv.hex().upper()) == (cryptogram, kcv)
    for usage in (KeyUsage.MAC, KeyUsage.PIN, KeyUsage.TRACK):
        key = workingkeys.decrypt_key(issued.cryptogram, issued.kcv, master, usage)
        assert key.key_size == 16 and key.check_value() == issued.kcv


def test_published_sm4_key_with_a_check_value_of_8_bytes() -> None:
    master = sm4(bytes.fromhex("1234567890ABCDEFABCDEF0987654321"))
    cryptogram = bytes.fromhex("3D66234C49E4296FF9C78D8BACBD6A76")
    key = workingkeys.decrypt_key(cryptogram, bytes.fromhex("861E83E31FAEBF10"), master, KeyUsage.MAC)
    assert master.decrypt(cryptogram).hex().upper() == "F351D490994603795C6EBEE8FAEBB481"
    assert key.family == "sm4"


@pytest.mark.parametrize(
    ("sizes", "total"), [((8, 8), 24), ((16, 8), 40), ((16, 16), 40), ((16, 8, 16), 60), ((16, 16, 16), 60)]
)
@given(data=st.data())
def test_build_and_parse(sizes: tuple[int, ...], total: int, data: st.DataObject) -> None:
    clears = [data.draw(st.binary(min_size=size, max_size=size)) for size in sizes]
    issued = [workingkeys.encrypt_key(clear, des(TMK)) for clear in clears]
    field = workingkeys.build(WorkingKeys(*issued))
    assert len(field) == total

    keys = workingkeys.parse(field)
    assert workingkeys.build(keys) == field
    parsed = [keys.pin, keys.mac] + ([keys.track] if keys.track else [])
    assert len(parsed) == len(sizes)
    for usage, key, clear in zip((KeyUsage.PIN, KeyUsage.MAC, KeyUsage.TRACK), parsed, clears, strict=False):
        opened = workingkeys.decrypt_key(key.cryptogram, key.kcv, des(TMK), usage)
        assert opened.key_size == len(clear)
        assert opened.check_value(8) == des(clear).check_value(8)


@pytest.mark.parametrize("size", [0, 1, 23, 25, 39, 41, 56, 57, 59, 61, 84, 104])
def test_another_length_says_what_is_allowed(size: int) -> None:
    with pytest.raises(SecurityError, match=f"of {size} bytes; allowed are 24, 40, 60") as caught:
        workingkeys.parse(bytes(size))
    assert caught.value.code == "key"


@given(st.integers(0, 40 * 8 - 1))
def test_any_flipped_bit_is_noticed_by_a_check_value(bit: int) -> None:
    changed = bytearray(FIELD_62)
    changed[bit // 8] ^= 1 << bit % 8
    keys = workingkeys.parse(bytes(changed))
    with pytest.raises(SecurityError) as caught:
        for key, usage in ((keys.pin, KeyUsage.PIN), (keys.mac, KeyUsage.MAC)):
            workingkeys.decrypt_key(key.cryptogram, key.kcv, des(TMK), usage)
    assert caught.value.code == "kcv"


def test_zeros_in_the_second_half_mean_a_short_key_for_the_mac_key_only() -> None:
    keys = workingkeys.parse(FIELD_62)
    for usage in (KeyUsage.PIN, KeyUsage.TRACK):
        with pytest.raises(SecurityError) as caught:
            workingkeys.decrypt_key(keys.mac.cryptogram, keys.mac.kcv, des(TMK), usage)
        assert caught.value.code == "kcv"


@pytest.mark.parametrize("size", [0, 1, 2, 9])
def test_a_check_value_too_short_proves_nothing(size: int) -> None:
    issued = workingkeys.encrypt_key(bytes(range(16)), des(TMK))
    kcv = (issued.kcv * 3)[:size]
    with pytest.raises(SecurityError, match=f"check value of {size} bytes"):
        workingkeys.decrypt_key(issued.cryptogram, kcv, des(TMK), KeyUsage.MAC)


@pytest.mark.parametrize("size", [0, 4, 12, 24])
def test_a_cryptogram_of_another_size(size: int) -> None:
    with pytest.raises(SecurityError, match=f"cryptogram of {size} bytes"):
        workingkeys.decrypt_key(bytes(size), bytes(4), des(TMK), KeyUsage.MAC)
    with pytest.raises(SecurityError, match="cryptogram of 8 bytes under a sm4 key"):
        workingkeys.decrypt_key(bytes(8), bytes(4), sm4(TMK), KeyUsage.MAC)


def test_build_refuses_what_no_layout_has() -> None:
    short, long = WorkingKey(bytes(8), bytes(4)), WorkingKey(bytes(16), bytes(4))
    for keys in (
        WorkingKeys(short, long),
        WorkingKeys(short, short, short),
        WorkingKeys(long, long, short),
        WorkingKeys(long, WorkingKey(bytes(16), bytes(3))),
    ):
        with pytest.raises(ValueError, match="working keys"):
            workingkeys.build(keys)


def test_repr_shows_no_cryptogram() -> None:
    text = repr(workingkeys.parse(FIELD_62))
    assert FIELD_62[:16].hex() not in text and repr(FIELD_62[:16]) not in text
