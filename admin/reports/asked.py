"""What a report is asked for: days, a month, an organisation, a kiosk, a business. All of it stands in the URL."""

from __future__ import annotations

import calendar
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final
from urllib.parse import urlencode

from admin import limits
from admin.errors import BadInputError

BUSINESSES: Final = {"payment": "缴费", "prepayment": "预存"}
TITLES: Final = {"org": "组织", "kiosk": "终端", "class": "类别", "reason": "原因"}
FIRST_DAY: Final = date(2000, 1, 1)


@dataclass(frozen=True, slots=True)
class Choice:
    """A parameter that is one of a few."""

    name: str
    title: str
    choices: Mapping[str, str]
    default: str


@dataclass(frozen=True, slots=True)
class Panel:
    """Which parameters a report takes.

    Attributes:
        period: "days" (from … until), "day" or "month".
        days_max: Of "days".
            days: Of "days", when nothing is said; they end with the latest day that there is.
        links: Parameters that a link of the report sets, and no field.
    """

    period: str
    days_max: int = limits.REPORT_DAYS_MAX
    days: int = 1
    choices: tuple[Choice, ...] = ()
    links: tuple[str, ...] = ()
    kiosk: bool = True
    business: bool = True


@dataclass(frozen=True, slots=True)
class Asked:
    """Attributes:
    first, last: Days, both included.
    org: Code, "" for all that may be seen.
    kiosk: Code, "" for all.
    business: "payment", "prepayment" or "" for both.
    chosen: Values of the report's own choices, and of its links.
    """

    first: date
    last: date
    org: str = ""
    kiosk: str = ""
    business: str = ""
    chosen: Mapping[str, str] = field(default_factory=dict)
    panel: Panel = Panel("days")

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1

    @property
    def month(self) -> str:
        return f"{self.first:%Y-%m}"

    @property
    def values(self) -> dict[str, str]:
        """As they stand in the URL."""
        match self.panel.period:
            case "month":
                found = {"month": self.month}
            case "day":
                found = {"day": self.last.isoformat()}
            case _:
                found = {"from": self.first.isoformat(), "until": self.last.isoformat()}
        found |= {"org": self.org, "kiosk": self.kiosk, "business": self.business, **self.chosen}
        return {name: value for name, value in found.items() if value}

    def url(self, **changes: str | None) -> str:
        values = {**self.values, **{name: value for name, value in changes.items() if value is not None}}
        return "?" + urlencode({name: value for name, value in values.items() if changes.get(name, "") is not None})


def read(query: Mapping[str, str], panel: Panel, latest: date) -> Asked:
    """Raises BadInputError.

    Args:
        latest: The last day of which there is anything.
    """
    match panel.period:
        case "month":
            first, last = _month(query.get("month", ""), latest)
        case "day":
            first = last = _day(query, "day", "日期") or latest
        case _:
            given = _day(query, "from", "从")
            last = _day(query, "until", "到") or (max(given, latest) if given else latest)
            first = given or last - timedelta(days=panel.days - 1)
            if first > last:
                raise BadInputError("days", "开始日期晚于结束日期", field="from")
            if (last - first).days >= panel.days_max:
                raise BadInputError(
                    "days_max",
                    "一次最多查询 {most} 天",
                    hint="请缩小日期范围，或使用月报",
                    field="from",
                    most=panel.days_max,
                )
    chosen = {each.name: _choice(query, each) for each in panel.choices}
    chosen |= {name: _short(query, name) for name in panel.links}
    business = query.get("business", "").strip() if panel.business else ""
    if business and business not in BUSINESSES:
        raise BadInputError("filter", "筛选条件“{title}”无法识别", field="business", title="业务")
    kiosk = _short(query, "kiosk").upper() if panel.kiosk else ""
    return Asked(first, last, _short(query, "org"), kiosk, business, chosen, panel)


def _short(query: Mapping[str, str], name: str) -> str:
    value = query.get(name, "").strip()
    if len(value) > limits.FILTER_LENGTH_MAX:
        raise BadInputError("filter", "筛选条件太长", field=name)
    if not value.isprintable():
        raise BadInputError("signs", "{title}含有不可见字符", field=name, title=TITLES[name])
    return value


def _choice(query: Mapping[str, str], choice: Choice) -> str:
    value = query.get(choice.name, "").strip() or choice.default
    if value and value not in choice.choices:
        raise BadInputError("filter", "筛选条件“{title}”无法识别", field=choice.name, title=choice.title)
    return value


def _day(query: Mapping[str, str], name: str, title: str) -> date | None:
    text = query.get(name, "").strip()
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise BadInputError("day", "{title}不是日期", field=name, title=title) from error
    # What the calendar of the database and the arithmetic of weeks and months take without overflowing.
    if not FIRST_DAY <= day <= date(2999, 12, 31):
        raise BadInputError("day", "{title}不是日期", field=name, title=title)
    return day


def _month(text: str, latest: date) -> tuple[date, date]:
    text = text.strip() or f"{latest:%Y-%m}"
    try:
        first = date.fromisoformat(f"{text}-01")
    except ValueError as error:
        raise BadInputError("month", "{title}不是月份", field="month", title="月份") from error
    if not FIRST_DAY <= first <= date(2999, 12, 1):
        raise BadInputError("month", "{title}不是月份", field="month", title="月份")
    return first, month_end(first)


def month_end(first: date) -> date:
    """
    >>> month_end(date(2028, 2, 1))
    datetime.date(2028, 2, 29)
    """
    return first.replace(day=calendar.monthrange(first.year, first.month)[1])
