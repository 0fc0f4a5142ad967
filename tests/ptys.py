"""A serial cable for tests: a pty whose slave the program under test opens, under a name that stays."""

from __future__ import annotations

import asyncio
import os
import select
import tty
from collections.abc import Callable
from pathlib import Path

from iso8583 import framing

PATIENCE_S = 20.0  # how long a test waits for what must happen; it says nothing about speed


class Cable:
    """``device`` is the port's name; the test sits at the other end. Can be unplugged and plugged in again."""

    def __init__(self, device: Path) -> None:
        self.device = device
        self.master = -1
        self.plug_in()

    def plug_in(self) -> None:
        assert self.master < 0
        self.master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(self.master, False)
        new = self.device.with_suffix(".new")
        new.symlink_to(os.ttyname(slave))
        new.replace(self.device)
        os.close(slave)

    def unplug(self) -> None:
        if self.master >= 0:
            os.close(self.master)
            self.device.unlink()
            self.master = -1

    def __enter__(self) -> Cable:
        return self

    def __exit__(self, *_: object) -> None:
        self.unplug()

    def write(self, data: bytes) -> None:
        """All of it at once: tests write less than a pty holds."""
        assert os.write(self.master, data) == len(data)

    def send(self, *frames: bytes, length: str = "bcd2") -> None:
        self.write(b"".join(framing.frame(frame, "serial", length=length) for frame in frames))

    def silent(self) -> bool:
        """Nothing has come that was not read."""
        poll = select.poll()
        poll.register(self.master, select.POLLIN)
        # While nobody has the other end open the master hangs up: that is no byte.
        return not any(event & select.POLLIN for _, event in poll.poll(0))

    def read(self) -> bytes:
        """What is there."""
        try:
            return os.read(self.master, 65_536)
        except (BlockingIOError, OSError):
            return b""

    async def frames(self, count: int, length: str = "bcd2") -> list[bytes]:
        """So many frames that the port's owner writes."""
        framer = framing.Framer("serial", length=length)
        found: list[bytes] = []
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + PATIENCE_S
        while len(found) < count:
            assert loop.time() < give_up_at, f"{len(found)} of {count} frames came"
            found += framer.feed(self.read())
            await asyncio.sleep(0.002)
        assert framer.skipped == 0 and framer.pending == 0, "more than frames came"
        return found


class Concentrator:
    """What stands between kiosks that speak TCP and a serial line: strips one framing and puts on the other.

    Each connection is one address on the line, from 0001 in the order of dialling: written into the TPDU on the way
    there, and found in it on the way back. ``noise`` is sent in front of every frame; ``portion`` bytes at a time.
    """

    def __init__(self, cable: Cable, *, noise: bytes = b"", portion: int = 4096) -> None:
        self._cable = cable
        self._noise = noise
        self._portion = portion
        self._writers: dict[bytes, asyncio.StreamWriter] = {}
        self._framer = framing.Framer("serial")
        self._sending = asyncio.Lock()
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self._reader = asyncio.create_task(self._read())

    async def stop(self) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        self._server.close()
        for writer in self._writers.values():
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = (len(self._writers) + 1).to_bytes(2, "big")
        self._writers[address] = writer
        framer = framing.Framer("len2")
        while data := await reader.read(4096):
            for frame in framer.feed(data):
                out = self._noise + framing.frame(frame[:3] + address + frame[5:], "serial")
                async with self._sending:  # one talks at a time
                    for start in range(0, len(out), self._portion):
                        self._cable.write(out[start : start + self._portion])
                        await asyncio.sleep(0.0005)

    async def _read(self) -> None:
        while True:
            for frame in self._framer.feed(self._cable.read()):
                self._writers[frame[1:3]].write(framing.frame(frame))
            await asyncio.sleep(0.001)


class NullModem:
    """Joins the far ends of two cables; ``there`` and ``back`` may spoil what passes from the first, and to it."""

    def __init__(self, one: Cable, two: Cable) -> None:
        self._one, self._two = one, two
        self.there: Callable[[bytes], bytes] = bytes
        self.back: Callable[[bytes], bytes] = bytes

    async def __aenter__(self) -> NullModem:
        self._task = asyncio.create_task(self._pump())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _pump(self) -> None:
        while True:
            for source, target, spoil in (
                (self._one, self._two, self.there),
                (self._two, self._one, self.back),
            ):
                if data := spoil(source.read()):
                    target.write(data)
            await asyncio.sleep(0.001)


def bits_of(data: bytes, parity: str = "none") -> list[int]:
    """What a UART puts on the line: idle, start bit, 8 data bits from the lowest, parity bit, stop bit."""
    bits = [1] * 4
    for byte in data:
        bits += [0, *(byte >> n & 1 for n in range(8))]
        bits += [byte.bit_count() & 1 ^ (parity == "odd")] * (parity != "none") + [1]
    return bits + [1] * 24


def heard_at(bits: list[int], speed: float) -> bytes:
    """What a UART reads from that line that samples 8N1 at ``speed`` times the sender's."""
    found, at = bytearray(), 0.0
    while at < len(bits):
        if bits[int(at)]:
            at += 0.1
            continue
        samples = [int(at + (n + 0.5) / speed) for n in range(1, 9)]
        found.append(sum(bits[s] << n for n, s in enumerate(samples) if s < len(bits)))
        at += 9.5 / speed
    return bytes(found)
