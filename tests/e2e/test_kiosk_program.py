"""`python -m switch.kiosk` against a whole system in real processes, over TLS, with a printer."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from switch.sim import customers
from switch.sim.devices import PrinterSimulator


@pytest.fixture
def places(short_dir: Path) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", "switch", "rig", "--dir", str(short_dir / "rig"), "--kiosks", "2", "--tls"]
    rig = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert rig.stdout is not None
    try:
        yield json.loads(rig.stdout.readline())
    finally:
        rig.send_signal(signal.SIGTERM)
        rig.communicate(timeout=60)


def test_bills_are_paid_from_the_command_line_and_the_slip_is_printed(places: dict[str, Any], short_dir: Path) -> None:
    def command(*arguments: str) -> list[str]:
        line = ["--connect", places["kiosks"], "--tls", places["certificates"]]
        return [sys.executable, "-m", "switch.kiosk", *line, "--journal", str(short_dir / "kiosk"), *arguments]

    def kiosk(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=60, check=False)

    owing = [each for n in range(50) if (each := customers.customer(customers.account(n))) and each.partial_allowed]
    first = next(each for each in owing if len(each.bills) >= 2)
    asked = kiosk("inquire", first.account)
    assert asked.returncode == 0 and first.name in asked.stdout, asked
    assert all(f"{bill.energy_kwh} kWh" in asked.stdout for bill in first.bills), asked
    with PrinterSimulator() as printer:
        paid = kiosk("pay", first.account, "--months", "1", "--printer", printer.port)
        assert paid.returncode == 0 and "缴费成功，已销账。" in paid.stdout, paid
        assert f"户名：{first.name}" in printer.lines and len(printer.qr_codes) == printer.cuts == 1
        printer.paper_lines = 0
        without_paper = kiosk("pay", first.account, "--months", "1", "--printer", printer.port)
        assert without_paper.returncode == 1 and "不收款" in without_paper.stdout
    # Card, PIN and slip through the drivers; the PIN block is right, or the card host would decline.
    rest = kiosk("pay", first.account, "--devices")
    assert rest.returncode == 0 and "电费缴费凭条" in rest.stdout and "[QR " in rest.stdout, rest
    assert kiosk("pay", first.account).returncode == 1  # nothing is owed any more
    assert kiosk("open").stdout == "没有未完成的缴费。\n"

    # Killed in the middle of a payment, it says at its next start what became of it.
    second = next(each for each in owing if each.account != first.account)
    process = subprocess.Popen(command("pay", second.account), stdout=subprocess.PIPE)
    assert process.stdout is not None
    while b"kWh" not in process.stdout.readline():
        pass
    process.kill()
    process.communicate()
    told = kiosk("open")
    assert told.returncode == 0
    again = kiosk("pay", second.account)
    assert (again.returncode == 0) != (second.account in told.stdout and "缴费成功" in told.stdout), (told, again)

    proof = subprocess.run(
        [
            *(sys.executable, "-m", "switch", "proof", "--json", "--config", places["config"]),
            *("--card-ledger", places["card_ledger"], "--marketing-ledger", places["marketing_ledger"]),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    books = json.loads(proof.stdout)
    assert proof.returncode == 0 and books["completed"] == 3 and books["open"] == books["differences"] == 0


def test_what_is_wrong_with_a_call_is_told_in_one_line(short_dir: Path) -> None:
    def fails(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "switch.kiosk", *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=short_dir,
        )
        assert done.returncode == 2 and "Traceback" not in done.stderr
        return done.stderr

    assert "expected HOST:PORT" in fails("--connect", "8583", "open")
    assert "[not_connected]" in fails("--connect", "127.0.0.1:1", "open")
    (short_dir / "broken").write_bytes(b"not a journal")
    told = fails("--journal", "broken", "open")
    assert "both copies are damaged" in told and told.count("\n") == 1
