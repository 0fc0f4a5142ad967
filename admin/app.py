"""The application of operators: every slice's handlers, who may use them, and what they get to work with."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litestar import Litestar, Request, Response, Router, get
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.static_files import create_static_files_router

from admin.auth.audit import anchor
from admin.auth.guard import PUBLIC, SIGNED_IN, Sessions, guard
from admin.auth.password import Passwords
from admin.auth.permissions import Access, Permission
from admin.auth.secrets import Secrets
from admin.auth.signin import SignIn
from admin.config import Config
from admin.control import Switches
from admin.db.pool import Database
from admin.deviceapi.setup import open_authority
from admin.devices import catalogue, commands, enrol, imports, kiosks, onboarding, orgs, service
from admin.devices.given import Signing
from admin.devices.trust import orders
from admin.errors import AdminError
from admin.feed.payments import Feed
from admin.limits import ANCHOR_S, ATTEMPTS_S, BODY_MAX, COMMANDS_OLD_S, FEED_PERIOD_S, GATES_S, SERVICE_RETRY_S
from admin.monitor import setup as monitor
from admin.operators import approvals, door, log, pages
from admin.reports import pages as reports
from admin.transactions import cases, payments
from admin.web.given import Who
from admin.web.loop import Loops
from admin.web.render import HEADERS, AnyRequest, admin_error, go, http_error

STATIC = Path(__file__).parent / "web" / "static"


@get("/", opt=SIGNED_IN)
async def home(access: Who) -> Response[Any]:
    """Each to what concerns them first."""
    for permission, path in (
        (Permission.MONITOR_READ, "/monitor"),
        (Permission.DEVICE_READ, "/kiosks"),
        (Permission.OPERATOR_READ, "/operators"),
    ):
        if access.may(permission):
            return go(path)
    return go("/approvals")


async def _access(request: AnyRequest) -> Access | None:
    access: Access | None = request.scope["state"]["access"]
    return access


@dataclass(slots=True)
class Parts:
    """What handlers work with."""

    config: Config
    database: Database
    own: Secrets
    passwords: Passwords
    doors: SignIn
    loops: Loops
    switches: Switches
    signing: Signing
    monitor: monitor.Monitor


def make_parts(config: Config) -> Parts:
    database = Database(config.database.dsn)
    own = Secrets.from_file(Path(config.secrets.key_file))
    passwords = Passwords()
    signing = Signing(open_authority(config) if config.device_api.certificate_file else None)
    loops = Loops(database)
    switches = Switches(config.switch.control)
    return Parts(
        config,
        database,
        own,
        passwords,
        SignIn(database, passwords, own),
        loops,
        switches,
        signing,
        monitor.Monitor(config, database, loops, switches),
    )


def make_app(parts: Parts) -> Litestar:
    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        await parts.database.start()
        start_loops(parts)
        try:
            yield
        finally:
            await parts.monitor.stop()
            await parts.loops.stop()
            await parts.database.stop()

    app = Litestar(
        route_handlers=[
            home,
            *monitor.HANDLERS,
            *door.HANDLERS,
            *pages.HANDLERS,
            *approvals.HANDLERS,
            *log.HANDLERS,
            *kiosks.HANDLERS,
            *imports.HANDLERS,
            *onboarding.HANDLERS,
            *orgs.HANDLERS,
            *catalogue.HANDLERS,
            *enrol.HANDLERS,
            *commands.HANDLERS,
            *payments.HANDLERS,
            *cases.HANDLERS,
            *reports.HANDLERS,
            create_static_files_router(
                "/static", [STATIC], opt=dict(PUBLIC), include_in_schema=False, cache_control=None
            ),
        ],
        guards=[guard],
        middleware=[Sessions(parts.database)],
        dependencies={
            "access": Provide(_access),
            "database": Provide(lambda: parts.database, sync_to_thread=False),
            "own": Provide(lambda: parts.own, sync_to_thread=False),
            "passwords": Provide(lambda: parts.passwords, sync_to_thread=False),
            "doors": Provide(lambda: parts.doors, sync_to_thread=False),
            "loops": Provide(lambda: parts.loops, sync_to_thread=False),
            "watch": Provide(lambda: parts.monitor.health, sync_to_thread=False),
            "config": Provide(lambda: parts.config, sync_to_thread=False),
            "switches": Provide(lambda: parts.switches, sync_to_thread=False),
            "signing": Provide(lambda: parts.signing, sync_to_thread=False),
        },
        exception_handlers={AdminError: admin_error, HTTPException: http_error, Exception: _unexpected},
        lifespan=[lifespan],
        openapi_config=OpenAPIConfig(
            title="gridswitch admin",
            version="1",
            openapi_router=Router("/schema", route_handlers=[], opt=dict(SIGNED_IN), include_in_schema=False),
            render_plugins=[JsonRenderPlugin()],
        ),
        request_max_body_size=BODY_MAX,
        response_headers={"X-Content-Type-Options": HEADERS["X-Content-Type-Options"]},
    )
    app.state.database = parts.database
    app.state.parts = parts
    cases.HAND.switches = parts.switches
    commands.HAND.signing = parts.signing
    return app


def _unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """A fault of ours: told in the log whole, to the person without insides."""
    logging.getLogger("admin").exception("%s %s", request.method, request.url.path, exc_info=error)
    return http_error(request, HTTPException(status_code=500))


def start_loops(parts: Parts) -> None:
    """What runs beside the pages."""

    async def anchors() -> dict[str, Any]:
        path = parts.config.watch.anchor_file
        async with parts.database.transaction() as connection:
            made = await anchor(connection, path or "database")
            if made is not None and path:
                await asyncio.to_thread(_append, Path(path), f"{made[0]} {made[1].hex()}\n")
        return {"seq": made[0]} if made else {}

    parts.loops.start("audit anchor", ANCHOR_S, anchors)
    parts.monitor.start()
    parts.loops.start("old sign-ins", ATTEMPTS_S, parts.doors.forget)
    parts.loops.start("payments", FEED_PERIOD_S, Feed(parts.database, parts.own).work)
    parts.loops.start("switch orders", SERVICE_RETRY_S, lambda: service.retry(parts.database, parts.switches))
    parts.loops.start("old commands", COMMANDS_OLD_S, lambda: orders.expire(parts.database))
    parts.loops.start("onboarding gates", GATES_S, lambda: onboarding.note_gates(parts.database))


def _append(path: Path, line: str) -> None:
    with path.open("a", encoding="ascii") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
