"""The rules of a lease one by one, without waiting: what is asked of the database in which order, what follows from
each answer, and what is told. What PostgreSQL makes of the questions is for ``test_leases``."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from typing import Any

import asyncpg
import pytest

from switch import limits
from switch.errors import UnavailableError
from switch.limits import SHORT
from switch.ports import Append, Appended, Claim, ClaimKind
from switch.store import journal as module
from switch.store.journal import PostgresJournal
from switch.store.memory import Fault, MemoryDatabase, MemoryJournal
from switch.store.pool import BY_KEY
from switch.store.queries import QUERY

from .support import DAY, Recorder, entry

NAMES = {text: name for name, text in QUERY.items()}
LOCK = 0x6772_0002
TTL, MARGIN, BEAT = SHORT.lease_ttl_s, SHORT.lease_margin_s, SHORT.lease_heartbeat_s


class Hand:
    """A clock that stands until it is moved, with the loop's ``call_later``."""

    def __init__(self) -> None:
        self.time = 100.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def now(self) -> float:
        return self.time

    def wall_us(self) -> int:
        return 1

    def call_later(self, delay: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.time + delay, next(self._order), call))

    def passes(self, seconds: float) -> None:
        until = self.time + seconds
        while self._due and self._due[0][0] <= until:
            self.time, _, call = heapq.heappop(self._due)
            call()
        self.time = until


# ------------------------------------------------------------------------------------------------ in memory
class Node:
    """A journal in memory whose commits and renewals take 2 ms."""

    def __init__(self, hand: Hand, database: MemoryDatabase, **options: Any) -> None:
        self.seen = Recorder()
        self.lost = 0
        self.journal = MemoryJournal(
            database,
            clock=hand,
            observer=self.seen,
            call_later=hand.call_later,
            latency=lambda: 0.002,
            times=SHORT,
            **options,
        )
        self.journal.on_lost = self._lost
        self.journal.open()
        self.told: list[Append] = []

    def _lost(self) -> None:
        self.lost += 1

    def write(self, number: int, ver: int = 1) -> None:
        claims = (Claim(ClaimKind.OPEN, str(number), b"card"),) if ver == 1 else ()
        self.journal.append(entry(number, ver, claims=claims), lambda appended: self.told.append(appended.result))

    def takes(self, limit: int = 10) -> list[int]:
        return [stored.payment_id for stored in asyncio.run(self.journal.take_over(limit))]


def falls_asleep(node: Node) -> Callable[[], None]:
    """Its renewals stop; gives what wakes it again."""
    real = node.journal._renew
    setattr(node.journal, "_renew", lambda: None)  # noqa: B010 - a method, for mypy
    return real


def test_a_lease_runs_from_the_question_and_is_asked_for_at_each_heartbeat() -> None:
    hand, database = Hand(), MemoryDatabase()
    node = Node(hand, database, instance="one", proof="p")
    journal = node.journal
    assert journal.epoch == 1 and journal.accepting and journal._away is False
    assert Node(hand, database).journal.epoch == 2
    assert database.workers[1].instance == "one" and database.workers[1].proof == "p"
    assert journal.lease_ends_at == 100.0 + TTL
    hand.passes(BEAT)
    assert journal.lease_ends_at == 100.0 + TTL, "asked, not answered"
    hand.passes(0.001)
    assert database.workers[1].renewed_at == 100.0 + BEAT + 0.001
    assert journal.lease_ends_at == 100.0 + TTL
    hand.passes(0.0011)
    assert journal.lease_ends_at == pytest.approx(100.0 + BEAT + TTL)
    hand.passes(10 * TTL)
    assert journal.may_send and node.lost == 0
    assert database.workers[1].renewed_at > hand.time - 2 * BEAT


def test_a_dead_or_ended_worker_asks_no_more() -> None:
    hand, database = Hand(), MemoryDatabase()
    dead, ended = Node(hand, database), Node(hand, database)
    dead.journal.crash()
    at = database.workers[1].renewed_at
    hand.passes(5 * BEAT)
    assert database.workers[1].renewed_at == at and dead.lost == 0
    database.workers[2].ended_by = 1
    hand.passes(2 * BEAT)
    assert ended.lost == 1
    at = database.workers[2].renewed_at
    database.workers[2].ended_by = 0
    hand.passes(5 * BEAT)
    assert database.workers[2].renewed_at == at and not ended.journal.may_send
    assert hand._due == [], "neither will ever ask again"


def test_a_question_under_way_when_the_process_dies_renews_nothing() -> None:
    hand, database = Hand(), MemoryDatabase()
    node = Node(hand, database)
    hand.passes(BEAT + 0.0005)
    node.journal.crash()
    hand.passes(1.0)
    assert database.workers[1].renewed_at == 100.0


def test_while_the_database_is_away_nothing_is_renewed_and_then_it_is() -> None:
    hand, database = Hand(), MemoryDatabase()
    node = Node(hand, database, fault=lambda number: Fault(True, 3 * BEAT) if number == 1 else None)
    node.write(1)
    hand.passes(0.0015)
    assert not node.journal.accepting
    with pytest.raises(UnavailableError) as caught:
        node.takes()
    assert (caught.value.code, caught.value.detail) == ("database", "the database is away")
    hand.passes(2 * BEAT)
    assert database.workers[1].renewed_at == 100.0
    hand.passes(3 * BEAT)
    assert database.workers[1].renewed_at > 100.0 + 3 * BEAT
    assert node.told == [Append.COMMITTED] and node.journal.may_send


def test_a_lease_is_over_after_its_time_and_margin_and_not_at_that_very_moment() -> None:
    hand, database = Hand(), MemoryDatabase()
    sleeper, heir = Node(hand, database), Node(hand, database)
    sleeper.write(1)
    hand.passes(0.01)
    falls_asleep(sleeper)
    hand.passes(BEAT + 0.01)  # the renewal that was due goes nowhere
    last = database.workers[1].renewed_at
    hand.passes(last + TTL + MARGIN - hand.time)
    assert not sleeper.journal.may_send
    assert heir.takes() == []
    hand.passes(0.001)
    assert heir.takes() == [1]
    assert heir.seen.counts == {"switch_takeovers_total": 1}
    assert heir.seen.events == [("worker.ended", {"ended": 1, "by": 2})]
    assert database.workers[1].ended_by == 2
    assert heir.takes() == [] and heir.seen.counts == {"switch_takeovers_total": 1}


def test_who_was_ended_is_told_once_and_takes_nothing() -> None:
    hand, database = Hand(), MemoryDatabase()
    sleeper, heir = Node(hand, database), Node(hand, database)
    sleeper.write(1)
    hand.passes(0.01)
    wakes = falls_asleep(sleeper)
    hand.passes(TTL + MARGIN + 2 * BEAT)
    assert heir.takes() == [1]
    assert sleeper.takes() == [] and sleeper.journal.epoch == 1, "it does not know yet, and inherits nothing"
    sleeper.write(1, 2)
    wakes()
    hand.passes(0.0021)
    assert sleeper.seen.events == [("worker.lease_lost", {"epoch": 1, "pending": 1})]
    assert sleeper.lost == 1 and sleeper.told == [Append.COMMITTED]
    assert not sleeper.journal.accepting and not sleeper.journal.may_send
    sleeper.journal._lose()
    hand.passes(1.0)
    assert sleeper.lost == 1 and len(sleeper.seen.events) == 1
    sleeper.journal.crash()
    sleeper.journal._lose()
    assert sleeper.lost == 1


def test_who_was_ended_is_no_heir_of_itself() -> None:
    hand, database = Hand(), MemoryDatabase()
    ended, heir = Node(hand, database), Node(hand, database)
    ended.write(1)
    hand.passes(0.01)
    database.workers[1].ended_by = 2  # and nobody has taken its payments yet
    assert ended.takes() == []
    assert database.claims[ClaimKind.OPEN, "1"].owner == 1
    assert heir.takes() == [1]


def test_a_dead_process_is_not_told_that_it_lost() -> None:
    hand, database = Hand(), MemoryDatabase()
    node = Node(hand, database)
    node.journal.crash()
    node.journal._lose()
    hand.passes(1.0)
    assert node.lost == 0 and node.seen.events == []


def test_an_heir_takes_in_order_within_its_limit_and_only_of_the_ended() -> None:
    hand, database = Hand(), MemoryDatabase()
    former, other, heir = Node(hand, database, proof="p"), Node(hand, database), Node(hand, database, proof="p")
    for number in (9, 4, 7):
        former.write(number)
    other.write(5)
    hand.passes(0.01)
    assert heir.takes(2) == [4, 7]
    assert heir.seen.events == [("worker.ended", {"ended": 1, "by": 3})]
    assert heir.takes(2) == [9] and heir.takes(2) == []
    assert database.workers[2].ended_by == 0
    assert {number: database.claims[ClaimKind.OPEN, str(number)].owner for number in (4, 5, 7, 9)} == {
        4: 3,
        5: 2,
        7: 3,
        9: 3,
    }


def test_no_proof_proves_nothing() -> None:
    hand, database = Hand(), MemoryDatabase()
    first, second = Node(hand, database), Node(hand, database)
    first.write(1)
    hand.passes(0.01)
    assert second.takes() == [] and database.workers[1].ended_by == 0


def test_without_a_loop_no_lease_runs_out() -> None:
    journal = MemoryJournal(MemoryDatabase(), clock=Hand(), observer=Recorder(), times=SHORT)
    journal.open()
    assert journal.lease_ends_at == float("inf") and journal.may_send


# ------------------------------------------------------------------------------------------------ on PostgreSQL
class Session:
    """A session that notes what it is asked and answers from a script: a list of answers for each query, the last one
    for ever. An answer that is an exception is raised; ``HANG`` never comes."""

    def __init__(self, script: Mapping[str, Any], asked: list[Any]) -> None:
        self._script = script
        self._asked = asked
        self.closed = False
        self.listeners: list[Any] = []

    async def _ask(self, query: str, arguments: tuple[Any, ...]) -> Any:
        name = NAMES[query]
        self._asked.append((name, *arguments))
        answers = self._script.get(name, [None])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer is HANG:
            await asyncio.sleep(60)
        if isinstance(answer, BaseException):
            raise answer
        return answer() if callable(answer) else answer

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        return await self._ask(query, arguments)

    async def fetch(self, query: str, *arguments: Any) -> Any:
        return await self._ask(query, arguments) or []

    async def execute(self, query: str, *arguments: Any, **named: float) -> Any:
        return await self._ask(query, (*arguments, named) if named else arguments)

    def is_closed(self) -> bool:
        return self.closed

    def terminate(self) -> None:
        self.closed = True

    def add_termination_listener(self, listener: Any) -> None:
        self.listeners.append(listener)


HANG = object()


class Bench:
    """A journal whose sessions are scripted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, script: Mapping[str, Any], **options: Any) -> None:
        monkeypatch.setattr(limits, "JOURNAL_RECONNECT_S", 0.001)
        monkeypatch.setattr(module, "connect", self._connect)
        self.script = {name: list(answers) for name, answers in script.items()}
        self.hand = Hand()
        self.seen = Recorder()
        self.asked: list[Any] = []
        self.connected: list[Any] = []
        self.sessions: list[Session] = []
        self.refused: list[BaseException] = []
        self.journal = PostgresJournal(
            "dsn", clock=self.hand, observer=self.seen, name="gs", times=SHORT, proof="proof", instance="one"
        )
        self.journal.epoch = options.get("epoch", 7)

    async def _connect(self, dsn: str, name: str, settings: Mapping[str, str]) -> Session:
        self.connected.append((dsn, name, settings))
        if self.refused:
            raise self.refused.pop()
        self.sessions.append(Session(self.script, self.asked))
        return self.sessions[-1]

    def since(self) -> list[Any]:
        asked = self.asked[:]
        self.asked.clear()
        return asked


def event(number: int, ver: int = 1) -> dict[str, Any]:
    values = {"payment_id": number, "opened_on": DAY, "ver": ver, "state": "CARD_PENDING", "body": b"{}"}
    return {**values, "link": b"", "sealed": b"s"}


CONDEMN = ("worker_condemn", 7, "proof")


def test_a_look_without_anything_to_inherit_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, {})
    assert asyncio.run(bench.journal.take_over(10)) == []
    look = [CONDEMN, ("worker_condemned",), ("payment_take_over", 7, 10), ("worker_inherited",)]
    assert bench.since() == look
    assert bench.connected == [("dsn", "gs heir", BY_KEY)]
    asyncio.run(bench.journal.take_over(10))
    assert len(bench.connected) == 1
    bench.sessions[0].terminate()
    asyncio.run(bench.journal.take_over(10))
    assert len(bench.connected) == 2 and bench.seen.names() == []


def test_the_condemned_are_ended_before_their_payments_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [event(3), event(3, 2), event(5)]
    script = {
        "worker_condemned": [[{"epoch": 2}, {"epoch": 4}]],
        "writer_lock": [True],
        "worker_end": [2, None],
        "payment_take_over": [rows],
    }
    bench = Bench(monkeypatch, script)
    taken = asyncio.run(bench.journal.take_over(10))
    assert [(stored.payment_id, stored.ver) for stored in taken] == [(3, 2), (5, 1)]
    ends = [[("writer_lock", LOCK, epoch), ("worker_end", epoch), ("writer_unlock", LOCK, epoch)] for epoch in (2, 4)]
    assert bench.since() == [CONDEMN, ("worker_condemned",), *ends[0], *ends[1], ("payment_take_over", 7, 10)]
    # The second was ended by somebody else in between.
    assert bench.seen.counts == {"switch_takeovers_total": 1}
    assert bench.seen.events == [("worker.ended", {"ended": 2, "by": 7})]


@pytest.mark.parametrize("gone", [True, False])
def test_a_session_that_holds_the_lock_is_ended_first(monkeypatch: pytest.MonkeyPatch, gone: bool) -> None:
    script = {"worker_condemned": [[{"epoch": 2}]], "writer_lock": [False, gone], "worker_end": [2]}
    bench = Bench(monkeypatch, script)
    asyncio.run(bench.journal.take_over(10))
    asked = bench.since()[2:-2]
    tried = [("writer_lock", LOCK, 2), ("writer_end", LOCK, 2), ("writer_lock", LOCK, 2)]
    assert asked == ([*tried, ("worker_end", 2), ("writer_unlock", LOCK, 2)] if gone else tried)
    assert bench.seen.names() == (["worker.ended"] if gone else [])


def test_who_loses_its_own_lease_meanwhile_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, {"payment_take_over": [[event(3)]]})
    bench.journal._lost = True
    assert asyncio.run(bench.journal.take_over(10)) == []
    assert bench.since() == [CONDEMN, ("worker_condemned",)]


@pytest.mark.parametrize("error", [OSError("gone"), asyncpg.InterfaceError("gone"), asyncpg.UniqueViolationError("x")])
def test_an_outage_in_the_middle_of_a_look_is_said_so(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    bench = Bench(monkeypatch, {"worker_condemned": [error, None]})
    with pytest.raises(UnavailableError) as caught:
        asyncio.run(bench.journal.take_over(10))
    assert (caught.value.code, caught.value.detail) == (
        "database",
        f"PostgreSQL was lost: {type(error).__name__}",
    )
    assert caught.value.__cause__ is error
    assert bench.sessions[0].closed
    asyncio.run(bench.journal.take_over(10))
    assert len(bench.sessions) == 2


def test_a_look_that_cannot_even_connect_or_hangs_is_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "JOURNAL_ANSWER_S", 0.01)
    bench = Bench(monkeypatch, {"worker_condemn": [HANG]})
    bench.refused = [OSError("refused")]
    for _ in range(2):
        with pytest.raises(UnavailableError, match="PostgreSQL was lost"):
            asyncio.run(bench.journal.take_over(10))
    assert bench.sessions[0].closed


def run_renewals(bench: Bench, beats: int, between: Callable[[int], None] = lambda beat: None) -> list[float]:
    """The task through so many heartbeats; gives how long it slept after each."""
    slept: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        if seconds == 60:
            await real(seconds)
            return
        slept.append(seconds)
        between(len(slept))
        if len(slept) == beats:
            raise asyncio.CancelledError
        await real(0)

    async def main() -> None:
        patch = pytest.MonkeyPatch()
        patch.setattr(asyncio, "sleep", sleep)
        try:
            task = asyncio.create_task(bench.journal._renew_forever())
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()
        finally:
            patch.undo()

    asyncio.run(main())
    return slept


def test_a_lease_counts_from_before_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, {})

    def held() -> int:
        bench.hand.time += 0.25
        return 7

    bench.script["worker_renew"] = [held]
    assert run_renewals(bench, 2) == [BEAT, BEAT]
    assert bench.since() == [("worker_renew", 7), ("worker_renew", 7)]
    assert bench.connected == [("dsn", "gs lease", BY_KEY)]
    assert bench.journal.lease_ends_at == 100.25 + TTL
    assert bench.journal.renewed_in_s == 0.25
    assert bench.seen.gauges == {"switch_lease_margin_seconds": TTL - MARGIN - 0.25}
    assert bench.seen.events == [] and bench.sessions[0].closed


def test_one_slow_renewal_may_be_a_pause_of_ours_two_are_a_slow_database(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, {})

    def after(seconds: float) -> Callable[[], int]:
        def held() -> int:
            bench.hand.time += seconds
            return 7

        return held

    bench.script["worker_renew"] = [after(seconds) for seconds in (0.75, 0.25, 0.75, 1.0, 0.25)]
    seen: list[float] = []
    run_renewals(bench, 5, lambda beat: seen.append(bench.journal.renewed_in_s))
    assert seen == [0.0, 0.25, 0.25, 0.75, 0.25]


def test_who_is_no_longer_held_is_lost_and_stops_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, {"worker_renew": [7, None]})
    lost: list[int] = []
    bench.journal.on_lost = lambda: lost.append(1)
    assert run_renewals(bench, 9) == [BEAT]
    assert bench.since() == [("worker_renew", 7)] * 2
    assert lost == [1] and not bench.journal.may_send and bench.sessions[0].closed
    assert bench.seen.events == [("worker.lease_lost", {"level": "error", "epoch": 7, "pending": 0})]
    assert run_renewals(bench, 9) == [], "it never asks again"
    assert bench.since() == []


def test_whatever_a_renewal_meets_the_next_one_has_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, {"worker_renew": [7, KeyError("state"), HANG, 7]})
    bench.journal._times = replace(SHORT, lease_ttl_s=0.04, lease_heartbeat_s=0.005, lease_margin_s=0.01)
    bench.refused = [OSError("refused")]
    assert run_renewals(bench, 5) == [0.005] * 5
    errors = [facts["error"] for name, facts in bench.seen.events if name == "journal.lease_not_renewed"]
    assert errors == ["OSError('refused')", "KeyError('state')", "TimeoutError()"]
    assert len(bench.seen.events) == 3
    assert [session.closed for session in bench.sessions] == [True, True, True]
    assert len(bench.connected) == 4


def test_a_line_that_closed_by_itself_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, {"worker_renew": [7]})
    run_renewals(bench, 3, lambda beat: bench.sessions[-1].terminate() if beat == 1 else None)
    assert len(bench.sessions) == 2 and bench.seen.events == []


def test_losing_ends_the_writer_wakes_it_and_tells_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        bench = Bench(monkeypatch, {})
        journal = bench.journal
        lost: list[int] = []
        journal.on_lost = lambda: lost.append(1)
        journal.lease_ends_at = 1000.0
        journal._away = False
        assert (journal.accepting, journal.may_send) == (True, True)
        journal._writer = Session({}, [])
        unanswered: list[Appended] = []
        journal.append(entry(1), unanswered.append)
        journal._wake.clear()
        journal._lose()
        assert lost == [], "not inside whatever found it out"
        assert journal._writer.closed and journal._wake.is_set()
        assert not journal.accepting and not journal.may_send and journal._away
        journal._lose()
        await asyncio.sleep(0)
        assert lost == [1] and unanswered == []
        facts = {"level": "error", "epoch": 7, "pending": 1}
        assert bench.seen.events == [("worker.lease_lost", facts)]

    asyncio.run(main())


START = ("worker_start", "gs", "one", "proof", TTL + MARGIN)
OPEN = {"worker_start": [5], "writer_lock": [True], "worker_in_office": [True]}


def test_a_writer_takes_its_epoch_once_and_its_lock_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        bench = Bench(monkeypatch, OPEN, epoch=0)
        journal = bench.journal

        def started() -> int:
            bench.hand.time += 1.0
            return 5

        bench.script["worker_start"] = [started]
        writer = await journal._connect_writer()
        assert bench.since() == [START, ("writer_lock", LOCK, 5), ("worker_in_office", 5)]
        assert bench.connected == [("dsn", "gs writer", BY_KEY)]
        assert (journal.epoch, journal.lease_ends_at) == (5, 100.0 + TTL)
        assert writer is bench.sessions[0] and writer.listeners == [journal._line_lost]
        again = await journal._connect_writer()
        assert bench.since() == [("writer_lock", LOCK, 5), ("worker_in_office", 5)]
        assert not writer.closed and not again.closed

    asyncio.run(main())


def test_our_own_old_session_is_ended_until_the_lock_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, OPEN | {"writer_lock": [False, False, True]})
    asyncio.run(bench.journal._connect_writer())
    tried = [("writer_lock", LOCK, 7), ("writer_end", LOCK, 7)]
    assert bench.since() == [*tried, *tried, ("writer_lock", LOCK, 7), ("worker_in_office", 7)]


def test_who_was_ended_opens_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, OPEN | {"worker_in_office": [None]})
    with pytest.raises(module._LeaseEndedError):
        asyncio.run(bench.journal._connect_writer())
    assert bench.sessions[0].closed and bench.sessions[0].listeners == []


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (asyncpg.UndefinedTableError("no table"), asyncpg.UndefinedTableError),
        (asyncpg.InsufficientPrivilegeError("no"), UnavailableError),
        (OSError("gone"), UnavailableError),
        (KeyError("ours"), KeyError),
        (HANG, UnavailableError),
    ],
)
def test_a_session_that_cannot_be_had_is_not_left_open(
    monkeypatch: pytest.MonkeyPatch, error: Any, raised: type[Exception]
) -> None:
    monkeypatch.setattr(limits, "JOURNAL_ANSWER_S", 0.01)
    bench = Bench(monkeypatch, OPEN | {"worker_start": [error]}, epoch=0)
    with pytest.raises(raised) as caught:
        asyncio.run(bench.journal._connect_writer())
    assert bench.sessions[0].closed
    if isinstance(caught.value, UnavailableError):
        lost = "TimeoutError" if error is HANG else type(error).__name__
        assert (caught.value.code, caught.value.detail) == ("database", f"PostgreSQL was lost: {lost}")
        assert caught.value.__cause__ is not None


@pytest.mark.parametrize("why", ["lost", "pending", "closed"])
def test_who_must_not_resign_does_not(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    async def main() -> None:
        bench = Bench(monkeypatch, {})
        writer = Session({}, bench.asked)
        if why == "lost":
            bench.journal._lost = True
        elif why == "pending":
            bench.journal.append(entry(1), lambda appended: None)
        else:
            writer.terminate()
        await bench.journal._resign(writer)
        assert bench.since() == []

    asyncio.run(main())


def test_a_resignation_has_little_time_and_may_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        bench = Bench(monkeypatch, {})
        await bench.journal._resign(Session({}, bench.asked))
        assert bench.since() == [("worker_resign", 7, {"timeout": limits.CONNECT_TIMEOUT_S})]
        for error in (OSError("gone"), asyncpg.AdminShutdownError("stopping")):
            await bench.journal._resign(Session({"worker_resign": [error]}, bench.asked))
            assert bench.seen.events.pop() == ("journal.not_resigned", {"error": repr(error)})
        assert bench.seen.events == []

    asyncio.run(main())


def test_the_margin_of_a_lease_is_not_sent_in(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, {})
    bench.journal.lease_ends_at = 100.0 + MARGIN
    assert not bench.journal.may_send, "the margin belongs to nobody"
    bench.journal.lease_ends_at += 0.001
    assert bench.journal.may_send
