"""The journal's writer by hand: what one commit holds, in which order, and what follows from each way to fail.

The database is a table in memory that fails where the test says; the real one is for ``test_journal`` and
``test_outage``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from switch import limits
from switch.errors import StartError, UnavailableError
from switch.model.payment import State
from switch.ports import Append, Appended, Claim, ClaimKind, JournalEntry
from switch.store import journal as module
from switch.store.journal import PostgresJournal
from switch.store.queries import QUERY

from .support import DAY, Recorder, entry, until

NAMES = {text: name for name, text in QUERY.items()}
LOST = asyncpg.ConnectionDoesNotExistError("the line is lost")
BILL, KIOSK, KIOSK2 = Claim(ClaimKind.BILL, "b"), Claim(ClaimKind.KIOSK, "k"), Claim(ClaimKind.KIOSK, "k2")
BILL2 = Claim(ClaimKind.BILL, "b2")
WITH_CLAIMS = ["BEGIN", "copy payment_event", "journal_claims", "COMMIT"]


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def wall_us(self) -> int:
        return 1


class Table:
    """The rows, and how each step is to fail: ``(step, error, applied)`` in order; a step is asked for once each."""

    def __init__(self) -> None:
        self.events: dict[tuple[int, int, int], tuple[int, int]] = {}  # key: epoch, number
        self.claims: dict[tuple[str, str], int] = {}
        self.days: set[int] = {DAY}
        self.faults: list[tuple[str, BaseException, bool]] = []
        self.asked: list[Any] = []
        self.bad: set[int] = set()  # payments whose rows it refuses
        self.on_step: Callable[[], None] = lambda: None


class Line:
    """A session on the table: what is written in a transaction is seen by others when that commits."""

    def __init__(self, table: Table, clock: Clock) -> None:
        self._table = table
        self._clock = clock
        self.closed = False
        self._forget()

    async def _step(self, name: str, *facts: Any) -> BaseException | None:
        """The fault of this step, if it has one that comes after it; one that comes before is raised."""
        self._table.asked.append((name, *facts) if facts else name)
        self._table.on_step()
        self._clock.time += 0.25
        await asyncio.sleep(0)  # as every answer of a server takes a turn of the loop
        if self._table.faults and self._table.faults[0][0] == name:
            _, error, applied = self._table.faults.pop(0)
            if isinstance(error, asyncpg.ConnectionDoesNotExistError):
                self.closed = True
            if not applied:
                raise error
            return error
        return None

    async def copy_records_to_table(
        self, table: str, *, schema_name: str, records: list[tuple[Any, ...]], columns: list[str]
    ) -> None:
        assert (schema_name, table) == ("switch", "payment_event")
        rows = [dict(zip(columns, record, strict=True)) for record in records]
        fault = await self._step(f"copy {table}", rows)
        new: dict[Any, Any] = {}
        for row in rows:
            key = row["opened_on"], row["payment_id"], row["ver"]
            if key in self._table.events or key in self._events or key in new:
                raise asyncpg.UniqueViolationError("duplicate key")
            if row["opened_on"] not in self._table.days:
                raise asyncpg.CheckViolationError('no partition of relation "payment_event" found for row')
            if row["payment_id"] in self._table.bad:
                raise asyncpg.DataError("refused")
            new[key] = row["writer_epoch"], row["writer_seq"]
        self._events.update(new)
        if not self._open:
            self._apply()
        if fault is not None:
            raise fault

    def _apply(self) -> None:
        for key in self._given:
            del self._table.claims[key]
        self._table.events |= self._events
        self._table.claims |= self._claims
        self._forget()

    def _forget(self) -> None:
        self._open = False
        self._events: dict[tuple[int, int, int], tuple[int, int]] = {}
        self._claims: dict[tuple[str, str], int] = {}
        self._given: set[tuple[str, str]] = set()

    async def execute(self, statement: str) -> None:
        fault = await self._step(statement)
        if statement == "BEGIN":
            self._open = True
        elif statement == "COMMIT":
            self._apply()
        else:
            assert statement == "ROLLBACK" and self._open
            self._forget()
        if fault is not None:
            raise fault

    async def fetch(self, query: str, *arguments: Any) -> list[Any]:
        name = NAMES[query]
        fault = await self._step(name, *arguments)
        if name == "journal_write":
            return []
        if name == "event_writers":
            wanted = list(zip(*arguments, strict=True))
            names = ("opened_on", "payment_id", "ver", "writer_epoch", "writer_seq")
            return [
                dict(zip(names, (*key, *self._table.events[key]), strict=True))
                for key in wanted
                if key in self._table.events
            ]
        if name == "claim_holders":
            return [
                {"kind": kind, "key": key, "payment_id": self._table.claims[kind, key]}
                for kind, key in zip(*arguments, strict=True)
                if (kind, key) in self._table.claims
            ]
        if name == "partition_ensure":
            missing = [day for day in arguments[0] if day not in self._table.days and day > 0]
            self._table.days |= set(missing)
            return [{"day": day} for day in missing]
        assert name == "journal_claims"
        self._claim(*arguments)
        if fault is not None:
            raise fault
        return []

    def _claim(self, *columns: Any) -> None:
        """What ``switch.journal_claims`` does: giving back first."""
        bills, ended, claims, opened = (
            list(zip(*columns[start:end], strict=True)) for start, end in ((0, 2), (2, 4), (4, 11), (11, 17))
        )
        mine = {number for number, _ in ended}
        for claim, number in self._table.claims.items():
            if (claim[0] in ("open", "bill") and number in mine) or (
                claim[0] == "bill" and (number, claim[1]) in bills
            ):
                self._given.add(claim)
        held: list[Any] = [(("kiosk", row[4]), row[0]) for row in claims] + [
            (("stan", row[5]), row[0]) for row in claims
        ]
        held += [(("bill", row[4]), row[0]) for row in opened]
        held += [(("open", str(row[0])), row[0]) for row in opened if row[3] is not None]
        for claim, number in held:
            if claim[1] is None:
                continue
            if claim in self._claims or claim in self._table.claims.keys() - self._given:
                raise asyncpg.UniqueViolationError("duplicate key")
            self._claims[claim] = number

    def is_in_transaction(self) -> bool:
        return self._open

    def is_closed(self) -> bool:
        return self.closed

    def terminate(self) -> None:
        self.closed = True
        self._forget()


class Bench:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "JOURNAL_RECONNECT_S", 0.001)
        self.clock, self.seen, self.table = Clock(), Recorder(), Table()
        self.journal = PostgresJournal("dsn", clock=self.clock, observer=self.seen, name="gs")
        self.journal.epoch = 7
        self.journal.copy_from = 0  # by COPY: its steps are what can be told apart
        monkeypatch.setattr(self.journal, "_connect_writer", self._connect)
        self.lines: list[Line] = []
        self.told: list[tuple[int, Appended]] = []
        self.refused: list[Exception] = []
        self.on_connect: Callable[[], None] = lambda: None

    async def _connect(self) -> Line:
        self.on_connect()
        if self.refused:
            raise self.refused.pop(0)
        self.lines.append(Line(self.table, self.clock))
        return self.lines[-1]

    def append(self, *items: JournalEntry) -> None:
        for item in items:
            self.journal.append(item, lambda appended, number=item.payment_id: self.told.append((number, appended)))  # type: ignore[misc]

    async def runs(self) -> None:
        """The writer, until nothing waits any more."""
        if self.journal._writer is None:
            self.journal._writer = await self._connect()
        self.journal._stopping = True
        await self.journal._write_forever()
        await asyncio.sleep(0)

    def write(self, *items: JournalEntry) -> list[tuple[int, Append]]:
        """Append them together and commit; how each ended, in the order in which they were told."""
        self.told.clear()
        self.table.asked.clear()
        self.append(*items)
        asyncio.run(self.runs())
        return [(number, appended.result) for number, appended in self.told]

    def steps(self) -> list[str]:
        return [step if isinstance(step, str) else step[0] for step in self.table.asked]

    def claim_rows(self) -> list[list[tuple[Any, ...]]]:
        """Of the one commit that was written: bills given back, payments that end, claims, open payments."""
        (columns,) = self.facts("journal_claims")
        return [list(zip(*columns[start:end], strict=True)) for start, end in ((0, 2), (2, 4), (4, 11), (11, 17))]

    def facts(self, name: str) -> list[Any]:
        return [step[1:] for step in self.table.asked if step[0] == name]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def committed(*numbers: int) -> list[tuple[int, Append]]:
    return [(number, Append.COMMITTED) for number in numbers]


# ------------------------------------------------------------------------------------------------ one commit
def test_rows_alone_are_one_copy(bench: Bench) -> None:
    first, second = entry(1, attempt=b"a", ledger=b'[["a",1,0]]'), entry(2)
    assert bench.write(first, second) == committed(1, 2)
    ((rows,),) = bench.facts("copy payment_event")
    assert bench.steps() == ["copy payment_event"]
    assert rows[0] == {
        "opened_on": DAY,
        "payment_id": 1,
        "ver": 1,
        "state": State.CARD_PENDING,
        "row": "1",
        "wall_us": first.wall_us,
        "amount": 12_345,
        "body": first.body.decode(),
        "link": first.link,
        "attempt": b"a",
        "ledger": '[["a",1,0]]',
        "writer_epoch": 7,
        "writer_seq": 1,
    }
    assert (rows[1]["payment_id"], rows[1]["writer_seq"], rows[1]["ledger"]) == (2, 2, None)
    assert bench.seen.values == {"switch_db_commit_seconds": [0.25], "switch_db_batch_rows": [2]}
    assert bench.journal.pending == 0 and bench.journal._sent_at is None and bench.seen.events == []


def test_few_entries_are_one_statement_with_all_that_copy_would_write(bench: Bench) -> None:
    bench.journal.copy_from = 4
    keys = (Claim(ClaimKind.KIOSK, "k"), Claim(ClaimKind.STAN, "s"))
    bills = (Claim(ClaimKind.BILL, "a|r"), Claim(ClaimKind.BILL, "a|q"))
    first = entry(1, claims=(*keys, Claim(ClaimKind.OPEN, "1", b"sealed", b"pan"), *bills), keep_until=20270102)
    last = entry(2, 3, releases=(Claim(ClaimKind.OPEN, "2"), BILL), keep_until=20270101, ledger=b"[]")
    bench.write(first, last, entry(3, 2, releases=(BILL,)))
    assert bench.steps() == ["journal_write"]
    epoch, *columns = bench.facts("journal_write")[0]
    assert epoch == 7 and len(columns) == 29
    events, bills_gone, ended, claims, opened = (
        columns[start:end] for start, end in ((0, 12), (12, 14), (14, 16), (16, 23), (23, 29))
    )
    assert [column[0] for column in events] == [
        *(first.opened_on, 1, 1, first.state, first.row, first.wall_us, first.amount, first.body.decode(), first.link),
        *(first.attempt, None, 1),
    ]
    assert [column[1] for column in events][1:3] == [2, 3] and events[10][1] == "[]"
    assert [list(zip(*rows, strict=True)) for rows in (bills_gone, ended, claims, opened)] == [
        [(3, "b")],
        [(2, 20270101)],
        [(1, 0, DAY, 20270102, "k", "s", b"pan")],
        [(1, 0, DAY, 7, "a|r", b"sealed"), (1, 1, DAY, None, "a|q", None)],
    ]
    bench.write(*(entry(number) for number in range(3, 7)))
    assert bench.steps() == ["copy payment_event"], "four are enough for a COPY"


def test_events_go_first_then_what_is_given_back_then_what_is_taken(bench: Bench) -> None:
    opened = Claim(ClaimKind.OPEN, "1", b"sealed", b"pan")
    assert bench.write(entry(1, claims=(opened, BILL)), entry(2, claims=(KIOSK,))) == committed(1, 2)
    assert bench.steps() == WITH_CLAIMS
    assert bench.claim_rows()[2:] == [
        [(1, 0, DAY, 0, None, None, b"pan"), (2, 0, DAY, 0, "k", None, None)],
        [(1, 0, DAY, 7, "b", b"sealed")],
    ]
    assert bench.write(entry(1, 2, releases=(BILL,)), entry(3, claims=(BILL,))) == committed(1, 3)
    assert bench.steps() == WITH_CLAIMS
    assert bench.claim_rows() == [[(1, "b")], [], [], [(3, 0, DAY, None, "b", None)]]
    own = Claim(ClaimKind.OPEN, "1")
    assert bench.write(entry(1, 3, releases=(BILL, own), claims=(KIOSK2,), keep_until=5)) == committed(1)
    # With its third entry: no two entries of a payment meet.
    assert bench.claim_rows() == [[], [(1, 5)], [(1, 2_000, DAY, 5, "k2", None, None)], []]


def test_whatever_an_entry_claims_beyond_one_of_a_kind_is_a_row_more(bench: Bench) -> None:
    stan, stan2 = Claim(ClaimKind.STAN, "s"), Claim(ClaimKind.STAN, "s2")
    opened = Claim(ClaimKind.OPEN, "1")
    bench.write(entry(1, claims=(BILL, BILL2, KIOSK, stan, opened, stan2, KIOSK2)))
    assert bench.claim_rows()[2:] == [
        [(1, 0, DAY, 0, "k", "s", None), (1, 2, DAY, 0, None, "s2", None), (1, 3, DAY, 0, "k2", None, None)],
        [(1, 0, DAY, 7, "b", None), (1, 1, DAY, None, "b2", None)],
    ]
    assert set(bench.table.claims) == {
        *(("bill", "b"), ("bill", "b2"), ("kiosk", "k"), ("kiosk", "k2"), ("stan", "s"), ("stan", "s2"), ("open", "1")),
    }


def test_giving_back_alone_takes_nothing(bench: Bench) -> None:
    bench.write(entry(1, claims=(BILL, BILL2)))
    assert bench.write(entry(1, 2, releases=(BILL, BILL2))) == committed(1)
    assert bench.steps() == WITH_CLAIMS
    assert bench.claim_rows() == [[(1, "b"), (1, "b2")], [], [], []]


def test_a_kiosks_key_and_a_trace_number_are_never_given_back(bench: Bench) -> None:
    for kind in (ClaimKind.KIOSK, ClaimKind.STAN):
        with pytest.raises(AssertionError):
            bench.append(entry(1, releases=(BILL, Claim(kind, "k"))))


def test_of_each_payment_that_ends_it_is_said_how_long_its_card_number_stays(bench: Bench) -> None:
    for_good = [(Claim(ClaimKind.OPEN, str(number)),) for number in (1, 2)]
    bench.write(entry(1, releases=for_good[0], keep_until=9), entry(2, releases=for_good[1]))
    assert bench.claim_rows()[1] == [(1, 9), (2, 0)]


def test_a_batch_is_bounded_in_rows_and_in_bytes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "JOURNAL_BATCH_MAX", 3)
    assert bench.write(*(entry(number) for number in range(1, 8))) == committed(*range(1, 8))
    assert bench.seen.values["switch_db_batch_rows"] == [3, 3, 1]
    one = module._Waiting(entry(1, attempt=b"12", ledger=b"[]"), lambda appended: None, 1, 0.0).size
    assert one == 256 + len(entry(1).body) + 4
    monkeypatch.setattr(limits, "JOURNAL_BATCH_BYTES_MAX", 2 * one)
    bench.seen.values.clear()
    items = [entry(number, attempt=b"12", ledger=b"[]") for number in range(11, 16)]
    assert bench.write(*items) == committed(*range(11, 16))
    assert bench.seen.values["switch_db_batch_rows"] == [2, 2, 1]


def test_more_than_the_bound_is_refused_and_counts_parked_ones(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "JOURNAL_PENDING_MAX", 2)
    bench.append(entry(1), entry(2))
    with pytest.raises(UnavailableError) as caught:
        bench.append(entry(3))
    assert (caught.value.code, caught.value.detail) == (
        "journal_full",
        "too many entries wait for a commit; the caller ignored accepting",
    )
    assert bench.journal.pending == 2 and bench.journal._wake.is_set()


def test_an_entry_may_be_as_large_as_a_batch_and_no_larger(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    size = module._Waiting(entry(1), lambda appended: None, 1, 0.0).size
    monkeypatch.setattr(limits, "JOURNAL_BATCH_BYTES_MAX", size)
    assert bench.write(entry(1)) == committed(1)
    with pytest.raises(AssertionError):
        bench.append(entry(2, attempt=b"x"))


def test_an_old_entry_closes_admission(bench: Bench) -> None:
    journal = bench.journal
    journal._away, journal.lease_ends_at = False, float("inf")
    bench.append(entry(1))
    bench.clock.time += limits.ADMISSION_COMMIT_LAG_S
    assert (journal.accepting, journal.pending) == (True, 1)
    bench.append(entry(2))
    bench.clock.time += 0.1
    assert (journal.accepting, journal.pending) == (False, 2)


def test_what_a_callback_appends_is_written_too(bench: Bench) -> None:
    bench.journal.append(entry(1), lambda appended: bench.append(entry(2)))
    asyncio.run(bench.runs())
    assert [number for number, _ in bench.told] == [2]


def test_a_callback_that_raises_is_named_and_the_others_are_told(bench: Bench) -> None:
    def fails(appended: Appended) -> None:
        raise KeyError("ours")

    bench.append(entry(1))
    bench.journal.append(entry(2), fails)
    bench.append(entry(3))
    asyncio.run(bench.runs())
    assert [number for number, _ in bench.told] == [1, 3]
    assert bench.seen.events == [("journal.callback_failed", {"payment_id": 2, "error": "KeyError('ours')"})]


# ------------------------------------------------------------------------------------------------ a lost line
@pytest.mark.parametrize("step", ["BEGIN", "copy payment_event", "journal_claims", "COMMIT"])
@pytest.mark.parametrize("applied", [True, False])
def test_after_a_lost_line_every_row_is_looked_up(bench: Bench, step: str, applied: bool) -> None:
    bench.table.events[DAY, 3, 1] = (999, 1)
    bench.table.faults = [(step, LOST, applied)]
    items = [entry(1, claims=(BILL,)), entry(2)]
    assert bench.write(*items) == committed(1, 2)
    steps = bench.steps()
    after = steps[steps.index("event_writers") :]
    there = step == "COMMIT" and applied
    assert after == (["event_writers"] if there else ["event_writers", *WITH_CLAIMS])
    assert len(bench.lines) == 2 and bench.table.claims == {("bill", "b"): 1}
    assert bench.seen.counts == {"switch_db_unknown_commits_total": 1}
    lost = ("journal.connection_lost", {"error": repr(LOST), "pending": 2})
    assert bench.seen.events[0] == lost
    assert [name for name, _ in bench.seen.events] == ["journal.connection_lost", "journal.database_back"]
    assert bench.journal._away is False


def test_after_a_lost_line_a_foreign_row_is_a_loss_and_ours_are_told_apart_by_number(bench: Bench) -> None:
    bench.table.events = {(DAY, 1, 1): (7, 99), (DAY, 2, 1): (8, 2), (DAY, 3, 1): (7, 3)}
    bench.table.faults = [("copy payment_event", LOST, False)]
    assert sorted(bench.write(entry(1), entry(2), entry(3), entry(4))) == [
        *((1, Append.LOST), (2, Append.LOST)),
        *committed(3, 4),
    ]
    assert bench.table.events[DAY, 4, 1] == (7, 4)


def test_a_line_that_is_lost_again_while_looking_is_looked_up_on_the_next(bench: Bench) -> None:
    bench.table.faults = [("COMMIT", LOST, True), ("event_writers", LOST, False), ("event_writers", LOST, False)]
    assert bench.write(entry(1, claims=(BILL,))) == committed(1)
    assert bench.steps().count("COMMIT") == 1 and len(bench.lines) == 4
    lost = [facts for name, facts in bench.seen.events if name == "journal.connection_lost"]
    assert lost == [{"error": repr(LOST), "pending": 1}] * 3


def test_the_watch_looks_at_every_step(bench: Bench) -> None:
    """Also while rows are looked up: a server can hang then too."""
    bench.table.events[DAY, 2, 1] = (999, 1)
    sent: list[float | None] = []
    bench.table.on_step = lambda: sent.append(bench.journal._sent_at)
    bench.write(entry(1, claims=(BILL,)), entry(2))
    assert len(sent) == 9 and None not in sent
    assert sent[2] == 100.5, "counted anew from the first step after the refusal"


@pytest.mark.parametrize("error", [asyncpg.DiskFullError("full"), asyncpg.InterfaceError("odd")])
def test_a_server_in_trouble_is_left_a_moment_and_asked_on_a_new_line(
    bench: Bench, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.table.faults = [("copy payment_event", error, False)] * 2
    slept: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.extend([seconds] if seconds else [])
        await real(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    assert bench.write(entry(1)) == committed(1)
    assert slept == [limits.JOURNAL_RECONNECT_S] * 2
    assert bench.seen.counts == {"switch_db_unknown_commits_total": 2}
    assert [line.closed for line in bench.lines] == [True, True, False]
    assert bench.seen.events[0] == ("journal.connection_lost", {"error": repr(error), "pending": 1})


# ------------------------------------------------------------------------------------------------ refusals
def test_a_conflict_is_rolled_back_looked_at_and_the_rest_is_sent_again(bench: Bench) -> None:
    bench.table.events[DAY, 2, 1] = (999, 1)
    bench.table.claims["bill", "b"] = 77
    items = [entry(1, claims=(KIOSK,)), entry(2), entry(3, claims=(BILL,))]
    told = bench.write(*items)
    assert sorted(told) == [(1, Append.COMMITTED), (2, Append.LOST), (3, Append.CLAIMED)]
    assert [appended.claim for number, appended in bench.told if number == 3] == [BILL]
    steps = ["BEGIN", "copy payment_event", "ROLLBACK", "claim_holders", "event_writers"]
    assert bench.steps() == [*steps, *WITH_CLAIMS]
    (holders,), (writers,) = bench.facts("claim_holders"), bench.facts("event_writers")
    assert set(zip(*holders, strict=True)) == {("kiosk", "k"), ("bill", "b")}
    assert set(zip(*writers, strict=True)) == {(DAY, number, 1) for number in (1, 2, 3)}
    assert len(bench.lines) == 1 and bench.seen.counts == {} and bench.seen.events == []


def test_who_has_an_outcome_does_not_wait_for_the_others(bench: Bench) -> None:
    bench.table.events[DAY, 1, 1] = (999, 1)
    assert bench.write(entry(2), entry(1)) == [(1, Append.LOST), (2, Append.COMMITTED)]


def test_without_claims_no_holders_are_asked_for(bench: Bench) -> None:
    bench.table.events[DAY, 1, 1] = (999, 1)
    assert bench.write(entry(1)) == [(1, Append.LOST)]
    assert bench.steps() == ["copy payment_event", "event_writers"]


def test_a_conflict_that_nobody_holds_is_halved_until_it_is_alone(bench: Bench) -> None:
    refused = asyncpg.UniqueViolationError("odd")
    bench.table.faults = [("copy payment_event", refused, False)] * 3
    assert bench.write(*(entry(number) for number in range(1, 6))) == committed(2, 3, 4, 5)
    assert [waiting.entry.payment_id for waiting in bench.journal._parked] == [1]
    why = repr(StartError("conflict", "a unique key is refused but nobody holds it"))
    assert bench.seen.events == [("journal.entry_refused", {"payment_id": 1, "ver": 1, "error": why})]
    rows = [[row["payment_id"] for row in rows] for (rows,) in bench.facts("copy payment_event")]
    assert rows == [[1, 2, 3, 4, 5], [1, 2], [1], [2], [3, 4, 5]]


def test_a_row_that_is_refused_is_found_by_halves_and_parked(bench: Bench) -> None:
    bench.table.bad = {3}
    assert sorted(bench.write(*(entry(number, 2) for number in range(1, 6)))) == committed(1, 2, 4, 5)
    rows = [[row["payment_id"] for row in rows] for (rows,) in bench.facts("copy payment_event")]
    assert rows == [[1, 2, 3, 4, 5], [1, 2], [3, 4, 5], [3], [4, 5]]
    facts = {"payment_id": 3, "ver": 2, "error": repr(asyncpg.DataError("refused"))}
    assert bench.seen.events == [("journal.entry_refused", facts)]
    assert bench.journal.pending == 1 and bench.seen.counts == {} and len(bench.lines) == 1


def test_a_row_that_cannot_even_be_encoded_costs_the_line_and_is_parked(bench: Bench) -> None:
    bench.append(entry(1), entry(2, body=b"\xff"), entry(3))
    asyncio.run(bench.runs())
    assert sorted(number for number, _ in bench.told) == [1, 3]
    told = [(name, facts["error"][:19]) for name, facts in bench.seen.events if "error" in facts]
    assert told == [("journal.connection_lost", "UnicodeDecodeError(")] * 3 + [
        ("journal.entry_refused", "UnicodeDecodeError(")
    ]
    assert bench.lines[0].closed and bench.seen.counts == {}


def test_a_day_without_a_partition_gets_one_and_one_that_cannot_is_parked(bench: Bench) -> None:
    assert bench.write(entry(1, opened_on=20270103), entry(2, opened_on=20270101)) == committed(1, 2)
    assert bench.facts("partition_ensure") == [([20270101, 20270103],)]
    made = ("journal.partitions_made", {"days": [20270101, 20270103]})
    assert bench.seen.events == [made]
    assert bench.write(entry(5, opened_on=20270105)) == committed(5), "alone, it is not taken for refused"
    bench.seen.events.clear()
    assert bench.write(entry(3, opened_on=-1), entry(4)) == committed(4)
    why = repr(StartError("partition", "a partition exists and is not used"))
    assert bench.seen.events == [("journal.entry_refused", {"payment_id": 3, "ver": 1, "error": why})]


def test_another_check_than_a_missing_partition_is_a_refusal(bench: Bench) -> None:
    bench.table.faults = [("copy payment_event", asyncpg.CheckViolationError("amount"), False)]
    assert bench.write(entry(1)) == []
    assert bench.steps() == ["copy payment_event"] and len(bench.journal._parked) == 1


def test_a_refusal_while_sorting_out_is_halved(bench: Bench) -> None:
    refused, odd = asyncpg.UniqueViolationError("dup"), asyncpg.DataError("odd")
    bench.table.faults = [("copy payment_event", refused, False), ("event_writers", odd, False)]
    assert bench.write(entry(1), entry(2)) == committed(1, 2)
    assert bench.seen.events == [] and len(bench.lines) == 1
    bench.table.faults = [("copy payment_event", refused, False), ("event_writers", odd, False)]
    assert bench.write(entry(3)) == []
    assert bench.seen.events == [("journal.entry_refused", {"payment_id": 3, "ver": 1, "error": repr(odd)})]


def test_an_outage_while_sorting_out_is_looked_up_on_a_new_line(bench: Bench) -> None:
    refused, full = asyncpg.UniqueViolationError("dup"), asyncpg.DiskFullError("full")
    bench.table.faults = [("copy payment_event", refused, False), ("event_writers", full, False)]
    assert bench.write(entry(1)) == committed(1)
    assert len(bench.lines) == 2 and bench.lines[0].closed
    assert bench.seen.events[0] == ("journal.connection_lost", {"error": repr(full), "pending": 1})


# ------------------------------------------------------------------------------------------------ rivals in one batch
def test_the_first_of_a_batch_wins_and_those_behind_a_rival_wait_behind_it(bench: Bench) -> None:
    bench.table.events[DAY, 9, 1] = (999, 1)  # a loser, so that the batch is sorted out
    other = Claim(ClaimKind.STAN, "s")
    told = bench.write(
        entry(1, claims=(BILL,)),
        entry(2, claims=(BILL, KIOSK)),  # loses to 1, when 1 is committed
        entry(3, claims=(KIOSK,)),  # stands behind 2, and wins once that has lost
        entry(4, claims=(other,)),
        entry(1, row="again"),
        entry(9),
    )
    assert dict(told) | {1: 0} == {
        1: 0,
        2: Append.CLAIMED,
        3: Append.COMMITTED,
        4: Append.COMMITTED,
        9: Append.LOST,
    }
    assert [result for number, result in told if number == 1] == [Append.COMMITTED, Append.LOST]
    assert bench.table.claims == {("bill", "b"): 1, ("kiosk", "k"): 3, ("stan", "s"): 4}
    second = bench.facts("copy payment_event")[1][0]
    assert [row["payment_id"] for row in second] == [1, 4]


def test_who_waits_behind_one_waits_whoever_else_waits_too(bench: Bench) -> None:
    bench.table.events[DAY, 9, 1] = (999, 1)
    other = Claim(ClaimKind.STAN, "s")
    told = bench.write(
        entry(1, claims=(BILL,)),
        entry(2, claims=(BILL, KIOSK)),
        entry(3, claims=(KIOSK, other)),
        entry(2, row="again"),
        entry(9),
    )
    assert [result for number, result in told if number == 2] == [Append.CLAIMED, Append.COMMITTED]


def test_each_of_several_that_give_back_makes_room(bench: Bench) -> None:
    bench.write(entry(1, claims=(BILL,)), entry(2, claims=(BILL2,)))
    bench.table.events[DAY, 9, 1] = (999, 1)
    told = bench.write(
        entry(1, 2, releases=(BILL,)),
        entry(2, 2, releases=(BILL2,)),
        entry(3, claims=(BILL,)),
        entry(4, claims=(BILL2,)),
        entry(9),
    )
    assert sorted(told) == [*committed(1, 2, 3, 4), (9, Append.LOST)]
    assert bench.table.claims == {("bill", "b"): 3, ("bill", "b2"): 4}


def test_what_its_holder_gives_back_in_the_batch_is_not_refused(bench: Bench) -> None:
    bench.write(entry(1, claims=(BILL,)))
    bench.table.events[DAY, 9, 1] = (999, 1)
    told = bench.write(entry(1, 2, releases=(BILL,)), entry(2, claims=(BILL,)), entry(9))
    assert sorted(told) == [(1, Append.COMMITTED), (2, Append.COMMITTED), (9, Append.LOST)]
    assert bench.table.claims == {("bill", "b"): 2}


def test_what_somebody_gives_back_who_does_not_hold_it_stays_taken(bench: Bench) -> None:
    bench.write(entry(1, claims=(BILL,)))
    bench.table.events[DAY, 9, 1] = (999, 1)
    told = bench.write(entry(3, releases=(BILL,)), entry(2, claims=(BILL,)), entry(9))
    assert sorted(told) == [(2, Append.CLAIMED), (3, Append.COMMITTED), (9, Append.LOST)]


def test_one_may_take_again_what_it_gives_back(bench: Bench) -> None:
    bench.write(entry(1, claims=(BILL,)))
    bench.table.events[DAY, 9, 1] = (999, 1)
    told = bench.write(entry(1, 2, releases=(BILL,), claims=(BILL,)), entry(9))
    assert sorted(told) == [(1, Append.COMMITTED), (9, Append.LOST)]


def test_one_that_wants_a_claim_twice_is_its_own_rival(bench: Bench) -> None:
    for claims, second in (((KIOSK, BILL, KIOSK), KIOSK), ((KIOSK, BILL, BILL), BILL)):
        bench.write(entry(1, claims=claims))
        assert [(appended.result, appended.claim) for _, appended in bench.told] == [(Append.CLAIMED, second)]


# ------------------------------------------------------------------------------------------------ the watch
def test_a_server_that_hangs_is_cut_off_and_not_before_its_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        journal, line = bench.journal, Line(bench.table, bench.clock)
        journal._writer = line
        journal._sent_at = bench.clock.time
        bench.append(entry(1))
        bench.clock.time += limits.JOURNAL_ANSWER_S
        journal._watch()
        assert (line.closed, bench.seen.events) == (False, [])
        assert bench.seen.gauges == {"switch_journal_pending": 1}
        bench.clock.time += 0.1
        journal._watch()
        assert (line.closed, bench.seen.events) == (True, [("journal.database_hangs", {"pending": 1})])
        journal._writer = None
        journal._watch()
        journal._sent_at = None
        journal._watch()
        assert len(bench.seen.events) == 2
        timer = journal._watch_timer
        assert timer is not None
        assert timer.when() == pytest.approx(asyncio.get_running_loop().time() + 0.5, abs=0.1)
        monkeypatch.setattr(module, "_WATCH_S", 0.001)
        journal._watch()
        bench.seen.gauges.clear()
        await until(lambda: bool(bench.seen.gauges))

    asyncio.run(main())


def test_parked_entries_are_tried_again_alone_at_their_time(bench: Bench) -> None:
    bench.table.bad = {1, 2}
    bench.write(entry(1), entry(2), entry(3))
    journal = bench.journal

    def waits() -> tuple[int, int]:
        return len(journal._parked), len(journal._retried)

    async def main() -> None:
        journal._stopping = True
        journal._watch()
        assert waits() == (2, 0), "a journal that stops tries nothing again"
        journal._stopping = False
        journal._wake.clear()
        journal._watch()
        assert waits() == (0, 2) and journal._wake.is_set()
        assert {waiting.since for waiting in journal._retried} == {bench.clock.time}
        assert journal._retry_at == bench.clock.time + limits.JOURNAL_PARKED_RETRY_S
        bench.table.bad = {2}
        bench.told.clear()
        bench.table.asked.clear()
        bench.append(entry(4), entry(5))
        await bench.runs()
        rows = [[row["payment_id"] for row in rows] for (rows,) in bench.facts("copy payment_event")]
        assert rows == [[2], [1], [4, 5]]
        assert [number for number, _ in bench.told] == [1, 4, 5]
        journal._stopping = False
        bench.clock.time = journal._retry_at - 0.1
        journal._watch()
        assert waits() == (1, 0)
        bench.clock.time += 0.1
        journal._watch()
        assert waits() == (0, 1) and journal.pending == 1
        journal._parked.append(journal._retried[0])
        bench.clock.time = journal._retry_at
        journal._watch()
        assert waits() == (0, 2), "those that have not had their turn yet keep it"

    asyncio.run(main())


# ------------------------------------------------------------------------------------------------ connecting again
def test_until_there_is_a_line_again_nothing_is_accepted_and_each_reason_is_told_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, other = UnavailableError("database", "away"), StartError("x", "unsafe")
    seen: list[tuple[bool, Any]] = []
    slept: list[float] = []

    def connecting() -> None:
        seen.append((bench.journal._away, bench.journal._writer))
        bench.clock.time += 0.12345

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def main() -> None:
        journal = bench.journal
        former = journal._writer = await bench._connect()
        bench.append(entry(1))
        journal._away = False
        bench.on_connect = connecting
        bench.refused = [away, away, other, asyncpg.UndefinedTableError("no table")]
        monkeypatch.setattr(asyncio, "sleep", sleep)
        await journal._reconnect()
        assert former.closed and journal._writer is bench.lines[1] and journal._away is False
        assert seen == [(True, None)] * 5 and slept == [limits.JOURNAL_RECONNECT_S] * 4
        reasons = [str(away), str(other), "no table"]
        assert bench.seen.events == [
            *(("journal.database_away", {"error": reason, "pending": 1}) for reason in reasons),
            ("journal.database_back", {"away_s": 0.617}),
        ]
        journal._writer = None
        await journal._reconnect()
        assert bench.seen.events[-1] == ("journal.database_back", {"away_s": 0.123})

    asyncio.run(main())


def test_who_stops_or_has_lost_its_lease_connects_no_more(bench: Bench) -> None:
    async def main() -> None:
        journal = bench.journal
        journal._abandoned = True
        with pytest.raises(UnavailableError) as caught:
            await journal._reconnect()
        assert (caught.value.code, caught.value.detail) == (
            "stopped",
            "the journal was stopped before the database came back",
        )
        journal._abandoned, journal._lost = False, True
        with pytest.raises(module._LeaseEndedError):
            await journal._reconnect()
        assert bench.lines == [] and bench.seen.events == []
        journal._lost = False
        bench.refused = [module._LeaseEndedError()]
        with pytest.raises(module._LeaseEndedError):
            await journal._reconnect()
        assert bench.seen.names() == ["worker.lease_lost"] and not journal.may_send

    asyncio.run(main())


def test_a_line_that_is_given_up_or_lost_closes_admission(bench: Bench) -> None:
    journal = bench.journal

    def state() -> tuple[bool, bool]:
        return journal._away, journal._wake.is_set()

    mine, other = Line(bench.table, bench.clock), Line(bench.table, bench.clock)
    journal._writer, journal._away = mine, False
    journal._line_lost(other)
    assert state() == (False, False)
    journal._line_lost(mine)
    assert state() == (True, True)
    journal._away = False
    journal._give_up(mine, LOST)
    assert state() == (True, True) and mine.closed


def test_the_writer_sleeps_until_it_is_woken_and_leaves_when_told(bench: Bench) -> None:
    async def main() -> None:
        journal = bench.journal
        journal._writer = await bench._connect()
        task = asyncio.create_task(journal._write_forever())
        await asyncio.sleep(0.005)
        bench.append(entry(1))
        while not bench.told:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert len(bench.lines) == 1
        journal._writer.terminate()
        journal._wake.set()
        while len(bench.lines) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert bench.steps() == ["copy payment_event"], "idle, and connected again"
        journal._lost = True
        journal._writer.terminate()
        journal._wake.set()
        await asyncio.wait_for(task, 5)
        assert len(bench.lines) == 2, "who has lost its lease connects no more"

    asyncio.run(main())


def test_the_next_batch_is_in_the_socket_before_the_last_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "JOURNAL_BATCH_MAX", 1)
    order: list[str] = []

    async def main() -> None:
        journal = bench.journal
        journal._writer = await bench._connect()
        step = journal._writer._step

        async def noted(name: str, *facts: Any) -> Any:
            order.append("sent")
            await asyncio.sleep(0)
            return await step(name, *facts)

        monkeypatch.setattr(journal._writer, "_step", noted)
        for number in (1, 2, 3):
            journal.append(entry(number), lambda appended: order.append("told"))
        await bench.runs()

    asyncio.run(main())
    assert order == ["sent", "sent", "told", "sent", "told", "told"]
