"""``gridswitch sim``: runs of the whole switch from seeds; what fails is replayed, shortened and explained.

A rule is removed (``--break``) by giving the world another part: a mutant of the machine, or another adapter. Nothing
that ships has a switch for it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

from switch.errors import StartError
from switch.machines.payment_table import ROWS
from switch.model.batch import next_batch
from switch.ports import Append, Appended, BegunBatch, DueBatch, JournalEntry
from switch.sim.aim import Aim, in_rounds, read_fault, written
from switch.sim.coverage import Taken, possible, possible_rows
from switch.sim.plan import KINDS, Fault, Plan, added, draw, with_fault
from switch.sim.verify_model import MUTATIONS
from switch.sim.world import AS_SHIPPED, Outcome, Parts, play
from switch.store.memory import MemoryCardBatches, MemoryDatabase, MemoryJournal

BREAK_SECONDS: Final = 60.0  # a removed rule must be missed within this time
SHRINK_RUNS_MAX: Final = 400
# What only the model check misses within the time: it takes answers to an earlier reversal behind a later one that was
# lost, copies of a posting that come at the worst moment, hosts that refuse for ever, or people who err.
ONLY_MODEL: Final = frozenset({"C2-late", "C3-late", "C5-twice", "9w", "9w-kept", "10e", "10e-part", "12", "19"})
ALL_ROWS: Final = range(1, 501)  # the default; these runs take every row that can be taken, or the command fails
CRASH_SEEDS: Final = (1, 5, 8)  # golden runs of a crash sweep


# ---------------------------------------------------------------------------------------------------- removed rules
class HastyJournal(MemoryJournal):
    """M1: says that an entry is durable as soon as it has been given, and writes it afterwards."""

    def append(self, entry: JournalEntry, done: Callable[[Appended], None]) -> None:
        super().append(entry, lambda appended: None)
        done(Appended(Append.COMMITTED))


class CarelessDatabase(MemoryDatabase):
    """M10: whoever writes last is right, and an ended worker may go on writing."""

    def may_write(self, epoch: int) -> bool:
        return True

    def apply(self, entry: JournalEntry, writer: tuple[int, int]) -> Appended:
        self.events.get((entry.opened_on, entry.payment_id), {}).pop(entry.ver, None)
        return super().apply(entry, writer)


class SleepwalkingJournal(MemoryJournal):
    """M13: a worker that wakes up does not look whether its payments are still its own."""

    @property
    def may_send(self) -> bool:
        return True


class HastyBatches(MemoryCardBatches):
    """C16: the next batch begins when the 0500 leaves, not when the host has settled."""

    async def begin(self, batch: DueBatch, day: int) -> BegunBatch | None:
        begun = await super().begin(batch, day)
        terminal = self._database.terminals[batch.terminal_id]
        if begun is not None and terminal.batch_number == batch.batch_number:
            self._database.terminals[batch.terminal_id] = dataclasses.replace(
                terminal, batch_number=next_batch(batch.batch_number)
            )
        return begun


def breaks() -> dict[str, tuple[str, Parts]]:
    """Every rule that a run can do without: name, what is missing, and the parts that lack it."""
    found = {
        "M1": ("the purchase leaves before its record is durable", Parts(journal=HastyJournal)),
        "M10": ("two workers without compare-and-set", Parts(database=CarelessDatabase)),
        "M13": ("two workers, and no look at the lease before a write", Parts(journal=SleepwalkingJournal)),
        "C16": ("a batch ends when the 0500 leaves", Parts(card_batches=HastyBatches)),
    }
    for mutation in MUTATIONS:
        if mutation.workers > 1 or not mutation.conduct.durable_first or mutation.name in ONLY_MODEL:
            continue  # above, or the model check's business
        parts = Parts(machine=mutation.machine, recovers=mutation.conduct.recovers)
        found[mutation.name] = (mutation.says, parts)
    return found


# ---------------------------------------------------------------------------------------------------- many runs
@dataclass
class Tally:
    """What many runs have covered."""

    runs: int = 0
    steps: int = 0
    seconds: float = 0.0
    states: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    rows_of: dict[int, set[str]] = field(default_factory=dict)  # of each seed
    profiles: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    taken: set[Taken] = field(default_factory=set)
    aim: Aim = field(default_factory=Aim)
    aimed: int = 0  # of the runs
    failed: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome, *, aimed: bool = False) -> None:
        self.runs += 1
        self.aimed += aimed
        self.steps += outcome.steps
        self.seconds += outcome.seconds
        self.states.update(outcome.states)
        self.rows.update(outcome.rows)
        self.faults.update(outcome.faults)
        self.codes.update(outcome.codes)
        self.profiles[outcome.plan.profile.name] += 1
        self.taken |= outcome.taken
        self.aim.add(outcome)
        if outcome.violations:
            self.failed.append(outcome)
        if aimed:
            return
        # A golden run's seed comes again and again: what each took counts, or ``few`` would look for ever.
        seed = outcome.plan.seed
        self.rows_of[seed] = self.rows_of.get(seed, set()) | outcome.rows

    @property
    def rows_missed(self) -> list[str]:
        return [row for row in possible_rows() if row not in self.rows]

    @property
    def missed(self) -> frozenset[Taken]:
        return possible() - self.taken

    def few(self) -> list[int]:
        """Seeds that take together every row that was taken, found one by one: the next adds most."""
        left, chosen = set(self.rows), list[int]()
        while left:
            seed = max(self.rows_of, key=lambda seed: (len(left & self.rows_of[seed]), -seed))
            left -= self.rows_of[seed]
            chosen.append(seed)
        return sorted(chosen)


def run_seed(seed: int) -> Outcome:
    return play(draw(seed))


def run_seeds(seeds: Iterable[int], processes: int) -> Iterator[Outcome]:
    """In the order of the seeds, on several processes."""
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(run_seed, seeds, chunksize=8)


def crash_run(seed: int, step: int) -> Outcome:
    return play(_golden(seed), crash_at=step)


def _golden(seed: int) -> Plan:
    """A short run without planned faults, in which hosts misbehave: the crash is the fault."""
    return dataclasses.replace(
        draw(seed), kiosks=1, payments=1, faults=(), cut_over_in_s=0.0, day_close_in_s=0.0, workers=1, settle_in_min=1
    )


# ---------------------------------------------------------------------------------------------------- shorter
def shrink(plan: Plan, parts: Parts, say: Callable[[str], None] = lambda line: None) -> Plan:
    """The same violation with the fewest faults, kiosks and payments that can be found."""
    runs = 0

    def fails(candidate: Plan) -> bool:
        nonlocal runs
        runs += 1
        return runs <= SHRINK_RUNS_MAX and bool(play(candidate, parts).violations)

    # Halves first, then one by one.
    size = max(1, len(plan.faults) // 2)
    while plan.faults:
        smaller = False
        for at in range(0, len(plan.faults), size):
            candidate = dataclasses.replace(plan, faults=plan.faults[:at] + plan.faults[at + size :])
            if fails(candidate):
                plan, smaller = candidate, True
                break
        if not smaller:
            if size == 1:
                break
            size //= 2
    for name in ("kiosks", "payments"):
        for count in range(1, getattr(plan, name)):
            changed: dict[str, Any] = {name: count}
            candidate = dataclasses.replace(plan, **changed)
            if fails(candidate):
                plan = candidate
                break
    if plan.ends_a_day and fails(candidate := dataclasses.replace(plan, cut_over_in_s=0.0, day_close_in_s=0.0)):
        plan = candidate
    say(f"shortened in {runs} runs to {len(plan.faults)} faults, {plan.kiosks} kiosks, {plan.payments} payments each")
    return plan


def without_faults(plan: Plan, dropped: Iterable[int]) -> Plan:
    gone = set(dropped)
    return dataclasses.replace(plan, faults=tuple(fault for n, fault in enumerate(plan.faults) if n not in gone))


def command_for(plan: Plan) -> str:
    """The command that replays a shortened plan."""
    whole = draw(plan.seed)
    dropped = [n for n, fault in enumerate(whole.faults) if fault not in plan.faults]
    parts = [f"gridswitch sim --seed {plan.seed} --trace"]
    if dropped:
        parts.append(f"--drop {','.join(map(str, dropped))}")
    parts += [f"--also {written(fault)}" for fault in added(plan)]
    for name in ("kiosks", "payments"):
        if getattr(plan, name) != getattr(whole, name):
            parts.append(f"--{name} {getattr(plan, name)}")
    if whole.ends_a_day and not plan.ends_a_day:
        parts.append("--no-day-ends")
    return " ".join(parts)


# ---------------------------------------------------------------------------------------------------- the command
def add_sim_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "sim",
        help="run the whole switch on a virtual clock with faults drawn from seeds, and check the invariants",
        description="Deterministic simulation: machines, dialects, codec and runtime as they ship, on a simulated "
        "loop, network and journal. Every fault of a run is drawn from its seed; a seed replays. Exit status 0 only "
        "if nothing was violated and, with the seeds of the default, every row was taken (with --break: only if the "
        "missing rule was missed).",
    )
    parser.add_argument("--seeds", type=_seeds, metavar="A..B", help="these seeds; default: 1..500")
    parser.add_argument(
        "--aim",
        action="store_true",
        help="then runs aimed at what the seeds left out; fails if anything stays left out",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="one seed")
    parser.add_argument("--trace", action="store_true", help="with --seed: the plan and the story of every payment")
    parser.add_argument("--drop", type=_numbers, default=(), metavar="I,J", help="with --seed: without these faults")
    parser.add_argument(
        "--also",
        type=_fault,
        action="append",
        default=[],
        metavar="FAULT",
        help="with --seed: and this fault, as an aimed run's command gives it: KIND,WHERE,OTHER,AT,SECONDS,NUMBER; "
        "may be given again",
    )
    parser.add_argument("--kiosks", type=int, metavar="N", help="with --seed: so many kiosks instead")
    parser.add_argument("--payments", type=int, metavar="N", help="with --seed: so many payments of each kiosk instead")
    parser.add_argument("--no-day-ends", action="store_true", help="with --seed: no day ends")
    parser.add_argument("--break", dest="broken", metavar="RULE", help="without this rule; see --list-breaks")
    parser.add_argument("--list-breaks", action="store_true", help="the rules that can be removed")
    parser.add_argument("--crash-everywhere", action="store_true", help="kill the switch at every step of golden runs")
    parser.add_argument("--minutes", type=float, metavar="M", help="new seeds for so long, from --from on")
    parser.add_argument("--from", dest="first", type=int, default=1, metavar="N", help="first seed of --minutes")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, metavar="N", help="default: one per processor"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.set_defaults(run=_sim)


def _seeds(text: str) -> range:
    match = re.fullmatch(r"(\d+)\.\.(\d+)", text)
    if match is None or int(match[1]) > int(match[2]):
        raise argparse.ArgumentTypeError(f"expected FIRST..LAST, e.g. 1..500, not {text!r}")
    return range(int(match[1]), int(match[2]) + 1)


def _fault(text: str) -> Fault:
    try:
        return read_fault(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _numbers(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise argparse.ArgumentTypeError(f"expected numbers with commas, e.g. 0,3, not {text!r}")
    return tuple(int(number) for number in text.split(","))


def _sim(arguments: argparse.Namespace) -> int:
    rules = breaks()
    if arguments.list_breaks:
        for name, (says, _) in rules.items():
            print(f"{name:<12}{says}")
        return 0
    if arguments.broken is not None and arguments.broken not in rules:
        raise StartError("rule", f"--break {arguments.broken}: no such rule; gridswitch sim --list-breaks names them")
    if arguments.seed is not None:
        return _one(arguments, rules[arguments.broken][1] if arguments.broken else AS_SHIPPED)
    if arguments.broken:
        return _break(arguments, *rules[arguments.broken])
    if arguments.crash_everywhere:
        return _crash_everywhere(arguments)
    if arguments.minutes is not None:
        return _many(arguments, _for_minutes(arguments))
    seeds = arguments.seeds or ALL_ROWS
    return _many(arguments, run_seeds(seeds, arguments.processes), every_row=seeds == ALL_ROWS)


def _one(arguments: argparse.Namespace, parts: Parts) -> int:
    plan = without_faults(draw(arguments.seed), arguments.drop)
    for fault in arguments.also:
        plan = with_fault(plan, fault)
    changed: dict[str, Any] = {
        name: value for name in ("kiosks", "payments") if (value := getattr(arguments, name)) is not None
    }
    if arguments.no_day_ends:
        changed |= {"cut_over_in_s": 0.0, "day_close_in_s": 0.0}
    outcome = play(dataclasses.replace(plan, **changed), parts, tell=arguments.trace)
    for line in outcome.plan.describe():
        print(line)
    if arguments.trace:
        print(*outcome.story, sep="\n")
    states = ", ".join(f"{count} {state}" for state, count in sorted(outcome.states.items()))
    print(
        f"{outcome.steps:,} steps, {outcome.seconds:.1f} s of its time, fingerprint {outcome.fingerprint:08x}: "
        f"{states or 'no payment'}"
    )
    for violation in outcome.violations:
        print(f"VIOLATION {violation}")
    return 1 if outcome.violations else 0


def run_broken(name: str, seed: int) -> Outcome:
    return play(draw(seed), breaks()[name][1])


def _broken_runs(name: str, seeds: Iterable[int], processes: int, until: float) -> Iterator[Outcome]:
    """In the order of the seeds, as long as there is time."""
    with ProcessPoolExecutor(processes) as pool:
        waiting: deque[Future[Outcome]] = deque()
        for seed in seeds:
            waiting.append(pool.submit(run_broken, name, seed))
            if len(waiting) >= 4 * processes:
                yield waiting.popleft().result()
            if time.perf_counter() > until:
                break
        while waiting and time.perf_counter() < until:
            yield waiting.popleft().result()
        pool.shutdown(cancel_futures=True)


def _break(arguments: argparse.Namespace, says: str, parts: Parts) -> int:
    """Until it is missed, or the time is over."""
    started = time.perf_counter()
    seeds: Iterable[int] = arguments.seeds or range(1, 1_000_000)
    runs = 0
    for outcome in _broken_runs(arguments.broken, seeds, arguments.processes, started + BREAK_SECONDS):
        runs += 1
        seed = outcome.plan.seed
        if outcome.violations:
            seconds = time.perf_counter() - started
            print(f"{arguments.broken}: {says}")
            print(f"missed after {runs} runs, {seconds:.1f} s, at seed {seed}: {outcome.violations[0]}")
            small = shrink(outcome.plan, parts, print)
            _explain(small, parts, f"{command_for(small)} --break {arguments.broken}")
            return 0
    print(f"{arguments.broken}: {says}: NOT MISSED in {runs} runs, {time.perf_counter() - started:.0f} s")
    return 1


def _explain(plan: Plan, parts: Parts, command: str) -> None:
    outcome = play(plan, parts, tell=True)
    for line in plan.describe():
        print(f"    {line}")
    for line in outcome.story:
        if any(word in line for word in ("payment ", "kiosk", "***", "->")) and " 08" not in line:
            print(f"    {line}")
    for violation in outcome.violations:
        print(f"    VIOLATION {violation}")
    print(f"    replay: {command}")


def _for_minutes(arguments: argparse.Namespace) -> Iterator[Outcome]:
    ends_at = time.monotonic() + 60 * arguments.minutes
    first = arguments.first
    while time.monotonic() < ends_at:
        yield from run_seeds(range(first, first + 200), arguments.processes)
        first += 200
        print(f"  seeds up to {first - 1} are done", flush=True)


def _aimed(tally: Tally, processes: int) -> Iterator[Outcome]:
    """Runs aimed at what the seeds have left out; ``tally`` takes each before the next round is planned."""
    with ProcessPoolExecutor(processes) as pool:
        for plans in in_rounds(tally.aim, tally.taken):
            print(f"  aimed at the {len(plans):,} that are missing", flush=True)
            yield from pool.map(play, plans, chunksize=4)


def _many(arguments: argparse.Namespace, outcomes: Iterable[Outcome], *, every_row: bool = False) -> int:
    started = time.perf_counter()
    tally = Tally()

    def take(outcome: Outcome, *, aimed: bool) -> None:
        tally.add(outcome, aimed=aimed)
        for violation in outcome.violations[:3]:
            print(f"{command_for(outcome.plan)}: VIOLATION {violation}", flush=True)

    for outcome in outcomes:
        take(outcome, aimed=False)
    if arguments.aim:
        for outcome in _aimed(tally, arguments.processes):
            take(outcome, aimed=True)
    for outcome in tally.failed[:3]:
        small = shrink(outcome.plan, AS_SHIPPED, print)
        _explain(small, AS_SHIPPED, command_for(small))
    _print_tally(tally, time.perf_counter() - started)
    if arguments.json:
        print(json.dumps(_as_json(tally)))
    left_out = (every_row and tally.rows_missed) or (arguments.aim and tally.missed)
    return 1 if tally.failed or left_out else 0


def _crash_everywhere(arguments: argparse.Namespace) -> int:
    """At every step of each golden run: killed right before it, started again, healed, checked."""
    started = time.perf_counter()
    tally = Tally()
    with ProcessPoolExecutor(arguments.processes) as pool:
        for seed in arguments.seeds or CRASH_SEEDS:
            golden = play(_golden(seed))
            # The switch is idle once its payments have ended; what comes after is the silence before the check.
            steps = range(1, golden.steps + 1)
            before = len(tally.failed)
            for step, outcome in zip(steps, pool.map(crash_run, [seed] * len(steps), steps, chunksize=16), strict=True):
                tally.add(outcome)
                for violation in outcome.violations[:1]:
                    print(f"seed {seed}, killed at step {step}: VIOLATION {violation}", flush=True)
            failed = len(tally.failed) - before
            print(
                f"  golden run of seed {seed}: killed at each of {len(steps):,} steps, {failed} violations", flush=True
            )
    _print_tally(tally, time.perf_counter() - started, coverage=False)
    if arguments.json:
        print(json.dumps(_as_json(tally)))
    return 1 if tally.failed else 0


def _print_tally(tally: Tally, seconds: float, *, coverage: bool = True) -> None:
    """``coverage`` only where seeds draw what happens: a golden run has none of it."""
    states = ", ".join(f"{count:,} {state}" for state, count in tally.states.most_common())
    aimed = f" ({tally.aimed:,} of them aimed)" if tally.aimed else ""
    print(
        f"{tally.runs:,} runs{aimed}, {tally.steps:,} steps, {tally.seconds / 3600:.1f} h of their time in "
        f"{seconds:.0f} s: {len(tally.failed)} with a violation"
    )
    print(f"payments: {states}")
    if not coverage:
        return
    print(f"hosts: {', '.join(f'{count} {name}' for name, count in tally.profiles.most_common())}")
    print(f"answers of hosts: {', '.join(sorted(tally.codes))}")
    unused = [kind for kind in KINDS if kind not in tally.faults]
    print(f"kinds of fault: {len(tally.faults)} of {len(KINDS)}" + (f"; never: {', '.join(unused)}" if unused else ""))
    never = tally.rows_missed
    rows = len(possible_rows())
    print(f"rows of the table taken: {rows - len(never)} of {rows}, by these seeds alone: {_numbered(tally.few())}")
    if never:
        print(f"  never: {', '.join(never)}")
    dead = [row.number for row in ROWS if row.number not in possible_rows()]
    print(f"rows that no input can take: {', '.join(dead) or 'none'}")
    _print_missed(tally)


def _numbered(seeds: Iterable[int]) -> str:
    return ",".join(map(str, seeds))


def _print_missed(tally: Tally) -> None:
    """Rows with classes of answers, and these with kinds of fault: how many of all that can exist, and which not."""
    every = possible()
    pairs = {(each.row, each.answers) for each in every}
    reached = {(each.row, each.answers) for each in tally.taken} & pairs
    print(f"a row on a class of answers: {len(reached)} of {len(pairs)}")
    for row, name in sorted(pairs - reached):
        print(f"  never: {row} on {name}")
    missed = tally.missed
    print(
        f"a row on a class of answers while a kind of fault was in its way: {len(every) - len(missed):,} "
        f"of {len(every):,} that can exist"
    )
    kinds: dict[tuple[str, str], list[str]] = {}
    for each in sorted(missed, key=lambda each: (each.row, each.answers, each.fault)):
        if (each.row, each.answers) in reached:
            kinds.setdefault((each.row, each.answers), []).append(each.fault)
    for (row, name), faults in kinds.items():
        print(f"  never: {row} on {name}: {', '.join(faults)}")


def _as_json(tally: Tally) -> dict[str, Any]:
    return {
        "runs": tally.runs,
        "steps": tally.steps,
        "violations": len(tally.failed),
        "failed_seeds": [outcome.plan.seed for outcome in tally.failed],
        "payments": dict(tally.states),
        "rows": dict(tally.rows),
        "aimed": tally.aimed,
        "taken": len(tally.taken & possible()),
        "possible": len(possible()),
        "faults": dict(tally.faults),
    }
