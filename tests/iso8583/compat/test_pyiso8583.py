"""Our drop-in for pyiso8583 against the original: its own tests, generated calls, and each deliberate difference."""

import copy
import doctest
import hashlib
import importlib
import io
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from iso8583.compat import pyiso8583
from iso8583.compat.pyiso8583 import DecodeError, EncodeError, decode, decoder, encode, pp
from iso8583.compat.pyiso8583.specs import default_ascii

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
ARCHIVE = Path(sys.prefix) / "peers" / "pyiso8583-4.0.1.tar.gz"
PAN = "6222987654321097"

Case = dict[str, Any]

# ---------------------------------------------------------------------------------------------------- the original


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source distribution."""
    if not ARCHIVE.exists():
        pytest.fail(f"{ARCHIVE} is missing: run make peers, which fetches it with pip, or put the file there by hand")
    expected = (HERE / "pyiso8583.txt").read_text("utf-8").split("sha256:")[1].strip()
    content = ARCHIVE.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        pytest.fail(f"{ARCHIVE} has sha256 {found}, expected {expected}: delete it and run make peers")
    folder = tmp_path_factory.mktemp("original")
    with tarfile.open(ARCHIVE) as archive:
        for member in archive:
            if file := archive.extractfile(member):
                path = folder.joinpath(*Path(member.name).parts[1:])
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(file.read())
    return folder


ALIAS = """
import importlib, sys

# All of ours is imported before the name iso8583 becomes the drop-in.
ours = importlib.import_module("iso8583.compat.pyiso8583")
modules = {name: importlib.import_module(f"iso8583.compat.pyiso8583.{name}") for name in ("specs", "tools")}
sys.modules["iso8583"] = ours
sys.modules.update({f"iso8583.{name}": module for name, module in modules.items()})
"""


def test_the_292_tests_of_the_original_pass(original: Path, tmp_path: Path) -> None:
    shutil.copytree(original / "tests", tmp_path / "tests")  # alone: nothing else of the original can be imported
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "conftest.py").write_text(ALIAS)
    report = tmp_path / "report.xml"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junit-xml={report}", "tests"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert report.exists(), done.stdout + done.stderr
    suite = ElementTree.parse(report).getroot()[0]
    counts = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": 292, "failures": 0, "errors": 0, "skipped": 0}, done.stdout[-4000:]


def outcomes(module: str, folder: Path, cases: list[Case]) -> list[Any]:
    # -X dev: empty text shows too whether a codec was looked up.
    done = subprocess.run(
        [sys.executable, "-I", "-X", "dev", str(HERE / "outcomes.py"), module, str(folder)],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: list[Any] = json.loads(done.stdout)
    assert len(result) == len(cases)
    return result


# ---------------------------------------------------------------------------------------------------- generated calls

TEXTS = ("ascii", "ascii", "cp500", "latin-1", "utf-8")
# Without blanks and minus, which are read differently on purpose.
NOISE = bytes(set(range(256)) - set(b"\t\n\v\f\r -"))


def random_case(dice: random.Random) -> Case:
    """A message or a dict, two thirds of them in order, for a spec with unusual fields."""

    def one_of(values: Any) -> Any:
        return values[dice.randrange(len(values))]

    def rarely() -> bool:
        return dice.random() < 0.04

    def text_codec() -> Any:
        return "no-such-codec" if rarely() else one_of(TEXTS)

    changes: dict[str, dict[str, Any]] = {
        # So that every bit has a field: an undefined one is read differently on purpose.
        str(number): {"data_enc": "ascii", "len_enc": "ascii", "len_type": 3, "max_len": 999, "desc": f"Field {number}"}
        for number in range(129, 193)
    }
    for key in ("t", "p", "1"):
        changes[key] = {"data_enc": one_of(("b", "b", "ascii", "cp500", text_codec()))}
    keys = sorted({str(one_of(range(2, 193))) for _ in range(dice.randrange(7))} - {"65"}, key=int)
    doc: list[tuple[Any, Any]] = [("t", one_of(["0200", "0810", "9ABC", "02"] if rarely() else ["0200", "0810"]))]
    if dice.random() < 0.2:
        keys.append("h")
    for key in keys:
        binary = dice.random() < 0.4
        length = dice.randrange(9)
        change: dict[str, Any] = {
            "data_enc": "b" if binary else text_codec(),
            "len_enc": one_of(("b", "bcd", text_codec())),
            "len_type": one_of((0, 0, 1, 2, 2, 3)),
        }
        if dice.random() < 0.4:
            change["len_count"] = one_of(("bytes", "nibbles", "nibbles", "digits"))
        for pad in ("left_pad", "right_pad"):
            if dice.random() < 0.3:
                change[pad] = one_of(("0", "F", "D1", "0", "x" if rarely() else ""))
        if binary:
            digits = length * 2 - (change.get("len_count") == "nibbles" and dice.random() < 0.4)
            value = "".join(one_of("0123456789ABCDEFabcdef" + "x" * rarely()) for _ in range(digits))
        else:
            value = "".join(one_of("0123456789=D xÄ" if rarely() else "0123456789ABC") for _ in range(length))
        units = len(value) * (1 if binary else 2) if change.get("len_count") == "nibbles" else length
        change["max_len"] = units if change["len_type"] == 0 else units + dice.randrange(20)
        if rarely():
            change["max_len"] = dice.randrange(20)
        changes.setdefault(key, {}).update(change)
        if not rarely():
            doc.append((key, None if not binary and rarely() else value))
    dice.shuffle(doc)
    case: Case = {"spec": one_of(("default", "default_ascii")), "changes": changes}
    call = one_of(("encode", "encode", "decode", "decode", "pp"))
    if call == "encode":
        extra = one_of(("note", "", "1", "65", "p", "1", "65", "0" if rarely() else "note", "193" if rarely() else "p"))
        return case | {"call": call, "doc": [*doc, (extra, "x")] if dice.random() < 0.3 else doc}
    case |= {"call": call, "data": noisy(dice, encoded(doc, case)).hex()}
    return case | {"desc_width": dice.randrange(-1, 33), "line_width": dice.randrange(81)}


def encoded(doc: list[tuple[Any, Any]], case: Case) -> bytes:
    spec = copy.deepcopy(getattr(pyiso8583.specs, case["spec"]))
    for key, change in case["changes"].items():
        spec[key] = {**spec.get(key, {}), **change}
    try:
        return bytes(encode(dict(doc), spec)[0])
    except EncodeError as error:
        return b"".join(field["len"] + field["data"] for field in error.doc_enc.values())


def noisy(dice: random.Random, data: bytes) -> bytes:
    """Two thirds unchanged; cut, longer, or one byte changed."""
    kind = dice.randrange(9)
    place = dice.randrange(len(data) + 1)
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data + bytes(NOISE[dice.randrange(len(NOISE))] for _ in range(dice.randrange(4)))
    if kind == 2:
        return data[:place] + NOISE[dice.randrange(len(NOISE)) :][:1] + data[place + 1 :]
    return data


@pytest.mark.parametrize("seed", range(4))  # to replay one: pytest "...::test_…_as_the_original_does[2]"
def test_generated_calls_end_exactly_as_the_original_does(original: Path, seed: int) -> None:
    """Results, printed text, exceptions with all attributes, and what is left in the caller's dict."""
    dice = random.Random(seed)
    cases = [random_case(dice) for _ in range(500)]
    ours = outcomes("iso8583.compat.pyiso8583", ROOT, cases)
    theirs = outcomes("iso8583", original, cases)
    different = [triple for triple in zip(cases, ours, theirs, strict=True) if triple[1] != triple[2]]
    assert not different, f"{len(different)} differ; the first: {different[0]}"
    # Neither of the two ends may be what most calls come to.
    failed = sum(str(end[0][0]).endswith("Error") for end in ours)
    assert 100 < failed < 400


def test_the_bundled_specs_are_those_of_the_original(original: Path) -> None:
    case: Case = {"call": "specs"}
    assert outcomes("iso8583.compat.pyiso8583", ROOT, [case]) == outcomes("iso8583", original, [case])


# ---------------------------------------------------------------------------------------------------- what we mend

NIBBLES = {"data_enc": "b", "len_enc": "ascii", "len_type": 2, "len_count": "nibbles", "max_len": 8}
NAMELESS = {"data_enc": "ascii", "len_enc": "ascii", "len_type": 0, "max_len": 2}

# call, changes of default_ascii, message or dict, our end, the end of the original
MENDED: list[tuple[str, dict[str, Any], bytes | dict[Any, Any], str, str]] = [
    (
        "decode",
        {},
        b"0200" + b"8000000000000000" * 2 + b"4000000000000000" + b"x",
        "DecodeError: Field is not defined in specification: field 130 pos 52",
        "KeyError: '130'",
    ),
    (
        "encode",
        {},
        {"t": "0200", "130": "x"},
        "EncodeError: Field is not defined in specification: field 130",
        "KeyError: '130'",
    ),
    (
        "decode",
        {},
        b"0200" + b"00 00 0000000020" + b"156",
        "DecodeError: Failed to decode field, non-hex data: field p pos 4",
        "ok",
    ),
    (
        "decode",
        {"2": NIBBLES | {"data_enc": "ascii"}},
        b"02004000000000000000-1",
        "DecodeError: Failed to decode field length, non-numeric data: field 2 pos 20",
        "ok",
    ),
    (
        "encode",
        {},
        {"t": "0200", "02": PAN},
        "EncodeError: Dictionary contains invalid fields ['02']: field p",
        "KeyError: '2'",
    ),
    (
        "encode",
        {},
        {"t": "0200", "2": PAN, "02": PAN},
        "EncodeError: Dictionary contains invalid fields ['02']: field p",
        "ok",
    ),
    (
        "encode",
        {},
        {"t": "0200", "½": "x"},
        "EncodeError: Dictionary contains invalid fields ['½']: field p",
        "ValueError: invalid literal for int() with base 10: '½'",
    ),
    (
        "encode",
        {"52": {"data_enc": "b"}},
        {"t": "0200", "52": None},
        "EncodeError: Failed to encode field, non-hex data: field 52",
        "TypeError: object of type 'NoneType' has no len()",
    ),
    (
        "decode",
        {"2": NIBBLES | {"right_pad": "f"}},
        b"0200400000000000000003\x12\x3f",
        "ok",
        "DecodeError: Field data is 4 nibbles, expecting 3: field 2 pos 22",
    ),
    (
        "decode",
        {"2": NIBBLES | {"left_pad": "f"}},
        b"0200400000000000000003\xf1\x23",
        "ok",
        "DecodeError: Field data is 4 nibbles, expecting 3: field 2 pos 22",
    ),
    (
        "pp",
        {"130": NAMELESS},
        b"0200" + b"8000000000000000" * 2 + b"4000000000000000" + b"ab",
        "ok",
        "KeyError: 'desc'",
    ),
]


def test_each_mended_fault_is_one_of_the_original_and_none_of_ours(original: Path) -> None:
    cases: list[Case] = []
    for call, changes, given, _, _ in MENDED:
        case: Case = {"call": call, "spec": "default_ascii", "changes": changes, "desc_width": 9, "line_width": 80}
        cases.append(case | ({"data": given.hex()} if isinstance(given, bytes) else {"doc": list(given.items())}))

    def ends(module: str, folder: Path) -> list[str]:
        return [
            f"{end[0][0]}: {end[0][1]}" if str(end[0][0]).endswith("Error") else "ok"
            for end in outcomes(module, folder, cases)
        ]

    assert ends("iso8583.compat.pyiso8583", ROOT) == [mended for *_, mended, _ in MENDED]
    assert ends("iso8583", original) == [fault for *_, fault in MENDED]


@pytest.mark.parametrize(("side", "data"), [("left_pad", b"\xf1\x23"), ("right_pad", b"\x12\x3f")])
def test_a_pad_in_lower_case_is_dropped(side: str, data: bytes) -> None:
    spec = copy.deepcopy(default_ascii)
    spec["2"].update(NIBBLES | {side: "f"})
    message, _ = encode({"t": "0200", "2": "123"}, spec)
    assert message == b"0200400000000000000003" + data
    assert decode(message, spec)[0]["2"] == "123"


def test_a_second_bitmap_without_an_entry_is_an_error_of_the_message() -> None:
    spec = {key: entry for key, entry in default_ascii.items() if key != "1"}
    with pytest.raises(DecodeError, match="Field is not defined in specification: field 1 pos 20"):
        decode(b"0200" + b"8000000000000000" * 2, spec)
    with pytest.raises(EncodeError, match="Field is not defined in specification: field 1"):
        encode({"t": "0200", "70": "301"}, spec)


def test_pp_prints_what_has_no_entry_and_leaves_out_what_is_no_field() -> None:
    stream = io.StringIO()
    pp({"t": "0200", "190": "x", "½": "y", "note": "z"}, default_ascii, 12, stream)
    assert stream.getvalue() == "t   Message Type: '0200'\n190             : 'x'\n"


def test_an_exception_shows_no_field_data_unless_it_is_asked_for() -> None:
    with pytest.raises(DecodeError) as decoding:
        decode(b"0200600000000000000016" + PAN.encode() + b"12345\xff", default_ascii)
    with pytest.raises(EncodeError) as encoding:
        encode({"t": "0200", "2": PAN, "3": "12345\xff"}, default_ascii)
    for error in (decoding.value, encoding.value):
        assert error.args == (str(error),)
        assert PAN not in repr(error) and "12345" not in repr(error)
        assert error.__context__ is None and error.__cause__ is None
        assert error.doc_dec["2"] == PAN
        assert pickle.loads(pickle.dumps(error)).doc_dec == error.doc_dec
    assert str(decoding.value) == "Failed to decode field, invalid data: field 3 pos 38"
    assert str(encoding.value) == "Failed to encode field, invalid data: field 3"


def test_a_spec_may_be_changed_between_calls() -> None:
    spec = copy.deepcopy(default_ascii)
    message = b"0200200000000000000000000000"
    with pytest.raises(DecodeError, match="Extra data after last field: field 3 pos 26"):
        decode(message, spec)
    spec["3"]["max_len"] = 8
    assert decode(message, spec)[0]["3"] == "00000000"


def test_bitmaps_that_a_peer_makes_up_do_not_fill_memory() -> None:
    for number in range(3000):
        with pytest.raises(DecodeError):
            decode(b"0200" + f"{number << 17:016X}".encode() + b"\xff", default_ascii)
    assert decoder._fields_of.cache_info().currsize <= 1024


@pytest.mark.parametrize("name", ["", ".decoder", ".encoder", ".specs", ".tools"])
def test_examples_in_the_documentation_are_true(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"iso8583.compat.pyiso8583{name}"))
    assert result.attempted > 0 and result.failed == 0
