"""What the trace keeps of a message: never card data, whatever way it is kept."""

from __future__ import annotations

from typing import Any

import pytest

import iso8583
from switch.dialects.shown import CardMessages

HEADER = bytes.fromhex("6000030000603100000000")
SPEC = iso8583.load("kiosk", header="tpdu+pos6")
PLAIN: dict[int, Any] = {0: "0210", 3: "000000", 4: 1234, 11: "000007", 39: "00", 41: "GS000001", 60: "72000001000"}
PAN = "6222000000000017"
TOLD = {
    "mti": "0210",
    "processing_code": "000000",
    "fen": "000000001234",
    "stan": "000007",
    "response_code": "00",
    "terminal": "GS000001",
    "field_60": "72000001000",
}


@pytest.mark.parametrize(
    "secret",
    [
        {},
        {2: PAN},
        {14: "3012"},
        {35: f"{PAN}=30121010000000000"},
        {36: f"99{PAN}==156100"},
        {52: b"PINBLOCK"},
        {53: "2600000000000000"},
        {55: bytes.fromhex("5A086222000000000017")},
        {62: b"working keys"},
    ],
    ids=lambda fields: str(*fields),
)
def test_the_same_is_told_of_every_message_and_no_secret_is_kept(secret: dict[int, Any]) -> None:
    shown = CardMessages(SPEC)
    frame = SPEC.encode({**PLAIN, **secret}, header=HEADER)

    taken = shown.take(frame)

    assert isinstance(taken, bytes) is (not secret)
    assert shown.tell(taken) == TOLD


def test_what_is_no_message_is_not_kept() -> None:
    with pytest.raises(iso8583.DecodeError):
        CardMessages(SPEC).take(SPEC.encode(PLAIN, header=HEADER) + PAN.encode())
