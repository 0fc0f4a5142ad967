"""What a chip did with its issuer's scripts goes to the acquirer: kept first, then sent until it is answered.

A kiosk hears of it when it is durable. It is sent at once, so in front of a reversal that the same word of the chip
causes; without an answer it is sent again, by whichever worker finds it due, with the same trace number. It moves no
money: what is definitely refused, or a day old, is given up and said.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

from switch import limits
from switch.dialects.codes import CardCodes
from switch.dialects.unionpay import UnionPayDialect, mab, with_mac
from switch.errors import SecurityError, SwitchError, UnavailableError
from switch.limits import TimeProfile
from switch.machines import days
from switch.machines.payment import Payment
from switch.machines.payment_table import Input
from switch.model.payment import KeptCard, began_us
from switch.model.request import CardAnswer, ChipResult
from switch.ports import NoticeStore, Observer, ScriptNotice, SecurityModule
from switch.runtime.calls import called
from switch.runtime.links import CardLink
from switch.runtime.terminals import TerminalSession, TerminalSessions


class Scripts:
    def __init__(
        self,
        store: NoticeStore | None,
        *,
        link: CardLink,
        dialect: UnionPayDialect,
        codes: CardCodes,
        sessions: TerminalSessions,
        security: SecurityModule,
        times: TimeProfile,
        observer: Observer,
    ) -> None:
        self._store = store
        self._link = link
        self._dialect = dialect
        self._codes = codes
        self._sessions = sessions
        self._security = security
        self._again_s = times.card_s
        self._every_s = min(limits.NOTICES_EVERY_S, times.card_s)
        self._observer = observer
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    def start(self) -> None:
        self._spawn(self._work())

    async def stop(self) -> None:
        """What is kept is sent by the next worker."""
        self._stopping.set()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=limits.SECURITY_ANSWER_S)  # queries end by themselves
        while self._tasks:
            # More than once: a cancellation that meets the end of a query is lost with it.
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(list(self._tasks), timeout=limits.DRAIN_LOOK_S)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -------------------------------------------------------------------------------------------- in
    def keep(self, payment: Payment, result: ChipResult, done: Callable[[bool], None]) -> None:
        """``done(True)`` when it is durable, and has been sent if that could be done; False: not now."""
        if self._store is None or len(self._tasks) >= limits.NOTICES_MAX:
            done(False)
        else:
            self._spawn(self._keep(self._store, payment, result, done))

    async def _keep(
        self, store: NoticeStore, payment: Payment, result: ChipResult, done: Callable[[bool], None]
    ) -> None:
        try:
            assert result.pan is not None
            card = KeptCard(result.pan, None, result.sequence_number, result.icc_data)
            session = await self._session(payment.terminal_id)
            stan = await called(self._sessions.take_stan, session)
            if stan is None:
                raise UnavailableError("busy", "no trace number can be reserved")
            context = _context(payment.payment_id)
            sealed = await _sure(self._security.seal, context, card.to_bytes())
            notice = ScriptNotice(payment.opened_on, payment.payment_id, _body(payment, stan), sealed)
            await store.add(notice, self._again_s)
            await self._send(notice, card)
        except SwitchError as error:
            self._observer.event("script.not_kept", payment=payment.payment_id, error=error.detail)
            done(False)
        except Exception as error:
            self._observer.event("script.not_kept", level="error", payment=payment.payment_id, error=repr(error))
            done(False)
        else:
            done(True)

    # -------------------------------------------------------------------------------------------- out
    async def _work(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._stopping.wait()
                    return
            try:
                await self.look()
            except UnavailableError:
                pass  # the journal says that the database is away
            except Exception as error:  # a fault of ours: said, and tried again
                self._observer.event("script.look_failed", level="error", error=repr(error))

    async def look(self) -> None:
        """Send what is due."""
        if self._store is None or not self._link.is_up:
            return
        for notice in await self._store.due(self._again_s):
            if notice.age_s > limits.NOTICE_LIFE_S:
                await self._end(notice, "too_old")
                continue
            try:
                opened = await _sure(self._security.open_sealed, _context(notice.payment_id), notice.sealed)
                await self._send(notice, KeptCard.from_bytes(opened))
            except (SwitchError, ValueError) as error:
                self._observer.event("script.not_sent", payment=notice.payment_id, error=str(error))

    async def _send(self, notice: ScriptNotice, card: KeptCard) -> None:
        """Raises SwitchError: not now; it stays."""
        session = await self._session(notice.body["terminal"])
        if session.mac_key is None:
            return  # its next sign-on brings one
        batch = session.terminal.batch_number
        frame = self._dialect.script_notice(notice.body, batch, card)
        mac = await _sure(self._security.make_mac, session.mac_key, session.mac_algorithm, mab(frame))
        body = notice.body
        self._link.manage(
            "script", body["terminal"], body["stan"], with_mac(frame, mac), partial(self._answered, notice, session)
        )

    def _answered(self, notice: ScriptNotice, session: TerminalSession, answer: CardAnswer | None) -> None:
        if answer is None:
            return  # it is due again
        if answer.mac is None or session.mac_key is None:
            self._judged(notice, session, answer, True)  # nothing hangs on it but whether it is sent again
        else:
            self._security.verify_mac(
                session.mac_key,
                session.mac_algorithm,
                answer.mab,
                answer.mac,
                partial(self._judged, notice, session, answer),
            )

    def _judged(
        self, notice: ScriptNotice, session: TerminalSession, answer: CardAnswer, good: bool | SecurityError
    ) -> None:
        code = answer.response_code
        if isinstance(good, SecurityError):
            self._observer.event("mac.unjudged", link=self._link.name, error=good.detail)
        elif not good:
            self._observer.count("switch_mac_failures_total", (self._link.name,))
        elif code in self._codes.sign_on_again:
            session.must_sign_on = True
        elif code == "00":
            self._spawn(self._end(notice, "done"))
        elif self._codes.purchase(code) is Input.CARD_DECLINED:
            self._spawn(self._end(notice, f"refused with {code}"))

    async def _end(self, notice: ScriptNotice, outcome: str) -> None:
        assert self._store is not None
        with contextlib.suppress(UnavailableError):  # then it is sent and answered once more
            await self._store.end(notice)
        self._observer.event("script.ended", payment=notice.payment_id, outcome=outcome)

    async def _session(self, terminal_id: str) -> TerminalSession:
        found = await called(self._sessions.get, terminal_id)
        if isinstance(found, TerminalSession):
            return found
        raise found or UnavailableError("busy", "the terminal is unknown")


def _body(payment: Payment, stan: str) -> dict[str, Any]:
    began = days.local(began_us(payment.payment_id))
    return {
        "terminal": payment.terminal_id,
        "merchant": payment.merchant_id,
        "amount": payment.amount,
        "entry_mode": payment.entry_mode,
        "rrn": payment.rrn,
        "stan": stan,
        "original": f"{payment.batch_number}{payment.stan}{began:%m%d}",
    }


def _context(payment_id: int) -> bytes:
    return payment_id.to_bytes(8, "big") + b"script"


async def _sure(call: Callable[..., None], *arguments: Any) -> bytes:
    """Raises SecurityError."""
    given = await called(call, *arguments)
    if isinstance(given, SecurityError):
        raise given
    assert isinstance(given, bytes)
    return given
