"""Values that are made of sub-fields: trees out of bytes, and bytes out of trees.

A tree is a dict in wire order. Its keys are those of the spec: positions and bits ("1", "2"), tags ("9F26", "AS"). Its
values are text, bytes, a tree where the sub-field has a layout itself, and a list where it may stand several times
(``times``, ``repeat``).

    positions   1 | 2 | 3                        sub-fields one after the other
    ber_tlv     tag length value | tag ...       BER-TLV objects
    tlv         tag [length] value | tag ...     the same with tags and lengths of a fixed number of characters
    bitmap      bitmap | 3 | 7                   sub-fields whose bit is set

A path names one of them: ``60.3``, ``60.batch``, ``55.71[2].9F18``. One of several is counted from 1, in brackets.

Where the bytes of a tree lie in the message is three numbers: ``base``, the offset of the first of them; ``step``, the
bytes of the message that each stands for: 1, in a hexadecimal field 2, and in a packed one, whose sub-fields lie in its
digits, 0. :func:`inside` works them out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

from iso8583._native import ValueCodec
from iso8583.errors import ENCODE_CODES, DecodeError, EncodeError
from iso8583.spec import LENGTH_MAX, NESTING_MAX, PREFIXES, Layout, SubSpec, Usage, ValueSpec, mti_matches, prefix_max

Tree: TypeAlias = dict[str, Any]
#: The value at a path of the message, or None. What conditions of usages ask.
Look: TypeAlias = Callable[[str], str | bytes | None]
#: What is written as a tree; see encode_tree. Not spelled out, as with ``spec.Values``: every value is checked.
TreeInput: TypeAlias = Mapping[Any, Any] | Sequence[Any]

CODECS_MAX: Final = 4096  # sub-fields of all specs in use

BER_TAG_MAX: Final = 4  # bytes
COUNT_DIGITS_MAX: Final = 9  # more count nothing that fits a message

_CONSTRUCTED: Final = 0x20  # in the first byte of a BER tag: its value is objects
_ANY_OBJECTS: Final = Layout(kind="ber_tlv")
#: Faults of a value whose length is sound: what comes behind it can be found.
_LOCAL_FAULTS: Final = frozenset({"content", "text", "pad", "track"})

#: What is wrong with a value that its writer gave as a whole; "content" if it is not here.
_ENCODE_CODES_OF: Final = {"truncated": "length", "trailing": "length", "depth": "tlv"}

_UNREAD: Final = object()  # the value of a tag that nobody has asked for yet
_NONE_OF_IT: Final = object()  # a sub-field that stands there no times: an empty list
_FAULTY: Final = object()


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
            _message_is(usage, mti, look)
            and (not usage.lengths or len(value) in usage.lengths)
            and (not usage.starts or any(_starts(value, start) for start in usage.starts))
        ):
            return usage.layout, usage
    return spec.layout, None


def _message_is(usage: Usage, mti: str, look: Look) -> bool:
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


def _nowhere(path: str) -> None:
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


@dataclass(slots=True, kw_only=True)
class _Message:
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


# ---- reading -------------------------------------------------------------------------------------


def decode_tree(
    layout: Layout, data: bytes, *, path: str, base: int, step: int = 1, mti: str = "", look: Look = _nowhere
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
    return _Reader(mti=mti, look=look).tree(layout, _whole(data, path, base, step))


def check_tree(
    layout: Layout, data: bytes, *, path: str, base: int, step: int = 1, mti: str = "", look: Look = _nowhere
) -> list[DecodeError]:
    """Everything that is wrong in a tree, the first fault first. Arguments as in :func:`decode_tree`.

    Behind a fault that leaves no way to find the next sub-field of a level, this level is not read further.
    """
    reader = _Reader(mti=mti, look=look, faults=[])
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
    look: Look = _nowhere,
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
    return _Reader(mti=mti, look=look).find(layout, _whole(data, path, base, step), parts)


@dataclass(frozen=True, slots=True)
class _Place:
    """Bytes that a layout is laid over."""

    data: bytes
    path: str
    base: int
    step: int
    depth: int  # 1: sub-fields of a field

    def at(self, offset: int) -> int:
        return self.base + self.step * offset


def _whole(data: bytes, path: str, base: int, step: int) -> _Place:
    if len(data) > LENGTH_MAX:
        raise DecodeError("size", path, base, expected=f"at most {LENGTH_MAX} bytes", got=str(len(data)))
    return _Place(data, path, base, step, 1)


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
class _Reader(_Message):
    faults: list[DecodeError] | None = None  # None: the first fault is raised

    def note(self, code: str, path: str, offset: int, expected: str, got: str) -> None:
        self.note_error(DecodeError(code, path, offset, expected=expected, got=got))

    def note_error(self, error: DecodeError) -> None:
        if self.faults is None:
            raise error
        self.faults.append(error)

    def tree(self, layout: Layout, place: _Place) -> Tree:
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

    def find(self, layout: Layout, place: _Place, parts: Sequence[str]) -> Any:
        part, *rest = parts
        name, index = _split_index(part)
        sub = _sub_called(layout, name)
        key = sub.key if sub is not None else name.upper() if _tags_are_hexadecimal(layout) else name
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
        if inner is None and item.sub is None and layout.kind == "ber_tlv" and bytes.fromhex(key)[0] & _CONSTRUCTED:
            # Whoever asks for an object of an unknown template says that it is one.
            inner = _ANY_OBJECTS, self.within(item, place, value, item.value_at, 1)
        if inner is None:
            raise KeyError(f"{item.path}.{rest[0]}")
        return self.find(*inner, rest)

    # ---- values of sub-fields ----

    def flat(self, item: _Item, place: _Place) -> Any:
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
            read, end = _codec(item.sub).read(value, 0, len(value), item.path, place.at(item.start))
        except DecodeError as error:
            self.note_error(error)
            return _FAULTY
        if end != len(value):
            self.note("length", item.path, place.at(item.start), item.sub.expected(), f"{len(value)} bytes")
            return _FAULTY
        return read

    def opened(self, item: _Item, place: _Place) -> Any:
        """The value, as a tree if it is one.

        A tag that the layout does not know is kept as bytes, even if it says that it is a template and its value looks
        like objects: a guess would make the type of the value depend on what the peer sends.
        """
        value = self.flat(item, place)
        inner = None if value is _FAULTY else self.inner(item, value, place)
        return value if inner is None else self.tree(*inner)

    def inner(self, item: _Item, value: Any, place: _Place) -> tuple[Layout, _Place] | None:
        if item.sub is None or (item.sub.layout is None and not item.sub.usages):
            return None
        layout, _ = layout_of(item.sub, self.mti, self.look_around, value)
        if layout is None:
            return None
        encoded = place.data[item.value_at : item.following]
        return layout, self.within(item, place, *inside(item.sub, value, encoded, item.value_at))

    def within(self, item: _Item, place: _Place, data: bytes, start: int, step: int) -> _Place:
        return _Place(data, item.path, place.at(start), place.step * step, place.depth + 1)

    # ---- finding sub-fields ----

    def items(self, layout: Layout, place: _Place) -> Iterator[_Item]:
        if place.depth > NESTING_MAX:
            self.note("depth", place.path, place.at(0), f"at most {NESTING_MAX} levels of sub-fields", "more")
            return iter(())
        if layout.kind == "positions":
            return self.positions(layout, place)
        if layout.kind == "bitmap":
            return self.bits(layout, place)
        return self.tags(layout, place)

    def positions(self, layout: Layout, place: _Place) -> Iterator[_Item]:
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
                number = _number(counter.value)
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

    def bits(self, layout: Layout, place: _Place) -> Iterator[_Item]:
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

    def note_rest(self, place: _Place, offset: int) -> None:
        left = len(place.data) - offset
        if left:
            self.note("trailing", place.path, place.at(offset), "the end of the value", f"{left} bytes more")

    def in_place(self, sub: SubSpec, path: str, place: _Place, offset: int) -> _Item | None:
        """The sub-field at an offset; None if nobody knows where it ends."""
        data, end = place.data, len(place.data)
        value: Any
        try:
            if place.step == 1:
                value, following = _codec(sub).read(data, offset, end, path, place.base)
            else:
                # Offsets in the message do not go up with those in the data.
                value, following = _codec(sub).read(data[offset:], 0, end - offset, path, place.at(offset))
                following += offset
        except DecodeError as error:
            self.note_error(error)
            if error.code not in _LOCAL_FAULTS:
                return None
            value, following = _FAULTY, _following(sub, data, offset)
        return _Item(sub.key, sub, path, offset, offset, following, value)

    def tags(self, layout: Layout, place: _Place) -> Iterator[_Item]:
        seen: dict[str, int] = {}
        objects = self.ber_objects(place) if layout.kind == "ber_tlv" else self.plain_objects(layout, place)
        for key, start, value_at, following in objects:
            sub = layout.by_key.get(key)
            repeats = sub is not None and sub.repeat
            seen[key] = seen.get(key, 0) + 1
            path = f"{place.path}.{_shown(key)}" + (f"[{seen[key]}]" if repeats else "")
            if sub is None and layout.unknown == "refuse":
                self.note("undefined", path, place.at(start), "tags that the spec defines", "another")
            elif seen[key] > 1 and not repeats:
                self.note("duplicate", path, place.at(start), "this tag once", "a second object with it")
            else:
                yield _Item(key, sub, path, start, value_at, following, _UNREAD)

    def ber_objects(self, place: _Place) -> Iterator[tuple[str, int, int, int]]:
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

    def plain_objects(self, layout: Layout, place: _Place) -> Iterator[tuple[str, int, int, int]]:
        data, end = place.data, len(place.data)
        at = 0
        while at < end:
            start, at = at, at + layout.tag_size
            key = _tag_read(layout, data[start:at]) if at <= end else None
            if key is None:
                self.note("tlv", place.path, place.at(start), f"a tag of {layout.tag_size} bytes", "something else")
                return
            path = f"{place.path}.{_shown(key)}"
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
                    value, following = _counted(layout.value_prefix).read(data, at, end, path, 0)
                except DecodeError as error:
                    code = "tlv" if error.code == "truncated" else error.code
                    self.note(code, path, place.at(start), f"{layout.value_prefix} and as many bytes", "something else")
                    return
                at = following - len(value)
            yield key, start, at, following
            at = following


# ---- writing -------------------------------------------------------------------------------------


def encode_tree(layout: Layout, tree: TreeInput, *, path: str, mti: str = "", look: Look = _nowhere) -> bytes:
    """The bytes of a tree: what :func:`decode_tree` was given, if that was canonical.

    Args:
        layout: What the value is made of.
        tree: Keys or names of sub-fields to values. Text, bytes, int for a numeric value of fixed length, a tree, a
            list where the sub-field may stand several times. Tags go out in the order of the mapping; they may also be
            given as (tag, value) pairs, one for each object. None leaves a sub-field out. A count in front of a list is
            filled in.
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


class _Writer(_Message):
    __slots__ = ()

    def field(self, spec: ValueSpec, tree: Any, path: str, depth: int) -> bytes:
        usages: list[Usage | None] = [usage for usage in spec.usages if _message_is(usage, self.mti, self.look_around)]
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
            sub = _sub_called(layout, str(name)) if isinstance(name, (str, int)) else None
            if sub is None:
                raise EncodeError("undefined", f"{path}.{_shown(name)}", "the spec has no such sub-field")
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
                    self.remember(layout, path, sub, _codec(sub).read(part, 0, len(part), at, 0)[0])
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
        if _number(value) != count:
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
            sub = _sub_called(layout, name) if isinstance(name, str) else None
            key = sub.key if sub is not None else _unknown_tag(layout, name, path)
            at = f"{path}.{_shown(key)}"
            repeats = sub is not None and sub.repeat
            for value in _listed(each, at) if repeats and not single else [each]:
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
        template = layout.kind == "ber_tlv" and bytes.fromhex(key)[0] & _CONSTRUCTED != 0
        if template and _is_tree(value):
            return self.tree(_ANY_OBJECTS, value, path, depth + 1)
        wanted = "bytes, or the objects of this template" if template else "bytes"
        raise EncodeError("type", path, expected=wanted, got=type(value).__name__)

    def value(self, sub: SubSpec, value: Any, path: str, depth: int) -> bytes:
        """One sub-field as transmitted."""
        if sub.layout is None and not sub.usages:
            return _codec(sub).write(value, path)
        if _is_tree(value):
            return _codec(sub).write(_flat(sub, self.field(sub, value, path, depth + 1), path), path)
        encoded = _codec(sub).write(value, path)
        self.check(sub, encoded, path, depth)
        return encoded

    def check(self, sub: SubSpec, encoded: bytes, path: str, depth: int) -> None:
        """What comes as one value is as strictly looked at as what comes as a tree."""
        value, _ = _codec(sub).read(encoded, 0, len(encoded), path, 0)
        layout, _ = layout_of(sub, self.mti, self.look_around, value)
        if layout is None:
            return
        data, base, step = inside(sub, value, encoded, 0)
        reader = _Reader(mti=self.mti, look=self.look_around)
        try:
            reader.tree(layout, _Place(data, path, base, step, depth + 1))
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
    at = f"{path}.{_shown(name)}"
    if layout.unknown == "refuse":
        raise EncodeError("undefined", at, "the spec has no such tag")
    key = name.upper() if _tags_are_hexadecimal(layout) else name
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
        return list(decode_tree(_ANY_OBJECTS, bytes.fromhex(key) + b"\0", path="", base=0)) == [key]
    except (ValueError, DecodeError):
        return False


def _joined(layout: Layout, key: str, content: bytes, path: str) -> bytes:
    """One object: tag, length, value."""
    tag = _tag_write(layout, key)
    assert tag is not None
    if layout.kind == "tlv":
        return tag + (content if layout.value_prefix is None else _counted(layout.value_prefix).write(content, path))
    size = len(content)
    if size > LENGTH_MAX:
        raise EncodeError("length", path, expected=f"at most {LENGTH_MAX} bytes", got=str(size))
    if size < 0x80:
        return tag + bytes([size]) + content
    return tag + (b"\x81" + bytes([size]) if size < 0x100 else b"\x82" + size.to_bytes(2, "big")) + content


# ---- what both need ------------------------------------------------------------------------------


@lru_cache(maxsize=CODECS_MAX)
def _codec(spec: ValueSpec) -> ValueCodec:
    """What reads and writes a value without regard to what it is made of, which is looked at here."""
    return ValueCodec(replace(spec, layout=None, usages=(), sensitive=None))


@lru_cache(maxsize=CODECS_MAX)
def _counted(prefix: str) -> ValueCodec:
    """Bytes behind a prefix that counts them: the value of a tag."""
    most = prefix_max(prefix)
    spec = ValueSpec(name="value", content="b", encoding="binary", length_min=0, length_max=most, length_prefix=prefix)
    return ValueCodec(spec)


@lru_cache(maxsize=CODECS_MAX)
def _rest(content: str, encoding: str) -> ValueCodec:
    spec = SubSpec(key="1", name="", content=content, encoding=encoding, length_min=0, length_max=LENGTH_MAX)
    return ValueCodec(spec)


def _flat(spec: ValueSpec, data: bytes, path: str) -> str | bytes:
    """The value whose sub-fields lie in these bytes: the opposite of :func:`inside`."""
    if spec.type is bytes:
        return data
    if spec.packed:
        return data.decode("latin1")  # what is not a digit is refused with the field
    try:
        value, _ = _rest(spec.content, spec.encoding).read(data, 0, len(data), path, 0)
    except DecodeError as error:
        raise EncodeError(error.code, path, expected=error.expected, got="something else") from None
    return value


def _prefix_size(name: str) -> int:
    count, form = PREFIXES[name]
    return (count + 1) // 2 if form == "bcd" else count


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


def _number(value: Any) -> int | None:
    """A count, as it is decoded or given."""
    if isinstance(value, bytes):
        return int.from_bytes(value, "big")
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and len(value) <= COUNT_DIGITS_MAX else None
    return value if isinstance(value, int) else None


def _tags_are_hexadecimal(layout: Layout) -> bool:
    return layout.kind == "ber_tlv" or (layout.kind == "tlv" and layout.tag_encoding == "binary")


def _tag_read(layout: Layout, raw: bytes) -> str | None:
    if layout.tag_encoding == "binary":
        return raw.hex().upper()
    try:
        text, _ = _rest("ans", layout.tag_encoding).read(raw, 0, len(raw), "", 0)
    except DecodeError:
        return None
    return str(text)


def _tag_write(layout: Layout, key: str) -> bytes | None:
    try:
        if _tags_are_hexadecimal(layout):
            return bytes.fromhex(key)
        return _rest("ans", layout.tag_encoding).write(key, "")
    except (ValueError, EncodeError):
        return None


def _sub_called(layout: Layout, name: str) -> SubSpec | None:
    """A sub-field by its key or, in any case of letters, its name."""
    sub = layout.by_key.get(name)
    if sub is None and _tags_are_hexadecimal(layout):
        sub = layout.by_key.get(name.upper())
    if sub is None and name:
        name = name.lower()
        sub = next((other for other in layout.subs if other.name == name), None)
    return sub


def _split_index(part: str) -> tuple[str, int | None]:
    """``"86[2]"`` is ("86", 2)."""
    name, bracket, index = part.rpartition("[")
    number = _number(index[:-1]) if bracket and index.endswith("]") else None
    return (name, number) if number else (part, None)


def _shown(key: object) -> str:
    """A key as an error may show it. What is neither short nor a name may be a value in the wrong place."""
    text = str(key)
    return text if len(text) <= 8 or (len(text) <= 32 and text.isidentifier()) else "?"


def _type_name(spec: ValueSpec) -> str:
    return "bytes" if spec.type is bytes else "str"
