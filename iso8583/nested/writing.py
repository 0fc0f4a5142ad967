"""Bytes out of trees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from iso8583.errors import ENCODE_CODES, DecodeError, EncodeError
from iso8583.nested._common import (
    ANY_OBJECTS,
    CODECS_MAX,
    CONSTRUCTED,
    Context,
    Look,
    Tree,
    TreeInput,
    codec_of,
    counted_codec,
    inside,
    layout_of,
    message_is,
    nowhere,
    number_of,
    rest_codec,
    shown,
    sub_called,
    tags_are_hexadecimal,
)
from iso8583.nested.reading import Place, Reader, decode_tree
from iso8583.spec import LENGTH_MAX, NESTING_MAX, Layout, SubSpec, Usage, ValueSpec

#: What is wrong with a value that its writer gave as a whole; "content" if it is not here.
_ENCODE_CODES_OF: Final = {"truncated": "length", "trailing": "length", "depth": "tlv"}


def encode_tree(layout: Layout, tree: TreeInput, *, path: str, mti: str = "", look: Look = nowhere) -> bytes:
    """The bytes of a tree: what :func:`decode_tree` was given, if that was canonical.

    Args:
        layout: What the value is made of.
        tree: Keys or names of sub-fields to values. Text, bytes, int for a numeric value of fixed length, a tree, a
            list where the sub-field may stand several times; of a tag with ``repeat`` also one value that is no list.
            Tags go out in the order of the mapping; they may also be given as (tag, value) pairs, one for each object.
            None leaves a sub-field out. A count in front of a list is filled in.
        path: Of the value, for errors.
        mti: Of the message, for sub-fields that mean different things in different messages.
        look: Likewise.

    Returns:
        The bytes that the sub-fields lie in; see :func:`inside`.

    Raises:
        EncodeError: With the path of the sub-field: undefined, duplicate, missing, type, tlv; or of its value.

    >>> encode_tree(Layout(kind="ber_tlv"), {"9F36": bytes(2), "71": {"86": b"x"}}, path="55").hex()
    '9f360200007103860178'
    """
    return _Writer(mti=mti, look=look).tree(layout, tree, path, 1)


def encode_field(spec: ValueSpec, tree: TreeInput, mti: str, look: Look, *, path: str) -> bytes:
    """The bytes of a tree whose layout the message decides about: the first that fits the tree and that a reader of
    these bytes would choose as well.

    Args:
        spec: A field or sub-field with a layout or usages.
        tree: As in :func:`encode_tree`.
        mti: Of the message.
        look: Gives the values that conditions ask for.
        path: Of the field, for errors.

    Raises:
        EncodeError: As :func:`encode_tree`; of the first layout in question, if none fits.
    """
    return _Writer(mti=mti, look=look).field(spec, tree, path, 1)


class _Writer(Context):
    __slots__ = ()

    def field(self, spec: ValueSpec, tree: Any, path: str, depth: int) -> bytes:
        usages: list[Usage | None] = [usage for usage in spec.usages if message_is(usage, self.mti, self.look_around)]
        first_error: EncodeError | None = None
        for usage in [*usages, None]:
            layout = spec.layout if usage is None else usage.layout
            if layout is None:
                continue
            try:
                data = self.tree(layout, tree, path, depth)
                _, chosen = layout_of(spec, self.mti, self.look_around, _flat(spec, data, path))
            except EncodeError as error:
                first_error = first_error or error
                continue
            if chosen is usage:
                return data
            first_error = first_error or EncodeError(
                "content", path, expected="a tree of the usage that its own first bytes and length say", got="another"
            )
        raise first_error or EncodeError("type", path, expected=_type_name(spec), got=type(tree).__name__)

    def tree(self, layout: Layout, tree: Any, path: str, depth: int) -> bytes:
        if depth > NESTING_MAX:
            raise EncodeError("tlv", path, f"more than {NESTING_MAX} levels of sub-fields")
        if layout.kind in ("ber_tlv", "tlv"):
            return self.tags(layout, tree, path, depth)
        if not isinstance(tree, Mapping):
            raise EncodeError("type", path, expected="a mapping of sub-fields", got=type(tree).__name__)
        given: Tree = {}
        for name, value in tree.items():
            sub = sub_called(layout, str(name)) if isinstance(name, (str, int)) else None
            if sub is None:
                raise EncodeError("undefined", f"{path}.{shown(name)}", "the spec has no such sub-field")
            if value is None:
                continue
            if sub.key in given:
                raise EncodeError("duplicate", f"{path}.{sub.key}", "given twice, by key and by name")
            given[sub.key] = value
        if layout.kind == "bitmap":
            return self.bits(layout, given, path, depth)
        return self.positions(layout, given, path, depth)

    def positions(self, layout: Layout, given: Tree, path: str, depth: int) -> bytes:
        parts = []
        left_out = ""
        for sub in layout.subs:
            at = f"{path}.{sub.key}"
            value = given.get(sub.key)
            for other in layout.subs:
                if other.times == sub.key:
                    value = self.count(sub, value, given.get(other.key), at)
            if value is None and sub.times is not None:
                value = []
            if value is None:
                if not sub.optional:
                    raise EncodeError("missing", at, f"{sub.name or 'this sub-field'} must be there")
                left_out = left_out or at
                continue
            if left_out and value != []:
                raise EncodeError("missing", left_out, f"must be there, because {at} is")
            if sub.times is None:
                part = self.value(sub, value, at, depth)
                if any(other.usages for other in layout.subs):
                    self.remember(layout, path, sub, codec_of(sub).read(part, 0, len(part), at, 0)[0])
                parts.append(part)
            else:
                parts += [self.value(sub, each, f"{at}[{i}]", depth) for i, each in enumerate(_listed(value, at), 1)]
        return b"".join(parts)

    def count(self, sub: SubSpec, value: Any, counted: Any, path: str) -> Any:
        """What stands in front of a list and counts it."""
        if counted is None and value is None:
            return None
        count = 0 if counted is None else len(_listed(counted, path))
        if value is None:
            return count if sub.type is str else None
        if number_of(value) != count:
            raise EncodeError("length", path, expected=f"the number of what follows, {count}", got="another")
        return value

    def bits(self, layout: Layout, given: Tree, path: str, depth: int) -> bytes:
        present = sorted(int(key) for key in given)
        size = layout.bitmap_size
        bitmap = sum(1 << (size * 8 - bit) for bit in present).to_bytes(size, "big")
        parts = [bitmap if layout.bitmap == "binary" else bitmap.hex().upper().encode("ascii")]
        for bit in present:
            parts.append(self.value(layout.by_key[str(bit)], given[str(bit)], f"{path}.{bit}", depth))
        return b"".join(parts)

    def tags(self, layout: Layout, tree: Any, path: str, depth: int) -> bytes:
        parts = []
        seen: dict[str, int] = {}
        for name, each, single in _pairs(tree, path):
            sub = sub_called(layout, name) if isinstance(name, str) else None
            key = sub.key if sub is not None else _unknown_tag(layout, name, path)
            at = f"{path}.{shown(key)}"
            repeats = sub is not None and sub.repeat
            for value in each if repeats and not single and isinstance(each, (list, tuple)) else [each]:
                if value is None:
                    continue
                seen[key] = seen.get(key, 0) + 1
                if seen[key] > 1 and not repeats:
                    raise EncodeError("duplicate", at, expected="this tag once", got="a second object with it")
                content = self.object(layout, key, sub, value, f"{at}[{seen[key]}]" if repeats else at, depth)
                parts.append(_joined(layout, key, content, at))
        return b"".join(parts)

    def object(self, layout: Layout, key: str, sub: SubSpec | None, value: Any, path: str, depth: int) -> bytes:
        """The value of one object."""
        if sub is not None:
            return self.value(sub, value, path, depth)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        template = layout.kind == "ber_tlv" and bytes.fromhex(key)[0] & CONSTRUCTED != 0
        if template and _is_tree(value):
            return self.tree(ANY_OBJECTS, value, path, depth + 1)
        wanted = "bytes, or the objects of this template" if template else "bytes"
        raise EncodeError("type", path, expected=wanted, got=type(value).__name__)

    def value(self, sub: SubSpec, value: Any, path: str, depth: int) -> bytes:
        """One sub-field as transmitted."""
        if sub.layout is None and not sub.usages:
            return codec_of(sub).write(value, path)
        if _is_tree(value):
            return codec_of(sub).write(_flat(sub, self.field(sub, value, path, depth + 1), path), path)
        encoded = codec_of(sub).write(value, path)
        self.check(sub, encoded, path, depth)
        return encoded

    def check(self, sub: SubSpec, encoded: bytes, path: str, depth: int) -> None:
        """What comes as one value is as strictly looked at as what comes as a tree."""
        value, _ = codec_of(sub).read(encoded, 0, len(encoded), path, 0)
        layout, _ = layout_of(sub, self.mti, self.look_around, value)
        if layout is None:
            return
        data, base, step = inside(sub, value, encoded, 0)
        reader = Reader(mti=self.mti, look=self.look_around)
        try:
            reader.tree(layout, Place(data, path, base, step, depth + 1))
        except DecodeError as error:
            code = error.code if error.code in ENCODE_CODES else _ENCODE_CODES_OF.get(error.code, "content")
            fault = EncodeError(code, error.path, error.detail, expected=error.expected, got=error.got)
        else:
            return
        raise fault


def _is_tree(value: Any) -> bool:
    return isinstance(value, (Mapping, list, tuple))


def _pairs(tree: Any, path: str) -> Iterator[tuple[Any, Any, bool]]:
    """(tag, value, whether it is the value of one object and not a list of them)."""
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield name, value, False
        return
    if not isinstance(tree, (list, tuple)):
        raise EncodeError("type", path, expected="a mapping, or pairs of tag and value", got=type(tree).__name__)
    for pair in tree:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise EncodeError("type", path, expected="pairs of tag and value", got=type(pair).__name__)
        yield pair[0], pair[1], True


def _listed(value: Any, path: str) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise EncodeError("type", path, expected="a list: it may stand there several times", got=type(value).__name__)
    return value


def _unknown_tag(layout: Layout, name: object, path: str) -> str:
    """The key of a tag that the layout does not know."""
    if not isinstance(name, str):
        raise EncodeError("type", path, expected="tags as str", got=type(name).__name__)
    at = f"{path}.{shown(name)}"
    if layout.unknown == "refuse":
        raise EncodeError("undefined", at, "the spec has no such tag")
    key = name.upper() if tags_are_hexadecimal(layout) else name
    if layout.kind == "ber_tlv":
        sound = _is_ber_tag(key)
    else:
        raw = _tag_write(layout, key)
        sound = raw is not None and len(raw) == layout.tag_size
    if not sound:
        raise EncodeError("tlv", at, expected="a tag of this layout, or a name in the spec", got="neither")
    return key


@lru_cache(maxsize=CODECS_MAX)
def _is_ber_tag(key: str) -> bool:
    """In front of a length of 0 it is an object, and is called so: bytes.fromhex() also reads "9F 36"."""
    try:
        return list(decode_tree(ANY_OBJECTS, bytes.fromhex(key) + b"\0", path="", base=0)) == [key]
    except (ValueError, DecodeError):
        return False


def _joined(layout: Layout, key: str, content: bytes, path: str) -> bytes:
    """One object: tag, length, value."""
    tag = _tag_write(layout, key)
    assert tag is not None
    if layout.kind == "tlv":
        return tag + (
            content if layout.value_prefix is None else counted_codec(layout.value_prefix).write(content, path)
        )
    size = len(content)
    if size > LENGTH_MAX:
        raise EncodeError("length", path, expected=f"at most {LENGTH_MAX} bytes", got=str(size))
    if size < 0x80:
        return tag + bytes([size]) + content
    return tag + (b"\x81" + bytes([size]) if size < 0x100 else b"\x82" + size.to_bytes(2, "big")) + content


def _tag_write(layout: Layout, key: str) -> bytes | None:
    try:
        if tags_are_hexadecimal(layout):
            return bytes.fromhex(key)
        return rest_codec("ans", layout.tag_encoding).write(key, "")
    except (ValueError, EncodeError):
        return None


def _flat(spec: ValueSpec, data: bytes, path: str) -> str | bytes:
    """The value whose sub-fields lie in these bytes: the opposite of :func:`inside`."""
    if spec.type is bytes:
        return data
    if spec.packed:
        return data.decode("latin1")  # what is not a digit is refused with the field
    try:
        value, _ = rest_codec(spec.content, spec.encoding).read(data, 0, len(data), path, 0)
    except DecodeError as error:
        raise EncodeError(error.code, path, expected=error.expected, got="something else") from None
    return value


def _type_name(spec: ValueSpec) -> str:
    return "bytes" if spec.type is bytes else "str"
