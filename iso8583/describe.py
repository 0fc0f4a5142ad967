"""Messages for people: an aligned table, the differences of two. Masked unless asked otherwise, as `parts` says."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from iso8583 import codes, masking, mti
from iso8583._native import Message
from iso8583.errors import DecodeError
from iso8583.header import APPLICATIONS, REQUIREMENTS, parse, parse_cups
from iso8583.parts import Part, is_message, may_have_moved, parts_of, printable
from iso8583.spec import HeaderLayout

WIDTH: Final = 100  # columns, where no terminal says its own
COLUMN_WIDTH_MIN: Final = 16

_PAINTED: Final = re.compile("\x1b\\[[0-9]*m")


# ---- rows ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """One line: a header, the MTI, a field or something in it.

    Attributes:
        path: ``"tpdu"``, ``"header"``, ``"0"``, ``"55"``, ``"55.9F26"``, ``"message"``.
        length: In digits, characters or bytes of the value.
        value: As it may be seen.
        meaning: What the value says; empty if nobody knows.
        label: What the field is, in Chinese.
        depth: 0 for fields.
    """

    path: str
    name: str
    length: str
    value: str
    meaning: str = ""
    label: str = ""
    depth: int = 0


def rows(message: Message, *, unmask: bool = False) -> list[Row]:
    """All that a message holds, in wire order.

    Args:
        unmask: Show PANs, tracks, PIN blocks and keys. For test data and for people who may see them.

    Returns:
        One row alone, ``"message"``, if the bytes are no message and are not to be seen.
    """
    if not (unmask or is_message(message)):
        size = len(bytes(message))
        return [Row("message", "", str(size), masking.hidden(size), "not a message")]
    result = header_rows(message, unmask=unmask)
    result.append(Row("0", "mti", "4", message.mti, mti.describe(message.mti)))
    for part in parts_of(message):
        result.extend(_part_rows(message, part, unmask=unmask, depth=0))
    return result


def _part_rows(message: Message, part: Part, *, unmask: bool, depth: int) -> Iterator[Row]:
    meaning = part.meaning(unmask=unmask) or (amount(message, part, unmask=unmask) if depth == 0 else "")
    value = part.shown(unmask=unmask)
    inside = part.opened(unmask=unmask)
    if inside and (isinstance(part.value, bytes) or (part.hides and not unmask)):
        value = ""  # what is in it follows
    yield Row(part.path, part.name, str(len(part.value)), value, meaning, part.label, depth)
    # A processing code says in one line what its three parts say in three.
    if not part.meaning(unmask=unmask):
        for sub in inside:
            yield from _part_rows(message, sub, unmask=unmask, depth=depth + 1)


_AMOUNTS: Final = {"4": "49", "5": "50", "6": "51"}  # field -> field of its currency


def amount(message: Message, part: Part, *, unmask: bool = False) -> str:
    """``"12.50 CNY"`` for an amount whose currency the message says; empty for what is hidden.

    >>> from iso8583 import load
    >>> spec = load("unionpay_pos")
    >>> message = spec.decode(spec.encode({0: "0200", 4: 1250, 49: "156"}))
    >>> amount(message, parts_of(message)[0])
    '12.50 CNY'
    """
    if part.hides and not unmask:
        return ""
    if not part.name.startswith("amount") or not isinstance(part.value, str) or not part.value.isdecimal():
        return ""
    found = message.get(_AMOUNTS.get(part.path, ""))
    currency = codes.currency(found) if isinstance(found, str) else None
    if currency is None or currency.exponent is None:
        return ""
    digits = str(int(part.value)).zfill(currency.exponent + 1)
    whole = len(digits) - currency.exponent
    return f"{digits[:whole]}.{digits[whole:]} {currency.alpha}" if currency.exponent else f"{digits} {currency.alpha}"


def header_rows(message: Message, *, unmask: bool = False) -> list[Row]:
    """What stands in front of the MTI."""
    layout = message.spec.header
    if len(message.header) != layout.size or not layout.size:
        return []
    found = list(_header_rows(message.header, layout))
    if may_have_moved(message) and not unmask:
        return [replace(row, value=masking.hidden(int(row.length)), meaning="") for row in found]
    return found


def _header_rows(header: bytes, layout: HeaderLayout) -> Iterator[Row]:
    if layout.total_at is not None:
        try:
            cups = parse_cups(header)
        except DecodeError as error:
            yield Row("header", "", str(layout.size), masking.hidden(layout.size), error.detail)
            return
        meaning = f"version {cups.version}, total {cups.total}"
        if cups.reject is not None:
            meaning += f", reject code {cups.reject}"
        value = f"to {cups.destination} from {cups.source}"
        yield Row("header", "", str(layout.size), printable(value), printable(meaning))
        return
    tpdu, pos = parse(header, layout)
    if tpdu is not None:
        yield Row("tpdu", "", "5", f"{tpdu.id} to {tpdu.destination} from {tpdu.origin}")
    if pos is not None:
        text = f"{pos.application}{pos.version}{pos.status}{pos.requirement}{pos.reserved}"
        required = f"requirement {pos.requirement}: {REQUIREMENTS.get(pos.requirement, 'unknown')}"
        application = APPLICATIONS.get(pos.application)
        yield Row("header", "", "6", text, f"{application}; {required}" if application else required)


def title(message: Message) -> str:
    """``"0200 financial request"``, or that it is none."""
    return f"{message.mti} {mti.describe(message.mti)}" if is_message(message) else "not a message"


# ---- differences ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Difference:
    """One field or sub-field that two messages do not have in common.

    Attributes:
        path, name: Of the field.
        left, right: The values as they may be seen; None where there is none.
        note: What the values do not show: that a hidden part differs, or the bytes on the wire only.
        label: Chinese.
    """

    path: str
    name: str
    left: str | None
    right: str | None
    note: str = ""
    label: str = ""

    @property
    def sign(self) -> str:
        return "+" if self.left is None else "-" if self.right is None else "~"


_HIDDEN_TOO: Final = "differs where it is hidden"


def differences(left: Message, right: Message, *, unmask: bool = False) -> list[Difference]:
    """What is different, field by field; inside a field sub-field by sub-field. Empty: the bytes are the same."""
    found: list[Difference] = []
    if not unmask and not (is_message(left) and is_message(right)):
        if bytes(left) == bytes(right):
            return []
        sizes = [len(bytes(message)) for message in (left, right)]
        note = "not compared: what is not a message has no fields"
        return [Difference("message", "", masking.hidden(sizes[0]), masking.hidden(sizes[1]), note)]
    if left.header != right.header:
        fronts = [_header_shown(message, unmask=unmask) for message in (left, right)]
        note = _HIDDEN_TOO if fronts[0] == fronts[1] else ""
        found.append(Difference("header", "", fronts[0], fronts[1], note))
    if left.mti != right.mti:
        found.append(Difference("0", "mti", title(left), title(right)))
    olds = {part.path: part for part in parts_of(left)}
    news = {part.path: part for part in parts_of(right)}
    for path in sorted({*olds, *news}, key=int):
        old, new = olds.get(path), news.get(path)
        inside = list(_compared(old, new, unmask=unmask))
        found.extend(inside)
        if not inside and left.raw(int(path)) != right.raw(int(path)):
            assert old is not None
            assert new is not None
            note = "the values are equal, the bytes on the wire are not: a pad, or the form of a length"
            found.append(_difference(old, new, note, unmask=unmask))
    if not found and bytes(left) != bytes(right):
        found.append(Difference("message", "", "", "", "the values are equal, the bytes on the wire are not"))
    return found


def _header_shown(message: Message, *, unmask: bool) -> str:
    header = message.header
    return masking.hidden(len(header)) if may_have_moved(message) and not unmask else header.hex(" ").upper()


def _compared(old: Part | None, new: Part | None, *, unmask: bool) -> Iterator[Difference]:
    if old is not None and new is not None:
        if old.value == new.value:
            return
        olds = {part.path: part for part in old.opened(unmask=unmask)}
        news = {part.path: part for part in new.opened(unmask=unmask)}
        if olds and news:
            inside: list[Difference] = []
            for path in [*olds, *(path for path in news if path not in olds)]:
                inside.extend(_compared(olds.get(path), news.get(path), unmask=unmask))
            if inside:
                yield from inside
                return
    note = ""
    if old is not None and new is not None and old.shown(unmask=unmask) == new.shown(unmask=unmask):
        note = _HIDDEN_TOO
        if old.opened(unmask=unmask) and new.opened(unmask=unmask):
            note = "the same objects in another order, or written otherwise"
    yield _difference(old, new, note, unmask=unmask)


def _difference(old: Part | None, new: Part | None, note: str, *, unmask: bool) -> Difference:
    part = old if old is not None else new
    assert part is not None
    left = None if old is None else old.shown(unmask=unmask)
    right = None if new is None else new.shown(unmask=unmask)
    return Difference(part.path, part.name, left, right, note, part.label)


def difference_table(found: Sequence[Difference], equal: int, *, width: int = WIDTH, paint: Paint | None = None) -> str:
    """The differences as aligned text, with a line that counts them; ``equal`` is how many fields are the same."""
    paint = paint or Paint(False)
    colours = {"+": "green", "-": "red", "~": "yellow"}
    table = Table([
        Column("", paint), Column("field", paint), Column("name", paint, wrap=True),
        Column("A", paint, wrap=True), Column("B", paint, wrap=True),
    ])  # fmt: skip
    for difference in found:
        style = colours[difference.sign]
        name = " ".join(text for text in (difference.name, difference.label) if text)
        table.add([difference.sign, difference.path, name, difference.left or "", difference.right or ""], style)
        if difference.note:
            table.note(difference.note, 3)
    counts = [("changed", "~"), ("added", "+"), ("removed", "-")]
    summary = [f"{sum(one.sign == sign for one in found)} {word}" for word, sign in counts]
    lines = table.lines(width) if found else []
    return "\n".join([*lines, *([""] if lines else []), f"{', '.join(summary)}, {equal} equal"])


# ---- text in columns -----------------------------------------------------------------------------


class Paint:
    """Colours for a terminal; plain text without one.

    >>> Paint(True)("red", "no"), Paint(False)("red", "no")
    ('\\x1b[31mno\\x1b[0m', 'no')
    """

    _CODES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled

    def __call__(self, style: str, text: str) -> str:
        if not self.enabled or not style or not text.strip():
            return text
        return f"\x1b[{self._CODES[style]}m{text}\x1b[0m"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: as wide as its widest cell, or, if it wraps, as there is room.

    Cells may have several lines.
    """

    head: str
    paint: Paint
    style: str = ""
    wrap: bool = False
    right: bool = False


class Table:
    """Rows of text, lined up. Chinese characters count as two columns."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._rows: list[tuple[Sequence[str], str]] = []
        self._notes: dict[int, list[tuple[str, int]]] = {}

    def add(self, cells: Sequence[str], style: str = "") -> None:
        """A row; ``style`` overrides that of its columns."""
        assert len(cells) == len(self._columns)
        self._rows.append((cells, style))

    def note(self, text: str, column: int) -> None:
        """A line of its own under the last row, from a column on."""
        self._notes.setdefault(len(self._rows) - 1, []).append((text, column))

    def lines(self, width: int = WIDTH) -> list[str]:
        widths = self._widths(width)
        output: list[str] = []
        if any(column.head for column in self._columns):
            heads = [column.head for column in self._columns]
            output.extend(self._laid_out(heads, widths, lambda column: "dim"))
        for index, (cells, style) in enumerate(self._rows):
            output.extend(self._laid_out(cells, widths, lambda column, style=style: style or column.style))  # type: ignore[misc]
            for text, at in self._notes.get(index, ()):
                indent = sum(widths[:at]) + 2 * at
                output.extend(
                    " " * indent + self._columns[0].paint("dim", part)
                    for part in wrapped(text, max(20, width - indent))
                )
        return output

    def _widths(self, width: int) -> list[int]:
        widths = [
            max(
                [columns_of(column.head)]
                + [columns_of(line) for cells, _ in self._rows for line in cells[index].split("\n")]
            )
            for index, column in enumerate(self._columns)
        ]
        flexible = [index for index, column in enumerate(self._columns) if column.wrap]
        room = (
            width - sum(widths[index] for index in range(len(widths)) if index not in flexible) - 2 * (len(widths) - 1)
        )
        # The narrow ones get what they need, the others share what is left.
        for count, index in enumerate(sorted(flexible, key=lambda index: widths[index])):
            share = max(COLUMN_WIDTH_MIN, room // (len(flexible) - count))
            widths[index] = min(widths[index], share)
            room -= widths[index]
        return widths

    def _laid_out(self, cells: Sequence[str], widths: list[int], style: Callable[[Column], str]) -> Iterator[str]:
        stacks = [
            [part for line in cell.split("\n") for part in (wrapped(line, width) if column.wrap else [line])]
            for cell, width, column in zip(cells, widths, self._columns, strict=True)
        ]
        for line in range(max(map(len, stacks))):
            texts = []
            for stack, width, column in zip(stacks, widths, self._columns, strict=True):
                text = stack[line] if line < len(stack) else ""
                blank = " " * (width - columns_of(text))
                painted = column.paint(style(column), text)
                texts.append(blank + painted if column.right else painted + blank)
            yield "  ".join(texts).rstrip()


def table(message: Message, *, unmask: bool = False, width: int = WIDTH, paint: Paint | None = None) -> str:
    """The rows as aligned text: field, name, length, value, and what the value means, or what the field is."""
    paint = paint or Paint(False)
    result = Table([
        Column("field", paint, "cyan"), Column("name", paint), Column("len", paint, "dim", right=True),
        Column("value", paint, "bold", wrap=True), Column("meaning", paint, "dim", wrap=True),
    ])  # fmt: skip
    for row in rows(message, unmask=unmask):
        result.add(["  " * row.depth + row.path, row.name, row.length, row.value, row.meaning or row.label])
    return "\n".join(result.lines(width))


def columns_of(text: str) -> int:
    """Columns that a text takes on a terminal.

    >>> columns_of("a中"), columns_of(Paint(True)("red", "a中"))
    (3, 3)
    """
    return sum(_columns(character) for character in _PAINTED.sub("", text))


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def wrapped(text: str, width: int) -> list[str]:
    """A text in lines of at most ``width`` columns, broken at a space if there is one far enough in the line.

    Spaces at the end, which fill up fields of fixed length, do not make a line.

    >>> wrapped("余额不足 insufficient funds", 12)
    ['余额不足', 'insufficient', 'funds']
    """
    if columns_of(text) > width:
        text = text.rstrip()
    lines = []
    while columns_of(text) > width:
        used = end = 0
        while used + _columns(text[end]) <= width:
            used += _columns(text[end])
            end += 1
        end = max(end, 1)
        space = text.rfind(" ", 0, end + 1)
        if space > end // 3:
            lines.append(text[:space])
            text = text[space + 1 :]
        else:
            lines.append(text[:end])
            text = text[end:]
    return [*lines, text] if text or not lines else lines


def printable_lines(text: str) -> str:
    """The same for a text of several lines."""
    return "\n".join(printable(line) for line in text.split("\n"))
