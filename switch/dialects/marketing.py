# cython: annotation_typing=False, binding=False
"""The marketing system's dialects: what they all can do, and ``marketing_json`` in particular.

A request or answer is one JSON object; what it may hold is data (``switch/records``), so that an interface change is a
new file. Answers are validated field by field before anything looks at them.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Final

import orjson
from msgspec import Meta, Struct, ValidationError, convert, defstruct

from switch.dialects.shown import Records, ShownRecords
from switch.errors import BadRequestError, ConfigError
from switch.limits import E_BILL_METERS_MAX, E_BILL_STEPS_MAX
from switch.machines.payment_table import Input
from switch.model.ebill import EBill, Meter, Step
from switch.model.payment import PaidRow, Posting, Receivable
from switch.records.spec import Spec, load

# Bound once: to find a member of an Enum costs Python 3.11 as much as a call.
_BILL_POSTED: Final = Input.BILL_POSTED
_BILL_REJECTED: Final = Input.BILL_REJECTED
_BILL_UNCLEAR: Final = Input.BILL_UNCLEAR
_DECIMAL: Final = re.compile(r"[0-9]{1,10}(\.[0-9]{1,4})?", re.ASCII)
_FEN_END = 10**12  # fen: twelve digits are what an amount has on every line

# What the switch has a value for in a request, and what it must find in an answer; the rest is the spec's.
_GIVEN: Final[dict[str, frozenset[str]]] = {
    "post": frozenset({"serial", "account", "receivable", "period", "amount", "day", "reference"}),
    "prepay": frozenset({"serial", "account", "amount", "day", "reference"}),
    "inquiry": frozenset({"account"}),
    "status": frozenset({"serial"}),
    "cancel": frozenset({"serial", "if_posted"}),
    "history": frozenset({"account", "period"}),
    "e_bill": frozenset({"account", "period"}),
    "totals": frozenset({"day", "count", "amount"}),
}
_NEEDED: Final[dict[str, frozenset[str]]] = {
    "sign_on": frozenset({"day"}),
    "echo": frozenset({"day"}),
    "inquiry": frozenset({"account", "name", "address", "day", "advance_balance", "partial_allowed", "rows"}),
    "post": frozenset({"serial", "account", "period", "amount"}),
    "status": frozenset({"serial", "state"}),
    "cancel": frozenset({"serial"}),
    "e_bill": frozenset({"account", "period", "read_on", "energy_kwh", "principal", "penalty", "amount", "paid"})
    | {"paid_at", "meters", "steps"},
}


class MarketingAnswer(Struct):
    request_id: int
    code: str
    text: str
    data: dict[str, Any]
    has_nul: bool = False  # somewhere in its texts
    version: str = ""  # of the spec it came in, while two are live


class MarketingDialect:
    """``marketing_json``; other dialects derive from it.

    Args:
        channel: Collector id under which the marketing system knows us.
        spec: Whose records are spoken, or the name of one.

    Raises:
        ConfigError: The spec lacks something, or asks for what the switch has not.
    """

    framing: ClassVar[str] = "len4"  # of ``net.framed.FRAMINGS``

    def __init__(self, channel: str, spec: Spec | str = "marketing_json_1_0") -> None:
        self.spec = spec = load(spec) if isinstance(spec, str) else spec
        table = spec.table
        self.version = spec.version
        self.not_signed_on = frozenset(table["not_signed_on"])
        self.shown: ShownRecords = Records()
        self._channel = channel
        self._outcomes: dict[str, dict[str, str]] = table["outcome"]
        self._prepare()

    def _prepare(self) -> None:
        table = self.spec.table
        self._operations: dict[str, dict[str, Any]] = table["operation"]
        self._records: dict[str, dict[str, Any]] = table["record"]
        self._digits = {op: _digits(each["response"], self._records) for op, each in self._operations.items()}
        self._shapes = {op: _shape(each["response"], self._records) for op, each in self._operations.items()}
        version = {"version": self.spec.wire_version} if self.spec.wire_version else {}
        self._always: dict[str, dict[str, Any]] = {}  # what requests carry beside what they are given; mostly nothing
        for op, each in self._operations.items():
            request = each["request"]
            always = version | {name: rule["value"] for name, rule in request.items() if "value" in rule}
            if always:
                self._always[op] = always
            for name in request:
                if name not in always and name not in _GIVEN.get(op, ()):
                    raise ConfigError(
                        f"{self.spec.title}: operation.{op}.request.{name}",
                        'the switch has nothing to put there; give it a value = "…"',
                    )
        for op, needed in _NEEDED.items():
            if op in self._operations and (lacks := needed - set(self._operations[op]["response"])):
                raise ConfigError(
                    f"{self.spec.title}: operation.{op}.response.{min(lacks)}", "missing; the switch needs it"
                )

    # -------------------------------------------------------------------------------------------- requests
    def sign_on(self, request_id: int) -> bytes:
        return self._request("sign_on", request_id, {})

    def sign_off(self, request_id: int) -> bytes:
        return self._request("sign_off", request_id, {})

    def echo(self, request_id: int) -> bytes:
        return self._request("echo", request_id, {})

    def inquiry(self, request_id: int, account: str) -> bytes:
        return self._request("inquiry", request_id, {"account": account})

    def post(self, request_id: int, posting: Posting, *, account: str, day: str, reference: str) -> bytes:
        if posting.is_prepayment:
            return self._request(
                "prepay",
                request_id,
                {
                    "serial": posting.serial,
                    "account": account,
                    "amount": posting.amount,
                    "day": day,
                    "reference": reference,
                },
            )
        fields = {
            "op": "post",
            "id": request_id,
            "channel": self._channel,
            "serial": posting.serial,
            "account": account,
            "receivable": posting.receivable,
            "period": posting.period,
            "amount": posting.amount,
            "day": day,
            "reference": reference,
        }
        if "post" in self._always:
            fields |= self._always["post"]
        return orjson.dumps(fields)

    def status(self, request_id: int, posting: Posting, *, account: str = "") -> bytes:
        return self._request("status", request_id, {"serial": posting.serial})

    def cancel(self, request_id: int, posting: Posting, *, undo: bool, account: str = "") -> bytes:
        return self._request(
            "cancel", request_id, {"serial": posting.serial, "if_posted": "undo" if undo else "refuse"}
        )

    def history(self, request_id: int, account: str, period: str) -> bytes:
        """What was paid for one month, YYYYMM."""
        return self._request("history", request_id, {"account": account, "period": period})

    def e_bill(self, request_id: int, account: str, period: str) -> bytes:
        """What one month, YYYYMM, was made of. Raises BadRequestError ``refused``: this spec has no e-bills."""
        if "e_bill" not in self._operations:
            raise BadRequestError("refused", f"{self.spec.title} has no operation e_bill")
        return self._request("e_bill", request_id, {"account": account, "period": period})

    def totals(self, request_id: int, day: str, count: int, amount: int) -> bytes:
        """How many postings of a day, YYYYMMDD, and their sum in fen."""
        return self._request("totals", request_id, {"day": day, "count": count, "amount": amount})

    def _request(self, op: str, request_id: int, fields: dict[str, Any]) -> bytes:
        if op in self._always:
            fields = {**fields, **self._always[op]}
        return orjson.dumps({"op": op, "id": request_id, "channel": self._channel, **fields})

    # -------------------------------------------------------------------------------------------- answers
    def read(self, frame: bytes) -> MarketingAnswer:
        """Raises: BadRequestError ``unreadable``: no JSON object with ``id`` and ``code``."""
        try:
            data = orjson.loads(frame)
        except orjson.JSONDecodeError as error:
            raise BadRequestError("unreadable", f"not JSON: {error.msg} at byte {error.pos}") from None
        if not isinstance(data, dict):
            raise BadRequestError("unreadable", "expected a JSON object")
        request_id, code = data.get("id"), data.get("code")
        # Of exactly this type: true would be taken for the answer to request 1.
        if type(request_id) is not int or not isinstance(code, str):
            raise BadRequestError("unreadable", "expected an integer `id` and a text `code`")
        text = data.get("text", "")
        return MarketingAnswer(request_id, code, text if isinstance(text, str) else "", data, b"\\u0000" in frame)

    def speaks(self, frame: bytes) -> bool:
        """Whether an answer says that it is of this spec's version."""
        try:
            return str(orjson.loads(frame).get("version", "")) == self.spec.wire_version
        except (ValueError, AttributeError):
            return False

    def check_request(self, op: str, data: dict[str, Any]) -> None:
        """As ``check``, of a request."""
        _check(self._operations[op]["request"], data, op, self._records)

    def check(self, op: str, answer: MarketingAnswer) -> None:
        """Raises: BadRequestError ``bad_record``: names the operation, the field and what was expected."""
        if not answer.has_nul:
            try:
                convert(answer.data, self._shapes[op])
            except ValidationError:
                pass  # what is wrong is said below, in our words
            else:
                if _all_digits(answer.data, self._digits[op]):
                    return
        _check(self._operations[op]["response"], answer.data, op, self._records)

    def outcome(self, op: str, code: str) -> str:
        table = self._outcomes[op]
        return table.get(code, table["default"])

    def codes(self, op: str) -> tuple[str, ...]:
        """Those that the table has for this operation."""
        return tuple(code for code in self._outcomes[op] if code != "default")

    def posted(self, answer: MarketingAnswer, posting: Posting, account: str) -> Input:
        """What an answer to a posting proves. Row 8 looks at serial, account, period and amount (C12)."""
        op = _op_of(posting)
        outcome = self.outcome(op, answer.code)
        if outcome in ("rejected", "rejected_once"):
            return _BILL_REJECTED
        if outcome != "posted":
            return _BILL_UNCLEAR
        self.check(op, answer)
        data = answer.data
        same = (
            data["serial"] == posting.serial
            and data["account"] == account
            and ("" if posting.is_prepayment else data["period"]) == posting.period
            and data["amount"] == posting.amount
        )
        # An "ok" for something else proves nothing about ours: ask.
        return _BILL_POSTED if same else _BILL_UNCLEAR

    def is_doubtful(self, answer: MarketingAnswer, posting: Posting) -> bool:
        """Refused with a code that is definite for a first posting only: this month left before."""
        return posting.sends > 1 and self.outcome(_op_of(posting), answer.code) == "rejected_once"

    def paid_rows(self, answer: MarketingAnswer, account: str) -> tuple[PaidRow, ...]:
        """What an answer to ``history`` lists.

        Raises: BadRequestError: ``refused``, the code is not 00; ``bad_record``.
        """
        if answer.code != "00":
            raise BadRequestError("refused", f"history: the marketing system answers {answer.code}")
        self.check("history", answer)
        if answer.data["account"] != account:
            raise BadRequestError("bad_record", "history.account: another one than was asked for")
        return self._paid(answer.data)

    def e_bill_of(self, answer: MarketingAnswer, account: str, period: str) -> EBill | str:
        """The e-bill, or the code of why there is none.

        Raises: BadRequestError ``bad_record``: also, when it is of another account or month.
        """
        outcome = self.outcome("e_bill", answer.code)
        if outcome != "found":
            return outcome
        self.check("e_bill", answer)
        data = answer.data
        if (data["account"], data["period"]) != (account, period):
            raise BadRequestError("bad_record", "e_bill: of another account or month than was asked for")
        if data["paid_at"] and not (
            len(data["paid_at"]) == 14 and data["paid_at"].isascii() and data["paid_at"].isdigit()
        ):
            raise BadRequestError("bad_record", "e_bill.paid_at: expected YYYYMMDDhhmmss, or nothing")
        return EBill(
            period,
            data["read_on"],
            data["energy_kwh"],
            data["principal"],
            data["penalty"],
            data["amount"],
            data["paid"],
            data["paid_at"],
            *listed(
                [
                    Meter(row["meter"], _decimal(row["reading_before"]), _decimal(row["reading"]), row["energy_kwh"])
                    for row in data["meters"]
                ],
                [Step(row["tier"], row["energy_kwh"], _decimal(row["price"]), row["amount"]) for row in data["steps"]],
            ),
        )

    def _paid(self, data: dict[str, Any]) -> tuple[PaidRow, ...]:
        return tuple(
            PaidRow(
                row["period"],
                row["amount"],
                row["penalty"],
                row["energy_kwh"],
                row["paid_date"] + row["paid_time"],
                row["collector"],
                row["serial"],
            )
            for row in data["rows"]
        )

    def agreed(self, answer: MarketingAnswer, count: int, amount: int) -> bool | None:
        """Whether the marketing system has the same totals of a day. None: it did not say."""
        if self.outcome("totals", answer.code) != "told":
            return None
        self.check("totals", answer)
        return bool((answer.data["count"], answer.data["amount"]) == (count, amount))

    def stated(self, answer: MarketingAnswer, posting: Posting, account: str = "") -> Input:
        """What an answer to a status inquiry proves. ``account``: whose posting; "": not compared."""
        if answer.code != "00":
            return Input.BILL_UNCLEAR
        self.check("status", answer)
        if answer.data["serial"] != posting.serial:
            return Input.BILL_UNCLEAR
        return {
            "posted": Input.BILL_POSTED,
            "cancelled": Input.BILL_REJECTED,
            "rejected": Input.BILL_REJECTED,
            "unknown": Input.BILL_ABSENT,
        }.get(answer.data["state"], Input.BILL_UNCLEAR)

    def cancelled(self, answer: MarketingAnswer, posting: Posting, *, undo: bool = False) -> Input:
        """What an answer to a cancel proves.

        Args:
            undo: We know that it is posted; a cancel that leaves it so was refused.
        """
        outcome = self.outcome("cancel", answer.code)
        if outcome == "cancelled":
            self.check("cancel", answer)
            return Input.CANCEL_DONE if answer.data["serial"] == posting.serial else Input.CANCEL_UNCLEAR
        return {
            "posted": Input.CANCEL_FINAL if undo else Input.CANCEL_POSTED,
            "final": Input.CANCEL_FINAL,
            "absent": Input.CANCEL_ABSENT,
        }.get(outcome, Input.CANCEL_UNCLEAR)

    def rows(self, answer: MarketingAnswer) -> tuple[Receivable, ...]:
        """The receivables of an inquiry, oldest first. Call ``check("inquiry", …)`` first.

        Raises: BadRequestError ``bad_record``: each row is right, but not all of them together.
        """
        found = [
            Receivable(
                row["receivable"],
                row["period"],
                row["principal"],
                row["penalty"],
                row["amount"],
                row["energy_kwh"],
                row["tier"],
            )
            for row in answer.data["rows"]
        ]
        if len(found) > 1 and len({row.receivable for row in found}) < len(found):
            raise BadRequestError("bad_record", "inquiry.rows: a receivable is named twice")
        if sum(row.amount for row in found) >= _FEN_END:
            raise BadRequestError("bad_record", "inquiry.rows: the sum is beyond what one charge can be")
        if len(found) > 1:
            found.sort(key=lambda row: (row.period, row.receivable))
        return tuple(found)


def listed(meters: list[Meter], steps: list[Step]) -> tuple[tuple[Meter, ...], tuple[Step, ...], bool]:
    """As many as an answer to a kiosk holds, and whether that left some out: the last three of an ``EBill``."""
    cut = len(meters) > E_BILL_METERS_MAX or len(steps) > E_BILL_STEPS_MAX
    return tuple(meters[:E_BILL_METERS_MAX]), tuple(steps[:E_BILL_STEPS_MAX]), cut


def _decimal(text: str) -> str:
    if not _DECIMAL.fullmatch(text):
        raise BadRequestError("bad_record", "e_bill: a reading or a price: expected a decimal number")
    return text


def _op_of(posting: Posting) -> str:
    return "prepay" if posting.is_prepayment else "post"


def _shape(fields: dict[str, Any], records: dict[str, dict[str, Any]]) -> Any:
    """The same rules as a type, which msgspec checks in C: every answer is checked, and hardly one is wrong."""
    typed: list[tuple[str, Any]] = []
    for name, rule in fields.items():
        kind = rule["type"]
        if kind in ("fen", "count"):
            shape: Any = Annotated[int, Meta(ge=0, lt=_FEN_END)]
        elif kind == "flag":
            shape = bool
        elif kind == "list":
            row: Any = _shape(records[rule["of"]], records)
            shape = Annotated[list[row], Meta(max_length=rule["max"])]
        elif kind == "digits":
            # That they are digits is looked at in ``check``: msgspec would do it with an expression of Python's.
            shape = Annotated[str, Meta(min_length=rule["size"], max_length=rule["size"])]
        else:
            shape = Annotated[str, Meta(max_length=rule["max"])]
        typed.append((name, shape))
    return defstruct("Shape", typed)


# Names of texts of digits; with each list, those of its records.
_Digits = tuple[tuple[str, ...], tuple[tuple[str, "_Digits"], ...]]


def _digits(fields: dict[str, Any], records: dict[str, dict[str, Any]]) -> _Digits:
    return (
        tuple(name for name, rule in fields.items() if rule["type"] == "digits"),
        tuple((name, _digits(records[rule["of"]], records)) for name, rule in fields.items() if rule["type"] == "list"),
    )


def _all_digits(data: dict[str, Any], digits: _Digits) -> bool:
    """Whether the texts that must be digits are; their size is right already."""
    names, lists = digits
    for name in names:
        if not (data[name].isascii() and data[name].isdigit()):
            return False
    for name, inner in lists:
        for row in data[name]:
            if not _all_digits(row, inner):
                return False
    return True


def _check(fields: dict[str, Any], data: dict[str, Any], where: str, records: dict[str, dict[str, Any]]) -> None:
    for name, rule in fields.items():
        path = f"{where}.{name}"
        if name not in data:
            raise BadRequestError("bad_record", f"{path}: missing")
        value, kind = data[name], rule["type"]
        if kind in ("fen", "count"):
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _FEN_END:
                raise BadRequestError("bad_record", f"{path}: expected a whole number of {kind}, 0 to 10^12")
        elif kind == "flag":
            if not isinstance(value, bool):
                raise BadRequestError("bad_record", f"{path}: expected true or false")
        elif kind == "list":
            if not isinstance(value, list) or len(value) > rule["max"]:
                raise BadRequestError("bad_record", f"{path}: expected a list of at most {rule['max']}")
            for index, row in enumerate(value):
                if not isinstance(row, dict):
                    raise BadRequestError("bad_record", f"{path}[{index}]: expected an object")
                _check(records[rule["of"]], row, f"{path}[{index}]", records)
        elif not isinstance(value, str):
            raise BadRequestError("bad_record", f"{path}: expected text")
        elif kind == "digits":
            if not (value.isascii() and value.isdigit() and len(value) == rule["size"]):
                raise BadRequestError("bad_record", f"{path}: expected {rule['size']} digits")
        elif len(value) > rule["max"]:
            raise BadRequestError("bad_record", f"{path}: longer than {rule['max']} characters")
        elif "\0" in value:
            raise BadRequestError("bad_record", f"{path}: NUL, which no text of the journal can hold")
