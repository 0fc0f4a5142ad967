"""What goes wrong in one simulated run: drawn from its seed before it starts, printed, and cut down when it finds
something.

A plan is plain data, so a failing one can be replayed, shortened and read.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import msgspec

from switch.limits import STANDARD
from switch.machines.payment import HostProfile
from switch.sim import testkeys
from switch.sim.modelcheck import Profile
from switch.sim.network import USER_TIMEOUT_S
from switch.sim.scenario import CardScenario, CardScript, CardWhen, MarketingScenario, Scenario
from switch.sim.verify_model import PROFILES

SWITCH, CARD, BILL, KIOSKS = "switch", "unionpay", "marketing", "kiosks"
SECOND: Final = "second"  # another switch on the same database, in some plans
# A worker that sleeps longer than its lease, and longer than its heir needs to prove a payment reversed.
SLEEP_S: Final = (8.0, STANDARD.lease_ttl_s + STANDARD.lease_margin_s + STANDARD.quiet_s + STANDARD.late_s + 60.0)
SAFETY_S: Final = 120.0  # seconds of faults; then everything is healed and must come to an end
# A switch believes that a host is done with a request after its quiet time. Whatever holds a frame up must end well
# before: with a broken wire (30 s, network.USER_TIMEOUT_S) on top this stays below the standard profile's 60 s.
HOLD_MAX_S: Final = 15.0
# How long hosts may think: with what holds a frame up this ends before the standard profile's quiet periods do.
CARD_LATE_S: Final = (1.0, STANDARD.quiet_s - HOLD_MAX_S - USER_TIMEOUT_S - 5.0)
# The machine takes a host's word for today's only until late_s (60 s) before the cut-over: a host may be ahead of the
# others by this much, and besides any clock be wrong by this much.
DAY_SKEW_MAX_S: Final = 20.0
STEP_SMALL_S: Final = 9
_SHORT_S: Final = (0.3, 1.0, 2.5)
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
    profile: Profile = PROFILES[0]  # how both hosts behave, and what the switch was told about it
    workers: int = 1
    cut_over_in_s: float = 0.0  # the card network's day ends then; 0: not during this run
    day_close_in_s: float = 0.0  # the marketing system's, whole minutes before or after
    skew_s: float = 0.0  # so much earlier the hosts change their day than our clock says
    safety_s: float = SAFETY_S
    thinks_s: float = 0.0  # a customer, between the bills and the card
    regret_share: float = 0.12  # of customers want it taken back
    prepay_share: float = 0.0  # of customers pay in advance, whether they owe something or not
    chip_dislikes: float = 0.0  # of chips refuse what their issuer approved, and as many say nothing
    settle_in_min: int = 0  # terminals settle: yesterday's batches at once, today's from then on; 0: never
    people_decide: bool = False  # close, after a while, what waits for them

    def describe(self) -> list[str]:
        profile, host = self.profile, self.profile.host
        card = [
            "reversal 00: any" if host.reversal_00_any else "reversal 00: found_only",
            "not found proves" if host.not_found_proves else "not found is unproven",
            *(["answers 00 to what it does not find"] if profile.not_found_00 else []),
            *(["answers 25 to what is reversed already"] if profile.reversed_25 else []),
            *(["answers a refused serial as the first time"] if profile.keeps_refusals else []),
            *(["lets the chip decide"] if host.emv_completion == "wait" else []),
            *(["hides charges behind ambiguous codes"] if profile.ambiguous_charge else []),
            "acts in order" if profile.ordered else "acts in any order",
        ]
        dedupe = "serial" if host.deduplicates else "none"
        lines = [
            f"seed {self.seed}: {self.kiosks} kiosks, {self.payments} payments each; {self.workers} of us",
            f"hosts: {profile.name}: {', '.join(card)}; "
            f"{self.marketing_spec}: dedupe {dedupe}, inquiry {host.inquiry}, fence {host.fence}",
        ]
        for whose, ends in (("card network", self.cut_over_in_s), ("marketing system", self.day_close_in_s)):
            if ends:
                lines.append(f"{ends:7.3f} s  the {whose}'s day ends; the host is {self.skew_s:.1f} s ahead")
        if self.settle_in_min:
            lines.append(f"terminals settle from minute {self.settle_in_min} on")
        return lines + [str(fault) for fault in self.faults]

    @property
    def marketing_spec(self) -> str:
        """What the marketing system speaks: YDLW where the profile is one that a system can have whose interface knows
        no serials and no tombstones, and is asked for an account's history."""
        host = self.profile.host
        bare = not host.deduplicates and host.fence != "tombstone" and host.inquiry != "none"
        return "marketing_ydlw_1_0" if bare else "marketing_json_1_0"

    @property
    def ends_a_day(self) -> bool:
        return bool(self.cut_over_in_s or self.day_close_in_s)


_LINKS: Final = ((SWITCH, CARD), (SWITCH, BILL), (KIOSKS, SWITCH))
_BOTH_WAYS: Final = tuple(way for source, target in _LINKS for way in ((source, target), (target, source)))
_SETTLE_SHARE: Final = 0.4
DATABASE: Final = "database"
# What can be hit: (from, to) on a link, one node, or () when it is everything. Drawn from by ``draw_fault``, and what
# the coverage counts by.
Target = tuple[str, ...]
_NODES: Final[tuple[Target, ...]] = ((SWITCH,), (CARD,), (BILL,))


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault: how often it is drawn among the others, and what it can hit."""

    weight: int
    targets: tuple[Target, ...]


_KINDS: Final = {
    "crash": Kind(5, _NODES),
    "crash_twice": Kind(2, _NODES),
    "pause": Kind(3, _NODES),
    "partition": Kind(3, _BOTH_WAYS),
    "partition_one_way": Kind(3, _BOTH_WAYS),
    "cut": Kind(4, _BOTH_WAYS),
    "reset": Kind(3, _BOTH_WAYS),
    "drop_frames": Kind(3, _BOTH_WAYS),
    "repeat_frames": Kind(3, _BOTH_WAYS),
    "delay_frames": Kind(3, _BOTH_WAYS),
    "refuse": Kind(1, _NODES),
    "hang": Kind(1, _NODES),
    "delay_answers": Kind(1, ((CARD, SWITCH),)),
    "slow_network": Kind(2, ((),)),
    "slow_journal": Kind(2, ((DATABASE,),)),
    "unknown_commit": Kind(3, ((DATABASE,),)),
    "lost_commit": Kind(3, ((DATABASE,),)),
    "outage": Kind(2, ((DATABASE,),)),
    "step_clock": Kind(1, _NODES),
    "doze": Kind(1, ((SWITCH,),)),
}
KINDS: Final = tuple(_KINDS)
_CHIP_EVERY: Final = 4  # in each such run the acquirer wants a chip to have the last word
_PREPAY_SHARE: Final = 0.3  # of the runs whose subject does not hang on who pays what
WELL_BEHAVED_SHARE: Final = 0.3  # of the runs whose subject is not how hosts behave


# Whether a chip decides is a matter of its own, beside any of these.
_OTHERS: Final = tuple(each for each in PROFILES[1:] if each.host.emv_completion == "online_only")


# An approval with a defect, and no other oddity.
_DEFECTIVE: Final[dict[str, Any]] = {
    **dict.fromkeys(("decline_rate", "late_rate", "silence_rate", "drop_connection_rate", "bad_mac_rate"), 0.0),
    "ambiguous_rate": 0.5,
    "ambiguous_codes": ("A4",),
    "ambiguous_charged_share": 1.0,
}


def targets(kind: str) -> tuple[Target, ...]:
    return _KINDS[kind].targets


def draw(seed: int) -> Plan:
    """The plan of a seed. Its subject follows from the number, so that any range of seeds has some of each; everything
    else is drawn."""
    dice = random.Random(f"{seed}|plan")
    profile = _profile(dice)
    plan = Plan(
        seed=seed,
        kiosks=dice.choice((1, 2, 3, 3)),
        payments=dice.choice((1, 2, 3, 3)),
        scenario=Scenario(name=f"seed {seed}", seed=seed),
        faults=_mixture(dice),
        profile=profile,
        people_decide=dice.random() < 0.6,
    )
    plan = _with_hosts(dice, plan)
    plan = SUBJECTS[seed % len(SUBJECTS)](dice, plan)
    plan = _two_workers(dice, plan) if dice.random() < 0.25 else plan
    if seed % _CHIP_EVERY == 0:
        plan = _chip_decides(random.Random(f"{seed}|chip"), plan)
    # With dice of its own: what else happens under a seed stays.
    settles = random.Random(f"{seed}|settle")
    if settles.random() < _SETTLE_SHARE:
        silence = settles.choice((0.0, 0.0, 0.3, 0.7))
        card = msgspec.structs.replace(plan.scenario.unionpay, settlement_silence_rate=silence)
        plan = replace(_card(plan, card), settle_in_min=settles.choice((1, 1, 1, 2)))
        if not plan.thinks_s and settles.random() < 0.6:
            # Customers who take their time: some pay when their terminal has settled.
            plan = replace(plan, thinks_s=round(settles.uniform(5.0, 30.0), 3))
    return _careful(plan)


def _chip_decides(dice: random.Random, plan: Plan) -> Plan:
    """The acquirer waits for chips, some of which refuse or say nothing; and the switch is killed while one thinks.
    With dice of its own, so that all other runs are as they were."""
    host = replace(plan.profile.host, emv_completion="wait")
    killed = Fault(round(dice.uniform(1.0, 9.0), 3), "crash", SWITCH, seconds=round(dice.uniform(0.1, 3.0), 3))
    faults = _sorted((*plan.faults, killed)) if dice.random() < 0.5 else plan.faults
    if dice.random() < 0.1:
        plan = _card(plan, msgspec.structs.replace(plan.scenario.unionpay, **_DEFECTIVE))
    return replace(plan, profile=replace(plan.profile, host=host), chip_dislikes=0.25, faults=faults)


def _profile(dice: random.Random) -> Profile:
    """A good share well-behaved, the others as the model check has them, and any mixture of what those do."""
    roll = dice.random()
    if roll < WELL_BEHAVED_SHARE:
        return PROFILES[0]
    if roll < 0.7:
        return dice.choice(_OTHERS)
    any_00 = dice.random() < 0.4
    fences: tuple[Literal["tombstone", "cancel_if_posted", "none"], ...] = ("tombstone", "cancel_if_posted", "none")
    return Profile(
        "mixed",
        "what one host does has nothing to do with what the other does",
        host=HostProfile(
            reversal_00_any=any_00,
            not_found_proves=dice.random() < 0.5,
            deduplicates=dice.random() < 0.6,
            fence=dice.choice(fences),
            inquiry=dice.choice(("serial", "serial", "none")),
        ),
        ordered=dice.random() < 0.5,
        not_found_00=any_00 and dice.random() < 0.6,
        reversed_25=dice.random() < 0.5,
        ambiguous_charge=dice.random() < 0.5,
        keeps_refusals=dice.random() < 0.5,
    )


def _mixture(dice: random.Random) -> tuple[Fault, ...]:
    """Its own palette of faults, not a little of everything."""
    palette = dice.sample(KINDS, k=dice.randint(2, 12))
    weights = [_KINDS[kind].weight for kind in palette]
    count = dice.choice((0, 1, 3, 6, 10, 14))
    return _sorted(draw_fault(dice, kind) for kind in dice.choices(palette, weights, k=count))


def _sorted(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    return tuple(sorted(faults, key=lambda fault: fault.at))


# ---------------------------------------------------------------------------------------------------- subjects
def _anything(dice: random.Random, plan: Plan) -> Plan:
    return replace(plan, prepay_share=_PREPAY_SHARE)


def _odd_answers(dice: random.Random, plan: Plan) -> Plan:
    """A card host whose answers are seldom what one hopes for: under wrong MACs, without any, with odd codes."""
    codes = dice.choice((("10",), ("11", "A4"), ("68", "22"), ("ZZ",)))
    card = msgspec.structs.replace(
        plan.scenario.unionpay,
        decline_rate=0.15,
        bare_decline_share=0.5,
        late_rate=0.0,
        late_other_share=0.3,
        silence_rate=0.05,
        drop_connection_rate=0.05,
        duplicate_rate=0.05,
        ambiguous_rate=0.2,
        ambiguous_codes=codes,
        ambiguous_charged_share=1.0 if codes[0] in ("10", "11") else 0.5 if plan.profile.ambiguous_charge else 0.0,
        bad_mac_rate=0.4,
        bad_mac_other_share=0.8,
    )
    plan = replace(_card(plan, card), kiosks=3, payments=3, prepay_share=_PREPAY_SHARE)
    return _sprinkled(dice, plan, 20.0, CARD)


def _overtaking(dice: random.Random, plan: Plan) -> Plan:
    """The reversal overtakes its purchase: the card host thinks long, the link breaks meanwhile, answers come late."""
    card = msgspec.structs.replace(
        plan.scenario.unionpay,
        late_rate=0.8,
        late_s=(20.0, CARD_LATE_S[1]),
        late_charge_share=0.8,
        silence_rate=0.0,
        **_NO_OTHER_CHANCE,
    )
    plan = replace(plan, profile=_renamed(plan.profile, ordered=False))
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
    plan = _card(plan, card)
    return replace(plan, kiosks=1, payments=1, faults=_sorted(faults), safety_s=2 * SAFETY_S)


def _cut_over(dice: random.Random, plan: Plan) -> Plan:
    """The card network's day ends while something is still open, because a host could not be reached for most of the
    time since; sometimes the marketing system's too."""
    # Far enough from the first payments that the quiet and late period of some are over by then.
    day_ends = round(STANDARD.cut_over_s + dice.uniform(3.0, 70.0), 3)
    host = dice.choice((CARD, BILL))
    plan = _until_day_ends(dice, plan, day_ends, host)
    if host == BILL and dice.random() < 0.6:
        # Being taken back, and nobody answers.
        bill = msgspec.structs.replace(
            plan.scenario.marketing, refuse_rate=0.4, late_rate=0.0, cancel_silence_rate=0.9, query_silence_rate=0.5
        )
        plan = replace(plan, scenario=msgspec.structs.replace(plan.scenario, marketing=bill))
    if host == CARD and dice.random() < 0.7:
        # Charged, and nobody hears of it before the day ends.
        card = msgspec.structs.replace(
            plan.scenario.unionpay, silence_rate=0.7, silence_charged_share=1.0, late_rate=0.0, **_NO_OTHER_CHANCE
        )
        plan = _card(plan, card)
    close = dice.choice((0.0, 0.0, day_ends - 120.0, day_ends - 60.0, day_ends, day_ends))
    plan = replace(plan, profile=_renamed(plan.profile, closes=plan.profile.closes or bool(close)))
    plan = replace(plan, cut_over_in_s=day_ends, day_close_in_s=close, safety_s=day_ends + 15.0)
    return _sprinkled(dice, plan, day_ends, host)


def _day_close(dice: random.Random, plan: Plan) -> Plan:
    """The marketing system's day closes in the middle of business, while months are posted and taken back."""
    day_ends = round(dice.choice((dice.uniform(2.0, 12.0), dice.uniform(12.0, SAFETY_S * 0.7))), 3)
    bill = plan.scenario.marketing
    if dice.random() < 0.7:
        bill = msgspec.structs.replace(
            bill, refuse_nth_rate=0.8, cancel_silence_rate=0.5, late_rate=0.0, silence_rate=0.1
        )
        plan = replace(plan, scenario=msgspec.structs.replace(plan.scenario, marketing=bill))
    if dice.random() < 0.6:
        plan = _until_day_ends(dice, plan, day_ends, BILL)
    skew = round(dice.uniform(0.0, DAY_SKEW_MAX_S), 3)
    plan = replace(plan, profile=_renamed(plan.profile, closes=True))
    if dice.random() < 0.5:
        # Nothing keeps a posting out for good, and what is posted can be undone today only.
        host = replace(plan.profile.host, fence="cancel_if_posted")
        bill = msgspec.structs.replace(bill, tombstones=False, cancels=True)
        scenario = msgspec.structs.replace(plan.scenario, marketing=bill)
        plan = replace(plan, profile=_renamed(plan.profile, host=host), scenario=scenario)
    plan = replace(plan, payments=3, day_close_in_s=day_ends, skew_s=skew, safety_s=max(SAFETY_S, day_ends + 15.0))
    return _sprinkled(dice, plan, day_ends + 5.0, BILL)


def _until_day_ends(dice: random.Random, plan: Plan, day_ends: float, host: str) -> Plan:
    skew = round(dice.uniform(0.0, DAY_SKEW_MAX_S), 3)
    since = dice.uniform(0.8, min(50.0, day_ends / 2))
    until = day_ends + dice.choice((dice.uniform(-skew, 0.0), dice.uniform(-30.0, 10.0)))
    faults = [fault for fault in plan.faults if fault.kind not in ("partition", "partition_one_way")][:4]
    if until > since:
        faults.append(Fault(round(since, 3), "partition", SWITCH, host, seconds=round(until - since, 3)))
    return replace(plan, faults=_sorted(faults), skew_s=skew)


def _each_terminal(*does: tuple[str, int]) -> tuple[CardScript, ...]:
    """What becomes of the first reversals of each kiosk's terminal, in their order: (action, how many)."""
    terminals = [testkeys.test_terminal(number)[0] for number in (1, 2, 3)]
    return tuple(
        CardScript(when=CardWhen(message="reversal", terminal=terminal), do=do, times=times)
        for terminal in terminals
        for do, times in does
    )


_WHEN: Final = (*("unproven",) * 3, *("suspense",) * 2, "reversing", "heard_tomorrow", "too_late")


def _strays(dice: random.Random, plan: Plan) -> Plan:
    """Answers to a purchase that come when it has long been decided without them: while it is being reversed, while
    nobody can say what became of it, after the end of the day."""
    when = dice.choice(_WHEN)
    reversed_25 = when == "unproven" or plan.profile.reversed_25
    host = replace(plan.profile.host, not_found_proves=False)
    plan = replace(plan, profile=_renamed(plan.profile, host=host, reversed_25=reversed_25, ambiguous_charge=True))
    # With the times of the standard profile a fifth reversal leaves 140 to 155 s after the purchase, if each is refused
    # at once, and 200 to 216 s after it, if the first one is not answered.
    day_ends = {"heard_tomorrow": dice.uniform(154.0, 158.0), "too_late": 218.0}.get(when, 170.0)
    day_ends = round(day_ends, 3)
    first, last = {"reversing": (62.0, 150.0), "unproven": (215.0, 380.0)}.get(when, (day_ends, day_ends + 60.0))
    others = dict.fromkeys(_NO_OTHER_CHANCE, 0.0)
    if when == "reversing":
        others["decline_rate"] = 0.3
        others[dice.choice(("bad_mac_rate", "ambiguous_rate"))] = 0.35
    else:
        others[dice.choice(("bad_mac_rate", "ambiguous_rate"))] = 0.65
    codes = dice.choice((("10",), ("10",), ("11", "A2"), ("68", "09"), ("ZZ",)))
    silence, script = 0.5, tuple[CardScript, ...]()
    if when == "unproven":
        # The first reversal of each did its work; only the later ones are answered: "not found".
        silence, script = 0.0, _each_terminal(("silence:done", 1))
    elif when == "heard_tomorrow":
        # The last one of the day is done, and its answer is held up until the day is over.
        silence, script = 0.0, _each_terminal(("decline:96", 4))
    elif when == "too_late":
        # The host's day is over before ours: it does not find what it charged.
        silence, script = 0.0, _each_terminal(("silence:lost", 1), ("decline:96", 3))
    elif when == "suspense":
        silence = 0.95
    card = msgspec.structs.replace(
        plan.scenario.unionpay,
        late_rate=0.35,
        late_s=(5.0, CARD_LATE_S[1]),
        late_charge_share=0.0,
        late_other_share=1.0,
        ambiguous_codes=codes,
        ambiguous_charged_share=1.0 if codes[0] in ("10", "11") else 0.5,
        bare_decline_share=0.4,
        bad_mac_other_share=0.7,
        stray_share=0.9,
        stray_s=(first, last),
        stray_twice_share=0.4,
        stray_first_s=(62.0, 140.0),
        silence_rate=0.0,
        reversal_silence_rate=silence,
        reversal_silence_done_share=0.5,
        reversal_refuse_rate=0.0,
        reversal_bad_mac_rate=0.0,
        reversal_again="25" if reversed_25 else "00",
        script=script,
        **others,
    )
    if when in ("heard_tomorrow", "too_late"):
        plan = replace(plan, people_decide=True)
        card = msgspec.structs.replace(
            card, silence_rate=1.0, silence_charged_share=1.0, late_rate=0.0, **dict.fromkeys(_NO_OTHER_CHANCE, 0.0)
        )
        plan = replace(plan, regret_share=0.0)
    few = plan.faults[: dice.choice((0, 3, 8))]
    plan = replace(_card(plan, card), kiosks=3, payments=1, faults=few, safety_s=last + 60.0)
    if when in ("suspense", "heard_tomorrow", "too_late"):
        skew = {"heard_tomorrow": 0.0, "too_late": DAY_SKEW_MAX_S}.get(when, round(dice.uniform(0.0, 10.0), 3))
        plan = replace(plan, cut_over_in_s=day_ends, skew_s=skew)
    if when == "heard_tomorrow":
        held = Fault(round(day_ends - 24.0, 3), "delay_answers", CARD, SWITCH, seconds=28.0)
        return replace(plan, faults=(held,))  # it hangs on seconds; other faults come by aim
    return _sprinkled(dice, plan, last, CARD)


def _sprinkled(dice: random.Random, plan: Plan, until: float, near: str) -> Plan:
    """With faults of every kind at any time of a longer run, mostly near the host that the run is about; short, so that
    its subject is not lost by them."""
    faults = []
    for _ in range(dice.choice((0, 5, 10, 15))):
        kind = dice.choice(KINDS)
        places = [target for target in _KINDS[kind].targets if near in target] if dice.random() < 0.6 else []
        fault = draw_fault(dice, kind, dice.choice(places) if places else None)
        faults.append(replace(fault, at=round(dice.uniform(1.0, until), 3), seconds=dice.choice(_SHORT_S)))
    return replace(plan, faults=_sorted((*plan.faults, *faults)))


def _doubtful_posts(dice: random.Random, plan: Plan) -> Plan:
    """A marketing system without tombstones or without a cancel, that refuses and stays silent: what is refused, or
    taken back, may have been posted all the same, and customers want their money back meanwhile."""
    fence: Literal["cancel_if_posted", "none"] = dice.choice(("cancel_if_posted", "none", "none"))
    inquiry: Literal["serial", "none"] = dice.choice(("serial", "serial", "serial", "none"))
    host = replace(plan.profile.host, fence=fence, deduplicates=dice.random() < 0.8, inquiry=inquiry)
    keeps_refusals = fence == "none" and dice.random() < 0.4
    profile = _renamed(plan.profile, host=host, keeps_refusals=keeps_refusals)
    bill = msgspec.structs.replace(
        plan.scenario.marketing,
        refuse_rate=0.3,
        refuse_silence_share=0.4,
        refuse_nth_rate=dice.choice((0.0, 0.4)),
        silence_rate=0.3,
        silence_posted_share=0.3,
        late_rate=0.2,
        late_s=(STANDARD.post_s, BILL_LATE_S[1]),  # longer than it is waited for
        late_post_share=0.9,
        drop_connection_rate=0.1,
        ambiguous_rate=0.05,
        duplicate_rate=0.0,
        cancels=fence != "none",
        tells_status=inquiry != "none",
        tombstones=False,
        keeps_refusals=profile.keeps_refusals,
        knows_serials=host.deduplicates,
    )
    scenario = msgspec.structs.replace(plan.scenario, marketing=bill)
    plan = replace(plan, profile=profile, scenario=scenario, regret_share=0.4)
    return _sprinkled(dice, plan, SAFETY_S, BILL)


def _long_outage(dice: random.Random, plan: Plan) -> Plan:
    """The marketing system takes requests and cannot answer, for longer than anybody may post."""
    if dice.random() < 0.5:
        # The customer is told that nobody knows yet: the bill had to be asked for again after a restart, the commit
        # and the card host took nearly as long as they may. Only then silence may take back what was posted (C7).
        card = CardScenario(late_rate=1.0, late_charge_share=0.0, late_s=(STANDARD.card_s - 0.8, STANDARD.card_s - 0.2))
        scenario = Scenario(
            name=plan.scenario.name,
            seed=plan.seed,
            unionpay=card,
            marketing=msgspec.structs.replace(plan.scenario.marketing, inquiry_ms=(9_400.0, 9_800.0)),
        )
        plan = replace(plan, scenario=scenario, kiosks=3, payments=1, thinks_s=16.0)
        faults = [Fault(24.0, "crash", SWITCH, seconds=0.5), Fault(26.0, "unknown_commit", seconds=3.4)]
        since = dice.uniform(88.0, 98.0)
    else:
        faults, since = list(plan.faults[:4]), dice.uniform(1.0, 8.0)
    until = STANDARD.bill_s + dice.uniform(55.0, 75.0)
    kind = dice.choice(("partition", "partition_one_way"))
    faults.append(Fault(round(since, 3), kind, BILL, SWITCH, seconds=round(until - since, 3)))
    for _ in range(dice.choice((3, 6, 9))):
        # Not the switch, nor anything that would end the outage: an heir takes nothing back on silence (C7).
        fault = draw_fault(dice, dice.choice(KINDS))
        if (SWITCH not in (fault.where, fault.other) or CARD in (fault.where, fault.other)) and fault.kind != "outage":
            faults.append(replace(fault, at=round(dice.uniform(since + 5.0, until), 3), seconds=dice.choice(_SHORT_S)))
    return replace(plan, faults=_sorted(faults), safety_s=until + 5.0)


# What else a purchase can meet: switched off where a subject needs the room, for chances of one request are exclusive.
_NO_OTHER_CHANCE: Final = {
    "decline_rate": 0.0,
    "ambiguous_rate": 0.05,
    "drop_connection_rate": 0.0,
    "bad_mac_rate": 0.05,
    "duplicate_rate": 0.0,
}
Subject = Callable[[random.Random, Plan], Plan]
SUBJECTS: Final[tuple[Subject, ...]] = (
    _anything,
    _overtaking,
    _day_close,
    _strays,
    _cut_over,
    _doubtful_posts,
    _strays,
    _odd_answers,
    _long_outage,
    _strays,
    _day_close,
    _doubtful_posts,
    _cut_over,
    _strays,
    _anything,
    _strays,
)


def _two_workers(dice: random.Random, plan: Plan) -> Plan:
    """What would hit the switch hits one of two; and now and then one of them falls asleep in the middle of a step."""
    faults = []
    for fault in plan.faults:
        faults.append(at_worker(fault, SECOND if dice.random() < 0.5 else SWITCH))
    safety_s = plan.safety_s
    if dice.random() < 0.6:
        for _ in range(dice.choice((1, 1, 2, 3))):
            seconds = round(dice.choice((dice.uniform(*SLEEP_S), dice.uniform(SLEEP_S[0], 30.0))), 3)
            at = round(dice.uniform(0.3, 5.0) if dice.random() < 0.8 else dice.uniform(5.0, 100.0), 6)
            kind = dice.choice(("pause", "doze"))
            faults.append(Fault(at, kind, dice.choice((SWITCH, SECOND)), seconds=seconds))
            safety_s = max(safety_s, at + seconds + 1.0)
    return replace(plan, workers=2, faults=_sorted(faults), safety_s=safety_s)


def _careful(plan: Plan) -> Plan:
    """Without what no switch could survive, because it breaks what the profile or a day promises."""
    host = plan.profile.host
    faults = []
    for fault in plan.faults:
        if fault.kind == "step_clock" and plan.ends_a_day:
            # Both clocks are judged by the day that they believe in; a wrong one may cost what late_s allows for.
            fault = replace(fault, number=round(fault.number / abs(fault.number)) * STEP_SMALL_S)  # noqa: PLW2901
        if (
            fault.kind == "repeat_frames"
            and fault.other == BILL
            and not (host.deduplicates and host.fence == "tombstone")
        ):
            # No wire is known that repeats by itself; a host that cannot tell would be undone by one (``modelcheck``).
            fault = replace(fault, where=fault.other, other=fault.where)  # noqa: PLW2901
        faults.append(fault)
    return replace(plan, faults=tuple(faults))


def _renamed(profile: Profile, **changes: Any) -> Profile:
    """A profile that had to be changed for a subject is none of the model check's any more."""
    changed = replace(profile, **changes)
    return profile if changed == profile else replace(changed, name="mixed", says="changed for the run's subject")


def _card(plan: Plan, card: CardScenario) -> Plan:
    return replace(plan, scenario=msgspec.structs.replace(plan.scenario, unionpay=card))


def with_fault(plan: Plan, fault: Fault) -> Plan:
    """The same plan, and one more thing that goes wrong, as careful of promises as a drawn one."""
    return _careful(replace(plan, faults=_sorted((*plan.faults, fault))))


def added(plan: Plan) -> tuple[Fault, ...]:
    """Its faults that the seed did not draw, in an order in which ``with_fault`` gives the same plan again."""
    drawn = draw(plan.seed).faults
    return tuple(fault for fault in plan.faults if fault not in drawn)


def at_worker(fault: Fault, name: str) -> Fault:
    """What would hit the switch hits the worker of that name."""
    return replace(
        fault,
        where=name if fault.where == SWITCH else fault.where,
        other=name if fault.other == SWITCH else fault.other,
    )


def draw_fault(dice: random.Random, kind: str, target: Target | None = None) -> Fault:
    # Most payments run in the first seconds; what comes later hits reversals and recovery.
    at = round(dice.uniform(0.5, 8.0) if dice.random() < 0.7 else dice.uniform(8.0, SAFETY_S * 0.8), 3)
    if target is None:
        target = (SWITCH,) if kind in _AT_SWITCH_MOSTLY and dice.random() < 0.5 else dice.choice(_KINDS[kind].targets)
    where, other = (*target, "", "")[:2] if target != (DATABASE,) else ("", "")
    seconds = round(dice.choice((dice.uniform(0.1, 2.0), dice.uniform(2.0, HOLD_MAX_S))), 3)
    number = 0
    match kind:
        case "cut":
            seconds, number = 0.0, dice.randint(1, 400)
        case "reset":
            seconds = 0.0
        case "unknown_commit" | "lost_commit":
            seconds = round(dice.choice((0.0, dice.uniform(0.1, 8.0))), 3)
        case "step_clock":
            seconds, number = 0.0, dice.choice((-7200, -61, 61, 7200))
    return Fault(at, kind, where, other, seconds, number)


_AT_SWITCH_MOSTLY: Final = ("crash", "crash_twice", "pause")


# ---------------------------------------------------------------------------------------------------- hosts
def _with_hosts(dice: random.Random, plan: Plan) -> Plan:
    """How the two hosts fail: each misdeed is off, rare or common, and within what their profile says of them."""

    def rate(most: float) -> float:
        return dice.choice((0.0, 0.0, most / 5, most))

    profile, host = plan.profile, plan.profile.host
    # 10 is a definite charge, of another sum perhaps; 11, A2 … are approvals with a defect.
    codes, charged = dice.choice(
        (
            (("68", "94", "96", "98"), 0.5 if profile.ambiguous_charge else 0.0),
            (("09", "A7", "ZZ"), 0.5 if profile.ambiguous_charge else 0.0),
            (("10",), 1.0),
            (("11", "A2", "A4"), 1.0),
        )
    )
    card = CardScenario(
        delay_ms=(1.0, 40.0),
        decline_rate=rate(0.1),
        bare_decline_share=dice.choice((0.0, 0.3)),
        silence_rate=rate(0.15),
        late_rate=rate(0.3),
        late_s=CARD_LATE_S,
        late_charge_share=0.0 if profile.ordered else 0.5,
        late_other_share=dice.choice((0.0, 0.5)),
        ambiguous_rate=rate(0.1),
        ambiguous_codes=codes,
        ambiguous_charged_share=charged,
        drop_connection_rate=rate(0.1),
        bad_mac_rate=rate(0.12),
        bad_mac_other_share=dice.choice((0.0, 0.6)),
        duplicate_rate=rate(0.1),
        reversal_silence_rate=rate(0.4),
        reversal_refuse_rate=rate(0.2),
        reversal_bad_mac_rate=rate(0.2),
        reversal_not_found="00" if profile.not_found_00 else "25",
        reversal_again="25" if profile.reversed_25 else "00",
        sign_on_silence_rate=rate(0.1),
    )
    bill = MarketingScenario(
        delay_ms=(1.0, 40.0),
        refuse_rate=rate(0.15),
        refuse_codes=dice.choice((("29", "100", "09"), ("06", "73"))),
        refuse_silence_share=dice.choice((0.0, 0.3)),
        refuse_nth=2,
        refuse_nth_rate=rate(0.3),
        silence_rate=rate(0.15),
        late_rate=rate(0.3),
        late_s=BILL_LATE_S,
        ambiguous_rate=rate(0.1),
        drop_connection_rate=rate(0.1),
        duplicate_rate=rate(0.1),
        cancel_silence_rate=rate(0.4),
        cancel_ambiguous_rate=rate(0.2),
        query_silence_rate=rate(0.2),
        query_ambiguous_rate=rate(0.2),
        tombstones=host.fence == "tombstone",
        keeps_refusals=profile.keeps_refusals,
        cancels=host.fence != "none",
        tells_status=host.inquiry != "none",
        knows_serials=host.deduplicates,
    )
    return replace(plan, scenario=msgspec.structs.replace(plan.scenario, unionpay=card, marketing=bill))


def calm(scenario: Scenario) -> Scenario:
    """The same hosts on a good day: what they answer when nothing goes wrong any more."""
    card, bill = scenario.unionpay, scenario.marketing
    return msgspec.structs.replace(
        scenario,
        unionpay=CardScenario(
            delay_ms=(1.0, 40.0), reversal_not_found=card.reversal_not_found, reversal_again=card.reversal_again
        ),
        marketing=MarketingScenario(
            delay_ms=(1.0, 40.0),
            tombstones=bill.tombstones,
            keeps_refusals=bill.keeps_refusals,
            cancels=bill.cancels,
            tells_status=bill.tells_status,
            knows_serials=bill.knows_serials,
        ),
    )
