"""Admin's payments, made up: a province's kiosks and as many payments as asked for, loaded by COPY."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

CITIES: Final = 20
SITES: Final = 15  # of each city
KIOSKS: Final = 3  # of each site: 900 in all
ACCOUNTS: Final = 300_000
PER_DAY: Final = 40_000
_COLUMNS: Final = (
    *(
        "payment_id",
        "opened_on",
        "ver",
        "state",
        "final",
        "opened_at",
        "changed_at",
        "settled_on",
        "local_on",
        "amount",
    ),
    *(
        "kind",
        "bills",
        "terminal_id",
        "kiosk_id",
        "org_id",
        "org_path",
        "account_hash",
        "account_masked",
        "rrn",
        "batch",
    ),
    *("stan", "kiosk_serial", "card_first6", "card_last4", "response_code", "fault_source", "fault_code", "class"),
    *("total_ms", "card_ms", "bill_ms", "card_from_ms", "bill_from_ms", "charged", "reversed", "case_number"),
)
# Of a thousand: state, response code, source and class of failure.
_ENDS: Final = (
    (960, "COMPLETED", "00", None, "ok"),
    (22, "DECLINED", "51", "card", "customer"),
    (8, "DECLINED", "55", "card", "customer"),
    (4, "DECLINED", "91", "card", "issuer"),
    (4, "REVERSED", "", "row", "channel"),
    (1, "SUSPENSE", "00", "bill", "grid"),
    (1, "REVERSED", "00", "bill", "grid"),
)
_DRAWN: Final = tuple(end for end in _ENDS for _ in range(end[0]))


def account_hash(account: int) -> bytes:
    return account.to_bytes(16, "big")


def path(city: int, site: int) -> str:
    return f"/gdn/c{city:02d}/s{city:02d}-{site:02d}/"


async def make_places(connection: Any) -> None:
    """The province with its cities, sites and kiosks."""
    await connection.execute(
        "INSERT INTO admin.org (parent_id, kind, code, name, path) VALUES (1, 'province', 'gdn', '某省', '/gdn/');"
        "INSERT INTO admin.kiosk_model (vendor, name, units) VALUES ('某厂', 'K1', ARRAY['idc', 'pin'])"
    )
    for city in range(CITIES):
        await connection.execute(
            "INSERT INTO admin.org (parent_id, kind, code, name, path) SELECT id, 'city', $1, $1, $2 FROM admin.org "
            "WHERE code = 'gdn'",
            *(f"c{city:02d}", f"/gdn/c{city:02d}/"),
        )
    await connection.execute(
        "INSERT INTO admin.org (parent_id, kind, code, name, path) "
        "SELECT city.id, 'site', 's' || substr(city.code, 2) || '-' || lpad(site::text, 2, '0'), "
        "'营业厅 ' || site, city.path || 's' || substr(city.code, 2) || '-' || lpad(site::text, 2, '0') || '/' "
        "FROM admin.org AS city, generate_series(0, $1 - 1) AS site "
        "WHERE city.kind = 'city' AND city.path LIKE '/gdn/%'",
        SITES,
    )
    await connection.execute(
        "INSERT INTO admin.kiosk (code, serial_number, model_id, org_id, terminal_id, state) "
        "SELECT upper(site.code) || '-' || number, 'SN' || site.code || number, model.id, site.id, "
        "'T' || substr(site.code, 2, 2) || substr(site.code, 5, 2) || lpad(number::text, 3, '0'), 'in_service' "
        "FROM admin.org AS site, generate_series(0, $1 - 1) AS number, admin.kiosk_model AS model "
        "WHERE site.path LIKE '/gdn/%' AND site.kind = 'site'",
        KIOSKS,
    )


async def load(connection: Any, count: int, *, seed: int = 1, ends_at: datetime | None = None) -> None:
    """``count`` payments up to an instant, and statistics about them."""
    rows = await connection.fetch(
        "SELECT kiosk.id, terminal_id, org_id, org.path FROM admin.kiosk JOIN admin.org ON org.id = org_id "
        "ORDER BY kiosk.code"
    )
    places = [tuple(row) for row in rows]
    ends_at = ends_at or datetime(2026, 11, 24, 4, tzinfo=UTC)
    records = payments(random.Random(seed), count, places, ends_at)
    await connection.copy_records_to_table("payment_fact", schema_name="admin", columns=_COLUMNS, records=records)
    await connection.execute("VACUUM ANALYZE admin.payment_fact")
    await connection.execute("ANALYZE admin.kiosk_place")


def payments(
    dice: random.Random, count: int, places: list[tuple[Any, ...]], ends_at: datetime
) -> Iterator[tuple[Any, ...]]:
    """Oldest first, evenly over the days that so many take."""
    step_us = 86_400_000_000 // PER_DAY
    began = ends_at - timedelta(microseconds=step_us) * count
    last_day, days = 0, (date(2026, 1, 1), date(2026, 1, 1))
    for number in range(count):
        at = began + timedelta(microseconds=step_us) * number
        ms = int(at.timestamp() * 1000)
        day = (ms + 28_800_000) // 86_400_000
        if day != last_day:
            last_day, first = day, date(1970, 1, 1) + timedelta(days=day)
            days = (first, first + timedelta(days=1))
        local = days[0]
        kiosk, terminal, org, org_path = places[int(dice.random() ** 1.5 * len(places))]
        _, state, code, source, kind = _DRAWN[int(dice.random() * 1000)]
        charged = code == "00"
        card_ms, bill_ms = 300 + int(dice.random() * 900), 80 + int(dice.random() * 300)
        account = int(dice.random() * ACCOUNTS)
        amount = 100 * (1 + int(dice.random() ** 3 * 3000)) + int(dice.random() * 100)
        payment_id = ms << 22 | number & 0xFFF
        yield (
            *(payment_id, local.year * 10_000 + local.month * 100 + local.day, 3, state, state != "SUSPENSE", at, at),
            *(days[(ms + 28_800_000) % 86_400_000 >= 82_800_000], local, amount),
            *("payment" if dice.random() < 0.85 else "prepayment", 1, terminal, kiosk, org, org_path),
            *(account_hash(account), f"****{account % 10_000:04d}", f"{number:012d}" if code else "", "000001"),
            *(
                f"{number % 1_000_000:06d}",
                f"{number // 900 % 1_000_000:06d}",
                "622202",
                f"{account % 10_000:04d}",
                code,
            ),
            *(source, {"card": code, "bill": "29", "row": "6", None: None}[source], kind, card_ms + bill_ms, card_ms),
            *(bill_ms if charged else None, 2, card_ms + 2 if charged else None, charged, state == "REVERSED"),
            f"C{payment_id}" if state == "SUSPENSE" else "",
        )
