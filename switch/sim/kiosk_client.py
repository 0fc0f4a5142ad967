"""A kiosk, simulated: speaks the kiosk interface over TCP with real MACs, PIN blocks and cards of the test range.

Written from the kiosk interface document. It keeps its rules: the key and the amount are in its book before the
request leaves; a payment is never sent again under a new serial unless the answer says so; what stays unclear is
asked for with result inquiries until there is a final word.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import iso8583
from iso8583 import tlv
from switch import limits
from switch.errors import SecurityError
from switch.model.request import DOWNLOADS
from switch.ports import KeyUsage
from switch.security import mac, pinblock, primitives, workingkeys
from switch.sim import testkeys
from switch.sim.day import china_now, stopwatch_s
from switch.sim.wire import FrameConnection, Turn

NOT_FINAL: Final = frozenset({"U1", "B1", "R1", "09", "P1"})
# answers to a kiosk whose keys are missing or in doubt, or that is out of service
WITHOUT_MAC: Final = frozenset({"58", "77", "97", "A0", "A1", "K1"})
# answers that carry none when the switch cannot reach the keys, could not read the request, or has too much to do
MAY_LACK_MAC: Final = WITHOUT_MAC | {"30", "N2", "96"}
_MAY_MOVE: Final = frozenset({"U2", "C1"})  # final for the customer; files or a person decide the rest
_HEADER: Final = bytes.fromhex("6000030000603100000000")
_HEADER_SIZE: Final = 11
_MAC_SIZE: Final = 8
_WISH_AT: Final = 7
_WITH_MAC: Final = frozenset({"0210", "0330", "0410", "0510", "0630"})
_PIN: Final = "123456"
_WRONG_PIN: Final = "000000"
_RECENT_MAX: Final = 64  # payments remembered to compare what is told twice
_SERIAL_MAX: Final = 999_999

Values = dict[int | str, Any]


@dataclass(slots=True)
class Answer:
    """One response, its MAC checked. ``code`` is field 39; "" stands for none in time, or a lost connection."""

    code: str
    stable: str = ""  # DF0A
    reference: str = ""
    case: str = ""
    asked_serial: str = ""  # DF0C: the answer is about that payment
    amount: int = 0
    bills: Bills | None = None
    slip: Slip | None = None
    closed: str = ""  # DF1A: a bill inquiry says that no payment can begin now, and why
    e_bills: tuple[EBill, ...] = ()
    older: str = ""  # month from which older e-bills may be asked for
    batch: Batch | None = None
    balance: int | None = None  # fen, of the first account
    data: bytes = b""  # field 62 of a download
    message: iso8583.Message | None = field(default=None, repr=False)

    @property
    def is_proof(self) -> bool:
        """What it says about money counts: it came with a MAC."""
        return self.code not in WITHOUT_MAC and self.message is not None and 64 in self.message


@dataclass(slots=True, frozen=True)
class Bills:
    account: str
    quote: str
    name: str
    partial_allowed: bool
    rows: tuple[tuple[str, int], ...]  # receivable, amount


@dataclass(slots=True, frozen=True)
class Slip:
    """What is printed again."""

    account: str
    card: str  # masked
    paid_at: str  # YYYYMMDDhhmmss
    rows: tuple[tuple[str, int], ...]  # period, amount


@dataclass(slots=True, frozen=True)
class EBill:
    """One month of an e-bill."""

    period: str
    energy_kwh: int
    amount: int
    paid: int
    meters: tuple[tuple[str, str], ...]  # reading before, reading
    steps: tuple[tuple[int, str, int], ...]  # kWh, price, fen


@dataclass(slots=True, frozen=True)
class Batch:
    """How a settlement stands."""

    serial: str  # of its 0500, with the date
    date: str
    count: int  # the switch's
    amount: int
    differences: int
    listed: tuple[tuple[str, str, int, int], ...]  # serial, kind, kiosk's fen, switch's fen


@dataclass(slots=True)
class Payment:
    """One payment in the kiosk's own eyes."""

    serial: str
    date: str  # MMDD
    account: str
    amount: int
    receivables: tuple[str, ...]
    sent_at: float  # stopwatch seconds
    final: str = ""  # the code of its final word
    stable: str = ""
    words: int = 0  # answers about it
    first_word_s: float = -1.0  # from sending to the first of them


@dataclass(frozen=True, slots=True)
class CardChoice:
    """How the customer's card is read."""

    number: int
    entry: str = "track"  # track, chip, keyed
    wrong_pin: bool = False
    says: str = "tc"  # the chip's last word, where it is asked for: tc, aac, nothing
    says_after_s: float = 0.0


class Kiosk:
    """One kiosk with one kept connection.

    Args:
        number: Test terminal number, from 1.
        turn: Writes what the kiosks of one fleet send, once per loop turn; its ``before`` flushes the book.
        heard: Called with every word about a payment: (payment, answer, how, became_final), how being "answer" or
            "inquiry".
        first_serial: Serials start here; the switch must not have seen them today.
        tls: Holds this terminal's certificate; None: the line is in the clear.
        sm4: Its keys are SM4.
        lost: Called when the line breaks, whoever broke it.
    """

    def __init__(
        self,
        number: int,
        host: str,
        port: int,
        *,
        turn: Turn,
        profile: limits.TimeProfile = limits.SHORT,
        heard: Callable[[Payment, Answer, str, bool], None] | None = None,
        first_serial: int = 1,
        tls: ssl.SSLContext | None = None,
        sm4: bool = False,
        lost: Callable[[], None] | None = None,
    ) -> None:
        self._tls = tls
        self.on_lost = lost
        self.asked_at = 0.0  # loop time of its last request
        self.number = number
        self.terminal_id, self.merchant_id = testkeys.test_terminal(number)
        self.unfinished: dict[tuple[str, str], Payment] = {}  # by date and serial
        self.signed_on = False
        self.counts: dict[str, int] = {}
        self._host = host
        self.port = port  # where it connects next
        self._profile = profile
        self._turn = turn
        self._heard = heard
        self._serial = first_serial - 1
        self._batch = "000000"
        self._spec = iso8583.load("kiosk", header="tpdu+pos6")
        self._cipher = primitives.sm4 if sm4 else primitives.des
        self.load_master_key(testkeys.test_tmk(self.terminal_id))
        self._mac_algorithm = "sm4_ecb" if sm4 else "unionpay_ecb"
        self.keys: bytes = b""  # field 62 of its last sign-on
        self.wish = ""  # digit 6 of the latest answer's header: what the acquirer wants
        self._mac: mac.Mac | None = None
        self._mac_before: mac.Mac | None = None  # answers under way during a sign-on
        self._pin: primitives.BlockCipher | None = None
        self._connection: FrameConnection | None = None
        self._waiting: dict[tuple[str, str, str], asyncio.Future[Answer]] = {}  # response MTI, serial, date
        self._recent: dict[tuple[str, str], Payment] = {}
        self.paid: dict[str, dict[str, int]] = {}  # fen by date and serial: its own book

    def load_master_key(self, key: bytes) -> None:
        """As the loader of PIN pads does it."""
        self._tmk = self._cipher(key)

    # ---- connection
    @property
    def is_connected(self) -> bool:
        return self._connection is not None and self._connection.is_open

    async def connect(self) -> None:
        """Raises OSError when the switch cannot be reached, or is not whom its certificate should name."""

        def made() -> FrameConnection:
            return FrameConnection(2, limits.FRAME_SIZE_MAX, self._turn, self._frame_received, None, self._lost)

        async with asyncio.timeout(limits.CONNECT_TIMEOUT_S):
            _, self._connection = await asyncio.get_running_loop().create_connection(
                made, self._host, self.port, ssl=self._tls
            )

    async def connect_again(self, until: float) -> bool:
        """Connect with growing pauses until the loop's time ``until``; False when that has passed."""
        loop = asyncio.get_running_loop()
        pause_s = limits.BACKOFF_FIRST_S
        while not self.is_connected:
            try:
                await self.connect()
            except (OSError, TimeoutError):
                self._count("connect_failed")
                if loop.time() + pause_s >= until:
                    return False
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(2 * pause_s, limits.BACKOFF_MAX_S)
        return True

    def hang_up(self) -> None:
        """Cut the connection, as a modem does."""
        if self._connection is not None:
            self._turn.write_out()
            self._connection.drop()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._turn.write_out()
            connection.close()

    def _lost(self, connection: FrameConnection) -> None:
        if connection is self._connection:
            self._connection = None
            self._count("connection_lost")
            waiting = list(self._waiting.values())
            self._waiting.clear()
            for future in waiting:
                if not future.done():
                    future.set_result(Answer(""))
            if self.on_lost is not None:
                self.on_lost()

    # ---- messages
    async def sign_on(self) -> str:
        """Fetch working keys; gives field 39, "" for no answer, "kcv" when the keys do not fit the check values."""
        values: Values = {0: "0800", 41: self.terminal_id, 42: self.merchant_id, 60: "00000000003", 63: "001"}
        answer = await self._ask(values, "0810", with_mac=False, wait_s=self._profile.kiosk_s)
        if answer.code != "00" or answer.message is None:
            return answer.code
        business, keys = str(answer.message.get(60, "")), answer.message.get(62)
        if not isinstance(keys, bytes) or len(business) < 8:
            return "30"
        try:
            parts = workingkeys.parse(keys)
            mac_key = workingkeys.decrypt_key(parts.mac.cryptogram, parts.mac.kcv, self._tmk, KeyUsage.MAC)
            self._pin = workingkeys.decrypt_key(parts.pin.cryptogram, parts.pin.kcv, self._tmk, KeyUsage.PIN)
        except SecurityError:
            self._count("key_error")
            return "kcv"
        self._mac_before, self._mac = self._mac, mac.prepare(self._mac_algorithm, mac_key)
        self.keys = keys
        self._batch = business[2:8]
        self.signed_on = True
        return "00"

    async def echo(self, *, with_mac: bool = False) -> str:
        """Field 39, "" for no answer, or none whose MAC is right."""
        values: Values = {0: "0820", 41: self.terminal_id, 42: self.merchant_id, 60: f"00{self._batch}301"}
        answer = await self._ask(values, "0830", with_mac=with_mac, wait_s=self._profile.kiosk_s)
        if with_mac and answer.code == "00" and (answer.message is None or 64 not in answer.message):
            return ""
        return answer.code

    async def sign_off(self) -> str:
        values: Values = {0: "0820", 41: self.terminal_id, 42: self.merchant_id, 60: f"00{self._batch}002"}
        answer = await self._ask(values, "0830", with_mac=False, wait_s=self._profile.kiosk_s)
        return answer.code

    async def ask_balance(self, card: CardChoice) -> Answer:
        """What is on a card; ``balance`` is set when the code is 00."""
        values = {0: "0200", 3: "310000", 25: "00", 60: f"01{self._batch}000", **self._card_fields(card, 0)}
        return await self._ask(self._financial(values), "0210", with_mac=True, wait_s=self._profile.kiosk_s)

    async def download(self, network_code: str, data: bytes = b"") -> Answer:
        """One message of a download; ``data`` is what came."""
        mti = "0820" if network_code in ("362", "372", "382") else "0800"
        values: Values = {
            0: mti,
            41: self.terminal_id,
            42: self.merchant_id,
            60: f"00{self._batch}{network_code}",
            **({62: data} if data else {}),
        }
        return await self._ask(values, f"{int(mti) + 10:04d}", with_mac=True, wait_s=self._profile.kiosk_s)

    async def ask_slip(self, payment: Payment) -> Answer:
        """The slip of a payment, to print it again; ``slip`` is set when there is such a payment."""
        return await self._ask(self._about(payment, "0200", "76"), "0210", with_mac=True, wait_s=self._profile.kiosk_s)

    async def inquire(self, account: str) -> Answer:
        """What an account owes; ``bills`` is set when the code is 00."""
        values: Values = {
            0: "0200",
            3: "310000",
            25: "00",
            48: tlv.encode([("DF01", account.encode())]),
            60: f"71{self._batch}000",
        }
        return await self._ask(self._financial(values), "0210", with_mac=True, wait_s=self._profile.kiosk_s)

    async def ask_e_bill(self, account: str, newest: str, months: int | None = None) -> Answer:
        """What months were made of, newest (YYYYMM) first; ``e_bills`` and ``older`` are set if the code is 00."""
        tags = [("DF01", account.encode()), ("DF12", newest.encode())]
        tags += [] if months is None else [("DF1C", b"%d" % months)]
        values: Values = {0: "0200", 3: "310000", 25: "00", 48: tlv.encode(tags), 60: f"74{self._batch}000"}
        return await self._ask(self._financial(values), "0210", with_mac=True, wait_s=self._profile.kiosk_s)

    async def ask_batch(self, *, serial: str = "", day: str = "") -> Answer:
        """Tell what was paid on a day (MMDD; today), and hear whether the switch has the same; ``batch`` says more.

        Args:
            serial: Of an earlier asking, to ask the same again.
        """
        serial, date, day = serial or self._next_serial(), _today(), day or _today()
        paid = self.paid.get(day, {})
        tags = [("DF25", day.encode()), ("DF26", b"%d" % len(paid)), ("DF27", b"%d" % sum(paid.values()))]
        return await self._about_batch("0500", "201", tags, serial, date)

    async def upload_batch(self, batch: Batch, details: dict[str, int] | None = None) -> Answer:
        """Details of a settlement, some at a time; the last answer, or the first that is not good."""
        about = [("DF0C", batch.serial.encode()), ("DF0D", batch.date.encode())]
        rows = list((self.paid.get(batch.date, {}) if details is None else details).items())
        answer = Answer("")
        for at in range(0, len(rows), limits.BATCH_DETAILS_MAX):
            some = rows[at : at + limits.BATCH_DETAILS_MAX]
            inner = [tlv.encode([("DF2A", serial.encode()), ("DF15", b"%d" % fen)]) for serial, fen in some]
            answer = await self._about_batch("0320", "201", [*about, *(("E5", each) for each in inner)])
            if answer.code != "00":
                break
        return answer

    async def end_batch(self, batch: Batch, count: int) -> Answer:
        """So many details were sent; the answer tells what differs."""
        tags = [("DF0C", batch.serial.encode()), ("DF0D", batch.date.encode()), ("DF26", b"%d" % count)]
        return await self._about_batch("0320", "202", tags)

    async def _about_batch(
        self, mti: str, network: str, tags: list[tuple[str, bytes]], serial: str = "", date: str = ""
    ) -> Answer:
        serial, date = serial or self._next_serial(), date or _today()
        values = self._financial({0: mti, 11: serial, 13: date, 48: tlv.encode(tags), 60: f"00{self._batch}{network}"})
        frame = self._encode(values, with_mac=True)
        answer = await self._exchange(frame, (f"{int(mti) + 10:04d}", serial, date), self._profile.kiosk_s)
        if answer.batch is not None:
            answer.batch = replace(answer.batch, serial=serial, date=date)
        return answer

    async def pay(
        self,
        bills: Bills,
        receivables: tuple[str, ...],
        card: CardChoice,
        *,
        before_sending: Callable[[Payment], None] | None = None,
        repeat: bool = False,
        hang_up_after_s: float | None = None,
    ) -> Payment:
        """Pay the chosen receivables. Gives the payment with its final word, or in ``unfinished`` without one.

        Args:
            before_sending: Stores the key and the amount; called before the request leaves.
            repeat: The request leaves twice at once.
            hang_up_after_s: Cut the connection so long after sending.
        """
        chosen = [row for row in bills.rows if row[0] in receivables]
        assert chosen
        payment = Payment(
            self._next_serial(), _today(), bills.account, sum(amount for _, amount in chosen), receivables, 0.0
        )
        tags = [
            ("DF01", bills.account.encode()),
            ("DF02", bills.quote.encode()),
            *(("DF11", receivable.encode()) for receivable, _ in chosen),
        ]
        return await self._charge(
            payment, "72", tags, card, before_sending=before_sending, repeat=repeat, hang_up_after_s=hang_up_after_s
        )

    async def prepay(
        self,
        account: str,
        amount: int,
        card: CardChoice,
        *,
        confirmed: bool = False,
        before_sending: Callable[[Payment], None] | None = None,
        repeat: bool = False,
        hang_up_after_s: float | None = None,
    ) -> Payment:
        """Pay ``amount`` fen in advance; as ``pay``. ``confirmed``: the customer means it, though he just did it."""
        payment = Payment(self._next_serial(), _today(), account, amount, (), 0.0)
        tags = [("DF01", account.encode())] + ([("DF1B", b"1")] if confirmed else [])
        return await self._charge(
            payment, "73", tags, card, before_sending=before_sending, repeat=repeat, hang_up_after_s=hang_up_after_s
        )

    async def _charge(
        self,
        payment: Payment,
        business: str,
        tags: list[tuple[str, bytes]],
        card: CardChoice,
        *,
        before_sending: Callable[[Payment], None] | None,
        repeat: bool,
        hang_up_after_s: float | None,
    ) -> Payment:
        loop = asyncio.get_running_loop()
        values = self._financial(
            {
                0: "0200",
                3: "000000",
                4: f"{payment.amount:012d}",
                25: "00",
                48: tlv.encode(tags),
                60: f"{business}{self._batch}000",
                **self._card_fields(card, payment.amount),
            }
        )
        frame = self._encode({**values, 11: payment.serial, 13: payment.date}, with_mac=True)
        key = payment.date, payment.serial
        self.unfinished[key] = self._recent[key] = payment
        if len(self._recent) > _RECENT_MAX:
            del self._recent[next(iter(self._recent))]
        if before_sending is not None:
            before_sending(payment)
        payment.sent_at = stopwatch_s()
        hang_up = None if hang_up_after_s is None else loop.call_later(hang_up_after_s, self.hang_up)
        answer = await self._exchange(
            frame, ("0210", payment.serial, payment.date), self._profile.kiosk_s, copies=2 if repeat else 1
        )
        if hang_up is not None:
            hang_up.cancel()
        if not answer.code:
            self._count("no_answer" if self.is_connected else "lost_answer")
        elif not answer.is_proof:
            self._told(payment, answer, "answer", final=False)
        else:
            self._told(payment, answer, "answer")
        if answer.code == "P1" and answer.is_proof and card.says != "nothing":
            if card.says_after_s:
                await asyncio.sleep(card.says_after_s)
            answer = await self.chip_says(payment, card, accepts=card.says == "tc", issuer_data=_issuer_data(answer))
        elif card.entry == "chip" and answer.is_proof and "72" in (said := _issuer_data(answer)):
            await self.chip_says(payment, card, accepts=True, issuer_data=said)
        return payment

    async def chip_says(
        self,
        payment: Payment,
        card: CardChoice | None = None,
        *,
        accepts: bool,
        issuer_data: dict[str, bytes] | None = None,
    ) -> Answer:
        """Send the chip's last cryptogram, and what it did with the issuer's script if that had one; the answer says
        how the payment stands."""
        values = self._about(payment, "0620", "77")
        del values[3]
        word = _last_cryptogram(accepts=accepts)
        if card is not None and "72" in (issuer_data or {}):
            values |= {2: testkeys.test_pan(card.number), 23: "001"}
            word = [*word, ("DF31", bytes.fromhex("2112345678"))]
        values[55] = tlv.encode(word)
        answer = await self._ask(values, "0630", with_mac=True, wait_s=self._profile.kiosk_s)
        if answer.code == "25" or (answer.code and answer.asked_serial == payment.serial):
            self._told(payment, answer, "chip")
        return answer

    async def ask_result(self, payment: Payment) -> Answer:
        """One result inquiry; what it says about the payment has been taken note of when this returns."""
        values = self._about(payment, "0200", "75")
        answer = await self._ask(values, "0210", with_mac=True, wait_s=self._profile.kiosk_s)
        if answer.code == "25" or (answer.code and answer.asked_serial == payment.serial):
            self._told(payment, answer, "inquiry")
        return answer

    async def take_back(self, payment: Payment) -> Answer:
        """Ask for the payment to be reversed; the answer says how it stands."""
        values = self._about(payment, "0400", "72")
        answer = await self._ask(values, "0410", with_mac=True, wait_s=self._profile.kiosk_s)
        if answer.code == "25" or (answer.code and answer.asked_serial == payment.serial):
            self._told(payment, answer, "reversal")
        return answer

    def skip_serials(self, count: int) -> None:
        """After "key conflict": somebody used these serials today."""
        self._serial = (self._serial + count) % _SERIAL_MAX

    # ---- inside
    def _told(self, payment: Payment, answer: Answer, how: str, *, final: bool = True) -> None:
        payment.words += 1
        if payment.words == 1:
            payment.first_word_s = stopwatch_s() - payment.sent_at
        became_final = False
        if final and answer.code not in NOT_FINAL:
            if not payment.final:
                became_final = True
                payment.final, payment.stable = answer.code, answer.stable
                self.unfinished.pop((payment.date, payment.serial), None)
                if payment.final == "00":
                    self.paid.setdefault(payment.date, {})[payment.serial] = payment.amount
            elif payment.final != answer.code and payment.final not in _MAY_MOVE:
                self._count("contradiction")
        if self._heard is not None:
            self._heard(payment, answer, how, became_final)

    def _financial(self, values: Values) -> Values:
        return {41: self.terminal_id, 42: self.merchant_id, 49: "156", **values}

    def _about(self, payment: Payment, mti: str, business: str) -> Values:
        """A request about a payment: by its key."""
        return self._financial(
            {
                0: mti,
                3: "310000" if mti == "0200" else "000000",
                25: "00",
                48: tlv.encode([("DF0C", payment.serial.encode()), ("DF0D", payment.date.encode())]),
                60: f"{business}{self._batch}000",
            }
        )

    def _card_fields(self, card: CardChoice, amount: int) -> Values:
        pan = testkeys.test_pan(card.number)
        if card.entry == "keyed":
            return {2: pan, 14: testkeys.test_expiry(card.number), 22: "012"}
        assert self._pin is not None
        clear = pinblock.encode_format0(_WRONG_PIN if card.wrong_pin else _PIN, pan)
        values: Values = {
            22: "021",
            26: "06",
            35: testkeys.test_track2(card.number),
            52: self._pin.encrypt(clear),
            53: "2600000000000000",
        }
        if card.entry == "chip":
            values |= {2: pan, 14: testkeys.test_expiry(card.number), 22: "051", 23: "001", 55: _chip_data(amount)}
        elif card.number % 2:
            values[2] = pan  # a swipe may send the number or leave it to the track
        return values

    def _next_serial(self) -> str:
        self._serial = self._serial % _SERIAL_MAX + 1
        return f"{self._serial:06d}"

    def _encode(self, values: Values, *, with_mac: bool) -> bytes:
        if not with_mac:
            return self._spec.encode(values, header=_HEADER)
        frame = self._spec.encode({**values, 64: bytes(_MAC_SIZE)}, header=_HEADER)[:-_MAC_SIZE]
        if self._mac is None:
            return frame + b"00000000"  # never signed on: the switch says so
        return frame + self._mac.make(frame[_HEADER_SIZE:])

    async def _ask(self, values: Values, response_mti: str, *, with_mac: bool, wait_s: float) -> Answer:
        serial, date = self._next_serial(), _today()
        frame = self._encode({**values, 11: serial, 13: date}, with_mac=with_mac)
        return await self._exchange(frame, (response_mti, serial, date), wait_s)

    async def _exchange(self, frame: bytes, key: tuple[str, str, str], wait_s: float, copies: int = 1) -> Answer:
        connection = self._connection
        if connection is None or not connection.is_open:
            return Answer("")
        loop = asyncio.get_running_loop()
        self.asked_at = loop.time()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting[key] = future
        for _ in range(copies):
            connection.send(frame)
        timer = loop.call_later(wait_s, self._give_up, key)
        try:
            return await future
        finally:
            timer.cancel()
            self._waiting.pop(key, None)

    def _give_up(self, key: tuple[str, str, str]) -> None:
        future = self._waiting.pop(key, None)
        if future is not None and not future.done():
            future.set_result(Answer(""))

    def _frame_received(self, _connection: FrameConnection, frame: bytes) -> None:
        try:
            message = self._spec.decode(frame)
            answer = self._read(message, frame)
        except (iso8583.DecodeError, KeyError, ValueError):
            self._count("unreadable")
            return
        if answer is None:
            return
        serial, date = str(message.get(11, "")), str(message.get(13, ""))
        key = (message.mti, serial, date)
        future = self._waiting.get(key)
        if future is None and message.mti in ("0810", "0830"):
            # Their date may be the switch's.
            key = next((key for key in self._waiting if key[:2] == (message.mti, serial)), key)
            future = self._waiting.get(key)
        if future is not None:
            if answer.code == "09" and (date, serial) in self.unfinished:
                self._told(self.unfinished[date, serial], answer, "answer")
                return  # our repeat came too early; the first one is still being answered
            self._waiting.pop(key, None)
            if not future.done():
                future.set_result(answer)
            return
        payment = self._recent.get((date, serial))
        if payment is not None and message.mti == "0210" and answer.code != "09":
            self._count("late_answer")
            self._told(payment, answer, "answer", final=answer.is_proof)

    def _read(self, message: iso8583.Message, frame: bytes) -> Answer | None:
        """The response, if its MAC is right or not due; else None, as if it had never come."""
        code = str(message[39])
        due = message.mti in _WITH_MAC or (message.mti in ("0810", "0830") and 64 in message)
        if due and code not in WITHOUT_MAC and (64 in message or code not in MAY_LACK_MAC):
            covered, found = frame[_HEADER_SIZE:-_MAC_SIZE], frame[-_MAC_SIZE:]
            keys = [key for key in (self._mac, self._mac_before) if key is not None]
            if 64 not in message or not any(key.verify(covered, found) for key in keys):
                self._count("mac_error")
                return None
        answer = Answer(code, amount=int(str(message.get(4, "0"))), message=message)
        self.wish = f"{frame[_WISH_AT] & 0x0F:x}".replace("0", "")
        if str(message.get(60, ""))[8:11] in DOWNLOADS and 62 in message:
            answer.data = message.raw(62)
        amounts = str(message.get(54, ""))
        if len(amounts) >= 20:
            answer.balance = int(amounts[8:20]) * (-1 if amounts[7] == "D" else 1)
        private = message.get(48)
        if isinstance(private, bytes):
            _read_private(answer, private)
        return answer

    def _count(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1


def _read_private(answer: Answer, private: bytes) -> None:
    objects = dict(reversed(tlv.decode(private)))
    answer.stable = objects.get("DF0A", b"").decode("ascii")
    answer.reference = objects.get("DF0F", b"").decode("ascii")
    answer.case = objects.get("DF0B", b"").decode("ascii")
    answer.asked_serial = objects.get("DF0C", b"").decode("ascii")
    answer.closed = objects.get("DF1A", b"").decode("ascii")
    months = [dict(tlv.decode(month)) for month in tlv.every(tlv.decode(private), "E1")]
    answer.older = objects.get("DF24", b"").decode("ascii")
    answer.e_bills = tuple(_read_e_bill(tlv.decode(bill)) for bill in tlv.every(tlv.decode(private), "E2"))
    if "DF28" in objects:
        answer.batch = Batch(
            "",
            "",
            int(objects["DF28"]),
            int(objects["DF29"]),
            int(objects["DF2B"]),
            tuple(_read_difference(dict(tlv.decode(each))) for each in tlv.every(tlv.decode(private), "E6")),
        )
    if "DF18" in objects:
        answer.slip = Slip(
            objects["DF01"].decode("ascii"),
            objects["DF18"].decode("ascii"),
            objects["DF19"].decode("ascii"),
            tuple((month["DF12"].decode("ascii"), int(month["DF15"])) for month in months),
        )
    if answer.code == "00" and "DF02" in objects:
        rows = [(month["DF11"].decode("ascii"), int(month["DF15"])) for month in months]
        answer.bills = Bills(
            objects["DF01"].decode("ascii"),
            objects["DF02"].decode("ascii"),
            objects["DF03"].decode("gbk"),
            objects["DF09"] == b"1",
            tuple(rows),
        )


def _read_e_bill(tags: list[tuple[str, bytes]]) -> EBill:
    objects = {tag: value.decode("ascii") for tag, value in tags if tag.startswith("DF")}
    meters = [dict(tlv.decode(meter)) for meter in tlv.every(tags, "E3")]
    steps = [dict(tlv.decode(step)) for step in tlv.every(tags, "E4")]
    return EBill(
        objects["DF12"],
        int(objects["DF16"]),
        int(objects["DF15"]),
        int(objects["DF1E"]),
        tuple((meter["DF21"].decode("ascii"), meter["DF22"].decode("ascii")) for meter in meters),
        tuple((int(step["DF16"]), step["DF23"].decode("ascii"), int(step["DF15"])) for step in steps),
    )


def _read_difference(objects: dict[str, bytes]) -> tuple[str, str, int, int]:
    texts = {tag: value.decode("ascii") for tag, value in objects.items()}
    return texts["DF2A"], texts["DF2C"], int(texts["DF27"]), int(texts["DF29"])


def _chip_data(amount: int) -> bytes:
    """Field 55 of a purchase: the mandatory tags, with a random number and cryptogram."""
    now = china_now()
    return tlv.encode(
        [
            ("9F26", random.randbytes(8)),
            ("9F27", b"\x80"),
            ("9F10", bytes.fromhex("07010103A02000010A010000000000")),
            ("9F37", random.randbytes(4)),
            ("9F36", random.randbytes(2)),
            ("95", bytes.fromhex("0000048000")),
            ("9A", bytes.fromhex(f"{now:%y%m%d}")),
            ("9C", b"\x00"),
            ("9F02", bytes.fromhex(f"{amount:012d}")),
            ("5F2A", bytes.fromhex("0156")),
            ("82", bytes.fromhex("7C00")),
            ("9F1A", bytes.fromhex("0156")),
            ("9F03", bytes(6)),
            ("9F33", bytes.fromhex("E0F0C8")),
        ]
    )


def _issuer_data(answer: Answer) -> dict[str, bytes]:
    found = answer.message
    return dict(tlv.decode(found.raw(55))) if found is not None and 55 in found else {}


def _last_cryptogram(*, accepts: bool) -> list[tuple[str, bytes]]:
    """Of the second GENERATE AC: TC or AAC."""
    return [
        ("9F26", random.randbytes(8)),
        ("9F27", b"\x40" if accepts else b"\x00"),
        ("9F10", bytes.fromhex("07010103A02000010A01000000FFFF")),
        ("9F36", random.randbytes(2)),
        ("95", bytes.fromhex("0000048001")),
        ("82", bytes.fromhex("7C00")),
    ]


def _today() -> str:
    return f"{china_now():%m%d}"
