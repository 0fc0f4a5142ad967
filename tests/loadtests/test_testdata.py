"""What load tests know of the simulated hosts by rule is what those hosts do."""

from __future__ import annotations

import pytest

import iso8583
from loadtests import testdata
from loadtests.keys import DesKey, WorkingKeyError, WorkingKeys
from switch.ports import KeyUsage
from switch.security import mac, pinblock, primitives, workingkeys
from switch.security.engine import Family
from switch.sim import commands, customers, testkeys

NUMBERS = (1, 2, 99, 9_999, 10_000, 20_000)
MASTER = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
SINGLE, DOUBLE = bytes.fromhex("1C2C4C5D6E7F8091"), bytes.fromhex("1C2C4C5D6E7F80913B3D3E4045464953")


@pytest.mark.parametrize("number", NUMBERS)
def test_terminals_and_their_keys_are_those_of_the_simulated_host(number: int) -> None:
    ours = testdata.terminal(number)
    assert (ours.terminal_id, ours.merchant_id) == testkeys.test_terminal(number)
    assert ours.master_key == testkeys.test_tmk(ours.terminal_id)


def test_a_terminal_outside_those_that_can_be_added_is_refused() -> None:
    assert commands.TERMINALS_MAX == testdata.TERMINALS_MAX
    for number in (0, testdata.TERMINALS_MAX + 1):
        with pytest.raises(ValueError, match="expected 1 to 20000"):
            testdata.terminal(number)


@pytest.mark.parametrize("number", (0, 1, 17, 4_711, testdata.ACCOUNTS_MAX - 1))
def test_accounts_are_those_of_the_simulated_utility(number: int) -> None:
    assert testdata.account(number) == customers.account(number)
    assert testdata.account(number + testdata.ACCOUNTS_MAX) == customers.account(number)


def test_cards_are_valid_of_the_test_range_and_no_two_alike() -> None:
    cards = [testdata.card(number) for number in range(2_000)]
    assert all(iso8583.luhn_ok(card.pan) and 622_200 <= int(card.pan[:6]) <= 622_299 for card in cards)
    assert len({card.pan for card in cards}) == len(cards)
    assert all(iso8583.parse_track2(card.track2).pan == card.pan for card in cards[:50])


def sent_keys(pin: bytes, mac_key: bytes, track: bytes | None = None) -> bytes:
    """Field 62 as the simulated host builds it."""
    tmk = primitives.des(MASTER)
    each = [None if key is None else workingkeys.encrypt_key(key, tmk) for key in (pin, mac_key, track)]
    assert each[0] is not None and each[1] is not None
    return workingkeys.build(workingkeys.WorkingKeys(each[0], each[1], each[2]))


@pytest.mark.parametrize(
    ("pin", "mac_key", "track"),
    [(SINGLE, SINGLE, None), (DOUBLE, SINGLE, None), (DOUBLE, DOUBLE, None), (DOUBLE, DOUBLE, DOUBLE)],
)
def test_macs_and_pin_blocks_are_those_of_the_switch(pin: bytes, mac_key: bytes, track: bytes | None) -> None:
    keys = WorkingKeys(sent_keys(pin, mac_key, track), DesKey(MASTER))
    for size in (1, 7, 8, 9, 200):
        data = bytes(range(size))
        assert keys.mac(data) == mac.make_mac("unionpay_ecb", mac_key, data)
        assert keys.is_right(data, keys.mac(data)) and not keys.is_right(data + b"\1", keys.mac(data))
    pan = testdata.card(1).pan
    block = keys.pin_block("123456", pan)
    assert pinblock.decode_format0(primitives.BlockCipher(Family.DES, pin).decrypt(block), pan) == "123456"


def test_a_key_that_does_not_fit_its_check_value_is_refused() -> None:
    good = sent_keys(DOUBLE, DOUBLE)
    for place in (0, 16, 20, 36):
        bad = bytearray(good)
        bad[place] ^= 0x10
        with pytest.raises(WorkingKeyError, match="check value"):
            WorkingKeys(bytes(bad), DesKey(MASTER))
    with pytest.raises(WorkingKeyError, match="39 bytes"):
        WorkingKeys(good[:-1], DesKey(MASTER))
    assert workingkeys.decrypt_key(good[:16], good[16:20], primitives.des(MASTER), KeyUsage.PIN)
