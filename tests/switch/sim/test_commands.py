"""``host`` and ``fleet`` as processes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from switch.sim.commands import main
from switch.sim.truth import read_charges

from .peers import Terminal, run

ROOT = Path(__file__).parents[3]
COMMAND = (sys.executable, "-m", "switch.sim.commands")


def started(*arguments: str) -> tuple[subprocess.Popen[str], int]:
    """A host that is ready, and its port."""
    process = subprocess.Popen((*COMMAND, *arguments), stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.match(r"(?:unionpay|marketing) host listening on 127\.0\.0\.1:(\d+), ledger ", line)
    assert found, line
    return process, int(found[1])


@pytest.mark.parametrize("kind", ["unionpay", "marketing"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_host_says_when_it_is_ready_and_stops_cleanly(tmp_path: Path, kind: str, number: int) -> None:
    process, port = started(
        "host", kind, "--listen", "127.0.0.1:0", "--ledger", str(tmp_path / "l"), "--scenario", "demo"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        process.send_signal(number)
        rest, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    assert rest == f"{kind} host stopped: no requests\n"


def test_a_killed_host_comes_back_with_its_ledger(tmp_path: Path) -> None:
    arguments = ("host", "marketing", "--listen", "127.0.0.1:0", "--ledger", str(tmp_path / "l"))
    process, _ = started(*arguments)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=10)
    process, _ = started(*arguments)
    process.terminate()
    process.communicate(timeout=10)
    assert process.returncode == 0


def test_errors_are_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = str(tmp_path / "l")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["host", "unionpay", "--listen", f"127.0.0.1:{port}", "--ledger", ledger]) == 2
        said = capsys.readouterr().err
        assert f"cannot listen on 127.0.0.1:{port}" in said and said.count("\n") == 1
    assert main(["host", "unionpay", "--listen", "nowhere", "--ledger", ledger]) == 2
    assert "--listen: expected HOST:PORT" in capsys.readouterr().err
    assert main(["host", "marketing", "--listen", "127.0.0.1:0", "--ledger", ledger, "--scenario", "no"]) == 2
    assert "no: cannot read it; a file, or one of bench, calm, demo, hall, storm" in capsys.readouterr().err


def test_a_fleet_reports_as_text_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fleet", "--connect", "127.0.0.1:9", "--count", "2", "--seconds", "0.1"]
    assert main(arguments) == 1, "a fleet that made no payment did not succeed"
    said = capsys.readouterr()
    assert "0 payments of 2 kiosks" in said.out and "connect_failed" in said.err
    assert main([*arguments, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["payments"] == 0


@pytest.mark.parametrize("option", [["fleet", "--connect"], ["host", "unionpay", "--ledger", "l", "--listen"]])
def test_simulators_stay_on_this_machine(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*option, "192.0.2.1:8583"]) == 2
    assert "stay on this machine" in capsys.readouterr().err


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("host", "fleet"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert f"gridswitch {command}" in capsys.readouterr().out.partition("example:")[2]


def test_what_a_killed_host_answered_is_in_its_ledger(tmp_path: Path) -> None:
    ledger = tmp_path / "l"

    async def pay_until_killed(process: subprocess.Popen[str], port: int) -> set[str]:
        approved: set[str] = set()
        terminal = Terminal()
        await terminal.connect(port)
        await terminal.sign_on()
        for stan in range(1, 3_001):
            terminal.write(terminal.sealed(terminal.purchase_values(stan, stan)))
        try:
            while (answer := await terminal.hear()) is not None:
                assert answer[39] == "00"
                approved.add(str(answer[11]))
                if len(approved) == 500:
                    process.kill()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        await terminal.close()
        return approved

    process, port = started("host", "unionpay", "--listen", "127.0.0.1:0", "--ledger", str(ledger))
    approved = run(pay_until_killed(process, port))
    process.communicate(timeout=10)
    charged = {stan for _, _, stan in read_charges(ledger)}
    assert len(approved) >= 500
    assert approved <= charged
    process, _ = started("host", "unionpay", "--listen", "127.0.0.1:0", "--ledger", str(ledger))
    process.terminate()
    process.communicate(timeout=10)
    assert {stan for _, _, stan in read_charges(ledger)} == charged
