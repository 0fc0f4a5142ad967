"""How the database finds payments: each filter along an index, whoever asks. Times are for the benchmark."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from admin.auth.permissions import Access, Role
from admin.transactions import payments
from admin.transactions.payments import PAYMENTS, by_place
from benchmarks import facts

from ..conftest import opened

PAYMENTS_MADE = 60_000
SEARCHES = {
    "nothing": {},
    "account": {"account": facts.account_hash(77).hex()},
    "rrn": {"rrn": "000000045678"},
    "card": {"card": "0077"},
    "serial": {"serial": "000044"},
    "trace number": {"trace": "000044"},
    "batch and trace number": {"trace": "000001-000044"},
    "terminal": {"terminal": "T0304001"},
    "kiosk": {"kiosk": "S03-04-1"},
    "city": {"org": "c03"},
    "site": {"org": "s03-04"},
    "rare state": {"state": "SUSPENSE"},
    "common state": {"state": "COMPLETED"},
    "class": {"class": "channel"},
    "business": {"kind": "prepayment"},
    "a day": {"from": "2026-11-23", "until": "2026-11-23"},
    "an amount": {"least": "123.45", "most": "123.46"},
    "amounts from": {"least": "2900"},
    "nobody's amount": {"least": "99999", "most": "99999.99"},
    "a kiosk's failures of a day": {"kiosk": "S03-04-1", "class": "channel", "from": "2026-11-23"},
    "oldest first": {"sort": "opened_at"},
}
COMMON = ("nothing", "common state", "business", "oldest first", "amounts from")
READ_MAX = 10_000  # rows of 60,000, for a page of 51; a page that reads on in time finds its rows soon
PEOPLE = {"everywhere": "/", "a city": "/gdn/c07/", "a site": "/gdn/c07/s07-01/", "an empty site": "/gd/gz/gz-th/"}


def _access(path: str) -> Access:
    return Access(1, "li", "李", 1, "full", "", "", grants=((Role.FINANCE, path),))


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for each in plan.get("Plans", ()):
        yield from _nodes(each)


def test_every_search_goes_along_an_index_and_reads_little(admin_dsn: str) -> None:
    async def main() -> None:
        owner = await asyncpg.connect(admin_dsn)
        await facts.make_places(owner)
        await facts.load(owner, PAYMENTS_MADE)
        await owner.close()
        async with opened(admin_dsn) as database, database.connection() as connection:
            for who, path in PEOPLE.items():
                access = _access(path)
                scope = access.paths(payments._P.TRANSACTION_READ)
                for name, query in SEARCHES.items():
                    view = PAYMENTS.view(query)
                    places = await by_place(connection, access, view)
                    assert places is (who in ("a city", "a site", "an empty site") or name in ("city", "site"))
                    kind = "_by_place" if places else ""
                    text, values = view.statement(payments._LISTS[f"payment_list{kind}"])
                    for statement, most in ((text, READ_MAX), (payments._COUNTS[f"payment_count{kind}"], 2 * READ_MAX)):
                        shown = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", scope, *values)
                        nodes = list(_nodes(json.loads(shown)[0]["Plan"]))
                        seen = [each for each in nodes if each.get("Relation Name") == "payment_fact"]
                        assert seen, (who, name)
                        scanned = [each["Node Type"] for each in seen if each["Node Type"] == "Seq Scan"]
                        # Counting what is common reads the first that come, up to the bound.
                        counts_common = statement is not text and name in COMMON
                        assert not scanned or counts_common, f"{who}, {name}: reads every payment"
                        read = sum(
                            (each["Actual Rows"] + each.get("Rows Removed by Filter", 0)) * each["Actual Loops"]
                            for each in seen
                        )
                        assert counts_common or read <= most, f"{who}, {name}: reads {read} rows"

    asyncio.run(main())


@pytest.mark.parametrize("who", PEOPLE)
def test_pages_one_after_the_other_are_the_list(admin_dsn: str, who: str) -> None:
    """Both statements, with places and without, page by page both ways: every payment in scope once, in order."""

    async def main() -> None:
        owner = await asyncpg.connect(admin_dsn)
        await facts.make_places(owner)
        await facts.load(owner, 900)
        pattern = PEOPLE[who] + "%"
        for query in ({}, {"state": "COMPLETED"}, {"sort": "opened_at"}, {"org": "c07"}):
            wanted = await owner.fetch(
                "SELECT payment_id FROM admin.payment_fact WHERE org_path LIKE $1 AND ($2::text IS NULL OR state = $2) "
                "AND ($3::text IS NULL OR org_path LIKE $3) ORDER BY payment_id",
                *(pattern, query.get("state"), "/gdn/c07/%" if "org" in query else None),
            )
            order = [row["payment_id"] for row in wanted]
            if query.get("sort") != "opened_at":
                order.reverse()
            async with opened(admin_dsn) as database, database.connection() as connection:
                access = _access(PEOPLE[who])
                scope = access.paths(payments._P.TRANSACTION_READ)
                for kind in ("payment_list", "payment_list_by_place"):
                    found: list[int] = []
                    url = "?" + "&".join(f"{name}={value}" for name, value in (query | {"size": "200"}).items())
                    while url:
                        view = PAYMENTS.view(
                            dict(part.split("=", 1) for part in url[1:].replace("%3D", "=").split("&"))
                        )
                        text, values = view.statement(payments._LISTS[kind])
                        page = view.page(await connection.fetch(text, scope, *values))
                        found += [row["key"] for row in page.rows]
                        url = page.later_url if page.later else ""
                    assert found == order, (kind, query)
                for places in (False, True):
                    told = await payments.count(connection, access, PAYMENTS.view(query), places=places)
                    assert told == (len(order), False)
        await owner.close()

    asyncio.run(main())
