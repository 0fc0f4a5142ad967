"""The named statements of a slice's ``queries.sql``: SQL lives there, not in Python.

A statement starts with a line ``-- name --`` and goes up to the next one. An unknown name fails at import, because
modules fetch their statements into constants.
"""

from __future__ import annotations

import re
from pathlib import Path


def statements(beside: str) -> dict[str, str]:
    """Name to statement, of ``queries.sql`` in the folder of the file ``beside``."""
    text = Path(beside).with_name("queries.sql").read_text(encoding="utf-8")
    head, *parts = re.split(r"^-- (\w+) --$", text, flags=re.MULTILINE)
    assert not re.sub(r"^--.*$", "", head, flags=re.MULTILINE).strip(), f"{beside}: a statement before the first name"
    names = parts[0::2]
    assert len(set(names)) == len(names), f"{beside}: a name is used twice"
    return {name: body.strip().removesuffix(";") for name, body in zip(names, parts[1::2], strict=True)}
