"""The invariants of the saga (design §9), looked at when a simulated run has come to rest, and some while it runs.

Each gives its violations as sentences that name the payment and the evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson

import iso8583
from switch.machines.payment import HostProfile
from switch.model.cardnumber import Known, find
from switch.model.chain import event_link
from switch.model.payment import FINAL, State
from switch.net.framed import LEN2, Framing, Splitter, make_splitter
from switch.ports import ClaimKind, JournalEntry
from switch.sim.fleet import BookEntry
from switch.sim.marketing_wire import HostWire
from switch.sim.plan import BILL, Plan
from switch.sim.threeway import ThreeWay
from switch.sim.truth import MemoryTruthLedger, read_charges, read_facts, read_postings
from switch.store.memory import MemoryDatabase

_HEADER_SIZE: Final = 11
_SETTLED: Final = frozenset({"balanced", "differs", "uploaded"})
_UNDECIDED: Final = frozenset({State.SUSPENSE, State.UNPROVEN})


@dataclass(frozen=True, slots=True)
class Violation:
    invariant: str  # "I1" …
    what: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.what}"


class WireAuditor:
    """Reads what the switch hands to the network, as it does so, and holds it against what is durable then (I5)."""

    def __init__(
        self, database: MemoryDatabase, bill_wire: HostWire, ledger: MemoryTruthLedger, *, alone: bool = False
    ) -> None:
        self._database = database
        self._ledger = ledger  # of the card host
        self._alone = alone  # one worker: what it made durable it knows
        self._bill_wire = bill_wire
        self._epoch = 0  # of the worker whose bytes are being read
        self._spec = iso8583.load("unionpay_pos", header="tpdu+pos6")
        self._splitters: dict[int, Splitter] = {}
        self._purchases: set[str] = set()
        self.violations: list[Violation] = []
        self.frames: list[str] = []  # of what was just read, for a story

    def card_bytes(self, wire: int, data: bytes, epoch: int) -> Iterator[str]:
        """What a worker wrote to the card host on one connection; yields a line for each frame."""
        self._epoch = epoch
        for frame in self._split(wire, data, LEN2):
            message = self._spec.decode(frame)
            key = f"{message.get(41)}|{str(message.get(60, ''))[2:8]}|{message.get(11)}"
            yield f"{message.mti} {key}"
            if message.mti == "0200":
                self._audit_purchase(key)
            elif message.mti == "0400":
                self._audit(key, State.REVERSAL_PENDING, "0400")

    def bill_bytes(self, wire: int, data: bytes, epoch: int) -> Iterator[str]:
        self._epoch = epoch
        for frame in self._split(wire, data, self._bill_wire.framing):
            request = self._bill_wire.read(frame)
            operation, serial = request["op"], request.get("serial", "")
            yield f"{operation} {serial}".rstrip()
            wanted = {"post": State.BILL_PENDING, "cancel": State.BILL_CANCELLING}.get(operation)
            if wanted is not None:
                self._audit_serial(serial, wanted, operation)

    def answers(self, wire: int, data: bytes, host: str) -> Iterator[str]:
        """What a host wrote to a worker on one connection: "0210 00", "bill 84" … of each answer that has a code."""
        framing = self._bill_wire.framing if host == BILL else LEN2
        for frame in self._split(-wire, data, framing):
            if host == BILL:
                yield f"bill {self._bill_wire.code(frame)}"
            else:
                message = self._spec.decode(frame)
                if message.mti in ("0210", "0410"):
                    yield f"{message.mti} {message.get(39)}"

    def _split(self, wire: int, data: bytes, framing: Framing) -> list[bytes]:
        splitter = self._splitters.get(wire)
        if splitter is None:
            splitter = self._splitters[wire] = make_splitter(framing)
        return splitter.feed(data)

    def _audit_purchase(self, key: str) -> None:
        if key in self._purchases:
            self._add("I5", f"the purchase {key} left twice")
        self._purchases.add(key)
        settled = self._database.settlements.get((key[:8], key[9:15]))
        if self._alone and settled is not None and settled.state in _SETTLED:
            self._add("C16", f"the purchase {key} left in a batch that is settled")
        before = key[:8], f"{int(key[9:15]) - 1:06d}"
        settled = self._database.settlements.get(before)
        if settled is not None and settled.state == "asked" and not self._has_settled(*before):
            self._add("C16", f"the purchase {key} left, and the host has not settled the batch before")
        self._audit(key, State.CARD_PENDING, "0200")

    def _has_settled(self, terminal_id: str, batch_number: str) -> bool:
        """A sign-on may have brought the next batch, while we wait for the host's word about this one."""
        wanted = terminal_id, batch_number
        facts = read_facts(self._ledger, "unionpay")
        return any((f["terminal"], f["batch"]) == wanted for f in facts if f["fact"] == "settled")

    def _audit(self, key: str, state: State, what: str) -> None:
        held = self._database.claims.get((ClaimKind.STAN, key))
        if held is None:
            self._add("I5", f"{what} {key} left, and nothing durable knows of it")
        else:
            self._audit_event(held.opened_on, held.payment_id, state, what)

    def _audit_serial(self, serial: str, state: State, what: str) -> None:
        payment_id = int(serial[:-2])
        opened = next((key for key in self._database.events if key[1] == payment_id), None)
        if opened is None:
            self._add("I5", f"{what} {serial} left, and nothing durable knows of it")
        else:
            self._audit_event(*opened, state, what)

    def _audit_event(self, opened_on: int, payment_id: int, state: State, what: str) -> None:
        events = self._database.events[opened_on, payment_id]
        if not any(entry.state == state for entry, _ in events.values()):
            self._add("I5", f"{what} of {payment_id} left before {state} was durable")
        opened = self._database.claims.get((ClaimKind.OPEN, str(payment_id)))
        if opened is not None and opened.owner != self._epoch:
            self._add("I5", f"{what} of {payment_id} left worker {self._epoch}, and worker {opened.owner} owns it")

    def _add(self, invariant: str, what: str) -> None:
        self.violations.append(Violation(invariant, what))


def check_books(
    database: MemoryDatabase, card: MemoryTruthLedger, bill: MemoryTruthLedger, book: dict[str, BookEntry]
) -> Iterator[Violation]:
    """I1 to I4, I6, I11, I15: three books and the kiosks' own agree, to the fen."""
    three = ThreeWay(read_charges(card), read_postings(bill), book)
    for row in database.payment_rows():
        three.add(row)
    proof = three.finish(_balances(database))
    for difference in proof.differences:
        yield Violation(
            _INVARIANT.get(difference.kind, "I6"), f"{difference.kind}: {difference.key}: {difference.detail}"
        )
    if proof.open:
        yield Violation("I14", f"{proof.open} payments are still open long after the last fault")


_INVARIANT: Final = {
    "told paid, but it is not": "I3",
    "told paid without a payment": "I3",
    "told not charged, but it is": "I4",
    "posted twice": "I2",
    "event missing": "I10",
    "ledger not balanced": "I11",
    "suspense": "I11",
    "charge without a payment": "I5",
}


def _balances(database: MemoryDatabase) -> dict[str, int]:
    balances: dict[str, int] = {}
    for events in database.events.values():
        for entry, _ in events.values():
            for account, debit, credit in orjson.loads(entry.ledger) if entry.ledger else ():
                balances[account] = balances.get(account, 0) + debit - credit
    return balances


def check_histories(database: MemoryDatabase) -> Iterator[Violation]:
    """I8 final is final, I10 no gap and an unbroken chain, I11 each event balances, I13 one decision."""
    for (_, payment_id), events in database.events.items():
        entries = [events[ver][0] for ver in sorted(events)]
        if sorted(events) != list(range(1, len(events) + 1)):
            yield Violation("I10", f"payment {payment_id}: vers {sorted(events)}")
        link, decided = b"", False
        for before, entry in zip([None, *entries], entries, strict=False):
            link = event_link(link, payment_id, entry.ver, entry.state, entry.row, entry.body, entry.ledger)
            if link != entry.link:
                yield Violation("I10", f"payment {payment_id}: the chain breaks at ver {entry.ver}")
                break
            if before is not None and before.state in FINAL:
                yield Violation("I8", f"payment {payment_id}: {before.state}, then {entry.state} by row {entry.row}")
            if decided and entry.state is State.COMPLETED and before is not None and before.state is not State.SUSPENSE:
                yield Violation("I13", f"payment {payment_id}: decided to reverse, then COMPLETED")
            decided |= entry.state is State.REVERSAL_PENDING
            lines = orjson.loads(entry.ledger) if entry.ledger else []
            if sum(debit - credit for _, debit, credit in lines):
                yield Violation("I11", f"payment {payment_id}: ver {entry.ver} does not balance")
        if entries[-1].state in _UNDECIDED and not _has_case(entries):
            yield Violation("I14", f"payment {payment_id}: {entries[-1].state} without a case")


def _has_case(entries: list[JournalEntry]) -> bool:
    unproven = entries[-1].state is State.UNPROVEN  # the settlement file decides, no case yet
    return unproven or any("case" in orjson.loads(entry.body) for entry in entries)


def check_claims(database: MemoryDatabase) -> Iterator[Violation]:
    """I9 and I7's durable half: what is open has its claim, what is final holds neither card data nor bills."""
    open_ids = {int(key) for kind, key in database.claims if kind is ClaimKind.OPEN}
    for (_, payment_id), events in database.events.items():
        state = events[max(events)][0].state
        if (state in FINAL) == (payment_id in open_ids):
            yield Violation("I7", f"payment {payment_id}: {state}, and its claim 'open' says the opposite")
    completed = {key for key, events in database.events.items() if events[max(events)][0].state is State.COMPLETED}
    for opened_on, payment_id in completed ^ set(database.kept):
        how = "not kept" if (opened_on, payment_id) in completed else "kept, and it is not completed"
        yield Violation("I9", f"payment {payment_id}: its card number is {how}")
    for (kind, key), held in database.claims.items():
        if (held.sealed_pan is not None) and kind is not ClaimKind.OPEN:
            yield Violation("I9", f"claim {kind} {key} holds a card number")
        if kind is ClaimKind.BILL and held.payment_id not in open_ids:
            yield Violation("I7", f"bill {key} is locked for ever by payment {held.payment_id}")


def check_secrets(database: MemoryDatabase, texts: list[str], cards: set[str]) -> Iterator[Violation]:
    """I12: no card number in any row, stray or log line, in any form; sealed data is what it says."""
    rows: list[tuple[str, bytes]] = [("log line", text.encode()) for text in texts]
    rows += [("stray", f"{stray.key} {stray.detail}".encode()) for stray in database.strays]
    for (_, payment_id), events in database.events.items():
        for ver, (entry, _) in events.items():
            rows += [
                (f"payment {payment_id} ver {ver}", part or b"") for part in (entry.body, entry.attempt, entry.ledger)
            ]
    for (_, key), held in database.claims.items():
        rows += [(f"claim {key}", part or b"") for part in (key.encode(), held.sealed, held.sealed_pan)]
    rows += [(f"kept card {payment_id}", sealed) for (_, payment_id), (sealed, _) in database.kept.items()]
    known = Known(cards)
    for where, row in rows:
        for found in (*known.find(row), *find(row)):
            yield Violation("I12", f"{where}, byte {found.offset}: {found.kind} {found.shown}")


# Rows that hand a payment to people, and what hosts or days must be like for them: where everything can be proved,
# nobody may be asked.
_NEEDS: Final[dict[str, Callable[[Plan], bool]]] = {
    "9s": lambda plan: plan.profile.host.fence == "none",
    "10q": lambda plan: _cannot_go_on(plan.profile.host),
    "10s": lambda plan: _cannot_go_on(plan.profile.host),
    "12m": lambda plan: bool(plan.day_close_in_s),
    "13m": lambda plan: bool(plan.day_close_in_s) and plan.profile.host.fence != "tombstone",
    "14s": lambda plan: bool(plan.day_close_in_s),
    "13c": lambda plan: bool(plan.cut_over_in_s),
    "18": lambda plan: bool(plan.cut_over_in_s),
    "16s": lambda plan: bool(plan.cut_over_in_s) or plan.profile.reversed_25,
    "16u": lambda plan: not plan.profile.host.not_found_proves,
}


def _cannot_go_on(host: HostProfile) -> bool:
    """Neither posting again nor, once "being booked" was said, anything else is left (C6, C7)."""
    return not host.deduplicates or host.fence == "none"


def check_undecided(database: MemoryDatabase, plan: Plan) -> Iterator[Violation]:
    """A payment waits for a file or a person only where this run's hosts and days left no proof."""
    for (_, payment_id), events in database.events.items():
        before: State | None = None
        for ver in sorted(events):
            entry = events[ver][0]
            if entry.state in _UNDECIDED and before not in _UNDECIDED:
                needs = _NEEDS.get(entry.row)
                if needs is None or not needs(plan):
                    what = f"row {entry.row} left payment {payment_id} {entry.state}, and it could be decided"
                    yield Violation("C3", what)
            before = entry.state


def check_promises(database: MemoryDatabase, bill: MemoryTruthLedger) -> Iterator[Violation]:
    """C7: once the kiosk has heard "being booked", only a refusal takes a payment back, no silence."""
    refused = {fact["serial"][:-2] for fact in read_facts(bill) if fact["fact"] == "rejected"}
    for (_, payment_id), events in database.events.items():
        before, told = None, False
        if str(payment_id) in refused:
            continue
        for ver in sorted(events):
            entry = events[ver][0]
            body = orjson.loads(entry.body)
            undone = entry.state in (State.BILL_CANCELLING, State.REVERSAL_PENDING)
            if before is State.BILL_PENDING and undone and told:
                yield Violation("C7", f"payment {payment_id} was taken back by row {entry.row} after 'being booked'")
            told |= bool(body.get("told_pending"))
            before = entry.state


def story(database: MemoryDatabase) -> Iterator[tuple[int, str]]:
    """(wall clock in microseconds, line) of every event of every payment; nothing in them is secret."""
    for (_, payment_id), events in database.events.items():
        for ver in sorted(events):
            entry = events[ver][0]
            body: dict[str, Any] = orjson.loads(entry.body)
            reason = f" ({body['reason']})" if "reason" in body else ""
            code = f" code {body['response_code']}" if body.get("response_code") else ""
            yield entry.wall_us, f"payment {payment_id} ver {ver}: row {entry.row} -> {entry.state}{code}{reason}"


def check_settlements(database: MemoryDatabase, ledger: MemoryTruthLedger) -> Iterator[Violation]:
    """Saga C16: a batch ends by the host's word and by nothing else, and what the word was is known on both sides."""
    facts = list(read_facts(ledger, "unionpay"))
    said = {(fact["terminal"], fact["batch"]): fact for fact in facts if fact["fact"] == "settled"}
    uploaded = {(fact["terminal"], fact["batch"]) for fact in facts if fact["fact"] == "uploaded"}
    for key, here in database.settlements.items():
        there = said.get(key)
        if here.state in ("asked", "differs"):
            yield Violation("C16", f"the settlement of {key} has no end: {here.state} after {here.tries} tries")
        elif here.state in _SETTLED and there is None:
            yield Violation("C16", f"batch {key} is {here.state}, and the host has not settled it")
        elif here.state in _SETTLED and there is not None and (here.state == "balanced") != (there["code"] == "1"):
            yield Violation("C16", f"batch {key} is {here.state}, and the host said {there['code']}")
        if here.state == "uploaded" and key not in uploaded:
            yield Violation("C16", f"the details of {key} are uploaded, and the host has none")
    for key, fact in said.items():
        agree = (fact["count"], fact["fen"]) == (fact["asked_count"], fact["asked_fen"])
        if agree != (fact["code"] == "1"):
            yield Violation("C16", f"the host compares wrongly: {fact}")
        if database.settlements[key].state not in _SETTLED:
            yield Violation("C16", f"the host has settled {key}, and nothing durable knows of it")
    for fact in facts:
        if fact["fact"] != "uploaded":
            continue
        for stan in fact["differ"]:
            held = database.claims.get((ClaimKind.STAN, f"{fact['terminal']}|{fact['batch']}|{stan}"))
            events = {} if held is None else database.events[held.opened_on, held.payment_id]
            if not any(entry.state in _UNDECIDED for entry, _ in events.values()):
                yield Violation(
                    "C16", f"charge {stan} of {fact['terminal']}|{fact['batch']} differs, and nobody doubts it"
                )
    for terminal in database.terminals.values():
        for number in range(1, int(terminal.batch_number)):
            if (terminal.terminal_id, f"{number:06d}") not in said:
                yield Violation("C16", f"terminal {terminal.terminal_id} left batch {number}, which is not settled")
