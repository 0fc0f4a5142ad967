"""The bytes that a MAC covers."""

import pytest

import iso8583


def test_the_mac_covers_mti_to_field_63_as_transmitted(purchase: bytes) -> None:
    header = bytes.fromhex("6000030000603100123456")
    message = iso8583.load("unionpay_pos", header="tpdu+pos6").decode(header + purchase)
    assert message.mab() == iso8583.mab(message) == purchase[:-8]
    assert message.mab()[2 + 7] & 1 == 1  # bit 64


def test_bytes_without_header_need_a_spec_whatever_its_header(purchase: bytes) -> None:
    for header in ("none", "tpdu+pos6"):
        assert iso8583.mab(purchase, iso8583.load("unionpay_pos", header=header)) == purchase[:-8]
    with pytest.raises(TypeError):
        iso8583.mab(purchase)


def test_a_placeholder_is_replaced_by_the_last_eight_bytes(spec: iso8583.Spec) -> None:
    # The recipe of Spec.encode's documentation: field 64 is always last.
    draft = spec.encode({0: "0200", 4: 1250, 62: b"x", 63: "001", 64: bytes(8)})
    mac = bytes(range(8))
    signed = draft[:-8] + mac
    assert spec.decode(signed)[64] == mac
    assert iso8583.mab(signed, spec) == iso8583.mab(draft, spec) == draft[:-8]
    assert signed == spec.encode({0: "0200", 4: 1250, 62: b"x", 63: "001", 64: mac})


def test_a_message_without_mac_says_so(spec: iso8583.Spec) -> None:
    message = spec.decode(spec.encode({0: "0800", 11: 1}))
    with pytest.raises(iso8583.DecodeError) as caught:
        message.mab()
    assert str(caught.value) == "field 64 at byte 13: the message carries no MAC [missing]"


def test_with_two_bitmaps_the_mac_is_field_128() -> None:
    spec = iso8583.load("iso8583_1987_ascii")
    data = spec.encode({0: "0800", 11: 1, 128: bytes(8)})
    assert iso8583.mab(data, spec) == data[:-8]
