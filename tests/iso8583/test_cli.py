"""The command."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import iso8583
from iso8583.cli import main

ROOT = Path(__file__).parents[2]
HEADER = bytes.fromhex("6000030000603100123456")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_decode_finds_the_framing_by_itself(purchase: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    for data, framing in [
        (purchase, "header none"),
        (HEADER[:5] + purchase, "header tpdu"),
        (HEADER[5:] + purchase, "header pos6"),
        (HEADER + purchase, "header tpdu+pos6"),
        (iso8583.frame(HEADER + purchase), "2-byte length, header tpdu+pos6"),
    ]:
        status, out, err = run(capsys, "decode", "--spec", "unionpay_pos", data.hex(" "))
        assert status == 0
        assert err == f"framing: {framing}\n"
        assert "terminal_id" in out and "10000001" in out


def test_what_decode_prints_as_json_encode_takes(
    purchase: bytes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = HEADER + purchase
    status, out, _ = run(capsys, "decode", "--spec", "unionpay_pos", "--json", "--unmask", data.hex())
    assert status == 0
    assert json.loads(out)["fields"]["4"] == "000000001250"
    monkeypatch.setattr(sys, "stdin", io.StringIO(out))
    status, out, _ = run(capsys, "encode", "--spec", "unionpay_pos", "-")
    assert status == 0
    assert out == f"{data.hex().upper()}\n"


def test_encode_takes_names_numbers_and_objects(capsys: pytest.CaptureFixture[str]) -> None:
    values = {"mti": "0200", "amount": 1250, "52": "0102030405060708", "55": {"9F36": "002A"}}
    status, out, _ = run(capsys, "encode", "--spec", "unionpay_pos", "--header", "6000030000", json.dumps(values))
    assert status == 0
    message = iso8583.load("unionpay_pos", header="tpdu").decode(bytes.fromhex(out))
    assert (message[4], message["55.9F36"]) == ("000000001250", b"\0\x2a")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ["decode", "--spec", "unionpay_pos", "02x0"],
            "expected hexadecimal characters, found something else at character 3",
        ),
        (["decode", "--spec", "unionpay_pos", "020"], "HEX: expected two characters a byte, got an odd number (3)"),
        (["decode", "--spec", "nowhere", "0200"], "no spec 'nowhere'"),
        (["decode", "--spec", "kiosk", "--header", "none", "0200"], "bitmap at byte 2: the message ends"),
        (["decode", "--spec", "kiosk", "0200"], "no header makes this a message of kiosk; tried"),
        (["encode", "--spec", "kiosk", "{"], "JSON: Expecting property name enclosed in double quotes at line 1"),
        (["encode", "--spec", "kiosk", "[]"], "JSON: expected an object of fields"),
        (["encode", "--spec", "kiosk", '{"0": "0200", "52": 5}'], "field 52: expected hexadecimal text"),
        (["encode", "--spec", "kiosk", '{"0": "0200", "52": "x"}'], "field 52: expected hexadecimal characters"),
        (["encode", "--spec", "kiosk", '{"0": "0200", "4": "1"}'], "field 4: expected 12 digits, got 1 [length]"),
        (["encode", "--spec", "kiosk", "--header", "60", '{"0": "0200"}'], "expected 5, 6 or 11 bytes, got 1"),
        (["encode", "--spec", "kiosk", '{"masked": true, "fields": {}}'], "masked values cannot be sent"),
        (["check-spec", "nowhere.toml"], "nowhere.toml: cannot be read"),
    ],
)
def test_wrong_input_is_explained(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith(f"iso8583 {arguments[0]}: ")
    assert text in err


def test_too_much_input_is_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("0" * 300000))
    status, _, err = run(capsys, "decode", "--spec", "kiosk", "-")
    assert status == 2
    assert "standard input: more than 262144 characters" in err


def test_check_spec_lists_fields_and_what_has_no_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "check-spec", "unionpay_pos")
    assert (status, err) == (0, "")
    assert "   2  pan" in out and "sensitive: pan" in out
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\nextends = "kiosk"\nsource = "the acquirer"\n[field.5]\nname = "url"\ncontent = "ans"\n'
        'length_max = 99\nlength_prefix = "bcd2"\nencoding = "ascii"\n',
        encoding="utf-8",
    )
    status, _, err = run(capsys, "check-spec", str(path))
    assert (status, err) == (1, "missing: field.5.source\n")


@pytest.mark.parametrize("command", [[], ["decode"], ["encode"], ["check-spec"]])
def test_help_has_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    assert "example:" in capsys.readouterr().out


def test_the_example_of_the_help_works(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    example = capsys.readouterr().out.split("example:")[1].split()
    status, out, _ = run(capsys, *example[1:])
    assert status == 0
    assert "terminal_id" in out


def test_python_dash_m_runs_the_command(purchase: bytes) -> None:
    command: list[Any] = [sys.executable, "-m", "iso8583", "decode", "--spec", "unionpay_pos", "-"]
    done = subprocess.run(command, input=purchase.hex(), capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "622298******1097" in done.stdout
