"""`make load` and the rig under it, in real processes: a run that holds, one that does not, one that is interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

LOAD = (sys.executable, "-m", "loadtests.run")
RIG = (sys.executable, "-m", "switch", "rig")


def load(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [*LOAD, "--dir", str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def counts_of(folder: Path) -> dict[str, Any]:
    counts: dict[str, Any] = json.loads((folder / "counts.json").read_text())
    return counts


def left_behind(folder: Path) -> list[str]:
    """Processes that have the folder in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in command:
            found.append(command)
    return found


def breaches(output: str) -> list[str]:
    return [line.removeprefix("BREACH  ") for line in output.splitlines() if line.startswith("BREACH")]


def test_a_short_run_holds_writes_its_report_and_leaves_nothing_running(short_dir: Path) -> None:
    folder = short_dir / "load"
    done = load(folder, "--seconds", "5", "--users", "6", "--rate", "12")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "load test: all of it holds"
    counts = counts_of(folder)
    assert counts["workers"] == 2
    assert counts["kiosks"]["finals"] == {"00": counts["kiosks"]["sent"]}
    # Six kiosks with two customers a second each, for nearly five seconds.
    assert 40 <= counts["kiosks"]["sent"] == counts["requests"]["payment"]["count"] <= 66
    assert f"{counts['kiosks']['sent']} COMPLETED" in done.stdout
    assert {"/live", "/ready", "/metrics", "visit", "sign-on"} <= set(counts["requests"])
    assert not counts["errors"]
    assert "ISO8583" in (folder / "report.html").read_text()
    terminals = [
        {json.loads(line)["key"].split("|")[0] for line in path.read_text().splitlines()}
        for path in sorted(folder.glob("book-*.jsonl"))
    ]
    assert len(terminals) == 2 and all(terminals) and terminals[0].isdisjoint(terminals[1])
    assert sum(map(len, terminals)) == 6, "each kiosk is one terminal for its life"
    assert left_behind(folder) == []


# A card host that is silent about every third purchase; each of them is undone within seconds.
SILENT_HOST = """
name = "silent"
seed = 7
[unionpay]
delay_ms = [1, 4]
silence_rate = 0.3
decline_rate = 0.2
[marketing]
delay_ms = [1, 3]
"""


def test_hosts_that_fail_break_objectives_and_no_books(short_dir: Path) -> None:
    folder, scenario, objectives = short_dir / "load", short_dir / "silent.toml", short_dir / "slo.toml"
    scenario.write_text(SILENT_HOST)
    objectives.write_text("[requests.payment]\nfailures_share = 0.0\np50_ms = 0\n")
    options = ("--seconds", "6", "--users", "20", "--tls", "--shape", "spike")
    done = load(folder, *options, "--scenario", str(scenario), "--slo", str(objectives))
    assert done.returncode == 1, done.stdout + done.stderr
    failed, slow = breaches(done.stdout)  # of the objectives, and none of the money
    assert slow.startswith("payment: p50_ms is")
    assert "KioskError('U1 result_unknown')" in failed, "failures are named by the kiosk's code"
    counts = counts_of(folder)
    assert counts["requests"]["result"]["count"] > 0, "what was in doubt was asked for"
    assert {"00", "R2", "declined"} <= set(counts["kiosks"]["finals"])
    assert sum(counts["kiosks"]["finals"].values()) == counts["kiosks"]["sent"], "everything got its final word"
    assert left_behind(folder) == []


def test_an_interrupted_run_stops_all_that_it_started(short_dir: Path) -> None:
    folder = short_dir / "load"
    running = subprocess.Popen(
        [*LOAD, "--dir", str(folder), "--seconds", "60", "--users", "4"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    ends_at = time.monotonic() + 60
    while not any(path.stat().st_size for path in folder.glob("book-*.jsonl")):
        assert time.monotonic() < ends_at and running.poll() is None
        time.sleep(0.1)
    assert len(left_behind(folder)) > 5
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does
    output, _ = running.communicate(timeout=90)
    assert running.returncode == 130, output
    assert "interrupted; everything is stopped" in output and "Traceback" not in output
    assert left_behind(folder) == []


def test_a_run_without_bounds_does_not_start(short_dir: Path) -> None:
    done = load(short_dir / "load", "--users", "20001")
    assert done.returncode == 2 and "expected 1 to 20000" in done.stderr
    assert not (short_dir / "load").exists()


# ------------------------------------------------------------------------------------------------ the rig
def start_rig(folder: Path) -> subprocess.Popen[str]:
    command = [*RIG, "--dir", str(folder), "--kiosks", "2"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_rig_says_where_all_is_and_stops_when_it_is_told_to(short_dir: Path) -> None:
    folder = short_dir / "rig"
    rig = start_rig(folder)
    assert rig.stdout is not None
    places = json.loads(rig.stdout.readline())
    assert set(places) == {"kiosks", "health", "config", "dsn", "card_ledger", "marketing_ledger", "certificates"}
    proof = subprocess.run(
        [
            *(sys.executable, "-m", "switch", "proof", "--json", "--config", places["config"]),
            *("--card-ledger", places["card_ledger"], "--marketing-ledger", places["marketing_ledger"]),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert proof.returncode == 0 and json.loads(proof.stdout)["payments"] == 0, proof.stderr
    rig.send_signal(signal.SIGTERM)
    output, errors = rig.communicate(timeout=60)
    assert (rig.returncode, output, errors) == (0, "", "")
    assert left_behind(folder) == []


def test_a_rig_whose_host_dies_ends_with_its_words(short_dir: Path) -> None:
    folder = short_dir / "rig"
    rig = start_rig(folder)
    assert rig.stdout is not None and rig.stdout.readline()
    os.kill(json.loads((folder / "processes.json").read_text())["marketing"], signal.SIGKILL)
    _, errors = rig.communicate(timeout=60)
    assert rig.returncode == 2 and "marketing ended with status -9" in errors
    assert left_behind(folder) == []
