"""The detector: what it finds in every form, and what it must leave alone."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from switch.model.cardnumber import Found, Known, find, is_plausible, luhn_ok
from switch.sim import testkeys

SHORT_PAN, LONG_PAN = testkeys.test_pan(2), testkeys.test_pan(1)
assert (len(SHORT_PAN), len(LONG_PAN)) == (16, 19)


def kinds(data: bytes) -> list[str]:
    return [found.kind for found in find(data)]


def groups(pan: str, separator: str) -> bytes:
    return separator.join(pan[at : at + 4] for at in range(0, len(pan), 4)).encode()


def track(pan: str, separator: str) -> bytes:
    return f"{pan}{separator}30121010000".encode()


def packed(digits: str, pad: str, *, right: bool = False) -> bytes:
    if len(digits) % 2:
        digits = pad + digits if right else digits + pad
    return bytes.fromhex(digits)


def field_2(pan: str, pad: str, *, right: bool = False) -> bytes:
    return bytes.fromhex(f"{len(pan)}") + packed(pan, pad, right=right) + bytes(3)


def field_35(pan: str) -> bytes:
    text = f"{pan}d30121010000"
    return bytes.fromhex(f"{len(text)}") + packed(text, "0")


FORMS: dict[str, Callable[[str], bytes]] = {
    "digits": lambda pan: pan.encode(),
    "in JSON": lambda pan: f'{{"pan":"{pan}"}}'.encode(),
    "behind a word": lambda pan: f"card{pan}".encode(),
    "spaces": lambda pan: groups(pan, " "),
    "dashes": lambda pan: groups(pan, "-"),
    "behind its length": lambda pan: f"{len(pan)}{pan}".encode(),
    "track =": lambda pan: track(pan, "="),
    "track D": lambda pan: track(pan, "D"),
    "track behind other digits": lambda pan: b"3700000" + track(pan, "="),
    "track 1": lambda pan: f"%B{pan}^LI/LEI^30121010000000?".encode(),
    "field 2": lambda pan: field_2(pan, "0"),
    "field 2, F": lambda pan: field_2(pan, "f"),
    "field 2, right": lambda pan: field_2(pan, "0", right=True),
    "tag 5A": lambda pan: b"\x5a" + bytes([len(packed(pan, "f"))]) + packed(pan, "f"),
    "field 35": field_35,
    "tag 57": lambda pan: b"\x57" + bytes([len(field_35(pan)) - 1]) + field_35(pan)[1:-1] + field_35(pan)[-1:],
    "hexadecimal of a message": lambda pan: field_2(pan, "0").hex().encode(),
    "HEXADECIMAL of a message": lambda pan: field_35(pan).hex().upper().encode(),
    "hexadecimal of text": lambda pan: pan.encode().hex().encode(),
    "bytea as text": lambda pan: b"\\\\x0200" + field_2(pan, "0").hex().encode(),
}
AROUND = {
    "alone": (b"", b""),
    "text": (b"refused: ", b" at kiosk 7"),
    "rows": (b"2026\tGS000001\t", b"\t\\N\n"),
    "zero bytes": (bytes(40), bytes(40)),
    "high bytes": (b"\xff\xfe\x80", b"\xff\xfe\x80"),
}


@pytest.mark.parametrize(("form", "around", "pan"), [*product(FORMS, AROUND, (SHORT_PAN, LONG_PAN))])
def test_a_card_number_is_found_in_every_form(form: str, around: str, pan: str) -> None:
    before, after = AROUND[around]
    planted = before + FORMS[form](pan) + after
    found = list(find(planted))
    assert found, planted
    for one in found:
        assert pan[6:-4] not in repr(one) and one.shown == f"{pan[:6]}{'*' * (len(pan) - 10)}{pan[-4:]}"
        assert len(before) <= one.offset < len(before) + len(FORMS[form](pan))


@pytest.mark.parametrize("pan", [SHORT_PAN, LONG_PAN])
def test_a_packed_number_that_is_a_whole_value_is_found(pan: str) -> None:
    for value in {packed(pan, "0"), packed(pan, "f"), packed(pan, "0", right=True)}:
        assert kinds(value) == ["packed card number"]


NOTHING = {
    "payment id": b"7532829804941283328",
    "posting serial": b"753282980494128332801",
    "microseconds": b"1796000000123456",
    "wrong check digit": SHORT_PAN[:-1].encode() + b"%d" % ((int(SHORT_PAN[-1]) + 1) % 10),
    "no issuer": b"8981100490099992",
    "a fraction": b"switch_leg_seconds 0.4012888888881881",
    "zeros": b"4000000000000000",
    "uuid": b"62220000-1234-4222-9012-123456789012",
    "longer than a card": SHORT_PAN.encode() + b"12345678",
    "part of a hash": b"ab" + SHORT_PAN.encode() + b"cdef0123",
    "part of a bytea": b"\\\\xab" + SHORT_PAN.encode() + b"cdef0123",
    "groups of an account": b"6222-0000-0000",
    "rrn": b"112233445566",
}


@pytest.mark.parametrize("what", NOTHING)
def test_what_only_looks_like_one_is_left_alone(what: str) -> None:
    assert list(find(b"x: " + NOTHING[what] + b" end")) == []


def test_our_own_numbers_are_no_card_numbers() -> None:
    """Payment ids of every millisecond until 2030; serials; microseconds; ids of other forms."""
    dice = random.Random(1)
    for _ in range(20_000):
        ms = dice.randrange(1_767_000_000_000, 1_890_000_000_000)
        number = ms << 22 | dice.randrange(1 << 22)
        assert not is_plausible(str(number)) and kinds(b"%d %d01 %d" % (number, number, ms * 1000)) == []


def test_random_bytes_and_hashes_are_silent() -> None:
    dice = random.Random(2)
    assert list(find(dice.randbytes(8_000_000))) == []
    lines = b"\n".join(hashlib.sha256(b"%d" % number).hexdigest().encode() for number in range(60_000))
    assert list(find(lines)) == []
    tokens = b"\n".join(b'"card_token":"%s"' % dice.randbytes(16).hex().encode() for _ in range(60_000))
    assert list(find(tokens)) == []


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_nothing_raises(data: bytes) -> None:
    assert all(isinstance(found, Found) for found in find(data))
    list(Known([SHORT_PAN, b"secret"], issuer="6222").find(data))


@settings(deadline=None)
@given(st.text("0123456789.=D^ -xabcdef\n", max_size=300))
def test_nothing_raises_on_what_comes_near(text: str) -> None:
    for found in find(text.encode()):
        assert found.shown.count("*") >= 3


# ------------------------------------------------------------------------------------------------ known secrets
BLOCK = bytes.fromhex("0612ac89fedc4567")


@pytest.mark.parametrize("pan", [SHORT_PAN, LONG_PAN])
def test_known_secrets_are_found_in_every_form_wherever_they_stand(pan: str) -> None:
    known = Known([pan, BLOCK])
    forms = [pan.encode(), packed(pan, "0"), packed(pan, "f"), packed(pan, "0", right=True), BLOCK]
    forms += [form.hex().encode() for form in forms[1:]] + [form.hex().upper().encode() for form in forms[1:]]
    for form in forms:
        found = list(known.find(b"\x17ab" + form + b"cd\x42"))
        assert found and all(pan[6:-4] not in one.shown for one in found), form
    assert list(known.find(b"nothing of it: " + testkeys.test_pan(9).encode())) == []


def test_a_packed_number_of_a_test_issuer_is_found_anywhere() -> None:
    known = Known(issuer="6222")
    for pan in (SHORT_PAN, LONG_PAN):
        raw = b"\x01\x02" + packed(pan, "f") + b"\xee" * 9
        word = b"z " + (b"\xab" * 5 + packed(pan, "0")).hex().encode()
        for data in (raw, word):
            (found,) = known.find(data)
            assert found.kind.startswith("packed card number of a test issuer")
    assert list(known.find(random.Random(3).randbytes(8_000_000))) == []


def test_luhn() -> None:
    assert luhn_ok("4012888888881881") and not luhn_ok("4012888888881882")
