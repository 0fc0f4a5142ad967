"""What stands around the web kiosk's screen in a demo: test cards, test bills, and simulated peripherals on ptys.

The drivers in between are the real ones: what the page shows as paper has gone through ESC/POS, and a PIN through the
pad's own protocol.
"""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self

import segno

from switch.kiosk import Pan, PinBlock
from switch.kiosk.escpos import EscPosPrinter
from switch.kiosk.sankyo import SankyoReader
from switch.kiosk.web.views import Bench, Choice, Handled, SlipShown
from switch.kiosk.zt59x import Zt59xPinPad
from switch.limits import KIOSK_WEB_SLIPS_MAX, PIN_ENTRY_S
from switch.security.workingkeys import WorkingKey
from switch.sim import customers, testkeys
from switch.sim.devices import CardReaderSimulator, PinPadSimulator, PrinterSimulator

_KEYS: Final = {digit: digit.encode() for digit in "0123456789"} | {
    "clear": b"\x08",
    "cancel": b"\x1b",
    "enter": b"\r",
}
_ACCOUNTS_FROM: Final = customers.ACCOUNTS_MAX // 2  # a fleet's customers are the first ones: these owe what they owe
_CARDS: Final = (
    (testkeys.GOOD_CARDS[0], "储蓄卡", "Debit card"),
    (testkeys.GOOD_CARDS[1], "信用卡", "Credit card"),
    (testkeys.POOR_CARD, "余额不足的卡", "Not enough money"),
    (testkeys.SILENT_CARD, "银行不应答的卡", "Bank never answers"),
)


class SimulatedCounter:
    """``Counter`` of the station.

    Args:
        master_key: The terminal's, which is in the pad.

    Attributes:
        changed: Called when somebody has done something to a peripheral.
    """

    def __init__(self, master_key: bytes) -> None:
        self.changed: Callable[[], None] = lambda: None
        self._stack = ExitStack()
        try:
            self._reader = self._stack.enter_context(CardReaderSimulator())
            self._pad = self._stack.enter_context(PinPadSimulator(master_key))
            self._pad.typing = b""
            self._paper = self._stack.enter_context(PrinterSimulator())
            self.reader = SankyoReader(self._reader.port, parity="N")
            self._stack.callback(self.reader.close)
            pad = Zt59xPinPad(self._pad.port)
            self._stack.callback(pad.close)
            self.pin_pad = _OneAtATime(pad)
            self.printer = EscPosPrinter(self._paper.port)
            self._stack.callback(self.printer.close)
        except BaseException:
            self._stack.close()
            raise
        self._taken = 0  # slips that the customer has taken away
        self._accounts: tuple[Choice, ...] = ()
        self.new_customer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # ------------------------------------------------------------------------------------------------ for the station
    def abandon(self) -> None:
        """The customer has left: nobody types any more, and no card is held out."""
        self._reader.waiting = None
        self._pad.press(_KEYS["cancel"])

    def new_customer(self) -> None:
        """Other bills, and nothing in the tray."""
        found: list[Choice] = []
        wanted = [1, 2, 3]
        while wanted:
            customer = customers.customer(customers.account(_ACCOUNTS_FROM + random.randrange(_ACCOUNTS_FROM)))
            assert customer is not None
            if len(customer.bills) in wanted and customer.partial_allowed:
                wanted.remove(len(customer.bills))
                found.append(Choice(customer.account, "电费通知单", "Electricity bill", str(len(customer.bills))))
        self._accounts = tuple(sorted(found, key=lambda choice: choice.detail, reverse=True))
        self._taken = len(self._paper.slips)

    def bench(self, *, line: bool) -> Bench:
        return Bench(
            cards=tuple(
                Choice(str(number), label, label_en, testkeys.test_pan(number)[-4:])
                for number, label, label_en in _CARDS
            ),
            accounts=self._accounts,
            card_inside=self._reader.track2 is not None,
            pin_asked=self._pad.asks,
            typed=self._pad.typed if self._pad.asks else 0,
            paper=self._paper.paper_lines is None,
            line=line,
            slips=self._in_the_tray(),
        )

    # ------------------------------------------------------------------------------------------------ by hand
    def handle(self, what: Handled) -> None:
        """Raises ValueError: no such card or key."""
        if isinstance(what.card, str):
            if what.card not in {str(number) for number, *_ in _CARDS}:
                raise ValueError("card: no such test card")
            self._reader.insert(testkeys.test_track2(int(what.card)))
        if isinstance(what.key, str):
            if what.key not in _KEYS:
                raise ValueError("key: expected a digit, clear, cancel or enter")
            self._pad.press(_KEYS[what.key])
        if isinstance(what.paper, bool):
            self._paper.paper_lines = None if what.paper else 0
        if what.take_slips is True:
            self._taken = len(self._paper.slips)
        self.changed()

    def _in_the_tray(self) -> tuple[SlipShown, ...]:
        lying = self._paper.slips[self._taken :]
        return tuple(
            SlipShown(lines, _modules(codes[0]) if codes else ()) for lines, codes in lying[-KIOSK_WEB_SLIPS_MAX:]
        )


class _OneAtATime:
    """A pad that is never asked by two at once: new keys wait until a PIN has been typed."""

    def __init__(self, pad: Zt59xPinPad) -> None:
        self._pad = pad
        self._lock = threading.Lock()

    def load_pin_key(self, key: WorkingKey) -> None:
        with self._lock:
            self._pad.load_pin_key(key)

    def read_pin(self, pan: Pan, timeout_s: float = PIN_ENTRY_S) -> PinBlock:
        with self._lock:
            return self._pad.read_pin(pan, timeout_s)


@functools.cache
def _modules(text: str) -> tuple[str, ...]:
    """A QR code as rows of 0 and 1, as the printer would draw it."""
    code = segno.make_qr(text, error="m", boost_error=False)
    return tuple("".join("1" if module else "0" for module in row) for row in code.matrix)
