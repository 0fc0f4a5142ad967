"""That the switch does what the registry says: orders for its terminals, told until it says yes, and what it says.

An order that was carried out is over. If the switch is found otherwise later, somebody decided so at its console: that
is shown, and a person tells it again or not. Nothing here overrules silently.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from admin import limits
from admin.control import RefusedError, Switches
from admin.db.pool import Connection, Database
from admin.devices.lifecycle import PAYABLE
from admin.devices.store import QUERY
from admin.errors import AdminError


async def carry_out(database: Database, switches: Switches, order: Any) -> bool:
    """One try; what came of it is written down. True: the switch did it."""
    done, code, text = True, "", ""
    try:
        await switches.any(do="service", terminal=order["terminal_id"], on=order["in_service"], reason=order["reason"])
    except RefusedError as error:
        done, code, text = False, error.switch_code or error.code, error.said
    except AdminError as error:
        done, code, text = False, error.code, error.message
    async with database.transaction() as connection:
        if not done:
            # It may have been done although nobody said so, or by somebody else: the switch's own row decides.
            said = await connection.fetchrow(QUERY["terminal_says"], order["terminal_id"])
            done = said is not None and said["in_service"] == order["in_service"]
        await connection.execute(
            QUERY["order_tried"], order["kiosk_id"], order["asked_at"], done, "" if done else code, "" if done else text
        )
    return done


async def carry_out_now(database: Database, switches: Switches, kiosk_id: int) -> bool:
    """For the person who waits in front of the page."""
    async with database.connection() as connection:
        order = await connection.fetchrow(QUERY["order_get"], kiosk_id)
    return order is None or order["done_at"] is not None or await carry_out(database, switches, order)


async def retry(database: Database, switches: Switches) -> dict[str, Any]:
    """One turn of the loop: what is due, told again."""
    async with database.connection() as connection:
        due = await connection.fetch(
            QUERY["order_due"], limits.SERVICE_RETRY_S, limits.SERVICE_RETRY_MAX_S, limits.SERVICE_ORDERS_MAX
        )
    done = 0
    for order in due:
        done += await carry_out(database, switches, order)
    return {"due": len(due), "done": done}


@dataclass(frozen=True, slots=True)
class Standing:
    """What the registry wants of the switch, and what that says.

    Attributes:
        kind: "none" (no terminal), "unknown" (the switch has no such terminal), "agrees", "pending" (told, not done),
            "differs" (done once, and otherwise now).
    """

    kind: str
    wanted: bool
    says: bool | None
    reason: str
    tries: int = 0
    tried_at: datetime | None = None
    error_code: str = ""
    error: str = ""


async def standing(connection: Connection, kiosk: Any) -> Standing:
    wanted = kiosk["state"] in PAYABLE
    if kiosk["terminal_id"] is None:
        return Standing("none", wanted, None, "")
    said = await connection.fetchrow(QUERY["terminal_says"], kiosk["terminal_id"])
    if said is None:
        return Standing("unknown", wanted, None, "")
    says, reason = said["in_service"], said["out_of_service_reason"]
    if says == wanted:
        return Standing("agrees", wanted, says, reason)
    order = await connection.fetchrow(QUERY["order_get"], kiosk["id"])
    if order is not None and order["done_at"] is None:
        return Standing(
            "pending", wanted, says, reason, order["tries"], order["tried_at"], order["error_code"], order["error"]
        )
    return Standing("differs", wanted, says, reason)
