"""Connections that we dial: one that is kept, or one for each transaction, as the peer wants it.

    Dialer              dial, hand it over, and dial again when it is lost
    TransactionDialer   for each request: dial, send it, hear its answer, close


No protocol is known here. Whether a connected link is *up* is its owner's question (an echo answered); an owner that
finds the link dead calls ``reset``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

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

    def frame_lost(self, token: object, *, unsent: bool) -> None:
        """No answer will come to this one frame, while the link goes on. Never from a link that is one connection.

        ``unsent``: proved never to have left.
        """
        ...


def backoff_s(attempt: int, dice: Dice) -> float:
    """Seconds before dial ``attempt`` (1 = first repeat): doubling, bounded, with full jitter.

    Full jitter: after a host's restart every switch dials it, and none may do so in step with another.
    """
    assert attempt >= 1
    doublings = min(attempt - 1, 16)  # beyond it only the bound matters
    return min(limits.BACKOFF_MAX_S, limits.BACKOFF_FIRST_S * 2.0**doublings) * dice.uniform()


class _Dials:
    """What both dialers know of their peer.

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

    async def _dial(
        self, handler: WireHandler, closed: Callable[[FramedProtocol], None] | None = None
    ) -> tuple[FramedProtocol, TlsLine | None]:
        """A connection that nobody has heard of yet: this may be cancelled anywhere, by ``stop`` or by the time.

        uvloop, when ``create_connection`` is cancelled late, has called connection_made and never calls
        connection_lost. Had the owner been told in connection_made, it would wait for a ``wire_lost`` that never comes.
        """
        loop = asyncio.get_running_loop()
        wire = self._new_wire(handler, closed)
        line = None
        async with asyncio.timeout(limits.CONNECT_TIMEOUT_S):
            if self._tls is None:
                await loop.create_connection(lambda: cast(asyncio.Protocol, wire), self._host, self._port)
            else:
                line, shaken = self._new_line(wire, self._tls)
                await loop.create_connection(lambda: line, self._host, self._port)
        if line is not None:
            await self._shake(line, shaken)
        if wire.is_self_connected:
            # TCP joins a dial to itself where nobody listens on a port that the system gives to callers.
            wire.abort("reached itself")
            raise ConnectionError("reached itself: nobody listens there")
        if not wire.is_open:
            raise ConnectionError("accepted and closed at once")
        return wire, line

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

    def _new_wire(self, handler: WireHandler, closed: Callable[[FramedProtocol], None] | None) -> FramedProtocol:
        return FramedProtocol(
            self._framing,
            handler,
            self._observer,
            label=self._name,
            now=asyncio.get_running_loop().time,
            closed=closed,
            held=True,
            may_write=self._may_write,
            tap=self._tap,
        )

    def _dial_failed(self, attempt: int, error: Exception) -> None:
        self._observer.event(
            "link.dial_failed", link=self._name, address=self._address, attempt=attempt, reason=tcp.explain(error)
        )

    def _handler_failed(self, call: str, error: Exception) -> None:
        self._observer.event("wire.handler_failed", link=self._name, call=call, error=error)


class Dialer(_Dials):
    """Keeps one connection to ``host:port`` from ``start`` to ``stop``."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._wire: FramedProtocol | None = None
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

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
                wire, line = await self._dial(self._handler, self._closed)
            except Exception as error:  # whatever it is, the next dial may go better; a dialer never gives up
                self._dial_failed(attempt, error)
                continue
            self._hand_over(wire)
            await self._lost.wait()
            if line is not None and (line.failure is not None or not wire.frames_in):
                # With TLS 1.3 a host refuses our certificate after our handshake has ended well; some just hang up.
                failure = line.failure
                reason = (
                    tcp.explain(failure) if failure else "lost before its first frame: does it take our certificate?"
                )
                self._observer.event("link.tls_failed", link=self._name, address=self._address, reason=reason)
            # Only a peer that has spoken is back. One that accepts and hangs up must not be dialled ever faster.
            if wire.frames_in:
                attempt = 1

    def _hand_over(self, wire: FramedProtocol) -> None:
        self._lost.clear()
        self._wire = wire
        self._observer.event("link.connected", link=self._name, address=self._address)
        try:
            self._handler.wire_up(wire)
        except Exception as error:
            self._handler_failed("wire_up", error)
            wire.abort(f"our handler failed: {type(error).__name__}")
        wire.release()

    def _closed(self, wire: FramedProtocol) -> None:
        assert wire is self._wire
        self._wire = None
        self._lost.set()


class _Call:
    """One transaction: a connection of its own, or one that is being dialled. ``WireHandler`` of it."""

    __slots__ = ("_dialer", "answered", "frame", "task", "timer", "token", "wire")

    def __init__(self, dialer: TransactionDialer, frame: bytes, token: object) -> None:
        self._dialer = dialer
        self.frame = frame
        self.token = token  # None: nobody wants to hear how it ends
        self.wire: FramedProtocol | None = None
        self.task: asyncio.Task[None]
        self.timer: asyncio.TimerHandle
        self.answered = False

    @property
    def unsent(self) -> bool:
        """Proved so far not to have left."""
        return self.wire is None or self in self.wire.unflushed

    def frame_received(self, wire: Wire, frame: bytes) -> None:
        self._dialer.answered(self, frame)

    def wire_lost(self, wire: Wire, reason: str) -> None:
        self._dialer.ended(self)


class TransactionDialer(_Dials):
    """A link to a host that wants one connection per transaction. Towards its owner it is the ``Wire`` as well.

    A connection lives until its first frame has come, or for ``answer_s``. The owner hears of each frame whose
    connection was lost before (``frame_lost``). Dials that fail one after another lose the link; so does ``reset``. It
    is there again after a pause, and its owner probes it as if it were new.

    A task per transaction: beside a dial, and the host's own cost of it, that is nothing.
    """

    terminal_id = ""

    def __init__(self, *args: Any, answer_s: float, **more: Any) -> None:
        super().__init__(*args, **more)
        self._answer_s = answer_s
        self._calls: dict[_Call, None] = {}
        self._by_token: dict[int, _Call] = {}
        self._attempt = 0  # times that the link came up without an answer since
        self._failures = 0  # dials in a row
        self._unsent: tuple[object, ...] = ()
        self._up_timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._empty = asyncio.Event()
        self._empty.set()
        self._stopping = False
        self.is_open = False

    # -------------------------------------------------------------------------------------------- as a dialer
    @property
    def wire(self) -> Wire | None:
        return self if self.is_open else None

    def start(self) -> None:
        assert self._up_timer is None, "a dialer starts once"
        self._up_timer = asyncio.get_running_loop().call_soon(self._up)

    def reset(self, reason: str) -> None:
        """Lose the link and all its connections. What is queued stays unwritten: the peer is believed dead."""
        if self.is_open:
            self._down(reason)

    async def stop(self, reason: str = "stopping") -> None:
        """Write what is queued, close, and dial no more. Returns when all is gone; ``wire_lost`` was called."""
        self._stopping = True
        if self._up_timer is not None:
            self._up_timer.cancel()
        if self.is_open:
            for call in tuple(self._calls):
                if call.wire is not None:
                    call.wire.close(reason)  # what is queued leaves with it
            self._down(reason)
        await self._empty.wait()  # bounded: a closing wire lingers CONNECT_TIMEOUT_S at most
        await asyncio.sleep(0)  # the owner is told

    # -------------------------------------------------------------------------------------------- as a wire
    @property
    def peer(self) -> str:
        return self._address

    @property
    def heard_at(self) -> float:
        raise NotImplementedError("each answer comes on a connection of its own")

    @property
    def unflushed(self) -> Sequence[object]:
        if not self.is_open:
            return self._unsent
        return tuple(call.token for call in self._calls if call.token is not None and call.unsent)

    def send(self, frame: bytes, token: object = None) -> bool:
        if not self.is_open or len(self._calls) >= limits.TRANSACTION_CONNECTIONS_MAX:
            return False
        call = _Call(self, frame, token)
        if token is not None:
            earlier = self._by_token.get(id(token))
            if earlier is not None:
                earlier.token = None  # its owner has given that one up, and now waits for this one
            self._by_token[id(token)] = call
        self._calls[call] = None
        self._empty.clear()
        loop = asyncio.get_running_loop()
        call.timer = loop.call_later(self._answer_s, self._expire, call)
        call.task = loop.create_task(self._carry_out(call), name=f"dial {self._name}")
        return True

    def close(self, reason: str) -> None:
        self.reset(reason)

    def rest(self, seconds: float) -> None:
        raise NotImplementedError("only kiosks are made to wait")

    # -------------------------------------------------------------------------------------------- one transaction
    async def _carry_out(self, call: _Call) -> None:
        try:
            wire, _ = await self._dial(call)
        except Exception as error:
            self._failures += 1
            self._dial_failed(self._failures, error)
            self.ended(call)
            if self._failures >= limits.DIAL_FAILURES_MAX and self.is_open:
                self._down(f"cannot be dialled: {tcp.explain(error)}")
            return
        self._failures = 0
        call.wire = wire
        wire.send(call.frame, call)
        call.frame = b""  # it may hold card data: kept no longer than until it has left
        wire.release()

    def answered(self, call: _Call, frame: bytes) -> None:
        assert call.wire is not None
        call.answered = True
        self._attempt = 0
        call.wire.close("answered")
        self._handler.frame_received(self, frame)

    def ended(self, call: _Call) -> None:
        """Its connection is gone, or there will be none."""
        if call not in self._calls:
            return
        self._forget(call)
        if not call.answered and call.token is not None and self.is_open:
            try:
                self._handler.frame_lost(call.token, unsent=call.unsent)
            except Exception as error:
                self._handler_failed("frame_lost", error)

    def _expire(self, call: _Call) -> None:
        """Whoever waited has its own deadline, and has heard."""
        self._drop_token(call)
        self._abort(call, f"no answer within {self._answer_s:g} s")

    def _abort(self, call: _Call, reason: str) -> None:
        if call.wire is not None:
            call.wire.abort(reason, loud=False)
        else:
            call.task.cancel()
            self.ended(call)

    def _forget(self, call: _Call) -> None:
        del self._calls[call]
        call.timer.cancel()
        if call.token is not None and self._by_token.get(id(call.token)) is call:
            del self._by_token[id(call.token)]
        if not self._calls:
            self._empty.set()

    def _drop_token(self, call: _Call) -> None:
        if call.token is not None and self._by_token.get(id(call.token)) is call:
            del self._by_token[id(call.token)]
        call.token = None

    # -------------------------------------------------------------------------------------------- the link
    def _up(self) -> None:
        self._attempt += 1
        self.is_open = True
        self._unsent = ()
        self._observer.event("link.connected", link=self._name, address=self._address)
        try:
            self._handler.wire_up(self)
        except Exception as error:
            self._handler_failed("wire_up", error)
            self._down(f"our handler failed: {type(error).__name__}")

    def _down(self, reason: str) -> None:
        self._unsent = tuple(self.unflushed)
        self.is_open = False
        for call in tuple(self._calls):
            self._abort(call, reason)
        loop = asyncio.get_running_loop()
        loop.call_soon(self._tell_lost, reason)
        if not self._stopping:
            self._up_timer = loop.call_later(backoff_s(max(1, self._attempt), self._dice), self._up)

    def _tell_lost(self, reason: str) -> None:
        try:
            self._handler.wire_lost(self, reason)
        except Exception as error:
            self._handler_failed("wire_lost", error)
