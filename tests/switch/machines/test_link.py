"""The link's machine: up after an answered probe, silent only so long."""

from __future__ import annotations

from switch.limits import SHORT
from switch.machines.link import NEVER, Link, LinkEffect, LinkState


def up() -> Link:
    link = Link(SHORT)
    link.connected(100.0)
    link.answered(100.1)
    return link


def test_a_connection_alone_is_not_a_link() -> None:
    link = Link(SHORT)
    assert link.connected(100.0) == [LinkEffect.PROBE]
    assert link.state is LinkState.PROBING and not link.is_up
    assert link.answered(100.1) == [LinkEffect.UP]
    assert link.is_up


def test_a_probe_without_an_answer_resets_a_link_that_never_was_up() -> None:
    link = Link(SHORT)
    link.connected(100.0)
    assert link.due(100.0 + SHORT.echo_timeout_s) == [LinkEffect.RESET]
    assert link.state is LinkState.DOWN and link.deadline == NEVER


def test_silence_is_probed_and_then_ends_the_link() -> None:
    link = up()
    idle_at = 100.1 + SHORT.echo_idle_s
    assert link.due(idle_at - 0.01) == []
    assert link.due(idle_at) == [LinkEffect.PROBE]
    assert link.is_up, "one missed sign of life is not the end"
    assert link.due(idle_at + SHORT.echo_timeout_s) == [LinkEffect.DOWN, LinkEffect.RESET]


def test_a_new_link_is_down_and_nothing_is_due() -> None:
    link = Link(SHORT)
    link.heard(100.0)
    assert (link.state, link.deadline, link.due(1e9)) == (LinkState.DOWN, NEVER, [])


def test_a_frame_while_an_echo_is_under_way_starts_the_idle_time_anew() -> None:
    link = up()
    link.due(100.1 + SHORT.echo_idle_s)
    link.heard(103.0)
    assert link.due(103.0 + SHORT.echo_idle_s) == [LinkEffect.PROBE], "idle again, not gone"


def test_traffic_needs_no_echo() -> None:
    link = up()
    for step in range(100):
        now = 100.1 + step * SHORT.echo_idle_s / 2
        link.heard(now)
        assert link.due(now) == []


def test_any_frame_answers_for_the_peer_while_an_echo_is_under_way() -> None:
    link = up()
    link.due(100.1 + SHORT.echo_idle_s)
    link.heard(102.2)
    assert link.due(100.1 + SHORT.echo_idle_s + SHORT.echo_timeout_s) == []


def test_a_frame_before_the_probes_answer_does_not_make_the_link_up() -> None:
    link = Link(SHORT)
    link.connected(100.0)
    link.heard(100.5)
    assert not link.is_up and link.due(100.0 + SHORT.echo_timeout_s) == [LinkEffect.RESET]


def test_a_lost_link_is_told_once() -> None:
    link = up()
    assert link.lost(101.0) == [LinkEffect.DOWN]
    assert link.lost(101.0) == []
