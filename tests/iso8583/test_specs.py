"""The bundled specs: complete, consistent, and right about messages written by hand."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import iso8583
from iso8583 import codes, mti, nested
from iso8583.errors import DecodeError
from iso8583.spec import FieldSpec, Layout, MessageSpec, ValueSpec
from iso8583.specfile import bundled_names, dumps, load_bundled, loads

NAMES = [
    "iso8583_1987_ascii",
    "iso8583_1987_bcd",
    "iso8583_1993_ascii",
    "iso8583_1993_bcd",
    "iso8583_2003_ascii",
    "kiosk",
    "unionpay_cups",
    "unionpay_pos",
]
EDITIONS = [name for name in NAMES if name.startswith("iso8583")]

# No response carries them back, whatever its request held.
NEVER_REPEATED = {"track", "pin", "mac", "key", "expiry"}

FILES = sorted((Path(__file__).parents[1] / "vectors").glob("*.toml"))
VECTORS = [vector for path in FILES for vector in tomllib.loads(path.read_text(encoding="utf-8")).get("vector", [])]
each_spec = pytest.mark.parametrize("name", NAMES)
each_vector = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["title"])


def values_in(value: ValueSpec, place: str) -> Iterator[tuple[str, ValueSpec, Layout | None]]:
    """The value and everything inside it: (path for people, value, the layout that it is a part of)."""

    def inside(layout: Layout | None, at: str) -> Iterator[tuple[str, ValueSpec, Layout | None]]:
        for sub in layout.subs if layout is not None else ():
            for path, found, owner in values_in(sub, f"{at}.{sub.key}"):
                yield path, found, layout if found is sub else owner

    yield place, value, None
    yield from inside(value.layout, place)
    for index, usage in enumerate(value.usages):
        yield from inside(usage.layout, f"{place}.usage[{index}]")


def all_values(definition: MessageSpec) -> Iterator[tuple[str, ValueSpec, Layout | None]]:
    for field in definition.fields:
        yield from values_in(field, str(field.number))
    for variant in definition.variants:
        for field in variant.fields:
            yield from values_in(field, f"{variant.mti}: {field.number}")


def formats_of(table: str) -> dict[int, str]:
    """Rows such as ``"4-6 n12"`` as a dict by field number."""
    formats = {}
    for numbers, form in re.findall(r"([0-9-]+) (\S+)", table):
        first, _, last = numbers.partition("-")
        formats.update(dict.fromkeys(range(int(first), int(last or first) + 1), form))
    return formats


# ------------------------------------------------------------------------------------------------ all of them


def test_these_are_bundled() -> None:
    assert bundled_names() == NAMES


@each_spec
def test_a_spec_says_what_it_is_and_where_it_comes_from(name: str) -> None:
    definition = load_bundled(name)
    assert definition.name == name
    assert definition.source
    for path, value, owner in all_values(definition):
        assert re.search("[\u4e00-\u9fff]", value.label), f"{name} {path}: label"
        if owner is None:
            assert value.name and value.source, f"{name} {path}"
        elif owner.kind == "positions":
            assert value.name, f"{name} {path}: name"
        assert value.codes is None or codes.load_table(value.codes), f"{name} {path}"
    for field in definition.fields:
        assert all(usage.label for usage in field.usages), f"{name} {field.number}: usages"


@each_spec
def test_a_spec_reads_back_equal_from_its_own_text(name: str) -> None:
    definition = load_bundled(name)
    again = loads(dumps(definition))
    assert again == definition
    assert dumps(again) == dumps(definition)


# What anybody who reads a log may see. Whatever is not here is hidden, shown in part, or shown tag by tag.
SHOWN = {
    "iso8583_1987": "3-13 15-33 37-44 49-51 53 66-95 97 99-101",
    "iso8583_1993": "3-13 15-33 37-43 46 49-51 56-58 66-71 73-95 97 99-101 105-110",
    "iso8583_2003": "3-13 15-33 37-43 46 56-58 66-70 73-75 93-95 97 99-101 109-110",
    "unionpay_pos": "3-4 11-13 15 22-23 25-26 32 37-39 41-44 49 53 60-61",
    "kiosk": "3-4 11-13 15 22-23 25-26 32 37-39 41-44 49 53 60-61",
    "unionpay_cups": "3-7 9-13 15-16 18-19 22-23 25-26 28 32-33 37-39 41-44 49-51 53 60 70 90-91 100 108",
}


@each_spec
def test_nothing_is_shown_by_accident(name: str) -> None:
    shown = formats_of(re.sub(r"(\S+)", r"\1 shown", SHOWN[re.sub("_(ascii|bcd)$", "", name)]))
    assert {field.number for field in load_bundled(name).fields if field.sensitive is None} == set(shown)


@each_spec
def test_what_must_not_be_seen_is_marked(name: str) -> None:
    marked = {
        "pan": "pan", "pan_extended": "pan", "account_from": "pan", "account_to": "pan",
        "track1": "track", "track2": "track", "track3": "track",
        "pin_block": "pin", "mac": "mac", "mac_128": "mac", "expiry": "expiry",
        "message_security_code": "key", "key_management_data": "key",
    }  # fmt: skip
    fields = {field.name: field.sensitive for field in load_bundled(name).fields}
    found = {field: fields[field] for field in marked if field in fields}
    assert found == {field: marked[field] for field in found}
    assert {"pan", "track2", "track3", "pin_block", "expiry"} <= found.keys()


@each_spec
def test_chip_data_may_hold_several_scripts_of_several_commands(name: str) -> None:
    layout = load_bundled(name).by_number[55].layout
    if name == "iso8583_2003_ascii":
        assert layout is None, "objects or datasets of objects: nobody knows"
        return
    assert layout is not None and layout.kind == "ber_tlv"
    assert {sub.key for sub in layout.subs if sub.repeat} == {"71", "72"}
    for script in layout.subs:
        assert script.layout is not None and script.layout.by_key["86"].repeat


@each_spec
def test_responses_repeat_no_secrets(name: str) -> None:
    definition = load_bundled(name)
    assert definition.reply
    for request, echoed in definition.reply:
        assert mti.is_request(request) and echoed
        kinds = {definition.by_number[number].sensitive for number in echoed}
        assert not kinds & NEVER_REPEATED, f"{name} {request}"
        assert 11 in echoed, f"{name} {request}: without its trace number nobody finds the request"


# The tables of the documents, in their notation: type and length, a dot for every digit of a length prefix. b counts
# bytes, x+n8 is a letter and 8 digits.
FORMATS = {
    "iso8583_1987_ascii": """
        2 n..19 3 n6 4-6 n12 7 n10 8-10 n8 11-12 n6 13-18 n4 19-24 n3 25-26 n2 27 n1 28-31 x+n8 32-33 n..11
        34 ans..28 35 track2..37 36 z...104 37 an12 38 an6 39 an2 40 an3 41 ans8 42 ans15 43 ans40 44 ans..25
        45 ans..76 46-48 ans...999 49-51 an3 52 b8 53 n16 54 ans...120 55 b...999 56-63 ans...999 64 b8
        66 n1 67 n2 68-70 n3 71-72 n4 73 n6 74-81 n10 82-85 n12 86-89 n16 90 n42 91 an1 92 an2 93 an5 94 an7
        95 an42 96 b8 97 x+n16 98 ans25 99-100 n..11 101 ans..17 102-103 ans..28 104 ans...100
        105-127 ans...999 128 b8
    """,
    "iso8583_1993_ascii": """
        2 n..19 3 n6 4-6 n12 7 n10 8-10 n8 11 n6 12 n12 13-14 n4 15 n6 16-18 n4 19-21 n3 22 an12 23-24 n3
        25-26 n4 27 n1 28 n6 29 n3 30 n24 31 ans..99 32-33 n..11 34 ans..28 35 track2..37 36 z...104 37 an12
        38 an6 39-40 n3 41 ans8 42 ans15 43-44 ans..99 45 ans..76 46 ans...204 47-48 ans...999 49-51 an3 52 b8
        53 b..48 54 ans...120 55 b...255 56 n..35 57 n3 58 n..11 59-63 ans...999 64 b8
        66 ans...204 67 n2 68-70 n3 71 n8 72 ans...999 73 n6 74-85 n10 86-89 n16 90 n10 91-92 n3 93-94 n..11
        95 ans..99 96 b...999 97 x+n16 98 ans25 99 an..11 100 n..11 101 ans..17 102-103 ans..28 104 ans...100
        105-106 n16 107-108 n10 109-110 ans..84 111-127 ans...999 128 b8
    """,
    "iso8583_2003_ascii": """
        2 n..19 3 an6 4-6 n16 7 n10 8 n12 9-10 n8 11 n12 12 n14 13 n6 14 n4 15 n8 16-17 n4 18 ans...140
        19-20 n3 21 ans22 22 b16 23-24 n3 25-26 n4 27 b27 28 n8 29 n3 30 n32 31 n23 32-33 n..11 34 b....9999
        35 track2..37 36 z...104 37 an12 38 an6 39 n4 40 n3 41 ans16 42 ans..35 43-44 b....9999 45 ans..76
        46 ans...216 47-48 ans...999 49-51 b....9999 52 b8 53 b..48 54 ans...126 55 b....9999 56 n..41 57 n3
        58 n..11 59-63 ans...999 64 b8 66 ans...216 67 n2 68 ans9 69 ans40 70 n18 71-72 b....9999 73 n8 74 n156
        75 n90 76-92 b....9999 93-94 n..11 95 ans..99 96 b...999 97 an21 98 ans25 99 an..11 100 n..11 101 ans..99
        102-103 ans..28 104-108 b....9999 109-110 ans...144 111-127 b....9999 128 b8
    """,
    "unionpay_pos": """
        2 n..19 3 n6 4 n12 11-12 n6 13-15 n4 22-23 n3 25-26 n2 32 n..11 35 track2..37 36 z...104 37 an12 38 an6
        39 an2 41 ans8 42 ans15 43 ans40 44 ans..25 46-47 b...999 48 n...322 49 an3 52 b8 53 n16 54 ans...40
        55 b...700 56-57 b...999 58 b...100 59 b...999 60 n...19 61 n...29 62 b...999 63 ans...163 64 b8
    """,
    "unionpay_cups": """
        2 n..19 3 n6 4-6 n12 7 n10 9-10 n8 11-12 n6 13-16 n4 18 n4 19 n3 22-23 n3 25-26 n2 28 x+n8 32-33 n..11
        35 track2..37 36 z...104 37 an12 38 an6 39 an2 41 ans8 42 ans15 43 ans40 44 ans..25 45 ans..76
        47 b...100 48 b...512 49-51 an3 52 b8 53 n16 54 ans...40 55 b...300 56 b...512 57 ans...100 59 ans...600
        60 an...100 61-62 ans...200 63 b...512 70 n3 90 n42 91 an1 96 b8 100 n..11 102-103 ans..32 104 b...512
        108 ans...32 113 b...512 116 b...512 117 b...256 121-122 ans...100 123 ans...999 125-126 b...256 127 b...999
        128 b8
    """,
}


def notation(field: FieldSpec) -> str:
    if field.content == "xn":
        return f"x+n{field.length_max - 1}"
    dots = "" if field.length_prefix is None else "." * int(field.length_prefix[-1])
    return f"{field.content}{dots}{field.length_max}"


@pytest.mark.parametrize("name", FORMATS)
def test_fields_have_the_formats_of_the_documents(name: str) -> None:
    assert {field.number: notation(field) for field in load_bundled(name).fields} == formats_of(FORMATS[name])


@each_spec
def test_the_parts_of_a_fixed_value_fill_it(name: str) -> None:
    for path, value, _ in all_values(load_bundled(name)):
        if value.fixed and value.layout is not None and value.layout.kind == "positions":
            least = sum(0 if sub.optional or sub.times else sub.length_min for sub in value.layout.subs)
            most = sum(10**6 if sub.times else sub.length_max for sub in value.layout.subs)
            assert least <= value.length_max <= most, f"{name} {path}"
            if not any(sub.times or not sub.fixed for sub in value.layout.subs):
                assert most == value.length_max, f"{name} {path}"


@pytest.mark.parametrize("name", EDITIONS)
def test_an_edition_has_every_field_but_the_third_bitmap(name: str) -> None:
    definition = load_bundled(name)
    assert set(definition.by_number) == set(range(2, 129)) - {65}
    year = name.split("_")[1]
    assert all(f"ISO 8583:{year}, bit {field.number}" in field.source for field in definition.fields)
    assert {request[0] for request, _ in definition.reply} == {{"1987": "0", "1993": "1", "2003": "2"}[year]}


@pytest.mark.parametrize("year", ["1987", "1993"])
def test_the_packed_form_differs_in_its_packing_only(year: str) -> None:
    text, packed = load_bundled(f"iso8583_{year}_ascii"), load_bundled(f"iso8583_{year}_bcd")
    assert (packed.mti_encoding, packed.bitmap, packed.reply) == ("bcd", "binary", text.reply)

    def meaning(field: FieldSpec) -> tuple[Any, ...]:
        return field.name, field.label, field.content, field.length_min, field.length_max, field.layout, field.sensitive

    for field in packed.fields:
        original = text.by_number[field.number]
        assert meaning(field) == meaning(original)
        if field.length_prefix is not None:
            assert original.length_prefix is not None
            assert field.length_prefix == original.length_prefix.replace("ascii", "bcd")
        if field.content in ("n", "z", "track2", "xn"):
            assert field.length_unit == "digits"
            assert field.encoding == ("bcd_right" if field.fixed else "bcd_left")
        else:
            assert (field.encoding, field.length_unit) == (original.encoding, original.length_unit)


def test_kiosk_differs_from_unionpay_in_field_48_only() -> None:
    pos, kiosk = load_bundled("unionpay_pos"), load_bundled("kiosk")
    assert pos.by_number.keys() == kiosk.by_number.keys()

    def wire(field: FieldSpec) -> tuple[Any, ...]:
        return (
            field.name, field.content, field.encoding, field.length_min, field.length_max, field.length_prefix,
            field.length_unit, field.sensitive,
        )  # fmt: skip

    assert [number for number in pos.by_number if wire(pos.by_number[number]) != wire(kiosk.by_number[number])] == [48]
    assert kiosk.by_number[48].tlv and kiosk.by_number[48].length_unit == "bytes"
    assert kiosk.by_number[48].usages == (), "settlement totals of a POS are none of its business"
    assert kiosk.by_number[62].usages == pos.by_number[62].usages


# ------------------------------------------------------------------------------------------------ golden vectors


def data_of(vector: dict[str, Any]) -> bytes:
    return bytes.fromhex("".join(line.split("#")[0] for line in vector["hex"].splitlines()))


def value_of(given: Any) -> Any:
    """TOML to a tree: "hex:" marks bytes."""
    if isinstance(given, dict):
        return {key: value_of(value) for key, value in given.items()}
    if isinstance(given, list):
        return [value_of(value) for value in given]
    return bytes.fromhex(given[4:]) if given.startswith("hex:") else given


def decoded(vector: dict[str, Any], strict: bool = True) -> iso8583.Message:
    return iso8583.load(vector["spec"], header=vector["header"]).decode(data_of(vector), strict=strict)


@each_vector
def test_sub_fields_are_found_by_path(vector: dict[str, Any]) -> None:
    message = decoded(vector)
    assert {path: message[path] for path in vector.get("paths", {})} == value_of(vector.get("paths", {}))


@each_vector
def test_fields_become_trees(vector: dict[str, Any]) -> None:
    tree = decoded(vector).to_dict(nested=True)
    for number, expected in value_of(vector.get("tree", {})).items():
        assert tree[int(number)] == expected
        assert list(tree[int(number)]) == list(expected), "in wire order"


@each_vector
def test_trees_become_the_same_bytes(vector: dict[str, Any]) -> None:
    spec = iso8583.load(vector["spec"], header=vector["header"])
    data = data_of(vector)
    message = spec.decode(data)
    header = data[: spec.header.size]
    encoded = spec.encode(message.to_dict(nested=True), header=header)
    if vector.get("interleaved", False):
        # A tree has the values of a repeated tag side by side.
        assert spec.decode(encoded).to_dict(nested=True) == message.to_dict(nested=True)
    else:
        assert encoded == spec.encode(message.to_dict(), header=header)


@each_vector
def test_nothing_is_wrong_inside(vector: dict[str, Any]) -> None:
    assert decoded(vector, strict=False).findings == ()


def test_every_usage_has_a_vector() -> None:
    used = set()
    for vector in VECTORS:
        message = decoded(vector)
        for number in message:
            if number:
                _, usage = nested.layout_of(message.field(number), message.mti, message.get, message[number])
                used.add((vector["spec"], number, usage))
    for name in ("unionpay_pos", "unionpay_cups"):
        for field in load_bundled(name).fields:
            for usage in field.usages:
                assert (name, field.number, usage) in used, f"{name} {field.number}: {usage.label}"


def test_every_spec_has_vectors() -> None:
    assert {vector["spec"] for vector in VECTORS if "paths" in vector or "tree" in vector} == set(NAMES)


# ------------------------------------------------------------------------------------------------ UnionPay POS


def message_of(spec: str, values: dict[int, Any], strict: bool = True) -> iso8583.Message:
    loaded = iso8583.load(spec)
    return loaded.decode(loaded.encode(values), strict=strict)


# (message, path asked for, code of the error, its path, at least the start of it)
FAULTS: list[tuple[dict[int, Any], str, str, str]] = [
    # half a settlement and a bit
    ({0: "0500", 48: "0" * 40, 60: "00000001201"}, "48.foreign", "truncated", "48.2"),
    # three records announced, two there
    ({0: "0320", 48: "03" + "0" * 80, 60: "00000001201"}, "48.records", "truncated", "48.2"),
    ({0: "0320", 48: "01" + "0" * 80, 60: "00000001201"}, "", "trailing", "48"),
    ({0: "0210", 54: "1002156X000000000250"}, "54.amounts[1].amount", "content", "54.1[1].4"),
    ({0: "0200", 60: "2200000"}, "60.batch", "truncated", "60.2"),
    ({0: "0200", 61: "00000100000706"}, "61.date", "truncated", "61.3"),
    ({0: "0830", 60: "00000001372", 62: b"19F0605"}, "62.objects.aid", "tlv", "62.2"),
    # "Sequence No" and a length that is none
    ({0: "0800", 62: b"Sequence No1x"}, "62.device", "prefix", "62.2"),
    ({0: "0200", 59: b"A2003ab"}, "59.device", "tlv", "59.A2"),
    ({0: "0820", 60: "07000001800", 55: bytes.fromhex("FF0002BAD3FF0002BAD3")}, "55.FF00", "duplicate", "55.FF00"),
]


@pytest.mark.parametrize(("values", "path", "code", "at"), FAULTS)
def test_a_faulty_part_is_found_when_it_is_asked_for(values: dict[int, Any], path: str, code: str, at: str) -> None:
    message = message_of("unionpay_pos", values)
    assert message.to_dict() == values, "the field as a whole is sound"
    if path:
        with pytest.raises(DecodeError) as caught:
            message[path]
        assert (caught.value.code, caught.value.path[: len(at)]) == (code, at)
    with pytest.raises(DecodeError) as caught:
        message.to_dict(nested=True)
    assert (caught.value.code, caught.value.path[: len(at)]) == (code, at)


@pytest.mark.parametrize(("values", "path", "code", "at"), FAULTS)
def test_a_faulty_part_is_a_finding(values: dict[int, Any], path: str, code: str, at: str) -> None:
    finding, *_ = message_of("unionpay_pos", values, strict=False).findings
    assert (finding.code, finding.path[: len(at)]) == (code, at)


@pytest.mark.parametrize(
    ("values", "paths"),
    [
        ({0: "0210", 44: "SERVER BUSY"}, ["44.issuer_id", "44.1"]),
        ({0: "0200", 48: "0001"}, ["48.count", "48.1"]),
        ({0: "0320", 48: "0001"}, ["48.count"]),  # without 60.3 nobody knows what it is
        ({0: "0810", 60: "00000001003", 62: bytes(57)}, ["62.pin_key"]),
        ({0: "0810", 60: "00000001361", 62: bytes(40)}, ["62.pin_key"]),  # as long as keys, but none
        ({0: "0800", 60: "00000001003", 62: bytes(40)}, ["62.pin_key"]),  # keys come in responses
        ({0: "0200", 62: b"ACTN000000000000321"}, ["62.1"]),
        ({0: "0200", 60: "22000001"}, ["60.network_code", "60.7"]),
    ],
)
def test_what_a_field_is_not_made_of_is_a_key_error(values: dict[int, Any], paths: list[str]) -> None:
    message = message_of("unionpay_pos", values)
    for path in paths:
        with pytest.raises(KeyError):
            message[path]
    assert message_of("unionpay_pos", values, strict=False).findings == ()


def test_a_track_may_be_any_nibbles_only_where_field_53_says_so() -> None:
    encrypted = {0: "0200", 35: "6222000000000017C1A2F=09BE3377A55B121", 53: "2610000000000000"}
    assert message_of("unionpay_pos", encrypted).to_dict() == encrypted
    for security_control in ("2600000000000000", "0160000000000000", None):
        with pytest.raises(iso8583.EncodeError) as caught:
            message_of("unionpay_pos", {**encrypted, 53: security_control})
        assert (caught.value.code, caught.value.path) == ("track", "35")


def test_scripts_repeat_and_nothing_else_does() -> None:
    spec = iso8583.load("unionpay_pos")
    head = bytes.fromhex("0210 0000000000000200")
    scripts = "7206860412345678 7204860212 34 7104860212 34".replace(" ", "")
    body = bytes.fromhex(f"9F36020047{scripts}")
    message = spec.decode(head + bytes.fromhex(f"{len(body):04d}") + body)
    assert message["55.72[2].86"] == [b"\x12\x34"] and message["55.71[1].86[1]"] == b"\x12\x34"
    body += bytes.fromhex("9F36020048")
    with pytest.raises(DecodeError) as caught:
        spec.decode(head + bytes.fromhex(f"{len(body):04d}") + body)
    assert (caught.value.code, caught.value.field) == ("duplicate", "55")


def test_overrides_of_message_types() -> None:
    reversal = message_of("unionpay_pos", {0: "0400", 39: "98"})
    answer = message_of("unionpay_pos", {0: "0410", 39: "98"})
    assert (reversal.field(39).label, answer.field(39).label) == ("冲正原因", "应答码")
    slip = bytes.fromhex("FF0002BAD3")
    for request in ("0820", "0920"):
        assert message_of("unionpay_pos", {0: request, 55: slip})["55.merchant_name"] == "河"
    # Elsewhere it is BER-TLV, and FF00 a tag that nobody knows.
    assert message_of("unionpay_pos", {0: "0200", 55: slip})["55.FF00"] == bytes.fromhex("BAD3")


# ------------------------------------------------------------------------------------------------ UnionPay CUPS


def cups_header(kind: str, total: int) -> bytes:
    """Length, version, total, destination, source, reserved, batch, transaction, user, and in CUPS a reject code."""
    size, version = (46, 2) if kind == "cups" else (41, 1)
    head = bytes([size, version]) + b"%04d" % total + b"00010000   " + b"49000000   " + bytes(3) + b"\x01"
    head += b"00000000" + b"\0" + (b"00000" if kind == "cups" else b"")
    assert len(head) == size
    return head


@pytest.mark.parametrize("kind", ["cups", "cupd"])
def test_the_headers_of_cups(kind: str) -> None:
    spec = iso8583.load("unionpay_cups", header=kind)
    values = {0: "0820", 7: "0601101112", 11: "000026", 33: "00010000", 70: "301"}
    body = iso8583.load("unionpay_cups").encode(values)
    header = cups_header(kind, spec.header.size + len(body))
    message = spec.decode(header + body)
    assert message.header == header and message.to_dict() == values
    # The total is filled in, whatever stands there.
    assert spec.encode(values, header=cups_header(kind, 0)) == header + body

    answer = spec.decode(message.reply({39: "00"}))
    assert answer.mti == "0830" and answer[70] == "301" and answer[39] == "00"
    assert answer.header[6:28] == b"49000000   00010000   ", "destination and source change places"
    assert int(answer.header[2:6]) == len(bytes(answer))

    for wrong in (0, len(header + body) - 1, len(header + body) + 1):
        with pytest.raises(DecodeError) as caught:
            spec.decode(cups_header(kind, wrong) + body)
        assert (caught.value.code, caught.value.offset) == ("header", 2)


def test_the_end_of_a_pan_in_device_data_is_not_shown() -> None:
    for number, factor in ((57, "06"), (59, "03")):
        field = load_bundled("unionpay_pos").by_number[number]
        kinds = {path: value.sensitive for path, value, _ in values_in(field, str(number))}
        assert kinds[f"{number}"] == "private"
        assert kinds[f"{number}.usage[0].A2"] is None, "inherited"
        assert kinds[f"{number}.usage[0].A2.{factor}"] is None, "inherited"


def test_a_new_key_of_cups_is_marked_as_one() -> None:
    elements = load_bundled("unionpay_cups").by_number[48].usages[0].layout
    assert elements is not None
    inner = elements.by_key["2"].layout
    assert inner is not None and inner.by_key["NK"].sensitive == "key"


def test_unknown_tags_are_kept_where_networks_invent_them_and_refused_where_they_have_no_length() -> None:
    order = {0: "0200", 48: b"ASXX003abc"}
    assert message_of("unionpay_cups", order)["48.2.XX"] == b"abc"
    original = {0: "0200", 62: "IOT99abc"}
    with pytest.raises(DecodeError) as caught:
        message_of("unionpay_cups", original)["62.elements.brand"]
    assert caught.value.code == "undefined"
