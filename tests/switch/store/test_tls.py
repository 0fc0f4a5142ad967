"""PostgreSQL over TLS with files of our own, on a real server: its name is checked, and plain text is no way out."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509

from switch.errors import UnavailableError
from switch.ops import postgres
from switch.ops.certs import _SERVER, DevelopmentCa, make_development_certificates
from switch.ops.postgres import EmbeddedPostgres
from switch.store.pool import close, connect

Serve = Callable[[str | None], str]


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs")
    make_development_certificates(folder, [])
    make_development_certificates(folder / "stranger", [])
    return folder


@pytest.fixture
def serve(short_dir: Path, certs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """``serve(name)`` starts a server on TCP with that certificate, or without TLS; gives ``//user@address/name``."""
    # An address of its own: the port is always 5432, and another server may have it on 127.0.0.1.
    address = f"127.{random.randrange(1, 255)}.{random.randrange(255)}.{random.randrange(1, 255)}"
    server = EmbeddedPostgres(short_dir / "data")
    monkeypatch.setitem(postgres.SETTINGS, "listen_addresses", address)
    server.start()
    server.stop()

    def start(name: str | None) -> str:
        hba = server._cluster / "pg_hba.conf"
        hba.write_text("local all all trust\nhost all all 127.0.0.0/8 trust\n")
        if name is not None:
            if name == "own":
                ip = x509.IPAddress(ipaddress.ip_address(address))
                DevelopmentCa(certs).issue(f"own-{address}", "database", _SERVER, [ip])
                name = f"own-{address}"
            for suffix in ("pem", "key"):
                copy = server._cluster / f"server.{suffix}"
                shutil.copy(certs / f"{name}.{suffix}", copy)
                copy.chmod(0o600)
                os.chown(copy, server._user.pw_uid, server._user.pw_gid)
            (server._cluster / "postgresql.auto.conf").write_text(
                "ssl = on\nssl_cert_file = 'server.pem'\nssl_key_file = 'server.key'\n"
            )
        server.start()
        return f"postgresql://{postgres.OWNER}@{address}/{postgres.DATABASE}"

    yield start
    server.stop()


def encrypted(dsn: str) -> bool:
    async def main() -> bool:
        connection = await connect(dsn, "test")
        try:
            return bool(await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))
        finally:
            await close(connection)

    return asyncio.run(main())


def test_verify_full_with_our_own_ca_is_encrypted(serve: Serve, certs: Path) -> None:
    dsn = serve("own")
    assert encrypted(f"{dsn}?sslmode=verify-full&sslrootcert={certs}/ca.pem")
    client = f"&sslcert={certs}/switch.pem&sslkey={certs}/switch.key"
    assert encrypted(f"{dsn}?sslmode=verify-full&sslrootcert={certs}/ca.pem{client}")
    with pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        encrypted(f"{dsn}?sslmode=verify-full&sslrootcert={certs}/stranger/ca.pem")


def test_verify_full_refuses_another_servers_name(serve: Serve, certs: Path) -> None:
    dsn = serve("database")  # made for localhost
    with pytest.raises(UnavailableError, match="certificate is not valid for"):
        encrypted(f"{dsn}?sslmode=verify-full&sslrootcert={certs}/ca.pem")
    # What production does not accept, and why: anybody's certificate would do.
    assert encrypted(f"{dsn}?sslmode=require")


def test_verify_full_never_falls_back_to_plain_text(serve: Serve, certs: Path) -> None:
    dsn = serve(None)
    with pytest.raises(UnavailableError, match="rejected SSL upgrade"):
        encrypted(f"{dsn}?sslmode=verify-full&sslrootcert={certs}/ca.pem")
    assert not encrypted(f"{dsn}?sslmode=prefer"), "which is why production refuses it"
