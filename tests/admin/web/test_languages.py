"""Every Chinese text that a person can see has its English: in templates, in code, in errors."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import admin
from admin.auth.permissions import PERMISSION_NAMES, ROLE_NAMES, Permission, Role
from admin.web.i18n import catalogue, translate

ROOT = Path(admin.__file__).parent
CHINESE = re.compile(r"[\u3400-\u9fff]")
# What passwords may not be made of; names of people and halls.
NO_TEXTS = {"auth/words.py", "demo/__init__.py"}


def _in_code(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documents = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    texts = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in documents
        and CHINESE.search(node.value)
    }
    formatted = {
        part.value
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and CHINESE.search(part.value)
    }
    assert not formatted, f"{path}: Chinese in an f-string cannot be translated: {sorted(formatted)}"
    return texts


def _in_templates(path: Path) -> set[str]:
    text = path.read_text(encoding="utf-8")
    said = set(re.findall(r"""_\(\s*(?:"([^"]+)"|'([^']+)')""", text))
    found = {double or single for double, single in said}
    bare = re.sub(r"\{#.*?#\}", "", re.sub(r"""_\(\s*(?:"[^"]+"|'[^']+')""", "", text), flags=re.DOTALL)
    left = CHINESE.search(bare)
    assert left is None, f"{path}: Chinese outside of _(): …{bare[max(0, left.start() - 40) : left.start() + 20]}…"
    return found


def _texts() -> dict[str, str]:
    """Text to where it stands."""
    found: dict[str, str] = {}
    for path in sorted(ROOT.rglob("*.py")):
        where = path.relative_to(ROOT).as_posix()
        if where not in NO_TEXTS:
            found |= dict.fromkeys(_in_code(path), where)
    for path in sorted(ROOT.rglob("*.html")):
        found |= dict.fromkeys(_in_templates(path), path.relative_to(ROOT).as_posix())
    return found


def test_every_text_has_its_english() -> None:
    english = catalogue("en")
    missing = {text: where for text, where in _texts().items() if english.gettext(text) == text}
    lines = [f'#: {where}\nmsgid "{text}"\nmsgstr ""\n' for text, where in sorted(missing.items())]
    assert not missing, (
        f"{len(missing)} texts without English; entries for admin/web/locale/en/<slice>.po:\n\n" + "\n".join(lines)
    )


def test_english_keeps_every_name_to_be_filled() -> None:
    english = catalogue("en")
    for text in _texts():
        names = sorted(re.findall(r"\{(\w+)\}", text))
        assert sorted(re.findall(r"\{(\w+)\}", english.gettext(text))) == names, text
        assert not CHINESE.search(english.gettext(text)), text


@pytest.mark.parametrize("language", ["zh", "en", "xx"])
def test_a_text_without_translation_stays_as_it_is(language: str) -> None:
    assert translate(language, "no such text {n}", n=3) == "no such text 3"


def test_every_role_and_permission_has_a_name() -> None:
    assert set(ROLE_NAMES) == set(Role) and set(PERMISSION_NAMES) == set(Permission)
