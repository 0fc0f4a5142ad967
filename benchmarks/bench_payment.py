"""What the switch itself adds to a payment: the machine's steps and the MAC. No wire, no database."""

from __future__ import annotations

from copy import copy
from typing import Any

import pytest

from switch.limits import SHORT
from switch.machines.payment import Facts, HostProfile, Payment
from switch.machines.payment_table import Input
from switch.model.payment import Card, Posting, State
from switch.model.secret import Pan
from switch.security import mac, primitives

APPROVED = Facts(response_code="00", rrn="112233445566", settlement_date="1123", approved=True)


def payment() -> Payment:
    return Payment(
        payment_id=77,
        opened_on=20261123,
        terminal_id="GS000001",
        merchant_id="898110049000001",
        kiosk_date="1123",
        kiosk_serial="000001",
        digest="d",
        account="0500000017",
        amount=1000,
        batch_number="000001",
        stan="000001",
        settlement_day=20261123,
        marketing_day="20261123",
        postings=[Posting("R1", "202601", 900, 100, 1000, "7701")],
        card_token="t",
        card_masked="622200******0017",
        entry_mode="021",
        original_60="22000001000",
        times=SHORT,
        profile=HostProfile(),
        started_at=0.0,
        card=Card(Pan("6222000000000017"), None, None, "021", None, None, None, None, None),
    )


@pytest.mark.benchmark(group="payment")
def test_the_three_steps_of_a_good_payment(benchmark: Any) -> None:
    def whole() -> State:
        machine = payment()
        machine.step(Input.START, Facts(), 0.0)
        machine.step(Input.CARD_APPROVED, copy(APPROVED), 0.1)
        machine.step(Input.BILL_POSTED, Facts(), 0.2)
        return machine.state

    assert benchmark(whole) is State.COMPLETED


@pytest.mark.benchmark(group="mac")
@pytest.mark.parametrize("name", ["unionpay_ecb", "x9_19", "sm4_ecb"])
def test_mac_of_200_bytes(benchmark: Any, name: str) -> None:
    """With a key that is ready, as the switch keeps it for a terminal's day."""
    key = bytes(range(16))
    ready = mac.prepare(name, primitives.sm4(key) if name.startswith("sm4") else primitives.des(key))
    assert benchmark(ready.make, bytes(200)) == mac.make_mac(name, key, bytes(200))
