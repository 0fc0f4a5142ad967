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


# ---- between institutions
def cups(**more: object) -> iso8583.Message:
    spec = iso8583.load("unionpay_cups")
    fields = {
        0: "0200",
        2: "6222020000000000017",
        3: "000000",
        4: "000000012345",
        7: "0714101500",
        11: "000123",
        18: "4900",
        25: "00",
        32: "48020000",
        33: "00012900",
        41: "12345678",
        42: "898440149000001",
        **{int(name[1:]): value for name, value in more.items()},
    }
    return spec.decode(spec.encode(fields))


def test_the_line_of_a_purchase() -> None:
    """As the facts' computed example, with a test card."""
    head, tail = b"000000 000000012345 0714101500 000123 4900 00", b"12345678 898440149000001"
    assert iso8583.cups_mab(cups()) == b"0200 196222020000000000017 %b 0848020000 0800012900 %b" % (head, tail)
    plain = iso8583.cups_mab(cups(), lengths=False)
    assert plain == b"0200 6222020000000000017 %b 48020000 00012900 %b" % (head, tail)


def test_spaces_case_and_other_characters() -> None:
    line = iso8583.cups_mab(cups(f38="ab 1 2", f42="A  b*c,d.       "[:15]))
    assert line.endswith(b" AB 1 2 12345678 A BC,D."), line
    original = "0200000122" + "0714101400" + "0004802000000000012900"[:22]
    assert iso8583.cups_mab(cups(f90=original)).endswith(b"898440149000001 02000001220714101400")


def test_fields_that_are_not_covered_change_nothing() -> None:
    assert iso8583.cups_mab(cups(f37="123456789012", f49="156", f12="101500")) == iso8583.cups_mab(cups())
