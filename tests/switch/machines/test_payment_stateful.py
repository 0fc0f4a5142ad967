"""The payment's machine against two honest hosts with books of their own, over lines that delay, lose and repeat.

Where the model check abstracts from time, this one has it: deliveries take as long as the time profile allows and no
longer, workers die, and at the end both books must say what the payment says.
"""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from switch.limits import SHORT
from switch.machines.payment import M_PAYABLE, SUSPENSE_ACCOUNT, U_RECEIVABLE, Facts, HostProfile, Payment
from switch.machines.payment_table import Input
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
from switch.model.payment import FINAL, State, StoredPayment

from .test_payment import payment

PROFILE = HostProfile(reversal_00_any=False, not_found_proves=True)
# What a payment that is read back may differ in: times are of the life of a process, card data is sealed elsewhere.
NOT_KEPT = {
    "times", "profile", "started_at", "cut_over_at", "day_close_at", "card", "link", "forward_only", "refused",
    "reversed_blind", "leg_deadline", "leg_input", "kiosk_deadline", "bill_deadline", "attempts", "changes",
    "purchase_written_at", "approved_at", "reversal_written_at", "post_written_at", "cancel_written_at",
    "status_written_at", "durable_answer", "postings", "told_pending",
}  # fmt: skip
SHARES = st.sampled_from([0.0, 0.1, 0.5, 0.95])  # of the longest time that a delivery may take


class Hosts:
    """Both hosts' own books, and what they answer."""

    def __init__(self) -> None:
        self.charged = 0
        self.purchases = 0
        self.reversed = False
        self.posted: set[str] = set()
        self.barred: set[str] = set()  # tombstones, and what was refused: never posted
        self.postings = 0

    def take(self, effect: Effect, amount: int, refuses: bool) -> tuple[Input, Facts]:
        match effect:
            case SendPurchase():
                self.purchases += 1
                if refuses:
                    return Input.CARD_DECLINED, Facts(response_code="51")
                self.charged += amount
                return Input.CARD_APPROVED, Facts(response_code="00", approved=True)
            case SendReversal():
                if self.charged:
                    self.charged, self.reversed = 0, True
                return (Input.REVERSAL_DONE if self.reversed else Input.REVERSAL_NOT_FOUND), Facts()
            case SendPost(posting):
                if refuses and posting.serial not in self.posted:
                    self.barred.add(posting.serial)
                if posting.serial in self.barred:
                    return Input.BILL_REJECTED, Facts(response_code="29")
                self.postings += posting.serial not in self.posted
                self.posted.add(posting.serial)
                return Input.BILL_POSTED, Facts(response_code="00")
            case SendStatus(posting):
                if posting.serial in self.posted:
                    return Input.BILL_POSTED, Facts()
                return (Input.BILL_REJECTED if posting.serial in self.barred else Input.BILL_ABSENT), Facts()
            case SendCancel(posting, undo):
                if posting.serial in self.posted and not undo:
                    return Input.CANCEL_POSTED, Facts()
                self.posted.discard(posting.serial)
                self.barred.add(posting.serial)
                return Input.CANCEL_DONE, Facts()
        raise AssertionError(effect)


class PaymentAndHosts(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.hosts = Hosts()
        self.lines: list[tuple[float, Effect, int]] = []  # to a host: when it arrives, what, request number
        self.answers: list[tuple[float, Input, Facts, int]] = []
        self.requests = 0
        self.waits_for = 0  # the marketing request whose answer still counts
        self.body: dict[str, Any] = {}
        self.balances = {U_RECEIVABLE: 0, SUSPENSE_ACCOUNT: 0, M_PAYABLE: 0}
        self.finals: list[State] = []
        self.delay, self.loses, self.refuses = 0.0, False, False

    @initialize(months=st.integers(1, 3), delay=SHARES, loses=st.booleans())
    def begin(self, months: int, delay: float, loses: bool) -> None:
        self.delay, self.loses = delay, loses
        self.machine: Payment = payment(months, PROFILE)
        self._give(Input.START, Facts())

    # ---- what the runtime does
    def _give(self, given: Input, facts: Facts) -> None:
        before = self.machine.state
        for effect in self.machine.step(given, facts, self.now):
            if isinstance(effect, Record):
                assert effect.state is self.machine.state
                if effect.claim:
                    self.body |= self.machine.opening_body()
                self.body |= orjson.loads(orjson.dumps(effect.changes))
                for account, debit, credit in effect.ledger:
                    self.balances[account] += debit - credit
                assert before not in FINAL, "final is final"
                if effect.state in FINAL:
                    self.finals.append(effect.state)
            elif not isinstance(effect, Tell | Note | SignOnAgain):
                self._send(effect)
            elif isinstance(effect, Note):
                assert effect.kind != "late_after_final", "an approval after 'never charged'"

    def _send(self, effect: Effect) -> None:
        self.requests += 1
        to_card = isinstance(effect, SendPurchase | SendReversal)
        if not to_card:
            self.waits_for = self.requests
        self.machine.written(effect, self.now)
        if not self.loses:
            longest = SHORT.quiet_s if to_card else SHORT.marketing_quiet_s
            self.lines.append((self.now + self.delay * longest, effect, self.requests))

    def _pass_until(self, until: float) -> None:
        """Everything that happens up to then, in its order."""
        while True:
            arrivals = [line[0] for line in self.lines] + [answer[0] for answer in self.answers]
            due = min([self.machine.deadline, *arrivals])
            if due > until:
                break
            self.now = max(self.now, due)
            if arrived := next((each for each in self.lines if each[0] <= self.now), None):
                self.lines.remove(arrived)
                given, facts = self.hosts.take(arrived[1], self.machine.amount, self.refuses)
                if not self.loses:
                    self.answers.append((self.now + self.delay * SHORT.late_s, given, facts, arrived[2]))
            elif answer := next((each for each in self.answers if each[0] <= self.now), None):
                self.answers.remove(answer)
                self._hear(*answer)
            elif (silent := self.machine.due(self.now)) is not None:
                self._give(silent, Facts(reason="silent"))
        self.now = until

    def _hear(self, at: float, given: Input, facts: Facts, number: int) -> None:
        of_card = given.value.startswith(("card", "reversal"))
        if not of_card:
            if number != self.waits_for:
                return  # given up: nobody knows this request any more
            self.waits_for = 0
        self._give(given, facts)

    # ---- what happens
    @rule(seconds=st.sampled_from([0.01, 0.3, 1.0, 2.5, 6.0]))
    def time_passes(self, seconds: float) -> None:
        self._pass_until(self.now + seconds)

    @rule(delay=SHARES, loses=st.booleans(), refuses=st.booleans())
    def the_weather_changes(self, delay: float, loses: bool, refuses: bool) -> None:
        self.delay, self.loses, self.refuses = delay, loses, refuses

    @precondition(lambda self: self.answers)
    @rule()
    def an_answer_comes_twice(self) -> None:
        at, given, facts, number = self.answers[0]
        if given in (Input.CARD_APPROVED, Input.CARD_DECLINED, Input.REVERSAL_DONE):
            self.answers.append((at, given, facts, number))

    @precondition(lambda self: self.machine.state not in FINAL)
    @rule()
    def the_worker_dies(self) -> None:
        self.machine = self._read_back()
        self.waits_for = 0
        # Its connections die with it: answers under way are lost, requests are not.
        self.answers.clear()
        if self.machine.is_recovered:
            self._give(Input.RECOVER, Facts(reason="recovered"))

    def _read_back(self) -> Payment:
        machine = self.machine
        stored = StoredPayment(machine.payment_id, machine.opened_on, machine.ver, machine.state, dict(self.body))
        return Payment.from_stored(stored, times=SHORT, profile=PROFILE, now=self.now, cut_over_at=float("inf"))

    # ---- what must hold
    @invariant()
    def the_journal_gives_back_what_is_known(self) -> None:
        if not hasattr(self, "machine"):
            return
        machine, copy = self.machine, self._read_back()
        for name in (name for name in Payment.__slots__ if name not in NOT_KEPT):
            assert getattr(copy, name) == getattr(machine, name), name
            assert type(getattr(copy, name)) is type(getattr(machine, name)), name
        assert [each.to_row() for each in copy.postings] == [each.to_row() for each in machine.postings]
        assert copy.told_pending is (self.body.get("told_pending", False) or machine.state is State.BILL_PENDING)

    @invariant()
    def books_balance_and_nothing_is_double(self) -> None:
        assert sum(self.balances.values()) == 0
        assert self.hosts.purchases <= 1 and self.hosts.postings <= 3 and len(self.finals) <= 1

    def teardown(self) -> None:
        if not hasattr(self, "machine"):
            return
        self.delay, self.loses, self.refuses = 0.1, False, False
        self._pass_until(self.now + 200.0)
        machine, hosts = self.machine, self.hosts
        assert machine.state in FINAL or machine.state is State.SUSPENSE, machine.state
        if machine.state is State.COMPLETED:
            assert hosts.charged == machine.amount
            assert hosts.posted == {posting.serial for posting in machine.postings}
        elif machine.state in FINAL:
            assert hosts.charged == 0 and not hosts.posted
        if machine.state in FINAL:
            assert self.balances[SUSPENSE_ACCOUNT] == 0


PaymentAndHosts.TestCase.settings = settings(max_examples=400, stateful_step_count=20, deadline=None)
TestPaymentAndHosts = PaymentAndHosts.TestCase
