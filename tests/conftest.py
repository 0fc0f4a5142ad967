"""Fixtures of all tests: a clean environment, and one real PostgreSQL server per test session."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from switch.ops.postgres import EmbeddedPostgres
from switch.store.migrate import migrate

_SCRUBBED = ("PG", "GRIDSWITCH_", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")
# How a developer says which PostgreSQL to test with.
_KEPT = {"GRIDSWITCH_PG_BIN"}
_LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0", "::")


@pytest.fixture(autouse=True)
def _scrubbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer's shell says must not decide whether a test passes."""
    for name in list(os.environ):
        if name.startswith(_SCRUBBED) and name not in _KEPT:
            monkeypatch.delenv(name)
    monkeypatch.setenv("TZ", "UTC")


@pytest.fixture(autouse=True, scope="session")
def _loopback_only() -> Iterator[None]:
    """A test that reaches for another machine fails, instead of passing where there is a network."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and not str(address[0]).startswith(_LOOPBACK):
            raise AssertionError(f"a test wants to connect to {address[0]}")
        connect(self, address)

    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", guarded)
    yield
    patch.undo()


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A folder that any user can reach, with a path short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="gs-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    """The session's server. Tests use ``database``; those that stop servers make their own."""
    folder = Path(tempfile.mkdtemp(prefix="gs-", dir="/tmp"))
    folder.chmod(0o755)
    server = EmbeddedPostgres(folder)
    try:
        dsn = server.start()
        asyncio.run(migrate(dsn))
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


_number = itertools.count(1)


@pytest.fixture
def database(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """DSN of a migrated database of this test's own."""
    name = f"test_{next(_number)}"
    admin = postgres_server.dsn.replace("/gridswitch?", "/postgres?")
    asyncio.run(_execute(admin, f"CREATE DATABASE {name} TEMPLATE gridswitch"))
    yield postgres_server.dsn.replace("/gridswitch?", f"/{name}?")
    asyncio.run(_execute(admin, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def empty_database(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """DSN of a database without a schema."""
    name = f"test_{next(_number)}"
    admin = postgres_server.dsn.replace("/gridswitch?", "/postgres?")
    asyncio.run(_execute(admin, f"CREATE DATABASE {name} TEMPLATE template0"))
    yield postgres_server.dsn.replace("/gridswitch?", f"/{name}?")
    asyncio.run(_execute(admin, f"DROP DATABASE {name} WITH (FORCE)"))


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
