"""A listener with real TLS on real PostgreSQL, and a client that is not our agent: Python's own http.client."""

from __future__ import annotations

import asyncio
import datetime
import http.client
import json
import os
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec import structs

from admin.config import Config, DatabaseConfig, DeviceApiConfig
from admin.db.migrate import migrate
from admin.db.pool import Database
from admin.deviceapi.listener import DeviceListener
from admin.deviceapi.setup import make_device_ca, make_listener, open_authority
from admin.deviceapi.store import Pace
from admin.devices.trust.authority import Authority
from switch.store.migrate import migrate as migrate_switch

EVERYWHERE = ["/%"]
ANSWER_S = 30.0


@dataclass(frozen=True)
class Answer:
    status: int
    body: dict[str, Any]
    headers: Mapping[str, str]


@dataclass
class Pair:
    """A key and, once there is one, its certificate, in files as OpenSSL wants them."""

    folder: Path
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    certificate: str = ""

    def request(self, name: str = "kiosk") -> str:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(self.key, hashes.SHA256())
        return request.public_bytes(serialization.Encoding.PEM).decode()

    def file(self) -> Path:
        path = self.folder / f"pair-{secrets.token_hex(8)}.pem"  # several connections at once each write their own
        key = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(key + self.certificate.encode())
        return path


@dataclass
class Bench:
    """The listener, its database, and two operators, 1 and 2."""

    config: Config
    database: Database
    authority: Authority
    listener: DeviceListener
    folder: Path

    def pair(self) -> Pair:
        return Pair(self.folder)

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        pair: Pair | None = None,
        headers: Mapping[str, str] | None = None,
        source: str = "127.0.0.1",
    ) -> Answer:
        return await asyncio.to_thread(self._call, method, path, body, pair, dict(headers or {}), source)

    def context(self, pair: Pair | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.authority.ca_pem.decode())
        if pair is not None:
            context.load_cert_chain(pair.file())
        return context

    def _call(
        self, method: str, path: str, body: Any, pair: Pair | None, headers: dict[str, str], source: str
    ) -> Answer:
        connection = http.client.HTTPSConnection(
            "127.0.0.1",
            self.listener.port,
            context=self.context(pair),
            timeout=ANSWER_S,
            source_address=(source, 0),
        )
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, f"/agent/v1/{path}", data, headers)
            response = connection.getresponse()
            return Answer(response.status, json.loads(response.read()), dict(response.getheaders()))
        finally:
            connection.close()

    async def fetch(self, statement: str, *values: object) -> list[dict[str, Any]]:
        async with self.database.connection() as connection:
            return [dict(row) for row in await connection.fetch(statement, *values)]

    async def value(self, statement: str, *values: object) -> Any:
        async with self.database.connection() as connection:
            return await connection.fetchval(statement, *values)

    async def kiosk(self, code: str = "K-1", *, state: str = "in_service") -> tuple[int, Pair]:
        """A kiosk with a certificate straight from the CA."""
        number = await self.bare_kiosk(code, state=state)
        pair = self.pair()
        issued = self.authority.issue(pair.key.public_key(), code, datetime.datetime.now(datetime.UTC))
        pair.certificate = x509.load_der_x509_certificate(issued.der).public_bytes(serialization.Encoding.PEM).decode()
        await self.value(
            "INSERT INTO kiosk_certificate (kiosk_id, state, origin, spki_sha256, request, certificate, serial,"
            " not_before, not_after) VALUES ($1, 'active', 'test', sha256($2), '', $3, $4, $5, $6)",
            number,
            pair.key.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            ),
            issued.der,
            issued.serial,
            issued.not_before,
            issued.not_after,
        )
        return number, pair

    async def bare_kiosk(self, code: str = "K-1", *, state: str = "registered") -> int:
        number: int = await self.value(
            "INSERT INTO kiosk (code, serial_number, model_id, org_id, state) VALUES ($1, 'SN-' || $1, 1, 1, $2)"
            " RETURNING id",
            code,
            state,
        )
        return number


Opened = Callable[..., Any]


def beat(seq: int, boot: str = "boot-0001", **more: Any) -> dict[str, Any]:
    return {"v": 1, "boot_id": boot, "seq": seq, "ts": now_text(), "mode": "in_service", **more}


def now_text(shift_s: float = 0) -> str:
    return (datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=shift_s)).isoformat()


@pytest.fixture(scope="session")
def device_database(server_dsn: str) -> Iterator[str]:
    """A database of these tests' own, migrated once: making the schemas anew took most of their time."""
    name = f"device_{os.getpid()}"
    asyncio.run(_execute(server_dsn, f"CREATE DATABASE {name}"))
    dsn = urlsplit(server_dsn)._replace(path=f"/{name}").geturl()
    try:
        asyncio.run(migrate_switch(dsn))
        asyncio.run(migrate(dsn))
        yield dsn
    finally:
        asyncio.run(_execute(server_dsn, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def admin_dsn(device_database: str) -> str:
    """Instead of the one for all of admin's tests: emptied. What is append-only is so for everybody but a test."""
    tables = "admin.operator, admin.kiosk, admin.kiosk_model, admin.audit_log"
    asyncio.run(
        _execute(
            device_database,
            f"SET session_replication_role = replica; TRUNCATE {tables} RESTART IDENTITY CASCADE;"
            "DELETE FROM admin.org WHERE parent_id IS NOT NULL",
        )
    )
    return device_database


async def _execute(dsn: str, statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def device_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DeviceApiConfig]:
    """Keys, CA and the listener's certificate, made once by the command that makes them."""
    folder = tmp_path_factory.mktemp("device-ca")
    options = DeviceApiConfig(
        port=0,
        certificate_file=str(folder / "listener.pem"),
        key_file=str(folder / "listener.key"),
        ca_file=str(folder / "device-ca.pem"),
        key_store="file",
        key_folder=str(folder / "keys"),
        upload_folder=str(folder / "uploads"),
    )
    config = Config(database=DatabaseConfig(dsn="postgresql:///unused"), environment="development", device_api=options)
    assert len(make_device_ca(config, ["127.0.0.1", "localhost"])) == 3
    return folder, options


@pytest.fixture
def bench(admin_dsn: str, device_files: tuple[Path, DeviceApiConfig]) -> Callable[..., Any]:
    """``async with bench() as b``: the listener runs inside of it."""
    folder, options = device_files

    @asynccontextmanager
    async def opened(
        pace: Pace | None = None, *, prepared: bool = False, port: int = 0, wall: Callable[[], float] = time.time
    ) -> AsyncIterator[Bench]:
        config = Config(
            database=DatabaseConfig(dsn=admin_dsn),
            environment="development",
            device_api=structs.replace(options, port=port),
        )
        database = Database(admin_dsn)
        await database.start()
        authority = open_authority(config)
        listener = make_listener(config, database, authority, pace, wall)
        await listener.start()
        try:
            made = Bench(config, database, authority, listener, folder)
            if not prepared:
                await _prepare(made)
            yield made
        finally:
            await listener.stop()
            await database.stop()

    return opened


async def _prepare(bench: Bench) -> None:
    await bench.value(
        "INSERT INTO operator (login, name, employer, org_id, password_hash)"
        " VALUES ('first', '甲', 'vendor', 1, ''), ('second', '乙', 'vendor', 1, '')"
    )
    await bench.value("INSERT INTO kiosk_model (vendor, name, units) VALUES ('v', 'm', '{idc,ptr}')")
