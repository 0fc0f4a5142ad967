"""The circuit breaker against a plain model, and its story in words."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from switch.limits import BREAKER_OPEN_MAX_S, BREAKER_OPEN_S, BREAKER_REQUESTS_MIN, BREAKER_WINDOW, BREAKER_WINDOW_S
from switch.machines.breaker import Breaker


def opened(breaker: Breaker, now: float) -> None:
    for _ in range(BREAKER_REQUESTS_MIN):
        breaker.silent(now)
    assert breaker.is_open


def test_one_silence_in_a_quiet_night_closes_no_door() -> None:
    breaker = Breaker()
    for number in range(BREAKER_REQUESTS_MIN - 1):
        assert not breaker.silent(float(number))
    assert not breaker.is_open


def test_a_peer_that_answers_half_is_left_alone_and_old_silences_are_forgotten() -> None:
    breaker = Breaker()
    for number in range(BREAKER_REQUESTS_MIN):
        breaker.answered(float(number))
        breaker.silent(float(number))
    assert breaker.is_open
    breaker = Breaker()
    for number in range(BREAKER_REQUESTS_MIN - 1):
        breaker.silent(float(number))
    assert not breaker.silent(2 * BREAKER_WINDOW_S), "the others are older than the window"


def test_an_echo_too_early_opens_nothing_and_each_relapse_lasts_twice_as_long() -> None:
    breaker, now, open_s = Breaker(), 0.0, BREAKER_OPEN_S
    for _ in range(8):
        opened(breaker, now)
        assert not breaker.alive(now + open_s - 0.1)
        now += open_s
        assert breaker.alive(now)
        assert not breaker.alive(now), "it is closed already"
        open_s = min(2 * open_s, BREAKER_OPEN_MAX_S)


class BreakerAgainstAList(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker()
        self.now = 0.0
        self.seen: list[tuple[float, bool]] = []
        self.open_since: float | None = None

    @rule(seconds=st.sampled_from([0.1, 1.0, 30.0, 200.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(count=st.integers(1, 12))
    def answered(self, count: int) -> None:
        for _ in range(count):
            self.breaker.answered(self.now)
            self.seen.append((self.now, True))

    @rule(count=st.integers(1, 12))
    def silent(self, count: int) -> None:
        for _ in range(count):
            opens = self.breaker.silent(self.now)
            self.seen.append((self.now, False))
            counted = [kept for kept in self.seen[-BREAKER_WINDOW:] if kept[0] >= self.now - BREAKER_WINDOW_S]
            bad = sum(not answered for _, answered in counted)
            wanted = self.open_since is None and len(counted) >= BREAKER_REQUESTS_MIN and 2 * bad >= len(counted)
            assert opens == wanted
            if opens:
                self.open_since = self.now

    @rule()
    def echo(self) -> None:
        if self.breaker.alive(self.now):
            assert self.open_since is not None and self.now >= self.open_since + BREAKER_OPEN_S
            self.open_since = None
            self.seen.clear()
        elif self.open_since is not None:
            assert self.now < self.open_since + BREAKER_OPEN_MAX_S, "an echo always helps in the end"

    @invariant()
    def is_as_the_list_says(self) -> None:
        assert self.breaker.is_open == (self.open_since is not None)


BreakerAgainstAList.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestBreaker = BreakerAgainstAList.TestCase
