"""Pages: one Jinja environment, one way from a handler to HTML, one face for every error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import asyncpg
from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from litestar import MediaType, Request, Response
from litestar.datastructures import Cookie
from litestar.exceptions import HTTPException
from litestar.response import Redirect
from markupsafe import Markup

from admin.auth.audit import audit
from admin.auth.guard import way_in
from admin.auth.permissions import Access, Permission
from admin.db.pool import Connection, Database
from admin.errors import AdminError, BadInputError, NoPermissionError, SignInError, TooManyError, UnavailableError
from admin.limits import EXPORT_ROWS_MAX
from admin.web import show
from admin.web.charts import sparkline
from admin.web.export import CSV_TYPE, XLSX_TYPE, to_csv, to_xlsx
from admin.web.i18n import LANGUAGES, catalogue, told, translate
from admin.web.menu import menu
from admin.web.table import Table

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
AnyRequest = Request[Any, Any, Any]
# The switch's links, as people call them; one that is not here keeps its name.
_CHANNELS: Final = {"unionpay": "银联", "marketing": "营销系统"}
_SPANS: Final = {"s": "{n} 秒", "m": "{n} 分钟", "h": "{n} 小时", "d": "{n} 天"}


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.globals.update(
        _=_say,
        span=_span,
        channel=_channel,
        time=_time,
        money=show.money,
        share=show.share,
        percent=show.percent,
        mask=show.mask,
        when=show.when,
        iso=show.iso,
        clock=show.clock,
        sparkline=sparkline,
        languages=LANGUAGES,
        Permission=Permission,
    )
    return environment


@pass_context
def _say(context: Context, text: str, **values: Any) -> str:
    return translate(context["language"], text, **values)


@pass_context
def _channel(context: Context, name: str) -> str:
    return translate(context["language"], _CHANNELS.get(name, name))


@pass_context
def _span(context: Context, seconds: int | None) -> str:
    """How long, in words."""
    if seconds is None:
        return show.NOTHING
    unit, count = show.span_parts(seconds)
    return translate(context["language"], _SPANS[unit], n=count)


@pass_context
def _time(context: Context, at: datetime | None, *, ago: bool = False) -> Markup | str:
    """A time element: absolute, with how long ago in its title (or the other way round)."""
    if at is None:
        return show.NOTHING
    seconds = show.since(at)
    past = translate(context["language"], "{span}前", span=_span(context, seconds))
    text, title = (past, show.when(at)) if ago else (show.when(at), past)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(show.iso(at), title, text)


_ENVIRONMENT: Final = _environment()


def language_of(request: AnyRequest) -> str:
    access: Access | None = request.scope["state"].get("access")
    if access is not None:
        return access.language
    chosen = request.cookies.get("language", "zh")
    return chosen if chosen in LANGUAGES else "zh"


def fragment(request: AnyRequest, template: str, **values: Any) -> str:
    """A part of a page, for live updates."""
    access: Access | None = request.scope["state"].get("access")
    path = request.url.path
    return _ENVIRONMENT.get_template(template).render(
        request=request,
        access=access,
        csrf=access.csrf if access else "",
        language=language_of(request),
        path=path,
        menu=menu(access, path),
        here=path + (f"?{request.url.query}" if request.url.query else ""),
        now=datetime.now(UTC),
        **values,
    )


def page(
    request: AnyRequest,
    template: str,
    *,
    status: int = HTTPStatus.OK,
    cookies: list[Cookie] | None = None,
    **values: Any,
) -> Response[str]:
    """A whole page."""
    content = fragment(request, template, **values)
    return Response(content, status_code=status, media_type=MediaType.HTML, headers=HEADERS, cookies=cookies or [])


def go(target: str, *, cookies: list[Cookie] | None = None) -> Redirect:
    """After something was done: see the result there."""
    return Redirect(target, status_code=303, headers=HEADERS, cookies=cookies or [])


def sayer(request: AnyRequest) -> Callable[[str], str]:
    return catalogue(language_of(request)).gettext


# ---------------------------------------------------------------------------------------------------- lists
async def listing(
    request: AnyRequest,
    database: Database,
    table: Table,
    statement: str,
    template: str,
    *,
    scope: Any,
    access: Access,
    notes: Mapping[str, str] | None = None,
    **values: Any,
) -> Response[Any]:
    """A list as page, CSV, workbook or JSON (``?format=``), all of one statement.

    Args:
        scope: $1 of the statement: the paths that may be seen.
        notes: More for the workbook's page of explanations.
    """
    query = dict(request.query_params)
    form = query.pop("format", "html")
    view = table.view(query)
    if form in ("csv", "xlsx"):
        return await _export(request, database, table, statement, form, scope=scope, access=access, notes=notes or {})
    text, parameters = view.statement(statement)
    try:
        async with database.connection() as connection:
            found = view.page(await _fetch(connection, text, scope, parameters))
    except asyncpg.DataError as error:  # the place of a page travels in the address, where anybody can write
        if view.place is None:
            raise
        raise BadInputError("place", "页码无效，请从第一页开始", field="after") from error
    if form == "json":
        names = [column.name for column in table.columns]
        rows = [{name: row[name] for name in names} for row in found.rows]
        body = {"rows": rows, "later": found.later_url if found.later else None}
        return Response(body, media_type=MediaType.JSON, headers=HEADERS)
    return page(request, template, table=table, view=view, page=found, **values)


async def _fetch(connection: Connection, text: str, scope: Any, parameters: list[Any]) -> list[Any]:
    rows: list[Any] = await connection.fetch(text, scope, *parameters)
    return rows


async def _export(
    request: AnyRequest,
    database: Database,
    table: Table,
    statement: str,
    form: str,
    *,
    scope: Any,
    access: Access,
    notes: Mapping[str, str],
) -> Response[bytes]:
    if not access.may(Permission.REPORT_EXPORT):
        raise NoPermissionError("no_permission", "您没有导出数据的权限", hint="如需开通，请联系安全管理员")
    view = table.view({name: value for name, value in request.query_params.items() if name != "format"})
    text, parameters = view.statement(statement, rows=EXPORT_ROWS_MAX)
    say = sayer(request)
    async with database.transaction() as connection:
        rows = await _fetch(connection, text, scope, parameters)
        filters = {name: value for name, value in view.values.items() if value}
        await audit(connection, access, "export", "table", table.name, form=form, rows=len(rows), filters=filters)
    title = say(table.title)
    if form == "csv":
        body, kind = await asyncio.to_thread(to_csv, table.columns, rows, say), CSV_TYPE
    else:
        chosen = {say("筛选条件"): "; ".join(f"{name}={value}" for name, value in filters.items()) or say("无")}
        body = await asyncio.to_thread(to_xlsx, title, table.columns, rows, say, {**chosen, **notes})
        kind = XLSX_TYPE
    return download(body, kind, f"{title}-{show.today().isoformat()}.{form}")


def download(body: bytes, kind: str, name: str) -> Response[bytes]:
    """A file for the person's disk."""
    disposition = f"attachment; filename*=UTF-8''{quote(name)}"
    return Response(body, media_type=kind, headers={**HEADERS, "Content-Disposition": disposition})


# ---------------------------------------------------------------------------------------------------- errors
def wants_page(request: AnyRequest) -> bool:
    return "text/html" in request.headers.get("accept", "")


def admin_error(request: AnyRequest, error: AdminError) -> Response[Any]:
    """Every error of ours: a page for people, JSON for programs."""
    message, hint = told(error, language_of(request))
    if wants_page(request):
        if isinstance(error, SignInError) and request.method == "GET" and error.code in ("signed_out", "half"):
            access: Access | None = request.scope["state"].get("access")
            if error.code == "half" and access is not None:
                return go(f"/sign-in/{access.stage}")
            return go(way_in(request.url.path, request.url.query))
        if error.code == "step_up":
            back = request.url.path if request.method == "GET" else urlsplit(request.headers.get("referer", "/")).path
            return go(f"/step-up?next={quote(back, safe='')}")
        answer: Response[Any] = page(
            request,
            "error.html",
            status=error.status,
            status_code=error.status,
            message=message,
            hint=hint,
            code=error.code,
        )
    else:
        body = {"code": error.code, "message": message, "hint": hint, "field": error.field or None}
        answer = Response(body, status_code=error.status, media_type=MediaType.JSON, headers=HEADERS)
    if isinstance(error, TooManyError):
        answer.headers["Retry-After"] = str(error.retry_s)
    if isinstance(error, UnavailableError):
        answer.headers["Retry-After"] = "5"
    return answer


_HTTP_TEXTS: Final = {
    400: "请求无法识别",
    404: "没有这个页面",
    405: "不支持这种操作",
    413: "内容太大",
    415: "不支持这种内容类型",
}


def http_error(request: AnyRequest, error: HTTPException) -> Response[Any]:
    """What the framework refuses: the same face."""
    text = _HTTP_TEXTS.get(error.status_code, "服务暂时出错")
    wrapped = AdminError(f"http_{error.status_code}", text)
    wrapped.status = HTTPStatus(error.status_code)
    return admin_error(request, wrapped)
