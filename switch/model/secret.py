"""Card data that cannot be printed: card number, track, PIN block, chip data.

A value goes in at the kiosk's dialect and comes out where a frame, a token or a ciphertext is made of it, by
``reveal()``. There is no other way out, so who sees card data is found by looking for that word;
``tests/arch/test_secrets.py`` holds the list of files that may say it. Every other way shows a mask or is refused:

    repr, str, format, f"", %s, logs, exceptions,        masked: these run in error paths, where a second error would
    tracebacks with locals, json.dumps(default=str)      hide the first one
    json, orjson, msgspec, pickle, bytes(), +, join,     refused, TypeError: nobody asks for these by accident of an
    hash, dict and set keys, labels of metrics           error path, and a mask would be stored as if it were the value
    copy, deepcopy, dataclasses.replace                  the very same object: it does not change, and nothing leaves it

``==`` takes as long for a near miss as for a far one. A core dump, a debugger and ``gc`` see memory, not types.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import Any, Final, Generic, Never, TypeVar

PAN_DIGITS_MIN: Final = 13
PAN_DIGITS_MAX: Final = 19

Clear = TypeVar("Clear", str, bytes)


class Secret(Generic[Clear]):
    """One value of card data. Subclasses say what it is."""

    __slots__ = ("_clear",)
    _clear: Clear

    def __init__(self, clear: Clear) -> None:
        self._clear = clear

    def reveal(self) -> Clear:
        """The value. Use it in an expression: a local variable would show up in tracebacks that print locals."""
        return self._clear

    def __str__(self) -> str:
        return f"<{type(self).__name__}>"

    def __repr__(self) -> str:
        return str(self)

    def __format__(self, specification: str) -> str:
        return format(str(self), specification)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return compare_digest(self._clear, other._clear)

    __hash__ = None  # type: ignore[assignment]  # a dict by card number is a store of card data: use the token

    def __copy__(self) -> Secret[Clear]:
        return self

    def __deepcopy__(self, memo: object) -> Secret[Clear]:
        return self

    def _refuse(self, *_: Any) -> Never:
        raise TypeError(
            f"{type(self).__name__}: card data is not pickled or stored; seal it, or store the card's token"
        )

    __reduce__ = __reduce_ex__ = __getstate__ = _refuse


class Pan(Secret[str]):
    """A card number: 13 to 19 digits. Shown as first six and last four."""

    __slots__ = ()

    def __init__(self, clear: str) -> None:
        """Raises ValueError, without the value."""
        if not (PAN_DIGITS_MIN <= len(clear) <= PAN_DIGITS_MAX and clear.isascii() and clear.isdigit()):
            clear = self._clear = ""  # nearly a card number is bad enough for a traceback that prints locals
            raise ValueError(f"a card number has {PAN_DIGITS_MIN} to {PAN_DIGITS_MAX} digits")
        self._clear = clear

    @property
    def masked(self) -> str:
        return f"{self._clear[:6]}{'*' * (len(self._clear) - 10)}{self._clear[-4:]}"

    def __str__(self) -> str:
        return self.masked


class Track(Secret[str]):
    """Track 2, with "=" between card number and expiry; it may be encrypted behind that."""

    __slots__ = ()

    @property
    def pan(self) -> Pan | None:
        """None: there is no separator, or no card number in front of it."""
        try:
            return Pan(self._clear[: max(0, self._separator)])
        except ValueError:
            return None

    @property
    def expiry(self) -> str | None:
        """YYMM. None: what follows the separator is no date, as in an encrypted track."""
        at = self._separator + 1
        return text if at and (text := self._clear[at : at + 4]).isdigit() and len(text) == 4 else None

    @property
    def has_separator(self) -> bool:
        return self._separator >= 0

    @property
    def _separator(self) -> int:
        return self._clear.find("=")


class PinBlock(Secret[bytes]):
    """8 or 16 bytes under a PIN key."""

    __slots__ = ()


class ChipData(Secret[bytes]):
    """BER-TLV of a chip (field 55): may hold card number (5A) and track 2 equivalent (57)."""

    __slots__ = ()
