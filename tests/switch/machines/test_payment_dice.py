"""The payment's machine against two hosts that lose, delay and refuse at random, on a virtual clock.

The seed is in the test's name; to replay one: pytest "…::test_the_books_agree_whatever_the_hosts_do[17]". This is the
small sister of the deterministic simulation: one payment, no journal, no wire.
"""

from __future__ import annotations

import heapq
import random
from itertools import count

import pytest

from switch.limits import SHORT
from switch.machines.payment import Facts, HostProfile, Payment
from switch.machines.payment_table import TABLE, Input
from switch.model.effect import (
    Effect,
    Record,
    SendCancel,
    SendPost,
    SendPurchase,
    SendReversal,
    SendStatus,
)
from switch.model.payment import FINAL, Card, Posting, State, StoredPayment
from switch.model.secret import Pan

KNOWN = HostProfile(reversal_00_any=False, not_found_proves=True)


class CardHost:
    """Charges at most once, whenever the purchase arrives within the quiet period."""

    def __init__(self) -> None:
        self.charged = self.reversed = 0
        self.declined = False

    def purchase(self, dice: random.Random) -> tuple[Input, Facts]:
        assert not self.charged and not self.declined, "a purchase came twice"
        if dice.random() < 0.2:
            self.declined = True
            return Input.CARD_DECLINED, Facts(response_code="51")
        self.charged = 1
        return Input.CARD_APPROVED, Facts(response_code="00", approved=True, rrn="1")

    def reversal(self) -> tuple[Input, Facts]:
        if self.charged:
            self.reversed = 1
            return Input.REVERSAL_DONE, Facts(response_code="00")
        return Input.REVERSAL_NOT_FOUND, Facts(response_code="25")


class MarketingHost:
    """Posts each serial at most once; a cancel leaves a tombstone."""

    def __init__(self) -> None:
        self.state: dict[str, str] = {}

    def post(self, serial: str, dice: random.Random) -> Input:
        if serial not in self.state:
            self.state[serial] = "rejected" if dice.random() < 0.15 else "posted"
        return Input.BILL_POSTED if self.state[serial] == "posted" else Input.BILL_REJECTED

    def status(self, serial: str) -> Input:
        found = self.state.get(serial)
        return {"posted": Input.BILL_POSTED, None: Input.BILL_ABSENT}.get(found, Input.BILL_REJECTED)

    def cancel(self, serial: str, undo: bool) -> Input:
        if self.state.get(serial) == "posted" and not undo:
            return Input.CANCEL_POSTED
        self.state[serial] = "cancelled"
        return Input.CANCEL_DONE


class Play:
    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.now = 100.0
        self.card, self.marketing = CardHost(), MarketingHost()
        self.order = count()
        self.queue: list[tuple[float, int, object]] = []
        self.body: dict[str, object] = {}
        self.ledger: list[tuple[str, int, int]] = []
        self.purchases = 0
        self.leg = 0  # answers to an earlier marketing request are strays
        months = self.dice.randint(1, 4)
        self.loss = self.dice.choice([0.0, 0.1, 0.4])
        self.crash = self.dice.choice([0.0, 0.0, 0.02])
        self.payment = Payment(
            payment_id=77,
            opened_on=20261123,
            terminal_id="GS000001",
            merchant_id="898110049000001",
            kiosk_date="1123",
            kiosk_serial="000001",
            digest="d",
            account="0500000017",
            amount=100 * months,
            batch_number="000001",
            stan="000001",
            settlement_day=20261123,
            marketing_day="20261123",
            postings=[Posting(f"R{n}", "202601", 90, 10, 100, f"77{n:02d}") for n in range(months)],
            card_token="t",
            card_masked="622200******0017",
            entry_mode="021",
            original_60="22000001000",
            times=SHORT,
            profile=KNOWN,
            started_at=self.now,
            card=Card(Pan("6222000000000017"), None, None, "021", None, None, None, None, None),
        )

    def later(self, seconds: float, event: object) -> None:
        heapq.heappush(self.queue, (self.now + seconds, next(self.order), event))

    def send(self, effect: Effect) -> None:
        """A frame leaves: it may be lost, late, or its answer may be."""
        self.payment.written(effect, self.now)
        if isinstance(effect, SendPurchase):
            self.purchases += 1
            # The host may act at any time of its quiet period, and its answer may take as long again.
            self.later(self.dice.choice([0.01, 0.01, self.dice.uniform(0, SHORT.quiet_s - 0.01)]), effect)
        else:
            self.later(self.dice.uniform(0.01, 0.3), effect)
            if not isinstance(effect, SendReversal):
                self.leg += 1

    def arrive(self, effect: Effect) -> None:
        if self.dice.random() < self.loss:
            return
        answer: tuple[Input, Facts]
        if isinstance(effect, SendPurchase):
            answer = self.card.purchase(self.dice)
        elif isinstance(effect, SendReversal):
            answer = self.card.reversal()
        elif isinstance(effect, SendPost):
            answer = self.marketing.post(effect.posting.serial, self.dice), Facts()
        elif isinstance(effect, SendStatus):
            answer = self.marketing.status(effect.posting.serial), Facts()
        else:
            assert isinstance(effect, SendCancel)
            answer = self.marketing.cancel(effect.posting.serial, effect.undo), Facts()
        if self.dice.random() < self.loss:
            return
        card = isinstance(effect, SendPurchase | SendReversal)
        delay = self.dice.uniform(0.01, SHORT.late_s - 0.01) if card and self.dice.random() < 0.2 else 0.01
        self.later(delay, (answer, None if card else self.leg))
        if card and self.dice.random() < 0.1:
            self.later(delay + 0.01, (answer, None))  # twice

    def give(self, given: Input, facts: Facts) -> None:
        for effect in self.payment.step(given, facts, self.now):
            if isinstance(effect, Record):
                assert self.body.get("state") not in FINAL, "a final state moved (I8)"
                self.body.update(effect.changes, state=effect.state)
                self.ledger += effect.ledger
            elif isinstance(effect, SendPurchase | SendReversal | SendPost | SendStatus | SendCancel):
                self.send(effect)
        if self.payment.is_driven:
            assert self.payment.deadline < float("inf"), f"nobody drives {self.payment.state} (I7)"

    def take_over(self) -> None:
        """kill -9: memory is gone, the journal and what is under way stay."""
        stored = StoredPayment(77, 20261123, self.payment.ver, self.payment.state, dict(self.body))
        self.payment = Payment.from_stored(stored, times=SHORT, profile=KNOWN, now=self.now, cut_over_at=float("inf"))
        self.leg += 1
        if (self.payment.state, Input.RECOVER) in TABLE:
            self.give(Input.RECOVER, Facts())

    def run(self) -> None:
        self.give(Input.START, Facts())
        for _ in range(5000):
            deadline = self.payment.deadline
            if self.queue and self.queue[0][0] <= deadline:
                self.now, _, event = heapq.heappop(self.queue)
                if isinstance(event, tuple):
                    (given, facts), leg = event
                    if leg is None or leg == self.leg:
                        self.give(given, facts)
                else:
                    self.arrive(event)  # type: ignore[arg-type]
            elif deadline < float("inf"):
                self.now = deadline
                due = self.payment.due(self.now)
                if due is not None:
                    if due is Input.BILL_UNCLEAR or due is Input.CANCEL_UNCLEAR:
                        self.leg += 1
                    self.give(due, Facts())
            elif not self.queue:
                return
            if self.dice.random() < self.crash and self.payment.is_driven:
                self.take_over()
        raise AssertionError(f"not settled after 5000 steps in {self.payment.state}")


@pytest.mark.parametrize("seed", range(500))
def test_the_books_agree_whatever_the_hosts_do(seed: int) -> None:
    play = Play(seed)
    play.run()
    payment = play.payment
    charged = play.card.charged - play.card.reversed
    posted = sum(state == "posted" for state in play.marketing.state.values())

    assert play.purchases <= 1, "I1: never a second purchase"
    assert payment.state in FINAL or payment.state is State.SUSPENSE
    if payment.state is State.COMPLETED:
        assert (charged, posted) == (1, len(payment.postings)), "I6, I17"
    elif payment.state in FINAL:
        assert (charged, posted) == (0, 0), "I6: nobody is out of pocket"
    totals: dict[str, int] = {}
    for account, debit, credit in play.ledger:
        totals[account] = totals.get(account, 0) + debit - credit
    assert sum(totals.values()) == 0, "I11"
    if payment.state in FINAL:
        assert totals.get("customer_suspense", 0) == 0, "I11: nothing is left in suspense"


def test_the_dice_reach_every_end() -> None:
    """A property that is never exercised proves nothing."""
    seen: set[State] = set()
    for seed in range(200):
        play = Play(seed)
        play.run()
        seen.add(play.payment.state)
    assert {State.COMPLETED, State.DECLINED, State.REVERSED} <= seen
