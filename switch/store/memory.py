"""The journal and the terminals without a database: for unit tests and the simulation.

``MemoryDatabase`` is what survives a crash; a ``MemoryJournal`` is one process that writes to it. The same tests run
against both this and PostgreSQL, and random histories must end in equal rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from switch import limits
from switch.errors import BadRequestError, StartError, SwitchError, UnavailableError
from switch.model.payment import StoredPayment
from switch.ports import Append, Appended, Claim, ClaimKind, Clock, JournalEntry, Observer, Stray, Terminal
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


@dataclass(slots=True)
class MemoryDatabase:
    """The durable rows."""

    events: dict[tuple[int, int], dict[int, tuple[JournalEntry, _Writer]]] = field(default_factory=dict)
    claims: dict[tuple[ClaimKind, str], _Held] = field(default_factory=dict)
    open: dict[int, str] = field(default_factory=dict)  # payment id to the key of its claim OPEN
    strays: list[Stray] = field(default_factory=list)
    terminals: dict[str, Terminal] = field(default_factory=dict)
    stan_next: dict[str, int] = field(default_factory=dict)
    epoch: int = 0
    writer: object | None = None  # the one process that may write

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
            del self.claims[kind, key]
        for claim in entry.claims:
            if claim.kind is ClaimKind.OPEN:
                self.open[entry.payment_id] = claim.key
            self.claims[claim.kind, claim.key] = _Held(entry.payment_id, entry.opened_on, claim.sealed)
        self.events.setdefault((entry.opened_on, entry.payment_id), {})[entry.ver] = (entry, writer)
        return Appended(Append.COMMITTED)

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
    """``ports.Journal`` in memory.

    Args:
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
    ) -> None:
        assert call_later is None or not manual
        self.epoch = 0
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
        self._seq += 1
        self._queue.append(_Waiting(entry, done, (self.epoch, self._seq), self._clock.now()))
        if not self._manual:
            self._begin()

    def find(self, claim: Claim, done: Callable[[StoredPayment | None], None]) -> None:
        def answer() -> None:
            if self._dead:
                return
            if self._away:
                # None would mean that nobody holds the claim.
                self._later(limits.JOURNAL_RECONNECT_S, answer)
                return
            held = self._database.claims.get((claim.kind, claim.key))
            stored = None if held is None else self._database.payment(held.opened_on, held.payment_id)
            self._tell(done, stored)

        self._later(self._latency(), answer)

    def note(self, stray: Stray) -> None:
        self._database.strays.append(stray)

    @property
    def accepting(self) -> bool:
        if self._away or self._dead or len(self._queue) >= limits.JOURNAL_PENDING_MAX // 2:
            return False
        oldest = self._batch[0] if self._batch else self._queue[0] if self._queue else None
        return oldest is None or self._clock.now() - oldest.since <= limits.ADMISSION_COMMIT_LAG_S

    @property
    def pending(self) -> int:
        return len(self._queue) + len(self._batch)

    # ------------------------------------------------------------------------------------------------- life
    async def start(self) -> None:
        self.open()

    async def stop(self) -> int:
        """What has not begun is not written; returns how many entries were left without an answer."""
        self.crash()
        return self.pending

    def open(self) -> None:
        """``start`` for callers without a loop."""
        if self._database.writer is not None:
            raise StartError("database_taken", "another switch runs on this database: stop it, or use its own one")
        self._database.writer = self
        self._database.epoch += 1
        self.epoch = self._database.epoch
        self._away = False

    def crash(self, *, arrives: bool = False) -> None:
        """The process dies: nobody is told anything, the rows stay. ``arrives``: what was on its way to the database
        gets there all the same, as a COMMIT does whose client is killed."""
        if arrives and not self._dead and not self._away:
            self._apply()
        self._dead = True
        if self._database.writer is self:
            self._database.writer = None

    async def load_open(self, after_payment_id: int, limit: int) -> list[StoredPayment]:
        page = sorted(payment_id for payment_id in self._database.open if payment_id > after_payment_id)[:limit]
        claims = [self._database.claims[ClaimKind.OPEN, self._database.open[payment_id]] for payment_id in page]
        return [self._database.payment(held.opened_on, held.payment_id) for held in claims]

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
                self._call_later(half, partial(self._write, half, fault))
                return
            self._write(0.0, fault)
            if self._manual:
                return

    def _write(self, half: float, fault: Fault | None) -> None:
        if self._dead:
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
        if self._dead:
            return
        self._away = False
        self._finish(self._apply() if outcomes is None else outcomes)

    def _apply(self) -> list[Appended]:
        return [self._database.apply(waiting.entry, waiting.writer) for waiting in self._batch]

    def _finish(self, outcomes: list[Appended]) -> None:
        if self._dead:
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

    def get(self, terminal_id: str, done: Callable[[Terminal | SwitchError | None], None]) -> None:
        if terminal_id in self._cache:
            done(self._cache[terminal_id])
            return

        def look() -> Terminal | None:
            terminal = self._database.terminals.get(terminal_id)
            if terminal is not None:
                self._cache[terminal_id] = terminal
            return terminal

        self._run(look, done)

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
        batch_number: str,
        wall_us: int,
        done: Callable[[Terminal | SwitchError], None],
    ) -> None:
        def install() -> Terminal | SwitchError:
            terminal = self._database.terminals.get(terminal_id)
            if terminal is None:
                return BadRequestError("terminal", f"there is no terminal {terminal_id}")
            return self._store(
                replace(
                    terminal,
                    working_keys=working_keys,
                    batch_number=batch_number,
                    signed_on_us=wall_us,
                    key_epoch=terminal.key_epoch + 1,
                )
            )

        self._run(install, done)

    async def start(self) -> None:
        self._cache = dict(self._database.terminals)

    async def stop(self) -> None:
        pass

    async def add(self, terminal: Terminal) -> None:
        if terminal.terminal_id in self._database.terminals:
            raise BadRequestError("terminal", f"terminal {terminal.terminal_id} exists already")
        self._store(replace(terminal))

    async def list(self) -> list[Terminal]:
        return sorted(self._database.terminals.values(), key=lambda terminal: terminal.terminal_id)

    async def set_service(self, terminal_id: str, in_service: bool, reason: str) -> Terminal:
        terminal = self._database.terminals.get(terminal_id)
        if terminal is None:
            raise BadRequestError("terminal", f"there is no terminal {terminal_id}")
        return self._store(replace(terminal, in_service=in_service, out_of_service_reason=reason))

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
