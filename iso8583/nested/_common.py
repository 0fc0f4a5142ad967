"""What reading and writing of trees share: which layout a value has, where its sub-fields lie, how each is coded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, TypeAlias

from iso8583._native import ValueCodec
from iso8583.spec import LENGTH_MAX, PREFIXES, Layout, SubSpec, Usage, ValueSpec, mti_matches, prefix_max

Tree: TypeAlias = dict[str, Any]
#: The value at a path of the message, or None. What conditions of usages ask.
Look: TypeAlias = Callable[[str], str | bytes | None]
#: What is written as a tree; see encode_tree. Not spelled out, as with ``spec.Values``: every value is checked.
TreeInput: TypeAlias = Mapping[Any, Any] | Sequence[Any]

CODECS_MAX: Final = 4096  # sub-fields of all specs in use
COUNT_DIGITS_MAX: Final = 9  # more count nothing that fits a message

CONSTRUCTED: Final = 0x20  # in the first byte of a BER tag: its value is objects
ANY_OBJECTS: Final = Layout(kind="ber_tlv")


# ---- which layout --------------------------------------------------------------------------------


def layout_of(spec: ValueSpec, mti: str, look: Look, value: str | bytes) -> tuple[Layout | None, Usage | None]:
    """What a value is made of in this message: the first usage whose condition holds, else the spec's own layout.

    Args:
        spec: A field or sub-field.
        mti: Of the message.
        look: Gives the values that conditions ask for.
        value: As decoded.

    >>> scripts = Layout(kind="ber_tlv")
    >>> icc = ValueSpec(name="icc", content="b", encoding="binary", length_min=0, length_max=9, length_prefix="bcd3",
    ...                 usages=(Usage(mti=("08xx",), starts=("31",), layout=scripts),))
    >>> layout_of(icc, "0810", lambda path: None, bytes.fromhex("319F0600"))[0] is scripts
    True
    >>> layout_of(icc, "0210", lambda path: None, bytes.fromhex("319F0600"))
    (None, None)
    """
    for usage in spec.usages:
        if (
            message_is(usage, mti, look)
            and (not usage.lengths or len(value) in usage.lengths)
            and (not usage.starts or any(_starts(value, start) for start in usage.starts))
        ):
            return usage.layout, usage
    return spec.layout, None


def message_is(usage: Usage, mti: str, look: Look) -> bool:
    """The conditions that do not depend on the value itself."""
    if usage.mti and not any(mti_matches(pattern, mti) for pattern in usage.mti):
        return False
    for path, wanted in usage.fields:
        found = look(path)
        if (found.hex().upper() if isinstance(found, bytes) else found) not in wanted:
            return False
    return True


def _starts(value: str | bytes, start: str) -> bool:
    if isinstance(value, bytes):
        return value[: len(start)].hex().upper().startswith(start.upper())
    return value.startswith(start)


def nowhere(path: str) -> None:
    """For trees that belong to no message."""


def inside(spec: ValueSpec, value: str | bytes, encoded: bytes, start: int) -> tuple[bytes, int, int]:
    """The bytes that the sub-fields of a value lie in, and where they are in the message.

    Args:
        spec: A field or sub-field.
        value: As decoded.
        encoded: As transmitted, length prefix included.
        start: Offset of ``encoded`` in the message.

    Returns:
        (bytes, base, step).

    >>> f60 = ValueSpec(name="f60", content="n", encoding="bcd_left", length_min=0, length_max=19, length_unit="digits",
    ...                 length_prefix="bcd3")
    >>> inside(f60, "22000001", bytes.fromhex("000822000001"), 50)
    (b'22000001', 50, 0)
    """
    if isinstance(value, str) and spec.packed:
        return value.encode("ascii"), start, 0
    prefix = 0 if spec.length_prefix is None else _prefix_size(spec.length_prefix)
    if isinstance(value, bytes) and spec.encoding.startswith("hex"):
        return value, start + prefix, 2
    return encoded[prefix:], start + prefix, 1


def _prefix_size(name: str) -> int:
    count, form = PREFIXES[name]
    return (count + 1) // 2 if form == "bcd" else count


@dataclass(slots=True, kw_only=True)
class Context:
    """What usages may ask."""

    mti: str
    look: Look
    known: dict[str, str | bytes] = field(default_factory=dict)  # by path: what this value has shown so far

    def look_around(self, path: str) -> str | bytes | None:
        found = self.known.get(path)
        return self.look(path) if found is None else found

    def remember(self, layout: Layout, path: str, sub: SubSpec, value: str | bytes) -> None:
        """For the usages of its neighbours: asking the message would read all this again."""
        if any(other.usages for other in layout.subs):
            self.known[f"{path}.{sub.key}"] = value
            if sub.name:
                self.known[f"{path}.{sub.name}"] = value


# ---- values and keys -----------------------------------------------------------------------------


@lru_cache(maxsize=CODECS_MAX)
def codec_of(spec: ValueSpec) -> ValueCodec:
    """What reads and writes a value without regard to what it is made of, which is looked at here."""
    return ValueCodec(replace(spec, layout=None, usages=(), sensitive=None))


@lru_cache(maxsize=CODECS_MAX)
def counted_codec(prefix: str) -> ValueCodec:
    """Bytes behind a prefix that counts them: the value of a tag."""
    most = prefix_max(prefix)
    spec = ValueSpec(name="value", content="b", encoding="binary", length_min=0, length_max=most, length_prefix=prefix)
    return ValueCodec(spec)


@lru_cache(maxsize=CODECS_MAX)
def rest_codec(content: str, encoding: str) -> ValueCodec:
    spec = SubSpec(key="1", name="", content=content, encoding=encoding, length_min=0, length_max=LENGTH_MAX)
    return ValueCodec(spec)


def number_of(value: Any) -> int | None:
    """A count, as it is decoded or given."""
    if isinstance(value, bytes):
        return int.from_bytes(value, "big")
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and len(value) <= COUNT_DIGITS_MAX else None
    return value if isinstance(value, int) else None


def tags_are_hexadecimal(layout: Layout) -> bool:
    return layout.kind == "ber_tlv" or (layout.kind == "tlv" and layout.tag_encoding == "binary")


def sub_called(layout: Layout, name: str) -> SubSpec | None:
    """A sub-field by its key or, in any case of letters, its name."""
    sub = layout.by_key.get(name)
    if sub is None and tags_are_hexadecimal(layout):
        sub = layout.by_key.get(name.upper())
    if sub is None and name:
        name = name.lower()
        sub = next((other for other in layout.subs if other.name == name), None)
    return sub


def shown(key: object) -> str:
    """A key as an error may show it. What is neither short nor a name may be a value in the wrong place."""
    text = str(key)
    return text if len(text) <= 8 or (len(text) <= 32 and text.isidentifier()) else "?"
