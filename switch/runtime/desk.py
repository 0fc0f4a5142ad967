"""What people at a desk ask of a running switch: cases decided under four eyes, and a payment's messages, masked.

A decision is written by whichever worker is asked and carried out by the one that owns the payment; the database
refuses the same person twice. Of a message people get what it says, never its bytes: who masks must know the spec.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

import orjson

from iso8583.describe import Row
from switch.errors import BadRequestError
from switch.limits import CASE_NAME_MAX
from switch.machines.payment_table import ROWS, TABLE, Input
from switch.observe.log import mask
from switch.runtime.control import Ask
from switch.store import cases
from switch.store.cases import DECISIONS, Case
from switch.store.lookups import Lookups

_CARD_ACTIONS: Final = frozenset({"send_purchase", "send_reversal"})
_TO_CARD: Final = frozenset(row.number for row in ROWS if _CARD_ACTIONS & set(row.actions))
_MARKETING: Final = (
    "op",
    "serial",
    "account",
    "receivable",
    "period",
    "amount",
    "day",
    "reference",
    "if_posted",
    "version",
)


class CardShown(Protocol):
    def describe(self, frame: bytes, /) -> tuple[str, list[Row]]:
        """A title and the rows, masked. Raises DecodeError."""
        ...


class MarketingShown(Protocol):
    def tell(self, taken: bytes, /) -> dict[str, str]:
        """Raises ValueError or SwitchError."""
        ...


class PostgresAttempts(Lookups):
    """Frames of one payment, as the journal keeps them: without secrets."""

    async def of(self, payment_id: int, opened_on: int) -> list[Any]:
        """Raises UnavailableError."""
        return await self._fetch("payment_attempts", opened_on, payment_id)


class Desk:
    """Args:
    card, marketing: How messages of the two links are put into words, by now.
    """

    def __init__(
        self,
        dsn: str,
        attempts: PostgresAttempts,
        *,
        card: Callable[[], CardShown],
        marketing: Callable[[], MarketingShown],
    ) -> None:
        self._dsn = dsn
        self._attempts = attempts
        self._card = card
        self._marketing = marketing

    def orders(self) -> Mapping[str, Callable[[Ask], Awaitable[Any]]]:
        return {
            "case_propose": self._propose,
            "case_confirm": self._confirm,
            "case_withdraw": self._withdraw,
            "story": self._story,
        }

    # ------------------------------------------------------------------------------------------------ cases
    async def _propose(self, ask: Ask) -> Any:
        who, case = _who(ask), await self._case(ask)
        if ask.decision not in DECISIONS:
            raise BadRequestError("case_decision", f"{ask.decision!r} is no decision; known: {', '.join(DECISIONS)}")
        if (case.payment.state, Input(f"settled_{ask.decision}")) not in TABLE:
            raise BadRequestError(
                "case_decision", f"{case.number}: {case.payment.state} cannot be settled as {ask.decision}"
            )
        if mask(ask.evidence) != ask.evidence:
            raise BadRequestError("case_evidence", "evidence holds a card number; name the line or the ticket instead")
        return {"case": case.number, "number": await cases.propose(self._dsn, case, ask.decision, ask.evidence, who)}

    async def _confirm(self, ask: Ask) -> Any:
        who, case = _who(ask), await self._seen(ask)
        return {"case": case.number, "number": await cases.confirm(self._dsn, case, who)}

    async def _withdraw(self, ask: Ask) -> Any:
        _who(ask)
        case = await self._seen(ask)
        await cases.withdraw(self._dsn, case)
        return {"case": case.number, "number": ask.number}

    async def _case(self, ask: Ask) -> Case:
        found = await cases.open_cases(self._dsn, ask.payment) if 0 < ask.payment < 1 << 63 else []
        if not found:
            raise BadRequestError("case_unknown", f"payment {ask.payment} does not wait for a person")
        return found[0]

    async def _seen(self, ask: Ask) -> Case:
        """The case with the proposal that the asker has seen, and no other one."""
        case = await self._case(ask)
        if case.proposal is None or case.proposal["id"] != ask.number:
            raise BadRequestError("case_changed", f"{case.number}: proposal {ask.number} is not under way; look again")
        return case

    # ------------------------------------------------------------------------------------------------ messages
    async def _story(self, ask: Ask) -> Any:
        if not 0 < ask.payment < 1 << 63:
            raise BadRequestError("control", "payment: expected the number of a payment")
        rows = await self._attempts.of(ask.payment, ask.day)
        return [
            {"ver": row["ver"], "wall_us": row["wall_us"], "size": len(row["attempt"])}
            | self._described(row["row"], row["attempt"])
            for row in rows
        ]

    def _described(self, row: str, frame: bytes) -> dict[str, Any]:
        """Whatever a frame is: what cannot be read is not shown."""
        to_card = row in _TO_CARD
        try:
            if to_card:
                head, rows = self._card().describe(frame)
                lines = [[each.path, each.label or each.name, each.value, each.meaning, each.depth] for each in rows]
            else:
                told = self._told(frame)
                head, lines = told.get("op", ""), [[name, name, text, "", 0] for name, text in told.items()]
        except Exception:  # a spec that has changed since, a frame of another time
            head, lines = "unreadable", []
        return {"link": "card" if to_card else "marketing", "title": head, "lines": lines}

    def _told(self, frame: bytes) -> dict[str, str]:
        if frame[:1] == b"{":
            found: dict[str, Any] = orjson.loads(frame)
            told: dict[str, str] = {name: str(found[name])[:64] for name in _MARKETING if name in found}
        else:
            told = self._marketing().tell(frame)
        account = told.get("account", "").strip()
        if account:
            # Also inside of others: marketing systems make numbers of receivables from it.
            told = {name: text.replace(account, f"****{account[-4:]}") for name, text in told.items()}
        return told


def _who(ask: Ask) -> str:
    who = ask.by.strip()
    if not 0 < len(who) <= CASE_NAME_MAX or not who.isprintable():
        raise BadRequestError("control", f"by: expected who asks, 1 to {CASE_NAME_MAX} characters")
    return who
