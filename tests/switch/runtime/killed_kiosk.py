"""A kiosk program that kills itself with SIGKILL at the n-th step of a payment; for test_kiosk_killed.

Steps are counted from the begin of the payment on: each write of the journal (before it, when half of it is written,
after it), each fsync, each send, each receipt (before and after). For every n: one life is killed there, the next one
recovers, and the customer, who knows nothing of this, comes again and pays what the switch says he still owes.

    python killed_kiosk.py PORT FOLDER BOOK FIRST_ACCOUNT STEPS      STEPS: "all", "settle", or numbers with commas

After all of them the day is settled: what the kiosk remembers as paid is what the switch has. With "settle" a day is
settled on which that is not so, and the lives are killed at the steps of that.

The lives are forks of this process: to import everything again each time would take most of the time.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from msgspec import structs

from switch.kiosk import Bills, KioskClient, KioskJournal, Outcome, Pan, PaymentResult, Refusal, SoftwareKeys, keyed
from switch.kiosk import client as client_module
from switch.kiosk.journal import OpenPayment
from switch.limits import KIOSK_SHORT
from switch.sim import customers, testkeys

TERMINAL, MERCHANT = testkeys.test_terminal(1)
CARD = keyed(Pan(testkeys.test_pan(1)), testkeys.test_expiry(1))


class Killer:
    """Counts steps and ends the process at one of them."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.count = 0
        self.armed = False
        pwrite, fsync, begin = os.pwrite, os.fsync, KioskJournal.begin
        line = client_module._Line
        send, received = line.send, line.data_received

        def torn_pwrite(descriptor: int, data: bytes, offset: int) -> int:
            self.step()
            if self.armed:
                pwrite(descriptor, data[: len(data) // 2], offset)
                self.step()
            written = pwrite(descriptor, data, offset)
            self.step()
            return written

        def stepped_fsync(descriptor: int) -> None:
            self.step()
            fsync(descriptor)
            self.step()

        def stepped_send(this: Any, frame: bytes) -> None:
            self.step()
            send(this, frame)
            self.step()

        def stepped_received(this: Any, data: bytes) -> None:
            self.step()
            received(this, data)
            self.step()

        def noted_begin(this: KioskJournal, payment: OpenPayment) -> None:
            note("sent", payment.key, fen=payment.amount, account=payment.account, receivables=payment.receivables)
            self.armed = True
            begin(this, payment)

        for owner, name, changed in (
            (os, "pwrite", torn_pwrite),
            (os, "fsync", stepped_fsync),
            (line, "send", stepped_send),
            (line, "data_received", stepped_received),
            (KioskJournal, "begin", noted_begin),
        ):
            setattr(owner, name, changed)

    def step(self) -> None:
        if self.armed:
            self.count += 1
            if self.count == self.at:
                os.kill(os.getpid(), signal.SIGKILL)


BOOK = Path(sys.argv[3])


def note(fact: str, key: object, **facts: Any) -> None:
    with BOOK.open("a") as book:
        book.write(json.dumps({"at": 0, "fact": fact, "key": str(key), **facts}) + "\n")


def told(result: PaymentResult) -> None:
    code = result.response_code or result.code
    note("told", result.key, code=code, stable=result.code, reference=result.reference, case="", how="answer")
    if result.final:
        note("final", result.key, code=code, stable=result.code)


def kiosk_of(journal: KioskJournal) -> KioskClient:
    return KioskClient(
        "127.0.0.1",
        int(sys.argv[1]),
        terminal_id=TERMINAL,
        merchant_id=MERCHANT,
        journal=journal,
        keys=SoftwareKeys(testkeys.test_tmk(TERMINAL)),
        times=KIOSK_SHORT,
    )


def journal_of() -> KioskJournal:
    return KioskJournal.open(Path(sys.argv[2]) / "killed.journal", TERMINAL, create=True)


async def pays(account: str, kill_at: int) -> int:
    killer = Killer(kill_at)
    async with kiosk_of(journal_of()) as kiosk:
        bills = await kiosk.inquire(account)
        assert isinstance(bills, Bills), bills
        result = await kiosk.pay(bills, bills.months, CARD)
        if not result.final:
            result = await kiosk.wait_final(result.key, 20)
        assert result.final, result
        told(result)
        kiosk.acknowledge(result)
        killer.armed = False
    return 0


async def comes_back(account: str) -> int:
    async with kiosk_of(journal_of()) as kiosk:
        results = await kiosk.recover(timeout_s=20)
        for result in results:
            assert result.final and result.account == account, result
            told(result)
            kiosk.acknowledge(result)
        assert not kiosk.open_payments
        bills = await kiosk.inquire(account)
        if any(result.outcome is Outcome.PAID for result in results):
            assert isinstance(bills, Refusal) and bills.code == "no_arrears", bills
        if isinstance(bills, Bills):
            note_begin = Killer(0)
            result = await kiosk.pay(bills, bills.months, CARD)
            note_begin.armed = False
            if not result.final:
                result = await kiosk.wait_final(result.key, 20)
            assert result.final, result
            told(result)
            kiosk.acknowledge(result)
    return 0


async def settles(kill_at: int, wanted: str) -> int:
    killer = Killer(kill_at)
    async with kiosk_of(journal_of()) as kiosk:
        killer.armed = kill_at > 0
        result = await kiosk.settle()
        killer.armed = False
        assert result.code == wanted, result
    return 0


def forget_one() -> None:
    """The kiosk's memory loses a payment."""
    journal = journal_of()
    (day,) = journal.unsettled_days
    rest = dict(journal._state.paid) | {day: journal._state.paid[day][1:]}
    journal._save(structs.replace(journal._state, paid=rest))
    journal.close()


def settle_killed(customer: int) -> int:
    for account in (customers.account(customer), customers.account(customer + 1)):
        if life(lambda account=account: pays(account, 0)) != 0:  # type: ignore[misc]
            return 1
    forget_one()
    for number in itertools.count(1):
        status = life(lambda number=number: settles(number, "batch_reported"))  # type: ignore[misc]
        if status == 0:
            print(f"killed at {number - 1} steps", flush=True)
            return 0
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            return 1
    return 1


def life(of: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """In a fork; gives its wait status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = asyncio.run(of())
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return os.waitpid(child, 0)[1]


def main() -> int:
    if sys.argv[5] == "settle":
        return settle_killed(int(sys.argv[4]))
    numbers = itertools.count(1) if sys.argv[5] == "all" else map(int, sys.argv[5].split(","))
    customer = int(sys.argv[4])
    killed = 0
    for number in numbers:
        account = customers.account(customer)
        customer += 1
        status = life(lambda account=account, number=number: pays(account, number))  # type: ignore[misc]
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            killed += 1
        elif status == 0:
            print(f"killed at {killed} steps", flush=True)
            return life(lambda: settles(0, "batch_equal"))  # the payment has fewer steps
        else:
            return 1
        if life(lambda account=account: comes_back(account)) != 0:  # type: ignore[misc]
            print(f"the life after step {number} failed", flush=True)
            return 1
    print(f"killed at {killed} steps", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
