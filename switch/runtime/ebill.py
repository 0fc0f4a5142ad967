"""E-bills: month after month asked of the marketing system, told to the kiosk, and forgotten.

One page is a few months, the newest first, each a question of its own: that is what both languages of marketing systems
can answer. The questions go one after the other, so a customer who turns pages is never more than one of them, and
together they take no longer than one bill inquiry may.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from msgspec import Struct

from switch import limits
from switch.dialects.marketing import MarketingAnswer, MarketingDialect
from switch.errors import BadRequestError
from switch.limits import TimeProfile
from switch.machines import days
from switch.model.ebill import EBill
from switch.model.request import EBillInquiry
from switch.ports import Clock, Observer
from switch.runtime.links import MarketingLink
from switch.runtime.timers import Timers

# (stable code, months found, YYYYMM from which older ones may be asked or "")
Told = Callable[[str, list[EBill], str], None]


class _Page(Struct, eq=False):
    account: str
    oldest: str  # of this page
    limit: str  # of all pages
    until: float
    told: Told
    found: list[EBill] = []


class EBills:
    def __init__(
        self,
        *,
        link: MarketingLink,
        dialect: MarketingDialect,
        times: TimeProfile,
        clock: Clock,
        timers: Timers,
        observer: Observer,
    ) -> None:
        self._link = link
        self._dialect = dialect
        self._times = times
        self._clock = clock
        self._timers = timers
        self._observer = observer
        self._open = 0

    def speak(self, dialect: MarketingDialect) -> None:
        """From now on this one towards the marketing system."""
        self._dialect = dialect

    def inquire(self, request: EBillInquiry, told: Told) -> None:
        """``told`` is called once: ``found`` with at least one month, or the code of why there is none."""
        this_month = f"{days.local(self._clock.wall_us()):%Y%m}"
        limit = days.months_before(this_month, limits.E_BILL_BACK_MAX)
        if not limit <= request.newest <= this_month:
            told("no_bill", [], "")
            return
        if self._open >= limits.INQUIRIES_MAX:
            told("busy", [], "")
            return
        self._open += 1
        asked_at = self._clock.now()

        def done(code: str, found: list[EBill], older: str) -> None:
            self._open -= 1
            self._observer.observe("switch_leg_seconds", self._clock.now() - asked_at, ("e_bill",))
            told(code, found, older)

        oldest = max(limit, days.months_before(request.newest, request.months - 1))
        self._ask(_Page(request.account, oldest, limit, asked_at + self._times.post_s, done), request.newest)

    def _ask(self, page: _Page, period: str) -> None:
        link = self._link
        left_s = page.until - self._clock.now()
        if not link.is_usable or left_s <= 0:
            self._end(page, "bill_unavailable", period)
            return
        request_id = link.next_id()

        def answered(answer: MarketingAnswer | None) -> None:
            timer.cancel()
            if answer is not None:
                link.heard_of(silent=False)
            self._read(page, period, answer)

        def silent() -> None:
            if left_s >= self._times.post_s:  # what is left for a later month says nothing about the peer
                link.heard_of(silent=True)
            link.forget(request_id)
            self._read(page, period, None)

        try:
            frame = self._dialect.e_bill(request_id, page.account, period)
        except BadRequestError as error:
            self._observer.event("frame.unbuildable", level="error", error=error.detail)
            self._end(page, "bill_unavailable", period)
            return
        timer = self._timers.after(left_s, silent)
        if not link.call(request_id, frame, answered):
            answered(None)

    def _read(self, page: _Page, period: str, answer: MarketingAnswer | None) -> None:
        if answer is None:
            self._end(page, "bill_unavailable", period)
            return
        try:
            bill = self._dialect.e_bill_of(answer, page.account, period)
        except BadRequestError as error:
            self._observer.event("answer.bad_record", link=self._link.name, error=error.detail)
            bill = "bill_unavailable"
        if isinstance(bill, EBill):
            page.found.append(bill)
        elif bill != "no_bill":
            self._end(page, bill, period)
            return
        older = days.months_before(period, 1)
        if period > page.oldest:
            # On the next turn: six answers that are there at once must not be six calls deep.
            self._timers.after(0.0, partial(self._ask, page, older))
        else:
            self._end(page, "no_bill", older if older >= page.limit else "")

    def _end(self, page: _Page, code: str, older: str) -> None:
        """What was found is told; ``code`` only if that is nothing."""
        if page.found:
            page.told("found", page.found, older)
        else:
            page.told(code, [], "")
