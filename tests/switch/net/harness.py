"""What the tests of sockets share: both loops, a recording handler and observer, clocks and dice that we hold."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import uvloop

from switch.ports import Wire

T = TypeVar("T")
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
PATIENCE_S = 20.0  # how long a test waits for what must happen; it says nothing about speed


class Run:
    """Runs a coroutine function on one kind of loop and fails if a callback raised behind our back."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        unhandled: list[dict[str, Any]] = []

        async def guarded() -> T:
            def note(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
                # uvloop forgets the lookup of a name when the dial that asked for it is cancelled (its issue 437).
                lookup = isinstance(context.get("exception"), socket.gaierror)
                # CPython 3.12 reports the end of the test's own stream server, cancelled with its loop.
                cancelled = isinstance(context.get("exception"), asyncio.CancelledError)
                if not lookup and not cancelled:
                    unhandled.append(context)

            asyncio.get_running_loop().set_exception_handler(note)
            return await asyncio.wait_for(main(), 4 * PATIENCE_S)

        with asyncio.Runner(loop_factory=LOOPS[self.kind]) as runner:
            result = runner.run(guarded())
        assert not unhandled, unhandled
        return result


class Recorder:
    """Observer."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, tuple[str, ...]]] = Counter()
        self.gauges: dict[tuple[str, tuple[str, ...]], float] = {}
        self.events: list[tuple[str, dict[str, Any]]] = []

    def count(self, name: str, labels: Sequence[str] = (), by: int = 1) -> None:
        self.counts[name, tuple(labels)] += by

    def observe(self, name: str, value: float, labels: Sequence[str] = ()) -> None:
        self.gauges[name, tuple(labels)] = value

    def gauge(self, name: str, value: float, labels: Sequence[str] = ()) -> None:
        self.gauges[name, tuple(labels)] = value

    def event(self, name: str, **facts: Any) -> None:
        self.events.append((name, facts))

    def named(self, name: str) -> list[dict[str, Any]]:
        return [facts for event, facts in self.events if event == name]


class Owner:
    """WireHandler and LinkHandler; ``on_frame`` and the like may be replaced by a test."""

    def __init__(self) -> None:
        self.up: list[Wire] = []
        self.frames: list[bytes] = []
        self.wires: list[Wire] = []
        self.lost: list[tuple[Wire, str]] = []
        self.proved: list[object] = []
        self.frames_lost: list[tuple[object, bool]] = []
        self.on_frame: Callable[[Wire, bytes], None] = lambda _wire, _frame: None
        self.on_up: Callable[[Wire], None] = lambda _wire: None
        self.on_lost: Callable[[Wire], None] = lambda _wire: None

    def wire_up(self, wire: Wire) -> None:
        self.up.append(wire)
        self.on_up(wire)

    def frame_received(self, wire: Wire, frame: bytes) -> None:
        self.frames.append(frame)
        if wire not in self.wires:
            self.wires.append(wire)
        self.on_frame(wire, frame)

    def wire_lost(self, wire: Wire, reason: str) -> None:
        self.lost.append((wire, reason))
        self.proved.extend(wire.unflushed)
        self.on_lost(wire)

    def frame_lost(self, token: object, *, unsent: bool) -> None:
        self.frames_lost.append((token, unsent))


class HeldClock:
    """Clock."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> float:
        return self.at

    def wall_us(self) -> int:
        return 1_700_000_000_000_000


class HeldDice:
    def __init__(self, value: float = 0.0) -> None:
        self.value = value
        self.thrown = 0

    def uniform(self) -> float:
        self.thrown += 1
        return self.value


async def until(true: Callable[[], object], what: str) -> None:
    """Wait for something that must happen."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + PATIENCE_S
    while not true():
        assert loop.time() < give_up_at, f"never happened: {what}"
        await asyncio.sleep(0.002)


def len2(*frames: bytes) -> bytes:
    return b"".join(len(frame).to_bytes(2, "big") + frame for frame in frames)


def reset(sock: socket.socket) -> None:
    """Close with RST, as a crashed machine that came back does."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Peer:
    """A plain socket driven from the loop: the other side of the wire under test."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.loop = asyncio.get_running_loop()

    @staticmethod
    async def connect(port: int) -> Peer:
        sock = socket.socket()
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except OSError:
            sock.close()
            raise
        return Peer(sock)

    async def send(self, data: bytes) -> None:
        await self._patient(self.loop.sock_sendall(self.sock, data))

    async def receive(self, size: int) -> bytes:
        """Exactly ``size`` bytes, or fewer if the wire ends before."""
        data = b""
        while len(data) < size:
            more = await self._patient(self.loop.sock_recv(self.sock, size - len(data)))
            if not more:
                break
            data += more
        return data

    async def ended(self) -> bytes:
        """What comes until the wire ends, in whatever way."""
        data = b""
        try:
            while more := await self._patient(self.loop.sock_recv(self.sock, 1 << 16)):
                data += more
        except ConnectionError:
            pass
        return data

    def close(self) -> None:
        self.sock.close()

    @staticmethod
    async def _patient(work: Awaitable[T]) -> T:
        return await asyncio.wait_for(work, PATIENCE_S)
