"""Code tables: what the short codes in fields mean, for people.

Meaning only. What a program does about a code (post the bill, reverse, sign on again) is the program's.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from iso8583.errors import SpecError


@dataclass(frozen=True, slots=True)
class Code:
    """One code: ``zh`` and ``en`` are its meaning."""

    code: str
    zh: str
    en: str


@cache
def load_codes(name: str) -> Mapping[str, Code]:
    """A bundled table by name: response_codes, processing_codes, emv_tags, currencies.

    Raises:
        SpecError: There is no such table, or it is wrong.
    """
    path = resources.files("iso8583") / "codes" / f"{name}.toml"
    if not name.isidentifier() or not path.is_file():
        raise SpecError(name, "", f"no such code table; there are {', '.join(table_names())}")
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    codes: dict[str, Code] = {}
    for code, texts in table.get("codes", {}).items():
        if not (isinstance(texts, list) and len(texts) == 2 and all(isinstance(text, str) for text in texts)):
            raise SpecError(f"{name}.toml", f"codes.{code}", "expected [Chinese, English]")
        codes[code] = Code(code, texts[0], texts[1])
    return codes


@cache
def table_names() -> list[str]:
    """Names of the bundled tables."""
    folder = resources.files("iso8583") / "codes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def meaning(table: str, code: str) -> str:
    """``"余额不足 insufficient funds"``, or ``""`` for a code that the table does not know."""
    entry = load_codes(table).get(code)
    return f"{entry.zh} {entry.en}" if entry else ""
