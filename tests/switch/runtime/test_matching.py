"""An answer meets its payment: which one, what it is taken for, and what is told of it. By hand, without a journal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from switch import limits
from switch.dialects.codes import CardCodes
from switch.dialects.marketing import MarketingAnswer, MarketingDialect
from switch.errors import NOT_NOW, SecurityError
from switch.machines.payment import Facts
from switch.machines.payment_table import Input
from switch.model.effect import SendCancel, SendPost, SendPurchase, SendReversal, SendStatus
from switch.model.payment import Posting, State
from switch.model.request import CardAnswer
from switch.runtime.payments import Payments

pytestmark = pytest.mark.interpreted
BATCH, STAN, TERMINAL = "000002", "000345", "GS000001"
POSTING = Posting("R1", "202601", 900, 100, 1000, "7701", sends=1)
PURCHASE, REVERSAL = SendPurchase(), SendReversal("98")


class Slot(SimpleNamespace):
    """A payment of 1,000 fen and what it waits for."""

    def __init__(self, state: State = State.CARD_PENDING, **changed: Any) -> None:
        payment = SimpleNamespace(state=state, payment_id=77, amount=1000, account="A1", reversal_reason="98")
        terminal = SimpleNamespace(key_epoch=4)
        session = SimpleNamespace(mac_key="key", mac_algorithm="ecb", must_sign_on=False, terminal=terminal)
        known = {"payment": payment, "session": session, "busy": False, "outstanding": PURCHASE, "key_epoch": 4}
        super().__init__(**(known | {"request_id": 0, "leg_started_at": 90.0} | changed))


class Bench:
    """``Payments`` of which only what answers meet is there; every other part is this bench itself."""

    name = "unionpay"

    def __init__(self, *, unmacced_decline_reverses: bool = False) -> None:
        self.told: list[Any] = []
        self.given: list[tuple[Any, Input, Facts]] = []
        self.freed: list[Any] = []
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.verified: list[tuple[Any, ...]] = []
        self.verdicts: list[bool | SecurityError] = []
        self.old_key: Any = None
        self.payments = Payments.__new__(Payments)
        parts = {
            "_by_stan": {},
            "_open": {},
            "_card_link": self,
            "_observer": self,
            "_timers": self,
            "_sessions": self,
            "_security": self,
            "_clock": SimpleNamespace(now=lambda: 100.0),
            "_codes": CardCodes(),
            "_test_account": "",
            "_unmacced_decline_reverses": unmacced_decline_reverses,
            "_marketing_link": SimpleNamespace(name="marketing", heard_of=self._bill_heard),
            "_marketing_dialect": MarketingDialect("SELF01"),
            "_give": lambda slot, given, facts: self.given.append((slot, given, facts)),
            "_free_lane": self.freed.append,
        }
        for name, part in parts.items():
            setattr(self.payments, name, part)

    def keeps(self, slot: Slot) -> Slot:
        self.payments._by_stan[f"{TERMINAL}|{BATCH}|{STAN}"] = slot  # type: ignore[assignment]
        return slot

    def heard_of(self, *, silent: bool) -> None:
        self.told.append(f"card heard, silent {silent}")

    def _bill_heard(self, *, silent: bool) -> None:
        self.told.append(f"bill heard, silent {silent}")

    def stray(self, kind: str, key: str, detail: str) -> None:
        self.told.append(("stray", kind, key, detail))

    def count(self, name: str, labels: Sequence[str] = (), by: int = 1) -> None:
        self.told.append((name, *labels))

    def observe(self, name: str, value: float, labels: Sequence[str] = ()) -> None:
        self.told.append((name, value, *labels))

    def event(self, name: str, **facts: Any) -> None:
        self.told.append((name, facts))

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        self.later.append((seconds, call))

    def old_mac_key(self, session: Any) -> Any:
        assert session.mac_key == "key"
        return self.old_key

    def verify_mac(self, key: Any, algorithm: str, data: bytes, mac: bytes, done: Callable[[Any], None]) -> None:
        self.verified.append((key, algorithm, data, mac))
        done(self.verdicts.pop(0))

    def hears(self, slot: Slot, *verdicts: bool | SecurityError, **changed: Any) -> tuple[Input, Facts]:
        """What the payment is given for an answer."""
        self.keeps(slot)
        self.verdicts = list(verdicts)
        self.given.clear()
        self.told.clear()
        self.payments.card_answered(answer(**changed))
        ((found, given, facts),) = self.given
        assert found is slot and self.verdicts == []
        return given, facts


@pytest.fixture
def bench() -> Bench:
    return Bench()


def answer(**changed: Any) -> CardAnswer:
    known: dict[str, Any] = {
        "kind": "purchase",
        "terminal_id": TERMINAL,
        "batch_number": BATCH,
        "stan": STAN,
        "response_code": "00",
        "amount": 1000,
        "rrn": "112233445566",
        "settlement_date": "1124",
        "authorization_code": "A1B2C3",
        "working_keys": b"",
        "mab": b"mab",
        "mac": b"mac",
    }
    return CardAnswer(**(known | changed))


HEARD = "card heard, silent False"
LEG = ("switch_leg_seconds", 10.0, "card")


# ------------------------------------------------------------------------------------------------ which payment
@pytest.mark.parametrize("changed", [{"terminal_id": "GS000002"}, {"batch_number": "000003"}, {"stan": "000346"}])
def test_an_answer_is_nobodys_unless_terminal_batch_and_number_fit(bench: Bench, changed: dict[str, str]) -> None:
    bench.keeps(Slot())
    foreign = answer(response_code="51", **changed)
    bench.payments.card_answered(foreign)
    assert bench.given == [] and bench.verified == []
    detail = "no payment in memory waits for purchase, response code 51"
    assert bench.told == [("stray", "foreign", foreign.key, detail), ("switch_strays_total",)]


def test_without_a_session_nothing_can_be_checked(bench: Bench) -> None:
    bench.keeps(Slot(session=None))
    bench.payments.card_answered(answer())
    assert bench.given == [] and bench.told[-1] == ("switch_strays_total",)


# ------------------------------------------------------------------------------------------------ is it genuine
def test_a_good_answer_is_given_with_all_that_it_says(bench: Bench) -> None:
    slot = Slot()
    given, facts = bench.hears(slot, True)
    assert given is Input.CARD_APPROVED
    assert facts == Facts(
        response_code="00", rrn="112233445566", settlement_date="1124", authorization_code="A1B2C3", approved=True
    )
    assert bench.verified == [("key", "ecb", b"mab", b"mac")]
    assert bench.told == [HEARD, LEG]
    assert slot.outstanding is None and bench.freed == [slot]
    assert slot.session.must_sign_on is False


def test_a_wrong_mac_is_counted_and_never_taken_for_an_approval(bench: Bench) -> None:
    given, facts = bench.hears(Slot(), False)
    assert (given, facts.approved) == (Input.CARD_BAD_MAC, True)
    assert bench.told == [("switch_mac_failures_total", "unionpay"), HEARD, LEG]
    given, facts = bench.hears(Slot(), False, response_code="51")
    assert (given, facts.approved) == (Input.CARD_BAD_MAC, False)


@pytest.mark.parametrize(("old", "given"), [(True, Input.CARD_APPROVED), (False, Input.CARD_BAD_MAC)])
def test_an_answer_that_crossed_new_keys_is_judged_by_the_old_one(bench: Bench, old: bool, given: Input) -> None:
    bench.old_key = "old key"
    assert bench.hears(Slot(), False, old)[0] is given
    assert bench.verified == [("key", "ecb", b"mab", b"mac"), ("old key", "ecb", b"mab", b"mac")]


def test_an_old_key_that_cannot_judge_proves_nothing(bench: Bench) -> None:
    bench.old_key = "old key"
    assert bench.hears(Slot(), False, SecurityError("broken", "x"))[0] is Input.CARD_BAD_MAC


def test_what_the_module_cannot_judge_now_is_asked_again_and_then_doubted(bench: Bench) -> None:
    slot = bench.keeps(Slot())
    trouble = SecurityError(next(iter(NOT_NOW)), "the module does not answer")
    bench.verdicts = [trouble] * (limits.SECURITY_AGAIN_MAX + 1)
    bench.payments.card_answered(answer())
    for _ in range(limits.SECURITY_AGAIN_MAX):
        assert bench.given == []
        assert bench.told.pop() == ("mac.unjudged", {"link": "unionpay", "error": "the module does not answer"})
        ((seconds, again),) = bench.later
        assert seconds == limits.SECURITY_AGAIN_S
        bench.later.clear()
        again()
    assert [given for _, given, _ in bench.given] == [Input.CARD_BAD_MAC] and bench.later == []
    assert len(bench.verified) == limits.SECURITY_AGAIN_MAX + 1 and slot.outstanding is None


def test_a_module_that_will_never_judge_is_not_asked_again(bench: Bench) -> None:
    assert bench.hears(Slot(), SecurityError("broken", "x"))[0] is Input.CARD_BAD_MAC
    assert bench.later == []


@pytest.mark.parametrize("changed", [{"mac": None}, {}])
def test_an_answer_without_mac_or_key_is_believed_only_when_it_declines(bench: Bench, changed: dict[str, Any]) -> None:
    def slot() -> Slot:
        return Slot() if changed else Slot(session=SimpleNamespace(mac_key=None, must_sign_on=False))

    for code, expected in (
        ("00", Input.CARD_BAD_MAC),
        ("10", Input.CARD_BAD_MAC),
        ("51", Input.CARD_DECLINED),
        ("68", Input.CARD_AMBIGUOUS),
    ):
        given, facts = bench.hears(slot(), response_code=code, **changed)
        assert (given, facts.approved) == (expected, code in ("00", "10"))
        assert bench.told == [HEARD, LEG], "no MAC failed: there was none"
    assert bench.verified == []


def test_where_declines_without_mac_are_doubted_they_are_undone() -> None:
    bench = Bench(unmacced_decline_reverses=True)
    assert bench.hears(Slot(), mac=None, response_code="51")[0] is Input.CARD_AMBIGUOUS
    assert bench.hears(Slot(), True, response_code="51")[0] is Input.CARD_DECLINED
    assert bench.hears(Slot(), mac=None, response_code="00")[0] is Input.CARD_BAD_MAC


# ------------------------------------------------------------------------------------------------ what it says
@pytest.mark.parametrize("amount", [999, 1001, -1])
def test_an_approval_of_another_sum_is_a_partial_one(bench: Bench, amount: int) -> None:
    given, facts = bench.hears(Slot(), True, amount=amount)
    assert given is Input.CARD_PARTIAL and facts.approved
    assert bench.hears(Slot(), True, amount=amount, response_code="51")[0] is Input.CARD_DECLINED


def test_codes_say_more_than_yes_and_no(bench: Bench) -> None:
    given, facts = bench.hears(Slot(), True, response_code="11")
    assert (given, facts.flagged, facts.approved) == (Input.CARD_APPROVED, True, True)
    given, facts = bench.hears(Slot(), True, response_code="10")
    assert (given, facts.flagged, facts.approved) == (Input.CARD_PARTIAL, False, True)
    slot = Slot()
    given, facts = bench.hears(slot, True, response_code="A0")
    assert (given, facts.approved, slot.session.must_sign_on) == (Input.CARD_DECLINED, False, True)
    slot = Slot(key_epoch=3)
    bench.hears(slot, True, response_code="A0")
    assert not slot.session.must_sign_on, "it was made with keys that a sign-on has replaced since"


def test_a_session_may_go_while_its_answer_is_checked(bench: Bench) -> None:
    for kind, code in (("purchase", "A0"), ("reversal", "40")):
        slot = Slot()
        slot.session = None
        bench.payments._card_checked(slot, answer(kind=kind, response_code=code), True)  # type: ignore[arg-type]
    assert [given for _, given, _ in bench.given] == [Input.CARD_DECLINED, Input.REVERSAL_UNCLEAR]


@pytest.mark.parametrize(
    ("kind", "outstanding", "ends"),
    [
        ("purchase", PURCHASE, True),
        ("reversal", REVERSAL, True),
        ("purchase", REVERSAL, False),
        ("reversal", PURCHASE, False),
        ("purchase", None, False),
    ],
)
def test_only_the_answer_to_what_is_outstanding_ends_the_wait(
    bench: Bench, kind: str, outstanding: Any, ends: bool
) -> None:
    slot = Slot(State.REVERSAL_PENDING, outstanding=outstanding)
    bench.hears(slot, True, kind=kind)
    assert slot.outstanding is (None if ends else outstanding)
    assert bench.freed == ([slot] if ends else []) and (LEG in bench.told) is ends


@pytest.mark.parametrize(
    ("code", "mac_good", "given"),
    [
        ("00", True, Input.REVERSAL_DONE),
        ("25", True, Input.REVERSAL_NOT_FOUND),
        ("96", True, Input.REVERSAL_UNCLEAR),
        ("00", False, Input.REVERSAL_UNCLEAR),
        ("00", None, Input.REVERSAL_UNCLEAR),
    ],
)
def test_a_reversal_is_done_only_by_a_genuine_answer(
    bench: Bench, code: str, mac_good: bool | None, given: Input
) -> None:
    slot = Slot(State.REVERSAL_PENDING, outstanding=REVERSAL)
    verdicts = [] if mac_good is None else [mac_good]
    changed: dict[str, Any] = {"mac": None} if mac_good is None else {}
    found, facts = bench.hears(slot, *verdicts, kind="reversal", response_code=code, **changed)
    assert found is given
    assert (facts.response_code, facts.approved, facts.flagged) == (code, False, False)
    assert bench.told[-1] == ("switch_reversals_total", "98", code if mac_good else "mac")
    assert slot.session.must_sign_on is False


def test_a_reversal_that_is_refused_over_keys_asks_for_new_ones(bench: Bench) -> None:
    slot = Slot(State.REVERSAL_PENDING, outstanding=REVERSAL)
    assert bench.hears(slot, True, kind="reversal", response_code="A0")[0] is Input.REVERSAL_UNCLEAR
    assert bench.told[-1] == ("reversal.refused", {"response_code": "A0", "payment": 77})
    assert slot.session.must_sign_on is True


# ------------------------------------------------------------------------------------------------ a lost card link
def test_each_payment_hears_of_a_lost_link_what_it_means_to_it(bench: Bench) -> None:
    slots = {
        "left": Slot(),
        "not left": Slot(),
        "reversal": Slot(State.REVERSAL_PENDING, outstanding=REVERSAL),
        "commits": Slot(busy=True, outstanding=None),
        "between": Slot(outstanding=None),
        "bill": Slot(State.BILL_PENDING, outstanding=SendPost(POSTING)),
        "reversal waits": Slot(State.REVERSAL_PENDING, outstanding=None),
        "late": Slot(State.REVERSAL_PENDING, outstanding=PURCHASE),
        "busy and sent": Slot(busy=True),
    }
    bench.payments._open = dict(enumerate(slots.values()))  # type: ignore[arg-type]
    bench.payments._card_link_lost(SimpleNamespace(unflushed=[slots["not left"], "other"]))
    names = {id(slot): name for name, slot in slots.items()}
    lost = Facts(reason="link_lost")
    assert [(names[id(slot)], given, facts) for slot, given, facts in bench.given] == [
        ("left", Input.CARD_SILENT, lost),
        ("not left", Input.CARD_UNSENT, lost),
        ("reversal", Input.REVERSAL_UNCLEAR, lost),
        ("busy and sent", Input.CARD_SILENT, lost),
    ]
    assert all(slot.outstanding is None for slot, _, _ in bench.given)
    assert bench.freed == [slots["reversal"]] and bench.told == []
    assert (slots["bill"].outstanding, slots["late"].outstanding) == (SendPost(POSTING), PURCHASE)


def test_one_payments_fault_does_not_keep_it_from_the_others(bench: Bench) -> None:
    broken, good = Slot(), Slot()
    broken.payment = None
    bench.payments._open = {1: broken, 2: good}  # type: ignore[dict-item]
    bench.payments._card_link_lost(SimpleNamespace(unflushed=[]))
    assert [slot for slot, _, _ in bench.given] == [good]
    assert [name for name, _ in bench.told] == ["callback.failed"]


# ------------------------------------------------------------------------------------------------ the marketing system
POSTED = {"serial": "7701", "account": "A1", "period": "202601", "amount": 1000}
STATED = {"serial": "7701", "state": "posted"}


def _bill(bench: Bench, effect: Any, said: MarketingAnswer | None, *, request_id: int = 9) -> Slot:
    slot = Slot(State.BILL_PENDING, outstanding=effect, request_id=9)
    bench.payments._bill_answered(slot, effect, request_id, said)  # type: ignore[arg-type]
    return slot


@pytest.mark.parametrize(
    ("effect", "code", "data", "given"),
    [
        (SendPost(POSTING), "00", POSTED, Input.BILL_POSTED),
        (SendPost(POSTING), "00", POSTED | {"account": "A2"}, Input.BILL_UNCLEAR),
        (SendPost(POSTING), "03", {}, Input.BILL_REJECTED),
        (SendStatus(POSTING), "00", STATED, Input.BILL_POSTED),
        (SendStatus(POSTING), "03", {}, Input.BILL_UNCLEAR),
        (SendCancel(POSTING, undo=False), "00", {"serial": "7701"}, Input.CANCEL_DONE),
        (SendCancel(POSTING, undo=False), "14", {}, Input.CANCEL_POSTED),
        (SendCancel(POSTING, undo=True), "14", {}, Input.CANCEL_FINAL),
        (SendCancel(POSTING, undo=True), "00", {"serial": "7701"}, Input.CANCEL_DONE),
    ],
)
def test_an_answer_means_what_was_asked(bench: Bench, effect: Any, code: str, data: Any, given: Input) -> None:
    slot = _bill(bench, effect, MarketingAnswer(9, code, "", data))
    assert bench.given == [(slot, given, Facts(response_code=code))]
    assert bench.told == ["bill heard, silent False", ("switch_leg_seconds", 10.0, "bill")]
    assert (slot.request_id, slot.outstanding) == (0, None)


def test_an_answer_to_what_was_given_up_changes_nothing(bench: Bench) -> None:
    slot = _bill(bench, SendPost(POSTING), MarketingAnswer(8, "00", "", POSTED), request_id=8)
    assert (bench.given, bench.told) == ([], []) and (slot.request_id, slot.outstanding) == (9, SendPost(POSTING))


@pytest.mark.parametrize(
    ("effect", "given"),
    [
        (SendPost(POSTING), Input.BILL_UNCLEAR),
        (SendStatus(POSTING), Input.BILL_UNCLEAR),
        (SendCancel(POSTING, undo=True), Input.CANCEL_UNCLEAR),
    ],
)
def test_a_lost_link_and_an_unreadable_answer_prove_nothing(bench: Bench, effect: Any, given: Input) -> None:
    slot = _bill(bench, effect, None)
    assert bench.given == [(slot, given, Facts(reason="link_lost"))] and bench.told == []
    assert (slot.request_id, slot.outstanding) == (0, None)
    bench.given.clear()
    slot = _bill(bench, effect, MarketingAnswer(9, "00", "", {}))
    assert bench.given == [(slot, given, Facts(response_code="00"))]
    operation = type(effect).__name__.removeprefix("Send").lower()
    assert bench.told[-2:] == [
        ("switch_bad_frames_total", "marketing", "bad_record"),
        ("answer.bad_record", {"link": "marketing", "error": f"{operation}.serial: missing"}),
    ]
