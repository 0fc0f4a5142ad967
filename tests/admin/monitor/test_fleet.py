"""From facts to signals: what is late, what is old, who the neighbours are, and what may not be said."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from admin import limits
from admin.monitor.fleet import Heard, Judged, Kiosk, World, judge, units_of
from admin.monitor.matrix import Agent, Payments, Sessions, Switch, Units
from admin.monitor.rhythm import CELLS, Hours, Rhythm

NOW = datetime(2026, 11, 2, 4, tzinfo=UTC)  # a Monday, noon in China
AGO = timedelta(days=1)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def kiosk(number: int = 1, **facts: Any) -> Kiosk:
    """In order, unless told otherwise."""
    usual: dict[str, Any] = {
        "state": "in_service",
        "state_since": ago(90 * 86_400),
        "terminal_id": f"T{number:07d}",
        "line": "",
        "site": 1,
        "city": 9,
        "beat_at": ago(30),
        "units": {"idc": "online", "pin": "online"},
        "session_at": ago(300),
        "tried_at": ago(300),
        "payable_since": ago(90 * 86_400),
    }
    return Kiosk(number, **{**usual, **facts})


def world(kiosks: list[Kiosk], silent: Collection[int] = (), **facts: Any) -> World:
    """Everybody but the silent ones was heard a minute ago."""
    heard = {str(each.terminal_id): Heard(ago(60), True, True) for each in kiosks if each.kiosk_id not in silent}
    return World(now=NOW, heard={**heard, **facts.pop("heard", {})}, **facts)


def only(one: Kiosk, **facts: Any) -> Judged:
    (judged,) = judge([one], world([one], **facts))
    return judged


def codes(kiosks: list[Kiosk], of: World) -> list[str]:
    return [each.diagnosis.code for each in judge(kiosks, of)]


def test_a_kiosk_in_order() -> None:
    judged = only(kiosk())
    assert judged.diagnosis.code == "normal" and judged.expected == 0.0
    assert (judged.signals.agent, judged.signals.switch) == (Agent.OK, Switch.OK)
    assert (judged.signals.sessions, judged.signals.payments) == (Sessions.UNKNOWN, Payments.OK)


@pytest.mark.parametrize(("age", "agent"), [(0, Agent.OK), (165, Agent.OK), (166, Agent.MISSING)])
def test_missed_beats_are_missing(age: float, agent: Agent) -> None:
    assert only(kiosk(beat_at=ago(age))).signals.agent is agent


def test_a_cable_that_was_pulled_is_told_within_three_minutes() -> None:
    """Agent and switch heard it last at the same moment: the switch's word is no newer, so it proves nothing."""
    pulled = kiosk(beat_at=ago(170))
    assert only(pulled, heard={"T0000001": Heard(ago(99), True, True)}).diagnosis.code == "offline"
    alive = only(pulled, heard={"T0000001": Heard(ago(97), True, True)})
    assert alive.diagnosis.code == "agent_fault", "it was heard well after its last beat: only the agent is gone"


def test_the_switch_is_believed_only_when_it_has_told_all() -> None:
    one = kiosk()
    assert codes([one], world([one], silent={1})) == ["link_fault"]
    assert codes([one], world([one], silent={1}, switch_told=False)) == ["switch_away"]
    assert only(one, switch_told=False).diagnosis.code == "normal", "what it has told is true"
    assert only(replace(one, terminal_id=None)).signals.switch is Switch.UNKNOWN
    assert only(one, heard={"T0000001": Heard(ago(60), False, True)}).diagnosis.code == "sign_on_fault"
    assert only(one, heard={"T0000001": Heard(ago(limits.HEARD_S + 1), True, True)}).signals.switch is Switch.SILENT


def test_nobody_is_missed_just_after_our_own_start() -> None:
    lost, fine = kiosk(1, beat_at=ago(900), code="offline"), kiosk(2, code="normal")
    fresh = kiosk(3, beat_at=ago(900))
    of = world([lost, fine, fresh], silent={1, 3}, judges_absence=False)
    judged = {each.kiosk_id: each.diagnosis.code for each in judge([lost, fine, fresh], of)}
    assert judged == {2: "normal", 3: "silent"}, "the first keeps what it had, the third had nothing yet"


def test_out_of_hours_and_out_of_service_are_no_trouble() -> None:
    night = kiosk(hours=Hours(13 * 60, 18 * 60), beat_at=ago(9000))
    assert codes([night], world([night], silent={1})) == ["closed"]
    kept = kiosk(state="maintenance", beat_at=ago(9000))
    assert codes([kept], world([kept], silent={1})) == ["off"]


def test_one_dark_kiosk_is_itself_and_most_of_a_line_is_the_line() -> None:
    line = [kiosk(number, line="L1", site=number) for number in range(1, 6)]
    dark = [replace(each, beat_at=ago(600)) for each in line]
    assert codes([dark[0], *line[1:]], world(line, silent={1})) == ["offline", *["normal"] * 4]
    four = [*dark[:4], line[4]]
    assert codes(four, world(line, silent={1, 2, 3, 4})) == [*["line_down"] * 4, "normal"]
    elsewhere = [replace(each, line="") for each in four]
    assert codes(elsewhere, world(line, silent={1, 2, 3, 4})) == [*["offline"] * 4, "normal"], "each at its own site"


def test_who_is_not_on_duty_is_nobodys_neighbour() -> None:
    dark = [kiosk(number, beat_at=ago(600)) for number in (1, 2)]
    retired = [kiosk(number, state="retired", beat_at=ago(600)) for number in range(3, 9)]
    all_ = [*dark, *retired]
    assert codes(all_, world(all_, silent=set(range(1, 9))))[:2] == ["line_down"] * 2
    fine = [kiosk(number) for number in (1, 2)]
    assert codes([dark[0], fine[1], *retired], world(all_, silent={1, *range(3, 9)}))[:2] == ["offline", "normal"]


def test_most_of_a_site_cut_off_from_the_switch_is_the_switch() -> None:
    site = [kiosk(number) for number in range(1, 5)]
    assert codes(site, world(site, silent={1, 2, 3})) == [*["links_cut"] * 3, "normal"]
    assert codes(site, world(site, silent={1})) == ["link_fault", *["normal"] * 3]


def test_payments_that_fail_here_or_everywhere() -> None:
    bad = kiosk(1, failures=limits.FAILURES_STRAIGHT)
    assert only(replace(bad, failures=limits.FAILURES_STRAIGHT - 1)).diagnosis.code == "normal"
    assert codes([bad, kiosk(2)], world([bad, kiosk(2)])) == ["payment_fault", "normal"]
    both = [bad, kiosk(2, failures=9)]
    assert codes(both, world(both)) == ["channel_fault"] * 2
    alone = [kiosk(1, failures=9, site=1), *(kiosk(number, failures=9, site=number) for number in (2, 3))]
    assert codes(alone, world(alone)) == ["channel_fault"] * 3, "no neighbour can tell, so the city does"
    idle = [kiosk(1, failures=9), kiosk(2, tried_at=ago(9000)), kiosk(3, site=2)]
    assert codes(idle, world(idle))[0] == "payment_fault", "a neighbour where nobody pays says nothing"
    old = kiosk(1, failures=9, tried_at=ago(900), state_since=ago(600))
    assert only(old).diagnosis.code == "normal", "it was repaired, and put into service since"


BUSY = Rhythm([12.0] * CELLS, 288.0, 1e-4)


def test_silence_beyond_the_rhythm() -> None:
    quiet = kiosk(1, session_at=ago(7200), tried_at=ago(7200))
    of: dict[str, Any] = {"rhythms": {1: BUSY, 2: BUSY}}
    fine = kiosk(2)
    assert codes([quiet, fine], world([quiet, fine], **of)) == ["unused", "normal"]
    judged = judge([quiet, fine], world([quiet, fine], **of))[0]
    assert judged.expected == pytest.approx(24.0), "two hours, twelve an hour"
    calm = kiosk(2, session_at=ago(7200), tried_at=ago(7200))
    assert codes([quiet, calm], world([quiet, calm], **of)) == ["low_traffic"] * 2
    assert codes([quiet, fine], world([quiet, fine], counts=False, **of)) == ["normal"] * 2, "the feed lags"
    slow = world([quiet, fine], paces={9: 0.4}, **of)
    assert codes([quiet, fine], slow) == ["normal"] * 2, "a slow day in the whole city"


def test_what_it_could_not_serve_is_not_held_against_it() -> None:
    back = kiosk(1, session_at=ago(7200), tried_at=ago(7200), payable_since=ago(600))
    assert only(back, rhythms={1: BUSY}).diagnosis.code == "normal"
    opened = replace(back, payable_since=ago(9000), state_since=ago(600))
    assert only(opened, rhythms={1: BUSY}).diagnosis.code == "normal"


def test_what_was_missed_counts_from_when_the_trouble_began() -> None:
    dark = kiosk(1, beat_at=ago(3600), code="offline", since=ago(1800))
    (judged,) = judge([dark], world([dark], silent={1}, rhythms={1: BUSY}))
    assert judged.diagnosis.code == "offline" and judged.expected == pytest.approx(6.0)
    (fresh,) = judge([replace(dark, code="normal")], world([dark], silent={1}, rhythms={1: BUSY}))
    assert fresh.expected == 0.0


@pytest.mark.parametrize(
    ("said", "units"),
    [
        ({"idc": "online", "pin": "busy", "ptr.paper": "full", "door": "closed"}, Units.OK),
        ({"ptr.paper": "out"}, Units.WEAK),
        ({"ptr.paper": "out", "idc": "offline"}, Units.BROKEN),
        ({"pin": "fraudattempt"}, Units.BROKEN),
        ({"ups": "poweroff"}, Units.WEAK),
        ({"idc.bin": "full"}, Units.WEAK),
        ({}, Units.OK),
    ],
)
def test_what_peripherals_say(said: dict[str, str], units: Units) -> None:
    assert units_of(said) is units
    assert only(kiosk(units=said)).signals.units is units
    assert only(kiosk(units=said, beat_at=ago(600))).signals.units is Units.OK, "an old word about units is none"
