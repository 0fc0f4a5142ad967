"""The marketing system's ``marketing_json`` dialect: the record spec of ``switch/records`` in code.

A request or answer is one JSON object; what it may hold is data (``marketing_json.toml``), so that an interface change
is a new file. Answers are validated field by field before anything looks at them.
"""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Annotated, Any

import orjson
from msgspec import Meta, Struct, ValidationError, convert, defstruct

from switch.errors import BadRequestError
from switch.machines.payment_table import Input
from switch.model.payment import Posting, Receivable

_FEN_END = 10**12  # fen: twelve digits are what an amount has on every line


class MarketingAnswer(Struct):
    request_id: int
    code: str
    text: str
    data: dict[str, Any]
    has_nul: bool = False  # somewhere in its texts


class MarketingDialect:
    def __init__(self, channel: str, spec: str = "marketing_json.toml") -> None:
        table = tomllib.loads(files("switch.records").joinpath(spec).read_text(encoding="utf-8"))
        self.version: str = table["version"]
        self.not_signed_on = frozenset(table["not_signed_on"])
        self._channel = channel
        self._operations: dict[str, dict[str, Any]] = table["operation"]
        self._records: dict[str, dict[str, Any]] = table["record"]
        self._outcomes: dict[str, dict[str, str]] = table["outcome"]
        self._shapes = {op: _shape(each["response"], self._records) for op, each in self._operations.items()}

    # -------------------------------------------------------------------------------------------- requests
    def sign_on(self, request_id: int) -> bytes:
        return self._request("sign_on", request_id, {})

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
        return self._request(
            "post",
            request_id,
            {
                "serial": posting.serial,
                "account": account,
                "receivable": posting.receivable,
                "period": posting.period,
                "amount": posting.amount,
                "day": day,
                "reference": reference,
            },
        )

    def status(self, request_id: int, posting: Posting) -> bytes:
        return self._request("status", request_id, {"serial": posting.serial})

    def cancel(self, request_id: int, posting: Posting, *, undo: bool) -> bytes:
        return self._request(
            "cancel", request_id, {"serial": posting.serial, "if_posted": "undo" if undo else "refuse"}
        )

    def _request(self, op: str, request_id: int, fields: dict[str, Any]) -> bytes:
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

    def check(self, op: str, answer: MarketingAnswer) -> None:
        """Raises: BadRequestError ``bad_record``: names the operation, the field and what was expected."""
        if not answer.has_nul:
            try:
                convert(answer.data, self._shapes[op])
                return
            except ValidationError:
                pass  # what is wrong is said below, in our words
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
            return Input.BILL_REJECTED
        if outcome != "posted":
            return Input.BILL_UNCLEAR
        self.check(op, answer)
        data = answer.data
        period = "" if posting.is_prepayment else data["period"]
        same = (data["serial"], data["account"], period, data["amount"]) == (
            posting.serial,
            account,
            posting.period,
            posting.amount,
        )
        # An "ok" for something else proves nothing about ours: ask.
        return Input.BILL_POSTED if same else Input.BILL_UNCLEAR

    def is_doubtful(self, answer: MarketingAnswer, posting: Posting) -> bool:
        """Refused with a code that is definite for a first posting only: this month left before."""
        return posting.sends > 1 and self.outcome(_op_of(posting), answer.code) == "rejected_once"

    def stated(self, answer: MarketingAnswer, posting: Posting) -> Input:
        """What an answer to a status inquiry proves."""
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
        found.sort(key=lambda row: (row.period, row.receivable))
        return tuple(found)


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
            size = rule["size"]
            shape = Annotated[str, Meta(pattern=r"\A[0-9]*\Z", min_length=size, max_length=size)]
        else:
            shape = Annotated[str, Meta(max_length=rule["max"])]
        typed.append((name, shape))
    return defstruct("Shape", typed)


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
