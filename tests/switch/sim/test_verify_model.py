"""The model check itself: that it explores the machine that runs, that it can fail, and that it says why.

All profiles and all mutations are explored by ``gridswitch verify-model`` (``make verify-model``, minutes); here a few.
"""

from __future__ import annotations

import json

import pytest

from switch.cli import main
from switch.errors import StartError
from switch.machines.payment import Payment
from switch.machines.payment_table import ROWS, TABLE
from switch.sim.modelcheck import Conduct, ModelCheck, Profile
from switch.sim.verify_model import (
    MUTATIONS,
    PROFILES,
    believing,
    documented,
    run_mutation,
    run_profile,
    without,
)

QUICK = ("no_dedupe", "worst", "no_cancel", "only_cancel")


@pytest.mark.parametrize("name", QUICK)
def test_the_shipped_machine_holds(name: str) -> None:
    _, verdict, _ = run_profile(name, workers=1)
    assert verdict.holds and verdict.states > 10_000, verdict


def test_two_workers_race_and_nothing_is_lost() -> None:
    _, verdict, _ = run_profile("no_dedupe", workers=2)
    assert verdict.holds and verdict.states > 10_000, verdict


@pytest.mark.parametrize(
    "name", [mutation.name for mutation in MUTATIONS if mutation.name not in ("M13", "C9", "C9-one", "C9-part")]
)
def test_a_removed_rule_is_missed(name: str) -> None:
    _, profile, verdict, _ = run_mutation(name)
    assert profile and verdict is not None
    assert verdict.trace or verdict.stuck_trace, "a counterexample is shown"


def test_the_fourteen_rules_of_the_design_are_among_the_mutations() -> None:
    names = [mutation.name for mutation in MUTATIONS]
    assert [name for name in names if name.startswith("M")] == [f"M{n}" for n in range(1, 15)]
    assert len(set(names)) == len(names)


def test_a_counterexample_is_a_story_from_the_first_step() -> None:
    _, _, verdict, _ = run_mutation("C6")
    assert verdict is not None and verdict.violation == "I2: a bill is posted twice"
    assert verdict.trace[0] == "switch: starts [row 1]"
    assert [step for step in verdict.trace if "marketing posts" in step] == [
        "marketing posts 1",
        "marketing posts it again: 1",
    ]


def test_what_is_explored_is_what_runs() -> None:
    """A mutant is another class; the shipped one keeps the shipped table, and every mutant's differs from it."""
    assert Payment.table is TABLE
    for mutation in MUTATIONS:
        shipped = mutation.machine is Payment
        assert shipped == (mutation.conduct != Conduct()), f"{mutation.name} removes exactly one thing"
        assert issubclass(mutation.machine, Payment)
    assert without("17").table != TABLE
    assert believing(quiet=lambda *_: True).table is TABLE


def test_a_bound_that_is_reached_proves_nothing() -> None:
    verdict = ModelCheck(PROFILES[0]).run(states_max=100)
    assert not verdict.complete and not verdict.holds


def test_a_host_that_forgets_postings_is_told_apart_from_one_that_does_not() -> None:
    """The profile is a promise: a switch that was told that serials are recognised loses where they are not."""
    honest = next(profile for profile in PROFILES if profile.name == "no_dedupe")
    machine = believing(may_repost=lambda *_: True)
    assert "posted twice" in ModelCheck(honest, machine=machine).run().violation
    assert ModelCheck(Profile("remembers", ""), machine=machine).run().holds


# ---------------------------------------------------------------------------------------------- the command
def test_the_command_prints_states_and_says_it_with_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify-model", "--profile", "worst", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = json.loads(lines[-1])
    assert told["violations"] == told["stuck"] == 0 and told["profiles"]["worst"]["holds"]
    assert f"{told['states']:,} states" in lines[-2]


def test_the_command_shows_a_counterexample(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify-model", "--mutation", "6r"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("6r: caught in well_behaved: I6: DECLINED") and "takes it over [row 6r" in out


@pytest.mark.interpreted
def test_a_violation_ends_in_status_1(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped table with a rule removed, as if somebody had removed it: forked processes see the patched class."""
    monkeypatch.setattr(Payment, "table", without("17").table)
    assert main(["verify-model", "--profile", "worst"]) == 1
    assert "stuck" in capsys.readouterr().out


def test_a_document_without_its_marks_is_refused() -> None:
    with pytest.raises(StartError, match="<!-- diagram -->"):
        documented("no marks")
    marks = "a\n<!-- diagram -->\nstale\n<!-- /diagram -->\n<!-- table -->\n<!-- /table -->\nz\n"
    made = documented(marks)
    assert "stale" not in made and made.startswith("a\n") and made.endswith("z\n")
    assert all(f"| {row.number} " in made for row in ROWS)
    assert documented(made) == made
