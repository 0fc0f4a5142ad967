"""The command itself: what it says before any of its parts has run."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def gridswitch(*arguments: str, before: str = "", bare: bool = True) -> subprocess.CompletedProcess[str]:
    """``python -m switch`` in a process of its own; ``bare`` hides what is installed, as after a base install."""
    code = (
        f"import runpy, sys; sys.path.insert(0, {str(ROOT)!r}); {before}\n"
        f"sys.argv[1:] = {arguments!r}; runpy.run_module('switch', run_name='__main__')"
    )
    command = [sys.executable, "-I", *(["-S"] if bare else []), "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run"], ["check-config", "switch.toml"], []])
def test_without_its_extra_the_command_says_what_to_install(arguments: list[str]) -> None:
    done = gridswitch(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("gridswitch: ")
    assert line.endswith(" is not installed: the switch needs its extra; run: pip install 'gridswitch[switch]' [extra]")


@pytest.mark.parametrize("name", ["uvloop", "orjson"])
def test_one_missing_package_is_named(name: str) -> None:
    done = gridswitch("--help", before=f"sys.modules[{name!r}] = None", bare=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"gridswitch: {name} is not installed: ")


@pytest.mark.parametrize("name", ["switch.sim.commands", "iso8583.tlv"])
def test_a_missing_module_of_our_own_is_no_extra(name: str) -> None:
    done = gridswitch("--help", before=f"sys.modules[{name!r}] = None", bare=False)
    assert done.returncode == 1
    assert f"import of {name} halted" in done.stderr.splitlines()[-1]
    assert "pip install" not in done.stderr


def test_with_its_extra_it_helps() -> None:
    done = gridswitch("--help", bare=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: gridswitch")
