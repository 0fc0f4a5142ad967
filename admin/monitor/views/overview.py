"""The wall: how many kiosks can be paid at, how the day goes next to a usual one, who needs somebody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from litestar import Response, get
from litestar.response import Stream

from admin import limits
from admin.auth.guard import needs
from admin.auth.permissions import Permission
from admin.db.pool import Connection
from admin.db.queries import statements
from admin.monitor.availability import Spent, budget_ms
from admin.monitor.draw import curve
from admin.monitor.fleet import ZONE
from admin.monitor.matrix import DIAGNOSES, Diagnosis, Severity, tone
from admin.monitor.nights import midnight
from admin.monitor.switchboard import LEGS
from admin.web.given import Data, Who
from admin.web.live import Shared, live
from admin.web.render import AnyRequest, fragment, page, sayer

QUERY: Final = statements(__file__)
QUARTERS: Final = 96
_GRAVE: Final = {each.code: int(each.severity) for each in DIAGNOSES.values() if each.severity}
_SHARED: Final = Shared(limits.OVERVIEW_S)


@dataclass(frozen=True, slots=True)
class Need:
    """A kiosk that needs somebody."""

    kiosk_id: int
    code: str
    site: str
    diagnosis: Diagnosis
    since: datetime | None
    risk_fen: int
    risk_sessions: int


@dataclass(frozen=True, slots=True)
class Channel:
    """A link of the switch, all workers together; ``since``: when that was said."""

    name: str
    up: bool
    breaker_open: bool
    rtt_ms: float
    since: datetime


@dataclass(frozen=True, slots=True)
class Day:
    """A day's payments of the organisations in view. ``usual``: (mean, low, high) in hundredths by quarter."""

    begun: Sequence[int | None]
    usual: tuple[Sequence[int], Sequence[int], Sequence[int]]
    completed: int
    judged: int  # those that ended, customers' and banks' refusals left out
    open: int
    fen: int
    rate: tuple[int, int, int] | None  # per mille: mean, low, high of days of this kind
    days: int  # that were compared

    @property
    def usual_until_now(self) -> int:
        """Payments that there usually are by now."""
        now = sum(each is not None for each in self.begun)
        return sum(self.usual[0][:now]) // 100

    @property
    def begun_until_now(self) -> int:
        return sum(each or 0 for each in self.begun)


@dataclass(frozen=True, slots=True)
class Overview:
    at: datetime
    tops: Sequence[str]
    counts: dict[str, int]
    payable: int
    serving: int
    day: Day
    needs: Sequence[Need]
    channels: Sequence[Channel]
    switch_ready: bool
    switch_told_at: datetime | None
    switch_trouble: str
    not_ready: Sequence[str]
    times: dict[str, dict[str, int]]
    times_at: datetime | None
    year: Spent
    budget_ms: int
    judged_age_s: int | None
    lag_s: int | None

    @property
    def worst(self) -> Channel | None:
        return max(self.channels, key=lambda each: (not each.up, each.breaker_open, each.rtt_ms), default=None)

    @property
    def left_ms(self) -> int:
        return self.budget_ms - self.year.contract_down_ms

    @property
    def stale_s(self) -> int:
        """How old what is shown is, when it is older than two rounds of the loop; 0: it is fresh."""
        age_s = self.judged_age_s
        return 0 if age_s is not None and age_s <= limits.STALE_S else age_s if age_s is not None else -1


async def read(connection: Connection, paths: list[str]) -> Overview:
    """Everything on the wall, of what may be seen: a dozen small reads, none of them over payments."""
    now = datetime.now(UTC)
    tops = await connection.fetch(QUERY["scope_tops"], paths)
    rows = await connection.fetch(QUERY["kiosk_counts"], paths)
    counts = {row["code"]: row["kiosks"] for row in rows}
    ill = await connection.fetch(QUERY["needs"], paths, list(_GRAVE), list(_GRAVE.values()), limits.NEEDS_ROWS)
    loops = {row["name"]: row for row in await connection.fetch(QUERY["loops"])}
    notes = {row["name"]: row for row in await connection.fetch(QUERY["notes"])}
    words = await connection.fetch(QUERY["words"])
    told = [row for row in words if row["told_at"] is not None]
    newest = max((row["told_at"] for row in told), default=None)
    fresh = [row["told"] for row in words if row["trouble"] == "" and row["told"]]
    times = notes.get("times")
    return Overview(
        at=now,
        tops=[row["name"] for row in tops],
        counts=counts,
        payable=sum(row["payable"] for row in rows),
        serving=sum(kiosks for code, kiosks in counts.items() if code not in ("closed", "off")),
        day=await _day(connection, [row["id"] for row in tops], now),
        needs=[
            Need(
                *(row["id"], row["code"], row["site"], DIAGNOSES[row["diagnosis"]], row["since"]),
                *(row["risk_fen"], row["risk_sessions"]),
            )
            for row in ill
        ],
        channels=channels_of(told),
        switch_ready=any(each["ready"] for each in fresh),
        switch_told_at=newest,
        switch_trouble="" if fresh else next((row["trouble"] for row in words), "没有配置前置的控制接口"),
        not_ready=list(dict.fromkeys(reason for each in fresh for reason in each["not_ready"])),
        times=times["told"] if times else {},
        times_at=times["at"] if times else None,
        year=await year(connection, now),
        budget_ms=budget_ms(now.astimezone(ZONE).year),
        judged_age_s=loops["diagnose"]["age_s"] if "diagnose" in loops else None,
        lag_s=await connection.fetchval(QUERY["lag"]),
    )


def channels_of(words: Sequence[Any]) -> list[Channel]:
    found: dict[str, Channel] = {}
    for row in words:
        for name, link in row["told"].get("links", {}).items():
            each = Channel(name, link["up"], link["breaker_open"], link["echo_rtt_ms"], row["told_at"])
            other = found.get(name)
            if other is None or (each.up and not each.breaker_open) > (other.up and not other.breaker_open):
                found[name] = each
    return [found[name] for name in sorted(found)]


async def year(connection: Connection, now: datetime, service: str = "switch") -> Spent:
    """Of this calendar year: the days in the books, and today as far as it goes."""
    today = now.astimezone(ZONE).date()
    row = await connection.fetchrow(QUERY["year"], service, today.replace(month=1, day=1), today)
    note = await connection.fetchrow(QUERY["today"], service)
    return Spent(**dict(row)) + (Spent(**note["told"][service]) if note else Spent())


async def _day(connection: Connection, tops: list[int], now: datetime) -> Day:
    start = midnight(now.astimezone(ZONE).date())
    rows = await connection.fetch(QUERY["quarters"], tops, start)
    usual = await connection.fetch(QUERY["usual"], tops, now.astimezone(ZONE).date())
    begun: list[int | None] = [
        0 if start + timedelta(minutes=15 * number) <= now else None for number in range(QUARTERS)
    ]
    for row in rows:
        begun[int((row["slot"] - start).total_seconds()) // 900] = row["begun"]
    rates = [row for row in usual if row["rate"] is not None]
    sums = [[sum(each) for each in zip(*(row[name] for row in usual), strict=True)] for name in ("mean", "low", "high")]
    rate = None
    if rates:
        mean, low, high = (sum(row[name] for row in rates) // len(rates) for name in ("rate", "rate_low", "rate_high"))
        rate = mean, low, high
    return Day(
        begun=begun,
        usual=(sums[0], sums[1], sums[2]),
        completed=sum(row["completed"] for row in rows),
        judged=sum(row["completed"] + row["failed"] for row in rows),
        open=sum(row["open"] for row in rows),
        fen=sum(row["fen"] for row in rows),
        rate=rate,
        days=max((row["days"] for row in usual), default=0),
    )


# ---------------------------------------------------------------------------------------------------- pages
async def _shared(database: Data, access: Who) -> Overview:
    paths = access.paths(Permission.MONITOR_READ)

    async def make() -> Overview:
        async with database.connection() as connection:
            return await read(connection, paths)

    found: Overview = await _SHARED.get((database, tuple(paths)), make)
    return found


def _values(request: AnyRequest, seen: Overview) -> dict[str, Any]:
    say = sayer(request)
    return {
        "seen": seen,
        "names": DIAGNOSES,
        "tone": tone,
        "legs": LEGS,
        "serious": sum(count for code, count in seen.counts.items() if _GRAVE.get(code) == Severity.SERIOUS),
        "drawn": curve(say("今日 15 分钟交易曲线与平日对比"), seen.day.begun, *seen.day.usual, width=720),
        "quarters": [f"{number // 4:02d}:{number % 4 * 15:02d}" for number in range(QUARTERS)],
    }


@get("/monitor", opt=needs(Permission.MONITOR_READ))
async def overview(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    return page(request, "monitor/overview.html", **_values(request, await _shared(database, access)))


@get("/monitor/live", opt=needs(Permission.MONITOR_READ, background=True), include_in_schema=False)
async def overview_live(request: AnyRequest, database: Data, access: Who) -> Stream:
    async def parts() -> dict[str, str]:
        values = _values(request, await _shared(database, access))
        return {
            f"#{name}": fragment(request, f"monitor/overview_{name}.html", **values)
            for name in ("state", "tiles", "curve", "numbers", "needs", "channels")
        }

    return live(parts, limits.OVERVIEW_S)


HANDLERS: Final = [overview, overview_live]
