"""Payments as the switch writes them: walks over the saga's own table, with the bodies that its rows leave behind."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import orjson

from switch.machines import days
from switch.machines.payment_table import ROWS, Input, Row
from switch.model.payment import FINAL, PAYMENT_ID_TIME_SHIFT, State

NOON_MS = 1_795_492_800_000  # 2026-11-24 12:00 in China
FINAL_WORDS = {state.value for state in FINAL}
_CARD_INPUTS = {Input.CARD_APPROVED, Input.CARD_DECLINED, Input.CARD_AMBIGUOUS, Input.CARD_PARTIAL, Input.CARD_BAD_MAC}
_FROM: dict[State, list[Row]] = {}
for _row in ROWS:
    if _row.durable:
        _FROM.setdefault(_row.state, []).append(_row)
_INSERT = (
    'INSERT INTO switch.payment_event (opened_on, payment_id, ver, state, "row", wall_us, amount, body, link, '
    "writer_epoch, writer_seq) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, '', 1, $9)"
)


@dataclass(frozen=True)
class Event:
    payment_id: int
    opened_on: int
    ver: int
    state: str
    row: str
    wall_us: int
    amount: int
    body: dict[str, Any] = field(default_factory=dict)

    def columns(self) -> tuple[Any, ...]:
        key = (self.opened_on, self.payment_id, self.ver, self.state, self.row, self.wall_us, self.amount)
        return (*key, orjson.dumps(self.body).decode(), self.payment_id % 1_000_000 * 100 + self.ver)


def payment_id(began_ms: int, number: int) -> int:
    return began_ms << PAYMENT_ID_TIME_SHIFT | number


def opening(dice: random.Random, number: int, *, terminal: str, amount: int) -> dict[str, Any]:
    """What a first event keeps."""
    prepaid = dice.random() < 0.2
    months = [["", "", 0, 0, amount, "s1", "waiting"]] if prepaid else []
    for month in () if prepaid else range(dice.choice((1, 1, 1, 3))):
        months.append([f"R{month}", f"2026{month + 1:02d}", 900, 100, 1000, f"s{month}", "waiting"])
    return {
        "terminal": terminal,
        "merchant": "M" * 15,
        "kiosk_date": "1124",
        "kiosk_serial": f"{number % 1_000_000:06d}",
        "digest": "digest",
        "account": f"05{number % 500:08d}",
        "amount": amount,
        "batch": f"{1 + number % 7:06d}",
        "stan": f"{(number * 7) % 1_000_000:06d}",
        "settlement_day": days.settlement_day((NOON_MS + number) * 1000, 1380),
        "marketing_day": "20261124",
        "postings": months,
        "card_token": "token",
        "card_masked": f"622202*********{number % 10_000:04d}",
        "entry_mode": "021",
        "original_60": "22000001",
    }


def story(dice: random.Random, number: int, *, began_ms: int = 0, terminal: str = "", good: float = 0.6) -> list[Event]:
    """All events of one payment, up to its end or not.

    Args:
        good: Chance at each step that the best row is taken.
    """
    began_ms = began_ms or NOON_MS + number * 50 + dice.randrange(50)
    terminal = terminal or f"GS{number % 5:06d}"
    amount = dice.randrange(1, 1_000_000)
    key = payment_id(began_ms, number)
    wall_us, state = began_ms * 1000 + dice.randrange(5_000), State.CARD_PENDING
    events = [
        Event(key, 20261124, 1, state, "1", wall_us, amount, opening(dice, number, terminal=terminal, amount=amount))
    ]
    while state not in FINAL and len(events) < 12 and dice.random() > 0.03:
        rows = _FROM[state]
        best = {State.CARD_PENDING: "2", State.BILL_PENDING: "8"}.get(state, rows[0].number)
        taken = next(row for row in rows if row.number == best) if dice.random() < good else dice.choice(rows)
        state = taken.next
        wall_us += dice.randrange(500, 2_000_000)
        events.append(
            Event(key, 20261124, len(events) + 1, state, taken.number, wall_us, amount, _body(dice, taken, key, number))
        )
    return events


def _body(dice: random.Random, row: Row, key: int, number: int) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if "book_charge" in row.actions:
        body["approved_seen"] = True
    if "case" in row.actions:
        body["case"] = f"C{key}"
    if "reject" in row.actions:
        body["bill_code"] = dice.choice(("03", "29", "84", "777"))
    if row.given in _CARD_INPUTS:
        approved = row.given is Input.CARD_APPROVED
        body["response_code"] = "00" if approved else dice.choice(("51", "55", "05", "91", "96", "A0", "99", "ZZ"))
        body["rrn"] = f"{number:012d}"
    if row.given is Input.CARD_SILENT:
        body["reason"] = "silent"
    return body


async def write(dsn: str, events: Iterable[Event]) -> None:
    """As one commit."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.executemany(_INSERT, [event.columns() for event in events])
    finally:
        await connection.close()


async def insert(connection: Any, events: Sequence[Event]) -> None:
    await connection.executemany(_INSERT, [event.columns() for event in events])


# ------------------------------------------------------------------------------------------------ what must come of it
_CHINA = days.CHINA


def fact(events: Sequence[Event], faults: dict[str, str], classes: dict[tuple[str, str], str]) -> dict[str, Any]:
    """The row of these events, made the slow way."""
    body: dict[str, Any] = {}
    for event in events:
        body |= event.body
    last = events[-1]
    began_ms = last.payment_id >> PAYMENT_ID_TIME_SHIFT

    def ms(event: Event) -> int:
        return event.wall_us // 1000 - began_ms

    def first(*, outside: tuple[str, ...] = (), inside: tuple[str, ...] = ()) -> int | None:
        found = [ms(each) for each in events if (each.state in inside if inside else each.state not in outside)]
        return min(found) if found else None

    source = code = None
    for event in events:
        if event.row in faults:
            source = faults[event.row]
            words = {"card": event.body.get("response_code", ""), "bill": event.body.get("bill_code", "")}
            code = words.get(source, event.row)
            break
    card_from, card_to = ms(events[0]), first(outside=("CARD_PENDING",))
    bill_from = first(inside=("BILL_PENDING",))
    bill_to = first(outside=("CARD_PENDING", "CARD_CONFIRMING", "BILL_PENDING"))
    opened_at = datetime.fromtimestamp(0, tz=_CHINA) + timedelta(milliseconds=began_ms)
    fault_class = None if source is None else classes.get((source, code or ""), classes[source, "*"])
    return {
        "payment_id": last.payment_id,
        "ver": last.ver,
        "state": last.state,
        "final": last.state in FINAL_WORDS,
        "opened_at": opened_at,
        "settled_on": str(body["settlement_day"]),
        "local_on": opened_at.date(),
        "amount": last.amount,
        "kind": "payment" if body["postings"][0][0] else "prepayment",
        "bills": len(body["postings"]),
        "terminal_id": body["terminal"],
        "rrn": body.get("rrn", ""),
        "batch": body["batch"],
        "stan": body["stan"],
        "kiosk_serial": body["kiosk_serial"],
        "card_first6": body["card_masked"][:6],
        "card_last4": body["card_masked"][-4:],
        "response_code": body.get("response_code", ""),
        "bill_code": body.get("bill_code", ""),
        "fault_source": source,
        "fault_code": code,
        "class": "ok" if last.state == "COMPLETED" else fault_class,
        "total_ms": ms(last) if last.state in FINAL_WORDS else None,
        "card_ms": None if card_to is None else card_to - card_from,
        "bill_ms": None if bill_to is None or bill_from is None else bill_to - bill_from,
        "charged": bool(body.get("approved_seen", False)),
        "reversed": any(event.state == "REVERSAL_PENDING" for event in events),
        "case_number": body.get("case", ""),
        "account_masked": "****" + body["account"][-4:],
    }
