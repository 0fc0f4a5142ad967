"""A kiosk's batch settlement 批结算: what it says that it took on one day, and where the journal says otherwise."""

from __future__ import annotations

from msgspec import Struct


class BatchKey(Struct, frozen=True):
    """Names one settlement for ever, as a kiosk's key names a payment."""

    terminal_id: str
    asked_on: int  # YYYYMMDD
    serial: str  # six digits


class BatchDetail(Struct, frozen=True):
    """A payment that a kiosk, or the journal, knows as paid."""

    serial: str
    amount: int  # fen


class BatchDifference(Struct, frozen=True):
    """One payment about which the two do not agree. It changes nothing: a person or reconciliation decides."""

    serial: str
    kind: str  # "kiosk_only", "journal_only", "not_paid" (the journal has it, not as paid) or "amount"
    kiosk_amount: int  # fen; 0: not in its details
    switch_amount: int  # fen; 0: not paid


class BatchStanding(Struct, frozen=True):
    """How a settlement stands."""

    code: str  # stable: batch_…, upload_incomplete, not_found, key_conflict
    count: int = 0  # payments that the journal has as paid; with upload_incomplete details that have come
    amount: int = 0  # fen
    differences: int = 0
    listed: tuple[BatchDifference, ...] = ()  # of them, the first BATCH_DIFFERENCES_TOLD_MAX


def next_batch(batch_number: str) -> str:
    """What comes after a terminal's batch.

    >>> next_batch("000001"), next_batch("999999")
    ('000002', '000001')
    """
    return f"{int(batch_number) % 999_999 + 1:06d}"
