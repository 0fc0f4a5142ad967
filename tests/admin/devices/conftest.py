"""A registry with a model, sites and kiosks; the switch's own control socket over the same database."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from admin.auth.permissions import Role
from admin.config import Config, DatabaseConfig, SecretsConfig, SwitchConfig, WatchConfig
from switch.observe.log import Log, Observation
from switch.observe.metrics import Metrics
from switch.runtime.clock import SystemClock
from switch.runtime.control import Ask, ControlSocket
from switch.store.terminals import PostgresTerminals

OPERATIONS, SYSTEM, SECURITY = Role.OPERATIONS, Role.SYSTEM_ADMINISTRATOR, Role.SECURITY_ADMINISTRATOR
UNITS = ("idc", "pin", "ptr", "touch", "door")


@pytest.fixture
def control_path(short_dir: Path) -> Path:
    return short_dir / "switch.control"


@pytest.fixture
def admin_config(admin_dsn: str, tmp_path: Path, control_path: Path) -> Config:
    return Config(
        environment="development",
        database=DatabaseConfig(dsn=admin_dsn),
        secrets=SecretsConfig(key_file=str(tmp_path / "admin.key")),
        switch=SwitchConfig(control=(str(control_path),)),
        watch=WatchConfig(anchor_file=str(tmp_path / "anchors.txt")),
    )


class Registry:
    """Rows to begin with, made as the database's owner."""

    def __init__(self, site: Any) -> None:
        self.site = site
        (row,) = site.sql(
            "INSERT INTO kiosk_model (vendor, name, units) VALUES ('恒达', 'K3', $1) RETURNING id", list(UNITS)
        )
        self.model = row["id"]
        self._count = 0

    def org(self, code: str) -> int:
        number: int = self.site.sql("SELECT id FROM org WHERE code = $1", code)[0]["id"]
        return number

    def kiosk(self, org: str = "gz-th", state: str = "registered", terminal: str | None = None) -> int:
        self._count += 1
        (row,) = self.site.sql(
            "INSERT INTO kiosk (code, serial_number, model_id, org_id, terminal_id, state)"
            " VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
            *(f"K-{self._count:03d}", f"SN-{self._count:05d}", self.model, self.org(org), terminal, state),
        )
        number: int = row["id"]
        return number

    def get(self, kiosk: int) -> Any:
        return self.site.sql("SELECT * FROM kiosk WHERE id = $1", kiosk)[0]

    def terminal(self, terminal_id: str, *, stage: str = "in_service", in_service: bool = False) -> None:
        """As the switch has it; one that begins further on than "registered" is a test terminal."""
        self.site.sql(
            "INSERT INTO switch.terminal (terminal_id, merchant_id, key_mode, in_service, tmk_wrapped, tmk_kcv,"
            " batch_number, stage) VALUES ($1, '898440100000001', 'dual_tmk', $2, $3, $5, '000001', $4)",
            *(terminal_id, in_service, b"\1" if stage != "registered" else b"", stage),
            b"\1\2\3" if stage != "registered" else b"",
        )

    def beat(self, kiosk: int, *, ago_s: int = 0, switch_ago_s: int | None = 0, **values: Any) -> None:
        """What the device API and the monitor keep of a kiosk."""
        given = {
            "skew_ms": 40,
            "units": {**dict.fromkeys(UNITS, "online"), "ptr.paper": "low", "door": "closed"},
            "diagnosis": "ok",
            **values,
        }  # fmt: skip
        self.site.sql(
            "INSERT INTO kiosk_status (kiosk_id, beat_at, switch_at, skew_ms, units, diagnosis)"
            " VALUES ($1, now() - make_interval(secs => $2), now() - make_interval(secs => $3), $4,"
            " ($5::text)::jsonb, $6)"
            " ON CONFLICT (kiosk_id) DO UPDATE SET beat_at = excluded.beat_at, switch_at = excluded.switch_at,"
            " skew_ms = excluded.skew_ms, units = excluded.units, diagnosis = excluded.diagnosis",
            *(kiosk, float(ago_s), None if switch_ago_s is None else float(switch_ago_s)),
            *(given["skew_ms"], json.dumps(given["units"]), given["diagnosis"]),
        )

    def denied(self) -> list[Any]:
        rows: list[Any] = self.site.sql(
            "SELECT action, object_id, detail FROM audit_log WHERE result = 'denied' ORDER BY seq"
        )
        return rows


@pytest.fixture
def registry(site: Any) -> Registry:
    return Registry(site)


@pytest.fixture
def switch_door(admin_dsn: str, control_path: Path) -> Callable[..., Any]:
    """``with switch_door():`` the switch's control socket is there, and carries out "service" on the database."""

    @contextmanager
    def door(heard: list[list[Any]] | None = None) -> Iterator[list[Ask]]:
        asked: list[Ask] = []
        ready, stop = threading.Event(), threading.Event()

        async def serve() -> None:
            observer = Observation(Metrics(), Log("error"))
            terminals = PostgresTerminals(admin_dsn, clock=SystemClock(), observer=observer)

            async def service(given: Ask) -> Any:
                asked.append(given)
                found = await terminals.set_service(given.terminal, given.on, "" if given.on else given.reason or "-")
                return {"terminal": found.terminal_id, "in_service": found.in_service}

            async def heard_of(given: Ask) -> Any:
                return {"rows": heard or [], "next": 0}

            socket = ControlSocket(
                control_path, {"service": service, "heard": heard_of}, observer, changing=frozenset({"service"})
            )
            await socket.start()
            ready.set()
            await asyncio.to_thread(stop.wait)
            await socket.stop()

        thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        thread.start()
        assert ready.wait(20)
        try:
            yield asked
        finally:
            stop.set()
            thread.join(20)

    return door
