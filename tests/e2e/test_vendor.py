"""A vendor who has nothing but the interface document gets through a whole day at a real switch."""

from __future__ import annotations

import ast
import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from switch.ops.interface import DOCUMENT, filled_in
from switch.ops.proof import prove
from switch.sim import customers

PROGRAM = Path(__file__).with_name("vendor_day.py")


def test_the_program_knows_nothing_of_this_project() -> None:
    tree = ast.parse(PROGRAM.read_text(encoding="utf-8"))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= {*sys.stdlib_module_names, "cryptography"}


def test_the_document_is_as_new_as_the_code() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert filled_in(text) == text, "bring it up to date: make docs"


def test_a_day_from_the_document_alone(short_dir: Path) -> None:
    accounts = [customers.account(number) for number in (11, 12, 13)]
    rig = subprocess.Popen(
        [sys.executable, "-m", "switch", "rig", "--kiosks", "1", "--dir", str(short_dir / "rig")],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert rig.stdout is not None
        places = json.loads(rig.stdout.readline())
        host, port = places["kiosks"].split(":")
        command = [sys.executable, "-I", str(PROGRAM), str(DOCUMENT), host, port, *accounts]
        day = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        assert day.returncode == 0, day.stdout + day.stderr
        assert day.stdout.splitlines()[-1] == "all of it as the document says" and "signed off" in day.stdout
        proof = asyncio.run(prove(places["dsn"], Path(places["card_ledger"]), Path(places["marketing_ledger"])))
        assert proof.holds and proof.payments == 4, proof
    finally:
        rig.send_signal(signal.SIGTERM)
        rig.communicate(timeout=60)


@pytest.mark.parametrize("name", ["mac_key", "pin_block", "payment_request", "inquiry_response"])
def test_a_wrong_document_is_noticed(short_dir: Path, name: str) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    at = text.index(f"\n{name} = ") + len(f"\n{name} = ") + (200 if name.endswith(("request", "response")) else 4)
    wrong = text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :]
    path = short_dir / "wrong.md"
    path.write_text(wrong, encoding="utf-8")
    done = subprocess.run([sys.executable, "-I", str(PROGRAM), str(path)], capture_output=True, text=True, check=False)
    assert done.returncode != 0
