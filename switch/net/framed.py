# cython: annotation_typing=False, binding=False
"""One connection that carries frames: ``ports.Wire`` over an asyncio transport.

Bytes in: split into frames, size and time bounded. Frames out: collected, and written once per loop turn, because a
write costs the kernel far more than a frame costs us.

What was written matters for money: a purchase that provably never left needs no reversal. So a frame waits in this
object until the one ``transport.write`` that carries it, and whatever still waits when the wire is lost is named by
``unflushed``. While the peer reads slowly nothing is written, for the same reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, cast

from switch import limits
from switch.net import tcp
from switch.ports import Observer, WireHandler

Tap = Callable[[str, str, bytes], None]


@dataclass(frozen=True, slots=True)
class Framing:
    """How frames are told apart: a length in front that does not count itself, big-endian or in ASCII digits."""

    name: str
    prefix_bytes: int
    size_max: int  # bytes of one frame without its prefix
    in_digits: bool = False

    def __post_init__(self) -> None:
        assert 0 < self.size_max < (10**self.prefix_bytes if self.in_digits else 1 << 8 * self.prefix_bytes)

    def prefix(self, size: int) -> bytes:
        """
        >>> LEN2.prefix(258), DIGITS10.prefix(258)
        (b'\x01\x02', b'0000000258')
        """
        return b"%0*d" % (self.prefix_bytes, size) if self.in_digits else size.to_bytes(self.prefix_bytes, "big")

    def size(self, prefix: bytes) -> int:
        """What a whole prefix says of the frame behind it. Raises ValueError: digits were expected."""
        return int(prefix) if self.in_digits else int.from_bytes(prefix, "big")


LEN2: Final = Framing("len2", 2, limits.FRAME_SIZE_MAX)  # kiosks and UnionPay
LEN4: Final = Framing("len4", 4, limits.MARKETING_FRAME_SIZE_MAX)  # marketing_json
DIGITS10: Final = Framing("digits10", 10, limits.MARKETING_FRAME_SIZE_MAX, in_digits=True)  # marketing_ydlw
FRAMINGS: Final = {framing.name: framing for framing in (LEN2, LEN4, DIGITS10)}


class Splitter:
    """Bytes in any portions to frames.

    Never holds more than one incomplete frame beside the portion at hand, and copies each byte at most twice.

    >>> splitter = Splitter(LEN2)
    >>> splitter.feed(b"\\0\\2ab\\0"), splitter.feed(b"\\3c"), splitter.feed(b"de")
    ([b'ab'], [], [b'cde'])
    """

    __slots__ = ("_prefix_bytes", "_rest", "_size_max", "too_long")

    def __init__(self, framing: Framing) -> None:
        self._prefix_bytes = framing.prefix_bytes
        self._size_max = framing.size_max
        self._rest = bytearray()  # an incomplete frame with its prefix
        self.too_long = 0  # the length that was refused; from then on nothing is taken

    @property
    def trouble(self) -> str:
        """Why the stream is lost; "": it is not."""
        if not self.too_long:
            return ""
        return f"announced a frame of {self.too_long} bytes; the largest is {self._size_max}"

    @property
    def partial(self) -> bool:
        return bool(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that ``data`` completes, in order. After it, ``too_long`` tells whether the stream is lost."""
        if self.too_long:
            return []
        prefix_bytes = self._prefix_bytes
        rest = self._rest
        if not rest:
            # Nearly always: one read is one frame.
            length = int.from_bytes(data[:prefix_bytes], "big")
            if len(data) == prefix_bytes + length and length <= self._size_max:
                return [data[prefix_bytes:]]
            stream: bytes | bytearray = data
        else:
            rest += data
            stream = rest

        frames = []
        size = len(stream)
        offset = 0
        while size - offset >= prefix_bytes:
            start = offset + prefix_bytes
            length = int.from_bytes(stream[offset:start], "big")
            # The maximum comes before the bytes at hand: a peer must not make us wait for what we would refuse.
            if length > self._size_max:
                self.too_long = length
                offset = size
                break
            end = start + length
            if end > size:
                break
            frames.append(bytes(stream[start:end]))
            offset = end
        if stream is rest:
            del rest[:offset]
        else:
            rest += stream[offset:]
        assert len(rest) < prefix_bytes + self._size_max
        return frames


class DigitsSplitter(Splitter):
    """The same behind a length in ASCII digits, where a prefix can also be no length at all.

    >>> splitter = DigitsSplitter(DIGITS10)
    >>> splitter.feed(b"0000000002ab00000"), splitter.feed(b"00001c")
    ([b'ab'], [b'c'])
    """

    __slots__ = ("_no_length",)

    def __init__(self, framing: Framing) -> None:
        super().__init__(framing)
        self._no_length = False

    @property
    def trouble(self) -> str:
        if self._no_length:
            return f"expected {self._prefix_bytes} ASCII digits of length"
        return super().trouble

    def feed(self, data: bytes) -> list[bytes]:
        if self.too_long:
            return []
        prefix_bytes, rest = self._prefix_bytes, self._rest
        rest += data
        frames = []
        size, offset = len(rest), 0
        while size - offset >= prefix_bytes:
            start = offset + prefix_bytes
            prefix = rest[offset:start]
            self._no_length = not prefix.isdigit()
            length = self._size_max + 1 if self._no_length else int(prefix)
            if length > self._size_max:
                self.too_long = length
                offset = size
                break
            end = start + length
            if end > size:
                break
            frames.append(bytes(rest[start:end]))
            offset = end
        del rest[:offset]
        return frames


def make_splitter(framing: Framing) -> Splitter:
    return DigitsSplitter(framing) if framing.in_digits else Splitter(framing)


class FramedProtocol:
    """``ports.Wire``. The owner hears frames and, exactly once, the loss, through ``handler``.

    Args:
        label: Name of this kind of peer in metrics: "kiosk" or the name of a link.
        now: Monotonic seconds.
        opened: Called with this wire when it is connected; False refuses it, and the handler never hears of it.
        closed: Called with this wire when it is lost, before the handler is.
        held: Nobody hears of this wire until ``release``; if it is lost before, nobody ever does.
        tap: Called with "in" or "out", the peer and each frame, for a trace.
        buffer_max: Bytes that may wait for this peer; one that reads more slowly is dropped.
        loud: Asked when what the peer sends is no stream of frames; False: its end is no line in the log.
        may_write: Asked right before each write. False: nothing that waits is written, and the wire is lost.

    A length of zero is a line test on some lines: it counts as a sign of life and is not passed on.
    """

    __slots__ = (
        "_buffer_max",
        "_closed",
        "_early",
        "_flush_due",
        "_handler",
        "_held",
        "_in_digits",
        "_in_labels",
        "_label",
        "_linger",
        "_loop",
        "_lost",
        "_loud",
        "_may_write",
        "_now",
        "_observer",
        "_open",
        "_opened",
        "_out_labels",
        "_paused",
        "_peer",
        "_prefix_bytes",
        "_queue",
        "_queued_bytes",
        "_reason",
        "_resting",
        "_size_max",
        "_splitter",
        "_stuck_bytes",
        "_tap",
        "_terminal_id",
        "_tokens",
        "_transport",
        "frames_in",
        "heard_at",
        "opened_at",
        "partial_since",
        "spoke",
    )

    def __init__(
        self,
        framing: Framing,
        handler: WireHandler,
        observer: Observer,
        *,
        label: str,
        now: Callable[[], float],
        opened: Callable[[FramedProtocol], bool] | None = None,
        closed: Callable[[FramedProtocol], None] | None = None,
        held: bool = False,
        may_write: Callable[[], bool] | None = None,
        tap: Tap | None = None,
        buffer_max: int = limits.WRITE_BUFFER_MAX,
        loud: Callable[[FramedProtocol], bool] = lambda wire: True,
    ) -> None:
        self._loud = loud
        self._buffer_max = buffer_max
        self._may_write = may_write
        self._tap = tap
        self._handler = handler
        self._observer = observer
        self._label = label
        self._now = now
        self._opened = opened
        self._closed = closed
        self._in_labels = (label, "in")
        self._out_labels = (label, "out")
        self._prefix_bytes = framing.prefix_bytes
        self._size_max = framing.size_max
        self._in_digits = framing if framing.in_digits else None
        self._splitter = make_splitter(framing)
        self._loop: asyncio.AbstractEventLoop
        self._transport: asyncio.Transport
        self._linger: asyncio.TimerHandle | None = None
        self._resting: asyncio.TimerHandle | None = None
        self._peer = "not connected"
        self._terminal_id = ""
        self._reason = ""
        self._open = False
        self._held = held
        self._early = b""  # what came while held
        self._lost = False
        self._paused = False
        self._flush_due = False
        self._queue: list[bytes] = []  # prefix, frame, prefix, frame …
        self._queued_bytes = 0
        self._stuck_bytes = 0  # in the transport's buffer when it asked us to pause
        self._tokens: list[object] = []
        self.frames_in = 0
        self.spoke = False  # a frame came that is more than a line test
        self.opened_at = 0.0
        self.heard_at = 0.0  # when bytes last came
        self.partial_since: float | None = None  # when the frame began that is still incomplete

    # ------------------------------------------------------------------------------------------------ for the owner
    @property
    def peer(self) -> str:
        return self._peer

    @property
    def terminal_id(self) -> str:
        return self._terminal_id

    @property
    def is_open(self) -> bool:
        return self._open

    @property
    def is_self_connected(self) -> bool:
        """True if the kernel joined our dial to itself."""
        name = self._transport.get_extra_info("sockname")
        return name is not None and name == self._transport.get_extra_info("peername")

    @property
    def unflushed(self) -> Sequence[object]:
        return tuple(self._tokens)

    def send(self, frame: bytes, token: object = None) -> bool:
        if not self._open:
            return False
        size = len(frame)
        if size > self._size_max:
            raise ValueError(f"frame of {size} bytes; the largest on this wire is {self._size_max}")
        if self._queued_bytes + self._stuck_bytes + size > self._buffer_max:
            self.abort(f"reads too slowly: more than {self._buffer_max} bytes wait for it")
            return False
        if self._tap is not None:
            self._tap("out", self._peer, frame)
        prefix_bytes, in_digits = self._prefix_bytes, self._in_digits
        self._queue += (size.to_bytes(prefix_bytes, "big") if in_digits is None else in_digits.prefix(size), frame)
        self._queued_bytes += size + prefix_bytes
        if token is not None:
            self._tokens.append(token)
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)
        return True

    def close(self, reason: str) -> None:
        if not self._open:
            return
        self._open = False
        self._reason = reason
        self._flush()
        self._transport.close()
        self._linger_briefly()

    def abort(self, reason: str, *, loud: bool = True) -> None:
        """Close without writing what is queued: for a peer that is gone, flooding us or not reading."""
        if not self._open:
            return
        self._open = False
        self._reason = reason
        if loud:
            self._observer.event("wire.aborted", link=self._label, peer=self._peer, reason=reason)
        self._transport.abort()

    def rest(self, seconds: float) -> None:
        """Read nothing from this peer for so long; what it sends meanwhile waits in the kernel, and is read then."""
        if self._open and self._resting is None:
            self._transport.pause_reading()
            self._resting = self._loop.call_later(seconds, self._rested)

    def _rested(self) -> None:
        self._resting = None
        if self._open:
            self._transport.resume_reading()

    def release(self) -> None:
        """End the hold: from here on the handler hears of this wire, beginning with what came already."""
        assert self._held
        self._held = False
        early, self._early = self._early, b""
        if early:
            self.data_received(early)

    def check(self, now: float, idle_s: float) -> None:
        """Drop this wire if a frame takes too long, none ever came, or all is silent: the listener's timer calls it."""
        if self.partial_since is not None and now - self.partial_since > limits.KIOSK_PARTIAL_FRAME_S:
            self._bad_frame("partial")
            self.abort(f"frame not complete within {limits.KIOSK_PARTIAL_FRAME_S:g} s", loud=self._loud(self))
        elif not self.spoke and now - self.opened_at > limits.KIOSK_FIRST_FRAME_S:
            self.close(f"no frame within {limits.KIOSK_FIRST_FRAME_S:g} s")
        elif now - self.heard_at > idle_s:
            self.close(f"silent for more than {idle_s:g} s")

    # ------------------------------------------------------------------------------------------------ for asyncio
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()
        self._peer = tcp.address(transport.get_extra_info("peername"))
        self._terminal_id = transport.get_extra_info("terminal_id") or ""  # only TLS knows one
        self.heard_at = self.opened_at = self._now()
        tcp.tune(transport.get_extra_info("socket"))
        self._open = True
        if self._opened is not None and not self._opened(self):
            self._open = False
            self._held = True  # for ever
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if not self._open:
            return
        self.heard_at = self._now()
        if self._held:
            self._early += data  # of one or two loop turns
            return
        splitter = self._splitter
        frames = splitter.feed(data)
        if frames:
            self.frames_in += len(frames)
            self._observer.count("switch_frames_total", self._in_labels, len(frames))
            handler = self._handler
            for frame in frames:
                if frame:
                    self.spoke = True
                    if self._tap is not None:
                        self._tap("in", self._peer, frame)
                    try:
                        handler.frame_received(self, frame)
                    except Exception as error:
                        self._handler_failed("frame_received", error)
                    if self._transport.is_closing():
                        return  # closed by our owner, who wants no more of it
        if splitter.too_long:
            self._bad_frame("too_long")
            self.abort(splitter.trouble, loud=self._loud(self))
        elif not splitter.partial:
            self.partial_since = None
        elif frames or self.partial_since is None:
            self.partial_since = self.heard_at

    def eof_received(self) -> bool:
        # What is queued stays unwritten: the peer has left, and a frame written now would be a frame in doubt.
        if self._open:
            self._open = False
            self._reason = "closed by the peer"
            if self._splitter.partial:
                self._bad_frame("cut")
                self._reason = "closed by the peer in the middle of a frame"
            self._linger_briefly()
        return False  # asyncio closes the transport

    def pause_writing(self) -> None:
        self._paused = True
        self._stuck_bytes = self._transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        self._paused = False
        self._stuck_bytes = 0
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._lost:
            return
        self._lost = True
        self._open = False
        if self._linger is not None:
            self._linger.cancel()
        if self._held:
            return
        if not self._reason:
            self._reason = tcp.explain(exc) if exc is not None else "closed by the peer"
            if self._splitter.partial:
                self._bad_frame("cut")
                self._reason += " in the middle of a frame"
        self._observer.event("wire.lost", link=self._label, peer=self._peer, reason=self._reason)
        if self._closed is not None:
            self._closed(self)
        try:
            self._handler.wire_lost(self, self._reason)
        except Exception as error:
            self._handler_failed("wire_lost", error)

    # ------------------------------------------------------------------------------------------------ inside
    def _flush(self) -> None:
        self._flush_due = False
        # Closing covers what our own flags cannot know: a transport that failed and has not told us yet.
        if not self._queue or self._paused or self._transport.is_closing():
            return
        if self._may_write is not None and not self._may_write():
            # A pause may lie between ``send`` and this: what is queued may be another worker's by now.
            self.abort("nothing may be written any more")
            return
        queue = self._queue
        self._queue = []
        if self._tokens:
            self._tokens = []
        self._queued_bytes = 0
        self._observer.count("switch_frames_total", self._out_labels, len(queue) // 2)
        try:
            self._transport.write(b"".join(queue))
        except Exception as error:
            # Part of it may have left: these frames are no longer ours to call unflushed.
            self.abort(f"write failed: {type(error).__name__}")

    def _linger_briefly(self) -> None:
        # A peer that does not read would keep the closing transport, and its buffer, for ever.
        if self._transport.get_write_buffer_size():
            self._linger = self._loop.call_later(limits.CONNECT_TIMEOUT_S, self._transport.abort)

    def _bad_frame(self, reason: str) -> None:
        self._observer.count("switch_bad_frames_total", (self._label, reason))

    def _handler_failed(self, where: str, error: Exception) -> None:
        self._observer.event("wire.handler_failed", link=self._label, peer=self._peer, call=where, error=error)
        self.abort(f"our handler failed: {type(error).__name__}")
