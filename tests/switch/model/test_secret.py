"""Card data goes through every way in which a value comes to be printed, and none of its digits comes out."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import logging
import multiprocessing
import pickle
import pprint
import random
import re
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.pretty import pretty_repr
from rich.traceback import Traceback

from switch.model.cardnumber import luhn_ok
from switch.model.payment import Card, KeptCard
from switch.model.secret import ChipData, Pan, PinBlock, Secret, Track
from switch.observe.log import Log
from switch.observe.metrics import Metrics

DIGITS = 8  # so many of a card's digits in a row are a leak


def drawn(seed: int) -> Card:
    """Digits without pattern: eight zeros in a row are found in any text."""
    dice = random.Random(seed)
    digits = "".join(dice.choices("0123456789", k=40))
    body = "6222" + digits[: dice.randint(11, 14)]
    pan = next(body + digit for digit in "0123456789" if luhn_ok(body + digit))
    pin_block = dice.randbytes(8)
    chip = bytes.fromhex("5A0A") + bytes.fromhex(pan.ljust(20, "F")) + b"\x57\x08" + pin_block
    return Card(
        pan=Pan(pan),
        expiry="3012",
        sequence_number="001",
        entry_mode="051",
        pin_capture_code="06",
        track2=Track(f"{pan}=3012{digits[15 : dice.randint(25, 28)]}"),
        pin_block=PinBlock(pin_block),
        security_control="2600000000000000",
        icc_data=ChipData(chip),
    )


def cards() -> st.SearchStrategy[Card]:
    return st.integers(0, 2**32).map(drawn)


def secrets_of(card: Card) -> list[Secret[Any]]:
    assert card.track2 is not None and card.pin_block is not None and card.icc_data is not None
    return [card.pan, card.track2, card.pin_block, card.icc_data]


def _unescape(match: re.Match[bytes]) -> bytes:
    code = match[1].decode("latin-1")
    return bytes.fromhex(code[1:]) if len(code) == 3 else {"n": b"\n", "r": b"\r", "t": b"\t"}.get(code, match[1])


def leaks(card: Card, text: str | bytes) -> list[str]:
    """Any 8 digits in a row of number or track, in digits, packed or hexadecimal; the PIN block in any form."""
    assert card.track2 is not None and card.pin_block is not None
    whole = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    unescaped = re.sub(rb"\\(x[0-9a-f]{2}|.)", _unescape, whole, flags=re.DOTALL)  # what repr makes of bytes
    forms = [whole, whole.hex().encode(), unescaped, unescaped.hex().encode()]
    track, block = card.track2.reveal(), card.pin_block.reveal()
    runs = [
        run for part in track.split("=") for run in [part[at : at + DIGITS] for at in range(len(part) - DIGITS + 1)]
    ]
    needles = [run.encode() for run in runs]
    needles += [block, block.hex().encode(), str(list(block))[1:-1].encode()]
    return [repr(needle) for needle in needles if any(needle in form for form in forms)]


def _log(value: Any) -> bytes:
    stream = io.BytesIO()
    Log("debug", stream, pretty=False).event("card.seen", value=value, nested={"a": [value]}, text=f"{value}")
    return stream.getvalue()


def _logging(value: Any) -> str:
    stream = io.StringIO()
    logger = logging.Logger("test")
    logger.addHandler(logging.StreamHandler(stream))
    logger.error("%s %r", value, [value])
    try:
        raise ValueError(value)
    except ValueError:
        logger.exception("failed: %s", {"value": value})
    return stream.getvalue()


def _traceback(value: Any) -> str:
    held = [value]
    try:
        local = {"card": value, "held": held}
        raise RuntimeError(f"refused {value}", local)
    except RuntimeError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        stream = io.StringIO()
        Console(file=stream, width=400).print(
            Traceback.from_exception(type(error), error, error.__traceback__, show_locals=True)
        )
        return shown + stream.getvalue() + repr(error) + str(error.args)


def _metrics(value: Any) -> bytes:
    metrics = Metrics()
    metrics.count("switch_payments_total", (value,))
    metrics.count("switch_payments_total", [value])
    return metrics.text()


def _fields(way: Callable[[Any], Any], value: Any) -> Any:
    return way(value) if dataclasses.is_dataclass(value) else None


SHOWN: dict[str, Callable[[Any], str | bytes]] = {
    "repr": repr,
    "str": str,
    "format": format,
    "format with a width": lambda value: f"{value:>60}" if isinstance(value, Secret) else f"{value!s:>60}",
    "conversions": lambda value: f"{value!r} {value!s} {value!a}",
    "percent": lambda value: "%s %r %a" % (value, value, value),  # noqa: UP031
    "in containers": lambda value: f"{[value]} {(value,)} { ({'a': value}) }",
    "pprint": pprint.pformat,
    "rich": lambda value: pretty_repr(value, max_string=None),
    "logging": _logging,
    "our log": _log,
    "traceback with locals": _traceback,
    "metrics": _metrics,
    "json with default=str": lambda value: json.dumps({"a": value}, default=str),
    "orjson with default=str": lambda value: orjson.dumps({"a": value}, default=str),
    "msgspec with enc_hook=str": lambda value: msgspec.json.encode({"a": value}, enc_hook=str),
    "asdict": lambda value: repr(_fields(dataclasses.asdict, value)),
    "copies": lambda value: repr((copy.copy(value), copy.deepcopy([value]))),
    "replace": lambda value: repr(_fields(dataclasses.replace, value)),
    "help": lambda value: repr([getattr(type(value), name, None) for name in dir(value)]),
}
REFUSED: dict[str, Callable[[Any], object]] = {
    "json": json.dumps,
    "orjson": orjson.dumps,
    "orjson of a dataclass": lambda value: orjson.dumps({"card": value}, option=orjson.OPT_SERIALIZE_DATACLASS),
    "msgspec json": msgspec.json.encode,
    "msgspec msgpack": msgspec.msgpack.encode,
    "msgspec builtins": msgspec.to_builtins,
    **{f"pickle {protocol}": partial(pickle.dumps, protocol=protocol) for protocol in range(6)},
    "getstate": lambda value: value.pan.__getstate__() if isinstance(value, Card | KeptCard) else value.__getstate__(),
    "another process": lambda value: multiprocessing.get_context("spawn").SimpleQueue().put(value),
}
REFUSED_ALONE: dict[str, Callable[[Any], object]] = {
    "bytes": bytes,
    "list": list,
    "int": int,
    "plus": lambda value: "card " + value,
    "join": lambda value: "".join([value]),
    "%d": lambda value: "%d" % value,  # noqa: UP031
    "hash": hash,
    "key": lambda value: {value: 1},
    "vars": vars,
    "index": lambda value: value[0],
}
some = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.differing_executors])


@pytest.mark.parametrize("way", SHOWN)
@some
@given(card=cards())
def test_what_can_be_shown_is_shown_masked(way: str, card: Card) -> None:
    kept = KeptCard(card.pan, card.expiry, card.sequence_number, card.icc_data)
    for value in (card, kept, *secrets_of(card)):
        shown = SHOWN[way](value)
        assert shown is not None and leaks(card, shown) == []


@pytest.mark.parametrize("way", REFUSED)
@settings(some, max_examples=3)
@given(card=cards())
def test_what_stores_or_sends_is_refused_and_the_refusal_shows_nothing(way: str, card: Card) -> None:
    kept = KeptCard(card.pan, card.expiry, card.sequence_number, card.icc_data)
    for value in (card, kept, *secrets_of(card)):
        with pytest.raises(TypeError) as caught:
            REFUSED[way](value)
        assert leaks(card, "".join(traceback.format_exception(caught.value))) == []


@pytest.mark.parametrize("way", REFUSED_ALONE)
@some
@given(card=cards())
def test_no_operator_gives_the_value(way: str, card: Card) -> None:
    for value in secrets_of(card):
        with pytest.raises(TypeError) as caught:
            REFUSED_ALONE[way](value)
        assert leaks(card, "".join(traceback.format_exception(caught.value))) == []


@settings(some, max_examples=200)
@given(card=cards())
@example(drawn(12882635))
def test_the_search_finds_what_is_there(card: Card) -> None:
    """Without this the tests above could not fail."""
    for secret in secrets_of(card)[:3]:
        clear = secret.reveal()
        assert leaks(card, clear) and leaks(card, repr(clear))
    assert leaks(card, bytes.fromhex(card.pan.reveal()[:16]))
    assert card.icc_data is not None and leaks(card, repr(card.icc_data.reveal()))


@some
@given(card=cards())
def test_a_card_number_shows_first_six_and_last_four(card: Card) -> None:
    clear = card.pan.reveal()
    assert str(card.pan) == f"{card.pan}" == card.masked == clear[:6] + "*" * (len(clear) - 10) + clear[-4:]
    assert re.fullmatch(r"Card\([0-9]{6}\*+[0-9]{4}, entry_mode=051\)", repr(card))


def test_equal_is_equal_of_the_same_kind() -> None:
    assert Pan("6222000000000017") == Pan("6222000000000017") != Pan("6222000000000025")
    assert PinBlock(bytes(8)) != ChipData(bytes(8)) and Pan("6222000000000017") != "6222000000000017"


@pytest.mark.parametrize("text", ["", "622200000000", "62220000000000170000", "6222 0000 0000 17", "622200000000001７"])
def test_what_is_no_card_number_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(ValueError, match="13 to 19 digits") as caught:
        Pan(text)
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    own = shown[shown.rindex("secret.py") :]
    assert not text or text not in own


def test_a_track_gives_number_and_expiry() -> None:
    track = Track("6222000000000017=30121010000000000")
    assert (track.pan, track.expiry) == (Pan("6222000000000017"), "3012")
    encrypted = Track("6222000000000017=3F12ABCD")
    assert (encrypted.pan, encrypted.expiry) == (Pan("6222000000000017"), None)
    for text in ("6222000000000017", "=3012", "", "62220000=3012"):
        assert Track(text).pan is None


WRONG = (b"", b"{}", b"[1]", b"null", b'{"pan":"62220"}', b'{"pan":1}', b'{"pan":"6222000000000017","icc_data":"zz"}')


@pytest.mark.parametrize("clear", WRONG)
def test_opened_bytes_that_are_no_card_are_refused_without_showing_them(clear: bytes) -> None:
    with pytest.raises(ValueError, match="not what was sealed") as caught:
        KeptCard.from_bytes(clear)
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "6222000000000017" not in shown[shown.rindex("payment.py") :]
    assert caught.value.__context__ is None
