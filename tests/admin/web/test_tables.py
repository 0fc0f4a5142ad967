"""Lists: filters, sorting and paging by key, their files, and what nobody should type."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import openpyxl
import pytest

from admin.auth.permissions import Role
from admin.web.export import harmless, to_csv, to_xlsx
from admin.web.table import Column, fen

LINK = re.compile(r'href="(\?[^"]*)" *>(?:← )?(?:上一页|下一页)|rel="(prev|next)" href="(\?[^"]+)"')


def _fill(site: Any, count: int) -> None:
    site.sql(
        "INSERT INTO audit_log (seq, at, actor, action, org_path, result, record, chain)"
        " SELECT n, timestamptz '2026-11-01' + n * interval '1 minute', 'u:p' || n % 7, 'act.' || n % 3, '/', 'ok',"
        " '{}', sha256(n::text::bytea) FROM generate_series(1, $1) AS n",
        count,
    )


def _numbers(text: str) -> list[int]:
    return [int(each) for each in re.findall(r'href="/audit/(\d+)"', text)]


def _follow(visitor: Any, text: str, rel: str) -> str | None:
    found = re.search(rf'rel="{rel}" href="([^"]+)"', text)
    return None if found is None else str(visitor.get("/audit" + found[1].replace("&amp;", "&")).text)


def test_pages_follow_each_other_both_ways_without_loss_or_repeat(site: Any) -> None:
    _fill(site, 137)
    visitor = site.sign_in(Role.AUDITOR)
    text = visitor.get("/audit?size=20").text
    seen, pages = _numbers(text), [_numbers(text)]
    while (later := _follow(visitor, text, "next")) is not None:
        text = later
        pages.append(_numbers(text))
        seen += pages[-1]
    assert seen == sorted(seen, reverse=True) and len(seen) == len(set(seen)) and set(range(1, 138)) <= set(seen)
    for expected in reversed(pages[:-1]):
        text = _follow(visitor, text, "prev") or ""
        assert _numbers(text) == expected


def test_a_list_is_sorted_and_filtered_as_the_address_says(site: Any) -> None:
    _fill(site, 60)
    visitor = site.sign_in(Role.AUDITOR)
    text = visitor.get("/audit?sort=seq&actor=p3&action=act.").text
    assert _numbers(text) == [n for n in range(1, 61) if n % 7 == 3]
    assert 'aria-sort="ascending"' in text and 'value="p3"' in text
    rows = visitor.get("/audit?actor=p3&format=json").json()["rows"]
    assert [row["seq"] for row in rows] == [n for n in range(60, 0, -1) if n % 7 == 3]


@pytest.mark.parametrize(
    "query",
    [
        *(
            "sort=nothing",
            "sort=actor;DROP TABLE",
            "size=0",
            "size=9999",
            "size=x",
            "after=x",
            "after=WzEsMl0=",
            "result=x",
        ),
        *(
            "from=2026-13-01",
            "from=0001-01-01",
            "until=9999-12-31",
            "after=WyJhYmMiLDFd",
            "actor=" + "x" * 200,
            "actor=%00",
        ),
    ],
)
def test_what_nobody_should_type_is_refused_in_words(site: Any, query: str) -> None:
    answer = site.sign_in(Role.AUDITOR).get(f"/audit?{query}")
    assert answer.status_code == 422, answer.text[:500]
    assert "<h1>" in answer.text


def test_files_hold_what_the_list_shows_and_leave_a_trace(site: Any) -> None:
    _fill(site, 30)
    visitor = site.sign_in(Role.AUDITOR)
    answer = visitor.get("/audit?actor=p3&format=csv")
    assert answer.content.startswith(b"\xef\xbb\xbf") and b"\r\n" in answer.content
    rows = list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert rows[0][:3] == ["序号", "时间", "人员"] and [row[0] for row in rows[1:]] == ["24", "17", "10", "3"]

    book = openpyxl.load_workbook(io.BytesIO(visitor.get("/audit?actor=p3&format=xlsx").content))
    sheet, about = book.worksheets
    assert [row[0].value for row in sheet.iter_rows(min_row=2)] == [24, 17, 10, 3] and sheet.freeze_panes == "A2"
    assert {row[0].value for row in about.iter_rows()} >= {"行数", "SHA-256", "筛选条件"}

    traces = site.sql("SELECT detail FROM audit_log WHERE action = 'export' ORDER BY seq")
    assert len(traces) == 2 and '"rows": 4' in traces[0]["detail"]
    nobody = site.sign_in(Role.SECURITY_ADMINISTRATOR)
    assert nobody.get("/operators?format=csv").status_code == 403


def test_no_cell_is_a_formula_and_no_digit_is_lost() -> None:
    columns = (
        Column("name", "名称"),
        Column("number", "户号"),
        Column("fen", "金额", "money"),
        Column("n", "笔数", "count"),
    )
    rows = [
        {"name": "=cmd|' /C calc'!A0", "number": "123456789012345678", "fen": 9007199254740991, "n": -3},
        {"name": "@SUM(1)", "number": "000000000000000001", "fen": -5, "n": 2},
    ]
    text = to_csv(columns, rows, str).decode("utf-8-sig")
    assert "'=cmd" in text and "'@SUM" in text and "90071992547409.91" in text and "-0.05" in text and ",-3" in text
    book = openpyxl.load_workbook(io.BytesIO(to_xlsx("表", columns, rows, str, {})))
    sheet = book.worksheets[0]
    assert sheet["A2"].data_type == "s" and sheet["B2"].value == "123456789012345678" and sheet["B3"].value[:3] == "000"
    assert sheet["C4"].value == "=SUM(C2:C3)" and sheet["C3"].value == -0.05
    assert harmless("普通") == "普通"


@pytest.mark.parametrize("wrong", ["1.234", "abc", "1..2", "-5", "１２", "1e3", "9" * 20, "1.2.3"])
def test_an_amount_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=re.escape(wrong) if wrong != "１２" else "１２"):
        fen(wrong)
