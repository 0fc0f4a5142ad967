"""A message as an aligned table for people; masked unless asked otherwise."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Final

from iso8583 import codes, masking, mti, tlv
from iso8583.header import REQUIREMENTS, parse
from iso8583.message import Message

VALUE_WIDTH_MAX: Final = 72  # columns; longer values go on in the next line, complete


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a header, a field (``path`` "55") or a TLV object in it ("55.9F26")."""

    path: str
    name: str
    length: str
    value: str
    meaning: str = ""


def rows(message: Message, *, unmask: bool = False) -> list[Row]:
    """All that a message holds, in wire order.

    Args:
        unmask: Show PANs, tracks, PIN blocks and keys. For test data and for people who may see them.
    """
    result = _header_rows(message)
    result.append(Row("0", "mti", "4", message.mti, mti.describe(message.mti)))
    for number in message:
        if number == 0:
            continue
        field = message.spec.fields[number]
        value = message[number]
        meaning = codes.meaning(field.codes, value) if field.codes else ""
        if field.tlv:
            result.append(Row(str(number), field.name, str(len(value)), "", field.label))
            result.extend(_tlv_rows(number, field.sensitive, value, unmask=unmask))
            continue
        if unmask:
            text = value if isinstance(value, str) else value.hex().upper()
        else:
            text = message.masked(number)
        result.append(Row(str(number), field.name, str(len(value)), text, meaning or field.label))
    return result


def _header_rows(message: Message) -> list[Row]:
    if not message.header:
        return []
    tpdu, pos = parse(message.header, message.spec.header)
    result = []
    if tpdu is not None:
        text = f"{tpdu.id} to {tpdu.destination} from {tpdu.origin}"
        result.append(Row("tpdu", "", "5", text))
    if pos is not None:
        text = f"{pos.application}{pos.version}{pos.status}{pos.requirement}{pos.reserved}"
        required = REQUIREMENTS.get(pos.requirement, "unknown")
        result.append(Row("header", "", "6", text, f"requirement {pos.requirement}: {required}"))
    return result


def _tlv_rows(number: int, sensitive: str | None, data: bytes, *, unmask: bool) -> list[Row]:
    names = codes.load_codes("emv_tags") if sensitive == "icc" else {}
    result = []
    for tag, value in tlv.decode(data, path=str(number)):
        text = value.hex().upper() if unmask else masking.mask_tag(sensitive, tag, value)
        known = names.get(tag)
        meaning = f"{known.zh} {known.en}" if known else ""
        result.append(Row(f"{number}.{tag}", "", str(len(value)), text, meaning))
    return result


def table(message: Message, *, unmask: bool = False) -> str:
    """The rows as aligned text: field, name, length, value, meaning. Chinese characters count as two columns."""
    lines = rows(message, unmask=unmask)
    heads = Row("field", "name", "length", "value", "")
    path_width = max(_width(row.path) for row in [heads, *lines])
    name_width = max(_width(row.name) for row in [heads, *lines])
    indent = " " * (path_width + name_width + 12)
    value_width = min(VALUE_WIDTH_MAX, max(_width(row.value) for row in [heads, *lines]))
    output = []
    for row in [heads, *lines]:
        parts = _wrap(row.value, VALUE_WIDTH_MAX)
        start = f"{_pad(row.path, path_width)}  {_pad(row.name, name_width)}  {row.length:>6}  "
        output.append(f"{start}{_pad(parts[0], value_width)}  {row.meaning}".rstrip())
        output.extend(indent + part for part in parts[1:])
    return "\n".join(output)


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _wrap(text: str, width: int) -> list[str]:
    lines = [""]
    used = 0
    for character in text:
        step = _width(character)
        if used + step > width:
            lines.append("")
            used = 0
        lines[-1] += character
        used += step
    return lines
