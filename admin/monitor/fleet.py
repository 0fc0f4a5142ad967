"""From facts about all kiosks to the signals and diagnosis of each. Pure: one call for a whole fleet.

facts of each kiosk   ->  its own signals     ->  what its neighbours show  ->  matrix
(database, switch)        (``_signals``)          (``_neighbours``)             (``matrix.diagnose``)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from admin import limits
from admin.monitor import rhythm
from admin.monitor.matrix import (
    Agent,
    Diagnosis,
    Duty,
    Neighbours,
    Payments,
    Sessions,
    Signals,
    Switch,
    Units,
    diagnose,
)

ZONE: Final = ZoneInfo("Asia/Shanghai")  # of the sites: opening hours and days are local
SERVING: Final = frozenset({"trial", "in_service"})

# Peripherals in CEN/XFS words. Without one of these no card can be taken.
_NEEDED: Final = frozenset({"idc", "pin", "touch"})
_UNIT_GOOD: Final = frozenset({"online", "busy", "closed", "unknown"})
_SUPPLY_GOOD: Final = frozenset({"full", "unknown"})
_BIN_GOOD: Final = frozenset({"ok", "unknown"})


@dataclass(frozen=True, slots=True)
class Heard:
    """What the switch says of a terminal; instants by our clock."""

    heard_at: datetime | None
    signed_on: bool
    has_line: bool


@dataclass(frozen=True, slots=True)
class Kiosk:
    """What is known of one kiosk. Instants are UTC and aware; None: never."""

    kiosk_id: int
    state: str
    state_since: datetime
    terminal_id: str | None
    line: str
    site: int
    city: int
    hours: rhythm.Hours = field(default_factory=rhythm.Hours)
    beat_at: datetime | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    session_at: datetime | None = None  # the last sign of a customer: a session, or a payment
    tried_at: datetime | None = None  # the last payment that came to an end
    failures: int = 0  # of the last payments in a row, not through the customer or his bank
    payable_since: datetime | None = None  # when it last became payable again
    since: datetime | None = None
    code: str = ""  # its diagnosis until now


@dataclass(frozen=True, slots=True)
class World:
    """What is true for all.

    Attributes:
        switch_told: The switch answered just now, all of it; False: nothing may be said of its silence.
        judges_absence: False after our own start, or while the feed lags: who is not heard of keeps its diagnosis.
        counts: False while sessions and payments lag behind: they say nothing then.
        paces: By city, of ``rhythm.pace``.
    """

    now: datetime
    heard: Mapping[str, Heard]
    switch_told: bool = True
    judges_absence: bool = True
    counts: bool = True
    rhythms: Mapping[int, rhythm.Rhythm] = field(default_factory=dict)
    special: Mapping[date, int] = field(default_factory=dict)
    paces: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judged:
    kiosk_id: int
    signals: Signals
    diagnosis: Diagnosis
    expected: float  # sessions that were expected since the trouble, or the silence, began


def judge(kiosks: Sequence[Kiosk], world: World) -> list[Judged]:
    """The diagnosis of each that may be judged now, in their order; who is left out keeps what it has."""
    silences: dict[int, rhythm.Silence] = {}
    alone = {each.kiosk_id: _signals(each, world, silences) for each in kiosks}
    around = _Around(kiosks, alone)
    found: list[Judged] = []
    for each in kiosks:
        signals = alone[each.kiosk_id]
        if not world.judges_absence and signals.duty is Duty.ON and signals.agent is not Agent.OK and each.code:
            continue
        signals = replace(signals, neighbours=around.of(each, signals))
        said = diagnose(signals)
        found.append(Judged(each.kiosk_id, signals, said, _missed(each, said, world, silences)))
    return found


# ---------------------------------------------------------------------------------------------------- one kiosk
def _signals(kiosk: Kiosk, world: World, silences: dict[int, rhythm.Silence]) -> Signals:
    if kiosk.state not in SERVING:
        return Signals(Duty.OFF)
    local = world.now.astimezone(ZONE)
    if not kiosk.hours.is_open(local):
        return Signals(Duty.CLOSED)
    agent = _agent(kiosk, world)
    return Signals(
        Duty.ON,
        agent,
        _switch(kiosk, agent, world),
        _sessions(kiosk, world, silences),
        _payments(kiosk, world),
        units_of(kiosk.units) if agent is Agent.OK else Units.OK,
    )


def _agent(kiosk: Kiosk, world: World) -> Agent:
    if kiosk.beat_at is None:
        return Agent.UNKNOWN
    if (world.now - kiosk.beat_at).total_seconds() <= limits.BEAT_MISSING_S:
        return Agent.OK
    return Agent.MISSING if world.judges_absence else Agent.UNKNOWN


def _switch(kiosk: Kiosk, agent: Agent, world: World) -> Switch:
    told = world.heard.get(kiosk.terminal_id or "")
    heard_at = told.heard_at if told is not None else None
    fresh = heard_at is not None and (world.now - heard_at).total_seconds() <= limits.HEARD_S
    if fresh and agent is Agent.MISSING and kiosk.beat_at is not None:
        # The word of a witness counts only if it is newer: a cable that was pulled ended both at once.
        assert heard_at is not None
        fresh = heard_at > kiosk.beat_at + timedelta(seconds=limits.BEAT_S * (1 + limits.BEAT_JITTER))
    if not fresh:
        return Switch.SILENT if world.switch_told and kiosk.terminal_id else Switch.UNKNOWN
    assert told is not None
    return Switch.OK if told.signed_on else Switch.UNSIGNED


def _sessions(kiosk: Kiosk, world: World, silences: dict[int, rhythm.Silence]) -> Sessions:
    known = world.rhythms.get(kiosk.kiosk_id)
    if known is None or not world.counts or kiosk.session_at is None or known.daily == 0:
        return Sessions.UNKNOWN
    # What it could not serve is not held against it when it is back.
    last = max(kiosk.session_at, kiosk.state_since, kiosk.payable_since or kiosk.session_at)
    found = rhythm.judge(
        known, kiosk.hours, _naive(last), _naive(world.now), world.special, world.paces.get(kiosk.city, 1.0)
    )
    silences[kiosk.kiosk_id] = found
    return Sessions.QUIET if found.alarm else Sessions.USUAL


def _payments(kiosk: Kiosk, world: World) -> Payments:
    if kiosk.tried_at is None or kiosk.tried_at < kiosk.state_since or not world.counts:
        return Payments.NONE
    if kiosk.failures >= limits.FAILURES_STRAIGHT:
        return Payments.FAILING  # until one goes well, however long nobody tries
    recent = (world.now - kiosk.tried_at).total_seconds() <= limits.PAID_LATELY_S
    return Payments.OK if recent else Payments.NONE


def units_of(said: Mapping[str, str]) -> Units:
    """What an agent's words about its peripherals come to.

    >>> units_of({"idc": "online", "ptr.paper": "low"}), units_of({"pin": "hwerror"})
    (<Units.WEAK: 'weak'>, <Units.BROKEN: 'broken'>)
    """
    worst = Units.OK
    for name, state in said.items():
        unit, _, part = name.partition(".")
        if state in (_UNIT_GOOD if not part else _BIN_GOOD if part == "bin" else _SUPPLY_GOOD):
            continue
        if unit in _NEEDED and not part:
            return Units.BROKEN
        worst = Units.WEAK
    return worst


def _naive(at: datetime) -> datetime:
    return at.astimezone(ZONE).replace(tzinfo=None)


def _missed(kiosk: Kiosk, said: Diagnosis, world: World, silences: Mapping[int, rhythm.Silence]) -> float:
    """Sessions that should have been: since nobody came, or since it could not be paid."""
    if said.code in ("unused", "agent_fault_quiet"):
        return silences[kiosk.kiosk_id].expected
    known = world.rhythms.get(kiosk.kiosk_id)
    if said.payable or said.severity == 0 or known is None:
        return 0.0
    began = kiosk.since if kiosk.code == said.code and kiosk.since is not None else world.now
    pace = world.paces.get(kiosk.city, 1.0)
    return rhythm.expected(known, kiosk.hours, _naive(began), _naive(world.now), world.special, pace)


# ---------------------------------------------------------------------------------------------------- neighbours
@dataclass(slots=True)
class _Counts:
    """Of a line, a site or a city: how many show it, and of how many it can be said."""

    on: int = 0
    dark: int = 0
    cut: int = 0
    failing: int = 0
    paying: int = 0
    quiet: int = 0
    used: int = 0

    def add(self, signals: Signals) -> None:
        self.on += 1
        self.dark += _dark(signals)
        self.cut += _cut(signals)
        self.failing += signals.payments is Payments.FAILING
        self.paying += signals.payments is not Payments.NONE
        self.quiet += signals.sessions is Sessions.QUIET
        self.used += signals.sessions is not Sessions.UNKNOWN


def _dark(signals: Signals) -> bool:
    return signals.agent is not Agent.OK and signals.switch is Switch.SILENT


def _cut(signals: Signals) -> bool:
    return signals.agent is Agent.OK and signals.switch is Switch.SILENT


def _most(showing: int, of: int, own_showing: bool, own_known: bool) -> bool | None:
    """Whether most of the others show it; None: there are none of whom it can be said."""
    others = of - own_known
    return None if others < 1 else (showing - own_showing) * 100 >= limits.NEIGHBOURS_PERCENT * others


class _Around:
    """Kiosks on one uplink fail together, or those of one site; where neither tells, the city does."""

    def __init__(self, kiosks: Iterable[Kiosk], alone: Mapping[int, Signals]) -> None:
        self._near: defaultdict[object, _Counts] = defaultdict(_Counts)
        self._city: defaultdict[int, _Counts] = defaultdict(_Counts)
        for each in kiosks:
            signals = alone[each.kiosk_id]
            if signals.duty is Duty.ON:
                self._near[each.line or each.site].add(signals)
                self._city[each.city].add(signals)

    def of(self, kiosk: Kiosk, own: Signals) -> Neighbours:
        if own.duty is not Duty.ON:
            return Neighbours()
        near, city = self._near[kiosk.line or kiosk.site], self._city[kiosk.city]
        failing, paying = own.payments is Payments.FAILING, own.payments is not Payments.NONE
        quiet, used = own.sessions is Sessions.QUIET, own.sessions is not Sessions.UNKNOWN

        def most_failing(of: _Counts) -> bool | None:
            return _most(of.failing, of.paying, failing, paying)

        def most_quiet(of: _Counts) -> bool | None:
            return _most(of.quiet, of.used, quiet, used)

        return Neighbours(
            dark=bool(_most(near.dark, near.on, _dark(own), True)),
            cut=bool(_most(near.cut, near.on, _cut(own), True)),
            failing=bool(_either(most_failing(near), most_failing(city))),
            quiet=bool(_either(most_quiet(near), most_quiet(city))),
        )


def _either(near: bool | None, far: bool | None) -> bool | None:
    return far if near is None else near
