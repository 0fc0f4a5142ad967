"""Who is asking, on every request; and that nothing opens unless its handler says for whom.

``opt=needs(Permission.X)`` on a handler opens it for who has X somewhere; the handler's SQL narrows it to where. A
handler that says nothing is closed. ``opt=PUBLIC`` and ``opt=HALF`` are for the way in.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote, urlsplit

from litestar.connection import ASGIConnection, Request
from litestar.datastructures import Cookie
from litestar.enums import ScopeType
from litestar.handlers import BaseRouteHandler
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from admin.auth.audit import audit
from admin.auth.permissions import KNOWN_ROLES, Access, Permission, Role
from admin.auth.secrets import digest
from admin.auth.signin import Ticket
from admin.db.pool import Database
from admin.db.queries import statements
from admin.errors import NoPermissionError, SignInError
from admin.limits import KNOWN_BROWSER_S, SESSION_IDLE_S, STEP_UP_S

SESSION_COOKIE: Final = "__Host-session"
KNOWN_COOKIE: Final = "__Host-known"
PUBLIC: Final = {"access": "public"}  # nobody need be signed in
HALF: Final = {"access": "half"}  # on the way through the steps of signing in, or signed in
SIGNED_IN: Final = {"access": "signed_in"}  # any operator: one's own things
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_QUERY = statements(__file__)


def needs(permission: Permission, *, background: bool = False, step_up: bool = False) -> dict[str, Any]:
    """Options of a handler.

    Args:
        background: It runs by itself in an open page: it does not keep a session from going idle.
        step_up: The second factor must have been shown within the last minutes.
    """
    return {"access": permission, "background": background, "step_up": step_up}


class Sessions(ASGIMiddleware):
    """Puts ``access`` (an Access, or None) into the scope."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        scope["state"]["access"] = None
        if scope["type"] == ScopeType.HTTP:
            request: Request[Any, Any, Any] = Request(scope)
            token = request.cookies.get(SESSION_COOKIE)
            if token:
                opt = scope["route_handler"].opt if "route_handler" in scope else {}
                scope["state"]["access"] = await self._access(request, token, seen=not opt.get("background"))
        await next_app(scope, receive, send)

    async def _access(self, request: Request[Any, Any, Any], token: str, *, seen: bool) -> Access | None:
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_QUERY["session_get"], digest(token), SESSION_IDLE_S, STEP_UP_S)
            if row is None:
                return None
            if seen:
                await connection.execute(_QUERY["session_seen"], row["id"])
        grants = tuple((Role(role), path) for role, path in row["grants"] if role in KNOWN_ROLES)
        return Access(
            operator_id=row["operator_id"],
            login=row["login"],
            name=row["name"],
            session_id=row["id"],
            stage=row["stage"],
            csrf=row["csrf"],
            address=address_of(request),
            language=row["language"],
            step_up=row["step_up"],
            grants=grants if row["stage"] == "full" else (),
        )


def address_of(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    return connection.client.host if connection.client else ""


async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """For every handler of the application: same origin, token, stage, permission, fresh second factor."""
    access: Access | None = connection.scope["state"]["access"]
    wanted = handler.opt.get("access")
    unsafe = connection.scope.get("method") not in _SAFE
    if unsafe:
        _same_origin(connection)
    if wanted == PUBLIC["access"]:
        return
    if access is None:
        raise SignInError("signed_out", "请先登录")
    if unsafe:
        await _token(connection, access)
    if wanted == HALF["access"]:
        return
    if access.stage != "full":
        raise SignInError("half", "请先完成登录")
    if wanted == SIGNED_IN["access"]:
        return
    if not isinstance(wanted, Permission) or not access.may(wanted):
        database: Database = connection.app.state.database
        async with database.transaction() as held:
            await audit(
                held, access, "denied", "page", connection.url.path, result="denied", permission=str(wanted or "")
            )
        raise NoPermissionError("no_permission", "您没有这项权限", hint="如需开通，请联系安全管理员")
    if handler.opt.get("step_up") and not access.step_up:
        raise NoPermissionError("step_up", "请先输入动态码确认身份")


def _same_origin(connection: ASGIConnection[Any, Any, Any, Any]) -> None:
    """Browsers say where a request comes from; what says nothing at all is no browser and has no cookie of one."""
    site = connection.headers.get("sec-fetch-site")
    origin = connection.headers.get("origin")
    if site is not None:
        if site not in ("same-origin", "none"):
            raise NoPermissionError("cross_site", "请求来自其他网站，已拒绝")
    elif origin is not None and urlsplit(origin).netloc != connection.headers.get("host"):
        raise NoPermissionError("cross_site", "请求来自其他网站，已拒绝")


async def _token(connection: ASGIConnection[Any, Any, Any, Any], access: Access) -> None:
    given = connection.headers.get("x-csrf-token")
    if given is None and isinstance(connection, Request):
        kind = connection.headers.get("content-type", "")
        if kind.startswith(("application/x-www-form-urlencoded", "multipart/form-data")):
            given = (await connection.form()).get("csrf")
    if given != access.csrf:
        raise NoPermissionError("csrf", "页面已过期，请刷新后重试")


def sign_in_cookies(ticket: Ticket) -> list[Cookie]:
    """Secure and ``__Host-``: over TLS, or on this machine itself, which browsers trust."""
    cookies = [_cookie(SESSION_COOKIE, ticket.token)]
    if ticket.known:
        cookies.append(_cookie(KNOWN_COOKIE, ticket.known, KNOWN_BROWSER_S))
    return cookies


def signed_out_cookie() -> Cookie:
    return _cookie(SESSION_COOKIE, "", 0)


def _cookie(name: str, value: str, max_age: int | None = None) -> Cookie:
    return Cookie(key=name, value=value, path="/", max_age=max_age, secure=True, httponly=True, samesite="strict")


def way_in(path: str, query: str = "") -> str:
    """Where to sign in, and to come back from there."""
    target = path + (f"?{query}" if query else "")
    return "/sign-in" if target == "/" else f"/sign-in?next={quote(target, safe='')}"


def safe_next(target: str) -> str:
    """A place of ours; anything else would send people elsewhere with our name in front."""
    parts = urlsplit(target)
    inside = target.startswith("/") and not target.startswith(("//", "/\\")) and not parts.netloc and "\\" not in target
    return target if inside and target.isprintable() else "/"
