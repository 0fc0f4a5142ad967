"""Specs from TOML files, and back. The format is described in ``iso8583/README.md``.

Every error names the file and the key: a spec is written by people who read documents, not code.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

from iso8583.errors import SpecError
from iso8583.mti import is_request
from iso8583.spec import (
    NESTING_MAX,
    FieldSpec,
    Layout,
    MessageSpec,
    SubSpec,
    Usage,
    ValueSpec,
    Variant,
    mti_pattern_ok,
)

EXTENDS_DEPTH_MAX: Final = 8  # deeper is a loop, or a spec that nobody can follow

_Table = dict[str, Any]

_SPEC_KEYS: Final[dict[str, type]] = {
    "name": str,
    "extends": str,
    "source": str,
    "mti_encoding": str,
    "bitmap": str,
    "field_max": int,
    "field": dict,
    "mti": dict,
    "reply": dict,
    "remove": list,
}
_VALUE_KEYS: Final[dict[str, type]] = {
    "name": str,
    "label": str,
    "content": str,
    "encoding": str,
    "length": int,
    "length_min": int,
    "length_max": int,
    "length_prefix": str,
    "length_unit": str,
    "pad_side": str,
    "pad_character": str,
    "pad_nibble": str,
    "pad_strict": bool,
    "encrypted_when": dict,
    "sensitive": str,
    "codes": str,
    "source": str,
    "usage": list,
}
_LAYOUT_KEYS: Final[dict[str, type]] = {
    "layout": str,
    "unknown": str,
    "tag_size": int,
    "tag_encoding": str,
    "value_prefix": str,
    "bitmap": str,
    "bitmap_size": int,
    "sub": dict,
}
_SUB_KEYS: Final[dict[str, type]] = {"optional": bool, "repeat": bool, "times": str}
_USAGE_KEYS: Final[dict[str, type]] = {"when": dict, "sensitive": str, "label": str}
_WHEN_KEYS: Final[dict[str, type]] = {"mti": list, "field": dict, "starts": list, "length": list}
_VARIANT_KEYS: Final[dict[str, type]] = {"field": dict, "remove": list}


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
    table, where, folder = _open(name, None, "")
    return _build(_merge(table, where, folder, 0), where)


def load_file(path: str | Path) -> MessageSpec:
    """A spec from a file. ``extends`` names a bundled spec, or a file in the same folder.

    Raises:
        SpecError: The file cannot be read, or is wrong; says where.
    """
    path = Path(path)
    return _build(_merge(_read(path), str(path), path.parent, 0), str(path))


def loads(text: str, where: str = "<text>") -> MessageSpec:
    """A spec from TOML text. ``extends`` names a bundled spec.

    Raises:
        SpecError: It is wrong; ``where`` and the key say where.
    """
    return _build(_merge(_parse(text, where), where, None, 0), where)


# ---- reading and inheriting ----------------------------------------------------------------------


def _open(name: str, folder: Path | None, referrer: str) -> tuple[_Table, str, Path | None]:
    if folder is not None and (folder / f"{name}.toml").is_file():
        path = folder / f"{name}.toml"
        return _read(path), str(path), folder
    if not name.isidentifier() or name not in bundled_names():
        known = ", ".join(bundled_names())
        raise SpecError(referrer or name, "extends" if referrer else "", f"no spec {name!r}; bundled are {known}")
    text = (resources.files("iso8583") / "specs" / f"{name}.toml").read_text(encoding="utf-8")
    return _parse(text, f"{name}.toml"), f"{name}.toml", None


def _read(path: Path) -> _Table:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(str(path), "", f"cannot be read: {error}") from error
    return _parse(text, str(path))


def _parse(text: str, where: str) -> _Table:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(where, "", f"not TOML: {error}") from error


def _merge(table: _Table, where: str, folder: Path | None, depth: int) -> _Table:
    """The table with everything that it inherits filled in: fields key by key, the reply table row by row."""
    _check_keys(table, _SPEC_KEYS, where, "")
    for number, entry in table.get("field", {}).items():
        _check_value_keys(entry, {}, where, f"field.{number}", 0)
    for pattern, variant in table.get("mti", {}).items():
        place = f"mti.{pattern}"
        if not mti_pattern_ok(pattern):
            raise SpecError(where, place, "expected four digits, x for any digit")
        _check_keys(variant, _VARIANT_KEYS, where, place)
        for number, entry in variant.get("field", {}).items():
            _check_value_keys(entry, {}, where, f"{place}.field.{number}", 0)
    parent_name = table.get("extends")
    if parent_name is None:
        if "remove" in table:
            raise SpecError(where, "remove", "there is nothing to remove without extends")
        return table
    if depth >= EXTENDS_DEPTH_MAX:
        raise SpecError(where, "extends", f"more than {EXTENDS_DEPTH_MAX} specs on top of each other: is it a loop?")
    parent_table, parent_where, parent_folder = _open(parent_name, folder, where)
    parent = _merge(parent_table, parent_where, parent_folder, depth + 1)

    merged = {**parent, **table}
    fields = dict(parent.get("field", {}))
    for number in table.get("remove", []):
        if fields.pop(str(number), None) is None:
            raise SpecError(where, "remove", f"field {number} is not in {parent_name}")
    parent = _without(parent, table.get("remove", []))
    merged["field"] = _overlaid(fields, table.get("field", {}))
    merged["reply"] = {**parent.get("reply", {}), **table.get("reply", {})}
    variants = dict(parent.get("mti", {}))
    for pattern, variant in table.get("mti", {}).items():
        old = variants.get(pattern, {})
        variants[pattern] = {
            "field": _overlaid(old.get("field", {}), variant.get("field", {})),
            "remove": [*old.get("remove", []), *variant.get("remove", [])],
        }
    merged["mti"] = variants
    merged.pop("remove", None)
    return merged


def _without(table: _Table, removed: list[int]) -> _Table:
    """The rows about message types without the fields that a child does not have."""
    reply = {
        mti: [number for number in echoed if number not in removed] for mti, echoed in table.get("reply", {}).items()
    }
    variants = {
        pattern: {
            "field": {
                number: entry for number, entry in variant.get("field", {}).items() if int(number) not in removed
            },
            "remove": [number for number in variant.get("remove", []) if number not in removed],
        }
        for pattern, variant in table.get("mti", {}).items()
    }
    return {**table, "reply": reply, "mti": variants}


def _overlaid(old: Mapping[str, _Table], new: Mapping[str, _Table]) -> _Table:
    """Entries of ``new`` laid over those of ``old`` with the same number or tag, key by key."""
    return {**old, **{key: _overlay(old.get(key, {}), entry) for key, entry in new.items()}}


def _overlay(old: _Table, new: _Table) -> _Table:
    # A new length replaces the old one, however either is written; a new layout replaces the old one with its parts.
    if new.keys() & {"length", "length_max"}:
        old = {key: value for key, value in old.items() if not key.startswith("length")}
    if new.keys() & {"layout", "usage"}:
        old = {key: value for key, value in old.items() if key not in _LAYOUT_KEYS and key != "usage"}
    merged = {**old, **new}
    if "sub" in old and "sub" in new:
        merged["sub"] = _overlaid(old["sub"], new["sub"])
    return merged


def _check_keys(table: Any, known: Mapping[str, type], where: str, place: str) -> None:
    if not isinstance(table, dict):
        raise SpecError(where, place, "expected a table")
    for key, value in table.items():
        full = f"{place}.{key}" if place else key
        if key not in known:
            raise SpecError(where, full, f"unknown key; expected one of {', '.join(sorted(known))}")
        # bool is an int to isinstance, but `length = true` is a mistake.
        if not isinstance(value, known[key]) or (isinstance(value, bool) and known[key] is int):
            kind = "a table" if known[key] is dict else "a list" if known[key] is list else known[key].__name__
            raise SpecError(where, full, f"expected {kind}")


def _check_value_keys(entry: Any, more: Mapping[str, type], where: str, place: str, depth: int) -> None:
    if depth > NESTING_MAX:
        raise SpecError(where, place, f"more than {NESTING_MAX} levels of sub-fields")
    _check_keys(entry, {**_VALUE_KEYS, **_LAYOUT_KEYS, **more}, where, place)
    for key, sub in entry.get("sub", {}).items():
        _check_value_keys(sub, _SUB_KEYS, where, f"{place}.sub.{key}", depth + 1)
    for index, usage in enumerate(entry.get("usage", [])):
        at = f"{place}.usage[{index}]"
        _check_keys(usage, {**_USAGE_KEYS, **_LAYOUT_KEYS}, where, at)
        _check_keys(usage.get("when", {}), _WHEN_KEYS, where, f"{at}.when")
        for key, sub in usage.get("sub", {}).items():
            _check_value_keys(sub, _SUB_KEYS, where, f"{at}.sub.{key}", depth + 1)


# ---- tables to specs -----------------------------------------------------------------------------


def _build(table: _Table, where: str) -> MessageSpec:
    for key in ("name", "mti_encoding", "bitmap", "field_max"):
        if key not in table:
            raise SpecError(where, key, "missing")
    base = table.get("field", {})
    fields = [_field(number, entry, where, "") for number, entry in base.items()]
    variants = []
    for pattern, variant in table.get("mti", {}).items():
        merged = {number: _overlay(base.get(number, {}), entry) for number, entry in variant.get("field", {}).items()}
        changed = [_field(number, entry, where, f"mti.{pattern}.") for number, entry in merged.items()]
        removed = _numbers(variant.get("remove", []), where, f"mti.{pattern}.remove")
        variants.append(Variant(mti=pattern, fields=tuple(sorted(changed, key=_number_of)), removed=removed))
    reply = []
    for request, echoed in table.get("reply", {}).items():
        if not is_request(request):
            raise SpecError(where, f"reply.{request}", "expected the MTI of a request or an advice")
        reply.append((request, _numbers(echoed, where, f"reply.{request}")))
    try:
        return MessageSpec(
            name=table["name"],
            mti_encoding=table["mti_encoding"],
            bitmap=table["bitmap"],
            field_max=table["field_max"],
            fields=tuple(sorted(fields, key=_number_of)),
            variants=tuple(variants),
            reply=tuple(sorted(reply)),
            source=table.get("source", ""),
        )
    except SpecError as error:
        raise SpecError(where, error.key, error.detail) from None


def _number_of(field: FieldSpec) -> int:
    return field.number


def _numbers(given: Any, where: str, place: str) -> tuple[int, ...]:
    if not isinstance(given, list) or not all(isinstance(number, int) for number in given):
        raise SpecError(where, place, "expected a list of field numbers")
    return tuple(sorted(given))


def _field(number: str, entry: _Table, where: str, prefix: str) -> FieldSpec:
    place = f"{prefix}field.{number}"
    if not (number.isascii() and number.isdigit() and number == str(int(number))):
        raise SpecError(where, place, "expected a field number")
    keys = _value(entry, where, place, parent=None)
    try:
        return FieldSpec(number=int(number), **keys)
    except SpecError as error:
        raise SpecError(where, f"{place}.{error.key}".rstrip("."), error.detail) from None


def _value(entry: _Table, where: str, place: str, parent: _Table | None) -> _Table:
    """The keyword arguments of a :class:`ValueSpec`. ``parent`` is the entry that a sub-field belongs to."""
    tagged = parent is not None and parent.get("layout") in ("ber_tlv", "tlv")
    if parent is None:
        defaults: _Table = {}
    elif tagged and "content" not in entry:
        # Most tags are known by their name only.
        defaults = {"name": "", "content": "b", "encoding": "binary"}
    else:
        defaults = {"name": "", "encoding": _encoding_inside(parent, entry)}
    if tagged and not entry.keys() & {"length", "length_max"}:
        defaults |= {"length_min": entry.get("length_min", 0), "length_max": 65535}
    entry = {**defaults, **entry}
    for key in ("name", "content", "encoding"):
        if key not in entry or entry[key] is None:
            raise SpecError(where, f"{place}.{key}", "missing")
    keys = {key: entry[key] for key in _VALUE_KEYS if key in entry and key not in ("length", "usage", "encrypted_when")}
    if "length" in entry:
        if entry.keys() & {"length_min", "length_max", "length_prefix"}:
            raise SpecError(where, f"{place}.length", "is for fixed fields: no length_min, length_max or length_prefix")
        keys["length_min"] = keys["length_max"] = entry["length"]
    elif "length_max" in entry:
        keys.setdefault("length_min", 0)
        if "length_prefix" not in entry and parent is None:
            raise SpecError(where, f"{place}.length_prefix", "missing; a field without one has a fixed `length`")
    else:
        raise SpecError(where, f"{place}.length", "missing; or length_max with length_prefix")
    if entry["encoding"].startswith("bcd") and "length_unit" not in entry:
        # The fact that most libraries guess, and that two documents in three leave out: it must be written down.
        raise SpecError(where, f"{place}.length_unit", "missing; bcd fields say what their length counts")
    if "encrypted_when" in entry:
        keys["encrypted_when"] = _encrypted_when(entry["encrypted_when"], where, f"{place}.encrypted_when")
    keys["layout"] = _layout(entry, where, place, entry)
    keys["usages"] = tuple(
        _usage(usage, where, f"{place}.usage[{index}]", entry) for index, usage in enumerate(entry.get("usage", []))
    )
    return keys


def _encoding_inside(parent: _Table, entry: _Table) -> str | None:
    """What a sub-field is written in if it does not say: as its field is; digits in a packed field are characters."""
    if str(parent.get("encoding", "")).startswith("bcd"):
        return "ascii"
    if entry.get("content") == "b":
        return "binary"
    encoding = parent.get("encoding")
    return None if encoding in ("binary", "hex", "hex_ebcdic") else encoding


def _encrypted_when(table: _Table, where: str, place: str) -> tuple[int, int, str]:
    _check_keys(table, {"field": int, "position": int, "value": str}, where, place)
    if table.keys() != {"field", "position", "value"} or len(table["value"]) != 1 or table["position"] < 1:
        raise SpecError(where, place, "expected field, position (from 1) and value (one character)")
    return table["field"], table["position"], table["value"]


def _layout(table: _Table, where: str, place: str, field: _Table) -> Layout | None:
    """The layout of a field or usage; ``field`` is the entry whose encoding its sub-fields inherit."""
    if "layout" not in table:
        extra = sorted(table.keys() & (_LAYOUT_KEYS.keys() - {"layout"}))
        if extra:
            raise SpecError(where, f"{place}.{extra[0]}", "needs a layout")
        return None
    inside = {"layout": table["layout"], "encoding": field.get("encoding")}
    subs = []
    entries = table.get("sub", {}).items()
    if table["layout"] in ("positions", "bitmap"):
        # In wire order, however the file has them: TOML puts inline tables before the others.
        entries = sorted(entries, key=lambda item: int(item[0]) if item[0].isdecimal() else 0)
    for key, entry in entries:
        at = f"{place}.sub.{key}"
        keys = _value(entry, where, at, inside)
        more = {name: entry[name] for name in _SUB_KEYS if name in entry}
        try:
            subs.append(SubSpec(key=key, **keys, **more))
        except SpecError as error:
            raise SpecError(where, f"{at}.{error.key}".rstrip("."), error.detail) from None
    options = {key: table[key] for key in _LAYOUT_KEYS if key in table and key not in ("layout", "sub")}
    try:
        return Layout(kind=table["layout"], subs=tuple(subs), **options)
    except SpecError as error:
        raise SpecError(where, f"{place}.{error.key}".rstrip("."), error.detail) from None


def _usage(table: _Table, where: str, place: str, field: _Table) -> Usage:
    when = table.get("when", {})
    fields = []
    for path, values in when.get("field", {}).items():
        fields.append((path, _texts(values, where, f"{place}.when.field.{path}")))
    lengths = when.get("length", [])
    if not all(isinstance(length, int) for length in lengths):
        raise SpecError(where, f"{place}.when.length", "expected a list of lengths")
    try:
        return Usage(
            mti=_texts(when.get("mti", []), where, f"{place}.when.mti"),
            fields=tuple(fields),
            starts=_texts(when.get("starts", []), where, f"{place}.when.starts"),
            lengths=tuple(lengths),
            layout=_layout(table, where, place, field),
            sensitive=table.get("sensitive"),
            label=table.get("label", ""),
        )
    except SpecError as error:
        if error.source:
            raise
        raise SpecError(where, f"{place}.{error.key}", error.detail) from None


def _texts(given: Any, where: str, place: str) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
        raise SpecError(where, place, "expected a list of strings")
    return tuple(given)


# ---- specs to text -------------------------------------------------------------------------------


def dumps(definition: MessageSpec) -> str:
    """A spec as TOML text, whole: what it once inherited is written out. ``loads(dumps(spec)) == spec``."""
    lines = [f"name = {_text(definition.name)}"]
    if definition.source:
        lines.append(f"source = {_text(definition.source)}")
    lines.append(f"mti_encoding = {_text(definition.mti_encoding)}")
    lines.append(f"bitmap = {_text(definition.bitmap)}")
    lines.append(f"field_max = {definition.field_max}")
    for field in definition.fields:
        lines += _value_lines(field, f"field.{field.number}")
    for variant in definition.variants:
        place = f"mti.{_key(variant.mti)}"
        if variant.removed:
            lines += ["", f"[{place}]", f"remove = {list(variant.removed)}"]
        for field in variant.fields:
            # Keys that the override does not have would be inherited from the field: say them all.
            lines += _value_lines(field, f"{place}.field.{field.number}")
    if definition.reply:
        lines += ["", "[reply]"]
        lines += [f"{_key(request)} = {list(echoed)}" for request, echoed in definition.reply]
    return "\n".join(lines) + "\n"


def _value_lines(value: ValueSpec, place: str) -> list[str]:
    lines = ["", f"[{place}]"]
    if value.name:
        lines.append(f"name = {_text(value.name)}")
    for key in ("label", "content", "encoding"):
        if getattr(value, key):
            lines.append(f"{key} = {_text(getattr(value, key))}")
    if value.fixed:
        lines.append(f"length = {value.length_max}")
    else:
        lines.append(f"length_min = {value.length_min}")
        lines.append(f"length_max = {value.length_max}")
    for key in ("length_prefix", "pad_side", "pad_character", "sensitive", "codes", "source"):
        if getattr(value, key):
            lines.append(f"{key} = {_text(getattr(value, key))}")
    if value.length_unit != "bytes" or value.packed:
        lines.append(f"length_unit = {_text(value.length_unit)}")
    if value.pad_nibble != "0":
        lines.append(f"pad_nibble = {_text(value.pad_nibble)}")
    if value.pad_strict:
        lines.append("pad_strict = true")
    if value.encrypted_when is not None:
        number, position, character = value.encrypted_when
        lines.append(f"encrypted_when = {{ field = {number}, position = {position}, value = {_text(character)} }}")
    if isinstance(value, SubSpec):
        lines += [f"{key} = true" for key in ("optional", "repeat") if getattr(value, key)]
        if value.times is not None:
            lines.append(f"times = {_text(value.times)}")
    if value.layout is not None:
        lines += _layout_lines(value.layout, place)
    for usage in value.usages:
        lines += _usage_lines(usage, f"{place}.usage")
    return lines


def _layout_lines(layout: Layout, place: str) -> list[str]:
    lines = [f"layout = {_text(layout.kind)}"]
    if layout.unknown != "keep":
        lines.append(f"unknown = {_text(layout.unknown)}")
    if layout.kind == "tlv":
        lines.append(f"tag_size = {layout.tag_size}")
        lines.append(f"tag_encoding = {_text(layout.tag_encoding)}")
        if layout.value_prefix is not None:
            lines.append(f"value_prefix = {_text(layout.value_prefix)}")
    if layout.kind == "bitmap":
        lines.append(f"bitmap = {_text(layout.bitmap)}")
        lines.append(f"bitmap_size = {layout.bitmap_size}")
    for sub in layout.subs:
        lines += _value_lines(sub, f"{place}.sub.{_key(sub.key)}")
    return lines


def _usage_lines(usage: Usage, place: str) -> list[str]:
    lines = ["", f"[[{place}]]"]
    if usage.label:
        lines.append(f"label = {_text(usage.label)}")
    if usage.sensitive:
        lines.append(f"sensitive = {_text(usage.sensitive)}")
    conditions = {"mti": usage.mti, "starts": usage.starts, "length": usage.lengths}
    for key, values in conditions.items():
        if values:
            lines.append(f"when.{key} = {json.dumps(list(values), ensure_ascii=False)}")
    for path, texts in usage.fields:
        lines.append(f"when.field.{_text(path)} = {json.dumps(list(texts), ensure_ascii=False)}")
    if usage.layout is not None:
        lines += _layout_lines(usage.layout, place)
    return lines


def _text(text: str) -> str:
    # JSON's escapes are TOML's; DEL is the one character that TOML wants escaped and JSON does not.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    return key if key.isascii() and key.replace("_", "").replace("-", "").isalnum() else _text(key)
