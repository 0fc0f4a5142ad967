"""What a kiosk is told, typed: sign-on, bills, results of payments. No card data in any of it.

Amounts are integer fen. Every text is Chinese and ready for the screen: the switch's own, or that of the code table
when the answer brought none.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from typing import Final

from msgspec import Struct

from switch.dialects.codes import CardCodes, kiosk_codes
from switch.errors import SwitchError
from switch.model.batch import BatchDifference
from switch.model.ebill import EBill


class JournalError(SwitchError):
    """The kiosk's own file cannot be used. Nothing was sent; nothing may be sent until it can.

    ``code``: ``journal_missing``, ``journal_exists``, ``journal_damaged``, ``journal_locked``, ``journal_foreign``,
    ``journal_write``.
    """


class OpenPaymentError(SwitchError):
    """A payment was begun that must wait for another one. Nothing was sent.

    ``code``: ``bill_open``, one of its months is being paid; ``too_many_open``.
    """


class PaymentKey(Struct, frozen=True):
    """Names one payment for ever: the idempotency key of the interface (§2)."""

    terminal_id: str
    date: str  # MMDD
    serial: str  # 6 digits

    def __str__(self) -> str:
        return f"{self.terminal_id}|{self.date}|{self.serial}"


class Outcome(StrEnum):
    """Where the customer's money is. The last three are not final: ask again, and do not take the same bill again."""

    PAID = "paid"  # charged and booked: print the slip
    DECLINED = "declined"  # by the card's bank; nothing charged
    REFUSED = "refused"  # before the card was asked; nothing charged
    NOT_CHARGED = "not_charged"  # it never reached the card; may be tried again
    RETURNED = "returned"  # nothing stays charged
    UNPROVEN = "unproven"  # not charged, or returned by tomorrow
    SUSPENSE = "suspense"  # a person will call; print a slip with the case number
    UNKNOWN = "unknown"  # being clarified
    BEING_BOOKED = "being_booked"  # charged; print a slip with the reference
    BEING_RETURNED = "being_returned"  # charged, goes back

    @property
    def is_final(self) -> bool:
        return self not in _OPEN


_OPEN: Final = frozenset({Outcome.UNKNOWN, Outcome.BEING_BOOKED, Outcome.BEING_RETURNED})
_OUTCOMES: Final = {
    "completed": Outcome.PAID,
    "declined": Outcome.DECLINED,
    "returned": Outcome.RETURNED,
    "unproven": Outcome.UNPROVEN,
    "suspense": Outcome.SUSPENSE,
    "result_unknown": Outcome.UNKNOWN,
    "in_progress": Outcome.UNKNOWN,
    "being_booked": Outcome.BEING_BOOKED,
    "being_returned": Outcome.BEING_RETURNED,
    "not_charged": Outcome.NOT_CHARGED,
    "not_found": Outcome.NOT_CHARGED,
}
# Codes of our own, for what no answer says.
NO_ANSWER: Final = "no_answer"
NOT_CONNECTED: Final = "not_connected"
KEYS_DIFFER: Final = "check_value_differs"
OPEN_PAYMENTS: Final = "open_payments"
CHIP_DECIDES: Final = "chip_decides"  # of the switch: neither paid nor not, and asked for again
PARAMETERS_WRONG: Final = "parameters_wrong"
_OWN_TEXTS: Final = {
    NO_ANSWER: "交易结果待确认，请勿重复缴费，稍后可查询结果。",
    NOT_CONNECTED: "网络中断，未扣款，请稍后再试。",
    PARAMETERS_WRONG: "参数下载失败，请联系管理人员。",
    KEYS_DIFFER: "工作密钥校验失败，请联系管理人员。",
    OPEN_PAYMENTS: "有交易尚未完成，请稍后再结算。",
}
NO_ANSWER_TO_INQUIRY: Final = "系统无应答，未扣款，请稍后再试。"


def outcome_of(stable: str) -> Outcome | None:
    """What a stable code (DF0A) says of a payment. None: nothing that this version knows; ask again."""
    if stable in _OUTCOMES:
        return _OUTCOMES[stable]
    known = kiosk_codes().get(stable) if stable not in ("found", "signed_on") else None
    return Outcome.REFUSED if known is not None and known.charged == "no" else None


def stable_of(response_code: str) -> str:
    """The stable code that belongs to a field 39, for answers without DF0A; "" when none or several do."""
    found = [known.code for known in kiosk_codes().values() if known.f39 == response_code]
    return found[0] if len(found) == 1 else ""


def text_of(stable: str, response_code: str = "") -> str:
    """The Chinese text for an answer that brought none."""
    if stable in _OWN_TEXTS:
        return _OWN_TEXTS[stable]
    if stable == "declined":
        return _card_codes().text(response_code)
    known = kiosk_codes().get(stable or stable_of(response_code))
    return known.text if known is not None and known.text else f"系统应答 {response_code}，请联系管理人员。"


@cache
def _card_codes() -> CardCodes:
    return CardCodes()


class SignOn(Struct, frozen=True):
    """How the last sign-on went. ``ok`` False: nothing can be paid; the client tries again by itself."""

    ok: bool
    code: str  # stable, e.g. "signed_on", "unknown_terminal", "no_answer", "check_value_differs"
    text: str = ""


class Month(Struct, frozen=True):
    """One receivable 应收: a month of an account. Amounts are fen."""

    receivable: str
    period: str  # YYYYMM
    principal: int
    penalty: int  # 违约金
    amount: int  # what is to be paid for it
    energy_kwh: int
    tier: int


class Bills(Struct, frozen=True):
    """What an account owes, valid for ten minutes. Amounts are fen."""

    account: str
    quote: str
    name: str  # 户名
    address: str
    total: int  # also of months that did not fit into the answer
    advance_balance: int  # 预收余额
    months: tuple[Month, ...]  # oldest first
    partial_allowed: bool  # False: all months or none
    more: bool  # the newest months did not fit; they come with an inquiry after these are paid
    blocked: str = ""  # stable code: why no payment can begin just now; show the bills, and take no card

    @property
    def blocked_text(self) -> str:
        """For the screen; "" when a payment can begin."""
        return text_of(self.blocked) if self.blocked else ""

    def oldest(self, count: int | None = None) -> tuple[Month, ...]:
        """The oldest ``count`` months; default all, and always all where no partial payment is allowed."""
        return self.months if count is None or not self.partial_allowed else self.months[:count]


class EBills(Struct, frozen=True):
    """A page of e-bills 电子账单. Amounts are fen."""

    account: str
    months: tuple[EBill, ...]  # newest first; months without a bill are left out
    older: str  # YYYYMM: older ones may be asked for from this month on; "": there are none


class Balance(Struct, frozen=True):
    """What is on a card, in fen, one number for each account behind it; below zero is owed. Nothing of it is kept."""

    accounts: tuple[int, ...]


class Refusal(Struct, frozen=True):
    """A question that got no answer to show: unknown account, nothing owed, busy … Show the text."""

    code: str  # stable, e.g. "no_arrears"
    response_code: str  # field 39; "" when no answer came
    text: str


class PaymentResult(Struct, frozen=True):
    """How a payment stands."""

    key: PaymentKey
    account: str
    amount: int  # fen
    receivables: tuple[str, ...]  # none: a prepayment
    outcome: Outcome
    code: str  # stable code (DF0A), or one of our own: "no_answer", "not_connected"
    text: str  # Chinese, for the screen
    response_code: str = ""  # field 39
    reference: str = ""  # of the switch, for the slip
    case_number: str = ""  # 差错单号, for the slip
    rrn: str = ""  # retrieval reference number of the card network, field 37
    authorization_code: str = ""  # field 38
    issuer_data: bytes = b""  # what the issuer tells the card's chip (field 55); not kept by the journal

    @property
    def final(self) -> bool:
        return self.outcome.is_final

    @property
    def prints_slip(self) -> bool:
        """The customer takes a slip away: paid, being booked, or a case."""
        return self.outcome in (Outcome.PAID, Outcome.BEING_BOOKED, Outcome.SUSPENSE)

    @property
    def may_try_again(self) -> bool:
        """Nothing was charged, so the same bill may be taken again at once."""
        return self.outcome in (Outcome.DECLINED, Outcome.REFUSED, Outcome.NOT_CHARGED, Outcome.RETURNED)


class Settlement(Struct, frozen=True):
    """How the settlement of a day 批结算 went. It changes no payment: what differs, people look at."""

    day: str  # MMDD
    code: str  # "batch_equal", "batch_reported", or why it is not done: "open_payments", "batch_open", "no_answer" …
    text: str  # Chinese, for the screen or the log
    count: int  # payments that this kiosk has as paid …
    amount: int  # … and their sum in fen
    switch_count: int = 0
    switch_amount: int = 0
    differences: int = 0
    listed: tuple[BatchDifference, ...] = ()  # of them, as many as the answer held

    @property
    def agrees(self) -> bool:
        return self.code == "batch_equal"

    @property
    def done(self) -> bool:
        """False: settle again later."""
        return self.code in ("batch_equal", "batch_reported")


class SlipAgain(Struct, frozen=True):
    """What stands on the slip of an earlier payment."""

    result: PaymentResult
    card_masked: str  # first six and last four digits
    began_at: str  # YYYYMMDDhhmmss
    months: tuple[Month, ...]  # energy and tier are not known any more: 0
