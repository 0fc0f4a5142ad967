"""A list, declared once: its columns, its filters, how it may be sorted. From that come the SQL's order, the page, the
CSV and the workbook.

The statement stands in a slice's ``queries.sql`` and takes $1 = the paths that the operator may see, then one parameter
for each filter in their order; three marks in it are replaced by texts from here, never from a request:

    {after}   "true", or the row comparison behind which the page begins
    {order}   the sort expression and the key, both ways alike
    {limit}   how many rows

Paging is by key: page 20,000 costs what page 1 costs.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlencode

from admin.errors import BadInputError
from admin.limits import EXPORT_ROWS_MAX, FILTER_LENGTH_MAX, NUMBER_LENGTH_MAX, PAGE_ROWS, PAGE_ROWS_MAX
from admin.web.show import midnight

Kind = Literal["text", "money", "time", "count", "day", "state", "link", "share", "names"]


@dataclass(frozen=True, slots=True)
class Column:
    """Attributes:
    name: Of the row's value.
    title: In Chinese.
    kind: How it looks and is exported; "text" keeps every digit; "share" is in millionths; "names" is a
        list with commas between.
    sort: SQL expression with its type, e.g. ``"kiosk.code::text"``; empty: cannot be sorted by.
    link: From a row to where it leads.
    names: For states: value to a Chinese word.
    tones: For states: value to "good", "warn", "bad", "mute".
    """

    name: str
    title: str
    kind: Kind = "text"
    sort: str = ""
    link: Callable[[Mapping[str, Any]], str] | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    tones: Mapping[str, str] = field(default_factory=dict)
    wide_only: bool = False  # left out on a telephone
    digits: int = 2  # of a share, after the point


@dataclass(frozen=True, slots=True)
class Filter:
    """One parameter of the statement; NULL when it is not set.

    Attributes:
        kind: text (a bounded string), choice (one of ``choices``), day (a local day; gives its first instant, or with
            ``ends`` the first instant after it), yuan (an amount, gives fen), number.
    """

    name: str
    title: str
    kind: Literal["text", "choice", "day", "yuan", "number"] = "text"
    choices: Mapping[str, str] = field(default_factory=dict)
    ends: bool = False
    placeholder: str = ""
    default: str = ""
    change: Callable[[str], Any] | None = None  # of a text, e.g. to the hash by which it is found

    def read(self, text: str) -> Any:
        """The parameter's value. Raises BadInputError."""
        text = text.strip()
        if not text:
            return None
        if len(text) > FILTER_LENGTH_MAX or "\0" in text:
            raise BadInputError("filter", "筛选条件太长", field=self.name)
        try:
            match self.kind:
                case "choice":
                    if text not in self.choices:
                        raise ValueError(text)
                    return text
                case "day":
                    return midnight(text, ends=self.ends)
                case "yuan":
                    return fen(text)
                case "number":
                    if len(text) > NUMBER_LENGTH_MAX:
                        raise ValueError(text)
                    return int(text)
        except ValueError as error:
            raise BadInputError("filter", "筛选条件“{title}”无法识别", field=self.name, title=self.title) from error
        return self.change(text) if self.change else text


def fen(yuan: str) -> int:
    """Fen of an amount as people type it; no float on the way.

    >>> fen("1,234.5"), fen("¥0.07"), fen("12")
    (123450, 7, 1200)
    """
    whole, _, rest = yuan.replace(",", "").replace("¥", "").strip().partition(".")
    if not (whole + rest).isascii() or not (whole or "0").isdigit() or (rest and not rest.isdigit()) or len(rest) > 2:
        raise ValueError(yuan)
    if len(whole) > 12:
        raise ValueError(yuan)
    return int(whole or "0") * 100 + int(rest.ljust(2, "0") or "0")


@dataclass(frozen=True, slots=True)
class Table:
    """Attributes:
    key: SQL expression of a unique, sortable bigint of the row, returned as ``key``.
    sort: Name of the column that sorts when nothing is said, "-" in front for downwards.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    key: str
    sort: str
    filters: tuple[Filter, ...] = ()
    row_link: Callable[[Mapping[str, Any]], str] | None = None

    def view(self, query: Mapping[str, str]) -> View:
        """What a request asks for. Raises BadInputError for a filter, a sort or a place that is none."""
        values = {each.name: query.get(each.name, each.default) for each in self.filters}
        sort = query.get("sort", self.sort)
        sortable = {column.name: column for column in self.columns if column.sort}
        column = sortable.get(sort.removeprefix("-"))
        if column is None:
            raise BadInputError("sort", "不能按这一列排序", field="sort")
        try:
            size = int(query.get("size", str(PAGE_ROWS)))
        except ValueError:
            size = 0
        if not 1 <= size <= PAGE_ROWS_MAX:
            raise BadInputError("size", "每页行数为 1 到 {most}", field="size", most=PAGE_ROWS_MAX)
        return View(
            table=self,
            values=values,
            read=tuple(each.read(values[each.name]) for each in self.filters),
            column=column,
            down=sort.startswith("-"),
            size=size,
            place=_place(query.get("after") or query.get("before")),
            back=not query.get("after") and bool(query.get("before")),
        )


def _place(text: str | None) -> tuple[str, int] | None:
    if not text:
        return None
    try:
        value, key = json.loads(base64.urlsafe_b64decode(text.encode()))
        if not isinstance(value, str) or not isinstance(key, int) or isinstance(key, bool):
            raise ValueError
        if "\0" in value or not -(2**63) <= key < 2**63:
            raise ValueError
        return value, key
    except (ValueError, TypeError, binascii.Error) as error:
        raise BadInputError("place", "页码无效，请从第一页开始", field="after") from error


@dataclass(frozen=True, slots=True)
class View:
    """A table as one request wants it."""

    table: Table
    values: dict[str, str]
    read: tuple[Any, ...]
    column: Column
    down: bool
    size: int
    place: tuple[str, int] | None
    back: bool

    def statement(self, text: str, *, rows: int | None = None) -> tuple[str, list[Any]]:
        """The statement for a page and its parameters after $1; ``rows`` for an export, which begins at the beginning.

        The sort value travels as text and is cast back to the expression's type.
        """
        sort, _, kind = self.column.sort.rpartition("::")
        assert sort, f"{self.table.name}.{self.column.name}: sort needs a type"
        place = None if rows else self.place
        down = self.down != (self.back and place is not None)
        word = "DESC" if down else "ASC"
        after, extra = "true", []
        if place is not None:
            first = 2 + len(self.read)
            sign = "<" if down else ">"
            after = f"({sort}, {self.table.key}) {sign} (${first}::text::{kind}, ${first + 1}::bigint)"
            extra = [place[0], place[1]]
        limit = rows if rows else self.size + 1
        text = text.replace("{after}", after).replace("{order}", f"{sort} {word}, {self.table.key} {word}")
        return text.replace("{limit}", str(limit)).replace("{sort}", f"({sort})::text"), [*self.read, *extra]

    def page(self, rows: Sequence[Mapping[str, Any]]) -> Page:
        """Rows as fetched (one more than shown, to know whether there is more)."""
        more = len(rows) > self.size
        shown = list(rows[: self.size])
        if self.back and self.place is not None:
            shown.reverse()
            earlier, later = more, True
        else:
            earlier, later = self.place is not None, more
        return Page(self, shown, earlier=earlier, later=later)

    def url(self, **changes: str | None) -> str:
        """Where this list is with other values; paging starts anew unless it is what changes."""
        values = {name: value for name, value in self.values.items() if value}
        if self.sort != self.table.sort:
            values["sort"] = self.sort
        if self.size != PAGE_ROWS:
            values["size"] = str(self.size)
        for name, value in changes.items():
            if value is None:
                values.pop(name, None)
            else:
                values[name] = value
        return "?" + urlencode(values) if values else "?"

    @property
    def sort(self) -> str:
        return ("-" if self.down else "") + self.column.name

    def sort_url(self, column: Column) -> str:
        down = column.name == self.column.name and not self.down
        return self.url(sort=("-" if down else "") + column.name)

    @property
    def filtered(self) -> bool:
        return any(self.values[each.name] != each.default for each in self.table.filters)


@dataclass(frozen=True, slots=True)
class Page:
    view: View
    rows: list[Mapping[str, Any]]
    earlier: bool
    later: bool

    @property
    def earlier_url(self) -> str:
        return self.view.url(before=_token(self.rows[0])) if self.rows else self.view.url()

    @property
    def later_url(self) -> str:
        return self.view.url(after=_token(self.rows[-1]))


def _token(row: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps([row["sort_value"], row["key"]]).encode()).decode()


EXPORT_LIMIT = EXPORT_ROWS_MAX
