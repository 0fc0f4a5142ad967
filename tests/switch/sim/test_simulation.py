"""The deterministic simulation: that a seed replays, that nothing is violated, and that a removed rule is missed."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from switch.cli import main
from switch.limits import STANDARD
from switch.machines.payment import Facts, HostProfile, Payment
from switch.machines.payment_table import ROWS, Input, Row
from switch.model.payment import Posting, State
from switch.net.framed import LEN2
from switch.sim.aim import in_rounds, read_fault, written
from switch.sim.checkers import check_histories
from switch.sim.coverage import Taken, Watch, classes_of, kinds_of, possible, possible_rows
from switch.sim.loop import SimDeadlockError, SimLoop, bounded
from switch.sim.network import Box, SimTransport
from switch.sim.plan import BILL, CARD, KINDS, SECOND, SWITCH, Fault, added, calm, draw, with_fault
from switch.sim.scenario import Scenario
from switch.sim.simulate import ALL_ROWS, Tally, _golden, breaks, command_for, crash_run, shrink
from switch.sim.verify_model import PROFILES, without
from switch.sim.world import Outcome, Parts, World, play
from switch.store.memory import MemoryDatabase

SEEDS = 45
# What ``gridswitch sim`` says: seeds that take together every row of the table that can be taken.
ALL_ROWS_BY = (2, 3, 7, 8, 16, 29, 42, 44, 45, 59, 68, 69, 70, 75, 91, 106, 148, 197, 245, 351, 365, 408, 450, 477)
START_US = 1_768_000_000_000_000


# ---------------------------------------------------------------------------------------------------- the loop
def test_time_jumps_and_order_within_a_node_is_kept() -> None:
    loop = SimLoop(1, START_US)
    node, heard = loop.node("a"), list[tuple[float, str]]()

    async def story() -> None:
        for n in range(20):
            loop.call_soon(heard.append, (loop.time(), f"soon {n}"))
        loop.call_later(3_600.0, heard.append, (3_600.0, "later"))
        await asyncio.sleep(7_200.0)

    loop.run_until_complete(node.spawn(story()))
    assert heard == [*((0.0, f"soon {n}") for n in range(20)), (3_600.0, "later")] and loop.time() == 7_200.0
    loop.close()


def test_a_killed_node_runs_nothing_any_more_and_its_neighbours_go_on() -> None:
    loop = SimLoop(1, START_US)
    heard: list[str] = []

    async def life(name: str) -> None:
        try:
            while True:
                await asyncio.sleep(1.0)
                heard.append(name)
        finally:
            heard.append(f"{name} ends")

    victim, other = loop.node("victim"), loop.node("other")
    victim.spawn(life("victim"))
    survivor = other.spawn(life("other"))
    loop.call_at(2.5, victim.crash, context=loop.network.context)
    loop.call_at(4.5, survivor.cancel, context=loop.network.context)
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(survivor)
    assert heard.count("victim") == 2 and heard.count("other") == 4
    assert "victim ends" not in heard, "kill -9 runs no finally"
    loop.close()


def test_a_paused_node_stands_still_and_finds_its_timers_due() -> None:
    loop = SimLoop(1, START_US)
    node, heard = loop.node("a"), list[float]()

    async def life() -> None:
        for _ in range(3):
            await asyncio.sleep(1.0)
            heard.append(loop.time())

    task = node.spawn(life())
    loop.call_at(1.5, node.pause, context=loop.network.context)
    loop.call_at(30.0, node.resume, context=loop.network.context)
    loop.run_until_complete(task)
    assert heard == [1.0, 30.0, 31.0]
    loop.close()


def test_a_wait_for_nothing_is_an_error_and_not_a_hang() -> None:
    loop = SimLoop(1, START_US)
    with pytest.raises(SimDeadlockError, match="nothing can happen"):
        loop.run_until_complete(loop.node("a").spawn(asyncio.Event().wait()))
    loop.close()


def test_a_step_without_an_end_is_an_error_even_where_every_error_is_tried_again() -> None:
    loop = SimLoop(1, START_US)

    async def stubborn() -> None:
        while True:
            try:
                sum(range(100))
            except Exception:
                continue

    with pytest.raises(SimDeadlockError, match="went on without an end"), bounded(loop, cpu_s=0.05):
        loop.node("a").spawn(stubborn())
        loop.run_until_complete(loop.node("b").spawn(asyncio.sleep(60.0)))
    loop.close()


def test_clocks_step_for_one_node_only() -> None:
    loop = SimLoop(1, START_US)
    one, two = loop.node("one"), loop.node("two")
    one.step_wall(-7200)
    assert two.wall_us() - one.wall_us() == 7_200_000_000 and one.now() == two.now()
    assert one.run(loop.wall_s) == START_US / 1e6 - 7200
    loop.close()


# ---------------------------------------------------------------------------------------------------- the network
class Reader(asyncio.Protocol):
    def __init__(self) -> None:
        self.data = b""
        self.ended: list[BaseException | None] = []

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: BaseException | None) -> None:
        self.ended.append(exc)


def connected(loop: SimLoop) -> tuple[SimTransport, Reader, Reader]:
    """What one end writes with, what it hears, what the other end hears."""
    reader, writer = Reader(), Reader()
    server, client = loop.node("server"), loop.node("client")
    loop.run_until_complete(server.spawn(loop.create_server(lambda: reader, "127.0.0.1", 1)))
    transport, _ = loop.run_until_complete(client.spawn(loop.create_connection(lambda: writer, "127.0.0.1", 1)))
    return transport, writer, reader


def rest(loop: SimLoop, seconds: float) -> None:
    loop.run_until_complete(loop.create_task(asyncio.sleep(seconds)))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.binary(min_size=1, max_size=50), max_size=12), st.integers(0, 400))
def test_a_stream_arrives_whole_or_as_a_prefix(seed: int, writes: list[bytes], cut: int) -> None:
    loop = SimLoop(seed, START_US)
    transport, writer, reader = connected(loop)
    whole = b"".join(writes)
    if cut < len(whole):
        loop.network.cut("client", "server", cut)
    for data in writes:
        transport.write(data)
    rest(loop, 60.0)
    if cut < len(whole):
        assert reader.data == whole[:cut], "exactly so many bytes, and then a reset"
        assert isinstance(reader.ended[0], ConnectionResetError) and isinstance(writer.ended[0], ConnectionResetError)
    else:
        assert reader.data == whole and not reader.ended
    loop.close()


def test_what_was_written_before_a_kill_arrives_and_then_the_reset() -> None:
    loop = SimLoop(3, START_US)
    transport, writer, reader = connected(loop)
    transport.write(b"last words")
    transport.node.crash()  # type: ignore[union-attr]
    rest(loop, 5.0)
    assert reader.data == b"last words" and isinstance(reader.ended[0], ConnectionResetError)
    assert writer.ended == [], "the dead hear nothing"
    loop.close()


def test_a_partition_holds_bytes_back_one_way_and_breaks_the_connection_in_the_end() -> None:
    loop = SimLoop(3, START_US)
    transport, _, reader = connected(loop)
    loop.network.partition("client", "server", both=False)
    transport.write(b"held")
    rest(loop, 20.0)
    assert reader.data == b""
    loop.network.heal_partition("client", "server")
    rest(loop, 1.0)
    assert reader.data == b"held"
    loop.network.partition("client", "server")
    transport.write(b"lost")
    rest(loop, 60.0)
    assert reader.data == b"held" and isinstance(reader.ended[0], TimeoutError)
    loop.close()


def test_a_middle_box_drops_repeats_and_delays_whole_frames() -> None:
    loop = SimLoop(3, START_US)
    transport, _, reader = connected(loop)
    fate: dict[bytes, tuple[float, ...]] = {b"one": (), b"two": (0.0, 0.0), b"three": (5.0,)}
    loop.network.box("client", "server", Box(LEN2, lambda frame: fate.get(frame, (0.0,))))
    frames = b"".join(len(text).to_bytes(2, "big") + text for text in (b"one", b"two", b"three", b"four"))
    for byte in frames:
        transport.write(bytes([byte]))
    rest(loop, 1.0)
    assert reader.data == b"\0\3two\0\3two\0\4four"
    rest(loop, 5.0)
    assert reader.data.endswith(b"\0\5three")
    loop.close()


# ---------------------------------------------------------------------------------------------------- runs
@cache
def played(seed: int) -> Outcome:
    return play(draw(seed))


@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
def test_nothing_is_violated(seed: int) -> None:
    assert not played(seed).violations, [str(violation) for violation in played(seed).violations]


@pytest.mark.parametrize("seed", [4, 11, 14, 15, 33, 47, 51, 201])
def test_nothing_is_violated_with_a_connection_for_each_transaction(seed: int) -> None:
    outcome = play(draw(seed), Parts(connection="per_transaction"))
    assert not outcome.violations, [str(violation) for violation in outcome.violations]
    assert outcome.fingerprint != played(seed).fingerprint


@pytest.mark.parametrize("seed", [14, 15])
def test_a_cut_connection_that_is_told_as_never_used_is_missed(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("switch.net.upstream._Call.unsent", property(lambda call: True))
    outcome = play(draw(seed), Parts(connection="per_transaction"))
    assert any(violation.invariant == "I6" for violation in outcome.violations)


def test_every_row_that_can_be_taken_is_taken() -> None:
    """By few runs of the default range. After a change of what is drawn ``gridswitch sim`` names others; if it says
    that a row was not taken, a way of failing is not played any more."""
    outcomes = [played(seed) for seed in ALL_ROWS_BY]
    assert not [outcome.plan.seed for outcome in outcomes if outcome.violations]
    assert set(possible_rows()) == {row for outcome in outcomes for row in outcome.rows}


def test_every_profile_of_the_model_check_is_drawn_and_a_good_share_is_well_behaved() -> None:
    drawn = Counter(draw(seed).profile.name for seed in ALL_ROWS)
    assert set(drawn) | {"chip_decides"} == {"mixed", *(profile.name for profile in PROFILES)}
    waits = [seed for seed in ALL_ROWS if draw(seed).profile.host.emv_completion == "wait"]
    assert len(waits) == len(ALL_ROWS) // 4, "a chip decides beside whatever else a host does"
    assert drawn["well_behaved"] > len(ALL_ROWS) / 8
    told = draw(next(seed for seed in ALL_ROWS if draw(seed).profile.name == "worst")).describe()
    assert "hosts: worst:" in told[1] and "fence none" in told[1]


def test_the_switch_is_told_what_the_hosts_do() -> None:
    for seed in range(1, 61):
        plan = draw(seed)
        host, card, bill = plan.profile.host, plan.scenario.unionpay, plan.scenario.marketing
        assert (card.reversal_not_found == "00") <= host.reversal_00_any
        assert bill.tombstones == (host.fence == "tombstone") and bill.cancels == (host.fence != "none")
        assert bill.knows_serials == host.deduplicates
        assert bill.tells_status == (host.inquiry != "none")
        promised = card.late_s[1] < STANDARD.quiet_s and (card.stray_share == 0.0 or not host.not_found_proves)
        assert promised, 'who answers at any time proves nothing by "not found"'


@pytest.mark.parametrize("spec", ["marketing_json_1_0", "marketing_ydlw_1_0"])
def test_both_languages_of_the_marketing_system_are_played_and_listened_to(spec: str) -> None:
    seeds = (seed for seed in ALL_ROWS if draw(seed).marketing_spec == spec)
    plan = draw(next(seed for seed in seeds if "bill 00" in played(seed).codes and "COMPLETED" in played(seed).states))
    world = World(plan)
    world.auditor._database = MemoryDatabase()  # in which nothing is durable
    world.run()
    early = [str(violation) for violation in world.auditor.violations]
    assert any("post" in violation and "nothing durable knows" in violation for violation in early), early


def test_runs_do_something() -> None:
    """Vacuous runs prove nothing: payments end in every way, and faults of every kind happen."""
    outcomes = [played(seed) for seed in range(1, SEEDS + 1)]
    states = {state for outcome in outcomes for state in outcome.states}
    assert {"COMPLETED", "DECLINED", "REVERSED", "SUSPENSE"} <= states
    assert len({kind for outcome in outcomes for kind in outcome.faults}) > len(KINDS) // 2
    assert sum(outcome.restarts for outcome in outcomes) > 10
    assert len({row for outcome in outcomes for row in outcome.rows}) > 60


# ---------------------------------------------------------------------------------------------------- coverage
def row(number: str) -> Row:
    return next(row for row in ROWS if row.number == number)


def test_a_row_can_be_taken_on_what_the_dialects_make_of_its_input() -> None:
    assert classes_of(row("1")) == {"no code"}
    assert classes_of(row("2")) == {"0210 approved", "0210 flagged"}
    assert classes_of(row("4")) == {"0210 ambiguous", "0210 unlisted", "0210 declined"}, "declined without a MAC"
    assert "no code" in classes_of(row("17")) and "0410 stop_lane" in classes_of(row("17"))
    assert classes_of(row("16m")) == {"0210 approved", "0210 flagged", "0210 partial"}, "its guard asks for a charge"
    assert classes_of(row("16n")) == {"0210 ambiguous", "0210 declined", "0210 unlisted"}, "the row before has the rest"
    assert classes_of(row("9q")) == {"post rejected_once"}


def test_a_kiosk_that_was_told_waits_no_longer() -> None:
    assert set(possible_rows()) == {row.number for row in ROWS} - {"13k", "17k"}


def test_a_fault_can_touch_only_what_lies_on_the_way_of_an_input() -> None:
    assert "delay_answers" in kinds_of(row("15")), "the card host's"
    assert "delay_answers" not in kinds_of(row("8")) | kinds_of(row("11"))
    assert all("slow_journal" in kinds_of(each) for each in ROWS)


def test_a_fault_counts_only_while_the_payment_is_under_way_and_in_its_way() -> None:
    watch = Watch()
    machine = a_payment(watch.machine(Payment))
    watch.hit(Fault(1.0, "reset", SWITCH, CARD), 1.0)
    watch.hit(Fault(990.0, "reset", SWITCH, BILL), 990.0)
    watch.hit(Fault(999.0, "cut", SWITCH, CARD), 999.0)
    machine.step(Input.START, Facts(), 1000.0)
    machine.step(Input.CARD_DECLINED, Facts(response_code="51"), 1001.0)
    assert {taken for taken in watch.taken if taken.row == "3"} == {
        Taken("3", "0210 declined"),
        Taken("3", "0210 declined", "cut"),
    }


def a_payment(machine: type[Payment]) -> Payment:
    return machine(
        payment_id=1,
        opened_on=20260101,
        terminal_id="T",
        merchant_id="M",
        kiosk_date="0101",
        kiosk_serial="000001",
        digest="d",
        account="A",
        amount=100,
        batch_number="000001",
        stan="000001",
        settlement_day=20260101,
        marketing_day="20260101",
        postings=[Posting("R", "202601", 100, 0, 100, "S")],
        card_token="t",
        card_masked="m",
        entry_mode="021",
        original_60="22000001000",
        times=STANDARD,
        profile=HostProfile(),
        started_at=1000.0,
    )


def test_a_seed_replays_exactly_in_another_process(tmp_path: Path) -> None:
    """Also where strings hash to other numbers."""
    script = tmp_path / "fingerprints.py"
    script.write_text(
        "from switch.sim.plan import draw\nfrom switch.sim.world import play\n"
        "print([play(draw(seed)).fingerprint for seed in (2, 7, 16, 31)])\n"
    )
    told = {
        subprocess.run(
            [sys.executable, str(script)],
            env=os.environ | {"PYTHONHASHSEED": number},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for number in ("0", "1", "12345")
    }
    assert told == {f"{[play(draw(seed)).fingerprint for seed in (2, 7, 16, 31)]}\n"}


def test_a_seed_replays_exactly_whatever_was_played_before() -> None:
    """Two workers that lose their links in one moment: what is walked through then must not lie as addresses do."""
    for seed in (11, 120):
        assert len({play(draw(seed)).fingerprint for _ in range(4)}) == 1, seed


def test_a_fault_that_is_left_out_changes_no_other_dice() -> None:
    plan = draw(3)
    fewer = dataclasses.replace(plan, faults=())
    assert play(plan).plan.scenario == play(fewer).plan.scenario
    assert play(fewer).fingerprint == play(fewer).fingerprint


# ---------------------------------------------------------------------------------------------------- aimed runs
def test_an_aimed_run_reaches_what_drawn_ones_left_out_and_its_command_replays_it() -> None:
    """The few seeds take every row, and by far not with every fault."""
    tally = Tally()
    for seed in ALL_ROWS_BY[:6]:
        tally.add(play(draw(seed)))
    before, reached = set(tally.taken), 0
    for plan in tally.aim.tries(tally.taken)[::60]:
        outcome = play(plan)
        assert not outcome.violations, (command_for(plan), outcome.violations)
        tally.add(outcome, aimed=True)
        (more,) = added(plan)
        assert f"--seed {plan.seed} " in command_for(plan) and f"--also {written(more)}" in command_for(plan)
        again = play(with_fault(draw(plan.seed), read_fault(written(more))))
        assert again.fingerprint == outcome.fingerprint
        reached += bool((outcome.taken - before) & possible())
    assert tally.aimed > 10 and reached > tally.aimed / 2
    assert set(tally.rows_of) == set(ALL_ROWS_BY[:6]), "an aimed run is not what its seed alone takes"


def test_rounds_end_when_nothing_is_missing_and_after_so_many_tries_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("switch.sim.aim.TRIES_MAX", 3)
    tally = Tally()
    tally.add(play(draw(3)))
    assert not list(in_rounds(tally.aim, set(possible())))
    rounds = list(in_rounds(tally.aim, tally.taken))
    assert len(rounds) == 3 and {plan.seed for plans in rounds for plan in plans} == {3}
    late = an_aimed_outcome(5, "14s", "cancel posted")
    tally.add(late, aimed=True)
    again = list(in_rounds(tally.aim, tally.taken))
    assert len(again) == 3 and {plan.seed for plans in again for plan in plans} == {5}, "a late base has its tries too"


def an_aimed_outcome(seed: int, number: str, answers: str, *more: Fault) -> Outcome:
    """Of a run that was aimed at something else and took this row."""
    plan = draw(seed)
    for fault in (Fault(1.25, "pause", CARD, seconds=0.02), *more):
        plan = with_fault(plan, fault)
    return Outcome(plan, moments={Taken(number, answers): (2.0, 6.0)})


def test_an_aimed_run_that_took_a_row_is_aimed_from_and_the_command_names_both_faults(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tally, missing = Tally(), Taken("14s", "cancel posted", "crash")
    assert not tally.aim.tries(set(possible()) - {missing}), "no run took the row"
    base = an_aimed_outcome(3, "14s", "cancel posted")
    tally.add(base, aimed=True)
    (plan,) = tally.aim.tries(set(possible()) - {missing})
    first, second = added(plan)
    assert {first.kind, second.kind} == {"pause", "crash"} and set(base.plan.faults) < set(plan.faults)
    command = command_for(plan)
    assert command.count("--also ") == 2
    assert main([word for word in command.split()[1:] if word != "--trace"]) == 0
    assert f"fingerprint {play(plan).fingerprint:08x}" in capsys.readouterr().out


def test_a_plan_is_not_piled_up_with_faults_without_end() -> None:
    tally = Tally()
    two = an_aimed_outcome(3, "14s", "cancel posted", Fault(1.5, "pause", CARD, seconds=0.02))
    three = an_aimed_outcome(3, "11c", "no code", *(Fault(at, "pause", CARD, seconds=0.02) for at in (1.5, 1.75)))
    for outcome in (two, three):
        tally.add(outcome, aimed=True)
    plans = tally.aim.tries(set())
    assert plans and {len(added(plan)) for plan in plans} == {3}
    assert not tally.aim.tries(set(possible()) - {Taken("11c", "no code", "pause")})


def test_of_two_workers_either_is_aimed_at() -> None:
    seed = next(seed for seed in range(1, 100) if draw(seed).workers == 2)
    tally = Tally()
    tally.add(Outcome(draw(seed), moments={Taken("11c", "no code"): (2.0, 6.0)}))
    rounds = in_rounds(tally.aim, set(possible()) - {Taken("11c", "no code", "doze")})
    assert {added(plan)[0].where for (plan,) in rounds} == {SWITCH, SECOND}


def test_the_command_fails_if_aimed_runs_leave_something_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("switch.sim.aim.TRIES_MAX", 0)
    assert main(["sim", "--seeds", "3..3", "--processes", "1"]) == 0
    assert main(["sim", "--seeds", "3..3", "--processes", "1", "--aim"]) == 1
    assert "never: " in capsys.readouterr().out


@pytest.mark.parametrize("seed", range(1, 12))
def test_a_fault_as_text_is_read_as_it_was_written(seed: int) -> None:
    for fault in draw(seed).faults:
        assert read_fault(written(fault)) == fault


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "the kinds are crash"),
        ("fire,switch,,1,1,0", "the kinds are crash"),
        ("crash,switch,1,1,0", "expected KIND,WHERE,OTHER,AT,SECONDS,NUMBER"),
        ("crash,switch,,soon,1,0", "expected KIND,WHERE,OTHER,AT,SECONDS,NUMBER"),
        ("crash,kiosks,,1,1,0", "crash hits switch or unionpay or marketing"),
        ("outage,switch,,1,1,0", "outage hits nobody by name"),
        ("cut,switch,,1,0,10", "cut hits switch,unionpay"),
    ],
)
def test_a_wrong_fault_says_what_was_expected(text: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["sim", "--seed", "1", "--also", text])
    assert why in capsys.readouterr().err


@pytest.mark.parametrize("step", range(200, 3000, 350))
def test_a_kill_at_any_step_loses_nothing(step: int) -> None:
    for seed in (1, 5):
        outcome = crash_run(seed, step)
        assert not outcome.violations, (seed, step, [str(violation) for violation in outcome.violations])


def test_the_switch_really_is_killed_at_that_step() -> None:
    world = World(_golden(1), crash_at=500)
    outcome = world.run()
    assert outcome.restarts == 1 and outcome.fingerprint != play(_golden(1)).fingerprint


# ---------------------------------------------------------------------------------------------------- removed rules
@pytest.mark.parametrize("rule", ["M1", "M4", "M5", "M6", "M7", "M9", "M11", "M12", "C4", "5", "C9", "6", "6r", "17i"])
def test_a_removed_rule_is_missed(rule: str) -> None:
    _, parts = breaks()[rule]
    found = next((outcome for seed in range(1, 400) if (outcome := play(draw(seed), parts)).violations), None)
    assert found is not None, f"nobody missed {rule}"


def test_a_batch_that_ends_without_the_hosts_word_is_noticed() -> None:
    """C16: a host that does not answer, and customers who come when their terminals have asked it."""
    _, parts = breaks()["C16"]
    scenario = calm(Scenario(name="calm"))
    card = msgspec.structs.replace(scenario.unionpay, settlement_silence_rate=1.0)
    scenario = msgspec.structs.replace(scenario, unionpay=card)
    plan = dataclasses.replace(
        draw(16),
        seed=1,
        profile=PROFILES[0],
        scenario=scenario,
        faults=(),
        kiosks=2,
        payments=6,
        thinks_s=25.0,
        settle_in_min=1,
    )
    assert not play(plan).violations
    assert {violation.invariant for violation in play(plan, parts).violations} == {"C16"}


def test_what_fails_is_shortened_and_the_command_replays_it(capsys: pytest.CaptureFixture[str]) -> None:
    _, parts = breaks()["6"]
    failing = next(plan for seed in range(1, 200) if play(plan := draw(seed), parts).violations)
    small = shrink(failing, parts)
    assert len(small.faults) <= len(failing.faults) and play(small, parts).violations
    command = command_for(small).split()[2:]
    assert main(["sim", *command, "--break", "6"]) == 1
    out = capsys.readouterr().out
    assert "VIOLATION I6" in out and "row 6! -> DECLINED" in out, "it tells the story"


# ---------------------------------------------------------------------------------------------------- checkers
def test_who_asks_people_without_need_is_noticed() -> None:
    """Where hosts are well-behaved and no day ends everything can be proved."""
    plan = draw(16)
    assert not plan.ends_a_day
    plan = dataclasses.replace(plan, profile=PROFILES[0], scenario=calm(Scenario(name="calm")), faults=())
    asks = without("8", add=[Row("12m", State.BILL_PENDING, Input.BILL_POSTED, State.SUSPENSE, ("case", "tell"))])
    found = [str(violation) for violation in play(plan, Parts(machine=asks)).violations]
    assert any("row 12m left payment" in violation for violation in found), found


def test_a_serial_that_a_host_posted_twice_is_noticed() -> None:
    """C6: the switch posts again where a serial is not recognised."""
    _, parts = breaks()["C6"]
    found = next(outcome for seed in range(1, 200) if (outcome := play(draw(seed), parts)).violations)
    assert any(violation.invariant == "I2" for violation in found.violations), found.violations


def test_who_takes_back_on_silence_what_is_being_booked_is_noticed() -> None:
    _, parts = breaks()["C7"]
    told = (violation for seed in range(1, 400) for violation in play(draw(seed), parts).violations)
    assert any(violation.invariant == "C7" for violation in told)


def test_a_tampered_history_is_noticed() -> None:
    world = World(dataclasses.replace(draw(1), faults=()))
    world.run()
    database: MemoryDatabase = world.database
    assert not list(check_histories(database))
    events = next(events for events in database.events.values() if len(events) > 2)
    entry, writer = events[2]
    events[2] = structs.replace(entry, body=b'{"amount":1}'), writer
    assert any(violation.invariant == "I10" for violation in check_histories(database))
    del events[2]
    assert any("vers" in violation.what for violation in check_histories(database))


def test_a_host_that_breaks_its_promise_is_noticed() -> None:
    """The checkers look at the hosts' books, not at what the switch believes."""
    world = World(dataclasses.replace(draw(1), faults=()))
    world.ledgers[CARD].lines.append(
        b'{"at":1,"fact":"charge","terminal":"GS000001","batch":"000001","stan":"999999","fen":5,"rrn":"1",'
        b'"settlement_date":"0115","authorization":"1","card":"x","after":"charged"}'
    )
    outcome = world.run()
    assert any("charge without a payment" in violation.what for violation in outcome.violations)


def test_a_fault_knows_how_to_say_what_it_is() -> None:
    fault = Fault(1.5, "partition", SWITCH, BILL, seconds=3.0)
    assert str(fault) == "  1.500 s  partition switch -> marketing for 3.0 s"


# ---------------------------------------------------------------------------------------------------- the command
def test_the_command_says_what_it_covered(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "--seeds", "1..12", "--processes", "2", "--json"]) == 0
    out = capsys.readouterr().out
    assert "12 runs" in out and "rows of the table taken" in out and "kinds of fault" in out
    assert '"violations": 0' in out.splitlines()[-1]


def test_the_command_fails_when_its_default_range_leaves_a_row_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("switch.sim.simulate.ALL_ROWS", range(1, 3))
    assert main(["sim", "--processes", "1"]) == 1
    out = capsys.readouterr().out
    assert "0 with a violation" in out and "never: " in out and "of 2,5" in out
    assert main(["sim", "--seeds", "1..3", "--processes", "1"]) == 0, "any other range may"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--seeds", "9..3"], "expected FIRST..LAST"),
        (["--break", "M99"], "--list-breaks"),
        (["--seed", "1", "--drop", "x"], "expected numbers"),
    ],
)
def test_wrong_arguments_are_explained(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        assert main(["sim", *arguments]) == 2
    except SystemExit as exit_:
        assert exit_.code == 2
    assert says in capsys.readouterr().err


def test_a_seed_that_comes_again_keeps_what_it_took_before() -> None:
    """As in a crash sweep: forgotten rows would be looked for without an end."""
    tally = Tally()
    for row in ("1", "3"):
        outcome = Outcome(draw(7))
        outcome.taken.add(Taken(row, "no code"))
        tally.add(outcome)
    assert tally.rows_of == {7: {"1", "3"}}
    assert tally.few() == [7]
