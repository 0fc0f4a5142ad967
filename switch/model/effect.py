"""What a machine asks the runtime to do, in order. A ``Record`` is durable before the effect after it starts."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from switch.model.payment import Posting, State


class Record(Struct):
    """Commit one transition: the new state, what changed, and balanced ledger lines ``[account, debit, credit]``."""

    state: State
    row: str
    changes: dict[str, Any]
    ledger: list[tuple[str, int, int]] = []
    claim: bool = False  # take this payment's claims: kiosk key, STAN, bills, open
    release_bills: bool = False
    release_open: bool = False


class SendPurchase(Struct, frozen=True):
    """The purchase (0200). Sent at most once in a payment's life."""


class SendReversal(Struct, frozen=True):
    reason: str  # field 39 of the reversal: 98, 96, A0 or 06


class SendPost(Struct, frozen=True):
    posting: Posting


class SendStatus(Struct, frozen=True):
    posting: Posting


class SendCancel(Struct, frozen=True):
    posting: Posting
    undo: bool  # True: take a posting back; False: fence one that may never have arrived


class Tell(Struct, frozen=True):
    """Answer the waiting kiosk with what the payment's durable state says now."""


class SignOnAgain(Struct, frozen=True):
    """The host refused our keys: the terminal must sign on before its next payment."""


class Note(Struct, frozen=True):
    """Count and record something that changes nothing: ``late``, ``duplicate``, ``late_after_final``."""

    kind: str


Effect = Record | SendPurchase | SendReversal | SendPost | SendStatus | SendCancel | Tell | SignOnAgain | Note
