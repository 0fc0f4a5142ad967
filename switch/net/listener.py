"""Kiosks connect here.

One timer looks at all connections: a timer for each of 20,000 would cost more than what they carry.
"""

from __future__ import annotations

import asyncio
import resource
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from switch import limits
from switch.config import ListenConfig
from switch.errors import StartError
from switch.net import tcp
from switch.net.certificates import End
from switch.net.framed import LEN2, FramedProtocol, Tap
from switch.net.tls import TlsLine, TlsRefusedError, Turns
from switch.ports import Clock, Observer, Wire, WireHandler

LABEL: Final = "kiosk"
# A sixth of the shorter time limit: a connection lives at most that much longer than it may.
SWEEP_S: Final = limits.KIOSK_PARTIAL_FRAME_S / 6


class KioskListener:
    """Accepts kiosks and gives their frames to ``handler``.

    Args:
        bind: Gives the bound socket to listen on.
        loud: Asked when a kiosk's stream is no stream of frames; False: that is no line in the log.
        tls: Certificates of the moment; None: kiosks speak in the clear.
        reuse_port: True lets several workers listen on one port; the kernel spreads the kiosks over them.
    """

    def __init__(
        self,
        config: ListenConfig,
        handler: WireHandler,
        observer: Observer,
        clock: Clock,
        *,
        reuse_port: bool = False,
        bind: Callable[..., Any] = tcp.bind,
        tap: Tap | None = None,
        loud: Callable[[Wire], bool] = lambda wire: True,
        tls: End | None = None,
    ) -> None:
        self._loud = loud
        self._tls = tls
        self._turns = Turns()
        self._handshakes: dict[TlsLine, float] = {}  # since when, oldest first
        self._shaking: dict[str, dict[TlsLine, None]] = {}  # the same by address
        self._refused = 0  # handshakes since the last sweep
        self._config = config
        self._handler = handler
        self._observer = observer
        self._clock = clock
        self._reuse_port = reuse_port
        self._bind = bind
        self._tap = tap
        self._wires: dict[FramedProtocol, None] = {}  # in order: a simulated run must not hang on their addresses
        self._sources: dict[str, dict[FramedProtocol, None]] = {}  # by address, oldest first
        self._mute: OrderedDict[FramedProtocol, None] = OrderedDict()  # no frame came yet when we last looked
        self._server: asyncio.Server | None = None
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._empty.set()
        self._port = 0
        self._accepting = False

    @property
    def port(self) -> int:
        """The port listened on, also when the configuration says 0."""
        return self._port

    @property
    def wires(self) -> int:
        return len(self._wires)

    @property
    def handshakes(self) -> int:
        """Connections whose TLS handshake has begun and not ended."""
        return len(self._handshakes)

    @property
    def accepting(self) -> bool:
        return self._accepting

    async def start(self) -> None:
        """Listen. Raises StartError when the address cannot be had."""
        assert self._server is None, "a listener starts once"
        loop = asyncio.get_running_loop()
        config = self._config
        try:
            sock = self._bind(config.host, config.port, reuse_port=self._reuse_port)
            try:
                # As many waiting as may connect: after a power cut a whole province dials at once. The kernel
                # takes less if net.core.somaxconn says so.
                self._server = await loop.create_server(self._wire, sock=sock, backlog=limits.KIOSK_CONNECTIONS_MAX)
            except OSError:
                sock.close()
                raise
        except OSError as error:
            where = tcp.address((config.host, config.port))
            raise StartError("listen", f"cannot listen for kiosks on {where}: {tcp.advise(error)}") from error
        self._port = sock.getsockname()[1]
        self._accepting = True
        self._sweep_timer = loop.call_later(SWEEP_S, self._sweep_and_again)
        self._observer.gauge("switch_kiosk_connections", 0)
        self._observer.event("listener.started", address=tcp.address((config.host, self._port)))
        files_max = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if 0 <= files_max < config.connections_max:
            self._observer.event("listener.files_short", files_max=files_max, connections_max=config.connections_max)

    def stop_accepting(self) -> None:
        """Close the door; who is inside stays."""
        if self._accepting:
            assert self._server is not None
            self._accepting = False
            self._server.close()
            self._observer.event("listener.stopped", wires=len(self._wires))

    def close_all(self, reason: str) -> None:
        """Write what is queued and close every connection. ``wires`` falls to 0 as they go, within seconds."""
        for line in tuple(self._handshakes):
            line.refuse(TlsRefusedError("closing", "the switch stops"))
        for wire in tuple(self._wires):
            wire.close(reason)

    async def stop(self, reason: str) -> None:
        """Close the door and every connection; returns when the last one is gone."""
        self.stop_accepting()
        self.close_all(reason)
        await self._empty.wait()  # bounded: a closing wire lingers CONNECT_TIMEOUT_S at most
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()

    def sweep(self) -> None:
        """Drop those who are silent, or stuck in the middle of a frame or of a handshake."""
        now = self._clock.now()
        for line, since in tuple(self._handshakes.items()):
            if now - since <= limits.TLS_HANDSHAKE_S:
                break  # the others are younger
            line.refuse(TlsRefusedError("slow", f"no handshake within {limits.TLS_HANDSHAKE_S:g} s"))
        self._refused = 0
        idle_s = self._config.idle_s
        for wire in tuple(self._wires):
            wire.check(now, idle_s)

    def _sweep_and_again(self) -> None:
        self._sweep_timer = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep_and_again)
        self.sweep()

    def _wire(self) -> asyncio.Protocol:
        wire = FramedProtocol(
            LEN2,
            self._handler,
            self._observer,
            label=LABEL,
            now=self._clock.now,
            opened=self._opened,
            closed=self._lost,
            tap=self._tap,
            loud=self._loud,
            buffer_max=limits.KIOSK_WRITE_BUFFER_MAX,
        )
        if self._tls is None:
            return cast(asyncio.Protocol, wire)  # which asyncio and uvloop take for what it can do
        return TlsLine(wire, self._tls.context, self._shaken, made=self._shake, turns=self._turns)

    def _shake(self, line: TlsLine) -> bool:
        """A caller begins a handshake: it counts as a connection, and of its source, from here on."""
        source = tcp.source(tcp.address(line.get_extra_info("peername")))
        waiting, neighbours = self._shaking.get(source, {}), self._sources.get(source, {})
        all_max, source_max = self._config.connections_max, self._config.limits.source_connections_max
        if not self._accepting:
            reason = "closing"
        elif len(neighbours) + len(waiting) >= source_max and not self._crowd_out(waiting, neighbours):
            reason = "source"
        elif len(self._wires) + len(self._handshakes) >= all_max and not self._crowd_out(self._handshakes, self._mute):
            reason = "connections"
        else:
            self._handshakes[line] = self._clock.now()
            self._shaking.setdefault(source, {})[line] = None
            self._empty.clear()
            self._observer.gauge("switch_tls_pending", len(self._handshakes))
            return True
        self._observer.count("switch_admission_rejects_total", (reason,))
        return False

    def _crowd_out(
        self, waiting: Iterable[TlsLine], wires: OrderedDict[FramedProtocol, None] | dict[FramedProtocol, None]
    ) -> bool:
        """The oldest unfinished handshake goes first: a thousand that are stuck must not keep out one that needs ms."""
        oldest = next(iter(waiting), None)
        if oldest is None:
            return self._make_room(wires)
        oldest.refuse(TlsRefusedError("crowded_out", "connections are taken, and its handshake is the oldest"))
        return True

    def _shaken(self, line: TlsLine, error: TlsRefusedError | None) -> None:
        peer = tcp.address(line.get_extra_info("peername"))
        source = tcp.source(peer)
        del self._handshakes[line], self._shaking[source][line]
        if not self._shaking[source]:
            del self._shaking[source]
        self._observer.gauge("switch_tls_pending", len(self._handshakes))
        if error is None:
            return  # its wire opens now
        self._observer.count("switch_tls_refused_total", (error.code,))
        # Balancers and port scanners connect and go, and a flood must not fill the log: the counter knows them all.
        self._refused += error.code not in ("cut", "closing")
        quiet = error.code in ("cut", "closing") or self._refused > limits.TLS_REFUSED_LINES_MAX
        level = "debug" if quiet else "warning"
        self._observer.event("kiosk.tls_refused", level=level, peer=peer, code=error.code, reason=error.detail)
        self._look_empty()

    def _opened(self, wire: FramedProtocol) -> bool:
        neighbours = self._sources.get(tcp.source(wire.peer), {})
        if not self._accepting:
            reason = "closing"  # the kernel had completed this connection before the door was closed
        elif len(neighbours) >= self._config.limits.source_connections_max and not self._make_room(neighbours):
            reason = "source"
        elif len(self._wires) >= self._config.connections_max and not self._make_room(self._mute):
            reason = "connections"
        else:
            self._wires[wire] = None
            self._mute[wire] = None
            self._sources.setdefault(tcp.source(wire.peer), {})[wire] = None
            self._empty.clear()
            self._observer.gauge("switch_kiosk_connections", len(self._wires))
            return True
        self._observer.count("switch_admission_rejects_total", (reason,))
        return False

    def _make_room(self, wires: OrderedDict[FramedProtocol, None] | dict[FramedProtocol, None]) -> bool:
        """Who has said nothing gives way to who comes: sockets that are only held open keep no kiosk out."""
        for wire in tuple(wires):
            if not wire.spoke:
                # Counted out at once: its ``connection_lost`` comes a loop turn later.
                self._forget(wire)
                wire.close("said nothing, and others wait at the door")
                self._observer.count("switch_admission_rejects_total", ("mute",))
                return True
            self._mute.pop(wire, None)  # it has spoken since
        return False

    def _forget(self, wire: FramedProtocol) -> None:
        self._wires.pop(wire, None)
        self._mute.pop(wire, None)
        source = tcp.source(wire.peer)
        neighbours = self._sources.get(source)
        if neighbours is not None:
            neighbours.pop(wire, None)
            if not neighbours:
                del self._sources[source]

    def _lost(self, wire: FramedProtocol) -> None:
        self._forget(wire)
        self._look_empty()
        self._observer.gauge("switch_kiosk_connections", len(self._wires))

    def _look_empty(self) -> None:
        if not self._wires and not self._handshakes:
            self._empty.set()
