"""The reports as people see and take them: for whom, in what form, how often, and with what numbers."""

from __future__ import annotations

import asyncio
import hashlib
import io
import re
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import openpyxl
import pytest

from admin import limits
from admin.auth.permissions import ROLES, Access, Permission, Role
from admin.reports.asked import Panel, read
from admin.reports.pages import REPORTS
from admin.reports.report import _turn

from ..conftest import Site, opened
from .conftest import FORMULA, TERMINALS, load
from .shop import Shop, at_ms, rows

CHINA = ZoneInfo("Asia/Shanghai")
RANGE = "from=2026-11-23&until=2026-11-25"


def some(seed: int, count: int = 150) -> Shop:
    shop = Shop(seed, TERMINALS)
    for _ in range(count):
        shop.pay(at_ms("2026-11-23 08:00") + shop.dice.randrange(40 * 3_600_000), good=0.7)
    return shop


def table(visitor: Any, url: str) -> list[dict[str, str]]:
    answer = visitor.get(url)
    assert answer.status_code == 200, answer.text
    head, *lines = rows(answer.content)
    return [dict(zip(head, line, strict=True)) for line in lines]


# ---------------------------------------------------------------------------------------------------- numbers
def test_failures_are_counted_once_each_by_class_code_and_kiosk(hall: Site) -> None:
    load(hall, some(1))
    facts = hall.sql("SELECT class, fault_source, fault_code, terminal_id FROM payment_fact")
    failed = [row for row in facts if row["class"] not in (None, "ok")]
    assert len({row["class"] for row in failed}) >= 4
    visitor = hall.sign_in(Role.OPERATIONS)
    words = {"customer": "客户", "issuer": "发卡行", "channel": "支付渠道", "switch": "支付前置", "terminal": "终端"}
    words["grid"] = "营销系统"

    classes = table(visitor, f"/reports/failures?{RANGE}&format=csv&table=classes")
    assert {row["类别"]: int(row["失败笔数"]) for row in classes} == Counter(words[row["class"]] for row in failed)
    codes = table(visitor, f"/reports/failures?{RANGE}&format=csv&table=codes")
    assert {(row["类别"], row["代码"], int(row["失败笔数"])) for row in codes} == {
        (words[key[0]], key[2], count)
        for key, count in Counter((row["class"], row["fault_source"], row["fault_code"]) for row in failed).items()
    }
    kiosks = table(visitor, f"/reports/failures?{RANGE}&format=csv&table=kiosks")
    wanted = Counter((row["class"], row["fault_source"], row["fault_code"], row["terminal_id"]) for row in failed)
    assert sorted(int(row["失败笔数"]) for row in kiosks) == sorted(wanted.values())

    # Into one reason: its failures, of the same payments.
    source, code = failed[0]["fault_source"], failed[0]["fault_code"]
    url = f"/reports/failures?{RANGE}&class={failed[0]['class']}&reason={source}:{code}"
    (only,) = table(visitor, f"{url}&format=csv&table=codes")
    assert int(only["失败笔数"]) == sum((row["fault_source"], row["fault_code"]) == (source, code) for row in failed)
    assert f"共 {len(facts)} 笔缴费" in visitor.get(url).text

    completed, customer = (sum(row["class"] == each for row in facts) for each in ("ok", "customer"))
    page = visitor.get(f"/reports/failures?{RANGE}").text
    net, gross = (10_000 * completed // whole for whole in (len(facts) - customer, len(facts)))
    assert f"{net // 100}.{net % 100:02d}%" in page and f"毛成功率 {gross // 100}.{gross % 100:02d}%" in page


def test_percentiles_are_exact_over_the_payments(hall: Site) -> None:
    load(hall, some(2))
    facts = hall.sql("SELECT opened_at, state, terminal_id, card_ms, bill_ms, total_ms FROM payment_fact")
    visitor = hall.sign_in(Role.OPERATIONS)

    def nearest(values: list[int], percent: int) -> str:
        """The smallest value that so many percent do not exceed."""
        values = sorted(values)
        return str(values[-(-len(values) * percent // 100) - 1]) if values else ""

    def check(row: dict[str, str], chosen: list[Any]) -> None:
        assert int(row["笔数"]) == len(chosen)
        for title, leg in (("银行卡", "card_ms"), ("销账", "bill_ms"), ("全程", "total_ms")):
            values = [each[leg] for each in chosen if each[leg] is not None]
            if leg == "total_ms":
                values = [each[leg] for each in chosen if each["state"] == "COMPLETED"]
            for percent in (50, 95, 99):
                assert row[f"{title} P{percent}"] == nearest(values, percent), (row, title, percent)

    hours = defaultdict(list)
    for each in facts:
        hours[f"{each['opened_at'].astimezone(CHINA):%H}:00"].append(each)
    found = table(visitor, f"/reports/latency?{RANGE}&format=csv&table=hours")
    assert [row["时段"] for row in found] == sorted(hours)
    for line in found:
        check(line, hours[line["时段"]])
    kiosks = table(visitor, f"/reports/latency?{RANGE}&format=csv&table=kiosks")
    (third,) = (row for row in kiosks if row["终端"] == "K000003")
    check(third, [each for each in facts if each["terminal_id"] == "GS000003"])
    legs = {row["环节"]: row for row in table(visitor, f"/reports/latency?{RANGE}&format=csv&table=legs")}
    values = {
        "银行卡": [each["card_ms"] for each in facts if each["card_ms"] is not None],
        "销账": [each["bill_ms"] for each in facts if each["bill_ms"] is not None],
        "全程": [each["total_ms"] for each in facts if each["state"] == "COMPLETED"],
    }
    for title, known in values.items():
        assert len({nearest(known, percent) for percent in (50, 90, 95, 99)}) == 4, "too few to tell them apart"
        for percent in (50, 95, 99):
            assert legs[title][f"P{percent}"] == nearest(known, percent), title


def test_the_curve_compares_a_day_a_week_and_a_month_with_those_before(hall: Site) -> None:
    shop = Shop(3, TERMINALS)
    for day, count in (("2026-11-24", 7), ("2026-11-23", 3), ("2026-11-17", 2), ("2026-10-24", 4)):
        for number in range(count):
            shop.pay(at_ms(f"{day} 10:20") + number, account=f"account-{number}")
    load(hall, shop)
    visitor = hall.sign_in(Role.MARKETING)

    def slot(query: str) -> dict[str, str]:
        found = table(visitor, f"/reports/curve?day=2026-11-24&format=csv&{query}")
        assert len(found) == 96
        (row,) = (row for row in found if row["时段"] == "10:15")
        assert all(row[title] == "0" for row in found if row["时段"] != "10:15" for title in list(row)[1:2])
        return row

    whole = slot("span=day")
    assert (whole["当日"], whole["前一日"], whole["上周同日"], whole["缴费户数"]) == ("7", "3", "2", "7")
    (prepaid,) = hall.sql("SELECT count(*) FROM payment_fact WHERE kind = 'prepayment' AND local_on = '2026-11-24'")
    assert (int(whole["预存"]), int(whole["缴费"])) == (prepaid["count"], 7 - prepaid["count"])
    week = slot("span=week")  # Monday 23 to the chosen Tuesday 24: two days
    assert (week["本周"], week["本周日均"], week["上周"], week["上周日均"]) == ("10", "5.0", "2", "0.3")
    month = slot("span=month")
    assert (month["本月"], month["本月日均"], month["上月"], month["上月日均"]) == ("12", "0.5", "4", "0.1")
    only = slot("span=day&business=prepayment")
    assert int(only["当日"]) == prepaid["count"] and only["缴费"] == "0"


def test_the_heat_map_divides_by_how_many_such_weekdays_there_are(hall: Site) -> None:
    shop = Shop(4, TERMINALS)
    for day, count in (("2026-11-16", 6), ("2026-11-23", 3), ("2026-11-24", 1)):  # Monday twice, Tuesday
        for number in range(count):
            shop.pay(at_ms(f"{day} 09:30") + number, account=f"account-{number}")
    load(hall, shop)
    visitor = hall.sign_in(Role.MARKETING)

    found = table(visitor, "/reports/peaks?from=2026-11-16&until=2026-11-24&format=csv")
    assert len(found) == 7 * 24
    cells = {(row["星期"], row["时段"]): row for row in found}
    monday, tuesday = cells["周一", "09:00"], cells["周二", "09:00"]
    assert (monday["笔数"], monday["天数"], monday["日均笔数"], monday["缴费户数"]) == ("9", "2", "4.5", "6")
    assert (tuesday["笔数"], tuesday["天数"], tuesday["日均笔数"]) == ("1", "2", "0.5")
    assert sum(int(row["笔数"]) for row in found) == 10
    page = visitor.get("/reports/peaks?from=2026-11-16&until=2026-11-24").text
    assert '<td class="heat-5">4.5</td>' in page and '<td class="heat-1">0.5</td>' in page


def test_fewer_than_five_accounts_are_not_counted_out(hall: Site) -> None:
    shop = Shop(5, TERMINALS)
    for hour, accounts in ((8, 4), (9, 5), (10, 1)):
        for number in range(12):
            shop.pay(at_ms(f"2026-11-24 {hour:02d}:00") + number, account=f"account-{number % accounts}")
    load(hall, shop)
    visitor = hall.sign_in(Role.MARKETING)
    wanted = {"08:00": "<5", "09:00": "5", "10:00": "<5"}

    for url, keys in (("/reports/curve?day=2026-11-24", 96), ("/reports/peaks?from=2026-11-24&until=2026-11-24", 168)):
        found = [row for row in table(visitor, f"{url}&format=csv") if row["缴费户数"] != "0"]
        assert {row["时段"]: row["缴费户数"] for row in found} == wanted
        book = openpyxl.load_workbook(io.BytesIO(visitor.get(f"{url}&format=xlsx").content))
        lines = [list(line) for line in book.worksheets[0].iter_rows(values_only=True)]
        assert len(lines) == keys + 2
        at, slot = lines[0].index("缴费户数"), lines[0].index("时段")
        assert {line[slot]: str(line[at]) for line in lines[1:-1] if line[at]} == wanted
        assert "account" not in str(lines)
    assert "&lt;5" in visitor.get("/reports/curve?day=2026-11-24").text


def test_a_month_of_availability_is_raw_and_as_the_contract_counts(hall: Site) -> None:
    hall.sql(
        "INSERT INTO availability_day SELECT 'switch', day, 86400000, 0, 0, 0, 0"
        " FROM generate_series(date '2026-11-01', '2026-11-30', '1 day') AS day"
        " WHERE day NOT IN ('2026-11-05', '2026-11-06')"
    )
    # An outage of 61 minutes, and an hour of approved work that took 30 minutes of it; a slot was not measured.
    hall.sql(
        "INSERT INTO availability_day VALUES ('switch', '2026-11-05', 86400000, 3660000, 0, 0, 0),"
        " ('switch', '2026-11-06', 86370000, 1800000, 3600000, 1800000, 30000),"
        " ('link unionpay-1', '2026-11-05', 86400000, 0, 0, 0, 0),"
        " ('switch', '2026-10-01', 86400000, 60000, 0, 0, 0), ('switch', '2025-12-31', 86400000, 86400000, 0, 0, 0)"
    )
    hall.sql(
        "INSERT INTO kiosk_day"
        " SELECT id, '2026-11-07', 36000, CASE code WHEN 'K000003' THEN 18000 ELSE 36000 END FROM kiosk"
    )
    visitor = hall.sign_in(Role.OPERATIONS)

    switch, link = table(visitor, "/reports/month?month=2026-11&format=csv&table=services")
    assert (link["服务"], link["合同可用率"], link["停机秒数"]) == ("链路 unionpay-1", "100.0000%", "0")
    measured, down = 30 * 86_400 - 30, 3660 + 1800
    raw = 1_000_000 * (measured - down) // measured
    contract = 1_000_000 * (measured - 3600 - 3660) // (measured - 3600)
    assert (switch["服务"], switch["停机秒数"], switch["其中计划停机秒数"]) == ("支付前置", str(down), "1800")
    assert (switch["已监测秒数"], switch["未监测秒数"]) == (str(measured), "30")
    assert switch["原始可用率"] == f"{raw // 10_000}.{raw % 10_000:04d}%"
    assert switch["合同可用率"] == f"{contract // 10_000}.{contract % 10_000:04d}%"
    page = visitor.get("/reports/month?month=2026-11").text
    # 8:45:36 a year, less the 61 minutes and the minute of October.
    assert "7:43:36" in page and "1:02:00" in page
    kiosks = table(visitor, "/reports/month?month=2026-11&format=csv&table=kiosks")
    assert (kiosks[0]["终端"], kiosks[0]["可用率"]) == ("K000003", "50.0000%")
    assert "成交金额" not in page, "operations see no money"
    assert visitor.get("/reports/month?month=2026-11&format=csv&table=money").status_code == 422
    assert hall.sign_in(Role.AUDITOR).get("/reports/month?month=2026-11&format=csv&table=money").status_code == 200


# ---------------------------------------------------------------------------------------------------- for whom
def test_each_report_is_for_those_who_may_and_shows_their_part(hall: Site) -> None:
    shop = Shop(6, ["GS000001", "GS000003"])
    for terminal, count in (("GS000001", 2), ("GS000003", 5)):
        for number in range(count):
            shop.pay(at_ms("2026-11-24 10:00") + number, terminal=terminal, good=1.0)
    load(hall, shop)
    people = {role: hall.sign_in(role, org="gz") for role in Role}

    for report in REPORTS:
        days = {"month": "month=2026-11", "day": "day=2026-11-24"}.get(report.panel.period, RANGE)
        url = f"/reports/{report.name}?{days}"
        for role, visitor in people.items():
            answer = visitor.get(url)
            assert (answer.status_code == 200) == (report.permission in ROLES[role]), (report.name, role)
            if answer.status_code == 200:
                _shows_their_part(answer.text, report)
                exported = visitor.get(f"{url}&format=csv")
                assert (exported.status_code == 200) == (Permission.REPORT_EXPORT in ROLES[role])
        for outside in ("sz", "nowhere"):
            assert people[Role.AUDITOR].get(f"{url}&org={outside}").status_code == 404

    taken = {
        "daily": ("groups", "笔数"),
        "latency": ("kiosks", "笔数"),
        "curve": ("slots", "当日"),
        "peaks": ("cells", "笔数"),
    }
    for name, (sheet, title) in taken.items():
        days = "day=2026-11-24" if name == "curve" else RANGE
        found = table(people[Role.AUDITOR], f"/reports/{name}?{days}&format=csv&table={sheet}")
        assert sum(int(row[title]) for row in found) == 2, name
    money = table(people[Role.AUDITOR], "/reports/month?month=2026-11&format=csv&table=money")
    assert [row["笔数"] for row in money] == ["2"]


def _shows_their_part(text: str, report: Any) -> None:
    assert "K000003" not in text and "南山营业厅" not in text
    assert 'style="' not in text and "<style" not in text, "the content policy is strict"
    for definition in report.definitions:
        assert definition.partition("<")[0] in text
    assert "数据截至 20" in text


def test_who_took_which_file_is_written_down_with_its_digest(hall: Site) -> None:
    load(hall, some(7, 30))
    visitor = hall.sign_in(Role.FINANCE)
    for form in ("csv", "xlsx"):
        body = visitor.get(f"/reports/daily?{RANGE}&by=kiosk&business=payment&format={form}").content
        (row,) = hall.sql("SELECT * FROM audit_log WHERE actor = $1 ORDER BY seq DESC LIMIT 1", f"u:{visitor.login}")
        assert (row["action"], row["object_kind"], row["object_id"], row["result"]) == (
            "export",
            "report",
            "daily",
            "ok",
        )
        detail = row["detail"]
        assert hashlib.sha256(body).hexdigest() in detail and '"business": "payment"' in detail
        assert f'"form": "{form}"' in detail


# ---------------------------------------------------------------------------------------------------- files
def test_a_file_runs_nothing_and_keeps_every_digit(hall: Site) -> None:
    shop = Shop(8, TERMINALS[:4])
    for number in range(8):
        shop.pay(at_ms("2026-11-24 10:00") + number, terminal=TERMINALS[number % 4], good=1.0)
    load(hall, shop)
    visitor = hall.sign_in(Role.FINANCE)
    url = "/reports/daily?from=2026-11-24&until=2026-11-24&by=kiosk"

    raw = visitor.get(f"{url}&format=csv")
    assert raw.content.startswith(b"\xef\xbb\xbf") and raw.content.count(b"\r\n") == raw.content.count(b"\n") == 5
    assert "attachment" in raw.headers["content-disposition"]
    cells = {cell for line in rows(raw.content)[1:] for cell in line[:2]}
    assert cells == {"123456789012345678", "'-K-2", "K000003", "K000004", "天河营业厅", "南山营业厅", f"'{FORMULA}"}

    book = openpyxl.load_workbook(io.BytesIO(visitor.get(f"{url}&format=xlsx").content))
    for sheet in book.worksheets:
        assert sheet.freeze_panes == "A2" or sheet.title == "说明"
        for line in sheet.iter_rows():
            for cell in line:
                if cell.data_type == "f":
                    assert re.fullmatch(r"=SUM\([A-Z]+2:[A-Z]+\d+\)", str(cell.value)), cell.value
    names = {(cell.value, cell.data_type) for line in book["按终端"]["A2:B5"] for cell in line}
    assert {("123456789012345678", "s"), ("-K-2", "s"), (FORMULA, "s")} <= names
    about = {line[0]: line[1] for line in book["说明"].iter_rows(values_only=True)}
    assert about["参数"] == "from=2026-11-24; until=2026-11-24; by=kiosk"
    assert "成功率 = 成交笔数 ÷" in about["口径"] and re.fullmatch("[0-9a-f]{64}", about["SHA-256"])
    assert about["数据截至"].startswith("20")


# ---------------------------------------------------------------------------------------------------- what is asked
NONSENSE = (
    "from=2026-13-01",
    "from=x&until=y",
    "from=2026-11-30&until=2026-11-01",
    "from=2026-01-01&until=2026-11-01",
    "from=0001-01-01&until=0001-01-02",
    "until=9999-12-31",
    "business=refund",
    "by=account_hash",
    "kiosk=%00",
    "kiosk=" + "x" * 101,
    "org=%ff%00",
    "format=pdf",
    "format=csv&table=account_hash",
)


def test_what_cannot_be_read_is_said_and_not_run(hall: Site) -> None:
    visitor = hall.sign_in(Role.FINANCE)
    for query in NONSENSE:
        answer = visitor.get(f"/reports/daily?{query}")
        assert answer.status_code == 422 and "服务暂时出错" not in answer.text, query


def test_without_a_word_the_latest_day_is_shown_and_an_empty_service_says_so(hall: Site) -> None:
    visitor = hall.sign_in(Role.AUDITOR)
    for report in REPORTS:
        answer = visitor.get(f"/reports/{report.name}")
        assert answer.status_code == 200 and ("没有缴费" in answer.text or "没有数据" in answer.text), report.name
    shop = Shop(9, TERMINALS)
    shop.pay(at_ms("2026-11-24 23:30"), good=1.0)
    load(hall, shop)
    assert 'name="until" type="date" value="2026-11-25"' in visitor.get("/reports/daily").text
    assert 'name="day" type="date" value="2026-11-24"' in visitor.get("/reports/curve").text
    hall.sql("UPDATE feed_position SET read_at = now() - interval '10 minutes', more = false")
    old = datetime.now(UTC) - timedelta(minutes=10)
    page = visitor.get("/reports/daily").text
    assert "数据延迟" in page or hall.sql("SELECT read_at > $1 AS again FROM feed_position", old)[0]["again"]


def test_one_report_at_a_time_of_each_operator_and_few_of_all(hall: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REPORT_WAIT_S", 0.05)
    people = [hall.sign_in(Role.FINANCE) for _ in range(2 * limits.REPORTS_AT_ONCE)]

    async def held() -> None:
        """Somebody's report is being made in another process."""
        connection = await asyncpg.connect(hall.dsn)
        try:
            slot = people[0].operator_id % limits.REPORTS_AT_ONCE
            await connection.execute("SELECT pg_advisory_lock($1, $2)", 0x6772_6964, slot)
            for visitor in people:
                answer = await asyncio.to_thread(visitor.get, "/reports/daily")
                busy = visitor.operator_id % limits.REPORTS_AT_ONCE == slot
                assert answer.status_code == (429 if busy else 200)
                if busy:
                    assert "另一张报表正在生成" in answer.text and int(answer.headers["retry-after"]) > 0
        finally:
            await connection.close()

    asyncio.run(held())
    assert people[0].get("/reports/daily").status_code == 200


def test_a_report_that_takes_too_long_is_ended_by_the_server_and_harms_nobody(
    hall: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REPORT_STATEMENT_S", 0.3)
    visitor = hall.sign_in(Role.FINANCE)

    async def held() -> None:
        """As slow as it can be: the payments' table is somebody else's."""
        connection = await asyncpg.connect(hall.dsn)
        try:
            async with connection.transaction():
                await connection.execute("LOCK TABLE admin.payment_fact IN ACCESS EXCLUSIVE MODE")
                answer = await asyncio.to_thread(visitor.get, "/reports/daily")
                assert answer.status_code == 503
                assert "报表在规定时间内没有完成" in answer.text and "请缩小日期或组织范围" in answer.text
        finally:
            await connection.close()

    asyncio.run(held())
    left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'gridswitch admin report'"
    while hall.sql(left)[0]["count"]:  # the server is about to notice that the connection is closed
        pass


def test_a_report_reads_in_one_process_with_little_memory_and_may_not_write(hall: Site) -> None:
    who = Access(1, "wang", "王建国", 1, "full", "", "127.0.0.1")

    async def main() -> None:
        async with opened(hall.dsn) as database, _turn(database, who) as connection:
            assert await connection.fetchval("SHOW work_mem") == f"{limits.REPORT_MEMORY_MB}MB"
            assert await connection.fetchval("SHOW max_parallel_workers_per_gather") == "0"
            assert await connection.fetchval("SHOW transaction_read_only") == "on"
            assert await connection.fetchval("SHOW transaction_isolation") == "repeatable read"
            assert await connection.fetchval("SELECT current_user") == "gridswitch_admin"

    asyncio.run(main())


def test_english_pages_are_english(hall: Site) -> None:
    load(hall, some(11, 20))
    visitor = hall.sign_in(Role.AUDITOR)
    hall.sql("UPDATE operator SET language = 'en'")
    for report in REPORTS:
        text = visitor.get(f"/reports/{report.name}").text
        main = text[text.index('<main id="content"') : text.index("</main>")]
        for name in ("天河营业厅", "南山营业厅", FORMULA, "营业厅", "广东", "广州", "深圳", "全网"):
            main = main.replace(name, "")
        assert not re.findall(r"[\u3400-\u9fff]+", main), report.name


def test_months_have_their_own_length() -> None:
    for month, last in (("2028-02", date(2028, 2, 29)), ("2026-12", date(2026, 12, 31))):
        assert read({"month": month}, Panel("month"), date(2026, 11, 30)).last == last
