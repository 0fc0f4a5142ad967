"""Code tables: what the short codes in fields mean, for people.

Meaning only. What a program does about a code (post the bill, reverse, sign on again) is the program's.

A table is a file in ``iso8583/codes/``: ``source`` and rows ``code = [Chinese, English]`` under ``[codes]``. Rows of
``emv_tags`` may end with a format, rows of ``currencies`` end with the alphabetic code and the digits after the decimal
point. A code that is put together from shorter ones says so under ``[[parts]]``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Final

from iso8583.errors import SpecError


@dataclass(frozen=True, slots=True)
class Code:
    """One code: ``zh`` and ``en`` are its meaning; ``str()`` gives both."""

    code: str
    zh: str
    en: str

    def __str__(self) -> str:
        return f"{self.zh} {self.en}"


@dataclass(frozen=True, slots=True)
class EmvTag(Code):
    """A tag of a chip card's or terminal's data object.

    Attributes:
        code: The tag in upper-case hexadecimal, e.g. ``"9F02"``.
        format: How the value is written, as the EMV books say it, or ``""`` where schemes differ: ``b 5`` five bytes,
            ``n 12`` twelve digits in six bytes, ``cn 1-19`` digits with F filling the last byte, ``an 8`` and
            ``ans 1-16`` characters; ``dol`` tags with lengths, ``tags`` tags alone, ``template`` more objects.
    """

    format: str = ""


@dataclass(frozen=True, slots=True)
class Currency(Code):
    """A currency of ISO 4217; ``str()`` gives the Chinese name and the alphabetic code.

    Attributes:
        code: Numeric, three digits, e.g. ``"156"``.
        alpha: Alphabetic, e.g. ``"CNY"``.
        exponent: Digits after the decimal point: an amount of 1250 is 12.50 with 2, 1250 with 0. None for metals, units
            of account and test codes, which have no smaller unit.
    """

    alpha: str
    exponent: int | None

    def __str__(self) -> str:
        return f"{self.zh} {self.alpha}"


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a longer code.

    Attributes:
        digits: How many characters of the code it is.
        codes: What they mean.
        zh, en: The words around the meaning, with ``{}`` in its place.
        silent: A code that adds no words: the usual case.
    """

    digits: int
    codes: Mapping[str, Code]
    zh: str = "{}"
    en: str = "{}"
    silent: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A code table. ``source`` says where its facts come from."""

    name: str
    source: str
    codes: Mapping[str, Code]
    parts: tuple[Part, ...] = ()


def meaning(table: str, code: str) -> str:
    """What ``code`` means in both languages, or ``""`` for a code that the table does not know.

    Raises:
        SpecError: There is no such table.

    >>> meaning("response_codes", "51")
    '余额不足 insufficient funds'
    >>> meaning("processing_codes", "401030")
    '账户间转账（储蓄账户），转入信用账户 account transfer (savings account), to credit account'
    """
    entry = find(table, code)
    return "" if entry is None else str(entry)


def find(table: str, code: str) -> Code | None:
    """The entry of a code: its row, or else put together from its parts. None for a code that is not known.

    Raises:
        SpecError: There is no such table.

    >>> find("message_types", "0401").en
    'reversal request, repeated'
    """
    known = load_table(table)
    return known.codes.get(code) or _compose(known.parts, code)


def emv_tag(tag: str) -> EmvTag | None:
    """The tag's name and format. Where schemes use one tag differently, UnionPay's use comes first.

    >>> emv_tag("9F02")
    EmvTag(code='9F02', zh='授权金额（数值型）', en='amount, authorised (numeric)', format='n 12')
    """
    entry = load_codes("emv_tags").get(tag)
    return entry if isinstance(entry, EmvTag) else None


def explain_bits(tag: str, value: bytes) -> list[Code]:
    """What the bits of a data object say, byte by byte, highest bit first. Empty for a tag without bit meanings.

    Args:
        tag: One of 82, 95, 9B, 9F07, 9F27, 9F33, 9F34, 9F35, 9F40, 9F66, 9F6C.
        value: The object's value. Bytes that are missing or too many are not explained, nor are reserved bits.

    Returns:
        Entries whose ``code`` is ``tag.byte.pattern``: bytes count from 1, an x in the pattern is any bit.

    >>> for entry in explain_bits("95", bytes.fromhex("8000048000")):
    ...     print(entry.code, entry.en)
    95.1.1xxxxxxx offline data authentication was not performed
    95.3.xxxxx1xx online PIN entered
    95.4.1xxxxxxx transaction exceeds floor limit
    """
    rows = load_codes("emv_bits").values()
    return [entry for entry in rows if entry.code.startswith(f"{tag}.") and _bits_match(entry.code, value)]


def currency(code: str) -> Currency | None:
    """The currency with that numeric code.

    >>> currency("392")
    Currency(code='392', zh='日元', en='Yen', alpha='JPY', exponent=0)
    """
    entry = load_codes("currencies").get(code)
    return entry if isinstance(entry, Currency) else None


def load_codes(name: str) -> Mapping[str, Code]:
    """The rows of a bundled table; :func:`table_names` lists them.

    Raises:
        SpecError: There is no such table, or it is wrong.

    >>> load_codes("response_codes")["A0"].en
    'MAC error'
    """
    return load_table(name).codes


@cache
def load_table(name: str) -> Table:
    """A bundled table by name.

    Raises:
        SpecError: There is no such table, or it is wrong.

    >>> load_table("network_codes").source
    'UnionPay POS, field 60.3'
    """
    path = resources.files("iso8583") / "codes" / f"{name}.toml"
    if not name.isidentifier() or not path.is_file():
        raise SpecError(name, "", f"no such code table; there are {', '.join(table_names())}")
    return parse_table(name, path.read_text(encoding="utf-8"))


@cache
def table_names() -> tuple[str, ...]:
    """Names of the bundled tables.

    >>> "currencies" in table_names()
    True
    """
    folder = resources.files("iso8583") / "codes"
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


# What a row looks like, in the tables where it is more than words.
_EXPECTED: Final = {
    "emv_tags": "a BER tag in upper case = [Chinese, English] or [Chinese, English, format]",
    "emv_bits": "tag.byte.pattern = [Chinese, English], the pattern eight of 0, 1 and x",
    "currencies": "three digits = [Chinese, English, alphabetic code, 0 to 4] or without the last",
}
_EXPECTED_ELSEWHERE: Final = "a code in upper case = [Chinese, English]"
_CODE: Final = re.compile(r"[0-9A-Z]+")
# Low five bits set: the tag goes on, and ends with the first byte that has bit 8 clear.
_TAG: Final = re.compile(r"[13579BDF]F(?:[89A-F][0-9A-F])*[0-7][0-9A-F]|(?![13579BDF]F)[0-9A-F]{2}")
_CURRENCY: Final = re.compile(r"[0-9]{3} [A-Z]{3}")
_BITS: Final = re.compile(rf"(?:{_TAG.pattern})\.[1-9]\.(?!xxxxxxxx)[01x]{{8}}")
_FORMAT: Final = re.compile(r"(?:a|an|ans|b|cn|n)(?: [1-9]\d*| \d+-[1-9]\d*)?|dol|tags|template")


def parse_table(name: str, text: str) -> Table:
    """A table from the text of its file.

    Args:
        name: Name of the file without ``.toml``; it tells which shape the rows have.

    Raises:
        SpecError: The text is not such a table. The error names the file and the key.

    >>> parse_table("ours", 'source = "our bank"\\n[codes]\\nD5 = ["限额", "limit"]').codes["D5"].en
    'limit'
    """
    file = f"{name}.toml"
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(file, "", f"not TOML: {error}") from None
    if unknown := document.keys() - {"source", "codes", "parts"}:
        raise SpecError(file, min(unknown), "expected source, codes and parts only")
    source = document.get("source")
    if not (isinstance(source, str) and source.strip()):
        raise SpecError(file, "source", "missing; where the codes come from")
    if not ("codes" in document or "parts" in document):
        raise SpecError(file, "codes", "missing; the rows of the table")
    codes = _rows(file, "codes", document.get("codes", {}), name)
    parts = document.get("parts", [])
    if not isinstance(parts, list):
        raise SpecError(file, "parts", "expected [[parts]]")
    return Table(name, source, codes, tuple(_part(file, f"parts.{n}", part) for n, part in enumerate(parts, start=1)))


def _rows(file: str, key: str, rows: object, table: str) -> Mapping[str, Code]:
    codes: dict[str, Code] = {}
    for code, row in _leaves("", rows):
        entry = _entry(table, code, row)
        if entry is None:
            expected = _EXPECTED.get(table, _EXPECTED_ELSEWHERE)
            raise SpecError(file, f"{key}.{code}".removesuffix("."), f"expected {expected}")
        codes[code] = entry
    return MappingProxyType(codes)


def _leaves(path: str, node: object) -> Iterator[tuple[str, object]]:
    # A code with dots in it, as in emv_bits, is nested tables to TOML.
    if isinstance(node, dict):
        for key, inner in node.items():
            yield from _leaves(f"{path}.{key}" if path else key, inner)
    else:
        yield path, node


def _entry(table: str, code: str, row: object) -> Code | None:
    """The entry of one row; None if the row is not what is expected."""
    entry: Code
    match table, row:
        case "emv_tags", [str(zh), str(en), *rest] if _TAG.fullmatch(code):
            match rest:
                case []:
                    entry = EmvTag(code, zh, en)
                case [str(form)] if _FORMAT.fullmatch(form):
                    entry = EmvTag(code, zh, en, form)
                case _:
                    return None
        case "currencies", [str(zh), str(en), str(alpha), *rest] if _CURRENCY.fullmatch(f"{code} {alpha}"):
            match rest:
                case []:
                    entry = Currency(code, zh, en, alpha, None)
                case [int(exponent)] if 0 <= exponent <= 4:
                    entry = Currency(code, zh, en, alpha, exponent)
                case _:
                    return None
        case "emv_bits", [str(zh), str(en)] if _BITS.fullmatch(code):
            entry = Code(code, zh, en)
        case _, [str(zh), str(en)] if table not in _EXPECTED and _CODE.fullmatch(code):
            entry = Code(code, zh, en)
        case _:
            return None
    return entry if zh.strip() and en.strip() else None


def _part(file: str, key: str, part: Any) -> Part:
    if not isinstance(part, dict):
        raise SpecError(file, key, "expected a table")
    if unknown := part.keys() - {"digits", "table", "codes", "zh", "en", "silent"}:
        raise SpecError(file, f"{key}.{min(unknown)}", "expected digits, table or codes, zh, en and silent only")
    digits = part.get("digits")
    if not (isinstance(digits, int) and digits > 0):
        raise SpecError(file, f"{key}.digits", "expected how many characters of the code this part is")
    words = {name: part[name] for name in ("zh", "en", "silent") if name in part}
    for name, text in words.items():
        if not isinstance(text, str) or (name != "silent" and text.count("{}") != 1):
            raise SpecError(file, f"{key}.{name}", "expected text, in zh and en with one {} for the meaning")
    if ("table" in part) == ("codes" in part):
        raise SpecError(file, f"{key}.table", "expected the name of a table, or the codes themselves")
    if "codes" in part:
        return Part(digits, _rows(file, f"{key}.codes", part["codes"], ""), **words)
    if part["table"] not in table_names() or f"{part['table']}.toml" == file:
        raise SpecError(file, f"{key}.table", "expected the name of another bundled table")
    return Part(digits, load_codes(part["table"]), **words)


def _compose(parts: tuple[Part, ...], code: str) -> Code | None:
    if not parts or len(code) != sum(part.digits for part in parts):
        return None
    zh = en = ""
    start = 0
    for part in parts:
        piece = code[start : start + part.digits]
        start += part.digits
        if piece == part.silent:
            continue
        entry = part.codes.get(piece)
        if entry is None:
            return None
        zh += part.zh.replace("{}", entry.zh)
        en += part.en.replace("{}", entry.en)
    return Code(code, zh, en)


def _bits_match(code: str, value: bytes) -> bool:
    _, position, pattern = code.split(".")
    if int(position) > len(value):
        return False
    bits = f"{value[int(position) - 1]:08b}"
    return all(want in ("x", bit) for want, bit in zip(pattern, bits, strict=True))
