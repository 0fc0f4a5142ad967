"""BER-TLV lists."""

from typing import Any

import pytest

import iso8583
from iso8583 import tlv


def test_order_and_repeated_tags_are_kept() -> None:
    items = [("E1", b"1"), ("9F36", b"\x00\x2a"), ("E1", b"2"), ("DF8101", b"")]
    data = tlv.encode(items)
    assert tlv.decode(data) == items
    assert tlv.first(tlv.decode(data), "e1") == b"1"
    assert tlv.first(tlv.decode(data), "91") is None
    assert tlv.every(tlv.decode(data), "E1") == [b"1", b"2"]


def test_lengths_take_the_shortest_form() -> None:
    assert tlv.encode({"82": bytes(127)})[:2] == b"\x82\x7f"
    assert tlv.encode({"82": bytes(128)})[:3] == b"\x82\x81\x80"
    assert tlv.encode({"82": bytes(256)})[:4] == b"\x82\x82\x01\x00"


def test_objects_nest() -> None:
    data = tlv.encode({"E1": {"D1": b"x", "E2": [("D2", b"y"), ("D2", b"z")]}})
    inner = dict(tlv.decode(data))["E1"]
    assert tlv.every(tlv.decode(dict(tlv.decode(inner))["E2"]), "D2") == [b"y", b"z"]


def test_padding_between_objects_is_skipped() -> None:
    assert tlv.decode(bytes.fromhex("0000 8201FF 00 9501AA 0000")) == [("82", b"\xff"), ("95", b"\xaa")]
    assert tlv.decode(b"\0\0") == []
    assert tlv.decode(b"") == []


@pytest.mark.parametrize(
    ("data", "offset"), [("9F", 7), ("82", 7), ("8202FF", 7), ("8201FF9F36", 10), ("8280", 7), ("9F818181810100", 7)]
)
def test_bad_bytes_are_refused_where_the_object_starts(data: str, offset: int) -> None:
    with pytest.raises(iso8583.DecodeError) as caught:
        tlv.decode(bytes.fromhex(data), path="55", offset=7)
    assert (caught.value.code, caught.value.field, caught.value.offset) == ("tlv", "55", offset)


def test_a_length_is_in_its_shortest_form() -> None:
    for data in ("82 81 7F" + "00" * 127, "82 82 0080" + "00" * 128):
        with pytest.raises(iso8583.DecodeError) as caught:
            tlv.decode(bytes.fromhex(data))
        assert caught.value.code == "canonical"


def test_a_dict_has_each_tag_once() -> None:
    data = bytes.fromhex("9F360201029A03261123DF8101009F1E00")
    assert tlv.to_dict(data) == dict(tlv.decode(data))
    assert tlv.to_dict(bytes.fromhex("000082010100")) == {"82": b"\x01"}
    with pytest.raises(iso8583.DecodeError) as caught:
        tlv.to_dict(bytes.fromhex("8201018201"), path="55")
    assert caught.value.code == "tlv"
    with pytest.raises(iso8583.DecodeError) as caught:
        tlv.to_dict(bytes.fromhex("820101 9F3600 820102"), path="55", offset=100)
    assert (caught.value.code, caught.value.path, caught.value.offset) == ("duplicate", "55.82", 106)


def test_too_many_bytes_are_refused() -> None:
    with pytest.raises(iso8583.DecodeError) as caught:
        tlv.decode(bytes(65536))
    assert caught.value.code == "size"


def test_bad_objects_are_refused_with_their_path() -> None:
    deep: Any = b""
    for _ in range(9):
        deep = {"E1": deep}
    for items, code, path in [
        ({"9F": b""}, "tlv", "55.9F"),
        ({"8201": b""}, "tlv", "55.8201"),
        ({"XY": b""}, "tlv", "55.XY"),
        ({"00": b""}, "tlv", "55.00"),
        ({"": b""}, "tlv", "55."),
        ({"E1": {"9F26": 5}}, "type", "55.E1.9F26"),
        ({"82": bytes(65536)}, "length", "55.82"),
        ([("82",)], "type", "55"),
        ([(82, b"")], "type", "55"),
        (deep, "tlv", "55.E1.E1.E1.E1.E1.E1.E1.E1"),
    ]:
        with pytest.raises(iso8583.EncodeError) as caught:
            tlv.encode(items, path="55")
        assert (caught.value.code, caught.value.path) == (code, path)
