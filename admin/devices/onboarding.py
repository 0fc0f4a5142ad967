"""Onboarding: gate by gate, who has seen what, what is next; and the communication check, hop by hop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from litestar import Response, get

from admin.auth.guard import needs
from admin.auth.permissions import Permission
from admin.config import Config
from admin.control import Switches
from admin.db.pool import Connection, Database
from admin.devices import gates as rules
from admin.devices import hops
from admin.devices.gates import Facts, Gate
from admin.devices.given import Switch
from admin.devices.store import QUERY, find_kiosk
from admin.errors import AdminError
from admin.limits import TRIAL_S
from admin.web.given import Data, Number, Options, Who
from admin.web.render import AnyRequest, page

_P = Permission
UNIT_NAMES: Final = {
    "idc": "读卡器",
    "pin": "密码键盘",
    "ptr": "凭条打印机",
    "ptr2": "发票打印机",
    "cim": "纸币模块",
    "scan": "扫码器",
    "nfc": "非接读卡器",
    "touch": "触摸屏",
    "ups": "不间断电源",
    "door": "机门",
    "cam": "摄像头",
}


@dataclass(frozen=True, slots=True)
class Gates:
    """All of a kiosk's, in the order in which they are passed; how many of them."""

    own: list[Gate]
    switch: list[Gate]

    @property
    def all(self) -> list[Gate]:
        return [*self.own[:1], *self.switch[:-1], *self.own[1:], self.switch[-1]]

    @property
    def passed(self) -> int:
        return sum(each.is_open for each in self.all)

    @property
    def are_ready(self) -> bool:
        """Nothing is missing but the service itself."""
        return all(each.is_open for each in self.all[:-1])


async def facts_of(connection: Connection, kiosk_id: int, units: list[str]) -> Facts:
    certificates = await connection.fetch(QUERY["certificate_now"], kiosk_id)
    status = await connection.fetchrow(QUERY["status_get"], kiosk_id)
    return Facts(datetime.now(UTC), units, status, certificates[0] if certificates else None)


async def gates_of(connection: Connection, kiosk: Any) -> Gates:
    facts = await facts_of(connection, kiosk["id"], kiosk["units"])
    passed = {
        row["gate"]: row for row in await connection.fetch(QUERY["gates_passed"], kiosk["id"], kiosk["commissioned_at"])
    }
    proved = await connection.fetch(QUERY["terminal_gates"], kiosk["terminal_id"] or "")
    return Gates(rules.own_gates(facts, passed), rules.switch_gates(proved))


async def note_gates(database: Database) -> dict[str, Any]:
    """One turn of the loop: what is seen to be open now is written down, once; trials that are over are proposed."""
    noted = 0
    async with database.connection() as connection:
        coming = await connection.fetch(QUERY["kiosks_coming"])
    for kiosk in coming:
        async with database.transaction() as connection:
            await connection.fetchval(QUERY["kiosk_lock"], kiosk["id"])
            facts = await facts_of(connection, kiosk["id"], kiosk["units"])
            rows = await connection.fetch(QUERY["gates_passed"], kiosk["id"], kiosk["commissioned_at"])
            passed = {row["gate"] for row in rows}
            for name, judge in rules.JUDGES.items():
                verdict = judge(facts)
                if verdict.ok and name not in passed:
                    await connection.execute(QUERY["gate_add"], kiosk["id"], name, verdict.text, verdict.values)
                    noted += 1
    async with database.transaction() as connection:
        proposed = await connection.fetch(QUERY["propose"], TRIAL_S)
    return {"looked_at": len(coming), "passed": noted, "proposed": len(proposed)}


@get("/kiosks/{kiosk_id:int}/onboarding", opt=needs(_P.DEVICE_READ))
async def onboarding_page(request: AnyRequest, kiosk_id: Number, database: Data, access: Who) -> Response[Any]:
    async with database.connection() as connection:
        kiosk = await find_kiosk(connection, access.paths(_P.DEVICE_READ), kiosk_id)
        found = await gates_of(connection, kiosk)
    may_state = access.reaches(_P.DEVICE_STATE, kiosk["org_path"])
    return page(
        request,
        "devices/onboarding.html",
        one=kiosk,
        gates=found,
        may_state=may_state,
        words=rules.SWITCH_PROOFS,
        units=UNIT_NAMES,
    )


# ---------------------------------------------------------------------------------------------------- communication
@get("/kiosks/{kiosk_id:int}/communication", opt=needs(_P.DEVICE_READ))
async def communication_page(
    request: AnyRequest, kiosk_id: Number, database: Data, access: Who, switches: Switch, config: Options
) -> Response[Any]:
    """Every hop is tried now, by us; the answer says where it breaks."""
    async with database.connection() as connection:
        kiosk = await find_kiosk(connection, access.paths(_P.DEVICE_READ), kiosk_id)
        status = await connection.fetchrow(QUERY["status_get"], kiosk_id)
        terminal = await connection.fetchrow(QUERY["terminal_says"], kiosk["terminal_id"] or "")
        proved = await connection.fetch(QUERY["terminal_gates"], kiosk["terminal_id"] or "")
        certificates = await connection.fetch(QUERY["certificate_now"], kiosk_id)
    door, heard = await asyncio.gather(_door(config), heard_of(switches, kiosk["terminal_id"]))
    facts = hops.Facts(
        now=datetime.now(UTC),
        door=door,
        has_certificate=any(row["state"] == "active" for row in certificates),
        status=status,
        terminal_id=kiosk["terminal_id"],
        terminal=terminal,
        gates={row["gate"]: row["proved_at"] for row in proved},
        stage=proved[0]["stage"] if proved else "",
        heard=heard,
    )
    found = hops.walk(facts)
    return page(
        request, "devices/communication.html", one=kiosk, hops=found,
        broken=next((each for each in found if each.state == "bad"), None),
    )  # fmt: skip


async def _door(config: Config) -> hops.Door:
    host, port = hops.door_address(config)
    return await hops.try_door(host, port) if host else hops.Door()


async def heard_of(switches: Switches, terminal_id: str | None) -> hops.Heard:
    """What all workers together say of a terminal: the latest word counts."""
    if terminal_id is None:
        return hops.Heard(asked=False)
    found: list[dict[str, Any]] = []
    answered = False
    for path in switches.paths:
        try:
            found += await hops.heard_by(switches, path, terminal_id)
            answered = True
        except AdminError:
            continue
    if not answered:
        return hops.Heard(asked=bool(switches.paths), answered=False)
    ages = [row["heard_s"] for row in found if row["heard_s"] is not None]
    echoes = [row["echo_s"] for row in found if row["echo_s"] is not None]
    return hops.Heard(
        answered=True,
        heard_s=min(ages, default=None),
        echo_s=min(echoes, default=None),
        signed_on=any(row["signed_on"] for row in found),
        has_line=any(row["has_line"] for row in found),
    )


HANDLERS = [onboarding_page, communication_page]
