"""``make load``: everything on this machine, one after the other, and nothing left behind.

    1  `gridswitch rig`   PostgreSQL, both simulated hosts, a switch: a process that stops them all
    2  locust             a master and its workers, headless
    3  check.py           counts against the journal, objectives

Only commands are used, nothing is imported from the switch. Ctrl-C and SIGTERM reach this process alone: the others are
sessions of their own and are stopped in order, locust first, so that the switch can drain.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from loadtests import check, shapes

HERE: Final = Path(__file__).parent
READY_S: Final = 60.0  # initdb, certificates and links, on a busy machine
END_S: Final = 60.0  # after its time a run asks for what is in doubt, at most 30 s, and writes its report
STOP_S: Final = 60.0  # a drain of the switch and a shutdown of PostgreSQL
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_SPARE: Final = 1.1  # terminals more than kiosks: one that stops keeps its own until nothing of it is in doubt
_RUN_FILES: Final = ("rig.json", "counts.json", "report.html", "books.jsonl", "book-*.jsonl", "*.log", "*.csv")


class LoadError(Exception):
    """The run did not come about; says why, and where to look."""


def main(argv: list[str] | None = None) -> int:
    arguments = _arguments(argv)
    for number in _SIGNALS:
        signal.signal(number, _interrupted)
    try:
        shapes.kiosks_at(arguments.shape, 0.0, seconds=arguments.seconds, kiosks=arguments.users)
        return _run(arguments)
    except (LoadError, ValueError) as error:
        print(f"load: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("load: interrupted; everything is stopped", file=sys.stderr)
        return 130


def _interrupted(_number: int, _frame: object) -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # a second one must not leave half of it running
    raise KeyboardInterrupt


def _run(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.dir
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in _RUN_FILES:
        for path in folder.glob(pattern):
            path.unlink()
    # The dispatcher spreads users evenly; the monitoring one may be anybody's neighbour.
    each = math.ceil((arguments.users / arguments.workers + 1) * _SPARE)
    command = ["-m", "switch", "rig", "--dir", str(folder / "rig"), "--kiosks", str(each * arguments.workers)]
    command += ["--scenario", arguments.scenario, "--workers", str(arguments.processes)]
    with _process(folder, "rig", *command, *(["--tls"] if arguments.tls else []), ready=True) as rig:
        places = _wait_until_ready(rig, folder)
        print(f"switch, hosts and PostgreSQL are up; logs in {folder / 'rig'}", flush=True)
        _locust(arguments, folder, places, each)
        print(f"report: {folder / 'report.html'}", flush=True)
        return check.main(["--dir", str(folder), "--slo", str(arguments.slo)])


def _locust(arguments: argparse.Namespace, folder: Path, places: dict[str, str], each: int) -> None:
    port = str(_free_port())
    base = ["-m", "locust", "--headless", "-f", str(HERE / "locustfile.py")]
    master = [*base, "--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port]
    master += ["--expect-workers", str(arguments.workers), "--expect-workers-max-wait", str(int(READY_S))]
    master += ["--host", places["kiosks"], "--health", places["health"], "--tls-dir", places["certificates"]]
    master += ["--shape", arguments.shape, "--seconds", str(arguments.seconds), "--kiosks", str(arguments.users)]
    master += ["--rate", str(arguments.rate), "--workers-max", str(arguments.workers), "--out", str(folder)]
    master += ["--terminals-per-worker", str(each), "--stop-timeout", "40", "--only-summary"]
    master += ["--html", str(folder / "report.html"), "--csv", str(folder / "locust"), "--exit-code-on-error", "0"]
    worker = [*base, "--worker", "--master-host", "127.0.0.1", "--master-port", port]
    pace = f"{arguments.rate:g} customers a second" if arguments.rate else "thinking times"
    print(
        f"{arguments.users} kiosks, shape {arguments.shape}, {arguments.seconds:g} s, {pace}, "
        f"{arguments.workers} workers{', TLS' if arguments.tls else ''}",
        flush=True,
    )
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(_process(folder, "master", *master))
        for number in range(arguments.workers):
            stack.enter_context(_process(folder, f"worker-{number}", *worker))
        try:
            status = running.wait(READY_S + arguments.seconds + END_S)
        except subprocess.TimeoutExpired:
            raise LoadError(f"locust does not end; see {folder / 'master.log'}") from None
    if status or not (folder / "counts.json").exists():
        raise LoadError(f"locust ended with status {status}; see {folder / 'master.log'}")


@contextlib.contextmanager
def _process(folder: Path, name: str, *arguments: str, ready: bool = False) -> Iterator[subprocess.Popen[str]]:
    """A Python process that has ended when this is left. It writes into a log; ``ready``: not its standard output."""
    with (folder / f"{name}.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if ready else log,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(rig: subprocess.Popen[str], folder: Path) -> dict[str, str]:
    assert rig.stdout is not None
    line = rig.stdout.readline()
    if not line:
        raise LoadError((folder / "rig.log").read_text(encoding="utf-8").strip() or "the switch did not start")
    (folder / "rig.json").write_text(line, encoding="utf-8")
    places: dict[str, str] = json.loads(line)
    ends_at = time.monotonic() + READY_S
    while time.monotonic() < ends_at:
        try:
            with urllib.request.urlopen(f"{places['health']}/ready", timeout=5.0):  # noqa: S310 - http, as the rig says
                return places
        except urllib.error.URLError:  # 503 until the links are up
            pass
        time.sleep(0.2)
    raise LoadError(f"the switch is not ready; see {folder / 'rig' / 'switch.log'}")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.run", description="A load test on this machine.")
    add: Any = parser.add_argument
    add("--seconds", type=float, default=20.0, help="length of the load (default 20)")
    add("--users", type=int, default=50, help="kiosks, the most at any moment (default 50)")
    add("--shape", choices=tuple(shapes.SHAPES), default="steady", help="how their number changes (default steady)")
    add("--rate", type=float, default=0.0, help="customers a second of all kiosks; 0: thinking times (default 0)")
    add("--tls", action="store_true", help="TLS, with a certificate for each kiosk")
    add("--workers", type=int, default=2, help="processes of locust beside its master (default 2)")
    add("--processes", type=int, default=1, help="processes of the switch (default 1)")
    add("--scenario", default="calm", help="how the simulated hosts behave (default calm)")
    add("--slo", type=Path, default=check.SLO, help="objectives, a TOML file")
    add("--dir", type=Path, default=Path(".gridswitch/load"), help="where everything is written")
    arguments = parser.parse_args(argv)
    if arguments.workers < 1 or arguments.processes < 1 or arguments.rate < 0:
        parser.error("--workers and --processes are 1 or more, --rate is 0 or more")
    arguments.dir = arguments.dir.absolute()
    return arguments


if __name__ == "__main__":
    sys.exit(main())
