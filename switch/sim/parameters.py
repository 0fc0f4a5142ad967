"""What the simulated card host gives terminals to download: synthetic, but shaped as acquirers send it.

Public keys and parameters of chip applications are lists of items; ``listed`` gives field 62 of the answer to the
question what there is, a page at a time, and ``item`` that of one item. The first byte: "0" there is nothing, "1" this
is all, "2" more follows, "3" this is the last page.
"""

from __future__ import annotations

import hashlib
from typing import Final

from iso8583 import Iso8583Error, tlv

PAGE: Final = 4  # items on a page: real hosts show twenty
_RID: Final = bytes.fromhex("A000000999")  # of no card scheme
_NAMES: Final = ("9F06", "9F22")
TEXT: Final = (b"12160023322") + "示范供电营业厅".encode("gbk").ljust(40) + b"2700"

Item = list[tuple[str, bytes]]


def _public_key(index: int) -> Item:
    modulus = b"".join(hashlib.sha256(b"test key %d %d" % (index, part)).digest() for part in range(4))
    modulus = bytes([modulus[0] | 0x80]) + modulus[1:-1] + bytes([modulus[-1] | 1])
    exponent = b"\x03"
    name = bytes([index])
    return [
        ("9F06", _RID),
        ("9F22", name),
        ("DF05", b"20301231"),
        ("DF06", b"\x01"),
        ("DF07", b"\x01"),
        ("DF02", modulus),
        ("DF04", exponent),
        ("DF03", hashlib.sha1(_RID + name + modulus + exponent, usedforsecurity=False).digest()),
    ]


def _application(number: int) -> Item:
    return [
        ("9F06", _RID + bytes([1, 1, number])),
        ("DF01", b"\x00"),
        ("9F08", bytes.fromhex("0020")),
        ("DF11", bytes.fromhex("D84000A800")),
        ("DF12", bytes.fromhex("D84004F800")),
        ("DF13", bytes.fromhex("0010000000")),
        ("9F1B", bytes.fromhex("00000000")),
        ("DF15", bytes.fromhex("00000000")),
        ("DF16", b"\x99"),
        ("DF17", b"\x99"),
        ("DF14", bytes.fromhex("9F3704")),
        ("DF18", b"\x01"),
    ]


KEYS: Final = tuple(_public_key(index) for index in range(1, 7))
APPLICATIONS: Final = tuple(_application(number) for number in (1, 2, 3))


def listed(items: tuple[Item, ...], question: bytes) -> bytes | None:
    """Args: question: "1" and two digits, how many the terminal has seen. None: it is not."""
    if len(question) != 3 or question[:1] != b"1" or not question.isdigit():
        return None
    seen = int(question[1:])
    page = items[seen : seen + PAGE]
    if not page:
        return b"0"
    more = seen + PAGE < len(items)
    status = b"2" if more else b"1" if seen == 0 else b"3"
    shown = ("9F06", "9F22", "DF05")
    return status + b"".join(tlv.encode([pair for pair in item if pair[0] in shown]) for item in page)


def item(items: tuple[Item, ...], question: bytes) -> bytes | None:
    """Args: question: 9F06, and 9F22 of a key. None: there is no such item."""
    try:
        asked = tlv.decode(question)
    except Iso8583Error:
        return None
    for each in items:
        if [pair for pair in each if pair[0] in _NAMES] == asked:
            return b"1" + tlv.encode(each)
    return None
