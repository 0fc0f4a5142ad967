"""Many kiosks from one file: CSV (UTF-8 or GB18030) or XLSX. First every line is read and checked, then all or none.

Columns may stand in any order, under their Chinese or English names; the order of the example is ``COLUMNS``. Pure: no
database; what the registry knows comes in as ``Known``.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final

import openpyxl

from admin.errors import BadInputError
from admin.limits import IMPORT_INFLATED_MAX, IMPORT_ROWS_MAX

# Name in code, heading, whether it must be filled, an example.
COLUMNS: Final = (
    ("code", "终端编号", True, "GZ-TH-001"),
    ("serial_number", "出厂序列号", True, "SN20260001"),
    ("model", "型号", True, "恒达 K3"),
    ("org", "网点编码", True, "th07"),
    ("terminal_id", "银联终端号", False, "GS000123"),
    ("contract", "合同编号", False, "HT-2026-01"),
    ("line", "线路", False, "LINE-07"),
    ("place", "摆放位置", False, "大堂左侧"),
    ("bought_on", "购置日期", False, "2026-11-01"),
)
_BY_TITLE: Final = {**{title: name for name, title, _, _ in COLUMNS}, **{name: name for name, _, _, _ in COLUMNS}}
_CODE: Final = re.compile(r"[A-Z0-9-]{3,24}")
_TERMINAL: Final = re.compile(r"[0-9A-Za-z]{8}")


@dataclass(frozen=True, slots=True)
class Known:
    """What rows refer to: names to ids; and what is taken already."""

    orgs: Mapping[str, int]
    models: Mapping[str, int]
    contracts: Mapping[str, int]
    codes: frozenset[str] = frozenset()
    serial_numbers: frozenset[str] = frozenset()
    terminals: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Wrong:
    """What is wrong in one line; ``text`` is a msgid with ``values``."""

    line: int
    column: str
    value: str
    text: str
    values: dict[str, Any] = field(default_factory=dict)


def read(name: str, body: bytes) -> list[tuple[int, dict[str, str]]]:
    """Line numbers, as the person's program shows them, with values by column name. Empty lines are left out.

    Raises:
        BadInputError: No such file, no such columns, too many rows.
    """
    if not body:
        raise BadInputError("file", "请选择文件", field="file")
    lines = _workbook(body) if body[:4] == b"PK\x03\x04" else _text(name, body)
    if not lines:
        raise BadInputError("file", "文件里没有内容", field="file")
    heads = [cell.strip().removesuffix("*") for cell in lines[0][1]]
    names = [_BY_TITLE.get(head, "") for head in heads]
    missing = [title for column, title, must, _ in COLUMNS if must and column not in names]
    if missing:
        raise BadInputError("file", "第一行缺少列：{titles}", field="file", titles="、".join(missing))
    unknown = [head for head, column in zip(heads, names, strict=True) if head and not column]
    if unknown:
        raise BadInputError("file", "不认识的列：{titles}", field="file", titles="、".join(unknown[:5]))
    twice = {column for column in names if column and names.count(column) > 1}
    if twice:
        raise BadInputError("file", "同一列出现两次", field="file")
    rows = []
    for line, cells in lines[1:]:
        values = {column: cell.strip() for column, cell in zip(names, cells, strict=False) if column}
        if any(values.values()):
            rows.append((line, values))
    if not rows:
        raise BadInputError("file", "除标题外没有任何一行", field="file")
    if len(rows) > IMPORT_ROWS_MAX:
        raise BadInputError("file", "一次最多 {most} 行，请分开导入", field="file", most=IMPORT_ROWS_MAX)
    return rows


def _text(name: str, body: bytes) -> list[tuple[int, list[str]]]:
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            text = body.decode(encoding)
            break
        except UnicodeDecodeError:
            continue
    else:
        raise BadInputError("file", "文件既不是 XLSX，也不是 UTF-8 或 GBK 的 CSV", field="file")
    if "\0" in text:
        raise BadInputError("file", "文件既不是 XLSX，也不是 UTF-8 或 GBK 的 CSV", field="file")
    first = text.split("\n", 1)[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if "\t" in first else ",", strict=False)
    lines = []
    try:
        before = 0
        for cells in reader:
            lines.append((before + 1, cells))
            before = reader.line_num
    except csv.Error as error:
        raise BadInputError("file", "第 {line} 行无法读取", field="file", line=reader.line_num) from error
    return lines


def _workbook(body: bytes) -> list[tuple[int, list[str]]]:
    wrong = BadInputError("file", "工作簿无法打开，请另存为 XLSX 或 CSV 后再试", field="file")
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            if sum(each.file_size for each in archive.infolist()) > IMPORT_INFLATED_MAX:
                raise BadInputError("file", "工作簿太大", field="file")
        book = openpyxl.load_workbook(io.BytesIO(body), read_only=True, data_only=True)
        sheet = book.worksheets[0]
        lines = []
        for number, cells in enumerate(sheet.iter_rows(values_only=True, max_col=40), 1):
            if number > IMPORT_ROWS_MAX + 100:
                break
            lines.append((number, [_cell(cell) for cell in cells]))
        book.close()
    except BadInputError:
        raise
    except Exception as error:  # whatever a broken workbook does to the library
        raise wrong from error
    while lines and not any(lines[-1][1]):
        lines.pop()
    return lines


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.date().isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def example() -> bytes:
    """An empty file to begin with, as CSV."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([title + ("*" if must else "") for _, title, must, _ in COLUMNS])
    writer.writerow([shown for _, _, _, shown in COLUMNS])
    return b"\xef\xbb\xbf" + out.getvalue().encode()


def check(rows: Sequence[tuple[int, Mapping[str, str]]], known: Known) -> tuple[list[dict[str, Any]], list[Wrong]]:
    """Values as the registry takes them, with everything that is wrong, by line. Values count only if nothing is."""
    good: list[dict[str, Any]] = []
    wrong: list[Wrong] = []
    seen: dict[tuple[str, str], int] = {}
    for line, row in rows:
        before = len(wrong)
        values = _checked(line, row, known, wrong)
        for name in ("code", "serial_number", "terminal_id"):
            value = values[name]
            if not value:
                continue
            first = seen.setdefault((name, value), line)
            if first != line:
                wrong.append(Wrong(line, name, value, "与第 {first} 行重复", {"first": first}))
        if len(wrong) == before:
            good.append(values)
    return good, wrong


def _checked(line: int, row: Mapping[str, str], known: Known, wrong: list[Wrong]) -> dict[str, Any]:
    def told(name: str, text: str, **values: Any) -> None:
        wrong.append(Wrong(line, name, row.get(name, ""), text, values))

    code, serial = row.get("code", "").upper(), row.get("serial_number", "")
    terminal = row.get("terminal_id", "")
    for name, _, must, _ in COLUMNS:
        if must and not row.get(name):
            told(name, "没有填写")
    if code and not _CODE.fullmatch(code):
        told("code", "须为 3 到 24 位大写字母、数字或横线")
    if serial and not (3 <= len(serial) <= 40 and serial.isprintable()):
        told("serial_number", "须为 3 到 40 个字符")
    if terminal and not _TERMINAL.fullmatch(terminal):
        told("terminal_id", "须为 8 位字母或数字")
    for name, value, taken in (
        ("code", code, known.codes),
        ("serial_number", serial, known.serial_numbers),
        ("terminal_id", terminal, known.terminals),
    ):
        if value and value in taken:
            told(name, "已在档案中")
    for name, names, text in (
        ("org", known.orgs, "没有这个网点，或不在您的范围内"),
        ("model", known.models, "没有这个型号"),
        ("contract", known.contracts, "没有这份合同"),
    ):
        if row.get(name) and row[name] not in names:
            told(name, text)
    for name, most in (("line", 60), ("place", 100)):
        if len(row.get(name, "")) > most or not row.get(name, "").isprintable():
            told(name, "最多 {most} 个字符", most=most)
    bought: date | None = None
    if row.get("bought_on"):
        try:
            bought = date.fromisoformat(row["bought_on"].replace("/", "-"))
        except ValueError:
            told("bought_on", "日期须写成 2026-11-01")
    return {
        "code": code,
        "serial_number": serial,
        "model_id": known.models.get(row.get("model", "")),
        "org_id": known.orgs.get(row.get("org", "")),
        "contract_id": known.contracts.get(row.get("contract", "")),
        "terminal_id": terminal or None,
        "line": row.get("line", ""),
        "place": row.get("place", ""),
        "bought_on": bought,
    }
