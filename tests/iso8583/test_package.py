"""The package as a whole."""

import doctest
import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import iso8583

ROOT = Path(__file__).parents[2]
MODULES = ["", ".errors", ".header", ".masking", ".mti", ".tlv", ".track", ".framing"]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_the_documentation_are_true(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"iso8583{name}"))
    assert result.failed == 0


def test_every_public_name_exists() -> None:
    for name in iso8583.__all__:
        assert hasattr(iso8583, name), name


def test_it_needs_nothing_but_the_standard_library() -> None:
    code = (
        "import sys, iso8583, iso8583.cli\n"
        "names = {name.split('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)\n"
        "print(sorted(name for name in names if not name.startswith('_') and name not in ('site', 'cython_runtime')))"
    )
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['iso8583']"


def test_a_missing_extension_is_one_clear_error() -> None:
    code = "import sys; sys.modules['iso8583._native.codec'] = None; import iso8583"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode != 0
    assert "the compiled part of iso8583 is missing; in a source checkout run: make build" in done.stderr


def test_a_clash_with_pyiso8583_is_one_clear_error(tmp_path: Path) -> None:
    """PyPI's package of the same name lays its decoder.py into our folder."""
    copied = tmp_path / "clash" / "iso8583"
    shutil.copytree(ROOT / "iso8583", copied, ignore=shutil.ignore_patterns("__pycache__"))
    (copied / "decoder.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-c", "import iso8583"], capture_output=True, text=True, cwd=copied.parent, check=False
    )
    assert done.returncode != 0
    assert "uninstall pyiso8583" in done.stderr.splitlines()[-1]
