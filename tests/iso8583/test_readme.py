"""The README's examples are run, and its spec file is loaded."""

import re
from pathlib import Path

import pytest

import iso8583

README = (Path(iso8583.__file__).parent / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", README, re.S)
    assert found
    return found


def test_the_tour_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    shown = capsys.readouterr().out
    assert "2=622200******0017" in shown and "6222000000000017" not in shown
    assert "field 41 at byte" in shown
    reply = names["reply"]
    assert isinstance(reply, iso8583.Message)
    assert reply.mti == "0210"


def test_the_spec_files_load(tmp_path: Path) -> None:
    first, second = blocks("toml")
    path = tmp_path / "my_acquirer.toml"
    path.write_text(first, encoding="utf-8")
    spec = iso8583.load(path)
    assert spec.field("device_data").number == 46
    assert 58 not in spec.fields
    assert spec.definition.variant_for("0510") is not None
    base = 'name = "parts"\nextends = "unionpay_pos"\n'
    path.write_text(base + second, encoding="utf-8")
    parts = iso8583.load(path)
    keys = {"pin_key": bytes(8), "pin_key_check": b"1234", "mac_key": bytes(8), "mac_key_check": b"5678"}
    message = parts.decode(parts.encode({0: "0810", 60: "00000001001", 62: keys}))
    assert message["60.network_code"] == "001"
    assert message["62.mac_key_check"] == b"5678"


def test_the_map_names_every_module() -> None:
    folder = Path(iso8583.__file__).parent
    shown = README.split("## Map")[1]
    for path in folder.glob("*.py"):
        if path.stem != "__main__":
            assert path.stem in shown, path.stem


def test_the_shown_errors_are_real() -> None:
    spec = iso8583.load("unionpay_pos")
    for data, line in [("0200 4000000000000000 20", "field 2 at"), ("0200 0800000000000000", "field 5 at")]:
        with pytest.raises(iso8583.DecodeError) as caught:
            spec.decode(bytes.fromhex(data))
        assert str(caught.value) in README and str(caught.value).startswith(line)
    with pytest.raises(iso8583.EncodeError) as caught_encode:
        spec.encode({0: "0200", 4: "1250"})
    assert str(caught_encode.value) in README
