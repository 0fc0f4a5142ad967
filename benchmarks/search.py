"""How long admin's searches take over a million payments: python -m benchmarks.search [PAYMENTS].

Starts a PostgreSQL of its own, loads the payments by COPY, and times first page and bounded count of each search,
for somebody who sees the whole network and for somebody who sees one site. Times are a report; that every search goes
along an index is a test (tests/admin/transactions/test_plans.py).
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import asyncpg

from admin.auth.permissions import Access, Permission, Role
from admin.db.migrate import migrate as migrate_admin
from admin.db.pool import Database
from admin.transactions.payments import PAYMENTS, by_place, count, list_statement
from benchmarks import facts
from switch.ops.postgres import EmbeddedPostgres
from switch.store.migrate import migrate

ROUNDS: Final = 7
SEARCHES: Final[dict[str, dict[str, str]]] = {
    "nothing": {},
    "account": {"account": facts.account_hash(77).hex()},
    "rrn": {"rrn": "000000045678"},
    "card's last four": {"card": "0077"},
    "kiosk serial": {"serial": "000044"},
    "batch and trace number": {"trace": "000001-000044"},
    "terminal": {"terminal": "T0304001"},
    "kiosk": {"kiosk": "S03-04-1"},
    "a city": {"org": "c03"},
    "a site": {"org": "s03-04"},
    "suspense": {"state": "SUSPENSE"},
    "completed": {"state": "COMPLETED"},
    "failures of the channel": {"class": "channel"},
    "a day": {"from": "2026-11-20", "until": "2026-11-20"},
    "an amount": {"least": "123.45", "most": "123.45"},
    "a kiosk's failures of a week": {"kiosk": "S03-04-1", "class": "channel", "from": "2026-11-17"},
}
PEOPLE: Final = {"network": "/", "site": "/gdn/c07/s07-01/"}


async def _timed(database: Database, path: str, query: dict[str, str]) -> tuple[float, float, int]:
    """(median ms, longest ms, rows) of a page with its count, each time on a connection as a page takes it."""
    access = Access(1, "li", "李", 1, "full", "", "", grants=((Role.FINANCE, path),))
    view = PAYMENTS.view(query)
    took: list[float] = []
    rows: list[Any] = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        async with database.connection() as connection:
            places = await by_place(connection, access, view)
            await count(connection, access, view, places=places)
            text, values = view.statement(list_statement(places=places))
            rows = await connection.fetch(text, access.paths(Permission.TRANSACTION_READ), *values)
        took.append(1000 * (time.perf_counter() - started))
    return statistics.median(took), max(took), len(rows)


async def _run(dsn: str, payments: int) -> None:
    await migrate(dsn)
    await migrate_admin(dsn)
    owner = await asyncpg.connect(dsn)
    await facts.make_places(owner)
    started = time.perf_counter()
    await facts.load(owner, payments)
    size = await owner.fetchval("SELECT pg_total_relation_size('admin.payment_fact')")
    await owner.close()
    print(
        f"{payments:,} payments in {time.perf_counter() - started:.0f} s, {size / payments:.0f} bytes each with indexes"
    )
    database = Database(dsn, size=1)
    await database.start()
    print(f"{'search':<30}{'who':<10}{'median ms':>10}{'max ms':>10}{'rows':>6}")
    for who, path in PEOPLE.items():
        for name, query in SEARCHES.items():
            median, longest, rows = await _timed(database, path, query)
            print(f"{name:<30}{who:<10}{median:>10.1f}{longest:>10.1f}{rows:>6}")
    await database.stop()


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="gs-", dir="/tmp"))
    folder.chmod(0o755)
    server = EmbeddedPostgres(folder)
    try:
        server.start()
        asyncio.run(_run(server.dsn, int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
