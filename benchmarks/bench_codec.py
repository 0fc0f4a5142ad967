"""What one UnionPay purchase costs in the codec, next to a call that does nothing. Each case checks its answer."""

from __future__ import annotations

from typing import Any

import pytest

import iso8583

SPEC = iso8583.load("unionpay_pos", header="tpdu+pos6")
HEADER = bytes.fromhex("6000030000603100000000")
# A made-up card: BIN 622200 to 622299 is reserved for tests here, the check digit fits.
FIELDS: dict[int, Any] = {
    0: "0200",
    2: "6222000000000017",
    3: "000000",
    4: 12345,
    11: "000123",
    22: "051",
    23: "001",
    25: "00",
    26: "06",
    35: "6222000000000017=30121010000000000",
    41: "GS000001",
    42: "898110049000001",
    49: "156",
    52: bytes(8),
    53: "2600000000000000",
    60: "22000001000",
    64: b"8456B1CD",
    55: {"9F26": bytes(8), "9F10": bytes(19), "9F37": bytes(4), "9F36": b"\x00\x01", "95": bytes(5), "9F02": bytes(6)},
}
FRAME = SPEC.encode(FIELDS, header=HEADER)


@pytest.mark.benchmark(group="codec")
def test_nothing(benchmark: Any) -> None:
    benchmark(bytes, FRAME)


@pytest.mark.benchmark(group="codec")
def test_decode(benchmark: Any) -> None:
    assert benchmark(SPEC.decode, FRAME).mti == "0200"


@pytest.mark.benchmark(group="codec")
def test_decode_and_read_three(benchmark: Any) -> None:
    def route(frame: bytes) -> tuple[str, str, str]:
        message = SPEC.decode(frame)
        return message.mti, message[11], message[41]

    assert benchmark(route, FRAME) == ("0200", "000123", "GS000001")


@pytest.mark.benchmark(group="codec")
def test_decode_to_dict(benchmark: Any) -> None:
    found = benchmark(lambda frame: SPEC.decode(frame).to_dict(), FRAME)
    assert found[4] == "000000012345" and len(found) == len(FIELDS)


@pytest.mark.benchmark(group="codec")
def test_encode(benchmark: Any) -> None:
    assert benchmark(lambda fields: SPEC.encode(fields, header=HEADER), FIELDS) == FRAME


@pytest.mark.benchmark(group="codec")
def test_patch_two(benchmark: Any) -> None:
    message = SPEC.decode(FRAME)
    patched = benchmark(message.patched, {11: "000124", 64: b"00000000"})
    assert SPEC.decode(patched)[11] == "000124"
