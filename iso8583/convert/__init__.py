"""Specs of other libraries, read and written: moov-io/iso8583, jPOS, pyiso8583.

    >>> from iso8583 import convert, specfile
    >>> xml = convert.write_text(specfile.load_bundled("iso8583_1987_ascii"), "jpos-xml", flat=True)
    >>> convert.read_text(xml, "jpos-xml", "mine.xml").by_number[2].sensitive
    'pan'

What one side says and the other cannot is refused, all of it at once and by name. What a spec says beyond the wire -
for people, for logs, for replies - has no place in the other formats; :func:`left_out` names it before it is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from iso8583 import specfile
from iso8583.convert import jpos, moov, pyiso8583
from iso8583.convert._common import TEXT_MAX, values_of
from iso8583.errors import SpecError
from iso8583.spec import MessageSpec, ValueSpec

#: Names of formats, for people and the command line.
FORMATS: Final = ("toml", "moov-json", "moov-yaml", "jpos-xml", "pyiso8583")
#: What :func:`load_file` reads. A ``.json`` file with the keys t and p is pyiso8583's.
SUFFIXES: Final[Mapping[str, str]] = {
    ".json": "moov-json",
    ".yaml": "moov-yaml",
    ".yml": "moov-yaml",
    ".xml": "jpos-xml",
}

_Value = TypeVar("_Value", bound=ValueSpec)


def load_file(path: str | Path) -> MessageSpec:
    """A spec from a file of another library, by its suffix.

    Raises:
        SpecError: The file cannot be read, its suffix is none of ``SUFFIXES``, or it says what our specs cannot say.
    """
    format_name = SUFFIXES.get(Path(path).suffix.lower())
    if format_name is None:
        raise SpecError(str(path), "", f"expected a name that ends in {', '.join(SUFFIXES)}")
    return read_file(path, format_name)


def read_file(path: str | Path, format_name: str = "") -> MessageSpec:
    """A spec from a file in one of ``FORMATS``; without a name, by the suffix, where ``.toml`` is ours.

    Raises:
        SpecError: As :func:`load_file`.
    """
    path = Path(path)
    if not format_name:
        format_name = "toml" if path.suffix.lower() == ".toml" else SUFFIXES.get(path.suffix.lower(), "pyiso8583")
    if format_name == "toml":
        return specfile.load_file(path)
    try:
        with path.open("rb") as file:
            data = file.read(TEXT_MAX + 1)
    except OSError as error:
        raise SpecError(str(path), "", f"cannot be read: {error}") from error
    if format_name == "jpos-xml" and len(data) <= TEXT_MAX:
        return jpos.read(data, str(path))  # says its own encoding
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError(str(path), "", f"not UTF-8: {error.reason} at byte {error.start}") from None
    return read_text(text, format_name, str(path))


def read_text(text: str, format_name: str, where: str = "<text>") -> MessageSpec:
    """A spec from text in one of ``FORMATS``.

    Raises:
        SpecError: The text is wrong or too long, or says what our specs cannot express.
    """
    _check_format(format_name)
    if len(text) > TEXT_MAX:
        raise SpecError(where, "", f"more than {TEXT_MAX} bytes: this is not a spec")
    if format_name == "toml":
        return specfile.loads(text, where)
    if format_name == "jpos-xml":
        return jpos.read(text, where)
    if format_name == "moov-yaml":
        return moov.read_yaml(text, where)
    if format_name == "pyiso8583":
        return pyiso8583.read(text, where)
    table = moov.parsed(text, where)
    if isinstance(table, dict) and {"t", "p"} <= table.keys() and "fields" not in table:
        return pyiso8583.read(table, where)
    return moov.read(table, where)


def from_pyiso8583(spec: Mapping[str, Any], name: str = "pyiso8583") -> MessageSpec:
    """A spec from a dict as pyiso8583 uses them.

    Raises:
        SpecError: It is wrong, or says what our specs cannot express.
    """
    return pyiso8583.read(spec, name)


def write_text(definition: MessageSpec, format_name: str, *, flat: bool = False, mti: str = "") -> str:
    """A spec as text in one of ``FORMATS``.

    Args:
        definition: The spec.
        format_name: One of ``FORMATS``.
        flat: Leave sub-fields out, and write fields whole.
        mti: Write what messages of this type have; without it a spec must have the same fields for all.

    Raises:
        SpecError: The spec says what the format cannot express.

    >>> definition = specfile.load_bundled("iso8583_1987_ascii")
    >>> write_text(definition, "pyiso8583", flat=True).count('"max_len"') == len(definition.fields) + 4
    True
    """
    _check_format(format_name)
    if mti:
        definition = narrowed(definition, mti)
    if flat:
        definition = flattened(definition)
    if format_name == "toml":
        return specfile.dumps(definition)
    if format_name == "jpos-xml":
        return jpos.write(definition)
    if format_name == "pyiso8583":
        return pyiso8583.text_of(pyiso8583.write(definition))
    table = moov.write(definition)
    return moov.text_of(table) if format_name == "moov-json" else moov.yaml_of(table)


def narrowed(definition: MessageSpec, mti: str) -> MessageSpec:
    """The spec of messages of one type, without variants."""
    fields = definition.fields_of(definition.variant_for(mti))
    reply = tuple(
        (request, tuple(number for number in echoed if number in fields)) for request, echoed in definition.reply
    )
    return replace(definition, fields=tuple(fields.values()), variants=(), reply=reply)


def flattened(definition: MessageSpec) -> MessageSpec:
    """The spec without sub-fields: the same bytes, fewer names."""
    variants = tuple(
        replace(variant, fields=tuple(_flat(field) for field in variant.fields)) for variant in definition.variants
    )
    return replace(definition, fields=tuple(_flat(field) for field in definition.fields), variants=variants)


def _flat(value: _Value) -> _Value:
    sensitive = "private" if value.sensitive == "icc" else value.sensitive  # tags that nobody tells apart
    return replace(value, layout=None, usages=(), sensitive=sensitive)


def left_out(definition: MessageSpec, format_name: str) -> tuple[str, ...]:
    """What a format has no place for although it does not change the wire, in words.

    >>> left_out(specfile.load_bundled("iso8583_1987_ascii"), "toml")
    ()
    """
    _check_format(format_name)
    if format_name == "toml":
        return ()
    values = [value for _, value in values_of(definition)]
    counts = {
        "labels": sum(bool(value.label) for value in values),
        "marks of sensitive fields": sum(value.sensitive is not None for value in values),
        "code tables": sum(value.codes is not None for value in values),
        "least lengths": sum(value.length_prefix is not None and value.length_min > 0 for value in values),
        "content classes (all text is alike there)": sum(value.content in ("a", "an", "z", "xn") for value in values),
        "signs of encrypted tracks": sum(value.encrypted_when is not None for value in values),
        "lists of what a response repeats": len(definition.reply),
    }
    if format_name == "pyiso8583":
        counts["fill characters"] = sum(value.pad_side is not None for value in values)
    else:
        counts["pad nibbles that are checked"] = sum(value.pad_strict for value in values)
    if format_name == "jpos-xml":
        layouts = [value.layout for value in values if value.tlv]
        counts["names of BER-TLV tags"] = sum(len(layout.subs) for layout in layouts if layout is not None)
    return tuple(f"{count} {what}" for what, count in counts.items() if count)


def _check_format(name: str) -> None:
    if name not in FORMATS:
        raise SpecError(name, "", f"not a format; expected one of {', '.join(FORMATS)}")
