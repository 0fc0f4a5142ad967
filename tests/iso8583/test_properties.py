"""What must hold for every message, not only for those that somebody thought of."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import iso8583
from iso8583 import errors, specfile
from iso8583.spec import FieldSpec

SPECS = {name: iso8583.load(name) for name in specfile.bundled_names()}
CODES = set(errors.DECODE_CODES) - {"size", "header", "missing", "depth"}
SPACED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz "
ALPHABETS = {
    "n": "0123456789",
    "a": SPACED,
    "an": SPACED + "0123456789",
    "ans": "".join(map(chr, range(0x20, 0x7F))),
    "z": "0123456789=ABCEF",
}


def objects() -> st.SearchStrategy[bytes]:
    tags = st.sampled_from(["82", "95", "9F26", "9F10", "DF31", "E1", "5A"])
    pairs = st.lists(st.tuples(tags, st.binary(max_size=30)), max_size=6, unique_by=lambda pair: pair[0])
    return pairs.map(iso8583.tlv.encode)


def track2() -> st.SearchStrategy[str]:
    digits = st.text("0123456789", min_size=1, max_size=17)
    return st.tuples(digits, digits).map("=".join)


def value_of(field: FieldSpec) -> st.SearchStrategy[Any]:
    low, high = field.length_min, min(field.length_max, 60)
    low = min(low, high) if not field.fixed else field.length_max
    high = max(low, high)
    if field.tlv:
        return objects()
    if field.content == "track2":
        return track2()
    if field.content == "b":
        return st.binary(min_size=low, max_size=high)
    if field.content == "xn":
        return st.text("0123456789", min_size=high - 1, max_size=high - 1).map(lambda digits: f"C{digits}")
    if field.encoding == "gbk":
        text = st.text("A 1中国电力缴费", min_size=low // 2, max_size=high)
        return text.map(lambda value: value.encode("gbk")[:high].decode("gbk", "ignore").ljust(low))
    if field.packed and field.length_unit == "bytes":
        low, high = low * 2, high * 2
    return st.text(ALPHABETS[field.content], min_size=low, max_size=high)


@st.composite
def messages(draw: st.DrawFn) -> tuple[iso8583.Spec, dict[int, Any], bytes]:
    spec = SPECS[draw(st.sampled_from(sorted(SPECS)))]
    mti = draw(st.sampled_from(["0200", "0210", "0400", "0500", "0820"]))
    fields = spec.definition.fields_of(spec.definition.variant_for(mti))
    numbers = draw(st.sets(st.sampled_from(sorted(fields)), max_size=12))
    values: dict[int, Any] = {0: mti}
    for number in sorted(numbers):
        field = fields[number]
        value = draw(value_of(field))
        if field.encoding == "gbk" and field.fixed:
            value = "M" * field.length_max
        values[number] = value
    return spec, values, spec.encode(values)


@given(messages())
def test_what_is_encoded_decodes_to_the_same_and_back(case: tuple[iso8583.Spec, dict[int, Any], bytes]) -> None:
    spec, values, data = case
    message = spec.decode(data)
    assert message.to_dict() == values
    assert spec.encode(message.to_dict()) == data
    assert message.patched({}) == data
    assert list(message) == sorted(values)


@given(messages(), st.data())
def test_every_proper_prefix_is_truncated(
    case: tuple[iso8583.Spec, dict[int, Any], bytes], data: st.DataObject
) -> None:
    spec, _, encoded = case
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(iso8583.DecodeError) as caught:
        spec.decode(encoded[:cut])
    assert caught.value.code == "truncated"


@given(messages(), st.data())
def test_a_patch_equals_encoding_anew(case: tuple[iso8583.Spec, dict[int, Any], bytes], data: st.DataObject) -> None:
    spec, values, encoded = case
    fields = spec.definition.fields_of(spec.definition.variant_for(values[0]))
    number = data.draw(st.sampled_from(sorted(fields)))
    field = fields[number]
    value = None if data.draw(st.booleans()) else data.draw(value_of(field))
    if field.encoding == "gbk" and field.fixed and value is not None:
        value = "M" * field.length_max
    patched = spec.decode(encoded).patched({number: value})
    kept_secondary = spec.decode(encoded)
    expected = {**values, number: value}
    if spec.definition.field_max == 64 or any(key > 64 for key in kept_secondary) is any(
        key > 64 and content is not None for key, content in expected.items()
    ):
        assert patched == spec.encode(expected)
    assert spec.decode(patched).to_dict() == {key: content for key, content in expected.items() if content is not None}


@given(st.sampled_from(sorted(SPECS)), st.binary(max_size=200))
def test_arbitrary_bytes_decode_or_raise_decode_error(name: str, data: bytes) -> None:
    check_bytes(SPECS[name], data)


@given(messages(), st.data())
@settings(max_examples=300)
def test_damaged_messages_decode_or_raise_decode_error(
    case: tuple[iso8583.Spec, dict[int, Any], bytes], data: st.DataObject
) -> None:
    spec, _, encoded = case
    damaged = bytearray(encoded)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    check_bytes(spec, bytes(damaged))


def check_bytes(spec: iso8583.Spec, data: bytes) -> None:
    try:
        message = spec.decode(data)
    except iso8583.DecodeError as error:
        assert 0 <= error.offset <= len(data)
        assert error.code in CODES
    else:
        # Whatever was accepted can be read completely, shown, and passed on unchanged.
        values = message.to_dict()
        assert spec.decode(spec.encode(values)).to_dict() == values
        assert message.patched({}) == data
        assert repr(message)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.data())
def test_frames_come_out_the_same_however_the_stream_is_cut(frames: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(iso8583.frame(frame) for frame in frames)
    framer = iso8583.Framer(size_max=40)
    found: list[bytes] = []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        found += framer.feed(stream[:cut])
        stream = stream[cut:]
    assert found == frames
    assert framer.pending == 0


@given(st.binary(max_size=300))
def test_tlv_bytes_decode_or_raise_decode_error(data: bytes) -> None:
    try:
        items = iso8583.tlv.decode(data)
    except iso8583.DecodeError as error:
        assert error.code in ("tlv", "canonical")
    else:
        assert iso8583.tlv.decode(iso8583.tlv.encode(items)) == items
