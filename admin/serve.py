"""``gridswitch admin run``: uvicorn in this process, until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
import uvloop

from admin.app import make_app, make_parts
from admin.config import Config
from admin.db.migrate import pending
from admin.db.pool import Database, connect
from admin.deviceapi.setup import make_listener
from admin.devices.trust.authority import Authority
from admin.errors import StartError
from admin.limits import DEVICE_POOL


def serve(config: Config) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    return uvloop.run(_serve(config))


async def _serve(config: Config) -> int:
    connection = await connect(config.database.dsn, "start")
    try:
        if missing := await pending(connection):
            raise StartError(f"the database lacks {len(missing)} migrations; run: gridswitch admin migrate [schema]")
    finally:
        await connection.close()
    listen = config.listen
    parts = await asyncio.to_thread(make_parts, config)
    settings = uvicorn.Config(
        make_app(parts),
        host=listen.host,
        port=listen.port,
        ssl_certfile=listen.certificate_file or None,
        ssl_keyfile=listen.key_file or None,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=65_536,
    )
    server = uvicorn.Server(settings)
    told = asyncio.create_task(_tell(server, config))
    async with _devices(config, parts.signing.authority):
        await server.serve()
    told.cancel()
    return 0


@asynccontextmanager
async def _devices(config: Config, authority: Authority | None) -> AsyncIterator[None]:
    """The listener of kiosks, if there is to be one; kiosks have their own connections to the database."""
    if authority is None:
        yield
        return
    database = Database(config.database.dsn, size=DEVICE_POOL)
    await database.start()
    listener = make_listener(config, database, authority)
    await listener.start()
    print(f"devices: https://{config.device_api.host}:{listener.port}/", flush=True)
    try:
        yield
    finally:
        await listener.stop()
        await database.stop()


async def _tell(server: uvicorn.Server, config: Config) -> None:
    while not server.started:  # noqa: ASYNC110 uvicorn has no event for it
        await asyncio.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    scheme = "https" if config.listen.certificate_file else "http"
    print(f"admin: {scheme}://{config.listen.host}:{port}/", flush=True)
