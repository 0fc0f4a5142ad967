"""The command: in this process for its manners, as a process of its own for what only that can show."""

import base64
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import iso8583
from iso8583 import convert, specfile
from iso8583.cli import main
from iso8583.framing import KINDS
from iso8583.inputs import TEXT_MAX
from iso8583.spec import HEADERS

ROOT = Path(__file__).parents[2]
PAN = "6222987654321097"
SHOWN = "622298******1097"
HEADER = bytes.fromhex("6000030000603100123456")
COMMANDS = ["decode", "explain", "diff", "encode", "check-spec", "convert", "specs"]

Capture = pytest.CaptureFixture[str]


def run(capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    status = main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def spawn(*arguments: str, data: bytes = b"", **options: Any) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", **options.pop("env", {})}
    command = [sys.executable, "-m", "iso8583", *arguments]
    return subprocess.run(
        command, input=data, capture_output=True, cwd=ROOT, env=environment, check=False, timeout=60, **options
    )


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Any:
    def give(data: bytes | str) -> None:
        raw = data.encode() if isinstance(data, str) else data
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))

    return give


@pytest.fixture
def sign_on(spec: iso8583.Spec) -> bytes:
    return spec.encode({0: "0800", 11: "000001", 41: "10000001", 42: "898100000000001", 60: "00000001003"})


# ---- decode --------------------------------------------------------------------------------------


def test_decode_finds_what_stands_in_front_by_itself(purchase: bytes, capsys: Capture) -> None:
    for data, front in [
        (purchase, "header none"),
        (HEADER[:5] + purchase, "header tpdu"),
        (HEADER[5:] + purchase, "header pos6"),
        (HEADER + purchase, "header tpdu+pos6"),
        (iso8583.frame(HEADER + purchase), "2-byte length, header tpdu+pos6"),
        (iso8583.frame(purchase, "ascii4"), "length of 4 ASCII digits, header none"),
    ]:
        status, out, err = run(capsys, "decode", data.hex(" "))
        assert (status, err) == (0, "")
        title, *_ = out.splitlines()
        assert title == f"0200 financial request · spec unionpay_pos · {front} · {len(data)} bytes"
        assert "terminal_id" in out and "10000001" in out and SHOWN in out


def test_decode_takes_arguments_files_and_standard_input(
    purchase: bytes, sign_on: bytes, capsys: Capture, tmp_path: Path, stdin: Any
) -> None:
    expected = run(capsys, "decode", purchase.hex())[1]
    assert run(capsys, "decode", *purchase.hex(" ").split())[1] == expected
    assert run(capsys, "decode", base64.b64encode(purchase).decode())[1] == expected
    files = {"m.hex": purchase.hex().encode(), "m.b64": base64.encodebytes(purchase), "m.bin": purchase,
             "wrapped.hex": "\n".join(re.findall(".{1,48}", purchase.hex(" "))).encode(),
             "bom.hex": b"\xef\xbb\xbf# a comment\r\n" + purchase.hex().encode() + b"\r\n"}  # fmt: skip
    for name, content in files.items():
        path = tmp_path / name
        path.write_bytes(content)
        for arguments in ([str(path)], ["--file", str(path)]):
            assert run(capsys, "decode", *arguments)[1] == expected, name
        stdin(content)
        assert run(capsys, "decode", "-")[1] == expected, name
        stdin(content)
        assert run(capsys, "decode")[1] == expected, name
    status, out, _ = run(capsys, "decode", str(tmp_path / "m.hex"), str(tmp_path / "m.bin"))
    assert status == 0 and out.count("0200 financial request") == 2 and f"{tmp_path / 'm.bin'} · 0200" in out


def test_decode_takes_one_message_a_line_and_goes_on_after_a_bad_one(
    purchase: bytes, sign_on: bytes, capsys: Capture, tmp_path: Path
) -> None:
    lines = ["# two good, three bad", purchase.hex(), "", base64.b64encode(HEADER + sign_on).decode(), "zz",
             sign_on[:-1].hex(), sign_on.hex()[:-1]]  # fmt: skip
    path = tmp_path / "messages"
    path.write_text("\n".join(lines), encoding="utf-8")
    status, out, err = run(capsys, "decode", str(path))
    assert (status, err) == (1, "3 of 5 messages cannot be read\n")
    titles = [line for line in out.splitlines() if line.startswith("line ")]
    assert [title.split(" · ")[0] for title in titles] == ["line 2", "line 4", "line 5", "line 6", "line 7"]
    assert titles[1].startswith("line 4 · 0800 network management request")
    assert titles[2].startswith("line 5 · ✗ expected hexadecimal characters, found something else at character 1")
    assert "the message seems to be cut off" in out
    assert titles[4].startswith("line 7 · ✗ expected two characters a byte, got an odd number")

    status, out, err = run(capsys, "decode", "--json", str(path))
    assert status == 1
    objects = [json.loads(line) for line in out.splitlines()]
    assert [one["place"] for one in objects] == ["line 2", "line 4", "line 5", "line 6", "line 7"]
    assert objects[0]["fields"]["2"] == SHOWN
    assert objects[3]["error"]["code"] == "truncated" and objects[3]["error"]["path"] == "60"
    assert objects[3]["error"]["hint"].startswith("the message seems to be cut off")
    assert objects[2]["error"]["code"] == "input"


def test_the_form_of_the_input_can_be_said(purchase: bytes, capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "m.bin"
    path.write_bytes(purchase)
    assert run(capsys, "decode", "--input", "raw", str(path))[0] == 0
    assert run(capsys, "decode", "--input", "hex", purchase.hex())[0] == 0
    status, _, err = run(capsys, "decode", "--input", "base64", purchase.hex() + "0")
    assert (status, err) == (2, "iso8583 decode: MESSAGE: expected base64: characters A-Z a-z 0-9 + / and = at the "
                                "end, a multiple of 4\n")  # fmt: skip
    status, _, err = run(capsys, "decode", "--input", "raw", purchase.hex())
    assert status == 2 and "--input raw reads a file" in err


@pytest.mark.parametrize("kind", KINDS)
def test_decode_reads_a_capture_and_says_where_each_message_is(
    kind: str, purchase: bytes, sign_on: bytes, capsys: Capture, tmp_path: Path
) -> None:
    frames = [iso8583.frame(data, kind) for data in (purchase, sign_on, purchase[:-1], sign_on)]
    path = tmp_path / "capture"
    path.write_bytes(b"".join(frames))
    status, out, err = run(capsys, "decode", "--json", "--stream", "--framing", kind, str(path))
    assert (status, err) == (1, "1 of 4 messages cannot be read\n")
    objects = [json.loads(line) for line in out.splitlines()]
    for one, data, at in zip(objects, (purchase, sign_on, None, sign_on), range(4), strict=True):
        offset = int(one["place"].removeprefix("byte "))
        before = sum(map(len, frames[:at]))
        assert before < offset and b"".join(frames)[offset:].startswith(data or purchase[:-1])
        assert ("error" in one) == (data is None)


def test_a_capture_may_hold_signs_of_life_and_end_badly(
    purchase: bytes, sign_on: bytes, capsys: Capture, stdin: Any
) -> None:
    frame = iso8583.frame(sign_on)
    stdin(b"\0\0" + frame + b"\0\0\0\0" + frame + frame[:-3])
    status, out, err = run(capsys, "decode", "--stream")
    assert status == 1
    titles = [line for line in out.splitlines() if line.startswith("byte ")]
    last = 6 + 2 * len(frame)
    assert [title.split(" · ")[0] for title in titles] == ["byte 4", f"byte {8 + len(frame)}", f"byte {last}"]
    assert titles[2].endswith("[cut]") and err == "1 of 3 messages cannot be read\n"
    stdin(b"12x4" + frame)
    status, out, _ = run(capsys, "decode", "--stream", "--framing", "ascii4")
    assert status == 1 and out.startswith("byte 0 · ✗ frame: ") and "what follows cannot be told apart" in out
    stdin(b"")
    assert run(capsys, "decode", "--stream")[2] == "iso8583 decode: standard input: the capture is empty\n"


def test_a_long_stream_is_read_as_it_comes(sign_on: bytes) -> None:
    """The first message is there before the last is sent."""
    command = [sys.executable, "-u", "-m", "iso8583", "decode", "--stream", "--json"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(iso8583.frame(sign_on))
        process.stdin.flush()
        assert select.select([process.stdout], [], [], 60)[0]
        assert json.loads(process.stdout.readline())["place"] == "byte 2"
        process.stdin.close()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


# ---- JSON, there and back ------------------------------------------------------------------------


@pytest.mark.parametrize("nested", [[], ["--nested"]])
def test_what_decode_prints_as_json_encode_takes(
    nested: list[str], purchase: bytes, sign_on: bytes, capsys: Capture, stdin: Any
) -> None:
    data = [HEADER + purchase, HEADER + sign_on]
    stdin("\n".join(one.hex() for one in data))
    status, out, _ = run(capsys, "decode", "--json", "--unmask", *nested)
    assert status == 0
    fields = json.loads(out.splitlines()[0])["fields"]
    assert fields["4"] == "000000001250" and fields["52"] == "0102030405060708"
    assert isinstance(fields["60"], dict) == bool(nested)
    stdin(out)
    status, out, _ = run(capsys, "encode", "-")
    assert status == 0
    assert out == "".join(f"{one.hex().upper()}\n" for one in data)


def test_every_kind_of_sub_field_goes_there_and_back(capsys: Capture, stdin: Any) -> None:
    messages: list[tuple[str, dict[int, Any]]] = [
        ("unionpay_pos", {0: "0820", 11: "000001", 60: "00000001362", 62: b"01" + b"1" + b"0211"}),
        ("unionpay_pos", {0: "0320", 11: "000001", 48: f"01000000010000{PAN}000000001250", 60: "00000001201"}),
        ("unionpay_pos", {0: "0210", 39: "00", 54: "1002156C000000001250", 55: bytes.fromhex("9F36020001"
                                                                                            "71079F180400000001")}),
        ("kiosk", {0: "0200", 48: bytes.fromhex("DF01023132DF0203E4BDA0"), 60: "22000001000"}),
    ]  # fmt: skip
    for name, values in messages:
        data = iso8583.load(name).encode(values)
        status, out, _ = run(capsys, "decode", "--spec", name, "--json", "--unmask", "--nested", data.hex())
        assert status == 0
        stdin(out)
        status, out, err = run(capsys, "encode", "--spec", name)
        assert (out, err) == (f"{data.hex().upper()}\n", "")


def test_encode_takes_names_numbers_and_objects(capsys: Capture) -> None:
    values = {"mti": "0200", "amount": 1250, "52": "0102030405060708", "55": {"9F36": "002A"},
              "60": {"transaction_type": "22", "2": "000001"}}  # fmt: skip
    status, out, _ = run(capsys, "encode", "--header", "6000030000", json.dumps(values))
    assert status == 0
    message = iso8583.load("unionpay_pos", header="tpdu").decode(bytes.fromhex(out))
    assert (message[4], message["55.9F36"], message[60]) == ("000000001250", b"\0\x2a", "22000001")
    pairs = {"0": "0200", "55": [["9F36", "002A"], ["9F37", "01020304"]]}
    status, out, _ = run(capsys, "encode", json.dumps(pairs))
    assert out.endswith("9F3602002A9F370401020304\n")


def test_encode_writes_what_decode_reads(sign_on: bytes, tmp_path: Path) -> None:
    source = tmp_path / "messages.json"
    source.write_text('{"0": "0800", "11": 1}\n\n{"0": "0820",\n "11": 2}', encoding="utf-8")
    made = spawn("encode", "--output", "raw", "--framing", "ascii4", "--file", str(source))
    assert made.returncode == 0
    assert made.stdout.startswith(b"0013\x08\x00")
    read = spawn("decode", "--stream", "--framing", "ascii4", "--json", data=made.stdout)
    assert [json.loads(line)["fields"]["11"] for line in read.stdout.splitlines()] == ["000001", "000002"]
    made = spawn("encode", "--output", "base64", data=b'{"0": "0800", "11": 1}')
    assert base64.b64decode(made.stdout) == bytes.fromhex("08000020000000000000000001")


def test_masked_json_cannot_be_sent(purchase: bytes, capsys: Capture, stdin: Any) -> None:
    out = run(capsys, "decode", "--json", purchase.hex())[1]
    stdin(out)
    status, _, err = run(capsys, "encode")
    assert (status, err) == (2, "iso8583 encode: JSON: masked values cannot be sent; decode with --unmask\n")


# ---- explain, diff, specs ------------------------------------------------------------------------


def test_explain_shows_bytes_and_tells_causes(purchase: bytes, capsys: Capture) -> None:
    status, out, err = run(capsys, "explain", (HEADER + purchase).hex())
    assert (status, err) == (0, "")
    assert "0200 financial request · spec unionpay_pos · header tpdu+pos6" in out
    assert "16|** ** **" in out and "9F 26 08|12 34 56 78 AB" in out
    status, out, err = run(capsys, "explain", "--header", "none", (HEADER[:5] + purchase).hex())
    assert (status, err) == (1, "")
    assert '    1. a TPDU seems to stand in front: read with header "tpdu" (read so, the whole message is sound)' in out
    status, out, err = run(capsys, "explain", purchase[:-1].hex())
    assert status == 1 and "✗ 64 " in out


def test_explain_takes_many(purchase: bytes, sign_on: bytes, capsys: Capture, stdin: Any) -> None:
    stdin(f"{purchase.hex()}\n{sign_on[:-1].hex()}\nzz\n{sign_on.hex()}\n")
    status, out, err = run(capsys, "explain")
    assert (status, err) == (1, "1 of 4 messages cannot be read\n")
    assert [line.split(" · ")[0] for line in out.splitlines() if "line " in line] == [
        "── line 1", "── line 2", "line 3", "── line 4"
    ]  # fmt: skip


def test_diff_tells_by_its_status(purchase: bytes, spec: iso8583.Spec, capsys: Capture, tmp_path: Path) -> None:
    other = spec.decode(purchase).patched({4: 1300, 38: "123456", 52: None})
    path = tmp_path / "other.hex"
    path.write_text(other.hex(), encoding="utf-8")
    assert run(capsys, "diff", purchase.hex(), (HEADER[:5] + purchase).hex())[0] == 1  # the header
    status, out, _ = run(capsys, "diff", purchase.hex(), purchase.hex())
    assert (status, out) == (0, "0 changed, 0 added, 0 removed, 21 equal\n")
    status, out, _ = run(capsys, "diff", purchase.hex(), str(path))
    assert status == 1
    assert re.search(r"^~  4 +amount 交易金额 +000000001250 +000000001300$", out, re.MULTILINE)
    assert re.search(r"^\+  38 +authorization_code 授权标识应答码 +123456$", out, re.MULTILINE)
    assert re.search(r"^-  52 +pin_block 个人标识码数据 +<hidden, 8 bytes>$", out, re.MULTILINE)
    assert out.endswith("\n\n1 changed, 1 added, 1 removed, 19 equal\n")
    status, out, _ = run(capsys, "diff", "--json", purchase.hex(), str(path))
    assert [json.loads(line)["path"] for line in out.splitlines()] == ["4", "38", "52"]


def test_check_spec_lists_fields_and_what_is_missing(tmp_path: Path, capsys: Capture) -> None:
    status, out, err = run(capsys, "check-spec", "unionpay_pos")
    assert (status, err) == (0, "")
    assert re.search(r"^ +2  pan +主账号 +n bcd_left +bcd2 +8 to 19 digits +pan$", out, re.MULTILINE)
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\nextends = "kiosk"\nsource = "the acquirer"\n[field.5]\nname = "card_pan"\ncontent = "n"\n'
        'length_max = 19\nlength_prefix = "bcd2"\nencoding = "bcd_left"\nlength_unit = "digits"\n',
        encoding="utf-8",
    )
    status, _, err = run(capsys, "check-spec", str(path))
    assert status == 1
    assert err.splitlines() == [
        "warning: no source: field.5",
        "warning: usually sensitive, but not marked so: field.5 (card_pan)",
        "note: no label: field.5",
    ]


@pytest.mark.parametrize("name", specfile.bundled_names())
def test_the_bundled_specs_leave_nothing_to_wish_for(name: str, capsys: Capture) -> None:
    assert run(capsys, "check-spec", name)[::2] == (0, "")


def test_specs_lists_the_bundled_ones(capsys: Capture) -> None:
    status, out, _ = run(capsys, "specs")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()[1:] if line[0] != " "] == specfile.bundled_names()


@pytest.mark.parametrize("form", convert.FORMATS)
def test_convert_writes_every_form_and_reads_it_back(form: str, tmp_path: Path, capsys: Capture) -> None:
    suffix = {"toml": ".toml", "moov-json": ".json", "moov-yaml": ".yaml", "jpos-xml": ".xml"}.get(form, ".json")
    path = tmp_path / f"spec{suffix}"
    arguments = ["convert", "iso8583_1987_ascii", "--to", form, "--flat"]
    status, out, err = run(capsys, *arguments)
    assert status == 0 and out
    assert ("left out: " in err) == (form != "toml")
    assert run(capsys, *arguments, "-o", str(path))[:2] == (0, "")
    assert path.read_text(encoding="utf-8").rstrip("\n") == out.rstrip("\n")
    assert run(capsys, "convert", str(path), "--from", form, "--to", "toml")[0] == 0
    assert run(capsys, "check-spec", str(path))[0] in (0, 1)  # sources may be missing


def test_the_help_of_convert_names_every_form(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert ", ".join(convert.FORMATS) in out


# ---- wrong input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["decode", "02x0"], "MESSAGE: expected hexadecimal characters, found something else at character 3\n"),
        (["decode", "020"], "MESSAGE: expected two characters a byte, got an odd number (3)"),
        (["decode", "  "], "MESSAGE: expected a message, got nothing"),
        (["decode", "--spec", "nowhere", "0200"], "no spec 'nowhere'"),
        (["decode", "--spec", "kiosk", "--header", "none", "0200"], "bitmap at byte 2: the message ends"),
        (["decode", "--spec", "kiosk", "0200"], "no header makes this a message of kiosk; of "),
        (["decode", "--nested", "0200"], "--nested goes with --json"),
        (["decode", "--file", "x", "0200"], "give a message or --file, not both"),
        (["decode", "--stream", "a", "b"], "--stream reads one file"),
        (["decode", "--file", "/nowhere/x"], "/nowhere/x: cannot be read: No such file or directory"),
        (["decode", "--file", str(ROOT)], f"{ROOT}: cannot be read: Is a directory"),
        (["decode", str(ROOT)], f"{ROOT}: cannot be read: Is a directory"),
        (["decode", "--stream", str(ROOT)], f"{ROOT}: cannot be read: Is a directory"),
        (["decode", "--file", "a\0b"], "cannot be read: not a file name"),
        (["decode", "x" * 5001], "found something else at character 1; nor is it base64, or the name of a file"),
        (["decode", "0" * (TEXT_MAX + 2)], f"MESSAGE: more than {TEXT_MAX} characters; the largest message has 65535"),
        (["explain", "0200zz"], "found something else at character 5"),
        (["diff", "-", "-"], "only one of A and B can be standard input"),
        (["diff", "0200", "zz"], "A: no header makes this a message"),
        (["diff", "zz", "0200"], "MESSAGE: expected hexadecimal characters"),
        (["encode", "{"], "JSON: Expecting property name enclosed in double quotes at line 1"),
        (["encode", "[]"], "JSON: line 1: expected an object of fields"),
        (["encode", " "], "JSON: expected an object of fields, got nothing"),
        (["encode", '{"0": "0200", "0": "0210"}'], "JSON: '0' is given twice in one object"),
        (["encode", '{"0": "0200", "4": 1, "04": 1}'], "JSON: field 4 is given twice"),
        (["encode", '{"0": "0200", "52": 5}'], "field 52: expected hexadecimal text"),
        (["encode", '{"0": "0200", "52": "x"}'], "field 52: expected hexadecimal characters"),
        (["encode", '{"0": "0200", "55": {"9F36": "0"}}'], "field 55.9F36: expected two characters a byte"),
        (["encode", '{"0": "0200", "55": {"9F36": 1}}'], "field 55.9F36: expected hexadecimal text"),
        (["encode", '{"0": "0200", "60": {"1": "x"}}'], "60.1"),
        (["encode", '{"0": "0200", "4": "1"}'], "field 4: expected 12 digits, got 1 [length]"),
        (["encode", '{"0": "0200", "4": 1.5}'], "field 4: expected str, got float [type]"),
        (["encode", '{"0": "0200", "4": 1' + "0" * 5000 + "}"], "a number of too many digits"),
        (["encode", '{"0": ' * 100000], "nested too deep"),
        (["encode", "--header", "60", '{"0": "0200"}'], "expected 5, 6, 11, 41 or 46 bytes, got 1"),
        (["encode", '{"masked": true, "fields": {}}'], "masked values cannot be sent"),
        (["encode", "--file", "/nowhere/x"], "/nowhere/x: cannot be read"),
        (["check-spec", "nowhere.toml"], "nowhere.toml: cannot be read"),
        (["convert", "kiosk", "--to", "excel"], "excel: not a format; expected one of toml"),
        (["convert", "nowhere.xml", "--to", "toml"], "nowhere.xml: cannot be read"),
        (["convert", "unionpay_pos", "--to", "jpos-xml"], "things cannot be expressed"),
        (["convert", "kiosk", "--to", "toml", "-o", str(ROOT)], f"{ROOT}: cannot be written: Is a directory"),
    ],
)
def test_wrong_input_is_explained(arguments: list[str], text: str, capsys: Capture) -> None:
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, ""), err
    assert err.startswith(f"iso8583 {arguments[0]}: ")
    assert text in err


def test_input_is_bounded(capsys: Capture, stdin: Any) -> None:
    stdin(bytes(70000))
    status, _, err = run(capsys, "decode")
    assert status == 2 and "more than 65535 bytes, the largest message; for a capture" in err
    stdin("0" * 3_000_000)
    status, out, _ = run(capsys, "decode")
    assert status == 1 and out.startswith(f"line 1 · ✗ more than {TEXT_MAX} characters")
    stdin(b"{}" * 10_000_000)
    status, _, err = run(capsys, "encode")
    assert status == 2 and "standard input: more than 16777216 bytes; expected JSON" in err


def test_a_line_that_is_too_long_does_not_hide_the_others(sign_on: bytes, capsys: Capture, stdin: Any) -> None:
    good = sign_on.hex()
    stdin(f"{good}\n{'0' * (3 * TEXT_MAX)}\n{good}\n# comment\n{'11' * TEXT_MAX}\n{good}")
    status, out, err = run(capsys, "decode", "--json")
    assert (status, err) == (1, "2 of 5 messages cannot be read\n")
    objects = [json.loads(line) for line in out.splitlines()]
    assert [(one["place"], "fields" in one) for one in objects] == [
        ("line 1", True), ("line 2", False), ("line 3", True), ("line 5", False), ("line 6", True)
    ]  # fmt: skip


def test_what_is_not_text_is_refused(capsys: Capture, stdin: Any) -> None:
    stdin(b'{"0": "\xff"}')
    status, _, err = run(capsys, "encode")
    assert (status, err) == (2, "iso8583 encode: standard input: expected JSON, found something that is not text at "
                                "byte 7\n")  # fmt: skip
    stdin(b"# \xe4\xb8\xad\n")
    assert run(capsys, "decode", "--input", "hex")[0] == 2


# ---- as a process --------------------------------------------------------------------------------


def test_every_command_runs_as_a_process(purchase: bytes, sign_on: bytes, tmp_path: Path) -> None:
    hexadecimal = purchase.hex()
    cases: list[tuple[list[str], str | bytes, int, str]] = [
        (["decode"], hexadecimal, 0, SHOWN),
        (["decode", "--stream"], iso8583.frame(purchase), 0, SHOWN),
        (["explain"], hexadecimal, 0, "16|** **"),
        (["explain"], hexadecimal[:-2], 1, "the message seems to be cut off"),
        (["diff", hexadecimal, "-"], sign_on.hex(), 1, "added"),
        (["encode"], '{"0": "0800", "11": 1}', 0, "08000020000000000000000001"),
        (["check-spec", "kiosk"], "", 0, "terminal_id"),
        (["convert", "kiosk", "--to", "toml"], "", 0, 'name = "kiosk"'),
        (["specs"], "", 0, "unionpay_pos"),
        (["--version"], "", 0, "iso8583 "),
    ]
    for arguments, data, status, text in cases:
        done = spawn(*arguments, data=data.encode() if isinstance(data, str) else data)
        assert done.returncode == status, done.stderr
        assert text in done.stdout.decode()
        assert b"\x1b[" not in done.stdout + done.stderr
        assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_has_an_example(command: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "examples:\n  iso8583 " in out
    assert max(map(len, out.splitlines())) <= 140


@pytest.mark.parametrize("command", [[], ["decode"], ["explain"], ["encode"], ["specs"]])
def test_the_examples_of_the_help_work(command: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    example = capsys.readouterr().out.split("examples:\n")[1].splitlines()[0].strip()
    words = re.findall(r"'[^']*'|\S+", example)
    status, out, _ = run(capsys, *(word.strip("'") for word in words[1:]))
    assert status == 0 and out


def test_the_spec_can_come_from_the_environment(sign_on: bytes) -> None:
    done = spawn("decode", sign_on.hex(), env={"ISO8583_SPEC": "kiosk"})
    assert done.returncode == 0 and b"spec kiosk" in done.stdout
    done = spawn("decode", sign_on.hex(), env={"ISO8583_SPEC": ""})
    assert done.returncode == 0 and b"spec unionpay_pos" in done.stdout


def on_a_terminal(*arguments: str, env: dict[str, str]) -> str:
    """What a command prints on a terminal of 100 columns."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "PYTHONIOENCODING": "utf-8", **env}
    if env.get("NO_COLOR") is None:
        environment.pop("NO_COLOR", None)
    command = [sys.executable, "-m", "iso8583", *arguments]
    process = subprocess.Popen(command, stdout=follower, stderr=follower, stdin=follower, cwd=ROOT, env=environment)
    os.close(follower)
    output = b""
    try:
        while select.select([leader], [], [], 60)[0]:
            try:
                chunk = os.read(leader, 65536)
            except OSError:  # the last writer has closed it
                break
            if not chunk:
                break
            output += chunk
    finally:
        process.kill()
        process.wait()
        os.close(leader)
    return output.decode()


def test_colours_are_for_terminals_that_want_them(purchase: bytes) -> None:
    for command in ("decode", "explain"):
        painted = on_a_terminal(command, purchase.hex(), env={})
        assert "\x1b[1m" in painted and "\x1b[36m" in painted and SHOWN in painted
        plain = on_a_terminal(command, purchase.hex(), env={"NO_COLOR": "1"})
        assert "\x1b" not in plain and SHOWN in plain
        assert re.sub("\x1b\\[[0-9]*m", "", painted) == plain
        assert "\x1b" not in on_a_terminal(command, purchase.hex(), env={"TERM": "dumb"})
    assert "\x1b[31m" in on_a_terminal("decode", "zz", env={})


def test_a_terminal_without_chinese_is_no_reason_to_crash(purchase: bytes) -> None:
    for arguments in (["decode"], ["decode", "--json"], ["explain"], ["check-spec", "kiosk"]):
        words = [] if arguments[0] == "check-spec" else [purchase.hex()]
        done = spawn(*arguments, *words, env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
        assert done.returncode == 0, done.stderr
        assert done.stdout.isascii()
    spec = iso8583.load("unionpay_pos")
    data = spec.encode({0: "0210", 44: "中é"})
    done = spawn("decode", "--json", "--unmask", data.hex(), env={"PYTHONIOENCODING": "ascii"})
    assert json.loads(done.stdout)["fields"]["44"] == "中é"


def test_a_reader_who_has_seen_enough_is_no_error(sign_on: bytes, tmp_path: Path) -> None:
    path = tmp_path / "many"
    path.write_text(f"{sign_on.hex()}\n" * 3000, encoding="utf-8")
    command = [sys.executable, "-m", "iso8583", "decode", "--json", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0


def test_an_interrupt_is_quiet(tmp_path: Path) -> None:
    command = [sys.executable, "-u", "-m", "iso8583", "decode", "--stream", "--json"]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        # Whoever started these tests in the background ignores interrupts, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        # When the first message is out, the command is waiting for the next.
        process.stdin.write(iso8583.frame(bytes.fromhex("08000020000000000000000001")))
        process.stdin.flush()
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert b"Traceback" not in process.stderr.read()


def test_closed_standard_streams_are_no_reason_to_crash(sign_on: bytes) -> None:
    command = f"{sys.executable} -m iso8583 decode"
    done = subprocess.run(f"{command} <&-", shell=True, capture_output=True, cwd=ROOT, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (2, b"iso8583 decode: standard input: it is closed\n")
    done = subprocess.run(
        f"{command} {sign_on.hex()} >&-", shell=True, capture_output=True, cwd=ROOT, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")


# ---- nothing of a card ---------------------------------------------------------------------------


def secrets_in(text: str) -> list[str]:
    """What is in a purchase of the fixture and must not be seen. More: test_describe.py."""
    compact = re.sub(r"[\s|]", "", text).upper()
    ascii_pan = PAN.encode().hex().upper()
    secrets = [PAN[at : at + 7] for at in range(10)] + [ascii_pan[at : at + 14] for at in range(0, 20, 2)]
    secrets += ["0098765432", "1561560000", "01020304050607", "41424344454630", "6B6579"]
    return [secret for secret in secrets if secret in compact]


def test_no_command_shows_card_data_unasked(
    purchase: bytes, spec: iso8583.Spec, capsys: Capture, tmp_path: Path, stdin: Any
) -> None:
    other = spec.decode(purchase).patched({2: "6222987654321006", 52: bytes(8), 62: b"key 2", 64: bytes(8)})
    damaged = [purchase[:-1], purchase + b"\0", b"\x02\xff" + purchase, purchase[:10] + b"\x99" + purchase[11:],
               purchase[:10] + b"\x08" + purchase[11:], purchase.hex().encode(), b"x" + purchase]  # fmt: skip
    path = tmp_path / "capture"
    path.write_bytes(b"".join(iso8583.frame(data) for data in (purchase, *damaged)))
    lines = tmp_path / "lines"
    lines.write_text("\n".join(data.hex() for data in (purchase, *damaged)), encoding="utf-8")
    messages = [data.hex() for data in (purchase, HEADER + purchase, *damaged)]
    commands = [
        *(["decode", *more, text] for text in messages for more in ([], ["--json"], ["--json", "--nested"])),
        *(["decode", "--header", header, text] for text in messages for header in HEADERS),
        *(["explain", text] for text in messages),
        *(["explain", "--header", header, text] for text in messages for header in HEADERS),
        ["decode", "--stream", str(path)],
        ["decode", "--stream", "--json", str(path)],
        ["decode", "--stream", "--framing", "ascii4", str(path)],
        ["decode", str(lines)],
        ["explain", str(lines)],
        ["decode", f"zz{PAN}"],
        ["decode", f"{PAN}0"],
        ["diff", purchase.hex(), other.hex()],
        ["diff", "--json", purchase.hex(), other.hex()],
        ["diff", purchase.hex(), damaged[0].hex()],
        ["encode", json.dumps({"0": "0200", "2": f"{PAN}{PAN}"})],
        ["encode", json.dumps({"0": "0200", "2": f"{PAN}x"})],
        ["encode", json.dumps({"0": "0200", PAN: "1"})],
        ["encode", json.dumps({"0": "0200", "52": PAN + "z"})],
        ["encode", json.dumps({"0": "0200", "55": {PAN: "00"}})],
        ["encode", f'{{"0": "0200", "{PAN}": 1, "{PAN}": 2}}'],
        ["encode", f'{{"0": {PAN}{PAN}}}'],
    ]
    for arguments in commands:
        _, out, err = run(capsys, *arguments)
        assert out or err
        assert not secrets_in(out + err), (arguments[:3], out, err)
    # And they are there to be found.
    assert len(secrets_in(run(capsys, "decode", "--json", "--unmask", purchase.hex())[1])) > 20
