"""SZZT PIN pads ZT588 and ZT598: take the PIN key of a sign-on, let the customer type, give the PIN block.

How well it is confirmed: framing, error bytes, loading a key and PIN entry: one driver in use. That the check value
comes back behind the command's first character, and how many digits it has: that driver; a pad that gives other than 6
to 16 digits is refused. It makes no MACs here: no source tells the command, so field 64 needs another ``KeyHolder``, or
the maker's manual. Key indices are the makers' example. Tried with the simulator only; no real pad.

    02 length(3 digits) text 03 check(2 hex digits)     check: XOR from length to 03
    keys pressed in between, one byte each: ESC cancel, BS clear, CR enter, '#' is 00, others a digit or its mask

    2 kek(2) index(2) type(1) length(1) key      load an encrypted key: type 3 PIN; length 1 single, 2 double
    6 index(2) format(1) hint(1) length(2) pan   begin PIN entry; format ' ' ISO 9564-0; pan 12 digits
    7                                            the PIN block: track(2) length(2) block(hex)
    5 0 32                                       control: stop the entry ('2' in hexadecimal)
    answers: the first character of the command and data, or one byte E0 to EF for an error
"""

from __future__ import annotations

import time
from hmac import compare_digest
from typing import Final

from switch.kiosk.devices import DeviceError
from switch.kiosk.serialline import ETX, STX, SerialLine, xor
from switch.limits import DEVICE_FRAME_MAX, DEVICE_TRIES, PIN_ENTRY_S
from switch.model.secret import Pan, PinBlock
from switch.ports import KeyUsage
from switch.security.workingkeys import WorkingKey, wrong_check_value

_PIN_KEY: Final = 3
_STOP: Final = "5032"  # control, parameter 0, value '2' in hex
_CANCEL: Final = frozenset(b"\x1b\x80")
_ENTER: Final = 0x0D
_CLEAR: Final = b"\x08"
_ERRORS: Final = {
    0xE0: ("pin_battery", "battery low"),
    0xE1: ("pin_keys", "no initial master key"),
    0xE2: ("pin_keys", "no terminal master key"),
    0xE3: ("pin_keys", "key of a wrong size"),
    0xE4: ("pin_keys", "no such key"),
    0xE5: ("pin_keys", "no such key, or of another kind"),
    0xE6: ("pin_keys", "parity of the key is wrong"),
    0xE7: ("pin_keys", "the key is not valid"),
    0xE8: ("pin_protocol", "command of a wrong length"),
    0xE9: ("pin_protocol", "wrong data"),
    0xEB: ("pin_protocol", "wrong parameter"),
    0xEC: ("pin_keys", "authentication needed"),
    0xED: ("pin_keys", "authentication locked for a while"),
    0xEE: ("pin_timeout", "nothing was typed"),
    0xEF: ("pin_protocol", "refused"),
}
_BLOCK_DIGITS: Final = 16


class Zt59xPinPad:
    """``PinPad``.

    Args:
        master_index: Where the terminal's master key was loaded.
        pin_index: Where the PIN key goes.
    """

    def __init__(
        self, port: str, *, baud: int = 9600, master_index: int = 0, pin_index: int = 0x40, flow_control: bool = True
    ) -> None:
        self._line = SerialLine(port, "PIN pad", baud=baud, flow_control=flow_control)
        self._master = master_index
        self._pin = pin_index

    def close(self) -> None:
        self._line.close()

    def load_pin_key(self, key: WorkingKey) -> None:
        units = len(key.cryptogram) // 8
        text = f"2{self._master:02X}{self._pin:02X}{_PIN_KEY}{units}{key.cryptogram.hex().upper()}"
        digits = self._command(text)[1:]
        try:
            found = bytes.fromhex(digits.decode("ascii"))
        except (UnicodeDecodeError, ValueError):
            found = b""
        if not 3 <= len(found) <= 8:
            raise DeviceError("pin_protocol", f"PIN pad: a check value of {len(digits)} digits; expected 6 to 16")
        size = min(len(found), len(key.kcv))
        if not compare_digest(found[:size], key.kcv[:size]):
            raise wrong_check_value(KeyUsage.PIN)

    def read_pin(self, pan: Pan, timeout_s: float = PIN_ENTRY_S, *, length_max: int = 6) -> PinBlock:
        self._command(f"6{self._pin:02X} 0{length_max:02d}" + pan.reveal()[-13:-1])
        try:
            self._typed(timeout_s, length_max)
        except DeviceError:
            self._command(_STOP)
            raise
        answer = self._command("7")
        block = answer[5:]
        if len(block) != _BLOCK_DIGITS:
            raise DeviceError("pin_protocol", f"PIN pad: a PIN block of {len(block)} digits; expected {_BLOCK_DIGITS}")
        try:
            return PinBlock(bytes.fromhex(block.decode("ascii")))
        except ValueError:
            raise DeviceError("pin_protocol", "PIN pad: a PIN block that is not hexadecimal") from None

    def _typed(self, timeout_s: float, length_max: int) -> None:
        """Until enter, or as many digits as there may be. The pad keeps the digits: we see masks.

        Whether "clear" takes one digit or all no source tells: after it only enter ends.
        """
        typed, corrected = 0, False
        until = time.monotonic() + timeout_s
        while (left_s := until - time.monotonic()) > 0:
            key = self._line.read(1, left_s)
            if not key:
                continue
            if key[0] in _CANCEL:
                raise DeviceError("pin_cancelled", "PIN pad: the customer cancelled")
            if key[0] == _ENTER:
                return
            corrected = corrected or key == _CLEAR
            typed += 2 if key == b"#" else 1
            if typed >= length_max and not corrected:
                return
        raise DeviceError("pin_timeout", f"PIN pad: no PIN within {timeout_s:g} s")

    # ------------------------------------------------------------------------------------------------ the line
    def _command(self, text: str) -> bytes:
        body = f"{len(text):03d}{text}".encode("ascii") + bytes((ETX,))
        frame = bytes((STX,)) + body + b"%02X" % xor(body)
        for _ in range(DEVICE_TRIES):
            self._line.forget()
            self._line.write(frame)
            answer = self._answer()
            if answer is not None:
                break
        else:
            raise self._line.silent(f"no answer to command {text[0]}")
        if answer and answer[0] in _ERRORS:
            raise DeviceError(_ERRORS[answer[0]][0], f"PIN pad: command {text[0]}: {_ERRORS[answer[0]][1]}")
        return answer

    def _answer(self) -> bytes | None:
        for _ in range(DEVICE_FRAME_MAX):
            first = self._line.read(1)
            if not first or first[0] == STX:
                break  # else a key that was pressed meanwhile
        head = self._line.read(3)
        if len(head) < 3 or not head.isdigit():
            return None
        size = int(head)
        rest = self._line.read(size + 3)
        body = head + rest[:-2]
        if len(rest) < size + 3 or rest[size] != ETX or rest[-2:].upper() != b"%02X" % xor(body):
            return None
        return rest[:size]
