"""The device CA: whose certificates kiosks show, and whose commands they obey.

A kiosk is its key (P-256): the digest of its public key, DER, is what the registry holds and what a person compares.
The certificate only says for how long. Its names are for people and are never read by us.
"""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from admin import limits
from admin.devices.trust.keys import Keys
from admin.errors import StartError

CA_FILE = "device-ca.pem"


@dataclass(frozen=True)
class Issued:
    """A new certificate: DER, its serial number in hexadecimal, and from when to when it counts (UTC)."""

    der: bytes
    serial: str
    not_before: datetime.datetime
    not_after: datetime.datetime


class RequestError(ValueError):
    """A certificate request that we do not sign; the text says why, for an engineer."""


class Authority:
    """The CA's certificate and the keys. Its methods block when the key lies in a module: call them from a thread.

    Raises:
        StartError: ``device_ca``: certificate and key do not belong together.
    """

    def __init__(self, keys: Keys, certificate: x509.Certificate) -> None:
        if spki_sha256(certificate.public_key()) != spki_sha256(keys.ca_key.public_key()):
            raise StartError(
                "device CA: its certificate is of another key: restore the file that belongs to it [device_ca]"
            )
        self._keys = keys
        self._certificate = certificate

    @property
    def ca_pem(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def command_public(self) -> bytes:
        return self._keys.command_public

    def sign_command(self, data: bytes) -> bytes:
        return self._keys.sign_command(data)

    def issue(self, public: ec.EllipticCurvePublicKey, kiosk_code: str, now: datetime.datetime) -> Issued:
        """A kiosk's certificate, for client authentication only: with it nobody can pose as the service."""
        not_before = now.replace(microsecond=0) - datetime.timedelta(seconds=limits.CLOCK_SLACK_S)
        not_after = now.replace(microsecond=0) + datetime.timedelta(days=limits.CERTIFICATE_DAYS)
        builder = self._builder(public, kiosk_code, not_before, not_after, ExtendedKeyUsageOID.CLIENT_AUTH)
        return _issued(builder.sign(self._keys.ca_key, hashes.SHA256()))

    def issue_server(
        self, public: ec.EllipticCurvePublicKey, names: list[x509.GeneralName], now: datetime.datetime, days: int
    ) -> Issued:
        """The listener's certificate, where the operator of the service has no CA of his own for it."""
        not_before = now.replace(microsecond=0) - datetime.timedelta(seconds=limits.CLOCK_SLACK_S)
        not_after = now.replace(microsecond=0) + datetime.timedelta(days=days)
        builder = self._builder(public, "device api", not_before, not_after, ExtendedKeyUsageOID.SERVER_AUTH)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return _issued(builder.sign(self._keys.ca_key, hashes.SHA256()))

    def _builder(
        self,
        public: ec.EllipticCurvePublicKey,
        name: str,
        not_before: datetime.datetime,
        not_after: datetime.datetime,
        usage: x509.ObjectIdentifier,
    ) -> x509.CertificateBuilder:
        ca_public = self._keys.ca_key.public_key()
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self._certificate.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before)
            .not_valid_after(not_after)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_public), critical=False)
        )


def make_ca_certificate(keys: Keys, name: str, now: datetime.datetime) -> x509.Certificate:
    """The CA's own, signed by itself; it signs kiosks and no further CA."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    public = keys.ca_key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(seconds=limits.CLOCK_SLACK_S))
        .not_valid_after(now + datetime.timedelta(days=limits.DEVICE_CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(digital_signature=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(keys.ca_key, hashes.SHA256())
    )


def _usage(*, digital_signature: bool) -> x509.KeyUsage:
    """Of a kiosk or the listener: signatures; of the CA: certificates and lists of revoked ones."""
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=not digital_signature,
        crl_sign=not digital_signature,
        encipher_only=False,
        decipher_only=False,
    )


def load_authority(keys: Keys, ca_file: Path) -> Authority:
    """Raises StartError ``device_ca``."""
    try:
        certificate = x509.load_pem_x509_certificate(ca_file.read_bytes())
    except FileNotFoundError:
        raise StartError(f"{ca_file}: missing; run: gridswitch admin device-ca [device_ca]") from None
    except ValueError:
        raise StartError(f"{ca_file}: not a PEM certificate [device_ca]") from None
    return Authority(keys, certificate)


def read_request(pem: str) -> tuple[bytes, ec.EllipticCurvePublicKey]:
    """The request's DER and its public key. Raises RequestError: not a request, not P-256, not signed by that key."""
    data = pem.encode()
    if len(data) > limits.REQUEST_BYTES_MAX:
        raise RequestError(f"the request has {len(data)} bytes; at most {limits.REQUEST_BYTES_MAX} are read")
    try:
        request = x509.load_pem_x509_csr(data)
        public = request.public_key()
        signed = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, InvalidSignature):
        raise RequestError("expected a PKCS#10 request in PEM") from None
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise RequestError("expected a key on curve P-256")
    if not signed:
        raise RequestError("the request is not signed by its own key")
    return request.public_bytes(serialization.Encoding.DER), public


def spki_sha256(public: object) -> bytes:
    """32 bytes: who a kiosk is."""
    der: bytes = public.public_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).digest()


def fingerprint(digest: bytes) -> str:
    """As kiosk and page show it: ``3F2A 91C0 …``, the first eight groups."""
    text = digest.hex().upper()
    return " ".join(text[at : at + 4] for at in range(0, 4 * limits.FINGERPRINT_GROUPS, 4))


def _issued(certificate: x509.Certificate) -> Issued:
    return Issued(
        certificate.public_bytes(serialization.Encoding.DER),
        f"{certificate.serial_number:x}",
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )
