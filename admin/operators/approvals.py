"""Approvals: what waits for a second person, and the page where it is decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from litestar import Response, get, post

from admin.auth.approval import ACTIONS, decide, withdraw
from admin.auth.guard import SIGNED_IN
from admin.auth.permissions import KNOWN_ROLES, ROLE_NAMES, Access, Role
from admin.db.pool import Database
from admin.errors import AdminError, BadInputError, NotFoundError, StateError
from admin.operators.store import QUERY
from admin.web.forms import form_of
from admin.web.given import Data, Number, Who
from admin.web.i18n import told
from admin.web.render import AnyRequest, go, language_of, listing, page
from admin.web.table import Column, Filter, Table

STATES: Final = {
    "pending": "待复核",
    "consumed": "已执行",
    "rejected": "已驳回",
    "withdrawn": "已撤回",
    "expired": "已过期",
    "void": "已作废",
}
TONES: Final = {"pending": "warn", "consumed": "good", "rejected": "bad"}
WHICH: Final = {"todo": "等我复核", "mine": "我提出的", "all": "全部"}
# Keys of payloads, for people.
FIELDS: Final = {
    "login": "账号",
    "name": "姓名",
    "employer": "单位",
    "email": "邮箱",
    "phone": "电话",
    "org": "组织范围",
    "org_id": "组织编号",
    "role": "角色",
    "valid_from": "生效时间",
    "valid_to": "失效时间",
}


def _link(row: Mapping[str, Any]) -> str:
    return f"/approvals/{row['id']}"


def table() -> Table:
    titles = {action.name: action.title for action in ACTIONS.by_name.values()}
    return Table(
        name="approvals",
        title="审批",
        key="approval.id",
        sort="-made_at",
        row_link=_link,
        columns=(
            Column("action", "事项", names=titles),
            Column("summary", "内容"),
            Column("org", "组织", wide_only=True),
            Column("maker", "申请人"),
            Column("made_at", "申请时间", "time", sort="approval.made_at::timestamptz"),
            Column("checker", "复核人", wide_only=True),
            Column("state", "状态", "state", names=STATES, tones=TONES),
        ),
        filters=(
            Filter("which", "范围", "choice", choices=WHICH, default="todo"),
            Filter("state", "状态", "choice", choices=STATES),
            Filter("action", "事项", "choice", choices=titles),
        ),
    )


def _scope(access: Access) -> dict[str, Any]:
    paths = {action.name: access.paths(action.check) for action in ACTIONS.by_name.values()}
    return {"operator": access.operator_id, "paths": paths}


@get("/approvals", opt=SIGNED_IN)
async def approval_list(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    return await listing(
        request,
        database,
        table(),
        QUERY["approval_list"],
        "operators/approvals.html",
        scope=_scope(access),
        access=access,
    )


@get("/approvals/{approval_id:int}", opt=SIGNED_IN)
async def approval_page(request: AnyRequest, approval_id: Number, database: Data, access: Who) -> Response[Any]:
    return await _page(request, approval_id, database, access)


async def _page(
    request: AnyRequest, approval_id: int, database: Database, access: Access, error: AdminError | None = None
) -> Response[str]:
    async with database.connection() as connection:
        row = await connection.fetchrow(QUERY["approval_get"], approval_id)
    action = ACTIONS.by_name.get(row["action"]) if row else None
    own = row is not None and row["maker_id"] == access.operator_id
    if row is None or action is None or not (own or access.reaches(action.check, row["org_path"])):
        raise NotFoundError("not_found", "没有这个对象，或不在您的范围内")
    message, hint = told(error, language_of(request)) if error else ("", "")
    waiting = row["state"] == "pending" and not row["is_over"]
    return page(
        request,
        "operators/approval.html",
        status=error.status if error else 200,
        one=row,
        action=action,
        fields={**FIELDS, **action.fields},
        shown=action.show or _shown,
        state="expired" if row["state"] == "pending" and row["is_over"] else row["state"],
        states=STATES,
        tones=TONES,
        may_decide=waiting and not own,
        may_withdraw=waiting and own,
        message=message,
        hint=hint,
    )


def _shown(name: str, value: Any) -> str:
    if name == "role" and value in KNOWN_ROLES:
        return ROLE_NAMES[Role(value)]
    return "—" if value in (None, "") else str(value)


@post("/approvals/{approval_id:int}/decide", opt=SIGNED_IN)
async def approval_decide(request: AnyRequest, approval_id: Number, database: Data, access: Who) -> Response[Any]:
    form = await form_of(request)
    verdict = form.get("verdict")
    if verdict not in ("approve", "reject"):
        raise BadInputError("verdict", "请选择同意或驳回", field="verdict")
    try:
        async with database.transaction() as connection:
            await decide(
                connection, access, approval_id, approve=verdict == "approve", answer=form.get("answer", "")[:500]
            )
    except (BadInputError, StateError) as error:
        return await _page(request, approval_id, database, access, error)
    return go(f"/approvals/{approval_id}")


@post("/approvals/{approval_id:int}/withdraw", opt=SIGNED_IN)
async def approval_withdraw(approval_id: Number, database: Data, access: Who) -> Response[Any]:
    async with database.transaction() as connection:
        await withdraw(connection, access, approval_id)
    return go(f"/approvals/{approval_id}")


HANDLERS = [approval_list, approval_page, approval_decide, approval_withdraw]
