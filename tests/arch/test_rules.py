"""Rules that protect behaviour and that no import contract can see. Taste is for the review, not for a test."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Where the outside may be touched: everything else gets it through a port.
PURE = ("switch/model", "switch/machines", "switch/dialects", "switch/ports.py", "switch/limits.py", "switch/errors.py")
BANNED_IN_PURE = {"asyncio", "socket", "ssl", "time", "random", "secrets", "logging", "asyncpg", "uvloop", "os"}
# Outside its adapter nobody opens sockets, reads clocks or throws dice.
ADAPTERS_ONLY = {
    "asyncpg": ("switch/store",),
    "socket": ("switch/net", "switch/observe", "switch/ops", "switch/sim", "switch/kiosk/web/server.py"),
    "time": (
        "switch/runtime/clock.py",
        "switch/observe",
        "switch/ops",
        "switch/sim",
        "switch/security/vault.py",
        "switch/kiosk",
    ),
    "random": ("switch/runtime/clock.py", "switch/sim", "switch/ops/faultproxy.py", "switch/kiosk"),
}
SQL = re.compile(r"\b(SELECT .+ FROM|INSERT INTO|UPDATE \w+ SET|DELETE FROM|CREATE TABLE)\b")


def python_files(*folders: str) -> list[Path]:
    found: list[Path] = []
    for folder in folders:
        path = ROOT / folder
        found += [path] if path.is_file() else sorted(path.rglob("*.py"))
    assert found
    return found


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_pure_rooms_stay_pure() -> None:
    faults = [
        f"{name_of(path)}:{line}: imports {name}"
        for path in python_files(*PURE)
        for line, name in imports(ast.parse(path.read_text(encoding="utf-8")))
        if name.split(".")[0] in BANNED_IN_PURE
    ]
    assert not faults, "\n".join(faults)


def test_the_outside_is_touched_in_adapters_only() -> None:
    faults = [
        f"{name_of(path)}:{line}: imports {name}"
        for path in python_files("switch")
        for line, name in imports(ast.parse(path.read_text(encoding="utf-8")))
        if name.split(".")[0] in ADAPTERS_ONLY and not name_of(path).startswith(ADAPTERS_ONLY[name.split(".")[0]])
    ]
    assert not faults, "\n".join(faults)


def test_the_path_of_a_payment_has_no_coroutine_task_or_future() -> None:
    """Architecture: speed is designed in. The supervisor starts and stops things and may wait."""
    hot = ("dispatcher.py", "payments.py", "links.py", "terminals.py", "timers.py")
    for path in python_files(*(f"switch/runtime/{name}" for name in hot)):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not isinstance(node, ast.AsyncFunctionDef | ast.Await), f"{name_of(path)}:{node.lineno}"
            if isinstance(node, ast.Attribute):
                assert node.attr not in {"create_task", "create_future", "ensure_future"}, (
                    f"{name_of(path)}:{node.lineno}"
                )


def test_sql_lives_in_sql_files() -> None:
    faults = [
        f"{name_of(path)}:{node.lineno}"
        for path in python_files("switch")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.search(node.value)
    ]
    assert not faults, "\n".join(faults)


def test_no_float_stands_for_money() -> None:
    """Amounts are integer fen: nothing named like money is a float or is divided with /."""
    money = re.compile(r"(^|_)(amount|fen|principal|penalty|total|balance)(_|$)")
    faults = []
    for path in python_files("switch/model", "switch/machines", "switch/dialects", "switch/runtime", "switch/store"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.AnnAssign) and money.search(ast.unparse(node.target)):
                faults += [f"{name_of(path)}:{node.lineno}"] if "float" in ast.unparse(node.annotation) else []
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and money.search(ast.unparse(node.left)):
                faults.append(f"{name_of(path)}:{node.lineno}")
    assert not faults, "\n".join(faults)


def test_every_module_says_what_it_is_for() -> None:
    faults = [
        name_of(path)
        for path in python_files("switch", "iso8583", "tests")
        if path.name not in ("__init__.py", "conftest.py") and not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]
    assert not faults, "\n".join(faults)


def test_every_number_a_bound_is_made_of_has_its_reason() -> None:
    lines = (ROOT / "switch/limits.py").read_text(encoding="utf-8").splitlines()
    for above, line in pairwise(lines):
        if re.match(r"^[A-Z_]+: Final = ", line) and "TimeProfile" not in line and "PROFILES" not in line:
            assert "#" in line or above.startswith("#"), f"limits.py: {line.split(':')[0]} has no reason beside it"


@pytest.mark.parametrize(
    "module", ["iso8583", "switch", "switch.ports", "switch.config", "switch.machines.payment", "switch.kiosk"]
)
def test_a_module_can_be_imported_alone(module: str) -> None:
    """In a fresh interpreter, so that an import cycle cannot hide behind the order of the tests."""
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True, cwd=ROOT)


def test_the_library_needs_nothing() -> None:
    """`import iso8583` works without any of the switch's dependencies."""
    absent = ["msgspec", "orjson", "asyncpg", "cryptography", "structlog", "rich"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent}));"
        "import iso8583, iso8583.cli; assert not any(m.startswith('switch') for m in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_kiosk_library_needs_only_its_extra() -> None:
    """A kiosk has no database and no metrics: what `gridswitch[kiosk]` does not bring is not imported."""
    absent = ["asyncpg", "uvloop", "structlog", "prometheus_client", "rich"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent}));"
        "import switch.kiosk.__main__, switch.kiosk.sankyo, switch.kiosk.zt59x;"
        "assert not any(m.startswith(('switch.runtime', 'switch.store', 'switch.net')) for m in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
