"""Every total of every report against the switch's own tables, to the fen, by SQL that shares nothing with admin's."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import date
from typing import Any

import openpyxl
import pytest

from admin.auth.permissions import Role

from ..conftest import Site
from .conftest import FORMULA, KIOSKS, STRANGER, TERMINALS, load
from .shop import Shop, at_ms, rows

UNKNOWN = "未登记终端"
CODES = {terminal: code for terminal, code, _ in KIOSKS} | {STRANGER: UNKNOWN}
SITES = {"gz-th": "天河营业厅", "sz-ns": "南山营业厅", "sz-bad": FORMULA}
SITE_OF = {terminal: SITES[org] for terminal, _, org in KIOSKS} | {STRANGER: UNKNOWN}
# As the owner of the database, from the books of the switch's projector.
TRUTH = """
    SELECT body ->> 'settlement_day' AS day, terminal_id, body #>> '{postings,0,0}' = '' AS prepaid,
           state::text AS state, count(*) AS payments, sum(amount)::bigint AS fen
      FROM switch.payment GROUP BY 1, 2, 3, 4
"""
STATES = {
    "COMPLETED": "成交",
    "DECLINED": "拒绝",
    "REVERSED": "退回",
    "REFUNDED": "退回",
    "SUSPENSE": "挂账",
    "UNPROVEN": "未决",
}
MONEY = ("成交", "退回", "挂账", "未决", "处理中")


def fen(yuan: str) -> int:
    whole, _, rest = yuan.partition(".")
    assert len(rest) == 2
    return int(whole) * 100 + int(rest)


def expected(found: Iterable[Any], key: Any) -> dict[Any, Counter[str]]:
    sums: dict[Any, Counter[str]] = defaultdict(Counter)
    for row in found:
        word = STATES.get(row["state"], "处理中")
        sums[key(row)].update({"笔数": row["payments"], f"{word}笔数": row["payments"], f"{word}金额": row["fen"]})
    return sums


def compare(table: list[list[str]], keys: int, wanted: dict[Any, Counter[str]]) -> None:
    """Each line's counts and amounts, and no line too many."""
    head, lines = table[0], table[1:]
    assert {tuple(line[:keys]) for line in lines} == set(wanted)
    assert len(lines) == len(wanted)
    for line in lines:
        cells = dict(zip(head, line, strict=True))
        truth = wanted[tuple(line[:keys])]
        for word in MONEY:
            assert int(cells[f"{word}笔数"]) == truth[f"{word}笔数"], (line, word)
            assert fen(cells[f"{word}金额"]) == truth[f"{word}金额"], (line, word)
        assert int(cells["笔数"]) == truth["笔数"] and int(cells["拒绝笔数"]) == truth["拒绝笔数"]


def escaped(text: str) -> str:
    """As a file has it: nothing that a spreadsheet would run."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def a_few_days(seed: int, count: int = 260) -> Shop:
    """Random payments of two days, half of them within a second of a cut-over."""
    shop = Shop(seed, TERMINALS)
    cuts = (at_ms("2026-11-23 23:00"), at_ms("2026-11-24 23:00"))
    for _ in range(count // 2):
        shop.pay(cuts[0] + shop.dice.randrange(24 * 3_600_000))
        shop.pay(shop.dice.choice(cuts) + shop.dice.choice([-1000, -1, 0, 1, 1000]))
    return shop


RANGE = "from=2026-11-23&until=2026-11-25"
KEYS: dict[str, Callable[[Any], tuple[str, ...]]] = {
    "site": lambda row: (escaped(SITE_OF[row["terminal_id"]]),),
    "kiosk": lambda row: (escaped(CODES[row["terminal_id"]]), escaped(SITE_OF[row["terminal_id"]])),
    "business": lambda row: ("预存" if row["prepaid"] else "缴费",),
}


@pytest.mark.parametrize("seed", [3, 5])
def test_daily_totals_are_the_switchs_to_the_fen(hall: Site, seed: int) -> None:
    load(hall, a_few_days(seed))
    truth = hall.sql(TRUTH)
    assert {row["state"] for row in truth} >= {*STATES, "BILL_PENDING", "REVERSAL_PENDING"}, "every kind of state"
    assert {row["prepaid"] for row in truth} == {True, False}
    visitor = hall.sign_in(Role.FINANCE)

    def table(name: str, by: str) -> list[list[str]]:
        answer = visitor.get(f"/reports/daily?{RANGE}&by={by}&format=csv&table={name}")
        assert answer.status_code == 200
        return rows(answer.content)

    def day(row: Any) -> str:
        return f"{row['day'][:4]}-{row['day'][4:6]}-{row['day'][6:]}"

    for by, key in KEYS.items():
        compare(table("groups", by), len(key(truth[0])), expected(truth, key))
        compare(table("days_groups", by), 1 + len(key(truth[0])), expected(truth, lambda row: (day(row), *key(row))))  # noqa: B023
    compare(table("days", "site"), 1, expected(truth, lambda row: (day(row),)))

    # The workbook, by another program's reader: amounts are numbers, totals formulas that say the same.
    content = visitor.get(f"/reports/daily?{RANGE}&by=kiosk&format=xlsx").content
    shown = openpyxl.load_workbook(io.BytesIO(content), data_only=True)
    formulas = openpyxl.load_workbook(io.BytesIO(content))
    assert shown.sheetnames == ["按终端", "按清算日", "按清算日明细", "说明"]
    whole = expected(truth, lambda row: ())[()]
    for name in shown.sheetnames[:3]:
        lines = [list(line) for line in shown[name].iter_rows(values_only=True)]
        total = dict(zip(lines[0], lines[-1], strict=True))
        for word in MONEY:
            assert round(total[f"{word}金额"] * 100) == whole[f"{word}金额"], word
            at = lines[0].index(f"{word}金额")
            assert sum(round(line[at] * 100) for line in lines[1:-1]) == whole[f"{word}金额"]
            letter = openpyxl.utils.get_column_letter(at + 1)
            assert formulas[name].cell(len(lines), at + 1).value == f"=SUM({letter}2:{letter}{len(lines) - 1})"
        assert total["笔数"] == whole["笔数"] == sum(row["payments"] for row in truth)
    codes = [line[0] for line in shown["按终端"].iter_rows(min_row=2, values_only=True)]
    assert "123456789012345678" in codes and all(isinstance(code, str) for code in codes)


def test_completed_money_is_what_the_ledger_owes_the_utility(hall: Site) -> None:
    """The double-entry ledger knows nothing of reports: m_payable is what was posted, u_receivable what was charged."""
    load(hall, a_few_days(3))
    (booked,) = hall.sql(
        "SELECT sum(credit - debit) FILTER (WHERE account = 'm_payable')::bigint AS posted,"
        " sum(debit - credit) FILTER (WHERE account = 'u_receivable')::bigint AS charged,"
        " sum(credit - debit) FILTER (WHERE account = 'customer_suspense')::bigint AS suspense"
        " FROM switch.ledger_balance"
    )
    # Months of payments that are not completed may be posted already.
    (part,) = hall.sql(
        "SELECT coalesce(sum(posting.amount), 0)::bigint AS fen"
        " FROM switch.posting JOIN switch.payment USING (payment_id)"
        " WHERE posting.state = 'posted' AND payment.state <> 'COMPLETED'"
    )
    answer = hall.sign_in(Role.FINANCE).get(f"/reports/daily?{RANGE}&by=business&format=csv")
    completed = sum(fen(line[3]) for line in rows(answer.content)[1:])

    assert rows(answer.content)[0][3] == "成交金额"
    assert completed == booked["posted"] - part["fen"] > 0
    assert booked["charged"] == booked["posted"] + booked["suspense"]


def test_a_second_before_the_cut_over_is_today_and_a_second_after_it_tomorrow_in_every_report(hall: Site) -> None:
    shop = Shop(5, TERMINALS[:1])
    moments = {
        "2026-11-30 22:59:59": (101, "2026-11-30"),
        "2026-11-30 22:59:59.999": (203, "2026-11-30"),
        "2026-11-30 23:00:00": (407, "2026-12-01"),
        "2026-11-30 23:00:01": (809, "2026-12-01"),
    }
    for moment, (amount, _) in moments.items():
        shop.pay(at_ms(moment), amount=amount, good=1.0)
    load(hall, shop)
    visitor = hall.sign_in(Role.AUDITOR)

    def table(url: str) -> list[dict[str, str]]:
        answer = visitor.get(url)
        assert answer.status_code == 200, answer.text
        head, *lines = rows(answer.content)
        return [dict(zip(head, line, strict=True)) for line in lines]

    for day in ("2026-11-30", "2026-12-01"):
        fens = sorted(amount for amount, settled in moments.values() if settled == day)
        only = f"from={day}&until={day}&format=csv"
        (line,) = table(f"/reports/daily?{only}")
        assert (fen(line["成交金额"]), line["笔数"]) == (sum(fens), "2")
        assert {row["笔数"] for row in table(f"/reports/latency?{only}&table=legs")} == {"2"}
        assert "共 2 笔缴费" in visitor.get(f"/reports/failures?from={day}&until={day}").text
        # The switch says so itself.
        (truth,) = hall.sql(
            "SELECT sum(amount)::bigint AS fen FROM switch.payment WHERE body ->> 'settlement_day' = $1",
            day.replace("-", ""),
        )
        assert truth["fen"] == sum(fens)
        (line,) = table(f"/reports/month?month={day[:7]}&format=csv&table=money")
        assert fen(line["成交金额"]) == sum(fens), "the month of its settlement day"
    # When people come is a matter of the calendar: all four came on the evening of 30 November.
    curve = {row["时段"]: row["当日"] for row in table("/reports/curve?day=2026-11-30&format=csv")}
    assert {slot: count for slot, count in curve.items() if count != "0"} == {"22:45": "2", "23:00": "2"}
    assert visitor.get("/reports/curve?day=2026-12-01&format=csv").status_code == 200
    peaks = table("/reports/peaks?from=2026-11-30&until=2026-11-30&format=csv")
    assert {(row["星期"], row["时段"]): row["笔数"] for row in peaks if row["笔数"] != "0"} == {
        ("周一", "22:00"): "2",
        ("周一", "23:00"): "2",
    }


def test_the_months_money_is_the_switchs_by_day_and_by_what_the_settlement_files_say(hall: Site) -> None:
    load(hall, a_few_days(4))
    # Another part of the service compares with the files; here it is done by hand.
    hall.sql("UPDATE payment_fact SET recon = 'agreed' WHERE amount % 3 = 0")
    truth = hall.sql(
        "SELECT body ->> 'settlement_day' AS day, terminal_id, state::text AS state, amount % 3 = 0 AS agreed,"
        " count(*) AS payments, sum(amount)::bigint AS fen FROM switch.payment GROUP BY 1, 2, 3, 4"
    )
    visitor = hall.sign_in(Role.AUDITOR)

    def table(name: str) -> list[list[str]]:
        return rows(visitor.get(f"/reports/month?month=2026-11&format=csv&table={name}").content)

    def recon(row: Any) -> str:
        return "agreed" if row["agreed"] else "未对账"

    compare(table("money"), 1, expected(truth, lambda row: (recon(row),)))
    compare(
        table("money_days_recon"),
        2,
        expected(truth, lambda row: (date.fromisoformat(row["day"]).isoformat(), recon(row))),
    )
    december = visitor.get("/reports/month?month=2026-12&format=csv&table=money")
    assert len(rows(december.content)) == 1 + len({row["day"] for row in truth if row["day"] > "20261130"})


def test_a_report_narrowed_to_an_organisation_a_kiosk_or_a_business_has_their_money_alone(hall: Site) -> None:
    load(hall, a_few_days(6, 120))
    truth = hall.sql(TRUTH)
    visitor = hall.sign_in(Role.FINANCE)
    chosen = {
        "org=gz": lambda row: SITE_OF[row["terminal_id"]] == "天河营业厅",
        "org=sz": lambda row: row["terminal_id"] in ("GS000003", "GS000004"),
        "org=root": lambda row: True,
        "kiosk=K000003": lambda row: row["terminal_id"] == "GS000003",
        "kiosk=k000003&org=gz": lambda row: False,
        "kiosk=nowhere": lambda row: False,
        "business=prepayment": lambda row: row["prepaid"],
        "org=sz&business=payment": lambda row: row["terminal_id"] in ("GS000003", "GS000004") and not row["prepaid"],
    }
    for query, picks in chosen.items():
        answer = visitor.get(f"/reports/daily?{RANGE}&{query}&by=kiosk&format=csv")
        compare(rows(answer.content), 2, expected(filter(picks, truth), KEYS["kiosk"]))


def test_what_becomes_of_a_payment_later_changes_the_report_of_its_day(hall: Site) -> None:
    """Nothing is summed beforehand: a payment that ends days later is another in the report of the day it began."""
    shop = Shop(7, TERMINALS[:2])
    for minute in range(40):
        shop.pay(at_ms("2026-11-24 10:00") + minute * 60_000, good=0.9)
    early, late = (
        [entry for entry in shop.entries if entry.ver <= 2],
        [entry for entry in shop.entries if entry.ver > 2],
    )
    visitor = hall.sign_in(Role.FINANCE)
    for part in (early, late):
        shop.entries = part
        load(hall, shop)
        answer = visitor.get("/reports/daily?from=2026-11-24&until=2026-11-24&by=kiosk&format=csv")
        truth = hall.sql(TRUTH)
        compare(rows(answer.content), 2, expected(truth, KEYS["kiosk"]))
    assert late and {row["state"] for row in truth} >= {"COMPLETED"}
