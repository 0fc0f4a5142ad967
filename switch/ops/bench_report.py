"""What a benchmark found, as people and programs read it, and next to what an earlier run found."""

from __future__ import annotations

import platform
import ssl
import sysconfig
import time
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Final

import orjson
from rich.console import Console
from rich.table import Table

from switch.errors import StartError
from switch.ops.postgres import SETTINGS, EmbeddedPostgres
from switch.security import primitives
from switch.sim.threeway import Proof

_PACKAGES: Final = ("uvloop", "asyncpg", "orjson", "msgspec", "cryptography")
_SPEED_ROUNDS: Final = 15
_MB: Final = 1e6
# Numbers for people, in this order: (key, what it is, unit). What is missing in a report is left out.
_SHOWN: Final = (
    ("kiosks", "kiosks signed on", ""),
    ("rss_per_kiosk_kib", "memory of the switch a kiosk", "KiB"),
    ("rows_loaded", "payments loaded before", ""),
    ("payments", "payments in all", ""),
    ("payments_per_s", "payments a second, by the hosts' ledgers", ""),
    ("p50_ms", "payment, p50", "ms"),
    ("p90_ms", "payment, p90", "ms"),
    ("p99_ms", "payment, p99", "ms"),
    ("p999_ms", "payment, p99.9", "ms"),
    ("max_ms", "payment, longest", "ms"),
    ("inquiry_p50_ms", "inquiry, p50", "ms"),
    ("inquiry_p99_ms", "inquiry, p99", "ms"),
    ("paying_p50_ms", "charge and posting, p50", "ms"),
    ("paying_p99_ms", "charge and posting, p99", "ms"),
    ("late_p99_ms", "begun late, p99", "ms"),
    ("cpu_us_switch", "CPU a payment: switch", "µs"),
    ("cpu_us_postgres", "CPU a payment: PostgreSQL", "µs"),
    ("cpu_us_unionpay", "CPU a payment: card host", "µs"),
    ("cpu_us_marketing", "CPU a payment: marketing system", "µs"),
    ("cpu_us_generator", "CPU a payment: generator", "µs"),
    ("cpu_us_client", "CPU a payment: this process", "µs"),
    ("cpu_us", "CPU a payment: all", "µs"),
    ("cores_busy", "cores busy", ""),
    ("wait_share_switch", "share of time without a core: switch", ""),
    ("wait_share_generator", "share of time without a core: generator", ""),
    ("rss_bytes_begun", "memory of the switch, begin", "MB"),
    ("rss_bytes", "memory of the switch, end", "MB"),
    ("files_begun", "open files of the switch, begin", ""),
    ("files", "open files of the switch, end", ""),
    ("wal_bytes", "WAL a payment", "bytes"),
    ("rows", "rows a payment", ""),
    ("commits", "commits a payment", ""),
    ("entries_per_commit", "entries a commit", ""),
    ("raw_commits_per_s", "writes of so many bytes with fdatasync, a second", ""),
    ("raw_payments_per_s", "payments a second that those could carry", ""),
    ("declined", "declined", ""),
    ("doubtful", "in doubt on the way", ""),
    ("left", "customers who found no kiosk", ""),
    ("peak_per_s", "capacity, payments a second", ""),
    ("offered_per_s", "offered a second", ""),
    ("begun_per_s", "begun a second", ""),
    ("goodput_per_s", "paid a second meanwhile", ""),
    ("goodput_share", "share of the capacity", ""),
    ("probes", "inquiries and reversals meanwhile", ""),
    ("probes_answered", "answered", ""),
    ("probe_p99_ms", "their time, p99", "ms"),
    ("reversals", "reversals at the card host meanwhile", ""),
    ("before_p99_ms", "p99 before", "ms"),
    ("recovery_s", "normal again after", "s"),
    ("rss_growth", "growth of memory in the second half", ""),
    ("files_growth", "more open files at the end", ""),
)


@dataclass
class Report:
    """Numbers by name, in the order in which they were found."""

    name: str
    numbers: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    proof: Proof | None = None
    warnings: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)  # with one of them no number counts
    samples: list[tuple[float, int, int]] = field(default_factory=list)  # seconds, bytes, open files

    @property
    def ok(self) -> bool:
        return not self.faults

    def add(self, name: str, value: Any) -> None:
        self.numbers[name] = value

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def fail(self, text: str) -> None:
        self.faults.append(text)

    def to_dict(self) -> dict[str, Any]:
        more: dict[str, Any] = {}
        if self.samples:
            more["samples"] = [{"s": round(at, 1), "rss_bytes": rss, "files": files} for at, rss, files in self.samples]
        return {
            "bench": self.name,
            "ok": self.ok,
            **self.numbers,
            "warnings": self.warnings,
            "faults": self.faults,
            **more,
            "machine": self.machine,
        }


def print_report(report: Report, earlier: dict[str, Any] | None) -> None:
    console = Console(highlight=False, soft_wrap=True)
    table = Table(title=f"bench {report.name}", title_justify="left", show_edge=False, pad_edge=False)
    table.add_column("")
    table.add_column("", justify="right")
    table.add_column("")
    if earlier is not None:
        table.add_column("earlier", justify="right")
        table.add_column("ratio", justify="right")
    known = {key for key, _, _ in _SHOWN}
    rows = [row for row in _SHOWN if row[0] in report.numbers]
    # Of several rates, or of a part: the keys speak for themselves.
    rows += [
        (key, key, "") for key, value in report.numbers.items() if key not in known and _is_number(value) and "_" in key
    ]
    for key, what, unit in rows:
        value = report.numbers[key]
        cells = [what, _shown(value, unit), unit]
        if earlier is not None:
            before = earlier.get(key)
            cells += [_shown(before, unit), f"{value / before:.2f}"] if _is_number(before) and before else ["", ""]
        table.add_row(*cells)
    console.print(table)
    for name in ("refused", "events", "rows_by_table", "after_p99_ms", "after_served"):
        if report.numbers.get(name):
            console.print(f"{name.replace('_', ' ')}: {orjson.dumps(report.numbers[name]).decode()}")
    machine = report.machine
    console.print(", ".join(f"{name} {value}" for name, value in machine.items() if name != "speed_us"))
    if len(machine.get("speed_us", ())) == 2:
        before, after = machine["speed_us"]
        console.print(f"this machine's own speed, in µs for one fixed piece of work: {before} before, {after} after")
    for text in report.warnings:
        console.print(f"[yellow]{text}[/yellow]")
    for text in report.faults:
        console.print(f"[red]{text}[/red]")


def read_earlier(path: Path, name: str) -> dict[str, Any]:
    """The report of an earlier run: the last line of a file.

    Raises:
        StartError: There is none, or it is of another benchmark.
    """
    try:
        found = orjson.loads(path.read_bytes().strip().rpartition(b"\n")[2])
    except OSError as error:
        raise StartError("bench", f"--compare {path}: {(error.strerror or str(error)).lower()}") from error
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict) or "bench" not in found:
        raise StartError("bench", f"--compare {path}: its last line is no report; make one with: bench {name} --json")
    if found["bench"] != name:
        raise StartError("bench", f"--compare {path}: is of bench {found['bench']}, not of {name}")
    return found


def machine_facts(server: EmbeddedPostgres | None, settings: dict[str, str]) -> dict[str, Any]:
    """What the numbers depend on."""
    options = sysconfig.get_config_var("CONFIG_ARGS") or ""
    cores, model = _cpu()
    facts: dict[str, Any] = {
        "cpu": model,
        "cores": cores,
        "kernel": platform.release(),
        "python": f"{platform.python_implementation()} {platform.python_version()}, "
        + ("PGO" if "--enable-optimizations" in options else "no PGO"),
        **{name: version(name) for name in _PACKAGES},
        "openssl": ssl.OPENSSL_VERSION.removeprefix("OpenSSL "),
        "mac_engine": primitives.PROVIDER,
    }
    if server is not None:
        facts["postgresql"] = server.version
        changed = {name: value for name, value in settings.items() if SETTINGS.get(name) != value}
        if changed:
            facts["postgresql_settings"] = ", ".join(f"{name} = {value}" for name, value in sorted(changed.items()))
    return facts


def speed_us() -> float:
    """CPU time of one fixed piece of work: shared cores make everything slower, and this shows by how much."""
    found = []
    for _ in range(_SPEED_ROUNDS):
        started = time.process_time()
        text, known = b"gridswitch", {}
        for number in range(2_000):
            text = sha256(text).digest()
            known[text[:4]] = number
        found.append(time.process_time() - started)
    return 1e6 * median(found)


def _cpu() -> tuple[int, str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return len(models) or 1, models[0] if models else platform.machine()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any, unit: str) -> str:
    if unit == "MB":
        return f"{value / _MB:,.1f}"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
