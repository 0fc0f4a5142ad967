"""``gridswitch interface``: what of ``KIOSK_INTERFACE.md`` follows from the code, written from the code.

The document is what a kiosk vendor implements from, without anything of ours. Its tables of fields and texts, and its
test vectors, stand between markers and are made here: a test compares them, so they are never older than the code.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import iso8583
from iso8583 import tlv
from switch.dialects.codes import CardCodes, kiosk_codes
from switch.dialects.kiosk import KioskDialect, LocalTime, ReplyTo
from switch.dialects.unionpay import with_mac
from switch.errors import StartError
from switch.model.batch import BatchDifference, BatchStanding
from switch.model.ebill import EBill, Meter, Step
from switch.model.payment import Quote, Receivable
from switch.security import mac, pinblock, primitives, workingkeys
from switch.sim import testkeys

DOCUMENT: Final = Path(__file__).parents[1] / "KIOSK_INTERFACE.md"
_FIELDS: Final = (
    2,
    3,
    4,
    11,
    12,
    13,
    14,
    15,
    22,
    23,
    25,
    26,
    35,
    37,
    38,
    39,
    41,
    42,
    48,
    49,
    52,
    53,
    54,
    55,
    60,
    62,
    63,
    64,
)
_HEADER: Final = bytes.fromhex("6000030000603100000000")
_HEADER_SIZE: Final = 11
_KEY_NAME: Final = bytes.fromhex("9F0605A0000009999F220101")  # of a public key: scheme and index
_ENCODINGS: Final = {
    "bcd_left": "BCD",
    "bcd_right": "BCD",
    "ascii": "ASCII",
    "binary": "bytes",
    "gbk": "GBK",
}
_PREFIXES: Final = {"bcd2": "1 byte BCD", "bcd3": "2 bytes BCD"}


# ---------------------------------------------------------------------------------------------------- tables
def fields_table() -> str:
    spec = iso8583.load("kiosk", header="tpdu+pos6")
    lines = ["| field | name | size | length before it | encoding |", "|---|---|---|---|---|"]
    for number in _FIELDS:
        each = spec.fields[number]
        unit = "digits" if each.unit == "digits" else "bytes"
        size = f"{each.length_max} {unit}" if each.fixed else f"up to {each.length_max} {unit}"
        before = f"{_PREFIXES[each.length_prefix]}, counts {unit}" if each.length_prefix else ""
        encoding = _ENCODINGS[each.encoding]
        if unit == "digits" and (not each.fixed or each.length_max % 2):
            encoding += ", a zero nibble before" if each.encoding == "bcd_right" else ", a zero nibble after"
            encoding += " an odd number of digits"
        lines.append(f"| {number} | {each.name} {each.label} | {size} | {before} | {encoding} |")
    return "\n".join(lines)


def texts_table() -> str:
    known = kiosk_codes()
    lines = ["| DF0A | 39 | charged | text for the screen |", "|---|---|---|---|"]
    lines += [
        f"| {stable} | {code.f39 or 'issuer'} | {code.charged} | {code.text} |"
        for stable, code in known.items()
        if code.text
    ]
    return "\n".join(lines)


# ---------------------------------------------------------------------------------------------------- vectors
class _Vectors:
    """Frames of one kiosk on one day, made by the switch's own dialect and the published test keys."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.terminal, self.merchant = testkeys.test_terminal(1)
        self.tmk = testkeys.test_tmk(self.terminal)
        self.pin_key = testkeys.with_odd_parity(bytes(range(0x10, 0x20)))
        self.mac_key = testkeys.with_odd_parity(bytes(range(0x30, 0x40)))
        self.mac = mac.prepare("unionpay_ecb", primitives.des(self.mac_key))
        self.spec = iso8583.load("kiosk", header="tpdu+pos6")
        self.dialect = KioskDialect(CardCodes())
        self.now = LocalTime("101112", "1123")
        self.pan = testkeys.test_pan(0)

    def say(self, name: str, value: str | bytes) -> None:
        self.lines.append(f"{name} = {value.hex().upper() if isinstance(value, bytes) else value}")

    def framed(self, name: str, message: bytes) -> None:
        self.say(name, len(message).to_bytes(2, "big") + message)

    def request(self, name: str, fields: dict[int, Any], *, macced: bool = True) -> bytes:
        base: dict[int, Any] = {41: self.terminal, 42: self.merchant}
        if macced:
            base |= {13: "1123", 25: "00", 49: "156", 64: bytes(8)}
        frame = self.spec.encode(base | fields, header=_HEADER)
        if macced or 64 in fields:
            frame = self.sealed(frame)
        self.framed(name, frame)
        return frame

    def sealed(self, frame: bytes) -> bytes:
        return with_mac(frame, self.mac.make(frame[_HEADER_SIZE:-8]))

    def reply(self, request: bytes) -> ReplyTo:
        reply = self.dialect.read(request).reply
        assert isinstance(reply, ReplyTo)
        return reply


def vectors() -> str:
    """``name = value`` lines: bytes in hexadecimal, everything else as it is."""
    v = _Vectors()
    cipher = primitives.des(v.tmk)
    keys = workingkeys.build(
        workingkeys.WorkingKeys(workingkeys.encrypt_key(v.pin_key, cipher), workingkeys.encrypt_key(v.mac_key, cipher))
    )
    v.lines.append("# keys")
    for name, value in (
        ("terminal", v.terminal),
        ("merchant", v.merchant),
        ("master_key", v.tmk),
        ("working_keys", keys),
        ("pin_key", v.pin_key),
        ("pin_key_kcv", primitives.des(v.pin_key).encrypt(bytes(8))[:4]),
        ("mac_key", v.mac_key),
        ("mac_key_kcv", primitives.des(v.mac_key).encrypt(bytes(8))[:4]),
    ):
        v.say(name, value)
    v.lines.append("# a PIN block, format 0")
    clear = pinblock.encode_format0("123456", v.pan)
    block = primitives.des(v.pin_key).encrypt(clear)
    for name, value in (("pan", v.pan), ("pin", "123456"), ("pin_block_clear", clear), ("pin_block", block)):
        v.say(name, value)
    v.lines.append("# frames, each with its length before it; serials count up from 000001, the date is 1123")
    sign_on = v.request("sign_on_request", {0: "0800", 11: "000001", 60: "00000000003", 63: "001"}, macced=False)
    v.framed(
        "sign_on_response",
        v.dialect.signed_on(v.reply(sign_on), v.now, batch_number="000001", working_keys=keys, network_code="003"),
    )
    echo = v.request("echo_request", {0: "0820", 11: "000002", 60: "00000001301"}, macced=False)
    v.framed("echo_response", v.dialect.echo(v.reply(echo), v.now, mac=False))
    v.say("account", "0300000178")
    inquiry = v.request(
        "inquiry_request",
        {0: "0200", 3: "310000", 11: "000003", 48: tlv.encode([("DF01", b"0300000178")]), 60: "71000001000"},
    )
    v.say("inquiry_mac_input", inquiry[_HEADER_SIZE:-8])
    v.say("inquiry_mac", inquiry[-8:])
    rows = (Receivable("0300000178202609", "202609", 9_900, 100, 10_000, 165, 1),)
    quote = Quote("Q00000000001", "0300000178", "张三", "示范路1号", rows, "20261123", 0.0, 2_000)
    v.framed("inquiry_response", v.sealed(v.dialect.quote(v.reply(inquiry), quote, v.now)))
    card = {22: "021", 26: "06", 35: f"{v.pan}=30121010000000000", 52: block, 53: "2600000000000000"}
    v.request(
        "payment_request",
        {
            0: "0200",
            3: "000000",
            4: 10_000,
            11: "000004",
            60: "72000001000",
            48: tlv.encode([("DF01", b"0300000178"), ("DF02", b"Q00000000001"), ("DF11", b"0300000178202609")]),
            **card,
        },
    )
    asked = tlv.encode([("DF0C", b"000004"), ("DF0D", b"1123")])
    v.request("result_request", {0: "0200", 3: "310000", 11: "000005", 48: asked, 60: "75000001000"})
    v.request("reversal_request", {0: "0400", 3: "000000", 11: "000006", 48: asked, 60: "72000001000"})
    v.request("slip_request", {0: "0200", 3: "310000", 11: "000007", 48: asked, 60: "76000001000"})
    balance = v.request("balance_request", {0: "0200", 3: "310000", 11: "000008", 60: "01000001000", **card})
    v.framed("balance_response", v.sealed(v.dialect.balance(v.reply(balance), "1002156C000000123456", v.now)))
    prepay = v.request(
        "prepay_request",
        {
            0: "0200",
            3: "000000",
            4: 5_000,
            11: "000009",
            60: "73000001000",
            48: tlv.encode([("DF01", b"0300000178")]),
            **card,
        },
    )
    v.framed("refusal_response", v.sealed(v.dialect.refusal(v.reply(prepay), "arrears_first", v.now)))
    asked_months = tlv.encode([("DF01", b"0300000178"), ("DF12", b"202610"), ("DF1C", b"2")])
    e_bill = v.request("e_bill_request", {0: "0200", 3: "310000", 11: "000010", 48: asked_months, 60: "74000001000"})
    months = [
        EBill(
            "202609",
            "20260925",
            300,
            17_867,
            100,
            17_967,
            17_967,
            "20261018101500",
            (Meter("M0300000178", "12000", "12300", 300),),
            (Step(1, 260, "0.5889", 15_311), Step(2, 40, "0.6389", 2_556)),
        )
    ]
    v.framed("e_bill_response", v.sealed(v.dialect.e_bills(v.reply(e_bill), "0300000178", months, "202608", v.now)))
    day = tlv.encode([("DF25", b"1123"), ("DF26", b"2"), ("DF27", b"15000")])
    settle = v.request("settlement_request", {0: "0500", 11: "000011", 48: day, 60: "00000001201"})
    v.framed(
        "settlement_response",
        v.sealed(v.dialect.batch(v.reply(settle), BatchStanding("batch_differs", 1, 10_000), "000001", v.now)),
    )
    about = [("DF0C", b"000011"), ("DF0D", b"1123")]
    details = [
        tlv.encode([("DF2A", each), ("DF15", fen)]) for each, fen in ((b"000004", b"10000"), (b"000009", b"5000"))
    ]
    uploaded = tlv.encode([*about, *(("E5", detail) for detail in details)])
    v.request("upload_request", {0: "0320", 11: "000012", 48: uploaded, 60: "00000001201"})
    ending = tlv.encode([*about, ("DF26", b"2")])
    end = v.request("upload_end_request", {0: "0320", 11: "000013", 48: ending, 60: "00000001202"})
    found = BatchStanding("batch_reported", 1, 10_000, 1, (BatchDifference("000009", "not_paid", 5_000, 0),))
    v.framed("upload_end_response", v.sealed(v.dialect.batch(v.reply(end), found, "000001", v.now)))
    word = tlv.encode([("9F27", b"\x40"), ("9F26", bytes(8)), ("9F36", b"\x00\x01"), ("95", bytes(5))])
    v.request("chip_word_request", {0: "0620", 11: "000021", 48: asked, 55: word, 60: "77000001000"})
    download = v.request(
        "download_request", {0: "0800", 11: "000020", 60: "00000001370", 62: _KEY_NAME, 64: bytes(8)}, macced=False
    )
    v.framed("download_response", v.sealed(v.dialect.download(v.reply(download), b"1" + _KEY_NAME, v.now)))
    return "```\n" + "\n".join(v.lines) + "\n```"


_PARTS: Final[dict[str, Callable[[], str]]] = {"fields": fields_table, "texts": texts_table, "vectors": vectors}


def filled_in(text: str) -> str:
    """The document with every part between its markers made anew.

    Raises:
        StartError: A part has no place in the document.
    """
    for name, make in _PARTS.items():
        pattern = re.compile(rf"(<!-- made: {name} -->\n).*?(\n<!-- end -->)", re.DOTALL)
        made = make()
        text, found = pattern.subn(lambda match: match[1] + made + match[2], text)  # noqa: B023
        if found != 1:
            raise StartError("interface", f"expected one part {name!r} between its markers, found {found}")
    return text


# ---------------------------------------------------------------------------------------------------- the command
def add_interface_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "interface",
        help="print what kiosk vendors implement from, with its test vectors",
        description="Print the kiosk interface document. Its tables and vectors are made from the code that runs.",
    )
    parser.add_argument("--part", choices=tuple(_PARTS), help="only this part")
    parser.add_argument("--write", action="store_true", help="bring the document in the source tree up to date")
    parser.set_defaults(run=_interface)


def _interface(arguments: argparse.Namespace) -> int:
    text = _PARTS[arguments.part]() + "\n" if arguments.part else filled_in(DOCUMENT.read_text(encoding="utf-8"))
    if arguments.write and not arguments.part:
        DOCUMENT.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0
