"""Trees of sub-fields: the fields of UnionPay that have them, and what must hold for every layout."""

import string
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iso8583 import _reference as reference
from iso8583 import nested, specfile
from iso8583.errors import DECODE_CODES, ENCODE_CODES, DecodeError, EncodeError
from iso8583.spec import NESTING_MAX, FieldSpec, Layout, SubSpec, Usage

PAN = "6222987654321097"

SPEC = specfile.loads(
    """
name = "test"
mti_encoding = "bcd"
bitmap = "binary"
field_max = 128

[field.46]
name = "cups_48"
content = "ans"
encoding = "ascii"
length_max = 512
length_prefix = "ascii3"
[[field.46.usage]]
when.starts = ["AS"]
layout = "positions"
sub.1 = { name = "usage", content = "an", length = 2 }
[field.46.usage.sub.2]
name = "as"
content = "ans"
length_max = 510
layout = "tlv"
tag_size = 2
value_prefix = "ascii3"
sub.OA = { name = "original_amount", content = "n", encoding = "ascii", length = 12 }
sub.IP = { content = "ans", encoding = "ascii", length_max = 99, repeat = true }

[field.48]
name = "private_48"
content = "n"
encoding = "bcd_left"
length_unit = "digits"
length_max = 322
length_prefix = "bcd3"
[[field.48.usage]]
label = "结算总额"
when = { mti = ["05x0"], length = [31, 62] }
layout = "positions"
[field.48.usage.sub.1]
name = "domestic"
content = "n"
length = 31
layout = "positions"
sub.1 = { name = "debit_amount", content = "n", length = 12 }
sub.2 = { name = "debit_count", content = "n", length = 3 }
sub.3 = { name = "credit_amount", content = "n", length = 12 }
sub.4 = { name = "credit_count", content = "n", length = 3 }
sub.5 = { name = "code", content = "n", length = 1 }
[field.48.usage.sub.2]
name = "foreign"
content = "n"
length = 31
optional = true
[[field.48.usage]]
label = "批上送明细"
when = { mti = ["0320"], field = { "60.3" = ["201"] } }
layout = "positions"
sub.1 = { name = "count", content = "n", length = 2 }
[field.48.usage.sub.2]
name = "records"
content = "n"
length = 40
times = "1"
layout = "positions"
sub.1 = { name = "card_class", content = "n", length = 2 }
sub.2 = { name = "stan", content = "n", length = 6 }
sub.3 = { name = "pan", content = "n", length = 20 }
sub.4 = { name = "amount", content = "n", length = 12 }
[[field.48.usage]]
label = "批上送结束"
when = { mti = ["0320"], field = { "60.3" = ["202", "207"] } }
layout = "positions"
sub.1 = { name = "total", content = "n", length = 4 }

[field.54]
name = "balance"
content = "ans"
encoding = "ascii"
length_max = 40
length_prefix = "bcd3"
layout = "positions"
[field.54.sub.1]
name = "blocks"
content = "ans"
length = 20
times = "rest"
layout = "positions"
sub.1 = { name = "account_type", content = "n", length = 2 }
sub.2 = { name = "amount_type", content = "n", length = 2 }
sub.3 = { name = "currency", content = "n", length = 3 }
sub.4 = { name = "amount", content = "xn", length = 13 }

[field.55]
name = "icc_data"
content = "b"
encoding = "binary"
length_max = 700
length_prefix = "bcd3"
sensitive = "icc"
layout = "ber_tlv"
sub.9F36 = { name = "atc", content = "b", encoding = "binary", length = 2 }
sub.9A = { name = "date", content = "n", encoding = "bcd_left", length_unit = "digits", length = 6 }
sub.9F1E = { name = "serial", content = "an", encoding = "ascii", length = 8 }
[field.55.sub.71]
name = "script_1"
layout = "ber_tlv"
sub.9F18 = { name = "script_id", content = "b", encoding = "binary", length = 4 }
sub.86 = { name = "command", repeat = true }
[field.55.sub.72]
name = "script_2"
layout = "ber_tlv"
repeat = true
sub.86 = { name = "command", repeat = true }

[field.57]
name = "reserved_57"
content = "b"
encoding = "binary"
length_max = 999
length_prefix = "bcd3"
layout = "tlv"
tag_size = 2
value_prefix = "ascii3"
[field.57.sub.A2]
name = "device"
layout = "tlv"
tag_size = 2
value_prefix = "ascii3"
unknown = "refuse"
sub.01 = { name = "type", content = "an", encoding = "ascii", length = 2 }
sub.05 = { name = "serial", content = "ans", encoding = "ascii", length_min = 9, length_max = 50 }
sub.07 = { name = "cipher", content = "b", encoding = "binary", length = 8 }

[field.60]
name = "reserved_60"
content = "n"
encoding = "bcd_left"
length_unit = "digits"
length_max = 19
length_prefix = "bcd3"
layout = "positions"
sub.1 = { name = "type", content = "n", length = 2 }
sub.2 = { name = "batch", content = "n", length = 6 }
sub.3 = { name = "network_code", content = "n", length = 3, optional = true }
sub.4 = { name = "read_capability", content = "n", length = 1, optional = true }
sub.5 = { name = "icc_condition", content = "n", length = 1, optional = true }

[field.61]
name = "original"
content = "n"
encoding = "bcd_left"
length_unit = "digits"
length_max = 29
length_prefix = "bcd3"
layout = "positions"
sub.1 = { name = "batch", content = "n", length = 6 }
sub.2 = { name = "stan", content = "n", length = 6 }
sub.3 = { name = "date", content = "n", length = 4, optional = true }
sub.4 = { name = "authorization_mode", content = "n", length = 2, optional = true }
sub.5 = { name = "authorizer", content = "n", length_min = 1, length_max = 11, optional = true }

[field.62]
name = "reserved_62"
content = "b"
encoding = "binary"
length_max = 999
length_prefix = "bcd3"
[[field.62.usage]]
label = "工作密钥"
when = { mti = ["0810"], field = { "60.3" = ["001"] }, length = [24] }
layout = "positions"
sub.1 = { name = "pin_key", content = "b", length = 8 }
sub.2 = { name = "pin_check", content = "b", length = 4 }
sub.3 = { name = "mac_key", content = "b", length = 8 }
sub.4 = { name = "mac_check", content = "b", length = 4 }
[[field.62.usage]]
label = "双倍长工作密钥"
when = { mti = ["0810"], length = [40] }
layout = "positions"
sub.1 = { name = "pin_key", content = "b", length = 16 }
sub.2 = { name = "pin_check", content = "b", length = 4 }
sub.3 = { name = "mac_key", content = "b", length = 16 }
sub.4 = { name = "mac_check", content = "b", length = 4 }
[[field.62.usage]]
label = "参数下载"
when = { mti = ["0810"], field = { "60.3" = ["360"] } }
layout = "tlv"
tag_size = 2
unknown = "refuse"
sub.11 = { name = "application", content = "n", encoding = "ascii", length = 2 }
sub.12 = { name = "timeout_s", content = "n", encoding = "ascii", length = 2 }
sub.13 = { name = "redials", content = "n", encoding = "ascii", length = 1 }
sub.22 = { name = "merchant", content = "ans", encoding = "gbk", length = 40, pad_side = "right", pad_character = " " }
[[field.62.usage]]
label = "IC卡参数"
when = { mti = ["08xx"], field = { "60.3" = ["370", "380"] } }
layout = "positions"
sub.1 = { name = "status", content = "n", encoding = "ascii", length = 1 }
[field.62.usage.sub.2]
name = "records"
content = "b"
length_max = 998
layout = "ber_tlv"
sub.9F06 = { repeat = true }
sub.9F22 = { repeat = true }
sub.DF05 = { content = "n", encoding = "ascii", length = 8, repeat = true }
[[field.62.usage]]
label = "终端序列号"
when = { mti = ["0800"], starts = ["53657175656E6365204E6F"] }
layout = "positions"
sub.1 = { name = "word", content = "ans", encoding = "ascii", length = 11 }
sub.2 = { name = "serial", content = "an", encoding = "ascii", length_max = 99, length_prefix = "ascii2" }

[field.63]
name = "reserved_63"
content = "ans"
encoding = "gbk"
length_max = 163
length_prefix = "bcd3"
layout = "positions"
sub.1 = { name = "brand", content = "an", encoding = "ascii", length = 3 }
sub.2 = { name = "text", content = "ans", length_max = 160, optional = true }

[field.127]
name = "private_127"
content = "b"
encoding = "binary"
length_max = 999
length_prefix = "ascii6"
layout = "bitmap"
bitmap_size = 8
sub.2 = { name = "switch_key", content = "ans", encoding = "ascii", length_max = 32, length_prefix = "ascii2" }
sub.3 = { name = "routing", content = "ans", encoding = "ascii", length = 12 }
sub.64 = { content = "n", encoding = "bcd_left", length_unit = "digits", length = 3 }
[field.127.sub.25]
name = "structured"
content = "b"
length_max = 200
length_prefix = "ascii3"
layout = "bitmap"
bitmap = "hex"
bitmap_size = 2
sub.2 = { name = "amount", content = "n", encoding = "ascii", length = 4 }
sub.16 = { content = "b", encoding = "hex", length = 2 }
"""
)

AT = 100  # where the fields below lie in their message, length prefix included


class Message:
    """A field of SPEC in a message."""

    def __init__(self, number: int, mti: str = "0200", **others: str) -> None:
        self.field = SPEC.by_number[number]
        self.path = str(number)
        self.mti = mti
        self.others = {path.replace("_", "."): value for path, value in others.items()}  # f60_3 would be 60.3

    def look(self, path: str) -> str | bytes | None:
        return self.others.get(f"f{path}")

    def parts(self, value: str | bytes) -> tuple[Layout, bytes, dict[str, Any]]:
        layout, _ = nested.layout_of(self.field, self.mti, self.look, value)
        assert layout is not None
        data, base, step = nested.inside(self.field, value, reference.write_value(self.field, value, self.path), AT)
        return layout, data, {"path": self.path, "base": base, "step": step, "mti": self.mti, "look": self.look}

    def read(self, value: str | bytes) -> dict[str, Any]:
        layout, data, keys = self.parts(value)
        tree = nested.decode_tree(layout, data, **keys)
        assert nested.check_tree(layout, data, **keys) == []
        assert nested.encode_field(self.field, tree, self.mti, self.look, path=self.path) == data
        return tree

    def faults(self, value: str | bytes) -> list[tuple[str, str, int]]:
        layout, data, keys = self.parts(value)
        faults = nested.check_tree(layout, data, **keys)
        with pytest.raises(DecodeError) as caught:
            nested.decode_tree(layout, data, **keys)
        assert shape(caught.value) == shape(faults[0])
        return [shape(fault) for fault in faults]

    def fault(self, value: str | bytes) -> tuple[str, str, int]:
        (only,) = self.faults(value)
        return only

    def lookup(self, value: str | bytes, path: str) -> Any:
        layout, data, keys = self.parts(value)
        return nested.lookup(layout, data, path.split("."), **keys)

    def write(self, tree: Any) -> bytes:
        return nested.encode_field(self.field, tree, self.mti, self.look, path=self.path)

    def refusal(self, tree: Any) -> tuple[str, str]:
        with pytest.raises(EncodeError) as caught:
            self.write(tree)
        return caught.value.code, caught.value.path


def shape(error: DecodeError) -> tuple[str, str, int]:
    return error.code, error.path, error.offset


# ---- positions, in packed digits -----------------------------------------------------------------

TOTALS = "000000012500" + "002" + "000000000000" + "000" + "0"


def test_settlement_totals() -> None:
    message = Message(48, "0500")
    tree = message.read(TOTALS + "1" * 31)
    assert tree == {
        "1": {"1": "000000012500", "2": "002", "3": "000000000000", "4": "000", "5": "0"},
        "2": "1" * 31,
    }
    assert message.lookup(TOTALS + "1" * 31, "domestic.debit_amount") == "000000012500"
    assert message.lookup(TOTALS, "1") == TOTALS
    # One half alone is legal when cards are not split, and numbers may be given as such.
    assert list(message.read(TOTALS)) == ["1"]
    halves = {"debit_amount": 12500, "debit_count": 2, "credit_amount": 0, "credit_count": 0, "code": 0}
    assert message.write({"domestic": halves}) == TOTALS.encode()
    with pytest.raises(KeyError):
        message.lookup(TOTALS, "foreign")
    with pytest.raises(KeyError):
        message.lookup(TOTALS, "domestic.tip")


def test_a_half_that_is_given_as_one_value_is_looked_at_too() -> None:
    message = Message(48, "0500")
    assert message.write({"domestic": TOTALS}) == TOTALS.encode()
    assert message.refusal({"domestic": TOTALS[:-1]}) == ("length", "48.1")
    inner = positions(sub("1", "n", "ascii", 2), sub("2", "b", "hex", 1))
    outer = SubSpec(
        key="1", name="", content="b", encoding="binary", length_min=0, length_max=9, length_prefix="ascii1",
        layout=inner,
    )  # fmt: skip
    for value, fault in (
        (b"1", ("length", "48.1.1")),
        (b"120", ("length", "48.1.2")),
        (b"120000", ("length", "48.1")),
        (b"1x00", ("content", "48.1.1")),
    ):
        with pytest.raises(EncodeError) as caught:
            nested.encode_tree(positions(outer), {"1": value}, path="48")
        assert (caught.value.code, caught.value.path) == fault
        assert caught.value.__context__ is None  # it would hold the value
    assert nested.encode_tree(positions(outer), {"1": b"12FF"}, path="48") == b"412FF"


def test_another_message_has_no_totals() -> None:
    for mti, value in (("0200", TOTALS), ("0500", "1234")):
        assert nested.layout_of(SPEC.by_number[48], mti, lambda path: None, value) == (None, None)


RECORD = "00" + "000123" + f"0000{PAN}" + "000000001250"


def test_batch_records_are_counted() -> None:
    message = Message(48, "0320", f60_3="201")
    value = "02" + RECORD + "01" + RECORD[2:]
    tree = message.read(value)
    assert tree["1"] == "02"
    assert tree["2"][0] == {"1": "00", "2": "000123", "3": f"0000{PAN}", "4": "000000001250"}
    assert tree["2"][1]["1"] == "01"
    assert message.lookup(value, "records") == [RECORD, "01" + RECORD[2:]]
    assert message.lookup(value, "records[2].pan") == f"0000{PAN}"
    assert message.lookup(value, "2[2]") == "01" + RECORD[2:]
    with pytest.raises(KeyError, match=r"records\[1\]"):
        message.lookup(value, "records.pan")
    for part in ("records[3]", "records[0]", "records[x]", "count[1]"):
        with pytest.raises(KeyError):
            message.lookup(value, part)
    assert message.lookup("01" + RECORD, "records.pan") == f"0000{PAN}"
    # The count is filled in.
    assert message.write({"records": tree["2"]}) == value.encode()
    assert message.read("00") == {"1": "00", "2": []}
    assert message.write({"records": []}) == b"00"
    assert message.lookup("00", "records") == []
    with pytest.raises(KeyError):
        message.lookup("00", "records[1]")


def test_batch_records_that_do_not_fit_their_count() -> None:
    message = Message(48, "0320", f60_3="201")
    # All inside a packed field is blamed on its first byte.
    assert message.fault("02" + RECORD) == ("truncated", "48.2[2]", AT)
    assert message.fault("02" + RECORD + "00") == ("truncated", "48.2[2]", AT)
    assert message.fault("00" + RECORD) == ("trailing", "48", AT)
    assert message.fault("0") == ("truncated", "48.1", AT)
    record = dict(zip("1234", ("00", "000123", "1", "1"), strict=True))
    assert message.refusal({"1": 3, "2": []}) == ("length", "48.1")
    assert message.refusal({"1": "xx", "2": []}) == ("length", "48.1")
    assert message.refusal({"2": [record]}) == ("length", "48.2[1].3")
    assert message.refusal({"2": record}) == ("type", "48.1")


def test_the_end_of_a_batch_is_another_usage() -> None:
    message = Message(48, "0320", f60_3="207")
    _, usage = nested.layout_of(message.field, "0320", message.look, "0017")
    assert usage is not None and usage.label == "批上送结束"
    assert message.read("0017") == {"1": "0017"}


@pytest.mark.parametrize(
    ("value", "tree"),
    [
        ("22000001", {"1": "22", "2": "000001"}),
        ("22000001000", {"1": "22", "2": "000001", "3": "000"}),
        ("2200000100060", {"1": "22", "2": "000001", "3": "000", "4": "6", "5": "0"}),
    ],
)
def test_field_60_ends_where_it_ends(value: str, tree: dict[str, str]) -> None:
    message = Message(60)
    assert message.read(value) == tree
    assert message.lookup(value, "batch") == message.lookup(value, "2") == "000001"


def test_field_60_that_ends_elsewhere() -> None:
    message = Message(60)
    assert message.fault("2200000") == ("truncated", "60.2", AT)
    assert message.fault("2200000100") == ("truncated", "60.3", AT)
    assert message.fault("22000001000601") == ("trailing", "60", AT)
    with pytest.raises(DecodeError) as caught:
        message.lookup("2200000100", "network_code")
    assert shape(caught.value) == ("truncated", "60.3", AT)
    # What is asked for stands in front of the fault.
    assert message.lookup("2200000100", "type") == "22"


def test_field_60_is_written_without_gaps() -> None:
    message = Message(60)
    assert message.write({"type": 22, "batch": 1, "network_code": None}) == b"22000001"
    assert message.write({1: "22", 2: "000001", 3: "000"}) == b"22000001000"
    assert message.write({"BATCH": 1, "1": "22"}) == b"22000001"
    assert message.refusal({"type": 22}) == ("missing", "60.2")
    assert message.refusal({"type": 22, "batch": 1, "read_capability": 6}) == ("missing", "60.3")
    assert message.refusal({"type": 22, "batch": 1, "2": 1}) == ("duplicate", "60.2")
    assert message.refusal({"type": 22, "bach": 1}) == ("undefined", "60.bach")
    assert message.refusal({"type": 22, "batch": 1, True: 1}) == ("undefined", "60.True")
    assert message.refusal({"type": 22, "batch": 1, PAN: 1}) == ("undefined", "60.?")
    assert message.refusal({"type": "2A", "batch": 1}) == ("content", "60.1")
    assert message.refusal([("type", 22)]) == ("type", "60")
    assert message.refusal(22) == ("type", "60")


def test_field_61_ends_in_a_sub_field_that_takes_the_rest() -> None:
    message = Message(61)
    assert message.read("100029000126") == {"1": "100029", "2": "000126"}
    assert message.read("1000290001260626") == {"1": "100029", "2": "000126", "3": "0626"}
    assert message.read("100029000126062600" + "1234567")["5"] == "1234567"
    assert message.write({"1": 100029, "2": 126, "3": 626, "4": "00", "5": "1234567"})[-9:] == b"001234567"
    assert message.refusal({"1": 1, "2": 2, "3": 3, "4": 4, "5": ""}) == ("length", "61.5")


# ---- positions, in bytes -------------------------------------------------------------------------


def test_balances_are_blocks_of_20_characters() -> None:
    message = Message(54)
    value = "3001156C000001797100" + "3002156D000000481093"
    tree = message.read(value)
    assert tree == {
        "1": [
            {"1": "30", "2": "01", "3": "156", "4": "C000001797100"},
            {"1": "30", "2": "02", "3": "156", "4": "D000000481093"},
        ]
    }
    assert message.lookup(value, "blocks[2].amount") == "D000000481093"
    assert message.read("") == {"1": []}
    assert message.write({}) == b""
    assert message.fault(value[:25]) == ("truncated", "54.1[2]", AT + 2 + 20)
    assert message.fault(value[:27] + "E" + value[28:]) == ("content", "54.1[2].4", AT + 2 + 27)
    # Both faults, although they are in different blocks.
    both = value[:2] + "xx" + value[4:27] + "E" + value[28:]
    assert [path for _, path, _ in message.faults(both)] == ["54.1[1].2", "54.1[2].4"]


def test_field_63_is_text_in_chinese() -> None:
    message = Message(63)
    assert message.read("CUP") == {"1": "CUP"}
    assert message.read("VIS银联") == {"1": "VIS", "2": "银联"}
    assert message.write({"brand": "VIS", "text": "银联"}) == "VIS银联".encode("gbk")
    assert message.lookup("VIS银联", "text") == "银联"
    # The first of two: the brand cuts a character in two.
    assert message.faults("银联") == [("content", "63.1", AT + 2), ("text", "63.2", AT + 2 + 3)]
    assert message.refusal({"brand": "VIS", "text": "😀"}) == ("text", "63.2")


# ---- field 62: one of many -----------------------------------------------------------------------


def test_keys_by_length_and_message_type() -> None:
    short, long = bytes(range(24)), bytes(range(40))
    assert Message(62, "0810", f60_3="001").read(short)["3"] == short[12:20]
    assert Message(62, "0810", f60_3="003").read(long)["1"] == long[:16]
    for mti, value in (("0800", long), ("0810", short), ("0810", long[:39])):
        message = Message(62, mti, f60_3="003")
        assert nested.layout_of(message.field, mti, message.look, value) == (None, None)


def test_a_tree_is_written_as_the_usage_that_fits_it() -> None:
    message = Message(62, "0810", f60_3="001")
    keys = {"pin_key": bytes(16), "pin_check": bytes(4), "mac_key": bytes(16), "mac_check": bytes(4)}
    assert message.write(keys) == bytes(40)
    assert message.write({**keys, "pin_key": bytes(8), "mac_key": bytes(8)}) == bytes(24)
    # Of the errors of two usages, that of the first.
    assert message.refusal({**keys, "pin_key": bytes(8)}) == ("length", "62.3")
    assert Message(62, "0210").refusal(keys) == ("type", "62")


def test_a_tree_that_would_be_read_as_another_usage_is_refused() -> None:
    starts = Usage(starts=("A",), layout=positions(sub("1", "an", "ascii", 1)))
    field = FieldSpec(
        number=48, name="f", content="an", encoding="ascii", length_min=0, length_max=9, length_prefix="ascii1",
        layout=positions(sub("1", "an", "ascii", 2)), usages=(starts,),
    )  # fmt: skip
    assert nested.encode_field(field, {"1": "BC"}, "0200", lambda path: None, path="48") == b"BC"
    assert nested.encode_field(field, {"1": "A"}, "0200", lambda path: None, path="48") == b"A"
    with pytest.raises(EncodeError) as caught:
        nested.encode_field(field, {"1": "B"}, "0200", lambda path: None, path="48")
    assert caught.value.code == "content"
    with pytest.raises(EncodeError) as caught:
        nested.encode_field(field, {"1": "AB"}, "0200", lambda path: None, path="48")
    assert caught.value.code == "length"


def test_parameters_of_fixed_lengths() -> None:
    message = Message(62, "0810", f60_3="360")
    value = b"1101" + b"1260" + "22国网缴费".encode("gbk").ljust(42) + b"133"
    tree = message.read(value)
    assert tree == {"11": "01", "12": "60", "22": "国网缴费" + " " * 32, "13": "3"}
    assert message.lookup(value, "timeout_s") == "60"
    given = {"application": 1, "12": 60, "merchant": "国网缴费", "redials": 3}
    assert message.write(given) == value
    assert message.fault(b"110199") == ("undefined", "62.99", AT + 2 + 4)
    assert message.fault(b"1101121") == ("tlv", "62.12", AT + 2 + 4)
    assert message.fault(b"11011") == ("tlv", "62", AT + 2 + 4)
    assert message.fault(b"11011101") == ("duplicate", "62.11", AT + 2 + 4)
    assert message.fault(b"110x") == ("content", "62.11", AT + 2)
    assert message.refusal({"14": "1"}) == ("undefined", "62.14")


def test_ic_parameters_repeat_their_tags() -> None:
    message = Message(62, "0810", f60_3="370")
    value = b"1" + bytes.fromhex("9F0605A000000333 9F0605A000000333 9F220101 9F220102")
    value += b"\xdf\x05\x0820301231" * 2
    tree = message.read(value)
    assert tree["1"] == "1"
    assert tree["2"]["9F22"] == [b"\x01", b"\x02"]
    assert tree["2"]["DF05"] == ["20301231", "20301231"]
    assert message.lookup(value, "records.9f22[2]") == b"\x02"


def test_a_terminal_says_its_serial() -> None:
    message = Message(62, "0800")
    value = b"Sequence No12306123456789"
    assert message.read(value) == {"1": "Sequence No", "2": "306123456789"}
    assert nested.layout_of(message.field, "0800", message.look, b"sequence no12") == (None, None)


# ---- tags ----------------------------------------------------------------------------------------


def test_field_57_nests() -> None:
    message = Message(57)
    value = b"A1016" + bytes(range(16)) + b"A2037" + b"0100202" + b"05012000001019999" + b"07008" + b"\x01" * 8
    value += b"A4003abc"
    tree = message.read(value)
    assert tree == {
        "A1": bytes(range(16)),
        "A2": {"01": "02", "05": "000001019999", "07": b"\x01" * 8},
        "A4": b"abc",
    }
    assert message.lookup(value, "device.serial") == message.lookup(value, "A2.05") == "000001019999"
    assert message.lookup(value, "A4") == b"abc"
    for path in ("A3", "a4", "A2.06", "A4.01", "A1[1]"):
        with pytest.raises(KeyError):
            message.lookup(value, path)
    assert message.write([("A1", bytes(range(16))), ("device", tree["A2"]), ("A4", b"abc")]) == value


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (b"A4003abcA", ("tlv", "57", 8)),
        (b"A4003abcA5", ("tlv", "57.A5", 8)),
        (b"A4003ab", ("tlv", "57.A4", 0)),
        (b"A400xabc", ("prefix", "57.A4", 0)),
        (b"\xa4\x00003abc", ("tlv", "57", 0)),
        (b"A4003abcA4003abc", ("duplicate", "57.A4", 8)),
        (b"A400010000000", ("tlv", "57.00", 10)),
        (b"A200806000", ("tlv", "57.A2", 0)),
        (b"A2009060041234", ("undefined", "57.A2.06", 5)),
        (b"A20070100302", ("tlv", "57.A2.01", 5)),
        (b"A20080100302x", ("length", "57.A2.01", 5)),
        (b"A2006010011", ("length", "57.A2.01", 5)),
        (b"A2013050081234567\x07", ("length", "57.A2.05", 5)),
        (b"A20070100202A20070100202", ("duplicate", "57.A2", 12)),
    ],
)
def test_tags_that_do_not_fit(value: bytes, fault: tuple[str, str, int]) -> None:
    code, path, offset = fault
    assert Message(57).faults(value)[0] == (code, path, AT + 2 + offset)


def test_all_faults_of_a_tree_are_found() -> None:
    value = b"A2013" + b"01002\xff1" + b"060019" + b"A4000A4000" + b"A5"
    assert Message(57).faults(value) == [
        ("content", "57.A2.01", AT + 2 + 5),
        ("undefined", "57.A2.06", AT + 2 + 12),
        ("duplicate", "57.A4", AT + 2 + 23),
        ("tlv", "57.A5", AT + 2 + 28),
    ]


def test_tags_are_refused_on_writing() -> None:
    message = Message(57)
    assert message.refusal({"A": b""}) == ("tlv", "57.A")
    assert message.refusal({"A银": b""}) == ("tlv", "57.A银")
    assert message.refusal({"A1": "text"}) == ("type", "57.A1")
    assert message.refusal({"A1": {"01": b""}}) == ("type", "57.A1")
    assert message.refusal({"A1": bytes(1000)}) == ("length", "57.A1")
    assert message.refusal({1: b""}) == ("type", "57")
    assert message.refusal({"A2": {"06": b""}}) == ("undefined", "57.A2.06")
    assert message.refusal([("A1", b""), ("A1", b"")]) == ("duplicate", "57.A1")
    assert message.refusal([("A2", {}), ("device", {})]) == ("duplicate", "57.A2")
    assert message.refusal(["A1"]) == ("type", "57")
    assert message.refusal("A1") == ("type", "57")
    assert message.write([("A1", None), ("A1", b"")]) == b"A1000"


def test_cups_48_has_a_usage_and_then_tags() -> None:
    message = Message(46)
    value = "ASOA012000000012345IP002abIP002cd"
    assert message.read(value) == {"1": "AS", "2": {"OA": "000000012345", "IP": ["ab", "cd"]}}
    assert message.lookup(value, "AS.OA") == message.lookup(value, "2.OA") == "000000012345"
    assert message.lookup(value, "as.IP") == ["ab", "cd"]
    assert message.write({"usage": "AS", "as": {"OA": 12345, "IP": ["ab", "cd"]}}) == value.encode()
    assert message.write({"usage": "AS", "as": [("IP", "ab"), ("OA", 1), ("IP", "cd")]})[:9] == b"ASIP002ab"
    assert message.refusal({"usage": "AS", "as": {"IP": b"ab"}}) == ("type", "46.2.IP[1]")
    assert message.refusal({"usage": "FD", "as": {}}) == ("content", "46")
    assert message.fault("ASOA01200000001234x") == ("content", "46.2.OA", AT + 3 + 2)
    assert message.fault("ASOA0110000000123") == ("tlv", "46.2.OA", AT + 3 + 2)
    assert message.fault("ASIP002abIP003ab") == ("tlv", "46.2.IP", AT + 3 + 2 + 7)


# ---- BER-TLV -------------------------------------------------------------------------------------

SCRIPT = "7114 9F180401020304 86020A0B 8607 01020304050607"
EMV = bytes.fromhex("9F3602002A 9A03251231 5F2A020156" + SCRIPT)


def test_scripts_repeat_their_commands() -> None:
    message = Message(55)
    tree = message.read(EMV)
    assert tree == {
        "9F36": b"\x00\x2a",
        "9A": "251231",
        "5F2A": b"\x01\x56",
        "71": {"9F18": b"\x01\x02\x03\x04", "86": [b"\x0a\x0b", bytes(range(1, 8))]},
    }
    assert list(tree) == ["9F36", "9A", "5F2A", "71"]
    assert message.lookup(EMV, "9f36") == message.lookup(EMV, "atc") == b"\x00\x2a"
    assert message.lookup(EMV, "71.86") == [b"\x0a\x0b", bytes(range(1, 8))]
    assert message.lookup(EMV, "script_1.command[2]") == bytes(range(1, 8))
    assert message.lookup(EMV, "71.9F18") == b"\x01\x02\x03\x04"
    assert message.lookup(EMV, "71") == EMV[-20:]
    assert message.write([("71", [("86", b"1"), ("9F18", bytes(4)), ("86", b"2")])]) == bytes.fromhex(
        "710D 860131 9F180400000000 860132"
    )


def test_one_of_what_may_be_several_needs_no_list_on_writing() -> None:
    message = Message(55)
    value = bytes.fromhex("7203860101")
    for tree in ({"72": {"86": b"\x01"}}, {"72": value[2:]}, {"script_2": {"command": [b"\x01"]}}):
        assert message.write(tree) == value
    assert message.read(value) == {"72": [{"86": [b"\x01"]}]}
    assert message.write({"72": None}) == message.write({"72": []}) == b""
    # A list is always one of values, never one value that is written as pairs.
    assert message.refusal({"72": [("86", b"\x01")]}) == ("type", "55.72[1]")
    message = Message(46)
    assert message.write({"1": "AS", "2": {"IP": "ab"}}) == b"ASIP002ab"
    assert message.read("ASIP002ab") == {"1": "AS", "2": {"IP": ["ab"]}}


def test_scripts_may_be_several() -> None:
    message = Message(55)
    value = bytes.fromhex("7203860101 7203860102")
    assert message.read(value) == {"72": [{"86": [b"\x01"]}, {"86": [b"\x02"]}]}
    assert message.lookup(value, "72") == [bytes.fromhex("860101"), bytes.fromhex("860102")]
    assert message.lookup(value, "72[2].86") == [b"\x02"]
    assert message.lookup(value[:5], "72.86[1]") == b"\x01"
    with pytest.raises(KeyError, match=r"72\[1\]"):
        message.lookup(value, "72.86")
    assert message.fault(value[:8] + b"\x02" + value[9:]) == ("tlv", "55.72[2].86", AT + 2 + 7)


def test_a_template_that_nobody_described_stays_bytes() -> None:
    message = Message(55)
    value = bytes.fromhex("E108 C10101 E203C20102")
    assert message.read(value) == {"E1": value[2:]}
    # But whoever asks for what is in it gets it.
    assert message.lookup(value, "E1.C1") == b"\x01"
    assert message.lookup(value, "e1.e2.c2") == b"\x02"
    assert message.write({"E1": {"C1": b"\x01", "E2": {"C2": b"\x02"}}}) == value
    for path in ("E1.C3", "E1.C1.C2", "9F36.C1"):
        with pytest.raises(KeyError):
            message.lookup(EMV + value, path)
    with pytest.raises(DecodeError) as caught:
        message.lookup(bytes.fromhex("E103C102FF"), "E1.C1")
    assert shape(caught.value) == ("tlv", "55.E1.C1", AT + 2 + 2)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("7105 9F18020102", ("length", "55.71.9F18", 2)),
        ("7105 9F18030102", ("tlv", "55.71.9F18", 2)),
        ("7103 860281", ("tlv", "55.71.86", 2)),
        ("7102 8680", ("tlv", "55.71.86", 2)),
        ("7104 86810101", ("canonical", "55.71.86", 2)),
        ("7102 9F18", ("tlv", "55.71", 2)),
        ("7105 9F8181 8100", ("tlv", "55.71", 2)),
        ("7101 86", ("tlv", "55.71", 2)),
        ("7102 8682", ("tlv", "55.71.86", 2)),
        ("7104 9500 9500", ("duplicate", "55.71.95", 4)),
        ("9F36 0100", ("length", "55.9F36", 0)),
        ("9F36 03000000", ("length", "55.9F36", 0)),
        ("820111 9A03251A31", ("content", "55.9A", 3)),
        ("820111 9F1E0831323334353637FF", ("content", "55.9F1E", 3)),
        ("000000 7202 8601", ("tlv", "55.72[1].86", 5)),
        ("7200 7202 8601", ("tlv", "55.72[2].86", 4)),
    ],
)
def test_objects_that_do_not_fit(value: str, fault: tuple[str, str, int]) -> None:
    code, path, offset = fault
    assert Message(55).fault(bytes.fromhex(value)) == (code, path, AT + 2 + offset)


def test_objects_are_refused_on_writing() -> None:
    message = Message(55)
    assert message.refusal({"9F36": b"1"}) == ("length", "55.9F36")
    assert message.refusal({"9F36": b"12", "atc": b"12"}) == ("duplicate", "55.9F36")
    assert message.refusal({"9F": b""}) == ("tlv", "55.9F")
    assert message.refusal({"9F 37": b""}) == ("tlv", "55.9F 37")
    assert message.refusal({"00": b""}) == ("tlv", "55.00")
    assert message.refusal({"8201": b""}) == ("tlv", "55.8201")
    assert message.refusal({"9F81818101": b""}) == ("tlv", "55.?")
    assert message.refusal({"": b""}) == ("tlv", "55.")
    assert message.refusal({"82": {"C1": b""}}) == ("type", "55.82")
    assert message.refusal({"82": bytes(65536)}) == ("length", "55.82")
    assert message.refusal({"71": {"86": "1"}}) == ("type", "55.71.86[1]")
    assert message.refusal({"71": b"\x86\x02\x01"}) == ("tlv", "55.71.86")
    assert message.refusal({"71": b"\x86\x81\x01\x01"}) == ("canonical", "55.71.86")
    assert message.refusal({"71": b"\x95\x00\x95\x00"}) == ("duplicate", "55.71.95")
    assert message.refusal({"71": b"\x9f\x18\x01\x00"}) == ("length", "55.71.9F18")
    assert message.refusal({"71": [("9F18", b"1234"), ("9F18", b"1234")]}) == ("duplicate", "55.71.9F18")
    assert message.refusal({"71": 5}) == ("type", "55.71")
    assert message.refusal({"71": "8600"}) == ("type", "55.71")
    assert message.write({"71": b"\x86\x01\x01", "82": None, "9a": 251231}) == bytes.fromhex("7103860101 9A03251231")


@pytest.mark.parametrize(("size", "head"), [(0x7F, "827F"), (0x80, "828180"), (0xFF, "8281FF"), (0x100, "82820100")])
def test_lengths_take_their_shortest_form(size: int, head: str) -> None:
    layout = Layout(kind="ber_tlv")
    data = nested.encode_tree(layout, {"82": bytes(size)}, path="55")
    assert data == bytes.fromhex(head) + bytes(size)
    assert nested.decode_tree(layout, data, path="55", base=0) == {"82": bytes(size)}


def test_padding_is_read_and_not_written() -> None:
    layout = Layout(kind="ber_tlv")
    tree = nested.decode_tree(layout, bytes.fromhex("00 8201FF 0000 9500 00"), path="55", base=0)
    assert tree == {"82": b"\xff", "95": b""}
    assert nested.encode_tree(layout, tree, path="55") == bytes.fromhex("8201FF 9500")


def test_a_layout_may_refuse_what_it_does_not_know() -> None:
    layout = Layout(kind="ber_tlv", subs=(sub("82", "b", "binary", 1),), unknown="refuse")
    with pytest.raises(DecodeError) as caught:
        nested.decode_tree(layout, bytes.fromhex("8201FF 9F3600"), path="55", base=7)
    assert shape(caught.value) == ("undefined", "55.9F36", 10)
    with pytest.raises(EncodeError) as refused:
        nested.encode_tree(layout, {"9F36": b""}, path="55")
    assert (refused.value.code, refused.value.path) == ("undefined", "55.9F36")


# ---- bitmaps -------------------------------------------------------------------------------------


def test_field_127_has_a_bitmap_of_its_own() -> None:
    message = Message(127)
    inner = b"4001" + b"1250" + b"0AFF"
    value = bytes.fromhex("4000008000000001") + b"05abcde" + b"012" + inner + bytes.fromhex("1230")
    tree = message.read(value)
    assert tree == {"2": "abcde", "25": {"2": "1250", "16": b"\x0a\xff"}, "64": "123"}
    assert message.lookup(value, "structured.amount") == "1250"
    assert message.lookup(value, "64") == "123"
    assert message.write({"64": 123, "switch_key": "abcde", "structured": {"16": b"\x0a\xff", "amount": 1250}}) == value
    with pytest.raises(KeyError):
        message.lookup(value, "routing")
    with pytest.raises(KeyError):
        message.lookup(value, "4")
    assert message.read(bytes(8)) == {}
    assert message.refusal({"4": ""}) == ("undefined", "127.4")
    assert message.refusal({"3": "short"}) == ("length", "127.3")


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (bytes(7), ("truncated", "127", 0)),
        (bytes.fromhex("4000000000000000") + b"05abcd", ("truncated", "127.2", 8)),
        (bytes.fromhex("4000000000000000") + b"0xabcd", ("prefix", "127.2", 8)),
        (bytes.fromhex("4000000000000000") + b"33abcd", ("length", "127.2", 8)),
        # Before field 2, which is cut off, and where its bit is.
        (bytes.fromhex("4000000001000000") + b"05", ("undefined", "127.40", 4)),
        (bytes.fromhex("0000000000000000") + b"x", ("trailing", "127", 8)),
        (bytes.fromhex("0000008000000000") + b"004000G", ("bitmap", "127.25", 11)),
        (bytes.fromhex("0000008000000000") + b"00400 0", ("bitmap", "127.25", 11)),
        (bytes.fromhex("0000008000000000") + b"0040\xff00", ("bitmap", "127.25", 11)),
        (bytes.fromhex("0000008000000000") + b"003000", ("truncated", "127.25", 11)),
        (bytes.fromhex("0000008000000000") + b"0040100", ("undefined", "127.25.8", 12)),
        (bytes.fromhex("0000008000000000") + b"0080001000G", ("content", "127.25.16", 15)),
    ],
)
def test_bitmaps_that_do_not_fit(value: bytes, fault: tuple[str, str, int]) -> None:
    code, path, offset = fault
    assert Message(127).faults(value)[0] == (code, path, AT + 6 + offset)


# ---- conditions ----------------------------------------------------------------------------------


def test_conditions_must_all_hold_and_the_first_usage_counts() -> None:
    one, two, other = (positions(sub("1", "ans", "ascii", size)) for size in (1, 2, 3))
    field = FieldSpec(
        number=62, name="f", content="b", encoding="binary", length_min=0, length_max=9, length_prefix="ascii1",
        layout=other,
        usages=(
            Usage(mti=("08x0",), fields=(("60.3", ("003", "004")), ("53", ("0A",))), starts=("3", "4a"), layout=one),
            Usage(lengths=(2, 3), layout=two),
            Usage(mti=("0800",), label="nothing that is known"),
        ),
    )  # fmt: skip

    def chosen(mti: str, value: bytes, **others: str | bytes) -> Layout | None:
        return nested.layout_of(field, mti, {"60.3": "003", "53": b"\x0a", **others}.get, value)[0]

    assert chosen("0810", b"0") is one
    assert chosen("0820", b"\x4a") is one
    assert chosen("0811", b"0") is other
    assert chosen("0810", b"\x4b") is other
    assert chosen("0810", b"") is other
    assert chosen("0810", b"0", **{"60.3": "005"}) is other
    assert chosen("0810", b"0", **{"53": b"\x0b"}) is other
    assert nested.layout_of(field, "0810", lambda path: None, b"0")[0] is other
    assert chosen("0810", b"00") is one
    assert chosen("0200", b"00") is two
    layout, usage = nested.layout_of(field, "0800", lambda path: None, b"0")
    assert layout is None and usage is not None and usage.label == "nothing that is known"


def test_a_sub_field_may_ask_its_neighbour() -> None:
    inner = Layout(kind="ber_tlv")
    layout = positions(
        sub("1", "n", "ascii", 1, name="kind"),
        SubSpec(
            key="2", name="", content="b", encoding="binary", length_min=0, length_max=99,
            usages=(
                Usage(fields=(("48.1", ("1",)),), layout=inner),
                Usage(fields=(("48.kind", ("2",)), ("60.1", ("22",))), layout=positions(sub("1", "b", "binary", 2))),
            ),
        ),
    )  # fmt: skip

    def asked(path: str) -> str | None:
        assert path == "60.1", "the field itself is not asked: it is being read"
        return "22"

    for data, tree in (
        (b"1\x82\x01\x01", {"1": "1", "2": {"82": b"\x01"}}),
        (b"2ab", {"1": "2", "2": {"1": b"ab"}}),
        (b"3ab", {"1": "3", "2": b"ab"}),
    ):
        if tree["1"] == "3":
            assert nested.decode_tree(layout, data, path="48", base=0, look=lambda path: None) == tree
        else:
            assert nested.decode_tree(layout, data, path="48", base=0, look=asked) == tree
            assert nested.encode_tree(layout, tree, path="48", look=asked) == data
    assert nested.lookup(layout, b"1\x82\x01\x01", ["2", "82"], path="48", base=0, look=asked) == b"\x01"
    assert nested.encode_tree(layout, {"kind": 1, "2": {"82": b"\x01"}}, path="48", look=asked) == b"1\x82\x01\x01"


# ---- limits --------------------------------------------------------------------------------------


def sub(key: str, content: str, encoding: str, length: int, **more: Any) -> SubSpec:
    keys = {"name": "", "length_min": length, "length_max": length, **more}
    return SubSpec(key=key, content=content, encoding=encoding, **keys)


def positions(*subs: SubSpec) -> Layout:
    return Layout(kind="positions", subs=subs)


def templates(levels: int) -> tuple[Layout, bytes, Any]:
    """E1 in E1 in E1 ..., as layout, bytes and tree."""
    layout, data = Layout(kind="ber_tlv"), b"\xc1\x00"
    tree: Any = {"C1": b""}
    for _ in range(levels - 1):
        template = SubSpec(
            key="E1", name="", content="b", encoding="binary", length_min=0, length_max=999, layout=layout
        )
        layout, data, tree = Layout(kind="ber_tlv", subs=(template,)), b"\xe1" + bytes([len(data)]) + data, {"E1": tree}
    return layout, data, tree


def test_trees_have_a_greatest_depth() -> None:
    layout, data, tree = templates(NESTING_MAX)
    assert nested.decode_tree(layout, data, path="55", base=0) == tree
    assert nested.encode_tree(layout, tree, path="55") == data

    layout, data, tree = templates(NESTING_MAX + 1)
    with pytest.raises(DecodeError) as caught:
        nested.decode_tree(layout, data, path="55", base=50)
    deepest = "55" + ".E1" * NESTING_MAX
    assert shape(caught.value) == ("depth", deepest, 50 + 2 * NESTING_MAX)
    assert [shape(fault) for fault in nested.check_tree(layout, data, path="55", base=50)] == [shape(caught.value)]
    for wrong in (tree, {"E1": data[2:]}):
        with pytest.raises(EncodeError) as refused:
            nested.encode_tree(layout, wrong, path="55")
        assert (refused.value.code, refused.value.path) == ("tlv", deepest)


def test_a_bomb_of_templates_stays_bytes() -> None:
    data = b""
    for _ in range(5000):
        data = nested.encode_tree(Layout(kind="ber_tlv"), {"E1": data}, path="55")
    assert list(nested.decode_tree(Layout(kind="ber_tlv"), data, path="55", base=0)) == ["E1"]
    tree: Any = b""
    for _ in range(5000):
        tree = {"E1": tree}
    with pytest.raises(EncodeError) as refused:
        nested.encode_tree(Layout(kind="ber_tlv"), tree, path="55")
    assert refused.value.code == "tlv"
    with pytest.raises(DecodeError) as caught:
        nested.lookup(Layout(kind="ber_tlv"), data, ["E1"] * 5000, path="55", base=0)
    assert caught.value.code == "depth"


def test_a_count_of_billions_ends_with_the_bytes() -> None:
    layout = positions(
        sub("1", "n", "ascii", 9),
        SubSpec(key="2", name="", content="b", encoding="hex", length_min=0, length_max=99, times="1"),
    )
    for data, fault in (
        (b"999999999", ("truncated", "48.2[1]", 9)),
        (b"999999999" + b"0A0B", ("truncated", "48.2[2]", 13)),
        (b"999999999" + b"0", ("length", "48.2[1]", 9)),
    ):
        with pytest.raises(DecodeError) as caught:
            nested.decode_tree(layout, data, path="48", base=0)
        assert shape(caught.value) == fault


def test_counts_are_numbers() -> None:
    records = sub("2", "b", "binary", 1, times="1")
    for count, data, expected in (
        (sub("1", "b", "binary", 2), b"\x00\x02ab", [b"a", b"b"]),
        (sub("1", "n", "bcd_left", 3, length_unit="digits"), b"\x00\x20ab", [b"a", b"b"]),
        (sub("1", "an", "ascii", 2), b"02ab", [b"a", b"b"]),
    ):
        layout = positions(count, records)
        tree = nested.decode_tree(layout, data, path="48", base=0)
        assert tree["2"] == expected
        assert nested.encode_tree(layout, tree, path="48") == data
    for count, data in ((sub("1", "an", "ascii", 2), b" 2ab"), (sub("1", "n", "ascii", 10), b"0000000002ab")):
        with pytest.raises(DecodeError) as caught:
            nested.decode_tree(positions(count, records), data, path="48", base=0)
        assert shape(caught.value) == ("content", "48.1", 0)
    with pytest.raises(EncodeError) as refused:
        nested.encode_tree(positions(sub("1", "b", "binary", 2), records), {"2": [b"a"]}, path="48")
    assert (refused.value.code, refused.value.path) == ("missing", "48.1")


def test_more_than_a_message_is_refused() -> None:
    for check in (nested.decode_tree, nested.check_tree):
        try:
            faults = check(Layout(kind="ber_tlv"), bytes(65536), path="55", base=3)
        except DecodeError as error:
            faults = [error]
        assert [shape(fault) for fault in faults] == [("size", "55", 3)]  # type: ignore[arg-type]


def test_offsets_in_hexadecimal_count_characters() -> None:
    layout = Layout(kind="ber_tlv", subs=(sub("82", "n", "bcd_left", 2, length_unit="digits"),))
    field = FieldSpec(
        number=55, name="f", content="b", encoding="hex", length_min=0, length_max=99, length_prefix="ascii3",
        layout=layout,
    )  # fmt: skip
    value = bytes.fromhex("9500 82011A")
    data, base, step = nested.inside(field, value, b"005" + value.hex().encode(), 50)
    with pytest.raises(DecodeError) as caught:
        nested.decode_tree(layout, data, path="55", base=base, step=step)
    assert shape(caught.value) == ("content", "55.82", 50 + 3 + 4)

    # Twice as many in hexadecimal inside hexadecimal: the value of 82 stands for two bytes of the message each.
    inner = SubSpec(key="82", name="", content="b", encoding="hex", length_min=0, length_max=9, layout=layout)
    data = b"\x82\x0a" + b"95008200FF"
    faults = nested.check_tree(Layout(kind="ber_tlv", subs=(inner,)), data, path="55", base=50, step=2)
    assert [shape(fault) for fault in faults] == [
        ("length", "55.82.82", 50 + 2 * 2 + 4 * 2),
        ("tlv", "55.82", 50 + 2 * 2 + 4 * 4),
    ]
    with pytest.raises(DecodeError) as caught:
        nested.decode_tree(Layout(kind="ber_tlv", subs=(inner,)), b"\x82\x03950", path="55", base=50)
    assert shape(caught.value) == ("length", "55.82", 50)


def test_what_follows_a_bad_value_is_still_checked() -> None:
    bad_then_bad = [
        (sub("1", "n", "ascii", 2), b"1x"),
        (sub("1", "n", "bcd_left", 3, length_unit="digits"), b"\x1a\x10"),
        (sub("1", "n", "ascii", 9, length_min=0, length_prefix="ascii1"), b"3x12"),
        (sub("1", "n", "bcd_right", 9, length_min=0, length_prefix="bcd2", length_unit="digits"), b"\x05\xfa\x12\x34"),
        (sub("1", "ans", "gbk", 9, length_min=0, length_prefix="binary1"), b"\x03\x80\x80\x80"),
        (sub("1", "b", "hex", 9, length_min=0, length_prefix="ascii1"), b"20x12"),
        (sub("1", "b", "hex", 9, length_min=0, length_prefix="ascii1", length_unit="digits"), b"40x12"),
        (
            sub("1", "n", "bcd_left", 9, length_min=0, length_prefix="bcd2", length_unit="digits", pad_strict=True),
            b"\x03\x12\x3f",
        ),
        (sub("1", "track2", "bcd_left", 9, length_min=0, length_prefix="bcd2", length_unit="digits"), b"\x04\x12\x34"),
    ]
    for first, data in bad_then_bad:
        layout = positions(first, sub("2", "n", "ascii", 1))
        faults = nested.check_tree(layout, data + b"x", path="48", base=0)
        assert [(fault.path, fault.offset) for fault in faults] == [("48.1", 0), ("48.2", len(data))]


# ---- every layout --------------------------------------------------------------------------------

LETTERS = string.ascii_letters + " "
# (content, encoding, unit): alphabet of its values, or None for bytes
LEAVES: dict[tuple[str, str, str], str | None] = {
    ("n", "ascii", "bytes"): string.digits,
    ("n", "bcd_left", "digits"): string.digits,
    ("n", "bcd_right", "digits"): string.digits,
    ("z", "bcd_left", "digits"): "0123456789=F",
    ("an", "cp037", "bytes"): LETTERS + string.digits,
    ("ans", "cp1047", "bytes"): LETTERS + "[]^é",
    ("ans", "latin1", "bytes"): LETTERS + "ÿ",
    ("a", "ascii", "bytes"): LETTERS,
    ("b", "binary", "bytes"): None,
    ("b", "binary", "nibbles"): None,
    ("b", "hex", "bytes"): None,
    ("b", "hex_ebcdic", "digits"): None,
}
PREFIXES_IN_USE = ["bcd2", "ascii2", "ebcdic3", "binary1", "hex2"]
TAGS = {
    "ber_tlv": ["82", "95", "9F36", "DF8101", "E1", "71", "FF7F"],
    "tlv": ["AA", "OA", "01", "b ", "[]"],
}


@st.composite
def leaves(draw: st.DrawFn, /, key: str, tagged: bool, **more: Any) -> SubSpec:
    content, encoding, unit = draw(st.sampled_from(sorted(LEAVES)))
    length = draw(st.integers(1, 6))
    if unit == "nibbles" or encoding == "hex_ebcdic":
        length *= 2  # whole bytes
    if draw(st.booleans()) or (tagged and unit == "digits" and encoding.startswith("bcd")):
        more |= {"length_min": length}
    elif not tagged:
        more |= {"length_min": 0, "length_prefix": draw(st.sampled_from(PREFIXES_IN_USE))}
    return SubSpec(
        key=key, name=draw(st.sampled_from(["", f"name_{key.strip().lower()}"])) if key.isalnum() else "",
        content=content, encoding=encoding, length_unit=unit, length_max=length, **{"length_min": 0, **more},
    )  # fmt: skip


@st.composite
def subs(draw: st.DrawFn, /, key: str, depth: int, tagged: bool, **more: Any) -> SubSpec:
    if depth >= 3 or draw(st.integers(0, 2)):
        return draw(leaves(key, tagged, **more))
    prefix = None if tagged else draw(st.sampled_from(["bcd4", "binary2", "ascii4"]))
    encoding = draw(st.sampled_from(["binary", "hex"]))
    return SubSpec(
        key=key, name="", content="b", encoding=encoding, length_min=0, length_max=9999, length_prefix=prefix,
        layout=draw(layouts(depth + 1)), **more,
    )  # fmt: skip


@st.composite
def layouts(draw: st.DrawFn, depth: int = 1) -> Layout:
    kind = draw(st.sampled_from(["positions", "ber_tlv", "tlv", "bitmap"]))
    if kind == "bitmap":
        bits = draw(st.sets(st.integers(1, 16), max_size=4))
        inside = [draw(subs(str(bit), depth, False)) for bit in sorted(bits)]
        return Layout(kind=kind, subs=tuple(inside), bitmap=draw(st.sampled_from(["binary", "hex"])), bitmap_size=2)
    if kind == "positions":
        inside = []
        count = draw(st.integers(1, 4))
        optional_from = draw(st.integers(1, 6))
        for number in range(1, count + 1):
            more: dict[str, Any] = {"optional": number >= optional_from}
            if number == 2 and inside[0].fixed and inside[0].content == "n" and draw(st.booleans()):
                more["times"] = "1"
            elif number == count and draw(st.integers(0, 2)) == 0:
                more["times"] = "rest"
            inside.append(draw(subs(str(number), depth, False, **more)))
        return Layout(kind=kind, subs=tuple(inside))
    known = draw(st.sets(st.sampled_from(TAGS[kind]), max_size=4))
    inside = [draw(subs(tag, depth, True, repeat=draw(st.booleans()))) for tag in sorted(known)]
    if kind == "ber_tlv":
        return Layout(kind=kind, subs=tuple(inside))
    return Layout(
        kind=kind, subs=tuple(inside), tag_size=2, value_prefix=draw(st.sampled_from(["ascii4", "bcd4", "binary2"])),
        tag_encoding=draw(st.sampled_from(["ascii", "cp037", "cp1047"])),
    )  # fmt: skip


def value_of(sub: SubSpec) -> st.SearchStrategy[Any]:
    if sub.layout is not None:
        return tree_of(sub.layout)
    alphabet = LEAVES[sub.content, sub.encoding, sub.length_unit]
    halves = 2 if sub.length_unit == "nibbles" or sub.encoding == "hex_ebcdic" else 1
    low, high = sub.length_min // halves, sub.length_max // halves
    return (
        st.binary(min_size=low, max_size=high) if alphabet is None else st.text(alphabet, min_size=low, max_size=high)
    )


@st.composite
def tree_of(draw: st.DrawFn, layout: Layout) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    if layout.kind == "bitmap":
        present = draw(st.sets(st.sampled_from([sub.key for sub in layout.subs]))) if layout.subs else set()
        return {key: draw(value_of(layout.by_key[key])) for key in sorted(present, key=int)}
    if layout.kind == "positions":
        for sub in layout.subs:
            if sub.times is None:
                if sub.optional and not draw(st.integers(0, 2)):
                    break
                tree[sub.key] = draw(value_of(sub))
                continue
            least = 1 if sub.optional else 0  # none of an optional one is no list
            tree[sub.key] = draw(st.lists(value_of(sub), min_size=least, max_size=3))
            if sub.times != "rest":
                tree[sub.times] = str(len(tree[sub.key])).zfill(layout.by_key[sub.times].length_max)
        # An empty value at the end that has no prefix looks like one that is not there.
        return tree
    for tag in draw(st.lists(st.sampled_from(TAGS[layout.kind]), unique=True, max_size=5)):
        sub_spec = layout.by_key.get(tag)
        if sub_spec is None:
            tree[tag] = draw(st.binary(max_size=9))
        elif sub_spec.repeat:
            tree[tag] = draw(st.lists(value_of(sub_spec), min_size=1, max_size=3))
        else:
            tree[tag] = draw(value_of(sub_spec))
    return tree


@st.composite
def cases(draw: st.DrawFn) -> tuple[Layout, dict[str, Any]]:
    layout = draw(layouts())
    return layout, draw(tree_of(layout))


def paths_of(layout: Layout, tree: dict[str, Any]) -> Iterator[tuple[list[str], Any]]:
    """Every value of a tree that is not a tree, and its path."""
    for key, value in tree.items():
        sub = layout.by_key.get(key)
        several = isinstance(value, list)
        for index, each in enumerate(value if several else [value], 1):
            part = f"{key}[{index}]" if several else key
            if isinstance(each, dict):
                assert sub is not None and sub.layout is not None
                yield from (([part, *rest], found) for rest, found in paths_of(sub.layout, each))
            else:
                yield [part], each


def read(layout: Layout, data: bytes) -> dict[str, Any] | None:
    """The tree; None if there is none. Says the same as the one that collects."""
    faults = nested.check_tree(layout, data, path="48", base=1000)
    try:
        tree = nested.decode_tree(layout, data, path="48", base=1000)
    except DecodeError as error:
        assert shape(faults[0]) == shape(error)
        for fault in faults:
            assert fault.code in DECODE_CODES
            assert fault.field == "48"
            assert 1000 <= fault.offset <= 1000 + len(data)
        return None
    assert faults == []
    return tree


@given(cases())
@settings(max_examples=300)
def test_what_is_written_is_read_and_found(case: tuple[Layout, dict[str, Any]]) -> None:
    layout, tree = case
    data = nested.encode_tree(layout, tree, path="48")
    found = read(layout, data)
    assert found == tree
    assert found is not None and [*found] == [*tree]
    assert nested.encode_tree(layout, found, path="48") == data
    alone = {
        key: value[0] if isinstance(value, list) and len(value) == 1 and layout.by_key[key].repeat else value
        for key, value in tree.items()
    }
    assert nested.encode_tree(layout, alone, path="48") == data
    for parts, value in paths_of(layout, tree):
        assert nested.lookup(layout, data, parts, path="48", base=0) == value


@given(cases(), st.data())
@settings(max_examples=300)
def test_every_prefix_is_read_as_it_is_or_refused(case: tuple[Layout, dict[str, Any]], data: st.DataObject) -> None:
    layout, tree = case
    encoded = nested.encode_tree(layout, tree, path="48")
    prefix = encoded[: data.draw(st.integers(0, len(encoded)))]
    found = read(layout, prefix)
    if found is not None:
        assert nested.encode_tree(layout, found, path="48") == prefix


@given(cases(), st.data())
@settings(max_examples=300)
def test_damaged_bytes_are_read_or_refused(case: tuple[Layout, dict[str, Any]], data: st.DataObject) -> None:
    layout, tree = case
    damaged = bytearray(nested.encode_tree(layout, tree, path="48") or b"\0")
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    found = read(layout, bytes(damaged))
    if found is not None:
        assert read(layout, nested.encode_tree(layout, found, path="48")) == found


@given(layouts(), st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(layout: Layout, data: bytes) -> None:
    found = read(layout, data)
    if found is not None:
        assert read(layout, nested.encode_tree(layout, found, path="48")) == found


@given(cases(), st.data())
def test_wrong_trees_are_refused_with_their_path(case: tuple[Layout, dict[str, Any]], data: st.DataObject) -> None:
    layout, tree = case
    junk = st.one_of(
        st.none(), st.integers(-5, 10**7), st.text(max_size=9), st.binary(max_size=9), st.just([]), st.just({})
    )
    key = data.draw(st.sampled_from([*tree, "nobody", "9F99"]))
    wrong = {**tree, key: data.draw(junk)}
    try:
        encoded = nested.encode_tree(layout, wrong, path="48")
    except EncodeError as error:
        assert error.code in ENCODE_CODES
        assert error.field == "48"
    else:
        found = read(layout, encoded)
        assert found is not None
        # Not to the same bytes: objects may have been given as bytes with padding between them.
        assert read(layout, nested.encode_tree(layout, found, path="48")) == found
