"""Which hop of a line failed, in words: from what a line test has seen, without I/O.

    port ── line ── modem ── switch ── terminal ── card network

The first hop from the left whose fault explains what was seen is the one that is told: behind it nothing is known.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from iso8583.framing import Framer

LENGTHS: Final = ("bcd2", "len2", "ascii4")
SPEAKS_TLS: Final = b"\x15\x03"  # a TLS alert: what a TLS port says to somebody who does not speak it
_PARITY_BYTES_MIN: Final = 16  # as many bytes of one parity by chance: once in 65,536
_RESEMBLES: Final = 0.2  # share of frames given up for their LRC, of all that began and were looked at


@dataclass(slots=True)
class Evidence:
    """What a test has seen so far."""

    serial: bool
    where: str  # device with its settings, or address
    length: str = "bcd2"  # the form of the length that was expected
    fault: tuple[str, str] | None = None  # why it could not be opened: code, words
    step: str = "echo test"  # what was asked last
    sent: int = 0
    answered: int = 0
    closed: str = ""  # how the other side ended the connection
    code: str = ""  # field 39 of the last answer
    stable: str = ""  # DF0A of it
    keys_fault: str = ""  # the check values of the keys do not fit
    noise_bytes: int = 0
    heartbeats: int = 0
    echoes: int = 0  # frames of ours that came back
    discards: Counter[str] = field(default_factory=Counter)  # frames given up, by reason
    uart: dict[str, int] = field(default_factory=dict)  # errors that the port itself counted: frame, parity, overrun
    raw: bytearray = field(default_factory=bytearray)  # the beginning of all that came; never shown


@dataclass(frozen=True, slots=True)
class Verdict:
    hop: str  # port, network, line, modem, switch, terminal, card network; "" when all is well
    words: str
    remedy: str = ""

    @property
    def good(self) -> bool:
        return not self.hop


_CODES: Final = {  # by stable code, else by field 39
    "unknown_terminal": (
        "terminal",
        "the switch does not know this terminal, or not with this merchant",
        "gridswitch terminal list",
    ),
    "wrong_certificate": (
        "terminal",
        "certificate or serial address belong to another terminal",
        "compare field 41 with the certificate's common name, or with kiosks in [[serial]]",
    ),
    "58": ("terminal", "the terminal is out of service", "gridswitch terminal show: which gate is open"),
    "A1": ("terminal", "the terminal was stopped after wrong MACs", "sign on with the right keys"),
    "A0": (
        "terminal",
        "the switch found our MAC wrong",
        "sign on again; if it stays, the terminal's master key differs",
    ),
    "K1": ("terminal", "the keys of the last sign-on do not prove themselves", "compare check values: gridswitch key"),
    "30": ("terminal", "the switch could not read our message", "see request.refused in its log"),
    "N4": ("card network", "the switch is well and cannot reach the card network", "gridswitch status: its link"),
    "N2": ("switch", "the switch is too busy, or its database or security module is away", "gridswitch status"),
    "N5": ("switch", "too many echo tests on this connection", "fewer, or listen.limits.greetings_per_minute"),
    "96": ("switch", "a fault inside the switch", "see its log"),
}
_FAULTS: Final = {  # why a port or a connection could not be opened: hop, remedy
    "refused": ("switch", "is it running? compare listen.host and listen.port"),
    "unreachable": ("network", "look at cable, modem, route and fire wall"),
    "name": ("network", "correct the name, or use the address"),
    "tls": ("switch", "look at certificates, at the clock, and at listen.tls"),
    "certificate": ("switch", "use the CA and the name that the switch's certificate has"),
}


def diagnose(seen: Evidence) -> Verdict:
    """The verdict on a test as the kiosk's side."""
    if seen.fault is not None:
        code, words = seen.fault
        hop, remedy = _FAULTS.get(code, ("port", ""))
        return Verdict(hop, words, remedy)
    if not seen.answered:
        return _unanswered(seen)
    if seen.keys_fault:
        return Verdict("terminal", seen.keys_fault, "load the terminal's master key again")
    known = _CODES.get(seen.stable) or _CODES.get(seen.code)
    if known is not None:
        return Verdict(*known)
    if seen.code == "97":
        return Verdict(*_CODES["unknown_terminal"])
    if seen.code not in ("00", "77"):
        return Verdict("card network", f"the {seen.step} was answered {seen.code}", "look it up: response codes")
    if seen.closed:
        return Verdict("switch", f"it ended the connection: {seen.closed}", "see wire.lost and kiosk.* in its log")
    if seen.answered < seen.sent:
        missing = f"{seen.sent - seen.answered} of {seen.sent} answers are missing"
        return Verdict("line" if seen.serial else "network", missing + _noise(seen), "look at cable, modem and speed")
    due = "; it is time to sign on (77)" if seen.code == "77" else ""
    return Verdict("", f"{seen.answered} of {seen.sent} answers came{due}{_noise(seen)}")


def _noise(seen: Evidence) -> str:
    return f", with {seen.noise_bytes} bytes of noise" if seen.noise_bytes else ""


def _unanswered(seen: Evidence) -> Verdict:
    if not seen.serial:
        if bytes(seen.raw[:2]) == SPEAKS_TLS:
            return Verdict("switch", "it speaks TLS, and we do not", "give --ca, --certificate and --key")
        if seen.closed:
            words = f"it took the connection and ended it without an answer: {seen.closed}"
            return Verdict("switch", words, "is this its kiosk port, and does it speak TLS? see its log")
        if seen.raw:
            return Verdict("switch", "what answers there is no kiosk port", "compare listen.port")
        return Verdict("switch", "connected, and no answer", "is this its kiosk port, and does it speak TLS?")
    if seen.closed:
        return Verdict("port", f"the port went away: {seen.closed}", "look at the plug of the adaptor")
    if seen.echoes:
        return Verdict(
            "line",
            "only our own frames come back",
            "an RS-485 adaptor hears itself, or the plug is a loop: is the far end on?",
        )
    garbled = garbage(seen)
    if garbled is not None:
        return garbled
    if seen.heartbeats:
        return Verdict(
            "modem", f"{seen.heartbeats} heartbeats and nothing else", "the DTU is on; has it its connection?"
        )
    return Verdict(
        "line",
        "nothing comes back",
        "look at the cable (TX and RX crossed?), at [[serial]] of the switch, and whether it knows this address",
    )


def garbage(seen: Evidence) -> Verdict | None:
    """What bytes that make no frame look like; None: there are none."""
    if seen.uart.get("parity"):
        return Verdict("line", f"the port counted {seen.uart['parity']} parity errors", "set the other side's parity")
    if seen.uart.get("frame"):
        words = f"the port counted {seen.uart['frame']} bytes without a stop bit"
        return Verdict("line", words, "set the other side's speed")
    if seen.uart.get("overrun"):
        words = f"the port lost bytes {seen.uart['overrun']} times"
        return Verdict("line", words, "set flow control, or a lower speed")
    if not seen.noise_bytes:
        return None
    raw = bytes(seen.raw)
    for length in LENGTHS:
        framer = Framer("serial", length=length)
        if length != seen.length and framer.feed(raw) + framer.end():
            return Verdict("line", f"frames come with another form of length: {length}", f'set length = "{length}"')
    odd = sum(byte.bit_count() & 1 for byte in raw)
    if len(raw) >= _PARITY_BYTES_MIN and odd in (0, len(raw)):
        parity = "odd" if odd else "even"
        return Verdict("line", f"every byte has {parity} parity: its top bit is a parity bit", "8 data bits everywhere")
    if seen.discards["lrc"] > _RESEMBLES * seen.discards.total() and b"\x02" in raw:
        words = f"frames come, and are damaged: {seen.discards['lrc']} with a wrong LRC"
        return Verdict("line", words, "look at shielding, earth and flow control")
    return Verdict(
        "line", f"{seen.noise_bytes} bytes came, and none makes a frame", "speed or parity differ: try others"
    )


def diagnose_listening(seen: Evidence, frames: int, seconds: float) -> Verdict:
    """The verdict of somebody who only listens."""
    if seen.fault is not None:
        return diagnose(seen)
    if seen.closed:
        return Verdict("port", f"the port went away: {seen.closed}", "look at the plug of the adaptor")
    if frames:
        return Verdict("", f"{frames} frames came{_noise(seen)}")
    garbled = garbage(seen)
    if garbled is not None:
        return garbled
    if seen.heartbeats:
        return Verdict("modem", f"{seen.heartbeats} heartbeats, and no kiosk behind the DTU", "is the kiosk on?")
    return Verdict("line", f"nothing came within {seconds:g} s", "look at the cable, and whether the kiosk is on")
