"""``gridswitch scan-secrets``: a number planted in each kind of place is found there, masked, and nothing else is."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from switch import limits
from switch.cli import main
from switch.model.cardnumber import Known
from switch.ops.scan import Scan
from switch.sim import testkeys

PAN = testkeys.test_pan(1)
MIDDLE = PAN[6:-4]
PACKED = bytes.fromhex(f"19{PAN}0000000")
MASKED = f"{PAN[:6]}{'*' * 9}{PAN[-4:]}"
EVENT = "INSERT INTO switch.payment_event VALUES (20261123, $1, 1, 'COMPLETED', '8', 1, 1, $2, '\\x00', $3, $4, 1, $1)"
PLANTS: dict[str, tuple[str, tuple[Any, ...], str]] = {
    "body": (EVENT, (77, f'{{"pan":"{PAN}"}}', None, None), "payment_event_20261123.body, key 20261123|77|1"),
    "attempt": (EVENT, (78, "{}", PACKED, None), "payment_event_20261123.attempt, key 20261123|78|1"),
    "ledger": (EVENT, (79, "{}", None, f'["{PAN}",1,0]'), "payment_event_20261123.ledger, key 20261123|79|1"),
    "stray": (
        "INSERT INTO switch.stray (peer, kind, key, detail, wall_us) VALUES ('x', 'late', '', $1, 1)",
        (f"answer about {PAN[:4]} {PAN[4:8]} {PAN[8:12]} {PAN[12:16]} {PAN[16:]}",),
        "stray.detail, key 1",
    ),
    "claim": (
        "INSERT INTO switch.open_payment (payment_id, opened_on, owner, sealed) VALUES (5, 1, 1, $1)",
        (b"\x01\x02" + f"{PAN}=30121010000".encode(),),
        "open_payment.sealed, key 5|0",
    ),
    "key of a row": (
        "INSERT INTO switch.key (name, usage, generation, state, kcv) VALUES ($1, 'tmk', 1, 'pending', '\\x010203')",
        (PAN,),
        f"key.name, key {MASKED}|tmk|1",
    ),
    "kept card": (
        "INSERT INTO switch.claim (payment_id, opened_on, sealed_pan, keep_until) VALUES (6, 20261123, $1, 20270101)",
        (b"\x01\0\0\0\1" + PACKED,),
        "claim.sealed_pan, key 6|0",
    ),
    "case": (
        "INSERT INTO switch.case_decision (payment_id, decision, evidence, proposed_by) VALUES (1, 'paid', $1, 'x')",
        (f"file of {PAN}",),
        "case_decision.evidence, key 1",
    ),
    "number": (
        EVENT.replace("'8', 1, 1, $2", "'8', $2, 1, '{}'").replace("$3, $4", "NULL, NULL"),
        (80, int(testkeys.test_pan(2))),
        "payment_event_20261123.wall_us, key 20261123|80|1",
    ),
}


def execute(dsn: str, statement: str, *values: Any) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(statement, *values)
        finally:
            await connection.close()

    asyncio.run(run())


def scanned(dsn: str, known: Known | None = None) -> Scan:
    scan = Scan(known)
    asyncio.run(scan.database(dsn))
    return scan


@pytest.mark.parametrize("what", PLANTS)
def test_a_number_planted_in_a_table_is_found_with_its_column_and_row(database: str, what: str) -> None:
    statement, values, where = PLANTS[what]
    assert scanned(database).is_clean
    execute(database, statement, *values)
    scan = scanned(database)
    assert [hit.where for hit in scan.hits] == [where]
    assert MIDDLE not in repr(scan.hits) and "*" in scan.hits[0].shown


def test_every_column_of_every_table_is_looked_at(database: str) -> None:
    scan = scanned(database)
    assert scan.scanned["tables"] >= 14 and scan.scanned["rows"] >= 7, "the applied migrations are rows, too"


FILES: dict[str, Callable[[], bytes]] = {
    "log": lambda: json.dumps({"event": "x", "error": f"card {PAN} refused"}).encode() + b"\n",
    "trace": lambda: json.dumps({"facts": {"frame": PACKED.hex()}}).encode(),
    "metrics": f'switch_payments_total{{result="{PAN}"}} 1.0\n'.encode,
    "core": lambda: os.urandom(9000) + b"\0" + PAN.encode() + b"\0" + os.urandom(9000),
    "core, packed": lambda: os.urandom(9000) + PACKED + os.urandom(9000),
    "core, track": lambda: os.urandom(9000) + f"\0{PAN}=30121010000\0".encode() + os.urandom(9000),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_number_planted_in_a_file_is_found(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    (folder / "clean").write_bytes(os.urandom(20_000))
    assert main(["scan-secrets", "--path", str(tmp_path)]) == 0
    assert "0 found in 1 files" in capsys.readouterr().out
    (folder / "planted").write_bytes(FILES[kind]())
    assert main(["scan-secrets", "--path", str(tmp_path), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["found"] == 1 and f"{folder}/planted at byte" in told["hits"][0]["where"]
    assert main(["scan-secrets", "--path", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert MASKED in shown and MIDDLE not in shown


def test_a_number_across_the_border_of_two_pieces_is_found_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SCAN_PIECE_BYTES", 2048)
    for at in (0, 1500, *range(2020, 2070), 4096 - 10, 4096, 6000):
        data = bytearray(b"." * 6144)
        data[at : at + len(PAN)] = PAN.encode()
        path = tmp_path / "file"
        path.write_bytes(data)
        scan = Scan()
        scan.path(path)
        assert [hit.where for hit in scan.hits] == [f"{path} at byte {at}"]
        assert scan.scanned["bytes"] == len(data)


def test_a_clear_pin_block_is_found_when_it_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known, log = tmp_path / "known", tmp_path / "log"
    block = bytes.fromhex("0612ac89fedc4567")
    known.write_text(f"# clear PIN block of the test\n{block.hex()}\n\n{PAN}\n")
    for form in (b"\x01" + block + b"\x02", b"f52=" + block.hex().upper().encode()):
        log.write_bytes(form)
        assert main(["scan-secrets", "--path", str(log)]) == 0
        assert main(["scan-secrets", "--path", str(log), "--known", str(known)]) == 1
    assert block.hex() not in capsys.readouterr().out.lower().replace("\n", "")


WRONG = (("zz", "line 1: neither digits nor hexadecimal"), ("\nabcd", "line 2: a secret this short"))


@pytest.mark.parametrize(("text", "problem"), WRONG)
def test_a_wrong_file_of_known_secrets_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, problem: str
) -> None:
    (tmp_path / "known").write_text(text)
    assert main(["scan-secrets", "--path", str(tmp_path), "--known", str(tmp_path / "known")]) == 2
    assert problem in capsys.readouterr().err


def test_what_cannot_be_scanned_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scan-secrets", "--path", str(tmp_path / "nothing")]) == 2
    assert "there is no such file or folder" in capsys.readouterr().err


def test_more_hits_than_can_be_shown_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SCAN_HITS_MAX", 3)
    (tmp_path / "log").write_text(f"{PAN}\n" * 50)
    scan = Scan()
    scan.path(tmp_path)
    assert (len(scan.hits), scan.hit_count) == (3, 50)


# ------------------------------------------------------------------------------------------------ core files
HOLDER = """
import ctypes, os, sys
from switch.model.secret import Pan
if sys.argv[1] == "guarded":
    from switch.runtime.dumps import forbid_dumps
    assert forbid_dumps()
card = Pan("".join(chr(int(code)) for code in sys.argv[2].split(",")))
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), flush=True)  # PR_GET_DUMPABLE
sys.stdin.readline()
os.abort()
"""


@contextmanager
def holder(folder: Path, mode: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a card in its memory, whose number is nowhere in its arguments; it aborts on a line."""
    codes = ",".join(str(ord(each)) for each in PAN)
    child = subprocess.Popen(
        ["sh", "-c", 'ulimit -c unlimited; exec "$@"', "sh", sys.executable, "-c", HOLDER, mode, codes],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def test_an_image_of_a_process_holds_its_cards_and_the_scanner_finds_them(tmp_path: Path) -> None:
    """No type hides memory: what a core file would hold, read through /proc, as cores may be off here."""
    with holder(tmp_path, "open") as child:
        assert child.stdout is not None and child.stdout.readline() == b"1\n"
        proc = Path(f"/proc/{child.pid}")
        image = tmp_path / "image"
        with (proc / "mem").open("rb", buffering=0) as memory, image.open("wb") as file:
            for line in (proc / "maps").read_text().splitlines():
                span, rights, *_ = line.split()
                if rights.startswith("rw"):
                    start, end = (int(each, 16) for each in span.split("-"))
                    memory.seek(start)
                    file.write(memory.read(end - start))
    scan = Scan()
    scan.path(image)
    assert any(hit.shown == MASKED for hit in scan.hits)


def test_a_guarded_process_leaves_no_core_file(tmp_path: Path) -> None:
    with holder(tmp_path, "guarded") as child:
        assert child.stdout is not None and child.stdout.readline() == b"0\n", "not dumpable"
        limits_of = Path(f"/proc/{child.pid}/limits").read_text()
        assert re.search(r"^Max core file size +0 +0 ", limits_of, re.MULTILINE)
        child.communicate(b"\n", timeout=60)
        assert child.returncode == -signal.SIGABRT
    assert list(tmp_path.iterdir()) == []
