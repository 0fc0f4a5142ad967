"""Terminals, keys and cards for tests, all derived from a number. Nothing here protects anything.

A simulated host and a simulated kiosk derive the same master key from the terminal's id, so neither needs a key
file; the switch is given the key once, when the terminal is registered.
"""

from __future__ import annotations

import hmac
from typing import Final

TERMINALS_MAX: Final = 999_999  # six digits behind "GS"
PANS_MAX: Final = 100_000_000  # bodies differ below this number
# Cards by number for people who try things; the simulated card host knows the last two.
GOOD_CARDS: Final = (80_815_500, 75_957_200)  # with 500 and 1,200 yuan
POOR_CARD: Final = 74_114_893  # with 3 yuan: declined, whatever is to be paid
SILENT_CARD: Final = 88_304_800  # charged, but no answer comes, nor to the first two reversals

_TERMINAL_PREFIX: Final = "GS"
_ACQUIRER_AREA: Final = "8984401"  # digits 1 to 7 of a merchant id: institution and area
_MCC: Final = "4900"  # utilities
_BIN_FIRST: Final = 622_200  # test range 622200 to 622299
TEST_ISSUER: Final = "6222"  # what all of them begin with
_EXPIRY: Final = "3012"  # YYMM
_SERVICE_CODE: Final = "220"  # magnetic stripe only, online, PIN


def test_tmk(terminal_id: str) -> bytes:
    """The terminal master key: 16 bytes, double-length DES with odd parity."""
    return with_odd_parity(hmac.digest(b"gridswitch test terminal", terminal_id.encode("ascii"), "sha256")[:16])


def test_terminal(n: int) -> tuple[str, str]:
    """Terminal id (8 characters) and merchant id (15 digits, MCC at digits 8 to 11) of test terminal ``n``, from 1.

    >>> test_terminal(1)
    ('GS000001', '898440149000001')
    """
    if not 1 <= n <= TERMINALS_MAX:
        raise ValueError(f"n: {n} is outside 1 to {TERMINALS_MAX}")
    return f"{_TERMINAL_PREFIX}{n:06d}", f"{_ACQUIRER_AREA}{_MCC}{n % 10_000:04d}"


def terminal_number(terminal_id: str) -> int | None:
    """The inverse of ``test_terminal``; None when it is no test terminal."""
    digits = terminal_id[2:]
    if len(terminal_id) != 8 or not terminal_id.startswith(_TERMINAL_PREFIX) or not digits.isdigit():
        return None
    return int(digits) or None


def test_pan(n: int) -> str:
    """Card number ``n``: 16 digits when ``n`` is even, 19 when odd; BIN 622200 to 622299; Luhn valid."""
    if not 0 <= n < PANS_MAX:
        raise ValueError(f"n: {n} is outside 0 to {PANS_MAX - 1}")
    scattered = n * 48_271 % PANS_MAX  # odd multiplier: neighbours look unrelated, none collide
    body_digits = 12 if n % 2 else 9
    body = f"{_BIN_FIRST + scattered % 100}{scattered:0{body_digits}d}"
    return body + _luhn_digit(body)


def test_expiry(n: int) -> str:
    """Expiry of card ``n``, YYMM."""
    return f"{int(_EXPIRY[:2]) + n % 5:02d}{_EXPIRY[2:]}"


def test_track2(n: int) -> str:
    """Track 2 of card ``n``: PAN, separator, expiry, service code, discretionary digits; at most 37 characters."""
    track2 = f"{test_pan(n)}={test_expiry(n)}{_SERVICE_CODE}{n % 10_000_000:07d}"
    assert len(track2) <= 37
    return track2


def with_odd_parity(key: bytes) -> bytes:
    """The key with the low bit of every byte set so that its number of ones is odd."""
    return bytes(byte & 0xFE | (byte >> 1).bit_count() % 2 ^ 1 for byte in key)


def _luhn_digit(body: str) -> str:
    total = 0
    for position, character in enumerate(reversed(body)):
        doubled = int(character) * (2 if position % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return str(-total % 10)
