"""``gridswitch faultproxy``: a TCP proxy that does to a line what real networks do to it.

    caller ──► proxy ──► target        direction "up"
    caller ◄── proxy ◄── target        direction "down"

TCP delivers a stream or nothing, so loss, repetition and reordering are of whole length-prefixed frames and need
``--prefix``. Everything can be changed while it runs, through a control socket that takes one JSON object a line.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import re
import signal
import socket
import sys
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson
import uvloop

from switch.errors import ConfigError, StartError
from switch.limits import FAULT_QUEUE_BYTES_MAX
from switch.net.framed import LEN2, LEN4, Splitter

LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
DIRECTIONS: Final = ("up", "down")
_CHUNK: Final = 65_536
_SLOW_S: Final = 0.05  # between two bytes of a slow line


class Faults(msgspec.Struct, forbid_unknown_fields=True):
    """What is done to one direction. Rates are probabilities per frame, or per read without ``--prefix``."""

    delay_ms: tuple[float, float] = (0.0, 0.0)  # uniform; order is kept
    spike_rate: float = 0.0  # so often …
    spike_ms: float = 0.0  # … so much more
    bytes_per_s: int = 0  # 0: no bound
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0  # a frame changes places with the next one
    cut: float = 0.0  # the connection is reset in the middle of the frame
    silent: bool = False  # bytes are taken and thrown away: a half-open line
    slow: bool = False  # one byte at a time

    def problems(self) -> list[str]:
        found = [
            f"{name} must be from 0 to 1"
            for name in ("spike_rate", "loss", "duplicate", "reorder", "cut")
            if not 0.0 <= getattr(self, name) <= 1.0
        ]
        low, high = self.delay_ms
        if not 0.0 <= low <= high:
            found.append("delay_ms must be two numbers, the smaller first")
        if self.bytes_per_s < 0 or self.spike_ms < 0:
            found.append("bytes_per_s and spike_ms must not be negative")
        return found


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """One line on the control socket; what is not given stays as it is."""

    up: dict[str, Any] = {}
    down: dict[str, Any] = {}
    refuse: bool | None = None  # new connections are closed at once
    hang: bool | None = None  # new connections are accepted and never served
    cut_after: dict[str, int] = {}  # direction: reset all connections when so many more bytes have gone through
    reset: bool = False  # all connections, now


@dataclass
class Line:
    """One direction of one connection."""

    direction: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    passed: int = 0


@dataclass(eq=False)
class Connection:
    caller: asyncio.StreamWriter
    target: asyncio.StreamWriter | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def reset(self) -> None:
        """As a cut cable that somebody notices: RST, nothing that waits is written."""
        for writer in (self.caller, self.target):
            if writer is not None:
                with contextlib.suppress(OSError):
                    raw = writer.get_extra_info("socket")
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                writer.transport.abort()


class FaultProxy:
    """Args:
    target: Where connections go.
    prefix: Bytes of the length in front of each frame, 2 or 4; 0: the stream is not looked into.
    seed: Of all dice.
    """

    def __init__(self, target: tuple[str, int], *, prefix: int = 0, seed: int = 1) -> None:
        self.faults = {direction: Faults() for direction in DIRECTIONS}
        self.counts: Counter[str] = Counter()
        self._target = target
        self._framing = {0: None, LEN2.prefix_bytes: LEN2, LEN4.prefix_bytes: LEN4}[prefix]
        self._dice = random.Random(seed)  # noqa: S311 - faults, not keys
        self._refuse = self._hang = False
        self._cut_after: dict[str, int] = {}
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Returns the port that it listens on."""
        self._server = await asyncio.start_server(self._accepted, host, port)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self.reset()
        while self._connections:  # noqa: ASYNC110 - each ends by itself now
            await asyncio.sleep(0.001)

    def reset(self) -> None:
        for connection in tuple(self._connections):
            self.counts["reset"] += 1
            connection.reset()

    def obey(self, order: Order) -> None:
        """Raises ConfigError when a value cannot be."""
        wanted = {}
        for direction in DIRECTIONS:
            changed = msgspec.structs.asdict(self.faults[direction]) | getattr(order, direction)
            try:
                faults = wanted[direction] = msgspec.convert(changed, Faults)
            except msgspec.ValidationError as error:
                raise ConfigError(direction, str(error)) from error
            problems = faults.problems()
            if self._framing is None and (faults.loss or faults.duplicate or faults.reorder):
                problems.append("loss, duplicate and reorder need --prefix 2 or 4: TCP loses no bytes")
            if problems:
                raise ConfigError(direction, "; ".join(problems))
        for direction, count in order.cut_after.items():
            if direction not in DIRECTIONS or count < 0:
                raise ConfigError("cut_after", "expected up or down, and a number of bytes")
        self.faults = wanted
        self._refuse = self._refuse if order.refuse is None else order.refuse
        self._hang = self._hang if order.hang is None else order.hang
        self._cut_after |= order.cut_after
        if order.reset:
            self.reset()

    def report(self) -> dict[str, Any]:
        return {
            "connections": len(self._connections),
            "waiting_cuts": self._cut_after,
            "counts": dict(sorted(self.counts.items())),
            **{direction: msgspec.structs.asdict(faults) for direction, faults in self.faults.items()},
        }

    # ------------------------------------------------------------------------------------------------ connections
    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(writer)
        if self._refuse:
            self.counts["refused"] += 1
            connection.reset()
            return
        self._connections.add(connection)
        self.counts["connections"] += 1
        try:
            if self._hang:
                self.counts["hung"] += 1
                while await reader.read(_CHUNK):
                    pass
                return
            try:
                there, target = await asyncio.open_connection(*self._target)
            except OSError:
                self.counts["unreachable"] += 1
                return
            connection.target = target
            lines = (Line("up", reader, target), Line("down", there, writer))
            connection.tasks = [asyncio.create_task(self._carry(connection, line)) for line in lines]
            await asyncio.wait(tuple(connection.tasks))
        finally:
            for task in connection.tasks:
                task.cancel()
            await asyncio.gather(*connection.tasks, return_exceptions=True)
            self._connections.discard(connection)
            for each in (connection.caller, connection.target):
                if each is not None:
                    each.close()

    async def _carry(self, connection: Connection, line: Line) -> None:
        """Until the reader ends: then what waits is still delivered, and the connection closed."""
        queue: deque[tuple[float, bytes]] = deque()
        wake, room = asyncio.Event(), asyncio.Event()
        room.set()
        sender = asyncio.create_task(self._deliver(connection, line, queue, wake, room))
        connection.tasks.append(sender)
        splitter = None if self._framing is None else Splitter(self._framing)
        held: bytes | None = None  # a frame that lets the next one pass
        loop = asyncio.get_running_loop()
        last_due = 0.0
        try:
            while data := await line.reader.read(_CHUNK):
                faults = self.faults[line.direction]
                if faults.silent:
                    self.counts[f"{line.direction} swallowed"] += len(data)
                    continue
                pieces = [data] if splitter is None else [self._framed(frame) for frame in splitter.feed(data)]
                if splitter is not None and splitter.too_long:
                    self.counts["not framed"] += 1
                    connection.reset()
                    return
                out: list[bytes] = []
                for piece in pieces:
                    fate = self._dice.random
                    if fate() < faults.loss:
                        self.counts[f"{line.direction} lost"] += 1
                        continue
                    if held is None and fate() < faults.reorder:
                        self.counts[f"{line.direction} reordered"] += 1
                        held = piece
                        continue
                    out.append(piece)
                    if held is not None:
                        out.append(held)
                        held = None
                    if fate() < faults.duplicate:
                        self.counts[f"{line.direction} repeated"] += 1
                        out.append(piece)
                for piece in out:
                    delay_s = self._dice.uniform(*faults.delay_ms) / 1000
                    if self._dice.random() < faults.spike_rate:
                        delay_s += faults.spike_ms / 1000
                    last_due = max(last_due, loop.time() + delay_s)
                    queue.append((last_due, piece))
                    wake.set()
                if sum(len(piece) for _, piece in queue) > FAULT_QUEUE_BYTES_MAX:
                    room.clear()
                    await room.wait()
        except OSError:
            connection.reset()
            return
        queue.append((0.0, b""))
        wake.set()
        with contextlib.suppress(OSError):
            await sender
            line.writer.write_eof()  # a half-closed line stays half-closed

    async def _deliver(
        self,
        connection: Connection,
        line: Line,
        queue: deque[tuple[float, bytes]],
        wake: asyncio.Event,
        room: asyncio.Event,
    ) -> None:
        loop, direction = asyncio.get_running_loop(), line.direction
        while True:
            while not queue:
                wake.clear()
                room.set()
                await wake.wait()
            due, piece = queue.popleft()
            if not piece:
                return
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            faults = self.faults[direction]
            if faults.silent:
                self.counts[f"{direction} swallowed"] += len(piece)
                continue
            cut_at = self._cut_at(direction, faults, piece)
            shown = piece if cut_at is None else piece[:cut_at]
            await self._write(line, shown, faults)
            if cut_at is not None:
                self.counts[f"{direction} cut"] += 1
                # What was written must leave before the reset, or it would be a cut at byte 0.
                await asyncio.sleep(0)
                connection.reset()
                return

    def _cut_at(self, direction: str, faults: Faults, piece: bytes) -> int | None:
        waiting = self._cut_after.get(direction)
        if waiting is not None:
            if waiting < len(piece):
                del self._cut_after[direction]
                return waiting
            self._cut_after[direction] = waiting - len(piece)
        return self._dice.randrange(len(piece)) if self._dice.random() < faults.cut else None

    async def _write(self, line: Line, data: bytes, faults: Faults) -> None:
        if faults.slow:
            for offset in range(len(data)):
                line.writer.write(data[offset : offset + 1])
                await line.writer.drain()
                await asyncio.sleep(_SLOW_S)
        elif data:
            line.writer.write(data)
            await line.writer.drain()
            if faults.bytes_per_s:
                await asyncio.sleep(len(data) / faults.bytes_per_s)
        line.passed += len(data)
        self.counts[f"{line.direction} bytes"] += len(data)

    def _framed(self, frame: bytes) -> bytes:
        assert self._framing is not None
        return len(frame).to_bytes(self._framing.prefix_bytes, "big") + frame


# ---------------------------------------------------------------------------------------------------- control socket
async def serve_control(proxy: FaultProxy, path: Path) -> asyncio.Server:
    """One JSON object a line: an order, or {} to ask; each is answered with what is true now."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError):
            while line := await reader.readline():
                writer.write(orjson.dumps(_obeyed(proxy, line)) + b"\n")
                await writer.drain()
        writer.close()

    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - before anybody is served
    mask = os.umask(0o177)  # nobody else may give orders, not even for a moment
    try:
        return await asyncio.start_unix_server(talk, path)
    finally:
        os.umask(mask)


def _obeyed(proxy: FaultProxy, line: bytes) -> dict[str, Any]:
    try:
        proxy.obey(msgspec.json.decode(line, type=Order))
    except (msgspec.DecodeError, ConfigError) as error:
        return {"error": str(error)}
    return proxy.report()


def tell(path: Path, order: dict[str, Any]) -> dict[str, Any]:
    """Give a running proxy an order; its report. Raises StartError when nobody listens or the order is wrong."""
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(5.0)
            line.connect(str(path))
            line.sendall(orjson.dumps(order) + b"\n")
            with line.makefile("rb") as answers:
                answer: dict[str, Any] = orjson.loads(answers.readline())
    except (OSError, orjson.JSONDecodeError) as error:
        raise StartError("control", f"{path}: no fault proxy answers there: {error}") from error
    if "error" in answer:
        raise StartError("control", f"{path}: {answer['error']}")
    return answer


# ---------------------------------------------------------------------------------------------------- command
_EXAMPLES = """\
examples:
  gridswitch faultproxy --listen 127.0.0.1:9101 --to 127.0.0.1:9001 --fault both.delay_ms=20..80
  gridswitch faultproxy --listen 127.0.0.1:9101 --to 127.0.0.1:9001 --prefix 2 --fault down.loss=0.01 --control p.sock
  gridswitch faultproxy --control p.sock --tell '{"down": {"silent": true}}'      a half-open line
  gridswitch faultproxy --control p.sock --tell '{"cut_after": {"up": 17}}'       cut after 17 more bytes
  gridswitch faultproxy --control p.sock --tell '{"refuse": true, "reset": true}' the peer is gone
  gridswitch faultproxy --control p.sock --tell '{}'                              what is true now

faults of a direction (up, down or both):
  delay_ms=LOW..HIGH  spike_rate=P spike_ms=MS  bytes_per_s=N  cut=P  silent=true  slow=true
  with --prefix: loss=P  duplicate=P  reorder=P
"""


def add_faultproxy_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "faultproxy",
        help="a TCP proxy with faults: delay, loss, reorder, cut, throttle, half-open; changeable while it runs",
        description="Stands between two programs and spoils their line.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--listen", metavar="HOST:PORT", help="where callers connect")
    parser.add_argument("--to", metavar="HOST:PORT", help="where their connections go")
    parser.add_argument("--prefix", type=int, choices=(0, 2, 4), default=0, help="bytes of the frames' length prefix")
    parser.add_argument("--fault", action="append", default=[], metavar="DIRECTION.NAME=VALUE", help="from the start")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of its dice (default 1)")
    parser.add_argument("--control", type=Path, metavar="PATH", help="its control socket")
    parser.add_argument("--tell", metavar="JSON", help="give the proxy behind --control an order, and print its report")
    parser.add_argument("--allow-remote", action="store_true", help="also other machines than this one")
    parser.set_defaults(run=_faultproxy)


def _faultproxy(arguments: argparse.Namespace) -> int:
    if arguments.tell is not None:
        if arguments.control is None:
            raise ConfigError("--tell", "says nothing without --control PATH")
        try:
            order = orjson.loads(arguments.tell)
        except orjson.JSONDecodeError as error:
            raise ConfigError("--tell", f"expected a JSON object: {error}") from error
        print(orjson.dumps(tell(arguments.control, order), option=orjson.OPT_INDENT_2).decode())
        return 0
    if arguments.listen is None or arguments.to is None:
        raise ConfigError("faultproxy", "needs --listen HOST:PORT and --to HOST:PORT")
    listen, target = (_address(arguments, name) for name in ("listen", "to"))
    faults = read_faults(arguments.fault)
    order = Order(up=faults["up"], down=faults["down"])
    uvloop.run(_run(arguments, listen, target, order))
    return 0


def _address(arguments: argparse.Namespace, name: str) -> tuple[str, int]:
    text = getattr(arguments, name)
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise ConfigError(f"--{name}", f"expected HOST:PORT, e.g. 127.0.0.1:9001, not {text!r}")
    host = host.strip("[]")
    if host not in LOOPBACK and not arguments.allow_remote:
        raise ConfigError(f"--{name}", f"{host} is not this machine; --allow-remote if that is meant")
    if host not in LOOPBACK:
        print(f"gridswitch: warning: --{name} {host} is another machine", file=sys.stderr)
    return host, int(port)


def read_faults(texts: list[str]) -> dict[str, dict[str, Any]]:
    """``["both.delay_ms=20..80"]`` -> ``{"up": {"delay_ms": [20.0, 80.0]}, "down": …}``; raises ConfigError."""
    order: dict[str, dict[str, Any]] = {"up": {}, "down": {}}
    for text in texts:
        match = re.fullmatch(r"(up|down|both)\.(\w+)=(.+)", text)
        if match is None:
            raise ConfigError("--fault", f"expected e.g. up.loss=0.01 or both.delay_ms=20..80, not {text!r}")
        where, name, value = match.groups()
        for direction in DIRECTIONS if where == "both" else (where,):
            order[direction][name] = _value(text, value)
    return order


def _value(text: str, value: str) -> Any:
    try:
        if ".." in value:
            return [float(part) for part in value.split("..")]
        return orjson.loads(value)
    except ValueError as error:
        raise ConfigError("--fault", f"expected a number, LOW..HIGH, true or false in {text!r}") from error


async def _run(arguments: argparse.Namespace, listen: tuple[str, int], target: tuple[str, int], order: Order) -> None:
    proxy = FaultProxy(target, prefix=arguments.prefix, seed=arguments.seed)
    proxy.obey(order)
    port = await proxy.start(*listen)
    control = None if arguments.control is None else await serve_control(proxy, arguments.control)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    print(f"fault proxy on {listen[0]}:{port} for {target[0]}:{target[1]}", flush=True)
    await stop.wait()
    if control is not None:
        control.close()
        arguments.control.unlink(missing_ok=True)
    await proxy.stop()
    print(orjson.dumps(proxy.report()["counts"]).decode(), flush=True)
