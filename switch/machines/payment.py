# cython: annotation_typing=False, binding=False
"""One payment: interprets the rows of ``payment_table``. No clock, no dice, no wire, no database.

The runtime's whole job: call ``step``, carry the effects out in order, say ``written`` when a frame was handed to the
kernel, and call ``step`` with whatever ``due`` returns once ``deadline`` has passed. While a ``Record`` commits, other
inputs wait outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

from switch.errors import OutOfOrderError
from switch.limits import RETRY_JITTER, TimeProfile
from switch.machines.payment_table import ANSWERS, APPROVALS, CARD_ANSWERS, KIOSK_WORDS, TABLE, Input, Row, Table
from switch.model.effect import (
    Effect,
    Note,
    Record,
    SendCancel,
    SendPost,
    SendPurchase,
    SendReversal,
    SendStatus,
    SignOnAgain,
    Tell,
)
from switch.model.payment import DRIVEN, FINAL, Card, Posting, PostingState, State, StoredPayment
from switch.model.plain import Plain
from switch.model.secret import ChipData

NEVER: Final = float("inf")

# What a kiosk hears; the texts are data of the kiosk's dialect.
COMPLETED, DECLINED, NOT_CHARGED = "completed", "declined", "not_charged"
IN_PROGRESS, BEING_BOOKED, RESULT_UNKNOWN = "in_progress", "being_booked", "result_unknown"
BEING_RETURNED, RETURNED, UNPROVEN, SUSPENSE = "being_returned", "returned", "unproven", "suspense"
CHIP_DECIDES: Final = "chip_decides"

# Ledger accounts (saga §8, C20)
U_RECEIVABLE, SUSPENSE_ACCOUNT, M_PAYABLE = "u_receivable", "customer_suspense", "m_payable"


@dataclass(frozen=True, slots=True)
class HostProfile:
    """How the two hosts behave, as data per link (saga C1). The defaults are the careful ones."""

    reversal_00_any: bool = True  # True: 00 may also mean "original not found"
    not_found_proves: bool = False  # True: 25 after the quiet period proves that nothing is charged
    deduplicates: bool = True  # the marketing system posts a serial at most once
    # What its cancel does: forbid for good, undo only what is posted already, or there is none.
    fence: Literal["tombstone", "cancel_if_posted", "none"] = "tombstone"
    # How it can be asked for a posting: by our serial, in the account's history, or not at all.
    inquiry: Literal["serial", "history", "none"] = "serial"
    # What ends a payment by chip: the issuer's approval, or only then the chip's own (saga C14).
    emv_completion: Literal["online_only", "wait"] = "online_only"


class Facts(Plain):
    """What came with an input. Empty strings: the answer did not carry it."""

    __slots__ = (
        "approved",
        "authorization_code",
        "decision",
        "doubtful",
        "flagged",
        "icc_data",
        "reason",
        "response_code",
        "rrn",
        "settlement_date",
    )

    def __init__(
        self,
        reason: str = "",
        *,
        response_code: str = "",
        rrn: str = "",
        settlement_date: str = "",
        authorization_code: str = "",
        approved: bool = False,
        flagged: bool = False,
        doubtful: bool = False,
        icc_data: ChipData | None = None,
        decision: dict[str, Any] | None = None,
    ) -> None:
        self.response_code = response_code
        self.rrn = rrn
        self.settlement_date = settlement_date
        self.authorization_code = authorization_code
        self.approved = approved  # the answer says "charged", whether or not its MAC is good
        self.flagged = flagged  # "success with a defect": for reconciliation
        self.doubtful = doubtful  # the refusal of a month that was posted before: perhaps because it is posted
        self.reason = reason  # short stable text for the journal
        self.icc_data = icc_data  # what the issuer tells the chip
        self.decision = decision  # with a settlement input: who decided, on what evidence


# Bound once: to find a member of an Enum costs Python 3.11 as much as a call.
_BILL_CANCELLING: Final = State.BILL_CANCELLING
_BILL_PENDING: Final = State.BILL_PENDING
_CARD_CONFIRMING: Final = State.CARD_CONFIRMING
_CARD_PENDING: Final = State.CARD_PENDING
_COMPLETED: Final = State.COMPLETED
_DECLINED: Final = State.DECLINED
_NEW: Final = State.NEW
_REFUNDED: Final = State.REFUNDED
_REVERSAL_PENDING: Final = State.REVERSAL_PENDING
_REVERSED: Final = State.REVERSED
_SUSPENSE: Final = State.SUSPENSE
_UNPROVEN: Final = State.UNPROVEN
_POSTING_CANCELLED: Final = PostingState.CANCELLED
_POSTING_POSTED: Final = PostingState.POSTED
_POSTING_REJECTED: Final = PostingState.REJECTED
_POSTING_SENT: Final = PostingState.SENT
_POSTING_WAITING: Final = PostingState.WAITING
_IN_BILL_DAY_OVER: Final = Input.BILL_DAY_OVER
_IN_BILL_DEADLINE: Final = Input.BILL_DEADLINE
_IN_BILL_UNCLEAR: Final = Input.BILL_UNCLEAR
_IN_CANCEL_UNCLEAR: Final = Input.CANCEL_UNCLEAR
_IN_CARD_SILENT: Final = Input.CARD_SILENT
_IN_CHIP_SILENT: Final = Input.CHIP_SILENT
_IN_CUT_OVER: Final = Input.CUT_OVER
_IN_KIOSK_DEADLINE: Final = Input.KIOSK_DEADLINE
_IN_RECOVER: Final = Input.RECOVER
_IN_RETRY_DUE: Final = Input.RETRY_DUE
_IN_REVERSAL_UNCLEAR: Final = Input.REVERSAL_UNCLEAR

_TOLD: Final = {
    _CARD_CONFIRMING: CHIP_DECIDES,
    _COMPLETED: COMPLETED,
    _REVERSED: RETURNED,
    _REFUNDED: RETURNED,
    _BILL_CANCELLING: BEING_RETURNED,
    _UNPROVEN: UNPROVEN,
    _SUSPENSE: SUSPENSE,
}
Steps = dict[tuple[State, Input], tuple[tuple[Row, Any, tuple[Any, ...], bool], ...]]
_NOT_READY: Final[tuple[Table, Steps]] = ({}, {})
_READY: Final[dict[type, tuple[Table, Steps]]] = {}  # of each class that took a step: guards and actions looked up
_CONTACT_CHIP: Final = ("05", "95")  # field 22; contactless, the chip is gone when the issuer answers
_NOT_POSTED: Final = (_REVERSAL_PENDING, _UNPROVEN)  # nothing of it is, or will be


class Payment:
    """State and data of one payment; everything but the monotonic times is in the journal."""

    table: ClassVar[Table] = TABLE

    __slots__ = (
        "absent",
        "account",
        "amount",
        "approved_at",
        "approved_seen",
        "attempts",
        "authorization_code",
        "batch_number",
        "bill_deadline",
        "cancel_written_at",
        "card",
        "card_masked",
        "card_token",
        "case",
        "changes",
        "cut_over_at",
        "day_close_at",
        "digest",
        "durable_answer",
        "entry_mode",
        "flagged",
        "forward_only",
        "issuer_data",
        "kiosk_date",
        "kiosk_deadline",
        "kiosk_serial",
        "leg_deadline",
        "leg_input",
        "link",
        "marketing_day",
        "merchant_id",
        "opened_on",
        "original_60",
        "payment_id",
        "post_written_at",
        "postings",
        "profile",
        "purchase_written_at",
        "refused",
        "response_code",
        "reversal_reason",
        "reversal_written_at",
        "reversed_blind",
        "rrn",
        "settlement_date",
        "settlement_day",
        "stan",
        "started_at",
        "state",
        "status_written_at",
        "terminal_id",
        "times",
        "told_pending",
        "ver",
    )

    def __init__(
        self,
        *,
        payment_id: int,
        opened_on: int,
        terminal_id: str,
        merchant_id: str,
        kiosk_date: str,
        kiosk_serial: str,
        digest: str,
        account: str,
        amount: int,
        batch_number: str,
        stan: str,
        settlement_day: int,
        marketing_day: str,
        postings: list[Posting],
        card_token: str,
        card_masked: str,
        entry_mode: str,
        original_60: str,
        times: TimeProfile,
        profile: HostProfile,
        started_at: float,
        cut_over_at: float = NEVER,
        day_close_at: float = NEVER,
        card: Card | None = None,
        state: State = _NEW,
        ver: int = 0,
        link: bytes = b"",
        approved_seen: bool = False,
        flagged: bool = False,
        told_pending: bool = False,
        absent: bool = False,
        response_code: str = "",
        rrn: str = "",
        settlement_date: str = "",
        authorization_code: str = "",
        reversal_reason: str = "",
        case: str = "",
        purchase_written_at: float = NEVER,
        reversed_blind: bool = False,
        post_written_at: float = -1.0,
    ) -> None:
        self.payment_id = payment_id
        self.opened_on = opened_on
        self.terminal_id = terminal_id
        self.merchant_id = merchant_id
        self.kiosk_date = kiosk_date  # MMDD
        self.kiosk_serial = kiosk_serial
        self.digest = digest  # of the request's content: same key, other content is refused
        self.account = account
        self.amount = amount  # fen
        self.batch_number = batch_number
        self.stan = stan
        self.settlement_day = settlement_day  # YYYYMMDD by the configured cut-over when the payment began
        self.marketing_day = marketing_day  # YYYYMMDD: the marketing system's accounting day of the quote
        self.postings = postings
        self.card_token = card_token
        self.card_masked = card_masked
        self.entry_mode = entry_mode
        self.original_60 = original_60  # business and batch digits that a reversal copies
        self.times = times
        self.profile = profile
        self.started_at = started_at  # monotonic
        self.cut_over_at = cut_over_at  # monotonic: the card network's day ends
        self.day_close_at = day_close_at  # monotonic: the marketing system's day ends
        self.card = card  # only in memory, and only while it may be needed
        self.issuer_data: ChipData | None = None  # what the issuer tells the card's chip; only in memory
        self.state = state
        self.ver = ver
        self.link = link  # hash of the last event
        self.approved_seen = approved_seen
        self.flagged = flagged
        self.told_pending = told_pending
        self.forward_only = False  # charged on a day that is over: no reversal any more
        self.absent = absent  # reversed because the host knew no purchase
        self.response_code = response_code
        self.rrn = rrn
        self.settlement_date = settlement_date
        self.authorization_code = authorization_code
        self.reversal_reason = reversal_reason
        self.case = case
        self.purchase_written_at = purchase_written_at
        self.approved_at = NEVER
        self.reversal_written_at = -1.0
        self.reversed_blind = (
            reversed_blind  # a reversal left before any approval was seen: its answer may be about nothing
        )
        self.post_written_at = post_written_at  # the latest
        self.cancel_written_at = -1.0  # the latest
        self.status_written_at = -1.0  # the latest
        self.refused = False  # a posting of the present month was, and nothing has made that final yet
        self.leg_deadline = NEVER
        self.leg_input = _IN_RETRY_DUE
        self.kiosk_deadline = NEVER
        self.bill_deadline = NEVER
        self.attempts = 0  # of the present leg, for the back-off
        self.changes: dict[str, Any] = {}
        self.durable_answer = ""  # what it was before the step that is being recorded; the runtime sets and clears it

    # ------------------------------------------------------------------------------------------------ in and out
    def opening_body(self) -> dict[str, Any]:
        """What the first event keeps: all that a takeover needs and that is not secret."""
        return {
            "terminal": self.terminal_id,
            "merchant": self.merchant_id,
            "kiosk_date": self.kiosk_date,
            "kiosk_serial": self.kiosk_serial,
            "digest": self.digest,
            "account": self.account,
            "amount": self.amount,
            "batch": self.batch_number,
            "stan": self.stan,
            "settlement_day": self.settlement_day,
            "marketing_day": self.marketing_day,
            "postings": [posting.to_row() for posting in self.postings],
            "card_token": self.card_token,
            "card_masked": self.card_masked,
            "entry_mode": self.entry_mode,
            "original_60": self.original_60,
        }

    @classmethod
    def from_stored(
        cls,
        stored: StoredPayment,
        *,
        times: TimeProfile,
        profile: HostProfile,
        now: float,
        cut_over_at: float,
        day_close_at: float = NEVER,
    ) -> Payment:
        """A payment of a worker that is gone. What was written when is lost, so all quiet periods start now."""
        body = stored.body
        payment = cls(
            payment_id=stored.payment_id,
            opened_on=stored.opened_on,
            terminal_id=body["terminal"],
            merchant_id=body["merchant"],
            kiosk_date=body["kiosk_date"],
            kiosk_serial=body["kiosk_serial"],
            digest=body["digest"],
            account=body["account"],
            amount=body["amount"],
            batch_number=body["batch"],
            stan=body["stan"],
            settlement_day=body["settlement_day"],
            marketing_day=body["marketing_day"],
            postings=[Posting.from_row(row) for row in body["postings"]],
            card_token=body["card_token"],
            card_masked=body["card_masked"],
            entry_mode=body["entry_mode"],
            original_60=body["original_60"],
            times=times,
            profile=profile,
            started_at=now,
            cut_over_at=cut_over_at,
            day_close_at=day_close_at,
            state=stored.state,
            ver=stored.ver,
            link=stored.link,
            approved_seen=body.get("approved_seen", False),
            flagged=body.get("flagged", False),
            # A kiosk that heard nothing from a dead worker must be treated as one that heard "being booked":
            # silence may no longer reverse what it may show as paid (C7).
            told_pending=body.get("told_pending", False) or stored.state is _BILL_PENDING,
            absent=body.get("absent", False),
            response_code=body.get("response_code", ""),
            rrn=body.get("rrn", ""),
            settlement_date=body.get("settlement_date", ""),
            authorization_code=body.get("authorization_code", ""),
            reversal_reason=body.get("reversal_reason", ""),
            case=body.get("case", ""),
            purchase_written_at=now,
            post_written_at=now,
            reversed_blind=stored.state is _REVERSAL_PENDING,
        )
        if payment.approved_seen:
            payment.approved_at = now
        return payment

    # ------------------------------------------------------------------------------------------------ what it is
    @property
    def is_driven(self) -> bool:
        return self.state in DRIVEN

    @property
    def current(self) -> Posting | None:
        """The posting that may be outstanding, or the next one: oldest month first, one at a time."""
        for posting in self.postings:
            state = posting.state
            if state is _POSTING_SENT or state is _POSTING_WAITING:
                return posting
        return None

    @property
    def answer(self) -> str:
        """The stable code a kiosk is told now: a function of what is durable (I3, I16)."""
        if self.durable_answer:
            return self.durable_answer
        state = self.state
        if state is _DECLINED:
            return DECLINED if self.response_code else NOT_CHARGED
        if state is _BILL_PENDING:
            return BEING_BOOKED if self.told_pending else IN_PROGRESS
        if state is _REVERSAL_PENDING:
            return BEING_RETURNED if self.approved_seen else RESULT_UNKNOWN
        return _TOLD.get(state, IN_PROGRESS)

    @property
    def deadline(self) -> float:
        """Monotonic seconds of the earliest thing to do; ``NEVER`` when nothing is waited for."""
        if self.state not in DRIVEN:
            return NEVER
        deadline = min(self.leg_deadline, self.kiosk_deadline, self.bill_deadline)
        # When a day ends is looked up in the table; it matters only if nothing is due before.
        if self.cut_over_at < deadline:
            deadline = min(deadline, self._cut_over_deadline)
        if self.day_close_at < deadline:
            deadline = min(deadline, self._day_close_deadline)
        return deadline

    @property
    def _cut_over_deadline(self) -> float:
        if self.cut_over_at == NEVER or (self.forward_only and self.state is _BILL_PENDING):
            return NEVER  # it knows already
        return self.cut_over_at if (self.state, _IN_CUT_OVER) in self.table else NEVER

    @property
    def _day_close_deadline(self) -> float:
        if self.day_close_at == NEVER:
            return NEVER
        return self.day_close_at if (self.state, _IN_BILL_DAY_OVER) in self.table else NEVER

    @property
    def is_recovered(self) -> bool:
        """A worker that takes it over has something to do."""
        return (self.state, _IN_RECOVER) in self.table

    def due(self, now: float) -> Input | None:
        """The most important input whose time has come; call again until it returns None."""
        if self.state not in DRIVEN:
            return None
        if now >= self._cut_over_deadline:
            return _IN_CUT_OVER
        if now >= self._day_close_deadline:
            return _IN_BILL_DAY_OVER
        if now >= self.leg_deadline:
            self.leg_deadline = NEVER
            return self.leg_input
        if now >= self.bill_deadline:
            return _IN_BILL_DEADLINE
        if now >= self.kiosk_deadline:
            self.kiosk_deadline = NEVER
            return _IN_KIOSK_DEADLINE
        return None

    # ------------------------------------------------------------------------------------------------ the step
    def step(self, given: Input, facts: Facts, now: float) -> list[Effect]:
        """Effects to carry out in this order; state has moved already, so drop the payment if the Record is refused."""
        table, steps = _READY.get(type(self), _NOT_READY)
        if table is not self.table:
            steps = self._make_ready()
        for ready in steps.get((self.state, given), ()):
            if ready[1] is None or ready[1](self, facts, now):
                break
        else:
            return self._unlisted(given, facts)
        row, _, actions, is_final = ready
        before, after, durable = self.state, row.next, row.durable
        moved = after is not before
        if moved:
            self.state = after
            self._enter(after, now)
        effects: list[Effect] = []
        changes: dict[str, Any] = {}
        record = Record(after, row.number, changes)
        self.changes = changes
        if durable:
            effects.append(record)
            self.ver += 1
        for action in actions:
            action(self, effects, record, facts, now)
        if durable:
            if is_final:
                record.release_open = True
                record.release_bills = moved
            elif moved and after in _NOT_POSTED:
                record.release_bills = True
            if facts.reason:
                changes["reason"] = facts.reason
            if facts.decision is not None:
                changes["decision"] = facts.decision
            if given in CARD_ANSWERS:
                self._keep_card_answer(facts)
        if is_final:
            self.card = None
        return effects

    @classmethod
    def _make_ready(cls) -> Steps:
        """Look the guards and actions of the table up by name, once for each class and table."""
        steps: Steps = {
            key: tuple(
                (
                    row,
                    None if row.guard is None else getattr(cls, "_if_" + row.guard),
                    tuple(getattr(cls, "_do_" + action) for action in row.actions),
                    row.next in FINAL,
                )
                for row in rows
            )
            for key, rows in cls.table.items()
        }
        _READY[cls] = cls.table, steps
        return steps

    def _unlisted(self, given: Input, facts: Facts) -> list[Effect]:
        if given in KIOSK_WORDS:
            return [Tell()]  # too late, or done already: it hears what is (C13)
        if given not in ANSWERS:
            raise OutOfOrderError("Payment", self.state, given)
        if (given in APPROVALS or facts.approved) and self.state in (_REVERSED, _DECLINED):
            # After a reversal that found the charge, a late approval is only late.
            harmless = self.state is _REVERSED and not self.absent
            return [Note("late" if harmless else "late_after_final")]
        return [Note("duplicate")]

    def _enter(self, state: State, now: float) -> None:
        """Times of the new state."""
        self.leg_deadline = NEVER
        self.attempts = 0
        if state is _CARD_PENDING:
            self.kiosk_deadline = self.started_at + self.times.answer_s
        elif state is _BILL_PENDING:
            self.bill_deadline = self.started_at + self.times.bill_s
        else:
            self.bill_deadline = NEVER

    def written(self, effect: Effect, now: float) -> None:
        """The frame of ``effect`` was handed to the kernel (or may have been): its leg's clock starts."""
        kind = type(effect)  # of a Struct, isinstance costs as much as a call
        if kind is SendPurchase:
            self.purchase_written_at = now
            self.leg_deadline, self.leg_input = now + self.times.card_s, _IN_CARD_SILENT
        elif kind is SendReversal:
            self.reversal_written_at = now
            self.reversed_blind |= not self.approved_seen
            self.leg_deadline, self.leg_input = now + self.times.card_s, _IN_REVERSAL_UNCLEAR
        elif type(effect) is SendPost:
            self.post_written_at = now
            effect.posting.sends += 1
            self.leg_deadline, self.leg_input = now + self.times.post_s, _IN_BILL_UNCLEAR
        elif kind is SendStatus:
            self.status_written_at = now
            self.leg_deadline, self.leg_input = now + self.times.post_s, _IN_BILL_UNCLEAR
        elif kind is SendCancel:
            self.cancel_written_at = now
            self.leg_deadline, self.leg_input = now + self.times.post_s, _IN_CANCEL_UNCLEAR

    # ------------------------------------------------------------------------------------------------ guards
    def _if_chip_decides(self, facts: Facts, now: float) -> bool:
        return self.profile.emv_completion == "wait" and self.entry_mode.startswith(_CONTACT_CHIP)

    def _if_more_to_post(self, facts: Facts, now: float) -> bool:
        postings = self.postings
        if len(postings) == 1:
            return False  # nearly always
        return sum(posting.state in (_POSTING_WAITING, _POSTING_SENT) for posting in postings) > 1

    def _if_may_repost(self, facts: Facts, now: float) -> bool:
        return self.profile.deduplicates and not self.refused

    def _if_can_ask(self, facts: Facts, now: float) -> bool:
        return self.profile.inquiry != "none"

    def _if_can_fence(self, facts: Facts, now: float) -> bool:
        return self.profile.fence != "none"

    def _if_keeps_tombstones(self, facts: Facts, now: float) -> bool:
        return self.profile.fence == "tombstone"

    def _if_may_cancel(self, facts: Facts, now: float) -> bool:
        # After "paid, being booked" silence never reverses, only a refusal does (C7).
        return self.profile.fence != "none" and (self.refused or not self.told_pending)

    def _if_may_give_up(self, facts: Facts, now: float) -> bool:
        # Nor when the reversal that would follow could come too late, on either side (C7).
        closes_at = min(self.cut_over_at, self.day_close_at)
        return self._if_may_cancel(facts, now) and self.bill_deadline < closes_at

    def _if_part_posted(self, facts: Facts, now: float) -> bool:
        return any(posting.state is _POSTING_POSTED for posting in self.postings)

    def _if_post_is_dead(self, facts: Facts, now: float) -> bool:
        """The marketing system can no longer act on any posting that we sent."""
        return now >= self.post_written_at + self.times.marketing_quiet_s

    def _if_post_in_doubt(self, facts: Facts, now: float) -> bool:
        # What a status inquiry says after none of them can be acted on any more is the last word.
        posting = self.current
        return posting is not None and posting.sends > 1 and not self._if_absent_for_good(facts, now)

    def _if_refusal_in_doubt(self, facts: Facts, now: float) -> bool:
        return facts.doubtful and self._if_can_ask(facts, now)

    def _if_absent_for_good(self, facts: Facts, now: float) -> bool:
        return self.status_written_at >= self.post_written_at + self.times.marketing_quiet_s

    def _if_refused_for_good(self, facts: Facts, now: float) -> bool:
        alone = self.profile.fence == "none" and not self._if_part_posted(facts, now)
        return self.refused and alone and self._if_absent_for_good(facts, now)

    def _cancel_was_late(self) -> bool:
        """The answered cancel left after the marketing system could still act on a posting."""
        return self.cancel_written_at >= self.post_written_at + self.times.marketing_quiet_s

    def _if_undo_in_doubt(self, facts: Facts, now: float) -> bool:
        # Undone, but another copy of a posting that was sent twice may still come, and no tombstone stops it.
        posting = self._next_to_cancel()
        repeated = posting is not None and posting.sends > 1
        return self.profile.fence == "cancel_if_posted" and repeated and not self._cancel_was_late()

    def _if_absent_in_doubt(self, facts: Facts, now: float) -> bool:
        return not self._cancel_was_late()

    def _if_more_to_cancel(self, facts: Facts, now: float) -> bool:
        open_states = (_POSTING_SENT, _POSTING_REJECTED, _POSTING_POSTED)
        return sum(posting.state in open_states for posting in self.postings) > 1

    def _if_all_posted(self, facts: Facts, now: float) -> bool:
        """Will all be posted once the one just found is booked?"""
        fenced = self._next_to_cancel()
        return all(posting.state is _POSTING_POSTED or posting is fenced for posting in self.postings)

    def _if_reversal_proved(self, facts: Facts, now: float) -> bool:
        if not self.profile.reversal_00_any:
            return True
        # From here on 00 may mean "not found", as the codes below do.
        if not self._same_day(now):
            return False
        if self.approved_seen:
            return self._answers_this(now)
        # C2 judges by when "that" reversal left, but no answer says which one it is for: as careful as with 25.
        return self._quiet(now)

    def _if_approval_held(self, facts: Facts, now: float) -> bool:
        # "Not found" for a purchase that we saw approved: only a person can know.
        return self.approved_seen and self._answers_this(now)

    def _answers_this(self, now: float) -> bool:
        """The answer is to a reversal that left after the approval was seen. All reversals of a purchase carry one
        number, so the answer to an earlier one, which had overtaken the purchase, must be waited out."""
        return self.reversal_written_at >= self.approved_at and (not self.reversed_blind or self._late_over(now))

    def _late_over(self, now: float) -> bool:
        """No answer from before the host was done with the purchase can be under way any more."""
        return now >= self.purchase_written_at + self.times.quiet_s + self.times.late_s

    def _quiet(self, now: float) -> bool:
        """No approval seen, a reversal left after the host could still act, its answer came after the last late one."""
        quiet_at = self.purchase_written_at + self.times.quiet_s
        return not self.approved_seen and self.reversal_written_at >= quiet_at and self._late_over(now)

    def _same_day(self, now: float) -> bool:
        """The host certainly had not changed its day when it answered: its clock is not ours."""
        return now < self.cut_over_at - self.times.late_s

    def _if_absence_proved(self, facts: Facts, now: float) -> bool:
        return self.profile.not_found_proves and self._quiet(now) and self._same_day(now)

    def _if_absence_unproven(self, facts: Facts, now: float) -> bool:
        return not self.profile.not_found_proves and self._quiet(now)

    def _if_approval_is_new(self, facts: Facts, now: float) -> bool:
        return not self.approved_seen

    def _if_says_charged(self, facts: Facts, now: float) -> bool:
        return facts.approved

    # ------------------------------------------------------------------------------------------------ actions
    def _do_claim(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        record.claim = True
        record.changes.update(self.opening_body())

    def _do_send_purchase(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        effects.append(SendPurchase())

    def _do_send_post(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        posting = self.current
        assert posting is not None, "a payment in BILL_PENDING has something to post"
        posting.state = _POSTING_SENT
        record.changes["postings"] = [each.to_row() for each in self.postings]
        effects.append(SendPost(posting))

    def _do_send_status(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        posting = self.current
        assert posting is not None, "a payment in BILL_PENDING has something to ask for"
        effects.append(SendStatus(posting))

    def _next_to_cancel(self) -> Posting | None:
        """First the fence around what may or may not be posted, then what is posted, newest month first (C9)."""
        for posting in self.postings:
            if posting.state in (_POSTING_SENT, _POSTING_REJECTED):
                return posting
        for posting in reversed(self.postings):
            if posting.state is _POSTING_POSTED:
                return posting
        return None

    def _do_send_cancel(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        posting = self._next_to_cancel()
        assert posting is not None, "a payment in BILL_CANCELLING has something to cancel"
        effects.append(SendCancel(posting, undo=posting.state is _POSTING_POSTED))

    def _do_send_reversal(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        effects.append(SendReversal(self.reversal_reason))

    def _do_tell(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        if self.answer != IN_PROGRESS:
            self.kiosk_deadline = NEVER  # who has heard no more than that still waits for a word
        effects.append(Tell())

    def _do_sign_on_again(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        effects.append(SignOnAgain())

    def _do_note_late(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        effects.append(Note("late"))

    def _do_wait(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        waits = self.times.reversal_backoff_s if self.state is _REVERSAL_PENDING else self.times.bill_backoff_s
        # Each payment waits a little longer by a share of its own: what one broken link has put into doubt must not
        # all come back in the same moment, each time.
        share = 1.0 + RETRY_JITTER * (self.payment_id * 0x9E3779B1 % 0x1_0000_0000) / 0x1_0000_0000
        self.leg_deadline = now + share * waits[min(self.attempts, len(waits) - 1)]
        self.leg_input = _IN_RETRY_DUE
        self.attempts += 1

    def _do_keep_refusal(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        self.refused = True

    def _do_reject(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        posting = self.current
        assert posting is not None
        posting.state = _POSTING_REJECTED
        record.changes["postings"] = [each.to_row() for each in self.postings]
        record.changes["bill_code"] = facts.response_code

    def _do_book_charge(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        if not self.approved_seen:
            self.approved_seen = record.changes["approved_seen"] = True
            self.approved_at = now
            record.ledger += [(U_RECEIVABLE, self.amount, 0), (SUSPENSE_ACCOUNT, 0, self.amount)]

    def _do_book_if_approved(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        if facts.approved:
            self._do_book_charge(effects, record, facts, now)

    def _do_unbook_charge(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        if self.approved_seen:
            record.ledger += [(SUSPENSE_ACCOUNT, self.amount, 0), (U_RECEIVABLE, 0, self.amount)]

    def _do_book_posting(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        self.refused = False
        self._book(self.current, record)

    def _do_book_fenced(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        # ``current`` would be a month that was never sent: the fence was around another.
        self._book(self._next_to_cancel(), record)

    def _book(self, posting: Posting | None, record: Record) -> None:
        assert posting is not None
        posting.state = _POSTING_POSTED
        record.changes["postings"] = [each.to_row() for each in self.postings]
        record.ledger += [(SUSPENSE_ACCOUNT, posting.amount, 0), (M_PAYABLE, 0, posting.amount)]

    def _do_unbook(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        posting = self._next_to_cancel()
        assert posting is not None
        self._unbook(posting, record)

    def _unbook(self, posting: Posting, record: Record) -> None:
        if posting.state is _POSTING_POSTED:
            record.ledger += [(M_PAYABLE, posting.amount, 0), (SUSPENSE_ACCOUNT, 0, posting.amount)]
        posting.state = _POSTING_CANCELLED
        record.changes["postings"] = [each.to_row() for each in self.postings]

    def _do_case(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        self.case = record.changes["case"] = f"C{self.payment_id}"

    def _do_absent(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        self.absent = record.changes["absent"] = True

    def _do_not_sent(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        record.changes["reason"] = "not_sent"

    def _do_told_pending(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        self.told_pending = record.changes["told_pending"] = True

    def _do_forget_day_close(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        self.day_close_at = NEVER

    def _do_keep_reversed(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        record.changes["reversed_seen"] = True

    def _do_settle_paid(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        self._do_book_charge(effects, record, facts, now)
        for posting in self.postings:
            if posting.state is not _POSTING_POSTED:
                self._book(posting, record)

    def _do_settle_nothing(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        for posting in self.postings:
            self._unbook(posting, record)
        self._do_unbook_charge(effects, record, facts, now)

    def _do_forget_bill_deadline(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        self.bill_deadline = NEVER

    def _do_forward_only(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        # ``cut_over_at`` stays: a posting that is refused now leads to a case, not to a reversal on another day.
        self.bill_deadline = NEVER
        self.forward_only = True

    def _do_wait_for_chip(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        self.leg_deadline, self.leg_input = now + self.times.chip_s, _IN_CHIP_SILENT

    def _do_more_patience(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        # The kiosk has had an answer, and waits anew from the chip's word on.
        self.kiosk_deadline = now + self.times.answer_s

    def _do_reason_96(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        self.reversal_reason = record.changes["reversal_reason"] = "96"

    def _do_reason_98(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        self.reversal_reason = record.changes["reversal_reason"] = "98"

    def _do_reason_06(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        self.reversal_reason = record.changes["reversal_reason"] = "06"

    def _do_reason_a0(self, effects: list[Effect], record: Record, facts: Facts, now: float) -> None:
        self.reversal_reason = record.changes["reversal_reason"] = "A0"

    def _keep_card_answer(self, facts: Facts) -> None:
        changes = self.changes
        if facts.response_code:
            self.response_code = changes["response_code"] = facts.response_code
        if facts.rrn:
            self.rrn = changes["rrn"] = facts.rrn
        if facts.settlement_date:
            self.settlement_date = changes["settlement_date"] = facts.settlement_date
        if facts.authorization_code:
            self.authorization_code = changes["authorization_code"] = facts.authorization_code
        if facts.icc_data is not None:
            self.issuer_data = facts.icc_data
        if facts.flagged:
            self.flagged = self.changes["flagged"] = True
