"""The fleet as a list with its diagnoses, and one kiosk with everything that is known of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from litestar import Response, get

from admin import limits
from admin.auth.guard import needs
from admin.auth.permissions import Permission
from admin.db.pool import Connection
from admin.errors import NotFoundError
from admin.monitor import rhythm
from admin.monitor.draw import Say, Span, curve, timeline
from admin.monitor.fleet import ZONE, units_of
from admin.monitor.matrix import DIAGNOSES, Agent, Payments, Sessions, Switch, Units, tone
from admin.monitor.nights import midnight
from admin.monitor.views.overview import QUERY
from admin.web.given import Data, Number, Who
from admin.web.render import AnyRequest, listing, page, sayer
from admin.web.table import Column, Filter, Table

STATES: Final = {
    "registered": "登记",
    "pending": "待认证",
    "commissioning": "调试",
    "trial": "试运行",
    "in_service": "运行",
    "out_of_service": "暂停",
    "maintenance": "维护",
    "retired": "退役",
}
UNIT_NAMES: Final = {
    "idc": "读卡器",
    "pin": "密码键盘",
    "ptr": "凭条打印机",
    "ptr2": "发票打印机",
    "cim": "现金模块",
    "scan": "扫码器",
    "nfc": "非接读卡器",
    "touch": "触摸屏",
    "ups": "不间断电源",
    "door": "柜门",
    "cam": "摄像头",
    "paper": "纸",
    "toner": "墨",
    "bin": "废料箱",
}
UNIT_STATES: Final = {
    "online": "正常",
    "offline": "离线",
    "poweroff": "断电",
    "nodevice": "未连接",
    "hwerror": "硬件故障",
    "usererror": "操作错误",
    "busy": "忙",
    "fraudattempt": "疑似加装",
    "potentialfraud": "可能被加装",
    "unknown": "未知",
    "full": "充足",
    "low": "偏少",
    "out": "用尽",
    "jammed": "卡住",
    "ok": "正常",
    "high": "偏满",
    "missing": "缺失",
    "closed": "关闭",
    "open": "打开",
}
COUNTERS: Final = {
    "sessions": "会话",
    "txn_ok": "成功交易",
    "txn_bad": "失败交易",
    "slips": "凭条",
    "jams": "卡纸",
    "restarts": "重启",
}
RESULTS: Final = {
    "COMPLETED": "缴费成功",
    "DECLINED": "已拒绝",
    "REVERSED": "已冲正",
    "REFUNDED": "已退款",
    "SUSPENSE": "挂账",
    "UNPROVEN": "待核实",
}
OUTCOMES: Final = {"done": "完成", "abandoned": "放弃", "timeout": "超时", "failed": "失败"}
# What each witness said, by the place of its word in ``admin.diagnosis.signals``: word -> (tone, in words).
WITNESSES: Final[tuple[tuple[str, Mapping[str, tuple[str, str]]], ...]] = (
    (
        "心跳",
        {
            Agent.OK: ("good", "有心跳"),
            Agent.MISSING: ("bad", "心跳中断"),
            Agent.UNKNOWN: ("mute", "没有监控程序，或尚不能判断"),
        },
    ),
    (
        "前置",
        {
            Switch.OK: ("good", "前置收到报文，已签到"),
            Switch.UNSIGNED: ("warn", "前置收到报文，未签到"),
            Switch.SILENT: ("bad", "前置收不到报文"),
            Switch.UNKNOWN: ("mute", "前置没有应答"),
        },
    ),
    (
        "使用",
        {
            Sessions.USUAL: ("good", "与平常相同"),
            Sessions.QUIET: ("warn", "比平常久无人使用"),
            Sessions.UNKNOWN: ("mute", "没有可比的节奏"),
        },
    ),
    (
        "缴费",
        {
            Payments.OK: ("good", "缴费成功"),
            Payments.FAILING: ("bad", "连续失败"),
            Payments.NONE: ("mute", "最近没有缴费"),
        },
    ),
    (
        "外设",
        {
            Units.OK: ("good", "外设正常"),
            Units.WEAK: ("warn", "外设需要处理"),
            Units.BROKEN: ("bad", "外设故障，不能受理银行卡"),
        },
    ),
)


# ---------------------------------------------------------------------------------------------------- the list
def _kiosk_link(row: Mapping[str, Any]) -> str:
    return f"/monitor/kiosks/{row['id']}"


_GRAVITY: Final = " ".join(f"WHEN '{each.code}' THEN {int(each.severity)}" for each in DIAGNOSES.values())
# The graver the diagnosis, the higher; among equals what is at stake. Fen stay far below the factor.
_RANK: Final = (
    f"((CASE status.diagnosis {_GRAVITY} ELSE 1 END)::bigint * 1000000000000 + coalesce(watch.risk_fen, 0))::bigint"
)
WATCHED: Final = Table(
    name="watched",
    title="终端监控",
    key="kiosk.id",
    sort="-diagnosis",
    row_link=_kiosk_link,
    columns=(
        Column("code", "终端", sort="kiosk.code::text"),
        Column("site", "营业厅", sort="org.name::text"),
        Column(
            "diagnosis",
            "诊断",
            "state",
            sort=_RANK,
            names={code: each.name for code, each in DIAGNOSES.items()},
            tones={code: tone(each) for code, each in DIAGNOSES.items()},
        ),
        Column("since", "始于", "time", sort="coalesce(status.since, kiosk.state_since)::timestamptz"),
        Column("risk_fen", "预计损失", "money", sort="coalesce(watch.risk_fen, 0)::bigint"),
        Column("state", "状态", "state", names=STATES, tones={"in_service": "good", "trial": "good"}, wide_only=True),
        Column("model", "型号", sort="model.name::text", wide_only=True),
        Column(
            "beat_at", "最近心跳", "time", sort="coalesce(status.beat_at, '-infinity')::timestamptz", wide_only=True
        ),
        Column("completed_at", "最近成功缴费", "time", wide_only=True),
    ),
    filters=(
        Filter("q", "终端、营业厅或终端号"),
        Filter("org", "组织", "choice"),
        Filter("model", "型号", "choice"),
        Filter("state", "状态", "choice", choices=STATES),
        Filter("diagnosis", "诊断", "choice", choices={code: each.name for code, each in DIAGNOSES.items()}),
    ),
)


@get("/monitor/kiosks", opt=needs(Permission.MONITOR_READ))
async def kiosk_list(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    scope = access.paths(Permission.MONITOR_READ)
    async with database.connection() as connection:
        facets = await connection.fetch(QUERY["watched_facets"], scope)
    chosen: dict[str, dict[str, str]] = {"org": {}, "model": {}}
    for row in facets:
        chosen[row["kind"]][str(row["id"])] = row["name"]
    filters = tuple(replace(each, choices=chosen.get(each.name, each.choices)) for each in WATCHED.filters)
    table = replace(WATCHED, filters=filters)
    if request.query_params.get("format", "html") != "html":
        return await listing(
            request, database, table, QUERY["watched_list"], "monitor/kiosks.html", scope=scope, access=access
        )
    view = table.view(dict(request.query_params))
    text, parameters = view.statement(QUERY["watched_list"])
    async with database.connection() as connection:
        found = view.page(await connection.fetch(text, scope, *parameters))
        days = await _days(connection, [row["id"] for row in found.rows])
        counts = await connection.fetch(QUERY["watched_counts"], scope)
        stale_s = await connection.fetchval(QUERY["stale"], limits.STALE_S)
    return page(
        request,
        "monitor/kiosks.html",
        table=table,
        view=view,
        page=found,
        days=days,
        hundred=_hundredths,
        stale_s=stale_s,
        names=DIAGNOSES,
        tone=tone,
        counts=sorted(
            ((DIAGNOSES[row["code"]], row["kiosks"]) for row in counts), key=lambda each: (-each[0].severity, -each[1])
        ),
    )


def _hundredths(counts: Sequence[int]) -> list[int]:
    """In the unit of what is usual."""
    return [100 * each for each in counts]


async def _days(connection: Connection, kiosks: Sequence[int]) -> dict[int, dict[str, Any]]:
    """How each kiosk's day goes: sessions by hour, what is usual, payments and fen."""
    now = datetime.now(UTC).astimezone(ZONE)
    start = midnight(now.date())
    kind = await connection.fetchval(QUERY["kind_today"], now.date())
    found: dict[int, dict[str, Any]] = {
        kiosk: {"sessions": [0] * (now.hour + 1), "usual": [], "begun": 0, "completed": 0, "fen": 0} for kiosk in kiosks
    }
    for row in await connection.fetch(QUERY["used_today"], kiosks, start):
        day = found[row["kiosk_id"]]
        if row["hour"] <= now.hour:
            day["sessions"][row["hour"]] = row["sessions"]
        for name in ("begun", "completed", "fen"):
            day[name] += row[name]
    for row in await connection.fetch(QUERY["rhythms"], kiosks):
        rates = row["rates"][rhythm.cell(kind, 0) : rhythm.cell(kind + 1, 0)]
        found[row["kiosk_id"]]["usual"] = [round(rate * 100) for rate in rates]
        found[row["kiosk_id"]]["rhythm"] = rhythm.Rhythm(row["rates"], row["daily"], row["alpha"])
    return found


# ---------------------------------------------------------------------------------------------------- one kiosk
@get("/monitor/kiosks/{kiosk_id:int}", opt=needs(Permission.MONITOR_READ))
async def kiosk_page(request: AnyRequest, kiosk_id: Number, database: Data, access: Who) -> Response[Any]:
    now = datetime.now(UTC)
    start = now - timedelta(seconds=limits.TIMELINE_S)
    say = sayer(request)
    async with database.connection() as connection:
        one = await connection.fetchrow(QUERY["watched_kiosk"], access.paths(Permission.MONITOR_READ), kiosk_id)
        if one is None:
            raise NotFoundError("not_found", "没有这个对象，或不在您的范围内")
        changes = await connection.fetch(QUERY["kiosk_changes"], kiosk_id, start)
        events = await connection.fetch(QUERY["kiosk_events"], kiosk_id, limits.KIOSK_ROWS)
        sessions = await connection.fetch(QUERY["kiosk_sessions"], kiosk_id, limits.KIOSK_ROWS)
        sees_money = access.reaches(Permission.TRANSACTION_READ, one["org_path"])
        paid = await connection.fetch(QUERY["kiosk_payments"], kiosk_id, limits.KIOSK_ROWS) if sees_money else []
        day = (await _days(connection, [kiosk_id]))[kiosk_id]
        stale_s = await connection.fetchval(QUERY["stale"], limits.STALE_S)
    rows = _strips(changes, start, now, say)
    usual = day["usual"]
    return page(
        request,
        "monitor/kiosk.html",
        one=one,
        stale_s=stale_s,
        said=DIAGNOSES[one["diagnosis"]],
        tone=tone,
        names=DIAGNOSES,
        states=STATES,
        unit_names=UNIT_NAMES,
        unit_states=UNIT_STATES,
        units=_units(one["units"] or {}, one["model_units"]),
        counters=[
            (name, (one["counters"] or {})[key]) for key, name in COUNTERS.items() if key in (one["counters"] or {})
        ],
        outcomes=OUTCOMES,
        results=RESULTS,
        drawn=timeline(say("最近 24 小时各路信号"), rows, start, now),
        strips=[(name, spans[::-1]) for name, spans in rows],
        curve=curve(
            say("今日会话与平日对比"),
            [*day["sessions"], *[None] * (24 - len(day["sessions"]))],
            usual,
            [],
            [],
            height=180,
        ),
        day=day,
        noticed=_noticed(day, one, now),
        changes=changes[::-1],
        events=events,
        sessions=sessions,
        payments=paid,
        sees_money=sees_money,
        start=start,
        at=now,
    )


def _units(said: Mapping[str, str], expected: Sequence[str]) -> list[tuple[str, str, str, str]]:
    """(unit, part, state, tone) of what was said, and of what the model has and nobody spoke of."""
    found = []
    for name in sorted({*said, *expected}):
        unit, _, part = name.partition(".")
        state = said.get(name, "unknown")
        worst = units_of({name: state})
        shown = "mute" if state == "unknown" else {Units.OK: "good", Units.WEAK: "warn", Units.BROKEN: "bad"}[worst]
        found.append((unit, part, state, shown))
    return found


def _strips(changes: Sequence[Any], start: datetime, end: datetime, say: Say) -> list[tuple[str, list[Span]]]:
    """One strip for each witness, and the diagnosis on top."""
    ends = [*(row["at"] for row in changes[1:]), end]
    spans = [(max(row["at"], start), until, row) for row, until in zip(changes, ends, strict=False)]
    rows = [
        (
            say("诊断"),
            [Span(a, b, tone(DIAGNOSES[row["code"]]), say(DIAGNOSES[row["code"]].name)) for a, b, row in spans],
        )
    ]
    for number, (name, words) in enumerate(WITNESSES):
        strip = []
        for a, b, row in spans:
            if len(row["signals"]) == len(WITNESSES):
                shown, text = words[row["signals"][number]]
                strip.append(Span(a, b, shown, say(text)))
        rows.append((say(name), _joined(strip)))
    return [(name, _joined(each)) for name, each in rows]


def _joined(spans: Sequence[Span]) -> list[Span]:
    found: list[Span] = []
    for span in spans:
        if found and found[-1].says == span.says and found[-1].end == span.start:
            found[-1] = replace(found[-1], end=span.end)
        else:
            found.append(span)
    return found


def _noticed(day: Mapping[str, Any], one: Mapping[str, Any], now: datetime) -> int | None:
    """After how many seconds of silence from now on this kiosk would be noticed."""
    known = day.get("rhythm")
    if known is None or known.daily == 0:
        return None
    hours = rhythm.Hours(one["opens_min"], one["closes_min"])
    local = now.astimezone(ZONE).replace(tzinfo=None)
    return int(rhythm.noticed_within(known, hours, local, {}).total_seconds())


HANDLERS: Final = [kiosk_list, kiosk_page]
