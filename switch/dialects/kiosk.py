"""The kiosk's dialect: ``KIOSK_INTERFACE.md`` in code. The only place with its fields and tags."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

import iso8583
from iso8583 import tlv
from switch.dialects.codes import CardCodes, kiosk_codes
from switch.dialects.shown import CardMessages
from switch.dialects.unionpay import HEADER_SIZE, MAC_SIZE, NO_MAC
from switch.errors import BadRequestError
from switch.limits import POSTINGS_PER_PAYMENT_MAX
from switch.machines import days
from switch.machines.payment import Payment
from switch.model.payment import Card, Posting, Quote, Receivable, began_us
from switch.model.request import (
    BalanceInquiry,
    BillInquiry,
    EchoTest,
    KioskReversal,
    PaymentRequest,
    Request,
    ResultInquiry,
    SignOff,
    SignOn,
    SlipInquiry,
)
from switch.model.secret import ChipData, Pan, PinBlock, Track

PRIVATE_MAX = 999  # bytes of field 48
_ECHOED = (3, 4, 11, 13, 25, 41, 42, 49, 60)
_NO_PAN = "a card number of 13 to 19 digits is needed, in field 2 or field 35"
_RESPONSE_MTI = {"0200": "0210", "0400": "0410", "0800": "0810", "0820": "0830"}


class ReplyTo(Struct):
    """How to answer one request: no card data is kept for it."""

    header: bytes
    fields: dict[int, Any]


class LocalTime(Struct):
    """Local wall time of an answer: fields 12 (hhmmss) and 13 (MMDD)."""

    hhmmss: str
    mmdd: str


class KioskDialect:
    def __init__(self, card_codes: CardCodes) -> None:
        self._spec = iso8583.load("kiosk", header="tpdu+pos6")
        self.shown = CardMessages(self._spec)
        self._card_codes = card_codes
        self._codes = kiosk_codes()
        self._busy = [("DF0A", b"busy"), _screen(self._codes["busy"].text)]
        self._screens = {code: _screen(known.text) for code, known in self._codes.items()}

    # -------------------------------------------------------------------------------------------- requests
    def too_much(self, frame: bytes, time: LocalTime) -> bytes | None:
        """To a bill inquiry that cannot be taken now: the answer ``busy``, without a MAC, at a tenth of the cost of
        reading it properly. None: it is something else, or not to be read."""
        try:
            message = self._spec.decode(frame)
        except iso8583.DecodeError:
            return None
        if message.mti != "0200" or str(message.get(60))[:2] != "71":
            return None
        return self._answer(_reply_to(message), self._codes["busy"].f39, self._busy, {}, time, mac=False)

    def read(self, frame: bytes) -> Request:
        """One request of a kiosk.

        Raises:
            BadRequestError: ``unreadable``: no message of this dialect, nobody can be answered. ``format``: a field is
                missing or wrong; ``error.reply`` says to whom, where the message says who it is.
        """
        try:
            message = self._spec.decode(frame)
        except iso8583.DecodeError as error:
            raise BadRequestError("unreadable", str(error)) from None
        mti = message.mti
        if mti not in _RESPONSE_MTI:
            raise BadRequestError("unreadable", f"MTI {mti} is not a request of a kiosk")
        reply = _reply_to(message)
        try:
            return self._request(message, mti, frame, reply)
        except _FieldError as error:
            raise FormatError(str(error), reply) from None
        except iso8583.DecodeError as error:
            raise FormatError(str(error), reply) from None

    def _request(self, message: iso8583.Message, mti: str, frame: bytes, reply: ReplyTo) -> Request:
        fields = reply.fields
        reserved: str = _need(fields, 60, "business type, batch and network code")
        if len(reserved) < 8:
            raise _FieldError(60, "expected at least 8 digits: business type 2, batch 6")
        terminal_id: str = _need(fields, 41, "terminal")
        merchant_id: str = _need(fields, 42, "merchant")
        serial: str = _need(fields, 11, "serial")
        business, network = reserved[:2], reserved[8:11]
        if mti == "0800":
            if business != "00":
                raise _FieldError(60, "60.1 of a sign-on is 00")
            return SignOn(terminal_id, merchant_id, serial, "", reply, b"", None)
        if mti == "0820":
            if network == "002":
                return SignOff(terminal_id, merchant_id, serial, "", reply, b"", None)
            if network != "301":
                raise _FieldError(60, "60.3 of an echo test is 301, of a sign-off 002")
            if 64 not in message:
                return EchoTest(terminal_id, merchant_id, serial, "", reply, b"", None)
            mab, mac = frame[HEADER_SIZE:-MAC_SIZE], frame[-MAC_SIZE:]
            return EchoTest(terminal_id, merchant_id, serial, "", reply, mab, mac)
        if 64 not in message:
            raise _FieldError(64, "the MAC is missing")
        date: str = _need(fields, 13, "date MMDD")
        mab, mac = frame[HEADER_SIZE:-MAC_SIZE], frame[-MAC_SIZE:]
        if mti == "0200" and business == "01":
            return BalanceInquiry(terminal_id, merchant_id, serial, date, reply, mab, mac, _card(message))
        tags = _tags(message)
        if mti == "0400":
            if business not in ("72", "73"):
                raise _FieldError(60, "60.1 of a reversal is 72 or 73, as the payment's")
            asked = _text(tags, "DF0C", "serial of the payment", 6)
            asked_date = _text(tags, "DF0D", "date of the payment", 4)
            return KioskReversal(terminal_id, merchant_id, serial, date, reply, mab, mac, asked, asked_date)
        if business == "71":
            account = _text(tags, "DF01", "account", 20)
            return BillInquiry(terminal_id, merchant_id, serial, date, reply, mab, mac, account)
        if business in ("75", "76"):
            asked = _text(tags, "DF0C", "serial asked for", 6)
            asked_date = _text(tags, "DF0D", "date asked for", 4)
            kind = ResultInquiry if business == "75" else SlipInquiry
            return kind(terminal_id, merchant_id, serial, date, reply, mab, mac, asked, asked_date)
        if business == "73":
            return PaymentRequest(
                terminal_id,
                merchant_id,
                serial,
                date,
                reply,
                mab,
                mac,
                account=_text(tags, "DF01", "account", 20),
                quote="",
                receivables=(),
                amount=_amount(fields),
                card=_card(message),
                prepays=True,
                confirmed=("DF1B", b"1") in tags,
            )
        if business == "72":
            chosen = tuple(value.decode("ascii", "replace") for tag, value in tags if tag == "DF11")
            if len(chosen) > POSTINGS_PER_PAYMENT_MAX:
                raise _FieldError(48, f"more than {POSTINGS_PER_PAYMENT_MAX} receivables")
            if len(set(chosen)) != len(chosen):
                raise _FieldError(48, "a receivable is named twice")
            return PaymentRequest(
                terminal_id,
                merchant_id,
                serial,
                date,
                reply,
                mab,
                mac,
                account=_text(tags, "DF01", "account", 20),
                quote=_text(tags, "DF02", "quote", 16),
                receivables=chosen,
                amount=_amount(fields),
                card=_card(message),
            )
        raise _FieldError(60, f"60.1 = {business} is no business of this interface")

    # -------------------------------------------------------------------------------------------- answers
    def refusal(
        self, reply: ReplyTo, code: str, time: LocalTime, *, text: str | None = None, mac: bool = True
    ) -> bytes:
        """An answer that only says why not. With ``mac`` the frame waits for its MAC."""
        known = self._codes[code]
        shown = _screen(text) if text else self._screens[code]
        return self._answer(reply, known.f39, [("DF0A", code.encode()), shown], {}, time, mac)

    def signed_on(
        self, reply: ReplyTo, time: LocalTime, *, batch_number: str, working_keys: bytes, network_code: str
    ) -> bytes:
        reply.fields[60] = f"00{batch_number}{network_code}"
        return self._answer(reply, "00", [], {62: working_keys}, time, mac=False)

    def echo(self, reply: ReplyTo, time: LocalTime, *, mac: bool) -> bytes:
        return self._answer(reply, "00", [], {}, time, mac=mac)

    def balance(self, reply: ReplyTo, balance: str, time: LocalTime) -> bytes:
        """Field 54 as the card network has it: 20 characters each account, the last 13 of them sign and fen."""
        return self._answer(reply, "00", [("DF0A", b"found"), self._screens["found"]], {54: balance}, time, mac=True)

    def declined(self, reply: ReplyTo, response_code: str, time: LocalTime) -> bytes:
        """The issuer says no to something that is no payment."""
        shown = _screen(self._card_codes.text(response_code))
        return self._answer(reply, response_code, [("DF0A", b"declined"), shown], {}, time, mac=True)

    def quote(self, reply: ReplyTo, quote: Quote, time: LocalTime, *, closed: str = "") -> bytes:
        """Args: closed: the stable code of why no payment can begin now, so that no card is put in for nothing."""
        total = sum(row.amount for row in quote.rows)
        head = [
            ("DF01", quote.account.encode()),
            ("DF02", quote.quote.encode()),
            ("DF03", _gbk(quote.name, 64)),
            ("DF04", _gbk(quote.address, 128)),
            ("DF05", b"%d" % total),
            ("DF06", b"%d" % quote.advance_balance),
            ("DF09", b"1" if quote.partial_allowed else b"0"),
        ]
        tail = [("DF0A", b"found"), self._screens[closed or "found"]]
        if closed:
            tail.append(("DF1A", closed.encode()))
        room = PRIVATE_MAX - len(tlv.encode([*head, *tail])) - 4  # DF08 and its value
        rows: list[tuple[str, bytes]] = []
        more = b"0"
        for row in quote.rows:
            inner = tlv.encode([*_month(row), ("DF16", b"%d" % row.energy_kwh), ("DF17", b"%d" % row.tier)])
            size = len(tlv.encode([("E1", inner)]))
            if size > room:
                more = b"1"
                break
            rows.append(("E1", inner))
            room -= size
        return self._answer(reply, "00", [*head, *rows, ("DF08", more), *tail], {4: total}, time, mac=True)

    def payment(
        self, reply: ReplyTo, payment: Payment, time: LocalTime, *, asked: ResultInquiry | None = None
    ) -> bytes:
        """The answer to a payment, a repeat of it, or an inquiry for its result: what is durable now."""
        code = payment.answer
        f39, shown = self._codes[code].f39, self._screens[code]
        if code == "declined":
            f39, shown = payment.response_code, _screen(self._card_codes.text(payment.response_code))
        tags = [("DF0A", code.encode()), shown, ("DF0F", b"%d" % payment.payment_id)]
        if payment.case:
            tags.append(("DF0B", payment.case.encode()))
        if asked is not None:
            tags += [("DF0C", asked.asked_serial.encode()), ("DF0D", asked.asked_date.encode())]
            if isinstance(asked, SlipInquiry):
                tags += _slip(payment)
        fields: dict[int, Any] = {4: payment.amount}
        if payment.settlement_date:
            fields[15] = payment.settlement_date
        if payment.rrn:
            fields[37] = payment.rrn
        if payment.authorization_code:
            fields[38] = payment.authorization_code
        return self._answer(reply, f39, tags, fields, time, mac=True)

    def _answer(
        self,
        reply: ReplyTo,
        f39: str,
        tags: list[tuple[str, bytes]],
        more: dict[int, Any],
        time: LocalTime,
        mac: bool,
    ) -> bytes:
        fields = {13: time.mmdd, **reply.fields, 12: time.hhmmss, 39: f39, **more}
        if tags:
            fields[48] = tlv.encode(tags)
        if mac:
            fields[64] = NO_MAC
        return self._spec.encode(fields, header=reply.header)


class FormatError(BadRequestError):
    """A readable message with a wrong field; ``reply`` is where to say so."""

    def __init__(self, detail: str, reply: ReplyTo) -> None:
        super().__init__("format", detail)
        self.reply = reply


class _FieldError(Exception):
    def __init__(self, field: int, detail: str) -> None:
        super().__init__(f"field {field}: {detail}")


def _reply_to(message: iso8583.Message) -> ReplyTo:
    header = message.header
    fields: dict[int, Any] = {0: _RESPONSE_MTI[message.mti]}
    for number, value in zip(_ECHOED, message.pick(_ECHOED), strict=True):
        if value is not None:
            fields[number] = value
    # The response's TPDU has destination and origin swapped.
    return ReplyTo(header[:1] + header[3:5] + header[1:3] + header[5:], fields)


def _need(fields: dict[int, Any], number: int, what: str) -> Any:
    """One of the fields that are echoed."""
    value = fields.get(number)
    if value is None:
        raise _FieldError(number, f"missing ({what})")
    return value


def _amount(fields: dict[int, Any]) -> int:
    amount = int(_need(fields, 4, "amount"))
    if amount <= 0:
        raise _FieldError(4, "the amount must be above zero")
    return amount


def _tags(message: iso8583.Message) -> list[tuple[str, bytes]]:
    if 48 not in message:
        raise _FieldError(48, "missing (bill data, BER-TLV)")
    return tlv.decode(message.raw(48))


def _text(tags: list[tuple[str, bytes]], tag: str, what: str, size_max: int) -> str:
    for name, value in tags:
        if name == tag:
            if not (1 <= len(value) <= size_max and value.isascii() and (text := value.decode()).isprintable()):
                raise _FieldError(48, f"tag {tag} ({what}): expected 1 to {size_max} printable ASCII characters")
            return text
    raise _FieldError(48, f"tag {tag} ({what}) is missing")


def _card(message: iso8583.Message) -> Card:
    """Nothing of a card stands in a variable in clear: a traceback that prints them must find none."""
    entry_mode, sequence_number, pin_capture_code, security_control = message.pick((22, 23, 26, 53))
    if entry_mode is None:
        raise _FieldError(22, "missing (entry mode)")
    track2 = Track(message[35]) if 35 in message else None
    pan: Pan | None = None
    if message.get(2):
        try:
            pan = Pan(message[2])
        except ValueError:
            raise _FieldError(2, _NO_PAN) from None
    expiry: str | None = message.get(14)
    if track2 is not None:
        if not track2.has_separator:
            raise _FieldError(35, "separator missing")
        pan = pan or track2.pan
        # An encrypted track has letters in it, and no expiry that we could read.
        expiry = expiry or track2.expiry
    if pan is None:
        raise _FieldError(2, _NO_PAN)
    return Card(
        pan=pan,
        expiry=expiry,
        sequence_number=sequence_number,
        entry_mode=entry_mode,
        pin_capture_code=pin_capture_code,
        track2=track2,
        pin_block=PinBlock(message[52]) if 52 in message else None,
        security_control=security_control,
        icc_data=ChipData(message.raw(55)) if 55 in message else None,
    )


def _slip(payment: Payment) -> list[tuple[str, bytes]]:
    """What stands on a slip besides the result: for whom, with which card, when, and month by month."""
    began = days.local(began_us(payment.payment_id))
    return [
        ("DF01", payment.account.encode()),
        ("DF18", payment.card_masked.encode()),
        ("DF19", f"{began:%Y%m%d%H%M%S}".encode()),
        *(("E1", tlv.encode(_month(posting))) for posting in payment.postings),
    ]


def _month(row: Receivable | Posting) -> list[tuple[str, bytes]]:
    return [
        ("DF11", row.receivable.encode()),
        ("DF12", row.period.encode()),
        ("DF13", b"%d" % row.principal),
        ("DF14", b"%d" % row.penalty),
        ("DF15", b"%d" % row.amount),
    ]


def _gbk(text: str, size_max: int) -> bytes:
    """GBK, cut at a whole character."""
    data = text.encode("gbk", "replace")
    return data if len(data) <= size_max else data[:size_max].decode("gbk", "ignore").encode("gbk")


def _screen(text: str) -> tuple[str, bytes]:
    return ("DF07", _gbk(text, 120))
