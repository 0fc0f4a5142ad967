"""What goes wrong in one simulated run: drawn from its seed before it starts, printed, and cut down when it finds
something.

A plan is plain data, so a failing one can be replayed, shortened and read.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Final, Literal

import msgspec

from switch.limits import STANDARD
from switch.sim.network import USER_TIMEOUT_S
from switch.sim.scenario import CardScenario, MarketingScenario, Scenario

SWITCH, CARD, BILL, KIOSKS = "switch", "unionpay", "marketing", "kiosks"
SECOND: Final = "second"  # another switch on the same database, in some plans
# A worker that sleeps longer than its lease, and longer than its heir needs to prove a payment reversed.
SLEEP_S: Final = (8.0, STANDARD.lease_ttl_s + STANDARD.lease_margin_s + STANDARD.quiet_s + STANDARD.late_s + 60.0)
SAFETY_S: Final = 120.0  # seconds of faults; then everything is healed and must come to an end
# A switch believes that a host is done with a request after its quiet time. Whatever holds a frame up must end well
# before: with a broken wire (30 s, network.USER_TIMEOUT_S) on top this stays below the standard profile's 60 s.
HOLD_MAX_S: Final = 15.0
# How long hosts may think: with what holds a frame up this ends before the standard profile's quiet periods do.
SKEW_MAX_S: Final = 20.0  # the machine takes a host's word for today's only until late_s (60 s) before the cut-over
CARD_LATE_S: Final = (1.0, STANDARD.quiet_s - HOLD_MAX_S - USER_TIMEOUT_S - 5.0)
BILL_LATE_S: Final = (0.5, STANDARD.marketing_quiet_s - HOLD_MAX_S - USER_TIMEOUT_S - 1.0)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong at ``at`` seconds. ``kind`` says which of the world's methods does it."""

    at: float
    kind: str
    where: str = ""
    other: str = ""
    seconds: float = 0.0
    number: int = 0

    def __str__(self) -> str:
        between = f" {self.where}" if self.where else ""
        between += f" -> {self.other}" if self.other else ""
        lasting = f" for {self.seconds:.1f} s" if self.seconds else ""
        number = f" ({self.number})" if self.number else ""
        return f"{self.at:7.3f} s  {self.kind}{between}{lasting}{number}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything about a run but the seed of its dice."""

    seed: int
    kiosks: int
    payments: int  # per kiosk
    scenario: Scenario
    faults: tuple[Fault, ...]
    found_only: bool = True  # what the card link's profile says; the host behaves accordingly
    proves: bool = True
    dedupe: bool = True
    inquiry: bool = True
    fence: Literal["tombstone", "cancel_if_posted", "none"] = "tombstone"
    workers: int = 1
    cut_over_in_s: float = 0.0  # 0: not during this run
    skew_s: float = 0.0  # so much earlier the hosts change their day than our clock says
    safety_s: float = SAFETY_S

    def describe(self) -> list[str]:
        card = "found_only" if self.found_only else "any"
        absent = "proves" if self.proves else "unproven"
        dedupe, inquiry = ("serial" if told else "none" for told in (self.dedupe, self.inquiry))
        lines = [
            f"seed {self.seed}: {self.kiosks} kiosks, {self.payments} payments each; {self.workers} of us; "
            f"card link {card}, {absent}; "
            f"marketing dedupe {dedupe}, inquiry {inquiry}, fence {self.fence}"
        ]
        if self.cut_over_in_s:
            day = f"{self.cut_over_in_s:7.3f} s  the day ends; the hosts are {self.skew_s:.1f} s ahead"
            lines.append(day)
        return lines + [str(fault) for fault in self.faults]


_LINKS: Final = ((SWITCH, CARD), (SWITCH, BILL), (KIOSKS, SWITCH))
# How often each kind is drawn, among the others.
_KINDS: Final = {
    "crash": 5,
    "crash_twice": 2,
    "pause": 3,
    "partition": 3,
    "partition_one_way": 3,
    "cut": 4,
    "reset": 3,
    "drop_frames": 3,
    "repeat_frames": 3,
    "delay_frames": 3,
    "refuse": 1,
    "hang": 1,
    "delay_answers": 1,
    "slow_network": 2,
    "slow_journal": 2,
    "unknown_commit": 3,
    "lost_commit": 3,
    "outage": 2,
    "step_clock": 1,
    "doze": 1,
}
KINDS: Final = tuple(_KINDS)


def draw(seed: int) -> Plan:
    """The plan of a seed: its own mixture of faults, not a little of everything; sometimes one of two set pieces."""
    dice = random.Random(f"{seed}|plan")
    found_only = dice.random() < 0.6
    fences: tuple[Literal["tombstone", "cancel_if_posted", "none"], ...] = ("tombstone", "cancel_if_posted", "none")
    fence = dice.choices(fences, (5, 4, 1))[0]
    plan = Plan(
        seed=seed,
        kiosks=dice.choice((1, 2, 3)),
        payments=dice.choice((1, 2, 3)),
        scenario=_scenario(dice, seed, found_only=found_only, tombstones=fence == "tombstone"),
        faults=_mixture(dice),
        found_only=found_only,
        proves=dice.random() < 0.6,
        dedupe=dice.random() < 0.75,
        inquiry=dice.random() < 0.85,
        fence=fence,
    )
    kind = dice.random()
    if kind < 0.12:
        plan = _overtaking(dice, plan)
    elif kind < 0.3:
        plan = _cut_over(dice, plan)
    return _two_workers(dice, plan) if dice.random() < 0.25 else plan


def _mixture(dice: random.Random) -> tuple[Fault, ...]:
    palette = dice.sample(KINDS, k=dice.randint(2, 7))
    weights = [_KINDS[kind] for kind in palette]
    count = dice.choice((0, 1, 2, 3, 5, 8, 12))
    faults = [_fault(dice, kind) for kind in dice.choices(palette, weights, k=count)]
    return tuple(sorted(faults, key=lambda fault: fault.at))


def _overtaking(dice: random.Random, plan: Plan) -> Plan:
    """The reversal overtakes its purchase: the card host thinks long, the link breaks meanwhile, answers come late."""
    card = msgspec.structs.replace(
        plan.scenario.unionpay, late_rate=0.8, late_s=(20.0, CARD_LATE_S[1]), late_charge_share=0.8, silence_rate=0.0
    )
    broken = round(dice.uniform(1.5, 40.0), 3)
    faults = [Fault(broken, "reset", SWITCH, CARD)]
    for _ in range(dice.randint(1, 4)):
        at = round(broken + dice.uniform(0.0, 90.0), 3)
        kind = dice.choice(("delay_answers", "partition_one_way", "drop_frames", "reset", "crash"))
        if kind == "crash":
            faults.append(Fault(at, kind, SWITCH, seconds=round(dice.uniform(0.1, 5.0), 3)))
        else:
            seconds = 0.0 if kind == "reset" else round(dice.uniform(5.0, 28.0), 3)
            faults.append(Fault(at, kind, CARD, SWITCH, seconds=seconds))
    faults.sort(key=lambda fault: fault.at)
    scenario = msgspec.structs.replace(plan.scenario, unionpay=card)
    return replace(plan, kiosks=1, payments=1, scenario=scenario, faults=tuple(faults), safety_s=2 * SAFETY_S)


def _cut_over(dice: random.Random, plan: Plan) -> Plan:
    """Both days end while something is still open, because a host could not be reached for most of the time since."""
    # Far enough from the first payments that the quiet and late period of some are over by then.
    day_ends = round(STANDARD.cut_over_s + dice.uniform(3.0, 70.0), 3)
    skew = round(dice.uniform(0.0, SKEW_MAX_S), 3)
    host = dice.choice((CARD, CARD, BILL))
    since = dice.uniform(0.8, 50.0)
    until = day_ends + dice.choice((dice.uniform(-skew, 0.0), dice.uniform(-30.0, 10.0)))
    faults = [Fault(round(since, 3), "partition", SWITCH, host, seconds=round(until - since, 3))]
    if host == CARD and dice.random() < 0.7:
        # Charged, and nobody hears of it before the day ends.
        card = msgspec.structs.replace(
            plan.scenario.unionpay, silence_rate=0.7, silence_charged_share=1.0, late_rate=0.0
        )
        plan = replace(plan, scenario=msgspec.structs.replace(plan.scenario, unionpay=card))
    faults += [fault for fault in plan.faults if fault.kind not in ("step_clock", "partition", "partition_one_way")][:3]
    faults.sort(key=lambda fault: fault.at)
    return replace(
        plan,
        faults=tuple(faults),
        cut_over_in_s=day_ends,
        skew_s=skew,
        safety_s=day_ends + 15.0,
    )


def _two_workers(dice: random.Random, plan: Plan) -> Plan:
    """What would hit the switch hits one of two; and now and then one of them falls asleep in the middle of a step."""
    faults = []
    for fault in plan.faults:
        second = SECOND if dice.random() < 0.5 else SWITCH
        where = second if fault.where == SWITCH else fault.where
        other = second if fault.other == SWITCH else fault.other
        faults.append(replace(fault, where=where, other=other))
    safety_s = plan.safety_s
    if dice.random() < 0.6:
        for _ in range(dice.choice((1, 1, 2, 3))):
            seconds = round(dice.choice((dice.uniform(*SLEEP_S), dice.uniform(SLEEP_S[0], 30.0))), 3)
            at = round(dice.uniform(0.3, 5.0) if dice.random() < 0.8 else dice.uniform(5.0, 100.0), 6)
            kind = dice.choice(("pause", "doze"))
            faults.append(Fault(at, kind, dice.choice((SWITCH, SECOND)), seconds=seconds))
            safety_s = max(safety_s, at + seconds + 1.0)
    faults.sort(key=lambda fault: fault.at)
    return replace(plan, workers=2, faults=tuple(faults), safety_s=safety_s)


def _fault(dice: random.Random, kind: str) -> Fault:
    # Most payments run in the first seconds; what comes later hits reversals and recovery.
    at = round(dice.uniform(0.5, 8.0) if dice.random() < 0.7 else dice.uniform(8.0, SAFETY_S * 0.8), 3)
    source, target = dice.choice(_LINKS)
    if dice.random() < 0.5:
        source, target = target, source
    seconds = round(dice.choice((dice.uniform(0.1, 2.0), dice.uniform(2.0, HOLD_MAX_S))), 3)
    match kind:
        case "crash" | "crash_twice" | "pause":
            where = dice.choices((SWITCH, CARD, BILL), (4, 1, 1))[0]
            return Fault(at, kind, where, seconds=seconds)
        case "doze":
            return Fault(at, kind, SWITCH, seconds=seconds)
        case "cut":
            return Fault(at, kind, source, target, number=dice.randint(1, 400))
        case "refuse" | "hang":
            return Fault(at, kind, dice.choice((SWITCH, CARD, BILL)), seconds=seconds)
        case "slow_network" | "slow_journal" | "outage":
            return Fault(at, kind, seconds=seconds)
        case "unknown_commit" | "lost_commit":
            return Fault(at, kind, seconds=round(dice.choice((0.0, dice.uniform(0.1, 8.0))), 3))
        case "step_clock":
            return Fault(at, kind, dice.choice((SWITCH, CARD, BILL)), number=dice.choice((-7200, -61, 61, 7200)))
        case "reset":
            return Fault(at, kind, source, target)
        case _:
            return Fault(at, kind, source, target, seconds=seconds)


def _scenario(dice: random.Random, seed: int, *, found_only: bool, tombstones: bool) -> Scenario:
    """How the two hosts behave: each misdeed is off, rare or common."""

    def rate(most: float) -> float:
        return dice.choice((0.0, 0.0, most / 5, most))

    partial = dice.random() < 0.2  # 10 is a definite charge, of another sum perhaps
    card = CardScenario(
        delay_ms=(1.0, 40.0),
        decline_rate=rate(0.1),
        silence_rate=rate(0.15),
        late_rate=rate(0.3),
        late_s=CARD_LATE_S,
        ambiguous_rate=rate(0.1),
        ambiguous_codes=("10",) if partial else ("68", "94", "96", "98"),
        ambiguous_charged_share=1.0 if partial else 0.5,
        drop_connection_rate=rate(0.1),
        bad_mac_rate=rate(0.08),
        duplicate_rate=rate(0.1),
        reversal_silence_rate=rate(0.4),
        reversal_not_found="25" if found_only else dice.choice(("25", "00")),
        sign_on_silence_rate=rate(0.1),
    )
    bill = MarketingScenario(
        delay_ms=(1.0, 40.0),
        refuse_rate=rate(0.15),
        refuse_nth=2,
        refuse_nth_rate=rate(0.3),
        silence_rate=rate(0.15),
        late_rate=rate(0.3),
        late_s=BILL_LATE_S,
        ambiguous_rate=rate(0.1),
        drop_connection_rate=rate(0.1),
        duplicate_rate=rate(0.1),
        cancel_silence_rate=rate(0.4),
        query_silence_rate=rate(0.2),
        tombstones=tombstones,
    )
    return Scenario(name=f"seed {seed}", seed=seed, unionpay=card, marketing=bill)


def calm(scenario: Scenario) -> Scenario:
    """The same hosts on a good day: what they answer when nothing goes wrong any more."""
    return msgspec.structs.replace(
        scenario,
        unionpay=CardScenario(
            delay_ms=scenario.unionpay.delay_ms, reversal_not_found=scenario.unionpay.reversal_not_found
        ),
        marketing=MarketingScenario(delay_ms=scenario.marketing.delay_ms, tombstones=scenario.marketing.tombstones),
    )
