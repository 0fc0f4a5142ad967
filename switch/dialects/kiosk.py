# cython: annotation_typing=False, binding=False
"""The kiosk's dialect: ``KIOSK_INTERFACE.md`` in code. The only place with its fields and tags."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

import iso8583
from iso8583 import tlv
from switch.dialects.codes import CardCodes, kiosk_codes
from switch.dialects.shown import CardMessages
from switch.dialects.unionpay import HEADER_SIZE, MAC_SIZE, NO_MAC, WISH_AT
from switch.errors import BadRequestError
from switch.limits import BATCH_COUNT_MAX, BATCH_DETAILS_MAX, E_BILL_PAGE_MAX, POSTINGS_PER_PAYMENT_MAX
from switch.machines import days
from switch.machines.payment import Payment
from switch.model.batch import BatchDetail, BatchStanding
from switch.model.ebill import EBill
from switch.model.payment import Card, Posting, Quote, Receivable, began_us
from switch.model.request import (
    DOWNLOADS,
    BalanceInquiry,
    BatchSettlement,
    BatchUpload,
    BatchUploadEnd,
    BillInquiry,
    ChipResult,
    Download,
    EBillInquiry,
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
AMOUNT_MAX = 999_999_999_999  # fen: twelve digits
_ECHOED = (3, 4, 11, 13, 25, 41, 42, 49, 60)
_NEEDED = {
    4: "amount",
    11: "serial",
    13: "date MMDD",
    41: "terminal",
    42: "merchant",
    60: "business type, batch and network code",
}
_ALL_SHOWN, _MORE_TO_SHOW = tlv.encode([("DF08", b"0")]), tlv.encode([("DF08", b"1")])  # of a quote's rows
_OLDER_SIZE = len(tlv.encode([("DF08", b"1"), ("DF24", b"202601")]))
_NO_PAN = "a card number of 13 to 19 digits is needed, in field 2 or field 35"
_RESPONSE_MTI = {
    "0200": "0210",
    "0320": "0330",
    "0400": "0410",
    "0500": "0510",
    "0620": "0630",
    "0800": "0810",
    "0820": "0830",
}
_CRYPTOGRAMS = {0x40: True, 0x00: False}  # the first two bits of tag 9F27: TC, AAC


class ReplyTo(Struct):
    """How to answer one request: no card data is kept for it."""

    header: bytes
    fields: dict[int, Any]  # the MTI and what is echoed; None: the request did not have it

    def pass_on(self, wish: str) -> None:
        """The acquirer's wish goes to the kiosk where it came from: in digit 6 of the header."""
        header = bytearray(self.header)
        header[WISH_AT] = header[WISH_AT] & 0xF0 | int(wish or "0", 16)
        self.header = bytes(header)


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
        # Field 48 of what is said again and again, or its beginning: the code and the text for the screen.
        self._said = {
            code: tlv.encode([("DF0A", code.encode()), _screen(known.text)]) for code, known in self._codes.items()
        }
        # The end of a quote, by why no payment can begin; "": one can.
        found = ("DF0A", b"found")
        self._quote_tails = {
            code: tlv.encode([found, _screen(known.text), ("DF1A", code.encode())])
            for code, known in self._codes.items()
        }
        self._quote_tails[""] = self._said["found"]

    # -------------------------------------------------------------------------------------------- requests
    def too_much(self, frame: bytes, time: LocalTime) -> bytes | None:
        """To a bill inquiry that cannot be taken now: the answer ``busy``, without a MAC, at a tenth of the cost of
        reading it properly. None: it is something else, or not to be read."""
        try:
            message = self._spec.decode(frame)
        except iso8583.DecodeError:
            return None
        if message.mti != "0200" or str(message.get(60))[:2] not in ("71", "74"):
            return None
        return self._answer(_reply_to(message), self._codes["busy"].f39, self._said["busy"], {}, time, mac=False)

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
        reserved, terminal_id, merchant_id, serial = fields[60], fields[41], fields[42], fields[11]
        if reserved is None or terminal_id is None or merchant_id is None or serial is None:
            raise _missing(fields, 60, 41, 42, 11)
        if len(reserved) < 8:
            raise _FieldError(60, "expected at least 8 digits: business type 2, batch 6")
        business, network = reserved[:2], reserved[8:11]
        if mti in ("0800", "0820") and business == "00" and network in DOWNLOADS:
            if 64 not in message:
                raise _FieldError(64, "the MAC is missing: a download has one")
            mab, mac = frame[HEADER_SIZE:-MAC_SIZE], frame[-MAC_SIZE:]
            data = message.raw(62) if 62 in message else b""
            return Download(terminal_id, merchant_id, serial, "", reply, mab, mac, network, data)
        if mti == "0800":
            if business != "00":
                raise _FieldError(60, "60.1 of a sign-on is 00")
            return SignOn(terminal_id, merchant_id, serial, "", reply, b"", None)
        if mti == "0820":
            if network == "002":
                return SignOff(terminal_id, merchant_id, serial, "", reply, b"", None)
            if network != "301":
                raise _FieldError(60, "60.3 of an echo test is 301, of a sign-off 002; see also downloads")
            if 64 not in message:
                return EchoTest(terminal_id, merchant_id, serial, "", reply, b"", None)
            mab, mac = frame[HEADER_SIZE:-MAC_SIZE], frame[-MAC_SIZE:]
            return EchoTest(terminal_id, merchant_id, serial, "", reply, mab, mac)
        if 64 not in message:
            raise _FieldError(64, "the MAC is missing")
        date = fields[13]
        if date is None:
            raise _missing(fields, 13)
        mab, mac = frame[HEADER_SIZE:-MAC_SIZE], frame[-MAC_SIZE:]
        who = (terminal_id, merchant_id, serial, date, reply, mab, mac)
        if mti == "0200" and business == "01":
            return BalanceInquiry(*who, _card(message))
        tags = _tags(message)
        if mti in ("0320", "0500"):
            return _batch(mti, reserved, tags, who)
        if mti == "0400":
            if business not in ("72", "73"):
                raise _FieldError(60, "60.1 of a reversal is 72 or 73, as the payment's")
            return KioskReversal(*who, *_asked(tags))
        if mti == "0620":
            if business != "77":
                raise _FieldError(60, "60.1 of a chip's last word is 77")
            return _chip_result(message, tags, who)
        if business == "71":
            return BillInquiry(*who, _text(tags, "DF01", "account", 20))
        if business == "74":
            return EBillInquiry(*who, _text(tags, "DF01", "account", 20), *_months_asked(tags))
        if business in ("75", "76"):
            return (ResultInquiry if business == "75" else SlipInquiry)(*who, *_asked(tags))
        if business in ("72", "73"):
            return _payment(message, fields, tags, who, prepays=business == "73")
        raise _FieldError(60, f"60.1 = {business} is no business of this interface")

    # -------------------------------------------------------------------------------------------- answers
    def refusal(
        self, reply: ReplyTo, code: str, time: LocalTime, *, text: str | None = None, mac: bool = True
    ) -> bytes:
        """An answer that only says why not. With ``mac`` the frame waits for its MAC."""
        said = tlv.encode([("DF0A", code.encode()), _screen(text)]) if text else self._said[code]
        return self._answer(reply, self._codes[code].f39, said, {}, time, mac)

    def signed_on(
        self, reply: ReplyTo, time: LocalTime, *, batch_number: str, working_keys: bytes, network_code: str
    ) -> bytes:
        reply.fields[60] = f"00{batch_number}{network_code}"
        return self._answer(reply, "00", [], {62: working_keys}, time, mac=False)

    def echo(self, reply: ReplyTo, time: LocalTime, *, mac: bool) -> bytes:
        return self._answer(reply, "00", [], {}, time, mac=mac)

    def download(self, reply: ReplyTo, data: bytes, time: LocalTime) -> bytes:
        """Field 62 as the acquirer sent it."""
        return self._answer(reply, "00", [], {62: data or None}, time, mac=True)

    def balance(self, reply: ReplyTo, balance: str, time: LocalTime, icc_data: ChipData | None = None) -> bytes:
        """Field 54 as the card network has it: 20 characters each account, the last 13 of them sign and fen."""
        return self._answer(reply, "00", self._said["found"], {54: balance, **_for_chip(icc_data)}, time, mac=True)

    def declined(self, reply: ReplyTo, response_code: str, time: LocalTime, icc_data: ChipData | None = None) -> bytes:
        """The issuer says no to something that is no payment."""
        said = [("DF0A", b"declined"), _screen(self._card_codes.text(response_code))]
        return self._answer(reply, response_code, said, _for_chip(icc_data), time, mac=True)

    def quote(self, reply: ReplyTo, quote: Quote, time: LocalTime, *, closed: str = "") -> bytes:
        """Args: closed: the stable code of why no payment can begin now, so that no card is put in for nothing."""
        total = sum(row.amount for row in quote.rows)
        private = tlv.encode(
            [
                ("DF01", quote.account.encode()),
                ("DF02", quote.quote.encode()),
                ("DF03", _gbk(quote.name, 64)),
                ("DF04", _gbk(quote.address, 128)),
                ("DF05", b"%d" % total),
                ("DF06", b"%d" % quote.advance_balance),
                ("DF09", b"1" if quote.partial_allowed else b"0"),
            ]
        )
        tail = self._quote_tails[closed]
        room = PRIVATE_MAX - len(_ALL_SHOWN) - len(tail)
        end = _ALL_SHOWN
        for row in quote.rows:
            inner = tlv.encode([*_month(row), ("DF16", b"%d" % row.energy_kwh), ("DF17", b"%d" % row.tier)])
            with_row = private + tlv.encode([("E1", inner)])
            if len(with_row) > room:
                end = _MORE_TO_SHOW
                break
            private = with_row
        return self._answer(reply, "00", private + end + tail, {4: total}, time, mac=True)

    def e_bills(self, reply: ReplyTo, account: str, bills: list[EBill], older: str, time: LocalTime) -> bytes:
        """As many of ``bills``, newest first, as fit, and from which month on to ask for the rest.

        Args:
            older: The month, YYYYMM, from which on even older ones may be asked for; "": there are none.
        """
        private = tlv.encode([("DF01", account.encode())])
        tail = self._said["found"]
        for bill in bills:
            with_bill = private + tlv.encode([("E2", _e_bill(bill))])
            if len(with_bill) + _OLDER_SIZE + len(tail) > PRIVATE_MAX:
                older = bill.period
                break
            private = with_bill
        if older:
            private += tlv.encode([("DF08", b"1"), ("DF24", older.encode())])
        else:
            private += _ALL_SHOWN
        return self._answer(reply, "00", private + tail, {}, time, mac=True)

    def batch(self, reply: ReplyTo, standing: BatchStanding, batch_number: str, time: LocalTime) -> bytes:
        """How a settlement stands. Field 60 has the terminal's batch number of now."""
        code = standing.code
        tags = [("DF28", b"%d" % standing.count), ("DF29", b"%d" % standing.amount)]
        private = self._said[code] + tlv.encode([*tags, ("DF2B", b"%d" % standing.differences)])
        for difference in standing.listed:
            inner = [
                ("DF2A", difference.serial.encode()),
                ("DF2C", difference.kind.encode()),
                ("DF27", b"%d" % difference.kiosk_amount),
                ("DF29", b"%d" % difference.switch_amount),
            ]
            one = tlv.encode([("E6", tlv.encode(inner))])
            if len(private) + len(one) > PRIVATE_MAX:
                break
            private += one
        reserved = reply.fields[60]
        reply.fields[60] = f"{reserved[:2]}{batch_number}{reserved[8:]}"
        return self._answer(reply, self._codes[code].f39, private, {}, time, mac=True)

    def payment(
        self, reply: ReplyTo, payment: Payment, time: LocalTime, *, asked: ResultInquiry | None = None
    ) -> bytes:
        """The answer to a payment, a repeat of it, or an inquiry for its result: what is durable now."""
        code = payment.answer
        f39, said = self._codes[code].f39, self._said[code]
        if code == "declined":
            f39 = payment.response_code
            said = tlv.encode([("DF0A", code.encode()), _screen(self._card_codes.text(f39))])
        tags = [("DF0F", b"%d" % payment.payment_id)]
        if payment.case:
            tags.append(("DF0B", payment.case.encode()))
        if asked is not None:
            tags += [("DF0C", asked.asked_serial.encode()), ("DF0D", asked.asked_date.encode())]
            if isinstance(asked, SlipInquiry):
                tags += _slip(payment)
        fields = {
            4: payment.amount,
            15: payment.settlement_date or None,
            37: payment.rrn or None,
            38: payment.authorization_code or None,
        }
        if payment.issuer_data is not None and not isinstance(asked, SlipInquiry):
            fields |= _for_chip(payment.issuer_data)
        return self._answer(reply, f39, said + tlv.encode(tags), fields, time, mac=True)

    def _answer(
        self,
        reply: ReplyTo,
        f39: str,
        tags: list[tuple[str, bytes]] | bytes,  # of field 48, or that field as it is
        more: dict[int, Any],
        time: LocalTime,
        mac: bool,
    ) -> bytes:
        fields = {**reply.fields, 12: time.hhmmss, 39: f39, **more}
        if fields[13] is None:
            fields[13] = time.mmdd
        if tags:
            fields[48] = tags if isinstance(tags, bytes) else tlv.encode(tags)
        if mac:
            fields[64] = NO_MAC
        return self._spec.encode(fields, header=reply.header)


class FormatError(BadRequestError):
    """A readable message with a wrong field; ``reply`` is where to say so."""

    def __init__(self, detail: str, reply: ReplyTo) -> None:
        super().__init__("format", detail)
        self.reply = reply


# What every request begins with: terminal, merchant, serial, date, where to answer, what its MAC covers, and its MAC.
Who = tuple[str, str, str, str, ReplyTo, bytes, bytes]


class _FieldError(Exception):
    def __init__(self, field: int, detail: str) -> None:
        super().__init__(f"field {field}: {detail}")


def _reply_to(message: iso8583.Message) -> ReplyTo:
    header = message.header
    fields: dict[int, Any] = dict(zip(_ECHOED, message.pick(_ECHOED), strict=True))
    fields[0] = _RESPONSE_MTI[message.mti]
    # The response's TPDU has destination and origin swapped.
    return ReplyTo(header[:1] + header[3:5] + header[1:3] + header[5:], fields)


def _missing(fields: dict[int, Any], *numbers: int) -> _FieldError:
    """Names the first of these fields that is not there."""
    number = next(each for each in numbers if fields[each] is None)
    return _FieldError(number, f"missing ({_NEEDED[number]})")


def _amount(fields: dict[int, Any]) -> int:
    if fields[4] is None:
        raise _missing(fields, 4)
    amount = int(fields[4])
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


def _asked(tags: list[tuple[str, bytes]]) -> tuple[str, str]:
    """The key of the payment or settlement that a request is about: its serial and date."""
    return _text(tags, "DF0C", "serial asked for", 6), _text(tags, "DF0D", "date asked for", 4)


def _payment(
    message: iso8583.Message, fields: dict[int, Any], tags: list[tuple[str, bytes]], who: Who, *, prepays: bool
) -> PaymentRequest:
    chosen = () if prepays else tuple([value.decode("ascii", "replace") for tag, value in tags if tag == "DF11"])
    if len(chosen) > POSTINGS_PER_PAYMENT_MAX:
        raise _FieldError(48, f"more than {POSTINGS_PER_PAYMENT_MAX} receivables")
    if len(set(chosen)) != len(chosen):
        raise _FieldError(48, "a receivable is named twice")
    return PaymentRequest(
        *who,
        account=_text(tags, "DF01", "account", 20),
        quote="" if prepays else _text(tags, "DF02", "quote", 16),
        receivables=chosen,
        amount=_amount(fields),
        card=_card(message),
        prepays=prepays,
        confirmed=prepays and ("DF1B", b"1") in tags,
    )


def _chip_result(message: iso8583.Message, tags: list[tuple[str, bytes]], who: Who) -> ChipResult:
    asked, accepted = _asked(tags), _chip_accepted(message)
    has_scripts = tlv.first(tlv.decode(message.raw(55)), "DF31") is not None
    pan = _pan(message)
    if has_scripts and pan is None:
        raise _FieldError(2, "missing (card number: the results of scripts go to the acquirer)")
    return ChipResult(
        *who,
        *asked,
        accepted=accepted,
        icc_data=ChipData(message.raw(55)),
        has_scripts=has_scripts,
        pan=pan,
        sequence_number=message.get(23),
    )


def _batch(mti: str, reserved: str, tags: list[tuple[str, bytes]], who: Who) -> Request:
    network = reserved[8:11]
    if reserved[:2] != "00" or network not in (("201",) if mti == "0500" else ("201", "202")):
        raise _FieldError(60, "60.1 of a settlement is 00; 60.3 is 201, at the end of an upload 202")
    if mti == "0500":
        day = _text(tags, "DF25", "day MMDD", 4)
        if len(day) != 4 or not day.isdigit():
            raise _FieldError(48, "tag DF25 (day): expected MMDD")
        count = _count(tags, "DF26", "payments that were paid", BATCH_COUNT_MAX)
        amount = _count(tags, "DF27", "their sum in fen", AMOUNT_MAX)
        return BatchSettlement(*who, day=day, batch_number=reserved[2:8], count=count, amount=amount)
    asked = _asked(tags)
    if network == "202":
        count = _count(tags, "DF26", "details that were sent", BATCH_COUNT_MAX)
        return BatchUploadEnd(*who, *asked, count=count)
    details = []
    for value in tlv.every(tags, "E5"):
        detail = tlv.decode(value)
        serial = _text(detail, "DF2A", "serial of a payment", 6)
        if len(serial) != 6 or not serial.isdigit():
            raise _FieldError(48, "tag DF2A (serial of a payment): expected 6 digits")
        details.append(BatchDetail(serial, _count(detail, "DF15", "amount in fen", AMOUNT_MAX)))
    if not 1 <= len(details) <= BATCH_DETAILS_MAX:
        raise _FieldError(48, f"tag E5 (details): expected 1 to {BATCH_DETAILS_MAX}")
    if len({detail.serial for detail in details}) != len(details):
        raise _FieldError(48, "tag E5 (details): a serial is named twice")
    return BatchUpload(*who, *asked, details=tuple(details))


def _count(tags: list[tuple[str, bytes]], tag: str, what: str, most: int) -> int:
    text = _text(tags, tag, what, 12)
    if not text.isdigit() or int(text) > most:
        raise _FieldError(48, f"tag {tag} ({what}): expected a number, at most {most}")
    return int(text)


def _months_asked(tags: list[tuple[str, bytes]]) -> tuple[str, int]:
    """The newest month, YYYYMM, and how many."""
    newest = _text(tags, "DF12", "newest month YYYYMM", 6)
    if not (len(newest) == 6 and newest.isdigit() and "01" <= newest[4:] <= "12" and newest[:4] > "0002"):
        raise _FieldError(48, "tag DF12 (newest month): expected YYYYMM")
    count = next((value for tag, value in tags if tag == "DF1C"), b"%d" % E_BILL_PAGE_MAX)
    if not (count.isdigit() and len(count) == 1 and 1 <= int(count) <= E_BILL_PAGE_MAX):
        raise _FieldError(48, f"tag DF1C (months): expected 1 to {E_BILL_PAGE_MAX}")
    return newest, int(count)


def _pan(message: iso8583.Message) -> Pan | None:
    if not message.get(2):
        return None
    try:
        return Pan(message[2])
    except ValueError:
        raise _FieldError(2, _NO_PAN) from None


def _card(message: iso8583.Message) -> Card:
    """Nothing of a card stands in a variable in clear: a traceback that prints them must find none."""
    entry_mode, sequence_number, pin_capture_code, security_control = message.pick((22, 23, 26, 53))
    if entry_mode is None:
        raise _FieldError(22, "missing (entry mode)")
    track2 = Track(message[35]) if 35 in message else None
    pan = _pan(message)
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


def _chip_accepted(message: iso8583.Message) -> bool:
    if 55 not in message:
        raise _FieldError(55, "missing (the chip's last cryptogram)")
    information = tlv.first(tlv.decode(message.raw(55)), "9F27") or b""
    accepted = _CRYPTOGRAMS.get(information[0] & 0xC0) if len(information) == 1 else None
    if accepted is None:
        raise _FieldError(55, "tag 9F27: expected 40 (TC) or 00 (AAC), one byte")
    return accepted


def _for_chip(icc_data: ChipData | None) -> dict[int, Any]:
    return {} if icc_data is None else {55: icc_data.reveal()}


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


def _e_bill(bill: EBill) -> bytes:
    meters = [
        [
            ("DF20", meter.meter.encode("ascii", "replace")),
            ("DF21", meter.reading_before.encode()),
            ("DF22", meter.reading.encode()),
            ("DF16", b"%d" % meter.energy_kwh),
        ]
        for meter in bill.meters
    ]
    steps = [
        [
            ("DF17", b"%d" % step.tier),
            ("DF16", b"%d" % step.energy_kwh),
            ("DF23", step.price.encode()),
            ("DF15", b"%d" % step.amount),
        ]
        for step in bill.steps
    ]
    return tlv.encode(
        [
            ("DF12", bill.period.encode()),
            ("DF1D", bill.read_on.encode()),
            ("DF16", b"%d" % bill.energy_kwh),
            ("DF13", b"%d" % bill.principal),
            ("DF14", b"%d" % bill.penalty),
            ("DF15", b"%d" % bill.amount),
            ("DF1E", b"%d" % bill.paid),
            *([("DF1F", bill.paid_at.encode())] if bill.paid_at else []),
            *(("E3", tlv.encode(meter)) for meter in meters),
            *(("E4", tlv.encode(step)) for step in steps),
            *([("DF08", b"1")] if bill.cut else []),
        ]
    )


def _gbk(text: str, size_max: int) -> bytes:
    """GBK, cut at a whole character."""
    data = text.encode("gbk", "replace")
    return data if len(data) <= size_max else data[:size_max].decode("gbk", "ignore").encode("gbk")


def _screen(text: str) -> tuple[str, bytes]:
    return ("DF07", _gbk(text, 120))
