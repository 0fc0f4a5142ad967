"""``KioskClient`` for programs without an event loop: the same methods, which return when they are done.

    with BlockingKioskClient("switch.example", 8583, terminal_id=…, merchant_id=…, journal=journal, keys=keys) as kiosk:
        bills = kiosk.inquire("0300000009")

The client lives in a thread of its own and goes on there between calls: line, keys, open payments. Its methods may be
called from any thread. ``on_result`` is called in the client's thread and must not call the client.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable
from types import TracebackType
from typing import Any, TypeVar

from switch.kiosk.client import KioskClient
from switch.kiosk.devices import ChipReader
from switch.kiosk.parameters import APPLICATIONS, PUBLIC_KEYS, TEXT, ParameterFile, Parameters
from switch.kiosk.results import (
    Balance,
    Bills,
    EBills,
    Month,
    PaymentKey,
    PaymentResult,
    Refusal,
    Settlement,
    SignOn,
    SlipAgain,
)
from switch.limits import E_BILL_PAGE_MAX
from switch.model.payment import Card

T = TypeVar("T")


class BlockingKioskClient:
    """Arguments, results and errors as ``KioskClient``'s."""

    def __init__(self, host: str, port: int, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        try:
            self._client = KioskClient(host, port, **options)
        except BaseException:
            self._loop.close()
            raise
        # Ends with the program: a payment that is under way then is in the journal.
        self._thread = threading.Thread(target=self._run, name="kiosk client", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _call(self, what: Coroutine[Any, Any, T]) -> T:
        if self._loop.is_closed():
            what.close()
            raise RuntimeError("this client is closed; make a new one")
        return asyncio.run_coroutine_threadsafe(what, self._loop).result()

    def __enter__(self) -> BlockingKioskClient:
        try:
            self.connect()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connect(self) -> SignOn:
        return self._call(self._client.connect())

    def close(self) -> None:
        """Hang up and end the thread; the second time it does nothing."""
        if self._loop.is_closed():
            return
        self._call(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    @property
    def is_ready(self) -> bool:
        return self._client.is_ready

    @property
    def last_sign_on(self) -> SignOn:
        return self._client.last_sign_on

    def sign_on(self) -> SignOn:
        return self._call(self._client.sign_on())

    def echo(self, *, with_mac: bool = False) -> bool:
        return self._call(self._client.echo(with_mac=with_mac))

    def inquire(self, account: str) -> Bills | Refusal:
        return self._call(self._client.inquire(account))

    def e_bill(self, account: str, newest: str = "", months: int = E_BILL_PAGE_MAX) -> EBills | Refusal:
        return self._call(self._client.e_bill(account, newest, months))

    def settle(self, day: str = "") -> Settlement:
        return self._call(self._client.settle(day))

    @property
    def unsettled_days(self) -> tuple[str, ...]:
        return self._client.unsettled_days

    def balance(self, card: Card) -> Balance | Refusal:
        return self._call(self._client.balance(card))

    def slip_again(self, key: PaymentKey) -> SlipAgain | Refusal:
        return self._call(self._client.slip_again(key))

    def download_parameters(
        self, file: ParameterFile, kinds: Iterable[str] = (TEXT, PUBLIC_KEYS, APPLICATIONS)
    ) -> Parameters | Refusal:
        return self._call(self._client.download_parameters(file, kinds))

    @property
    def wish(self) -> str:
        return self._client.wish

    def sign_off(self) -> None:
        self._call(self._client.sign_off())

    def pay(
        self, bills: Bills, months: Iterable[Month], card: Card, *, chip: ChipReader | None = None
    ) -> PaymentResult:
        return self._call(self._client.pay(bills, months, card, chip=chip))

    def prepay(
        self, account: str, amount: int, card: Card, *, confirmed: bool = False, chip: ChipReader | None = None
    ) -> PaymentResult:
        return self._call(self._client.prepay(account, amount, card, confirmed=confirmed, chip=chip))

    def reverse(self, key: PaymentKey) -> PaymentResult:
        return self._call(self._client.reverse(key))

    def wait_final(self, key: PaymentKey, timeout_s: float) -> PaymentResult:
        return self._call(self._client.wait_final(key, timeout_s))

    def recover(self, *, customer_left: bool = False, timeout_s: float | None = None) -> tuple[PaymentResult, ...]:
        return self._call(self._client.recover(customer_left=customer_left, timeout_s=timeout_s))

    @property
    def open_payments(self) -> tuple[PaymentResult, ...]:
        return self._client.open_payments

    def result(self, key: PaymentKey) -> PaymentResult:
        return self._client.result(key)

    def acknowledge(self, result: PaymentResult) -> None:
        self._client.acknowledge(result)
