"""The real commands in real processes: killed, cut off from the database, misconfigured. Imports only what it must."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from switch.model.cardnumber import Known
from switch.ops.postgres import EmbeddedPostgres
from switch.sim.fleet import CARDS_OF_A_KIOSK
from switch.sim.testkeys import test_pan as pan_of

pytestmark = pytest.mark.timeout(240)  # a demo's start alone may take a third of that
RUN = (sys.executable, "-m", "switch")


def start_demo(folder: Path, seconds: int) -> subprocess.Popen[str]:
    command = [*RUN, "demo", "--seconds", str(seconds), "--kiosks", "20", "--dir", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(demo: subprocess.Popen[str]) -> tuple[int, dict[str, Any], str]:
    output, _ = demo.communicate(timeout=100)
    last = output.strip().splitlines()[-1]
    assert last.startswith("{"), output
    return demo.returncode, json.loads(last), output


def count(file: Path, text: bytes) -> int:
    return file.read_bytes().count(text) if file.exists() else 0


def wait_until_paying(folder: Path, starts: int = 1) -> None:
    """Until the switch has started so many times and the card host has charged somebody since."""
    ends_at = time.monotonic() + 90  # seven processes and a database start before; on a busy machine that took 30 s
    ledger, charged = folder / "unionpay.jsonl", None
    while charged is None or count(ledger, b'"charge"') == charged:
        assert time.monotonic() < ends_at, "the demo does not charge a card"
        if charged is None and count(folder / "switch.log", b'"switch.started"') >= starts:
            charged = count(ledger, b'"charge"')
        time.sleep(0.05)


def test_the_demo_proves_its_books_and_ends_with_one_json_object(short_dir: Path) -> None:
    status, last, output = finish(start_demo(short_dir / "demo", 4))
    assert status == 0, output
    assert list(last) == [
        *("payments", "completed", "declined", "reversed", "suspense", "open", "differences", "fen"),
        *("payments_per_s", "p50_ms", "p99_ms", "secrets_found"),
    ]
    assert last["secrets_found"] == 0 and "card data in clear: 0 found in" in output
    assert last["open"] == last["differences"] == 0
    assert last["payments"] == last["completed"] + last["declined"] + last["reversed"] > 100
    assert "of 3" in output, "bills of three months among them"
    for line in (short_dir / "demo" / "switch.log").read_text().splitlines():
        json.loads(line)


def test_a_switch_killed_in_the_middle_loses_nothing(short_dir: Path) -> None:
    folder = short_dir / "demo"
    demo = start_demo(folder, 10)
    for starts in (1, 2):
        # Never while it starts: a switch that cannot be started is the end of a demo.
        wait_until_paying(folder, starts)
        os.kill(json.loads((folder / "processes.json").read_text())["switch"], signal.SIGKILL)
    status, last, output = finish(demo)
    assert status == 0, output
    assert last["open"] == last["differences"] == 0
    assert "started again 2 times" in output
    told, torn = [], 0
    for line in (folder / "switch.log").read_text().splitlines():
        try:
            told.append(json.loads(line)["event"])
        except json.JSONDecodeError:
            torn += 1  # the killed one's last line, and its successor's first
    assert torn <= 2 and "payment.adopted" in told


def test_postgresql_restarted_under_load_loses_nothing(short_dir: Path) -> None:
    folder = short_dir / "demo"
    demo = start_demo(folder, 7)
    wait_until_paying(folder)
    server = EmbeddedPostgres(folder / "postgres")
    for _ in range(2):
        time.sleep(1.0)
        server.stop()
        time.sleep(0.5)
        server.start()
    status, last, output = finish(demo)
    assert status == 0, output
    assert last["open"] == last["differences"] == 0 and last["payments"] > 100


def test_every_file_of_a_demo_holds_no_card_data(short_dir: Path) -> None:
    """Beside what the demo itself scans: every file that it leaves behind, the database's pages and its log among them,
    searched for every card that its kiosks may have drawn, in every form."""
    folder = short_dir / "demo"
    status, last, output = finish(start_demo(folder, 3))
    assert status == 0 and last["secrets_found"] == 0, output
    known = Known(pan_of(number) for number in range(22 * CARDS_OF_A_KIOSK))
    assert list(known.find(bytes.fromhex(pan_of(20 * CARDS_OF_A_KIOSK) + "0000")))
    searched = 0
    for path in folder.rglob("*"):
        if path.is_file():
            searched += 1
            assert list(known.find(path.read_bytes())) == [], f"{path} holds a card number"
    assert searched > 100, "the database's files were among them"


def test_a_demo_that_leaks_a_card_number_fails(short_dir: Path) -> None:
    folder = short_dir / "demo"
    demo = start_demo(folder, 3)
    wait_until_paying(folder)
    with (folder / "switch.log").open("a") as log:
        log.write(f"card {pan_of(1)} refused\n")
    status, last, output = finish(demo)
    assert (status, last["secrets_found"]) == (1, 1), output
    assert f"{folder}/switch.log at byte" in output and pan_of(1) not in output


def test_a_running_switch_leaves_no_core_file(short_dir: Path, database: str) -> None:
    path = config(short_dir, database=f'dsn = "{database}"')
    command = ["sh", "-c", 'ulimit -c unlimited; exec "$@"', "sh", *RUN, "run", "--config", str(path)]
    switch = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert switch.stderr is not None
    try:
        while "switch.started" not in switch.stderr.readline():
            assert switch.poll() is None
        limits = Path(f"/proc/{switch.pid}/limits").read_text()
        assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)
    finally:
        switch.send_signal(signal.SIGTERM)
        switch.communicate(timeout=20)


# ------------------------------------------------------------------------------------------------ bad starts
def config(folder: Path, **changed: str) -> Path:
    sections = {
        "": 'environment = "development"\ntime_profile = "short"',
        "database": f'data_dir = "{folder}/pg"',
        "listen": "port = 0",
        "observe": "port = 0",
        "security": f'lmk_file = "{folder}/lmk.key"\nvault_dir = "{folder}/vault"',
        "control": f'path = "{folder}/control.sock"',
        "unionpay": 'host = "127.0.0.1"\nport = 9\nservice_terminal = "GS009999"\nservice_merchant = "898110049009999"',
        "marketing": 'host = "127.0.0.1"\nport = 10\nchannel = "SELF01"',
        "marketing.profile": 'fence = "tombstone"\ninquiry = "serial"\ndedupe = "serial"',
    } | changed
    path = folder / "switch.toml"
    path.write_text("\n".join(f"[{name}]\n{body}" if name else body for name, body in sections.items()))
    return path


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RUN, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)


def test_a_misspelt_key_is_named_with_its_remedy(short_dir: Path) -> None:
    path = config(short_dir, listen="prot = 5")
    for command in (("check-config", path), ("run", "--config", path)):
        result = run(*command)
        assert result.returncode == 2
        assert "listen.prot" in result.stderr and '"port"' in result.stderr and "Traceback" not in result.stderr


def test_a_database_that_is_down_is_named_with_its_remedy(short_dir: Path) -> None:
    path = config(short_dir, database=f'dsn = "postgresql://nobody@/nothing?host={short_dir}"')
    result = run("run", "--config", path)
    assert result.returncode == 2
    assert "database.dsn" in result.stderr and "Traceback" not in result.stderr


def test_a_database_without_the_schema_says_migrate(short_dir: Path, empty_database: str) -> None:
    result = run("run", "--config", config(short_dir, database=f'dsn = "{empty_database}"'))
    assert result.returncode == 2
    assert "gridswitch migrate" in result.stderr


def test_two_switches_share_a_database_but_not_a_name(short_dir: Path, database: str) -> None:
    path = config(short_dir, database=f'dsn = "{database}"')
    first = subprocess.Popen([*RUN, "run", "--config", str(path)], stderr=subprocess.PIPE, text=True)
    assert first.stderr is not None
    try:
        while "switch.started" not in first.stderr.readline():
            assert first.poll() is None
        second = run("run", "--config", path)
        assert second.returncode == 2 and "named switch runs already" in second.stderr.splitlines()[-1]
        path.write_text(path.read_text().replace("control.sock", "b.sock") + '\n[worker]\ninstance = "b"\n')
        other = subprocess.Popen([*RUN, "run", "--config", str(path)], stderr=subprocess.PIPE, text=True)
        assert other.stderr is not None
        while "switch.started" not in other.stderr.readline():
            assert other.poll() is None
        other.send_signal(signal.SIGTERM)
        other.communicate(timeout=20)
        assert other.returncode == 0
    finally:
        first.send_signal(signal.SIGTERM)
        first.communicate(timeout=20)
    assert first.returncode == 0, "SIGTERM drains and ends with 0"


def test_a_taken_port_is_named(short_dir: Path, database: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        path = config(short_dir, database=f'dsn = "{database}"', listen=f"port = {port}")
        result = run("run", "--config", path)
    assert result.returncode == 2
    assert str(port) in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("arguments", [(), ("demo", "--scenario", "nosuch"), ("proof",), ("nonsense",)])
def test_a_wrong_command_says_what_is_wrong(arguments: tuple[str, ...], short_dir: Path) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert result.stderr and "Traceback" not in result.stderr


# ------------------------------------------------------------------------------------------------ TLS everywhere
def test_the_demo_over_tls_proves_its_books(short_dir: Path) -> None:
    folder = short_dir / "demo"
    command = [*RUN, "demo", "--tls", "--seconds", "3", "--kiosks", "10", "--dir", str(folder)]
    status, last, output = finish(
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    )
    assert status == 0, output
    assert last["open"] == last["differences"] == 0 and last["payments"] > 20
    assert "TLS between kiosks, switch and hosts" in output
    config = (folder / "switch.toml").read_text()
    assert all(f"[{end}.tls]\nenabled = true" in config for end in ("listen", "unionpay", "marketing"))
    events = [json.loads(line) for line in (folder / "switch.log").read_text().splitlines()]
    assert not [event for event in events if event["event"] in ("kiosk.tls_refused", "link.tls_failed")]
