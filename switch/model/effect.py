"""What a machine asks the runtime to do, in order. A ``Record`` is durable before the effect after it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from switch.model.payment import Posting, State


@dataclass(slots=True)
class Record:
    """Commit one transition: the new state, what changed, and balanced ledger lines ``[account, debit, credit]``."""

    state: State
    row: str
    changes: dict[str, Any]
    ledger: list[tuple[str, int, int]] = field(default_factory=list)
    claim: bool = False  # take this payment's claims: kiosk key, STAN, bills, open
    release_bills: bool = False
    release_open: bool = False


@dataclass(slots=True, frozen=True)
class SendPurchase:
    """The purchase (0200). Sent at most once in a payment's life."""


@dataclass(slots=True, frozen=True)
class SendReversal:
    reason: str  # field 39 of the reversal: 98, 96, A0 or 06


@dataclass(slots=True, frozen=True)
class SendPost:
    posting: Posting


@dataclass(slots=True, frozen=True)
class SendStatus:
    posting: Posting


@dataclass(slots=True, frozen=True)
class SendCancel:
    posting: Posting
    undo: bool  # True: take a posting back; False: fence one that may never have arrived


@dataclass(slots=True, frozen=True)
class Tell:
    """Answer the waiting kiosk with what the payment's durable state says now."""


@dataclass(slots=True, frozen=True)
class SignOnAgain:
    """The host refused our keys: the terminal must sign on before its next payment."""


@dataclass(slots=True, frozen=True)
class Note:
    """Count and record something that changes nothing: ``late``, ``duplicate``, ``late_after_final``."""

    kind: str


Effect = Record | SendPurchase | SendReversal | SendPost | SendStatus | SendCancel | Tell | SignOnAgain | Note
