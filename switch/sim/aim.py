"""Runs aimed at what drawn ones have left out.

What is missing is a row on a class of answers with a kind of fault. A plan under which the row was taken on that class
is played again with one more fault of that kind while the payment was under way: until it hits the run is the same, so
most of them still come to the row. The plan is a seed's or an aimed run's: some rows no seed takes on some class, but a
run that was aimed at something else does. Where and when follows from what is missing and the number of the try, so an
aimed run replays like a drawn one (``gridswitch sim --seed N --also FAULT --also FAULT``).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from switch.sim.coverage import BEFORE_S, Taken, possible, targets_for
from switch.sim.plan import (
    DATABASE,
    KINDS,
    SECOND,
    SWITCH,
    Fault,
    Plan,
    added,
    at_worker,
    draw,
    draw_fault,
    targets,
    with_fault,
)
from switch.sim.world import Outcome

TRIES_MAX: Final = 40  # for each that is missing; what is not reached by then is printed
_BASES_MAX: Final = 16  # plans kept of each row on each class: those that were found first, so seeds before aimed runs
_ALSO_MAX: Final = 3  # faults more than the seed's: with each, less of the run that took the row is left
_SHORT_S: Final = (0.02, 0.3, 1.0, 2.5)
_JUST_BEFORE_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class _Base:
    """A plan in whose run the row was taken, and when."""

    seed: int
    also: tuple[Fault, ...]  # more than its seed has: of an aimed run
    begins: float
    taken: float


class Aim:
    """Remembers where rows were taken; aims at what is missing, each so often at most."""

    def __init__(self) -> None:
        self._bases: dict[Taken, list[_Base]] = {}
        self._tries: Counter[Taken] = Counter()

    def add(self, outcome: Outcome) -> None:
        """What this run took can be played again with one more fault."""
        also = added(outcome.plan)
        if len(also) >= _ALSO_MAX:
            return
        for taken, (begins, at) in outcome.moments.items():
            bases = self._bases.setdefault(taken, [])
            if len(bases) < _BASES_MAX:
                bases.append(_Base(outcome.plan.seed, also, begins, at))

    def tries(self, taken: set[Taken]) -> list[Plan]:
        """The next plan for each that ``taken`` lacks, has a base, and was not tried so often yet."""
        missed = sorted(possible() - taken, key=lambda each: (each.row, each.answers, each.fault))
        return [plan for each in missed if each.fault and (plan := self._try(each)) is not None]

    def _try(self, missed: Taken) -> Plan | None:
        bases = self._bases.get(replace(missed, fault=""))
        number = self._tries[missed]
        if not bases or number >= TRIES_MAX:
            return None
        self._tries[missed] += 1
        dice = random.Random(f"{missed.row}|{missed.answers}|{missed.fault}|{number}")
        base = bases[number // 2 % len(bases)]
        is_second = bool(number % 2)  # from the same base: what the first try leaves out
        plan = draw(base.seed)
        for fault in base.also:
            plan = with_fault(plan, fault)
        last = min(base.taken, plan.safety_s - max(_SHORT_S))  # everything is healed then, and stays so
        at = dice.choice(
            (
                last - _JUST_BEFORE_S * dice.random(),
                dice.uniform(min(base.begins, last), last),
                min(base.begins, last) - dice.uniform(0.0, BEFORE_S if is_second else BEFORE_S / 4),
            )
        )
        fault = draw_fault(dice, missed.fault, dice.choice(targets_for(missed.fault, missed.row)))
        seconds = min(fault.seconds, dice.choice(_SHORT_S))
        if plan.workers > 1 and is_second:
            fault = at_worker(fault, SECOND)  # a payment that the hit worker would lose may be its neighbour's
        return with_fault(plan, replace(fault, at=round(max(at, 0.001), 6), seconds=seconds))


def in_rounds(aim: Aim, taken: set[Taken]) -> Iterator[list[Plan]]:
    """Plans to play, until nothing is missing or nothing more is tried. ``taken`` and ``aim`` grow between two
    rounds."""
    while plans := aim.tries(taken):
        yield plans


# ---------------------------------------------------------------------------------------------------- as text
def written(fault: Fault) -> str:
    return f"{fault.kind},{fault.where},{fault.other},{fault.at},{fault.seconds},{fault.number}"


def read_fault(text: str) -> Fault:
    """What ``written`` wrote.

    Raises:
        ValueError: with what was expected.
    """
    expected = f"expected KIND,WHERE,OTHER,AT,SECONDS,NUMBER, e.g. reset,switch,unionpay,1.5,0,0, not {text!r}"
    kind, *parts = text.split(",")
    if kind not in KINDS:
        raise ValueError(f"{expected}: the kinds are {', '.join(KINDS)}")
    try:
        where, other, at, seconds, number = parts
        fault = Fault(float(at), kind, where, other, float(seconds), int(number))
    except ValueError:
        raise ValueError(expected) from None
    hit = tuple(SWITCH if name == SECOND else name for name in (where, other) if name)
    places = [() if target == (DATABASE,) else target for target in targets(kind)]
    if hit not in places:
        raise ValueError(
            f"{expected}: {kind} hits {' or '.join(','.join(place) or 'nobody by name' for place in places)}"
        )
    return fault
