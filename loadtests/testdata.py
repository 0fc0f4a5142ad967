"""Test terminals, their keys, cards and customers, each from a number: the rules of the simulated hosts, once more.

Load comes from outside, so it cannot ask the switch's simulators; ``tests/loadtests`` holds the two against each other.

    terminal   GS and six digits; merchant 8984401, MCC 4900, the last four digits of the number
    TMK        16 bytes of HMAC-SHA256 over the terminal id, key "gridswitch test terminal", with odd parity
    card       16 digits, BIN 622200 to 622299, PIN 123456
    account    03, seven digits, a check digit: the sum of digits weighted 7, 3, 1, 7 …, modulo 10

Nothing here protects anything.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final

import iso8583

TERMINALS_MAX: Final = 20_000  # as many as `gridswitch terminal add-test` makes
ACCOUNTS_MAX: Final = 10_000_000
PIN: Final = "123456"
_CARDS_MAX: Final = 100_000_000
_SCATTER: Final = 48_271  # odd and no multiple of 5: neighbours look unrelated, none collide
_WEIGHTS: Final = (7, 3, 1, 7, 3, 1, 7, 3, 1)


@dataclass(frozen=True, slots=True)
class Terminal:
    number: int
    terminal_id: str
    merchant_id: str
    master_key: bytes


@dataclass(frozen=True, slots=True)
class Card:
    pan: str
    track2: str


def terminal(number: int) -> Terminal:
    """Test terminal ``number``, from 1."""
    if not 1 <= number <= TERMINALS_MAX:
        raise ValueError(f"terminal {number}: expected 1 to {TERMINALS_MAX}")
    terminal_id = f"GS{number:06d}"
    digest = hmac.digest(b"gridswitch test terminal", terminal_id.encode("ascii"), "sha256")[:16]
    master_key = bytes(byte & 0xFE | (byte >> 1).bit_count() % 2 ^ 1 for byte in digest)
    return Terminal(number, terminal_id, f"89844014900{number % 10_000:04d}", master_key)


def card(number: int) -> Card:
    """A card of the test range: its numbers repeat after a hundred million."""
    scattered = number * _SCATTER % _CARDS_MAX
    body = f"{622_200 + scattered % 100}{scattered:09d}"
    pan = next(body + digit for digit in "0123456789" if iso8583.luhn_ok(body + digit))
    return Card(pan, f"{pan}=3012220{number % 10_000_000:07d}")


def account(number: int) -> str:
    """The account of customer ``number``, from 0; after the last one the first comes again."""
    body = f"03{number % ACCOUNTS_MAX:07d}"
    return body + str(sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, body, strict=True)) % 10)
