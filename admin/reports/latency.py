"""How long a payment takes, by leg: the card, the bill, the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from admin.auth.permissions import Permission
from admin.reports.asked import Panel
from admin.reports.daily import UNKNOWN
from admin.reports.report import Made, Report, Source, Tile
from admin.web import charts
from admin.web.export import Sheet
from admin.web.table import Column

LEGS: Final = {"card": "银行卡", "bill": "销账", "total": "全程"}
_TILES: Final = {"card": "银行卡 P95", "bill": "销账 P95", "total": "全程 P95"}
_TIMES: Final = (
    Column("payments", "笔数", "count"),
    Column("card_50", "银行卡 P50", "count", wide_only=True),
    Column("card_95", "银行卡 P95", "count"),
    Column("card_99", "银行卡 P99", "count", wide_only=True),
    Column("bill_50", "销账 P50", "count", wide_only=True),
    Column("bill_95", "销账 P95", "count"),
    Column("bill_99", "销账 P99", "count", wide_only=True),
    Column("total_50", "全程 P50", "count", wide_only=True),
    Column("total_95", "全程 P95", "count"),
    Column("total_99", "全程 P99", "count", wide_only=True),
)


async def make(source: Source) -> Made:
    found = await source.fetch("latency")
    kiosks = await source.fetch("latency_kiosks", source.most)
    total, hours = found[0], found[1:]
    unknown = source.say(UNKNOWN)
    legs = [
        {
            "leg": leg,
            "payments": total[f"{leg}_count"],
            **{f"p{at}": value for at, value in zip((50, 95, 99), total[leg] or (None,) * 3, strict=True)},
        }
        for leg in LEGS
        if total["payments"]
    ]
    tables = (
        Sheet(
            "legs",
            "按环节（毫秒）",
            (
                Column("leg", "环节", names=LEGS),
                Column("payments", "笔数", "count"),
                *(Column(f"p{at}", f"P{at}", "count") for at in (50, 95, 99)),
            ),
            legs,
        ),
        Sheet(
            "hours",
            "按小时（毫秒）",
            (Column("hours", "时段"), *_TIMES),
            [{"hours": f"{row['hour']:02d}:00", **_flat(row)} for row in hours],
        ),
        Sheet(
            "kiosks",
            "按终端（毫秒）",
            (Column("kiosk", "终端"), Column("site", "营业厅"), *_TIMES),
            [{"kiosk": row["kiosk"] or unknown, "site": row["site"] or unknown, **_flat(row)} for row in kiosks],
        ),
    )
    tiles = tuple(
        Tile(_TILES[row["leg"]], _ms(row["p95"]), f"P50 {_ms(row['p50'])} · P99 {_ms(row['p99'])}") for row in legs
    )
    return Made(tables, tiles, {"hours": _chart(source, hours)} if hours else {})


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {"payments": row["payments"]}
    for leg in LEGS:
        values = row[leg] or (None, None, None)
        flat |= {f"{leg}_{at}": value for at, value in zip((50, 95, 99), values, strict=True)}
    return flat


def _chart(source: Source, hours: Sequence[Mapping[str, Any]]) -> Any:
    by_hour = {row["hour"]: row for row in hours}
    series: dict[str, list[float | None]] = {
        source.say(title): [
            by_hour[hour][leg][1] if hour in by_hour and by_hour[hour][leg] else None for hour in range(24)
        ]
        for leg, title in LEGS.items()
    }
    return charts.line(
        source.say("各小时 P95"),
        [f"{hour:02d}" for hour in range(24)],
        series,
        show=_ms,
        dots=len(hours) < 4,
        zero=True,
    )


def _ms(value: float | None) -> str:
    """
    >>> _ms(850), _ms(12345), _ms(None)
    ('850 ms', '12.3 s', '—')
    """
    if value is None:
        return "—"
    return f"{round(value)} ms" if value < 10_000 else f"{value / 1000:.1f} s"


LATENCY: Final = Report(
    name="latency",
    title="时延分布",
    about="银行卡、销账和全程各用了多长时间。",
    permission=Permission.REPORT_OPERATIONS,
    panel=Panel("days"),
    definitions=(
        "银行卡：从消费请求记账到对它作出决定，包括无应答的等待。销账：从第一笔销账请求记账到全部有结果。",
        "全程：从缴费开始到成交，即客户等待的时间；没有成交的缴费不计。",
        "P50、P95、P99：由数据库对范围内每一笔缴费的毫秒数精确计算，不是估计，也不是分位数的平均。",
        "时段：缴费开始的北京时间。日期为清算日；终端和营业厅以缴费当时为准。",
        "终端按全程 P95 从慢到快排列。",
    ),
    make=make,
)
