"""TPDU and message header."""

from dataclasses import replace

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


def test_a_cups_header_comes_apart_and_together() -> None:
    given = (
        bytes.fromhex("2e02") + b"0123" + b"00010000   " + b"49000000   " + bytes(4) + b"00000000" + b"\0" + b"00000"
    )
    found = header.parse_cups(given)
    assert (found.destination, found.source, found.total, found.reject) == ("00010000", "49000000", 123, "00000")
    assert header.build_cups(found) == given
    hosted = header.build_cups(header.CupsHeader(destination="1", source="2", reject=None))
    assert len(hosted) == 41 and header.parse_cups(hosted).reject is None


@pytest.mark.parametrize("given", [b"", bytes(46), b"\x2e" + bytes(40), b"\x2e\x02" + b"\xff" * 44])
def test_what_is_no_cups_header_is_refused(given: bytes) -> None:
    with pytest.raises(iso8583.DecodeError) as caught:
        header.parse_cups(given)
    assert caught.value.path == "header"


@pytest.mark.parametrize("part", [{"destination": "123456789012"}, {"version": "0202"}, {"reject": "é"}])
def test_a_part_of_another_size_is_named(part: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(part))):
        header.build_cups(replace(header.CupsHeader(destination="1", source="2"), **part))  # type: ignore[arg-type]


def test_the_total_length_of_a_cups_header_is_filled_in_and_checked() -> None:
    spec = iso8583.load("unionpay_cups", header="cups")
    front = header.build_cups(header.CupsHeader(destination="00010000", source="49000000"))
    data = spec.encode({0: "0820", 11: "000001", 70: "301"}, header=front)
    assert data[2:6] == f"{len(data):04d}".encode()
    message = spec.decode(data)
    assert header.parse_cups(message.header).total == len(data)
    longer = spec.decode(message.patched({7: "1123101112"}))
    assert header.parse_cups(longer.header).total == len(bytes(longer)) == len(data) + 10
    reply = spec.decode(message.reply({39: "00"}))
    assert header.parse_cups(reply.header).destination == "49000000"
    with pytest.raises(iso8583.DecodeError) as caught:
        spec.decode(data[:2] + b"9999" + data[6:])
    assert (caught.value.code, caught.value.path, caught.value.offset) == ("header", "header", 2)
    assert [finding.code for finding in spec.decode(data[:2] + b"99x9" + data[6:], strict=False).findings] == ["header"]
