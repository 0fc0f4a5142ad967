"""Messages for people: tables, differences, dumps. And that they do not see what they must not."""

import random
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

import iso8583
from iso8583 import describe, specfile
from iso8583.describe import (
    Column,
    Paint,
    Table,
    amount,
    columns_of,
    difference_table,
    differences,
    rows,
    table,
    wrapped,
)
from iso8583.explain import explain
from iso8583.message import Spec
from iso8583.parts import may_have_moved, parts_of, printable
from iso8583.spec import PREFIXES

PAN = "6222987654321097"
SHOWN = "622298******1097"
HEADER = bytes.fromhex("6000030000603100123456")


def width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


# ---- rows and tables -----------------------------------------------------------------------------


def test_rows_name_fields_tags_and_codes() -> None:
    spec = iso8583.load("unionpay_pos", header="tpdu+pos6")
    header = bytes.fromhex("6000000003603103000000")
    message = spec.decode(spec.encode({0: "0210", 39: "51", 55: {"9F36": b"\0\1"}, 63: "CUP余额"}, header=header))
    found = {row.path: row for row in rows(message, unmask=True)}
    assert list(found)[:6] == ["tpdu", "header", "0", "39", "55", "55.9F36"]
    assert found["header"].meaning == "magnetic stripe, financial; requirement 3: sign on again"
    assert found["0"].meaning == "financial response"
    assert (found["39"].name, found["39"].value) == ("response_code", "51")
    assert found["39"].meaning == "余额不足 insufficient funds"
    assert (found["55.9F36"].length, found["55.9F36"].value) == ("2", "0001")
    assert "ATC" in found["55.9F36"].label and found["55.9F36"].depth == 1
    assert found["63"].value == "CUP余额"


def test_rows_go_into_sub_fields(purchase: bytes, spec: Spec) -> None:
    found = {row.path: row for row in rows(spec.decode(purchase))}
    assert (found["60"].value, found["60.2"].name, found["60.2"].value) == ("22000001000501", "batch", "000001")
    assert found["60.1"].meaning == "消费 purchase"
    # A processing code says in one line what its parts would say in three.
    assert found["3"].meaning == "消费 purchase" and "3.1" not in found


def test_a_cups_header_is_shown(spec: Spec) -> None:
    cups = spec.with_header("cups")
    header = b"\x2e\x020000" + b"00010000   49000000   " + bytes(4) + b"00000000" + b"\0" + b"00000"
    message = cups.decode(cups.encode({0: "0800", 11: "000001"}, header=header))
    row = rows(message)[0]
    assert (row.path, row.length, row.value) == ("header", "46", "to 00010000 from 49000000")
    assert row.meaning == f"version 02, total {len(bytes(message))}, reject code 00000"


@pytest.mark.parametrize(
    ("currency", "shown"), [("156", "12.50 CNY"), ("392", "1250 JPY"), ("414", "1.250 KWD"), ("999", ""), (None, "")]
)
def test_amounts_are_shown_with_their_currency(spec: Spec, currency: str | None, shown: str) -> None:
    message = spec.decode(spec.encode({0: "0200", 4: 1250, 49: currency}))
    assert amount(message, parts_of(message)[0]) == shown


def test_small_amounts_keep_their_zeros(spec: Spec) -> None:
    message = spec.decode(spec.encode({0: "0200", 4: 5, 49: "156"}))
    assert amount(message, parts_of(message)[0]) == "0.05 CNY"


def test_columns_line_up_behind_chinese_text(spec: Spec) -> None:
    message = spec.decode(spec.encode({0: "0210", 39: "51", 43: "电力公司" + "x" * 32, 44: "中国"}))
    lines = table(message, width=160).splitlines()
    starts = {width(line[: line.rindex("  ")]) for line in lines[1:] if not line.startswith(" ")}
    assert len(starts) == 1, lines


@pytest.mark.parametrize("columns", [80, 100, 140])
def test_tables_fit_and_hold_everything(spec: Spec, purchase: bytes, columns: int) -> None:
    value = bytes(range(200))
    message = spec.decode(spec.decode(purchase).patched({62: value}))
    text = table(message, unmask=True, width=columns)
    assert max(width(line) for line in text.splitlines()) <= columns
    # The wrapped parts, joined, are the whole value.
    start = text.index("\n62 ")
    cells = [re.search("[0-9A-F]{10,}", line) for line in text[start:].splitlines()]
    assert value.hex().upper() in "".join(cell[0] for cell in cells if cell)


def test_wrapping_counts_columns_and_prefers_spaces() -> None:
    assert wrapped("余额不足 insufficient funds", 12) == ["余额不足", "insufficient", "funds"]
    assert wrapped("电力公司", 5) == ["电力", "公司"]
    assert wrapped("", 5) == [""]
    assert wrapped("ab" + " " * 10, 5) == ["ab"]
    assert wrapped("电", 1) == ["电"]
    assert columns_of("é") == 1


def test_colours_do_not_move_columns() -> None:
    found = []
    for enabled in (False, True):
        paint = Paint(enabled)
        one = Table([Column("a", paint, "red"), Column("b", paint, "dim", right=True), Column("c", paint)])
        one.add(["中", "1", "x"])
        one.add(["long", "22", "y"])
        found.append(one.lines())
    plain, painted = found
    assert plain == ["a      b  c", "中     1  x", "long  22  y"]
    assert painted != plain
    assert [re.sub("\x1b\\[[0-9]*m", "", line) for line in painted] == plain


def test_nothing_that_a_terminal_obeys_gets_through(spec: Spec) -> None:
    assert printable("a\x1b[2J\u202e\x85中") == "a\\x1b[2J\\u202e\\x85中"
    data = bytearray(spec.encode({0: "0210", 41: "1000000A", 44: "x"}))
    data[data.index(b"1000")] = 0x1B
    message = spec.decode(bytes(data), strict=False)
    assert "\x1b" not in table(message, unmask=True)
    assert "\x1b" not in explain(spec, bytes(data), unmask=True).text


# ---- differences ---------------------------------------------------------------------------------


def test_differences_name_the_fields_and_sub_fields(spec: Spec, purchase: bytes) -> None:
    left = spec.decode(purchase)
    right = spec.decode(left.patched({4: 1300, 38: "123456", 52: None, 60: "22000001000601"}))
    found = {one.path: (one.sign, one.left, one.right) for one in differences(left, right)}
    assert found == {
        "4": ("~", "000000001250", "000000001300"),
        "38": ("+", None, "123456"),
        "52": ("-", "<hidden, 8 bytes>", None),
        "60.4": ("~", "5", "6"),
    }
    assert differences(left, spec.decode(bytes(left))) == []


def test_what_is_hidden_is_still_seen_to_differ(spec: Spec, purchase: bytes) -> None:
    left = spec.decode(purchase)
    other = PAN[:8] + "0000" + PAN[12:]
    right = spec.decode(left.patched({2: other, 52: bytes(8)}))
    found = {one.path: one for one in differences(left, right)}
    assert list(found) == ["2", "52"]
    for one in found.values():
        assert one.left == one.right and one.note == "differs where it is hidden"
    assert "differs where it is hidden" in difference_table(list(found.values()), 3)
    shown = {one.path: (one.left, one.right, one.note) for one in differences(left, right, unmask=True)}
    assert shown["2"] == (PAN, other, "")


def test_tags_headers_and_types_are_compared(spec: Spec, purchase: bytes) -> None:
    reader = spec.with_header("tpdu")
    left = reader.decode(HEADER[:5] + purchase)
    icc = left[55].replace(bytes.fromhex("12345678"), bytes.fromhex("87654321")) + bytes.fromhex("9F360200FF")
    right = reader.decode(reader.encode({**left.to_dict(), 0: "0210", 55: icc}, header=bytes.fromhex("6000000003")))
    found = {one.path: (one.left, one.right) for one in differences(left, right)}
    assert found == {
        "header": ("60 00 03 00 00", "60 00 00 00 03"),
        "0": ("0200 financial request", "0210 financial response"),
        "55.9F26": ("12345678ABCDEF01", "87654321ABCDEF01"),
        "55.9F36": (None, "00FF"),
    }


def test_bytes_that_differ_behind_equal_values_are_a_difference(spec: Spec, purchase: bytes) -> None:
    at = purchase.index(bytes.fromhex("0210000100"))  # field 22: its last nibble is a pad
    other = purchase[:at] + bytes.fromhex("021F000100") + purchase[at + 5 :]
    (one,) = differences(spec.decode(purchase), spec.decode(other))
    assert (one.path, one.left) == ("22", one.right)
    assert one.note.startswith("the values are equal, the bytes on the wire are not")
    twice = spec.decode(spec.encode({0: "0200", 55: bytes.fromhex("9F3601019F3701025A0103")}))
    moved = spec.decode(spec.encode({0: "0200", 55: bytes.fromhex("9F3701029F3601015A0103")}))
    (one,) = differences(twice, moved)
    assert (one.path, one.note) == ("55", "the same objects in another order, or written otherwise")


# ---- masking, sub-field by sub-field --------------------------------------------------------------

_NESTED = """
name = "nested"
mti_encoding = "bcd"
bitmap = "binary"
field_max = 64

[field.48]
name = "records"
content = "ans"
encoding = "ascii"
length_max = 200
length_prefix = "bcd3"
layout = "positions"
sub.1 = { name = "kind", content = "n", length = 2 }
sub.2 = { name = "card", content = "n", length = 16, sensitive = "pan" }

[field.62]
name = "keys"
content = "ans"
encoding = "ascii"
length_max = 200
length_prefix = "bcd3"
sensitive = "key"
[[field.62.usage]]
when.mti = ["02xx"]
label = "文本"
sensitive = "public"
layout = "positions"
sub.1 = { name = "text", content = "ans", length = 4 }
sub.2 = { name = "pin", content = "ans", length = 4, sensitive = "pin" }

[field.63]
name = "cards"
content = "ans"
encoding = "ascii"
length_max = 200
length_prefix = "bcd3"
layout = "positions"
sub.1 = { name = "count", content = "n", length = 1 }
sub.2 = { name = "card", content = "n", length = 16, sensitive = "pan", times = "1" }
"""


def test_a_sub_field_is_hidden_in_a_field_that_nobody_marked() -> None:
    spec = Spec(specfile.loads(_NESTED))
    values = {0: "0200", 48: f"01{PAN}", 62: "abcdsafe", 63: f"2{PAN}{PAN}"}
    message = spec.decode(spec.encode(values))
    found = {row.path: (row.value, row.label) for row in rows(message)}
    assert found["48"][0] == "" and found["48.1"][0] == "01" and found["48.2"][0] == SHOWN
    assert found["62"] == ("", "文本") and found["62.1"][0] == "abcd" and found["62.2"][0] == "<hidden, 4 characters>"
    assert found["63.2[1]"][0] == found["63.2[2]"][0] == SHOWN
    assert PAN not in table(message) and "safe" not in table(message)
    explained = explain(spec, bytes(message)).text
    assert PAN not in explained and PAN[6:12].encode().hex(" ").upper() not in explained
    other = spec.decode(message.patched({48: "0262229800000010977"[:18]}))
    assert [one.path for one in differences(message, other)] == ["48.1", "48.2"]
    # In another message type the same field is all hidden.
    sign_on = spec.decode(spec.encode({0: "0800", 62: "abcdsafe"}))
    assert {row.path: row.value for row in rows(sign_on)}["62"] == "<hidden, 8 characters>"


def test_what_cannot_be_told_apart_is_hidden_if_any_of_it_would_be() -> None:
    spec = Spec(specfile.loads(_NESTED))
    message = spec.decode(spec.encode({0: "0200", 48: f"01{PAN[:-1]}"}), strict=False)
    assert [finding.path for finding in message.findings] == ["48.2"]
    (row,) = [row for row in rows(message) if row.path == "48"]
    assert row.value == "<hidden, 17 characters>"
    icc = iso8583.load("unionpay_pos")
    data = icc.encode({0: "0200", 55: bytes.fromhex(f"9F36020001DF7E08{PAN}5A08{PAN}")})
    found = {row.path: row.value for row in rows(icc.decode(data))}
    assert (found["55.9F36"], found["55.DF7E"], found["55.5A"]) == ("0001", "<hidden, 8 bytes>", "<hidden, 8 bytes>")
    damaged_data = data.replace(bytes.fromhex("5A08"), bytes.fromhex("5A09"))
    found = {row.path: row.value for row in rows(icc.decode(damaged_data, strict=False))}
    assert found["55"] == "<hidden, 26 bytes>"


def test_an_amount_that_is_hidden_is_not_told_beside(spec: Spec) -> None:
    hiding = Spec(specfile.loads('name = "x"\nextends = "unionpay_pos"\n[field.4]\nsensitive = "balance"'))
    message = hiding.decode(spec.encode({0: "0200", 4: 1250, 49: "156"}))
    assert "12.50" not in table(message) and "12.50" not in explain(hiding, bytes(message)).text
    assert "12.50 CNY" in table(message, unmask=True)


# ---- messages whose fields may have moved ---------------------------------------------------------


def test_nothing_is_shown_where_fields_may_have_moved(spec: Spec, purchase: bytes) -> None:
    message = spec.decode(purchase + b"?", strict=False)
    assert may_have_moved(message)
    found = rows(message)
    assert [row.path for row in found] == [str(number) for number in message]  # no tags, they are bytes too
    assert (found[0].value, found[0].meaning) == ("0200", "financial request")
    for row in found[1:]:
        assert (
            row.value == f"<hidden, {row.length} {'bytes' if row.path in ('52', '55', '62', '64') else 'characters'}>"
        )
        assert row.meaning == ""
    assert PAN in table(message, unmask=True) and "12.50 CNY" in table(message, unmask=True)
    assert [row.path for row in rows(message, unmask=True)] == [
        row.path for row in rows(spec.decode(purchase), unmask=True)
    ]
    # A fault that leaves everything in its place hides nothing more.
    local = spec.decode(purchase.replace(b"10000001", b"1000000\0"), strict=False)
    assert not may_have_moved(local)
    assert "000000001250" in table(local) and "55.9F26" in table(local)


def test_differences_of_what_may_have_moved_are_named_but_not_shown(spec: Spec, purchase: bytes) -> None:
    left = spec.decode(purchase)
    right = spec.decode(left.patched({4: 1300, 55: bytes.fromhex("9F360200FF"), 60: None}) + b"?", strict=False)
    found = {one.path: one for one in differences(left, right)}
    assert list(found) == ["4", "55", "60"]
    assert (found["4"].left, found["4"].right) == ("000000001250", "<hidden, 12 characters>")
    assert found["55"].right == "<hidden, 5 bytes>"
    assert {one.path for one in differences(left, right, unmask=True)} >= {"4", "55.9F26", "55.9F36", "60"}
    (one,) = differences(right, spec.decode(bytes(right)[:-1] + b"!", strict=False))
    assert one.path == "message"


def test_headers_are_hidden_where_messages_may_start_elsewhere(spec: Spec, purchase: bytes) -> None:
    reader = spec.with_header("tpdu+pos6")
    header = bytes.fromhex(f"60{PAN}0000")
    sound, moved = reader.decode(header + purchase), reader.decode(header + purchase + b"?", strict=False)
    assert PAN[:8] in re.sub(r"\s", "", table(moved, unmask=True))
    for text in (table(moved), repr(moved), explain(reader, bytes(moved)).text):
        assert not secrets_in(text)
    assert [(row.path, row.value) for row in rows(moved)[:2]] == [
        ("tpdu", "<hidden, 5 bytes>"), ("header", "<hidden, 6 bytes>")
    ]  # fmt: skip
    assert [row.path for row in rows(sound)[:2]] == ["tpdu", "header"] and "<hidden" not in rows(sound)[0].value
    other = reader.decode(HEADER + purchase + b"?", strict=False)
    (one,) = differences(moved, other)
    assert (one.left, one.right, one.note) == ("<hidden, 11 bytes>",) * 2 + ("differs where it is hidden",)
    (one,) = differences(moved, other, unmask=True)
    assert one.left == header.hex(" ").upper()


def test_what_is_not_a_message_has_no_fields(spec: Spec, purchase: bytes) -> None:
    message = spec.decode(bytes.fromhex("3032" + PAN * 4), strict=False)
    (row,) = rows(message)
    assert (row.path, row.value, row.meaning) == ("message", "<hidden, 34 bytes>", "not a message")
    assert describe.title(message) == "not a message"
    (one,) = differences(spec.decode(purchase), message)
    assert (one.path, one.right) == ("message", "<hidden, 34 bytes>")
    assert rows(message, unmask=True)[0].value == "3032"
    assert len(differences(spec.decode(purchase), message, unmask=True)) > 1
    assert differences(message, spec.decode(bytes(message), strict=False)) == []


def test_even_a_tag_may_be_card_data(spec: Spec) -> None:
    definition = """
name = "tags"
mti_encoding = "bcd"
bitmap = "binary"
field_max = 64

[field.48]
name = "data"
content = "ans"
encoding = "ascii"
length_max = 200
length_prefix = "bcd3"
layout = "tlv"
tag_size = 8
value_prefix = "ascii3"
"""
    tagged = Spec(specfile.loads(definition))
    data = tagged.encode({0: "0200", 48: f"{PAN[:8]}003abc"})
    assert PAN[:8] in table(tagged.decode(data))
    moved = tagged.decode(data + b"?", strict=False)
    for text in (table(moved), repr(moved), explain(tagged, bytes(moved)).text):
        assert PAN[:7] not in text
    other = tagged.decode(tagged.encode({0: "0200", 48: f"{PAN[:8]}003abd"}))
    assert [one.path for one in differences(moved, other)] == ["48"]


# ---- explain -------------------------------------------------------------------------------------


def test_explain_shows_every_byte_of_what_may_be_seen(spec: Spec) -> None:
    reader = spec.with_header("tpdu+pos6")
    data = reader.encode({0: "0800", 11: "000001", 41: "10000001", 60: "00000001003"}, header=HEADER)
    explained = explain(reader, data)
    assert explained.sound
    shown = [line[6:30] for line in explained.text.splitlines()[3:]]
    assert bytes.fromhex("".join(shown).replace("|", "")) == data
    assert "0800 network management request · spec unionpay_pos · header tpdu+pos6 · 40 bytes" in explained.text
    assert "00 11|00 00 00 01 00 30" in explained.text  # the bar stands behind the length
    assert "签到" in explained.text
    assert re.search(r"0 +mti +0800\n +network management request\n", explained.text)


def test_explain_gives_each_object_its_bytes_and_its_bits(spec: Spec) -> None:
    icc = bytes.fromhex(f"95058000048000{'00' * 2}5A08{PAN}9F360200FF")
    lines = explain(spec, spec.encode({0: "0200", 55: icc})).text.splitlines()
    text = "\n".join(lines)
    assert "  12  95 05|80 00 04 80 00       55.95" in text
    assert "已输入联机PIN online PIN entered" in text
    hidden = next(line for line in lines if "55.5A" in line)
    assert hidden.startswith("  21  5A 08|** ** ** ** ** **") and hidden.endswith("<hidden, 8 bytes>")
    assert "  31  9F 36 02|00 FF" in text
    assert f"5A 08|{PAN[0:2]} {PAN[2:4]}" in explain(spec, spec.encode({0: "0200", 55: icc}), unmask=True).text


def test_explain_marks_the_place_and_ranks_the_causes(spec: Spec, purchase: bytes) -> None:
    explained = explain(spec, purchase[:-3])
    assert not explained.sound
    assert "✗ 64 " in explained.text
    assert f"✗ field 64 at byte {len(purchase) - 8}: the message ends inside the field [truncated]" in explained.text
    assert "    expected  8 bytes\n    got       5 bytes left, length prefix included" in explained.text
    assert "    1. the message seems to be cut off" in explained.text
    assert "--unmask" in explained.text
    # The numbers of the fields help; the bytes of a bitmap that is none might be a PAN.
    assert re.search(r"   2  \*\* \*\* .* 1 +bitmap +2 3 4 11 ", explained.text)


def test_explain_lists_everything_that_is_wrong(spec: Spec, purchase: bytes) -> None:
    data = bytearray(purchase)
    for wrong in (b"10000001", b"898100"):
        data[data.index(wrong)] = 1
    text = explain(spec, bytes(data)).text
    assert text.count("✗ expected printable characters, got a control character") == 2
    assert "  also\n    field 42 at byte" in text
    # No field has moved: what may be seen otherwise may be seen here.
    assert SHOWN in text and "000000001250" in text


def test_explain_shows_no_value_if_fields_may_have_moved(spec: Spec, purchase: bytes) -> None:
    # The length of the PAN is read as 8: its other digits are read as fields 3 and 4.
    data = purchase[:10] + b"\x08" + purchase[11:]
    text = explain(spec, data).text
    assert PAN[8:14] not in re.sub(r"\s", "", text)
    assert re.search(r" 3 +processing_code 交易处理码 +<hidden, 6 characters>", text)
    assert PAN[8:14] in re.sub(r"\s", "", explain(spec, data, unmask=True).text)


def test_explain_shows_nothing_of_what_is_not_a_message(spec: Spec) -> None:
    text = explain(spec, bytes.fromhex(PAN * 4)).text
    assert text.startswith("not a message · spec unionpay_pos · 32 bytes")
    assert not re.search(r"\d{3}", re.sub(r"\s", "", text.replace("32 bytes", ""))[: text.index("✗ ")])
    assert PAN[:4] not in text
    # One bit is in the error; all of them would be the bytes.
    text = explain(spec, b"0200" + bytes.fromhex(PAN * 4)).text
    assert "✗ field " in text and "also" not in text


@pytest.mark.parametrize("columns", [80, 100, 140])
def test_explain_fits(spec: Spec, purchase: bytes, columns: int) -> None:
    for data in (purchase, purchase[:100]):
        lines = explain(spec, data, width=columns).text.splitlines()
        assert max(width(line) for line in lines if "✗ field" not in line and "hidden:" not in line) <= max(columns, 90)


def test_explain_knows_bitmaps_in_text() -> None:
    for name, form in (("iso8583_1987_ascii", "hex"), ("iso8583_1987_ascii", "hex_ebcdic")):
        definition = replace(iso8583.load(name).definition, bitmap=form)
        spec = Spec(definition)
        data = spec.encode({0: "0800", 11: "000001", 70: "301"})
        assert "1 11 70" in explain(spec, data).text


def test_explain_survives_any_bytes(spec: Spec, purchase: bytes) -> None:
    dice = random.Random(8583)
    readers = [spec, spec.with_header("tpdu+pos6"), spec.with_header("cups"), iso8583.load("unionpay_cups")]
    for _ in range(300):
        data = bytearray(dice.choice([purchase, HEADER + purchase, dice.randbytes(40), b""]))
        for _ in range(dice.randrange(4)):
            if data:
                data[dice.randrange(len(data))] = dice.randrange(256)
        for unmask in (False, True):
            assert explain(dice.choice(readers), bytes(data), unmask=unmask).text


# ---- nothing of a card ---------------------------------------------------------------------------


def secrets_in(text: str) -> list[str]:
    """Seven digits of the PAN in a row are more than may be shown; so is any part of the rest."""
    dump = "".join(line[6:30] for line in text.splitlines())
    compact = re.sub(r"[\s|]", "", f"{text}\n{dump}").upper()
    ascii_pan = PAN.encode().hex()
    secrets = [PAN[at : at + 7] for at in range(10)]
    secrets += [ascii_pan[at : at + 14] for at in range(0, 20, 2)]
    secrets += ["0098765432", "1561560000", "01020304050607", "41424344454630", "6B657920"]
    return [secret for secret in secrets if secret.upper() in compact]


def damaged(data: bytes) -> Iterator[bytes]:
    for value in range(256):
        for at in range(2, 12):  # the bitmap, and the first length
            yield data[:at] + bytes([value]) + data[at + 1 :]
    for at in range(len(data)):
        for value in (0x00, 0x08, 0x19, 0xFA, data[at] ^ 0x01, data[at] ^ 0x80):
            yield data[:at] + bytes([value]) + data[at + 1 :]
        yield data[:at]
        yield data[:at] + data[at + 1 :]


def test_no_damage_brings_card_data_to_light(spec: Spec, purchase: bytes) -> None:
    seen: set[Any] = set()
    for data in damaged(purchase):
        explained = explain(spec, data)
        assert not secrets_in(explained.text), explained.text
        try:
            spec.decode(data)
        except iso8583.DecodeError as error:
            seen.add(error.code)
            assert not secrets_in(f"{error} {error!r}")
    assert {"truncated", "trailing", "length", "prefix", "content", "undefined", "mti"} <= seen


def test_the_secrets_are_there_to_be_found(spec: Spec, purchase: bytes) -> None:
    found = secrets_in(explain(spec, purchase, unmask=True).text)
    assert len(found) == 25


def prefix_bytes(spec: Spec, data: bytes) -> list[int]:
    """Offsets of all bytes that are part of a length."""
    message = spec.decode(data)
    found: list[int] = []
    for number in message:
        if number and (name := message.field(number).length_prefix) is not None:
            digits, form = PREFIXES[name]
            start, _ = message.span(number)
            found.extend(range(start, start + ((digits + 1) // 2 if form == "bcd" else digits)))
    return found


def shown_of(spec: Spec, data: bytes, sound: Any) -> Iterator[str]:
    """Everything that people are shown of a message without asking for more."""
    message = spec.decode(data, strict=False)
    yield repr(message)
    yield from (message.masked(number) for number in message)
    yield table(message, width=1000)
    found = differences(sound, message)
    yield f"{difference_table(found, 0, width=1000)} {found}"
    try:
        spec.decode(data)
    except iso8583.DecodeError as error:
        yield f"{error} {error!r}"
        if error.message is not None:
            yield repr(error.message)
            yield from (error.message.masked(number) for number in error.message)
            yield table(error.message, width=1000)


def test_no_misread_length_brings_card_data_to_light(spec: Spec, purchase: bytes) -> None:
    sound = spec.decode(purchase)
    places = prefix_bytes(spec, purchase)
    assert len(places) > 10
    faults = 0
    for at in places:
        for value in range(256):
            data = purchase[:at] + bytes([value]) + purchase[at + 1 :]
            faults += not spec.decode(data, strict=False).sound
            for text in (*shown_of(spec, data, sound), explain(spec, data).text):
                assert not secrets_in(text), (at, value, text)
    # A few are no fault: 15 digits for 16.
    assert faults > 255 * len(places) * 0.95


def test_no_other_damage_does_either(spec: Spec, purchase: bytes) -> None:
    sound = spec.decode(purchase)
    for data in random.Random(8583).sample(list(damaged(purchase)), 600):
        for text in shown_of(spec, data, sound):
            assert not secrets_in(text), (data.hex(), text)
