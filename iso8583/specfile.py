"""Specs from TOML files. The format is described in ``iso8583/README.md``.

Every error names the file and the key: a spec is written by people who read documents, not code.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

from iso8583.errors import SpecError
from iso8583.mti import is_request
from iso8583.spec import FieldSpec, MessageSpec

EXTENDS_DEPTH_MAX: Final = 8  # deeper is a loop, or a spec that nobody can follow

_SPEC_KEYS: Final = {"name", "extends", "source", "mti", "bitmap", "field_max", "field", "reply", "remove"}
_FIELD_TYPES: Final[dict[str, type]] = {
    "name": str,
    "label": str,
    "content": str,
    "encoding": str,
    "length": int,
    "length_min": int,
    "length_max": int,
    "length_prefix": str,
    "length_unit": str,
    "sensitive": str,
    "codes": str,
    "tlv": bool,
    "pad_strict": bool,
    "source": str,
}


def bundled_names() -> list[str]:
    """Names of the specs that come with the library."""
    folder = resources.files("iso8583") / "specs"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


@cache
def load_bundled(name: str) -> MessageSpec:
    """A bundled spec by name.

    Raises:
        SpecError: There is no such spec, or it is wrong.
    """
    return _load(name, None, 0)


def load_file(path: str | Path) -> MessageSpec:
    """A spec from a file. ``extends`` names a bundled spec, or a file in the same folder.

    Raises:
        SpecError: The file cannot be read, or is wrong; says where.
    """
    path = Path(path)
    return _build(_merge(_read(path), str(path), path.parent, 0), str(path))


def _load(name: str, folder: Path | None, depth: int) -> MessageSpec:
    table, where, base = _open(name, folder, "")
    return _build(_merge(table, where, base, depth), where)


def _open(name: str, folder: Path | None, referrer: str) -> tuple[dict[str, Any], str, Path | None]:
    if folder is not None and (folder / f"{name}.toml").is_file():
        path = folder / f"{name}.toml"
        return _read(path), str(path), folder
    if not name.isidentifier() or name not in bundled_names():
        known = ", ".join(bundled_names())
        raise SpecError(referrer or name, "extends" if referrer else "", f"no spec {name!r}; bundled are {known}")
    text = (resources.files("iso8583") / "specs" / f"{name}.toml").read_text(encoding="utf-8")
    return _parse(text, f"{name}.toml"), f"{name}.toml", None


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(str(path), "", f"cannot be read: {error}") from error
    return _parse(text, str(path))


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(where, "", f"not TOML: {error}") from error


def _merge(table: dict[str, Any], where: str, folder: Path | None, depth: int) -> dict[str, Any]:
    """The table with everything that it inherits filled in: fields key by key, the reply table row by row."""
    for key in table:
        if key not in _SPEC_KEYS:
            raise SpecError(where, key, f"unknown key; expected one of {', '.join(sorted(_SPEC_KEYS))}")
    for key in ("field", "reply"):
        if not isinstance(table.get(key, {}), dict):
            raise SpecError(where, key, "expected a table")
    for number, entry in table.get("field", {}).items():
        if not isinstance(entry, dict):
            raise SpecError(where, f"field.{number}", "expected a table")
        for key in entry:
            if key not in _FIELD_TYPES:
                raise SpecError(where, f"field.{number}.{key}", "unknown key")
    parent_name = table.get("extends")
    if parent_name is None:
        return table
    if not isinstance(parent_name, str):
        raise SpecError(where, "extends", "expected the name of a spec")
    if depth >= EXTENDS_DEPTH_MAX:
        raise SpecError(where, "extends", f"more than {EXTENDS_DEPTH_MAX} specs on top of each other: is it a loop?")
    parent_table, parent_where, parent_folder = _open(parent_name, folder, where)
    parent = _merge(parent_table, parent_where, parent_folder, depth + 1)

    merged = {**parent, **table}
    fields = {number: dict(entry) for number, entry in parent.get("field", {}).items()}
    for number in table.get("remove", []):
        if fields.pop(str(number), None) is None:
            raise SpecError(where, "remove", f"field {number} is not in {parent_name}")
    for number, entry in table.get("field", {}).items():
        inherited = fields.get(number, {})
        # A new length replaces the old one, however either is written.
        if entry.keys() & {"length", "length_max"}:
            inherited = {key: value for key, value in inherited.items() if not key.startswith("length")}
        fields[number] = {**inherited, **entry}
    merged["field"] = fields
    merged["reply"] = {**parent.get("reply", {}), **table.get("reply", {})}
    merged.pop("remove", None)
    return merged


def _build(table: dict[str, Any], where: str) -> MessageSpec:
    for key, kind in (("name", str), ("mti", str), ("bitmap", str), ("field_max", int)):
        if not isinstance(table.get(key), kind):
            raise SpecError(where, key, f"missing, or not of type {kind.__name__}")
    fields = [_field(number, entry, where) for number, entry in table.get("field", {}).items()]
    reply = []
    for request, echoed in table.get("reply", {}).items():
        if not is_request(request):
            raise SpecError(where, f"reply.{request}", "expected the MTI of a request or an advice")
        if not isinstance(echoed, list) or not all(isinstance(number, int) for number in echoed):
            raise SpecError(where, f"reply.{request}", "expected a list of field numbers")
        reply.append((request, tuple(sorted(echoed))))
    try:
        return MessageSpec(
            name=table["name"],
            mti=table["mti"],
            bitmap=table["bitmap"],
            field_max=table["field_max"],
            fields=tuple(sorted(fields, key=lambda field: field.number)),
            reply=tuple(sorted(reply)),
            source=str(table.get("source", "")),
        )
    except SpecError as error:
        raise SpecError(where, error.key, error.detail) from None


def _field(number: str, entry: dict[str, Any], where: str) -> FieldSpec:
    place = f"field.{number}"
    if not (number.isascii() and number.isdigit() and number == str(int(number))):
        raise SpecError(where, place, "expected a field number")
    for key, value in entry.items():
        # bool is an int to isinstance, but `length = true` is a mistake.
        if not isinstance(value, _FIELD_TYPES[key]) or (isinstance(value, bool) and _FIELD_TYPES[key] is int):
            raise SpecError(where, f"{place}.{key}", f"expected {_FIELD_TYPES[key].__name__}")
    for key in ("name", "content", "encoding"):
        if key not in entry:
            raise SpecError(where, f"{place}.{key}", "missing")
    if "length" in entry:
        if entry.keys() & {"length_min", "length_max", "length_prefix"}:
            raise SpecError(where, f"{place}.length", "is for fixed fields: no length_min, length_max or length_prefix")
        length_min = length_max = entry["length"]
    elif "length_max" in entry:
        length_min, length_max = entry.get("length_min", 0), entry["length_max"]
        if "length_prefix" not in entry:
            raise SpecError(where, f"{place}.length_prefix", "missing; a field without one has a fixed `length`")
    else:
        raise SpecError(where, f"{place}.length", "missing; or length_max with length_prefix")
    if entry["encoding"].startswith("bcd") and "length_unit" not in entry:
        # The fact that most libraries guess, and that two documents in three leave out: it must be written down.
        raise SpecError(where, f"{place}.length_unit", "missing; bcd fields say what their length counts")
    try:
        return FieldSpec(
            number=int(number),
            name=entry["name"],
            content=entry["content"],
            encoding=entry["encoding"],
            length_min=length_min,
            length_max=length_max,
            length_prefix=entry.get("length_prefix"),
            length_unit=entry.get("length_unit", "bytes"),
            label=entry.get("label", ""),
            sensitive=entry.get("sensitive"),
            codes=entry.get("codes"),
            tlv=entry.get("tlv", False),
            pad_strict=entry.get("pad_strict", False),
            source=entry.get("source", ""),
        )
    except SpecError as error:
        raise SpecError(where, f"{error.source}.{error.key}".rstrip("."), error.detail) from None
