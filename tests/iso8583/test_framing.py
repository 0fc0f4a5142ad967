"""Byte streams to frames."""

import pytest

import iso8583


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


def test_frames_in_front_of_a_fault_are_delivered_first() -> None:
    framer = iso8583.Framer()
    assert framer.feed(b"\x00\x01a\x00\x01b\x00\x00rest") == [b"a", b"b"]
    assert framer.fault is not None and framer.fault.code == "empty"
    with pytest.raises(iso8583.FrameError) as caught:
        framer.feed(b"")
    assert str(caught.value) == "frame: a length prefix of 0 [empty]"


def test_a_framer_keeps_less_than_one_frame() -> None:
    framer = iso8583.Framer(size_max=100)
    for _ in range(1000):
        framer.feed(b"\x00\x64" + bytes(99))
        assert framer.pending < 102
        framer.feed(b"\x00")


def test_a_frame_counts_what_follows() -> None:
    assert iso8583.frame(b"abc") == b"\x00\x03abc"
    assert iso8583.frame(bytes(65535))[:2] == b"\xff\xff"
    for wrong in (b"", bytes(65536)):
        with pytest.raises(ValueError, match="a frame has 1 to 65535 bytes"):
            iso8583.frame(wrong)


def test_misuse_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="expected 'len2'"):
        iso8583.Framer(kind="len4")
    for size_max in (0, 65536):
        with pytest.raises(ValueError, match="expected 1 to 65535"):
            iso8583.Framer(size_max=size_max)
