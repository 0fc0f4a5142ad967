"""Commands to a kiosk: sent by one person, or by two where they are dangerous; what came of them, with their files.

risk         who sends                              reason
----------   ------------------------------------   --------
low          whoever may send ordinary commands     none
mid          the same                               needed
high         one asks, another confirms             needed
critical     one asks, another confirms             needed
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from litestar import Response, get, post

from admin.auth.approval import ACTIONS, Action, Asked, ask
from admin.auth.audit import audit
from admin.auth.guard import needs
from admin.auth.permissions import Access, Permission
from admin.db.pool import Connection, Database
from admin.devices.given import Signer, Signing
from admin.devices.store import NOT_FOUND, QUERY, find_kiosk
from admin.devices.trust import orders
from admin.errors import AdminError, BadInputError, NoPermissionError, NotFoundError, StateError
from admin.limits import COMMANDS_SHOWN
from admin.web.forms import form_of
from admin.web.given import Data, Number, Options, Who
from admin.web.i18n import told
from admin.web.render import AnyRequest, download, go, language_of, page

_P: Final = Permission
NAMES: Final = {
    "diag.run": "运行自检",
    "time.sync": "校准时钟",
    "log.pull": "取日志",
    "ej.pull": "取电子流水",
    "content.refresh": "刷新内容",
    "config.refresh": "刷新配置",
    "screenshot": "截屏",
    "app.restart": "重启缴费程序",
    "os.reboot": "重启终端",
    "service.stop": "停止服务",
    "service.start": "恢复服务",
    "key.signon": "重新签到",
    "factory.wipe": "清除全部数据",
}
RISKS: Final = {"low": "低", "mid": "中", "high": "高", "critical": "极高"}
STATES: Final = {
    "queued": "等待终端",
    "delivered": "已送达",
    "running": "执行中",
    "done": "完成",
    "failed": "失败",
    "refused": "终端拒绝",
    "expired": "过期",
    "cancelled": "已撤销",
}
TONES: Final = {"done": "good", "failed": "bad", "refused": "bad", "expired": "warn", "running": "warn"}
FILES: Final = {"open": "上传中", "complete": "完整", "bad": "摘要不符"}
_ALONE: Final = ("low", "mid")  # one person is enough


class _Hand:
    """What signs; set when the application is made, because an approval is carried out far from any handler."""

    signing = Signing()


HAND: Final = _Hand()


@get("/kiosks/{kiosk_id:int}/commands", opt=needs(_P.DEVICE_READ))
async def command_page(request: AnyRequest, kiosk_id: Number, database: Data, access: Who) -> Response[Any]:
    return await _page(request, kiosk_id, database, access)


async def _page(
    request: AnyRequest,
    kiosk_id: int,
    database: Database,
    access: Access,
    *,
    form: Mapping[str, str] | None = None,
    error: AdminError | None = None,
) -> Response[str]:
    async with database.connection() as connection:
        kiosk = await find_kiosk(connection, access.paths(_P.DEVICE_READ), kiosk_id)
        sent = await connection.fetch(QUERY["commands_of"], kiosk_id, COMMANDS_SHOWN)
        files = await connection.fetch(QUERY["uploads_of"], kiosk_id, COMMANDS_SHOWN)
    message, hint = told(error, language_of(request)) if error else ("", "")
    may = {risk: access.reaches(_needed(risk), kiosk["org_path"]) for risk in RISKS}
    return page(
        request,
        "devices/commands.html",
        status=error.status if error else 200,
        one=kiosk,
        sent=sent,
        files=files,
        kinds={name: NAMES[name] for name, kind in orders.KINDS.items() if may[kind.risk]},
        dangerous=[NAMES[name] for name, kind in orders.KINDS.items() if kind.risk not in _ALONE],
        names=NAMES,
        risks=RISKS,
        states=STATES,
        tones=TONES,
        file_states=FILES,
        may_send=may["low"] or may["high"],
        form=form or {},
        wrong=error.field if error else "",
        message=message,
        hint=hint,
    )


def _needed(risk: str) -> Permission:
    return _P.COMMAND_LOW if risk in _ALONE else _P.COMMAND_HIGH


@post("/kiosks/{kiosk_id:int}/commands", opt=needs(_P.COMMAND_LOW))
async def command_send(
    request: AnyRequest, kiosk_id: Number, database: Data, access: Who, signing: Signer
) -> Response[Any]:
    """At once, or as a question to a second person when it is dangerous."""
    form = await form_of(request)
    name = form.get("type", "")
    try:
        kind = orders.KINDS.get(name)
        if kind is None:
            raise BadInputError("command_kind", "请选择命令", field="type")
        args = {each: form.get(each, "") for each in kind.arguments}
        reason = form.get("reason", "")
        authority = signing.need()
        async with database.transaction() as connection:
            paths = access.paths(_needed(kind.risk))
            kiosk = await find_kiosk(connection, paths, kiosk_id)
            if kind.risk not in _ALONE:
                orders.check(name, args)
                asked = await _ask(connection, access, kiosk, name, args, reason)
                return go(f"/approvals/{asked}")
            number = await orders.give(
                connection, authority, paths, kiosk_id, name, args, operator_id=access.operator_id, reason=reason
            )
            await _note(connection, access, kiosk["org_path"], kiosk_id, number, name, reason)
    except (BadInputError, StateError) as error:
        return await _page(request, kiosk_id, database, access, form=form, error=error)
    return go(f"/kiosks/{kiosk_id}/commands")


async def _ask(
    connection: Connection, access: Access, kiosk: Any, name: str, args: Mapping[str, str], reason: str
) -> int:
    return await ask(
        connection,
        access,
        GIVE,
        "kiosk",
        kiosk["id"],
        {"type": name, **args},
        summary=f"{kiosk['code']} · {NAMES[name]}",
        reason=reason,
        org_id=kiosk["org_id"],
        org_path=kiosk["org_path"],
    )


async def _note(
    connection: Connection, access: Access, org_path: str, kiosk_id: int, number: int, name: str, reason: str
) -> None:
    await audit(
        connection,
        access,
        "command.send",
        "kiosk",
        kiosk_id,
        org_path=org_path,
        reason=reason,
        command=number,
        type=name,
    )


async def _give(connection: Connection, asked: Asked, access: Access) -> str:
    """Signed in the name of whoever asked, with the approval's number beside it."""
    name = asked.payload["type"]
    args = {each: value for each, value in asked.payload.items() if each != "type"}
    kiosk_id = int(asked.object_id)
    number = await orders.give(
        connection,
        HAND.signing.need(),
        access.paths(_P.COMMAND_APPROVE),
        kiosk_id,
        name,
        args,
        operator_id=asked.maker_id,
        reason=asked.reason,
        approval_id=asked.id,
    )
    await _note(connection, access, asked.org_path, kiosk_id, number, name, asked.reason)
    return f"/kiosks/{kiosk_id}/commands"


async def _version(connection: Connection, number: str) -> int | None:
    version: int | None = await connection.fetchval(QUERY["kiosk_version"], int(number))
    return version


def _shown(field: str, value: Any) -> str:
    return NAMES.get(value, str(value)) if field == "type" else str(value)


GIVE: Final = Action(
    "command.give",
    "高风险命令",
    _P.COMMAND_HIGH,
    _P.COMMAND_APPROVE,
    _give,
    _version,
    fields={"type": "命令", "day": "日期"},
    show=_shown,
    page="/kiosks/{}",
)
ACTIONS.add(GIVE)


@post("/commands/{command_id:int}/cancel", opt=needs(_P.COMMAND_LOW))
async def command_cancel(command_id: Number, database: Data, access: Who) -> Response[Any]:
    """While the kiosk has not fetched it."""
    paths = access.paths(_P.COMMAND_LOW)
    async with database.transaction() as connection:
        row = await connection.fetchrow(QUERY["command_get"], paths, command_id)
        if row is None:
            raise NotFoundError("not_found", NOT_FOUND)
        if row["risk"] not in _ALONE and not access.reaches(_P.COMMAND_HIGH, row["org_path"]):
            raise NoPermissionError("no_permission", "您没有这项权限", hint="请联系安全管理员")
        await orders.cancel(connection, paths, command_id)
        await audit(
            connection, access, "command.cancel", "kiosk", row["kiosk_id"], org_path=row["org_path"], command=command_id
        )
    return go(f"/kiosks/{row['kiosk_id']}/commands")


@get("/commands/{command_id:int}/file", opt=needs(_P.COMMAND_LOW))
async def command_file(command_id: Number, database: Data, access: Who, config: Options) -> Response[Any]:
    """What the command brought, whole and as announced. Each look is in the audit log: logs tell about people."""
    async with database.transaction() as connection:
        row = await connection.fetchrow(QUERY["upload_get"], access.paths(_P.COMMAND_LOW), command_id)
        if row is None:
            raise NotFoundError("not_found", NOT_FOUND)
        await audit(
            connection, access, "command.file", "kiosk", row["kiosk_id"], org_path=row["org_path"], command=command_id
        )
    path = Path(config.device_api.upload_folder) / str(row["kiosk_id"]) / row["id"]
    try:
        body = await asyncio.to_thread(path.read_bytes)
    except OSError as error:
        raise StateError("file_gone", "文件已被清理", hint="请重新向终端取一次") from error
    return download(body, "application/octet-stream", f"{row['code']}-{row['kind']}-{command_id}.bin")


HANDLERS = [command_page, command_send, command_cancel, command_file]
