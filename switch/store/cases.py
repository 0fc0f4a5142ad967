"""What people decide about payments that wait for them: proposed by one, confirmed by another, carried out by the
worker that owns the payment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import asyncpg

from switch import limits
from switch.errors import BadRequestError, UnavailableError
from switch.model.payment import StoredPayment
from switch.ports import Verdict
from switch.store.fold import fold
from switch.store.pool import BROKEN, BY_KEY, Connection, close, connect, connected
from switch.store.queries import QUERY

DECISIONS = {
    "paid": "the card is charged and every month is posted",
    "nothing": "the card is not charged and nothing is posted",
    "refunded": "the card was charged, the money was given back, and nothing is posted",
    "charged": "the settlement file shows a charge that the host had denied; only for UNPROVEN",
}


@dataclass(slots=True)
class Case:
    """A payment that waits, with its events and everything that was ever decided about it."""

    payment: StoredPayment
    amount: int  # fen
    events: list[Any]
    decisions: list[Any] = field(default_factory=list)

    @property
    def number(self) -> str:
        return str(self.payment.body.get("case") or f"C{self.payment.payment_id}")

    @property
    def proposal(self) -> Any | None:
        """The decision under way."""
        return next((each for each in self.decisions if each["settled_at"] is None), None)


class PostgresCases:
    """``ports.Cases`` on PostgreSQL: what a worker needs."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: Connection | None = None

    async def verdicts(self, epoch: int) -> list[Verdict]:
        try:
            connection = await self._connected()
            await connection.execute(QUERY["case_settle_final"], timeout=limits.JOURNAL_ANSWER_S)
            rows = await connection.fetch(
                QUERY["case_verdicts"], epoch, limits.RECOVERY_PAGE, timeout=limits.JOURNAL_ANSWER_S
            )
        except (asyncpg.PostgresError, *BROKEN) as error:
            raise self._gone(error) from error
        return [
            Verdict(
                row["id"],
                row["payment_id"],
                row["decision"],
                {name: row[name] for name in ("evidence", "proposed_by", "confirmed_by")},
            )
            for row in rows
        ]

    async def settle(self, verdict: Verdict, outcome: str) -> None:
        try:
            connection = await self._connected()
            await connection.execute(QUERY["case_settle"], verdict.id, outcome, timeout=limits.JOURNAL_ANSWER_S)
        except (asyncpg.PostgresError, *BROKEN) as error:
            raise self._gone(error) from error

    async def stop(self) -> None:
        if self._connection is not None:
            await close(self._connection)

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._dsn, "cases", BY_KEY)
        return self._connection

    def _gone(self, error: Exception) -> UnavailableError:
        if self._connection is not None:
            self._connection.terminate()
        return UnavailableError("database", f"PostgreSQL was lost: {type(error).__name__}")


# ---------------------------------------------------------------------------------------------------- for people
async def open_cases(dsn: str, payment_id: int | None = None) -> list[Case]:
    """Payments in SUSPENSE and UNPROVEN, oldest first; at most CASES_SHOWN_MAX."""
    async with connected(dsn, "cases") as connection:
        events = await connection.fetch(QUERY["case_open"], payment_id, limits.CASES_SHOWN_MAX)
        groups: dict[int, list[Any]] = {}
        for event in events:
            groups.setdefault(event["payment_id"], []).append(event)
        cases = {number: Case(fold(group), group[-1]["amount"], group) for number, group in groups.items()}
        for row in await connection.fetch(QUERY["case_decisions"], list(cases)):
            cases[row["payment_id"]].decisions.append(row)
    return list(cases.values())


async def propose(dsn: str, case: Case, decision: str, evidence: str, who: str) -> int:
    """Raises BadRequestError when another decision is under way or the evidence is none."""
    async with connected(dsn, "cases") as connection:
        try:
            number: int = await connection.fetchval(
                QUERY["case_propose"], case.payment.payment_id, decision, evidence.strip(), who
            )
        except asyncpg.UniqueViolationError as error:
            raise BadRequestError(
                "case_proposed", f"{case.number}: somebody has just proposed one; look again"
            ) from error
        except asyncpg.CheckViolationError as error:
            raise BadRequestError("case_evidence", f"{case.number}: evidence needs 3 to 2000 characters") from error
    return number


async def confirm(dsn: str, case: Case, who: str) -> int:
    """Raises BadRequestError when nothing is proposed, or by the same person."""
    proposal = case.proposal
    if proposal is None:
        raise BadRequestError(
            "case_changed", f"{case.number}: nothing is proposed yet; propose with --decision and --evidence"
        )
    async with connected(dsn, "cases") as connection:
        try:
            number: int | None = await connection.fetchval(QUERY["case_confirm"], proposal["id"], who)
        except asyncpg.CheckViolationError as error:
            raise BadRequestError(
                "case_same_person",
                f"{case.number}: {proposal['proposed_by']} proposed this; another person must confirm it",
            ) from error
    if number is None:
        raise BadRequestError("case_changed", f"{case.number}: it is confirmed already, or was withdrawn; look again")
    return number


async def withdraw(dsn: str, case: Case) -> None:
    """Raises BadRequestError when there is nothing to withdraw, or it is too late."""
    proposal = case.proposal
    async with connected(dsn, "cases") as connection:
        if proposal is None or await connection.fetchval(QUERY["case_withdraw"], proposal["id"]) is None:
            raise BadRequestError("case_changed", f"{case.number}: no proposal that could still be withdrawn")


async def outcome(dsn: str, decision_id: int) -> str | None:
    """How the switch carried it out; None: not yet."""
    async with connected(dsn, "cases") as connection:
        said: str | None = await connection.fetchval(QUERY["case_outcome"], decision_id)
    return said
