# cython: annotation_typing=False, binding=False
"""What a machine asks the runtime to do, in order. A ``Record`` is durable before the effect after it starts."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from switch.model.payment import Posting, State
from switch.model.plain import Plain


class Record(Plain):
    """Commit one transition: the new state, what changed, and balanced ledger lines ``[account, debit, credit]``."""

    __slots__ = ("changes", "claim", "ledger", "release_bills", "release_open", "row", "state")

    def __init__(
        self,
        state: State,
        row: str,
        changes: dict[str, Any],
        ledger: list[tuple[str, int, int]] | None = None,
        claim: bool = False,
        release_bills: bool = False,
        release_open: bool = False,
    ) -> None:
        self.state = state
        self.row = row
        self.changes = changes
        self.ledger: list[tuple[str, int, int]] = [] if ledger is None else ledger
        self.claim = claim  # take this payment's claims: kiosk key, STAN, bills, open
        self.release_bills = release_bills
        self.release_open = release_open


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
