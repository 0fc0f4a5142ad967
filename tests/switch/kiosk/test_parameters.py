"""What a kiosk keeps of a download: whole sets only, its own, and nothing that does not prove itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from iso8583 import tlv
from switch.kiosk import JournalError, ParameterFile
from switch.kiosk.parameters import APPLICATIONS, PUBLIC_KEYS, TEXT, question, read_item, read_listing
from switch.limits import KIOSK_DOWNLOAD_ITEMS_MAX
from switch.sim import parameters

KEY = tlv.encode(parameters.KEYS[0])
LISTED = tlv.encode([pair for pair in parameters.KEYS[0] if pair[0] in ("9F06", "9F22", "DF05")])


@pytest.fixture
def file(tmp_path: Path) -> ParameterFile:
    return ParameterFile(tmp_path / "parameters.json", "GS000001")


def reopened(file: ParameterFile) -> ParameterFile:
    return ParameterFile(file.path, "GS000001")


def test_a_set_counts_when_it_is_whole_and_replaces_the_one_before(file: ParameterFile) -> None:
    file.keep(PUBLIC_KEYS, LISTED, KEY)
    assert file.parameters.public_keys == () and reopened(file).coming(PUBLIC_KEYS) == {LISTED: KEY}
    file.finish(PUBLIC_KEYS, [LISTED])
    assert reopened(file).parameters.public_keys == (dict(parameters.KEYS[0]),) and not file.coming(PUBLIC_KEYS)
    file.finish(PUBLIC_KEYS, [])
    assert reopened(file).parameters.public_keys == (), "the acquirer has none any more"


def test_an_item_that_the_listing_names_no_more_does_not_stay(file: ParameterFile) -> None:
    file.keep(APPLICATIONS, b"old", b"\x9c\x01\x01")
    file.keep(APPLICATIONS, b"new", b"\x9c\x01\x02")
    file.finish(APPLICATIONS, [b"new"])
    assert reopened(file).parameters.applications == ({"9C": b"\x02"},)


@pytest.mark.parametrize("content", [b"", b"{", b'{"terminal":1}', b'{"terminal":"GS000001","whole":{"4":["9F"]}}'])
def test_a_damaged_file_says_what_to_do(file: ParameterFile, content: bytes) -> None:
    file.path.write_bytes(content)
    with pytest.raises(JournalError, match="remove it") as raised:
        reopened(file)
    assert raised.value.code == "parameters_damaged"


def test_another_terminals_file_is_refused_and_a_full_disk_told(file: ParameterFile) -> None:
    file.keep(TEXT, b"", b"12")
    with pytest.raises(JournalError) as raised:
        ParameterFile(file.path, "GS000002")
    assert raised.value.code == "journal_foreign"
    gone = ParameterFile(file.path.parent / "none" / "parameters.json", "GS000001")
    with pytest.raises(JournalError) as raised:
        gone.keep(TEXT, b"", b"12")
    assert raised.value.code == "journal_write"


def test_a_listing_tells_its_items_and_whether_more_follow() -> None:
    assert read_listing(PUBLIC_KEYS, b"2" + LISTED + LISTED) == ([LISTED, LISTED], True)
    assert [read_listing(PUBLIC_KEYS, status + LISTED)[1] for status in (b"1", b"3")] == [False, False]
    assert read_listing(PUBLIC_KEYS, b"0") == ([], False)
    assert question(LISTED) == tlv.encode(parameters.KEYS[0][:2])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"4" + LISTED,
        b"1\x9f",
        b"1" + tlv.encode([("9F22", b"\x01")]),
        b"1" + LISTED * (KIOSK_DOWNLOAD_ITEMS_MAX + 1),
    ],
    ids=["empty", "status", "cut", "order", "long"],
)
def test_what_is_no_listing_is_none(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"listing|TLV|items"):
        read_listing(PUBLIC_KEYS, data)


def test_an_item_must_be_the_one_asked_for_and_a_key_fit_its_check_value() -> None:
    assert read_item(PUBLIC_KEYS, LISTED, b"1" + KEY) == KEY
    with pytest.raises(ValueError, match="another item"):
        read_item(PUBLIC_KEYS, LISTED, b"1" + tlv.encode(parameters.KEYS[1]))
    for tag in ("DF02", "DF04", "DF03"):
        spoiled = [
            (name, value[:-1] + bytes([value[-1] ^ 1]) if name == tag else value) for name, value in parameters.KEYS[0]
        ]
        with pytest.raises(ValueError, match="check value"):
            read_item(PUBLIC_KEYS, LISTED, b"1" + tlv.encode(spoiled))
