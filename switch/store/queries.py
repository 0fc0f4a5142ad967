"""The named statements of ``queries.sql``: SQL lives there, not in Python.

A statement starts with a line ``-- name --`` and goes up to the next one. An unknown name fails at import, because
modules fetch their statements into constants.
"""

from __future__ import annotations

import re
from pathlib import Path


def load(text: str) -> dict[str, str]:
    """Name to statement.

    >>> load("-- one --\\n-- What it does.\\nSELECT 1;\\n\\n-- two --\\nSELECT 2;\\n")["two"]
    'SELECT 2'
    """
    head, *parts = re.split(r"^-- (\w+) --$", text, flags=re.MULTILINE)
    if re.sub(r"^--.*$", "", head, flags=re.MULTILINE).strip():
        raise ValueError("queries.sql: a statement before the first name")
    names = parts[0::2]
    if len(set(names)) != len(names):
        raise ValueError("queries.sql: a name is used twice")
    return {name: _strip(body) for name, body in zip(names, parts[1::2], strict=True)}


def _strip(body: str) -> str:
    lines = [line for line in body.splitlines() if not line.lstrip().startswith("--")]
    return "\n".join(lines).strip().removesuffix(";")


QUERY = load(Path(__file__).with_name("queries.sql").read_text(encoding="utf-8"))
