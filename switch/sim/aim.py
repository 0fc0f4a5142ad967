"""Runs aimed at what drawn ones have left out.

What is missing is a row on a class of answers with a kind of fault. The plan of a seed that took the row on that class
is played again with one more fault of that kind while the payment was under way: until it hits the run is the same, so
most of them still come to the row. Where and when follows from what is missing and the number of the try, so an aimed
run replays like a drawn one (``gridswitch sim --seed N --also FAULT``).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from switch.sim.coverage import BEFORE_S, Taken, possible, targets_for
from switch.sim.plan import DATABASE, KINDS, SECOND, SWITCH, Fault, Plan, draw, draw_fault, targets, with_fault
from switch.sim.world import Outcome

TRIES_MAX: Final = 24  # for each that is missing; what is not reached by then is printed
_BASES_MAX: Final = 16  # seeds kept of each row on each class: those that were found first
_SHORT_S: Final = (0.02, 0.3, 1.0, 2.5)
_JUST_BEFORE_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class _Base:
    """A seed in whose run the row was taken, and when."""

    seed: int
    begins: float
    taken: float


class Aim:
    """Remembers where rows were taken; aims at what ``taken`` lacks."""

    def __init__(self) -> None:
        self._bases: dict[Taken, list[_Base]] = {}

    def add(self, outcome: Outcome) -> None:
        for taken, (begins, at) in outcome.moments.items():
            bases = self._bases.setdefault(taken, [])
            if len(bases) < _BASES_MAX:
                bases.append(_Base(outcome.plan.seed, begins, at))

    def tries(self, taken: set[Taken], number: int) -> list[Plan]:
        """One plan for each coverage that is missing and has a base: the try of that number."""
        missed = sorted(possible() - taken, key=lambda each: (each.row, each.answers, each.fault))
        return [plan for each in missed if each.fault and (plan := self._try(each, number)) is not None]

    def _try(self, missed: Taken, number: int) -> Plan | None:
        bases = self._bases.get(replace(missed, fault=""))
        if not bases:
            return None
        dice = random.Random(f"{missed.row}|{missed.answers}|{missed.fault}|{number}")
        base = bases[number % len(bases)]
        plan = draw(base.seed)
        last = min(base.taken, plan.safety_s - max(_SHORT_S))  # everything is healed then, and stays so
        at = dice.choice(
            (
                last - _JUST_BEFORE_S * dice.random(),
                dice.uniform(min(base.begins, last), last),
                min(base.begins, last) - dice.uniform(0.0, BEFORE_S / 4),
            )
        )
        fault = draw_fault(dice, missed.fault, dice.choice(targets_for(missed.fault, missed.row)))
        seconds = min(fault.seconds, dice.choice(_SHORT_S))
        return with_fault(plan, replace(fault, at=round(max(at, 0.001), 6), seconds=seconds))


def in_rounds(aim: Aim, taken: set[Taken]) -> Iterator[list[Plan]]:
    """Plans to play, until nothing is missing or nothing more is tried. ``taken`` grows between two rounds."""
    for number in range(TRIES_MAX):
        plans = aim.tries(taken, number)
        if not plans:
            return
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
