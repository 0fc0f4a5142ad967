"""Operators and grants in the database, and the acts on them that need a second person."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import asyncpg

from admin.auth.approval import ACTIONS, Action, Asked
from admin.auth.audit import audit
from admin.auth.permissions import KNOWN_ROLES, Access, Grant, Permission, Role, conflict
from admin.db.pool import Connection
from admin.db.queries import statements
from admin.errors import BadInputError, NoPermissionError, NotFoundError, StateError
from admin.limits import ONE_TIME_PASSWORD_S

QUERY = statements(__file__)
NO_PASSWORD = "!"  # noqa: S105 no password hashes to this: nobody signs in with it


async def find(connection: Connection, scope: list[str], number: int) -> Any:
    """One operator in scope. Raises NotFoundError."""
    row = await connection.fetchrow(QUERY["operator_get"], scope, number)
    if row is None:
        raise NotFoundError("not_found", "没有这个对象，或不在您的范围内")
    return row


async def org_of(connection: Connection, access: Access, permission: Permission, number: int) -> Any:
    """An organisation where this person has this permission. Raises NotFoundError."""
    row = await connection.fetchrow(QUERY["org_get"], number)
    if row is None or not access.reaches(permission, row["path"]):
        raise NotFoundError("not_found", "没有这个对象，或不在您的范围内")
    return row


async def grants_of(connection: Connection, number: int) -> list[Grant]:
    """What holds now or will."""
    rows = await connection.fetch(QUERY["operator_grants"], number)
    return [
        Grant(Role(row["role"]), row["path"], row["valid_from"], row["valid_to"])
        for row in rows
        if row["revoked_at"] is None and row["role"] in KNOWN_ROLES
    ]


def refuse_conflict(new: Grant, held: list[Grant]) -> None:
    other = conflict(new, held)
    if other is not None:
        raise StateError(
            "role_conflict", "这个角色与已有的角色互斥", hint="同一人不能兼任相互监督的岗位", role=new.role, other=other
        )


async def create(
    connection: Connection, *, login: str, name: str, employer: str, org_id: int, email: str, phone: str, by: int | None
) -> int:
    """Raises StateError when the login is taken, BadInputError when it is no login."""
    try:
        number: int = await connection.fetchval(
            QUERY["operator_add"], login, name, employer, org_id, email, phone, NO_PASSWORD, by
        )
    except asyncpg.UniqueViolationError as error:
        raise StateError("login_taken", "这个账号已经有人使用") from error
    except asyncpg.CheckViolationError as error:
        raise BadInputError(
            "login", "账号须以小写字母开头，2 到 32 个小写字母、数字、点、横线或下划线", field="login"
        ) from error
    return number


async def set_one_time(connection: Connection, number: int, hashed: str, why: str) -> None:
    """A password that somebody else knows: it works for a while and must be changed at once. All sessions end."""
    await connection.execute(QUERY["operator_one_time"], number, hashed, ONE_TIME_PASSWORD_S)
    await connection.execute(QUERY["sessions_end"], number, why)


async def add_grant(
    connection: Connection,
    *,
    operator_id: int,
    role: Role,
    org_id: int,
    valid_from: datetime | None,
    valid_to: datetime | None,
    by: int | None,
    approval: int | None,
) -> None:
    """Raises StateError when it is there already."""
    try:
        await connection.execute(
            QUERY["grant_add"], operator_id, role.value, org_id, valid_from, valid_to, by, approval
        )
    except asyncpg.UniqueViolationError as error:
        raise StateError("grant_there", "已经有这项授权") from error


# ---------------------------------------------------------------------------------------------------- four eyes
async def _login_free(connection: Connection, login: str) -> int | None:
    return None if await connection.fetchval(QUERY["login_taken"], login) else 0


async def _version(connection: Connection, number: str) -> int | None:
    version: int | None = await connection.fetchval(QUERY["operator_version"], int(number))
    return version


async def _create(connection: Connection, asked: Asked, access: Access) -> str:
    values = asked.payload
    number = await create(
        connection,
        **{name: values[name] for name in ("login", "name", "employer", "org_id", "email", "phone")},
        by=asked.maker_id,
    )
    await audit(
        connection, access, "operator.create", "operator", number, org_path=asked.org_path, login=values["login"]
    )
    return f"/operators/{number}"


async def _enable(connection: Connection, asked: Asked, access: Access) -> str:
    await connection.execute(QUERY["operator_state"], int(asked.object_id), "active")
    await audit(connection, access, "operator.enable", "operator", asked.object_id, org_path=asked.org_path)
    return ""


async def _reset_totp(connection: Connection, asked: Asked, access: Access) -> str:
    number = int(asked.object_id)
    login = await connection.fetchval(QUERY["operator_no_totp"], number)
    await connection.execute(QUERY["recovery_gone"], number)
    await connection.execute(QUERY["totp_forgiven"], login)
    await connection.execute(QUERY["sessions_end"], number, "totp_reset")
    await audit(connection, access, "operator.totp_reset", "operator", number, org_path=asked.org_path)
    return ""


async def _grant(connection: Connection, asked: Asked, access: Access) -> str:
    values, number = asked.payload, int(asked.object_id)
    if number == access.operator_id:
        raise NoPermissionError("own_grant", "不能复核给自己的授权")
    starts = datetime.fromisoformat(values["valid_from"])
    ends = datetime.fromisoformat(values["valid_to"]) if values["valid_to"] else None
    role = Role(values["role"])
    refuse_conflict(Grant(role, asked.org_path, starts, ends), await grants_of(connection, number))
    await add_grant(
        connection,
        operator_id=number,
        role=role,
        org_id=asked.org_id,
        valid_from=starts,
        valid_to=ends,
        by=asked.maker_id,
        approval=asked.id,
    )
    await audit(connection, access, "grant.add", "operator", number, org_path=asked.org_path, **values)
    return ""


_P = Permission
CREATE = Action("operator.create", "新建操作员", _P.OPERATOR_WRITE, _P.OPERATOR_APPROVE, _create, _login_free)
ENABLE = Action("operator.enable", "启用操作员", _P.OPERATOR_WRITE, _P.OPERATOR_APPROVE, _enable, _version)
RESET_TOTP = Action("operator.reset_totp", "重置验证器", _P.OPERATOR_WRITE, _P.OPERATOR_APPROVE, _reset_totp, _version)
GRANT = Action("grant.add", "授予角色", _P.GRANT_MAKE, _P.GRANT_APPROVE, _grant, _version)
ACTIONS.add(CREATE, ENABLE, RESET_TOTP, GRANT)


def grant_now(role: Role, path: str) -> Grant:
    """As it would hold from now on."""
    return Grant(role, path, datetime.now(UTC))
