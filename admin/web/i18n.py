"""Languages: texts are written in Chinese and are their own keys; English is a gettext catalogue beside them."""

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
    path = LOCALE / f"{language}.po"
    if language == "zh" or not path.exists():
        return gettext.NullTranslations()
    compiled = io.BytesIO()
    with path.open("rb") as file:
        write_mo(compiled, read_po(file, locale=language))
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)


def translate(language: str, text: str, **values: Any) -> str:
    """``text`` in ``language``, with its ``{names}`` filled."""
    translated = catalogue(language).gettext(text) if text else ""
    return translated.format(**values) if values else translated


def told(error: AdminError, language: str) -> tuple[str, str]:
    """An error's message and hint for a person."""
    return translate(language, error.message, **error.values), translate(language, error.hint)
