"""Fixtures of all tests: a clean environment, and one real PostgreSQL server per test session."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import hypothesis
import pytest

RUNNING = Path(__file__).parent / "switch" / "runtime"  # its tests put parts of their own into a running switch
_ASKED = [Path(each.partition("::")[0]).resolve() for each in sys.argv[1:] if not each.startswith("-")]
_ASKED = [each for each in _ASKED if each.exists()]
if _ASKED and all(RUNNING in (each, *each.parents) for each in _ASKED):
    os.environ.setdefault("GRIDSWITCH_INTERPRETED", "1")  # before any module of the path is imported

import switch  # noqa: E402
from switch.config import SecurityConfig  # noqa: E402
from switch.ops.postgres import EmbeddedPostgres  # noqa: E402
from switch.ops.softhsm import make_tokens  # noqa: E402
from switch.store.migrate import migrate  # noqa: E402

_SCRUBBED = ("PG", "GRIDSWITCH_", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")
# How a developer says which PostgreSQL to test with. The second is a running server's DSN: a session makes a database
# of its own there. A thousand mutants that start a server each take an hour for that alone.
_KEPT = {"GRIDSWITCH_PG_BIN", "GRIDSWITCH_TEST_DSN"}
TOKENS = ("test", "empty", "guarded", "fresh", "ceremony", "world", "device")
TEST_DAYS = [20261123, 20261124]
# A loaded machine is no reason for a test to fail.
hypothesis.settings.register_profile("project", deadline=None)
hypothesis.settings.load_profile("project")
_LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0", "::")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-documents", action="store_true", help="write documents that are made from the code, where they differ"
    )


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
def server_dsn() -> Iterator[str]:
    """A database of the session's server. Tests use ``database``; those that stop servers make their own."""
    running = os.environ.get("GRIDSWITCH_TEST_DSN")
    if running:
        name = f"gridswitch_{os.getpid()}"
        asyncio.run(_execute(running, f"CREATE DATABASE {name}"))
        try:
            yield urlsplit(running)._replace(path=f"/{name}").geturl()
        finally:
            asyncio.run(_execute(running, f"DROP DATABASE {name} WITH (FORCE)"))
        return
    folder = Path(tempfile.mkdtemp(prefix="gs-", dir="/tmp"))
    folder.chmod(0o755)
    server = EmbeddedPostgres(folder)
    try:
        server.start()
        yield server.dsn
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, SecurityConfig]]:
    """Tokens without a local master key, by label. The library looks for tokens once in a process, when it is loaded:
    whoever needs one takes it from here."""
    before = os.environ.get("SOFTHSM2_CONF")
    made = make_tokens(tmp_path_factory.mktemp("softhsm"), TOKENS)
    yield dict(zip(TOKENS, made, strict=True))
    os.environ.pop("SOFTHSM2_CONF", None)
    if before is not None:
        os.environ["SOFTHSM2_CONF"] = before


@pytest.fixture
def empty_database(server_dsn: str) -> str:
    """DSN of a database without a schema, for this test alone."""
    asyncio.run(_reset(server_dsn))
    return server_dsn


@pytest.fixture
def database(empty_database: str) -> str:
    """DSN of a migrated database without rows, for this test alone."""
    asyncio.run(_migrated(empty_database))
    return empty_database


async def _migrated(dsn: str) -> None:
    await migrate(dsn)
    connection = await asyncpg.connect(dsn)
    try:
        # The days that tests write about: a switch makes only those around today, whenever that is.
        await connection.execute("SELECT switch.ensure_partition(day) FROM unnest($1::integer[]) AS day", TEST_DAYS)
    finally:
        await connection.close()


async def _reset(dsn: str) -> None:
    """One database, emptied: creating and dropping one per test costs half a second of checkpoints each time."""
    await _execute(
        dsn,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid();"
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I RESET ALL', current_database()); END $$;"
        "DROP SCHEMA IF EXISTS switch CASCADE",
    )


async def _execute(dsn: str, statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The path's modules are compiled, and then take no parts of others; ``make test`` runs those tests as well, and
    whoever asks for the running switch alone gets it interpreted."""
    if not switch.INTERPRETED:
        left = [item for item in items if item.get_closest_marker("interpreted") or RUNNING in item.path.parents]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]
