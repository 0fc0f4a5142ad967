"""Frames over TCP for the simulators: a length prefix, and one write per loop turn.

Everything a host decides in one turn of the loop leaves together: facts to the ledger first, then one write to each
connection. That order is the host's promise, and the batching is what makes it cheap.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

from switch import limits
from switch.errors import StartError

FrameHandler = Callable[["FrameConnection", bytes], None]

LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


class FrameConnection(asyncio.Protocol):
    """One connection of a host or of a kiosk.

    Args:
        prefix_size: Bytes of the length prefix; it counts what follows it.
        frame_max: Longest frame; a longer one ends the connection.
        turn: Writes what the connections of one owner collected during a turn of the loop.
        in_digits: The prefix is ASCII digits; otherwise it is big-endian.
    """

    def __init__(
        self,
        prefix_size: int,
        frame_max: int,
        turn: Turn,
        on_frame: FrameHandler,
        on_open: Callable[[FrameConnection], None] | None = None,
        on_lost: Callable[[FrameConnection], None] | None = None,
        *,
        in_digits: bool = False,
    ) -> None:
        self._in_digits = in_digits
        self._prefix_size = prefix_size
        self._frame_max = frame_max
        self._turn = turn
        self._on_frame = on_frame
        self._on_open = on_open
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._unread = b""
        self._outgoing: list[bytes] = []
        self.state: Any = None  # whatever the owner wants to remember about this connection

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, frame: bytes) -> None:
        """Send at the end of this turn; a closed connection swallows it, like a real one."""
        if not self.is_open:
            return
        size, prefix_size = len(frame), self._prefix_size
        self._outgoing.append(b"%0*d" % (prefix_size, size) if self._in_digits else size.to_bytes(prefix_size, "big"))
        self._outgoing.append(frame)
        self._turn.mark(self)

    def drop(self) -> None:
        """Cut the connection at once: what was not written is lost."""
        self._outgoing.clear()
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Write what is collected, then close."""
        self.write_out()
        if self._transport is not None:
            self._transport.close()

    def write_out(self) -> None:
        if not self._outgoing or self._transport is None:
            return
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > limits.WRITE_BUFFER_MAX:
            self._transport.abort()  # a peer that does not read

    # ---- asyncio.Protocol
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class does not derive from it
        if self._on_open is not None:
            self._on_open(self)

    def data_received(self, data: bytes) -> None:
        data = self._unread + data if self._unread else data
        prefix_size, start, size = self._prefix_size, 0, len(data)
        while size - start >= prefix_size:
            body = start + prefix_size
            if self._in_digits:
                prefix = data[start:body]
                length = int(prefix) if prefix.isdigit() else self._frame_max + 1
            else:
                length = int.from_bytes(data[start:body], "big")
            if length > self._frame_max:
                self.drop()
                return
            if size - body < length:
                break
            start = body + length
            self._on_frame(self, data[body:start])
            if not self.is_open:
                return
        self._unread = data[start:]

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._outgoing.clear()
        if self._on_lost is not None:
            self._on_lost(self)


class Turn:
    """Collects connections that have something to write, and writes once per turn of the loop."""

    def __init__(self, before: Callable[[], None] | None = None) -> None:
        self._before = before  # e.g. the ledger's flush
        self._marked: dict[FrameConnection, None] = {}
        self._scheduled = False

    def mark(self, connection: FrameConnection) -> None:
        self._marked[connection] = None
        self.schedule()

    def schedule(self) -> None:
        """There is something for ``before``, even if nothing is to be sent."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self.write_out)

    def write_out(self) -> None:
        self._scheduled = False
        if self._before is not None:
            self._before()  # if it raises, what is marked waits for the next turn
        marked = list(self._marked)
        self._marked.clear()
        for connection in marked:
            connection.write_out()


def host_tls(folder: Path) -> ssl.SSLContext:
    """For a simulated host: shows ``server.pem`` of a folder of ``gridswitch certs dev``, and asks for a certificate.

    Raises:
        StartError: The folder lacks something.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    return _with_files(context, folder, "server")


def kiosk_tls(folder: Path, terminal_id: str) -> ssl.SSLContext:
    """For a simulated kiosk: shows the certificate of its terminal. Raises as ``host_tls``."""
    return _with_files(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), folder, f"terminals/{terminal_id}")


def _with_files(context: ssl.SSLContext, folder: Path, name: str) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(folder / "ca.pem")
        context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    except OSError as error:
        reason = error.strerror or str(error)
        raise StartError(
            "certs",
            f"{folder}: ca.pem, {name}.pem or {name}.key cannot be used: {reason}; "
            f"make them: gridswitch certs dev --dir {folder}",
        ) from error
    return context


async def listen(
    host: str, port: int, factory: Callable[[], asyncio.Protocol], tls: ssl.SSLContext | None = None
) -> asyncio.Server:
    """A listening socket on a loopback address.

    Raises:
        StartError: The address is not a loopback address, or the port is taken.
    """
    if host not in LOOPBACK:
        raise StartError("listen", f"a simulator listens on loopback only ({', '.join(LOOPBACK)}), not on {host}")
    try:
        return await asyncio.get_running_loop().create_server(factory, host, port, ssl=tls)
    except OSError as error:
        raise StartError(
            "listen", f"cannot listen on {host}:{port}: {error.strerror or error}; is another host running there?"
        ) from error
