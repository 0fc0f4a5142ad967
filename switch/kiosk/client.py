"""The kiosk's client: one kept connection, keys, bills, payments; and whatever happens, each payment's final word.

    async with KioskClient("switch.example", 8583, terminal_id=…, merchant_id=…, journal=journal, keys=keys) as kiosk:
        for result in await kiosk.recover():        # of the life before: after power loss too
            show(result); kiosk.acknowledge(result)
        bills = await kiosk.inquire("0300000009")
        if isinstance(bills, Refusal):
            show(bills.text)
        else:
            result = await kiosk.pay(bills, bills.oldest(1), swiped(track, pin_block))
            show(result.text)                       # result.final: is that the last word?
            kiosk.acknowledge(result)

What it does by itself, so that no vendor has to:

    it connects, signs on, and does both again when the line is lost, after 77, A0, A1, K1, or when nobody answers
    before a payment leaves, it and its serial are on disk (journal.py); a serial is used once
    an answer counts if its MAC is right; without one, or none in time, it asks with result inquiries
    a payment without a final word is asked for until there is one: for hours if need be, and after a restart
    a bill that is being paid cannot be taken again

A request is sent once. Nothing here knows a card number when the payment has left, except while its chip is still to be
finished; of its last word three copies may be sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import random
import ssl
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Final, TypeVar, cast

from msgspec import structs

import iso8583
from switch.errors import SecurityError
from switch.kiosk.devices import ChipReader, DeviceError, PinPad
from switch.kiosk.journal import KioskJournal, OpenPayment
from switch.kiosk.keys import KeyHolder
from switch.kiosk.messages import HEADER_SIZE, Answer, Messages, check_account, clock_offset, has_scripts, local
from switch.kiosk.parameters import (
    APPLICATIONS,
    PUBLIC_KEYS,
    STEPS,
    TEXT,
    ParameterFile,
    Parameters,
    question,
    read_item,
    read_listing,
)
from switch.kiosk.results import (
    CHIP_DECIDES,
    KEYS_DIFFER,
    NO_ANSWER,
    NO_ANSWER_TO_INQUIRY,
    NOT_CONNECTED,
    OPEN_PAYMENTS,
    PARAMETERS_WRONG,
    Balance,
    Bills,
    EBills,
    JournalError,
    Month,
    Outcome,
    PaymentKey,
    PaymentResult,
    Refusal,
    Settlement,
    SignOn,
    SlipAgain,
    outcome_of,
    text_of,
)
from switch.limits import (
    BACKOFF_FIRST_S,
    BACKOFF_MAX_S,
    BATCH_DETAILS_MAX,
    CONNECT_TIMEOUT_S,
    E_BILL_PAGE_MAX,
    FRAME_SIZE_MAX,
    KIOSK_CHIP_TRIES,
    KIOSK_DOWNLOAD_ITEMS_MAX,
    KIOSK_REQUESTS_MAX,
    KIOSK_SERIAL_SKIP,
    KIOSK_STANDARD,
    KIOSK_WRITE_BUFFER_MAX,
    POSTINGS_PER_PAYMENT_MAX,
    TLS_HANDSHAKE_S,
    KioskTimes,
)
from switch.model.payment import Card
from switch.model.secret import ChipData
from switch.security import workingkeys

_SIGN_ON_AGAIN: Final = frozenset({"77", "A0", "A1", "K1"})
_SAYS_NOTHING: Final = _SIGN_ON_AGAIN | {"30", "58", "97"}  # of money: the switch sends these without a MAC
_MAY_LACK_MAC: Final = _SAYS_NOTHING | {"N2", "96"}
_WORD: Final = frozenset({"result_unknown", "being_booked", "being_returned"})  # not final, but said
_CHARGES: Final = frozenset({Outcome.PAID, Outcome.BEING_BOOKED, Outcome.BEING_RETURNED})
_AMOUNT_MAX: Final = 999_999_999_999  # twelve digits of field 4; the operator's own limit is far below
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"  # interface §1.1

T = TypeVar("T")


def tls_context(ca: str, certificate: str, key: str) -> ssl.SSLContext:
    """As the interface asks (§1.1): TLS 1.2 or newer, the switch's name checked, the terminal's certificate shown.

    Args:
        ca: File of the CA that signed the switch's certificate. The others: the terminal's own, with its key.

    Raises:
        OSError: A file cannot be read. ssl.SSLError: it is no certificate, or the key is not its own.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.load_verify_locations(ca)
    context.load_cert_chain(certificate, key)
    return context


class KioskClient:
    """One kiosk. All of it runs in one event loop; for a program without one see ``BlockingKioskClient``.

    Args:
        terminal_id: Field 41, 8 characters.
        merchant_id: Field 42, 15 characters.
        journal: The kiosk's file; closed by whoever opened it.
        keys: Holds the terminal's master key.
        pin_pad: Takes the PIN key of each sign-on, where ``keys`` is not the pad itself.
        tls: Of ``tls_context``; None: in the clear, for a switch on the same machine only.
        on_result: Called with each word about a payment that comes when no ``pay`` waits for it any more: show it, or
            print it. It must not raise.
        dice: For tests: random pauses.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        terminal_id: str,
        merchant_id: str,
        journal: KioskJournal,
        keys: KeyHolder,
        pin_pad: PinPad | None = None,
        tls: ssl.SSLContext | None = None,
        operator: str = "001",
        times: KioskTimes = KIOSK_STANDARD,
        on_result: Callable[[PaymentResult], None] | None = None,
        dice: random.Random | None = None,
    ) -> None:
        if journal.terminal_id != terminal_id:
            raise ValueError(f"{journal.path} is the file of terminal {journal.terminal_id}, not of {terminal_id}")
        self.terminal_id = terminal_id
        self.last_sign_on = SignOn(False, NOT_CONNECTED, text_of(NOT_CONNECTED))
        # What the acquirer last asked this terminal for (interface §1), "" for nothing: "1", "4" and "5" are for
        # ``download_parameters``, "3" the client does by itself.
        self.wish = ""
        self._host = host
        self._port = port
        self._journal = journal
        self._keys = keys
        self._pin_pad = pin_pad
        self._tls = tls
        self._times = times
        self._on_result = on_result
        self._dice = dice or random.SystemRandom()
        self._messages = Messages(terminal_id, merchant_id, operator)
        self._line: _Line | None = None
        self._waiting: dict[tuple[str, str], asyncio.Future[Answer | None]] = {}  # response MTI, serial
        self._offset = datetime.timedelta()  # of the switch's clock
        self._signed_on = False
        self._ready = asyncio.Event()
        self._wake_keeper = asyncio.Event()
        self._wake_clarifier = asyncio.Event()
        self._driven: set[PaymentKey] = set()  # by a pay or reverse that is still running
        self._reversed: set[PaymentKey] = set()  # open ones whose reversal was answered
        self._news = asyncio.Condition()
        self._quiet = asyncio.Lock()  # held while a day is settled: no payment begins then
        self._tasks: list[asyncio.Task[None]] = []

    # ------------------------------------------------------------------------------------------------ life
    async def __aenter__(self) -> KioskClient:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self) -> SignOn:
        """Connect and sign on. When that does not succeed now, it goes on trying in the background.

        From here on, payments of an earlier life are asked for as well.

        Raises:
            JournalError: The kiosk's file cannot be written.
        """
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._keep()), asyncio.create_task(self._clarify())]
        await self._until_ready()
        return self.last_sign_on

    async def close(self) -> None:
        """Hang up. What has no final word stays in the journal, and is asked for when it is opened again."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._line is not None:
            self._line.close()
        self._lost(self._line)

    @property
    def is_ready(self) -> bool:
        """Connected and signed on: a payment can begin."""
        return self._ready.is_set()

    # ------------------------------------------------------------------------------------------------ management
    async def sign_on(self) -> SignOn:
        """Fetch new working keys now; the client does it by itself whenever it is due."""
        self._sign_on_again()
        await self._until_ready()
        return self.last_sign_on

    async def echo(self, *, with_mac: bool = False) -> bool:
        """Whether the switch answers. With a MAC, three times, a new terminal proves its keys (interface §4.2)."""
        if not await self._until_ready():
            return False
        answer = await self._echo(with_mac=with_mac)
        return answer is not None and answer.code == "00" and (answer.proven or not with_mac)

    async def sign_off(self) -> None:
        """Say good-bye and hang up, for the night or before maintenance. ``connect`` begins again."""
        if self.is_ready:
            serial = await self._serial()
            await self._ask(self._messages.sign_off(serial), "0830", serial, with_mac=False)
        await self.close()

    async def download_parameters(
        self, file: ParameterFile, kinds: Iterable[str] = (TEXT, PUBLIC_KEYS, APPLICATIONS)
    ) -> Parameters | Refusal:
        """Fetch what the acquirer has for this terminal: its parameters, public keys of card schemes, applications of
        the chip reader. For when no customer stands there: after the first sign-on, and when ``wish`` is one of these.

        After a refusal, a lost line or a restart call it again: what has come is kept, and it goes on from there.

        Raises:
            JournalError: The file cannot be written.
        """
        for kind in kinds:
            refusal = await self._download(file, kind)
            if refusal is not None:
                return refusal
        return file.parameters

    # ------------------------------------------------------------------------------------------------ business
    async def inquire(self, account: str) -> Bills | Refusal:
        """What an account owes.

        Raises:
            ValueError: No account number. JournalError: The kiosk's file cannot be written.
        """
        check_account(account)
        date = self._today()
        if not await self._until_ready():
            return Refusal(NOT_CONNECTED, "", text_of(NOT_CONNECTED))
        serial = await self._serial()
        answer = await self._ask(self._messages.inquiry(serial, date, account), "0210", serial)
        if answer is None:
            return Refusal(NO_ANSWER, "", NO_ANSWER_TO_INQUIRY)
        if answer.bills is not None and answer.proven and answer.bills.account == account:
            return answer.bills
        if answer.code == "00":
            return Refusal(NO_ANSWER, "", NO_ANSWER_TO_INQUIRY)  # bills without a right MAC are no bills
        return answer.refusal()

    async def e_bill(self, account: str, newest: str = "", months: int = E_BILL_PAGE_MAX) -> EBills | Refusal:
        """What months of an account were made of 电子账单: readings, steps of the price, what was paid.

        Args:
            newest: The month to begin with, YYYYMM; "": this month. For the next page ``EBills.older``.
            months: At most so many, going back, 1 to 6; the page may hold fewer.

        Raises:
            ValueError: No account number, no month, or too many. JournalError: The kiosk's file cannot be written.
        """
        newest = newest or f"{self._now():%Y%m}"
        self._messages.e_bill("000000", self._today(), account, newest, months)  # before a serial is taken for it
        if not await self._until_ready():
            return Refusal(NOT_CONNECTED, "", text_of(NOT_CONNECTED))
        serial = await self._serial()
        frame = self._messages.e_bill(serial, self._today(), account, newest, months)
        answer = await self._ask(frame, "0210", serial)
        if answer is None:
            return Refusal(NO_ANSWER, "", NO_ANSWER_TO_INQUIRY)
        if answer.e_bills is not None and answer.proven and answer.e_bills.account == account:
            return answer.e_bills
        return Refusal(NO_ANSWER, "", NO_ANSWER_TO_INQUIRY) if answer.code == "00" else answer.refusal()

    async def settle(self, day: str = "") -> Settlement:
        """Settle a day 批结算: what this kiosk was paid, held against the switch's journal. Where they differ, this
        kiosk's payments are uploaded, and the switch reports each difference to people. No payment is changed by it.

        Do it once a day, and after a start for each of ``unsettled_days``. Again is no harm, after power loss too.

        Args:
            day: MMDD; "": today. Customers who want to pay meanwhile wait for its end.

        Raises:
            ValueError: No date. JournalError: The kiosk's file cannot be written.
        """
        day = day or self._today()
        if not (len(day) == 4 and day.isascii() and day.isdigit()):
            raise ValueError("day: expected MMDD")
        ready = await self._until_ready()
        async with self._quiet:
            paid = self._journal.paid_on(day)
            count, amount = len(paid), sum(fen for _, fen in paid)
            if self._driven or any(each.key.date == day for each in self._journal.open_payments):
                return Settlement(day, OPEN_PAYMENTS, text_of(OPEN_PAYMENTS), count, amount)
            answer = await self._settle(day, paid) if ready else None
            if answer is None:
                code = NO_ANSWER if ready else NOT_CONNECTED
                return Settlement(day, code, NO_ANSWER_TO_INQUIRY if ready else text_of(code), count, amount)
            result = Settlement(
                *(day, answer.stable, answer.text, count, amount),
                *(answer.switch_count, answer.switch_amount, answer.differences, answer.listed),
            )
            if result.done:
                await _in_thread(self._journal.settle, day, count, over=day != self._today())
            return result

    @property
    def unsettled_days(self) -> tuple[str, ...]:
        """Days (MMDD) with payments that are not settled, oldest first."""
        return self._journal.unsettled_days

    async def _settle(self, day: str, paid: tuple[tuple[str, int], ...]) -> Answer | None:
        """The last word of the switch; None: there is none, or one without a right MAC."""
        key = PaymentKey(self.terminal_id, self._today(), await self._serial())
        frame = self._messages.settlement(key, day, len(paid), sum(amount for _, amount in paid))
        answer = _proven(await self._ask(frame, "0510", key.serial))
        if answer is None or answer.stable != "batch_differs":
            return answer
        for at in range(0, len(paid), BATCH_DETAILS_MAX):
            serial, some = await self._serial(), paid[at : at + BATCH_DETAILS_MAX]
            answer = _proven(await self._ask(self._messages.details(serial, self._today(), key, some), "0330", serial))
            if answer is None or answer.stable != "batch_stored":
                return answer
        serial = await self._serial()
        end = self._messages.details_end(serial, self._today(), key, len(paid))
        return _proven(await self._ask(end, "0330", serial))

    async def balance(self, card: Card) -> Balance | Refusal:
        """What is on a card. Raises JournalError."""
        if not await self._until_ready():
            return Refusal(NOT_CONNECTED, "", text_of(NOT_CONNECTED))
        serial = await self._serial()
        answer = await self._ask(self._messages.balance(serial, self._today(), card), "0210", serial)
        if answer is None or (answer.code == "00" and (answer.balance is None or not answer.proven)):
            return Refusal(NO_ANSWER, "", NO_ANSWER_TO_INQUIRY)
        return answer.balance or answer.refusal()

    async def slip_again(self, key: PaymentKey) -> SlipAgain | Refusal:
        """What stands on the slip of an earlier payment, of any day: to print it again, marked so.

        Raises:
            JournalError: The kiosk's file cannot be written.
        """
        if not await self._until_ready():
            return Refusal(NOT_CONNECTED, "", text_of(NOT_CONNECTED))
        serial = await self._serial()
        answer = await self._ask(self._messages.slip_again(serial, self._today(), key), "0210", serial)
        if answer is None or not answer.proven:
            return Refusal(NO_ANSWER, "", NO_ANSWER_TO_INQUIRY)
        outcome = outcome_of(answer.stable)
        if outcome is None or (answer.asked_serial, answer.asked_date) != (key.serial, key.date):
            return answer.refusal()
        receivables = tuple(month.receivable for month in answer.months)
        payment = OpenPayment(key, answer.account, answer.amount, receivables, "")
        result = _result(payment, outcome, answer.stable, answer)
        return SlipAgain(result, answer.card_masked, answer.began_at, answer.months)

    async def pay(
        self, bills: Bills, months: Iterable[Month], card: Card, *, chip: ChipReader | None = None
    ) -> PaymentResult:
        """Pay months of these bills.

        With ``chip``, in which the card still is, it is given what its issuer answers, and its last word is sent where
        the acquirer waits for it (interface §4.4, P1). Without, such a payment is taken back.

        Returns after the switch's answer, or when it could not be had for ``KioskTimes.answer_s`` and ``clarify_s``
        after it. A result that is not final is followed up in the background (``on_result``, ``wait_final``).

        Cancelling it does not undo anything: what has left is followed up; see ``reverse``.

        Raises:
            ValueError: The months are not of these bills, or must all be paid at once.
            OpenPaymentError: One of the months is in a payment without a final word. Nothing was sent.
            JournalError: The kiosk's file cannot be written. Raised before anything is sent; after it, only from a
                later call.
        """
        chosen = _chosen(bills, tuple(months))
        receivables = tuple(month.receivable for month in chosen)
        amount = sum(month.amount for month in chosen)
        return await self._charge(
            bills.account,
            receivables,
            amount,
            lambda key: self._messages.payment(key, bills, receivables, amount, card),
            None if chip is None else (chip, card),
        )

    async def prepay(
        self, account: str, amount: int, card: Card, *, confirmed: bool = False, chip: ChipReader | None = None
    ) -> PaymentResult:
        """Pay in advance 预存, any amount of fen up to the operator's limit. Everything else is as with ``pay``.

        Args:
            confirmed: The customer was asked after a result ``confirm_again`` (the same amount for the same account a
                moment ago), and means it.

        Raises:
            ValueError: No account number, or no amount. OpenPaymentError: A prepayment for this account has no final
                word yet. JournalError: As ``pay``.
        """
        check_account(account)
        if not 0 < amount <= _AMOUNT_MAX:
            raise ValueError(f"amount: expected 1 to {_AMOUNT_MAX} fen")
        return await self._charge(
            account,
            (),
            amount,
            lambda key: self._messages.prepayment(key, account, amount, card, confirmed=confirmed),
            None if chip is None else (chip, card),
        )

    async def reverse(self, key: PaymentKey) -> PaymentResult:
        """Take a payment back: the customer left, or the slip could not be printed.

        Gives how it stands: what is paid and booked already stays paid. What is not final is followed up.

        Raises:
            KeyError: There is no open payment with this key; ``result`` knows finished ones.
        """
        await _in_thread(self._journal.note, key, reversing=True)
        payment = self._journal.find(key)
        if payment is None:
            known = self._journal.result(key)
            if known is None:
                raise KeyError(f"{key}: no open payment of this kiosk")
            return known
        mine = key not in self._driven
        self._driven.add(key)
        try:
            return await self._follow(payment, None)
        finally:
            if mine:
                self._driven.discard(key)
                self._wake_clarifier.set()

    async def wait_final(self, key: PaymentKey, timeout_s: float) -> PaymentResult:
        """How a payment stands when it is final, or after ``timeout_s``.

        Raises:
            KeyError: Neither open nor among the finished ones that wait to be acknowledged.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._news:
                await self._news.wait_for(lambda: self._journal.find(key) is None)
        return self.result(key)

    async def recover(
        self, *, customer_left: bool = False, timeout_s: float | None = None
    ) -> tuple[PaymentResult, ...]:
        """After a start: every payment of the life before whose end this kiosk's customer may not have seen.

        Waits until all have a final word, at most ``timeout_s`` (default ``KioskTimes.clarify_s``); those without one
        are followed up in the background. Final ones come again at the next start, until ``acknowledge``.

        Args:
            customer_left: Nobody stands there any more: take back what is not paid yet.
        """
        keys = [payment.key for payment in self._journal.open_payments if payment.key not in self._driven]
        if customer_left:
            for key in keys:
                await _in_thread(self._journal.note, key, reversing=True)
        self._wake_clarifier.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._times.clarify_s if timeout_s is None else timeout_s), self._news:
                await self._news.wait_for(lambda: not any(self._journal.find(key) for key in keys))
        still = [_standing(payment) for key in keys if (payment := self._journal.find(key))]
        return (*self._journal.finished, *still)

    # ------------------------------------------------------------------------------------------------ what stands
    @property
    def open_payments(self) -> tuple[PaymentResult, ...]:
        """Payments without a final word, as they stand, oldest first."""
        return tuple(_standing(payment) for payment in self._journal.open_payments)

    def result(self, key: PaymentKey) -> PaymentResult:
        """How a payment stands. Raises KeyError as ``wait_final``."""
        payment = self._journal.find(key)
        if payment is not None:
            return _standing(payment)
        known = self._journal.result(key)
        if known is None:
            raise KeyError(f"{key}: no payment that this kiosk remembers")
        return known

    def acknowledge(self, result: PaymentResult) -> None:
        """The customer has seen it and the slip is printed. Nothing for a result that is not final."""
        self._journal.acknowledge(result.key)

    # ------------------------------------------------------------------------------------------------ downloads
    async def _download(self, file: ParameterFile, kind: str) -> Refusal | None:
        steps = STEPS[kind]
        listing: list[bytes] = []
        try:
            more = bool(steps.listing)
            while more:
                answer = await self._step_of_download(steps.listing, b"1%02d" % len(listing))
                if isinstance(answer, Refusal):
                    return answer
                page, more = read_listing(kind, answer.data)
                listing += page
                if len(listing) > KIOSK_DOWNLOAD_ITEMS_MAX or (more and not page):
                    raise ValueError("the listing has no end")
            for listed in listing or ([b""] if not steps.listing else []):
                if listed and listed in file.coming(kind):
                    continue  # of a download that was interrupted
                answer = await self._step_of_download(steps.item, question(listed))
                if isinstance(answer, Refusal):
                    return answer
                await _in_thread(file.keep, kind, listed, read_item(kind, listed, answer.data))
        except ValueError as error:
            return Refusal(PARAMETERS_WRONG, "", f"{text_of(PARAMETERS_WRONG)}（{error}）")
        answer = await self._step_of_download(steps.done, b"")
        if isinstance(answer, Refusal):
            return answer
        await _in_thread(file.finish, kind, listing if steps.listing else [b""])
        return None

    async def _step_of_download(self, network_code: str, data: bytes) -> Answer | Refusal:
        if not await self._until_ready():
            return Refusal(NOT_CONNECTED, "", text_of(NOT_CONNECTED))
        serial = await self._serial()
        frame = self._messages.download(serial, network_code, data)
        answer = await self._ask(frame, f"{int(frame[HEADER_SIZE : HEADER_SIZE + 2].hex()) + 10:04d}", serial)
        if answer is None or (answer.code == "00" and not answer.proven):
            return Refusal(NO_ANSWER, "", NO_ANSWER_TO_INQUIRY)
        return answer if answer.code == "00" else answer.refusal()

    # ------------------------------------------------------------------------------------------------ one payment
    async def _charge(
        self,
        account: str,
        receivables: tuple[str, ...],
        amount: int,
        build: Callable[[PaymentKey], bytes],
        chip: tuple[ChipReader, Card] | None,
    ) -> PaymentResult:
        self._journal.check(account, receivables)
        connected = await self._until_ready()
        key = PaymentKey(self.terminal_id, self._today(), await self._serial())
        payment = OpenPayment(key, account, amount, receivables, f"{self._now():%Y-%m-%d %H:%M:%S}")
        if not connected:
            return _result(payment, Outcome.REFUSED, NOT_CONNECTED)
        try:
            frame = await self._sealed(build(key))
        except (SecurityError, DeviceError):
            self._sign_on_again()  # the key holder lost its keys
            return _result(payment, Outcome.REFUSED, NOT_CONNECTED)
        async with self._quiet:  # not while a day is being settled
            self._driven.add(key)
        try:
            await _in_thread(self._journal.begin, payment)
            answer = await self._exchange(frame, "0210", key.serial, self._times.answer_s)
            del frame  # card data
            if answer is not None and answer.proven and (chip is not None or answer.stable == CHIP_DECIDES):
                answer = await self._finish_chip(payment, answer, chip)
            return await self._follow(payment, answer)
        finally:
            self._driven.discard(key)
            self._wake_clarifier.set()

    async def _finish_chip(
        self, payment: OpenPayment, answer: Answer, chip: tuple[ChipReader, Card] | None
    ) -> Answer | None:
        """The issuer's answer to the chip, and where that has the last word, its word to the switch. Gives the answer
        that counts; None: the result has to be asked for."""
        decides = answer.stable == CHIP_DECIDES
        approved = decides or outcome_of(answer.stable) in _CHARGES
        try:
            if chip is None:
                raise DeviceError("card_missing", "no chip reader was given")
            reader, card = chip
            word = await _in_thread(reader.finish, answer.issuer_data, approved=approved)
        except DeviceError:
            if not decides:
                return answer  # the issuer's word counts; of what it had for the chip nothing is known
            await _in_thread(self._journal.note, payment.key, reversing=True)
            return None
        if not decides and not has_scripts(word):
            return answer
        told = await self._say_for_chip(payment.key, word, card)
        return told if decides else answer

    async def _say_for_chip(self, key: PaymentKey, word: ChipData, card: Card) -> Answer | None:
        """The chip's last word, and what it did with scripts: until the switch has it, a few times. None: unknown."""
        for _ in range(KIOSK_CHIP_TRIES):
            if not await self._until_ready():
                break
            serial = await self._serial()
            try:
                frame = await self._sealed(self._messages.chip_word(serial, self._today(), key, word, card))
            except (SecurityError, DeviceError):
                self._sign_on_again()  # the key holder lost its keys
                continue
            told = await self._exchange(frame, "0630", serial, self._times.answer_s)
            if told is not None and (told.asked_serial, told.asked_date) == (key.serial, key.date):
                return told
            await asyncio.sleep(self._times.ask_first_s)
        return None

    async def _follow(self, payment: OpenPayment, answer: Answer | None) -> PaymentResult:
        """From the first answer, or none, to a word: the final one, or one to send the customer home with."""
        loop = asyncio.get_running_loop()
        result = self._judge(payment, answer, asked=False)
        refusal = answer if answer is not None and answer.code in _MAY_LACK_MAC else None
        until = loop.time() + self._times.clarify_s
        pause_s = self._times.ask_first_s
        while not _is_word(result):
            result = self._judge(payment, await self._ask_result(payment.key), asked=True)
            if _is_word(result) or self._journal.find(payment.key) is None or loop.time() + pause_s >= until:
                break
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, self._times.ask_max_s)
        if result is None:
            result = _result(payment, Outcome.UNKNOWN, NO_ANSWER)
        return await self._record(payment, result, refusal)

    def _judge(self, payment: OpenPayment, answer: Answer | None, *, asked: bool) -> PaymentResult | None:
        """What an answer says of a payment; ``asked``: it is one to a result inquiry or a reversal. None: nothing."""
        if answer is None or not answer.proven or answer.code in _SAYS_NOTHING:
            return None
        outcome = outcome_of(answer.stable)
        about = (answer.asked_serial, answer.asked_date) == (payment.key.serial, payment.key.date)
        if outcome is None or (asked and not about and answer.stable != "not_found"):
            return None
        if outcome in _CHARGES and answer.amount != payment.amount:
            return None  # it tells of another payment than ours: ask on, a person will look
        return _result(payment, outcome, answer.stable, answer)

    async def _record(self, payment: OpenPayment, result: PaymentResult, refusal: Answer | None) -> PaymentResult:
        """Make a word durable and tell of it. Gives the word that counts."""
        key = payment.key
        if self._journal.find(key) is None:
            return self._journal.result(key) or result  # somebody else has heard its final word
        if refusal is not None and result.code == "not_found":
            # It is proved that nothing was charged; why, the refusal said.
            result = structs.replace(
                result,
                outcome=Outcome.REFUSED,
                code=refusal.stable or result.code,
                response_code=refusal.code,
                text=refusal.text,
            )
        # A disk that fails now must not keep the word from the customer: the next call tells, and a restart asks again.
        with contextlib.suppress(JournalError):
            if result.final:
                result = await _in_thread(self._journal.finish, result)
                self._reversed.discard(key)
            elif result.code in _WORD:
                await _in_thread(self._journal.note, key, last=result)
            if result.code == "key_conflict":
                await _in_thread(self._journal.skip_serials, KIOSK_SERIAL_SKIP)
        async with self._news:
            self._news.notify_all()
        return result

    async def _ask_result(self, key: PaymentKey) -> Answer | None:
        """Ask once: with a reversal as long as one is wanted and none was answered, else with a result inquiry."""
        payment = self._journal.find(key)
        if payment is None or not await self._until_ready():
            return None
        serial = await self._serial()
        if not payment.reversing or key in self._reversed:
            return await self._ask(self._messages.result(serial, self._today(), key), "0210", serial)
        answer = await self._ask(self._messages.reversal(serial, self._today(), key), "0410", serial)
        if answer is not None and answer.proven and (answer.stable == "not_found" or answer.asked_serial):
            self._reversed.add(key)
        return answer

    async def _clarify(self) -> None:
        """Ask for each payment that has no final word and that nobody else is asking for, until none is left."""
        loop = asyncio.get_running_loop()
        first_s = 0.0  # those of an earlier life at once, later ones when the switch had time to go on
        due: dict[PaymentKey, tuple[float, float]] = {}  # when, and the pause after it
        while True:
            self._wake_clarifier.clear()
            now = loop.time()
            waiting = {each.key: each for each in self._journal.open_payments if each.key not in self._driven}
            due = {key: due.get(key, (now + first_s, self._times.ask_first_s)) for key in waiting}
            first_s = self._times.ask_first_s
            if not due or not self.is_ready:
                await self._wake_clarifier.wait()
                continue
            key = min(due, key=lambda each: due[each][0])
            at, pause_s = due[key]
            if at > now:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(at - now):
                        await self._wake_clarifier.wait()
                continue
            payment = waiting[key]
            result = self._judge(payment, await self._ask_result(key), asked=True)
            if _is_word(result):
                assert result is not None
                result = await self._record(payment, result, None)
                if self._on_result is not None and (payment.last is None or payment.last.code != result.code):
                    self._on_result(result)
            due[key] = (loop.time() + pause_s, min(2 * pause_s, self._times.ask_max_s))

    # ------------------------------------------------------------------------------------------------ line and keys
    async def _until_ready(self) -> bool:
        """Raises JournalError and other faults that ended the work in the background."""
        if self._ready.is_set() and not any(task.done() for task in self._tasks):
            return True
        if not self._tasks:
            return False  # not connected yet, or closed
        ready = asyncio.ensure_future(self._ready.wait())
        try:
            done, _ = await asyncio.wait(
                [ready, *self._tasks], timeout=self._times.ready_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            ready.cancel()
        for task in self._tasks:
            if task in done and not task.cancelled():
                task.result()
        return self._ready.is_set()

    async def _keep(self) -> None:
        """Keep a line with valid keys."""
        pause_s = BACKOFF_FIRST_S
        while True:
            self._wake_keeper.clear()
            try:
                if self._line is None:
                    await self._dial()
                if not self._signed_on:
                    self.last_sign_on = await self._sign_on()
            except OSError as error:  # and TimeoutError, ssl.SSLError
                self.last_sign_on = SignOn(False, NOT_CONNECTED, f"{text_of(NOT_CONNECTED)}（{error}）")
            if self._line is None:
                await asyncio.sleep(pause_s * self._dice.uniform(0.5, 1.0))
                pause_s = min(2 * pause_s, BACKOFF_MAX_S)
                continue
            if not self._signed_on:
                is_key = self.last_sign_on.code in ("keys_wrong", KEYS_DIFFER)
                await asyncio.sleep(
                    self._times.keys_wrong_s if is_key else self._dice.uniform(*self._times.sign_on_pause_s)
                )
                continue
            pause_s = BACKOFF_FIRST_S
            self._ready.set()
            self._wake_clarifier.set()
            try:
                async with asyncio.timeout(self._times.echo_s):
                    await self._wake_keeper.wait()
            except TimeoutError:
                await self._echo(with_mac=False)

    async def _dial(self) -> None:
        """Raises OSError."""
        limit_s = CONNECT_TIMEOUT_S if self._tls is None else CONNECT_TIMEOUT_S + TLS_HANDSHAKE_S
        async with asyncio.timeout(limit_s):
            _, line = await asyncio.get_running_loop().create_connection(
                lambda: _Line(self._received, self._lost), self._host, self._port, ssl=self._tls
            )
        self._line = line if line.is_open else None

    async def _sign_on(self) -> SignOn:
        serial = await self._serial()
        answer = await self._exchange(
            self._messages.sign_on(serial, self._today()), "0810", serial, self._times.inquiry_s
        )
        if answer is None:
            self._drop()
            return SignOn(False, NO_ANSWER, NO_ANSWER_TO_INQUIRY)
        if answer.code != "00":
            return SignOn(False, answer.stable or answer.code, answer.text)
        try:
            keys = workingkeys.parse(answer.keys)
            await self._with_keys(self._keys.load, keys)
            if self._pin_pad is not None:
                await _in_thread(self._pin_pad.load_pin_key, keys.pin)
        except SecurityError as error:
            return SignOn(False, KEYS_DIFFER, f"{text_of(KEYS_DIFFER)}（{error.code}）")
        except DeviceError as error:
            return SignOn(False, error.code, error.text)
        self._messages.batch = answer.batch
        self._offset = clock_offset(answer.date, answer.local_time, _utc_now()) or self._offset
        self._signed_on = True
        return SignOn(True, "signed_on")

    async def _echo(self, *, with_mac: bool) -> Answer | None:
        serial = await self._serial()
        frame = self._messages.echo(serial, mac=with_mac)
        return await self._ask(frame, "0830", serial, with_mac=with_mac)

    async def _ask(self, frame: bytes, mti: str, serial: str, *, with_mac: bool = True) -> Answer | None:
        """Everything but payments and sign-ons: the switch answers at once, so silence says that the line is dead."""
        line = self._line
        try:
            answer = await self._exchange(
                await self._sealed(frame) if with_mac else frame, mti, serial, self._times.inquiry_s
            )
        except (SecurityError, DeviceError):
            self._sign_on_again()  # the key holder lost its keys
            return None
        if answer is None and line is self._line:
            self._drop()
        return answer

    async def _sealed(self, frame: bytes) -> bytes:
        """With field 64. Raises SecurityError, DeviceError: there is no key."""
        return frame + cast(bytes, await self._with_keys(self._keys.make_mac, frame[HEADER_SIZE:]))

    async def _exchange(self, frame: bytes, mti: str, serial: str, wait_s: float) -> Answer | None:
        """Send once and wait for the answer. None: none in time, or the line was lost."""
        line = self._line
        if line is None or len(self._waiting) >= KIOSK_REQUESTS_MAX:
            return None
        future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self._waiting[mti, serial] = future
        try:
            line.send(frame)
            async with asyncio.timeout(wait_s):
                answer = await future
        except TimeoutError:
            return None
        finally:
            self._waiting.pop((mti, serial), None)
        if answer is not None:
            if answer.mac:
                with contextlib.suppress(SecurityError, DeviceError):
                    answer.proven = bool(await self._with_keys(self._keys.verify_mac, answer.covered, answer.mac))
            if answer.proven or answer.mti == "0810":
                self.wish = answer.wish
            if answer.code in _SIGN_ON_AGAIN or answer.stable == "pin_wrong":
                self._sign_on_again()
        return answer

    async def _with_keys(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await _in_thread(call, *arguments) if self._keys.is_slow else call(*arguments)

    def _received(self, frame: bytes) -> None:
        try:
            answer = self._messages.read(frame)
        except (iso8583.DecodeError, ValueError):
            return  # as if it had never come: whoever waits asks again
        future = self._waiting.get((answer.mti, answer.serial))
        if future is not None and not future.done():
            future.set_result(answer)

    def _sign_on_again(self) -> None:
        self._signed_on = False
        self._ready.clear()
        self._wake_keeper.set()

    def _drop(self) -> None:
        line = self._line
        if line is not None:
            line.abort()
            self._lost(line)

    def _lost(self, line: _Line | None) -> None:
        if line is not self._line:
            return
        self._line = None
        self._sign_on_again()
        waiting = list(self._waiting.values())
        self._waiting.clear()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def _serial(self) -> str:
        return await _in_thread(self._journal.take_serial)

    def _now(self) -> datetime.datetime:
        """Local time by the switch's clock, as of the last sign-on."""
        return local(_utc_now() + self._offset)

    def _today(self) -> str:
        return f"{self._now():%m%d}"


class _Line(asyncio.Protocol):
    """One connection: frames in, frames out."""

    def __init__(self, received: Callable[[bytes], None], lost: Callable[[_Line], None]) -> None:
        self._framer = iso8583.Framer("len2", FRAME_SIZE_MAX, heartbeats=True)
        self._on_frame = received
        self._on_lost = lost
        self._transport: asyncio.Transport | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, frame: bytes) -> None:
        if self._transport is None:
            return
        self._transport.write(iso8583.frame(frame))
        if self._transport.get_write_buffer_size() > KIOSK_WRITE_BUFFER_MAX:
            self.abort()  # a switch that does not read

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        for frame in self._framer.feed(data):
            self._on_frame(frame)
        if self._framer.fault is not None:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._on_lost(self)


def _proven(answer: Answer | None) -> Answer | None:
    """An answer that came with a right MAC, or a refusal that has none."""
    says = answer is not None and (answer.code == "00" or answer.stable.startswith("batch_"))
    return None if answer is None or (says and not answer.proven) else answer


def _chosen(bills: Bills, months: tuple[Month, ...]) -> tuple[Month, ...]:
    if not months:
        raise ValueError("months: choose at least one month of the bills")
    if len(months) > POSTINGS_PER_PAYMENT_MAX or len(set(months)) != len(months):
        raise ValueError(f"months: at most {POSTINGS_PER_PAYMENT_MAX} of them, none of them twice")
    if not set(months) <= set(bills.months):
        raise ValueError("months: some are not of these bills; choose from bills.months of the latest inquiry")
    if not bills.partial_allowed and len(months) != len(bills.months):
        raise ValueError("months: this account must be paid whole; choose bills.oldest()")
    return tuple(month for month in bills.months if month in months)  # oldest first, as they are posted


def _is_word(result: PaymentResult | None) -> bool:
    return result is not None and (result.final or result.code in _WORD)


def _result(payment: OpenPayment, outcome: Outcome, code: str, answer: Answer | None = None) -> PaymentResult:
    return PaymentResult(
        key=payment.key,
        account=payment.account,
        amount=payment.amount,
        receivables=payment.receivables,
        outcome=outcome,
        code=code,
        text=text_of(code) if answer is None else answer.text,
        response_code="" if answer is None else answer.code,
        reference="" if answer is None else answer.reference,
        case_number="" if answer is None else answer.case_number,
        rrn="" if answer is None else answer.rrn,
        authorization_code="" if answer is None else answer.authorization_code,
        issuer_data=b"" if answer is None else answer.issuer_data,
    )


def _standing(payment: OpenPayment) -> PaymentResult:
    return payment.last or _result(payment, Outcome.UNKNOWN, NO_ANSWER)


async def _in_thread(call: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """What blocks: two fsyncs, or a peripheral. Cancelled, it still runs to its end."""
    return await asyncio.to_thread(call, *arguments, **named)


def _utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
