"""What kiosks ask for, checked at the edge and plain after. ``reply`` is the dialect's own memory of how to answer."""

from __future__ import annotations

from msgspec import Struct

from switch.model.batch import BatchDetail
from switch.model.payment import Card
from switch.model.secret import ChipData, Pan

# What an acquirer may ask a terminal for, in digit 6 of a message's header.
WISHES = "123456789bc"
WISH_SIGN_ON = "3"
# Messages of a download by their 60.3, and the wish that the last one of its kind fulfils.
DOWNLOADS = {
    "360": "",
    "361": "1",  # parameters of the terminal
    "362": "2",  # its state
    "372": "",
    "370": "",
    "371": "4",  # public keys of card schemes: what there is, one of them, done
    "382": "",
    "380": "",
    "381": "5",  # parameters of chip applications
}


class Request(Struct):
    terminal_id: str
    merchant_id: str
    serial: str  # six digits
    date: str  # MMDD, "" where the message carries none
    reply: object
    mab: bytes  # the bytes its MAC covers: the whole message, card data among them
    mac: bytes | None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of terminal {self.terminal_id}, serial {self.serial}>"

    @property
    def kiosk_key(self) -> str:
        """The kiosk's idempotency key."""
        return f"{self.terminal_id}|{self.date}|{self.serial}"


class SignOn(Request):
    pass


class EchoTest(Request):
    pass


class SignOff(Request):
    """The kiosk closes for now: it gives up its place as the terminal's connection."""


class Download(Request):
    """One message of a download of parameters: asks what there is, fetches one item, or says that all has come."""

    network_code: str  # 60.3, of DOWNLOADS
    data: bytes  # field 62 as it goes on to the acquirer


class BalanceInquiry(Request):
    """What is on a card. Moves no money, and nothing of it is kept."""

    card: Card


class BillInquiry(Request):
    account: str


class EBillInquiry(Request):
    """What months of an account were made of, the newest first."""

    account: str
    newest: str  # YYYYMM
    months: int


class BatchRequest(Request):
    """Something about a settlement of the kiosk's day."""


class BatchSettlement(BatchRequest):
    """What the kiosk says that it took on a day."""

    day: str  # MMDD
    batch_number: str
    count: int
    amount: int  # fen


class BatchUpload(BatchRequest):
    """Payments that the kiosk knows as paid, for the settlement under the key that it names."""

    asked_serial: str
    asked_date: str
    details: tuple[BatchDetail, ...]


class BatchUploadEnd(BatchRequest):
    asked_serial: str
    asked_date: str
    count: int  # details that were sent


class PaymentRequest(Request):
    account: str
    quote: str
    receivables: tuple[str, ...]  # empty: all of the quote
    amount: int  # fen
    card: Card
    prepays: bool = False  # for the account, not for any receivable
    confirmed: bool = False  # the customer was asked whether he wants the same prepayment again


class ResultInquiry(Request):
    asked_serial: str
    asked_date: str

    @property
    def asked_key(self) -> str:
        return f"{self.terminal_id}|{self.asked_date}|{self.asked_serial}"


class SlipInquiry(ResultInquiry):
    """A result inquiry that also wants what is printed on the slip, to print it again."""


class KioskReversal(ResultInquiry):
    """The kiosk wants a payment taken back: it could not print, or the customer walked away."""


class ChipResult(ResultInquiry):
    """What the chip of a payment made of its issuer's answer."""

    accepted: bool  # TC; else AAC
    icc_data: ChipData  # its last cryptogram, and what it did with the issuer's scripts
    has_scripts: bool
    pan: Pan | None  # always there with scripts
    sequence_number: str | None


class CardAnswer(Struct):
    """A response of the card network, as far as the switch looks at it."""

    kind: str  # "purchase", "balance", "reversal", "sign_on", "echo", "download", "settlement", "upload" …
    terminal_id: str
    batch_number: str
    stan: str
    response_code: str
    amount: int  # fen; -1: not in the answer
    rrn: str
    settlement_date: str
    authorization_code: str
    working_keys: bytes
    mab: bytes
    mac: bytes | None
    balance: str = ""  # field 54 as it came
    wants: str = ""  # what the acquirer asks the terminal to do, one of WISHES; "": nothing
    data: bytes = b""  # field 62 of a download
    icc_data: ChipData | None = None  # what the issuer tells the chip: 91, 71, 72, 8A, as far as it does
    settled: str = ""  # of a settlement: 1 the totals agree, 2 they differ, 3 an error

    def __repr__(self) -> str:
        return f"<CardAnswer {self.key}: {self.response_code}>"

    @property
    def key(self) -> str:
        return f"{self.kind}|{self.terminal_id}|{self.batch_number}|{self.stan}"
