"""Messages as people use them."""

import random
from collections.abc import Mapping
from typing import Any

import pytest

import iso8583

HEADER = bytes.fromhex("6000030000603100123456")


def test_fields_are_read_by_number_name_and_path(spec: iso8583.Spec, purchase: bytes) -> None:
    message = spec.decode(purchase)
    assert message.mti == message[0] == message["mti"] == "0200"
    assert message[4] == message["amount"] == message["4"] == "000000001250"
    assert message["55.9F26"] == message["icc_data.9f26"] == bytes.fromhex("12345678ABCDEF01")
    assert message.get(39) is None
    assert message.get(39, "??") == "??"
    assert message.get("55.91", b"") == b""


def test_a_message_is_a_mapping_of_present_fields(
    spec: iso8583.Spec, purchase: bytes, purchase_values: dict[int, Any]
) -> None:
    message = spec.decode(purchase)
    assert isinstance(message, Mapping)
    assert len(message) == len(purchase_values)
    assert list(message) == sorted(purchase_values)
    assert dict(message.items()) == message.to_dict() == purchase_values
    assert message == purchase_values
    assert 55 in message and "icc_data" in message and "55.9F26" in message
    assert 39 not in message and "response_code" not in message and "55.91" not in message
    assert "no_such_name" not in message and 500 not in message and None not in message


@pytest.mark.parametrize("key", [39, 1, 65, 129, -1, "no_such_name", "55.91", "60.9", "52.1", "55.", "", "55.5A.5A.1"])
def test_what_is_not_there_is_a_key_error(spec: iso8583.Spec, purchase: bytes, key: int | str) -> None:
    message = spec.decode(purchase)
    with pytest.raises(KeyError):
        message[key]
    assert message.get(key) is None


def test_raw_is_what_was_transmitted(spec: iso8583.Spec, purchase: bytes) -> None:
    message = spec.decode(purchase)
    assert message.raw(0) == bytes.fromhex("0200")
    assert message.raw(22) == bytes.fromhex("0210")
    assert message.raw(23) == bytes.fromhex("0001")
    assert message.raw(60) == bytes.fromhex("22000001000501")
    assert message.raw("terminal_id") == b"10000001"
    with pytest.raises(KeyError):
        message.raw(39)


def test_bytes_gives_the_exact_input_and_buffers_are_copied(spec: iso8583.Spec, purchase: bytes) -> None:
    assert bytes(spec.decode(purchase)) is purchase
    buffer = bytearray(purchase)
    for given in (buffer, memoryview(buffer)):
        message = spec.decode(given)
        buffer[0] ^= 0xFF
        assert bytes(message) == purchase
        buffer[0] ^= 0xFF
    with pytest.raises(TypeError, match="data must be bytes"):
        spec.decode("0200")  # type: ignore[arg-type]


def test_a_message_outlives_its_spec(purchase: bytes) -> None:
    message = iso8583.Spec(iso8583.load("unionpay_pos").definition).decode(purchase)
    assert message["terminal_id"] == "10000001"


def test_messages_come_only_from_a_spec() -> None:
    with pytest.raises(TypeError, match=r"Spec\.decode"):
        iso8583.Message()


def test_the_header_is_kept_apart_and_offsets_count_it(purchase: bytes) -> None:
    spec = iso8583.load("unionpay_pos", header="tpdu+pos6")
    message = spec.decode(HEADER + purchase)
    assert message.header == HEADER
    assert message.mti == "0200"
    assert bytes(message) == HEADER + purchase
    with pytest.raises(iso8583.DecodeError) as caught:
        spec.decode(HEADER[:10])
    assert str(caught.value) == "header at byte 0: expected 11 bytes in front of the MTI, got 10 [truncated]"
    with pytest.raises(iso8583.DecodeError) as caught:
        spec.decode(HEADER + purchase[:25])
    assert caught.value.offset == 11 + 22


def test_patching_leaves_every_other_byte_alone() -> None:
    spec = iso8583.load("unionpay_pos", header="tpdu+pos6")
    # Pads of F: re-encoding would turn them into 0.
    data = HEADER + bytes.fromhex("0200 4020040020000010 19 6222020000000000018F 000010 021F 03 1D3F 0011 22000001000F")
    message = spec.decode(data)
    assert message["track2"] == "1=3"
    patched = message.patched({11: "000011", "rrn": "000000000001", 22: None})
    assert patched == HEADER + bytes.fromhex(
        "0200 4020000028000010 19 6222020000000000018F 000011 03 1D3F 303030303030303030303031 0011 22000001000F"
    )
    assert bytes(message) == data
    assert message.patched({0: "0210"})[11:13] == b"\x02\x10"
    assert message.patched({}, header=bytes(11)) == bytes(11) + data[11:]


def test_an_empty_secondary_bitmap_survives_a_patch() -> None:
    spec = iso8583.load("iso8583_1987_ascii")
    data = b"0800" + b"8020000000000000" + b"0" * 16 + b"000001"
    assert spec.decode(data).patched({11: "000002"}) == data[:-1] + b"2"


def test_a_reply_echoes_what_the_spec_says_and_turns_the_tpdu(purchase: bytes) -> None:
    spec = iso8583.load("unionpay_pos", header="tpdu+pos6")
    header = bytes.fromhex("60 0003 0001 603100123456")
    request = spec.decode(header + purchase)
    reply = spec.decode(request.reply({39: "00", 37: "000000000001"}))
    assert reply.header == bytes.fromhex("60 0001 0003 603100123456")
    assert reply.mti == "0210"
    assert list(reply) == [0, 2, 3, 4, 11, 23, 25, 37, 39, 41, 42, 49, 60]
    assert all(reply.raw(number) == request.raw(number) for number in reply if number not in (0, 37, 39))
    assert 2 not in spec.decode(request.reply({2: None}))
    assert spec.decode(request.reply({}, header=bytes(11))).header == bytes(11)


def test_a_reply_to_a_repeat_is_the_reply_to_the_original(spec: iso8583.Spec) -> None:
    request = spec.decode(spec.encode({0: "0401", 11: "000001"}))
    assert spec.decode(request.reply({39: "00"})).to_dict() == {0: "0410", 11: "000001", 39: "00"}


def test_only_requests_that_the_spec_knows_are_answered(spec: iso8583.Spec) -> None:
    with pytest.raises(iso8583.EncodeError) as caught:
        spec.decode(spec.encode({0: "0210"})).reply({39: "00"})
    assert caught.value.code == "mti"
    with pytest.raises(iso8583.EncodeError) as caught:
        spec.decode(spec.encode({0: "0600"})).reply({39: "00"})
    assert str(caught.value) == "mti: spec unionpay_pos has no [reply] entry for 0600 [reply]"


def test_a_kiosk_gets_its_date_back() -> None:
    spec = iso8583.load("kiosk")
    request = spec.decode(spec.encode({0: "0200", 11: 5, 13: "0601", 48: {"C1": b"1", "E1": [{"D1": b"2"}]}}))
    assert request["48.E1.D1"] == b"2"
    assert spec.decode(request.reply({39: "00"})).to_dict() == {0: "0210", 11: "000005", 13: "0601", 39: "00"}


def test_text_is_gbk_where_the_spec_says_so(spec: iso8583.Spec) -> None:
    data = spec.encode({0: "0210", 63: "CUP缴费成功"})
    assert data[10:] == bytes.fromhex("0011435550bdc9b7d1b3c9b9a6")
    assert spec.decode(data)[63] == "CUP缴费成功"


def test_every_gbk_pair_goes_there_and_back(spec: iso8583.Spec) -> None:
    for lead in range(0x81, 0xFF):
        pairs = [bytes([lead, trail]) for trail in range(0x40, 0xFF) if trail != 0x7F]
        for start in range(0, len(pairs), 80):
            raw = b"".join(pairs[start : start + 80])
            data = spec.encode({0: "0210", 62: raw}).replace(b"\0\0\0\0\0\0\0\x04", b"\0\0\0\0\0\0\0\x02", 1)
            message = spec.decode(data)
            assert message.raw(63) == raw
            assert spec.encode(message.to_dict()) == data


def test_a_long_message_is_indexed_like_a_short_one() -> None:
    spec = iso8583.load("iso8583_1987_ascii")
    fixed = {number: field for number, field in spec.fields.items() if field.fixed and field.content == "n"}
    values: dict[int, Any] = {0: "0200"} | {number: "7" * field.length_max for number, field in fixed.items()}
    values |= dict.fromkeys(range(105, 128), "x")
    assert len(values) > 60
    assert spec.decode(spec.encode(values)).to_dict() == values


def test_a_message_is_sound_or_says_what_is_wrong(spec: iso8583.Spec, purchase: bytes) -> None:
    assert spec.decode(purchase).sound and spec.decode(purchase, strict=False).sound
    local = spec.decode(purchase.replace(b"10000001", b"1000\x0001"), strict=False)
    assert not local.sound and local.findings
    with pytest.raises(iso8583.DecodeError) as caught:
        spec.decode(purchase[:-1])
    before = caught.value.message
    assert not before.sound and before.findings == ()  # what is wrong is the error itself


def test_a_message_that_stopped_at_an_error_names_its_fields_only(spec: iso8583.Spec) -> None:
    data = spec.encode({0: "0200", 3: "000000", 4: 1250, 41: "10000001"})
    assert repr(spec.decode(data)) == "<Message 0200 unionpay_pos 3=000000 4=000000001250 41=10000001>"
    with pytest.raises(iso8583.DecodeError) as caught:
        spec.decode(data[:-1])
    before = caught.value.message
    assert repr(before) == "<Message 0200 unionpay_pos 3='<hidden, 6 characters>' 4='<hidden, 12 characters>'>"
    assert (before.masked(0), before.masked(4), before[4]) == ("0200", "<hidden, 12 characters>", "000000001250")


def test_a_fault_that_moves_nothing_hides_nothing_more(spec: iso8583.Spec) -> None:
    data = spec.encode({0: "0200", 4: 1250, 41: "1000000A"}).replace(b"A", b"\x1b")
    text = repr(spec.decode(data, strict=False))
    assert text == "<Message 0200 unionpay_pos 4=000000001250 41=1000000\\x1b>"  # and no terminal obeys it


def test_what_is_not_a_message_shows_its_size_only(spec: iso8583.Spec) -> None:
    pan = bytes.fromhex("6222987654321097")
    message = spec.decode(pan * 4, strict=False)
    assert repr(message) == "<Message unionpay_pos, 32 bytes that are not a message>"
    message = spec.decode(bytes.fromhex("3032") + pan * 4, strict=False)  # an MTI of digits, but nobody's
    assert (message.mti, message.masked(0)) == ("3032", "<hidden, 4 characters>")
    assert "not a message" in repr(message)


@pytest.mark.parametrize("name", ["unionpay_pos", "unionpay_cups", "kiosk", "iso8583_2003_ascii"])
def test_no_bytes_break_a_repr(name: str, purchase_values: dict[int, Any]) -> None:
    dice = random.Random(name)
    spec = iso8583.load(name)
    values = purchase_values if name == "unionpay_pos" else {0: purchase_values[0], 2: purchase_values[2]}
    sound = [spec.encode(values), spec.encode({0: "0200", 55: bytes.fromhex("710A9F1804000000018601019F3602002A")})]
    for _ in range(1000):
        data = bytearray(dice.choice([*sound, dice.randbytes(60), sound[0][:4] + dice.randbytes(80)]))
        for _ in range(dice.randrange(4)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        message = spec.decode(bytes(data), strict=False)
        shown = [repr(message), *(message.masked(number) for number in message)]
        try:
            spec.decode(bytes(data))
        except iso8583.DecodeError as error:
            shown.append(repr(error.message))
        assert all(text.isprintable() for text in shown)
        assert len(shown[0]) < 100 * len(message) + 60


def test_load_refuses_what_it_does_not_know() -> None:
    assert iso8583.load("kiosk") is iso8583.load("kiosk")
    with pytest.raises(iso8583.SpecError, match="no spec 'unionpay_atm'; bundled are"):
        iso8583.load("unionpay_atm")
    with pytest.raises(iso8583.SpecError, match="no header 'tpdu7'; expected one of none, tpdu"):
        iso8583.load("kiosk", header="tpdu7")


def test_a_field_can_be_looked_up_in_the_spec(spec: iso8583.Spec) -> None:
    assert spec.field("amount") is spec.field(4) is spec.fields[4]
    assert spec.mac_number == 64
    with pytest.raises(KeyError):
        spec.field("no_such_name")
    assert repr(spec) == "<Spec unionpay_pos, 39 fields, header none>"
