"""What a user meets is documented: options, commands, metrics, codes. A new one without its line fails here."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from switch.cli import _parser
from switch.observe.metrics import METRICS
from switch.sim.verify_model import documented

ROOT = Path(__file__).parents[2]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def commands() -> list[str]:
    return re.findall(r"^    ([a-z][a-z-]+)(?:\s|$)", _parser().format_help(), re.MULTILINE)


def test_the_help_lists_every_command() -> None:
    assert {"run", "migrate", "check-config", "demo", "host", "fleet", "proof"} <= set(commands())


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_every_command_is_in_the_readme(name: str) -> None:
    missing = [command for command in commands() if f"gridswitch {command}" not in text(name)]
    assert not missing, missing


def test_every_kiosk_code_is_in_the_interface() -> None:
    table = tomllib.loads(text("switch/dialects/kiosk_codes.toml"))["codes"]
    interface = text("switch/KIOSK_INTERFACE.md")
    for code, row in table.items():
        if code in ("found", "signed_on"):
            continue  # plain success of an inquiry and of a sign-on
        assert code in interface and (not row["f39"] or row["f39"] in interface), code


def test_every_text_fits_the_screen() -> None:
    for name in ("kiosk_codes.toml", "unionpay_codes.toml"):
        table = tomllib.loads(text(f"switch/dialects/{name}"))
        texts = [row["text"] for row in table["codes"].values()] if "codes" in table else list(table["texts"].values())
        assert all(len(each.encode("gbk")) <= 120 for each in texts)


def test_every_metric_has_a_help_and_a_unit() -> None:
    units = (
        "_total",
        "_seconds",
        "_rows",
        "_up",
        "_info",
        "_open",
        "_payments",
        "_connections",
        "_pending",
        "_inflight",
        "_depth",
        "_breaks",
        "_fen",
        "_state",
        "_bytes",
        "_signed_on",
        "_version",
        "_stopped",
        "_keys",
    )
    for definition in METRICS:
        assert definition.help_text.strip().endswith("."), definition.name
        assert definition.name.startswith("switch_") and definition.name.endswith(units), definition.name


def test_every_metric_that_is_used_is_defined_and_the_other_way_round() -> None:
    """A misspelt metric is only counted as a fault in production; here it fails."""
    used: set[str] = set()
    for path in (ROOT / "switch").rglob("*.py"):
        if path.name != "metrics.py":
            used |= set(re.findall(r'"(switch_[a-z_]+)"', path.read_text(encoding="utf-8")))
    own = {"switch_build_info", "switch_metric_faults_total"}  # kept by the metrics themselves
    assert used == {definition.name for definition in METRICS} - own


def test_the_architecture_shows_the_table_that_runs() -> None:
    """Diagram, rows and guards; ``make docs`` writes them."""
    assert documented(text("ARCHITECTURE.md")) == text("ARCHITECTURE.md")


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_every_root_document_is_linked_from_the_readme(name: str) -> None:
    names = {path.name for path in ROOT.glob("*.md")} - {"README.md", "README.zh-CN.md", "TESTING.md"}
    assert "SECURITY.md" in names
    missing = [each for each in names if f"({each})" not in text(name)]
    assert not missing, missing


def test_what_the_security_document_calls_tested_is_there() -> None:
    """Every file, test, limit, metric and code that it names; a promise whose test is gone is no promise."""
    told = text("SECURITY.md")
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    for path in re.findall(r"`((?:[a-z0-9]+/)+(?:test_)?[a-z_0-9]+\.py)`", told):
        assert any((ROOT / above / path).exists() for above in ("", "switch", "tests/switch")), path
    for name in re.findall(r"`(test_[a-z_]+)(?:_…)?`", told):
        assert f"def {name}" in tests, name
    for folder in re.findall(r"`(tests/[a-z/]+/)`", told):
        assert (ROOT / folder).is_dir(), folder
    for limit in re.findall(r"`([A-Z]+_[A-Z_]+)`", told):
        assert f"{limit}: Final" in text("switch/limits.py"), limit
    metrics = {metric.name for metric in METRICS}
    assert set(re.findall(r"`(switch_[a-z_]+)`", told)) <= metrics


@pytest.mark.parametrize("name", ["pyproject.toml", "Makefile", ".ci/run", ".gitignore"])
def test_the_build_names_no_address(name: str) -> None:
    """Where packages come from is the machine's business."""
    assert "://" not in text(name)


def test_nothing_in_the_tree_names_a_home() -> None:
    """Of text files: what is true on one machine only has no place here."""
    banned = re.compile(r"/root/|/home/[a-z]")
    for path in ROOT.rglob("*"):
        relative = path.relative_to(ROOT)
        is_text = path.suffix in {".py", ".md", ".toml", ".sql", ".c", ".h", ".pyx"}
        if is_text and not relative.parts[0].startswith(".") and relative.name != "test_documents.py":
            assert not banned.search(path.read_text(encoding="utf-8")), relative
