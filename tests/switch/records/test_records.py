"""Record specs: every file is checked when it is read, and every byte of a record has its place."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch.errors import BadRequestError, ConfigError
from switch.records.fixed import NUMBER_END, FixedWire, Record
from switch.records.spec import FIXED_TYPES, Field, Spec, bundled, load

YDLW = load("marketing_ydlw_1_0")
WIRE = FixedWire(YDLW, {"operator_id": "SELF01", "return_code": ""})
STAMP = {"send_date": "20261201", "send_time": "080910"}
HEADER = {"transaction_id": "77", "operator_id": "SELF01", "return_code": "00", **STAMP}
PAID = {
    "utility_serial": "U1",
    "utility_date": "20261201",
    "utility_time": "080910",
    "serial": "S1",
    "date": "20261201",
    "time": "080909",
    "account": "0300000009",
    "period": "202611",
    "amount": 1234,
    "text": "缴费成功",
}


def test_the_published_layout_to_the_byte() -> None:
    """Offsets by hand from the published list: the header is 192 bytes, an amount 16 wide in fen, left-aligned."""
    frame = WIRE.answer("post", HEADER, PAID)
    assert len(frame) == 192 + 24 + 8 + 6 + 24 + 8 + 6 + 20 + 6 + 16 + 128
    assert frame[35:40] == b"1.0.0"
    assert frame[40:46] == b"YDLW04"
    assert frame[46:66] == b"77".ljust(20)
    assert frame[86:88] == b"11"
    assert frame[88:89] == b"1"
    assert frame[89:97] == b"301     "
    assert frame[153:161] == b"20261201"
    assert frame[168:173] == b"00   "
    body = frame[192:]
    assert body[102:118] == b"1234            "
    assert body[118:] == "缴费成功".encode("gbk").ljust(128)
    assert WIRE.body("post", "answer", frame) == PAID


def test_a_request_carries_the_constants_and_what_it_is_given() -> None:
    values = {"serial": "77", "date": "20261201", "time": "080910", "account": "0300000009"}
    frame = WIRE.request("inquiry", {"transaction_id": "77", **STAMP}, values)
    assert WIRE.read_header(frame)["operator_id"] == "SELF01"
    found = WIRE.body("inquiry", "request", frame)
    assert found == values | {"outlet_name": "自助缴费终端", "mode": "110", "period": "", "query_type": "1"}


def test_rows_are_as_many_as_the_bytes_make() -> None:
    head = {"account": "1", "customer": "张三", "period": "202611"}
    row = {
        "detail_number": 1,
        "read_on": "20261125",
        "prepaid": 0,
        "reading": "10.5",
        "reading_before": "0",
        "energy_kwh": 10,
        "adjusted_kwh": -3,
        "price": "0.5889",
        "penalty": 0,
        "amount": 589,
        "paid_date": "20261201",
        "paid_time": "101010",
        "collector": "SELF01",
        "times": 1,
        "metering_point": "",
    }
    for count in (0, 1, 200):
        frame = WIRE.answer("history", HEADER, {**head, "rows": [row] * count})
        assert WIRE.body("history", "answer", frame) == {**head, "rows": [row] * count}
    with pytest.raises(BadRequestError, match=r"history\.answer\.rows: 201 rows; at most 200"):
        WIRE.answer("history", HEADER, {**head, "rows": [row] * 201})
    full = WIRE.answer("history", HEADER, {**head, "rows": [row] * 200})
    row_size = (len(full) - 192 - 20 - 64 - 6) // 200
    with pytest.raises(BadRequestError, match="201 rows; at most 200"):
        WIRE.body("history", "answer", full + full[-row_size:])
    with pytest.raises(BadRequestError, match=f"rows of {row_size}, got"):
        WIRE.body("history", "answer", full + b" ")


def test_every_cut_is_an_error_and_never_something_else() -> None:
    frame = WIRE.answer("post", HEADER, PAID)
    for size in range(len(frame)):
        with pytest.raises(BadRequestError):
            WIRE.read_header(frame[:size])
            WIRE.body("post", "answer", frame[:size])
    with pytest.raises(BadRequestError, match=r"expected 246 bytes after the header, got 247"):
        WIRE.body("post", "answer", frame + b" ")


@pytest.mark.parametrize(
    ("at", "put", "said"),
    [
        (294, b"12.34", r"post\.answer\.amount at byte 294: expected a whole number of fen, got b'12\.34"),
        (294, b"-1234", r"amount at byte 294"),
        (294, b"+1234", r"amount at byte 294"),
        (294, b"1 234", r"amount at byte 294"),
        (294, b" " * 16, r"amount at byte 294"),
        (294, b"1" * 13, r"amount at byte 294"),
        (288, b"20261a", r"post\.answer\.period at byte 288: expected 6 digits, got b'20261a'"),
        (192, b"\x00", r"utility_serial at byte 192: expected printable ASCII"),
        (310, b"\xff\xff", r"post\.answer\.text at byte 310: expected text in gbk \["),
        (310, b"\x00", r"text at byte 310"),
        (268, "０".encode("gbk"), r"account at byte 268"),
    ],
)
def test_a_wrong_byte_is_named_with_its_place(at: int, put: bytes, said: str) -> None:
    frame = bytearray(WIRE.answer("post", HEADER, PAID))
    frame[at : at + len(put)] = put
    with pytest.raises(BadRequestError, match=said) as caught:
        WIRE.body("post", "answer", bytes(frame))
    assert caught.value.code == "bad_record"


@pytest.mark.parametrize(
    ("at", "put", "said"),
    [
        (173, b"1", r'header\.compression at byte 173: expected "0", got'),
        (174, b"2", r'header\.package_count at byte 174: expected "1", got'),
        (153, b"2026-12-", r"header\.send_date at byte 153"),
    ],
)
def test_a_header_that_we_could_not_follow_is_refused(at: int, put: bytes, said: str) -> None:
    frame = bytearray(WIRE.answer("post", HEADER, PAID))
    frame[at : at + len(put)] = put
    with pytest.raises(BadRequestError, match=said) as caught:
        WIRE.read_header(bytes(frame))
    assert caught.value.code == "unreadable"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"amount": NUMBER_END}, r"post\.answer\.amount: expected a whole number of fen, below 10\^12"),
        ({"amount": -1}, r"amount: expected"),
        ({"amount": True}, r"amount: expected"),
        ({"amount": 1.0}, r"amount: expected"),
        ({"amount": "1"}, r"amount: expected"),
        ({"amount": None}, r"amount: missing"),
        ({"period": "20261"}, r"period: expected 6 digits"),
        ({"account": "1" * 21}, r"account: 21 bytes; the field takes 20"),
        ({"account": "户号"}, r"account: has a character that ASCII lacks"),
        ({"account": "1\n"}, r"account: expected printable ASCII"),
        ({"text": "缴" * 65}, r"text: 130 bytes; the field takes 128"),
        ({"text": "€\U0001f600"}, r"text: has a character that gbk lacks"),
        ({"text": "a\0b"}, r"text: expected"),
        ({"text": 5}, r"text: expected a text"),
    ],
)
def test_what_does_not_fit_is_never_cut_or_rounded(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRequestError, match=said):
        WIRE.answer("post", HEADER, PAID | changed)


def _values(field: Field) -> st.SearchStrategy[Any]:
    number = st.integers(0, min(NUMBER_END, 10**field.width) - 1)
    return {
        "text": st.text("户号abc 甲。Z9", max_size=field.width // 2).map(lambda text: text.rstrip(" ")),
        "code": st.text("ABCxyz019-_/", max_size=field.width),
        "digits": st.text("0123456789", min_size=field.width, max_size=field.width),
        "fen": number,
        "count": number,
        "signed": st.integers(-(10 ** (field.width - 1)) + 1, 10 ** (field.width - 1) - 1),
        "decimal": st.decimals(0, 9, places=2).map(str) if field.width > 3 else st.just("1"),
        "flag": st.booleans(),
    }[field.type]


def _width(kind: str) -> st.SearchStrategy[int]:
    return st.just(1) if kind == "flag" else st.integers(2, 9)


@given(st.data(), st.lists(st.sampled_from(FIXED_TYPES), min_size=1, max_size=6))
def test_any_record_of_any_values_comes_back(data: st.DataObject, kinds: list[str]) -> None:
    fields = [Field(f"f{index}", kind, data.draw(_width(kind))) for index, kind in enumerate(kinds)]
    record = Record("any", fields, "gbk")
    values = {field.name: data.draw(_values(field)) for field in fields}
    encoded = record.encode(values)
    assert len(encoded) == record.size
    assert record.decode(b"??" + encoded, 2) == values


@given(st.binary(max_size=700))
def test_any_bytes_are_read_or_refused(noise: bytes) -> None:
    for frame in (noise, WIRE.answer("post", HEADER, PAID)[:192] + noise):
        try:
            header = WIRE.read_header(frame)
            WIRE.body(WIRE.operation(header["code"]), "answer", frame)
        except BadRequestError as error:
            assert error.code in ("unreadable", "bad_record")


# ---------------------------------------------------------------------------------------------------- files
@pytest.mark.parametrize("name", bundled())
def test_every_bundled_spec_says_who_wrote_it_and_from_when_it_holds(name: str) -> None:
    spec = load(name)
    assert name == f"{spec.name}_{spec.version.replace('.', '_')}"
    assert isinstance(spec.effective_on, datetime.date)
    assert len(spec.source) > 20


def write(folder: Path, text: str) -> str:
    path = folder / "own.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


OWN = 'extends = "marketing_ydlw_1_0"\nversion = "1.0-own"\n'


def test_a_file_says_only_what_differs(tmp_path: Path) -> None:
    spec = load(write(tmp_path, OWN + '[constants]\ninitiator = "302"\n'))
    assert (spec.version, spec.constants["initiator"], spec.constants["receiver"]) == ("1.0-own", "302", "030600")
    assert spec.operations == YDLW.operations
    assert FixedWire(spec).answer("post", HEADER, PAID)[89:97] == b"302     "


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "not TOML"),
        ('extends = "nothing"', "nothing: no such spec; known: marketing_json_1_0, marketing_ydlw_1_0"),
        ("extends = 5", "extends: expected the name"),
        ('extends = "own.toml"', "more than 8 files behind one another; does it extend itself"),
        (OWN + 'wire = "xml"', 'wire: "xml" is not known; one of fixed, json'),
        (OWN + 'effective_on = "2026-01-01"', "effective_on: missing or no date; a date as 2026-01-01"),
        (OWN + 'encoding = "latin-1"', 'encoding: "latin-1" has no Chinese characters'),
        (OWN + 'encoding = "klingon"', 'encoding: "klingon"'),
        (OWN + "[constants]\nunit = 30600", r"constants\.unit: not a text"),
        (OWN + '[constants]\nunit = "030600000"', r"constants\.unit: 9 bytes; unit of bill takes 8: shorten it"),
        (OWN + '[constants]\noutlet_name = "\U0001f600"', r"constants\.outlet_name: has a character that gbk lacks"),
        (OWN + "[record.signed_on]\nfields = []", r"record\.signed_on\.fields: missing"),
        (OWN + '[record.signed_on]\nfields = [{ name = "day", type = "date", width = 8 }]', "one of text, code"),
        (OWN + '[record.signed_on]\nfields = [{ name = "day", type = "digits", width = 0 }]', "1 to 9999"),
        (OWN + '[record.signed_on]\nfields = [{ name = "day", type = "digits", wide = 8 }]', r"wide: unknown key"),
        (
            OWN + '[record.signed_on]\nfields = [{ name = "a", type = "code", width = 1, checked = true }]',
            "checked: there is no value to check it against",
        ),
        (
            OWN + "[record.signed_on]\nfields = ["
            '{ name = "a", type = "code", width = 1 }, { name = "a", type = "code", width = 1 }]',
            'fields\\[1\\].name: "a" is named twice',
        ),
        (OWN + '[operation.post]\nrequest = { head = "nothing" }', r"operation\.post\.request\.head: no such record"),
        (OWN + '[operation.post]\nanswer = { tail = "paid" }', r"operation\.post\.answer: expected"),
        (OWN + '[operation.inquiry]\nanswer = { rows = "bill", max = 0 }', r"max: expected a whole number"),
        (OWN + "[outcome.post]\n00 = 5", r"outcome\.post\.00: not a text"),
        ('extends = "marketing_json_1_0"\n[operation.post]\nrequest = 5', r"operation\.post\.request: missing"),
        ('extends = "marketing_json_1_0"\n[record.row]\nperiod = { type = "digits" }', r"row\.period\.size: expected"),
        ('extends = "marketing_json_1_0"\n[record.row]\nperiod = { kind = "digits" }', r"row\.period\.type: missing"),
        (
            'extends = "marketing_json_1_0"\n[operation.inquiry.response]\nrows = { type = "list", of = "x", max = 1 }',
            r"rows\.of: no such record",
        ),
    ],
)
def test_a_wrong_file_is_told_by_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(write(tmp_path, text))


def test_an_outcome_table_without_a_default_is_refused(tmp_path: Path) -> None:
    whole = Path(load.__code__.co_filename).with_name("marketing_json_1_0.toml").read_text(encoding="utf-8")
    start = whole.index("[outcome.cancel]")
    cut = whole[:start] + whole[start:].replace('default = "ambiguous"', "", 1)
    with pytest.raises(ConfigError, match=r"outcome\.cancel\.default: missing; what a code that is not listed means"):
        load(write(tmp_path, cut))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml: cannot be read: No such file"):
        load(str(tmp_path / "gone.toml"))
    (tmp_path / "bad.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not UTF-8 at byte 0"):
        load(str(tmp_path / "bad.toml"))


def test_specs_are_told_apart_by_the_frame() -> None:
    newer = FixedWire(_replaced(YDLW, wire_version="1.1.0"))
    frame = newer.answer("post", HEADER, PAID)
    assert newer.is_ours(frame)
    assert not WIRE.is_ours(frame)
    assert not WIRE.is_ours(b"")


def _replaced(spec: Spec, **changes: Any) -> Spec:
    return Spec(**{name: getattr(spec, name) for name in Spec.__struct_fields__} | changes)
