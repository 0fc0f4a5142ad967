"""Receipt printers that speak ESC/POS, with Chinese text (GB18030) and a QR code.

How well it is confirmed: initialise, mode, align, feed, cut, Chinese mode and the paper bits of the status: a driver in
use, and the makers' common command set. QR (1D 28 6B) and the other status bits: the common command set only; older
printers have no QR, then say ``qr=False``. Tried with the simulator only; no real printer.

    1B 40           initialise              1B 61 n        align: 0 left, 1 middle
    1C 26           Chinese mode            1B 21 n        30: double height and width, 00: plain
    1B 64 n         feed n lines            1D 56 42 00    feed and cut
    1D 28 6B …      QR code                 10 04 n        status now: 1 printer, 2 why off-line, 4 paper
"""

from __future__ import annotations

from typing import Final

from switch.kiosk.devices import DeviceError, PrinterStatus, Slip
from switch.kiosk.serialline import SerialLine
from switch.limits import DEVICE_MOVE_S, DEVICE_TRIES

_START: Final = b"\x1b@\x1c&"
_LARGE: Final = b"\x1b!\x30"
_PLAIN: Final = b"\x1b!\x00"
_MIDDLE: Final = b"\x1ba\x01"
_LEFT: Final = b"\x1ba\x00"
_CUT: Final = b"\x1dV\x42\x00"
_FIXED_MASK: Final = 0x93  # bits of every status byte that are always the same …
_FIXED: Final = 0x12  # … so noise on the line is no status
_OFFLINE: Final = 0x08  # of status 1
_PAPER_OUT: Final = 0x60  # of status 4
_PAPER_LOW: Final = 0x0C
_QR_DOTS: Final = 6  # of one module: a reference of 20 digits is 13 mm wide


class EscPosPrinter:
    """``ReceiptPrinter``.

    Args:
        width: Half-width columns: 32 for 58 mm paper, 48 for 80 mm.
    """

    def __init__(self, port: str, *, baud: int = 9600, width: int = 32, qr: bool = True) -> None:
        self._line = SerialLine(port, "receipt printer", baud=baud)
        self._width = width
        self._qr = qr

    def close(self) -> None:
        self._line.close()

    def status(self) -> PrinterStatus:
        paper = self._ask(4)
        return PrinterStatus(
            online=not self._ask(1) & _OFFLINE, paper=not paper & _PAPER_OUT, paper_low=bool(paper & _PAPER_LOW)
        )

    def print_slip(self, slip: Slip) -> None:
        """Line by line; the printer is asked between them, so paper that ends in the middle is noticed."""
        self._check()
        self._line.write(_START + _MIDDLE + _LARGE + _text(slip.title) + _PLAIN + _LEFT)
        # Its first line is the title, which stands there large already.
        for line in slip.lines(self._width)[1:]:
            self._line.write(_text(line))
            self._check()
        if slip.qr and self._qr:
            self._line.write(_MIDDLE + _qr_code(slip.qr) + b"\n" + _LEFT)
        self._line.write(b"\x1bd\x03" + _CUT)
        self._check()

    def _check(self) -> None:
        status = self.status()
        if not status.paper:
            raise DeviceError("printer_paper_out", "receipt printer: no paper; put a roll in, print the slip again")
        if not status.online:
            raise DeviceError("printer_offline", "receipt printer: off-line: cover, cutter or heat; look at it")

    def _ask(self, number: int) -> int:
        for _ in range(DEVICE_TRIES):
            self._line.forget()
            self._line.write(bytes((0x10, 0x04, number)))
            # It answers while it prints, but only after what it is printing.
            answer = self._line.read(1, DEVICE_MOVE_S / DEVICE_TRIES)
            if answer and answer[0] & _FIXED_MASK == _FIXED:
                return answer[0]
        raise self._line.silent(f"no answer to the question for status {number}")


def _text(line: str) -> bytes:
    # What is no text is a command: a name from outside must not cut the paper.
    shown = "".join(character if character.isprintable() else "?" for character in line)
    return shown.encode("gb18030") + b"\n"


def _qr_code(text: str) -> bytes:
    data = text.encode("utf-8")
    size = len(data) + 3
    return b"".join(
        (
            b"\x1d(k\x04\x001A2\x00",  # model 2
            b"\x1d(k\x03\x001C" + bytes((_QR_DOTS,)),
            b"\x1d(k\x03\x001E1",  # error correction M
            b"\x1d(k" + size.to_bytes(2, "little") + b"1P0" + data,
            b"\x1d(k\x03\x001Q0",  # print it
        )
    )
