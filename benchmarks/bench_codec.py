"""What a message costs in the codec: the five messages of ``compare/messages.py`` in two forms, one UnionPay purchase.

Every case checks its answer. "nothing" is a call that does nothing: what the measuring itself costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

import iso8583
from benchmarks.compare import messages

TAGS = {"9F26": bytes(8), "9F10": bytes(19), "9F37": bytes(4), "9F36": b"\x00\x01", "95": bytes(5), "9F02": bytes(6)}
# A made-up card: BIN 622200 to 622299 is reserved for tests here, the check digit fits.
PURCHASE: dict[int, Any] = {
    0: "0200",
    2: "6222000000000017",
    3: "000000",
    4: "000000012345",
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
    55: b"".join(bytes.fromhex(tag) + bytes([len(value)]) + value for tag, value in TAGS.items()),
    60: "22000001000",
    64: b"8456B1CD",
}


@dataclass(frozen=True)
class Sample:
    """One message on one link."""

    name: str
    spec: Any
    fields: dict[int, Any]
    header: bytes | None
    data: bytes

    def encoded(self, fields: dict[int, Any]) -> bytes:
        encoded: bytes = self.spec.encode(fields, header=self.header)
        return encoded


def samples() -> list[Sample]:
    found = []
    for form in messages.FORMS.values():
        spec = iso8583.load(form.spec)
        for mti, fields in messages.MESSAGES.items():
            found.append(Sample(f"{form.name}-{mti}", spec, fields, None, form.wire(fields)))
    spec, header = iso8583.load("unionpay_pos", header="tpdu+pos6"), bytes.fromhex("6000030000603100000000")
    found.append(Sample("unionpay-0200", spec, PURCHASE, header, spec.encode(PURCHASE, header=header)))
    return found


SAMPLES = samples()
each_sample = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)


def group(name: str) -> pytest.MarkDecorator:
    """A quarter of a second for each case: there are many, and they are short."""
    return pytest.mark.benchmark(group=name, max_time=0.25, min_time=0.00002)


@group("decode alone")
def test_nothing(benchmark: Any) -> None:
    assert benchmark(bytes, SAMPLES[0].data) == SAMPLES[0].data


@group("decode alone")
@each_sample
def test_decode(benchmark: Any, sample: Sample) -> None:
    assert bytes(benchmark(sample.spec.decode, sample.data)) == sample.data


@group("decode + read 3")
@each_sample
def test_decode_and_read_three(benchmark: Any, sample: Sample) -> None:
    def route(data: bytes) -> tuple[str, str, str]:
        message = sample.spec.decode(data)
        return message[11], message[41], message[42]

    assert benchmark(route, sample.data) == tuple(sample.fields[number] for number in messages.READ)


@group("decode to a map")
@each_sample
def test_decode_to_dict(benchmark: Any, sample: Sample) -> None:
    assert benchmark(lambda data: sample.spec.decode(data).to_dict(), sample.data) == sample.fields


@group("encode")
@each_sample
def test_encode(benchmark: Any, sample: Sample) -> None:
    assert benchmark(sample.spec.encode, sample.fields, header=sample.header) == sample.data


@group("patched alone")
@each_sample
def test_patch_two(benchmark: Any, sample: Sample) -> None:
    message = sample.spec.decode(sample.data)
    assert benchmark(message.patched, messages.PATCH) == sample.encoded({**sample.fields, **messages.PATCH})


@group("F55 to a map")
def test_icc_map(benchmark: Any) -> None:
    # The name is younger than the list of pairs that stands in for it.
    to_dict = iso8583.tlv.to_dict
    assert benchmark(to_dict, messages.ICC) == messages.TAGS
