"""The saga "charge the card, then post the bill" as data: state x input [guard] -> next, actions.

The running machine (``machines/payment.py``) interprets these rows and nothing else decides; a model check and the
documentation's diagram are made from the same rows. Row numbers are those of the design (rows 1 to 21 and the
corrections C1 to C21). For one (state, input) the first row whose guard holds is taken. A row with ``durable`` commits
an event before its actions run; only rows that change nothing may do without.

What the kiosk is told is no column here: it is a function of the durable state (``Payment.answer``), so a repeat, a
result inquiry and a restart all give the same word.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from switch.model.payment import State


class Input(StrEnum):
    START = "start"
    CARD_APPROVED = "card_approved"  # 0210, MAC good, codes 00 and "success with a defect"
    CARD_DECLINED = "card_declined"
    CARD_AMBIGUOUS = "card_ambiguous"  # a code that proves nothing, an unknown code, a decline without MAC
    CARD_PARTIAL = "card_partial"  # code 10: charged, but not what we asked
    CARD_BAD_MAC = "card_bad_mac"
    CARD_SILENT = "card_silent"  # no 0210 in time, or the link was lost after the frame was handed over
    CARD_UNSENT = "card_unsent"  # proved: not one byte of the purchase left
    BILL_POSTED = "bill_posted"
    BILL_REJECTED = "bill_rejected"  # definite and sticky for this serial
    BILL_UNCLEAR = "bill_unclear"  # silence, lost link, a code that proves nothing
    BILL_ABSENT = "bill_absent"  # a status inquiry found nothing: no proof [M7]
    BILL_DEADLINE = "bill_deadline"
    KIOSK_DEADLINE = "kiosk_deadline"
    CANCEL_DONE = "cancel_done"  # undone, or a tombstone keeps it from ever being posted
    CANCEL_POSTED = "cancel_posted"  # the fence found it posted
    CANCEL_FINAL = "cancel_final"  # refused for good: the posting stays
    CANCEL_UNCLEAR = "cancel_unclear"
    REVERSAL_DONE = "reversal_done"  # 0410, MAC good, code 00
    REVERSAL_NOT_FOUND = "reversal_not_found"  # 25, 12, 22, 01
    REVERSAL_UNCLEAR = "reversal_unclear"  # any other code, bad MAC, silence
    RETRY_DUE = "retry_due"
    CUT_OVER = "cut_over"  # the card network's settlement day has moved
    RECOVER = "recover"  # the worker that drove this payment is gone; we have it now


@dataclass(frozen=True, slots=True)
class Row:
    number: str
    state: State
    given: Input
    next: State
    actions: tuple[str, ...] = ()
    guard: str | None = None
    durable: bool = True
    why: str = ""


UNDO: Final = ("tell", "send_reversal")
FENCE: Final = ("tell", "send_cancel")
S, I = State, Input  # noqa: E741 - the table reads better with one letter

ROWS: Final[tuple[Row, ...]] = (
    # ---- the card
    Row("1", S.NEW, I.START, S.CARD_PENDING, ("claim", "send_purchase"), why="durable before the purchase leaves [M1]"),
    Row("2", S.CARD_PENDING, I.CARD_APPROVED, S.BILL_PENDING, ("book_charge", "send_post")),
    Row("3", S.CARD_PENDING, I.CARD_DECLINED, S.DECLINED, ("tell",)),
    Row("4", S.CARD_PENDING, I.CARD_AMBIGUOUS, S.REVERSAL_PENDING, ("reason_06", *UNDO)),
    Row("4p", S.CARD_PENDING, I.CARD_PARTIAL, S.REVERSAL_PENDING, ("reason_06", "book_charge", *UNDO)),
    Row(
        "5",
        S.CARD_PENDING,
        I.CARD_BAD_MAC,
        S.REVERSAL_PENDING,
        ("reason_a0", "book_if_approved", "tell", "sign_on_again", "send_reversal"),
    ),
    Row("6", S.CARD_PENDING, I.CARD_SILENT, S.REVERSAL_PENDING, ("reason_98", *UNDO)),
    Row("6r", S.CARD_PENDING, I.RECOVER, S.REVERSAL_PENDING, ("reason_98", "send_reversal"), why="never resend [M6]"),
    Row("7", S.CARD_PENDING, I.CARD_UNSENT, S.DECLINED, ("not_sent", "tell")),
    Row("11c", S.CARD_PENDING, I.KIOSK_DEADLINE, S.CARD_PENDING, ("tell",), durable=False),
    # ---- the bill
    Row("8n", S.BILL_PENDING, I.BILL_POSTED, S.BILL_PENDING, ("book_posting", "send_post"), guard="more_to_post"),
    Row("8", S.BILL_PENDING, I.BILL_POSTED, S.COMPLETED, ("book_posting", "tell")),
    Row("9", S.BILL_PENDING, I.BILL_REJECTED, S.BILL_CANCELLING, ("reject", *FENCE), why="[M7, M12]"),
    Row("10", S.BILL_PENDING, I.BILL_UNCLEAR, S.BILL_PENDING, ("wait",), durable=False),
    Row("10i", S.BILL_PENDING, I.RETRY_DUE, S.BILL_PENDING, ("send_status",)),
    Row("10r", S.BILL_PENDING, I.BILL_ABSENT, S.BILL_PENDING, ("send_post",), guard="deduplicates", why="same serial"),
    Row("10x", S.BILL_PENDING, I.BILL_ABSENT, S.BILL_CANCELLING, ("send_cancel",), why="C6"),
    Row("10v", S.BILL_PENDING, I.RECOVER, S.BILL_PENDING, ("send_status",)),
    Row("11", S.BILL_PENDING, I.KIOSK_DEADLINE, S.BILL_PENDING, ("told_pending", "tell")),
    Row("12", S.BILL_PENDING, I.BILL_DEADLINE, S.BILL_CANCELLING, FENCE, guard="may_give_up"),
    Row("12f", S.BILL_PENDING, I.BILL_DEADLINE, S.BILL_PENDING, ("forget_bill_deadline",), durable=False, why="C7"),
    Row("10c", S.BILL_PENDING, I.CUT_OVER, S.BILL_PENDING, ("forward_only",), durable=False, why="C7"),
    Row("13n", S.BILL_CANCELLING, I.CANCEL_DONE, S.BILL_CANCELLING, ("unbook", "send_cancel"), guard="more_to_cancel"),
    Row("13", S.BILL_CANCELLING, I.CANCEL_DONE, S.REVERSAL_PENDING, ("unbook", "reason_06", *UNDO)),
    Row("14", S.BILL_CANCELLING, I.CANCEL_POSTED, S.COMPLETED, ("book_fenced", "tell"), guard="all_posted"),
    Row("14n", S.BILL_CANCELLING, I.CANCEL_POSTED, S.BILL_CANCELLING, ("book_fenced", "send_cancel"), why="C9"),
    Row("14s", S.BILL_CANCELLING, I.CANCEL_FINAL, S.SUSPENSE, ("case", "tell"), why="C9: part posted"),
    Row("13w", S.BILL_CANCELLING, I.CANCEL_UNCLEAR, S.BILL_CANCELLING, ("wait",), durable=False),
    Row("13i", S.BILL_CANCELLING, I.RETRY_DUE, S.BILL_CANCELLING, ("send_cancel",)),
    Row("13v", S.BILL_CANCELLING, I.RECOVER, S.BILL_CANCELLING, ("send_cancel",)),
    Row("13c", S.BILL_CANCELLING, I.CUT_OVER, S.SUSPENSE, ("case", "tell"), why="no reversal on another day"),
    Row("13k", S.BILL_CANCELLING, I.KIOSK_DEADLINE, S.BILL_CANCELLING, ("tell",), durable=False),
    # ---- the reversal
    Row("15", S.REVERSAL_PENDING, I.REVERSAL_DONE, S.REVERSED, ("unbook_charge", "tell"), guard="reversal_proved"),
    Row("15w", S.REVERSAL_PENDING, I.REVERSAL_DONE, S.REVERSAL_PENDING, ("wait",), durable=False, why="C2"),
    Row("16s", S.REVERSAL_PENDING, I.REVERSAL_NOT_FOUND, S.SUSPENSE, ("case", "tell"), guard="approval_held", why="C3"),
    Row(
        "16",
        S.REVERSAL_PENDING,
        I.REVERSAL_NOT_FOUND,
        S.REVERSED,
        ("absent", "tell"),
        guard="absence_proved",
        why="[M2, M3]",
    ),
    Row("16u", S.REVERSAL_PENDING, I.REVERSAL_NOT_FOUND, S.UNPROVEN, ("tell",), guard="absence_unproven", why="C3"),
    Row("17n", S.REVERSAL_PENDING, I.REVERSAL_NOT_FOUND, S.REVERSAL_PENDING, ("wait",), durable=False),
    Row("17", S.REVERSAL_PENDING, I.REVERSAL_UNCLEAR, S.REVERSAL_PENDING, ("wait",), durable=False, why="[M4, M5]"),
    Row("17i", S.REVERSAL_PENDING, I.RETRY_DUE, S.REVERSAL_PENDING, ("send_reversal",)),
    Row("17v", S.REVERSAL_PENDING, I.RECOVER, S.REVERSAL_PENDING, ("send_reversal",)),
    Row("17k", S.REVERSAL_PENDING, I.KIOSK_DEADLINE, S.REVERSAL_PENDING, ("tell",), durable=False),
    Row("18", S.REVERSAL_PENDING, I.CUT_OVER, S.SUSPENSE, ("case", "tell"), why="[M14]"),
    # ---- late answers of the card network: a decision is irrevocable [M8], but an approval is remembered
    Row("6l", S.REVERSAL_PENDING, I.CARD_APPROVED, S.REVERSAL_PENDING, ("book_charge", "note_late")),
    Row("6p", S.REVERSAL_PENDING, I.CARD_PARTIAL, S.REVERSAL_PENDING, ("book_charge", "note_late")),
    Row("6m", S.REVERSAL_PENDING, I.CARD_BAD_MAC, S.REVERSAL_PENDING, ("book_if_approved", "note_late")),
    Row("6d", S.REVERSAL_PENDING, I.CARD_DECLINED, S.REVERSAL_PENDING, ("note_late",), durable=False),
    Row("6a", S.REVERSAL_PENDING, I.CARD_AMBIGUOUS, S.REVERSAL_PENDING, ("note_late",), durable=False),
    Row("16l", S.UNPROVEN, I.CARD_APPROVED, S.SUSPENSE, ("book_charge", "case", "note_late"), why="C3"),
    Row("16q", S.UNPROVEN, I.CARD_PARTIAL, S.SUSPENSE, ("book_charge", "case", "note_late"), why="C3"),
    Row(
        "16m",
        S.UNPROVEN,
        I.CARD_BAD_MAC,
        S.SUSPENSE,
        ("book_charge", "case", "note_late"),
        guard="says_charged",
        why="C3: the keys may have rolled over",
    ),
    Row("16n", S.UNPROVEN, I.CARD_BAD_MAC, S.UNPROVEN, ("note_late",), durable=False),
)

# An answer that comes again, or after the end, changes nothing. An approval after a decline, or after "not found" was
# taken for the truth, is an alarm: it proves that the quiet period is too short, or the host wrong.
ANSWERS: Final = frozenset(Input) - {I.START, I.RETRY_DUE, I.RECOVER}
CARD_ANSWERS: Final = frozenset({I.CARD_APPROVED, I.CARD_DECLINED, I.CARD_AMBIGUOUS, I.CARD_PARTIAL, I.CARD_BAD_MAC})
APPROVALS: Final = frozenset({I.CARD_APPROVED, I.CARD_PARTIAL})

INDEX: Final[dict[tuple[State, Input], tuple[Row, ...]]] = {}
for _row in ROWS:
    INDEX[_row.state, _row.given] = (*INDEX.get((_row.state, _row.given), ()), _row)

assert len({row.number for row in ROWS}) == len(ROWS), "row numbers are unique: the journal names them"
for _rows in INDEX.values():
    assert all(row.guard for row in _rows[:-1]) and _rows[-1].guard is None, "every (state, input) ends without a guard"
