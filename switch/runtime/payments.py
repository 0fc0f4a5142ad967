# cython: annotation_typing=False, binding=False
"""Payments in memory: carry out what their machines decide.

The one rule: a ``Record`` is durable before the effect after it starts. While it commits, further inputs of that
payment wait in its inbox. Frames are built (and MACed) before the record, because the record holds the attempt, and
leave after it.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import orjson

from switch import limits
from switch.dialects.codes import CardCodes
from switch.dialects.marketing import MarketingAnswer, MarketingDialect
from switch.dialects.unionpay import UnionPayDialect, mab, with_mac
from switch.errors import NOT_NOW, BadRequestError, SecurityError, SwitchError
from switch.limits import TimeProfile
from switch.machines import days
from switch.machines.payment import IN_PROGRESS, NEVER, Facts, HostProfile, Payment
from switch.machines.payment_table import Input
from switch.model.chain import event_link
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
from switch.model.payment import DRIVEN, KeptCard, Posting, State, StoredPayment
from switch.model.request import CardAnswer, ChipResult
from switch.model.secret import ChipData
from switch.ports import (
    Append,
    Appended,
    Claim,
    ClaimKind,
    Clock,
    Found,
    Journal,
    JournalEntry,
    Observer,
    SecurityModule,
    Stray,
    Wire,
)
from switch.runtime.calls import call_each
from switch.runtime.lanes import Lanes
from switch.runtime.links import CardLink, MarketingLink
from switch.runtime.terminals import TerminalSession, TerminalSessions
from switch.runtime.timers import Timer, Timers

Sending = SendPurchase | SendReversal | SendPost | SendStatus | SendCancel
# Asked with type(): of a Struct, isinstance costs as much as a call.
_SENDING = frozenset({SendPurchase, SendReversal, SendPost, SendStatus, SendCancel})
_TO_CARD = (SendPurchase, SendReversal)
# Bound once: to find a member of an Enum costs Python 3.11 as much as a call.
_CARD_CONFIRMING: Final = State.CARD_CONFIRMING
_CARD_PENDING: Final = State.CARD_PENDING
_COMPLETED: Final = State.COMPLETED
_REVERSAL_PENDING: Final = State.REVERSAL_PENDING
_REVERSED: Final = State.REVERSED
_IN_BILL_UNCLEAR: Final = Input.BILL_UNCLEAR
_IN_CANCEL_UNCLEAR: Final = Input.CANCEL_UNCLEAR
_IN_CARD_SILENT: Final = Input.CARD_SILENT
_IN_CARD_APPROVED: Final = Input.CARD_APPROVED
_IN_CARD_PARTIAL: Final = Input.CARD_PARTIAL
_IN_CARD_UNSENT: Final = Input.CARD_UNSENT
_IN_CHIP_ACCEPTED: Final = Input.CHIP_ACCEPTED
_IN_CHIP_REFUSED: Final = Input.CHIP_REFUSED
_IN_KIOSK_REVERSAL: Final = Input.KIOSK_REVERSAL
_IN_RECOVER: Final = Input.RECOVER
_IN_RETRY_DUE: Final = Input.RETRY_DUE
_IN_REVERSAL_UNCLEAR: Final = Input.REVERSAL_UNCLEAR
_IN_START: Final = Input.START
_BILL: Final = ClaimKind.BILL
_COMMITTED: Final = Append.COMMITTED
_KIOSK: Final = ClaimKind.KIOSK
_OPEN: Final = ClaimKind.OPEN
_STAN: Final = ClaimKind.STAN

# Sent but not answered, or never left: the same input, because neither proves anything; only a purchase can prove that
# it never left, and is then declined instead of reversed.
SILENT: dict[type, Input] = {
    SendPurchase: _IN_CARD_SILENT,
    SendReversal: _IN_REVERSAL_UNCLEAR,
    SendPost: _IN_BILL_UNCLEAR,
    SendStatus: _IN_BILL_UNCLEAR,
    SendCancel: _IN_CANCEL_UNCLEAR,
}


_PAN_ALONE = b"pan"
_SHA256 = hashlib.sha256()  # a copy of it costs a third of looking the algorithm up each time

# A kiosk that stands there: hears of the payment, or the code of why there is none.
Waiter = Callable[[Payment | str], None]


class Ready:
    """A frame waiting for its record."""

    __slots__ = ("frame", "request_id")

    def __init__(self, frame: bytes, request_id: int = 0) -> None:
        self.frame = frame
        self.request_id = request_id


class Slot:
    """One payment and everything about it that is not durable. No Struct: it is written to more often than read."""

    __slots__ = (
        "began",
        "busy",
        "chip",
        "inbox",
        "kept",
        "key_epoch",
        "kiosk_key",
        "leg_started_at",
        "outstanding",
        "payment",
        "ready",
        "refused",
        "request_id",
        "sealed",
        "sealed_pan",
        "session",
        "settled",
        "stan_key",
        "timer",
        "timer_at",
        "waiters",
    )

    def __init__(
        self,
        payment: Payment,
        session: TerminalSession | None,
        kiosk_key: str,
        stan_key: str,
        *,
        sealed: bytes | None = None,
        waiters: list[Waiter] | None = None,
        refused: Callable[[Claim | str], None] | None = None,
        began: Callable[[], None] | None = None,
    ) -> None:
        self.payment = payment
        self.session = session
        self.kiosk_key = kiosk_key  # terminal|MMDD|serial
        self.stan_key = stan_key  # terminal|batch|stan
        self.busy = False
        self.inbox: list[tuple[Input, Facts]] = []  # at most limits.INBOX_MAX
        self.waiters: list[Waiter] = [] if waiters is None else waiters  # kiosks that stand there
        self.chip: ChipData | None = None  # its last cryptogram; only in memory
        self.kept: KeptCard | None = None  # card data for a reversal …
        self.sealed = sealed  # … and as the journal keeps it
        self.sealed_pan: bytes | None = None  # until its first record: the card number alone, for a refund
        self.ready: Ready | None = None
        self.key_epoch = 0  # of the keys with which its latest frame was made
        self.request_id = 0  # of the outstanding marketing request
        self.outstanding: Sending | None = None
        self.timer: Timer | None = None
        self.timer_at = NEVER
        self.refused = refused  # who hears that it never began, and why
        self.began = began  # who hears that it is durable: its request was no repeat
        self.leg_started_at = 0.0
        self.settled: Callable[[], None] | None = None  # who hears that a decision is recorded


class Payments:
    def __init__(
        self,
        *,
        journal: Journal,
        security: SecurityModule,
        sessions: TerminalSessions,
        card_link: CardLink,
        marketing_link: MarketingLink,
        card_dialect: UnionPayDialect,
        marketing_dialect: MarketingDialect,
        codes: CardCodes,
        times: TimeProfile,
        profile: HostProfile,
        unmacced_decline_reverses: bool,
        clock: Clock,
        timers: Timers,
        observer: Observer,
        machine: type[Payment] = Payment,
        refund_days: int = limits.REFUND_DAYS,
        test_account: str = "",
    ) -> None:
        self.machine = machine
        self._journal = journal
        self._security = security
        self._sessions = sessions
        self._card_link = card_link
        self._marketing_link = marketing_link
        self._card_dialect = card_dialect
        self._marketing_dialect = marketing_dialect
        self._codes = codes
        self._times = times
        self._profile = profile
        self._unmacced_decline_reverses = unmacced_decline_reverses
        self._refund_days = refund_days
        self._test_account = test_account
        self._clock = clock
        self._timers = timers
        self._observer = observer
        self._open: dict[int, Slot] = {}
        self._by_kiosk_key: dict[str, Slot] = {}
        self._by_stan: dict[str, Slot] = {}
        self._parked: OrderedDict[int, Slot] = OrderedDict()
        self.lanes: Lanes[Slot] = Lanes()
        card_link.on_answer = self.card_answered
        card_link.on_lost = self._card_link_lost
        card_link.on_frame_lost = self._card_frame_lost
        marketing_link.on_lost = lambda wire: None  # its pending calls are told one by one

    # -------------------------------------------------------------------------------------------- what is here
    @property
    def open_count(self) -> int:
        """Payments that the switch itself still has to bring to an end; what waits for a person is not among them."""
        return len(self._open)

    def is_busy(self, terminal_id: str) -> bool:
        """A payment of this terminal is under way here, or something has to be taken back for it."""
        return any(slot.payment.terminal_id == terminal_id for slot in self._open.values())

    def states(self) -> Counter[str]:
        """How many open payments stand where."""
        return Counter(slot.payment.state.value for slot in self._open.values())

    def holds(self, payment_id: int) -> bool:
        """It is here: driven, or remembered for a person, a repeat or a late answer."""
        return payment_id in self._open or payment_id in self._parked

    def by_kiosk_key(self, key: str) -> Slot | None:
        return self._by_kiosk_key.get(key)

    # -------------------------------------------------------------------------------------------- in
    def start(self, slot: Slot) -> None:
        """A payment whose quote, amount and keys are checked. Its claims decide whether it really is new."""
        payment = slot.payment
        self._keep(slot)
        assert payment.card is not None
        kept = slot.kept = self._card_dialect.kept(payment.card)
        self._security.seal(_context(payment.payment_id), kept.to_bytes(), partial(self._sealed, slot, kept))

    def _sealed(self, slot: Slot, kept: KeptCard, result: bytes | SecurityError) -> None:
        """Then the number alone, so that nothing must be opened when the payment completes, whoever drives it then."""
        if type(result) is not bytes:
            self._unsealable(slot, result)
            return
        slot.sealed = result
        if self._refund_days:
            context = _context(slot.payment.payment_id, _PAN_ALONE)
            self._security.seal(context, kept.pan.reveal().encode(), partial(self._pan_sealed, slot))
        else:
            self._step(slot, _IN_START, Facts())

    def _pan_sealed(self, slot: Slot, result: bytes | SecurityError) -> None:
        if type(result) is not bytes:
            self._unsealable(slot, result)
            return
        slot.sealed_pan = result
        self._step(slot, _IN_START, Facts())

    def _unsealable(self, slot: Slot, error: bytes | SecurityError) -> None:
        assert isinstance(error, SecurityError)
        self._observer.event("card_data.unsealable", error=error.detail)
        self._give_up(slot, "internal")

    def adopt(self, stored: StoredPayment, *, cut_over_at: float, day_close_at: float = NEVER) -> None:
        """An open payment of a worker that is gone. The normal machine drives it on."""
        now = self._clock.now()
        payment = self.machine.from_stored(
            stored,
            times=self._times,
            profile=self._profile,
            now=now,
            cut_over_at=cut_over_at,
            day_close_at=day_close_at,
        )
        slot = make_slot(payment, None, sealed=stored.sealed)
        self._keep(slot)
        self._by_stan[slot.stan_key] = slot
        if payment.state is _REVERSAL_PENDING:
            self.lanes.begin(payment.terminal_id, payment.payment_id, now)
        self._observer.event("payment.adopted", payment=payment.payment_id, state=payment.state)
        if not payment.is_driven:
            self._park(slot)
        slot.busy = True  # until its terminal is here

        def go() -> None:
            slot.busy = False
            if payment.is_recovered:
                self._give(slot, _IN_RECOVER, Facts(reason="recovered"))

        self._with_session(slot, go)

    def _with_session(self, slot: Slot, then: Callable[[], None]) -> None:
        def got(session: TerminalSession | SwitchError | None) -> None:
            if isinstance(session, TerminalSession):
                slot.session = session
            else:
                self._observer.event("payment.without_terminal", payment=slot.payment.payment_id)
            then()

        self._sessions.get(slot.payment.terminal_id, got)

    def take_back(self, slot: Slot, tell: Waiter) -> None:
        """The kiosk wants it taken back. Where that is too late, or done already, it hears how it stands."""
        if slot.payment.is_driven and len(slot.waiters) < limits.INBOX_MAX:
            slot.waiters.append(tell)
            self._give(slot, _IN_KIOSK_REVERSAL, Facts(reason="kiosk"))
        else:
            tell(slot.payment)

    def chip_says(self, slot: Slot, result: ChipResult, tell: Waiter) -> None:
        """The card's chip has the last word, where it was waited for. Else the kiosk hears how the payment stands."""
        if slot.payment.state is _CARD_CONFIRMING and len(slot.waiters) < limits.INBOX_MAX:
            slot.chip = result.icc_data
            slot.waiters.append(tell)
            given = _IN_CHIP_ACCEPTED if result.accepted else _IN_CHIP_REFUSED
            self._give(slot, given, Facts(reason="chip"))
        elif slot.payment.answer == IN_PROGRESS and len(slot.waiters) < limits.INBOX_MAX:
            slot.waiters.append(tell)
        else:
            tell(slot.payment)

    def settle(self, payment_id: int, given: Input, decision: dict[str, Any], done: Callable[[str], None]) -> None:
        """Carry out what people decided. ``done`` hears "done" after the commit, or why it cannot be."""
        slot = self._parked.get(payment_id)
        if slot is None:
            # Driven, or so long ago that it is no longer remembered.
            if payment_id in self._open:
                done("the payment is being driven on; it does not wait for a person")
                return

            def found(stored: Found) -> None:
                if isinstance(stored, StoredPayment):
                    self.adopt(stored, cut_over_at=NEVER)
                    done("")  # the next look finds it here
                else:
                    done("the payment is not open any more")

            self._journal.find(Claim(_OPEN, str(payment_id)), found)
            return
        if slot.busy:
            done("")
            return
        payment = slot.payment
        if (payment.state, given) not in payment.table:
            done(f"a payment in {payment.state} cannot be settled so")
            return
        ver = payment.ver
        self._step(slot, given, Facts(reason="decided", decision=decision))
        slot.settled = lambda: done("done" if payment.ver > ver else "")
        if not slot.busy:
            slot.settled()
            slot.settled = None

    def stored(self, stored: StoredPayment) -> Payment:
        """A payment as the journal has it, for a repeat or a result inquiry: finished, or another worker's."""
        payment = self.machine.from_stored(stored, times=self._times, profile=self._profile, now=0.0, cut_over_at=NEVER)
        # What an heir assumes that the kiosk has heard, its owner may not have said, and may still take back.
        payment.told_pending = stored.body.get("told_pending", False)
        return payment

    def _keep(self, slot: Slot) -> None:
        payment = slot.payment
        self._open[payment.payment_id] = slot
        self._by_kiosk_key[slot.kiosk_key] = slot

    def _drop(self, slot: Slot) -> None:
        payment = slot.payment
        self._open.pop(payment.payment_id, None)
        self._parked.pop(payment.payment_id, None)
        for index, key in ((self._by_kiosk_key, slot.kiosk_key), (self._by_stan, slot.stan_key)):
            if index.get(key) is slot:
                del index[key]
        if slot.timer is not None:
            slot.timer.cancel()
        self._leave_lane(slot)

    def _leave_lane(self, slot: Slot) -> None:
        """It need not be reversed any more, or is no longer ours."""
        payment = slot.payment
        self._next_in_lane(self.lanes.end(payment.terminal_id, payment.payment_id, slot))

    def _free_lane(self, slot: Slot) -> None:
        """Its outstanding reversal is answered or given up: the terminal's next one has its turn."""
        self._next_in_lane(self.lanes.free(slot.payment.terminal_id, slot))

    def _next_in_lane(self, slot: Slot | None) -> None:
        while slot is not None:
            if not slot.busy and slot.payment.state is _REVERSAL_PENDING:
                # A step like any other: its frame is built anew, with the keys that hold now, and recorded.
                self._step(slot, _IN_RETRY_DUE, Facts(reason="lane"))
                return
            # It is being recorded; its own deadline brings it back.
            slot = self.lanes.free(slot.payment.terminal_id, slot)

    def _give_up(self, slot: Slot, code: str) -> None:
        """Before anything durable: nothing happened, and the kiosk hears why."""
        self._drop(slot)
        self._observer.count("switch_admission_rejects_total", (code,))
        if slot.refused is not None:
            slot.refused(code)

    # -------------------------------------------------------------------------------------------- the step
    def _give(self, slot: Slot, given: Input, facts: Facts) -> None:
        if slot.busy:
            if len(slot.inbox) < limits.INBOX_MAX:
                slot.inbox.append((given, facts))
            else:
                self._observer.event("payment.inbox_full", payment=slot.payment.payment_id, given=given)
            return
        self._step(slot, given, facts)

    def _step(self, slot: Slot, given: Input, facts: Facts) -> None:
        payment = slot.payment
        was, before = payment.state, payment.answer
        effects = payment.step(given, facts, self._clock.now())
        state = payment.state
        if state is not was:
            if state is _REVERSAL_PENDING:
                self.lanes.begin(payment.terminal_id, payment.payment_id, self._clock.now())
            elif was is _REVERSAL_PENDING:
                self._leave_lane(slot)
        if effects and type(effects[0]) is Record:
            # A record comes first, and there is one at most.
            payment.durable_answer = before
            slot.busy = True
            sending: Sending | None = None
            for effect in effects:
                if type(effect) in _SENDING:
                    sending = effect  # type: ignore[assignment]
                    break
            self._prepare(slot, sending, partial(self._commit, slot, effects[0], effects))
        else:
            self._run(slot, effects, 0)

    def _run(self, slot: Slot, effects: list[Effect], index: int) -> None:
        for effect in effects[index:]:
            self._carry_out(slot, effect)
        slot.busy = False
        while slot.inbox and not slot.busy:
            given, facts = slot.inbox.pop(0)
            self._step(slot, given, facts)
        if not slot.busy:
            if slot.waiters and slot.payment.answer != IN_PROGRESS:
                # Who came while a step was being recorded that tells nobody.
                self._tell(slot)
            self._schedule(slot)

    def _tell(self, slot: Slot) -> None:
        waiters, slot.waiters = slot.waiters, []
        call_each(self._observer, waiters, slot.payment)

    def _commit(self, slot: Slot, record: Record, effects: list[Effect], attempt: bytes | None) -> None:
        payment = slot.payment
        body = orjson.dumps(record.changes)
        ledger = orjson.dumps(record.ledger) if record.ledger else None
        claims: tuple[Claim, ...] = ()
        releases: tuple[Claim, ...] = ()
        if record.claim:
            claims = (
                Claim(_KIOSK, slot.kiosk_key),
                Claim(_STAN, slot.stan_key),
                Claim(_OPEN, str(payment.payment_id), slot.sealed, slot.sealed_pan),
                *[Claim(_BILL, key) for key in _bill_keys(payment)],
            )
        if record.release_bills or record.release_open:
            bills = [Claim(_BILL, key) for key in _bill_keys(payment)] if record.release_bills else ()
            releases = (Claim(_OPEN, str(payment.payment_id)), *bills) if record.release_open else tuple(bills)
        wall_us = self._clock.wall_us()
        keep_until = 0
        if self._refund_days and (record.claim or (record.release_open and record.state is _COMPLETED)):
            keep_until = days.day_after(wall_us, self._refund_days)
        payment.link = link = event_link(
            payment.link, payment.payment_id, payment.ver, record.state, record.row, body, ledger
        )
        entry = JournalEntry(
            opened_on=payment.opened_on,
            payment_id=payment.payment_id,
            ver=payment.ver,
            state=record.state,
            row=record.row,
            wall_us=wall_us,
            amount=payment.amount,
            body=body,
            link=link,
            attempt=attempt,
            ledger=ledger,
            claims=claims,
            releases=releases,
            keep_until=keep_until,
        )
        self._journal.append(entry, partial(self._committed, slot, effects))

    def _committed(self, slot: Slot, effects: list[Effect], appended: Appended) -> None:
        if appended.result is _COMMITTED:
            payment = slot.payment
            payment.durable_answer = ""
            settled = slot.settled
            if settled is not None:
                slot.settled = None
                settled()
            if payment.ver == 1:
                # Its claims are taken: now answers with this STAN are its own. The request is needed no more, and
                # holds the card's track.
                self._by_stan[slot.stan_key] = slot
                slot.refused = slot.sealed_pan = None
                if slot.began is not None:
                    slot.began()
                    slot.began = None
            if payment.state not in DRIVEN:
                self._park(slot)
                self._observer.count("switch_payments_total", (payment.answer,))
                self._observer.observe("switch_leg_seconds", self._clock.now() - payment.started_at, ("total",))
                if payment.account == self._test_account and payment.state is _REVERSED:
                    self._test_given_back(slot)
            self._run(slot, effects, 1)
            return
        self._drop(slot)
        if appended.result is Append.CLAIMED and slot.refused is not None and appended.claim is not None:
            slot.refused(appended.claim)
            return
        # Another worker decided: the payment is theirs now, and so is every answer to it.
        self._observer.event("payment.lost", payment=slot.payment.payment_id, ver=slot.payment.ver)
        slot.waiters.clear()

    def _test_given_back(self, slot: Slot) -> None:
        """What a terminal on its way into service waits for, behind its test inquiry."""
        session, payment = slot.session, slot.payment
        if session is not None and session.terminal.stage == "test_query" and payment.approved_seen:
            self._sessions.prove_reversal(session, payment.opened_on, payment.payment_id)

    def _park(self, slot: Slot) -> None:
        """Final, or for a person to decide: nothing drives it, but repeats and late answers still find it."""
        payment = slot.payment
        self._open.pop(payment.payment_id, None)
        self._parked[payment.payment_id] = slot
        slot.kept = slot.sealed = slot.chip = payment.card = None
        if slot.timer is not None:
            slot.timer.cancel()
            slot.timer, slot.timer_at = None, NEVER
        if len(self._parked) > limits.PAYMENTS_REMEMBERED_MAX:
            self._drop(next(iter(self._parked.values())))

    def speak(self, dialect: MarketingDialect) -> None:
        """From now on this one towards the marketing system."""
        self._marketing_dialect = dialect

    # -------------------------------------------------------------------------------------------- effects
    def _prepare(self, slot: Slot, sending: Sending | None, then: Callable[[bytes | None], None]) -> None:
        """Build the frame that the record protects; ``then`` gets the journal's copy, None if nothing can be sent."""
        slot.ready = None
        payment = slot.payment
        if sending is None:
            then(None)
        elif type(sending) is SendPurchase:
            assert payment.card is not None
            built = self._built(slot, partial(self._card_dialect.purchase, payment, payment.card))
            if built is None:
                then(None)
            else:
                self._add_mac(slot, built[0], partial(then, built[1]))
        elif type(sending) is SendReversal:
            # Its terminal may have signed on through another worker since: the host would refuse the keys before those.
            kept = partial(self._prepare_reversal, slot, sending, then)
            self._with_session(slot, partial(self._card_data, slot, kept))
        else:
            request_id = self._marketing_link.next_id()
            try:
                frame = self._bill_frame(payment, sending, request_id)
            except BadRequestError as error:
                # What this spec cannot say is not sent; left to rise, it would leave the payment busy for ever.
                self._unbuildable(slot, error)
                then(None)
                return
            slot.ready = Ready(frame, request_id)
            then(frame)

    def _bill_frame(self, payment: Payment, sending: Sending, request_id: int) -> bytes:
        """Raises: BadRequestError: the spec has no room for a value of this payment."""
        dialect, account = self._marketing_dialect, payment.account
        if type(sending) is SendPost:
            return dialect.post(
                request_id,
                sending.posting,
                account=account,
                day=payment.marketing_day,
                reference=str(payment.payment_id),
            )
        if type(sending) is SendStatus:
            return dialect.status(request_id, sending.posting, account=account)
        assert type(sending) is SendCancel
        undo = sending.undo or self._profile.fence == "cancel_if_posted"  # it knows no other cancel
        return dialect.cancel(request_id, sending.posting, undo=undo, account=account)

    def _prepare_reversal(
        self,
        slot: Slot,
        sending: SendReversal,
        then: Callable[[bytes | None], None],
        kept: KeptCard | None,
    ) -> None:
        if kept is None:
            then(None)
            return
        if slot.chip is not None:
            kept = self._card_dialect.with_chip(kept, slot.chip)
        built = self._built(slot, partial(self._card_dialect.reversal, slot.payment, kept, sending.reason))
        if built is None:
            then(None)
        else:
            self._add_mac(slot, built[0], partial(then, built[1]))

    def _built(self, slot: Slot, build: Callable[[], tuple[bytes, bytes]]) -> tuple[bytes, bytes] | None:
        """A frame and the journal's copy of it. None: a fault of ours; then this attempt is not sent."""
        try:
            return build()
        except Exception as error:
            # Left to rise, it would leave the payment busy for ever.
            self._unbuildable(slot, error)
            return None

    def _unbuildable(self, slot: Slot, error: Exception) -> None:
        self._observer.event("frame.unbuildable", level="error", payment=slot.payment.payment_id, error=repr(error))

    def _card_data(self, slot: Slot, then: Callable[[KeptCard | None], None]) -> None:
        if slot.kept is not None:
            then(slot.kept)
            return
        if slot.sealed is None:
            self._observer.event("card_data.missing", payment=slot.payment.payment_id)
            then(None)
            return

        def opened(result: bytes | SecurityError) -> None:
            if isinstance(result, SecurityError):
                self._observer.event("card_data.unreadable", payment=slot.payment.payment_id, error=result.detail)
                then(None)
                return
            try:
                slot.kept = KeptCard.from_bytes(result)
            except ValueError as error:
                self._observer.event("card_data.unreadable", payment=slot.payment.payment_id, error=str(error))
            then(slot.kept)

        self._security.open_sealed(_context(slot.payment.payment_id), slot.sealed, opened)

    def _add_mac(self, slot: Slot, frame: bytes, then: Callable[[], None]) -> None:
        session = slot.session
        if session is None:
            then()  # this attempt is not sent; the next one may have its terminal
            return
        if session.mac_key is None or session.must_sign_on:
            # A reversal cannot wait for the kiosk to sign on. The kiosk hears A0 next and asks for these keys.
            self._sessions.sign_on(session, lambda error: None)
        if session.mac_key is None:
            then()
            return
        slot.key_epoch = session.terminal.key_epoch
        made = partial(self._mac_made, slot, frame, then)
        self._security.make_mac(session.mac_key, session.mac_algorithm, mab(frame), made)

    def _mac_made(self, slot: Slot, frame: bytes, then: Callable[[], None], mac: bytes | SecurityError) -> None:
        if type(mac) is bytes:
            slot.ready = Ready(with_mac(frame, mac))
        else:
            assert isinstance(mac, SecurityError)
            self._observer.event("mac.failed", error=mac.detail)
        then()

    def _carry_out(self, slot: Slot, effect: Effect) -> None:
        if type(effect) in _SENDING:
            self._send(slot, effect)  # type: ignore[arg-type]
        elif type(effect) is Tell:
            self._tell(slot)
        elif type(effect) is Note:
            self._note(slot, effect.kind)
        else:
            assert isinstance(effect, SignOnAgain)
            self._doubt_keys(slot)

    def _doubt_keys(self, slot: Slot) -> None:
        """The host refused the keys of this slot's frame. When a sign-on has brought newer ones meanwhile, that says
        nothing about those: to doubt them too would renew them each time that the frame is made with old ones."""
        session = slot.session
        if session is not None and session.terminal.key_epoch == slot.key_epoch:
            session.must_sign_on = True

    def _send(self, slot: Slot, effect: Sending) -> None:
        payment = slot.payment
        now = self._clock.now()
        ready, slot.ready = slot.ready, None
        sent = False
        if type(effect) is SendReversal and ready is not None and not self.lanes.take(payment.terminal_id, slot):
            # Another one of this terminal is outstanding; looked at again by then even if nobody tells us.
            payment.leg_deadline, payment.leg_input = now + self._times.card_s, _IN_RETRY_DUE
            return
        # Our lease is looked at in the step that writes: another worker may have taken the payment while we slept.
        if ready is not None and self._journal.may_send:
            if type(effect) is SendPost or type(effect) is SendStatus or type(effect) is SendCancel:
                if slot.request_id:
                    self._marketing_link.forget(slot.request_id)  # given up for this one, and perhaps never answered
                slot.request_id = ready.request_id
                sent = self._marketing_link.call(
                    ready.request_id, ready.frame, partial(self._bill_answered, slot, effect, ready.request_id), slot
                )
            elif type(effect) is SendPurchase and now > payment.started_at + self._times.card_s:
                # The commit took so long that the customer has given up (row 7): not one byte has left.
                sent = False
            else:
                sent = self._card_link.send(ready.frame, slot)
        if sent:
            slot.outstanding = effect
            slot.leg_started_at = now
            payment.written(effect, now)
            if type(effect) is SendPurchase:
                payment.card = None  # tracks, PIN block and chip data are needed no more, not even in memory
            return
        if isinstance(effect, SendReversal):
            self._free_lane(slot)
        slot.request_id = 0
        given = _IN_CARD_UNSENT if isinstance(effect, SendPurchase) else SILENT[type(effect)]
        # Behind whatever waits already, and never in the middle of this list of effects.
        slot.inbox.insert(0, (given, Facts(reason="not_sent")))

    def _note(self, slot: Slot, kind: str) -> None:
        payment = slot.payment
        if kind == "late":
            self._observer.count("switch_late_responses_total")
        elif kind == "late_after_final":
            self._observer.count("switch_late_after_final_total")
            self._observer.event("payment.late_after_final", payment=payment.payment_id, state=payment.state)
        else:
            self._observer.count("switch_duplicates_total", ("host",))
        detail = f"payment {payment.payment_id} in {payment.state}"
        self._journal.note(Stray(self._card_link.name, kind, slot.stan_key, detail, self._clock.wall_us()))

    # -------------------------------------------------------------------------------------------- time
    def _schedule(self, slot: Slot) -> None:
        deadline = slot.payment.deadline
        if deadline >= slot.timer_at:
            return  # the timer that is set comes first and will look again
        if slot.timer is not None:
            slot.timer.cancel()
        slot.timer_at = deadline
        slot.timer = self._timers.at(deadline, partial(self._due, slot))

    def _due(self, slot: Slot) -> None:
        slot.timer, slot.timer_at = None, NEVER
        if slot.busy:
            return  # the end of the running step schedules again
        payment = slot.payment
        now = self._clock.now()
        given = payment.due(now)
        if given is None:
            self._schedule(slot)
            return
        waits = self.lanes.is_waiting(payment.terminal_id, slot)
        if given is _IN_RETRY_DUE and (waits or not self._leg_is_up(payment)):
            # Not a step: it would only fill the journal while the link is away.
            payment.leg_deadline, payment.leg_input = now + self._times.bill_backoff_s[-1], _IN_RETRY_DUE
            self._schedule(slot)
            return
        if given in (_IN_CARD_SILENT, _IN_REVERSAL_UNCLEAR, _IN_BILL_UNCLEAR, _IN_CANCEL_UNCLEAR):
            if slot.outstanding is not None:
                to_card = isinstance(slot.outstanding, _TO_CARD)
                (self._card_link if to_card else self._marketing_link).heard_of(silent=True)
            self._marketing_link.forget(slot.request_id)
            slot.request_id = 0
            slot.outstanding = None
            self._free_lane(slot)
        self._step(slot, given, Facts(reason="silent"))

    def _leg_is_up(self, payment: Payment) -> bool:
        if payment.state is _REVERSAL_PENDING:
            return self._card_link.is_up
        return self._marketing_link.is_up

    # -------------------------------------------------------------------------------------------- answers: card
    def card_answered(self, answer: CardAnswer, tries: int = 0) -> None:
        """Args: tries: How often the security module could not judge this answer."""
        slot = self._by_stan.get(f"{answer.terminal_id}|{answer.batch_number}|{answer.stan}")
        if slot is None or slot.session is None:
            detail = f"no payment in memory waits for {answer.kind}, response code {answer.response_code}"
            self._card_link.stray("foreign", answer.key, detail)
            self._observer.count("switch_strays_total")
            return
        session = slot.session
        if answer.mac is None or session.mac_key is None:
            self._card_checked(slot, answer, None)
            return
        checked = partial(self._mac_checked, slot, session, answer, tries)
        self._security.verify_mac(session.mac_key, session.mac_algorithm, answer.mab, answer.mac, checked)

    def _mac_checked(
        self, slot: Slot, session: TerminalSession, answer: CardAnswer, tries: int, good: bool | SecurityError
    ) -> None:
        if good is True:
            self._card_checked(slot, answer, True)
        elif isinstance(good, SecurityError) and good.code in NOT_NOW and tries < limits.SECURITY_AGAIN_MAX:
            # Nothing is known about the answer. Should it take too long, the purchase's own deadline reverses it.
            self._observer.event("mac.unjudged", link=self._card_link.name, error=good.detail)
            self._timers.after(limits.SECURITY_AGAIN_S, partial(self.card_answered, answer, tries + 1))
        elif (old_key := self._sessions.old_mac_key(session)) is not None:
            # Keys rolled over while this answer was under way.
            assert answer.mac is not None
            self._security.verify_mac(
                old_key,
                session.mac_algorithm,
                answer.mab,
                answer.mac,
                lambda old: self._card_checked(slot, answer, old is True),
            )
        else:
            self._card_checked(slot, answer, False)

    def _card_checked(self, slot: Slot, answer: CardAnswer, mac_good: bool | None) -> None:
        payment = slot.payment
        code = answer.response_code
        if mac_good is False:
            self._observer.count("switch_mac_failures_total", (self._card_link.name,))
        facts = Facts(
            response_code=code,
            rrn=answer.rrn,
            settlement_date=answer.settlement_date,
            authorization_code=answer.authorization_code,
        )
        self._card_link.heard_of(silent=False)
        if type(slot.outstanding) is (SendPurchase if answer.kind == "purchase" else SendReversal):
            slot.outstanding = None
            self._free_lane(slot)
            self._observer.observe("switch_leg_seconds", self._clock.now() - slot.leg_started_at, ("card",))
        if answer.kind == "reversal":
            given = self._codes.reversal_proves(code, mac_good=mac_good)
            self._observer.count("switch_reversals_total", (payment.reversal_reason, code if mac_good else "mac"))
            if code in self._codes.stop_lane:
                self._observer.event("reversal.refused", response_code=code, payment=payment.payment_id)
                self._doubt_keys(slot)
            self._give(slot, given, facts)
            return
        given = self._codes.purchase_proves(
            code,
            mac_good=mac_good,
            same_amount=answer.amount == payment.amount,
            unmacced_decline_reverses=self._unmacced_decline_reverses,
        )
        if given is _IN_CARD_APPROVED and payment.account == self._test_account:
            # Money for the test account never stays: as an approval that we cannot take, it is given back (row 4p).
            given = _IN_CARD_PARTIAL
        facts.approved = self._codes.says_charged(code)
        if mac_good:
            facts.icc_data = answer.icc_data
        if code in self._codes.flagged:
            facts.flagged = True
        if code in self._codes.sign_on_again:
            self._doubt_keys(slot)
        self._give(slot, given, facts)

    def _card_link_lost(self, wire: Wire) -> None:
        unsent = {id(token) for token in wire.unflushed}
        call_each(self._observer, [partial(self._leg_lost, slot, id(slot) in unsent) for slot in self._open.values()])

    def _card_frame_lost(self, token: object, unsent: bool) -> None:
        """Of a link with a connection per transaction: that of this slot is gone."""
        if isinstance(token, Slot) and self._open.get(token.payment.payment_id) is token:
            self._leg_lost(token, unsent)

    def _leg_lost(self, slot: Slot, unsent: bool) -> None:
        state = slot.payment.state
        if slot.busy and slot.outstanding is None:
            return  # its frame waits for a commit and will find the link down
        if state is _CARD_PENDING and isinstance(slot.outstanding, SendPurchase):
            slot.outstanding = None
            given = _IN_CARD_UNSENT if unsent else _IN_CARD_SILENT
            self._give(slot, given, Facts(reason="link_lost"))
        elif state is _REVERSAL_PENDING and isinstance(slot.outstanding, SendReversal):
            slot.outstanding = None
            self._free_lane(slot)
            self._give(slot, _IN_REVERSAL_UNCLEAR, Facts(reason="link_lost"))

    # -------------------------------------------------------------------------------------------- answers: bill
    def _bill_answered(
        self, slot: Slot, effect: SendPost | SendStatus | SendCancel, request_id: int, answer: MarketingAnswer | None
    ) -> None:
        if slot.request_id != request_id:
            return  # given up meanwhile
        slot.request_id = 0
        slot.outstanding = None
        facts = Facts(reason="" if answer is not None else "link_lost")
        given = SILENT[type(effect)]
        if answer is not None:
            self._marketing_link.heard_of(silent=False)
            self._observer.observe("switch_leg_seconds", self._clock.now() - slot.leg_started_at, ("bill",))
            facts.response_code = answer.code
            if type(effect) is SendPost:
                facts.doubtful = self._marketing_dialect.is_doubtful(answer, effect.posting)
            try:
                given = self._bill_meaning(effect, answer, effect.posting, slot.payment.account)
            except BadRequestError as error:
                self._observer.count("switch_bad_frames_total", (self._marketing_link.name, error.code))
                self._observer.event("answer.bad_record", link=self._marketing_link.name, error=error.detail)
        self._give(slot, given, facts)

    def _bill_meaning(self, effect: Effect, answer: MarketingAnswer, posting: Posting, account: str) -> Input:
        if type(effect) is SendPost:
            return self._marketing_dialect.posted(answer, posting, account)
        if isinstance(effect, SendStatus):
            return self._marketing_dialect.stated(answer, posting, account)
        assert isinstance(effect, SendCancel)
        return self._marketing_dialect.cancelled(answer, posting, undo=effect.undo)


def request_digest(account: str, receivables: tuple[str, ...], amount: int, card_token: str) -> str:
    """What makes a repeat the same request: equal key and equal digest, or it is refused."""
    content = orjson.dumps([account, sorted(receivables), amount, card_token])
    digest = _SHA256.copy()
    digest.update(content)
    return digest.hexdigest()[:32]


def _context(payment_id: int, part: bytes = b"") -> bytes:
    """What a ciphertext is bound to: one of another payment, or of another part of it, cannot be opened."""
    return payment_id.to_bytes(8, "big") + part


def make_slot(payment: Payment, session: TerminalSession | None, **more: Any) -> Slot:
    terminal_id = payment.terminal_id
    kiosk_key = f"{terminal_id}|{payment.kiosk_date}|{payment.kiosk_serial}"
    return Slot(payment, session, kiosk_key, f"{terminal_id}|{payment.batch_number}|{payment.stan}", **more)


def _bill_keys(payment: Payment) -> list[str]:
    return [f"{payment.account}|{posting.receivable}" for posting in payment.postings]
