"""What mutation testing breaks is there: one that was renamed would no longer be broken, and nobody would know."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutation import GROUPS

ROOT = Path(__file__).parents[2]


def _functions(path: str) -> set[str]:
    found = set()
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}.{each.name}"
                for each in node.body
                if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
            }
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
    return found


@pytest.mark.parametrize("name", GROUPS)
def test_every_group_names_functions_and_tests_that_exist(name: str) -> None:
    for path, functions in GROUPS[name].code.items():
        assert set(functions.split()) <= _functions(path) | {"*"}, path
    for test in GROUPS[name].tests.split():
        path, _, function = test.partition("::")
        assert (ROOT / path).exists(), test
        assert not function or function in _functions(path), test
