"""Callers at the kiosks' port who mean harm: for the drill ``hostile`` and the tests, on real sockets.

Each attack is a coroutine that ends; what it holds open is closed at its end. None of them has a key: what has a right
MAC here was recorded before.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import iso8583
from iso8583 import tlv
from switch.limits import CONNECT_TIMEOUT_S, FRAME_SIZE_MAX, MAC_WRONG_MAX
from switch.sim.day import china_now
from switch.sim.testkeys import test_terminal

_SPEC: Final = iso8583.load("kiosk", header="tpdu+pos6")
_HEADER: Final = bytes.fromhex("6000030000603100000000")
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def inquiry(terminal: int | str, serial: int = 1, **changed: Any) -> bytes:
    """A bill inquiry with a wrong MAC, length in front; of a test terminal, or of an id that nobody knows."""
    terminal_id, merchant_id = test_terminal(terminal) if isinstance(terminal, int) else (terminal, "8" * 15)
    fields: dict[int, Any] = {
        0: "0200",
        3: "310000",
        11: f"{serial:06d}",
        13: f"{china_now():%m%d}",
        25: "00",
        41: terminal_id,
        42: merchant_id,
        48: tlv.encode([("DF01", b"0500000017")]),
        49: "156",
        60: "71000001000",
        64: b"00000000",
    }
    for name, value in changed.items():
        fields[int(name[1:])] = value
    return iso8583.frame(_SPEC.encode({n: v for n, v in fields.items() if v is not None}, header=_HEADER))


def sign_on(terminal: int) -> bytes:
    terminal_id, merchant_id = test_terminal(terminal)
    fields: dict[int | str, Any] = {0: "0800", 11: "000001", 41: terminal_id, 42: merchant_id, 60: "00000000003"}
    return iso8583.frame(_SPEC.encode(fields, header=_HEADER))


class Intruder:
    """Args:
    port: of the switch, on loopback.
    source: Address that its connections come from; all of 127.0.0.0/8 is this machine.
    """

    def __init__(self, port: int, *, source: str = "127.0.0.1", dice: random.Random | None = None) -> None:
        self._port = port
        self._source = source
        self._dice = dice or random.Random(1)
        self.heard: list[bytes] = []  # every answer to any of its frames

    @asynccontextmanager
    async def connections(self, count: int) -> AsyncIterator[list[Connection]]:
        """So many connections, or as many as the switch takes."""
        held: list[Connection] = []
        try:
            for _ in range(count):
                with contextlib.suppress(OSError, TimeoutError):
                    async with asyncio.timeout(CONNECT_TIMEOUT_S):
                        held.append(
                            await asyncio.open_connection("127.0.0.1", self._port, local_addr=(self._source, 0))
                        )
            yield held
        finally:
            for _, writer in held:
                writer.transport.abort()

    async def say(self, *frames: bytes, wait_s: float = 0.5) -> list[bytes]:
        """Send on one connection; what came back until the switch hung up or was silent for ``wait_s``."""
        answers: list[bytes] = []
        async with self.connections(1) as held:
            for reader, writer in held:
                with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                    _put(writer, b"".join(frames))
                    while True:
                        async with asyncio.timeout(wait_s):
                            size = int.from_bytes(await reader.readexactly(2), "big")
                            answers.append(await reader.readexactly(size))
        self.heard += answers
        return answers

    # -------------------------------------------------------------------------------------------- attacks
    async def hold_open(self, count: int, seconds: float, data: bytes = b"") -> int:
        """Connect, send ``data`` (nothing, or half a frame) and keep silent. How many are left at the end."""
        async with self.connections(count) as held:
            for _, writer in held:
                _put(writer, data)
            await asyncio.sleep(seconds)
            return sum(not reader.at_eof() for reader, _ in held)

    async def never_read(self, count: int, frames: int) -> None:
        """Ask and ask, and read no answer."""
        async with self.connections(count) as held:
            for _, writer in held:
                writer.transport.pause_reading()  # type: ignore[attr-defined]
                _put(writer, sign_on(1) * frames)
            await asyncio.sleep(1.0)

    async def dribble(self, count: int, pause_s: float = 0.1) -> None:
        """A frame, byte by byte."""
        async with self.connections(count) as held:
            for byte in inquiry("XX000001")[:12]:
                for _, writer in held:
                    _put(writer, bytes([byte]))
                await asyncio.sleep(pause_s)

    async def noise(self, count: int) -> None:
        """Bytes that are no message, with a plausible length, an absurd one, and none."""
        for _ in range(count):
            junk = self._dice.randbytes(self._dice.randrange(1, 600))
            front = self._dice.choice([len(junk), FRAME_SIZE_MAX + 1, 0xFFFF, len(junk) + 1])
            await self.say(front.to_bytes(2, "big") + junk, wait_s=0.05)

    async def unknown_ids(self, count: int) -> None:
        """Requests of terminals that do not exist, in one breath."""
        ids = [f"X{self._dice.randrange(10**7):07d}" for _ in range(count)]
        await self.say(*(inquiry(terminal, number) for number, terminal in enumerate(ids, 1)), wait_s=0.2)

    async def wrong_macs(self, terminals: Sequence[int]) -> None:
        """Speak in the name of real terminals, without their keys."""
        for terminal in terminals:
            await self.say(*(inquiry(terminal, serial) for serial in range(1, 2 * MAC_WRONG_MAX)), wait_s=0.2)

    async def sign_ons(self, terminals: Sequence[int], times: int) -> None:
        """Ask for the keys of real terminals: cryptograms that only their PIN pads can open."""
        for terminal in terminals:
            await self.say(*([sign_on(terminal)] * times), wait_s=0.2)

    async def replay(self, frames: Sequence[bytes]) -> list[bytes]:
        """Frames that were recorded on a line, without length, each on a connection of its own."""
        answers = []
        for frame in frames:
            answers += await self.say(iso8583.frame(frame))
        return answers

    async def everything(self, terminals: Sequence[int], *, sockets: int = 100) -> None:
        """All at once, ``sockets`` of each kind that holds connections."""
        async with asyncio.TaskGroup() as group:
            for attack in (
                self.hold_open(sockets, 2.0),
                self.hold_open(sockets, 2.0, inquiry("XX000001")[:40]),
                self.never_read(sockets // 10 + 1, 500),
                self.dribble(sockets // 10 + 1),
                self.noise(20),
                self.unknown_ids(1_000),
                self.wrong_macs(terminals),
                self.sign_ons(terminals, 20),
            ):
                group.create_task(attack)


def _put(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Who was hung up on writes no more: uvloop raises where asyncio only warns."""
    if not writer.is_closing():
        writer.write(data)
