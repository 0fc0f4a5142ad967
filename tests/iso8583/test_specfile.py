"""Spec files: inheritance, what every key becomes, and errors that name the file and the key."""

from pathlib import Path

import pytest

from iso8583.errors import SpecError
from iso8583.spec import FieldSpec, MessageSpec, SubSpec
from iso8583.specfile import dumps, load_bundled, load_file, loads

BASE = """
name = "base"
mti_encoding = "bcd"
bitmap = "binary"
field_max = 64
[field.2]
name = "pan"
content = "n"
length_max = 19
length_prefix = "bcd2"
length_unit = "digits"
encoding = "bcd_left"
[field.11]
name = "stan"
content = "n"
length = 6
length_unit = "digits"
encoding = "bcd_left"
[field.35]
name = "track2"
content = "track2"
length_max = 37
length_prefix = "bcd2"
length_unit = "digits"
encoding = "bcd_left"
encrypted_when = { field = 11, position = 3, value = "1" }
[field.60]
name = "reserved_60"
content = "n"
length_max = 11
length_prefix = "bcd3"
length_unit = "digits"
encoding = "bcd_left"
layout = "positions"
[field.60.sub.1]
name = "type"
content = "n"
length = 2
[field.60.sub.2]
name = "batch"
content = "n"
length = 6
optional = true
[field.62]
name = "reserved_62"
content = "b"
length_max = 99
length_prefix = "bcd3"
encoding = "binary"
[[field.62.usage]]
label = "密钥"
when.mti = ["0810"]
when.field."60.1" = ["00"]
when.length = [16]
layout = "positions"
[field.62.usage.sub.1]
content = "b"
length = 16
[mti.08xx]
remove = [2]
[mti.08xx.field.11]
length = 4
length_unit = "digits"
[reply]
0200 = [11]
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        loads(text)
    return str(caught.value)


def sub(value: FieldSpec, key: str) -> SubSpec:
    assert value.layout is not None
    return value.layout.by_key[key]


# ------------------------------------------------------------------------------------------------ reading


def test_every_key_arrives() -> None:
    spec = loads(
        """
        name = "all"
        source = "a document"
        mti_encoding = "ebcdic"
        bitmap = "hex_ebcdic"
        field_max = 192
        [field.43]
        name = "merchant"
        label = "商户"
        content = "ans"
        encoding = "cp500"
        length = 40
        pad_side = "right"
        pad_character = " "
        sensitive = "private"
        codes = "currencies"
        source = "clause 4"
        [field.4]
        name = "amount"
        content = "n"
        encoding = "bcd_right"
        length = 5
        length_unit = "digits"
        pad_nibble = "F"
        pad_strict = true
        [field.129]
        name = "objects"
        content = "b"
        encoding = "binary"
        length_min = 2
        length_max = 60
        length_prefix = "ebcdic3"
        layout = "ber_tlv"
        unknown = "refuse"
        sensitive = "icc"
        sub.9F26 = { name = "cryptogram", length = 8 }
        sub.71 = { repeat = true, layout = "ber_tlv", sub.86 = { repeat = true } }
        [field.127]
        name = "private"
        content = "b"
        encoding = "hex_ebcdic"
        length_max = 999
        length_prefix = "ebcdic3"
        layout = "bitmap"
        bitmap = "hex"
        bitmap_size = 2
        sub.3 = { name = "pin", content = "b", length = 8, sensitive = "pin" }
        sub.16 = { content = "n", encoding = "ascii", length_max = 20, length_prefix = "ascii2" }
        """
    )
    assert (spec.name, spec.source, spec.mti_encoding, spec.bitmap) == ("all", "a document", "ebcdic", "hex_ebcdic")
    assert [field.number for field in spec.fields] == [4, 43, 127, 129]
    amount, merchant, private, objects = spec.fields
    assert (amount.length_min, amount.length_max, amount.length_unit) == (5, 5, "digits")
    assert (amount.pad_nibble, amount.pad_strict) == ("F", True)
    assert (merchant.pad_side, merchant.pad_character, merchant.encoding) == ("right", " ", "cp500")
    assert (merchant.label, merchant.sensitive, merchant.codes, merchant.source) == (
        "商户",
        "private",
        "currencies",
        "clause 4",
    )
    assert objects.layout is not None and objects.layout.unknown == "refuse"
    assert (objects.length_min, objects.length_max, objects.length_prefix) == (2, 60, "ebcdic3")
    cryptogram, script = objects.layout.subs
    assert (cryptogram.content, cryptogram.encoding, cryptogram.fixed, cryptogram.repeat) == (
        "b",
        "binary",
        True,
        False,
    )
    assert (script.length_min, script.length_max, script.repeat) == (0, 65535, True)
    assert script.layout is not None and script.layout.by_key["86"].repeat
    assert private.layout is not None and (private.layout.bitmap, private.layout.bitmap_size) == ("hex", 2)
    assert private.layout.by_key["3"].sensitive == "pin" and private.layout.by_key["3"].encoding == "binary"
    assert loads(dumps(spec)) == spec


def test_sub_fields_are_written_in_what_their_field_is_written_in() -> None:
    spec = loads(BASE)
    assert sub(spec.by_number[60], "1").encoding == "ascii"  # they lie in the digits
    usage = spec.by_number[62].usages[0]
    assert usage.layout is not None and usage.layout.subs[0].encoding == "binary"
    field = """
        [field.63]
        name = "text"
        content = "ans"
        encoding = "gbk"
        length_max = 99
        length_prefix = "bcd3"
        layout = "positions"
        sub.1 = { content = "ans", length = 3 }
        sub.2 = { content = "b", length = 16 }
        sub.3 = { content = "ans", length_max = 80 }
        """
    text = loads(BASE.replace("[mti.08xx]\n", f"{field}\n[mti.08xx]\n"))
    assert [sub(text.by_number[63], key).encoding for key in "123"] == ["gbk", "binary", "gbk"]
    assert (sub(text.by_number[63], "3").length_min, sub(text.by_number[63], "3").length_max) == (0, 80)


def test_usages_and_variants_arrive() -> None:
    spec = loads(BASE)
    (usage,) = spec.by_number[62].usages
    assert (usage.mti, usage.fields, usage.lengths, usage.label) == (("0810",), (("60.1", ("00",)),), (16,), "密钥")
    assert (usage.starts, usage.sensitive) == ((), None)
    (variant,) = spec.variants
    assert (variant.mti, variant.removed) == ("08xx", (2,))
    (stan,) = variant.fields
    assert (stan.name, stan.length_max, stan.length_unit) == ("stan", 4, "digits"), "what it does not say is inherited"
    assert spec.by_number[35].encrypted_when == (11, 3, "1")


# ------------------------------------------------------------------------------------------------ inheriting


def test_children_inherit_field_by_field_and_key_by_key(tmp_path: Path) -> None:
    write(tmp_path, "base", BASE)
    child = load_file(
        write(
            tmp_path,
            "child",
            'name = "child"\nextends = "base"\nremove = [35, 62]\n[field.11]\nname = "serial"\n'
            '[field.12]\nname = "time"\ncontent = "n"\nlength = 6\nlength_unit = "digits"\nencoding = "bcd_left"\n'
            '[field.60.sub.1]\nlabel = "业务"\n'
            "[mti.08xx]\nremove = [12]\n[mti.08xx.field.11]\npad_strict = true\n"
            '[mti.0820.field.12]\nlength = 4\nlength_unit = "digits"\n'
            "[reply]\n0400 = [12, 11]\n",
        )
    )
    assert [field.name for field in child.fields] == ["pan", "serial", "time", "reserved_60"]
    assert child.reply == (("0200", (11,)), ("0400", (11, 12)))
    first = sub(child.by_number[60], "1")
    assert (first.name, first.label, first.length_max) == ("type", "业务", 2)
    assert list(child.by_number[60].layout.by_key) == ["1", "2"]  # type: ignore[union-attr]
    general, exact = child.variants
    assert (general.mti, general.removed, exact.mti, exact.removed) == ("08xx", (2, 12), "0820", ())
    assert (general.fields[0].length_max, general.fields[0].pad_strict) == (4, True)
    assert (exact.fields[0].name, exact.fields[0].length_max) == ("time", 4)


def test_a_new_length_replaces_the_old_one(tmp_path: Path) -> None:
    write(tmp_path, "base", BASE)
    text = 'name = "child"\nextends = "base"\n[field.2]\nlength = 16\nlength_unit = "digits"\n'
    pan = load_file(write(tmp_path, "child", text)).by_number[2]
    assert (pan.length_min, pan.length_max, pan.length_prefix) == (16, 16, None)


@pytest.mark.parametrize("key", ['layout = "ber_tlv"', "usage = []"])
def test_a_new_layout_or_usage_replaces_the_old_one_with_its_parts(tmp_path: Path, key: str) -> None:
    write(tmp_path, "base", BASE)
    text = (
        f'name = "child"\nextends = "base"\n[field.62]\n{key}\n'
        '[field.60]\nlayout = "positions"\nsub.1 = { content = "n", length = 11 }\n'
    )
    child = load_file(write(tmp_path, "child", text))
    assert child.by_number[62].usages == ()
    assert child.by_number[62].tlv == key.startswith("layout")
    assert [part.length_max for part in child.by_number[60].layout.subs] == [11]  # type: ignore[union-attr]


def test_a_file_beside_the_child_comes_before_a_bundled_spec(tmp_path: Path) -> None:
    child = write(tmp_path, "child", 'name = "child"\nextends = "kiosk"\n')
    assert 48 in load_file(child).by_number
    write(tmp_path, "kiosk", BASE)
    assert 48 not in load_file(child).by_number
    assert 48 in loads(child.read_text(encoding="utf-8")).by_number  # text has no folder


# ------------------------------------------------------------------------------------------------ writing


def test_odd_names_and_texts_survive_writing() -> None:
    spec = loads(BASE)
    odd = 'quotes " and \\, a line\nand \x7f, 中文'
    changed = MessageSpec(
        name=odd,
        mti_encoding="ascii",
        bitmap="hex",
        field_max=64,
        fields=spec.fields,
        variants=spec.variants,
        source=odd,
    )
    assert loads(dumps(changed)) == changed
    tagged = loads(
        """
        name = "x"
        mti_encoding = "bcd"
        bitmap = "hex"
        field_max = 64
        [field.48]
        name = "tags"
        content = "ans"
        encoding = "gbk"
        length_max = 99
        length_prefix = "ascii2"
        layout = "tlv"
        tag_size = 2
        value_prefix = "ascii3"
        sub."#1" = { name = "" }
        sub.".." = { content = "ans" }
        """
    )
    assert loads(dumps(tagged)) == tagged
    assert set(tagged.by_number[48].layout.by_key) == {"#1", ".."}  # type: ignore[union-attr]


# ------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ('name = "base"\n', "", "name: missing"),
        ('mti_encoding = "bcd"\n', "", "mti_encoding: missing"),
        ('bitmap = "binary"\n', "", "bitmap: missing"),
        ("field_max = 64\n", "", "field_max: missing"),
        ('name = "base"', "name = 5", "name: expected str"),
        ("field_max = 64", 'field_max = "64"', "field_max: expected int"),
        ("field_max = 64", "field_max = 65", "field_max: expected 64, 128 or 192"),
        ('mti_encoding = "bcd"', 'mti_encoding = "BCD"', "mti_encoding: expected bcd, ascii or ebcdic"),
        ("bitmap =", "bitmaps =", "bitmaps: unknown key; expected one of bitmap, extends,"),
        ("[reply]\n0200 = [11]\n", "", ""),  # nothing of it is needed
        ('name = "pan"\n', "", "field.2.name: missing"),
        ('content = "n"\nlength = 6', "length = 6", "field.11.content: missing"),
        ('encoding = "bcd_left"\n[field.35]', "[field.35]", "field.11.encoding: missing"),
        ("length = 6\nlength_unit", "length_unit", "field.11.length: missing; or length_max with length_prefix"),
        ("length = 6\nlength_unit", "length = true\nlength_unit", "field.11.length: expected int"),
        ("length = 6\nlength_unit", "length = 6\nlength_max = 6\nlength_unit", "field.11.length: is for fixed fields"),
        ('length_prefix = "bcd2"\n', "", "field.2.length_prefix: missing; a field without one has a fixed `length`"),
        ('length_prefix = "bcd2"\nlength_unit = "digits"', 'length_prefix = "bcd2"', "field.2.length_unit: missing"),
        ('content = "n"\nlength = 6', 'content = "m"\nlength = 6', "field.11.content: expected one of n, a,"),
        ("length = 6\nlength_unit", "lenght = 6\nlength_unit", "field.11.lenght: unknown key"),
        ("[field.11]", "[field.011]", "field.011: expected a field number"),
        ("[field.11]", "[field.x]", "field.x: expected a field number"),
        ("[field.11]", '[field."²"]', "field.²: expected a field number"),
        ("[field.11]", "[field.1]", "field.1: field numbers are 2 to 192"),
        ("[field.2]", "[field.65]", "field.65: above field_max 64"),
        ('name = "stan"', 'name = "pan"', "field.11.name: pan is field 2 already"),
        ('value = "1" }', 'value = "12" }', "field.35.encrypted_when: expected field, position"),
        ("position = 3,", "position = 0,", "field.35.encrypted_when: expected field, position"),
        ("position = 3, ", "", "field.35.encrypted_when: expected field, position"),
        ("position = 3", 'position = "3"', "field.35.encrypted_when.position: expected int"),
        ("position = 3", "place = 3", "field.35.encrypted_when.place: unknown key"),
        ("encrypted_when = { field = 11", "encrypted_when = { field = 53", "field.35.encrypted_when: field 53 is not"),
        ('encrypted_when = {', 'encrypted_when = [{', "not TOML"),
        ('layout = "positions"\n[field.60.sub.1]', "[field.60.sub.1]", "field.60.sub: needs a layout"),
        ('layout = "positions"\n[field.60.sub.1]', "tag_size = 2\n[field.60.sub.1]", "field.60.sub: needs a layout"),
        ('layout = "positions"\n[field.60', 'layout = "tree"\n[field.60', "field.60.layout: expected positions, ber_"),
        ('name = "type"\n', "nmae = 5\n", "field.60.sub.1.nmae: unknown key"),
        ('name = "type"\n', 'name = "Type"\n', "field.60.sub.1.name: expected lower-case letters"),
        ('name = "type"\ncontent = "n"\n', 'name = "type"\n', "field.60.sub.1.content: missing"),
        ("length = 2\n", "", "field.60.sub.1.length: missing"),
        ("length = 2\n", "length_max = 2\n", "field.60.sub.1.length: only the last sub-field may take what is left"),
        ("length = 2\n", "length = 2\nrepeat = true\n", "field.60.sub.1.repeat: is for tags"),
        ("length = 2\n", "length = 2\noptional = 1\n", "field.60.sub.1.optional: expected bool"),
        ("length = 2\n", "length = 2\nsub = 5\n", "field.60.sub.1.sub: expected a table"),
        ("length = 2\n", "length = 2\n[field.60.sub]\n3 = 5\n", "field.60.sub.3: expected a table"),
        ("[field.60.sub.2]", "[field.60.sub.3]", "field.60.sub.3: expected sub.2"),
        ('label = "密钥"', 'lable = "密钥"', "field.62.usage[0].lable: unknown key"),
        ("when.mti =", "when.mit =", "field.62.usage[0].when.mit: unknown key"),
        ('when.mti = ["0810"]', 'when.mti = "0810"', "field.62.usage[0].when.mti: expected a list"),
        ('when.mti = ["0810"]', "when.mti = [810]", "field.62.usage[0].when.mti: expected a list of strings"),
        ('when.mti = ["0810"]', 'when.mti = ["810"]', "field.62.usage[0].when.mti: '810': expected four digits"),
        ('when.mti = ["0810"]', "when.starts = [0]", "field.62.usage[0].when.starts: expected a list of strings"),
        ('"60.1" = ["00"]', '"60.1" = "00"', "field.62.usage[0].when.field.60.1: expected a list of strings"),
        ("when.length = [16]", 'when.length = ["16"]', "field.62.usage[0].when.length: expected a list of lengths"),
        ("when.length = [16]", 'sensitive = "no"', "field.62.usage[0].sensitive: expected one of pan,"),
        ('layout = "positions"\n[field.62', 'layout = "tree"\n[field.62', "field.62.usage[0].layout: expected pos"),
        ('layout = "positions"\n[field.62', "[field.62", "field.62.usage[0].sub: needs a layout"),
        ('content = "b"\nlength = 16', 'content = "n"\nlength = 16', "field.62.usage[0].sub.1.encoding: missing"),
        ('content = "b"\nlength = 16', 'content = "c"\nlength = 16\nencoding = "ascii"',
         "field.62.usage[0].sub.1.content: expected one of"),
        ("[mti.08xx]\n", "[mti.08X]\n", "mti.08X: expected four digits, x for any digit"),
        ("remove = [2]", "removed = [2]", "mti.08xx.removed: unknown key"),
        ("remove = [2]", 'remove = ["2"]', "mti.08xx.remove: expected a list of field numbers"),
        ("remove = [2]", "remove = [3]", "mti.08xx.remove: field 3 is not defined"),
        ("remove = [2]", "field = 5", "not TOML"),
        ("[mti.08xx.field.11]\nlength = 4", "[mti.08xx.field.11]\nlenght = 4", "mti.08xx.field.11.lenght: unknown"),
        ("[mti.08xx.field.11]", "[mti.08xx.field.12]", "mti.08xx.field.12.name: missing"),
        ("[mti.08xx.field.11]\nlength = 4", "[mti.08xx.field.11]\nlength = 0", "mti.08xx.field.11.length_max: exp"),
        ("[mti.08xx.field.11]\nlength = 4", '[mti.08xx.field.11]\nname = "pan"', "mti.08xx.field.11.name: pan is f"),
        ("0200 = [11]", "0210 = [11]", "reply.0210: expected the MTI of a request or an advice"),
        ("0200 = [11]", '"02" = [11]', "reply.02: expected the MTI of a request or an advice"),
        ("0200 = [11]", '0200 = ["11"]', "reply.0200: expected a list of field numbers"),
        ("0200 = [11]", "0200 = 11", "reply.0200: expected a list of field numbers"),
        ("0200 = [11]", "0200 = [12]", "reply.0200: field 12 is not defined"),
        ("mti_encoding =", "mti_encoding", "not TOML"),
    ],
)  # fmt: skip
def test_errors_name_the_file_and_the_key(tmp_path: Path, old: str, new: str, where: str) -> None:
    assert old in BASE
    path = write(tmp_path, "base", BASE.replace(old, new, 1))
    if not where:
        assert load_file(path).reply == ()
        return
    with pytest.raises(SpecError) as caught:
        load_file(path)
    assert str(caught.value).startswith(f"{path}: {where}")
    assert caught.value.source == str(path)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('name = "x"\nextends = "nowhere"\n', "extends: no spec 'nowhere'; bundled are "),
        ('name = "x"\nextends = "../specs/kiosk"\n', "extends: no spec '../specs/kiosk'"),
        ("extends = 5\n", "extends: expected str"),
        ('extends = "kiosk"\nremove = [5]\n', "remove: field 5 is not in kiosk"),
        ('extends = "kiosk"\nremove = 5\n', "remove: expected a list"),
        ("field = 5\n", "field: expected a table"),
        ("[field]\n2 = 5\n", "field.2: expected a table"),
        ("[mti]\n0800 = 5\n", "mti.0800: expected a table"),
        ("[field.2]\nusage = [5]\n", "field.2.usage[0]: expected a table"),
        ("[field.2]\nusage = 5\n", "field.2.usage: expected a list"),
        ("[[field.2.usage]]\nwhen = 5\n", "field.2.usage[0].when: expected a table"),
        ("[reply]\n[reply.0200]\n", "name: missing"),
    ],
)
def test_other_ways_to_be_wrong(text: str, where: str) -> None:
    assert refused(text).startswith(f"<text>: {where}")


def test_specs_on_top_of_each_other_end_somewhere(tmp_path: Path) -> None:
    path = write(tmp_path, "x", 'extends = "x"\n')
    with pytest.raises(SpecError, match=r"extends: more than 8 specs on top of each other: is it a loop\?"):
        load_file(path)


def nested(levels: int) -> str:
    """A field with so many levels of sub-fields."""
    place, text = "field.48", ""
    for level in range(levels + 1):
        text += f'[{place}]\nname = "x"\ncontent = "ans"\nencoding = "ascii"\nlength = 9\n'
        if level < levels:
            text += 'layout = "positions"\n'
        place += ".sub.1"
    return f'name = "x"\nmti_encoding = "bcd"\nbitmap = "hex"\nfield_max = 64\n{text}'


def test_sub_fields_nest_eight_levels_deep() -> None:
    assert loads(nested(8)).by_number[48].layout
    assert refused(nested(9)) == f"<text>: field.48{'.sub.1' * 9}: more than 8 levels of sub-fields [spec]"
    usage = nested(9).replace("[field.48.sub.1", "[field.48.usage.sub.1").replace(
        "[field.48.usage.sub.1]", '[[field.48.usage]]\nlayout = "positions"\n[field.48.usage.sub.1]', 1
    )  # fmt: skip
    assert "more than 8 levels of sub-fields" in refused(usage)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"absent\.toml: cannot be read"):
        load_file(tmp_path / "absent.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"\n')
    with pytest.raises(SpecError, match=r"latin\.toml: cannot be read"):
        load_file(tmp_path / "latin.toml")


@pytest.mark.parametrize("name", ["nowhere", "../specs/kiosk", "", "kiosk.toml"])
def test_a_bundled_name_that_does_not_exist(name: str) -> None:
    with pytest.raises(SpecError, match=r"no spec .*; bundled are iso8583_1987_ascii, iso8583_1987_bcd, "):
        load_bundled(name)


def test_an_error_of_a_parent_names_the_parent(tmp_path: Path) -> None:
    write(tmp_path, "base", BASE.replace("length = 6", "lenght = 6"))
    with pytest.raises(SpecError) as caught:
        load_file(write(tmp_path, "child", 'name = "child"\nextends = "base"\n'))
    assert caught.value.source == str(tmp_path / "base.toml")
