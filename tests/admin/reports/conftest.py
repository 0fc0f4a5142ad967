"""A site with kiosks whose names a spreadsheet would run, and a way to fill it with days of payments."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from ..conftest import Site, running
from .shop import Shop

# terminal, code, organisation. Codes with a sign in front and of 18 digits are legal.
KIOSKS = (
    ("GS000001", "123456789012345678", "gz-th"),
    ("GS000002", "-K-2", "gz-th"),
    ("GS000003", "K000003", "sz-ns"),
    ("GS000004", "K000004", "sz-bad"),
)
STRANGER = "GS000009"  # nobody has registered it
TERMINALS = (*(terminal for terminal, _, _ in KIOSKS), STRANGER)
FORMULA = '=HYPERLINK("http://evil.example","营业厅")'


@pytest.fixture
def hall(admin_config: Any) -> Iterator[Site]:
    """The service with four kiosks at three sites, one of which has a name that begins like a formula."""
    with running(admin_config) as site:
        site.sql(
            "INSERT INTO org (parent_id, kind, code, name, path)"
            " SELECT id, 'site', 'sz-bad', $1, path || 'sz-bad/' FROM org WHERE code = 'sz'",
            FORMULA,
        )
        site.sql("INSERT INTO kiosk_model (vendor, name, units) VALUES ('甲', 'K1', '{ptr}')")
        for terminal, code, org in KIOSKS:
            site.sql(
                "INSERT INTO kiosk (code, serial_number, model_id, org_id, terminal_id)"
                " SELECT $1, 'SN' || $1, (SELECT min(id) FROM kiosk_model), id, $2 FROM org WHERE code = $3",
                *(code, terminal, org),
            )
        yield site


def load(site: Site, shop: Shop) -> None:
    """Into the switch's tables; then the service's own loop reads them, and knows where each terminal stood."""
    shop.write(site.dsn)
    while True:
        (row,) = site.sql(
            "SELECT (SELECT events FROM feed_position) = (SELECT count(*) FROM switch.payment_event)"
            " AND NOT EXISTS (SELECT FROM kiosk_place WHERE NOT stamped) AS done"
        )
        if row["done"]:
            return
        time.sleep(0.02)  # the test's time-out is the bound
