"""What each step hands to the runtime, to the letter: the journal, the kiosk and the lanes live on these words."""

from __future__ import annotations

from copy import copy

import pytest

from switch.errors import OutOfOrderError
from switch.limits import RETRY_JITTER, SHORT
from switch.machines.payment import Facts, HostProfile, Payment
from switch.machines.payment_table import Input
from switch.model.effect import Note, Record, SendPurchase, SendReversal, SignOnAgain, Tell
from switch.model.payment import PostingState, State, StoredPayment

from .test_payment import APPROVED, KNOWN, charged, give, in_doubt, payment, state

POSTED = ["R1", "202601", 900, 100, 1000, "7701"]


def record_of(machine: Payment, given: Input, now: float, facts: Facts | None = None) -> Record:
    record = give(machine, given, now, facts)[0]
    assert isinstance(record, Record)
    return record


def test_the_first_record_claims_and_keeps_the_whole_opening() -> None:
    machine = payment()
    opening = machine.opening_body()
    assert give(machine, Input.START, 100.0) == [
        Record(State.CARD_PENDING, "1", opening, claim=True),
        SendPurchase(),
    ]
    assert opening["postings"] == [[*POSTED, "waiting"]]


def test_an_approval_books_the_charge_and_keeps_what_the_issuer_said() -> None:
    machine = payment()
    give(machine, Input.START, 100.0)
    facts = copy(APPROVED)
    facts.authorization_code, facts.flagged, facts.reason = "A12345", True, "late"
    assert record_of(machine, Input.CARD_APPROVED, 100.1, facts) == Record(
        State.BILL_PENDING,
        "2",
        {
            "approved_seen": True,
            "postings": [[*POSTED, "sent"]],
            "reason": "late",
            "response_code": "00",
            "rrn": "112233445566",
            "settlement_date": "1123",
            "authorization_code": "A12345",
            "flagged": True,
        },
        [("u_receivable", 1000, 0), ("customer_suspense", 0, 1000)],
    )
    assert machine.flagged is True


def test_a_posted_bill_moves_from_suspense_to_the_utility_and_releases_everything() -> None:
    machine = charged()
    assert record_of(machine, Input.BILL_POSTED, 100.2) == Record(
        State.COMPLETED,
        "8",
        {"postings": [[*POSTED, "posted"]]},
        [("customer_suspense", 1000, 0), ("m_payable", 0, 1000)],
        release_bills=True,
        release_open=True,
    )


def test_a_refusal_says_with_which_code_and_the_way_back_is_booked_backwards() -> None:
    machine = charged()
    assert record_of(machine, Input.BILL_REJECTED, 100.2, Facts(response_code="29")) == Record(
        State.BILL_CANCELLING, "9", {"postings": [[*POSTED, "rejected"]], "bill_code": "29"}
    )
    assert record_of(machine, Input.CANCEL_DONE, 100.3) == Record(
        State.REVERSAL_PENDING,
        "13",
        {"postings": [[*POSTED, "cancelled"]], "reversal_reason": "06"},
        release_bills=True,
    )
    assert record_of(machine, Input.REVERSAL_DONE, 100.4) == Record(
        State.REVERSED,
        "15",
        {},
        [("customer_suspense", 1000, 0), ("u_receivable", 0, 1000)],
        release_bills=True,
        release_open=True,
    )


def test_a_decision_and_its_bookings_are_in_one_record() -> None:
    machine = charged()
    give(machine, Input.BILL_DAY_OVER, 100.2)
    assert machine.case == "C77" and state(machine) is State.SUSPENSE
    settled = record_of(machine, Input.SETTLED_PAID, 200.0, Facts(decision={"by": ["a", "b"]}))
    assert settled == Record(
        State.COMPLETED,
        "20p",
        {"postings": [[*POSTED, "posted"]], "decision": {"by": ["a", "b"]}},
        [("customer_suspense", 1000, 0), ("m_payable", 0, 1000)],
        release_bills=True,
        release_open=True,
    )


def test_a_case_opened_without_an_approval_books_charge_and_posting_when_it_was_paid() -> None:
    """Both pairs of lines are in the record: the second must not replace the first."""
    machine = in_doubt(cut_over_at=200.0)
    case = record_of(machine, Input.CUT_OVER, 200.0)
    assert (case.row, case.changes) == ("18", {"case": "C77"})
    settled = record_of(machine, Input.SETTLED_PAID, 300.0)
    assert settled.ledger == [
        ("u_receivable", 1000, 0),
        ("customer_suspense", 0, 1000),
        ("customer_suspense", 1000, 0),
        ("m_payable", 0, 1000),
    ]


def test_a_case_with_posted_months_is_undone_to_the_fen() -> None:
    machine = charged(2)
    give(machine, Input.BILL_POSTED, 100.2)
    give(machine, Input.BILL_DAY_OVER, 100.3)
    settled = record_of(machine, Input.SETTLED_NOTHING, 300.0)
    assert settled.ledger == [
        ("m_payable", 1000, 0),
        ("customer_suspense", 0, 1000),
        ("customer_suspense", 2000, 0),
        ("u_receivable", 0, 2000),
    ]


def test_a_purchase_that_never_left_says_so() -> None:
    machine = payment()
    machine.step(Input.START, Facts(), 100.0)
    assert machine.step(Input.CARD_UNSENT, Facts(), 100.0)[0] == Record(
        State.DECLINED, "7", {"reason": "not_sent"}, release_bills=True, release_open=True
    )
    assert machine.card is None, "card data goes with the end"


@pytest.mark.parametrize(
    ("given", "facts", "row", "reason"),
    [
        (Input.CARD_SILENT, Facts(), "6", "98"),
        (Input.CARD_AMBIGUOUS, Facts(), "4", "06"),
        (Input.KIOSK_REVERSAL, Facts(), "6k", "06"),
    ],
)
def test_the_reason_of_a_reversal_is_durable_before_it_leaves(
    given: Input, facts: Facts, row: str, reason: str
) -> None:
    machine = payment()
    give(machine, Input.START, 100.0)
    assert give(machine, given, 102.0, facts) == [
        Record(State.REVERSAL_PENDING, row, {"reversal_reason": reason}, release_bills=True),
        Tell(),
        SendReversal(reason),
    ]


def test_a_wrong_mac_makes_the_terminal_sign_on_before_the_reversal_leaves() -> None:
    machine = payment()
    give(machine, Input.START, 100.0)
    effects = give(machine, Input.CARD_BAD_MAC, 100.5, Facts(response_code="00", approved=True))
    record = effects[0]
    assert isinstance(record, Record)
    assert record.changes == {"reversal_reason": "A0", "approved_seen": True, "response_code": "00"}
    assert effects[1:] == [Tell(), SignOnAgain(), SendReversal("A0")]
    assert machine.approved_at == 100.5, "answers to reversals count from here"


def test_not_found_where_it_proves_is_remembered_as_absence() -> None:
    machine = in_doubt()
    give(machine, Input.RETRY_DUE, 105.2)
    assert record_of(machine, Input.REVERSAL_NOT_FOUND, 105.3) == Record(
        State.REVERSED, "16", {"absent": True}, release_bills=True, release_open=True
    )


def test_being_booked_is_durable_before_the_kiosk_hears_it() -> None:
    machine = charged()
    assert give(machine, Input.KIOSK_DEADLINE, 106.0) == [
        Record(State.BILL_PENDING, "11", {"told_pending": True}),
        Tell(),
    ]


# ---------------------------------------------------------------------------------------------- waits
def test_reversals_back_off_as_the_profile_says_and_the_last_wait_repeats() -> None:
    machine = in_doubt()
    share = 1 + RETRY_JITTER * (77 * 0x9E3779B1 % 2**32) / 2**32
    assert 1.0 < share < 1 + RETRY_JITTER
    now, waits = 102.0, []
    for _ in range(7):
        give(machine, Input.REVERSAL_UNCLEAR, now)
        assert machine.leg_input is Input.RETRY_DUE
        waits.append(machine.deadline - now)
        now = machine.deadline
        give(machine, Input.RETRY_DUE, now)
    assert waits == pytest.approx([share * wait for wait in (0.0, 0.5, 1.0, 2.0, 5.0, 5.0, 5.0)])


def test_bills_have_a_back_off_of_their_own_and_it_starts_anew_in_a_new_state() -> None:
    machine = charged()
    share = 1 + RETRY_JITTER * (77 * 0x9E3779B1 % 2**32) / 2**32
    now = 100.2
    for wait in SHORT.bill_backoff_s[:3]:
        give(machine, Input.BILL_UNCLEAR, now)
        assert machine.deadline == pytest.approx(now + share * wait)
        now = machine.deadline
        give(machine, Input.RETRY_DUE, now)
    give(machine, Input.BILL_REJECTED, now)
    give(machine, Input.CANCEL_UNCLEAR, now)
    assert machine.deadline == pytest.approx(now + share * SHORT.bill_backoff_s[0])


def test_payments_that_failed_together_do_not_come_back_together() -> None:
    waits = set()
    for number in range(1, 65):
        machine = in_doubt()
        machine.payment_id = number
        give(machine, Input.REVERSAL_UNCLEAR, 102.0)
        give(machine, Input.REVERSAL_UNCLEAR, 102.0)
        waits.add(round(machine.leg_deadline, 3))
    assert len(waits) > 48 and max(waits) - min(waits) > 0.8 * RETRY_JITTER * SHORT.reversal_backoff_s[1]


def test_what_is_due_is_given_once() -> None:
    machine = payment()
    give(machine, Input.START, 100.0)
    assert machine.due(106.5) is Input.CARD_SILENT
    assert machine.leg_deadline == float("inf")
    due = machine.due(106.5)
    assert due in (None, Input.KIOSK_DEADLINE)
    if due:
        assert machine.kiosk_deadline == float("inf")
    assert machine.due(106.5) is None and machine.deadline == machine._cut_over_deadline


def test_a_new_state_waits_for_nothing_of_the_old_one() -> None:
    machine = payment()
    give(machine, Input.START, 100.0)
    machine.step(Input.CARD_SILENT, Facts(), 102.0)
    assert machine.leg_deadline == float("inf")


# ---------------------------------------------------------------------------------------------- the edges of a proof
def test_00_in_the_last_late_period_of_the_day_is_no_proof() -> None:
    """The host's clock is not ours: near the cut-over its answer may be of another day."""
    careful = HostProfile()
    for before, end in ((SHORT.late_s + 0.1, State.REVERSED), (SHORT.late_s - 0.1, State.REVERSAL_PENDING)):
        machine = payment(profile=careful, cut_over_at=300.0)
        give(machine, Input.START, 100.0)
        give(machine, Input.CARD_APPROVED, 100.1, copy(APPROVED))
        give(machine, Input.BILL_REJECTED, 100.2)
        give(machine, Input.CANCEL_DONE, 100.3)
        give(machine, Input.REVERSAL_DONE, 300.0 - before)
        assert state(machine) is end


def test_an_undo_is_doubted_only_where_no_tombstone_is_kept_and_a_posting_was_sent_twice() -> None:
    for fence, sends, doubted in (
        ("cancel_if_posted", 2, True),
        ("cancel_if_posted", 1, False),
        ("tombstone", 2, False),
    ):
        machine = charged(profile=HostProfile(fence=fence))  # type: ignore[arg-type]
        machine.postings[0].sends = sends
        give(machine, Input.BILL_REJECTED, 100.2)
        assert machine._if_undo_in_doubt(Facts(), 100.3) is doubted, (fence, sends)
    machine.postings[0].state = PostingState.CANCELLED
    assert machine._if_undo_in_doubt(Facts(), 100.3) is False


def test_a_refusal_is_forgotten_when_the_posting_is_booked_after_all() -> None:
    machine = charged(2, profile=HostProfile(fence="none"))
    machine.postings[0].sends = 2
    give(machine, Input.BILL_REJECTED, 100.2)
    assert machine.refused is True
    give(machine, Input.BILL_POSTED, 100.4)
    assert machine.refused is False, "the next month starts with a clean sheet"


# ---------------------------------------------------------------------------------------------- what is not listed
def test_an_input_that_no_row_lists_says_which_and_where() -> None:
    with pytest.raises(OutOfOrderError, match=r"^Payment: no row for input .*retry_due.* in state .*NEW"):
        payment().step(Input.RETRY_DUE, Facts(), 100.0)


@pytest.mark.parametrize(
    ("given", "approved", "kind"),
    [
        (Input.CARD_APPROVED, False, "late_after_final"),
        (Input.CARD_BAD_MAC, True, "late_after_final"),
        (Input.CARD_BAD_MAC, False, "duplicate"),
        (Input.CARD_DECLINED, False, "duplicate"),
    ],
)
def test_an_answer_after_a_decline_is_an_alarm_only_if_it_says_charged(given: Input, approved: bool, kind: str) -> None:
    machine = payment()
    give(machine, Input.START, 100.0)
    give(machine, Input.CARD_DECLINED, 100.1, Facts(response_code="51"))
    assert give(machine, given, 100.2, Facts(approved=approved)) == [Note(kind)]


# ---------------------------------------------------------------------------------------------- read back
def test_everything_that_is_kept_is_read_back_and_quiet_periods_start_now() -> None:
    said = {
        "approved_seen": True,
        "flagged": True,
        "absent": True,
        "told_pending": True,
        "response_code": "00",
        "rrn": "112233445566",
        "settlement_date": "1123",
        "authorization_code": "A12345",
        "reversal_reason": "98",
        "case": "C77",
    }
    body = payment().opening_body() | said
    stored = StoredPayment(77, 20261123, 4, State.REVERSAL_PENDING, body, link=b"hash")
    again = Payment.from_stored(stored, times=SHORT, profile=KNOWN, now=500.0, cut_over_at=900.0, day_close_at=800.0)
    assert {name: getattr(again, name) for name in said} == said
    assert (again.link, again.ver, again.state) == (b"hash", 4, State.REVERSAL_PENDING)
    assert (again.cut_over_at, again.day_close_at) == (900.0, 800.0)
    assert again.started_at == again.purchase_written_at == again.post_written_at == again.approved_at == 500.0
    assert again.reversed_blind is True, "nobody knows whether a reversal left before the approval"


def test_what_was_never_said_is_read_back_as_nothing() -> None:
    stored = StoredPayment(77, 20261123, 1, State.CARD_PENDING, payment().opening_body())
    again = Payment.from_stored(stored, times=SHORT, profile=KNOWN, now=500.0, cut_over_at=900.0)
    assert (again.approved_seen, again.flagged, again.absent, again.told_pending) == (False,) * 4
    assert (again.response_code, again.rrn, again.settlement_date, again.authorization_code) == ("",) * 4
    assert (again.reversal_reason, again.case, again.reversed_blind) == ("", "", False)
    assert again.approved_at == again.day_close_at == float("inf")


def test_two_posted_months_are_both_taken_back_in_one_record() -> None:
    machine = charged(3)
    give(machine, Input.BILL_POSTED, 100.2)
    give(machine, Input.BILL_POSTED, 100.3)
    give(machine, Input.BILL_DAY_OVER, 100.4)
    settled = record_of(machine, Input.SETTLED_NOTHING, 300.0)
    assert [line[1] for line in settled.ledger if line[0] == "m_payable"] == [1000, 1000]
    assert sum(debit - credit for _, debit, credit in settled.ledger) == 0


@pytest.mark.parametrize(("approved", "end"), [(True, State.SUSPENSE), (False, State.UNPROVEN)])
def test_a_wrong_mac_after_unproven_is_a_case_only_if_it_says_charged(approved: bool, end: State) -> None:
    machine = in_doubt(HostProfile())
    give(machine, Input.RETRY_DUE, 105.2)
    give(machine, Input.REVERSAL_NOT_FOUND, 105.3)
    assert state(machine) is State.UNPROVEN
    give(machine, Input.CARD_BAD_MAC, 106.0, Facts(approved=approved))
    assert state(machine) is end


def test_a_charge_of_a_day_that_is_over_goes_forward_and_never_back() -> None:
    machine = charged(cut_over_at=105.0)
    assert machine.due(105.0) is Input.CUT_OVER
    give(machine, Input.CUT_OVER, 105.0)
    assert machine.forward_only is True and machine.bill_deadline == float("inf")
    assert machine.due(105.0) is not Input.CUT_OVER, "it knows already"
