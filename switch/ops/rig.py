"""Everything of a demo or a drill as real processes in one folder: PostgreSQL, both simulated hosts, switches.

A folder with the marker file is ours to empty; a lock on it says that somebody works in it. Processes are noted, so
that the next run ends what a killed one left behind.

``gridswitch rig`` is the same for those who bring their own load, and stops everything when it is told to.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TextIO

import msgspec
import orjson
import uvloop

from switch import sim
from switch.config import SecurityConfig, load
from switch.errors import StartError
from switch.limits import DATABASE_START_WAIT_S, KIOSK_CONNECTIONS_MAX, SHORT
from switch.machines import days
from switch.model.cardnumber import Known
from switch.ops.certs import make_development_certificates
from switch.ops.postgres import EmbeddedPostgres
from switch.ops.proof import prove
from switch.ops.scan import Scan
from switch.ops.softhsm import make_master_token
from switch.ops.terminals import add_test_terminals
from switch.runtime.clock import SystemClock
from switch.sim.commands import at_least_one, test_terminals
from switch.sim.scenario import load_scenario
from switch.sim.testkeys import TEST_ISSUER, test_terminal
from switch.sim.threeway import Proof
from switch.store.migrate import migrate

LOCALHOST: Final = "127.0.0.1"
PORTS_FROM, PORTS_TO = 10_000, 32_000  # of a rig; Linux dials out from 32768 on
MARKER: Final = "gridswitch-demo"  # a folder with this file is a demo's or a drill's to empty
SETTLE_S: Final = (
    30.0  # after the load ends: card time-out, quiet period and late answers of the short profile, with room
)
SERVICE_TERMINAL: Final = 999_999  # test terminal that only echoes: behind all that pay
# How the simulated marketing system is known to behave, by what it speaks.
_PROFILES: Final = {
    "json": 'fence = "tombstone"\ninquiry = "serial"\ndedupe = "serial"',
    "ydlw": 'fence = "cancel_if_posted"\ninquiry = "history"\ndedupe = "none"',
}
MARKETING: Final = tuple(_PROFILES)
_DEVICE_API: Final = """\
[device_api]
port = {port}
certificate_file = "devices.pem"
key_file = "devices.key"
key_store = "file"
upload_folder = "uploads"
"""
LOOK_S: Final = 0.5  # between looks at what is still open


class Rig:
    """Args:
    folder: Its own; emptied by ``prepare``.
    say: Where news goes.
    instances: Names of the switches that share the database.
    workers: Processes of each switch.
    database_dir: Where PostgreSQL keeps its data; default inside ``folder``.
    security: Back end of the security module; ``pkcs11`` is a SoftHSM2 token made for this run.
    faults_per_minute, source_connections_max: ``[listen.limits]`` of the switches; the others are without limit.
    tls: Kiosks, switches and hosts speak TLS, with certificates made in ``folder``.
    marketing: What the marketing system speaks: "json" or "ydlw".
    settings: More settings of the PostgreSQL server.
    """

    def __init__(
        self,
        folder: Path,
        *,
        say: Callable[[str], None],
        instances: Sequence[str] = ("switch",),
        workers: int = 1,
        database_dir: Path | None = None,
        security: str = "software",
        faults_per_minute: int = 0,
        source_connections_max: int = KIOSK_CONNECTIONS_MAX,
        tls: bool = False,
        marketing: str = "json",
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._faults_per_minute = faults_per_minute
        self._source_connections_max = source_connections_max
        self.folder = folder.absolute()
        self.server = EmbeddedPostgres(database_dir or self.folder / "postgres", settings=settings)
        self.tls_dir = self.folder / "certs" if tls else None
        self.marketing = marketing
        self.instances = tuple(instances)
        self._workers = workers
        self._security = SecurityConfig()
        self._back_end = security
        self.books: list[Path] = []  # of the kiosks
        self.ports: dict[str, int] = {}
        self.dsn = ""
        self._say = say
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._paused: set[str] = set()
        self._card_ledger = self.folder / "unionpay.jsonl"
        self._marketing_ledger = self.folder / "marketing.jsonl"
        self._marker: TextIO | None = None

    # ------------------------------------------------------------------------------------------------ places
    def clean(self) -> None:
        """Begin with empty books. What an earlier run left running is ended first; nobody else's files go."""
        marker = self.folder / MARKER
        try:
            if self.folder.exists():
                if not self.folder.is_dir() or (any(self.folder.iterdir()) and not marker.exists()):
                    raise StartError("demo", f"--dir {self.folder}: not a demo's folder and not empty; name another")
                self._lock()
                for name, pid in self._left_over():
                    self._say(f"ending {name} of an earlier run (process {pid})")
                    end_process(pid)
                self.server.stop()
                for entry in self.folder.iterdir():
                    if entry.name != MARKER:
                        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            else:
                self.folder.mkdir(parents=True)
                self._lock()
        except OSError as error:
            raise StartError("demo", f"--dir {self.folder}: {(error.strerror or str(error)).lower()}") from error

    @property
    def is_ours(self) -> bool:
        return self._marker is not None

    def _lock(self) -> None:
        """The marker says that this folder is ours to empty; held open, that somebody works in it."""
        self._marker = (self.folder / MARKER).open("a+")
        try:
            fcntl.flock(self._marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.unlock()
            raise StartError(
                "demo", f"another demo or drill runs in {self.folder}: wait for it, or say --dir"
            ) from None

    def unlock(self) -> None:
        if self._marker is not None:
            self._marker.close()
            self._marker = None

    def _left_over(self) -> list[tuple[str, int]]:
        try:
            noted = orjson.loads((self.folder / "processes.json").read_bytes())
        except (OSError, orjson.JSONDecodeError):
            return []
        found = []
        for name, pid in noted.items():
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if str(self.folder).encode() in command:  # not a process that only got the same number
                found.append((name, pid))
        return found

    # ------------------------------------------------------------------------------------------------ start and stop
    def start_all(self, *, kiosks: int, scenario: str, proxied: Sequence[str] = ()) -> None:
        """Database, schema, terminals, hosts, switches. ``proxied``: hosts that the switches reach through a proxy."""
        names = ["unionpay", "marketing"]
        for instance in self.instances:
            names += [instance, f"{instance} observe"]
        names += [f"{name} proxy" for name in proxied]
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        for instance in self.instances:
            self.ports[f"{instance} observe"] = free_row(1 + self._workers)
        if self.tls_dir is not None:
            make_development_certificates(self.tls_dir, [test_terminal(number)[0] for number in range(1, kiosks + 1)])
        self.dsn = self.server.start()
        uvloop.run(migrate(self.dsn))
        if self._back_end == "pkcs11":
            self._security = make_master_token(self.folder / "softhsm")
        for instance in self.instances:
            self.config_file(instance).write_text(self._config(instance, proxied), encoding="utf-8")
        uvloop.run(add_test_terminals(load(self.config_file(self.instances[0])), self.dsn, kiosks))
        for host, ledger in (("unionpay", self._card_ledger), ("marketing", self._marketing_ledger)):
            self.start(
                host,
                *("host", host, "--listen", f"{LOCALHOST}:{self.ports[host]}"),
                *("--ledger", str(ledger), "--scenario", scenario),
                *(self._specs() if host == "marketing" else ()),
                *(("--tls", str(self.tls_dir)) if self.tls_dir is not None else ()),
            )
            self.wait_for(host, self.ports[host])
        for name in proxied:
            self.start_proxy(name)
        for instance in self.instances:
            self.start_switch(instance)

    @property
    def next_spec(self) -> Path:
        """What the marketing system speaks beside its first spec: the version of an upgrade."""
        return Path(sim.__file__).parent / "specs" / f"marketing_{self.marketing}_1_1.toml"

    def _specs(self) -> tuple[str, ...]:
        return "--spec", f"marketing_{self.marketing}_1_0", "--spec", str(self.next_spec)

    def config_file(self, instance: str) -> Path:
        return self.folder / f"{instance}.toml"

    def control_path(self, name: str) -> Path:
        return self.folder / f"{name}.sock"

    def start_switch(self, instance: str = "switch") -> None:
        self.start(instance, "run", "--config", str(self.config_file(instance)))
        self.wait_for(instance, self.ports[instance])

    def start_admin(self, agents: int = 0) -> tuple[str, str]:
        """The admin service over this rig's database and switches, with a demo's people. Says where it is, and their
        password. With ``agents`` kiosks may report, and their book is ``agents.json``. Raises StartError, e.g. when its
        extra is not installed."""
        self.ports["admin"], self.ports["devices"] = free_ports(2)
        file = self.folder / "admin.toml"
        control = [str(self.folder / f"{instance}.control") for instance in self.instances]
        observe = [f"http://{LOCALHOST}:{self.ports[f'{instance} observe']}" for instance in self.instances]
        file.write_text(
            'environment = "development"\n'
            f"[database]\ndsn = {_quoted(self.dsn)}\n"
            f"[listen]\nport = {self.ports['admin']}\n"
            f"[switch]\ncontrol = {_quoted(control)}\nobserve = {_quoted(observe)}\n"
            + (_DEVICE_API.format(port=self.ports["devices"]) if agents else ""),
            encoding="utf-8",
        )
        self._admin_order("migrate")
        people = self._admin_order("demo-data")
        if agents:
            self._admin_order("device-ca", "--name", LOCALHOST)
            self._admin_order("test-agents", "--count", str(agents), "--out", str(self.folder / "agents.json"))
        self.start("admin", "admin", "run", "--config", str(file))
        self.wait_for("admin", self.ports["admin"])
        return f"http://{LOCALHOST}:{self.ports['admin']}/", people.rpartition(" ")[2]

    def _admin_order(self, *words: str) -> str:
        """What a command of the admin service said."""
        ran = subprocess.run(
            [sys.executable, "-m", "switch", "admin", *words, "--config", str(self.folder / "admin.toml")],
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode:
            raise StartError("admin", ran.stderr.strip() or f"admin {words[0]} ended with status {ran.returncode}")
        return ran.stdout.strip()

    def start_proxy(self, name: str) -> None:
        proxy = f"{name} proxy"
        self.start(
            proxy,
            *("faultproxy", "--listen", f"{LOCALHOST}:{self.ports[proxy]}", "--to", f"{LOCALHOST}:{self.ports[name]}"),
            *("--control", str(self.control_path(name))),
        )
        self.wait_for(proxy, self.ports[proxy])

    def start(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name.replace(' ', '-')}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "switch", *arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        pids = {name: process.pid for name, process in self._processes.items()}
        (self.folder / "processes.json").write_bytes(orjson.dumps(pids))

    def wait_for(self, name: str, port: int) -> None:
        ends_at = time.monotonic() + DATABASE_START_WAIT_S
        while time.monotonic() < ends_at:
            if self._processes[name].poll() is not None:
                break
            with socket.socket() as probe:
                if probe.connect_ex((LOCALHOST, port)) == 0:
                    return
            time.sleep(0.05)
        raise StartError("demo", f"{name} does not listen on port {port}; its last lines:\n{self.log_tail(name, 5)}")

    def log_tail(self, name: str, lines: int) -> str:
        text = (self.folder / f"{name.replace(' ', '-')}.log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def forget(self, name: str) -> str:
        """One that ended and is not needed; its last line."""
        del self._processes[name]
        return self.log_tail(name, 1)

    def ended(self) -> list[tuple[str, int]]:
        """(name, exit status) of processes that are gone."""
        return [(name, status) for name, process in self._processes.items() if (status := process.poll()) is not None]

    def kill(self, name: str) -> None:
        """kill -9, and wait until it is gone."""
        process = self._processes[name]
        process.kill()
        process.wait()

    def pause(self, name: str) -> None:
        self._processes[name].send_signal(signal.SIGSTOP)
        self._paused.add(name)

    def resume(self, name: str) -> None:
        self._processes[name].send_signal(signal.SIGCONT)
        self._paused.discard(name)

    def stop_all(self) -> None:
        # The switches first, so that their drain still finds its hosts; whatever hangs is killed.
        for name in [*self._paused]:
            self.resume(name)
        for name in sorted(self._processes, key=lambda name: name not in self.instances):
            self.stop(name)
        self.server.stop()

    def stop(self, name: str) -> None:
        process = self._processes[name]
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(SHORT.drain_s + 5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def places(self) -> dict[str, str]:
        """Where everything is, for a program that uses it."""
        return {
            "kiosks": f"{LOCALHOST}:{self.ports[self.instances[0]]}",
            "health": f"http://{LOCALHOST}:{self.ports[f'{self.instances[0]} observe']}",
            "config": str(self.config_file(self.instances[0])),
            "dsn": self.dsn,
            "card_ledger": str(self.ledger("unionpay")),
            "marketing_ledger": str(self.ledger("marketing")),
            "certificates": "" if self.tls_dir is None else str(self.tls_dir),
        }

    # ------------------------------------------------------------------------------------------------ the books
    def book(self, name: str = "kiosks") -> Path:
        """Where a fleet writes what its kiosks were told."""
        path = self.folder / f"{name}.jsonl"
        if path not in self.books:
            self.books.append(path)
        return path

    def ledger(self, host: str) -> Path:
        """What really happened at ``unionpay`` or ``marketing``."""
        return {"unionpay": self._card_ledger, "marketing": self._marketing_ledger}[host]

    def prove(self, *, since: int = 0) -> Proof:
        whole = self.folder / "kiosk-books.jsonl"
        whole.write_bytes(b"".join(path.read_bytes() for path in self.books))
        return uvloop.run(prove(self.dsn, self._card_ledger, self._marketing_ledger, whole, since=since))

    def settle(self, *, since: int = 0) -> Proof:
        """The proof as soon as nothing is open any more, or when the bound is over."""
        ends_at = time.monotonic() + SETTLE_S
        while True:
            proof = self.prove(since=since)
            if not proof.open or time.monotonic() >= ends_at:
                return proof
            time.sleep(LOOK_S)

    def scan(self) -> Scan:
        """Everything that was written or is shown, searched for card data while the switches still run."""
        scan = Scan(Known(issuer=TEST_ISSUER))
        uvloop.run(scan.database(self.dsn))
        for instance in self.instances:
            scan.live(load(self.config_file(instance)))
        for path in sorted(self.folder.iterdir()):
            if path.is_file():
                scan.path(path)
        return scan

    def _config(self, instance: str, proxied: Sequence[str]) -> str:
        terminal, merchant = test_terminal(SERVICE_TERMINAL)
        # The simulated host owns its day and cuts over twelve hours from now: a demo at 22:59 must not lose its proof.
        local = days.local(SystemClock().wall_us())
        cut_over = f"{(local.hour + 12) % 24:02d}:{local.minute:02d}"
        ports = {name: self.ports[f"{name} proxy" if name in proxied else name] for name in ("unionpay", "marketing")}

        return f"""\
# Written by `gridswitch`; the short time profile is for demo, tests and drills only.
environment = "development"
time_profile = "{SHORT.name}"

[database]
{f"dsn = {_quoted(self.dsn)}" if len(self.instances) > 1 else f"data_dir = {_quoted(self.server.data_dir)}"}

[worker]
instance = "{instance}"
count = {self._workers}

[control]
path = {_quoted(self.folder / f"{instance}.control")}

[listen]
port = {self.ports[instance]}

[listen.limits] # simulated kiosks pay faster than people
payments_per_minute = 0
inquiries_per_minute = 0
requests_per_minute = 0
greetings_per_minute = 0
faults_per_minute = {self._faults_per_minute}
source_connections_max = {self._source_connections_max}

[observe]
port = {self.ports[f"{instance} observe"]}

[security]
back_end = "{self._back_end}"
lmk_file = {_quoted(self.folder / "lmk.key")}
vault_dir = {_quoted(self.folder / "vault")}
pkcs11_library = {_quoted(self._security.pkcs11_library)}
pkcs11_label = {_quoted(self._security.pkcs11_label)}
pkcs11_pin_file = {_quoted(self._security.pkcs11_pin_file)}

[unionpay]
host = "{LOCALHOST}"
port = {ports["unionpay"]}
service_terminal = "{terminal}"
service_merchant = "{merchant}"

[unionpay.profile] # how the simulated host is known to behave
reversal_00 = "found_only"
reversal_not_found = "proves"
cut_over = "{cut_over}"

[marketing]
host = "{LOCALHOST}"
port = {ports["marketing"]}
channel = "SELF01"
spec = "marketing_{self.marketing}_1_0"

[marketing.profile]
{_PROFILES[self.marketing]}
""" + ("" if self.tls_dir is None else _tls_sections(self.tls_dir))


def _tls_sections(folder: Path) -> str:
    def files(**named: str) -> str:
        return "".join(
            f"{option} = {msgspec.json.encode(str(folder / name)).decode()}\n" for option, name in named.items()
        )

    own = files(certificate="server.pem", key="server.key", client_ca="ca.pem")
    upstream = files(ca="ca.pem", certificate="switch.pem", key="switch.key")
    sections = {"listen": own, "unionpay": upstream, "marketing": upstream}
    return "".join(f"\n[{name}.tls]\nenabled = true\n{lines}" for name, lines in sections.items())


def free_ports(count: int) -> list[int]:
    """Below those that the kernel gives to whoever dials out: what is free now must be so when its owner comes back."""
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(found) < count:
            port = PORTS_FROM + secrets.randbelow(PORTS_TO - PORTS_FROM)
            with contextlib.suppress(OSError):
                stack.enter_context(socket.socket()).bind((LOCALHOST, port))
                found.append(port)
    return found


def free_row(count: int) -> int:
    """The first of so many free ports in a row."""
    while True:
        (first,) = free_ports(1)
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(socket.socket()).bind((LOCALHOST, port))
            except (OSError, OverflowError):
                continue
            return first


def end_process(pid: int) -> None:
    for number, wait_s in ((signal.SIGCONT, 0.0), (signal.SIGTERM, SHORT.drain_s), (signal.SIGKILL, 5.0)):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        ends_at = time.monotonic() + wait_s
        while time.monotonic() < ends_at:
            if not Path(f"/proc/{pid}").exists():
                return
            time.sleep(0.05)


# ---------------------------------------------------------------------------------------------------- command
class _StopError(Exception):
    """SIGTERM or SIGINT came."""


def _stand(arguments: argparse.Namespace) -> int:
    load_scenario(arguments.scenario)  # a wrong name is told before anything starts
    rig = Rig(
        arguments.dir,
        say=lambda text: print(text, file=sys.stderr, flush=True),
        workers=arguments.workers,
        tls=arguments.tls,
        marketing=arguments.marketing,
    )

    def told(_number: int, _frame: object) -> None:
        for each in signals:
            signal.signal(each, signal.SIG_IGN)  # stopping is under way; a second one must not leave half of it
        raise _StopError

    signals = (signal.SIGTERM, signal.SIGINT)
    before = {each: signal.signal(each, told) for each in signals}
    try:
        rig.clean()
        rig.start_all(kiosks=arguments.kiosks, scenario=arguments.scenario)
        print(orjson.dumps(rig.places()).decode(), flush=True)
        while not (gone := rig.ended()):
            time.sleep(LOOK_S)
        name, status = gone[0]
        raise StartError("rig", f"{name} ended with status {status}; its last lines:\n{rig.log_tail(name, 3)}")
    except _StopError:
        return 0
    finally:
        if rig.is_ours:
            rig.stop_all()
        rig.unlock()
        for each, handler in before.items():
            signal.signal(each, handler)


def add_marketing_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--marketing", choices=MARKETING, default="json", help="what the marketing system speaks (default json)"
    )


def add_rig_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "rig",
        help="PostgreSQL, both simulated hosts and a switch, without kiosks, until SIGTERM",
        description="Starts what a demo starts, but for its kiosks, and says where it all is: one JSON object on the "
        "standard output, when kiosks can connect. SIGTERM or SIGINT stops everything. For load tests.",
    )
    parser.add_argument("--kiosks", type=test_terminals, default=50, metavar="N", help="test terminals (default 50)")
    parser.add_argument("--scenario", default="calm", metavar="NAME", help="how hosts behave (default calm)")
    parser.add_argument(
        "--workers", type=at_least_one, default=1, metavar="N", help="processes of the switch (default 1)"
    )
    parser.add_argument("--tls", action="store_true", help="with TLS between kiosks, switch and both hosts")
    add_marketing_option(parser)
    parser.add_argument(
        "--dir",
        type=Path,
        default=Path(".gridswitch/rig"),
        metavar="DIR",
        help="its own folder for data and logs, emptied at every start (default .gridswitch/rig)",
    )
    parser.set_defaults(run=_stand)


def _quoted(value: object) -> str:
    """As TOML."""
    return msgspec.json.encode(str(value) if isinstance(value, Path) else value).decode()
