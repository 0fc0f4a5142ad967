"""Finds card numbers and tracks in text and bytes: one detector for the log's mask, the simulation and scan-secrets.

``mask`` hides rather too much: what looks like a card number is worth nothing in a log. ``find`` reports rather too
little: a scan that cries wolf is switched off. A number is reported when all of this holds:

    digits      13 to 19 in one piece, or in groups of four with one separator; the whole run, no part of it. Longer
                runs (serials of ours: payment id and two digits) count only as a track, or behind a length of their own
    around it   no decimal point of a fraction (0.4012888888881881), no letter of a hash or token in hexadecimal
    issuer      its first digits belong to an issuer that gives numbers of this length (ISO/IEC 7812 ranges in use).
                Our payment ids are 19 digits and begin with 7 until 2030 and with 80 until 2031, times in µs with 1
    check digit Luhn: one number in ten passes by chance, which is why the other rules are there
    digits      at least three different ones; no star behind them, as in a number that is masked already

In binary data a number is packed, two digits a byte, and any pattern of bytes occurs by chance; so it counts only where
a message would hold it: behind its length and in front of a processing code (fields 2 and 3), behind the tags 5A and
57, behind the length of a track 2, or as a value by itself; and it has at least five different digits, does not end
with four zeros, and is not mostly made of what would be digits in ASCII. Words in hexadecimal are read as the bytes
they mean. Raw pages of a database run values together that have nothing to do with each other, and a few still pass
there: tables are read through SQL. Known test secrets (``Known``) are found in every form without any of these rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from switch.model.secret import PAN_DIGITS_MAX, PAN_DIGITS_MIN

_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def luhn_ok(digits: str) -> bool:
    total = 0
    for index, digit in enumerate(reversed(digits)):
        total += _DOUBLED[int(digit)] if index % 2 else int(digit)
    return total % 10 == 0


def hide(digits: str) -> str:
    """First six and last four."""
    return f"{digits[:6]}{'*' * (len(digits) - 10)}{digits[-4:]}"


# ---------------------------------------------------------------------------------------------------- mask
_RUN = re.compile(r"[0-9]{13,}")
_GROUPED = re.compile(r"(?<![0-9])[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{1,4}(?:\1[0-9]{1,3})?(?![0-9])")


def mask(text: str) -> str:
    """``text`` with everything that looks like a card number shown as first six and last four digits.

    13 to 19 digits with a valid check digit count, in one piece or in groups of four; a longer run of digits always
    does, for a card number may stand anywhere in it.

    >>> mask("card 6222021234567890128 refused")
    'card 622202*********0128 refused'
    """
    return _GROUPED.sub(_mask_grouped, _RUN.sub(_mask_run, text)) if len(text) >= PAN_DIGITS_MIN else text


def _mask_run(match: re.Match[str]) -> str:
    run = match[0]
    return hide(run) if _may_hold_pan(run) else run


def _mask_grouped(match: re.Match[str]) -> str:
    digits = match[0].replace(match[1], "")
    return hide(digits) if luhn_ok(digits) else match[0]


def _may_hold_pan(run: str) -> bool:
    size = len(run)
    if size <= PAN_DIGITS_MAX and luhn_ok(run):
        return True
    if run[:2] == f"{size - 2:02d}" and size - 2 >= PAN_DIGITS_MIN and luhn_ok(run[2:]):
        return True  # with the length that stands in front of it in a message
    return size > PAN_DIGITS_MAX


# ---------------------------------------------------------------------------------------------------- find
@dataclass(frozen=True, slots=True)
class Found:
    """``shown`` is masked; the value itself is nowhere in it."""

    offset: int  # bytes
    kind: str  # "card number", "track", "packed card number", "packed track", "known secret"
    shown: str


# First digits, and how many digits such a number has.
_ISSUERS: Final = tuple(
    (re.compile(prefix), sizes)
    for prefix, sizes in (
        (r"62|81[0-7]", range(16, 20)),  # UnionPay
        (r"60[0-9]|9558|69", range(16, 20)),  # cards of Chinese banks from before it
        (r"4", (13, 16, 19)),
        (r"5[0-8]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720|6[37]", range(16, 20)),  # Mastercard, Maestro
        (r"3[47]", (15,)),
        (r"30[0-5]|3[689]", (14,)),
        (r"35(2[89]|[3-8])", range(16, 20)),
        (r"64[4-9]|65", range(16, 20)),
    )
)


def is_plausible(digits: str) -> bool:
    """Length, issuer, check digit."""
    if not (PAN_DIGITS_MIN <= len(digits) <= PAN_DIGITS_MAX and digits.isdigit()) or len(set(digits)) < 3:
        return False
    return any(len(digits) in sizes and prefix.match(digits) for prefix, sizes in _ISSUERS) and luhn_ok(digits)


_DATE: Final = rb"[0-9]{2}(?:0[1-9]|1[0-2])"
_DIGITS = re.compile(rb"([0-9]{13,})(?![0-9*])(?:([=D^])(" + _DATE + rb"[0-9]{3,}))?")
_FRACTION = re.compile(rb"[0-9]\.")
_GROUPS = re.compile(
    rb"(?<![0-9A-Za-z-])[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{1,4}(?:\1[0-9]{1,3})?(?![0-9A-Za-z]|-[0-9A-Za-z])"
)
_TRACK1 = re.compile(rb"B([0-9]{13,19})\^[^^\x00-\x1f]{2,26}\^" + _DATE)
_HEX_WORD = re.compile(rb"[0-9A-Fa-f]{18,}(?![0-9A-Za-z])")
_BEFORE_HEX = re.compile(rb"(?s)|.?[^0-9A-Za-z]|[\\0]x")
_WORD = re.compile(rb"[0-9A-Za-z]*")
_WORD_SIZE_MAX: Final = 128  # characters looked at on either side of a number
_HASH_SIZE_MIN: Final = 20  # characters of a word of hexadecimal digits that is no number
_VALUE_SIZE_MAX: Final = 10  # bytes of a packed card number that stands by itself

_BCD: Final = b"[" + b"".join(b"\\x%x0-\\x%x9" % (tens, tens) for tens in range(10)) + b"]"
_FIELD_2 = re.compile(rb"(?s)([\x13-\x19])(?=(" + _BCD + rb"{6}.{1,4}))")
_TAG_5A = re.compile(rb"(?s)\x5a(?=([\x07-\x0a])(" + _BCD + rb"{6}.{1,4}))")
_SEPARATOR: Final = b"[\\xd0-\\xd9" + b"".join(b"\\x%xd" % digit for digit in range(10)) + b"]"
_PACKED_TRACK: Final = b"(" + _BCD + b"{6,9}" + _SEPARATOR + b".{3,10})"
_TAG_57 = re.compile(rb"(?s)\x57(?=([\x0b-\x13])" + _PACKED_TRACK + rb")")
_TRACK_2 = re.compile(rb"(?s)([\x21-\x29\x30-\x37])(?=" + _PACKED_TRACK + rb")")


def find(data: bytes) -> Iterator[Found]:
    """Card numbers and tracks in clear, in the order of their kinds."""
    yield from _find(data, hexadecimal=True, is_value=True)


def _find(data: bytes, *, hexadecimal: bool, is_value: bool) -> Iterator[Found]:
    for match in _DIGITS.finditer(data):
        run, separator = match[1].decode(), match[2]
        number = _plausible_part(run, is_track=separator is not None)
        if number is None or _is_part_of_hash(data, match):
            continue
        start = match.start()
        if start < 2 or not _FRACTION.match(data, start - 2):
            yield Found(match.start(), "card number" if separator is None else "track", hide(number))
    for match in _TRACK1.finditer(data):
        if is_plausible(match[1].decode()):
            yield Found(match.start(), "track", hide(match[1].decode()))
    for match in _GROUPS.finditer(data):
        digits = match[0].replace(match[1], b"").decode()
        if is_plausible(digits):
            yield Found(match.start(), "card number", hide(digits))
    yield from _find_packed(data, is_value=is_value)
    if hexadecimal:
        for match in _hexadecimal_words(data):
            # A decimal number of as many digits is no value in bytes.
            is_bytea = data[max(0, match.start() - 1) : match.start()] == b"x"
            for found in _find(bytes.fromhex(match[0].decode()), hexadecimal=False, is_value=is_bytea):
                yield Found(match.start() + 2 * found.offset, f"{found.kind} in hexadecimal", found.shown)


def _hexadecimal_words(data: bytes) -> Iterator[re.Match[bytes]]:
    for match in _HEX_WORD.finditer(data):
        if len(match[0]) % 2 == 0 and _BEFORE_HEX.fullmatch(data, max(0, match.start() - 2), match.start()):
            yield match


def _plausible_part(run: str, *, is_track: bool) -> str | None:
    if is_plausible(run):
        return run
    if run[:2] == f"{len(run) - 2:02d}" and is_plausible(run[2:]):
        return run[2:]  # behind its length, as a message has it
    if is_track and len(run) > PAN_DIGITS_MAX:
        return next((run[-size:] for size in range(19, 12, -1) if is_plausible(run[-size:])), None)
    return None


def _is_part_of_hash(data: bytes, match: re.Match[bytes]) -> bool:
    """The word around these digits is a hash or a token; its bytes, not its characters, may mean something."""
    start, end = match.span()
    before = _WORD.match(data[max(0, start - _WORD_SIZE_MAX) : start][::-1])
    after = _WORD.match(data, end, end + _WORD_SIZE_MAX)
    assert before is not None and after is not None
    if not before[0] and not after[0] and match[2] != b"D":
        return False
    word = before[0][::-1].removeprefix(b"0").removeprefix(b"x") + match[0] + after[0]  # 0x…, \x…
    others = word.translate(None, b"0123456789abcdefABCDEF")
    letters = word.translate(None, b"0123456789")
    return not others and len(word) >= _HASH_SIZE_MIN and letters not in (b"", b"D")


def _find_packed(data: bytes, *, is_value: bool) -> Iterator[Found]:
    for match in _FIELD_2.finditer(data):
        size = int(f"{match[1][0]:x}")
        used = (size + 1) // 2
        code = data[match.start() + 1 + used : match.start() + 4 + used]
        number = _unpacked(match[2][:used], size)
        # A processing code of a card's default account ends with four zeros.
        if number is not None and len(code) == 3 and code[1:] == b"\0\0" and code[:1].hex().isdigit():
            yield Found(match.start() + 1, "packed card number", hide(number))
    for match in _TAG_5A.finditer(data):
        value = match[2][: match[1][0]]
        number = _unpacked(value, len(value.hex().rstrip("f")))
        if number is not None:
            yield Found(match.start() + 2, "packed card number", hide(number))
    for match in (*_TAG_57.finditer(data), *_TRACK_2.finditer(data)):
        nibbles = 2 * match[1][0] if match.re is _TAG_57 else int(f"{match[1][0]:x}")
        text = match[2][: (nibbles + 1) // 2].hex()[:nibbles].rstrip("f")
        number, separator, rest = text.partition("d")
        dated = rest[:7].isdigit() and len(rest) >= 7 and 1 <= int(rest[2:4]) <= 12
        if (
            separator
            and dated
            and rest.isdigit()
            and is_plausible(number)
            and _looks_packed(match[2][: (len(number) + 1) // 2], number)
        ):
            yield Found(match.start(2), "packed track", hide(number))
    if is_value and len(data) <= _VALUE_SIZE_MAX:
        text = data.hex().rstrip("f")
        # A leading or a last zero may be the spare nibble of an odd number.
        candidates = [text, text[1:] if text[:1] == "0" else "", text[:-1] if text[-1:] == "0" else ""]
        number = next((each for each in candidates if is_plausible(each) and _looks_packed(data, each)), None)
        if number is not None:
            yield Found(0, "packed card number", hide(number))


def _looks_packed(packed: bytes, number: str) -> bool:
    """Neither small numbers in binary, which end with zeros, nor digits in ASCII, which are 0x30 to 0x39."""
    ascii_digits = len(packed) - len(packed.translate(None, b"0123456789"))
    return len(set(number)) >= 5 and not number.endswith("0000") and 2 * ascii_digits < len(packed)


def _unpacked(packed: bytes, size: int) -> str | None:
    """The plausible number of ``size`` digits in these bytes, whichever end the spare nibble of an odd one is at."""
    text = packed.hex()
    left, right = text[:size], text[len(text) - size :]
    candidates = [left] if text[size:] in ("", "0", "f") else []
    if text[: len(text) - size] in ("0", "f"):
        candidates.append(right)
    return next((each for each in candidates if is_plausible(each) and _looks_packed(packed, each)), None)


class Known:
    """What a test has used, found wherever it is: in digits, packed at either end, as bytes, in hexadecimal.

    Args:
        secrets: digits as text; anything else as bytes. At least 6 bytes each: shorter ones are found everywhere.
        issuer: first digits of all test cards, an even number of them. A packed number that begins so is found
            without its length in front of it, too.
    """

    def __init__(self, secrets: Iterable[str | bytes] = (), issuer: str = "") -> None:
        forms: dict[str, set[bytes]] = {"digits": set(), "packed": set(), "bytes": set(), "hexadecimal": set()}
        for secret in secrets:
            if isinstance(secret, str):
                assert len(secret) >= 12
                forms["digits"].add(secret.encode())
                packed = {secret, f"{secret}0", f"0{secret}"} if len(secret) % 2 else {secret}
                # Whatever the spare nibble is: without the byte that holds it.
                packed.add(secret[: len(secret) & ~1])
                forms["packed"] |= {bytes.fromhex(each) for each in packed if len(each) % 2 == 0}
            else:
                assert len(secret) >= 6
                forms["bytes"].add(secret)
        for each in forms["packed"] | forms["bytes"]:
            forms["hexadecimal"] |= {each.hex().encode(), each.hex().upper().encode()}
        self._forms = [(kind, *_finder(needles), needles) for kind, needles in forms.items() if needles]
        self._issuer: re.Pattern[bytes] | None = None
        if issuer:
            assert len(issuer) % 2 == 0
            self._issuer = re.compile(b"(?s)" + re.escape(bytes.fromhex(issuer)) + b"(?=(" + _BCD + b"{4}.{1,4}))")
            self._head = bytes.fromhex(issuer)

    def find(self, data: bytes) -> Iterator[Found]:
        for kind, begin, sizes, needles in self._forms:
            for match in begin.finditer(data):
                at = match.start()
                for size in sizes:
                    if (needle := data[at : at + size]) in needles:
                        yield Found(at, f"known secret in {kind}", hide(needle.decode()) if kind == "digits" else "***")
                        break
        if self._issuer is None:
            return
        yield from self._of_issuer(self._issuer, data)
        for word in _hexadecimal_words(data):
            for found in self._of_issuer(self._issuer, bytes.fromhex(word[0].decode())):
                yield Found(word.start() + 2 * found.offset, f"{found.kind} in hexadecimal", found.shown)

    def _of_issuer(self, pattern: re.Pattern[bytes], data: bytes) -> Iterator[Found]:
        for match in pattern.finditer(data):
            text = (self._head + match[1]).hex()
            number = next((text[:size] for size in (19, 16, 18, 17) if _is_number(text[:size], size)), None)
            if number is not None and _looks_packed(self._head + match[1], number):
                yield Found(match.start(), "packed card number of a test issuer", hide(number))


def _finder(needles: set[bytes]) -> tuple[re.Pattern[bytes], list[int]]:
    """Where one of them may begin, and their sizes: thousands of cards of one issuer are as fast as one."""
    first, last = min(needles), max(needles)
    size = next((at for at in range(min(map(len, needles))) if first[at] != last[at]), min(map(len, needles)))
    heads = {first[:size]} if size >= 2 else {needle[:2] for needle in needles}
    pattern = b"|".join(re.escape(head) for head in sorted(heads))
    return re.compile(pattern), sorted({len(needle) for needle in needles}, reverse=True)


def _is_number(digits: str, size: int) -> bool:
    return len(digits) == size and digits.isdigit() and is_plausible(digits)
