"""Byte stream to frames and back, without I/O: the caller reads and writes, this cuts.

Kind ``len2``: two bytes, big-endian binary, count everything behind themselves (TPDU, header, message).
Source: UnionPay direct-connect POS.
"""

from __future__ import annotations

from typing import Final

from iso8583._native import next_frame
from iso8583.errors import FrameError

SIZE_MAX: Final = 4096  # bytes; the longest message in use is below 2 KiB
LEN2_MAX: Final = 0xFFFF


class Framer:
    """Cuts one direction of one connection into frames.

    Args:
        kind: ``"len2"``.
        size_max: Bytes of the longest frame to accept, 1 to 65535, length prefix not counted.

    After a fault the stream is out of step and stays so: every later ``feed`` raises. Close the connection.
    """

    __slots__ = ("_buffer", "_fault", "_size_max")

    def __init__(self, kind: str = "len2", size_max: int = SIZE_MAX) -> None:
        if kind != "len2":
            raise ValueError(f"kind {kind!r}: expected 'len2'")
        if not 1 <= size_max <= LEN2_MAX:
            raise ValueError(f"size_max {size_max}: expected 1 to {LEN2_MAX}")
        self._buffer = bytearray()
        self._fault: FrameError | None = None
        self._size_max = size_max

    @property
    def pending(self) -> int:
        """Bytes that wait for the rest of their frame. Not 0 at end of stream: the peer was cut off."""
        return len(self._buffer)

    @property
    def fault(self) -> FrameError | None:
        """What ended this stream. Look here after each ``feed``: frames in front of the fault are delivered first."""
        return self._fault

    def feed(self, data: bytes | bytearray | memoryview) -> list[bytes]:
        """Take what was read, return the frames that are now complete, in order, without their prefixes.

        A frame that cannot be accepted is refused as soon as its two length bytes are there, before the rest is
        kept. Frames that came in front of it are returned, and the fault is raised by the next call.

        Raises:
            FrameError: ``empty`` or ``too_long``.
        """
        if self._fault is not None:
            raise FrameError(self._fault.code, self._fault.detail)
        self._buffer += data
        frames: list[bytes] = []
        offset = 0
        try:
            while (found := next_frame(self._buffer, offset, self._size_max)) is not None:
                start, size = found
                offset = start + size
                frames.append(bytes(self._buffer[start:offset]))
        except FrameError as error:
            self._fault = error
            self._buffer.clear()
            if not frames:
                raise
            return frames
        del self._buffer[:offset]
        assert len(self._buffer) < self._size_max + 2
        return frames


def frame(data: bytes) -> bytes:
    """``data`` with its two-byte length in front.

    Raises:
        ValueError: Empty, or more than 65535 bytes.

    >>> frame(b"abc")
    b'\\x00\\x03abc'
    """
    if not 1 <= len(data) <= LEN2_MAX:
        raise ValueError(f"a frame has 1 to {LEN2_MAX} bytes, not {len(data)}")
    return len(data).to_bytes(2, "big") + data
