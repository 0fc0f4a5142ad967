"""check.py on made-up counts: those that agree, those that differ, objectives that were not kept."""

from __future__ import annotations

import asyncio
import copy
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from loadtests import check
from loadtests.check import Journal, Row, Sent
from switch import contract
from switch.sim.fleet import read_book

COUNTS: dict[str, Any] = {
    "started_at": 1_795_000_000.5,
    "first_terminal": 1,
    "terminals": 10,
    "kiosks": {
        "sent": 5,
        "fen_sent": 500,
        "fen_paid": 200,
        "contradictions": 0,
        "finals": {"00": 2, "declined": 1, "R2": 1, "N2": 1},
    },
    "requests": {
        "payment": {"count": 1_000, "failures": 1, "p50_ms": 20, "p95_ms": 40, "p99_ms": 1_000, "max_ms": 1_500},
        "inquiry": {"count": 1_000, "failures": 0, "p50_ms": 3, "p95_ms": 5, "p99_ms": 9, "max_ms": 12},
    },
    "exceptions": [],
    "errors": [{"name": "payment", "error": "KioskError('N2 busy')", "count": 1}],
}
BOOK = {
    "GS000001|1129|000001": Sent(100, "00"),
    "GS000001|1129|000002": Sent(100, "00"),
    "GS000002|1129|000001": Sent(100, "51"),
    "GS000002|1129|000002": Sent(100, "R2"),
    "GS000003|1129|000001": Sent(100, "N2"),
}


def journal(**changed: Row | None) -> Journal:
    """What the journal holds after that; a key's number to another row, or to none."""
    states = ("COMPLETED", "COMPLETED", "DECLINED", "REVERSED")
    rows: dict[str, Row | None] = {key: Row(state, 100) for key, state in zip(BOOK, states, strict=False)}
    keys = dict(zip(("first", "second", "third", "fourth", "fifth"), BOOK, strict=True))
    rows |= {keys[name]: row for name, row in changed.items()}
    return Journal({key: row for key, row in rows.items() if row is not None})


def counts(**kiosks: Any) -> dict[str, Any]:
    changed = copy.deepcopy(COUNTS)
    changed["kiosks"].update(kiosks)
    return changed


def slo(**payment: float) -> dict[str, Any]:
    return {"requests": {"payment": payment}}


# ------------------------------------------------------------------------------------------------ money
def test_counts_that_agree_are_no_breach() -> None:
    assert check.compare(COUNTS, journal()) == []
    assert check.compare_books(COUNTS, BOOK, journal()) == []


@pytest.mark.parametrize("row", [None, Row("REVERSED", 100)])
def test_a_payment_told_paid_that_the_journal_has_not_completed_is_lost(row: Row | None) -> None:
    assert any(
        each.startswith("lost: kiosks were told of 2 paid") for each in check.compare(COUNTS, journal(second=row))
    )
    (wrong,) = check.compare_books(COUNTS, BOOK, journal(second=row))
    assert wrong.startswith("lost: GS000001|1129|000002 was told paid")


def test_a_payment_of_another_amount_is_found_by_its_fen() -> None:
    assert check.compare(COUNTS, journal(first=Row("COMPLETED", 101))) == ["fen: kiosks paid 200, the journal has 201"]
    (wrong,) = check.compare_books(COUNTS, BOOK, journal(first=Row("COMPLETED", 101)))
    assert wrong.startswith("lost: GS000001|1129|000001")


def test_a_payment_completed_although_its_kiosk_was_told_otherwise_is_a_breach() -> None:
    (wrong, fen) = check.compare(COUNTS, journal(fourth=Row("COMPLETED", 100)))
    assert wrong.startswith("untold: 3 completed, but only 2 told paid and 0 without")
    assert fen.startswith("fen:")


def test_a_payment_without_a_final_word_may_be_completed_or_not() -> None:
    unsure = counts(finals={"00": 1, "declined": 1, "R2": 1, "N2": 1}, fen_paid=100)
    assert check.compare(unsure, journal()) == []
    assert check.compare(unsure, journal(second=Row("REVERSED", 100))) == []
    assert check.compare(unsure, journal(second=None)) == []


def test_more_payments_than_were_sent_are_doubled() -> None:
    extra = journal(fifth=Row("DECLINED", 100))
    extra.payments["GS000009|1129|000009"] = Row("DECLINED", 100)
    assert check.compare(COUNTS, extra) == ["doubled: 6 payments in the journal, 5 sent by kiosks"]


def test_a_payment_that_no_kiosk_sent_is_found_even_when_the_numbers_agree() -> None:
    strange = journal()
    strange.payments["GS000009|1129|000009"] = Row("DECLINED", 100)
    assert check.compare(COUNTS, strange) == []
    assert check.compare_books(COUNTS, BOOK, strange) == [
        "doubled: GS000009|1129|000009 is in the journal, and no kiosk sent it"
    ]


def test_a_month_posted_twice_is_doubled() -> None:
    twice = journal()
    twice.twice = ["account 0300000009, month 0300000009202610 is posted twice"]
    assert check.compare(COUNTS, twice) == [f"doubled: {twice.twice[0]}"]


@pytest.mark.parametrize("state", contract.STATES[:5])
def test_a_payment_that_is_still_open_is_a_breach(state: str) -> None:
    assert check.compare(COUNTS, journal(third=Row(state, 100))) == ["open: 1 payments are not decided"]


@pytest.mark.parametrize("state", ("SUSPENSE", "UNPROVEN"))
def test_a_payment_that_waits_for_a_person_is_decided_as_far_as_machines_can(state: str) -> None:
    assert check.compare(COUNTS, journal(third=Row(state, 100))) == []


def test_every_state_of_the_contract_has_its_place() -> None:
    assert set(contract.STATES) == check._FINAL | check._PEOPLE_DECIDE | set(contract.STATES[:5])


def test_two_different_final_words_are_a_breach() -> None:
    assert check.compare(counts(contradictions=2), journal()) == [
        "contradictions: 2 payments were told two different final words"
    ]


def test_counts_that_are_not_those_of_the_books_are_a_breach() -> None:
    (sent, words, paid) = check.compare_books(counts(sent=6, fen_paid=201, finals={"00": 4}), BOOK, journal())
    assert sent == "counts: sent: 6, the kiosks' books say 5"
    assert words == "counts: final words: 4, the kiosks' books say 5"
    assert paid == "counts: fen paid: 201, the kiosks' books say 200"


# ------------------------------------------------------------------------------------------------ objectives
def test_objectives_that_are_just_kept_are_no_breach() -> None:
    assert check.judge(COUNTS, slo(p99_ms=1_000, failures_share=0.001)) == []


def test_a_slow_payment_and_too_many_failures_are_told_with_their_reasons() -> None:
    (slow, failed) = check.judge(COUNTS, slo(p99_ms=999, failures_share=0.0009))
    assert slow == "payment: p99_ms is 1000, at most 999"
    assert "1 of 1000 failed: 0.0010, at most 0.0009 (KioskError('N2 busy') 1)" in failed


def test_a_run_without_a_payment_proves_nothing() -> None:
    none = copy.deepcopy(COUNTS)
    del none["requests"]["payment"]
    assert check.judge(none, slo(p99_ms=1)) == ["payment: not one was made"]


def test_a_user_that_failed_by_itself_is_a_breach() -> None:
    (wrong,) = check.judge({**COUNTS, "exceptions": ["KeyError: 'x'"]}, slo())
    assert "fault of the load test: KeyError: 'x'" in wrong


def test_a_misspelt_objective_is_refused() -> None:
    misspelt: list[dict[str, Any]] = [{"request": {}}, slo(p98_ms=1), slo(count=1)]
    for wrong in misspelt:
        with pytest.raises(ValueError, match="SLO"):
            check.judge(COUNTS, wrong | {"requests": wrong.get("requests", {})})


def test_the_bundled_objectives_can_be_read() -> None:
    objectives = tomllib.loads(check.SLO.read_text(encoding="utf-8"))
    full = copy.deepcopy(COUNTS)
    full["requests"] |= dict.fromkeys(objectives["requests"], COUNTS["requests"]["inquiry"])
    assert check.judge(full, objectives) == []
    assert set(objectives["requests"]) == {"payment", "inquiry", "result", "repeat", "visit"}


# ------------------------------------------------------------------------------------------------ what is read
def test_only_what_the_contract_promises_is_read() -> None:
    """Names and columns, held against the switch's list: nobody else would notice when one changes."""
    for statement in (check.PAYMENTS, check.POSTED_TWICE):
        (view,) = re.findall(r"switch\.(\w+)", statement)
        words = set(re.findall(r"[a-z_]+", statement.replace(f"switch.{view}", "")))
        assert words - {"to_timestamp", "count", "posted"} <= set(contract.VIEWS[view])


async def _fill(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for number, (key, opened_at, state) in enumerate(
            [
                ("GS000001|1129|000001", COUNTS["started_at"] + 1, "COMPLETED"),
                ("GS000010|1129|000001", COUNTS["started_at"] + 2, "CARD_PENDING"),
                ("GS000010|1129|000009", COUNTS["started_at"] - 1, "COMPLETED"),  # before this run
                ("GS000011|1129|000001", COUNTS["started_at"] + 1, "COMPLETED"),  # another's terminal
                ("GS000001|1129|000001", COUNTS["started_at"] + 3, "COMPLETED"),  # twice
            ]
        ):
            body = {
                "postings": [["month 1", "202610", 1, 0, 100, f"S{number}", "posted" if state == "COMPLETED" else ""]]
            }
            await connection.execute(
                "INSERT INTO switch.payment VALUES "
                "(20261123, $1, 1, $2, 100, to_timestamp($3), now(), $4, $5, $6, '', $7)",
                *(number, state, opened_at, key[:8], "A" if number in (0, 4) else f"B{number}", key, json.dumps(body)),
            )
    finally:
        await connection.close()


def test_the_journal_is_read_for_the_terminals_and_the_time_of_the_run(database: str) -> None:
    asyncio.run(_fill(database))
    found = asyncio.run(check.read_journal(database, COUNTS))
    assert found.payments == {
        "GS000001|1129|000001": Row("COMPLETED", 100),
        "GS000010|1129|000001": Row("CARD_PENDING", 100),
    }
    assert found.twice == ["GS000001|1129|000001 is 2 payments", "account A, month month 1 is posted twice"]


def test_books_are_read_as_the_proof_reads_them(tmp_path: Path) -> None:
    from loadtests.wire import Answer, Bills, Book, Payment

    path = tmp_path / "book-0.jsonl"
    book = Book(path)
    for number, (code, how) in enumerate([("00", "answer"), ("U1", "answer"), ("A0", "answer"), ("25", "inquiry")]):
        payment = Payment(f"GS000001|1129|{number:06d}", f"{number:06d}", "1129", 100 + number, b"")
        book.begin(payment, Bills("0300000009", "Q", (("R1", 100), ("R2", number))))
        book.tell(payment, Answer(code, stable="word", reference="7"), how)
    book.close()
    ours = check.read_books([path])
    assert [(each.fen, each.final) for each in ours.values()] == [(100, "00"), (101, ""), (102, ""), (103, "25")]
    theirs = read_book(path)
    assert {key: (each.fen, each.final or "") for key, each in theirs.items()} == {
        key: (each.fen, each.final) for key, each in ours.items()
    }
    assert book.counts == {
        "sent": 4,
        "fen_sent": 406,
        "fen_paid": 100,
        "finals": {"00": 1, "25": 1},
        "contradictions": 0,
    }


def test_a_folder_without_a_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main(["--dir", str(tmp_path)]) == 2
    assert "counts.json" in capsys.readouterr().err
