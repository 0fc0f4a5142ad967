"""Days of payments as the switch makes them: its machine, its journal, its books; only the hosts are dice."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import asyncpg
import orjson

from switch.errors import OutOfOrderError
from switch.limits import SHORT
from switch.machines import days
from switch.machines.payment import Facts, HostProfile, Payment
from switch.machines.payment_table import CARD_ANSWERS, TABLE, Input
from switch.model.chain import event_link
from switch.model.effect import Record, SendCancel
from switch.model.payment import FINAL, PAYMENT_ID_TIME_SHIFT, Card, Posting, State
from switch.model.secret import Pan
from switch.ports import Append, Appended, JournalEntry
from switch.store.journal import PostgresJournal
from switch.store.projector import read_books

CUT_OVER_MINUTE = 1380  # 23:00
# Hosts whose "not found" is a proof, and hosts whose chips have the last word and whose "not found" proves nothing.
PROFILES = (
    HostProfile(reversal_00_any=False, not_found_proves=True),
    HostProfile(reversal_00_any=False, not_found_proves=False, emv_completion="wait"),
)
WAITING = (State.SUSPENSE, State.UNPROVEN)  # for people and files, who take their time
_GOOD = {
    State.CARD_PENDING: Input.CARD_APPROVED,
    State.CARD_CONFIRMING: Input.CHIP_ACCEPTED,
    State.BILL_PENDING: Input.BILL_POSTED,
}


def at_ms(text: str) -> int:
    """
    >>> at_ms("2026-11-24 23:00:00.5") % 1000
    500
    """
    return round(datetime.fromisoformat(text).replace(tzinfo=days.CHINA).timestamp() * 1000)


@dataclass
class Shop:
    """Makes payments; ``entries`` are what the switch would have written, in order."""

    seed: int
    terminals: Sequence[str]
    entries: list[JournalEntry] = field(default_factory=list)
    number: int = 0
    undo: bool = False  # what the latest cancel was for

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)

    def pay(self, began_ms: int, *, terminal: str = "", amount: int = 0, good: float = 0.75, account: str = "") -> int:
        """One payment, up to its end or somewhere on the way. Returns its number.

        Args:
            good: Chance at each step that the best thing happens; 1.0: it is completed.
        """
        dice = self.dice
        self.number += 1
        key = began_ms << PAYMENT_ID_TIME_SHIFT | self.number
        amount = amount or dice.randrange(1, 3_000_000)
        payment = Payment(
            payment_id=key,
            opened_on=days.today(began_ms * 1000),
            terminal_id=terminal or dice.choice(self.terminals),
            merchant_id="898110049000001",
            kiosk_date="1124",
            kiosk_serial=f"{self.number:06d}",
            digest="d",
            account=account or f"05{dice.randrange(40):08d}",
            amount=amount,
            batch_number="000001",
            stan=f"{self.number:06d}",
            settlement_day=days.settlement_day(began_ms * 1000, CUT_OVER_MINUTE),
            marketing_day="20261124",
            postings=self._postings(amount),
            card_token="t",
            card_masked="622202******0017",
            entry_mode="021" if good == 1.0 else dice.choice(("021", "051")),
            original_60="22000001000",
            times=SHORT,
            profile=dice.choice(PROFILES),
            started_at=100.0,
            card=Card(Pan("6222020000000017"), None, None, "021", None, None, None, None, None),
        )
        wall_us, now = began_ms * 1000, 100.0
        self._step(payment, Input.START, Facts(), now, wall_us)
        while payment.state not in FINAL and (
            good == 1.0 or dice.random() > (0.5 if payment.state in WAITING else 0.06)
        ):
            took_s = dice.choice([0.2, 0.4, 1.1, 1.1, 40.0]) * (0.5 + dice.random())
            now, wall_us = now + took_s, wall_us + int(took_s * 1_000_000) + dice.randrange(1000)
            given = _GOOD.get(payment.state)
            if given is None or dice.random() > good:
                given = dice.choice([given for state, given in TABLE if state is payment.state])
            if given is Input.CANCEL_POSTED and self.undo:
                continue  # only a fence finds that: what is taken back is known to be posted
            with contextlib.suppress(OutOfOrderError):  # no guard held: the dice try another
                self._step(payment, given, self._facts(given), now, wall_us)
        return key

    def _postings(self, amount: int) -> list[Posting]:
        serial = f"{self.number:010d}"
        if self.dice.random() < 0.25:
            return [Posting("", "", 0, 0, amount, f"{serial}0")]
        months = self.dice.randint(1, min(3, amount))
        parts = [amount // months] * months
        parts[0] += amount - sum(parts)
        return [
            Posting(f"R{number}", f"2026{number + 1:02d}", part, 0, part, f"{serial}{number}")
            for number, part in enumerate(parts)
        ]

    def _facts(self, given: Input) -> Facts:
        dice = self.dice
        if given in CARD_ANSWERS:
            approved = given is Input.CARD_APPROVED
            code = "00" if approved else dice.choice(("51", "55", "05", "91", "96", "A0", "99", "ZZ"))
            return Facts(response_code=code, approved=approved, rrn=f"{self.number:012d}")
        if given is Input.BILL_REJECTED:
            return Facts(response_code=dice.choice(("03", "29", "84", "777")))
        return Facts()

    def _step(self, payment: Payment, given: Input, facts: Facts, now: float, wall_us: int) -> None:
        for effect in payment.step(given, facts, now):
            if not isinstance(effect, Record):
                payment.written(effect, now)
                self.undo = effect.undo if isinstance(effect, SendCancel) else self.undo
                continue
            body = orjson.dumps(effect.changes)
            ledger = orjson.dumps(effect.ledger) if effect.ledger else None
            payment.link = event_link(
                payment.link, payment.payment_id, payment.ver, effect.state, effect.row, body, ledger
            )
            self.entries.append(
                JournalEntry(
                    payment.opened_on,
                    payment.payment_id,
                    payment.ver,
                    effect.state,
                    effect.row,
                    wall_us,
                    payment.amount,
                    body,
                    payment.link,
                    None,
                    ledger,
                )
            )

    # ------------------------------------------------------------------------------------------------ written down
    def write(self, dsn: str) -> None:
        """Through the switch's journal, and into its books by its projector."""
        asyncio.run(_write(dsn, self.entries))
        self.entries = []


class _Clock:
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def wall_us(self) -> int:
        return at_ms("2026-11-25 12:00") * 1000


class _Silent:
    def count(self, name: str, labels: Sequence[str] = (), by: int = 1) -> None: ...
    def observe(self, name: str, value: float, labels: Sequence[str] = ()) -> None: ...
    def gauge(self, name: str, value: float, labels: Sequence[str] = ()) -> None: ...
    def event(self, name: str, **facts: Any) -> None: ...


async def _write(dsn: str, entries: Iterable[JournalEntry]) -> None:
    entries = list(entries)
    connection = await asyncpg.connect(dsn)
    try:
        opened = sorted({entry.opened_on for entry in entries})
        await connection.execute("SELECT switch.ensure_partition(day) FROM unnest($1::integer[]) AS day", opened)
    finally:
        await connection.close()
    journal = PostgresJournal(dsn, clock=_Clock(), observer=_Silent())
    await journal.start()
    try:
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Appended]] = []
        for entry in entries:
            future: asyncio.Future[Appended] = loop.create_future()
            journal.append(entry, future.set_result)
            futures.append(future)
        results = {each.result for each in await asyncio.gather(*futures)}
        assert results <= {Append.COMMITTED}, results
    finally:
        await journal.stop()
    books = await read_books(dsn)
    assert books.total == 0


def rows(content: bytes) -> list[list[Any]]:
    """A CSV of ours, read by Python's reader as a program would: heads first."""
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
