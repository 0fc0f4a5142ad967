"""Organisations: the tree, one of them, making, changing, closing; moving a subtree needs a second person."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from litestar import Response, get, post

from admin.auth.approval import ask
from admin.auth.audit import audit
from admin.auth.guard import needs
from admin.auth.permissions import Access, Permission
from admin.db.pool import Connection, Database
from admin.devices.kiosks import indented
from admin.devices.store import (
    MOVE_ORG,
    ORG_KINDS,
    QUERY,
    add_org,
    close_org,
    kinds_under,
    org_in_scope,
    refuse_move,
)
from admin.errors import AdminError, BadInputError, StateError
from admin.limits import ORGS_MAX
from admin.web.forms import choice, form_of, number, text
from admin.web.given import Data, Number, Who
from admin.web.i18n import told
from admin.web.render import AnyRequest, go, language_of, page

_P = Permission
_CLOCK: Final = re.compile(r"([01]\d|2[0-3]):[0-5]\d|24:00")


def _clock(form: Mapping[str, str], name: str, title: str) -> str:
    value = form.get(name, "")
    if not _CLOCK.fullmatch(value):
        raise BadInputError("clock", "{title}须写成 08:30 这样的时间", field=name, title=title)
    return value


def _hours(form: Mapping[str, str]) -> dict[str, str]:
    hours = {"opens_at": _clock(form, "opens_at", "开门时间"), "closes_at": _clock(form, "closes_at", "关门时间")}
    if hours["opens_at"] >= hours["closes_at"]:
        raise BadInputError("clock", "关门时间要在开门时间之后", field="closes_at")
    return hours


@get("/orgs", opt=needs(_P.DEVICE_READ))
async def org_tree(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    async with database.connection() as connection:
        rows = await connection.fetch(QUERY["org_tree"], access.paths(_P.DEVICE_READ), ORGS_MAX)
    kiosks = subtree_sums(rows)
    wanted = request.query_params.get("q", "").strip()[:60]
    top = min((row["path"].count("/") for row in rows), default=1)
    if wanted:
        hits = [row["path"] for row in rows if wanted.lower() in f"{row['name']} {row['code']}".lower()]
        rows = [row for row in rows if any(hit.startswith(row["path"]) for hit in hits)]
    return page(request, "devices/orgs.html", rows=rows, top=top, q=wanted, kinds=ORG_KINDS, kiosks=kiosks)


def subtree_sums(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Path to how many kiosks stand there and below it; the rows come with parents first.

    >>> subtree_sums([{"path": "/a/", "kiosks": 1}, {"path": "/a/b/", "kiosks": 2}, {"path": "/c/", "kiosks": 4}])
    {'/a/': 3, '/a/b/': 2, '/c/': 4}
    """
    sums = {row["path"]: row["kiosks"] for row in rows}
    for row in reversed(rows):
        parent = row["path"].rstrip("/").rpartition("/")[0] + "/"
        if parent in sums and parent != row["path"]:
            sums[parent] += sums[row["path"]]
    return sums


@get("/orgs/new", opt=needs(_P.ORG_WRITE))
async def org_form(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    form = {"parent_id": request.query_params.get("parent", ""), "opens_at": "08:30", "closes_at": "17:30"}
    async with database.connection() as connection:
        return await _form_page(request, connection, access, form)


async def _form_page(
    request: AnyRequest,
    connection: Connection,
    access: Access,
    form: Mapping[str, str],
    error: AdminError | None = None,
) -> Response[str]:
    parents = await connection.fetch(QUERY["org_choices"], access.paths(_P.ORG_WRITE), None, ORGS_MAX)
    message, hint = told(error, language_of(request)) if error else ("", "")
    return page(
        request,
        "devices/org_form.html",
        status=error.status if error else 200,
        form=form,
        parents=indented([row for row in parents if row["kind"] != "site"]),
        kinds={kind: name for kind, name in ORG_KINDS.items() if kind != "network"},
        wrong=error.field if error else "",
        message=message,
        hint=hint,
    )


@post("/orgs/new", opt=needs(_P.ORG_WRITE))
async def org_create(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    form = await form_of(request)
    try:
        values = {
            "kind": choice(form, "kind", "类型", kinds_under("network")),
            "code": text(form, "code", "组织编码", most=24).lower(),
            "name": text(form, "name", "名称", most=60),
            "address": text(form, "address", "地址", least=0, most=200),
            **_hours(form),
        }
        async with database.transaction() as connection:
            parent = await org_in_scope(
                connection, access.paths(_P.ORG_WRITE), number(form, "parent_id", "上级"), lock=True
            )
            made = await add_org(connection, access, parent, values)
    except (BadInputError, StateError) as error:
        async with database.connection() as connection:
            return await _form_page(request, connection, access, form, error)
    return go(f"/orgs/{made}")


@get("/orgs/{org_id:int}", opt=needs(_P.DEVICE_READ))
async def org_page(request: AnyRequest, org_id: Number, database: Data, access: Who) -> Response[Any]:
    return await _org_page(request, org_id, database, access)


async def _org_page(
    request: AnyRequest,
    org_id: int,
    database: Database,
    access: Access,
    *,
    form: Mapping[str, str] | None = None,
    error: AdminError | None = None,
) -> Response[str]:
    async with database.connection() as connection:
        org = await org_in_scope(connection, access.paths(_P.DEVICE_READ), org_id)
        may_write = access.reaches(_P.ORG_WRITE, org["path"])
        parents = (
            await connection.fetch(QUERY["org_choices"], access.paths(_P.ORG_WRITE), None, ORGS_MAX)
            if may_write
            else []
        )
    fitting = [row for row in parents if _fits(org, row)]
    message, hint = told(error, language_of(request)) if error else ("", "")
    return page(
        request,
        "devices/org.html",
        status=error.status if error else 200,
        one=org,
        form=form
        or {name: str(org[name]) for name in ("name", "address", "version")}
        | {name: org[name][:5] for name in ("opens_at", "closes_at")},
        kinds=ORG_KINDS,
        parents=indented(fitting),
        may_write=may_write,
        wrong=error.field if error else "",
        message=message,
        hint=hint,
    )


def _fits(org: Any, parent: Any) -> bool:
    try:
        refuse_move(org, {**dict(parent), "closed": False})
    except StateError:
        return False
    return True


@post("/orgs/{org_id:int}/edit", opt=needs(_P.ORG_WRITE))
async def org_edit(request: AnyRequest, org_id: Number, database: Data, access: Who) -> Response[Any]:
    form = await form_of(request)
    try:
        name = text(form, "name", "名称", most=60)
        address, hours = text(form, "address", "地址", least=0, most=200), _hours(form)
        async with database.transaction() as connection:
            org = await org_in_scope(connection, access.paths(_P.ORG_WRITE), org_id)
            done = await connection.fetchval(
                QUERY["org_edit"],
                org_id,
                number(form, "version", "版本"),
                name,
                address,
                hours["opens_at"],
                hours["closes_at"],
            )
            if done is None:
                raise StateError("stale", "您打开之后，别人已经修改了它", hint="请刷新页面，核对后再改")
            await audit(
                connection, access, "org.edit", "org", org_id, org_path=org["path"],
                before=[org["name"], org["address"], org["opens_at"], org["closes_at"]],
                after=[name, address, hours["opens_at"], hours["closes_at"]],
            )  # fmt: skip
    except (BadInputError, StateError) as error:
        return await _org_page(request, org_id, database, access, form=form, error=error)
    return go(f"/orgs/{org_id}")


@post("/orgs/{org_id:int}/close", opt=needs(_P.ORG_WRITE))
async def org_close(request: AnyRequest, org_id: Number, database: Data, access: Who) -> Response[Any]:
    form = await form_of(request)
    try:
        reason = text(form, "reason", "理由", least=2, most=500)
        async with database.transaction() as connection:
            await org_in_scope(connection, access.paths(_P.ORG_WRITE), org_id, lock=True)
            org = await org_in_scope(connection, access.paths(_P.ORG_WRITE), org_id)
            await close_org(connection, access, org, closed=form.get("closed") != "no", reason=reason)
    except (BadInputError, StateError) as error:
        return await _org_page(request, org_id, database, access, error=error)
    return go(f"/orgs/{org_id}")


@post("/orgs/{org_id:int}/move", opt=needs(_P.ORG_WRITE))
async def org_move(request: AnyRequest, org_id: Number, database: Data, access: Who) -> Response[Any]:
    """Whoever may see what follows the tree: it waits for a security administrator."""
    form = await form_of(request)
    paths = access.paths(_P.ORG_WRITE)
    try:
        async with database.transaction() as connection:
            org = await org_in_scope(connection, paths, org_id)
            parent = await org_in_scope(connection, paths, number(form, "parent_id", "新的上级"))
            refuse_move(org, parent)
            asked = await ask(
                connection,
                access,
                MOVE_ORG,
                "org",
                org_id,
                {
                    "from": org["path"],
                    "to": f"{parent['path']}{org['code']}/",
                    "parent_id": parent["id"],
                    "parent_path": parent["path"],
                    "kiosks": org["kiosks"],
                },
                summary=f"{org['name']} → {parent['name']}",
                reason=form.get("reason", ""),
                org_id=org_id,
                org_path=org["path"],
            )
    except (BadInputError, StateError) as error:
        return await _org_page(request, org_id, database, access, error=error)
    return go(f"/approvals/{asked}")


HANDLERS = [org_tree, org_form, org_create, org_page, org_edit, org_close, org_move]
