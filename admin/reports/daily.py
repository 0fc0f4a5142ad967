"""Payments and money by day and by kiosk, site or business."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from admin import limits
from admin.auth.permissions import Permission
from admin.reports.asked import BUSINESSES, Choice, Panel
from admin.reports.report import Made, Report, Source, Tile
from admin.web import charts
from admin.web.export import Sheet
from admin.web.show import millionths, money, percent
from admin.web.table import Column

GROUPS: Final = {"site": "按营业厅", "kiosk": "按终端", "business": "按业务"}
UNKNOWN: Final = "未登记终端"
Lines = list[dict[str, Any]]

MONEY: Final = (
    Column("payments", "笔数", "count", wide_only=True),
    Column("completed", "成交笔数", "count"),
    Column("completed_fen", "成交金额", "money"),
    Column("declined", "拒绝笔数", "count", wide_only=True),
    Column("returned", "退回笔数", "count", wide_only=True),
    Column("returned_fen", "退回金额", "money"),
    Column("suspense", "挂账笔数", "count", wide_only=True),
    Column("suspense_fen", "挂账金额", "money"),
    Column("unproven", "未决笔数", "count", wide_only=True),
    Column("unproven_fen", "未决金额", "money"),
    Column("driven", "处理中笔数", "count", wide_only=True),
    Column("driven_fen", "处理中金额", "money"),
    Column("success", "成功率", "share"),
    Column("gross", "毛成功率", "share", wide_only=True),
)
# A page shows what is not final in one column.
NARROW: Final = (
    *MONEY[:6],
    Column("waits", "待了结笔数", "count", wide_only=True),
    Column("waits_fen", "待了结金额", "money"),
    *MONEY[12:],
)
_GROUP_COLUMNS: Final = {
    "site": (Column("site", "营业厅"),),
    "kiosk": (Column("kiosk", "终端"), Column("site", "营业厅")),
    "business": (Column("kind", "业务", names=BUSINESSES),),
}
DAY: Final = Column("day", "清算日", "day")


def rates(row: Mapping[str, Any]) -> dict[str, int | None]:
    """Success as promised and gross, in millionths; of a row with payments, completed, customer."""
    return {
        "success": millionths(row["completed"], row["payments"] - row["customer"]),
        "gross": millionths(row["completed"], row["payments"]),
    }


def sums(found: Iterable[Any]) -> tuple[Lines, Lines, Lines, dict[str, Any]]:
    """Rows of statement "daily": by group, by day, by both, and over all."""
    rows = [dict(row) for row in found]
    for row in rows:
        row.update(rates(row))
        row["waits"] = row["suspense"] + row["unproven"] + row["driven"]
        row["waits_fen"] = row["suspense_fen"] + row["unproven_fen"] + row["driven_fen"]
    total = next(row for row in rows if not row["by_day"] and not row["by_group"])
    groups = [row for row in rows if not row["by_day"] and row["by_group"]]
    days = [row for row in rows if row["by_day"] and not row["by_group"]]
    return groups, days, [row for row in rows if row["by_day"] and row["by_group"]], total


async def make(source: Source) -> Made:
    by = source.asked.chosen["by"]
    groups, days, each, total = sums(await source.fetch("daily", by, source.most))
    unknown = source.say(UNKNOWN)
    for row in (*groups, *each):
        row["site"] = row["site"] or unknown
        row["kiosk"] = row["kiosk"] or unknown
    group = _GROUP_COLUMNS[by]
    several = source.asked.days > 1
    return Made(
        tables=(
            Sheet("groups", GROUPS[by], (*group, *MONEY), groups, total),
            Sheet("days", "按清算日", (DAY, *MONEY), days, total),
            Sheet("days_groups", "按清算日明细", (DAY, *group, *MONEY), each, total),
        ),
        tiles=tiles(total, source) if groups else (),
        charts=_charts(source, groups, days, by) if groups else {},
        hidden=frozenset({"days_groups"} if several else {"days", "days_groups"}),
        narrow={"groups": (*group, *NARROW), "days": (DAY, *NARROW)},
    )


def tiles(total: Mapping[str, Any], source: Source) -> tuple[Tile, ...]:
    say = source.say
    return (
        Tile("成交金额", money(total["completed_fen"]), say("{n} 笔").format(n=f"{total['completed']:,}")),
        Tile("成功率", percent(total["success"]), say("毛成功率 {rate}").format(rate=percent(total["gross"]))),
        Tile("退回金额", money(total["returned_fen"]), say("{n} 笔").format(n=f"{total['returned']:,}")),
        Tile(
            "待了结",
            money(total["waits_fen"]),
            say("{n} 笔").format(n=f"{total['waits']:,}"),
        ),
    )


def _charts(source: Source, groups: Lines, days: Lines, by: str) -> dict[str, Any]:
    say = source.say
    label = {"site": "site", "kiosk": "kiosk", "business": "kind"}[by]
    bars = [
        (say(BUSINESSES.get(str(row[label]), str(row[label]))), row["completed_fen"], 0)
        for row in groups[: limits.REPORT_BARS]
    ]
    made = {"groups": charts.ranked(say("成交金额"), bars, show=money)}
    if len(days) > 1:
        made["days"] = by_day(source, days)
    return made


def by_day(source: Source, days: Lines) -> Any:
    """A bar a day: what was completed."""
    fen = {source.say("成交金额"): [row["completed_fen"] for row in days]}
    labels = [f"{row['day']:%d}" for row in days]
    return charts.bars(source.say("每日成交金额"), labels, fen, show=lambda value: money(round(value))[:-3])


DAILY: Final = Report(
    name="daily",
    title="日结算表",
    about="每个清算日的缴费笔数和金额，按营业厅、终端或业务汇总。",
    permission=Permission.REPORT_FINANCE,
    panel=Panel("days", choices=(Choice("by", "汇总方式", GROUPS, "site"),)),
    definitions=(
        "清算日：卡组织的营业日，由支付前置在缴费开始时按日切时刻写定；日切之后的缴费属于下一个清算日。",
        "成交：已扣款且全部销账；金额为扣款金额。拒绝：没有扣款。退回：扣款已冲正或已退款。",
        "挂账：钱款状态须由人处理。未决：冲正结果不明，等待清算文件。处理中：支付前置仍在办理。",
        "待了结 = 挂账 + 未决 + 处理中。笔数 = 成交 + 拒绝 + 退回 + 挂账 + 未决 + 处理中。",
        "成功率 = 成交笔数 ÷（笔数 − 客户原因失败的笔数）；毛成功率 = 成交笔数 ÷ 笔数。都向下取整。",
        "营业厅和终端：缴费当时终端所在的营业厅；后来搬迁不影响。",
        "状态会变：挂账、未决和处理中的缴费了结以后，同一天的报表随之更新。",
    ),
    make=make,
)
