"""What is on a card: asked of the card network, told to the kiosk, and forgotten.

It moves no money, so nothing of it is durable: a question that stays without an answer is asked again by the customer.
It goes by the rules that a purchase goes by all the same: the terminal's keys, its trace numbers, its MACs, and what
has to be taken back first (the dispatcher looks at that).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from switch import limits
from switch.dialects.codes import CardCodes
from switch.dialects.unionpay import UnionPayDialect, mab, with_mac
from switch.errors import NOT_NOW, SecurityError
from switch.machines.payment_table import Input
from switch.model.payment import Card
from switch.model.request import BalanceInquiry, CardAnswer
from switch.model.secret import ChipData
from switch.ports import Clock, Observer, SecurityModule
from switch.runtime.links import CardLink
from switch.runtime.terminals import TerminalSession, TerminalSessions

# (stable code, response code of the card network or "", field 54 or "", what the issuer tells the chip)
Told = Callable[[str, str, str, ChipData | None], None]
_UNAVAILABLE: Final = "card_unavailable"


class Balances:
    def __init__(
        self,
        *,
        link: CardLink,
        dialect: UnionPayDialect,
        codes: CardCodes,
        sessions: TerminalSessions,
        security: SecurityModule,
        clock: Clock,
        observer: Observer,
    ) -> None:
        self._link = link
        self._dialect = dialect
        self._codes = codes
        self._sessions = sessions
        self._security = security
        self._clock = clock
        self._observer = observer
        self._open = 0

    def inquire(self, request: BalanceInquiry, session: TerminalSession, told: Told) -> None:
        """``told`` is called once: found with field 54, declined with the issuer's code, or why nobody was asked."""
        if self._open >= limits.INQUIRIES_MAX:
            told("busy", "", "", None)
            return
        self._open += 1
        asked_at = self._clock.now()

        def done(code: str, response_code: str = "", balance: str = "", icc_data: ChipData | None = None) -> None:
            self._open -= 1
            self._observer.observe("switch_leg_seconds", self._clock.now() - asked_at, ("balance",))
            told(code, response_code, balance, icc_data)

        self._sessions.take_stan(session, partial(self._numbered, request, session, done))

    def _numbered(
        self, request: BalanceInquiry, session: TerminalSession, done: Callable[..., None], stan: str | None
    ) -> None:
        side = session.kiosk if session.translates else None
        if stan is None:
            done("busy")
        elif side is None:
            self._build(request, session, done, stan, request.card)
        else:
            self._sessions.translation.translate(side, request.card, partial(self._build, request, session, done, stan))

    def _build(
        self,
        request: BalanceInquiry,
        session: TerminalSession,
        done: Callable[..., None],
        stan: str,
        card: Card | SecurityError,
    ) -> None:
        if isinstance(card, SecurityError):
            self._observer.event("pin.untranslated", terminal=request.terminal_id, error=card.detail)
            done("busy" if card.code in NOT_NOW else "pin_wrong")
            return
        if session.mac_key is None:
            done("sign_on_first")
            return
        try:
            frame = self._dialect.balance(
                request.terminal_id, request.merchant_id, session.terminal.batch_number, stan, card
            )
        except Exception as error:
            # What a kiosk put into its fields does not fit the card network's: a fault of ours to have let it in.
            self._observer.event("frame.unbuildable", level="error", terminal=request.terminal_id, error=repr(error))
            done("internal")
            return

        def made(mac: bytes | SecurityError) -> None:
            if isinstance(mac, SecurityError):
                self._observer.event("mac.failed", error=mac.detail)
                done("busy")
            else:
                self._link.manage(
                    "balance", request.terminal_id, stan, with_mac(frame, mac), partial(self._answered, session, done)
                )

        self._security.make_mac(session.mac_key, session.mac_algorithm, mab(frame), made)

    def _answered(self, session: TerminalSession, done: Callable[..., None], answer: CardAnswer | None) -> None:
        if answer is not None or self._link.is_up:  # a link that is down says nothing about how the peer answers
            self._link.heard_of(silent=answer is None)
        if answer is None:
            done(_UNAVAILABLE)
        elif answer.mac is None or session.mac_key is None:
            self._judged(session, done, answer, None)
        else:
            self._security.verify_mac(
                session.mac_key,
                session.mac_algorithm,
                answer.mab,
                answer.mac,
                partial(self._judged, session, done, answer),
            )

    def _judged(
        self,
        session: TerminalSession,
        done: Callable[..., None],
        answer: CardAnswer,
        good: bool | SecurityError | None,
    ) -> None:
        code = answer.response_code
        if code in self._codes.sign_on_again:
            session.must_sign_on = True
        if good is not None and good is not True:
            # Somebody else's word, or one under keys that are gone: no number of it is shown to anybody.
            self._observer.count("switch_mac_failures_total", (self._link.name,))
            done(_UNAVAILABLE)
        elif self._codes.purchase(code) is Input.CARD_DECLINED:
            done("declined", code, "", answer.icc_data if good else None)
        elif good and answer.balance and self._codes.purchase(code) is Input.CARD_APPROVED:
            done("found", code, answer.balance, answer.icc_data)
        else:
            done(_UNAVAILABLE)
