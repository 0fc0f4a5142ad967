"""The loops of monitoring: what the switch says, who is in trouble, what nights are for.

``Prober`` runs in every process beside the loops and needs no database to ask: an outage of the database is an outage
of the switch, and has to be in the books when the database is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from admin import limits
from admin.db.pool import Connection, Database
from admin.db.queries import statements
from admin.errors import UnavailableError
from admin.monitor import fleet, rhythm
from admin.monitor.availability import SLOT_MS
from admin.monitor.matrix import Duty
from admin.monitor.switchboard import Probe, Switchboard, Word, probes_of

_LOG = logging.getLogger("admin.monitor")
QUERY: Final = statements(__file__)
_EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)


def slot_of(at: datetime) -> int:
    return int(at.timestamp()) * 1000 // SLOT_MS


class Prober:
    """Asks the switch once in each slot, and writes what it heard as soon as the database takes it."""

    def __init__(self, database: Database, board: Switchboard) -> None:
        self._database = database
        self._board = board
        self._waiting: deque[tuple[int, list[Probe]]] = deque(maxlen=limits.PROBES_KEPT)
        self._task: asyncio.Task[None] | None = None
        self.last_at = 0.0  # monotonic seconds; for the self-watch

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="prober")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                await self.probe()
            except Exception:  # a prober that ends by itself would be noticed by nobody
                _LOG.exception("prober")
            self.last_at = time.monotonic()
            now = datetime.now(UTC).timestamp()
            await asyncio.sleep(limits.PROBE_S - now % limits.PROBE_S + limits.PROBE_OFFSET_S)

    async def probe(self) -> None:
        """One look at the switch."""
        words = await self._board.status()
        self._waiting.append((slot_of(datetime.now(UTC)), probes_of(words)))
        times = await self._board.measure()
        try:
            await self._write(words, times)
        except UnavailableError as error:
            _LOG.warning("probes wait for the database: %s", error)

    async def _write(self, words: Sequence[Word], times: dict[str, dict[str, int]]) -> None:
        async with self._database.connection() as connection:
            for word in words:
                if word.told:
                    await connection.execute(QUERY["switch_told"], word.place, dict(word.told))
                else:
                    await connection.execute(QUERY["switch_silent"], word.place, word.trouble)
            if times:
                await connection.execute(QUERY["note_write"], "times", times)
            while self._waiting:
                slot, probes = self._waiting[0]
                names, good, details = zip(*((each.service, each.good, each.detail) for each in probes), strict=True)
                await connection.execute(QUERY["probe_write"], slot, names, good, details)
                self._waiting.popleft()


class Diagnoser:
    """Judges the whole fleet: one statement reads it, the matrix is pure, three statements write what has changed."""

    def __init__(self, database: Database, board: Switchboard) -> None:
        self._database = database
        self._board = board
        self._rhythms: dict[int, rhythm.Rhythm] = {}
        self._worth: dict[int, tuple[int, int]] = {}  # fen and sessions of the window
        self._fitted_at = _EVER
        self._ran_at = _EVER
        self._judges_from = self._counts_from = _EVER
        self._paces: dict[int, float] = {}
        self._paced_at = _EVER

    async def run(self) -> dict[str, Any]:
        """One round. Returns how many there are and what changed."""
        now = datetime.now(UTC)
        if (now - self._ran_at).total_seconds() > limits.BEAT_S:
            # We were not there, so nobody's beats were taken: they all look old.
            self._judges_from = now + timedelta(seconds=limits.ABSENCE_GRACE_S)
        self._ran_at = now
        heard, whole = await self._board.heard()
        async with self._database.connection() as connection:
            await self._read_rhythms(connection)
            special = await _special(connection, now)
            lag_s = await connection.fetchval(QUERY["feed_lag"])
            rows = await connection.fetch(QUERY["fleet_read"])
        kiosks = [_kiosk(row) for row in rows]
        if lag_s is None or lag_s > limits.FEED_LAG_MAX_S:
            # Silence would be ours; and when the feed is back, everybody is given time to be seen.
            self._counts_from = now + timedelta(seconds=limits.ABSENCE_GRACE_S)
        if (now - self._paced_at).total_seconds() >= limits.PACE_S:
            self._paces, self._paced_at = await self._pace(kiosks, now, special), now
        world = fleet.World(
            now=now,
            heard=heard,
            switch_told=whole,
            judges_absence=now >= self._judges_from,
            counts=now >= max(self._counts_from, self._judges_from),
            rhythms=self._rhythms,
            special=special,
            paces=self._paces,
        )
        judged = await asyncio.to_thread(fleet.judge, kiosks, world)
        changed = await self._write(rows, judged, world)
        return {"kiosks": len(kiosks), "judged": len(judged), "changed": changed, "switch_told": whole}

    async def _read_rhythms(self, connection: Connection) -> None:
        for row in await connection.fetch(QUERY["rhythm_read"], self._fitted_at):
            self._rhythms[row["kiosk_id"]] = rhythm.Rhythm(row["rates"], row["daily"], row["alpha"])
            self._worth[row["kiosk_id"]] = row["fen"], row["sessions"]
            self._fitted_at = max(self._fitted_at, row["fitted_at"])

    async def _pace(self, kiosks: Sequence[fleet.Kiosk], now: datetime, special: dict[Any, int]) -> dict[int, float]:
        """How each city's day goes, next to a usual one."""
        local = now.astimezone(fleet.ZONE)
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
        async with self._database.connection() as connection:
            rows = await connection.fetch(QUERY["sessions_since"], midnight)
        came = {row["kiosk_id"]: row["sessions"] for row in rows}

        def paces() -> dict[int, float]:
            observed: dict[int, int] = {}
            foreseen: dict[int, float] = {}
            for each in kiosks:
                known = self._rhythms.get(each.kiosk_id)
                if known is None:
                    continue
                observed[each.city] = observed.get(each.city, 0) + came.get(each.kiosk_id, 0)
                foreseen[each.city] = foreseen.get(each.city, 0.0) + rhythm.expected(
                    known, each.hours, midnight.replace(tzinfo=None), local.replace(tzinfo=None), special
                )
            return {city: rhythm.pace(observed[city], foreseen[city]) for city in foreseen}

        return await asyncio.to_thread(paces)

    async def _write(self, rows: Sequence[Any], judged: Sequence[fleet.Judged], world: fleet.World) -> int:
        before = {row["id"]: row for row in rows}
        status: list[tuple[int, str]] = []
        watch: list[tuple[int, str, bool, int, int]] = []
        log: list[tuple[int, str, bool | None, str]] = []
        for each in judged:
            row, said, signals = before[each.kiosk_id], each.diagnosis, _words(each)
            risk_fen, risk_sessions = self._risk(each)
            is_new = said.code != row["diagnosis"]
            if is_new:
                status.append((each.kiosk_id, said.code))
            if is_new or signals != (row["signals"] or []):
                known = None if each.signals.duty is not Duty.ON or said.code == "unknown" else said.payable
                log.append((each.kiosk_id, said.code, known, _array(signals)))
                watch.append((each.kiosk_id, _array(signals), said.payable, risk_fen, risk_sessions))
            elif risk_fen != row["risk_fen"]:
                watch.append((each.kiosk_id, _array(signals), said.payable, risk_fen, risk_sessions))
        heard = self._newly_heard(rows, world)
        async with self._database.transaction() as connection:
            for name, values in (
                ("diagnosis_status", status),
                ("diagnosis_watch", watch),
                ("diagnosis_log", log),
                ("heard_write", heard),
            ):
                if values:
                    await connection.execute(QUERY[name], *map(list, zip(*values, strict=True)))
        return len(log)

    def _risk(self, judged: fleet.Judged) -> tuple[int, int]:
        fen, sessions = self._worth.get(judged.kiosk_id, (0, 0))
        return rhythm.at_risk_fen(int(judged.expected * rhythm.MILLION), fen, sessions), int(judged.expected)

    def _newly_heard(self, rows: Sequence[Any], world: fleet.World) -> list[tuple[int, datetime]]:
        """Not each word is written: a minute's precision is enough for a page, and a fleet talks all the time."""
        found: list[tuple[int, datetime]] = []
        for row in rows:
            told = world.heard.get(row["terminal_id"] or "")
            if told is None or told.heard_at is None:
                continue
            if row["switch_at"] is None or (told.heard_at - row["switch_at"]).total_seconds() >= limits.HEARD_WRITTEN_S:
                found.append((row["id"], told.heard_at))
        return found


def _words(judged: fleet.Judged) -> list[str]:
    each = judged.signals
    if each.duty is not Duty.ON:
        return [each.duty.value]
    return [each.agent.value, each.switch.value, each.sessions.value, each.payments.value, each.units.value]


def _array(words: Sequence[str]) -> str:
    return "{" + ",".join(words) + "}"


def _kiosk(row: Any) -> fleet.Kiosk:
    return fleet.Kiosk(
        kiosk_id=row["id"],
        state=row["state"],
        state_since=row["state_since"],
        terminal_id=row["terminal_id"],
        line=row["line"],
        site=row["org_id"],
        city=row["city"],
        hours=rhythm.Hours(row["opens"], row["closes"]),
        beat_at=row["beat_at"],
        units=row["units"] or {},
        session_at=row["session_at"],
        tried_at=row["payment_at"],
        failures=row["failures"],
        payable_since=row["payable_since"] if row["payable"] else None,
        since=row["since"],
        code=row["diagnosis"],
    )


async def _special(connection: Connection, now: datetime) -> dict[Any, int]:
    since = (now - timedelta(days=limits.SILENCE_DAYS_MAX)).date()
    return {row["day"]: row["counts_as"] for row in await connection.fetch(QUERY["special_days"], since)}


class Folder:
    """Sums payments into quarters of an hour, and notes what they say of their kiosks."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._again_at = 0.0
        self._complete_to: datetime | None = None  # until when the copy of the payments was complete last time
        self._filled = False  # days before the first sum were looked at

    async def run(self) -> dict[str, Any]:
        """What began lately; and, now and then, earlier quarters that were not settled yet."""
        now = datetime.now(UTC)
        back = _quarter(now - timedelta(seconds=limits.PAYMENTS_BACK_S))
        slots: list[datetime] = []
        async with self._database.connection() as connection:
            start = await self._since(connection, back)
            if time.monotonic() >= self._again_at:
                slots = [row["slot"] for row in await connection.fetch(QUERY["quarters_open"], back)]
                self._again_at = time.monotonic() + limits.PACE_S
            for slot in slots:
                await connection.execute(QUERY["quarters_fold"], slot, slot + _QUARTER)
            while start < _quarter(now) + _QUARTER:
                end = min(start + timedelta(days=1), _quarter(now) + _QUARTER)
                await connection.execute(QUERY["quarters_fold"], start, end)
                start = end
            if not self._filled:
                self._filled = await self._fill(connection, now)
            kiosks = await connection.fetchval(QUERY["payments_take"], back, limits.PAYMENTS_LAST)
            await connection.execute(QUERY["minutes_fold"], back, limits.PROBE_PAYMENTS_MIN)
        return {"kiosks": kiosks, "again": len(slots)}

    async def _since(self, connection: Connection, back: datetime) -> datetime:
        """Where to sum from: earlier than usual when the copy of the payments was behind, or we were not there."""
        before = self._complete_to
        if before is None:
            before = await connection.fetchval(QUERY["quarters_last"])
        self._complete_to = await connection.fetchval(QUERY["feed_complete_to"])
        if before is None:
            return back
        return min(back, _quarter(before - timedelta(seconds=limits.PAYMENTS_BACK_S)))

    async def _fill(self, connection: Connection, now: datetime) -> bool:
        """One day before the first that is summed: payments older than this service. True: there are no more."""
        first = await connection.fetchval(QUERY["quarters_first"]) or _quarter(now)
        last_before = await connection.fetchval(QUERY["payment_before"], first)
        if last_before is None or last_before < now - timedelta(days=limits.QUARTERS_DAYS):
            # What days usually look like was summed up from fewer.
            await connection.execute(QUERY["usual_forget"], date.max)
            return True
        end = _quarter(last_before) + _QUARTER
        await connection.execute(QUERY["quarters_fold"], end - timedelta(days=1), end)
        return False


_QUARTER: Final = timedelta(minutes=15)


def _quarter(at: datetime) -> datetime:
    return datetime.fromtimestamp(int(at.timestamp()) // 900 * 900, UTC)
