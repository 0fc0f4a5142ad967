"""The journal and the terminals without a database: for unit tests and the simulation.

``MemoryDatabase`` is what survives a crash; a ``MemoryJournal`` is one process that writes to it. The same tests run
against both this and PostgreSQL, and random histories must end in equal rows.
"""

from __future__ import annotations

import asyncio
import math
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import orjson

from switch import limits
from switch.errors import BadRequestError, SwitchError, UnavailableError
from switch.limits import STANDARD, TimeProfile
from switch.machines.payment import U_RECEIVABLE
from switch.model.batch import BatchDetail, next_batch
from switch.model.payment import DRIVEN, StoredPayment
from switch.ports import (
    GIVEN_BACK,
    Append,
    Appended,
    BegunBatch,
    Claim,
    ClaimKind,
    Clock,
    Closed,
    DueBatch,
    Found,
    JournalEntry,
    Observer,
    ScriptNotice,
    Stray,
    Terminal,
    Verdict,
)
from switch.store.fold import PaymentRow, fold

CallLater = Callable[[float, Callable[[], None]], object]
_Writer = tuple[int, int]  # epoch, number


@dataclass(slots=True, frozen=True)
class Fault:
    """What happens to one commit. Either way the journal finds out and the entries end as they should."""

    applied: bool  # True: committed, but the answer is lost; False: the line is lost first
    outage_s: float = 0.0  # until the database can be reached again; needs call_later


@dataclass(slots=True, frozen=True)
class _Held:
    payment_id: int
    opened_on: int
    sealed: bytes | None
    owner: int | None = None
    closed: str | None = None
    sealed_pan: bytes | None = None


@dataclass(slots=True)
class _Worker:
    instance: str
    proof: str
    lease_s: float
    renewed_at: float
    ended_by: int = 0  # 0: in office


@dataclass(slots=True)
class Settled:
    """As ``switch.card_settlement``."""

    state: str
    day: int
    count: int = 0
    amount: int = 0
    tries: int = 0
    asked_at: float = -math.inf


@dataclass(slots=True)
class MemoryDatabase:
    """The durable rows."""

    events: dict[tuple[int, int], dict[int, tuple[JournalEntry, _Writer]]] = field(default_factory=dict)
    claims: dict[tuple[ClaimKind, str], _Held] = field(default_factory=dict)
    open: dict[int, str] = field(default_factory=dict)  # payment id to the key of its claim OPEN
    kept: dict[tuple[int, int], tuple[bytes, int]] = field(default_factory=dict)  # sealed card number, last day
    strays: list[Stray] = field(default_factory=list)
    notices: dict[int, list[Any]] = field(default_factory=dict)  # by payment: the notice, tries, when it is due
    verdicts: dict[int, tuple[Verdict, str]] = field(default_factory=dict)  # by id, with the outcome; "": none yet
    terminals: dict[str, Terminal] = field(default_factory=dict)
    stan_next: dict[str, int] = field(default_factory=dict)
    workers: dict[int, _Worker] = field(default_factory=dict)  # by epoch
    settlements: dict[tuple[str, str], Settled] = field(default_factory=dict)  # by terminal and batch

    def apply(self, entry: JournalEntry, writer: _Writer) -> Appended:
        """One entry, atomically. Written by the same writer before: committed, as a re-read would find."""
        events = self.events.get((entry.opened_on, entry.payment_id), {})
        if entry.ver in events:
            ours = events[entry.ver][1] == writer
            return Appended(Append.COMMITTED if ours else Append.LOST)
        given = {
            (claim.kind, claim.key)
            for claim in entry.releases
            if (held := self.claims.get((claim.kind, claim.key))) and held.payment_id == entry.payment_id
        }
        for claim in entry.claims:
            if (claim.kind, claim.key) in self.claims and (claim.kind, claim.key) not in given:
                return Appended(Append.CLAIMED, claim)
        for index, claim in enumerate(entry.claims):
            if any((claim.kind, claim.key) == (other.kind, other.key) for other in entry.claims[:index]):
                return Appended(Append.CLAIMED, claim)
        for kind, key in given:
            if kind is ClaimKind.OPEN:
                self.open.pop(entry.payment_id, None)
            released = self.claims.pop((kind, key))
            if entry.keep_until and released.sealed_pan is not None:
                key_of_payment = released.opened_on, released.payment_id
                self.kept.setdefault(key_of_payment, (released.sealed_pan, entry.keep_until))
        for claim in entry.claims:
            if claim.kind is ClaimKind.OPEN:
                self.open[entry.payment_id] = claim.key
            owner = writer[0] if claim.kind is ClaimKind.OPEN else None
            held = _Held(entry.payment_id, entry.opened_on, claim.sealed, owner, sealed_pan=claim.sealed_pan)
            self.claims[claim.kind, claim.key] = held
        self.events.setdefault((entry.opened_on, entry.payment_id), {})[entry.ver] = (entry, writer)
        return Appended(Append.COMMITTED)

    def may_write(self, epoch: int) -> bool:
        return not self.workers[epoch].ended_by

    def find(self, claim: Claim, close: str) -> Found:
        held = self.claims.get((claim.kind, claim.key))
        if held is None and close:
            held = self.claims[claim.kind, claim.key] = _Held(0, 0, None, closed=close)
        if held is None:
            return None
        return Closed(held.closed) if held.closed is not None else self.payment(held.opened_on, held.payment_id)

    # ------------------------------------------------------------------------------------------------ leases
    def enter(self, instance: str, proof: str, lease_s: float, now: float) -> int:
        epoch = len(self.workers) + 1
        self.workers[epoch] = _Worker(instance, proof, lease_s, now)
        return epoch

    def renew(self, epoch: int, now: float) -> bool:
        if self.may_write(epoch):
            self.workers[epoch].renewed_at = now
        return self.may_write(epoch)

    def end_others(self, epoch: int, proof: str, now: float) -> list[int]:
        """End those whose lease is over, or whom our proof shows to be dead; gives their epochs."""
        ended = []
        for other, worker in self.workers.items():
            due = worker.renewed_at + worker.lease_s < now or (proof and worker.proof == proof)
            if other != epoch and not worker.ended_by and due:
                worker.ended_by = epoch
                ended.append(other)
        return ended

    def take_over(self, epoch: int, limit: int) -> list[StoredPayment]:
        taken: list[StoredPayment] = []
        for payment_id in sorted(self.open):
            key = ClaimKind.OPEN, self.open[payment_id]
            held = self.claims[key]
            assert held.owner is not None
            if self.workers[held.owner].ended_by and len(taken) < limit:
                self.claims[key] = replace(held, owner=epoch)
                taken.append(self.payment(held.opened_on, payment_id))
        return taken

    def batch(self, terminal_id: str, batch_number: str) -> tuple[bool, list[BatchDetail]]:
        """As ``switch.card_batch``: whether a payment of it is under way, and what is charged."""
        prefix, under_way, details = f"{terminal_id}|{batch_number}|", False, []
        for (kind, key), held in sorted(self.claims.items()):
            if kind is not ClaimKind.STAN or not key.startswith(prefix):
                continue
            entries = [entry for _, (entry, _) in sorted(self.events[held.opened_on, held.payment_id].items())]
            under_way = under_way or entries[-1].state in DRIVEN
            lines = [line for entry in entries if entry.ledger for line in orjson.loads(entry.ledger)]
            amount = sum(debit - credit for account, debit, credit in lines if account == U_RECEIVABLE)
            if amount > 0:
                details.append(BatchDetail(key[len(prefix) :], amount))
        return under_way, details

    def payment(self, opened_on: int, payment_id: int) -> StoredPayment:
        return fold(self._rows(opened_on, payment_id))

    def payment_rows(self) -> Iterator[PaymentRow]:
        """Like ``proof.load_payment_rows``."""
        for opened_on, payment_id in sorted(self.events):
            rows = [row | {"sealed": None} for row in self._rows(opened_on, payment_id)]
            yield PaymentRow(fold(rows), rows[-1]["amount"], len(rows))

    def _rows(self, opened_on: int, payment_id: int) -> list[dict[str, Any]]:
        opened = self.open.get(payment_id)
        sealed = None if opened is None else self.claims[ClaimKind.OPEN, opened].sealed
        return [
            {
                "payment_id": entry.payment_id,
                "opened_on": entry.opened_on,
                "ver": entry.ver,
                "state": entry.state,
                "body": entry.body,
                "link": entry.link,
                "amount": entry.amount,
                "sealed": sealed,
            }
            for _, (entry, _) in sorted(self.events[opened_on, payment_id].items(), key=lambda item: item[0])
        ]


@dataclass(slots=True)
class _Waiting:
    entry: JournalEntry
    done: Callable[[Appended], None]
    writer: _Writer
    since: float


class MemoryJournal:
    """``ports.LeasedJournal`` in memory.

    Args:
        server_later: Like ``call_later``, for what the database does by itself: it goes on while this process is
            paused. Not given: ``call_later``.
        proof: As in ``PostgresJournal``.
        call_later: Of the loop. Given: a commit takes ``latency()`` seconds, half of it before and half after the
            rows are durable, and takes all that waits when it begins. Not given: entries are committed at once.
        latency: Seconds of one commit, or of one look-up.
        fault: Asked with the number of each commit (1, 2, 3 …); None: it goes well.
        manual: Without ``call_later``: nothing happens until ``step()``.
    """

    def __init__(
        self,
        database: MemoryDatabase,
        *,
        clock: Clock,
        observer: Observer,
        call_later: CallLater | None = None,
        latency: Callable[[], float] = lambda: 0.001,
        fault: Callable[[int], Fault | None] = lambda number: None,
        manual: bool = False,
        server_later: CallLater | None = None,
        times: TimeProfile = STANDARD,
        instance: str = "",
        proof: str = "",
    ) -> None:
        assert call_later is None or not manual
        self.epoch = 0
        self.on_lost: Callable[[], None] = lambda: None
        self.lease_ends_at = float("inf")  # without a loop nothing renews it, and nothing is late
        self._server_later = server_later or call_later
        self._times = times
        self._instance = instance
        self._proof = proof
        self._lost = False
        self.commits = 0
        self._database = database
        self._clock = clock
        self._observer = observer
        self._call_later = call_later
        self._latency = latency
        self._fault = fault
        self._manual = manual
        self._seq = 0
        self._queue: deque[_Waiting] = deque()
        self._batch: list[_Waiting] = []
        self._away = True
        self._dead = False

    # ------------------------------------------------------------------------------------------------- port
    def append(self, entry: JournalEntry, done: Callable[[Appended], None]) -> None:
        if self.pending >= limits.JOURNAL_PENDING_MAX:
            raise UnavailableError("journal_full", "too many entries wait for a commit; the caller ignored accepting")
        assert not entry.releases or all(claim.kind in GIVEN_BACK for claim in entry.releases)
        self._seq += 1
        self._queue.append(_Waiting(entry, done, (self.epoch, self._seq), self._clock.now()))
        if not self._manual:
            self._begin()

    def find(self, claim: Claim, done: Callable[[Found], None], *, close: str = "") -> None:
        def answer() -> None:
            if self._dead or self._lost:
                return
            if self._away:
                # None would mean that nobody holds the claim.
                self._later(limits.JOURNAL_RECONNECT_S, answer)
                return
            self._tell(done, self._database.find(claim, close))

        self._later(self._latency(), answer)

    def note(self, stray: Stray) -> None:
        self._database.strays.append(stray)

    @property
    def accepting(self) -> bool:
        if self._away or self._dead or not self.may_send or len(self._queue) >= limits.JOURNAL_PENDING_MAX // 2:
            return False
        oldest = self._batch[0] if self._batch else self._queue[0] if self._queue else None
        return oldest is None or self._clock.now() - oldest.since <= limits.ADMISSION_COMMIT_LAG_S

    @property
    def may_send(self) -> bool:
        return not self._lost and self._clock.now() < self.lease_ends_at - self._times.lease_margin_s

    @property
    def pending(self) -> int:
        return len(self._queue) + len(self._batch)

    @property
    def queue_s(self) -> float:
        return self._clock.now() - self._queue[0].since if self._queue else 0.0

    # ------------------------------------------------------------------------------------------------- life
    async def start(self) -> None:
        self.open()

    async def stop(self) -> int:
        """What has not begun is not written; returns how many entries were left without an answer."""
        if not self._lost and not self._dead and not self.pending:
            self._database.workers[self.epoch].ended_by = self.epoch
        self.crash()
        return self.pending

    def open(self) -> None:
        """``start`` for callers without a loop."""
        times, now = self._times, self._clock.now()
        lease_s = times.lease_ttl_s + times.lease_margin_s
        self.epoch = self._database.enter(self._instance, self._proof, lease_s, now)
        self._away = False
        if self._call_later is not None:
            self.lease_ends_at = now + times.lease_ttl_s
            self._call_later(times.lease_heartbeat_s, self._renew)

    def crash(self, *, arrives: bool = False) -> None:
        """The process dies: nobody is told anything, the rows stay. ``arrives``: what was on its way to the database
        gets there all the same, as a COMMIT does whose client is killed."""
        if arrives and not self._dead and not self._away and self._database.may_write(self.epoch):
            self._apply()
        self._dead = True

    async def take_over(self, limit: int) -> list[StoredPayment]:
        if self._away:
            raise UnavailableError("database", "the database is away")
        for epoch in self._database.end_others(self.epoch, self._proof, self._clock.now()):
            self._observer.count("switch_takeovers_total")
            self._observer.event("worker.ended", ended=epoch, by=self.epoch)
        return self._database.take_over(self.epoch, limit) if self._database.may_write(self.epoch) else []

    # ------------------------------------------------------------------------------------------------ lease
    def _renew(self) -> None:
        if self._dead or self._lost:
            return
        asked_at = self._clock.now()
        if self._away:
            self._later(self._times.lease_heartbeat_s, self._renew)
            return

        def at_server() -> None:
            if not self._dead:
                held = self._database.renew(self.epoch, self._clock.now())
                self._later(half, partial(self._renewed, asked_at, held))

        assert self._server_later is not None
        half = self._latency() / 2
        self._server_later(half, at_server)

    def _renewed(self, asked_at: float, held: bool) -> None:
        if not held:
            self._lose()
            return
        self.lease_ends_at = asked_at + self._times.lease_ttl_s
        self._later(self._times.lease_heartbeat_s, self._renew)

    def _lose(self) -> None:
        """Another worker has ended this one. Whatever waits is never answered."""
        if self._lost or self._dead:
            return
        self._lost = self._away = True
        self._observer.event("worker.lease_lost", epoch=self.epoch, pending=self.pending)
        self._later(0.0, self.on_lost)

    def step(self) -> int:
        """With ``manual``: commit everything that waits now, in one batch; return how many entries that was."""
        assert self._manual
        count = min(len(self._queue), limits.JOURNAL_BATCH_MAX)
        self._begin()
        return count

    # ------------------------------------------------------------------------------------------------- commits
    def _begin(self) -> None:
        # A loop, not a recursion: done may append the next entry, which would otherwise commit inside it.
        while self._queue and not self._batch and not self._away and not self._dead:
            while self._queue and len(self._batch) < limits.JOURNAL_BATCH_MAX:
                self._batch.append(self._queue.popleft())
            self.commits += 1
            fault = self._fault(self.commits)
            if self._call_later is not None:
                half = self._latency() / 2
                assert self._server_later is not None
                self._server_later(half, partial(self._write, half, fault))
                return
            self._write(0.0, fault)
            if self._manual:
                return

    def _write(self, half: float, fault: Fault | None) -> None:
        if self._dead:
            return
        if not self._database.may_write(self.epoch):
            # Its session was ended, and it can open no other one.
            self._later(half, self._lose)
            return
        if fault is None:
            self._later(half, partial(self._finish, self._apply()))
            return
        outcomes = self._apply() if fault.applied else None
        self._observer.count("switch_db_unknown_commits_total")
        self._away = True
        self._later(half + fault.outage_s, partial(self._come_back, outcomes))

    def _come_back(self, outcomes: list[Appended] | None) -> None:
        """Reconnected. What is there is found by its key; what is not is written again."""
        if self._dead or self._lost:
            return
        if not self._database.may_write(self.epoch):
            self._lose()
            return
        self._away = False
        self._finish(self._apply() if outcomes is None else outcomes)

    def _apply(self) -> list[Appended]:
        return [self._database.apply(waiting.entry, waiting.writer) for waiting in self._batch]

    def _finish(self, outcomes: list[Appended]) -> None:
        if self._dead or self._lost:
            return
        batch, self._batch = self._batch, []
        if self._call_later is not None:
            self._begin()  # the next commit is on its way before anybody hears of this one
        for waiting, appended in zip(batch, outcomes, strict=True):
            self._tell(waiting.done, appended)

    def _later(self, delay_s: float, call: Callable[[], None]) -> None:
        if self._call_later is None:
            call()
        else:
            self._call_later(delay_s, call)

    def _tell(self, done: Callable[[Any], None], answer: Any) -> None:
        try:
            done(answer)
        except Exception as error:
            self._observer.event("journal.callback_failed", error=repr(error))


class MemoryCases:
    """``ports.Cases`` in memory."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def verdicts(self, epoch: int) -> list[Verdict]:
        found = []
        for verdict, outcome in self._database.verdicts.values():
            held = self._database.claims.get((ClaimKind.OPEN, str(verdict.payment_id)))
            if held is None and not outcome:
                self._database.verdicts[verdict.id] = verdict, "done"  # by a worker that died before it could say so
            elif held is not None and held.owner == epoch and not outcome:
                found.append(verdict)
        return found

    async def settle(self, verdict: Verdict, outcome: str) -> None:
        self._database.verdicts[verdict.id] = verdict, outcome


class MemoryNotices:
    """``ports.NoticeStore`` in memory."""

    def __init__(self, database: MemoryDatabase, clock: Clock) -> None:
        self._notices = database.notices
        self._clock = clock

    async def add(self, notice: ScriptNotice, again_s: float) -> None:
        self._notices.setdefault(notice.payment_id, [notice, 0, self._clock.now() + again_s])

    async def due(self, again_s: float) -> list[ScriptNotice]:
        now = self._clock.now()
        found: list[ScriptNotice] = []
        for row in self._notices.values():
            if row[2] <= now:
                row[1:] = [row[1] + 1, now + again_s * 2 ** min(row[1], 4)]
                found.append(row[0])
        return found

    async def end(self, notice: ScriptNotice) -> None:
        self._notices.pop(notice.payment_id, None)


class MemoryTerminals:
    """``ports.Terminals`` in memory. ``away`` = True: the database does not answer."""

    def __init__(
        self,
        database: MemoryDatabase,
        *,
        call_later: CallLater | None = None,
        latency: Callable[[], float] = lambda: 0.001,
    ) -> None:
        self.away = False
        self._database = database
        self._call_later = call_later
        self._latency = latency
        self._cache: dict[str, Terminal] = {}
        self._looking = 0
        self._stopped = False

    def known(self, terminal_id: str) -> Terminal | None:
        return self._cache.get(terminal_id)

    def get(self, terminal_id: str, done: Callable[[Terminal | SwitchError | None], None]) -> None:
        if terminal_id in self._cache:
            done(self._cache[terminal_id])
            return

        def look() -> Terminal | None:
            terminal = self._database.terminals.get(terminal_id)
            if terminal is not None:
                self._cache[terminal_id] = terminal
            return terminal

        if self._looking >= limits.TERMINAL_LOOKUPS_MAX:
            done(UnavailableError("busy", "too many unknown terminals are being looked up"))
            return
        self._looking += 1

        def looked(found: Terminal | SwitchError | None) -> None:
            self._looking -= 1
            done(found)

        self._run(look, looked)

    def reserve_stans(self, terminal_id: str, count: int, done: Callable[[int | SwitchError], None]) -> None:
        assert 0 < count <= limits.STAN_MAX

        def reserve() -> int | SwitchError:
            if terminal_id not in self._database.terminals:
                return BadRequestError("terminal", f"there is no terminal {terminal_id}")
            first = self._database.stan_next.get(terminal_id, 1)
            if first + count - 1 > limits.STAN_MAX:
                first = 1
            self._database.stan_next[terminal_id] = first + count
            return first

        self._run(reserve, done)

    def install_keys(
        self,
        terminal_id: str,
        *,
        working_keys: bytes,
        under: bytes,
        batch_number: str,
        wall_us: int,
        done: Callable[[Terminal | SwitchError], None],
        kiosk_keys: bytes | None = None,
    ) -> None:
        def install() -> Terminal | SwitchError:
            terminal = self._database.terminals.get(terminal_id)
            if terminal is None or not under or under not in (terminal.tmk_wrapped, terminal.next_tmk_wrapped):
                detail = f"terminal {terminal_id} is gone or has another master key now: sign on again"
                return BadRequestError("terminal", detail)
            if under == terminal.next_tmk_wrapped:
                terminal = replace(
                    terminal, tmk_wrapped=under, tmk_kcv=terminal.next_tmk_kcv, next_tmk_wrapped=b"", next_tmk_kcv=b""
                )
            return self._store(
                replace(
                    terminal,
                    working_keys=working_keys,
                    kiosk_keys=kiosk_keys,
                    batch_number=batch_number,
                    signed_on_us=wall_us,
                    key_epoch=terminal.key_epoch + 1,
                    sign_on_fault="",
                    stage="sign_on" if terminal.stage == "keys" else terminal.stage,
                    mac_echoes=0 if terminal.stage in ("keys", "sign_on") else terminal.mac_echoes,
                )
            )

        self._run(install, done)

    def note_mac_echo(self, terminal_id: str, key_epoch: int, done: Callable[[Terminal | SwitchError], None]) -> None:
        def note() -> Terminal | SwitchError:
            terminal = self._database.terminals.get(terminal_id)
            if terminal is None or (terminal.stage, terminal.key_epoch) != ("sign_on", key_epoch):
                detail = f"terminal {terminal_id} waits for no echo test, or has other keys by now"
                return BadRequestError("terminal", detail)
            seen = terminal.mac_echoes + 1
            return self._store(replace(terminal, mac_echoes=seen, stage="mac_echo" if seen == 3 else terminal.stage))

        self._run(note, done)

    def note_test_query(self, terminal_id: str, done: Callable[[Terminal | SwitchError], None]) -> None:
        self._run(lambda: self._tested(terminal_id, "mac_echo", "test_query"), done)

    def note_test_payment(
        self, terminal_id: str, opened_on: int, payment_id: int, done: Callable[[Terminal | SwitchError], None]
    ) -> None:
        def note() -> Terminal | SwitchError:
            entries = [entry for entry, _ in self._database.events.get((opened_on, payment_id), {}).values()]
            ours = any(entry.ver == 1 and orjson.loads(entry.body)["terminal"] == terminal_id for entry in entries)
            booked = any(entry.ledger and entry.state != "REVERSED" for entry in entries)
            if not (ours and booked and any(entry.state == "REVERSED" for entry in entries)):
                return BadRequestError(
                    "terminal", f"terminal {terminal_id}: no payment of it was charged and given back"
                )
            return self._tested(terminal_id, "test_query", "test_reversal")

        self._run(note, done)

    def _tested(self, terminal_id: str, before: str, after: str) -> Terminal | SwitchError:
        terminal = self._database.terminals.get(terminal_id)
        if terminal is None or terminal.stage != before:
            return BadRequestError("terminal", f"terminal {terminal_id} waits for no such test")
        return self._store(replace(terminal, stage=after))

    def close_batch(
        self, terminal_id: str, batch_number: str, state: str, done: Callable[[Terminal | SwitchError], None]
    ) -> None:
        def close() -> Terminal | SwitchError:
            terminal = self._database.terminals.get(terminal_id)
            if terminal is None:
                return BadRequestError("terminal", f"there is no terminal {terminal_id}")
            settled = self._database.settlements[terminal_id, batch_number]
            if settled.state == "asked":
                settled.state = state
                if terminal.batch_number == batch_number:
                    terminal = replace(terminal, batch_number=next_batch(batch_number))
            return self._store(terminal)

        self._run(close, done)

    def note_fault(self, terminal_id: str, fault: str, done: Callable[[Terminal | SwitchError], None]) -> None:
        def note() -> Terminal | SwitchError:
            terminal = self._database.terminals.get(terminal_id)
            if terminal is None:
                return BadRequestError("terminal", f"there is no terminal {terminal_id}")
            return self._store(replace(terminal, sign_on_fault=fault))

        self._run(note, done)

    async def start(self) -> None:
        self._refresh()

    async def stop(self) -> None:
        self._stopped = True

    def _refresh(self) -> None:
        """What other processes changed is seen within this time, as with PostgreSQL."""
        if not self.away:
            self._cache = dict(self._database.terminals)
        if self._call_later is not None and not self._stopped:
            self._call_later(limits.TERMINAL_REFRESH_S, self._refresh)

    async def add(self, terminal: Terminal) -> None:
        if terminal.terminal_id in self._database.terminals:
            raise BadRequestError("terminal", f"terminal {terminal.terminal_id} exists already")
        keyed = (terminal.tmk_wrapped or terminal.next_tmk_wrapped) and (
            terminal.key_mode != "translate" or terminal.platform_wrapped
        )
        self._store(replace(terminal, stage="keys" if keyed and terminal.stage == "registered" else terminal.stage))

    async def list(self) -> list[Terminal]:
        return sorted(self._database.terminals.values(), key=lambda terminal: terminal.terminal_id)

    async def set_service(self, terminal_id: str, in_service: bool, reason: str) -> Terminal:
        terminal = self._database.terminals.get(terminal_id)
        if terminal is None:
            raise BadRequestError("terminal", f"there is no terminal {terminal_id}")
        if in_service and terminal.stage not in ("test_reversal", "in_service"):
            raise BadRequestError("gate", f"terminal {terminal_id} has passed its gates up to {terminal.stage} only")
        stage = "in_service" if in_service else terminal.stage
        return self._store(replace(terminal, in_service=in_service, out_of_service_reason=reason, stage=stage))

    def _store(self, terminal: Terminal) -> Terminal:
        self._database.terminals[terminal.terminal_id] = terminal
        self._cache[terminal.terminal_id] = terminal
        return terminal

    def _run(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        def run() -> None:
            done(UnavailableError("database", "the database is away") if self.away else job())

        if self._call_later is None:
            run()
        else:
            self._call_later(self._latency(), run)


class MemoryCardBatches:
    """``ports.CardBatches`` in memory. Each call takes its time, half of it before and half after it has happened."""

    def __init__(self, database: MemoryDatabase, clock: Clock, latency: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._latency = latency

    async def due(self, day: int, since_s: float, spread_s: float, limit: int) -> list[DueBatch]:
        await asyncio.sleep(self._latency())
        database, again = self._database, self._clock.now() - limits.SETTLE_AGAIN_S
        pending = [
            key
            for key, each in database.settlements.items()
            if each.state in ("asked", "differs") and each.asked_at < again and each.tries < limits.SETTLE_TRIES_MAX
        ]
        done = {key[0] for key, each in database.settlements.items() if each.day >= day}
        new = [
            (each.terminal_id, each.batch_number)
            for each in database.terminals.values()
            if each.working_keys is not None
            and each.terminal_id not in done
            and zlib.crc32(each.terminal_id.encode()) / 2**32 * spread_s <= since_s
        ]
        return [DueBatch(key[0], database.terminals[key[0]].merchant_id, key[1]) for key in (pending + new)[:limit]]

    async def begin(self, batch: DueBatch, day: int) -> BegunBatch | None:
        await asyncio.sleep(self._latency() / 2)
        begun = self._begin(batch, day)
        await asyncio.sleep(self._latency() / 2)
        return begun

    def _begin(self, batch: DueBatch, day: int) -> BegunBatch | None:
        now = self._clock.now()
        here = self._database.settlements.setdefault((batch.terminal_id, batch.batch_number), Settled("empty", 0))
        if here.state in ("balanced", "uploaded") or here.asked_at > now - limits.SETTLE_AGAIN_S:
            return None
        if here.state != "differs":
            under_way, details = self._database.batch(batch.terminal_id, batch.batch_number)
            if under_way:
                return None
            here.count, here.amount = len(details), sum(detail.amount for detail in details)
            here.day = day
            if here.state == "empty" and not details:
                return None
            here.state = "asked"
        here.tries, here.asked_at = here.tries + 1, now
        return BegunBatch(here.state, here.count, here.amount)

    async def details(self, batch: DueBatch) -> list[BatchDetail]:
        await asyncio.sleep(self._latency())
        return self._database.batch(batch.terminal_id, batch.batch_number)[1]

    async def uploaded(self, batch: DueBatch) -> None:
        await asyncio.sleep(self._latency() / 2)
        here = self._database.settlements[batch.terminal_id, batch.batch_number]
        if here.state == "differs":
            here.state = "uploaded"
        await asyncio.sleep(self._latency() / 2)
