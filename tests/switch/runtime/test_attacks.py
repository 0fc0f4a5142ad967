"""Attacks on the payment path: exact interleavings, on a virtual clock, with a journal and hosts that wait for orders.

Each test once failed: it is a way in which money was lost or doubled, a customer was told something untrue, a payment
hung for ever, or one fault took others along.
"""

from __future__ import annotations

import gc
import heapq
import random
from collections.abc import Callable
from functools import partial
from itertools import count
from types import FunctionType, ModuleType
from typing import Any

import orjson
import pytest

import iso8583
from iso8583 import tlv
from switch.config import UNLIMITED, LimitsConfig, UnionpayProfile
from switch.dialects.codes import CardCodes
from switch.dialects.kiosk import KioskDialect
from switch.dialects.marketing import MarketingDialect
from switch.dialects.unionpay import UnionPayDialect
from switch.errors import SecurityError
from switch.limits import SECURITY_AGAIN_MAX, SECURITY_AGAIN_S, SHORT
from switch.machines import days
from switch.machines.door import Door
from switch.machines.payment import HostProfile
from switch.model.payment import Card, KeptCard, State
from switch.model.secret import Pan, PinBlock, Track
from switch.ports import ClaimKind, Key, KeyUsage, SecurityModule, Terminal
from switch.runtime.balance import Balances
from switch.runtime.dispatcher import Dispatcher, PaymentIds
from switch.runtime.downloads import Downloads
from switch.runtime.links import CardLink, MarketingLink
from switch.runtime.payments import Payments
from switch.runtime.pressure import Pressure
from switch.runtime.scripts import Scripts
from switch.runtime.terminals import TerminalSessions
from switch.runtime.timers import Timers
from switch.store.memory import Fault, MemoryDatabase, MemoryJournal, MemoryTerminals

Play = Callable[..., None]

KIOSK = iso8583.load("kiosk", header="tpdu+pos6")
HOST = iso8583.load("unionpay_pos", header="tpdu+pos6")
HEADER = bytes.fromhex("6000030000603100000000")
GOOD_MAC, BAD_MAC = b"AAAAAAAA", b"BBBBBBBB"
TERMINAL, MERCHANT = "GS000001", "898110049000001"
PAN, TRACK2 = "6222000000000017", "6222000000000017=30122010000000000"
DAY = "20261123"
NOON_US = 1_795_406_400_000_000  # 2026-11-23 12:00 in China
PROVING = HostProfile(reversal_00_any=False, not_found_proves=True)


class Loop:
    """The clock and ``call_later`` of a loop, turned by hand."""

    def __init__(self) -> None:
        self.time = 1000.0
        self._heap: list[tuple[float, int, Handle]] = []
        self._order = count()

    def now(self) -> float:
        return self.time

    def wall_us(self) -> int:
        return NOON_US + int(self.time * 1e6)

    def call_later(self, delay: float, call: Callable[..., object], *args: object) -> Handle:
        handle = Handle(lambda: call(*args))
        heapq.heappush(self._heap, (self.time + delay, next(self._order), handle))
        return handle

    def advance(self, seconds: float) -> None:
        until = self.time + seconds
        while self._heap and self._heap[0][0] <= until:
            self.time, _, handle = heapq.heappop(self._heap)
            if handle.call is not None:
                handle.call()
        self.time = until


class Handle:
    def __init__(self, call: Callable[[], object]) -> None:
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        self.call = None


class Watcher:
    """An observer that remembers what was said."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.counts: dict[str, int] = {}

    def count(self, name: str, labels: Any = (), by: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + by

    def observe(self, name: str, value: float, labels: Any = ()) -> None:
        pass

    def gauge(self, name: str, value: float, labels: Any = ()) -> None:
        pass

    def event(self, name: str, **facts: Any) -> None:
        self.events.append(name)


class Line:
    """A wire whose other end is the test."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.terminal_id = ""
        self.is_open = True
        self.heard_at = 0.0
        self.frames: list[bytes] = []
        self.unflushed: list[object] = []

    def send(self, frame: bytes, token: object = None) -> bool:
        if self.is_open:
            self.frames.append(frame)
        return self.is_open

    def close(self, reason: str) -> None:
        self.is_open = False

    def rest(self, seconds: float) -> None:
        raise NotImplementedError


class PlainKey:
    usage = KeyUsage.MAC
    family = "des"
    kcv = bytes(4)


class PlainSecurity(SecurityModule):
    """A security module without secrets: one MAC is right, one is wrong."""

    name = detail = "plain"
    trouble = ""
    translates_inside = False
    vault: Any = None
    silent = 0  # so many verifications are not answered in time

    def load_key(self, wrapped: bytes, usage: KeyUsage, done: Callable[[Key | SecurityError], None]) -> None:
        done(PlainKey())

    def import_key(
        self, cryptogram: bytes, under: Key, usage: KeyUsage, kcv: bytes, done: Callable[[Key | SecurityError], None]
    ) -> None:
        done(PlainKey())

    def make_mac(self, key: Key, algorithm: str, data: bytes, done: Callable[[bytes | SecurityError], None]) -> None:
        done(GOOD_MAC)

    def verify_mac(
        self, key: Key, algorithm: str, data: bytes, mac: bytes, done: Callable[[bool | SecurityError], None]
    ) -> None:
        if self.silent:
            self.silent -= 1
            done(SecurityError("unavailable", "the module does not answer"))
            return
        done(mac == GOOD_MAC)

    def seal(self, context: bytes, clear: bytes, done: Callable[[bytes | SecurityError], None]) -> None:
        done(clear)

    def open_sealed(self, context: bytes, sealed: bytes, done: Callable[[bytes | SecurityError], None]) -> None:
        done(sealed)

    def token(self, pan: str) -> str:
        if not (pan.isascii() and pan.isdigit()):
            raise ValueError("pan: expected digits")
        return f"token of {pan[-4:]}"


class Told:
    """What a kiosk heard."""

    def __init__(self, frame: bytes) -> None:
        message = KIOSK.decode(frame)
        tags = dict(tlv.decode(message[48])) if 48 in message else {}
        self.f39 = str(message[39])
        self.serial = str(message[11])
        self.code = tags.get("DF0A", b"").decode()
        self.quote = tags.get("DF02", b"").decode()


class Bench:
    """Dispatcher and Payments as the supervisor builds them, between lines that the test holds."""

    def __init__(
        self,
        *,
        profile: HostProfile = PROVING,
        latency_s: float = 0.001,
        fault: Callable[[int], Fault | None] = lambda number: None,
        database: MemoryDatabase | None = None,
        loop: Loop | None = None,
        links_up: bool = True,
        rates: LimitsConfig = UNLIMITED,
    ) -> None:
        self.loop = loop or Loop()
        self.latency_s = latency_s  # of the journal
        self.watcher = Watcher()
        self.database = database or MemoryDatabase()
        if database is None:
            self.database.terminals[TERMINAL] = Terminal(
                TERMINAL, MERCHANT, "dual_tmk", True, b"tmk", bytes(4), "000001", 1, bytes(40), self.loop.wall_us()
            )
        self.journal = MemoryJournal(
            self.database,
            clock=self.loop,
            observer=self.watcher,
            call_later=self.loop.call_later,
            latency=lambda: self.latency_s,
            fault=fault,
        )
        self.journal.open()
        self.terminals = MemoryTerminals(
            self.database, call_later=self.loop.call_later, latency=lambda: self.terminal_latency_s
        )
        self.terminal_latency_s = 0.001
        timers = Timers(self.loop, self.loop, self.watcher)  # type: ignore[arg-type]  # all that it needs of a loop
        self.timers = timers
        security = self.security = PlainSecurity()  # type: ignore[abstract] # what no kiosk reaches is left out
        card_dialect = UnionPayDialect(HEADER[:5], HEADER[5:])
        marketing_dialect = MarketingDialect("SELF01")
        codes = CardCodes()
        clock, watcher, journal = self.loop, self.watcher, self.journal
        self.card_link = CardLink(
            "unionpay", card_dialect, (TERMINAL, MERCHANT), SHORT, timers, clock, watcher, journal
        )
        self.marketing_link = MarketingLink("marketing", marketing_dialect, SHORT, timers, clock, watcher, journal)
        self.sessions = TerminalSessions(
            self.terminals,
            security,
            self.card_link,
            clock,
            timers,
            watcher,
            old_key_s=2.0,
            sign_on_code="003",
            mac_algorithm="unionpay_ecb",
            echo_has_mac=True,
        )
        self.payments = Payments(
            journal=journal,
            security=security,
            sessions=self.sessions,
            card_link=self.card_link,
            marketing_link=self.marketing_link,
            card_dialect=card_dialect,
            marketing_dialect=marketing_dialect,
            codes=codes,
            times=SHORT,
            profile=profile,
            unmacced_decline_reverses=True,
            clock=clock,
            timers=timers,
            observer=watcher,
        )
        self.dispatcher = Dispatcher(
            dialect=KioskDialect(codes),
            marketing_dialect=marketing_dialect,
            door=Door(rates),
            sessions=self.sessions,
            payments=self.payments,
            balances=Balances(
                link=self.card_link,
                dialect=card_dialect,
                codes=codes,
                sessions=self.sessions,
                security=security,
                clock=clock,
                observer=watcher,
            ),
            downloads=Downloads(
                link=self.card_link,
                dialect=card_dialect,
                codes=codes,
                sessions=self.sessions,
                times=SHORT,
                observer=watcher,
            ),
            scripts=Scripts(
                None,
                link=self.card_link,
                dialect=card_dialect,
                codes=codes,
                sessions=self.sessions,
                security=security,
                times=SHORT,
                observer=watcher,
            ),
            card_link=self.card_link,
            marketing_link=self.marketing_link,
            journal=journal,
            pressure=Pressure(self.loop, clock, watcher, journal),  # type: ignore[arg-type]  # never started
            security=security,
            times=SHORT,
            profile=profile,
            cut_over_minute=23 * 60,
            day_close_minute=None,
            reversal_first_s=0.0,
            prepay_max_fen=1_000_000,
            prepay_while_owing=False,
            ids=PaymentIds(clock, journal.epoch),
            clock=clock,
            timers=timers,
            observer=watcher,
        )
        self.kiosk = Line("kiosk 1")
        self.card, self.marketing = Line("none"), Line("none")
        if links_up:
            self.links_up()

    # ---- hosts
    def links_up(self) -> None:
        self.card.is_open = self.marketing.is_open = False
        self.links_up_again()
        assert self.card_link.is_up and self.marketing_link.is_up

    def links_up_again(self) -> None:
        if not self.card.is_open:
            self.card = Line("unionpay")
            self.card_link.wire_up(self.card)
            self._answer_card(self.card.frames.pop(), {39: "00"}, mac=None)
        if not self.marketing.is_open:
            self.marketing = Line("marketing")
            self.marketing_link.wire_up(self.marketing)
            self._answer_marketing(self.marketing.frames.pop(), day=DAY)

    def echo(self) -> None:
        """Keep the links up over a long wait: answer their echo tests."""
        for frame in [frame for frame in self.card.frames if HOST.decode(frame).mti == "0820"]:
            self.card.frames.remove(frame)
            self._answer_card(frame, {39: "00"}, mac=None)
        for frame in [frame for frame in self.marketing.frames if orjson.loads(frame)["op"] in ("echo", "sign_on")]:
            self.marketing.frames.remove(frame)
            self._answer_marketing(frame, day=DAY)

    def wait(self, seconds: float) -> None:
        """Time passes, with the links' echo tests answered."""
        until = self.loop.time + seconds
        while self.loop.time < until:
            self.loop.advance(min(0.1, until - self.loop.time))
            self.echo()

    def _answer_card(
        self, request: bytes, values: dict[int, Any], mac: bytes | None = GOOD_MAC, line: Line | None = None
    ) -> None:
        if line is not None and not line.is_open:
            return
        answer = HOST.decode(request).reply(values | ({} if mac is None else {64: bytes(8)}))
        self.card_link.frame_received(self.card, answer if mac is None else answer[:-8] + mac)

    def card_request(self, mti: str) -> bytes:
        """The oldest unanswered request of this kind, taken off the line."""
        for frame in self.card.frames:
            if HOST.decode(frame).mti == mti:
                self.card.frames.remove(frame)
                return frame
        raise AssertionError(f"no {mti} among {[HOST.decode(frame).mti for frame in self.card.frames]}")

    def answer_card(self, mti: str = "0200", code: str = "00", *, mac: bytes = GOOD_MAC, settle: bool = True) -> bytes:
        request = self.card_request(mti)
        self._answer_card(request, {37: "112233445566", 39: code, 15: "1123"}, mac)
        if settle:
            self.loop.advance(0.01)
        return request

    def repeat_card_answer(self, request: bytes, code: str = "00", mac: bytes = GOOD_MAC) -> None:
        self._answer_card(request, {37: "112233445566", 39: code, 15: "1123"}, mac)
        self.loop.advance(0.01)

    def marketing_request(self, op: str = "") -> dict[str, Any]:
        for frame in self.marketing.frames:
            request: dict[str, Any] = orjson.loads(frame)
            if op in ("", request["op"]):
                return request
        raise AssertionError(f"no {op} on the line to the marketing system")

    def answer_marketing(self, frame: bytes | None = None, code: str = "00", **data: Any) -> dict[str, Any]:
        """Answer the oldest request, the request's own fields repeated."""
        if frame is None:
            frame = self.marketing.frames.pop(0)
        request = self._answer_marketing(frame, code, **data)
        self.loop.advance(0.01)
        return request

    def _answer_marketing(self, frame: bytes, code: str = "00", **data: Any) -> dict[str, Any]:
        request: dict[str, Any] = orjson.loads(frame)
        answer = {**request, "code": code, "text": "", **data}
        self.marketing_link.frame_received(self.marketing, orjson.dumps(answer))
        return request

    def answer_inquiry(self, months: int = 1, amount: int = 1000, **data: Any) -> None:
        rows = [
            {
                "receivable": f"R{n}",
                "period": f"20260{n}",
                "principal": amount,
                "penalty": 0,
                "amount": amount,
                "energy_kwh": 1,
                "tier": 1,
            }
            for n in range(1, months + 1)
        ]
        found: dict[str, Any] = {
            "name": "",
            "address": "",
            "day": DAY,
            "total": amount * months,
            "advance_balance": 0,
            "partial_allowed": True,
            "rows": rows,
        }
        self.answer_marketing(**(found | data))

    # ---- kiosk
    def ask(
        self, business: str, tags: list[tuple[str, bytes]], *, serial: str, line: Line | None = None, **more: Any
    ) -> None:
        fields = {
            0: "0200",
            3: "310000",
            11: serial,
            13: "1123",
            25: "00",
            41: TERMINAL,
            42: MERCHANT,
            48: tlv.encode(tags),
            49: "156",
            60: f"{business}000001000",
            64: bytes(8),
            **{int(number[1:]): value for number, value in more.items()},
        }
        frame = KIOSK.encode({k: v for k, v in fields.items() if v is not None}, header=HEADER)[:-8] + GOOD_MAC
        self.dispatcher.frame_received(line or self.kiosk, frame)

    def inquire(self, serial: str = "900001", months: int = 1) -> str:
        """A quote for the account's months."""
        self.ask("71", [("DF01", b"0500000017")], serial=serial)
        self.loop.advance(0.01)
        self.answer_inquiry(months)
        return self.told()[-1].quote

    def pay(
        self, quote: str = "", *, serial: str = "000001", amount: int = 1000, line: Line | None = None, **more: Any
    ) -> None:
        tags = [("DF01", b"0500000017"), ("DF02", quote.encode() or b"none")]
        more = {
            "f3": "000000",
            "f4": amount,
            "f22": "021",
            "f35": TRACK2,
            "f52": b"PINBLOCK",
            "f53": "2600000000000000",
        } | more
        self.ask("72", tags, serial=serial, line=line, **more)
        self.loop.advance(0.01)

    def ask_result(self, serial: str = "000001", *, by: str = "800001", line: Line | None = None) -> Told:
        line = line or Line("result")
        self.ask("75", [("DF0C", serial.encode()), ("DF0D", b"1123")], serial=by, line=line)
        self.loop.advance(0.01)
        return self.told(line)[-1]

    def told(self, line: Line | None = None) -> list[Told]:
        return [Told(frame) for frame in (line or self.kiosk).frames]

    def words(self, serial: str = "000001", line: Line | None = None) -> list[str]:
        return [told.code for told in self.told(line) if told.serial == serial]

    # ---- the books
    @property
    def rows(self) -> list[str]:
        """The rows of every event, in the order they were written."""
        return [entry.row for events in self.database.events.values() for entry, _ in events.values()]

    @property
    def states(self) -> list[State]:
        return [row.payment.state for row in self.database.payment_rows()]

    def charged(self, months: int = 1) -> Bench:
        """One payment whose card is charged; its first posting is on the line."""
        self.pay(self.inquire(months=months), amount=1000 * months)
        self.answer_card()
        return self

    def books(self) -> dict[str, int]:
        balance: dict[str, int] = {}
        for events in self.database.events.values():
            for entry, _ in events.values():
                for account, debit, credit in orjson.loads(entry.ledger or b"[]"):
                    balance[account] = balance.get(account, 0) + debit - credit
        return {account: fen for account, fen in balance.items() if fen}


def test_the_bench_pays() -> None:
    bench = Bench()
    bench.pay(bench.inquire())
    assert bench.ask_result().code == "in_progress"
    bench.answer_card()
    bench.answer_marketing()
    assert bench.words() == ["completed"]
    assert bench.rows == ["1", "2", "8"] and bench.states == [State.COMPLETED]
    assert bench.books() == {"u_receivable": 1000, "m_payable": -1000}


# ---------------------------------------------------------------------------------------------- what a kiosk is told
def test_a_request_that_is_still_being_looked_at_is_not_denied() -> None:
    """Told "no such payment, nothing charged" while the bill was asked again; charged a moment later."""
    bench = Bench()
    bench.pay("old quote")
    assert bench.ask_result().code == "in_progress"
    bench.answer_inquiry()
    bench.answer_card()
    bench.answer_marketing()
    assert bench.words() == ["completed"]


def test_a_request_that_waits_for_its_trace_number_is_not_denied() -> None:
    bench = Bench()
    quote = bench.inquire()
    bench.terminal_latency_s = 1.0
    bench.pay(quote)
    assert bench.ask_result().code == "in_progress"


def test_not_found_ends_a_payment_that_begins_while_the_journal_is_asked() -> None:
    """The payment came on another connection: both hear the same."""
    bench = Bench()
    quote = bench.inquire()
    bench.latency_s = 0.5
    line = Line("result")
    bench.ask("75", [("DF0C", b"000001"), ("DF0D", b"1123")], serial="800001", line=line)
    bench.loop.advance(0.4)
    bench.pay(quote)
    bench.loop.advance(0.2)
    assert bench.words("800001", line) == ["not_found"]
    bench.loop.advance(2.0)
    assert bench.words() == ["not_found"]
    assert bench.rows == []


def test_after_not_found_a_late_copy_of_the_request_is_not_started() -> None:
    """The first connection stalled with the request in it; the kiosk asked on another: "nothing charged"."""
    bench = Bench()
    quote = bench.inquire()
    assert bench.ask_result().code == "not_found"
    bench.pay(quote)
    assert bench.words() == ["not_found"]
    assert bench.rows == []


def test_after_a_refusal_a_late_copy_of_the_request_is_not_started() -> None:
    bench = Bench()
    quote = bench.inquire()
    bench.card_link.wire_lost(bench.card, "test")
    bench.pay(quote)
    assert bench.words() == ["card_unavailable"]
    bench.links_up()
    again = Line("the copy that took longer")
    bench.pay(quote, line=again)
    assert bench.words(line=again) == ["card_unavailable"], "the same request gets the same answer"
    assert bench.rows == []
    bench.pay(quote, serial="000002")
    assert bench.rows == ["1"], "a new serial is a new request"


def test_two_copies_on_two_connections_are_one_request_from_the_first_moment() -> None:
    """Both asked the bill again; the first inquiry was lost: "not charged". The second copy charged."""
    bench = Bench()
    other = Line("kiosk 1, second connection")
    bench.pay("unknown")
    bench.pay("unknown", line=other)
    assert len(bench.marketing.frames) == 1
    bench.answer_marketing(code="50")
    assert bench.words() == bench.words(line=other) == ["bill_unavailable"]
    assert bench.rows == []


def test_the_same_key_with_other_content_is_refused_from_the_first_moment() -> None:
    bench = Bench()
    other = Line("other")
    bench.pay("unknown")
    bench.pay("unknown", line=other, f4=2000)
    assert bench.words(line=other) == ["key_conflict"]
    bench.answer_inquiry()
    assert bench.rows == ["1"]


def test_all_who_wait_for_one_request_hear_that_no_number_can_be_had() -> None:
    bench = Bench()
    quote = bench.inquire()
    bench.terminals.away = True
    bench.terminal_latency_s = 0.5
    other = Line("other")
    bench.pay(quote)
    bench.pay(quote, line=other)
    bench.loop.advance(1.0)
    assert bench.words() == bench.words(line=other) == ["busy"]


@pytest.mark.parametrize("down", ["card", "marketing", "both"])
def test_a_repeat_after_a_restart_hears_the_truth_though_a_link_is_down(down: str) -> None:
    """Completed, the answer lost, the switch restarted: the repeat was told "card network away, nothing charged"."""
    first = Bench()
    first.charged().answer_marketing()
    assert first.states == [State.COMPLETED]
    first.journal.crash()
    bench = Bench(database=first.database, loop=first.loop, links_up=False)
    if down != "both":
        bench.links_up()
        link = bench.card_link if down == "card" else bench.marketing_link
        link.wire_lost(bench.card if down == "card" else bench.marketing, "test")
    bench.pay("old quote")
    assert bench.words() == ["completed"]


def test_a_repeat_after_a_restart_is_not_told_that_nothing_is_owed() -> None:
    """The bill was asked again and is paid, by this very payment: "no arrears, nothing charged" was the answer."""
    first = Bench()
    first.charged().answer_marketing()
    first.journal.crash()
    bench = Bench(database=first.database, loop=first.loop)
    bench.pay("old quote")
    bench.answer_marketing(code="06")
    assert bench.words() == ["completed"]


def test_a_result_inquiry_during_an_outage_is_not_told_that_nothing_was_charged() -> None:
    """``busy`` says "nothing charged" on the screen; the payment of before the restart was charged."""
    first = Bench()
    first.charged().answer_marketing()
    first.journal.crash()
    outage: list[Fault] = []
    bench = Bench(database=first.database, loop=first.loop, fault=lambda number: outage.pop() if outage else None)
    outage.append(Fault(applied=False, outage_s=60.0))
    bench.pay(bench.inquire(), serial="000002")
    assert not bench.journal.accepting
    assert bench.ask_result("000001").code == "result_unknown"


@pytest.mark.parametrize(("answer", "said"), [("00", "completed"), ("51", "declined")])
def test_nobody_hears_a_final_word_before_it_is_durable(answer: str, said: str) -> None:
    """I16. A crash between the word and the commit made the next worker tell another story."""
    bench = Bench()
    bench.pay(bench.inquire())
    if said == "declined":
        bench.latency_s = 5.0
        bench.answer_card(code=answer)
    else:
        bench.answer_card()
        bench.latency_s = 5.0
        bench.answer_marketing()
    assert bench.ask_result().code == "in_progress"
    other = Line("a repeat")
    bench.pay(line=other)
    assert bench.words(line=other) == []
    bench.wait(6.0)
    assert bench.words() == [said] == bench.words(line=other)
    assert bench.ask_result(by="800002").code == said


def test_a_repeat_that_comes_while_a_takeover_commits_is_told_at_once() -> None:
    """Row 6r tells nobody: who joined while it was committed heard nothing until the reversal was through."""
    first = Bench()
    first.pay(first.inquire())
    first.journal.crash()
    bench = Bench(database=first.database, loop=first.loop, latency_s=0.5)
    key = next(iter(first.database.open))
    bench.payments.adopt(first.database.payment(20261123, key), cut_over_at=bench.loop.now() + 9999)
    bench.pay()
    assert bench.words() == []
    bench.wait(0.6)
    assert bench.words() == ["result_unknown"]


def test_the_kiosks_time_counts_from_its_request() -> None:
    """Asking the bill again took from the customer's patience, and nobody counted it."""
    bench = Bench()
    bench.pay("unknown")
    bench.wait(0.9)
    bench.answer_inquiry()
    bench.answer_card()
    bench.wait(SHORT.answer_s - 0.9)
    assert bench.words() == ["being_booked"]


def test_nothing_begins_that_was_waiting_when_the_drain_began() -> None:
    bench = Bench()
    bench.pay("unknown")
    bench.dispatcher.draining = True
    bench.answer_inquiry()
    assert bench.words() == ["busy"]
    assert bench.rows == []


@pytest.mark.parametrize(("seconds_left", "words"), [(1.0, ["card_unavailable"]), (60.0, [])])
def test_nothing_begins_when_a_reversal_could_come_too_late(
    seconds_left: float, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A purchase that stays silent right before the cut-over could not be reversed on its own day."""
    bench = Bench()
    monkeypatch.setattr(days, "seconds_to_cut_over", lambda wall_us, minute: seconds_left)
    bench.pay("unknown")
    assert bench.words() == words
    if not words:
        bench.answer_inquiry()
        assert bench.rows == ["1"]


def test_a_quote_dies_when_any_answer_tells_the_marketing_systems_new_day() -> None:
    """A busy link sends no echo, so the new day was not noticed: the charge was refused by the bill and undone."""
    bench = Bench()
    old = bench.inquire()
    bench.ask("71", [("DF01", b"0500000025")], serial="900002")
    bench.loop.advance(0.01)
    bench.answer_inquiry(day="20261124")
    bench.pay(old)
    assert bench.card.frames == [] and bench.marketing_request()["op"] == "inquiry"


def operations(bench: Bench) -> list[str]:
    return [orjson.loads(frame)["op"] for frame in bench.marketing.frames]


def test_a_channel_is_signed_on_again_as_soon_as_the_marketing_system_says_that_it_is_not() -> None:
    """It is opened for a day. Echo tests kept the link up, and everything else was refused until it broke."""
    bench = Bench().charged()
    bench.answer_marketing(code="99")
    assert operations(bench) == ["sign_on"]
    bench.ask("71", [("DF01", b"0500000025")], serial="900002")
    bench.loop.advance(0.01)
    bench.answer_marketing(bench.marketing.frames.pop(), code="99")
    assert operations(bench) == ["sign_on"], "one is enough for all that are refused meanwhile"
    bench.echo()
    bench.wait(SHORT.bill_backoff_s[0] * 1.3)
    assert operations(bench) == ["status"], "asked again, and answered now"


def test_a_sign_on_that_nobody_answers_is_tried_again_while_requests_are_refused() -> None:
    bench = Bench().charged()
    bench.answer_marketing(code="99")
    bench.marketing.frames.clear()
    bench.loop.advance(SHORT.echo_timeout_s + 0.1)
    bench.answer_marketing(code="99")
    assert "sign_on" in operations(bench)


def test_an_echo_that_tells_a_new_day_is_followed_by_a_sign_on() -> None:
    bench = Bench()
    bench.loop.advance(SHORT.echo_idle_s + 0.1)
    echo = next(frame for frame in bench.marketing.frames if orjson.loads(frame)["op"] == "echo")
    bench.marketing.frames.clear()
    bench.answer_marketing(echo, day="20261124")
    assert operations(bench) == ["sign_on"]
    bench.answer_marketing(day="20261124")
    assert operations(bench) == [] and bench.marketing_link.is_up


# ---------------------------------------------------------------------------------------------- the machine's legs
def test_an_undo_that_leaves_the_posting_is_a_case_and_not_an_endless_loop() -> None:
    """14 to an undo was taken for "the fence found it": booked again, asked again, as fast as the line could carry."""
    bench = Bench().charged(months=2)
    bench.answer_marketing()  # month 1 is posted
    bench.answer_marketing(code="29")  # month 2 is refused
    bench.answer_marketing()  # and fenced
    for _ in range(5):
        if bench.marketing.frames:
            bench.answer_marketing(code="14")
    assert bench.states == [State.SUSPENSE]
    assert bench.books() == {"u_receivable": 2000, "customer_suspense": -1000, "m_payable": -1000}


def test_no_reversal_on_another_day_after_a_posting_that_outlived_the_cut_over() -> None:
    """Row 10c forgot the cut-over for good: a refusal next day sent a 0400 whose 00 may mean "not of today"."""
    bench = Bench().charged()
    slot = bench.payments.by_kiosk_key(f"{TERMINAL}|1123|000001")
    assert slot is not None
    slot.payment.cut_over_at = bench.loop.now() + 0.5
    bench.payments._schedule(slot)
    bench.wait(0.6)
    assert bench.states == [State.BILL_PENDING]
    bench.answer_marketing(code="84")
    bench.wait(1.0)
    assert bench.states == [State.SUSPENSE]
    assert not [frame for frame in bench.card.frames if HOST.decode(frame).mti == "0400"]


def test_an_answer_to_a_request_that_was_replaced_does_not_fill_the_link() -> None:
    """Each posting given up at its deadline stayed among the link's calls until the link was lost."""
    bench = Bench()
    for number in range(3):
        bench.pay(bench.inquire(f"90000{number}"), serial=f"00000{number + 1}")
        bench.answer_card()
        slot = bench.payments.by_kiosk_key(f"{TERMINAL}|1123|00000{number + 1}")
        assert slot is not None
        slot.payment.kiosk_deadline, slot.payment.leg_deadline = float("inf"), float("inf")
        slot.payment.bill_deadline = bench.loop.now() + 0.1
        bench.payments._schedule(slot)
        bench.wait(0.2)
        assert [orjson.loads(frame)["op"] for frame in bench.marketing.frames] == ["post", "cancel"]
        bench.marketing.frames.clear()
        slot.payment.leg_deadline = float("inf")
        bench.marketing_link.forget(slot.request_id)
        bench.database.claims = {key: held for key, held in bench.database.claims.items() if key[0] != ClaimKind.BILL}
    assert bench.marketing_link.inflight == 0


def test_a_00_that_may_mean_not_found_is_not_believed_when_the_approval_came_after_the_reversal() -> None:
    """The reversal overtook the purchase, found nothing and said 00; its answer came behind the late approval's."""
    bench = Bench(profile=HostProfile(reversal_00_any=True, not_found_proves=True))
    bench.pay(bench.inquire())
    purchase = bench.card_request("0200")
    bench.wait(SHORT.card_s + 0.1)
    overtaker = bench.card_request("0400")
    bench.repeat_card_answer(purchase)
    bench.repeat_card_answer(overtaker)
    assert bench.states == [State.REVERSAL_PENDING], "the card is charged"
    bench.answer_card("0400")
    assert bench.states == [State.REVERSAL_PENDING], "this may still be about the one that overtook it"
    bench.wait(SHORT.quiet_s + SHORT.late_s)
    bench.answer_card("0400")
    assert bench.states == [State.REVERSED]


def test_a_00_that_may_mean_not_found_is_not_believed_after_the_cut_over() -> None:
    """It waited behind a slow commit, and was looked at before the cut-over that had passed meanwhile."""
    bench = Bench(profile=HostProfile(reversal_00_any=True, not_found_proves=True))
    bench.pay(bench.inquire())
    purchase = bench.card_request("0200")
    slot = bench.payments.by_kiosk_key(f"{TERMINAL}|1123|000001")
    assert slot is not None
    slot.payment.cut_over_at = bench.loop.now() + SHORT.card_s - 0.1
    bench.latency_s = 0.2
    bench.wait(SHORT.card_s + 0.1)
    bench.repeat_card_answer(purchase)  # behind row 6, so the reversal leaves and 6l is recorded
    bench.wait(0.2)
    bench.answer_card("0400")
    bench.wait(1.0)
    assert bench.states == [State.SUSPENSE], "the card is charged, and that day is over"


def test_a_late_approval_whose_key_has_rolled_over_is_remembered_after_unproven() -> None:
    bench = Bench(profile=HostProfile())
    bench.pay(bench.inquire())
    purchase = bench.card_request("0200")
    for _ in range(12):
        bench.wait(1.0)
        while any(HOST.decode(frame).mti == "0400" for frame in bench.card.frames):
            bench.answer_card("0400", "25")
    assert bench.states == [State.UNPROVEN]
    bench.repeat_card_answer(purchase, mac=BAD_MAC)
    assert bench.states == [State.SUSPENSE]


def test_an_answer_that_the_module_cannot_judge_is_judged_later_and_not_reversed() -> None:
    bench = Bench()
    bench.pay(bench.inquire())
    bench.security.silent = 2
    bench.answer_card()
    assert bench.states == [State.CARD_PENDING] and not bench.marketing.frames and not bench.card.frames
    bench.loop.advance(1.1)
    bench.answer_marketing()
    assert bench.states == [State.COMPLETED]


def test_an_answer_that_is_never_judged_is_not_believed() -> None:
    """A module that is gone for good: the purchase is taken back, as after any answer that proves nothing."""
    bench = Bench()
    bench.pay(bench.inquire())
    bench.security.silent = 1_000
    bench.answer_card()
    bench.wait(SHORT.card_s + SECURITY_AGAIN_S * SECURITY_AGAIN_MAX)
    assert bench.states == [State.REVERSAL_PENDING] and bench.card.frames and not bench.marketing.frames


def test_a_kiosk_that_the_module_cannot_judge_is_not_called_a_forger() -> None:
    bench = Bench()
    quote = bench.inquire()
    bench.security.silent = 1
    bench.pay(quote)
    assert bench.told()[-1].code == "busy" and not bench.card.frames
    bench.pay(quote)
    assert bench.card.frames


def test_a_late_approval_with_a_wrong_mac_after_the_end_is_an_alarm() -> None:
    bench = Bench()
    bench.pay(bench.inquire())
    purchase = bench.answer_card(code="51")
    bench.repeat_card_answer(purchase, mac=BAD_MAC)
    assert bench.watcher.counts.get("switch_late_after_final_total") == 1


def test_a_trace_number_that_comes_round_again_does_not_take_the_older_payments_answers() -> None:
    """The new payment's claim was refused, but its place in memory had replaced the older one's: never reversed."""
    bench = Bench()
    bench.pay(bench.inquire())
    bench.wait(SHORT.card_s + 0.1)
    assert bench.states == [State.REVERSAL_PENDING]
    session = next(iter(bench.sessions._sessions.values()))
    session.next_stan = 1
    bench.pay(bench.inquire("900002"), serial="000002")
    bench.answer_card("0400")
    assert bench.states[0] is State.REVERSED


# ---------------------------------------------------------------------------------------------- faults of ours
def test_a_payment_whose_purchase_cannot_be_built_does_not_hang_for_ever() -> None:
    """An encrypted track 2 holds letters, and four of them were taken for the expiry."""
    bench = Bench()
    bench.pay(bench.inquire(), f2=PAN, f35="62220000000000A7=AB12201000000000", f53="2610000000000000")
    assert bench.rows[:1] == ["1"], "the track is the host's business"
    assert 14 not in HOST.decode(bench.card_request("0200"))


def test_a_card_number_of_letters_is_a_wrong_field() -> None:
    bench = Bench()
    bench.pay(bench.inquire(), f35="6222AB0000000017=30122010000000000", f53="2610000000000000")
    assert bench.words() == ["format"]


@pytest.mark.interpreted
def test_a_fault_in_the_purchases_frame_ends_the_payment_unsent(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    quote = bench.inquire()
    monkeypatch.setattr(UnionPayDialect, "purchase", _broken)
    bench.pay(quote)
    bench.wait(0.1)
    assert bench.words() == ["not_charged"] and bench.states == [State.DECLINED]
    assert bench.payments.open_count == 0


@pytest.mark.interpreted
def test_a_fault_in_a_reversals_frame_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.pay(bench.inquire())
    with monkeypatch.context() as patched:
        patched.setattr(UnionPayDialect, "reversal", _broken)
        bench.wait(SHORT.card_s + 1.0)
        assert bench.states == [State.REVERSAL_PENDING]
    bench.wait(3.0)
    bench.answer_card("0400")
    assert bench.states == [State.REVERSED]


@pytest.mark.interpreted
def test_a_fault_while_a_kiosk_is_told_does_not_stop_the_reversal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 6 tells, then reverses. The fault in between left the card charged until a restart."""
    bench = Bench()
    bench.pay(bench.inquire())
    monkeypatch.setattr(KioskDialect, "payment", _broken)
    bench.wait(SHORT.card_s + 0.1)
    bench.answer_card("0400")
    assert bench.states == [State.REVERSED]
    assert bench.payments.open_count == 0


@pytest.mark.interpreted
def test_a_fault_over_one_answer_does_not_cut_the_link_that_carries_all(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.pay(bench.inquire())
    with monkeypatch.context() as patched:
        patched.setattr(Payments, "_card_checked", _broken)
        bench.answer_card()  # raised into the wire, which cut the link
    assert bench.card_link.is_up


def test_a_bill_that_no_amount_field_holds_is_refused() -> None:
    bench = Bench()
    bench.ask("71", [("DF01", b"0500000017")], serial="900001")
    bench.loop.advance(0.01)
    bench.answer_inquiry(months=2, amount=6 * 10**11, total=1)
    assert bench.words("900001") == ["bill_unavailable"]


def test_a_bill_that_names_a_receivable_twice_is_refused() -> None:
    """Both rows claim one bill: the customer was told that somebody else is paying it."""
    bench = Bench()
    bench.ask("71", [("DF01", b"0500000017")], serial="900001")
    bench.loop.advance(0.01)
    row = {
        "receivable": "R1",
        "period": "202601",
        "principal": 1,
        "penalty": 0,
        "amount": 1,
        "energy_kwh": 1,
        "tier": 1,
    }
    bench.answer_inquiry(rows=[row, row])
    assert bench.words("900001") == ["bill_unavailable"]


def test_a_text_that_the_journal_cannot_hold_is_refused_at_the_edge() -> None:
    """A NUL in a receivable: PostgreSQL refuses the claim for ever, and eight such entries close admission."""
    bench = Bench()
    bench.ask("71", [("DF01", b"0500000017")], serial="900001")
    bench.loop.advance(0.01)
    row = {
        "receivable": "R\0",
        "period": "202601",
        "principal": 1,
        "penalty": 0,
        "amount": 1,
        "energy_kwh": 1,
        "tier": 1,
    }
    bench.answer_inquiry(rows=[row])
    assert bench.words("900001") == ["bill_unavailable"]


def test_one_kiosk_that_cannot_be_told_does_not_silence_the_others() -> None:
    bench = Bench()
    broken, other = Line("broken"), Line("other")
    bench.pay("unknown", line=broken)
    bench.pay("unknown", line=other)
    broken.send = _broken  # type: ignore[method-assign]
    bench.answer_marketing(code="50")
    assert bench.words(line=other) == ["bill_unavailable"]


# ---------------------------------------------------------------------------------------------- card data in memory
@pytest.mark.parametrize("end", ["completed", "declined", "charged", "unproven"])
def test_no_track_and_no_pin_block_stays_in_memory_once_the_purchase_has_left(end: str) -> None:
    """C15. The waiter held the request, and the request the track: for 20,000 finished payments."""
    bench = Bench(profile=HostProfile() if end == "unproven" else PROVING)
    bench.pay(bench.inquire())
    if end == "declined":
        bench.answer_card(code="51")
    elif end == "unproven":
        for _ in range(12):
            bench.wait(1.0)
            while any(HOST.decode(frame).mti == "0400" for frame in bench.card.frames):
                bench.answer_card("0400", "25")
        assert bench.states == [State.UNPROVEN]
    else:
        bench.answer_card()
        if end == "completed":
            bench.answer_marketing()
    bench.card.frames.clear()
    found = [held for held in _reachable(bench.payments, bench.dispatcher) if _is_secret(held)]
    assert found == []
    cards = [held for held in _reachable(bench.payments, bench.dispatcher) if isinstance(held, Card | KeptCard | Pan)]
    assert len(cards) == 2 * (end == "charged"), "the card number goes when nothing can need it"


def _reachable(*roots: object) -> list[object]:
    seen: dict[int, object] = {}
    todo = list(roots)
    while todo:
        held = todo.pop()
        if id(held) in seen or isinstance(held, type | ModuleType | FunctionType | Bench | Loop | Line | MemoryJournal):
            continue
        seen[id(held)] = held
        todo += gc.get_referents(held)
    return list(seen.values())


def _is_secret(held: object) -> bool:
    if isinstance(held, Track | PinBlock):
        return True
    if isinstance(held, bytes):
        return b"PINBLOCK" in held
    return isinstance(held, str) and TRACK2 in held


def _broken(*args: object, **more: object) -> Any:
    raise RuntimeError("a fault of ours")


# ---------------------------------------------------------------------------------------------- all of it at random
NOT_CHARGED = frozenset(
    (
        *("declined", "not_charged", "returned", "not_found", "internal"),
        *("busy", "bill_unavailable", "card_unavailable", "no_arrears", "quote_expired", "amount_mismatch"),
        *("bill_locked", "partial_refused", "disconnected", "go_to_hall", "account_locked"),
    )
)
PASSING = frozenset(["in_progress", "result_unknown", "being_booked", "being_returned"])


class Town:
    """Hosts that lose, delay and refuse, a journal that faults, links that break, kiosks that repeat themselves on two
    lines and ask too early, and a switch that is killed; from one seed."""

    bench: Bench

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.loop = Loop()
        self.trouble = self.dice.choice([0.1, 0.3, 0.6])
        self.database: MemoryDatabase | None = None
        self.charges: dict[str, str] = {}  # STAN to charged, reversed, declined
        self.serials: dict[str, str] = {}  # of a posting, to posted, cancelled
        self.paid: dict[str, str] = {}  # receivable to the serial that paid it
        self.said: dict[str, list[str]] = {}  # serial of a kiosk's payment to all words about it
        self.asked: dict[str, str] = {}  # serial of an inquiry for a result, to the payment's
        self.requests: dict[str, dict[str, Any]] = {}
        self.serial = 0
        self.lines: list[Line] = []
        self.outages = 0
        self.start()

    def chance(self, rate: float) -> bool:
        return self.dice.random() < rate * self.trouble

    def start(self) -> None:
        if self.database is not None:
            self.bench.journal.crash()
            for line in (self.bench.card, self.bench.marketing):
                if self.dice.random() < 0.5:
                    line.frames.clear()  # never left; else the host still acts on them
        if hasattr(self, "bench"):
            self.pump(answer=False)
        self.bench = Bench(database=self.database, loop=self.loop, fault=self.fault, links_up=False)
        self.database = self.bench.database
        self.bench.latency_s = self.dice.choice([0.001, 0.05, 0.4])
        self.bench.terminal_latency_s = self.dice.choice([0.001, 0.3])
        for payment_id in sorted(self.database.open):
            held = self.database.claims[ClaimKind.OPEN, self.database.open[payment_id]]
            self.bench.payments.adopt(
                self.database.payment(held.opened_on, payment_id), cut_over_at=self.loop.now() + 9999
            )
        self.lines = [Line(f"kiosk {number}") for number in range(3)]
        self.bench.links_up()

    def fault(self, number: int) -> Fault | None:
        if not self.chance(0.05):
            return None
        return Fault(applied=self.dice.random() < 0.5, outage_s=self.dice.uniform(0.0, 3.0))

    # ---- hosts
    def pump(self, answer: bool = True) -> None:
        bench = self.bench
        bench.echo()
        for frame in bench.card.frames:
            self.card_host(bench, frame, answer)
        bench.card.frames.clear()
        frames, bench.marketing.frames = bench.marketing.frames, []
        for frame in frames:
            self.marketing_host(bench, frame, answer)
        for line in self.lines:
            for told in bench.told(line):
                self.heard(told)
            line.frames.clear()

    def card_host(self, bench: Bench, frame: bytes, answer: bool) -> None:
        message = HOST.decode(frame)
        stan, line = str(message[11]), bench.card
        if message.mti == "0820":
            return

        def act() -> None:
            if message.mti == "0800":
                if line.is_open and not self.chance(0.3):
                    bench._answer_card(frame, {39: "00", 60: "00000001003", 62: bytes(40)}, None)
                return
            if message.mti == "0200":
                assert stan not in self.charges, "a purchase came twice"
                self.charges[stan] = "declined" if self.chance(0.2) else "charged"
                code = "00" if self.charges[stan] == "charged" else "51"
                if self.chance(0.1):
                    code = "96"
            else:
                code = "00" if self.charges.get(stan) in ("charged", "reversed") else "25"
                if code == "00":
                    self.charges[stan] = "reversed"
            if answer and not self.chance(0.3):
                mac = BAD_MAC if self.chance(0.05) else GOOD_MAC
                self.loop.call_later(
                    self.dice.choice([0.0, 0.0, 0.1, 1.0]) * self.dice.random(),
                    lambda: bench._answer_card(frame, {37: "112233445566", 39: code, 15: "1123"}, mac, line),
                )

        if not self.chance(0.2):
            self.loop.call_later(self.dice.choice([0.0, 0.0, 0.1, 2.4]) * self.dice.random(), act)

    def marketing_host(self, bench: Bench, frame: bytes, answer: bool) -> None:
        request, line = orjson.loads(frame), bench.marketing

        def act() -> None:
            data = self.marketing_answer(request)
            if answer and not self.chance(0.3):
                reply = orjson.dumps({**request, "text": "", "code": "00", **data})
                self.loop.call_later(
                    self.dice.choice([0.0, 0.0, 0.1, 1.4]) * self.dice.random(),
                    lambda: bench.marketing_link.frame_received(line, reply) if line.is_open else None,
                )

        if not self.chance(0.2):
            self.loop.call_later(self.dice.choice([0.0, 0.0, 0.1]) * self.dice.random(), act)

    def marketing_answer(self, request: dict[str, Any]) -> dict[str, Any]:
        match request["op"]:
            case "inquiry":
                names = [f"{request['account']}-{n}" for n in range(1, 1 + int(request["account"][-1]))]
                rows = [
                    {"receivable": name, "period": "202601", "principal": 10, "penalty": 0, "amount": 10}
                    | {"energy_kwh": 1, "tier": 1}
                    for name in names
                    if name not in self.paid
                ]
                found = {"name": "", "address": "", "day": DAY, "total": 0, "advance_balance": 0}
                return {"code": "00" if rows else "06", **found, "partial_allowed": True, "rows": rows}
            case "post":
                serial, name = request["serial"], request["receivable"]
                if self.serials.get(serial) == "cancelled":
                    return {"code": "15"}
                if self.serials.get(serial) != "posted":
                    if name in self.paid or self.chance(0.2):
                        return {"code": "06"}
                    self.serials[serial], self.paid[name] = "posted", serial
                return {"code": "50"} if self.chance(0.1) else {}
            case "status":
                return {"state": self.serials.get(request["serial"], "unknown")}
            case _:
                serial = request["serial"]
                if self.serials.get(serial) == "posted":
                    if request["if_posted"] == "refuse":
                        return {"code": "14"}
                    self.paid = {name: by for name, by in self.paid.items() if by != serial}
                self.serials[serial] = "cancelled"
                return {}

    # ---- kiosks
    def heard(self, told: Told) -> None:
        serial = self.asked.get(told.serial, told.serial)
        if told.code == "sign_on_first":
            fields = {0: "0800", 11: "999999", 41: TERMINAL, 42: MERCHANT, 60: "00000000003", 63: "001"}
            self.bench.dispatcher.frame_received(self.lines[0], KIOSK.encode(fields, header=HEADER))
        elif serial in self.said and told.code:
            self.said[serial].append(told.code)
        elif told.quote:
            months = int(self.requests[told.serial]["account"][-1])
            self.serial += 1
            paying = f"{self.serial:06d}"
            self.said[paying] = []
            self.requests[paying] = {"quote": told.quote, "account": self.requests[told.serial]["account"]}
            self.requests[paying]["amount"] = 10 * months
            for _ in range(1 + self.chance(0.8) + self.chance(0.5)):
                pay = partial(self.pay, paying, self.bench)
                self.loop.call_later(self.dice.choice([0.0, 0.3, 5.0]) * self.dice.random(), pay)

    def pay(self, serial: str, through: Bench) -> None:
        """A copy that comes late was sent early: it dies with its connection."""
        if through is not self.bench:
            return
        request = self.requests[serial]
        tags = [("DF01", request["account"].encode()), ("DF02", request["quote"].encode())]
        card = {"f3": "000000", "f4": request["amount"], "f22": "021", "f35": TRACK2}
        self.bench.ask("72", tags, serial=serial, line=self.dice.choice(self.lines), **card)

    def inquire(self) -> None:
        self.serial += 1
        serial, account = f"{self.serial:06d}", f"05{self.dice.randrange(40):05d}{self.dice.randint(1, 3)}"
        self.requests[serial] = {"account": account}
        self.bench.ask("71", [("DF01", account.encode())], serial=serial, line=self.lines[0])

    def ask_result(self, serial: str) -> None:
        self.serial += 1
        self.asked[f"{self.serial:06d}"] = serial
        tags = [("DF0C", serial.encode()), ("DF0D", b"1123")]
        self.bench.ask("75", tags, serial=f"{self.serial:06d}", line=self.dice.choice(self.lines))

    # ---- the day
    def step(self) -> None:
        if self.chance(0.3):
            self.inquire()
        if self.said and self.dice.random() < 0.2:
            self.ask_result(self.dice.choice(list(self.said)))
        waiting = [serial for serial, words in self.said.items() if PASSING.issuperset(words)]
        if waiting and self.chance(0.3):
            self.pay(self.dice.choice(waiting), self.bench)
        if self.chance(0.02):
            self.cut(self.bench.card_link, self.bench.card)
        if self.chance(0.02):
            self.cut(self.bench.marketing_link, self.bench.marketing)
        if self.chance(0.01):
            self.start()
        self.pump()
        self.loop.advance(0.05)

    def cut(self, link: Any, line: Line) -> None:
        line.is_open = False
        if self.dice.random() < 0.5:
            self.pump()  # what has left arrives
        line.frames.clear()
        link.wire_lost(line, "cut")
        self.bench.links_up_again()

    def evening(self) -> None:
        self.trouble = 0.0
        self.bench.latency_s = self.bench.terminal_latency_s = 0.001
        for _ in range(1000):
            self.pump()
            self.loop.advance(0.05)
        for serial in [*self.said] * 2:
            self.ask_result(serial)
            for _ in range(3):
                self.pump()
                self.loop.advance(0.01)

    def check(self) -> None:
        assert self.bench.payments.open_count == 0 and self.bench.journal.pending == 0
        faults = {"callback.failed", "answer.failed", "timer.failed", "journal.callback_failed", "frame.unbuildable"}
        assert not faults.intersection(self.bench.watcher.events)
        assert self.database is not None
        by_key = {row.payment.body["kiosk_serial"]: row.payment for row in self.database.payment_rows()}
        for serial, words in self.said.items():
            payment = by_key.get(serial)
            charged = posted = 0
            if payment is not None:
                charged = self.charges.get(payment.body["stan"]) == "charged"
                states = [self.serials.get(row[5]) == "posted" for row in payment.body["postings"]]
                posted = all(states)
                assert any(states) == posted, "part posted"
            final = [word for word in words if word not in PASSING]
            assert final, f"{serial} never heard a last word: {words}"
            assert charged == posted == ("completed" in words), (serial, words, payment)
            assert ("completed" in words) != bool(NOT_CHARGED.intersection(final)), (serial, words, payment)
        assert self.bench.books() in (
            {},
            {"u_receivable": sum(self.paid_fen()), "m_payable": -sum(self.paid_fen())},
        )

    def paid_fen(self) -> list[int]:
        return [10 for _ in self.paid]


@pytest.mark.parametrize("seed", range(40))
def test_every_customer_hears_the_truth_whatever_happens(seed: int) -> None:
    town = Town(seed)
    for _ in range(400):
        town.step()
    town.evening()
    town.check()
    assert town.said, "somebody paid"


# ---------------------------------------------------------------------------------------------- the real thing
def test_a_repeat_right_after_a_restart_is_answered_from_the_journal(play: Play) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        bills = await world.bills(kiosk, 1)
        payment = await kiosk.pay(bills, (bills.rows[0][0],), _card())
        assert payment.final == "00"
        await world.settle()
        await world.worker.stop()
        await world.start_worker()
        again = await world.kiosk()
        again._serial = int(payment.serial) - 1  # the same key
        repeated = await again.pay(bills, (bills.rows[0][0],), _card())
        assert (repeated.serial, repeated.final, repeated.stable) == (payment.serial, "00", "completed")
        proof = await world.settle()
        assert proof.holds and proof.payments == 1

    play(story)


@pytest.mark.interpreted
def test_one_payment_that_cannot_be_adopted_does_not_keep_the_switch_down(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        await world.pay(kiosk, hang_up_after_s=0.1)
        await world.worker.stop()
        with monkeypatch.context() as patched:
            patched.setattr(Payments, "adopt", _broken)
            await world.start_worker()
        assert (await world.pay(await world.kiosk(2))).final == "00"
        await world.worker.stop()
        await world.start_worker()
        proof = await world.settle()
        assert proof.holds and proof.payments == 2, "it was still open in the journal"

    play(story, '[[unionpay.script]]\ndo = "late:1.5"')


def test_storms_of_copies_end_in_one_word(play: Play) -> None:
    """Repeats on two connections while the hosts are silent, late and cut."""

    async def story(world: Any) -> None:
        for number in range(6):
            kiosk = await world.kiosk(1 + number % 3)
            await world.pay(kiosk, months=1, repeat=True)
            assert kiosk.counts.get("contradiction", 0) == 0
        assert (await world.settle(40.0)).holds

    play(
        story,
        "[unionpay]\nsilence_rate = 0.2\ndrop_connection_rate = 0.2\nlate_rate = 0.2\n"
        "[marketing]\nsilence_rate = 0.2\nrefuse_rate = 0.2\ndrop_connection_rate = 0.1",
        profile=UnionpayProfile(reversal_00="found_only", reversal_not_found="proves"),
    )


def _card() -> Any:
    from switch.sim.kiosk_client import CardChoice

    return CardChoice(1)
