"""The whole switch, both hosts and the kiosks in one thread, on a virtual clock, from a seed.

What runs is what ships: machines, dialects, codec, runtime, the simulated hosts and kiosks of the demo. Only the loop,
the sockets and the database are other ones. A run has two halves: faults as planned; then everything is healed, and
whatever was begun must come to an end. Then the books are compared (``checkers``).
"""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, Final, Literal

from switch.config import (
    UNLIMITED,
    Config,
    ListenConfig,
    MarketingConfig,
    MarketingProfile,
    ObserveConfig,
    SecurityConfig,
    UnionpayConfig,
    UnionpayProfile,
)
from switch.limits import STANDARD
from switch.machines.days import CHINA
from switch.machines.payment import Payment
from switch.model.payment import FINAL, State
from switch.net.framed import LEN2
from switch.ports import KeyUsage, Terminal, Verdict
from switch.runtime.assembly import Switch
from switch.security.software import SoftwareSecurityModule
from switch.sim import checkers, customers, testkeys
from switch.sim.checkers import Violation, WireAuditor
from switch.sim.coverage import Taken, Watch
from switch.sim.fleet import BookEntry
from switch.sim.kiosk_client import Answer, CardChoice, Kiosk
from switch.sim.kiosk_client import Payment as KioskPayment
from switch.sim.loop import Node, SimDeadlockError, SimLoop, bounded
from switch.sim.marketing_host import MarketingHost
from switch.sim.marketing_wire import make_wire
from switch.sim.network import USER_TIMEOUT_S, Box, SimSocket, SimTransport
from switch.sim.plan import BILL, CARD, HOLD_MAX_S, KIOSKS, SECOND, SWITCH, Fault, Plan, calm
from switch.sim.truth import MemoryTruthLedger, Posted, read_charges, read_postings
from switch.sim.unionpay_host import UnionPayHost
from switch.sim.wire import Turn
from switch.store import memory
from switch.store.memory import (
    MemoryCardBatches,
    MemoryCases,
    MemoryDatabase,
    MemoryJournal,
    MemoryNotices,
    MemoryTerminals,
)

HOST: Final = "127.0.0.1"
PORTS: Final = {SWITCH: 7000, CARD: 7001, BILL: 7002, SECOND: 7003}
# The longest that anything may take once nothing goes wrong any more: quiet and late period, and the longest back-off
# of a reversal twice over, in which an answer may still have been lost.
SETTLE_S: Final = STANDARD.quiet_s + STANDARD.late_s + 2 * STANDARD.reversal_backoff_s[-1] + 2 * STANDARD.card_s
CUSTOMERS_S: Final = 60.0  # after the faults: who waits for a terminal until then still pays, and no later one
DAY_ENDS: Final = datetime(2026, 1, 15, 23, 0, tzinfo=CHINA)  # a settlement day ends here
ALL_DAY_S: Final = 12 * 3_600.0
LOOK_S: Final = 1.0
SETTLE_SPREAD_S: Final = 60.0
PULSE_S: Final = 0.5  # between looks of hosts and switches at how they feel: most of a run's steps would be those
ANSWER_HOLD_MAX_S: Final = STANDARD.late_s - USER_TIMEOUT_S - 2.0
SERVICE_TERMINAL: Final = 9_999
HANDS_OFF_S: Final = STANDARD.quiet_s + STANDARD.late_s  # after the last fault, before people look at the books
# Within it an heir has found that a lease is over; twice as long, for looks are seconds apart.
HEIR_S: Final = STANDARD.lease_ttl_s + STANDARD.lease_margin_s + 10 * STANDARD.lease_heartbeat_s
# How a system that can be asked is asked, by what it speaks.
_INQUIRY: Final[dict[str, Literal["serial", "history"]]] = {
    "marketing_json_1_0": "serial",
    "marketing_ydlw_1_0": "history",
}
LMK: Final = bytes(range(32))  # of a world that exists for seconds


@dataclass(frozen=True, slots=True)
class Parts:
    """What a world is made of. The defaults ship; a rule is removed by putting another part in."""

    machine: type[Payment] = Payment
    journal: type[MemoryJournal] = MemoryJournal
    database: type[MemoryDatabase] = MemoryDatabase
    card_batches: type[MemoryCardBatches] = MemoryCardBatches
    recovers: bool = True
    connection: Literal["kept", "per_transaction"] = "kept"  # to the card network


AS_SHIPPED: Final = Parts()


@dataclass
class Outcome:
    plan: Plan
    violations: list[Violation] = field(default_factory=list)
    steps: int = 0
    fingerprint: int = 0
    seconds: float = 0.0  # virtual
    states: dict[str, int] = field(default_factory=dict)
    taken: set[Taken] = field(default_factory=set)  # rows, with what was answered and what went wrong
    moments: dict[Taken, tuple[float, float]] = field(default_factory=dict)  # ``coverage.Watch``
    faults: set[str] = field(default_factory=set)  # kinds that were carried out
    codes: set[str] = field(default_factory=set)  # what hosts answered: "0210 00", "bill 84" …
    restarts: int = 0
    story: list[str] = field(default_factory=list)

    @property
    def rows(self) -> set[str]:
        return {taken.row for taken in self.taken}


class Watcher:
    """``ports.Observer`` of one node: counts, and the last things that were said."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name

    def count(self, name: str, labels: Sequence[str] = (), by: int = 1) -> None:
        if name == "switch_late_after_final_total":
            self._world.add("C2", "an approval came after the payment was declared never charged")

    def observe(self, name: str, value: float, labels: Sequence[str] = ()) -> None:
        pass

    def gauge(self, name: str, value: float, labels: Sequence[str] = ()) -> None:
        pass

    def event(self, name: str, **facts: Any) -> None:
        self._world.note(f"{self._name}: {name} {' '.join(f'{key}={value}' for key, value in facts.items())}")
        if facts.get("level") == "error" or name.endswith((".handler_failed", "callback_failed", "timer.failed")):
            self._world.add("fault", f"{self._name}: {name} {facts}")


class World:
    """One run. ``run`` gives its outcome; nothing of it survives.

    Args:
        crash_at: Kill the switch right before this step of the loop.
        tell: Keep a story of everything that happens.
    """

    def __init__(self, plan: Plan, parts: Parts = AS_SHIPPED, *, crash_at: int = 0, tell: bool = False) -> None:
        self.plan = plan
        self.parts = parts
        self.outcome = Outcome(plan)
        self._watch = Watch()
        # One of the two days ends at ``DAY_ENDS``; one that does not end in this run ends half a day later.
        self._first_end_s = plan.cut_over_in_s or plan.day_close_in_s or ALL_DAY_S
        later_s = self._first_end_s + ALL_DAY_S if plan.ends_a_day else ALL_DAY_S
        self._ends_in_s = {CARD: plan.cut_over_in_s or later_s, BILL: plan.day_close_in_s or later_s}
        self.loop = SimLoop(plan.seed, round((DAY_ENDS.timestamp() - self._first_end_s) * 1_000_000))
        self.database = parts.database()
        self.ledgers = {CARD: MemoryTruthLedger(CARD), BILL: MemoryTruthLedger(BILL)}
        self.book: dict[str, BookEntry] = {}
        bill_wire = make_wire((plan.marketing_spec,))
        # Of a link between this and a switch.
        self._framing = {CARD: LEN2, BILL: bill_wire.framing, KIOSKS: LEN2}
        self.auditor = WireAuditor(self.database, bill_wire, self.ledgers[CARD], alone=plan.workers == 1)
        self.nodes: dict[str, Node] = {}
        self.names = (SWITCH, SECOND)[: plan.workers]
        self.switches: dict[str, Switch] = {}  # those that have started
        self._journals: dict[str, MemoryJournal] = {}  # of those that live
        self._dozes: dict[str, Fault] = {}  # workers that fall asleep with their next commit under way
        self._unheld: dict[int, float] = {}  # open payments that nobody has, since when
        self._hosts: dict[str, UnionPayHost | MarketingHost] = {}
        self._scenario = plan.scenario
        self._folder = _vault()
        self._configs = {name: self._make_config(name) for name in self.names}
        self._dice = self.loop.stream("world")
        self._prepays = self.loop.stream("prepayments")
        self._chips = self.loop.stream("chips")
        self._latency_s = (0.000_5, 0.004)
        self._journal_fault: memory.Fault | None = None
        self._told: list[tuple[float, str]] | None = [] if tell else None
        self._texts: list[str] = []
        self._cards: set[str] = set()
        self._healed = False
        self.loop.network.taps.append(self._tapped)
        self._add_terminals()
        if crash_at:
            down_s = self.loop.stream("crash").uniform(0.05, 4.0)
            self.loop.at_step(crash_at, lambda: self._crash(Fault(self.loop.time(), "crash", SWITCH, seconds=down_s)))

    # ------------------------------------------------------------------------------------------------ the run
    def run(self) -> Outcome:
        outcome, loop = self.outcome, self.loop
        previous = asyncio.get_event_loop_policy()
        try:
            for host in (CARD, BILL):
                self._start_host(host)
            for name in self.names:
                self._start_switch(name)
            kiosks = self._start_kiosks()
            for fault in self.plan.faults:
                loop.call_at(fault.at, self._do, fault, context=loop.network.context)
            loop.call_at(self.plan.safety_s, self._heal, context=loop.network.context)
            with bounded(loop):
                loop.run_until_complete(self._until_rest(kiosks))
        except SimDeadlockError as error:
            self.add("I14", str(error))
        finally:
            asyncio.set_event_loop_policy(previous)
        for fault_text in loop.faults:
            self.add("fault", fault_text)
        self._check()
        outcome.steps, outcome.fingerprint, outcome.seconds = loop.steps, loop.fingerprint, loop.time()
        outcome.taken, outcome.moments = self._watch.taken, self._watch.moments
        if self._told is not None:
            outcome.story = self._story()
        for node in self.nodes.values():
            node.crash()
        loop.close()
        return outcome

    async def _until_rest(self, kiosks: list[asyncio.Task[None]]) -> None:
        """Healed, no payment open, no kiosk waiting; or the bound."""
        while not (self._healed and self._at_rest() and self._settled() and all(task.done() for task in kiosks)):
            if self.loop.time() > self.plan.safety_s + CUSTOMERS_S + SETTLE_S:
                break
            await asyncio.sleep(LOOK_S)
            self._look()
            if self.plan.people_decide and self.loop.time() > self.plan.safety_s + HANDS_OFF_S:
                self._decide()
        for task in kiosks:
            if task.done() and task.exception() is not None:
                self.add("fault", f"a kiosk failed: {task.exception()!r}")

    def _at_rest(self) -> bool:
        if self.database.notices:
            return False  # a script notice that nobody has answered
        resting = FINAL if self.plan.people_decide else FINAL | {State.SUSPENSE, State.UNPROVEN}
        return all(events[max(events)][0].state in resting for events in self.database.events.values())

    def _settled(self) -> bool:
        """No settlement with the card network waits for its end."""
        return all(each.state not in ("asked", "differs") for each in self.database.settlements.values())

    def _decide(self) -> None:
        """Two people close what waits for them, as the hosts' books have it by now; money that is still out is given
        back first. Their decision goes the way of every other one: through the worker that owns the payment."""
        for host in self._hosts.values():
            host.ledger.flush()
        charges, postings = read_charges(self.ledgers[CARD]), read_postings(self.ledgers[BILL])
        for row in self.database.payment_rows():
            payment, body = row.payment, row.payment.body
            if payment.state not in (State.SUSPENSE, State.UNPROVEN):
                continue
            number = payment.payment_id << 8 | payment.ver  # one decision for each time that it waits
            if number in self.database.verdicts:
                continue
            key = (body["terminal"], body["batch"], body["stan"])
            charged = charges[key].net if key in charges else 0
            posted = [one for posting in body["postings"] if (one := postings.get(posting[5])) and one.posted]
            if payment.state is State.UNPROVEN:
                decision = "charged" if charged else "nothing"
            elif charged == row.amount and len(posted) == len(body["postings"]):
                decision = "paid"
            else:
                decision = "refunded" if charged or posted else "nothing"
                self._give_back(key, charged, body["postings"], postings)
            self.note(f"*** two people decide: payment {payment.payment_id} is {decision}")
            facts = {"evidence": "both books", "proposed_by": "one", "confirmed_by": "two"}
            self.database.verdicts[number] = Verdict(number, payment.payment_id, decision, facts), ""

    def _give_back(self, key: tuple[str, str, str], charged: int, rows: list[Any], postings: dict[str, Posted]) -> None:
        """By hand, at the hosts."""
        if charged:
            terminal, batch, stan = key
            self._hosts[CARD].ledger.write("reversal", terminal=terminal, batch=batch, stan=stan, fen=charged)
        for posting in rows:
            one = postings.get(posting[5])
            if one is not None and one.posted:
                self._hosts[BILL].ledger.write("undo", serial=posting[5], fen=one.posted)
        for host in self._hosts.values():
            host.ledger.flush()

    def _look(self) -> None:
        """I7 while it runs: whatever is open is in the hands of a worker that lives, or soon will be."""
        able = [
            switch
            for name, switch in self.switches.items()
            if self.nodes[name].alive and not self.nodes[name].paused and switch.listener.accepting
        ]
        if not able or not all(self._journals[name].accepting for name in self.switches):
            self._unheld.clear()
            return
        now = self.loop.time()
        for events in self.database.events.values():
            last = events[max(events)][0]
            if last.state in FINAL or any(switch.payments.holds(last.payment_id) for switch in able):
                self._unheld.pop(last.payment_id, None)
            elif now - self._unheld.setdefault(last.payment_id, now) > HEIR_S:
                self.add("I7", f"payment {last.payment_id} is open in {last.state}, and nobody has it")

    def _check(self) -> None:
        for host in self._hosts.values():
            host.ledger.flush()
        checks: Iterator[Violation]
        for checks in (
            checkers.check_books(self.database, self.ledgers[CARD], self.ledgers[BILL], self.book),
            checkers.check_histories(self.database),
            checkers.check_claims(self.database),
            checkers.check_undecided(self.database, self.plan),
            checkers.check_promises(self.database, self.ledgers[BILL]),
            checkers.check_settlements(self.database, self.ledgers[CARD]),
            checkers.check_secrets(self.database, self._texts, self._cards),
            iter(self.auditor.violations),
        ):
            for violation in checks:
                self.add(violation.invariant, violation.what)
        for notice, *_ in self.database.notices.values():
            self.add("I14", f"the script notice of payment {notice.payment_id} was never answered")
        for events in self.database.events.values():
            state = events[max(events)][0].state.value
            self.outcome.states[state] = self.outcome.states.get(state, 0) + 1

    def add(self, invariant: str, what: str) -> None:
        violation = Violation(invariant, what)
        if violation not in self.outcome.violations:
            self.outcome.violations.append(violation)

    def note(self, text: str) -> None:
        self._texts.append(text)
        if self._told is not None:
            self._told.append((self.loop.time(), text))

    def _story(self) -> list[str]:
        assert self._told is not None
        start_us = self.loop.wall_start_us
        lines = [*self._told]
        # The wall clock of a row may have been stepped; the order of the rows is right all the same.
        lines += [((wall_us - start_us) / 1e6, line) for wall_us, line in checkers.story(self.database)]
        return [f"{at:9.3f} s  {line}" for at, line in sorted(lines, key=lambda line: line[0])]

    # ------------------------------------------------------------------------------------------------ those in it
    def _make_config(self, name: str) -> Config:
        plan, host = self.plan, self.plan.profile.host
        terminal, merchant = testkeys.test_terminal(SERVICE_TERMINAL)
        return Config(
            environment="development",
            time_profile="standard",
            listen=ListenConfig(port=PORTS[name], limits=UNLIMITED),
            observe=ObserveConfig(port=0, log_level="error"),
            security=SecurityConfig(lmk_file=str(self._folder / "lmk.key"), vault_dir=str(self._folder)),
            unionpay=UnionpayConfig(
                host=HOST,
                port=PORTS[CARD],
                connection=self.parts.connection,
                service_terminal=terminal,
                service_merchant=merchant,
                profile=UnionpayProfile(
                    reversal_00="any" if host.reversal_00_any else "found_only",
                    reversal_not_found="proves" if host.not_found_proves else "unproven",
                    cut_over=self._time_of_day(CARD),
                    emv_completion=host.emv_completion,
                ),
                settle_at=self._settle_at(),
                settle_spread_s=SETTLE_SPREAD_S,
            ),
            marketing=MarketingConfig(
                host=HOST,
                port=PORTS[BILL],
                channel="SELF01",
                prepay_while_owing=True,
                spec=plan.marketing_spec,
                profile=MarketingProfile(
                    fence=host.fence,
                    inquiry="none" if host.inquiry == "none" else _INQUIRY[plan.marketing_spec],
                    dedupe="serial" if host.deduplicates else "none",
                    day_close=self._time_of_day(BILL) if plan.day_close_in_s else "",
                ),
            ),
        )

    def _time_of_day(self, host: str) -> str:
        ends = DAY_ENDS + timedelta(seconds=self._ends_in_s[host] - self._first_end_s)
        assert ends.second == 0, "days end at whole minutes"
        return f"{ends:%H:%M}"

    def _settle_at(self) -> str:
        starts = DAY_ENDS - timedelta(seconds=self._first_end_s)
        return f"{starts + timedelta(minutes=self.plan.settle_in_min):%H:%M}" if self.plan.settle_in_min else ""

    def _add_terminals(self) -> None:
        security = SoftwareSecurityModule(LMK, self._folder, "development", lambda: self.loop.wall_start_us)
        for number in range(1, self.plan.kiosks + 1):
            terminal_id, merchant_id = testkeys.test_terminal(number)
            wrapped, kcv = security.wrap_new(testkeys.test_tmk(terminal_id), KeyUsage.TMK)
            self.database.terminals[terminal_id] = Terminal(
                terminal_id, merchant_id, "dual_tmk", in_service=True, tmk_wrapped=wrapped, tmk_kcv=kcv
            )

    def _node(self, name: str) -> Node:
        offset_us = self.nodes[name].wall_offset_us if name in self.nodes else 0
        node = self.nodes[name] = self.loop.node(name)
        node.wall_offset_us = offset_us
        return node

    def _start_host(self, name: str) -> None:
        node = self._node(name)
        make = UnionPayHost if name == CARD else partial(MarketingHost, specs=(self.plan.marketing_spec,))
        # Only a new ledger is told when its day ends; a host that comes back knows.
        known = bool(self.ledgers[name].lines)
        ends = self.plan.cut_over_in_s if name == CARD else self.plan.day_close_in_s
        host = make(
            HOST,
            PORTS[name],
            self.ledgers[name],
            self._scenario,
            cut_over_in_s=None if known else self._ends_in_s[name] - (self.plan.skew_s if ends else 0.0),
        )
        host.pulse_s = PULSE_S
        self._hosts[name] = host
        node.spawn(host.start())

    def _start_switch(self, name: str) -> None:
        node = self._node(name)
        node.spawn(self._switch_life(name, node)).add_done_callback(self._ended)

    def _ended(self, life: asyncio.Task[None]) -> None:
        """Of a switch that was not killed: it must not end by itself, and a run without it would prove nothing."""
        if not life.cancelled() and life.exception() is not None:
            self.add("fault", f"a switch ended: {life.exception()!r}")

    async def _switch_life(self, name: str, node: Node) -> None:
        """As ``supervisor.serve``: a worker that was ended by another one starts anew."""
        while True:
            lost = asyncio.Event()
            switch, stop = await self._start_worker(name, node, lost)
            self.switches[name] = switch
            await lost.wait()
            del self.switches[name]
            await stop()

    async def _start_worker(
        self, name: str, node: Node, lost: asyncio.Event
    ) -> tuple[Switch, Callable[[], Awaitable[None]]]:
        watcher = Watcher(self, name)
        security = SoftwareSecurityModule(LMK, self._folder, "development", node.wall_us)

        def later(seconds: float, call: Callable[[], None]) -> object:
            return node.call_at(self.loop.time() + seconds, call)

        journal = self._journals[name] = self.parts.journal(
            self.database,
            clock=node,
            observer=watcher,
            call_later=later,
            server_later=self._later,
            latency=self._commit_latency,
            fault=lambda number: self._take_journal_fault(name),
            times=STANDARD,
            instance=name,
            proof=name,  # a process is killed as a whole, and its successor knows
        )
        journal.on_lost = lost.set
        await journal.start()
        terminals = MemoryTerminals(self.database, call_later=later, latency=self._commit_latency)
        await terminals.start()
        switch = Switch(
            self._configs[name],
            journal=journal,
            terminals=terminals,
            security=security,
            clock=node,
            dice=_Dice(self.loop),
            observer=watcher,
            bind=lambda host, port, reuse_port: SimSocket(self.loop.network, host, port),
            machine=self._watch.machine(self.parts.machine),
            cases=MemoryCases(self.database),
            notices=MemoryNotices(self.database, node),
            card_batches=self.parts.card_batches(self.database, node, self._commit_latency),
        )
        switch.pressure.every_s = PULSE_S
        if not self.parts.recovers:
            switch.recover = _nothing  # type: ignore[method-assign]
        await switch.start()

        async def stop() -> None:
            await switch.stop()
            await terminals.stop()
            await journal.stop()

        return switch, stop

    def _commit_latency(self) -> float:
        return self._dice.uniform(*self._latency_s)

    def _take_journal_fault(self, name: str) -> memory.Fault | None:
        doze = self._dozes.pop(name, None)
        if doze is not None:
            self._pause(doze)
        fault, self._journal_fault = self._journal_fault, None
        return fault

    # ------------------------------------------------------------------------------------------------ kiosks
    def _start_kiosks(self) -> list[asyncio.Task[None]]:
        node = self._node(KIOSKS)
        return [node.spawn(self._kiosk(number)) for number in range(1, self.plan.kiosks + 1)]

    async def _kiosk(self, number: int) -> None:
        dice = self.loop.stream(f"kiosk {number}")
        kiosk = Kiosk(
            number, HOST, PORTS[SWITCH], turn=Turn(), profile=STANDARD, heard=self._heard, first_serial=1000 * number
        )
        for turn in range(self.plan.payments):
            # Two kiosks at one bill now and then.
            account = customers.account(turn if dice.random() < 0.2 else 100 * number + turn)
            await asyncio.sleep(dice.uniform(0.0, 1.5))
            await self._one_customer(kiosk, dice, account)
        await self._clear_up(kiosk, dice)
        kiosk.close()

    async def _one_customer(self, kiosk: Kiosk, dice: Any, account: str) -> None:
        if self._prepays.random() < self.plan.prepay_share:
            await self._one_prepayment(kiosk, account)
            return
        bills = None
        for _ in range(6):
            await self._ready(kiosk, dice)
            answer = await kiosk.inquire(account)
            if answer.code == "00":
                bills = answer.bills
                break
            if answer.code in ("77", "A0", "A1", "97"):
                kiosk.signed_on = False
            await asyncio.sleep(dice.uniform(0.5, 4.0))
        if bills is None or self.loop.time() > self.plan.safety_s + CUSTOMERS_S:
            return
        rows = [row[0] for row in bills.rows]
        chosen = tuple(rows if not bills.partial_allowed or dice.random() < 0.7 else rows[: dice.randint(1, len(rows))])
        if self.plan.thinks_s:
            await asyncio.sleep(self.plan.thinks_s)
            await self._ready(kiosk, dice)
        card = self._card(dice)
        regrets = None
        if dice.random() < self.plan.regret_share:
            regrets = asyncio.create_task(
                self._regret(kiosk, dice.choice((0.005, 0.05, 0.5, 2.0, 20.0)) * dice.random())
            )
        payment = await kiosk.pay(
            bills,
            chosen,
            card,
            before_sending=lambda payment: self._sent(kiosk, payment),
            repeat=dice.random() < 0.15,
            hang_up_after_s=dice.uniform(0.01, 3.0) if dice.random() < 0.15 else None,
        )
        if card.says == "nothing" and self._chips.random() < 0.5:
            self.note(f"kiosk {kiosk.terminal_id} has no card any more, wants serial {payment.serial} taken back")
            await kiosk.take_back(payment)
        if regrets is not None:
            await regrets
        if dice.random() < 0.3:
            return  # the next customer comes; what this one paid is asked for in between
        await self._clear_up(kiosk, dice)

    async def _one_prepayment(self, kiosk: Kiosk, account: str) -> None:
        """With dice of its own: who pays bills is left alone by who does not."""
        dice = self._prepays
        await self._ready(kiosk, dice)
        card = self._card(dice)
        await kiosk.prepay(
            account,
            dice.randint(1, 50_000),
            card,
            before_sending=lambda payment: self._sent(kiosk, payment),
            repeat=dice.random() < 0.15,
            hang_up_after_s=dice.uniform(0.01, 3.0) if dice.random() < 0.15 else None,
        )
        await self._clear_up(kiosk, dice)

    def _card(self, dice: Any) -> CardChoice:
        """Somebody's card; what its chip will say is drawn by dice of its own."""
        card = CardChoice(dice.randrange(50), entry=dice.choice(("track", "chip", "keyed")))
        self._cards.add(testkeys.test_pan(card.number))
        dislikes = self.plan.chip_dislikes
        if not dislikes or card.entry != "chip":
            return card
        roll = self._chips.random()
        says = "aac" if roll < dislikes else "nothing" if roll < 2 * dislikes else "tc"
        return dataclasses.replace(card, says=says, says_after_s=self._chips.uniform(0.0, 5.0))

    async def _regret(self, kiosk: Kiosk, after_s: float) -> None:
        """The customer walks away, or the printer is out of paper: take it back."""
        await asyncio.sleep(after_s)
        for payment in list(kiosk.unfinished.values())[-1:]:
            self.note(f"kiosk {kiosk.terminal_id} wants serial {payment.serial} taken back")
            await kiosk.take_back(payment)

    async def _clear_up(self, kiosk: Kiosk, dice: Any) -> None:
        while kiosk.unfinished:
            # As a kiosk after a crash: by its own key, until there is a final word.
            await asyncio.sleep(dice.uniform(1.0, 5.0))
            await self._ready(kiosk, dice)
            for payment in list(kiosk.unfinished.values()):
                answer = await kiosk.ask_result(payment)
                if answer.code in ("77", "A0", "A1", "97"):
                    kiosk.signed_on = False

    async def _ready(self, kiosk: Kiosk, dice: Any) -> None:
        while True:
            if not kiosk.is_connected:
                try:
                    kiosk.port = PORTS[dice.choice(self.names)]
                    await kiosk.connect()
                except (OSError, TimeoutError):
                    await asyncio.sleep(dice.uniform(0.2, 2.0))
                    continue
            if kiosk.signed_on or await kiosk.sign_on() == "00":
                return
            await asyncio.sleep(dice.uniform(0.2, 2.0))

    def _sent(self, kiosk: Kiosk, payment: KioskPayment) -> None:
        key = f"{kiosk.terminal_id}|{payment.date}|{payment.serial}"
        self.book[key] = BookEntry(payment.amount, payment.account, payment.receivables)
        self.note(f"kiosk {kiosk.terminal_id} asks to pay {payment.amount} fen, serial {payment.serial}")

    def _heard(self, payment: KioskPayment, answer: Answer, how: str, became_final: bool) -> None:
        entry = next(entry for key, entry in self.book.items() if key.endswith(f"|{payment.date}|{payment.serial}"))
        entry.told.append(answer.code)
        if became_final:
            entry.final, entry.stable = payment.final, payment.stable
        self.note(f"kiosk with serial {payment.serial} hears {answer.code} {answer.stable} ({how})")

    # ------------------------------------------------------------------------------------------------ the wire
    def _tapped(self, end: SimTransport, data: bytes, what: str) -> None:
        if what == "written" and end.peer_name in self.names and end.node_name in (CARD, BILL):
            self.outcome.codes.update(self.auditor.answers(end.number, data, end.node_name))
        if what != "written" or end.node_name not in self._journals:
            return
        epoch = self._journals[end.node_name].epoch
        if end.peer_name == CARD:
            lines = self.auditor.card_bytes(end.number, data, epoch)
        elif end.peer_name == BILL:
            lines = self.auditor.bill_bytes(end.number, data, epoch)
        else:
            return
        for line in lines:
            self.note(f"{end.node_name} -> {end.peer_name}: {line}")

    # ------------------------------------------------------------------------------------------------ faults
    def _do(self, fault: Fault) -> None:
        self.outcome.faults.add(fault.kind)
        self._watch.hit(fault, self.loop.time())
        self.note(f"*** {fault}")
        getattr(self, f"_{fault.kind}")(fault)

    def _later(self, seconds: float, call: Callable[..., None], *args: Any) -> None:
        self.loop.call_later(seconds, call, *args, context=self.loop.network.context)

    def _crash(self, fault: Fault) -> None:
        node = self.nodes[fault.where]
        if not node.alive:
            return
        node.crash()
        if fault.where in self.names:
            self.switches.pop(fault.where, None)
            self.outcome.restarts += 1
            journal = self._journals.pop(fault.where, None)
            if journal is not None:
                # What was on its way to the database when we died may have arrived all the same.
                journal.crash(arrives=self._dice.random() < 0.5)
        self._later(max(fault.seconds, 0.01), self._restart, fault.where)

    def _restart(self, name: str) -> None:
        if self.nodes[name].alive:
            return
        self.note(f"*** {name} starts again")
        if name in self.names:
            self._start_switch(name)
        else:
            self._start_host(name)

    def _crash_twice(self, fault: Fault) -> None:
        """Killed, and killed again while it recovers."""
        self._crash(fault)
        again = dataclasses.replace(fault, seconds=1.0)
        self._later(fault.seconds + self._dice.uniform(0.011, 0.1), self._crash, again)

    def _pause(self, fault: Fault) -> None:
        node = self.nodes[fault.where]
        if node.alive and not node.paused:
            node.pause()
            self._later(fault.seconds, node.resume)

    def _doze(self, fault: Fault) -> None:
        """The process stops between asking for a commit and hearing of it, and sends what the record allows late."""
        self._dozes[fault.where] = fault

    def _partition(self, fault: Fault, *, both: bool = True) -> None:
        network = self.loop.network
        network.partition(fault.where, fault.other, both=both)
        self._later(fault.seconds, network.heal_partition, fault.where, fault.other)

    def _partition_one_way(self, fault: Fault) -> None:
        self._partition(fault, both=False)

    def _cut(self, fault: Fault) -> None:
        self.loop.network.cut(fault.where, fault.other, fault.number)

    def _reset(self, fault: Fault) -> None:
        self.loop.network.reset(fault.where, fault.other)

    def _box(self, fault: Fault, choose: Callable[[bytes], tuple[float, ...]]) -> None:
        network = self.loop.network
        framing = self._framing[fault.where if fault.where in self._framing else fault.other]
        network.box(fault.where, fault.other, Box(framing, choose))
        self._later(fault.seconds, network.heal_box, fault.where, fault.other)

    def _drop_frames(self, fault: Fault) -> None:
        self._box(fault, lambda frame: () if self._dice.random() < 0.3 else (0.0,))

    def _repeat_frames(self, fault: Fault) -> None:
        self._box(fault, lambda frame: (0.0, self._dice.uniform(0.0, 2.0)) if self._dice.random() < 0.3 else (0.0,))

    def _delay_frames(self, fault: Fault) -> None:
        self._box(fault, lambda frame: (self._dice.uniform(0.1, HOLD_MAX_S),) if self._dice.random() < 0.3 else (0.0,))

    def _delay_answers(self, fault: Fault) -> None:
        """Of the card host, nearly all of them, and for as long as an answer may be under way at most."""
        card = dataclasses.replace(fault, where=CARD, other=SWITCH)
        self._box(card, lambda frame: (self._dice.uniform(1.0, ANSWER_HOLD_MAX_S),))

    def _refuse(self, fault: Fault) -> None:
        address = (HOST, PORTS[fault.where])
        self.loop.network.refused.add(address)
        self._later(fault.seconds, self.loop.network.refused.discard, address)

    def _hang(self, fault: Fault) -> None:
        address = (HOST, PORTS[fault.where])
        self.loop.network.hanging.add(address)
        self._later(fault.seconds, self.loop.network.hanging.discard, address)

    def _slow_network(self, fault: Fault) -> None:
        network = self.loop.network
        usual, network.latency_s = network.latency_s, (0.05, 1.5)
        self._later(fault.seconds, setattr, network, "latency_s", usual)

    def _slow_journal(self, fault: Fault) -> None:
        usual, self._latency_s = self._latency_s, (0.05, 3.0)
        self._later(fault.seconds, setattr, self, "_latency_s", usual)

    def _unknown_commit(self, fault: Fault) -> None:
        self._journal_fault = memory.Fault(applied=True, outage_s=fault.seconds)

    def _lost_commit(self, fault: Fault) -> None:
        self._journal_fault = memory.Fault(applied=False, outage_s=fault.seconds)

    _outage = _lost_commit

    def _step_clock(self, fault: Fault) -> None:
        self.nodes[fault.where].step_wall(fault.number)

    def _heal(self) -> None:
        """Nothing goes wrong any more; whatever is down comes back."""
        self.note("*** everything is healed")
        self._healed = True
        self.loop.network.heal()
        self._latency_s = (0.000_5, 0.004)
        self._journal_fault = None
        self._dozes.clear()
        self._scenario = calm(self._scenario)
        for name in (CARD, BILL, *self.names):
            node = self.nodes[name]
            if node.paused:
                node.resume()
            if not node.alive:
                self._restart(name)
        for host in self._hosts.values():
            host.behave(self._scenario)


class _Dice:
    """``ports.Dice`` of the switch."""

    def __init__(self, loop: SimLoop) -> None:
        self._random = loop.stream("switch")

    def uniform(self) -> float:
        return self._random.random()


async def _nothing() -> int:
    return 0


_FOLDERS: Final[list[tempfile.TemporaryDirectory[str]]] = []


def _vault() -> Path:
    """One folder of wrapped hour keys for all worlds of this process; all of them live on the same simulated day."""
    if not _FOLDERS:
        folder = tempfile.TemporaryDirectory(prefix="gridswitch-sim-")
        _FOLDERS.append(folder)
        Finalize(None, folder.cleanup, exitpriority=1)  # a process of a pool ends without what is called at exit
    return Path(_FOLDERS[0].name)


def play(plan: Plan, parts: Parts = AS_SHIPPED, *, crash_at: int = 0, tell: bool = False) -> Outcome:
    """Run a plan once."""
    return World(plan, parts, crash_at=crash_at, tell=tell).run()
