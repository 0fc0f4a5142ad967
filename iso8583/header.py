"""Headers in front of the MTI, taken apart for people and for the sign-on machine.

How long they are and how a response turns them is in ``spec.HEADERS``; here is what they mean.

Source: UnionPay POS, message structure: TPDU 5 bytes, message header 6 bytes; UnionPay CUPS, message header 46 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from iso8583.errors import DecodeError
from iso8583.spec import HEADERS, HeaderLayout

TPDU_SIZE: Final = 5
POS_HEADER_SIZE: Final = 6

#: Digit 6: what the host wants the terminal to do after this message.
REQUIREMENTS: Final = {
    "0": "nothing",
    "1": "download magnetic stripe parameters",
    "2": "upload terminal status",
    "3": "sign on again",
    "4": "update CA public keys",
    "5": "download IC parameters",
    "6": "download TMS parameters",
    "7": "download card BIN blacklist",
    "8": "download rates",
    "9": "download contactless parameters",
    "b": "download new table of BINs without PIN",
    "c": "download blacklist of BINs without PIN",
}

#: Digits 1 and 2.
APPLICATIONS: Final = {
    "60": "magnetic stripe, financial",
    "61": "IC card, financial",
    "62": "magnetic stripe, value-added",
    "63": "IC card, value-added",
}


@dataclass(frozen=True, slots=True)
class Tpdu:
    """Who the message is for.

    Attributes:
        id: First byte, ``"60"``.
        destination: 4 hexadecimal characters.
        origin: 4 hexadecimal characters.
    """

    id: str
    destination: str
    origin: str


@dataclass(frozen=True, slots=True)
class PosHeader:
    """The six bytes between TPDU and MTI, as 12 hexadecimal characters.

    Attributes:
        application: Digits 1-2, see ``APPLICATIONS``.
        version: Digits 3-4, version of the terminal software's specification.
        status: Digit 5: 0 in operation, 1 test.
        requirement: Digit 6, see ``REQUIREMENTS``; a terminal sends 0.
        reserved: Digits 7-12; terminals put their own data here, a host echoes them.
    """

    application: str
    version: str
    status: str
    requirement: str
    reserved: str


def parse(header: bytes, layout: str | HeaderLayout) -> tuple[Tpdu | None, PosHeader | None]:
    """Take a header apart.

    Args:
        header: ``message.header``.
        layout: ``spec.header``, or its name.

    Raises:
        DecodeError: ``header`` is not as long as the layout says [length].
    """
    layout = HEADERS[layout] if isinstance(layout, str) else layout
    if len(header) != layout.size:
        raise DecodeError("length", "header", 0, f"expected {layout.size} bytes, got {len(header)}")
    text = header.hex()
    tpdu = None
    if layout.has_tpdu:
        tpdu = Tpdu(text[0:2], text[2:6], text[6:10])
        text = text[2 * TPDU_SIZE :]
    if len(text) != 2 * POS_HEADER_SIZE:
        return tpdu, None
    return tpdu, PosHeader(text[0:2], text[2:4], text[4], text[5], text[6:])


def build(tpdu: Tpdu | None, pos: PosHeader | None) -> bytes:
    """The opposite of :func:`parse`.

    >>> build(Tpdu("60", "0003", "0000"), PosHeader("60", "31", "0", "0", "000000")).hex()
    '6000030000603100000000'
    """
    text = "" if tpdu is None else f"{tpdu.id}{tpdu.destination}{tpdu.origin}"
    if pos is not None:
        text += f"{pos.application}{pos.version}{pos.status}{pos.requirement}{pos.reserved}"
    return bytes.fromhex(text)


def with_requirement(header: bytes, layout: str | HeaderLayout, requirement: str) -> bytes:
    """The header with digit 6 set: how a host asks a terminal to sign on again, to fetch keys, ...

    >>> with_requirement(bytes.fromhex("6000030000603100123456"), "tpdu+pos6", "3").hex()
    '6000030000603103123456'
    """
    tpdu, pos = parse(header, layout)
    if pos is None:
        raise ValueError("a link without the 6-byte header has nowhere to put a requirement")
    if requirement not in REQUIREMENTS:
        raise ValueError(f"requirement: expected one of {', '.join(REQUIREMENTS)}")
    return build(tpdu, replace(pos, requirement=requirement))


@dataclass(frozen=True, slots=True, kw_only=True)
class CupsHeader:
    """The header of the interface between institutions. Its total length is filled in by ``Spec.encode``.

    Attributes:
        destination: Institution, up to 11 characters, e.g. ``"00010000"`` for the UnionPay centre.
        source: Institution, likewise.
        version: Flag and version, one byte as 2 hexadecimal characters.
        reserved: 3 bytes as 6 hexadecimal characters.
        batch: Batch number, one byte as 2 hexadecimal characters.
        transaction: Transaction information, 8 characters.
        user: User information, one byte as 2 hexadecimal characters.
        reject: Reject code, 5 characters; other than ``"00000"`` the centre returns the message unprocessed. None for
            the header of a hosted card system, which does not have it.
        total: Bytes of header and message, as found; 0 when it is being built.

    Source: UnionPay CUPS, message header fields 1 to 10.
    """

    destination: str
    source: str
    version: str = "02"
    reserved: str = "000000"
    batch: str = "00"
    transaction: str = "00000000"
    user: str = "00"
    reject: str | None = "00000"
    total: int = 0


def parse_cups(header: bytes) -> CupsHeader:
    """Take a CUPS header of 46 or 41 bytes apart.

    Raises:
        DecodeError: Another length, or the first byte does not say it [length]; not text where text belongs [header].

    >>> parse_cups(build_cups(CupsHeader(destination="00010000", source="49000000"))).source
    '49000000'
    """
    if len(header) not in (41, 46) or header[0] != len(header):
        raise DecodeError(
            "length", "header", 0, expected="46 or 41 bytes, the first byte says which", got=str(len(header))
        )
    try:
        texts = [header[start:end].decode("ascii") for start, end in ((2, 6), (6, 17), (17, 28), (32, 40), (41, 46))]
        total = int(texts[0])
    except ValueError:
        texts = []
    if not texts:
        raise DecodeError("header", "header", 0, expected="ASCII text and digits", got="something else")
    return CupsHeader(
        destination=texts[1].rstrip(),
        source=texts[2].rstrip(),
        version=header[1:2].hex(),
        reserved=header[28:31].hex(),
        batch=header[31:32].hex(),
        transaction=texts[3],
        user=header[40:41].hex(),
        reject=texts[4] or None,
        total=total,
    )


def build_cups(header: CupsHeader) -> bytes:
    """The opposite of :func:`parse_cups`: 46 bytes, or 41 without a reject code.

    Raises:
        ValueError: A part does not have its size; names the part.

    >>> build_cups(CupsHeader(destination="00010000", source="49000000"))[:17]
    b'.\\x02000000010000   '
    """
    parts = {"destination": 11, "source": 11, "transaction": 8, "reject": 5}
    for name, size in parts.items():
        text = getattr(header, name)
        if text is not None and not (text.isascii() and len(text) <= size):
            raise ValueError(f"{name}: expected at most {size} ASCII characters")
    raw = {name: bytes.fromhex(getattr(header, name)) for name in ("version", "reserved", "batch", "user")}
    for name, size in (("version", 1), ("reserved", 3), ("batch", 1), ("user", 1)):
        if len(raw[name]) != size:
            raise ValueError(f"{name}: expected {2 * size} hexadecimal characters")
    size = 41 if header.reject is None else 46
    text = f"{header.total:04d}{header.destination:<11}{header.source:<11}".encode("ascii")
    tail = f"{header.transaction:<8}".encode("ascii")
    reject = b"" if header.reject is None else f"{header.reject:<5}".encode("ascii")
    return bytes([size]) + raw["version"] + text + raw["reserved"] + raw["batch"] + tail + raw["user"] + reject
