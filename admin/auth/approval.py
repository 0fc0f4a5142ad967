"""Four eyes: one person asks, another confirms, and confirming does it.

What was asked is bound by the hash of its canonical payload, its object's version and a day's time. Confirming and
doing are one transaction: either both happened or neither. That maker and checker differ is also a CHECK of the
database, so that no fault of ours lets one person do both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg

from admin.auth.audit import audit, canonical
from admin.auth.permissions import Access, Permission
from admin.db.pool import Connection
from admin.db.queries import statements
from admin.errors import BadInputError, NoPermissionError, NotFoundError, StateError
from admin.limits import APPROVAL_S

_QUERY = statements(__file__)


@dataclass(frozen=True, slots=True)
class Asked:
    """An approval that is being carried out."""

    id: int
    object_id: str
    payload: dict[str, Any]
    reason: str
    maker_id: int
    org_id: int
    org_path: str


Execute = Callable[[Connection, Asked, Access], Awaitable[str]]
VersionOf = Callable[[Connection, str], Awaitable[int | None]]


@dataclass(frozen=True, slots=True)
class Action:
    """Something that needs two people.

    Attributes:
        title: In Chinese, for lists.
        make, check: Permissions at the object's organisation.
        execute: Does it, in the transaction of the approval; returns what to tell, "" for nothing. An AdminError undoes
            everything and leaves the approval pending.
        version_of: The object's version now; None: it is gone. Another than when it was asked: void.
        fields: Names of the payload's keys, for whoever confirms.
        show: A value of the payload in words; None: as it is.
        page: Where the object is seen, "{}" for its number; empty: nowhere.
    """

    name: str
    title: str
    make: Permission
    check: Permission
    execute: Execute
    version_of: VersionOf
    fields: Mapping[str, str] = field(default_factory=dict)
    show: Callable[[str, Any], str] | None = None
    page: str = ""


@dataclass(slots=True)
class Actions:
    """All actions of all slices, by name."""

    by_name: dict[str, Action] = field(default_factory=dict)

    def add(self, *actions: Action) -> None:
        for action in actions:
            assert action.name not in self.by_name, action.name
            self.by_name[action.name] = action


ACTIONS: Final = Actions()


async def ask(
    connection: Connection,
    access: Access,
    action: Action,
    object_kind: str,
    object_id: object,
    payload: Mapping[str, Any],
    *,
    summary: str,
    reason: str,
    org_id: int,
    org_path: str,
) -> int:
    """Write down what is wanted; returns its number. Call it in a transaction.

    Raises:
        NoPermissionError: It is not theirs to ask for, there.
        StateError: The same is asked already, or the object is gone.
        BadInputError: No reason.
    """
    if not access.reaches(action.make, org_path):
        raise NoPermissionError("no_permission", "您没有这项权限", hint="请联系安全管理员")
    reason = reason.strip()
    if not 2 <= len(reason) <= 500:
        raise BadInputError("reason", "请填写理由（2 到 500 字）", field="reason")
    version = await action.version_of(connection, str(object_id))
    if version is None:
        raise NotFoundError("not_found", "没有这个对象，或不在您的范围内")
    await connection.execute(_QUERY["approval_expire"])
    text = canonical(payload)
    try:
        number: int = await connection.fetchval(
            _QUERY["approval_add"],
            *(action.name, object_kind, str(object_id), version, dict(payload), hashlib.sha256(text.encode()).digest()),
            *(summary, reason, org_id, access.operator_id, APPROVAL_S),
        )
    except asyncpg.UniqueViolationError as error:
        raise StateError("asked_already", "同样的申请已在等待复核", hint="请到“审批”页查看") from error
    await audit(
        connection,
        access,
        "approval.ask",
        object_kind,
        object_id,
        org_path=org_path,
        reason=reason,
        approval=number,
        asked=action.name,
        summary=summary,
    )
    return number


async def decide(connection: Connection, access: Access, number: int, *, approve: bool, answer: str) -> tuple[str, str]:
    """Confirm and do, or refuse. Returns (state, what the act tells). Call it in a transaction.

    Raises:
        NotFoundError: No such approval in their scope.
        NoPermissionError: Their own, or not theirs to check, or the second factor is not fresh.
        StateError: Decided, or over.
    """
    row = await connection.fetchrow(_QUERY["approval_get"], number)
    action = ACTIONS.by_name.get(row["action"]) if row else None
    if row is None or action is None or not access.reaches(action.check, row["org_path"]):
        raise NotFoundError("not_found", "没有这个对象，或不在您的范围内")
    if row["state"] != "pending" or row["is_over"]:
        raise StateError("not_pending", "这项申请已经处理过或已过期")
    if row["maker_id"] == access.operator_id:
        raise NoPermissionError("four_eyes", "不能复核自己提出的申请", hint="请另一位有权限的同事复核")
    if not access.step_up:
        raise NoPermissionError("step_up", "请先输入动态码确认身份")
    answer = answer.strip()
    if not approve and not answer:
        raise BadInputError("answer", "驳回请说明原因", field="answer")
    payload = row["payload"]
    bound = hashlib.sha256(canonical(payload).encode()).digest()
    if bound != row["payload_sha256"]:
        raise StateError("payload_changed", "申请内容与提交时不符，不能执行", hint="请报告审计员")
    state, told = "rejected", ""
    if approve and await action.version_of(connection, row["object_id"]) != row["object_version"]:
        state, told = "void", "对象在申请之后被修改，申请作废"
    elif approve:
        asked = Asked(
            *(row["id"], row["object_id"], payload, row["reason"], row["maker_id"], row["org_id"], row["org_path"])
        )
        state, told = "consumed", await action.execute(connection, asked, access)
    await connection.execute(_QUERY["approval_decide"], number, state, access.operator_id, answer, told)
    await audit(
        connection,
        access,
        f"approval.{state}",
        row["object_kind"],
        row["object_id"],
        org_path=row["org_path"],
        reason=answer,
        approval=number,
        asked=action.name,
        maker=row["maker_login"],
    )
    return state, told


async def withdraw(connection: Connection, access: Access, number: int) -> None:
    """Their own, while nobody has decided. Raises NotFoundError, StateError."""
    row = await connection.fetchrow(_QUERY["approval_get"], number)
    if row is None or row["maker_id"] != access.operator_id:
        raise NotFoundError("not_found", "没有这个对象，或不在您的范围内")
    if row["state"] != "pending":
        raise StateError("not_pending", "这项申请已经处理过或已过期")
    await connection.execute(_QUERY["approval_withdraw"], number, "")
    await audit(connection, access, "approval.withdrawn", row["object_kind"], row["object_id"], approval=number)
