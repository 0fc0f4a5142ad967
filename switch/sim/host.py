"""What both simulated hosts are: a ledger, a business day, connections, and a promise about time.

The promise: a host acts on a request within the bounds of ``scenario``, or never. A process that was stopped for a
while (a drill, a starved machine) finds old requests in its sockets when it wakes. It cannot tell how old they are,
so it cuts its connections and forgets them, as a restarted host would.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import orjson

from switch import limits
from switch.errors import StartError
from switch.sim.day import CUT_OVER_DEFAULT_S, BusinessDay
from switch.sim.scenario import LATE_MARGIN_S, Dice, Scenario
from switch.sim.truth import Book, Fact, open_ledger
from switch.sim.wire import FrameConnection, Turn, listen

_STALL_MAX_S: Final = 1.0  # a loop that stood still this long may have requests that are too old to act on


class SimulatedHost:
    """Listens on a loopback address from ``start`` to ``stop``.

    Args:
        port: 0 takes a free one; ``port`` tells which after ``start``.
        ledger_path: Its truth. An existing file is replayed: the host comes back as it was.
        cut_over_in_s: When its business day ends. None: 12 hours after the ledger began.
    """

    kind = ""
    prefix_size = 2
    in_digits = False  # the length in front of a frame is ASCII digits
    frame_max = limits.FRAME_SIZE_MAX
    pulse_s = 0.1  # between looks whether the process was stopped; a simulated loop needs them less often

    def __init__(
        self, host: str, port: int, ledger_path: Book, scenario: Scenario, cut_over_in_s: float | None
    ) -> None:
        self.host = host
        self.port = port
        self.scenario = scenario
        self.counts: Counter[str] = Counter()
        self.dice = Dice(scenario.seed, self.kind)
        self.delay_ms = (0.0, 0.0)
        self.connections: dict[FrameConnection, None] = {}  # in order: a simulated run must not hang on their addresses
        self.latest: FrameConnection | None = None  # of them
        self.tls: ssl.SSLContext | None = None  # set before ``start``: its callers must speak TLS
        self._ledger_path = ledger_path
        self._cut_over_in_s = cut_over_in_s
        self._server: asyncio.Server | None = None
        self._pulse: asyncio.TimerHandle | None = None
        self._awake_at = 0.0  # loop time at which nothing older can have waited in a socket

    # ---- for the two hosts to fill in
    def recall(self, fact: Fact) -> None:
        """Take one fact of the ledger into memory."""
        raise NotImplementedError

    def obey_frame(self, connection: FrameConnection, frame: bytes) -> None:
        """Act on one request."""
        raise NotImplementedError

    def opening(self) -> dict[str, Any]:
        """More facts for the line that opens a ledger."""
        return {}

    def behave(self, scenario: Scenario) -> None:
        """From now on as this scenario says."""
        raise NotImplementedError

    # ---- life
    async def start(self) -> None:
        """Open the ledger, replay it, listen.

        Raises:
            StartError: The ledger or the port is taken.
        """
        self.ledger = open_ledger(self._ledger_path)
        self.turn = Turn(self.ledger.flush)
        try:
            self.business_day = self._replay()
            self._server = await listen(self.host, self.port, self._connection, self.tls)
        except BaseException:
            self.ledger.close()
            raise
        self.port = self._server.sockets[0].getsockname()[1]
        self._beat()

    async def stop(self) -> None:
        """Stop listening, close every connection, close the ledger. What was delayed and not acted on is lost."""
        if self._server is not None:
            server, self._server = self._server, None
            server.close()
            self.turn.write_out()
            for connection in list(self.connections):
                connection.close()
            await server.wait_closed()
        if self._pulse is not None:
            self._pulse.cancel()
        self.ledger.close()

    def _replay(self) -> BusinessDay:
        day: BusinessDay | None = None
        try:
            for fact in self.ledger.replay():
                if fact["fact"] == "opened":
                    if fact.get("host") != self.kind:
                        raise ValueError(f"it is the ledger of {fact.get('host')}, not of {self.kind}")
                    day = BusinessDay.from_facts(fact)
                self.recall(fact)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            where = self.ledger.path
            raise StartError("ledger", f"{where}: cannot be replayed: {error}; take another file") from error
        if day is not None and self._cut_over_in_s is None:
            return day
        cut_over_in_s = CUT_OVER_DEFAULT_S if self._cut_over_in_s is None else self._cut_over_in_s
        day = BusinessDay.starting_now(cut_over_in_s) if day is None else day.moved(cut_over_in_s)
        self.ledger.write("opened", host=self.kind, **day.facts(), **self.opening())
        self.ledger.flush()
        return day

    def write(self, fact: str, **facts: Any) -> None:
        """To the ledger; on disk before any answer of this loop turn leaves."""
        self.ledger.write(fact, **facts)
        self.turn.schedule()

    def note(self, facts: Fact) -> None:
        """The same for what every payment writes, ``at`` and ``fact`` included: nothing is copied on the way."""
        self.ledger.add(orjson.dumps(facts))
        self.turn.schedule()

    # ---- requests
    def _connection(self) -> FrameConnection:
        return FrameConnection(
            self.prefix_size,
            self.frame_max,
            self.turn,
            self._frame_received,
            self._opened,
            lambda connection: self.connections.pop(connection, None),
            in_digits=self.in_digits,
        )

    def _opened(self, connection: FrameConnection) -> None:
        self.connections[connection] = None
        self.latest = connection

    def _frame_received(self, connection: FrameConnection, frame: bytes) -> None:
        if asyncio.get_running_loop().time() - self._awake_at > self.pulse_s + _STALL_MAX_S:
            self._forget_everything()
        else:
            self.obey_frame(connection, frame)

    def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._awake_at and now - self._awake_at > self.pulse_s + _STALL_MAX_S:
            self._forget_everything()
        self._awake_at = now
        self._pulse = loop.call_later(self.pulse_s, self._beat)

    def _forget_everything(self) -> None:
        self.counts["stalled"] += 1
        for connection in list(self.connections):
            connection.drop()

    # ---- later
    def delay_s(self) -> float:
        return self.dice.between(self.delay_ms) / 1000

    def send_later(self, connection: FrameConnection, delay_s: float, frame: bytes) -> None:
        if delay_s <= 0.0:
            connection.send(frame)
        else:
            asyncio.get_running_loop().call_later(delay_s, connection.send, frame)

    def act_later(self, delay_s: float, act: Callable[[], None], give_up: Callable[[], None]) -> None:
        """Act ``delay_s`` after the request can have come at the earliest; give up if the timer fires too late."""
        due = min(self._awake_at, asyncio.get_running_loop().time()) + delay_s
        asyncio.get_running_loop().call_at(due, self._act_or_give_up, due, act, give_up)

    def _act_or_give_up(self, due: float, act: Callable[[], None], give_up: Callable[[], None]) -> None:
        if self._server is None:
            return
        if asyncio.get_running_loop().time() - due > LATE_MARGIN_S / 2:
            self.counts["late_given_up"] += 1
            give_up()
        else:
            act()

    def cut(self, connection: FrameConnection) -> None:
        """Drop a connection as a broken line does; what was acted on is in the ledger first."""
        self.ledger.flush()
        connection.drop()


assert min(limits.SHORT.quiet_s, limits.SHORT.marketing_quiet_s) > SimulatedHost.pulse_s + _STALL_MAX_S
