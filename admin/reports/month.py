"""A month: how much of the time the service stood, and the money by what the settlement files say of it."""

from __future__ import annotations

import calendar
from collections.abc import Mapping
from datetime import date
from typing import Any, Final

from admin.auth.permissions import Permission
from admin.reports.asked import Panel
from admin.reports.daily import DAY, MONEY, NARROW, by_day, sums
from admin.reports.report import QUERY, Made, Report, Source, Tile
from admin.web import charts
from admin.web.export import Sheet
from admin.web.show import millionths, money, percent
from admin.web.table import Column

RECONS: Final = {"open": "未对账"}
_SWITCH: Final = "switch"
_LINK: Final = "link "  # as monitoring names a service that is a link, before the link's own name
_TIMES: Final = ("measured_ms", "down_ms", "window_ms", "down_in_window_ms", "missed_ms")
_AVAILABILITY: Final = (
    Column("raw", "原始可用率", "share", digits=4),
    Column("contract", "合同可用率", "share", digits=4),
    Column("down_s", "停机秒数", "count"),
    Column("down_in_window_s", "其中计划停机秒数", "count"),
    Column("measured_s", "已监测秒数", "count"),
    Column("missed_s", "未监测秒数", "count"),
)
_SERVICE: Final = Column("service", "服务")
_RECON: Final = Column("recon", "对账状态", names=RECONS)


async def make(source: Source) -> Made:
    first, last = source.asked.first, source.asked.last
    rows = await source.connection.fetch(QUERY["month_services"], first.replace(month=1, day=1), last)
    month = [row for row in rows if row["day"] >= first]
    kiosks = await source.fetch("month_kiosks", source.most)
    services = [
        {"service": _named(source, service)} | _shares([row for row in month if row["service"] == service])
        for service in dict.fromkeys(row["service"] for row in month)
    ]
    tables = [
        Sheet("services", "服务可用率", (_SERVICE, *_AVAILABILITY), services),
        Sheet(
            "service_days",
            "服务可用率按日",
            (Column("day", "日期", "day"), _SERVICE, *_AVAILABILITY),
            [{"day": row["day"], "service": _named(source, row["service"])} | _shares([row]) for row in month],
        ),
        Sheet(
            "kiosks",
            "终端可用率",
            (
                Column("kiosk", "终端"),
                Column("site", "营业厅"),
                Column("share", "可用率", "share", digits=4),
                Column("open_s", "营业秒数", "count"),
                Column("payable_s", "可缴费秒数", "count"),
                Column("days", "天数", "count"),
            ),
            [dict(row) for row in kiosks],
            _kiosk_total(kiosks),
        ),
    ]
    own = [row for row in month if row["service"] == _SWITCH]
    drawn = {"services": _down(source, own)} if any(row["down_ms"] for row in own) else {}
    tiles = _tiles(source, own, [row for row in rows if row["service"] == _SWITCH])
    narrow: dict[str, tuple[Column, ...]] = {}
    if source.access.may(Permission.REPORT_FINANCE):
        # Whoever sees availability in one place may see money in another: each by its own scope.
        scope = source.access.paths(Permission.REPORT_FINANCE)
        found = await source.connection.fetch(QUERY["daily"], scope, *source.picked[1:], "recon", source.most)
        groups, days, each, total = sums(found)
        tables += [
            Sheet("money", "资金按对账状态", (_RECON, *MONEY), groups, total),
            Sheet("money_days", "资金按清算日", (DAY, *MONEY), days, total),
            Sheet("money_days_recon", "资金按清算日和对账状态", (DAY, _RECON, *MONEY), each, total),
        ]
        narrow = {"money": (_RECON, *NARROW), "money_days": (DAY, *NARROW)}
        if days:
            if len(days) > 1:
                drawn["money_days"] = by_day(source, days)
            note = source.say("{n} 笔").format(n=f"{total['completed']:,}")
            tiles += (Tile("成交金额", money(total["completed_fen"]), note),)
            note = source.say("{n} 笔").format(n=f"{total['waits']:,}")
            tiles += (Tile("待了结", money(total["waits_fen"]), note),)
    hidden = frozenset({"service_days", "money_days_recon"})
    return Made(tuple(tables), tiles, drawn, hidden, narrow=narrow, empty="这个月没有数据")


def _shares(rows: list[Any]) -> dict[str, Any]:
    """Of days of one service: raw = 1 - down / measured; contract: the same outside of approved windows."""
    measured, down, window, down_in_window, missed = (sum(row[name] for row in rows) for name in _TIMES)
    return {
        "raw": millionths(measured - down, measured),
        "contract": millionths(measured - window - (down - down_in_window), measured - window),
        "down_s": down // 1000,
        "down_in_window_s": down_in_window // 1000,
        "measured_s": measured // 1000,
        "missed_s": missed // 1000,
    }


def _kiosk_total(rows: list[Any]) -> dict[str, Any]:
    total = {name: sum(row[name] for row in rows) for name in ("open_s", "payable_s")}
    return total | {"share": millionths(total["payable_s"], total["open_s"])}


def _named(source: Source, service: str) -> str:
    if service == _SWITCH:
        return source.say("支付前置")
    if service.startswith(_LINK):
        return source.say("链路 {name}").format(name=service.removeprefix(_LINK))
    return service


def _tiles(source: Source, month: list[Any], year: list[Any]) -> tuple[Tile, ...]:
    """Of the switch itself."""
    say = source.say
    tiles: tuple[Tile, ...] = ()
    if month:
        shares = _shares(month)
        raw = say("原始 {rate}").format(rate=percent(shares["raw"], 4))
        tiles += (Tile("合同可用率", percent(shares["contract"], 4), raw),)
    if year:
        down_s = sum(row["down_ms"] - row["down_in_window_ms"] for row in year) // 1000
        left_s = budget_s(source.asked.last) - down_s
        tiles += (Tile("本年停机预算剩余", clock(left_s), say("已用 {time}").format(time=clock(down_s))),)
    return tiles


def budget_s(day: date) -> int:
    """99.9 % of a year, as the contract has it: 8 h 45 m 36 s, in a leap year 8 h 47 m 2 s.

    >>> clock(budget_s(date(2026, 11, 30))), clock(-61)
    ('8:45:36', '-0:01:01')
    """
    return (366 if calendar.isleap(day.year) else 365) * 86_400 // 1000


def clock(seconds: int) -> str:
    minutes, rest = divmod(abs(seconds), 60)
    return f"{'-' if seconds < 0 else ''}{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _down(source: Source, days: list[Mapping[str, Any]]) -> Any:
    """Minutes of each day on which the switch did not stand; planned ones apart."""
    say = source.say
    series: dict[str, list[float | None]] = {
        say("计划外"): [(row["down_ms"] - row["down_in_window_ms"]) / 60_000 for row in days],
        say("计划内"): [row["down_in_window_ms"] / 60_000 for row in days],
    }
    labels = [f"{row['day']:%d}" for row in days]
    return charts.bars(say("支付前置每日停机分钟"), labels, series, stacked=True, show=lambda value: f"{value:.1f}")


MONTH: Final = Report(
    name="month",
    title="月报",
    about="一个月的可用率，以及按对账状态汇总的资金。",
    permission=Permission.REPORT_OPERATIONS,
    panel=Panel("month", kiosk=False, business=False),
    definitions=(
        "原始可用率 = 1 − 停机 ÷ 已监测时间。合同可用率：批准的计划停机时段不计入分子和分母。都向下取整。",
        "每 30 秒探测一次；连续两次失败，或一分钟内 10 笔以上缴费成功不到一半（客户和发卡行原因除外），记为停机。",
        "未监测：监控自身没有运行的时间，既不算可用也不算停机。当天结束后才计入。",
        "终端可用率 = 可缴费时间 ÷ 营业时间，只计投运的终端；服务可用率是全网的，不分组织。",
        "本年停机预算：全年 0.1%，即 8 小时 45 分 36 秒（闰年 8 小时 47 分 2 秒），按合同口径。",
        "资金按清算日归月；对账状态来自清算文件，“未对账”表示还没有比对。资金只向有财务报表权限的人显示。",
        "待了结 = 挂账 + 未决 + 处理中。笔数 = 成交 + 拒绝 + 退回 + 挂账 + 未决 + 处理中。",
    ),
    make=make,
)
