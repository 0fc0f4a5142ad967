"""How the simulated marketing system speaks: its requests and answers as bytes, one class a format.

Inside the host a request or an answer is a dictionary in the words of ``marketing_json``, whatever came over the wire.
A host may speak several versions of one format at once, as a real one does around an upgrade: each answer is in the
version of its request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import orjson

from switch.errors import BadRequestError, ConfigError
from switch.machines.days import local
from switch.net.framed import DIGITS10, LEN4, Framing
from switch.records.fixed import FixedWire
from switch.records.spec import Spec, load
from switch.sim.day import wall_s

Json = dict[str, Any]
PRICE: Final = "0.5889"  # yuan per kWh, of the first tier


class UnreadableError(Exception):
    """A frame that is no request of any version that is spoken."""


class HostWire(Protocol):
    framing: Framing
    bare: bool  # the interface knows no serials and leaves no tombstones

    def read(self, frame: bytes) -> Json:
        """``op``, ``id``, ``channel`` and what belongs to the operation. Raises UnreadableError."""
        ...

    def reply(self, request: Json, answer: Json, text: str) -> bytes:
        """b"": there is no way to answer that."""
        ...

    def code(self, frame: bytes) -> str:
        """Of an answer, for who listens on the wire."""
        ...


def make_wire(specs: Sequence[Spec | str]) -> HostWire:
    """Raises ConfigError."""
    loaded = [load(spec) if isinstance(spec, str) else spec for spec in specs]
    if len({spec.name for spec in loaded}) != 1:
        raise ConfigError("spec", "one host speaks one format; name versions of the same one")
    if len({spec.wire_version for spec in loaded}) != len(loaded):
        raise ConfigError("spec", "two of these have one wire_version: requests could not be told apart")
    return YdlwWire(loaded) if loaded[0].wire == "fixed" else JsonWire(loaded)


class JsonWire:
    framing = LEN4
    bare = False

    def __init__(self, specs: Sequence[Spec]) -> None:
        # Of versions beside the first: what their requests must hold, and what their answers hold beside ours.
        self._plain = specs[0].wire_version == "" and len(specs) == 1
        self._operations = {spec.wire_version: spec.table["operation"] for spec in specs}

    def read(self, frame: bytes) -> Json:
        try:
            request = orjson.loads(frame)
        except orjson.JSONDecodeError as error:
            raise UnreadableError(str(error)) from None
        if not isinstance(request, dict):
            raise UnreadableError("not an object")
        if self._plain:
            return request
        operations = self._operations.get(request.get("version", ""))
        if operations is None:
            raise UnreadableError("a version that is not spoken")
        operation = operations.get(request.get("op"))
        if request.get("version") and operation is not None and set(operation["request"]) - set(request):
            raise UnreadableError("a field of this version is missing")
        return request

    def reply(self, request: Json, answer: Json, text: str) -> bytes:
        if version := request.get("version"):
            answer = {"version": version, **answer}
            if answer["code"] == "00" and "receipt_number" in self._operations[version][request["op"]]["response"]:
                answer["receipt_number"] = f"R{request['serial']}"
        return orjson.dumps({"id": request.get("id"), "text": text, **answer})

    def code(self, frame: bytes) -> str:
        return str(orjson.loads(frame).get("code", ""))


class YdlwWire:
    framing = DIGITS10
    bare = True

    def __init__(self, specs: Sequence[Spec]) -> None:
        self._wires = {spec.wire_version: FixedWire(spec) for spec in specs}

    def read(self, frame: bytes) -> Json:
        version, wire = next((each for each in self._wires.items() if each[1].is_ours(frame)), ("", None))
        if wire is None:
            raise UnreadableError("a version that is not spoken")
        try:
            header = wire.read_header(frame)
            op = wire.operation(header["code"])
            values = wire.body(op, "request", frame)
        except BadRequestError as error:
            raise UnreadableError(error.detail) from None
        request = {"op": op, "id": header["transaction_id"], "channel": header["operator_id"], "version": version}
        match op:
            case "post":
                values["receivable"] = values["ledger_number"]
                values["reference"] = values["serial"][:-2]
            case "prepay":
                values["reference"] = values["serial"][:-2]
            case "cancel":
                values["if_posted"] = "undo"
        return values | request

    def reply(self, request: Json, answer: Json, text: str) -> bytes:
        if "version" not in request:
            return b""  # nothing says whom it would be for
        wire, op, code = self._wires[request["version"]], request["op"], answer["code"]
        if op == "totals" and code == "00" and any(answer[key] != request[key] for key in ("count", "amount")):
            code = "13"
        now = local(int(wall_s() * 1_000_000))
        stamp = {"send_date": f"{now:%Y%m%d}", "send_time": f"{now:%H%M%S}"}
        header = {"transaction_id": request["id"], "operator_id": request["channel"], "return_code": code, **stamp}
        if code != "00":
            return wire.answer(op, header, None)
        return wire.answer(op, header, self._values(wire, request, answer, text, stamp))

    def code(self, frame: bytes) -> str:
        wire = next(wire for wire in self._wires.values() if wire.is_ours(frame))
        return str(wire.read_header(frame)["return_code"])

    def _values(self, wire: FixedWire, request: Json, answer: Json, text: str, stamp: dict[str, str]) -> Json:
        common: Json = {
            **{key: request[key] for key in ("serial", "date", "time") if key in request},
            "utility_serial": f"U{request.get('serial', '')}"[:24],
            "utility_date": answer.get("day", stamp["send_date"]),
            "utility_time": stamp["send_time"],
            "receipt_number": f"R{request.get('serial', '')}",
            "text": text,
        }
        if "rows" not in answer:
            sent: Json = {key: request[key] for key in ("cancel_serial", "account", "amount") if key in request}
            return {**common, **sent, **answer, "cancelled": True}
        unit = wire.spec.constants["unit"]
        if request["op"] == "history":
            rows = [
                {
                    "prepaid": 0,
                    "reading_before": "10000",
                    "reading": str(10_000 + row["energy_kwh"]),
                    "price": PRICE,
                    **row,
                    "detail_number": number,
                    "read_on": f"{row['period']}25",
                    "adjusted_kwh": 0,
                    "times": 1,
                }
                for number, row in enumerate(answer["rows"], 1)
            ]
            return {**answer, "rows": rows}
        rows = [
            {
                **common,
                "unit": unit,
                "account": answer["account"],
                "customer": answer["name"],
                "address": answer["address"],
                "partial": answer["partial_allowed"],
                "ledger_number": row["receivable"],
                "period": row["period"],
                "owed": row["amount"],
                "principal": row["principal"],
                "penalty": row["penalty"],
            }
            for row in answer["rows"]
        ]
        return {"rows": rows}
