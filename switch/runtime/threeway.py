"""The continuous three-way check: what both hosts say about payments that we call finished.

The marketing system is asked for every posting by its serial. Card networks of this kind have no inquiry: their side
stays unconfirmed until the settlement file, and is counted so instead of being guessed.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Protocol

import orjson

from switch import limits
from switch.dialects.marketing import MarketingAnswer, MarketingDialect
from switch.errors import BadRequestError
from switch.limits import TimeProfile
from switch.machines.payment_table import Input
from switch.machines.threeway import CLASSES, Comparison, compare
from switch.model.payment import Posting, State
from switch.ports import Observer
from switch.runtime.links import MarketingLink


class ThreeWayStore(Protocol):
    async def due(self) -> list[Any]:
        """Finished payments to compare: opened_on, payment_id, ver, state, amount, body. Raises UnavailableError."""
        ...

    async def record(self, row: Any, charged: int | None, booked: int, found: Comparison) -> None: ...

    async def summary(self) -> tuple[dict[str, tuple[int, int]], int, float]:
        """Payments and fen at risk by class; how many are undecided, and the age of the oldest in seconds."""
        ...


class ThreeWayCheck:
    def __init__(
        self,
        store: ThreeWayStore,
        link: MarketingLink,
        dialect: MarketingDialect,
        times: TimeProfile,
        observer: Observer,
        *,
        can_ask: bool,
    ) -> None:
        self._store = store
        self._link = link
        self._dialect = dialect
        self._times = times
        self._observer = observer
        self._can_ask = can_ask
        self._task: asyncio.Task[None] | None = None
        self._running = asyncio.Lock()

    def speak(self, dialect: MarketingDialect) -> None:
        """From now on this one towards the marketing system."""
        self._dialect = dialect

    def start(self) -> None:
        self._task = asyncio.create_task(self._work(), name="three-way check")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(limits.THREEWAY_EVERY_S)
            try:
                await self.check()
            except Exception as error:  # whatever it is, the next round may go well
                self._observer.event("threeway.put_off", error=repr(error))

    async def check(self) -> dict[str, Any]:
        """Compare everything that is due now. Returns the classes with payments and fen, and what was not asked.

        Raises:
            UnavailableError: The database is away.
        """
        async with self._running:
            compared = skipped = 0
            for _ in range(limits.THREEWAY_LOOKS_MAX):
                rows = await self._store.due() if self._can_ask and self._link.is_usable else []
                for row in rows:
                    booked = await self._booked(row)
                    if booked is None:
                        skipped += 1
                        continue
                    found = compare(State(row["state"]), row["amount"], None, booked)
                    await self._store.record(row, None, booked, found)
                    compared += 1
                    if found.at_risk:
                        self._observer.event(
                            "threeway.difference",
                            level="error",
                            payment=row["payment_id"],
                            difference=found.kind,
                            fen=found.at_risk,
                        )
                if skipped or not rows:
                    break  # the rest has its turn in the next round
            classes, unknown, oldest_s = await self._store.summary()
        at_risk = 0
        for kind in CLASSES:
            count, fen = classes.get(kind, (0, 0))
            at_risk += fen
            self._observer.gauge("switch_threeway_breaks", count, (kind,))
        self._observer.gauge("switch_money_at_risk_fen", at_risk)
        self._observer.gauge("switch_unknown_open", unknown)
        self._observer.gauge("switch_unknown_oldest_seconds", oldest_s)
        return {
            "classes": {kind: {"payments": count, "fen": fen} for kind, (count, fen) in sorted(classes.items())},
            "money_at_risk_fen": at_risk,
            "compared": compared,
            "not_answered": skipped,
            "asked": self._can_ask and self._link.is_usable,
            "undecided": unknown,
        }

    async def _booked(self, row: Any) -> int | None:
        """Fen that the marketing system holds as posted for this payment. None: it does not say."""
        total = 0
        for each in orjson.loads(row["body"])["postings"]:
            posting = Posting.from_row(each)
            answer = await self._ask(posting)
            if answer is None:
                return None
            try:
                said = self._dialect.stated(answer, posting)
            except BadRequestError:
                return None
            if said is Input.BILL_UNCLEAR:
                return None
            total += posting.amount if said is Input.BILL_POSTED else 0
        return total

    async def _ask(self, posting: Posting) -> MarketingAnswer | None:
        request_id = self._link.next_id()
        answered: asyncio.Future[MarketingAnswer | None] = asyncio.get_running_loop().create_future()

        def done(answer: MarketingAnswer | None) -> None:
            if not answered.done():
                answered.set_result(answer)

        if not self._link.call(request_id, self._dialect.status(request_id, posting), done):
            return None
        try:
            async with asyncio.timeout(self._times.post_s):
                return await answered
        except TimeoutError:
            self._link.forget(request_id)
            return None
