"""Models, contracts and groups: short lists that kiosks refer to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any, Final

import asyncpg
from litestar import Response, get, post

from admin.auth.audit import audit
from admin.auth.guard import needs
from admin.auth.permissions import Access, Permission
from admin.db.pool import Connection, Database
from admin.devices.kiosks import indented
from admin.devices.onboarding import UNIT_NAMES
from admin.devices.store import NOT_FOUND, QUERY, org_in_scope
from admin.errors import AdminError, BadInputError, NotFoundError, StateError
from admin.limits import ORGS_MAX
from admin.web.forms import form_of, number, text
from admin.web.given import Data, Number, Who
from admin.web.i18n import told
from admin.web.render import AnyRequest, go, language_of, page

_P = Permission
_STALE: Final = StateError("stale", "您打开之后，别人已经修改了它", hint="请刷新页面，核对后再改")


def _told(request: AnyRequest, error: AdminError | None) -> dict[str, Any]:
    message, hint = told(error, language_of(request)) if error else ("", "")
    return {
        "status": error.status if error else 200,
        "wrong": error.field if error else "",
        "message": message,
        "hint": hint,
    }


async def _named(database: Database, name: str, number_: int) -> Any:
    async with database.connection() as connection:
        row = await connection.fetchrow(QUERY[name], number_)
    if row is None:
        raise NotFoundError("not_found", NOT_FOUND)
    return row


# ---------------------------------------------------------------------------------------------------- models
@get("/kiosk-models", opt=needs(_P.DEVICE_READ))
async def model_list(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    async with database.connection() as connection:
        rows = await connection.fetch(QUERY["model_list"])
    may_write = access.everywhere(_P.DEVICE_WRITE)
    return page(request, "devices/models.html", rows=rows, units=UNIT_NAMES, may_write=may_write)


@get(["/kiosk-models/new", "/kiosk-models/{model_id:int}"], opt=needs(_P.DEVICE_WRITE))
async def model_form(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    _everywhere(access)
    one = None
    if model_id := request.path_params.get("model_id"):
        one = await _named(database, "model_get", model_id)
    return _model_page(request, dict(one) if one else {"units": []}, one)


def _model_page(
    request: AnyRequest, form: Mapping[str, Any], one: Any, error: AdminError | None = None
) -> Response[str]:
    return page(request, "devices/model_form.html", form=form, one=one, units=UNIT_NAMES, **_told(request, error))


@post(["/kiosk-models/new", "/kiosk-models/{model_id:int}"], opt=needs(_P.DEVICE_WRITE))
async def model_save(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    _everywhere(access)
    model_id = request.path_params.get("model_id")
    data = await request.form()
    form: dict[str, Any] = {**await form_of(request), "units": [u for u in UNIT_NAMES if u in data.getall("units", [])]}
    one = await _named(database, "model_get", model_id) if model_id else None
    try:
        values = (
            text(form, "vendor", "厂商", most=60),
            text(form, "name", "型号", most=60),
            text(form, "system", "操作系统", least=0, most=60),
            form["units"],
        )
        if not values[3]:
            raise BadInputError("units", "请至少选择一个外设", field="units")
        async with database.transaction() as connection:
            if one is None:
                done = await connection.fetchval(QUERY["model_add"], *values)
            else:
                done = await connection.fetchval(
                    QUERY["model_edit"], model_id, number(form, "version", "版本"), *values
                )
            if done is None:
                raise _STALE
            action = "model.create" if one is None else "model.edit"
            await audit(
                connection, access, action, "kiosk_model", done, vendor=values[0], name=values[1], units=values[3]
            )
    except asyncpg.UniqueViolationError:
        taken = StateError("taken", "已经有这个厂商的同名型号", field="name")
        return _model_page(request, form, one, taken)
    except (BadInputError, StateError) as error:
        return _model_page(request, form, one, error)
    return go("/kiosk-models")


def _everywhere(access: Access) -> None:
    """What belongs to no organisation is kept by those who have the whole network."""
    if not access.everywhere(_P.DEVICE_WRITE):
        raise NotFoundError("not_found", NOT_FOUND)


# ---------------------------------------------------------------------------------------------------- contracts
@get("/contracts", opt=needs(_P.DEVICE_READ))
async def contract_list(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    async with database.connection() as connection:
        rows = await connection.fetch(QUERY["contract_list"])
    return page(request, "devices/contracts.html", rows=rows, may_write=access.everywhere(_P.DEVICE_WRITE))


@get(["/contracts/new", "/contracts/{contract_id:int}"], opt=needs(_P.DEVICE_WRITE))
async def contract_form(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    _everywhere(access)
    one = None
    if contract_id := request.path_params.get("contract_id"):
        one = await _named(database, "contract_get", contract_id)
    return _contract_page(request, {name: str(one[name]) for name in one.keys()} if one else {}, one)  # noqa: SIM118 a row


def _contract_page(
    request: AnyRequest, form: Mapping[str, str], one: Any, error: AdminError | None = None
) -> Response[str]:
    return page(request, "devices/contract_form.html", form=form, one=one, **_told(request, error))


def _day(form: Mapping[str, str], name: str, title: str) -> date:
    try:
        return date.fromisoformat(form.get(name, ""))
    except ValueError as error:
        raise BadInputError("day", "{title}不是日期", field=name, title=title) from error


@post(["/contracts/new", "/contracts/{contract_id:int}"], opt=needs(_P.DEVICE_WRITE))
async def contract_save(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    _everywhere(access)
    contract_id = request.path_params.get("contract_id")
    form = await form_of(request)
    one = await _named(database, "contract_get", contract_id) if contract_id else None
    try:
        values = (
            text(form, "code", "合同编号", most=40),
            text(form, "name", "合同名称", most=100),
            _day(form, "starts_on", "起始日期"),
            _day(form, "ends_on", "终止日期"),
        )
        if values[3] < values[2]:
            raise BadInputError("day", "终止日期要在起始日期之后", field="ends_on")
        async with database.transaction() as connection:
            if one is None:
                done = await connection.fetchval(QUERY["contract_add"], *values)
            else:
                done = await connection.fetchval(
                    QUERY["contract_edit"], contract_id, number(form, "version", "版本"), *values
                )
            if done is None:
                raise _STALE
            action = "contract.create" if one is None else "contract.edit"
            told_ = {"code": values[0], "from": values[2].isoformat(), "to": values[3].isoformat()}
            await audit(connection, access, action, "contract", done, **told_)
    except asyncpg.UniqueViolationError:
        return _contract_page(request, form, one, StateError("taken", "合同编号已被使用", field="code"))
    except (BadInputError, StateError) as error:
        return _contract_page(request, form, one, error)
    return go("/contracts")


# ---------------------------------------------------------------------------------------------------- groups
@get("/groups", opt=needs(_P.DEVICE_READ))
async def group_list(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    return await _groups_page(request, database, access, {})


async def _groups_page(
    request: AnyRequest, database: Database, access: Access, form: Mapping[str, str], error: AdminError | None = None
) -> Response[str]:
    async with database.connection() as connection:
        rows = await connection.fetch(QUERY["group_list"], access.paths(_P.DEVICE_READ))
        orgs = await connection.fetch(QUERY["org_choices"], access.paths(_P.DEVICE_WRITE), None, ORGS_MAX)
    return page(request, "devices/groups.html", rows=rows, orgs=indented(orgs), form=form, **_told(request, error))


@post("/groups", opt=needs(_P.DEVICE_WRITE))
async def group_create(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    form = await form_of(request)
    try:
        name = text(form, "name", "名称", most=60)
        async with database.transaction() as connection:
            org = await org_in_scope(connection, access.paths(_P.DEVICE_WRITE), number(form, "org_id", "组织"))
            made = await connection.fetchval(QUERY["group_add"], name, org["id"])
            await audit(connection, access, "group.create", "kiosk_group", made, org_path=org["path"], name=name)
    except asyncpg.UniqueViolationError:
        return await _groups_page(
            request, database, access, form, StateError("taken", "已经有同名的分组", field="name")
        )
    except (BadInputError, StateError) as error:
        return await _groups_page(request, database, access, form, error)
    return go(f"/groups/{made}")


@get("/groups/{group_id:int}", opt=needs(_P.DEVICE_READ))
async def group_page(request: AnyRequest, group_id: Number, database: Data, access: Who) -> Response[Any]:
    return await _group_page(request, group_id, database, access)


async def _group(connection: Connection, access: Access, permission: Permission, group_id: int) -> Any:
    row = await connection.fetchrow(QUERY["group_get"], access.paths(permission), group_id)
    if row is None:
        raise NotFoundError("not_found", NOT_FOUND)
    return row


async def _group_page(
    request: AnyRequest,
    group_id: int,
    database: Database,
    access: Access,
    form: Mapping[str, str] | None = None,
    error: AdminError | None = None,
) -> Response[str]:
    async with database.connection() as connection:
        one = await _group(connection, access, _P.DEVICE_READ, group_id)
        members = await connection.fetch(QUERY["group_members"], access.paths(_P.DEVICE_READ), group_id)
    return page(
        request,
        "devices/group.html",
        one=one,
        members=members,
        form=form or {},
        may_write=access.reaches(_P.DEVICE_WRITE, one["path"]),
        **_told(request, error),
    )


@post("/groups/{group_id:int}/join", opt=needs(_P.DEVICE_WRITE))
async def group_join(request: AnyRequest, group_id: Number, database: Data, access: Who) -> Response[Any]:
    """Codes, with blanks, commas or lines between: all, or none and which is unknown."""
    form = await form_of(request)
    try:
        codes = sorted(
            set(text(form, "codes", "终端编号", most=20_000).replace(",", " ").replace("，", " ").upper().split())
        )
        async with database.transaction() as connection:
            one = await _group(connection, access, _P.DEVICE_WRITE, group_id)
            joined = await connection.fetch(QUERY["group_join"], access.paths(_P.DEVICE_WRITE), group_id, codes)
            missing = [code for code in codes if code not in {row["code"] for row in joined}]
            if missing:
                raise BadInputError(
                    "codes", "没有加入任何终端；这些编号不存在或不在分组范围内：{missing}", field="codes",
                    missing=" ".join(missing[:20]),
                )  # fmt: skip
            await audit(
                connection, access, "group.join", "kiosk_group", group_id, org_path=one["path"], codes=codes[:500]
            )
    except (BadInputError, StateError) as error:
        return await _group_page(request, group_id, database, access, form, error)
    return go(f"/groups/{group_id}")


@post("/groups/{group_id:int}/leave/{kiosk_id:int}", opt=needs(_P.DEVICE_WRITE))
async def group_leave(group_id: Number, kiosk_id: Number, database: Data, access: Who) -> Response[Any]:
    async with database.transaction() as connection:
        one = await _group(connection, access, _P.DEVICE_WRITE, group_id)
        await connection.execute(QUERY["group_leave"], group_id, kiosk_id)
        await audit(connection, access, "group.leave", "kiosk_group", group_id, org_path=one["path"], kiosk=kiosk_id)
    return go(f"/groups/{group_id}")


HANDLERS = [
    *(model_list, model_form, model_save, contract_list, contract_form, contract_save),
    *(group_list, group_create, group_page, group_join, group_leave),
]
