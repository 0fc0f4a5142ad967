"""The journal on PostgreSQL: one connection writes, everything that waits goes into the next commit.

    append ──► queue ──► batch ──► COPY [claims] COMMIT ──► done, done, done …
                 ▲                        │
                 └── next batch is sent ──┘ before the last one's completions run

What can go wrong with a batch, and what follows:

    a row exists already     everything of the batch is undone; one look tells the losers, the rest is sent again
    a row is refused         a fault of ours; halves are tried until it is alone, then it is parked and reported
    no answer, line lost     unknown: that session is ended for sure, then every row is looked up by its key

A commit is never cancelled and its outcome never guessed. "Ended for sure" is an advisory lock, one for each worker:
the session that writes holds it, so once a new session has it, the old one can neither commit nor be committing, and
a row that is not there now will not appear later.

Any number of workers write to one database. Each renews a lease; whoever finds another's lease over ends that worker:
marks its row (so it can open no other session), takes its lock (so the one it had is gone), and only then reads its
payments.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import asyncpg

from switch import limits
from switch.errors import StartError, UnavailableError
from switch.limits import STANDARD, TimeProfile
from switch.machines.days import day_after
from switch.model.payment import StoredPayment
from switch.ports import (
    GIVEN_BACK,
    Append,
    Appended,
    Claim,
    ClaimKind,
    Clock,
    Closed,
    Found,
    JournalEntry,
    Observer,
    Stray,
)
from switch.store.fold import fold
from switch.store.pool import BROKEN, BY_KEY, Connection, close, connect, is_outage
from switch.store.queries import QUERY

_LOCK = 0x6772_0002  # "gr" 2: with an epoch, the one session that writes for it
_EVENT_COLUMNS = [
    *("opened_on", "payment_id", "ver", "state", "row", "wall_us", "amount", "body", "link", "attempt", "ledger"),
    *("writer_epoch", "writer_seq"),
]
# Looked up once: an attribute of an enum costs more than what is done with it.
_KIOSK: Final = ClaimKind.KIOSK
_STAN: Final = ClaimKind.STAN
_OPEN: Final = ClaimKind.OPEN
_BILL: Final = ClaimKind.BILL
_NO_CLAIMS: Final[list[Sequence[Any]]] = [()] * 17
_PARTS: Final = 1_000  # rows of one entry in one table, at most: more than bills on one screen
_STRAY_COLUMNS = ["peer", "kind", "key", "detail", "wall_us"]
_ROW_OVERHEAD = 256  # bytes of an event that its body, attempt and ledger do not count
_WATCH_S = 0.5
_PARTITION_CHECK_S = 3600.0
_FINDS_AT_ONCE = 64

_EventKey = tuple[int, int, int]
_ClaimKey = tuple[str, str]
_COMMITTED = Appended(Append.COMMITTED)
_LOST = Appended(Append.LOST)


class _Waiting:
    """An entry on its way, with the number that tells our row from a foreign one."""

    __slots__ = ("done", "entry", "seq", "since", "size")

    def __init__(self, entry: JournalEntry, done: Callable[[Appended], None], seq: int, since: float) -> None:
        self.entry = entry
        self.done = done
        self.seq = seq
        self.since = since
        self.size = _ROW_OVERHEAD + len(entry.body) + len(entry.attempt or b"") + len(entry.ledger or b"")

    @property
    def key(self) -> _EventKey:
        return self.entry.opened_on, self.entry.payment_id, self.entry.ver


_Settled = list[tuple[_Waiting, Appended]]
_Step = Callable[[Connection, list[_Waiting], _Settled], Awaitable[list[list[_Waiting]]]]


class _LeaseEndedError(Exception):
    """Another worker has ended this one: nothing is ours any more."""


class PostgresJournal:
    """``ports.LeasedJournal`` on PostgreSQL. Use it from the loop's thread only.

    Args:
        dsn: Database with the schema of ``migrations/``.
        name: Of this process, for ``switch.worker`` and ``pg_stat_activity``.
        times: Of the lease.
        instance: Name of the switch in its configuration.
        proof: Names a lock that this process holds as long as it lives (``runtime.instance``). Who holds it now knows
            that its former holder is dead and need not wait for that one's lease to run out.
    """

    copy_from = limits.JOURNAL_COPY_FROM

    def __init__(
        self,
        dsn: str,
        *,
        clock: Clock,
        observer: Observer,
        name: str = "switch",
        times: TimeProfile = STANDARD,
        instance: str = "",
        proof: str = "",
    ) -> None:
        self.epoch = 0
        self.on_lost: Callable[[], None] = lambda: None
        self.lease_ends_at = 0.0  # monotonic
        self._renewals = deque((0.0, 0.0), maxlen=2)  # seconds that the last ones of the lease took
        self._times = times
        self._instance = instance
        self._proof = proof
        self._lost = False
        self._heir: Connection | None = None  # looks after other workers
        self._dsn = dsn
        self._name = name
        self._clock = clock
        self._observer = observer
        self._seq = 0

        self._queue: deque[_Waiting] = deque()
        self._batch: list[_Waiting] = []
        self._parked: list[_Waiting] = []  # refused for good, as far as we know
        self._retried: list[_Waiting] = []  # parked ones whose turn has come again
        self._writer: Connection | None = None
        self._sent_at: float | None = None
        self._wake = asyncio.Event()
        self._away = True  # no connection that may write
        self._stopping = False
        self._abandoned = False  # stop() has given up on what is left
        self._retry_at = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._watch_timer: asyncio.TimerHandle | None = None

        self._finds: deque[tuple[Claim, Callable[[Found], None], str]] = deque()
        self._strays: deque[Stray] = deque()
        self._side_wake = asyncio.Event()

    # ------------------------------------------------------------------------------------------------- port
    def append(self, entry: JournalEntry, done: Callable[[Appended], None]) -> None:
        if self.pending >= limits.JOURNAL_PENDING_MAX:
            raise UnavailableError("journal_full", "too many entries wait for a commit; the caller ignored accepting")
        self._seq += 1
        waiting = _Waiting(entry, done, self._seq, self._clock.now())
        assert waiting.size <= limits.JOURNAL_BATCH_BYTES_MAX
        assert not entry.releases or all(claim.kind in GIVEN_BACK for claim in entry.releases)
        self._queue.append(waiting)
        self._wake.set()

    def find(self, claim: Claim, done: Callable[[Found], None], *, close: str = "") -> None:
        """During an outage the answer waits: None would mean that nobody holds the claim."""
        assert not close or claim.kind is ClaimKind.KIOSK
        if len(self._finds) >= limits.JOURNAL_PENDING_MAX:
            raise UnavailableError("journal_full", "too many look-ups wait for the database")
        self._finds.append((claim, done, close))
        self._side_wake.set()

    def note(self, stray: Stray) -> None:
        if len(self._strays) >= limits.STRAY_QUEUE_MAX:
            self._observer.count("switch_strays_dropped_total")
            return
        self._strays.append(stray)
        self._side_wake.set()

    @property
    def accepting(self) -> bool:
        if self._away or self._stopping or not self.may_send or len(self._parked) > limits.JOURNAL_PARKED_MAX:
            return False
        if len(self._queue) >= limits.JOURNAL_PENDING_MAX // 2:
            return False  # the other half belongs to payments that have begun
        oldest = self._batch[0] if self._batch else self._queue[0] if self._queue else None
        return oldest is None or self._clock.now() - oldest.since <= limits.ADMISSION_COMMIT_LAG_S

    @property
    def may_send(self) -> bool:
        return not self._lost and self._clock.now() < self.lease_ends_at - self._times.lease_margin_s

    @property
    def pending(self) -> int:
        return len(self._queue) + len(self._batch) + len(self._parked) + len(self._retried)

    @property
    def renewed_in_s(self) -> float:
        """What the shorter of the last two renewals of the lease took. One alone says nothing about PostgreSQL: a disk
        holds up a commit now and then, and a pause of ours, as the collection at the start, is measured with it."""
        return min(self._renewals)

    @property
    def queue_s(self) -> float:
        return self._clock.now() - self._queue[0].since if self._queue else 0.0

    # ------------------------------------------------------------------------------------------------- life
    async def start(self) -> None:
        """Connect, take an epoch and its lease.

        Raises:
            StartError: The database must not be used, or refuses us for good.
            UnavailableError: No database within DATABASE_START_WAIT_S.
        """
        started = self._clock.now()
        while True:
            try:
                self._writer = await self._connect_writer()
                break
            except UnavailableError:
                if self._clock.now() - started > limits.DATABASE_START_WAIT_S:
                    raise
                await asyncio.sleep(limits.JOURNAL_RECONNECT_S)
            except asyncpg.UndefinedTableError as error:
                raise StartError("database_empty", "database.dsn: the schema is missing: run the migrations") from error
        try:
            await self._make_partitions(self._writer, self._coming_days())
        except BaseException:
            self._writer.terminate()
            raise
        self._away = False
        self._tasks = [
            asyncio.create_task(self._write_forever(), name="journal writer"),
            asyncio.create_task(self._serve_forever(), name="journal reader"),
            asyncio.create_task(self._renew_forever(), name="journal lease"),
        ]
        for task in self._tasks:
            task.add_done_callback(self._ended)
        self._watch()

    async def stop(self) -> int:
        """Commit what waits, within JOURNAL_STOP_S; return how many entries were left without an answer."""
        self._stopping = True
        self._wake.set()
        self._side_wake.set()
        if self._tasks:
            *working, lease = self._tasks
            await asyncio.wait(working, timeout=limits.JOURNAL_STOP_S)
            lease.cancel()  # last: what is still being written is written under it
        if self._watch_timer is not None:
            self._watch_timer.cancel()
        if not all(task.done() for task in self._tasks[:-1]):
            # The line is cut and the tasks see it; cancelling them would send a cancel for their COMMIT.
            self._abandoned = True
            if self._writer is not None:
                self._writer.terminate()
            await asyncio.wait(working, timeout=2 * limits.JOURNAL_RECONNECT_S)
            for task in self._tasks:
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._writer is not None:
            await self._resign(self._writer)
            await close(self._writer)
            self._writer = None
        if self._heir is not None:
            await close(self._heir)
        self._away = True
        return self.pending

    async def _resign(self, writer: Connection) -> None:
        """Nobody need wait for our lease to run out. Failing that, they wait."""
        if self._lost or self.pending or writer.is_closed():
            return
        try:
            await writer.execute(QUERY["worker_resign"], self.epoch, timeout=limits.CONNECT_TIMEOUT_S)
        except (*BROKEN, asyncpg.PostgresError) as error:
            self._observer.event("journal.not_resigned", error=repr(error))

    # ------------------------------------------------------------------------------------------------- lease
    async def take_over(self, limit: int) -> list[StoredPayment]:
        """End workers whose lease is over and take at most ``limit`` of their payments, by payment id.

        Raises:
            UnavailableError: The database is away; nothing is lost by it, whatever was taken is still ours to ask for.
        """
        try:
            if self._heir is None or self._heir.is_closed():
                self._heir = await connect(self._dsn, f"{self._name} heir", BY_KEY)
            heir = self._heir
            # None of these is a payment's commit, so a time-out may cancel it.
            async with asyncio.timeout(limits.JOURNAL_ANSWER_S):
                await heir.execute(QUERY["worker_condemn"], self.epoch, self._proof)
                for row in await heir.fetch(QUERY["worker_condemned"]):
                    await self._end_worker(heir, row["epoch"])
                if self._lost:
                    return []
                events = await heir.fetch(QUERY["payment_take_over"], self.epoch, limit)
                if not events:
                    await heir.execute(QUERY["worker_inherited"])
        except (asyncpg.PostgresError, *BROKEN) as error:
            if self._heir is not None:
                self._heir.terminate()
            raise UnavailableError("database", f"PostgreSQL was lost: {type(error).__name__}") from error
        return [fold(group) for group in _grouped(events, "payment_id")]

    async def _end_worker(self, heir: Connection, epoch: int) -> None:
        """It is condemned already: a session that it opens from now on sees that, and ends by itself."""
        if not await heir.fetchval(QUERY["writer_lock"], _LOCK, epoch):
            await heir.fetch(QUERY["writer_end"], _LOCK, epoch)
            await asyncio.sleep(limits.JOURNAL_RECONNECT_S)
            if not await heir.fetchval(QUERY["writer_lock"], _LOCK, epoch):
                return  # it takes longer to end, or another heir is at it: the next look
        ended = await heir.fetchval(QUERY["worker_end"], epoch)
        await heir.fetchval(QUERY["writer_unlock"], _LOCK, epoch)
        if ended is not None:
            self._observer.count("switch_takeovers_total")
            self._observer.event("worker.ended", ended=epoch, by=self.epoch)

    async def _renew_forever(self) -> None:
        """On a connection of its own: no batch and no look-up may hold it up."""
        connection: Connection | None = None
        try:
            while not self._lost:
                try:
                    if connection is None or connection.is_closed():
                        connection = await connect(self._dsn, f"{self._name} lease", BY_KEY)
                    asked_at = self._clock.now()
                    async with asyncio.timeout(self._times.lease_ttl_s):
                        held = await connection.fetchval(QUERY["worker_renew"], self.epoch)
                    if held is None:
                        self._lose()
                        return
                    self._renewals.append(self._clock.now() - asked_at)
                    # From before the question: the server's clock began to count at some moment after it.
                    self.lease_ends_at = asked_at + self._times.lease_ttl_s
                    self._observer.gauge(
                        "switch_lease_margin_seconds",
                        self.lease_ends_at - self._times.lease_margin_s - self._clock.now(),
                    )
                except Exception as error:
                    # Whatever it is, the next one may go well; without this task nothing could ever be sent again.
                    self._observer.event("journal.lease_not_renewed", error=repr(error))
                    if connection is not None:
                        connection.terminate()
                await asyncio.sleep(self._times.lease_heartbeat_s)
        finally:
            if connection is not None:
                connection.terminate()

    def _lose(self) -> None:
        """Whatever waits is never answered: it is for the heir to say how it ended."""
        if self._lost:
            return
        self._lost = self._away = True
        self._observer.event("worker.lease_lost", level="error", epoch=self.epoch, pending=self.pending)
        if self._writer is not None:
            self._writer.terminate()
        self._wake.set()
        asyncio.get_running_loop().call_soon(self.on_lost)

    # ------------------------------------------------------------------------------------------------- writer
    async def _write_forever(self) -> None:
        settled: _Settled = []
        loop = asyncio.get_running_loop()
        while True:
            if not self._queue and not self._retried:
                self._complete(settled)
                settled = []
                if self._queue:
                    continue
                if self._stopping or self._lost:
                    return
                self._wake.clear()
                await self._wake.wait()
                if (self._writer is None or self._writer.is_closed()) and not self._stopping and not self._lost:
                    await self._reconnect()
                continue
            self._take_batch()
            if settled:
                # One turn later: by then the next batch is in the socket, and the server works while we do.
                loop.call_soon(self._complete, settled)
            settled = await self._settle(self._batch)
            self._batch = []

    def _take_batch(self) -> None:
        queue, batch = self._queue, self._batch
        if self._retried:
            batch.append(self._retried.pop())  # alone, so that nobody suffers from it
            return
        size = 0
        while queue and len(batch) < limits.JOURNAL_BATCH_MAX:
            size += queue[0].size
            if size > limits.JOURNAL_BATCH_BYTES_MAX and batch:
                break
            batch.append(queue.popleft())

    def _complete(self, settled: _Settled) -> None:
        for waiting, appended in settled:
            try:
                waiting.done(appended)
            except Exception as error:
                # One payment's fault must not keep the others of the batch waiting for ever.
                self._observer.event("journal.callback_failed", payment_id=waiting.entry.payment_id, error=repr(error))

    async def _settle(self, batch: Sequence[_Waiting]) -> _Settled:
        """Bring every entry to an end, or park it."""
        settled: _Settled = []
        groups = [list(batch)]
        while groups:
            group = groups.pop()
            if self._writer is None or self._writer.is_closed():
                await self._reconnect()
            writer = self._live_writer()
            self._sent_at = self._clock.now()
            try:
                await self._write(writer, group)
                settled += [(waiting, _COMMITTED) for waiting in group]
                self._observer.observe("switch_db_commit_seconds", self._clock.now() - self._sent_at)
                self._observer.observe("switch_db_batch_rows", len(group))
            except Exception as error:
                groups += await self._after_error(writer, group, settled, error)
            finally:
                self._sent_at = None
            if groups and settled:
                # Who has an outcome does not wait for the others' trouble.
                asyncio.get_running_loop().call_soon(self._complete, settled)
                settled = []
        return settled

    async def _write(self, writer: Connection, group: Sequence[_Waiting]) -> None:
        """One commit. The events come first: their key decides, and makes a rival wait for our outcome."""
        if len(group) < self.copy_from:
            await writer.fetch(QUERY["journal_write"], self.epoch, *_columns(group, self.epoch))
            return
        events = [
            (
                entry.opened_on,
                entry.payment_id,
                entry.ver,
                entry.state,
                entry.row,
                entry.wall_us,
                entry.amount,
                entry.body.decode(),
                entry.link,
                entry.attempt,
                None if entry.ledger is None else entry.ledger.decode(),
                self.epoch,
                waiting.seq,
            )
            for waiting in group
            for entry in (waiting.entry,)
        ]
        claims = _claim_columns(group, self.epoch)
        if not claims:
            await _copy(writer, "payment_event", events, _EVENT_COLUMNS)
            return
        await writer.execute("BEGIN")
        await _copy(writer, "payment_event", events, _EVENT_COLUMNS)
        await writer.fetch(QUERY["journal_claims"], *claims)
        await writer.execute("COMMIT")

    async def _after_error(
        self, writer: Connection, group: list[_Waiting], settled: _Settled, error: Exception
    ) -> list[list[_Waiting]]:
        """What is left to write, in groups."""
        step: _Step
        if is_outage(error, writer):
            self._observer.count("switch_db_unknown_commits_total")
            if not writer.is_closed():
                # Disk full, memory short: the server is there, and asking at once again would not help it.
                await asyncio.sleep(limits.JOURNAL_RECONNECT_S)
            self._give_up(writer, error)
            step = self._look_up
        elif isinstance(error, asyncpg.UniqueViolationError):
            step = self._sort_out
        elif isinstance(error, asyncpg.CheckViolationError) and "no partition" in str(error):
            step = self._add_partitions
        elif isinstance(error, asyncpg.PostgresError):
            step = partial(self._halve, error)
        else:
            # A row that cannot even be encoded left the conversation in the middle of a COPY; cut off, it commits not.
            self._give_up(writer, error)
            return self._split(group, error)
        while True:
            if writer.is_closed():
                if self._writer is writer:
                    await self._reconnect()
                writer, step = self._live_writer(), self._look_up
            self._sent_at = self._clock.now()
            known: _Settled = []
            try:
                if writer.is_in_transaction():
                    await writer.execute("ROLLBACK")
                left = await step(writer, group, known)
                settled += known
                return left
            except Exception as failed:
                if not is_outage(failed, writer):
                    return self._split(group, failed)
                self._give_up(writer, failed)

    async def _halve(
        self, error: Exception, writer: Connection, group: list[_Waiting], settled: _Settled
    ) -> list[list[_Waiting]]:
        return self._split(group, error)

    async def _add_partitions(
        self, writer: Connection, group: list[_Waiting], settled: _Settled
    ) -> list[list[_Waiting]]:
        made = await self._make_partitions(writer, {waiting.entry.opened_on for waiting in group})
        return [group] if made else self._split(group, StartError("partition", "a partition exists and is not used"))

    async def _look_up(self, writer: Connection, group: list[_Waiting], settled: _Settled) -> list[list[_Waiting]]:
        """After an unknown outcome: ours are committed, foreign ones lost, absent ones are written again."""
        writers = await self._writers(writer, group)
        absent = [waiting for waiting in group if not self._was_written(waiting, writers, settled)]
        return [absent] if absent else []

    async def _sort_out(self, writer: Connection, group: list[_Waiting], settled: _Settled) -> list[list[_Waiting]]:
        """After a conflict: find the losers, and who stands in whose way inside the group itself."""
        # In this order: a rival's commit between the two shows its event, and that counts more than its claims.
        holders = await self._holders(writer, group)
        writers = await self._writers(writer, group)
        again: list[_Waiting] = []
        later: list[_Waiting] = []
        keys: set[_EventKey] = set()
        taken: set[_ClaimKey] = set()
        given: set[tuple[_ClaimKey, int]] = set()
        waited_for: set[_EventKey | _ClaimKey] = set()
        for waiting in group:
            if self._was_written(waiting, writers, settled):
                continue
            entry = waiting.entry
            wanted: list[_ClaimKey] = [(claim.kind, claim.key) for claim in entry.claims]
            gives: set[tuple[_ClaimKey, int]] = {
                ((claim.kind, claim.key), entry.payment_id) for claim in entry.releases
            }
            touched: set[_EventKey | _ClaimKey] = {waiting.key, *wanted, *(key for key, _ in gives)}
            refused = [
                claim
                for claim, key in zip(entry.claims, wanted, strict=True)
                if key in holders and (key, holders[key]) not in given | gives
            ]
            if waiting.key in keys or any(key in taken for key in wanted) or touched & waited_for:
                # An earlier neighbour wants the same and goes first; whoever comes after this one waits behind it.
                later.append(waiting)
                waited_for |= touched
            elif refused:
                settled.append((waiting, Appended(Append.CLAIMED, refused[0])))
            elif len(set(wanted)) < len(wanted):
                # The same claim twice in one entry: its own rival, whatever is in the table.
                second = next(index for index, key in enumerate(wanted) if key in wanted[:index])
                settled.append((waiting, Appended(Append.CLAIMED, entry.claims[second])))
            else:
                again.append(waiting)
                keys.add(waiting.key)
                taken.update(wanted)
                given |= gives
        if len(again) == len(group):
            # What stood in the way is gone. Halves, so that nothing can make us go round in circles.
            return self._split(again, StartError("conflict", "a unique key is refused but nobody holds it"))
        return [part for part in (later, again) if part]  # the last is taken first

    def _split(self, group: list[_Waiting], error: BaseException) -> list[list[_Waiting]]:
        if len(group) > 1:
            middle = len(group) // 2
            return [group[middle:], group[:middle]]
        self._parked += group
        self._observer.event(
            "journal.entry_refused", payment_id=group[0].entry.payment_id, ver=group[0].entry.ver, error=repr(error)
        )
        return []

    def _was_written(self, waiting: _Waiting, writers: dict[_EventKey, tuple[int, int]], settled: _Settled) -> bool:
        writer = writers.get(waiting.key)
        if writer is None:
            return False
        settled.append((waiting, _COMMITTED if writer == (self.epoch, waiting.seq) else _LOST))
        return True

    async def _writers(self, writer: Connection, group: Iterable[_Waiting]) -> dict[_EventKey, tuple[int, int]]:
        rows = await writer.fetch(QUERY["event_writers"], *zip(*{waiting.key for waiting in group}, strict=True))
        return {
            (row["opened_on"], row["payment_id"], row["ver"]): (row["writer_epoch"], row["writer_seq"]) for row in rows
        }

    async def _holders(self, writer: Connection, group: Iterable[_Waiting]) -> dict[_ClaimKey, int]:
        wanted = {(claim.kind.value, claim.key) for waiting in group for claim in waiting.entry.claims}
        if not wanted:
            return {}
        rows = await writer.fetch(QUERY["claim_holders"], *zip(*wanted, strict=True))
        return {(row["kind"], row["key"]): row["payment_id"] for row in rows}

    # ------------------------------------------------------------------------------------------------- connection
    async def _connect_writer(self) -> Connection:
        """A session that holds our lock, and so the only one that writes for our epoch.

        Raises:
            UnavailableError: Not now.
            _LeaseEndedError: Never again.
        """
        connection = await connect(self._dsn, f"{self._name} writer", BY_KEY)
        try:
            # Time-outs cancel a statement, which is harmless here: no payment is under way on this session.
            async with asyncio.timeout(limits.JOURNAL_ANSWER_S):
                if not self.epoch:
                    asked_at = self._clock.now()
                    lease_s = self._times.lease_ttl_s + self._times.lease_margin_s
                    self.epoch = await connection.fetchval(
                        QUERY["worker_start"], self._name, self._instance, self._proof, lease_s
                    )
                    self.lease_ends_at = asked_at + self._times.lease_ttl_s
                while not await connection.fetchval(QUERY["writer_lock"], _LOCK, self.epoch):
                    await connection.fetch(QUERY["writer_end"], _LOCK, self.epoch)
                    await asyncio.sleep(limits.JOURNAL_RECONNECT_S)
                # After the lock: whoever ends us marks our row first and wants the lock then.
                if not await connection.fetchval(QUERY["worker_in_office"], self.epoch):
                    raise _LeaseEndedError
            connection.add_termination_listener(self._line_lost)
        except asyncpg.UndefinedTableError:
            connection.terminate()
            raise
        except (asyncpg.PostgresError, *BROKEN) as error:
            connection.terminate()
            raise UnavailableError("database", f"PostgreSQL was lost: {type(error).__name__}") from error
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _reconnect(self) -> None:
        """Until it works. Entries wait meanwhile, and no new payment is accepted."""
        self._away = True
        if self._writer is not None and not self._writer.is_closed():
            self._writer.terminate()
        self._writer = None
        since, said = self._clock.now(), ""
        while True:
            if self._abandoned:
                raise UnavailableError("stopped", "the journal was stopped before the database came back")
            if self._lost:
                raise _LeaseEndedError
            try:
                self._writer = await self._connect_writer()
                break
            except _LeaseEndedError:
                self._lose()
                raise
            except (UnavailableError, StartError, asyncpg.UndefinedTableError) as error:
                if str(error) != said:
                    said = str(error)
                    self._observer.event("journal.database_away", error=said, pending=self.pending)
                await asyncio.sleep(limits.JOURNAL_RECONNECT_S)
        self._away = False
        self._observer.event("journal.database_back", away_s=round(self._clock.now() - since, 3))

    def _give_up(self, writer: Connection, error: BaseException) -> None:
        self._away = True
        self._observer.event("journal.connection_lost", error=repr(error), pending=self.pending)
        if not writer.is_closed():
            writer.terminate()

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, _LeaseEndedError):
            # A fault of ours, or a stop during an outage. Nothing is accepted any more.
            self._away = True
            self._observer.event("journal.task_ended", task=task.get_name(), error=repr(error))

    def _line_lost(self, connection: Connection) -> None:
        if connection is self._writer:
            self._away = True
            self._wake.set()

    def _watch(self) -> None:
        """A server that hangs is given up by cutting the line, never by cancelling: that would end an open COMMIT."""
        if self._sent_at is not None and self._clock.now() - self._sent_at > limits.JOURNAL_ANSWER_S:
            self._observer.event("journal.database_hangs", pending=self.pending)
            if self._writer is not None:
                self._writer.terminate()
        if self._parked and self._clock.now() >= self._retry_at and not self._stopping:
            for waiting in self._parked:
                waiting.since = self._clock.now()
            self._retried += self._parked
            self._parked = []
            self._retry_at = self._clock.now() + limits.JOURNAL_PARKED_RETRY_S
            self._wake.set()
        self._observer.gauge("switch_journal_pending", self.pending)
        self._watch_timer = asyncio.get_running_loop().call_later(_WATCH_S, self._watch)

    def _live_writer(self) -> Connection:
        assert self._writer is not None
        return self._writer

    # ------------------------------------------------------------------------------------------------- reader
    async def _serve_forever(self) -> None:
        """Look-ups, strays and coming partitions: whatever must not hold up a commit."""
        connection: Connection | None = None
        partitions_at = self._clock.now() + _PARTITION_CHECK_S
        try:
            while self._finds or self._strays or not self._stopping:
                if not self._finds and not self._strays and self._clock.now() < partitions_at:
                    self._side_wake.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._side_wake.wait(), _PARTITION_CHECK_S)
                    continue
                try:
                    if connection is None or connection.is_closed():
                        connection = await connect(self._dsn, f"{self._name} reader", BY_KEY)
                    await self._answer_finds(connection)
                    await self._write_strays(connection)
                    if self._clock.now() >= partitions_at:
                        await self._make_partitions(connection, self._coming_days())
                        await self._purge(connection)
                        partitions_at = self._clock.now() + _PARTITION_CHECK_S
                except Exception as error:
                    self._observer.event("journal.reader_failed", error=repr(error))
                    if connection is not None:
                        connection.terminate()
                    if self._abandoned:
                        return
                    await asyncio.sleep(limits.JOURNAL_RECONNECT_S)
        finally:
            if connection is not None:
                await close(connection)

    async def _answer_finds(self, connection: Connection) -> None:
        if not self._finds:
            return
        asked = [self._finds[index] for index in range(min(len(self._finds), _FINDS_AT_ONCE))]
        keys = {(claim.kind.value, claim.key) for claim, _, _ in asked}
        closing = {claim.key: close for claim, _, close in asked if close}
        if closing:
            await connection.execute(
                QUERY["claim_close"], list(closing), list(closing.values()), timeout=limits.JOURNAL_ANSWER_S
            )
        events = await connection.fetch(
            QUERY["payment_by_claim"], *zip(*keys, strict=True), timeout=limits.JOURNAL_ANSWER_S
        )
        for _ in asked:
            self._finds.popleft()
        by_claim = _grouped(events, "claim_kind", "claim_key")
        groups = {(group[0]["claim_kind"], group[0]["claim_key"]): group for group in by_claim}
        for claim, done, _ in asked:
            group = groups.get((claim.kind.value, claim.key))
            try:
                done(_found(group) if group else None)
            except Exception as error:
                self._observer.event("journal.callback_failed", error=repr(error))

    async def _write_strays(self, connection: Connection) -> None:
        """At least once: after an outage in the middle a stray may be there twice."""
        if not self._strays:
            return
        taken = [self._strays[index] for index in range(min(len(self._strays), limits.JOURNAL_BATCH_MAX))]
        rows = [(*map(_storable, (stray.peer, stray.kind, stray.key, stray.detail)), stray.wall_us) for stray in taken]
        try:
            async with asyncio.timeout(limits.JOURNAL_ANSWER_S):
                await _copy(connection, "stray", rows, _STRAY_COLUMNS)
        except asyncpg.PostgresError as error:
            if is_outage(error, connection):
                raise
            self._observer.count("switch_strays_dropped_total", by=len(taken))
            self._observer.event("journal.strays_refused", error=repr(error), strays=len(taken))
        for _ in taken:
            self._strays.popleft()

    async def _purge(self, connection: Connection) -> int:
        """How much was due: kiosk and STAN keys, because a kiosk's date has no year and trace numbers come round again,
        and card numbers of payments that cannot be refunded any more."""
        purged, some = 0, 1
        while some and not self._stopping:
            some = len(await connection.fetch(QUERY["claim_purge"], limits.CLAIM_KEPT_DAYS, limits.JOURNAL_BATCH_MAX))
            purged += some
        if purged:
            self._observer.event("journal.claims_purged", claims=purged)
        today = day_after(self._clock.wall_us(), 0)
        cards, some = 0, 1
        while some and not self._stopping:
            some = len(await connection.fetch(QUERY["kept_purge"], today, limits.JOURNAL_BATCH_MAX))
            cards += some
        if cards:
            self._observer.event("journal.cards_purged", cards=cards)
        return purged + cards

    async def _make_partitions(self, connection: Connection, days: Iterable[int]) -> int:
        """How many were missing."""
        made = await connection.fetch(QUERY["partition_ensure"], sorted(days))
        if made:
            self._observer.event("journal.partitions_made", days=[row["day"] for row in made])
        return len(made)

    def _coming_days(self) -> list[int]:
        # From yesterday on, so that it does not matter in which time zone the caller's day begins.
        today = dt.datetime.fromtimestamp(self._clock.wall_us() / 1e6, dt.UTC).date()
        days = [today + dt.timedelta(days=ahead) for ahead in range(-1, limits.PARTITIONS_AHEAD_DAYS + 1)]
        return [int(day.strftime("%Y%m%d")) for day in days]


def _columns(group: Sequence[_Waiting], epoch: int) -> list[Sequence[Any]]:
    """A commit as arrays, in the order of ``journal_write``."""
    entries = [waiting.entry for waiting in group]
    return [
        [entry.opened_on for entry in entries],
        [entry.payment_id for entry in entries],
        [entry.ver for entry in entries],
        [entry.state for entry in entries],
        [entry.row for entry in entries],
        [entry.wall_us for entry in entries],
        [entry.amount for entry in entries],
        [entry.body.decode() for entry in entries],
        [entry.link for entry in entries],
        [entry.attempt for entry in entries],
        [None if entry.ledger is None else entry.ledger.decode() for entry in entries],
        [waiting.seq for waiting in group],
        *(_claim_columns(group, epoch) or _NO_CLAIMS),
    ]


def _claim_columns(group: Sequence[_Waiting], epoch: int) -> list[Sequence[Any]] | None:
    """What a commit holds beside its events, in the order of ``journal_claims``; None: nothing.

    A payment's first entry is a row of ``claim`` (its keys, its card number) and one of ``open_payment`` (that it is
    open, its bill); whatever an entry claims beyond that is a row more.
    """
    bills: list[tuple[int, str]] = []  # given back by payments that stay open
    ended: list[tuple[int, int]] = []  # with the last day on which the card number is kept
    claims: list[tuple[Any, ...]] = []
    opened: list[tuple[Any, ...]] = []
    for waiting in group:
        entry = waiting.entry
        payment_id, opened_on = entry.payment_id, entry.opened_on
        for given in entry.releases:
            if given.kind is _OPEN:
                ended.append((payment_id, entry.keep_until))
                break
        else:
            bills += [(payment_id, given.key) for given in entry.releases]
        if not entry.claims:
            continue
        kiosk = stan = bill = own = None
        more: list[Claim] = []
        for claim in entry.claims:
            kind = claim.kind
            if kind is _KIOSK and kiosk is None:
                kiosk = claim.key
            elif kind is _STAN and stan is None:
                stan = claim.key
            elif kind is _OPEN and own is None:
                own = claim
            elif kind is _BILL and bill is None:
                bill = claim.key
            else:
                more.append(claim)
        part = (entry.ver - 1) * _PARTS
        if own is not None:
            opened.append((payment_id, part, opened_on, epoch, bill, own.sealed))
        elif bill is not None:
            opened.append((payment_id, part, opened_on, None, bill, None))
        pan = None if own is None else own.sealed_pan
        if kiosk is not None or stan is not None or pan is not None:
            claims.append((payment_id, part, opened_on, entry.keep_until, kiosk, stan, pan))
        for claim in more:
            part += 1
            kind, key = claim.kind, claim.key
            if kind is _BILL:
                opened.append((payment_id, part, opened_on, None, key, None))
            else:
                keys = (key, None) if kind is _KIOSK else (None, key)
                claims.append((payment_id, part, opened_on, entry.keep_until, *keys, None))
    if not (bills or ended or claims or opened):
        return None
    return [
        *(zip(*bills, strict=True) if bills else _NO_CLAIMS[:2]),
        *(zip(*ended, strict=True) if ended else _NO_CLAIMS[:2]),
        *(zip(*claims, strict=True) if claims else _NO_CLAIMS[:7]),
        *(zip(*opened, strict=True) if opened else _NO_CLAIMS[:6]),
    ]


async def _copy(connection: Connection, table: str, rows: list[tuple[Any, ...]], columns: list[str]) -> None:
    await connection.copy_records_to_table(table, schema_name="switch", records=rows, columns=columns)


def _found(events: list[Any]) -> StoredPayment | Closed:
    closed = events[0]["closed"]
    return fold(events) if closed is None else Closed(closed)


def _grouped(events: Iterable[Any], *columns: str) -> list[list[Any]]:
    """Rows that are sorted by ``columns``, cut where those change."""
    return [list(group) for _, group in groupby(events, key=itemgetter(*columns))]


def _storable(text: str) -> str:
    """What a peer sent may hold anything; a text column holds neither NUL nor half a surrogate pair."""
    return text.replace("\x00", "\N{SYMBOL FOR NULL}").encode("utf-8", "backslashreplace").decode()
