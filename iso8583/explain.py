"""A message byte by byte: a hex dump with the boundaries of the fields, and where it went wrong and why.

Bytes are card data as much as the text they stand for: what is masked in the value is masked in the dump. Where a fault
may have moved the fields, nobody knows where a PAN really lies, and no value is shown at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from iso8583 import hints, mti
from iso8583._native import Message
from iso8583.describe import (
    WIDTH,
    Column,
    Paint,
    Table,
    amount,
    columns_of,
    header_rows,
    title,
    wrapped,
)
from iso8583.errors import DecodeError
from iso8583.message import Spec
from iso8583.parts import LOCAL_CODES, Part, is_message, may_have_moved, parts_of, printable
from iso8583.spec import PREFIXES

ROW_SIZE: Final = 8  # bytes a line of the dump
NAME_WIDTH: Final = 30  # columns
ALSO_MAX: Final = 10  # findings that are listed behind the first


@dataclass(frozen=True, slots=True)
class Explanation:
    """``text`` is for people; ``sound`` says that nothing is wrong."""

    text: str
    sound: bool


@dataclass(slots=True)
class _Block:
    """Some bytes that belong together.

    Attributes:
        offset: Of the first byte.
        prefix: Bytes in front of the value: a length, or tag and length.
        size: Of the value.
        hidden: The value's bytes must not be seen.
        notes: Further lines.
    """

    offset: int
    prefix: bytes
    value: bytes
    path: str
    name: str
    shown: str
    hidden: bool = False
    notes: tuple[str, ...] = ()
    style: str = ""


def explain(
    spec: Spec, data: bytes, *, unmask: bool = False, width: int = WIDTH, paint: Paint | None = None
) -> Explanation:
    """Take a message apart.

    Args:
        spec: How to read it.
        data: From the header on.
        unmask: Show everything. For test data and for people who may see it.
        width: Columns to fit into.
        paint: Colours.

    >>> from iso8583 import load
    >>> print(explain(load("unionpay_pos"), bytes.fromhex("08000020000000000000000007")).text)
    0800 network management request · spec unionpay_pos · 13 bytes
    <BLANKLINE>
    byte  bytes                    field  name                            value
       0  08 00                    0      mti                             0800
                                            network management request
       2  00 20 00 00 00 00 00 00  1      bitmap                          11
      10  00 00 07                 11     stan 受卡方系统跟踪号           000007
    """
    paint = paint or Paint(False)
    name_width = NAME_WIDTH if width < 120 else NAME_WIDTH + 16
    message: Message = spec.decode(data, strict=False)
    findings: tuple[DecodeError, ...] = message.findings
    blocks = list(_blocks(message, findings, unmask=unmask))
    table = Table([
        Column("byte", paint, "dim", right=True), Column("bytes", paint, "dim"), Column("field", paint, "cyan"),
        Column(f"name{' ' * (name_width - 4)}  value", paint),
    ])  # fmt: skip
    # byte, bytes, field, and two spaces behind each of them
    text_width = (
        width - (max(4, len(str(len(data)))) + 3 * ROW_SIZE + 5) - max([5, *(len(block.path) for block in blocks)])
    )
    for block in blocks:
        offset = str(block.offset) if block.offset >= 0 else ""
        table.add([offset, _dump(block), block.path, _text(block, name_width, max(text_width, 40), paint)], block.style)
    head = [title(message), f"spec {spec.name}"]
    if spec.header.name != "none":
        head.append(f"header {spec.header.name}")
    head.append(f"{len(data)} bytes")
    output = [paint("bold", " · ".join(head)), "", *table.lines(width)]
    if findings:
        others = findings[1:] if is_message(message) or unmask else ()
        output += ["", *_verdict(spec, data, findings[0], others, paint, unmask=unmask)]
    if any(block.hidden for block in blocks) and may_have_moved(message) and not unmask:
        output += ["", "hidden: any of these bytes may be card data, because fields may not lie where they should",
                   "--unmask shows them, for test data"]  # fmt: skip
    return Explanation("\n".join(output), not findings)


# ---- bytes to blocks -----------------------------------------------------------------------------


def _blocks(message: Message, findings: tuple[DecodeError, ...], *, unmask: bool) -> Iterator[_Block]:
    data = bytes(message)
    if not (unmask or is_message(message)):
        # Not even the numbers of fields are: they are bits of whatever stands there.
        yield _Block(0, b"", data, "✗", "", f"{len(data)} bytes that are not a message", hidden=True, style="red")
        return
    by_field = {finding.field: finding for finding in reversed(findings)}
    closed = may_have_moved(message) and not unmask
    yield from _header_blocks(message, hidden=closed)
    end = len(message.header)
    if message.mti:
        yield from _start_blocks(message, hidden=closed)
        end = sum(message.span(0))
    for part in parts_of(message):
        start, size = message.span(int(part.path))
        end = start + size
        yield from _part_blocks(message, part, by_field.get(part.path), unmask=unmask)
    # Behind the last field that was found: where it went wrong, or what is left over.
    rest = data[end:]
    stop = next((finding for finding in findings if finding.code not in LOCAL_CODES and finding.offset >= end), None)
    if stop is None:
        stop = next((finding for finding in findings if finding.code not in LOCAL_CODES), None)
    if rest or (stop is not None and stop.offset >= end):
        path, name = _place_of(message, stop, end)
        note = f"{len(rest)} byte{'s' * (len(rest) > 1)} not decoded" if rest else "nothing is left"
        yield _Block(end, b"", rest, f"✗ {path}".rstrip(), name, note, hidden=not unmask, style="red")


def _place_of(message: Message, stop: DecodeError | None, end: int) -> tuple[str, str]:
    """(path, name) of what should have come next."""
    if stop is None or stop.offset < end:
        return "", ""
    if stop.path == "message":
        return "", "left over"
    if not stop.field.isdigit():
        return stop.field, ""
    try:
        field = message.field(stop.field)
    except KeyError:
        return stop.field, "not in the spec"
    return stop.field, _named(field.name, field.label)


def _header_blocks(message: Message, *, hidden: bool) -> Iterator[_Block]:
    at = 0
    for row in header_rows(message, unmask=not hidden):
        size = int(row.length)
        yield _Block(at, b"", message.header[at : at + size], row.path, "", row.value, hidden, (row.meaning,))
        at += size


def _start_blocks(message: Message, *, hidden: bool) -> Iterator[_Block]:
    start, size = message.span(0)
    raw = message.raw(0)
    yield _Block(start, b"", raw, "0", "mti", message.mti, notes=(mti.describe(message.mti),))
    if size > len(raw):
        bitmap = bytes(message)[start + len(raw) : start + size]
        numbers = " ".join(map(str, _announced(bitmap)))
        yield _Block(start + len(raw), b"", bitmap, "1", "bitmap", numbers, hidden)


def _announced(bitmap: bytes) -> list[int]:
    if len(bitmap) % 8 or len(bitmap) > 24 or _is_text(bitmap):
        try:
            bitmap = bytes.fromhex(bitmap.decode("cp037" if bitmap[0] >= 0xC0 else "ascii"))
        except (UnicodeDecodeError, ValueError):
            return []
    return [
        number for number in range(1, len(bitmap) * 8 + 1) if bitmap[(number - 1) // 8] >> (7 - (number - 1) % 8) & 1
    ]


def _is_text(bitmap: bytes) -> bool:
    return len(bitmap) >= 16 and all(byte in b"0123456789ABCDEFabcdef" for byte in bitmap)


def _part_blocks(message: Message, part: Part, fault: DecodeError | None, *, unmask: bool) -> Iterator[_Block]:
    start, size = message.span(int(part.path))
    raw = bytes(message)[start : start + size]
    assert part.spec is not None
    prefix = _prefix_size(part.spec.length_prefix)
    subs = part.opened(unmask=unmask)
    split = _objects(part, raw, prefix) if subs else None
    head = _Block(
        start,
        raw[:prefix],
        b"" if split is not None else raw[prefix:],
        f"✗ {part.path}" if fault is not None else part.path,
        _named(part.name, part.label),
        _shown(part, unmask=unmask),
        part.hides and not unmask,
        _notes(message, part, unmask=unmask),
        "red" if fault is not None else "",
    )
    if fault is not None:
        head.notes += (f"✗ {fault.detail}",)
    yield head
    for index, sub in enumerate(subs):
        if split is None:
            yield from _sub_blocks(message, sub, 1, unmask=unmask)
            continue
        at, value_at, until = split[index]
        block = next(_sub_blocks(message, sub, 1, unmask=unmask))
        block.offset, block.prefix, block.value = start + at, raw[at:value_at], raw[value_at:until]
        yield block
        for inner in sub.parts:
            yield from _sub_blocks(message, inner, 2, unmask=unmask)


def _sub_blocks(message: Message, part: Part, depth: int, *, unmask: bool) -> Iterator[_Block]:
    """A sub-field without bytes of its own: they stand beside its field."""
    hidden = part.hides and not unmask
    yield _Block(
        -1, b"", b"", "  " * depth + part.path, _named(part.name, part.label),
        _shown(part, unmask=unmask), hidden, _notes(message, part, unmask=unmask),
    )  # fmt: skip
    for sub in part.parts:
        yield from _sub_blocks(message, sub, depth + 1, unmask=unmask)


def _named(name: str, label: str) -> str:
    return " ".join(text for text in (name, label) if text)


def _shown(part: Part, *, unmask: bool) -> str:
    if part.opened(unmask=unmask) and (isinstance(part.value, bytes) or (part.hides and not unmask)):
        return f"{len(part.value)} {'characters' if isinstance(part.value, str) else 'bytes'}"
    return part.shown(unmask=unmask)


def _notes(message: Message, part: Part, *, unmask: bool) -> tuple[str, ...]:
    meaning = part.meaning(unmask=unmask) or ("" if "." in part.path else amount(message, part, unmask=unmask))
    return (*([meaning] if meaning else []), *(str(bit) for bit in part.bits(unmask=unmask)))


def _prefix_size(name: str | None) -> int:
    if name is None:
        return 0
    digits, form = PREFIXES[name]
    return (digits + 1) // 2 if form == "bcd" else digits


def _objects(part: Part, raw: bytes, prefix: int) -> list[tuple[int, int, int]] | None:
    """(start, start of the value, end) in the field of each of its BER-TLV objects, in the order of ``part.parts``;
    None if they have no bytes of their own."""
    assert part.spec is not None
    if not part.spec.tlv or part.spec.encoding != "binary":
        return None
    places: dict[str, list[tuple[int, int, int]]] = {}
    at = prefix
    while at < len(raw):
        if raw[at] == 0:  # padding between objects
            at += 1
            continue
        tag_end = at + 1
        if raw[at] & 0x1F == 0x1F:
            while tag_end < len(raw) and raw[tag_end] & 0x80:
                tag_end += 1
            tag_end += 1
        length, value_at = raw[tag_end], tag_end + 1
        if length > 0x80:
            value_at += length & 0x7F
            length = int.from_bytes(raw[tag_end + 1 : value_at], "big")
        places.setdefault(raw[at:tag_end].hex().upper(), []).append((at, value_at, value_at + length))
        at = value_at + length
    return [places[sub.key].pop(0) for sub in part.parts]  # sound objects, or there would be no parts


# ---- blocks to text ------------------------------------------------------------------------------


def _dump(block: _Block) -> str:
    """The bytes, eight a line, a bar behind the length."""
    cells = [f"{byte:02X} " for byte in block.prefix]
    if cells:
        cells[-1] = cells[-1].rstrip() + "|"
    if block.hidden and len(block.value) > 2 * ROW_SIZE:
        stars = min(len(block.value), ROW_SIZE - len(cells) % ROW_SIZE)
        cells += ["** "] * stars
        more = len(block.value) - stars
        lines = _lines(cells)
        return "\n".join([*lines, f"** and {more} more"])
    cells += ["** " if block.hidden else f"{byte:02X} " for byte in block.value]
    return "\n".join(_lines(cells))


def _lines(cells: list[str]) -> list[str]:
    return ["".join(cells[at : at + ROW_SIZE]).rstrip() for at in range(0, len(cells), ROW_SIZE)]


def _text(block: _Block, name_width: int, width: int, paint: Paint) -> str:
    """What the bytes are: name and value side by side, what the value means behind it or below."""
    shown, notes = block.shown, [note for note in block.notes if note]
    if len(notes) == 1 and columns_of(shown) + 2 + columns_of(notes[0]) <= width - name_width - 2:
        shown, notes = f"{shown}  {notes[0]}", []
    names = wrapped(block.name, name_width)
    values = wrapped(shown, width - name_width - 2)
    lines = []
    for at in range(max(len(names), len(values))):
        name = names[at] if at < len(names) else ""
        value = values[at] if at < len(values) else ""
        lines.append(f"{name}{' ' * (name_width - columns_of(name))}  {paint('bold', value)}".rstrip())
    for note in notes:
        lines += [f"  {part}" for part in wrapped(note, width - 2)]
    return "\n".join(lines)


def _verdict(
    spec: Spec, data: bytes, first: DecodeError, others: Sequence[DecodeError], paint: Paint, *, unmask: bool
) -> Iterator[str]:
    place = f"field {first.path}" if first.field.isdigit() else first.path
    yield paint("red", f"✗ {place} at byte {first.offset}: {printable(first.detail)} [{first.code}]")
    if first.expected:
        yield f"    expected  {printable(first.expected)}"
    if first.got:
        yield f"    got       {printable(first.got)}"
    if unmask:
        yield from (f"    {line}" for line in hints.bytes_around(data, first).splitlines())
    causes = hints.causes(spec, data, first)
    if causes:
        yield "  likely causes" if len(causes) > 1 else "  likely cause"
        for number, cause in enumerate(causes, 1):
            yield f"    {number}. {printable(cause)}"
    if others:
        yield "  also"
        for other in others[:ALSO_MAX]:
            place = f"field {other.path}" if other.field.isdigit() else other.path
            yield f"    {place} at byte {other.offset}: {printable(other.detail)} [{other.code}]"
        if len(others) > ALSO_MAX:
            yield f"    and {len(others) - ALSO_MAX} more"
