"""Trees out of bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from iso8583._native import ValueCodec
from iso8583.errors import DecodeError
from iso8583.nested._common import (
    ANY_OBJECTS,
    CONSTRUCTED,
    Context,
    Look,
    Tree,
    codec_of,
    counted_codec,
    inside,
    layout_of,
    nowhere,
    number_of,
    rest_codec,
    shown,
    sub_called,
    tags_are_hexadecimal,
)
from iso8583.spec import LENGTH_MAX, NESTING_MAX, Layout, SubSpec, ValueSpec

BER_TAG_MAX: Final = 4  # bytes

#: Faults of a value whose length is sound: what comes behind it can be found.
_LOCAL_FAULTS: Final = frozenset({"content", "text", "pad", "track"})

_UNREAD: Final = object()  # the value of a tag that nobody has asked for yet
_NONE_OF_IT: Final = object()  # a sub-field that stands there no times: an empty list
_FAULTY: Final = object()


def decode_tree(
    layout: Layout, data: bytes, *, path: str, base: int, step: int = 1, mti: str = "", look: Look = nowhere
) -> Tree:
    """The whole tree of a value.

    Args:
        layout: What the value is made of; see :func:`layout_of`.
        data: The bytes that the sub-fields lie in; see :func:`inside`.
        path: Of the value, for errors, e.g. ``"55"``.
        base: Where ``data`` lies in the message.
        step: Likewise.
        mti: Of the message, for sub-fields that mean different things in different messages.
        look: Likewise.

    Raises:
        DecodeError: The first fault, with the path of its sub-field: of a sub-field's value, as for fields; trailing,
            tlv, canonical, duplicate, undefined, bitmap, depth.

    >>> decode_tree(Layout(kind="ber_tlv"), bytes.fromhex("9F3602002A"), path="55", base=0)
    {'9F36': b'\\x00*'}
    """
    return Reader(mti=mti, look=look).tree(layout, _whole(data, path, base, step))


def check_tree(
    layout: Layout, data: bytes, *, path: str, base: int, step: int = 1, mti: str = "", look: Look = nowhere
) -> list[DecodeError]:
    """Everything that is wrong in a tree, the first fault first. Arguments as in :func:`decode_tree`.

    Behind a fault that leaves no way to find the next sub-field of a level, this level is not read further.
    """
    reader = Reader(mti=mti, look=look, faults=[])
    assert reader.faults is not None
    try:
        reader.tree(layout, _whole(data, path, base, step))
    except DecodeError as error:
        reader.faults.append(error)
    return reader.faults


def lookup(
    layout: Layout,
    data: bytes,
    parts: Sequence[str],
    *,
    path: str,
    base: int,
    step: int = 1,
    mti: str = "",
    look: Look = nowhere,
) -> Any:
    """One value of a tree. Nothing is read but what is needed to find it.

    Args:
        layout: As the other arguments, as in :func:`decode_tree`.
        parts: What comes behind ``path``: keys or names of sub-fields, e.g. ``["71", "9F18"]``. ``"86[2]"`` is the
            second of several; without a number all of them, as a list, or the only one where more parts follow.

    Returns:
        Text or bytes, also of a sub-field that has a layout itself.

    Raises:
        KeyError: The spec has no such sub-field, or the value has none.
        DecodeError: What is in front of it is wrong, or the value itself.
    """
    return Reader(mti=mti, look=look).find(layout, _whole(data, path, base, step), parts)


@dataclass(frozen=True, slots=True)
class Place:
    """Bytes that a layout is laid over."""

    data: bytes
    path: str
    base: int
    step: int
    depth: int  # 1: sub-fields of a field

    def at(self, offset: int) -> int:
        return self.base + self.step * offset


def _whole(data: bytes, path: str, base: int, step: int) -> Place:
    if len(data) > LENGTH_MAX:
        raise DecodeError("size", path, base, expected=f"at most {LENGTH_MAX} bytes", got=str(len(data)))
    return Place(data, path, base, step, 1)


class _Item(NamedTuple):
    """One sub-field that was found."""

    key: str
    sub: SubSpec | None  # None: a tag that the layout does not know
    path: str
    start: int  # of its tag or length prefix
    value_at: int  # behind tag and length; `start` where there is no tag
    following: int
    value: Any  # or _UNREAD, _NONE_OF_IT


@dataclass(slots=True, kw_only=True)
class Reader(Context):
    faults: list[DecodeError] | None = None  # None: the first fault is raised

    def note(self, code: str, path: str, offset: int, expected: str, got: str) -> None:
        self.note_error(DecodeError(code, path, offset, expected=expected, got=got))

    def note_error(self, error: DecodeError) -> None:
        if self.faults is None:
            raise error
        self.faults.append(error)

    def tree(self, layout: Layout, place: Place) -> Tree:
        tree: Tree = {}
        for item in self.items(layout, place):
            if item.value is _NONE_OF_IT:
                tree[item.key] = []
                continue
            value = self.opened(item, place)
            if value is _FAULTY:
                continue
            if item.sub is not None and _is_listed(item.sub):
                tree.setdefault(item.key, []).append(value)
            else:
                tree[item.key] = value
        return tree

    def find(self, layout: Layout, place: Place, parts: Sequence[str]) -> Any:
        part, *rest = parts
        name, index = _split_index(part)
        sub = sub_called(layout, name)
        key = sub.key if sub is not None else name.upper() if tags_are_hexadecimal(layout) else name
        if sub is None and layout.kind in ("positions", "bitmap"):
            raise KeyError(f"{place.path}.{part}")
        listed = sub is not None and _is_listed(sub)
        found = []
        for item in self.items(layout, place):
            if item.key == key:
                found.append(item)
            # Tags are read to the end: a second one may be a fault.
            if found and item.value is not _UNREAD and (item.key != key or not listed):
                break
        if not found:
            raise KeyError(f"{place.path}.{part}")
        if found[0].value is _NONE_OF_IT:
            found = []
        if index is not None:
            if not listed or index > len(found):
                raise KeyError(f"{place.path}.{part}")
            found = [found[index - 1]]
        elif listed and not rest:
            return [self.flat(item, place) for item in found]
        if len(found) != 1:
            raise KeyError(f"{place.path}.{part}: there are {len(found)}; say which: {name}[1]")
        item = found[0]
        value = self.flat(item, place)
        if not rest:
            return value
        inner = self.inner(item, value, place)
        if inner is None and item.sub is None and layout.kind == "ber_tlv" and bytes.fromhex(key)[0] & CONSTRUCTED:
            # Whoever asks for an object of an unknown template says that it is one.
            inner = ANY_OBJECTS, self.within(item, place, value, item.value_at, 1)
        if inner is None:
            raise KeyError(f"{item.path}.{rest[0]}")
        return self.find(*inner, rest)

    # ---- values of sub-fields ----

    def flat(self, item: _Item, place: Place) -> Any:
        """The value without regard to what it is made of."""
        if item.value is not _UNREAD:
            return item.value
        value = place.data[item.value_at : item.following]
        if item.sub is None:
            return value
        if item.sub.fixed and len(value) != _size(item.sub):
            self.note("length", item.path, place.at(item.start), item.sub.expected(), f"{len(value)} bytes")
            return _FAULTY
        try:
            read, end = codec_of(item.sub).read(value, 0, len(value), item.path, place.at(item.start))
        except DecodeError as error:
            self.note_error(error)
            return _FAULTY
        if end != len(value):
            self.note("length", item.path, place.at(item.start), item.sub.expected(), f"{len(value)} bytes")
            return _FAULTY
        return read

    def opened(self, item: _Item, place: Place) -> Any:
        """The value, as a tree if it is one.

        A tag that the layout does not know is kept as bytes, even if it says that it is a template and its value looks
        like objects: a guess would make the type of the value depend on what the peer sends.
        """
        value = self.flat(item, place)
        inner = None if value is _FAULTY else self.inner(item, value, place)
        return value if inner is None else self.tree(*inner)

    def inner(self, item: _Item, value: Any, place: Place) -> tuple[Layout, Place] | None:
        if item.sub is None or (item.sub.layout is None and not item.sub.usages):
            return None
        layout, _ = layout_of(item.sub, self.mti, self.look_around, value)
        if layout is None:
            return None
        encoded = place.data[item.value_at : item.following]
        return layout, self.within(item, place, *inside(item.sub, value, encoded, item.value_at))

    def within(self, item: _Item, place: Place, data: bytes, start: int, step: int) -> Place:
        return Place(data, item.path, place.at(start), place.step * step, place.depth + 1)

    # ---- finding sub-fields ----

    def items(self, layout: Layout, place: Place) -> Iterator[_Item]:
        if place.depth > NESTING_MAX:
            self.note("depth", place.path, place.at(0), f"at most {NESTING_MAX} levels of sub-fields", "more")
            return iter(())
        if layout.kind == "positions":
            return self.positions(layout, place)
        if layout.kind == "bitmap":
            return self.bits(layout, place)
        return self.tags(layout, place)

    def positions(self, layout: Layout, place: Place) -> Iterator[_Item]:
        end = len(place.data)
        offset = 0
        found: dict[str, _Item] = {}
        for sub in layout.subs:
            path = f"{place.path}.{sub.key}"
            if sub.times is None:
                if sub.optional and offset == end:
                    return
                count = 1
            elif sub.times == "rest":
                count = end - offset  # more than there can be
            else:
                counter = found.get(sub.times)
                if counter is None:
                    return  # it was faulty
                number = number_of(counter.value)
                if number is None:
                    self.note("content", counter.path, place.at(counter.start), "a number", "something else")
                    return
                count = number
            if count == 0:
                if not (sub.optional and offset == end):
                    yield _Item(sub.key, sub, path, offset, offset, offset, _NONE_OF_IT)
                continue
            for index in range(1, count + 1):
                at = path if sub.times is None else f"{path}[{index}]"
                if sub.times is not None and offset == end:
                    if sub.times != "rest":
                        self.note("truncated", at, place.at(offset), f"{count} of them", f"{index - 1}")
                        return
                    break
                item = self.in_place(sub, at, place, offset)
                if item is None:
                    return
                if sub.times is not None and item.following == offset:
                    # Or a count of billions would keep us here.
                    self.note("length", at, place.at(offset), "at least one byte", "none")
                    return
                offset = item.following
                if item.value is not _FAULTY:
                    found[sub.key] = item
                    self.remember(layout, place.path, sub, item.value)
                    yield item
        self.note_rest(place, offset)

    def bits(self, layout: Layout, place: Place) -> Iterator[_Item]:
        each = 8 if layout.bitmap == "binary" else 4  # bits a byte
        offset = layout.bitmap_size * 8 // each
        raw = place.data[:offset]
        if len(raw) < offset:
            self.note("truncated", place.path, place.at(0), f"a bitmap of {offset} bytes", f"{len(raw)} bytes")
            return
        if layout.bitmap == "hex":
            try:
                raw = bytes.fromhex(raw.decode("ascii"))
            except ValueError:
                raw = b""
            if len(raw) != layout.bitmap_size:  # also if bytes.fromhex() has skipped a space
                self.note("bitmap", place.path, place.at(0), "a bitmap in hexadecimal characters", "something else")
                return
        present = [bit for bit in range(1, layout.bitmap_size * 8 + 1) if raw[(bit - 1) // 8] >> (8 - bit) % 8 & 1]
        for bit in present:
            if str(bit) not in layout.by_key:
                # Before any sub-field is read: later, a neighbour would be blamed for the loss of step.
                at = place.at((bit - 1) // each)
                self.note("undefined", f"{place.path}.{bit}", at, "bits that the spec defines", "another")
        for bit in present:
            sub = layout.by_key.get(str(bit))
            if sub is None:
                return
            item = self.in_place(sub, f"{place.path}.{bit}", place, offset)
            if item is None:
                return
            offset = item.following
            if item.value is not _FAULTY:
                self.remember(layout, place.path, sub, item.value)
                yield item
        self.note_rest(place, offset)

    def note_rest(self, place: Place, offset: int) -> None:
        left = len(place.data) - offset
        if left:
            self.note("trailing", place.path, place.at(offset), "the end of the value", f"{left} bytes more")

    def in_place(self, sub: SubSpec, path: str, place: Place, offset: int) -> _Item | None:
        """The sub-field at an offset; None if nobody knows where it ends."""
        data, end = place.data, len(place.data)
        value: Any
        try:
            if place.step == 1:
                value, following = codec_of(sub).read(data, offset, end, path, place.base)
            else:
                # Offsets in the message do not go up with those in the data.
                value, following = codec_of(sub).read(data[offset:], 0, end - offset, path, place.at(offset))
                following += offset
        except DecodeError as error:
            self.note_error(error)
            if error.code not in _LOCAL_FAULTS:
                return None
            value, following = _FAULTY, _following(sub, data, offset)
        return _Item(sub.key, sub, path, offset, offset, following, value)

    def tags(self, layout: Layout, place: Place) -> Iterator[_Item]:
        seen: dict[str, int] = {}
        objects = self.ber_objects(place) if layout.kind == "ber_tlv" else self.plain_objects(layout, place)
        for key, start, value_at, following in objects:
            sub = layout.by_key.get(key)
            repeats = sub is not None and sub.repeat
            seen[key] = seen.get(key, 0) + 1
            path = f"{place.path}.{shown(key)}" + (f"[{seen[key]}]" if repeats else "")
            if sub is None and layout.unknown == "refuse":
                self.note("undefined", path, place.at(start), "tags that the spec defines", "another")
            elif seen[key] > 1 and not repeats:
                self.note("duplicate", path, place.at(start), "this tag once", "a second object with it")
            else:
                yield _Item(key, sub, path, start, value_at, following, _UNREAD)

    def ber_objects(self, place: Place) -> Iterator[tuple[str, int, int, int]]:
        """(tag, start, offset of the value, offset behind it) of each object. EMV Book 3, annex B."""
        data, end = place.data, len(place.data)
        at = 0
        while at < end:
            if data[at] == 0:  # padding between objects
                at += 1
                continue
            start = at
            at += 1
            if data[start] & 0x1F == 0x1F:
                while at < end and data[at] & 0x80:
                    at += 1
                at += 1
            if at - start > BER_TAG_MAX:
                self.note("tlv", place.path, place.at(start), f"a tag of at most {BER_TAG_MAX} bytes", "a longer one")
                return
            if at >= end:
                self.note("tlv", place.path, place.at(start), "a whole BER-TLV object", "less")
                return
            tag = data[start:at].hex().upper()
            path = f"{place.path}.{tag}"
            size = data[at]
            at += 1
            if size >= 0x80:
                more = size - 0x80  # bytes of the length
                if more not in (1, 2):
                    self.note("tlv", path, place.at(start), "a length up to 7F, or 81, or 82", "another form")
                    return
                if end - at < more:
                    self.note("tlv", path, place.at(start), f"{more} bytes of length", f"{end - at} bytes")
                    return
                size = int.from_bytes(data[at : at + more], "big")
                at += more
                if size < (0x80 if more == 1 else 0x100):
                    self.note("canonical", path, place.at(start), "the shortest form of the length", "a longer one")
            if end - at < size:
                self.note("tlv", path, place.at(start), f"{size} bytes of value", f"{end - at} bytes")
                return
            yield tag, start, at, at + size
            at += size

    def plain_objects(self, layout: Layout, place: Place) -> Iterator[tuple[str, int, int, int]]:
        data, end = place.data, len(place.data)
        at = 0
        while at < end:
            start, at = at, at + layout.tag_size
            key = _tag_read(layout, data[start:at]) if at <= end else None
            if key is None:
                self.note("tlv", place.path, place.at(start), f"a tag of {layout.tag_size} bytes", "something else")
                return
            path = f"{place.path}.{shown(key)}"
            if layout.value_prefix is None:
                sub = layout.by_key.get(key)
                if sub is None:
                    self.note("undefined", path, place.at(start), "tags that the spec defines", "another")
                    return
                following = at + _size(sub)
                if following > end:
                    self.note("tlv", path, place.at(start), f"{_size(sub)} bytes of value", f"{end - at} bytes")
                    return
            else:
                try:
                    value, following = counted_codec(layout.value_prefix).read(data, at, end, path, 0)
                except DecodeError as error:
                    code = "tlv" if error.code == "truncated" else error.code
                    self.note(code, path, place.at(start), f"{layout.value_prefix} and as many bytes", "something else")
                    return
                at = following - len(value)
            yield key, start, at, following
            at = following


def _size(spec: ValueSpec) -> int:
    """Bytes of a value of fixed length."""
    length = spec.length_max
    if spec.packed:
        if spec.content == "xn":
            return 1 + length // 2
        return length if spec.length_unit == "bytes" else (length + 1) // 2
    if spec.encoding.startswith("hex"):
        return length * 2 if spec.length_unit == "bytes" else length
    return length // 2 if spec.length_unit == "nibbles" else length


def _following(sub: SubSpec, data: bytes, offset: int) -> int:
    """Where a value ends whose length is sound but whose content is not."""
    if sub.length_prefix is None:
        return offset + _size(sub) if sub.fixed else len(data)
    # Read again as something whose content is always sound.
    blind = replace(sub, layout=None, usages=(), sensitive=None, encrypted_when=None, pad_strict=False)
    if sub.packed:
        blind = replace(blind, content="z")
    else:
        blind = replace(blind, content="b", encoding="binary", length_unit="bytes")
    value, following = ValueCodec(blind).read(data, offset, len(data), "", 0)
    return following + (len(value) if sub.encoding.startswith("hex") and sub.length_unit == "bytes" else 0)


def _is_listed(sub: SubSpec) -> bool:
    return sub.repeat or sub.times is not None


def _tag_read(layout: Layout, raw: bytes) -> str | None:
    if layout.tag_encoding == "binary":
        return raw.hex().upper()
    try:
        text, _ = rest_codec("ans", layout.tag_encoding).read(raw, 0, len(raw), "", 0)
    except DecodeError:
        return None
    return str(text)


def _split_index(part: str) -> tuple[str, int | None]:
    """``"86[2]"`` is ("86", 2)."""
    name, bracket, index = part.rpartition("[")
    number = number_of(index[:-1]) if bracket and index.endswith("]") else None
    return (name, number) if number else (part, None)
