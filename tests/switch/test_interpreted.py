"""The path's modules run in the form that was asked for, and yesterday's compiled code never does."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from switch import interpreted

ROOT = Path(__file__).parents[2]
SAYS = "import switch, switch.runtime.payments as it; print(switch.INTERPRETED, it.__file__.rpartition('.')[2])"


def says(folder: Path, wanted: str = "") -> str:
    environment = {**os.environ, interpreted.WANTED: wanted, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", SAYS]
    return subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_list_is_that_of_the_build_and_each_has_its_types() -> None:
    built = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["ext-modules"]
    of_python = {each["name"]: each for each in built if each["sources"][0].endswith(".py")}
    assert sorted(of_python) == [*interpreted.COMPILED]
    for name, each in of_python.items():
        path = name.replace(".", "/")
        assert each["sources"] == [f"{path}.py"] and each["depends"] == [f"{path}.pxd"]
        assert (ROOT / f"{path}.py").read_text(encoding="utf-8").startswith("# cython: "), path
    typed = {str(path.relative_to(ROOT).with_suffix("")).replace("/", ".") for path in ROOT.glob("switch/*/*.pxd")}
    assert typed == set(of_python)


@pytest.mark.parametrize("name", interpreted.COMPILED)
def test_every_attribute_has_its_type(name: str) -> None:
    """A class of C has what is declared and nothing else; interpreted, nobody would notice."""
    path = ROOT / name.replace(".", "/")
    typed = path.with_suffix(".pxd").read_text(encoding="utf-8")
    declared: dict[str, set[str]] = {}
    for block in typed.split("cdef class ")[1:]:
        known = {word for line in re.findall(r"cdef public (.*)", block) for word in re.findall(r"\w+", line)}
        declared[re.split(r"\W", block)[0]] = known
    for node in ast.parse(path.with_suffix(".py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name in declared:
            of_base = set().union(*(declared.get(ast.unparse(base), set()) for base in node.bases))
            written = {
                each.attr
                for each in ast.walk(node)
                if isinstance(each, ast.Attribute)
                and isinstance(each.ctx, ast.Store)
                and ast.unparse(each.value) == "self"
            }
            assert written <= declared[node.name] | of_base, f"{path.name}.pxd, {node.name}"


def test_compiled_is_what_runs_and_interpreted_what_was_asked_for() -> None:
    assert says(ROOT) == "False so"
    assert says(ROOT, "1") == "True py"


@pytest.mark.parametrize("suffix", [".py", ".pxd"])
def test_what_is_newer_than_its_compiled_form_runs_interpreted(tmp_path: Path, suffix: str) -> None:
    names = []
    for path in (ROOT / "switch").rglob("*"):
        if path.is_file() and path.suffix in (".py", ".pxd", ".so", ".toml", ".sql"):
            names.append(path.relative_to(ROOT))
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(ROOT / name, tmp_path / name)
    (tmp_path / "iso8583").symlink_to(ROOT / "iso8583")
    assert says(tmp_path) == "False so"
    changed = tmp_path / "switch/model/effect"
    text = changed.with_suffix(suffix).read_bytes()
    changed.with_suffix(suffix).unlink()
    changed.with_suffix(suffix).write_bytes(text)
    assert says(tmp_path) == "True py"
