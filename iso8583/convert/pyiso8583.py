"""Specs of pyiso8583: a dict of dicts with the keys h, t, p, 1, 2, 3 ..., and back.

    {"t": {"data_enc": "ascii", ...}, "2": {"data_enc": "b", "len_enc": "bcd", "len_type": 1, "max_len": 19,
           "len_count": "nibbles", "left_pad": "0", "desc": "PAN"}, ...}

It has no types: ``data_enc`` is ``"b"`` or the name of a Python codec. Whether ``"b"`` means digits or bytes, and
whether text is a number, is decided by the edition of ISO 8583 (1987, 1993 or 2003) that has the lengths of most of its
fields: where number and length of a field agree with it, so does the content class. Everything else is ``ans`` or
``b``, and ``z`` where pads show that nibbles are meant. A pad must be there, as with pyiso8583 (``pad_strict``).

Source: pyiso8583 4.0.1, iso8583/specs.py, and the behaviour of its encoder and decoder.
"""

from __future__ import annotations

import ast
import codecs
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Final

from iso8583.convert._common import (
    EBCDIC,
    EVERY_PAGE,
    FLAT,
    Keys,
    Names,
    Problems,
    build_field,
    build_message,
    capped,
    description_of,
    integer,
    refuse_messages,
    snake,
    source_of,
    standards,
)
from iso8583.errors import SpecError
from iso8583.spec import FIELD_MAX, PREFIXES, FieldSpec, MessageSpec

_KEYS: Final = ("data_enc", "len_enc", "len_type", "max_len", "desc", "len_count", "left_pad", "right_pad")

#: Python's name of a codec -> our encoding
_PAGES: Final = {
    "ascii": "ascii",
    "iso8859-1": "latin1",
    "utf-8": "utf8",
    "gb18030": "gb18030",
    **{page: page for page in ("cp037", "cp500")},
}
_CODECS: Final = {"latin1": "latin-1", "utf8": "utf-8", "gbk": "gb18030"}
_PACKED: Final = frozenset({"n", "z", "track2"})


def read(spec: Mapping[str, Any] | str, where: str = "<pyiso8583>") -> MessageSpec:
    """A spec from pyiso8583's dict, or from its text as JSON or as a Python literal.

    Raises:
        SpecError: It is wrong, or says what our specs cannot express; names all of it.

    >>> plain = {"data_enc": "ascii", "len_enc": "ascii", "len_type": 0}
    >>> definition = read({"h": {**plain, "max_len": 0}, "t": {**plain, "max_len": 4}, "p": {**plain, "max_len": 16},
    ...                    "1": {**plain, "max_len": 16}, "4": {**plain, "max_len": 12, "desc": "Amount"}})
    >>> definition.bitmap, definition.by_number[4].name, definition.by_number[4].expected()
    ('hex', 'amount', '12 bytes')
    """
    return _Reader(where).message(_parsed(spec, where) if isinstance(spec, str) else spec)


def _parsed(text: str, where: str) -> Any:
    # JSON of this shape is a Python literal too; `name = {...}` is how it stands in a module.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes, which are not ours to mend
            tree = ast.parse(re.sub(r"\A\s*[A-Za-z_]\w*\s*=\s*", "", text).strip(), mode="eval")
        for node in ast.walk(tree):
            keys = (
                [key.value for key in node.keys if isinstance(key, ast.Constant)] if isinstance(node, ast.Dict) else []
            )
            for key in keys:
                if keys.count(key) > 1:
                    raise SpecError(where, str(key), "given twice")
        return ast.literal_eval(tree)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise SpecError(where, "", "neither JSON nor the literal of a Python dict") from None


class _Reader:
    def __init__(self, where: str) -> None:
        self.where = where
        self.problems = Problems(where)
        self.contents: Mapping[int, str] = {}

    def message(self, spec: Any) -> MessageSpec:
        if not isinstance(spec, Mapping):
            raise SpecError(self.where, "", "expected a dict with the keys h, t, p, 1, 2 ...")
        for key in ("t", "p"):
            if not isinstance(spec.get(key), Mapping):
                raise SpecError(self.where, key, "missing; a pyiso8583 spec has the keys h, t, p, 1, 2 ...")
        for key, entry in spec.items():
            if not isinstance(entry, Mapping):
                raise SpecError(self.where, str(key), "expected a dict")
            for name in entry:
                if name not in _KEYS:
                    self.problems.add(f"{key}.{name}", f"unknown key; expected one of {', '.join(_KEYS)}")
        header = spec.get("h", {})
        if integer(header.get("max_len", 0)) != 0:
            self.problems.add("h.max_len", "our specs start at the MTI: say 0, and what stands in front with `header`")
        mti = self.form(spec["t"], "t", {"b": "bcd", "text": "ascii", "ebcdic": "ebcdic"})
        forms = {"b": "binary", "text": "hex", "ebcdic": "hex_ebcdic"}
        bitmap = self.form(spec["p"], "p", forms)
        if "1" in spec and self.form(spec["1"], "1", forms) != bitmap:
            self.problems.add("1.data_enc", "our bitmaps are all written in the same way; expected that of p")
        self.contents = _contents(spec)
        names = Names()
        fields: list[FieldSpec] = []
        for key, entry in spec.items():
            if key in ("h", "t", "p", "1", "65"):  # 65 describes the third bitmap, which is written as the others are
                continue
            number = integer(str(key))
            if number is None or not 2 <= number <= FIELD_MAX:
                self.problems.add(str(key), f"expected h, t, p, 1 or a field number, 2 to {FIELD_MAX}")
                continue
            keys = self.value(number, entry)
            if keys is None:
                continue
            description = str(entry.get("desc", ""))
            keys["name"] = names.make(description, f"field_{number}")
            keys["source"] = source_of("pyiso8583", self.where, description)
            field = build_field(number, keys, self.problems, str(key))
            fields += [] if field is None else [field]
        top = max((field.number for field in fields), default=2)
        if top > 64 and "1" not in spec:
            self.problems.add("1", f"missing; field {top} needs the second bitmap")
        return build_message(
            fields,
            self.problems,
            name=snake(PurePath(self.where).stem) or "pyiso8583",
            mti_encoding=mti,
            bitmap=bitmap,
            field_max=192 if top > 128 else 128 if "1" in spec else 64,
            source=source_of("pyiso8583", self.where, ""),
        )

    def page(self, name: object, key: str) -> str | None:
        try:
            codec = codecs.lookup(name).name if isinstance(name, str) and name.isascii() else ""
        except LookupError:
            codec = ""
        if codec in _PAGES:
            return _PAGES[codec]
        self.problems.add(key, f"{name!r}: our specs have b, {', '.join(_PAGES)}")
        return None

    def form(self, entry: Mapping[str, Any], key: str, forms: Mapping[str, str]) -> str:
        if entry.get("data_enc") == "b":
            return forms["b"]
        page = self.page(entry.get("data_enc"), f"{key}.data_enc")
        return forms["ebcdic" if page in EBCDIC else "text"]

    def value(self, number: int, entry: Mapping[str, Any]) -> Keys | None:
        """Keyword arguments of a FieldSpec, but its name."""
        before = len(self.problems)
        count = entry.get("len_count", "bytes")
        if count not in ("bytes", "nibbles"):
            self.problems.add(f"{number}.len_count", "expected bytes or nibbles")
        length, size = integer(entry.get("max_len")), integer(entry.get("len_type"))
        if length is None or length < 1:
            self.problems.add(f"{number}.max_len", "expected a whole number above 0")
        if size is None:
            self.problems.add(f"{number}.len_type", "expected a whole number")
        if length is None or size is None or len(self.problems) > before:
            return None
        prefix = self.prefix(number, entry.get("len_enc"), size, length) if size else None
        if entry.get("data_enc") == "b":
            keys = self.binary(number, entry, length, count, varies=size > 0)
        else:
            keys = self.text(number, entry, length, count, varies=size > 0)
        if len(self.problems) > before:
            return None
        length = keys.pop("length", length)
        if prefix is None:
            return {**keys, "length_min": length, "length_max": length}
        return {**keys, "length_min": 0, "length_max": capped(length, prefix), "length_prefix": prefix}

    def prefix(self, number: int, enc: object, size: int, length: int) -> str | None:
        if enc == "b":
            name = f"binary{size}"
        elif enc == "bcd":
            odd = 2 * size - 1  # three digits are what two bytes hold as a rule
            name = f"bcd{odd if size > 1 and length < 10**odd else 2 * size}"
        else:
            page = self.page(enc, f"{number}.len_enc")
            if page is None:
                return None
            name = f"{'ebcdic' if page in EBCDIC else 'ascii'}{size}"
        if name in PREFIXES:
            return name
        self.problems.add(f"{number}.len_type", f"{size} bytes: our specs have no such length prefix")
        return None

    def text(self, number: int, entry: Mapping[str, Any], length: int, count: object, varies: bool) -> Keys:
        page = self.page(entry.get("data_enc"), f"{number}.data_enc") or "ascii"
        if count == "nibbles":
            if varies or length % 2:
                self.problems.add(f"{number}.len_count", "nibbles of text: our lengths of text count bytes")
            length //= 2
        content = self.contents.get(number, "ans")
        content = "z" if content == "track2" else content if content in ("n", "xn", "z") else "ans"
        if content != "ans" and page not in EBCDIC:
            page = "ascii"
        return {"content": content, "encoding": page, "length": length}

    def binary(self, number: int, entry: Mapping[str, Any], length: int, count: object, varies: bool) -> Keys:
        content = self.contents.get(number, "")
        content = "z" if content == "track2" else content if content in _PACKED else ""
        left, right = entry.get("left_pad", ""), entry.get("right_pad", "")
        pad = str(left or right)[:1].upper()
        if count == "bytes":
            if content:
                return {"content": content, "encoding": "bcd_right", "length_unit": "bytes", "length": length}
            return {"content": "b", "encoding": "binary", "length": length}
        if not content and not pad:
            if length % 2 and not varies:
                self.problems.add(f"{number}.max_len", "an odd number of nibbles needs left_pad or right_pad")
            return {"content": "b", "encoding": "binary", "length_unit": "nibbles", "length": length}
        if pad not in ("0", "F", ""):
            self.problems.add(f"{number}.{'left_pad' if left else 'right_pad'}", "our pad nibbles are 0 and F")
        return {
            "content": content or "z",
            "encoding": "bcd_right" if left or not right else "bcd_left",
            "length_unit": "digits",
            "pad_nibble": pad if pad in ("0", "F") else "0",
            "pad_strict": bool(pad),
            "length": length,
        }


def _contents(spec: Mapping[str, Any]) -> Mapping[int, str]:
    """Content classes of the fields that agree with an edition of the standard: the one with which most agree."""

    def agreeing(edition: Mapping[int, FieldSpec]) -> Mapping[int, str]:
        fields = {integer(str(key)): entry for key, entry in spec.items()}
        return {number: field.content for number, field in edition.items() if _agrees(fields.get(number, {}), field)}

    return max(map(agreeing, standards()), key=len)


def _agrees(entry: Mapping[str, Any], field: FieldSpec) -> bool:
    length = integer(entry.get("max_len")) or 0
    if field.fixed != (integer(entry.get("len_type")) == 0):
        return False
    if entry.get("data_enc") != "b":
        return length == field.length_max
    nibbles = length if entry.get("len_count") == "nibbles" else 2 * length
    wanted = 2 * field.length_max if field.content == "b" else field.length_max
    return nibbles == wanted or (entry.get("len_count") != "nibbles" and nibbles == wanted + wanted % 2)


# ---- writing -------------------------------------------------------------------------------------


def write(definition: MessageSpec) -> dict[str, dict[str, Any]]:
    """A spec as pyiso8583's dict.

    Fill characters, content classes and least lengths have no place there, nor what a spec says beyond the wire;
    :func:`iso8583.convert.left_out` lists it.

    Raises:
        SpecError: It says what pyiso8583 cannot express; names all of it.
    """
    problems = Problems(definition.name)
    refuse_messages(definition, "pyiso8583", problems)
    mti = {"ascii": ("ascii", 4), "bcd": ("b", 2), "ebcdic": ("cp500", 4)}[definition.mti_encoding]
    bitmap = {"binary": ("b", 8), "hex": ("ascii", 16), "hex_ebcdic": ("cp500", 16)}[definition.bitmap]
    spec = {
        "h": _entry(("ascii", 0), "Message Header"),
        "t": _entry(mti, "Message Type"),
        "p": _entry(bitmap, "Bitmap, Primary"),
        "1": _entry(bitmap, "Bitmap, Secondary"),
    }
    for field in definition.fields:
        if field.number == 65:
            problems.add("field.65", "pyiso8583 takes bit 65 for the sign of a third bitmap")
        spec[str(field.number)] = _field(field, problems)
    problems.check()
    return spec


def text_of(spec: Mapping[str, Any]) -> str:
    """The dict as JSON, which is a Python literal too."""
    return json.dumps(spec, indent=4) + "\n"


def _entry(form: tuple[str, int], description: str) -> dict[str, Any]:
    return {"data_enc": form[0], "len_enc": "ascii", "len_type": 0, "max_len": form[1], "desc": description}


def _field(field: FieldSpec, problems: Problems) -> dict[str, Any]:
    key = f"field.{field.number}"
    if field.layout is not None:
        problems.add(f"{key}.layout", f"pyiso8583 has no sub-fields; {FLAT}")
    data_enc, length = field.encoding, field.length_max
    more: dict[str, Any] = {}
    if field.packed:
        data_enc = "b"
        if field.content == "xn":
            problems.add(f"{key}.content", "pyiso8583 has no sign in front of packed digits; use content b")
        if field.length_unit == "digits":
            side = "left_pad" if field.encoding == "bcd_right" else "right_pad"
            more = {"len_count": "nibbles", side: field.pad_nibble}
    elif field.content == "b":
        if field.encoding == "binary":
            data_enc = "b"
            more = {"len_count": "nibbles"} if field.length_unit == "nibbles" else {}
        else:  # hexadecimal text there
            data_enc = "ascii" if field.encoding == "hex" else "cp500"
            if field.length_unit == "bytes":
                length *= 2
                if not field.fixed:
                    problems.add(f"{key}.length_unit", "pyiso8583's lengths of hexadecimal text count its characters")
    elif field.encoding in EBCDIC and field.content in EVERY_PAGE:
        data_enc = "cp500"
    elif field.encoding == "cp1047":
        problems.add(f"{key}.encoding", "Python has no cp1047")
    len_enc, len_type = "ascii", 0
    if field.length_prefix is not None:
        digits, form = PREFIXES[field.length_prefix]
        len_enc = {"ascii": "ascii", "ebcdic": "cp500", "bcd": "bcd", "binary": "b"}.get(form, "")
        len_type = (digits + 1) // 2 if form == "bcd" else digits
        if not len_enc:
            problems.add(f"{key}.length_prefix", "pyiso8583 has no hexadecimal lengths")
    return {
        "data_enc": _CODECS.get(data_enc, data_enc),
        "len_enc": len_enc,
        "len_type": len_type,
        "max_len": length,
        "desc": description_of(field),
        **more,
    }
