"""``gridswitch demo``: the whole thing on one machine, and the proof that it kept the books.

Real parts only: a PostgreSQL of its own, both simulated hosts and the switch as processes, kiosks on real sockets. A
switch that dies is started again, as a service manager would; its open payments are driven on by the new one.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import orjson
import uvloop
from rich.console import Console
from rich.live import Live
from rich.table import Table

from switch.errors import StartError
from switch.limits import SHORT
from switch.ops.proof import yuan
from switch.ops.report import print_proof
from switch.ops.rig import LOCALHOST, LOOK_S, SETTLE_S, Rig, free_ports
from switch.ops.scan import Scan, print_scan
from switch.sim.fleet import FleetResult, run_fleet
from switch.sim.scenario import load_scenario
from switch.sim.threeway import Proof


class Demo:
    def __init__(
        self,
        folder: Path,
        *,
        seconds: float,
        kiosks: int,
        scenario: str,
        keep: bool,
        security: str,
        tls: bool = False,
        marketing: str = "json",
    ) -> None:
        self._seconds = seconds
        self._kiosks = kiosks
        self._scenario = scenario
        self._keep = keep
        self._security = security
        self._console = Console(highlight=False, soft_wrap=True)
        self._rig = Rig(folder, say=self._console.print, security=security, tls=tls, marketing=marketing)
        self._restarts = 0
        self._pages: list[str] = []

    def run(self) -> int:
        """0 only if nothing is open, nothing differs, and no card data is found in clear."""
        started = time.monotonic()
        load_scenario(self._scenario)  # a wrong name is told before anything starts
        rig, done = self._rig, False
        try:
            rig.clean()
            proof, fleet, scan = self._play()
            done = True
        finally:
            if rig.is_ours and not (self._keep and done):
                rig.stop_all()
            rig.unlock()
        print_proof(proof)
        print_scan(scan)
        self._print_latency(fleet, time.monotonic() - started)
        for text in self._pages:
            self._console.print(text)
        last = proof.to_dict() | {
            "payments_per_s": round(fleet.payments_per_s, 1),
            "p50_ms": round(fleet.latency_ms(0.5), 2),
            "p99_ms": round(fleet.latency_ms(0.99), 2),
            "secrets_found": scan.hit_count,
        }
        print(orjson.dumps(last).decode(), flush=True)
        return 0 if proof.holds and proof.payments and scan.is_clean and not scan.not_scanned else 1

    # ------------------------------------------------------------------------------------------------ the play
    def _play(self) -> tuple[Proof, FleetResult, Scan]:
        rig, say = self._rig, self._console.print
        say(f"[bold]gridswitch demo[/bold]: {self._kiosks} kiosks, {self._seconds:g} s, scenario {self._scenario}")
        say(f"time profile [bold]{SHORT.name}[/bold]: {_profile_line()}")
        if self._security != "software":
            say(f"security module [bold]{self._security}[/bold]: a SoftHSM2 token made for this run")
        if rig.marketing != "json":
            say(f"marketing system speaks [bold]{rig.marketing}[/bold]")
        rig.start_all(kiosks=self._kiosks + self._keep, scenario=self._scenario)
        if rig.tls_dir is not None:
            say(f"TLS between kiosks, switch and hosts; development certificates in {rig.tls_dir}")
        admin = self._start_admin()
        started = f"PostgreSQL, both hosts, the switch{' and the admin service' if admin else ''}"
        say(f"{started} are up; logs in {rig.folder}")
        say(f"kiosks pay for {self._seconds:g} s; then what is in doubt is settled, at most {SETTLE_S:g} s …")
        fleet = uvloop.run(self._load())
        proof = rig.settle()
        scan = rig.scan()
        if self._keep:
            health = f"http://{LOCALHOST}:{rig.ports['switch observe']}/ready"
            say(f"left running: kiosks {LOCALHOST}:{rig.ports['switch']}, health {health},")
            say(f"configuration {rig.config_file('switch')}; the next demo ends them")
            self._pages = [self._start_page(), *([admin] if admin else [])]
        return proof, fleet, scan

    def _start_admin(self) -> str:
        """What runs beside the switch for operators; where it is, and how to get in. Empty: without it."""
        try:
            url, password = self._rig.start_admin()
        except StartError as error:
            self._console.print(f"no admin service: {error}")
            return ""
        code = f"gridswitch admin code ops --config {self._rig.folder / 'admin.toml'}"
        return (
            f"[bold]watch it live[/bold]: open {url}, sign in as ops with {password}; the six digits:\n  {code}\n"
            "  others, same password: fin, boss, sec, audit, market, field; ops2, fin2, sec2 confirm what one asks"
        )

    def _start_page(self) -> str:
        """A kiosk that anybody can touch, on the terminal behind those of the load. Says where it is."""
        rig, name = self._rig, "web kiosk"
        (port,) = free_ports(1)
        try:
            rig.start(
                name,
                *("kiosk", "--web", "--connect", f"{LOCALHOST}:{rig.ports['switch']}"),
                *("--terminal", str(self._kiosks + 1), "--journal", str(rig.folder / "web-kiosk.journal")),
                *("--listen", f"{LOCALHOST}:{port}"),
                *(("--tls", str(rig.tls_dir)) if rig.tls_dir is not None else ()),
            )
            rig.wait_for(name, port)
        except StartError as error:
            return f"no kiosk to touch: {error}"
        return f"[bold]pay a bill yourself[/bold]: open http://{LOCALHOST}:{port}/ in a browser of this machine"

    async def _load(self) -> FleetResult:
        watch = asyncio.create_task(self._watch())
        with Live(self._progress(FleetResult()), console=self._console, refresh_per_second=4, transient=True) as live:
            try:
                fleet = asyncio.create_task(
                    run_fleet(
                        LOCALHOST,
                        self._rig.ports["switch"],
                        self._kiosks,
                        self._seconds,
                        scenario=load_scenario(self._scenario),
                        book_path=self._rig.book(),
                        settle_s=SETTLE_S,
                        tls_dir=self._rig.tls_dir,
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

    async def _watch(self) -> None:
        """Start a switch that died again: kill it in the middle and see. A host that died ends the demo."""
        while True:
            await asyncio.sleep(LOOK_S)
            for name, status in self._rig.ended():
                if name == "admin":  # payments go on without it: that is the point
                    self._console.print(f"the admin service ended with status {status}: {self._rig.forget(name)}")
                    continue
                if name not in self._rig.instances:
                    tail = self._rig.log_tail(name, 3)
                    raise StartError("demo", f"the {name} host ended with status {status}:\n{tail}")
                self._restarts += 1
                self._console.print(f"the switch ended with status {status}: starting it again")
                await asyncio.to_thread(self._rig.start_switch, name)

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
