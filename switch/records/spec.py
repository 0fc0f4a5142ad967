"""Record specs: the wire formats of marketing systems as data, one TOML file per format and version.

A file says who wrote it (``source``), from when it holds (``effective_on``) and what each message carries. Two wires
are known: ``json`` (one object a frame, behind a 4-byte length) and ``fixed`` (records of fixed width behind a header,
in a legacy character set, behind a length in digits; ``switch.records.fixed``). A file may extend another one and then
says only what differs: a utility's own identifiers, or a new version.

    extends = "marketing_ydlw_1_0"
    version = "1.1"
    effective_on = 2026-12-01

    [constants]
    initiator = "302"

Everything is checked when a file is read, so that whoever encodes and decodes may trust it.
"""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from switch.errors import ConfigError

WIRES: Final = ("fixed", "json")
EXTENDS_MAX: Final = 8  # files behind one another: a longer row is a circle, or nobody understands it any more
SIZE_MAX: Final = 9_999  # bytes of one field: wider ones are files, not fields

# Type of a field: what it may hold, and whether its bounds are ``width`` (fixed) or ``max``/``size`` (json).
TEXT, CODE, DIGITS, FEN, COUNT, SIGNED, DECIMAL, FLAG, LIST = (
    *("text", "code", "digits", "fen", "count", "signed", "decimal", "flag", "list"),
)
FIXED_TYPES: Final = (TEXT, CODE, DIGITS, FEN, COUNT, SIGNED, DECIMAL, FLAG)
JSON_TYPES: Final = (TEXT, DIGITS, FEN, COUNT, FLAG, LIST)


class Field(Struct, frozen=True):
    """One field of a fixed record."""

    name: str
    type: str
    width: int  # bytes
    value: str | None = None  # what it always carries when we write it
    checked: bool = False  # … and when it is read: anything else is an error
    optional: bool = False  # may be blank; a number that is blank reads as 0


class Shape(Struct, frozen=True):
    """What one direction of an operation carries behind the header."""

    head: tuple[Field, ...] = ()
    rows: tuple[Field, ...] = ()  # repeated
    rows_max: int = 0


class Operation(Struct, frozen=True):
    code: str
    business: str
    request: Shape
    answer: Shape


class Spec(Struct, frozen=True):
    """A checked file. ``fences`` and ``inquiries`` are what a profile of such a system may promise."""

    name: str  # of the format, over all its versions: "marketing_ydlw"
    version: str  # "1.0"
    wire_version: str  # as frames carry it; "": they carry none
    effective_on: datetime.date
    source: str
    wire: str  # "fixed" or "json"
    table: Mapping[str, Any]  # the file's content, what it extends merged in
    fences: tuple[str, ...]
    inquiries: tuple[str, ...]
    header: tuple[Field, ...] = ()  # fixed only, as all below
    operations: Mapping[str, Operation] = {}
    constants: Mapping[str, str] = {}
    encoding: str = "gbk"

    @property
    def title(self) -> str:
        """
        >>> load("marketing_json_1_0").title
        'marketing_json 1.0'
        """
        return f"{self.name} {self.version}"


def bundled() -> tuple[str, ...]:
    """Names that ``load`` knows without a path."""
    return tuple(sorted(each.name[:-5] for each in files("switch.records").iterdir() if each.name.endswith(".toml")))


def is_path(name: str) -> bool:
    """A spec is named ("marketing_ydlw_1_0"), or it is a file of the user's."""
    return name.endswith(".toml")


def load(name: str) -> Spec:
    """A bundled spec by name, or the file at a path that ends in ``.toml``.

    Raises:
        ConfigError: Names the file, the key, what was expected and what to do.
    """
    return _read(name) if is_path(name) else _read_once(name)


def _read(name: str) -> Spec:
    return _Reader(name, _merged(name, 0, None)).spec()


_read_once = lru_cache(maxsize=16)(_read)  # a bundled file does not change while we run


def _merged(name: str, depth: int, beside: Path | None) -> dict[str, Any]:
    if depth > EXTENDS_MAX:
        raise ConfigError(name, f"extends: more than {EXTENDS_MAX} files behind one another; does it extend itself?")
    path: Path | None = None
    if is_path(name):
        path = Path(name) if beside is None else beside / name
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(str(path), f"cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(str(path), f"not UTF-8 at byte {error.start}; save it as UTF-8") from error
    else:
        if name not in bundled():
            known = ", ".join(bundled())
            raise ConfigError(name, f"no such spec; known: {known}; a file of your own ends in .toml")
        text = files("switch.records").joinpath(f"{name}.toml").read_text(encoding="utf-8")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(name, f"not TOML: {error}") from error
    base_name = table.pop("extends", None)
    if base_name is None:
        return table
    if not isinstance(base_name, str):
        raise ConfigError(name, "extends: expected the name of a spec, or a path that ends in .toml")
    base = _merged(base_name, depth + 1, path.parent if path is not None else None)
    return _over(base, table)


def _over(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Tables are merged key by key; a field and everything else, lists of fields too, is replaced as a whole."""
    merged = dict(base)
    for key, value in changes.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict) and "type" not in below:
            merged[key] = _over(below, value)
        else:
            merged[key] = value
    return merged


class _Reader:
    """Checks one merged table; every complaint names file and key."""

    def __init__(self, name: str, table: dict[str, Any]) -> None:
        self._name = name
        self._table = table

    def spec(self) -> Spec:
        table = self._table
        wire = self._one_of(table, "wire", WIRES)
        common: dict[str, Any] = {
            "name": self._text(table, "name"),
            "version": self._text(table, "version"),
            "wire_version": self._text(table, "wire_version", ""),
            "effective_on": self._date(table, "effective_on"),
            "source": self._text(table, "source"),
            "wire": wire,
            "table": table,
            "fences": self._words("fences"),
            "inquiries": self._words("inquiries"),
        }
        self._outcomes()
        if wire == "json":
            self._json()
            return Spec(**common)
        return Spec(**common, **self._fixed())

    def _fail(self, key: str, detail: str) -> ConfigError:
        return ConfigError(f"{self._name}: {key}", detail)

    def _text(self, table: Mapping[str, Any], key: str, default: str | None = None, where: str = "") -> str:
        value = table.get(key, default)
        if not isinstance(value, str) or (not value and default is None):
            raise self._fail(f"{where}{key}", "missing; a text in double quotes" if key not in table else "not a text")
        return value

    def _one_of(self, table: Mapping[str, Any], key: str, choices: tuple[str, ...], where: str = "") -> str:
        value = self._text(table, key, where=where)
        if value not in choices:
            raise self._fail(f"{where}{key}", f'"{value}" is not known; one of {", ".join(choices)}')
        return value

    def _words(self, key: str) -> tuple[str, ...]:
        value = self._table.get(key)
        if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
            raise self._fail(key, "missing; a list of texts")
        return tuple(value)

    def _date(self, table: Mapping[str, Any], key: str) -> datetime.date:
        value = table.get(key)
        if type(value) is not datetime.date:
            raise self._fail(key, "missing or no date; a date as 2026-01-01, without quotes")
        return value

    def _number(self, table: Mapping[str, Any], key: str, where: str, least: int = 1) -> int:
        value = table.get(key)
        if type(value) is not int or not least <= value <= SIZE_MAX:
            raise self._fail(f"{where}.{key}", f"expected a whole number, {least} to {SIZE_MAX}")
        return value

    def _tables(self, key: str) -> dict[str, dict[str, Any]]:
        value = self._table.get(key)
        if not isinstance(value, dict) or not value or not all(isinstance(each, dict) for each in value.values()):
            raise self._fail(key, f"missing; tables [{key}.NAME]")
        return dict(value)

    def _outcomes(self) -> None:
        for operation, table in self._tables("outcome").items():
            where = f"outcome.{operation}"
            if "default" not in table:
                # Whoever forgets it would otherwise learn of an unlisted code with a customer's money.
                raise self._fail(f"{where}.default", "missing; what a code that is not listed means")
            for code, outcome in table.items():
                if not isinstance(outcome, str):
                    raise self._fail(f"{where}.{code}", "not a text")

    # ---- json
    def _json(self) -> None:
        records = self._tables("record")
        for name, fields in records.items():
            self._json_fields(fields, f"record.{name}", records)
        for name, operation in self._tables("operation").items():
            for side in ("request", "response"):
                carried = operation.get(side)
                if not isinstance(carried, dict):
                    raise self._fail(f"operation.{name}.{side}", "missing; a table of fields, {} for none")
                self._json_fields(carried, f"operation.{name}.{side}", records)

    def _json_fields(self, fields: dict[str, Any], where: str, records: Mapping[str, Any]) -> None:
        for name, rule in fields.items():
            here = f"{where}.{name}"
            if not isinstance(rule, dict):
                raise self._fail(here, "expected a table with a type")
            kind = self._one_of(rule, "type", JSON_TYPES, f"{here}.")
            if kind == DIGITS:
                self._number(rule, "size", here)
            elif kind in (TEXT, LIST):
                self._number(rule, "max", here)
            if kind == LIST and rule.get("of") not in records:
                raise self._fail(f"{here}.of", f"no such record; known: {', '.join(records)}")
            if unknown := set(rule) - {"type", "size", "max", "of", "value"}:
                raise self._fail(f"{here}.{min(unknown)}", "unknown key; known here: type, size, max, of, value")

    # ---- fixed
    def _fixed(self) -> dict[str, Any]:
        encoding = self._text(self._table, "encoding")
        try:
            "户号 0".encode(encoding)
        except (LookupError, UnicodeEncodeError) as error:
            raise self._fail("encoding", f'"{encoding}" has no Chinese characters, or is unknown: {error}') from None
        constants = self._table.get("constants", {})
        for name, value in constants.items():
            if not isinstance(value, str):
                raise self._fail(f"constants.{name}", "not a text; numbers stand in double quotes too")
        records = {name: self._fields(f"record.{name}", table) for name, table in self._tables("record").items()}
        if "header" not in records:
            raise self._fail("record.header", "missing; every frame begins with it")
        operations = {}
        for name, table in self._tables("operation").items():
            where = f"operation.{name}"
            operations[name] = Operation(
                code=self._text(table, "code", where=f"{where}."),
                business=self._text(table, "business", where=f"{where}."),
                request=self._shape(table.get("request", {}), f"{where}.request", records),
                answer=self._shape(table.get("answer", {}), f"{where}.answer", records),
            )
        self._fits(constants, encoding, records)
        return {
            "header": records["header"],
            "operations": operations,
            "constants": constants,
            "encoding": encoding,
        }

    def _shape(self, table: Any, where: str, records: Mapping[str, tuple[Field, ...]]) -> Shape:
        if not isinstance(table, dict) or (unknown := set(table) - {"head", "rows", "max"}):
            raise self._fail(where, 'expected { head = "RECORD", rows = "RECORD", max = N }, each of them optional')
        del unknown
        parts = {}
        for key in ("head", "rows"):
            record = table.get(key)
            if record is not None and record not in records:
                raise self._fail(f"{where}.{key}", f"no such record; known: {', '.join(records)}")
            parts[key] = () if record is None else records[record]
        return Shape(**parts, rows_max=self._number(table, "max", where) if "rows" in table else 0)

    def _fields(self, where: str, table: dict[str, Any]) -> tuple[Field, ...]:
        rules = table.get("fields")
        if not isinstance(rules, list) or not rules:
            raise self._fail(f"{where}.fields", "missing; a list of { name, type, width }")
        found: dict[str, Field] = {}
        for index, rule in enumerate(rules):
            here = f"{where}.fields[{index}]"
            if not isinstance(rule, dict):
                raise self._fail(here, "expected { name, type, width }")
            if unknown := set(rule) - set(Field.__struct_fields__):
                known = ", ".join(Field.__struct_fields__)
                raise self._fail(f"{here}.{min(unknown)}", f"unknown key; known here: {known}")
            name = self._text(rule, "name", where=f"{here}.")
            if name in found:
                raise self._fail(f"{here}.name", f'"{name}" is named twice')
            value = rule.get("value")
            if value is not None and not isinstance(value, str):
                raise self._fail(f"{here}.value", "not a text; numbers stand in double quotes too")
            for flag in ("checked", "optional"):
                if type(rule.get(flag, False)) is not bool:
                    raise self._fail(f"{here}.{flag}", "expected true or false")
            if rule.get("checked") and value is None:
                raise self._fail(f"{here}.checked", "there is no value to check it against; add value")
            found[name] = Field(
                name,
                self._one_of(rule, "type", FIXED_TYPES, f"{here}."),
                self._number(rule, "width", here),
                value,
                rule.get("checked", False),
                rule.get("optional", False),
            )
        return tuple(found.values())

    def _fits(self, constants: Mapping[str, str], encoding: str, records: Mapping[str, tuple[Field, ...]]) -> None:
        """A value that never fits would be found by the first customer."""
        for record, fields in records.items():
            for field in fields:
                for value, where in (
                    (field.value, f"record.{record}.{field.name}.value"),
                    (constants.get(field.name), f"constants.{field.name}"),
                ):
                    if value is None:
                        continue
                    try:
                        size = len(value.encode(encoding))
                    except UnicodeEncodeError:
                        raise self._fail(where, f"has a character that {encoding} lacks") from None
                    if size > field.width:
                        raise self._fail(
                            where, f"{size} bytes; {field.name} of {record} takes {field.width}: shorten it"
                        )
