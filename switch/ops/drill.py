"""``gridswitch drill NAME``: break real processes while kiosks pay, many times, and prove the books afterwards.

Each drill says what it believes before it starts, and is judged by the three-way proof alone: lost 0, doubled 0,
open 0. Everything is bounded: whatever does not come back in its time ends the drill, which then stops what it began.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson
import uvloop
from rich.console import Console

from switch.config import Config, load
from switch.errors import StartError
from switch.limits import KIOSK_CONNECTIONS_MAX, SHORT, TRACE_RING_MAX
from switch.machines import days
from switch.ops.faultproxy import tell
from switch.ops.report import proof_table
from switch.ops.rig import LOCALHOST, SETTLE_S, Rig, add_marketing_option
from switch.ops.specs import reload_specs
from switch.ops.status import ask, workers
from switch.records.spec import load as load_spec
from switch.runtime.clock import SystemClock
from switch.sim.fleet import FleetResult, run_fleet
from switch.sim.intruder import Intruder
from switch.sim.scenario import Dice, load_scenario
from switch.sim.threeway import Proof

# What a difference of the proof means for the person who pays; everything else is a fault of the books themselves.
LOST: Final = frozenset(
    {"bill not posted", "card not charged", "customer out of pocket", "charge without a payment", "event missing"}
)
DOUBLED: Final = frozenset({"utility out of pocket", "posting without a payment", "posted to another bill"})
POLL_S: Final = 0.02  # between looks at how many payments are completed
PAUSED_S: Final = 30.0
DISK_BYTES: Final = 900 * 1024 * 1024  # the WAL alone keeps 512 MiB
SLOW_CALLERS: Final = 300
INTRUDER_SOCKETS: Final = 400  # of each kind that is held open, from each of two addresses
INTRUDER_SOURCES: Final = ("127.0.0.1", "127.0.0.2")  # the kiosks' own address, as behind one router, and another one
SOURCE_ROOM: Final = 300  # connections at once from one address in the drill: fewer than intruders want
UPGRADE_IN_US: Final = 1_500_000  # a new spec goes live so long after it was announced
MANY_KIOSKS: Final = 1_000


@dataclass
class Load:
    """Kiosks that pay in a thread of their own, so that the drill may block while it does harm."""

    results: list[FleetResult] = field(default_factory=list)
    longest_pause_s: float = 0.0
    error: BaseException | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self, rig: Rig, *, kiosks: int, scenario: str, at_most_s: float, port: int | None = None) -> None:
        """Each switch gets its own kiosks, with customers of their own."""
        ports = [port] if port is not None else [rig.ports[name] for name in rig.instances]
        books = [rig.book(f"kiosks-{number}") for number in range(len(ports))]

        async def drive() -> None:
            share = max(1, kiosks // len(ports))
            fleets = [
                asyncio.create_task(
                    run_fleet(
                        LOCALHOST,
                        each,
                        share,
                        at_most_s,
                        scenario=load_scenario(scenario),
                        book_path=book,
                        settle_s=SETTLE_S,
                        first_terminal=1 + number * share,
                        first_account=number * 100_000,
                        progress=lambda result: None if result in self.results else self.results.append(result),
                        stop=self._stop.is_set,
                    )
                )
                for number, (each, book) in enumerate(zip(ports, books, strict=True))
            ]
            watch = asyncio.create_task(self._watch())
            try:
                await asyncio.gather(*fleets)
            finally:
                watch.cancel()

        def run() -> None:
            try:
                uvloop.run(drive())
            except BaseException as error:
                self.error = error

        self._thread = threading.Thread(target=run, name="load")
        self._thread.start()
        ends_at = time.monotonic() + 30.0
        while not self.completed:
            if time.monotonic() > ends_at or self.error is not None:
                raise StartError("drill", f"the kiosks never paid: {self.error or 'no payment within 30 s'}")
            time.sleep(POLL_S)

    @property
    def completed(self) -> int:
        return sum(result.completed for result in self.results)

    def wait_for_more(self, at_most_s: float) -> None:
        """Until somebody has paid again: a round's harm is over."""
        before, ends_at = self.completed, time.monotonic() + at_most_s
        while self.completed <= before:
            if time.monotonic() > ends_at:
                raise StartError("drill", f"no payment was completed for {at_most_s:g} s after the harm was over")
            time.sleep(POLL_S)

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(SETTLE_S + SHORT.kiosk_s + 10.0)
            if self._thread.is_alive():
                raise StartError("drill", "the kiosks do not come to an end")
        if self.error is not None:
            raise self.error

    async def _watch(self) -> None:
        seen, since = 0, time.monotonic()
        while not self._stop.is_set():
            await asyncio.sleep(POLL_S)
            now = time.monotonic()
            self.longest_pause_s = max(self.longest_pause_s, now - since)
            if self.completed > seen:
                seen, since = self.completed, now


Harm = Callable[["Drill", int], None]


@dataclass(frozen=True)
class Kind:
    """One drill."""

    believes: str
    harm: Harm
    rounds: int
    instances: tuple[str, ...] = ("switch",)
    workers: int = 1
    proxied: tuple[str, ...] = ()
    kiosks: int = 20
    small_disk: bool = False
    kiosks_proxied: bool = False
    source_connections_max: int = KIOSK_CONNECTIONS_MAX
    faults_per_minute: int = 0  # answered to one address; 0: all
    back_s: float = 30.0  # by then somebody pays again


class Drill:
    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        rounds: int | None,
        kiosks: int | None,
        scenario: str,
        as_json: bool,
        marketing: str = "json",
    ) -> None:
        self.kind = KINDS[name]
        self.rounds = rounds or self.kind.rounds
        self.kiosks = kiosks or self.kind.kiosks
        self._name = name
        self._scenario = scenario
        self._json = as_json
        self._console = Console(highlight=False, soft_wrap=True, stderr=as_json)
        self.dice = Dice(1, f"drill {name}").random
        self.load = Load()
        self._disk = folder.absolute() / "disk" if self.kind.small_disk else None
        self.rig = Rig(
            folder,
            say=self.say,
            instances=self.kind.instances,
            workers=self.kind.workers,
            database_dir=self._database_dir(),
            source_connections_max=self.kind.source_connections_max,
            faults_per_minute=self.kind.faults_per_minute,
            marketing=marketing,
        )
        self.restarts = 0

    def say(self, text: str) -> None:
        self._console.print(text)

    def run(self) -> int:
        """0 only if nothing was lost, doubled or left open, and no book differs."""
        kind, rig = self.kind, self.rig
        load_scenario(self._scenario)
        self.say(f"[bold]drill {self._name}[/bold], {self.rounds} rounds, {self.kiosks} kiosks, time profile short")
        self.say(f"hypothesis: {kind.believes}")
        started = time.monotonic()
        try:
            rig.clean()
            with _small_disk(self._disk):
                try:
                    proof = self._play()
                finally:
                    rig.stop_all()
        finally:
            rig.unlock()
        return self._judge(proof, time.monotonic() - started)

    def _play(self) -> Proof:
        rig, kind = self.rig, self.kind
        rig.start_all(kiosks=self.kiosks, scenario=self._scenario, proxied=kind.proxied)
        port = None
        if kind.kiosks_proxied:
            port = rig.ports["switch proxy"]
        bound_s = 60.0 + self.rounds * (kind.back_s + PAUSED_S)
        self.load.start(rig, kiosks=self.kiosks, scenario=self._scenario, at_most_s=bound_s, port=port)
        try:
            for number in range(1, self.rounds + 1):
                time.sleep(self.dice.uniform(0.3, 1.2))
                kind.harm(self, number)
                self.load.wait_for_more(kind.back_s)
                self.say(f"  round {number}: {self.load.completed:,} payments completed")
        finally:
            self.load.stop()
        return rig.settle()

    def _judge(self, proof: Proof, seconds: float) -> int:
        lost = [each for each in proof.differences if each.kind in LOST]
        doubled = [each for each in proof.differences if each.kind in DOUBLED]
        others = len(proof.differences) - len(lost) - len(doubled)
        holds = proof.holds and proof.payments > 0
        self._console.print(proof_table(proof))
        for difference in proof.differences[:20]:
            self.say(f"  [red]{difference.kind}[/red]  {difference.key}  {difference.detail}")
        colour = "green" if holds else "red"
        self.say(
            f"[{colour}]{proof.payments:,} payments: lost {len(lost)}, doubled {len(doubled)}, open {proof.open}, "
            f"other differences {others}[/{colour}]; longest pause {self.load.longest_pause_s:.1f} s, "
            f"{self.restarts} restarts, {seconds:.0f} s in all"
        )
        if not holds:
            self.say(f"everything is left in {self.rig.folder}")
        if self._json:
            print(
                orjson.dumps(
                    {
                        "drill": self._name,
                        "rounds": self.rounds,
                        "payments": proof.payments,
                        "lost": len(lost),
                        "doubled": len(doubled),
                        "open": proof.open,
                        "other_differences": others,
                        "longest_pause_s": round(self.load.longest_pause_s, 2),
                        "restarts": self.restarts,
                    }
                ).decode()
            )
        return 0 if holds else 1

    def _database_dir(self) -> Path | None:
        return None if self._disk is None else self._disk / "postgres"

    # ---- what harms are made of
    def start_again(self, name: str) -> None:
        self.rig.start_switch(name)
        self.restarts += 1

    def tell(self, proxy: str, **order: Any) -> None:
        tell(self.rig.control_path(proxy), order)


# ---------------------------------------------------------------------------------------------------- harms
def _kill_switch(drill: Drill, number: int) -> None:
    drill.rig.kill("switch")
    drill.start_again("switch")


def _kill_worker(drill: Drill, number: int) -> None:
    """One of the two; its supervisor starts another one, and its neighbour takes its payments over."""
    config = workers(load(drill.rig.config_file("switch")))[number % 2]
    ends_at = time.monotonic() + drill.kind.back_s
    while True:
        try:
            os.kill(ask(config, do="status")["pid"], signal.SIGKILL)
            break
        except StartError:
            if time.monotonic() > ends_at:
                raise
            time.sleep(POLL_S)  # it has not come back from the last round yet
    drill.restarts += 1


def _kill_postgres(drill: Drill, number: int) -> None:
    drill.rig.server.kill()
    time.sleep(drill.dice.uniform(0.0, 1.0))
    drill.rig.server.start()


def _restart_postgres(drill: Drill, number: int) -> None:
    """As an operator does: sessions are told to go, in the middle of whatever they do."""
    drill.rig.server.stop()
    time.sleep(drill.dice.uniform(0.0, 1.0))
    drill.rig.server.start()


def _kill_both(drill: Drill, number: int) -> None:
    drill.rig.kill("switch")
    drill.rig.server.kill()
    drill.rig.server.start()
    drill.start_again("switch")


def _pause(drill: Drill, number: int) -> None:
    """One of two, in turn. It sleeps until the other has long taken its payments."""
    name = drill.rig.instances[number % 2]
    drill.rig.pause(name)
    time.sleep(PAUSED_S)
    drill.rig.resume(name)


def _cut(drill: Drill, number: int) -> None:
    """The offset moves by one byte each round, over a whole frame and into the next one; both links and directions."""
    link = ("unionpay", "marketing")[number % 2]
    direction = ("up", "down")[number // 2 % 2]
    drill.tell(link, cut_after={direction: number * 7 % 400})
    time.sleep(0.3)


def _half_open(drill: Drill, number: int) -> None:
    link = ("unionpay", "marketing")[number % 2]
    direction = ("up", "down")[number // 2 % 2]
    drill.tell(link, **{direction: {"silent": True}})
    time.sleep(drill.dice.uniform(1.0, 4.0))
    drill.tell(link, **{direction: {"silent": False}}, reset=True)


def _slow_loris(drill: Drill, number: int) -> None:
    """Callers that begin a frame and never finish it, while honest kiosks pay."""
    callers = []
    try:
        for _ in range(SLOW_CALLERS):
            callers.append(socket.create_connection((LOCALHOST, drill.rig.ports["switch"]), timeout=5.0))
        for byte in b"\x01\x00\x60\x00":
            for caller in callers:
                caller.send(bytes([byte]))
            time.sleep(0.5)
        drill.load.wait_for_more(5.0)
    finally:
        for caller in callers:
            caller.close()


def _hostile(drill: Drill, number: int) -> None:
    """Everything that somebody without a key can do at the kiosks' port, from two addresses at once."""

    async def attack() -> None:
        async with asyncio.TaskGroup() as group:
            for place, source in enumerate(INTRUDER_SOURCES):
                intruder = Intruder(
                    drill.rig.ports["switch"], source=source, dice=Dice(number, f"intruder {place}").random
                )
                group.create_task(intruder.everything(range(1, drill.kiosks + 1), sockets=INTRUDER_SOCKETS))

    uvloop.run(attack())


def _reconnect(drill: Drill, number: int) -> None:
    drill.tell("switch", reset=True)


def _spec_upgrade(drill: Drill, number: int) -> None:
    """A new version of the marketing system's record spec goes live under load, and is taken back."""
    rig = drill.rig
    file = rig.config_file("switch")
    before = file.read_text(encoding="utf-8")
    newer = load_spec(str(rig.next_spec))
    at = days.local(SystemClock().wall_us() + UPGRADE_IN_US).isoformat()
    spec = msgspec.json.encode(str(rig.next_spec)).decode()
    file.write_text(f'{before}\n[marketing.upgrade]\nspec = {spec}\nat = "{at}"\n', encoding="utf-8")
    config = load(file)
    reload_specs(file)
    _wait_for_postings(drill, config, newer.wire_version)
    drill.load.wait_for_more(drill.kind.back_s)
    drill.say(f"  {newer.title} is live since {at}")

    file.write_text(before, encoding="utf-8")
    asked_at = time.monotonic()
    reload_specs(file)
    after = _last_traced(config)
    versions = _wait_for_postings(drill, config, load_spec(config.marketing.spec).wire_version, after)
    if newer.wire_version in versions:
        raise StartError("drill", f"postings were still sent in {newer.title} after it was taken back")
    drill.say(f"  the way back took {time.monotonic() - asked_at:.1f} s, with a posting sent in the old version")


def _last_traced(config: Config) -> int:
    last = ask(config, do="trace", link=config.marketing.name, limit=1)
    return int(last[-1]["number"]) if last else 0


def _wait_for_postings(drill: Drill, config: Config, version: str, after: int = 0) -> set[str]:
    """Until one was sent in this version. The versions of all that were sent meanwhile."""
    ends_at, versions = time.monotonic() + drill.kind.back_s, set[str]()
    while version not in versions:
        if time.monotonic() > ends_at:
            raise StartError("drill", f'no posting was sent in version "{version}" for {drill.kind.back_s:g} s')
        for traced in ask(config, do="trace", link=config.marketing.name, after=after, limit=TRACE_RING_MAX):
            after = traced["number"]
            if traced["direction"] == "out" and traced["facts"].get("op") == "post":
                versions.add(traced["facts"].get("version", ""))
        time.sleep(POLL_S)
    return versions


def _disk_full(drill: Drill, number: int) -> None:
    assert drill._disk is not None
    filler = drill._disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 20))
        except OSError:
            pass  # full
    time.sleep(4.0)
    filler.unlink()
    # PostgreSQL may have stopped itself over it; an operator would start it again.
    drill.rig.server.start()


@contextmanager
def _small_disk(place: Path | None) -> Iterator[None]:
    """A file system of its own for PostgreSQL, small enough to be filled."""
    if place is None:
        yield
        return
    if os.geteuid() != 0:
        raise StartError("drill", "disk-full mounts a small tmpfs and so needs root: run it with sudo")
    place.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "gridswitch-drill", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StartError("drill", f"disk-full cannot mount a tmpfs on {place}: {done.stderr.strip()}")
    try:
        yield
    finally:
        for _ in range(50):
            if subprocess.run(["umount", str(place)], capture_output=True, check=False).returncode == 0:
                break
            time.sleep(0.2)


KINDS: Final = {
    "kill-switch": Kind(
        "kill -9 of the switch loses, doubles and strands nothing; its successor goes on", _kill_switch, 20
    ),
    "kill-worker": Kind(
        "kill -9 of one of two workers behind one port: the other one goes on, and takes its payments over",
        _kill_worker,
        10,
        workers=2,
    ),
    "kill-postgres": Kind(
        "kill -9 of PostgreSQL loses no commit that was answered, and none is made twice", _kill_postgres, 10
    ),
    "hostile": Kind(
        "half-open sockets, noise, unknown ids, wrong MACs, and who never reads cost honest kiosks no payment",
        _hostile,
        5,
        source_connections_max=SOURCE_ROOM,
        faults_per_minute=60,
        back_s=10.0,
    ),
    "restart-postgres": Kind("a restart of PostgreSQL under load is a pause and nothing else", _restart_postgres, 10),
    "kill-both": Kind("kill -9 of both at once is no worse than either", _kill_both, 5),
    "pause": Kind(
        "a switch stopped for 30 s loses its payments to the other one, and sends nothing when it wakes",
        _pause,
        5,
        instances=("a", "b"),
    ),
    "cut": Kind("a link cut at any byte leaves every payment decidable", _cut, 50, proxied=("unionpay", "marketing")),
    "half-open": Kind(
        "a link that swallows one direction is noticed and replaced", _half_open, 10, proxied=("unionpay", "marketing")
    ),
    "slow-loris": Kind("callers that never finish a frame do not keep honest kiosks from paying", _slow_loris, 3),
    "reconnect": Kind(
        "a thousand kiosks that reconnect at once are served again",
        _reconnect,
        3,
        kiosks=MANY_KIOSKS,
        proxied=("switch",),
        kiosks_proxied=True,
    ),
    "spec-upgrade": Kind(
        "a new version of the marketing system's interface goes live under load and is taken back, and no payment "
        "notices",
        _spec_upgrade,
        5,
        back_s=60.0,
    ),
    "disk-full": Kind("a full disk under PostgreSQL stops new payments and loses none", _disk_full, 3, small_disk=True),
}


def add_drill_parser(commands: Any) -> None:
    lines = [f"  {name:<15}{kind.believes}" for name, kind in KINDS.items()]
    parser = commands.add_parser(
        "drill",
        help="break real processes under load, many rounds, and prove the books",
        description="Starts PostgreSQL, hosts, switches and kiosks as processes, harms them round after round,\n"
        "lets everything settle and compares the three books. Exit status 0 only if nothing was lost,\n"
        "doubled or left open.",
        epilog="drills:\n" + "\n".join(lines) + "\n\nClocks that jump are in the simulation: gridswitch sim.\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=tuple(KINDS), metavar="NAME", help="which; see below")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often the harm is done")
    parser.add_argument("--kiosks", type=int, metavar="N", help="virtual kiosks")
    parser.add_argument("--scenario", default="demo", metavar="NAME", help="how hosts behave (default demo)")
    add_marketing_option(parser)
    parser.add_argument(
        "--dir",
        type=Path,
        default=Path(".gridswitch/drill"),
        metavar="DIR",
        help="its own folder, emptied at every start",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object as the only line of standard output")
    parser.set_defaults(run=_drill)


def _drill(arguments: argparse.Namespace) -> int:
    for name in ("rounds", "kiosks"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise StartError("drill", f"--{name} {value}: expected at least 1")
    drill = Drill(
        arguments.name,
        arguments.dir,
        rounds=arguments.rounds,
        kiosks=arguments.kiosks,
        scenario=arguments.scenario,
        as_json=arguments.json,
        marketing=arguments.marketing,
    )
    return drill.run()
