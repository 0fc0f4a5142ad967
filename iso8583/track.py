"""PANs and track 2, as a card reader or a decoded field 35 gives them.

Source: ISO/IEC 7813 (track 2), ISO/IEC 7812-1 annex B (check digit).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from iso8583.errors import DecodeError
from iso8583.masking import mask_pan

__all__ = ["Track2", "luhn_digit", "luhn_ok", "mask_pan", "parse_track2"]


@dataclass(frozen=True, slots=True)
class Track2:
    """The parts of track 2. ``repr`` shows only the masked PAN.

    Attributes:
        pan: 8 to 19 digits.
        expiry: YYMM, or ``""`` where the track has a second separator instead.
        service_code: 3 digits, or ``""`` likewise. A first digit of 2 or 6 says that the card has a chip.
        discretionary: What is left; issuer's business.
    """

    pan: str = field(repr=False)
    expiry: str = field(repr=False)
    service_code: str = field(repr=False)
    discretionary: str = field(repr=False)

    @property
    def pan_masked(self) -> str:
        return mask_pan(self.pan)

    @property
    def has_chip(self) -> bool:
        return self.service_code[:1] in ("2", "6")

    def __repr__(self) -> str:
        return f"Track2(pan={self.pan_masked!r})"

    __str__ = __repr__


def parse_track2(track2: str) -> Track2:
    """Split track 2.

    Args:
        track2: At most 37 characters without sentinels and check character; separator ``=`` or ``D``.

    Raises:
        DecodeError: [track]; says what is wrong and at which character, never what stands there. Encrypted tracks
            (field 53, third digit 1) fail here: decrypt them first.

    >>> parse_track2("6222000000000010=3012201000000000").service_code
    '201'
    """
    text = track2.replace("D", "=")
    if len(text) > 37:
        raise _error(0, f"expected at most 37 characters, got {len(text)}")
    pan, separator, rest = text.partition("=")
    if not separator:
        raise _error(0, "separator missing")
    for index, character in enumerate(text):
        if character not in "0123456789=":
            raise _error(index, "expected digits and separators only")
    if not 8 <= len(pan) <= 19:
        raise _error(0, f"expected 8 to 19 digits in front of the separator, got {len(pan)}")
    offset = len(pan) + 1
    expiry, rest, offset = _part(rest, 4, offset, "expiry")
    service_code, rest, offset = _part(rest, 3, offset, "service code")
    if expiry and not 1 <= int(expiry[2:]) <= 12:
        raise _error(len(pan) + 1, "expiry is not YYMM")
    return Track2(pan, expiry, service_code, rest)


def _part(rest: str, length: int, offset: int, name: str) -> tuple[str, str, int]:
    if rest.startswith("="):
        return "", rest[1:], offset + 1
    part = rest[:length]
    if len(part) < length or "=" in part:
        raise _error(offset, f"{name} is cut off")
    return part, rest[length:], offset + length


def _error(offset: int, detail: str) -> DecodeError:
    return DecodeError("track", "35", offset, detail)


def luhn_digit(body: str) -> str:
    """The check digit that makes ``body`` (digits only) a valid PAN.

    >>> luhn_digit("622200000000001")
    '7'
    """
    total = 0
    for index, character in enumerate(reversed(body)):
        digit = int(character) * (2 if index % 2 == 0 else 1)
        total += digit - 9 if digit > 9 else digit
    return str(-total % 10)


def luhn_ok(pan: str) -> bool:
    """True if ``pan`` is all digits and its last one is the check digit of the others."""
    return len(pan) >= 2 and pan.isascii() and pan.isdigit() and luhn_digit(pan[:-1]) == pan[-1]
