"""Fixtures of the admin service: a database with both schemas, the service on a real socket, and people who use it."""

from __future__ import annotations

import asyncio
import io
import os
import secrets
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
import uvicorn

from admin.app import make_app, make_parts
from admin.auth.permissions import Role
from admin.auth.secrets import digest
from admin.config import Config, DatabaseConfig, SecretsConfig, SwitchConfig, WatchConfig
from admin.db.migrate import migrate
from admin.db.pool import Database
from switch.store.migrate import migrate as migrate_switch

TEST_DAYS = [20261123, 20261124]  # of which the switch's tables have partitions
# Halls of two cities under one province: enough for what is in somebody's scope, and what is not.
ORGS = (
    ("root", "province", "gd", "广东"),
    ("gd", "city", "gz", "广州"),
    ("gd", "city", "sz", "深圳"),
    ("gz", "site", "gz-th", "天河营业厅"),
    ("sz", "site", "sz-ns", "南山营业厅"),
)


# Migrating both schemas anew took most of the time of these tests. So it is done once, and before each test everything
# is as it was then: rows, numbers, triggers. What is append-only is so for everybody but a test.
_EMPTY = """
SET session_replication_role = replica;
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid();
DO $$
DECLARE one record;
BEGIN
    FOR one IN SELECT relation.oid::regclass AS name, pg_relation_size(relation.oid) AS size FROM pg_class AS relation
                WHERE relation.relnamespace IN ('admin'::regnamespace, 'switch'::regnamespace)
                  AND relation.relkind = 'r' AND pg_relation_size(relation.oid) > 0 LOOP
        IF one.size > 1000000 THEN
            EXECUTE format('TRUNCATE %s CASCADE', one.name);
        ELSE
            EXECUTE format('DELETE FROM %s', one.name);
        END IF;
    END LOOP;
    FOR one IN SELECT DISTINCT tgrelid::regclass AS name FROM pg_trigger WHERE tgenabled = 'D' LOOP
        EXECUTE format('ALTER TABLE %s ENABLE TRIGGER ALL', one.name);
    END LOOP;
END $$;
"""
_SEQUENCES = """
SELECT quote_ident(schemaname) || '.' || quote_ident(sequencename) AS name, last_value FROM pg_sequences
 WHERE schemaname IN ('admin', 'switch')
"""
_FILLED = """
SELECT relnamespace::regnamespace::text AS schema, relname::text AS name FROM pg_class
 WHERE relnamespace IN ('admin'::regnamespace, 'switch'::regnamespace) AND relkind = 'r' AND pg_relation_size(oid) > 0
"""


class Fresh:
    """A migrated database that can be made as it was."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._rows: dict[tuple[str, str], bytes] = {}
        self._numbers: dict[str, int | None] = {}

    async def remember(self) -> None:
        connection = await asyncpg.connect(self.dsn)
        try:
            self._numbers = {row["name"]: row["last_value"] for row in await connection.fetch(_SEQUENCES)}
            for row in await connection.fetch(_FILLED):
                out = io.BytesIO()
                await connection.copy_from_table(row["name"], schema_name=row["schema"], output=out, format="binary")
                self._rows[row["schema"], row["name"]] = out.getvalue()
        finally:
            await connection.close()

    async def again(self) -> None:
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute(_EMPTY)
            for (schema, name), rows in self._rows.items():
                await connection.copy_to_table(name, schema_name=schema, source=io.BytesIO(rows), format="binary")
            for row in await connection.fetch(_SEQUENCES):
                before = self._numbers.get(row["name"])
                if row["last_value"] != before:
                    await connection.execute("SELECT setval($1, $2, $3)", row["name"], before or 1, before is not None)
        finally:
            await connection.close()


@pytest.fixture(scope="session")
def admin_database(server_dsn: str) -> Iterator[Fresh]:
    name = f"admin_{os.getpid()}"
    dsn = urlsplit(server_dsn)._replace(path=f"/{name}").geturl()
    asyncio.run(_execute(server_dsn, f"CREATE DATABASE {name}"))
    try:
        fresh = Fresh(dsn)
        asyncio.run(_migrated(dsn))
        asyncio.run(fresh.remember())
        yield fresh
    finally:
        asyncio.run(_execute(server_dsn, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def admin_dsn(admin_database: Fresh) -> str:
    """DSN of a database where switch and admin are migrated and only the organisations are there."""
    asyncio.run(admin_database.again())
    return admin_database.dsn


async def _migrated(dsn: str) -> None:
    await migrate_switch(dsn)
    await migrate(dsn)
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("SELECT switch.ensure_partition(day) FROM unnest($1::integer[]) AS day", TEST_DAYS)
        for parent, kind, code, name in ORGS:
            await connection.execute(
                "INSERT INTO admin.org (parent_id, kind, code, name, path)"
                " SELECT id, $2, $3, $4, path || $3 || '/' FROM admin.org WHERE code = $1",
                *(parent, kind, code, name),
            )
    finally:
        await connection.close()


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[Database]:
    """The pool that pages and loops use."""
    database = Database(dsn)
    await database.start()
    try:
        yield database
    finally:
        await database.stop()


@dataclass
class Visitor:
    """Somebody signed in, as a browser would send it."""

    operator_id: int
    login: str
    csrf: str
    http: httpx.Client

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.http.get(path, **options)

    def post(self, path: str, data: dict[str, Any] | None = None, **options: Any) -> httpx.Response:
        return self.http.post(path, data={"csrf": self.csrf, **(data or {})}, **options)


@dataclass
class Site:
    """The service, running, with its database."""

    dsn: str
    url: str
    app: Any
    visitors: list[httpx.Client] = field(default_factory=list)
    _runner: asyncio.Runner = field(default_factory=asyncio.Runner)
    _connection: Any = None

    def sql(self, statement: str, *values: Any) -> list[Any]:
        """As the database's owner: to prepare, and to look behind the pages."""
        if self._connection is None:
            self._connection = self._runner.run(asyncpg.connect(self.dsn, server_settings={"search_path": "admin"}))
        found: list[Any] = self._runner.run(self._connection.fetch(statement, *values))
        return found

    def close(self) -> None:
        for client in self.visitors:
            client.close()
        if self._connection is not None:
            self._runner.run(self._connection.close())
        self._runner.close()

    def stranger(self) -> httpx.Client:
        client = httpx.Client(base_url=self.url, headers={"Accept": "text/html"}, timeout=30, trust_env=False)
        self.visitors.append(client)
        return client

    def sign_in(
        self, *roles: Role, org: str = "root", step_up: bool = True, login: str = "", password_hash: str = "!"
    ) -> Visitor:
        """Somebody with these roles there, past both factors."""
        login = login or f"{roles[0].value[:10].replace('_', '-') if roles else 'nobody'}-{secrets.token_hex(3)}"
        token, csrf = secrets.token_urlsafe(), secrets.token_urlsafe(12)
        (row,) = self.sql(
            "INSERT INTO operator (login, name, employer, org_id, password_hash)"
            " SELECT $1, $1, 'grid', id, $3 FROM org WHERE code = $2 RETURNING id",
            *(login, org, password_hash),
        )
        for role in roles:
            self.sql(
                "INSERT INTO role_grant (operator_id, role, org_id) SELECT $1, $2, id FROM org WHERE code = $3",
                *(row["id"], role.value, org),
            )
        self.sql(
            "INSERT INTO operator_session (token_sha256, operator_id, stage, csrf, expires_at, step_up_at, address)"
            " VALUES ($1, $2, 'full', $3, now() + interval '1 hour', CASE WHEN $4 THEN now() END, '127.0.0.1')",
            *(digest(token), row["id"], csrf, step_up),
        )
        client = self.stranger()
        client.headers["Cookie"] = f"__Host-session={token}"
        return Visitor(row["id"], login, csrf, client)


@pytest.fixture
def admin_config(admin_dsn: str, tmp_path: Path) -> Config:
    return Config(
        environment="development",
        database=DatabaseConfig(dsn=admin_dsn),
        secrets=SecretsConfig(key_file=str(tmp_path / "admin.key")),
        switch=SwitchConfig(),
        watch=WatchConfig(anchor_file=str(tmp_path / "anchors.txt")),
    )


@pytest.fixture
def site(admin_config: Config) -> Iterator[Site]:
    with running(admin_config) as found:
        yield found


class running:  # noqa: N801 used as a function
    """The service in a thread of its own, on a free port."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._thread: threading.Thread | None = None
        self._server: uvicorn.Server | None = None
        self._site: Site | None = None

    def __enter__(self) -> Site:
        app = make_app(make_parts(self._config))
        settings = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", ws="none", lifespan="on")
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        waiting = threading.Event()
        while not self._server.started:
            assert self._thread.is_alive(), "the service ended while it started"
            waiting.wait(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self._site = Site(self._config.database.dsn, f"http://127.0.0.1:{port}", app)
        return self._site

    def __exit__(self, *_: object) -> None:
        assert self._server is not None and self._thread is not None and self._site is not None
        self._site.close()
        self._server.should_exit = True
        self._thread.join(15)
        assert not self._thread.is_alive(), "the service does not stop"
