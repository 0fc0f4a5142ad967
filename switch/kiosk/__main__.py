"""``gridswitch kiosk``, ``python -m switch.kiosk``: a kiosk for a demo, with a test terminal and test cards.

On the command line, or with ``--web`` as a touch screen in a browser (switch/kiosk/web). It is also the example: what
a kiosk's program does with the library, from a start after power loss to the slip. Only where its keys and cards come
from is not for real kiosks: a PIN pad and a card reader stand there.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import ipaddress
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from switch.errors import SwitchError
from switch.kiosk import (
    BlockingKioskClient,
    DeviceError,
    EBills,
    KioskClient,
    KioskJournal,
    Outcome,
    PaymentKey,
    PaymentResult,
    PinPad,
    Refusal,
    Settlement,
    Slip,
    SoftwareKeys,
    Track,
    swiped,
    tls_context,
    yuan,
)
from switch.kiosk.escpos import EscPosPrinter
from switch.kiosk.sankyo import SankyoReader
from switch.kiosk.zt59x import Zt59xPinPad
from switch.limits import KIOSK_SHORT, KIOSK_STANDARD, KIOSK_WEB_IDLE_S
from switch.model.payment import Card
from switch.sim import testkeys
from switch.sim.devices import CardReaderSimulator, PinPadSimulator, PrinterSimulator

EXIT_OK, EXIT_NOT_PAID, EXIT_WRONG = 0, 1, 2
_WIDTH = 48
_WAIT_S = 30.0
_LISTEN = ("127.0.0.1", 8480)
_EPILOG = """\
on a demo (make demo KEEP=1 prints the address, and starts a kiosk with --web by itself):
  gridswitch kiosk --connect 127.0.0.1:PORT inquire 0300000009
  gridswitch kiosk --connect 127.0.0.1:PORT e-bill 0300000009
  gridswitch kiosk --connect 127.0.0.1:PORT pay 0300000009 --months 1
  gridswitch kiosk --connect 127.0.0.1:PORT pay 0300000178 --devices
  gridswitch kiosk --connect 127.0.0.1:PORT open
  gridswitch kiosk --connect 127.0.0.1:PORT --web

exit status: 0 paid, or asked and answered; 1 not paid; 2 wrong call or an outage
"""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m switch.kiosk", **_ABOUT)
    _fill(parser)
    return run(parser.parse_args(argv))


def run(arguments: argparse.Namespace) -> int:
    try:
        if arguments.web == (arguments.action is not None):
            raise ValueError("say what to do: one of the actions that --help lists; or --web, without any of them")
        return _serve_page(arguments) if arguments.web else _run(arguments)
    except ModuleNotFoundError as error:
        if not arguments.web or error.name in (None, "switch", "iso8583"):
            raise
        print(
            f"kiosk: {error.name} is not installed; run: pip install 'gridswitch[kiosk-web]' [extra]", file=sys.stderr
        )
        return EXIT_WRONG
    except (SwitchError, OSError, ValueError) as error:
        print(f"kiosk: {error}", file=sys.stderr)
        return EXIT_WRONG
    except KeyboardInterrupt:
        print("kiosk: interrupted; what is open is asked for at the next start", file=sys.stderr)
        return 130


_ABOUT: dict[str, Any] = {
    "description": "A kiosk with a test terminal and test cards: on the command line, or with --web as a touch screen "
    "in a browser on this machine.",
    "epilog": _EPILOG,
    "formatter_class": argparse.RawDescriptionHelpFormatter,
}


def add_kiosk_parser(commands: Any) -> None:
    parser = commands.add_parser("kiosk", help="a kiosk on the command line, or with --web in a browser", **_ABOUT)
    _fill(parser)
    parser.set_defaults(run=run)


def _fill(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--connect", type=_address, default=("127.0.0.1", 8583), metavar="HOST:PORT", help="default 127.0.0.1:8583"
    )
    parser.add_argument("--terminal", type=int, default=1, metavar="N", help="test terminal, from 1 (default 1)")
    parser.add_argument("--journal", type=Path, metavar="FILE", help="default .gridswitch/kiosk-TERMINAL.journal")
    parser.add_argument("--tls", type=Path, metavar="DIR", help="folder of `gridswitch certs dev`")
    parser.add_argument("--standard", action="store_true", help="times of real lines (default: those of a demo)")
    web = parser.add_argument_group("in a browser")
    web.add_argument("--web", action="store_true", help="serve a touch screen until SIGTERM")
    web.add_argument(
        "--listen",
        type=_loopback,
        default=_LISTEN,
        metavar="HOST:PORT",
        help="where the browser of this machine finds it; port 0: a free one (default 127.0.0.1:8480)",
    )
    web.add_argument("--notices", type=Path, metavar="FILE", help="notices for customers, TOML (default: a few)")
    web.add_argument(
        "--idle",
        type=_seconds,
        default=KIOSK_WEB_IDLE_S,
        metavar="S",
        help="seconds without a touch until the start is shown again (default %(default)g)",
    )
    actions = parser.add_subparsers(metavar="ACTION", dest="action")
    inquire = actions.add_parser("inquire", help="what an account owes")
    inquire.add_argument("account", metavar="ACCOUNT")
    e_bill = actions.add_parser("e-bill", help="what months of an account were made of: readings, steps, payments")
    e_bill.add_argument("account", metavar="ACCOUNT")
    e_bill.add_argument("--newest", default="", metavar="YYYYMM", help="month to begin with (default this month)")
    settle = actions.add_parser("settle", help="settle a day: compare with the switch, and upload where that differs")
    settle.add_argument("--day", default="", metavar="MMDD", help="default today")
    pay = actions.add_parser("pay", help="pay the oldest months of an account with a test card")
    pay.add_argument("account", metavar="ACCOUNT")
    pay.add_argument("--months", type=int, metavar="N", help="how many, the oldest first (default all)")
    pay.add_argument("--card", type=int, default=1, metavar="N", help="test card, from 0 (default 1)")
    pay.add_argument("--pin", default="123456", help="default 123456")
    pay.add_argument(
        "--devices", action="store_true", help="card, PIN and slip through the drivers, on simulated peripherals"
    )
    pay.add_argument("--printer", metavar="PORT", help="ESC/POS printer for the slip (default: the screen)")
    actions.add_parser("open", help="payments without a final word, and final ones nobody has seen: ask, show")
    reverse = actions.add_parser("reverse", help="take an open payment back")
    reverse.add_argument("date", metavar="MMDD")
    reverse.add_argument("serial", metavar="SERIAL")


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 1 <= int(port) <= 65_535:
        raise argparse.ArgumentTypeError(f"{text}: expected HOST:PORT")
    return host, int(port)


def _loopback(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback or not port.isdigit() or int(port) > 65_535:
        raise argparse.ArgumentTypeError(f"{text}: expected 127.0.0.1:PORT; the kiosk's browser is on the same machine")
    return host, int(port)


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 1.0 <= found <= 3600.0:
        raise argparse.ArgumentTypeError(f"{text}: expected 1 to 3600 seconds")
    return found


def _journal_of(arguments: argparse.Namespace, terminal: str) -> Path:
    path: Path = arguments.journal or Path(".gridswitch") / f"kiosk-{terminal}.journal"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _options(arguments: argparse.Namespace, terminal: str) -> dict[str, Any]:
    """Of both clients."""
    tls = None
    if arguments.tls is not None:
        of_terminal = arguments.tls / "terminals" / terminal
        tls = tls_context(str(arguments.tls / "ca.pem"), f"{of_terminal}.pem", f"{of_terminal}.key")
    return {"tls": tls, "times": KIOSK_STANDARD if arguments.standard else KIOSK_SHORT}


def _serve_page(arguments: argparse.Namespace) -> int:
    """Until SIGTERM or SIGINT."""
    from switch.kiosk.web.notices import Notices
    from switch.kiosk.web.server import bind, serve, url_of
    from switch.kiosk.web.station import Station
    from switch.sim.counter import SimulatedCounter

    logging.basicConfig(format="kiosk: %(message)s", level=logging.WARNING)
    terminal, merchant = testkeys.test_terminal(arguments.terminal)
    path, options = _journal_of(arguments, terminal), _options(arguments, terminal)
    KioskJournal.open(path, terminal, create=True).close()  # what is wrong with it is told here, not on the screen
    notices = Notices(arguments.notices)
    host, port = arguments.connect
    listener = bind(*arguments.listen)

    def client(journal: KioskJournal, pin_pad: PinPad, on_result: Callable[[PaymentResult], None]) -> KioskClient:
        keys = SoftwareKeys(testkeys.test_tmk(terminal))  # in memory only: gone with the power
        return KioskClient(
            host,
            port,
            terminal_id=terminal,
            merchant_id=merchant,
            journal=journal,
            keys=keys,
            pin_pad=pin_pad,
            on_result=on_result,
            **options,
        )

    async def served(counter: SimulatedCounter) -> None:
        station = Station(
            lambda: KioskJournal.open(path, terminal),
            lambda journal, on_result: client(journal, counter.pin_pad, on_result),
            counter,
            notices,
            terminal_id=terminal,
            idle_s=arguments.idle,
        )
        await serve(station, listener, started=lambda: print(f"kiosk {terminal}: {url_of(listener)}", flush=True))

    with listener, SimulatedCounter(testkeys.test_tmk(terminal)) as counter:
        asyncio.run(served(counter))
    return EXIT_OK


def _run(arguments: argparse.Namespace) -> int:
    terminal, merchant = testkeys.test_terminal(arguments.terminal)
    path, options = _journal_of(arguments, terminal), _options(arguments, terminal)
    keys = SoftwareKeys(testkeys.test_tmk(terminal))
    journal = KioskJournal.open(path, terminal, create=True)
    host, port = arguments.connect
    with contextlib.ExitStack() as stack:
        stack.callback(journal.close)
        counter = _Counter(keys, testkeys.test_tmk(terminal), arguments, stack)
        kiosk = BlockingKioskClient(
            host,
            port,
            terminal_id=terminal,
            merchant_id=merchant,
            journal=journal,
            keys=keys,
            pin_pad=counter.pin_pad,
            **options,
        )
        with kiosk:
            if not kiosk.last_sign_on.ok:
                print(f"kiosk: {host}:{port}: {kiosk.last_sign_on.text} [{kiosk.last_sign_on.code}]", file=sys.stderr)
                return EXIT_WRONG
            # Before anything else: what the life before has left. After power loss too.
            earlier = kiosk.recover()
            for result in earlier:
                _show(result)
                kiosk.acknowledge(result)
            if arguments.action == "open":
                if not earlier:
                    print("没有未完成的缴费。")
                return EXIT_OK
            if arguments.action == "reverse":
                return _reverse(kiosk, PaymentKey(terminal, arguments.date, arguments.serial))
            if arguments.action == "e-bill":
                return _show_e_bills(kiosk.e_bill(arguments.account, arguments.newest))
            if arguments.action == "settle":
                return _show_settlement(kiosk.settle(arguments.day))
            return _serve(kiosk, counter, arguments)


def _reverse(kiosk: BlockingKioskClient, key: PaymentKey) -> int:
    try:
        kiosk.reverse(key)
    except KeyError as error:
        raise ValueError(str(error.args[0])) from None
    return _end(kiosk, kiosk.wait_final(key, _WAIT_S))


def _show_e_bills(page: EBills | Refusal) -> int:
    if isinstance(page, Refusal):
        print(f"{page.text} [{page.code}]")
        return EXIT_OK
    print(f"户号 {page.account}")
    for bill in page.months:
        when = f"，{bill.paid_at[:8]}" if bill.paid_at else ""
        print(
            f"{bill.period}  {bill.energy_kwh:>5} kWh  {yuan(bill.amount):>12}  (违约金 {yuan(bill.penalty)})", end=""
        )
        print(f"  已缴 {yuan(bill.paid)}{when}")
        for meter in bill.meters:
            print(f"    示数 {meter.reading_before} → {meter.reading}  {meter.energy_kwh} kWh")
        for step in bill.steps:
            print(f"    阶梯 {step.tier}  {step.energy_kwh:>5} kWh × {step.price} 元  {yuan(step.amount):>12}")
        if bill.cut:
            print("    …")
    if page.older:
        print(f"更早的账单：--newest {page.older}")
    return EXIT_OK


def _show_settlement(result: Settlement) -> int:
    print(f"{result.day}：{result.text} [{result.code}]")
    print(f"  终端 {result.count} 笔 {yuan(result.amount)}，前置 {result.switch_count} 笔 {yuan(result.switch_amount)}")
    for each in result.listed:
        print(f"  {each.serial}  {each.kind}  终端 {yuan(each.kiosk_amount)}  前置 {yuan(each.switch_amount)}")
    return EXIT_OK if result.done else EXIT_NOT_PAID


def _serve(kiosk: BlockingKioskClient, counter: _Counter, arguments: argparse.Namespace) -> int:
    """One customer."""
    bills = kiosk.inquire(arguments.account)
    if isinstance(bills, Refusal):
        print(f"{bills.text} [{bills.code}]")
        return EXIT_OK if arguments.action == "inquire" else EXIT_NOT_PAID
    print(f"户号 {bills.account}  {bills.name}  {bills.address}")
    for month in bills.months:
        print(f"  {month.period}  {month.energy_kwh:>5} kWh  {yuan(month.amount):>12}  (违约金 {yuan(month.penalty)})")
    print(f"  应缴 {yuan(bills.total)}" + ("" if bills.partial_allowed else "，须一次缴清"), flush=True)
    if arguments.action == "inquire":
        return EXIT_OK
    if bills.blocked:
        print(f"{bills.blocked_text} [{bills.blocked}]")
        return EXIT_NOT_PAID  # and no card was taken
    try:
        if not counter.can_print():
            print("凭条打印机不可用，不收款。")  # paper before money
            return EXIT_NOT_PAID
        card = counter.read_card()
    except DeviceError as error:
        print(f"{error.text} [{error.code}]")
        return EXIT_NOT_PAID
    result = kiosk.pay(bills, bills.oldest(arguments.months), card)
    if result.prints_slip:
        counter.print_slip(Slip.of(result, f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S}", bills))  # noqa: DTZ005
    if not result.final:
        print(f"{result.text} [{result.code}]")
        result = kiosk.wait_final(result.key, _WAIT_S)
    return _end(kiosk, result)


class _Counter:
    """Where a customer stands: card, PIN and slip, from peripherals or out of the air."""

    def __init__(
        self, keys: SoftwareKeys, master_key: bytes, arguments: argparse.Namespace, stack: contextlib.ExitStack
    ) -> None:
        self.pin_pad: Zt59xPinPad | None = None
        self._keys = keys
        self._printer: EscPosPrinter | None = None
        self._reader: SankyoReader | None = None
        if arguments.action != "pay":
            return
        self._track = testkeys.test_track2(arguments.card)
        self._pin: str = arguments.pin
        printer_port = arguments.printer
        if arguments.devices:
            reader = stack.enter_context(CardReaderSimulator())
            pad = stack.enter_context(PinPadSimulator(master_key))
            reader.insert(self._track)
            pad.typing = self._pin.encode() + b"\r"
            self._reader = SankyoReader(reader.port, parity="N")
            stack.callback(self._reader.close)
            self.pin_pad = Zt59xPinPad(pad.port)
            stack.callback(self.pin_pad.close)
            if printer_port is None:
                paper = stack.enter_context(PrinterSimulator())
                printer_port = paper.port
                stack.callback(lambda: print("\n".join([*paper.lines, *(f"[QR {code}]" for code in paper.qr_codes)])))
        if printer_port is not None:
            self._printer = EscPosPrinter(printer_port)
            stack.callback(self._printer.close)

    def can_print(self) -> bool:
        return self._printer is None or self._printer.status().can_print

    def read_card(self) -> Card:
        """Raises DeviceError: no card, or no PIN."""
        if self._reader is None or self.pin_pad is None:
            track = Track(self._track)
        else:
            if not self._reader.wait_for_card(_WAIT_S):
                raise DeviceError("card_missing", f"no card within {_WAIT_S:g} s")
            track = self._reader.read_track2()
        pan = track.pan
        if pan is None:
            raise DeviceError("card_unreadable", "track 2 has no card number")
        if self._reader is None or self.pin_pad is None:
            return swiped(track, self._keys.pin_block(self._pin, pan))
        try:
            return swiped(track, self.pin_pad.read_pin(pan))
        finally:
            self._reader.eject()

    def print_slip(self, slip: Slip) -> None:
        if self._printer is not None:
            try:
                self._printer.print_slip(slip)
                return
            except DeviceError as error:
                print(f"{error.text} [{error.code}]")
        print("\n".join(slip.lines(_WIDTH)))


def _end(kiosk: BlockingKioskClient, result: PaymentResult) -> int:
    _show(result)
    kiosk.acknowledge(result)
    return EXIT_OK if result.outcome in (Outcome.PAID, Outcome.BEING_BOOKED) else EXIT_NOT_PAID


def _show(result: PaymentResult) -> None:
    more = "".join(
        f"，{name} {text}" for name, text in (("参考号", result.reference), ("差错单号", result.case_number)) if text
    )
    print(
        f"{result.key.date}-{result.key.serial}  户号 {result.account}  {yuan(result.amount)}：{result.text}{more}"
        f" [{result.code}]"
    )


if __name__ == "__main__":
    sys.exit(main())
