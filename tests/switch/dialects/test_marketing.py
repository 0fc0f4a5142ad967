"""marketing_json: what an answer proves, and that nothing unchecked gets past."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch.dialects import marketing
from switch.dialects.marketing import MarketingDialect
from switch.errors import BadRequestError
from switch.machines.payment_table import Input
from switch.model.ebill import EBill, Meter, Step
from switch.model.payment import Posting

DIALECT = MarketingDialect("SELF01")
POSTING = Posting("R1", "202601", 900, 100, 1000, "7701")
ROW = {
    "receivable": "R1",
    "period": "202601",
    "principal": 900,
    "penalty": 100,
    "amount": 1000,
    "energy_kwh": 12,
    "tier": 1,
}


def answer(**fields: Any) -> Any:
    return DIALECT.read(orjson.dumps({"id": 1, "code": "00", "text": "", **fields}))


POSTED = {"serial": "7701", "account": "A1", "period": "202601", "amount": 1000}


def test_a_posting_is_confirmed_only_for_this_serial_account_period_and_amount() -> None:
    assert DIALECT.posted(answer(**POSTED), POSTING, "A1") is Input.BILL_POSTED
    for other in ({"serial": "7702"}, {"account": "A2"}, {"period": "202602"}, {"amount": 999}):
        assert DIALECT.posted(answer(**(POSTED | other)), POSTING, "A1") is Input.BILL_UNCLEAR


@pytest.mark.parametrize(
    ("code", "given_"),
    [("73", Input.BILL_REJECTED), ("06", Input.BILL_REJECTED), ("51", Input.BILL_UNCLEAR), ("zz", Input.BILL_UNCLEAR)],
)
def test_only_listed_refusals_are_definite(code: str, given_: Input) -> None:
    assert DIALECT.posted(answer(code=code), POSTING, "A1") is given_


def test_a_refusal_may_be_about_an_earlier_posting_only_with_a_code_that_says_what_is_owed() -> None:
    for code, sends, doubtful in (
        ("06", 2, True),
        ("73", 2, True),
        ("06", 1, False),
        ("29", 2, False),
        ("50", 2, False),
    ):
        posting = Posting("R1", "202601", 900, 100, 1000, "7701", sends=sends)
        assert DIALECT.is_doubtful(answer(code=code), posting) is doubtful, (code, sends)


def test_a_code_that_is_not_listed_is_ambiguous() -> None:
    for operation in ("post", "cancel"):
        assert DIALECT.outcome(operation, "00") != "ambiguous"
        assert DIALECT.outcome(operation, "zz") == "ambiguous"


@pytest.mark.parametrize(
    ("state", "given_"),
    [
        ("posted", Input.BILL_POSTED),
        ("cancelled", Input.BILL_REJECTED),
        ("rejected", Input.BILL_REJECTED),
        ("unknown", Input.BILL_ABSENT),
        ("surprise", Input.BILL_UNCLEAR),
    ],
)
def test_a_status_says_what_became_of_a_serial(state: str, given_: Input) -> None:
    assert DIALECT.stated(answer(serial="7701", state=state), POSTING) is given_
    assert DIALECT.stated(answer(serial="9999", state=state), POSTING) is Input.BILL_UNCLEAR
    assert DIALECT.stated(answer(code="99"), POSTING) is Input.BILL_UNCLEAR


def test_a_cancel_is_done_refused_or_unclear() -> None:
    assert DIALECT.cancelled(answer(serial="7701"), POSTING) is Input.CANCEL_DONE
    assert DIALECT.cancelled(answer(serial="other"), POSTING) is Input.CANCEL_UNCLEAR
    assert DIALECT.cancelled(answer(code="14"), POSTING) is Input.CANCEL_POSTED
    assert DIALECT.cancelled(answer(code="15"), POSTING) is Input.CANCEL_ABSENT
    assert DIALECT.cancelled(answer(code="16"), POSTING) is Input.CANCEL_FINAL
    assert DIALECT.cancelled(answer(code="50"), POSTING) is Input.CANCEL_UNCLEAR
    assert DIALECT.cancelled(answer(code="14"), POSTING, undo=True) is Input.CANCEL_FINAL, "posted, as we knew"


INQUIRY: dict[str, Any] = {
    "account": "A1",
    "name": "张三",
    "address": "某路1号",
    "day": "20261123",
    "total": 1000,
    "advance_balance": 0,
    "partial_allowed": True,
    "rows": [ROW],
}


def test_rows_come_oldest_first() -> None:
    newer = ROW | {"receivable": "R0", "period": "202602"}
    good = answer(**(INQUIRY | {"rows": [newer, ROW]}))
    DIALECT.check("inquiry", good)
    assert [row.period for row in DIALECT.rows(good)] == ["202601", "202602"]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"rows": [ROW | {"amount": 10.5}]}, r"inquiry\.rows\[0\]\.amount"),
        ({"rows": [ROW | {"amount": -1}]}, r"rows\[0\]\.amount"),
        ({"rows": [ROW | {"amount": True}]}, r"rows\[0\]\.amount"),
        ({"rows": [ROW | {"period": "20261"}]}, r"rows\[0\]\.period"),
        ({"rows": ["x"]}, r"rows\[0\]"),
        ({"rows": [ROW] * 25}, r"inquiry\.rows"),
        ({"day": 20261123}, r"inquiry\.day"),
        ({"partial_allowed": 1}, r"partial_allowed"),
        ({"name": "x" * 33}, r"inquiry\.name"),
        ({"account": None}, r"inquiry\.account"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(BadRequestError, match=named):
        DIALECT.check("inquiry", answer(**(INQUIRY | changed)))


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (b'{"id":', "not JSON: .* at byte 6"),
        (b"[]", "^expected a JSON object "),
        (b'{"code":"00"}', "^expected an integer `id` and a text `code` "),
        (b'{"id":1,"code":0}', "^expected an integer `id` and a text `code` "),
        (b'{"id":true,"code":"00"}', "^expected an integer"),  # equal to 1, and not the id of request 1
    ],
)
def test_what_is_no_answer_is_refused_with_what_was_expected(frame: bytes, said: str) -> None:
    with pytest.raises(BadRequestError, match=said):
        DIALECT.read(frame)


def test_the_text_of_an_answer_is_optional() -> None:
    assert answer(text="said").text == "said"
    assert answer(text=7).text == ""
    assert DIALECT.read(b'{"id":1,"code":"00"}').text == ""


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": 7}, "inquiry.name: expected text"),
        ({"name": "x" * 33}, "inquiry.name: longer than 32 characters"),
        ({"name": "x\0"}, "inquiry.name: NUL, which no text of the journal can hold"),
        ({"day": "2026112"}, "inquiry.day: expected 8 digits"),
        ({"day": "202611230"}, "inquiry.day: expected 8 digits"),
        # The first ones are at their bounds, which are allowed.
        ({"name": "x" * 32, "day": ""}, "inquiry.day: expected 8 digits"),
        (
            {"rows": [*[ROW] * 23, ROW | {"tier": -1}]},
            "inquiry.rows[23].tier: expected a whole number of count, 0 to 10^12",
        ),
        ({"day": "2026112x"}, "inquiry.day: expected 8 digits"),
        ({"day": "２０２６１１２３"}, "inquiry.day: expected 8 digits"),
        ({"total": 10**12}, "inquiry.total: expected a whole number of fen, 0 to 10^12"),
        ({"total": -1}, "inquiry.total: expected a whole number of fen, 0 to 10^12"),
        ({"total": True}, "inquiry.total: expected a whole number of fen, 0 to 10^12"),
        ({"total": "1"}, "inquiry.total: expected a whole number of fen, 0 to 10^12"),
        ({"partial_allowed": "yes"}, "inquiry.partial_allowed: expected true or false"),
        ({"rows": {}}, "inquiry.rows: expected a list of at most 24"),
        ({"rows": [ROW] * 25}, "inquiry.rows: expected a list of at most 24"),
        ({"rows": [ROW, 7]}, "inquiry.rows[1]: expected an object"),
        ({"rows": [ROW, ROW | {"tier": -1}]}, "inquiry.rows[1].tier: expected a whole number of count, 0 to 10^12"),
        ({"rows": [{}]}, "inquiry.rows[0].receivable: missing"),
    ],
)
def test_a_wrong_field_is_said_in_full(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        MarketingDialect("SELF01").check("inquiry", answer(**(INQUIRY | changed)))
    assert (caught.value.code, caught.value.detail) == ("bad_record", said)


@pytest.mark.parametrize(
    "changed",
    [{}, {"name": "x" * 32}, {"name": ""}, {"total": 0}, {"total": 10**12 - 1}, {"rows": [ROW] * 24}, {"rows": []}],
)
def test_a_right_answer_is_known_at_once(changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """At the bounds too; only what is wrong is looked at field by field."""
    monkeypatch.setattr(marketing, "_check", lambda *arguments: pytest.fail("looked at field by field"))
    MarketingDialect("SELF01").check("inquiry", answer(**(INQUIRY | changed)))


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "code", "x"]), inner, max_size=3)
        ),
    ).map(lambda value: orjson.dumps(value, option=orjson.OPT_PASSTHROUGH_SUBCLASS) if _fits(value) else b"")
)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        found = DIALECT.read(data)
    except BadRequestError as error:
        assert error.code == "unreadable"
    else:
        assert isinstance(found.request_id, int) and isinstance(found.code, str)


def _fits(value: object) -> bool:
    """orjson refuses integers beyond 64 bits and lone surrogates."""
    try:
        orjson.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


E_BILL = {
    "account": "A1",
    "period": "202601",
    "read_on": "20260125",
    "energy_kwh": 300,
    "principal": 17_867,
    "penalty": 100,
    "amount": 17_967,
    "paid": 0,
    "paid_at": "",
    "meters": [{"meter": "7", "reading_before": "100.5", "reading": "400.5", "energy_kwh": 300}],
    "steps": [{"tier": 1, "energy_kwh": 300, "price": "0.5889", "amount": 17_867}],
}


def test_an_e_bill_is_told_as_it_came() -> None:
    bill = DIALECT.e_bill_of(answer(**E_BILL), "A1", "202601")
    assert isinstance(bill, EBill) and not bill.cut
    assert (bill.read_on, bill.energy_kwh, bill.amount, bill.paid, bill.paid_at) == ("20260125", 300, 17_967, 0, "")
    assert bill.meters == (Meter("7", "100.5", "400.5", 300),) and bill.steps == (Step(1, 300, "0.5889", 17_867),)
    many = E_BILL | {"meters": E_BILL["meters"] * 5}  # type: ignore[operator]
    bill = DIALECT.e_bill_of(answer(**many), "A1", "202601")
    assert isinstance(bill, EBill) and bill.cut and len(bill.meters) == 4
    assert DIALECT.e_bill_of(answer(code="06"), "A1", "202601") == "no_bill"
    assert DIALECT.e_bill_of(answer(code="99"), "A1", "202601") == "bill_unavailable"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"account": "A2"}, "another account or month"),
        ({"period": "202602"}, "another account or month"),
        ({"paid_at": "2026"}, r"e_bill\.paid_at: expected YYYYMMDDhhmmss"),
        ({"read_on": "2026012"}, r"e_bill\.read_on: expected 8 digits"),
        ({"amount": -1}, r"e_bill\.amount"),
        ({"meters": [{"meter": "7", "reading_before": "-1", "reading": "2", "energy_kwh": 3}]}, "a decimal number"),
        ({"steps": [{"tier": 1, "energy_kwh": 3, "price": "1e3", "amount": 3}]}, "a decimal number"),
        ({"steps": [{"tier": 1, "energy_kwh": 3, "price": "1"}]}, r"e_bill\.steps\[0\]\.amount: missing"),
    ],
)
def test_an_e_bill_that_is_not_as_the_spec_says_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRequestError, match=said):
        DIALECT.e_bill_of(answer(**(E_BILL | changes)), "A1", "202601")
