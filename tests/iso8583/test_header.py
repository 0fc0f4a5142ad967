"""TPDU and message header."""

import pytest

import iso8583
from iso8583 import header
from iso8583.spec import HEADERS

DATA = bytes.fromhex("60 0003 0001 61 31 03 110801")


def test_a_header_is_taken_apart_and_put_together() -> None:
    tpdu, pos = header.parse(DATA, "tpdu+pos6")
    assert tpdu == header.Tpdu("60", "0003", "0001")
    assert pos == header.PosHeader("61", "31", "0", "3", "110801")
    assert header.build(tpdu, pos) == DATA
    assert header.REQUIREMENTS[pos.requirement] == "sign on again"


def test_links_without_parts_of_it() -> None:
    assert header.parse(DATA[:5], "tpdu") == (header.Tpdu("60", "0003", "0001"), None)
    assert header.parse(DATA[5:], "pos6")[0] is None
    assert header.parse(b"", "none") == (None, None)


def test_a_wrong_size_is_refused() -> None:
    with pytest.raises(iso8583.DecodeError) as caught:
        header.parse(DATA[:10], "tpdu+pos6")
    assert str(caught.value) == "header at byte 0: expected 11 bytes, got 10 [length]"


def test_a_host_sets_the_requirement_and_nothing_else() -> None:
    changed = header.with_requirement(DATA, "tpdu+pos6", "4")
    assert changed == bytes.fromhex("60 0003 0001 61 31 04 110801")
    with pytest.raises(ValueError, match="nowhere to put"):
        header.with_requirement(DATA[:5], "tpdu", "4")
    with pytest.raises(ValueError, match="expected one of"):
        header.with_requirement(DATA, "tpdu+pos6", "f")


def test_a_response_swaps_the_addresses_only_where_there_are_any() -> None:
    assert HEADERS["tpdu+pos6"].turned(DATA) == bytes.fromhex("60 0001 0003 61 31 03 110801")
    assert HEADERS["tpdu"].turned(DATA[:5]) == bytes.fromhex("60 0001 0003")
    assert HEADERS["pos6"].turned(DATA[5:]) == DATA[5:]
    assert HEADERS["none"].turned(b"") == b""
