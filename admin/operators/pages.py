"""Operators, their grants and sessions; the roles."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from litestar import Response, get, post

from admin.auth.approval import ask
from admin.auth.audit import audit
from admin.auth.guard import needs
from admin.auth.password import one_time
from admin.auth.permissions import PERMISSION_NAMES, ROLE_NAMES, ROLES, Access, Grant, Permission, Role
from admin.db.pool import Connection, Database
from admin.errors import AdminError, BadInputError, NotFoundError, StateError
from admin.operators.store import (
    CREATE,
    ENABLE,
    GRANT,
    QUERY,
    RESET_TOTP,
    find,
    grants_of,
    org_of,
    refuse_conflict,
    set_one_time,
)
from admin.web.forms import choice, form_of, local_day, number, text
from admin.web.given import Data, Hashing, Number, Who
from admin.web.i18n import told
from admin.web.render import AnyRequest, go, language_of, listing, page
from admin.web.table import Column, Filter, Table

_P = Permission
EMPLOYERS: Final = {"grid": "供电局", "vendor": "维护单位"}
STATES: Final = {"active": "在用", "disabled": "停用"}
TONES: Final = {"active": "good", "disabled": "mute"}


def _operator_link(row: Mapping[str, Any]) -> str:
    return f"/operators/{row['id']}"


OPERATORS: Final = Table(
    name="operators",
    title="操作员",
    key="operator.id",
    sort="login",
    row_link=_operator_link,
    columns=(
        Column("login", "账号", sort="operator.login::text"),
        Column("name", "姓名", sort="operator.name::text"),
        Column("org", "所属组织", sort="org.name::text"),
        Column("employer", "单位", names=EMPLOYERS, wide_only=True),
        Column("roles", "角色", "names", names={role.value: name for role, name in ROLE_NAMES.items()}),
        Column("state", "状态", "state", names=STATES, tones=TONES),
        Column("last_seen_at", "最近登录", "time"),
    ),
    filters=(
        Filter("q", "账号或姓名"),
        Filter("state", "状态", "choice", choices=STATES),
        Filter("role", "角色", "choice", choices={role.value: name for role, name in ROLE_NAMES.items()}),
    ),
)
SESSIONS: Final = Table(
    name="sessions",
    title="会话",
    key="session.id",
    sort="-seen_at",
    columns=(
        Column("login", "账号", sort="operator.login::text"),
        Column("name", "姓名"),
        Column("org", "所属组织"),
        Column("created_at", "登录时间", "time", sort="session.created_at::timestamptz"),
        Column("seen_at", "最近操作", "time", sort="session.seen_at::timestamptz"),
        Column("address", "网络地址"),
        Column("browser", "浏览器", wide_only=True),
    ),
    filters=(Filter("q", "账号或姓名"),),
)


@get("/operators", opt=needs(_P.OPERATOR_READ))
async def operator_list(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    scope = access.paths(_P.OPERATOR_READ)
    return await listing(
        request, database, OPERATORS, QUERY["operator_list"], "operators/list.html", scope=scope, access=access
    )


@get("/operators/new", opt=needs(_P.OPERATOR_WRITE))
async def operator_form(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    async with database.connection() as connection:
        return await _form_page(request, connection, access, {})


async def _form_page(
    request: AnyRequest,
    connection: Connection,
    access: Access,
    form: Mapping[str, str],
    error: AdminError | None = None,
) -> Response[str]:
    orgs = await connection.fetch(QUERY["org_choices"], access.paths(_P.OPERATOR_WRITE))
    message, hint = told(error, language_of(request)) if error else ("", "")
    return page(
        request,
        "operators/new.html",
        status=error.status if error else 200,
        orgs={row["id"]: row["name"] for row in orgs},
        employers=EMPLOYERS,
        form=form,
        wrong=error.field if error else "",
        message=message,
        hint=hint,
    )


@post("/operators/new", opt=needs(_P.OPERATOR_WRITE))
async def operator_create(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    form = await form_of(request)
    try:
        login = text(form, "login", "账号", least=2, most=32).lower()
        values = {
            "login": login,
            "name": text(form, "name", "姓名", most=40),
            "employer": choice(form, "employer", "单位", EMPLOYERS),
            "email": text(form, "email", "邮箱", least=0, most=120),
            "phone": text(form, "phone", "电话", least=0, most=40),
        }
        org_id = number(form, "org_id", "所属组织")
        async with database.transaction() as connection:
            org = await org_of(connection, access, _P.OPERATOR_WRITE, org_id)
            if await connection.fetchval(QUERY["login_taken"], login):
                raise StateError("login_taken", "这个账号已经有人使用", field="login")
            asked = await ask(
                connection,
                access,
                CREATE,
                "operator",
                login,
                {**values, "org_id": org_id},
                summary=f"{values['name']} ({login}) · {org['name']}",
                reason=form.get("reason", ""),
                org_id=org_id,
                org_path=org["path"],
            )
    except (BadInputError, StateError) as error:
        async with database.connection() as connection:
            return await _form_page(request, connection, access, form, error)
    return go(f"/approvals/{asked}")


@get("/operators/{operator_id:int}", opt=needs(_P.OPERATOR_READ))
async def operator_page(request: AnyRequest, operator_id: Number, database: Data, access: Who) -> Response[Any]:
    return await _operator_page(request, operator_id, database, access)


async def _operator_page(
    request: AnyRequest,
    operator_id: int,
    database: Database,
    access: Access,
    *,
    error: AdminError | None = None,
    password: str = "",
) -> Response[str]:
    async with database.connection() as connection:
        row = await find(connection, access.paths(_P.OPERATOR_READ), operator_id)
        grants = await connection.fetch(QUERY["operator_grants"], operator_id)
        orgs = await connection.fetch(QUERY["org_choices"], access.paths(_P.GRANT_MAKE))
    roles = {Role(each["role"]) for each in grants if _holds(each)}
    message, hint = told(error, language_of(request)) if error else ("", "")
    return page(
        request,
        "operators/page.html",
        status=error.status if error else 200,
        one=row,
        grants=grants,
        holds=_holds,
        permissions=[each for each in Permission if any(each in ROLES[role] for role in roles)],
        permission_names=PERMISSION_NAMES,
        role_names=ROLE_NAMES,
        role_choices={role.value: name for role, name in ROLE_NAMES.items()},
        orgs={each["id"]: each["name"] for each in orgs},
        employers=EMPLOYERS,
        states=STATES,
        tones=TONES,
        may_write=access.reaches(_P.OPERATOR_WRITE, row["org_path"]) and operator_id != access.operator_id,
        may_grant=access.may(_P.GRANT_MAKE) and operator_id != access.operator_id,
        message=message,
        hint=hint,
        password=password,
    )


def _holds(grant: Mapping[str, Any]) -> bool:
    now = datetime.now(UTC)
    ends = grant["valid_to"]
    return grant["revoked_at"] is None and grant["valid_from"] <= now and (ends is None or ends > now)


@post("/operators/{operator_id:int}/one-time", opt=needs(_P.OPERATOR_WRITE, step_up=True))
async def operator_one_time(
    request: AnyRequest, operator_id: Number, database: Data, access: Who, passwords: Hashing
) -> Response[Any]:
    """A one-time password, shown once on the page that answers."""
    password = one_time()
    hashed = await passwords.hash(password)
    async with database.transaction() as connection:
        row = await _other(connection, access, _P.OPERATOR_WRITE, operator_id)
        await set_one_time(connection, operator_id, hashed, "one_time")
        await audit(connection, access, "operator.one_time", "operator", operator_id, org_path=row["org_path"])
    return await _operator_page(request, operator_id, database, access, password=password)


@post("/operators/{operator_id:int}/disable", opt=needs(_P.OPERATOR_WRITE))
async def operator_disable(request: AnyRequest, operator_id: Number, database: Data, access: Who) -> Response[Any]:
    """At once, by one person: to close a door needs no second one."""
    form = await form_of(request)
    async with database.transaction() as connection:
        row = await _other(connection, access, _P.OPERATOR_WRITE, operator_id)
        await connection.execute(QUERY["operator_state"], operator_id, "disabled")
        await connection.execute(QUERY["sessions_end"], operator_id, "disabled")
        reason = form.get("reason", "")
        await audit(
            connection, access, "operator.disable", "operator", operator_id, org_path=row["org_path"], reason=reason
        )
    return go(f"/operators/{operator_id}")


@post("/operators/{operator_id:int}/enable", opt=needs(_P.OPERATOR_WRITE))
async def operator_enable(request: AnyRequest, operator_id: Number, database: Data, access: Who) -> Response[Any]:
    return await _ask_about(request, operator_id, database, access, "enable")


@post("/operators/{operator_id:int}/reset-totp", opt=needs(_P.OPERATOR_WRITE))
async def operator_reset_totp(request: AnyRequest, operator_id: Number, database: Data, access: Who) -> Response[Any]:
    return await _ask_about(request, operator_id, database, access, "reset")


async def _ask_about(
    request: AnyRequest, operator_id: int, database: Database, access: Access, what: str
) -> Response[Any]:
    form = await form_of(request)
    action = ENABLE if what == "enable" else RESET_TOTP
    try:
        async with database.transaction() as connection:
            row = await _other(connection, access, _P.OPERATOR_WRITE, operator_id)
            asked = await ask(
                connection,
                access,
                action,
                "operator",
                operator_id,
                {"login": row["login"], "name": row["name"]},
                summary=f"{row['name']} ({row['login']})",
                reason=form.get("reason", ""),
                org_id=row["org_id"],
                org_path=row["org_path"],
            )
    except (BadInputError, StateError) as error:
        return await _operator_page(request, operator_id, database, access, error=error)
    return go(f"/approvals/{asked}")


async def _other(connection: Connection, access: Access, permission: Permission, operator_id: int) -> Any:
    """Somebody else, over whom this person has this permission."""
    row = await find(connection, access.paths(permission), operator_id)
    if operator_id == access.operator_id:
        raise StateError("own", "不能对自己执行这项操作", hint="请另一位同事办理")
    return row


@post("/operators/{operator_id:int}/grants", opt=needs(_P.GRANT_MAKE))
async def grant_ask(request: AnyRequest, operator_id: Number, database: Data, access: Who) -> Response[Any]:
    form = await form_of(request)
    try:
        role = Role(choice(form, "role", "角色", {role.value: name for role, name in ROLE_NAMES.items()}))
        org_id = number(form, "org_id", "组织范围")
        starts = local_day(form, "valid_from", "生效日期") or datetime.now(UTC)
        ends = local_day(form, "valid_to", "失效日期", ends=True)
        if ends is not None and ends <= starts:
            raise BadInputError("valid_to", "失效日期要在生效日期之后", field="valid_to")
        async with database.transaction() as connection:
            row = await _other(connection, access, _P.OPERATOR_READ, operator_id)
            org = await org_of(connection, access, _P.GRANT_MAKE, org_id)
            refuse_conflict(Grant(role, org["path"], starts, ends), await grants_of(connection, operator_id))
            asked = await ask(
                connection,
                access,
                GRANT,
                "operator",
                operator_id,
                {
                    "role": role.value,
                    "org": org["path"],
                    "valid_from": starts.isoformat(),
                    "valid_to": ends.isoformat() if ends else None,
                },
                summary=f"{row['name']} ({row['login']}) · {ROLE_NAMES[role]} · {org['name']}",
                reason=form.get("reason", ""),
                org_id=org_id,
                org_path=org["path"],
            )
    except (BadInputError, StateError) as error:
        return await _operator_page(request, operator_id, database, access, error=error)
    return go(f"/approvals/{asked}")


@post("/grants/{grant_id:int}/revoke", opt=needs(_P.GRANT_MAKE))
async def grant_revoke(request: AnyRequest, grant_id: Number, database: Data, access: Who) -> Response[Any]:
    """At once: what takes rights away needs no second person."""
    form = await form_of(request)
    async with database.transaction() as connection:
        row = await connection.fetchrow(QUERY["grant_get"], grant_id)
        if row is None or not access.reaches(_P.GRANT_MAKE, row["path"]):
            raise NotFoundError("not_found", "没有这个对象，或不在您的范围内")
        await connection.execute(QUERY["grant_revoke"], grant_id, access.operator_id)
        await audit(
            connection,
            access,
            "grant.revoke",
            "operator",
            row["operator_id"],
            org_path=row["path"],
            reason=form.get("reason", ""),
            role=row["role"],
        )
    return go(f"/operators/{row['operator_id']}")


@get("/roles", opt=needs(_P.OPERATOR_READ))
async def roles(request: AnyRequest) -> Response[Any]:
    return page(
        request,
        "operators/roles.html",
        roles=ROLES,
        role_names=ROLE_NAMES,
        permissions=list(Permission),
        permission_names=PERMISSION_NAMES,
    )


@get("/sessions", opt=needs(_P.SESSION_END))
async def session_list(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    scope = access.paths(_P.SESSION_END)
    return await listing(
        request, database, SESSIONS, QUERY["session_list"], "operators/sessions.html", scope=scope, access=access
    )


@post("/sessions/{session_id:int}/end", opt=needs(_P.SESSION_END))
async def session_end(session_id: Number, database: Data, access: Who) -> Response[Any]:
    async with database.transaction() as connection:
        row = await connection.fetchrow(QUERY["session_owner"], access.paths(_P.SESSION_END), session_id)
        if row is None:
            raise NotFoundError("not_found", "没有这个对象，或不在您的范围内")
        await connection.execute(QUERY["session_end"], session_id)
        await audit(connection, access, "session.end", "session", session_id, org_path=row["path"], login=row["login"])
    return go("/sessions")


HANDLERS = [
    *(operator_list, operator_form, operator_create, operator_page, operator_one_time, operator_disable),
    *(operator_enable, operator_reset_totp, grant_ask, grant_revoke, roles, session_list, session_end),
]
