"""What can go wrong, as classes with stable codes.

    Iso8583Error
        DecodeError   the bytes do not follow the spec: the peer's doing, or the wrong spec
        EncodeError   a value does not fit its field: our own doing
        SpecError     a spec file contradicts itself
        FrameError    the byte stream cannot be cut into frames any more: close the connection

No message and no attribute ever holds field data: PANs, tracks and PIN blocks reach logs through
exceptions more easily than any other way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

#: Every ``DecodeError.code`` and what it says.
DECODE_CODES: Final[Mapping[str, str]] = {
    "truncated": "the input ends inside a field",
    "trailing": "bytes are left after the last field",
    "size": "the whole message is too large",
    "header": "what stands in front of the MTI is not what the header's layout says",
    "mti": "the MTI is not four digits",
    "bitmap": "a bitmap announces another that the spec does not have, or is not hexadecimal",
    "undefined": "a bit is set, or a tag is there, that the spec does not define",
    "prefix": "a length prefix is not made of the digits that it should be",
    "length": "a length is outside its bounds, or counts half a byte too many",
    "content": "a character or nibble that the field's content does not allow",
    "text": "not text in the field's encoding",
    "track": "track 2 that is neither a track nor said to be encrypted",
    "pad": "the pad nibble is not the one that the spec wants",
    "tlv": "not TLV, or an object that leaves its field",
    "canonical": "a BER-TLV length in a longer form than it needs",
    "duplicate": "a tag that may stand there once stands there again",
    "depth": "more levels of objects than anybody sends",
    "missing": "something that must be there is not",
}

#: Every ``EncodeError.code`` and what it says.
ENCODE_CODES: Final[Mapping[str, str]] = {
    "type": "a value of another Python type than the field takes",
    "undefined": "the spec, or this message type, has no such field",
    "duplicate": "a field or tag is given twice",
    "missing": "something that must be there is not",
    "mti": "the MTI is not four digits, or not that of a request",
    "length": "a length is outside its bounds",
    "content": "a character that the field's content does not allow",
    "text": "a character that the field's encoding does not have",
    "track": "not track 2",
    "tlv": "not a TLV tag, or objects nested too deep",
    "canonical": "BER-TLV bytes whose lengths are longer than they need to be",
    "header": "a header of another size than the layout's",
    "reply": "the spec does not say what a response to this message repeats",
    "size": "the whole message is too large",
}


def _place(path: str) -> str:
    # "mti", "bitmap", "header" and "message" are places, not fields.
    return f"field {path}" if path[:1].isdigit() else path


class Iso8583Error(Exception):
    """Base of everything that this library raises about messages, specs and frames.

    Attributes:
        code: Stable identifier for logs, metrics and tests, e.g. ``"length"``.
    """

    code: str


class DecodeError(Iso8583Error):
    """The bytes do not follow the spec.

    Attributes:
        code: Stable identifier; all of them are in ``DECODE_CODES``.
        path: The field, outermost first, e.g. ``"55.9F26"``; or ``"mti"``, ``"bitmap"``, ``"header"``, ``"message"``.
        field: The first part of ``path``, e.g. ``"55"``.
        offset: Bytes from the start of the given data (header included) to the start of that field; of a field inside
            a packed one, to the start of the outer one.
        detail: What is wrong there, for people: what was expected and what was found.
        expected: What the spec wants there, e.g. ``"0 to 19 digits"``.
        got: What was found: a length, a kind of character, a position. Never the data.
        message: The fields in front of the fault as a ``Message``; None if there is none, and after pickling.
        hint: The likely cause where the bytes tell it, e.g. ``"a TPDU seems to stand in front"``; else ``""``.

    The error remembers the data, or it could not say what is likely and what came before, but shows it only when asked
    by :meth:`unmask`: not in ``str``, ``repr``, ``args`` or a pickle.
    """

    def __init__(
        self, code: str, path: str, offset: int, detail: str = "", *, expected: str = "", got: str = "", hint: str = ""
    ) -> None:
        detail = detail or f"expected {expected}, got {got}"
        super().__init__(code, path, offset, detail)
        self.code = code
        self.path = path
        self.offset = offset
        self.detail = detail
        self.expected = expected
        self.got = got
        self._hint: str | None = hint or None
        self._source: ErrorSource | None = None

    @property
    def field(self) -> str:
        return self.path.partition(".")[0]

    @property
    def hint(self) -> str:
        # Found out when somebody looks: most errors on a busy line are only counted.
        if self._hint is None:
            self._hint = "" if self._source is None else self._source.likely_cause(self)
        return self._hint

    @property
    def message(self) -> Any:
        return None if self._source is None else self._source.message_so_far(self)

    def copy(self) -> DecodeError:
        """The same error as if it had never been raised; unlike ``copy.copy`` it remembers the data."""
        other = type(self)(self.code, self.path, self.offset, self.detail, expected=self.expected, got=self.got)
        other._hint = self._hint
        other._source = self._source
        return other

    def unmask(self) -> str:
        """The error with the bytes that it is about, in hexadecimal. For test data and for people who may see them."""
        shown = "" if self._source is None else self._source.bytes_around(self)
        return f"{self}\n{shown}" if shown else str(self)

    def __str__(self) -> str:
        hint = f"; {self.hint}" if self.hint else ""
        return f"{_place(self.path)} at byte {self.offset}: {self.detail}{hint} [{self.code}]"

    def __reduce__(self) -> tuple[Any, ...]:
        kept = {"expected": self.expected, "got": self.got, "_hint": self.hint}
        return type(self), (self.code, self.path, self.offset, self.detail), kept


class ErrorSource(Protocol):
    """What an error asks about the data that it must not show. Implemented next to the codec."""

    def likely_cause(self, error: DecodeError, /) -> str: ...
    def message_so_far(self, error: DecodeError, /) -> Any: ...
    def bytes_around(self, error: DecodeError, /) -> str: ...


class EncodeError(Iso8583Error):
    """A value does not fit its field.

    Attributes:
        code: Stable identifier; all of them are in ``ENCODE_CODES``.
        path: The field, as in :class:`DecodeError`.
        field: The first part of ``path``.
        detail: What is wrong, for people.
        expected: What the spec wants there.
        got: What was given: a type, a length, a position. Never the value.
    """

    def __init__(self, code: str, path: str, detail: str = "", *, expected: str = "", got: str = "") -> None:
        detail = detail or f"expected {expected}, got {got}"
        super().__init__(code, path, detail)
        self.code = code
        self.path = path
        self.detail = detail
        self.expected = expected
        self.got = got

    @property
    def field(self) -> str:
        return self.path.partition(".")[0]

    def __str__(self) -> str:
        return f"{_place(self.path)}: {self.detail} [{self.code}]"

    def __reduce__(self) -> tuple[Any, ...]:
        kept = {"expected": self.expected, "got": self.got}
        return type(self), (self.code, self.path, self.detail), kept


class SpecError(Iso8583Error):
    """A spec or code table is wrong.

    Attributes:
        source: The file, or the spec's name.
        key: Path of the key inside it, e.g. ``"field.35.length_prefix"``.
        detail: What was expected there.
    """

    def __init__(self, source: str, key: str, detail: str) -> None:
        super().__init__(source, key, detail)
        self.code = "spec"
        self.source = source
        self.key = key
        self.detail = detail

    def __str__(self) -> str:
        where = f"{self.source}: {self.key}" if self.key else self.source
        return f"{where}: {self.detail} [{self.code}]"


class FrameError(Iso8583Error):
    """The stream is out of step. On a connection nothing after this point can be trusted; a serial line goes on.

    Attributes:
        code: ``prefix``, ``empty``, ``too_long``, ``cut``; on serial lines, in ``Framer.last_discard`` only, also
            ``etx`` and ``lrc``.
        detail: What the frame announced and what was allowed: sizes only; it may end in a hint.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return f"frame: {self.detail} [{self.code}]"
