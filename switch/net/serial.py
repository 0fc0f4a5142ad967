"""Kiosks on serial lines: pyserial opens and sets a port, the loop reads and writes it.

    kiosk 0001 ──┐                           ┌── wire "line-1#0001" ──► dispatcher
    kiosk 0002 ──┴── RS-232, RS-485, DTU ────┴── wire "line-1#0002" ──►

    02 │ length │ TPDU, header, message │ 03 │ LRC       iso8583/framing.py, kind "serial"
                  60 to(2) from(2)

Each kiosk of a line is a wire of its own towards the dispatcher: the address it writes into its TPDU says which, and
the configuration which terminal that is. What belongs to no frame is skipped and counted; it is never answered, no NAK
either: on a line with several kiosks nobody could tell who is meant, and a kiosk whose request was lost asks again.

A port that cannot be opened, or whose device goes away, is opened again and again with growing pauses; the switch
serves its other lines meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import termios
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import serial

from iso8583 import framing
from switch import limits
from switch.config import SerialConfig
from switch.errors import UnavailableError
from switch.net import tcp
from switch.net.framed import Tap
from switch.net.upstream import backoff_s
from switch.ports import Clock, Dice, Observer, WireHandler

LABEL: Final = "kiosk"  # in metrics of frames, with those who come by TCP
_PARITIES: Final = {"none": serial.PARITY_NONE, "even": serial.PARITY_EVEN, "odd": serial.PARITY_ODD}
_EMPTY: Final = {  # a frame without data, by the form of its length
    "bcd2": bytes.fromhex("0200000303"),
    "len2": bytes.fromhex("0200000303"),
    "ascii4": b"\x020000\x03\x03",
}
_TPDU_ID: Final = 0x60
_TPDU_SIZE: Final = 5


# ---------------------------------------------------------------------------------------------------- the port
class PortError(UnavailableError):
    """A port cannot be opened. ``code`` is ``missing``, ``permission``, ``busy``, ``settings`` or ``port``."""


_CAUSES: Final = {
    **dict.fromkeys((errno.ENOENT, errno.ENXIO, errno.ENODEV), "missing"),
    **dict.fromkeys((errno.EACCES, errno.EPERM), "permission"),
    **dict.fromkeys((errno.EBUSY, errno.EAGAIN), "busy"),
    **dict.fromkeys((errno.ENOTTY, errno.EINVAL, errno.EISDIR), "settings"),
}
_ADVICE: Final = {
    "missing": "there is no such device: plug it in, or correct its name (ls -l /dev/serial/by-id /dev/ttyS*)",
    "permission": "not allowed: add the user of this program to the group that owns it (ls -l {device})",
    "busy": "another program has it: end that one (fuser -v {device})",
    "settings": "it is no serial port, or does not take {settings}",
    "port": "{error}",
}


def settings(config: SerialConfig) -> str:
    """As people write it: ``9600 8N1``."""
    return f"{config.baud} 8{config.parity[0].upper()}{config.stop_bits}"


def open_port(config: SerialConfig) -> serial.Serial:
    """The port, raw, non-blocking, and ours alone (``flock``). Raises PortError with what to do."""
    try:
        port = serial.Serial(
            config.device,
            config.baud,
            bytesize=serial.EIGHTBITS,
            parity=_PARITIES[config.parity],
            stopbits=config.stop_bits,
            timeout=0,
            rtscts=config.flow_control == "rtscts",
            exclusive=True,
        )
    except (OSError, ValueError) as error:
        number = error.errno if isinstance(error, OSError) else None
        # pyserial has no errno for a file that is no terminal, nor for settings that a port does not take.
        cause = "settings" if number is None else _CAUSES.get(number, "port")
        words = _ADVICE[cause].format(device=config.device, settings=settings(config), error=tcp.explain(error))
        raise PortError(cause, f"{config.device}: {words}") from error
    try:
        attributes = termios.tcgetattr(port.fileno())
        attributes[0] &= ~termios.BRKINT  # a break is noise, and no signal to us
        # pyserial reads with VMIN 0, where "nothing came" and "the device is gone" both are an empty read.
        attributes[6][termios.VMIN] = 1
        termios.tcsetattr(port.fileno(), termios.TCSANOW, attributes)
    except termios.error as error:
        port.close()
        raise PortError("port", f"{config.device}: went away while it was opened: {error}") from error
    return port


# ---------------------------------------------------------------------------------------------------- bytes to frames
class Cutter:
    """What a line brings, told apart: frames, heartbeats, noise.

    Args:
        length: As ``SerialConfig.length``.
        heartbeat: What a DTU sends between frames; has no STX in it.

    >>> cutter = Cutter("bcd2", heartbeat=b"DTU")
    >>> cutter.feed(b"DTU" + framing.frame(b"abc", "serial") + b"?DT"), cutter.feed(b"U")
    ([b'abc'], [])
    >>> cutter.heartbeats, cutter.noise_bytes
    (2, 1)
    """

    def __init__(self, length: str, heartbeat: bytes = b"") -> None:
        assert b"\x02" not in heartbeat
        self._length = length
        self._heartbeat = heartbeat
        self._framer = framing.Framer("serial", limits.FRAME_SIZE_MAX, length=length, heartbeats=True)
        self._held = b""  # what the framer holds, too: of an incomplete frame
        self._run = b""  # the beginning of a heartbeat, at the end of what came between frames
        self._beats = 0  # of the DTU's own form
        self.discards: Counter[str] = Counter()  # frames that were given up, by why

    @property
    def partial(self) -> bool:
        """A frame has begun, and not ended."""
        return self._framer.pending > 0

    @property
    def heartbeats(self) -> int:
        return self._beats + self._framer.heartbeats

    @property
    def noise_bytes(self) -> int:
        """Bytes that were neither of a frame nor of a heartbeat, also those of frames that were given up."""
        return self._framer.skipped - self._beats * len(self._heartbeat) - len(self._run)

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that are complete now."""
        return self._cut(data, self._framer.feed)

    def end(self) -> list[bytes]:
        """The line fell silent: a frame that has begun will not end. Frames inside it come out."""
        frames = self._cut(b"", lambda _data: self._framer.end())
        self._run = b""
        return frames

    def _cut(self, data: bytes, step: Callable[[bytes], list[bytes]]) -> list[bytes]:
        framer = self._framer
        skipped, discarded, beats = framer.skipped, framer.discarded, framer.heartbeats
        frames = step(data)
        stream = self._held + data
        self._held = stream[len(stream) - framer.pending :]
        if framer.discarded > discarded:
            assert framer.last_discard is not None
            self.discards[framer.last_discard.code] += framer.discarded - discarded
        if not self._heartbeat:
            return frames
        if framer.skipped > skipped or framer.heartbeats > beats:
            self._look_between(stream[: len(stream) - framer.pending], frames)
        elif frames:
            self._run = b""
        return frames

    def _look_between(self, stream: bytes, frames: list[bytes]) -> None:
        """Heartbeats in what lies between the frames that were found in ``stream``."""
        start = 0
        for frame in frames:
            wrapped = framing.frame(frame, "serial", length=self._length)
            at = stream.index(wrapped, start)
            self._count_beats(stream[start:at])
            self._run = b""
            start = at + len(wrapped)
        self._count_beats(stream[start:])

    def _count_beats(self, between: bytes) -> None:
        beat = self._heartbeat
        for number, run in enumerate(between.split(_EMPTY[self._length])):
            rest = run if number else self._run + run
            *found, rest = rest.split(beat)
            self._beats += len(found)
            kept = min(len(beat) - 1, len(rest))
            while kept and not beat.startswith(rest[-kept:]):
                kept -= 1
            self._run = rest[len(rest) - kept :]


# ---------------------------------------------------------------------------------------------------- wires
class KioskWire:
    """``ports.Wire`` of one kiosk on a line, from the first frame of its address until it is hung up on."""

    __slots__ = ("_line", "address", "is_open", "peer", "terminal_id")

    def __init__(self, line: SerialLine, address: str, terminal_id: str, peer: str) -> None:
        self._line = line
        self.address = address
        self.terminal_id = terminal_id
        self.peer = peer
        self.is_open = True

    @property
    def heard_at(self) -> float:
        return self._line.heard_at

    @property
    def unflushed(self) -> Sequence[object]:
        return ()  # nobody asks for the fate of an answer: its kiosk does

    def send(self, frame: bytes, token: object = None) -> bool:
        return self.is_open and self._line.send(self, frame)

    def close(self, reason: str) -> None:
        if self.is_open:
            self.is_open = False
            self._line.hang_up(self, reason)

    def rest(self, seconds: float) -> None:
        pass  # others talk on this line too


@dataclass(slots=True)
class _Told:
    """What was told so far, to tell what is new."""

    noise_bytes: int = 0
    heartbeats: int = 0
    discards: int = 0


# ---------------------------------------------------------------------------------------------------- the line
class SerialLine:
    """One line, from ``start`` to ``stop``, whatever its device does.

    Full duplex: answers are written as they come. Half duplex: an answer waits until nobody speaks, no frame is half
    here, and the line has been silent for the turn-round time; one at a time.

    Args:
        handler: Hears frames and the loss of each kiosk's wire.
        tap: As of ``FramedProtocol``.
        opens: Opens the port.
    """

    def __init__(
        self,
        config: SerialConfig,
        handler: WireHandler,
        observer: Observer,
        clock: Clock,
        dice: Dice,
        *,
        tap: Tap | None = None,
        opens: Callable[[SerialConfig], serial.Serial] = open_port,
    ) -> None:
        self.name = config.name
        self._config = config
        self._handler = handler
        self._observer = observer
        self._clock = clock
        self._dice = dice
        self._tap = tap
        self._opens = opens
        self._kiosks = {address.lower(): terminal for address, terminal in config.kiosks.items()}
        self._half = config.duplex == "half"
        # start, 8 data, parity, stop
        bits = 9 + (config.parity != "none") + config.stop_bits
        self._byte_s = bits / config.baud
        self._turn_s = config.turn_round_ms / 1000 if self._half else 0.0
        self._gap_s = config.gap_ms / 1000
        self._heartbeat = bytes.fromhex(config.heartbeat)
        self._loop: asyncio.AbstractEventLoop
        self._port: serial.Serial | None = None
        self._fd = -1
        self._attempt = 0
        self._stopping = False
        self._wires: dict[str, KioskWire] = {}
        self._deaf: dict[str, float] = {}  # addresses that were hung up on, until when they are not heard
        self._queue: deque[tuple[bytes, float]] = deque()  # wrapped answers, and since when they wait
        self._out = b""  # of the answer that is being written
        self._echo = b""  # the last answer: an RS-485 adaptor may bring it back
        self.heard_at = 0.0  # when bytes last came
        self._busy_until = 0.0
        self._cutter = Cutter(config.length, self._heartbeat)
        self._discards: Counter[str] = Counter()  # of this line since the start
        self._noise_bytes = 0
        self._heartbeats = 0
        self._told = _Told()
        self._said: Counter[str] = Counter()  # since the last line in the log
        self._say_at = 0.0
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._drained: asyncio.Event = asyncio.Event()
        self.trouble = "not started"

    # -------------------------------------------------------------------------------------------- for the owner
    @property
    def is_up(self) -> bool:
        """The port is open; whether somebody is at its other end only frames tell."""
        return self._port is not None

    def start(self) -> None:
        """Open the port, or begin to try. Never raises for what is wrong with a device."""
        self._loop = asyncio.get_running_loop()
        self._observer.gauge("switch_serial_up", 0, (self.name,))
        self._open()

    async def stop(self, reason: str) -> None:
        """Write what is queued, for CONNECT_TIMEOUT_S at most, and close the port."""
        self._stopping = True
        self._cancel("open")
        if self._port is not None:
            try:
                async with asyncio.timeout(limits.CONNECT_TIMEOUT_S):
                    while self._port is not None and (self._queue or self._out):
                        self._drained.clear()
                        await self._drained.wait()
                    await asyncio.sleep(max(0.0, self._busy_until - self._clock.now()))
            except TimeoutError:
                pass  # a port that takes nothing; its kiosks ask for their results
        self._lose(reason)

    def status(self) -> dict[str, Any]:
        """For people."""
        return {
            "device": self._config.device,
            "settings": settings(self._config),
            "up": self.is_up,
            "trouble": self.trouble,
            "kiosks": sorted(wire.terminal_id for wire in self._wires.values()),
            "silent_s": round(self._clock.now() - self.heard_at, 1) if self.is_up else None,
            "noise_bytes": self._noise_bytes,
            "heartbeats": self._heartbeats,
            "discards": dict(self._discards),
        }

    def note(self) -> str:
        """What somebody should look at; "" for nothing."""
        if self._port is None:
            return f"serial line {self.name}: {self.trouble}"
        silent_s = self._clock.now() - self.heard_at
        if silent_s > limits.KIOSK_IDLE_S:
            return f"serial line {self.name}: nothing came for {silent_s / 60:.0f} min"
        return ""

    # -------------------------------------------------------------------------------------------- for the wires
    def send(self, wire: KioskWire, frame: bytes) -> bool:
        """Queue an answer. False: the queue is full, and nothing of it will be written."""
        if self._port is None:
            return False
        if len(self._queue) >= limits.SERIAL_QUEUE_MAX:
            self._unsent("full")
            return False
        if self._tap is not None:
            self._tap("out", wire.peer, frame)
        self._queue.append((framing.frame(frame, "serial", length=self._config.length), self._clock.now()))
        if "pump" not in self._timers:
            self._after("pump", 0.0, self._pump)
        return True

    def hang_up(self, wire: KioskWire, reason: str) -> None:
        """There is no connection to close: the address is not heard for a while, and then begins anew."""
        if self._wires.get(wire.address) is wire:
            del self._wires[wire.address]
            self._deaf[wire.address] = self._clock.now() + limits.SERIAL_HANG_UP_S
            self._observer.event("wire.lost", link=LABEL, peer=wire.peer, reason=reason)
            self._loop.call_soon(self._tell_lost, wire, reason)

    # -------------------------------------------------------------------------------------------- open and lose
    def _open(self) -> None:
        self._cancel("open")
        self._attempt += 1
        try:
            port = self._opens(self._config)
        except PortError as error:
            self.trouble = error.detail
            self._observer.event(
                "serial.open_failed",
                level="error",
                line=self.name,
                device=self._config.device,
                attempt=self._attempt,
                code=error.code,
                reason=error.detail,
            )
            self._after("open", backoff_s(self._attempt, self._dice), self._open)
            return
        self._port, self._fd, self.trouble = port, port.fileno(), ""
        self.heard_at = self._clock.now()
        self._cutter = Cutter(self._config.length, self._heartbeat)
        self._told = _Told()
        self._loop.add_reader(self._fd, self._readable)
        self._observer.gauge("switch_serial_up", 1, (self.name,))
        self._observer.event(
            "serial.opened", line=self.name, device=self._config.device, settings=settings(self._config)
        )

    def _lose(self, reason: str) -> None:
        """Close the port; unless the switch stops, try to open it again."""
        port, self._port = self._port, None
        for name in tuple(self._timers):
            self._cancel(name)
        if port is not None:
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            with contextlib.suppress(termios.error):
                # Closing would wait, and we with it, for what a modem does not take.
                termios.tcflush(self._fd, termios.TCOFLUSH)
            port.close()
            self.trouble = f"{self._config.device}: {reason}"
            self._observer.gauge("switch_serial_up", 0, (self.name,))
            self._observer.event(
                "serial.lost", level="warning", line=self.name, device=self._config.device, reason=reason
            )
        self._unsent("lost", len(self._queue) + bool(self._out))
        self._queue.clear()
        self._out = self._echo = b""
        self._drained.set()
        wires, self._wires = self._wires, {}
        for wire in wires.values():
            wire.is_open = False
            self._tell_lost(wire, reason)
        if port is not None and not self._stopping:
            # One that is plugged in badly opens and fails in turn: it too must not be opened ever faster.
            self._after("open", backoff_s(max(1, self._attempt), self._dice), self._open)

    def _tell_lost(self, wire: KioskWire, reason: str) -> None:
        try:
            self._handler.wire_lost(wire, reason)
        except Exception as error:
            self._handler_failed(wire, "wire_lost", error)

    # -------------------------------------------------------------------------------------------- in
    def _readable(self) -> None:
        try:
            data = os.read(self._fd, limits.SERIAL_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(f"the device is gone ({tcp.explain(error)})")
            return
        if not data:
            self._lose("the device is gone")
            return
        self.heard_at = self._clock.now()
        self._heard(self._cutter.feed(data))

    def _silent(self) -> None:
        """A gap inside a frame. If we slept, the rest of it may wait in the kernel."""
        if self._waiting_input():
            self._after("silent", self._gap_s, self._silent)
        else:
            self._heard(self._cutter.end())

    def _heard(self, frames: list[bytes]) -> None:
        self._account()
        if self._cutter.partial:
            self._after("silent", self._gap_s, self._silent)
        else:
            self._cancel("silent")
        if frames:
            self._attempt = 0  # somebody is there: the device works
            self._observer.count("switch_frames_total", (LABEL, "in"), len(frames))
            for frame in frames:
                if self._port is None:
                    return  # a handler's doing
                self._dispatch(frame)
        if self._half and self._queue and self._port is not None:
            self._pump()

    def _dispatch(self, frame: bytes) -> None:
        if self._half and frame == self._echo:
            self._echo = b""
            self._discard("echo")
            return
        address = frame[3:5].hex() if frame[0] == _TPDU_ID and len(frame) >= _TPDU_SIZE else ""
        terminal = self._kiosks.get(address)
        if terminal is None:
            self._discard("address")
            return
        if address in self._deaf:
            if self._clock.now() < self._deaf[address]:
                self._discard("hung_up")
                return
            del self._deaf[address]
        wire = self._wires.get(address)
        if wire is None:
            wire = KioskWire(self, address, terminal, f"{self.name}#{address}")
            self._wires[address] = wire
        if self._tap is not None:
            self._tap("in", wire.peer, frame)
        try:
            self._handler.frame_received(wire, frame)
        except Exception as error:
            self._handler_failed(wire, "frame_received", error)
            wire.close(f"our handler failed: {type(error).__name__}")

    # -------------------------------------------------------------------------------------------- out
    def _pump(self) -> None:
        """Write what may be written now; else come back when that may have changed."""
        self._cancel("pump")
        while self._port is not None and self._queue and not self._out:
            wait_s = self._must_wait_s() if self._half else 0.0
            if wait_s:
                self._after("pump", wait_s, self._pump)
                return
            wrapped, since = self._queue.popleft()
            now = self._clock.now()
            if now - since > limits.SERIAL_ANSWER_S:
                self._unsent("stale")
                continue
            if self._half:
                self._echo = framing.Framer("serial", length=self._config.length).feed(wrapped)[0]
            self._busy_until = max(now, self._busy_until) + len(wrapped) * self._byte_s  # until the last bit has left
            self._observer.count("switch_frames_total", (LABEL, "out"))
            self._write(wrapped)
        if not self._queue and not self._out:
            self._drained.set()

    def _must_wait_s(self) -> float:
        """Seconds until it may be our turn on a half-duplex line; 0: it is."""
        now = self._clock.now()
        quiet_at = max(self.heard_at, self._busy_until) + self._turn_s
        if now < quiet_at:
            return quiet_at - now
        if self._cutter.partial or self._waiting_input():
            return max(self._turn_s, self._byte_s)
        return 0.0

    def _waiting_input(self) -> bool:
        """Bytes have come that we have not read yet."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(0))

    def _write(self, data: bytes) -> None:
        try:
            written = os.write(self._fd, data)
        except (BlockingIOError, InterruptedError):
            written = 0
        except OSError as error:
            self._lose(f"the device is gone ({tcp.explain(error)})")
            return
        had, self._out = bool(self._out), data[written:]
        if self._out and not had:
            self._loop.add_writer(self._fd, self._writable)
        elif had and not self._out:
            self._loop.remove_writer(self._fd)
        if not self._out:
            self._cancel("stuck")
        elif written or not had:
            self._after("stuck", limits.SERIAL_WRITE_S, self._stuck)

    def _writable(self) -> None:
        self._write(self._out)
        self._pump()

    def _stuck(self) -> None:
        self._lose(f"takes nothing for {limits.SERIAL_WRITE_S:g} s: is flow control set as the modem has it?")

    # -------------------------------------------------------------------------------------------- counting
    def _account(self) -> None:
        """Tell what the cutter has counted since the last time."""
        cutter, told = self._cutter, self._told
        noise, beats = cutter.noise_bytes - told.noise_bytes, cutter.heartbeats - told.heartbeats
        if noise > 0:
            told.noise_bytes = cutter.noise_bytes
            self._noise_bytes += noise
            self._said["noise_bytes"] += noise
            self._observer.count("switch_serial_noise_bytes_total", (self.name,), noise)
        if beats:
            told.heartbeats = cutter.heartbeats
            self._heartbeats += beats
            self._observer.count("switch_serial_heartbeats_total", (self.name,), beats)
        if cutter.discards.total() > told.discards:
            for reason, number in cutter.discards.items():
                self._discard(reason, number)
            cutter.discards.clear()
        self._say()

    def _discard(self, reason: str, number: int = 1) -> None:
        self._discards[reason] += number
        self._said[reason] += number
        self._observer.count("switch_serial_discards_total", (self.name, reason), number)
        self._say()

    def _say(self) -> None:
        """A line that is loud must not be loud in the log."""
        now = self._clock.now()
        if self._said and now >= self._say_at:
            self._say_at = now + limits.SERIAL_SAY_EVERY_S
            self._observer.event("serial.noise", level="warning", line=self.name, **self._said)
            self._said.clear()

    def _unsent(self, reason: str, number: int = 1) -> None:
        if number:
            self._observer.count("switch_serial_unsent_total", (self.name, reason), number)

    def _handler_failed(self, wire: KioskWire, where: str, error: Exception) -> None:
        self._observer.event("wire.handler_failed", link=LABEL, peer=wire.peer, call=where, error=error)

    # -------------------------------------------------------------------------------------------- timers
    def _after(self, name: str, seconds: float, act: Callable[[], None]) -> None:
        self._cancel(name)
        self._timers[name] = self._loop.call_later(seconds, act)

    def _cancel(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
