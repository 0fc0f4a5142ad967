"""What the database itself refuses, whatever the code above it does."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest


@pytest.fixture
def kiosk(admin_dsn: str) -> str:
    """A database with one kiosk, id 1, and two operators, 1 and 2."""
    asyncio.run(
        _execute(
            admin_dsn,
            """
            INSERT INTO admin.operator (login, name, employer, org_id, password_hash)
            VALUES ('first', '甲', 'vendor', 1, ''), ('second', '乙', 'vendor', 1, '');
            INSERT INTO admin.kiosk_model (vendor, name, units) VALUES ('v', 'm', '{idc,ptr}');
            INSERT INTO admin.kiosk (code, serial_number, model_id, org_id) VALUES ('K-1', 'SN1', 1, 1);
            INSERT INTO admin.enrolment_code (kiosk_id, code_sha256, issued_by, expires_at)
            VALUES (1, sha256('code'), 1, now() + interval '1 day');
            """,
        )
    )
    return admin_dsn


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


_CERTIFICATE = """
    INSERT INTO admin.kiosk_certificate (kiosk_id, state, origin, spki_sha256, request, certificate, serial, not_before,
        not_after, code_id, issued_by, approved_by)
    VALUES (1, 'active', 'enrolment', sha256('key'), 'csr', 'der', '01', now(), now() + interval '90 days', 1, 1, {})
"""


def test_who_issued_the_code_cannot_approve_the_key(kiosk: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match="second_person"):
        asyncio.run(_execute(kiosk, _CERTIFICATE.format("1")))


def test_no_enrolled_key_works_without_an_approver(kiosk: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match="enrolled_by_two"):
        asyncio.run(_execute(kiosk, _CERTIFICATE.format("NULL")))
    asyncio.run(_execute(kiosk, _CERTIFICATE.format("2")))


def test_a_command_lives_for_a_day_at_most(kiosk: str) -> None:
    command = """
        INSERT INTO admin.kiosk_command (kiosk_id, type, risk, created_by, signature, expires_at)
        VALUES (1, 'time.sync', 'low', 1, decode(repeat('00', 64), 'hex'), now() + interval '{}')
    """
    with pytest.raises(asyncpg.CheckViolationError, match="a_day_at_most"):
        asyncio.run(_execute(kiosk, command.format("25 hours")))
    asyncio.run(_execute(kiosk, command.format("24 hours")))


def test_wiping_needs_an_approval(kiosk: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match="wiped_by_two"):
        asyncio.run(
            _execute(
                kiosk,
                """
                INSERT INTO admin.kiosk_command (kiosk_id, type, risk, reason, created_by, signature, expires_at)
                VALUES (1, 'factory.wipe', 'critical', 'test', 1, decode(repeat('00', 64), 'hex'),
                    now() + interval '1 h')
                """,
            )
        )


def test_the_service_cannot_rewrite_events(kiosk: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        asyncio.run(_execute(kiosk, "SET ROLE gridswitch_admin; UPDATE admin.kiosk_event SET severity = 'info'"))
