"""Sankyo ICT3K5 motor card readers (ICT3Q8 alike): let a card in, read track 2, give it back or keep it.

How well it is confirmed: framing, CRC, ACK and NAK, the commands below and the card position: a driver in use and one
independent description. Chip commands stand in the maker's manual only and are not here. In a refusal (N) the two
digits of the error are taken from behind command and parameter, as the description has it; the driver reads them
directly behind the N. Tried with the simulator only; no real reader.

    host    F2 length 'C' command parameter data CRC      length: 2 bytes, from 'C' to the end of data
    reader  06, then F2 length 'P' command parameter position(2) data CRC
            or   F2 length 'N' command parameter error(2) CRC
    host    06, or 15 for the same again                   CRC-16 XMODEM over all before it

    00 + 3241001 00  initialise, eject     10  position: 00 no card, 01 at the gate, 02 inside
    :0  let cards in    :1  do not         30  eject    31  keep    62  read track 2
"""

from __future__ import annotations

import time
from typing import Final

from switch.kiosk.devices import DeviceError
from switch.kiosk.serialline import ACK, NAK, SerialLine, crc16_xmodem
from switch.limits import DEVICE_ANSWER_S, DEVICE_FRAME_MAX, DEVICE_MOVE_S, DEVICE_TRIES
from switch.model.secret import Track

_START: Final = 0xF2
_INITIALISE: Final = b"00324100100"
_INSIDE: Final = b"02"
_JAM: Final = frozenset({"10", "17"})
_UNREADABLE: Final = frozenset({"13", "14", "16", "18", "20", "21", "23", "24"})
_LOOK_S: Final = 0.2


class SankyoReader:
    """``CardReader``. The constructor initialises the reader, which gives back a card that is still inside.

    Args:
        parity: Even, as the reader has it; a pty has none.
    """

    def __init__(self, port: str, *, baud: int = 115200, parity: str = "E", flow_control: bool = True) -> None:
        self._line = SerialLine(port, "card reader", baud=baud, parity=parity, flow_control=flow_control)
        try:
            self._command(_INITIALISE)
        except BaseException:
            self._line.close()
            raise

    def close(self) -> None:
        self._line.close()

    def wait_for_card(self, timeout_s: float) -> bool:
        self._command(b":0")
        try:
            until = time.monotonic() + timeout_s
            while self._command(b"10")[0] != _INSIDE:
                if time.monotonic() >= until:
                    return False
                time.sleep(_LOOK_S)
            return True
        finally:
            self._command(b":1")

    def read_track2(self) -> Track:
        position, data = self._command(b"62")
        if position != _INSIDE:
            raise DeviceError("card_missing", "card reader: no card inside")
        try:
            return Track(data.decode("ascii").strip(";?").replace("D", "="))
        except UnicodeDecodeError:
            raise DeviceError("card_unreadable", "card reader: track 2 is no text") from None

    def eject(self) -> None:
        self._command(b"30")

    def capture(self) -> None:
        self._command(b"31")

    # ------------------------------------------------------------------------------------------------ the line
    def _command(self, command: bytes) -> tuple[bytes, bytes]:
        """Position and data of the answer. Raises DeviceError."""
        body = bytes((_START,)) + (len(command) + 1).to_bytes(2, "big") + b"C" + command
        frame = body + crc16_xmodem(body).to_bytes(2, "big")
        for _ in range(DEVICE_TRIES):
            self._line.forget()
            self._line.write(frame)
            if self._line.read(1, DEVICE_ANSWER_S) == ACK and (answer := self._answer()) is not None:
                return self._taken(command, answer)
        raise self._line.silent(f"no answer to command {command[:2].decode()}")

    def _answer(self) -> bytes | None:
        """From 'P' or 'N' on; asked for again when the CRC is wrong."""
        for _ in range(DEVICE_TRIES):
            head = self._line.read(3, DEVICE_MOVE_S)
            length = int.from_bytes(head[1:], "big")
            if len(head) < 3 or head[0] != _START or length > DEVICE_FRAME_MAX:
                return None
            rest = self._line.read(length + 2)
            if len(rest) == length + 2 and crc16_xmodem(head + rest[:-2]) == int.from_bytes(rest[-2:], "big"):
                self._line.write(ACK)
                return rest[:-2]
            self._line.write(NAK)
        return None

    def _taken(self, command: bytes, answer: bytes) -> tuple[bytes, bytes]:
        if answer[1:3] != command[:2] or len(answer) < 5:
            raise DeviceError("card_protocol", f"card reader: an answer to another command than {command[:2].decode()}")
        if answer[:1] == b"P":
            return answer[3:5], answer[5:]
        error = answer[3:5].decode("ascii", "replace")
        code = "card_jam" if error in _JAM else "card_unreadable" if error in _UNREADABLE else "card_refused"
        raise DeviceError(code, f"card reader: command {command[:2].decode()} refused with error {error}")
