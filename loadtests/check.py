"""After a run: is what the kiosks counted what the journal holds, and were the service level objectives kept?

    python -m loadtests.check --dir .gridswitch/load [--slo FILE]

Reads from the folder: ``counts.json`` (locust), ``book-N.jsonl`` (each worker's kiosks), ``rig.json`` (where all is).
Exit status 0 only if all of it holds:

    money       the journal has every payment that a kiosk was told is paid, to the fen; none that no kiosk sent, none
                that is still open, and no month that was posted twice
    books       `gridswitch proof`: journal, card host, marketing system and kiosks agree, payment by payment
    counts      what the workers told the master is what stands in their books
    objectives  latencies and shares of failures, from a TOML file

The journal is read through the views of the switch's contract. They follow it by a second or so, and what was in doubt
takes its time: so the comparison is made again until it holds, or for SETTLE_S.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg

SLO: Final = Path(__file__).with_name("slo.toml")
SETTLE_S: Final = 45.0  # card time-out, quiet and late periods of the short profile, and the projector, with room
_LOOK_S: Final = 1.0
_SHOWN_MAX: Final = 10
_FINAL: Final = frozenset({"COMPLETED", "DECLINED", "REVERSED", "REFUNDED"})
_PEOPLE_DECIDE: Final = frozenset({"SUSPENSE", "UNPROVEN"})
_PAID: Final = "00"

PAYMENTS: Final = """
    SELECT kiosk_key, state, amount FROM switch.contract_v1_payments
     WHERE opened_at >= to_timestamp($1) AND terminal_id BETWEEN $2 AND $3
"""
POSTED_TWICE: Final = """
    SELECT account, receivable FROM switch.contract_v1_postings WHERE state = 'posted'
     GROUP BY account, receivable HAVING count(*) > 1
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A payment as the journal has it."""

    state: str
    fen: int


@dataclass(slots=True)
class Journal:
    payments: dict[str, Row] = field(default_factory=dict)  # by terminal|MMDD|serial
    twice: list[str] = field(default_factory=list)  # keys with more than one payment, months posted more than once

    def count(self, states: Iterable[str]) -> int:
        wanted = frozenset(states)
        return sum(row.state in wanted for row in self.payments.values())


@dataclass(slots=True)
class Sent:
    """A payment as its kiosk has it."""

    fen: int
    final: str = ""


# ------------------------------------------------------------------------------------------------ money
def compare(counts: Mapping[str, Any], journal: Journal) -> list[str]:
    """What differs between the counts of all kiosks and the journal; nothing, if all is well."""
    kiosks = counts["kiosks"]
    paid, sent = kiosks["finals"].get(_PAID, 0), kiosks["sent"]
    unsure = sent - sum(kiosks["finals"].values())  # without a final word: may be paid, and the kiosk does not know
    completed = [row for row in journal.payments.values() if row.state == "COMPLETED"]
    fen = sum(row.fen for row in completed)
    wrong = []
    if len(completed) < paid:
        wrong.append(f"lost: kiosks were told of {paid} paid, the journal has {len(completed)} completed")
    if len(completed) > paid + unsure:
        wrong.append(f"untold: {len(completed)} completed, but only {paid} told paid and {unsure} without a final word")
    if len(journal.payments) > sent:
        wrong.append(f"doubled: {len(journal.payments)} payments in the journal, {sent} sent by kiosks")
    if fen < kiosks["fen_paid"] or (not unsure and fen != kiosks["fen_paid"]):
        wrong.append(f"fen: kiosks paid {kiosks['fen_paid']}, the journal has {fen}")
    if still := len(journal.payments) - journal.count(_FINAL | _PEOPLE_DECIDE):
        wrong.append(f"open: {still} payments are not decided")
    if kiosks["contradictions"]:
        wrong.append(f"contradictions: {kiosks['contradictions']} payments were told two different final words")
    wrong += [f"doubled: {each}" for each in journal.twice[:_SHOWN_MAX]]
    return wrong


def compare_books(counts: Mapping[str, Any], book: Mapping[str, Sent], journal: Journal) -> list[str]:
    """The same, payment by payment, and whether the counts are the book's."""
    kiosks = counts["kiosks"]
    both = {
        "sent": (kiosks["sent"], len(book)),
        "final words": (sum(kiosks["finals"].values()), sum(bool(each.final) for each in book.values())),
        "fen paid": (kiosks["fen_paid"], sum(each.fen for each in book.values() if each.final == _PAID)),
    }
    wrong = [
        f"counts: {name}: {told}, the kiosks' books say {ours}" for name, (told, ours) in both.items() if told != ours
    ]
    lost = [
        key for key, each in book.items() if each.final == _PAID and _row(journal, key) != Row("COMPLETED", each.fen)
    ]
    strange = [key for key in journal.payments if key not in book]
    wrong += [f"lost: {key} was told paid, the journal has {_row(journal, key)}" for key in lost[:_SHOWN_MAX]]
    wrong += [f"doubled: {key} is in the journal, and no kiosk sent it" for key in strange[:_SHOWN_MAX]]
    if len(lost) + len(strange) > _SHOWN_MAX:
        wrong.append(f"in all {len(lost)} lost, {len(strange)} that no kiosk sent")
    return wrong


def _row(journal: Journal, key: str) -> Row | None:
    return journal.payments.get(key)


# ------------------------------------------------------------------------------------------------ objectives
def judge(counts: Mapping[str, Any], slo: Mapping[str, Any]) -> list[str]:
    """Objectives that were not kept. A name that was not requested has none, but for the payment: it must be there.

    Raises:
        ValueError: The file says something that nobody looks at.
    """
    if unknown := set(slo) - {"requests"}:
        raise ValueError(f"SLO: {', '.join(sorted(unknown))}: expected only [requests.NAME]")
    wrong = [f"a user of locust failed, which is a fault of the load test: {each}" for each in counts["exceptions"]]
    if not counts["requests"].get("payment", {}).get("count"):
        wrong.append("payment: not one was made")
    for name, objectives in slo["requests"].items():
        request = counts["requests"].get(name)
        if request is None or not request["count"]:
            continue
        for objective, most in objectives.items():
            if objective == "failures_share":
                share = request["failures"] / request["count"]
                if share > most:
                    failures = f"{request['failures']} of {request['count']} failed"
                    wrong.append(f"{name}: {failures}: {share:.4f}, at most {most:g}{_reasons(counts, name)}")
            elif objective in request and objective.endswith("_ms"):
                if request[objective] > most:
                    wrong.append(f"{name}: {objective} is {request[objective]:g}, at most {most:g}")
            else:
                raise ValueError(
                    f"SLO: requests.{name}.{objective}: expected p50_ms, p95_ms, p99_ms, max_ms, failures_share"
                )
    return wrong


def _reasons(counts: Mapping[str, Any], name: str) -> str:
    reasons = [f"{each['error']} {each['count']}" for each in counts["errors"] if each["name"] == name]
    return f" ({'; '.join(reasons[:_SHOWN_MAX])})" if reasons else ""


# ------------------------------------------------------------------------------------------------ what is read
def read_books(paths: Iterable[Path]) -> dict[str, Sent]:
    book: dict[str, Sent] = {}
    for path in paths:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                fact = json.loads(line)
                if fact["fact"] == "sent":
                    book[fact["key"]] = Sent(fact["fen"])
                elif fact["fact"] == "final":
                    book[fact["key"]].final = fact["code"]
    return book


async def read_journal(dsn: str, counts: Mapping[str, Any]) -> Journal:
    """Payments of this run: of its terminals, begun after its start."""
    first = counts["first_terminal"]
    last = first + counts["terminals"] - 1
    journal = Journal()
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(PAYMENTS, counts["started_at"], f"GS{first:06d}", f"GS{last:06d}")
        months = await connection.fetch(POSTED_TWICE)
    finally:
        await connection.close()
    for key, times in Counter(row["kiosk_key"] for row in rows).items():
        if times > 1:
            journal.twice.append(f"{key} is {times} payments")
    journal.payments = {row["kiosk_key"]: Row(row["state"], row["amount"]) for row in rows}
    journal.twice += [f"account {row['account']}, month {row['receivable']} is posted twice" for row in months]
    return journal


async def settled(dsn: str, counts: Mapping[str, Any], book: Mapping[str, Sent]) -> tuple[Journal, list[str]]:
    """The journal when it agrees, or after SETTLE_S with what differs."""
    ends_at = time.monotonic() + SETTLE_S
    while True:
        journal = await read_journal(dsn, counts)
        wrong = compare(counts, journal) + (compare_books(counts, book, journal) if book else [])
        if not wrong or time.monotonic() >= ends_at:
            return journal, wrong
        await asyncio.sleep(_LOOK_S)


def prove(rig: Mapping[str, str], book: Path) -> list[str]:
    """`gridswitch proof` with the kiosks' book as the fourth voice."""
    command = [sys.executable, "-m", "switch", "proof", "--config", rig["config"], "--kiosk-book", str(book)]
    command += ["--card-ledger", rig["card_ledger"], "--marketing-ledger", rig["marketing_ledger"]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return []
    return ["the three books and the kiosks' differ:", *(done.stdout + done.stderr).strip().splitlines()]


# ------------------------------------------------------------------------------------------------ command
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.check", description="Judge a load test that has ended.")
    parser.add_argument("--dir", type=Path, default=Path(".gridswitch/load"), help="what the run left behind")
    parser.add_argument("--slo", type=Path, default=SLO, help="objectives, a TOML file")
    parser.add_argument("--dsn", help="of the journal, where there is no rig.json; then without `gridswitch proof`")
    arguments = parser.parse_args(argv)
    folder: Path = arguments.dir
    try:
        counts = json.loads((folder / "counts.json").read_text(encoding="utf-8"))
        slo = tomllib.loads(arguments.slo.read_text(encoding="utf-8"))
        missed = judge(counts, slo)
        rig = {} if arguments.dsn else json.loads((folder / "rig.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        print(f"check: {error}", file=sys.stderr)
        return 2
    books = sorted(folder.glob("book-*.jsonl"))
    book = read_books(books)
    journal, wrong = asyncio.run(settled(arguments.dsn or rig["dsn"], counts, book))
    if rig:
        whole = folder / "books.jsonl"
        whole.write_bytes(b"".join(path.read_bytes() for path in books))
        wrong += prove(rig, whole)
    _show(counts, journal, bool(rig))
    for each in wrong + missed:
        print(f"BREACH  {each}")
    print(f"load test: {'all of it holds' if not wrong + missed else 'does not hold'}")
    return 1 if wrong or missed else 0


def _show(counts: Mapping[str, Any], journal: Journal, proved: bool) -> None:
    kiosks = counts["kiosks"]
    finals = ", ".join(f"{count} {code}" for code, count in sorted(kiosks["finals"].items()))
    states = Counter(row.state for row in journal.payments.values())
    print(f"kiosks:  {kiosks['sent']} payments sent; final words: {finals or 'none'}; paid {kiosks['fen_paid']} fen")
    print(f"journal: {', '.join(f'{count} {state}' for state, count in sorted(states.items())) or 'nothing'}")
    if proved:
        print("proof:   journal, card host, marketing system and kiosks compared payment by payment")
    for name, request in sorted(counts["requests"].items()):
        print(
            f"{name:>9}: {request['count']} requests, {request['failures']} failed, p50 {request['p50_ms']:g} ms, "
            f"p95 {request['p95_ms']:g} ms, p99 {request['p99_ms']:g} ms, max {request['max_ms']:g} ms"
        )


if __name__ == "__main__":
    sys.exit(main())
