"""What a message is made of, and what of it may be seen: the one judge for ``repr``, tables, differences and dumps.

Every sub-field is judged on its own: a field that nobody marked may hold one that is marked, and the same field means
different things in different messages. Where a fault may have moved the fields, what is called a field may hold digits
of another one's PAN, and no value may be seen at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from iso8583 import codes, hints, masking, nested
from iso8583._native import Message
from iso8583.errors import DecodeError
from iso8583.masking import OPEN_KINDS
from iso8583.spec import FieldSpec, Layout, Usage, ValueSpec

#: Faults that leave every field in its place.
LOCAL_CODES: Final = frozenset({"content", "text", "track", "pad", "tlv", "canonical", "duplicate", "depth"})


# ---- messages that cannot be trusted -------------------------------------------------------------


def may_have_moved(message: Message) -> bool:
    """Fields may not lie where they should.

    True for what is known of a message that stopped at an error, whatever the error: a length that was misread further
    in front is often noticed only by what it makes of the content of a later field.

    >>> from iso8583 import load
    >>> data = bytes.fromhex("0800 0020000000000000 00000A")
    >>> may_have_moved(load("unionpay_pos").decode(data, strict=False))  # a wrong digit
    False
    >>> may_have_moved(load("unionpay_pos").decode(data + data, strict=False))
    True
    """
    if message.sound:
        return False
    findings: tuple[DecodeError, ...] = message.findings
    return not findings or any(finding.code not in LOCAL_CODES for finding in findings)


def is_message(message: Message) -> bool:
    """What stands at the start is a header and an MTI.

    If not, the numbers of the fields must not be seen either: they are the bits of whatever stands there.
    """
    return not may_have_moved(message) or hints.is_in_use(message.mti)


# ---- what a field is made of ---------------------------------------------------------------------


class Inside(NamedTuple):
    """The sub-fields of one field of a message: what `nested` wants to know.

    Attributes:
        layout: None: none are known, and the rest means nothing.
        usage: What the field is in this message, if the spec has several uses for it.
        data: The bytes that the sub-fields lie in.
        where: Further arguments for the functions of `nested`.
    """

    layout: Layout | None
    usage: Usage | None
    data: bytes
    where: dict[str, Any]


_NOTHING_INSIDE: Final = Inside(None, None, b"", {})


def inside_of(message: Message, number: int, value: str | bytes) -> Inside:
    """Where the sub-fields of a field lie; ``value`` is the field's."""
    field: FieldSpec = message.field(number)
    if field.layout is None and not field.usages:
        return _NOTHING_INSIDE

    def look(path: str) -> Any:
        # A usage may ask for a part of another field, whose layout may depend on a third; never in a circle, because
        # only fields without usages are looked into.
        head, _, rest = path.partition(".")
        try:
            return None if rest and message.field(head).usages else message.get(path)
        except (DecodeError, KeyError):
            return None

    layout, usage = nested.layout_of(field, message.mti, look, value)
    if layout is None:
        return Inside(None, usage, b"", {})
    start, size = message.span(number)
    data, base, step = nested.inside(field, value, bytes(message)[start : start + size], start)
    where = {"path": str(number), "base": base, "step": step, "mti": message.mti, "look": look}
    return Inside(layout, usage, data, where)


@dataclass(frozen=True, slots=True)
class Part:
    """A field, or a sub-field of one.

    Attributes:
        path: ``"55"``, ``"55.9F26"``, ``"62.3[1]"``.
        key: The last step of the path, without a number in brackets.
        spec: None for a tag that the spec does not know.
        kind: What hides it: a key of ``masking.KINDS``, its field's if it has none itself.
        value: As decoded, without regard to sub-fields.
        parts: Its sub-fields; empty if it has none, or they cannot be read.
        label: Chinese.
        repeats: One of several with the same key.
        closed: It may hold bytes of another field: see :func:`may_have_moved`.
    """

    path: str
    key: str
    spec: ValueSpec | None
    kind: str | None
    value: str | bytes
    parts: tuple[Part, ...]
    label: str
    repeats: bool = False
    closed: bool = False

    @property
    def name(self) -> str:
        return self.spec.name if self.spec is not None else ""

    @property
    def hides(self) -> bool:
        """Something of it must not be seen."""
        if self.closed:
            return True
        if self.parts:
            return any(part.hides for part in self.parts)
        if self.kind == "icc":
            # A tag that nobody knows may be anything; and damage turns tags into others.
            return self.key in masking.TAGS or not (self.name or codes.emv_tag(self.key))
        return self.kind not in OPEN_KINDS

    def shown(self, *, unmask: bool = False) -> str:
        """The value as it may be seen."""
        if unmask or not self.hides:
            return printable(self.value if isinstance(self.value, str) else self.value.hex().upper())
        if self.parts or self.closed:
            return masking.hidden_value(self.value)
        if isinstance(self.value, str):
            return printable(masking.mask_text(self.kind, self.value))
        return masking.mask_bytes(self.kind, self.value)

    def opened(self, *, unmask: bool = False) -> tuple[Part, ...]:
        """Its sub-fields as far as they may be named: a tag is made of bytes, too."""
        return () if self.closed and not unmask else self.parts

    def meaning(self, *, unmask: bool = False) -> str:
        """What the code in it means; empty for what is hidden."""
        if self.hides and not unmask:
            return ""
        if self.spec is not None and self.spec.codes and isinstance(self.value, str):
            return codes.meaning(self.spec.codes, self.value)
        return ""

    def bits(self, *, unmask: bool = False) -> list[codes.Code]:
        """What the bits of an EMV object say."""
        if isinstance(self.value, str) or "." not in self.path or (self.hides and not unmask):
            return []
        return codes.explain_bits(self.key, self.value)


def parts_of(message: Message) -> list[Part]:
    """The fields of a message, in wire order, with everything inside them."""
    closed = may_have_moved(message)
    return [_field_part(message, number, closed) for number in message if number]


def part_of(message: Message, number: int) -> Part:
    """One of its fields. KeyError if it is absent."""
    return _field_part(message, number, may_have_moved(message))


def _field_part(message: Message, number: int, closed: bool) -> Part:
    value = message[number]
    path = str(number)
    field: FieldSpec = message.field(number)
    layout, usage, data, where = inside_of(message, number, value)
    kind = usage.sensitive if usage is not None and usage.sensitive else field.sensitive
    label = usage.label if usage is not None and usage.label else field.label
    parts: tuple[Part, ...] = ()
    if layout is not None:
        try:
            tree = nested.decode_tree(layout, data, **where)
        except DecodeError:
            tree = {}
        parts = tuple(_sub_parts(message, layout, tree, path, kind, where["look"], closed))
    return Part(path, path, field, kind if parts else _unread(field, kind), value, parts, label, closed=closed)


def _unread(spec: ValueSpec, kind: str | None) -> str | None:
    """What hides a value whose sub-fields are not known: they might be hidden, if one could tell them apart."""
    return "private" if kind in (*OPEN_KINDS, "icc") and _may_hide(spec, kind) else kind


def _may_hide(spec: ValueSpec, kind: str | None) -> bool:
    layouts = [(spec.layout, kind), *((usage.layout, usage.sensitive or kind) for usage in spec.usages)]
    for layout, inner in layouts:
        for sub in () if layout is None else layout.subs:
            if (sub.sensitive or inner) not in OPEN_KINDS or _may_hide(sub, sub.sensitive or inner):
                return True
        if layout is not None and inner not in OPEN_KINDS:
            return True
    return False


def _sub_parts(
    message: Message,
    layout: Layout,
    tree: nested.Tree,
    path: str,
    outer: str | None,
    look: nested.Look,
    closed: bool,
) -> Iterator[Part]:
    known: dict[str, Any] = {}

    def look_around(wanted: str) -> Any:
        return known.get(wanted) or look(wanted)

    for key, found in tree.items():
        sub = layout.by_key.get(key)
        values = found if isinstance(found, list) else [found]
        for index, (value, flat) in enumerate(zip(values, _flat(message, values, f"{path}.{key}"), strict=True), 1):
            at = f"{path}.{key}[{index}]" if isinstance(found, list) else f"{path}.{key}"
            known[at] = flat
            usage = None
            inner = None
            if sub is not None:
                if sub.name:
                    known[f"{path}.{sub.name}"] = flat
                inner, usage = nested.layout_of(sub, message.mti, look_around, flat)
            kind = (usage and usage.sensitive) or (sub and sub.sensitive) or outer
            label = (usage and usage.label) or (sub and sub.label) or ""
            parts: tuple[Part, ...] = ()
            if isinstance(value, dict) and inner is not None:
                parts = tuple(_sub_parts(message, inner, value, at, kind, look_around, closed))
            if sub is not None and not parts:
                kind = _unread(sub, kind)
            if not label and layout.kind == "ber_tlv" and (tag := codes.emv_tag(key)) is not None:
                label = str(tag)
            yield Part(at, key, sub, kind, flat, parts, label, isinstance(found, list), closed)


def _flat(message: Message, values: list[Any], path: str) -> list[Any]:
    """Values of one sub-field without regard to what they are made of."""
    if not any(isinstance(value, dict) for value in values):
        return values
    # All of several at once: each would read the field again.
    found = message.get(path, b"")
    return found if isinstance(found, list) else [found] * len(values)


# ---- for terminals -------------------------------------------------------------------------------


def printable(text: str) -> str:
    """A text without what a terminal would obey: control characters and marks of direction are written out.

    >>> printable("a\\x1b[2J")
    'a\\\\x1b[2J'
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
