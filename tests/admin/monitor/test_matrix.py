"""The liveness matrix: every row of the design, and every combination of what the witnesses can say."""

from __future__ import annotations

from itertools import product

import pytest

from admin.monitor.matrix import (
    DIAGNOSES,
    ROWS,
    Agent,
    Duty,
    Neighbours,
    Payments,
    Sessions,
    Severity,
    Signals,
    Switch,
    Units,
    diagnose,
    holds,
)

EVERY = [
    Signals(duty, agent, switch, sessions, payments, units, Neighbours(*most))
    for duty, agent, switch, sessions, payments, units in product(Duty, Agent, Switch, Sessions, Payments, Units)
    for most in product((False, True), repeat=4)
]


def test_every_combination_has_exactly_one_row() -> None:
    assert len(EVERY) == 3 * 3 * 4 * 3 * 3 * 3 * 16
    for signals in EVERY:
        rows = [row for row in ROWS if holds(row, signals)]
        assert len(rows) == 1, f"{signals}: {rows}"


def test_every_row_and_every_diagnosis_is_reached() -> None:
    reached = {row for signals in EVERY for row in ROWS if holds(row, signals)}
    assert reached == set(ROWS)
    assert {row.code for row in ROWS} == set(DIAGNOSES)


MISSING = {"agent": Agent.MISSING}
DARK = {"agent": Agent.MISSING, "switch": Switch.SILENT, "payments": Payments.NONE, "sessions": Sessions.UNKNOWN}
FAILING = {"payments": Payments.FAILING}
QUIET = {"sessions": Sessions.QUIET, "payments": Payments.NONE}


@pytest.mark.parametrize(
    ("said", "most", "code"),
    [  # the rows of the design, in its order
        ({}, {}, "normal"),
        (FAILING, {}, "payment_fault"),
        (FAILING, {"failing": True}, "channel_fault"),
        ({"switch": Switch.SILENT, **FAILING}, {}, "link_fault"),
        ({"switch": Switch.UNSIGNED, **FAILING}, {}, "sign_on_fault"),
        (QUIET, {}, "unused"),
        (QUIET, {"quiet": True}, "low_traffic"),
        (MISSING, {}, "agent_fault"),
        (DARK, {}, "offline"),
        (DARK, {"dark": True}, "line_down"),
    ],
)
def test_the_rows_of_the_design(said: dict[str, object], most: dict[str, bool], code: str) -> None:
    signals = Signals(**said, neighbours=Neighbours(**most))  # type: ignore[arg-type]
    assert diagnose(signals).code == code


@pytest.mark.parametrize(
    ("said", "most", "code"),
    [
        ({"duty": Duty.OFF, **DARK}, {}, "off"),
        ({"duty": Duty.CLOSED, **DARK}, {"dark": True}, "closed"),
        ({"switch": Switch.SILENT}, {"cut": True}, "links_cut"),
        ({"switch": Switch.UNKNOWN}, {}, "switch_away"),
        ({"switch": Switch.UNKNOWN, **FAILING}, {"failing": True}, "switch_away"),
        ({**DARK, "switch": Switch.UNKNOWN}, {"dark": True}, "beat_lost"),
        ({"agent": Agent.UNKNOWN, "switch": Switch.UNKNOWN}, {}, "unknown"),
        ({"agent": Agent.UNKNOWN}, {}, "normal"),
        ({"agent": Agent.UNKNOWN, "switch": Switch.SILENT}, {}, "silent"),
        ({**MISSING, **QUIET}, {}, "agent_fault_quiet"),
        ({**MISSING, **FAILING}, {}, "payment_fault"),
        ({"units": Units.BROKEN}, {}, "unit_broken"),
        ({"units": Units.BROKEN, **MISSING}, {}, "agent_fault"),
        ({"units": Units.WEAK, **QUIET}, {}, "unused"),
        ({"units": Units.WEAK}, {}, "unit_weak"),
    ],
)
def test_what_the_design_leaves_open(said: dict[str, object], most: dict[str, bool], code: str) -> None:
    signals = Signals(**said, neighbours=Neighbours(**most))  # type: ignore[arg-type]
    assert diagnose(signals).code == code


def test_who_may_be_paid_at() -> None:
    """Nobody is sent to a kiosk that works, and none that turns customers away counts as payable."""
    for signals in EVERY:
        said = diagnose(signals)
        if said.payable:
            assert signals.switch is Switch.OK and signals.duty is Duty.ON and signals.payments is not Payments.FAILING
        assert bool(said.do) or said.severity is Severity.NONE
        if said.severity is Severity.SERIOUS:
            assert not said.payable
