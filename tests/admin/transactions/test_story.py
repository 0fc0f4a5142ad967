"""Every row of the saga's table has its sentence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from admin.transactions.story import SENTENCES, tell
from admin.transactions.words import DECISIONS, OPEN_DECISIONS, STATES, TONES
from switch import contract
from switch.machines.payment_table import ROWS, TABLE, Input
from switch.model.payment import State


def test_every_row_of_the_table_has_a_sentence_and_no_sentence_is_for_nothing() -> None:
    assert set(SENTENCES) == {row.number for row in ROWS}


def test_what_a_sentence_ends_with_is_what_the_row_does() -> None:
    ends = {
        State.COMPLETED: "交易完成",
        State.DECLINED: "交易结束",
        State.REVERSED: "交易结束",
        State.REFUNDED: "交易结束",
        State.SUSPENSE: "转人工处理",
    }
    for row in ROWS:
        text = SENTENCES[row.number][1]
        if row.next is not row.state and row.next in ends:
            assert text.endswith(ends[row.next]), f"row {row.number}: {text}"
        elif row.next is State.REVERSAL_PENDING and row.next is not row.state:
            assert text.endswith("开始冲正"), f"row {row.number}: {text}"
        else:
            assert not text.endswith(tuple(ends.values())), f"row {row.number}: {text}"


def test_every_state_and_decision_of_the_contract_has_its_word() -> None:
    assert set(STATES) == set(TONES) == set(contract.STATES)
    assert set(DECISIONS) == set(contract.CASE_DECISIONS)
    for state, decisions in OPEN_DECISIONS.items():
        assert set(decisions) == {
            each for each in contract.CASE_DECISIONS if (State(state), Input(f"settled_{each}")) in TABLE
        }


def test_steps_have_the_time_between_them_and_the_messages_that_left() -> None:
    start = datetime(2026, 11, 24, 4, 0, tzinfo=UTC)
    events = [
        {"ver": 1, "state": "CARD_PENDING", "row": "1", "at": start, "changes": {"account": "1"}},
        {
            "ver": 2,
            "state": "BILL_PENDING",
            "row": "2",
            "at": start + timedelta(milliseconds=420),
            "changes": {"response_code": "00", "rrn": "123456789012"},
        },
        {"ver": 3, "state": "COMPLETED", "row": "99", "at": start + timedelta(seconds=2), "changes": {}},
    ]
    message = {"ver": 2, "link": "marketing", "title": "post", "lines": []}
    first, second, third = tell(events, [message])
    assert (first.after_ms, second.after_ms, third.after_ms) == (None, 420, 1580)
    assert second.facts == {"response_code": "00", "rrn": "123456789012"} and first.facts == {}
    assert (first.messages, second.messages) == ([], [message])
    assert third.text == "支付前置的新步骤", "a newer switch is no reason to show nothing"
