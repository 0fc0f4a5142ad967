"""``gridswitch certs``: certificates for development, and renewed ones taken without a restart.

    DIR/ca.pem, ca.key              the CA that signs all others
    DIR/server.pem, server.key      localhost, 127.0.0.1, ::1: the switch's own, and the simulated hosts'
    DIR/switch.pem, switch.key      what the switch shows to its hosts
    DIR/database.pem, database.key  for a PostgreSQL on this machine
    DIR/terminals/ID.pem, ID.key    one for each kiosk; its common name is the terminal id

What is there already is never overwritten: to renew one, remove both its files and run the command again.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from switch.config import load
from switch.errors import StartError
from switch.net.tls import TlsRefusedError, terminal_of
from switch.ops.status import ask, workers
from switch.sim.commands import test_terminals
from switch.sim.testkeys import test_terminal

ORGANIZATION: Final = "gridswitch DEVELOPMENT ONLY"
LIFE_DAYS: Final = 30  # long enough for a try-out, too short to be forgotten in production
_BACKDATED: Final = timedelta(hours=1)  # a neighbour's clock may be behind
_SERVER, _CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
LOCAL_NAMES: Final = (
    x509.DNSName("localhost"),
    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    x509.IPAddress(ipaddress.ip_address("::1")),
)


class DevelopmentCa:
    """A CA in a folder: taken up if it is there, else made.

    Raises:
        StartError: The folder holds another CA, or half of one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: list[Path] = []  # certificates of this run
        self.kept: list[Path] = []
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "ca.pem"
        if not _pair_exists(path):
            self._key = ec.generate_private_key(ec.SECP256R1())
            name = _name("gridswitch development CA")
            self._certificate = self._sign(name, self._key, name, _now() + timedelta(days=LIFE_DAYS), is_ca=True)
            self._write(path, self._certificate, self._key)
            return
        self.kept.append(path)
        try:
            self._certificate = x509.load_pem_x509_certificate(path.read_bytes())
            key = serialization.load_pem_private_key(path.with_suffix(".key").read_bytes(), None)
        except ValueError as error:
            raise StartError("certs", f"{path}: cannot be read: {error}; name another folder") from error
        organizations = self._certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        if [each.value for each in organizations] != [ORGANIZATION] or not isinstance(key, ec.EllipticCurvePrivateKey):
            raise StartError("certs", f"{path}: no development CA; name another folder")
        if self._certificate.not_valid_after_utc <= _now():
            raise StartError("certs", f"{path}: has expired; remove {folder} and begin anew")
        self._key = key

    def issue(
        self,
        file: str,
        common_name: str,
        usage: x509.ObjectIdentifier,
        names: Sequence[x509.GeneralName] = (),
        *,
        ends_at: datetime | None = None,
    ) -> Path:
        """Make ``file``.pem and ``file``.key unless they are there. ``ends_at``: default with the CA's own end."""
        path = self.folder / f"{file}.pem"
        if _pair_exists(path):
            self.kept.append(path)
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        end = ends_at or self._certificate.not_valid_after_utc
        self._write(path, self._sign(_name(common_name), key, self._certificate.subject, end, usage, names), key)
        return path

    def revoke(self, file: str, *paths: Path) -> Path:
        """A list of revoked certificates, as PEM."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._certificate.subject)
        builder = builder.last_update(_now() - _BACKDATED).next_update(self._certificate.not_valid_after_utc)
        for path in paths:
            serial = x509.load_pem_x509_certificate(path.read_bytes()).serial_number
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(_now() - _BACKDATED)
            builder = builder.add_revoked_certificate(entry.build())
        made = self.folder / f"{file}.pem"
        made.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return made

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        issuer: x509.Name,
        ends_at: datetime,
        usage: x509.ObjectIdentifier | None = None,
        names: Sequence[x509.GeneralName] = (),
        *,
        is_ca: bool = False,
    ) -> x509.Certificate:
        begins_at = min(_now() - _BACKDATED, ends_at - _BACKDATED)
        builder = (
            x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number(), begins_at, ends_at)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=0 if is_ca else None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(_key_usage(is_ca), critical=True)
        )
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, path: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        encoding = serialization.Encoding.PEM
        secret = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        # Never readable by others, not even for a moment; and never over what is there.
        with os.fdopen(os.open(path.with_suffix(".key"), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(secret)
        with path.open("xb") as file:
            file.write(certificate.public_bytes(encoding))
        self.made.append(path)


def _now() -> datetime:
    return datetime.now(UTC)


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _key_usage(is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        **dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
            False,
        ),
        encipher_only=False,
        decipher_only=False,
    )


def _pair_exists(path: Path) -> bool:
    key = path.with_suffix(".key")
    if path.exists() != key.exists():
        there, missing = (path, key) if path.exists() else (key, path)
        raise StartError("certs", f"{there}: is there, but not {missing.name}; remove it or name another folder")
    return path.exists()


def make_development_certificates(folder: Path, terminals: Sequence[str]) -> DevelopmentCa:
    """Everything in ``folder`` that is not there yet. Raises StartError."""
    for terminal in terminals:
        try:
            terminal_of({"subject": ((("commonName", terminal),),)})
        except TlsRefusedError:
            raise StartError("certs", f"--terminal {terminal}: expected 8 letters or digits, as in field 41") from None
    ca = DevelopmentCa(folder)
    ca.issue("server", "localhost", _SERVER, LOCAL_NAMES)
    ca.issue("switch", "gridswitch", _CLIENT)
    ca.issue("database", "localhost", _SERVER, LOCAL_NAMES)
    for terminal in terminals:
        ca.issue(f"terminals/{terminal}", terminal, _CLIENT)
    return ca


# ---------------------------------------------------------------------------------------------------- commands
def _dev(arguments: argparse.Namespace) -> int:
    terminals = arguments.terminal or [test_terminal(number)[0] for number in range(1, arguments.terminals + 1)]
    folder = arguments.dir.absolute()
    ca = make_development_certificates(folder, terminals)
    for word, paths in (("made", ca.made), ("kept, as it was there", ca.kept)):
        for path in paths[:8]:
            print(f"{word}: {path} and its .key")
        if len(paths) > 8:
            print(f"{word}: … and {len(paths) - 8} more")
    print(_USE.format(folder=folder, terminal=terminals[0], days=LIFE_DAYS))
    return 0


_USE: Final = """\

FOR DEVELOPMENT ONLY, for {days} days: whoever has {folder}/ca.key is every terminal.
To use them, in switch.toml:

[listen.tls]
enabled = true
certificate = "{folder}/server.pem"
key = "{folder}/server.key"
client_ca = "{folder}/ca.pem"

[unionpay.tls]                     # and the same as [marketing.tls]
enabled = true
ca = "{folder}/ca.pem"
certificate = "{folder}/switch.pem"
key = "{folder}/switch.key"

then:
  gridswitch host unionpay … --tls {folder}     (the same for marketing)
  gridswitch fleet … --tls {folder}
  openssl s_client -connect 127.0.0.1:8583 -CAfile {folder}/ca.pem \\
    -cert {folder}/terminals/{terminal}.pem -key {folder}/terminals/{terminal}.key
and for PostgreSQL: ssl = on, ssl_cert_file and ssl_key_file = {folder}/database.pem and .key; in database.dsn:
  postgresql://user@localhost/name?sslmode=verify-full&sslrootcert={folder}/ca.pem"""


def _reload(arguments: argparse.Namespace) -> int:
    failed = False
    for config in workers(load(arguments.config)):
        told = ask(config, do="certificates")
        for each in told:
            failed |= not each["loaded"]
            what = "read again" if each["loaded"] else f"NOT taken, the ones before stay in force: {each['problem']}"
            print(f"{config.worker.instance}: {each['name']}: {what}")
        if not told:
            print(f"{config.worker.instance}: no certificates are configured")
    return 1 if failed else 0


def add_certs_parser(commands: Any) -> None:
    certs = commands.add_parser("certs", help="certificates: make them for development, take renewed ones")
    actions = certs.add_subparsers(metavar="ACTION", required=True)
    text = "make a development CA and certificates for the switch, its hosts, PostgreSQL and kiosks"
    dev = actions.add_parser("dev", help=text, description=f"{text[0].upper()}{text[1:]}. Nothing is overwritten.")
    dev.add_argument("--dir", type=Path, required=True, metavar="DIR", help="where; made if it is not there")
    kiosks = dev.add_mutually_exclusive_group()
    kiosks.add_argument(
        "--terminals", type=test_terminals, default=50, metavar="N", help="for so many test terminals (default 50)"
    )
    kiosks.add_argument("--terminal", action="append", metavar="ID", help="for this one instead; may be repeated")
    dev.set_defaults(run=_dev)
    text = "make a running switch read its certificates again; connections that live go on"
    again = actions.add_parser(
        "reload",
        help=text,
        description=f"{text[0].upper()}{text[1:]}. It also looks by itself every half minute. Exit status 1 when files "
        "cannot be used: then the ones before stay in force.",
    )
    again.add_argument("--config", type=Path, default=Path("switch.toml"), metavar="FILE", help="default switch.toml")
    again.set_defaults(run=_reload)
