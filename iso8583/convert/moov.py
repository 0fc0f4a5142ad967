"""Specs of moov-io/iso8583, a Go library: JSON or YAML, and back.

    {"name": ..., "fields": {"2": {"type": "String", "length": 19, "enc": "ASCII", "prefix": "ASCII.LL"}, ...}}

What is read is how that library unpacks bytes; where it would pack other bytes than it unpacks, the field is refused.
Its lengths count the value: characters, digits of BCD, bytes of hexadecimal. It has no content classes, so a ``String``
becomes ``ans``: write ``n`` into the TOML where only digits may stand. Its ``EBCDIC`` is cp500 but for ``|``, which it
sends as 6A. Sub-fields without tags are numbered from 1 in wire order, whatever their keys were.

Source: moov-io/iso8583, docs/declarative-specs.md, docs/composite-fields.md, and the code of fields, prefixes and
encodings since the length prefix counts the value (its pull request 227, 2023).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from iso8583.convert._common import (
    EVERY_PAGE,
    FLAT,
    Keys,
    Names,
    Problems,
    build_field,
    build_layout,
    build_message,
    build_sub,
    capped,
    description_of,
    holder,
    integer,
    refuse_messages,
    size_of,
    snake,
    source_of,
)
from iso8583.errors import SpecError
from iso8583.spec import LENGTH_MAX, NESTING_MAX, PREFIXES, Layout, MessageSpec, SubSpec, ValueSpec

_Entry = dict[str, Any]

#: enc -> our encoding, for text
_TEXT: Final = {"ASCII": "ascii", "EBCDIC": "cp500", "EBCDIC1047": "cp1047"}
_PACKED: Final = {"BCD": "bcd_right", "LBCD": "bcd_left"}
#: Older names, and those of the Go constants.
_ALIASES: Final = {"Hex": "HexToASCII", "BytesToASCIIHex": "HexToASCII", "ASCIIHexToBytes": "ASCIIToHex"}
_ENCODINGS: Final = (*_TEXT, *_PACKED, "Binary", "HexToASCII", "ASCIIToHex")
_TYPES: Final = ("String", "Numeric", "Binary", "Hex", "Track1", "Track2", "Track3", "Composite")
_FAMILIES: Final = {"ASCII": "ascii", "BCD": "bcd", "EBCDIC": "ebcdic", "EBCDIC1047": "ebcdic"}
_BYTES: Final = {"Binary.L": "binary1", "Binary.LL": "binary2", "Hex.L": "hex2", "Hex.LL": "hex4"}
_FIXED: Final = ("ASCII.Fixed", "BCD.Fixed", "EBCDIC.Fixed", "EBCDIC1047.Fixed", "Binary.Fixed", "None.Fixed")
_SORTS: Final = ("StringsByInt", "StringsByHex", "Strings")

_SPEC_KEYS: Final = frozenset({"name", "fields"})
_FIELD_KEYS: Final = frozenset(
    {
        "type",
        "length",
        "description",
        "enc",
        "prefix",
        "padding",
        "tag",
        "subfields",
        "bitmap",
        "disableautoexpand",
    }
)
_TAG_KEYS: Final = frozenset(
    {"length", "enc", "padding", "sort", "skipunknowntlvtags", "storeunknowntlvtags", "prefunknowntlv"}
)
_PADDING_KEYS: Final = frozenset({"type", "pad"})

TAG_MAX: Final = 8  # characters, or digits
YAML_DEPTH_MAX: Final = 4 * NESTING_MAX  # a level of sub-fields is two of YAML

_ONE_WAY: Final = "moov unpacks other bytes with it than it packs; use type Hex or Binary with enc Binary"


# ---- reading -------------------------------------------------------------------------------------


def read(source: str | Mapping[str, Any], where: str = "<moov>") -> MessageSpec:
    """A spec from JSON text or from the dict that it stands for.

    Args:
        source: What ``specs.ExportJSON`` writes, or a dict of the same shape.
        where: The file, for error messages.

    Raises:
        SpecError: It is wrong, or says what our specs cannot express; names all of it.

    >>> definition = read('''{"name": "Tiny", "fields": {
    ...     "0": {"type": "String", "length": 4, "enc": "BCD", "prefix": "BCD.Fixed"},
    ...     "1": {"type": "Bitmap", "enc": "Binary", "prefix": "Binary.Fixed"},
    ...     "4": {"type": "Numeric", "length": 12, "description": "Amount", "enc": "BCD", "prefix": "BCD.Fixed"}}}''')
    >>> definition.mti_encoding, definition.by_number[4].name, definition.by_number[4].encoding
    ('bcd', 'amount', 'bcd_right')
    """
    return _Reader(where).message(parsed(source, where) if isinstance(source, str) else source)


def read_yaml(text: str, where: str = "<moov>") -> MessageSpec:
    """The same from YAML text; needs PyYAML.

    Raises:
        SpecError: As :func:`read`, or PyYAML is missing.
    """
    return _Reader(where).message(_parsed_yaml(text, where))


def parsed(text: str, where: str) -> Any:
    """JSON text as Python values. A key that is given twice is an error: one of its values would be lost."""

    def once(pairs: list[tuple[str, Any]]) -> _Entry:
        entry = dict(pairs)
        if len(entry) != len(pairs):
            keys = [key for key, _ in pairs]
            raise SpecError(where, "", f"a key is given twice: {next(key for key in keys if keys.count(key) > 1)!r}")
        return entry

    try:
        return json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise SpecError(where, "", f"not JSON: {error}") from None


def _parsed_yaml(text: str, where: str) -> Any:
    try:
        import yaml  # noqa: PLC0415 - the one optional dependency; JSON needs nothing
    except ImportError:
        raise SpecError(where, "", "YAML needs PyYAML: pip install gridswitch[yaml]") from None

    try:
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):  # a few lines of them stand for gigabytes
                raise SpecError(where, "", "aliases are not allowed")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > YAML_DEPTH_MAX:  # takes the square of the time
                raise SpecError(where, f"line {event.start_mark.line + 1}", f"more than {YAML_DEPTH_MAX} levels")
        return _plain(yaml.compose(text, yaml.SafeLoader), where)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise SpecError(where, "", f"not YAML: {error}") from None


def _plain(node: Any, where: str) -> Any:
    """A YAML tree as dicts, lists and text. Numbers stay text: YAML would make them of tags such as 9E02 and 010."""
    if node is None or not isinstance(node.value, list):
        return None if node is None else node.value
    if node.id == "sequence":
        return [_plain(item, where) for item in node.value]
    table = {}
    for name, value in node.value:
        if not isinstance(name.value, str) or name.value in table:
            raise SpecError(where, f"line {name.start_mark.line + 1}", "a key that is given twice, or is not a text")
        table[name.value] = _plain(value, where)
    return table


class _Reader:
    def __init__(self, where: str) -> None:
        self.where = where
        self.problems = Problems(where)

    def message(self, spec: Any) -> MessageSpec:
        if not isinstance(spec, Mapping) or not isinstance(spec.get("fields"), Mapping):
            raise SpecError(self.where, "fields", "missing; a moov spec is {name, fields: {number: field}}")
        for key in sorted(map(str, spec.keys() - _SPEC_KEYS)):
            self.problems.add(key, "unknown key; expected name and fields")
        entries = {str(number): self.entry(entry, f"fields.{number}") for number, entry in spec["fields"].items()}
        mti_encoding = self.mti(entries.pop("0", None))
        bitmap, grows = self.bitmap(entries.pop("1", None))
        names = Names()
        fields = []
        for number, entry in entries.items():
            key = f"fields.{number}"
            index = integer(number)
            if index is None or not 2 <= index <= 192:
                self.problems.add(key, "expected a field number, 0 to 192")
            elif index == 65 and grows:
                self.problems.add(key, "moov takes bit 65 for the sign of a third bitmap and never reads this field")
            elif entry is not None:
                keys = self.value(entry, key, "message", 0)
                if keys is not None:
                    name = names.make(str(entry.get("description", "")), f"field_{index}")
                    source = source_of("moov", self.where, str(entry.get("description", "")))
                    field = build_field(index, {"name": name, "source": source, **keys}, self.problems, key)
                    fields += [] if field is None else [field]
        top = max((field.number for field in fields), default=2)
        if not grows and top > 64:
            self.problems.add("fields.1.disableautoexpand", f"one bitmap of 64 bits cannot announce field {top}")
        title = spec.get("name", "")
        return build_message(
            fields,
            self.problems,
            name=snake(str(title)) or "moov",
            mti_encoding=mti_encoding,
            bitmap=bitmap,
            field_max=192 if top > 128 else 128 if grows else 64,
            source=source_of("moov", self.where, str(title)),
        )

    def entry(self, entry: Any, key: str) -> _Entry | None:
        """A field's table with its keys in lower case, as Go reads them."""
        if not isinstance(entry, Mapping):
            self.problems.add(key, "expected an object")
            return None
        lower = {str(name).lower(): value for name, value in entry.items()}
        self.only(lower, _FIELD_KEYS, key)
        lower["enc"] = _alias(lower.get("enc"))
        for name in ("type", "prefix"):
            lower[name] = lower[name] if isinstance(lower.get(name), str) else ""
        return lower

    def only(self, table: Mapping[str, Any], known: frozenset[str], key: str) -> None:
        for name in sorted(table.keys() - known):
            self.problems.add(f"{key}.{name}", f"unknown key; expected one of {', '.join(sorted(known))}")

    def mti(self, entry: _Entry | None) -> str:
        if entry is None:
            self.problems.add("fields.0", "missing; the MTI")
            return "ascii"
        encoding = {"ASCII": "ascii", "Binary": "ascii", "BCD": "bcd", "LBCD": "bcd"}.get(entry["enc"], "")
        encoding = "ebcdic" if entry["enc"] in ("EBCDIC", "EBCDIC1047") else encoding
        if not encoding:
            self.problems.add("fields.0.enc", f"{entry['enc'] or 'missing'}: our MTI is ASCII, EBCDIC or BCD")
        if entry["type"] not in ("String", "Numeric") or not entry["prefix"].endswith(".Fixed"):
            self.problems.add("fields.0", "our MTI is four digits of fixed length, type String")
        if integer(entry.get("length")) != 4:
            self.problems.add("fields.0.length", "expected 4")
        return encoding or "ascii"

    def bitmap(self, entry: _Entry | None) -> tuple[str, bool]:
        """How the bitmaps are written, and whether a second one may follow."""
        if entry is None:
            self.problems.add("fields.1", "missing; the bitmap")
            return "binary", True
        form = {"Binary": "binary", "HexToASCII": "hex"}.get(entry["enc"])
        if entry["type"] != "Bitmap" or form is None:
            self.problems.add("fields.1", "expected type Bitmap with enc Binary or HexToASCII")
        grows = not _true(entry.get("disableautoexpand"))
        if not grows and integer(entry.get("length")) != 8:
            self.problems.add(
                "fields.1.length", "a bitmap that does not grow has 8 bytes here; others always stand there"
            )
        return form or "binary", grows

    # ---- values ----

    def value(self, entry: _Entry, key: str, place: str, depth: int) -> Keys | None:
        """Keyword arguments of a ValueSpec, but its name; None and problems if it cannot be one.

        ``place``: ``"message"``, or the kind of the layout that it stands in.
        """
        if depth > NESTING_MAX:
            self.problems.add(key, f"more than {NESTING_MAX} levels of sub-fields")
            return None
        if entry["type"] not in _TYPES:
            self.problems.add(f"{key}.type", f"{entry['type'] or 'missing'}: expected one of {', '.join(_TYPES)}")
            return None
        if entry["type"] == "Composite" or entry.get("subfields"):
            return self.composite(entry, key, place, depth)
        for name in ("tag", "bitmap", "disableautoexpand"):
            if entry.get(name):
                self.problems.add(f"{key}.{name}", "is for type Composite with subfields")
        keys = self.content(entry, key, place)
        length = self.length(entry, key, place)
        if keys is None or length is None:
            return None
        keys |= length
        if keys["encoding"].startswith("bcd") and keys.get("length_prefix") and place == "tlv":
            self.problems.add(f"{key}.prefix", "it counts digits; the lengths of our tagged values count bytes")
            return None
        return self.padded(keys, entry, key)

    def content(self, entry: _Entry, key: str, place: str) -> Keys | None:
        kind, enc = entry["type"], entry["enc"]
        if enc not in _ENCODINGS:
            self.problems.add(f"{key}.enc", f"{enc or 'missing'}: expected one of {', '.join(_ENCODINGS)}")
            return None
        if place == "ber_tlv" and (enc in _PACKED or enc == "HexToASCII"):
            self.problems.add(f"{key}.enc", f"{enc} makes the BER-TLV length count something else than bytes")
            return None
        packed = {"encoding": _PACKED.get(enc, ""), "length_unit": "digits", "content": "n"}
        raw = {"content": "b", "encoding": "hex" if enc == "HexToASCII" else "binary"}
        if kind == "Numeric":
            if enc in _TEXT or enc == "Binary":
                return {"content": "n", "encoding": _TEXT.get(enc, "ascii")}
            if enc in _PACKED:
                return packed
        elif kind == "String":
            if enc in _TEXT:
                return {"content": "ans", "encoding": _TEXT[enc]}
            if enc in _PACKED:
                return packed
            if enc != "ASCIIToHex" or entry["prefix"] in ("Hex.Fixed", "BerTLV"):
                return raw
            self.problems.add(f"{key}.enc", f"ASCIIToHex: {_ONE_WAY}")
            return None
        elif kind in ("Binary", "Hex"):
            if enc in ("Binary", "HexToASCII"):
                return raw
        elif enc in _TEXT:
            return {"content": "track2" if kind == "Track2" else "ans", "encoding": _TEXT[enc]}
        self.problems.add(f"{key}.enc", f"type {kind} with enc {enc}: our specs have no such value")
        return None

    def length(self, entry: _Entry, key: str, place: str) -> Keys | None:
        """Length and prefix, in the units of :meth:`content`."""
        prefix = entry["prefix"]
        length = integer(entry.get("length", 0))
        if length is None:
            self.problems.add(f"{key}.length", "expected a whole number")
            return None
        if (prefix == "BerTLV") != (place == "ber_tlv"):
            self.problems.add(f"{key}.prefix", "BerTLV goes with tag.enc BerTLVTag, and only with it")
            return None
        if prefix == "BerTLV":
            return {"length_min": 0, "length_max": min(length, LENGTH_MAX) or LENGTH_MAX}
        fixed = prefix in _FIXED or (prefix == "Hex.Fixed" and entry["enc"] in ("HexToASCII", "ASCIIToHex"))
        if prefix == "Hex.Fixed" and not fixed:
            self.problems.add(f"{key}.prefix", f"Hex.Fixed with enc {entry['enc']}: moov cannot pack it")
            return None
        name = _prefix(prefix)
        if not fixed and name is None:
            self.problems.add(f"{key}.prefix", f"{prefix or 'missing'}: our specs have no such length prefix")
            return None
        if length < 1:
            self.problems.add(f"{key}.length", "missing")
            return None
        if fixed:
            return {"length_min": length, "length_max": length}
        return {"length_min": 0, "length_max": capped(length, name), "length_prefix": name}

    def padded(self, keys: Keys, entry: _Entry, key: str) -> Keys | None:
        padding = entry.get("padding")
        if padding is None:
            return keys
        if not isinstance(padding, Mapping):
            self.problems.add(f"{key}.padding", "expected {type, pad}")
            return None
        table = {str(name).lower(): value for name, value in padding.items()}
        self.only(table, _PADDING_KEYS, f"{key}.padding")
        kind, pad = table.get("type"), table.get("pad", "")
        if kind == "None":
            return keys
        reason = ""
        if kind not in ("Left", "Right"):
            reason = "expected type Left, Right or None"
        elif not (isinstance(pad, str) and len(pad) == 1 and pad.isascii()):
            reason = "expected one ASCII character"
        elif keys.get("length_prefix"):
            reason = "moov fills every value up to the greatest length; say that the length is fixed, or drop it"
        elif keys["content"] == "b":
            reason = "our binary values are not filled up"
        elif keys["content"] == "n" and not pad.isdigit():
            reason = "a number that is filled with anything but digits is no number; use type String"
        if reason:
            self.problems.add(f"{key}.padding", reason)
            return None
        return {**keys, "pad_side": str(kind).lower(), "pad_character": pad}

    # ---- composites ----

    def composite(self, entry: _Entry, key: str, place: str, depth: int) -> Keys | None:
        before = len(self.problems)
        if entry["type"] != "Composite":
            self.problems.add(f"{key}.type", "only Composite has subfields")
        if entry["enc"]:
            self.problems.add(f"{key}.enc", "the parts of a Composite have encodings, not the whole")
        if entry.get("padding"):
            self.problems.add(f"{key}.padding", "moov does not fill up a Composite")
        given = entry.get("subfields")
        if not isinstance(given, Mapping) or not given:
            self.problems.add(f"{key}.subfields", "missing")
            return None
        entries = {str(name): self.entry(sub, f"{key}.subfields.{name}") for name, sub in given.items()}
        length = self.length(entry, key, place)
        tag = entry.get("tag")
        if entry.get("bitmap") is not None:
            if tag:
                self.problems.add(f"{key}.tag", "a Composite has a tag or a bitmap, not both")
            options = self.by_bitmap(entry["bitmap"], entries, key, depth)
        elif isinstance(tag, Mapping):
            table = {str(name).lower(): value for name, value in tag.items()}
            self.only(table, _TAG_KEYS, f"{key}.tag")
            enc = _alias(table.get("enc"))
            if not enc:
                varies = length is not None and "length_prefix" in length
                options = self.by_position(table, entries, key, depth, varies)
            elif enc == "BerTLVTag":
                options = self.by_ber_tag(table, entries, key, depth)
            else:
                options = self.by_tag(enc, table, entries, key, depth)
        else:
            self.problems.add(f"{key}.tag", "missing; a Composite has a tag or a bitmap")
            return None
        if length is None or len(self.problems) > before:
            return None
        layout = build_layout(options, self.problems, key)
        if layout is None:
            return None
        if layout.kind == "positions" and "length_prefix" not in length:
            taken = sum(size_of(sub) for sub in layout.subs)
            if taken != length["length_max"]:
                self.problems.add(f"{key}.length", f"the subfields take {taken} bytes")
                return None
        content, encoding = holder(layout)
        return {"content": content, "encoding": encoding, **length, "layout": layout}

    def sub(
        self, ours: str, theirs: str, entry: _Entry | None, names: Names, key: str, place: str, depth: int, **more: Any
    ) -> SubSpec | None:
        """One sub-field; ``ours`` and ``theirs`` are its keys."""
        at = f"{key}.subfields.{theirs}"
        keys = None if entry is None else self.value(entry, at, place, depth + 1)
        if entry is None or keys is None:
            return None
        if place == "tlv":
            keys.pop("length_prefix", None)  # the layout has it
        description = str(entry.get("description", ""))
        path = "" if ours == theirs else at.removeprefix("fields.").replace(".subfields", "")
        source = source_of("moov", self.where, description, path) if description or path else ""
        return build_sub(
            ours, {"name": names.make(description, ""), "source": source, **keys, **more}, self.problems, at
        )

    def subs(self, made: Iterable[SubSpec | None]) -> tuple[SubSpec, ...]:
        return tuple(sub for sub in made if sub is not None)

    def by_position(
        self, tag: _Entry, entries: Mapping[str, _Entry | None], key: str, depth: int, varies: bool
    ) -> Keys:
        for name in sorted(tag.keys() - {"sort", "enc"}):
            if tag[name]:
                self.problems.add(f"{key}.tag.{name}", "needs tag.enc")
        sort = tag.get("sort")
        if sort not in _SORTS:
            self.problems.add(f"{key}.tag.sort", f"expected one of {', '.join(_SORTS)}: it gives the order on the wire")
        order = sorted(entries)
        try:
            if sort in ("StringsByInt", "StringsByHex"):
                order = sorted(entries, key=lambda name: int(name, 10 if sort == "StringsByInt" else 16))
        except ValueError:
            self.problems.add(f"{key}.subfields", f"the keys are not numbers, as {sort} wants them")
        names = Names()
        # moov stops at the end of a value whose length varies, but reads one sub-field at least.
        made = [
            self.sub(str(index + 1), name, entries[name], names, key, "positions", depth, optional=varies and index > 0)
            for index, name in enumerate(order)
        ]
        return {"kind": "positions", "subs": self.subs(made)}

    def by_ber_tag(self, tag: _Entry, entries: Mapping[str, _Entry | None], key: str, depth: int) -> Keys:
        for name in ("length", "padding", "prefunknowntlv"):
            if tag.get(name):
                self.problems.add(f"{key}.tag.{name}", "BER-TLV tags and lengths say their own size")
        names = Names()
        made = [self.sub(name.upper(), name, entry, names, key, "ber_tlv", depth) for name, entry in entries.items()]
        return {"kind": "ber_tlv", "subs": self.subs(made), "unknown": _unknown(tag)}

    def by_tag(self, enc: str, tag: _Entry, entries: Mapping[str, _Entry | None], key: str, depth: int) -> Keys:
        size = integer(tag.get("length", 0)) or 0
        if not 1 <= size <= TAG_MAX:
            self.problems.add(f"{key}.tag.length", f"expected 1 to {TAG_MAX}")
            return {"kind": "tlv"}
        encoding = _TEXT.get(enc, "binary")
        padding = tag.get("padding")
        padding = padding if isinstance(padding, Mapping) else {}
        tags = {}
        for name in entries:
            full = name
            if padding.get("type") == "Left":
                full = name.rjust(size, str(padding.get("pad"))[:1] or "0")
            elif padding.get("type") == "Right":
                full = name.ljust(size, str(padding.get("pad"))[:1] or "0")
            if enc == "Binary":
                full = full.encode().hex()
            tags[name] = full if encoding != "binary" else full.upper()
        if enc in _PACKED:
            if size % 2:
                self.problems.add(f"{key}.tag.length", "a tag of an odd number of BCD digits")
            size //= 2
        elif enc not in (*_TEXT, "Binary", "ASCIIToHex"):
            self.problems.add(f"{key}.tag.enc", f"{enc}: expected one of ASCII, EBCDIC, Binary, BCD, ASCIIToHex")
        prefixes = {entry["prefix"] for entry in entries.values() if entry is not None}
        value_prefix = None
        if all(prefix.endswith(".Fixed") for prefix in prefixes):
            if _true(tag.get("skipunknowntlvtags")) and tag.get("prefunknowntlv"):
                self.problems.add(f"{key}.tag.prefunknowntlv", "the known values have no lengths in front of them")
        elif len(prefixes) == 1:
            (prefix,) = prefixes
            value_prefix = _prefix(prefix)
            if _true(tag.get("skipunknowntlvtags")) and tag.get("prefunknowntlv") not in (None, prefix):
                self.problems.add(f"{key}.tag.prefunknowntlv", f"the known values have {prefix}; one layout has one")
        else:
            self.problems.add(
                f"{key}.subfields", f"one layout has one length prefix, not {', '.join(sorted(prefixes))}"
            )
        names = Names()
        made = [self.sub(tags[name], name, entry, names, key, "tlv", depth) for name, entry in entries.items()]
        keeps = value_prefix is not None and tag.get("prefunknowntlv")
        return {
            "kind": "tlv",
            "subs": self.subs(made),
            "unknown": _unknown(tag) if keeps else "refuse",
            "tag_size": size,
            "tag_encoding": encoding,
            "value_prefix": value_prefix,
        }

    def by_bitmap(self, bitmap: Any, entries: Mapping[str, _Entry | None], key: str, depth: int) -> Keys:
        at = f"{key}.bitmap"
        table = self.entry(bitmap, at) or {"type": "", "enc": "", "prefix": ""}
        form = {"Binary": "binary", "HexToASCII": "hex"}.get(table["enc"])
        if table["type"] != "Bitmap" or form is None:
            self.problems.add(at, "expected type Bitmap with enc Binary or HexToASCII")
        if not _true(table.get("disableautoexpand")):
            self.problems.add(f"{at}.disableautoexpand", "expected true: the bitmap of a field does not grow here")
        names = Names()
        made = [
            self.sub(name.lstrip("0") or name, name, entry, names, key, "bitmap", depth)
            for name, entry in sorted(entries.items(), key=lambda item: integer(item[0]) or 0)
        ]
        size = integer(table.get("length")) or 0
        return {"kind": "bitmap", "subs": self.subs(made), "bitmap": form or "binary", "bitmap_size": size}


def _alias(enc: object) -> str:
    return _ALIASES.get(enc, enc) if isinstance(enc, str) else ""


def _true(value: object) -> bool:
    return value is True or value == "true"  # YAML's are still text


def _unknown(tag: _Entry) -> str:
    # moov can pass over an unknown tag or keep it; here it is kept.
    return "keep" if _true(tag.get("skipunknowntlvtags")) or _true(tag.get("storeunknowntlvtags")) else "refuse"


def _prefix(name: str) -> str | None:
    """Our name of a length prefix, or None.

    >>> _prefix("ASCII.LLL"), _prefix("Binary.LL"), _prefix("Hex.LLL")
    ('ascii3', 'binary2', None)
    """
    family, _, form = name.partition(".")
    if family in _FAMILIES and form and form == "L" * len(form) and len(form) <= 6:
        return f"{_FAMILIES[family]}{len(form)}"
    return _BYTES.get(name)


# ---- writing -------------------------------------------------------------------------------------

_ENC_OF: Final = {"ascii": "ASCII", "cp500": "EBCDIC", "cp1047": "EBCDIC1047"}
_NUMERIC_MAX: Final = 18  # digits of a Go int


def write(definition: MessageSpec) -> dict[str, Any]:
    """A spec as the dict that moov's JSON and YAML stand for.

    What a spec says beyond the wire - labels, code tables, marks of sensitive fields, ``reply`` - has no place there;
    :func:`iso8583.convert.left_out` lists it.

    Raises:
        SpecError: It says what moov's specs cannot express; names all of it.
    """
    return _Writer(definition).message()


def text_of(table: Mapping[str, Any]) -> str:
    """The dict as JSON."""
    return json.dumps(table, indent=2, ensure_ascii=False) + "\n"


def yaml_of(table: Mapping[str, Any]) -> str:
    """The dict as YAML. Every key and text is quoted: tags such as 9E02 are numbers to YAML.

    >>> print(yaml_of({"name": "Tiny", "fields": {"0": {"length": 4}}}), end="")
    "name": "Tiny"
    "fields":
      "0":
        "length": 4
    """
    return "".join(f"{line}\n" for line in _yaml_lines(table, ""))


def _yaml_lines(table: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, value in table.items():
        name = f"{indent}{json.dumps(key, ensure_ascii=False)}:"
        if isinstance(value, Mapping):
            yield name
            yield from _yaml_lines(value, f"{indent}  ")
        else:
            yield f"{name} {json.dumps(value, ensure_ascii=False)}"


class _Writer:
    def __init__(self, definition: MessageSpec) -> None:
        self.definition = definition
        self.problems = Problems(definition.name)

    def message(self) -> dict[str, Any]:
        definition = self.definition
        refuse_messages(definition, "moov", self.problems)
        enc = {"ascii": "ASCII", "bcd": "BCD", "ebcdic": "EBCDIC"}[definition.mti_encoding]
        if definition.bitmap == "hex_ebcdic":
            self.problems.add("bitmap", "moov has no bitmap in EBCDIC hexadecimal")
        bitmap = {"type": "Bitmap", "length": 8, "description": "Bitmap"}
        if definition.bitmap == "binary":
            bitmap |= {"enc": "Binary", "prefix": "Binary.Fixed"}
        else:
            bitmap |= {"enc": "HexToASCII", "prefix": "Hex.Fixed"}
        if definition.field_max == 64:
            bitmap["disableAutoExpand"] = True
        fields: dict[str, Any] = {
            "0": {
                "type": "String",
                "length": 4,
                "description": "Message Type Indicator",
                "enc": enc,
                "prefix": f"{enc}.Fixed",
            },
            "1": bitmap,
        }
        for field in definition.fields:
            if field.number == 65:
                self.problems.add("field.65", "moov takes bit 65 for the sign of a third bitmap")
            fields[str(field.number)] = self.value(field, f"field.{field.number}", None)
        self.problems.check()
        return {"name": definition.name, "fields": fields}

    def value(self, value: ValueSpec, key: str, inside: Layout | None) -> dict[str, Any]:
        """``inside``: the layout that it stands in. Empty when there are problems."""
        if value.layout is not None:
            return self.composite(value, value.layout, key, inside)
        kind, enc, length = self.content(value, key)
        prefix = self.prefix(value, enc, key, inside)
        entry: dict[str, Any] = {"type": kind, "length": length, **_described(value)}
        if prefix == "BerTLV" and length == LENGTH_MAX:
            del entry["length"]  # any
        entry |= {"enc": enc, "prefix": prefix}
        if value.pad_side is not None:
            if value.content == "n" and not value.pad_character.isdigit():
                self.problems.add(
                    f"{key}.pad_character", "a number that is filled with anything but digits is no number"
                )
            entry["padding"] = {"type": value.pad_side.capitalize(), "pad": value.pad_character}
        return entry

    def content(self, value: ValueSpec, key: str) -> tuple[str, str, int]:
        """(type, enc, length), the length in moov's units."""
        content, encoding, length = value.content, value.encoding, value.length_max
        if value.packed:
            if content != "n":
                self.problems.add(f"{key}.content", f"moov's BCD has digits only, not {content}")
            if value.length_unit == "bytes":
                length *= 2
                if not value.fixed:
                    self.problems.add(f"{key}.length_unit", "moov's lengths of BCD values count digits")
            elif value.pad_nibble == "F" and not (value.fixed and length % 2 == 0):
                self.problems.add(f"{key}.pad_nibble", "moov fills up an odd count of BCD digits with 0")
            enc = "BCD" if encoding == "bcd_right" else "LBCD"
            return ("Numeric" if _counts_up(value, length) else "String"), enc, length
        if content == "b":
            if encoding == "binary":
                if value.length_unit == "nibbles":
                    self.problems.add(f"{key}.length_unit", "moov's lengths of binary values count bytes")
                return "Binary", "Binary", length
            if encoding == "hex_ebcdic":
                self.problems.add(f"{key}.encoding", "moov has no hexadecimal in EBCDIC")
            if value.length_unit == "digits":
                length //= 2
                if not value.fixed or length < 1:
                    self.problems.add(f"{key}.length_unit", "moov's lengths of hexadecimal values count bytes")
            return "Binary", "HexToASCII", length
        if encoding == "cp037" and content in EVERY_PAGE:
            encoding = "cp500"
        if encoding not in _ENC_OF:
            self.problems.add(f"{key}.encoding", f"moov has no {encoding}; its text is ASCII, cp500 or cp1047")
        if content == "track2" and value.encrypted_when is None:
            kind = "Track2"
        else:
            kind = "Numeric" if content == "n" and _counts_up(value, length) else "String"
        return kind, _ENC_OF.get(encoding, ""), length

    def prefix(self, value: ValueSpec, enc: str, key: str, inside: Layout | None) -> str:
        if inside is not None and inside.kind == "ber_tlv":
            if enc not in ("Binary", *_ENC_OF.values()):
                self.problems.add(f"{key}.encoding", "in BER-TLV moov counts something else than bytes with it")
            return "BerTLV"
        name = value.length_prefix
        if inside is not None and inside.kind == "tlv":
            name = inside.value_prefix
        if name is None:
            if not value.fixed:
                self.problems.add(f"{key}.length", "moov has no sub-field that takes what is left")
            return f"{ {'EBCDIC1047': 'EBCDIC', 'HexToASCII': 'ASCII', 'LBCD': 'BCD'}.get(enc, enc) }.Fixed"
        digits, form = PREFIXES[name]
        if digits > 4 and form in ("ascii", "bcd", "ebcdic"):
            self.problems.add(f"{key}.length_prefix", f"moov has prefixes of up to four digits, not {name}")
        if form in ("ascii", "bcd", "ebcdic"):
            return f"{form.upper()}.{'L' * digits}"
        return f"{form.capitalize()}.{'L' * (digits // 2 if form == 'hex' else digits)}"

    def composite(self, value: ValueSpec, layout: Layout, key: str, inside: Layout | None) -> dict[str, Any]:
        if value.packed or value.encoding.startswith("hex"):
            self.problems.add(f"{key}.layout", f"moov's subfields lie in the bytes on the wire; {FLAT}")
        if value.length_unit != "bytes":
            self.problems.add(f"{key}.length_unit", "moov's lengths of a Composite count bytes")
        if not layout.subs:
            self.problems.add(f"{key}.layout", f"moov wants one subfield at least: name the tags, or {FLAT}")
        prefix = self.prefix(value, "Binary", key, inside)
        entry: dict[str, Any] = {"type": "Composite", "length": value.length_max}
        if prefix == "BerTLV" and value.length_max == LENGTH_MAX:
            del entry["length"]
        entry |= {**_described(value), "prefix": prefix}
        if layout.kind == "bitmap":
            enc = "Binary" if layout.bitmap == "binary" else "HexToASCII"
            entry["bitmap"] = {
                "type": "Bitmap",
                "length": layout.bitmap_size,
                "description": "Bitmap",
                "enc": enc,
                "prefix": "Binary.Fixed" if enc == "Binary" else "Hex.Fixed",
                "disableAutoExpand": True,
            }
        else:
            entry["tag"] = self.tag(layout, key)
        subfields = {}
        for sub in layout.subs:
            at = f"{key}.sub.{sub.key}"
            if sub.times is not None:
                self.problems.add(f"{at}.times", f"moov has no sub-fields that come several times; {FLAT}")
            if sub.repeat:
                self.problems.add(f"{at}.repeat", f"moov keeps only the last of several equal tags; {FLAT}")
            if sub.optional and (value.length_prefix is None or sub is layout.subs[0]):
                self.problems.add(f"{at}.optional", "moov ends early in values of variable length, behind the first")
            subfields[sub.key] = self.value(sub, at, layout)
        return entry | {"subfields": subfields}

    def tag(self, layout: Layout, key: str) -> dict[str, Any]:
        if layout.kind == "positions":
            return {"sort": "StringsByInt"}
        keep = {"skipUnknownTLVTags": True, "storeUnknownTLVTags": True} if layout.unknown == "keep" else {}
        if layout.kind == "ber_tlv":
            return {"enc": "BerTLVTag", "sort": "StringsByHex", **keep}
        keys = [sub.key for sub in layout.subs]
        sort = "StringsByInt" if all(name.isdigit() for name in keys) else "StringsByHex"
        if sort == "StringsByHex" and not all(_is_hex(name) for name in keys):
            self.problems.add(f"{key}.sub", "moov sorts tags by number, decimal or hexadecimal; these are neither")
        encoding = layout.tag_encoding
        if encoding == "cp037":
            encoding = "cp500"  # tags are letters and digits
        tag = {"length": layout.tag_size, "enc": _ENC_OF.get(encoding, "ASCIIToHex"), "sort": sort, **keep}
        if keep and layout.subs:
            tag["prefUnknownTLV"] = self.prefix(layout.subs[0], "Binary", f"{key}.value_prefix", layout)
        return tag


def _described(value: ValueSpec) -> dict[str, str]:
    description = description_of(value)
    return {"description": description} if description else {}


def _counts_up(value: ValueSpec, length: int) -> bool:
    """moov's Numeric is a number that it fills up with zeros; anything else would lose leading zeros."""
    return value.fixed and (value.pad_side, value.pad_character) == ("left", "0") and length <= _NUMERIC_MAX


def _is_hex(text: str) -> bool:
    return len(text) % 2 == 0 and all(character in "0123456789ABCDEFabcdef" for character in text)
