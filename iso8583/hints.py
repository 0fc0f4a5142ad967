"""What probably went wrong, told by the bytes: behind ``DecodeError.hint`` and ``iso8583 explain``.

A cause is a story about the sender: its lengths are ASCII, a TPDU stands in front. It is put to the test: the bytes are
rewritten as they would have been without it, and decoded. What comes out weighs the story:

    sound      the whole message decodes then: as good as proven
    fits       a bundled spec decodes the message
    further    more fields decode then than before; or the bytes look so much like it that nothing else is likely
    possible   a usual cause of such an error, without a sign in the bytes: `explain` lists it, an error does not

Errors are provoked by peers, so the number of trials is bounded; and nothing here ever shows data.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Protocol

from iso8583 import specfile
from iso8583.errors import DecodeError, SpecError
from iso8583.spec import HEADERS, LENGTH_MAX, PREFIXES, FieldSpec, HeaderLayout, MessageSpec

TRIALS_MAX: Final = 200  # decodes for one error: about a millisecond
GAIN_MIN: Final = 2  # fields that a story must add before "further" means something
FRONT_MAX: Final = 80  # bytes in front of the MTI; the longest known are TPDU + dial-up header + message header
DUMP_WIDTH: Final = 16  # bytes a line

# What speaks for a cause; gains are added to FURTHER.
POSSIBLE, FURTHER, FITS, SOUND = 0, 1000, 2000, 3000

_FORMS: Final = {"bcd": "BCD", "ascii": "ASCII", "ebcdic": "EBCDIC", "binary": "binary", "hex": "hexadecimal"}
_BITMAPS: Final = {"binary": "binary", "hex": "hex", "hex_ebcdic": "EBCDIC hex"}
_FRONTS: Final = {
    "tpdu": "a TPDU",
    "pos6": "a 6-byte POS header",
    "tpdu+pos6": "a TPDU and a 6-byte POS header",
    "cups": "a CUPS header (46 bytes)",
    "cupd": "a CUPS header (41 bytes)",
}
# What stands in front of a message on a stream: words, bytes, and the length they announce (None: not digits).
_STREAM_LENGTHS: Final[tuple[tuple[str, int, Callable[[bytes], int | None]], ...]] = (
    ("a 2-byte length", 2, lambda head: int.from_bytes(head, "big")),
    ("a length of 4 ASCII digits", 4, lambda head: int(head) if head.isdigit() else None),
    ("a 4-byte length", 4, lambda head: int.from_bytes(head, "big")),
    ("a length of 4 BCD digits", 2, lambda head: int(head.hex()) if head.hex().isdecimal() else None),
)
_MTI: Final = re.compile("[0-2][1-8][0-4][0-5]")
_ALL_SOUND: Final = "read so, the whole message is sound"
_ASCII_TO_EBCDIC: Final = bytes(range(256)).decode("latin-1").encode("cp037")
_EBCDIC_TO_ASCII: Final = bytes(range(256)).decode("cp037").encode("latin-1")


class _Message(Protocol):
    mti: str

    def __len__(self) -> int: ...
    def __contains__(self, key: object, /) -> bool: ...
    def span(self, key: int, /) -> tuple[int, int]: ...


class Reader(Protocol):
    """What is needed of a ``Spec``; this module stands below it."""

    @property
    def definition(self) -> Any: ...
    @property
    def header(self) -> Any: ...
    def decode(self, data: bytes, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class _Cause:
    weight: int
    text: str
    evidence: str = ""

    def __str__(self) -> str:
        return f"{self.text} ({self.evidence})" if self.evidence else self.text


def likely_cause(spec: Reader, data: bytes, error: DecodeError) -> str:
    """The best explanation of an error, ``""`` if the bytes tell none. Shows nothing of the data.

    Args:
        spec: What the data was decoded with.
        data: All that was given to ``decode``.
        error: What it raised.
    """
    try:
        found = next(iter(_ranked(spec, data, error)), None)
    except Exception:
        # An error is being shown: whatever happens here must not take its place.
        return ""
    return found.text if found is not None and found.weight > POSSIBLE else ""


def causes(spec: Reader, data: bytes, error: DecodeError) -> list[str]:
    """Everything that may be behind an error, the likeliest first, each with what speaks for it.

    Args:
        spec, data, error: As for :func:`likely_cause`.
    """
    return [str(cause) for cause in _ranked(spec, data, error)]


def is_in_use(mti: str) -> bool:
    """Somebody sends messages of this type. If not, the bytes are most likely no MTI.

    >>> is_in_use("0200"), is_in_use("3032")
    (True, False)
    """
    return _MTI.fullmatch(mti) is not None


def bytes_around(data: bytes, error: DecodeError) -> str:
    """The lines of a hex dump around an error, the place marked: card data, if there is any.

    >>> print(bytes_around(bytes(range(48)), DecodeError("length", "2", 18)))
         0  00 01 02 03 04 05 06 07  08 09 0A 0B 0C 0D 0E 0F
    >   16  10 11 12 13 14 15 16 17  18 19 1A 1B 1C 1D 1E 1F
                  ^^
        32  20 21 22 23 24 25 26 27  28 29 2A 2B 2C 2D 2E 2F
    """
    marked = min(error.offset, len(data)) // DUMP_WIDTH * DUMP_WIDTH
    lines = []
    for start in range(max(0, marked - DUMP_WIDTH), marked + 3 * DUMP_WIDTH, DUMP_WIDTH):
        row = data[start : start + DUMP_WIDTH]
        if row or start == marked:
            text = row[:8].hex(" ").upper()
            if len(row) > 8:
                text += "  " + row[8:].hex(" ").upper()
            lines.append(f"{'>' if start == marked else ' '}{start:5}  {text}".rstrip())
        if start == marked:
            column = min(error.offset, len(data)) - marked
            lines.append(" " * (8 + 3 * column + (column > 7)) + "^^")
    return "\n".join(lines)


# ---- trials --------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Reading:
    """What came of decoding some bytes. Offsets count from the MTI."""

    message: _Message | None  # all of it, or the fields in front of the error
    error: DecodeError | None
    start: int

    @property
    def fields(self) -> int:
        # A type that nobody sends is not worth more than none.
        if self.message is None or not is_in_use(self.message.mti):
            return 0
        return len(self.message)

    def place(self, number: int) -> int | None:
        """Where a field starts; None if the reading did not get there."""
        if self.message is not None and number in self.message:
            return self.message.span(number)[0] - self.start
        if self.error is not None and self.error.path == str(number):
            return self.error.offset - self.start
        return None

    def passed(self, number: int) -> bool:
        return self.error is None or (self.message is not None and number in self.message)


@dataclass(slots=True)
class _Case:
    """One error and everything that was found out about it."""

    spec: Reader
    data: bytes
    error: DecodeError
    definition: MessageSpec = field(init=False)
    header: HeaderLayout = field(init=False)
    trials: int = 0
    sound: set[bytes] = field(default_factory=set)  # rewritten messages that were sound
    found: list[_Cause] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.definition = self.spec.definition
        self.header = self.spec.header

    @property
    def body(self) -> bytes:
        """From the MTI on."""
        return self.data[self.header.size :]

    def read(self, body: bytes) -> _Reading:
        """Decode what starts with an MTI."""
        start = self.header.size
        self.trials += 1
        if self.trials > TRIALS_MAX or start + len(body) > LENGTH_MAX:
            return _Reading(None, self.error, start)
        front = bytearray(start)
        if self.header.total_at is not None:
            front[self.header.total_at : self.header.total_at + 4] = b"%04d" % min(start + len(body), 9999)
        try:
            return _Reading(self.spec.decode(bytes(front) + body), None, start)
        except DecodeError as error:
            return _Reading(error.message, error, start)

    def judge(self, reading: _Reading, base: _Reading, text: str, sound_only: bool = False) -> bool:
        """Note what a trial has shown; True if the message is sound then."""
        if reading.error is None:
            self.found.append(_Cause(SOUND, text, _ALL_SOUND))
            return True
        gain = reading.fields - base.fields
        if gain >= GAIN_MIN and not sound_only:
            self.found.append(_Cause(FURTHER + gain, text, f"read so, {gain} more fields are sound"))
        return False

    @property
    def settled(self) -> bool:
        return any(cause.weight >= SOUND for cause in self.found)


def _ranked(spec: Reader, data: bytes, error: DecodeError) -> list[_Cause]:
    if error.code == "size":
        return []  # and too much to try anything with
    case = _Case(spec, data, error)
    base = case.read(case.body)
    if error.path != "header" and (base.error is None or base.error.path != error.path):
        return []  # inside a field whose length is sound, or behind the first fault: nothing here tests such stories
    # From the outside in: what is wrong further out makes everything further in look wrong.
    for search in (_whole, _front, _start, _bits, _behind, _fields, _other_specs, _usual):
        search(case, base)
        if case.settled:
            break
    ranked = sorted(case.found, key=lambda cause: -cause.weight)
    if case.settled:
        ranked = [cause for cause in ranked if cause.weight >= SOUND]
    return list({cause.text: cause for cause in reversed(ranked)}.values())[::-1]


# ---- the message as a whole ----------------------------------------------------------------------


def _whole(case: _Case, base: _Reading) -> None:
    """Text that stands for the message, a frame of a serial line, nothing at all."""
    data = case.data
    if not data.strip(b"\0"):
        case.found.append(_Cause(FURTHER, "there is nothing but zero bytes" if data else "there are no bytes"))
        return
    if len(data) > 3 * LENGTH_MAX:
        return
    for words, decoded in (("hexadecimal text", _from_hex(data)), ("base64 text", _from_base64(data))):
        if decoded and _is_message(case, decoded, base, f"the message is {words}: turn it into bytes first"):
            return
    if data[0] == 2 and data[-2:-1] == b"\3":
        for size in (0, 2, 4):
            reading = case.read(data[1 + size + case.header.size : -2])
            if case.judge(reading, base, "the frame of a serial line (STX, ETX, LRC) is still around the message"):
                return


def _from_hex(data: bytes) -> bytes | None:
    digits = b"".join(data.split())
    if not re.fullmatch(rb"(?:[0-9A-Fa-f]{2}){6,}", digits):
        return None
    return bytes.fromhex(digits.decode("ascii"))


def _from_base64(data: bytes) -> bytes | None:
    characters = b"".join(data.split())
    if len(characters) % 4 or not re.fullmatch(rb"[A-Za-z0-9+/]{12,}={0,2}", characters):
        return None
    return b64decode(characters)


def _is_message(case: _Case, decoded: bytes, base: _Reading, text: str) -> bool:
    """Is this a message, behind any header? Notes the text if it is."""
    for skipped in (0, 2, 4):
        for layout in HEADERS.values():
            if case.judge(case.read(decoded[skipped + layout.size :]), base, text, sound_only=True):
                return True
    # Not sound, but a message: its type says so.
    if _mti(case.definition.mti_encoding, decoded[case.header.size :]) is not None:
        case.found.append(_Cause(FURTHER, text))
    return False


def _front(case: _Case, base: _Reading) -> None:
    """Something stands in front of the MTI, or something does not that should."""
    data = case.data
    own = case.header
    for words, skipped, announced in (("", 0, None), *_STREAM_LENGTHS):
        if skipped:
            assert announced is not None
            length = announced(data[:skipped]) if len(data) > skipped else None
            if length is None or not (length == len(data) - skipped or length == len(data)):
                continue
        for layout in HEADERS.values():
            start = skipped + layout.size
            if start == own.size or start >= len(data):
                continue
            if layout.has_tpdu and data[skipped] not in (0x60, 0x68):
                continue
            reading = case.read(data[start:])
            if case.judge(reading, base, _front_words(words, layout, own)):
                return
    if own.total_at is not None and case.error.code == "header":
        _total(case)
    for start in range(1, min(FRONT_MAX, len(data))):
        if start != own.size and _mti(case.definition.mti_encoding, data[start:]) is not None:
            plural = "byte seems" if start == 1 else "bytes seem"
            what = f"{start} {plural} to stand in front of the MTI, not {own.size}"
            if case.judge(case.read(data[start:]), base, what, sound_only=True):
                return


def _front_words(length: str, layout: HeaderLayout, own: HeaderLayout) -> str:
    parts = [words for words in (length, _FRONTS.get(layout.name, "")) if words]
    if not parts:
        return f'nothing seems to stand in front of the MTI: read with header "none", not "{own.name}"'
    advice = []
    if length:
        advice.append("cut frames with Framer")
    if layout.name != own.name:
        advice.append(f'read with header "{layout.name}"')
    what = " and ".join(parts)
    return f"{what} {'seem' if ' and ' in what else 'seems'} to stand in front: {', then '.join(advice)}"


def _total(case: _Case) -> None:
    total_at = case.header.total_at
    assert total_at is not None
    digits = case.data[total_at : total_at + 4]
    if not digits.isdigit():
        case.found.append(_Cause(FURTHER, f"what stands in front is not a {case.header.name} header"))
        return
    total, size = int(digits), len(case.data)
    if total > size:
        text = f"the message seems to be cut off: {total - size} of the bytes that the header announces are missing"
    elif case.data[total : total + 1] == case.data[:1]:
        text = "another message seems to follow: cut the stream with Framer"
    else:
        text = f"{size - total} bytes follow that the header does not announce"
    case.found.append(_Cause(SOUND if case.data[0] == case.header.size else FURTHER, text))


def _start(case: _Case, base: _Reading) -> None:
    """MTI or bitmap in another form than the spec's."""
    own = case.definition
    for mti_form in sorted(("bcd", "ascii", "ebcdic"), key=lambda form: form != own.mti_encoding):
        digits = _mti(mti_form, case.body)
        if digits is None:
            continue
        mti_words = f"the MTI is {_FORMS[mti_form]}, spec says {_FORMS[own.mti_encoding]}"
        rest = case.body[_mti_size(mti_form) :]
        for form in sorted(_BITMAPS, key=lambda form: form != own.bitmap):
            bitmap = _bitmap(form, rest, own.field_max)
            if bitmap is None or (form == own.bitmap and mti_form == own.mti_encoding):
                continue
            bitmap_words = f"looks like a {_BITMAPS[form]} bitmap, spec says {_BITMAPS[own.bitmap]}"
            words = [mti_words] * (mti_form != own.mti_encoding) + [bitmap_words] * (form != own.bitmap)
            bits, size = bitmap
            body = _mti_bytes(own.mti_encoding, digits) + _bitmap_bytes(own.bitmap, bits) + rest[size:]
            if case.judge(case.read(body), base, "; ".join(words)):
                return
            if form != own.bitmap and mti_form == own.mti_encoding and _looks_like(form, bits, own):
                case.found.append(_Cause(FURTHER, bitmap_words))
        if mti_form != own.mti_encoding and base.fields == 0:
            case.found.append(_Cause(FURTHER, mti_words))
    if case.error.code == "bitmap" and own.field_max == 64 and _mti(own.mti_encoding, case.body) is not None:
        case.found.append(_Cause(FURTHER, "a secondary bitmap seems to follow: use a spec of 128 fields"))


def _mti_size(form: str) -> int:
    return 2 if form == "bcd" else 4


def _mti(form: str, body: bytes) -> str | None:
    """The type at the start of a message; None if nobody sends such a type."""
    raw = body[: _mti_size(form)]
    if form == "bcd":
        text = raw.hex()
    else:
        text = (raw.translate(_EBCDIC_TO_ASCII) if form == "ebcdic" else raw).decode("latin-1")
    return text if is_in_use(text) else None


def _mti_bytes(form: str, digits: str) -> bytes:
    if form == "bcd":
        return bytes.fromhex(digits)
    return digits.encode("cp037" if form == "ebcdic" else "ascii")


def _bitmap(form: str, rest: bytes, field_max: int) -> tuple[bytes, int] | None:
    """(the bits as bytes, the size as transmitted) of the bitmaps at the start of ``rest``."""
    bits = b""
    scale = 1 if form == "binary" else 2
    while True:
        raw = rest[len(bits) * scale : (len(bits) + 8) * scale]
        if len(raw) < 8 * scale:
            return None
        if form == "hex_ebcdic":
            raw = raw.translate(_EBCDIC_TO_ASCII)
        if form != "binary":
            if not re.fullmatch(rb"[0-9A-Fa-f]{16}", raw):
                return None
            raw = bytes.fromhex(raw.decode("ascii"))
        bits += raw
        if not raw[0] & 0x80 or len(bits) * 8 >= field_max:
            return bits, len(bits) * scale


def _bitmap_bytes(form: str, bits: bytes) -> bytes:
    if form == "binary":
        return bits
    text = bits.hex().upper().encode("ascii")
    return text.translate(_ASCII_TO_EBCDIC) if form == "hex_ebcdic" else text


def _numbers(bits: bytes) -> list[int]:
    """Fields that a bitmap announces."""
    return [
        number
        for number in range(2, len(bits) * 8 + 1)
        if bits[(number - 1) // 8] >> (7 - (number - 1) % 8) & 1 and number != 65
    ]


def _looks_like(form: str, bits: bytes, own: MessageSpec) -> bool:
    if form == "binary":
        # Eight bytes are a bitmap of something; of this spec only if it has all the fields.
        return bool(_numbers(bits)) and all(number in own.by_number for number in _numbers(bits))
    return bool(_numbers(bits))  # sixteen hexadecimal characters are no accident


def _bits(case: _Case, base: _Reading) -> None:
    """A bit that says something else than the fields."""
    own = case.definition
    start = _mti_size(own.mti_encoding)
    bitmap = _bitmap(own.bitmap, case.body[start:], own.field_max)
    if bitmap is None:
        return
    bits, size = bitmap
    behind = case.body[start + size :]
    if case.error.code == "undefined":
        numbers, words = [int(case.error.field)], "the bit of field {} is set, but the field does not seem to be there"
    elif case.error.code == "trailing":
        numbers, words = [len(bits) * 8], "field {} seems to be there, but its bit is not set"
    else:
        numbers = [number for number in reversed(_numbers(bits)) if base.place(number) is not None]
        words = "the bit of field {} is set, but the field does not seem to be there"
    if len(_numbers(bits)) <= GAIN_MIN:
        return  # a message of nearly nothing is sound too easily
    for number in numbers:
        changed = bytearray(bits)
        changed[(number - 1) // 8] ^= 1 << 7 - (number - 1) % 8
        body = case.body[:start] + _bitmap_bytes(own.bitmap, bytes(changed)) + behind
        if case.judge(case.read(body), base, words.format(number), sound_only=True):
            return


def _behind(case: _Case, base: _Reading) -> None:
    """What is left over after a sound message."""
    if case.error.code != "trailing":
        return
    rest = case.data[case.error.offset :]
    for skipped in (0, 2, 4):
        try:
            case.trials += 1
            case.spec.decode(rest[skipped:])
        except DecodeError as error:
            follows = _Reading(error.message, error, 0).fields > GAIN_MIN
        else:
            follows = True
        if follows:
            case.found.append(_Cause(FURTHER, "another message seems to follow: cut the stream with Framer"))
            return
    for words, character in (("zero bytes", b"\0"), ("spaces", b" "), ("FF bytes", b"\xff"), ("a line end", b"\r\n")):
        if not rest.strip(character):
            case.found.append(_Cause(FURTHER, f"what is left is {words} only: a filled-up block, or a line of a file"))
            return


# ---- one field, or all of a kind -----------------------------------------------------------------

_Rewrite = Callable[[FieldSpec, bytes, int], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class _Story:
    """Something that a sender does otherwise than the spec says.

    Attributes:
        subject: "length", "value" or "field".
        words: "is ASCII, spec says BCD".
        rewrite: (field, message, where the field starts) -> the message as it would be without it; several if it can be
            meant in several ways, none if the bytes contradict.
    """

    subject: str
    words: str
    fits: Callable[[FieldSpec], bool]
    rewrite: _Rewrite

    @property
    def plural(self) -> str:
        verb, _, rest = self.words.partition(" ")
        verb = {"is": "are", "has": "have"}.get(verb, verb.removesuffix("s"))
        return f"{verb} {rest}".replace("its own", "their own")


def _fields(case: _Case, base: _Reading) -> None:
    own = case.definition
    bitmap = _bitmap(own.bitmap, case.body[_mti_size(own.mti_encoding) :], own.field_max)
    if base.message is None or base.error is None or bitmap is None:
        return
    defined = own.fields_of(own.variant_for(base.message.mti))
    announced = [defined[number] for number in _numbers(bitmap[0]) if number in defined]
    # Where the reader stumbled, or before: the nearest first.
    suspects = [entry for entry in reversed(announced) if base.place(entry.number) is not None]
    for story in _stories(announced):
        if _of_many(case, base, story, [entry for entry in announced if story.fits(entry)]):
            continue
        for entry in suspects:
            if story.fits(entry) and _of_one(case, base, story, entry):
                break
    if base.error.code == "length" and suspects and not case.settled:
        _too_long(case, base, suspects[0])


def _of_one(case: _Case, base: _Reading, story: _Story, entry: FieldSpec) -> bool:
    """The story for one field."""
    at = base.place(entry.number)
    assert at is not None
    assert base.error is not None
    faulty = base.error.path == str(entry.number)
    if story.subject == "field":
        words = f"field {entry.number} {story.words}"
    else:
        words = f"{story.subject} {story.words}" if faulty else f"{story.subject} of field {entry.number} {story.words}"
    for body in story.rewrite(entry, case.body, at):
        if body in (case.body, *case.sound):
            continue
        # A field that was read without complaint is under suspicion only if everything is sound without it.
        if case.judge(case.read(body), base, words, sound_only=not faulty):
            case.sound.add(body)
            return True
    return False


def _of_many(case: _Case, base: _Reading, story: _Story, fields: list[FieldSpec]) -> bool:
    """The story for all fields that it fits, or for those where the reader stumbles: if the message is sound then."""
    for everywhere in (True, False):
        told, reading, body = _retold(case, base, story, fields, everywhere=everywhere)
        if len(told) > 1 and reading.error is None and body not in case.sound:
            case.sound.add(body)
            those = "" if len(told) == len(fields) else f" of fields {_listed(told)}"
            case.found.append(_Cause(SOUND, f"{story.subject}s{those} {story.plural}", _ALL_SOUND))
            return True
    return False


def _retold(
    case: _Case, base: _Reading, story: _Story, fields: list[FieldSpec], *, everywhere: bool
) -> tuple[list[int], _Reading, bytes]:
    """(numbers of the fields that were rewritten, what came of it, the message)."""
    body, reading = case.body, base
    told: list[int] = []
    for entry in fields:
        at = reading.place(entry.number)
        if at is None:
            break
        if not everywhere and reading.passed(entry.number):
            continue
        for candidate in story.rewrite(entry, body, at):
            if candidate == body:
                break
            trial = case.read(candidate)
            if trial.passed(entry.number):
                body, reading = candidate, trial
                told.append(entry.number)
                break
        else:
            break
    return told, reading, body


def _listed(numbers: list[int]) -> str:
    if len(numbers) > 4:
        return f"{', '.join(map(str, numbers[:3]))} and {len(numbers) - 3} others"
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def _too_long(case: _Case, base: _Reading, field: FieldSpec) -> None:
    """Is the message sound without the field whose length is above the spec's maximum?"""
    at = base.place(field.number)
    assert at is not None
    if field.length_prefix is None:
        return
    found = _prefix_read(field.length_prefix, case.body, at)
    if found is None or found[0] <= field.length_max:
        return
    length, size = found
    end = at + size + (-(-length // 2) if field.length_unit == "digits" and field.packed else length)
    start = _mti_size(case.definition.mti_encoding)
    bitmap = _bitmap(case.definition.bitmap, case.body[start:], case.definition.field_max)
    if bitmap is None or end > len(case.body):
        return
    bits = bytearray(bitmap[0])
    bits[(field.number - 1) // 8] &= ~(1 << 7 - (field.number - 1) % 8)
    body = (
        case.body[:start] + _bitmap_bytes(case.definition.bitmap, bytes(bits)) + case.body[start + bitmap[1] : at]
        + case.body[end:]
    )  # fmt: skip
    text = "the field is longer than the spec allows, and all behind it fits: is length_max too small?"
    case.judge(case.read(body), base, text)


def _stories(fields: list[FieldSpec]) -> Iterator[_Story]:
    """What is worth trying with these fields."""
    prefixes = sorted({entry.length_prefix for entry in fields if entry.length_prefix is not None})
    for own in prefixes:
        digits, form = PREFIXES[own]
        wider = [name for name in _prefix_names(form, digits) if _prefix_size(name) != _prefix_size(own)]
        for other in wider[:2]:
            yield _width_story(own, other)
    for own in sorted({PREFIXES[name][1] for name in prefixes}):
        for other in _FORMS:
            if other != own:
                yield _form_story(own, other)
    yield _Story("length", "counts bytes, spec says digits", _counts_digits, _as_bytes)
    yield _Story("length", "counts digits, spec says bytes", _counts_bytes_of_digits, _as_digits)
    yield _Story("length", "counts hexadecimal digits, spec says bytes", _counts_bytes, _as_nibbles)
    yield _Story("length", "counts characters, spec says bytes", _is_wide, _as_characters)
    yield _Story("length", "counts its own bytes too, spec says those of the value", _is_variable, _as_whole)
    yield _Story("value", "is ASCII digits, spec says BCD", _is_packed, _unpacked)
    yield _Story("field", "is ASCII throughout, spec says BCD", _is_bcd, _all_ascii)
    yield _Story("value", "is BCD, spec says ASCII", _is_ascii_digits, _packed)
    yield _Story("value", "is hexadecimal characters, spec says binary", _is_binary, _hexed)
    yield _Story("value", "is binary, spec says hexadecimal characters", _is_hex, _unhexed)
    yield _Story("value", "is EBCDIC, spec says ASCII", _is_ascii, _ebcdic)
    yield _Story("value", "is ASCII, spec says EBCDIC", _is_ebcdic, _deebcdic)
    yield _Story("value", "is padded on the left, spec says right", _is_left_packed, _shifted_left)
    yield _Story("value", "is padded on the right, spec says left", _is_right_packed, _shifted_right)


def _is_variable(entry: FieldSpec) -> bool:
    return entry.length_prefix is not None and entry.length_unit == "bytes" and not entry.packed


def _counts_digits(entry: FieldSpec) -> bool:
    return entry.length_prefix is not None and entry.length_unit in ("digits", "nibbles")


def _counts_bytes_of_digits(entry: FieldSpec) -> bool:
    return entry.length_prefix is not None and entry.packed and entry.length_unit == "bytes"


def _counts_bytes(entry: FieldSpec) -> bool:
    return entry.length_prefix is not None and entry.type is bytes and entry.length_unit == "bytes"


def _is_wide(entry: FieldSpec) -> bool:
    return entry.length_prefix is not None and entry.encoding in ("gbk", "gb18030", "utf8")


def _is_packed(entry: FieldSpec) -> bool:
    return entry.packed and entry.length_unit == "digits" and entry.content != "xn"


def _is_bcd(entry: FieldSpec) -> bool:
    return entry.packed or (entry.length_prefix or "").startswith("bcd")


def _is_ascii_digits(entry: FieldSpec) -> bool:
    return entry.encoding == "ascii" and entry.content in ("n", "z", "track2")


def _is_binary(entry: FieldSpec) -> bool:
    return entry.encoding == "binary" and entry.length_unit == "bytes"


def _is_hex(entry: FieldSpec) -> bool:
    return entry.encoding == "hex" and entry.length_unit == "bytes"


def _is_ascii(entry: FieldSpec) -> bool:
    return entry.encoding == "ascii"


def _is_ebcdic(entry: FieldSpec) -> bool:
    return entry.encoding.startswith("cp")


def _is_left_packed(entry: FieldSpec) -> bool:
    return entry.encoding == "bcd_left" and entry.length_unit == "digits"


def _is_right_packed(entry: FieldSpec) -> bool:
    return entry.encoding == "bcd_right" and entry.length_unit == "digits"


# ---- length prefixes -----------------------------------------------------------------------------


def _prefix_size(name: str) -> int:
    digits, form = PREFIXES[name]
    return -(-digits // 2) if form == "bcd" else digits


def _prefix_read(name: str, data: bytes, at: int) -> tuple[int, int] | None:
    """(length, bytes of the prefix); None if these bytes are no such prefix."""
    size = _prefix_size(name)
    raw = data[at : at + size]
    form = PREFIXES[name][1]
    if len(raw) < size:
        return None
    if form == "binary":
        return int.from_bytes(raw, "big"), size
    text = raw.hex() if form == "bcd" else raw.decode("cp037" if form == "ebcdic" else "latin-1")
    if not re.fullmatch("[0-9A-Fa-f]+" if form == "hex" else "[0-9]+", text):
        return None
    return int(text, 16 if form == "hex" else 10), size


def _prefix_write(name: str, length: int) -> bytes | None:
    digits, form = PREFIXES[name]
    try:
        if form == "binary":
            return length.to_bytes(digits, "big")
        if form == "bcd":
            return bytes.fromhex(f"{length:0{2 * _prefix_size(name)}d}")
        text = f"{length:0{digits}X}" if form == "hex" else f"{length:0{digits}d}"
    except (OverflowError, ValueError):
        return None
    return text.encode("cp037" if form == "ebcdic" else "ascii") if len(text) == digits else None


def _prefix_names(form: str, digits: int) -> list[str]:
    """The prefixes of a form, those with as many digits as another has first."""
    names = [name for name, (_, other) in PREFIXES.items() if other == form]
    return sorted(names, key=lambda name: abs(PREFIXES[name][0] - digits))


def _form_story(own: str, other: str) -> _Story:
    def rewrite(entry: FieldSpec, data: bytes, at: int) -> Iterator[bytes]:
        assert entry.length_prefix is not None
        for name in _prefix_names(other, PREFIXES[entry.length_prefix][0])[:3]:
            yield from _read_as(name, entry, data, at)

    return _Story("length", f"is {_FORMS[other]}, spec says {_FORMS[own]}", _has_form(own), rewrite)


def _width_story(own: str, other: str) -> _Story:
    digits, form = PREFIXES[own]
    if form in ("ascii", "ebcdic"):
        words = f"has {PREFIXES[other][0]} digits, spec says {digits}"
    else:
        words = f"takes {_prefix_size(other)} bytes, spec says {_prefix_size(own)}"

    def fits(entry: FieldSpec) -> bool:
        return entry.length_prefix == own

    def rewrite(entry: FieldSpec, data: bytes, at: int) -> Iterator[bytes]:
        yield from _read_as(other, entry, data, at)

    return _Story("length", words.replace(" 1 bytes", " 1 byte"), fits, rewrite)


def _has_form(form: str) -> Callable[[FieldSpec], bool]:
    return lambda entry: entry.length_prefix is not None and PREFIXES[entry.length_prefix][1] == form


def _read_as(name: str, entry: FieldSpec, data: bytes, at: int) -> Iterator[bytes]:
    """What stands there is a prefix of another name."""
    found = _prefix_read(name, data, at)
    if found is not None and found[0] > 0:  # an empty field fits nearly everywhere
        yield from _with_prefix(entry, found[0], data[:at], data[at + found[1] :])


def _with_prefix(entry: FieldSpec, length: int, before: bytes, behind: bytes) -> Iterator[bytes]:
    if entry.length_prefix is None:
        yield before + behind
        return
    prefix = _prefix_write(entry.length_prefix, length) if 0 <= length <= entry.length_max else None
    if prefix is not None:
        yield before + prefix + behind


def _length_at(entry: FieldSpec, data: bytes, at: int) -> tuple[int, int]:
    """(length that the prefix says, or the fixed one; where the value starts). A length of -1: it is no such prefix."""
    if entry.length_prefix is None:
        return entry.length_max, at
    found = _prefix_read(entry.length_prefix, data, at)
    return (-1, at) if found is None else (found[0], at + found[1])


# ---- rewriting: what is there, as the spec wants it ----------------------------------------------


def _as_bytes(entry: FieldSpec, data: bytes, at: int) -> Iterator[bytes]:
    length, start = _length_at(entry, data, at)
    for digits in (2 * length, 2 * length - 1):
        yield from _with_prefix(entry, digits, data[:at], data[start:])


def _as_digits(entry: FieldSpec, data: bytes, at: int) -> Iterator[bytes]:
    length, start = _length_at(entry, data, at)
    if length > 0:
        yield from _with_prefix(entry, -(-length // 2), data[:at], data[start:])


def _as_nibbles(entry: FieldSpec, data: bytes, at: int) -> Iterator[bytes]:
    length, start = _length_at(entry, data, at)
    if length > 0 and length % 2 == 0:
        yield from _with_prefix(entry, length // 2, data[:at], data[start:])


def _as_characters(entry: FieldSpec, data: bytes, at: int) -> Iterator[bytes]:
    length, start = _length_at(entry, data, at)
    codec = "utf-8" if entry.encoding == "utf8" else "gb18030"
    # No character has more than four bytes. What is cut at the end, or is not text, comes after those that count.
    text = data[start : start + 4 * length].decode(codec, "replace")[:length] if length > 0 else ""
    if text and len(text) == length:
        yield from _with_prefix(entry, len(text.encode(codec, "replace")), data[:at], data[start:])


def _as_whole(entry: FieldSpec, data: bytes, at: int) -> Iterator[bytes]:
    length, start = _length_at(entry, data, at)
    yield from _with_prefix(entry, length - (start - at), data[:at], data[start:])


def _unpacked(entry: FieldSpec, data: bytes, at: int) -> Iterator[bytes]:
    length, start = _length_at(entry, data, at)
    yield from _pack(entry, length, data, at, start)


def _all_ascii(entry: FieldSpec, data: bytes, at: int) -> Iterator[bytes]:
    if entry.length_prefix is None:
        yield from _unpacked(entry, data, at)
        return
    found = _prefix_read(f"ascii{PREFIXES[entry.length_prefix][0]}", data, at)
    if found is not None and _is_packed(entry):
        yield from _pack(entry, found[0], data, at, at + found[1])
    elif found is not None:
        yield from _with_prefix(entry, found[0], data[:at], data[at + found[1] :])


def _pack(entry: FieldSpec, length: int, data: bytes, at: int, start: int) -> Iterator[bytes]:
    characters = data[start : start + length] if length > 0 else b""
    if not re.fullmatch(rb"[0-9]+" if entry.content == "n" else rb"[0-9=D]+", characters) or len(characters) < length:
        return
    text = characters.decode("ascii").replace("=", "D")
    if length % 2:
        text = f"{text}0" if entry.encoding == "bcd_left" else f"0{text}"
    yield from _with_prefix(entry, length, data[:at], bytes.fromhex(text) + data[start + length :])


def _packed(entry: FieldSpec, data: bytes, at: int) -> Iterator[bytes]:
    length, start = _length_at(entry, data, at)
    size = -(-length // 2)
    text = data[start : start + size].hex().upper().replace("D", "=")
    for digits in {text[:length], text[len(text) - length :]} if length > 0 else ():
        if re.fullmatch("[0-9]+" if entry.content == "n" else "[0-9=]+", digits) and len(digits) == length:
            yield from _with_prefix(entry, length, data[:at], digits.encode("ascii") + data[start + size :])


def _hexed(entry: FieldSpec, data: bytes, at: int) -> Iterator[bytes]:
    length, start = _length_at(entry, data, at)
    # A length may count the bytes meant, or the characters sent.
    for size in (length, length // 2) if entry.length_prefix is not None and length % 2 == 0 else (length,):
        characters = data[start : start + 2 * size] if size > 0 else b""
        if len(characters) == 2 * size and re.fullmatch(rb"(?:[0-9A-Fa-f]{2})+", characters):
            value = bytes.fromhex(characters.decode("ascii"))
            yield from _with_prefix(entry, size, data[:at], value + data[start + 2 * size :])


def _unhexed(entry: FieldSpec, data: bytes, at: int) -> Iterator[bytes]:
    length, start = _length_at(entry, data, at)
    value = data[start : start + max(length, 0)]
    yield from _with_prefix(entry, length, data[:at], value.hex().upper().encode("ascii") + data[start + len(value) :])


def _ebcdic(entry: FieldSpec, data: bytes, at: int) -> Iterator[bytes]:
    length, start = _length_at(entry, data, at)
    end = start + max(length, 0)
    yield data[:start] + data[start:end].translate(_EBCDIC_TO_ASCII) + data[end:]


def _deebcdic(entry: FieldSpec, data: bytes, at: int) -> Iterator[bytes]:
    length, start = _length_at(entry, data, at)
    end = start + max(length, 0)
    yield data[:start] + data[start:end].translate(_ASCII_TO_EBCDIC) + data[end:]


def _shifted_left(entry: FieldSpec, data: bytes, at: int) -> Iterator[bytes]:
    length, start = _length_at(entry, data, at)
    text = data[start : start + -(-length // 2)].hex()
    if length > 0 and length % 2 and len(text) == length + 1:
        yield data[:start] + bytes.fromhex(text[1:] + "0") + data[start + len(text) // 2 :]


def _shifted_right(entry: FieldSpec, data: bytes, at: int) -> Iterator[bytes]:
    length, start = _length_at(entry, data, at)
    text = data[start : start + -(-length // 2)].hex()
    if length > 0 and length % 2 and len(text) == length + 1:
        yield data[:start] + bytes.fromhex("0" + text[:-1]) + data[start + len(text) // 2 :]


# ---- another spec; and what experience says -------------------------------------------------------


def _other_specs(case: _Case, base: _Reading) -> None:
    """Do the bytes fit a spec that comes with the library?"""
    if case.error.code in ("pad", "text", "track", "canonical", "duplicate"):
        return  # one field only: another spec is laxer there, not better
    names = []
    for name in specfile.bundled_names():
        other = _bundled(type(case.spec), name)
        if name == case.definition.name or other is None:
            continue
        try:
            other.decode(case.body)
        except DecodeError:
            continue
        names.append(name)
    if names:
        case.found.append(_Cause(FITS, f"it would be a sound message of spec {' and of '.join(names)}"))


@cache
def _bundled(kind: Any, name: str) -> Reader | None:
    try:
        reader: Reader = kind(specfile.load_bundled(name), "none")
    except SpecError:
        return None
    return reader


def _usual(case: _Case, base: _Reading) -> None:
    """Causes that such an error often has, when the bytes are silent."""
    code, number = case.error.code, case.error.field
    texts = []
    if code == "truncated" and base.fields > GAIN_MIN:
        if not any(cause.weight > POSSIBLE for cause in case.found):
            case.found.append(_Cause(FURTHER, "the message seems to be cut off: is the end still in the stream?"))
    elif code == "truncated":
        texts.append("the message is cut off: a read from a stream may end anywhere, collect whole frames with Framer")
    if code == "content":
        texts.append(f"the peer's field {number} has another content or encoding than the spec says")
    if code == "length":
        texts.append(f"length_max of field {number} is too small for this peer")
    if code in ("truncated", "trailing", "prefix", "length", "content", "text", "tlv"):
        texts.append("a field in front of this one has another length than the spec says")
    if code == "undefined":
        texts.append(f"the peer sends a field that the spec leaves out: add [field.{number}] in a spec that extends it")
    if code in ("undefined", "bitmap", "mti"):
        texts.append("the bytes do not start with the MTI: something stands in front of it, or something is missing")
    if code in ("undefined", "bitmap", "mti", "truncated", "prefix") and base.fields <= GAIN_MIN:
        texts.append("it is a message of another spec")
    case.found.extend(_Cause(POSSIBLE, text) for text in texts)
