"""Organisations and kiosks in the database, and the acts on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from admin.auth.approval import ACTIONS, Action, Asked
from admin.auth.audit import audit
from admin.auth.permissions import Access, Permission
from admin.db.pool import Connection, Database
from admin.db.queries import statements
from admin.devices import lifecycle
from admin.devices.gates import SWITCH_GATES
from admin.errors import BadInputError, NoPermissionError, NotFoundError, StateError

QUERY = statements(__file__)
NOT_FOUND: Final = "没有这个对象，或不在您的范围内"
ORG_KINDS: Final = {"network": "全网", "province": "省", "city": "市", "county": "县区", "site": "营业厅"}
_RANK: Final = {kind: rank for rank, kind in enumerate(ORG_KINDS)}
_P = Permission

# Master data of a kiosk: name in forms and history, and what people call it.
FIELD_TITLES: Final = {
    "code": "终端编号",
    "serial_number": "出厂序列号",
    "model": "型号",
    "org": "网点",
    "contract": "合同",
    "terminal_id": "银联终端号",
    "line": "线路",
    "place": "摆放位置",
    "bought_on": "购置日期",
}


async def acting(connection: Connection, access: Access) -> None:
    """From here on, what this transaction changes carries this person's name."""
    await connection.execute(QUERY["actor"], access.actor)


# ---------------------------------------------------------------------------------------------------- organisations
async def org_in_scope(connection: Connection, paths: Sequence[str], number: int, *, lock: bool = False) -> Any:
    row = await connection.fetchrow(QUERY["org_lock" if lock else "org_find"], list(paths), number)
    if row is None:
        raise NotFoundError("not_found", NOT_FOUND)
    return row


def kinds_under(kind: str) -> dict[str, str]:
    """What may stand below an organisation of this kind: whatever is smaller."""
    return {each: name for each, name in ORG_KINDS.items() if _RANK[each] > _RANK[kind]}


async def add_org(connection: Connection, access: Access, parent: Any, values: Mapping[str, str]) -> int:
    """Raises BadInputError, StateError (``org_taken``, ``org_closed``)."""
    if values["kind"] not in kinds_under(parent["kind"]):
        raise BadInputError("kind", "“{kind}”不能设在这个上级之下", field="kind", kind=ORG_KINDS[values["kind"]])
    if parent["closed"]:
        raise StateError("org_closed", "上级组织已经关闭", field="parent_id")
    code = values["code"]
    path = f"{parent['path']}{code}/"
    try:
        number: int = await connection.fetchval(
            QUERY["org_add"],
            *(parent["id"], values["kind"], code, values["name"], path),
            *(values["address"], values["opens_at"], values["closes_at"]),
        )
    except asyncpg.UniqueViolationError as error:
        raise StateError("org_taken", "组织编码“{used}”已被使用", field="code", used=code) from error
    except asyncpg.CheckViolationError as error:
        raise BadInputError("code", "组织编码只能用小写字母、数字、横线和下划线，最多 24 位", field="code") from error
    await audit(connection, access, "org.create", "org", number, org_path=path, **values)
    return number


async def close_org(connection: Connection, access: Access, org: Any, *, closed: bool, reason: str) -> None:
    """Raises StateError ``org_in_use`` while something stands in it."""
    if org["path"] == "/":
        raise StateError("org_root", "最高一级组织不能关闭")
    if closed and (org["children"] or org["kiosks"]):
        raise StateError("org_in_use", "该组织下还有组织或未退役的终端，不能关闭", hint="请先迁走或关闭它们")
    await connection.execute(QUERY["org_close"], org["id"], closed)
    action = "org.close" if closed else "org.open"
    await audit(connection, access, action, "org", org["id"], org_path=org["path"], reason=reason)


def refuse_move(org: Any, parent: Any) -> None:
    """Raises StateError ``org_move`` for a place where this organisation cannot stand."""
    if org["path"] == "/":
        raise StateError("org_move", "最高一级组织不能迁移")
    if parent["path"].startswith(org["path"]):
        raise StateError("org_move", "不能迁到自己的下级之下")
    if parent["id"] == org["parent_id"]:
        raise StateError("org_move", "它已经在这个上级之下")
    if parent["closed"]:
        raise StateError("org_move", "目标上级已经关闭")
    if org["kind"] not in kinds_under(parent["kind"]):
        raise StateError("org_move", "“{kind}”不能设在这个上级之下", kind=ORG_KINDS[org["kind"]])


async def _org_version(connection: Connection, number: str) -> int | None:
    row = await connection.fetchrow(QUERY["org_row"], int(number))
    return row["version"] if row else None


async def _move_org(connection: Connection, asked: Asked, access: Access) -> str:
    org = await connection.fetchrow(QUERY["org_row"], int(asked.object_id))
    parent = await connection.fetchrow(QUERY["org_row"], asked.payload["parent_id"])
    if org is None or parent is None:
        raise NotFoundError("not_found", NOT_FOUND)
    refuse_move(org, parent)
    if parent["path"] != asked.payload["parent_path"]:
        raise StateError("org_move", "目标上级在申请之后被迁移，请重新申请")
    if not access.reaches(_P.GRANT_APPROVE, parent["path"]):
        raise NoPermissionError("no_permission", "目标上级不在您的复核范围内")
    path = f"{parent['path']}{org['code']}/"
    await connection.execute(QUERY["org_moved"], org["id"], parent["id"], org["path"], path)
    await audit(connection, access, "org.move", "org", org["id"], org_path=path, before=org["path"], after=path)
    return f"/orgs/{org['id']}"


# Who may see what follows the path: a security administrator confirms it.
MOVE_ORG = Action("org.move", "迁移组织", _P.ORG_WRITE, _P.GRANT_APPROVE, _move_org, _org_version)
ACTIONS.add(MOVE_ORG)


# ---------------------------------------------------------------------------------------------------- kiosks
async def find_kiosk(connection: Connection, paths: Sequence[str], number: int) -> Any:
    row = await connection.fetchrow(QUERY["kiosk_find"], list(paths), number)
    if row is None:
        raise NotFoundError("not_found", NOT_FOUND)
    return row


def _taken(error: asyncpg.UniqueViolationError) -> StateError:
    name = next((each for each in ("serial_number", "terminal_id") if each in (error.constraint_name or "")), "code")
    return StateError("taken", "{title}已被另一台终端使用", field=name, title=FIELD_TITLES[name])


def _misspelt(error: asyncpg.CheckViolationError) -> BadInputError:
    name = error.constraint_name or ""
    if "terminal_id" in name:
        return BadInputError("terminal_id", "银联终端号为 8 位字母或数字", field="terminal_id")
    if "serial_number" in name:
        return BadInputError("serial_number", "出厂序列号为 3 到 40 个字符", field="serial_number")
    return BadInputError("code", "终端编号为 3 到 24 位大写字母、数字或横线", field="code")


async def add_kiosk(connection: Connection, access: Access, values: Mapping[str, Any], org_path: str) -> int:
    """``values`` as ``kiosk_values`` gives them. Raises StateError ``taken``, BadInputError."""
    await acting(connection, access)
    try:
        number: int = await connection.fetchval(QUERY["kiosk_add"], *_row(values))
    except asyncpg.UniqueViolationError as error:
        raise _taken(error) from error
    except asyncpg.CheckViolationError as error:
        raise _misspelt(error) from error
    await audit(
        connection, access, "kiosk.register", "kiosk", number, org_path=org_path, code=values["code"],
        serial_number=values["serial_number"], terminal_id=values["terminal_id"],
    )  # fmt: skip
    return number


def _row(values: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        *(values["code"], values["serial_number"], values["model_id"], values["org_id"], values["contract_id"]),
        *(values["terminal_id"], values["line"], values["place"], values["bought_on"]),
    )


async def edit_kiosk(
    connection: Connection, access: Access, kiosk: Any, version: int, values: Mapping[str, Any]
) -> None:
    """Change master data.

    Raises:
        StateError: ``stale``: somebody was faster; ``.values["changes"]`` has their rows of history. ``retired``;
            ``terminal_in_use``: the terminal of a kiosk that takes payments stays. ``taken``.
    """
    if kiosk["state"] == "retired":
        raise StateError("retired", "终端已退役，档案不能再修改")
    if kiosk["state"] in lifecycle.PAYABLE and values["terminal_id"] != kiosk["terminal_id"]:
        raise StateError(
            "terminal_in_use", "正在缴费的终端不能更换银联终端号", hint="请先暂停服务或转入维护", field="terminal_id"
        )
    await acting(connection, access)
    try:
        done = await connection.fetchval(QUERY["kiosk_edit"], kiosk["id"], version, *_row(values))
    except asyncpg.UniqueViolationError as error:
        raise _taken(error) from error
    except asyncpg.CheckViolationError as error:
        raise _misspelt(error) from error
    if done is None:
        raise StateError("stale", "您打开之后，别人已经修改了这份档案", hint="下面是别人改了什么；核对后可以再次提交")
    rows = await connection.fetch(QUERY["kiosk_history"], kiosk["id"], version, 1)
    await audit(
        connection, access, "kiosk.edit", "kiosk", kiosk["id"], org_path=kiosk["org_path"],
        changes=rows[0]["changes"] if rows else {},
    )  # fmt: skip


async def step_kiosk(
    database: Database, access: Access, number: int, to_state: str, *, reason: str, typed_code: str = ""
) -> bool:
    """One step of a kiosk's life, with the order that the switch gets for it; True: there is one to carry out.

    Raises:
        NotFoundError. BadInputError: no reason, or the code that a retirement wants typed is another. StateError:
        ``step`` (audited as denied), ``gates``, ``trial_short``.
    """
    reason = reason.strip()
    paths = access.paths(_P.DEVICE_STATE)
    try:
        async with database.transaction() as connection:
            kiosk = await find_kiosk(connection, paths, number)
            await connection.fetchval(QUERY["kiosk_lock"], number)
            kiosk = await find_kiosk(connection, paths, number)
            if not 2 <= len(reason) <= 500:
                raise BadInputError("reason", "请填写理由（2 到 500 字）", field="reason")
            lifecycle.refuse_illegal(kiosk["state"], to_state, kiosk["last_payable"])
            if to_state == "retired" and typed_code.strip().upper() != kiosk["code"]:
                raise BadInputError("typed_code", "请输入终端编号以确认退役", field="typed_code")
            await _refuse_early(connection, kiosk, to_state)
            await acting(connection, access)
            await connection.execute(QUERY["kiosk_step"], number, kiosk["state"], to_state, reason)
            ordered = bool(kiosk["terminal_id"]) and lifecycle.order_needed(kiosk["state"], to_state)
            if ordered:
                await put_order(connection, access, kiosk, to_state, reason)
            await audit(
                connection, access, "kiosk.state", "kiosk", number, org_path=kiosk["org_path"], reason=reason,
                before=kiosk["state"], after=to_state,
            )  # fmt: skip
    except StateError as error:
        async with database.transaction() as connection:
            await audit(
                connection, access, "kiosk.state", "kiosk", number, org_path=kiosk["org_path"], result="denied",
                reason=reason, before=kiosk["state"], after=to_state, why=error.code,
            )  # fmt: skip
        raise
    return ordered


async def put_order(connection: Connection, access: Access, kiosk: Any, state: str, reason: str) -> None:
    """The switch is to be told what this state means for the kiosk's terminal."""
    on = state in lifecycle.PAYABLE
    await connection.execute(
        QUERY["order_put"],
        *(kiosk["id"], kiosk["terminal_id"], on, lifecycle.switch_reason(state, reason), access.actor),
    )


async def _refuse_early(connection: Connection, kiosk: Any, to_state: str) -> None:
    if kiosk["state"] == "commissioning" and to_state == "trial":
        missing = await missing_gates(connection, kiosk)
        if missing:
            raise StateError(
                "gates",
                "还有 {count} 道入网关卡没有通过，不能开始试运行",
                hint="请到“入网进度”页查看",
                count=len(missing),
            )
    if kiosk["state"] == "trial" and to_state == "in_service":
        left = lifecycle.trial_left(kiosk["state_since"], datetime.now(UTC))
        if left > timedelta(0):
            hours = int(left / timedelta(hours=1)) + 1
            raise StateError("trial_short", "试运行未满 72 小时，还差约 {hours} 小时", hours=hours)


async def missing_gates(connection: Connection, kiosk: Any) -> list[str]:
    """Gates in front of a trial that are not passed: the switch's up to its last but one, and all of admin's."""
    passed = {
        row["gate"] for row in await connection.fetch(QUERY["gates_passed"], kiosk["id"], kiosk["commissioned_at"])
    }
    missing = [name for name in ("certificate", "clock", "peripherals", "monitor") if name not in passed]
    proved = await connection.fetch(QUERY["terminal_gates"], kiosk["terminal_id"] or "")
    if proved and proved[0]["stage"] == SWITCH_GATES[-1]:
        return missing
    seen = {row["gate"] for row in proved}
    return [*(name for name in SWITCH_GATES[:-1] if name not in seen), *missing]
