"""``pp`` as pyiso8583 has it: fields one below the other, long values folded. Prints in clear, never into a log."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

__all__ = ["pp"]

DecodedDict = Mapping[str, str]
EncodedDict = Mapping[str, Mapping[str, bytes]]
SpecDict = Mapping[str, Mapping[str, Any]]


def pp(
    doc: DecodedDict | EncodedDict,
    spec: SpecDict,
    desc_width: int = 30,
    stream: TextIO | None = None,
    line_width: int = 80,
) -> None:
    """Print one of the dicts of ``decode`` or ``encode``. **Values are printed in clear.**

    Args:
        doc: Decoded or encoded fields. Keys other than ``h``, ``t``, ``p`` and numbers are left out, also ``h`` where
            the spec has no header.
        spec: Gives the descriptions.
        desc_width: Characters of a description; 0 for none.
        stream: Anything with ``write``; standard output if not given.
        line_width: Characters of a line. Longer text and bytes are folded, at least one character a line; anything
            else is not.

    >>> from iso8583.compat.pyiso8583 import decode, specs
    >>> decoded, encoded = decode(b"0810000000000200000000", specs.default_ascii)
    >>> pp(decoded, specs.default_ascii)
    t   Message Type                  : '0810'
    p   Bitmap, Primary               : '0000000002000000'
    39  Response Code                 : '00'
    """
    desc_width = int(desc_width)
    line_width = int(line_width)
    if stream is None:
        stream = sys.stdout

    keys = ["h"] if "h" in doc and spec["h"]["max_len"] > 0 else []
    keys += [key for key in ("t", "p") if key in doc]
    keys += sorted((key for key in doc if isinstance(key, str) and key.isdecimal()), key=int)
    for key in keys:
        line = f"{key:3s}"
        indent = 5
        if desc_width > 0:
            desc = spec.get(key, {}).get("desc", "")[:desc_width]
            line += f" {desc: <{desc_width}}"
            indent += desc_width + 1
        line += ": "
        value: Any = doc[key]
        if isinstance(value, dict):
            length = value.get("len", b"")
            if length:
                line += f"{length!r} "
                indent += len(repr(length)) + 1
            value = value.get("data", b"")
        stream.write(f"{line}{_folded(value, indent, line_width)}\n")


def _folded(value: Any, indent: int, line_width: int) -> str:
    text = repr(value)
    if len(text) + indent <= line_width:
        return text
    shown_by: Any = type(value).__repr__  # a subclass that shows itself in its own way is not cut
    if shown_by is str.__repr__ and len(value) > 1:
        lines = _wrap_str_repr(value, line_width - indent)
    elif shown_by is bytes.__repr__ and len(value) > 1:
        lines = _wrap_bytes_repr(value, line_width - indent)
    else:
        return text
    return f"\n{' ' * indent}".join(lines)


# pyiso8583's tests call these two by name.


def _wrap_str_repr(obj: str, width: int) -> Iterator[str]:
    """Pieces of equal length; an escape makes a line longer than ``width``."""
    step = max(width - 2, 1)  # two quotes
    for start in range(0, len(obj), step):
        yield repr(obj[start : start + step])


def _wrap_bytes_repr(obj: bytes, width: int) -> Iterator[str]:
    """As many bytes in a piece as ``width`` characters show: one or four a byte."""
    start = 0
    for end in range(2, len(obj) + 1):
        if len(repr(obj[start:end])) > width:
            yield repr(obj[start : end - 1])
            start = end - 1
    if obj:
        yield repr(obj[start:])
