"""Commands to kiosks: a fixed list, each signed, each for a day at most. There is no shell among them.

The table says for each type how dangerous it is, which arguments it takes and who must agree. A kiosk has the same list
of its own and refuses everything else, whoever signed it.
"""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from admin import limits
from admin.db.pool import Connection, Database
from admin.db.queries import statements
from admin.devices.trust.authority import Authority
from admin.errors import BadInputError, NotFoundError, StateError

_QUERY = statements(__file__)
_SIGNED_AS: Final = b"gridswitch device command v1\n"  # what else this key may ever sign begins otherwise


@dataclass(frozen=True)
class Kind:
    """A type of command.

    Attributes:
        risk: low, mid, high, critical.
        arguments: Names of its arguments, all strings; all must be given.
        four_eyes: An approval is always needed.
        states: In which states of the kiosk; empty: in every one but retired.
    """

    risk: str
    arguments: tuple[str, ...] = ()
    four_eyes: bool = False
    states: tuple[str, ...] = ()


KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "diag.run": Kind("low"),
        "time.sync": Kind("low"),
        "log.pull": Kind("low", ("day",)),
        "ej.pull": Kind("low", ("day",)),
        "content.refresh": Kind("low"),
        "config.refresh": Kind("low"),
        "screenshot": Kind("mid"),
        "app.restart": Kind("mid"),
        "os.reboot": Kind("mid"),
        "service.stop": Kind("high"),
        "service.start": Kind("high"),
        "key.signon": Kind("high", four_eyes=True),
        "factory.wipe": Kind("critical", four_eyes=True, states=("retired",)),
    }
)


def canonical(command_id: int, kiosk: str, kind: str, args: Mapping[str, str], expires: datetime.datetime) -> bytes:
    """What is signed: one line that says for what, then JSON with sorted keys and no spaces.

    ``expires`` is UTC in whole seconds, ``2026-11-02T01:00:00Z``; all values are strings, so that no two programs can
    write the same number in two ways.
    """
    body = {"args": dict(args), "expires": instant(expires), "id": str(command_id), "kiosk": kiosk, "type": kind}
    return _SIGNED_AS + json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def instant(when: datetime.datetime) -> str:
    return when.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def check(kind: str, args: Mapping[str, str]) -> None:
    """Raises BadInputError as ``give`` would, before a second person is asked."""
    _check_args(KINDS[kind], args)


async def give(
    connection: Connection,
    authority: Authority,
    paths: Sequence[str],
    kiosk_id: int,
    kind: str,
    args: Mapping[str, str],
    *,
    operator_id: int,
    reason: str = "",
    approval_id: int | None = None,
    lifetime_s: int = limits.COMMAND_S,
) -> int:
    """Sign a command and put it where the kiosk's next beat finds it; its number. In the caller's transaction.

    Raises:
        BadInputError: ``command_kind``, ``command_args``, ``command_reason``.
        StateError: ``command_approval``: it needs four eyes; ``command_state``: not for a kiosk in this state;
            ``command_open``: too many wait already.
        NotFoundError: ``kiosk``: none, or outside of ``paths``.
    """
    rule = KINDS.get(kind)
    if rule is None:
        raise BadInputError("command_kind", "没有这种命令：{kind}", field="type", kind=kind)
    _check_args(rule, args)
    if rule.risk != "low" and len(reason.strip()) < 2:
        raise BadInputError("command_reason", "请填写原因（至少 2 个字）", field="reason")
    if rule.four_eyes and approval_id is None:
        raise StateError("command_approval", "此命令需要另一人批准")
    if not 0 < lifetime_s <= limits.COMMAND_S:
        raise BadInputError("command_lifetime", "有效期必须在 24 小时以内", field="lifetime")
    kiosk = await connection.fetchrow(_QUERY["command_kiosk"], list(paths), kiosk_id)
    if kiosk is None:
        raise NotFoundError("kiosk", "没有这台终端")
    if kiosk["state"] not in rule.states if rule.states else kiosk["state"] in ("retired", "registered", "pending"):
        raise StateError("command_state", "终端当前状态不能执行此命令")
    if kiosk["open"] >= limits.COMMANDS_OPEN_MAX:
        raise StateError("command_open", "此终端已有 {count} 条命令等待执行", count=kiosk["open"])
    row = await connection.fetchrow(
        _QUERY["command_add"],
        kiosk_id,
        kind,
        dict(args),
        rule.risk,
        reason.strip(),
        operator_id,
        approval_id,
        lifetime_s,
    )
    data = canonical(row["id"], kiosk["code"], kind, args, row["expires_at"])
    signature = await asyncio.to_thread(authority.sign_command, data)
    await connection.execute(_QUERY["command_sign"], row["id"], signature)
    return int(row["id"])


async def cancel(connection: Connection, paths: Sequence[str], command_id: int) -> None:
    """Raises StateError ``command_gone``: the kiosk has it, or it is over; NotFoundError ``command``."""
    state = await connection.fetchval(_QUERY["command_cancel"], list(paths), command_id)
    if state is None:
        raise NotFoundError("command", "没有这条命令")
    if state != "queued":
        raise StateError("command_gone", "命令已经下发，不能撤销")


async def expire(database: Database) -> dict[str, Any]:
    """Mark commands that came to nothing: their kiosk did not beat in time. A loop's work."""
    async with database.connection() as connection:
        return {"expired": await connection.fetchval(_QUERY["commands_old"])}


def _check_args(rule: Kind, args: Mapping[str, str]) -> None:
    if set(args) != set(rule.arguments):
        expected = ", ".join(rule.arguments) or "-"
        raise BadInputError("command_args", "参数应为：{expected}", field="args", expected=expected)
    if "day" in args:
        try:
            datetime.date.fromisoformat(args["day"])
        except ValueError:
            raise BadInputError("command_args", "日期格式应为 2026-11-02", field="day") from None
