"""Every class of the three-way comparison, planted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch.machines.threeway import CLASSES, MATCH, UNCONFIRMED, compare
from switch.model.payment import State

C, D, R, F = State.COMPLETED, State.DECLINED, State.REVERSED, State.REFUNDED


@pytest.mark.parametrize(
    ("state", "charged", "booked", "kind", "at_risk"),
    [
        (C, 300, 300, MATCH, 0),
        (C, None, 300, UNCONFIRMED, 0),
        *((state, side, 0, MATCH, 0) for state in (D, R, F) for side in (0, None)),
        (C, 300, 200, "marketing_short", 100),
        (C, None, 0, "marketing_short", 300),
        (C, 0, 300, "card_short", 300),
        (C, 0, 0, "wrong_verdict", 300),
        (C, 0, 100, "wrong_verdict", 300),
        (C, 100, 200, "wrong_verdict", 200),
        (C, 100, 300, "card_short", 200),
        (D, 100, 200, "wrong_verdict", 200),
        (D, 300, 0, "customer_out_of_pocket", 300),
        (R, 100, 0, "customer_out_of_pocket", 100),
        (R, 0, 300, "utility_out_of_pocket", 300),
        (F, None, 100, "utility_out_of_pocket", 100),
        (R, 300, 300, "wrong_verdict", 300),
        (C, 301, 300, "amount_differs", 1),
        (R, 0, 350, "amount_differs", 50),
    ],
)
def test_each_class(state: State, charged: int | None, booked: int, kind: str, at_risk: int) -> None:
    found = compare(state, 300, charged, booked)
    assert (found.kind, found.at_risk) == (kind, at_risk)


@given(
    st.sampled_from([C, D, R, F]),
    st.integers(1, 1000),
    st.none() | st.integers(0, 1500),
    st.integers(0, 1500),
)
def test_whatever_differs_is_at_risk_and_whatever_agrees_is_not(
    state: State, amount: int, charged: int | None, booked: int
) -> None:
    found = compare(state, amount, charged, booked)
    wanted = amount if state is C else 0
    agrees = booked == wanted and charged in (None, wanted)
    assert found.kind in CLASSES
    assert (found.at_risk == 0) == agrees == (found.kind in (MATCH, UNCONFIRMED))
    assert found.at_risk >= 0
