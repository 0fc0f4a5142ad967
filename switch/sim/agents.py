"""A fleet of simulated agents: a thousand kiosks that report to the admin service, with customers and scripted faults.

Each is the reference agent itself (switch/kiosk/agent) with a spool in memory, on one connection of its own. A script
says what happens to whom:

    sessions_per_hour = 6.0        # customers of each kiosk

    [[fault]]
    kind = "cable"                 # see below
    first = 1                      # the first agent's number
    count = 20
    at_s = 60.0                    # after all have started (--ramp)
    for_s = 120.0                  # 0: until the end

    cable            the line is gone: nothing leaves or comes; events wait in the spool
    power            the agent dies in the middle of everything and starts again: a new boot, the spool as it was
    paper_low, paper_out, paper_jam    of the receipt printer
    card_reader      hardware error
    skew             its clock is ``seconds`` ahead (or behind, when negative)
    clone            a second machine with the same key and copied counters speaks from another address
    silent_app       the agent lives and the kiosk's program does not: no customers, mode unknown, not signed on
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import datetime
import json
import random
import ssl
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import uvloop
from msgspec import Meta, Struct

from switch.errors import ConfigError, UnavailableError
from switch.kiosk.agent.agent import Agent, Credentials
from switch.kiosk.agent.ports import SimulatedHands, SimulatedUnits, SystemClock
from switch.kiosk.agent.spool import MemorySpool
from switch.kiosk.agent.wire import Reply, Wire
from switch.sim.histogram import Histogram

BUNDLED: Final = ("calm", "faults")
AGENTS_MAX: Final = 5_000  # of one process: 100 KB each, and a socket
SECONDS_MAX: Final = 24 * 3600.0
SPOOL_BYTES_MAX: Final = 1024 * 1024  # of one agent: an hour without a line
SETTLE_S: Final = 30.0  # at the end, for what the spools still hold
_CUT_S: Final = 0.05  # how long a request takes to notice that the cable is out
_BUSINESSES: Final = ("pay", "prepay", "inquiry", "e_bill")


class Fault(Struct, frozen=True, forbid_unknown_fields=True):
    kind: Literal["cable", "power", "paper_low", "paper_out", "paper_jam", "card_reader", "skew", "clone", "silent_app"]
    first: Annotated[int, Meta(ge=1)] = 1
    count: Annotated[int, Meta(ge=1, le=AGENTS_MAX)] = 1
    at_s: Annotated[float, Meta(ge=0, le=SECONDS_MAX)] = 0.0
    for_s: Annotated[float, Meta(ge=0, le=SECONDS_MAX)] = 0.0
    seconds: float = 0.0  # of skew


class Script(Struct, frozen=True, forbid_unknown_fields=True):
    sessions_per_hour: Annotated[float, Meta(ge=0, le=3600)] = 6.0
    fault: tuple[Fault, ...] = ()


class Member(Struct, frozen=True):
    kiosk: str
    certificate: str
    key: str


class Book(Struct, frozen=True):
    """What ``gridswitch admin test-agents`` wrote."""

    server: str
    ca: str
    command_key: str
    agents: tuple[Member, ...]


@dataclass
class Result:
    agents: int
    seconds: float
    beats: int = 0
    beats_failed: int = 0
    items_sent: int = 0
    items_left: int = 0
    commands: int = 0
    sessions: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    crashed: list[str] = field(default_factory=list)
    took: Histogram = field(default_factory=Histogram)

    def told(self) -> dict[str, Any]:
        return {
            "agents": self.agents,
            "seconds": round(self.seconds, 1),
            "beats": self.beats,
            "beats_failed": self.beats_failed,
            "beat_ms": {
                "p50": round(self.took.at(0.5) * 1000, 1),
                "p95": round(self.took.at(0.95) * 1000, 1),
                "p99": round(self.took.at(0.99) * 1000, 1),
                "max": round(self.took.longest * 1000, 1),
            },
            "sessions": self.sessions,
            "items_sent": self.items_sent,
            "items_left": self.items_left,
            "commands": self.commands,
            "faults": dict(self.faults),
            "crashed": self.crashed,
        }


class _Wire(Wire):
    """With a cable that can be pulled."""

    cut = False

    async def call(self, method: str, path: str, body: object = None, **more: Any) -> Reply:
        if not self.cut:
            reply = await super().call(method, path, body, **more)
        if self.cut:  # also while the answer was on its way
            await self.renew()
            await asyncio.sleep(_CUT_S)
            raise UnavailableError("away", "the cable is out")
        return reply


class _Clock(SystemClock):
    ahead_s = 0.0

    def wall(self) -> datetime.datetime:
        return super().wall() + datetime.timedelta(seconds=self.ahead_s)


class Kiosk:
    """One simulated kiosk: its agent, its customers, and what happens to it."""

    def __init__(self, number: int, member: Member, book: Book, server: str, result: Result, script: Script) -> None:
        self._number = number
        self._member = member
        self._book = book
        self._server = server
        self._result = result
        self._script = script
        self._dice = random.Random(number)
        self._spool = MemorySpool(bytes_max=SPOOL_BYTES_MAX)
        self._clock = _Clock()
        self.units = SimulatedUnits()
        self._context = _context(book.ca, member)
        self._app_is_silent = False
        self._cut = False
        self._agent: Agent | None = None
        self._wire: _Wire | None = None
        self._running: asyncio.Task[None] | None = None
        self._clone: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------------------------------------ life
    def start(self) -> None:
        """Also after a power cut: what is in the spool is there, everything else is new."""
        self.units = SimulatedUnits()
        self._agent, self._wire = self._made(self._spool, f"127.1.{self._number >> 8}.{self._number & 255}", self.units)
        self._wire.cut = self._cut
        self._running = asyncio.create_task(self._agent.run())

    def _made(self, spool: MemorySpool, source: str, units: SimulatedUnits) -> tuple[Agent, _Wire]:
        wire = _Wire(self._server, self._context, source=source)
        credentials = Credentials(self._member.kiosk, base64.b64decode(self._book.command_key))
        agent = Agent(
            *(credentials, wire, spool, units, SimulatedHands(units)),
            app="simulated",
            clock=self._clock,
            dice=self._dice,
            took=self._result.took.add,
        )
        return agent, wire

    async def stop(self) -> None:
        for task in (self._running, self._clone):
            await self._ended(task)
        self._running = self._clone = None
        self._take_numbers()
        self._result.items_left += self._spool.waiting()

    async def _ended(self, task: asyncio.Task[None] | None) -> None:
        if task is None:
            return
        task.cancel()
        (error,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(error, Exception):
            self._result.crashed.append(f"{self._member.kiosk}: {error!r}")

    def _take_numbers(self) -> None:
        if self._agent is not None:
            numbers = self._agent.numbers
            self._result.beats += numbers.beats
            self._result.beats_failed += numbers.beats_failed
            self._result.items_sent += numbers.sent
            self._result.commands += numbers.orders_done
            self._agent = None

    @property
    def waiting(self) -> int:
        return 0 if self._cut else self._spool.waiting()

    async def customers(self) -> None:
        """They come when they come, and not to a kiosk that shows nothing."""
        if not self._script.sessions_per_hour:
            return
        while True:
            await asyncio.sleep(self._dice.expovariate(self._script.sessions_per_hour / 3600))
            agent = self._agent
            if agent is None or self._app_is_silent or self.units.mode() != "in_service":
                continue
            paid = self._dice.random() < 0.7
            agent.session(
                seconds=self._dice.randint(20, 180),
                outcome="done" if paid else "abandoned",
                business=self._dice.choice(_BUSINESSES),
                last_step="slip" if paid else "bill",
            )
            self._result.sessions += 1
            if paid:
                agent.count("txn_ok")
                agent.count("slips")

    # ------------------------------------------------------------------------------------------------ faults
    async def suffer(self, fault: Fault, end_s: float) -> None:
        """From its time to its end."""
        await asyncio.sleep(fault.at_s)
        self._result.faults[fault.kind] += 1
        begin, end = self._hands_of(fault)
        await begin()
        await asyncio.sleep(fault.for_s or end_s)
        await end()

    def _hands_of(self, fault: Fault) -> tuple[Callable[[], Any], Callable[[], Any]]:
        if fault.kind.startswith("paper_"):
            state = {"paper_low": "low", "paper_out": "out", "paper_jam": "jammed"}[fault.kind]
            kind = f"printer.{fault.kind}"
            return self._set("ptr.paper", state, kind), self._set("ptr.paper", "full", "printer.paper_ok")
        match fault.kind:
            case "card_reader":
                return self._set("idc", "hwerror", "card_reader.error"), self._set("idc", "online", "card_reader.ok")
            case "cable":
                return self._line(cut=True), self._line(cut=False)
            case "power":
                return self._power_off, self._power_on
            case "skew":
                return self._skew(fault.seconds), self._skew(0.0)
            case "clone":
                return self._clone_on, self._clone_off
        return self._app(silent=True), self._app(silent=False)

    def _set(self, unit: str, state: str, kind: str) -> Callable[[], Any]:
        async def act() -> None:
            if self._agent is not None:
                self._agent.event(kind, unit=unit.partition(".")[0], severity="info" if "ok" in kind else "fault")
            self.units.set(unit, state)
            if state == "jammed":
                self._spool.grow("jams")

        return act

    def _line(self, *, cut: bool) -> Callable[[], Any]:
        async def act() -> None:
            self._cut = cut
            if self._wire is not None:
                self._wire.cut = cut

        return act

    def _skew(self, seconds: float) -> Callable[[], Any]:
        async def act() -> None:
            self._clock.ahead_s = seconds

        return act

    def _app(self, *, silent: bool) -> Callable[[], Any]:
        async def act() -> None:
            self._app_is_silent = silent
            self.units.signed_on = not silent
            self.units.set_mode("unknown" if silent else "in_service")

        return act

    async def _power_off(self) -> None:
        task, self._running = self._running, None
        await self._ended(task)
        self._take_numbers()

    async def _power_on(self) -> None:
        self._spool.grow("restarts")
        self.start()

    async def _clone_on(self) -> None:
        spool = MemorySpool(bytes_max=SPOOL_BYTES_MAX)
        for name, value in self._spool.counters().items():
            spool.grow(name, value)
        agent, _ = self._made(spool, f"127.2.{self._number >> 8}.{self._number & 255}", SimulatedUnits())
        self._clone = asyncio.create_task(agent.run())

    async def _clone_off(self) -> None:
        task, self._clone = self._clone, None
        await self._ended(task)


def _context(ca: str, member: Member) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=ca)
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # OpenSSL takes keys from files alone; mode 0600
        file.write(member.key + member.certificate)
        file.flush()
        context.load_cert_chain(file.name)
    return context


# ---------------------------------------------------------------------------------------------------- the run
async def run_agents(
    book: Book,
    script: Script,
    *,
    count: int,
    seconds: float,
    ramp_s: float,
    server: str = "",
    settle_s: float = SETTLE_S,
    stop: asyncio.Event | None = None,
) -> Result:
    """Let the first ``count`` agents of the book live for ``seconds``, or until ``stop`` is set; then wait a while for
    what is left to send."""
    result = Result(count, seconds)
    kiosks = [
        Kiosk(number, member, book, server or book.server, result, script)
        for number, member in enumerate(book.agents[:count], 1)
    ]
    began = time.monotonic()
    beside: list[asyncio.Task[None]] = []
    try:
        for number, kiosk in enumerate(kiosks):
            await asyncio.sleep(max(0.0, began + ramp_s * number / count - time.monotonic()))
            kiosk.start()
            beside.append(asyncio.create_task(kiosk.customers()))
        for fault in script.fault:
            for kiosk in kiosks[fault.first - 1 : fault.first - 1 + fault.count]:
                beside.append(asyncio.create_task(kiosk.suffer(fault, seconds)))
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, began + seconds - time.monotonic())):
                await (stop or asyncio.Event()).wait()
    finally:
        for task in beside:
            task.cancel()
        for error in await asyncio.gather(*beside, return_exceptions=True):
            if isinstance(error, Exception):
                result.crashed.append(repr(error))
        until = time.monotonic() + settle_s
        while any(kiosk.waiting for kiosk in kiosks) and time.monotonic() < until:  # noqa: ASYNC110 - many spools
            await asyncio.sleep(0.1)
        await asyncio.gather(*(kiosk.stop() for kiosk in kiosks))
        result.seconds = time.monotonic() - began
    return result


def load_book(path: Path) -> Book:
    """Raises ConfigError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Book)
    except OSError as error:
        raise ConfigError(str(path), f"{error.strerror}; make it: gridswitch admin test-agents") from None
    except msgspec.MsgspecError as error:
        raise ConfigError(str(path), f"{error}; make it anew: gridswitch admin test-agents") from None


def load_script(name: str) -> Script:
    """A bundled script by name, or a file. Raises ConfigError."""
    path = Path(__file__).with_name("agent_scripts") / f"{name}.toml" if name in BUNDLED else Path(name)
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Script)
    except OSError as error:
        raise ConfigError(str(path), f"{error.strerror}; bundled are: {', '.join(BUNDLED)}") from None
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(str(path), str(error)) from None


# ---------------------------------------------------------------------------------------------------- the command
def add_agents_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "agents",
        help="a fleet of simulated agents against the admin service",
        description="Simulated kiosks report to the device API, with customers and scripted faults: cable, power, "
        "paper, card reader, clock, clone, silent program. Exit status 1 when an agent crashed or something could not "
        "be sent.",
        epilog="first: gridswitch admin test-agents --count 1000 --out agents.json",
    )
    parser.add_argument("book", type=Path, metavar="BOOK", help="file of: gridswitch admin test-agents")
    parser.add_argument("--count", type=int, default=0, metavar="N", help="how many of the book (default all)")
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S", help="length of the run (default 60)")
    parser.add_argument("--script", default="calm", metavar="NAME", help="calm, faults or a TOML file (default calm)")
    parser.add_argument("--ramp", type=float, default=10.0, metavar="S", help="until all have started (default 10)")
    parser.add_argument("--server", default="", metavar="URL", help="instead of the book's")
    parser.add_argument("--json", action="store_true", help="the summary as one JSON object")
    parser.set_defaults(run=agents_command)


def agents_command(arguments: argparse.Namespace) -> int:
    book, script = load_book(arguments.book), load_script(arguments.script)
    count = arguments.count or len(book.agents)
    if not 1 <= count <= min(len(book.agents), AGENTS_MAX):
        raise ConfigError("--count", f"{count}: the book has {len(book.agents)}, and {AGENTS_MAX} fit into a process")
    if not 0 < arguments.seconds <= SECONDS_MAX or not 0 <= arguments.ramp <= arguments.seconds:
        raise ConfigError("--seconds, --ramp", f"expected up to {SECONDS_MAX:g} s, and a ramp within them")
    result = uvloop.run(
        run_agents(
            *(book, script),
            count=count,
            seconds=arguments.seconds,
            ramp_s=arguments.ramp,
            server=arguments.server,
        )
    )
    told = result.told()
    print(json.dumps(told) if arguments.json else _text(told))
    return 1 if result.crashed or result.items_left else 0


def _text(told: dict[str, Any]) -> str:
    times = "  ".join(f"{name} {value} ms" for name, value in told["beat_ms"].items())
    lines = [
        f"{told['agents']} agents for {told['seconds']} s",
        f"beats      {told['beats']} answered, {told['beats_failed']} not; {times}",
        f"customers  {told['sessions']}; {told['items_sent']} items sent, {told['items_left']} left",
        f"commands   {told['commands']} done",
        f"faults     {', '.join(f'{kind} {n}' for kind, n in told['faults'].items()) or 'none'}",
    ]
    lines += [f"crashed    {each}" for each in told["crashed"][:10]]
    return "\n".join(lines)
