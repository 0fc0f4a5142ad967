"""Byte streams to frames: every kind, every split, every way to be wrong, and what a hostile line may cost."""

import gc
import tomllib
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import reduce
from operator import xor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import iso8583
from iso8583.framing import KINDS

SERIAL_LENGTHS = ("bcd2", "len2", "ascii4")
# All that Framer and frame() have in common: kind, length, counts_itself.
SHAPES: list[dict[str, Any]] = [
    *({"kind": kind, "counts_itself": own} for kind in KINDS if kind != "serial" for own in (False, True)),
    *({"kind": "serial", "length": length, "counts_itself": own} for length in SERIAL_LENGTHS for own in (False, True)),
]
CONNECTIONS = [shape for shape in SHAPES if shape["kind"] != "serial"]
LINES = [shape for shape in SHAPES if shape["kind"] == "serial"]
VECTORS = tomllib.loads((Path(__file__).parents[1] / "vectors/frames.toml").read_text(encoding="utf-8"))["frame"]


def name_of(shape: dict[str, Any]) -> str:
    return " ".join([*(str(shape[key]) for key in ("kind", "length") if key in shape), "own" * shape["counts_itself"]])


each_shape = pytest.mark.parametrize("shape", SHAPES, ids=name_of)
each_connection = pytest.mark.parametrize("shape", CONNECTIONS, ids=name_of)
each_line = pytest.mark.parametrize("shape", LINES, ids=name_of)


def overhead_of(shape: dict[str, Any]) -> int:
    return len(iso8583.frame(b"x", **shape)) - 1


def cut(stream: bytes, data: st.DataObject) -> Iterator[bytes]:
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        yield stream[:size]
        stream = stream[size:]


# ---- every kind, every split ---------------------------------------------------------------------


def bytes_of(text: str) -> bytes:
    return bytes.fromhex(text[4:]) if text.startswith("hex:") else text.encode("ascii")


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["title"])
def test_golden_streams_come_out_at_every_split(vector: dict[str, Any]) -> None:
    stream = bytes.fromhex("".join(line.split("#")[0] for line in vector["hex"].splitlines()))
    expected = [bytes_of(text) for text in vector["data"]]
    late = [bytes_of(text) for text in vector.get("late", [])]
    for size in range(len(stream) + 1):
        framer = iso8583.Framer(**vector["framer"])
        assert framer.feed(stream[:size]) + framer.feed(stream[size:]) == expected
        assert framer.end() == late
        assert (framer.pending, framer.fault) == (0, None)
        assert (framer.skipped, framer.discarded) == (vector.get("skipped", 0), vector.get("discarded", 0))
        assert (framer.last_discard and framer.last_discard.code) == vector.get("reason")
    if vector.get("canonical", True):
        shape = {key: value for key, value in vector["framer"].items() if key != "heartbeats"}
        assert b"".join(iso8583.frame(data, **shape) for data in expected) == stream


def test_there_is_a_golden_stream_of_every_kind() -> None:
    assert {vector["framer"]["kind"] for vector in VECTORS} == set(KINDS)


@each_shape
@given(messages=st.lists(st.binary(min_size=1, max_size=40), max_size=6), data=st.data())
@settings(max_examples=40)
def test_frames_come_out_the_same_however_the_stream_is_cut(
    shape: dict[str, Any], messages: list[bytes], data: st.DataObject
) -> None:
    framer = iso8583.Framer(size_max=40, **shape)
    found: list[bytes] = []
    for portion in cut(b"".join(iso8583.frame(message, **shape) for message in messages), data):
        found += framer.feed(portion)
        assert framer.pending < 40 + overhead_of(shape)
    assert found == messages
    assert framer.end() == []
    assert (framer.pending, framer.skipped, framer.discarded) == (0, 0, 0)


@each_shape
def test_one_byte_at_a_time(shape: dict[str, Any]) -> None:
    messages = [bytes([n % 256]) * n for n in (1, 2, 255, 256, 300, 4096)]
    stream = b"".join(iso8583.frame(message, **shape) for message in messages)
    framer = iso8583.Framer(**shape)
    found = []
    for byte in stream:
        pending = framer.pending
        frames = framer.feed(bytes([byte]))
        assert framer.pending == (0 if frames else pending + 1)
        found += frames
    assert found == messages


@each_shape
def test_the_largest_frame_travels(shape: dict[str, Any]) -> None:
    digits = {"len2": 65535, "bcd2": 9999, "ascii4": 9999}
    bound = digits.get(shape.get("length", shape["kind"]), 1 << 24)
    if shape["counts_itself"] and bound != 1 << 24:
        bound -= overhead_of(shape) - 3 * (shape["kind"] == "serial")
    data = bytes(range(256)) * (bound // 256) + bytes(bound % 256)
    stream = iso8583.frame(data, **shape)
    assert iso8583.Framer(size_max=bound, **shape).feed(stream) == [data]
    for wrong in (b"", data + b"x"):
        with pytest.raises(ValueError, match=f"a frame has 1 to {bound} bytes, not {len(wrong)}"):
            iso8583.frame(wrong, **shape)
    with pytest.raises(ValueError, match=f"size_max {bound + 1}: expected 1 to {bound}"):
        iso8583.Framer(size_max=bound + 1, **shape)


def test_frames_arrive_in_pieces_and_together() -> None:
    framer = iso8583.Framer()
    assert framer.feed(b"\x00") == []
    assert framer.pending == 1
    assert framer.feed(b"\x03ab") == []
    assert framer.feed(b"c\x00\x01d\x00") == [b"abc", b"d"]
    assert framer.pending == 1
    assert framer.feed(memoryview(b"\x02ef")) == [b"ef"]
    assert framer.feed(b"") == []
    assert framer.pending == 0


def test_every_kind_of_buffer_is_taken_and_none_is_kept() -> None:
    framer = iso8583.Framer()
    data = bytearray(b"\x00\x03ab")
    assert framer.feed(data) == []
    data[:] = b"c"  # a buffer still held could not be resized
    assert framer.feed(memoryview(data)) == [b"abc"]
    data += iso8583.frame(memoryview(b"ef")) + iso8583.frame(bytearray(b"g"))
    assert framer.feed(memoryview(data)[1:]) == [b"ef", b"g"]
    data.clear()
    data += b"h"
    assert iso8583.frame(data) == b"\x00\x01h"
    data.clear()
    assert all(type(found) is bytes for found in framer.feed(bytearray(b"\x00\x01x")))


# ---- a connection that is wrong ends -------------------------------------------------------------


def test_a_frame_too_long_is_refused_at_its_prefix_for_good() -> None:
    framer = iso8583.Framer(size_max=16)
    assert framer.feed(b"\x00\x10" + bytes(16)) == [bytes(16)]
    with pytest.raises(iso8583.FrameError) as caught:
        framer.feed(b"\x00\x11")
    assert str(caught.value) == "frame: 17 bytes announced, at most 16 are allowed [too_long]"
    assert framer.pending == 0
    with pytest.raises(iso8583.FrameError) as caught:
        framer.feed(b"\x00\x01a")
    assert caught.value.code == "too_long"
    with pytest.raises(iso8583.FrameError) as caught:
        framer.end()
    assert caught.value.code == "too_long"


def test_frames_in_front_of_a_fault_are_delivered_first() -> None:
    framer = iso8583.Framer()
    assert framer.feed(b"\x00\x01a\x00\x01b\x00\x00rest") == [b"a", b"b"]
    assert framer.fault is not None and framer.fault.code == "empty"
    with pytest.raises(iso8583.FrameError) as caught:
        framer.feed(b"")
    assert str(caught.value) == "frame: a length prefix of 0 [empty]"
    assert caught.value is not framer.fault and caught.value.__traceback__ is not None
    assert framer.fault.__traceback__ is None


@pytest.mark.parametrize(
    ("arguments", "stream", "text"),
    [
        ({"kind": "len4"}, b"\0\1\0\0", "65536 bytes announced, at most 4096 are allowed [too_long]"),
        ({"kind": "len4"}, b"\0\0\0\0", "a length prefix of 0 [empty]"),
        ({"counts_itself": True}, b"\0\1", "a length prefix of 1 that counts its own 2 bytes [prefix]"),
        ({"counts_itself": True}, b"\0\2", "a length prefix of 0 [empty]"),
        (
            {"kind": "ascii4", "counts_itself": True},
            b"0003",
            "a length prefix of 3 that counts its own 4 bytes [prefix]",
        ),
        ({"kind": "bcd2"}, b"\0\x1a", "length prefix is not made of decimal digits [prefix]"),
        ({"kind": "ascii4"}, b"00 3", "length prefix is not made of decimal digits [prefix]"),
        ({"kind": "ascii10"}, b"9999999999", "9999999999 bytes announced, at most 4096 are allowed [too_long]"),
        # What the peer seems to speak instead.
        ({}, b"00", "12336 bytes announced, at most 4096 are allowed; looks like a length of ASCII digits [too_long]"),
        ({}, b"\x16\x03", "5635 bytes announced, at most 4096 are allowed; looks like the start of TLS [too_long]"),
        ({}, b"GE", "18245 bytes announced, at most 4096 are allowed; looks like text, perhaps HTTP [too_long]"),
        (
            {"kind": "ascii4"},
            b"\0\x57`\0",
            "length prefix is not made of decimal digits; looks like a binary length [prefix]",
        ),
    ],
)
def test_what_is_wrong_is_said_with_sizes_only(arguments: dict[str, Any], stream: bytes, text: str) -> None:
    framer = iso8583.Framer(**arguments)
    with pytest.raises(iso8583.FrameError) as caught:
        framer.feed(stream + b"secret")
    assert str(caught.value) == f"frame: {text}"

    # Behind a frame that came in two portions: found in what the framer had kept, and where it lies.
    front = iso8583.frame(b"x", **arguments)
    for size in range(1, len(front)):
        framer = iso8583.Framer(**arguments)
        assert framer.feed(front[:size]) == []
        assert framer.feed(front[size:] + stream + b"secret") == [b"x"]
        assert str(framer.fault) == f"frame: {text}"
    framer = iso8583.Framer(**arguments)
    with pytest.raises(iso8583.FrameError) as caught:
        for i in range(len(stream)):
            framer.feed(stream[i : i + 1])
    assert str(caught.value) == f"frame: {text}"


def test_a_prefix_is_refused_at_its_first_wrong_digit() -> None:
    framer = iso8583.Framer("ascii10")
    assert framer.feed(b"0") == []
    with pytest.raises(iso8583.FrameError) as caught:
        framer.feed(b"x")
    assert caught.value.code == "prefix"


@each_connection
def test_the_end_of_a_stream_inside_a_frame_is_a_fault(shape: dict[str, Any]) -> None:
    stream = iso8583.frame(b"abc", **shape)
    for size in range(len(stream) + 1):
        framer = iso8583.Framer(**shape)
        framer.feed(stream[:size])
        if size in (0, len(stream)):
            assert framer.end() == []
            assert framer.feed(stream) == [b"abc"]  # nothing was wrong, so it may go on
        else:
            for _ in range(2):
                with pytest.raises(iso8583.FrameError) as caught:
                    framer.end()
                assert caught.value.code == "cut"
            with pytest.raises(iso8583.FrameError) as caught:
                framer.feed(b"")
            assert caught.value.code == "cut"
            assert framer.fault is not None and framer.fault.code == "cut"
            assert framer.pending == 0


def test_the_end_says_how_much_was_there() -> None:
    for stream, text in [
        (b"\0", "the stream ends inside a length prefix: 1 of 2 bytes"),
        (b"\0\5abc", "the stream ends inside a frame: 5 of 7 bytes, length prefix included"),
    ]:
        framer = iso8583.Framer()
        framer.feed(stream)
        with pytest.raises(iso8583.FrameError) as caught:
            framer.end()
        assert str(caught.value) == f"frame: {text} [cut]"


def heartbeat_of(shape: dict[str, Any]) -> bytes:
    """What frame() never writes: a frame without data."""
    length = shape.get("length", shape["kind"])
    size = {"len2": 2, "len4": 4, "bcd2": 2, "ascii4": 4, "ascii10": 10}[length]
    announced = size * shape["counts_itself"]
    if length.startswith("ascii"):
        prefix = f"{announced:0{size}}".encode("ascii")
    else:
        prefix = announced.to_bytes(size, "big")  # BCD too: below ten they are the same
    if shape["kind"] != "serial":
        return prefix
    return b"\x02" + prefix + bytes([3, reduce(xor, prefix, 3)])


@each_shape
def test_a_heartbeat_is_counted_and_not_delivered(shape: dict[str, Any]) -> None:
    beat = heartbeat_of(shape)
    stream = beat + iso8583.frame(b"abc", **shape) + beat + beat
    framer = iso8583.Framer(heartbeats=True, **shape)
    assert framer.feed(stream) == [b"abc"]
    assert [found for i in range(len(stream)) for found in framer.feed(stream[i : i + 1])] == [b"abc"]
    assert (framer.heartbeats, framer.skipped, framer.pending) == (6, 0, 0)


@each_shape
def test_a_heartbeat_that_nobody_agreed_on_is_wrong(shape: dict[str, Any]) -> None:
    framer = iso8583.Framer(**shape)
    if shape["kind"] == "serial":
        assert framer.feed(heartbeat_of(shape) + b"...") == []
        assert framer.last_discard is not None and framer.last_discard.code == "empty"
    else:
        with pytest.raises(iso8583.FrameError) as caught:
            framer.feed(heartbeat_of(shape))
        assert caught.value.code == "empty"
    assert framer.heartbeats == 0


# ---- a serial line goes on -----------------------------------------------------------------------


def frames_of(stream: bytes, size_max: int, shape: dict[str, Any]) -> tuple[list[bytes], int]:
    """The rule in words: at every STX, is there a whole good frame? If so take it, if not go one byte on."""
    sizes: dict[str, tuple[int, Callable[[bytes], int]]] = {
        "len2": (2, lambda prefix: int.from_bytes(prefix, "big")),
        "bcd2": (2, lambda prefix: int(prefix.hex())),
        "ascii4": (4, lambda prefix: int(prefix.decode("ascii")) if prefix.isdigit() else -1),
    }
    prefix_size, value = sizes[shape["length"]]
    found = []
    skipped = at = 0
    while at < len(stream):
        start = at + 1 + prefix_size
        try:
            size = value(stream[at + 1 : start]) - prefix_size * shape["counts_itself"]
        except ValueError:
            size = -1
        end = start + size
        trailer = bytes([3, reduce(xor, stream[at + 1 : end], 3)])
        if stream[at] == 2 and 1 <= size <= size_max and stream[end : end + 2] == trailer:
            found.append(stream[start:end])
            at = end + 2
        else:
            skipped += 1
            at += 1
    return found, skipped


@st.composite
def serial_streams(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    """Frames, frames with a byte changed, frames cut short, and noise that is fond of STX, ETX and small lengths."""
    shape = draw(st.sampled_from(LINES))
    fond = st.lists(st.sampled_from(b"\x02\x03\x00\x01\x04\x0503\xff"), max_size=12).map(bytes)
    parts = []
    for _ in range(draw(st.integers(0, 7))):
        part = draw(fond)
        fate = draw(st.sampled_from(["noise", "good", "good", "changed", "cut"]))
        if fate != "noise" and part:
            part = iso8583.frame(part, **shape)
        if fate == "changed" and part:
            at = draw(st.integers(0, len(part) - 1))
            part = part[:at] + draw(st.binary(min_size=1, max_size=1)) + part[at + 1 :]
        if fate == "cut":
            part = part[: draw(st.integers(0, len(part)))]
        parts.append(part)
    return shape, b"".join(parts)


@given(serial_streams(), st.integers(1, 20), st.data())
@settings(max_examples=600)
def test_a_serial_line_yields_what_the_rule_in_words_yields(
    case: tuple[dict[str, Any], bytes], size_max: int, data: st.DataObject
) -> None:
    shape, stream = case
    expected, skipped = frames_of(stream, size_max, shape)
    framer = iso8583.Framer(size_max=size_max, **shape)
    found: list[bytes] = []
    for portion in cut(stream, data):
        found += framer.feed(portion)
        assert framer.fault is None
        assert framer.pending < size_max + overhead_of(shape)
        assert found == expected[: len(found)]
    found += framer.end()
    assert found == expected
    assert (framer.skipped, framer.pending) == (skipped, 0)
    assert framer.skipped + sum(len(iso8583.frame(one, **shape)) for one in found) == len(stream)
    assert (framer.last_discard is None) == (framer.discarded == 0)
    assert framer.discarded <= framer.skipped

    whole = iso8583.Framer(size_max=size_max, **shape)
    assert whole.feed(stream) + whole.end() == expected
    assert (whole.discarded, str(whole.last_discard)) == (framer.discarded, str(framer.last_discard))


@each_line
@pytest.mark.parametrize("at", range(12))
def test_a_good_frame_comes_out_behind_one_with_any_byte_changed(shape: dict[str, Any], at: int) -> None:
    broken, good = iso8583.frame(b"abcde", **shape), iso8583.frame(b"fgh", **shape)
    if at >= len(broken):
        at -= len(broken)
    for value in range(256):
        framer = iso8583.Framer(**shape)
        stream = broken[:at] + bytes([value]) + broken[at + 1 :] + good
        found = framer.feed(stream) + framer.end()
        assert found == ([b"abcde", b"fgh"] if value == broken[at] else [b"fgh"]), value
        assert framer.skipped == (0 if value == broken[at] else len(broken))


@each_line
def test_a_good_frame_comes_out_behind_one_cut_at_any_byte(shape: dict[str, Any]) -> None:
    broken, good = iso8583.frame(b"abcde", **shape), iso8583.frame(b"fgh", **shape)
    for size in range(1, len(broken)):
        framer = iso8583.Framer(**shape)
        stream = broken[:size] + good
        assert framer.feed(stream) + framer.end() == [b"fgh"], size
        assert framer.skipped == size
        assert framer.discarded == 1
        # Those that follow push it out: nobody has to call end() on a busy line.
        framer = iso8583.Framer(size_max=20, **shape)
        assert framer.feed(broken[:size] + good * 10)[:1] == [b"fgh"], size


def test_what_lies_inside_a_good_frame_is_never_a_frame_of_its_own() -> None:
    inner = iso8583.frame(b"abc", "serial")
    stream = iso8583.frame(inner * 3, "serial")
    framer = iso8583.Framer("serial")
    for i in range(len(stream) - 1):
        assert framer.feed(stream[i : i + 1]) == []
    assert framer.feed(stream[-1:]) == [inner * 3]


@pytest.mark.parametrize(
    ("stream", "text"),
    [
        (b"\x02\x00\x0a", "length prefix is not made of decimal digits [prefix]"),
        (b"\x02\x00\x00", "a length prefix of 0 [empty]"),
        (b"\x02\x50\x00", "5000 bytes announced, at most 4096 are allowed [too_long]"),
        (b"\x02\x00\x01a\x04\x66", "no ETX behind 1 byte of data [etx]"),
        (b"\x02\x00\x02ab\x03\x66", "the check byte behind 2 bytes of data does not fit [lrc]"),
        (b"\x02\x00\x05ab", "the line fell silent inside a frame of 5 bytes [cut]"),
        (b"\x02\x00", "the line fell silent inside a length prefix [cut]"),
    ],
)
def test_a_serial_line_says_why_a_frame_was_discarded(stream: bytes, text: str) -> None:
    framer = iso8583.Framer("serial")
    assert framer.last_discard is None
    assert framer.feed(stream) + framer.end() == []
    assert str(framer.last_discard) == f"frame: {text}"
    assert framer.fault is None
    assert (framer.discarded, framer.skipped) == (1, len(stream))
    assert framer.feed(iso8583.frame(b"abc", "serial")) == [b"abc"]
    assert framer.discarded == 1


def test_the_reason_is_told_for_every_form_of_length() -> None:
    for length, stream in [("ascii4", b"\x0200x0"), ("ascii4", b"\x02\0\0"), ("bcd2", b"\x02\0\x0f")]:
        framer = iso8583.Framer("serial", length=length)
        framer.feed(stream)
        assert str(framer.last_discard) == "frame: length prefix is not made of decimal digits [prefix]"


def test_a_broken_frame_full_of_starts_counts_once() -> None:
    broken = bytearray(iso8583.frame(b"\x02\x0a\x02\x00\x01x\x03\xff\x02\x99", "serial"))
    broken[-1] ^= 1
    framer = iso8583.Framer("serial")
    assert framer.feed(bytes(broken) + iso8583.frame(b"abc", "serial")) == [b"abc"]
    assert framer.discarded == 1
    assert framer.last_discard is not None and framer.last_discard.code == "lrc"


# ---- hostile input -------------------------------------------------------------------------------


@each_shape
@given(stream=st.binary(max_size=300), data=st.data())
@example(stream=bytes(300), data=None)
@example(stream=b"\x02" * 300, data=None)
@example(stream=b"\x02\x00\x01\x03" * 75, data=None)
@example(stream=b"0" * 300, data=None)
@settings(max_examples=40)
def test_any_bytes_are_frames_or_one_documented_error(
    shape: dict[str, Any], stream: bytes, data: st.DataObject | None
) -> None:
    framer = iso8583.Framer(size_max=50, **shape)
    portions = cut(stream, data) if data else [stream[i : i + 1] for i in range(len(stream))]
    try:
        for portion in portions:
            assert all(1 <= len(found) <= 50 for found in framer.feed(portion))
            assert framer.pending < 50 + overhead_of(shape)
            assert framer.fault is None or framer.pending == 0
        framer.end()
    except iso8583.FrameError as error:
        assert shape["kind"] != "serial"
        assert error.code in {"prefix", "empty", "too_long", "cut"}
        assert framer.fault is not None and framer.fault.code == error.code
    assert framer.pending == 0


# The last two are the dearest that there are: every fourth byte starts a frame that ends in ETX, so that its check byte
# is summed up, in vain.
@pytest.mark.parametrize(
    "pattern",
    [b"\xff", b"\x02", b"\x02\x40\x96", b"\x02\x40\x88\x03", b"\x02\x00\x01\x03"],
    ids=lambda pattern: pattern.hex(),
)
@pytest.mark.parametrize("portion", [1000, 1 << 20])
def test_a_megabyte_of_noise_costs_no_memory_and_the_next_frame_comes_out(pattern: bytes, portion: int) -> None:
    noise = pattern * ((1 << 20) // len(pattern))
    framer = iso8583.Framer("serial")
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for at in range(0, len(noise), portion):
            assert framer.feed(noise[at : at + portion]) == []
            assert framer.pending <= 4096 + 5
            assert tracemalloc.get_traced_memory()[0] - before < 20_000
    finally:
        tracemalloc.stop()
    assert framer.feed(iso8583.frame(b"abc", "serial")) + framer.end() == [b"abc"]
    assert framer.skipped == len(noise)


@pytest.mark.parametrize("kind", ["len4", "ascii10"])
def test_memory_follows_the_bytes_that_came_and_not_the_length_announced(kind: str) -> None:
    prefix = iso8583.frame(bytes(1 << 24), kind)[:10] + b"abc"
    frame = iso8583.frame(bytes(4000), kind)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        framers = [iso8583.Framer(kind, 1 << 24) for _ in range(100)]
        for framer in framers:
            # What was needed for one frame is given back behind it.
            framer.feed(frame[:3000])
            assert framer.feed(frame[3000:] + prefix) == [bytes(4000)]
            assert framer.pending == len(prefix)
        assert tracemalloc.get_traced_memory()[0] - before < 100_000
    finally:
        tracemalloc.stop()


def test_nothing_is_kept_when_nothing_is_pending_and_nothing_leaks() -> None:
    large = iso8583.frame(bytes(4000))
    framer = iso8583.Framer()
    line = iso8583.Framer("serial")

    def work() -> None:
        framer.feed(large[:3999])
        framer.feed(large[3999:])
        line.feed(b"noise\x02\x10\x00" + bytes(500))
        line.end()
        dropped = iso8583.Framer()
        dropped.feed(large[:3999])
        again = iso8583.Framer()
        again.feed(large[:3999])
        iso8583.Framer.__init__(again, "len4")
        again.feed(b"\0\0\0")
        assert again.feed(b"\1a") == [b"a"]
        refused = iso8583.Framer()
        refused.feed(large + b"\0")
        with suppress(iso8583.FrameError):
            refused.feed(b"\0")
        assert refused.fault is not None

    work()
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(1000):
            work()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 8_000  # 8 bytes a round
    finally:
        tracemalloc.stop()


def test_a_framer_keeps_less_than_one_frame() -> None:
    framer = iso8583.Framer(size_max=100)
    for _ in range(1000):
        framer.feed(b"\x00\x64" + bytes(99))
        assert framer.pending < 102
        framer.feed(b"\x00")


# ---- misuse --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"kind": "len3"}, "kind 'len3': expected 'len2', 'len4', 'bcd2', 'ascii4', 'ascii10' or 'serial'"),
        ({"kind": "len4", "length": "len2"}, "length 'len2': kind 'len4' has its own; only 'serial' takes one"),
        ({"kind": "serial", "length": "len4"}, "length 'len4': expected 'bcd2', 'len2' or 'ascii4'"),
        ({"size_max": 0}, "size_max 0: expected 1 to 65535"),
        ({"size_max": -1}, "size_max -1: expected 1 to 65535"),
        ({"size_max": 1 << 64}, f"size_max {1 << 64}: expected 1 to 65535"),
        ({"size_max": 65536}, "size_max 65536: expected 1 to 65535"),
        ({"size_max": 65534, "counts_itself": True}, "size_max 65534: expected 1 to 65533"),
        ({"kind": "bcd2", "size_max": 10000}, "size_max 10000: expected 1 to 9999"),
        ({"kind": "ascii10", "size_max": (1 << 24) + 1}, "size_max 16777217: expected 1 to 16777216"),
        ({"kind": "serial", "length": "len2", "size_max": 65536}, "size_max 65536: expected 1 to 65535"),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_allowed(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError) as caught:
        iso8583.Framer(**arguments)
    assert str(caught.value) == text
    if "size_max" not in arguments:
        with pytest.raises(ValueError) as caught:
            iso8583.frame(b"x", **arguments)
        assert str(caught.value) == text


def test_what_is_no_buffer_is_a_type_error_and_harms_nothing() -> None:
    framer = iso8583.Framer()
    framer.feed(b"\0\3a")
    for wrong in ("bc", 5, None, ["bc"]):
        with pytest.raises(TypeError):
            framer.feed(wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            iso8583.frame(wrong)  # type: ignore[arg-type]
    with pytest.raises(BufferError):
        framer.feed(memoryview(b"b-c-")[::2])
    assert framer.feed(b"bc") == [b"abc"]


def test_a_framer_that_is_set_up_again_begins_anew() -> None:
    framer = iso8583.Framer("serial", heartbeats=True)
    framer.feed(b"noise\x02\x0a" + heartbeat_of({"kind": "serial", "length": "bcd2", "counts_itself": False}) + b"\x02")
    assert (framer.heartbeats, framer.skipped, framer.discarded, framer.pending) == (1, 7, 1, 1)
    iso8583.Framer.__init__(framer, "serial")
    assert (framer.heartbeats, framer.skipped, framer.discarded, framer.pending) == (0, 0, 0, 0)
    assert framer.last_discard is None


def test_a_framer_that_was_never_set_up_says_so() -> None:
    framer = iso8583.Framer.__new__(iso8583.Framer)
    assert (framer.pending, framer.fault, framer.last_discard) == (0, None, None)
    with pytest.raises(TypeError, match="not initialised"):
        framer.feed(b"\0\1a")
    with pytest.raises(TypeError, match="not initialised"):
        framer.end()
