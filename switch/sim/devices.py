"""Peripherals of a kiosk, simulated on ptys: what our drivers talk to in tests and demos; and a chip, without a wire.

Written from the protocols that stand at the head of each driver. Each has the faults that a test wants of it: noise,
wrong checks, silence, no paper, a card that cannot be read.

    with PrinterSimulator() as printer:
        EscPosPrinter(printer.port).print_slip(slip)
        print(printer.lines, printer.qr_codes)
"""

from __future__ import annotations

import hashlib
import os
import secrets
import select
import threading
import tty
from types import TracebackType
from typing import Final, Self

from iso8583 import tlv
from switch.kiosk.devices import ChipCard, DeviceError
from switch.kiosk.serialline import ACK, ETX, NAK, STX, crc16_xmodem, xor
from switch.model.secret import ChipData, Pan, Track
from switch.security import pinblock
from switch.security.primitives import BlockCipher, des
from switch.sim import testkeys
from switch.sim.day import china_now

_READ_SIZE: Final = 4096
_PIN_DIGITS_MIN: Final = 4  # ISO 9564


class DeviceSimulator:
    """One end of a pty; ``port`` is the other. ``receive`` is the device: bytes in, bytes out."""

    def __init__(self) -> None:
        self._device, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self.noise = b""  # sent once in front of the next answer
        self.silent = 0  # so many answers are not sent
        self._lock = threading.Lock()  # what a person does at the device waits for the answer to a command
        self._stop, self._stopped = os.pipe()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)
        self._thread.start()

    def receive(self, data: bytes) -> bytes:
        raise NotImplementedError

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._device, self._stop], [], [])
            if self._stop in ready:
                return
            with self._lock:
                answer = self.receive(os.read(self._device, _READ_SIZE))
                if answer and self.silent:
                    self.silent -= 1
                elif answer:
                    noise, self.noise = self.noise, b""
                    os.write(self._device, noise + answer)

    def close(self) -> None:
        os.write(self._stopped, b"x")
        self._thread.join()
        for descriptor in (self._device, self._slave, self._stop, self._stopped):
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class PrinterSimulator(DeviceSimulator):
    """ESC/POS on paper: ``lines`` as printed, ``qr_codes``, ``cuts``. ``paper_lines``: how many more; None: many.

    ``slips``: lines and QR codes of each piece of paper that was cut off.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.qr_codes: list[str] = []
        self.cuts = 0
        self.slips: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
        self._cut_at = (0, 0)  # lines and QR codes on slips that were cut off
        self.paper_lines: int | None = None
        self.cover_open = False
        self.unknown = b""  # commands that it does not know
        self._rest = b""
        self._chinese = False
        self._qr = b""
        super().__init__()

    def receive(self, data: bytes) -> bytes:
        self._rest += data
        answers = b""
        while (size := self._size()) is not None:
            command, self._rest = self._rest[:size], self._rest[size:]
            answers += self._obey(command)
        return answers

    def _size(self) -> int | None:
        """Bytes of the command or the line in front; None: it is not whole yet."""
        rest = self._rest
        if not rest:
            return None
        if rest[:2] == b"\x1d(":
            size = 5 + int.from_bytes(rest[3:5], "little")
        elif rest[:1] == b"\x10" or rest[:2] in (b"\x1b!", b"\x1ba", b"\x1bd"):
            size = 3
        elif rest[:2] == b"\x1dV":
            size = 4 if rest[2:3] in (b"\x41", b"\x42") else 3
        elif rest[0] in b"\x1b\x1c\x1d":
            size = 2
        else:
            size = rest.find(b"\n") + 1 or len(rest) + 1
        return size if len(rest) >= size else None

    def _obey(self, command: bytes) -> bytes:
        head = command[:2]
        if head == b"\x10\x04":
            return bytes((self._status(command[2]),))
        if head == b"\x1c&":
            self._chinese = True
        elif head == b"\x1b@":
            self._chinese = False
        elif head == b"\x1dV":
            self.cuts += 1
            lines, codes = self._cut_at
            self.slips.append((tuple(self.lines[lines:]), tuple(self.qr_codes[codes:])))
            self._cut_at = len(self.lines), len(self.qr_codes)
        elif head == b"\x1d(":
            if command[5:8] == b"1P0":
                self._qr = command[8:]
            elif command[5:8] == b"1Q0":
                self.qr_codes.append(self._qr.decode("utf-8"))
        elif command[0] in b"\x1b\x1c\x1d\x10":
            if head not in (b"\x1b!", b"\x1ba", b"\x1bd"):
                self.unknown += command
        elif self.paper_lines != 0 and not self.cover_open:
            self.lines.append(command[:-1].decode("gb18030" if self._chinese else "latin-1"))
            if self.paper_lines is not None:
                self.paper_lines -= 1
        return b""

    def _status(self, number: int) -> int:
        if number == 4:
            low = self.paper_lines is not None and self.paper_lines < 10
            return 0x12 | (0x60 if self.paper_lines == 0 else 0) | (0x0C if low else 0)
        return 0x12 | (0x08 if self.cover_open or self.paper_lines == 0 else 0)


class CardReaderSimulator(DeviceSimulator):
    """A Sankyo reader. ``insert`` puts a card in as soon as the reader lets it; ``error`` refuses the next read."""

    def __init__(self) -> None:
        self.track2: str | None = None  # of the card inside
        self.waiting: str | None = None  # of the card in the customer's hand
        self.accepts = False
        self.error = ""
        self.spoil = 0  # in so many answers a bit of the data is wrong
        self.refuse = 0  # so many commands are answered NAK
        self.captured = 0
        self.commands: list[bytes] = []
        self._rest = b""
        self._last = b""
        super().__init__()

    def insert(self, track2: str) -> None:
        self.waiting = track2

    def receive(self, data: bytes) -> bytes:
        self._rest += data
        answers = b""
        while self._rest:
            if self._rest[:1] == NAK:
                self._rest = self._rest[1:]
                answers += self._sealed(self._last)
            elif self._rest[0] != 0xF2:
                self._rest = self._rest[1:]
            else:
                size = 5 + int.from_bytes(self._rest[1:3], "big")
                if len(self._rest) < size:
                    break
                frame, self._rest = self._rest[:size], self._rest[size:]
                if self.refuse or crc16_xmodem(frame[:-2]) != int.from_bytes(frame[-2:], "big") or frame[3:4] != b"C":
                    self.refuse = max(0, self.refuse - 1)
                    answers += NAK
                else:
                    self._last = self._obey(frame[4:-2])
                    answers += ACK + self._sealed(self._last)
        return answers

    def _sealed(self, body: bytes) -> bytes:
        frame = b"\xf2" + len(body).to_bytes(2, "big") + body
        crc = crc16_xmodem(frame).to_bytes(2, "big")
        if self.spoil:
            self.spoil -= 1
            return frame[:-1] + bytes((frame[-1] ^ 1,)) + crc
        return frame + crc

    def _obey(self, command: bytes) -> bytes:
        head = command[:2]
        self.commands.append(head)
        data = b""
        if head in (b":0", b":1"):
            self.accepts = head == b":0"
        elif head in (b"00", b"30", b"31"):
            self.captured += head == b"31" and self.track2 is not None
            self.track2 = None
        elif head == b"62":
            if self.error:
                error, self.error = self.error, ""
                return b"N" + head + error.encode()
            data = (self.track2 or "").encode()
        if self.accepts and self.waiting is not None:
            self.track2, self.waiting = self.waiting, None
        return b"P" + head + (b"00" if self.track2 is None else b"02") + data


class PinPadSimulator(DeviceSimulator):
    """A ZT59x pad with a terminal master key.

    ``typing`` is what the customer presses as soon as he is asked. ``press`` is one key at a time; ``asks`` and
    ``typed`` (digits so far) are what a person in front of it sees.
    """

    def __init__(self, master_key: bytes) -> None:
        self.typing = b"123456\r"
        self.asks = False
        self.error = 0  # E0 to EF: answer of the next command
        self.spoil = 0  # in so many answers a bit of the data is wrong
        self._master = des(master_key)
        self._pin: BlockCipher | None = None
        self._asked_pan = ""
        self._entered = ""
        self._length_max = 0
        self._rest = b""
        super().__init__()

    @property
    def typed(self) -> int:
        return len(self._entered)

    def press(self, key: bytes) -> None:
        """A digit, BS clear, CR enter or ESC cancel. What makes no sense just now is not taken, as on a real pad."""
        with self._lock:
            is_short = key == b"\r" and len(self._entered) < _PIN_DIGITS_MIN
            is_full = key.isdigit() and len(self._entered) >= self._length_max
            if self.asks and not is_short and not is_full:
                os.write(self._device, self._pressed(key[0]))

    def receive(self, data: bytes) -> bytes:
        self._rest += data
        answers = b""
        while (start := self._rest.find(STX)) >= 0 and len(self._rest) >= start + 4:
            size = int(self._rest[start + 1 : start + 4])
            end = start + size + 7
            if len(self._rest) < end:
                break
            frame, self._rest = self._rest[start:end], self._rest[end:]
            assert frame[-3] == ETX
            if frame[-2:] == b"%02X" % xor(frame[1:-2]):
                answers += self._obey(frame[4:-3].decode("ascii"))
        return answers

    def _obey(self, text: str) -> bytes:
        if self.error:
            error, self.error = self.error, 0
            return self._sealed(bytes((error,)))
        if text[0] == "2":
            key = bytes.fromhex(text[7:])
            if len(key) != 8 * int(text[6]):
                return self._sealed(b"\xe3")
            self._pin = BlockCipher(self._master.family, self._master.decrypt(key))
            return self._sealed(b"2" + self._pin.check_value(8).hex().upper().encode())
        if text[0] == "6":
            if self._pin is None:
                return self._sealed(b"\xe4")
            self._asked_pan, self._entered, self._length_max = text[7:], "", int(text[5:7])
            self.asks = True
            return self._sealed(b"6") + b"".join(self._pressed(key) for key in self.typing)
        if text[0] == "5":
            self.asks, self._entered = False, ""
        if text[0] == "7":
            assert self._pin is not None
            self.asks = False
            # Twelve digits of the card number: what is around them does not enter the block.
            block = self._pin.encrypt(pinblock.encode_format0(self._entered, f"0{self._asked_pan}0"))
            return self._sealed(b"700%02d" % len(self._entered) + block.hex().upper().encode())
        return self._sealed(text[:1].encode())

    def _pressed(self, key: int) -> bytes:
        """What a key sends: a digit its mask, any other itself."""
        if chr(key).isdigit():
            self._entered += chr(key)
            return b"*"
        if key == 0x08:
            self._entered = ""
        return bytes((key,))

    def _sealed(self, text: bytes) -> bytes:
        body = b"%03d" % len(text) + text + bytes((ETX,))
        check = b"%02X" % xor(body)
        if self.spoil:
            self.spoil -= 1
            at = min(4, len(body) - 2)  # the first byte behind the command's own
            body = body[:at] + bytes((body[at] ^ 1,)) + body[at + 1 :]
        return bytes((STX,)) + body + check


class ChipSimulator:
    """A chip card in a reader, on no wire: ``devices.ChipReader`` as a kernel would have it, with a test card.

    It believes the simulated card host: it checks the issuer's word (91) against the cryptogram that it made, accepts
    when that is right and the issuer approved, and obeys scripts.

    Attributes:
        refuses: It makes an AAC whatever the issuer says.
        gone: The card is taken out.
        cryptograms: 9F27 of what it made, in order; ``scripts`` what it obeyed.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.refuses = False
        self.gone = False
        self.cryptograms: list[int] = []
        self.scripts: list[bytes] = []
        self._counter = 0
        self._request = b""

    def start(self, amount: int) -> ChipCard:
        self._present()
        self._counter += 1
        self.cryptograms.append(0x80)
        now = china_now()
        self._request = tlv.encode(
            [
                *self._cryptogram(0x80),
                ("9F37", secrets.token_bytes(4)),
                ("9A", bytes.fromhex(f"{now:%y%m%d}")),
                ("9C", b"\x00"),
                ("9F02", bytes.fromhex(f"{amount:012d}")),
                ("5F2A", bytes.fromhex("0156")),
                ("9F1A", bytes.fromhex("0156")),
                ("9F03", bytes(6)),
                ("9F33", bytes.fromhex("E0F0C8")),
            ]
        )
        return ChipCard(
            Pan(testkeys.test_pan(self.number)),
            testkeys.test_expiry(self.number),
            "001",
            Track(testkeys.test_track2(self.number)),
            ChipData(self._request),
        )

    def finish(self, issuer_data: bytes, *, approved: bool) -> ChipData:
        self._present()
        said = tlv.decode(issuer_data)
        right = hashlib.sha256(self._request).digest()[:8] + b"00"
        accepts = approved and not self.refuses and tlv.first(said, "91") == right
        scripts = [value for tag, value in said if tag in ("71", "72")]
        self.scripts += scripts
        # One result a script, five bytes: done, which one, its number (9F18).
        results = b"".join(
            bytes([0x20 | number]) + (tlv.first(tlv.decode(script), "9F18") or bytes(4))
            for number, script in enumerate(scripts, 1)
        )
        information = 0x40 if accepts else 0x00
        self.cryptograms.append(information)
        made = self._cryptogram(information)
        return ChipData(tlv.encode([*made, *([("DF31", results)] if results else [])]))

    def _present(self) -> None:
        if self.gone:
            raise DeviceError("card_missing", "the card was taken out")

    def _cryptogram(self, information: int) -> list[tuple[str, bytes]]:
        return [
            ("9F26", secrets.token_bytes(8)),
            ("9F27", bytes([information])),
            ("9F10", bytes.fromhex("07010103A02000010A01000000") + bytes([information, self._counter % 256])),
            ("9F36", self._counter.to_bytes(2, "big")),
            ("95", bytes.fromhex("0000048000")),
            ("82", bytes.fromhex("7C00")),
        ]
