"""What a line test has seen leads to the hop that failed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from iso8583 import framing
from switch.net.serial import Cutter
from switch.ops.diagnosis import Evidence, Verdict, diagnose, diagnose_listening
from tests.ptys import bits_of, heard_at

ANSWER = framing.frame(bytes.fromhex("6000000003603100000000") + b"an answer of some length 0123456789", "serial")


def line(**seen: Any) -> Evidence:
    return Evidence(serial=True, where="/dev/ttyS0, 9600 8N1", sent=3, **seen)


def network(**seen: Any) -> Evidence:
    return Evidence(serial=False, where="10.0.0.1:8583", sent=3, **seen)


def came(raw: bytes, length: str = "bcd2") -> Evidence:
    """The evidence of a line that brought these bytes."""
    cutter = Cutter(length)
    assert cutter.feed(raw) + cutter.end() == []
    return line(raw=bytearray(raw), noise_bytes=cutter.noise_bytes, discards=cutter.discards, length=length)


@pytest.mark.parametrize(
    ("seen", "hop", "words"),
    [
        (line(fault=("busy", "/dev/ttyS0: another program has it")), "port", "another program"),
        (line(closed="the device is gone"), "port", "went away"),
        (line(), "line", "nothing comes back"),
        (line(echoes=3), "line", "only our own frames"),
        (line(heartbeats=5), "modem", "5 heartbeats and nothing else"),
        (line(noise_bytes=9, uart={"parity": 7, "frame": 2}), "line", "7 parity errors"),
        (line(noise_bytes=9, uart={"parity": 0, "frame": 4}), "line", "4 bytes without a stop bit"),
        (line(uart={"overrun": 2}), "line", "lost bytes 2 times"),
        (line(answered=2, code="00", noise_bytes=5), "line", "1 of 3 answers are missing, with 5 bytes of noise"),
        (line(answered=3, code="00"), "", "3 of 3 answers came"),
        (line(answered=3, code="77"), "", "time to sign on"),
        (network(fault=("refused", "nobody listens at 10.0.0.1:8583")), "switch", "nobody listens"),
        (network(fault=("unreachable", "no answer")), "network", "no answer"),
        (network(fault=("name", "not found")), "network", "not found"),
        (network(fault=("certificate", "not trusted")), "switch", "not trusted"),
        (network(closed="closed without a word"), "switch", "ended it without an answer"),
        (network(raw=bytearray(b"\x15\x03\x03\0\2\2\x46")), "switch", "it speaks TLS"),
        (network(raw=bytearray(b"HTTP/1.1 400")), "switch", "no kiosk port"),
        (network(), "switch", "connected, and no answer"),
        (network(answered=2, code="00"), "network", "1 of 3 answers are missing"),
        (network(answered=3, code="00", closed="connection reset by peer"), "switch", "connection reset"),
        (network(answered=1, code="97"), "terminal", "does not know this terminal"),
        (network(answered=1, code="97", stable="wrong_certificate"), "terminal", "belong to another terminal"),
        (network(answered=1, code="58", stable="out_of_service"), "terminal", "out of service"),
        (network(answered=1, code="00", keys_fault="check value"), "terminal", "check value"),
        (network(answered=2, code="N4", stable="card_unavailable"), "card network", "cannot reach the card network"),
        (network(answered=2, code="N2", stable="busy"), "switch", "too busy"),
        (network(answered=2, code="05", step="sign-on"), "card network", "the sign-on was answered 05"),
    ],
)
def test_the_hop_that_explains_it_is_told(seen: Evidence, hop: str, words: str) -> None:
    verdict = diagnose(seen)
    assert verdict.hop == hop and words in verdict.words, verdict
    assert verdict.good == (not hop)


@pytest.mark.parametrize("speed", [0.25, 0.5, 2.0, 4.0])
def test_another_speed_is_garbage(speed: float) -> None:
    verdict = diagnose(came(heard_at(bits_of(ANSWER * 3), speed)))
    assert verdict.hop == "line" and "speed or parity differ" in verdict.remedy


def test_the_right_speed_is_no_garbage() -> None:
    assert heard_at(bits_of(ANSWER), 1.0) == ANSWER, "or the test above shows nothing"


def test_seven_bits_and_parity_are_seen_in_the_bytes() -> None:
    text = bytes(byte & 0x7F for byte in ANSWER)
    even = bytes(byte | (byte.bit_count() & 1) << 7 for byte in text)
    assert "even parity" in diagnose(came(even)).words
    assert "odd parity" in diagnose(came(bytes(byte ^ 0x80 for byte in even))).words


@pytest.mark.parametrize("other", ["len2", "ascii4"])
def test_another_form_of_the_length_is_recognised(other: str) -> None:
    data = b"x" * 300  # of 10 to 99 bytes bcd2 and len2 differ as well; below 10 they do not
    verdict = diagnose(came(framing.frame(data, "serial", length=other)))
    assert verdict.hop == "line" and verdict.remedy == f'set length = "{other}"'


def test_damaged_frames_are_told_from_garbage() -> None:
    broken = bytearray(ANSWER)
    broken[20] ^= 1
    verdict = diagnose(came(bytes(broken)))
    assert "with a wrong LRC" in verdict.words


def test_listening_alone_has_its_own_words() -> None:
    assert diagnose_listening(line(), 0, 60).words == "nothing came within 60 s"
    assert diagnose_listening(line(heartbeats=3), 0, 60).hop == "modem"
    assert diagnose_listening(line(noise_bytes=4), 5, 60) == Verdict("", "5 frames came, with 4 bytes of noise")
    assert diagnose_listening(line(fault=("missing", "no such device")), 0, 60).hop == "port"
    assert diagnose_listening(line(closed="gone"), 3, 60).hop == "port"
    assert diagnose_listening(line(noise_bytes=40, discards=Counter(prefix=2)), 0, 60).hop == "line"
