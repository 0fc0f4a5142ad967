"""``python -m switch.kiosk``: a kiosk on the command line, with a test terminal and test cards, for a demo.

It is also the example: what a kiosk's program does with the library, from a start after power loss to the slip. Only
where its keys and cards come from is not for real kiosks: a PIN pad and a card reader stand there.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from pathlib import Path

from switch.errors import SwitchError
from switch.kiosk import (
    BlockingKioskClient,
    DeviceError,
    KioskJournal,
    Outcome,
    Pan,
    PaymentKey,
    PaymentResult,
    Refusal,
    Slip,
    SoftwareKeys,
    Track,
    swiped,
    tls_context,
    yuan,
)
from switch.kiosk.escpos import EscPosPrinter
from switch.limits import KIOSK_SHORT, KIOSK_STANDARD
from switch.sim import testkeys

EXIT_OK, EXIT_NOT_PAID, EXIT_WRONG = 0, 1, 2
_WIDTH = 48
_WAIT_S = 30.0
_EPILOG = """\
on a demo (make demo KEEP=1 prints the address):
  python -m switch.kiosk --connect 127.0.0.1:PORT inquire 0300000009
  python -m switch.kiosk --connect 127.0.0.1:PORT pay 0300000009 --months 1
  python -m switch.kiosk --connect 127.0.0.1:PORT open

exit status: 0 paid, or asked and answered; 1 not paid; 2 wrong call or an outage
"""


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        return _run(arguments)
    except (SwitchError, OSError, ValueError) as error:
        print(f"kiosk: {error}", file=sys.stderr)
        return EXIT_WRONG
    except KeyboardInterrupt:
        print("kiosk: interrupted; what is open is asked for at the next start", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m switch.kiosk",
        description="A kiosk on the command line, with a test terminal and test cards.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--connect", type=_address, default=("127.0.0.1", 8583), metavar="HOST:PORT", help="default 127.0.0.1:8583"
    )
    parser.add_argument("--terminal", type=int, default=1, metavar="N", help="test terminal, from 1 (default 1)")
    parser.add_argument("--journal", type=Path, metavar="FILE", help="default .gridswitch/kiosk-TERMINAL.journal")
    parser.add_argument("--tls", type=Path, metavar="DIR", help="folder of `gridswitch certs dev`")
    parser.add_argument("--standard", action="store_true", help="times of real lines (default: those of a demo)")
    actions = parser.add_subparsers(metavar="ACTION", required=True, dest="action")
    inquire = actions.add_parser("inquire", help="what an account owes")
    inquire.add_argument("account", metavar="ACCOUNT")
    pay = actions.add_parser("pay", help="pay the oldest months of an account with a test card")
    pay.add_argument("account", metavar="ACCOUNT")
    pay.add_argument("--months", type=int, metavar="N", help="how many, the oldest first (default all)")
    pay.add_argument("--card", type=int, default=1, metavar="N", help="test card, from 0 (default 1)")
    pay.add_argument("--pin", default="123456", help="default 123456")
    pay.add_argument("--printer", metavar="PORT", help="ESC/POS printer for the slip (default: the screen)")
    actions.add_parser("open", help="payments without a final word, and final ones nobody has seen: ask, show")
    reverse = actions.add_parser("reverse", help="take an open payment back")
    reverse.add_argument("date", metavar="MMDD")
    reverse.add_argument("serial", metavar="SERIAL")
    return parser


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 1 <= int(port) <= 65_535:
        raise argparse.ArgumentTypeError(f"{text}: expected HOST:PORT")
    return host, int(port)


def _run(arguments: argparse.Namespace) -> int:
    terminal, merchant = testkeys.test_terminal(arguments.terminal)
    path = arguments.journal or Path(".gridswitch") / f"kiosk-{terminal}.journal"
    path.parent.mkdir(parents=True, exist_ok=True)
    tls = None
    if arguments.tls is not None:
        of_terminal = arguments.tls / "terminals" / terminal
        tls = tls_context(str(arguments.tls / "ca.pem"), f"{of_terminal}.pem", f"{of_terminal}.key")
    keys = SoftwareKeys(testkeys.test_tmk(terminal))
    journal = KioskJournal.open(path, terminal, create=True)
    host, port = arguments.connect
    try:
        with BlockingKioskClient(
            host,
            port,
            terminal_id=terminal,
            merchant_id=merchant,
            journal=journal,
            keys=keys,
            tls=tls,
            times=KIOSK_STANDARD if arguments.standard else KIOSK_SHORT,
        ) as kiosk:
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
                result = kiosk.reverse(PaymentKey(terminal, arguments.date, arguments.serial))
                return _end(kiosk, kiosk.wait_final(result.key, _WAIT_S))
            return _serve(kiosk, keys, arguments)
    except KeyError as error:
        raise ValueError(str(error.args[0])) from None
    finally:
        journal.close()


def _serve(kiosk: BlockingKioskClient, keys: SoftwareKeys, arguments: argparse.Namespace) -> int:
    """One customer."""
    bills = kiosk.inquire(arguments.account)
    if isinstance(bills, Refusal):
        print(f"{bills.text} [{bills.code}]")
        return EXIT_OK if arguments.action == "inquire" else EXIT_NOT_PAID
    print(f"户号 {bills.account}  {bills.name}  {bills.address}")
    for month in bills.months:
        print(f"  {month.period}  {month.energy_kwh:>5} kWh  {yuan(month.amount):>12}  (违约金 {yuan(month.penalty)})")
    print(f"  应缴 {yuan(bills.total)}" + ("" if bills.partial_allowed else "，须一次缴清"))
    if arguments.action == "inquire":
        return EXIT_OK
    printer = None if arguments.printer is None else EscPosPrinter(arguments.printer)
    if printer is not None and not printer.status().can_print:
        print("凭条打印机不可用，不收款。")  # paper before money
        return EXIT_NOT_PAID
    card = swiped(
        Track(testkeys.test_track2(arguments.card)),
        keys.pin_block(arguments.pin, Pan(testkeys.test_pan(arguments.card))),
    )
    result = kiosk.pay(bills, bills.oldest(arguments.months), card)
    if result.prints_slip:
        _print(printer, Slip.of(result, f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S}", bills))  # noqa: DTZ005
    if not result.final:
        print(f"{result.text} [{result.code}]")
        result = kiosk.wait_final(result.key, _WAIT_S)
    return _end(kiosk, result)


def _print(printer: EscPosPrinter | None, slip: Slip) -> None:
    if printer is not None:
        try:
            printer.print_slip(slip)
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
