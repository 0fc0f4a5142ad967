"""Payments that did not go well: whose matter it was, which code, at which kiosk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from admin import limits
from admin.auth.permissions import Permission
from admin.reports.asked import Choice, Panel
from admin.reports.daily import UNKNOWN, rates
from admin.reports.report import NOTHING, Made, Report, Source, Tile
from admin.web import charts
from admin.web.export import Sheet
from admin.web.show import millionths, percent
from admin.web.table import Column

CLASSES: Final = {
    "customer": "客户",
    "issuer": "发卡行",
    "channel": "支付渠道",
    "switch": "支付前置",
    "terminal": "终端",
    "grid": "营销系统",
}
SOURCES: Final = {"card": "卡组织应答码", "bill": "营销系统应答码", "row": "支付前置判定"}

_COUNTS: Final = (
    Column("failures", "失败笔数", "count"),
    Column("of_failures", "占失败", "share"),
    Column("of_payments", "占全部", "share"),
)
_CLASS: Final = Column("class", "类别", names=CLASSES)
_REASON: Final = (
    Column("fault_source", "来源", names=SOURCES, wide_only=True),
    Column("fault_code", "代码"),
    Column("reason", "原因"),
)


async def make(source: Source) -> Made:
    chosen = source.asked.chosen
    origin, _, code = chosen["reason"].partition(":")
    found = await source.fetch(
        "failures", chosen["class"] or None, origin or None, code if origin else None, source.most
    )
    total = dict(found[0])
    total |= rates(total) | {"of_failures": millionths(total["failures"], total["failures"])}
    total["of_payments"] = millionths(total["failures"], total["payments"])
    unknown = source.say(UNKNOWN)

    def told(row: Mapping[str, Any]) -> dict[str, Any]:
        return {
            **row,
            "reason": row["text_en" if source.english else "text"],
            "site": row["site"] or unknown,
            "kiosk": row["kiosk"] or unknown,
            "of_failures": millionths(row["failures"], total["failures"]),
            "of_payments": millionths(row["failures"], row["payments"]),
        }

    levels: dict[int, list[dict[str, Any]]] = {1: [], 2: [], 3: []}
    for row in map(dict, found[1:]):
        levels[row["level"]].append(told(row))
    asked = source.asked

    def to_class(row: Mapping[str, Any]) -> str:
        return asked.url(**{"class": row["class"], "reason": None})

    def to_code(row: Mapping[str, Any]) -> str:
        return asked.url(**{"class": row["class"], "reason": f"{row['fault_source']}:{row['fault_code']}"})

    by_class = Column("class", "类别", names=CLASSES, link=to_class)
    by_code = (_REASON[0], Column("fault_code", "代码", link=to_code), _REASON[2])
    tables = (
        Sheet("classes", "按类别", (by_class, *_COUNTS), levels[1], total),
        Sheet("codes", "按原因", (_CLASS, *by_code, *_COUNTS, Column("kiosks", "涉及终端", "count")), levels[2]),
        Sheet(
            "kiosks",
            "按终端",
            (
                Column("kiosk", "终端"),
                Column("site", "营业厅"),
                _CLASS,
                *_REASON,
                *_COUNTS,
                Column("last_at", "最近一次", "time"),
            ),
            sorted(levels[3], key=lambda row: (-row["failures"], row["kiosk"])),
        ),
    )
    return Made(
        tables,
        _tiles(total, source),
        _charts(levels, source) if total["failures"] else {},
        empty="这个范围内没有失败的缴费" if total["payments"] else NOTHING,
    )


def _tiles(total: Mapping[str, Any], source: Source) -> tuple[Tile, ...]:
    if not total["payments"]:
        return ()
    say = source.say
    return (
        Tile("成功率", percent(total["success"]), say("毛成功率 {rate}").format(rate=percent(total["gross"]))),
        Tile("失败笔数", f"{total['failures']:,}", say("共 {n} 笔缴费").format(n=f"{total['payments']:,}")),
        Tile("涉及终端", f"{total['kiosks']:,}"),
    )


def _charts(levels: Mapping[int, list[dict[str, Any]]], source: Source) -> dict[str, Any]:
    say = source.say
    colours = dict(zip(CLASSES, range(len(CLASSES)), strict=True))
    first = levels[2][: limits.REPORT_BARS]
    bars = [(f"{row['fault_code']} {row['reason']}", row["failures"], colours[row["class"]]) for row in first]
    seen = {row["class"] for row in first}
    names = {colour: say(CLASSES[each]) for each, colour in colours.items() if each in seen}
    return {"codes": charts.ranked(say("失败原因"), bars, names=names, show="{:,}".format)}


FAILURES: Final = Report(
    name="failures",
    title="失败原因",
    about="没有成功的缴费：先看是谁的问题，再看哪个应答码，再看哪台终端。",
    permission=Permission.REPORT_OPERATIONS,
    panel=Panel("days", choices=(Choice("class", "类别", CLASSES, ""),), links=("reason",)),
    definitions=(
        "失败：流程离开了正常路径、没有以成交结束的缴费，包括仍在冲正、未决和挂账的。",
        "原因：使流程第一次离开正常路径的那个应答码或判定；一笔缴费只计一次。",
        "类别：客户（卡、密码、余额、户号）、发卡行、支付渠道（卡组织和线路）、支付前置、终端、营销系统。",
        "成功率 = 成交笔数 ÷（笔数 − 客户原因失败的笔数）；毛成功率 = 成交笔数 ÷ 笔数。都向下取整。",
        "占失败以所选类别和原因的失败笔数为分母；占全部以同一范围的全部缴费为分母。",
        "日期为清算日；终端和营业厅以缴费当时为准。",
    ),
    make=make,
)
