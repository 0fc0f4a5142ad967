"""Kiosks as a measuring instrument: as many payments as wanted, cheaply, and honest times.

``fleet.py`` plays kiosks with all their habits; this plays them at a tenth of the cost, because on one machine whatever
the load costs is taken from the switch. Each kiosk is one kept connection and a protocol whose callbacks do
everything; requests are ready messages in which the codec replaces account, serial, amount and quote. All MACs are made
and checked, and the kiosks' book is kept as by the fleet, so the three-way proof covers this load as well.

A run is a row of phases:

    closed    N payments are under way at any time; the next begins when one ends. How much can it do?
    open      payments begin at instants drawn beforehand, whatever the answers do. How long does a customer wait?

In the open phases the time of a payment counts from the instant at which it was due, so whatever holds the load up,
the switch, this process or kiosks that are all busy, is in the numbers: coordinated omission cannot happen. How late
payments began is reported besides, and shows a generator that cannot keep up.

What a customer does: inquiry, payment of all that the answer lists, answer. A payment without a final word is asked
for, beside the next customers, until it has one or the settle time is over.
"""

from __future__ import annotations

import asyncio
import random
import resource
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import iso8583
from iso8583 import tlv
from switch import limits
from switch.errors import ConfigError, SecurityError
from switch.ports import KeyUsage
from switch.security import mac, pinblock, primitives, workingkeys
from switch.sim import customers, testkeys
from switch.sim.alarm import Alarm
from switch.sim.day import china_now, wall_s
from switch.sim.fleet import first_serial
from switch.sim.histogram import Histogram
from switch.sim.kiosk_client import MAY_LACK_MAC, NOT_FINAL, WITHOUT_MAC
from switch.sim.scenario import FleetScenario, Scenario
from switch.sim.truth import TruthLedger
from switch.sim.wire import kiosk_tls

_HEADER: Final = bytes.fromhex("6000030000603100000000")
_HEADER_SIZE: Final = 11
_MAC_SIZE: Final = 8
_PIN: Final = "123456"
_WRONG_PIN: Final = "000000"
_SERIAL_MAX: Final = 999_999
_SIGN_ON_AGAIN: Final = frozenset({"77", "A0", "A1"})
_TICK_S: Final = 0.05  # between looks at what is overdue
_CONNECTING_MAX: Final = 128  # kiosks that connect and sign on at once: a backlog of sockets is not what is measured
_REST_S: Final = 0.2  # of a closed phase's kiosk that was refused: without it a refusal becomes a flood
_HANG_UP_MAX_S: Final = 0.05
ARRIVALS_WAITING_MAX: Final = 200_000  # payments that are due while no kiosk is free; beyond it customers leave at once
_DRAIN_LOOK_S: Final = 0.02

Values = dict[int | str, Any]
_IDLE, _SIGNING_ON, _INQUIRING, _PAYING, _RESTING = range(5)


@dataclass(frozen=True, slots=True)
class Phase:
    """One part of a run.

    ``inflight`` above 0: closed. ``rate``: open, payments a second. Neither: nobody pays, what is under way ends.
    """

    name: str
    seconds: float
    inflight: int = 0
    rate: float = 0.0
    poisson: bool = False
    probes: float = 0.0  # a second: result inquiries and reversals for payments that have ended, in turn

    @classmethod
    def parse(cls, text: str) -> Phase:
        """``NAME:closed:INFLIGHT:SECONDS``, ``NAME:open:RATE:SECONDS[:poisson]``, ``NAME:rest:0:SECONDS``; ``+PROBES``
        behind the name: so many probes a second.

        Raises:
            ConfigError: Says what is expected.
        """
        try:
            name, kind, value, seconds, *more = text.split(":")
            name, _, probes = name.partition("+")
            if kind not in ("closed", "open", "rest") or (more and (kind, more) != ("open", ["poisson"])):
                raise ValueError
            phase = cls(
                name,
                float(seconds),
                int(value) if kind == "closed" else 0,
                float(value) if kind == "open" else 0.0,
                bool(more),
                float(probes or 0),
            )
            amount = {"closed": phase.inflight, "open": phase.rate, "rest": 1}[kind]
            if not name or phase.seconds <= 0 or amount <= 0 or phase.probes < 0:
                raise ValueError
        except ValueError:
            expected = "NAME:closed:INFLIGHT:SECONDS or NAME:open:RATE:SECONDS[:poisson]"
            raise ConfigError("--phase", f"{text!r}: expected {expected}, e.g. run:open:5000:10") from None
        return phase


@dataclass
class PhaseResult:
    """What came of the payments that were due in one phase; ``ended`` and the events count by the clock instead."""

    name: str
    seconds: float = 0.0  # that it really took
    due: int = 0
    begun: int = 0
    paid: int = 0  # answered 00
    declined: int = 0
    doubtful: int = 0  # first word was not final, or there was none
    refused: Counter[str] = field(default_factory=Counter)  # codes that ended it before the card
    left: int = 0  # customers who found no kiosk in time
    paid_within: int = 0  # answered 00 while the phase lasted, whenever they were due
    ended_within: int = 0  # the same with any final word
    cpu_s: float = 0.0  # of this process
    probes: int = 0
    probes_answered: int = 0
    payment: Histogram = field(default_factory=Histogram)  # from the instant it was due to its first word
    inquiry: Histogram = field(default_factory=Histogram)  # request to answer
    paying: Histogram = field(default_factory=Histogram)  # the same
    late: Histogram = field(default_factory=Histogram)  # from the instant it was due to the inquiry leaving
    probe: Histogram = field(default_factory=Histogram)

    def to_dict(self) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for name, value in vars(self).items():
            if isinstance(value, Histogram):
                plain[name] = value.to_dict()
            elif isinstance(value, Counter):
                plain[name] = dict(sorted(value.items()))
            else:
                plain[name] = round(value, 4) if isinstance(value, float) else value
        return plain


class _Doubt:
    """A payment without a final word."""

    __slots__ = ("ask_at", "date", "final", "kiosk", "serial", "told")

    def __init__(self, kiosk: _Kiosk, date: str, serial: str, ask_at: float) -> None:
        self.kiosk = kiosk
        self.date = date
        self.serial = serial
        self.ask_at = ask_at
        self.final = False
        self.told = False


class _Kiosk(asyncio.Protocol):
    """One kiosk. Its customer's payment is in its slots; there is at most one at a time."""

    __slots__ = (
        "account", "amount", "answered", "asked", "batch", "began", "doubts", "due", "inquiry", "key", "last_paid",
        "mac", "number", "owner", "payments", "phase", "pin", "probed", "ready", "result", "reversal",
        "sent_at", "serial", "serial_number", "step", "terminal_id", "tmk", "transport", "unread",
    )  # fmt: skip

    def __init__(self, owner: Generator, number: int, serial_number: int) -> None:
        self.owner = owner
        self.number = number
        self.terminal_id, _ = testkeys.test_terminal(number)
        self.tmk = primitives.des(testkeys.test_tmk(self.terminal_id))
        self.serial_number = serial_number - 1
        self.transport: asyncio.Transport | None = None
        self.unread = b""
        self.ready = False  # signed on
        self.answered: asyncio.Event | None = None  # of a sign-on
        self.mac: mac.Mac | None = None
        self.pin: primitives.BlockCipher | None = None
        self.batch = "000000"
        self.inquiry: iso8583.Message
        self.payments: dict[str, iso8583.Message] = {}  # by how the card is read
        self.result: iso8583.Message
        self.reversal: iso8583.Message
        self.step = _IDLE
        self.serial = ""  # of the request that it waits for
        self.account = b""
        self.amount = 0
        self.key = b""  # terminal|MMDD|serial of the payment
        self.due = self.began = self.sent_at = 0.0
        self.phase = owner.none
        self.last_paid = ""  # serial of a payment that ended well
        self.doubts: dict[str, _Doubt] = {}
        self.asked: dict[str, _Doubt] = {}  # by the serial of the inquiry
        self.probed: dict[str, tuple[float, PhaseResult]] = {}

    # ---- asyncio.Protocol
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.unread:
            data = self.unread + data
            self.unread = b""
        while len(data) >= 2:
            end = 2 + (data[0] << 8 | data[1])
            if len(data) < end:
                break
            self.owner.answered(self, data[2:end])
            data = data[end:]
        if data:
            self.unread = data

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.unread = b""
        self.owner.lost(self)

    # ---- messages
    def next_serial(self) -> str:
        self.serial_number = number = self.serial_number % _SERIAL_MAX + 1
        return f"{number:06d}"

    def take_keys(self, message: iso8583.Message) -> str:
        """Working keys of a sign-on into use; gives its code, "kcv" when they do not fit their check values."""
        code = str(message[39])
        if code != "00":
            return code
        business, keys = str(message.get(60, "")), message.get(62)
        if not isinstance(keys, bytes) or len(business) < 8:
            return "30"
        try:
            parts = workingkeys.parse(keys)
            mac_key = workingkeys.decrypt_key(parts.mac.cryptogram, parts.mac.kcv, self.tmk, KeyUsage.MAC)
            self.pin = workingkeys.decrypt_key(parts.pin.cryptogram, parts.pin.kcv, self.tmk, KeyUsage.PIN)
        except SecurityError:
            return "kcv"
        self.mac = mac.prepare("unionpay_ecb", mac_key)
        self.batch = business[2:8]
        self.payments.clear()
        self.inquiry = self._template({3: "310000", 48: bytes(13), 60: f"71{self.batch}000"})
        about = bytes(15)
        self.result = self._template({3: "310000", 48: about, 60: f"75{self.batch}000"})
        self.reversal = self._template({0: "0400", 3: "000000", 48: about, 60: f"72{self.batch}000"})
        return code

    def payment_template(self, entry: str) -> iso8583.Message:
        """``entry``: track, chip, keyed or wrong_pin."""
        found = self.payments.get(entry)
        if found is None:
            found = self.payments[entry] = self._template(
                {3: "000000", 4: 0, 48: b"", 60: f"72{self.batch}000", **self._card(entry)}
            )
        return found

    def _card(self, entry: str) -> Values:
        number = self.number * 2 % testkeys.PANS_MAX
        pan = testkeys.test_pan(number)
        if entry == "keyed":
            return {2: pan, 14: testkeys.test_expiry(number), 22: "012"}
        assert self.pin is not None
        clear = pinblock.encode_format0(_WRONG_PIN if entry == "wrong_pin" else _PIN, pan)
        values: Values = {
            22: "021",
            26: "06",
            35: testkeys.test_track2(number),
            52: self.pin.encrypt(clear),
            53: "2600000000000000",
        }
        if entry == "chip":
            chip = [("9F26", bytes(8)), ("9F27", b"\x80"), ("9F36", b"\x00\x01"), ("95", bytes(5)), ("82", b"\x7c\x00")]
            values |= {2: pan, 14: testkeys.test_expiry(number), 22: "051", 23: "001", 55: tlv.encode(chip)}
        return values

    def _template(self, values: Values) -> iso8583.Message:
        terminal_id, merchant_id = testkeys.test_terminal(self.number)
        fixed: Values = {0: "0200", 11: 0, 13: "0101", 25: "00", 41: terminal_id, 42: merchant_id, 49: "156"}
        spec = self.owner.spec
        return spec.decode(spec.encode({**fixed, **values, 64: bytes(_MAC_SIZE)}, header=_HEADER))


class Generator:
    """Args:
    kiosks: Test terminals from ``first_terminal`` on, each with a connection of its own.
    book: Where the kiosks' book goes; None: no book, no proof.
    first_account: Customers before this one are left alone.
    idle: So many more kiosks that only sign on and stay connected.
    """

    def __init__(
        self,
        host: str,
        port: int,
        kiosks: int,
        scenario: Scenario,
        book: Path | None,
        *,
        profile: limits.TimeProfile = limits.SHORT,
        settle_s: float,
        first_terminal: int = 1,
        first_account: int = 0,
        idle: int = 0,
        tls_dir: Path | None = None,
    ) -> None:
        self.spec = iso8583.load("kiosk", header="tpdu+pos6")
        self.none = PhaseResult("none")  # of what is due before and after all phases
        self.now = time.monotonic
        self._host, self._port, self._tls_dir = host, port, tls_dir
        self._profile = profile
        self._settle_s = settle_s
        self._mood: FleetScenario = scenario.fleet
        self._random = random.Random(f"{scenario.seed}|generator").random
        self._faults = sum(
            (self._mood.wrong_pin_rate, self._mood.repeat_rate, self._mood.disconnect_rate)
        )  # chance of any of them, drawn at once
        self._book = None if book is None else TruthLedger(book)
        serial = first_serial()
        numbers = range(first_terminal, first_terminal + kiosks + idle)
        self._kiosks = [_Kiosk(self, number, serial) for number in numbers]
        self._payers = self._kiosks[:kiosks]
        self._free: deque[_Kiosk] = deque()  # the one that has been free for longest pays next
        self._accounts = _accounts(first_account)
        self._waiting: deque[tuple[float, PhaseResult]] = deque()  # due, but no kiosk was free
        self._overdue: deque[tuple[float, _Kiosk, str]] = deque()  # requests by when their kiosk gives up
        self._doubts: deque[_Doubt] = deque()
        self._outgoing: list[tuple[asyncio.Transport, bytes]] = []
        self._write_due = False
        self._inflight = 0
        self._wanted = 0  # of a closed phase
        self.phase = self.none
        self._arrivals: Iterator[float] = iter(())
        self._next_arrival = float("inf")
        self._probe_s = 0.0
        self._next_probe = float("inf")
        self._probe_turn = 0
        self.events: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()  # first words about payments
        self.finals: Counter[str] = Counter()
        self._connecting = asyncio.Semaphore(_CONNECTING_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop
        self._ticker: asyncio.TimerHandle | None = None
        self._alarm: Alarm
        self._ended = False
        self._date = ""  # MMDD of the kiosks' clocks
        self._failure: BaseException | None = None
        self._wall_us = 0

    # ------------------------------------------------------------------------------------------------ a run
    async def start(self, until_s: float) -> int:
        """Connect and sign on; gives how many kiosks are ready after ``until_s`` at the latest."""
        self._loop = asyncio.get_running_loop()
        self._alarm = Alarm(self._loop, self._arrive)
        self._tick()
        for kiosk in self._kiosks:
            self._bring(kiosk)
        ends_at = self.now() + until_s
        while self._tasks and self._failure is None and self.now() < ends_at:
            await asyncio.wait(self._tasks, timeout=_DRAIN_LOOK_S)
        if self._failure is not None:
            raise self._failure
        return sum(kiosk.ready for kiosk in self._kiosks)

    async def play(self, phase: Phase) -> PhaseResult:
        """One phase; its result is complete when ``settle`` has returned."""
        result = self.phase = PhaseResult(phase.name)
        started, cpu = self.now(), cpu_s()
        self._wanted = phase.inflight
        if phase.rate:
            self._arrivals = _instants(started, phase, self._random)
            self._next_arrival = next(self._arrivals)
        if phase.probes:
            self._probe_s = 1.0 / phase.probes
            self._next_probe = started
        self._fill()
        self._arm()
        await asyncio.sleep(phase.seconds)
        self._arrive()  # whoever was due before the end and not yet seen: a late loop must not shorten the schedule
        self._wanted = 0
        self._next_arrival = self._next_probe = float("inf")
        self.phase = self.none
        result.seconds, result.cpu_s = self.now() - started, cpu_s() - cpu
        return result

    async def settle(self) -> int:
        """Until nothing is unclear any more, or the settle time is over; gives the number of payments left unclear."""
        ends_at = self.now() + self._settle_s
        while self.now() < ends_at and self._failure is None:
            if not (self._waiting or self._inflight or self._open_doubts()):
                break
            await asyncio.sleep(_DRAIN_LOOK_S)
        if self._failure is not None:
            raise self._failure
        return self._open_doubts()

    async def stop(self) -> None:
        self._ended = True
        if self._ticker is not None:
            self._ticker.cancel()
        self._alarm.close()
        for task in self._tasks:
            task.cancel()
        self._write_out()
        for kiosk in self._kiosks:
            if kiosk.transport is not None:
                kiosk.transport.close()
        if self._book is not None:
            self._book.close()
        await asyncio.sleep(0)

    def _open_doubts(self) -> int:
        return sum(len(kiosk.doubts) for kiosk in self._payers)

    # ------------------------------------------------------------------------------------------------ arrivals
    def _arm(self) -> None:
        soonest = min(self._next_arrival, self._next_probe)
        if soonest != float("inf"):
            self._alarm.ring_at(soonest)

    def _arrive(self) -> None:
        """Begin whatever is due."""
        now, phase = self.now(), self.phase
        while self._next_arrival <= now:
            due = self._next_arrival
            self._next_arrival = next(self._arrivals)
            phase.due += 1
            if self._free:
                self._begin(self._free.popleft(), due, now, phase)
            elif len(self._waiting) < ARRIVALS_WAITING_MAX:
                self._waiting.append((due, phase))
            else:
                phase.left += 1
        while self._next_probe <= now:
            self._next_probe += self._probe_s
            self._probe(now, phase)
        self._arm()

    def _fill(self) -> None:
        """A closed phase: begin as many as are missing."""
        while self._inflight < self._wanted and self._free:
            now = self.now()
            self.phase.due += 1
            self._begin(self._free.popleft(), now, now, self.phase)

    def _begin(self, kiosk: _Kiosk, due: float, now: float, phase: PhaseResult) -> None:
        kiosk.due, kiosk.phase = due, phase
        kiosk.account = account = next(self._accounts)
        kiosk.step = _INQUIRING
        self._inflight += 1
        phase.begun += 1
        phase.late.add(now - due)
        serial = kiosk.serial = kiosk.next_serial()
        self._request(kiosk, kiosk.inquiry.patched({11: serial, 13: self._date, 48: b"\xdf\x01\x0a" + account}), now)

    def _request(self, kiosk: _Kiosk, frame: bytes, now: float, copies: int = 1) -> None:
        """The kiosk's own request, for whose answer it waits."""
        kiosk.sent_at = now
        self._overdue.append((now + self._profile.kiosk_s, kiosk, kiosk.serial))
        self._send(kiosk, frame, copies)

    def _send(self, kiosk: _Kiosk, frame: bytes, copies: int = 1) -> None:
        assert kiosk.mac is not None
        if kiosk.transport is None:
            return
        frame = frame[:-_MAC_SIZE]
        data = b"%b%b%b" % ((len(frame) + _MAC_SIZE).to_bytes(2, "big"), frame, kiosk.mac.make(frame[_HEADER_SIZE:]))
        self._outgoing.append((kiosk.transport, data * copies))
        if not self._write_due:
            self._write_due = True
            self._loop.call_soon(self._write_out)

    def _write_out(self) -> None:
        """The book first: what left and is not in it would be a payment that the proof does not know of."""
        self._write_due = False
        if self._book is not None:
            self._book.flush()
        outgoing, self._outgoing = self._outgoing, []
        for transport, data in outgoing:
            transport.write(data)

    def _free_again(self, kiosk: _Kiosk) -> None:
        """The kiosk's customer has gone."""
        kiosk.step = _IDLE
        kiosk.serial = ""
        self._inflight -= 1
        self._offer(kiosk)

    def _offer(self, kiosk: _Kiosk) -> None:
        if kiosk.number - self._kiosks[0].number >= len(self._payers):
            return  # one of the idle ones
        if not kiosk.ready or kiosk.transport is None:
            self._bring(kiosk)
        elif self._waiting:
            due, phase = self._waiting.popleft()
            self._begin(kiosk, due, self.now(), phase)
        else:
            self._free.append(kiosk)
            if self._inflight < self._wanted:
                self._fill()

    # ------------------------------------------------------------------------------------------------ answers
    def answered(self, kiosk: _Kiosk, frame: bytes) -> None:
        try:
            message = self.spec.decode(frame)
            code: str = message[39]
            serial: str = message[11]
        except (iso8583.DecodeError, KeyError):
            self.events["unreadable"] += 1
            return
        if message.mti == "0810":
            said = kiosk.take_keys(message)
            kiosk.ready = said == "00"
            if not kiosk.ready:
                self.events[f"sign_on_{said}"] += 1
            if kiosk.answered is not None:
                kiosk.answered.set()
            return
        if code in WITHOUT_MAC:
            proof = False
            if code in _SIGN_ON_AGAIN:
                kiosk.ready = False
        else:
            proof = 64 in message
            key = kiosk.mac
            if proof:
                right = key is not None and key.verify(frame[_HEADER_SIZE:-_MAC_SIZE], frame[-_MAC_SIZE:])
            else:
                right = code in MAY_LACK_MAC
            if not right:
                self.events["mac_error"] += 1
                return
        if serial == kiosk.serial:
            if kiosk.step == _INQUIRING:
                self._inquired(kiosk, message, code)
            elif kiosk.step == _PAYING:
                self._paid(kiosk, message, code, proof)
        else:
            self._answered_beside(kiosk, message, code, serial, proof)

    def _inquired(self, kiosk: _Kiosk, message: iso8583.Message, code: str) -> None:
        now, phase = self.now(), kiosk.phase
        phase.inquiry.add(now - kiosk.sent_at)
        if code != "00":
            self._refused(kiosk, code)
            return
        quote, amount, receivables = b"", 0, []
        for tag, value in tlv.decode(message.raw(48)):
            if tag == "E1":
                row = dict(tlv.decode(value))
                receivables.append(row["DF11"])
                amount += int(row["DF15"])
            elif tag == "DF02":
                quote = value
        kiosk.amount = amount
        private = b"\xdf\x01\x0a%b\xdf\x02%c%b" % (kiosk.account, len(quote), quote)
        private += b"".join([b"\xdf\x11%c%b" % (len(receivable), receivable) for receivable in receivables])
        entry, copies, hangs_up = "track", 1, False
        mood = self._mood
        roll = self._random()
        if roll < self._faults:
            if roll < mood.wrong_pin_rate:
                entry = "wrong_pin"
            elif roll < mood.wrong_pin_rate + mood.repeat_rate:
                copies = 2
            else:
                hangs_up = True
        elif roll >= 1.0 - mood.chip_rate:
            entry = "chip"
        elif roll >= 1.0 - mood.chip_rate - mood.keyed_rate:
            entry = "keyed"
        kiosk.step = _PAYING
        serial = kiosk.serial = kiosk.next_serial()
        kiosk.key = f"{kiosk.terminal_id}|{self._date}|{serial}".encode()
        template = kiosk.payments.get(entry) or kiosk.payment_template(entry)
        frame = template.patched({4: amount, 11: serial, 13: self._date, 48: private})
        if self._book is not None:
            self._book.add(
                b'{"at":%d,"fact":"sent","key":"%b","fen":%d,"account":"%b","receivables":["%b"]}'
                % (self._wall_us, kiosk.key, amount, kiosk.account, b'","'.join(receivables))
            )
        self._request(kiosk, frame, now, copies)
        if hangs_up:
            self._loop.call_later(self._random() ** 2 * _HANG_UP_MAX_S, self._hang_up, kiosk)

    def _paid(self, kiosk: _Kiosk, message: iso8583.Message, code: str, proof: bool) -> None:
        if code == "09":
            return  # our repeat came too early; the first one is still being answered
        now, phase = self.now(), kiosk.phase
        phase.paying.add(now - kiosk.sent_at)
        phase.payment.add(now - kiosk.due)
        self.codes[code] += 1
        if not proof or code in NOT_FINAL:  # without a MAC nothing is said about money
            self._told(kiosk.key, message, code, final=False)
            self._doubt(kiosk, now)
        else:
            stable = self._told(kiosk.key, message, code, final=True)
            self._count(phase, code, stable)
            if code == "00":
                kiosk.last_paid = kiosk.serial
            elif stable not in ("declined", "returned") and self._wanted:
                self._rest(kiosk)
                return
        self._free_again(kiosk)

    def _count(self, phase: PhaseResult, code: str, stable: str) -> None:
        self.finals[stable] += 1
        self.phase.ended_within += 1
        if code == "00":
            phase.paid += 1
            self.phase.paid_within += 1
        elif stable == "declined":
            phase.declined += 1
        else:
            phase.refused[code] += 1

    def _refused(self, kiosk: _Kiosk, code: str) -> None:
        """No bill, so no payment."""
        kiosk.phase.refused[f"inquiry {code}"] += 1
        if self._wanted:
            self._rest(kiosk)
        else:
            self._free_again(kiosk)

    def _rest(self, kiosk: _Kiosk) -> None:
        kiosk.step = _RESTING
        self._loop.call_later(_REST_S, self._free_again, kiosk)

    def _told(self, key: bytes, message: iso8583.Message, code: str, *, final: bool) -> str:
        """Into the book; gives the stable code."""
        stable = reference = case = b""
        if 48 in message:
            for tag, value in tlv.decode(message.raw(48)):
                if tag == "DF0A":
                    stable = value
                elif tag == "DF0F":
                    reference = value
                elif tag == "DF0B":
                    case = value
        if self._book is not None:
            at, word = self._wall_us, code.encode()
            line = b'{"at":%d,"fact":"told","key":"%b","code":"%b","stable":"%b","reference":"%b","case":"%b"}' % (
                *(at, key, word, stable, reference, case),
            )
            if final:
                line += b'\n{"at":%d,"fact":"final","key":"%b","code":"%b","stable":"%b"}' % (at, key, word, stable)
            self._book.add(line)
        return stable.decode("ascii")

    # ------------------------------------------------------------------------------------------------ doubts
    def _doubt(self, kiosk: _Kiosk, now: float) -> None:
        kiosk.phase.doubtful += 1
        doubt = _Doubt(kiosk, kiosk.key[9:13].decode(), kiosk.serial, now + self._profile.kiosk_s / 6)
        kiosk.doubts[kiosk.serial] = doubt
        self._doubts.append(doubt)

    def _answered_beside(self, kiosk: _Kiosk, message: iso8583.Message, code: str, serial: str, proof: bool) -> None:
        """An answer that no customer waits for: to a result inquiry, a probe, or one that came too late."""
        probe = kiosk.probed.pop(serial, None)
        if probe is not None:
            sent_at, phase = probe
            phase.probes_answered += 1
            phase.probe.add(self.now() - sent_at)
            return
        doubt = kiosk.asked.pop(serial, None) or kiosk.doubts.get(serial)
        if doubt is None or doubt.final or code == "09":
            self.events["late_answer"] += doubt is None
            return
        final = proof and code not in NOT_FINAL
        if message.get(60, "")[:2] == "75" and code != "25":
            objects = dict(tlv.decode(message.raw(48))) if 48 in message else {}
            if objects.get("DF0C") != doubt.serial.encode():
                return  # a refusal of the inquiry: says nothing about the payment
        key = f"{kiosk.terminal_id}|{doubt.date}|{doubt.serial}".encode()
        stable = self._told(key, message, code, final=final)
        if final:
            doubt.final = True
            del kiosk.doubts[doubt.serial]
            self.finals[stable] += 1
            self.phase.ended_within += 1

    def _ask(self, doubt: _Doubt) -> None:
        kiosk = doubt.kiosk
        if not kiosk.ready or kiosk.transport is None:
            return
        serial = kiosk.next_serial()
        kiosk.asked[serial] = doubt
        self._send(kiosk, kiosk.result.patched({11: serial, 13: self._date, 48: _about(doubt.serial, doubt.date)}))

    def _probe(self, now: float, phase: PhaseResult) -> None:
        """Ask for a payment that has ended, or want it back: neither changes it, and both must be answered."""
        for _ in range(len(self._payers)):
            self._probe_turn += 1
            kiosk = self._payers[self._probe_turn % len(self._payers)]
            if kiosk.last_paid and kiosk.ready and kiosk.transport is not None:
                break
        else:
            return
        serial = kiosk.next_serial()
        template = kiosk.result if self._probe_turn & 1 else kiosk.reversal
        kiosk.probed[serial] = now, phase
        phase.probes += 1
        self._send(kiosk, template.patched({11: serial, 13: self._date, 48: _about(kiosk.last_paid, self._date)}))

    # ------------------------------------------------------------------------------------------------ time
    def _tick(self) -> None:
        if self._ended:
            return
        self._ticker = self._loop.call_later(_TICK_S, self._tick)
        self._date = f"{china_now():%m%d}"
        self._wall_us = int(wall_s() * 1_000_000)
        now = self.now()
        overdue = self._overdue
        while overdue and overdue[0][0] <= now:
            _, kiosk, serial = overdue.popleft()
            if serial == kiosk.serial:
                self._give_up(kiosk, now, "silent")
        while self._waiting and now - self._waiting[0][0] > self._profile.kiosk_s:
            due, phase = self._waiting.popleft()
            phase.left += 1
            phase.payment.add(now - due)
        while self._doubts and self._doubts[0].ask_at <= now:
            doubt = self._doubts.popleft()
            if not doubt.final:
                self._ask(doubt)
                doubt.ask_at = now + self._profile.kiosk_s / 6
                self._doubts.append(doubt)
        if self._wanted:
            self._fill()

    def _give_up(self, kiosk: _Kiosk, now: float, why: str) -> None:
        """No answer: the customer leaves, and the payment is asked for. His time is a measurement like any other."""
        phase = kiosk.phase
        if kiosk.step == _INQUIRING:
            self.events[f"inquiry_{why}"] += 1
            phase.refused[f"inquiry {why}"] += 1
            phase.inquiry.add(now - kiosk.sent_at)
            phase.payment.add(now - kiosk.due)
            self._free_again(kiosk)
        elif kiosk.step == _PAYING:
            self.events[f"payment_{why}"] += 1
            phase.payment.add(now - kiosk.due)
            self._doubt(kiosk, now)
            self._free_again(kiosk)

    # ------------------------------------------------------------------------------------------------ connections
    def lost(self, kiosk: _Kiosk) -> None:
        if self._ended:
            return
        self.events["connection_lost"] += 1
        if kiosk.step in (_INQUIRING, _PAYING):
            self._give_up(kiosk, self.now(), "cut")
        elif kiosk.step == _IDLE:
            if kiosk in self._free:
                self._free.remove(kiosk)
            self._bring(kiosk)

    def _hang_up(self, kiosk: _Kiosk) -> None:
        if kiosk.step == _PAYING and kiosk.transport is not None:
            self._write_out()
            kiosk.transport.abort()

    def _bring(self, kiosk: _Kiosk) -> None:
        """Connect and sign on, as often as it takes, then take customers."""
        kiosk.step = _SIGNING_ON
        task = self._loop.create_task(self._connect(kiosk))
        self._tasks.add(task)
        task.add_done_callback(self._brought)

    def _brought(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._failure = task.exception()

    async def _connect(self, kiosk: _Kiosk) -> None:
        pause_s = limits.BACKOFF_FIRST_S
        tls = None if self._tls_dir is None else kiosk_tls(self._tls_dir, kiosk.terminal_id)
        while not (kiosk.ready and kiosk.transport is not None):
            async with self._connecting:
                try:
                    if kiosk.transport is None:
                        async with asyncio.timeout(limits.CONNECT_TIMEOUT_S):
                            await self._loop.create_connection(lambda: kiosk, self._host, self._port, ssl=tls)
                    if not kiosk.ready:
                        await self._sign_on(kiosk)
                except (OSError, TimeoutError):
                    self.events["connect_failed"] += 1
            if kiosk.ready and kiosk.transport is not None:
                break
            await asyncio.sleep(pause_s * (0.5 + self._random() / 2))
            pause_s = min(2 * pause_s, limits.BACKOFF_MAX_S)
        kiosk.step = _IDLE
        self._offer(kiosk)

    async def _sign_on(self, kiosk: _Kiosk) -> None:
        assert kiosk.transport is not None
        terminal_id, merchant_id = testkeys.test_terminal(kiosk.number)
        values: Values = {0: "0800", 11: kiosk.next_serial(), 13: self._date, 41: terminal_id, 42: merchant_id}
        frame = self.spec.encode({**values, 60: "00000000003", 63: "001"}, header=_HEADER)
        kiosk.answered = asyncio.Event()
        kiosk.transport.write(len(frame).to_bytes(2, "big") + frame)
        try:
            async with asyncio.timeout(self._profile.kiosk_s):
                await kiosk.answered.wait()
        finally:
            kiosk.answered = None


def cpu_s() -> float:
    """CPU time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _instants(start: float, phase: Phase, dice: Callable[[], float]) -> Iterator[float]:
    """When payments of a phase are due: evenly, or as a Poisson process; then never."""
    gap_s = 1.0 / phase.rate
    if phase.poisson:
        gaps = random.Random(dice())
        due = start + gaps.expovariate(phase.rate)
        while due < start + phase.seconds:
            yield due
            due += gaps.expovariate(phase.rate)
    else:
        for number in range(round(phase.seconds * phase.rate)):
            yield start + (number + 0.5) * gap_s
    yield float("inf")


def _accounts(first: int) -> Iterator[bytes]:
    """One customer after the other; behind the last one the first comes again."""
    number = first
    while True:
        yield customers.account(number % customers.ACCOUNTS_MAX).encode()
        number += 1


def _about(serial: str, date: str) -> bytes:
    """Field 48 of a result inquiry: which payment."""
    return tlv.encode([("DF0C", serial.encode()), ("DF0D", date.encode())])


def check_files(connections: int) -> None:
    """Room for so many sockets, with the soft limit raised as far as it takes.

    Raises:
        ConfigError: The hard limit is below.
    """
    needed = connections + 64
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed or soft == resource.RLIM_INFINITY:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ConfigError(
            "--kiosks", f"{connections} connections need {needed} open files, allowed are {hard}; raise: ulimit -n"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
