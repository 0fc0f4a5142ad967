"""When people pay: the curve of a day in quarters of an hour, the heat map of a week. No money, and nobody alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any, Final

from admin import limits
from admin.auth.permissions import Permission
from admin.reports.asked import BUSINESSES, Choice, Panel, month_end
from admin.reports.report import Made, Report, Source, Tile
from admin.web import charts
from admin.web.export import Sheet
from admin.web.table import Column

SPANS: Final = {"day": "日", "week": "周", "month": "月"}
WEEKDAYS: Final = {"1": "周一", "2": "周二", "3": "周三", "4": "周四", "5": "周五", "6": "周六", "7": "周日"}
_SLOTS: Final = 96
_NAMES: Final = {
    "day": ("当日", "前一日", "上周同日"),
    "week": ("本周", "上周"),
    "month": ("本月", "上月"),
}
_SHADES: Final = 5


def payers(count: int | None) -> int | str | None:
    """An account count as anybody may see it.

    >>> payers(12), payers(4), payers(0)
    (12, '<5', 0)
    """
    return f"<{limits.PAYERS_MIN}" if count is not None and 0 < count < limits.PAYERS_MIN else count


def tenths(count: int, days: int) -> str:
    """A mean with one place, rounded half up, without a float.

    >>> tenths(10, 4), tenths(1, 30), tenths(3, 0)
    ('2.5', '0.0', '—')
    """
    if not days:
        return "—"
    whole, rest = divmod((20 * count + days) // (2 * days), 10)
    return f"{whole}.{rest}"


def spans(span: str, day: date) -> list[tuple[date, date]]:
    """First the one that is asked for, then those to compare it with; days included.

    >>> _dates(*spans("week", date(2026, 11, 25))[0]), _dates(*spans("month", date(2026, 3, 31))[1])
    ('2026-11-23 – 11-29', '2026-02-01 – 02-28')
    """
    match span:
        case "week":
            monday = day - timedelta(days=day.weekday())
            return [(monday, monday + timedelta(days=6)), (monday - timedelta(days=7), monday - timedelta(days=1))]
        case "month":
            first = day.replace(day=1)
            before = (first - timedelta(days=1)).replace(day=1)
            return [(first, month_end(first)), (before, month_end(before))]
        case _:
            return [(each, each) for each in (day, day - timedelta(days=1), day - timedelta(days=7))]


async def curve(source: Source) -> Made:
    asked = source.asked
    span, day = asked.chosen["span"], asked.last
    found = spans(span, day)
    scope, _, _, *narrowed = source.picked
    picked = (scope, min(first for first, _ in found), max(last for _, last in found), *narrowed)
    # Of a span that is not over, the days until the one that was asked for: a mean over days to come would sink.
    found[0] = (found[0][0], min(found[0][1], max(day, found[0][0])))
    firsts, lasts = [first for first, _ in found], [last for _, last in found]
    rows = await replace(source, picked=picked).fetch("curve", firsts, lasts)
    days = [(last - first).days + 1 for first, last in found]
    counts = [[0] * _SLOTS for _ in found]
    prepaid, people = [0] * _SLOTS, [0] * _SLOTS
    for row in rows:
        counts[row["span"] - 1][row["slot"]] = row["payments"]
        if row["span"] == 1:
            prepaid[row["slot"]], people[row["slot"]] = row["prepayments"], row["payers"]
    names = _NAMES[span]
    lines = [
        {
            "slot": _slot(at),
            **{f"span_{number}": count[at] for number, count in enumerate(counts)},
            **{f"mean_{number}": tenths(count[at], days[number]) for number, count in enumerate(counts)},
            "payment": counts[0][at] - prepaid[at],
            "prepayment": prepaid[at],
            "payers": payers(people[at]),
        }
        for at in range(_SLOTS)
    ]
    means = () if span == "day" else tuple(Column(f"mean_{at}", _MEANS[each]) for at, each in enumerate(names))
    columns = (
        Column("slot", "时段"),
        *(Column(f"span_{at}", each, "count") for at, each in enumerate(names)),
        *means,
        *(Column(name, title, "count") for name, title in BUSINESSES.items()),
        Column("payers", "缴费户数", "count"),
    )
    total = {f"span_{number}": sum(count) for number, count in enumerate(counts)}
    total |= {"payment": sum(counts[0]) - sum(prepaid), "prepayment": sum(prepaid)}
    if not any(map(sum, counts)):
        return Made((Sheet("slots", "每 15 分钟", columns, []),))
    say = source.say
    # Means in the chart, so that a week's line and a day's can be laid one over the other.
    overlay: dict[str, list[float | None]] = {
        f"{say(name)} {_dates(first, last)}": [count / days[number] for count in counts[number]]
        for number, (name, (first, last)) in enumerate(zip(names, found, strict=True))
        if any(counts[number])
    }
    business: dict[str, list[float | None]] = {
        say(BUSINESSES["payment"]): [(all_ - part) / days[0] for all_, part in zip(counts[0], prepaid, strict=True)],
        say(BUSINESSES["prepayment"]): [part / days[0] for part in prepaid],
    }
    labels = [_slot(at) for at in range(_SLOTS)]
    drawn = {
        "slots": charts.line(say("每 15 分钟平均每日笔数"), labels, overlay, every=8, show=_mean, zero=True)
        + charts.line(say("按业务，本期平均每日笔数"), labels, business, every=8, show=_mean, zero=True)
    }
    busiest = max(range(_SLOTS), key=counts[0].__getitem__)
    tiles = (
        Tile(names[0], f"{sum(counts[0]):,}", _dates(*found[0])),
        Tile(names[1], f"{sum(counts[1]):,}", _dates(*found[1])),
        Tile("最忙时段", _slot(busiest), say("平均每日 {n} 笔").format(n=tenths(counts[0][busiest], days[0]))),
    )
    return Made((Sheet("slots", "每 15 分钟", columns, lines, total),), tiles, drawn)


_MEANS: Final = {"本周": "本周日均", "上周": "上周日均", "本月": "本月日均", "上月": "上月日均"}


def _slot(at: int) -> str:
    return f"{at // 4:02d}:{at % 4 * 15:02d}"


def _dates(first: date, last: date) -> str:
    return first.isoformat() if first == last else f"{first.isoformat()} – {last:%m-%d}"


def _short(mean: str) -> str:
    """Without its place when it is no small number: cells are narrow."""
    return mean.partition(".")[0] if len(mean) > 4 else mean


def _mean(value: float) -> str:
    return f"{value:.0f}" if value >= 10 or not value else f"{value:.1f}"


async def peaks(source: Source) -> Made:
    rows = await source.fetch("peaks")
    asked = source.asked
    known = {(str(row["weekday"]), row["hour"]): row for row in rows}
    days = dict.fromkeys(WEEKDAYS, 0)
    for number in range(asked.days):
        days[str((asked.first + timedelta(days=number)).isoweekday())] += 1
    cells: list[dict[str, Any]] = [
        {
            "weekday": weekday,
            "hour": f"{hour:02d}:00",
            "days": days[weekday],
            "payments": known[weekday, hour]["payments"] if (weekday, hour) in known else 0,
            "payers": payers(known[weekday, hour]["payers"] if (weekday, hour) in known else 0),
        }
        for weekday in WEEKDAYS
        for hour in range(24)
    ]
    for cell in cells:
        cell["mean"] = tenths(cell["payments"], cell["days"])
    columns = (
        Column("weekday", "星期", names=WEEKDAYS),
        Column("hour", "时段"),
        Column("days", "天数", "count"),
        Column("payments", "笔数", "count"),
        Column("mean", "日均笔数"),
        Column("payers", "缴费户数", "count"),
    )
    matrix = (
        Column("weekday", "星期", names=WEEKDAYS),
        *(Column(f"h{hour:02d}", f"{hour:02d}:00", "count") for hour in range(24)),
    )
    lines = [
        {"weekday": weekday}
        | {f"h{hour:02d}": known[weekday, hour]["payments"] if (weekday, hour) in known else 0 for hour in range(24)}
        for weekday in WEEKDAYS
    ]
    if not rows:
        return Made((Sheet("cells", "星期和时段", columns, []),))
    most = max(rate(cell) for cell in cells)
    heat = [
        (
            name,
            [(_short(cell["mean"]), shade(rate(cell), most)) for cell in cells if cell["weekday"] == weekday],
        )
        for weekday, name in WEEKDAYS.items()
    ]
    top = sorted(cells, key=rate, reverse=True)[:3]
    tiles = tuple(
        Tile(WEEKDAYS[cell["weekday"]], cell["hour"], source.say("平均每日 {n} 笔").format(n=cell["mean"]))
        for cell in top
    )
    total = {"payments": sum(row["payments"] for row in rows)}
    return Made(
        (Sheet("cells", "星期和时段", columns, cells, total), Sheet("matrix", "热力图", matrix, lines)),
        tiles,
        hidden=frozenset({"cells", "matrix"}),
        heat=heat,
    )


def rate(cell: dict[str, Any]) -> int:
    """Payments a day, in thousandths: weekdays are not equally often in a range."""
    return 1000 * int(cell["payments"]) // cell["days"] if cell["days"] else 0


def shade(value: int, most: int) -> int:
    """0 for nothing, 1 to 5 by equal parts of the most.

    >>> [shade(value, 100) for value in (0, 1, 20, 21, 100)]
    [0, 1, 1, 2, 5]
    """
    return -(-_SHADES * value // most) if most else 0


_CALENDAR: Final = "日期为自然日（北京时间 0 点到 24 点），按缴费开始的时刻；与清算日不同，日切不影响。"
_COUNTED: Final = "笔数：开始了的全部缴费，不论结果；说明的是客户何时来缴费。"
_PAYERS: Final = "缴费户数：不同户号的个数，按加密摘要计；1 到 4 户显示为 <5。"

CURVE: Final = Report(
    name="curve",
    title="时间曲线",
    about="一天里每 15 分钟有多少人缴费，与以前重叠比较。",
    permission=Permission.REPORT_BEHAVIOUR,
    panel=Panel("day", choices=(Choice("span", "周期", SPANS, "day"),)),
    definitions=(
        _CALENDAR,
        _COUNTED,
        "日：当日、前一日和上周同日。周、月：周期内各日的平均；没有结束的周期计到所选日期为止。",
        _PAYERS,
    ),
    make=curve,
    calendar=True,
)
PEAKS: Final = Report(
    name="peaks",
    title="高峰热力图",
    about="一周里哪个时段最忙。",
    permission=Permission.REPORT_BEHAVIOUR,
    panel=Panel("days", days_max=limits.PEAK_DAYS_MAX, days=limits.PEAK_DAYS),
    definitions=(
        _CALENDAR,
        _COUNTED,
        "格内为日均笔数：该星期、该小时的笔数除以范围内该星期的天数。颜色按最忙一格的五等分。",
        _PAYERS,
    ),
    make=peaks,
    calendar=True,
)
