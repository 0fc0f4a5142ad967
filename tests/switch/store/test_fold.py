"""Events folded into what a payment is now."""

from __future__ import annotations

from typing import Any

import pytest

from switch.model.payment import State, StoredPayment
from switch.store.fold import fold

from .support import DAY


def event(ver: int, state: State, body: bytes, **more: Any) -> dict[str, Any]:
    return {
        "payment_id": 7,
        "opened_on": DAY,
        "ver": ver,
        "state": state.value,
        "body": body,
        "link": b"%d" % ver,
    } | more


def test_later_bodies_go_over_earlier_ones_and_the_latest_event_counts() -> None:
    first = event(1, State.CARD_PENDING, b'{"a":1,"b":[1]}', sealed=b"card")
    second = event(2, State.BILL_PENDING, b'{"b":[2],"c":3}', sealed=b"of the same claim")
    found = fold([first, second])
    expected = StoredPayment(7, DAY, 2, State.BILL_PENDING)
    expected.sealed = b"card"
    expected.body.update({"a": 1, "b": [2], "c": 3})
    expected.link = b"2"
    assert found == expected
    assert fold([event(1, State.CARD_PENDING, b"{}")]).sealed is None, "not every question asks for it"


def test_there_is_no_payment_without_an_event() -> None:
    with pytest.raises(AssertionError):
        fold([])
