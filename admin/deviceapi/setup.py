"""From configuration to a running listener, and the commands that make what it needs.

gridswitch admin device-ca     keys of CA and commands, the CA's certificate, a certificate for the listener
gridswitch admin test-agents   kiosks and certificates for ``gridswitch agents``; development only
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from admin import limits
from admin.auth.audit import audit
from admin.config import Config
from admin.db.pool import Connection, Database, connect
from admin.db.queries import statements
from admin.deviceapi.app import make_device_app
from admin.deviceapi.listener import DeviceListener, server_context
from admin.deviceapi.store import Pace
from admin.devices.trust.authority import Authority, load_authority, make_ca_certificate, spki_sha256
from admin.devices.trust.keys import (
    FileKeys,
    Keys,
    TokenKeys,
    create_file_keys,
    create_token_keys,
    write_private,
)
from admin.errors import StartError

_QUERY = statements(__file__)
_CA_NAME: Final = "gridswitch device CA"
_SITE: Final = ("simulated", "Simulated kiosks")


def open_authority(config: Config) -> Authority:
    """Keys and CA as configured. Raises StartError, with ``device_keys`` when production would use key files."""
    return load_authority(_keys(config), Path(config.device_api.ca_file))


def _keys(config: Config) -> Keys:
    options = config.device_api
    if options.key_store == "file":
        _refuse_production(config, 'device_api.key_store: "file"')
        return FileKeys(Path(options.key_folder))
    if not options.pkcs11_library or not options.pkcs11_pin_file:
        raise StartError("device_api: pkcs11_library and pkcs11_pin_file are needed [device_hsm]")
    return TokenKeys(options.pkcs11_library, options.pkcs11_label, Path(options.pkcs11_pin_file))


def make_listener(
    config: Config,
    database: Database,
    authority: Authority,
    pace: Pace | None = None,
    wall: Callable[[], float] = time.time,
) -> DeviceListener:
    """The listener as configured; ``database`` is a pool of its own."""
    options = config.device_api
    pace = pace or Pace(options.beat_s, min(options.beat_s, limits.BEAT_BUSY_S))
    app = make_device_app(database, authority, uploads=Path(options.upload_folder), pace=pace, wall=wall)
    context = server_context(Path(options.certificate_file), Path(options.key_file), Path(options.ca_file))
    return DeviceListener(app, context, host=options.host, port=options.port)


def make_device_ca(config: Config, names: list[str]) -> list[str]:
    """What is missing of keys, CA and the listener's certificate; nothing is overwritten. Returns what was made.

    Args:
        names: Host names and addresses under which kiosks reach the listener; empty: its certificate is made elsewhere.
    """
    options = config.device_api
    made = []
    if options.key_store == "file":
        _refuse_production(config, 'device_api.key_store: "file"')
        if not Path(options.key_folder).exists():
            create_file_keys(Path(options.key_folder))
            made.append(options.key_folder)
    elif not Path(options.ca_file).exists():
        create_token_keys(options.pkcs11_library, options.pkcs11_label, Path(options.pkcs11_pin_file))
        made.append(f"two keys on token {options.pkcs11_label}")
    keys = _keys(config)
    now = datetime.datetime.now(datetime.UTC)
    if not Path(options.ca_file).exists():
        certificate = make_ca_certificate(keys, _CA_NAME, now)
        Path(options.ca_file).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        made.append(options.ca_file)
    if names and not Path(options.certificate_file).exists():
        _make_server_certificate(config, load_authority(keys, Path(options.ca_file)), names, now)
        made.append(options.certificate_file)
    return made


def _make_server_certificate(config: Config, authority: Authority, names: list[str], now: datetime.datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    issued = authority.issue_server(
        key.public_key(), [_general_name(name) for name in names], now, limits.SERVER_CERTIFICATE_DAYS
    )
    certificate = x509.load_der_x509_certificate(issued.der).public_bytes(serialization.Encoding.PEM)
    write_private(Path(config.device_api.key_file), _pem(key))
    Path(config.device_api.certificate_file).write_bytes(certificate)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


# ---------------------------------------------------------------------------------------------------- simulated kiosks
async def make_test_agents(config: Config, count: int) -> bytes:
    """Kiosks SIM-00001 … with certificates straight from the CA; the book of all of it for ``gridswitch agents``, JSON.

    Raises:
        StartError: ``production``: there they would be a second way in.
    """
    _refuse_production(config, "test-agents")
    authority = open_authority(config)
    connection = await connect(config.database.dsn, "test-agents")
    try:
        async with connection.transaction():
            agents = await make_agents(connection, authority, count)
            await audit(connection, "cli:test-agents", "kiosk.simulate", "org", _SITE[0], count=count)
    finally:
        await connection.close()
    host = config.device_api.host
    return agent_book(authority, f"https://{_reached(host)}:{config.device_api.port}", agents)


def agent_book(authority: Authority, server: str, agents: list[dict[str, str]]) -> bytes:
    """What a fleet of simulated agents needs to know, JSON."""
    book = {
        "server": server,
        "ca": authority.ca_pem.decode(),
        "command_key": base64.b64encode(authority.command_public).decode(),
        "agents": agents,
    }
    return json.dumps(book, indent=1).encode()


def _reached(host: str) -> str:
    """Under which address this machine reaches a listener on ``host``."""
    return "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104


async def make_agents(connection: Connection, authority: Authority, count: int) -> list[dict[str, str]]:
    """``count`` kiosks in service, each with a key and a certificate, PEM."""
    site = await connection.fetchval(_QUERY["simulated_place"], *_SITE)
    model = await connection.fetchval(_QUERY["simulated_model"])
    now = datetime.datetime.now(datetime.UTC)
    agents = []
    for number in range(1, count + 1):
        code, serial_number = f"SIM-{number:05}", f"SIM{number:05}"
        kiosk = await connection.fetchval(_QUERY["simulated_kiosk"], code, serial_number, model, site)
        key = ec.generate_private_key(ec.SECP256R1())
        issued = authority.issue(key.public_key(), code, now)
        await connection.execute(
            _QUERY["simulated_certificate"],
            *(kiosk, spki_sha256(key.public_key()), issued.der, issued.serial, issued.not_before, issued.not_after),
        )
        certificate = x509.load_der_x509_certificate(issued.der).public_bytes(serialization.Encoding.PEM)
        agents.append({"kiosk": code, "certificate": certificate.decode(), "key": _pem(key).decode()})
    return agents


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _refuse_production(config: Config, what: str) -> None:
    if config.environment == "production":
        raise StartError(f'{what} is for development; set environment = "development" for it [production]')
