"""The marketing system's ``marketing_ydlw`` dialect: China Southern Grid's fixed-width records.

What it has not is as important as what it has. It knows no inquiry by serial: an account's history is asked, and a
payment in it is ours if it came through us, with our amount, after our payment began. A cancel undoes a posting that is
there and forbids nothing. Its day has no field in a posting.

Dates and times of a posting come from its serial, so that a cancel names the same ones after a restart.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar, Final

from switch.dialects.marketing import MarketingAnswer, MarketingDialect, listed
from switch.errors import BadRequestError, ConfigError
from switch.machines import days
from switch.machines.payment_table import Input
from switch.model.ebill import EBill, Meter, Step
from switch.model.payment import PaidRow, Posting, Receivable, serial_began_us
from switch.records.fixed import FixedWire
from switch.records.spec import Spec, load

OPERATOR_SIZE_MAX: Final = 20  # characters of the header's operator_id
_FEN_END: Final = 10**12

_STAMP: Final = frozenset({"serial", "date", "time"})
_GIVEN: Final[dict[str, frozenset[str]]] = {
    "sign_on": frozenset(),
    "echo": frozenset(),
    "sign_off": frozenset(),
    "inquiry": _STAMP | {"account"},
    "post": _STAMP
    | {"unit", "account", "ledger_number", "period", "owed", "principal", "penalty", "amount", "debit_date"}
    | {"debit_time"},
    "cancel": _STAMP
    | {"cancel_serial", "original_date", "original_time", "unit", "account", "original_amount", "amount"},
    "prepay": _STAMP | {"account", "amount", "debit_date", "debit_time"},
    "history": _STAMP | {"account", "period"},
    "totals": _STAMP | {"batch", "count", "amount", "day", "day_time"},
}
_HEADER: Final = frozenset({"transaction_id", "operator_id", "send_date", "send_time", "return_code"})
_NEEDED: Final[dict[str, tuple[frozenset[str], frozenset[str]]]] = {  # in an answer's head and in its rows
    "sign_on": (frozenset({"day"}), frozenset()),
    "echo": (frozenset({"day"}), frozenset()),
    "inquiry": (
        frozenset(),
        frozenset({"account", "customer", "address", "utility_date", "partial", "unit", "ledger_number", "period"})
        | {"owed", "principal", "penalty"},
    ),
    "post": (frozenset({"serial", "account", "period", "amount"}), frozenset()),
    "cancel": (frozenset({"serial", "account", "amount", "cancelled"}), frozenset()),
    "history": (
        frozenset({"account", "period"}),
        frozenset({"amount", "penalty", "energy_kwh", "paid_date", "paid_time", "collector", "reading"})
        | {"reading_before", "read_on", "prepaid", "adjusted_kwh", "price", "metering_point"},
    ),
}


class YdlwAnswer(MarketingAnswer):
    """``data`` is empty until ``check`` has read the records."""

    frame: bytes = b""


class ShownFixed:
    """Of fixed-width records, for a trace: the header, and what names a payment."""

    def __init__(self, wire: FixedWire) -> None:
        self._wire = wire

    def take(self, frame: bytes) -> bytes:
        return frame

    def tell(self, taken: bytes) -> dict[str, str]:
        """Raises BadRequestError."""
        wire = self._wire
        header = wire.read_header(taken)
        op = wire.operation(header["code"])
        told = {"op": op, "id": header["transaction_id"], "version": header["version"]}
        if header["packet_type"] == "1":
            told["code"] = header["return_code"]
        if wire.is_ours(taken) and len(taken) > wire.header.size:
            values = wire.body(op, "answer" if header["packet_type"] == "1" else "request", taken)
            told |= {key: str(values[key]) for key in ("serial", "account", "day") if key in values}
        return told


class YdlwDialect(MarketingDialect):
    """Args: wall_us: The wall clock, for dates and times in requests."""

    framing: ClassVar[str] = "digits10"

    def __init__(self, channel: str, spec: Spec | str = "marketing_ydlw_1_0", *, wall_us: Callable[[], int]) -> None:
        if len(channel) > OPERATOR_SIZE_MAX:
            raise ConfigError("marketing.channel", f"{len(channel)} characters; this dialect takes {OPERATOR_SIZE_MAX}")
        self._wall_us = wall_us
        super().__init__(channel, load(spec) if isinstance(spec, str) else spec)

    def _prepare(self) -> None:
        spec = self.spec
        self.wire = wire = FixedWire(spec, {"operator_id": self._channel, "return_code": ""}, _GIVEN)
        self.shown = ShownFixed(wire)
        self._unit = spec.constants.get("unit", "")
        for op, given in _GIVEN.items():
            if op not in spec.operations:
                raise ConfigError(f"{spec.title}: operation.{op}", "missing; the switch needs it")
            for field in wire.asked(op):
                if field not in given | _HEADER:
                    raise ConfigError(
                        f"{spec.title}: operation.{op}.request: {field}",
                        f'the switch has nothing to put there; give it a value, or add {field} = "…" to [constants]',
                    )
        for op, (head, rows) in _NEEDED.items():
            shape = spec.operations[op].answer
            lacks = (head - {field.name for field in shape.head}) | (rows - {field.name for field in shape.rows})
            if lacks:
                raise ConfigError(f"{spec.title}: operation.{op}.answer: {min(lacks)}", "missing; the switch needs it")

    # -------------------------------------------------------------------------------------------- requests
    def inquiry(self, request_id: int, account: str) -> bytes:
        return self._request("inquiry", request_id, {"account": account})

    def post(self, request_id: int, posting: Posting, *, account: str, day: str, reference: str) -> bytes:
        if posting.is_prepayment:
            return self._request("prepay", request_id, {**self._debited(posting), "account": account})
        unit, ledger_number = self._split(posting.receivable)
        return self._request(
            "post",
            request_id,
            {
                **self._debited(posting),
                "account": account,
                "unit": unit,
                "ledger_number": ledger_number,
                "period": posting.period,
                "owed": posting.amount,
                "principal": posting.principal,
                "penalty": posting.penalty,
            },
        )

    def status(self, request_id: int, posting: Posting, *, account: str = "") -> bytes:
        return self.history(request_id, account, _month(posting))

    def cancel(self, request_id: int, posting: Posting, *, undo: bool, account: str = "") -> bytes:
        """Its only kind undoes; ``undo`` False asks for a fence, which a profile of this system must not promise."""
        date, time = _stamp(serial_began_us(posting.serial))
        return self._request(
            "cancel",
            request_id,
            {
                "cancel_serial": f"C{posting.serial}",
                "serial": posting.serial,
                "original_date": date,
                "original_time": time,
                "unit": self._split(posting.receivable)[0],
                "account": account,
                "original_amount": posting.amount,
                "amount": posting.amount,
            },
        )

    def history(self, request_id: int, account: str, period: str) -> bytes:
        return self._request("history", request_id, {"account": account, "period": period})

    def e_bill(self, request_id: int, account: str, period: str) -> bytes:
        """The month's payments, which carry readings and prices: the interface has nothing else."""
        return self.history(request_id, account, period)

    def totals(self, request_id: int, day: str, count: int, amount: int) -> bytes:
        fields = {"batch": f"{day}{self._channel}"[:27], "count": count, "amount": amount, "day": day}
        return self._request("totals", request_id, {**fields, "day_time": "000000"})

    def _debited(self, posting: Posting) -> dict[str, Any]:
        date, time = _stamp(serial_began_us(posting.serial))
        return {
            "serial": posting.serial,
            "date": date,
            "time": time,
            "debit_date": date,
            "debit_time": time,
            "amount": posting.amount,
        }

    def _request(self, op: str, request_id: int, fields: dict[str, Any]) -> bytes:
        date, time = _stamp(self._wall_us())
        header = {"transaction_id": str(request_id), "send_date": date, "send_time": time}
        values = {"serial": str(request_id), "date": date, "time": time, **fields}
        return self.wire.request(op, header, values)

    def _split(self, receivable: str) -> tuple[str, str]:
        unit, dash, ledger_number = receivable.partition("-")
        return (unit, ledger_number) if dash else (self._unit, receivable)

    # -------------------------------------------------------------------------------------------- answers
    def read(self, frame: bytes) -> MarketingAnswer:
        """The header; ``check`` reads the rest.

        Raises: BadRequestError ``unreadable``: no header, not an answer, or not to a request of ours.
        """
        header = self.wire.read_header(frame)
        if header["packet_type"] != "1":
            raise BadRequestError(
                "unreadable", f"header.packet_type: expected 1, an answer; got {header['packet_type']!r}"
            )
        transaction_id = header["transaction_id"]
        if not (transaction_id.isascii() and transaction_id.isdigit()):
            raise BadRequestError("unreadable", "header.transaction_id: expected the digits that we sent")
        return YdlwAnswer(int(transaction_id), header["return_code"], "", {"code": header["code"]}, frame=frame)

    def speaks(self, frame: bytes) -> bool:
        return self.wire.is_ours(frame)

    def check(self, op: str, answer: MarketingAnswer) -> None:
        assert isinstance(answer, YdlwAnswer)
        wire = self.wire
        if not wire.is_ours(answer.frame):
            raise BadRequestError("bad_record", f"{op}: expected version {self.spec.wire_version} in the header")
        code = answer.data.get("code", self.spec.operations[op].code)
        if code != self.spec.operations[op].code:
            raise BadRequestError("bad_record", f"{op}: the answer is to operation {code}")
        op = "history" if op == "status" else op
        data = wire.body(op, "answer", answer.frame)
        answer.data = self._bills(data["rows"]) if op == "inquiry" else data

    def _bills(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """What an inquiry says of the account; each row repeats it, and all must agree."""
        if not rows:
            raise BadRequestError("bad_record", "inquiry.rows: none; an account without arrears is answered 06")
        first = rows[0]
        for index, row in enumerate(rows):
            for name in ("account", "customer", "address", "utility_date", "partial"):
                if row[name] != first[name]:
                    raise BadRequestError("bad_record", f"inquiry.rows[{index}].{name}: differs from the first row's")
        return {
            "account": first["account"],
            "name": first["customer"],
            "address": first["address"],
            "day": first["utility_date"],
            "advance_balance": 0,
            "partial_allowed": first["partial"],
            "rows": rows,
        }

    def rows(self, answer: MarketingAnswer) -> tuple[Receivable, ...]:
        found = [
            Receivable(self._receivable(row), row["period"], row["principal"], row["penalty"], row["owed"])
            for row in answer.data["rows"]
        ]
        if len({row.receivable for row in found}) < len(found):
            raise BadRequestError("bad_record", "inquiry.rows: a receivable is named twice")
        if sum(row.amount for row in found) >= _FEN_END:
            raise BadRequestError("bad_record", "inquiry.rows: the sum is beyond what one charge can be")
        found.sort(key=lambda row: (row.period, row.receivable))
        return tuple(found)

    def _receivable(self, row: dict[str, Any]) -> str:
        """Its ledger number; one of another unit than ours carries that, for a posting must name it again."""
        unit, ledger_number = row["unit"], row["ledger_number"]
        named: str = ledger_number if unit == self._unit else f"{unit}-{ledger_number}"
        if not ledger_number or "-" in unit or "-" in ledger_number or len(named) > 24:
            raise BadRequestError("bad_record", "inquiry.rows: unit and ledger_number name no receivable")
        return named

    def stated(self, answer: MarketingAnswer, posting: Posting, account: str = "") -> Input:
        """What the account's history proves. Nothing there is no proof: it may come yet."""
        if answer.code != "00":
            return Input.BILL_UNCLEAR
        self.check("history", answer)
        data = answer.data
        if data["period"] != _month(posting) or account not in ("", data["account"]):
            return Input.BILL_UNCLEAR
        began = "".join(_stamp(serial_began_us(posting.serial)))
        ours = [
            row
            for row in self._paid(data)
            # Before ours began, one of ours may have paid the same and been undone.
            if row.collector == self._channel and row.amount == posting.amount and row.paid_at >= began
        ]
        if len(ours) > 1:
            return Input.BILL_UNCLEAR
        return Input.BILL_POSTED if ours else Input.BILL_ABSENT

    def cancelled(self, answer: MarketingAnswer, posting: Posting, *, undo: bool = False) -> Input:
        given = super().cancelled(answer, posting, undo=undo)
        if given is Input.CANCEL_DONE and not (answer.data["cancelled"] and answer.data["amount"] == posting.amount):
            return Input.CANCEL_UNCLEAR
        return given

    def posted(self, answer: MarketingAnswer, posting: Posting, account: str) -> Input:
        if not posting.is_prepayment:
            return super().posted(answer, posting, account)
        # Its answer has no data: what ties it to ours is the transaction's number.
        return {"posted": Input.BILL_POSTED, "rejected": Input.BILL_REJECTED}.get(
            self.outcome("prepay", answer.code), Input.BILL_UNCLEAR
        )

    def _paid(self, data: dict[str, Any]) -> tuple[PaidRow, ...]:
        return tuple(
            PaidRow(
                data["period"],
                row["amount"],
                row["penalty"],
                row["energy_kwh"],
                row["paid_date"] + row["paid_time"],
                row["collector"],
                reading_before=row["reading_before"],
                reading=row["reading"],
            )
            for row in data["rows"]
        )

    def e_bill_of(self, answer: MarketingAnswer, account: str, period: str) -> EBill | str:
        """Each payment's row has a price: rows of one meter at several prices are its steps. What was paid twice is
        energy that was used once."""
        outcome = self.outcome("e_bill", answer.code)
        if outcome != "found":
            return outcome
        self.check("history", answer)
        data = answer.data
        if (data["account"], data["period"]) != (account, period):
            raise BadRequestError("bad_record", "history: of another account or month than was asked for")
        rows = [row for row in data["rows"] if row["amount"] > row["prepaid"]]  # the others only prepaid
        used: dict[tuple[str, str, str, str, int], int] = {}  # meter, readings, price, energy -> fen without penalty
        penalties: dict[tuple[str, str, str, str, int], int] = {}
        for row in rows:
            use = *_meter(row), row["price"], max(0, row["energy_kwh"] + row["adjusted_kwh"])
            penalties[use] = row["penalty"]
            used[use] = max(0, row["amount"] - row["prepaid"] - row["penalty"])
        if not rows:
            return "no_bill"
        meters: dict[tuple[str, str, str], int] = {}
        for meter, before, reading, _, energy_kwh in used:
            meters[meter, before, reading] = meters.get((meter, before, reading), 0) + energy_kwh
        principal, penalty = sum(used.values()), sum(penalties.values())
        return EBill(
            period,
            max(row["read_on"] for row in rows),
            sum(meters.values()),
            principal,
            penalty,
            principal + penalty,
            sum(row["amount"] - row["prepaid"] for row in rows),
            max(row["paid_date"] + row["paid_time"] for row in rows),
            *listed(
                [Meter(*meter, energy_kwh) for meter, energy_kwh in meters.items()],
                [Step(tier, use[4], use[3], fen) for tier, (use, fen) in enumerate(used.items(), 1)],
            ),
        )

    def agreed(self, answer: MarketingAnswer, count: int, amount: int) -> bool | None:
        return {"agreed": True, "differs": False}.get(self.outcome("totals", answer.code))


def _meter(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["metering_point"], row["reading_before"], row["reading"]


def _month(posting: Posting) -> str:
    """The month in whose history a posting stands; a prepayment's is the one in which it was made (v)."""
    return posting.period or _stamp(serial_began_us(posting.serial))[0][:6]


def _stamp(wall_us: int) -> tuple[str, str]:
    """Local date and time as YYYYMMDD and hhmmss.

    >>> _stamp(1_767_193_200_000_000)
    ('20251231', '230000')
    """
    return _second(wall_us // 1_000_000)


@lru_cache(maxsize=1_024)  # the seconds of the payments under way
def _second(wall_s: int) -> tuple[str, str]:
    moment = days.local(wall_s * 1_000_000)
    return f"{moment:%Y%m%d}", f"{moment:%H%M%S}"
