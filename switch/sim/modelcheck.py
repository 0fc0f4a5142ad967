"""Explores every reachable state of one payment: the shipped machine against two hosts that do their worst.

Nothing here decides anything. The machine is ``machines.payment.Payment`` itself, thawed from a small tuple, stepped,
and frozen again; the table is the one it runs on in production. Around it stand, as plain data: workers that may crash
between any two steps, a network that loses, repeats, delays and reorders, a card host and a marketing system that
behave as a ``Profile`` says, days that end at any moment, a kiosk that asks at any moment, people who close cases.

    time        has no length here. A quiet period may end as soon as nothing of it can be true any more: the card
                host's, once no purchase is under way; the late period, once no answer from before it is.
    network     a set of messages. A request may be acted on many times or never; an answer, once given, may be heard
                at any later moment, or never.
    safety      I1 one charge, I2 one posting, I3 and I4 what the kiosk was told, I6 the books agree whenever nothing
                is outstanding, C7 nothing is taken back on silence after "being booked"
    liveness    from every reachable state a settled one can be reached without anybody being killed

The exploration is breadth first, so a counterexample is a shortest one.
"""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, NamedTuple

from switch.limits import SHORT
from switch.machines.payment import (
    COMPLETED,
    DECLINED,
    NEVER,
    NOT_CHARGED,
    RETURNED,
    Facts,
    HostProfile,
    Payment,
)
from switch.machines.payment_table import Input
from switch.model.effect import (
    Effect,
    Record,
    SendCancel,
    SendPost,
    SendPurchase,
    SendReversal,
    SendStatus,
    Tell,
)
from switch.model.payment import DRIVEN, FINAL, Posting, PostingState, State, StoredPayment

# Numbers without meaning but for their order: time is abstract here, and only the guards compare it.
TIMES: Final = dataclasses.replace(SHORT, name="model", quiet_s=10.0, late_s=10.0, marketing_quiet_s=10.0, bill_s=500.0)
NOW: Final = 1_000.0
SAID_NO: Final = frozenset({DECLINED, NOT_CHARGED, RETURNED})  # "your card is not charged"
FOUND_ONLY: Final = HostProfile(reversal_00_any=False, not_found_proves=True)
PARKED: Final = frozenset({State.SUSPENSE, State.UNPROVEN})
_KILLED, _PAUSED = _FAULTS = ("killed", "paused beyond its lease")
_BEFORE_ANSWER: Final = frozenset({State.NEW, State.CARD_PENDING})
_REVERSING: Final = frozenset({State.NEW, State.CARD_PENDING, State.CARD_CONFIRMING, State.REVERSAL_PENDING, *PARKED})
_BEFORE_BILL: Final = frozenset({State.CARD_PENDING, State.CARD_CONFIRMING})
_TAKEN_BACK: Final = frozenset({State.CARD_PENDING, State.CARD_CONFIRMING, State.BILL_PENDING})  # if a kiosk asks


@dataclass(frozen=True, slots=True)
class Profile:
    """How the hosts behave, and what the switch was told about it. Both sides, because a profile is a promise."""

    name: str
    says: str
    host: HostProfile = FOUND_ONLY
    ordered: bool = True  # a reversal is never acted on before the purchase that left before it
    not_found_00: bool = False  # a reversal of nothing is answered 00
    reversed_25: bool = False  # a reversal of what is reversed already is answered 25
    ambiguous_charge: bool = False  # 94 and the like may stand for a charge
    postings: int = 1
    keeps_refusals: bool = False  # a refused serial stays refused, tombstones or not
    closes: bool = True  # the marketing system's day ends; then people book by hand what is still open


@dataclass(frozen=True, slots=True)
class Conduct:
    """What the code around the machine does. The defaults are the shipped rules; a mutation turns one off."""

    durable_first: bool = True  # M1
    compare_and_set: bool = True  # M10
    recovers: bool = True  # M11
    lease_checked: bool = True  # M13


AS_SHIPPED: Final = Conduct()


class Body(NamedTuple):
    """What is durable of a payment."""

    state: State
    approved_seen: bool
    told_pending: bool
    absent: bool
    responded: bool
    postings: tuple[PostingState, ...]


class Frozen(NamedTuple):
    """A payment in a worker's memory, without what no guard looks at."""

    state: State
    approved_seen: bool
    told_pending: bool
    forward_only: bool
    absent: bool
    responded: bool
    postings: tuple[tuple[PostingState, int], ...]  # state, how often it left (2: or more)
    purchase: int  # -1 not written; 0 just now, 1 the quiet period is over, 2 the late period too
    reversal: int  # -1 not written; else ``purchase`` when the latest was
    reversal_after_approval: bool
    reversed_blind: bool
    post: int  # -1 not written; 0 just now, 1 the marketing system's quiet period is over
    cancel: int  # -1 not written; 1 if the latest left after that quiet period
    status: int  # the same of the latest status inquiry
    refused: bool
    leg: Input | None  # what a time-out of the present leg would be
    kiosk_waits: bool
    bill_timer: bool
    day_timer: bool


# One effect, as far as the world cares: (kind, posting, extra).
Act = tuple[str, int, Any]


class Worker(NamedTuple):
    payment: Frozen
    acts: tuple[Act, ...] = ()  # to carry out, in this order
    pending: Body | None = None  # a commit under way; ``acts`` follow it
    out: Act | None = None  # the marketing request whose answer is awaited
    stale: bool = False  # somebody else has written since we read
    lease: bool = True


class World(NamedTuple):
    body: Body | None  # None: nothing durable yet
    workers: tuple[Worker | None, ...]
    card: str  # none, charged, declined, reversed, refunded
    charges: int
    bills: tuple[str, ...]  # none, posted, rejected, tombstone, undone
    doubled: bool  # a receivable was posted twice
    net: int  # bits of ``Messages``
    cut: int  # 0 far from the cut-over, 1 our clock is near it, 2 it has passed on our clock
    day_over: bool  # the card host's day has changed
    bill_day_over: bool
    said_no: bool  # the kiosk has heard that nothing stays charged
    rejected: bool  # the marketing system has refused a posting
    lied: bool = False  # the kiosk has heard "paid" of what is not
    approved: bool = False  # the switch has heard that the card is charged
    accepted: bool = False  # the card's chip has said that the charge stands


_BILL_ANSWERS: Final[dict[str, tuple[tuple[str, Input], ...]]] = {
    "post": (("Bok", Input.BILL_POSTED), ("Brej", Input.BILL_REJECTED), ("Bno", Input.BILL_REJECTED)),
    "status": (("If", Input.BILL_POSTED), ("In", Input.BILL_ABSENT), ("Ir", Input.BILL_REJECTED)),
    "cancel": (
        ("Cok", Input.CANCEL_DONE),
        ("Cp", Input.CANCEL_POSTED),
        ("Cab", Input.CANCEL_ABSENT),
        ("Cfin", Input.CANCEL_FINAL),
    ),
}


class Messages:
    """Every message of the little network, as one bit."""

    def __init__(self, postings: int) -> None:
        names = ["P", "P2", "R", "Pa", "Pb", "Pp", "Pd", "P9", "R00", "R00e", "R25", "R25e"]
        for n in range(postings):
            names += [f"B{n}", f"D{n}", f"I{n}", f"Bok{n}", f"Brej{n}", f"Bno{n}", f"If{n}", f"In{n}", f"Ir{n}"]
            names += [f"C{n}{undo}{late}" for undo in "ru" for late in "01"]
            names += [
                f"{kind}{n}{undo}{late}" for kind in ("Cok", "Cp", "Cab", "Cfin") for undo in "ru" for late in "01"
            ]
        self.bit = {name: 1 << index for index, name in enumerate(names)}
        self.purchases = self.bit["P"] | self.bit["P2"]
        self.early = self.bit["R25e"] | self.bit["R00e"]
        self.approvals = self.bit["Pa"] | self.bit["Pb"] | self.bit["Pp"]
        self.refusals = self.bit["Pd"] | self.bit["P9"]
        self.reversal_answers = self.early | self.bit["R25"] | self.bit["R00"]
        # What only the worker that asked can use, by what it waits for.
        self.bill_answers = 0
        self.awaited: dict[tuple[str, int, str], int] = {}
        for n in range(postings):
            for kind, tails in (
                ("post", [""]),
                ("status", [""]),
                ("cancel", [u + late for u in "ru" for late in "01"]),
            ):
                for tail in tails:
                    bits = sum(self.bit[f"{name}{n}{tail}"] for name, _ in _BILL_ANSWERS[kind])
                    bits |= self.bit[f"I{n}"] if kind == "status" else 0
                    self.awaited[kind, n, tail] = bits
                    self.bill_answers |= bits
        self.posts = sum(self.bit[f"{copy}{n}"] for n in range(postings) for copy in "BD")
        self.requests = sum(bit for name, bit in self.bit.items() if name[0] in "BDCRP" and self._is_request(name))
        self.names = names

    @staticmethod
    def _is_request(name: str) -> bool:
        return (
            name in ("P", "P2", "R")
            or (name[0] in "BD" and name[1:].isdigit())
            or (name[0] == "C" and name[1].isdigit())
        )


@dataclass
class Verdict:
    states: int
    edges: int
    violation: str = ""
    trace: tuple[str, ...] = ()
    stuck: int = 0
    stuck_trace: tuple[str, ...] = ()
    complete: bool = True  # False: the bound was reached first
    rows: frozenset[str] = frozenset()  # of the table, that were taken somewhere

    @property
    def holds(self) -> bool:
        return not self.violation and not self.stuck and self.complete


Moves = list[tuple[str, World]]


class ModelCheck:
    """One profile, one machine, one conduct.

    Args:
        machine: The shipped ``Payment``, or a mutant of it.
        workers: 1, or 2 that race.
        late_bill: The time for posting would end after the card network's day.
        cut_over: The card network's day may end at any moment; off, to bound the space of two workers.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        machine: type[Payment] = Payment,
        conduct: Conduct = AS_SHIPPED,
        workers: int = 1,
        late_bill: bool = False,
        cut_over: bool = True,
    ) -> None:
        self.profile = profile
        self.machine = machine
        self.conduct = conduct
        self.workers = workers
        self.late_bill = late_bill
        self.cut_over = cut_over
        self.messages = Messages(profile.postings)
        self.rows: set[str] = set()
        # A host that neither knows serials nor keeps tombstones would be undone by any wire that repeats by itself. No
        # such wire is known, so there only our own second posting makes a second one.
        self.wires_repeat = profile.host.deduplicates and profile.host.fence == "tombstone"
        self._bit = self.messages.bit
        self._steps: dict[Any, tuple[Frozen, Body | None, tuple[Act, ...], str]] = {}
        self._written: dict[Any, Frozen] = {}
        self._adopted: dict[Body, tuple[Frozen, str]] = {}

    # ------------------------------------------------------------------------------------------------ the machine
    @property
    def _entry_mode(self) -> str:
        """A chip card where that makes a difference."""
        return "051" if self.profile.host.emv_completion == "wait" else "021"

    def _thaw(self, frozen: Frozen, cut: int) -> Payment:
        postings = [
            Posting(f"R{n}", "202601", 100, 0, 100, f"S{n}", state, sends)
            for n, (state, sends) in enumerate(frozen.postings)
        ]
        payment = self.machine(
            **_IDENTITY,
            entry_mode=self._entry_mode,
            amount=100 * len(postings),
            postings=postings,
            times=TIMES,
            profile=self.profile.host,
            started_at=NOW,
        )
        payment.state = frozen.state
        payment.approved_seen = frozen.approved_seen
        payment.told_pending = frozen.told_pending
        payment.forward_only = frozen.forward_only
        payment.absent = frozen.absent
        payment.reversed_blind = frozen.reversed_blind
        payment.response_code = "51" if frozen.responded else ""
        if frozen.purchase >= 0:
            payment.purchase_written_at = NOW - (5.0, 15.0, 25.0)[frozen.purchase]
        if frozen.reversal >= 0:
            payment.reversal_written_at = payment.purchase_written_at + (3.0, 12.0, 22.0)[frozen.reversal]
        if frozen.approved_seen:
            payment.approved_at = payment.reversal_written_at if frozen.reversal_after_approval else NOW
        if frozen.post >= 0:
            payment.post_written_at = NOW - (5.0, 15.0)[frozen.post]
        if frozen.cancel >= 0:
            payment.cancel_written_at = payment.post_written_at + (1.0, 12.0)[frozen.cancel]
        if frozen.status >= 0:
            payment.status_written_at = payment.post_written_at + (1.0, 12.0)[frozen.status]
        payment.refused = frozen.refused
        payment.cut_over_at = NOW + (1_000.0, 5.0, -1.0)[cut]
        if frozen.leg is not None:
            payment.leg_deadline, payment.leg_input = NOW + 50.0, frozen.leg
        if frozen.kiosk_waits:
            payment.kiosk_deadline = NOW + 60.0
        if frozen.bill_timer:
            payment.bill_deadline = payment.cut_over_at + (1.0 if self.late_bill else -1.0)
        payment.day_close_at = NOW + 2_000.0 if frozen.day_timer else NEVER
        return payment

    def _freeze(self, payment: Payment) -> Frozen:
        state = payment.state
        quiet = NOW - payment.purchase_written_at if payment.purchase_written_at != NEVER else -1.0
        purchase = -1 if quiet < 0 else 0 if quiet < 10 else 1 if quiet < 20 else 2
        reversal = -1
        if payment.reversal_written_at >= 0 and purchase >= 0:
            after = payment.reversal_written_at - payment.purchase_written_at
            reversal = 0 if after < 10 else 1 if after < 20 else 2
        post = -1 if payment.post_written_at < 0 else 0 if NOW - payment.post_written_at < 10 else 1
        cancel = status = -1
        if payment.cancel_written_at >= 0:
            cancel = int(payment.cancel_written_at >= payment.post_written_at + 10)
        if payment.status_written_at >= 0 and (payment.refused or not payment.profile.deduplicates):
            status = int(payment.status_written_at >= payment.post_written_at + 10)
        billing = state in (State.BILL_PENDING, State.BILL_CANCELLING)
        driven = state in DRIVEN
        if not driven or billing:
            # Not looked at in these states; a period that is over stays over, and may end again when it matters.
            reversal, purchase = -1, min(purchase, 0)
        if not billing:
            post = cancel = status = -1
        return Frozen(
            state,
            payment.approved_seen,
            payment.told_pending if state is State.BILL_PENDING else False,
            payment.forward_only if billing else False,
            payment.absent,
            bool(payment.response_code) if state in (State.NEW, State.CARD_PENDING, State.DECLINED) else False,
            tuple((posting.state, min(posting.sends, 2) if billing else 0) for posting in payment.postings),
            purchase,
            reversal,
            reversal >= 0 and payment.reversal_written_at >= payment.approved_at,
            payment.reversed_blind and state is State.REVERSAL_PENDING,
            post,
            cancel,
            status,
            payment.refused and billing,
            payment.leg_input if driven and payment.leg_deadline != NEVER else None,
            payment.kiosk_deadline != NEVER and state in (State.CARD_PENDING, State.BILL_PENDING),
            payment.bill_deadline != NEVER and state is State.BILL_PENDING,
            payment.day_close_at != NEVER,
        )

    def _fresh(self) -> Frozen:
        payment = self.machine(
            **_IDENTITY,
            entry_mode=self._entry_mode,
            amount=100 * self.profile.postings,
            postings=[Posting(f"R{n}", "202601", 100, 0, 100, f"S{n}") for n in range(self.profile.postings)],
            times=TIMES,
            profile=self.profile.host,
            started_at=NOW,
            day_close_at=NOW + 2_000.0,
        )
        return self._freeze(payment)

    def _stored(self, body: Body) -> Payment:
        """As a worker that takes it over, or answers for it, gets it from the journal."""
        stored = StoredPayment(1, 20260101, 1, body.state)
        stored.body = {
            **_OPENING,
            "entry_mode": self._entry_mode,
            "amount": 100 * len(body.postings),
            "postings": [[f"R{n}", "202601", 100, 0, 100, f"S{n}", state] for n, state in enumerate(body.postings)],
            "approved_seen": body.approved_seen,
            "told_pending": body.told_pending,
            "absent": body.absent,
            "response_code": "51" if body.responded else "",
            "reversal_reason": "98",
        }
        return self.machine.from_stored(
            stored,
            times=TIMES,
            profile=self.profile.host,
            now=NOW,
            cut_over_at=NOW + 1_000.0,
            day_close_at=NOW + 2_000.0,
        )

    def _adopt(self, body: Body) -> tuple[Frozen, str]:
        """The payment in a new worker's memory, and what a kiosk that asks is told."""
        if body not in self._adopted:
            payment = self._stored(body)
            self._adopted[body] = self._freeze(payment), payment.answer
        return self._adopted[body]

    def _step(
        self, frozen: Frozen, given: Input, facts: str, cut: int, body: Body | None
    ) -> tuple[Frozen, Body | None, tuple[Act, ...], str]:
        """The payment after an input, what it records (None: nothing), what it then does, and the row taken."""
        key = (frozen, given, facts, cut, body)
        found = self._steps.get(key)
        if found is None:
            payment = self._thaw(frozen, cut)
            if given is frozen.leg:
                payment.leg_deadline = NEVER
            elif given is Input.KIOSK_DEADLINE:
                payment.kiosk_deadline = NEVER
            effects = payment.step(given, _FACTS[facts](), NOW)
            record = next((effect for effect in effects if isinstance(effect, Record)), None)
            acts = tuple(act for effect in effects if (act := _act(payment, effect)) is not None)
            found = self._freeze(payment), _folded(body, record, payment), acts, record.row if record else ""
            self._steps[key] = found
        if found[3]:
            self.rows.add(found[3])
        return found

    def _note_written(self, frozen: Frozen, act: Act, cut: int) -> Frozen:
        key = (frozen, act, cut)
        found = self._written.get(key)
        if found is None:
            payment = self._thaw(frozen, cut)
            payment.written(_effect(payment, act), NOW)
            found = self._written[key] = self._freeze(payment)
        return found

    # ------------------------------------------------------------------------------------------------ the world
    def start(self) -> World:
        first = Worker(self._fresh())
        return World(
            None,
            (first, *(None,) * (self.workers - 1)),
            "none",
            0,
            ("none",) * self.profile.postings,
            False,
            0,
            0,
            False,
            False,
            False,
            False,
        )

    def moves(self, world: World) -> Moves:
        """Everything that may happen next: (what, world after it)."""
        found: Moves = []
        for index in range(len(world.workers)):
            self._worker_moves(found, world, index)
        self._day_moves(found, world)
        self._card_host_moves(found, world)
        self._bill_host_moves(found, world)
        body = world.body
        if body is not None:
            answer = self._adopt(body)[1]
            told = _tell(world, answer)
            if told is not world:
                found.append((f"the kiosk asks, and hears: {answer}", told))
        return found

    # ---- a worker
    def _worker_moves(self, found: Moves, world: World, index: int) -> None:
        worker = world.workers[index]
        who = f"worker {index + 1}: " if self.workers > 1 else "switch: "
        if worker is None:
            self._take_over(found, world, index, who)
            return
        if self.conduct.recovers or worker.payment.state not in PARKED:
            found.append((f"{who}{_KILLED}", _with(world, index, None)))
        if self.workers > 1 and worker.lease:
            found.append((f"{who}{_PAUSED}", _with(world, index, worker._replace(lease=False))))
        elif not worker.lease and self.conduct.lease_checked:
            found.append((f"{who}sees that its lease is gone: gives its payments up", _with(world, index, None)))
        if worker.pending is not None:
            self._commit(found, world, index, worker, who)
        elif worker.acts:
            self._carry_out(found, world, index, worker, who)
        else:
            self._inputs(found, world, index, worker, who)

    def _take_over(self, found: Moves, world: World, index: int, who: str) -> None:
        body = world.body
        if body is None or body.state in FINAL or not self.conduct.recovers:
            return
        if any(other is not None and other.lease for other in world.workers):
            return  # its owner is alive
        frozen, _ = self._adopt(body)
        if body.state in PARKED:
            found.append((f"{who}reads it from the journal", _with(world, index, Worker(frozen))))
        else:
            self._give(found, world, index, Worker(frozen), Input.RECOVER, "", f"{who}takes it over")

    def _commit(self, found: Moves, world: World, index: int, worker: Worker, who: str) -> None:
        assert worker.pending is not None
        if worker.stale and self.conduct.compare_and_set:
            found.append((f"{who}its record is refused: another decided", _with(world, index, None)))
            return
        others = tuple(
            None if other is None else other._replace(stale=True) if at != index else worker._replace(pending=None)
            for at, other in enumerate(world.workers)
        )
        after = world._replace(body=worker.pending, workers=others)
        holder = after.workers[index]
        assert holder is not None
        self._put(found, after, index, holder, f"{who}commits {worker.pending.state}")

    def _carry_out(self, found: Moves, world: World, index: int, worker: Worker, who: str) -> None:
        kind, n, extra = act = worker.acts[0]
        after = worker._replace(acts=worker.acts[1:])
        if not worker.lease and self.conduct.lease_checked:
            # Not one byte leaves; a worker that lost its lease gives its payments up.
            found.append((f"{who}has no lease any more: drops it", _with(world, index, None)))
            return
        if kind == "record":  # M1 only
            self._put(found, world, index, worker._replace(pending=extra, acts=after.acts), f"{who}writes its record")
            return
        # The link may be down: proved not to have left, which tells something of a purchase only.
        unsent = _UNSENT[kind]
        self._give(found, world, index, after, unsent, "", f"{who}cannot send: {unsent}")
        frozen = self._note_written(worker.payment, act, world.cut)
        late = frozen.cancel if self.profile.host.fence != "tombstone" else 0  # there it makes no difference
        if kind in ("purchase", "reversal"):
            message = "R" if kind == "reversal" else "P2" if world.net & self._bit["P"] or world.charges else "P"
            after = after._replace(payment=frozen)
        else:
            copy = "D" if world.net & self._bit[f"B{n}"] and not self.wires_repeat else "B"
            message = {"post": f"{copy}{n}", "status": f"I{n}"}.get(kind, f"C{n}{extra}{late}")
            after = after._replace(payment=frozen, out=(kind, n, f"{extra}{late}" if kind == "cancel" else ""))
            # Answers to what was asked before are strays from now on.
            world = world._replace(net=world.net & ~self.messages.bill_answers | self._others_await(world, index))
        world = world._replace(net=world.net | self._bit[message])
        self._put(found, world, index, after, f"{who}sends {_spoken(message)}")

    def _others_await(self, world: World, index: int) -> int:
        """Answers in the network that other workers wait for."""
        waits = 0
        for at, other in enumerate(world.workers):
            if at != index and other is not None and other.out is not None:
                waits |= self.messages.awaited[other.out]
        return world.net & waits

    def _inputs(self, found: Moves, world: World, index: int, worker: Worker, who: str) -> None:
        payment, net, bit = worker.payment, world.net, self._bit
        state = payment.state

        def give(given: Input, facts: str, label: str, *, answered: bool = False) -> None:
            holder = worker._replace(out=None) if answered else worker
            self._give(found, world, index, holder, given, facts, f"{who}{label}")

        if state is State.NEW:
            give(Input.START, "", "starts")
            return
        for message, given, facts in _CARD_ANSWERS:
            if net & bit[message]:
                heard = world._replace(approved=world.approved or message in ("Pa", "Pb", "Pp"))
                self._give(found, heard, index, worker, given, facts, f"{who}hears {_spoken(message)}")
        if net & bit["Pa"] and state is not State.CARD_PENDING:
            # Kept as one message from here on (``_normal``), it may have been any of the three.
            heard = world._replace(approved=True)
            for message, given, facts in _CARD_ANSWERS[1:3]:
                self._give(found, heard, index, worker, given, facts, f"{who}hears {_spoken(message)}")
        if net & (bit["R00"] | bit["R00e"]):
            give(Input.REVERSAL_DONE, "", "hears 0410 with 00")
        if net & (bit["R25"] | bit["R25e"]):
            give(Input.REVERSAL_NOT_FOUND, "", "hears 0410 with 25")
        if worker.out is not None:
            kind, n, extra = worker.out
            for name, given in _BILL_ANSWERS[kind]:
                if net & bit[f"{name}{n}{extra}"]:
                    if given is Input.CANCEL_POSTED and extra[0] == "u" and self._known_posted(payment, n):
                        given = Input.CANCEL_FINAL  # noqa: PLW2901 - as the runtime reads it
                    doubtful = name == "Bno" and payment.postings[n][1] > 1
                    give(given, "doubtful" if doubtful else "", f"hears {given}", answered=True)
        if payment.leg is not None:
            give(payment.leg, "", f"waits no longer: {payment.leg}", answered=True)
        if payment.kiosk_waits:
            give(Input.KIOSK_DEADLINE, "", "the kiosk's patience ends")
        if payment.bill_timer:
            give(Input.BILL_DEADLINE, "", "the time for posting ends")
        if world.cut == 2 and (state, Input.CUT_OVER) in self.machine.table and not payment.forward_only:
            give(Input.CUT_OVER, "", "cut-over")
        if world.bill_day_over and payment.day_timer and (state, Input.BILL_DAY_OVER) in self.machine.table:
            give(Input.BILL_DAY_OVER, "", "the marketing system's day is over")
        if state is State.CARD_CONFIRMING:
            accepted = world._replace(accepted=True)
            self._give(found, accepted, index, worker, Input.CHIP_ACCEPTED, "", f"{who}hears that the chip accepts")
            give(Input.CHIP_REFUSED, "", "hears that the chip refuses")
        if state in _TAKEN_BACK:
            give(Input.KIOSK_REVERSAL, "", "the kiosk asks to take it back")
        self._quiet_moves(found, world, index, worker, who)
        if state in PARKED and not net & self.messages.requests:
            self._people(found, world, index, worker)

    @staticmethod
    def _known_posted(payment: Frozen, n: int) -> bool:
        return payment.postings[n][0] is PostingState.POSTED

    def _quiet_moves(self, found: Moves, world: World, index: int, worker: Worker, who: str) -> None:
        payment, net = worker.payment, world.net
        after: Frozen | None = None
        if payment.state is State.REVERSAL_PENDING:
            if payment.purchase == 0 and not net & self.messages.purchases:
                after = payment._replace(purchase=1)
            elif payment.purchase == 1 and not net & self.messages.early:
                after = payment._replace(purchase=2)
        elif payment.post == 0 and not net & self.messages.posts:
            after = payment._replace(post=1)
        if after is not None:
            found.append((f"{who}a quiet period has passed", _with(world, index, worker._replace(payment=after))))

    def _give(
        self, found: Moves, world: World, index: int, worker: Worker, given: Input, facts: str, label: str
    ) -> None:
        frozen, recorded, acts, row = self._step(worker.payment, given, facts, world.cut, world.body)
        after = worker._replace(payment=frozen, acts=acts)
        if recorded is not None:
            label = f"{label} [row {row}]"
            if self.conduct.durable_first:
                after = after._replace(pending=recorded)
            else:  # M1: what follows the record runs before it
                after = after._replace(acts=(*acts, ("record", 0, recorded)))
        self._put(found, world, index, after, label)

    def _put(self, found: Moves, world: World, index: int, worker: Worker, label: str) -> None:
        """The worker as it is now; nobody needs to hold what is final."""
        if self.workers == 1 and worker.pending is not None and self.conduct.durable_first:
            # Killed before the commit is as killed before the input, and nobody can come in between.
            world = world._replace(body=worker.pending)
            worker = worker._replace(pending=None)
        while worker.pending is None and worker.acts and worker.acts[0][0] == "tell":
            # Not to be told is no worse than to be told, so nothing is lost by telling at once.
            answer = worker.acts[0][2]
            label = f"{label}, tells the kiosk: {answer}"
            world, worker = _tell(world, answer), worker._replace(acts=worker.acts[1:])
        done = worker.payment.state in FINAL and worker.pending is None and not worker.acts
        found.append((label, _with(world, index, None if done else worker)))

    # ---- days: they change at any moment, which is to say at any moment at which it matters
    def _day_moves(self, found: Moves, world: World) -> None:
        state = State.NEW if world.body is None else world.body.state
        billing = state in (State.BILL_PENDING, State.BILL_CANCELLING)
        if self.cut_over and world.cut < 2 and (billing or state is State.REVERSAL_PENDING):
            said = ("our clock is near the cut-over", "our clock passes the cut-over")[world.cut]
            found.append((said, world._replace(cut=world.cut + 1)))
        if world.cut >= 1 and not world.day_over and world.card == "charged" and world.net & self._bit["R"]:
            found.append(("the card host changes its day", world._replace(day_over=True)))
        if self.profile.closes and not world.bill_day_over and (billing or world.net & self.messages.posts):
            found.append(("the marketing system closes its day", world._replace(bill_day_over=True)))

    def _normal(self, world: World) -> World:
        """Without what can make no difference any more, so that equal futures are one world."""
        messages, net = self.messages, world.net
        if self.workers > 1:
            world = self._without_ghosts(world)
        states = {worker.payment.state for worker in world.workers if worker is not None}
        body = world.body
        state = State.NEW if body is None else body.state
        states.add(state)
        waits = 0
        for worker in world.workers:
            if worker is not None and worker.out is not None:
                waits |= messages.awaited[worker.out]
        net &= ~messages.bill_answers | waits
        if not states & _BEFORE_ANSWER:
            net &= ~messages.refusals
            if net & messages.approvals:
                seen = body is not None and body.approved_seen
                net = net & ~messages.approvals | (0 if seen else self._bit["Pa"])
        if not states & _REVERSING:
            net &= ~messages.reversal_answers
        if state in FINAL and not net & messages.requests:
            world = world._replace(cut=0, bill_day_over=False)
        if state is not State.BILL_PENDING:
            world = world._replace(rejected=False)
        if state not in _REVERSING:
            world = world._replace(approved=False, accepted=False)
        return world if net == world.net else world._replace(net=net)

    def _without_ghosts(self, world: World) -> World:
        """A worker that has neither lease nor a record that could be accepted might as well be dead; and it makes no
        difference which of two workers is called the first."""
        workers: list[Worker | None] = []
        powerless = self.conduct.lease_checked and self.conduct.compare_and_set
        for worker in world.workers:
            if worker is None or worker.lease or not powerless:
                workers.append(worker)
            elif worker.stale:
                workers.append(None)
            else:
                workers.append(worker._replace(acts=() if worker.pending is None else worker.acts))
        return world._replace(workers=tuple(sorted(workers, key=_rank)))

    # ---- the card host
    def _card_host_moves(self, found: Moves, world: World) -> None:
        net, bit = world.net, self._bit
        for message in ("P", "P2"):
            if not net & bit[message]:
                continue
            found.append((f"{_spoken(message)} is lost", world._replace(net=net & ~bit[message])))
            if world.card == "none" or (message == "P2" and world.charges < 2 and world.card == "charged"):
                charged = world._replace(card="charged", charges=world.charges + 1)
                answers = ["Pa", "Pb", "Pp", *(["P9"] if self.profile.ambiguous_charge else [])]
                for answer in answers:
                    label = f"card host charges and answers {_spoken(answer)}"
                    found.append((label, charged._replace(net=net | bit[answer])))
            if world.card == "none":
                for answer, card in (("Pd", "declined"), ("P9", "declined")):
                    label = f"card host does not charge and answers {_spoken(answer)}"
                    found.append((label, world._replace(card=card, net=net | bit[answer])))
        if net & self.messages.early:
            found.append(("an early answer to a reversal is gone", world._replace(net=net & ~self.messages.early)))
        if net & bit["R"]:
            found.append(("0400 is lost", world._replace(net=net & ~bit["R"])))
            if not (self.profile.ordered and net & self.messages.purchases):
                found.append(self._reverse(world))

    def _reverse(self, world: World) -> tuple[str, World]:
        net, bit, profile = world.net, self._bit, self.profile
        if world.card == "charged" and not world.day_over:
            return "card host reverses, 00", world._replace(card="reversed", net=net | bit["R00"])
        if world.card == "charged":
            return "card host: 12, of another day", world._replace(net=net | bit["R25"])
        if world.card == "reversed":
            answer = "R25" if profile.reversed_25 else "R00"
            return "card host: reversed before", world._replace(net=net | bit[answer])
        # Nothing to reverse. As long as the purchase is under way this may become untrue.
        answer = ("R00" if profile.not_found_00 else "R25") + ("e" if net & self.messages.purchases else "")
        return "card host finds nothing to reverse", world._replace(net=net | bit[answer])

    # ---- the marketing system
    def _bill_host_moves(self, found: Moves, world: World) -> None:
        net, bit = world.net, self._bit
        host = self.profile.host
        for n, state in enumerate(world.bills):
            for post in (bit[f"B{n}"], bit[f"D{n}"]):
                if net & post:
                    gone = net & ~post
                    found.append((f"posting {n + 1} is lost", world._replace(net=gone)))
                    self._post(found, world, net if self.wires_repeat else gone, n, state)
            if net & bit[f"I{n}"]:
                answer = {"posted": "If", "none": "In", "undone": "In"}.get(state, "Ir")
                gone = net & ~bit[f"I{n}"]
                found.append((f"marketing tells the status of {n + 1}", world._replace(net=gone | bit[f"{answer}{n}"])))
            for undo in "ru":
                for late in "01":
                    cancel = bit[f"C{n}{undo}{late}"]
                    if net & cancel:
                        found.append((f"cancel of {n + 1} is lost", world._replace(net=net & ~cancel)))
                        tombstone = host.fence == "tombstone"
                        found.append(self._cancel(world, n, state, undo, late, tombstone=tombstone))

    def _post(self, found: Moves, world: World, net: int, n: int, state: str) -> None:
        bit = self._bit
        ok, refused = net | bit[f"Bok{n}"], net | bit[f"Brej{n}"]
        # "Nothing is owed": after a second posting nobody can say whether that is because of the first.
        again = any(worker is not None and worker.payment.postings[n][1] > 1 for worker in world.workers)
        paid = world._replace(net=net | bit[f"Bno{n}"], rejected=True)
        if state in ("none", "undone"):
            if not world.bill_day_over:
                found.append((f"marketing posts {n + 1}", world._replace(bills=_set(world.bills, n, "posted"), net=ok)))
            # Refused for now: that a refused serial stays refused is nothing to rely on.
            bills = _set(world.bills, n, "rejected") if self.profile.keeps_refusals else world.bills
            found.append((f"marketing refuses {n + 1}", world._replace(bills=bills, net=refused, rejected=True)))
            if again:
                found.append((f"marketing: {n + 1} is paid elsewhere", paid))
        elif state == "posted":
            doubled = not self.profile.host.deduplicates
            if again and not doubled:
                found.append((f"marketing: {n + 1} is paid", paid))
            said = "posts it again" if doubled else "repeats: posted"
            found.append((f"marketing {said}: {n + 1}", world._replace(net=ok, doubled=world.doubled or doubled)))
        else:
            found.append((f"marketing refuses {n + 1} again", world._replace(net=refused)))

    def _cancel(self, world: World, n: int, state: str, undo: str, late: str, *, tombstone: bool) -> tuple[str, World]:
        net, bit, tail = world.net, self._bit, f"{n}{undo}{late}"
        bills = world.bills
        if state == "posted":
            if tombstone and undo == "r":
                return f"marketing: {n + 1} is posted", world._replace(net=net | bit[f"Cp{tail}"])
            if world.bill_day_over:
                answer = "Cfin" if tombstone else "Cp"
                return f"marketing: too late to undo {n + 1}", world._replace(net=net | bit[f"{answer}{tail}"])
            after = "tombstone" if tombstone else "undone"
            return f"marketing undoes {n + 1}", world._replace(bills=_set(bills, n, after), net=net | bit[f"Cok{tail}"])
        if tombstone:
            return f"marketing forbids {n + 1} for good", world._replace(
                bills=_set(bills, n, "tombstone"), net=net | bit[f"Cok{tail}"]
            )
        return f"marketing: nothing to undo of {n + 1}", world._replace(net=net | bit[f"Cab{tail}"])

    # ---- people
    def _people(self, found: Moves, world: World, index: int, worker: Worker) -> None:
        """With both files before them: the sides agree, or are made to agree by hand, and the case is closed."""
        charged, posted = world.card == "charged", [state == "posted" for state in world.bills]
        undone = tuple("undone" if state == "posted" else state for state in world.bills)

        def settle(given: Input, after: World, label: str) -> None:
            self._give(found, after, index, worker, given, "", f"people: {label}")

        if worker.payment.state is State.UNPROVEN:
            given = Input.SETTLED_CHARGED if charged else Input.SETTLED_NOTHING
            settle(given, world, "the card host's file has " + ("a charge" if charged else "no charge"))
        elif charged and all(posted):
            settle(Input.SETTLED_PAID, world, "both files have it")
        elif charged:
            settle(Input.SETTLED_REFUNDED, world._replace(card="refunded", bills=undone), "refunded, and undone")
            by_hand = world._replace(bills=("posted",) * len(posted))
            settle(Input.SETTLED_PAID, by_hand, "posted by hand")
        else:
            settle(Input.SETTLED_NOTHING, world._replace(bills=undone), "not charged, and undone")

    # ------------------------------------------------------------------------------------------------ properties
    def is_settled(self, world: World) -> bool:
        """Nothing is outstanding anywhere, and nobody has anything to do."""
        if world.net & self.messages.requests or any(
            worker is not None and (worker.pending is not None or worker.acts or worker.payment.state is State.NEW)
            for worker in world.workers
        ):
            return False
        return world.body is None or world.body.state in FINAL

    def violation(self, world: World) -> str:
        if world.charges > 1:
            return "I1: the card is charged twice"
        if world.doubled:
            return "I2: a bill is posted twice"
        for worker in world.workers:
            if worker is None or worker.pending is not None or worker.acts or not worker.lease:
                continue
            if worker.payment.state in DRIVEN and worker.payment.leg is None:
                return f"I7: {worker.payment.state}, and nothing will ever be due"
        if world.lied:
            return "I3: the kiosk is told that it is paid, and it is not"
        if not self.is_settled(world):
            return ""
        state = State.NEW if world.body is None else world.body.state
        charged, posted = world.card == "charged", [bill == "posted" for bill in world.bills]
        if state is State.COMPLETED and not (charged and all(posted)):
            return f"I6: COMPLETED, but card {world.card}, bills {', '.join(world.bills)}"
        if state is not State.COMPLETED and charged:
            return f"I6: {state}, but the card stays charged: the customer is out of pocket"
        if state is not State.COMPLETED and any(posted):
            return f"I6: {state}, but a bill is posted: the utility is out of pocket"
        if state is State.COMPLETED and world.said_no:
            return "I4: the kiosk was told that nothing is charged, and the payment is completed"
        return ""

    def _edge_violation(self, before: World, after: World) -> str:
        old, new = before.body, after.body
        if old is None or new is None or old.state is new.state:
            return ""
        undoing = new.state in (State.BILL_CANCELLING, State.REVERSAL_PENDING)
        if old.state is State.BILL_PENDING and old.told_pending and undoing and not before.rejected:
            return "C7: taken back on silence, after the kiosk was told that it is being booked"
        if new.state is State.REVERSED and new.absent and after.approved and self.workers == 1:
            return "C3: taken as never charged, though an approval was heard"
        waits = self.profile.host.emv_completion == "wait"
        if waits and new.state is State.BILL_PENDING and old.state in _BEFORE_BILL and not after.accepted:
            return "C14: a bill is being posted without the last word of the card's chip"
        if old.state in FINAL:
            return f"I8: {old.state} was final, and became {new.state}"
        return ""

    # ------------------------------------------------------------------------------------------------ exploration
    def run(self, states_max: int = 6_000_000) -> Verdict:
        first = self.start()
        number: dict[World, int] = {first: 0}
        worlds = [first]
        parents = array("q", [-1])
        sources, targets = array("q"), array("q")
        verdict = Verdict(1, 0)
        at = edges = 0
        while at < len(worlds):
            world = worlds[at]
            for label, moved in self.moves(world):
                found = self._edge_violation(world, moved)
                after = self._normal(moved)
                if after == world and not found:
                    continue
                known = number.get(after)
                if known is None:
                    known = number[after] = len(worlds)
                    worlds.append(after)
                    parents.append(at)
                    found = found or self.violation(after)
                if found:
                    verdict.violation = found
                    verdict.trace = (*self._trace(worlds, parents, at), label)
                    break
                edges += 1
                if not label.endswith(_FAULTS):
                    sources.append(at)
                    targets.append(known)
            if verdict.violation or len(worlds) > states_max:
                break
            at += 1
        verdict.states, verdict.edges = len(worlds), edges
        verdict.rows = frozenset(self.rows)
        verdict.complete = at == len(worlds) or bool(verdict.violation)
        if not verdict.violation and verdict.complete:
            self._find_stuck(verdict, worlds, parents, sources, targets)
        return verdict

    def _find_stuck(
        self, verdict: Verdict, worlds: list[World], parents: array[int], sources: array[int], targets: array[int]
    ) -> None:
        """Worlds from which no settled one can be reached unless somebody is killed first: backwards over the edges."""
        size = len(worlds)
        heads = array("q", [0]) * (size + 1)
        for target in targets:
            heads[target + 1] += 1
        for index in range(size):
            heads[index + 1] += heads[index]
        fill, before = array("q", heads), array("q", [0]) * len(sources)
        for source, target in zip(sources, targets, strict=True):
            before[fill[target]] = source
            fill[target] += 1
        reaches = bytearray(size)
        todo = [index for index, world in enumerate(worlds) if self.is_settled(world)]
        for index in todo:
            reaches[index] = 1
        while todo:
            index = todo.pop()
            for source in before[heads[index] : heads[index + 1]]:
                if not reaches[source]:
                    reaches[source] = 1
                    todo.append(source)
        verdict.stuck = size - sum(reaches)
        if verdict.stuck:
            verdict.stuck_trace = tuple(self._trace(worlds, parents, reaches.index(0)))

    def _trace(self, worlds: list[World], parents: array[int], index: int) -> list[str]:
        path = [index]
        while parents[path[-1]] >= 0:
            path.append(parents[path[-1]])
        path.reverse()
        told: list[str] = []
        for before, after in pairwise(path):
            told.append(
                next(label for label, world in self.moves(worlds[before]) if self._normal(world) == worlds[after])
            )
        return told


# ---------------------------------------------------------------------------------------------------- small things
_IDENTITY: Final[dict[str, Any]] = {
    "payment_id": 1,
    "opened_on": 20260101,
    "terminal_id": "T",
    "merchant_id": "M",
    "kiosk_date": "0101",
    "kiosk_serial": "000001",
    "digest": "d",
    "account": "A",
    "batch_number": "000001",
    "stan": "000001",
    "settlement_day": 20260101,
    "marketing_day": "20260101",
    "card_token": "t",
    "card_masked": "m",
    "original_60": "22000001000",
}
_OPENING: Final[dict[str, Any]] = {
    "terminal": "T",
    "merchant": "M",
    "kiosk_date": "0101",
    "kiosk_serial": "000001",
    "digest": "d",
    "account": "A",
    "batch": "000001",
    "stan": "000001",
    "settlement_day": 20260101,
    "marketing_day": "20260101",
    "card_token": "t",
    "card_masked": "m",
    "original_60": "22000001000",
}
_FACTS: Final[dict[str, Callable[[], Facts]]] = {
    "": Facts,
    "approved": lambda: Facts(response_code="00", approved=True),
    "declined": lambda: Facts(response_code="51"),
    "ambiguous": lambda: Facts(response_code="94"),
    "doubtful": lambda: Facts(response_code="06", doubtful=True),
    "bad_mac": lambda: Facts(response_code="00", approved=True),
}
_CARD_ANSWERS: Final = (
    ("Pa", Input.CARD_APPROVED, "approved"),
    ("Pb", Input.CARD_BAD_MAC, "bad_mac"),
    ("Pp", Input.CARD_PARTIAL, "approved"),
    ("Pd", Input.CARD_DECLINED, "declined"),
    ("P9", Input.CARD_AMBIGUOUS, "ambiguous"),
)
_UNSENT: Final = {
    "purchase": Input.CARD_UNSENT,
    "reversal": Input.REVERSAL_UNCLEAR,
    "post": Input.BILL_UNCLEAR,
    "status": Input.BILL_UNCLEAR,
    "cancel": Input.CANCEL_UNCLEAR,
}
_SPOKEN: Final = {
    "P": "the purchase",
    "P2": "the purchase once more",
    "R": "0400",
    "Pa": "approved",
    "Pb": "approved under a wrong MAC",
    "Pp": "code 10, partly approved",
    "Pd": "declined",
    "P9": "94, which proves nothing",
}


def _spoken(message: str) -> str:
    if message in _SPOKEN:
        return _SPOKEN[message]
    kinds = {"B": "posting", "D": "once more posting", "I": "status inquiry", "C": "cancel"}
    return f"{kinds[message[0]]} {int(message[1]) + 1}"


def _act(payment: Payment, effect: Effect) -> Act | None:
    match effect:
        case SendPurchase():
            return "purchase", 0, None
        case SendReversal():
            return "reversal", 0, None
        case SendPost(posting):
            return "post", payment.postings.index(posting), None
        case SendStatus(posting):
            return "status", payment.postings.index(posting), None
        case SendCancel(posting, undo):
            return "cancel", payment.postings.index(posting), "u" if undo else "r"
        case Tell():
            return "tell", 0, payment.answer
    return None


def _effect(payment: Payment, act: Act) -> Effect:
    kind, n, extra = act
    posting = payment.postings[n]
    effects: dict[str, Effect] = {
        "purchase": SendPurchase(),
        "reversal": SendReversal("98"),
        "post": SendPost(posting),
        "status": SendStatus(posting),
        "cancel": SendCancel(posting, extra == "u"),
    }
    return effects[kind]


def _folded(body: Body | None, record: Record | None, payment: Payment) -> Body | None:
    """The durable payment after this record: what the events' bodies add up to. None: nothing is recorded."""
    if record is None:
        return None
    before = body or Body(State.NEW, False, False, False, False, ())
    changes = record.changes
    return Body(
        record.state,
        changes.get("approved_seen", before.approved_seen),
        changes.get("told_pending", before.told_pending),
        changes.get("absent", before.absent),
        bool(changes.get("response_code", before.responded)),
        tuple(PostingState(row[6]) for row in changes["postings"]) if "postings" in changes else before.postings,
    )


def _rank(worker: Worker | None) -> tuple[bool, str]:
    return worker is None, "" if worker is None else repr(worker)


def _tell(world: World, answer: str) -> World:
    if answer == COMPLETED and (world.body is None or world.body.state is not State.COMPLETED):
        return world._replace(lied=True)
    return world._replace(said_no=True) if answer in SAID_NO and not world.said_no else world


def _with(world: World, index: int, worker: Worker | None) -> World:
    workers = world.workers
    return world._replace(workers=(*workers[:index], worker, *workers[index + 1 :]))


def _set(bills: tuple[str, ...], n: int, state: str) -> tuple[str, ...]:
    return (*bills[:n], state, *bills[n + 1 :])


def iter_rows(machine: type[Payment]) -> Iterator[str]:
    """Numbers of the durable rows: what an exploration of all profiles should have taken somewhere."""
    for rows in machine.table.values():
        for row in rows:
            if row.durable:
                yield row.number
