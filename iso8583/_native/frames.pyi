"""Types and docstrings of the compiled frame cutter; see frames.pyx. Use iso8583.framing, which knows the kinds."""

from iso8583.errors import FrameError
from iso8583.spec import Buffer

class Framing:
    """How a frame looks. Immutable; safe to share between threads."""

    def __init__(self, form: str, prefix_size: int, counts_itself: bool, serial: bool) -> None:
        """
        Args:
            form: Of the length prefix: ``"binary"``, ``"bcd"`` or ``"ascii"``.
            prefix_size: Its bytes: 1 to 4; of ASCII digits 1 to 10.
            counts_itself: The length announced includes the prefix.
            serial: STX in front, ETX and LRC behind.
        """

    @property
    def size_max(self) -> int:
        """The most bytes of data that such a frame can have."""

    def wrap(self, data: Buffer) -> bytes:
        """``data`` as a frame. ValueError if it is empty or above ``size_max``."""

class Cutter:
    """One direction of one line: bytes in, frames out."""

    def __init__(self, framing: Framing, size_max: int, empty_allowed: bool) -> None: ...
    @property
    def pending(self) -> int:
        """Bytes that wait for the rest of their frame; always less than one frame. 0 after a fault."""

    @property
    def fault(self) -> FrameError | None:
        """What ended this stream. Look here after each ``feed``: frames in front of the fault are delivered first.

        Always None on a serial line: what is wrong there is skipped and counted.
        """

    @property
    def heartbeats(self) -> int:
        """Frames without data that came so far."""

    @property
    def skipped(self) -> int:
        """Serial: bytes so far that belong to no frame: noise, ACK and NAK, and frames that were discarded."""

    @property
    def discarded(self) -> int:
        """Serial: frames so far that began (an STX) and were given up. What lies inside one is not counted again."""

    @property
    def last_discard(self) -> FrameError | None:
        """Serial: why the last one was discarded: ``prefix``, ``empty``, ``too_long``, ``etx``, ``lrc`` or ``cut``."""

    def feed(self, data: Buffer) -> list[bytes]:
        """Take what was read, return the frames that are now complete, in order, their data only.

        A frame that cannot be accepted is refused as soon as its length prefix is there, before the rest is kept.
        Frames that came in front of it are returned, and the fault is raised by the next call.

        Raises:
            FrameError: ``prefix``, ``empty``, ``too_long``, or ``cut`` after ``end`` has said so. Never on a serial
                line.
            TypeError: ``data`` is not a buffer.
        """

    def end(self) -> list[bytes]:
        """No more bytes belong to those fed so far: the stream is over, or a serial line has fallen silent.

        Call it at end of file, and on a serial line also when nothing came for longer than a sender may pause inside a
        frame (a second is usual). There an incomplete frame is discarded and the frames inside it are returned: a
        frame that was cut short may hide the next ones until then. The line may go on afterwards.

        Raises:
            FrameError: ``cut``: bytes of an incomplete frame are left (never on a serial line); or the earlier fault.
        """
