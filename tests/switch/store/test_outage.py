"""The journal on PostgreSQL when things go wrong: every entry ends exactly once, and as the table says."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from switch import limits
from switch.errors import StartError, UnavailableError
from switch.ops.postgres import EmbeddedPostgres
from switch.ports import Append, Appended, Claim, ClaimKind, JournalEntry
from switch.store.journal import PostgresJournal
from switch.store.migrate import migrate

from .conftest import PostgresStore, Run
from .support import DAY, Flaky, RealClock, Recorder, append, entry, found, opened, outcome, until


class Unlocked(PostgresJournal):
    """Two of these write to one database: what the primary key must stand without the lock."""

    async def _take_lock(self, connection: Any, wait_s: float | None) -> None:
        pass


class Load:
    """Payments of three events each, with claims, ``width`` at once; counts how every entry ended."""

    def __init__(self, journal: PostgresJournal, payments: int, width: int) -> None:
        self.outcomes: Counter[tuple[int, int]] = Counter()
        self.results: Counter[Append] = Counter()
        self.finished = asyncio.Event()
        self._journal = journal
        self._next = 1
        self._open = 0
        self._payments = payments
        for _ in range(width):
            self._start()

    def _start(self) -> None:
        if self._next > self._payments:
            if self._open == 0:
                self.finished.set()
            return
        number, self._next = self._next, self._next + 1
        self._open += 1
        self._step(number, 1)

    def _step(self, number: int, ver: int) -> None:
        opened, bill = Claim(ClaimKind.OPEN, str(number), b"s"), Claim(ClaimKind.BILL, f"bill|{number}")
        keys = tuple(Claim(kind, f"{kind}|{number}") for kind in (ClaimKind.KIOSK, ClaimKind.STAN))
        claims = (*keys, opened, bill) if ver == 1 else ()
        releases = (bill, opened)
        self._journal.append(
            entry(number, ver, claims=claims, releases=releases if ver == 3 else ()),
            lambda appended: self._done(number, ver, appended),
        )

    def _done(self, number: int, ver: int, appended: Appended) -> None:
        self.outcomes[number, ver] += 1
        self.results[appended.result] += 1
        if ver < 3:
            self._step(number, ver + 1)
        else:
            self._open -= 1
            self._start()


async def check(load: Load, store: PostgresStore, payments: int) -> None:
    assert load.results == {Append.COMMITTED: 3 * payments}
    assert set(load.outcomes.values()) == {1}
    rows = await store.fetch("SELECT payment_id, ver FROM switch.payment_event ORDER BY 1, 2")
    assert [(row["payment_id"], row["ver"]) for row in rows] == [
        (number, ver) for number in range(1, payments + 1) for ver in (1, 2, 3)
    ]
    claims = await store.claims()
    assert Counter(kind for kind, _ in claims) == {"kiosk": payments, "stan": payments}


def test_what_waits_goes_into_one_commit(postgres: PostgresStore, run: Run) -> None:
    async def main() -> None:
        async with postgres.journal() as journal:
            load = Load(journal, payments=2000, width=200)
            await load.finished.wait()
            await check(load, postgres, 2000)
            batches = postgres.seen.values["switch_db_batch_rows"]
            assert sum(batches) == 6000
            assert len(batches) < 200
            # One COPY per batch, however many waited: the rows of a batch share their transaction.
            rows = await postgres.fetch("SELECT count(DISTINCT xmin::text) AS n FROM switch.payment_event")
            assert rows[0]["n"] == len(batches)

    run(main())


def test_the_next_batch_is_sent_before_the_last_is_told(postgres: PostgresStore, run: Run) -> None:
    class Traced(PostgresJournal):
        async def _write(self, writer: Any, group: Any) -> None:
            trace.append(("sent", [waiting.entry.payment_id for waiting in group]))
            await super()._write(writer, group)

    trace: list[Any] = []

    async def main() -> None:
        journal = Traced(postgres.dsn, clock=RealClock(), observer=postgres.seen)
        async with opened(journal):
            first = asyncio.get_running_loop().create_future()

            def told(_: Appended) -> None:
                trace.append("told")
                first.set_result(None)

            journal.append(entry(1), told)
            await asyncio.sleep(0)  # the batch of one is taken
            await until(lambda: bool(trace), every_s=0)
            second = append(journal, entry(2))
            await asyncio.gather(first, second)
        assert trace == [("sent", [1]), ("sent", [2]), "told"]

    run(main())


def test_two_writers_of_one_ver_exactly_one_commits(postgres: PostgresStore, run: Run) -> None:
    async def main() -> None:
        journals = [Unlocked(postgres.dsn, clock=RealClock(), observer=postgres.seen) for _ in range(2)]
        first, second = journals
        async with opened(first), opened(second):
            await race(first, second)

    async def race(first: PostgresJournal, second: PostgresJournal) -> None:
        futures = []
        numbers = list(range(1, 1501))
        for chunk in range(0, 1500, 50):
            mine = numbers[chunk : chunk + 50]
            claims = {number: (Claim(ClaimKind.KIOSK, str(number)),) for number in mine}
            futures += [(number, append(first, entry(number, claims=claims[number]))) for number in mine]
            futures += [(number, append(second, entry(number, claims=claims[number]))) for number in reversed(mine)]
            await asyncio.sleep(0.001)
        won: Counter[int] = Counter()
        for number, future in futures:
            result = (await future).result
            assert result in (Append.COMMITTED, Append.LOST)
            won[number] += result is Append.COMMITTED
        assert set(won.values()) == {1}
        assert len(await postgres.rows()) == 1500

    run(main())


@pytest.mark.parametrize("seed", range(8))
def test_a_lost_answer_is_found_out(postgres: PostgresStore, run: Run, seed: int) -> None:
    async def main() -> None:
        journal = Flaky(postgres.dsn, seed, observer=postgres.seen)
        async with opened(journal):
            load = Load(journal, payments=120, width=10)
            await load.finished.wait()
        assert journal.lost > 3
        await check(load, postgres, 120)

    run(main())


def test_a_lost_answer_to_a_foreign_row_is_a_loss(postgres: PostgresStore, run: Run) -> None:
    class Robbed(PostgresJournal):
        async def _write(self, writer: Any, group: Any) -> None:
            if not postgres.seen.counts.get("switch_db_unknown_commits_total"):
                await postgres.foreign(group[0].entry)
                writer.terminate()
                raise asyncpg.ConnectionDoesNotExistError("the line is lost")
            await super()._write(writer, group)

    async def main() -> None:
        journal = Robbed(postgres.dsn, clock=RealClock(), observer=postgres.seen)
        async with opened(journal):
            first, second = append(journal, entry(1)), append(journal, entry(2))
            assert ((await first).result, (await second).result) == (Append.LOST, Append.COMMITTED)

    run(main())


def test_terminated_sessions_under_load(postgres: PostgresStore, run: Run) -> None:
    async def main() -> None:
        async with postgres.journal() as journal:
            load = Load(journal, payments=6000, width=150)
            kills = 0
            while not load.finished.is_set():
                rows = await postgres.fetch(
                    "SELECT pg_terminate_backend(pid) AS done FROM pg_stat_activity "
                    "WHERE datname = current_database() AND application_name = 'gridswitch switch writer'"
                )
                kills += sum(row["done"] for row in rows)
                await asyncio.sleep(0.03)
            await check(load, postgres, 6000)
            assert kills >= 3
            assert postgres.seen.counts["switch_db_unknown_commits_total"] >= 1

    run(main())


def test_the_server_is_killed_and_restarted_under_load(short_dir: Path, run: Run) -> None:
    server = EmbeddedPostgres(short_dir)
    store = PostgresStore(server.start())

    async def main() -> None:
        await migrate(store.dsn)
        async with store.journal() as journal:
            load = Load(journal, payments=20_000, width=100)

            def went_on() -> bool:
                return sum(load.results.values()) >= done + 500 or load.finished.is_set()

            for how in ("backend", "server", "stop", "server", "backend"):
                await asyncio.sleep(0.15)
                done = sum(load.results.values())
                if how == "backend":
                    await _kill_writer(store)  # the server restarts all its sessions by itself
                elif how == "server":
                    assert server.pid is not None
                    os.kill(server.pid, signal.SIGKILL)
                    await asyncio.to_thread(server.start)
                else:
                    await asyncio.to_thread(server.stop)
                    await asyncio.sleep(0.1)
                    assert not journal.accepting
                    await asyncio.to_thread(server.start)
                await until(went_on)
                await until(lambda: journal.accepting)
            await load.finished.wait()
            await check(load, store, 20_000)
            assert "journal.database_back" in store.seen.names()

    try:
        run(main())
    finally:
        server.stop()


async def _kill_writer(store: PostgresStore) -> None:
    rows = await store.fetch("SELECT pid FROM pg_stat_activity WHERE application_name = 'gridswitch switch writer'")
    for row in rows:
        os.kill(row["pid"], signal.SIGKILL)


def test_our_own_session_that_still_runs_is_ended_before_the_re_read(postgres: PostgresStore, run: Run) -> None:
    """The line is lost while the server is in the middle of our COPY: looking at once would see no row."""

    async def main() -> None:
        rival = await asyncpg.connect(postgres.dsn)
        async with postgres.journal() as journal:
            blocked = rival.transaction()
            await blocked.start()
            await rival.execute(
                "INSERT INTO switch.payment_event VALUES "
                f"({DAY}, 1, 1, 'CARD_PENDING', '1', 0, 0, '{{}}', '', NULL, NULL, 999, 1)"
            )
            ours = append(journal, entry(1))
            waits = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE '%writer'"
            for _ in range(1000):
                if await postgres.fetch(waits):
                    break
                await asyncio.sleep(0.01)
            former = journal._writer
            assert former is not None
            former.terminate()
            await until(lambda: journal._writer not in (None, former))
            await blocked.rollback()
            assert (await ours).result is Append.COMMITTED
            assert [row.events for row in await postgres.rows()] == [1]
        await rival.close()

    run(main())


def test_a_server_that_hangs_is_given_up_and_closes_admission(
    postgres: PostgresStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "JOURNAL_ANSWER_S", 0.8)
    monkeypatch.setattr(limits, "ADMISSION_COMMIT_LAG_S", 0.2)

    async def main() -> None:
        rival = await asyncpg.connect(postgres.dsn)
        async with postgres.journal() as journal:
            blocked = rival.transaction()
            await blocked.start()
            await rival.execute("LOCK TABLE switch.payment_event IN ACCESS EXCLUSIVE MODE")
            ours = append(journal, entry(1))
            await asyncio.sleep(0.4)
            assert (journal.accepting, journal.pending) == (False, 1)
            await until(lambda: "journal.database_hangs" in postgres.seen.names())
            await blocked.rollback()
            assert (await ours).result is Append.COMMITTED
            assert journal.accepting
        await rival.close()

    run(main())


@pytest.mark.parametrize("bad", [{"row": "\x00"}, {"body": b"\xff"}, {"amount": 2**70}, {"state": "NO_SUCH_STATE"}])
def test_an_entry_that_cannot_be_written_is_parked_alone(
    postgres: PostgresStore, run: Run, bad: dict[str, Any]
) -> None:
    async def main() -> None:
        async with postgres.journal() as journal:
            futures = [append(journal, entry(number)) for number in range(1, 30)]
            poisoned = append(journal, entry(30, **bad, claims=(Claim(ClaimKind.KIOSK, "30"),)))
            futures += [append(journal, entry(number)) for number in range(31, 60)]
            assert {(await future).result for future in futures} == {Append.COMMITTED}
            assert await outcome(journal, entry(60)) is Append.COMMITTED
            assert not poisoned.done() and journal.pending == 1 and journal.accepting
            refused = [facts for name, facts in postgres.seen.events if name == "journal.entry_refused"]
            assert {facts["payment_id"] for facts in refused} == {30}
            assert await postgres.claims() == {}

    run(main())


def test_a_parked_entry_is_tried_again_and_many_close_admission(
    postgres: PostgresStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "JOURNAL_PARKED_RETRY_S", 0.2)

    async def main() -> None:
        await postgres.execute("SELECT switch.ensure_partition($1)", DAY)
        await postgres.execute(f"ALTER TABLE switch.payment_event_{DAY} ADD CONSTRAINT bug CHECK (amount < 1000000)")
        async with postgres.journal() as journal:
            futures = [append(journal, entry(number, amount=2_000_000)) for number in range(1, 12)]
            await until(lambda: not journal.accepting)
            await postgres.execute(f"ALTER TABLE switch.payment_event_{DAY} DROP CONSTRAINT bug")
            assert {(await future).result for future in futures} == {Append.COMMITTED}
            assert journal.accepting and journal.pending == 0

    run(main())


def test_a_full_disk_is_an_outage_not_a_refusal(postgres: PostgresStore, run: Run) -> None:
    class Full(PostgresJournal):
        left = 4

        async def _write(self, writer: Any, group: Any) -> None:
            self.left -= 1
            if self.left > 0:
                raise asyncpg.DiskFullError("No space left on device")
            await super()._write(writer, group)

    async def main() -> None:
        journal = Full(postgres.dsn, clock=RealClock(), observer=postgres.seen)
        async with opened(journal):
            futures = [append(journal, entry(number)) for number in range(1, 20)]
            assert {(await future).result for future in futures} == {Append.COMMITTED}
            assert "journal.entry_refused" not in postgres.seen.names()

    run(main())


def test_a_day_without_a_partition_gets_one(postgres: PostgresStore, run: Run) -> None:
    async def main() -> None:
        # A report that runs for hours holds its lock on the table all the time.
        reader = await asyncpg.connect(postgres.dsn)
        report = reader.transaction()
        await report.start()
        await reader.fetch("SELECT count(*) FROM switch.payment_event")
        async with postgres.journal() as journal:
            futures = [append(journal, entry(day, opened_on=day)) for day in (20200101, 20200102, 20260231, DAY)]
            futures.append(append(journal, entry(9, claims=(Claim(ClaimKind.KIOSK, "9"),), opened_on=20301231)))
            assert {(await future).result for future in futures} == {Append.COMMITTED}
        await report.rollback()
        await reader.close()

    run(main())


def test_events_cannot_be_changed(postgres: PostgresStore, run: Run) -> None:
    async def main() -> None:
        async with postgres.journal() as journal:
            await outcome(journal, entry(1))
        for statement in (
            "UPDATE switch.payment_event SET amount = 1",
            f"UPDATE switch.payment_event_{DAY} SET amount = 1",
            "DELETE FROM switch.payment_event",
            "TRUNCATE switch.payment_event",
            f"TRUNCATE switch.payment_event_{DAY}",
        ):
            with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
                await postgres.execute(statement)

    run(main())


def test_look_ups_and_strays_wait_for_the_database(postgres: PostgresStore, run: Run) -> None:
    async def main() -> None:
        async with postgres.journal() as journal:
            claim = Claim(ClaimKind.KIOSK, "1")
            await outcome(journal, entry(1, claims=(claim,)))
            assert await found(journal, claim) is not None
            await postgres.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name = 'gridswitch switch reader'"
            )
            assert (await found(journal, claim)).payment_id == 1

    run(main())


def test_stop_commits_what_waits(postgres: PostgresStore, run: Run) -> None:
    async def main() -> None:
        async with postgres.journal() as journal:
            futures = [append(journal, entry(number)) for number in range(1, 2000)]
            assert await journal.stop() == 0
            assert {future.result().result for future in futures} == {Append.COMMITTED}
            assert not journal.accepting

    run(main())


def test_stop_during_an_outage_gives_up_in_time(short_dir: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "JOURNAL_STOP_S", 0.5)
    server = EmbeddedPostgres(short_dir)
    dsn = server.start()

    async def main() -> None:
        await migrate(dsn)
        journal = PostgresJournal(dsn, clock=RealClock(), observer=Recorder())
        await journal.start()
        await asyncio.to_thread(server.stop)
        future = append(journal, entry(1))
        async with asyncio.timeout(3):
            assert await journal.stop() == 1
        assert not future.done()

    try:
        run(main())
    finally:
        server.stop()


def test_a_database_that_would_lose_commits_is_refused(postgres: PostgresStore, run: Run) -> None:
    async def main() -> None:
        name = postgres.dsn.split("@/")[1].split("?")[0]
        await postgres.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
        journal = PostgresJournal(postgres.dsn, clock=RealClock(), observer=Recorder())
        with pytest.raises(StartError, match="synchronous_commit is off"):
            await journal.start()

    run(main())


def test_start_without_a_schema_or_a_server_says_so(
    empty_database: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DATABASE_START_WAIT_S", 0.3)

    async def main() -> None:
        with pytest.raises(StartError, match="run the migrations"):
            await PostgresJournal(empty_database, clock=RealClock(), observer=Recorder()).start()
        nowhere = "postgresql://gridswitch@/gridswitch?host=/tmp/gs-no-such-folder"
        with pytest.raises(UnavailableError, match="cannot be reached"):
            await PostgresJournal(nowhere, clock=RealClock(), observer=Recorder()).start()
        no_such = empty_database.replace("/gridswitch?", "/no_such?")
        with pytest.raises(StartError, match="refuses us"):
            await PostgresJournal(no_such, clock=RealClock(), observer=Recorder()).start()

    run(main())


def test_more_than_the_bound_is_refused_aloud(
    postgres: PostgresStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "JOURNAL_PENDING_MAX", 100)

    async def main() -> None:
        async with postgres.journal() as journal:
            futures = [append(journal, entry(number)) for number in range(1, 51)]
            assert not journal.accepting  # half is for payments that have begun
            futures += [append(journal, entry(number)) for number in range(51, 101)]
            with pytest.raises(UnavailableError):
                append(journal, entry(101))
            assert {(await future).result for future in futures} == {Append.COMMITTED}
            assert journal.accepting

    run(main())


def test_a_batch_is_bounded_in_bytes(postgres: PostgresStore, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    class Measured(PostgresJournal):
        async def _write(self, writer: Any, group: Any) -> None:
            sizes.append(sum(len(waiting.entry.body) for waiting in group))
            await super()._write(writer, group)

    def big(number: int) -> JournalEntry:
        return entry(number, body=b'{"x":"%s"}' % (b"y" * 100_000))

    async def main() -> None:
        journal = Measured(postgres.dsn, clock=RealClock(), observer=postgres.seen)
        async with opened(journal):
            futures = [append(journal, big(number)) for number in range(1, 20)]
            assert {(await future).result for future in futures} == {Append.COMMITTED}
        assert max(sizes) <= limits.JOURNAL_BATCH_BYTES_MAX

    run(main())
