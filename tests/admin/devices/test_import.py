"""Import: every wrong line is told and nothing is done, or everything is done at once."""

from __future__ import annotations

import html
import io
import re
import zipfile
from datetime import datetime
from typing import Any

import pytest
import xlsxwriter

from admin.devices import importer
from admin.devices.importer import Known, check, read
from admin.errors import BadInputError
from admin.limits import IMPORT_ROWS_MAX
from tests.admin.devices.conftest import OPERATIONS

HEAD = "终端编号,出厂序列号,型号,网点编码,银联终端号,摆放位置\r\n"
KNOWN = Known(orgs={"gz-th": 4}, models={"恒达 K3": 1}, contracts={"HT-1": 7}, codes=frozenset({"OLD-1"}))


def _csv(*lines: str) -> bytes:
    return (HEAD + "".join(f"{line}\r\n" for line in lines)).encode()


def test_line_numbers_are_those_that_the_person_sees() -> None:
    body = HEAD.encode() + 'A-1,SN1,恒达 K3,gz-th,,"大堂\n左侧"\r\n\r\nA-2,SN2,恒达 K3,gz-th,,\r\n'.encode()
    assert [line for line, _ in read("k.csv", body)] == [2, 5]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_files_as_excel_writes_them_in_chinese_are_read(encoding: str) -> None:
    body = (HEAD + "A-1,SN1,恒达 K3,gz-th,GS000001,大堂\r\n").encode(encoding)
    ((line, row),) = read("k.csv", body)
    assert line == 2 and row["model"] == "恒达 K3" and row["place"] == "大堂"


def test_a_workbook_is_read_with_its_dates_and_numbers() -> None:
    out = io.BytesIO()
    book = xlsxwriter.Workbook(out, {"in_memory": True})
    sheet = book.add_worksheet()
    for column, (_, title, must, _) in enumerate(importer.COLUMNS):
        sheet.write(0, column, title + ("*" if must else ""))
    sheet.write_row(1, 0, ["a-1", 20260001, "恒达 K3", "gz-th", "GS000001", "HT-1", "", "大堂"])
    sheet.write_datetime(1, 8, datetime(2026, 11, 1), book.add_format({"num_format": "yyyy-mm-dd"}))  # noqa: DTZ001
    book.close()
    good, wrong = check(read("k.xlsx", out.getvalue()), KNOWN)
    assert wrong == []
    assert (good[0]["code"], good[0]["serial_number"], str(good[0]["bought_on"])) == ("A-1", "20260001", "2026-11-01")
    assert (good[0]["org_id"], good[0]["model_id"], good[0]["contract_id"]) == (4, 1, 7)


@pytest.mark.parametrize(
    ("name", "body", "told"),
    [
        ("k.csv", b"", "请选择文件"),
        ("k.csv", b"\x00\x01\x02\xff", "既不是"),
        ("k.xlsx", b"PK\x03\x04 nonsense", "工作簿无法打开"),
        ("k.csv", "终端编号,型号\r\nA,B".encode(), "缺少列"),
        ("k.csv", (HEAD.strip() + ",颜色\r\n").encode(), "不认识的列"),
        ("k.csv", (HEAD.strip() + ",型号\r\n").encode(), "出现两次"),
        ("k.csv", HEAD.encode(), "除标题外"),
        ("k.csv", _csv(*[f"A-{n},S{n},x,y,," for n in range(IMPORT_ROWS_MAX + 1)]), "一次最多"),
    ],
)
def test_what_is_no_such_file_is_told(name: str, body: bytes, told: str) -> None:
    with pytest.raises(BadInputError, match=told):
        read(name, body)


def test_a_workbook_that_pretends_to_be_small_is_not_opened() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b"0" * 40_000_000)
    assert len(out.getvalue()) < 100_000
    with pytest.raises(BadInputError, match="工作簿太大"):
        read("k.xlsx", out.getvalue())


def test_everything_that_is_wrong_is_told_with_its_line() -> None:
    rows = read(
        "k.csv",
        _csv(
            "A-1,SN1,恒达 K3,gz-th,GS000001,",
            "a-1,SN1,恒达 K9,nowhere,GS000001,",
            "OLD-1,,恒达 K3,gz-th,123,",
            "B_2,SN3,恒达 K3,gz-th,," + "x" * 101,
        ),
    )
    good, wrong = check(rows, KNOWN)
    assert len(good) == 1
    assert {(each.line, each.column) for each in wrong} == {
        *((3, "code"), (3, "serial_number"), (3, "model"), (3, "org"), (3, "terminal_id")),
        *((4, "code"), (4, "serial_number"), (4, "terminal_id"), (5, "code"), (5, "place")),
    }


def _upload(person: Any, body: bytes) -> Any:
    return person.http.post(
        "/kiosks/import", data={"csrf": person.csrf}, files={"file": ("kiosks.csv", body, "text/csv")}
    )


def _confirmed(page: str) -> dict[str, str]:
    found = re.search(r'name="rows" value="([^"]*)"', page)
    assert found, "no confirmation is offered"
    return {"rows": html.unescape(found[1]), "file_name": "kiosks.csv"}


def test_a_dry_run_writes_nothing_and_the_import_is_one_act(site: Any, registry: Any) -> None:
    person = site.sign_in(OPERATIONS, org="gz")
    checked = _upload(person, _csv(*[f"A-{n:03d},SN-A{n:03d},恒达 K3,gz-th,GS{n:06d},大堂" for n in range(1, 41)]))
    assert "检查通过：40 台可以登记" in checked.text and "现在还没有登记任何终端" in checked.text
    assert site.sql("SELECT * FROM kiosk") == []

    done = person.post("/kiosks/import/do", _confirmed(checked.text))

    assert "已登记 40 台终端" in done.text
    assert site.sql("SELECT count(*) AS n FROM kiosk WHERE state = 'registered'")[0]["n"] == 40
    assert {row["actor"] for row in site.sql("SELECT actor FROM kiosk_change")} == {f"u:{person.login}"}
    again = person.post("/kiosks/import/do", _confirmed(checked.text))
    assert again.status_code == 422 and "40 行有错，没有登记任何终端" in again.text


def test_one_wrong_line_and_nothing_is_done(site: Any, registry: Any) -> None:
    person = site.sign_in(OPERATIONS, org="gz")
    answer = _upload(person, _csv("A-1,SN-A1,恒达 K3,gz-th,,", "A-2,SN-A2,恒达 K3,sz-ns,,"))
    assert answer.status_code == 422
    assert "1 行有错，没有登记任何终端" in answer.text and "没有这个网点，或不在您的范围内" in answer.text
    assert 'name="rows"' not in answer.text and site.sql("SELECT * FROM kiosk") == []
    # Nor by sending a confirmation that no dry run gave.
    forged = {"rows": '[[2, {"code": "A-2", "serial_number": "SN-A2", "model": "恒达 K3", "org": "sz-ns"}]]'}
    assert person.post("/kiosks/import/do", forged).status_code == 422
    assert person.post("/kiosks/import/do", {"rows": "nonsense"}).status_code == 422
    assert site.sql("SELECT * FROM kiosk") == []
    assert person.get("/kiosks/import/example").content.startswith(b"\xef\xbb\xbf")
