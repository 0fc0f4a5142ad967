"""A kiosk as a locust user: one terminal with its connection, one customer after the other.

What it tells locust, each as a request of the type ISO8583:

    name      from … to                                                 fails with
    --------  --------------------------------------------------------  -------------------------------------
    connect   dialling to connected, TLS included                       the system's words
    sign-on   request to response                                       code; silent; cut; keys
    echo      the same                                                  code; silent; cut
    inquiry   the same                                                  any code but 00 and E2 (nothing owed)
    payment   the same                                                  any code but 00 and the issuer's
    result    the same                                                  silent; cut; what does not tell the result
    repeat    the same, of a request that was answered before           an answer other than the first
    visit     the moment a customer was due to the end of the payment   with its payment or inquiry

With a rate, customers come at fixed moments, whether or not the kiosk is free: a visit then counts the waiting in the
queue, and a slow switch cannot hide behind kiosks that wait for it. Without one, the next customer comes some time
after the last one has gone, and a visit counts from there.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import gevent
from locust import User, constant, task
from locust.exception import StopUser
from locust.user.task import LOCUST_STATE_STOPPING

from loadtests import testdata
from loadtests.wire import NOT_FINAL, Answer, Book, Kiosk, kiosk_tls

CARDS_OF_A_KIOSK: Final = 1_000  # so that no two kiosks ever swipe the same card
_THINK_S: Final = (0.5, 1.5)  # between two customers when there is no rate
_LOOK_S: Final = 0.5  # between looks whether to stop
_ASK_EVERY_S: Final = 2.0  # "ask with a result inquiry every few seconds"
_TOLD_NOTHING_OWED: Final = frozenset({"00", "E2"})


class KioskError(Exception):
    """Named by the kiosk's code, so that locust counts each code by itself."""


class VisitError(Exception):
    """The customer went away without having paid; why, the inquiry or the payment says."""


@dataclass(slots=True)
class Terminals:
    """The terminals of this worker; each is one user's at a time.

    A user that starts takes the kiosk that a stopped one gave back, with its serials, before one that was never used.
    """

    address: tuple[str, int] = ("127.0.0.1", 0)
    first: int = 1
    count: int = 0
    in_all: int = 1  # over all workers: the step from one customer of a kiosk to its next
    answer_s: float = 6.0
    tls_dir: Path | None = None
    book: Book = field(default_factory=Book)
    _used: int = 0
    _free: list[Kiosk] = field(default_factory=list)

    def take(self) -> Kiosk | None:
        if self._free:
            return self._free.pop()
        if self._used >= self.count:
            return None
        terminal = testdata.terminal(self.first + self._used)
        self._used += 1
        tls = None if self.tls_dir is None else kiosk_tls(self.tls_dir, terminal.terminal_id)
        return Kiosk(terminal, self.address, self.book, answer_s=self.answer_s, tls=tls)

    def give_back(self, kiosk: Kiosk) -> None:
        kiosk.close()
        self._free.append(kiosk)


TERMINALS: Final = Terminals()  # of this process; filled in by ``locustfile.py`` before users start


class KioskUser(User):
    """Its life is one task that never ends by itself, and that waits by sleeping. Locust kills a user who waits in its
    way, and then no longer waits for what that user still does: the last words about payments would not be counted.
    """

    wait_time = constant(0)

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        options = environment.parsed_options
        self._gap_s = options.kiosks / options.rate if options.rate else None
        self._settle_s = options.settle
        self._repeat_share = options.repeat_share
        self._due = time.monotonic()
        self._asked_at = 0.0
        self._kiosk = TERMINALS.take()

    def on_stop(self) -> None:
        if self._kiosk is not None:
            TERMINALS.give_back(self._kiosk)
            self._kiosk = None

    @task
    def live(self) -> None:
        kiosk = self._kiosk
        if kiosk is None:
            self._fire(
                "connect", Answer("no terminal"), KioskError("no terminal is left: raise --terminals-per-worker")
            )
            raise StopUser
        # A hall opens its kiosks one after the other; all in one millisecond would only measure the backlog.
        self._due += random.random() * (self._gap_s or _THINK_S[0])
        while self._wait_until(self._due):
            self._visit(kiosk)
            self._due = time.monotonic() + random.uniform(*_THINK_S) if self._gap_s is None else self._due + self._gap_s
        self._settle(kiosk)
        raise StopUser

    def _wait_until(self, when: float) -> bool:
        """False when this user is to stop."""
        while (left_s := when - time.monotonic()) > 0 and not self._is_told_to_stop:
            gevent.sleep(min(left_s, _LOOK_S))
        return not self._is_told_to_stop

    @property
    def _is_told_to_stop(self) -> bool:
        return self._state == LOCUST_STATE_STOPPING

    def _settle(self, kiosk: Kiosk) -> None:
        """What is in doubt is asked for until it has its final word, or for so long as the run allows."""
        ends_at = time.monotonic() + self._settle_s
        while kiosk.unfinished and time.monotonic() < ends_at:
            if self._ready(kiosk):
                self._clarify(kiosk)
            if kiosk.unfinished:
                gevent.sleep(min(_ASK_EVERY_S, max(0.0, ends_at - time.monotonic())))

    # ------------------------------------------------------------------------------------------------ one customer
    def _visit(self, kiosk: Kiosk) -> None:
        paid = self._ready(kiosk) and self._serve(kiosk)
        waited = Answer("visit", time.monotonic() - self._due)
        self._fire("visit", waited, None if paid else VisitError("not paid"))

    def _serve(self, kiosk: Kiosk) -> bool:
        if kiosk.unfinished and time.monotonic() >= self._asked_at + _ASK_EVERY_S:
            self._clarify(kiosk)
            if not self._ready(kiosk):  # an inquiry may say: sign on again
                return False
        place = kiosk.terminal.number - 1 + kiosk.visits * TERMINALS.in_all
        card = testdata.card(kiosk.terminal.number * CARDS_OF_A_KIOSK + kiosk.visits % CARDS_OF_A_KIOSK)
        kiosk.visits += 1
        found = kiosk.inquire(testdata.account(place))
        self._fire("inquiry", found, None if found.code in _TOLD_NOTHING_OWED else _fault(found))
        if found.bills is None:
            return found.code == "E2"
        payment, answer = kiosk.pay(found.bills, card)
        good = answer.code == "00" or answer.stable == "declined"
        self._fire("payment", answer, None if good else _fault(answer))
        if payment.final and kiosk.is_signed_on and random.random() < self._repeat_share:
            again = kiosk.repeat(payment)
            same = again.code == answer.code and again.reference == answer.reference
            self._fire("repeat", again, None if same else _fault(again))
        return good

    def _clarify(self, kiosk: Kiosk) -> None:
        self._asked_at = time.monotonic()
        for payment in list(kiosk.unfinished.values()):
            if not kiosk.is_connected or not kiosk.is_signed_on:
                return
            answer = kiosk.ask_result(payment)
            told = payment.final or answer.code in NOT_FINAL
            self._fire("result", answer, None if told else _fault(answer))

    def _ready(self, kiosk: Kiosk) -> bool:
        """Connected and signed on; after a failure a pause, so that a switch in trouble is not stormed."""
        if not kiosk.is_connected:
            started = time.monotonic()
            problem: Exception | None = None
            try:
                kiosk.connect()
            except OSError as error:
                problem = KioskError((error.strerror or type(error).__name__).lower())
            self._fire("connect", Answer("", time.monotonic() - started), problem)
            if problem is not None:
                gevent.sleep(random.uniform(0.5, 1.0))
                return False
            greeting = kiosk.echo()
            self._fire("echo", greeting, None if greeting.code in ("00", "77") else _fault(greeting))
        if not kiosk.is_signed_on:
            answer = kiosk.sign_on()
            self._fire("sign-on", answer, None if answer.code == "00" else _fault(answer))
            if answer.code != "00":
                # "Between two sign-ons that fail wait 5 to 60 s, at random"; less on the short time profile.
                gevent.sleep(random.uniform(TERMINALS.answer_s / 18, TERMINALS.answer_s * 2 / 3))
        return kiosk.is_signed_on

    def _fire(self, name: str, answer: Answer, problem: Exception | None) -> None:
        self.environment.events.request.fire(
            request_type="ISO8583",
            name=name,
            response_time=answer.seconds * 1000,
            response_length=answer.size,
            exception=problem,
            context={},
        )


def _fault(answer: Answer) -> KioskError:
    return KioskError(f"{answer.code} {answer.stable}".strip())
