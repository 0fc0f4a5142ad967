"""Forms: what was typed, bounded and trimmed; what is wrong is said at the field."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from admin.errors import BadInputError
from admin.limits import NUMBER_LENGTH_MAX
from admin.web.render import AnyRequest
from admin.web.show import midnight


async def form_of(request: AnyRequest) -> dict[str, str]:
    """The form's texts; files are not among them."""
    data = await request.form()
    form = {name: value.strip() for name, value in data.items() if isinstance(value, str)}
    if any("\0" in value for value in form.values()):  # no database takes it
        raise BadInputError("signs", "内容含有不可见字符")
    return form


def text(form: Mapping[str, str], name: str, title: str, *, least: int = 1, most: int = 200) -> str:
    """Raises BadInputError at this field."""
    value = form.get(name, "")
    if len(value) < least:
        raise BadInputError("missing", "请填写{title}", field=name, title=title)
    if len(value) > most:
        raise BadInputError("too_long", "{title}最多 {most} 个字符", field=name, title=title, most=most)
    if not all(sign.isprintable() for sign in value.replace("\r", "").replace("\n", "")):
        raise BadInputError("signs", "{title}含有不可见字符", field=name, title=title)
    return value


def number(form: Mapping[str, str], name: str, title: str) -> int:
    value = form.get(name, "")
    if not (value.isascii() and value.isdigit() and len(value) <= NUMBER_LENGTH_MAX):
        raise BadInputError("number", "请选择{title}", field=name, title=title)
    return int(value)


def choice(form: Mapping[str, str], name: str, title: str, choices: Mapping[str, str]) -> str:
    value = form.get(name, "")
    if value not in choices:
        raise BadInputError("choice", "请选择{title}", field=name, title=title)
    return value


def local_day(form: Mapping[str, str], name: str, title: str, *, ends: bool = False) -> datetime | None:
    """The first instant of a local day, or with ``ends`` the first one after it; None when empty."""
    value = form.get(name, "")
    if not value:
        return None
    try:
        return midnight(value, ends=ends)
    except ValueError as error:
        raise BadInputError("day", "{title}不是日期", field=name, title=title) from error
