"""Reversal lanes: against a plain model, and with two payments of one terminal in doubt at once."""

from __future__ import annotations

import itertools

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from switch.runtime.lanes import Lanes

from .test_attacks import HOST, TERMINAL, Bench

TERMINALS = st.sampled_from(["T1", "T2"])
PAYMENTS = st.integers(1, 5)
SENDERS = {(terminal, payment): f"{terminal}-{payment}" for terminal in ("T1", "T2") for payment in range(1, 6)}


class LanesAgainstAList(RuleBasedStateMachine):
    """What a lane promises, said with lists: who asked first is served first, one at a time, terminal by terminal."""

    def __init__(self) -> None:
        super().__init__()
        self.lanes: Lanes[str] = Lanes()
        self.queues: dict[str, list[str]] = {"T1": [], "T2": []}  # the first one is sending
        self.since: dict[tuple[str, int], float] = {}  # in the order in which they came due
        self.now = 0.0

    @rule(terminal=TERMINALS, payment=PAYMENTS)
    def take(self, terminal: str, payment: int) -> None:
        sender = SENDERS[terminal, payment]
        self.now += 1.0
        self.lanes.begin(terminal, payment, self.now)
        self.since.setdefault((terminal, payment), self.now)
        queue = self.queues[terminal]
        if sender not in queue:
            queue.append(sender)
        assert self.lanes.take(terminal, sender) == (queue[0] == sender)

    @rule(terminal=TERMINALS, payment=PAYMENTS)
    def free(self, terminal: str, payment: int) -> None:
        sender = SENDERS[terminal, payment]
        self._gone(terminal, sender, self.lanes.free(terminal, sender), waits=True)

    @rule(terminal=TERMINALS, payment=PAYMENTS)
    def end(self, terminal: str, payment: int) -> None:
        sender = SENDERS[terminal, payment]
        self.since.pop((terminal, payment), None)
        self._gone(terminal, sender, self.lanes.end(terminal, payment, sender), waits=False)
        if not self.queues[terminal] and all(of != terminal for of, _ in self.since):
            assert terminal not in self.lanes._lanes, "a lane that nobody needs is forgotten"

    def _gone(self, terminal: str, sender: str, following: str | None, *, waits: bool) -> None:
        queue = self.queues[terminal]
        if queue and queue[0] == sender:
            queue.pop(0)
            assert following == (queue[0] if queue else None)
        else:
            assert following is None
            if sender in queue and not waits:
                queue.remove(sender)

    @invariant()
    def who_waits_is_known(self) -> None:
        for terminal, queue in self.queues.items():
            for payment in range(1, 6):
                sender = SENDERS[terminal, payment]
                assert self.lanes.is_waiting(terminal, sender) == (sender in queue[1:])

    @invariant()
    def the_oldest_is_known(self) -> None:
        ages = {name: [at for (of, _), at in self.since.items() if of == name] for name in self.queues}
        for terminal, since in ages.items():
            assert self.lanes.oldest(terminal) == (since[0] if since else None)
        firsts = [since[0] for since in ages.values() if since]
        assert self.lanes.oldest_of_all() == (min(firsts) if firsts else None)
        assert self.lanes.depth == len(self.since)


LanesAgainstAList.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLanes = LanesAgainstAList.TestCase


def test_a_lane_needs_no_beginning() -> None:
    lanes: Lanes[str] = Lanes()
    assert lanes.take("T1", "one") and not lanes.take("T1", "two")


def _reversals(bench: Bench) -> list[str]:
    messages = [HOST.decode(frame) for frame in bench.card.frames]
    return [str(message[11]) for message in messages if message.mti == "0400"]


def _two_in_doubt() -> tuple[Bench, list[str]]:
    """Two purchases of one terminal, both unclear."""
    bench = Bench()
    stans = []
    for serial in ("000001", "000002"):
        bench.pay(bench.inquire(), serial=serial)
        request = bench.card_request("0200")
        stans.append(str(HOST.decode(request)[11]))
        bench._answer_card(request, {37: "112233445566", 39: "96", 15: "1123"})
        bench.loop.advance(0.01)
    return bench, stans


def test_a_terminal_has_one_outstanding_reversal_and_the_next_follows_its_answer() -> None:
    bench, stans = _two_in_doubt()
    assert _reversals(bench) == stans[:1], "the second one waits"
    assert bench.payments.lanes.depth == 2
    bench.answer_card("0400", "00")
    assert _reversals(bench) == stans[1:], "its answer is the other one's turn"
    bench.answer_card("0400", "00")
    assert bench.payments.lanes.depth == 0 and bench.payments.lanes.oldest(TERMINAL) is None


def test_a_reversal_that_is_never_answered_gives_its_lane_away_when_its_time_is_over() -> None:
    bench, stans = _two_in_doubt()
    seen: list[str] = []
    for _ in range(200):
        bench.wait(0.1)
        seen += _reversals(bench)
        for _ in _reversals(bench):
            bench.card_request("0400")  # taken off the line, never answered
    assert set(seen) == set(stans), "both are tried"
    assert all(one != two for one, two in itertools.pairwise(seen)), "in turn, while both are due"
    assert bench.payments.lanes.depth == 2, "nothing leaves a lane but by being decided"


def test_a_lost_link_frees_the_lane_and_both_are_reversed_when_it_is_back() -> None:
    bench, stans = _two_in_doubt()
    bench.card.is_open = False
    bench.card_link.wire_lost(bench.card, "cut")
    bench.wait(1.0)
    bench.links_up_again()
    done: list[str] = []
    for _ in range(100):
        bench.wait(0.2)
        while _reversals(bench):
            done += [str(HOST.decode(bench.answer_card("0400", "00"))[11])]
    assert sorted(done) == sorted(stans) and bench.payments.lanes.depth == 0


def test_a_terminal_reverses_before_it_pays_again() -> None:
    bench, _ = _two_in_doubt()
    bench.dispatcher._reversal_first_s = 60.0
    bench.pay(bench.inquire(), serial="000003")
    assert bench.words("000003") == ["card_unavailable"]
    for _ in range(2):
        bench.answer_card("0400", "00")
    bench.pay(bench.inquire(), serial="000004")
    assert "0200" in [HOST.decode(frame).mti for frame in bench.card.frames]
