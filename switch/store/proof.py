"""What the three-way proof reads: every payment as the journal has it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from switch.model.payment import State, StoredPayment
from switch.store.fold import PaymentRow, extend
from switch.store.pool import connected
from switch.store.queries import QUERY

PREFETCH = 1000  # rows on their way at once


async def load_payment_rows(dsn: str, since: int = 0) -> AsyncIterator[PaymentRow]:
    """Stream every payment, folded, of one moment; memory does not grow with their number.

    ``since``: YYYYMMDD; payments opened before that day are left out. ``sealed`` is not filled: the proof has no
    business with card data.
    """
    async with (
        connected(dsn, "proof") as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        row: PaymentRow | None = None
        async for event in connection.cursor(QUERY["payment_every"], since, prefetch=PREFETCH):
            if row is None or row.payment.payment_id != event["payment_id"]:
                if row is not None:
                    yield row
                row = PaymentRow(StoredPayment(event["payment_id"], event["opened_on"], 0, State.NEW), 0, 0)
            extend(row.payment, event)
            row.amount = event["amount"]
            row.events += 1
        if row is not None:
            yield row


async def load_ledger_totals(dsn: str, since: int = 0) -> dict[str, int]:
    """Debit minus credit of every account, in fen, over payments opened on ``since`` or later."""
    async with connected(dsn, "proof") as connection:
        rows = await connection.fetch(QUERY["ledger_totals"], since)
    return {row["account"]: row["balance"] for row in rows}
