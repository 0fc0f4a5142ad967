"""A kiosk's end of the wire: plain blocking sockets, written from the kiosk interface document and nothing else.

One request at a time: send, then read until its response comes, the wait is over or the line is cut. Whatever else is
read meanwhile may be a late word about an earlier payment, and is noted as such. Under locust the sockets are gevent's.

The rules that it keeps, because money depends on them:

    - key and amount are in the book before the request leaves;
    - a payment is never sent again under another serial; what is unclear is asked for with a result inquiry;
    - an answer without a MAC, where one is due, says nothing.

The book has one fact a line, as `gridswitch proof --kiosk-book` reads it:

    sent     key, fen, account, receivables      before the request leaves
    told     key, code, stable, reference, how   every word about it
    final    key, code, stable                   the first word that is final
"""

from __future__ import annotations

import datetime
import json
import socket
import ssl
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import iso8583
from iso8583 import tlv
from loadtests import testdata
from loadtests.keys import MAC_SIZE, DesKey, WorkingKeyError, WorkingKeys

SILENT: Final = "silent"  # no response in time
CUT: Final = "cut"  # the connection was lost, or there is none
WRONG_KEYS: Final = "keys"  # a sign-on whose keys do not fit
WORDLESS: Final = frozenset({SILENT, CUT})
NOT_FINAL: Final = frozenset({"U1", "B1", "R1", "09"})
SIGN_ON_AGAIN: Final = frozenset({"77", "A0", "A1", "K1"})
_WITHOUT_MAC: Final = frozenset({"30", "58", "77", "97", "A0", "A1", "K1"})  # and about money these say nothing
_MAY_LACK_MAC: Final = frozenset({"N2", "96"})  # while the switch cannot reach the terminal's keys
_MAY_MOVE: Final = frozenset({"U2", "C1"})  # final for the customer; files or a person decide the rest
_HEADER: Final = bytes.fromhex("6000030000603100000000")  # TPDU and header
_CONNECT_S: Final = 10.0  # the switch gives a handshake so long
_CHINA: Final = datetime.timezone(datetime.timedelta(hours=8))
_SERIAL_MAX: Final = 999_999
_SERIALS_A_SECOND: Final = 11  # 86,400 seconds a day into 999,999 serials
_RECEIVE_SIZE: Final = 16_384

Values = dict[int | str, Any]


@dataclass(slots=True)
class Answer:
    """One response. ``code`` is field 39, or one of the words above."""

    code: str
    seconds: float = 0.0  # from sending to its last byte
    size: int = 0  # bytes of the response
    stable: str = ""  # DF0A
    reference: str = ""
    asked_serial: str = ""  # DF0C: the answer is about that payment
    has_mac: bool = False
    message: iso8583.Message | None = field(default=None, repr=False)
    bills: Bills | None = None


@dataclass(frozen=True, slots=True)
class Bills:
    account: str
    quote: str
    rows: tuple[tuple[str, int], ...]  # receivable, fen

    @property
    def fen(self) -> int:
        return sum(fen for _, fen in self.rows)


@dataclass(slots=True)
class Payment:
    key: str  # terminal|MMDD|serial
    serial: str
    date: str
    fen: int
    frame: bytes = field(repr=False)
    final: str = ""  # the code of its final word


class Book:
    """What kiosks did and were told: the file, and the counts that it comes to."""

    def __init__(self, path: Path | None = None) -> None:
        self._file = None if path is None else path.open("a", encoding="utf-8", buffering=1)
        self.sent = 0
        self.fen_sent = 0
        self.fen_paid = 0
        self.finals: Counter[str] = Counter()  # payments by final code
        self.contradictions = 0  # a second final word, and another one

    @property
    def counts(self) -> dict[str, Any]:
        return {
            "sent": self.sent,
            "fen_sent": self.fen_sent,
            "fen_paid": self.fen_paid,
            "finals": dict(self.finals),
            "contradictions": self.contradictions,
        }

    def begin(self, payment: Payment, bills: Bills) -> None:
        receivables = [receivable for receivable, _ in bills.rows]
        self._note("sent", key=payment.key, fen=payment.fen, account=bills.account, receivables=receivables)
        self.sent += 1
        self.fen_sent += payment.fen

    def tell(self, payment: Payment, answer: Answer, how: str) -> None:
        told = {"key": payment.key, "code": answer.code, "stable": answer.stable, "reference": answer.reference}
        self._note("told", **told, how=how)
        if answer.code in NOT_FINAL or (how != "inquiry" and answer.code in _WITHOUT_MAC):
            return
        if payment.final:
            if answer.code != payment.final and payment.final not in _MAY_MOVE:
                self.contradictions += 1
            return
        payment.final = answer.code
        self._note("final", key=payment.key, code=answer.code, stable=answer.stable)
        # The issuer's codes are many; all of them mean that the card was declined.
        self.finals["declined" if answer.stable == "declined" else answer.code] += 1
        if answer.code == "00":
            self.fen_paid += payment.fen

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _note(self, fact: str, **facts: Any) -> None:
        if self._file is not None:
            self._file.write(json.dumps({"fact": fact, **facts}, separators=(",", ":")) + "\n")


class Kiosk:
    """One terminal with at most one connection.

    Args:
        address: Host and port of the switch.
        answer_s: How long to wait for a response: 90, or 6 on the short time profile.
        tls: Holds this terminal's certificate; None: in the clear.
    """

    def __init__(
        self,
        terminal: testdata.Terminal,
        address: tuple[str, int],
        book: Book,
        *,
        answer_s: float,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.terminal = terminal
        self.unfinished: dict[str, Payment] = {}  # by key; sent and without a final word
        self.visits = 0  # customers served; the next one has another account and another card
        self._address = address
        self._book = book
        self._answer_s = answer_s
        self._tls = tls
        self._master = DesKey(terminal.master_key)
        self._spec = _spec()
        self._keys: WorkingKeys | None = None
        self._batch = "000000"
        self._serial = _first_serial()
        self._socket: socket.socket | None = None
        self._framer = iso8583.Framer()
        self._arrived: list[bytes] = []  # frames behind the one that was waited for

    # ------------------------------------------------------------------------------------------------ the line
    @property
    def is_connected(self) -> bool:
        return self._socket is not None

    @property
    def is_signed_on(self) -> bool:
        return self._keys is not None

    def connect(self) -> None:
        """Raises OSError, of which TLS errors are one kind."""
        self.close()
        line = socket.create_connection(self._address, timeout=_CONNECT_S)
        try:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                line = self._tls.wrap_socket(line, server_hostname=self._address[0])
        except OSError:
            line.close()
            raise
        self._socket, self._framer, self._arrived = line, iso8583.Framer(), []

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # ------------------------------------------------------------------------------------------------ messages
    def sign_on(self) -> Answer:
        """Fetch working keys."""
        self._keys = None
        values: Values = {0: "0800", 60: "00000000003", 63: "001"}
        answer = self._ask(values, "0810")
        if answer.code == "00" and answer.message is not None:
            business, keys = str(answer.message.get(60, "")), answer.message.get(62)
            try:
                self._keys = WorkingKeys(keys if isinstance(keys, bytes) else b"", self._master)
            except WorkingKeyError:
                answer.code = WRONG_KEYS
            self._batch = business[2:8]
        return answer

    def echo(self) -> Answer:
        return self._ask({0: "0820", 60: f"00{self._batch}301"}, "0830")

    def inquire(self, account: str) -> Answer:
        """What an account owes; ``bills`` is set when there is something to pay."""
        private = tlv.encode([("DF01", account.encode("ascii"))])
        return self._ask({0: "0200", 3: "310000", 25: "00", 48: private, 60: f"71{self._batch}000"}, "0210")

    def pay(self, bills: Bills, card: testdata.Card) -> tuple[Payment, Answer]:
        """Pay all of them with one swipe. Without a final word the payment is in ``unfinished``."""
        assert self._keys is not None and bills.rows
        private = [("DF01", bills.account.encode("ascii")), ("DF02", bills.quote.encode("ascii"))]
        private += [("DF11", receivable.encode("ascii")) for receivable, _ in bills.rows]
        serial, date = self._next_serial(), _today()
        values: Values = {
            0: "0200",
            2: card.pan,
            3: "000000",
            4: f"{bills.fen:012d}",
            22: "021",
            25: "00",
            26: "06",
            35: card.track2,
            48: tlv.encode(private),
            52: self._keys.pin_block(testdata.PIN, card.pan),
            53: "2600000000000000",
            60: f"72{self._batch}000",
        }
        frame = self._encode(values, serial, date)
        payment = Payment(f"{self.terminal.terminal_id}|{date}|{serial}", serial, date, bills.fen, frame)
        self._book.begin(payment, bills)
        self.unfinished[payment.key] = payment
        return payment, self._about(payment, self._exchange(frame, "0210", serial, date), "answer")

    def repeat(self, payment: Payment) -> Answer:
        """The same request once more, byte for byte: it must charge nothing and get the same answer."""
        answer = self._exchange(payment.frame, "0210", payment.serial, payment.date)
        return self._about(payment, answer, "repeat")

    def ask_result(self, payment: Payment) -> Answer:
        """How a payment stands now."""
        private = tlv.encode([("DF0C", payment.serial.encode("ascii")), ("DF0D", payment.date.encode("ascii"))])
        values: Values = {0: "0200", 3: "310000", 25: "00", 48: private, 60: f"75{self._batch}000"}
        answer = self._ask(values, "0210")
        # `U1` without DF0C: the switch could not look; any other refusal is about the inquiry, not about the payment.
        if answer.code == "25" or answer.asked_serial == payment.serial:
            self._about(payment, answer, "inquiry")
        return answer

    # ------------------------------------------------------------------------------------------------ inside
    def _about(self, payment: Payment, answer: Answer, how: str) -> Answer:
        if answer.code in SIGN_ON_AGAIN:
            self._keys = None
        if answer.code not in WORDLESS and not (answer.code in _MAY_LACK_MAC and not answer.has_mac):
            self._book.tell(payment, answer, how)
        if payment.final:
            self.unfinished.pop(payment.key, None)
        return answer

    def _ask(self, values: Values, mti: str) -> Answer:
        serial, date = self._next_serial(), _today()
        answer = self._exchange(self._encode(values, serial, date), mti, serial, date)
        if answer.code in SIGN_ON_AGAIN:
            self._keys = None
        return answer

    def _encode(self, values: Values, serial: str, date: str) -> bytes:
        whole: Values = {**values, 11: serial, 13: date, 41: self.terminal.terminal_id, 42: self.terminal.merchant_id}
        if values[0] != "0200":
            return self._spec.encode(whole, header=_HEADER)
        assert self._keys is not None, "sign on first"
        whole |= {49: "156", 64: bytes(MAC_SIZE)}
        frame = self._spec.encode(whole, header=_HEADER)[:-MAC_SIZE]
        return frame + self._keys.mac(frame[len(_HEADER) :])

    def _exchange(self, frame: bytes, mti: str, serial: str, date: str) -> Answer:
        """The response to ``frame``. Never raises: a line that is lost or silent is an answer, too."""
        started = time.perf_counter()
        try:
            if self._socket is None:
                return Answer(CUT)
            self._socket.settimeout(self._answer_s)
            self._socket.sendall(iso8583.frame(frame))
            while (left_s := started + self._answer_s - time.perf_counter()) > 0:
                answer = self._take(mti, serial, date)
                if answer is not None:
                    answer.seconds = time.perf_counter() - started
                    return answer
                self._socket.settimeout(left_s)
                data = self._socket.recv(_RECEIVE_SIZE)
                if not data:
                    raise ConnectionResetError
                self._arrived += self._framer.feed(data)
            word = SILENT
        except TimeoutError:
            word = SILENT
        except (OSError, iso8583.FrameError):
            self.close()
            word = CUT
        return Answer(word, time.perf_counter() - started)

    def _take(self, mti: str, serial: str, date: str) -> Answer | None:
        """The response that is waited for, if it has arrived."""
        while self._arrived:
            frame = self._arrived.pop(0)
            try:
                message = self._spec.decode(frame)
                answer = self._read(message, frame)
            except (iso8583.DecodeError, KeyError, ValueError):
                continue  # as if it had never come
            key = message.mti, str(message.get(11, "")), str(message.get(13, ""))
            # In answers to sign-ons and echo tests the date is the switch's.
            wanted = key == (mti, serial, date) or (mti != "0210" and key[:2] == (mti, serial))
            if answer is None:
                continue
            if wanted:
                return answer
            late = self.unfinished.get(f"{self.terminal.terminal_id}|{key[2]}|{key[1]}")
            if late is not None and key[0] == "0210":
                self._about(late, answer, "answer")
        return None

    def _read(self, message: iso8583.Message, frame: bytes) -> Answer | None:
        """None when the MAC is wrong, or missing where it is due."""
        code = str(message[39])
        has_mac = 64 in message
        if message.mti == "0210" and code not in _WITHOUT_MAC:
            if not has_mac and code not in _MAY_LACK_MAC:
                return None
            covered, mac = frame[len(_HEADER) : -MAC_SIZE], frame[-MAC_SIZE:]
            if has_mac and (self._keys is None or not self._keys.is_right(covered, mac)):
                return None
        answer = Answer(code, size=len(frame), has_mac=has_mac, message=message)
        private = message.get(48)
        if isinstance(private, bytes):
            _read_private(answer, tlv.decode(private))
        return answer

    def _next_serial(self) -> str:
        self._serial = self._serial % _SERIAL_MAX + 1
        return f"{self._serial:06d}"


@cache
def _spec() -> iso8583.Spec:
    """One for all kiosks of a process: it is read from a file."""
    return iso8583.load("kiosk", header="tpdu+pos6")


def kiosk_tls(folder: Path, terminal_id: str) -> ssl.SSLContext:
    """What a kiosk needs of a folder made by `gridswitch certs dev`."""
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    own = folder / "terminals" / terminal_id
    context.load_cert_chain(own.with_suffix(".pem"), own.with_suffix(".key"))
    return context


def _read_private(answer: Answer, objects: list[tuple[str, bytes]]) -> None:
    values: Mapping[str, bytes] = dict(reversed(objects))  # of repeated tags the first
    answer.stable = values.get("DF0A", b"").decode("ascii")
    answer.reference = values.get("DF0F", b"").decode("ascii")
    answer.asked_serial = values.get("DF0C", b"").decode("ascii")
    if answer.code == "00" and "DF02" in values:
        months = [tlv.to_dict(month) for month in tlv.every(objects, "E1")]
        rows = tuple((month["DF11"].decode("ascii"), int(month["DF15"])) for month in months)
        answer.bills = Bills(values["DF01"].decode("ascii"), values["DF02"].decode("ascii"), rows)


def _today() -> str:
    return f"{datetime.datetime.now(_CHINA):%m%d}"


def _first_serial() -> int:
    """Serials that no earlier run of today is likely to have used."""
    now = datetime.datetime.now(_CHINA)
    return ((now.hour * 60 + now.minute) * 60 + now.second) * _SERIALS_A_SECOND
