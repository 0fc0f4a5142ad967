"""Keep one connection to a peer: dial, hand it over, and dial again when it is lost.

No protocol is known here. Whether a connected link is *up* is its owner's question (an echo answered); an owner that
finds the link dead calls ``reset``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from switch import limits
from switch.net import tcp
from switch.net.certificates import End
from switch.net.framed import FramedProtocol, Framing, Tap
from switch.net.tls import TlsLine, TlsRefusedError
from switch.ports import Dice, Observer, Wire, WireHandler


class LinkHandler(WireHandler, Protocol):
    """What the owner of a dialled link gets to hear."""

    def wire_up(self, wire: Wire) -> None:
        """Connected. Frames may be sent and will come; ``wire_lost`` ends it."""
        ...


def backoff_s(attempt: int, dice: Dice) -> float:
    """Seconds before dial ``attempt`` (1 = first repeat): doubling, bounded, with full jitter.

    Full jitter: after a host's restart every switch dials it, and none may do so in step with another.
    """
    assert attempt >= 1
    doublings = min(attempt - 1, 16)  # beyond it only the bound matters
    return min(limits.BACKOFF_MAX_S, limits.BACKOFF_FIRST_S * 2.0**doublings) * dice.uniform()


class Dialer:
    """Keeps a link to ``host:port`` from ``start`` to ``stop``.

    Args:
        name: The link's name in logs and metrics.
        may_write, tap: As of ``FramedProtocol``.
        tls: Certificates of the moment; None: the link speaks in the clear.
        server_name: In the peer's certificate; "" means ``host``.
    """

    def __init__(
        self,
        host: str,
        port: int,
        framing: Framing,
        handler: LinkHandler,
        observer: Observer,
        dice: Dice,
        *,
        name: str,
        may_write: Callable[[], bool] | None = None,
        tap: Tap | None = None,
        tls: End | None = None,
        server_name: str = "",
    ) -> None:
        self._tls = tls
        self._server_name = server_name or host
        self._may_write = may_write
        self._tap = tap
        self._host = host
        self._port = port
        self._framing = framing
        self._handler = handler
        self._observer = observer
        self._dice = dice
        self._name = name
        self._address = tcp.address((host, port))
        self._wire: FramedProtocol | None = None
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._line: TlsLine | None = None

    @property
    def wire(self) -> Wire | None:
        """The connection, while there is one."""
        return self._wire

    def start(self) -> None:
        assert self._task is None, "a dialer starts once"
        self._task = asyncio.get_running_loop().create_task(self._keep(), name=f"dial {self._name}")

    def reset(self, reason: str) -> None:
        """Drop the connection and dial again. What is queued stays unwritten: the peer is believed dead."""
        if self._wire is not None:
            self._wire.abort(reason)

    async def stop(self, reason: str = "stopping") -> None:
        """Write what is queued, close, and dial no more. Returns when the wire is gone; ``wire_lost`` was called."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._wire is not None:
            self._wire.close(reason)
            await self._lost.wait()  # bounded: a closing wire lingers CONNECT_TIMEOUT_S at most

    async def _keep(self) -> None:
        attempt = 0
        while True:
            if attempt:
                await asyncio.sleep(backoff_s(attempt, self._dice))
            attempt += 1
            try:
                wire = await self._dial()
            except Exception as error:  # whatever it is, the next dial may go better; a dialer never gives up
                self._observer.event(
                    "link.dial_failed",
                    link=self._name,
                    address=self._address,
                    attempt=attempt,
                    reason=tcp.explain(error),
                )
                continue
            self._hand_over(wire)
            await self._lost.wait()
            if self._line is not None and (self._line.failure is not None or not wire.frames_in):
                # With TLS 1.3 a host refuses our certificate after our handshake has ended well; some just hang up.
                failure = self._line.failure
                reason = (
                    tcp.explain(failure) if failure else "lost before its first frame: does it take our certificate?"
                )
                self._observer.event("link.tls_failed", link=self._name, address=self._address, reason=reason)
            # Only a peer that has spoken is back. One that accepts and hangs up must not be dialled ever faster.
            if wire.frames_in:
                attempt = 1

    async def _dial(self) -> FramedProtocol:
        """A connection that nobody has heard of yet: this may be cancelled anywhere, by ``stop`` or by the time.

        uvloop, when ``create_connection`` is cancelled late, has called connection_made and never calls
        connection_lost. Had the owner been told in connection_made, it would wait for a ``wire_lost`` that never comes.
        """
        loop = asyncio.get_running_loop()
        wire = self._new_wire()
        async with asyncio.timeout(limits.CONNECT_TIMEOUT_S):
            if self._tls is None:
                await loop.create_connection(lambda: wire, self._host, self._port)
            else:
                line, shaken = self._new_line(wire, self._tls)
                self._line = line
                await loop.create_connection(lambda: line, self._host, self._port)
        if self._tls is not None:
            await self._shake(line, shaken)
        if wire.is_self_connected:
            # TCP joins a dial to itself where nobody listens on a port that the system gives to callers.
            wire.abort("reached itself")
            raise ConnectionError("reached itself: nobody listens there")
        if not wire.is_open:
            raise ConnectionError("accepted and closed at once")
        return wire

    def _new_line(self, wire: FramedProtocol, tls: End) -> tuple[TlsLine, asyncio.Future[TlsRefusedError | None]]:
        shaken: asyncio.Future[TlsRefusedError | None] = asyncio.get_running_loop().create_future()

        def ended(_line: TlsLine, error: TlsRefusedError | None) -> None:
            if not shaken.done():
                shaken.set_result(error)

        return TlsLine(wire, tls.context, ended, server_name=self._server_name), shaken

    async def _shake(self, line: TlsLine, shaken: asyncio.Future[TlsRefusedError | None]) -> None:
        try:
            async with asyncio.timeout(limits.TLS_HANDSHAKE_S):
                refused = await shaken
        except TimeoutError:
            slow = TlsRefusedError("slow", f"no TLS handshake within {limits.TLS_HANDSHAKE_S:g} s")
            line.refuse(slow)
            raise slow from None
        except asyncio.CancelledError:
            line.abort()
            raise
        error = refused or line.failure
        if error is not None:
            raise error

    def _hand_over(self, wire: FramedProtocol) -> None:
        self._lost.clear()
        self._wire = wire
        self._observer.event("link.connected", link=self._name, address=self._address)
        try:
            self._handler.wire_up(wire)
        except Exception as error:
            self._observer.event("wire.handler_failed", link=self._name, call="wire_up", error=error)
            wire.abort(f"our handler failed: {type(error).__name__}")
        wire.release()

    def _new_wire(self) -> FramedProtocol:
        return FramedProtocol(
            self._framing,
            self._handler,
            self._observer,
            label=self._name,
            now=asyncio.get_running_loop().time,
            closed=self._closed,
            held=True,
            may_write=self._may_write,
            tap=self._tap,
        )

    def _closed(self, wire: FramedProtocol) -> None:
        assert wire is self._wire
        self._wire = None
        self._lost.set()
