"""Terminals on PostgreSQL: a cache of all of them, kept fresh, and one connection that does everything in order.

Because one task reads and writes, the cache is never older than the last answer that anybody was given.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import asyncpg

from switch import limits
from switch.errors import BadRequestError, StartError, SwitchError, UnavailableError
from switch.model.batch import next_batch
from switch.ports import Clock, Observer, Terminal
from switch.store.pool import BROKEN, Connection, close, connect, connected, is_outage
from switch.store.queries import QUERY

_COLUMNS = tuple(field.name for field in fields(Terminal))
_UNKNOWN_MAX = 16 * limits.TERMINAL_LOOKUPS_MAX  # ids remembered as unknown; random ones push the oldest out

_Job = Callable[[Connection], Awaitable[None]]


class PostgresTerminals:
    """``ports.Terminals`` on PostgreSQL. Use it from the loop's thread only."""

    def __init__(self, dsn: str, *, clock: Clock, observer: Observer, name: str = "switch") -> None:
        self._dsn = dsn
        self._name = name
        self._clock = clock
        self._observer = observer
        self._cache: dict[str, Terminal] = {}
        self._unknown: OrderedDict[str, float] = OrderedDict()  # id to when it may be looked up again
        self._lookups: dict[str, list[Callable[[Terminal | SwitchError | None], None]]] = {}
        self._jobs: deque[tuple[_Job, Callable[[SwitchError], None]]] = deque()
        self._mark = "0"
        self._connection: Connection | None = None
        self._wake = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------------------------------------- port
    def known(self, terminal_id: str) -> Terminal | None:
        return self._cache.get(terminal_id)

    def get(self, terminal_id: str, done: Callable[[Terminal | SwitchError | None], None]) -> None:
        known = self._cache.get(terminal_id)
        if known is not None:
            done(known)
        elif self._unknown.get(terminal_id, 0.0) > self._clock.now() or not _is_id(terminal_id):
            done(None)
        elif terminal_id in self._lookups:
            self._lookups[terminal_id].append(done)
        elif len(self._lookups) >= limits.TERMINAL_LOOKUPS_MAX:
            self._observer.count("switch_admission_rejects_total", ("terminal_lookups",))
            done(UnavailableError("busy", "too many unknown terminals are being looked up"))
        else:
            self._lookups[terminal_id] = [done]
            self._wake.set()

    def reserve_stans(self, terminal_id: str, count: int, done: Callable[[int | SwitchError], None]) -> None:
        assert 0 < count <= limits.STAN_MAX

        async def job(connection: Connection) -> None:
            # A lost answer loses the numbers of a block; it never gives them twice.
            first = await connection.fetchval(QUERY["terminal_reserve"], terminal_id, count, timeout=_ANSWER_S)
            self._tell(done, _unknown_terminal(terminal_id) if first is None else first)

        self._submit(job, done)

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
        async def job(connection: Connection) -> None:
            row = await connection.fetchrow(
                QUERY["terminal_install"],
                *(terminal_id, working_keys, batch_number, wall_us, under, kiosk_keys),
                timeout=_ANSWER_S,
            )
            self._tell(done, _other_keys(terminal_id) if row is None else self._remember(row))

        self._submit(job, done)

    def note_mac_echo(self, terminal_id: str, key_epoch: int, done: Callable[[Terminal | SwitchError], None]) -> None:
        async def job(connection: Connection) -> None:
            row = await connection.fetchrow(QUERY["terminal_mac_echo"], terminal_id, key_epoch, timeout=_ANSWER_S)
            self._tell(done, _no_gate(terminal_id) if row is None else self._remember(row))

        self._submit(job, done)

    def note_test_query(self, terminal_id: str, done: Callable[[Terminal | SwitchError], None]) -> None:
        async def job(connection: Connection) -> None:
            row = await connection.fetchrow(QUERY["terminal_test_query"], terminal_id, timeout=_ANSWER_S)
            self._tell(done, _no_test(terminal_id) if row is None else self._remember(row))

        self._submit(job, done)

    def note_test_payment(
        self, terminal_id: str, opened_on: int, payment_id: int, done: Callable[[Terminal | SwitchError], None]
    ) -> None:
        async def job(connection: Connection) -> None:
            values = terminal_id, opened_on, payment_id
            row = await connection.fetchrow(QUERY["terminal_test_payment"], *values, timeout=_ANSWER_S)
            self._tell(done, _no_test(terminal_id) if row is None else self._remember(row))

        self._submit(job, done)

    def close_batch(
        self, terminal_id: str, batch_number: str, state: str, done: Callable[[Terminal | SwitchError], None]
    ) -> None:
        async def job(connection: Connection) -> None:
            values = terminal_id, batch_number, state, next_batch(batch_number)
            row = await connection.fetchrow(QUERY["settle_close"], *values, timeout=_ANSWER_S)
            self._tell(done, _unknown_terminal(terminal_id) if row is None else self._remember(row))

        self._submit(job, done)

    def note_fault(self, terminal_id: str, fault: str, done: Callable[[Terminal | SwitchError], None]) -> None:
        async def job(connection: Connection) -> None:
            row = await connection.fetchrow(QUERY["terminal_fault"], terminal_id, fault, timeout=_ANSWER_S)
            self._tell(done, _unknown_terminal(terminal_id) if row is None else self._remember(row))

        self._submit(job, done)

    # ------------------------------------------------------------------------------------------------- life
    async def start(self) -> None:
        """Load every terminal.

        Raises:
            UnavailableError: No database within DATABASE_START_WAIT_S.
        """
        started = self._clock.now()
        while True:
            try:
                await self._connect()
                break
            except UnavailableError:
                if self._clock.now() - started > limits.DATABASE_START_WAIT_S:
                    raise
                await asyncio.sleep(limits.JOURNAL_RECONNECT_S)
        self._task = asyncio.create_task(self._serve_forever(), name="terminals")

    async def stop(self) -> None:
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=limits.JOURNAL_STOP_S)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._connection is not None:
            await close(self._connection)
        self._fail_all(UnavailableError("stopped", "the switch is stopping"))

    # ------------------------------------------------------------------------------------------------- people
    async def add(self, terminal: Terminal) -> None:
        """Raises BadRequestError (``terminal``) when it exists already or a value is refused."""
        try:
            async with connected(self._dsn, f"{self._name} terminal") as connection:
                await connection.execute(QUERY["terminal_add"], *(getattr(terminal, name) for name in _COLUMN_ORDER))
        except asyncpg.UniqueViolationError as error:
            raise BadRequestError("terminal", f"terminal {terminal.terminal_id} exists already") from error
        except asyncpg.IntegrityConstraintViolationError as error:
            raise BadRequestError("terminal", f"terminal {terminal.terminal_id}: {error.message}") from error
        self._unknown.pop(terminal.terminal_id, None)
        keyed = (terminal.tmk_wrapped or terminal.next_tmk_wrapped) and (
            terminal.key_mode != "translate" or terminal.platform_wrapped
        )
        stage = "keys" if keyed and terminal.stage == "registered" else terminal.stage  # as its trigger has it
        self._cache[terminal.terminal_id] = replace(terminal, stage=stage)

    async def add_all(self, terminals: Iterable[Terminal]) -> None:
        """Many that do not exist yet, all or none: ten thousand, one at a time, take minutes.

        Raises:
            BadRequestError: ``terminal``: one exists, or a value is refused.
        """
        rows = [[getattr(terminal, name) for name in _COLUMN_ORDER] for terminal in terminals]
        try:
            async with connected(self._dsn, f"{self._name} terminal") as connection, connection.transaction():
                await connection.executemany(QUERY["terminal_add"], rows)
        except asyncpg.IntegrityConstraintViolationError as error:
            raise BadRequestError("terminal", f"no terminal was added: {error}") from error

    async def list(self) -> list[Terminal]:
        """All of them as the database has them, by id."""
        async with connected(self._dsn, f"{self._name} terminal") as connection:
            return [_terminal(row) for row in await connection.fetch(QUERY["terminal_list"])]

    async def gates(self, terminal_id: str) -> Sequence[Any]:
        """Rows of what it has passed since it was registered: gate, proved_at, proof."""
        async with connected(self._dsn, f"{self._name} terminal") as connection:
            rows: Sequence[Any] = await connection.fetch(QUERY["terminal_gates"], terminal_id)
        return rows

    async def set_service(self, terminal_id: str, in_service: bool, reason: str) -> Terminal:
        """Take a terminal out of service or back. Other processes see it within TERMINAL_REFRESH_S.

        Raises:
            BadRequestError: ``gate``: it has not passed those before. ``terminal``: there is none.
        """
        async with connected(self._dsn, f"{self._name} terminal") as connection:
            try:
                row = await connection.fetchrow(QUERY["terminal_service"], terminal_id, in_service, reason)
            except asyncpg.CheckViolationError as error:
                raise BadRequestError("gate", str(error)) from error
        if row is None:
            raise _unknown_terminal(terminal_id)
        cached = self._cache.get(terminal_id)
        if cached is None:
            return self._remember(row)
        # Only what was set here: a sign-on may have gone through on the other connection meanwhile.
        self._cache[terminal_id] = replace(
            cached, in_service=in_service, out_of_service_reason=reason, stage=row["stage"]
        )
        return self._cache[terminal_id]

    # ------------------------------------------------------------------------------------------------- inside
    def _submit(self, job: _Job, done: Callable[[Any], None]) -> None:
        if len(self._jobs) >= limits.KIOSK_CONNECTIONS_MAX:
            done(UnavailableError("busy", "too many terminals wait for the database"))
            return
        self._jobs.append((job, done))
        self._wake.set()

    async def _serve_forever(self) -> None:
        refresh_at = self._clock.now() + limits.TERMINAL_REFRESH_S
        while self._jobs or self._lookups or not self._stopping:
            wait = refresh_at - self._clock.now()
            if not self._jobs and not self._lookups and wait > 0:
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), wait)
                continue
            try:
                if self._connection is None or self._connection.is_closed():
                    await self._connect()
                connection = self._connection
                assert connection is not None
                if wait <= 0:
                    await self._refresh(connection)
                    refresh_at = self._clock.now() + limits.TERMINAL_REFRESH_S
                await self._do_jobs(connection)
                await self._look_up(connection)
            except Exception as error:
                self._observer.event("terminals.database_away", error=repr(error))
                if self._connection is not None:
                    self._connection.terminate()
                # Nobody waits for an outage to end: a sign-on or a block of numbers is simply asked for again.
                self._fail_all(UnavailableError("database", "the database is away"))
                await asyncio.sleep(limits.JOURNAL_RECONNECT_S)

    async def _connect(self) -> None:
        self._connection = None
        connection = await connect(self._dsn, f"{self._name} terminals")
        try:
            self._mark = await connection.fetchval(QUERY["terminal_mark"], timeout=_ANSWER_S)
            rows = await connection.fetch(QUERY["terminal_list"], timeout=_ANSWER_S)
        except asyncpg.UndefinedTableError as error:
            connection.terminate()
            raise StartError("database_empty", "database.dsn: the schema is missing: run the migrations") from error
        except (asyncpg.PostgresError, *BROKEN) as error:
            connection.terminate()
            raise UnavailableError("database", f"PostgreSQL was lost: {type(error).__name__}") from error
        except BaseException:
            connection.terminate()
            raise
        self._cache = {row["terminal_id"]: _terminal(row) for row in rows}
        self._connection = connection

    async def _refresh(self, connection: Connection) -> None:
        # The mark is taken first: what commits between the two statements is read now and read again next time.
        mark = await connection.fetchval(QUERY["terminal_mark"], timeout=_ANSWER_S)
        for row in await connection.fetch(QUERY["terminal_changed"], self._mark, timeout=_ANSWER_S):
            self._remember(row)
        self._mark = mark

    async def _do_jobs(self, connection: Connection) -> None:
        for _ in range(len(self._jobs)):
            job, done = self._jobs[0]
            try:
                await job(connection)
            except asyncpg.PostgresError as error:
                if is_outage(error, connection):
                    raise
                self._tell(done, BadRequestError("terminal", f"the database refuses the value: {error}"))
            self._jobs.popleft()

    async def _look_up(self, connection: Connection) -> None:
        if not self._lookups:
            return
        asked = list(self._lookups)
        for row in await connection.fetch(QUERY["terminal_get"], asked, timeout=_ANSWER_S):
            self._remember(row)
        until = self._clock.now() + limits.TERMINAL_UNKNOWN_S
        for terminal_id in asked:
            known = self._cache.get(terminal_id)
            if known is None:
                self._unknown[terminal_id] = until
                self._unknown.move_to_end(terminal_id)
                if len(self._unknown) > _UNKNOWN_MAX:
                    self._unknown.popitem(last=False)
            for done in self._lookups.pop(terminal_id):
                self._tell(done, known)

    def _remember(self, row: Mapping[str, Any]) -> Terminal:
        terminal = _terminal(row)
        self._cache[terminal.terminal_id] = terminal
        self._unknown.pop(terminal.terminal_id, None)
        return terminal

    def _fail_all(self, error: SwitchError) -> None:
        jobs, self._jobs = self._jobs, deque()
        lookups, self._lookups = self._lookups, {}
        for _, done in jobs:
            self._tell(done, error)
        for waiting in lookups.values():
            for done in waiting:
                self._tell(done, error)

    def _tell(self, done: Callable[[Any], None], answer: Any) -> None:
        try:
            done(answer)
        except Exception as error:
            self._observer.event("terminals.callback_failed", error=repr(error))


_ANSWER_S = limits.CONNECT_TIMEOUT_S  # nothing here is a payment's commit, so a time-out may cancel it
_COLUMN_ORDER = (
    *("terminal_id", "merchant_id", "key_mode", "in_service", "tmk_wrapped", "tmk_kcv", "batch_number", "key_epoch"),
    *("working_keys", "signed_on_us", "out_of_service_reason", "sign_on_fault", "next_tmk_wrapped", "next_tmk_kcv"),
    *("stage", "mac_echoes", "platform_wrapped", "platform_kcv", "kiosk_keys"),
)
assert set(_COLUMN_ORDER) == set(_COLUMNS)


def _terminal(row: Mapping[str, Any]) -> Terminal:
    return Terminal(**{name: row[name] for name in _COLUMNS})


def _is_id(terminal_id: str) -> bool:
    """Whatever a kiosk sends as an id comes here; the database is not asked about what it cannot hold."""
    return len(terminal_id) == 8 and terminal_id.isascii() and terminal_id.isprintable()


def _no_gate(terminal_id: str) -> BadRequestError:
    return BadRequestError("terminal", f"terminal {terminal_id} waits for no echo test, or has other keys by now")


def _no_test(terminal_id: str) -> BadRequestError:
    return BadRequestError("terminal", f"terminal {terminal_id} waits for no such test")


def _other_keys(terminal_id: str) -> BadRequestError:
    return BadRequestError("terminal", f"terminal {terminal_id} is gone or has another master key now: sign on again")


def _unknown_terminal(terminal_id: str) -> BadRequestError:
    return BadRequestError("terminal", f"there is no terminal {terminal_id}")
