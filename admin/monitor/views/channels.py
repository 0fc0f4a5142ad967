"""What the switch says of itself and its links; and its availability, as promised and as it was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from litestar import Response, get

from admin import limits
from admin.auth.guard import needs
from admin.auth.permissions import Permission
from admin.monitor.availability import SLOT_MS, Payable, Spent, budget_ms, down_slots, outages
from admin.monitor.draw import Span, timeline
from admin.monitor.fleet import ZONE
from admin.monitor.nights import midnight
from admin.monitor.switchboard import LEGS
from admin.monitor.views.overview import QUERY, channels_of, year
from admin.monitor.watch import slot_of
from admin.web.given import Data, Who
from admin.web.render import AnyRequest, page, sayer

PAYMENT_STATES: Final = {
    "CARD_PENDING": "等待银联应答",
    "CARD_CONFIRMING": "确认扣款结果",
    "BILL_PENDING": "等待销账",
    "BILL_CANCELLING": "撤销销账",
    "REVERSAL_PENDING": "等待冲正",
}


@get("/monitor/channels", opt=needs(Permission.MONITOR_READ))
async def channels(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    now = datetime.now(UTC)
    start = now - timedelta(seconds=limits.TIMELINE_S)
    say = sayer(request)
    async with database.connection() as connection:
        words = await connection.fetch(QUERY["words"])
        notes = {row["name"]: row for row in await connection.fetch(QUERY["notes"])}
        failed = await connection.fetch(QUERY["probes_failed"], slot_of(start))
        probed = await connection.fetch(QUERY["probes_spans"], slot_of(start))
    down: dict[str, dict[int, bool]] = {}
    for row in failed:
        down.setdefault(row["service"], {})[row["slot"]] = False
    strips = []
    for row in probed:
        service = row["service"]
        spans = [Span(_at(a), _at(b), "good", say("正常")) for a, b in row["spans"]]
        spans += [Span(_at(a), _at(b), "bad", say("中断")) for a, b in outages(down_slots(down.get(service, {})))]
        strips.append((_service(service, say), spans))
    told = [row for row in words if row["told_at"] is not None]
    return page(
        request,
        "monitor/channels.html",
        words=words,
        channels=channels_of(told),
        waiting=sum(row["told"].get("reversals", {}).get("waiting", 0) for row in told),
        oldest_s=max((row["told"].get("reversals", {}).get("oldest_s", 0) for row in told), default=0),
        open=sum(row["told"].get("payments", {}).get("open", 0) for row in told),
        kiosks=sum(row["told"].get("kiosks", {}).get("connections", 0) for row in told),
        pending=sum(row["told"].get("journal", {}).get("pending", 0) for row in told),
        states=_states(told),
        state_names=PAYMENT_STATES,
        legs=LEGS,
        times=notes["times"]["told"] if "times" in notes else {},
        times_at=notes["times"]["at"] if "times" in notes else None,
        silent=bool(words) and all(row["trouble"] for row in words),
        told_at=max((row["told_at"] for row in told), default=None),
        drawn=timeline(say("最近 24 小时探测结果"), strips, start, now),
        strips=[(name, [each for each in spans if each.tone == "bad"]) for name, spans in strips],
        at=now,
    )


def _states(words: list[Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in words:
        for state, count in row["told"].get("payments", {}).get("states", {}).items():
            found[state] = found.get(state, 0) + count
    return found


def _at(slot: int) -> datetime:
    return datetime.fromtimestamp(slot * SLOT_MS / 1000, UTC)


def _service(name: str, say: Any) -> str:
    return str(say("前置")) if name == "switch" else name.removeprefix("link ")


@get("/monitor/availability", opt=needs(Permission.MONITOR_READ))
async def availability_page(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    now = datetime.now(UTC)
    today = now.astimezone(ZONE).date()
    first = today.replace(month=1, day=1)
    month = today - timedelta(days=30)
    scope = access.paths(Permission.MONITOR_READ)
    say = sayer(request)
    async with database.connection() as connection:
        whole = await year(connection, now)
        months = await connection.fetch(QUERY["months"], first, today)
        failed = await connection.fetch(QUERY["probes_failed"], slot_of(midnight(today - timedelta(days=30))))
        windows = await connection.fetch(QUERY["windows"], now - timedelta(days=60))
        kiosks = await connection.fetch(QUERY["kiosks_available"], scope, month, today, limits.KIOSK_ROWS)
        fleet = await connection.fetchrow(QUERY["all_kiosks_available"], scope, month, today)
    slots = {row["slot"]: False for row in failed if row["service"] == "switch"}
    reasons = {row["slot"]: row["detail"] for row in failed if row["service"] == "switch"}
    found = [(_at(a), _at(b), (b - a) * SLOT_MS, reasons.get(a, "")) for a, b in reversed(outages(down_slots(slots)))]
    return page(
        request,
        "monitor/availability.html",
        whole=whole,
        budget_ms=budget_ms(today.year),
        months=[
            (
                row["month"],
                _service(row["service"], say),
                Spent(
                    *(row["measured_ms"], row["down_ms"], row["window_ms"], row["down_in_window_ms"], row["missed_ms"])
                ),
            )
            for row in months
        ],
        outages=found,
        windows=windows,
        kiosks=[(row, Payable(row["open_s"], row["payable_s"])) for row in kiosks],
        fleet=Payable(fleet["open_s"], fleet["payable_s"]),
        at=now,
    )


HANDLERS: Final = [channels, availability_page]
