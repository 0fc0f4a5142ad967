"""marketing_ydlw: what its records prove, and what they do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from switch.dialects.marketing_ydlw import YdlwDialect
from switch.errors import BadRequestError, ConfigError
from switch.machines import days
from switch.machines.payment_table import Input
from switch.model.ebill import Meter, Step
from switch.model.payment import Posting, serial_began_us
from switch.records.fixed import FixedWire
from switch.records.spec import load
from switch.runtime.dispatcher import PaymentIds
from switch.sim.marketing_wire import YdlwWire

NOW_US = 1_780_000_000_123_456


class _Clock:
    def now(self) -> float:
        return 0.0

    def wall_us(self) -> int:
        return NOW_US


PAYMENT_ID = PaymentIds(_Clock(), 5).next()
SERIAL = f"{PAYMENT_ID}01"
POSTING = Posting("0300000009202601", "202601", 900, 100, 1000, SERIAL)
ACCOUNT = "0300000009"
DIALECT = YdlwDialect("SELF01", wall_us=lambda: NOW_US + 5_000_000)
HOST = YdlwWire([load("marketing_ydlw_1_0")])
WIRE = FixedWire(load("marketing_ydlw_1_0"))
BEGAN = days.local(NOW_US)
ROW = {
    "serial": SERIAL,
    "period": "202601",
    "amount": 1000,
    "penalty": 100,
    "energy_kwh": 12,
    "collector": "SELF01",
    "paid_date": f"{BEGAN:%Y%m%d}",
    "paid_time": f"{BEGAN:%H%M%S}",
}
BILL = {"receivable": "0300000009202601", "period": "202601", "principal": 900, "penalty": 100, "amount": 1000}
BILLS = {
    "code": "00",
    "account": ACCOUNT,
    "name": "张三",
    "address": "某路1号",
    "day": "20260529",
    "partial_allowed": True,
    "rows": [BILL],
}


def answered(frame: bytes, answer: dict[str, Any], **changes: Any) -> Any:
    """The simulated host's answer to a request of ours, read."""
    return DIALECT.read(HOST.reply(HOST.read(frame) | changes, answer, "成功"))


def posted(code: str = "00", **changes: Any) -> Any:
    frame = DIALECT.post(7, POSTING, account=ACCOUNT, day="20260529", reference=str(PAYMENT_ID))
    answer = {"code": code, "serial": SERIAL, "account": ACCOUNT, "period": "202601", "amount": 1000, **changes}
    return answered(frame, answer)


def test_a_serial_tells_when_its_payment_began() -> None:
    assert serial_began_us(SERIAL) == NOW_US // 1000 * 1000
    assert serial_began_us("") == serial_began_us("x1") == serial_began_us("٣٣٣") == 0


def test_a_posting_carries_its_row_and_the_payments_own_time() -> None:
    found = HOST.read(DIALECT.post(7, POSTING, account=ACCOUNT, day="", reference=""))
    stamp = {"date": f"{BEGAN:%Y%m%d}", "time": f"{BEGAN:%H%M%S}"}
    assert found["op"] == "post" and found["id"] == "7" and found["channel"] == "SELF01"
    wanted: dict[str, Any] = stamp | {"serial": SERIAL, "account": ACCOUNT, "unit": "030600"}
    wanted |= {"ledger_number": POSTING.receivable}
    wanted |= {"owed": 1000, "principal": 900, "penalty": 100, "amount": 1000, "bank_account": ""}
    assert {key: found[key] for key in wanted} == wanted
    undo = HOST.read(DIALECT.cancel(8, POSTING, undo=True, account=ACCOUNT))
    assert (undo["serial"], undo["original_date"], undo["original_time"]) == (SERIAL, stamp["date"], stamp["time"])
    assert undo["cancel_serial"] != SERIAL


def test_a_posting_is_confirmed_only_for_this_serial_account_period_and_amount() -> None:
    assert DIALECT.posted(posted(), POSTING, ACCOUNT) is Input.BILL_POSTED
    for other in ({"serial": "7702"}, {"account": "0300000017"}, {"period": "202602"}, {"amount": 999}):
        assert DIALECT.posted(posted(**other), POSTING, ACCOUNT) is Input.BILL_UNCLEAR


@pytest.mark.parametrize("code", ["03", "06", "07", "09", "18", "27", "29", "51", "73", "84", "100"])
def test_a_refusal_that_is_listed_is_definite(code: str) -> None:
    assert DIALECT.posted(posted(code), POSTING, ACCOUNT) is Input.BILL_REJECTED


@pytest.mark.parametrize("code", ["0a", "0q", "01", "04", "05", "13", "28", "50", "59", "78", "99", "zz", "0"])
def test_every_other_code_proves_nothing(code: str) -> None:
    assert DIALECT.posted(posted(code), POSTING, ACCOUNT) is Input.BILL_UNCLEAR
    cancelled = answered(DIALECT.cancel(8, POSTING, undo=True, account=ACCOUNT), {"code": code})
    assert DIALECT.cancelled(cancelled, POSTING) is Input.CANCEL_UNCLEAR
    # Disconnected: to a posting it may come with money booked, to an inquiry it comes instead of the bills.
    assert DIALECT.outcome("inquiry", code) == ("disconnected" if code == "28" else "bill_unavailable")


def test_an_answer_to_another_operation_or_in_another_version_proves_nothing() -> None:
    """No such answer is a refusal: the money may have moved."""
    wrong = answered(DIALECT.history(7, ACCOUNT, "202601"), {"code": "00", "account": ACCOUNT, "rows": []} | HISTORY)
    with pytest.raises(BadRequestError, match="the answer is to operation 40"):
        DIALECT.posted(wrong, POSTING, ACCOUNT)
    other = posted()
    other.frame = other.frame[:35] + b"9.9.9" + other.frame[40:]
    with pytest.raises(BadRequestError, match=r"expected version 1\.0\.0"):
        DIALECT.posted(other, POSTING, ACCOUNT)


@pytest.mark.parametrize(
    ("at", "put", "said"),
    [(88, b"0", "expected 1, an answer"), (46, b"x", "expected the digits that we sent"), (46, b" " * 20, "digits")],
)
def test_what_is_no_answer_of_ours_is_unreadable(at: int, put: bytes, said: str) -> None:
    frame = bytearray(posted().frame)
    frame[at : at + len(put)] = put
    with pytest.raises(BadRequestError, match=said):
        DIALECT.read(bytes(frame))


HISTORY: dict[str, Any] = {"customer": "张三", "period": "202601"}


def stated(*rows: dict[str, Any], code: str = "00", account: str = ACCOUNT, period: str = "202601") -> Input:
    frame = DIALECT.status(9, POSTING, account=ACCOUNT)
    answer = {"code": code, "account": account, "customer": "张三", "period": period, "rows": list(rows)}
    return DIALECT.stated(answered(frame, answer), POSTING, ACCOUNT)


def test_a_payment_in_the_history_is_ours_only_by_collector_amount_and_time() -> None:
    assert stated(ROW) is Input.BILL_POSTED
    assert stated(ROW | {"collector": "OTHER"}, ROW) is Input.BILL_POSTED
    before = days.local(NOW_US - 1_000_000)
    for other in (
        {"collector": "OTHER"},
        {"amount": 999},
        # One of ours that was undone, if the utility still lists it.
        {"paid_date": f"{before:%Y%m%d}", "paid_time": f"{before:%H%M%S}"},
    ):
        assert stated(ROW | other) is Input.BILL_ABSENT
    assert stated() is Input.BILL_ABSENT
    assert stated(ROW, ROW) is Input.BILL_UNCLEAR, "posted twice: a person must look"
    assert stated(ROW, period="202602") is Input.BILL_UNCLEAR
    assert stated(ROW, account="0300000017") is Input.BILL_UNCLEAR
    assert stated(code="50") is Input.BILL_UNCLEAR


def test_a_cancel_is_done_only_with_its_flag_and_amount() -> None:
    frame = DIALECT.cancel(8, POSTING, undo=True, account=ACCOUNT)
    good = answered(frame, {"code": "00", "serial": SERIAL})
    assert DIALECT.cancelled(good, POSTING) is Input.CANCEL_DONE
    assert DIALECT.cancelled(answered(frame, {"code": "00", "serial": "1"}), POSTING) is Input.CANCEL_UNCLEAR
    assert DIALECT.cancelled(answered(frame, {"code": "00", "amount": 1}), POSTING) is Input.CANCEL_UNCLEAR
    flag = bytearray(good.frame)
    flag[-1:] = b"0"
    assert DIALECT.cancelled(DIALECT.read(bytes(flag)), POSTING) is Input.CANCEL_UNCLEAR
    assert DIALECT.cancelled(answered(frame, {"code": "14"}), POSTING) is Input.CANCEL_POSTED
    assert DIALECT.cancelled(answered(frame, {"code": "14"}), POSTING, undo=True) is Input.CANCEL_FINAL
    assert DIALECT.cancelled(answered(frame, {"code": "15"}), POSTING) is Input.CANCEL_ABSENT


def bills(*rows: dict[str, Any]) -> Any:
    return answered(DIALECT.inquiry(3, ACCOUNT), BILLS | {"rows": list(rows)})


def test_bills_come_oldest_first_with_what_a_quote_needs() -> None:
    answer = bills(BILL | {"receivable": "0300000009202602", "period": "202602"}, BILL)
    DIALECT.check("inquiry", answer)
    assert [row.period for row in DIALECT.rows(answer)] == ["202601", "202602"]
    data = answer.data
    assert (data["account"], data["name"], data["address"]) == (ACCOUNT, "张三", "某路1号")
    assert (data["day"], data["advance_balance"], data["partial_allowed"]) == ("20260529", 0, True)


def test_rows_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(BadRequestError, match="none; an account without arrears is answered 06"):
        DIALECT.check("inquiry", bills())
    twice = bills(BILL, BILL)
    DIALECT.check("inquiry", twice)
    with pytest.raises(BadRequestError, match="a receivable is named twice"):
        DIALECT.rows(twice)
    two = bills(BILL, BILL | {"receivable": "0300000009202602"})
    row_size = (len(two.frame) - 192) // 2
    account_at = 192 + row_size + 24 + 8 + 6 + 24 + 8 + 6 + 3 + 3 + 8
    two.frame = two.frame[:account_at] + b"0300000017" + two.frame[account_at + 10 :]
    with pytest.raises(BadRequestError, match=r"inquiry\.rows\[1\]\.account: differs from the first row's"):
        DIALECT.check("inquiry", two)


def test_a_bill_of_another_unit_is_posted_to_that_unit() -> None:
    answer = bills(BILL)
    unit_at = 192 + 24 + 8 + 6 + 24 + 8 + 6 + 3 + 3
    answer.frame = answer.frame[:unit_at] + b"030611  " + answer.frame[unit_at + 8 :]
    DIALECT.check("inquiry", answer)
    (row,) = DIALECT.rows(answer)
    assert row.receivable == "030611-0300000009202601"
    posting = Posting(row.receivable, row.period, row.principal, row.penalty, row.amount, SERIAL)
    found = HOST.read(DIALECT.post(7, posting, account=ACCOUNT, day="", reference=""))
    assert (found["unit"], found["ledger_number"]) == ("030611", "0300000009202601")


def test_what_the_records_have_no_room_for_is_said_and_not_cut() -> None:
    with pytest.raises(BadRequestError, match=r"post\.request\.account: 21 bytes; the field takes 20"):
        DIALECT.post(7, POSTING, account="1" * 21, day="", reference="")


def test_prepayment_history_and_totals() -> None:
    deposit = Posting("", "", 1000, 0, 1000, SERIAL)
    frame = DIALECT.post(4, deposit, account=ACCOUNT, day="", reference="")
    found = HOST.read(frame)
    assert (found["op"], found["amount"], found["unit"]) == ("prepay", 1000, "030600")
    for code, given in (("00", Input.BILL_POSTED), ("03", Input.BILL_REJECTED), ("50", Input.BILL_UNCLEAR)):
        assert DIALECT.posted(answered(frame, {"code": code}), deposit, ACCOUNT) is given
    month = HOST.read(DIALECT.status(4, deposit, account=ACCOUNT))["period"]
    assert month == f"{BEGAN:%Y%m}"
    undo = HOST.read(DIALECT.cancel(4, deposit, undo=True, account=ACCOUNT))
    assert (undo["unit"], undo["amount"]) == ("030600", 1000)
    asked = DIALECT.history(5, ACCOUNT, "202601")
    rows = DIALECT.paid_rows(answered(asked, {"code": "00", "account": ACCOUNT, **HISTORY, "rows": [ROW]}), ACCOUNT)
    assert [(row.amount, row.penalty, row.reading) for row in rows] == [(1000, 100, "10012")]
    with pytest.raises(BadRequestError, match="answers 03"):
        DIALECT.paid_rows(answered(asked, {"code": "03"}), ACCOUNT)
    totals = DIALECT.totals(6, "20260529", 3, 4500)
    for count, amount, code, said in ((3, 4500, "00", True), (2, 4500, "00", False), (3, 4501, "00", False)):
        answer = answered(totals, {"code": code, "count": count, "amount": amount})
        assert DIALECT.agreed(answer, 3, 4500) is said
    assert DIALECT.agreed(answered(totals, {"code": "50"}), 3, 4500) is None


def test_a_spec_that_asks_for_what_we_have_not_or_lacks_what_we_need_is_refused_at_the_start(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    head = 'extends = "marketing_ydlw_1_0"\n'
    own.write_text(head + '[record.signed_on]\nfields = [{ name = "other", type = "code", width = 8 }]\n')
    with pytest.raises(ConfigError, match=r"operation\.sign_on\.answer: day: missing; the switch needs it"):
        YdlwDialect("SELF01", str(own), wall_us=lambda: 0)
    own.write_text(head + '[operation.sign_off]\nrequest = { head = "signed_on" }\n')
    with pytest.raises(ConfigError, match="the switch has nothing to put there; give it a value"):
        YdlwDialect("SELF01", str(own), wall_us=lambda: 0)
    with pytest.raises(ConfigError, match="21 characters; this dialect takes 20"):
        YdlwDialect("S" * 21, wall_us=lambda: 0)


def test_a_trace_shows_what_names_a_payment() -> None:
    told = DIALECT.shown.tell(DIALECT.shown.take(posted().frame))
    assert told == {"op": "post", "id": "7", "version": "1.0.0", "code": "00", "serial": SERIAL, "account": ACCOUNT}


def test_an_e_bill_is_made_of_the_months_payments() -> None:
    """Rows of one meter at several prices are steps; what was paid twice is energy that was used once."""
    asked = DIALECT.e_bill(5, ACCOUNT, "202601")
    meter = {"reading_before": "100", "reading": "400", "metering_point": "7", "prepaid": 0, "penalty": 0}
    first = ROW | meter | {"energy_kwh": 260, "price": "0.5889", "amount": 15_311}
    second = ROW | meter | {"energy_kwh": 40, "price": "0.6389", "amount": 2_656, "penalty": 100}
    deposit = ROW | {"energy_kwh": 0, "amount": 5_000, "prepaid": 5_000, "penalty": 0}

    def told(*rows: dict[str, Any], **changes: Any) -> Any:
        answer = {"code": "00", "account": ACCOUNT, **HISTORY, "rows": list(rows)} | changes
        return DIALECT.e_bill_of(answered(asked, answer), ACCOUNT, "202601")

    bill = told(first, second, second, deposit)
    assert (bill.period, bill.energy_kwh, bill.paid) == ("202601", 300, 15_311 + 2 * 2_656)
    assert (bill.principal, bill.penalty, bill.amount) == (15_311 + 2_556, 100, 17_967)
    assert bill.meters == (Meter("7", "100", "400", 300),)
    assert bill.steps == (Step(1, 260, "0.5889", 15_311), Step(2, 40, "0.6389", 2_556))
    assert not bill.cut and bill.paid_at == f"{BEGAN:%Y%m%d%H%M%S}"
    many = [first | {"metering_point": str(n), "price": f"0.{n}"} for n in range(9)]
    bill = told(*many)
    assert bill.cut and (len(bill.meters), len(bill.steps)) == (4, 8) and bill.energy_kwh == 9 * 260
    assert told() == "no_bill" and told(deposit) == "no_bill"
    for code, said in (("03", "unknown_account"), ("06", "no_bill"), ("50", "bill_unavailable")):
        assert DIALECT.e_bill_of(answered(asked, {"code": code}), ACCOUNT, "202601") == said
    for other in ({"account": "0300000017"}, {"period": "202602"}):
        with pytest.raises(BadRequestError, match="another account or month"):
            told(first, **other)
