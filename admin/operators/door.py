"""Signing in and out, one's own page."""

from __future__ import annotations

import base64
import io
from typing import Any

import segno
from litestar import Response, get, post

from admin.auth.guard import (
    HALF,
    KNOWN_COOKIE,
    PUBLIC,
    SIGNED_IN,
    address_of,
    safe_next,
    sign_in_cookies,
    signed_out_cookie,
)
from admin.auth.permissions import ROLE_NAMES, Access
from admin.auth.secrets import Secrets, totp_uri
from admin.db.queries import statements
from admin.errors import AdminError, BadInputError, StartError
from admin.web.forms import form_of
from admin.web.given import Data, Doors, Number, Own, Who
from admin.web.i18n import LANGUAGES, told, translate
from admin.web.render import AnyRequest, go, language_of, page

_QUERY = statements(__file__)


@get("/sign-in", opt=PUBLIC, include_in_schema=False)
async def sign_in_page(request: AnyRequest) -> Response[Any]:
    return _password_page(request, next=safe_next(request.query_params.get("next", "/")))


@post("/sign-in", opt=PUBLIC, include_in_schema=False)
async def sign_in(request: AnyRequest, doors: Doors) -> Response[Any]:
    form = await form_of(request)
    target = safe_next(form.get("next", "/"))
    login = form.get("login", "")
    try:
        ticket = await doors.password(
            login,
            form.get("password", ""),
            address=address_of(request),
            browser=request.headers.get("user-agent", ""),
            known=request.cookies.get(KNOWN_COOKIE, ""),
        )
    except AdminError as error:
        return _password_page(request, next=target, login=login, error=error)
    return go(f"/sign-in/{ticket.stage}?next={target}", cookies=sign_in_cookies(ticket))


def _password_page(
    request: AnyRequest,
    *,
    next: str,
    login: str = "",
    error: AdminError | None = None,
) -> Response[str]:
    message, hint = told(error, language_of(request)) if error else ("", "")
    status = error.status if error else 200
    return page(request, "sign_in/password.html", status=status, next=next, login=login, message=message, hint=hint)


@get("/sign-in/password", opt=HALF, include_in_schema=False)
async def code_page(request: AnyRequest) -> Response[Any]:
    return _code_page(request, "/sign-in/password", "验证身份")


@post("/sign-in/password", opt=HALF, include_in_schema=False)
async def code(request: AnyRequest, doors: Doors, access: Who) -> Response[Any]:
    form = await form_of(request)
    try:
        ticket = await doors.second_factor(access, form.get("code", ""), known=request.cookies.get(KNOWN_COOKIE, ""))
    except AdminError as error:
        return _code_page(request, "/sign-in/password", "验证身份", error)
    target = safe_next(form.get("next", "/"))
    return go(
        target if ticket.stage == "full" else f"/sign-in/{ticket.stage}?next={target}", cookies=sign_in_cookies(ticket)
    )


def _code_page(request: AnyRequest, action: str, title: str, error: AdminError | None = None) -> Response[str]:
    language = language_of(request)
    message, hint = told(error, language) if error else ("", "")
    return page(
        request,
        "sign_in/code.html",
        status=error.status if error else 200,
        action=action,
        title=translate(language, title),
        next=safe_next(request.query_params.get("next", "/")),
        message=message,
        hint=hint,
    )


@get("/step-up", opt=SIGNED_IN, include_in_schema=False)
async def step_up_page(request: AnyRequest) -> Response[Any]:
    return _code_page(request, "/step-up", "再次验证身份")


@post("/step-up", opt=SIGNED_IN, include_in_schema=False)
async def step_up(request: AnyRequest, doors: Doors, access: Who) -> Response[Any]:
    form = await form_of(request)
    try:
        ticket = await doors.step_up(access, form.get("code", ""))
    except AdminError as error:
        return _code_page(request, "/step-up", "再次验证身份", error)
    return go(safe_next(form.get("next", "/")), cookies=sign_in_cookies(ticket))


@get("/sign-in/change", opt=HALF, include_in_schema=False)
async def change_page(request: AnyRequest) -> Response[Any]:
    return _change_page(request)


@post("/sign-in/change", opt=HALF, include_in_schema=False)
async def change(request: AnyRequest, doors: Doors, access: Who) -> Response[Any]:
    form = await form_of(request)
    known = request.cookies.get(KNOWN_COOKIE, "")
    try:
        ticket = await doors.change_password(access, form.get("password", ""), form.get("again", ""), known=known)
    except BadInputError as error:
        return _change_page(request, error)
    target = safe_next(form.get("next", "/"))
    return go(
        target if ticket.stage == "full" else f"/sign-in/{ticket.stage}?next={target}", cookies=sign_in_cookies(ticket)
    )


def _change_page(request: AnyRequest, error: AdminError | None = None) -> Response[str]:
    message, hint = told(error, language_of(request)) if error else ("", "")
    return page(
        request,
        "sign_in/change.html",
        status=error.status if error else 200,
        next=safe_next(request.query_params.get("next", "/")),
        message=message,
        hint=hint,
    )


@get("/sign-in/enrol", opt=HALF, include_in_schema=False)
async def enrol_page(request: AnyRequest, doors: Doors, own: Own, access: Who) -> Response[Any]:
    return _enrol_page(request, own, access, doors.offer_totp())


@post("/sign-in/enrol", opt=HALF, include_in_schema=False)
async def enrol(request: AnyRequest, doors: Doors, own: Own, access: Who) -> Response[Any]:
    form = await form_of(request)
    try:
        secret = own.open(base64.urlsafe_b64decode(form.get("offer", "")), f"offer {access.session_id}")
    except (StartError, ValueError) as error:
        raise BadInputError("offer", "页面已过期，请刷新后重试") from error
    try:
        ticket, codes = await doors.enrol_totp(
            access, secret, form.get("code", ""), known=request.cookies.get(KNOWN_COOKIE, "")
        )
    except BadInputError as error:
        return _enrol_page(request, own, access, secret, error)
    cookies = sign_in_cookies(ticket)
    return page(request, "sign_in/recovery.html", cookies=cookies, codes=codes, next=safe_next(form.get("next", "/")))


def _enrol_page(
    request: AnyRequest, own: Secrets, access: Access, secret: bytes, error: AdminError | None = None
) -> Response[str]:
    """The secret travels sealed in the form: nothing is kept until it has been shown to work."""
    message, hint = told(error, language_of(request)) if error else ("", "")
    picture = io.BytesIO()
    segno.make(totp_uri(secret, access.login)).save(picture, kind="png", scale=5, border=3)
    offer = own.seal(secret, f"offer {access.session_id}")
    return page(
        request,
        "sign_in/enrol.html",
        status=error.status if error else 200,
        picture="data:image/png;base64," + base64.b64encode(picture.getvalue()).decode(),
        secret=base64.b32encode(secret).decode(),
        offer=base64.urlsafe_b64encode(offer).decode(),
        next=safe_next(request.query_params.get("next", "/")),
        message=message,
        hint=hint,
    )


@post("/sign-out", opt=HALF, include_in_schema=False)
async def sign_out(doors: Doors, access: Who) -> Response[Any]:
    await doors.sign_out(access)
    return go("/sign-in", cookies=[signed_out_cookie()])


@get("/me", opt=SIGNED_IN)
async def me(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    async with database.connection() as connection:
        sessions = await connection.fetch(_QUERY["own_sessions"], access.operator_id)
        grants = await connection.fetch(_QUERY["operator_grants"], access.operator_id)
        codes = await connection.fetchval(_QUERY["recovery_left"], access.operator_id)
    return page(request, "operators/me.html", sessions=sessions, grants=grants, codes=codes, role_names=ROLE_NAMES)


@post("/me/language", opt=SIGNED_IN)
async def set_language(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    form = await form_of(request)
    if form.get("language") not in LANGUAGES:
        raise BadInputError("language", "没有这种语言", field="language")
    async with database.connection() as connection:
        await connection.execute(_QUERY["own_language"], access.operator_id, form["language"])
    return go(safe_next(form.get("next", "/")))


@post("/me/sessions/{session_id:int}/end", opt=SIGNED_IN)
async def end_own_session(session_id: Number, database: Data, access: Who) -> Response[Any]:
    async with database.connection() as connection:
        await connection.execute(_QUERY["own_session_end"], session_id, access.operator_id)
    return go("/me")


HANDLERS = [
    *(sign_in_page, sign_in, code_page, code, step_up_page, step_up, change_page, change, enrol_page, enrol, sign_out),
    *(me, set_language, end_own_session),
]
