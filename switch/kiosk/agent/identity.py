"""Who the kiosk is: its key, the certificate that it was given, and the key whose commands it obeys.

FOLDER/kiosk.key      P-256, made here and never sent anywhere, mode 0600
FOLDER/kiosk.pem      the certificate, once a person has approved
FOLDER/service.json   what was learned with it: the kiosk's code, the command key (pinned)
FOLDER/pending.json   while it waits: the token to ask with
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import os
import ssl
import stat
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec import Struct

from switch.errors import StartError
from switch.kiosk.agent import limits

_GROUPS: Final = 8
_T = TypeVar("_T")


class Service(Struct, frozen=True):
    """What the service told when it gave the certificate."""

    kiosk: str
    command_key: str  # base64 of 32 bytes

    @property
    def public(self) -> bytes:
        return base64.b64decode(self.command_key)


class Pending(Struct, frozen=True):
    token: str


class Identity:
    """The folder. ``ca_file``: whom to believe that it is the service.

    Raises:
        StartError: ``identity``: the folder, or others may read the key.
    """

    def __init__(self, folder: Path, ca_file: Path) -> None:
        self._folder = folder
        self._ca_file = ca_file
        self._key_file = folder / "kiosk.key"
        self._certificate_file = folder / "kiosk.pem"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not self._key_file.exists():
                _write(self._key_file, _pem(ec.generate_private_key(ec.SECP256R1())))
            mode = stat.S_IMODE(self._key_file.stat().st_mode)
            key = serialization.load_pem_private_key(self._key_file.read_bytes(), None)
        except (OSError, ValueError) as error:
            raise StartError("identity", f"{folder}: {error}") from None
        if mode & 0o077:
            raise StartError("identity", f"{self._key_file}: others may read it; run: chmod 600 {self._key_file}")
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise StartError("identity", f"{self._key_file}: expected a P-256 key")
        self._key = key

    @property
    def service(self) -> Service | None:
        """None: not enrolled yet."""
        if not self._certificate_file.exists():
            return None
        return _read(self._folder / "service.json", Service)

    @property
    def pending(self) -> Pending | None:
        return _read(self._folder / "pending.json", Pending)

    def wait_for(self, token: str) -> None:
        _write(self._folder / "pending.json", msgspec.json.encode(Pending(token)))

    def give_up(self) -> None:
        (self._folder / "pending.json").unlink(missing_ok=True)

    def request(self) -> str:
        """A PKCS#10 request, PEM. Its name is nothing: the service knows who asks by code and serial number."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kiosk")])
        request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(self._key, hashes.SHA256())
        return request.public_bytes(serialization.Encoding.PEM).decode()

    def fingerprint(self) -> str:
        """What the screen shows, to be compared with the page: ``3F2A 91C0 …``."""
        spki = self._key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        text = hashlib.sha256(spki).hexdigest().upper()
        return " ".join(text[at : at + 4] for at in range(0, 4 * _GROUPS, 4))

    def accept(self, certificate: str, service: Service | None = None) -> None:
        """Keep a certificate, after enrolment with what was learned, after a renewal alone.

        Raises:
            ValueError: It is of another key, or no certificate.
        """
        issued = x509.load_pem_x509_certificate(certificate.encode())
        if issued.public_key() != self._key.public_key():
            raise ValueError("the certificate is of another key")
        if service is not None:
            if len(service.public) != 32:
                raise ValueError("the command key has not 32 bytes")
            _write(self._folder / "service.json", msgspec.json.encode(service))
        _write(self._certificate_file, certificate.encode())
        self.give_up()

    def days_left(self, now: datetime.datetime) -> float:
        issued = x509.load_pem_x509_certificate(self._certificate_file.read_bytes())
        return (issued.not_valid_after_utc - now) / datetime.timedelta(days=1)

    def renewal_due(self, now: datetime.datetime) -> bool:
        return self.days_left(now) <= limits.RENEW_DAYS

    def context(self, *, enrolling: bool = False) -> ssl.SSLContext:
        """For the connection: with the certificate, if there is one. Who enrols shows none: it may have expired."""
        try:
            context = ssl.create_default_context(cafile=str(self._ca_file))
            if self.service is not None and not enrolling:
                context.load_cert_chain(self._certificate_file, self._key_file)
        except (OSError, ssl.SSLError) as error:
            raise StartError("identity", f"{self._ca_file}, {self._certificate_file}: {error}") from None
        return context


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, also when the power goes; mode 0600."""
    beside = path.with_name(f".{path.name}.tmp")
    beside.unlink(missing_ok=True)
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(path: Path, kind: type[_T]) -> _T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise StartError("identity", f"{path}: {error}") from None
