"""The upstream links by hand: what is sent, whom an answer reaches, and what is told of it. No socket, no database."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, cast

import orjson
import pytest

import iso8583
from switch.dialects.marketing import MarketingAnswer, MarketingDialect
from switch.dialects.unionpay import UnionPayDialect
from switch.limits import BREAKER_OPEN_S, BREAKER_REQUESTS_MIN, BREAKER_WINDOW_S, SHORT, STAN_MAX
from switch.model.request import CardAnswer
from switch.ports import Journal, Stray
from switch.runtime import links
from switch.runtime.calls import call_each
from switch.runtime.links import CardLink, MarketingLink, UpstreamLink
from switch.runtime.timers import Timers

TPDU, HEADER = bytes.fromhex("6000030000"), bytes.fromhex("602200000000")
SPEC = iso8583.load("unionpay_pos", header="tpdu+pos6")
SERVICE = ("GS009999", "898110049000001")
DAY = "20261123"


class Hand:
    """Clock, loop and timer handle in one: time passes when the test says so."""

    def __init__(self) -> None:
        self.time = 1000.0
        self._due: list[tuple[float, int, list[Callable[[], None]]]] = []
        self._order = count()

    def now(self) -> float:
        return self.time

    def wall_us(self) -> int:
        return 77

    def call_later(self, delay: float, call: Callable[[], None]) -> Any:
        calls = [call]
        heapq.heappush(self._due, (self.time + delay, next(self._order), calls))
        return Cancel(calls)

    def passes(self, seconds: float) -> None:
        until = self.time + seconds
        while self._due and self._due[0][0] <= until:
            self.time, _, calls = heapq.heappop(self._due)
            for call in calls:
                call()
        self.time = until


class Cancel:
    def __init__(self, calls: list[Callable[[], None]]) -> None:
        self.cancel = calls.clear


class Line:
    """A wire whose other end is the test."""

    peer = "host"
    terminal_id = ""
    is_open = True
    unflushed: Sequence[object] = ()
    heard_at = 0.0

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.tokens: list[object] = []

    def send(self, frame: bytes, token: object = None) -> bool:
        if self.is_open:
            self.sent.append(frame)
            self.tokens.append(token)
        return self.is_open

    def close(self, reason: str) -> None:
        self.is_open = False

    def rest(self, seconds: float) -> None:
        raise NotImplementedError


class Ear:
    """Everything that is told, in order; and what is kept of strays, and what the dialer is asked."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def count(self, name: str, labels: Sequence[str] = (), by: int = 1) -> None:
        self.told.append((name, tuple(labels), by))

    def observe(self, name: str, value: float, labels: Sequence[str] = ()) -> None:
        self.told.append((name, tuple(labels), value))

    def gauge(self, name: str, value: float, labels: Sequence[str] = ()) -> None:
        self.told.append((name, tuple(labels), value))

    def event(self, name: str, **facts: Any) -> None:
        self.told.append((name, facts))

    def note(self, stray: Stray) -> None:
        self.told.append(stray)

    def reset(self, reason: str) -> None:
        self.told.append(f"reset: {reason}")

    def since(self) -> list[Any]:
        """What was told since the last look."""
        told, self.told = self.told, []
        return told


class Bench:
    def __init__(self, dialer: bool = True) -> None:
        self.hand = Hand()
        self.ear = Ear()
        self.line = Line()
        loop = cast(asyncio.AbstractEventLoop, self.hand)
        timers = Timers(loop, self.hand, self.ear)
        common = (SHORT, timers, self.hand, self.ear, cast(Journal, self.ear))
        self.card = CardLink("unionpay", UnionPayDialect(TPDU, HEADER), SERVICE, *common)
        self.bill = MarketingLink("marketing", MarketingDialect("SELF01"), *common)
        if dialer:
            self.card.dialer = self.bill.dialer = self.ear
        self.answers: list[Any] = []

    def card_says(self, mti: str, **changed: Any) -> None:
        fields: dict[int, Any] = {0: mti, 11: "000001", 39: "00", 41: SERVICE[0], 42: SERVICE[1], 60: "00000000301"}
        fields |= {int(name[1:]): value for name, value in changed.items()}
        self.card.frame_received(self.line, SPEC.encode(fields, header=TPDU + HEADER))

    def bill_says(self, number: int, code: str = "00", **data: Any) -> None:
        self.bill.frame_received(self.line, orjson.dumps({"id": number, "code": code, "text": "said", **data}))

    def card_up(self) -> None:
        self.card.wire_up(self.line)
        self.card_says("0830")
        assert self.card.is_up
        self.ear.since()

    def bill_up(self) -> None:
        self.bill.wire_up(self.line)
        self.bill_says(1, day=DAY)
        assert self.bill.is_up
        self.ear.since()

    def sent(self, index: int = -1) -> dict[int, Any]:
        return SPEC.decode(self.line.sent[index]).to_dict()

    def asked(self) -> list[tuple[str, int]]:
        found = [orjson.loads(frame) for frame in self.line.sent]
        return [(each["op"], each["id"]) for each in found]


@pytest.fixture
def bench() -> Bench:
    return Bench()


UP = [("switch_link_up", ("unionpay",), 1), ("link.up", {"link": "unionpay"})]
DOWN = [("switch_link_up", ("unionpay",), 0), ("link.down", {"link": "unionpay"})]
RESET = "reset: no answer to the echo test"


def stray(peer: str, key: str, detail: str, kind: str = "late") -> Stray:
    return Stray(peer, kind, key, detail, 77)


# ------------------------------------------------------------------------------------------------ up and down
def test_a_link_is_up_when_its_echo_is_answered(bench: Bench) -> None:
    assert (bench.card.is_up, bench.card.is_usable, bench.card.name) == (False, False, "unionpay")
    assert bench.card.send(b"early") is False and bench.card.echo_rtt_s == 0.0
    bench.card.wire_up(bench.line)
    assert bench.card.send(b"early") is False
    echo = bench.sent()
    assert (echo[0], echo[11], echo[41], echo[42]) == ("0820", "000001", *SERVICE)
    bench.hand.passes(0.25)
    heard: list[str] = []
    bench.card.on_up = lambda: heard.append("up")
    bench.card_says("0830")
    assert bench.ear.since() == [("switch_echo_rtt_seconds", ("unionpay",), 0.25), *UP]
    assert heard == ["up"] and bench.card.echo_rtt_s == 0.25
    assert bench.card.is_up and bench.card.is_usable
    assert bench.card.send(b"frame", "token") is True
    assert (bench.line.sent[-1], bench.line.tokens[-1]) == (b"frame", "token")
    bench.card.send(b"frame")
    assert bench.line.tokens[-1] is None


def test_nobody_need_listen() -> None:
    bench = Bench(dialer=False)
    bench.card.wire_up(bench.line)
    bench.hand.passes(SHORT.echo_timeout_s)
    assert bench.ear.since() == [], "nobody can close the connection, and nothing is up"
    bench.card.wire_up(bench.line)
    bench.card_says("0830")
    bench.card_says("0210", f4="000000000100", f60="22000002000")
    bench.card.wire_lost(bench.line, "gone")
    bench.bill.wire_up(bench.line)
    bench.bill_says(1, day=DAY)
    assert [each for each in bench.ear.since() if "failed" in str(each)] == []


def test_only_a_good_code_answers_an_echo(bench: Bench) -> None:
    bench.card.wire_up(bench.line)
    bench.card_says("0830", f39="96")
    assert bench.ear.since() == [("link.echo_refused", {"link": "unionpay", "response_code": "96"})]
    bench.hand.passes(SHORT.echo_timeout_s - 0.01)
    assert bench.ear.since() == []
    bench.hand.passes(0.01)
    assert bench.ear.since() == [RESET] and not bench.card.is_up


def test_silence_is_probed_with_the_next_number_and_then_ends_the_link(bench: Bench) -> None:
    bench.card_up()
    bench.hand.passes(SHORT.echo_idle_s)
    assert [bench.sent(index)[11] for index in range(len(bench.line.sent))] == ["000001", "000002"]
    bench.hand.passes(0.5)
    bench.card_says("0830", f11="000002")
    assert bench.ear.since() == [("switch_echo_rtt_seconds", ("unionpay",), 0.5)]
    assert bench.card.echo_rtt_s == 0.5
    bench.hand.passes(SHORT.echo_idle_s + SHORT.echo_timeout_s)
    assert bench.ear.since() == [*DOWN, RESET]
    assert bench.card.send(b"late") is False


def test_echo_numbers_stay_within_six_digits(bench: Bench) -> None:
    bench.card._echo_stan = count(STAN_MAX + 1)
    bench.card.wire_up(bench.line)
    assert bench.sent()[11] == "000001"


def test_traffic_puts_the_probe_off(bench: Bench) -> None:
    bench.card_up()
    for _ in range(10):
        bench.hand.passes(SHORT.echo_idle_s - 0.1)
        bench.card_says("0210", f4="000000000100", f60="22000002000")
    assert len(bench.line.sent) == 1


def test_a_lost_wire_is_told_once_and_another_begins_anew(bench: Bench) -> None:
    bench.card_up()
    lost: list[object] = []
    bench.card.on_lost = lost.append
    bench.card.wire_lost(bench.line, "reset by peer")
    assert bench.ear.since() == [("link.lost", {"link": "unionpay", "reason": "reset by peer"}), *DOWN]
    assert lost == [bench.line] and not bench.card.is_up
    bench.card.wire_lost(bench.line, "again")
    assert bench.ear.since() == [("link.lost", {"link": "unionpay", "reason": "again"})]
    second = bench.line = Line()
    bench.card.wire_up(second)
    assert bench.sent()[11] == "000002"
    bench.hand.passes(SHORT.echo_timeout_s)
    assert bench.ear.since() == [RESET]


def test_a_new_wires_probe_is_due_before_the_old_ones_idle_time(bench: Bench) -> None:
    bench.card_up()
    bench.hand.passes(0.9)
    bench.card_says("0210", f4="000000000100", f60="22000002000")
    bench.hand.passes(0.1)  # the timer moves to where the idle time ends now
    bench.card.wire_lost(bench.line, "gone")
    bench.card._probe_send(b"no wire any more")
    bench.card.wire_up(bench.line)
    bench.ear.since()
    bench.hand.passes(SHORT.echo_timeout_s)
    assert bench.ear.since() == [RESET]


def test_a_link_has_one_timer(bench: Bench) -> None:
    bench.card_up()
    for number in range(2, 20):
        bench.hand.passes(SHORT.echo_idle_s)
        bench.card_says("0830", f11=f"{number:06d}")
    assert len(bench.card._timers) == 1
    bench.hand.passes(SHORT.echo_idle_s + SHORT.echo_timeout_s)
    assert len(bench.card._timers) == 0, "down: nothing is due"


def test_a_late_timer_of_an_old_wire_harms_no_new_one(bench: Bench) -> None:
    bench.card_up()
    bench.card.wire_lost(bench.line, "gone")
    bench.line = Line()
    bench.card.wire_up(bench.line)
    bench.card_says("0830")
    bench.ear.since()
    bench.hand.passes(SHORT.echo_idle_s - 0.1)
    assert (bench.ear.since(), len(bench.line.sent)) == ([], 1)
    bench.hand.passes(0.1)
    assert len(bench.line.sent) == 2


def test_a_wire_that_closed_under_a_probe_is_no_fault(bench: Bench) -> None:
    bench.card._probe_send(b"no wire at all")
    bench.card_up()
    bench.line.is_open = False
    bench.hand.passes(SHORT.echo_idle_s)
    assert bench.card.send(b"x") is False
    assert bench.ear.since() == []


def test_what_is_of_each_link_is_left_to_it(bench: Bench) -> None:
    plain = UpstreamLink("x", SHORT, bench.card._timers, bench.hand, bench.ear, cast(Journal, bench.ear))
    for missing in (plain._probe, lambda: plain._read(b""), plain._forget_all):
        with pytest.raises(NotImplementedError):
            missing()


# ------------------------------------------------------------------------------------------------ breaker
def test_a_mute_peer_is_left_alone_until_an_echo_says_that_it_is_well(bench: Bench) -> None:
    bench.card_up()
    for _ in range(BREAKER_REQUESTS_MIN - 1):
        bench.card.heard_of(silent=True)
    assert (bench.ear.since(), bench.card.is_usable) == ([], True)
    bench.card.heard_of(silent=True)
    opened = ("breaker.opened", {"level": "warning", "link": "unionpay"})
    assert bench.ear.since() == [("switch_breaker_state", ("unionpay",), 1), opened]
    assert (bench.card.is_up, bench.card.is_usable) == (True, False)
    assert len(bench.line.sent) == 2, "only an echo may ask"
    bench.card_says("0830", f11="000002")
    assert bench.ear.since() == [("switch_echo_rtt_seconds", ("unionpay",), 0.0)], "its time is not over"
    looks = int(BREAKER_OPEN_S / SHORT.echo_timeout_s)
    for look in range(1, looks):
        bench.hand.passes(SHORT.echo_timeout_s)
        assert len(bench.line.sent) == 2 + look
        bench.card_says("0830")
        assert bench.ear.since() == [("switch_echo_rtt_seconds", ("unionpay",), 0.0)]
    bench.hand.passes(SHORT.echo_timeout_s + 0.25)
    bench.card_says("0830")
    assert bench.ear.since() == [
        ("switch_echo_rtt_seconds", ("unionpay",), 0.25),
        ("switch_breaker_state", ("unionpay",), 0),
        ("breaker.closed", {"link": "unionpay"}),
    ]
    assert bench.card.is_usable
    before = len(bench.line.sent)
    bench.hand.passes(SHORT.echo_idle_s - 0.1)
    assert len(bench.line.sent) == before, "closed: no more echoes than any link sends"


def test_a_link_that_is_down_is_not_probed_but_looked_at_again(bench: Bench) -> None:
    bench.card_up()
    for _ in range(BREAKER_REQUESTS_MIN):
        bench.card.heard_of(silent=True)
    bench.card.wire_lost(bench.line, "gone")
    bench.line = Line()
    bench.hand.passes(3 * SHORT.echo_timeout_s)
    assert bench.line.sent == []
    bench.card.wire_up(bench.line)
    bench.card_says("0830")
    bench.hand.passes(SHORT.echo_timeout_s)
    assert len(bench.line.sent) == 2


def test_answers_keep_the_breaker_closed_and_old_silences_do_not_count(bench: Bench) -> None:
    bench.card_up()
    for _ in range(BREAKER_REQUESTS_MIN):
        bench.card.heard_of(silent=False)
        bench.card.heard_of(silent=False)
        bench.card.heard_of(silent=True)
    assert bench.card.is_usable
    bench.hand.time += BREAKER_WINDOW_S + 1  # all that is forgotten
    for _ in range(BREAKER_REQUESTS_MIN - 1):
        bench.card.heard_of(silent=True)
    assert bench.card.is_usable


# ------------------------------------------------------------------------------------------------ answers
def test_purchases_and_reversals_go_to_the_payments(bench: Bench) -> None:
    bench.card_up()
    bench.card.on_answer = bench.answers.append
    for mti in ("0210", "0410"):
        bench.card_says(mti, f4="000000000100", f60="22000002000", f11="000345")
    assert [each.key for each in bench.answers] == [
        "purchase|GS009999|000002|000345",
        "reversal|GS009999|000002|000345",
    ]
    assert bench.ear.since() == []


def test_an_unreadable_frame_is_counted_kept_and_costs_nobody_the_link(bench: Bench) -> None:
    bench.card_up()
    bench.hand.passes(SHORT.echo_idle_s - 0.5)
    bench.card.frame_received(bench.line, b"noise")
    counted, said, kept = bench.ear.since()
    assert counted == ("switch_bad_frames_total", ("unionpay", "unreadable"), 1)
    name, facts = said
    assert name == "frame.unreadable" and facts.keys() == {"link", "error", "size"}
    assert (facts["link"], facts["size"]) == ("unionpay", 5) and facts["error"]
    assert kept == stray("unionpay", "", facts["error"], "unreadable")
    bench.hand.passes(1.0)
    assert len(bench.line.sent) == 1, "it was a sign of life"
    assert bench.card.is_up


def test_a_fault_of_ours_over_one_answer_is_told_and_goes_no_further(bench: Bench) -> None:
    def fails(answer: CardAnswer) -> None:
        raise KeyError("ours")

    bench.card_up()
    bench.card.on_answer = fails
    bench.card_says("0210", f4="000000000100", f60="22000002000")
    facts = {"level": "error", "link": "unionpay", "error": "KeyError('ours')", "kind": "KeyError"}
    assert bench.ear.since() == [("answer.failed", facts)]
    assert bench.card.is_up


def test_a_sign_on_is_answered_once(bench: Bench) -> None:
    bench.card_up()
    bench.card.sign_on("GS000001", "898110049000002", "000017", "003", bench.answers.append)
    sent = bench.sent()
    assert (sent[0], sent[11], sent[41], sent[42], sent[60]) == (
        *("0800", "000017", "GS000001", "898110049000002"),
        "00000000003",
    )
    bench.card_says("0810", f11="000018", f41="GS000001")
    detail = "sign_on answered after its time-out, or twice"
    assert bench.ear.since() == [stray("unionpay", "GS000001|000018", detail)]
    for _ in range(2):
        bench.card_says("0810", f11="000017", f41="GS000001", f39="00")
    (answer,) = bench.answers
    assert (answer.kind, answer.stan, answer.response_code) == ("sign_on", "000017", "00")
    assert bench.ear.since() == [stray("unionpay", "GS000001|000017", detail)]
    bench.hand.passes(SHORT.card_s - 0.1)
    bench.card_says("0830")
    bench.hand.passes(0.2)
    assert len(bench.answers) == 1, "its time-out is over with its answer"
    assert not [each for each in bench.ear.since() if isinstance(each, Stray)]


def test_a_sign_on_without_an_answer_ends_in_its_time(bench: Bench) -> None:
    bench.card_up()
    bench.card.sign_on("GS000001", "898110049000002", "000017", "003", bench.answers.append)
    bench.hand.passes(SHORT.card_s - 0.01)
    assert bench.answers == []
    bench.hand.passes(0.01)
    assert bench.answers == [None]
    bench.ear.since()
    bench.card_says("0810", f11="000017", f41="GS000001")
    assert bench.answers == [None]
    (late,) = bench.ear.since()
    assert (late.kind, late.key) == ("late", "GS000001|000017")


def test_a_sign_on_that_cannot_leave_is_answered_at_once(bench: Bench) -> None:
    bench.card.sign_on("GS000001", "898110049000002", "000017", "003", bench.answers.append)
    assert bench.answers == [None] and bench.card._managed == {}
    bench.hand.passes(2 * SHORT.card_s)
    assert bench.answers == [None] and bench.ear.since() == []


def test_a_terminals_echo_is_told_from_the_links_own(bench: Bench) -> None:
    bench.card_up()
    frame = bench.card.echo_frame("GS000001", "898110049000002", "000009", mac=False)
    with_mac = bench.card.echo_frame("GS000001", "898110049000002", "000009", mac=True)
    found = SPEC.decode(frame).to_dict()
    assert (found[0], found[11], found[41], found[42]) == ("0820", "000009", "GS000001", "898110049000002")
    assert 64 not in found and 64 in SPEC.decode(with_mac).to_dict()
    bench.card.manage("echo", "GS000001", "000009", frame, bench.answers.append)
    assert bench.line.sent[-1] == frame
    bench.card_says("0830", f11="000009", f41="GS000001", f39="96")
    assert [each.response_code for each in bench.answers] == ["96"]
    assert bench.ear.since() == [], "the link's own was not asked"
    bench.card_says("0830", f11="000009", f41="GS000001")
    assert bench.ear.since()[0][0] == "switch_echo_rtt_seconds", "answered twice, the second one is a sign of life"


def test_who_waits_on_a_lost_link_is_told(bench: Bench) -> None:
    def fails(answer: CardAnswer | None) -> None:
        raise ValueError("ours")

    bench.card_up()
    bench.card.sign_on("GS000001", "898110049000002", "000001", "003", fails)
    bench.card.sign_on("GS000002", "898110049000002", "000002", "003", bench.answers.append)
    bench.card.wire_lost(bench.line, "gone")
    facts = {"level": "error", "error": "ValueError('ours')", "kind": "ValueError"}
    assert bench.ear.since()[-1] == ("callback.failed", facts)
    assert bench.answers == [None] and bench.card._managed == {}
    bench.hand.passes(2 * SHORT.card_s)
    assert bench.ear.since() == []


def test_callbacks_get_what_was_given(bench: Bench) -> None:
    call_each(bench.ear, [bench.answers.append, bench.answers.append], 7)
    assert bench.answers == [7, 7]


# ------------------------------------------------------------------------------------------------ marketing system
def test_the_marketing_link_signs_on_first_and_echoes_after_that(bench: Bench) -> None:
    bench.bill.wire_up(bench.line)
    assert bench.bill.day == ""
    bench.bill_says(1, day=DAY)
    assert bench.ear.since() == [
        ("switch_echo_rtt_seconds", ("marketing",), 0.0),
        ("switch_link_up", ("marketing",), 1),
        ("link.up", {"link": "marketing"}),
    ]
    assert bench.bill.day == DAY
    bench.hand.passes(SHORT.echo_idle_s)
    bench.bill_says(2, day="20261124")
    assert bench.bill.day == "20261124"
    bench.bill.wire_lost(bench.line, "gone")
    bench.bill.wire_up(bench.line)
    # A new day is signed on for, and so is a new connection.
    assert bench.asked() == [("sign_on", 1), ("echo", 2), ("sign_on", 3), ("sign_on", 4)]


def test_a_refused_or_wrong_sign_on_brings_no_link_up(bench: Bench) -> None:
    bench.bill.wire_up(bench.line)
    bench.bill_says(1, code="91")
    refused = ("link.sign_on_refused", {"link": "marketing", "code": "91", "text": "said"})
    assert bench.ear.since() == [refused] and not bench.bill.is_up
    bench.bill_says(1, day=DAY)
    late = stray("marketing", "1", "code 00 after its time-out, or twice")
    assert bench.ear.since() == [("switch_late_responses_total", (), 1), late]
    bench.hand.passes(SHORT.echo_timeout_s)
    bench.bill.wire_lost(bench.line, "reset")
    bench.bill.wire_up(bench.line)
    bench.ear.since()
    bench.bill_says(2, day="today")
    assert bench.ear.since()[0] == ("switch_bad_frames_total", ("marketing", "bad_record"), 1)
    assert not bench.bill.is_up and bench.bill.day == ""
    bench.bill.wire_lost(bench.line, "reset")
    bench.bill.wire_up(bench.line)
    assert bench.asked()[-1] == ("sign_on", 3)


def test_answers_are_matched_in_any_order_and_once(bench: Bench) -> None:
    bench.bill_up()
    got: dict[str, list[MarketingAnswer | None]] = {"a": [], "b": []}
    a, b = bench.bill.next_id(), bench.bill.next_id()
    assert bench.bill.call(a, b"a", got["a"].append, "token a")
    assert bench.bill.call(b, b"b", got["b"].append)
    assert bench.line.sent[-2:] == [b"a", b"b"] and bench.line.tokens[-2:] == ["token a", None]
    assert bench.bill.inflight == 2
    bench.bill_says(b, code="06")
    bench.bill_says(a)
    assert [each.code for each in got["a"] if each] == ["00"]
    assert [each.code for each in got["b"] if each] == ["06"]
    assert bench.bill.inflight == 0 and bench.ear.since() == []
    bench.bill_says(b, code="06")
    late = stray("marketing", str(b), "code 06 after its time-out, or twice")
    assert bench.ear.since() == [("switch_late_responses_total", (), 1), late]


def test_who_gave_up_hears_nothing_more(bench: Bench) -> None:
    bench.bill_up()
    number = bench.bill.next_id()
    bench.bill.call(number, b"a", bench.answers.append)
    bench.bill.forget(number)
    bench.bill.forget(number)
    assert bench.bill.inflight == 0
    bench.bill_says(number)
    assert bench.answers == [] and isinstance(bench.ear.since()[-1], Stray)


def test_what_did_not_leave_is_not_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bench.bill.call(9, b"down", bench.answers.append) is False
    bench.bill_up()
    monkeypatch.setattr(links, "INFLIGHT_PER_LINK_MAX", 2)
    assert bench.bill.call(10, b"a", bench.answers.append) is True
    assert bench.bill.call(11, b"b", bench.answers.append) is True
    assert bench.bill.call(12, b"too many", bench.answers.append) is False
    assert bench.bill.inflight == 2 and b"too many" not in bench.line.sent
    bench.bill.wire_lost(bench.line, "gone")
    assert bench.answers == [None, None] and bench.bill.inflight == 0


def test_everybody_who_waits_hears_of_a_lost_link(bench: Bench) -> None:
    def fails(answer: MarketingAnswer | None) -> None:
        raise ValueError("ours")

    bench.bill_up()
    bench.bill.call(10, b"a", fails)
    bench.bill.call(11, b"b", bench.answers.append)
    bench.bill.wire_lost(bench.line, "gone")
    assert bench.answers == [None]
    assert bench.ear.since()[-1][0] == "callback.failed"


def test_a_days_end_is_heard_from_any_answer_and_never_goes_back(bench: Bench) -> None:
    bench.bill_up()
    bench.bill.heard_day("20261124")
    bench.bill.heard_day("20261122")
    assert bench.bill.day == "20261124"
