"""What simulated runs have reached: each row of the table, on each class of answer, with each kind of fault.

What can exist is derived, not listed:

    classes     every code of the dialects' tables, and one that they do not list, is put through the dialects: what it
                means to the machine, and to which class of codes it belongs. An input that no answer can be has none.
                A kiosk's deadline is one only in states to which it can come without having been told.
    rows        a row can be taken on a class unless its guard, or that of a row before it, says otherwise for every
                payment: guards that look at nothing but the answer are asked.
    faults      a kind can touch a row if something that it can hit lies on the way of the row's input: the party that
                it comes from or is waited for, the switch, the database.

A fault counts for a row when it hit that way while the payment was under way: not before the customer stood at the
kiosk, and not after the row was taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any, Final

from switch.dialects.codes import CardCodes
from switch.dialects.marketing import MarketingAnswer, MarketingDialect
from switch.interpreted import source_of
from switch.machines.payment import Facts, Payment
from switch.machines.payment_table import CARD_ANSWERS, ROWS, SETTLEMENTS, TABLE, Input, Row
from switch.model.effect import Effect
from switch.model.payment import Posting, State
from switch.runtime.payments import SILENT
from switch.sim.plan import BILL, CARD, DATABASE, KINDS, KIOSKS, SECOND, SWITCH, Fault, targets

NO_CODE: Final = "no code"
BEFORE_S: Final = 30.0  # a customer stands at the kiosk so long before the payment begins
_UNLISTED: Final = "Z9"
_CODES: Final = CardCodes()
_MARKETING: Final = MarketingDialect("SELF01")
_ON_TIME: Final = frozenset({*SILENT.values(), Input.CARD_UNSENT})  # what is no answer, but the lack of one
_NUMBER: Final = {row.number: row for row in ROWS}


@dataclass(frozen=True, slots=True)
class Taken:
    row: str
    answers: str  # class of the answer, or NO_CODE
    fault: str = ""  # kind


# ---------------------------------------------------------------------------------------------------- classes
def class_of(given: Input, facts: Facts, payment: Payment) -> str:
    """The class of the answer that came as this input."""
    code = facts.response_code
    if not code:
        return NO_CODE
    if given in CARD_ANSWERS:
        return f"0210 {_CODES.purchase_class(code)}"
    if given.startswith("reversal_"):
        return f"0410 {_CODES.reversal_class(code)}"
    if given.startswith("cancel_"):
        return f"cancel {_MARKETING.outcome('cancel', code)}"
    if payment.status_written_at > payment.post_written_at:
        return f"status {'told' if code == '00' else 'ambiguous'}"
    posting = payment.current
    op = "prepay" if posting is not None and posting.is_prepayment else "post"
    return f"post {_MARKETING.outcome(op, code)}"


@dataclass(frozen=True, slots=True)
class _Answer:
    """One that can come: what it is to the machine, its class, and all that guards could ask without a payment."""

    given: Input
    name: str
    facts: Facts
    payment: Any


def _card_answers() -> Iterator[_Answer]:
    for code in (*_CODES.listed, _UNLISTED):
        charged = _CODES.says_charged(code)
        facts = Facts(response_code=code, approved=charged)
        for mac_good in (True, False, None):
            given = _CODES.purchase_proves(code, mac_good=mac_good, same_amount=True, unmacced_decline_reverses=True)
            yield _Answer(given, f"0210 {_CODES.purchase_class(code)}", facts, None)
            given = _CODES.reversal_proves(code, mac_good=mac_good)
            yield _Answer(given, f"0410 {_CODES.reversal_class(code)}", facts, None)


def _bill_answers() -> Iterator[_Answer]:
    def answer(code: str, **data: Any) -> MarketingAnswer:
        return MarketingAnswer(1, code, "", {"serial": "1", "account": "A", "period": "202601", "amount": 1, **data})

    for sends in (1, 2):
        posting = Posting("R", "202601", 1, 0, 1, "1", sends=sends)
        payment = SimpleNamespace(current=posting)
        for code in (*_MARKETING.codes("post"), _UNLISTED):
            given = _MARKETING.posted(answer(code), posting, "A")
            facts = Facts(response_code=code, doubtful=_MARKETING.is_doubtful(answer(code), posting))
            yield _Answer(given, f"post {_MARKETING.outcome('post', code)}", facts, payment)
        for state in ("posted", "cancelled", "rejected", "unknown"):
            given = _MARKETING.stated(answer("00", state=state), posting)
            yield _Answer(given, "status told", Facts(response_code="00"), payment)
        given = _MARKETING.stated(answer(_UNLISTED), posting)
        yield _Answer(given, "status ambiguous", Facts(response_code=_UNLISTED), payment)
        for code in (*_MARKETING.codes("cancel"), _UNLISTED):
            for undo in (False, True):
                given = _MARKETING.cancelled(answer(code), posting, undo=undo)
                yield _Answer(given, f"cancel {_MARKETING.outcome('cancel', code)}", Facts(response_code=code), None)


@cache
def _answers() -> tuple[_Answer, ...]:
    return (*_card_answers(), *_bill_answers())


@cache
def _waiting() -> frozenset[State]:
    """States in which a kiosk may still wait for its first word: it waits from the start, and no longer once it was
    told, or its worker is gone."""
    found: set[State] = set()
    before = -1
    while len(found) > before:
        before = len(found)
        for row in ROWS:
            waits = row.given is Input.START or row.state in found
            if waits and "tell" not in row.actions and row.given is not Input.RECOVER:
                found.add(row.next)
    return frozenset(found)


@cache
def classes_of(row: Row) -> frozenset[str]:
    """The classes of answers on which a row can be taken."""
    if row.given is Input.KIOSK_DEADLINE and row.state not in _waiting():
        return frozenset()
    found = {answer.name for answer in _answers() if answer.given is row.given and _can_take(row, answer)}
    if row.given in _ON_TIME or not any(answer.given is row.given for answer in _answers()):
        found.add(NO_CODE)
    return frozenset(found)


def _can_take(row: Row, answer: _Answer) -> bool:
    for each in TABLE[row.state, row.given]:
        holds = _holds(each, answer)
        if each is row:
            return holds is not False
        if holds:
            return False
    raise AssertionError("a row stands in its table")


@cache
def _guards() -> Any:
    """As they are written: compiled ones take nothing but a payment."""
    return source_of("switch.machines.payment").Payment


def _holds(row: Row, answer: _Answer) -> bool | None:
    """Whether the guard holds; None: that depends on the payment."""
    if row.guard is None:
        return True
    try:
        guard: Any = getattr(_guards(), f"_if_{row.guard}")
        return bool(guard(answer.payment, answer.facts, 0.0))
    except AttributeError:
        return None


# ---------------------------------------------------------------------------------------------------- faults
def _party(row: Row) -> str:
    """Whose word the row's input is, or whose silence; nobody's if it is the switch's own affair."""
    given = row.given
    if given is Input.START or given.startswith(("kiosk_", "chip_")):
        return KIOSKS
    if given in SETTLEMENTS or given in (Input.RECOVER, Input.CUT_OVER, Input.BILL_DAY_OVER):
        return SWITCH
    return CARD if row.state in _WITH_CARD else BILL


_WITH_CARD: Final = frozenset(State) - {State.BILL_PENDING, State.BILL_CANCELLING}


def _touches(target: tuple[str, ...], row: Row) -> bool:
    """Everything, the switch itself and the database are on the way of each input; a link or a host on that of its own
    party's."""
    if not target or target == (DATABASE,):
        return True
    ends = {SWITCH if name == SECOND else name for name in target}
    return ends == {SWITCH} or _party(row) in ends


@cache
def kinds_of(row: Row) -> frozenset[str]:
    return frozenset(kind for kind in KINDS if targets_for(kind, row.number))


def targets_for(kind: str, row: str) -> tuple[tuple[str, ...], ...]:
    """What a fault of this kind can hit so that it counts for the row."""
    return tuple(target for target in targets(kind) if _touches(target, _NUMBER[row]))


def possible_rows() -> tuple[str, ...]:
    """Those that some input can take."""
    return tuple(row.number for row in ROWS if classes_of(row))


@cache
def possible() -> frozenset[Taken]:
    """Everything that can exist."""
    return frozenset(
        Taken(row.number, name, kind) for row in ROWS for name in classes_of(row) for kind in kinds_of(row)
    )


# ---------------------------------------------------------------------------------------------------- one run
class Watch:
    """Notes what a run's machines take. ``machine`` gives a machine that tells it; it decides nothing."""

    def __init__(self) -> None:
        self.taken: set[Taken] = set()
        self.moments: dict[Taken, tuple[float, float]] = {}  # without a fault: (payment's begin, first time taken)
        self._faults: list[tuple[float, Fault]] = []
        self._since: dict[int, float] = {}  # payments: when their customer came

    def hit(self, fault: Fault, now: float) -> None:
        self._faults.append((now, fault))

    def machine(self, shipped: type[Payment]) -> type[Payment]:
        def step(payment: Payment, given: Input, facts: Facts, now: float) -> list[Effect]:
            rows = payment.table.get((payment.state, given), ())
            row = next(
                (row for row in rows if row.guard is None or getattr(payment, f"_if_{row.guard}")(facts, now)), None
            )
            if row is not None:
                self._note(row, class_of(given, facts, payment), payment.payment_id, now)
            return shipped.step(payment, given, facts, now)

        return type("Watched", (shipped,), {"step": step})

    def _note(self, row: Row, name: str, payment_id: int, now: float) -> None:
        since = self._since.setdefault(payment_id, now - BEFORE_S)
        taken = Taken(row.number, name)
        self.taken.add(taken)
        self.moments.setdefault(taken, (since + BEFORE_S, now))
        for at, fault in self._faults:
            hit = tuple(end for end in (fault.where, fault.other) if end)
            if at + fault.seconds >= since and _touches(hit, row):
                self.taken.add(Taken(row.number, name, fault.kind))
