"""Specs at work, and the pleasant side of a message: what people and rare paths need, in Python.

The compiled part (``_native.codec``) has ``Message`` and the work of ``Spec``; it calls the functions of ``_Pleasant``
for everything that is not on the way of every message.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from iso8583 import hints, masking, nested, parts, specfile
from iso8583._native import Codec, Message, bind, message_so_far
from iso8583.errors import DecodeError
from iso8583.spec import FieldSpec, Key, MessageSpec

REPR_VALUE_MAX: Final = 64  # characters of one value in a repr


class Spec(Codec):
    """A wire format in use on links with a certain header: decodes and encodes.

    Immutable and safe to share between threads. Made by :func:`load`, by :func:`from_pyiso8583`, or from a
    ``MessageSpec``.

    Args:
        definition: The format.
        header: What stands in front of the MTI on this link, a key of ``spec.HEADERS``.

    Raises:
        SpecError: There is no such header.
    """

    def __init__(self, definition: MessageSpec, header: str = "none") -> None:
        super().__init__(definition, header)
        self.name: Final = definition.name
        self.fields: Final[Mapping[int, FieldSpec]] = definition.by_number

    @property
    def mac_number(self) -> int:
        """Where the MAC goes: the last field of the spec's last bitmap, but not beyond 128."""
        return min(self.definition.field_max, 128)

    def field(self, key: Key) -> FieldSpec:
        """A field's definition by number or name. Messages of some types may have another: see ``message.field``.

        Raises:
            KeyError: The spec does not define it.
        """
        return self.fields[self.number_of(key)]

    def with_header(self, header: str) -> Spec:
        """The same format behind another header."""
        return self if header == self.header.name else Spec(self.definition, header)

    def __repr__(self) -> str:
        return f"<Spec {self.name}, {len(self.fields)} fields, header {self.header.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Spec, (self.definition, self.header.name)


def load(name: str | Path, header: str = "none") -> Spec:
    """A spec, ready to decode and encode.

    Args:
        name: A bundled spec, e.g. ``"unionpay_pos"`` (cached), or the path of a file (read each time): our own
            ``.toml``, moov's ``.json`` or ``.yaml``, jPOS's ``.xml``.
        header: What stands in front of the MTI on this link: ``"none"``, ``"tpdu"`` (5 bytes), ``"pos6"`` (6),
            ``"tpdu+pos6"`` (11), ``"cups"`` (46) or ``"cupd"`` (41).

    Raises:
        SpecError: There is no such spec or header, or the file is wrong, or says what our specs cannot express.

    >>> load("unionpay_pos", header="tpdu+pos6")
    <Spec unionpay_pos, 39 fields, header tpdu+pos6>
    """
    suffix = Path(name).suffix.lower()
    if suffix == ".toml":
        return Spec(specfile.load_file(name), header)
    if suffix in (".json", ".yaml", ".yml", ".xml"):
        return Spec(_convert().load_file(Path(name)), header)
    if isinstance(name, Path):
        return Spec(specfile.load_file(name), header)
    return _load_bundled(name, header)


@cache
def _load_bundled(name: str, header: str) -> Spec:
    return Spec(specfile.load_bundled(name), header)


def from_pyiso8583(spec: Mapping[str, Any], name: str = "pyiso8583", header: str = "none") -> Spec:
    """A spec from a dict as pyiso8583 uses them.

    Args:
        spec: e.g. ``pyiso8583``'s ``specs.default``.
        name: What the result is called.
        header: As in :func:`load`; pyiso8583's own "h" must be empty.

    Raises:
        SpecError: The dict is wrong, or says what our specs cannot express; names every key.
    """
    return Spec(_convert().pyiso8583.read(spec, name), header)


def _convert() -> Any:
    # Not above: the formats of others cost more to import than all the rest, and few programs need them.
    return importlib.import_module("iso8583.convert")


# ---- what the compiled part calls ----------------------------------------------------------------


class _Source:
    """What an error asks about the data that it must not show; see ``errors.ErrorSource``."""

    __slots__ = ("_data", "_spec")

    def __init__(self, spec: Spec, data: bytes) -> None:
        self._spec = spec
        self._data = data

    def likely_cause(self, error: DecodeError, /) -> str:
        return hints.likely_cause(self._spec, self._data, error)

    def message_so_far(self, error: DecodeError, /) -> Message | None:
        return message_so_far(self._spec, self._data, error.offset)

    def bytes_around(self, error: DecodeError, /) -> str:
        return hints.bytes_around(self._data, error)


class _Pleasant:
    source = _Source

    @staticmethod
    def rebuild(spec: Spec, data: bytes, strict: bool) -> Message:
        return spec.decode(data, strict=strict)

    @staticmethod
    def copies(findings: tuple[DecodeError, ...]) -> tuple[DecodeError, ...]:
        # A message is nothing that the garbage collector looks at, so an error that is raised must not be its own.
        return tuple(finding.copy() for finding in findings)

    @staticmethod
    def mab(message: Message) -> bytes:
        number = 128 if 128 in message else 64
        data = bytes(message)
        if number not in message:
            raise DecodeError(
                "missing", str(message.spec.mac_number), len(data), "the message carries no MAC",
                expected="a MAC", got="none",
            )  # fmt: skip
        offset, _ = message.span(number)
        return data[len(message.header) : offset]

    @staticmethod
    def masked(message: Message, key: Key) -> str:
        number = message.spec.number_of(key)
        value = message[number]
        if number == 0:
            return str(value) if parts.is_message(message) else masking.hidden_value(value)
        return _masked(message, number, parts.may_have_moved(message))

    @staticmethod
    def represent(message: Message) -> str:
        if not parts.is_message(message):
            return f"<Message {message.spec.name}, {len(bytes(message))} bytes that are not a message>"
        moved = parts.may_have_moved(message)
        shown = [f"<Message {message.mti} {message.spec.name}"]
        for number in message:
            if number:
                text = _masked(message, number, moved)
                if len(text) > REPR_VALUE_MAX:
                    text = f"{text[:REPR_VALUE_MAX]}..."
                shown.append(f"{number}={text!r}" if " " in text else f"{number}={text}")
        return " ".join(shown) + ">"

    # ---- sub-fields: where they lie in a message is known in `parts`, what they mean in `nested` ----

    @staticmethod
    def tree(message: Message, number: int, value: Any) -> Any:
        layout, _, data, where = parts.inside_of(message, number, value)
        return value if layout is None else nested.decode_tree(layout, data, **where)

    @staticmethod
    def by_path(message: Message, number: int, path: str, rest: str) -> Any:
        layout, _, data, where = parts.inside_of(message, number, message[number])
        if layout is None:
            raise KeyError(path)
        try:
            return nested.lookup(layout, data, rest.split("."), **where)
        except KeyError:
            raise KeyError(path) from None

    @staticmethod
    def check_trees(message: Message, findings: Sequence[DecodeError]) -> list[DecodeError]:
        """What is wrong inside the fields that are sound as a whole."""
        faulty = {finding.field for finding in findings}
        found: list[DecodeError] = []
        for number in message:
            if number and str(number) not in faulty:
                layout, _, data, where = parts.inside_of(message, number, message[number])
                if layout is not None:
                    found.extend(nested.check_tree(layout, data, **where))
        for finding in found:
            finding._source = _Source(message.spec, bytes(message))
        return found

    @staticmethod
    def encode_tree(spec: Spec, field: FieldSpec, value: Any, values: Mapping[Any, Any], mti: str) -> bytes:
        def look(path: str) -> Any:
            return _look_in_values(spec, values, mti, path)

        return nested.encode_field(field, value, mti, look, path=str(field.number))


def _masked(message: Message, number: int, moved: bool) -> str:
    if moved:  # all is hidden, and no sub-field needs to be read
        return masking.hidden_value(message[number])
    part = parts.part_of(message, number)
    if part.parts and message.field(number).tlv:
        return " ".join(f"{sub.key}={sub.shown()}" for sub in part.parts)
    return part.shown()


def _look_in_values(spec: Spec, values: Mapping[Any, Any], mti: str, path: str) -> Any:
    """The value at a path of a message that is being made."""
    head, _, rest = path.partition(".")
    number = spec.number_of(head)
    if number == 0:
        return mti
    definitions = spec.definition.fields_of(spec.definition.variant_for(mti))
    if number not in definitions:
        return None
    field = definitions[number]
    value = values.get(number, values.get(field.name))
    if value is None or not rest:
        return value
    layout = field.layout
    if layout is None or field.usages:
        return None
    try:
        if isinstance(value, Mapping):
            value = nested.encode_tree(layout, value, path=head, mti=mti)
        elif isinstance(value, str):
            value = value.encode("latin-1")
        return nested.lookup(layout, bytes(value), rest.split("."), path=head, base=0, mti=mti)
    except (KeyError, DecodeError, ValueError, TypeError):
        return None


bind(_Pleasant)
