"""Messages that several tests share. All card data is synthetic: BIN 622200 to 622299, check digit valid."""

from typing import Any

import pytest

import iso8583

PAN = "6222987654321097"
TRACK2 = f"{PAN}=301220100098765432"
HEADER = bytes.fromhex("6000030000603100123456")


@pytest.fixture
def spec() -> iso8583.Spec:
    return iso8583.load("unionpay_pos")


@pytest.fixture
def purchase_values() -> dict[int, Any]:
    """One value for every field of the spec that a purchase can have, everything sensitive included."""
    return {
        0: "0200",
        2: PAN,
        3: "000000",
        4: "000000001250",
        11: "000007",
        14: "3012",
        22: "021",
        23: "001",
        25: "00",
        26: "06",
        35: TRACK2,
        36: f"99{PAN}=1561560000",
        41: "10000001",
        42: "898100000000001",
        49: "156",
        52: b"\x01\x02\x03\x04\x05\x06\x07\x08",
        53: "2610000000000000",
        55: bytes.fromhex(f"9F260812345678ABCDEF015A08{PAN}5712{PAN}D301220100000000000F"),
        60: "22000001000501",
        62: f"key {PAN}".encode(),
        63: "001",
        64: b"ABCDEF01",
    }


@pytest.fixture
def purchase(spec: iso8583.Spec, purchase_values: dict[int, Any]) -> bytes:
    return spec.encode(purchase_values)
