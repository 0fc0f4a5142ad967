"""Packagers of jPOS, a Java library: the XML of ``GenericPackager``, and back.

    <isopackager><isofield id="2" length="19" name="PAN" pad="false" class="org.jpos.iso.IFB_LLNUM"/> ...</isopackager>

What counts is how the class of a field unpacks bytes. jPOS checks no characters: a class named NUM or NUMERIC becomes
``n`` here, or ``z`` for the tracks in fields 35 and 36; CHAR becomes ``ans``. Its "ASCII" classes are Latin-1 in truth:
write ``encoding = "latin1"`` into the TOML where names have accents. ``trim`` changes what jPOS shows, not the wire.

Source: jPOS, org.jpos.iso.IF*.java, the interpreters, prefixers and padders that they are made of, and
packager/genericpackager.dtd. Its EBCDIC is IBM 1047.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Final, NoReturn
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from iso8583.convert._common import (
    EBCDIC,
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
from iso8583.spec import FIELD_MAX, LENGTH_MAX, NESTING_MAX, Layout, MessageSpec, SubSpec, ValueSpec


@dataclass(frozen=True, slots=True)
class _Class:
    """What one class of jPOS does, in our words.

    Attributes:
        content: ``n`` stands for any number, ``ans`` for any text.
        encoding: With ``bcd``, the attribute ``pad`` decides the side.
        prefix: A key of ``PREFIXES``; ``""`` for a fixed length.
        unit: As ``ValueSpec.length_unit``. The ``length`` of a class that counts nibbles is in bytes all the same.
        fill: (side, character) of a fixed length.
        pad_nibble: Of odd digits that are padded on the right.
        tag: (size, encoding) of the tag that stands in front, the number of the sub-field in decimal digits.
        mapped: The tag is the business of a ``tagMapper``; unknown ones are refused.
    """

    content: str
    encoding: str
    prefix: str = ""
    unit: str = "bytes"
    fill: tuple[str, str] | None = None
    pad_nibble: str = "0"
    tag: tuple[int, str] | None = None
    mapped: bool = False


def _classes() -> Iterator[tuple[str, _Class]]:
    zeros, blanks = ("left", "0"), ("right", " ")
    for family, encoding in (("IFA", "ascii"), ("IFE", "cp1047")):
        yield f"{family}_NUMERIC", _Class("n", encoding, fill=zeros)
        yield f"{family}_AMOUNT", _Class("xn", encoding)
        yield "IF_CHAR" if family == "IFA" else "IFE_CHAR", _Class("ans", encoding, fill=blanks)
        form = "ascii" if family == "IFA" else "ebcdic"
        for digits in (2, 3):
            yield f"{family}_{'L' * digits}NUM", _Class("n", encoding, f"{form}{digits}")
            yield f"{family}_{'L' * digits}BINARY", _Class("b", "binary", f"{form}{digits}")
        for digits in (2, 3, 4):
            yield f"{family}_{'L' * digits}CHAR", _Class("ans", encoding, f"{form}{digits}")
    yield "IF_ECHAR", _Class("ans", "cp1047", fill=blanks)
    yield "IFA_AMOUNT2003", _Class("n", "ascii", fill=zeros)
    yield "IFAE_LLCHAR", _Class("ans", "cp1047", "ascii2")
    yield "IFEA_LLCHAR", _Class("ans", "ascii", "ebcdic2")
    for digits in (1, 5, 6):
        yield f"IFA_{'L' * digits}CHAR", _Class("ans", "ascii", f"ascii{digits}")
    for digits in (1, 4, 5, 6):
        yield f"IFA_{'L' * digits}BINARY", _Class("b", "binary", f"ascii{digits}")

    yield "IFA_BINARY", _Class("b", "hex")
    yield "IFE_BINARY", _Class("b", "hex_ebcdic")
    yield "IFB_BINARY", _Class("b", "binary")
    for digits in (2, 3):
        yield f"IFA_{'L' * digits}ABINARY", _Class("b", "hex", f"ascii{digits}")
        yield f"IFB_{'L' * digits}HEX", _Class("b", "binary", f"bcd{digits}", unit="nibbles")
    for digits in (2, 3, 4):
        yield f"IFB_{'L' * digits}BINARY", _Class("b", "binary", f"bcd{digits}")
    for digits in (2, 3, 4, 6):
        yield f"IFB_{'L' * digits}CHAR", _Class("ans", "ascii", f"bcd{digits}")

    yield "IFB_NUMERIC", _Class("n", "bcd", unit="digits", fill=zeros)
    yield "IFB_AMOUNT2003", _Class("n", "bcd", unit="digits", fill=zeros)
    yield "IFB_AMOUNT", _Class("xn", "bcd", unit="digits")
    yield "IFB_FNUMERIC", _Class("n", "bcd", unit="digits", fill=zeros, pad_nibble="F")
    for digits in (2, 3):
        yield f"IFB_{'L' * digits}NUM", _Class("n", "bcd", f"bcd{digits}", unit="digits")
        yield f"IFB_F{'L' * digits}NUM", _Class("n", "bcd", f"bcd{digits}", unit="digits", pad_nibble="F")
    for size in (1, 2):  # H: the length is binary
        name = "IFB_LL" if size == 1 else "IFB_LLL"
        yield f"{name}HNUM", _Class("n", "bcd", f"binary{size}", unit="digits")
        yield f"{name}HCHAR", _Class("ans", "ascii", f"binary{size}")
        yield f"{name}HECHAR", _Class("ans", "cp1047", f"binary{size}")
        yield f"{name}HBINARY", _Class("b", "binary", f"binary{size}")

    # Tag, length and value of a sub-field.
    yield "IFMC_LLCHAR", _Class("ans", "ascii", "ascii2", tag=(2, "ascii"))
    yield "IFMC_LLLCHAR", _Class("ans", "ascii", "ascii3", tag=(2, "ascii"))
    yield "IFIPM_LLLCHAR", _Class("ans", "ascii", "ascii3", tag=(4, "ascii"))
    yield "IFEPE_LLCHAR", _Class("ans", "cp1047", "ebcdic2", tag=(2, "cp1047"))
    yield "IFEMC_LLCHAR", _Class("ans", "cp1047", "ebcdic2", tag=(2, "ascii"))
    yield "IFEMC_LLLCHAR", _Class("ans", "cp1047", "ebcdic3", tag=(4, "cp1047"))
    for digits in (1, 2, 3, 4):
        for kind, content, encoding in (("CHAR", "ans", "ascii"), ("BINARY", "b", "binary")):
            tagged = _Class(content, encoding, f"ascii{digits}", tag=(2, "ascii"), mapped=True)
            yield f"IFA_TT{'L' * digits}{kind}", tagged
    yield "IFA_TTTLLLCHAR", _Class("ans", "ascii", "ascii3", tag=(3, "ascii"), mapped=True)


_CLASSES: Final[Mapping[str, _Class]] = dict(_classes())
_BITMAPS: Final = {"IFB_BITMAP": "binary", "IFA_BITMAP": "hex", "IFE_BITMAP": "hex_ebcdic"}
_MTI: Final = {"IFA_NUMERIC": "ascii", "IF_CHAR": "ascii", "IFB_NUMERIC": "bcd", "IFE_NUMERIC": "ebcdic"}
_MTI_CLASSES: Final = {"ascii": "IFA_NUMERIC", "bcd": "IFB_NUMERIC", "ebcdic": "IFE_NUMERIC"}
_TAG_MAPPERS: Final = {"TTDecimalTagMapper": 2, "TTTDecimalTagMapper": 3}

#: Classes that are known, and why they have no equal here.
_REFUSED: Final = {
    "IFA_LLBNUM": "its length is rounded up to an even number",
    "IFEB_LLNUM": "the last nibble decides whether the digits are odd; say IFB_LLNUM if your peer allows it",
    "IFEB_LLLNUM": "the last nibble decides whether the digits are odd; say IFB_LLLNUM if your peer allows it",
    "IFB_HEX": "text of hexadecimal digits; say IFB_BINARY with half the length",
    "IFB_LLHFBINARY": "a length in front of a block of fixed size",
    "IFA_FLLCHAR": "a length in front of a block of fixed size",
    "IFA_FLLNUM": "a length in front of a block of fixed size",
    "IFE_SIGNED_NUMERIC": "the sign is in the zone of the last digit",
    "IFEP_LLCHAR": "its length stands in front of the tag and counts it",
    "IFEP_LLLCHAR": "its length stands in front of the tag and counts it",
}
_ISO: Final = "org.jpos.iso."

_FIELD_ATTRIBUTES: Final = frozenset({"id", "length", "name", "class", "pad", "trim", "token", "params", "encoding"})
_PACKAGER_ATTRIBUTES: Final = frozenset(
    {"maxValidField", "bitmapField", "thirdBitmapField", "firstField", "emitBitmap", "headerLength"}
)
_HOLDER_ATTRIBUTES: Final = _FIELD_ATTRIBUTES | _PACKAGER_ATTRIBUTES | {"packager", "tagMapper"}


# ---- XML -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Element:
    tag: str
    attributes: dict[str, str]
    line: int
    children: list[_Element] = field(default_factory=list)


def _parsed(text: str | bytes, where: str) -> _Element:
    """The tree. Nothing is fetched: the DTD is only named. Entities beyond the five of XML are refused."""

    stack = [_Element("", {}, 0)]

    def refuse(detail: str) -> NoReturn:
        raise SpecError(where, f"line {parser.CurrentLineNumber}", detail)

    def start(tag: str, attributes: dict[str, str]) -> None:
        if len(stack) > NESTING_MAX + 1:
            refuse(f"more than {NESTING_MAX} levels of sub-fields")
        element = _Element(tag, attributes, parser.CurrentLineNumber)
        stack[-1].children.append(element)
        stack.append(element)

    def characters(data: str) -> None:
        if data.strip():
            refuse("text between the elements, which jPOS ignores")

    # expat drops references to entities that the DTD, which is not read, may define. In attributes it cannot even tell.
    raw = text.encode() if isinstance(text, str) else text
    for name in re.findall(rb"&([A-Za-z_][^;\s<&\"']*);", raw):
        if name not in (b"amp", b"lt", b"gt", b"quot", b"apos"):
            raise SpecError(where, "", f"entity &{name.decode('ascii', 'replace')}; is not one of XML's own five")

    parser = expat.ParserCreate("utf-8" if isinstance(text, str) else None)
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    parser.buffer_text = True
    parser.EntityDeclHandler = lambda *_: refuse("entities are not expanded here; write the text itself")
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: stack.pop()
    parser.CharacterDataHandler = characters
    try:
        parser.Parse(raw, True)
    except expat.ExpatError as error:
        raise SpecError(where, f"line {error.lineno}", f"not XML: {expat.errors.messages[error.code]}") from None
    except LookupError as error:
        raise SpecError(where, "", f"not XML: {error}") from None
    return stack[0].children[0]


# ---- reading -------------------------------------------------------------------------------------


def read(text: str | bytes, where: str = "<jPOS>") -> MessageSpec:
    """A spec from the XML of a GenericPackager. Bytes are decoded as their XML declaration says.

    Raises:
        SpecError: It is wrong, or says what our specs cannot express; names all of it.

    >>> definition = read('''<isopackager>
    ...   <isofield id="0" length="4" name="MTI" class="org.jpos.iso.IFB_NUMERIC"/>
    ...   <isofield id="1" length="16" name="BIT MAP" class="org.jpos.iso.IFB_BITMAP"/>
    ...   <isofield id="2" length="19" name="PAN" pad="false" class="org.jpos.iso.IFB_LLNUM"/></isopackager>''')
    >>> definition.by_number[2].encoding, definition.by_number[2].length_prefix, definition.by_number[2].sensitive
    ('bcd_left', 'bcd2', 'pan')
    """
    return _Reader(where).message(_parsed(text, where))


class _Reader:
    def __init__(self, where: str) -> None:
        self.where = where
        self.problems = Problems(where)

    def message(self, root: _Element) -> MessageSpec:
        if root.tag != "isopackager":
            raise SpecError(self.where, root.tag, "expected <isopackager>, the root of a GenericPackager")
        self.known(root, _PACKAGER_ATTRIBUTES, "isopackager")
        for name, allowed, why in (
            ("headerLength", "0", "our specs start at the MTI: remove it, and say what stands in front with `header`"),
            ("emitBitmap", "true", "a message has a bitmap"),
            ("bitmapField", "1", "our bitmap stands behind the MTI"),
            ("firstField", "2", "our fields start at 2"),
            ("thirdBitmapField", "-999", "our third bitmap stands in front with the others, not in a field"),
        ):
            if root.attributes.get(name, allowed) != allowed:
                self.problems.add(f"isopackager.{name}", why)
        elements = self.numbered(root, "")
        mti_encoding = self.mti(elements.pop(0, None))
        bitmap, bits = self.bitmap(elements.pop(1, None))
        highest = integer(root.attributes.get("maxValidField", str(bits)))
        if highest is None or highest < max(elements, default=0):
            self.problems.add("isopackager.maxValidField", "below the highest field")
        names = Names()
        fields = []
        for number, element in elements.items():
            key = f"{number}"
            if not 2 <= number <= FIELD_MAX:
                self.problems.add(f"{key}.id", f"expected 0 to {FIELD_MAX}")
                continue
            if self.simple_class(element) in ("IF_NOP", "IF_UNUSED"):
                continue  # takes no bytes, or must not come: for us the same as a field that is not there
            if number > bits:
                self.problems.add(f"{key}.id", f"above what a bitmap of {bits} bits announces")
                continue
            if self.simple_class(element) in _BITMAPS:
                self.problems.add(f"{key}.class", "our third bitmap stands in front with the others, not in a field")
                continue
            keys = self.value(element, key, number, 0)
            if keys is not None:
                name = names.make(element.attributes.get("name", ""), f"field_{number}")
                source = source_of("jPOS", self.where, element.attributes.get("name", ""))
                made = build_field(number, {"name": name, "source": source, **keys}, self.problems, key)
                fields += [] if made is None else [made]
        return build_message(
            fields,
            self.problems,
            name=snake(PurePath(self.where).stem) or "jpos",
            mti_encoding=mti_encoding,
            bitmap=bitmap,
            field_max=bits,
            source=source_of("jPOS", self.where, ""),
        )

    def known(self, element: _Element, attributes: frozenset[str], key: str) -> None:
        for name in sorted(element.attributes.keys() - attributes):
            self.problems.add(f"{key}.{name}", "unknown attribute")

    def numbered(self, parent: _Element, key: str) -> dict[int, _Element]:
        """The fields under a packager by number, ascending."""
        elements = {}
        for element in parent.children:
            number = integer(element.attributes.get("id"))
            at = f"{key}.{element.attributes.get('id', '')}".strip(".")
            if element.tag not in ("isofield", "isofieldpackager"):
                self.problems.add(
                    at or f"line {element.line}", f"<{element.tag}>: expected isofield or isofieldpackager"
                )
            elif number is None:
                self.problems.add(f"line {element.line}", "id: expected a field number")
            elif number in elements:
                self.problems.add(at, "defined twice")
            else:
                packs = element.tag == "isofieldpackager"
                self.known(element, _HOLDER_ATTRIBUTES if packs else _FIELD_ATTRIBUTES, at)
                for name in ("token", "params", "encoding"):
                    if element.attributes.get(name):
                        self.problems.add(f"{at}.{name}", "changes what the class does in a way that is not known here")
                elements[number] = element
        return dict(sorted(elements.items()))

    def simple_class(self, element: _Element) -> str:
        """The class without its package; with it if that is not jPOS's."""
        return element.attributes.get("class", "").removeprefix(_ISO)

    def mti(self, element: _Element | None) -> str:
        name = "" if element is None else self.simple_class(element)
        if element is None or name not in _MTI:
            self.problems.add("0", f"{name or 'missing'}: our MTI is one of {', '.join(_MTI)}")
        elif integer(element.attributes.get("length")) != 4:
            self.problems.add("0.length", "expected 4")
        return _MTI.get(name, "ascii")

    def bitmap(self, element: _Element | None) -> tuple[str, int]:
        name = "" if element is None else self.simple_class(element)
        size = None if element is None else integer(element.attributes.get("length"))
        if name not in _BITMAPS:
            self.problems.add("1", f"{name or 'missing'}: our bitmap is one of {', '.join(_BITMAPS)}")
        elif size not in (8, 16, 24):
            self.problems.add("1.length", "expected 8, 16 or 24 bytes")
        return _BITMAPS.get(name, "binary"), 8 * size if size in (8, 16, 24) else 128

    # ---- values ----

    def value(self, element: _Element, key: str, number: int, depth: int) -> Keys | None:
        """Keyword arguments of a ValueSpec, but its name. ``number`` is 0 for sub-fields."""
        name = self.simple_class(element)
        found = _CLASSES.get(name)
        if found is None:
            why = _REFUSED.get(name, "not a class that is known here; a class of your own has to be described in TOML")
            self.problems.add(f"{key}.class", f"{name or 'missing'}: {why}")
            return None
        if found.tag is not None and depth == 0:
            self.problems.add(f"{key}.class", f"{name}: is for sub-fields")
            return None
        length = integer(element.attributes.get("length"))
        if length is None or length < 1:
            self.problems.add(f"{key}.length", "expected a whole number above 0")
            return None
        pad = element.attributes.get("pad", "false")
        if pad not in ("true", "false"):
            self.problems.add(f"{key}.pad", "expected true or false")
        keys = _keys(found, length, left=pad == "true")
        if keys["content"] == "n" and number in (35, 36):
            keys["content"] = "z"
            keys.pop("pad_side", None)
            keys.pop("pad_character", None)
        return keys if element.tag == "isofield" else self.parts(element, keys, key, depth)

    # ---- sub-fields ----

    def parts(self, element: _Element, keys: Keys, key: str, depth: int) -> Keys | None:
        before = len(self.problems)
        if depth >= NESTING_MAX:
            self.problems.add(key, f"more than {NESTING_MAX} levels of sub-fields")
            return None
        packager = element.attributes.get("packager", "").rpartition(".")[2]
        elements = {
            number: sub
            for number, sub in self.numbered(element, key).items()
            if self.simple_class(sub) not in ("IF_NOP", "IF_UNUSED")
        }
        if integer(element.attributes.get("headerLength", "0")) != 0:
            self.problems.add(f"{key}.headerLength", "a header in front of sub-fields")
        if packager in ("BERTLVBinaryPackager", "ICCDataPackager"):
            if elements:
                self.problems.add(f"{key}.packager", f"{packager} takes no sub-fields: BER-TLV says what they are")
            options: Keys | None = {"kind": "ber_tlv"}
        elif packager == "GenericTaggedFieldsPackager":
            options = self.by_tag(element, elements, key, depth, mapped=True)
        elif packager in ("GenericSubFieldPackager", "GenericPackager"):
            options = self.by_order(element, elements, packager, keys, key, depth)
        else:
            self.problems.add(
                f"{key}.packager",
                f"{packager or 'missing'}: expected GenericSubFieldPackager, GenericTaggedFieldsPackager or "
                "BERTLVBinaryPackager; or make it an isofield, to have it whole",
            )
            return None
        if options is None or len(self.problems) > before:
            return None
        layout = build_layout(options, self.problems, key)
        return None if layout is None else self.held(keys, layout, key)

    def held(self, keys: Keys, layout: Layout, key: str) -> Keys | None:
        """The field around its sub-fields. jPOS packs them, then hands the bytes to the field's own class."""
        content, encoding = holder(layout)
        outer, page = keys["content"], keys["encoding"]
        inner = content == "ans" and encoding == "ascii"
        if outer == "b":
            # Bytes as they are, or their hexadecimal: what is inside lies in the bytes that they stand for.
            if page == "binary" and keys.get("length_unit", "bytes") == "bytes" and content == "ans":
                keys |= {"content": "ans", "encoding": encoding}
        elif page.startswith("bcd"):
            if not inner or any(sub.content != "n" for sub in layout.subs) or layout.kind != "positions":
                self.problems.add(f"{key}.class", "packed digits hold nothing but sub-fields of ASCII digits")
                return None
        elif page in EBCDIC:
            if not inner:
                self.problems.add(f"{key}.class", "it turns all that is inside into EBCDIC; use a BINARY class")
                return None
            layout = _in_page(layout, page)
            keys["content"] = "ans"
        else:
            keys |= {"content": content, "encoding": encoding}
        for name in ("pad_side", "pad_character"):
            keys.pop(name, None)
        return {**keys, "layout": layout}

    def sub(self, ours: str, theirs: int, element: _Element, names: Names, key: str, depth: int) -> SubSpec | None:
        at = f"{key}.{theirs}"
        keys = self.value(element, at, 0, depth + 1)
        if keys is None:
            return None
        description = element.attributes.get("name", "")
        path = "" if ours.lstrip("0") == str(theirs) else at
        source = source_of("jPOS", self.where, description, path) if description or path else ""
        return build_sub(ours, {"name": names.make(description, ""), "source": source, **keys}, self.problems, at)

    def by_order(
        self, element: _Element, elements: dict[int, _Element], packager: str, outer: Keys, key: str, depth: int
    ) -> Keys | None:
        bitmap_at = integer(element.attributes.get("bitmapField", "1"))
        classes = {number: self.simple_class(sub) for number, sub in elements.items()}
        default = 2 if classes.get(1) in _BITMAPS else 1
        first = integer(element.attributes.get("firstField", str(default)))
        if first is None or bitmap_at is None:
            self.problems.add(f"{key}.firstField", "expected whole numbers")
            return None
        inside = {number: sub for number, sub in elements.items() if number >= first and number != bitmap_at}
        if packager == "GenericPackager" and first > 0 and 0 in elements and bitmap_at != 0:
            self.problems.add(f"{key}.0", "a message type in front of sub-fields")
        if element.attributes.get("emitBitmap", "true") == "true":
            return self.by_bitmap(elements.get(bitmap_at), inside, key, depth)
        inside = {number: sub for number, sub in elements.items() if number >= first}
        tagged = [number for number in inside if (found := _CLASSES.get(classes[number])) and found.tag is not None]
        if tagged and len(tagged) == len(inside):
            return self.by_tag(element, inside, key, depth, mapped=False)
        if tagged:
            self.problems.add(f"{key}.{tagged[0]}", "tags behind sub-fields that have a place")
            return None
        names = Names()
        made = [
            self.sub(str(index + 1), number, sub, names, key, depth)
            for index, (number, sub) in enumerate(inside.items())
        ]
        subs = [sub for sub in made if sub is not None]
        if len(subs) < len(made):
            return None
        if outer.get("length_prefix") is not None:
            return {"kind": "positions", "subs": tuple(_optional(subs))}  # jPOS stops where the field ends
        # The size of what is inside a fixed field: bytes, or the digits that a packed one holds.
        size, taken = outer["length_max"], sum(size_of(sub) for sub in subs)
        if taken < size:
            self.problems.add(f"{key}.length", f"the sub-fields take {taken} of {size}; jPOS would ignore the rest")
        return {"kind": "positions", "subs": tuple(subs if taken == size else _optional(subs))}

    def by_bitmap(self, bitmap: _Element | None, inside: dict[int, _Element], key: str, depth: int) -> Keys | None:
        name = "" if bitmap is None else self.simple_class(bitmap)
        size = None if bitmap is None else integer(bitmap.attributes.get("length"))
        if name not in ("IFB_BITMAP", "IFA_BITMAP"):
            why = (
                "in EBCDIC is not known to sub-fields here" if name in _BITMAPS else "expected IFB_BITMAP or IFA_BITMAP"
            )
            self.problems.add(f"{key}.bitmapField", f"{name or 'missing'}: {why}; without bitmap say emitBitmap=false")
            return None
        if size is None or not 1 <= size <= 8:
            self.problems.add(f"{key}.bitmapField", "a bitmap of more than 8 bytes grows in jPOS; ours does not")
            return None
        names = Names()
        made = [self.sub(str(number), number, sub, names, key, depth) for number, sub in inside.items()]
        subs = tuple(sub for sub in made if sub is not None)
        return {"kind": "bitmap", "subs": subs, "bitmap": _BITMAPS[name], "bitmap_size": size}

    def by_tag(
        self, element: _Element, elements: dict[int, _Element], key: str, depth: int, mapped: bool
    ) -> Keys | None:
        classes = {self.simple_class(sub) for sub in elements.values()}
        found = [_CLASSES[name] for name in sorted(classes) if name in _CLASSES]
        forms = {(entry.tag, entry.prefix, entry.mapped) for entry in found}
        if len(forms) != 1 or len(found) < len(classes):
            self.problems.add(f"{key}.packager", f"one layout has one form of tag and length, not {', '.join(classes)}")
            return None
        ((tag, prefix, is_mapped),) = forms
        if tag is None or is_mapped != mapped:
            self.problems.add(f"{key}.packager", f"does not go with {', '.join(sorted(classes))}")
            return None
        mapper = element.attributes.get("tagMapper", "").rpartition(".")[2]
        if mapped and _TAG_MAPPERS.get(mapper) != tag[0]:
            self.problems.add(f"{key}.tagMapper", f"{mapper or 'missing'}: not known for tags of {tag[0]} characters")
        names = Names()
        made = [self.sub(str(number).zfill(tag[0]), number, sub, names, key, depth) for number, sub in elements.items()]
        return {
            "kind": "tlv",
            "subs": tuple(sub for sub in made if sub is not None),
            "unknown": "refuse" if mapped else "keep",
            "tag_size": tag[0],
            "tag_encoding": tag[1],
            "value_prefix": prefix,
        }


def _keys(found: _Class, length: int, left: bool) -> Keys:
    keys: Keys = {"content": found.content, "encoding": found.encoding, "length_unit": found.unit}
    if found.encoding == "bcd":
        keys["encoding"] = "bcd_right" if left else "bcd_left"
        keys["pad_nibble"] = "0" if left else found.pad_nibble
    if found.fill is not None:
        keys["pad_side"], keys["pad_character"] = found.fill
    if found.unit == "nibbles":
        length *= 2
    if not found.prefix:
        return {**keys, "length_min": length, "length_max": length}
    if found.tag is None:
        keys["length_prefix"] = found.prefix
    return {**keys, "length_min": 0, "length_max": capped(length, found.prefix)}


def _optional(subs: Iterable[SubSpec]) -> Iterator[SubSpec]:
    for sub in subs:
        yield replace(sub, optional=True)


def _in_page(layout: Layout, page: str) -> Layout:
    """A layout of ASCII text as it lies in EBCDIC."""

    def name(prefix: str | None) -> str | None:
        return prefix and prefix.replace("ascii", "ebcdic")

    subs = []
    for sub in layout.subs:
        inner = None if sub.layout is None else _in_page(sub.layout, page)
        subs.append(replace(sub, encoding=page, length_prefix=name(sub.length_prefix), layout=inner))
    tag_encoding = page if layout.kind == "tlv" else layout.tag_encoding
    return replace(layout, subs=tuple(subs), tag_encoding=tag_encoding, value_prefix=name(layout.value_prefix))


# ---- writing -------------------------------------------------------------------------------------


def _by_form() -> dict[tuple[str, str, str, str, str], str]:
    forms: dict[tuple[str, str, str, str, str], str] = {}
    for name, found in _CLASSES.items():
        if found.tag is None:
            forms.setdefault((found.content, found.encoding, found.prefix, found.unit, found.pad_nibble), name)
    return forms


_FORMS: Final = _by_form()
#: Prefixes of as many bytes, whose greatest lengths alone differ.
_AS_WIDE: Final = {"bcd1": "bcd2", "bcd3": "bcd4", "bcd4": "bcd3", "bcd5": "bcd6"}


def write(definition: MessageSpec) -> str:
    """A spec as the XML of a GenericPackager.

    What a spec says beyond the wire has no place there, nor do content classes, least lengths and the names of BER-TLV
    tags; :func:`iso8583.convert.left_out` lists it.

    Raises:
        SpecError: It says what jPOS's classes cannot express; names all of it.
    """
    return _Writer(definition).message()


class _Writer:
    def __init__(self, definition: MessageSpec) -> None:
        self.definition = definition
        self.problems = Problems(definition.name)
        self.lines: list[str] = []

    def message(self) -> str:
        definition = self.definition
        refuse_messages(definition, "jPOS", self.problems)
        bitmap = next(name for name, form in _BITMAPS.items() if form == definition.bitmap)
        self.element(0, 0, "MESSAGE TYPE INDICATOR", 4, _MTI_CLASSES[definition.mti_encoding])
        self.element(0, 1, "BIT MAP", definition.field_max // 8, bitmap)
        for field_ in definition.fields:
            self.value(field_, field_.number, f"field.{field_.number}", 0)
        self.problems.check()
        head = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<!DOCTYPE isopackager PUBLIC "-//jPOS/jPOS Generic Packager DTD 1.0//EN"\n'
            '        "http://jpos.org/dtd/generic-packager-1.0.dtd">\n'
        )
        opening = f'<isopackager maxValidField="{definition.field_max}">'
        return head + "\n".join([opening, *self.lines, "</isopackager>"]) + "\n"

    def element(self, depth: int, number: int, name: str, length: int, class_: str, more: str = "") -> None:
        self.lines.append(
            f'{"  " * (depth + 1)}<isofield id="{number}" length="{length}" name={quoteattr(name)}'
            f'{more} class="{_ISO}{class_}"/>'
        )

    def value(self, value: ValueSpec, number: int, key: str, depth: int) -> None:
        packer = None if value.layout is None else self.packager(value, value.layout, key)
        form = self.form(value, number if depth == 0 else 0, key)
        if form is None:
            return
        class_, length = form
        more = f' pad="{"true" if value.encoding == "bcd_right" else "false"}"' if value.packed else ""
        if value.layout is None or packer is None:
            self.element(depth, number, description_of(value), length, class_, more)
            return
        self.element(depth, number, description_of(value), length, class_, more)
        opening = self.lines.pop().replace("<isofield ", "<isofieldpackager ").removesuffix("/>")
        packager, attributes = packer
        self.lines.append(f'{opening} packager="{packager}"{attributes}>')
        if value.layout.kind != "ber_tlv":
            self.parts(value, value.layout, key, depth + 1)
        self.lines.append(f"{'  ' * (depth + 1)}</isofieldpackager>")

    def form(self, value: ValueSpec, number: int, key: str) -> tuple[str, int] | None:
        """(class, length), the length in jPOS's units; None and a problem if there is none."""
        before = len(self.problems)
        content, encoding, unit = value.content, value.encoding, "bytes"
        length, pad_nibble = value.length_max, "0"
        if value.layout is not None and not value.packed and value.type is str:
            content, encoding = "b", "binary"  # the sub-fields are text; what is around them is bytes to jPOS
        if value.packed:
            encoding, unit = "bcd", "digits"
            content = "xn" if content == "xn" else "n"  # NUM carries all nibbles
            if value.length_unit == "bytes":
                length *= 2
                if not value.fixed:
                    self.problems.add(f"{key}.length_unit", "jPOS's lengths of packed values count digits")
            odd = not value.fixed or (length - (content == "xn")) % 2  # may be
            if value.pad_nibble == "F" and odd:
                pad_nibble = "F"
                if value.encoding == "bcd_right":
                    self.problems.add(f"{key}.pad_nibble", "jPOS fills up digits on the left with 0")
        elif content == "b":
            if value.length_unit == "nibbles":
                unit, length = "nibbles", length // 2
            elif value.length_unit == "digits":
                length //= 2
                if not value.fixed:
                    self.problems.add(f"{key}.length_unit", "jPOS's lengths of hexadecimal values count bytes")
        else:
            encoding = "ascii" if encoding == "latin1" else encoding
            encoding = "cp1047" if encoding in EBCDIC and content in EVERY_PAGE else encoding
            content = self.text(value, number, key)
        if not value.fixed and value.length_prefix is None:
            self.problems.add(f"{key}.length", "jPOS has no sub-field that takes what is left")
        if length < 1:
            self.problems.add(f"{key}.length_max", "half a byte")
        if len(self.problems) > before:
            return None
        prefix = value.length_prefix or ""
        prefixes = [prefix, _AS_WIDE[prefix]] if prefix in _AS_WIDE else [prefix]
        for one in prefixes:
            for kind in [content, "ans"] if content in ("n", "xn") and encoding != "bcd" and prefix else [content]:
                class_ = _FORMS.get((kind, encoding, one, unit, pad_nibble))
                if class_ is not None and length <= capped(LENGTH_MAX, one or None):
                    return class_, length
        told = f"content {value.content}, {value.encoding}, {value.length_prefix or 'fixed length'}"
        self.problems.add(key, f"jPOS has no class for {told}")
        return None

    def text(self, value: ValueSpec, number: int, key: str) -> str:
        """The content of the class: it decides how jPOS fills up."""
        fill = None if value.pad_side is None else (value.pad_side, value.pad_character)
        if fill == ("left", "0") or (value.content == "n" and fill is None):
            return "n"
        if fill not in (None, ("right", " ")):
            self.problems.add(f"{key}.pad_side", "jPOS fills up with zeros on the left or with blanks on the right")
        if value.content == "xn":
            return "xn"
        return "n" if number in (35, 36) and value.content in ("track2", "z") else "ans"

    def packager(self, value: ValueSpec, layout: Layout, key: str) -> tuple[str, str] | None:
        """(packager, its attributes)."""
        generic = f"{_ISO}packager.GenericSubFieldPackager"
        if layout.kind == "ber_tlv":
            return "org.jpos.tlv.packager.bertlv.BERTLVBinaryPackager", ""
        for sub in layout.subs:
            if sub.times is not None:
                self.problems.add(f"{key}.sub.{sub.key}.times", f"jPOS cannot say that it comes several times; {FLAT}")
            if sub.repeat:
                self.problems.add(f"{key}.sub.{sub.key}.repeat", f"jPOS takes a tag once; {FLAT}")
        if layout.kind == "positions":
            if value.packed and any(sub.content != "n" for sub in layout.subs):
                self.problems.add(f"{key}.layout", f"in packed digits jPOS has sub-fields of digits only; {FLAT}")
            return generic, ' emitBitmap="false" firstField="1"'
        if layout.kind == "bitmap":
            if layout.bitmap_size > 8:
                self.problems.add(f"{key}.bitmap_size", f"a bitmap of more than 8 bytes grows in jPOS; {FLAT}")
            return generic, ' emitBitmap="true" bitmapField="0" firstField="1"'
        if layout.value_prefix is None or not layout.subs or not all(sub.key.isdigit() for sub in layout.subs):
            self.problems.add(f"{key}.layout", f"jPOS has lengths behind the tags, and decimal tags, all known; {FLAT}")
            return None
        if layout.unknown == "keep":
            return generic, ' emitBitmap="false" firstField="0"'
        mapper = next((name for name, size in _TAG_MAPPERS.items() if size == layout.tag_size), "")
        if not mapper:
            self.problems.add(f"{key}.tag_size", "jPOS maps tags of two and three digits")
        return f"{_ISO}packager.GenericTaggedFieldsPackager", f' tagMapper="{_ISO}packager.{mapper}"'

    def parts(self, value: ValueSpec, layout: Layout, key: str, depth: int) -> None:
        if layout.kind == "bitmap":
            class_ = next(name for name, form in _BITMAPS.items() if form == layout.bitmap)
            self.element(depth, 0, "BIT MAP", layout.bitmap_size, class_)
        for sub in layout.subs:
            at = f"{key}.sub.{sub.key}"
            if layout.kind != "tlv":
                self.value(sub, int(sub.key), at, depth)
                continue
            page = "cp1047" if layout.tag_encoding in EBCDIC else layout.tag_encoding
            text = "cp1047" if sub.encoding in EBCDIC and sub.content in EVERY_PAGE else sub.encoding
            wanted = _Class(
                "b" if sub.type is bytes else "ans",
                text,
                layout.value_prefix or "",
                tag=(layout.tag_size, page),
                mapped=layout.unknown == "refuse",
            )
            class_ = next((name for name, found in _CLASSES.items() if found == wanted), "")
            if not class_ or sub.layout is not None:
                self.problems.add(at, f"jPOS has no class for a tagged value like this; {FLAT}")
            self.element(depth, int(sub.key), description_of(sub), capped(sub.length_max, layout.value_prefix), class_)
