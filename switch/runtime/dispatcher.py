# cython: annotation_typing=False, binding=False
"""What kiosks ask for: frame, terminal, MAC, then the business. One method per step, no coroutine.

Whatever is refused is refused before the card, with a stable code. A repeated request joins the payment it repeats.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from itertools import count

from switch import limits
from switch.dialects.kiosk import FormatError, KioskDialect, LocalTime, ReplyTo
from switch.dialects.marketing import MarketingAnswer, MarketingDialect
from switch.dialects.unionpay import PURCHASE_60, mab, with_mac
from switch.errors import NOT_NOW, BadRequestError, SecurityError, SwitchError, UnavailableError
from switch.limits import TimeProfile
from switch.machines import days
from switch.machines.door import Caller, Door, Wrong
from switch.machines.payment import IN_PROGRESS, HostProfile, Payment
from switch.model.batch import BatchStanding
from switch.model.ebill import EBill
from switch.model.payment import PAYMENT_ID_TIME_SHIFT, Card, Posting, Quote, Receivable, StoredPayment
from switch.model.request import (
    BalanceInquiry,
    BatchRequest,
    BatchSettlement,
    BatchUpload,
    BatchUploadEnd,
    BillInquiry,
    ChipResult,
    Download,
    EBillInquiry,
    EchoTest,
    KioskReversal,
    PaymentRequest,
    Request,
    ResultInquiry,
    SignOff,
    SignOn,
    SlipInquiry,
)
from switch.model.secret import ChipData
from switch.net import tcp
from switch.ports import Claim, ClaimKind, Clock, Closed, Found, Journal, Observer, SecurityModule, Terminal, Wire
from switch.runtime.balance import Balances
from switch.runtime.batch import Batches
from switch.runtime.calls import call_each
from switch.runtime.downloads import Downloads
from switch.runtime.ebill import EBills
from switch.runtime.lines import Lines
from switch.runtime.links import CardLink, MarketingLink
from switch.runtime.payments import Payments, Waiter, make_slot, request_digest
from switch.runtime.pressure import Pressure
from switch.runtime.scripts import Scripts
from switch.runtime.settlement import CardSettlement
from switch.runtime.terminals import TerminalSession, TerminalSessions
from switch.runtime.timers import Timers

PEER = "kiosk"
MAINTENANCE = "maintenance"  # reasons for which a terminal is out of service, and soon back, begin so
# With one of these the keys are in doubt or nobody's: the answer carries no MAC.
_WITHOUT_MAC = frozenset(
    {
        "unknown_terminal",
        "out_of_service",
        "maintenance",
        "sign_on_first",
        "keys_wrong",
        "mac_wrong",
        "terminal_stopped",
        "format",
    }
)


# Asked with type(): of a Struct, isinstance costs as much as a call.
_ASKING = frozenset({ResultInquiry, SlipInquiry, KioskReversal, ChipResult})
_BATCHES = frozenset({BatchSettlement, BatchUpload, BatchUploadEnd})
_ONLY_ASKING = frozenset({BillInquiry, EBillInquiry, BalanceInquiry, Download, *_BATCHES})
_GREETINGS = (SignOn, SignOff, EchoTest)
_PAYING_FOR_TEST = frozenset({"test_query", "test_reversal"})
_ASKING_FOR_TEST = _PAYING_FOR_TEST | {"mac_echo"}
_COMING = _ASKING_FOR_TEST | {"keys", "sign_on"}
_NOT_PAID = frozenset({"declined", "not_charged", "returned"})


class PaymentIds:
    """64-bit, time-ordered: 41 bits milliseconds, 10 bits of the worker's epoch, 12 bits counter."""

    def __init__(self, clock: Clock, epoch: int) -> None:
        self._clock = clock
        self._epoch = epoch & 0x3FF
        self._last = 0

    def next(self) -> int:
        candidate = (self._clock.wall_us() // 1000) << PAYMENT_ID_TIME_SHIFT | self._epoch << 12
        # A clock that jumps back must not give an id twice.
        self._last = candidate if candidate > self._last else self._last + 1
        return self._last


class Intake:
    """A payment request on its way to become a payment, for all copies of it that come meanwhile."""

    __slots__ = ("asked_at", "caller", "digest", "quote", "request", "rows", "session", "token", "waiters")

    def __init__(
        self,
        request: PaymentRequest,
        session: TerminalSession,
        caller: Caller,
        token: str,
        digest: str,
        asked_at: float,
        waiters: list[Waiter],
    ) -> None:
        self.request = request
        self.session = session
        self.caller = caller  # the connection of the first copy
        self.token = token
        self.digest = digest
        self.asked_at = asked_at  # monotonic: the customer's patience counts from here
        self.quote: Quote | None = None
        self.rows: list[Receivable] = []
        self.waiters = waiters  # one per copy


class Dispatcher:
    """``WireHandler`` of the kiosks' listener."""

    def __init__(
        self,
        *,
        dialect: KioskDialect,
        marketing_dialect: MarketingDialect,
        door: Door,
        sessions: TerminalSessions,
        payments: Payments,
        balances: Balances,
        downloads: Downloads,
        scripts: Scripts,
        card_link: CardLink,
        marketing_link: MarketingLink,
        journal: Journal,
        pressure: Pressure,
        security: SecurityModule,
        times: TimeProfile,
        profile: HostProfile,
        cut_over_minute: int,
        day_close_minute: int | None,
        reversal_first_s: float,
        prepay_max_fen: int,
        prepay_while_owing: bool,
        test_account: str = "",
        ids: PaymentIds,
        clock: Clock,
        timers: Timers,
        observer: Observer,
        batches: Batches | None = None,
        settlement: CardSettlement | None = None,
    ) -> None:
        self._dialect = dialect
        self._marketing_dialect = marketing_dialect
        self._door = door
        self._sessions = sessions
        self._payments = payments
        self._balances = balances
        self._batches = batches
        self._settlement = settlement
        self._e_bills = EBills(
            link=marketing_link,
            dialect=marketing_dialect,
            times=times,
            clock=clock,
            timers=timers,
            observer=observer,
        )
        self._downloads = downloads
        self._scripts = scripts
        self._lines = Lines(timers, observer, times.kiosk_s)
        self._card_link = card_link
        self._marketing_link = marketing_link
        self._journal = journal
        self._pressure = pressure
        pressure.in_progress = self._in_progress
        self._security = security
        self._times = times
        self._profile = profile
        self._cut_over_minute = cut_over_minute
        self._day_close_minute = day_close_minute
        self._reversal_first_s = reversal_first_s
        self._prepay_max_fen = prepay_max_fen
        self._prepay_while_owing = prepay_while_owing
        self._test_account = test_account
        self._ids = ids
        self._clock = clock
        self._timers = timers
        self._observer = observer
        self._quotes: OrderedDict[str, Quote] = OrderedDict()
        self._prepaid: OrderedDict[tuple[str, int], float] = OrderedDict()  # account and fen of recent ones, and when
        self._intakes: dict[str, Intake] = {}  # by kiosk key, until it is a payment or refused
        self._quote_numbers = count(1)
        self._inquiries = 0
        self._time = (0, LocalTime("000000", "0101"))
        self._cut_over_us = 0  # wall clock of the card network's next change of day
        self._near: tuple[int, frozenset[str]] = (0, frozenset())  # the hour, and the dates that new business may carry
        self._callers: dict[Wire, Caller] = {}  # of connections that sent something
        self.draining = False

    def _in_progress(self) -> int:
        return self._inquiries + len(self._intakes) + self._payments.open_count

    # -------------------------------------------------------------------------------------------- wires
    def frame_received(self, wire: Wire, frame: bytes) -> None:
        caller = self._callers.get(wire) or self._caller(wire)
        if self._pressure.overloaded and self._pressure.is_full:
            refusal = self._dialect.too_much(frame, self._now())
            if refusal is not None:
                self._observer.count("switch_admission_rejects_total", ("overload",))
                self._send(wire, refusal)
                wire.rest(limits.OVERLOAD_REST_S)
                return
        try:
            request = self._dialect.read(frame)
        except FormatError as error:
            if not self._may_speak_for(wire, caller, error.reply.fields.get(41, wire.terminal_id), error.reply):
                return
            self._observer.count("switch_bad_frames_total", (PEER, error.code))
            if self._tolerated(wire, caller):
                self._observer.event("request.refused", peer=wire.peer, code=error.code, error=error.detail)
                refusal = self._dialect.refusal(error.reply, "format", self._now(), text=error.detail, mac=False)
                self._send(wire, refusal)
            return
        except BadRequestError as error:
            # Nobody can be answered, and what follows on this line is not to be trusted either.
            self._observer.count("switch_bad_frames_total", (PEER, error.code))
            if self._tolerated(wire, caller):
                self._observer.event("frame.unreadable", peer=wire.peer, error=error.detail, size=len(frame))
                wire.close("unreadable frame")
            return
        assert type(request.reply) is ReplyTo
        if wire.terminal_id and not self._may_speak_for(wire, caller, request.terminal_id, request.reply):
            return
        if type(request) in _GREETINGS and not self._door.greeting(caller, self._clock.now()):
            self._refuse(wire, request.reply, None, "too_fast")
            self._hang_up(wire, "greetings")
            return
        self._sessions.get(request.terminal_id, partial(self._with_session, wire, caller, request))

    def _may_speak_for(self, wire: Wire, caller: Caller, terminal_id: object, reply: ReplyTo) -> bool:
        """False, with an answer and the end of the line, for a terminal that certificate or line do not name."""
        if not wire.terminal_id or wire.terminal_id == terminal_id:
            return True
        # A stolen certificate, or a kiosk with another one's: nothing of its request is looked at.
        self._observer.count("switch_wrong_terminal_total")
        if self._tolerated(wire, caller):
            self._observer.event("kiosk.wrong_terminal", peer=wire.peer, named=wire.terminal_id, asked=terminal_id)
            self._send(wire, self._dialect.refusal(reply, "wrong_certificate", self._now(), mac=False))
            wire.close("another terminal than its certificate or line names")
        return False

    def wire_lost(self, wire: Wire, reason: str) -> None:
        """Payments of this kiosk run on; it asks for the result when it is back."""
        self._callers.pop(wire, None)
        self._lines.lost(wire)

    def loud(self, wire: Wire) -> bool:
        """Whether one more fault of this wire's source may be answered and logged."""
        return self._door.fault(self._caller(wire), self._clock.now())

    def has_line(self, terminal_id: str) -> bool:
        """A connection is this terminal's own: it signed on there, and proved its keys."""
        return self._lines.has(terminal_id)

    @property
    def stopped_terminals(self) -> list[str]:
        return self._door.stopped

    def _caller(self, wire: Wire) -> Caller:
        caller = self._callers.get(wire)
        if caller is None:
            caller = self._callers[wire] = Caller(tcp.source(wire.peer))
        return caller

    def _tolerated(self, wire: Wire, caller: Caller) -> bool:
        """One more wrong frame of a source. False: it has had its answers, and this connection is closed."""
        if self._door.fault(caller, self._clock.now()):
            return True
        self._hang_up(wire, "faults")
        return False

    def _hang_up(self, wire: Wire, what: str) -> None:
        self._observer.count("switch_rate_limited_total", (what,))
        wire.close(f"too many: {what}")

    def _with_session(
        self, wire: Wire, caller: Caller, request: Request, session: TerminalSession | SwitchError | None
    ) -> None:
        if isinstance(session, SwitchError):
            code = "internal" if isinstance(session, SecurityError) else "busy"
            self._refuse(wire, request.reply, None, code)
            return
        terminal = None if session is None else session.terminal
        if session is not None and session.wishes:
            _pass_on(session, request.reply)
        if session is None or terminal is None or terminal.merchant_id != request.merchant_id:
            if self._tolerated(wire, caller):
                self._observer.event("terminal.unknown", peer=wire.peer)
                self._refuse(wire, request.reply, None, "unknown_terminal")
            return
        session.heard_at = wire.heard_at
        if not terminal.in_service and not _still_served(terminal, request, self._test_account):
            in_hand = terminal.out_of_service_reason.startswith(MAINTENANCE)
            self._refuse(wire, request.reply, session, "maintenance" if in_hand else "out_of_service")
        elif type(request) is SignOn:
            self._sessions.sign_on(session, partial(self._signed_on, wire, caller, request, session))
        elif type(request) is SignOff:
            # It carries no MAC, so it ends nothing but this connection's own place.
            self._lines.leave(request.terminal_id, wire)
            assert type(request.reply) is ReplyTo
            self._send(wire, self._dialect.echo(request.reply, self._now(), mac=False))
        elif terminal.sign_on_fault:
            self._refuse(wire, request.reply, session, "keys_wrong")
        elif type(request) is EchoTest:
            session.echo_at = wire.heard_at
            if self._sessions.is_due(session):
                # Heard now, and not by the next customer; each terminal at its own time of day.
                self._refuse(wire, request.reply, session, "sign_on_first")
                return
            if request.mac is not None:
                self._verify(wire, caller, request, session)
                return
            assert type(request.reply) is ReplyTo
            self._send(wire, self._dialect.echo(request.reply, self._now(), mac=False))
        elif session.must_sign_on or session.kiosk_key is None or self._keys_are_old(session):
            self._refuse(wire, request.reply, session, "sign_on_first")
        else:
            self._verify(wire, caller, request, session)

    def _verify(self, wire: Wire, caller: Caller, request: Request, session: TerminalSession) -> None:
        key, algorithm = session.kiosk_mac
        assert key is not None and request.mac is not None
        self._security.verify_mac(
            key,
            algorithm,
            request.mab,
            request.mac,
            partial(self._verified, wire, caller, request, session),
        )

    def _keys_are_old(self, session: TerminalSession) -> bool:
        return self._clock.wall_us() - session.terminal.signed_on_us > limits.WORKING_KEYS_LIFE_S * 1e6

    def _signed_on(
        self, wire: Wire, caller: Caller, request: SignOn, session: TerminalSession, error: SwitchError | None
    ) -> None:
        if error is not None:
            code = "keys_wrong" if isinstance(error, SecurityError) else error.code
            code = code if code in ("keys_wrong", "busy", "card_unavailable") else "internal"
            self._refuse(wire, request.reply, None, code)
            return
        assert type(request.reply) is ReplyTo
        _pass_on(session, request.reply)  # what this sign-on brought
        terminal = session.terminal
        self._door.signed_on(terminal.terminal_id)
        caller.signed_on = terminal.terminal_id
        working_keys, network_code = session.kiosk_keys
        assert working_keys is not None
        frame = self._dialect.signed_on(
            request.reply,
            self._now(),
            batch_number=terminal.batch_number,
            working_keys=working_keys,
            network_code=network_code,
        )
        self._send(wire, frame)

    def _verified(
        self, wire: Wire, caller: Caller, request: Request, session: TerminalSession, good: bool | SecurityError
    ) -> None:
        if good is not True:
            if isinstance(good, SecurityError):
                self._unjudged(wire, request, good)
            else:
                self._doubt_mac(wire, caller, request, session)
            return
        terminal_id, kind = request.terminal_id, type(request)
        if caller.signed_on == terminal_id:
            caller.signed_on = ""
            self._lines.take(terminal_id, wire)
        if self._door.right_mac(caller, terminal_id):
            self._observer.event("terminal.resumed", terminal=terminal_id)
            self._observer.gauge("switch_terminals_stopped", len(self._door.stopped))
        if not self._door.request(caller, terminal_id, self._clock.now()):
            # Of a payment nothing untrue may be said: "unknown" makes the kiosk ask, later.
            code = "too_fast" if kind in _ONLY_ASKING else "result_unknown"
            self._refuse(wire, request.reply, session, code)
            self._hang_up(wire, "requests")
        elif kind in _ASKING:
            assert isinstance(request, ResultInquiry)
            self._result(wire, request, session)
        elif type(request) is EchoTest:
            self._echo(wire, request, session)
        elif self._door.is_stopped(terminal_id):
            self._refuse(wire, request.reply, session, "terminal_stopped")
        elif self._lines.is_replaced(terminal_id, wire):
            self._refuse(wire, request.reply, session, "signed_on_elsewhere")
        elif type(request) is BalanceInquiry:
            self._balance(wire, caller, request, session)
        elif type(request) is BillInquiry:
            self._inquire(wire, caller, request, session)
        elif type(request) is EBillInquiry:
            self._e_bill(wire, caller, request, session)
        elif kind in _BATCHES:
            assert isinstance(request, BatchRequest)
            self._batch(wire, caller, request, session)
        elif type(request) is Download:
            self._download(wire, request, session)
        elif type(request) is PaymentRequest:
            self._pay(wire, caller, request, session)

    # -------------------------------------------------------------------------------------------- wrong MACs
    def _doubt_mac(self, wire: Wire, caller: Caller, request: Request, session: TerminalSession) -> None:
        """A kiosk that has not heard of its new keys yet is told so, and no more: its PIN block is old, too."""
        old = self._sessions.old_kiosk_key(session)
        if old is None:
            self._mac_wrong(wire, caller, request)
            return

        def verified(good: bool | SecurityError) -> None:
            if isinstance(good, SecurityError):
                self._unjudged(wire, request, good)
            elif good:
                self._refuse(wire, request.reply, None, "mac_wrong")
            else:
                self._mac_wrong(wire, caller, request)

        assert request.mac is not None
        self._security.verify_mac(old, session.kiosk_algorithm, request.mab, request.mac, verified)

    def _unjudged(self, wire: Wire, request: Request, error: SecurityError) -> None:
        """The module could not judge it: nothing is known about this kiosk, good or bad. Without a MAC, as the request
        may repeat one that was charged."""
        self._observer.event("mac.unjudged", peer=wire.peer, error=error.detail)
        self._refuse(wire, request.reply, None, "busy")

    def _mac_wrong(self, wire: Wire, caller: Caller, request: Request) -> None:
        terminal_id = request.terminal_id
        self._observer.count("switch_mac_failures_total", (PEER,))
        outcome = self._door.wrong_mac(caller, terminal_id)
        # Told in any case: it may be a kiosk that has not heard of its new keys.
        self._refuse(wire, request.reply, None, "mac_wrong")
        loud = self._tolerated(wire, caller)
        if outcome is Wrong.STOP:
            self._observer.event("terminal.stopped", terminal=terminal_id, peer=wire.peer, wrong_macs=caller.wrong)
            self._observer.gauge("switch_terminals_stopped", len(self._door.stopped))
        elif outcome is Wrong.HANG_UP and loud:
            self._observer.event("kiosk.macs_wrong", terminal=terminal_id, peer=wire.peer, wrong_macs=caller.wrong)
        if outcome is not Wrong.ANSWER:
            wire.close("wrong MACs in a row")

    def _echo(self, wire: Wire, request: Request, session: TerminalSession) -> None:
        """An echo test with a good MAC. While its terminal comes into service, it goes on to the card network."""
        reply = request.reply
        assert type(reply) is ReplyTo

        def echoed(error: SwitchError | None) -> None:
            if error is not None:
                self._refuse(wire, reply, session, error.code if error.code == "busy" else "card_unavailable")
            else:
                self._answer(wire, session, self._dialect.echo(reply, self._now(), mac=True))

        if session.terminal.stage == "sign_on":
            self._sessions.prove_echo(session, echoed)
        else:
            echoed(None)

    # -------------------------------------------------------------------------------------------- bill inquiry
    def _inquire(self, wire: Wire, caller: Caller, request: BillInquiry, session: TerminalSession) -> None:
        reply = request.reply
        assert type(reply) is ReplyTo
        if request.date not in self._dates():
            # Its payment would be refused: better said before the customer has found his card.
            self._refuse(wire, reply, session, "stale_date")
            return
        if not self._door.inquiry(caller, request.terminal_id, self._clock.now()):
            self._observer.count("switch_rate_limited_total", ("inquiries",))
            self._refuse(wire, reply, session, "too_fast")
            return
        quoted = partial(self._quoted, wire, reply, session, request.terminal_id)
        is_test = session.terminal.stage == "mac_echo" and request.account == self._test_account
        self._quote(request.account, partial(self._proved, session, quoted) if is_test else quoted)

    def _proved(self, session: TerminalSession, quoted: Callable[[Quote | str], None], quote: Quote | str) -> None:
        """Answered first, told afterwards: a kiosk that has heard it has passed the gate."""
        if type(quote) is Quote or quote == "no_arrears":
            self._sessions.prove_query(session, lambda _: quoted(quote))
        else:
            quoted(quote)

    def _quoted(
        self, wire: Wire, reply: ReplyTo, session: TerminalSession, terminal_id: str, quote: Quote | str
    ) -> None:
        if type(quote) is Quote:
            # Better said now than when the card is in.
            closed = self._why_closed(terminal_id) or ""
            self._answer(wire, session, self._dialect.quote(reply, quote, self._now(), closed=closed))
        else:
            assert isinstance(quote, str)
            self._refuse(wire, reply, session, quote)

    def _e_bill(self, wire: Wire, caller: Caller, request: EBillInquiry, session: TerminalSession) -> None:
        reply, account = request.reply, request.account
        assert type(reply) is ReplyTo
        reason = "stale_date" if request.date not in self._dates() else "busy" if self.draining else None
        if reason is None and not self._door.inquiry(caller, request.terminal_id, self._clock.now()):
            self._observer.count("switch_rate_limited_total", ("inquiries",))
            reason = "too_fast"
        if reason is not None:
            self._refuse(wire, reply, session, reason)
            return

        def told(code: str, found: list[EBill], older: str) -> None:
            if code == "found":
                self._answer(wire, session, self._dialect.e_bills(reply, account, found, older, self._now()))
            else:
                self._refuse(wire, reply, session, code)

        self._e_bills.inquire(request, told)

    def _batch(self, wire: Wire, caller: Caller, request: BatchRequest, session: TerminalSession) -> None:
        """A kiosk settles its day: compared, remembered, reported. No payment is changed by it."""
        reply = request.reply
        assert type(reply) is ReplyTo
        reason = None
        if type(request) is not BatchUpload and not self._door.inquiry(caller, request.terminal_id, self._clock.now()):
            self._observer.count("switch_rate_limited_total", ("inquiries",))
            reason = "too_fast"
        if self._batches is None:
            reason = "busy"
        if reason is not None:
            self._refuse(wire, reply, session, reason)
            return

        def told(standing: BatchStanding | str) -> None:
            if isinstance(standing, str):
                self._refuse(wire, reply, session, standing)
            else:
                number = session.terminal.batch_number
                self._answer(wire, session, self._dialect.batch(reply, standing, number, self._now()))

        assert self._batches is not None
        self._batches.obey(request, told)

    def _balance(self, wire: Wire, caller: Caller, request: BalanceInquiry, session: TerminalSession) -> None:
        reply = request.reply
        assert isinstance(reply, ReplyTo)
        reason = "stale_date" if request.date not in self._dates() else self._card_closed(request.terminal_id)
        if reason is None and not self._door.inquiry(caller, request.terminal_id, self._clock.now()):
            self._observer.count("switch_rate_limited_total", ("inquiries",))
            reason = "too_fast"
        if reason is not None:
            self._refuse(wire, reply, session, reason)
            return

        def told(code: str, response_code: str, balance: str, icc_data: ChipData | None) -> None:
            if code == "found":
                self._answer(wire, session, self._dialect.balance(reply, balance, self._now(), icc_data))
            elif code == "declined":
                self._answer(wire, session, self._dialect.declined(reply, response_code, self._now(), icc_data))
            else:
                self._refuse(wire, reply, session, code)

        self._balances.inquire(request, session, told)

    def _download(self, wire: Wire, request: Download, session: TerminalSession) -> None:
        reply = request.reply
        assert isinstance(reply, ReplyTo)

        def told(code: str, response_code: str, data: bytes) -> None:
            _pass_on(session, reply)  # its last message fulfils what was asked for
            if code == "found":
                self._answer(wire, session, self._dialect.download(reply, data, self._now()))
            elif code == "declined":
                self._answer(wire, session, self._dialect.declined(reply, response_code, self._now()))
            else:
                self._refuse(wire, reply, session, code)

        if self._card_link.is_usable:
            self._downloads.relay(request, session, told)
        else:
            told("card_unavailable", "", b"")

    def _quote(self, account: str, done: Callable[[Quote | str], None]) -> None:
        """Ask the marketing system what the account owes; ``done`` gets the quote or the code of a refusal."""
        if self.draining or not self._journal.accepting or self._inquiries >= limits.INQUIRIES_MAX:
            self._observer.count("switch_admission_rejects_total", ("inquiry",))
            done("busy")
            return
        link = self._marketing_link
        request_id = link.next_id()

        def answered(answer: MarketingAnswer | None) -> None:
            self._inquiries -= 1
            timer.cancel()
            if answer is not None:
                link.heard_of(silent=False)
            self._observer.observe("switch_leg_seconds", self._clock.now() - asked_at, ("inquiry",))
            done("bill_unavailable" if answer is None else self._read_quote(account, answer))

        def silent() -> None:
            link.heard_of(silent=True)
            link.forget(request_id)
            answered(None)

        try:
            frame = self._marketing_dialect.inquiry(request_id, account)
        except BadRequestError as error:
            self._observer.event("frame.unbuildable", level="error", error=error.detail)
            done("bill_unavailable")
            return
        asked_at = self._clock.now()
        timer = self._timers.after(self._times.post_s, silent)
        self._inquiries += 1
        if not link.call(request_id, frame, answered):
            answered(None)

    def _read_quote(self, account: str, answer: MarketingAnswer) -> Quote | str:
        dialect = self._marketing_dialect
        outcome = dialect.outcome("inquiry", answer.code)
        if outcome != "found":
            return outcome
        try:
            dialect.check("inquiry", answer)
            rows = dialect.rows(answer)
        except BadRequestError as error:
            self._observer.event("answer.bad_record", link=self._marketing_link.name, error=error.detail)
            return "bill_unavailable"
        data = answer.data
        self._marketing_link.heard_day(data["day"])
        if data["account"] != account:
            self._observer.event("answer.bad_record", link=self._marketing_link.name, error="inquiry.account: another")
            return "bill_unavailable"
        if not rows:
            return "no_arrears"
        quote = Quote(
            quote=f"{self._ids.next():x}"[-12:] + f"{next(self._quote_numbers) % 4096:03x}",
            account=account,
            name=data["name"],
            address=data["address"],
            rows=rows,
            marketing_day=data["day"],
            fetched_at=self._clock.now(),
            advance_balance=data["advance_balance"],
            partial_allowed=data["partial_allowed"],
        )
        self._quotes[quote.quote] = quote
        while len(self._quotes) > limits.QUOTES_MAX:
            self._quotes.popitem(last=False)
        return quote

    def speak(self, dialect: MarketingDialect) -> None:
        """From now on this one towards the marketing system."""
        self._marketing_dialect = dialect
        self._e_bills.speak(dialect)

    def _known_quote(self, request: PaymentRequest) -> Quote | None:
        quote = self._quotes.get(request.quote)
        if quote is None or quote.account != request.account:
            return None
        too_old = self._clock.now() - quote.fetched_at > limits.QUOTE_LIFE_S
        # It dies at the marketing system's day change, because the penalty moves (C10).
        return (
            None if too_old or (self._marketing_link.day and quote.marketing_day != self._marketing_link.day) else quote
        )

    # -------------------------------------------------------------------------------------------- payment
    def _pay(self, wire: Wire, caller: Caller, request: PaymentRequest, session: TerminalSession) -> None:
        """One payment a key, from the first moment: a copy of a request joins it, wherever that stands."""
        key, token = request.kiosk_key, self._security.token(request.card.pan.reveal())
        months = request.receivables if not request.prepays else ("prepay",)
        digest = request_digest(request.account, months, request.amount, token)
        tell: Waiter = partial(self._tell, wire, request.reply, session, None)
        known = self._payments.by_kiosk_key(key)
        if known is not None:
            self._repeat(known.payment.digest == digest, known.waiters, tell, wire.peer, known.payment)
            return
        running = self._intakes.get(key)
        if running is not None:
            self._repeat(running.digest == digest, running.waiters, tell, wire.peer, None)
            return
        intake = Intake(request, session, caller, token, digest, self._clock.now(), [tell])
        self._intakes[key] = intake
        # Whatever is refused here may still be known to the journal; then that is the answer.
        reason = "stale_date" if request.date not in self._dates() else self._closed(request.terminal_id)
        if reason is None and not self._door.payment(caller, request.terminal_id, self._clock.now()):
            self._observer.count("switch_rate_limited_total", ("payments",))
            reason = "too_fast"
        if reason is not None:
            self._turn_away(intake, reason)
            return
        if request.prepays:
            self._prepay(intake)
            return
        quote = self._known_quote(request)
        if quote is not None:
            self._pay_quote(intake, quote)
            return

        def quoted(fresh: Quote | str) -> None:
            # Another worker's quote, or one from before a restart: asked again, and paid only if the sum still fits.
            if isinstance(fresh, str):
                self._turn_away(intake, fresh)
            elif sum(row.amount for row in _chosen(fresh, request)) != request.amount:
                self._turn_away(intake, "quote_expired")
            else:
                self._pay_quote(intake, fresh)

        self._quote(request.account, quoted)

    def _prepay(self, intake: Intake) -> None:
        """Money for an account: that there is such an account, and what it owes, is asked before the card."""
        if intake.request.amount > self._prepay_max_fen:
            self._turn_away(intake, "amount_limit")
        else:
            self._quote(intake.request.account, partial(self._may_prepay, intake))

    def _may_prepay(self, intake: Intake, fresh: Quote | str) -> None:
        request, now = intake.request, self._clock.now()
        if isinstance(fresh, Quote):
            if not self._prepay_while_owing:
                self._turn_away(intake, "arrears_first")
                return
            day = fresh.marketing_day
        elif fresh == "no_arrears":
            day = self._marketing_link.day
        else:
            self._turn_away(intake, fresh)
            return
        # Looked at and remembered in one step: of two taps one is asked about, however close they come.
        key = request.account, request.amount
        earlier = self._prepaid.get(key, -math.inf)
        if not request.confirmed and now - earlier < limits.PREPAY_AGAIN_S:
            self._turn_away(intake, "confirm_again")
            return
        row = Receivable("", "", request.amount, 0, request.amount)
        intake.quote = Quote("", request.account, "", "", (row,), day, now)
        intake.rows = [row]
        self._remember_prepaid(key, now)
        intake.waiters.append(partial(self._prepay_ended, key, earlier))
        self._sessions.take_stan(intake.session, partial(self._numbered, intake))

    def _remember_prepaid(self, key: tuple[str, int], at: float) -> None:
        self._prepaid[key] = at
        self._prepaid.move_to_end(key)
        if len(self._prepaid) > limits.PREPAYS_REMEMBERED_MAX:
            self._prepaid.popitem(last=False)

    def _prepay_ended(self, key: tuple[str, int], earlier: float, outcome: Payment | str) -> None:
        """Who paid nothing may try again without being asked whether he means it; what was paid before him counts."""
        if isinstance(outcome, str) or outcome.answer in _NOT_PAID:
            self._remember_prepaid(key, earlier)

    def _repeat(self, same: bool, waiters: list[Waiter], tell: Waiter, peer: str, payment: Payment | None) -> None:
        """A copy of a request that is a payment, or on its way to become one (None)."""
        self._observer.count("switch_duplicates_total", (PEER,))
        if not same:
            self._observer.event("kiosk.key_conflict", peer=peer)
            tell("key_conflict")
        elif payment is not None and payment.answer != IN_PROGRESS:
            tell(payment)
        elif len(waiters) < limits.INBOX_MAX:
            waiters.append(tell)  # it joins those who wait, and hears what they hear

    def _closed(self, terminal_id: str) -> str | None:
        """Why no new payment may begin now; None: it may. Nothing starts that is known to end badly."""
        reason = self._why_closed(terminal_id)
        if reason is not None:
            self._observer.count("switch_admission_rejects_total", (reason,))
        return reason

    def _why_closed(self, terminal_id: str) -> str | None:
        if self.draining or not self._journal.accepting or self._payments.open_count >= limits.PAYMENTS_OPEN_MAX:
            return "busy"
        if self._settlement is not None and self._settlement.is_settling(terminal_id):
            return "busy"  # its totals must stand still; it takes as long as one answer of the card network
        if not self._marketing_link.is_usable:
            return "bill_unavailable"
        return "card_unavailable" if self._before_cut_over() else self._card_closed(terminal_id)

    def _card_closed(self, terminal_id: str) -> str | None:
        """Why the card network is asked nothing new for this terminal."""
        return "card_unavailable" if not self._card_link.is_usable or self._reversal_first(terminal_id) else None

    def _reversal_first(self, terminal_id: str) -> bool:
        """A terminal sends what it has to take back before its next transaction, as card networks want it."""
        since = self._payments.lanes.oldest(terminal_id)
        return since is not None and self._clock.now() - since < self._reversal_first_s

    def _before_cut_over(self) -> bool:
        """The card network's day is about to change: a purchase that stays silent could no longer be reversed."""
        wall_us = self._clock.wall_us()
        left_us = self._cut_over_us - wall_us
        if not 0 < left_us <= days.DAY_US:  # over, or the clock was set back: the next one
            left_us = round(days.seconds_to_cut_over(wall_us, self._cut_over_minute) * 1_000_000)
            self._cut_over_us = wall_us + left_us
        return left_us < self._times.cut_over_s * 1_000_000

    def _pay_quote(self, intake: Intake, quote: Quote) -> None:
        request = intake.request
        rows = _chosen(quote, request)
        if request.receivables and len(rows) != len(request.receivables):
            self._turn_away(intake, "quote_expired")
        elif not quote.partial_allowed and len(rows) != len(quote.rows):
            self._turn_away(intake, "partial_refused")
        elif sum(row.amount for row in rows) != request.amount:
            self._turn_away(intake, "amount_mismatch")
        else:
            intake.quote, intake.rows = quote, rows
            self._sessions.take_stan(intake.session, partial(self._numbered, intake))

    def _numbered(self, intake: Intake, stan: str | None) -> None:
        # Asking the bill and fetching a number took their time: the door may have been closed, the customer gone.
        late = self._clock.now() > intake.asked_at + self._times.answer_s
        reason = "busy" if stan is None or late else self._closed(intake.request.terminal_id)
        if stan is None or reason is not None:
            self._turn_away(intake, reason or "busy")
        else:
            self._translated(intake, stan)

    def _translated(self, intake: Intake, stan: str) -> None:
        """In mode translate the PIN block goes from the kiosk's key to the acquirer's, before anything is durable."""
        side = intake.session.kiosk if intake.session.translates else None
        if side is None:
            self._begin(intake, stan, intake.request.card)
            return

        def translated(card: Card | SecurityError) -> None:
            if isinstance(card, Card):
                self._begin(intake, stan, card)
            else:
                self._observer.event("pin.untranslated", terminal=intake.request.terminal_id, error=card.detail)
                self._turn_away(intake, "busy" if card.code in NOT_NOW else "pin_wrong")

        self._sessions.translation.translate(side, intake.request.card, translated)

    def _begin(self, intake: Intake, stan: str, card: Card) -> None:
        request, session, quote = intake.request, intake.session, intake.quote
        assert quote is not None
        now, wall_us = self._clock.now(), self._clock.wall_us()
        payment_id = self._ids.next()
        batch = session.terminal.batch_number
        payment = self._payments.machine(
            payment_id=payment_id,
            opened_on=days.today(wall_us),
            terminal_id=request.terminal_id,
            merchant_id=request.merchant_id,
            kiosk_date=request.date,
            kiosk_serial=request.serial,
            digest=intake.digest,
            account=request.account,
            amount=request.amount,
            batch_number=batch,
            stan=stan,
            settlement_day=days.settlement_day(wall_us, self._cut_over_minute),
            marketing_day=quote.marketing_day,
            postings=[
                Posting(row.receivable, row.period, row.principal, row.penalty, row.amount, f"{payment_id}{n:02d}")
                for n, row in enumerate(intake.rows, 1)
            ],
            card_token=intake.token,
            card_masked=request.card.masked,
            entry_mode=request.card.entry_mode,
            original_60=f"{PURCHASE_60}{batch}000",
            times=self._times,
            profile=self._profile,
            started_at=intake.asked_at,
            cut_over_at=now + days.seconds_to_cut_over(wall_us, self._cut_over_minute),
            day_close_at=days.close_at(now, wall_us, self._day_close_minute),
            card=card,
        )
        slot = make_slot(
            payment,
            session,
            waiters=intake.waiters,
            refused=partial(self._not_begun, intake),
            began=partial(self._door.began, intake.caller, request.terminal_id),
        )
        del self._intakes[request.kiosk_key]  # from here on it is found among the payments
        self._payments.start(slot)

    def _not_begun(self, intake: Intake, why: Claim | str) -> None:
        """Nothing of the payment was written and nothing was sent."""
        self._intakes[intake.request.kiosk_key] = intake
        if isinstance(why, str):
            self._turn_away(intake, why)
        elif why.kind is ClaimKind.STAN:
            # The number is still taken from an earlier round of the same batch: the next one.
            self._sessions.take_stan(intake.session, partial(self._numbered, intake))
        elif why.kind is ClaimKind.KIOSK:
            self._find(intake.request.kiosk_key, partial(self._found, intake))
        else:
            self._turn_away(intake, "bill_locked")

    # -------------------------------------------------------------------------------------------- payment: refused
    def _turn_away(self, intake: Intake, code: str) -> None:
        """The kiosk hears ``code``, unless the journal knows the key: then this repeats what an earlier run or another
        worker has done, and "nothing was charged" would be a lie. From now on nobody can make it one: a copy of the
        request may still be under way, on another connection perhaps, or to another worker."""
        self._find(intake.request.kiosk_key, partial(self._found, intake), close=code)

    def _find(self, key: str, done: Callable[[Found | SwitchError], None], *, close: str = "") -> None:
        """The payment of a kiosk key as the journal has it. SwitchError: nobody can say now."""
        if not self._journal.accepting:
            done(UnavailableError("journal", "commits are late or the database is away"))
            return
        try:
            self._journal.find(Claim(ClaimKind.KIOSK, key), done, close=close)
        except UnavailableError as error:
            done(error)

    def _found(self, intake: Intake, found: Found | SwitchError) -> None:
        if isinstance(found, Closed):
            self._end(intake, found.code)
            return
        if not isinstance(found, StoredPayment):
            self._end(intake, "result_unknown")  # the kiosk asks for the result until somebody can say
            return
        self._observer.count("switch_duplicates_total", (PEER,))
        if found.body.get("digest") != intake.digest:
            self._observer.event("kiosk.key_conflict", terminal=intake.request.terminal_id)
            self._end(intake, "key_conflict")
        else:
            self._end(intake, self._payments.stored(found))

    def _end(self, intake: Intake, outcome: Payment | str) -> None:
        del self._intakes[intake.request.kiosk_key]
        call_each(self._observer, intake.waiters, outcome)

    # -------------------------------------------------------------------------------------------- result inquiry
    def _result(self, wire: Wire, request: ResultInquiry, session: TerminalSession) -> None:
        key = request.asked_key

        def found(stored: Found | SwitchError) -> None:
            # Looked at last: it may have begun while the journal was asked.
            known = self._payments.by_kiosk_key(key)
            outcome: Payment | str
            if isinstance(stored, Closed):
                outcome = "not_found"  # and if one is about to begin, it cannot any more
            elif known is not None:
                outcome = known.payment
            elif key in self._intakes:
                outcome = IN_PROGRESS
            elif isinstance(stored, StoredPayment):
                outcome = self._payments.stored(stored)
            else:
                # "Not found", or "busy", would be a lie that makes the customer pay again.
                outcome = "result_unknown"
            self._tell(wire, request.reply, session, request, outcome)

        known = self._payments.by_kiosk_key(key)
        if isinstance(request, ChipResult):
            self._chip_says(wire, request, session)
        elif known is not None and isinstance(request, KioskReversal):
            self._payments.take_back(known, partial(self._tell, wire, request.reply, session, request))
        elif known is not None or (key in self._intakes and not isinstance(request, KioskReversal)):
            found(None)
        else:
            # With a reversal a payment that has not begun never will.
            self._find(key, found, close="not_found")

    # -------------------------------------------------------------------------------------------- chip's last word
    def _chip_says(self, wire: Wire, request: ChipResult, session: TerminalSession) -> None:
        tell = partial(self._tell, wire, request.reply, session, request)

        def found(stored: Found | SwitchError) -> None:
            if isinstance(stored, StoredPayment):
                payment = self._payments.stored(stored)
                self._with_scripts(payment, request, tell, lambda: tell(payment))
            else:
                tell("not_found" if isinstance(stored, Closed) else "result_unknown")

        known = self._payments.by_kiosk_key(request.asked_key)
        if known is None:
            self._find(request.asked_key, found, close="not_found")
        else:
            self._with_scripts(known.payment, request, tell, lambda: self._payments.chip_says(known, request, tell))

    def _with_scripts(self, payment: Payment, request: ChipResult, tell: Waiter, then: Callable[[], None]) -> None:
        """First what the chip did with scripts is kept and sent, then its word is heard: in this order the acquirer
        wants a notice and a reversal."""
        if not request.has_scripts:
            then()
        elif request.pan is None or request.pan.masked != payment.card_masked:
            tell("key_conflict")
        else:
            self._scripts.keep(payment, request, lambda kept: then() if kept else tell("busy"))

    # -------------------------------------------------------------------------------------------- answers
    def _tell(
        self,
        wire: Wire,
        reply: object,
        session: TerminalSession,
        asked: ResultInquiry | None,
        outcome: Payment | str,
    ) -> None:
        """``reply`` and not the request: who waits must not keep the card's track in memory."""
        if type(outcome) is str:
            self._refuse(wire, reply, session, outcome)
            return
        assert isinstance(outcome, Payment)
        assert type(reply) is ReplyTo
        self._answer(wire, session, self._dialect.payment(reply, outcome, self._now(), asked=asked))

    def _refuse(self, wire: Wire, reply: object, session: TerminalSession | None, code: str) -> None:
        assert type(reply) is ReplyTo
        with_mac = session is not None and session.kiosk_key is not None and code not in _WITHOUT_MAC
        frame = self._dialect.refusal(reply, code, self._now(), mac=with_mac)
        if with_mac:
            assert session is not None
            self._answer(wire, session, frame)
        else:
            self._send(wire, frame)

    def _answer(self, wire: Wire, session: TerminalSession, frame: bytes) -> None:
        if not wire.is_open:
            return  # the kiosk hung up; it asks for the result when it is back
        key, algorithm = session.kiosk_mac
        assert key is not None
        self._security.make_mac(key, algorithm, mab(frame), partial(self._made, wire, frame))

    def _made(self, wire: Wire, frame: bytes, mac: bytes | SecurityError) -> None:
        if type(mac) is bytes:
            wire.send(with_mac(frame, mac))  # refused: as below
        else:
            assert isinstance(mac, SecurityError)
            self._observer.event("mac.failed", error=mac.detail)

    def _send(self, wire: Wire, frame: bytes) -> None:
        wire.send(frame)  # refused: the kiosk is gone or does not read; it asks for the result when it is back

    def _dates(self) -> frozenset[str]:
        """Field 13 (MMDD) of new business: today and a day about it, for clocks that are off around midnight."""
        hour = self._clock.wall_us() // 3_600_000_000
        if self._near[0] != hour:
            self._near = (hour, days.dates_around(self._clock.wall_us()))
        return self._near[1]

    def _now(self) -> LocalTime:
        """Fields 12 and 13, made once a second."""
        second = self._clock.wall_us() // 1_000_000
        if self._time[0] != second:
            moment = days.local(second * 1_000_000)
            self._time = (second, LocalTime(moment.strftime("%H%M%S"), moment.strftime("%m%d")))
        return self._time[1]


def _pass_on(session: TerminalSession, reply: object) -> None:
    """What the acquirer wants of this terminal, in the header of the answer."""
    assert isinstance(reply, ReplyTo)
    reply.pass_on(session.wish)


def _still_served(terminal: Terminal, request: Request, test_account: str) -> bool:
    """What a terminal may do that is not in service: come into it, if it has not passed its last gate yet; hear what
    became of payments that had begun; and settle its day.

    Behind its MAC echo it may ask for the test account, and behind that answer pay for it: such money never stays.
    """
    if isinstance(request, ResultInquiry | BatchRequest):
        return True
    if isinstance(request, _GREETINGS):
        return terminal.stage in _COMING
    if isinstance(request, BillInquiry):
        return terminal.stage in _ASKING_FOR_TEST and request.account == test_account
    return (
        isinstance(request, PaymentRequest) and terminal.stage in _PAYING_FOR_TEST and request.account == test_account
    )


def _chosen(quote: Quote, request: PaymentRequest) -> list[Receivable]:
    """The rows of the quote that the request names, oldest first; all of them when it names none."""
    if not request.receivables:
        return list(quote.rows)
    wanted = set(request.receivables)
    return [row for row in quote.rows if row.receivable in wanted]
