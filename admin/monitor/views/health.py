"""The service's own state: for people a page, for a service manager a word."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

from litestar import Response, get
from litestar.di import NamedDependency

from admin import limits
from admin.auth.guard import PUBLIC, needs
from admin.auth.permissions import Permission
from admin.monitor.health import Fault, SelfWatch, late_s
from admin.monitor.views.overview import QUERY
from admin.web import live as streams
from admin.web.given import Data, Who
from admin.web.loop import Loops
from admin.web.render import AnyRequest, page

Watch = NamedDependency[SelfWatch]
AllLoops = NamedDependency[Loops]


@dataclass(frozen=True, slots=True)
class LoopRow:
    name: str
    ran_at: datetime | None
    period_s: float | None
    took_ms: int | None
    error: str
    detail: str
    holder: str
    ok: bool


@get("/monitor/self", opt=needs(Permission.SYSTEM_READ))
async def self_page(request: AnyRequest, database: Data, access: Who, watch: Watch, loops: AllLoops) -> Response[Any]:
    faults = await watch.faults()
    async with database.connection() as connection:
        rows = await connection.fetch(QUERY["loops"])
        lag_s = await connection.fetchval(QUERY["lag"])
        size = await connection.fetchval(QUERY["database_whole"])
        tables = await connection.fetch(QUERY["database_size"])
        activity = await connection.fetch(QUERY["activity"])
    known = {row["name"]: row for row in rows}
    shown = []
    for name in sorted({*known, *loops.periods}):
        row, period_s = known.get(name), loops.periods.get(name)
        age_s = row["age_s"] if row else None
        detail = ", ".join(f"{key} {value}" for key, value in (row["detail"] or {}).items()) if row else ""
        is_late = period_s is not None and (age_s is None or age_s > late_s(period_s))
        shown.append(
            LoopRow(
                name,
                row["ran_at"] if row else None,
                period_s,
                row["took_ms"] if row else None,
                row["error"] if row else "",
                detail,
                row["holder"] if row else "",
                not is_late and not (row and row["error"]),
            )
        )
    told = watch.told_at
    return page(
        request,
        "monitor/self.html",
        faults=[(fault.text, fault.values) for fault in faults],
        loops=shown,
        lag_s=lag_s,
        size=size,
        tables=tables,
        activity=activity,
        live=streams.open_streams(),
        live_max=limits.SSE_CLIENTS_MAX,
        dead_man=watch.is_configured,
        dead_man_ok=told is not None and time.monotonic() - told < 2 * limits.DEAD_MAN_S,
        dead_man_age=int(time.monotonic() - told) if told is not None else None,
    )


@get("/health", opt=PUBLIC, include_in_schema=False)
async def health(watch: Watch) -> Response[Any]:
    """For a service manager: 200 while the database answers and every loop runs; else 503 with what is wrong."""
    faults: list[Fault] = [each for each in await watch.faults() if each.ours]
    status = HTTPStatus.SERVICE_UNAVAILABLE if faults else HTTPStatus.OK
    return Response({"ok": not faults, "faults": [each.code for each in faults]}, status_code=status)


HANDLERS: Final = [self_page, health]
