"""The client library for kiosks. Start here: ``KioskClient`` (async), ``BlockingKioskClient``; README, "Kiosk vendors".

It relies on ``switch/KIOSK_INTERFACE.md`` and nothing else of the switch.
"""

from switch.kiosk.blocking import BlockingKioskClient
from switch.kiosk.client import KioskClient, tls_context
from switch.kiosk.devices import (
    CardReader,
    ChipCard,
    ChipReader,
    DeviceError,
    PinPad,
    PrinterStatus,
    ReceiptPrinter,
    Slip,
    yuan,
)
from switch.kiosk.journal import KioskJournal
from switch.kiosk.keys import KeyHolder, SoftwareKeys
from switch.kiosk.messages import chip, keyed, swiped
from switch.kiosk.parameters import ParameterFile, Parameters
from switch.kiosk.results import (
    Balance,
    Bills,
    EBills,
    JournalError,
    Month,
    OpenPaymentError,
    Outcome,
    PaymentKey,
    PaymentResult,
    Refusal,
    Settlement,
    SignOn,
    SlipAgain,
)
from switch.model.batch import BatchDifference
from switch.model.ebill import EBill, Meter, Step
from switch.model.secret import ChipData, Pan, PinBlock, Track

__all__ = [
    "Balance",
    "BatchDifference",
    "Bills",
    "BlockingKioskClient",
    "CardReader",
    "ChipCard",
    "ChipData",
    "ChipReader",
    "DeviceError",
    "EBill",
    "EBills",
    "JournalError",
    "KeyHolder",
    "KioskClient",
    "KioskJournal",
    "Meter",
    "Month",
    "OpenPaymentError",
    "Outcome",
    "Pan",
    "ParameterFile",
    "Parameters",
    "PaymentKey",
    "PaymentResult",
    "PinBlock",
    "PinPad",
    "PrinterStatus",
    "ReceiptPrinter",
    "Refusal",
    "Settlement",
    "SignOn",
    "Slip",
    "SlipAgain",
    "SoftwareKeys",
    "Step",
    "Track",
    "chip",
    "keyed",
    "swiped",
    "tls_context",
    "yuan",
]
