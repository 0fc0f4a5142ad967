"""What ``iso8583 check-spec`` says about a spec that is right: its fields, and what it leaves out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from iso8583 import masking, specfile
from iso8583.describe import Column, Paint, Table
from iso8583.spec import FieldSpec, Layout, MessageSpec, ValueSpec

LISTED_MAX: Final = 20  # fields that one warning names

#: Names of values that hold card data wherever they stand.
_SENSITIVE: Final = re.compile(
    r"(?!no_)(.*_)?(pan|primary_account_number|card_number|pin|pin_block|pin_data|track_?[123]|track_?[123]_data|track_data"
    r"|cvv2?|cvc2?|cvn2?|expiry|expiry_date|expiration_date|cardholder_name)"
)


def summary(definition: MessageSpec) -> str:
    """One line: ``"unionpay_pos: 39 fields of 64, MTI bcd, bitmap binary"``."""
    parts = [f"{definition.name}: {len(definition.fields)} fields of {definition.field_max}"]
    parts += [f"MTI {definition.mti_encoding}", f"bitmap {definition.bitmap}"]
    if definition.variants:
        parts.append(f"other fields for {', '.join(variant.mti for variant in definition.variants)}")
    return ", ".join(parts)


def field_table(definition: MessageSpec, paint: Paint) -> Table:
    """The fields, and those of message types that have others."""
    table = Table([
        Column("field", paint, "cyan", right=True), Column("name", paint), Column("label", paint, wrap=True),
        Column("content", paint), Column("prefix", paint, "dim"), Column("length", paint),
        Column("sensitive", paint, "yellow"), Column("sub-fields", paint, "dim"),
    ])  # fmt: skip
    for field in definition.fields:
        table.add(_row(field, str(field.number)))
    for variant in definition.variants:
        for field in variant.fields:
            table.add(_row(field, f"{variant.mti}.{field.number}"))
    return table


def _row(field: FieldSpec, key: str) -> list[str]:
    layouts = [layout for layout in (field.layout, *(usage.layout for usage in field.usages)) if layout is not None]
    kinds = ", ".join(dict.fromkeys(layout.kind for layout in layouts))
    if len(layouts) > 1:
        kinds = f"{len(layouts)} × {kinds}"
    return [
        key, field.name, field.label, f"{field.content} {field.encoding}", field.length_prefix or "fixed",
        field.expected(), field.sensitive or "", kinds,
    ]  # fmt: skip


def code_tables(definition: MessageSpec) -> set[str]:
    """Names of the code tables that a spec refers to."""
    return {value.codes for _, value, _ in _values(definition) if value.codes is not None}


def shortcomings(definition: MessageSpec) -> tuple[list[str], list[str]]:
    """(warnings, notes): what a reviewer would send back, and what is only a pity."""
    values = list(_values(definition))
    warnings = []
    if not definition.source:
        warnings.append("no source: the spec itself")
    unsourced = [key for key, value, _ in values if isinstance(value, FieldSpec) and not value.source]
    if unsourced:
        warnings.append(f"no source: {_listed(unsourced)}")
    naked = [f"{key} ({value.name})" for key, value, kind in values if kind is None and _is_usually_hidden(value)]
    if naked:
        warnings.append(f"usually sensitive, but not marked so: {_listed(naked)}")
    unlabelled = [key for key, value, _ in values if isinstance(value, FieldSpec) and not value.label]
    return warnings, [f"no label: {_listed(unlabelled)}"] if unlabelled else []


def _is_usually_hidden(value: ValueSpec) -> bool:
    if _SENSITIVE.fullmatch(value.name):
        return True
    if not isinstance(value, FieldSpec):
        return False
    usual = specfile.load_bundled("iso8583_1987_ascii").by_number.get(value.number)
    # What is private differs from network to network; and a field whose parts say what hides them needs no mark.
    kind = None if usual is None else usual.sensitive
    return kind not in (None, "private") and not value.usages and value.layout is None


def _values(definition: MessageSpec) -> Iterator[tuple[str, ValueSpec, str | None]]:
    """(key, value, what hides it) of every field and sub-field, in every usage and variant."""
    for field in definition.fields:
        yield from _under(f"field.{field.number}", field, None)
    for variant in definition.variants:
        for field in variant.fields:
            yield from _under(f"mti.{variant.mti}.field.{field.number}", field, None)


def _under(key: str, value: ValueSpec, outer: str | None) -> Iterator[tuple[str, ValueSpec, str | None]]:
    kind = value.sensitive or outer
    assert kind is None or kind in masking.KINDS
    yield key, value, kind
    places: list[tuple[str, Layout | None, str | None]] = [(key, value.layout, kind)]
    places += [(f"{key}.usage[{at}]", usage.layout, usage.sensitive or kind) for at, usage in enumerate(value.usages)]
    for place, layout, inner in places:
        for sub in () if layout is None else layout.subs:
            yield from _under(f"{place}.sub.{sub.key}", sub, inner)


def _listed(keys: list[str]) -> str:
    if len(keys) <= LISTED_MAX:
        return ", ".join(keys)
    return f"{', '.join(keys[:LISTED_MAX])} and {len(keys) - LISTED_MAX} more"
