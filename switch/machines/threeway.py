"""Three sides of one payment compared (saga §8): amounts, not bits. Pure.

    charged   booked    state                class                     who is short
    amount    amount    COMPLETED            match
    0         0         DECLINED, REVERSED   match                     (REFUNDED too)
    amount    < amount  COMPLETED            marketing_short           the customer: paid, and still owes
    < amount  amount    COMPLETED            card_short                we are: posted, never charged
    < amount  < amount  COMPLETED            wrong_verdict             the customer was told "paid"
    > 0       0         not COMPLETED        customer_out_of_pocket
    0         > 0       not COMPLETED        utility_out_of_pocket
    > 0       > 0       not COMPLETED        wrong_verdict             it is paid, and we say it is not
    more than the amount anywhere            amount_differs

A side that cannot be asked (``None``) is taken for what our state says; the class then says "unconfirmed" when
everything that could be asked agrees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from switch.model.payment import State

MATCH: Final = "match"
UNCONFIRMED: Final = "card_unconfirmed"  # what could be asked agrees; the settlement file has the last word
CLASSES: Final = (
    *(MATCH, UNCONFIRMED, "marketing_short", "card_short", "customer_out_of_pocket", "utility_out_of_pocket"),
    *("wrong_verdict", "amount_differs"),
)


@dataclass(frozen=True, slots=True)
class Comparison:
    kind: str  # one of CLASSES
    at_risk: int  # fen


def compare(state: State, amount: int, charged: int | None, booked: int) -> Comparison:
    """Of a final payment. Amounts are fen, net of reversals and undoings."""
    paid = state is State.COMPLETED
    wanted = amount if paid else 0
    known = wanted if charged is None else charged
    if known > amount or booked > amount:
        return Comparison("amount_differs", max(known, booked) - amount)
    if known == booked == wanted:
        return Comparison(UNCONFIRMED if charged is None and paid else MATCH, 0)
    if paid:
        if known == amount:
            return Comparison("marketing_short", amount - booked)
        return Comparison("card_short" if booked == amount else "wrong_verdict", amount - min(known, booked))
    if known and booked:
        return Comparison("wrong_verdict", max(known, booked))
    return Comparison("customer_out_of_pocket" if known else "utility_out_of_pocket", known or booked)
