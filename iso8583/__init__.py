"""ISO 8583 messages: specs as data, strict decoding, exact encoding, clear errors.

    >>> import iso8583
    >>> spec = iso8583.load("unionpay_pos")
    >>> data = spec.encode({0: "0800", 11: "000001", 41: "10000001", 42: "898100000000001", 60: "00000001003"})
    >>> spec.decode(data)["terminal_id"]
    '10000001'

A library: it knows no network, no clock and no program that uses it.
"""

from pathlib import Path as _Path

from iso8583 import codes, errors, masking, mti, tlv, track
from iso8583._native import Message
from iso8583.errors import DecodeError, EncodeError, FrameError, Iso8583Error, SpecError
from iso8583.framing import Framer, frame
from iso8583.mab import cups_mab, mab
from iso8583.message import Spec, from_pyiso8583, load
from iso8583.spec import FieldSpec, MessageSpec
from iso8583.track import Track2, luhn_ok, mask_pan, parse_track2

__all__ = [
    "DecodeError",
    "EncodeError",
    "FieldSpec",
    "FrameError",
    "Framer",
    "Iso8583Error",
    "Message",
    "MessageSpec",
    "Spec",
    "SpecError",
    "Track2",
    "codes",
    "cups_mab",
    "errors",
    "frame",
    "from_pyiso8583",
    "load",
    "luhn_ok",
    "mab",
    "mask_pan",
    "masking",
    "mti",
    "parse_track2",
    "tlv",
    "track",
]

# PyPI's pyiso8583 installs a package of the same name; what to do about it is said there.
if _Path(__file__).with_name("decoder.py").exists():
    from iso8583 import decoder  # noqa: F401
