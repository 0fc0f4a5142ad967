"""A small fleet in the database: what devices, agents and the feed would have written."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import asyncpg
import pytest

PAYMENTS: Final = """
INSERT INTO admin.payment_fact (
    payment_id, opened_on, ver, state, final, opened_at, changed_at, settled_on, local_on, amount, kind, bills,
    terminal_id, kiosk_id, org_id, org_path, account_hash, account_masked, batch, stan, kiosk_serial, card_first6,
    card_last4, class, card_from_ms, charged, reversed)
SELECT ($2::bigint + n * $6::bigint << 22) + (SELECT count(*) FROM admin.payment_fact) + n, 20261101, 3,
       CASE WHEN $3::text = 'ok' THEN 'COMPLETED' WHEN $3 IS NULL THEN 'CARD_PENDING' ELSE 'DECLINED' END,
       $3 IS NOT NULL, opened.at, opened.at + interval '2 seconds', opened.at::date,
       (opened.at AT TIME ZONE 'Asia/Shanghai')::date, $4, 'payment', 1, kiosk.terminal_id, kiosk.id, org.id, org.path,
       substr(sha256('a'), 1, 16), '****0001', '000001', '000001', '000001', '622200', '0001', $3, 0, true, false
  FROM generate_series(0, $5::integer - 1) AS n, admin.kiosk JOIN admin.org ON org.id = kiosk.org_id,
       LATERAL (SELECT to_timestamp(($2::bigint + n * $6::bigint) / 1e3) AS at) AS opened
 WHERE kiosk.id = $1
"""


class Fleet:
    """Writes as the owner of the database, what other slices write."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    async def run(self, text: str, *values: Any) -> Any:
        connection = await asyncpg.connect(self.dsn)
        try:
            return await connection.fetch(text, *values)
        finally:
            await connection.close()

    async def build(self, kiosks: int, per_site: int = 2, state: str = "in_service") -> list[int]:
        """One city with sites of so many kiosks. Returns their numbers; terminal ids are T0000001 …"""
        await self.run(
            "INSERT INTO admin.org (parent_id, kind, code, name, path)"
            " SELECT city.id, 'site', 's' || n, '营业厅' || n, city.path || 's' || n || '/'"
            "   FROM generate_series(1, $1::integer) AS n, admin.org AS city WHERE city.code = 'gz'",
            -(-kiosks // per_site),
        )
        await self.run("INSERT INTO admin.kiosk_model (vendor, name, units) VALUES ('广电', 'K1', '{idc,pin,ptr}')")
        rows = await self.run(
            "INSERT INTO admin.kiosk (code, serial_number, model_id, org_id, terminal_id, state, state_since, line)"
            " SELECT 'K' || lpad(n::text, 6, '0'), 'SN' || n, 1,"
            "        (SELECT id FROM admin.org WHERE code = 's' || (n - 1) / $2 + 1), 'T' || lpad(n::text, 7, '0'), $3,"
            "        now() - interval '100 days', ''"
            "   FROM generate_series(1, $1::integer) AS n RETURNING id",
            kiosks,
            per_site,
            state,
        )
        return [row["id"] for row in rows]

    async def beat(self, kiosks: Sequence[int], seconds: float = 10, units: str = '{"idc": "online"}') -> None:
        await self.run(
            "INSERT INTO admin.kiosk_status (kiosk_id, beat_at, units)"
            " SELECT id, now() - make_interval(secs => $2), $3::jsonb FROM unnest($1::bigint[]) AS id"
            " ON CONFLICT (kiosk_id) DO UPDATE SET beat_at = excluded.beat_at, units = excluded.units",
            kiosks,
            seconds,
            units,
        )

    async def pay(
        self,
        kiosk: int,
        at: datetime,
        *,
        class_: str | None = "ok",
        fen: int = 100_00,
        count: int = 1,
        every_ms: int = 1000,
    ) -> None:
        """``count`` payments from ``at`` on, each ended two seconds after it began; class None: still under way."""
        await self.run(
            PAYMENTS,
            kiosk,
            int(at.timestamp() * 1000),
            class_,
            fen,
            count,
            every_ms,
        )


@pytest.fixture
def fleet(admin_dsn: str) -> Fleet:
    return Fleet(admin_dsn)
