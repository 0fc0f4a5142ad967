"""Tables as files: CSV that Excel opens in Chinese and that runs nothing, and a workbook that keeps every digit."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final

import xlsxwriter

from admin.web.show import ZONE, percent, when
from admin.web.table import Column

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
CSV_TYPE: Final = "text/csv; charset=utf-8"
XLSX_TYPE: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
Say = Callable[[str], str]


def harmless(text: str) -> str:
    """A text that no spreadsheet takes for a formula.

    >>> harmless("=1+1"), harmless("-¥3"), harmless("户号")
    ("'=1+1", "'-¥3", '户号')
    """
    return f"'{text}" if text.startswith(_FORMULA) else text


def yuan(fen: int) -> str:
    """
    >>> yuan(-5), yuan(123456)
    ('-0.05', '1234.56')
    """
    return f"{'-' if fen < 0 else ''}{abs(fen) // 100}.{abs(fen) % 100:02d}"


def to_csv(columns: Sequence[Column], rows: Iterable[Mapping[str, Any]], say: Say) -> bytes:
    """UTF-8 with BOM, CRLF. Amounts are plain numbers in yuan, times are local."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([harmless(say(column.title)) for column in columns])
    for row in rows:
        writer.writerow([_csv(column, row[column.name], say) for column in columns])
    return b"\xef\xbb\xbf" + out.getvalue().encode()


def _csv(column: Column, value: Any, say: Say) -> str:
    if value is None:
        return ""
    if column.kind == "money":
        return yuan(value)
    if column.kind == "count":
        return str(value)  # a number of ours; a minus in front is one
    if column.kind == "share":
        return percent(value, 4)
    return harmless(_text(column, value, say))


def _text(column: Column, value: Any, say: Say) -> str:
    if isinstance(value, datetime):
        return when(value)
    if isinstance(value, date):
        return value.isoformat()
    if column.kind == "names":
        return ", ".join(say(column.names.get(each, each)) for each in str(value).split(","))
    return say(column.names[value]) if value in column.names else str(value)


@dataclass(frozen=True, slots=True)
class Sheet:
    """One table of a file.

    Attributes:
        total: The last line's values, computed by the database. In a workbook amounts and counts stand there as a
            formula with this value. None: amounts are summed, if there are any.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: Sequence[Mapping[str, Any]]
    total: Mapping[str, Any] | None = None


def to_xlsx(
    title: str, columns: Sequence[Column], rows: Iterable[Mapping[str, Any]], say: Say, notes: Mapping[str, str]
) -> bytes:
    """One sheet with the rows, one that explains it."""
    return to_workbook(title, [Sheet("", title, tuple(columns), list(rows))], say, notes)


def to_workbook(title: str, sheets: Sequence[Sheet], say: Say, notes: Mapping[str, str]) -> bytes:
    """A sheet for each table, and one that explains them. Amounts are numbers with two decimals, totals formulas.

    A hundred thousand rows take seconds: call it in a thread.

    Args:
        title: Of the whole, translated already; sheets' titles are translated here.
    """
    out = io.BytesIO()
    # Rows go to a file as they are written: a hundred thousand of them would take half a gigabyte.
    options = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    book = xlsxwriter.Workbook(out, options)
    styles = _Styles(book)
    seen = hashlib.sha256()
    for sheet in sheets:
        _write(book, sheet, styles, say, seen)
    about = book.add_worksheet(say("说明"))
    about.set_column(0, 0, 20)
    about.set_column(1, 1, 80)
    facts = {
        say("表名"): title,
        say("行数"): str(sum(len(sheet.rows) for sheet in sheets)),
        say("导出时间"): when(datetime.now(UTC)),
        **notes,
        "SHA-256": seen.hexdigest(),
    }
    for line, (name, fact) in enumerate(facts.items()):
        about.write_string(line, 0, name, styles.head)
        about.write_string(line, 1, fact, styles.text)
    book.close()
    return out.getvalue()


class _Styles:
    """Formats of one workbook."""

    def __init__(self, book: Any) -> None:
        self.head = book.add_format({"bold": True, "bottom": 1, "text_wrap": True, "valign": "top"})
        self.text = book.add_format({"num_format": "@", "text_wrap": True, "valign": "top"})
        self.stamp = book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        self.money = book.add_format({"num_format": "#,##0.00"})
        self.count = book.add_format({"num_format": "#,##0"})
        self.shares = {digits: book.add_format({"num_format": f"0.{'0' * digits}%"}) for digits in (2, 4)}
        total = {"bold": True, "top": 1}
        self.total = book.add_format(total)
        self.total_money = book.add_format({**total, "num_format": "#,##0.00"})
        self.total_count = book.add_format({**total, "num_format": "#,##0"})
        self.total_shares = {
            digits: book.add_format({**total, "num_format": f"0.{'0' * digits}%"}) for digits in self.shares
        }


def _write(book: Any, sheet: Sheet, styles: _Styles, say: Say, seen: Any) -> None:
    page = book.add_worksheet(_sheet_name(say(sheet.title)))
    for at, column in enumerate(sheet.columns):
        page.write_string(0, at, say(column.title), styles.head)
        page.set_column(at, at, 20 if column.kind in ("time", "text") else 14)
    for number, row in enumerate(sheet.rows, 1):
        for at, column in enumerate(sheet.columns):
            value = row[column.name]
            seen.update(f"{value}\0".encode())
            _cell(page, number, at, column, value, styles, say)
    last = len(sheet.rows)
    if last:
        _total(page, last, sheet, styles, say)
        page.autofilter(0, 0, last, len(sheet.columns) - 1)
    page.freeze_panes(1, 0)
    page.repeat_rows(0)
    page.set_landscape()
    page.fit_to_pages(1, 0)


def _sheet_name(title: str) -> str:
    """As far as a workbook allows: 31 characters, none of []:*?/\\."""
    return "".join("·" if sign in "[]:*?/\\" else sign for sign in title)[:31]


def _cell(page: Any, number: int, at: int, column: Column, value: Any, styles: _Styles, say: Say) -> None:
    if value is None:
        return
    if column.kind == "money":
        page.write_number(number, at, value / 100, styles.money)  # a cell is a double; fen are exact up to 2**53
    elif column.kind == "count" and isinstance(value, int):
        page.write_number(number, at, value, styles.count)
    elif column.kind == "share":
        page.write_number(number, at, value / 1_000_000, styles.shares[column.digits])
    elif isinstance(value, datetime):
        page.write_datetime(number, at, value.astimezone(ZONE).replace(tzinfo=None), styles.stamp)
    else:
        page.write_string(number, at, _text(column, value, say), styles.text)


def _total(page: Any, last: int, sheet: Sheet, styles: _Styles, say: Say) -> None:
    """The line under the rows."""
    summed = {"money"} if sheet.total is None else {"money", "count"}
    if sheet.total is None and not any(column.kind in summed for column in sheet.columns):
        return
    for at, column in enumerate(sheet.columns):
        value = sum(row[column.name] or 0 for row in sheet.rows) if column.kind == "money" else None
        if sheet.total is not None:
            value = sheet.total.get(column.name)
        if column.kind in summed and isinstance(value, int):
            letter = xlsxwriter.utility.xl_col_to_name(at)
            style = styles.total_money if column.kind == "money" else styles.total_count
            shown = value / 100 if column.kind == "money" else value
            page.write_formula(last + 1, at, f"=SUM({letter}2:{letter}{last + 1})", style, shown)
        elif column.kind == "share" and value is not None:
            page.write_number(last + 1, at, value / 1_000_000, styles.total_shares[column.digits])
        elif at == 0:
            page.write_string(last + 1, at, say("合计"), styles.total)
