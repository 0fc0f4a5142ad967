"""Batch settlement of terminals with the card network: 0500 with the totals, the details where they differ (0320).

It moves no money: charges are settled by the card network's day, whatever is said here. A terminal is asked about when
nothing of it is under way, so that its totals stand still; while it is asked about, its kiosk begins no payment. The
batch number moves only when the host has said that the totals agree or differ; a reversal goes on carrying the batch of
its purchase. Whatever is lost on the way is asked again, under the same batch number.

The loop here is one coroutine, off the path of payments: terminals are settled one after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from switch import limits
from switch.dialects.codes import CardCodes
from switch.dialects.unionpay import UnionPayDialect
from switch.errors import SwitchError, UnavailableError
from switch.machines import days
from switch.model.request import CardAnswer
from switch.ports import CardBatches, Clock, DueBatch, Journal, Observer, Terminal, Terminals
from switch.runtime.calls import called
from switch.runtime.links import CardLink
from switch.runtime.payments import Payments
from switch.runtime.terminals import TerminalSession, TerminalSessions

_STATES: Final = {"1": "balanced", "2": "differs"}


class CardSettlement:
    def __init__(
        self,
        *,
        store: CardBatches,
        terminals: Terminals,
        sessions: TerminalSessions,
        link: CardLink,
        dialect: UnionPayDialect,
        codes: CardCodes,
        payments: Payments,
        journal: Journal,
        settle_minute: int,
        spread_s: float,
        clock: Clock,
        observer: Observer,
    ) -> None:
        self._store = store
        self._terminals = terminals
        self._sessions = sessions
        self._link = link
        self._dialect = dialect
        self._codes = codes
        self._payments = payments
        self._journal = journal
        self._settle_minute = settle_minute
        self._spread_s = spread_s
        self._clock = clock
        self._observer = observer
        self._settling = ""  # the terminal that is being asked about

    def is_settling(self, terminal_id: str) -> bool:
        """No payment of this terminal may begin now; in a moment it may."""
        return terminal_id == self._settling

    async def run_forever(self) -> None:
        while True:
            await asyncio.sleep(limits.SETTLE_LOOK_S)
            try:
                await self.look()
            except UnavailableError:
                pass  # the journal says it; what was begun is asked again
            except Exception as error:
                # A fault of ours: said, and tried again. Kiosks go on paying.
                self._observer.event("settlement.failed", level="error", error=repr(error))

    async def look(self) -> None:
        """Settle whatever is due now. Raises UnavailableError: the database is away."""
        wall_us = self._clock.wall_us()
        since_s = 86_400.0 - days.seconds_to_cut_over(wall_us, self._settle_minute)
        day = days.today(wall_us - round(since_s * 1_000_000))
        if not self._may_ask():
            return
        for batch in await self._store.due(day, since_s, self._spread_s, limits.SETTLE_PAGE):
            if not self._may_ask():
                return
            await self._settle(batch, day)

    def _may_ask(self) -> bool:
        return self._link.is_usable and self._journal.accepting

    async def _settle(self, batch: DueBatch, day: int) -> None:
        session = await called(self._sessions.get, batch.terminal_id)
        if not isinstance(session, TerminalSession) or session.must_sign_on:
            return
        self._settling = batch.terminal_id
        try:
            if self._payments.is_busy(batch.terminal_id):
                return
            begun = await self._store.begin(batch, day)
            differs = begun is not None and begun.state == "differs"
            if begun is not None and not differs:
                build = partial(self._dialect.settlement, count=begun.count, amount=begun.amount)
                answer = await self._ask("settlement", session, batch, build)
                differs = answer is not None and await self._answered(session, batch, answer) == "differs"
        finally:
            self._settling = ""
        if differs:
            await self._upload(session, batch)

    async def _answered(self, session: TerminalSession, batch: DueBatch, answer: CardAnswer) -> str:
        """The state of the batch now; "": the host has not settled it."""
        state = _STATES.get(answer.settled, "")
        if answer.response_code in self._codes.sign_on_again:
            session.must_sign_on = True
        self._observer.count("switch_settlements_total", (state or "refused",))
        if not state:
            facts = {"terminal": batch.terminal_id, "batch": batch.batch_number, "response_code": answer.response_code}
            self._observer.event("settlement.refused", level="warning", **facts)
            return ""
        terminal = await called(self._terminals.close_batch, batch.terminal_id, batch.batch_number, state)
        if isinstance(terminal, SwitchError):
            raise UnavailableError("database", terminal.detail)
        assert isinstance(terminal, Terminal)
        if terminal.key_epoch == session.terminal.key_epoch:
            session.terminal = terminal
        level = "warning" if state == "differs" else "info"
        self._observer.event(
            "settlement.closed", level=level, terminal=batch.terminal_id, batch=batch.batch_number, state=state
        )
        return state

    async def _upload(self, session: TerminalSession, batch: DueBatch) -> None:
        """All details from the first one on, and their end; when one stays without an answer, all of it again later."""
        details = await self._store.details(batch)
        for at in range(0, len(details), limits.SETTLE_DETAILS_MAX):
            some = details[at : at + limits.SETTLE_DETAILS_MAX]
            if not await self._sent(session, batch, partial(self._dialect.upload, details=some)):
                return
        if await self._sent(session, batch, partial(self._dialect.upload_end, count=len(details))):
            await self._store.uploaded(batch)

    async def _sent(self, session: TerminalSession, batch: DueBatch, build: Callable[..., bytes]) -> bool:
        answer = await self._ask("upload", session, batch, build)
        return answer is not None and answer.response_code == "00"

    async def _ask(
        self, kind: str, session: TerminalSession, batch: DueBatch, build: Callable[..., bytes]
    ) -> CardAnswer | None:
        """One message of a batch, and its answer. None: there was none."""
        stan = await called(self._sessions.take_stan, session)
        if stan is None or not self._link.is_usable:
            return None
        frame = build(batch.terminal_id, batch.merchant_id, batch.batch_number, stan)
        answer: CardAnswer | None = await called(self._link.manage, kind, batch.terminal_id, stan, frame)
        if answer is not None or self._link.is_up:
            self._link.heard_of(silent=answer is None)
        return answer
