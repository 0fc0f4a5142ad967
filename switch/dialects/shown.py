# cython: annotation_typing=False, binding=False
"""What of a message people may see in a trace: named fields and nothing else. No card number, track, PIN or key is
among them, whatever a peer puts into the others.

Every message passes here, and few are looked at: ``take`` only picks, ``tell`` makes words of it when somebody asks.
Most carry no card data: they are kept as they are, and nothing is picked before somebody asks.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import orjson

import iso8583
from iso8583.describe import Row, rows, title

_NUMBERS: Final = (0, 3, 4, 11, 37, 39, 41, 60)
_NAMES: Final = ("mti", "processing_code", "fen", "stan", "rrn", "response_code", "terminal", "field_60")
# Card number, expiry, tracks, PIN block, chip data, working keys. Where the bitmap stands: behind header and MTI.
_SECRET: Final = (2, 14, 35, 36, 45, 52, 53, 55, 62)
_SECRET_BITS: Final = sum(1 << 64 - number for number in _SECRET)
_BITMAP: Final = slice(13, 21)
_KEYS: Final = ("op", "id", "serial", "account", "code", "day", "version")


class CardMessages:
    """Of ISO 8583, towards kiosks and the card network."""

    def __init__(self, spec: iso8583.Spec) -> None:
        self._spec = spec

    def take(self, frame: bytes) -> tuple[Any, ...] | bytes:
        """A message without a field of ``_SECRET`` as it is, of any other one what may be seen.

        Raises DecodeError: it is no message, and then there is no saying what is in it.
        """
        message = self._spec.decode(frame)
        return message.pick(_NUMBERS) if int.from_bytes(frame[_BITMAP], "big") & _SECRET_BITS else frame

    def tell(self, taken: tuple[Any, ...] | bytes) -> dict[str, str]:
        """Raises DecodeError."""
        if type(taken) is bytes:
            taken = self._spec.decode(taken).pick(_NUMBERS)
        return {name: str(value) for name, value in zip(_NAMES, taken, strict=True) if value is not None}

    def describe(self, frame: bytes) -> tuple[str, list[Row]]:
        """A title and all that a message says, masked, for somebody who looks into one payment. Raises DecodeError."""
        message = self._spec.decode(frame)
        return title(message), rows(message)


class ShownRecords(Protocol):
    """Of a marketing system's messages. They carry no card data, so one is kept as it is until somebody asks."""

    def take(self, frame: bytes, /) -> bytes: ...

    def tell(self, taken: bytes, /) -> dict[str, str]:
        """Raises ValueError or SwitchError."""
        ...


class Records:
    """Of JSON objects."""

    def take(self, frame: bytes) -> bytes:
        return frame

    def tell(self, taken: bytes) -> dict[str, str]:
        """Raises ValueError."""
        found: dict[str, Any] = orjson.loads(taken)
        return {key: str(found[key])[:40] for key in _KEYS if key in found}
