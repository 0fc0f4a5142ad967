"""What kiosks ask for, checked at the edge and plain after. ``reply`` is the dialect's own memory of how to answer."""

from __future__ import annotations

from dataclasses import dataclass, field

from switch.model.payment import Card


@dataclass(slots=True)
class Request:
    terminal_id: str
    merchant_id: str
    serial: str  # six digits
    date: str  # MMDD, "" where the message carries none
    reply: object
    mab: bytes = field(repr=False)  # the bytes its MAC covers: the whole message, card data among them
    mac: bytes | None

    @property
    def kiosk_key(self) -> str:
        """The kiosk's idempotency key."""
        return f"{self.terminal_id}|{self.date}|{self.serial}"


@dataclass(slots=True)
class SignOn(Request):
    pass


@dataclass(slots=True)
class EchoTest(Request):
    pass


@dataclass(slots=True)
class BillInquiry(Request):
    account: str


@dataclass(slots=True)
class PaymentRequest(Request):
    account: str
    quote: str
    receivables: tuple[str, ...]  # empty: all of the quote
    amount: int  # fen
    card: Card


@dataclass(slots=True)
class ResultInquiry(Request):
    asked_serial: str
    asked_date: str

    @property
    def asked_key(self) -> str:
        return f"{self.terminal_id}|{self.asked_date}|{self.asked_serial}"


@dataclass(slots=True)
class KioskReversal(ResultInquiry):
    """The kiosk wants a payment taken back: it could not print, or the customer walked away."""


@dataclass(slots=True)
class CardAnswer:
    """A response of the card network, as far as the switch looks at it."""

    kind: str  # "purchase", "reversal", "sign_on", "echo"
    terminal_id: str
    batch_number: str
    stan: str
    response_code: str
    amount: int  # fen; -1: not in the answer
    rrn: str
    settlement_date: str
    authorization_code: str
    working_keys: bytes = field(repr=False)
    mab: bytes = field(repr=False)
    mac: bytes | None

    @property
    def key(self) -> str:
        return f"{self.kind}|{self.terminal_id}|{self.batch_number}|{self.stan}"
