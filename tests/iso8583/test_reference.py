"""The reference codec against bytes written by hand: an oracle that is wrong is worse than none."""

import inspect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iso8583 import _reference as reference
from iso8583.errors import DecodeError, EncodeError
from iso8583.spec import PREFIXES, FieldSpec, Layout, MessageSpec, SubSpec, ValueSpec, Variant, prefix_max

PAN = "6222987654321097"


def fixed(content: str, encoding: str, length: int, unit: str = "bytes", **more: Any) -> ValueSpec:
    return ValueSpec(
        name="value",
        content=content,
        encoding=encoding,
        length_min=length,
        length_max=length,
        length_unit=unit,
        **more,
    )


def variable(content: str, encoding: str, prefix: str, most: int, unit: str = "bytes", **more: Any) -> ValueSpec:
    return ValueSpec(
        name="value",
        content=content,
        encoding=encoding,
        length_min=more.pop("least", 0),
        length_max=most,
        length_prefix=prefix,
        length_unit=unit,
        **more,
    )


def rest(content: str, encoding: str, least: int, most: int, unit: str = "bytes") -> SubSpec:
    return SubSpec(
        key="1", name="", content=content, encoding=encoding, length_min=least, length_max=most, length_unit=unit
    )


def read(spec: ValueSpec, wire: str, path: str = "2") -> Any:
    """The value, which must take all the bytes."""
    data = bytes.fromhex(wire)
    value, following = reference.read_value(spec, data, 0, len(data), path)
    assert following == len(data)
    return value


# ---- values --------------------------------------------------------------------------------------

# (spec, value, wire): what goes both ways.
VALUES = {
    "n, left, even": (fixed("n", "bcd_left", 6, "digits"), "123456", "123456"),
    "n, left, odd: UnionPay field 22": (fixed("n", "bcd_left", 3, "digits"), "021", "0210"),
    "n, right, odd: UnionPay field 23": (fixed("n", "bcd_right", 3, "digits"), "021", "0021"),
    "n, left, odd, pad F": (fixed("n", "bcd_left", 3, "digits", pad_nibble="F"), "021", "021F"),
    "n, right, odd, pad F, strict": (
        fixed("n", "bcd_right", 3, "digits", pad_nibble="F", pad_strict=True),
        "021",
        "F021",
    ),
    "n, counted in bytes": (fixed("n", "bcd_left", 3), "123456", "123456"),
    "n, counted in digits, prefix": (variable("n", "bcd_left", "bcd2", 19, "digits"), "12345", "05 123450"),
    "n, counted in bytes, prefix": (variable("n", "bcd_right", "bcd2", 10), "123456", "03 123456"),
    "n, empty": (variable("n", "bcd_left", "bcd2", 19, "digits"), "", "00"),
    "n, ASCII": (variable("n", "ascii", "ascii2", 19), "12345", "3035 3132333435"),
    "n, EBCDIC": (variable("n", "cp037", "ebcdic2", 19), "12345", "F0F5 F1F2F3F4F5"),
    "n, another EBCDIC page": (fixed("n", "cp500", 2), "90", "F9F0"),
    "a, ASCII, spaces are letters": (fixed("a", "ascii", 4), "Ab z", "4162207A"),
    "a, EBCDIC": (fixed("a", "cp037", 4), "Ab z", "C18240A9"),
    "an": (fixed("an", "ascii", 6), "A0 z9 ", "4130207A3920"),
    "an, EBCDIC": (fixed("an", "cp1047", 3), "A0z", "C1F0A9"),
    "ans, first and last character": (fixed("ans", "ascii", 2), " ~", "207E"),
    "ans, cp037 brackets": (fixed("ans", "cp037", 5), "[]^¬é", "BABBB05F51"),
    "ans, cp500 brackets": (fixed("ans", "cp500", 5), "[]^!|", "4A5A5F4FBB"),
    "ans, cp1047 brackets": (fixed("ans", "cp1047", 5), "[]^¬é", "ADBD5FB051"),
    "ans, Latin-1": (fixed("ans", "latin1", 3), "A\xa0ÿ", "41A0FF"),
    "ans, GBK": (variable("ans", "gbk", "bcd3", 40), "中国A", "0005 D6D0B9FA41"),
    "ans, GBK pair without a character": (fixed("ans", "gbk", 2), "\ue4c6", "A140"),
    "ans, GB 18030": (variable("ans", "gb18030", "bcd2", 40), "中€𠀀", "08 D6D0A2E395328236"),
    "ans, GB 18030, C1 control": (fixed("ans", "gb18030", 4), "\x85", "81308135"),
    "ans, UTF-8": (variable("ans", "utf8", "ascii2", 40), "é中", "3035 C3A9E4B8AD"),
    "z, separator": (variable("z", "bcd_left", "bcd2", 37, "digits"), "62=12", "05 62D120"),
    "z, all nibbles": (fixed("z", "bcd_left", 16, "digits"), "0123456789ABC=EF", "0123456789ABCDEF"),
    "z, right": (fixed("z", "bcd_right", 3, "digits"), "1=2", "01D2"),
    "z, ASCII, what stands between 9 and A": (fixed("z", "ascii", 9), "0:;<=>?AF", "303A3B3C3D3E3F4146"),
    "track 2": (variable("track2", "bcd_left", "bcd2", 37, "digits"), f"{PAN}=3012", f"21 {PAN}D30120"),
    "track 2, ASCII, letter D": (variable("track2", "ascii", "ascii2", 37), "62D30", "3035 3632443330"),
    "x+n, packed left, odd digits": (fixed("xn", "bcd_left", 4, "digits"), "C123", "43 1230"),
    "x+n, packed right, odd digits": (fixed("xn", "bcd_right", 4, "digits"), "D123", "44 0123"),
    "x+n, packed, even digits": (fixed("xn", "bcd_left", 9, "digits"), "D00001250", "44 00001250"),
    "x+n, ASCII": (fixed("xn", "ascii", 9), "C00001250", "433030303031323530"),
    "x+n, EBCDIC": (fixed("xn", "cp037", 3), "D01", "C4F0F1"),
    "b": (fixed("b", "binary", 2), b"\x00\xff", "00FF"),
    "b, prefix": (variable("b", "binary", "binary1", 9), b"\x01\x02", "02 0102"),
    "b, counted in nibbles": (variable("b", "binary", "bcd2", 16, "nibbles"), b"\x01\x02", "04 0102"),
    "b, fixed, counted in nibbles": (fixed("b", "binary", 4, "nibbles"), b"\x01\x02", "0102"),
    "b, hex, counts what it stands for": (variable("b", "hex", "ascii2", 9), b"\x0a\xff", "3032 30414646"),
    "b, hex, counts characters": (variable("b", "hex", "ascii2", 9, "digits"), b"\x0a\xff", "3034 30414646"),
    "b, hex in EBCDIC": (fixed("b", "hex_ebcdic", 2), b"\x0a\x9f", "F0C1F9C6"),
    "b, rest": (rest("b", "binary", 0, 9), b"\x01\x02\x03", "010203"),
    "b, rest, empty": (rest("b", "binary", 0, 9), b"", ""),
    "b, hex, rest": (rest("b", "hex", 0, 2), b"\x01\x02", "30313032"),
    "b, nibbles, rest": (rest("b", "binary", 4, 4, "nibbles"), b"\x01\x02", "0102"),
    "n, rest, packed": (rest("n", "bcd_left", 0, 19, "digits"), "1234", "1234"),
    "n, rest, packed, bytes": (rest("n", "bcd_left", 0, 2), "1234", "1234"),
    "ans, rest": (rest("ans", "gbk", 0, 9), "中1", "D6D031"),
}


@pytest.mark.parametrize("case", VALUES)
def test_a_value_is_read_and_written(case: str) -> None:
    spec, value, wire = VALUES[case]
    assert read(spec, wire) == value
    assert reference.write_value(spec, value, "2") == bytes.fromhex(wire)


# (spec, wire, value): what is read, but written in another way.
TOLERATED = {
    "pad nibble F for 0": (fixed("n", "bcd_left", 3, "digits"), "021F", "021"),
    "pad nibble 7 for 0, right": (fixed("n", "bcd_right", 3, "digits"), "7021", "021"),
    "pad nibble of x+n": (fixed("xn", "bcd_right", 4, "digits"), "43F123", "C123"),
    "hexadecimal in lower case": (fixed("b", "hex", 2), "30616666", b"\x0a\xff"),
    "EBCDIC hexadecimal in lower case": (fixed("b", "hex_ebcdic", 1), "8186", b"\xaf"),
    "a prefix in lower case": (variable("b", "binary", "hex2", 15), "3061" + "00" * 10, bytes(10)),
}


@pytest.mark.parametrize("case", TOLERATED)
def test_what_peers_also_send_is_read(case: str) -> None:
    spec, wire, value = TOLERATED[case]
    assert read(spec, wire) == value
    assert reference.write_value(spec, value, "2") != bytes.fromhex(wire)


UNREADABLE = {
    "prefix cut off": (variable("n", "bcd_left", "bcd3", 999, "digits"), "00", "truncated"),
    "value cut off": (variable("n", "bcd_left", "bcd2", 19, "digits"), "05 1234", "truncated"),
    "fixed value cut off": (fixed("n", "bcd_left", 5, "digits"), "1234", "truncated"),
    "sign cut off": (fixed("xn", "bcd_left", 2, "digits"), "43", "truncated"),
    "hexadecimal cut off": (fixed("b", "hex", 2), "303030", "truncated"),
    "prefix nibble A": (variable("n", "bcd_left", "bcd2", 19, "digits"), "0A 1234567890", "prefix"),
    "above the maximum, and cut off": (variable("n", "bcd_left", "bcd2", 19, "digits"), "20 1234", "length"),
    "below the minimum": (variable("n", "bcd_left", "bcd2", 19, "digits", least=8), "06 123456", "length"),
    "odd nibbles": (variable("b", "binary", "bcd2", 16, "nibbles"), "03 0102", "length"),
    "odd hexadecimal characters": (variable("b", "hex", "ascii2", 9, "digits"), "3033 303030", "length"),
    "rest too short": (rest("b", "binary", 4, 9), "010203", "length"),
    "rest too long": (rest("n", "bcd_left", 0, 3, "digits"), "1234", "length"),
    "nibble A": (fixed("n", "bcd_left", 3, "digits"), "0A10", "content"),
    "nibble A behind the pad": (fixed("n", "bcd_right", 3, "digits"), "0A21", "content"),
    "nibble A is no digit of x+n": (fixed("xn", "bcd_left", 4, "digits"), "4312A0", "content"),
    "sign E": (fixed("xn", "bcd_left", 3, "digits"), "4512", "content"),
    "sign in ASCII x+n": (fixed("xn", "ascii", 3), "313233", "content"),
    "two signs": (fixed("xn", "ascii", 3), "434331", "content"),
    "letter in n": (fixed("n", "ascii", 2), "3141", "content"),
    "ASCII digit in EBCDIC n": (fixed("n", "cp037", 2), "3132", "content"),
    "digit in a": (fixed("a", "ascii", 2), "4131", "content"),
    "hyphen in an": (fixed("an", "ascii", 2), "412D", "content"),
    "DEL in ans": (fixed("ans", "ascii", 2), "417F", "content"),
    "line feed in ans": (fixed("ans", "ascii", 2), "410A", "content"),
    "Latin-1 in ASCII": (fixed("ans", "ascii", 2), "41E9", "content"),
    "C1 control in Latin-1": (fixed("ans", "latin1", 2), "4185", "content"),
    "NEL in EBCDIC": (fixed("ans", "cp1047", 2), "C115", "content"),
    "at sign in z": (fixed("z", "ascii", 2), "3140", "content"),
    "G in z": (fixed("z", "ascii", 2), "3147", "content"),
    "G in hexadecimal": (fixed("b", "hex", 1), "3047", "content"),
    "space in hexadecimal": (fixed("b", "hex", 1), "2031", "content"),
    "ASCII in EBCDIC hexadecimal": (fixed("b", "hex_ebcdic", 1), "3031", "content"),
    "strict pad": (fixed("n", "bcd_left", 3, "digits", pad_strict=True), "021F", "pad"),
    "strict pad F": (fixed("z", "bcd_right", 3, "digits", pad_strict=True, pad_nibble="F"), "01D2", "pad"),
    "strict pad of x+n": (fixed("xn", "bcd_left", 4, "digits", pad_strict=True), "43123F", "pad"),
    "nibble before pad": (fixed("n", "bcd_left", 3, "digits", pad_strict=True), "0AFF", "content"),
    "half a GBK pair": (fixed("ans", "gbk", 2), "41D6", "text"),
    "GBK trail 7F": (fixed("ans", "gbk", 2), "D67F", "text"),
    "GBK trail FF": (fixed("ans", "gbk", 2), "D6FF", "text"),
    "GBK lead 80": (fixed("ans", "gbk", 2), "8040", "text"),
    "GBK DEL": (fixed("ans", "gbk", 2), "417F", "text"),
    "GBK control": (fixed("ans", "gbk", 2), "4107", "text"),
    "four bytes in GBK": (fixed("ans", "gbk", 4), "95328236", "text"),
    "GB 18030 four bytes that stand for nothing": (fixed("ans", "gb18030", 4), "8431A530", "text"),
    "UTF-8 overlong": (fixed("ans", "utf8", 2), "C1A9", "text"),
    "UTF-8 surrogate": (fixed("ans", "utf8", 3), "EDA080", "text"),
    "UTF-8 cut": (fixed("ans", "utf8", 2), "E4B8", "text"),
    "UTF-8 control": (fixed("ans", "utf8", 2), "410A", "text"),
    "UTF-8 C1 control": (fixed("ans", "utf8", 2), "C285", "text"),
    "no separator": (fixed("track2", "bcd_left", 4, "digits"), "1234", "track"),
    "two separators": (fixed("track2", "bcd_left", 4, "digits"), "1DD4", "track"),
    "no PAN": (fixed("track2", "bcd_left", 4, "digits"), "D123", "track"),
    "20 digits of PAN": (fixed("track2", "bcd_left", 22, "digits"), "12345678901234567890D3", "track"),
    "letter in a track": (fixed("track2", "bcd_left", 4, "digits"), "1AD4", "track"),
    "characters that no track has": (fixed("track2", "ascii", 3), "31403D", "content"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_bad_value_has_its_code_and_the_offset_of_its_prefix(case: str) -> None:
    spec, wire, code = UNREADABLE[case]
    data = b"\xee\xee" + bytes.fromhex(wire)
    with pytest.raises(DecodeError) as caught:
        reference.read_value(spec, data, 2, len(data), "48.3", 100)
    assert (caught.value.code, caught.value.path, caught.value.offset) == (code, "48.3", 102)


def test_a_value_ends_where_it_is_told() -> None:
    with pytest.raises(DecodeError) as caught:
        reference.read_value(fixed("n", "ascii", 4), b"1234", 0, 3, "2")
    assert caught.value.code == "truncated"
    assert reference.read_value(rest("b", "binary", 0, 9), b"12345", 1, 3, "2") == (b"23", 3)
    assert reference.read_value(fixed("n", "ascii", 2), b"12345", 1, 5, "2") == ("23", 3)


UNWRITABLE = {
    "bytes for text": (fixed("n", "ascii", 2), b"12", "type"),
    "text for bytes": (fixed("b", "binary", 2), "12", "type"),
    "None": (fixed("n", "ascii", 2), None, "type"),
    "bool": (fixed("n", "ascii", 1), True, "type"),
    "int for a length that varies": (variable("n", "ascii", "ascii2", 19), 12, "type"),
    "int for text": (fixed("an", "ascii", 2), 12, "type"),
    "negative": (fixed("n", "ascii", 2), -1, "content"),
    "negative and too long": (fixed("n", "ascii", 2), -100, "content"),
    "int too long": (fixed("n", "ascii", 2), 123, "length"),
    "too short": (fixed("n", "bcd_left", 4, "digits"), "123", "length"),
    "too long": (fixed("n", "bcd_left", 4, "digits"), "12345", "length"),
    "half a byte of digits": (variable("n", "bcd_left", "bcd2", 9), "123", "length"),
    "above the maximum": (variable("ans", "ascii", "ascii2", 2), "123", "length"),
    "below the minimum": (variable("b", "binary", "bcd2", 8, least=4), b"123", "length"),
    "too many bytes for the nibbles": (variable("b", "binary", "bcd2", 4, "nibbles"), b"123", "length"),
    "pad does not cut": (fixed("ans", "ascii", 2, pad_side="right", pad_character=" "), "123", "length"),
    "letter in n": (fixed("n", "bcd_left", 2, "digits"), "1A", "content"),
    "digit of another script": (fixed("n", "ascii", 2), "1２", "content"),
    "digit of another script, packed": (fixed("n", "bcd_left", 2, "digits"), "1２", "content"),
    "colon has no nibble": (fixed("z", "bcd_left", 2, "digits"), "1:", "content"),
    "small letter has no nibble": (fixed("z", "bcd_left", 2, "digits"), "1a", "content"),
    "sign": (fixed("xn", "bcd_left", 3, "digits"), "E12", "content"),
    "control": (fixed("ans", "cp037", 2), "A\x15", "content"),
    "Chinese in EBCDIC": (fixed("ans", "cp1047", 1), "中", "text"),
    "emoji in GBK": (variable("ans", "gbk", "bcd2", 9), "😀", "text"),
    "control in GBK": (variable("ans", "gbk", "bcd2", 9), "\a", "text"),
    "surrogate in UTF-8": (variable("ans", "utf8", "bcd2", 9), "\ud800", "text"),
    "control in UTF-8": (variable("ans", "utf8", "bcd2", 9), "a\x85", "text"),
    "no separator": (variable("track2", "bcd_left", "bcd2", 37, "digits"), "1234", "track"),
}


@pytest.mark.parametrize("case", UNWRITABLE)
def test_a_value_that_does_not_fit_is_refused(case: str) -> None:
    spec, value, code = UNWRITABLE[case]
    with pytest.raises(EncodeError) as caught:
        reference.write_value(spec, value, "48.3")
    assert (caught.value.code, caught.value.path) == (code, "48.3")


@pytest.mark.parametrize(
    ("spec", "value", "wire"),
    [
        (fixed("n", "bcd_left", 6, "digits"), 7, "000007"),
        (fixed("n", "bcd_right", 3, "digits"), 21, "0021"),
        (fixed("n", "bcd_left", 3), 1234, "001234"),
        (fixed("n", "cp037", 3), 7, "F0F0F7"),
        (fixed("ans", "ascii", 4, pad_side="right", pad_character=" "), "AB", "41422020"),
        (fixed("ans", "cp037", 4, pad_side="right", pad_character=" "), "AB", "C1C24040"),
        (fixed("n", "ascii", 4, pad_side="left", pad_character="0"), "12", "30303132"),
        (fixed("n", "bcd_left", 3, pad_side="left", pad_character="0"), "123", "000123"),
        (fixed("ans", "gbk", 6, pad_side="right", pad_character=" "), "中", "D6D020202020"),
        (fixed("ans", "utf8", 6, pad_side="left", pad_character="*"), "中", "2A2A2AE4B8AD"),
        (fixed("track2", "bcd_left", 4, "digits"), "1D23", "1D23"),
        (fixed("b", "binary", 2), memoryview(b"\x01\x02"), "0102"),
    ],
)
def test_what_is_short_is_filled_up_on_writing(spec: ValueSpec, value: object, wire: str) -> None:
    assert reference.write_value(spec, value, "2").hex().upper() == wire


def test_the_compiled_class_has_a_twin() -> None:
    codec = reference.ValueCodec(fixed("n", "ascii", 2))
    assert codec.read(b"x12", 1, 3, "60.1", 40) == ("12", 3)
    assert codec.write(7, "60.1") == b"07"
    with pytest.raises(DecodeError) as caught:
        codec.read(b"x1x", 1, 3, "60.1", 40)
    assert caught.value.offset == 41


# ---- prefixes ------------------------------------------------------------------------------------

PREFIXED = {
    "bcd1": (7, "07"),
    "bcd2": (37, "37"),
    "bcd3": (104, "0104"),
    "bcd4": (9104, "9104"),
    "bcd5": (12345, "012345"),
    "bcd6": (12345, "012345"),
    "ascii1": (7, "37"),
    "ascii2": (37, "3337"),
    "ascii3": (104, "313034"),
    "ascii4": (104, "30313034"),
    "ascii5": (12345, "3132333435"),
    "ascii6": (12345, "303132333435"),
    "ebcdic1": (7, "F7"),
    "ebcdic2": (37, "F3F7"),
    "ebcdic3": (104, "F1F0F4"),
    "ebcdic4": (104, "F0F1F0F4"),
    "ebcdic5": (12345, "F1F2F3F4F5"),
    "ebcdic6": (12345, "F0F1F2F3F4F5"),
    "binary1": (200, "C8"),
    "binary2": (600, "0258"),
    "hex2": (200, "4338"),
    "hex4": (600, "30323538"),
}

BAD_PREFIXES = [
    ("bcd1", "17"),  # the pad of an odd count is on the left, and is 0
    ("bcd1", "0A"),
    ("bcd2", "F0"),
    ("bcd3", "1104"),
    ("bcd6", "00000A"),
    ("ascii2", "203A"),
    ("ascii2", "2B31"),  # "+1", which Python takes for a number
    ("ascii3", "F0F0F1"),
    ("ebcdic2", "3031"),
    ("ebcdic2", "F0FA"),
    ("hex2", "3047"),
    ("hex4", "30783031"),  # "0x01", likewise
]


@pytest.mark.parametrize("name", PREFIXED)
def test_a_prefix_counts_bytes_in_its_own_digits(name: str) -> None:
    length, wire = PREFIXED[name]
    spec = variable("b", "binary", name, prefix_max(name))
    data = bytes.fromhex(wire) + bytes(length)
    assert reference.write_value(spec, bytes(length), "2") == data
    assert reference.read_value(spec, data, 0, len(data), "2") == (bytes(length), len(data))


@pytest.mark.parametrize(("name", "wire"), BAD_PREFIXES)
def test_a_prefix_of_other_characters_is_refused(name: str, wire: str) -> None:
    spec = variable("b", "binary", name, prefix_max(name))
    with pytest.raises(DecodeError) as caught:
        reference.read_value(spec, bytes.fromhex(wire) + bytes(300), 0, 300, "2")
    assert caught.value.code == "prefix"


def test_every_prefix_is_tested() -> None:
    assert PREFIXED.keys() == PREFIXES.keys()


# ---- code pages ----------------------------------------------------------------------------------

# What the charset "Cp1047" of a Java runtime makes of the bytes 40 to FE, as Latin-1: spaces, letters and signs. Python
# has no cp1047, so this does not come from where the codec has it.
CP1047_FROM_40 = """
    20A0E2E4E0E1E3E5E7F1A22E3C282B7C26E9EAEBE8EDEEEFECDF21242A293B5E2D2FC2C4C0C1C3C5C7D1A62C255F3E3F
    F8C9CACBC8CDCECFCC603A2340273D22D8616263646566676869ABBBF0FDFEB1B06A6B6C6D6E6F707172AABAE6B8C6A4
    B57E737475767778797AA1BFD05BDEAEACA3A5B7A9A7B6BCBDBEDDA8AF5DB4D77B414243444546474849ADF4F6F2F3F5
    7D4A4B4C4D4E4F505152B9FBFCF9FAFF5CF7535455565758595AB2D4D6D2D3D530313233343536373839B3DBDCD9DA
"""


def test_cp1047_is_what_others_say() -> None:
    expected = bytes.fromhex(CP1047_FROM_40).decode("latin1")
    wire = bytes(range(0x40, 0xFF))
    spec = fixed("ans", "cp1047", len(wire))
    assert reference.read_value(spec, wire, 0, len(wire), "2") == (expected, len(wire))
    assert reference.write_value(spec, expected, "2") == wire


@pytest.mark.parametrize("page", ["cp037", "cp500", "cp1047"])
def test_an_ebcdic_page_has_every_character_once_and_no_controls(page: str) -> None:
    readable = {}
    for byte in range(256):
        try:
            readable[byte], _ = reference.read_value(fixed("ans", page, 1), bytes([byte]), 0, 1, "2")
        except DecodeError as error:
            assert error.code == "content"
    assert sorted(map(str, readable.values())) == [chr(code) for code in (*range(0x20, 0x7F), *range(0xA0, 0x100))]


# ---- BER-TLV -------------------------------------------------------------------------------------

SCRIPTS = Layout(
    kind="ber_tlv",
    subs=(SubSpec(key="86", name="", content="b", encoding="binary", length_min=0, length_max=65535, repeat=True),),
)
ICC = variable("b", "binary", "bcd3", 999, layout=SCRIPTS)

SOUND_OBJECTS = [
    "",
    "9F3602002A 8200",
    "0000 8201FF 00 9501AA 0000",  # padding
    "8601AA 8200 8601AA",  # may repeat
    "9F818101 00",
    "DF8101 00",
    f"82 8180{'00' * 128}",
    f"82 820100{'00' * 256}",
    "E1 03 8205FF",  # what a value holds is looked at by nobody here
    "FF7F 00",
]

BAD_OBJECTS = [
    ("9F", "tlv"),
    ("82", "tlv"),
    ("8202FF", "tlv"),
    ("8201FF 9F36", "tlv"),
    ("8280", "tlv"),
    ("8280" + "00" * 128, "tlv"),
    ("82830000 01AA", "tlv"),
    ("8281", "tlv"),
    ("828201", "tlv"),
    ("9F8181 81 01 00", "tlv"),  # five bytes of tag
    ("9F8181", "tlv"),
    ("82 817F" + "00" * 127, "canonical"),
    ("82 8200FF" + "00" * 255, "canonical"),
    ("82 8101", "canonical"),
    ("8200 8200", "duplicate"),
    ("9F3600 8601AA 9F3600", "duplicate"),
    ("8200 8200 9F", "duplicate"),
]


@pytest.mark.parametrize("wire", SOUND_OBJECTS)
def test_objects_that_fill_the_field_are_kept_as_they_are(wire: str) -> None:
    content = bytes.fromhex(wire)
    data = bytes.fromhex(f"{len(content):04d}") + content
    assert reference.read_value(ICC, data, 0, len(data), "55") == (content, len(data))
    assert reference.write_value(ICC, content, "55") == data


@pytest.mark.parametrize(("wire", "code"), BAD_OBJECTS)
def test_objects_that_do_not_are_refused(wire: str, code: str) -> None:
    content = bytes.fromhex(wire)
    data = bytes.fromhex(f"{len(content):04d}") + content
    with pytest.raises(DecodeError) as decoding:
        reference.read_value(ICC, data, 0, len(data), "55")
    with pytest.raises(EncodeError) as encoding:
        reference.write_value(ICC, content, "55")
    assert decoding.value.code == encoding.value.code == code


def test_objects_in_hexadecimal_are_looked_at_when_they_are_read_as_a_tree() -> None:
    spec = fixed("b", "hex", 3, layout=Layout(kind="ber_tlv"))
    assert read(spec, b"8201ff".hex()) == b"\x82\x01\xff"
    assert read(spec, b"8202FF".hex()) == b"\x82\x02\xff"


# ---- messages ------------------------------------------------------------------------------------


def field(number: int, spec: ValueSpec) -> FieldSpec:
    keys = {key: getattr(spec, key) for key in ValueSpec.__dataclass_fields__ if key != "name"}
    return FieldSpec(number=number, name=f"f{number}", **keys)


def message(*fields: FieldSpec, **more: Any) -> MessageSpec:
    settings = {"name": "test", "mti_encoding": "bcd", "bitmap": "binary", "field_max": 64, **more}
    return MessageSpec(fields=fields, **settings)


POS = message(
    field(2, variable("n", "bcd_left", "bcd2", 19, "digits")),
    field(11, fixed("n", "bcd_left", 6, "digits")),
    field(35, variable("track2", "bcd_left", "bcd2", 37, "digits", encrypted_when=(53, 3, "1"))),
    field(39, fixed("an", "ascii", 2)),
    field(53, fixed("n", "bcd_left", 16, "digits")),
    field(55, ICC),
    variants=(
        Variant(mti="05xx", fields=(field(11, fixed("n", "ascii", 2)),), removed=(2,)),
        Variant(mti="0510", fields=(field(48, fixed("n", "bcd_left", 62, "digits")),)),
    ),
)


def test_a_message_by_hand() -> None:
    data = bytes.fromhex("0200 4020000000000200 16 6222987654321097 000007 0005 9F3602002A")
    values = {0: "0200", 2: PAN, 11: "000007", 55: bytes.fromhex("9F3602002A")}
    assert reference.decode(POS, data) == values
    assert list(reference.decode(POS, data)) == [0, 2, 11, 55]
    assert reference.encode(POS, values) == data
    assert reference.encode(POS, {55: values[55], 11: 7, 2: PAN, 39: None, 0: "0200"}) == data
    assert reference.decode(POS, b"header" + data, 6) == values


def test_message_types_have_fields_of_their_own() -> None:
    data = bytes.fromhex("0500 0020000000000000 3037")
    assert reference.decode(POS, data) == {0: "0500", 11: "07"}
    assert reference.encode(POS, {0: "0500", 11: "07"}) == data
    # The pattern with the fewest x wins, whole: what 05xx says of fields 2 and 11 is not said of 0510.
    assert reference.decode(POS, bytes.fromhex("0510 0020000000010000 000007" + "12" * 31))[48] == "12" * 31
    assert reference.decode(POS, bytes.fromhex("0510 4000000000000000 02 12")) == {0: "0510", 2: "12"}
    with pytest.raises(DecodeError) as caught:
        reference.decode(POS, bytes.fromhex("0500 4020000000000000 02 12 3037"))
    assert (caught.value.code, caught.value.path, caught.value.offset) == ("undefined", "2", 2)
    with pytest.raises(EncodeError) as refused:
        reference.encode(POS, {0: "0500", 2: PAN})
    assert (refused.value.code, refused.value.path) == ("undefined", "2")


WIDE = (
    field(3, fixed("n", "ascii", 2)),
    field(66, fixed("n", "ascii", 1)),
    field(128, fixed("b", "binary", 1)),
)
WIDEST = (*WIDE, field(129, fixed("n", "ascii", 1)), field(192, fixed("b", "binary", 1)))

BITMAPS: dict[str, tuple[MessageSpec, dict[int, Any], bytes]] = {
    "64 bits in hexadecimal": (
        message(WIDE[0], mti_encoding="ascii", bitmap="hex"),
        {0: "0800", 3: "12"},
        b"0800" + b"2000000000000000" + b"12",
    ),
    "64 bits in EBCDIC": (
        message(WIDE[0], mti_encoding="ebcdic", bitmap="hex_ebcdic"),
        {0: "0800", 3: "12"},
        bytes.fromhex("F0F8F0F0" + "F2" + "F0" * 15 + "3132"),
    ),
    "128 bits": (
        message(*WIDE, field_max=128),
        {0: "0800", 3: "12", 66: "5", 128: b"\xee"},
        bytes.fromhex("0800 A000000000000000 4000000000000001 3132 35 EE"),
    ),
    "the first 64 of 128": (
        message(*WIDE, field_max=128),
        {0: "0800", 3: "12"},
        bytes.fromhex("0800 2000000000000000 3132"),
    ),
    "bit 65 of 128 is a field": (
        message(field(65, fixed("n", "ascii", 1)), field_max=128),
        {0: "0800", 65: "1"},
        bytes.fromhex("0800 8000000000000000 8000000000000000 31"),
    ),
    "192 bits": (
        message(*WIDEST, field_max=192),
        {0: "0800", 66: "5", 129: "6", 192: b"\xee"},
        bytes.fromhex("0800 8000000000000000 C000000000000000 8000000000000001 35 36 EE"),
    ),
    "128 bits in hexadecimal": (
        message(*WIDE, field_max=128, bitmap="hex"),
        {0: "0800", 3: "12", 66: "5", 128: b"\xee"},
        b"\x08\x00" + b"A000000000000000" + b"4000000000000001" + b"125\xee",
    ),
    "192 bits for the first of the last": (
        message(*WIDEST, field_max=192),
        {0: "0800", 129: "6"},
        bytes.fromhex("0800 8000000000000000 8000000000000000 8000000000000000 36"),
    ),
    "192 bits in hexadecimal": (
        message(*WIDEST, field_max=192, bitmap="hex"),
        {0: "0800", 192: b"\xee"},
        b"\x08\x00" + b"8000000000000000" + b"8000000000000000" + b"0000000000000001" + b"\xee",
    ),
    "the first 128 of 192": (
        message(*WIDEST, field_max=192),
        {0: "0800", 66: "5"},
        bytes.fromhex("0800 8000000000000000 4000000000000000 35"),
    ),
}


@pytest.mark.parametrize("case", BITMAPS)
def test_bitmaps(case: str) -> None:
    definition, values, data = BITMAPS[case]
    assert reference.decode(definition, data) == values
    assert reference.encode(definition, values) == data


def test_an_empty_further_bitmap_is_read() -> None:
    definition = message(*WIDEST, field_max=192)
    assert reference.decode(definition, bytes.fromhex("0800 8000000000000000 0000000000000000")) == {0: "0800"}
    data = bytes.fromhex("0800 8000000000000000 8000000000000000 0000000000000000")
    assert reference.decode(definition, data) == {0: "0800"}


HEX = message(WIDE[0], mti_encoding="ascii", bitmap="hex", field_max=64)
HEX_WIDE = message(*WIDE, mti_encoding="ascii", bitmap="hex", field_max=128)

# definition, wire, start, (code, path, offset)
BAD_MESSAGES = {
    "too large": (POS, bytes(65536), 0, ("size", "message", 0)),
    "header cut": (POS, b"12", 3, ("truncated", "header", 0)),
    "MTI cut": (POS, b"\xee\x02", 1, ("truncated", "mti", 1)),
    "MTI": (POS, b"\xee\x02\x0a" + bytes(8), 1, ("mti", "mti", 1)),
    "bitmap cut": (POS, bytes.fromhex("0200 00000000000000"), 0, ("truncated", "bitmap", 2)),
    "bit 1 of 64": (POS, bytes.fromhex("0200 8000000000000000 00"), 0, ("bitmap", "bitmap", 2)),
    "not hexadecimal": (HEX, b"0200200000000000000G", 0, ("bitmap", "bitmap", 4)),
    "second not hexadecimal": (HEX_WIDE, b"0200A0000000000000000000000000000 00", 0, ("bitmap", "bitmap", 20)),
    "second cut": (HEX_WIDE, b"0200A000000000000000000000000000000", 0, ("truncated", "bitmap", 20)),
    # Reported before field 2, which is cut off, and where its bit is.
    "undefined": (POS, bytes.fromhex("0200 4000000100000000 16"), 0, ("undefined", "32", 5)),
    "undefined, hexadecimal": (HEX_WIDE, b"0200A0000000000000002000000000000000", 0, ("undefined", "67", 20)),
    "bit 65 of 128": (HEX_WIDE, b"020080000000000000008000000000000000", 0, ("undefined", "65", 20)),
    "a field in its turn": (POS, bytes.fromhex("0200 0020000000000200 0A0007 0003 8202FF"), 0, ("content", "11", 10)),
    "the second field": (POS, bytes.fromhex("0200 0020000000000200 000007 0003 8202FF"), 0, ("tlv", "55", 13)),
    "left over": (POS, bytes.fromhex("0200 0020000000000000 000007 0000"), 0, ("trailing", "message", 13)),
    "track": (POS, bytes.fromhex("0200 0000000020000000 04 1234"), 0, ("track", "35", 10)),
    "track before what is left over": (POS, bytes.fromhex("0200 0000000020000000 04 1234 FF"), 0, ("track", "35", 10)),
    "track after a later field": (POS, bytes.fromhex("0200 0000000022000000 04 1234 3007"), 0, ("content", "39", 13)),
    "track in clear": (
        POS,
        bytes.fromhex("0200 0000000020000800 04 1234 2600000000000000"),
        0,
        ("track", "35", 10),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_MESSAGES)
def test_a_bad_message_is_blamed_on_the_right_place(case: str) -> None:
    definition, data, start, expected = BAD_MESSAGES[case]
    with pytest.raises(DecodeError) as caught:
        reference.decode(definition, data, start)
    assert (caught.value.code, caught.value.path, caught.value.offset) == expected


def test_an_encrypted_track_holds_any_nibbles() -> None:
    data = bytes.fromhex("0200 0000000020000800 04 12AF 2610000000000000")
    values = {0: "0200", 35: "12AF", 53: "2610000000000000"}
    assert reference.decode(POS, data) == values
    assert reference.encode(POS, values) == data
    assert reference.encode(POS, {**values, 53: 2610000000000000}) == data
    for clear in ("2600000000000000", None):
        with pytest.raises(EncodeError) as caught:
            reference.encode(POS, {**values, 53: clear})
        assert (caught.value.code, caught.value.path) == ("track", "35")


@pytest.mark.parametrize(
    ("values", "code", "path"),
    [
        ({}, "missing", "mti"),
        ({0: 200}, "type", "mti"),
        ({0: "200"}, "mti", "mti"),
        ({0: "02０0"}, "mti", "mti"),
        ({0: "0200", 3: "000000"}, "undefined", "3"),
        ({0: "0200", 65: "1"}, "undefined", "65"),
        ({0: "0200", 11: b"000007"}, "type", "11"),
        ({0: "0200", 11: "00007", 39: "--"}, "length", "11"),
        ({0: "0200", 39: "--", 11: "000007"}, "content", "39"),
        # What an encoding cannot say is found before the fields are written, in the order given.
        ({0: "0200", 39: "--", 11: 1234567}, "length", "11"),
        ({0: "0200", 39: "é", 11: "00007"}, "content", "39"),
    ],
)
def test_values_that_do_not_fit_are_blamed_on_the_right_field(values: dict[int, object], code: str, path: str) -> None:
    with pytest.raises(EncodeError) as caught:
        reference.encode(POS, values)
    assert (caught.value.code, caught.value.path) == (code, path)


def test_a_message_has_a_largest_size() -> None:
    definition = message(
        *(field(number, variable("b", "binary", "ascii5", 65535)) for number in (2, 3)), mti_encoding="ascii"
    )
    most = 65535 - 4 - 8 - 2 * 5
    values = {0: "0200", 2: bytes(most - 1), 3: b"1"}
    assert reference.decode(definition, reference.encode(definition, values)) == values
    with pytest.raises(EncodeError) as caught:
        reference.encode(definition, {**values, 3: b"12"})
    assert (caught.value.code, caught.value.path) == ("size", "message")


@given(st.binary(max_size=60), st.sampled_from([POS, HEX_WIDE, message(*WIDEST, field_max=192)]))
def test_any_bytes_are_read_or_refused(data: bytes, definition: MessageSpec) -> None:
    try:
        values = reference.decode(definition, data)
    except DecodeError as error:
        assert 0 <= error.offset <= len(data)
    else:
        assert reference.decode(definition, reference.encode(definition, values)) == values


@pytest.mark.parametrize("case", [*BITMAPS, "by hand"])
def test_every_proper_prefix_of_a_message_is_truncated(case: str) -> None:
    if case == "by hand":
        definition, data = POS, bytes.fromhex("0200 4020000000000200 16 6222987654321097 000007 0005 9F3602002A")
    else:
        definition, _, data = BITMAPS[case]
    for size in range(len(data)):
        with pytest.raises(DecodeError) as caught:
            reference.decode(definition, data[:size])
        assert caught.value.code == "truncated"


def test_the_oracle_does_not_ask_the_compiled_codec() -> None:
    assert "_native" not in inspect.getsource(reference)
