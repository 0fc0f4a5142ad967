"""What the page is told and what it may say. Amounts are integer fen; texts are Chinese, codes stable.

The page gets all of ``State`` whenever something of it changes. ``view`` is the screen, one of the classes below by its
tag; ``step`` names this one time of showing it. Whatever the page says names the step that it was pressed for, so a
second click, or a click on a screen that has gone, does nothing.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from switch.kiosk import EBill
from switch.limits import KIOSK_WEB_TEXT_MAX, RECEIVABLES_MAX

Text = Annotated[str, Meta(max_length=KIOSK_WEB_TEXT_MAX)]
PAY, PREPAY, E_BILL, BALANCE = "pay", "prepay", "e_bill", "balance"  # what a customer can come for


# ---------------------------------------------------------------------------------------------------- screens
class Told(Struct, frozen=True):
    """Something that a customer is told. The page shows its own text for the code; ``text`` where it has none."""

    code: str
    text: str = ""
    response_code: str = ""  # field 39, where a card's bank said it


class View(Struct, frozen=True, tag_field="screen"):
    """Base of all screens."""


class Starting(View, frozen=True, tag="starting"):
    pass


class OutOfOrder(View, frozen=True, tag="out_of_order"):
    """The kiosk's own file cannot be used: nothing can be paid here."""

    told: Told


class Home(View, frozen=True, tag="home"):
    earlier: int  # payments of before that wait for their final word, or to be seen
    timed_out: bool  # the customer before went away


class Account(View, frozen=True, tag="account"):
    business: str
    account: str = ""  # what was typed, when it was wrong
    told: Told | None = None


class Busy(View, frozen=True, tag="busy"):
    doing: str  # "inquiring", "paying", "asking_balance", "printing", "printing_e_bill"
    amount: int = 0


class ShownMonth(Struct, frozen=True):
    receivable: str
    period: str
    energy_kwh: int
    principal: int
    penalty: int
    amount: int


class BillList(View, frozen=True, tag="bills"):
    account: str
    name: str  # without its first character
    address: str  # without house and flat
    months: tuple[ShownMonth, ...]
    total: int
    advance_balance: int
    partial_allowed: bool
    more: bool
    told: Told | None = None  # why nothing can be paid just now, or what there is to know


class EBillPage(View, frozen=True, tag="e_bill"):
    """What some months were made of, the newest first."""

    account: str
    months: tuple[EBill, ...]
    newer: bool  # there is a page before this one
    older: bool  # and one behind it
    slip: str = ""  # "": none; "printed"; or the code of what the printer had
    told: Told | None = None  # why the page that was asked for is not this one


class Amount(View, frozen=True, tag="amount"):
    account: str
    told: Told | None = None


class AskAgain(View, frozen=True, tag="ask_again"):
    """The same prepayment was made a moment ago: is it meant?"""

    account: str
    amount: int


class InsertCard(View, frozen=True, tag="card"):
    business: str
    amount: int
    told: Told | None = None


class EnterPin(View, frozen=True, tag="pin"):
    business: str
    amount: int
    card: str  # its last four digits
    told: Told | None = None


class Result(View, frozen=True, tag="result"):
    business: str
    account: str
    amount: int
    outcome: str  # of switch.kiosk.Outcome
    final: bool
    told: Told
    reference: str
    case_number: str
    retry: str  # "": no; "pin": the PIN was wrong; "bills": may be tried again
    slip: str  # "": none; "printed"; or the code of what the printer had, or why the switch told none


class CardBalance(View, frozen=True, tag="balance"):
    accounts: tuple[int, ...]


class EarlierPayment(Struct, frozen=True):
    account: str  # masked
    amount: int
    outcome: str
    final: bool
    told: Told
    reference: str
    case_number: str


class Earlier(View, frozen=True, tag="earlier"):
    payments: tuple[EarlierPayment, ...]


class Refused(View, frozen=True, tag="refused"):
    told: Told
    account: str = ""  # for which a prepayment can be offered


# ---------------------------------------------------------------------------------------------------- around them
class Service(Struct, frozen=True):
    """``told``: why no payment can begin. None: one can."""

    told: Told | None


class Notice(Struct, frozen=True, forbid_unknown_fields=True):
    """For customers. Without dates it always stands there."""

    title: str
    text: str
    title_en: str = ""
    text_en: str = ""
    kind: str = "info"  # or "outage": shown first
    begins_on: str = ""  # YYYY-MM-DD
    ends_on: str = ""  # the last day


class Choice(Struct, frozen=True):
    """A test card, or the account on a test bill."""

    id: str
    label: str
    label_en: str
    detail: str = ""


class SlipShown(Struct, frozen=True):
    """As it came out of the printer; a QR code is rows of 0 and 1."""

    lines: tuple[str, ...]
    qr: tuple[str, ...]


class Bench(Struct, frozen=True):
    """Simulated peripherals, for the page to show beside the screen."""

    cards: tuple[Choice, ...]
    accounts: tuple[Choice, ...]
    card_inside: bool
    pin_asked: bool  # the pad takes digits
    typed: int  # so many so far
    paper: bool
    line: bool
    slips: tuple[SlipShown, ...]


class State(Struct, frozen=True):
    version: str
    step: str
    view: View
    terminal: str
    service: Service
    notices: tuple[Notice, ...]
    seconds_left: float | None  # until this screen goes back to the start; None: it stays
    idle_s: float  # how much that is after a touch
    bench: Bench | None  # None: real peripherals


# ---------------------------------------------------------------------------------------------------- acts
class Act(Struct, frozen=True, tag_field="do", forbid_unknown_fields=True):
    """Base of all that the page may say."""


class Begin(Act, frozen=True, tag="begin"):
    business: Text


class ShowEarlier(Act, frozen=True, tag="show_earlier"):
    pass


class GiveAccount(Act, frozen=True, tag="account"):
    account: Text


class Choose(Act, frozen=True, tag="choose"):
    receivables: Annotated[tuple[Text, ...], Meta(min_length=1, max_length=RECEIVABLES_MAX)]


class GiveAmount(Act, frozen=True, tag="amount"):
    amount: Annotated[int, Meta(ge=1, le=999_999_999_999)]


class Turn(Act, frozen=True, tag="turn"):
    """To another page of e-bills."""

    older: bool


class Print(Act, frozen=True, tag="print"):
    """The page of e-bills that is shown, or the slip that did not come out."""


class Again(Act, frozen=True, tag="again"):
    """Yes: the same once more, or another try."""


class Seen(Act, frozen=True, tag="seen"):
    """The earlier payments that have their final word were read."""


class Leave(Act, frozen=True, tag="leave"):
    pass


class Touch(Act, frozen=True, tag="touch"):
    """Somebody is there."""


AnyAct = Begin | ShowEarlier | GiveAccount | Choose | GiveAmount | Turn | Print | Again | Seen | Leave | Touch


class Pressed(Struct, frozen=True, forbid_unknown_fields=True):
    step: Text
    act: AnyAct


class Handled(Struct, frozen=True, forbid_unknown_fields=True):
    """What was done with a simulated peripheral: exactly one of these."""

    card: Annotated[str, Meta(max_length=KIOSK_WEB_TEXT_MAX)] | UnsetType = UNSET  # one of Bench.cards is put in
    key: Annotated[str, Meta(max_length=8)] | UnsetType = UNSET  # a digit, "clear", "cancel", "enter"
    paper: bool | UnsetType = UNSET
    line: bool | UnsetType = UNSET
    power: bool | UnsetType = UNSET  # cut, and back at once
    take_slips: bool | UnsetType = UNSET
