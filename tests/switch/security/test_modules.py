"""Every vector and every rule of the port, on each security module that can do the algorithm.

Published vectors keep their source's keys; whatever holds a card number is synthetic: BIN 622202, valid Luhn digit, and
computed again by the second implementations in ``test_mac.py`` and ``test_pinblock.py``.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from switch.limits import FRAME_SIZE_MAX, RANDOM_SIZE_MAX
from switch.ports import KeyUsage
from switch.security import mac as macs
from switch.security.engine import Family

from .conftest import Module
from .test_mac import DOUBLE, LEFT, PURCHASE, reference

PAN = "6222021234567890128"
TMK = bytes.fromhex("258FB0AB70D025CDB99DF2C4D302D646")
DES_ALGORITHMS = [name for name in macs.ALGORITHMS if "sm4" not in name]


def can_sm4(module: Module) -> bool:
    return module.module.name == "software"


# ------------------------------------------------------------------------------------------------ keys
@pytest.mark.parametrize(
    ("tmk", "pin", "pin_kcv", "mac", "mac_kcv"),
    [
        # Working keys of sign-on answers in public code; see facts of field 62: 16 + 4 + 8 + eight zeros + 4.
        (
            "258FB0AB70D025CDB99DF2C4D302D646",
            "46F161A743497B32EAC760DF5EA57DF5",
            "900ECCE3",
            "977731A7EA402DDF0000000000000000",
            "CFF1592A",
        ),
        (
            "CA5D92598DCA48CE8A4C76361A9269E9",
            "6701EAD6A9AD51E51AA406E2C27FCFA9",
            "8D0A74B8",
            "B651F9E9BACE9AE10000000000000000",
            "AB7153CA",
        ),
        # All three keys of double length.
        (
            "CE62D1F28DC50DFD98424413D67E4FA3",
            "2D25290B4C47B6EBD247D9C8D8499399",
            "0A89AB77",
            "D6DDA3BED199AB7454D34EFADC5B6704",
            "1EAF523B",
        ),
    ],
)
def test_published_working_keys(module: Module, tmk: str, pin: str, pin_kcv: str, mac: str, mac_kcv: str) -> None:
    key = module.load(bytes.fromhex(tmk), KeyUsage.TMK)
    for usage, cryptogram, kcv in ((KeyUsage.PIN, pin, pin_kcv), (KeyUsage.MAC, mac, mac_kcv)):
        good = bytes.fromhex(kcv)
        opened = module("import_key", bytes.fromhex(cryptogram), key, usage, good)
        assert (opened.kcv, opened.usage) == (good, usage)
        wrong = bytes([good[0] ^ 1]) + good[1:]
        assert module.fails("import_key", bytes.fromhex(cryptogram), key, usage, wrong).code == "kcv"


def test_published_sm4_working_key(module: Module) -> None:
    clear, cryptogram = bytes.fromhex("1234567890ABCDEFABCDEF0987654321"), "3D66234C49E4296FF9C78D8BACBD6A76"
    if not can_sm4(module):
        sealed = module("seal_component", clear)
        refused = module.fails("combine_sealed", [sealed], KeyUsage.TMK, "sm4")
        assert refused.code == "key" and "not sm4" in refused.detail
        return
    tmk = module.load(clear, KeyUsage.TMK, "sm4")
    kcv = bytes.fromhex("861E83E31FAEBF10")
    assert module("import_key", bytes.fromhex(cryptogram), tmk, KeyUsage.PIN, kcv).kcv == kcv[:4]


@pytest.mark.parametrize("usage", list(KeyUsage))
def test_a_generated_key_is_a_key_of_its_usage_alone(module: Module, usage: KeyUsage) -> None:
    stored, other = module("generate", usage, "des"), module("generate", usage, "des")
    assert stored.kcv != other.kcv and stored.wrapped != other.wrapped
    assert module("load_key", stored.wrapped, usage).kcv == stored.kcv
    for wrong in set(KeyUsage) - {usage}:
        refused = module.fails("load_key", stored.wrapped, wrong)
        assert refused.code == "key" and f"a {usage} key cannot be loaded as a {wrong} key" in refused.detail
    for at in (0, 1, 3, len(stored.wrapped) // 2, len(stored.wrapped) - 1):
        damaged = bytearray(stored.wrapped)
        damaged[at] ^= 0x40
        assert module.fails("load_key", bytes(damaged), usage).code == "key"
    for size in (0, 1, 20, len(stored.wrapped) - 1):
        assert module.fails("load_key", stored.wrapped[:size], usage).code == "key"
    assert module("load_key", stored.wrapped, usage).kcv == stored.kcv, "and it goes on"


def test_components_of_two_custodians(module: Module) -> None:
    one, two = bytes.fromhex("0123456789ABCDEF1032547698BADCFE"), bytes.fromhex("8899AABBCCDDEEFF7766554433221100")
    whole = bytes(a ^ b for a, b in zip(one, two, strict=True))
    first, second = module("seal_component", one), module("seal_component", two)
    assert one not in first and two not in second
    stored = module("combine_sealed", [first, second], KeyUsage.TMK, "des")
    assert stored.kcv == module.load(whole, KeyUsage.TMK).kcv
    twice = module.fails("combine_sealed", [first, module("seal_component", one)], KeyUsage.TMK, "des")
    assert twice.code == "key" and "weak" in twice.detail
    for wrong in ([], [first] * 4, [first, module("seal_component", one[:8])], [first, second[:-1]], [stored.wrapped]):
        assert module.fails("combine_sealed", wrong, KeyUsage.TMK, "des").code == "key"


def test_what_leaves_under_what(module: Module) -> None:
    """A working key under a TMK for the pad, a TMK under a transport key for its loader, and nothing else."""
    tmk, transport = module.load(TMK, KeyUsage.TMK), module.load(DOUBLE, KeyUsage.TRANSPORT)
    pin = module("load_key", module("generate", KeyUsage.PIN, "des").wrapped, KeyUsage.PIN)
    exported = module("export_key", pin, tmk)
    assert exported.kcv == pin.kcv
    assert module("import_key", exported.cryptogram, tmk, KeyUsage.PIN, exported.kcv).kcv == pin.kcv
    carried = module("export_key", tmk, transport)
    assert carried.kcv == tmk.kcv and len(carried.cryptogram) == 16 and TMK not in carried.cryptogram
    mac = module.load(LEFT + DOUBLE[8:], KeyUsage.MAC)
    for key, under in ((pin, pin), (tmk, tmk), (pin, transport), (transport, tmk), (tmk, mac), (transport, transport)):
        assert module.fails("export_key", key, under).code == "refused"


def test_a_key_of_one_usage_does_nothing_else(module: Module) -> None:
    keys = {usage: module.load(DOUBLE, usage) for usage in KeyUsage}
    for usage, key in keys.items():
        if usage is not KeyUsage.MAC:
            assert module.fails("make_mac", key, "unionpay_ecb", PURCHASE).code == "key"
            assert module.fails("verify_mac", key, "unionpay_ecb", PURCHASE, bytes(8)).code == "key"
        if usage is not KeyUsage.PIN:
            assert module.fails("encrypt_pin", key, "iso0", "123456", PAN).code == "key"
            assert module.fails("verify_pin_format", key, "iso0", bytes(8), PAN).code == "key"
        if usage is not KeyUsage.TRACK:
            assert module.fails("encrypt_track", key, bytes(19)).code == "key"
        if usage is not KeyUsage.TMK:
            assert module.fails("import_key", bytes(16), key, KeyUsage.MAC, bytes(4)).code == "key"
    for usage in (KeyUsage.TMK, KeyUsage.TRANSPORT):
        assert module.fails("import_key", bytes(16), keys[KeyUsage.TMK], usage, bytes(4)).code == "key"


# ------------------------------------------------------------------------------------------------ MAC
@pytest.mark.parametrize(
    ("algorithm", "key", "data", "expected"),
    [
        # ISO/IEC 9797-1 annex: algorithm 1 is X9.9, algorithm 3 is X9.19.
        ("x9_9", LEFT, b"Now is the time for all ", "70A30640CC76DD8B"),
        ("x9_19", DOUBLE, b"Now is the time for it", "2E2B1428CC78254F"),
        ("x9_19_pad80", DOUBLE, b"Now is the time for all ", "E9086230CA3BE796"),
        # neapay.com, MAC calculator
        ("tdes_cbc", bytes.fromhex("01234567890123450123456789012345"), None, "04D62E1385AAF220"),
        # A published example of bank key material, PBOC padding: mynw.cn/netsecurity/12427
        (
            "x9_19_pad80",
            bytes.fromhex("5775204D69616F6A756E404726444311"),
            b"CHENHAO-PC|BFEBFBFF000306C3~9BP0PD2CN7016366I0043|20240111|20250101|8191|0",
            "4089819D3D991CC7",
        ),
        # A script block of a public parameter download (no card data): csdn zfr_xuexiao66/94665452
        ("unionpay_ecb", bytes.fromhex("55036372B17543ECB173730768B8D6C4"), "0830", "5FE058DB90680D33"),
    ],
)
def test_published_macs(module: Module, algorithm: str, key: bytes, data: bytes | str | None, expected: str) -> None:
    message = key if data is None else PARAMETERS if isinstance(data, str) else data
    held = module.load(key, KeyUsage.MAC)
    assert module("make_mac", held, f"{algorithm}:raw8", message).hex().upper() == expected
    assert module("make_mac", held, f"{algorithm}:hex8", message) == expected[:8].encode()
    assert module("verify_mac", held, f"{algorithm}:hex8", message, expected[:8].lower().encode()) is True
    assert module("verify_mac", held, f"{algorithm}:raw8", message, bytes(8)) is False


@pytest.mark.parametrize("algorithm", DES_ALGORITHMS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(data=st.binary(min_size=1, max_size=100))
def test_both_modules_equal_the_second_implementation(module: Module, algorithm: str, data: bytes) -> None:
    key = LEFT if algorithm == "x9_9" else DOUBLE
    held = module.load(key, KeyUsage.MAC)
    assert module("make_mac", held, f"{algorithm}:raw8", data) == reference(algorithm, key, data)[:8]


def test_a_single_length_key(module: Module) -> None:
    held = module.load(LEFT, KeyUsage.MAC)
    assert module("make_mac", held, "unionpay_ecb:raw8", PURCHASE) == reference("unionpay_ecb", LEFT, PURCHASE)
    assert module.fails("make_mac", held, "x9_19", PURCHASE).code == "key"
    assert module.fails("make_mac", module.load(DOUBLE, KeyUsage.MAC), "x9_9", PURCHASE).code == "key"


def test_sm4(module: Module) -> None:
    if can_sm4(module):
        held = module.load(DOUBLE, KeyUsage.MAC, "sm4")
        assert module("make_mac", held, "sm4_ecb", PURCHASE) == b"0C2872A5"
    else:
        assert module.fails("make_mac", module.load(DOUBLE, KeyUsage.MAC), "sm4_ecb", PURCHASE).code == "key"


def test_what_is_no_message_and_no_algorithm(module: Module) -> None:
    held = module.load(DOUBLE, KeyUsage.MAC)
    for size in (0, FRAME_SIZE_MAX + 1):
        assert module.fails("make_mac", held, "unionpay_ecb", bytes(size)).code == "mac"
    assert module.fails("make_mac", held, "rot13", PURCHASE).code == "mac"
    assert module("make_mac", held, "unionpay_ecb", PURCHASE) == b"B157CA11"


# ------------------------------------------------------------------------------------------------ PIN and track
def test_pin_blocks(module: Module) -> None:
    key = module.load(DOUBLE, KeyUsage.PIN)
    block = module("encrypt_pin", key, "iso0", "123456", PAN)
    assert block.hex().upper() == ISO0_UNDER_DOUBLE
    assert module("verify_pin_format", key, "iso0", block, PAN) is True
    assert module("verify_pin_format", key, "iso0", block, "6222020000000000017") is False, "another card's"
    assert module("verify_pin_format", key, "iso0", block[:7], PAN) is False
    assert module.fails("encrypt_pin", key, "iso9", "123456", PAN).code == "pin"


def test_translation(module: Module) -> None:
    pad, network = module.load(DOUBLE, KeyUsage.PIN), module.load(TMK, KeyUsage.PIN)
    for pin in ("1234", "123456", "123456789012"):
        block = module("encrypt_pin", pad, "iso0", pin, PAN)
        translated = module("translate_pin", block, pad, "iso0", network, "iso0", PAN)
        assert translated == module("encrypt_pin", network, "iso0", pin, PAN) != block
    refused = module.fails("translate_pin", bytes(8), pad, "iso0", network, "iso0", PAN)
    assert refused.code == "pin" and PAN not in str(refused)
    mac = module.load(TMK, KeyUsage.MAC)
    assert module.fails("translate_pin", block, pad, "iso0", mac, "iso0", PAN).code == "key"


def test_translation_from_sm4_and_aes(module: Module) -> None:
    network = module.load(TMK, KeyUsage.PIN)
    if not can_sm4(module):
        for pin_format in ("sm4", "iso4", "iso0z"):
            assert module.fails("encrypt_pin", network, pin_format, "123456", PAN).code == "key"
        return
    for family, pin_format in (("sm4", "sm4"), ("sm4", "iso0z"), ("aes", "iso4")):
        pad = module.load(DOUBLE, KeyUsage.PIN, family)
        block = module("encrypt_pin", pad, pin_format, "123456", PAN)
        assert len(block) == 16
        assert module("verify_pin_format", pad, pin_format, block, PAN) is True
        translated = module("translate_pin", block, pad, pin_format, network, "iso0", PAN)
        assert translated == module("encrypt_pin", network, "iso0", "123456", PAN)


def test_track_encryption(module: Module) -> None:
    """The covered block of the specification's printed example, under our key."""
    key = module.load(DOUBLE, KeyUsage.TRACK)
    packed = bytes.fromhex("62220200000000000D0820178199916830" + "20")
    encrypted = module("encrypt_track", key, packed)
    assert encrypted == packed[:-9] + bytes.fromhex("4CFC20D6F04568AC") + packed[-1:]
    assert module.fails("encrypt_track", key, packed[:8]).code == "key"


def test_random(module: Module) -> None:
    seen = {module("random", size) for size in (1, 16, 16, RANDOM_SIZE_MAX)}
    assert {len(each) for each in seen} == {1, 16, RANDOM_SIZE_MAX} and len(seen) == 4
    for size in (0, RANDOM_SIZE_MAX + 1):
        with pytest.raises(ValueError, match="bytes asked for"):
            module("random", size)


# ------------------------------------------------------------------------------------------------ card data
def test_sealing_and_tokens(module: Module) -> None:
    sealed = module("seal", b"77", b"card data")
    assert b"card data" not in sealed
    assert module("open_sealed", b"77", sealed) == b"card data"
    assert module.fails("open_sealed", b"78", sealed).code == "mac"
    token = module.module.token(PAN)
    assert token == module.module.token(PAN) != module.module.token("6222020000000000017")
    assert len(token) == 32 and PAN not in token


def test_a_key_shows_nothing(module: Module) -> None:
    key = module.load(DOUBLE, KeyUsage.MAC)
    assert DOUBLE.hex() not in repr(key).lower() and key.kcv.hex() in repr(key)
    assert key.family == Family.DES


PARAMETERS = bytes.fromhex(
    "08300000000002C000153030363730303436343238393733373031373933323330303200110000000137200277319F0605A0000003339F22"
    "0103DF050832303234313233319F0605A0000003339F220104DF050832303234313233319F0605A0000003339F220102DF05083230323131"
    "3233319F0605A0000000039F220107DF050832303137313233319F0605A0000000039F220108DF050832303233313233319F0605A0000000"
    "039F220109DF050832303233313233319F0605A0000000659F220110DF050832303232313233319F0605A0000000659F220112DF05083230"
    "3232313233319F0605A0000000659F220114DF050832303232313233319F0605A0000000049F220104DF050832303137313233319F0605A0"
    "000000049F220105DF050832303231313233319F0605A0000000049F220106DF05083230323131323331"
)
ISO0_UNDER_DOUBLE = "2A084C604973D4AE"
