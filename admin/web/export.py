"""Tables as files: CSV that Excel opens in Chinese and that runs nothing, and a workbook that keeps every digit."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final

import xlsxwriter

from admin.web.show import ZONE, when
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
    if column.kind in ("count", "share"):
        return str(value)  # a number of ours; a minus in front is one
    return harmless(_text(column, value, say))


def _text(column: Column, value: Any, say: Say) -> str:
    if isinstance(value, datetime):
        return when(value)
    if isinstance(value, date):
        return value.isoformat()
    if column.kind == "names":
        return ", ".join(say(column.names.get(each, each)) for each in str(value).split(","))
    return say(column.names[value]) if value in column.names else str(value)


def to_xlsx(
    title: str, columns: Sequence[Column], rows: Iterable[Mapping[str, Any]], say: Say, notes: Mapping[str, str]
) -> bytes:
    """One sheet with the rows, one that explains it. Amounts are numbers with two decimals; totals are formulas."""
    out = io.BytesIO()
    book = xlsxwriter.Workbook(out, {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False})
    head = book.add_format({"bold": True, "bottom": 1, "text_wrap": True, "valign": "top"})
    money = book.add_format({"num_format": "#,##0.00"})
    total = book.add_format({"num_format": "#,##0.00", "bold": True, "top": 1})
    text = book.add_format({"num_format": "@"})
    stamp = book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
    sheet = book.add_worksheet(title[:31])
    seen = hashlib.sha256()
    sums = {at: 0 for at, column in enumerate(columns) if column.kind == "money"}
    for at, column in enumerate(columns):
        sheet.write_string(0, at, say(column.title), head)
        sheet.set_column(at, at, 20 if column.kind in ("time", "text") else 14)
    number = 0
    for row in rows:
        number += 1
        for at, column in enumerate(columns):
            value = row[column.name]
            seen.update(f"{value}\0".encode())
            if value is None:
                continue
            if column.kind == "money":
                sums[at] += value
                sheet.write_number(number, at, value / 100, money)  # a cell is a double; fen are exact up to 2**53
            elif column.kind == "count":
                sheet.write_number(number, at, value)
            elif isinstance(value, datetime):
                sheet.write_datetime(number, at, value.astimezone(ZONE).replace(tzinfo=None), stamp)
            else:
                sheet.write_string(number, at, _text(column, value, say), text)
    if number and sums:
        for at, fen in sums.items():
            letter = xlsxwriter.utility.xl_col_to_name(at)
            sheet.write_formula(number + 1, at, f"=SUM({letter}2:{letter}{number + 1})", total, fen / 100)
        if 0 not in sums:
            sheet.write_string(number + 1, 0, say("合计"), head)
    sheet.freeze_panes(1, 0)
    if number:
        sheet.autofilter(0, 0, number, len(columns) - 1)
    sheet.repeat_rows(0)
    sheet.set_landscape()
    sheet.fit_to_pages(1, 0)
    about = book.add_worksheet(say("说明"))
    about.set_column(0, 0, 20)
    about.set_column(1, 1, 80)
    facts = {
        say("表名"): title,
        say("行数"): str(number),
        say("导出时间"): when(datetime.now(UTC)),
        **notes,
        "SHA-256": seen.hexdigest(),
    }
    for line, (name, fact) in enumerate(facts.items()):
        about.write_string(line, 0, name, head)
        about.write_string(line, 1, fact, text)
    book.close()
    return out.getvalue()
