"""``gridswitch verify-model``: the shipped machine against every host profile, then with each single rule removed.

The table and the guards that are explored are the ones that run in production. A mutation is a subclass of the
machine with another table or another guard, or another ``Conduct`` of the code around it; nothing shipped knows of it.
The verdict: no violation and no stuck state in any profile, and every removal caught in at least one.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from switch.errors import StartError
from switch.machines.payment import COMPLETED, Facts, HostProfile, Payment
from switch.machines.payment_table import GUARDS, ROWS, Input, Row, index
from switch.model.payment import FINAL, State
from switch.sim.modelcheck import AS_SHIPPED, FOUND_ONLY, Conduct, ModelCheck, Profile, Verdict, iter_rows

_WORST: Final = HostProfile(
    reversal_00_any=True, not_found_proves=False, deduplicates=False, fence="none", inquiry="none"
)

PROFILES: Final = (
    Profile("well_behaved", "finds what it knows, in order; tombstones, status by serial, no serial posted twice"),
    Profile("unordered", "connections overtake each other: a reversal may come before its purchase", ordered=False),
    Profile(
        "00_for_not_found",
        "the card host answers 00 to the reversal of something it never saw",
        host=replace(FOUND_ONLY, reversal_00_any=True),
        ordered=False,
        not_found_00=True,
    ),
    Profile(
        "25_for_reversed",
        "25 also means: another day, or reversed already; so it proves nothing",
        host=replace(FOUND_ONLY, not_found_proves=False),
        ordered=False,
        reversed_25=True,
    ),
    Profile(
        "25_believed",
        "25 is said to prove that nothing is charged, and is answered to what is reversed already",
        ordered=False,
        reversed_25=True,
    ),
    Profile("94_hides_a_charge", "an ambiguous code may stand for a charge", ordered=False, ambiguous_charge=True),
    Profile(
        "15_without_tombstone",
        "cancel undoes what is posted, and forbids nothing",
        host=replace(FOUND_ONLY, fence="cancel_if_posted"),
    ),
    Profile("no_inquiry", "nobody can be asked for a posting", host=replace(FOUND_ONLY, inquiry="none")),
    Profile("no_dedupe", "a serial that comes twice is posted twice", host=replace(FOUND_ONLY, deduplicates=False)),
    Profile(
        "only_cancel",
        "nobody can be asked and a serial may be posted twice, but a cancel forbids",
        host=replace(FOUND_ONLY, inquiry="none", deduplicates=False),
    ),
    Profile("two_postings", "one charge, two months", postings=2),
    Profile(
        "no_cancel",
        "there is no cancel at all",
        host=replace(FOUND_ONLY, fence="none"),
    ),
    Profile(
        "no_cancel_refusals_kept",
        "no cancel, no day that ends, and what was refused once is refused for ever",
        host=replace(FOUND_ONLY, fence="none"),
        keeps_refusals=True,
        closes=False,
    ),
    Profile(
        "no_cancel_two_postings",
        "no cancel, and two months on one charge",
        host=replace(FOUND_ONLY, fence="none"),
        postings=2,
    ),
    Profile(
        "chip_decides",
        "the acquirer wants the card's chip to have the last word on a charge",
        host=replace(FOUND_ONLY, emv_completion="wait"),
    ),
    Profile(
        "ydlw",
        "the published YDLW interface until it is certified, and a card host that nobody has asked yet",
        host=HostProfile(deduplicates=False, fence="cancel_if_posted", inquiry="history"),
        postings=2,
        ordered=False,
        not_found_00=True,
        reversed_25=True,
        ambiguous_charge=True,
    ),
    Profile(
        "worst",
        "no inquiry, no dedupe, no cancel, and codes that mean nothing",
        host=_WORST,
        ordered=False,
        not_found_00=True,
        reversed_25=True,
        ambiguous_charge=True,
    ),
)


# ---------------------------------------------------------------------------------------------------- mutations
@dataclass(frozen=True, slots=True)
class Mutation:
    """One rule removed."""

    name: str
    says: str
    machine: type[Payment] = Payment
    conduct: Conduct = AS_SHIPPED
    workers: int = 1
    profile: str = "well_behaved"  # where it is looked for first; the others follow


def without(*numbers: str, add: Iterable[Row] = ()) -> type[Payment]:
    """The machine without these rows, and with others before all the rest."""
    rows = (*add, *(row for row in ROWS if row.number not in numbers))
    return type("Mutant", (Payment,), {"table": index(rows)})


def believing(**guards: Callable[[Payment, Facts, float], bool]) -> type[Payment]:
    """The machine with other guards."""
    return type("Mutant", (Payment,), {f"_if_{name}": guard for name, guard in guards.items()})


class _ToldEarly(Payment):
    @property
    def answer(self) -> str:
        return COMPLETED if self.state is State.BILL_PENDING else super().answer


def _refused_though_part_posted(payment: Payment, facts: Facts, now: float) -> bool:
    return payment.refused and payment.profile.fence == "none" and payment._if_absent_for_good(facts, now)


def _ever_sent_twice(payment: Payment, facts: Facts, now: float) -> bool:
    posting = payment.current
    return posting is not None and posting.sends > 1


def _after_quiet(payment: Payment, facts: Facts, now: float) -> bool:
    return not payment.approved_seen and now >= payment.purchase_written_at + payment.times.quiet_s


def _latest_reversal(payment: Payment, facts: Facts, now: float) -> bool:
    since = payment.approved_at if payment.approved_seen else payment.purchase_written_at + payment.times.quiet_s
    return payment.reversal_written_at >= since


def _other_day_too(payment: Payment, facts: Facts, now: float) -> bool:
    return payment.profile.not_found_proves and payment._quiet(now)


S, I = State, Input  # noqa: E741 - as in the table
_UNDO: Final = ("tell", "send_reversal")


def _instead(number: str, *actions: str, to: State, guard: str | None = None) -> type[Payment]:
    """The machine with one row replaced: same state and input, another end."""
    old = next(row for row in ROWS if row.number == number)
    return without(number, add=[Row(f"{number}!", old.state, old.given, to, actions, guard)])


MUTATIONS: Final = (
    Mutation("M1", "the purchase leaves before its record is durable", conduct=Conduct(durable_first=False)),
    Mutation("M2", "25 is always final", believing(absence_proved=lambda *_: True)),
    Mutation(
        "M3", "25 is judged when it is heard, not by when the reversal left", believing(absence_proved=_after_quiet)
    ),
    Mutation("M4", "a reversal is given up", _instead("17i", "tell", to=S.REVERSED)),
    Mutation("M5", "any answer to a reversal ends it", _instead("17", "tell", to=S.REVERSED)),
    Mutation("M6", "the purchase is sent again after silence", _instead("6", "send_purchase", to=S.CARD_PENDING)),
    Mutation(
        "M7",
        "an inquiry that finds nothing reverses the card without a fence",
        _instead("10r", "reason_06", *_UNDO, to=S.REVERSAL_PENDING),
    ),
    Mutation(
        "M8",
        "a late approval turns a decided reversal back into a sale",
        _instead("6l", "book_charge", "send_post", to=S.BILL_PENDING),
    ),
    Mutation("M9", "the kiosk is told OK when the card is approved", _ToldEarly),
    Mutation("M10", "two workers without compare-and-set", conduct=Conduct(compare_and_set=False), workers=2),
    Mutation("M11", "nobody takes over what a dead worker left", conduct=Conduct(recovers=False)),
    Mutation(
        "M12",
        "a refused posting reverses the card without a fence",
        _instead("9", "reject", "reason_06", *_UNDO, to=S.REVERSAL_PENDING),
    ),
    Mutation(
        "M13", "two workers, and no look at the lease before a write", conduct=Conduct(lease_checked=False), workers=2
    ),
    Mutation("M14", "not found counts after the cut-over too", believing(absence_proved=_other_day_too)),
    Mutation(
        "C2",
        "00 is final at once where it may mean not found",
        believing(reversal_proved=lambda *_: True),
        profile="00_for_not_found",
    ),
    Mutation(
        "C2-late",
        "00 is judged by the latest reversal, though it may answer an earlier one",
        believing(reversal_proved=_latest_reversal),
        profile="00_for_not_found",
    ),
    Mutation(
        "C3",
        "not found ends a payment whose approval was seen",
        without(
            "16s", add=[Row("16s!", S.REVERSAL_PENDING, I.REVERSAL_NOT_FOUND, S.REVERSED, ("tell",), "approval_held")]
        ),
    ),
    Mutation(
        "C3-profile",
        "not found proves it, whatever the profile says",
        believing(absence_proved=lambda payment, facts, now: payment._quiet(now)),
        profile="25_for_reversed",
    ),
    Mutation(
        "C3-late",
        "a late approval is not remembered",
        without("6l", "6p", "6m", "16l", "16q", "16m", "18l", "18p"),
        profile="25_believed",
    ),
    Mutation(
        "C4",
        "an ambiguous code is taken as a decline",
        _instead("4", "tell", to=S.DECLINED),
        profile="94_hides_a_charge",
    ),
    Mutation(
        "C14",
        "a bill is posted when the issuer approves, though the chip has the last word",
        believing(chip_decides=lambda *_: False),
        profile="chip_decides",
    ),
    Mutation(
        "C14-silent",
        "a chip that says nothing is taken to accept",
        _instead("6c", "send_post", to=S.BILL_PENDING),
        profile="chip_decides",
    ),
    Mutation(
        "C14-refused",
        "a chip that refuses is not listened to",
        _instead("4a", "send_post", to=S.BILL_PENDING),
        profile="chip_decides",
    ),
    Mutation(
        "C14-heir",
        "who takes over a payment that waits for its chip goes on without that",
        _instead("6v", "send_post", to=S.BILL_PENDING),
        profile="chip_decides",
    ),
    Mutation(
        "C14-end",
        "a charge that the chip has refused stays",
        _instead("4a", "tell", to=S.DECLINED),
        profile="chip_decides",
    ),
    Mutation("C4-10", "a partial approval is taken as a decline", _instead("4p", "tell", to=S.DECLINED)),
    Mutation("5", "an answer under a wrong MAC is taken as a decline", _instead("5", "tell", to=S.DECLINED)),
    Mutation(
        "C5",
        "'nothing to undo' counts as a fence at once",
        believing(absent_in_doubt=lambda *_: False),
        profile="15_without_tombstone",
    ),
    Mutation(
        "C5-twice",
        "an undone posting that was sent twice counts as gone at once",
        believing(undo_in_doubt=lambda *_: False),
        profile="15_without_tombstone",
    ),
    Mutation(
        "C6",
        "posts again where a serial is not recognised",
        believing(may_repost=lambda *_: True),
        profile="no_dedupe",
    ),
    Mutation("C7", "silence takes back what is 'being booked'", believing(may_cancel=lambda *_: True)),
    Mutation("C9", "a month stays posted", believing(more_to_cancel=lambda *_: False), profile="two_postings"),
    Mutation(
        "C9-one", "one month posted completes it", believing(more_to_post=lambda *_: False), profile="two_postings"
    ),
    Mutation(
        "C9-part",
        "without a cancel: a refused month takes the charge back though another is posted",
        believing(part_posted=lambda *_: False),
        profile="no_cancel_two_postings",
    ),
    Mutation(
        "9w",
        "without a cancel: a refusal counts though an earlier posting is unanswered",
        believing(post_in_doubt=lambda *_: False),
        profile="no_cancel",
    ),
    Mutation(
        "9w-kept",
        "without a cancel: a refusal is doubted for ever, whatever an inquiry says",
        believing(post_in_doubt=_ever_sent_twice),
        profile="no_cancel_refusals_kept",
    ),
    Mutation(
        "10e",
        "without a cancel: a refusal and an inquiry that finds nothing count while a posting may be acted on",
        believing(refused_for_good=lambda payment, facts, now: payment.refused),
        profile="no_cancel",
    ),
    Mutation(
        "10e-part",
        "without a cancel: a month that is refused for good takes the charge back though another is posted",
        believing(refused_for_good=_refused_though_part_posted),
        profile="no_cancel_two_postings",
    ),
    Mutation(
        "12",
        "the time for posting ends in a reversal without a fence",
        _instead("12", "reason_06", *_UNDO, to=S.REVERSAL_PENDING, guard="may_give_up"),
    ),
    Mutation(
        "14", "a posting that the fence found is taken as cancelled", _instead("14", *_UNDO, to=S.REVERSAL_PENDING)
    ),
    Mutation("6", "silence is taken as not sent", _instead("6", "tell", to=S.DECLINED)),
    Mutation("6r", "what a dead worker may have sent is taken as not sent", _instead("6r", "tell", to=S.DECLINED)),
    Mutation("13i", "a cancel that nobody answered is not repeated", without("13w")),
    Mutation("17i", "a reversal that nobody answered is not repeated", without("17")),
    Mutation("18", "at the cut-over nobody is told of a reversal that is still open", without("18")),
    Mutation("19", "people close a case as returned while the card is charged", _instead("20", "tell", to=S.COMPLETED)),
)


# ---------------------------------------------------------------------------------------------------- the verdict
@dataclass(frozen=True, slots=True)
class Job:
    """One exploration, small enough to be sent to another process: names, not machines."""

    profile: str
    mutation: str = ""
    workers: int = 1
    late_bill: bool = False

    def run(self) -> Verdict:
        profile = next(profile for profile in PROFILES if profile.name == self.profile)
        mutation = next((each for each in MUTATIONS if each.name == self.mutation), Mutation("", ""))
        return ModelCheck(
            profile,
            machine=mutation.machine,
            conduct=mutation.conduct,
            workers=self.workers,
            late_bill=self.late_bill,
            cut_over=self.workers == 1,
        ).run()


def run_profile(name: str, workers: int) -> tuple[str, Verdict, float]:
    """Every world of one profile: with the time for posting before and after the card network's day."""
    started = time.perf_counter()
    whole = Verdict(0, 0)
    rows: frozenset[str] = frozenset()
    for late_bill in (False, True):
        verdict = Job(name, workers=workers, late_bill=late_bill).run()
        rows |= verdict.rows
        whole = replace(verdict, states=whole.states + verdict.states, edges=whole.edges + verdict.edges, rows=rows)
        if not verdict.holds:
            break
    return name, whole, time.perf_counter() - started


def run_mutation(name: str) -> tuple[str, str, Verdict | None, float]:
    """Name, the profile that caught it ("" if none did), its verdict."""
    started = time.perf_counter()
    mutation = next(each for each in MUTATIONS if each.name == name)
    profiles = [mutation.profile, *(profile.name for profile in PROFILES if profile.name != mutation.profile)]
    for profile in profiles:
        for late_bill in (False, True):
            verdict = Job(profile, name, mutation.workers, late_bill).run()
            if verdict.violation or verdict.stuck:
                return name, profile, verdict, time.perf_counter() - started
    return name, "", None, time.perf_counter() - started


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    ways: dict[tuple[str, str], list[str]] = {}
    for row in ROWS:
        ways.setdefault((row.state, row.next), []).append(row.number)
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> NEW"]
    lines += [f"    {before} --> {after}: {', '.join(numbers)}" for (before, after), numbers in ways.items()]
    lines += [f"    {state} --> [*]" for state in State if state in FINAL]
    return "\n".join([*lines, "```"])


def table() -> str:
    """The rows and what their guards ask, as Markdown."""
    lines = ["| row | state | input | if | next | actions, in order |", "|---|---|---|---|---|---|"]
    for row in ROWS:
        number = row.number if row.durable else f"{row.number} ○"
        after = "stays" if row.next is row.state else f"**{row.next}**"
        lines.append(
            f"| {number} | {row.state} | {row.given} | {row.guard or ''} | {after} | {', '.join(row.actions)} |"
        )
    lines += ["", "What the guards ask:", "", "| guard | holds when |", "|---|---|"]
    return "\n".join([*lines, *(f"| {guard} | {question} |" for guard, question in GUARDS.items())])


DOCUMENTED: Final = {"diagram": diagram, "table": table}


def documented(text: str) -> str:
    """A document with its generated parts made anew, e.g. what stands between <!-- diagram --> and <!-- /diagram -->.

    Raises:
        StartError: A mark is missing.
    """
    for name, make in DOCUMENTED.items():
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->\n")
        if not begin or not end:
            raise StartError("document", f"the marks <!-- {name} --> and <!-- /{name} --> are missing; put them back")
        text = f"{before}{begin}{make()}\n{end}{after}"
    return text


def add_verify_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "verify-model",
        help="explore every state of a payment for every host profile, then with each rule removed",
        description="Explores the shipped machine exhaustively: crashes between any two steps, loss, delay, repetition "
        "and reordering of every message, days that end at any moment, for every profile of host behaviour. Then "
        "removes one rule after the other and expects each removal to be caught. Exit status 0 only if nothing is "
        "violated, nothing is stuck and every removal is caught.",
    )
    parser.add_argument(
        "--workers",
        type=int,
        choices=(1, 2),
        default=1,
        help="2: two racing workers, without a cut-over and without mutations (minutes)",
    )
    parser.add_argument(
        "--profile", choices=[profile.name for profile in PROFILES], help="only this one, and no mutations"
    )
    parser.add_argument(
        "--mutation", choices=[mutation.name for mutation in MUTATIONS], help="only this one, with its counterexample"
    )
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, metavar="N", help="default: one per processor"
    )
    parser.add_argument(
        "--document",
        type=Path,
        metavar="FILE",
        help="write the diagram and the table into this document, and nothing else",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.set_defaults(run=_verify)


def _verify(arguments: argparse.Namespace) -> int:
    if arguments.document is not None:
        old = arguments.document.read_text(encoding="utf-8")
        arguments.document.write_text(documented(old), encoding="utf-8")
        return 0
    if arguments.mutation:
        return _show_mutation(arguments.mutation)
    profiles = [arguments.profile] if arguments.profile else [profile.name for profile in PROFILES]
    mutations = [] if arguments.profile or arguments.workers > 1 else [mutation.name for mutation in MUTATIONS]
    held: list[tuple[str, Verdict, float]] = []
    caught: list[tuple[str, str, Verdict | None, float]] = []
    with ProcessPoolExecutor(arguments.processes) as pool:
        print(f"the machine as shipped, {arguments.workers} worker{'s' if arguments.workers > 1 else ''}", flush=True)
        for name, verdict, seconds in pool.map(run_profile, profiles, [arguments.workers] * len(profiles)):
            held.append((name, verdict, seconds))
            said = "holds" if verdict.holds else verdict.violation or f"{verdict.stuck} states are stuck"
            print(
                f"  {name:<24}{verdict.states:>11,} states{verdict.edges:>13,} steps{seconds:>7.1f} s  {said}",
                flush=True,
            )
            _print_trace(verdict)
        if mutations:
            print("with one rule removed", flush=True)
        for name, profile, found, seconds in pool.map(run_mutation, mutations):
            caught.append((name, profile, found, seconds))
            says = next(mutation.says for mutation in MUTATIONS if mutation.name == name)
            what = (found.violation or f"{found.stuck} states are stuck") if found else "NOT CAUGHT"
            print(f"  {name:<12}{says}\n{'':14}{f'{profile}: ' if profile else ''}{what}", flush=True)
    unused = sorted(set(iter_rows(Payment)) - set().union(*(verdict.rows for _, verdict, _ in held)))
    violations = sum(bool(verdict.violation) for _, verdict, _ in held)
    stuck = sum(verdict.stuck for _, verdict, _ in held)
    unfinished = sum(not verdict.complete for _, verdict, _ in held)
    missed = [name for name, profile, _, _ in caught if not profile]
    states = sum(verdict.states for _, verdict, _ in held)
    print(
        f"{len(held)} profiles, {states:,} states: {violations} violations, {stuck} stuck; "
        f"{len(caught) - len(missed)} of {len(caught)} mutations caught"
    )
    if unfinished:
        print(f"{unfinished} profiles have more states than the bound: nothing is proved for them")
    if not arguments.profile and unused:
        print(f"rows that no exploration took: {', '.join(unused)}")
    if arguments.json:
        print(
            json.dumps(
                {
                    "profiles": {name: {"states": v.states, "holds": v.holds} for name, v, _ in held},
                    "mutations": {name: profile for name, profile, _, _ in caught},
                    "states": states,
                    "violations": violations,
                    "stuck": stuck,
                    "missed": missed,
                    "unused_rows": unused,
                }
            )
        )
    return 1 if violations or stuck or missed or unfinished else 0


def _show_mutation(name: str) -> int:
    _, profile, found, seconds = run_mutation(name)
    if found is None:
        print(f"{name}: not caught in any profile ({seconds:.1f} s)")
        return 1
    print(f"{name}: caught in {profile}: {found.violation or f'{found.stuck} states are stuck'}")
    _print_trace(found)
    return 0


def _print_trace(verdict: Verdict) -> None:
    for step in verdict.trace or verdict.stuck_trace:
        print(f"      {step}")
