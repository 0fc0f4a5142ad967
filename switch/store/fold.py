"""Events of a payment, folded into what the payment is now: the same rule for PostgreSQL and memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from switch.model.payment import State, StoredPayment


@dataclass(slots=True)
class PaymentRow:
    """A payment as the proof wants it."""

    payment: StoredPayment
    amount: int  # fen, of the latest event
    events: int  # equal to ``payment.ver`` unless an event is missing


def fold(events: Iterable[Mapping[str, Any]]) -> StoredPayment:
    """``events`` of one payment in ``ver`` order; ``sealed`` is taken from any of them."""
    stored: StoredPayment | None = None
    for event in events:
        if stored is None:
            stored = StoredPayment(event["payment_id"], event["opened_on"], 0, State.NEW)
            stored.sealed = event.get("sealed")
        extend(stored, event)
    assert stored is not None
    return stored


def extend(stored: StoredPayment, event: Mapping[str, Any]) -> None:
    stored.ver = event["ver"]
    stored.state = State(event["state"])
    stored.body.update(orjson.loads(event["body"]))
    stored.link = event["link"]
