"""One kiosk with a screen: a customer is a coroutine, from the first touch to the start screen.

    it shows a view and waits for an act of the page, or for a peripheral, or for the client library
    who leaves, or touches nothing for a while, ends in one exception: the card is given back, the start is shown
    what was paid is known to the client library and its journal, whoever leaves and whatever loses power

A card is asked for only when a payment can begin and its slip can be printed.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from switch.kiosk import (
    Bills,
    CardReader,
    DeviceError,
    EBills,
    JournalError,
    KioskClient,
    KioskJournal,
    Month,
    OpenPaymentError,
    Outcome,
    PaymentResult,
    PinPad,
    ReceiptPrinter,
    Refusal,
    Slip,
    Track,
    swiped,
)
from switch.kiosk.results import NO_ANSWER, NOT_CONNECTED
from switch.kiosk.web import views
from switch.kiosk.web.notices import Notices, NoticesError
from switch.kiosk.web.views import Told, View
from switch.limits import (
    KIOSK_WEB_E_BILL_MONTHS,
    KIOSK_WEB_LOOK_S,
    KIOSK_WEB_PAPER_LOOK_S,
    KIOSK_WEB_POLL_S,
    KIOSK_WEB_RESTART_S,
    PIN_ENTRY_S,
)
from switch.model.payment import Card

_WRONG_PIN: Final = "55"  # field 39
_ANY_DEVICE: Final = DeviceError("", "").text
_CARD_LOOK_S: Final = 1.0  # of one wait for a card: who leaves is noticed at the end of it
_ABANDON_EVERY_S: Final = 0.1

T = TypeVar("T")
log = logging.getLogger(__name__)


class Counter(Protocol):
    """What the customer stands at. Peripherals block, and are called in threads, one call at a time."""

    changed: Callable[[], None]  # set by the station: call it when a peripheral was touched

    @property
    def reader(self) -> CardReader: ...

    @property
    def pin_pad(self) -> PinPad: ...

    @property
    def printer(self) -> ReceiptPrinter: ...

    def abandon(self) -> None:
        """End a PIN entry that waits: its customer has left."""
        ...

    def new_customer(self) -> None: ...

    def bench(self, *, line: bool) -> views.Bench | None:
        """Simulated peripherals for the page to show; None: they are real. ``line``: the cable is plugged in."""
        ...

    def handle(self, what: views.Handled) -> None:
        """A simulated one was touched. Raises ValueError."""
        ...


class StaleError(Exception):
    """What was pressed belongs to a screen that has gone. Nothing was done."""


class _LeftError(Exception):
    def __init__(self, *, timed_out: bool) -> None:
        self.timed_out = timed_out


class _RefusedError(Exception):
    def __init__(self, told: Told) -> None:
        self.told = told


class Station:
    """Args:
    open_journal: The kiosk's file, opened anew in each life.
    make_client: A client on it; the second argument is its ``on_result``.
    idle_s: Seconds without a touch until the screen goes back to the start.
    """

    def __init__(
        self,
        open_journal: Callable[[], KioskJournal],
        make_client: Callable[[KioskJournal, Callable[[PaymentResult], None]], KioskClient],
        counter: Counter,
        notices: Notices,
        *,
        terminal_id: str,
        idle_s: float,
    ) -> None:
        self._open_journal = open_journal
        self._make_client = make_client
        self._counter = counter
        counter.changed = self._changed
        self._notices = notices
        self._terminal_id = terminal_id
        self._idle_s = idle_s
        self._life = secrets.token_hex(4)  # so that a step of an earlier run of the program is never one of this
        self._version = 0
        self._step = 0
        self._news = asyncio.Event()
        self._stopping = False
        self._build: Callable[[], View] = views.Starting
        self._kinds: tuple[type[views.Act], ...] = ()
        self._pressed: asyncio.Future[views.Act] | None = None
        self._deadline: float | None = None
        self._told_step = -1  # the last one that a page has been told of
        self._is_home = False
        self._timed_out = False
        self._line = True
        self._power_cut = asyncio.Event()
        self._journal: KioskJournal | None = None
        self._client: KioskClient | None = None
        self._closed: Told | None = Told(NOT_CONNECTED)
        self._paper: Told | None = None
        self._paper_at = 0.0  # when the printer is asked next
        self._printing = asyncio.Lock()

    # ------------------------------------------------------------------------------------------------ for the server
    async def state(self, known: str) -> views.State:
        """As it stands; when the page knows this version already, as soon as there is another, or a while later."""
        if known == self._name(self._version) and not self._stopping:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KIOSK_WEB_POLL_S):
                    await self._news.wait()
        self._told_step = self._step
        left_s = None if self._deadline is None else max(0.0, self._deadline - asyncio.get_running_loop().time())
        return views.State(
            version=self._name(self._version),
            step=self._name(self._step),
            view=self._build(),
            terminal=self._terminal_id,
            service=views.Service(self._closed or self._paper),
            notices=self._notices.of(_now().date()),
            seconds_left=left_s,
            idle_s=self._idle_s,
            bench=self._counter.bench(line=self._line),
        )

    def stop_waiting(self) -> None:
        """The program ends: whoever waits for news is told that there is none."""
        self._stopping = True
        self._changed()

    def press(self, step: str, act: views.Act) -> None:
        """Raises StaleError."""
        if step != self._name(self._step) or self._pressed is None or self._pressed.done():
            raise StaleError
        self._touch()
        if isinstance(act, views.Touch):
            return
        if not isinstance(act, (*self._kinds, views.Leave)):
            raise StaleError
        self._pressed.set_result(act)

    def handle(self, what: views.Handled) -> None:
        """A simulated peripheral was touched, the line plugged or the power cut. Raises ValueError."""
        self._counter.handle(what)
        if self._deadline is not None:
            self._touch()
        self._paper_at = 0.0
        if isinstance(what.line, bool):
            self._line = what.line
        if what.power is True:
            self._power_cut.set()
        self._changed()

    async def run(self) -> None:
        """Until cancelled. Each cut of the power ends one life; the next begins with what is on disk."""
        while True:
            life, cut = asyncio.create_task(self._live()), asyncio.create_task(self._power_cut.wait())
            try:
                await asyncio.wait({life, cut}, return_when=asyncio.FIRST_COMPLETED)
                if life.done():
                    life.result()
            finally:
                await _ended(life, cut)
            self._power_cut.clear()

    # ------------------------------------------------------------------------------------------------ a life
    async def _live(self) -> None:
        while True:
            self._show(views.Starting)
            try:
                await self._work()
            except JournalError as error:
                log.error("%s [%s]; no payments", error, error.code)
                told = Told(error.code)
                self._show(partial(views.OutOfOrder, told))
                await asyncio.sleep(KIOSK_WEB_RESTART_S)

    async def _work(self) -> None:
        self._journal = journal = await asyncio.to_thread(self._open_journal)
        client = self._make_client(journal, lambda _result: self._changed())
        self._client = client
        watch = asyncio.create_task(self._watch(client))
        try:
            with contextlib.suppress(DeviceError):
                await self._device(self._counter.reader.eject)  # a card of before the power went
            if self._line:
                await client.connect()
            self._closed = _why_closed(client)
            if self._earlier():
                with contextlib.suppress(_LeftError):
                    await self._show_earlier()
            while True:
                await self._next_customer()
        finally:
            self._show(views.Starting)
            self._client = None
            self._closed = Told(NOT_CONNECTED)
            await _ended(watch)
            await client.close()
            journal.close()

    async def _watch(self, client: KioskClient) -> None:
        """Notices what nobody tells: line, paper, the bench's cable, the file of notices."""
        loop = asyncio.get_running_loop()
        plugged, bench = self._line, self._counter.bench(line=self._line)
        while True:
            if self._line != plugged:
                plugged = self._line
                with contextlib.suppress(JournalError):  # whoever pays next hears of it
                    await (client.connect() if plugged else client.close())
            closed, paper = _why_closed(client), self._paper
            if self._is_home and loop.time() >= self._paper_at:
                self._paper_at = loop.time() + KIOSK_WEB_PAPER_LOOK_S
                paper = await self._paper_missing()
            try:
                self._notices.look()
            except NoticesError as error:
                log.warning("%s; the notices before stay", error)
            looked, bench = (closed, paper, bench), self._counter.bench(line=self._line)
            if looked != (self._closed, self._paper, bench):
                self._closed, self._paper = closed, paper
                self._changed()
            await asyncio.sleep(KIOSK_WEB_LOOK_S)

    async def _paper_missing(self) -> Told | None:
        try:
            async with self._printing:
                status = await self._device(self._counter.printer.status)
        except DeviceError as error:
            return _of_device(error)
        if status.can_print:
            return None
        return Told("printer_offline" if status.paper else "printer_paper_out")

    # ------------------------------------------------------------------------------------------------ one customer
    async def _next_customer(self) -> None:
        self._is_home = True
        timed_out = self._timed_out
        act = await self._ask(
            lambda: views.Home(len(self._earlier()), timed_out), views.Begin, views.ShowEarlier, stays=True
        )
        self._is_home = False
        self._timed_out = False
        try:
            if isinstance(act, views.ShowEarlier):
                await self._show_earlier()
            elif isinstance(act, views.Begin):
                self._counter.new_customer()
                await self._serve(act.business)
        except _LeftError as left:
            self._timed_out = left.timed_out
        except _RefusedError as refused:
            with contextlib.suppress(_LeftError):
                await self._ask(partial(views.Refused, refused.told))

    async def _serve(self, business: str) -> None:
        """One of what a customer can come for. A new one is a new line here and its own method."""
        if business == views.BALANCE:
            await self._ask_balance()
        elif business == views.E_BILL:
            await self._ask_e_bill()
        elif business in (views.PAY, views.PREPAY):
            await self._door()  # nobody types a number for nothing
            await self._pay(business)

    async def _pay(self, business: str) -> None:
        account, told = await self._ask_account(business, "", None), None
        while True:
            try:
                found = await self._busy("inquiring", self._kiosk.inquire(account))
            except ValueError:
                found = Refusal("unknown_account", "", "")
            if isinstance(found, Bills):
                told = Told("arrears_first") if business == views.PREPAY else None
                if not await self._pay_bills(found, told):
                    return
            elif found.code == "unknown_account":
                account = await self._ask_account(business, account, Told(found.code, found.text))
            elif found.code != "no_arrears":
                raise _RefusedError(Told(found.code, found.text))
            else:
                if business != views.PREPAY:
                    told = Told(found.code, found.text)
                    await self._ask(partial(views.Refused, told, account), views.Again)
                await self._prepay(account)
                return

    async def _ask_account(self, business: str, account: str, told: Told | None) -> str:
        given = await self._ask(partial(views.Account, business, account, told), views.GiveAccount)
        assert isinstance(given, views.GiveAccount)
        return given.account.strip()

    async def _pay_bills(self, bills: Bills, told: Told | None) -> bool:
        """Whether it is to be tried again from the account on."""
        if bills.blocked:
            told = Told(bills.blocked, bills.blocked_text)
        chosen = await self._ask(lambda: _bill_list(bills, told), *(() if bills.blocked else (views.Choose,)))
        assert isinstance(chosen, views.Choose)
        months = tuple(month for month in bills.months if month.receivable in chosen.receivables)
        if len(months) != len(set(chosen.receivables)) or not (bills.partial_allowed or months == bills.months):
            raise _RefusedError(Told("amount_mismatch"))  # no page of ours sends that
        amount = sum(month.amount for month in months)
        return await self._charge(views.PAY, amount, bills, lambda card: self._kiosk.pay(bills, months, card))

    async def _prepay(self, account: str) -> None:
        while True:
            given = await self._ask(partial(views.Amount, account), views.GiveAmount)
            assert isinstance(given, views.GiveAmount)
            if not await self._prepay_amount(account, given.amount):
                return

    async def _prepay_amount(self, account: str, amount: int) -> bool:
        confirmed = False

        async def prepay(card: Card) -> PaymentResult:
            return await self._kiosk.prepay(account, amount, card, confirmed=confirmed)

        while True:
            try:
                return await self._charge(views.PREPAY, amount, None, prepay)
            except _ConfirmError:
                await self._ask(lambda: views.AskAgain(account, amount), views.Again)
                confirmed = True

    async def _ask_balance(self) -> None:
        if told := _why_closed(self._kiosk):
            raise _RefusedError(told)
        async with self._card_inside(views.BALANCE, 0) as track:
            told = None
            while True:
                card = await self._pin(views.BALANCE, 0, track, told)
                found = await self._busy("asking_balance", self._kiosk.balance(card))
                if not isinstance(found, Refusal):
                    break
                told = Told(found.code, found.text, found.response_code)
                if found.response_code != _WRONG_PIN:
                    raise _RefusedError(told)
        accounts = found.accounts
        await self._ask(lambda: views.CardBalance(accounts))

    async def _ask_e_bill(self) -> None:
        if told := _why_closed(self._kiosk):  # reading needs no paper
            raise _RefusedError(told)
        account = await self._ask_account(views.E_BILL, "", None)
        while isinstance(found := await self._e_bills(account, ""), Refusal):
            if found.code != "unknown_account":
                raise _RefusedError(Told(found.code, found.text))
            account = await self._ask_account(views.E_BILL, account, Told(found.code, found.text))
        pages, at, slip, told = [found], 0, "", None
        while True:
            page = partial(_e_bill_page, tuple(pages), at, slip, told)
            act = await self._ask(page, views.Turn, views.Print)
            slip, told = "", None
            if isinstance(act, views.Print):
                paper = Slip.of_e_bills(pages[at], f"{_now():%Y-%m-%d %H:%M:%S}")
                slip = await self._on_paper("printing_e_bill", paper)
            elif isinstance(act, views.Turn) and not act.older:
                at = max(0, at - 1)
            elif at + 1 < len(pages):
                at += 1
            elif pages[at].older:
                further = await self._e_bills(account, pages[at].older)
                if isinstance(further, Refusal):
                    told = Told(further.code, further.text)  # what was found stays
                else:
                    pages.append(further)
                    at += 1

    async def _e_bills(self, account: str, newest: str) -> EBills | Refusal:
        try:
            return await self._busy("inquiring", self._kiosk.e_bill(account, newest, KIOSK_WEB_E_BILL_MONTHS))
        except ValueError:
            return Refusal("unknown_account", "", "")

    # ------------------------------------------------------------------------------------------------ money
    async def _charge(
        self,
        business: str,
        amount: int,
        bills: Bills | None,
        pay: Callable[[Card], Coroutine[Any, Any, PaymentResult]],
    ) -> bool:
        """Card, PIN, payment, slip, last word. Whether it is to be tried again."""
        await self._door()
        async with self._card_inside(business, amount) as track:
            while True:
                card = await self._pin(business, amount, track, None)
                try:
                    result = await self._busy("paying", pay(card), amount)
                except OpenPaymentError as error:
                    raise _RefusedError(Told(error.code)) from None
                if result.response_code != _WRONG_PIN or result.outcome is not Outcome.DECLINED:
                    break
                # The card stays inside: only the PIN is typed again.
                if not await self._last_word(business, result, bills, "pin"):
                    return False
        if result.code == "confirm_again":
            await self._seen(result)
            raise _ConfirmError
        return await self._last_word(business, result, bills, "bills" if result.may_try_again else "")

    async def _last_word(self, business: str, result: PaymentResult, bills: Bills | None, retry: str) -> bool:
        """Slip and result, until the customer has read it. Whether he wants another try."""
        key, slip = result.key, ""
        try:
            slip = await self._print(result, bills)
            if not result.final:
                result = await self._while(
                    lambda: self._result_view(business, self._kiosk.result(key), "", slip),
                    self._kiosk.wait_final(key, float("inf")),
                )
                retry = "bills" if result.may_try_again else ""
                slip = await self._print(result, bills)
            while True:
                lacks_slip = slip not in ("", "printed")
                act = await self._ask(
                    partial(self._result_view, business, result, retry, slip),
                    *((views.Again,) if retry else ()),
                    *((views.Print,) if lacks_slip else ()),
                )
                if not isinstance(act, views.Print):
                    return isinstance(act, views.Again)
                slip = await self._print_again(result)
        finally:
            # Seen is what a page was told while it was the screen. Otherwise it waits among the earlier ones.
            if self._told_step == self._step:
                await self._seen(result)

    async def _seen(self, result: PaymentResult) -> None:
        if result.final:
            await asyncio.to_thread(self._kiosk.acknowledge, result)

    async def _print(self, result: PaymentResult, bills: Bills | None) -> str:
        """ "printed", a code of the printer's, or "" where there is none to print."""
        if not result.prints_slip:
            return ""
        return await self._on_paper("printing", Slip.of(result, f"{_now():%Y-%m-%d %H:%M:%S}", bills))

    async def _print_again(self, result: PaymentResult) -> str:
        """As the switch has it, and marked so: some of the slip that failed may have come out."""
        found = await self._busy("printing", self._kiosk.slip_again(result.key))
        if isinstance(found, Refusal):
            return found.code
        return await self._on_paper("printing", Slip.again(found))

    async def _on_paper(self, doing: str, slip: Slip) -> str:
        """ "printed", or a code of the printer's."""
        try:
            async with self._printing:
                await self._busy(doing, self._device(self._counter.printer.print_slip, slip))
        except DeviceError as error:
            log.error("%s %s not printed: %s", slip.title, slip.qr, error)
            return error.code
        return "printed"

    @contextlib.asynccontextmanager
    async def _card_inside(self, business: str, amount: int) -> AsyncIterator[Track]:
        """A card is let in, read, and given back whatever happens."""
        reader = self._counter.reader
        told: Told | None = None
        try:
            while True:
                try:
                    await self._while(partial(views.InsertCard, business, amount, told), self._card_is_there())
                    track = await self._device(reader.read_track2)
                    if track.pan is None:
                        raise DeviceError("card_unreadable", "track 2 has no card number")
                    break
                except DeviceError as error:
                    told = _of_device(error)
                    with contextlib.suppress(DeviceError):
                        await self._device(reader.eject)
            yield track
        finally:
            try:
                await self._device(reader.eject)
            except DeviceError as error:
                log.error("the card was not given back: %s", error)

    async def _card_is_there(self) -> None:
        while not await self._device(self._counter.reader.wait_for_card, _CARD_LOOK_S):
            pass

    async def _pin(self, business: str, amount: int, track: Track, told: Told | None) -> Card:
        pan = track.pan
        assert pan is not None
        tail = pan.masked[-4:]
        try:
            block = await self._while(
                lambda: views.EnterPin(business, amount, tail, told),
                self._device(self._counter.pin_pad.read_pin, pan, PIN_ENTRY_S),
            )
        except DeviceError as error:
            if error.code == "pin_cancelled":
                raise _LeftError(timed_out=False) from None
            if error.code == "pin_timeout":
                raise _LeftError(timed_out=True) from None
            raise _RefusedError(_of_device(error)) from error
        return swiped(track, block)

    async def _door(self) -> None:
        """Raises _RefusedError: no payment can begin, or its slip could not be printed. Before a card is asked for."""
        self._paper = await self._paper_missing()
        self._closed = _why_closed(self._kiosk)
        if told := self._closed or self._paper:
            raise _RefusedError(told)

    # ------------------------------------------------------------------------------------------------ earlier payments
    def _earlier(self) -> tuple[PaymentResult, ...]:
        if self._client is None or self._journal is None:
            return ()
        return (*self._journal.finished, *self._client.open_payments)

    async def _show_earlier(self) -> None:
        act = await self._ask(
            lambda: views.Earlier(tuple(_earlier_payment(each) for each in self._earlier())), views.Seen
        )
        if isinstance(act, views.Seen):
            for result in self._earlier():
                if result.final:
                    await self._print(result, None)
                    await self._seen(result)

    def _result_view(self, business: str, result: PaymentResult, retry: str, slip: str) -> View:
        return views.Result(
            business=business,
            account=result.account,
            amount=result.amount,
            outcome=result.outcome.value,
            final=result.final,
            told=_told(result),
            reference=result.reference,
            case_number=result.case_number,
            retry=retry,
            slip=slip,
        )

    # ------------------------------------------------------------------------------------------------ waiting
    @property
    def _kiosk(self) -> KioskClient:
        assert self._client is not None
        return self._client

    def _show(self, build: Callable[[], View]) -> None:
        self._build = build
        self._step += 1
        self._deadline = None
        self._changed()

    def _changed(self) -> None:
        self._version += 1
        self._news.set()
        self._news = asyncio.Event()

    def _name(self, number: int) -> str:
        return f"{self._life}-{number}"

    def _touch(self) -> None:
        if self._deadline is not None:
            self._deadline = asyncio.get_running_loop().time() + self._idle_s
            self._changed()

    async def _ask(self, build: Callable[[], View], *kinds: type[views.Act], stays: bool = False) -> views.Act:
        """Show, and wait for an act of these kinds. Raises _LeftError: the customer has left."""
        loop = asyncio.get_running_loop()
        self._show(build)
        self._kinds = kinds
        self._pressed = pressed = asyncio.Future[views.Act]()
        try:
            if stays:
                return await pressed
            self._deadline = loop.time() + self._idle_s
            while not pressed.done() and (left_s := self._deadline - loop.time()) > 0:
                await asyncio.wait({pressed}, timeout=left_s)
            if not pressed.done():
                raise _LeftError(timed_out=True)
            act = pressed.result()
            if isinstance(act, views.Leave):
                raise _LeftError(timed_out=False)
            return act
        finally:
            self._pressed = None
            self._deadline = None

    async def _while(self, build: Callable[[], View], work: Coroutine[Any, Any, T]) -> T:
        """Show until ``work`` is done. Raises _LeftError, and what ``work`` raises."""
        leave, task = asyncio.create_task(self._ask(build)), asyncio.create_task(work)
        try:
            await asyncio.wait({task, leave}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                leave.result()
            return await task
        finally:
            await _ended(task, leave)

    async def _busy(self, doing: str, work: Coroutine[Any, Any, T], amount: int = 0) -> T:
        """Show that something is done that nobody can leave."""
        self._show(lambda: views.Busy(doing, amount))
        return await work

    async def _device(self, call: Callable[..., T], *arguments: Any) -> T:
        """A blocking call of a peripheral. Whoever leaves waits for its end: two must not talk on one line."""
        running = asyncio.ensure_future(asyncio.to_thread(call, *arguments))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            while not running.done():
                self._counter.abandon()
                await asyncio.wait({running}, timeout=_ABANDON_EVERY_S)
            running.exception()
            raise


class _ConfirmError(Exception):
    """The same prepayment was made a moment ago."""


async def _ended(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _why_closed(client: KioskClient) -> Told | None:
    if client.is_ready:
        return None
    sign_on = client.last_sign_on
    if sign_on.ok or sign_on.code == NOT_CONNECTED:
        return Told(NOT_CONNECTED)  # why, is nothing for a customer
    return Told(sign_on.code, sign_on.text)


def _of_device(error: DeviceError) -> Told:
    """What has no text of its own is a fault for the staff: its code may mean something else elsewhere."""
    return Told("device" if error.text == _ANY_DEVICE else error.code, error.text)


def _told(result: PaymentResult) -> Told:
    # "No answer" says "nothing was charged" of an inquiry, and the very opposite of a payment.
    code = "result_unknown" if result.code == NO_ANSWER else result.code
    return Told(code, result.text, result.response_code)


def _earlier_payment(result: PaymentResult) -> views.EarlierPayment:
    return views.EarlierPayment(
        account=masked_account(result.account),
        amount=result.amount,
        outcome=result.outcome.value,
        final=result.final,
        told=_told(result),
        reference=result.reference,
        case_number=result.case_number,
    )


def _bill_list(bills: Bills, told: Told | None) -> View:
    return views.BillList(
        account=bills.account,
        name=masked_name(bills.name),
        address=masked_address(bills.address),
        months=tuple(_month(month) for month in bills.months),
        total=bills.total,
        advance_balance=bills.advance_balance,
        partial_allowed=bills.partial_allowed,
        more=bills.more,
        told=told,
    )


def _e_bill_page(pages: tuple[EBills, ...], at: int, slip: str, told: Told | None) -> View:
    page = pages[at]
    return views.EBillPage(
        account=page.account,
        months=page.months,
        newer=at > 0,
        older=bool(page.older),
        slip=slip,
        told=told,
    )


def _month(month: Month) -> views.ShownMonth:
    return views.ShownMonth(
        receivable=month.receivable,
        period=month.period,
        energy_kwh=month.energy_kwh,
        principal=month.principal,
        penalty=month.penalty,
        amount=month.amount,
    )


def masked_name(name: str) -> str:
    """Enough to know oneself by, for a screen that others see.

    >>> masked_name("王小明"), masked_name("")
    ('*小明', '')
    """
    return "*" + name[1:] if name else ""


def masked_address(address: str) -> str:
    """Without house and flat: up to the first digit.

    >>> masked_address("广州市天河区中山路12号翠园小区3栋401房")
    '广州市天河区中山路***'
    """
    for position, character in enumerate(address):
        if character.isdigit():
            return address[:position] + "***"
    return address


def masked_account(account: str) -> str:
    """
    >>> masked_account("0300000009"), masked_account("12")
    ('03****0009', '****')
    """
    return f"{account[:2]}****{account[-4:]}" if len(account) > 6 else "****"


def _now() -> datetime.datetime:
    return datetime.datetime.now()  # noqa: DTZ005  # the wall clock of where the kiosk stands
