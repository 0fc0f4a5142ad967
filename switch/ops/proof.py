"""The three-way proof: the switch's journal against the card host's and the marketing system's own books.

What is compared, and how, is in ``sim/threeway.py``.
"""

from __future__ import annotations

from pathlib import Path

from switch.errors import StartError
from switch.sim.fleet import read_book
from switch.sim.threeway import Proof, ThreeWay
from switch.sim.truth import read_charges, read_postings
from switch.store.proof import load_ledger_totals, load_payment_rows


async def prove(
    dsn: str, card_ledger: Path, marketing_ledger: Path, kiosk_book: Path | None = None, *, since: int = 0
) -> Proof:
    """``since``: YYYYMMDD; payments opened before that day are no business of these ledgers.

    Raises:
        StartError: A ledger cannot be read.
    """
    for path in (card_ledger, marketing_ledger):
        if path.is_file() and not path.stat().st_size:
            raise StartError("ledger", f"{path}: empty; a host writes its first line when it starts")
    try:
        charges = read_charges(card_ledger)
        postings = read_postings(marketing_ledger)
        told = read_book(kiosk_book) if kiosk_book is not None else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StartError("ledger", f"cannot read a truth ledger: {error}") from error
    books = ThreeWay(charges, postings, told)
    async for row in load_payment_rows(dsn, since):
        books.add(row)
    return books.finish(await load_ledger_totals(dsn, since))


def yuan(fen: int) -> str:
    """12345 -> ¥123.45, exact."""
    sign = "-" if fen < 0 else ""
    return f"{sign}¥{abs(fen) // 100:,}.{abs(fen) % 100:02d}"
