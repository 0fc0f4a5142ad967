"""What the readers and writers of all foreign formats share.

The rule of this package: a fact about the wire that the other side has no words for is refused by name, never dropped
or guessed. All such facts of a file are told at once, because they are mended at once.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import PurePath
from typing import Any, Final, TypeAlias

from iso8583.errors import SpecError
from iso8583.spec import LENGTH_MAX, PREFIXES, FieldSpec, Layout, MessageSpec, SubSpec, ValueSpec, prefix_max
from iso8583.specfile import load_bundled

Keys: TypeAlias = dict[str, Any]  # keyword arguments of a ValueSpec

TEXT_MAX: Final = 1024 * 1024  # bytes of a file; the largest packager in use is below 100 kB
NAME_MAX: Final = 60  # characters of a name made from a description

EBCDIC: Final = ("cp037", "cp500", "cp1047")
#: Contents whose characters have the same byte in all EBCDIC pages.
EVERY_PAGE: Final = frozenset({"n", "a", "an", "xn"})


class Problems:
    """What cannot be expressed in one file, in the order of discovery."""

    def __init__(self, where: str) -> None:
        self.where = where
        self._found: list[tuple[str, str]] = []

    def add(self, key: str, detail: str) -> None:
        self._found.append((key, detail))

    def __len__(self) -> int:
        return len(self._found)

    def check(self) -> None:
        """
        Raises:
            SpecError: There are problems; it names them all.
        """
        if not self._found:
            return
        key, detail = self._found[0]
        if len(self._found) > 1:
            lines = "".join(f"\n  {key}: {detail}" if key else f"\n  {detail}" for key, detail in self._found)
            raise SpecError(self.where, "", f"{len(self._found)} things cannot be expressed:{lines}\n ")
        raise SpecError(self.where, key, detail)


# ---- names, marks and sources --------------------------------------------------------------------


def snake(text: str) -> str:
    """A description as a name; ``""`` if it has no letter or digit.

    >>> snake("PAN - PRIMARY ACCOUNT NUMBER"), snake("3-D Secure"), snake("Naïve (x)")
    ('pan_primary_account_number', 'x_3_d_secure', 'naive_x')
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:NAME_MAX].rstrip("_")
    return f"x_{name}" if name[:1].isdigit() else name


class Names:
    """Names that are unique among neighbours. A sub-field without description may go without one (``fallback=""``)."""

    def __init__(self) -> None:
        self._taken = {"mti"}  # is what messages call their type

    def make(self, description: str, fallback: str) -> str:
        stem = snake(description) or fallback
        if not stem:
            return ""
        name, count = stem, 1
        while name in self._taken:
            count += 1
            name = f"{stem}_{count}"
        self._taken.add(name)
        return name


def source_of(format_name: str, where: str, description: str, at: str = "") -> str:
    """Where a field comes from, and what it was called there: names are made of that and cannot be turned back.

    >>> source_of("jPOS", "cfg/iso87ascii.xml", "PROCESSING CODE")
    'jPOS iso87ascii.xml: "PROCESSING CODE"'
    """
    place = " ".join(part for part in (format_name, PurePath(where).name, at) if part)
    return f'{place}: "{description}"' if description else place


def description_of(value: ValueSpec) -> str:
    """What the other format should call a value: what it was called there once, or else its name in words."""
    quoted = re.search(r': "(.*)"$', value.source, re.DOTALL)
    if quoted and re.fullmatch(re.escape(snake(quoted[1])) + r"(_\d+)?", value.name):
        return quoted[1]
    return value.name.replace("_", " ")


@cache
def standards() -> tuple[Mapping[int, FieldSpec], ...]:
    """The editions of ISO 8583, by field number."""
    names = ("iso8583_1987_ascii", "iso8583_1993_ascii", "iso8583_2003_ascii")
    return tuple(load_bundled(name).by_number for name in names)


def sensitive_of(number: int, layout: Layout | None) -> str | None:
    """What must not be seen: no other format says it, so the numbers of ISO 8583:1987 decide."""
    known = standards()[0].get(number)
    kind = None if known is None else known.sensitive
    if kind == "icc" and (layout is None or layout.kind != "ber_tlv"):
        return "private"  # the tags cannot be told apart, so nothing is shown
    return kind


# ---- building ------------------------------------------------------------------------------------


def build_field(number: int, keys: Keys, problems: Problems, key: str) -> FieldSpec | None:
    """The field, or None and a problem."""
    try:
        return FieldSpec(number=number, sensitive=sensitive_of(number, keys.get("layout")), **keys)
    except SpecError as error:
        problems.add(f"{key}.{error.key}".rstrip("."), error.detail)
        return None


def build_sub(sub_key: str, keys: Keys, problems: Problems, key: str) -> SubSpec | None:
    try:
        return SubSpec(key=sub_key, **keys)
    except SpecError as error:
        problems.add(f"{key}.{error.key}".rstrip("."), error.detail)
        return None


def build_layout(options: Keys, problems: Problems, key: str) -> Layout | None:
    """The layout, or None and a problem for every sub-field that it cannot have."""
    before = len(problems)
    subs = options.get("subs", ())
    if options["kind"] != "positions":  # sub-fields stand for themselves there
        for sub in subs:
            _try_layout({**options, "subs": (sub,)}, problems, key)
    return _try_layout({**options, "subs": subs}, problems, key) if len(problems) == before else None


def _try_layout(options: Keys, problems: Problems, key: str) -> Layout | None:
    try:
        return Layout(**options)
    except SpecError as error:
        problems.add(f"{key}.{error.key}".rstrip("."), error.detail)
        return None


def build_message(fields: Iterable[FieldSpec], problems: Problems, **keys: Any) -> MessageSpec:
    """The spec.

    Raises:
        SpecError: There are problems, these or earlier ones.
    """
    problems.check()
    try:
        return MessageSpec(fields=tuple(sorted(fields, key=lambda field: field.number)), **keys)
    except SpecError as error:
        raise SpecError(problems.where, error.key, error.detail) from None


def holder(layout: Layout) -> tuple[str, str]:
    """(content, encoding) of a value that only holds sub-fields: text if all of it is text of one character set, tags,
    lengths and bitmap included; else bytes."""
    pages = {"" if sub.type is bytes or sub.packed else sub.encoding for sub in layout.subs}
    prefixes = [layout.value_prefix, *(sub.length_prefix for sub in layout.subs)]
    forms = {PREFIXES[prefix][1] for prefix in prefixes if prefix is not None}
    if layout.kind == "tlv":
        pages.add(layout.tag_encoding)
    if layout.kind == "bitmap":
        pages.add("ascii" if layout.bitmap == "hex" else "")
    if layout.kind != "ber_tlv" and len(pages) == 1:
        (page,) = pages
        if page in ("ascii", *EBCDIC) and forms <= {"ebcdic" if page in EBCDIC else page}:
            return "ans", page
    return "b", "binary"


def size_of(value: ValueSpec) -> int:
    """Bytes that a value takes at most, its prefix included."""
    size = value.length_max
    if value.packed and value.length_unit == "digits":
        size = (size + 1) // 2 if value.content != "xn" else 1 + size // 2
    elif value.encoding.startswith("hex") and value.length_unit == "bytes":
        size *= 2
    elif value.length_unit == "nibbles":
        size //= 2
    if value.length_prefix is not None:
        digits, form = PREFIXES[value.length_prefix]
        size += (digits + 1) // 2 if form == "bcd" else digits
    return size


def capped(length: int, prefix: str | None) -> int:
    """A greatest length, cut to what its prefix can say: more can never come."""
    return min(length, LENGTH_MAX if prefix is None else prefix_max(prefix))


# ---- walking -------------------------------------------------------------------------------------


def values_of(definition: MessageSpec) -> Iterator[tuple[str, ValueSpec]]:
    """(key, value) of every field and sub-field."""
    for field in definition.fields:
        yield from _values_under(f"field.{field.number}", field)


def _values_under(key: str, value: ValueSpec) -> Iterator[tuple[str, ValueSpec]]:
    yield key, value
    for sub in () if value.layout is None else value.layout.subs:
        yield from _values_under(f"{key}.sub.{sub.key}", sub)


def refuse_messages(definition: MessageSpec, format_name: str, problems: Problems) -> None:
    """What no other format has: fields that depend on the message."""
    for variant in definition.variants:
        problems.add(f"mti.{variant.mti}", f"{format_name} has the same fields in all messages; convert for one MTI")
    for key, value in values_of(definition):
        if value.usages:
            problems.add(f"{key}.usage", f"{format_name} has no layouts that depend on the message; {FLAT}")


FLAT: Final = "convert it flat to leave sub-fields out"


def integer(value: object) -> int | None:
    """A whole number of up to nine digits from JSON, or its digits from YAML and XML; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if 0 <= value < 10**9 else None
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        return int(value)
    return None
