"""The README's examples are run, and its spec file is loaded."""

import re
from pathlib import Path

import pytest

import iso8583

README = (Path(iso8583.__file__).parent / "README.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README, re.S)
    assert found
    return found[1]


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    exec(compile(block("python"), "README.md", "exec"), names)
    assert "2=622200******0017" in capsys.readouterr().out
    reply = names["reply"]
    assert isinstance(reply, iso8583.Message)
    assert reply.mti == "0210"


def test_the_spec_file_loads(tmp_path: Path) -> None:
    path = tmp_path / "my_acquirer.toml"
    path.write_text(block("toml"), encoding="utf-8")
    spec = iso8583.load(path)
    assert spec.field("device_data").number == 46
    assert 58 not in spec.fields


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
