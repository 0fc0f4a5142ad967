"""The audit log: read, verified, compared with what was told outside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from litestar import Response, get, post

from admin.auth.audit import audit, verify
from admin.auth.guard import needs
from admin.auth.permissions import Permission
from admin.db.pool import connect
from admin.errors import NotFoundError
from admin.limits import REPORT_STATEMENT_S
from admin.operators.store import QUERY
from admin.web.forms import form_of
from admin.web.given import Data, Number, Who
from admin.web.render import AnyRequest, listing, page
from admin.web.table import Column, Filter, Table

_P = Permission
RESULTS: Final = {"ok": "成功", "denied": "拒绝", "error": "失败"}
TONES: Final = {"ok": "good", "denied": "warn", "error": "bad"}


def _link(row: Mapping[str, Any]) -> str:
    return f"/audit/{row['seq']}"


AUDIT: Final = Table(
    name="audit",
    title="审计日志",
    key="audit_log.seq",
    sort="-seq",
    row_link=_link,
    columns=(
        Column("seq", "序号", "count", sort="audit_log.seq::bigint"),
        Column("at", "时间", "time"),
        Column("actor", "人员"),
        Column("address", "网络地址", wide_only=True),
        Column("action", "操作"),
        Column("object", "对象"),
        Column("result", "结果", "state", names=RESULTS, tones=TONES),
        Column("reason", "理由", wide_only=True),
    ),
    filters=(
        Filter("actor", "人员", placeholder="账号"),
        Filter("action", "操作", placeholder="如 grant."),
        Filter("object", "对象编号"),
        Filter("result", "结果", "choice", choices=RESULTS),
        Filter("from", "从", "day"),
        Filter("until", "到", "day", ends=True),
    ),
)


@get("/audit", opt=needs(_P.AUDIT_READ))
async def audit_list(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    scope = access.paths(_P.AUDIT_READ)
    return await listing(
        request, database, AUDIT, QUERY["audit_list"], "operators/audit.html", scope=scope, access=access
    )


@get("/audit/{seq:int}", opt=needs(_P.AUDIT_READ))
async def audit_row(request: AnyRequest, seq: Number, database: Data, access: Who) -> Response[Any]:
    async with database.connection() as connection:
        row = await connection.fetchrow(QUERY["audit_get"], access.paths(_P.AUDIT_READ), seq)
    if row is None:
        raise NotFoundError("not_found", "没有这个对象，或不在您的范围内")
    return page(request, "operators/audit_row.html", one=row, results=RESULTS, tones=TONES)


@get("/audit/chain", opt=needs(_P.AUDIT_READ))
async def audit_chain(request: AnyRequest, database: Data) -> Response[Any]:
    async with database.connection() as connection:
        anchors = await connection.fetch(QUERY["anchors"])
    return page(request, "operators/audit_chain.html", anchors=anchors, verified=None, given="", known=None)


@post("/audit/chain", opt=needs(_P.AUDIT_READ))
async def audit_verify(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    """Walks over the whole log, on a connection of its own: a page's time is too short for years of it."""
    form = await form_of(request)
    given = form.get("given", "").lower()
    own = await connect(database.dsn, "audit", statement_s=REPORT_STATEMENT_S)
    try:
        verified = await verify(own)
    finally:
        await own.close()
    async with database.transaction() as connection:
        anchors = await connection.fetch(QUERY["anchors"])
        result = "ok" if verified.wrong is None else "error"
        await audit(connection, access, "audit.verify", result=result, rows=verified.rows, wrong=verified.wrong or 0)
    known = {row["chain"] for row in anchors} | {verified.last.hex()}
    return page(
        request,
        "operators/audit_chain.html",
        anchors=anchors,
        verified=verified,
        given=given,
        known=None if not given else given in known,
    )


HANDLERS = [audit_list, audit_chain, audit_verify, audit_row]
