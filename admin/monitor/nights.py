"""What is done once a day, when it is over: rhythms fitted, availability put into the books, old rows let go."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from admin import limits
from admin.db.pool import Connection, Database
from admin.monitor import rhythm
from admin.monitor.availability import Slot, Span, Spent, payable, spent
from admin.monitor.fleet import ZONE
from admin.monitor.watch import QUERY, slot_of

WINDOW: Final = timedelta(weeks=limits.RHYTHM_WEEKS)
ALL: Final = "*"  # a window of this service is one of all


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), ZONE).astimezone(UTC)


class Nights:
    """Idempotent: what is done already is not done again, and a night that was missed is made up for.

    What is shown of today beside the books is summed up each time.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._done_on: date | None = None

    async def run(self) -> dict[str, Any]:
        """Called each minute; the night's work is done once a local day."""
        today = datetime.now(ZONE).date()
        await self.sum_up_today(today)
        await self.usual(today)
        if self._done_on is None:
            async with self._database.connection() as connection:
                note = await connection.fetchrow(QUERY["note_read"], "nights")
            self._done_on = date.fromisoformat(note["told"]["day"]) if note else None
        if self._done_on == today:
            return {"day": today.isoformat()}
        days = await self.fold(today)
        fitted = await self.fit(today)
        await self.forget(today)
        async with self._database.connection() as connection:
            await connection.execute(QUERY["note_write"], "nights", {"day": today.isoformat()})
        self._done_on = today
        return {"day": today.isoformat(), "folded": days, "fitted": fitted}

    # ------------------------------------------------------------------------------------------------ availability
    async def sum_up_today(self, today: date) -> None:
        now = datetime.now(UTC)
        async with self._database.connection() as connection:
            found = await availability(connection, midnight(today), now)
            told = {service: dataclasses.asdict(each) for service, each in found.items()}
            await connection.execute(QUERY["note_write"], "availability", told)

    async def fold(self, today: date) -> int:
        """Every day that is over and not in the books yet. Returns how many."""
        async with self._database.connection() as connection:
            last = await connection.fetchval(QUERY["day_folded"])
            first = await connection.fetchval(QUERY["first_probe"])
        if first is None:
            return 0
        day = last + timedelta(days=1) if last else datetime.fromtimestamp(first * limits.PROBE_S, ZONE).date()
        count = 0
        while day < today:
            await self._fold_day(day)
            day, count = day + timedelta(days=1), count + 1
        return count

    async def _fold_day(self, day: date) -> None:
        start, end = midnight(day), midnight(day + timedelta(days=1))
        async with self._database.transaction() as connection:
            for service, found in (await availability(connection, start, end)).items():
                await connection.execute(
                    QUERY["day_write"],
                    service,
                    day,
                    found.measured_ms,
                    found.down_ms,
                    found.window_ms,
                    found.down_in_window_ms,
                    found.missed_ms,
                )
            changes = await connection.fetch(QUERY["diagnoses_read"], start, end)
            hours = {row["id"]: (row["opens"], row["closes"]) for row in await connection.fetch(QUERY["kiosk_hours"])}
            rows = _kiosk_days(changes, hours, int(start.timestamp()))
            if rows:
                await connection.execute(QUERY["kiosk_day_write"], day, *map(list, zip(*rows, strict=True)))

    # ------------------------------------------------------------------------------------------------ rhythm
    async def fit(self, today: date) -> int:
        """Every kiosk's rhythm from the eight weeks before today. Returns how many were fitted."""
        async with self._database.connection() as connection:
            kiosks = {row["id"]: row["city"] for row in await connection.fetch(QUERY["fit_kiosks"])}
        counted: dict[int, rhythm.Counted] = {}
        worth: dict[int, int] = {}
        lately: dict[int, int] = {}
        for part in _parts(list(kiosks), limits.FIT_KIOSKS):
            async with self._database.connection() as connection:
                counted |= await self._counted(connection, part, today - WINDOW, today)
                since = today - timedelta(days=limits.WORTH_DAYS)
                rows = await connection.fetch(QUERY["fit_worth"], part, since, today)
                worth |= {row["kiosk_id"]: row["fen"] for row in rows}
                recent = await self._counted(connection, part, since, today)
                lately |= {kiosk: sum(each.sessions) for kiosk, each in recent.items()}
        fitted = await asyncio.to_thread(_fit, counted, kiosks)
        rows = [
            (
                *(kiosk, list(each.rates), each.daily, each.alpha, sum(counted[kiosk].days)),
                *(lately.get(kiosk, 0), worth.get(kiosk, 0)),
            )
            for kiosk, each in fitted.items()
        ]
        for some in _parts(rows, limits.FIT_KIOSKS):
            async with self._database.transaction() as connection:
                await connection.executemany(QUERY["fit_write"], some)
        return len(rows)

    async def _counted(
        self, connection: Connection, kiosks: Sequence[int], since: date, until: date
    ) -> dict[int, rhythm.Counted]:
        sessions: dict[int, list[int]] = {}
        days: dict[int, list[int]] = {}
        for row in await connection.fetch(QUERY["fit_days"], kiosks, since, until):
            days.setdefault(row["kiosk_id"], [0] * rhythm.KINDS)[row["kind"]] = row["days"]
        for row in await connection.fetch(QUERY["fit_counts"], kiosks, since, until):
            cells = sessions.setdefault(row["kiosk_id"], [0] * rhythm.CELLS)
            cells[rhythm.cell(row["kind"], row["hour"])] = row["sessions"]
        return {
            kiosk: rhythm.Counted(sessions.get(kiosk, [0] * rhythm.CELLS), each)
            for kiosk, each in days.items()
            if sum(each)
        }

    # ------------------------------------------------------------------------------------------------ the rest
    async def usual(self, today: date) -> None:
        """What today should look like, if that is not known yet."""
        async with self._database.connection() as connection:
            if not await connection.fetchval(QUERY["usual_known"], today):
                since = midnight(today - timedelta(days=limits.QUARTERS_DAYS))
                await connection.execute(QUERY["usual_fold"], today, since)

    async def forget(self, today: date) -> None:
        async with self._database.connection() as connection:
            await connection.execute(QUERY["usual_forget"], today - timedelta(days=1))
            await connection.execute(QUERY["quarters_forget"], midnight(today - timedelta(days=limits.QUARTERS_DAYS)))
            await connection.execute(
                QUERY["probes_forget"], slot_of(midnight(today - timedelta(days=limits.PROBES_DAYS)))
            )
            oldest = int(midnight(today - timedelta(days=limits.PROBES_DAYS)).timestamp()) // 60
            await connection.execute(QUERY["minutes_forget"], oldest)
            await connection.execute(QUERY["diagnoses_forget"], midnight(today - timedelta(days=limits.DIAGNOSES_DAYS)))


async def availability(connection: Connection, start: datetime, end: datetime) -> dict[str, Spent]:
    """What probes and payments show of each service from ``start`` to ``end``; payments count for the switch itself."""
    span: Span = slot_of(start), slot_of(end)
    probes: defaultdict[str, dict[Slot, bool]] = defaultdict(
        dict, switch={}
    )  # that one is asked for even if nobody did
    for row in await connection.fetch(QUERY["probes_read"], span[0] - 1, span[1] + 1):
        probes[row["service"]][row["slot"]] = row["good"]
    rows = await connection.fetch(QUERY["minutes_read"], int(start.timestamp()) // 60, int(end.timestamp()) // 60)
    minutes = {row["minute"]: (row["good"], row["every"]) for row in rows}
    windows: defaultdict[str, list[Span]] = defaultdict(list)
    for row in await connection.fetch(QUERY["windows_read"], start, end):
        windows[row["service"]].append((slot_of(row["starts_at"]), slot_of(row["ends_at"])))
    return {
        service: spent(span, known, minutes if service == "switch" else {}, windows[service] + windows[ALL])
        for service, known in probes.items()
    }


def _kiosk_days(changes: Iterable[Any], hours: Mapping[int, tuple[int, int]], start: int) -> list[tuple[int, int, int]]:
    by_kiosk: defaultdict[int, list[tuple[int, bool | None]]] = defaultdict(list)
    for row in changes:
        by_kiosk[row["kiosk_id"]].append((int(row["at"].timestamp()), row["payable"]))
    found: list[tuple[int, int, int]] = []
    for kiosk, each in by_kiosk.items():
        opens, closes = hours[kiosk]
        day = payable(each, start + opens * 60, start + closes * 60)
        if day.open_s:
            found.append((kiosk, day.open_s, day.payable_s))
    return found


def _fit(counted: Mapping[int, rhythm.Counted], city_of: Mapping[int, int]) -> dict[int, rhythm.Rhythm]:
    cities: defaultdict[int, list[rhythm.Counted]] = defaultdict(list)
    for kiosk, each in counted.items():
        cities[city_of[kiosk]].append(each)
    shapes = {city: rhythm.shape(each) for city, each in cities.items()}
    return {kiosk: rhythm.fit(each, shapes[city_of[kiosk]]) for kiosk, each in counted.items()}


def _parts(all_: Sequence[Any], size: int) -> Iterable[Any]:
    return (all_[at : at + size] for at in range(0, len(all_), size))
