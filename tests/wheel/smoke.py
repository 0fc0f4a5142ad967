"""Is the installed wheel whole, and does it work with nothing beside it?

Not a test of pytest: `make wheel` and cibuildwheel run it with the interpreter of a fresh environment, from another
folder, as ``python -I tests/wheel/smoke.py``. The source tree is read only to know which files the wheel must have.
"""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import iso8583
from iso8583 import codes, specfile, tlv
from iso8583.compat import pyiso8583

NAME = "gridswitch"
ROOT = Path(__file__).resolve().parents[2]
INSTALLED = Path(iso8583.__file__).resolve().parents[1]
WANTED = {".py", ".pyi", ".typed", ".toml", ".sql"}
UNWANTED = {".c", ".h", ".pyx", ".pxd", ".o"}
TOOLS = {"pip", "setuptools", "wheel"}  # what makers of environments put into them


def suffix(path: Path) -> str:
    return f".{path.name.rpartition('.')[2]}"  # of py.typed too


def check_that_it_stands_alone() -> None:
    assert INSTALLED.is_relative_to(Path(sys.prefix).resolve()), f"imported {iso8583.__file__}, not the wheel's"
    required = [line for line in metadata.requires(NAME) or [] if "extra ==" not in line]
    assert not required, f"the base install requires {required}, expected nothing"
    installed = {found.metadata["Name"] for found in metadata.distributions()} - TOOLS
    assert installed == {NAME}, f"installed beside it: {sorted(installed - {NAME})}, expected nothing"


def check_files() -> None:
    recorded = {Path(file) for file in metadata.files(NAME) or []}
    unwanted = sorted(str(path) for path in recorded if path.suffix in UNWANTED)
    assert not unwanted, f"sources in the wheel: {unwanted}"
    wanted = {
        path.relative_to(ROOT)
        for package in ("iso8583", "switch")
        for path in (ROOT / package).rglob("*")
        if suffix(path) in WANTED
    }
    assert Path("iso8583/py.typed") in wanted and Path("iso8583/_native/codec.pyi") in wanted, f"{ROOT}: no source tree"
    missing = sorted(str(path) for path in wanted - recorded)
    assert not missing, f"not in the wheel: {missing}"


def check_that_it_works() -> None:
    for name in specfile.bundled_names():
        iso8583.load(name)
    for name in codes.table_names():
        codes.load_table(name)

    spec = iso8583.load("unionpay_pos", header="tpdu")
    header = bytes.fromhex("6000030000")
    values = {0: "0200", 2: "6222000000000017", 3: "000000", 4: 1250, 11: "000007", 55: {"9F36": b"\x00\x2a"}}
    data = spec.encode(values, header=header)
    message = spec.decode(data)
    assert (message.mti, message["amount"], message["55.9F36"]) == ("0200", "000000001250", b"\x00\x2a")
    assert spec.encode(message.to_dict(), header=header) == data
    assert tlv.encode(tlv.decode(message.raw(55))) == message.raw(55)
    assert iso8583.Framer("len2").feed(iso8583.frame(data)) == [data]

    encoded, _ = pyiso8583.encode({"t": "0800", "11": "000001"}, pyiso8583.specs.default_ascii)
    assert pyiso8583.decode(encoded, pyiso8583.specs.default_ascii)[0]["11"] == "000001"


def check_command() -> None:
    command = [str(Path(sys.executable).with_name("iso8583")), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"iso8583 --help: exit status {done.returncode}: {done.stderr}"
    assert done.stdout.startswith("usage: iso8583"), f"iso8583 --help printed {done.stdout[:80]!r}"


def check_that_the_other_command_names_its_extra() -> None:
    command = [str(Path(sys.executable).with_name("gridswitch")), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, f"gridswitch --help: exit status {done.returncode}, expected 2: {done.stderr}"
    assert done.stderr.endswith("pip install 'gridswitch[switch]' [extra]\n"), f"gridswitch --help: {done.stderr}"


if __name__ == "__main__":
    check_that_it_stands_alone()
    check_files()
    check_that_it_works()
    check_command()
    check_that_the_other_command_names_its_extra()
    print(f"the wheel works alone: {NAME} {metadata.version(NAME)}, Python {sys.version.split()[0]}")
