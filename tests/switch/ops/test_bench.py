"""The benchmarks: short runs through the command, and what they must notice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from switch.cli import main
from switch.errors import StartError
from switch.ops import usage
from switch.ops.bench import Bench, Options, Snapshot, Window, _recovery_s
from switch.ops.bench_report import Report, print_report, read_earlier
from switch.sim.threeway import Difference, Proof
from switch.sim.truth import TruthLedger

pytestmark = pytest.mark.timeout(180)


def bench(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    status = main(["bench", *arguments, "--json"])
    out, err = capsys.readouterr()
    assert status in (0, 1), err
    return status, json.loads(out.splitlines()[-1]), out


def test_payments_are_measured_and_proved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found, out = bench(
        capsys, "payments", "--seconds", "2", "--warm-up", "0.5", "--kiosks", "20", "--dir", str(tmp_path / "b")
    )
    assert status == 0 and found["ok"] and found["faults"] == [], out
    assert found["differences"] == found["open"] == found["unclear"] == 0
    assert found["payments"] >= found["paid"] > 20 and found["kiosks"] == 20
    assert found["payments_per_s"] == pytest.approx(found["paid"] / 2, rel=0.3)
    assert 0 < found["p50_ms"] <= found["p99_ms"] <= found["p999_ms"] <= found["max_ms"]
    parts = [found[f"cpu_us_{role}"] for role in ("switch", "postgres", "hosts", "generator")]
    assert min(parts) > 0 and sum(parts) == pytest.approx(found["cpu_us"], abs=1)
    assert found["cpu_us_hosts"] == pytest.approx(found["cpu_us_unionpay"] + found["cpu_us_marketing"], abs=0.2)
    assert found["rows_by_table"]["payment_event"] == pytest.approx(3, abs=0.2), "three durable commits"
    assert found["wal_bytes"] > 1_000 and found["commits"] > 0 and found["entries_per_commit"] >= 1
    # The disk alone is measured in another moment than the payments: on a busy machine either may be the slower one.
    assert found["raw_payments_per_s"] > 10 and found["raw_commits_per_s"] > 10
    assert 0 <= found["wait_share_switch"] < 2 and 0 <= found["wait_share_generator"] < 2
    assert found["rss_bytes"] > 20e6 and found["files"] >= 20
    machine = found["machine"]
    assert machine["postgresql"] and machine["mac_engine"] in ("libcrypto", "cryptography") and machine["cores"] >= 1
    assert "the three books agree to the fen" in out

    earlier = tmp_path / "earlier.txt"
    earlier.write_text(out)
    report = Report("payments")
    report.add("payments_per_s", found["payments_per_s"] * 2)
    print_report(report, read_earlier(earlier, "payments"))
    assert " 2.00" in capsys.readouterr().out


def test_full_tables_and_an_open_loop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found, out = bench(
        capsys,
        *("latency", "--seconds", "2", "--warm-up", "0.5", "--kiosks", "20", "--rate", "10", "--rate", "20"),
        *("--rows", "400", "--idle", "10", "--dir", str(tmp_path / "b"), "--pg", "shared_buffers=64MB"),
    )
    assert status == 0 and found["ok"], out
    assert found["rows_loaded"] == 400 and found["rows_loaded_bytes"] > 0
    assert found["kiosks"] == 30 and "rss_per_kiosk_kib" in found
    assert found["due"] == 20 and found["at_20_due"] == 40
    assert found["p50_ms"] > 0 and found["at_20_p50_ms"] > 0
    rows = found["rows_by_table"]["payment_event"]
    assert rows == pytest.approx(3, abs=1), "what was loaded, and what it was copied from, are not counted"
    assert found["machine"]["postgresql_settings"] == "shared_buffers = 64MB"


def test_an_overload_is_survived(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found, out = bench(
        capsys,
        *("overload", "--seconds", "2", "--warm-up", "0.5", "--kiosks", "40", "--inflight", "20"),
        *("--dir", str(tmp_path / "b"), "--scenario", "calm"),
    )
    assert status == 0 and found["ok"], out
    assert found["peak_per_s"] > 5 and found["offered_per_s"] == pytest.approx(3 * found["peak_per_s"], rel=0.2)
    assert found["goodput_share"] > 0.2
    assert found["probes"] == pytest.approx(40, abs=2)
    assert found["probes_answered"] >= 1 and found["probe_p99_ms"] > 0
    assert len(found["after_p99_ms"]) == len(found["after_served"]) == 12 and 0 <= found["recovery_s"] <= 12
    assert {"goodput_per_s", "reversals", "before_p99_ms", "refused", "left"} <= set(found)


def test_a_soak_looks_at_memory_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found, out = bench(
        capsys,
        *("soak", "--seconds", "6", "--warm-up", "0.5", "--kiosks", "10", "--rate", "10", "--dir", str(tmp_path / "b")),
    )
    assert [sample["files"] > 10 for sample in found["samples"]] == [True, True], out
    assert abs(found["files_growth"]) <= 8 and "rss_growth" in found
    assert status == (0 if found["ok"] else 1)


ROUGH = """name = "rough"
[fleet]
look_rate = 0.1
prepay_rate = 0.3
balance_rate = 0.1
slip_rate = 0.1
patience_s = 5
repeat_rate = 0.15
disconnect_rate = 0.1
walk_away_rate = 0.2
power_cut_rate = 0.1
dark_s = [0.2, 0.5]
no_paper_rate = 0.3
refill_s = [0, 0.2]
wrong_pin_rate = 0.05
"""


def test_a_hall_has_its_accidents_and_the_books_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rough.toml").write_text(ROUGH)
    status, found, out = bench(
        capsys,
        *("fleet", "--seconds", "4", "--kiosks", "30", "--rate", "40", "--scenario", str(tmp_path / "rough.toml")),
        *("--dir", str(tmp_path / "b")),
    )
    assert status == 0 and found["ok"], out
    assert found["kiosks"] == 30 and found["differences"] == found["open"] == found["unclear"] == 0
    assert found["visits_per_s"] == pytest.approx(40, rel=0.4) and set(found["visits"]) >= {
        "bills",
        "prepayment",
        "look",
    }
    accidents = {"double_tap", "line_cut", "walked_away", "power_cut", "no_paper"}
    assert accidents <= set(found["events"]) and not {"slip_wrong", "contradiction"} & set(found["events"])
    assert found["payments"] > found["visits"]["bills"], "who pays in advance makes two payments"
    assert found["cpu_fleet_share"] > 0 and found["fleet_rss_bytes"] > 20e6 and found["slip_p99_ms"] > 0


def test_parts_are_measured_without_a_switch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found, out = bench(capsys, "codec", "--seconds", "0.2")
    assert status == 0 and found["ok"], out
    assert min(value for name, value in found.items() if name.endswith("_ns")) > 0
    assert found["mac_make_ns"] < found["kiosk_payment_read_ns"]
    status, found, out = bench(
        capsys, "journal", "--seconds", "0.5", "--inflight", "8", "--dir", str(tmp_path / "journal")
    )
    assert status == 0 and found["ok"], out
    assert found["payments"] > 8 and found["entries_per_s"] == pytest.approx(3 * found["payments_per_s"], abs=1)
    assert 1 <= found["entries_per_commit"] <= 8 and found["commit_p99_ms"] > 0
    assert found["raw_payments_per_s"] == pytest.approx(
        found["raw_commits_per_s"] * found["entries_per_commit"] / 3, rel=0.01
    )


# ---------------------------------------------------------------------------------------------------- what is noticed
def options(folder: Path, **changes: Any) -> Options:
    values: dict[str, Any] = {
        "name": "payments",
        "folder": folder,
        "seconds": 1.0,
        "warm_up_s": 1.0,
        "kiosks": 1,
        "inflight": 1,
        "rates": [],
        "poisson": False,
        "rows": 0,
        "idle": 0,
        "workers": 1,
        "security": "software",
        "tls": False,
        "scenario": "bench",
        "rhythm": "steady",
        "settings": {},
    }
    return Options(**(values | changes))


def told(proof: Proof, tmp_path: Path, **result: Any) -> Report:
    subject = Bench(options(tmp_path))
    subject._tell_proof(proof, {"unclear": 0, "events": {}} | result)
    return subject.report


def test_no_number_counts_without_its_proof(tmp_path: Path) -> None:
    good = Proof(payments=5, heard=5)
    assert told(good, tmp_path).ok
    broken = Proof(payments=5, heard=5, differences=[Difference("bill not posted", "1", "", 100)])
    assert "1 differences" in told(broken, tmp_path).faults[0]
    assert "1 open" in told(Proof(payments=5, heard=5, open=1), tmp_path).faults[0]
    assert not told(good, tmp_path, unclear=2).ok
    assert not told(Proof(), tmp_path).ok, "nothing measured is nothing"
    assert not told(Proof(payments=5, heard=4), tmp_path).ok, "a payment that no kiosk has in its book"


def window(seconds: float, generator_s: float, late_p99_ms: float, switch_waited_s: float = 0.0) -> Window:
    roles = ("switch", "postgres", "unionpay", "marketing", "generator")
    begun = Snapshot(100.0, 1_000_000, dict.fromkeys(roles, 1.0), dict.fromkeys(roles, 0.0), 50, 20)
    used = {**dict.fromkeys(roles, 1.5), "generator": 1.0 + generator_s}
    waited = {**dict.fromkeys(roles, 0.0), "switch": switch_waited_s}
    ended = Snapshot(100.0 + seconds, 1_000_000 + int(seconds * 1e6), used, waited, 60, 21)
    times = dict.fromkeys(("p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms"), 1.0)
    result = dict.fromkeys(("due", "paid", "declined", "doubtful", "left"), 0)
    legs = {"payment": times, "inquiry": times, "paying": times, "late": {"p99_ms": late_p99_ms}}
    return Window("run", begun, ended, {**result, **legs, "refused": {}, "ended_within": 1_000})


def test_numbers_come_from_the_ledger_and_the_kernel(tmp_path: Path) -> None:
    subject = Bench(options(tmp_path))
    ledger = TruthLedger(subject.rig.ledger("marketing"))
    for at, fact, reference, serial in (
        (999_999, "posting", "0", "00"),  # before
        (1_000_000, "posting", "1", "11"),
        (1_500_000, "posting", "1", "12"),  # the second month of the same payment
        (1_600_000, "rejected", "9", "91"),
        (2_000_000, "posting", "4", "41"),
        (2_999_999, "posting", "2", "21"),
        (3_000_000, "posting", "3", "31"),  # after
        (3_000_001, "undo", "4", "41"),
    ):
        ledger.add(json.dumps({"at": at, "fact": fact, "reference": reference, "serial": serial}).encode())
    ledger.close()
    subject.tell_window(window(2.0, 0.5, 1.0))
    numbers = subject.report.numbers
    assert numbers["payments_per_s"] == 1.0, "two payments in two seconds"
    assert numbers["cpu_us_switch"] == 500.0 and numbers["cpu_us_hosts"] == 1_000.0
    assert numbers["cpu_us"] == 2_500.0 and numbers["cores_busy"] == 1.25
    assert not subject.report.warnings


@pytest.mark.parametrize(
    ("generator_s", "late_ms", "waited_s", "said"),
    [
        (1.9, 1.0, 0.0, "generator used 95% of a core"),
        (0.5, 30.0, 0.0, "30 ms late"),
        (0.5, 1.0, 0.5, "switch waited for a core 25%"),
    ],
)
def test_what_spoils_the_numbers_is_told(
    tmp_path: Path, generator_s: float, late_ms: float, waited_s: float, said: str
) -> None:
    subject = Bench(options(tmp_path))
    TruthLedger(subject.rig.ledger("marketing")).close()
    subject.tell_window(window(2.0, generator_s, late_ms, waited_s))
    (warning,) = subject.report.warnings
    assert said in warning


@pytest.mark.parametrize(
    ("p99_ms", "served", "expected"),
    [
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], 0),
        ([90.0, 20.0, 1.0], [1.0, 1.0, 1.0], 2),
        ([90.0, 1.0, 20.0], [1.0, 1.0, 1.0], 3),
        ([90.0, 0.0, 1.0], [1.0, 0.0, 0.99], 2),  # nobody was slow: everybody was turned away
    ],
)
def test_normal_again_is_quick_and_serves_everybody(p99_ms: list[float], served: list[float], expected: int) -> None:
    assert _recovery_s(10.0, p99_ms, served) == expected


def test_usage_is_what_the_kernel_counts() -> None:
    code = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\ninput()"
    command = f"{sys.executable} -c '{code}' & wait"
    parent = subprocess.Popen(["bash", "-c", command], stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    try:
        pids: list[int] = []
        ends_at = time.monotonic() + 20
        while (len(pids) < 2 or usage.cpu_s(pids) < 0.25) and time.monotonic() < ends_at:
            pids = usage.tree(parent.pid)
            time.sleep(0.05)
        assert len(pids) == 2 and pids[0] == parent.pid, "the child is found through its parent"
        assert 0.25 <= usage.cpu_s(pids) < 1.5
        assert usage.rss_bytes(pids) > 3e6 and usage.open_files(pids) >= 4
        assert usage.waited_s(pids) >= 0.0
        assert usage.cpu_s(pids[:1]) < 0.2, "a child that lives is not counted for its parent"
    finally:
        for pid in usage.tree(parent.pid)[1:]:
            os.kill(pid, 9)
        parent.communicate()
    assert usage.cpu_s([parent.pid]) == 0.0 and usage.rss_bytes([parent.pid]) == 0
    before = usage.cpu_s([os.getpid()])
    subprocess.run([sys.executable, "-c", "end = 10**7\nwhile end: end -= 1"], check=True)
    assert usage.cpu_s([os.getpid()]) > before + 0.1, "one that has ended is"


# ---------------------------------------------------------------------------------------------------- what is refused
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("payments", "--inflight", "30", "--kiosks", "20"), "--inflight 30: each needs a kiosk of its own"),
        (("payments", "--rate", "5", "--rate", "6"), "payments takes one"),
        (("overload", "--rate", "5"), "a multiple of what it has measured first"),
        (("payments", "--kiosks", "20000", "--idle", "1"), "20001 kiosks; at most 20000"),
        (("payments", "--pg", "shared_buffers"), "expected NAME=VALUE"),
        (("payments", "--rows", "-1"), "expected 0 or more"),
        (("payments", "--rows", "100000000000"), "fewer rows, or another --dir"),
        (("payments", "--scenario", "none"), "cannot read it"),
        (("payments", "--compare", "none.json"), "no such file"),
    ],
)
def test_what_cannot_be_is_told_before_anything_starts(
    arguments: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments, "--dir", str(tmp_path / "b")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hello", "is no report"),
        ('{"bench":"soak"}', "is of bench soak"),
        ("[1]", "is no report"),
        ("", "is no report"),
    ],
)
def test_only_a_report_of_the_same_benchmark_is_compared(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "earlier.json"
    file.write_text(text)
    with pytest.raises(StartError, match=said):
        read_earlier(file, "payments")
