"""What of a message people may see in a trace: named fields and nothing else. No card number, track, PIN or key is
among them, whatever a peer puts into the others."""

from __future__ import annotations

from typing import Any, Final

import orjson

import iso8583

_FIELDS: Final = {
    3: "processing_code",
    4: "fen",
    11: "stan",
    37: "rrn",
    39: "response_code",
    41: "terminal",
    60: "field_60",
}
_KEYS: Final = ("op", "id", "serial", "account", "code", "day")


def card_message(spec: iso8583.Spec, frame: bytes) -> dict[str, str]:
    """Raises DecodeError."""
    message = spec.decode(frame)
    facts = {"mti": str(message.mti)}
    for number, name in _FIELDS.items():
        if number in message:
            facts[name] = str(message[number])
    return facts


def record(frame: bytes) -> dict[str, str]:
    """Of a JSON object. Raises ValueError."""
    found: dict[str, Any] = orjson.loads(frame)
    return {key: str(found[key])[:40] for key in _KEYS if key in found}
