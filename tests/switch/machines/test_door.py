"""The door: its buckets against a plain model, and what wrong MACs lead to, one story a test."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch import limits
from switch.config import UNLIMITED, LimitsConfig
from switch.machines.door import Buckets, Caller, Door, Rate, Wrong

T1, T2 = "GS000001", "GS000002"
HERE, THERE = "10.0.0.1", "10.0.0.2"


@given(
    every_s=st.sampled_from([0.5, 1.0, 4.0]),
    burst=st.integers(1, 5),
    waits=st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, 7.0, 60.0]), max_size=60),
)
def test_a_bucket_gives_what_a_counter_of_tokens_would_give(every_s: float, burst: int, waits: list[float]) -> None:
    """Times are sums of quarters, so both sums are exact."""
    rate, due, now, tokens, filled_at = Rate(every_s, burst), 0.0, 1000.0, float(burst), 1000.0
    for wait in waits:
        now += wait
        tokens, filled_at = min(burst, tokens + (now - filled_at) / every_s), now
        given_ = rate.take(due, now)
        assert (given_ is not None) == (tokens >= 1)
        if given_ is not None:
            due, tokens = given_, tokens - 1


def test_without_a_limit_everything_is_given() -> None:
    door, caller = Door(UNLIMITED), Caller(HERE)
    for _ in range(10_000):
        assert door.payment(caller, T1, 0.0) and door.fault(caller, 0.0) and door.greeting(caller, 0.0)


@pytest.mark.parametrize(
    ("ask", "burst", "every_s"),
    [
        (lambda door, now: door.payment(Caller(HERE), T1, now), limits.PAYMENTS_BURST, 5.0),
        (lambda door, now: door.inquiry(Caller(HERE), T1, now), limits.INQUIRIES_BURST, 1.0),
        (lambda door, now: door.request(Caller(HERE), T1, now), limits.REQUESTS_BURST, 0.1),
        (lambda door, now: door.fault(Caller(HERE), now), limits.FAULTS_BURST, 1.0),
    ],
)
def test_the_defaults_are_what_they_say(ask: Any, burst: int, every_s: float) -> None:
    door = Door(LimitsConfig())
    assert [ask(door, 1.0) for _ in range(burst + 1)] == [True] * burst + [False]
    assert not ask(door, 1.0 + every_s * 0.9)
    assert ask(door, 1.0 + every_s * 1.01)
    assert not ask(door, 1.0 + every_s * 1.02)


def test_one_terminals_and_one_sources_use_is_nobody_elses() -> None:
    door = Door(LimitsConfig())
    while door.payment(Caller(HERE), T1, 0.0):
        pass
    assert door.payment(Caller(HERE), T2, 0.0), "another terminal behind the same router"
    assert door.payment(Caller(THERE), T1, 0.0), "frames replayed elsewhere use up nothing of the terminal's own"
    first, second = Caller(HERE), Caller(HERE)
    while door.greeting(first, 0.0):
        pass
    assert door.greeting(second, 0.0), "a greeting is its connection's"


def test_what_is_remembered_is_bounded_and_the_oldest_is_forgotten() -> None:
    buckets = Buckets(Rate(60.0, 1), keys_max=3)
    for key in ("a", "b", "c"):
        assert buckets.take(key, 0.0)
    assert buckets.take("a", 60.0) and not buckets.take("b", 1.0), "still remembered"
    assert buckets.take("d", 1.0) and len(buckets) == 3
    assert not buckets.take("d", 1.0) and buckets.take("b", 1.0), "b was taken longest ago"


# ---------------------------------------------------------------------------------------------------- wrong MACs
def wrong(door: Door, caller: Caller, *terminals: str) -> list[Wrong]:
    return [door.wrong_mac(caller, terminal) for terminal in terminals]


def test_three_wrong_macs_in_a_row_close_the_connection_and_no_terminal() -> None:
    door, caller = Door(LimitsConfig()), Caller(HERE)
    assert wrong(door, caller, T1, T1, T1) == [Wrong.ANSWER, Wrong.ANSWER, Wrong.HANG_UP]
    assert not door.is_stopped(T1), "anybody can send three frames with its name"


def test_a_replayed_frame_proves_nothing() -> None:
    door, caller = Door(LimitsConfig()), Caller(HERE)
    assert not door.right_mac(caller, T1)  # a right MAC, but no payment began
    assert wrong(door, caller, T1, T1, T1)[-1] is Wrong.HANG_UP
    assert not door.is_stopped(T1)


def test_a_terminal_is_stopped_by_its_own_connection_and_comes_back_with_a_sign_on_and_a_right_mac() -> None:
    door, caller = Door(LimitsConfig()), Caller(HERE)
    door.began(caller, T1)
    assert wrong(door, caller, T1, T1, T1)[-1] is Wrong.STOP
    assert door.is_stopped(T1) and door.stopped == [T1]
    assert not door.right_mac(Caller(HERE), T1) and door.is_stopped(T1), "not before it has signed on"
    door.signed_on(T1)
    assert door.is_stopped(T1), "anybody can ask for a sign-on"
    assert not door.right_mac(Caller(HERE), T2) and door.is_stopped(T1)
    assert door.right_mac(Caller(HERE), T1) and not door.is_stopped(T1)


def test_a_connection_can_stop_no_terminal_but_its_own() -> None:
    door, caller = Door(LimitsConfig()), Caller(HERE)
    door.began(caller, T1)
    assert wrong(door, caller, T2, T2, T2)[-1] is Wrong.HANG_UP
    caller = Caller(HERE)
    door.began(caller, T1)
    assert wrong(door, caller, T2, T1, T1)[-1] is Wrong.HANG_UP, "not all three were of its own terminal"
    assert door.stopped == []


def test_a_right_mac_between_them_begins_the_count_anew() -> None:
    door, caller = Door(LimitsConfig()), Caller(HERE)
    door.began(caller, T1)
    assert wrong(door, caller, T1, T1) == [Wrong.ANSWER] * 2
    door.right_mac(caller, T1)
    assert wrong(door, caller, T1, T1) == [Wrong.ANSWER] * 2
