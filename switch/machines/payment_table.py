"""The saga "charge the card, then post the bill" as data: state x input [guard] -> next, actions.

The running machine (``machines/payment.py``) interprets these rows and nothing else decides; ``gridswitch
verify-model`` explores that very machine, and the documentation's diagram is made from the same rows. Row numbers are
those of the design (rows 1 to 21 and the corrections C1 to C21). For one (state, input) the first row whose guard holds
is taken. A row with ``durable`` commits an event before its actions run; only rows that change nothing may do without.

What the kiosk is told is no column here: it is a function of the durable state (``Payment.answer``), so a repeat, a
result inquiry and a restart all give the same word.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from switch.model.payment import State


class Input(StrEnum):
    __hash__ = str.__hash__  # as of ``State``

    START = "start"
    CARD_APPROVED = "card_approved"  # 0210, MAC good, codes 00 and "success with a defect"
    CARD_DECLINED = "card_declined"
    CARD_AMBIGUOUS = "card_ambiguous"  # a code that proves nothing, an unknown code, a decline without MAC
    CARD_PARTIAL = "card_partial"  # code 10: charged, but not what we asked
    CARD_BAD_MAC = "card_bad_mac"
    CARD_SILENT = "card_silent"  # no 0210 in time, or the link was lost after the frame was handed over
    CARD_UNSENT = "card_unsent"  # proved: not one byte of the purchase left
    CHIP_ACCEPTED = "chip_accepted"  # the card's chip made a TC: the charge stands
    CHIP_REFUSED = "chip_refused"  # it made an AAC, though the issuer had approved
    CHIP_SILENT = "chip_silent"  # no word of it in time
    BILL_POSTED = "bill_posted"
    BILL_REJECTED = "bill_rejected"  # definite and sticky for this serial
    BILL_UNCLEAR = "bill_unclear"  # silence, lost link, a code that proves nothing
    BILL_ABSENT = "bill_absent"  # a status inquiry found nothing: no proof [M7]
    BILL_DEADLINE = "bill_deadline"
    BILL_DAY_OVER = "bill_day_over"  # the marketing system's accounting day has closed
    KIOSK_DEADLINE = "kiosk_deadline"
    KIOSK_REVERSAL = "kiosk_reversal"  # the kiosk asks to take it back
    CANCEL_DONE = "cancel_done"  # undone, or a tombstone keeps it from ever being posted
    CANCEL_ABSENT = "cancel_absent"  # nothing to undo, and nothing keeps it from being posted later
    CANCEL_POSTED = "cancel_posted"  # the fence found it posted
    CANCEL_FINAL = "cancel_final"  # refused for good: the posting stays
    CANCEL_UNCLEAR = "cancel_unclear"
    REVERSAL_DONE = "reversal_done"  # 0410, MAC good, code 00
    REVERSAL_NOT_FOUND = "reversal_not_found"  # 25, 12, 22, 01
    REVERSAL_UNCLEAR = "reversal_unclear"  # any other code, bad MAC, silence
    RETRY_DUE = "retry_due"
    CUT_OVER = "cut_over"  # the card network's settlement day has moved
    RECOVER = "recover"  # the worker that drove this payment is gone; we have it now
    # What both settlement files say, or two people with evidence (C8). The sides agree by then: whatever was missing
    # has been posted, undone or refunded before.
    SETTLED_PAID = "settled_paid"  # charged and posted
    SETTLED_NOTHING = "settled_nothing"  # neither
    SETTLED_REFUNDED = "settled_refunded"  # was charged, was given back, nothing is posted
    SETTLED_CHARGED = "settled_charged"  # the file has a charge where the host had said "not found"


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


# What the guards of the rows ask; the questions are answered in ``machines/payment.py``.
GUARDS: Final[dict[str, str]] = {
    "chip_decides": "the card was read by its chip, and the acquirer wants that to have the last word (profile)",
    "more_to_post": "a further month waits",
    "more_to_cancel": "a further month is posted, or may be",
    "all_posted": "with the month just found posted, all are",
    "part_posted": "one of the months is posted",
    "may_repost": "the marketing system posts a serial at most once (profile), and has not refused this one",
    "can_ask": "it can be asked what became of a posting (profile)",
    "can_fence": "it has a cancel (profile)",
    "keeps_tombstones": "its cancel forbids a posting for good (profile)",
    "may_cancel": "it has a cancel, and the kiosk was not told that it is being booked, or a posting was refused",
    "may_give_up": "the same, and the time for posting ends before either side's day does",
    "post_is_dead": "the latest posting left so long ago that it can no longer be acted on",
    "refusal_in_doubt": "the code may be about an earlier posting of this month, and the marketing system can be asked",
    "post_in_doubt": "this month was posted more than once: the refusal is an answer to one of them, and not to an "
    "inquiry that left after none of them could still be acted on",
    "refused_for_good": "there is no cancel and no month is posted, a posting of this month was refused, and it was "
    "asked for after no other one could still be acted on",
    "absent_for_good": "the answered inquiry left after no posting could still be acted on",
    "undo_in_doubt": "no tombstone, the month was posted more than once, and the answered cancel left too early",
    "absent_in_doubt": "the answered cancel left while a posting could still be acted on",
    "reversal_proved": "the host answers 00 only if it found the purchase; or its day had not changed, and 00 can be "
    "about nothing else: an approval was seen before the first reversal, or the quiet and late periods are over",
    "approval_held": "we saw an approval, and the answered reversal left after it",
    "absence_proved": "the host's word proves (profile), no approval was seen, the latest reversal left after the "
    "quiet period, the answer came after the late period, and the host's day had not changed",
    "absence_unproven": "the same periods are over, but the host's word is no proof",
    "approval_is_new": "no approval was seen before",
    "says_charged": "the answer says that the card is charged, although its MAC is wrong",
}

UNDO: Final = ("tell", "send_reversal")
FENCE: Final = ("tell", "send_cancel")
S, I = State, Input  # noqa: E741 - the table reads better with one letter

ROWS: Final[tuple[Row, ...]] = (
    # ---- the card
    Row("1", S.NEW, I.START, S.CARD_PENDING, ("claim", "send_purchase"), why="durable before the purchase leaves [M1]"),
    Row(
        "2c",
        S.CARD_PENDING,
        I.CARD_APPROVED,
        S.CARD_CONFIRMING,
        ("book_charge", "wait_for_chip", "tell"),
        guard="chip_decides",
        why="C14",
    ),
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
    Row("6k", S.CARD_PENDING, I.KIOSK_REVERSAL, S.REVERSAL_PENDING, ("reason_06", *UNDO), why="C13"),
    # ---- the chip
    Row("2t", S.CARD_CONFIRMING, I.CHIP_ACCEPTED, S.BILL_PENDING, ("more_patience", "send_post"), why="C14: TC"),
    Row("4a", S.CARD_CONFIRMING, I.CHIP_REFUSED, S.REVERSAL_PENDING, ("reason_06", *UNDO), why="C14: AAC"),
    Row("6c", S.CARD_CONFIRMING, I.CHIP_SILENT, S.REVERSAL_PENDING, ("reason_96", *UNDO), why="C14"),
    Row("6v", S.CARD_CONFIRMING, I.RECOVER, S.REVERSAL_PENDING, ("reason_96", "send_reversal"), why="as 6c"),
    Row("6j", S.CARD_CONFIRMING, I.KIOSK_REVERSAL, S.REVERSAL_PENDING, ("reason_06", *UNDO), why="C13"),
    # ---- the bill
    Row("8n", S.BILL_PENDING, I.BILL_POSTED, S.BILL_PENDING, ("book_posting", "send_post"), guard="more_to_post"),
    Row("8", S.BILL_PENDING, I.BILL_POSTED, S.COMPLETED, ("book_posting", "tell")),
    Row(
        "9q",
        S.BILL_PENDING,
        I.BILL_REJECTED,
        S.BILL_PENDING,
        ("keep_refusal", "wait"),
        guard="refusal_in_doubt",
        durable=False,
        why="C5: ask first",
    ),
    Row(
        "9", S.BILL_PENDING, I.BILL_REJECTED, S.BILL_CANCELLING, ("reject", *FENCE), guard="can_fence", why="[M7, M12]"
    ),
    Row("9s", S.BILL_PENDING, I.BILL_REJECTED, S.SUSPENSE, ("reject", "case", "tell"), guard="part_posted", why="C9"),
    Row(
        "9w", S.BILL_PENDING, I.BILL_REJECTED, S.BILL_PENDING, ("keep_refusal", "wait"), "post_in_doubt", durable=False
    ),
    Row("9n", S.BILL_PENDING, I.BILL_REJECTED, S.REVERSAL_PENDING, ("reject", "reason_06", *UNDO), why="no cancel"),
    Row("10", S.BILL_PENDING, I.BILL_UNCLEAR, S.BILL_PENDING, ("wait",), durable=False),
    Row("10i", S.BILL_PENDING, I.RETRY_DUE, S.BILL_PENDING, ("send_status",), guard="can_ask"),
    Row("10p", S.BILL_PENDING, I.RETRY_DUE, S.BILL_PENDING, ("send_post",), guard="may_repost", why="same serial"),
    Row("10y", S.BILL_PENDING, I.RETRY_DUE, S.BILL_CANCELLING, FENCE, guard="may_cancel", why="C6"),
    Row("10q", S.BILL_PENDING, I.RETRY_DUE, S.SUSPENSE, ("case", "tell"), guard="post_is_dead", why="C6"),
    Row("10z", S.BILL_PENDING, I.RETRY_DUE, S.BILL_PENDING, ("wait",), durable=False),
    Row("10e", S.BILL_PENDING, I.BILL_ABSENT, S.REVERSAL_PENDING, ("reject", "reason_06", *UNDO), "refused_for_good"),
    Row("10r", S.BILL_PENDING, I.BILL_ABSENT, S.BILL_PENDING, ("send_post",), guard="may_repost", why="same serial"),
    Row("10x", S.BILL_PENDING, I.BILL_ABSENT, S.BILL_CANCELLING, FENCE, guard="may_cancel", why="C6"),
    Row("10s", S.BILL_PENDING, I.BILL_ABSENT, S.SUSPENSE, ("case", "tell"), guard="absent_for_good", why="C6, C7"),
    Row("10o", S.BILL_PENDING, I.BILL_ABSENT, S.BILL_PENDING, ("wait",), durable=False, why="C7: never on silence"),
    Row("10v", S.BILL_PENDING, I.RECOVER, S.BILL_PENDING, ("send_status",), guard="can_ask"),
    Row("10w", S.BILL_PENDING, I.RECOVER, S.BILL_PENDING, ("send_post",), guard="may_repost", why="same serial"),
    Row("10u", S.BILL_PENDING, I.RECOVER, S.BILL_PENDING, ("wait",)),
    Row("11", S.BILL_PENDING, I.KIOSK_DEADLINE, S.BILL_PENDING, ("told_pending", "tell")),
    Row("12", S.BILL_PENDING, I.BILL_DEADLINE, S.BILL_CANCELLING, FENCE, guard="may_give_up"),
    Row("12f", S.BILL_PENDING, I.BILL_DEADLINE, S.BILL_PENDING, ("forget_bill_deadline",), durable=False, why="C7"),
    Row("12m", S.BILL_PENDING, I.BILL_DAY_OVER, S.SUSPENSE, ("case", "tell"), why="C7: by hand, or tomorrow"),
    Row("10c", S.BILL_PENDING, I.CUT_OVER, S.BILL_PENDING, ("forward_only",), durable=False, why="C7"),
    Row("12k", S.BILL_PENDING, I.KIOSK_REVERSAL, S.BILL_CANCELLING, FENCE, guard="may_cancel", why="C13"),
    Row("11k", S.BILL_PENDING, I.KIOSK_REVERSAL, S.BILL_PENDING, ("tell",), durable=False, why="C13"),
    Row("13u", S.BILL_CANCELLING, I.CANCEL_DONE, S.BILL_CANCELLING, ("wait",), guard="undo_in_doubt", durable=False),
    Row("13n", S.BILL_CANCELLING, I.CANCEL_DONE, S.BILL_CANCELLING, ("unbook", "send_cancel"), guard="more_to_cancel"),
    Row("13", S.BILL_CANCELLING, I.CANCEL_DONE, S.REVERSAL_PENDING, ("unbook", "reason_06", *UNDO)),
    Row(
        "13a", S.BILL_CANCELLING, I.CANCEL_ABSENT, S.BILL_CANCELLING, ("wait",), guard="absent_in_doubt", durable=False
    ),
    Row(
        "13b", S.BILL_CANCELLING, I.CANCEL_ABSENT, S.BILL_CANCELLING, ("unbook", "send_cancel"), guard="more_to_cancel"
    ),
    Row("13e", S.BILL_CANCELLING, I.CANCEL_ABSENT, S.REVERSAL_PENDING, ("unbook", "reason_06", *UNDO), why="C5"),
    Row("14", S.BILL_CANCELLING, I.CANCEL_POSTED, S.COMPLETED, ("book_fenced", "tell"), guard="all_posted"),
    Row("14n", S.BILL_CANCELLING, I.CANCEL_POSTED, S.BILL_CANCELLING, ("book_fenced", "send_cancel"), why="C9"),
    Row("14s", S.BILL_CANCELLING, I.CANCEL_FINAL, S.SUSPENSE, ("case", "tell"), why="C9: part posted"),
    Row("13w", S.BILL_CANCELLING, I.CANCEL_UNCLEAR, S.BILL_CANCELLING, ("wait",), durable=False),
    Row("13i", S.BILL_CANCELLING, I.RETRY_DUE, S.BILL_CANCELLING, ("send_cancel",)),
    Row("13v", S.BILL_CANCELLING, I.RECOVER, S.BILL_CANCELLING, ("send_cancel",)),
    Row("13c", S.BILL_CANCELLING, I.CUT_OVER, S.SUSPENSE, ("case", "tell"), why="no reversal on another day"),
    Row(
        "13t",
        S.BILL_CANCELLING,
        I.BILL_DAY_OVER,
        S.BILL_CANCELLING,
        ("forget_day_close",),
        guard="keeps_tombstones",
        durable=False,
    ),
    Row("13m", S.BILL_CANCELLING, I.BILL_DAY_OVER, S.SUSPENSE, ("case", "tell"), why="C5: the fence is not proved"),
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
    # ---- what waits for a person or a file: evidence is kept, nothing is decided by it
    Row("18l", S.SUSPENSE, I.CARD_APPROVED, S.SUSPENSE, ("book_charge", "note_late"), guard="approval_is_new"),
    Row("18d", S.SUSPENSE, I.CARD_APPROVED, S.SUSPENSE, ("note_late",), durable=False),
    Row("18p", S.SUSPENSE, I.CARD_PARTIAL, S.SUSPENSE, ("book_charge", "note_late"), guard="approval_is_new"),
    Row("18q", S.SUSPENSE, I.CARD_PARTIAL, S.SUSPENSE, ("note_late",), durable=False),
    Row("18r", S.SUSPENSE, I.REVERSAL_DONE, S.SUSPENSE, ("keep_reversed", "note_late"), why="for the case"),
    # ---- decided: by both files, or by two people (C8)
    Row("19", S.SUSPENSE, I.SETTLED_NOTHING, S.REVERSED, ("settle_nothing", "tell")),
    Row("20", S.SUSPENSE, I.SETTLED_REFUNDED, S.REFUNDED, ("settle_nothing", "tell")),
    Row("20p", S.SUSPENSE, I.SETTLED_PAID, S.COMPLETED, ("settle_paid", "tell")),
    Row("19u", S.UNPROVEN, I.SETTLED_NOTHING, S.REVERSED, ("tell",)),
    Row("20u", S.UNPROVEN, I.SETTLED_CHARGED, S.SUSPENSE, ("book_charge", "case", "tell"), why="severity 1: refund"),
)

# An answer that comes again, or after the end, changes nothing. An approval after a decline, or after "not found" was
# taken for the truth, is an alarm: it proves that the quiet period is too short, or the host wrong.
SETTLEMENTS: Final = frozenset({I.SETTLED_PAID, I.SETTLED_NOTHING, I.SETTLED_REFUNDED, I.SETTLED_CHARGED})
KIOSK_WORDS: Final = frozenset({I.KIOSK_REVERSAL, I.CHIP_ACCEPTED, I.CHIP_REFUSED})  # it waits for an answer to them
ANSWERS: Final = frozenset(Input) - {I.START, I.RETRY_DUE, I.RECOVER} - KIOSK_WORDS - SETTLEMENTS
CARD_ANSWERS: Final = frozenset({I.CARD_APPROVED, I.CARD_DECLINED, I.CARD_AMBIGUOUS, I.CARD_PARTIAL, I.CARD_BAD_MAC})
APPROVALS: Final = frozenset({I.CARD_APPROVED, I.CARD_PARTIAL})

Table = dict[tuple[State, Input], tuple[Row, ...]]


def index(rows: Iterable[Row]) -> Table:
    """The rows by (state, input), in their order."""
    table: Table = {}
    for row in rows:
        table[row.state, row.given] = (*table.get((row.state, row.given), ()), row)
    return table


TABLE: Final = index(ROWS)

assert len({row.number for row in ROWS}) == len(ROWS), "row numbers are unique: the journal names them"
assert {row.guard for row in ROWS} == {None, *GUARDS}, "every guard is explained"
for _rows in TABLE.values():
    assert all(row.guard for row in _rows[:-1]) and _rows[-1].guard is None, "every (state, input) ends without a guard"
