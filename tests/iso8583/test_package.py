"""The package as a whole."""

import ast
import doctest
import importlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import iso8583

ROOT = Path(__file__).parents[2]
FOLDER = Path(iso8583.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(FOLDER.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in FOLDER.rglob("*.py")
    if path.name != "__main__.py" and path.parent != FOLDER / "decoder"  # which cannot be imported on purpose
)
STUBS = sorted(FOLDER.rglob("*.pyi"))


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_the_documentation_are_true(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def documented(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
            yield node.name, text


@pytest.mark.parametrize("stub", STUBS, ids=lambda path: path.name)
def test_examples_of_the_compiled_part_are_true(stub: Path) -> None:
    """Its docstrings are in the stubs, where editors read them."""
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner()
    for name, text in documented(ast.parse(stub.read_text(encoding="utf-8"))):
        runner.run(parser.get_doctest(text, {}, name, str(stub), 0))
    assert runner.summarize(verbose=False).failed == 0


@pytest.mark.parametrize("name", ["codec", "frames"])
def test_the_stubs_name_what_the_compiled_part_has(name: str) -> None:
    module = importlib.import_module(f"iso8583._native.{name}")
    tree = ast.parse((FOLDER / "_native" / f"{name}.pyi").read_text(encoding="utf-8"))
    stated: dict[str, set[str]] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            stated[node.name] = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
        elif isinstance(node, ast.FunctionDef):
            stated[node.name] = set()
    for thing, methods in stated.items():
        found = getattr(module, thing)
        assert not [method for method in methods if not hasattr(found, method)], thing
        if isinstance(found, type):
            public = {method for method in vars(found) if not method.startswith("_")}
            assert public <= methods, f"{thing}: {sorted(public - methods)} are not in the stub"


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


@pytest.mark.parametrize("part", ["codec", "frames"])
def test_a_missing_extension_is_one_clear_error(part: str) -> None:
    code = f"import sys; sys.modules['iso8583._native.{part}'] = None; import iso8583"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode != 0
    assert "the compiled part of iso8583 is missing; in a source checkout run: make build" in done.stderr


@pytest.mark.parametrize("last", ["ours", "theirs"])
@pytest.mark.parametrize("code", ["import iso8583", "import iso8583.cli", "from iso8583.errors import DecodeError"])
def test_a_clash_with_pyiso8583_is_one_clear_error(tmp_path: Path, last: str, code: str) -> None:
    """PyPI's package of the same name lays its decoder.py into our folder and, installed last, its __init__.py."""
    copied = tmp_path / "clash" / "iso8583"
    shutil.copytree(ROOT / "iso8583", copied, ignore=shutil.ignore_patterns("__pycache__"))
    (copied / "decoder.py").write_text("def decode(): ...\n")
    if last == "theirs":
        (copied / "__init__.py").write_text("from iso8583.decoder import decode\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=copied.parent, check=False)
    assert done.returncode != 0
    said = done.stderr.splitlines()[-1]
    assert said.startswith("ImportError: pyiso8583 and gridswitch both install a package iso8583")
    assert "pip uninstall pyiso8583, then pip install --force-reinstall --no-deps gridswitch" in said
