"""``gridswitch bench NAME``: what the switch can do on this machine, and the proof that it did it right.

Everything real, each in processes of its own: PostgreSQL, both simulated hosts, the switch, and a generator whose times
count from the instant at which a payment was due (``sim/generator.py``). What each of them uses is read from the
kernel, for they share the machine: CPU time a payment is comparable from run to run where payments a second are not.

No number without its proof: after every load all must come to an end and the three books must agree, or the command
fails. Payments a second are counted in the truth ledgers of the hosts, not by whoever asked for them.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import orjson
import uvloop
from rich.console import Console

from switch.errors import StartError
from switch.limits import QUOTES_MAX
from switch.ops import usage
from switch.ops.bench_parts import bench_codec, bench_journal, tell_limit
from switch.ops.bench_report import Report, machine_facts, print_report, read_earlier, speed_us
from switch.ops.report import print_proof
from switch.ops.rig import LOCALHOST, LOOK_S, SETTLE_S, Rig
from switch.sim.commands import TERMINALS_MAX, above_zero, at_least_one
from switch.sim.day import china_now
from switch.sim.generator import check_files
from switch.sim.hall import RHYTHMS
from switch.sim.scenario import load_scenario
from switch.sim.threeway import Proof
from switch.sim.truth import read_facts
from switch.store.meter import DatabaseMeter, read_meter, tables_locked
from switch.store.preload import preload

SAMPLE_S: Final = 5.0  # between looks at memory and open files
OVERLOAD: Final = 3.0  # times the capacity that was measured
RELIEF: Final = 0.5  # of the capacity: the load before and after
SLICES: Final = 12  # of a second each, in which the times are looked at after an overload: twice the bar
PROBES: Final = 20.0  # a second, during an overload
NORMAL_AGAIN: Final = 2.0  # times p99 of the load before
NORMAL_ROOM_MS: Final = 5.0  # a p99 of one second is a few payments: so much more is still normal
BUSY: Final = 0.85  # of one core: a generator above it may be what was measured
SERVED: Final = 0.95  # of the customers of a second, paid or declined: with 1 % that goes wrong, and few of them
NOISE: Final = 1.1  # times the capacity: more than that shows that it was measured too low
LATE_MS: Final = 5.0  # p99 of how late payments began: above it the generator, or too few kiosks, are in the times
SHARED: Final = (
    0.1  # of the time without a core although there was work: above it the machine was too small, or not ours
)
ADMIN_SETTLE_S: Final = 20.0  # two rounds of each loop of the admin service
ADMIN_MAX: Final = 1.03  # times the CPU without admin, beyond what the runs without it differ by
SLOW_TURN_S: Final = 0.2
GROWTH_MAX: Final = 0.05  # of memory in the second half of a soak
FILES_GROWTH_MAX: Final = 8
PAYMENT_BYTES: Final = 4_000  # on disk, all tables and indexes: a first guess before anything is loaded
DISK_SPARE_BYTES: Final = 2_000_000_000  # left alone for WAL, ledgers and books
SEED_S: Final = 2.0  # of payments that are copied by --rows
BOOKS_S: Final = 15.0  # by then they are in the books
COUNTERS_S: Final = (
    11.0  # by then PostgreSQL has the counters of sessions that do nothing any more; it says within 10 s
)

Event = dict[str, Any]


@dataclass
class Options:
    name: str
    folder: Path
    seconds: float
    warm_up_s: float
    kiosks: int
    inflight: int
    rates: list[float]
    poisson: bool
    rows: int
    idle: int
    workers: int
    security: str
    tls: bool
    scenario: str
    rhythm: str
    settings: dict[str, str]


@dataclass(frozen=True)
class Snapshot:
    """What everybody has used up to one moment."""

    at: float  # monotonic
    wall_us: int
    cpu_s: dict[str, float]  # switch, postgres, unionpay, marketing, generator
    waited_s: dict[str, float]  # for a core; the same names
    rss: int  # bytes, of the switch
    files: int  # of the switch


@dataclass
class Window:
    """One phase of the load, between two snapshots; ``result`` is the generator's, complete at the end of the run."""

    phase: str
    begun: Snapshot
    ended: Snapshot
    result: Event = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return self.ended.at - self.begun.at

    def cpu_us(self, role: str) -> float:
        """CPU microseconds a payment, of payments with a final word within the window."""
        used = self.ended.cpu_s[role] - self.begun.cpu_s[role]
        return 1e6 * used / max(1, int(self.result["ended_within"]))


class Load:
    """The generator, as a process that is told one phase after the other."""

    def __init__(self, rig: Rig, options: Options, book: Path) -> None:
        if options.name == "fleet":
            what: tuple[str, ...] = ("fleet", "--count", str(options.kiosks), "--seconds", f"{options.seconds:g}")
            what += ("--arrivals", f"{options.rates[0]:g}", "--rhythm", options.rhythm)
        else:
            what = ("generate", "--kiosks", str(options.kiosks), "--idle", str(options.idle), "--phase", "-")
        command = [
            *(sys.executable, "-m", "switch", *what, "--connect", f"{LOCALHOST}:{rig.ports[rig.instances[0]]}"),
            *("--scenario", options.scenario, "--book", str(book), "--settle", str(SETTLE_S), "--json"),
            *(("--tls", str(rig.tls_dir)) if rig.tls_dir is not None else ()),
        ]
        self._log = rig.folder / "generator.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)

    @property
    def pid(self) -> int:
        return self._process.pid

    def expect(self, event: str) -> Event:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        found = cast(Event, orjson.loads(line)) if line else {}
        if found.get("event") != event:
            said = self._log.read_text(errors="replace").strip().splitlines()
            raise StartError("bench", f"the generator ended early: {said[-1] if said else 'it said nothing'}")
        return found

    def tell(self, phase: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(phase.encode() + b"\n")
        self._process.stdin.flush()

    def finish(self) -> Event:
        """No more phases: what is unclear is settled; gives the whole result."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        result = self.expect("result")
        self._process.wait()
        return result

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        with self._process:  # closes both pipes and waits
            pass


class Sampler:
    """Memory and open files of the switch while it works, every few seconds."""

    def __init__(self, pid: int) -> None:
        self.samples: list[tuple[float, int, int]] = []  # seconds since start, bytes, files
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler")

    @contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()

    def _run(self) -> None:
        started = time.monotonic()
        while not self._over.is_set():
            pids = usage.tree(self._pid)
            self.samples.append((time.monotonic() - started, usage.rss_bytes(pids), usage.open_files(pids)))
            self._over.wait(SAMPLE_S)


class Bench:
    """One benchmark under load."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._console = Console(highlight=False, soft_wrap=True)
        self.rig = Rig(
            options.folder,
            say=self.say,
            workers=options.workers,
            security=options.security,
            tls=options.tls,
            settings=options.settings,
        )
        self.load: Load
        self.windows: list[Window] = []
        self.report = Report(options.name)
        self._since = 0

    def say(self, text: str) -> None:
        self._console.print(text)

    def run(self) -> Report:
        options, rig = self.options, self.rig
        load_scenario(options.scenario)  # a wrong name is told before anything starts
        check_files(options.kiosks + options.idle)
        self._check_disk()
        # Copies of --rows lie days back; payments of this run were opened today, or yesterday if midnight passes.
        self._since = int(f"{china_now().date() - datetime.timedelta(days=1):%Y%m%d}")
        self.say(f"[bold]gridswitch bench {options.name}[/bold]: {_in_words(options)}")
        try:
            rig.clean()
            self._play()
        finally:
            if hasattr(self, "load"):
                self.load.kill()
            if rig.is_ours:
                rig.stop_all()
            rig.unlock()
        return self.report

    # ------------------------------------------------------------------------------------------------ a run
    def _play(self) -> None:
        options, rig, report = self.options, self.rig, self.report
        speed = speed_us()
        rig.start_all(kiosks=options.kiosks + options.idle, scenario=options.scenario)
        empty = usage.rss_bytes(usage.tree(rig.pid("switch")))
        self.load = Load(rig, options, rig.book())
        signed_on = self.load.expect("ready")["kiosks"]
        connected = usage.rss_bytes(usage.tree(rig.pid("switch")))
        self.say(f"{signed_on:,} kiosks have signed on; logs in {rig.folder}")
        report.add("kiosks", signed_on)
        if options.idle:
            report.add("rss_per_kiosk_kib", round((connected - empty) / signed_on / 1024, 1))
        made = self._fill_tables() if options.rows else 0
        before = uvloop.run(read_meter(rig.dsn))
        KINDS[options.name].play(self)
        result = self.load.finish()
        for window in self.windows:
            window.result = result["phases"][window.phase]
        self._await_the_end()
        started = time.monotonic()
        proof = rig.settle(since=self._since)
        report.add("proof_s", round(time.monotonic() - started, 1))
        batches = self._batches()
        rig.stop(rig.instances[0])  # when its sessions end their counters are complete
        after = uvloop.run(read_meter(rig.dsn))
        report.proof = proof
        report.add("payments", proof.payments)
        KINDS[options.name].tell(self)
        self._tell_database(after.since(before), proof.payments - made, batches)
        if "entries_per_commit" in report.numbers and proof.payments > made:
            tell_limit(report, options.folder, max(1.0, report.numbers["rows_by_table"].get("payment_event", 3.0)))
        self._tell_proof(proof, result)
        report.machine = machine_facts(rig.server, options.settings) | {
            "speed_us": [round(speed, 1), round(speed_us(), 1)]
        }

    def play(self, spec: str) -> Window:
        """One phase, with snapshots at both its ends."""
        self.load.tell(spec)
        phase = self.load.expect("begun")["phase"]
        begun = self.snapshot()
        ended_result = self.load.expect("ended")
        window = Window(phase, begun, self.snapshot(), ended_result)
        self.windows.append(window)
        dead = self.rig.ended()
        if dead:
            name, status = dead[0]
            raise StartError("bench", f"{name} ended with status {status}:\n{self.rig.log_tail(name, 3)}")
        return window

    def open_phase(self, name: str, rate: float, seconds: float) -> str:
        return f"{name}:open:{rate:g}:{seconds:g}" + (":poisson" if self.options.poisson else "")

    def snapshot(self) -> Snapshot:
        rig = self.rig
        switch = usage.tree(rig.pid("switch"))
        pids = {
            "switch": switch,
            "postgres": rig.server.processes(),
            "unionpay": usage.tree(rig.pid("unionpay")),
            "marketing": usage.tree(rig.pid("marketing")),
            "generator": [self.load.pid],
        }
        used = {role: usage.cpu_s(each) for role, each in pids.items()}
        waited = {role: usage.waited_s(each) for role, each in pids.items()}
        wall_us = time.time_ns() // 1000
        return Snapshot(time.monotonic(), wall_us, used, waited, usage.rss_bytes(switch), usage.open_files(switch))

    def posted_within(self, window: Window) -> int:
        """Payments that the marketing system has booked within the window, by its own ledger, and not undone since."""
        references: dict[str, str] = {}  # by serial: a payment of several months has several
        for fact in read_facts(self.rig.ledger("marketing"), "marketing"):
            if fact["fact"] == "posting" and window.begun.wall_us <= fact["at"] < window.ended.wall_us:
                references[fact["serial"]] = fact["reference"]
            elif fact["fact"] == "undo":
                references.pop(fact["serial"], None)
        return len(set(references.values()))

    def reversed_within(self, window: Window) -> int:
        facts = read_facts(self.rig.ledger("unionpay"), "unionpay")
        return sum(
            fact["fact"] == "reversal" and window.begun.wall_us <= fact["at"] < window.ended.wall_us for fact in facts
        )

    # ------------------------------------------------------------------------------------------------ full tables
    def _check_disk(self) -> None:
        needed = self.options.rows * PAYMENT_BYTES
        if needed > self._room_bytes():
            raise StartError(
                "bench",
                f"--rows {self.options.rows:,}: about {needed / 1e9:.0f} GB, but {self.options.folder} has room for "
                f"{self._room_bytes() / 1e9:.0f} GB: fewer rows, or another --dir",
            )

    def _room_bytes(self) -> int:
        folder = self.options.folder.absolute()
        while not folder.exists():
            folder = folder.parent
        return max(0, shutil.disk_usage(folder).free - DISK_SPARE_BYTES)

    def _fill_tables(self) -> int:
        """Gives how many payments of this run were made for it."""
        options = self.options
        self.load.tell(f"seed:closed:{min(16, options.kiosks)}:{SEED_S:g}")
        self.load.expect("begun")
        self.load.expect("ended")
        started = time.monotonic()
        shown = 0.0

        def progress(done: int) -> None:
            nonlocal shown
            if time.monotonic() - shown > SAMPLE_S:
                shown = time.monotonic()
                self.say(f"  {done:,} payments loaded")

        ends_at = started + BOOKS_S
        while True:
            try:
                grown = uvloop.run(preload(self.rig.dsn, options.rows, china_now().date(), self._room_bytes, progress))
                break
            except StartError as error:
                if error.code != "preload_empty" or time.monotonic() > ends_at:
                    raise
                time.sleep(1.0)
        seconds = time.monotonic() - started
        self.report.add("rows_loaded", options.rows)
        self.report.add("rows_loaded_bytes", grown)
        self.say(f"{options.rows:,} finished payments loaded in {seconds:.0f} s: {grown / 1e9:.2f} GB")
        self._await_the_end()
        time.sleep(max(0.0, started + COUNTERS_S - time.monotonic()))
        return self.rig.prove(since=self._since).payments

    # ------------------------------------------------------------------------------------------------ what is told
    def tell_window(self, window: Window, *, prefix: str = "") -> None:
        """What a phase came to: rate, times, CPU."""
        report, result = self.report, window.result
        add = report.add
        posted = self.posted_within(window)
        add(f"{prefix}payments_per_s", round(posted / window.seconds, 1))
        payment = result["payment"]
        for name in ("p50", "p90", "p99", "p999", "max"):
            add(f"{prefix}{name}_ms", payment[f"{name}_ms"])
        for leg in ("inquiry", "paying"):
            for name in ("p50", "p99"):
                add(f"{prefix}{leg}_{name}_ms", result[leg][f"{name}_ms"])
        used = {role: window.cpu_us(role) for role in ("switch", "postgres", "unionpay", "marketing", "generator")}
        used["hosts"] = used["unionpay"] + used["marketing"]
        for role in ("switch", "postgres", "hosts", "unionpay", "marketing", "generator"):
            add(f"{prefix}cpu_us_{role}", round(used[role], 1))
        add(f"{prefix}cpu_us", round(sum(used.values()) - used["hosts"], 1))
        cores = sum(window.ended.cpu_s.values()) - sum(window.begun.cpu_s.values())
        add(f"{prefix}cores_busy", round(cores / window.seconds, 2))
        for role in ("switch", "generator"):
            waited = window.ended.waited_s[role] - window.begun.waited_s[role]
            add(f"{prefix}wait_share_{role}", round(waited / window.seconds, 3))
        for name in ("due", "paid", "declined", "doubtful", "left", "refused"):
            add(f"{prefix}{name}", result[name])
        add(f"{prefix}late_p99_ms", result["late"]["p99_ms"])
        if not prefix:
            add("rss_bytes_begun", window.begun.rss)
            add("rss_bytes", window.ended.rss)
            add("files_begun", window.begun.files)
            add("files", window.ended.files)
        self._judge_generator(window)

    def _judge_generator(self, window: Window) -> None:
        busy = (window.ended.cpu_s["generator"] - window.begun.cpu_s["generator"]) / window.seconds
        if busy > BUSY:
            self.report.warn(
                f"{window.phase}: the generator used {busy:.0%} of a core: it may have been the bottleneck"
            )
        late = window.result["late"]["p99_ms"]
        if late > LATE_MS:
            self.report.warn(
                f"{window.phase}: payments began up to {late:g} ms late (p99): the generator or its kiosks were busy"
            )
        for role in ("switch", "generator"):
            share = (window.ended.waited_s[role] - window.begun.waited_s[role]) / window.seconds
            if share > SHARED:
                self.report.warn(
                    f"{window.phase}: the {role} waited for a core {share:.0%} of the time: times say little"
                )

    def _tell_database(self, used: DatabaseMeter, payments: int, batches: tuple[float, float] | None) -> None:
        """Of the whole load with warm-up and settling: each payment with all that it ever wrote."""
        paid = max(1, payments)
        tables = {name: round(rows / paid, 2) for name, rows in sorted(used.tables.items()) if rows / paid >= 0.01}
        self.report.add("wal_bytes", round(used.totals.get("wal_bytes", 0) / paid))
        self.report.add("rows", round(sum(used.tables.values()) / paid, 2))
        self.report.add("rows_by_table", tables)
        self.report.add("commits", round(used.totals.get("xact_commit", 0) / paid, 3))
        if batches is not None:
            entries, commits = batches
            self.report.add("entries_per_commit", round(entries / max(1.0, commits), 1))

    def _batches(self) -> tuple[float, float] | None:
        """Entries and commits of the journal, by the switch's own metrics."""
        rows = "switch_db_batch_rows"
        found = self._metrics(f"{rows}_sum", f"{rows}_count")
        return (found[0], found[1]) if found[1] else None

    def _metrics(self, *names: str) -> list[float]:
        """Of a running switch, all label sets added up."""
        url = f"http://{LOCALHOST}:{self.rig.ports['switch observe']}/metrics"
        with urllib.request.urlopen(url, timeout=5.0) as answer:
            lines = answer.read().decode().splitlines()
        found = dict.fromkeys(names, 0.0)
        for line in lines:
            series, _, value = line.rpartition(" ")
            name = series.partition("{")[0]
            if name in found:
                found[name] += float(value)
        return [found[name] for name in names]

    def _await_the_end(self) -> None:
        """Until the switch drives no payment any more: a proof of millions is not made twice."""
        ends_at = time.monotonic() + SETTLE_S
        while time.monotonic() < ends_at and self._metrics("switch_open_payments")[0]:
            time.sleep(LOOK_S)

    def _tell_proof(self, proof: Proof, result: Event) -> None:
        report = self.report
        for name in ("completed", "declined", "reversed", "suspense", "open", "differences", "fen"):
            report.add(
                f"proof_{name}" if name in ("completed", "declined", "reversed") else name, proof.to_dict()[name]
            )
        report.add("unclear", result["unclear"])
        report.add("events", result["events"])
        if not proof.holds:
            report.fail(f"the proof does not hold: {len(proof.differences)} differences, {proof.open} open")
        if result["unclear"]:
            report.fail(f"{result['unclear']} payments have no final word")
        if not proof.payments:
            report.fail("not one payment was made")
        if proof.heard is not None and proof.heard < proof.payments:
            report.fail(f"the kiosks know of {proof.heard} payments, the switch of {proof.payments}")


# ---------------------------------------------------------------------------------------------------- the kinds
def _play_payments(bench: Bench) -> None:
    options = bench.options
    if options.rates:
        (rate,) = options.rates
        bench.play(bench.open_phase("warm", rate, options.warm_up_s))
        bench.play(bench.open_phase("run", rate, options.seconds))
    else:
        bench.play(f"warm:closed:{options.inflight}:{options.warm_up_s:g}")
        bench.play(f"run:closed:{options.inflight}:{options.seconds:g}")


def _tell_run(bench: Bench) -> None:
    bench.tell_window(bench.windows[-1])


def _play_latency(bench: Bench) -> None:
    options = bench.options
    for rate in options.rates:
        bench.play(bench.open_phase(f"warm-{rate:g}", rate, options.warm_up_s))
        bench.play(bench.open_phase(f"at-{rate:g}", rate, options.seconds))


def _tell_latency(bench: Bench) -> None:
    first = bench.windows[1]
    bench.tell_window(first)
    for rate, window in zip(bench.options.rates[1:], bench.windows[3::2], strict=True):
        bench.tell_window(window, prefix=f"at_{rate:g}_")


def _play_overload(bench: Bench) -> None:
    options = bench.options
    bench.play(f"warm:closed:{options.inflight}:{options.warm_up_s:g}")
    capacity = bench.play(f"capacity:closed:{options.inflight}:{options.seconds:g}")
    peak = max(1.0, capacity.result["paid_within"] / capacity.seconds)
    bench.say(f"capacity {peak:,.0f} payments/s; now {OVERLOAD:g} times as many")
    bench.play(bench.open_phase("before", RELIEF * peak, options.seconds))
    bench.play(bench.open_phase(f"overload+{PROBES:g}", OVERLOAD * peak, options.seconds))
    for number in range(SLICES):
        bench.play(bench.open_phase(f"after-{number + 1}", RELIEF * peak, 1.0))


def _tell_overload(bench: Bench) -> None:
    report = bench.report
    windows = {window.phase: window for window in bench.windows}
    capacity, before, overload = windows["capacity"], windows["before"], windows["overload"]
    peak = capacity.result["paid_within"] / capacity.seconds
    goodput = overload.result["paid_within"] / overload.seconds
    bench.tell_window(overload)
    report.add("peak_per_s", round(peak, 1))
    report.add("goodput_per_s", round(goodput, 1))
    report.add("goodput_share", round(goodput / max(1.0, peak), 3))
    if goodput > NOISE * peak:
        report.warn(
            f"overload: {goodput:.0f} payments/s were paid, more than the capacity of {peak:.0f} measured before it"
        )
    report.add("offered_per_s", round(overload.result["due"] / overload.seconds, 1))
    report.add("begun_per_s", round(overload.result["begun"] / overload.seconds, 1))
    for name in ("probes", "probes_answered"):
        report.add(name, overload.result[name])
    report.add("probe_p99_ms", overload.result["probe"]["p99_ms"])
    report.add("reversals", bench.reversed_within(overload))
    normal = before.result["payment"]["p99_ms"]
    report.add("before_p99_ms", normal)
    slices = [windows[f"after-{number + 1}"].result for number in range(SLICES)]
    report.add("after_p99_ms", [each["payment"]["p99_ms"] for each in slices])
    report.add("after_served", [round((each["paid"] + each["declined"]) / max(1, each["due"]), 3) for each in slices])
    limit = max(NORMAL_AGAIN * normal, normal + NORMAL_ROOM_MS)
    recovery_s = _recovery_s(limit, report.numbers["after_p99_ms"], report.numbers["after_served"])
    report.add("recovery_s", recovery_s)
    if recovery_s == SLICES:
        report.warn(
            f"it is not normal again within {SLICES} s after the overload: p99 up to {limit:.1f} ms, all served"
        )
    lost = overload.result["probes"] - overload.result["probes_answered"]
    if lost:
        report.warn(f"{lost} result inquiries or reversals found no answer during the overload")


def _recovery_s(limit_ms: float, p99_ms: list[float], served: list[float]) -> int:
    """Seconds after which all is normal and stays so. Who turns everybody away is quick, but has not recovered."""
    for number in reversed(range(len(p99_ms))):
        if p99_ms[number] > limit_ms or served[number] < SERVED:
            return number + 1
    return 0


def _play_soak(bench: Bench) -> None:
    options = bench.options
    sampler = Sampler(bench.rig.pid("switch"))
    bench.play(bench.open_phase("warm", options.rates[0], options.warm_up_s))
    with sampler.running():
        bench.play(bench.open_phase("run", options.rates[0], options.seconds))
    bench.report.samples = sampler.samples


def _tell_soak(bench: Bench) -> None:
    report = bench.report
    bench.tell_window(bench.windows[-1])
    samples = report.samples
    half = samples[len(samples) // 2 :]
    (_, rss_half, _), (_, rss_end, _) = half[0], half[-1]
    files = [count for _, _, count in samples]
    report.add("rss_growth", round(rss_end / rss_half - 1, 4))
    report.add("files_growth", files[-1] - files[0])
    if rss_end > rss_half * (1 + GROWTH_MAX):
        grown = f"memory grew from {rss_half / 1e6:.1f} MB at half time to {rss_end / 1e6:.1f} MB"
        if bench.windows[-1].result["due"] / 2 < QUOTES_MAX:
            report.warn(f"{grown}; too few payments to judge that: quotes are kept up to {QUOTES_MAX:,}")
        else:
            report.fail(grown)
    if files[-1] > files[0] + FILES_GROWTH_MAX:
        report.fail(f"open files grow: {files[0]} at the start, {files[-1]} at the end")


def _play_fleet(bench: Bench) -> None:
    bench.play("visits")


def _tell_fleet(bench: Bench) -> None:
    (window,) = bench.windows
    bench.tell_window(window)
    report, result = bench.report, window.result
    report.add("visits", result["visits"])
    report.add("visits_per_s", round(result["begun"] / window.seconds, 1))
    report.add(
        "cpu_switch_share", round((window.ended.cpu_s["switch"] - window.begun.cpu_s["switch"]) / window.seconds, 3)
    )
    report.add(
        "cpu_fleet_share",
        round((window.ended.cpu_s["generator"] - window.begun.cpu_s["generator"]) / window.seconds, 3),
    )
    report.add("fleet_rss_bytes", result["rss_bytes"])
    for name in ("balance", "slip", "wait"):
        report.add(f"{name}_p99_ms", result["times"][name]["p99_ms"])


def _play_admin(bench: Bench) -> None:
    """The same load, with the admin service in every state in which it may be found."""
    rate, seconds = bench.options.rates[0], bench.options.seconds
    rig = bench.rig
    bench.play(bench.open_phase("warm", rate, bench.options.warm_up_s))
    bench.play(bench.open_phase("without", rate, seconds))
    rig.start_admin()
    bench.say(f"the admin service runs; {ADMIN_SETTLE_S:g} s until its loops have seen everything")
    time.sleep(ADMIN_SETTLE_S)
    bench.play(bench.open_phase("running", rate, seconds))
    with _locked(rig.dsn, "admin"):
        bench.play(bench.open_phase("locked", rate, seconds))
    with _slowed(rig, "admin"):
        bench.play(bench.open_phase("slow", rate, seconds))
    rig.pause("admin")
    bench.play(bench.open_phase("frozen", rate, seconds))
    rig.resume("admin")
    # Once more as at first: what the machine itself has changed meanwhile shows here.
    rig.stop("admin")
    rig.forget("admin")
    bench.play(bench.open_phase("stopped", rate, seconds))


@contextmanager
def _locked(dsn: str, schema: str) -> Iterator[None]:
    """All tables of this schema are another session's."""
    held, over = threading.Event(), threading.Event()

    async def hold() -> None:
        async with tables_locked(dsn, schema):
            held.set()
            await asyncio.to_thread(over.wait)

    with ThreadPoolExecutor(1) as pool:
        holding = pool.submit(asyncio.run, hold())
        while not held.wait(LOOK_S):
            if holding.done():
                holding.result()
        try:
            yield
        finally:
            over.set()
            holding.result()


@contextmanager
def _slowed(rig: Rig, name: str) -> Iterator[None]:
    """This process gets a tenth of its time."""
    over = threading.Event()

    def slow() -> None:
        while not over.is_set():
            rig.pause(name)
            over.wait(0.9 * SLOW_TURN_S)
            rig.resume(name)
            over.wait(0.1 * SLOW_TURN_S)

    thread = threading.Thread(target=slow, name="slow")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _tell_admin(bench: Bench) -> None:
    report, windows = bench.report, {window.phase: window for window in bench.windows}
    base = [windows[phase].cpu_us("switch") for phase in ("without", "stopped")]
    for phase, window in windows.items():
        if phase == "warm":
            continue
        bench.tell_window(window, prefix=f"{phase}_")
        ratio = window.cpu_us("switch") / (sum(base) / len(base))
        report.add(f"{phase}_cpu_ratio", round(ratio, 3))
        if ratio > ADMIN_MAX * max(base) / min(base):
            report.warn(f"{phase}: the switch needs {ratio:.2f} times the CPU a payment that it needs without admin")


@dataclass(frozen=True)
class Kind:
    """One benchmark under load: what is played, and what is told about it afterwards."""

    what: str
    play: Callable[[Bench], None]
    tell: Callable[[Bench], None]
    seconds: float
    kiosks: int
    inflight: int = 256
    rates: tuple[float, ...] = ()
    scenario: str = "bench"


KINDS: Final = {
    "payments": Kind("as many payments as possible, or --rate a second", _play_payments, _tell_run, 20.0, 1_000),
    "latency": Kind("times at a low rate, or at each --rate", _play_latency, _tell_latency, 20.0, 500, rates=(200.0,)),
    "overload": Kind("three times what it can do, and back", _play_overload, _tell_overload, 10.0, 2_000),
    "soak": Kind("a steady rate for long: memory, open files", _play_soak, _tell_soak, 600.0, 500, rates=(400.0,)),
    "admin": Kind(
        "the switch while the admin service runs, is locked out of its tables, slow, frozen, stopped",
        *(_play_admin, _tell_admin, 20.0, 500),
        rates=(100.0,),
    ),
    "fleet": Kind(
        "halls of kiosks and all that people do there",
        *(_play_fleet, _tell_fleet, 60.0, 10_000),
        rates=(100.0,),
        scenario="hall",
    ),
}
PARTS: Final = {
    "codec": "messages, MACs and dialects: nanoseconds each, no processes",
    "journal": "the journal alone on a PostgreSQL of its own",
}


def add_bench_parser(commands: Any) -> None:
    lines = [f"  {name:<10}{what}" for name, what in PARTS.items()]
    lines += [f"  {name:<10}{kind.what} ({kind.seconds:g} s)" for name, kind in KINDS.items()]
    parser = commands.add_parser(
        "bench",
        help="measure codec, journal, payments, latency, overload, soak, admin or fleet, and prove that all went right",
        description="Starts what it needs, warms up, measures, lets everything settle and compares the three books.\n"
        "Exit status 0 only if they agree and every payment has a final word.",
        epilog="benchmarks:\n" + "\n".join(lines) + "\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    option = parser.add_argument
    parser.add_argument("name", choices=(*PARTS, *KINDS), metavar="NAME", help="which; see below")
    option("--seconds", type=above_zero, metavar="S", help="length of the measurement")
    option("--warm-up", type=above_zero, default=3.0, metavar="S", help="load before it (default 3)")
    option("--kiosks", type=at_least_one, metavar="N", help="kiosks that pay")
    option("--inflight", type=at_least_one, metavar="N", help="payments under way at any time (default 256)")
    option("--rate", type=above_zero, action="append", metavar="R", help="payments a second; latency: may come again")
    option("--poisson", action="store_true", help="arrivals as a Poisson process, not evenly")
    option("--rows", type=int, default=0, metavar="N", help="so many finished payments are in the tables already")
    option("--idle", type=int, default=0, metavar="N", help="more kiosks that are signed on and idle")
    option("--workers", type=at_least_one, default=1, metavar="N", help="processes of the switch (default 1)")
    option("--security", choices=("software", "pkcs11"), default="software", help="security module")
    option("--tls", action="store_true", help="with TLS between kiosks, switch and both hosts")
    option("--scenario", metavar="NAME", help="how hosts behave (default bench: 1 %% goes wrong; fleet: hall)")
    option("--rhythm", choices=RHYTHMS, default="steady", help="fleet: day is a whole day in the time of the run")
    option("--pg", action="append", default=[], metavar="NAME=VALUE", help="a setting of PostgreSQL")
    option("--json", action="store_true", help="one JSON object as the last line")
    option("--compare", type=Path, metavar="FILE", help="ratios to an earlier run: a file whose last line is its JSON")
    option(
        "--dir",
        type=Path,
        default=Path(".gridswitch/bench"),
        metavar="DIR",
        help="its own folder, emptied at every start (default .gridswitch/bench)",
    )
    parser.set_defaults(run=_bench)


def _bench(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments.pg)
    earlier = None if arguments.compare is None else read_earlier(arguments.compare, arguments.name)
    if arguments.name == "codec":
        report = bench_codec(arguments.seconds or 5.0)
    elif arguments.name == "journal":
        report = bench_journal(arguments.dir, arguments.seconds or 10.0, arguments.inflight or 256, settings)
    else:
        report = Bench(_options(arguments, settings)).run()
    if report.proof is not None:
        print_proof(report.proof)
    print_report(report, earlier)
    if arguments.json:
        print(orjson.dumps(report.to_dict()).decode(), flush=True)
    return 0 if report.ok else 1


def _options(arguments: argparse.Namespace, settings: dict[str, str]) -> Options:
    kind = KINDS[arguments.name]
    kiosks = arguments.kiosks or kind.kiosks
    inflight = arguments.inflight or min(kind.inflight, kiosks)
    rates = arguments.rate or list(kind.rates)
    if inflight > kiosks:
        raise StartError("bench", f"--inflight {inflight}: each needs a kiosk of its own, and --kiosks is {kiosks}")
    if arguments.rows < 0 or arguments.idle < 0:
        raise StartError("bench", "--rows and --idle: expected 0 or more")
    if kiosks + arguments.idle > TERMINALS_MAX:
        raise StartError("bench", f"--kiosks and --idle: {kiosks + arguments.idle} kiosks; at most {TERMINALS_MAX}")
    if arguments.name == "overload" and arguments.rate:
        raise StartError("bench", "--rate: an overload is a multiple of what it has measured first")
    if len(rates) > 1 and arguments.name != "latency":
        raise StartError("bench", f"--rate: {arguments.name} takes one")
    return Options(
        name=arguments.name,
        folder=arguments.dir,
        seconds=arguments.seconds or kind.seconds,
        warm_up_s=arguments.warm_up,
        kiosks=kiosks,
        inflight=inflight,
        rates=rates,
        poisson=arguments.poisson,
        rows=arguments.rows,
        idle=arguments.idle,
        workers=arguments.workers,
        security=arguments.security,
        tls=arguments.tls,
        scenario=arguments.scenario or kind.scenario,
        rhythm=arguments.rhythm,
        settings=settings,
    )


def _settings(given: list[str]) -> dict[str, str]:
    settings = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise StartError("bench", f"--pg {text!r}: expected NAME=VALUE, e.g. max_wal_size=4GB")
        settings[name] = value
    return settings


def _in_words(options: Options) -> str:
    load = (
        f"{options.inflight} payments under way"
        if not options.rates
        else "open loop at " + ", ".join(f"{rate:g}/s" for rate in options.rates)
    )
    words = [f"{options.kiosks} kiosks", load, f"{options.seconds:g} s", f"scenario {options.scenario}"]
    if options.idle:
        words.append(f"{options.idle:,} idle kiosks")
    if options.rows:
        words.append(f"{options.rows:,} payments in the tables")
    words += [f"{options.workers} workers"] if options.workers > 1 else []
    words += ["TLS"] if options.tls else []
    words += [options.security] if options.security != "software" else []
    return ", ".join(words)
