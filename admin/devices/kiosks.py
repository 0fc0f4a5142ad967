"""Kiosks: the list, one kiosk with everything about it, registering, editing, the steps of its life."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from litestar import Response, get, post
from litestar.params import FromPath

from admin.auth.audit import audit
from admin.auth.guard import needs
from admin.auth.permissions import Access, Permission
from admin.control import Switches
from admin.db.pool import Connection, Database
from admin.devices import lifecycle, onboarding, service
from admin.devices.given import Switch
from admin.devices.store import (
    FIELD_TITLES,
    NOT_FOUND,
    QUERY,
    acting,
    add_kiosk,
    edit_kiosk,
    find_kiosk,
    put_order,
    step_kiosk,
)
from admin.errors import AdminError, BadInputError, NotFoundError, StateError
from admin.limits import ORGS_MAX
from admin.web.forms import form_of, number, text
from admin.web.given import Data, Number, Who
from admin.web.i18n import told
from admin.web.render import AnyRequest, go, language_of, listing, page
from admin.web.table import Column, Filter, Table

_P = Permission
_HISTORY: Final = 50
SERVICE_NAMES: Final = {
    "open": "可缴费",
    "shut": "不可缴费",
    "differs": "与档案不一致",
    "none": "未设终端号",
    "unknown": "前置未登记",
}
SERVICE_TONES: Final = {"open": "good", "differs": "bad", "unknown": "warn"}
_WANTED: Final = {"differs": "与档案不一致", "due": "试运行已满 72 小时", "none": "前置未登记或未设终端号"}


def kiosk_link(row: Mapping[str, Any]) -> str:
    return f"/kiosks/{row['id']}"


def _table(orgs: Mapping[str, str], models: Mapping[str, str], groups: Mapping[str, str]) -> Table:
    return Table(
        name="kiosks",
        title="终端档案",
        key="kiosk.id",
        sort="code",
        row_link=kiosk_link,
        columns=(
            Column("code", "终端编号", sort="kiosk.code::text"),
            Column("org", "网点", sort="org.name::text"),
            Column("place", "摆放位置", wide_only=True),
            Column("model", "型号", sort="(model.vendor || ' ' || model.name)::text", wide_only=True),
            Column("terminal_id", "银联终端号", sort="coalesce(kiosk.terminal_id, '')::text"),
            Column("serial_number", "出厂序列号", sort="kiosk.serial_number::text", wide_only=True),
            Column(
                "state", "状态", "state", sort="kiosk.state::text",
                names=lifecycle.STATE_NAMES, tones=lifecycle.STATE_TONES,
            ),
            Column("service", "支付前置", "state", names=SERVICE_NAMES, tones=SERVICE_TONES),
            Column("state_since", "自何时", "time", sort="kiosk.state_since::timestamptz"),
        ),
        filters=(
            Filter("q", "编号、序列号、网点"),
            Filter("org", "组织", "choice", choices=orgs),
            Filter("model", "型号", "choice", choices=models),
            Filter("state", "状态", "choice", choices=lifecycle.STATE_NAMES),
            Filter("group", "分组", "choice", choices=groups),
            Filter("watch", "须关注", "choice", choices=_WANTED),
        ),
    )  # fmt: skip


def indented(rows: list[Any]) -> dict[str, str]:
    """Organisations for a select: the tree shows by figure spaces."""
    return {str(row["id"]): "\u2007" * 2 * max(0, row["path"].count("/") - 2) + row["name"] for row in rows}


async def _choices(connection: Connection, access: Access, permission: Permission) -> dict[str, dict[str, str]]:
    paths = access.paths(permission)
    return {
        "orgs": indented(await connection.fetch(QUERY["org_choices"], paths, None, ORGS_MAX)),
        "models": {
            str(row["id"]): f"{row['vendor']} {row['name']}" for row in await connection.fetch(QUERY["model_list"])
        },
        "groups": {str(row["id"]): row["name"] for row in await connection.fetch(QUERY["group_list"], paths)},
    }


@get("/kiosks", opt=needs(_P.DEVICE_READ))
async def kiosk_list(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    scope = access.paths(_P.DEVICE_READ)
    async with database.connection() as connection:
        choices = await _choices(connection, access, _P.DEVICE_READ)
        counts = {row["state"]: row["kiosks"] for row in await connection.fetch(QUERY["kiosk_counts"], scope)}
    return await listing(
        request,
        database,
        _table(**choices),
        QUERY["kiosk_list"],
        "devices/kiosks.html",
        scope=scope,
        access=access,
        counts=counts,
        states=lifecycle.STATE_NAMES,
        tones=lifecycle.STATE_TONES,
    )


# ---------------------------------------------------------------------------------------------------- register, edit
async def _form_values(connection: Connection, access: Access, form: Mapping[str, str]) -> tuple[dict[str, Any], Any]:
    """What the form says, checked, with the site's row. Raises BadInputError."""
    terminal = text(form, "terminal_id", "银联终端号", least=0, most=8)
    bought = form.get("bought_on", "")
    try:
        bought_on = date.fromisoformat(bought) if bought else None
    except ValueError as error:
        raise BadInputError("day", "{title}不是日期", field="bought_on", title="购置日期") from error
    values = {
        "code": text(form, "code", "终端编号", least=3, most=24).upper(),
        "serial_number": text(form, "serial_number", "出厂序列号", least=3, most=40),
        "model_id": number(form, "model_id", "型号"),
        "org_id": number(form, "org_id", "网点"),
        "contract_id": number(form, "contract_id", "合同") if form.get("contract_id") else None,
        "terminal_id": terminal or None,
        "line": text(form, "line", "线路", least=0, most=60),
        "place": text(form, "place", "摆放位置", least=0, most=100),
        "bought_on": bought_on,
    }
    org = await connection.fetchrow(QUERY["org_lock"], access.paths(_P.DEVICE_WRITE), values["org_id"])
    if org is None or org["kind"] != "site" or org["closed"]:
        raise BadInputError("org_id", "请选择您范围内的一个营业厅", field="org_id")
    if await connection.fetchrow(QUERY["model_get"], values["model_id"]) is None:
        raise BadInputError("model_id", "请选择{title}", field="model_id", title="型号")
    if values["contract_id"] and await connection.fetchrow(QUERY["contract_get"], values["contract_id"]) is None:
        raise BadInputError("contract_id", "请选择{title}", field="contract_id", title="合同")
    return values, org


async def _form_page(
    request: AnyRequest,
    connection: Connection,
    access: Access,
    form: Mapping[str, Any],
    *,
    kiosk: Any = None,
    error: AdminError | None = None,
    changes: Any = (),
) -> Response[str]:
    sites = await connection.fetch(QUERY["org_choices"], access.paths(_P.DEVICE_WRITE), "site", ORGS_MAX)
    contracts = await connection.fetch(QUERY["contract_list"])
    models = await connection.fetch(QUERY["model_list"])
    message, hint = told(error, language_of(request)) if error else ("", "")
    return page(
        request,
        "devices/kiosk_form.html",
        status=error.status if error else 200,
        kiosk=kiosk,
        form=form,
        sites={str(row["id"]): row["name"] for row in sites},
        models={str(row["id"]): f"{row['vendor']} {row['name']}" for row in models},
        contracts={str(row["id"]): f"{row['code']} {row['name']}" for row in contracts},
        changes=changes,
        titles=FIELD_TITLES,
        states=lifecycle.STATE_NAMES,
        wrong=error.field if error else "",
        message=message,
        hint=hint,
    )


@get("/kiosks/new", opt=needs(_P.DEVICE_WRITE))
async def kiosk_form(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    async with database.connection() as connection:
        return await _form_page(request, connection, access, {"org_id": request.query_params.get("org", "")})


@post("/kiosks/new", opt=needs(_P.DEVICE_WRITE))
async def kiosk_register(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    form = await form_of(request)
    try:
        async with database.transaction() as connection:
            values, org = await _form_values(connection, access, form)
            made = await add_kiosk(connection, access, values, org["path"])
    except (BadInputError, StateError) as error:
        async with database.connection() as connection:
            return await _form_page(request, connection, access, form, error=error)
    return go(f"/kiosks/{made}")


def _as_form(kiosk: Any) -> dict[str, str]:
    names = (
        *("code", "serial_number", "model_id", "org_id", "contract_id"),
        *("terminal_id", "line", "place", "bought_on"),
    )
    return {"version": str(kiosk["version"]), **{name: str(kiosk[name] or "") for name in names}}


@get("/kiosks/{kiosk_id:int}/edit", opt=needs(_P.DEVICE_WRITE))
async def kiosk_edit_form(request: AnyRequest, kiosk_id: Number, database: Data, access: Who) -> Response[Any]:
    async with database.connection() as connection:
        kiosk = await find_kiosk(connection, access.paths(_P.DEVICE_WRITE), kiosk_id)
        return await _form_page(request, connection, access, _as_form(kiosk), kiosk=kiosk)


@post("/kiosks/{kiosk_id:int}/edit", opt=needs(_P.DEVICE_WRITE))
async def kiosk_edit(request: AnyRequest, kiosk_id: Number, database: Data, access: Who) -> Response[Any]:
    form = await form_of(request)
    paths = access.paths(_P.DEVICE_WRITE)
    try:
        version = number(form, "version", "版本")
        async with database.transaction() as connection:
            kiosk = await find_kiosk(connection, paths, kiosk_id)
            values, _ = await _form_values(connection, access, form)
            await edit_kiosk(connection, access, kiosk, version, values)
    except (BadInputError, StateError) as error:
        async with database.connection() as connection:
            kiosk = await find_kiosk(connection, paths, kiosk_id)
            changes: Any = ()
            if error.code == "stale":
                changes = await connection.fetch(QUERY["kiosk_history"], kiosk_id, version, _HISTORY)
                form["version"] = str(kiosk["version"])  # whoever has read what happened may go on
            return await _form_page(request, connection, access, form, kiosk=kiosk, error=error, changes=changes)
    return go(f"/kiosks/{kiosk_id}")


# ---------------------------------------------------------------------------------------------------- one kiosk
@get("/kiosks/by-code/{code:str}", opt=needs(_P.DEVICE_READ))
async def kiosk_by_code(code: FromPath[str], database: Data, access: Who) -> Response[Any]:
    """For links of others who know the code alone."""
    async with database.connection() as connection:
        found = await connection.fetchval(QUERY["kiosk_by_code"], access.paths(_P.DEVICE_READ), code.upper())
    if found is None:
        raise NotFoundError("not_found", NOT_FOUND)
    return go(f"/kiosks/{found}")


@get("/kiosks/{kiosk_id:int}", opt=needs(_P.DEVICE_READ))
async def kiosk_page(request: AnyRequest, kiosk_id: Number, database: Data, access: Who) -> Response[Any]:
    return await show_kiosk(request, kiosk_id, database, access)


async def show_kiosk(
    request: AnyRequest,
    kiosk_id: int,
    database: Database,
    access: Access,
    *,
    error: AdminError | None = None,
    code: str = "",
) -> Response[str]:
    """Args:
    code: A one-time code that was just made: shown on this answer alone.
    """
    async with database.connection() as connection:
        kiosk = await find_kiosk(connection, access.paths(_P.DEVICE_READ), kiosk_id)
        history = await connection.fetch(QUERY["kiosk_history"], kiosk_id, 0, _HISTORY)
        gates = await onboarding.gates_of(connection, kiosk)
        standing = await service.standing(connection, kiosk)
        certificates = await connection.fetch(QUERY["certificate_now"], kiosk_id)
        open_code = await connection.fetchrow(QUERY["code_open"], kiosk_id)
        groups = await connection.fetch(QUERY["kiosk_groups"], access.paths(_P.DEVICE_WRITE), kiosk_id)
        proposed = await connection.fetchval(QUERY["proposed"], kiosk_id, kiosk["state_since"])
    now = datetime.now(UTC)
    left = lifecycle.trial_left(kiosk["state_since"], now) if kiosk["state"] == "trial" else None
    message, hint = told(error, language_of(request)) if error else ("", "")
    path = kiosk["org_path"]
    return page(
        request,
        "devices/kiosk.html",
        status=error.status if error else 200,
        one=kiosk,
        history=history,
        titles=FIELD_TITLES,
        gates=gates,
        standing=standing,
        active=next((row for row in certificates if row["state"] == "active"), None),
        waiting=next((row for row in certificates if row["state"] == "pending"), None),
        open_code=open_code,
        code=code,
        groups=groups,
        proposed=proposed,
        trial_left_s=max(0, int(left / timedelta(seconds=1))) if left is not None else None,
        states=lifecycle.STATE_NAMES,
        tones=lifecycle.STATE_TONES,
        steps=lifecycle.offered(kiosk["state"], kiosk["last_payable"]),
        step_title=lifecycle.title,
        units=onboarding.UNIT_NAMES,
        may_write=access.reaches(_P.DEVICE_WRITE, path),
        may_state=access.reaches(_P.DEVICE_STATE, path),
        may_enrol=access.reaches(_P.ENROL_MAKE, path),
        may_approve=access.reaches(_P.ENROL_APPROVE, path),
        wrong=error.field if error else "",
        message=message,
        hint=hint,
    )


@post("/kiosks/{kiosk_id:int}/state", opt=needs(_P.DEVICE_STATE))
async def kiosk_state(
    request: AnyRequest, kiosk_id: Number, database: Data, access: Who, switches: Switch
) -> Response[Any]:
    form = await form_of(request)
    try:
        ordered = await step_kiosk(
            database, access, kiosk_id, form.get("to", ""), reason=form.get("reason", ""),
            typed_code=form.get("typed_code", ""),
        )  # fmt: skip
    except (BadInputError, StateError) as error:
        return await show_kiosk(request, kiosk_id, database, access, error=error)
    if ordered:
        await service.carry_out_now(database, switches, kiosk_id)
    return go(f"/kiosks/{kiosk_id}")


@post("/kiosks/{kiosk_id:int}/service", opt=needs(_P.DEVICE_STATE))
async def kiosk_service(
    request: AnyRequest, kiosk_id: Number, database: Data, access: Who, switches: Switch
) -> Response[Any]:
    """Tell the switch again what the registry says: it was found otherwise."""
    form = await form_of(request)
    reason = form.get("reason", "").strip() or "as the registry says"
    return await _told_again(request, kiosk_id, database, access, switches, reason[:200])


async def _told_again(
    request: AnyRequest, kiosk_id: int, database: Database, access: Access, switches: Switches, reason: str
) -> Response[Any]:
    async with database.transaction() as connection:
        kiosk = await find_kiosk(connection, access.paths(_P.DEVICE_STATE), kiosk_id)
        if not kiosk["terminal_id"]:
            raise StateError("no_terminal", "这台终端还没有银联终端号")
        await put_order(connection, access, kiosk, kiosk["state"], reason)
        await audit(
            connection, access, "kiosk.service", "kiosk", kiosk_id, org_path=kiosk["org_path"], reason=reason,
            terminal=kiosk["terminal_id"], state=kiosk["state"],
        )  # fmt: skip
    await service.carry_out_now(database, switches, kiosk_id)
    return go(f"/kiosks/{kiosk_id}")


@post("/kiosks/{kiosk_id:int}/groups", opt=needs(_P.DEVICE_WRITE))
async def kiosk_groups(request: AnyRequest, kiosk_id: Number, database: Data, access: Who) -> Response[Any]:
    """The groups that are ticked, of those that this person may change."""
    data = await request.form()
    ticked = {int(each) for each in data.getall("group", []) if isinstance(each, str) and each.isdigit()}
    paths = access.paths(_P.DEVICE_WRITE)
    async with database.transaction() as connection:
        kiosk = await find_kiosk(connection, paths, kiosk_id)
        await acting(connection, access)
        groups = await connection.fetch(QUERY["kiosk_groups"], paths, kiosk_id)
        joined = [row for row in groups if row["id"] in ticked and not row["is_member"]]
        left = [row for row in groups if row["id"] not in ticked and row["is_member"]]
        for row in joined:
            codes = await connection.fetch(QUERY["group_join"], paths, row["id"], [kiosk["code"]])
            if not codes:
                raise StateError("group_scope", "分组“{name}”不包含这个网点", name=row["name"])
        for row in left:
            await connection.execute(QUERY["group_leave"], row["id"], kiosk_id)
        if joined or left:
            await audit(
                connection, access, "kiosk.groups", "kiosk", kiosk_id, org_path=kiosk["org_path"],
                joined=[row["name"] for row in joined], left=[row["name"] for row in left],
            )  # fmt: skip
    return go(f"/kiosks/{kiosk_id}")


HANDLERS = [
    *(kiosk_list, kiosk_form, kiosk_register, kiosk_by_code, kiosk_page, kiosk_edit_form, kiosk_edit),
    *(kiosk_state, kiosk_service, kiosk_groups),
]
