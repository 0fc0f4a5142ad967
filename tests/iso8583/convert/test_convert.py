"""What holds for all foreign formats: files, round trips, and that nothing is lost without being named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

import iso8583
from iso8583 import _reference, convert, specfile
from iso8583.errors import EncodeError, SpecError
from iso8583.spec import ENCODINGS, PREFIXES, FieldSpec, MessageSpec, ValueSpec
from iso8583.specfile import bundled_names, load_bundled

FOREIGN = [name for name in convert.FORMATS if name != "toml"]
SAMPLES: dict[str, Any] = {
    "n": "0123456789",
    "a": "AB yz",
    "an": "AB 09",
    "ans": "AB-09 |[",
    "z": "0123456789",
    "b": b"\x01\xab\xff\x00",
}


def value_for(field: ValueSpec, length: int) -> Any:
    """A value of this length in the field's units; None if there is none."""
    if field.packed and field.length_unit == "bytes":
        length *= 2
    if field.content == "b":
        size = length if field.length_unit == "bytes" else length // 2
        return (SAMPLES["b"] * size)[:size]
    if field.content == "track2":
        return None if length < 3 else "1" * (length - 2) + "=2"
    if field.content == "xn":
        return None if length < 2 else "C" + (SAMPLES["n"] * length)[: length - 1]
    return (SAMPLES[field.content] * length)[:length]


def wire_of(definition: MessageSpec, number: int, value: str | bytes) -> bytes:
    return _reference.encode(definition, {0: "0200", number: value})


# ---- every field either means the same bytes there, or is refused ----


@st.composite
def fields(draw: st.DrawFn) -> FieldSpec:
    encoding = draw(st.sampled_from(sorted(ENCODINGS)))
    content = draw(st.sampled_from(sorted(ENCODINGS[encoding])))
    prefix = draw(st.none() | st.sampled_from(sorted(PREFIXES)))
    length = draw(st.integers(1, 60 if prefix not in ("ascii1", "bcd1", "ebcdic1") else 9))
    units = ["bytes"]
    if encoding.startswith(("bcd", "hex")):
        units.append("digits")
    if encoding == "binary":
        units.append("nibbles")
    if prefix is None and encoding in ("binary", "hex", "hex_ebcdic"):
        length += length % 2  # half a byte is no value
    pad = draw(st.none() | st.tuples(st.sampled_from(["left", "right"]), st.sampled_from("0 ")))
    keys: dict[str, Any] = {} if pad is None else {"pad_side": pad[0], "pad_character": pad[1]}
    try:
        return FieldSpec(
            number=draw(st.sampled_from([3, 4, 35, 36, 52, 70, 110])),
            name=draw(st.sampled_from(["pan", "some_data", "field_3", "mti_2"])),
            content=content,
            encoding=encoding,
            length_min=length if prefix is None else draw(st.sampled_from([0, 0, 1])),
            length_max=length,
            length_prefix=prefix,
            length_unit=draw(st.sampled_from(units)),
            pad_nibble=draw(st.sampled_from("0F")),
            pad_strict=draw(st.booleans()),
            **keys,
        )
    except SpecError:
        reject()


@pytest.mark.parametrize("format_name", FOREIGN)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(field=fields(), length=st.integers(1, 60))
def test_a_field_is_the_same_bytes_there_or_is_refused(format_name: str, field: FieldSpec, length: int) -> None:
    if format_name == "pyiso8583":
        field = replace(field, number=110)  # no edition says more of it than that it is text
    definition = MessageSpec(name="x", mti_encoding="ascii", bitmap="binary", field_max=128, fields=(field,))
    try:
        text = convert.write_text(definition, format_name)
    except SpecError as error:
        assert f"field.{field.number}" in str(error)
        return
    again = convert.read_text(text, format_name, "x")
    assert convert.write_text(again, format_name) == text
    value = value_for(field, field.length_max if field.fixed else min(length, field.length_max))
    if value is None:
        return
    try:
        wire = wire_of(definition, field.number, value)
    except EncodeError:
        return  # half a byte, or half a character
    back = again.by_number[field.number]
    if back.content in ("n", "z") and (field.content in ("z", "track2") or field.pad_character == "0"):
        return  # jPOS has one word for digits, signs of a track, and text that is filled with zeros
    raw = _reference.decode(again, wire)[field.number]
    assert wire_of(again, field.number, raw) == wire
    assert back.fixed == field.fixed
    if isinstance(raw, str) == isinstance(value, str):
        # Digits whose length counts bytes read back with the zero that fills their last byte.
        assert str(raw).endswith(str(value)) or str(raw).startswith(str(value)) or raw == value


# ---- whatever is read, it is a spec or a SpecError ----

WORDS = """
String Numeric Binary Hex Composite Bitmap Track2 ASCII BCD EBCDIC HexToASCII ASCIIToHex BerTLVTag BerTLV ASCII.LL
ASCII.Fixed Binary.L Hex.Fixed StringsByInt StringsByHex Left Right None b bcd cp500 nibbles é \ud800 0 9F02 1
"""
KEYS = """
name fields type length description enc prefix padding pad tag sort subfields bitmap disableAutoExpand 0 1 2 55 65
skipUnknownTLVTags prefUnknownTLV h t p data_enc len_enc len_type max_len len_count left_pad desc 9F02
"""
NUMBERS = st.integers(-1, 20) | st.just(2**70) | st.floats(allow_nan=False)
LEAVES = st.sampled_from(WORDS.split()) | st.none() | st.booleans() | NUMBERS
TABLES = st.recursive(
    st.dictionaries(st.sampled_from(KEYS.split()), LEAVES, max_size=8),
    lambda inner: st.dictionaries(
        st.sampled_from(KEYS.split()), inner | LEAVES | st.lists(inner, max_size=2), max_size=8
    ),
    max_leaves=20,
)
FRAME = {
    "0": {"type": "String", "length": 4, "enc": "ASCII", "prefix": "ASCII.Fixed"},
    "1": {"type": "Bitmap", "enc": "Binary", "prefix": "Binary.Fixed"},
}


@settings(max_examples=300, deadline=None)
@given(table=TABLES)
def test_any_table_is_a_spec_or_an_error(table: dict[str, Any]) -> None:
    for read, given_table in (
        (convert.moov.read, table),
        (convert.moov.read, {"fields": {**FRAME, "48": table}}),
        (convert.from_pyiso8583, table),
        (convert.from_pyiso8583, {"t": table, "p": table, "2": table}),
    ):
        try:
            definition = read(given_table)
        except SpecError as error:
            assert str(error).endswith("[spec]")
        else:
            assert specfile.dumps(definition)


TOKENS = (
    ["<isopackager>", "</isopackager>", "<isofield ", "/>", ">", "<isofieldpackager ", "</isofieldpackager>"]
    + ['id="0" ', 'id="1" ', 'id="2" ', 'length="4" ', 'length="16" ', 'length="x" ', 'name="x" ', 'pad="true" ']
    + [
        f'class="org.jpos.iso.{name}" '
        for name in ("IFB_NUMERIC", "IFB_BITMAP", "IFA_LLLCHAR", "IFMC_LLCHAR", "IF_NOP")
    ]
    + ['packager="org.jpos.iso.packager.GenericSubFieldPackager" ', 'emitBitmap="false" ', "&x;", "\x00", "<!-- -->"]
)


@settings(max_examples=300, deadline=None)
@given(tokens=st.lists(st.sampled_from(TOKENS), max_size=40), noise=st.binary(max_size=3))
def test_any_xml_is_a_spec_or_an_error(tokens: list[str], noise: bytes) -> None:
    start = "<isopackager>" + "".join(
        f'<isofield id="{number}" length="{length}" name="x" class="org.jpos.iso.{name}"/>'
        for number, length, name in ((0, 4, "IFB_NUMERIC"), (1, 16, "IFB_BITMAP"))
    )
    for text in ("".join(tokens), f"{start}{''.join(tokens)}</isopackager>"):
        for data in (text.encode(), text.encode() + noise):
            try:
                assert specfile.dumps(convert.jpos.read(data))
            except SpecError as error:
                assert str(error).endswith("[spec]")


# ---- whole specs ----


@pytest.mark.parametrize("format_name", FOREIGN)
@pytest.mark.parametrize("name", bundled_names())
def test_bundled_specs_are_written_whole_or_every_obstacle_is_named(name: str, format_name: str) -> None:
    definition = convert.flattened(convert.narrowed(load_bundled(name), "0200"))
    try:
        text = convert.write_text(definition, format_name)
    except SpecError as error:
        lines = str(error).splitlines()[1:-1] or [str(error)]
        assert all("field." in line for line in lines)
        return
    again = convert.read_text(text, format_name, "x")
    assert specfile.loads(specfile.dumps(again)) == again
    assert [field.number for field in again.fields] == [field.number for field in definition.fields]
    for field, back in zip(definition.fields, again.fields, strict=True):
        value = value_for(field, field.length_max if field.fixed else min(12, field.length_max))
        assert value is not None
        wire = wire_of(definition, field.number, value)
        assert wire_of(again, field.number, _reference.decode(again, wire)[field.number]) == wire
        assert back.name == field.name


def test_the_1987_specs_go_through_all_formats() -> None:
    for format_name in FOREIGN:
        assert convert.write_text(load_bundled("iso8583_1987_ascii"), format_name, flat=True)
    assert convert.write_text(load_bundled("iso8583_1987_bcd"), "jpos-xml", flat=True)


def test_what_is_written_through_a_third_format_is_still_the_same() -> None:
    text = convert.write_text(load_bundled("iso8583_1987_ascii"), "jpos-xml", flat=True)
    for format_name in (*FOREIGN, *reversed(FOREIGN), "jpos-xml"):
        definition = convert.read_text(text, "jpos-xml", "x")
        text = convert.write_text(
            convert.read_text(convert.write_text(definition, format_name), format_name, "x"), "jpos-xml"
        )
    definition = convert.read_text(text, "jpos-xml", "x")
    values = {
        0: "0200",
        2: "6222987654321097",
        4: "000000001250",
        41: "10000001",
        52: b"\x01" * 8,
        55: b"\x9a\x03\x26\x11\x23",
    }
    assert _reference.encode(definition, values) == _reference.encode(load_bundled("iso8583_1987_ascii"), values)


# ---- the codec at work on what was read ----


def test_a_moov_file_is_a_spec_at_work(tmp_path: Path) -> None:
    fixed = {"type": "String", "length": 2, "enc": "ASCII", "prefix": "ASCII.Fixed"}
    spec = {
        "name": "Mine",
        "fields": {
            "0": {"type": "String", "length": 4, "enc": "ASCII", "prefix": "ASCII.Fixed"},
            "1": {"type": "Bitmap", "enc": "HexToASCII", "prefix": "Hex.Fixed"},
            "3": {
                "type": "Composite",
                "length": 6,
                "description": "Processing Code",
                "prefix": "ASCII.Fixed",
                "tag": {"sort": "StringsByInt"},
                "subfields": {"1": {**fixed, "description": "Type"}, "2": fixed, "3": fixed},
            },
            "48": {
                "type": "Composite",
                "length": 99,
                "prefix": "ASCII.LL",
                "tag": {"enc": "ASCII", "length": 2, "padding": {"type": "Left", "pad": "0"}, "sort": "StringsByInt"},
                "subfields": {"7": {**fixed, "length": 20, "prefix": "ASCII.LL", "description": "City"}},
            },
            "55": {
                "type": "Composite",
                "length": 99,
                "prefix": "ASCII.LLL",
                "tag": {"enc": "BerTLVTag", "sort": "StringsByHex", "skipUnknownTLVTags": True},
                "subfields": {"9F26": {"type": "Binary", "enc": "Binary", "prefix": "BerTLV"}},
            },
        },
    }
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(spec), encoding="utf-8")
    work = iso8583.load(path)
    data = b"0200" + b"2000000000010200" + b"001020" + b"1007061BCDEF" + b"009\x9f\x26\x02AB\x9a\x02\x26\x11"
    message = work.decode(data)
    assert (message["3.1"], message["3.type"], message["48.07"], message["55.9F26"]) == ("00", "00", "1BCDEF", b"AB")
    assert bytes(work.encode(message.to_dict())) == data
    tree = message.to_dict(nested=True)
    assert work.encode(tree) == data


def test_a_jpos_file_is_a_spec_at_work(tmp_path: Path) -> None:
    sub = "org.jpos.iso.packager.GenericSubFieldPackager"
    text = f"""<isopackager>
    <isofield id="0" length="4" name="MTI" class="org.jpos.iso.IFB_NUMERIC"/>
    <isofield id="1" length="16" name="BIT MAP" class="org.jpos.iso.IFB_BITMAP"/>
    <isofield id="2" length="19" name="PAN" pad="false" class="org.jpos.iso.IFB_LLHNUM"/>
    <isofieldpackager id="43" length="6" name="PLACE" class="org.jpos.iso.IFB_BINARY"
      packager="{sub}" emitBitmap="false">
      <isofield id="1" length="4" name="CITY" class="org.jpos.iso.IFE_CHAR"/>
      <isofield id="2" length="2" name="COUNTRY" class="org.jpos.iso.IFE_CHAR"/>
    </isofieldpackager>
    <isofieldpackager id="127" length="999" name="PRIVATE" class="org.jpos.iso.IFA_LLLBINARY" packager="{sub}">
      <isofield id="1" length="8" name="BIT MAP" class="org.jpos.iso.IFB_BITMAP"/>
      <isofield id="10" length="3" name="CVV2" class="org.jpos.iso.IFA_NUMERIC"/>
    </isofieldpackager>
    </isopackager>"""
    path = tmp_path / "mine.xml"
    path.write_text(text, encoding="utf-8")
    work = iso8583.load(str(path), header="tpdu")
    data = bytes.fromhex(
        "6000030000" "0200" "c000000000200000" "0000000000000002"
        "10" "6222987654321097" "d4c5e7c9" "d4e7" "303131" "0040000000000000" "313233"
    )  # fmt: skip
    message = work.decode(data)
    assert (message["pan"], message["43.city"], message["place.country"]) == ("6222987654321097", "MEXI", "MX")
    assert message["127.cvv2"] == "123"
    assert work.encode(message.to_dict(nested=True), header=message.header) == data
    assert "622298******1097" in repr(message)


def test_a_dict_of_pyiso8583_is_a_spec_at_work() -> None:
    plain = {"data_enc": "ascii", "len_enc": "ascii", "len_type": 0}
    spec = {"h": {**plain, "max_len": 0}, "t": {**plain, "max_len": 4}, "p": {**plain, "max_len": 16}}
    spec |= {"1": spec["p"], "2": {**plain, "len_type": 2, "max_len": 19, "desc": "PAN"}}
    work = iso8583.from_pyiso8583(spec)
    message = work.decode(b"02004000000000000000166222987654321097")
    assert message["pan"] == "6222987654321097" and message.spec.name == "pyiso8583"


# ---- files, formats ----


def test_files_are_chosen_by_their_suffix(tmp_path: Path) -> None:
    definition = load_bundled("iso8583_1987_ascii")
    for suffix, format_name in (*convert.SUFFIXES.items(), (".py", "pyiso8583"), (".JSON", "pyiso8583")):
        path = tmp_path / f"mine{suffix}"
        path.write_text(convert.write_text(definition, format_name, flat=True), encoding="utf-8")
        read = convert.read_file(path) if suffix == ".py" else convert.load_file(path)
        assert len(read.fields) == len(definition.fields)
        assert f"mine{suffix}" in read.fields[0].source
    path = tmp_path / "mine.toml"
    path.write_text(convert.write_text(definition, "toml"), encoding="utf-8")
    assert convert.read_file(path) == definition


@pytest.mark.parametrize("name", ["mine.json", "mine.yaml", "mine.xml", "mine.toml", "mine.py"])
def test_errors_name_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(SpecError, match="cannot be read"):
        convert.read_file(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError) as caught:
        convert.read_file(path)
    assert str(caught.value).startswith(f"{path}: ")
    path.write_bytes(b" " * (1024 * 1024 + 1))
    with pytest.raises(SpecError) as caught:
        convert.read_file(path)
    assert str(caught.value).startswith(f"{path}: ")
    if name != "mine.toml":
        assert "more than 1048576 bytes" in str(caught.value)


@pytest.mark.parametrize("format_name", FOREIGN)
def test_a_file_without_end_is_not_read_to_the_end(format_name: str) -> None:
    with pytest.raises(SpecError, match=r"/dev/zero: more than 1048576 bytes"):
        convert.read_file("/dev/zero", format_name)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    text = convert.write_text(load_bundled("iso8583_1987_ascii"), "moov-json", flat=True)
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert convert.load_file(path).name == "iso8583_1987_ascii"


def test_other_suffixes_and_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"expected a name that ends in \.json, \.yaml, \.yml, \.xml"):
        convert.load_file(tmp_path / "mine.ini")
    with pytest.raises(SpecError, match="not a format; expected one of toml, moov-json"):
        convert.write_text(load_bundled("kiosk"), "xml")
    with pytest.raises(SpecError, match="not a format"):
        convert.read_text("", "xml")


# ---- what is left out ----


def test_what_a_format_has_no_place_for_is_named() -> None:
    definition = load_bundled("unionpay_pos")
    for format_name in FOREIGN:
        told = " ".join(convert.left_out(definition, format_name))
        for what in ("labels", "marks of sensitive fields", "code tables", "signs of encrypted tracks"):
            assert what in told
    assert convert.left_out(definition, "toml") == ()
    assert "names of BER-TLV tags" in " ".join(convert.left_out(load_bundled("iso8583_1987_ascii"), "jpos-xml"))


def test_a_spec_of_one_message_type_has_no_variants() -> None:
    definition = load_bundled("unionpay_pos")
    assert definition.variants
    narrow = convert.narrowed(definition, "0820")
    assert not narrow.variants
    assert {field.number for field in narrow.fields} == set(definition.fields_of(definition.variant_for("0820")))


def test_a_flat_spec_has_the_same_fields_whole() -> None:
    definition = load_bundled("unionpay_pos")
    flat = convert.flattened(definition)
    assert [field.length_max for field in flat.fields] == [field.length_max for field in definition.fields]
    assert not any(field.layout or field.usages for field in flat.fields)
    assert flat.by_number[55].sensitive == "private"
