"""``gridswitch demo``: the whole thing on one machine, and the proof that it kept the books.

Real parts only: a PostgreSQL of its own, both simulated hosts and the switch as processes, kiosks on real sockets. A
switch that dies is started again, as a service manager would; its open payments are driven on by the new one.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TextIO

import msgspec
import orjson
import uvloop
from rich.console import Console
from rich.live import Live
from rich.table import Table

from switch.config import load
from switch.errors import StartError
from switch.limits import DATABASE_START_WAIT_S, SHORT
from switch.machines import days
from switch.ops.postgres import EmbeddedPostgres
from switch.ops.proof import prove, yuan
from switch.ops.report import print_proof
from switch.ops.terminals import add_test_terminals
from switch.runtime.clock import SystemClock
from switch.sim.fleet import FleetResult, run_fleet
from switch.sim.scenario import load_scenario
from switch.sim.testkeys import test_terminal
from switch.sim.threeway import Proof
from switch.store.migrate import migrate

SETTLE_S = 30.0  # after the load ends: card time-out, quiet period and late answers of the short profile, with room
LOOK_S = 0.5  # between looks at the processes
MARKER = "gridswitch-demo"  # a folder with this file is a demo's to empty
SERVICE_TERMINAL = 9999  # test terminal that only echoes


class Demo:
    def __init__(self, folder: Path, *, seconds: float, kiosks: int, scenario: str, keep: bool) -> None:
        self._folder = folder.absolute()
        self._seconds = seconds
        self._kiosks = kiosks
        self._scenario = scenario
        self._keep = keep
        self._console = Console(highlight=False, soft_wrap=True)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._restarts = 0
        self._card_ledger = self._folder / "unionpay.jsonl"
        self._marketing_ledger = self._folder / "marketing.jsonl"
        self._kiosk_book = self._folder / "kiosks.jsonl"
        self._config_file = self._folder / "switch.toml"
        self._server = EmbeddedPostgres(self._folder / "postgres")
        self._marker: TextIO | None = None

    def run(self) -> int:
        """0 only if nothing is open and nothing differs."""
        started = time.monotonic()
        load_scenario(self._scenario)  # a wrong name is told before anything starts
        done = False
        try:
            self._clean()
            proof, fleet = self._play()
            done = True
        finally:
            if self._marker is not None and not (self._keep and done):
                self._stop_all()
            self._unlock()
        print_proof(proof)
        self._print_latency(fleet, time.monotonic() - started)
        last = proof.to_dict() | {
            "payments_per_s": round(fleet.payments_per_s, 1),
            "p50_ms": round(fleet.latency_ms(0.5), 2),
            "p99_ms": round(fleet.latency_ms(0.99), 2),
        }
        print(orjson.dumps(last).decode(), flush=True)
        return 0 if proof.holds and proof.payments else 1

    # ------------------------------------------------------------------------------------------------ places
    def _clean(self) -> None:
        """A demo begins with empty books. What an earlier one left running is ended first; nobody else's files go."""
        marker = self._folder / MARKER
        try:
            if self._folder.exists():
                if not self._folder.is_dir() or (any(self._folder.iterdir()) and not marker.exists()):
                    raise StartError("demo", f"--dir {self._folder}: not a demo's folder and not empty; name another")
                self._lock()
                for name, pid in self._left_over():
                    self._console.print(f"ending {name} of an earlier demo (process {pid})")
                    _end(pid)
                self._server.stop()
                for entry in self._folder.iterdir():
                    if entry.name != MARKER:
                        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            else:
                self._folder.mkdir(parents=True)
                self._lock()
        except OSError as error:
            raise StartError("demo", f"--dir {self._folder}: {(error.strerror or str(error)).lower()}") from error

    def _lock(self) -> None:
        """The marker says that this folder is a demo's to empty; held open, that a demo runs in it."""
        self._marker = (self._folder / MARKER).open("a+")
        try:
            fcntl.flock(self._marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._unlock()
            raise StartError("demo", f"another demo runs in {self._folder}: wait for it, or say --dir") from None

    def _unlock(self) -> None:
        if self._marker is not None:
            self._marker.close()
            self._marker = None

    def _left_over(self) -> list[tuple[str, int]]:
        try:
            noted = orjson.loads((self._folder / "processes.json").read_bytes())
        except (OSError, orjson.JSONDecodeError):
            return []
        found = []
        for name, pid in noted.items():
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if str(self._folder).encode() in command:  # not a process that only got the same number
                found.append((name, pid))
        return found

    # ------------------------------------------------------------------------------------------------ processes
    def _start(self, name: str, *arguments: str) -> None:
        log = (self._folder / f"{name}.log").open("ab")
        with log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "switch", *arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        pids = {name: process.pid for name, process in self._processes.items()}
        (self._folder / "processes.json").write_bytes(orjson.dumps(pids))

    def _stop_all(self) -> None:
        # The switch first, so that its drain still finds its hosts; whatever hangs is killed.
        for name in sorted(self._processes, key=lambda name: name != "switch"):
            process = self._processes[name]
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(SHORT.drain_s + 5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self._server.stop()

    def _wait_for(self, name: str, port: int) -> None:
        ends_at = time.monotonic() + DATABASE_START_WAIT_S
        while time.monotonic() < ends_at:
            if self._processes[name].poll() is not None:
                break
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        tail = "\n".join((self._folder / f"{name}.log").read_text(errors="replace").splitlines()[-5:])
        raise StartError("demo", f"{name} does not listen on port {port}; its last lines:\n{tail}")

    # ------------------------------------------------------------------------------------------------ the play
    def _play(self) -> tuple[Proof, FleetResult]:
        ports = dict(zip(("unionpay", "marketing", "kiosks", "observe"), _free_ports(4), strict=True))
        say = self._console.print
        say(f"[bold]gridswitch demo[/bold]: {self._kiosks} kiosks, {self._seconds:g} s, scenario {self._scenario}")
        say(f"time profile [bold]{SHORT.name}[/bold]: {_profile_line()}")
        dsn = self._server.start()
        uvloop.run(migrate(dsn))
        self._config_file.write_text(self._config(ports), encoding="utf-8")
        config = load(self._config_file)
        uvloop.run(add_test_terminals(config, dsn, self._kiosks))
        for host, ledger in (("unionpay", self._card_ledger), ("marketing", self._marketing_ledger)):
            self._start(
                host,
                *("host", host, "--listen", f"127.0.0.1:{ports[host]}"),
                *("--ledger", str(ledger), "--scenario", self._scenario),
            )
            self._wait_for(host, ports[host])
        self._start_switch(ports["kiosks"])
        say(f"PostgreSQL, both hosts and the switch are up; logs in {self._folder}")
        say(f"kiosks pay for {self._seconds:g} s; then what is in doubt is settled, at most {SETTLE_S:g} s …")
        fleet = uvloop.run(self._load(ports["kiosks"]))
        proof = self._settle(dsn)
        if self._keep:
            say(f"left running: kiosks 127.0.0.1:{ports['kiosks']}, health http://127.0.0.1:{ports['observe']}/ready,")
            say(f"configuration {self._config_file}; the next demo ends them")
        return proof, fleet

    def _start_switch(self, port: int) -> None:
        self._start("switch", "run", "--config", str(self._config_file))
        self._wait_for("switch", port)

    async def _load(self, port: int) -> FleetResult:
        watch = asyncio.create_task(self._watch(port))
        with Live(self._progress(FleetResult()), console=self._console, refresh_per_second=4, transient=True) as live:
            try:
                fleet = asyncio.create_task(
                    run_fleet(
                        "127.0.0.1",
                        port,
                        self._kiosks,
                        self._seconds,
                        scenario=load_scenario(self._scenario),
                        book_path=self._kiosk_book,
                        settle_s=SETTLE_S,
                        progress=lambda result: live.update(self._progress(result)),
                    )
                )
                await asyncio.wait({fleet, watch}, return_when=asyncio.FIRST_COMPLETED)
                if watch.done():
                    fleet.cancel()
                    await watch  # tells which host died
                return await fleet
            finally:
                watch.cancel()

    async def _watch(self, port: int) -> None:
        """Start a switch that died again: kill it in the middle and see. A host that died ends the demo."""
        while True:
            await asyncio.sleep(LOOK_S)
            for name, process in self._processes.items():
                if name != "switch" and process.poll() is not None:
                    tail = "\n".join((self._folder / f"{name}.log").read_text(errors="replace").splitlines()[-3:])
                    raise StartError("demo", f"the {name} host ended with status {process.returncode}:\n{tail}")
            status = self._processes["switch"].poll()
            if status is not None:
                self._restarts += 1
                self._console.print(f"the switch ended with status {status}: starting it again")
                await asyncio.to_thread(self._start_switch, port)

    def _settle(self, dsn: str) -> Proof:
        """Until nothing is open, or the bound."""
        ends_at = time.monotonic() + SETTLE_S
        while True:
            proof = uvloop.run(prove(dsn, self._card_ledger, self._marketing_ledger, self._kiosk_book))
            if not proof.open or time.monotonic() >= ends_at:
                return proof
            time.sleep(LOOK_S)

    def _config(self, ports: dict[str, int]) -> str:
        terminal, merchant = test_terminal(SERVICE_TERMINAL)
        # The simulated host owns its day and cuts over twelve hours from now: a demo at 22:59 must not lose its proof.
        local = days.local(SystemClock().wall_us())
        cut_over = f"{(local.hour + 12) % 24:02d}:{local.minute:02d}"
        quote = msgspec.json.encode
        return f"""\
# Written by `gridswitch demo`; the short time profile is for demo, tests and drills only.
environment = "development"
time_profile = "{SHORT.name}"

[database]
data_dir = {quote(str(self._folder / "postgres")).decode()}

[listen]
port = {ports["kiosks"]}

[observe]
port = {ports["observe"]}

[security]
lmk_file = {quote(str(self._folder / "lmk.key")).decode()}
vault_dir = {quote(str(self._folder / "vault")).decode()}

[unionpay]
host = "127.0.0.1"
port = {ports["unionpay"]}
service_terminal = "{terminal}"
service_merchant = "{merchant}"

[unionpay.profile] # how the simulated host is known to behave
reversal_00 = "found_only"
reversal_not_found = "proves"
cut_over = "{cut_over}"

[marketing]
host = "127.0.0.1"
port = {ports["marketing"]}
channel = "SELF01"

[marketing.profile]
fence = "tombstone"
inquiry = "serial"
dedupe = "serial"
"""

    # ------------------------------------------------------------------------------------------------ display
    def _progress(self, result: FleetResult) -> Table:
        facts = [
            f"[bold]{result.payments:,}[/bold] payments",
            f"{result.payments_per_s:,.0f}/s",
            f"[green]{result.completed:,} completed[/green]",
            f"[yellow]{result.declined:,} declined[/yellow]",
            f"{result.returned:,} returned",
            yuan(result.fen_completed),
            f"{result.in_doubt:,} were in doubt",
            f"p50 {result.latency_ms(0.5):.1f} ms, p99 {result.latency_ms(0.99):.0f} ms",
        ]
        # What does not fit is left out, from the right: a wrapped line cannot be read while it moves.
        shown = facts if self._console.width >= 150 else facts[:6] if self._console.width >= 100 else facts[:3]
        table = Table.grid(padding=(0, 3))
        table.add_row(*shown)
        return table

    def _print_latency(self, fleet: FleetResult, whole_s: float) -> None:
        shares = ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (1.0, "max"))
        line = "  ".join(f"{name} {fleet.latency_ms(share):.1f} ms" for share, name in shares)
        self._console.print(f"latency of a payment at the kiosk: {line}")
        if self._restarts:
            self._console.print(f"the switch was started again {self._restarts} times while kiosks were paying")
        self._console.print(f"{fleet.payments_per_s:,.0f} payments/s in {fleet.seconds:.0f} s; {whole_s:.0f} s in all")


def _profile_line() -> str:
    return (
        f"card {SHORT.card_s:g} s, kiosk {SHORT.kiosk_s:g} s, quiet {SHORT.quiet_s:g} s, late {SHORT.late_s:g} s, "
        f"posting {SHORT.post_s:g} s, bill {SHORT.bill_s:g} s"
    )


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _end(pid: int) -> None:
    for number, wait_s in ((signal.SIGTERM, SHORT.drain_s), (signal.SIGKILL, 5.0)):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        ends_at = time.monotonic() + wait_s
        while time.monotonic() < ends_at:
            if not Path(f"/proc/{pid}").exists():
                return
            time.sleep(0.05)
