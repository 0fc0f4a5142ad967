"""The pleasant side of a message: fields by number, name or path; decoded only when asked for.

spec = iso8583.load("unionpay_pos", header="tpdu+pos6")
message = spec.decode(data)
message["amount"], message[39], message["55.9F26"]
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

from iso8583 import masking, mti, specfile
from iso8583._native import Codec, Index, tlv_decode
from iso8583.errors import DecodeError, EncodeError, SpecError
from iso8583.spec import HEADERS, FieldSpec, HeaderLayout, Key, MessageSpec, Values

REPR_VALUE_MAX: Final = 64  # characters of one value in a repr


class Message(Index, Mapping[Key, Any]):
    """One decoded message: an immutable mapping of field numbers to values, bytes kept as they came.

    Keys are numbers (``message[4]``), names (``message["amount"]``) or paths into TLV fields (``message["55.9F26"]``,
    the first object with that tag). Iteration gives the numbers of the present fields, ascending, 0 for the MTI.
    ``repr`` is masked; ``to_dict`` and indexing are not.
    """

    __slots__ = ()

    @property
    def spec(self) -> Spec:
        return cast("Spec", self.codec)

    def reply(self, values: Values, *, header: bytes | None = None) -> bytes:
        """The response to this message.

        MTI + 10; the fields that the spec's ``[reply]`` table lists for this MTI are copied byte for byte if they are
        present; the header comes back with its TPDU addresses swapped.

        Args:
            values: What the response adds or changes, as in ``Spec.encode``; None leaves an echoed field out.
            header: Replaces the header, e.g. to set a processing requirement for the terminal.

        Raises:
            EncodeError: This is not a request [mti]; the spec has no entry for it [reply]; or as ``Spec.encode``.
        """
        response = mti.response(self.mti)
        original = f"{self.mti[:3]}{int(self.mti[3]) & ~1}"
        echoed = self.spec.replies.get(original)
        if echoed is None:
            raise EncodeError("reply", "mti", f"spec {self.spec.name} has no [reply] entry for {original}")
        changes: dict[Key, Any] = dict(values.items())
        if 0 not in changes and "mti" not in changes:
            changes[0] = response
        return self._echo(changes, self.spec.header.turned(self.header) if header is None else header, echoed)

    def mab(self) -> bytes:
        """The bytes that the MAC of this message covers, as transmitted.

        MTI, bitmap (its bit 64 set) and all fields in front of field 64; without header. With a secondary bitmap
        the MAC is field 128.

        Raises:
            DecodeError: The message carries no MAC [missing].
        """
        number = 128 if 128 in self else 64
        data = bytes(self)
        if number not in self:
            raise DecodeError("missing", str(self.spec.mac_number), len(data), "the message carries no MAC")
        offset, _ = self.span(number)
        return data[len(self.header) : offset]

    def masked(self, key: Key) -> str:
        """A field's value as people may see it; binary in hexadecimal."""
        number = self.spec.number_of(key)
        value = self[number]
        if number == 0:
            return cast(str, value)
        field = self.spec.fields[number]
        if isinstance(value, str):
            return masking.mask_text(field.sensitive, value)
        if field.tlv:
            objects = tlv_decode(value, str(number), 0)
            return " ".join(f"{tag}={masking.mask_tag(field.sensitive, tag, content)}" for tag, content in objects)
        return masking.mask_bytes(field.sensitive, value)

    def __repr__(self) -> str:
        parts = [f"<Message {self.mti} {self.spec.name}"]
        for number in self:
            if number:
                text = self.masked(number)
                if len(text) > REPR_VALUE_MAX:
                    text = f"{text[:REPR_VALUE_MAX]}..."
                parts.append(f"{number}={text!r}" if " " in text else f"{number}={text}")
        return " ".join(parts) + ">"


class Spec(Codec[Message]):
    """A wire format in use on links with a certain header: decodes and encodes.

    Immutable and safe to share between threads. Made by :func:`load`, or from a ``MessageSpec``.
    """

    def __init__(self, definition: MessageSpec, header: str = "none") -> None:
        layout = HEADERS.get(header)
        if layout is None:
            raise SpecError(definition.name, "header", f"no header {header!r}; expected one of {', '.join(HEADERS)}")
        super().__init__(definition, layout.size, Message)
        self.header: Final[HeaderLayout] = layout
        self.name: Final = definition.name
        self.fields: Final[Mapping[int, FieldSpec]] = definition.by_number
        self.replies: Final = dict(definition.reply)

    @property
    def mac_number(self) -> int:
        """Where the MAC goes: the last field of the spec's last bitmap."""
        return self.definition.field_max

    def field(self, key: Key) -> FieldSpec:
        """A field's definition by number or name.

        Raises:
            KeyError: The spec does not define it.
        """
        return self.fields[self.number_of(key)]

    def with_header(self, header: str) -> Spec:
        """The same format behind another header."""
        return self if header == self.header.name else Spec(self.definition, header)

    def __repr__(self) -> str:
        return f"<Spec {self.name}, {len(self.fields)} fields, header {self.header.name}>"


def load(name: str | Path, header: str = "none") -> Spec:
    """A spec, ready to decode and encode.

    Args:
        name: A bundled spec (``"unionpay_pos"``, ``"kiosk"``, ``"iso8583_1987_ascii"``; cached), or the path of a
            ``.toml`` file (read each time).
        header: What stands in front of the MTI on this link: ``"none"``, ``"tpdu"`` (5 bytes), ``"pos6"`` (6 bytes) or
            ``"tpdu+pos6"`` (11 bytes).

    Raises:
        SpecError: There is no such spec or header, or the file is wrong.
    """
    if isinstance(name, Path) or name.endswith(".toml"):
        return Spec(specfile.load_file(name), header)
    return _load_bundled(name, header)


@cache
def _load_bundled(name: str, header: str) -> Spec:
    return Spec(specfile.load_bundled(name), header)
