"""TCP inside one process, with everything that goes wrong with it.

A connection is two pipes. Each gives the bytes that were written, in order, in pieces of any size, after a while; or a
prefix of them, and then a reset. ``write`` is the kernel's: what it took may arrive even if the writer is killed in the
next instant. What can be done to a pipe, and undone by ``heal``:

    partition   nothing passes from one node to another; bytes wait, as TCP repeats them, and the connection dies after
                ``USER_TIMEOUT_S``
    cut         reset after exactly so many more bytes: the reader sees a torn frame
    box         a misbehaving middle box: sees whole frames and drops, repeats or delays them
    refuse      connects are refused;  hang: connects are never answered
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from switch.net.framed import Framing

if TYPE_CHECKING:
    from switch.sim.loop import Node, SimLoop

Address = tuple[str, int]
USER_TIMEOUT_S: Final = 30.0  # as net.tcp sets it on real sockets
HIGH_WATER: Final = 65_536  # bytes under way before a writer is asked to pause
LATENCY_S: Final = (0.000_2, 0.003)
SPLIT_CHANCE: Final = 0.2
SYN_S: Final = 0.2
_FIRST_PORT: Final = 20_000
_EOF, _RESET = b"EOF", b"RST"

# (the writer's end, bytes, "written" or "delivered")
Tap = Callable[["SimTransport", bytes, str], None]


@dataclass(slots=True)
class Box:
    """A misbehaving middle box between two nodes, one way. ``choose`` says what becomes of each frame: seconds to wait
    before each copy of it that is passed on; () drops it, (0,) passes it, (0, 0) repeats it, (2,) delays it."""

    framing: Framing
    choose: Callable[[bytes], tuple[float, ...]]


class SimNetwork:
    def __init__(self, loop: SimLoop) -> None:
        self.loop = loop
        self.latency_s = LATENCY_S
        self.taps: list[Tap] = []
        self.listening: dict[Address, SimServer] = {}
        self.refused: set[Address] = set()
        self.hanging: set[Address] = set()
        self._blocked: set[tuple[str, str]] = set()  # (from, to) nodes
        self._boxes: dict[tuple[str, str], Box] = {}
        self._ends: list[SimTransport] = []
        self._dice = loop.stream("network")
        self._port = _FIRST_PORT
        self._number = 0  # of transports
        self.context = contextvars.Context()  # of nobody: what is in the network outlives its writer

    # ---- faults
    def partition(self, source: str, target: str, *, both: bool = True) -> None:
        self._blocked.add((source, target))
        if both:
            self._blocked.add((target, source))

    def box(self, source: str, target: str, box: Box) -> None:
        self._boxes[source, target] = box

    def cut(self, source: str, target: str, after_bytes: int) -> None:
        """The next connection bytes from source to target end after so many more."""
        for end in self.ends(source, target):
            end.out.cut_after = after_bytes

    def reset(self, source: str, target: str) -> None:
        for end in self.ends(source, target):
            end.abort()

    def heal(self) -> None:
        """No fault any more; what waited goes on."""
        self._blocked.clear()
        self._boxes.clear()
        self.refused.clear()
        self.hanging.clear()
        self.latency_s = LATENCY_S
        for end in list(self._ends):
            end.out.cut_after = None
            end.out.pump()

    def heal_partition(self, source: str, target: str) -> None:
        self._blocked -= {(source, target), (target, source)}
        for end in list(self._ends):
            end.out.pump()

    def heal_box(self, source: str, target: str) -> None:
        self._boxes.pop((source, target), None)

    def ends(self, source: str, target: str) -> list[SimTransport]:
        """The open transports by which ``source`` writes to ``target``."""
        return [end for end in self._ends if end.node_name == source and end.peer_name == target]

    def is_blocked(self, source: str, target: str) -> bool:
        return (source, target) in self._blocked

    def box_of(self, source: str, target: str) -> Box | None:
        return self._boxes.get((source, target))

    def node_died(self, node: Node) -> None:
        for address, server in list(self.listening.items()):
            if server.node is node:
                del self.listening[address]
        for end in list(self._ends):
            if end.node is node:
                end.die()

    # ---- sockets
    def new_port(self) -> int:
        self._port += 1
        return self._port

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def latency(self) -> float:
        return self._dice.uniform(*self.latency_s)

    def pieces(self, data: bytes) -> list[bytes]:
        if len(data) < 2 or self._dice.random() >= SPLIT_CHANCE:
            return [data]
        at = self._dice.randrange(1, len(data))
        return [data[:at], data[at:]]

    async def connect(self, node: Node | None, factory: Callable[[], asyncio.BaseProtocol], address: Address) -> Any:
        address = (address[0], int(address[1]))
        await asyncio.sleep(self.latency())
        while self._hangs(node, address):  # noqa: ASYNC110 - as TCP repeats its SYN; the dialer has its own time-out
            await asyncio.sleep(SYN_S)
        server = self.listening.get(address)
        if server is None or address in self.refused:
            raise ConnectionRefusedError(111, "connection refused")
        near_name, far_name = ("127.0.0.1", self.new_port()), address
        near = SimTransport(self, node, near_name, far_name)
        far = SimTransport(self, server.node, far_name, near_name)
        near.join(far)
        self._ends += [near, far]
        server.accept(far)
        await asyncio.sleep(self.latency())
        protocol = factory()
        near.start(protocol)
        return near, protocol

    def _hangs(self, node: Node | None, address: Address) -> bool:
        server = self.listening.get(address)
        blocked = server is not None and self.is_blocked(_name(node), server.node_name)
        return blocked or address in self.hanging

    def forget(self, end: SimTransport) -> None:
        if end in self._ends:
            self._ends.remove(end)

    def tell_taps(self, end: SimTransport, data: bytes, what: str) -> None:
        for tap in self.taps:
            tap(end, data, what)


def _name(node: Node | None) -> str:
    return "" if node is None else node.name


class SimSocket:
    """What a bound socket is to a listener: an address."""

    def __init__(self, network: SimNetwork, host: str, port: int) -> None:
        self._address = (host, port or network.new_port())

    def getsockname(self) -> Address:
        return self._address

    def close(self) -> None:
        pass


class SimServer:
    def __init__(self, network: SimNetwork, node: Node | None, factory: Callable[[], Any], sock: SimSocket) -> None:
        self._network = network
        self._factory = factory
        self.node = node
        self.sockets = [sock]
        address = sock.getsockname()
        if address in network.listening:
            raise OSError(98, "address already in use")
        network.listening[address] = self

    @property
    def node_name(self) -> str:
        return _name(self.node)

    def accept(self, end: SimTransport) -> None:
        def accepted() -> None:
            end.start(self._factory())

        self._network.loop.call_soon(accepted, context=end.context)

    def close(self) -> None:
        self._network.listening.pop(self.sockets[0].getsockname(), None)

    async def wait_closed(self) -> None:
        pass


class Pipe:
    """One direction of a connection. Its handles belong to the reader: a paused reader reads nothing."""

    def __init__(self, network: SimNetwork, writer: SimTransport, reader: SimTransport) -> None:
        self._network = network
        self._writer = writer
        self._reader = reader
        self._queue: deque[tuple[float, bytes, bool]] = deque()  # arrival, data, is it EOF or RESET
        self._last = 0.0
        self._handle: asyncio.TimerHandle | None = None
        self._blocked_since: float | None = None
        self._boxed = b""
        self.cut_after: int | None = None
        self.size = 0  # bytes under way

    def write(self, data: bytes) -> None:
        box = self._network.box_of(self._writer.node_name, self._reader.node_name)
        if box is None:
            self._enqueue(self._boxed + data)
            self._boxed = b""
            return
        self._boxed += data
        prefix_bytes = box.framing.prefix_bytes
        while len(self._boxed) >= prefix_bytes:
            size = prefix_bytes + box.framing.size(self._boxed[:prefix_bytes])
            if len(self._boxed) < size:
                break
            frame, self._boxed = self._boxed[:size], self._boxed[size:]
            for wait_s in box.choose(frame[prefix_bytes:]):
                if wait_s:
                    self._network.loop.call_later(wait_s, self._enqueue, frame, context=self._network.context)
                else:
                    self._enqueue(frame)

    def end(self, how: bytes) -> None:
        self._put(how, is_end=True)

    def clear(self) -> None:
        self._queue.clear()

    def _enqueue(self, data: bytes) -> None:
        if not data:
            return
        for piece in self._network.pieces(data):
            self.size += len(piece)
            self._put(piece, is_end=False)

    def _put(self, data: bytes, *, is_end: bool) -> None:
        self._last = max(self._last, self._network.loop.time() + self._network.latency())
        self._queue.append((self._last, data, is_end))
        self.pump()

    def pump(self) -> None:
        """Make sure that the next piece is delivered when it is due."""
        if self._handle is not None or not self._queue:
            return
        loop = self._network.loop
        when = max(self._queue[0][0], loop.time())
        self._handle = loop.call_at(when, self._arrive, context=self._reader.context)

    def _arrive(self) -> None:
        self._handle = None
        loop = self._network.loop
        if not self._queue:
            return
        if self._network.is_blocked(self._writer.node_name, self._reader.node_name):
            if self._blocked_since is None:
                self._blocked_since = loop.time()
                loop.call_later(USER_TIMEOUT_S, self._give_up, self._blocked_since, context=self._reader.context)
            return  # ``heal`` pumps again
        self._blocked_since = None
        _, data, is_end = self._queue.popleft()
        if is_end:
            self._reader.ended(data)
            return
        self.size -= len(data)
        if self.cut_after is not None:
            passed, self.cut_after = data[: self.cut_after], self.cut_after - len(data)
            if self.cut_after <= 0:
                self._queue.clear()
                if passed:
                    self._deliver(passed)
                self._reader.lost(ConnectionResetError(104, "connection reset by peer"))
                self._writer.lost_later(ConnectionResetError(104, "connection reset by peer"))
                return
        self._deliver(data)
        self._writer.drained()
        self.pump()

    def _deliver(self, data: bytes) -> None:
        self._network.tell_taps(self._writer, data, "delivered")
        self._reader.received(data)

    def _give_up(self, since: float) -> None:
        if self._blocked_since == since:
            self._queue.clear()
            self._reader.lost(TimeoutError(110, "connection timed out"))
            self._writer.lost_later(TimeoutError(110, "connection timed out"))


class SimTransport(asyncio.Transport):
    """One end of a connection."""

    out: Pipe
    inward: Pipe

    def __init__(self, network: SimNetwork, node: Node | None, name: Address, peer: Address) -> None:
        super().__init__({"sockname": name, "peername": peer, "socket": None})
        self._network = network
        self.node = node
        self.node_name = _name(node)
        self.peer_name = ""
        self.context = network.context if node is None else node.context
        self.number = network.next_number()
        self._protocol: Any = None
        self._closing = False
        self._lost = False
        self._writing_paused = False
        self._reading = True
        self._unread: list[bytes] = []
        self._early_end: bytes | None = None

    def join(self, other: SimTransport) -> None:
        self.peer_name, other.peer_name = other.node_name, self.node_name
        self.out = other.inward = Pipe(self._network, self, other)
        other.out = self.inward = Pipe(self._network, other, self)

    def start(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol
        if self._lost:
            # Reset before anybody heard of it.
            protocol.connection_made(self)
            protocol.connection_lost(ConnectionResetError(104, "connection reset by peer"))
            return
        protocol.connection_made(self)
        unread, self._unread = self._unread, []
        for data in unread:
            self.received(data)
        if self._early_end is not None:
            self.ended(self._early_end)

    # ---- asyncio.Transport
    def write(self, data: Any) -> None:
        if self._closing or self._lost:
            return
        data = bytes(data)
        self._network.tell_taps(self, data, "written")
        self.out.write(data)
        if self.out.size > HIGH_WATER and not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return max(0, self.out.size - HIGH_WATER)

    def is_closing(self) -> bool:
        return self._closing or self._lost

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self.out.end(_EOF)
            self.lost_later(None)

    def abort(self) -> None:
        if not self._lost:
            self._closing = True
            self.out.end(_RESET)
            self.lost_later(None)

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        unread, self._unread = self._unread, []
        for data in unread:
            self.received(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> Any:
        return self._protocol

    # ---- the network's side
    def received(self, data: bytes) -> None:
        if self._protocol is None or not self._reading:
            self._unread.append(data)
        elif not self._closing and not self._lost:
            self._protocol.data_received(data)

    def ended(self, how: bytes) -> None:
        if self._protocol is None:
            self._early_end = how
        elif how == _RESET:
            self.lost(ConnectionResetError(104, "connection reset by peer"))
        elif not self._closing and not self._lost and not self._protocol.eof_received():
            self.close()

    def drained(self) -> None:
        if self._writing_paused and self.out.size <= HIGH_WATER // 4:
            self._writing_paused = False
            if not self._lost:
                self._network.loop.call_soon(self._resume_writing, context=self.context)

    def _resume_writing(self) -> None:
        if not self._lost and not self._writing_paused:
            self._protocol.resume_writing()

    def lost_later(self, error: Exception | None) -> None:
        self._network.loop.call_soon(self.lost, error, context=self.context)

    def lost(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = self._closing = True
        self._network.forget(self)
        if self._protocol is not None:
            self._protocol.connection_lost(error)

    def die(self) -> None:
        """Its node is gone. What was written travels on; the kernel answers for the rest with a reset."""
        self._lost = self._closing = True
        self.inward.clear()
        self.out.end(_RESET)
        self._network.forget(self)
