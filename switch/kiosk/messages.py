"""The kiosk's side of ``KIOSK_INTERFACE.md``: frames out of what it asks, answers out of frames. Pure.

Field 64 is left to the caller: a request ends where its MAC begins, and an answer brings what its MAC covers.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct, field

import iso8583
from iso8583 import tlv
from switch.kiosk.results import Balance, Bills, EBills, Month, PaymentKey, Refusal, stable_of, text_of
from switch.limits import E_BILL_PAGE_MAX
from switch.model.batch import BatchDifference
from switch.model.ebill import EBill, Meter, Step
from switch.model.payment import Card
from switch.model.secret import ChipData, Pan, PinBlock, Track

HEADER: Final = bytes.fromhex("6000030000603100000000")  # TPDU and network header
HEADER_SIZE: Final = len(HEADER)
MAC_SIZE: Final = 8
_WISH_AT: Final = 7  # the byte with digit 6 of the header
_ASKS: Final = frozenset({"362", "372", "382"})  # downloads that begin with a question
_NO_BATCH: Final = "000000"
_PIN_LENGTH_MAX: Final = "06"  # field 26
_PIN_BY_PAN: Final = "2600000000000000"  # field 53: PIN block with the card number in it, double-length key
_CHINA: Final = datetime.timezone(datetime.timedelta(hours=8))

Values = dict[int | str, Any]


# ---------------------------------------------------------------------------------------------------- cards
def swiped(track2: Track, pin_block: PinBlock | None, *, pan: Pan | None = None) -> Card:
    """A card whose stripe was read. ``pan`` only where the track is encrypted so that it cannot be read from it.

    Raises:
        ValueError: The track has no card number.
    """
    number = pan or track2.pan
    if number is None:
        raise ValueError("track 2: no card number in front of the separator; read the card again")
    return _card("02", number, pin_block, expiry=track2.expiry, track2=track2)


def chip(
    pan: Pan, expiry: str, pin_block: PinBlock | None, icc_data: ChipData, *, sequence: str = "001", track2: Track
) -> Card:
    """A card whose chip made a cryptogram: ``icc_data`` is field 55, ``track2`` tag 57 with "=" as separator."""
    return _card("05", pan, pin_block, expiry=expiry, track2=track2, sequence=sequence, icc_data=icc_data)


def keyed(pan: Pan, expiry: str, pin_block: PinBlock | None = None) -> Card:
    """A card number typed in; ``expiry`` YYMM."""
    return _card("01", pan, pin_block, expiry=expiry)


def _card(
    entry: str,
    pan: Pan,
    pin_block: PinBlock | None,
    *,
    expiry: str | None,
    track2: Track | None = None,
    sequence: str | None = None,
    icc_data: ChipData | None = None,
) -> Card:
    has_pin = pin_block is not None
    return Card(
        pan=pan,
        expiry=expiry,
        sequence_number=sequence,
        entry_mode=f"{entry}{1 if has_pin else 2}",
        pin_capture_code=_PIN_LENGTH_MAX if has_pin else None,
        track2=track2,
        pin_block=pin_block,
        security_control=_PIN_BY_PAN if has_pin else None,
        icc_data=icc_data,
    )


# ---------------------------------------------------------------------------------------------------- answers
class Answer(Struct):
    """One response. ``proven``: it came with a right MAC, so what it says of money counts; the caller sets it."""

    mti: str
    serial: str
    code: str  # field 39
    stable: str  # DF0A; where it is missing and field 39 has one meaning, that
    text: str
    amount: int  # fen; 0 when there is none
    covered: bytes = field(default=b"")  # what its MAC covers
    mac: bytes = b""
    date: str = ""
    reference: str = ""
    case_number: str = ""
    asked_serial: str = ""
    asked_date: str = ""
    rrn: str = ""
    authorization_code: str = ""
    batch: str = ""
    layout: str = ""  # 60.3 of a sign-on: how field 62 is made
    keys: bytes = b""  # field 62
    local_time: str = ""  # hhmmss, field 12
    bills: Bills | None = None
    balance: Balance | None = None
    e_bills: EBills | None = None
    switch_count: int = 0  # of a settlement, with the next three
    switch_amount: int = 0
    differences: int = 0
    listed: tuple[BatchDifference, ...] = ()
    account: str = ""  # DF01; with the next three it makes a slip again
    card_masked: str = ""
    began_at: str = ""
    months: tuple[Month, ...] = ()
    proven: bool = False
    wish: str = ""  # digit 6 of the header: what the acquirer wants of this terminal; "": nothing
    data: bytes = b""  # field 62 of a download
    issuer_data: bytes = b""  # field 55: for the card's chip

    def refusal(self) -> Refusal:
        return Refusal(self.stable, self.code, self.text)


class Messages:
    """Of one terminal. ``batch`` is that of its last sign-on."""

    def __init__(self, terminal_id: str, merchant_id: str, operator: str) -> None:
        if len(terminal_id) != 8 or len(merchant_id) != 15 or len(operator) != 3:
            raise ValueError("terminal_id has 8 characters, merchant_id 15, operator 3: ask the operator of the switch")
        self.terminal_id = terminal_id
        self.batch = _NO_BATCH
        self._merchant_id = merchant_id
        self._operator = operator
        self._spec = iso8583.load("kiosk", header="tpdu+pos6")

    # ------------------------------------------------------------------------------------------------ requests
    def sign_on(self, serial: str, date: str) -> bytes:
        return self._frame({0: "0800", 11: serial, 13: date, 60: f"00{_NO_BATCH}003", 63: self._operator})

    def echo(self, serial: str, *, mac: bool) -> bytes:
        return self._frame({0: "0820", 11: serial, 60: f"00{self.batch}301"}, mac=mac)

    def sign_off(self, serial: str) -> bytes:
        return self._frame({0: "0820", 11: serial, 60: f"00{self.batch}002"})

    def download(self, serial: str, network_code: str, data: bytes) -> bytes:
        """One message of a download of parameters (interface §4.2b)."""
        mti = "0820" if network_code in _ASKS else "0800"
        values: Values = {0: mti, 11: serial, 60: f"00{self.batch}{network_code}"}
        return self._frame({**values, **({62: data} if data else {})}, mac=True)

    def inquiry(self, serial: str, date: str, account: str) -> bytes:
        """Raises ValueError: no account number."""
        check_account(account)
        tags = [("DF01", account.encode())]
        return self._financial({0: "0200", 3: "310000", 11: serial, 13: date, 60: f"71{self.batch}000"}, tags)

    def e_bill(self, serial: str, date: str, account: str, newest: str, months: int) -> bytes:
        """Raises ValueError: no account number, no month, or too many."""
        check_account(account)
        if not (len(newest) == 6 and newest.isascii() and newest.isdigit() and "01" <= newest[4:] <= "12"):
            raise ValueError("newest: expected a month, YYYYMM")
        if not 1 <= months <= E_BILL_PAGE_MAX:
            raise ValueError(f"months: expected 1 to {E_BILL_PAGE_MAX}")
        tags = [("DF01", account.encode()), ("DF12", newest.encode()), ("DF1C", b"%d" % months)]
        return self._financial({0: "0200", 3: "310000", 11: serial, 13: date, 60: f"74{self.batch}000"}, tags)

    def payment(self, key: PaymentKey, bills: Bills, receivables: tuple[str, ...], amount: int, card: Card) -> bytes:
        tags = [
            ("DF01", bills.account.encode()),
            ("DF02", bills.quote.encode()),
            *(("DF11", receivable.encode()) for receivable in receivables),
        ]
        values: Values = {
            0: "0200",
            3: "000000",
            4: f"{amount:012d}",
            11: key.serial,
            13: key.date,
            60: f"72{self.batch}000",
        }
        return self._financial({**values, **_card_fields(card)}, tags)

    def prepayment(self, key: PaymentKey, account: str, amount: int, card: Card, *, confirmed: bool) -> bytes:
        tags = [("DF01", account.encode()), *([("DF1B", b"1")] if confirmed else [])]
        values: Values = {
            0: "0200",
            3: "000000",
            4: f"{amount:012d}",
            11: key.serial,
            13: key.date,
            60: f"73{self.batch}000",
        }
        return self._financial({**values, **_card_fields(card)}, tags)

    def balance(self, serial: str, date: str, card: Card) -> bytes:
        values: Values = {0: "0200", 3: "310000", 11: serial, 13: date, 60: f"01{self.batch}000"}
        return self._financial({**values, **_card_fields(card)}, [])

    def slip_again(self, serial: str, date: str, asked: PaymentKey) -> bytes:
        values: Values = {0: "0200", 3: "310000", 11: serial, 13: date, 60: f"76{self.batch}000"}
        return self._financial(values, _asked(asked))

    def result(self, serial: str, date: str, asked: PaymentKey) -> bytes:
        values: Values = {0: "0200", 3: "310000", 11: serial, 13: date, 60: f"75{self.batch}000"}
        return self._financial(values, _asked(asked))

    def settlement(self, key: PaymentKey, day: str, count: int, amount: int) -> bytes:
        tags = [("DF25", day.encode()), ("DF26", b"%d" % count), ("DF27", b"%d" % amount)]
        return self._financial({0: "0500", 11: key.serial, 13: key.date, 60: f"00{self.batch}201"}, tags)

    def details(self, serial: str, date: str, about: PaymentKey, paid: Sequence[tuple[str, int]]) -> bytes:
        """At most BATCH_DETAILS_MAX serials and fen."""
        rows = [tlv.encode([("DF2A", each.encode()), ("DF15", b"%d" % amount)]) for each, amount in paid]
        tags = [*_asked(about), *(("E5", row) for row in rows)]
        return self._financial({0: "0320", 11: serial, 13: date, 60: f"00{self.batch}201"}, tags)

    def details_end(self, serial: str, date: str, about: PaymentKey, count: int) -> bytes:
        tags = [*_asked(about), ("DF26", b"%d" % count)]
        return self._financial({0: "0320", 11: serial, 13: date, 60: f"00{self.batch}202"}, tags)

    def reversal(self, serial: str, date: str, asked: PaymentKey) -> bytes:
        values: Values = {0: "0400", 3: "000000", 11: serial, 13: date, 60: f"72{self.batch}000"}
        return self._financial(values, _asked(asked))

    def chip_word(self, serial: str, date: str, asked: PaymentKey, icc_data: ChipData, card: Card) -> bytes:
        """The chip's last word on a payment (interface §4.4)."""
        values: Values = {0: "0620", 11: serial, 13: date, 55: icc_data.reveal(), 60: f"77{self.batch}000"}
        if has_scripts(icc_data):
            values |= {2: card.pan.reveal(), 23: card.sequence_number or "000"}
        return self._financial(values, _asked(asked))

    def _financial(self, values: Values, tags: list[tuple[str, bytes]]) -> bytes:
        private: Values = {48: tlv.encode(tags)} if tags else {}
        return self._frame({**values, 25: "00", **private, 49: "156"}, mac=True)

    def _frame(self, values: Values, *, mac: bool = False) -> bytes:
        values = {**values, 41: self.terminal_id, 42: self._merchant_id}
        if not mac:
            return self._spec.encode(values, header=HEADER)
        # The bitmap says that field 64 is there: the MAC covers that.
        return self._spec.encode({**values, 64: bytes(MAC_SIZE)}, header=HEADER)[:-MAC_SIZE]

    # ------------------------------------------------------------------------------------------------ answers
    def read(self, frame: bytes) -> Answer:
        """Raises DecodeError, ValueError: no answer of this interface."""
        message = self._spec.decode(frame)
        tags = tlv.decode(message.raw(48)) if 48 in message else []
        first = dict(reversed(tags))
        code = str(message.get(39, ""))
        stable = _ascii(first, "DF0A") or stable_of(code)
        reserved = str(message.get(60, ""))
        has_mac = 64 in message
        return Answer(
            mti=message.mti,
            serial=str(message.get(11, "")),
            code=code,
            stable=stable,
            text=first["DF07"].decode("gbk", "replace") if first.get("DF07") else text_of(stable, code),
            amount=int(message.get(4, "0")),
            covered=frame[HEADER_SIZE:-MAC_SIZE] if has_mac else b"",
            mac=frame[-MAC_SIZE:] if has_mac else b"",
            date=str(message.get(13, "")),
            reference=_ascii(first, "DF0F"),
            case_number=_ascii(first, "DF0B"),
            asked_serial=_ascii(first, "DF0C"),
            asked_date=_ascii(first, "DF0D"),
            rrn=str(message.get(37, "")),
            authorization_code=str(message.get(38, "")),
            batch=reserved[2:8],
            layout=reserved[8:11],
            keys=message.raw(62) if 62 in message and message.mti == "0810" else b"",
            data=message.raw(62) if 62 in message else b"",
            issuer_data=message.raw(55) if 55 in message else b"",
            wish=f"{frame[_WISH_AT] & 0x0F:x}".replace("0", ""),
            local_time=str(message.get(12, "")),
            bills=_bills(tags, first) if code == "00" and "DF02" in first else None,
            balance=_balance(str(message.get(54, ""))) if code == "00" and 54 in message else None,
            e_bills=_e_bills(tags, first) if code == "00" and "E2" in first else None,
            switch_count=_number(first, "DF28"),
            switch_amount=_number(first, "DF29"),
            differences=_number(first, "DF2B"),
            listed=tuple(_difference(dict(tlv.decode(each))) for each in tlv.every(tags, "E6")),
            account=_ascii(first, "DF01"),
            card_masked=_ascii(first, "DF18"),
            began_at=_ascii(first, "DF19"),
            months=_months(tags),
        )


def check_account(account: str) -> None:
    """Raises ValueError: no account number."""
    if not (1 <= len(account) <= 20 and account.isascii() and account.isprintable()):
        raise ValueError("account: expected 1 to 20 printable ASCII characters")


def has_scripts(icc_data: ChipData) -> bool:
    """Whether a chip tells what it did with its issuer's scripts."""
    return tlv.first(tlv.decode(icc_data.reveal()), "DF31") is not None


def _card_fields(card: Card) -> Values:
    values: Values = {
        2: card.pan.reveal(),
        14: card.expiry,
        22: card.entry_mode,
        23: card.sequence_number,
        26: card.pin_capture_code,
        35: card.track2.reveal() if card.track2 else None,
        52: card.pin_block.reveal() if card.pin_block else None,
        53: card.security_control,
        55: card.icc_data.reveal() if card.icc_data else None,
    }
    return {name: value for name, value in values.items() if value is not None}


def _asked(key: PaymentKey) -> list[tuple[str, bytes]]:
    return [("DF0C", key.serial.encode()), ("DF0D", key.date.encode())]


def _ascii(tags: dict[str, bytes], tag: str) -> str:
    return tags.get(tag, b"").decode("ascii", "replace")


def _number(tags: dict[str, bytes], tag: str) -> int:
    """Raises ValueError."""
    return int(tags.get(tag, b"0"))


def _balance(text: str) -> Balance:
    """Field 54, 20 characters an account: type 2, "02", currency 3, C or D, 12 digits. Raises ValueError."""
    accounts = [text[at : at + 20] for at in range(0, len(text), 20)]
    return Balance(tuple(int(each[8:]) * (-1 if each[7] == "D" else 1) for each in accounts if len(each) == 20))


def _months(tags: list[tuple[str, bytes]]) -> tuple[Month, ...]:
    months = []
    for month in tlv.every(tags, "E1"):
        row = dict(tlv.decode(month))
        months.append(
            Month(
                receivable=_ascii(row, "DF11"),
                period=_ascii(row, "DF12"),
                principal=_number(row, "DF13"),
                penalty=_number(row, "DF14"),
                amount=_number(row, "DF15"),
                energy_kwh=_number(row, "DF16"),
                tier=_number(row, "DF17"),
            )
        )
    return tuple(months)


def _difference(row: dict[str, bytes]) -> BatchDifference:
    return BatchDifference(_ascii(row, "DF2A"), _ascii(row, "DF2C"), _number(row, "DF27"), _number(row, "DF29"))


def _e_bills(tags: list[tuple[str, bytes]], first: dict[str, bytes]) -> EBills:
    months = tuple(_e_bill(tlv.decode(month)) for month in tlv.every(tags, "E2"))
    return EBills(_ascii(first, "DF01"), months, _ascii(first, "DF24"))


def _e_bill(tags: list[tuple[str, bytes]]) -> EBill:
    row = dict(reversed(tags))
    meters = [dict(tlv.decode(meter)) for meter in tlv.every(tags, "E3")]
    steps = [dict(tlv.decode(step)) for step in tlv.every(tags, "E4")]
    return EBill(
        period=_ascii(row, "DF12"),
        read_on=_ascii(row, "DF1D"),
        energy_kwh=_number(row, "DF16"),
        principal=_number(row, "DF13"),
        penalty=_number(row, "DF14"),
        amount=_number(row, "DF15"),
        paid=_number(row, "DF1E"),
        paid_at=_ascii(row, "DF1F"),
        meters=tuple(
            Meter(_ascii(each, "DF20"), _ascii(each, "DF21"), _ascii(each, "DF22"), _number(each, "DF16"))
            for each in meters
        ),
        steps=tuple(
            Step(_number(each, "DF17"), _number(each, "DF16"), _ascii(each, "DF23"), _number(each, "DF15"))
            for each in steps
        ),
        cut=row.get("DF08") == b"1",
    )


def _bills(tags: list[tuple[str, bytes]], first: dict[str, bytes]) -> Bills:
    return Bills(
        account=_ascii(first, "DF01"),
        quote=_ascii(first, "DF02"),
        name=first.get("DF03", b"").decode("gbk", "replace"),
        address=first.get("DF04", b"").decode("gbk", "replace"),
        total=_number(first, "DF05"),
        advance_balance=_number(first, "DF06"),
        months=_months(tags),
        partial_allowed=first.get("DF09") == b"1",
        more=first.get("DF08") == b"1",
        blocked=_ascii(first, "DF1A"),
    )


# ---------------------------------------------------------------------------------------------------- dates
def clock_offset(mmdd: str, hhmmss: str, now: datetime.datetime) -> datetime.timedelta | None:
    """How far the switch's local time (fields 13 and 12) is from ``now``. None: they are no date and time.

    The year is the one that makes the difference smallest.
    """
    found: list[datetime.timedelta] = []
    here = now.astimezone(_CHINA)
    for year in (here.year - 1, here.year, here.year + 1):
        try:
            there = datetime.datetime.strptime(f"{year}{mmdd}{hhmmss}", "%Y%m%d%H%M%S").replace(tzinfo=_CHINA)
        except ValueError:
            continue
        found.append(there - here)
    return min(found, key=abs, default=None)


def local(now: datetime.datetime) -> datetime.datetime:
    return now.astimezone(_CHINA)
