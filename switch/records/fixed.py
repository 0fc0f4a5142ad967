"""Frames of fixed-width records: a header, then a head record and repeated rows, as a ``Spec`` says.

Every field has its width in bytes; texts are in the spec's character set, left-aligned and filled with spaces, and
amounts are whole fen. A record is cut into its fields by one ``struct`` call.

Strict both ways: a text is never cut short, a number never rounded, and what a peer sends is read only if every byte
has its place. Errors name the record, the field, the byte from the start of the frame, and what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from struct import Struct as Layout
from typing import Any, Final

from switch.errors import BadRequestError
from switch.records.spec import CODE, COUNT, DECIMAL, DIGITS, FEN, FLAG, SIGNED, TEXT, Field, Shape, Spec

Values = dict[str, Any]
NUMBER_END: Final = 10**12  # fen, kWh or pieces: twelve digits are what an amount has on every line
SHOWN_MAX: Final = 24  # bytes of a wrong value that an error shows

_DECIMAL: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")


# ---------------------------------------------------------------------------------------------------- one field
def _read_text(encoding: str) -> Callable[[bytes], str]:
    def read(raw: bytes) -> str:
        text = raw.rstrip(b" ").decode(encoding)
        if "\0" in text:
            raise ValueError
        return text

    return read


def _read_code(raw: bytes) -> str:
    text = raw.rstrip(b" ").decode("ascii")
    if not text.isprintable() or text.startswith(" "):
        raise ValueError
    return text


def _read_digits(raw: bytes) -> str:
    if not raw.isdigit():
        raise ValueError
    return raw.decode("ascii")


def _read_count(raw: bytes) -> int:
    digits = raw.strip(b" ")
    if not digits.isdigit():
        raise ValueError
    number = int(digits)
    if number >= NUMBER_END:
        raise ValueError
    return number


def _read_signed(raw: bytes) -> int:
    digits = raw.strip(b" ")
    return -_read_count(digits[1:]) if digits[:1] == b"-" and digits[1:2].isdigit() else _read_count(digits)


def _read_decimal(raw: bytes) -> str:
    text = raw.strip(b" ").decode("ascii")
    if not _DECIMAL.fullmatch(text):
        raise ValueError
    return text


def _read_flag(raw: bytes) -> bool:
    if raw not in (b"0", b"1"):
        raise ValueError
    return raw == b"1"


_EXPECTED: Final = {
    TEXT: "text",
    CODE: "printable ASCII",
    DIGITS: "digits",
    FEN: "a whole number of fen",
    COUNT: "a whole number",
    SIGNED: "a whole number, perhaps negative",
    DECIMAL: "a decimal number",
    FLAG: "0 or 1",
}
_READ: Final[dict[str, Callable[[bytes], Any]]] = {
    CODE: _read_code,
    DIGITS: _read_digits,
    FEN: _read_count,
    COUNT: _read_count,
    SIGNED: _read_signed,
    DECIMAL: _read_decimal,
    FLAG: _read_flag,
}


def _reader(field: Field, encoding: str) -> Callable[[bytes], Any]:
    read = _read_text(encoding) if field.type == TEXT else _READ[field.type]
    if field.checked:
        wanted = field.value

        def checked(raw: bytes) -> Any:
            found = read(raw)
            if str(found) != wanted:
                raise ValueError
            return found

        return checked
    if field.optional and field.type != TEXT:
        blank = 0 if field.type in (FEN, COUNT, SIGNED) else ""

        def optional(raw: bytes) -> Any:
            return read(raw) if raw.strip(b" ") else blank

        return optional
    return read


def _expected(field: Field, encoding: str) -> str:
    if field.checked:
        return f'"{field.value}"'
    if field.type == DIGITS:
        return f"{field.width} digits"
    return _EXPECTED[field.type] + (f" in {encoding}" if field.type == TEXT else "")


def _written(field: Field, value: Any, encoding: str) -> bytes:
    """Raises ValueError: what is wrong with it, without the value."""
    kind = field.type
    if kind in (FEN, COUNT, SIGNED):
        if type(value) is not int or value >= NUMBER_END or value <= -NUMBER_END or (value < 0 and kind != SIGNED):
            raise ValueError(f"expected {_EXPECTED[kind]}, below 10^12")
        raw = b"%d" % value
    elif kind == FLAG:
        if type(value) is not bool:
            raise ValueError("expected true or false")
        raw = b"1" if value else b"0"
    else:
        if type(value) is not str:
            raise ValueError("expected a text")
        try:
            raw = value.encode(encoding if kind == TEXT else "ascii")
        except UnicodeEncodeError:
            raise ValueError(f"has a character that {encoding if kind == TEXT else 'ASCII'} lacks") from None
        # What would not be read again as the same is not written either.
        if kind == DIGITS and not (raw.isdigit() and len(raw) == field.width):
            raise ValueError(f"expected {field.width} digits")
        if kind == DECIMAL and not _DECIMAL.fullmatch(value):
            raise ValueError(f"expected {_EXPECTED[kind]}")
        if (kind == CODE and not value.isprintable()) or "\0" in value:
            raise ValueError(f"expected {_expected(field, encoding)}")
        raw = raw.rstrip(b" ")
    if len(raw) > field.width:
        raise ValueError(f"{len(raw)} bytes; the field takes {field.width}")
    return raw.ljust(field.width)


def _writer(field: Field, encoding: str) -> Callable[[Any], bytes]:
    """The same as ``_written`` for one field, made ready; what it refuses ``_written`` explains."""
    width = field.width
    if field.type in (FEN, COUNT):

        def write(value: Any) -> bytes:
            if type(value) is not int or not 0 <= value < NUMBER_END:
                raise ValueError
            raw = b"%-*d" % (width, value)
            if len(raw) > width:
                raise ValueError
            return raw
    elif field.type == CODE:

        def write(value: Any) -> bytes:
            raw: bytes = value.encode("ascii")
            if len(raw) > width or not value.isprintable():
                raise ValueError
            return raw.ljust(width)
    elif field.type == DIGITS:

        def write(value: Any) -> bytes:
            raw: bytes = value.encode("ascii")
            if len(raw) != width or not raw.isdigit():
                raise ValueError
            return raw
    else:

        def write(value: Any) -> bytes:
            return _written(field, value, encoding)

    return write


# ---------------------------------------------------------------------------------------------------- one record
class Record:
    """A row of fields, made ready.

    Args:
        always: What fields carry in every record, by name. A field with a ``value`` of its own needs none.
    """

    def __init__(
        self, name: str, fields: Sequence[Field], encoding: str, always: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.fields = tuple(fields)
        self.size = sum(field.width for field in fields)
        self._encoding = encoding
        self._layout = Layout("".join(f"{field.width}s" for field in fields))
        self._names = tuple(field.name for field in fields)
        self._readers = tuple((field.name, _reader(field, encoding)) for field in fields)
        known = always or {}
        # Neighbours that never change are one piece.
        self._asked: list[Field] = []
        parts: list[bytes] = []  # in their order; b"" where a value goes
        for field in fields:
            value = known.get(field.name, field.value)
            if value is None:
                self._asked.append(field)
                parts.append(b"")
                continue
            piece = _literal(name, field, value, encoding)
            if parts and parts[-1]:
                parts[-1] += piece
            else:
                parts.append(piece)
        self._parts = parts
        places = [index for index, part in enumerate(parts) if not part]
        self._writers = tuple(
            (index, field.name, _writer(field, encoding)) for index, field in zip(places, self._asked, strict=True)
        )

    @property
    def asked(self) -> tuple[Field, ...]:
        """The fields that ``encode`` must be given."""
        return tuple(field for field in self._asked if not field.optional)

    def encode(self, values: Mapping[str, Any]) -> bytes:
        """Raises: BadRequestError ``bad_record``: a value is missing or does not fit; names the field."""
        pieces = self._parts.copy()
        try:
            for index, name, write in self._writers:
                pieces[index] = write(values[name])
        except (ValueError, TypeError, AttributeError, KeyError):
            return self._encode_slowly(values)
        return b"".join(pieces)

    def _encode_slowly(self, values: Mapping[str, Any]) -> bytes:
        """The same where a field may be left blank, or an error be told."""
        pieces = self._parts.copy()
        for (index, name, _), field in zip(self._writers, self._asked, strict=True):
            value = values.get(name)
            try:
                if value is not None:
                    pieces[index] = _written(field, value, self._encoding)
                elif field.optional:
                    pieces[index] = b" " * field.width
                else:
                    raise ValueError("missing; nothing gives it a value")
            except ValueError as error:
                raise BadRequestError("bad_record", f"{self.name}.{name}: {error}") from None
        return b"".join(pieces)

    def decode(self, data: bytes, offset: int, where: str = "") -> Values:
        """The values by name. ``data`` must reach to ``offset + size``.

        Raises: BadRequestError ``bad_record``: names record, field and byte.
        """
        raws = self._layout.unpack_from(data, offset)
        try:
            return {name: read(raw) for (name, read), raw in zip(self._readers, raws, strict=True)}
        except ValueError:
            raise self._fault(raws, offset, where or self.name) from None

    def _fault(self, raws: Iterable[bytes], offset: int, where: str) -> BadRequestError:
        for field, (_, read), raw in zip(self.fields, self._readers, raws, strict=True):
            try:
                read(raw)
            except ValueError:
                # Names and addresses are nobody's business; a wrong number is what one must see.
                got = "" if field.type == TEXT else f", got {raw[:SHOWN_MAX]!r}"
                expected = _expected(field, self._encoding)
                return BadRequestError("bad_record", f"{where}.{field.name} at byte {offset}: expected {expected}{got}")
            offset += field.width
        raise AssertionError("a record that fails has a field that fails")


def _literal(record: str, field: Field, value: str, encoding: str) -> bytes:
    typed: Any = value
    if field.type in (FEN, COUNT, SIGNED):
        typed = int(value)
    elif field.type == FLAG:
        typed = value == "1"
    elif field.type == DIGITS and not value:
        return b" " * field.width
    try:
        return _written(field, typed, encoding)
    except ValueError as error:
        raise BadRequestError("bad_record", f"{record}.{field.name}: {error}") from None


# ---------------------------------------------------------------------------------------------------- whole frames
class Body:
    """What follows the header: a head record, then rows."""

    def __init__(self, name: str, shape: Shape, spec: Spec, given: frozenset[str] | None) -> None:
        # None: whoever answers may give any of them, and constants are for what is not given.
        always = {} if given is None else {key: each for key, each in spec.constants.items() if key not in given}
        self._defaults = spec.constants if given is None else {}
        self._name = name
        self.head = Record(name, shape.head, spec.encoding, always)
        self.rows = Record(f"{name}.rows", shape.rows, spec.encoding, always) if shape.rows else None
        self._rows_max = shape.rows_max

    def encode(self, values: Mapping[str, Any]) -> bytes:
        head = self.head.encode({**self._defaults, **values} if self._defaults else values)
        if self.rows is None:
            return head
        rows = [{**self._defaults, **row} for row in values.get("rows", ())]
        if len(rows) > self._rows_max:
            raise BadRequestError("bad_record", f"{self._name}.rows: {len(rows)} rows; at most {self._rows_max}")
        return head + b"".join([self.rows.encode(row) for row in rows])

    def decode(self, frame: bytes, offset: int) -> Values:
        left = len(frame) - offset
        head, rows = self.head, self.rows
        if rows is None:
            if left != head.size:
                raise BadRequestError(
                    "bad_record", f"{self._name}: expected {head.size} bytes after the header, got {left}"
                )
            return head.decode(frame, offset)
        count, rest = divmod(left - head.size, rows.size)
        if rest or count < 0:
            raise BadRequestError(
                "bad_record",
                f"{self._name}: expected {head.size} bytes after the header and rows of {rows.size}, got {left}",
            )
        if count > self._rows_max:
            raise BadRequestError("bad_record", f"{self._name}.rows: {count} rows; at most {self._rows_max}")
        values = head.decode(frame, offset)
        offset += head.size
        values["rows"] = [
            rows.decode(frame, offset + index * rows.size, f"{self._name}.rows[{index}]") for index in range(count)
        ]
        return values


class FixedWire:
    """Requests and answers of one spec as bytes and back.

    Args:
        always: Header fields of every request, by name.
        given: Fields of a request, by operation, that the caller gives even where a constant has their name.
    """

    def __init__(
        self,
        spec: Spec,
        always: Mapping[str, str] | None = None,
        given: Mapping[str, frozenset[str]] | None = None,
    ) -> None:
        self.spec = spec
        self.header = Record("header", spec.header, spec.encoding)
        self._named = {name: each.code for name, each in spec.operations.items()}
        # By code; two names with one code ("echo" is a sign-on on some systems) are read as the first of them.
        self._by_code: dict[str, str] = {}
        self._headers: dict[tuple[str, str], Record] = {}
        self._bodies: dict[tuple[str, str], Body] = {}
        for name, operation in spec.operations.items():
            self._by_code.setdefault(operation.code, name)
            own = {"version": spec.wire_version, "code": operation.code, "business_id": operation.business}
            for side, packet, more in (("request", "0", always or {}), ("answer", "1", {})):
                carried = {**spec.constants, **own, **more, "packet_type": packet}
                header = Record("header", spec.header, spec.encoding, carried)
                self._headers[name, side] = header
                free = (given or {}).get(name, frozenset()) if side == "request" else None
                self._bodies[name, side] = Body(f"{name}.{side}", getattr(operation, side), spec, free)
        offset = 0
        self._version: slice | None = None
        for field in spec.header:
            if field.name == "version":
                self._version = slice(offset, offset + field.width)
            offset += field.width
        self._wanted_version = spec.wire_version.encode("ascii")

    def asked(self, op: str) -> tuple[str, ...]:
        """Names of the fields that ``request`` must be given a value for."""
        return tuple(
            field.name
            for part in (self._headers[op, "request"], self._bodies[op, "request"].head)
            for field in part.asked
        )

    def request(self, op: str, header: Mapping[str, Any], values: Mapping[str, Any]) -> bytes:
        """Raises: BadRequestError ``bad_record``: a value does not fit; names record and field."""
        return self._headers[op, "request"].encode(header) + self._bodies[op, "request"].encode(values)

    def answer(self, op: str, header: Mapping[str, Any], values: Mapping[str, Any] | None) -> bytes:
        """``values`` None: no body, as with an error. Raises as ``request``."""
        head = self._headers[op, "answer"].encode(header)
        return head if values is None else head + self._bodies[op, "answer"].encode(values)

    def read_header(self, frame: bytes) -> Values:
        """Raises: BadRequestError ``unreadable``: shorter than a header, or a field of it is wrong."""
        if len(frame) < self.header.size:
            raise BadRequestError(
                "unreadable", f"header: expected {self.header.size} bytes, the frame has {len(frame)}"
            )
        try:
            return self.header.decode(frame, 0)
        except BadRequestError as error:
            raise BadRequestError("unreadable", error.detail) from None

    def operation(self, code: str) -> str:
        """The name of an operation. Raises: BadRequestError ``unreadable``."""
        name = self._by_code.get(code)
        if name is None:
            raise BadRequestError("unreadable", f"header.code: {code!r} is no operation of {self.spec.title}")
        return name

    def body(self, op: str, side: str, frame: bytes) -> Values:
        """``side``: "request" or "answer". Raises: BadRequestError ``bad_record``."""
        return self._bodies[op, side].decode(frame, self.header.size)

    def is_ours(self, frame: bytes) -> bool:
        """Whether the frame says that it is of this version."""
        return self._version is not None and frame[self._version].rstrip(b" ") == self._wanted_version
