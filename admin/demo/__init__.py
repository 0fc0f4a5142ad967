"""What a demo, a newcomer or a test shows: organisations, halls, a kiosk for each terminal of the switch, and people.

Development only: the people's second factor can be read here with ``gridswitch admin code``.
"""

from __future__ import annotations

import secrets
from typing import Any, Final

from admin.auth.audit import audit
from admin.auth.password import Passwords
from admin.auth.permissions import Role
from admin.auth.secrets import Secrets, new_totp
from admin.db.pool import Connection
from admin.db.queries import statements
from admin.operators import store

_QUERY = statements(__file__)
# parent, kind, code, name; a site takes every so many kiosks.
ORGS: Final = (
    ("root", "province", "gd", "广东"),
    ("gd", "city", "gz", "广州供电局"),
    ("gd", "city", "sz", "深圳供电局"),
    ("gz", "site", "gz-tianhe", "天河营业厅"),
    ("gz", "site", "gz-yuexiu", "越秀营业厅"),
    ("gz", "site", "gz-haizhu", "海珠营业厅"),
    ("sz", "site", "sz-nanshan", "南山营业厅"),
    ("sz", "site", "sz-futian", "福田营业厅"),
)
# One of each that a demo needs; whom one asks, another confirms.
PEOPLE: Final = (
    ("ops", "陈运维", Role.OPERATIONS),
    ("ops2", "林运维", Role.OPERATIONS),
    ("fin", "周财务", Role.FINANCE),
    ("fin2", "吴财务", Role.FINANCE),
    ("boss", "王系统", Role.SYSTEM_ADMINISTRATOR),
    ("sec", "李安全", Role.SECURITY_ADMINISTRATOR),
    ("sec2", "郑安全", Role.SECURITY_ADMINISTRATOR),
    ("audit", "孙审计", Role.AUDITOR),
    ("market", "黄市场", Role.MARKETING),
    ("field", "何现场", Role.FIELD_ENGINEER),
)


async def fill(connection: Connection, passwords: Passwords, own: Secrets, password: str) -> int:
    """Everything above that is not there yet; all people get ``password``. Returns how many kiosks were added."""
    hashed = await passwords.hash(password)
    async with connection.transaction():
        for parent, kind, code, name in ORGS:
            await connection.execute(_QUERY["demo_org"], parent, kind, code, name)
        await connection.execute(_QUERY["demo_model"])
        added: int = await connection.fetchval(_QUERY["demo_kiosks"])
        root = await connection.fetchrow(store.QUERY["org_by_code"], "root")
        for login, name, role in PEOPLE:
            await _person(connection, login, name, role, root["id"], hashed, own)
        await audit(connection, "cli:demo", "demo.fill", detail_kiosks=added)
    return added


async def _person(
    connection: Connection, login: str, name: str, role: Role, org_id: int, hashed: str, own: Secrets
) -> None:
    number = await connection.fetchval(store.QUERY["operator_by_login"], login)
    if number is None:
        number = await store.create(
            connection, login=login, name=name, employer="grid", org_id=org_id, email="", phone="", by=None
        )
        await store.add_grant(
            connection,
            operator_id=number,
            role=role,
            org_id=org_id,
            valid_from=None,
            valid_to=None,
            by=None,
            approval=None,
        )
    await connection.execute(_QUERY["demo_person"], number, hashed, own.seal(new_totp(), f"totp {number}"))


def new_password() -> str:
    """For one run of a demo."""
    words = ("lantern", "river", "copper", "window", "meadow", "signal", "harbour", "velvet", "granite", "orchard")
    return "-".join(secrets.choice(words) for _ in range(3)) + f"-{secrets.randbelow(90) + 10}"


async def totp_secret(connection: Connection, own: Secrets, login: str) -> bytes | None:
    """None: no such person, or no second factor yet."""
    row: Any = await connection.fetchrow(_QUERY["demo_totp"], login)
    return None if row is None or row["totp_secret"] is None else own.open(row["totp_secret"], f"totp {row['id']}")
