"""Messages as JSON, and back: what ``iso8583 decode --json`` prints and ``iso8583 encode`` takes.

    {"spec": "unionpay_pos", "header": "6000030000", "masked": false,
     "fields": {"0": "0200", "4": "000000001250", "52": "0102030405060708", "60": {"1": "22", "2": "000001"}}}

Text is text, binary values are hexadecimal, fields with sub-fields are text, hexadecimal, or objects of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from iso8583 import masking
from iso8583._native import Message
from iso8583.inputs import InputError, hex_bytes
from iso8583.message import Spec
from iso8583.parts import Part, may_have_moved, parts_of
from iso8583.spec import Layout, SubSpec, Usage, ValueSpec, mti_matches

_SPACE: Final = " \t\r\n"


def as_json(message: Message, *, unmask: bool = False, tree: bool = False) -> dict[str, Any]:
    """A message as an object that JSON can carry; what ``iso8583 encode`` takes if it is not masked.

    Args:
        unmask: Show PANs, tracks, PIN blocks and keys. For test data and for people who may see them.
        tree: Fields with sub-fields as objects of them.
    """
    header = message.header.hex()
    if may_have_moved(message) and not unmask:
        header = masking.hidden_value(message.header)
    fields: dict[str, Any] = {"0": message.mti}
    for part in parts_of(message):
        fields[part.path] = _json_value(part, unmask=unmask, tree=tree)
    return {"spec": message.spec.name, "header": header, "masked": not unmask, "fields": fields}


def _json_value(part: Part, *, unmask: bool, tree: bool) -> Any:
    inside = part.opened(unmask=unmask)
    if not (tree and inside):
        if unmask:
            return part.value if isinstance(part.value, str) else part.value.hex().upper()
        if part.hides and inside and part.spec is not None and part.spec.tlv:
            return " ".join(f"{sub.key}={sub.shown()}" for sub in inside)
        return part.shown()
    result: dict[str, Any] = {}
    for sub in inside:
        value = _json_value(sub, unmask=unmask, tree=True)
        if sub.repeats:
            result.setdefault(sub.key, []).append(value)
        else:
            result[sub.key] = value
    return result


# ---- and back ------------------------------------------------------------------------------------


def parsed(text: str) -> Iterator[dict[str, Any]]:
    """The objects in a text, one after the other.

    Raises:
        InputError: It is not JSON, or something else than objects; says at which line and column.
    """
    decoder = json.JSONDecoder(object_pairs_hook=_unique)
    at = _skipped(text, 0)
    if at == len(text):
        raise InputError("JSON: expected an object of fields, got nothing")
    while at < len(text):
        line = text.count("\n", 0, at) + 1
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise InputError(f"JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
        except RecursionError:
            raise InputError(f"JSON: line {line}: nested too deep") from None
        except ValueError:
            # What Python says of a number of too many digits shows the number's length only, but is about Python.
            raise InputError(f"JSON: line {line}: a number of too many digits; write long values as strings") from None
        if not isinstance(value, dict):
            raise InputError(f"JSON: line {line}: expected an object of fields")
        yield value
        at = _skipped(text, at)


def _skipped(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise InputError(f"JSON: {_shown(twice)} is given twice in one object")
    return result


def _shown(key: str) -> str:
    # A long key may be a value in the wrong place.
    return repr(key) if (len(key) <= 32 and key.isidentifier()) or len(key) <= 8 else "a key"


def spec_values(spec: Spec, given: dict[str, Any]) -> dict[Any, Any]:
    """Values for ``Spec.encode`` of what JSON says: hexadecimal text becomes bytes where bytes belong.

    Raises:
        InputError: A binary value is not hexadecimal. What else is wrong, ``encode`` says.
    """
    mti = given.get("0", given.get("mti"))
    definitions = spec.fields
    if isinstance(mti, str):
        definitions = spec.definition.fields_of(spec.definition.variant_for(mti))
    by_name = {field.name: field for field in definitions.values()}
    values: dict[Any, Any] = {}
    for key, value in given.items():
        field = by_name.get(key)
        if field is None and key.isascii() and key.isdigit() and len(key) <= 3:
            field = definitions.get(int(key))
        number: Any = int(key) if key.isascii() and key.isdigit() and len(key) <= 3 else key
        if number in values:
            raise InputError(f"JSON: field {number} is given twice")
        values[number] = value if field is None else _value(field, value, key, mti if isinstance(mti, str) else "")
    return values


def _value(spec: ValueSpec, value: Any, path: str, mti: str) -> Any:
    if isinstance(value, (dict, list)):
        layout = _layout_for(spec, value, mti)
        return value if layout is None else _tree(layout, value, path, mti)
    return _bytes(value, path) if spec.type is bytes else value


def _bytes(value: Any, path: str) -> Any:
    if value is None:
        return None
    if not isinstance(value, str):
        raise InputError(f"field {path}: expected hexadecimal text")
    return hex_bytes(value, f"field {path}")


def _layout_for(spec: ValueSpec, value: dict[str, Any] | list[Any], mti: str) -> Layout | None:
    """The layout that a tree most likely follows; ``encode`` finds out whether it does. Here it only tells which values
    are bytes."""
    usages: list[Usage] = [
        usage for usage in spec.usages if not usage.mti or any(mti_matches(pattern, mti) for pattern in usage.mti)
    ]
    layouts = [layout for layout in (*(usage.layout for usage in usages), spec.layout) if layout is not None]
    if isinstance(value, list):
        layouts = [layout for layout in layouts if layout.kind in ("ber_tlv", "tlv")]
    known = [layout for layout in layouts if all(_sub(layout, key) is not None for key in _keys(value))]
    return next(iter([*known, *(layout for layout in layouts if layout.kind in ("ber_tlv", "tlv")), *layouts]), None)


def _keys(value: dict[str, Any] | list[Any]) -> list[str]:
    pairs: Any = value if isinstance(value, dict) else [pair[0] for pair in value if isinstance(pair, list) and pair]
    return [key for key in pairs if isinstance(key, str)]


def _sub(layout: Layout, key: str) -> SubSpec | None:
    sub = layout.by_key.get(key) or layout.by_key.get(key.upper())
    return sub or next((other for other in layout.subs if other.name == key.lower()), None)


def _tree(layout: Layout, value: dict[str, Any] | list[Any], path: str, mti: str) -> Any:
    if isinstance(value, dict):
        return {key: _inside(layout, key, each, path, mti) for key, each in value.items()}
    return [
        [pair[0], _inside(layout, pair[0], pair[1], path, mti)]
        if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)
        else pair
        for pair in value
    ]


def _inside(layout: Layout, key: str, value: Any, path: str, mti: str) -> Any:
    at = f"{path}.{key if len(key) <= 8 or key.isidentifier() else '?'}"
    sub = _sub(layout, key)
    if sub is None:
        return _unknown(value, at)
    if isinstance(value, list) and (sub.times is not None or sub.repeat):
        return [_value(sub, each, f"{at}[{index}]", mti) for index, each in enumerate(value, 1)]
    return _value(sub, value, at, mti)


def _unknown(value: Any, path: str) -> Any:
    """The value of a tag that the spec does not know, or the objects of a template."""
    if isinstance(value, dict):
        return {key: _unknown(each, f"{path}.{key if len(key) <= 8 else '?'}") for key, each in value.items()}
    return _bytes(value, path)
