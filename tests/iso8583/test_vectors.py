"""The golden messages of tests/vectors: decoded, encoded, cut at every byte."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

import iso8583

FILES = sorted((Path(__file__).parents[1] / "vectors").glob("*.toml"))
VECTORS = [vector for path in FILES for vector in tomllib.loads(path.read_text(encoding="utf-8")).get("vector", [])]
each_vector = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["title"])


def data_of(vector: dict[str, Any]) -> bytes:
    return bytes.fromhex("".join(line.split("#")[0] for line in vector["hex"].splitlines()))


def values_of(vector: dict[str, Any]) -> dict[int, Any]:
    return {
        int(number): bytes.fromhex(text[4:]) if text.startswith("hex:") else text
        for number, text in vector["fields"].items()
    }


@each_vector
def test_bytes_decode_to_the_fields(vector: dict[str, Any]) -> None:
    message = iso8583.load(vector["spec"], header=vector["header"]).decode(data_of(vector))
    assert message.to_dict() == values_of(vector)
    assert list(message) == sorted(values_of(vector))


@each_vector
def test_fields_encode_to_the_bytes(vector: dict[str, Any]) -> None:
    spec = iso8583.load(vector["spec"], header=vector["header"])
    data = data_of(vector)
    encoded = spec.encode(values_of(vector), header=data[: spec.header.size])
    if vector.get("canonical", True):
        assert encoded == data
    else:
        assert encoded != data
        assert spec.decode(encoded).to_dict() == values_of(vector)


@each_vector
def test_every_prefix_is_truncated_and_a_byte_more_is_trailing(vector: dict[str, Any]) -> None:
    spec = iso8583.load(vector["spec"], header=vector["header"])
    data = data_of(vector)
    for size in range(len(data)):
        with pytest.raises(iso8583.DecodeError) as caught:
            spec.decode(data[:size])
        assert caught.value.code == "truncated", size
        assert caught.value.offset <= size
    with pytest.raises(iso8583.DecodeError) as caught:
        spec.decode(data + b"\0")
    assert (caught.value.code, caught.value.offset) == ("trailing", len(data))


@each_vector
def test_an_empty_patch_changes_nothing(vector: dict[str, Any]) -> None:
    data = data_of(vector)
    assert iso8583.load(vector["spec"], header=vector["header"]).decode(data).patched({}) == data


@each_vector
def test_the_framer_finds_the_message_at_every_split(vector: dict[str, Any]) -> None:
    data = data_of(vector)
    stream = iso8583.frame(data)
    for cut in range(len(stream) + 1):
        framer = iso8583.Framer()
        assert framer.feed(stream[:cut]) + framer.feed(stream[cut:]) == [data]
        assert framer.pending == 0


def test_test_cards_are_synthetic() -> None:
    pans = {vector["fields"]["2"] for vector in VECTORS if "2" in vector["fields"]}
    assert pans
    for pan in pans:
        assert "622200" <= pan[:6] <= "622299"
        assert iso8583.luhn_ok(pan)
