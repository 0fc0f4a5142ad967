"""The three-way comparison: what the switch's journal says, against what really happened at both hosts.

Books are amounts, not bits: a payment of three months is one charge and three postings (saga §8, C9).

    state                    charged at the card host   posted at the marketing system
    COMPLETED                its amount                 each of its receivables, in full
    DECLINED REVERSED        nothing                    nothing
    REFUNDED                 nothing (net)              nothing
    open                     counted as open: no difference until its bound
    SUSPENSE UNPROVEN        counted: a person or the settlement file decides

A charge or posting that no payment explains is always a difference. With the kiosks' book a fourth voice is heard:
whoever was told "paid" must have paid (I3), and whoever was told "nothing was charged" must not have (I4).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from switch.machines.payment import SUSPENSE_ACCOUNT
from switch.model.payment import FINAL, State
from switch.sim.fleet import BookEntry
from switch.sim.truth import Charge, Posted
from switch.store.fold import PaymentRow

UNDECIDED = frozenset({State.SUSPENSE, State.UNPROVEN})
TOLD_PAID = "00"  # field 39 of a kiosk's answer: paid and booked
TOLD_UNDECIDED = frozenset({"U2", "C1", "94"})  # a file or a person decides; 94 says nothing about the payment
SHOWN_MAX = 20  # differences printed; all are counted


@dataclass(frozen=True, slots=True)
class Difference:
    kind: str
    key: str
    detail: str
    fen: int


@dataclass
class Proof:
    payments: int = 0
    states: dict[str, int] = field(default_factory=dict)
    open: int = 0
    months: dict[int, int] = field(default_factory=dict)  # receivables on one payment: how many payments
    fen: int = 0  # of COMPLETED payments
    charged_fen: int = 0  # net, at the card host
    posted_fen: int = 0  # net, at the marketing system
    ledger: dict[str, int] = field(default_factory=dict)  # account: debit minus credit
    suspense_fen: int = 0  # of payments that are approved and not final
    heard: int | None = None  # payments that the kiosks' book speaks of; None: no book was given
    differences: list[Difference] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.differences and not self.open

    def count(self, state: State) -> int:
        return self.states.get(state, 0)

    def to_dict(self) -> dict[str, Any]:
        return {
            "payments": self.payments,
            "completed": self.count(State.COMPLETED),
            "declined": self.count(State.DECLINED),
            "reversed": self.count(State.REVERSED),
            "suspense": self.count(State.SUSPENSE) + self.count(State.UNPROVEN),
            "open": self.open,
            "differences": len(self.differences),
            "fen": self.fen,
        }


class ThreeWay:
    """Give it every payment, then the ledger; it says what differs."""

    def __init__(
        self,
        charges: dict[tuple[str, str, str], Charge],
        postings: dict[str, Posted],
        told: dict[str, BookEntry] | None,
    ) -> None:
        self.proof = Proof(heard=None if told is None else len(told))
        self.proof.charged_fen = sum(charge.net for charge in charges.values())
        self.proof.posted_fen = sum(posted.posted for posted in postings.values())
        self._charges = dict(charges)
        self._postings = dict(postings)
        self._told = dict(told or {})

    def add(self, row: PaymentRow) -> None:
        proof = self.proof
        payment, body = row.payment, row.payment.body
        proof.payments += 1
        proof.states[payment.state] = proof.states.get(payment.state, 0) + 1
        proof.months[len(body["postings"])] = proof.months.get(len(body["postings"]), 0) + 1
        key = f"{body['terminal']}|{body['kiosk_date']}|{body['kiosk_serial']}"
        _hear(proof, payment.state, row.amount, key, self._told.pop(key, None))
        charge = self._charges.pop((body["terminal"], body["batch"], body["stan"]), None)
        posted = [self._postings.pop(posting[5], None) for posting in body["postings"]]
        if row.events != payment.ver:
            _add(proof, "event missing", payment.payment_id, f"{row.events} events, last ver {payment.ver}", row.amount)
        if payment.state is State.COMPLETED:
            proof.fen += row.amount
        if payment.state not in FINAL and body.get("approved_seen"):
            proof.suspense_fen += row.amount - sum(each[4] for each in body["postings"] if each[6] == "posted")
        if payment.state in UNDECIDED:
            return
        if payment.state not in FINAL:
            proof.open += 1
            return
        _compare(proof, payment.payment_id, payment.state, row.amount, body, charge, posted)

    def finish(self, ledger: dict[str, int]) -> Proof:
        """``ledger``: debit minus credit of every account, in fen."""
        proof = self.proof
        for card_key, charge in self._charges.items():
            if charge.net:
                _add(proof, "charge without a payment", "|".join(card_key), f"rrn {charge.rrn}", charge.net)
        for serial, one in self._postings.items():
            if one.posted:
                _add(proof, "posting without a payment", serial, f"account {one.account}", one.posted)
        for key, entry in self._told.items():
            if TOLD_PAID in entry.told:
                _add(proof, "told paid without a payment", key, "the journal knows no such payment", entry.fen)
        proof.ledger = ledger
        if sum(ledger.values()):
            _add(proof, "ledger not balanced", "all accounts", "debits and credits differ", sum(ledger.values()))
        if -ledger.get(SUSPENSE_ACCOUNT, 0) != proof.suspense_fen:
            _add(proof, "suspense", SUSPENSE_ACCOUNT, "differs from the open payments", proof.suspense_fen)
        return proof


def _compare(
    proof: Proof,
    payment_id: int,
    state: State,
    amount: int,
    body: dict[str, Any],
    charge: Charge | None,
    posted: list[Posted | None],
) -> None:
    paid = state is State.COMPLETED
    charged = charge.net if charge is not None else 0
    if charged != (amount if paid else 0):
        kind = "customer out of pocket" if charged else "card not charged"
        _add(proof, kind, payment_id, f"{state}, charged {charged}", charged or amount)
    for row, one in zip(body["postings"], posted, strict=True):
        receivable, owed = row[0], row[4]
        booked = one.posted if one is not None else 0
        if booked != (owed if paid else 0):
            kind = "bill not posted" if not booked else "posted twice" if booked > owed else "utility out of pocket"
            _add(proof, kind, payment_id, f"{state}, receivable {receivable} posted {booked}", booked or owed)
        elif one is not None and booked and (one.account, one.receivable) != (body["account"], receivable):
            _add(proof, "posted to another bill", payment_id, f"account {one.account}", booked)


def _hear(proof: Proof, state: State, amount: int, key: str, entry: BookEntry | None) -> None:
    if entry is None:
        return
    if TOLD_PAID in entry.told and state is not State.COMPLETED:
        _add(proof, "told paid, but it is not", key, f"{state}, told {entry.told}", amount)
    elif entry.final not in (None, TOLD_PAID) and entry.final not in TOLD_UNDECIDED and state is State.COMPLETED:
        _add(proof, "told not charged, but it is", key, f"told {entry.told}", amount)
    elif entry.fen != amount:
        _add(proof, "the kiosk paid another amount", key, f"kiosk {entry.fen}", amount)


def _add(proof: Proof, kind: str, key: object, detail: str, fen: int) -> None:
    proof.differences.append(Difference(kind, str(key), detail, fen))
