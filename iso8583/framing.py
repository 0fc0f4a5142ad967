"""Byte stream to frames and back, without I/O: the caller reads and writes, this cuts.

A frame is a length and that many bytes of data (TPDU, header, message):

    kind       length                         most bytes     seen on
    ---------  -----------------------------  -------------  ---------------------------------------------
    len2       2 bytes, big-endian binary     65,535         UnionPay POS, most hosts
    len4       4 bytes, big-endian binary     16,777,216     JSON and batch links
    bcd2       2 bytes, 4 packed digits       9,999          older POS hosts
    ascii4     4 ASCII digits                 9,999          UnionPay CUPS, banks
    ascii10    10 ASCII digits                16,777,216     marketing systems of power utilities
    serial     one of len2, bcd2, ascii4 in   65,535, 9,999  terminal behind a serial line or DTU
               STX length data ETX LRC

    serial:   02 │ 00 03 │ 61 62 63 │ 03 │ 60
              STX  length  data       ETX  LRC: XOR of everything behind STX, ETX included

The length counts the data; with ``counts_itself`` the bytes of the length too. It never counts STX, ETX and LRC. The
data of a serial frame may hold any byte, STX and ETX too: its length tells where it ends, ETX and LRC confirm it.

What is wrong on a connection ends it, because nothing behind can be trusted. A serial line has no other connection to
offer: what is wrong there is skipped, counted and told by ``last_discard``.
"""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

from iso8583._native import frames
from iso8583.spec import Buffer

SIZE_MAX: Final = 4096  # bytes; the longest message in use is below 2 KiB


class _Prefix(NamedTuple):
    form: str
    size: int


_PREFIXES: Final = {
    "len2": _Prefix("binary", 2),
    "len4": _Prefix("binary", 4),
    "bcd2": _Prefix("bcd", 2),
    "ascii4": _Prefix("ascii", 4),
    "ascii10": _Prefix("ascii", 10),
}
_SERIAL: Final = "serial"
_SERIAL_LENGTHS: Final = ("bcd2", "len2", "ascii4")

KINDS: Final = (*_PREFIXES, _SERIAL)


class Framer(frames.Cutter):
    """Cuts one direction of one line into frames.

    >>> framer = Framer()
    >>> framer.feed(b"\\0\\3ab"), framer.pending
    ([], 4)
    >>> framer.feed(b"c\\0\\1d\\0"), framer.pending
    ([b'abc', b'd'], 1)

    A serial line finds its step again by itself:

    >>> framer = Framer("serial")
    >>> framer.feed(b"noise" + frame(b"abc", "serial"))
    [b'abc']
    >>> framer.skipped, framer.discarded
    (5, 0)

    Of a frame that was cut short only silence tells that the rest will not come; until then the next one may be its
    data. So call ``end`` after a pause that no sender makes (a second is usual), or let later frames push it out:

    >>> framer.feed(frame(b"abcdefghij", "serial")[:5] + frame(b"xyz", "serial"))
    []
    >>> framer.end(), framer.skipped, str(framer.last_discard)
    ([b'xyz'], 10, 'frame: the line fell silent inside a frame of 10 bytes [cut]')

    Inside a broken frame everything that looks like a whole one comes out. Its LRC finds noise, not malice: whether to
    believe a message is for its MAC to say.

    Args:
        kind: One of ``KINDS``; see the table above.
        size_max: Bytes of the longest data to accept, 1 to the most of the kind.
        length: Of kind ``"serial"`` only: ``"bcd2"`` (the default), ``"len2"`` or ``"ascii4"``.
        counts_itself: The length includes its own bytes.
        heartbeats: A length of 0 is a sign of life: counted in ``heartbeats`` and not delivered. Without it a length of
            0 is the fault ``empty``.

    After a fault the stream is out of step and stays so: every later ``feed`` raises. Close the connection. Between two
    ``feed`` a framer holds less than one frame. It belongs to one reader: do not share it between threads.

    Raises:
        ValueError: An argument is out of range; the text says what is allowed.

    Source: len2: UnionPay POS; ascii4: UnionPay CUPS; serial: RS-232 to TCP adaptors of POS terminals, Newland's
    PIN pad protocol.
    """

    __slots__ = ()

    def __init__(
        self,
        kind: str = "len2",
        size_max: int = SIZE_MAX,
        *,
        length: str | None = None,
        counts_itself: bool = False,
        heartbeats: bool = False,
    ) -> None:
        super().__init__(_framing(kind, length, counts_itself), size_max, heartbeats)


def frame(data: Buffer, kind: str = "len2", *, length: str | None = None, counts_itself: bool = False) -> bytes:
    """``data`` as a frame: with its length in front, and on a serial line between STX and ETX, LRC.

    Args:
        data: At least one byte.
        kind: As for :class:`Framer`, like the other arguments.

    Raises:
        ValueError: Empty, or more than a frame of this kind can carry; or an unknown kind.

    >>> frame(b"abc")
    b'\\x00\\x03abc'
    >>> frame(b"abc", "ascii4", counts_itself=True)
    b'0007abc'
    >>> frame(b"abc", "serial").hex(" ")
    '02 00 03 61 62 63 03 60'
    """
    if length is None and not counts_itself and kind in _PLAIN:
        return _PLAIN[kind].wrap(data)
    return _framing(kind, length, counts_itself).wrap(data)


@cache  # bounded: a wrong kind raises, and raising is not cached
def _framing(kind: str, length: str | None, counts_itself: bool) -> frames.Framing:
    serial = kind == _SERIAL
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r}: expected {_listed(KINDS)}")
    if not serial and length is not None:
        raise ValueError(f"length {length!r}: kind {kind!r} has its own; only 'serial' takes one")
    if serial and length is None:
        length = _SERIAL_LENGTHS[0]
    if serial and length not in _SERIAL_LENGTHS:
        raise ValueError(f"length {length!r}: expected {_listed(_SERIAL_LENGTHS)}")
    prefix = _PREFIXES[length or kind]
    return frames.Framing(prefix.form, prefix.size, counts_itself, serial)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(map(repr, names[:-1])) + f" or {names[-1]!r}"


# What nearly every call asks for, without the cost of the cache's key.
_PLAIN: Final = {kind: _framing(kind, None, False) for kind in KINDS}
