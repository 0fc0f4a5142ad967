"""Where the command gets its messages from: arguments, files, standard input, captures of a line.

Nothing is read without a bound, and no text of an error holds what was read.
"""

from __future__ import annotations

import io
import re
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final

from iso8583.errors import FrameError
from iso8583.framing import Framer
from iso8583.spec import LENGTH_MAX

TEXT_MAX: Final = 4 * 65536  # characters of one message: twice the largest in hexadecimal, with room for white space
CHUNK_SIZE: Final = 65536
HEX: Final = frozenset("0123456789abcdefABCDEF")
HEX_SHARE: Final = 0.75
BOM: Final = b"\xef\xbb\xbf"  # what some editors write in front of UTF-8
FORMS: Final = ("auto", "hex", "base64", "raw")

#: Bytes of the length in front of each frame, and what it looks like if it is zero.
_ZERO_LENGTHS: Final = {"len2": bytes(2), "len4": bytes(4), "bcd2": bytes(2), "ascii4": b"0000", "ascii10": b"0" * 10}
#: The most that the length of some kinds can say.
_SIZES_MAX: Final = {"bcd2": 9999, "ascii4": 9999, "serial": 9999}


class InputError(Exception):
    """What the caller gave cannot be read. The text names the place, never the data."""


@dataclass(frozen=True, slots=True)
class Found:
    """One message, or why there is none.

    Attributes:
        place: ``"line 3"``, ``"byte 512"``; empty for a message that is all there is.
        data: The message; None if it could not be read.
        fault: Why not.
    """

    place: str
    data: bytes | None
    fault: str = ""

    @property
    def single(self) -> bool:
        return not self.place


@contextmanager
def opened(name: str) -> Iterator[BinaryIO]:
    """A file, or ``"-"``: standard input. Reading it may raise InputError too.

    Raises:
        InputError: It cannot be opened or read.
    """
    try:
        if name == "-":
            if sys.stdin is None:
                raise InputError("standard input: it is closed")
            yield sys.stdin.buffer
        else:
            with Path(name).open("rb") as file:
                yield file
    except (OSError, ValueError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        why = error.strerror if isinstance(error, OSError) and error.strerror else "not a file name"
        raise InputError(f"{'standard input' if name == '-' else name}: cannot be read: {why}") from None


def text_of(name: str, what: str, size_max: int) -> str:
    """All of a file or of standard input, as text.

    Raises:
        InputError: It cannot be read, is too long, or is not UTF-8.
    """
    place = "standard input" if name == "-" else name
    with opened(name) as stream:
        data = stream.read(size_max + 1)
    if len(data) > size_max:
        raise InputError(f"{place}: more than {size_max} bytes; expected {what}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{place}: expected {what}, found something that is not text at byte {error.start}") from None


# ---- one message ---------------------------------------------------------------------------------


def from_text(text: str, form: str, place: str) -> bytes:
    """A message from hexadecimal or base64; white space is ignored.

    Args:
        form: ``"hex"``, ``"base64"`` or ``"auto"``: hexadecimal if it can be.
        place: For errors.

    Raises:
        InputError: It is neither.

    >>> from_text("08 00", "auto", "HEX") == from_text("CAA=", "base64", "HEX") == bytes([8, 0])
    True
    """
    if len(text) > TEXT_MAX:
        raise InputError(f"{place}: more than {TEXT_MAX} characters; the largest message has {LENGTH_MAX} bytes")
    characters = "".join(text.split())
    if not characters:
        raise InputError(f"{place}: expected a message, got nothing")
    if form != "base64":
        fault = _hex_fault(characters)
        if not fault:
            return bytes.fromhex(characters)
        if form == "hex":
            raise InputError(f"{place}: {fault}")
    # One wrong character does not make base64 of hexadecimal: of base64 about a third could be hexadecimal.
    share = sum(character in HEX for character in characters) / len(characters)
    is_hex = form == "auto" and share >= HEX_SHARE and not characters.endswith("=")
    if not is_hex and len(characters) % 4 == 0 and re.fullmatch("[A-Za-z0-9+/]+={0,2}", characters):
        return b64decode(characters)
    if form == "base64":
        raise InputError(f"{place}: expected base64: characters A-Z a-z 0-9 + / and = at the end, a multiple of 4")
    if is_hex:
        raise InputError(f"{place}: {fault}")
    raise InputError(f"{place}: {fault}; nor is it base64{', or the name of a file' if place == 'MESSAGE' else ''}")


def hex_bytes(text: str, place: str) -> bytes:
    """Bytes from hexadecimal text.

    Raises:
        InputError: It is not.
    """
    characters = "".join(text.split())
    if fault := _hex_fault(characters):
        raise InputError(f"{place}: {fault}")
    return bytes.fromhex(characters)


def _hex_fault(characters: str) -> str:
    for index, character in enumerate(characters, 1):
        if character not in HEX:
            return f"expected hexadecimal characters, found something else at character {index}"
    if len(characters) % 2:
        return f"expected two characters a byte, got an odd number ({len(characters)})"
    return ""


# ---- many messages -------------------------------------------------------------------------------


def from_words(words: list[str], form: str, is_sound: Callable[[bytes], bool]) -> Iterator[Found]:
    """Messages that arguments name: ``-``, a file, or the message itself, in one word or many.

    Raises:
        InputError: It cannot be read.
    """
    text = " ".join(words)
    if text == "-":
        yield from from_file("-", form, is_sound)
    elif all(_names_file(word, form) for word in words):
        for word in words:
            for found in from_file(word, form, is_sound):
                yield found if len(words) == 1 else replace(found, place=f"{word} {found.place}".rstrip())
    elif form == "raw":
        raise InputError("--input raw reads a file or standard input: give --file or -")
    else:
        yield Found("", from_text(text, form, "MESSAGE"))


def one_of(word: str, form: str, is_sound: Callable[[bytes], bool], place: str) -> bytes:
    """The one message that an argument names.

    Raises:
        InputError: It cannot be read, or holds several.
    """
    found = list(from_words([word], form, is_sound))
    if len(found) != 1 or found[0].data is None:
        raise InputError(f"{place}: expected one message, found {len(found)}")
    return found[0].data


def _names_file(text: str, form: str) -> bool:
    if form != "raw" and not _hex_fault(text):
        return False
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        return False  # too long for a name, or with a NUL: it is no file


def from_file(name: str, form: str, is_sound: Callable[[bytes], bool]) -> Iterator[Found]:
    """Messages of a file or of standard input (``-``): one a line; or one in all, in binary or over several lines.

    Args:
        name: The file.
        form: One of ``FORMS``.
        is_sound: Tells whether bytes are a message. Lines that make one together, and none by themselves, are one.

    Empty lines and lines that start with # are left out.

    Raises:
        InputError: It cannot be read, or there is nothing in it.
    """
    place = "standard input" if name == "-" else name
    with opened(name) as stream:
        head = stream.read(TEXT_MAX + 1)
        if form != "raw":
            head = head.removeprefix(BOM)
        if not head.strip():
            raise InputError(f"{place}: expected messages, found nothing")
        if form == "raw" or (form == "auto" and _is_binary(head[:CHUNK_SIZE])):
            if len(head) > LENGTH_MAX:
                more = "for a capture of many messages there is --stream"
                raise InputError(f"{place}: more than {LENGTH_MAX} bytes, the largest message; {more}")
            yield Found("", head)
            return
        lines = _lines(stream, head)
        if len(head) > TEXT_MAX:
            yield from (_from_line(number, line, form) for number, line in lines)
            return
        found = [_from_line(number, line, form) for number, line in lines]
    if not found:
        raise InputError(f"{place}: expected messages, found nothing")
    whole = _joined(head, form)
    if whole is not None and (len(found) == 1 or is_sound(whole) or not any(_reads(one, is_sound) for one in found)):
        yield Found("", whole)
    elif len(found) == 1:
        raise InputError(f"{place}, {found[0].place}: {found[0].fault}")
    else:
        yield from found


def _is_binary(head: bytes) -> bool:
    return any(byte < 9 or 13 < byte < 32 or byte > 126 for byte in head)


def _lines(stream: BinaryIO, head: bytes) -> Iterator[tuple[int, bytes]]:
    """(number, line) of all lines that say something. A line beyond the limit comes cut, one byte too long."""
    begun = io.BytesIO(head)

    def read(limit: int) -> bytes:
        line = begun.readline(limit)
        return line if line.endswith(b"\n") else line + stream.readline(limit - len(line))

    number = 0
    while line := read(TEXT_MAX + 1):
        number += 1
        if line.strip() and not line.lstrip().startswith(b"#"):
            yield number, line
        while len(line) > TEXT_MAX and not line.endswith(b"\n"):
            line = read(TEXT_MAX + 1) or b"\n"


def _from_line(number: int, line: bytes, form: str) -> Found:
    place = f"line {number}"
    try:
        return Found(place, from_text(line.decode("latin-1"), form, ""))
    except InputError as error:
        return Found(place, None, str(error).removeprefix(": "))


def _joined(head: bytes, form: str) -> bytes | None:
    """All lines as one message; None if they are not."""
    lines = [line for line in head.decode("latin-1").splitlines() if not line.lstrip().startswith("#")]
    # Lines of different lengths are messages; a message over several lines fills all but the last.
    lengths = {len(line.strip()) for line in lines[:-1] if line.strip()}
    if len(lengths) > 1 or (lengths and len(lines[-1].strip()) > max(lengths)):
        return None
    try:
        return from_text("\n".join(lines), form, "")
    except InputError:
        return None


def _reads(found: Found, is_sound: Callable[[bytes], bool]) -> bool:
    return found.data is not None and is_sound(found.data)


# ---- captures ------------------------------------------------------------------------------------


def from_capture(name: str, kind: str) -> Iterator[Found]:
    """Messages of what went over a line in one direction, byte for byte.

    Args:
        name: A file, or ``-``.
        kind: How frames are told apart: a kind of ``framing.KINDS``.

    A place is the offset of a message in the capture, behind its length. The capture may be endless: no more of it is
    held than one frame and one chunk.

    Raises:
        InputError: It cannot be read.
    """
    framer = Framer(kind, _SIZES_MAX.get(kind, LENGTH_MAX), heartbeats=True)
    # A serial line skips noise: there the place of a frame is known only if bytes come one by one.
    size = 1 if kind == "serial" else CHUNK_SIZE
    seen = at = 0
    window = b""
    with opened(name) as stream:
        while True:
            chunk = stream.read1(size) if hasattr(stream, "read1") else stream.read(size)
            if kind != "serial":
                window += chunk
            seen += len(chunk)
            try:
                frames = framer.feed(chunk) if chunk else framer.end()
            except FrameError as error:
                yield _lost(at, error)
                return
            for frame in frames:
                if kind == "serial":
                    # ETX and LRC follow it; what comes out at the end stood somewhere in front.
                    yield Found(f"byte {seen - len(frame) - 2}" if chunk else f"before byte {seen}", frame)
                    continue
                zero = _ZERO_LENGTHS[kind]
                while window.startswith(zero):  # a sign of life
                    window, at = window[len(zero) :], at + len(zero)
                yield Found(f"byte {at + len(zero)}", frame)
                taken = len(zero) + len(frame)
                window, at = window[taken:], at + taken
            if framer.fault is not None:
                yield _lost(at, framer.fault)
                return
            if not chunk:
                if seen == 0:
                    raise InputError(f"{'standard input' if name == '-' else name}: the capture is empty")
                return


def _lost(at: int, error: FrameError) -> Found:
    why = str(error) if error.code == "cut" else f"{error}; what follows cannot be told apart"
    return Found(f"byte {at}", None, why)
