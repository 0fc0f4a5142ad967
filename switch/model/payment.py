# cython: annotation_typing=False, binding=False
"""What a payment is: states, postings, keys and the durable data that the journal keeps of it.

Amounts are integer fen (1/100 yuan, ISO 4217 numeric 156). Times named ``*_at`` on the machine are monotonic
seconds; ``wall_us`` is microseconds since 1970 in UTC and goes into fields and rows only.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import orjson
from msgspec import Struct

from switch.model.plain import Plain
from switch.model.secret import ChipData, Pan, PinBlock, Track


class State(StrEnum):
    """Where the money stands (saga §2, §11). There is no FAILED and no TIMEOUT: unknown is never terminal."""

    __hash__ = str.__hash__  # an Enum's own is written in Python, and every step looks its row up

    NEW = "NEW"  # only in memory: nothing durable, nothing sent
    CARD_PENDING = "CARD_PENDING"  # the purchase may have left: charge?
    CARD_CONFIRMING = "CARD_CONFIRMING"  # the card is charged, and its chip has the last word
    BILL_PENDING = "BILL_PENDING"  # the card is charged; a posting may have left
    BILL_CANCELLING = "BILL_CANCELLING"  # decided: no longer post; postings are being cancelled
    REVERSAL_PENDING = "REVERSAL_PENDING"  # decided: the card must not stay charged
    UNPROVEN = "UNPROVEN"  # the host knows no purchase, but its word is no proof: the settlement file decides
    SUSPENSE = "SUSPENSE"  # a person decides
    COMPLETED = "COMPLETED"
    DECLINED = "DECLINED"
    REVERSED = "REVERSED"
    REFUNDED = "REFUNDED"


PAYMENT_ID_TIME_SHIFT = 22  # a payment's number begins with milliseconds since 1970

FINAL = frozenset({State.COMPLETED, State.DECLINED, State.REVERSED, State.REFUNDED})
# Driven by the machine: something is outstanding and a deadline must exist (invariant I7).
DRIVEN = frozenset(
    {State.CARD_PENDING, State.CARD_CONFIRMING, State.BILL_PENDING, State.BILL_CANCELLING, State.REVERSAL_PENDING}
)


class PostingState(StrEnum):
    __hash__ = str.__hash__

    WAITING = "waiting"  # not sent yet
    SENT = "sent"  # may have left
    POSTED = "posted"  # the marketing system confirmed it
    REJECTED = "rejected"  # the marketing system refused it for good
    CANCELLED = "cancelled"  # undone, or fenced so that it can never be posted


class Receivable(Struct):
    """One month of one account as the marketing system quoted it (应收)."""

    receivable: str  # 应收凭证号
    period: str  # 电费年月 YYYYMM
    principal: int  # fen, 本金
    penalty: int  # fen, 违约金
    amount: int  # fen, principal + penalty − already paid
    energy_kwh: int = 0
    tier: int = 1  # 阶梯


class Posting(Plain):
    """One receivable being posted; ``serial`` is our idempotency key towards the marketing system.

    A prepayment is a posting without a receivable: money for an account, whatever that owes later.
    """

    __slots__ = ("amount", "penalty", "period", "principal", "receivable", "sends", "serial", "state")

    def __init__(
        self,
        receivable: str,
        period: str,
        principal: int,
        penalty: int,
        amount: int,
        serial: str,
        state: PostingState = PostingState.WAITING,
        sends: int = 0,
    ) -> None:
        self.receivable = receivable
        self.period = period
        self.principal = principal
        self.penalty = penalty
        self.amount = amount
        self.serial = serial
        self.state = state
        self.sends = sends  # postings that left; not durable

    @property
    def is_prepayment(self) -> bool:
        return not self.receivable

    def to_row(self) -> list[Any]:
        return [self.receivable, self.period, self.principal, self.penalty, self.amount, self.serial, self.state]

    @classmethod
    def from_row(cls, row: list[Any]) -> Posting:
        receivable, period, principal, penalty, amount, serial, state = row
        posting = cls(receivable, period, principal, penalty, amount, serial, PostingState(state))
        if posting.state is not PostingState.WAITING:
            posting.sends = 2  # nobody knows any more: as if it had been sent again
        return posting


class PaidRow(Struct, frozen=True):
    """One payment of an account as the marketing system remembers it (缴费历史)."""

    period: str  # YYYYMM
    amount: int  # fen, penalty included
    penalty: int  # fen
    energy_kwh: int
    paid_at: str  # YYYYMMDDhhmmss, the marketing system's clock
    collector: str  # who took the money, as the marketing system names it
    serial: str = ""  # where it tells them
    reading_before: str = ""  # of the meter
    reading: str = ""


class Quote(Struct, frozen=True):
    """What an inquiry answered, kept for minutes so that a payment can name its rows (saga C10)."""

    quote: str
    account: str
    name: str
    address: str
    rows: tuple[Receivable, ...]
    marketing_day: str  # YYYYMMDD; the quote dies with it, because the penalty moves
    fetched_at: float  # monotonic seconds
    advance_balance: int = 0  # fen
    partial_allowed: bool = True  # False: all rows or none (欠费必须全交)


class Card(Struct, frozen=True):
    """Card data of one payment in memory, until the purchase has left. Tracks and PIN blocks are never stored."""

    pan: Pan
    expiry: str | None  # YYMM
    sequence_number: str | None
    entry_mode: str
    pin_capture_code: str | None
    track2: Track | None
    pin_block: PinBlock | None
    security_control: str | None
    icc_data: ChipData | None

    def __repr__(self) -> str:
        return f"Card({self.masked}, entry_mode={self.entry_mode})"

    @property
    def masked(self) -> str:
        return self.pan.masked


class KeptCard(Struct, frozen=True):
    """What a reversal needs of a card: all that is kept of it, sealed, until the payment is final (saga C15)."""

    pan: Pan
    expiry: str | None  # YYMM
    sequence_number: str | None
    icc_data: ChipData | None  # the tags of a reversal only

    def __repr__(self) -> str:
        return f"KeptCard({self.pan.masked})"

    def to_bytes(self) -> bytes:
        """In clear: give it to ``SecurityModule.seal`` and to nobody else."""
        return orjson.dumps(
            {
                "pan": self.pan.reveal(),
                **({} if self.expiry is None else {"expiry": self.expiry}),
                **({} if self.sequence_number is None else {"sequence_number": self.sequence_number}),
                **({} if self.icc_data is None else {"icc_data": self.icc_data.reveal().hex()}),
            }
        )

    @classmethod
    def from_bytes(cls, clear: bytes) -> KeptCard:
        """What ``to_bytes`` gave. Raises ValueError, without the value."""
        try:
            found: dict[str, str] = orjson.loads(clear)
            icc_data = found.get("icc_data")
            return cls(
                pan=Pan(found["pan"]),
                expiry=found.get("expiry"),
                sequence_number=found.get("sequence_number"),
                icc_data=None if icc_data is None else ChipData(bytes.fromhex(icc_data)),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            found, icc_data, clear = {}, None, b""  # not in the locals of a traceback
        raise ValueError("opened card data is not what was sealed")


def began_us(payment_id: int) -> int:
    """When a payment began, as its number has it: microseconds since 1970, to the millisecond."""
    return (payment_id >> PAYMENT_ID_TIME_SHIFT) * 1_000


def serial_began_us(serial: str) -> int:
    """The same of the payment behind a posting's serial, which is its number and two digits; 0: no serial of ours.

    What depends on a payment's beginning needs no column of its own, and a worker that takes it over decides the same.

    >>> serial_began_us(f"{1_700_000_000_000 << 22}01")
    1700000000000000
    """
    return began_us(int(serial[:-2])) if len(serial) > 2 and serial.isascii() and serial.isdigit() else 0


class StoredPayment(Struct):
    """A payment as the journal gives it back: its events folded in ``ver`` order."""

    payment_id: int
    opened_on: int  # YYYYMMDD, part of the key, never changes
    ver: int
    state: State
    body: dict[str, Any] = {}  # every event's body, later over earlier
    sealed: bytes | None = None  # card data, only while the payment is open
    link: bytes = b""  # hash of the last event
