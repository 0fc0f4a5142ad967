"""Languages: texts are written in Chinese and are their own keys; English is a gettext catalogue of each slice."""

from __future__ import annotations

import gettext
import io
from functools import cache
from pathlib import Path
from typing import Any, Final

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from admin.errors import AdminError

LANGUAGES: Final = {"zh": "中文", "en": "English"}
LOCALE: Final = Path(__file__).with_name("locale")


@cache
def catalogue(language: str) -> gettext.NullTranslations:
    """Texts in this language; what has no translation stays Chinese (a test allows none)."""
    found = gettext.NullTranslations()
    for path in sorted((LOCALE / language).glob("*.po")):
        compiled = io.BytesIO()
        with path.open("rb") as file:
            write_mo(compiled, read_po(file, locale=language))
        compiled.seek(0)
        slice_ = gettext.GNUTranslations(compiled)
        slice_.add_fallback(found)
        found = slice_
    return found


def translate(language: str, text: str, **values: Any) -> str:
    """``text`` in ``language``, with its ``{names}`` filled."""
    translated = catalogue(language).gettext(text) if text else ""
    return translated.format(**values) if values else translated


def told(error: AdminError, language: str) -> tuple[str, str]:
    """An error's message and hint for a person."""
    return translate(language, error.message, **error.values), translate(language, error.hint)
