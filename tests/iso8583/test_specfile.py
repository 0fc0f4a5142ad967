"""Spec files: inheritance, and errors that name the file and the key."""

from pathlib import Path

import pytest

import iso8583
from iso8583.specfile import bundled_names, load_bundled, load_file

BASE = """
name = "base"
mti = "bcd"
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
[reply]
0200 = [11]
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_bundled_spec_loads_and_names_its_sources() -> None:
    assert bundled_names() == ["iso8583_1987_ascii", "kiosk", "unionpay_pos"]
    for name in bundled_names():
        definition = load_bundled(name)
        assert definition.name == name
        assert definition.source
        assert all(field.source for field in definition.fields)


def test_kiosk_differs_from_unionpay_in_field_48_only() -> None:
    pos, kiosk = load_bundled("unionpay_pos"), load_bundled("kiosk")
    differing = [
        number
        for number in pos.by_number
        if (pos.by_number[number].name, pos.by_number[number].encoding, pos.by_number[number].length_max)
        != (kiosk.by_number[number].name, kiosk.by_number[number].encoding, kiosk.by_number[number].length_max)
    ]
    assert differing == [48]
    assert pos.by_number.keys() == kiosk.by_number.keys()
    assert kiosk.by_number[48].tlv and kiosk.by_number[48].length_unit == "bytes"


def test_children_inherit_field_by_field_and_key_by_key(tmp_path: Path) -> None:
    write(tmp_path, "base", BASE)
    child = load_file(
        write(
            tmp_path,
            "child",
            'name = "child"\nextends = "base"\nremove = [2]\n[field.11]\nname = "serial"\n'
            '[field.12]\nname = "time"\ncontent = "n"\nlength = 6\nlength_unit = "digits"\nencoding = "bcd_left"\n'
            "[reply]\n0400 = [11, 12]\n",
        )
    )
    assert [field.name for field in child.fields] == ["serial", "time"]
    assert child.reply == (("0200", (11,)), ("0400", (11, 12)))


def test_a_new_length_replaces_the_old_one(tmp_path: Path) -> None:
    write(tmp_path, "base", BASE)
    child = load_file(
        write(tmp_path, "child", 'name = "child"\nextends = "base"\n[field.2]\nlength = 16\nlength_unit = "digits"\n')
    )
    assert (child.by_number[2].length_min, child.by_number[2].length_prefix) == (16, None)


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ('name = "base"\n', "", "name: missing"),
        ("field_max = 64", "field_max = 65", "field_max: expected 64 or 128"),
        ('mti = "bcd"', 'mti = "BCD"', "mti: expected bcd or ascii"),
        ('name = "pan"\n', "", "field.2.name: missing"),
        ("length = 6", "", "field.11.length: missing"),
        ("length = 6", "length = true", "field.11.length: expected int"),
        ("length = 6", "length = 6\nlength_max = 6", "field.11.length: is for fixed fields"),
        ('length_prefix = "bcd2"\n', "", "field.2.length_prefix: missing"),
        (
            'length_prefix = "bcd2"\nlength_unit = "digits"\n',
            'length_prefix = "bcd2"\n',
            "field.2.length_unit: missing",
        ),
        ('content = "n"\nlength = 6', 'content = "m"\nlength = 6', "field.11.content: expected one of n, a,"),
        ("[field.11]", "[field.011]", "field.011: expected a field number"),
        ("[field.11]", "[field.x]", "field.x: expected a field number"),
        ("[field.11]", "[field.1]", "field.1: field numbers are 2 to 128"),
        ("length = 6", "lenght = 6", "field.11.lenght: unknown key"),
        ("bitmap =", "bitmaps =", "bitmaps: unknown key"),
        ("0200 = [11]", "0210 = [11]", "reply.0210: expected the MTI of a request"),
        ("0200 = [11]", '0200 = ["11"]', "reply.0200: expected a list of field numbers"),
        ("0200 = [11]", "0200 = [12]", "reply.0200: field 12 is not defined"),
        ("mti =", "mti", "not TOML"),
    ],
)
def test_errors_name_the_file_and_the_key(tmp_path: Path, old: str, new: str, where: str) -> None:
    assert old in BASE
    path = write(tmp_path, "base", BASE.replace(old, new, 1))
    with pytest.raises(iso8583.SpecError) as caught:
        load_file(path)
    assert str(caught.value).startswith(f"{path}: {where}")


def test_other_ways_to_be_wrong(tmp_path: Path) -> None:
    for text, where in [
        ('name = "x"\nextends = "nowhere"\n', "extends: no spec 'nowhere'"),
        ("extends = 5\n", "extends: expected the name of a spec"),
        ('extends = "kiosk"\nremove = [5]\n', "remove: field 5 is not in kiosk"),
        ("field = 5\n", "field: expected a table"),
        ("[field]\n2 = 5\n", "field.2: expected a table"),
        ('extends = "x"\n', "extends: more than 8 specs on top of each other"),
    ]:
        path = write(tmp_path, "x", text)
        with pytest.raises(iso8583.SpecError) as caught:
            load_file(path)
        assert where in str(caught.value), text
    with pytest.raises(iso8583.SpecError, match="cannot be read"):
        load_file(tmp_path / "absent.toml")
